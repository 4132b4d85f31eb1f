//! A warehouse for a test: lake, key, clock, and the contracts of `testdata`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use tietopohja_contract::{CodeLists, Contract};
use tietopohja_domain::{Clock, County, DeliveryPeriod, FixedClock};
use tietopohja_ingest::{
    Intake, KeyRing, LandError, LandLimits, LandRequest, NoProgress, Receipt, land,
};
use tietopohja_lake::{Delivery, Lake, LedgerRow, Slice, TableName};

pub(crate) fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata")
}

pub(crate) fn lists() -> Arc<CodeLists> {
    let lists = std::fs::read_dir(testdata().join("codes"))
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            (
                path.file_stem().unwrap().to_string_lossy().into_owned(),
                std::fs::read_to_string(&path).unwrap(),
            )
        });
    Arc::new(CodeLists::parse(lists.collect()).unwrap())
}

pub(crate) fn contract_text(name: &str) -> String {
    std::fs::read_to_string(testdata().join(format!("contracts/{name}.odcs.yaml"))).unwrap()
}

pub(crate) fn parse(yaml: &str) -> Arc<Contract> {
    match Contract::parse("test.odcs.yaml", yaml, &lists()) {
        Ok(contract) => Arc::new(contract),
        Err(problems) => panic!("{}", tietopohja_domain::render_problems(&problems)),
    }
}

pub(crate) fn contract(name: &str) -> Arc<Contract> {
    parse(&contract_text(name))
}

/// The day of every test: the month after the delivered one.
pub(crate) fn clock() -> FixedClock {
    FixedClock("2024-04-15T09:00:00Z".parse().unwrap())
}

/// A lake in a folder of its own.
pub(crate) struct Warehouse {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) lake: Arc<Lake>,
    pub(crate) keys: KeyRing,
    pub(crate) limits: LandLimits,
}

impl Warehouse {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(clock());
        let lake = Arc::new(Lake::open(&folder.path().join("lake"), clock).unwrap());
        let keys = KeyRing::create_from(&folder.path().join("pseudonym.key"), [42; 32]).unwrap();
        Self {
            folder,
            lake,
            keys,
            limits: LandLimits::default(),
        }
    }

    /// Writes a file beside the lake.
    pub(crate) fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    pub(crate) async fn land(&self, request: LandRequest) -> Result<Receipt, LandError> {
        let clock = clock();
        land(self.intake(&clock), request, &self.limits, &NoProgress).await
    }

    /// Nobody runs queries here: no contract of these tests has SQL checks.
    pub(crate) fn intake<'a>(&'a self, clock: &'a dyn Clock) -> Intake<'a> {
        Intake {
            lake: &self.lake,
            keys: &self.keys,
            clock,
            checks: None,
        }
    }

    /// Rows of a raw or reject table as text, in row order, with the named columns.
    pub(crate) async fn rows(
        &self,
        schema: &str,
        table: &str,
        columns: &[&str],
    ) -> Vec<Vec<String>> {
        let name = TableName::new(schema, table).unwrap();
        let mut rows = Vec::new();
        let mut each = |batch: &RecordBatch| {
            let options = FormatOptions::new().with_null("-");
            let formatters: Vec<_> = columns
                .iter()
                .map(|column| {
                    ArrayFormatter::try_new(batch.column_by_name(column).unwrap(), &options)
                        .unwrap()
                })
                .collect();
            let order = batch
                .column_by_name("row_no")
                .unwrap()
                .as_primitive::<arrow::datatypes::Int64Type>()
                .clone();
            for row in 0..batch.num_rows() {
                rows.push((
                    order.value(row),
                    formatters
                        .iter()
                        .map(|column| column.value(row).to_string())
                        .collect(),
                ));
            }
        };
        self.lake
            .read(&name, &Slice::whole(), None, None, &mut each)
            .await
            .unwrap();
        rows.sort();
        rows.into_iter().map(|(_, cells)| cells).collect()
    }

    pub(crate) async fn count(&self, schema: &str, table: &str) -> usize {
        let name = TableName::new(schema, table).unwrap();
        let mut rows = 0;
        self.lake
            .read(
                &name,
                &Slice::whole(),
                None,
                None,
                &mut |batch: &RecordBatch| rows += batch.num_rows(),
            )
            .await
            .unwrap();
        rows
    }

    /// Row numbers that have a reject.
    pub(crate) async fn rejected(&self, table: &str) -> BTreeSet<String> {
        self.rows("reject", table, &["row_no"])
            .await
            .into_iter()
            .flatten()
            .collect()
    }

    pub(crate) async fn ledger(
        &self,
        contract: &str,
        county: &str,
        period: &str,
    ) -> Vec<LedgerRow> {
        let county = County::parse(county).unwrap();
        let period = DeliveryPeriod::parse(period).unwrap().number();
        let delivery = Delivery {
            contract: contract.to_owned(),
            county: county.number(),
            county_code: county.code(),
            period,
        };
        self.lake.ledger_rows(&delivery).await.unwrap()
    }
}

/// The delivery of county 07 for March 2024, whatever the file's name.
pub(crate) fn march(contract: &Arc<Contract>, file: &Path) -> LandRequest {
    LandRequest {
        county: Some(County::parse("07").unwrap()),
        period: Some(DeliveryPeriod::parse("2024-03").unwrap()),
        ..LandRequest::new(Arc::clone(contract), lists(), file)
    }
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}
