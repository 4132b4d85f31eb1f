//! The statements of `testdata/cases`: what is written there, what the engine gives in process, and
//! what a client gets over the wire, unprepared and prepared, must be the same.
//!
//! The files have the form of sqllogictest: `query TYPES [rowsort]` or `statement error CODE`, the
//! statement, and after `----` the rows or the message, of which `…` stands for the rest. A case is a new
//! record; with `BLESS=1` its result is written. Read the difference: blessing records mistakes too.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::TryStreamExt;
use tietopohja_engine::{Engine, EngineError, Session};
use tietopohja_lake::{CommitInfo, TableName};
use tietopohja_policy::{Principal, Role};
use tonic::{Code, Status};

use crate::warehouse::{
    Answer, Client, Server, clock, engine_with, fetch, query, schema_of, status,
};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/cases")
}

/// A record of a file, or lines between records that stay as they are.
enum Item {
    Between(String),
    Record {
        head: String,
        sql: String,
        expected: Vec<String>,
    },
}

/// The items of a file: records end with an empty line.
fn parse(text: &str) -> Vec<Item> {
    let mut items = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if !line.starts_with("query ") && !line.starts_with("statement ") {
            assert!(
                line.is_empty() || line.starts_with('#'),
                "not a record: {line}"
            );
            items.push(Item::Between(line.to_owned()));
            continue;
        }
        let record: Vec<_> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
        let parts: Vec<_> = record.splitn(2, |line| *line == "----").collect();
        items.push(Item::Record {
            head: line.to_owned(),
            sql: parts[0].join("\n"),
            expected: parts.get(1).map_or(Vec::new(), |lines| {
                lines.iter().map(|line| (*line).to_owned()).collect()
            }),
        });
    }
    items
}

/// What came of a statement: columns and rows, or a code and its message.
type Outcome = Result<Answer, (Code, String)>;

fn refusal(status: &Status) -> (Code, String) {
    (status.code(), told(status.message()))
}

/// A message without its guess at what was meant, which is another one each time.
fn told(message: &str) -> String {
    let (told, _) = message.split_once(" Did you mean").unwrap_or((message, ""));
    told.to_owned()
}

/// In process, in the types of the wire.
async fn in_process(session: &Session, sql: &str) -> Outcome {
    let run = async {
        let prepared = session.prepare(sql).await?;
        let stream = session.execute(&prepared, Vec::new()).await?;
        let batches: Vec<RecordBatch> = stream.try_collect().await?;
        Ok((Arc::clone(prepared.schema()), batches))
    };
    let (planned, batches) = run.await.map_err(|error: EngineError| {
        let code = match error {
            EngineError::UserSql { .. } => Code::InvalidArgument,
            EngineError::Denied { .. } => Code::PermissionDenied,
            EngineError::Resource { .. } => Code::ResourceExhausted,
            _ => Code::Unknown,
        };
        (code, told(&error.to_string()))
    })?;
    let fields: Vec<_> = planned.fields().iter().map(wire_field).collect();
    let schema = Arc::new(Schema::new(fields));
    let batches = batches.iter().map(|batch| {
        let columns = batch.columns().iter().zip(schema.fields());
        let columns = columns.map(|(column, field)| cast(column, field.data_type()).unwrap());
        RecordBatch::try_new(Arc::clone(&schema), columns.collect()).unwrap()
    });
    let batches = batches.collect();
    Ok(Answer { schema, batches })
}

/// Everything may be null, nothing has metadata, a moment has no zone and no nanoseconds, a decimal has
/// 128 bits.
fn wire_field(field: &FieldRef) -> FieldRef {
    let data_type = match field.data_type() {
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            DataType::Timestamp(TimeUnit::Microsecond, None)
        }
        DataType::Timestamp(unit, _) => DataType::Timestamp(*unit, None),
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            DataType::Decimal128(*precision, *scale)
        }
        DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::List(item) | DataType::FixedSizeList(item, _) => DataType::List(wire_field(item)),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(wire_field).collect()),
        other => other.clone(),
    };
    Arc::new(Field::new(field.name(), data_type, true))
}

async fn unprepared(client: &mut Client, sql: &str) -> Outcome {
    query(client, sql).await.map_err(|error| refusal(&error))
}

async fn prepared(client: &mut Client, sql: &str) -> Outcome {
    let run = async {
        let mut statement = client.prepare(sql.to_owned(), None).await.map_err(status)?;
        let told = statement.dataset_schema().unwrap().clone();
        let info = statement.execute().await.map_err(status);
        statement.close().await.map_err(status)?;
        let info = info?;
        assert_eq!(told, schema_of(&info), "{sql}: told when preparing");
        Ok(info)
    };
    let info = run.await.map_err(|error: Status| refusal(&error))?;
    let answer = fetch(client, &info).await;
    answer.map_err(|error| refusal(&error))
}

/// The letter of a column in the head of a record.
fn letter(field: &FieldRef) -> char {
    match field.data_type() {
        DataType::Boolean => 'B',
        DataType::Date32 => 'D',
        DataType::Timestamp(_, _) => 'P',
        DataType::Utf8 => 'T',
        number if number.is_integer() => 'I',
        number if number.is_numeric() => 'R',
        _ => '?',
    }
}

fn letters(schema: &SchemaRef) -> String {
    schema.fields().iter().map(letter).collect()
}

/// Each row as a line: values between spaces, `(empty)` for a text without letters.
fn lines(answer: &Answer, sorted: bool) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let mut lines = Vec::new();
    for batch in &answer.batches {
        let columns = batch.columns().iter();
        let formatters: Vec<_> = columns
            .map(|column| ArrayFormatter::try_new(column.as_ref(), &options).unwrap())
            .collect();
        for row in 0..batch.num_rows() {
            let values = formatters.iter().map(|column| {
                let value = column.value(row).to_string();
                if value.is_empty() {
                    "(empty)".to_owned()
                } else {
                    value.replace('\n', "\\n")
                }
            });
            lines.push(values.collect::<Vec<_>>().join(" "));
        }
    }
    if sorted {
        lines.sort();
    }
    lines
}

/// The head and result that a record should have; or how the three ways differ.
async fn run(
    session: &Session,
    client: &mut Client,
    head: &str,
    sql: &str,
) -> Result<(String, Vec<String>), String> {
    let sorted = head.ends_with(" rowsort");
    let here = in_process(session, sql).await;
    let there = [unprepared(client, sql).await, prepared(client, sql).await];
    for (way, there) in ["unprepared", "prepared"].into_iter().zip(&there) {
        if let Some(difference) = difference(&here, there, sorted) {
            return Err(format!("in process and {way} differ: {difference}"));
        }
    }
    Ok(match here {
        Ok(answer) => {
            let sort = if sorted { " rowsort" } else { "" };
            let head = format!("query {}{sort}", letters(&answer.schema));
            (head, lines(&answer, sorted))
        }
        Err((code, message)) => {
            let message = message.replace('\n', "\\n");
            (format!("statement error {code:?}"), vec![message])
        }
    })
}

/// How two outcomes differ.
fn difference(here: &Outcome, there: &Outcome, sorted: bool) -> Option<String> {
    let whole = |answer: &Answer| concat_batches(&answer.schema, &answer.batches).unwrap();
    let same = match (here, there) {
        (Ok(here), Ok(there)) => {
            here.schema == there.schema
                && lines(here, sorted) == lines(there, sorted)
                && (sorted || whole(here) == whole(there))
        }
        (Err(here), Err(there)) => here == there,
        _ => false,
    };
    (!same).then(|| format!("{here:?} and {there:?}"))
}

/// A message that ends with an ellipsis is told by its beginning.
fn same(expected: &[String], found: &[String], is_error: bool) -> bool {
    match (expected, found) {
        ([expected], [found]) if is_error && expected.ends_with('…') => {
            found.starts_with(expected.trim_end_matches('…'))
        }
        _ => expected == found,
    }
}

/// The rows of `reference.visit` at rest too, so that files are read.
async fn store_visits(engine: &Arc<Engine>, lake: &tietopohja_lake::Lake, reader: &Principal) {
    let session = engine.session(reader).await.unwrap();
    let sql = "SELECT * FROM reference.visit ORDER BY visit";
    let rows = session.collect(sql).await.unwrap();
    let name = TableName::new("reference", "visit_stored").unwrap();
    let schema = rows[0].schema();
    lake.ensure_table(&name, schema, &[]).await.unwrap();
    lake.append(&name, rows, CommitInfo::default())
        .await
        .unwrap();
}

#[tokio::test]
async fn every_statement_gives_the_same_in_process_and_over_the_wire() {
    let clock = clock();
    let mut lake = None;
    let (_folder, engine) = engine_with(Arc::clone(&clock), |options| {
        lake = Some(Arc::clone(&options.lake));
        for relation in fs::read_dir(folder().join("sql/reference")).unwrap() {
            let relation = relation.unwrap();
            let to = options
                .root
                .join("sql/reference")
                .join(relation.file_name());
            fs::copy(relation.path(), to).unwrap();
        }
    })
    .await;
    let reader = Principal::new("anonymous", Role::Reader).unwrap();
    store_visits(&engine, &lake.unwrap(), &reader).await;
    let server = Server::on(Arc::clone(&engine), clock, |_| ())
        .await
        .unwrap();
    let mut client = server.guest().await;
    let session = engine.session(&reader).await.unwrap();

    let mut files: Vec<_> = fs::read_dir(folder())
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "slt"));
    files.sort();
    let bless = std::env::var_os("BLESS").is_some();
    let (mut records, mut wrong, mut differ) = (0, String::new(), String::new());
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        let mut written = String::new();
        for item in parse(&text) {
            let (head, sql, expected) = match item {
                Item::Between(line) => {
                    writeln!(written, "{line}").unwrap();
                    continue;
                }
                Item::Record {
                    head,
                    sql,
                    expected,
                } => (head, sql, expected),
            };
            records += 1;
            let name = path.file_name().unwrap().to_string_lossy();
            let (found_head, found) = match run(&session, &mut client, &head, &sql).await {
                Ok(found) => found,
                Err(difference) => {
                    writeln!(differ, "{name}: {sql}\n  {difference}").unwrap();
                    writeln!(written, "{head}\n{sql}\n----\n").unwrap();
                    continue;
                }
            };
            let is_error = found_head.starts_with("statement");
            let right = head == found_head && same(&expected, &found, is_error);
            if !right {
                writeln!(
                    wrong,
                    "{name}: {sql}\n  expected {head}\n    {}\n  found {found_head}\n    {}",
                    expected.join("\n    "),
                    found.join("\n    ")
                )
                .unwrap();
            }
            let (head, lines) = if right {
                (head, expected)
            } else {
                (found_head, found)
            };
            writeln!(written, "{head}\n{sql}\n----").unwrap();
            for line in lines {
                writeln!(written, "{line}").unwrap();
            }
            writeln!(written).unwrap();
        }
        if bless {
            fs::write(&path, format!("{}\n", written.trim_end())).unwrap();
        }
    }
    assert!(records >= 200, "{records} records");
    assert!(differ.is_empty(), "{differ}");
    assert!(
        bless || wrong.is_empty(),
        "{wrong}set BLESS=1 to write the results, and read them"
    );
}
