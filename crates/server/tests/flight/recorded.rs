//! Clients that cannot be installed here, as the sequences of calls that they make.
//!
//! A file of `testdata/clients/recorded` is one client: a line with `>` is a call, the line with `<`
//! below it is what must come back. The words are explained in the README beside the files. When an
//! answer changes, the failure prints the file as it would have to be: read the difference first.

use std::path::{Path, PathBuf};

use arrow::datatypes::{DataType, Schema};
use arrow_flight::FlightInfo;
use arrow_flight::error::FlightError;
use arrow_flight::sql::{
    CommandGetCrossReference, CommandGetDbSchemas, CommandGetExportedKeys, CommandGetImportedKeys,
    CommandGetPrimaryKeys, CommandGetTables, CommandGetXdbcTypeInfo, SqlInfo,
};
use tonic::{Code, Status};

use crate::warehouse::{Answer, Client, Server, fetch, query, status};

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/clients/recorded");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "calls"))
        .collect();
    files.sort();
    files
}

#[tokio::test]
async fn recorded_clients_get_what_they_got() {
    let server = Server::start().await;
    let files = files();
    assert!(files.len() >= 5);
    let mut different = String::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let mut client = server.guest().await;
        let mut answer = None;
        let mut now = Vec::new();
        let mut calls = 0;
        for line in text.lines() {
            if let Some(call) = line.strip_prefix("> ") {
                assert!(
                    answer.is_none(),
                    "{}: no answer before {line}",
                    file.display()
                );
                answer = Some(told(&call_of(&mut client, call).await));
                calls += 1;
                now.push(line.to_owned());
            } else if let Some(wanted) = line.strip_prefix("< ") {
                let answer = answer.take().expect("a call before its answer");
                let fits = fits(&answer, wanted);
                now.push(if fits {
                    line.to_owned()
                } else {
                    format!("< {answer}")
                });
            } else {
                now.push(line.to_owned());
            }
        }
        assert!(answer.is_none() && calls > 0, "{}", file.display());
        let now = format!("{}\n", now.join("\n"));
        if text != now {
            let name = file.file_name().unwrap().to_string_lossy();
            different.push_str(&format!("{name} would be:\n{now}"));
        }
    }
    assert!(different.is_empty(), "{different}");
}

/// `some rows` stands for any number but none, `…` for the rest of a message.
fn fits(answer: &str, wanted: &str) -> bool {
    if let Some(columns) = wanted.strip_prefix("ok, some rows: ") {
        let rest = answer.strip_prefix("ok, ");
        return rest.is_some_and(|rest| {
            !rest.starts_with("0 ") && rest.split_once("rows: ").map(|(_, c)| c) == Some(columns)
        });
    }
    match wanted.strip_suffix('…') {
        Some(beginning) => answer.starts_with(beginning),
        None => answer == wanted,
    }
}

fn told(answer: &Result<(usize, Schema), Status>) -> String {
    match answer {
        Err(status) => format!("{}: {}", word(status.code()), status.message()),
        Ok((rows, schema)) => {
            let columns = schema.fields().iter().map(|field| {
                let mark = if field.is_nullable() { "" } else { "!" };
                format!("{} {}{mark}", field.name(), short(field.data_type()))
            });
            let columns: Vec<String> = columns.collect();
            format!("ok, {rows} rows: {}", columns.join(", "))
        }
    }
}

fn short(data_type: &DataType) -> String {
    match data_type {
        DataType::Union(_, _) => "Union".to_owned(),
        other => other.to_string(),
    }
}

fn word(code: Code) -> String {
    format!("{code:?}")
}

/// The words after the verb: `key=value`, or words alone.
fn option<'a>(words: &[&'a str], name: &str) -> Option<&'a str> {
    words
        .iter()
        .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

async fn call_of(client: &mut Client, call: &str) -> Result<(usize, Schema), Status> {
    let (verb, rest) = call.split_once(' ').unwrap_or((call, ""));
    match verb {
        "query" => query(client, rest).await.map(|answer| whole(&answer)),
        "prepare" => prepared(client, rest).await.map(|answer| whole(&answer)),
        _ => {
            let info = described(client, verb, rest).await.map_err(status)?;
            fetch(client, &info).await.map(|answer| whole(&answer))
        }
    }
}

fn whole(answer: &Answer) -> (usize, Schema) {
    (answer.rows(), answer.schema.as_ref().clone())
}

/// Prepares, looks at the columns, runs and closes, as drivers do.
async fn prepared(client: &mut Client, sql: &str) -> Result<Answer, Status> {
    let mut statement = client.prepare(sql.to_owned(), None).await.map_err(status)?;
    let planned = statement.dataset_schema().map_err(status)?.clone();
    let info = statement.execute().await.map_err(status)?;
    let answer = fetch(client, &info).await?;
    assert_eq!(planned, *answer.schema, "{sql}");
    statement.close().await.map_err(status)?;
    Ok(answer)
}

async fn described(client: &mut Client, verb: &str, rest: &str) -> Result<FlightInfo, FlightError> {
    let words: Vec<&str> = rest.split_whitespace().collect();
    let owned = |name: &str| option(&words, name).map(str::to_owned);
    let table = || owned("table").unwrap_or_default();
    match verb {
        "info" => {
            let ids = words.iter().map(|id| {
                let id: i32 = id.parse().expect("a number");
                SqlInfo::try_from(id).expect("a known id")
            });
            let ids: Vec<SqlInfo> = ids.collect();
            client.get_sql_info(ids).await
        }
        "catalogs" => client.get_catalogs().await,
        "schemas" => {
            let command = CommandGetDbSchemas {
                catalog: owned("catalog"),
                db_schema_filter_pattern: owned("schema"),
            };
            client.get_db_schemas(command).await
        }
        "tables" => {
            let kinds = owned("types").unwrap_or_default().replace('_', " ");
            let command = CommandGetTables {
                catalog: owned("catalog"),
                db_schema_filter_pattern: owned("schema"),
                table_name_filter_pattern: owned("table"),
                table_types: kinds
                    .split('|')
                    .filter(|kind| !kind.is_empty())
                    .map(str::to_owned)
                    .collect(),
                include_schema: words.contains(&"columns"),
            };
            client.get_tables(command).await
        }
        "types" => client.get_table_types().await,
        "xdbc" => {
            let data_type = words.first().map(|code| code.parse().expect("a number"));
            client
                .get_xdbc_type_info(CommandGetXdbcTypeInfo { data_type })
                .await
        }
        "primary" => {
            let command = CommandGetPrimaryKeys {
                catalog: owned("catalog"),
                db_schema: owned("schema"),
                table: table(),
            };
            client.get_primary_keys(command).await
        }
        "imported" => {
            let command = CommandGetImportedKeys {
                catalog: owned("catalog"),
                db_schema: owned("schema"),
                table: table(),
            };
            client.get_imported_keys(command).await
        }
        "exported" => {
            let command = CommandGetExportedKeys {
                catalog: owned("catalog"),
                db_schema: owned("schema"),
                table: table(),
            };
            client.get_exported_keys(command).await
        }
        "cross" => {
            let command = CommandGetCrossReference {
                pk_table: owned("key").unwrap_or_default(),
                fk_table: table(),
                ..CommandGetCrossReference::default()
            };
            client.get_cross_reference(command).await
        }
        other => panic!("`{other}` is no call"),
    }
}
