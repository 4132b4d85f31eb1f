//! Settings of a session: set in every way that a client has, once each, and what they do.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::datatypes::{DataType, Schema, TimeUnit};
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::{CommandGetTables, CommandStatementQuery, ProstMessageExt};
use arrow_flight::{Action, FlightDescriptor, SchemaResult};
use bytes::Bytes;
use prost::Message;
use tietopohja_policy::Role;
use tietopohja_server::{StatementRecord, TraceParent};
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::warehouse::{
    Client, Server, append, changing, clock, engine_and_lake, fetch, query, schema_of, status,
};

async fn setting(client: &mut Client, name: &str) -> String {
    let shown = query(client, &format!("SHOW tietopohja.{name}")).await;
    let shown = shown.unwrap().text();
    assert_eq!(shown[0], "name|value");
    let (shown_name, value) = shown[1].split_once('|').unwrap();
    assert_eq!(shown_name, format!("tietopohja.{name}"));
    value.to_owned()
}

#[derive(Debug, Clone, Copy)]
enum Path {
    Query,
    Update,
    PreparedQuery,
    PreparedUpdate,
}

#[tokio::test]
async fn a_statement_that_changes_something_does_so_once_on_every_path() {
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = Arc::clone(&seen);
    let server = Server::start_with(move |options| {
        options.audit = Some(Arc::new(move |record: &StatementRecord| {
            let statement = record.statement.clone().unwrap_or_default();
            if statement.starts_with("SET") {
                kept.lock().unwrap().push(statement);
            }
        }));
    })
    .await;
    for path in [
        Path::Query,
        Path::Update,
        Path::PreparedQuery,
        Path::PreparedUpdate,
    ] {
        let mut client = server.guest().await;
        let sql = "SET tietopohja.timestamps = 'helsinki'";
        seen.lock().unwrap().clear();
        match path {
            Path::Query => {
                let info = client.execute(sql.to_owned(), None).await.unwrap();
                assert!(schema_of(&info).fields().is_empty());
                // Redeemed once, twice or never: it has happened, once.
                for _ in 0..2 {
                    assert_eq!(fetch(&mut client, &info).await.unwrap().rows(), 0);
                }
            }
            Path::Update => {
                let changed = client.execute_update(sql.to_owned(), None).await.unwrap();
                assert_eq!(changed, 0);
            }
            Path::PreparedQuery => {
                let mut prepared = client.prepare(sql.to_owned(), None).await.unwrap();
                assert!(prepared.dataset_schema().unwrap().fields().is_empty());
                assert!(seen.lock().unwrap().is_empty(), "preparing runs nothing");
                let info = prepared.execute().await.unwrap();
                assert_eq!(fetch(&mut client, &info).await.unwrap().rows(), 0);
            }
            Path::PreparedUpdate => {
                let mut prepared = client.prepare(sql.to_owned(), None).await.unwrap();
                assert!(seen.lock().unwrap().is_empty(), "preparing runs nothing");
                assert_eq!(prepared.execute_update().await.unwrap(), 0);
            }
        }
        assert_eq!(
            *seen.lock().unwrap(),
            ["SET tietopohja.timestamps = ?"],
            "{path:?}"
        );
        assert_eq!(
            setting(&mut client, "timestamps").await,
            "helsinki",
            "{path:?}"
        );
        let other = &mut server.guest().await;
        assert_eq!(setting(other, "timestamps").await, "utc", "{path:?}");
    }
}

#[tokio::test]
async fn asking_for_the_schema_of_a_change_changes_nothing() {
    let server = Server::start().await;
    let mut client = server.guest().await;
    let command = CommandStatementQuery {
        query: "SET tietopohja.schema = 'reference'".to_owned(),
        transaction_id: None,
    };
    let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
    let mut raw = FlightServiceClient::new(server.channel().await);
    let mut request = tonic::Request::new(descriptor);
    let bearer = format!("Bearer {}", client.token().unwrap());
    let header = bearer.parse().unwrap();
    request.metadata_mut().insert("authorization", header);
    let answer: SchemaResult = raw.get_schema(request).await.unwrap().into_inner();
    assert!(Schema::try_from(&answer).unwrap().fields().is_empty());
    assert_eq!(setting(&mut client, "schema").await, "published");
}

#[tokio::test]
async fn names_are_looked_up_in_the_schema_that_was_set() {
    let server = Server::start().await;
    let mut client = server.guest().await;
    let count = "SELECT count(*) AS n FROM number";
    query(&mut client, count).await.unwrap_err();
    query(&mut client, "SET tietopohja.schema = reference")
        .await
        .unwrap();
    assert_eq!(
        query(&mut client, count).await.unwrap().text(),
        ["n", "100000"]
    );
    // What a reader cannot name does not exist as a schema either.
    for schema in ["conformed", "no_such"] {
        let set = format!("SET tietopohja.schema = '{schema}'");
        query(&mut client, &set).await.unwrap();
        let error = query(&mut client, "SELECT 1").await.unwrap_err();
        assert_eq!(error.code(), Code::NotFound, "{error}");
        assert!(error.message().contains(schema), "{error}");
    }
    query(&mut client, "RESET tietopohja.schema").await.unwrap();
    query(&mut client, "SELECT 1").await.unwrap();
}

#[tokio::test]
async fn a_wrong_setting_says_what_would_be_right() {
    let server = Server::start().await;
    let mut client = server.guest().await;
    for (sql, told) in [
        ("SET tietopohja.speed = 'high'", "`tietopohja.as_of`"),
        ("SHOW tietopohja.speed", "`tietopohja.as_of`"),
        ("SET tietopohja.as_of = 'yesterday'", "2026-03-01T12:00:00Z"),
        ("SET tietopohja.timestamps = 'cet'", "`helsinki`"),
        ("SET tietopohja.as_of = 1 + 1", "takes one value"),
        (
            "SET datafusion.execution.batch_size = 1",
            "not allowed here",
        ),
    ] {
        let error = query(&mut client, sql).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{sql}: {error}");
        assert!(error.message().contains(told), "{sql}: {error}");
    }
    // Without a session there is nobody to keep it, and the message says what to do.
    let mut stranger = server.client().await;
    let error = query(&mut stranger, "SET tietopohja.timestamps = 'zoned'").await;
    let error = error.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
    assert!(error.message().contains("tietopohja-timestamps"), "{error}");
}

const MOMENT: &str = "SELECT zoned, moment FROM reference.kind WHERE id = 1";

fn first_type(schema: &Schema) -> DataType {
    schema.field(0).data_type().clone()
}

#[tokio::test]
async fn moments_are_shown_as_the_client_asked_and_a_ticket_keeps_it() {
    let server = Server::start().await;
    let plain = DataType::Timestamp(TimeUnit::Microsecond, None);
    let zoned = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    for (rule, data_type, shown) in [
        ("utc", &plain, "2024-03-30T22:59:59"),
        ("helsinki", &plain, "2024-03-31T00:59:59"),
        ("zoned", &zoned, "2024-03-30T22:59:59Z"),
    ] {
        // By header, without a session.
        let mut client = server.client().await;
        client.set_header("tietopohja-timestamps", rule);
        let info = client.execute(MOMENT.to_owned(), None).await.unwrap();
        assert_eq!(first_type(&schema_of(&info)), *data_type, "{rule}");
        // Whoever redeems the ticket, with whatever settings, gets what it was made for.
        let mut other = server.client().await;
        for client in [&mut client, &mut other] {
            let answer = fetch(client, &info).await.unwrap();
            let row = &answer.text()[1];
            let expected = format!("{shown}|2024-03-31T02:59:59.123456");
            assert_eq!(*row, expected, "{rule}");
        }
    }
}

#[tokio::test]
async fn tables_are_named_by_the_word_that_the_client_asked_for() {
    let server = Server::start().await;
    for (word, types) in [
        (None, ["SYSTEM TABLE", "TABLE", "VIEW"]),
        (Some("BASE TABLE"), ["BASE TABLE", "SYSTEM TABLE", "VIEW"]),
    ] {
        let mut client = server.client().await;
        if let Some(word) = word {
            client.set_header("tietopohja-table-type", word);
        }
        let info = client.get_table_types().await.unwrap();
        let mut told: Vec<String> = fetch(&mut client, &info).await.unwrap().text();
        told.remove(0);
        told.sort();
        assert_eq!(told, types);
        // Either word finds the tables, and they are told by the one that was asked for.
        for asked in ["TABLE", "base table"] {
            let info = client
                .get_tables(CommandGetTables {
                    catalog: None,
                    db_schema_filter_pattern: Some("published".to_owned()),
                    table_name_filter_pattern: None,
                    table_types: vec![asked.to_owned()],
                    include_schema: false,
                })
                .await
                .unwrap();
            let found = fetch(&mut client, &info).await.unwrap().text();
            let shown = word.unwrap_or("TABLE");
            let row = format!("tietopohja|published|indicator_value|{shown}");
            assert!(found.contains(&row), "{asked}: {found:?}");
        }
    }
}

#[tokio::test]
async fn a_session_sees_the_tables_as_they_were() {
    let clock = clock();
    let (_folder, engine, lake) = engine_and_lake(clock.clone()).await;
    let name = changing();
    // 2030-03-17T17:46:40Z: the format layer makes tables by the machine's clock, which is before that.
    clock.forward(200_000_000);
    append(&lake, &name, &[1]).await;
    clock.forward(3_600);
    append(&lake, &name, &[2]).await;
    clock.forward(3_600);
    append(&lake, &name, &[3, 4]).await;
    let server = Server::on(engine, clock, |options| {
        options.anonymous_role = Role::Analyst
    })
    .await
    .unwrap();
    let count = "SELECT count(*) AS rows FROM reference.changing";
    for (as_of, rows) in [
        ("now", "4"),
        ("2030-03-17T17:46:40Z", "1"),
        ("2030-03-17T18:46:39Z", "1"),
        ("2030-03-17T20:46:40+02:00", "2"),
        ("2030-03-17", "4"),
    ] {
        let mut client = server.guest().await;
        let set = format!("SET tietopohja.as_of = '{as_of}'");
        query(&mut client, &set).await.unwrap();
        let answer = query(&mut client, count).await.unwrap();
        assert_eq!(answer.text(), ["rows", rows], "{as_of}");
        let mut by_header = server.client().await;
        by_header.set_header("tietopohja-as-of", as_of);
        let answer = query(&mut by_header, count).await.unwrap();
        assert_eq!(answer.text(), ["rows", rows], "{as_of}");
    }
    // Before the table was made there is none.
    let mut client = server.guest().await;
    query(&mut client, "SET tietopohja.as_of = '2023-11-14'")
        .await
        .unwrap();
    let error = query(&mut client, count).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
}

#[tokio::test]
async fn a_session_with_settings_that_is_idle_is_closed_and_told_so() {
    let server = Server::start_with(|options| options.session_idle = Duration::from_secs(60)).await;
    let mut pinned = server.guest().await;
    let mut plain = server.guest().await;
    query(&mut pinned, "SET tietopohja.as_of = '2026-03-01'")
        .await
        .unwrap();
    server.clock.forward(61);
    let error = pinned
        .execute("SELECT 1".to_owned(), None)
        .await
        .map_err(status)
        .unwrap_err();
    assert_eq!(error.code(), Code::Unauthenticated, "{error}");
    assert!(error.message().contains("idle"), "{error}");
    query(&mut plain, "SELECT 1").await.unwrap();
}

/// A client that keeps cookies and shows the same credentials with each call.
struct Keeper {
    raw: FlightServiceClient<Channel>,
    authorization: Option<String>,
    cookie: Option<String>,
}

impl Keeper {
    async fn of(server: &Server, authorization: Option<&str>) -> Keeper {
        Keeper {
            raw: FlightServiceClient::new(server.channel().await),
            authorization: authorization.map(str::to_owned),
            cookie: None,
        }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        if let Some(header) = &self.authorization {
            metadata.insert("authorization", header.parse().unwrap());
        }
        if let Some(cookie) = &self.cookie {
            metadata.insert("cookie", cookie.parse().unwrap());
        }
        request
    }

    fn keep(&mut self, metadata: &MetadataMap) {
        if let Some(cookie) = metadata.get("set-cookie") {
            let pair = cookie.to_str().unwrap().split(';').next().unwrap();
            self.cookie = Some(pair.to_owned()).filter(|pair| !pair.ends_with('='));
        }
    }

    /// The schema of what a statement gives.
    async fn ask(&mut self, sql: &str) -> Result<Schema, Status> {
        let command = CommandStatementQuery {
            query: sql.to_owned(),
            transaction_id: None,
        };
        let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
        let answer = self.raw.get_flight_info(self.request(descriptor)).await;
        match answer {
            Ok(answer) => {
                self.keep(answer.metadata());
                Ok(answer.into_inner().try_decode_schema().unwrap())
            }
            Err(status) => {
                self.keep(status.metadata());
                Err(status)
            }
        }
    }

    /// Whether moments have a zone.
    async fn sees_zones(&mut self) -> Result<bool, Status> {
        let schema = self.ask("SELECT zoned FROM reference.kind").await?;
        Ok(matches!(
            schema.field(0).data_type(),
            DataType::Timestamp(_, Some(_))
        ))
    }

    async fn close(&mut self) {
        let action = Action {
            r#type: "CloseSession".to_owned(),
            body: Bytes::new(),
        };
        let answer = self.raw.do_action(self.request(action)).await.unwrap();
        self.keep(answer.metadata());
    }
}

const ZONED: &str = "SET tietopohja.timestamps = 'zoned'";

#[tokio::test]
async fn a_cookie_names_a_session_where_no_bearer_does() {
    let server = Server::start().await;
    let mut client = Keeper::of(&server, None).await;
    let refused = client.ask(ZONED).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    // The refusal brought the cookie.
    client.ask(ZONED).await.unwrap();
    assert!(client.sees_zones().await.unwrap());
    let mut other = Keeper::of(&server, None).await;
    assert!(!other.sees_zones().await.unwrap());

    let kept = client.cookie.clone();
    client.close().await;
    assert_eq!(client.cookie, None, "it is to be forgotten");
    assert!(!client.sees_zones().await.unwrap());
    client.cookie = kept;
    let closed = client.sees_zones().await.unwrap_err();
    assert_eq!(closed.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn settings_go_with_the_cookie_to_another_server_and_the_bearer_comes_first() {
    let server = Server::start().await;
    let other = server.sibling(Role::Reader).await;
    let bearer = |client: &Client| format!("Bearer {}", client.token().unwrap());
    let (mine, another) = (server.guest().await, server.guest().await);
    let mut here = Keeper::of(&server, Some(&bearer(&mine))).await;
    here.ask(ZONED).await.unwrap();
    let mut there = Keeper::of(&other, Some(&bearer(&mine))).await;
    assert!(!there.sees_zones().await.unwrap(), "without the cookie");
    there.cookie = here.cookie.clone();
    assert!(there.sees_zones().await.unwrap());
    there.ask("RESET tietopohja.timestamps").await.unwrap();
    here.cookie = there.cookie.clone();
    assert!(!here.sees_zones().await.unwrap(), "the newer counts");

    // The cookie of one session beside the bearer of another.
    here.ask(ZONED).await.unwrap();
    let mut mixed = Keeper::of(&server, Some(&bearer(&another))).await;
    mixed.cookie = here.cookie.clone();
    assert!(!mixed.sees_zones().await.unwrap());
}

#[tokio::test]
async fn a_statement_knows_its_place_in_the_trace_of_its_caller() {
    let seen: Arc<Mutex<Vec<Option<TraceParent>>>> = Arc::default();
    let kept = Arc::clone(&seen);
    let server = Server::start_with(move |options| {
        options.anonymous_role = Role::Analyst;
        options.audit = Some(Arc::new(move |record: &StatementRecord| {
            kept.lock().unwrap().push(record.trace);
        }));
    })
    .await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let mut client = server.guest().await;
    query(&mut client, "SELECT 1").await.unwrap();
    client.set_header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"));
    query(&mut client, "SELECT 2").await.unwrap();
    query(&mut client, "SELECT no_such_column")
        .await
        .unwrap_err();
    let traces: Vec<_> = seen.lock().unwrap().clone();
    let names: Vec<_> = traces
        .iter()
        .map(|trace| trace.map(|trace| (trace.trace_id(), trace.sampled)))
        .collect();
    let of_caller = Some((trace.to_owned(), true));
    assert_eq!(names, [None, of_caller.clone(), of_caller]);
    let shown = query(
        &mut client,
        "SELECT count(*) AS n FROM meta.query WHERE trace_id = '4bf92f3577b34da6a3ce929d0e0e4736' AND ended_at IS NOT NULL",
    );
    assert_eq!(shown.await.unwrap().text(), ["n", "2"]);
}

#[tokio::test]
async fn rows_look_as_the_client_asked_also_when_another_call_redeems_the_ticket() {
    let server = Server::start().await;
    let sql = "SELECT amount, day, moment, text_view FROM reference.kind ORDER BY id";
    let micros = || DataType::Timestamp(TimeUnit::Microsecond, None);
    let standard = [
        DataType::Decimal128(14, 2),
        DataType::Date32,
        micros(),
        DataType::Utf8,
    ];
    let simple = [DataType::Float64, micros(), micros(), DataType::Utf8];
    let day = "2024-03-31T02:59:59.123456";
    let plain = format!("12345.67|2024-02-29|{day}|view");
    let moments = format!("12345.67|2024-02-29T00:00:00|{day}|view");
    for (header, value, types, row) in [
        ("types", "standard", &standard, &plain),
        ("types", "Simple", &simple, &moments),
        ("compression", "lz4", &standard, &plain),
        ("compression", "zstd", &standard, &plain),
    ] {
        let mut asking = server.client().await;
        asking.set_header(format!("tietopohja-{header}"), value);
        let info = asking.execute(sql.to_owned(), None).await.unwrap();
        let mut redeeming = server.client().await;
        let answer = fetch(&mut redeeming, &info).await.unwrap();
        let found: Vec<_> = answer
            .schema
            .fields()
            .iter()
            .map(|field| field.data_type().clone())
            .collect();
        assert_eq!(found, types, "{header} {value}");
        assert_eq!(answer.text()[1], *row, "{header} {value}");
    }
    let mut client = server.client().await;
    client.set_header("tietopohja-types", "rich");
    let error = client.execute(sql.to_owned(), None).await.map_err(status);
    let error = error.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.message().contains("`native`"), "{error}");
}

#[tokio::test]
async fn a_compressed_result_is_smaller() {
    let sizes: Arc<Mutex<Vec<u64>>> = Arc::default();
    let kept = Arc::clone(&sizes);
    let server = Server::start_with(move |options| {
        options.audit = Some(Arc::new(move |record: &StatementRecord| {
            kept.lock().unwrap().push(record.bytes);
        }));
    })
    .await;
    for kind in ["none", "lz4", "zstd"] {
        let mut client = server.client().await;
        client.set_header("tietopohja-compression", kind);
        let answer = query(&mut client, "SELECT n, r FROM reference.number").await;
        assert_eq!(answer.unwrap().rows(), 100_000, "{kind}");
    }
    let sizes = sizes.lock().unwrap().clone();
    assert!(sizes[1] < sizes[0] && sizes[2] < sizes[0], "{sizes:?}");
}
