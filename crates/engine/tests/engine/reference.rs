//! Reference data: loaded once, again only when changed, and refused whole when faulty.

use std::path::Path;

use tietopohja_engine::{EngineError, ReferenceOutcome, ReferenceReport, Role};

use crate::fixture::{Warehouse, session, shown};

const TABLES: &str = r#"
[table.county]
comment = "one row per county"
file = "county.csv"
separator = ";"
columns = [
    { name = "county_code", from = "koodi", type = "text" },
    { name = "name_fi", from = "nimi", type = "text" },
    { name = "residents", from = "asukkaat", type = "bigint" },
    { name = "since", from = "alkaen", type = "date" },
]
key = ["county_code"]
source = "test"
licence = "test"
attribution = "Lähde: testi"
"#;

fn small() -> Warehouse {
    let warehouse = Warehouse::new();
    warehouse.write("reference/tables.toml", TABLES);
    warehouse.write(
        "reference/county.csv",
        "koodi;nimi;asukkaat;alkaen\n07;Päijät-Häme;204000;2023-01-01\n90;Helsinki;;\n",
    );
    warehouse.write(
        "definitions/codes/county.urgency.csv",
        "code,name_fi,name_sv,name_en,valid_from,valid_to,maps_to\n1,Kiireellinen,Brådskande,Urgent,,,urgent\n2,Kiireetön,Icke brådskande,Non-urgent,2020-01-01,,non_urgent\n",
    );
    warehouse.write("sql/reference/county_size.sql", "-- grain: one row per county\n-- key: county_code\n-- materialise: yes\nSELECT county_code, residents / 1000 AS thousands FROM reference.county");
    warehouse.write("sql/reference/big_county.sql", "-- grain: one row per big county\nSELECT county_code FROM reference.county_size WHERE thousands > 100");
    warehouse
}

fn outcomes(report: &ReferenceReport) -> Vec<(&str, ReferenceOutcome, u64)> {
    report
        .tables
        .iter()
        .map(|table| (table.name.as_str(), table.outcome, table.rows))
        .collect()
}

#[tokio::test]
async fn files_become_tables_and_derived_tables_follow() {
    use ReferenceOutcome::{Computed, Loaded, Unchanged};
    let warehouse = small();
    let report = warehouse.engine().await.load_reference().await.unwrap();
    assert_eq!(
        outcomes(&report),
        [
            ("code", Loaded, 2),
            ("county", Loaded, 2),
            ("county_size", Computed, 2),
            ("statutory_limit", Loaded, 0)
        ]
    );

    let engine = warehouse.engine().await;
    let reader = session(&engine, Role::Reader).await;
    let text = shown(&reader, "SELECT c.county_code, c.name_fi, c.residents, c.since, s.thousands FROM reference.county c JOIN reference.county_size s USING (county_code) ORDER BY 1").await.unwrap();
    assert!(
        text.contains("| 07          | Päijät-Häme | 204000    | 2023-01-01 | 204       |"),
        "{text}"
    );
    assert!(
        text.contains("| 90          | Helsinki    |           |            |           |"),
        "{text}"
    );
    let text = shown(&reader, "SELECT county_code FROM reference.big_county")
        .await
        .unwrap();
    assert!(text.contains("| 07 "), "{text}");
    let text = shown(
        &reader,
        "SELECT list, code, maps_to FROM reference.code WHERE valid_from IS NULL",
    )
    .await
    .unwrap();
    assert!(
        text.contains("| county.urgency | 1    | urgent  |"),
        "{text}"
    );

    let report = engine.load_reference().await.unwrap();
    assert_eq!(report.written(), 0, "{report:?}");
    assert_eq!(report.rows(), 6);
    assert!(report.tables.iter().all(|table| table.outcome == Unchanged));

    warehouse.write(
        "reference/county.csv",
        "koodi;nimi;asukkaat;alkaen\n07;Päijät-Häme;205000;2023-01-01\n",
    );
    let report = warehouse.engine().await.load_reference().await.unwrap();
    assert_eq!(
        outcomes(&report),
        [
            ("code", Unchanged, 2),
            ("county", Loaded, 1),
            ("county_size", Computed, 1),
            ("statutory_limit", Unchanged, 0)
        ]
    );
}

#[tokio::test]
async fn before_loading_the_tables_are_there_and_empty() {
    let warehouse = small();
    let engine = warehouse.engine().await;
    let reader = session(&engine, Role::Reader).await;
    for table in [
        "county",
        "county_size",
        "big_county",
        "code",
        "statutory_limit",
    ] {
        let text = shown(
            &reader,
            &format!("SELECT count(*) AS n FROM reference.{table}"),
        )
        .await
        .unwrap();
        assert!(text.contains("| 0 |"), "{table}: {text}");
    }
}

#[tokio::test]
async fn every_problem_is_told_and_nothing_is_written() {
    let warehouse = small();
    warehouse.write(
        "reference/county.csv",
        "koodi;nimi;asukkaat;alkaen\n07;A;many;2023-01-01\n07;B;1;1.1.2023\n",
    );
    warehouse.write("definitions/codes/county.bad.csv", "code,name_fi\n1,x\n");
    let error = warehouse.engine().await.load_reference().await.unwrap_err();
    let told = error.to_string();
    for part in [
        "reference/county.csv:2: `many` in `asukkaat` is not a whole number",
        "reference/county.csv:3: `1.1.2023` in `alkaen` is not a date as yyyy-mm-dd",
        "reference/county.csv:3: the key (07) is also on line 2",
        "definitions/codes/county.bad.csv:1: the column `valid_from` is missing",
    ] {
        assert!(told.contains(part), "{told}");
    }
    assert!(warehouse.lake.tables().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_missing_file_and_a_repeated_derived_key_are_told() {
    let warehouse = small();
    std::fs::remove_file(warehouse.folder.path().join("reference/county.csv")).unwrap();
    let told = warehouse
        .engine()
        .await
        .load_reference()
        .await
        .unwrap_err()
        .to_string();
    assert!(
        told.contains("reference/county.csv: cannot be read") && told.contains("help:"),
        "{told}"
    );

    let warehouse = small();
    warehouse.write("sql/reference/twice.sql", "-- key: county_code\n-- materialise: yes\nSELECT county_code FROM reference.county UNION ALL SELECT county_code FROM reference.county");
    let error = warehouse.engine().await.load_reference().await.unwrap_err();
    assert!(matches!(error, EngineError::Definitions { .. }));
    assert!(
        error
            .to_string()
            .starts_with("sql/reference/twice.sql: the key (county_code) does not tell rows apart"),
        "{error}"
    );
}

#[tokio::test]
async fn a_faulty_manifest_keeps_the_engine_from_opening() {
    let warehouse = small();
    warehouse.write("reference/tables.toml", "[table.county]\nfile = 3\n");
    let error = tietopohja_engine::Engine::open(warehouse.options())
        .await
        .unwrap_err();
    assert!(
        error.to_string().starts_with("reference/tables.toml:2: "),
        "{error}"
    );
}

/// The files that the product ships.
#[tokio::test]
async fn the_shipped_reference_data_loads_and_every_relation_over_it_can_be_read() {
    let product = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let warehouse = Warehouse::new();
    for folder in [
        "reference",
        "sql/reference",
        "definitions/codes",
        "definitions/limits",
    ] {
        warehouse.copy(&product.join(folder), folder);
    }
    let engine = warehouse.engine().await;
    let report = engine.load_reference().await.unwrap();
    assert!(report.rows() > 100_000, "{report:?}");
    let reader = session(&engine, Role::Reader).await;
    for table in session(&engine, Role::Reader).await.tables().await.unwrap() {
        if table.schema == "reference" {
            let sql = format!("SELECT count(*) AS n FROM reference.{}", table.name);
            assert!(shown(&reader, &sql).await.is_ok(), "{sql}");
        }
    }
    assert!(engine.problems().is_empty(), "{:?}", engine.problems());
    assert_eq!(engine.load_reference().await.unwrap().written(), 0);
}
