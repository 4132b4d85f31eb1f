//! Stored relations are what their views are, row for row, whatever lands; and only what has changed
//! is stored again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Int64Array, RecordBatch, StringArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type};
use arrow::util::pretty::pretty_format_batches;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tietopohja_engine::calc::FactReport;
use tietopohja_engine::{CalcReport, CalcRequest, Engine, IndicatorOutcome, NoProgress, Role};
use tietopohja_lake::{CommitInfo, Slice, SliceRows, Spare, TableName};

use crate::fixture::{
    Warehouse, contract_schema, day, members, refused, session, shown, shown_cells,
};

/// The year and month of a delivery.
pub(crate) type Month = (i16, i8);

pub(crate) const MONTHS: [Month; 2] = [(2024, 2), (2025, 3)];

/// An indicator on a relation that no shipped indicator reads.
pub(crate) const VISITS: &str = r#"schema = "tietopohja-indicator/1"
id = "test.visits"
version = "1.0.0"
kind = "sum"
status = "draft"
mandate = "management"
[text.fi]
title = "Kotihoidon käynnit"
definition = "Toteutuneet kotihoidon käynnit."
unit = "käyntiä"
[owner]
unit = "ikääntyneiden palvelut"
role = "palvelujohtaja"
[source.visits]
table = "conformed.home_care_visit"
where = "realised"
time = "visit_on"
municipality = "municipality_code"
person = "person_pid"
deliveries = ["homecare_visit"]
[numerator]
from = "visits"
agg = "count"
[time]
grains = ["month"]
[area]
levels = ["municipality", "county"]
[disclosure]
profile = "person_count"
"#;

/// The same relation as spells of one day, whose organiser comes as codes.
pub(crate) fn visit_spells() -> String {
    VISITS
        .replace("test.visits", "test.visit_spells")
        .replace("kind = \"sum\"", "kind = \"stock\"")
        .replace(
            "time = \"visit_on\"",
            "valid_from = \"visit_on\"\nvalid_to = \"visit_on\"\nlast_day = \"included\"",
        )
        .replace("agg = \"count\"", "agg = \"persons\"\nat = \"period\"")
}

/// Days of those in it, a day of a person once.
pub(crate) fn visit_days() -> String {
    visit_spells()
        .replace("test.visit_spells", "test.visit_days")
        .replace("kind = \"stock\"", "kind = \"sum\"")
        .replace("agg = \"persons\"\nat = \"period\"", "agg = \"care_days\"")
        .replace("grains = [\"month\"]", "grains = [\"month\", \"year\"]")
}

/// Rows of any contract: every type, some nulls, few words in most texts.
pub(crate) fn rows(contract: &str, county: i32, (year, month): Month, count: usize) -> RecordBatch {
    let numbers = |of: &dyn Fn(usize) -> Option<i64>| -> ArrayRef {
        Arc::new((0..count).map(of).collect::<Int64Array>())
    };
    let schema = contract_schema(contract);
    let columns = schema.fields().iter().enumerate().map(|(at, field)| {
        let name = field.name().as_str();
        let is_null = |n: usize| n % 11 == 10 && at % 3 == 0;
        let mixed = |n: usize| (n * 7 + at * 3) % 97;
        let column: ArrayRef = match field.data_type() {
            DataType::Utf8 => {
                let text = |n: usize| match name {
                    _ if name.ends_with("_no") => format!("{county}-{year}-{month}-{n}"),
                    "municipality" => ["109", "061"][mixed(n) % 2].to_owned(),
                    "client_sex" => ["female", "male"][mixed(n) % 2].to_owned(),
                    _ => (mixed(n) % 5).to_string(),
                };
                let texts = (0..count).map(|n| (!is_null(n)).then(|| text(n)));
                Arc::new(texts.collect::<StringArray>())
            }
            DataType::Binary => {
                // A large delivery has persons that no other has.
                let persons = count.max(80) as u128 / 2;
                let person = |n: usize| mixed(n) as u128 % persons + 1;
                let members = (0..count).map(|n| Some(person(n).to_be_bytes().to_vec()));
                Arc::new(members.collect::<BinaryArray>())
            }
            DataType::Date32 => Arc::new(
                (0..count)
                    .map(|n| (!is_null(n)).then(|| day(year, month, 1 + (mixed(n) % 28) as i8)))
                    .collect::<Date32Array>(),
            ),
            DataType::Boolean => Arc::new(
                (0..count)
                    .map(|n| Some(mixed(n) % 4 == 0))
                    .collect::<BooleanArray>(),
            ),
            other => {
                let numbers = numbers(&|n| (!is_null(n)).then_some(mixed(n) as i64));
                cast(&numbers, other).unwrap()
            }
        };
        (name.to_owned(), column, true)
    });
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

pub(crate) async fn land(
    warehouse: &Warehouse,
    contract: &str,
    county: i32,
    of: Month,
    count: usize,
) {
    let (year, month) = of;
    let covers = (day(year, month, 1), day(year, month + 1, 1) - 1);
    warehouse
        .land(
            contract,
            county,
            i32::from(year) * 100 + i32::from(month),
            covers,
            rows(contract, county, of, count),
        )
        .await;
}

/// A stored relation of the product.
pub(crate) struct Stored {
    name: String,
    pub(crate) contract: String,
    order: String,
}

/// Every relation of the product with a line `-- stored:`.
fn stored_relations(warehouse: &Warehouse) -> Vec<Stored> {
    let word_after = |text: &str, before: &str| {
        let (_, rest) = text.split_once(before)?;
        let end = rest.find(|letter: char| !letter.is_alphanumeric() && letter != '_');
        Some(rest[..end.unwrap_or(rest.len())].to_owned())
    };
    let line = |text: &str, head: &str| {
        let found = text.lines().find_map(|line| line.strip_prefix(head));
        found.map(str::to_owned)
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../sql/conformed");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let Some(stored) = line(&text, "-- stored: ") else {
            continue;
        };
        let staging = word_after(&text, "FROM staging.").unwrap();
        let staging = warehouse.read(&format!("sql/staging/{staging}.sql"));
        found.push(Stored {
            name: path.file_stem().unwrap().to_str().unwrap().to_owned(),
            contract: word_after(&staging, "FROM raw.").unwrap(),
            order: stored,
        });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// A warehouse where each contract of a stored relation has two counties and two months, each of
/// another year.
pub(crate) async fn landed() -> (Warehouse, Vec<Stored>) {
    let warehouse = Warehouse::product();
    warehouse.write("definitions/indicators/test.visits.toml", VISITS);
    warehouse.write(
        "definitions/indicators/test.visit_spells.toml",
        &visit_spells(),
    );
    warehouse.write("definitions/indicators/test.visit_days.toml", &visit_days());
    warehouse.load_reference().await;
    let relations = stored_relations(&warehouse);
    for relation in &relations {
        for county in [7, 8] {
            for month in MONTHS {
                land(&warehouse, &relation.contract, county, month, 60).await;
            }
        }
    }
    (warehouse, relations)
}

async fn calc(engine: &Arc<Engine>) -> CalcReport {
    let request = CalcRequest {
        full: true,
        ..CalcRequest::default()
    };
    let report = engine.calc(&request, &NoProgress).await.unwrap();
    assert_eq!(report.failed(), 0, "{report:#?}");
    report
}

fn fact_of<'a>(report: &'a CalcReport, relation: &str) -> &'a FactReport {
    let name = format!("conformed.{relation}");
    report
        .facts
        .iter()
        .find(|fact| fact.relation == name)
        .unwrap_or_else(|| panic!("{name} was not read: {report:#?}"))
}

/// Slices, and those stored anew and removed, of each relation.
fn counts(report: &CalcReport) -> Vec<(usize, usize, usize)> {
    report
        .facts
        .iter()
        .map(|fact| {
            assert_eq!(fact.gave_way, None, "{fact:#?}");
            (fact.slices, fact.stored, fact.removed)
        })
        .collect()
}

/// The one table of a relation's facts; its name ends with digits that tell the columns.
async fn fact_table(warehouse: &Warehouse, relation: &str) -> TableName {
    let tables = warehouse.lake.tables().await.unwrap();
    let mut of_relation = tables.into_iter().filter(|table| {
        table.schema() == "fact"
            && table
                .table()
                .rsplit_once('_')
                .is_some_and(|(name, _)| name == relation)
    });
    let found = of_relation.next().unwrap();
    assert_eq!(of_relation.next(), None);
    found
}

/// Beside every column of pseudonyms stands one with their numbers in the list.
fn assert_numbers_are_of_persons(rows: &RecordBatch, members: &BTreeMap<i32, Vec<u8>>) {
    let schema = rows.schema();
    for (field, column) in schema.fields().iter().zip(rows.columns()) {
        if *field.data_type() != DataType::Binary {
            continue;
        }
        let stem = format!("{}#", field.name());
        let mut beside = schema.fields().iter();
        let beside = beside.find(|other| other.name().starts_with(&stem));
        let numbers = rows.column_by_name(beside.unwrap().name()).unwrap();
        let numbers = numbers.as_primitive::<Int32Type>().iter();
        for (number, member) in numbers.zip(column.as_binary::<i32>()) {
            assert_eq!(number.map(|number| members[&number].as_slice()), member);
        }
    }
}

/// Rows that are shown in the order of their pseudonyms, where these come first, in that of their numbers.
fn by_number(shown: &str, members: &BTreeMap<i32, Vec<u8>>) -> String {
    let hex =
        |member: &[u8]| -> String { member.iter().map(|byte| format!("{byte:02x}")).collect() };
    let numbers: BTreeMap<String, i32> = members
        .iter()
        .map(|(n, member)| (hex(member), *n))
        .collect();
    let number = |line: &&str| {
        let first = line.split('|').nth(1).unwrap_or_default().trim();
        numbers.get(first).copied()
    };
    let mut lines: Vec<&str> = shown.lines().collect();
    let end = lines.len() - 1;
    lines[3..end].sort_by_key(number);
    lines.join("\n")
}

/// The stored rows of every slice are those of the view, in the order of the header, persons by their
/// numbers.
async fn assert_stored_is_view(warehouse: &Warehouse, engine: &Arc<Engine>, relation: &Stored) {
    let admin = session(engine, Role::Admin).await;
    let name = &relation.name;
    let table = fact_table(warehouse, name).await;
    let members = members(warehouse).await;
    let slices = warehouse.lake.slices(&table, None).await.unwrap().unwrap();
    let total: u64 = slices.slices.values().map(|s| s.rows.unwrap()).sum();
    let count = shown(
        &admin,
        &format!("SELECT count(*) AS n FROM conformed.{name}"),
    )
    .await
    .unwrap();
    assert!(
        count.contains(&format!("| {total} ")) && total > 0,
        "{name} has {total} stored rows and in the view {count}"
    );
    for key in slices.slices.keys() {
        let [county, year] = key.as_slice() else {
            panic!("{name}: {key:?}")
        };
        let slice = Slice::new(&[("county", *county), ("delivery_year", *year)]);
        let mut batches = Vec::new();
        warehouse
            .lake
            .read(&table, &slice, None, None, &mut |batch| {
                batches.push(batch.clone());
            })
            .await
            .unwrap();
        let numbered = batches;
        for batch in &numbered {
            assert_numbers_are_of_persons(batch, &members);
        }
        let schema = numbered[0].schema();
        let own = (0..schema.fields().len()).filter(|place| {
            let name = schema.field(*place).name();
            !name.contains('#')
        });
        let own: Vec<usize> = own.collect();
        let batches = numbered.iter().map(|batch| batch.project(&own).unwrap());
        let batches: Vec<RecordBatch> = batches.collect();
        let columns: Vec<String> = batches[0]
            .schema()
            .fields()
            .iter()
            .map(|field| field.name().clone())
            .collect();
        let in_view = async |columns: &str| {
            let sql = format!(
                "SELECT {columns} FROM conformed.{name} \
                 WHERE county_code = '{county:02}' AND period / 100 = {year} ORDER BY {}",
                relation.order
            );
            shown(&admin, &sql).await.unwrap()
        };
        let fact = pretty_format_batches(&batches).unwrap().to_string();
        let view = in_view(&columns.join(", ")).await;
        let sorted = |text: &str| {
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        assert!(
            sorted(&fact) == sorted(&view),
            "{name} {key:?}\n{fact}\n{view}"
        );
        let places: Vec<usize> = relation
            .order
            .split(", ")
            .map(|column| columns.iter().position(|known| known == column).unwrap())
            .collect();
        let order: Vec<RecordBatch> = batches
            .iter()
            .map(|batch| batch.project(&places).unwrap())
            .collect();
        let fact = pretty_format_batches(&order).unwrap().to_string();
        let view = by_number(&in_view(&relation.order).await, &members);
        assert!(fact == view, "{name} {key:?}\n{fact}\n{view}");
    }
}

#[tokio::test]
async fn stored_relations_are_their_views_after_every_kind_of_landing() {
    let (warehouse, relations) = landed().await;
    let engine = warehouse.product_engine().await;
    let same = async || {
        for relation in &relations {
            assert_stored_is_view(&warehouse, &engine, relation).await;
        }
    };
    assert!(relations.len() >= 5);
    let report = calc(&engine).await;
    assert_eq!(counts(&report), vec![(4, 4, 0); relations.len()]);
    same().await;
    // Nothing has changed.
    let report = calc(&engine).await;
    assert_eq!(counts(&report), vec![(4, 0, 0); relations.len()]);
    // A correction replaces a month.
    for relation in &relations {
        land(&warehouse, &relation.contract, 7, MONTHS[0], 75).await;
    }
    let report = calc(&engine).await;
    assert_eq!(counts(&report), vec![(4, 1, 0); relations.len()]);
    same().await;
    // A month of a year comes late, before those that are there, and one of another year.
    for relation in &relations {
        land(&warehouse, &relation.contract, 8, (2024, 1), 50).await;
        land(&warehouse, &relation.contract, 8, (2023, 11), 50).await;
    }
    let report = calc(&engine).await;
    assert_eq!(counts(&report), vec![(5, 2, 0); relations.len()]);
    same().await;
    // Deliveries are taken out of the raw tables: one of two of a year, and all of a year.
    for (county, period) in [(8, 202_402), (7, 202_503)] {
        for relation in &relations {
            let slice = Slice::new(&[("county", county), ("period", period)]);
            let empty = SliceRows {
                slice,
                batches: Vec::new(),
            };
            warehouse
                .lake
                .replace_slices(
                    &TableName::new("raw", &relation.contract).unwrap(),
                    vec![empty],
                    CommitInfo::default(),
                )
                .await
                .unwrap();
        }
    }
    let report = calc(&engine).await;
    assert_eq!(counts(&report), vec![(4, 1, 1); relations.len()]);
    same().await;
}

#[tokio::test]
async fn another_text_or_code_list_makes_stored_slices_stale() {
    let (warehouse, relations) = landed().await;
    calc(&warehouse.product_engine().await).await;
    // The column becomes wider too.
    let file = "sql/staging/homecare_visit.sql";
    let text = warehouse
        .read(file)
        .replace("minutes,", "minutes + 1 AS minutes,");
    warehouse.write(file, &text);
    let engine = warehouse.product_engine().await;
    let report = calc(&engine).await;
    assert_eq!(fact_of(&report, "home_care_visit").stored, 4);
    assert_eq!(fact_of(&report, "ledger_entry").stored, 0);
    let file = "definitions/codes/county.contact_mode.csv";
    let text = warehouse.read(file).replace(",remote", ",afar");
    warehouse.write(file, &text);
    let engine = warehouse.product_engine().await;
    engine.load_reference().await.unwrap();
    let report = calc(&engine).await;
    assert_eq!(counts(&report), vec![(4, 4, 0); relations.len()]);
    for relation in &relations {
        assert_stored_is_view(&warehouse, &engine, relation).await;
    }
}

#[tokio::test]
async fn texts_of_few_words_are_codes_for_calculation_and_plain_for_others() {
    let (warehouse, _) = landed().await;
    // Enough rows of one delivery to tell numbers of visits from codes.
    land(&warehouse, "homecare_visit", 7, MONTHS[0], 3_000).await;
    let engine = warehouse.product_engine().await;
    calc(&engine).await;
    let table = fact_table(&warehouse, "home_care_visit").await;
    let version = warehouse.lake.version(&table).await.unwrap().unwrap();
    let files = warehouse.lake.coded_files(&table, version).await.unwrap();
    let files = files.unwrap();
    let (largest, bytes) = files
        .chosen(|_| true)
        .into_iter()
        .max_by_key(|(_, bytes)| *bytes)
        .unwrap();
    let stored = stored_file(&warehouse.folder.path().join("lake/fact"), bytes);
    let stored = std::fs::File::open(stored).unwrap();
    let stored = ParquetRecordBatchReaderBuilder::try_new(stored).unwrap();
    let plain = warehouse
        .lake
        .provider(&table, Some(version))
        .await
        .unwrap();
    let code = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    // As it is stored, as it is read: the type of its values, and of how many codes; as others see it.
    for (column, in_file, read, in_plain) in [
        ("sex", &code, (DataType::Utf8, Some(3)), DataType::Utf8View),
        (
            "municipality_code",
            &code,
            (DataType::Utf8, Some(2)),
            DataType::Utf8View,
        ),
        (
            "production_mode",
            &code,
            (DataType::Utf8, Some(5)),
            DataType::Utf8View,
        ),
        (
            "delivery_id",
            &code,
            (DataType::Utf8, Some(1)),
            DataType::Utf8View,
        ),
        (
            "visit_no",
            &DataType::Utf8,
            (DataType::Utf8, Some(2_729)),
            DataType::Utf8View,
        ),
        (
            "person_pid",
            &DataType::Binary,
            (DataType::BinaryView, None),
            DataType::BinaryView,
        ),
        (
            "visit_on",
            &DataType::Date32,
            (DataType::Date32, Some(28)),
            DataType::Date32,
        ),
    ] {
        let own = stored.schema().field_with_name(column).unwrap();
        assert_eq!(own.data_type(), in_file, "{column}");
        let place = files.schema().index_of(column).unwrap();
        let file = Arc::new(files.open(largest, &[place]).await.unwrap());
        let (_, columns) = file
            .fetch(0, Vec::new())
            .await
            .unwrap()
            .read(&mut Spare::default())
            .unwrap();
        let read_column = &columns[0];
        let values = &read_column.values;
        let words = read_column.codes.as_ref().map(|_| values.len());
        let found = (values.data_type().clone(), words);
        assert_eq!(found, read, "{column}");
        let plain = plain.schema();
        let plain = plain.field_with_name(column).unwrap();
        assert_eq!(*plain.data_type(), in_plain, "{column}");
    }
    let period = plain.schema();
    let period = period.field_with_name("period").unwrap();
    assert_eq!(*period.data_type(), DataType::Int32);
}

/// The files in a folder and those within it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut folders = vec![folder.to_owned()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => found.push(path),
            }
        }
    }
    found
}

/// The file of so many bytes in a folder.
fn stored_file(folder: &Path, bytes: u64) -> PathBuf {
    let mut all = files(folder).into_iter();
    let found = all.find(|path| path.metadata().unwrap().len() == bytes);
    found.unwrap_or_else(|| panic!("there is no file of {bytes} bytes"))
}

#[tokio::test]
async fn stored_relations_change_no_component() {
    let (warehouse, _) = landed().await;
    let cells = "SELECT indicator, component, area, area_base, period_start, delivery_id, n, \
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
        assert_eq!(report.facts.is_empty(), one_by_one, "{report:#?}");
        for scan in &report.scans {
            assert_eq!(scan.gave_way, None, "{scan:#?}");
        }
        counts(&report);
        let admin = session(&engine, Role::Admin).await;
        answers.push(shown_cells(&warehouse, &admin, cells).await.unwrap());
    }
    for id in [
        "test.visits ",
        "test.visit_spells ",
        "test.visit_days ",
        "lasu.",
    ] {
        assert!(answers[0].contains(id), "{id}: {}", answers[0]);
    }
    for answer in &answers {
        assert!(*answer == answers[0], "{answer}\n{}", answers[0]);
    }
}

/// Cuts off the Parquet files of a table.
fn cut_off(table: &Path) {
    let all = files(table).into_iter();
    for file in all.filter(|path| path.extension().is_some_and(|end| end == "parquet")) {
        let bytes = std::fs::read(&file).unwrap();
        std::fs::write(file, &bytes[..bytes.len() / 2]).unwrap();
    }
}

#[tokio::test]
async fn a_damaged_file_is_named_with_what_to_do_about_it() {
    let (mut warehouse, _) = landed().await;
    let lake = warehouse.folder.path().join("lake");
    let before = calc(&warehouse.product_engine().await).await;
    let fact = fact_table(&warehouse, "home_care_visit").await;
    let fact = lake.join("fact").join(fact.table());
    cut_off(&fact);
    for one_by_one in [false, true] {
        let request = CalcRequest {
            full: true,
            one_by_one,
            ..CalcRequest::default()
        };
        warehouse = warehouse.reopened();
        let engine = warehouse.product_engine().await;
        let report = engine.calc(&request, &NoProgress).await.unwrap();
        let failed = report.indicators.iter();
        let failed = failed.filter_map(|indicator| match &indicator.outcome {
            IndicatorOutcome::Failed { message } => Some((indicator.id.as_str(), message)),
            _ => None,
        });
        let failed: Vec<_> = failed.collect();
        // Who computes by queries reads what has landed.
        let is_told = failed.iter().any(|(id, _)| *id == "test.visits");
        assert_eq!(is_told, !one_by_one, "{report:#?}");
        for (id, message) in failed {
            for told in [
                "the file `fact/home_care_visit_",
                ".parquet`",
                "take the folder `fact/home_care_visit_",
            ] {
                assert!(message.contains(told), "{id}: {message}");
            }
        }
    }
    // What the message says to do.
    std::fs::remove_dir_all(&fact).unwrap();
    warehouse = warehouse.reopened();
    let after = calc(&warehouse.product_engine().await).await;
    let rows = |report: &CalcReport| -> Vec<(String, u64, u64)> {
        let all = report.indicators.iter();
        let all = all.map(|own| (own.id.clone(), own.component_rows, own.value_rows));
        all.collect()
    };
    assert_eq!(rows(&after), rows(&before));

    // What has landed cannot be made anew.
    cut_off(&lake.join("raw/homecare_visit"));
    warehouse = warehouse.reopened();
    let engine = warehouse.product_engine().await;
    let admin = session(&engine, Role::Admin).await;
    let message = refused(&admin, "SELECT sum(period) FROM conformed.home_care_visit").await;
    assert!(
        message.contains("the file `raw/homecare_visit/"),
        "{message}"
    );
    assert!(message.contains("from a copy of the lake"), "{message}");
}

#[tokio::test]
async fn nobody_can_name_what_is_stored() {
    let (warehouse, _) = landed().await;
    let engine = warehouse.product_engine().await;
    calc(&engine).await;
    let table = fact_table(&warehouse, "home_care_visit").await;
    for role in [Role::Admin, Role::Analyst, Role::Reader] {
        let session = session(&engine, role).await;
        let told = refused(&session, &format!("SELECT count(*) FROM {table}")).await;
        assert!(told.contains(&table.to_string()), "{told}");
        let tables = session.tables().await.unwrap();
        assert!(tables.iter().all(|table| table.schema != "fact"), "{role}");
    }
    // A view stays what it was for who may read it.
    let analyst = session(&engine, Role::Analyst).await;
    let plan = shown(
        &analyst,
        "EXPLAIN SELECT sex FROM conformed.home_care_visit",
    )
    .await
    .unwrap();
    assert!(plan.contains("client_sex"), "{plan}");
}

#[tokio::test]
async fn a_relation_that_breaks_the_rule_is_read_as_a_view() {
    let (warehouse, _) = landed().await;
    let file = "sql/conformed/home_care_visit.sql";
    let good = warehouse.read(file);
    for (from, to, why) in [
        (
            "    s.period,\n",
            "    CAST(s.period + 100 AS INT) AS period,\n",
            "a row of `conformed.home_care_visit` is not of the organiser and year of its delivery",
        ),
        (
            "    s.period,\n",
            "",
            "sql/conformed/home_care_visit.sql: a stored relation has the column `period` of its staging relation",
        ),
        (
            "-- stored: person_pid, visit_on",
            "-- stored: person",
            "there is no column `person` to sort by",
        ),
    ] {
        let text = good.replace(from, to);
        assert_ne!(text, good);
        warehouse.write(file, &text);
        let engine = warehouse.product_engine().await;
        let report = calc(&engine).await;
        let told = fact_of(&report, "home_care_visit").gave_way.clone();
        assert!(
            told.as_ref().is_some_and(|told| told.contains(why)),
            "{told:?}"
        );
        let admin = session(&engine, Role::Admin).await;
        let known =
            "SELECT count(*) > 0 AS known FROM component.cell WHERE indicator = 'test.visits'";
        assert!(shown(&admin, known).await.unwrap().contains("true"));
    }
}

#[tokio::test]
async fn a_slice_without_rows_is_stored_once_as_empty() {
    let (warehouse, _) = landed().await;
    let file = "sql/conformed/home_care_visit.sql";
    let text = format!(
        "{}\nWHERE s.visit_on < DATE '2024-03-01'\n",
        warehouse.read(file)
    );
    warehouse.write(file, &text);
    let engine = warehouse.product_engine().await;
    let report = calc(&engine).await;
    let fact = fact_of(&report, "home_care_visit");
    assert_eq!((fact.slices, fact.stored, &fact.gave_way), (4, 4, &None));
    let slices = warehouse
        .lake
        .slices(&fact_table(&warehouse, "home_care_visit").await, None)
        .await
        .unwrap()
        .unwrap();
    let empty = slices.slices.values().filter(|s| s.rows == Some(0)).count();
    assert_eq!(empty, 2);
    let report = calc(&engine).await;
    let fact = fact_of(&report, "home_care_visit");
    assert_eq!((fact.stored, &fact.gave_way), (0, &None));
}

/// The columns of stored relations whose least and greatest value the logs tell.
fn columns_with_limits(warehouse: &Warehouse) -> BTreeSet<String> {
    let mut columns = BTreeSet::new();
    for table in std::fs::read_dir(warehouse.folder.path().join("lake/fact")).unwrap() {
        let Ok(log) = std::fs::read_dir(table.unwrap().path().join("_delta_log")) else {
            continue;
        };
        let commits = log.map(|commit| commit.unwrap().path());
        for commit in commits.filter(|path| path.extension().is_some_and(|end| end == "json")) {
            for line in std::fs::read_to_string(commit).unwrap().lines() {
                let action: serde_json::Value = serde_json::from_str(line).unwrap();
                if let Some(stats) = action["add"]["stats"].as_str() {
                    let stats: serde_json::Value = serde_json::from_str(stats).unwrap();
                    let least = stats["minValues"].as_object().unwrap();
                    columns.extend(least.keys().cloned());
                }
            }
        }
    }
    columns
}

/// How many cells hold persons by number, and how many by pseudonym.
async fn forms(engine: &Arc<Engine>) -> String {
    let admin = session(engine, Role::Admin).await;
    let forms = "SELECT length(encode(persons, 'hex')) % 32 > 0 AS are_numbers, count(*) AS cells \
                 FROM component.cell WHERE length(encode(persons, 'hex')) > 0 GROUP BY 1 ORDER BY 1";
    shown(&admin, forms).await.unwrap()
}

#[tokio::test]
async fn a_person_keeps_the_number_for_as_long_as_there_is_the_list() {
    let (warehouse, relations) = landed().await;
    let engine = warehouse.product_engine().await;
    calc(&engine).await;
    let before = members(&warehouse).await;
    assert!(before.len() > 20);
    assert!(
        (0..)
            .zip(before.keys())
            .all(|(place, number)| place == *number)
    );
    let numbered = forms(&engine).await;
    assert!(numbered.contains("| true "), "{numbered}");
    // A least number would be a person.
    let told = columns_with_limits(&warehouse);
    assert!(told.contains("visit_on"), "{told:?}");
    assert!(
        !told.iter().any(|column| column.contains("_pid")),
        "{told:?}"
    );

    // Others come behind them.
    for relation in &relations {
        land(&warehouse, &relation.contract, 9, MONTHS[0], 90).await;
    }
    calc(&engine).await;
    let after = members(&warehouse).await;
    assert!(after.len() > before.len(), "{}", after.len());
    for (number, member) in &before {
        assert_eq!(after[number], *member);
    }
    let once: BTreeSet<&Vec<u8>> = after.values().collect();
    assert_eq!(once.len(), after.len());

    // A list that is gone is made anew, and so is what was numbered by it.
    let list = TableName::new("fact", "person").unwrap();
    let id = warehouse.lake.table_id(&list).await.unwrap();
    std::fs::remove_dir_all(warehouse.folder.path().join("lake/fact/person")).unwrap();
    for relation in &relations {
        land(&warehouse, &relation.contract, 7, MONTHS[1], 61).await;
    }
    let warehouse = warehouse.reopened();
    let engine = warehouse.product_engine().await;
    let report = calc(&engine).await;
    let anew = report.facts.iter();
    let anew = anew.filter(|fact| fact.stored == fact.slices).count();
    assert!(anew >= 3 && anew < relations.len(), "{report:#?}");
    assert_ne!(warehouse.lake.table_id(&list).await.unwrap(), id);
    assert_eq!(forms(&engine).await.matches("| true ").count(), 1);
    let admin = session(&engine, Role::Admin).await;
    let cells = "SELECT indicator, component, area, period_start, delivery_id, n, \
                 encode(persons, 'hex') AS persons FROM component.cell";
    let stored = shown_cells(&warehouse, &admin, cells).await.unwrap();
    let request = CalcRequest {
        full: true,
        one_by_one: true,
        ..CalcRequest::default()
    };
    engine.calc(&request, &NoProgress).await.unwrap();
    let admin = session(&engine, Role::Admin).await;
    let mut lines: Vec<Vec<String>> = Vec::new();
    for text in [
        stored,
        shown_cells(&warehouse, &admin, cells).await.unwrap(),
    ] {
        let mut own: Vec<String> = text.lines().map(str::to_owned).collect();
        own.sort();
        lines.push(own);
    }
    assert!(lines[0].len() > 50);
    assert!(lines[0] == lines[1], "{lines:#?}");
}
