//! Almost right bytes over the wire: each is answered or refused as the client's mistake, and the
//! server goes on. What reads them is fed with more in `tietopohja_server::fuzz`.

use std::sync::Arc;

use arrow::array::{DictionaryArray, Int64Array, RecordBatch};
use arrow::datatypes::Int32Type;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::{
    ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest,
    ActionCreatePreparedStatementResult, Any, CommandGetCrossReference, CommandGetSqlInfo,
    CommandGetTables, CommandPreparedStatementQuery, CommandStatementIngest, CommandStatementQuery,
    ProstMessageExt,
};
use arrow_flight::{
    Action, CancelFlightInfoRequest, FlightData, FlightDescriptor, RenewFlightEndpointRequest,
    Ticket,
};
use bytes::Bytes;
use futures::{TryStreamExt, stream};
use prost::Message;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::warehouse::{Server, query};

type Raw = FlightServiceClient<Channel>;

fn bytes_of(message: &impl ProstMessageExt) -> Vec<u8> {
    message.as_any().encode_to_vec()
}

/// The bytes with one changed, and the bytes cut, at every third place.
fn changed(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let flipped = (0..bytes.len()).step_by(3).map(|at| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= if at % 2 == 0 { 0x01 } else { 0x90 };
        bytes
    });
    let cut = (0..bytes.len()).step_by(3).map(|at| bytes[..at].to_vec());
    flipped.chain(cut)
}

/// Whether the call was answered. A refusal must be the client's mistake.
fn answered<T>(answer: Result<T, Status>, what: &str) -> bool {
    match answer {
        Ok(_) => true,
        Err(status) => {
            let theirs = matches!(
                status.code(),
                Code::InvalidArgument
                    | Code::NotFound
                    | Code::PermissionDenied
                    | Code::Unauthenticated
                    | Code::Unimplemented
                    | Code::ResourceExhausted
            );
            assert!(theirs, "{what}: {status}");
            false
        }
    }
}

async fn get(client: &mut Raw, ticket: Vec<u8>) -> Result<usize, Status> {
    let ticket = Ticket {
        ticket: ticket.into(),
    };
    let messages = client.do_get(ticket).await?.into_inner();
    Ok(messages.try_collect::<Vec<_>>().await?.len())
}

async fn act(client: &mut Raw, name: &str, body: Vec<u8>) -> Result<Vec<Bytes>, Status> {
    let action = Action {
        r#type: name.to_owned(),
        body: body.into(),
    };
    let results = client.do_action(action).await?.into_inner();
    results.map_ok(|result| result.body).try_collect().await
}

async fn put(client: &mut Raw, messages: Vec<FlightData>) -> Result<usize, Status> {
    let results = client.do_put(stream::iter(messages)).await?.into_inner();
    Ok(results.try_collect::<Vec<_>>().await?.len())
}

/// The handle of a statement with one parameter.
async fn prepared(client: &mut Raw) -> Bytes {
    let request = ActionCreatePreparedStatementRequest {
        query: "SELECT n FROM reference.number WHERE n = ?".to_owned(),
        transaction_id: None,
    };
    let results = act(client, "CreatePreparedStatement", bytes_of(&request)).await;
    let any = Any::decode(results.unwrap()[0].as_ref()).unwrap();
    let result: ActionCreatePreparedStatementResult = any.unpack().unwrap().unwrap();
    result.prepared_statement_handle
}

#[tokio::test]
async fn a_changed_ticket_or_handle_never_opens() {
    let server = Server::start().await;
    let mut client = FlightServiceClient::new(server.channel().await);
    let command = bytes_of(&CommandStatementQuery {
        query: "SELECT 7 AS seven".to_owned(),
        transaction_id: None,
    });
    let descriptor = FlightDescriptor::new_cmd(command);
    let info = client
        .get_flight_info(descriptor)
        .await
        .unwrap()
        .into_inner();
    let ticket = info.endpoint[0].ticket.clone().unwrap().ticket;
    assert!(get(&mut client, ticket.to_vec()).await.is_ok());
    for ticket in changed(&ticket) {
        let read = get(&mut client, ticket.clone()).await;
        assert!(!answered(read, "a ticket"), "{ticket:?}");
    }
    let prepared_statement_handle = prepared(&mut client).await;
    for handle in changed(&prepared_statement_handle) {
        let command = CommandPreparedStatementQuery {
            prepared_statement_handle: handle.into(),
        };
        let descriptor = FlightDescriptor::new_cmd(bytes_of(&command));
        let info = client.get_flight_info(descriptor).await;
        assert!(!answered(info, "a handle"));
    }
}

#[tokio::test]
async fn a_changed_command_or_action_is_answered_or_refused() {
    let server = Server::start().await;
    let mut client = FlightServiceClient::new(server.channel().await);
    let commands = [
        bytes_of(&CommandStatementQuery {
            query: "SELECT n FROM reference.number LIMIT 1".to_owned(),
            transaction_id: None,
        }),
        bytes_of(&CommandGetTables {
            db_schema_filter_pattern: Some("refer%".to_owned()),
            table_types: vec!["TABLE".to_owned()],
            include_schema: true,
            ..CommandGetTables::default()
        }),
        bytes_of(&CommandGetSqlInfo { info: vec![0, 504] }),
        bytes_of(&CommandGetCrossReference {
            pk_table: "number".to_owned(),
            fk_table: "pair".to_owned(),
            ..CommandGetCrossReference::default()
        }),
        bytes_of(&CommandStatementIngest::default()),
    ];
    let mut refused = 0;
    for command in &commands {
        for command in changed(command) {
            let descriptor = FlightDescriptor::new_cmd(command);
            let info = client.get_flight_info(descriptor).await;
            refused += usize::from(!answered(info, "a command"));
        }
    }
    let descriptor = FlightDescriptor::new_cmd(commands[0].clone());
    let info = client
        .get_flight_info(descriptor)
        .await
        .unwrap()
        .into_inner();
    let endpoint = info.endpoint.first().cloned();
    let actions = [
        (
            "CreatePreparedStatement",
            bytes_of(&ActionCreatePreparedStatementRequest {
                query: "SELECT 1".to_owned(),
                transaction_id: None,
            }),
        ),
        (
            "ClosePreparedStatement",
            bytes_of(&ActionClosePreparedStatementRequest {
                prepared_statement_handle: prepared(&mut client).await,
            }),
        ),
        (
            "CancelFlightInfo",
            CancelFlightInfoRequest { info: Some(info) }.encode_to_vec(),
        ),
        (
            "RenewFlightEndpoint",
            RenewFlightEndpointRequest { endpoint }.encode_to_vec(),
        ),
    ];
    for (name, body) in actions {
        assert!(act(&mut client, name, body.clone()).await.is_ok(), "{name}");
        for body in changed(&body) {
            let done = act(&mut client, name, body).await;
            refused += usize::from(!answered(done, name));
        }
    }
    assert!(refused > 300, "{refused} refused");
    assert!(query(&mut server.client().await, "SELECT 1").await.is_ok());
}

#[tokio::test]
async fn a_changed_upload_is_bound_or_refused() {
    let server = Server::start().await;
    let mut client = FlightServiceClient::new(server.channel().await);
    let command = bytes_of(&CommandPreparedStatementQuery {
        prepared_statement_handle: prepared(&mut client).await,
    });
    let words: DictionaryArray<Int32Type> = ["1", "2"].into_iter().collect();
    let columns = [
        Arc::new(Int64Array::from(vec![1, 2])) as _,
        Arc::new(words) as _,
    ];
    let mut refused = 0;
    for column in columns {
        let batch = RecordBatch::try_from_iter([("p", column)]).unwrap();
        let mut messages: Vec<FlightData> = FlightDataEncoderBuilder::new()
            .build(stream::iter([Ok(batch)]))
            .try_collect()
            .await
            .unwrap();
        messages[0].flight_descriptor = Some(FlightDescriptor::new_cmd(command.clone()));
        assert!(put(&mut client, messages.clone()).await.is_ok());
        for at in 0..messages.len() {
            for header in changed(&messages[at].data_header) {
                let mut messages = messages.clone();
                messages[at].data_header = header.into();
                let bound = put(&mut client, messages).await;
                refused += usize::from(!answered(bound, "an upload"));
            }
        }
    }
    assert!(refused > 100, "{refused} refused");
    assert!(query(&mut server.client().await, "SELECT 1").await.is_ok());
}
