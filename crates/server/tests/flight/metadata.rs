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
use tonic::Code;

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

/// Tables with their columns, as lines.
async fn listed(client: &mut Client) -> Vec<String> {
    let everything = CommandGetTables {
        include_schema: true,
        ..CommandGetTables::default()
    };
    let answer = tables(client, everything).await;
    let mut lines = Vec::new();
    for batch in &answer.batches {
        let (schemas, names, kinds) = (texts(batch, 1), texts(batch, 2), texts(batch, 3));
        let described = batch.column(4).as_binary::<i32>();
        for row in 0..batch.num_rows() {
            let kind = match kinds[row].as_str() {
                "TABLE" => "BASE TABLE",
                "VIEW" | "SYSTEM TABLE" => "VIEW",
                other => other,
            };
            let bytes = Bytes::copy_from_slice(described.value(row));
            let schema = Schema::try_from(IpcMessage(bytes)).unwrap();
            let remarks = schema.metadata().get("ARROW:FLIGHT:SQL:REMARKS");
            let (of, name) = (&schemas[row], &names[row]);
            lines.push(format!(
                "{of}.{name} {kind} {}",
                remarks.map_or("", String::as_str)
            ));
            for field in schema.fields() {
                let get = |key: &str| {
                    let entry = field.metadata().get(&format!("ARROW:FLIGHT:SQL:{key}"));
                    entry.map_or("", String::as_str)
                };
                let (kind, remarks) = (get("TYPE_NAME"), get("REMARKS"));
                let digits = if kind == "DECIMAL" {
                    get("PRECISION")
                } else {
                    ""
                };
                let nullable = if field.is_nullable() { "YES" } else { "NO" };
                lines.push(format!(
                    "{of}.{name}.{} {kind} {digits} {nullable} {remarks}",
                    field.name(),
                ));
            }
        }
    }
    lines
}

/// The same from `information_schema`.
async fn told(client: &mut Client) -> Vec<String> {
    let sql = "SELECT line FROM ( \
         SELECT table_schema AS s, table_name AS t, 0 AS at, table_schema || '.' || table_name || \
         ' ' || table_type || ' ' || coalesce(table_comment, '') AS line \
         FROM information_schema.tables \
         UNION ALL \
         SELECT table_schema, table_name, ordinal_position, table_schema || '.' || table_name || \
         '.' || column_name || ' ' || data_type || ' ' || \
         CASE WHEN data_type = 'DECIMAL' THEN CAST(numeric_precision AS VARCHAR) ELSE '' END || \
         ' ' || is_nullable || ' ' || coalesce(column_comment, '') \
         FROM information_schema.columns) AS lines ORDER BY s, t, at";
    column(&query(client, sql).await.unwrap(), 0)
}

#[tokio::test]
async fn for_every_role_the_list_of_tables_agrees_with_information_schema() {
    let server = Server::start().await;
    let mut before = usize::MAX;
    for role in Role::ALL {
        let sibling = server.sibling(role).await;
        let mut client = sibling.guest().await;
        let listed = listed(&mut client).await;
        assert_eq!(listed, told(&mut client).await, "{role}");
        assert!(
            listed
                .iter()
                .any(|line| line.starts_with("reference.kind.text VARCHAR")
                    && line.ends_with("a name, plain")),
            "{role}: {listed:#?}"
        );
        assert!(
            listed.len() < before,
            "{role} sees less than the role before"
        );
        before = listed.len();
    }
}

#[tokio::test]
async fn information_schema_tells_nobody_of_what_is_hidden() {
    let server = Server::start().await;
    let mut reader = server.guest().await;
    for table in [
        "columns",
        "key_column_usage",
        "referential_constraints",
        "schemata",
        "table_constraints",
        "tables",
        "views",
    ] {
        let sql = format!("SELECT * FROM information_schema.{table}");
        let answer = query(&mut reader, &sql).await.unwrap();
        for line in answer.text() {
            assert!(
                !line.contains("secret") && !line.contains("conformed"),
                "{table}: {line}"
            );
        }
    }
    let analyst = server.sibling(Role::Analyst).await;
    let sql = "SELECT constraint_name FROM information_schema.referential_constraints ORDER BY 1";
    assert_eq!(
        column(&query(&mut analyst.guest().await, sql).await.unwrap(), 0),
        [
            "calculation_run_id_fkey",
            "indicator_value_indicator_output_fkey",
            "indicator_value_indicator_output_fkey",
            "indicator_value_run_id_fkey",
            "indicator_value_run_id_fkey",
            "pair_first_fkey",
            "pair_second_fkey",
            "pair_second_fkey2",
            "secret_n_fkey"
        ]
    );
}

#[tokio::test]
async fn questions_about_the_catalogue_are_answered_the_same_way_prepared_and_plain() {
    let server = Server::start().await;
    let mut client = server.guest().await;
    let cases: [(&str, &[&str]); 10] = [
        ("SHOW DATABASES", &["database_name", "tietopohja"]),
        ("SHOW CATALOGS LIKE 'x%'", &["database_name"]),
        (
            "SHOW SCHEMAS LIKE '%e%'",
            &[
                "schema_name",
                "information_schema",
                "meta",
                "published",
                "reference",
            ],
        ),
        (
            "SHOW TABLES FROM reference LIKE 'a\\_b'",
            &[
                "table_catalog|table_schema|table_name|table_type",
                "tietopohja|reference|a_b|VIEW",
            ],
        ),
        (
            "SHOW TABLES IN tietopohja.published",
            &[
                "table_catalog|table_schema|table_name|table_type",
                "tietopohja|published|indicator_value|BASE TABLE",
            ],
        ),
        (
            "SHOW COLUMNS FROM reference.number",
            &[
                "table_catalog|table_schema|table_name|column_name|data_type|is_nullable",
                "tietopohja|reference|number|n|BIGINT|NO",
                "tietopohja|reference|number|r|BIGINT|NO",
            ],
        ),
        (
            "DESCRIBE tietopohja.reference.pair",
            &[
                "column_name|data_type|is_nullable|column_comment",
                "first|BIGINT|NO|",
                "second|BIGINT|NO|",
            ],
        ),
        (
            "SHOW VIEWS FROM reference LIKE 'p%'",
            &[
                "table_catalog|table_schema|table_name|table_type",
                "tietopohja|reference|pair|VIEW",
            ],
        ),
        (
            "SHOW TABLES FROM reference WHERE table_name = 'axb'",
            &[
                "table_catalog|table_schema|table_name|table_type",
                "tietopohja|reference|axb|VIEW",
            ],
        ),
        (
            "SHOW datafusion.catalog.default_schema",
            &["name|value", "datafusion.catalog.default_schema|published"],
        ),
    ];
    for (sql, wanted) in cases {
        let plain = query(&mut client, sql).await.unwrap();
        if wanted.len() > 1 {
            assert_eq!(plain.text(), wanted, "{sql}");
        } else {
            assert_eq!(plain.rows(), 0, "{sql}");
        }
        let mut statement = client.prepare(sql.to_owned(), None).await.unwrap();
        assert_eq!(statement.dataset_schema().unwrap(), &*plain.schema, "{sql}");
        let info = statement.execute().await.unwrap();
        let prepared = fetch(&mut client, &info).await.unwrap();
        assert_eq!(prepared.schema, plain.schema, "{sql}");
        assert_eq!(prepared.text(), plain.text(), "{sql}");
    }
}

#[tokio::test]
async fn a_question_about_nothing_is_refused_as_a_query_of_it() {
    let server = Server::start().await;
    let mut client = server.guest().await;
    for (sql, part) in [
        ("SHOW TABLES FROM nothing", "schema `nothing` not found"),
        ("SHOW TABLES FROM conformed", "schema `conformed` not found"),
        (
            "SHOW COLUMNS FROM reference.none",
            "table `reference.none` not found",
        ),
        (
            "DESCRIBE conformed.secret",
            "table `conformed.secret` not found",
        ),
        ("SHOW no_such_setting", "not a variable"),
        ("SHOW PROCESSLIST", "SHOW takes DATABASES"),
    ] {
        let refused = query(&mut client, sql).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{sql}: {refused}");
        assert!(refused.message().contains(part), "{sql}: {refused}");
    }
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

/// The rows of an answer about keys, without the catalog columns.
async fn keys(client: &mut Client, info: arrow_flight::FlightInfo) -> Vec<String> {
    let answer = fetch(client, &info).await.unwrap();
    if answer.rows() == 0 {
        return Vec::new();
    }
    let lines = answer.text();
    lines[1..]
        .iter()
        .map(|line| line.replace("tietopohja|", ""))
        .collect()
}

#[tokio::test]
async fn keys_are_those_between_tables_that_the_visitor_may_name() {
    let server = Server::start().await;
    let analyst = server.sibling(Role::Analyst).await;
    let first = "reference|number|n|reference|pair|first|1|pair_first_fkey|number_pkey|3|3";
    let second = "reference|number|n|reference|pair|second|1|pair_second_fkey|number_pkey|3|3";
    let hidden = "reference|number|n|conformed|secret|n|1|secret_n_fkey|number_pkey|3|3";
    let to_hidden = "conformed|secret|n|reference|pair|second|1|pair_second_fkey2|secret_pkey|3|3";
    for (mut client, exported, imported) in [
        (
            server.guest().await,
            vec![first, second],
            vec![first, second],
        ),
        (
            analyst.guest().await,
            vec![hidden, first, second],
            vec![to_hidden, first, second],
        ),
    ] {
        let table = |name: &str| (Some("reference".to_owned()), name.to_owned());
        let (db_schema, name) = table("pair");
        let asked = CommandGetPrimaryKeys {
            catalog: Some("tietopohja".into()),
            db_schema,
            table: name,
        };
        let info = client.get_primary_keys(asked).await.unwrap();
        assert_eq!(
            keys(&mut client, info).await,
            [
                "reference|pair|second|pair_pkey|1",
                "reference|pair|first|pair_pkey|2"
            ]
        );
        let (db_schema, name) = table("number");
        let asked = CommandGetExportedKeys {
            catalog: None,
            db_schema,
            table: name,
        };
        let info = client.get_exported_keys(asked).await.unwrap();
        assert_eq!(keys(&mut client, info).await, exported);
        let (db_schema, name) = table("pair");
        let asked = CommandGetImportedKeys {
            catalog: None,
            db_schema,
            table: name,
        };
        let info = client.get_imported_keys(asked).await.unwrap();
        assert_eq!(keys(&mut client, info).await, imported);
        let asked = CommandGetCrossReference {
            pk_table: "number".into(),
            fk_table: "pair".into(),
            ..CommandGetCrossReference::default()
        };
        let info = client.get_cross_reference(asked).await.unwrap();
        assert_eq!(keys(&mut client, info).await, [first, second]);
        // A name is a name here, not a pattern, and another catalog has no tables.
        for (catalog, table) in [(None, "numbe_"), (Some("other".to_owned()), "number")] {
            let asked = CommandGetPrimaryKeys {
                catalog,
                db_schema: None,
                table: table.to_owned(),
            };
            let info = client.get_primary_keys(asked).await.unwrap();
            assert!(keys(&mut client, info).await.is_empty(), "{table}");
        }
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
