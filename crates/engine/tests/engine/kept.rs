//! After a delivery only its slice is scanned, and what comes of it is what a full calculation gives,
//! to the bit.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use tietopohja_engine::{
    CalcReport, CalcRequest, Engine, IndicatorOutcome, NoProgress, Role, ScanReport,
};
use tietopohja_lake::{CommitInfo, Slice, SliceRows, TableName};

use crate::facts::{MONTHS, Stored, land, landed, rows};
use crate::fixture::{Warehouse, session, shown, shown_cells};

const VISITS: &str = "test.visits";
/// The same again, in one test.
const OTHER: &str = "test.other";
/// Indicators over stored relations: counts, sums, sets, histograms, spells, the newest version of a
/// budget, a relation of relations, two relations.
const IDS: [&str; 14] = [
    VISITS,
    "test.visit_spells",
    "test.visit_days",
    "test.waits",
    "iakkaat.home_care_visits_per_client",
    "lasu.notifications_per_1000",
    "lasu.children_with_notification_pct",
    "esh.referral_over_21_days_pct",
    "hr.sickness_days_per_htv",
    "ostot.provider_count",
    "ostot.unit_cost_care_day",
    "talous.net_cost_per_inhabitant",
    "talous.budget_execution",
    "talous.forecast_deviation",
];

const WAITS: &str = r#"schema = "tietopohja-indicator/1"
id = "test.waits"
version = "1.0.0"
kind = "waiting_time"
status = "draft"
mandate = "management"
[text.fi]
title = "Odotus"
definition = "Odotus arviosta käyntiin."
unit = "päivää"
[owner]
unit = "terveyspalvelut"
role = "johtajaylilääkäri"
[source.visits]
table = "conformed.primary_care_contact"
where = "wait_days >= 0"
time = "visit_on"
municipality = "municipality_code"
person = "person_pid"
deliveries = ["primary_care_contact"]
[duration]
from = "visits"
days = "wait_days"
start = "assessed_on"
end = "visit_on"
[[output]]
name = "median_days"
stat = "quantile"
q = 0.5
unit = "päivää"
[time]
grains = ["month"]
[area]
levels = ["municipality", "county"]
[disclosure]
profile = "person_count"
"#;

const BY_SEX: &str = "[[breakdown]]\nname = \"sex\"\nvalues = [\"female\", \"male\"]\n[disclosure]";

const VISIT_FILE: &str = "definitions/indicators/test.visits.toml";

const CELLS: &str = "SELECT indicator, component, area, area_base, period_start, delivery_id, n, \
    encode(persons, 'hex') AS persons, encode(hist, 'hex') AS hist, x, age, sex, age_group, production, \
    profession_group, service_code, task_group FROM component.cell ORDER BY indicator, component, \
    area_base, area, period_start, delivery_id, sex, age_group, production, profession_group, \
    service_code, task_group";

const VALUES: &str = "SELECT v.* EXCLUDE (run_id, published_at) FROM result.indicator_value AS v \
    ORDER BY indicator, output, area_level, area, period_grain, period_start, sex, age_group, \
    production, profession_group, service_code, task_group";

async fn calc(engine: &Arc<Engine>, full: bool) -> CalcReport {
    let mut request = CalcRequest {
        ids: IDS.map(str::to_owned).into(),
        full,
        ..CalcRequest::default()
    };
    let known = engine.catalogue().await.unwrap();
    let others = known.indicators().iter().map(|known| known.id().to_owned());
    request.ids.extend(others.filter(|id| id == OTHER));
    let report = engine.calc(&request, &NoProgress).await.unwrap();
    assert_eq!(report.failed(), 0, "{report:#?}");
    for scan in &report.scans {
        assert_eq!(scan.gave_way, None, "{scan:#?}");
    }
    report
}

fn copied(warehouse: &Warehouse) -> Warehouse {
    let twin = Warehouse::new();
    twin.copy(warehouse.folder.path(), ".");
    twin.reopened()
}

async fn answers(warehouse: &Warehouse, engine: &Arc<Engine>) -> [String; 2] {
    let admin = session(engine, Role::Admin).await;
    [
        shown_cells(warehouse, &admin, CELLS).await.unwrap(),
        shown(&admin, VALUES).await.unwrap(),
    ]
}

/// Components and values are those of a full calculation in a copy.
async fn assert_as_full(warehouse: &Warehouse, engine: &Arc<Engine>) {
    let twin = copied(warehouse);
    let whole = twin.product_engine().await;
    let report = calc(&whole, true).await;
    assert!(report.indicators.iter().all(|result| result.kept_rows == 0));
    let (own, full) = (
        answers(warehouse, engine).await,
        answers(&twin, &whole).await,
    );
    assert!(own[0].lines().count() > 40, "{}", own[0]);
    for (own, full) in own.iter().zip(&full) {
        let differs = own
            .lines()
            .zip(full.lines())
            .find(|(own, full)| own != full);
        assert!(own == full, "{differs:#?}");
    }
}

/// Passes over stored relations, without those that read all in any case: over spells, and for the
/// newest version of a budget.
fn passes(report: &CalcReport) -> Vec<&ScanReport> {
    let of_budget = |component: &String| component.ends_with("/budget");
    let is_whole = |scan: &ScanReport| scan.spells || scan.components.iter().all(of_budget);
    let scans = report.scans.iter();
    scans
        .filter(|scan| scan.slices.is_some() && !is_whole(scan))
        .collect()
}

/// Every pass over events of a stored relation read so many slices of so many.
fn assert_read(report: &CalcReport, read: usize, of: usize) {
    let passes = passes(report);
    assert!(passes.len() >= 5, "{report:#?}");
    for scan in passes {
        let slices = scan.slices.unwrap();
        assert_eq!((slices.read, slices.of), (read, of), "{scan:#?}");
    }
}

fn kept_rows(report: &CalcReport, indicator: &str) -> (u64, u64) {
    let results = report.indicators.iter();
    let mut own = results.filter(|result| result.id == indicator);
    let result = own.next().unwrap();
    assert_eq!(result.outcome, IndicatorOutcome::Computed);
    (result.kept_rows, result.component_rows)
}

async fn remove(warehouse: &Warehouse, contract: &str, county: i32, period: i32) {
    let rows = SliceRows {
        slice: Slice::new(&[("county", county), ("period", period)]),
        batches: Vec::new(),
    };
    let raw = TableName::new("raw", contract).unwrap();
    let info = CommitInfo::default();
    let removed = warehouse.lake.replace_slices(&raw, vec![rows], info);
    removed.await.unwrap();
}

async fn calculated() -> (Warehouse, Vec<Stored>, Arc<Engine>) {
    let (warehouse, relations) = landed().await;
    warehouse.write("definitions/indicators/test.waits.toml", WAITS);
    let visits = warehouse.read(VISIT_FILE).replace("[disclosure]", BY_SEX);
    warehouse.write(VISIT_FILE, &visits);
    let engine = warehouse.product_engine().await;
    let report = calc(&engine, false).await;
    assert_read(&report, 4, 4);
    (warehouse, relations, engine)
}

#[tokio::test]
async fn a_delivery_costs_its_slice_whatever_lands() {
    let (warehouse, relations, engine) = calculated().await;
    let admin = session(&engine, Role::Admin).await;
    let states = "SELECT count(persons) > 30 AND count(hist) > 3 AS known FROM component.cell";
    let known = shown(&admin, states).await.unwrap();
    let cells = shown(&admin, CELLS).await.unwrap();
    assert!(known.contains("true"), "{cells}");
    // A correction.
    for relation in &relations {
        land(&warehouse, &relation.contract, 7, MONTHS[0], 75).await;
    }
    let ids = IDS.map(str::to_owned);
    let planned = engine.plan_scans(&ids).await.unwrap().0;
    let report = calc(&engine, false).await;
    assert_read(&report, 1, 4);
    let slices = |scans: &[ScanReport]| -> BTreeSet<String> {
        let scans = scans.iter();
        let told = scans.map(|scan| format!("{} {} {:?}", scan.table, scan.spells, scan.slices));
        told.collect()
    };
    assert_eq!(slices(&planned), slices(&report.scans));
    for id in [VISITS, "test.waits", "lasu.notifications_per_1000"] {
        let (kept, all) = kept_rows(&report, id);
        assert!(0 < kept && kept < all, "{id}: {kept} of {all}");
    }
    // Which spells count depends on the months of all deliveries.
    assert_eq!(kept_rows(&report, "test.visit_spells").0, 0);
    assert_eq!(kept_rows(&report, "test.visit_days").0, 0);
    assert_as_full(&warehouse, &engine).await;
    // A month that comes late, by a process that did not compute what is kept.
    let warehouse = warehouse.reopened();
    let engine = warehouse.product_engine().await;
    for relation in &relations {
        land(&warehouse, &relation.contract, 8, (2024, 1), 50).await;
    }
    assert_read(&calc(&engine, false).await, 1, 4);
    assert_as_full(&warehouse, &engine).await;
    // A new organiser.
    for relation in &relations {
        land(&warehouse, &relation.contract, 9, MONTHS[1], 40).await;
    }
    assert_read(&calc(&engine, false).await, 1, 5);
    assert_as_full(&warehouse, &engine).await;
    // One of two deliveries of a slice is taken out, then the only one of another.
    for relation in &relations {
        remove(&warehouse, &relation.contract, 8, 202_402).await;
    }
    assert_read(&calc(&engine, false).await, 1, 5);
    assert_as_full(&warehouse, &engine).await;
    for relation in &relations {
        remove(&warehouse, &relation.contract, 7, 202_503).await;
    }
    let report = calc(&engine, false).await;
    assert_read(&report, 0, 4);
    let (kept, all) = kept_rows(&report, VISITS);
    assert!(kept == all && all > 0, "{kept} of {all}");
    assert_as_full(&warehouse, &engine).await;
    assert_eq!(calc(&engine, false).await.computed(), 0);
}

#[tokio::test]
async fn indicators_of_one_relation_may_differ_in_what_is_kept() {
    let (warehouse, _, _) = calculated().await;
    let other = warehouse.read(VISIT_FILE).replace(VISITS, OTHER);
    warehouse.write("definitions/indicators/test.other.toml", &other);
    let engine = warehouse.product_engine().await;
    let calc_of = async |of: &[&str]| {
        let request = CalcRequest {
            ids: of.iter().map(|id| (*id).to_owned()).collect(),
            ..CalcRequest::default()
        };
        engine.calc(&request, &NoProgress).await.unwrap()
    };
    calc_of(&[OTHER]).await;
    land(&warehouse, "homecare_visit", 7, MONTHS[0], 75).await;
    calc_of(&[OTHER]).await;
    land(&warehouse, "homecare_visit", 8, MONTHS[0], 40).await;
    let report = calc_of(&[OTHER, VISITS]).await;
    let passes = passes(&report);
    let read: Vec<_> = passes
        .iter()
        .map(|scan| (scan.components.join(" "), scan.slices.unwrap().read))
        .collect();
    let wanted = [("test.visits/numerator", 2), ("test.other/numerator", 1)];
    assert_eq!(read, wanted.map(|(id, read)| (id.to_owned(), read)));
    calc(&engine, false).await;
    assert_as_full(&warehouse, &engine).await;
}

#[tokio::test]
async fn most_of_a_relation_is_read_whole() {
    let (warehouse, relations, engine) = calculated().await;
    for relation in &relations {
        for (county, month) in [(7, MONTHS[0]), (8, MONTHS[0]), (8, MONTHS[1])] {
            land(&warehouse, &relation.contract, county, month, 75).await;
        }
    }
    assert_read(&calc(&engine, false).await, 4, 4);
    assert_as_full(&warehouse, &engine).await;
}

#[tokio::test]
async fn another_definition_keeps_nothing_and_another_title_everything() {
    let (warehouse, _, _) = calculated().await;
    let text = warehouse.read(VISIT_FILE);
    for (from, to, read) in [
        ("Kotihoidon käynnit", "Käynnit kotona", 0),
        (
            "profile = \"person_count\"",
            "profile = \"public_money\"",
            0,
        ),
        ("where = \"realised\"", "where = \"NOT realised\"", 4),
        (BY_SEX, "[disclosure]", 4),
    ] {
        let changed = text
            .replace(from, to)
            .replace("1.0.0", &format!("1.0.{read}"));
        assert_ne!(changed, text);
        warehouse.write(VISIT_FILE, &text);
        calc(&warehouse.product_engine().await, false).await;
        warehouse.write(VISIT_FILE, &changed);
        let engine = warehouse.product_engine().await;
        let report = calc(&engine, false).await;
        let own = passes(&report);
        assert_eq!(own.len(), 1, "{from}: {report:#?}");
        assert_eq!(own[0].slices.unwrap().read, read, "{from}: {report:#?}");
        assert_as_full(&warehouse, &engine).await;
    }
}

#[tokio::test]
async fn another_code_list_or_relation_keeps_nothing() {
    let (warehouse, _, _) = calculated().await;
    let file = "definitions/codes/county.contact_mode.csv";
    let text = warehouse.read(file).replace(",remote", ",afar");
    warehouse.write(file, &text);
    let engine = warehouse.product_engine().await;
    engine.load_reference().await.unwrap();
    assert_read(&calc(&engine, false).await, 4, 4);
    assert_as_full(&warehouse, &engine).await;
    let file = "sql/staging/homecare_visit.sql";
    let text = warehouse.read(file);
    warehouse.write(file, &text.replace("minutes,", "minutes + 1 AS minutes,"));
    let engine = warehouse.product_engine().await;
    let report = calc(&engine, false).await;
    let own = passes(&report);
    assert!(!own.is_empty(), "{report:#?}");
    assert!(own.iter().all(|scan| scan.slices.unwrap().read == 4));
    assert_as_full(&warehouse, &engine).await;
}

#[tokio::test]
async fn cells_that_are_newer_than_what_is_said_of_them_are_not_kept() {
    let (warehouse, relations, engine) = calculated().await;
    let told = "lake/meta/calculation";
    let before = Warehouse::new();
    before.copy(&warehouse.folder.path().join(told), told);
    for relation in &relations {
        land(&warehouse, &relation.contract, 7, MONTHS[0], 75).await;
    }
    assert_read(&calc(&engine, false).await, 1, 4);
    // The run ended after its components were there and before it could say from what.
    std::fs::remove_dir_all(warehouse.folder.path().join(told)).unwrap();
    warehouse.copy(&before.folder.path().join(told), told);
    let warehouse = warehouse.reopened();
    let engine = warehouse.product_engine().await;
    let report = calc(&engine, false).await;
    assert!(report.indicators.iter().all(|result| result.kept_rows == 0));
    // Where there is no cell, none is of another calculation.
    let results = report.indicators.iter();
    let empty = results.filter(|result| result.component_rows == 0);
    let empty: Vec<&str> = empty.map(|result| result.id.as_str()).collect();
    let mut whole = 0;
    for scan in passes(&report) {
        let slices = scan.slices.unwrap();
        let of = scan.components.iter();
        let mut of = of.map(|component| component.split('/').next().unwrap());
        match slices.read < slices.of {
            true => assert!(of.all(|id| empty.contains(&id)), "{scan:#?}"),
            false => whole += 1,
        }
    }
    assert!(whole >= 3, "{report:#?}");
    assert_as_full(&warehouse, &engine).await;
    // From here on cells are kept again.
    for relation in &relations {
        land(&warehouse, &relation.contract, 7, MONTHS[0], 80).await;
    }
    assert_read(&calc(&engine, false).await, 1, 4);
    assert_as_full(&warehouse, &engine).await;
}

#[tokio::test]
async fn a_table_of_calculations_without_the_marks_is_read_and_keeps_nothing() {
    let (warehouse, relations, engine) = calculated().await;
    let admin = session(&engine, Role::Admin).await;
    let old = "SELECT c.* EXCLUDE (component_digests, component_slices, component_files) \
               FROM meta.calculation AS c";
    let rows = admin.collect(old).await.unwrap();
    std::fs::remove_dir_all(warehouse.folder.path().join("lake/meta/calculation")).unwrap();
    let warehouse = warehouse.reopened();
    let name = TableName::new("meta", "calculation").unwrap();
    let lake = &warehouse.lake;
    lake.ensure_table(&name, rows[0].schema(), &[])
        .await
        .unwrap();
    lake.append(&name, rows, CommitInfo::default())
        .await
        .unwrap();
    let engine = warehouse.product_engine().await;
    assert_eq!(calc(&engine, false).await.computed(), 0);
    for relation in &relations {
        land(&warehouse, &relation.contract, 7, MONTHS[0], 75).await;
    }
    assert_read(&calc(&engine, false).await, 4, 4);
    assert_as_full(&warehouse, &engine).await;
    for relation in &relations {
        land(&warehouse, &relation.contract, 7, MONTHS[0], 80).await;
    }
    assert_read(&calc(&engine, false).await, 1, 4);
    assert_as_full(&warehouse, &engine).await;
}

#[tokio::test]
async fn what_was_computed_one_by_one_is_not_kept() {
    let (warehouse, _, engine) = calculated().await;
    let request = CalcRequest {
        ids: IDS.map(str::to_owned).into(),
        full: true,
        one_by_one: true,
        ..CalcRequest::default()
    };
    engine.calc(&request, &NoProgress).await.unwrap();
    land(&warehouse, "homecare_visit", 7, MONTHS[0], 75).await;
    let report = calc(&engine, false).await;
    let own = passes(&report);
    assert!(!own.is_empty() && own.iter().all(|scan| scan.slices.unwrap().read == 4));
    assert_as_full(&warehouse, &engine).await;
}

/// Puts rows into a slice that name any delivery.
async fn put(warehouse: &Warehouse, county: i32, period: i32, delivery: &str) {
    let rows = rows("homecare_visit", county, MONTHS[0], 30);
    let count = rows.num_rows();
    let whole = |number: i32| Arc::new(Int32Array::from(vec![number; count])) as ArrayRef;
    let mut columns = vec![
        ("county".to_owned(), whole(county), true),
        ("period".to_owned(), whole(period), true),
        (
            "delivery_id".to_owned(),
            Arc::new(StringArray::from(vec![delivery; count])) as ArrayRef,
            true,
        ),
        (
            "row_no".to_owned(),
            Arc::new(Int64Array::from_iter_values(2..count as i64 + 2)) as ArrayRef,
            true,
        ),
    ];
    let schema = rows.schema();
    let given = schema.fields().iter().zip(rows.columns());
    columns.extend(given.map(|(field, rows)| (field.name().clone(), Arc::clone(rows), true)));
    let rows = SliceRows {
        slice: Slice::new(&[("county", county), ("period", period)]),
        batches: vec![RecordBatch::try_from_iter_with_nullable(columns).unwrap()],
    };
    let raw = TableName::new("raw", "homecare_visit").unwrap();
    let info = CommitInfo::default();
    let put = warehouse.lake.replace_slices(&raw, vec![rows], info);
    put.await.unwrap();
}

#[tokio::test]
async fn rows_of_no_known_delivery_are_computed_whole() {
    let (warehouse, _, engine) = calculated().await;
    let read = async || {
        let report = calc(&engine, false).await;
        let own = passes(&report);
        assert_as_full(&warehouse, &engine).await;
        (
            own[0].slices.unwrap().read,
            kept_rows(&report, VISITS).0 > 0,
        )
    };
    // The pass finds what it may not add to what is kept: the component's own query computes it.
    put(&warehouse, 7, 202_402, "stray").await;
    assert_eq!(read().await, (1, false));
    land(&warehouse, "homecare_visit", 8, MONTHS[0], 75).await;
    assert_eq!(read().await, (4, false));
    land(&warehouse, "homecare_visit", 7, MONTHS[0], 75).await;
    assert_eq!(read().await, (4, false));
    land(&warehouse, "homecare_visit", 7, MONTHS[0], 70).await;
    assert_eq!(read().await, (1, true));
    // Rows of one slice that name a delivery of another.
    put(&warehouse, 7, 202_402, "homecare_visit.08.202402.r1").await;
    assert_eq!(read().await, (1, false));
}
