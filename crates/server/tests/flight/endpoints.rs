//! Results with several endpoints: which have them, and that each gives its rows alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::{CommandStatementQuery, ProstMessageExt};
use arrow_flight::{FlightDescriptor, FlightInfo, Ticket};
use futures::TryStreamExt;
use prost::Message;
use tietopohja_engine::{Engine, EngineOptions};
use tietopohja_lake::{Lake, TableName};
use tietopohja_policy::Role;
use tietopohja_server::{GateOptions, ServeOptions};
use tonic::{Code, Request};

use crate::warehouse::{
    Answer, Client, Server, append, clock, engine_with, query, schema_of, status,
};

const FILES: i64 = 3;
const ROWS_OF_FILE: i64 = 700_000;

/// Number `at` of a sequence that does not pack well.
fn scattered(at: i64) -> i64 {
    at.wrapping_mul(0x5851_F42D_4C95_7F2D)
        .rotate_left(29)
        .wrapping_mul(0x1405_7B7E_F767_814F)
}

/// An engine over three files of 5.6 MB each, `reference.scattered`, and a view of it.
async fn scattered_engine() -> (tempfile::TempDir, Arc<Engine>) {
    let mut lake: Option<Arc<Lake>> = None;
    let change = |options: &mut EngineOptions| {
        lake = Some(Arc::clone(&options.lake));
        let view = "-- grain: one row per number\nSELECT n, n % 10 AS digit FROM reference.scattered WHERE n > 0";
        let file = options.root.join("sql/conformed/positive.sql");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, view).unwrap();
    };
    let (folder, engine) = engine_with(clock(), change).await;
    let lake = lake.unwrap();
    let name = TableName::new("reference", "scattered").unwrap();
    for file in 0..FILES {
        let rows = (0..ROWS_OF_FILE).map(|row| scattered(file * ROWS_OF_FILE + row));
        append(&lake, &name, &rows.collect::<Vec<_>>()).await;
    }
    (folder, engine)
}

fn analysts(options: &mut ServeOptions) {
    options.anonymous_role = Role::Analyst;
}

async fn asking_for(server: &Server, endpoints: &str) -> Client {
    let mut client = server.guest().await;
    client.set_header("tietopohja-endpoints", endpoints);
    client
}

async fn info(client: &mut Client, sql: &str) -> FlightInfo {
    client.execute(sql.to_owned(), None).await.unwrap()
}

fn tickets(info: &FlightInfo) -> Vec<Ticket> {
    let tickets = info.endpoint.iter().map(|endpoint| endpoint.ticket.clone());
    tickets.map(Option::unwrap).collect()
}

async fn redeem(client: &mut Client, ticket: Ticket) -> Answer {
    let mut stream = client.do_get(ticket).await.unwrap();
    let mut batches = Vec::new();
    while let Some(batch) = stream.try_next().await.unwrap() {
        batches.push(batch);
    }
    let schema = Arc::clone(stream.schema().unwrap());
    Answer { schema, batches }
}

/// The numbers of the first column, with how often each comes.
fn counted(answers: &[Answer]) -> BTreeMap<i64, usize> {
    let mut counted = BTreeMap::new();
    for batch in answers.iter().flat_map(|answer| &answer.batches) {
        let numbers = cast(batch.column(0), &DataType::Int64).unwrap();
        for number in numbers.as_primitive::<Int64Type>().values() {
            *counted.entry(*number).or_default() += 1;
        }
    }
    counted
}

#[tokio::test]
async fn each_endpoint_gives_its_rows_alone_anywhere_and_again() {
    let (_folder, engine) = scattered_engine().await;
    let server = Server::on(engine, clock(), analysts).await.unwrap();
    let other = server.sibling(Role::Analyst).await;
    let sql = "SELECT n FROM reference.scattered WHERE n % 3 <> 0";
    let expected: BTreeMap<i64, usize> = (0..FILES * ROWS_OF_FILE)
        .map(scattered)
        .filter(|number| number % 3 != 0)
        .map(|number| (number, 1))
        .collect();
    for (wanted, given) in [("1", 1), ("2", 2), ("3", 3), ("16", 4)] {
        let mut client = asking_for(&server, wanted).await;
        let info = info(&mut client, sql).await;
        assert_eq!(info.endpoint.len(), given, "{wanted}");
        assert!(info.ordered);
        let mut answers = Vec::new();
        for ticket in tickets(&info) {
            let here = redeem(&mut client, ticket.clone()).await;
            assert_eq!(*here.schema, schema_of(&info));
            // Another connection to another server needs neither the header nor the first one.
            let again = redeem(&mut other.guest().await, ticket).await;
            assert_eq!(counted(&[again]), counted(std::slice::from_ref(&here)));
            answers.push(here);
        }
        assert!(counted(&answers) == expected, "{wanted} endpoints");
        assert!(answers.iter().filter(|answer| answer.rows() > 0).count() >= given.min(3));
    }
}

#[tokio::test]
async fn results_of_one_tables_rows_have_several_endpoints_and_others_one() {
    let (_folder, engine) = scattered_engine().await;
    let server = Server::on(engine, clock(), analysts).await.unwrap();
    let mut client = asking_for(&server, "3").await;
    let few = "(VALUES (1), (3), (5), (NULL)) AS few(d)";
    for (sql, endpoints) in [
        ("SELECT n FROM conformed.positive WHERE digit = 3", 3),
        (
            "SELECT n * 2 AS n FROM (SELECT n FROM reference.scattered WHERE n < 1000000) AS s",
            3,
        ),
        (
            &format!("SELECT n FROM conformed.positive JOIN {few} ON d = digit"),
            3,
        ),
        (
            &format!("SELECT n FROM {few} JOIN conformed.positive ON d = digit"),
            3,
        ),
        (
            &format!(
                "SELECT n, d FROM conformed.positive LEFT JOIN {few} ON d = digit WHERE n % 7 = 0"
            ),
            3,
        ),
        (
            &format!(
                "SELECT n, d FROM {few} RIGHT JOIN conformed.positive ON d = digit WHERE n % 7 = 0"
            ),
            3,
        ),
        (
            "SELECT n FROM conformed.positive WHERE digit IN (SELECT n FROM reference.number) AND n % 7 = 0",
            3,
        ),
        (
            "SELECT n FROM conformed.positive WHERE n > (SELECT max(n) / 2 FROM reference.scattered)",
            3,
        ),
        (
            &format!(
                "SELECT n FROM conformed.positive FULL JOIN {few} ON d = digit WHERE n % 7 = 0"
            ),
            1,
        ),
        (
            &format!(
                "SELECT n FROM {few} LEFT JOIN conformed.positive ON d = digit WHERE n % 7 = 0"
            ),
            1,
        ),
        (
            "SELECT n FROM conformed.positive WHERE n % 7 = 0 ORDER BY n",
            1,
        ),
        ("SELECT n FROM conformed.positive LIMIT 5", 1),
        (
            "SELECT DISTINCT n FROM conformed.positive WHERE n % 7 = 0",
            1,
        ),
        ("SELECT count(*) AS n FROM conformed.positive", 1),
        (
            "SELECT digit AS n, count(*) AS c FROM conformed.positive GROUP BY digit",
            1,
        ),
        (
            "SELECT row_number() OVER (ORDER BY n) AS n FROM conformed.positive WHERE n % 7 = 0",
            1,
        ),
        (
            "SELECT n FROM reference.scattered WHERE n % 7 = 0 UNION ALL SELECT n FROM reference.number",
            1,
        ),
        (
            "SELECT n FROM conformed.positive WHERE n % 7 = 0 AND random() < 2",
            1,
        ),
        ("SELECT n FROM reference.number", 1),
    ] {
        let info = info(&mut client, sql).await;
        assert_eq!(info.endpoint.len(), endpoints, "{sql}");
        let mut answers = Vec::new();
        for ticket in tickets(&info) {
            answers.push(redeem(&mut client, ticket).await);
        }
        let mut whole = server.guest().await;
        let whole = query(&mut whole, sql).await.unwrap();
        assert!(whole.rows() > 0, "{sql}");
        if !sql.contains("LIMIT") {
            assert!(counted(&answers) == counted(&[whole]), "{sql}");
        }
    }
}

#[tokio::test]
async fn a_role_with_a_limit_of_rows_gets_one_endpoint() {
    let (_folder, engine) = scattered_engine().await;
    let limited = |options: &mut ServeOptions| options.limits.everyone.rows = Some(1_000_000);
    let server = Server::on(engine, clock(), limited).await.unwrap();
    let mut client = asking_for(&server, "3").await;
    let info = info(&mut client, "SELECT n FROM reference.scattered").await;
    assert_eq!(info.endpoint.len(), 1);
}

#[tokio::test]
async fn endpoints_that_are_open_do_not_wait_for_each_other() {
    let (_folder, engine) = scattered_engine().await;
    let one_at_a_time = |options: &mut ServeOptions| {
        options.gate = GateOptions {
            running: 1,
            running_each: 1,
            waiting: 8,
            patience: Duration::from_secs(3_600),
        };
    };
    let server = Server::on(engine, clock(), one_at_a_time).await.unwrap();
    let mut client = asking_for(&server, "4").await;
    let info = info(&mut client, "SELECT n FROM reference.scattered").await;
    assert_eq!(info.endpoint.len(), 4);
    // The last is opened and begun first, and read last; on connections of their own, because results
    // that nobody reads fill up the window of a connection.
    let mut open = Vec::new();
    for ticket in tickets(&info).into_iter().rev() {
        let mut client = server.guest().await;
        let mut stream = client.do_get(ticket).await.unwrap();
        let first = stream.try_next().await.unwrap();
        open.push((first, stream));
    }
    let mut rows = 0;
    for (first, mut stream) in open.into_iter().rev() {
        rows += first.map_or(0, |batch| batch.num_rows());
        while let Some(batch) = stream.try_next().await.unwrap() {
            rows += batch.num_rows();
        }
    }
    assert_eq!(rows, usize::try_from(FILES * ROWS_OF_FILE).unwrap());
}

#[tokio::test]
async fn a_ticket_of_a_part_is_bound_to_its_principal_and_wrong_numbers_are_told() {
    let (_folder, engine) = scattered_engine().await;
    let server = Server::on(engine, clock(), analysts).await.unwrap();
    let mut client = asking_for(&server, "3").await;
    let info = info(&mut client, "SELECT n FROM reference.scattered").await;
    let part = tickets(&info).remove(1);
    let readers = server.sibling(Role::Reader).await;
    let mut reader = readers.guest().await;
    let refused = match reader.do_get(part.clone()).await {
        Err(error) => status(error),
        Ok(_) => unreachable!("another role has redeemed the ticket"),
    };
    assert_eq!(refused.code(), Code::PermissionDenied);
    let rows = redeem(&mut client, part.clone()).await.rows();
    assert!(rows > 0 && rows < usize::try_from(FILES * ROWS_OF_FILE).unwrap());
    // Values that cannot be a number of endpoints are told.
    for wrong in ["0", "17", "many"] {
        let mut client = asking_for(&server, wrong).await;
        let told = status(
            client
                .execute("SELECT 1".to_owned(), None)
                .await
                .unwrap_err(),
        );
        assert_eq!(told.code(), Code::InvalidArgument, "{wrong}");
        assert!(told.message().contains("1 to 16"), "{told}");
    }
}

#[tokio::test]
async fn polling_a_result_with_endpoints_is_over_at_once() {
    let (_folder, engine) = scattered_engine().await;
    let server = Server::on(engine, clock(), analysts).await.unwrap();
    let mut client = FlightServiceClient::new(server.channel().await);
    let query = CommandStatementQuery {
        query: "SELECT n FROM reference.scattered".to_owned(),
        transaction_id: None,
    };
    let descriptor = FlightDescriptor::new_cmd(query.as_any().encode_to_vec());
    let mut request = Request::new(descriptor);
    let headers = request.metadata_mut();
    headers.insert("tietopohja-endpoints", "3".parse().unwrap());
    let polled = client.poll_flight_info(request).await.unwrap().into_inner();
    assert_eq!(
        (polled.progress, polled.flight_descriptor),
        (Some(1.0), None)
    );
    assert_eq!(polled.info.unwrap().endpoint.len(), 3);
}
