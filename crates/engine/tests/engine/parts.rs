//! A pass that does not fit in memory is made in parts, and gives what it gives at once, to the bit.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::DataType;
use tietopohja_engine::{
    CalcReport, CalcRequest, Engine, EngineOptions, IndicatorOutcome, NoProgress, Role,
};

use crate::facts::{MONTHS, VISITS, rows, visit_days, visit_spells};
use crate::fixture::{Warehouse, day, session};

const COUNTIES: [i32; 2] = [7, 8];
/// Room for temporary files that is never used up.
const ROOM_MIB: u64 = 1 << 10;
/// Visits of a delivery, each of another person.
const VISITS_LANDED: usize = 160_000;
/// Conditions that no two indicators share, so that each has a grouping of its own.
const OTHERS: [&str; 7] = [
    "sex = 'female'",
    "sex = 'male'",
    "municipality_code = '109'",
    "municipality_code = '061'",
    "sex IS NOT NULL",
    "municipality_code IS NOT NULL",
    "visit_no IS NOT NULL",
];

/// How many visits there are, by their numbers.
const NUMBERS: &str = "test.visit_numbers";

const CELLS: &str = "SELECT * FROM component.cell \
    ORDER BY indicator, component, area, period_start, delivery_id";

const VALUES: &str = "SELECT indicator, output, area_level, area, period_grain, period_start, \
    value, numerator, denominator FROM result.indicator_value ORDER BY 1, 2, 3, 4, 5, 6";

/// Visits where nobody comes twice, so that sets of persons are most of what a pass holds.
fn visits(county: i32, place: usize) -> RecordBatch {
    let plain = rows("homecare_visit", county, MONTHS[place], VISITS_LANDED);
    let schema = plain.schema();
    let first = (county as usize * 10 + place) * VISITS_LANDED;
    let columns = schema.fields().iter().zip(plain.columns());
    let columns = columns.map(|(field, column)| {
        let column: ArrayRef = match field.data_type() {
            DataType::Binary => {
                let persons = (first..first + VISITS_LANDED).map(|n| n as u128 + 1);
                let persons = persons.map(|person| Some(person.to_be_bytes().to_vec()));
                Arc::new(persons.collect::<BinaryArray>())
            }
            _ => Arc::clone(column),
        };
        (field.name().clone(), column, true)
    });
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

async fn landed() -> Warehouse {
    let warehouse = Warehouse::product();
    let write = |id: &str, text: &str| {
        warehouse.write(&format!("definitions/indicators/{id}.toml"), text);
    };
    write("test.visits", VISITS);
    write("test.visit_spells", &visit_spells());
    write("test.visit_days", &visit_days());
    for (number, condition) in OTHERS.iter().enumerate() {
        let id = format!("test.others_{number}");
        let text = VISITS.replace("test.visits", &id);
        let text = text.replace("\"realised\"", &format!("\"{condition}\""));
        write(&id, &text);
    }
    // Things have no numbers in a list: they are most of what a pass holds.
    let numbers = VISITS
        .replace("test.visits", NUMBERS)
        .replace("kind = \"sum\"", "kind = \"stock\"")
        .replace("agg = \"count\"", "agg = \"distinct\"\nkey = \"visit_no\"");
    write(NUMBERS, &numbers);
    warehouse.load_reference().await;
    for county in COUNTIES {
        for (place, (year, month)) in MONTHS.into_iter().enumerate() {
            let covers = (day(year, month, 1), day(year, month + 1, 1) - 1);
            let period = i32::from(year) * 100 + i32::from(month);
            let rows = visits(county, place);
            warehouse
                .land("homecare_visit", county, period, covers, rows)
                .await;
        }
    }
    warehouse
}

/// What a calculation gave.
struct Calculated {
    report: CalcReport,
    cells: RecordBatch,
    values: RecordBatch,
}

/// Everything is computed with this memory and room for temporary files. When it is done, the memory
/// is given back and the files are gone.
async fn calc(warehouse: &Warehouse, memory_mib: usize, spill_mib: u64) -> Calculated {
    let spilled = tempfile::tempdir().unwrap();
    let options = warehouse.product_options().target_partitions(2);
    let options = EngineOptions {
        memory_bytes: memory_mib << 20,
        spill_dir: Some(spilled.path().to_owned()),
        spill_bytes: spill_mib << 20,
        ..options
    };
    let engine = Engine::open(options).await.unwrap();
    let mut ids: Vec<String> = [
        "test.visits",
        "test.visit_spells",
        "test.visit_days",
        NUMBERS,
    ]
    .map(str::to_owned)
    .into();
    ids.extend((0..OTHERS.len()).map(|number| format!("test.others_{number}")));
    let request = CalcRequest {
        ids,
        full: true,
        ..CalcRequest::default()
    };
    let report = engine.calc(&request, &NoProgress).await.unwrap();
    assert_eq!(engine.memory_used(), 0, "{memory_mib} MiB");
    assert_eq!(files_in(spilled.path()), 0, "{memory_mib} MiB");
    // Whoever looks at them has memory enough.
    let reader = warehouse.product_engine().await;
    let admin = session(&reader, Role::Admin).await;
    let [cells, values] = [CELLS, VALUES].map(async |sql| {
        let rows = admin.collect(sql).await.unwrap();
        concat_batches(&rows[0].schema(), &rows).unwrap()
    });
    Calculated {
        report,
        cells: cells.await,
        values: values.await,
    }
}

fn files_in(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    let counts = entries.map(|entry| match entry.file_type().unwrap().is_dir() {
        true => files_in(&entry.path()),
        false => 1,
    });
    counts.sum()
}

#[tokio::test]
async fn a_pass_in_parts_gives_what_it_gives_at_once() {
    let warehouse = landed().await;
    let whole = calc(&warehouse, 512, ROOM_MIB).await;
    assert!(whole.cells.num_rows() > 40, "{:?}", whole.cells);
    // There are four slices, and more parts than those cannot be.
    for (memory_mib, least, most) in [(256, 1, 1), (32, 2, 2), (20, 2, 2), (14, 3, 4)] {
        let found = calc(&warehouse, memory_mib, ROOM_MIB).await;
        let report = &found.report;
        assert_eq!(report.failed(), 0, "{memory_mib} MiB: {report:#?}");
        assert_eq!(report.scans.len(), 2, "{report:#?}");
        for scan in &report.scans {
            assert_eq!(scan.gave_way, None, "{memory_mib} MiB: {scan:#?}");
            let least = if scan.spells { 1 } else { least };
            let fits = (least..=most).contains(&scan.parts);
            assert!(fits, "{memory_mib} MiB: {scan:#?}");
            // What parts find waits on disk.
            let waits = scan.spilled_bytes > 0;
            assert_eq!(waits, scan.parts > 1, "{memory_mib} MiB: {scan:#?}");
        }
        assert!(found.cells == whole.cells, "{memory_mib} MiB");
        assert!(found.values == whole.values, "{memory_mib} MiB");
    }
}

#[tokio::test]
async fn without_room_on_disk_a_pass_in_parts_gives_way() {
    let warehouse = landed().await;
    let whole = calc(&warehouse, 512, ROOM_MIB).await;
    let found = calc(&warehouse, 32, 1).await;
    let told = found.report.scans.iter();
    let mut told = told.filter_map(|scan| scan.gave_way.as_ref());
    let is_told = told.any(|why| why.contains("could not be written to a temporary file"));
    assert!(is_told, "{:#?}", found.report);
    // What is computed all the same is right, what is not says why and stays as it was.
    for indicator in &found.report.indicators {
        if let IndicatorOutcome::Failed { message } = &indicator.outcome {
            assert!(message.contains("more memory or spill space"), "{message}");
        }
    }
    assert!(found.values == whole.values);
}

#[tokio::test]
async fn relations_are_stored_with_little_memory_too() {
    // The numbers of 640 000 persons alone take more than 48 MiB.
    for memory_mib in [96, 64] {
        let Calculated { report, .. } = calc(&landed().await, memory_mib, 20 << 10).await;
        let stored = report.facts.iter().filter(|fact| fact.stored == 4);
        assert!(stored.count() > 0, "{memory_mib} MiB: {:#?}", report.facts);
        for fact in &report.facts {
            assert_eq!(fact.gave_way, None, "{memory_mib} MiB: {fact:#?}");
        }
    }
}
