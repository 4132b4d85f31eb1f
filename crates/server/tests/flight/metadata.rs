//! What tools ask when they connect: catalogs, tables, types, keys, and what the server can do.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, UInt32Type};
use arrow_flight::IpcMessage;
use arrow_flight::sql::{
    CommandGetCrossReference, CommandGetDbSchemas, CommandGetExportedKeys, CommandGetImportedKeys,
    CommandGetPrimaryKeys, CommandGetTables, CommandGetXdbcTypeInfo, SqlInfo,
};
use bytes::Bytes;
use tietopohja_policy::Role;

use crate::warehouse::{Answer, Client, Server, fetch, query};

fn texts(batch: &RecordBatch, column: usize) -> Vec<String> {
    let values = batch.column(column).as_string::<i32>();
    values
        .iter()
        .map(|value| value.unwrap_or_default().to_owned())
        .collect()
}

fn column(answer: &Answer, column: usize) -> Vec<String> {
    answer
        .batches
        .iter()
        .flat_map(|batch| texts(batch, column))
        .collect()
}

async fn tables(client: &mut Client, command: CommandGetTables) -> Answer {
    let info = client.get_tables(command).await.unwrap();
    fetch(client, &info).await.unwrap()
}

#[tokio::test]
async fn catalogs_schemas_and_table_types_are_listed() {
    let server = Server::start().await;
    let mut client = server.guest().await;
    let info = client.get_catalogs().await.unwrap();
    assert_eq!(
        column(&fetch(&mut client, &info).await.unwrap(), 0),
        ["tietopohja"]
    );

    let info = client
        .get_db_schemas(CommandGetDbSchemas::default())
        .await
        .unwrap();
    let schemas = column(&fetch(&mut client, &info).await.unwrap(), 1);
    assert!(schemas.contains(&"reference".to_owned()), "{schemas:?}");
    assert!(schemas.contains(&"published".to_owned()), "{schemas:?}");
    assert!(
        schemas.contains(&"information_schema".to_owned()),
        "{schemas:?}"
    );
    assert!(
        !schemas.contains(&"raw".to_owned()),
        "a reader has no raw schema: {schemas:?}"
    );
    assert!(schemas.is_sorted());

    let info = client.get_table_types().await.unwrap();
    let types = column(&fetch(&mut client, &info).await.unwrap(), 0);
    assert_eq!(types, ["SYSTEM TABLE", "TABLE", "VIEW"]);
}

#[tokio::test]
async fn tables_are_those_the_visitor_may_name() {
    let server = Server::start().await;
    let analyst = server.sibling(Role::Analyst).await;
    let names = |answer: &Answer| {
        let pairs = column(answer, 1).into_iter().zip(column(answer, 2));
        pairs
            .map(|(schema, name)| format!("{schema}.{name}"))
            .collect::<Vec<_>>()
    };
    let all = CommandGetTables::default();
    let reader = names(&tables(&mut server.guest().await, all.clone()).await);
    let analyst = names(&tables(&mut analyst.guest().await, all).await);
    for name in [
        "reference.number",
        "reference.kind",
        "information_schema.columns",
    ] {
        assert!(reader.contains(&name.to_owned()), "{name} in {reader:?}");
    }
    assert!(!reader.contains(&"conformed.secret".to_owned()));
    assert!(analyst.contains(&"conformed.secret".to_owned()));
}

#[tokio::test]
async fn the_list_of_tables_agrees_with_information_schema() {
    let server = Server::start().await;
    let mut client = server.guest().await;
    let listed = tables(&mut client, CommandGetTables::default()).await;
    let mut listed: Vec<_> = column(&listed, 1)
        .into_iter()
        .zip(column(&listed, 2))
        .collect();
    let sql = "SELECT table_schema, table_name FROM information_schema.tables";
    let told = query(&mut client, sql).await.unwrap();
    let mut told: Vec<_> = column(&told, 0).into_iter().zip(column(&told, 1)).collect();
    listed.sort();
    told.sort();
    assert_eq!(listed, told);
}

#[tokio::test]
async fn a_table_is_described_with_sql_types() {
    let server = Server::start().await;
    let mut client = server.guest().await;
    let command = CommandGetTables {
        db_schema_filter_pattern: Some("reference".into()),
        table_name_filter_pattern: Some("kind".into()),
        include_schema: true,
        ..CommandGetTables::default()
    };
    let answer = tables(&mut client, command).await;
    assert_eq!(column(&answer, 0), ["tietopohja"]);
    assert_eq!(column(&answer, 3), ["VIEW"]);
    let bytes = answer.batches[0].column(4).as_binary::<i32>().value(0);
    let schema = Schema::try_from(IpcMessage(Bytes::copy_from_slice(bytes))).unwrap();
    let types: Vec<_> = schema
        .fields()
        .iter()
        .map(|field| field.metadata()["ARROW:FLIGHT:SQL:TYPE_NAME"].as_str())
        .collect();
    assert_eq!(
        types,
        [
            "BIGINT",
            "VARCHAR",
            "VARCHAR",
            "VARCHAR",
            "VARBINARY",
            "DECIMAL",
            "DECIMAL",
            "DATE",
            "TIMESTAMP",
            "TIMESTAMP",
            "BOOLEAN",
            "DOUBLE",
            "ARRAY"
        ]
    );
    let rows = query(&mut client, "SELECT * FROM reference.kind LIMIT 0")
        .await
        .unwrap();
    let described: Vec<_> = schema
        .fields()
        .iter()
        .map(|field| field.data_type())
        .collect();
    let delivered: Vec<_> = rows
        .schema
        .fields()
        .iter()
        .map(|field| field.data_type())
        .collect();
    assert_eq!(
        described, delivered,
        "a table is described as its rows come"
    );
}

#[tokio::test]
async fn an_underscore_finds_the_exact_name_first() {
    let server = Server::start().await;
    let mut client = server.guest().await;
    let command = |pattern: &str| CommandGetTables {
        table_name_filter_pattern: Some(pattern.into()),
        ..CommandGetTables::default()
    };
    let answer = tables(&mut client, command("a_b")).await;
    assert_eq!(texts(&answer.batches[0], 2), ["a_b"]);
    assert_eq!(column(&answer, 2), ["a_b", "axb"]);
    assert_eq!(
        column(&tables(&mut client, command("a\\_b")).await, 2),
        ["a_b"]
    );
    assert_eq!(tables(&mut client, command("none")).await.rows(), 0);
}

#[tokio::test]
async fn keys_are_answered_with_the_columns_of_the_protocol() {
    let server = Server::start().await;
    let mut client = server.guest().await;
    let table = || "number".to_owned();
    let schema = || Some("reference".to_owned());
    let info = client
        .get_primary_keys(CommandGetPrimaryKeys {
            catalog: None,
            db_schema: schema(),
            table: table(),
        })
        .await
        .unwrap();
    let answer = fetch(&mut client, &info).await.unwrap();
    let text = |name, nullable| Field::new(name, DataType::Utf8, nullable);
    let wanted = Schema::new(vec![
        text("catalog_name", true),
        text("db_schema_name", true),
        text("table_name", false),
        text("column_name", false),
        text("key_name", true),
        Field::new("key_sequence", DataType::Int32, false),
    ]);
    assert_eq!(*answer.schema, wanted);

    let wanted = Schema::new(vec![
        text("pk_catalog_name", true),
        text("pk_db_schema_name", true),
        text("pk_table_name", false),
        text("pk_column_name", false),
        text("fk_catalog_name", true),
        text("fk_db_schema_name", true),
        text("fk_table_name", false),
        text("fk_column_name", false),
        Field::new("key_sequence", DataType::Int32, false),
        text("fk_key_name", true),
        text("pk_key_name", true),
        Field::new("update_rule", DataType::UInt8, false),
        Field::new("delete_rule", DataType::UInt8, false),
    ]);
    let infos = [
        client
            .get_exported_keys(CommandGetExportedKeys {
                catalog: None,
                db_schema: schema(),
                table: table(),
            })
            .await
            .unwrap(),
        client
            .get_imported_keys(CommandGetImportedKeys {
                catalog: None,
                db_schema: schema(),
                table: table(),
            })
            .await
            .unwrap(),
        client
            .get_cross_reference(CommandGetCrossReference {
                pk_table: table(),
                fk_table: table(),
                ..CommandGetCrossReference::default()
            })
            .await
            .unwrap(),
    ];
    for info in infos {
        assert_eq!(*fetch(&mut client, &info).await.unwrap().schema, wanted);
    }
}

#[tokio::test]
async fn every_type_that_is_offered_can_be_cast_to() {
    let server = Server::start().await;
    let mut client = server.guest().await;
    let info = client
        .get_xdbc_type_info(CommandGetXdbcTypeInfo { data_type: None })
        .await
        .unwrap();
    let answer = fetch(&mut client, &info).await.unwrap();
    let names = column(&answer, 12);
    assert!(names.len() > 15);
    for name in names {
        let sql = format!("SELECT CAST(NULL AS {name}) AS c");
        let result = query(&mut client, &sql).await;
        assert!(result.is_ok(), "{sql}: {result:?}");
    }
    let one = CommandGetXdbcTypeInfo {
        data_type: Some(12),
    };
    let info = client.get_xdbc_type_info(one).await.unwrap();
    assert_eq!(
        column(&fetch(&mut client, &info).await.unwrap(), 0),
        ["VARCHAR"]
    );
}

async fn sql_info(client: &mut Client, ids: Vec<SqlInfo>) -> RecordBatch {
    let info = client.get_sql_info(ids).await.unwrap();
    let answer = fetch(client, &info).await.unwrap();
    assert_eq!(answer.batches.len(), 1);
    answer.batches[0].clone()
}

fn ids(batch: &RecordBatch) -> Vec<u32> {
    batch
        .column(0)
        .as_primitive::<UInt32Type>()
        .values()
        .to_vec()
}

#[tokio::test]
async fn what_the_server_can_do_is_told_for_every_id() {
    let server = Server::start().await;
    let mut client = server.guest().await;
    let all = sql_info(&mut client, vec![]).await;
    let known: Vec<u32> = (0..1000_u32)
        .filter(|id| SqlInfo::try_from(id.cast_signed()).is_ok())
        .collect();
    assert_eq!(ids(&all), known, "no ids asked means all of them");
    let some = vec![
        SqlInfo::SqlIdentifierQuoteChar,
        SqlInfo::FlightSqlServerName,
    ];
    assert_eq!(ids(&sql_info(&mut client, some).await), [0, 504]);
}

/// The functions that `SqlInfo` names.
async fn named_functions(client: &mut Client) -> Vec<String> {
    let asked = vec![
        SqlInfo::SqlNumericFunctions,
        SqlInfo::SqlStringFunctions,
        SqlInfo::SqlSystemFunctions,
        SqlInfo::SqlDatetimeFunctions,
    ];
    let batch = sql_info(client, asked).await;
    let values = batch.column(1).as_union();
    (0..values.len())
        .flat_map(|row| {
            let list: Arc<dyn Array> = values.value(row).as_list::<i32>().value(0);
            let names = list.as_string::<i32>().iter().flatten().map(str::to_owned);
            names.collect::<Vec<_>>()
        })
        .collect()
}

#[tokio::test]
async fn every_function_that_is_named_exists() {
    let server = Server::start().await;
    let mut client = server.guest().await;
    let sql = "SELECT DISTINCT routine_name FROM information_schema.routines";
    let there = column(&query(&mut client, sql).await.unwrap(), 0);
    // Written as a keyword in SQL and answered by a function of another name.
    let keywords = ["position", "ifnull"];
    for name in named_functions(&mut client).await {
        assert!(
            there.contains(&name) || keywords.contains(&name.as_str()),
            "`{name}` is named and does not exist"
        );
    }
    let sql = "SELECT position('b' IN 'abc') AS p, ifnull(NULL, 1) AS i";
    assert_eq!(
        query(&mut client, sql).await.unwrap().text(),
        ["p|i", "2|1"]
    );
}
