//! Calls that a library client hides: raw messages, sessions, cancelling, rubbish.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::{
    ActionCancelQueryRequest, ActionCancelQueryResult, ActionCreatePreparedStatementRequest, Any,
    CommandGetTables, CommandPreparedStatementQuery, CommandStatementIngest, CommandStatementQuery,
    CommandStatementSubstraitPlan, ProstMessageExt, TicketStatementQuery,
};
use arrow_flight::{
    Action, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, Criteria, Empty,
    FlightData, FlightDescriptor, FlightEndpoint, FlightInfo, HandshakeRequest,
    RenewFlightEndpointRequest, SchemaResult, Ticket,
};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use prost::Message;
use tietopohja_policy::Role;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::polling::complete;
use crate::warehouse::{Server, query, schema_of};

pub(crate) type Raw = FlightServiceClient<Channel>;

pub(crate) async fn raw(server: &Server) -> Raw {
    FlightServiceClient::new(server.channel().await)
}

pub(crate) fn command(message: &impl ProstMessageExt) -> FlightDescriptor {
    FlightDescriptor::new_cmd(message.as_any().encode_to_vec())
}

pub(crate) fn statement(sql: &str) -> FlightDescriptor {
    command(&CommandStatementQuery {
        query: sql.to_owned(),
        transaction_id: None,
    })
}

pub(crate) async fn act(client: &mut Raw, name: &str, body: Vec<u8>) -> Result<Vec<Bytes>, Status> {
    let action = Action {
        r#type: name.to_owned(),
        body: body.into(),
    };
    act_as(client, None, action).await
}

pub(crate) async fn act_as(
    client: &mut Raw,
    bearer: Option<&str>,
    action: Action,
) -> Result<Vec<Bytes>, Status> {
    let mut request = Request::new(action);
    if let Some(bearer) = bearer {
        request
            .metadata_mut()
            .insert("authorization", bearer.parse().unwrap());
    }
    let results = client.do_action(request).await?.into_inner();
    results.map_ok(|result| result.body).try_collect().await
}

pub(crate) async fn read(client: &mut Raw, ticket: Ticket) -> Result<usize, Status> {
    let messages: Vec<FlightData> = client
        .do_get(ticket)
        .await?
        .into_inner()
        .try_collect()
        .await?;
    Ok(messages.len())
}

pub(crate) fn ticket_of(info: &FlightInfo) -> Ticket {
    info.endpoint[0].ticket.clone().unwrap()
}

const ENDLESS: &str = "SELECT value FROM generate_series(1, 1000000000000)";

#[tokio::test]
async fn schema_info_and_poll_agree() {
    let server = Server::start().await;
    let mut client = raw(&server).await;
    for descriptor in [
        statement("SELECT 1 AS a, 'x' AS b"),
        statement("SELECT * FROM reference.nothing"),
        command(&CommandGetTables {
            include_schema: true,
            ..CommandGetTables::default()
        }),
        command(&CommandGetTables::default()),
    ] {
        let info = client
            .get_flight_info(descriptor.clone())
            .await
            .unwrap()
            .into_inner();
        let SchemaResult { schema } = client
            .get_schema(descriptor.clone())
            .await
            .unwrap()
            .into_inner();
        assert_eq!(schema, info.schema);
        assert_eq!(schema[..4], [0xFF; 4], "the continuation marker");
        let polled = complete(&mut client, descriptor).await.unwrap();
        assert_eq!(schema_of(&polled), schema_of(&info));
        assert!(read(&mut client, ticket_of(&polled)).await.unwrap() > 0);
    }
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PreparedResult {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) handle: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    dataset_schema: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    parameter_schema: Bytes,
    #[prost(bool, optional, tag = "4")]
    is_update: Option<bool>,
}

pub(crate) async fn prepare(client: &mut Raw, sql: &str) -> PreparedResult {
    let request = ActionCreatePreparedStatementRequest {
        query: sql.to_owned(),
        transaction_id: None,
    };
    let body = request.as_any().encode_to_vec();
    let results = act(client, "CreatePreparedStatement", body).await.unwrap();
    let any = Any::decode(results[0].as_ref()).unwrap();
    assert!(
        any.type_url
            .ends_with("ActionCreatePreparedStatementResult")
    );
    PreparedResult::decode(any.value).unwrap()
}

/// Binds values to a prepared statement whose handle goes on being used.
pub(crate) async fn bind(
    client: &mut Raw,
    query: &CommandPreparedStatementQuery,
    values: RecordBatch,
) {
    let messages: Vec<FlightData> = arrow_flight::encode::FlightDataEncoderBuilder::new()
        .with_flight_descriptor(Some(command(query)))
        .build(stream::iter([Ok(values)]))
        .try_collect()
        .await
        .unwrap();
    let put = client
        .do_put(stream::iter(messages))
        .await
        .unwrap()
        .into_inner();
    let _new_handle: Vec<_> = put.try_collect().await.unwrap();
}

#[tokio::test]
async fn a_prepared_query_says_that_it_is_no_update() {
    let server = Server::start().await;
    let mut client = raw(&server).await;
    let result = prepare(&mut client, "SELECT ? AS a").await;
    assert_eq!(result.is_update, Some(false));
    assert!(!result.dataset_schema.is_empty());
    assert!(!result.parameter_schema.is_empty());
}

/// A client of before 2024 does not read the new handle that a bind answers with.
#[tokio::test]
async fn an_old_client_keeps_its_first_handle() {
    let server = Server::start().await;
    let mut client = raw(&server).await;
    let result = prepare(&mut client, "SELECT ? AS a").await;
    let query = CommandPreparedStatementQuery {
        prepared_statement_handle: result.handle.clone(),
    };
    let column: arrow::array::ArrayRef =
        std::sync::Arc::new(arrow::array::Int64Array::from(vec![7]));
    let batch = RecordBatch::try_from_iter([("p", column)]).unwrap();
    bind(&mut client, &query, batch).await;
    let info = client
        .get_flight_info(command(&query))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        read(&mut client, ticket_of(&info)).await.unwrap(),
        2,
        "a schema and a batch"
    );
    // The command itself is a ticket too.
    let ticket = Ticket {
        ticket: query.as_any().encode_to_vec().into(),
    };
    assert_eq!(read(&mut client, ticket).await.unwrap(), 2);
}

#[tokio::test]
async fn the_bearer_comes_in_the_header_and_in_the_payload() {
    let server = Server::start().await;
    let mut client = raw(&server).await;
    let hello = HandshakeRequest {
        protocol_version: 0,
        payload: Bytes::from_static(b"anyone"),
    };
    let response = client.handshake(stream::iter([hello])).await.unwrap();
    let header = response
        .metadata()
        .get("authorization")
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned();
    let payload = response
        .into_inner()
        .message()
        .await
        .unwrap()
        .unwrap()
        .payload;
    assert_eq!(header.as_bytes(), [b"Bearer ", payload.as_ref()].concat());

    let mut request = Request::new(statement("SELECT 1"));
    request.metadata_mut().insert_bin(
        "auth-token-bin",
        tonic::metadata::BinaryMetadataValue::from_bytes(&payload),
    );
    assert!(client.get_flight_info(request).await.is_ok());
    let mut request = Request::new(statement("SELECT 1"));
    request
        .metadata_mut()
        .insert("authorization", format!("{header}00").parse().unwrap());
    let error = client.get_flight_info(request).await.unwrap_err();
    assert_eq!(error.code(), Code::Unauthenticated);
    assert!(error.message().contains("sign in again"));
}

#[derive(Clone, PartialEq, Message)]
struct TextOption {
    #[prost(string, optional, tag = "1")]
    value: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Options {
    #[prost(map = "string, message", tag = "1")]
    options: HashMap<String, TextOption>,
}

#[derive(Clone, PartialEq, Message)]
struct Number {
    #[prost(int32, tag = "1")]
    value: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Errors {
    #[prost(map = "string, message", tag = "1")]
    errors: HashMap<String, Number>,
}

#[tokio::test]
async fn session_options_are_read_and_set() {
    let server = Server::start().await;
    let mut client = raw(&server).await;
    let body = act(&mut client, "GetSessionOptions", vec![])
        .await
        .unwrap()
        .remove(0);
    let options = Options::decode(body).unwrap().options;
    assert_eq!(options["catalog"].value.as_deref(), Some("tietopohja"));
    assert_eq!(options["schema"].value.as_deref(), Some("published"));
    let cases = [
        ("catalog", "tietopohja", 0),
        ("catalog", "other", 2),
        ("colour", "red", 1),
    ];
    for (name, value, error) in cases {
        let value = TextOption {
            value: Some(value.to_owned()),
        };
        let request = Options {
            options: HashMap::from([(name.to_owned(), value)]),
        };
        let body = request.encode_to_vec();
        let body = act(&mut client, "SetSessionOptions", body)
            .await
            .unwrap()
            .remove(0);
        let errors = Errors::decode(body).unwrap().errors;
        assert_eq!(
            errors.get(name).map_or(0, |error| error.value),
            error,
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_closed_session_is_over() {
    let server = Server::start().await;
    let mut client = raw(&server).await;
    let response = client.handshake(stream::empty()).await.unwrap();
    let bearer = response
        .metadata()
        .get("authorization")
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned();
    let close = || Action {
        r#type: "CloseSession".to_owned(),
        body: Bytes::new(),
    };
    let body = act_as(&mut client, Some(&bearer), close())
        .await
        .unwrap()
        .remove(0);
    assert_eq!(Number::decode(body).unwrap().value, 1, "closed");
    let error = act_as(&mut client, Some(&bearer), close())
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::Unauthenticated);
    assert!(
        act(&mut client, "CloseSession", vec![]).await.is_ok(),
        "no session, nothing to do"
    );
}

pub(crate) async fn cancel(client: &mut Raw, info: &FlightInfo, old: bool) -> CancelStatus {
    let number = if old {
        let request = ActionCancelQueryRequest {
            info: info.encode_to_vec().into(),
        };
        let body = request.as_any().encode_to_vec();
        let body = act(client, "CancelQuery", body).await.unwrap().remove(0);
        let any = Any::decode(body).unwrap();
        any.unpack::<ActionCancelQueryResult>()
            .unwrap()
            .unwrap()
            .result
    } else {
        let body = CancelFlightInfoRequest::new(info.clone()).encode_to_vec();
        let body = act(client, "CancelFlightInfo", body)
            .await
            .unwrap()
            .remove(0);
        CancelFlightInfoResult::decode(body).unwrap().status
    };
    CancelStatus::try_from(number).unwrap()
}

#[tokio::test]
async fn a_running_query_is_cancelled_from_another_connection() {
    let server = Server::start().await;
    let (mut reader, mut other) = (raw(&server).await, raw(&server).await);
    for old in [false, true] {
        let info = reader
            .get_flight_info(statement(ENDLESS))
            .await
            .unwrap()
            .into_inner();
        let mut stream = reader.do_get(ticket_of(&info)).await.unwrap().into_inner();
        for _ in 0..3 {
            stream.message().await.unwrap().unwrap();
        }
        assert_eq!(
            cancel(&mut other, &info, old).await,
            CancelStatus::Cancelled
        );
        let end = loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                end => break end,
            }
        };
        assert_eq!(end.unwrap_err().code(), Code::Cancelled);
        let again = reader.do_get(ticket_of(&info)).await.unwrap_err();
        assert_eq!(
            again.code(),
            Code::Cancelled,
            "a cancelled ticket stays cancelled"
        );
    }
    let info = command(&CommandGetTables::default());
    let info = reader.get_flight_info(info).await.unwrap().into_inner();
    assert_eq!(
        cancel(&mut other, &info, false).await,
        CancelStatus::NotCancellable
    );
}

#[tokio::test]
async fn a_computing_query_is_cancelled_before_its_first_row() {
    let server = Server::start().await;
    let (mut reader, mut other) = (raw(&server).await, raw(&server).await);
    let sql = "SELECT count(*) AS c FROM generate_series(1, 1000000000000) WHERE value % 7 = 3";
    let info = reader
        .get_flight_info(statement(sql))
        .await
        .unwrap()
        .into_inner();
    let mut stream = reader.do_get(ticket_of(&info)).await.unwrap().into_inner();
    stream.message().await.unwrap().expect("the schema");
    let started = Instant::now();
    assert_eq!(
        cancel(&mut other, &info, false).await,
        CancelStatus::Cancelled
    );
    let end = loop {
        match stream.message().await {
            Ok(Some(_)) => {}
            end => break end,
        }
    };
    assert_eq!(end.unwrap_err().code(), Code::Cancelled);
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "{:?}",
        started.elapsed()
    );
}

/// Waits until the engine uses memory for queries, or none.
async fn until_memory(server: &Server, is_used: bool) -> Duration {
    let begun = Instant::now();
    // A group table of this size, and not what planning takes for a moment.
    while (server.engine.memory_used() > 1 << 20) != is_used
        || !is_used && server.engine.memory_used() > 0
    {
        assert!(begun.elapsed() < Duration::from_secs(60), "used: {is_used}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    begun.elapsed()
}

#[tokio::test]
async fn a_query_that_is_stopped_in_any_way_frees_its_memory() {
    let server = Server::start().await;
    let sql = "SELECT value % 200000 AS k, count(*) AS c FROM generate_series(1, 1000000000000) \
               GROUP BY value % 200000";
    for way in ["CancelFlightInfo", "CancelQuery", "stream", "connection"] {
        let (mut reader, mut other) = (raw(&server).await, raw(&server).await);
        let info = reader.get_flight_info(statement(sql)).await.unwrap();
        let info = info.into_inner();
        let stream = reader.do_get(ticket_of(&info)).await.unwrap().into_inner();
        until_memory(&server, true).await;
        match way {
            "stream" => drop(stream),
            "connection" => drop((stream, reader)),
            _ => {
                let status = cancel(&mut other, &info, way == "CancelQuery").await;
                assert_eq!(status, CancelStatus::Cancelled);
            }
        }
        let freed = until_memory(&server, false).await;
        eprintln!("stopped by {way}: memory is free after {freed:?}");
    }
}

#[tokio::test]
async fn a_ticket_expires_and_can_be_renewed() {
    let server = Server::start_with(|o| o.ticket_lifetime = Duration::from_secs(60)).await;
    let mut client = raw(&server).await;
    let info = client
        .get_flight_info(statement("SELECT 1"))
        .await
        .unwrap()
        .into_inner();
    let expires = |endpoint: &FlightEndpoint| endpoint.expiration_time.as_ref().unwrap().seconds;
    let first = info.endpoint[0].clone();
    server.clock.forward(59);
    assert!(
        read(&mut client, first.ticket.clone().unwrap())
            .await
            .is_ok()
    );
    let request = RenewFlightEndpointRequest {
        endpoint: Some(first.clone()),
    };
    let body = act(&mut client, "RenewFlightEndpoint", request.encode_to_vec())
        .await
        .unwrap();
    let renewed = FlightEndpoint::decode(body[0].as_ref()).unwrap();
    assert_eq!(expires(&renewed), expires(&first) + 59);
    server.clock.forward(2);
    let error = read(&mut client, first.ticket.clone().unwrap())
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    assert!(read(&mut client, renewed.ticket.unwrap()).await.is_ok());
    let request = RenewFlightEndpointRequest {
        endpoint: Some(first),
    };
    let error = act(&mut client, "RenewFlightEndpoint", request.encode_to_vec())
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
}

#[tokio::test]
async fn tickets_and_handles_are_bound_to_their_principal() {
    let server = Server::start().await;
    let analyst = server.sibling(Role::Analyst).await;
    let (mut mine, mut theirs) = (raw(&analyst).await, raw(&server).await);
    let sql = statement("SELECT count(*) AS n FROM conformed.secret");
    let info = mine.get_flight_info(sql).await.unwrap().into_inner();
    let error = read(&mut theirs, ticket_of(&info)).await.unwrap_err();
    assert_eq!(error.code(), Code::PermissionDenied);
    let handle = prepare(&mut mine, "SELECT * FROM conformed.secret")
        .await
        .handle;
    let query = command(&CommandPreparedStatementQuery {
        prepared_statement_handle: handle,
    });
    let error = theirs.get_flight_info(query).await.unwrap_err();
    assert_eq!(error.code(), Code::PermissionDenied);
    assert!(read(&mut mine, ticket_of(&info)).await.is_ok());
}

#[tokio::test]
async fn what_is_not_offered_says_so() {
    let server = Server::start().await;
    let mut client = raw(&server).await;
    for action in [
        "BeginTransaction",
        "EndTransaction",
        "BeginSavepoint",
        "EndSavepoint",
    ] {
        let error = act(&mut client, action, vec![]).await.unwrap_err();
        assert_eq!(error.code(), Code::Unimplemented);
        assert!(error.message().contains("no transactions"), "{error}");
    }
    assert_eq!(
        act(&mut client, "Dance", vec![]).await.unwrap_err().code(),
        Code::Unimplemented
    );
    let plan = command(&CommandStatementSubstraitPlan::default());
    let error = client.get_flight_info(plan).await.unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented);
    let in_transaction = command(&CommandStatementQuery {
        query: "SELECT 1".to_owned(),
        transaction_id: Some(Bytes::from_static(b"t")),
    });
    let error = client.get_flight_info(in_transaction).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    let ingest = FlightData {
        flight_descriptor: Some(command(&CommandStatementIngest::default())),
        ..FlightData::default()
    };
    let error = client.do_put(stream::iter([ingest])).await.unwrap_err();
    assert_eq!(error.code(), Code::PermissionDenied);
    assert!(error.message().contains("no workspace"), "{error}");
    let error = client.do_exchange(stream::empty()).await.unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented);
    let flights = client
        .list_flights(Criteria::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(flights.count().await, 0);
    let actions = client
        .list_actions(Empty::default())
        .await
        .unwrap()
        .into_inner();
    let names: Vec<_> = actions
        .map_ok(|action| action.r#type)
        .try_collect()
        .await
        .unwrap();
    assert_eq!(names.len(), 8);
}

#[tokio::test]
async fn rubbish_is_refused_and_the_server_lives() {
    let server = Server::start().await;
    let mut client = raw(&server).await;
    let mut numbers = 0x2545_F491_4F6C_DD1D_u64;
    let mut noise = |length: usize| {
        std::iter::repeat_with(|| {
            numbers ^= numbers << 13;
            numbers ^= numbers >> 7;
            numbers ^= numbers << 17;
            numbers.to_le_bytes()[0]
        })
        .take(length)
        .collect::<Vec<u8>>()
    };
    let info = client
        .get_flight_info(statement("SELECT 1"))
        .await
        .unwrap()
        .into_inner();
    let honest = ticket_of(&info).ticket;
    for round in 0..200 {
        let mut bytes = match round % 3 {
            0 => noise(round),
            1 => honest.to_vec(),
            _ => TicketStatementQuery {
                statement_handle: noise(round).into(),
            }
            .as_any()
            .encode_to_vec(),
        };
        if round % 3 == 1 {
            let at = usize::from(noise(1)[0]) % bytes.len();
            bytes[at] ^= 1 << (round % 8);
        }
        let ticket = Ticket {
            ticket: bytes.clone().into(),
        };
        if let Err(error) = read(&mut client, ticket).await {
            assert_eq!(error.code(), Code::InvalidArgument, "{error}");
        }
        let descriptor = FlightDescriptor::new_cmd(bytes.clone());
        let error = client.get_flight_info(descriptor).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{error}");
        for action in [
            "CreatePreparedStatement",
            "ClosePreparedStatement",
            "CancelQuery",
            "RenewFlightEndpoint",
        ] {
            assert!(act(&mut client, action, bytes.clone()).await.is_err());
        }
        let put = FlightData {
            flight_descriptor: Some(FlightDescriptor::new_cmd(bytes.clone())),
            data_header: bytes.clone().into(),
            data_body: bytes.into(),
            ..FlightData::default()
        };
        assert!(client.do_put(stream::iter([put])).await.is_err());
    }
    let path = FlightDescriptor::new_path(vec!["reference".into(), "number".into()]);
    assert_eq!(
        client.get_flight_info(path).await.unwrap_err().code(),
        Code::InvalidArgument
    );
    let answer = query(&mut server.guest().await, "SELECT 1 AS one")
        .await
        .unwrap();
    assert_eq!(answer.text(), ["one", "1"]);
}

#[tokio::test]
async fn a_long_header_is_accepted() {
    let server = Server::start().await;
    let mut client = raw(&server).await;
    let mut request = Request::new(statement("SELECT 1"));
    let token = format!("Bearer {}", "x".repeat(60_000));
    request
        .metadata_mut()
        .insert("authorization", token.parse().unwrap());
    assert!(client.get_flight_info(request).await.is_ok());
}
