//! From rows to published values, over the definitions that the product ships.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, BooleanArray, Date32Array, RecordBatch, StringArray};
use tietopohja_domain::Timestamp;
use tietopohja_engine::{
    CalcReport, CalcRequest, CheckStatus, Engine, ExplainRequest, IndicatorOutcome, NoProgress,
    Role, SessionOptions,
};
use tietopohja_lake::{Slice, SliceRows, TableName};

use crate::fixture::{Warehouse, clock, day, principal, session, shown, shown_cells};

const RATE: &str = "lasu.notifications_per_1000";
const CHILDREN: &str = "lasu.children_with_notification_pct";

/// Hämeenlinna and Forssa, of county 07.
const TOWNS: [&str; 2] = ["109", "061"];

/// Notifications of a month: `count` of them in Hämeenlinna about children 0, 1, 2 …, and one in Forssa.
fn notifications(county: i32, month: i8, count: usize) -> RecordBatch {
    let total = count + 1;
    let text = |of: &dyn Fn(usize) -> String| {
        Arc::new((0..total).map(|n| Some(of(n))).collect::<StringArray>()) as ArrayRef
    };
    let child = |n: usize| if n == count { 900 } else { n % 40 };
    let pids: BinaryArray = (0..total)
        .map(|n| Some((child(n) as u128 + 1).to_be_bytes().to_vec()))
        .collect();
    let births: Date32Array = (0..total)
        .map(|n| Some(day(2012, 1 + (child(n) % 12) as i8, 5)))
        .collect();
    let received: Date32Array = (0..total)
        .map(|n| Some(day(2024, month, 1 + (n % 28) as i8)))
        .collect();
    let voided: BooleanArray = (0..total).map(|n| Some(n % 10 == 9)).collect();
    RecordBatch::try_from_iter([
        (
            "notification_no",
            text(&|n| format!("{county}-{month}-{n}")),
        ),
        ("client_pid", Arc::new(pids) as ArrayRef),
        ("client_birth_date", Arc::new(births) as ArrayRef),
        (
            "client_sex",
            text(&|n| if child(n) % 2 == 0 { "female" } else { "male" }.to_owned()),
        ),
        (
            "municipality",
            text(&|n| if n == count { TOWNS[1] } else { TOWNS[0] }.to_owned()),
        ),
        ("received_on", Arc::new(received) as ArrayRef),
        ("notifier", text(&|_| "1".to_owned())),
        ("voided", Arc::new(voided) as ArrayRef),
    ])
    .unwrap()
}

async fn land_year(warehouse: &Warehouse, county: i32) {
    for month in 1..=12i8 {
        let last = day(2024 + i16::from(month == 12), month % 12 + 1, 1) - 1;
        let rows = notifications(county, month, 20 + month as usize);
        warehouse
            .land(
                "child_notification",
                county,
                202_400 + i32::from(month),
                (day(2024, month, 1), last),
                rows,
            )
            .await;
    }
}

async fn calc(engine: &Arc<Engine>, ids: &[&str], full: bool) -> CalcReport {
    let ids = ids.iter().map(|id| (*id).to_owned()).collect();
    let request = CalcRequest {
        ids,
        full,
        one_by_one: false,
        trigger: "test".to_owned(),
    };
    let report = engine.calc(&request, &NoProgress).await.unwrap();
    assert_eq!(report.failed(), 0, "{report:#?}");
    report
}

async fn loaded() -> Warehouse {
    let warehouse = Warehouse::product();
    warehouse.load_reference().await;
    warehouse
}

#[tokio::test]
async fn every_shipped_definition_is_computed_without_any_delivery() {
    let warehouse = loaded().await;
    let engine = warehouse.product_engine().await;
    let problems = engine.check_definitions().await;
    assert!(problems.is_empty(), "{problems:#?}");
    let report = calc(&engine, &[], false).await;
    assert_eq!(
        report.computed(),
        engine.catalogue().await.unwrap().indicators().len()
    );
    let reader = session(&engine, Role::Reader).await;
    let known = "SELECT DISTINCT indicator FROM published.indicator_value WHERE value IS NOT NULL ORDER BY indicator";
    let text = shown(&reader, known).await.unwrap();
    for id in ["need.service_need", "vaesto.population", "vaesto.share_75"] {
        assert!(text.contains(id), "{text}");
    }
    // What rests on deliveries alone has no value anywhere.
    assert!(!text.contains("lasu.") && !text.contains("hr."), "{text}");
    let outcomes = engine
        .check(&[
            "need.service_need".to_owned(),
            "vaesto.population".to_owned(),
        ])
        .await
        .unwrap();
    for outcome in outcomes {
        assert!(outcome.agrees() && outcome.compared > 0, "{outcome:#?}");
    }
    assert_eq!(calc(&engine, &[], false).await.computed(), 0);
}

#[tokio::test]
async fn every_shipped_definition_is_computed_before_anything_is_loaded() {
    let warehouse = Warehouse::product();
    let engine = warehouse.product_engine().await;
    let report = calc(&engine, &[], false).await;
    assert_eq!(
        report.computed(),
        engine.catalogue().await.unwrap().indicators().len()
    );
    let reader = session(&engine, Role::Reader).await;
    let values = "SELECT count(*) AS n FROM published.indicator_value WHERE value IS NOT NULL";
    let text = shown(&reader, values).await.unwrap();
    assert!(text.contains("| 0 |"), "{text}");
}

#[tokio::test]
async fn sharing_scans_changes_no_component() {
    let warehouse = loaded().await;
    for county in [7, 8] {
        land_year(&warehouse, county).await;
    }
    let states = "SELECT indicator, component, area, area_base, period_start, delivery_id, n, \
                  encode(persons, 'hex') AS persons, encode(hist, 'hex') AS hist, x, sex \
                  FROM component.cell ORDER BY indicator, component, area_base, area, period_start, \
                  delivery_id, sex, age_group, production, profession_group, service_code, task_group";
    let mut answers = Vec::new();
    for (one_by_one, partitions) in [(true, 2), (false, 1), (false, 2), (false, 7)] {
        let options = warehouse.product_options().target_partitions(partitions);
        let engine = Engine::open(options).await.unwrap();
        let request = CalcRequest {
            full: true,
            one_by_one,
            ..CalcRequest::default()
        };
        let report = engine.calc(&request, &NoProgress).await.unwrap();
        assert_eq!(report.failed(), 0, "{report:#?}");
        assert_eq!(report.scans.is_empty(), one_by_one, "{report:#?}");
        for scan in &report.scans {
            assert_eq!(scan.gave_way, None, "{scan:#?}");
        }
        let admin = session(&engine, Role::Admin).await;
        answers.push(shown_cells(&warehouse, &admin, states).await.unwrap());
    }
    assert!(answers[0].lines().count() > 1_000);
    assert!(answers[0].contains(RATE));
    assert!(answers.iter().all(|answer| *answer == answers[0]));
}

#[tokio::test]
async fn a_formula_that_many_have_gives_each_its_own_values() {
    let warehouse = loaded().await;
    warehouse.write(
        "sql/conformed/test_wait.sql",
        "-- grain: one row per notification\n\
         -- key: county_code, notification_no\n\
         SELECT *, CAST(date_part('day', received_on) AS INT) AS days \
         FROM conformed.child_welfare_notification",
    );
    warehouse.write(
        "definitions/limits/test.toml",
        "schema = \"tietopohja-limits/1\"\n[[limit]]\nid = \"test.wait\"\ntitle_fi = \"Odotus\"\n\
         unit = \"day\"\nmax = 14\nbasis = \"vain kokeeseen\"\nconfirmed = true\n",
    );
    // Three have one formula with two outputs; the last has as many rows and another formula.
    let cases = [
        ("all", "days > 0", ""),
        ("late", "days > 20", ""),
        ("none", "days > 40", ""),
        (
            "shares",
            "days > 0",
            "[[output]]\nname = \"share\"\nstat = \"share_over\"\nlimit = \"test.wait\"\nper = 100\n",
        ),
    ];
    for (name, rows, output) in cases {
        let definition = format!(
            "schema = \"tietopohja-indicator/1\"
id = \"test.{name}\"
version = \"1.0.0\"
kind = \"waiting_time\"
status = \"draft\"
mandate = \"management\"
[text.fi]
title = \"Odotus\"
definition = \"Kokeiltava odotus.\"
unit = \"päivää\"
[owner]
unit = \"lastensuojelu\"
role = \"palvelujohtaja\"
[source.waits]
table = \"conformed.test_wait\"
where = \"{rows}\"
time = \"received_on\"
municipality = \"municipality_code\"
person = \"person_pid\"
deliveries = [\"child_notification\"]
[duration]
from = \"waits\"
days = \"days\"
start = \"received_on\"
end = \"received_on\"
[[output]]
name = \"median_days\"
stat = \"quantile\"
q = 0.5
[[output]]
name = \"p90_days\"
stat = \"quantile\"
q = 0.9
{output}[time]
grains = [\"month\", \"year\"]
[area]
levels = [\"municipality\", \"county\"]
[disclosure]
profile = \"person_count\"
"
        );
        warehouse.write(
            &format!("definitions/indicators/test.{name}.toml"),
            &definition,
        );
    }
    land_year(&warehouse, 7).await;
    let values = "SELECT indicator, output, area_level, area, period_grain, period_start, value, numerator, \
                  denominator, obs_status, conf_status FROM result.indicator_value \
                  WHERE indicator LIKE 'test.%' \
                  ORDER BY indicator, output, area_level, area, period_grain, period_start";
    let mut answers = Vec::new();
    for (one_by_one, partitions) in [(true, 2), (false, 1), (false, 2)] {
        let options = warehouse.product_options().target_partitions(partitions);
        let engine = Engine::open(options).await.unwrap();
        let request = CalcRequest {
            ids: cases
                .iter()
                .map(|case| format!("test.{}", case.0))
                .collect(),
            full: true,
            one_by_one,
            ..CalcRequest::default()
        };
        let report = engine.calc(&request, &NoProgress).await.unwrap();
        assert_eq!(report.failed(), 0, "{report:#?}");
        let admin = session(&engine, Role::Admin).await;
        answers.push(shown(&admin, values).await.unwrap());
    }
    for answer in &answers {
        assert!(*answer == answers[0], "{answer}\n{}", answers[0]);
    }
    // Each has its own.
    let medians = |name: &str| -> Vec<String> {
        let rows = answers[0].lines();
        let rows = rows.filter(|row| row.contains(&format!("| test.{name} ")));
        let medians = rows.filter(|row| row.contains("median_days"));
        medians
            .map(|row| row.split('|').nth(7).unwrap_or_default().trim().to_owned())
            .collect()
    };
    assert!(
        medians("all").contains(&"11.0".to_owned()),
        "{}",
        answers[0]
    );
    assert!(
        medians("late").contains(&"24.0".to_owned()),
        "{}",
        answers[0]
    );
    assert!(
        medians("none").iter().all(String::is_empty),
        "{}",
        answers[0]
    );
    assert!(medians("shares") == medians("all"), "{}", answers[0]);
}

#[tokio::test]
async fn a_definition_that_fails_does_not_take_others_of_its_scan_along() {
    let warehouse = loaded().await;
    land_year(&warehouse, 7).await;
    let file = format!("definitions/indicators/{RATE}.toml");
    let broken = warehouse.read(&file).replace(RATE, "lasu.broken").replace(
        "where = \"NOT voided\"",
        "where = \"10 / (length(notification_no) - length(notification_no)) > 0\"",
    );
    warehouse.write("definitions/indicators/lasu.broken.toml", &broken);
    let engine = warehouse.product_engine().await;
    let request = CalcRequest {
        ids: vec![RATE.to_owned(), "lasu.broken".to_owned()],
        ..CalcRequest::default()
    };
    let report = engine.calc(&request, &NoProgress).await.unwrap();
    assert_eq!((report.computed(), report.failed()), (1, 1), "{report:#?}");
    assert!(report.scans.iter().any(|scan| scan.gave_way.is_some()));
    let reader = session(&engine, Role::Reader).await;
    let sql = "SELECT DISTINCT indicator FROM published.indicator_value WHERE value IS NOT NULL";
    let known = shown(&reader, sql).await.unwrap();
    assert!(known.contains(RATE) && !known.contains("broken"), "{known}");
}

#[tokio::test]
async fn a_lookup_of_codes_that_nobody_reads_is_left_out() {
    let warehouse = loaded().await;
    land_year(&warehouse, 7).await;
    let engine = warehouse.product_engine().await;
    let admin = session(&engine, Role::Admin).await;
    let plan = async |sql: &str| shown(&admin, &format!("EXPLAIN {sql}")).await.unwrap();
    for (sql, words, joins) in [
        (
            "SELECT count(*) FROM conformed.child_welfare_notification",
            false,
            false,
        ),
        (
            "SELECT municipality_code, count(*) FROM conformed.child_welfare_notification WHERE NOT voided GROUP BY municipality_code",
            false,
            false,
        ),
        (
            "SELECT notifier, count(*) FROM conformed.child_welfare_notification GROUP BY notifier",
            true,
            false,
        ),
        (
            "SELECT count(*) FROM conformed.child_welfare_notification WHERE notifier = 'unknown'",
            true,
            false,
        ),
        // A join of another shape may give several rows for one.
        (
            "SELECT n.received_on FROM raw.child_notification AS n LEFT JOIN reference.code AS c ON c.code = n.notifier",
            false,
            true,
        ),
        (
            "SELECT n.received_on FROM raw.child_notification AS n LEFT JOIN reference.code AS c ON c.list = 'thl.notifier' AND c.code = n.notifier",
            false,
            true,
        ),
    ] {
        let plan = plan(sql).await;
        assert_eq!(plan.contains("code_word"), words, "{sql}: {plan}");
        assert_eq!(plan.contains("JoinExec"), joins, "{sql}: {plan}");
    }
    let rows = "SELECT count(*) AS n FROM conformed.child_welfare_notification";
    let raw = "SELECT count(*) AS n FROM raw.child_notification";
    assert_eq!(
        shown(&admin, rows).await.unwrap(),
        shown(&admin, raw).await.unwrap()
    );
}

#[tokio::test]
async fn values_follow_from_rows_and_small_counts_are_hidden() {
    let warehouse = loaded().await;
    land_year(&warehouse, 7).await;
    let engine = warehouse.product_engine().await;
    let report = calc(&engine, &[RATE, CHILDREN], false).await;
    assert_eq!(report.computed(), 2);
    assert!(
        report
            .indicators
            .iter()
            .all(|result| result.component_rows > 0 && result.suppressed > 0),
        "{report:#?}"
    );

    let analyst = session(&engine, Role::Analyst).await;
    let cell = |schema: &str, level: &str, area: &str, period: &str| {
        format!(
            "SELECT value, numerator, denominator, obs_status, conf_status FROM {schema}.indicator_value \
             WHERE indicator = '{RATE}' AND area_level = '{level}' AND area = '{area}' AND period = '{period}' AND sex IS NULL"
        )
    };
    // 21 + 22 + … + 32 in Hämeenlinna and 12 in Forssa, without every tenth.
    let counted: i64 = (1..=12i64)
        .map(|month| {
            let n = 20 + month + 1;
            n - n / 10
        })
        .sum();
    let year = shown(&analyst, &cell("result", "county", "07", "2024"))
        .await
        .unwrap();
    assert!(
        year.contains(&format!("| {counted}.0 ")),
        "{counted}: {year}"
    );
    assert!(year.contains("| E          | F "), "{year}");
    // Forssa has one notification a month.
    let restricted = shown(&analyst, &cell("result", "municipality", "061", "2024-03"))
        .await
        .unwrap();
    assert!(
        restricted.contains("| 1.0 ") && restricted.contains("| C "),
        "{restricted}"
    );
    let published = shown(
        &analyst,
        &cell("published", "municipality", "061", "2024-03"),
    )
    .await
    .unwrap();
    assert!(
        !published.contains("| 1.0 ") && published.contains("| C "),
        "{published}"
    );
    // A municipality of a county that delivered, with nothing: a true zero.
    let zero = shown(
        &analyst,
        &cell("published", "municipality", "082", "2024-03"),
    )
    .await
    .unwrap();
    assert!(zero.contains("| 0.0   | 0.0 "), "{zero}");
    // Another county, and the country, are not delivered.
    for (level, area) in [("county", "08"), ("country", "FI"), ("municipality", "286")] {
        let missing = shown(&analyst, &cell("published", level, area, "2024"))
            .await
            .unwrap();
        assert!(missing.contains("| L "), "{level} {area}: {missing}");
    }
    let bare = "SELECT * FROM published.indicator_value LIMIT 1";
    assert!(
        !shown(&analyst, bare)
            .await
            .unwrap()
            .contains("indicator_no")
    );

    let outcomes = engine
        .check(&[RATE.to_owned(), CHILDREN.to_owned()])
        .await
        .unwrap();
    for outcome in outcomes {
        assert!(outcome.agrees() && outcome.compared > 10, "{outcome:#?}");
    }
}

#[tokio::test]
async fn only_what_a_delivery_touches_is_computed_again() {
    let warehouse = loaded().await;
    land_year(&warehouse, 7).await;
    let engine = warehouse.product_engine().await;
    let ids = [RATE, "vaesto.share_75", "hr.headcount"];
    assert_eq!(calc(&engine, &ids, false).await.computed(), 3);
    assert_eq!(calc(&engine, &ids, false).await.run_id, None);
    assert!(
        engine
            .plan_calc(&ids.map(str::to_owned))
            .await
            .unwrap()
            .is_empty()
    );
    land_year(&warehouse, 8).await;
    let steps: Vec<String> = engine
        .plan_calc(&ids.map(str::to_owned))
        .await
        .unwrap()
        .into_iter()
        .map(|step| step.id)
        .collect();
    assert_eq!(steps, [RATE]);
    let report = calc(&engine, &ids, false).await;
    let computed: Vec<&str> = report
        .indicators
        .iter()
        .filter(|result| result.outcome == IndicatorOutcome::Computed)
        .map(|result| result.id.as_str())
        .collect();
    assert_eq!(computed, [RATE]);
    assert_eq!(calc(&engine, &ids, true).await.computed(), 3);
    let reader = session(&engine, Role::Reader).await;
    let runs = shown(&reader, "SELECT status, trigger, indicators FROM meta.run")
        .await
        .unwrap();
    assert_eq!(runs.matches("| done ").count(), 3, "{runs}");
    let text = shown(
        &reader,
        "SELECT count(DISTINCT id) AS n FROM meta.indicator",
    )
    .await
    .unwrap();
    let known = engine.catalogue().await.unwrap().indicators().len();
    assert!(text.contains(&format!("| {known} ")), "{text}");
}

#[tokio::test]
async fn the_same_rows_give_the_same_bits_at_any_number_of_partitions() {
    let warehouse = loaded().await;
    land_year(&warehouse, 7).await;
    let mut seen = Vec::new();
    for partitions in [1, 2, 7] {
        let engine = Engine::open(warehouse.product_options().target_partitions(partitions))
            .await
            .unwrap();
        calc(
            &engine,
            &[RATE, CHILDREN, "need.service_need", "vaesto.share_75"],
            true,
        )
        .await;
        let admin = session(&engine, Role::Admin).await;
        let cells = "SELECT indicator, component, area, period_start, sex, age, delivery_id, n, encode(persons, 'hex') AS persons, encode(hist, 'hex') AS hist, x FROM component.cell ORDER BY indicator, component, area, period_start, sex, age, delivery_id";
        let values = "SELECT indicator, output, area_level, area, period, sex, value, lower, upper, numerator, denominator, obs_status, conf_status FROM result.indicator_value ORDER BY indicator, output, area_level, area, period, sex";
        seen.push((
            shown(&admin, cells).await.unwrap(),
            shown(&admin, values).await.unwrap(),
        ));
    }
    assert!(seen[0].0.lines().count() > 100 && seen[0].1.lines().count() > 1_000);
    assert!(
        seen[0] == seen[1] && seen[0] == seen[2],
        "values differ between numbers of partitions"
    );
}

#[tokio::test]
async fn a_failing_indicator_stops_no_other_and_keeps_what_it_had() {
    let warehouse = loaded().await;
    let engine = warehouse.product_engine().await;
    let ids = ["vaesto.population", "need.service_need"];
    calc(&engine, &ids, false).await;
    // A value that is not a number is a failure of the indicator.
    warehouse.write(
        "sql/reference/need_sector_weight.sql",
        "-- grain: broken\nSELECT year, CASE sector_fi WHEN 'Terveydenhuolto' THEN 'health' WHEN 'Sosiaalihuolto' THEN 'social' ELSE 'elderly' END AS sector, sector_fi, CAST('Infinity' AS DOUBLE) AS weight FROM reference.need_sector_weight_fi",
    );
    let engine = warehouse.product_engine().await;
    let request = CalcRequest {
        ids: ids.map(str::to_owned).into(),
        full: true,
        one_by_one: false,
        trigger: String::new(),
    };
    let report = engine.calc(&request, &NoProgress).await.unwrap();
    assert_eq!((report.computed(), report.failed()), (1, 1), "{report:#?}");
    let reader = session(&engine, Role::Reader).await;
    let sql = "SELECT count(*) AS n FROM published.indicator_value WHERE indicator = 'need.service_need' AND value IS NOT NULL";
    assert!(!shown(&reader, sql).await.unwrap().contains("| 0 |"));
    let runs = shown(&reader, "SELECT status FROM meta.run").await.unwrap();
    assert!(runs.contains("partly_failed"), "{runs}");
}

#[tokio::test]
async fn a_wrong_value_is_found_by_its_check() {
    let warehouse = loaded().await;
    let engine = warehouse.product_engine().await;
    calc(&engine, &["vaesto.population"], false).await;
    let check = std::fs::read_to_string(
        warehouse
            .folder
            .path()
            .join("sql/checks/vaesto.population.sql"),
    )
    .unwrap();
    warehouse.write("sql/checks/vaesto.population.sql", &format!("SELECT * REPLACE (value + CASE WHEN area = '07' THEN 1 ELSE 0 END AS value) FROM (\n{check}\n) AS c"));
    let outcome = &engine
        .check(&["vaesto.population".to_owned()])
        .await
        .unwrap()[0];
    assert_eq!(outcome.status, CheckStatus::Differs);
    assert!(
        outcome.mismatched > 0 && outcome.mismatches[0].key.contains("07"),
        "{outcome:#?}"
    );
    warehouse.write(
        "sql/checks/vaesto.population.sql",
        "SELECT nothing FROM nowhere",
    );
    let outcome = &engine
        .check(&["vaesto.population".to_owned()])
        .await
        .unwrap()[0];
    assert_eq!(outcome.status, CheckStatus::Failed);
    assert!(
        outcome
            .message
            .as_deref()
            .unwrap()
            .starts_with("sql/checks/vaesto.population.sql: "),
        "{outcome:#?}"
    );
    let status = engine.status().await.unwrap();
    assert_eq!(status.failing_checks.len(), 1, "{status:#?}");
}

#[tokio::test]
async fn a_value_is_explained_down_to_its_deliveries() {
    let warehouse = loaded().await;
    land_year(&warehouse, 7).await;
    let engine = warehouse.product_engine().await;
    calc(&engine, &[RATE], false).await;
    let request = ExplainRequest {
        indicator: RATE.to_owned(),
        area: "07".to_owned(),
        period: "2024Q1".to_owned(),
        ..ExplainRequest::default()
    };
    let full = engine
        .explain(&principal(Role::Analyst), &request)
        .await
        .unwrap();
    assert_eq!(full.values.len(), 1, "{full:#?}");
    let sum: i64 = full.contributions.iter().filter_map(|row| row.n).sum();
    assert_eq!(full.values[0].numerator, Some(sum as f64), "{full:#?}");
    let ids: Vec<&str> = full
        .deliveries
        .iter()
        .map(|row| row.delivery_id.as_str())
        .collect();
    assert_eq!(
        ids,
        [
            "child_notification.07.202401.r1",
            "child_notification.07.202402.r1",
            "child_notification.07.202403.r1"
        ]
    );
    assert!(
        full.deliveries
            .iter()
            .all(|row| row.contributes && row.received == row.accepted)
    );

    let reader = engine
        .explain(&principal(Role::Reader), &request)
        .await
        .unwrap();
    assert_eq!(reader.deliveries.len(), 3);
    assert!(
        reader
            .contributions
            .iter()
            .all(|row| row.n.is_none() && row.persons.is_none() && row.waits.is_none())
    );

    let hidden = ExplainRequest {
        area: "061".to_owned(),
        period: "2024-03".to_owned(),
        ..request.clone()
    };
    let reader = engine
        .explain(&principal(Role::Reader), &hidden)
        .await
        .unwrap();
    assert_eq!(
        (reader.values[0].value, reader.values[0].numerator),
        (None, None)
    );
    assert_eq!(reader.values[0].conf_status, "C");
    let analyst = engine
        .explain(&principal(Role::Analyst), &hidden)
        .await
        .unwrap();
    assert_eq!(analyst.values[0].numerator, Some(1.0));

    for (wrong, part) in [
        (
            ExplainRequest {
                indicator: "lasu.notifications_per_100".to_owned(),
                ..request.clone()
            },
            "did you mean `lasu.notifications_per_1000`?",
        ),
        (
            ExplainRequest {
                period: "1999".to_owned(),
                ..request.clone()
            },
            "periods are written like",
        ),
        (
            ExplainRequest {
                area: "XX".to_owned(),
                ..request.clone()
            },
            "no value for area `XX`",
        ),
        (
            ExplainRequest {
                breakdowns: vec![("colour".to_owned(), "red".to_owned())],
                ..request
            },
            "no breakdown `colour`",
        ),
    ] {
        let told = engine
            .explain(&principal(Role::Analyst), &wrong)
            .await
            .unwrap_err()
            .to_string();
        assert!(told.contains(part), "{told}");
    }
}

#[tokio::test]
async fn the_state_of_a_warehouse_is_one_screen() {
    let warehouse = loaded().await;
    land_year(&warehouse, 7).await;
    let engine = warehouse.product_engine().await;
    calc(&engine, &[RATE], false).await;
    let status = engine.status().await.unwrap();
    let contract = status
        .contracts
        .iter()
        .find(|row| row.contract == "child_notification")
        .unwrap();
    assert_eq!(
        (contract.deliveries, contract.counties, contract.quarantined),
        (12, 1, 0)
    );
    assert_eq!(
        (
            contract.covers_from.as_deref(),
            contract.covers_to.as_deref()
        ),
        (Some("2024-01-01"), Some("2024-12-31"))
    );
    assert_eq!(status.contracts.len(), 16);
    assert_eq!(status.indicators, 1);
    assert!(
        status.values > 1_000 && status.suppressed > 0 && status.reference_tables > 20,
        "{status:#?}"
    );
    assert_eq!(status.last_run.as_ref().unwrap().status, "done");
    assert!(status.problems.is_empty(), "{:#?}", status.problems);
}

#[tokio::test]
async fn values_of_an_indicator_that_is_no_more_go_away() {
    let warehouse = loaded().await;
    let engine = warehouse.product_engine().await;
    calc(&engine, &[], false).await;
    std::fs::remove_file(
        warehouse
            .folder
            .path()
            .join("definitions/indicators/vaesto.share_75.toml"),
    )
    .unwrap();
    let engine = warehouse.product_engine().await;
    let report = calc(&engine, &[], false).await;
    assert!(
        report.run_id.is_some() && report.computed() == 0,
        "{report:#?}"
    );
    let reader = session(&engine, Role::Reader).await;
    for table in [
        "published.indicator_value WHERE indicator",
        "meta.indicator WHERE id",
    ] {
        let text = shown(
            &reader,
            &format!("SELECT count(*) AS n FROM {table} = 'vaesto.share_75'"),
        )
        .await
        .unwrap();
        assert!(text.contains("| 0 |"), "{text}");
    }
}

#[tokio::test]
async fn what_a_calculation_stores_is_seen_whole_or_not_at_all() {
    const SHARE: &str = "vaesto.share_75";
    let warehouse = loaded().await;
    land_year(&warehouse, 7).await;
    let engine = warehouse.product_engine().await;
    calc(&engine, &[RATE, SHARE], false).await;
    let values = format!(
        "SELECT (SELECT count(*) FROM published.indicator_value WHERE indicator = '{RATE}') AS published, \
         (SELECT count(*) FROM result.indicator_value WHERE indicator = '{RATE}') AS restricted"
    );
    let seen = |engine: Arc<Engine>, as_of: Option<Timestamp>| {
        let values = values.clone();
        async move {
            let options = SessionOptions {
                as_of,
                ..SessionOptions::default()
            };
            let admin = principal(Role::Admin);
            let session = engine.session_with(&admin, &options).await.unwrap();
            shown(&session, &values).await.unwrap()
        }
    };
    let before = seen(Arc::clone(&engine), None).await;
    assert!(!before.contains("| 0 "), "{before}");

    // A calculation that ends after its first commit: the published values are gone, by its account.
    let number = engine.catalogue().await.unwrap();
    let number = number.indicators().iter().find(|known| known.id() == RATE);
    let emptied = SliceRows {
        slice: Slice::new(&[("indicator_no", number.unwrap().number())]),
        batches: Vec::new(),
    };
    let table = |schema, name| TableName::new(schema, name).unwrap();
    let published = table("published", "indicator_value");
    let group = warehouse.lake.group(&table("meta", "run")).await.unwrap();
    let (lake, info) = (&warehouse.lake, group.info());
    lake.replace_slices(&published, vec![emptied], info)
        .await
        .unwrap();
    let warehouse = warehouse.reopened();
    let engine = warehouse.product_engine().await;
    assert_eq!(seen(Arc::clone(&engine), None).await, before);
    assert_eq!(seen(Arc::clone(&engine), Some(clock().now())).await, before);

    // The next one makes anew what was left, whatever it is asked for.
    let plan = engine.plan_calc(&[SHARE.to_owned()]).await.unwrap();
    let planned: Vec<&str> = plan.iter().map(|step| step.id.as_str()).collect();
    assert_eq!(planned, [RATE]);
    let report = calc(&engine, &[SHARE], false).await;
    let outcomes: Vec<_> = report
        .indicators
        .iter()
        .map(|result| (result.id.as_str(), &result.outcome))
        .collect();
    assert_eq!(
        outcomes,
        [
            (RATE, &IndicatorOutcome::Computed),
            (SHARE, &IndicatorOutcome::Unchanged)
        ]
    );
    let newest = warehouse.lake.version(&published).await.unwrap();
    assert_eq!(warehouse.lake.settled(&published).await.unwrap(), newest);
    assert_eq!(seen(Arc::clone(&engine), None).await, before);
}
