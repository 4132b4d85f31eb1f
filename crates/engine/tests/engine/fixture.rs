//! A warehouse in a temporary folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use arrow::array::{
    ArrayRef, AsArray, BinaryArray, Date32Array, Int64Array, RecordBatch, StringArray,
};
use arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef};
use arrow::util::pretty::pretty_format_batches;
use tietopohja_contract::{CodeLists, Contract};
use tietopohja_domain::{Clock, ContentHash, Date, FixedClock, Timestamp};
use tietopohja_engine::{Engine, EngineError, EngineOptions, Principal, Role, Session};
use tietopohja_lake::{
    CommitInfo, Delivery, Lake, LandOutcome, Landing, LedgerRow, PartOptions, Slice, SliceRows,
    TableName,
};

/// A moment for everything: 2025-06-01.
pub(crate) fn clock() -> Arc<dyn Clock> {
    Arc::new(FixedClock(Timestamp::from_second(1_748_736_000).unwrap()))
}

/// A folder with a lake in it.
pub(crate) struct Warehouse {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) lake: Arc<Lake>,
}

impl Warehouse {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let lake = Lake::open(&folder.path().join("lake"), clock()).unwrap();
        Self {
            folder,
            lake: Arc::new(lake),
        }
    }

    /// The same folder as another process sees it.
    pub(crate) fn reopened(self) -> Self {
        let lake = Lake::open(&self.folder.path().join("lake"), clock()).unwrap();
        Self {
            lake: Arc::new(lake),
            ..self
        }
    }

    /// With two contracts, views over them, and rows of one.
    pub(crate) async fn with_visits() -> Self {
        let warehouse = Self::new();
        warehouse.write("sql/staging/visit.sql", "-- grain: one row per visit\nSELECT delivery_id, client_pid, visit_on, minutes, town FROM raw.visit");
        warehouse.write(
            "sql/staging/bed.sql",
            "-- grain: one row per bed\nSELECT delivery_id, bed_no FROM raw.bed",
        );
        warehouse.write(
            "sql/conformed/visit_day.sql",
            "-- grain: one row per day and town\n-- key: visit_on, town\nSELECT visit_on, town, count(*) AS visits, sum(minutes) AS minutes FROM staging.visit GROUP BY visit_on, town",
        );
        warehouse.write(
            "sql/conformed/broken.sql",
            "SELECT no_such_column FROM staging.visit",
        );
        warehouse.land_visits(7, 202_401, 2_000).await;
        warehouse
    }

    pub(crate) fn write(&self, file: &str, text: &str) {
        let path = self.folder.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub(crate) fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(file)).unwrap()
    }

    pub(crate) fn copy(&self, from: &Path, to: &str) {
        let target = self.folder.path().join(to);
        std::fs::create_dir_all(&target).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            if entry.file_type().unwrap().is_dir() {
                self.copy(&entry.path(), &format!("{to}/{name}"));
            } else {
                std::fs::copy(entry.path(), target.join(name)).unwrap();
            }
        }
    }

    pub(crate) fn options(&self) -> EngineOptions {
        EngineOptions::new(self.folder.path(), Arc::clone(&self.lake), clock())
            .raw_schemas(vec![
                ("visit".to_owned(), visit_schema()),
                ("bed".to_owned(), bed_schema()),
            ])
            .target_partitions(2)
    }

    /// The files that the product ships, without any data.
    pub(crate) fn product() -> Self {
        let product = product_folder();
        let warehouse = Self::new();
        for folder in ["reference", "sql", "definitions"] {
            warehouse.copy(&product.join(folder), folder);
        }
        warehouse
    }

    /// Options with the contracts that the product ships.
    pub(crate) fn product_options(&self) -> EngineOptions {
        let contracts = contracts().iter().cloned().map(Arc::new).collect();
        self.options().contracts(contracts)
    }

    pub(crate) async fn product_engine(&self) -> Arc<Engine> {
        Engine::open(self.product_options()).await.unwrap()
    }

    /// Loads the reference data that the product ships.
    pub(crate) async fn load_reference(&self) {
        let engine = self.product_engine().await;
        engine.load_reference().await.unwrap();
    }

    /// Lands rows of a delivery as ingest does: data, then ledger.
    pub(crate) async fn land(
        &self,
        contract: &str,
        county: i32,
        period: i32,
        covers: (i32, i32),
        rows: RecordBatch,
    ) {
        let schema = contract_schema(contract);
        let county_code = format!("{county:02}");
        let delivery = Delivery {
            contract: contract.to_owned(),
            county,
            county_code: county_code.clone(),
            period,
        };
        let mut content = [0u8; 32];
        content[..8].copy_from_slice(&(rows.num_rows() as u64).to_le_bytes());
        let Landing::Go(ticket) = self
            .lake
            .begin_landing(&delivery, &schema, ContentHash::new(content), None)
            .await
            .unwrap()
        else {
            panic!("{contract} has landed already");
        };
        let count = rows.num_rows();
        let id: ArrayRef = Arc::new(StringArray::from(vec![ticket.delivery_id(); count]));
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(2..count as i64 + 2));
        let mut columns = vec![("delivery_id", id), ("row_no", numbers)];
        let given = rows.schema();
        columns.extend(
            given
                .fields()
                .iter()
                .zip(rows.columns())
                .map(|(field, column)| (field.name().as_str(), Arc::clone(column))),
        );
        let writer = self
            .lake
            .landing_writer(&ticket, 1, PartOptions::default())
            .unwrap();
        writer
            .write(
                RecordBatch::try_from_iter_with_nullable(
                    columns
                        .into_iter()
                        .map(|(name, column)| (name, column, true)),
                )
                .unwrap(),
            )
            .unwrap();
        let staged = writer.finish().await.unwrap();
        let row = LedgerRow {
            delivery_id: ticket.delivery_id(),
            contract: contract.to_owned(),
            contract_version: "1.0.0".to_owned(),
            county_code,
            county,
            period,
            covers_from: covers.0,
            covers_to: covers.1,
            revision: ticket.revision(),
            content_hash: ContentHash::new(content).to_string(),
            file_name: format!("{contract}_{county:02}_{period}.csv"),
            file_bytes: 1,
            received: count as i64,
            accepted: count as i64,
            quarantined: 0,
            control_sums: "{}".to_owned(),
            key_version: 1,
            status: "accepted".to_owned(),
            table_version: 0,
            landed_at: clock().now().as_microsecond(),
            engine_version: "test".to_owned(),
            findings: "[]".to_owned(),
        };
        let landed = self
            .lake
            .finish_landing(&ticket, &staged, Vec::new(), row)
            .await
            .unwrap();
        assert!(matches!(landed, LandOutcome::Landed(_)), "{landed:?}");
    }

    pub(crate) async fn engine(&self) -> Arc<Engine> {
        Engine::open(self.options()).await.unwrap()
    }

    /// Rows of one delivery of visits; their content depends on the row's number alone.
    pub(crate) async fn land_visits(&self, county: i32, period: i32, rows: usize) {
        let name = TableName::new("raw", "visit").unwrap();
        let mut fields = vec![
            Field::new("county", DataType::Int32, true),
            Field::new("period", DataType::Int32, true),
            Field::new("delivery_id", DataType::Utf8, true),
            Field::new("row_no", DataType::Int64, true),
        ];
        fields.extend(
            visit_schema()
                .fields()
                .iter()
                .map(|field| field.as_ref().clone()),
        );
        self.lake
            .ensure_table(&name, Arc::new(Schema::new(fields)), &["county", "period"])
            .await
            .unwrap();
        let slice = Slice::new(&[("county", county), ("period", period)]);
        let batches = (0..rows)
            .step_by(8192)
            .map(|from| visits(county, period, from..rows.min(from + 8192)))
            .collect();
        self.lake
            .replace_slices(
                &name,
                vec![SliceRows { slice, batches }],
                CommitInfo::default(),
            )
            .await
            .unwrap();
    }
}

fn product_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn contracts() -> &'static [Contract] {
    static CONTRACTS: OnceLock<Vec<Contract>> = OnceLock::new();
    CONTRACTS.get_or_init(|| {
        let read = |folder: &str, ending: &str| {
            let mut files = Vec::new();
            for entry in std::fs::read_dir(product_folder().join(folder)).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                if let Some(stem) = name.strip_suffix(ending) {
                    files.push((stem.to_owned(), std::fs::read_to_string(&path).unwrap()));
                }
            }
            files
        };
        let lists = CodeLists::parse(read("definitions/codes", ".csv")).unwrap();
        read("definitions/contracts", ".odcs.yaml")
            .iter()
            .map(|(name, text)| {
                Contract::parse(
                    &format!("definitions/contracts/{name}.odcs.yaml"),
                    text,
                    &lists,
                )
                .unwrap()
            })
            .collect()
    })
}

/// The columns of a contract that the product ships.
pub(crate) fn contract_schema(name: &str) -> SchemaRef {
    contracts()
        .iter()
        .find(|known| known.name() == name)
        .unwrap()
        .arrow_schema()
}

/// Days from 1970-01-01.
pub(crate) fn day(year: i16, month: i8, day: i8) -> i32 {
    let date = Date::new(year, month, day).unwrap();
    (date
        .duration_since(Date::new(1970, 1, 1).unwrap())
        .as_hours()
        / 24) as i32
}

/// The columns of the contract `visit`.
pub(crate) fn visit_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("client_pid", DataType::Binary, true),
        Field::new("visit_on", DataType::Date32, true),
        Field::new("minutes", DataType::Int64, true),
        Field::new("town", DataType::Utf8, true),
        Field::new("note", DataType::Utf8, true),
    ]))
}

fn bed_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new(
        "bed_no",
        DataType::Utf8,
        true,
    )]))
}

/// A text that must never be seen outside.
pub(crate) const SECRET: &str = "secret-7";

fn visits(county: i32, period: i32, rows: std::ops::Range<usize>) -> RecordBatch {
    let id = format!("visit.{county:02}.{period}.r1");
    let numbers: Vec<usize> = rows.collect();
    let text = |of: &dyn Fn(usize) -> String| {
        Arc::new(
            numbers
                .iter()
                .map(|n| Some(of(*n)))
                .collect::<StringArray>(),
        ) as ArrayRef
    };
    let pids: BinaryArray = numbers
        .iter()
        .map(|n| Some(((n * 7919) % 1_000).to_be_bytes().to_vec()))
        .collect();
    let days: Date32Array = numbers
        .iter()
        .map(|n| Some(19_723 + (n % 31) as i32))
        .collect();
    let minutes: Int64Array = numbers.iter().map(|n| Some((n * 13 % 61) as i64)).collect();
    RecordBatch::try_from_iter([
        ("delivery_id", text(&|_| id.clone())),
        (
            "row_no",
            Arc::new(
                numbers
                    .iter()
                    .map(|n| Some(*n as i64 + 2))
                    .collect::<Int64Array>(),
            ) as ArrayRef,
        ),
        ("client_pid", Arc::new(pids) as ArrayRef),
        ("visit_on", Arc::new(days) as ArrayRef),
        ("minutes", Arc::new(minutes) as ArrayRef),
        ("town", text(&|n| format!("{:03}", n % 17))),
        (
            "note",
            text(&|n| {
                if n == 3 {
                    SECRET.to_owned()
                } else {
                    n.to_string()
                }
            }),
        ),
    ])
    .unwrap()
}

pub(crate) fn principal(role: Role) -> Principal {
    Principal::new(role.as_str(), role).unwrap()
}

pub(crate) async fn session(engine: &Arc<Engine>, role: Role) -> Session {
    engine.session(&principal(role)).await.unwrap()
}

/// The rows as people see them, or the error.
pub(crate) async fn shown(session: &Session, sql: &str) -> Result<String, EngineError> {
    let batches = session.collect(sql).await?;
    Ok(pretty_format_batches(&batches).unwrap().to_string())
}

/// The pseudonyms of the list of persons, by number.
pub(crate) async fn members(warehouse: &Warehouse) -> BTreeMap<i32, Vec<u8>> {
    let list = TableName::new("fact", "person").unwrap();
    let mut members: BTreeMap<i32, Vec<u8>> = BTreeMap::new();
    let mut each = |batch: &RecordBatch| {
        let numbers = batch.column_by_name("number").unwrap();
        let pseudonyms = batch.column_by_name("member").unwrap();
        let rows = numbers.as_primitive::<Int32Type>().iter();
        for (number, member) in rows.zip(pseudonyms.as_binary::<i32>()) {
            members.insert(number.unwrap(), member.unwrap().to_vec());
        }
    };
    let whole = Slice::whole();
    let read = warehouse.lake.read(&list, &whole, None, None, &mut each);
    read.await.unwrap();
    members
}

/// The same of cells, with sets of persons, and of their days, as pseudonyms where they are stored as
/// numbers.
pub(crate) async fn shown_cells(
    warehouse: &Warehouse,
    session: &Session,
    sql: &str,
) -> Result<String, EngineError> {
    let members = members(warehouse).await;
    let list = TableName::new("fact", "person").unwrap();
    let id = warehouse.lake.table_id(&list).await.unwrap();
    let id: Option<String> = id.map(|id| id.replace('-', "")[..16].to_owned());
    let text = shown(session, sql).await?;
    let cells = |line: &str| -> Vec<String> {
        let cells = line.split('|').map(str::trim);
        cells.map(str::to_owned).collect()
    };
    let place_of = |name: &str| {
        let mut lines = text.lines().map(cells);
        lines.find_map(|cells| cells.iter().position(|cell| cell == name))
    };
    let (place, days) = (place_of("persons"), place_of("hist"));
    let lines = text.lines().map(|line| {
        let mut cells = cells(line);
        if let Some(state) = days.and_then(|place| cells.get_mut(place))
            && state.starts_with("02")
        {
            let bytes = hex(state);
            let list = u64::from_le_bytes(bytes[1..9].try_into().unwrap());
            if Some(format!("{list:016x}")) == id {
                *state = days_of_persons(&bytes[9..], &members);
            }
        }
        if let Some(set) = place.and_then(|place| cells.get_mut(place))
            && set.len() % 32 != 0
            && set.starts_with("01")
        {
            let bytes = hex(set);
            let list = u64::from_le_bytes(bytes[1..9].try_into().unwrap());
            assert_eq!(Some(format!("{list:016x}")), id, "a set of another list");
            let numbers = numbers_of(&bytes[9..]);
            let mut known: Vec<&Vec<u8>> = numbers.iter().map(|n| &members[n]).collect();
            known.sort();
            let digits = known.into_iter().flatten();
            *set = digits.map(|byte| format!("{byte:02x}")).collect();
        }
        cells.join(" | ").trim().to_owned()
    });
    let lines = lines.filter(|line| !line.starts_with('+'));
    Ok(lines.collect::<Vec<_>>().join("\n"))
}

fn hex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// The months of a set of days of persons, with pseudonyms for their numbers.
fn days_of_persons(bytes: &[u8], members: &BTreeMap<i32, Vec<u8>>) -> String {
    let mut rest = bytes;
    // Bytes of a number, as they are, and the number.
    let mut number = || {
        let length = rest.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
        let (own, left) = rest.split_at(length);
        rest = left;
        let number = whole_numbers(own)[0];
        (own.to_vec(), number, left.is_empty())
    };
    let mut text = vec![1];
    loop {
        let (month, (written, count, _)) = (number().0, number());
        text.extend([month, written].concat());
        let mut next = 0;
        let mut is_last = false;
        let mut persons: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        for _ in 0..count {
            next += number().1 + 1;
            let (days, _, last) = number();
            persons.push((members[&i32::try_from(next - 1).unwrap()].clone(), days));
            is_last = last;
        }
        persons.sort();
        text.extend(
            persons
                .into_iter()
                .flat_map(|(person, days)| [person, days].concat()),
        );
        if is_last {
            break;
        }
    }
    text.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Numbers as they are written, one behind the other.
fn whole_numbers(bytes: &[u8]) -> Vec<i64> {
    let mut read = Vec::new();
    let (mut number, mut shift) = (0i64, 0);
    for byte in bytes {
        number |= i64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            read.push(number);
            (number, shift) = (0, 0);
        }
    }
    read
}

/// How many there are, then each number less the one before it and one.
fn numbers_of(bytes: &[u8]) -> Vec<i32> {
    let read = whole_numbers(bytes);
    let count = read[0] as usize;
    let mut next = 0;
    let gaps = read[1..=count].iter();
    gaps.map(|gap| {
        let number = next + gap;
        next = number + 1;
        i32::try_from(number).unwrap()
    })
    .collect()
}

/// The error of a query that must fail.
pub(crate) async fn refused(session: &Session, sql: &str) -> String {
    match shown(session, sql).await {
        Ok(rows) => panic!("{sql} was answered:\n{rows}"),
        Err(error) => error.to_string(),
    }
}
