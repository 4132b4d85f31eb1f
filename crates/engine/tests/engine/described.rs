//! What the files of a warehouse say about keys and columns, and what becomes of it.

use tietopohja_engine::{Role, TableInfo};

use crate::fixture::{Warehouse, session, shown};

fn find<'a>(tables: &'a [TableInfo], name: &str) -> &'a TableInfo {
    tables
        .iter()
        .find(|table| format!("{}.{}", table.schema, table.name) == name)
        .unwrap()
}

#[tokio::test]
async fn a_wrong_header_line_is_told_and_keeps_nobody_from_reading() {
    let warehouse = Warehouse::with_visits().await;
    warehouse.write(
        "sql/conformed/broken.sql",
        "-- grain: one row per visit\n-- key: visit_onn, town\n\
         -- references: town -> reference.codes(list)\n\
         -- references: town > reference.code(list)\n\
         -- column towns: where it was\n\
         SELECT visit_on, town FROM staging.visit",
    );
    let engine = warehouse.engine().await;
    let told: Vec<String> = engine
        .check_definitions()
        .await
        .iter()
        .map(ToString::to_string)
        .collect();
    for part in [
        "sql/conformed/broken.sql:2: the key column `visit_onn` is not a column",
        "sql/conformed/broken.sql:3: there is no relation `reference.codes` to refer to",
        "sql/conformed/broken.sql:4: `town > reference.code(list)` is not a reference",
        "sql/conformed/broken.sql:5: the described column `towns` is not a column",
        "did you mean `visit_on`?",
    ] {
        assert!(
            told.iter().any(|line| line.contains(part)),
            "{part}: {told:#?}"
        );
    }
    let analyst = session(&engine, Role::Analyst).await;
    assert!(
        shown(&analyst, "SELECT count(*) FROM conformed.broken")
            .await
            .unwrap()
            .contains("2000")
    );
    let tables = analyst.tables().await.unwrap();
    assert!(find(&tables, "conformed.broken").keys.own.is_none());
    let key = find(&tables, "conformed.visit_day")
        .keys
        .own
        .as_ref()
        .unwrap();
    assert_eq!((key.name.as_str(), key.primary), ("visit_day_pkey", true));
}

#[tokio::test]
async fn shipped_tables_are_described_from_where_they_are_maintained() {
    let warehouse = Warehouse::product();
    let engine = warehouse.product_engine().await;
    let admin = session(&engine, Role::Admin).await;
    let tables = admin.tables().await.unwrap();
    for (table, column, part) in [
        ("raw.hr_absence", "started_on", "First day of absence"),
        ("raw.hr_absence", "pay_percent", "Unit: percent."),
        ("raw.hr_absence", "employee_pid", "As a pseudonym."),
        ("raw.hr_absence", "delivery_id", "the delivery that brought"),
        ("reject.hr_absence", "rule", "the rule that"),
        (
            "published.indicator_value",
            "value",
            "the value in its unit",
        ),
        (
            "published.indicator_value",
            "age_group",
            "breakdown by age group",
        ),
        ("meta.delivery", "landed_at", "when it landed"),
        ("reference.code", "maps_to", "the shared code"),
    ] {
        let comment = find(&tables, table).column_comments.get(column);
        assert!(
            comment.is_some_and(|comment| comment.contains(part)),
            "{table}.{column}: {comment:?}"
        );
    }
    let values = find(&tables, "published.indicator_value");
    let key = values.keys.own.as_ref().unwrap();
    assert!(!key.primary, "a breakdown may be null");
    assert!(key.columns.contains(&"age_group".to_owned()), "{key:?}");
    let other: Vec<String> = values
        .keys
        .foreign
        .iter()
        .map(|key| format!("{}.{}", key.schema, key.table))
        .collect();
    assert_eq!(other, ["meta.indicator", "reference.period", "meta.run"]);
    // Every relation of the shipped files has a key that its columns bear.
    for table in &tables {
        if ["staging", "conformed", "reference"].contains(&table.schema.as_str()) {
            assert!(table.keys.own.is_some(), "{}.{}", table.schema, table.name);
        }
    }
}

#[tokio::test]
async fn the_text_of_a_view_is_shown_to_those_who_may_name_all_of_it() {
    let warehouse = Warehouse::with_visits().await;
    let engine = warehouse.engine().await;
    let sql = "SELECT table_name, view_definition IS NULL AS hidden FROM information_schema.views \
               WHERE table_name IN ('visit', 'visit_day') ORDER BY table_name";
    let admin = shown(&session(&engine, Role::Admin).await, sql)
        .await
        .unwrap();
    let analyst = shown(&session(&engine, Role::Analyst).await, sql)
        .await
        .unwrap();
    assert_eq!(admin.matches("| false ").count(), 2, "{admin}");
    // `staging.visit` reads a raw table.
    assert_eq!(analyst.matches("| true ").count(), 1, "{analyst}");
    let text = shown(
        &session(&engine, Role::Analyst).await,
        "SHOW CREATE VIEW conformed.visit_day",
    )
    .await
    .unwrap();
    assert!(
        text.contains("FROM staging.visit") && !text.contains("grain:"),
        "{text}"
    );
}
