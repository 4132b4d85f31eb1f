//! Who can name what, by every way of naming.

use tietopohja_engine::{EngineError, Role};

use crate::fixture::{SECRET, Warehouse, refused, session, shown};

#[tokio::test]
async fn each_role_sees_its_schemas_and_no_more() {
    let warehouse = Warehouse::with_visits().await;
    let engine = warehouse.engine().await;
    let probes = [
        "raw.visit",
        "raw.bed",
        "reject.visit",
        "staging.visit",
        "conformed.visit_day",
        "component.cell",
        "result.indicator_value",
        "reference.code",
        "published.indicator_value",
        "indicator_value",
        "meta.delivery",
        "meta.delivered_month",
        "meta.indicator",
        "meta.run",
        "meta.calculation",
        "no.such",
    ];
    let mut grid = String::new();
    for probe in probes {
        for role in Role::ALL {
            let answer = shown(
                &session(&engine, role).await,
                &format!("SELECT count(*) FROM {probe}"),
            )
            .await;
            grid.push_str(if answer.is_ok() { "x " } else { ". " });
        }
        grid.push_str(probe);
        grid.push('\n');
    }
    assert_eq!(
        grid,
        "x . . raw.visit\n\
         x . . raw.bed\n\
         x . . reject.visit\n\
         x x . staging.visit\n\
         x x . conformed.visit_day\n\
         x . . component.cell\n\
         x x . result.indicator_value\n\
         x x x reference.code\n\
         x x x published.indicator_value\n\
         x x x indicator_value\n\
         x x . meta.delivery\n\
         x x . meta.delivered_month\n\
         x x x meta.indicator\n\
         x x x meta.run\n\
         x x . meta.calculation\n\
         . . . no.such\n"
    );
}

#[tokio::test]
async fn what_is_hidden_looks_like_what_does_not_exist() {
    let warehouse = Warehouse::with_visits().await;
    let engine = warehouse.engine().await;
    for role in [Role::Analyst, Role::Reader] {
        let session = session(&engine, role).await;
        for sql in [
            "SELECT * FROM raw.{}",
            "EXPLAIN SELECT * FROM raw.{}",
            "DESCRIBE raw.{}",
            "SELECT 1 WHERE EXISTS (SELECT 1 FROM raw.{})",
            "WITH a AS (SELECT * FROM tietopohja.raw.{}) SELECT 1 FROM a",
        ] {
            let there = refused(&session, &sql.replace("{}", "visit")).await;
            let nowhere = refused(&session, &sql.replace("{}", "no_such_table")).await;
            assert_eq!(
                there.replace("visit", "?"),
                nowhere.replace("no_such_table", "?"),
                "{role}: {sql}"
            );
        }
    }
}

#[tokio::test]
async fn information_schema_tells_no_more_than_the_catalog() {
    let warehouse = Warehouse::with_visits().await;
    let engine = warehouse.engine().await;
    for (role, seen, hidden) in [
        (
            Role::Reader,
            vec!["published", "reference", "meta"],
            vec![
                "raw",
                "staging",
                "conformed",
                "component",
                "result",
                "reject",
                "client_pid",
                "delivered_month",
                "table_versions",
                "calculation",
            ],
        ),
        (
            Role::Analyst,
            vec![
                "published",
                "staging",
                "conformed",
                "result",
                "delivered_month",
            ],
            vec!["raw.", "component", "reject", "note", "bed_no_"],
        ),
    ] {
        let session = session(&engine, role).await;
        for sql in [
            "SELECT table_catalog, table_schema, table_name, table_type FROM information_schema.tables",
            "SELECT table_schema, table_name, column_name FROM information_schema.columns",
            "SELECT schema_name FROM information_schema.schemata",
            "SELECT table_schema, table_name FROM information_schema.views",
            "SHOW TABLES",
        ] {
            let text = shown(&session, sql).await.unwrap();
            for word in &hidden {
                let cell = format!("| {word} ");
                assert!(!text.contains(&cell), "{role}: {sql} shows {word}:\n{text}");
            }
        }
        let text = shown(
            &session,
            "SELECT table_schema, table_name FROM information_schema.tables",
        )
        .await
        .unwrap();
        for word in seen {
            assert!(text.contains(word), "{role} does not see {word}:\n{text}");
        }
    }
}

#[tokio::test]
async fn the_list_of_tables_is_the_same_as_what_can_be_queried() {
    let warehouse = Warehouse::with_visits().await;
    let engine = warehouse.engine().await;
    for role in Role::ALL {
        let session = session(&engine, role).await;
        let tables = session.tables().await.unwrap();
        assert!(
            tables
                .iter()
                .any(|table| table.schema == "published" && table.name == "indicator_value")
        );
        assert!(
            tables.iter().all(|table| table.name != "broken"),
            "a broken relation is not listed"
        );
        for table in tables {
            let sql = format!("SELECT * FROM {}.{}", table.schema, table.name);
            let prepared = session.prepare(&sql).await.unwrap();
            assert_eq!(prepared.schema().fields(), table.columns.fields(), "{sql}");
        }
    }
}

#[tokio::test]
async fn a_view_reads_what_its_reader_cannot_name() {
    let warehouse = Warehouse::with_visits().await;
    let engine = warehouse.engine().await;
    let analyst = session(&engine, Role::Analyst).await;
    let text = shown(&analyst, "SELECT sum(visits) AS n FROM conformed.visit_day")
        .await
        .unwrap();
    assert!(text.contains("| 2000 |"), "{text}");
    // A column of the raw table that the view leaves out cannot be reached through it.
    let told = refused(&analyst, "SELECT note FROM staging.visit").await;
    assert!(told.contains("note"), "{told}");
}

#[tokio::test]
async fn a_broken_relation_breaks_no_other() {
    let warehouse = Warehouse::with_visits().await;
    let engine = warehouse.engine().await;
    let analyst = session(&engine, Role::Analyst).await;
    let told = refused(&analyst, "SELECT * FROM conformed.broken").await;
    assert!(
        told.starts_with("sql/conformed/broken.sql: ") && told.contains("no_such_column"),
        "{told}"
    );
    assert!(
        shown(&analyst, "SELECT * FROM conformed.visit_day")
            .await
            .is_ok()
    );
    let problems = engine.check_definitions().await;
    assert_eq!(
        problems
            .iter()
            .map(|problem| problem.file.as_str())
            .collect::<Vec<_>>(),
        ["sql/conformed/broken.sql"]
    );
}

#[tokio::test]
async fn a_table_that_has_not_landed_is_empty_with_its_columns() {
    let warehouse = Warehouse::with_visits().await;
    let engine = warehouse.engine().await;
    let analyst = session(&engine, Role::Analyst).await;
    let text = shown(
        &analyst,
        "SELECT count(*) AS n, max(bed_no) AS b FROM staging.bed",
    )
    .await
    .unwrap();
    assert!(text.contains("| 0 | "), "{text}");
}

#[tokio::test]
async fn a_session_keeps_its_view_and_a_new_one_sees_what_landed() {
    let warehouse = Warehouse::with_visits().await;
    let engine = warehouse.engine().await;
    let count = "SELECT count(*) AS n FROM staging.visit";
    let before = session(&engine, Role::Analyst).await;
    assert!(shown(&before, count).await.unwrap().contains("| 2000 |"));
    warehouse.land_visits(7, 202_402, 500).await;
    assert!(shown(&before, count).await.unwrap().contains("| 2000 |"));
    let after = session(&engine, Role::Analyst).await;
    assert!(shown(&after, count).await.unwrap().contains("| 2500 |"));
}

#[tokio::test]
async fn a_plan_shows_no_places_of_files() {
    let warehouse = Warehouse::with_visits().await;
    let engine = warehouse.engine().await;
    let folder = warehouse
        .folder
        .path()
        .file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned();
    for (role, sql) in [
        (Role::Admin, "EXPLAIN SELECT * FROM raw.visit"),
        (
            Role::Analyst,
            "EXPLAIN SELECT * FROM staging.visit WHERE town = '003'",
        ),
        (Role::Analyst, "EXPLAIN VERBOSE SELECT * FROM staging.visit"),
        (
            Role::Analyst,
            "EXPLAIN ANALYZE SELECT count(*) FROM staging.visit WHERE minutes > 3",
        ),
        (
            Role::Analyst,
            "EXPLAIN FORMAT TREE SELECT * FROM staging.visit",
        ),
        (
            Role::Analyst,
            "EXPLAIN FORMAT PGJSON SELECT * FROM staging.visit",
        ),
    ] {
        let text = shown(&session(&engine, role).await, sql).await.unwrap();
        assert!(
            !text.contains(&folder) && !text.contains(".parquet"),
            "{sql}:\n{text}"
        );
    }
    let error = session(&engine, Role::Reader)
        .await
        .prepare("EXPLAIN ANALYZE SELECT 1")
        .await
        .unwrap_err();
    assert!(matches!(error, EngineError::Denied { .. }));
}

#[tokio::test]
async fn settings_of_the_machine_are_not_shown() {
    let warehouse = Warehouse::with_visits().await;
    let engine = warehouse.engine().await;
    let reader = session(&engine, Role::Reader).await;
    let text = shown(
        &reader,
        "SELECT name, value FROM information_schema.df_settings",
    )
    .await
    .unwrap();
    assert!(
        text.contains("datafusion.execution.batch_size") && !text.contains("datafusion.runtime"),
        "{text}"
    );
    assert!(
        shown(&reader, "SHOW datafusion.execution.target_partitions")
            .await
            .unwrap()
            .contains("| 2 ")
    );
    assert!(shown(&reader, "SHOW FUNCTIONS").await.is_ok());
}

#[tokio::test]
async fn no_error_repeats_a_value_of_a_row() {
    let warehouse = Warehouse::with_visits().await;
    let engine = warehouse.engine().await;
    let admin = session(&engine, Role::Admin).await;
    for sql in [
        "SELECT CAST(note AS INT) FROM raw.visit",
        "SELECT CAST(note AS DATE) FROM raw.visit WHERE row_no = 5",
        "SELECT to_timestamp(note) FROM raw.visit",
        "SELECT sum(CAST(note AS DECIMAL(9,2))) FROM raw.visit",
        "SELECT minutes / (row_no - 5) FROM raw.visit",
        "SELECT make_date(2024, 13, CAST(row_no AS INT)) FROM raw.visit",
        "SELECT * FROM raw.visit WHERE CAST(note AS BIGINT) > 3 ORDER BY row_no",
        "SELECT arrow_cast(note, 'Int8') FROM raw.visit",
        "SELECT regexp_like(town, note || '(') FROM raw.visit",
    ] {
        let told = refused(&admin, sql).await;
        assert!(
            !told.contains(SECRET) && !told.contains("secret"),
            "{sql}: {told}"
        );
        assert!(
            !told.contains("Error") && !told.contains("::"),
            "{sql}: {told}"
        );
    }
}

#[tokio::test]
async fn nothing_can_be_changed() {
    let warehouse = Warehouse::with_visits().await;
    let engine = warehouse.engine().await;
    let admin = session(&engine, Role::Admin).await;
    let out = warehouse.folder.path().join("out.csv");
    for sql in [
        format!("COPY (SELECT * FROM raw.visit) TO '{}'", out.display()),
        format!(
            "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '{}'",
            out.display()
        ),
        "CREATE TABLE t AS SELECT * FROM raw.visit".to_owned(),
        "CREATE VIEW v AS SELECT 1".to_owned(),
        "INSERT INTO raw.visit SELECT * FROM raw.visit".to_owned(),
        "WITH a AS (SELECT 1) INSERT INTO raw.visit SELECT * FROM raw.visit".to_owned(),
        "DELETE FROM raw.visit".to_owned(),
        "SET datafusion.execution.target_partitions = 64".to_owned(),
        "DROP TABLE raw.visit".to_owned(),
        "SELECT * FROM '/etc/passwd'".to_owned(),
        "SELECT * FROM read_csv('/etc/passwd')".to_owned(),
    ] {
        let told = refused(&admin, &sql).await;
        assert!(!told.is_empty());
    }
    assert!(!out.exists());
    assert!(
        shown(&admin, "SELECT count(*) AS n FROM raw.visit")
            .await
            .unwrap()
            .contains("| 2000 |")
    );
}
