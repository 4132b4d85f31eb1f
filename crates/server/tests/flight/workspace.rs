//! The tables that users make: by statements and by uploads, once each, each user's own.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, DictionaryArray,
    Float64Array, Int32Array, Int64Array, LargeStringArray, ListArray, RecordBatch, StringArray,
    StringViewArray, TimestampNanosecondArray, UInt16Array,
};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Int32Type};
use arrow_flight::FlightDescriptor;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::{
    CommandGetDbSchemas, CommandGetTables, CommandPreparedStatementQuery, CommandStatementIngest,
    CommandStatementQuery, ProstMessageExt, SqlInfo, TableDefinitionOptions, TableExistsOption,
    TableNotExistOption,
};
use futures::{StreamExt, TryStreamExt, stream};
use prost::Message;
use tietopohja_engine::{Engine, EngineOptions};
use tietopohja_lake::Lake;
use tietopohja_policy::Role;
use tietopohja_server::identity::Users;
use tietopohja_server::{ServeOptions, StatementRecord};
use tonic::{Code, Status};

use crate::warehouse::{Client, Server, clock, engine, fetch, query, schema_of, status};

async fn analysts() -> Server {
    Server::start_with(|options| options.anonymous_role = Role::Analyst).await
}

async fn update(client: &mut Client, sql: &str) -> Result<i64, Status> {
    let changed = client.execute_update(sql.to_owned(), None).await;
    changed.map_err(status)
}

async fn rows(client: &mut Client, sql: &str) -> Vec<String> {
    let answer = query(client, sql).await;
    answer
        .unwrap_or_else(|error| panic!("{sql}: {error}"))
        .text()[1..]
        .to_vec()
}

/// Tables of the workspace, as `GetTables` names them.
async fn tables(client: &mut Client) -> Vec<String> {
    let asked = CommandGetTables {
        catalog: None,
        db_schema_filter_pattern: Some("workspace".to_owned()),
        table_name_filter_pattern: None,
        table_types: Vec::new(),
        include_schema: false,
    };
    let info = client.get_tables(asked).await.unwrap();
    let found = fetch(client, &info).await.unwrap();
    if found.rows() == 0 {
        return Vec::new();
    }
    let names = found.text()[1..].to_vec();
    let name = |row: &String| row.split('|').nth(2).unwrap().to_owned();
    names.iter().map(name).collect()
}

#[tokio::test]
async fn tables_are_made_filled_changed_and_dropped() {
    let server = analysts().await;
    let mut client = server.guest().await;
    for (sql, changed) in [
        (
            "CREATE TABLE workspace.t (id INT, name VARCHAR, amount DECIMAL(9, 2))",
            0,
        ),
        ("CREATE TABLE IF NOT EXISTS workspace.t (other INT)", 0),
        (
            "INSERT INTO workspace.t VALUES (1, 'yksi', 1.25), (2, 'kaksi', NULL)",
            2,
        ),
        ("INSERT INTO workspace.t (name, id) VALUES ('kolme', 3)", 1),
        (
            "INSERT INTO workspace.t SELECT n, 'x', n AS m FROM reference.number WHERE n BETWEEN 4 AND 6",
            3,
        ),
        (
            "UPDATE workspace.t SET amount = id * 2, name = upper(name) WHERE id < 3",
            2,
        ),
        ("UPDATE workspace.t SET name = 'ei' WHERE name = 'none'", 0),
        ("DELETE FROM workspace.t WHERE amount IS NULL OR id = 6", 2),
        (
            "INSERT INTO tietopohja.workspace.t SELECT * FROM workspace.t WHERE id = 1",
            1,
        ),
    ] {
        assert_eq!(update(&mut client, sql).await.unwrap(), changed, "{sql}");
    }
    assert_eq!(
        rows(&mut client, "SELECT * FROM workspace.t ORDER BY id").await,
        [
            "1|YKSI|2.00",
            "1|YKSI|2.00",
            "2|KAKSI|4.00",
            "4|x|4.00",
            "5|x|5.00"
        ]
    );
    for (sql, changed, left) in [
        (
            "CREATE OR REPLACE TABLE workspace.t AS SELECT 7 AS seven",
            0,
            "1",
        ),
        ("TRUNCATE TABLE workspace.t", 1, "0"),
        (
            "INSERT INTO workspace.t SELECT value FROM generate_series(1, 300)",
            300,
            "300",
        ),
        ("DELETE FROM workspace.t", 300, "0"),
    ] {
        assert_eq!(update(&mut client, sql).await.unwrap(), changed, "{sql}");
        let count = rows(&mut client, "SELECT count(*) FROM workspace.t").await;
        assert_eq!(count, [left], "{sql}");
    }
    update(
        &mut client,
        "CREATE TABLE workspace.\"Käynnit 2026\" AS SELECT 1 AS \"A b\"",
    )
    .await
    .unwrap();
    assert_eq!(tables(&mut client).await, ["Käynnit 2026", "t"]);
    update(&mut client, "DROP TABLE workspace.t").await.unwrap();
    update(&mut client, "DROP TABLE IF EXISTS workspace.t")
        .await
        .unwrap();
    assert_eq!(tables(&mut client).await, ["Käynnit 2026"]);
}

#[tokio::test]
async fn a_mistake_is_told_and_changes_nothing() {
    let server = analysts().await;
    let mut client = server.guest().await;
    update(
        &mut client,
        "CREATE TABLE workspace.t AS SELECT 1 AS a, 'x' AS b",
    )
    .await
    .unwrap();
    for (sql, code, says) in [
        (
            "CREATE TABLE workspace.t (a INT)",
            Code::InvalidArgument,
            "exists already",
        ),
        (
            "CREATE TABLE published.t (a INT)",
            Code::InvalidArgument,
            "`workspace`",
        ),
        (
            "CREATE TABLE t AS SELECT 1 AS a",
            Code::InvalidArgument,
            "`workspace`",
        ),
        (
            "INSERT INTO reference.number VALUES (1)",
            Code::InvalidArgument,
            "`workspace`",
        ),
        (
            "DROP TABLE published.indicator_value",
            Code::InvalidArgument,
            "`workspace`",
        ),
        (
            "DELETE FROM reference.number",
            Code::InvalidArgument,
            "`workspace`",
        ),
        (
            "MERGE INTO workspace.t USING reference.number AS s ON t.a = s.n WHEN MATCHED THEN DELETE",
            Code::InvalidArgument,
            "not allowed",
        ),
        (
            "CREATE VIEW workspace.v AS SELECT 1 AS a",
            Code::InvalidArgument,
            "not allowed",
        ),
        ("CREATE SCHEMA mine", Code::InvalidArgument, "not allowed"),
        (
            "SELECT 1 AS a INTO workspace.u",
            Code::InvalidArgument,
            "not allowed",
        ),
        (
            "EXPLAIN INSERT INTO workspace.t VALUES (1, 'y')",
            Code::InvalidArgument,
            "not allowed",
        ),
        (
            "INSERT INTO workspace.none VALUES (1)",
            Code::InvalidArgument,
            "not found",
        ),
        (
            "DROP TABLE workspace.none",
            Code::NotFound,
            "workspace.none",
        ),
        (
            "TRUNCATE TABLE workspace.none",
            Code::NotFound,
            "workspace.none",
        ),
        (
            "INSERT INTO workspace.t VALUES ('word', 'y')",
            Code::InvalidArgument,
            "",
        ),
        (
            "INSERT INTO workspace.t VALUES (1)",
            Code::InvalidArgument,
            "",
        ),
        (
            "INSERT INTO workspace.t SELECT 1 / (n - 5), 'y' FROM reference.number",
            Code::InvalidArgument,
            "zero",
        ),
        (
            "UPDATE workspace.t SET a = 1 / (a - 1)",
            Code::InvalidArgument,
            "zero",
        ),
        (
            "UPDATE workspace.t SET none = 1",
            Code::InvalidArgument,
            "none",
        ),
        (
            "DELETE FROM workspace.t WHERE a IN (SELECT n FROM reference.number)",
            Code::InvalidArgument,
            "no SELECT inside",
        ),
        (
            "INSERT INTO workspace.t VALUES (?, 'y')",
            Code::InvalidArgument,
            "bind values",
        ),
        (
            "CREATE TABLE workspace.u (a INT PRIMARY KEY)",
            Code::InvalidArgument,
            "not kept",
        ),
        (
            "CREATE TABLE workspace.u (a INT NOT NULL)",
            Code::InvalidArgument,
            "not kept",
        ),
        (
            "CREATE TABLE workspace.u AS SELECT [1, 2] AS list",
            Code::InvalidArgument,
            "`list`",
        ),
        (
            "CREATE TABLE workspace.u AS SELECT n, n AS \"n\" FROM reference.number",
            Code::InvalidArgument,
            "",
        ),
        (
            "CREATE TABLE workspace.\"../u\" AS SELECT 1 AS a",
            Code::InvalidArgument,
            "name of a table",
        ),
        (
            "CREATE TABLE workspace.u AS SELECT * FROM conformed.none",
            Code::InvalidArgument,
            "not found",
        ),
        (
            "DROP TABLE workspace.t; DROP TABLE workspace.t",
            Code::InvalidArgument,
            "several statements",
        ),
    ] {
        let error = update(&mut client, sql).await.unwrap_err();
        assert_eq!(error.code(), code, "{sql}: {error}");
        assert!(error.message().contains(says), "{sql}: {error}");
    }
    assert_eq!(
        rows(&mut client, "SELECT * FROM workspace.t").await,
        ["1|x"]
    );
    assert_eq!(tables(&mut client).await, ["t"]);
}

#[derive(Debug, Clone, Copy)]
enum Way {
    Query,
    Update,
    PreparedQuery,
    PreparedUpdate,
    PreparedGet,
}

#[tokio::test]
async fn a_change_of_a_table_happens_once_on_every_path() {
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = Arc::clone(&seen);
    let server = Server::start_with(move |options: &mut ServeOptions| {
        options.anonymous_role = Role::Analyst;
        options.audit = Some(Arc::new(move |record: &StatementRecord| {
            let text = record.statement.clone().unwrap_or_default();
            if !text.starts_with("SELECT") {
                let tables = record.tables.join(",");
                let line = format!("{} {} [{tables}]", record.state.as_str(), record.rows);
                kept.lock().unwrap().push(line);
            }
        }));
    })
    .await;
    for way in [
        Way::Query,
        Way::Update,
        Way::PreparedQuery,
        Way::PreparedUpdate,
        Way::PreparedGet,
    ] {
        let mut client = server.guest().await;
        for (sql, changed, after, record) in [
            (
                "CREATE TABLE workspace.once AS SELECT 1 AS a",
                0,
                Some("1"),
                "done 1 [workspace.once]",
            ),
            (
                "INSERT INTO workspace.once SELECT n FROM reference.number WHERE n < 2",
                2,
                Some("3"),
                "done 2 [reference.number,workspace.once]",
            ),
            (
                "UPDATE workspace.once SET a = a + 1",
                3,
                Some("3"),
                "done 3 [workspace.once]",
            ),
            (
                "DROP TABLE workspace.once",
                0,
                None,
                "done 0 [workspace.once]",
            ),
        ] {
            let label = format!("{way:?}: {sql}");
            seen.lock().unwrap().clear();
            match way {
                Way::Query => {
                    let info = client.execute(sql.to_owned(), None).await.unwrap();
                    assert!(schema_of(&info).fields().is_empty());
                    for _ in 0..2 {
                        assert_eq!(fetch(&mut client, &info).await.unwrap().rows(), 0);
                    }
                }
                Way::Update => {
                    assert_eq!(update(&mut client, sql).await.unwrap(), changed, "{label}");
                }
                Way::PreparedQuery | Way::PreparedUpdate | Way::PreparedGet => {
                    let mut prepared = client.prepare(sql.to_owned(), None).await.unwrap();
                    assert!(prepared.dataset_schema().unwrap().fields().is_empty());
                    assert!(
                        seen.lock().unwrap().is_empty(),
                        "preparing runs nothing: {label}"
                    );
                    match way {
                        Way::PreparedQuery => {
                            let info = prepared.execute().await.unwrap();
                            for _ in 0..2 {
                                assert_eq!(fetch(&mut client, &info).await.unwrap().rows(), 0);
                            }
                        }
                        Way::PreparedUpdate => {
                            let found = prepared.execute_update().await.unwrap();
                            assert_eq!(found, changed, "{label}");
                        }
                        _ => {
                            let ticket = CommandPreparedStatementQuery {
                                prepared_statement_handle: handle(&mut client, sql).await,
                            };
                            let ticket = arrow_flight::Ticket {
                                ticket: ticket.as_any().encode_to_vec().into(),
                            };
                            let rows = client.do_get(ticket).await.unwrap();
                            assert_eq!(rows.try_collect::<Vec<_>>().await.unwrap().len(), 0);
                        }
                    }
                }
            }
            assert_eq!(*seen.lock().unwrap(), [record], "{label}");
            match after {
                None => assert!(tables(&mut client).await.is_empty(), "{label}"),
                Some(count) => assert_eq!(
                    rows(&mut client, "SELECT count(*) FROM workspace.once").await,
                    [count],
                    "{label}"
                ),
            }
        }
    }
}

/// The handle of a prepared statement, which the library's client keeps to itself.
async fn handle(client: &mut Client, sql: &str) -> bytes::Bytes {
    use arrow_flight::sql::{
        ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult, Any,
    };
    let request = ActionCreatePreparedStatementRequest {
        query: sql.to_owned(),
        transaction_id: None,
    };
    let action = arrow_flight::Action {
        r#type: "CreatePreparedStatement".to_owned(),
        body: request.as_any().encode_to_vec().into(),
    };
    let mut request = tonic::Request::new(action);
    let bearer = format!("Bearer {}", client.token().unwrap());
    let bearer = bearer.parse().unwrap();
    request.metadata_mut().insert("authorization", bearer);
    let mut results = client
        .inner_mut()
        .do_action(request)
        .await
        .unwrap()
        .into_inner();
    let body = results.message().await.unwrap().unwrap().body;
    let any = Any::decode(body).unwrap();
    let result = ActionCreatePreparedStatementResult::decode(any.value).unwrap();
    result.prepared_statement_handle
}

#[tokio::test]
async fn asking_for_the_schema_of_a_change_makes_nothing() {
    let server = analysts().await;
    let mut client = server.guest().await;
    let command = CommandStatementQuery {
        query: "CREATE TABLE workspace.t AS SELECT 1 AS a".to_owned(),
        transaction_id: None,
    };
    let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
    let mut raw = FlightServiceClient::new(server.channel().await);
    raw.get_schema(descriptor).await.unwrap();
    client
        .prepare("CREATE TABLE workspace.t AS SELECT 1 AS a".to_owned(), None)
        .await
        .unwrap();
    assert!(tables(&mut client).await.is_empty());
}

#[tokio::test]
async fn many_rows_of_parameters_are_one_change() {
    let server = analysts().await;
    let mut client = server.guest().await;
    update(
        &mut client,
        "CREATE TABLE workspace.t (id BIGINT, name VARCHAR)",
    )
    .await
    .unwrap();
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..2_500));
    let names: ArrayRef = Arc::new(StringArray::from_iter(
        (0..2_500).map(|n| (n % 2 == 0).then(|| format!("n{n}"))),
    ));
    let many = RecordBatch::try_from_iter([("0", ids), ("1", names)]).unwrap();
    let insert = "INSERT INTO workspace.t VALUES (?, ?)";
    let mut prepared = client.prepare(insert.to_owned(), None).await.unwrap();
    let types: Vec<DataType> = prepared
        .parameter_schema()
        .unwrap()
        .fields()
        .iter()
        .map(|field| field.data_type().clone())
        .collect();
    assert_eq!(types, [DataType::Int64, DataType::Utf8]);
    prepared.set_parameters(many).unwrap();
    assert_eq!(prepared.execute_update().await.unwrap(), 2_500);
    assert_eq!(
        rows(
            &mut client,
            "SELECT count(*), sum(id), count(name) FROM workspace.t"
        )
        .await,
        ["2500|3123750|1250"]
    );
    // Each row of values changes what the row before it left.
    let two: ArrayRef = Arc::new(Int64Array::from(vec![1, 10]));
    let bound = RecordBatch::try_from_iter([("0", two)]).unwrap();
    let sql = "UPDATE workspace.t SET id = id + ? WHERE id < 100";
    let mut prepared = client.prepare(sql.to_owned(), None).await.unwrap();
    prepared.set_parameters(bound).unwrap();
    assert_eq!(prepared.execute_update().await.unwrap(), 100 + 99);
    let count = "SELECT count(*) FROM workspace.t WHERE id >= 100";
    assert_eq!(rows(&mut client, count).await, ["2411"]);
    // One wrong row of many: none is there.
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["1", "word"]));
    let names: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
    let bound = RecordBatch::try_from_iter([("0", texts), ("1", names)]).unwrap();
    let mut prepared = client.prepare(insert.to_owned(), None).await.unwrap();
    prepared.set_parameters(bound).unwrap();
    let error = prepared.execute_update().await.map_err(status).unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    assert!(!error.message().contains("word"), "{error}");
    let count = rows(&mut client, "SELECT count(*) FROM workspace.t").await;
    assert_eq!(count, ["2500"]);
}

const PASSWORD: &str = "kolme sanaa peräkkäin";

/// A server with users of these roles.
async fn with_users(folder: &Path) -> Server {
    let file = folder.join("users.toml");
    for (name, role) in [
        ("aino", Role::Analyst),
        ("Aino", Role::Analyst),
        ("isto", Role::Admin),
        ("raija", Role::Reader),
    ] {
        Users::change(&file, |users| users.add(name, role, PASSWORD, &[1; 16])).unwrap();
    }
    Server::start_with(|options| options.users = Some(file)).await
}

async fn signed_in(server: &Server, name: &str) -> Client {
    let mut client = server.client().await;
    client.handshake(name, PASSWORD).await.unwrap();
    client
}

#[tokio::test]
async fn a_table_is_its_owners_alone() {
    let folder = tempfile::tempdir().unwrap();
    let server = with_users(folder.path()).await;
    let mut aino = signed_in(&server, "aino").await;
    update(
        &mut aino,
        "CREATE TABLE workspace.salainen AS SELECT n FROM conformed.secret LIMIT 3",
    )
    .await
    .unwrap();
    let own = aino
        .execute("SELECT * FROM workspace.salainen".to_owned(), None)
        .await
        .unwrap();
    for name in ["Aino", "isto", "raija"] {
        let mut other = signed_in(&server, name).await;
        assert!(tables(&mut other).await.is_empty(), "{name}");
        for sql in [
            "SELECT * FROM workspace.salainen",
            "EXPLAIN SELECT * FROM workspace.salainen",
            "DESCRIBE workspace.salainen",
            "SHOW COLUMNS FROM workspace.salainen",
        ] {
            let error = query(&mut other, sql).await.unwrap_err();
            assert_eq!(
                error.code(),
                Code::InvalidArgument,
                "{name}: {sql}: {error}"
            );
            assert!(error.message().contains("not found"), "{name}: {error}");
        }
        for sql in [
            "SELECT * FROM information_schema.tables WHERE table_schema = 'workspace'",
            "SELECT * FROM information_schema.columns WHERE table_name = 'salainen'",
        ] {
            assert_eq!(query(&mut other, sql).await.unwrap().rows(), 0, "{name}");
        }
        let error = fetch(&mut other, &own).await.unwrap_err();
        assert_eq!(error.code(), Code::PermissionDenied, "{name}: {error}");
        for sql in [
            "DROP TABLE workspace.salainen",
            "TRUNCATE TABLE workspace.salainen",
        ] {
            let error = update(&mut other, sql).await.unwrap_err();
            let wanted = match name {
                "raija" => Code::PermissionDenied,
                _ => Code::NotFound,
            };
            assert_eq!(error.code(), wanted, "{name}: {sql}: {error}");
        }
        if name != "raija" {
            update(
                &mut other,
                "CREATE TABLE workspace.salainen AS SELECT 'mine' AS a",
            )
            .await
            .unwrap();
            let found = rows(&mut other, "SELECT * FROM workspace.salainen").await;
            assert_eq!(found, ["mine"], "{name}");
        }
    }
    assert_eq!(fetch(&mut aino, &own).await.unwrap().rows(), 3);
}

#[tokio::test]
async fn a_reader_has_no_workspace() {
    let server = Server::start().await;
    let mut client = server.guest().await;
    for sql in [
        "CREATE TABLE workspace.t (a INT)",
        "CREATE TABLE workspace.t AS SELECT * FROM conformed.secret",
        "INSERT INTO workspace.t VALUES (1)",
        "DROP TABLE IF EXISTS workspace.t",
    ] {
        let error = update(&mut client, sql).await.unwrap_err();
        assert_eq!(error.code(), Code::PermissionDenied, "{sql}: {error}");
        let error = query(&mut client, sql).await.unwrap_err();
        assert_eq!(error.code(), Code::PermissionDenied, "{sql}: {error}");
        let error = client.prepare(sql.to_owned(), None).await.map_err(status);
        assert_eq!(error.unwrap_err().code(), Code::PermissionDenied, "{sql}");
    }
    let error = upload(&mut client, "t", Mode::CREATE, &[numbers(0..3)]).await;
    assert_eq!(error.unwrap_err().code(), Code::PermissionDenied);
    let schemas = CommandGetDbSchemas {
        catalog: None,
        db_schema_filter_pattern: None,
    };
    let info = client.get_db_schemas(schemas).await.unwrap();
    let found = fetch(&mut client, &info).await.unwrap().text();
    assert!(
        !found.iter().any(|row| row.contains("workspace")),
        "{found:?}"
    );
    query(&mut client, "SET tietopohja.schema = 'workspace'")
        .await
        .unwrap();
    let error = query(&mut client, "SELECT 1").await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound, "{error}");
}

/// What to do when the table is not there, and when it is.
#[derive(Debug, Clone, Copy)]
struct Mode(TableNotExistOption, TableExistsOption);

impl Mode {
    const CREATE: Mode = Mode(TableNotExistOption::Create, TableExistsOption::Fail);
    const APPEND: Mode = Mode(TableNotExistOption::Fail, TableExistsOption::Append);
    const REPLACE: Mode = Mode(TableNotExistOption::Create, TableExistsOption::Replace);
    const CREATE_APPEND: Mode = Mode(TableNotExistOption::Create, TableExistsOption::Append);
}

fn ingest(table: &str, mode: Mode) -> CommandStatementIngest {
    CommandStatementIngest {
        table_definition_options: Some(TableDefinitionOptions {
            if_not_exist: mode.0.into(),
            if_exists: mode.1.into(),
        }),
        table: table.to_owned(),
        schema: None,
        catalog: None,
        temporary: false,
        transaction_id: None,
        options: HashMap::new(),
    }
}

async fn upload(
    client: &mut Client,
    table: &str,
    mode: Mode,
    batches: &[RecordBatch],
) -> Result<i64, Status> {
    upload_as(client, ingest(table, mode), batches).await
}

async fn upload_as(
    client: &mut Client,
    command: CommandStatementIngest,
    batches: &[RecordBatch],
) -> Result<i64, Status> {
    let batches: Vec<Result<RecordBatch, FlightError>> = batches.iter().cloned().map(Ok).collect();
    let uploaded = client.execute_ingest(command, stream::iter(batches)).await;
    uploaded.map_err(status)
}

fn numbers(values: std::ops::Range<i64>) -> RecordBatch {
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(values));
    RecordBatch::try_from_iter_with_nullable([("n", column, true)]).unwrap()
}

fn files(folder: &Path) -> usize {
    let Ok(workspaces) = std::fs::read_dir(folder.join("lake/workspace")) else {
        return 0;
    };
    let files =
        workspaces.flat_map(|workspace| std::fs::read_dir(workspace.unwrap().path()).unwrap());
    files
        .filter(|file| {
            let name = file.as_ref().unwrap().file_name();
            name.to_string_lossy().ends_with(".parquet")
        })
        .count()
}

#[tokio::test]
async fn an_upload_does_what_its_mode_says() {
    let server = analysts().await;
    let mut client = server.guest().await;
    let count = "SELECT count(*) FROM workspace.t";
    for (mode, rows_sent, wanted, there) in [
        (Mode::APPEND, 3, Err(Code::NotFound), None),
        (Mode::CREATE, 3, Ok(3), Some("3")),
        (Mode::CREATE, 3, Err(Code::InvalidArgument), Some("3")),
        (Mode::APPEND, 4, Ok(4), Some("7")),
        (Mode::CREATE_APPEND, 1, Ok(1), Some("8")),
        (Mode::REPLACE, 2, Ok(2), Some("2")),
        (Mode::APPEND, 0, Ok(0), Some("2")),
    ] {
        let batches = [numbers(0..rows_sent)];
        let uploaded = upload(&mut client, "t", mode, &batches).await;
        assert_eq!(uploaded.map_err(|error| error.code()), wanted, "{mode:?}");
        match there {
            None => assert!(tables(&mut client).await.is_empty()),
            Some(found) => assert_eq!(rows(&mut client, count).await, [found], "{mode:?}"),
        }
    }
    upload(
        &mut client,
        "u",
        Mode::CREATE_APPEND,
        &[numbers(0..5), numbers(5..9)],
    )
    .await
    .unwrap();
    upload(&mut client, "v", Mode::REPLACE, &[numbers(0..0)])
        .await
        .unwrap();
    assert_eq!(tables(&mut client).await, ["t", "u", "v"]);
    assert_eq!(
        rows(&mut client, "SELECT max(n) FROM workspace.u").await,
        ["8"]
    );
}

#[tokio::test]
async fn an_upload_elsewhere_or_otherwise_is_refused() {
    let server = analysts().await;
    let mut client = server.guest().await;
    let plain = || ingest("t", Mode::CREATE);
    for (command, good) in [
        (
            CommandStatementIngest {
                schema: Some("published".to_owned()),
                ..plain()
            },
            false,
        ),
        (
            CommandStatementIngest {
                schema: Some("Workspace".to_owned()),
                ..plain()
            },
            false,
        ),
        (
            CommandStatementIngest {
                catalog: Some("other".to_owned()),
                ..plain()
            },
            false,
        ),
        (
            CommandStatementIngest {
                temporary: true,
                ..plain()
            },
            false,
        ),
        (
            CommandStatementIngest {
                transaction_id: Some(vec![1].into()),
                ..plain()
            },
            false,
        ),
        (
            CommandStatementIngest {
                table_definition_options: None,
                ..plain()
            },
            false,
        ),
        (
            CommandStatementIngest {
                table: "../t".to_owned(),
                ..plain()
            },
            false,
        ),
        (
            CommandStatementIngest {
                table: String::new(),
                ..plain()
            },
            false,
        ),
        (
            CommandStatementIngest {
                schema: Some("workspace".to_owned()),
                catalog: Some("tietopohja".to_owned()),
                ..plain()
            },
            true,
        ),
    ] {
        let label = format!("{command:?}");
        match upload_as(&mut client, command, &[numbers(0..3)]).await {
            Ok(rows) => assert!(good && rows == 3, "{label}"),
            Err(error) => {
                assert!(!good, "{label}: {error}");
                assert_eq!(error.code(), Code::InvalidArgument, "{label}: {error}");
            }
        }
    }
}

#[tokio::test]
async fn what_was_uploaded_is_what_is_read() {
    let server = analysts().await;
    let mut client = server.guest().await;
    let coded: DictionaryArray<Int32Type> = [Some("a"), None, Some("b"), Some("a")]
        .into_iter()
        .collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("n", Arc::new(Int32Array::from(vec![3, 1, 2, 0]))),
        (
            "small",
            Arc::new(UInt16Array::from(vec![
                Some(65_535),
                None,
                Some(0),
                Some(1),
            ])),
        ),
        (
            "flag",
            Arc::new(BooleanArray::from(vec![
                Some(true),
                None,
                Some(false),
                None,
            ])),
        ),
        (
            "ratio",
            Arc::new(Float64Array::from(vec![
                Some(0.1),
                Some(-0.0),
                None,
                Some(1e300),
            ])),
        ),
        ("coded", Arc::new(coded)),
        (
            "view",
            Arc::new(StringViewArray::from(vec![
                Some("Äänekoski – a longer text"),
                None,
                Some(""),
                Some("🙂"),
            ])),
        ),
        (
            "large",
            Arc::new(LargeStringArray::from(vec![
                Some("x"),
                None,
                Some("y"),
                Some(""),
            ])),
        ),
        (
            "bytes",
            Arc::new(BinaryArray::from(vec![
                Some(&b"\x00\xff"[..]),
                None,
                Some(b""),
                Some(b"z"),
            ])),
        ),
        (
            "day",
            Arc::new(Date32Array::from(vec![
                Some(19_782),
                None,
                Some(-1),
                Some(0),
            ])),
        ),
        (
            "amount",
            Arc::new(
                Decimal128Array::from(vec![Some(12_345), None, Some(-1), Some(0)])
                    .with_precision_and_scale(9, 2)
                    .unwrap(),
            ),
        ),
        (
            "Moment of it",
            Arc::new(TimestampNanosecondArray::from(vec![
                Some(1_700_000_000_123_456_000),
                None,
                Some(0),
                Some(-1_000),
            ])),
        ),
    ];
    let sent = RecordBatch::try_from_iter_with_nullable(
        columns
            .into_iter()
            .map(|(name, column)| (name, column, true)),
    )
    .unwrap();
    let halves = [sent.slice(0, 1), sent.slice(1, 3)];
    assert_eq!(
        upload(&mut client, "law", Mode::CREATE, &halves)
            .await
            .unwrap(),
        4
    );
    let found = query(&mut client, "SELECT * FROM workspace.law ORDER BY n DESC")
        .await
        .unwrap();
    let found = concat_batches(&found.schema, &found.batches).unwrap();
    // The order by `n` in which the rows were sent: 3, 1, 2, 0.
    let order = arrow::array::UInt32Array::from(vec![0, 2, 1, 3]);
    for (field, column) in sent.schema().fields().iter().zip(sent.columns()) {
        let read = found.column_by_name(field.name()).unwrap();
        let read = arrow::compute::take(read, &order, None).unwrap();
        let sent = cast(column, read.data_type()).unwrap();
        assert_eq!(read.to_data(), sent.to_data(), "{}", field.name());
        let plain = !matches!(
            read.data_type(),
            DataType::Utf8View | DataType::LargeUtf8 | DataType::Dictionary(..)
        );
        assert!(plain, "{}", field.name());
    }
}

#[tokio::test]
async fn a_failed_upload_leaves_no_table_and_no_files() {
    let clock = clock();
    let (folder, engine) = engine(clock.clone()).await;
    let server = Server::on(engine, clock, |options| {
        options.anonymous_role = Role::Analyst;
        options.workspace_bytes = Some(100_000);
    })
    .await
    .unwrap();
    let mut client = server.guest().await;
    let wide = |rows: i64| -> RecordBatch {
        let values = (0..rows).map(|n| n.wrapping_mul(-7_046_029_254_386_353_131));
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(values));
        RecordBatch::try_from_iter_with_nullable([("n", column, true)]).unwrap()
    };
    let list: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([
        Some(vec![Some(1)]),
        None,
    ]));
    let lists = RecordBatch::try_from_iter([("some list", list)]).unwrap();
    let other: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
    let texts = RecordBatch::try_from_iter([("n", Arc::clone(&other))]).unwrap();
    let unknown = RecordBatch::try_from_iter([("m", other)]).unwrap();
    upload(&mut client, "kept", Mode::CREATE, &[numbers(0..3)])
        .await
        .unwrap();
    for (table, mode, batch, code, says) in [
        (
            "t",
            Mode::CREATE,
            &wide(50_000),
            Code::ResourceExhausted,
            "room",
        ),
        (
            "t",
            Mode::CREATE,
            &lists,
            Code::InvalidArgument,
            "some list",
        ),
        ("kept", Mode::APPEND, &texts, Code::InvalidArgument, "`n`"),
        ("kept", Mode::APPEND, &unknown, Code::InvalidArgument, "`m`"),
        (
            "kept",
            Mode::REPLACE,
            &wide(50_000),
            Code::ResourceExhausted,
            "room",
        ),
    ] {
        let error = upload(&mut client, table, mode, std::slice::from_ref(batch)).await;
        let error = error.unwrap_err();
        assert_eq!(error.code(), code, "{table}: {error}");
        assert!(error.message().contains(says), "{table}: {error}");
        assert_eq!(tables(&mut client).await, ["kept"]);
        assert_eq!(files(folder.path()), 1, "{error}");
    }
    // By statements it is the same.
    let sql = "CREATE TABLE workspace.t AS SELECT random() AS r FROM generate_series(1, 50000)";
    let error = update(&mut client, sql).await.unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted, "{error}");
    assert_eq!(files(folder.path()), 1);
    // What makes room is allowed, and there is room again.
    update(&mut client, "DROP TABLE workspace.kept")
        .await
        .unwrap();
    upload(&mut client, "t", Mode::CREATE, &[wide(5_000)])
        .await
        .unwrap();
}

#[tokio::test]
async fn an_upload_that_ends_early_leaves_nothing() {
    let clock = clock();
    let (folder, engine) = engine(clock.clone()).await;
    let server = Server::on(engine, clock, |options| {
        options.anonymous_role = Role::Analyst;
    })
    .await
    .unwrap();
    let mut client = server.guest().await;
    let (sender, receiver) = futures::channel::mpsc::unbounded();
    sender.unbounded_send(Ok(numbers(0..1_000))).unwrap();
    let mut uploader = client.clone();
    let uploading = tokio::spawn(async move {
        let command = ingest("t", Mode::CREATE);
        uploader.execute_ingest(command, receiver).await
    });
    // It runs when the server says so, and not after some time.
    let running =
        "SELECT count(*) FROM meta.query WHERE state = 'running' AND statement LIKE 'INSERT%'";
    while rows(&mut client, running).await != ["1"] {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(
        tables(&mut client).await.is_empty(),
        "nothing is seen before the end"
    );
    uploading.abort();
    while rows(&mut client, running).await != ["0"] {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(sender);
    assert!(tables(&mut client).await.is_empty());
    assert_eq!(files(folder.path()), 0);
    let ended = "SELECT DISTINCT state FROM meta.query WHERE statement LIKE 'INSERT%'";
    assert_eq!(rows(&mut client, ended).await, ["cancelled"]);
}

#[tokio::test]
async fn a_ticket_sees_the_table_that_it_was_made_for() {
    let server = analysts().await;
    let mut client = server.guest().await;
    update(&mut client, "CREATE TABLE workspace.t AS SELECT 1 AS a")
        .await
        .unwrap();
    let before = client
        .execute("SELECT a FROM workspace.t".to_owned(), None)
        .await
        .unwrap();
    let unused = client
        .execute("SELECT a FROM workspace.t".to_owned(), None)
        .await
        .unwrap();
    update(&mut client, "INSERT INTO workspace.t VALUES (2)")
        .await
        .unwrap();
    update(&mut client, "UPDATE workspace.t SET a = a + 10")
        .await
        .unwrap();
    for _ in 0..2 {
        assert_eq!(
            fetch(&mut client, &before).await.unwrap().text(),
            ["a", "1"]
        );
    }
    for sql in [
        "DROP TABLE workspace.t",
        "CREATE TABLE workspace.t AS SELECT 'other' AS a",
    ] {
        update(&mut client, sql).await.unwrap();
        for ticket in [&before, &unused] {
            let error = fetch(&mut client, ticket).await.unwrap_err();
            assert_eq!(error.code(), Code::NotFound, "{sql}: {error}");
            assert!(error.message().contains("workspace.t"), "{error}");
        }
    }
}

#[tokio::test]
async fn what_the_server_says_it_can_is_what_it_can() {
    for (role, writes) in [(Role::Reader, false), (Role::Analyst, true)] {
        let server = Server::start_with(|options| options.anonymous_role = role).await;
        let mut client = server.guest().await;
        let ids = vec![
            SqlInfo::FlightSqlServerReadOnly,
            SqlInfo::FlightSqlServerBulkIngestion,
            SqlInfo::SqlDdlTable,
        ];
        let info = client.get_sql_info(ids).await.unwrap();
        let told = fetch(&mut client, &info).await.unwrap().text();
        let says = |id: SqlInfo| {
            let start = format!("{}|", id as i32);
            let line = told.iter().find(|line| line.starts_with(&start)).unwrap();
            line.contains("true")
        };
        assert_eq!(says(SqlInfo::FlightSqlServerReadOnly), !writes);
        assert_eq!(says(SqlInfo::FlightSqlServerBulkIngestion), writes);
        assert_eq!(says(SqlInfo::SqlDdlTable), writes);
        let made = update(&mut client, "CREATE TABLE workspace.t AS SELECT 1 AS a").await;
        assert_eq!(made.is_ok(), writes);
        let sent = upload(&mut client, "u", Mode::CREATE, &[numbers(0..2)]).await;
        assert_eq!(sent.is_ok(), writes);
    }
}

#[tokio::test]
async fn own_tables_are_listed_at_once_in_every_way() {
    let server = analysts().await;
    let mut client = server.guest().await;
    assert!(tables(&mut client).await.is_empty());
    update(&mut client, "CREATE TABLE workspace.t (a INT, b VARCHAR)")
        .await
        .unwrap();
    assert_eq!(tables(&mut client).await, ["t"]);
    for (sql, wanted) in [
        (
            "SELECT table_name, is_insertable_into FROM information_schema.tables \
             WHERE table_schema = 'workspace'",
            &["t|YES"][..],
        ),
        (
            "SELECT column_name, data_type, is_updatable FROM information_schema.columns \
             WHERE table_schema = 'workspace' ORDER BY ordinal_position",
            &["a|INTEGER|YES", "b|VARCHAR|YES"],
        ),
        (
            "SELECT schema_name FROM information_schema.schemata WHERE schema_name = 'workspace'",
            &["workspace"],
        ),
    ] {
        let found = rows(&mut client, sql).await;
        assert_eq!(found, wanted, "{sql}");
    }
    let shown = rows(&mut client, "SHOW TABLES").await;
    assert!(
        shown.iter().any(|row| row.contains("workspace|t")),
        "{shown:?}"
    );
    query(&mut client, "SET tietopohja.schema = 'workspace'")
        .await
        .unwrap();
    update(&mut client, "INSERT INTO t VALUES (1, 'x')")
        .await
        .unwrap();
    assert_eq!(rows(&mut client, "SELECT * FROM t").await, ["1|x"]);
    query(&mut client, "DROP TABLE t").await.unwrap();
    assert!(tables(&mut client).await.is_empty());
}

#[tokio::test]
async fn no_view_of_the_warehouse_reads_a_workspace() {
    let folder = tempfile::tempdir().unwrap();
    let views = folder.path().join("sql/reference");
    std::fs::create_dir_all(&views).unwrap();
    let text = "-- grain: one row\n-- key: a\nSELECT a FROM workspace.t\n";
    std::fs::write(views.join("peek.sql"), text).unwrap();
    let clock = clock();
    let lake = Arc::new(Lake::open(&folder.path().join("lake"), clock.clone()).unwrap());
    let options = EngineOptions::new(folder.path(), lake, clock.clone());
    let engine = Engine::open(options).await.unwrap();
    let server = Server::on(engine, clock, |options| {
        options.anonymous_role = Role::Analyst;
    })
    .await
    .unwrap();
    let mut client = server.guest().await;
    update(&mut client, "CREATE TABLE workspace.t AS SELECT 1 AS a")
        .await
        .unwrap();
    assert_eq!(rows(&mut client, "SELECT a FROM workspace.t").await, ["1"]);
    let error = query(&mut client, "SELECT * FROM reference.peek")
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
    assert!(error.message().contains("not found"), "{error}");
}

#[tokio::test]
async fn two_changes_at_once_are_both_made_or_one_is_told() {
    let server = analysts().await;
    let mut client = server.guest().await;
    update(&mut client, "CREATE TABLE workspace.t (a BIGINT)")
        .await
        .unwrap();
    let inserts = (0..8).map(|n| {
        let mut client = client.clone();
        async move {
            update(
                &mut client,
                &format!("INSERT INTO workspace.t VALUES ({n})"),
            )
            .await
        }
    });
    let all: Vec<_> = stream::iter(inserts).buffer_unordered(4).collect().await;
    assert!(
        all.iter().all(|changed| matches!(changed, Ok(1))),
        "{all:?}"
    );
    let found = rows(&mut client, "SELECT count(DISTINCT a) FROM workspace.t").await;
    assert_eq!(found, ["8"]);
}
