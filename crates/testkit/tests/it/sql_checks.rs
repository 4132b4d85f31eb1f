//! SQL checks of contracts, from the file to the ledger: a real lake, a real engine, real queries.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::future::BoxFuture;
use tietopohja_contract::{CodeLists, Contract};
use tietopohja_domain::{Clock, County, DeliveryPeriod, FixedClock, render_problems};
use tietopohja_engine::{Engine, EngineError, EngineOptions};
use tietopohja_ingest::{
    Intake, KeyRing, LandError, LandLimits, LandRequest, NoNumbers, NoProgress, Outcome, Receipt,
    RowSetChecks, land,
};
use tietopohja_lake::{Delivery, Lake, Slice, StagedTable, TableName};

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata")
}

fn lists() -> Arc<CodeLists> {
    let lists = std::fs::read_dir(testdata().join("codes"))
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
            (stem, std::fs::read_to_string(&path).unwrap())
        });
    Arc::new(CodeLists::parse(lists.collect()).unwrap())
}

/// The contract `test_case` with further quality checks. Good files of it have eight rows.
fn contract(checks: &[&str]) -> Arc<Contract> {
    let file = testdata().join("contracts/test_case.odcs.yaml");
    let text = std::fs::read_to_string(file).unwrap();
    let (before, after) = text.split_once("slaProperties:").unwrap();
    let mut yaml = before.to_owned();
    for check in checks {
        yaml.push_str(&format!("      - {{ type: sql, {check} }}\n"));
    }
    yaml.push_str(&format!("slaProperties:{after}"));
    match Contract::parse("test_case.odcs.yaml", &yaml, &lists()) {
        Ok(contract) => Arc::new(contract),
        Err(problems) => panic!("{}", render_problems(&problems)),
    }
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(FixedClock("2024-04-15T09:00:00Z".parse().unwrap()))
}

/// The engine, as the command line hands it to landings.
struct Answers(Arc<Engine>);

impl RowSetChecks for Answers {
    fn numbers<'a>(
        &'a self,
        contract: &'a Contract,
        rows: &'a StagedTable,
    ) -> BoxFuture<'a, Result<Vec<f64>, NoNumbers>> {
        Box::pin(async move {
            match self.0.sql_check_numbers(contract, rows).await {
                Ok(numbers) => Ok(numbers),
                Err(EngineError::Definitions { problems }) => Err(NoNumbers::Contract(problems)),
                Err(other) => Err(NoNumbers::Failed(Box::new(other))),
            }
        })
    }
}

struct Warehouse {
    folder: tempfile::TempDir,
    lake: Arc<Lake>,
    keys: KeyRing,
    answers: Answers,
}

impl Warehouse {
    async fn new() -> Self {
        Self::with(|options| options).await
    }

    async fn with(change: impl Fn(EngineOptions) -> EngineOptions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let lake = Arc::new(Lake::open(&folder.path().join("lake"), clock()).unwrap());
        let keys = KeyRing::create_from(&folder.path().join("pseudonym.key"), [42; 32]).unwrap();
        let options = EngineOptions::new(folder.path(), Arc::clone(&lake), clock());
        let engine = Engine::open(change(options.target_partitions(2))).await;
        Self {
            folder,
            lake,
            keys,
            answers: Answers(engine.unwrap()),
        }
    }

    async fn land(&self, request: LandRequest) -> Result<Receipt, LandError> {
        let clock = clock();
        let intake = Intake {
            lake: &self.lake,
            keys: &self.keys,
            clock: clock.as_ref(),
            checks: Some(&self.answers),
        };
        Box::pin(land(intake, request, &LandLimits::default(), &NoProgress)).await
    }

    async fn rows(&self) -> usize {
        let table = TableName::new("raw", "test_case").unwrap();
        let mut rows = 0;
        let mut each = |batch: &arrow::array::RecordBatch| rows += batch.num_rows();
        self.lake
            .read(&table, &Slice::whole(), None, Some(&["row_no"]), &mut each)
            .await
            .unwrap();
        rows
    }

    /// Data files below a folder, those that no table knows included.
    fn data_files(folder: &Path) -> usize {
        let Ok(entries) = std::fs::read_dir(folder) else {
            return 0;
        };
        entries
            .map(|entry| entry.unwrap().path())
            .map(|path| match path.is_dir() {
                true => Self::data_files(&path),
                false => usize::from(path.extension().is_some_and(|end| end == "parquet")),
            })
            .sum()
    }
}

/// The delivery of county 07 for March 2024.
fn march(contract: &Arc<Contract>, file: impl Into<PathBuf>) -> LandRequest {
    LandRequest {
        county: Some(County::parse("07").unwrap()),
        period: Some(DeliveryPeriod::parse("2024-03").unwrap()),
        ..LandRequest::new(Arc::clone(contract), lists(), file)
    }
}

fn good_file() -> PathBuf {
    testdata().join("good/plain.csv")
}

/// Outcome and findings, or the whole message of a landing that stopped for another reason.
fn told(result: &Result<Receipt, LandError>) -> String {
    let shown = |receipt: &Receipt| {
        let mut text = receipt.outcome.as_str().to_owned();
        for finding in &receipt.findings {
            text.push_str(&format!("; {} {}", finding.action, finding.message));
        }
        text
    };
    match result {
        Ok(receipt) => shown(receipt),
        Err(LandError::Refused(receipt)) => shown(receipt),
        Err(error) => error.to_string(),
    }
}

/// Lands the good file of eight rows under a contract with these checks, dry and then in earnest.
/// Both say the same, and what is refused or held leaves nothing behind.
#[track_caller]
fn check(checks: &[&str], expected: &str) {
    let contract = contract(checks);
    runtime().block_on(async {
        let warehouse = Warehouse::new().await;
        let dry = LandRequest {
            dry_run: true,
            ..march(&contract, good_file())
        };
        let dry = told(&warehouse.land(dry).await);
        assert_eq!(dry.replace("would land (dry run)", "landed"), expected);
        let lake = warehouse.folder.path().join("lake");
        assert!(!lake.join("raw").exists(), "a dry run wrote to the lake");

        let real = warehouse.land(march(&contract, good_file())).await;
        assert_eq!(told(&real), expected);
        let landed = matches!(&real, Ok(receipt) if receipt.outcome == Outcome::Landed);
        assert_eq!(warehouse.rows().await, if landed { 8 } else { 0 });
        assert_eq!(
            Warehouse::data_files(&lake.join("raw")) > 0,
            landed,
            "files stay exactly when rows land"
        );
    });
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_stack_size(8 << 20)
        .enable_all()
        .build()
        .unwrap()
}

const OPEN: &str = "query: 'select count(*) from {object} where ended_on is null'";

#[test]
fn a_check_that_holds_says_nothing() {
    check(
        &[
            &format!("id: a, {OPEN}, mustBe: 2, unit: rows"),
            &format!("id: b, {OPEN}, mustBeLessOrEqualTo: 25, unit: percent"),
            "id: c, query: 'select sum(amount) from {object}', mustBeBetween: [1415.67, 1415.69]",
        ],
        "landed",
    );
}

#[test]
fn a_check_that_warns_lets_the_delivery_pass_and_is_told() {
    check(
        &[&format!(
            "id: a, {OPEN}, mustBe: 0, unit: rows, severity: warning"
        )],
        "landed; warn the query counts 2 rows; the contract requires 0",
    );
    check(
        &[&format!(
            "id: a, {OPEN}, mustBeLessThan: 25, unit: percent, severity: warning"
        )],
        "landed; warn the query counts 2 rows of 8 (25.0 %); the contract requires less than 25 %",
    );
}

#[test]
fn a_check_that_holds_the_delivery_waits_for_approval() {
    let hold = format!(
        "id: a, {OPEN}, mustBe: 0, unit: rows, customProperties: [{{ property: severityAction, value: hold }}]"
    );
    let finding = "hold the query counts 2 rows; the contract requires 0";
    check(
        &[&hold],
        &format!("held for approval, nothing landed; {finding}"),
    );
    runtime().block_on(async {
        let warehouse = Warehouse::new().await;
        let approved = LandRequest {
            approve_held: true,
            ..march(&contract(&[&hold]), good_file())
        };
        let receipt = warehouse.land(approved).await;
        assert_eq!(told(&receipt), format!("landed; {finding}"));
        assert_eq!(warehouse.rows().await, 8);
    });
}

#[test]
fn a_check_that_rejects_refuses_the_delivery_with_every_finding() {
    check(
        &[
            &format!("id: a, {OPEN}, mustBe: 0, unit: rows"),
            "id: b, query: 'select max(amount) from {object}', mustBeLessThan: 100",
            "id: c, query: 'select count(*) from {object}', mustBe: 9, unit: rows, severity: warning",
        ],
        "refused, nothing landed; reject the query counts 2 rows; the contract requires 0; \
         reject the number of the query breaks its limit; the contract requires less than 100; \
         warn the query counts 8 rows; the contract requires 9",
    );
}

#[test]
fn a_check_sees_the_columns_of_the_raw_table() {
    check(
        &[
            "id: a, query: 'select count(distinct client_pid) from {object}', mustBe: 8",
            "id: b, query: 'select min(row_no) * 100 + max(row_no) from {object}', mustBe: 209",
            "id: c, query: \"select count(*) from {object} where county = 7 and period = 202403 and delivery_id = 'test_case.07.202403.r1'\", mustBe: 8",
            "id: d, query: \"with open as (select * from {object} where ended_on is null) select count(*) from open a join {object} b on a.case_no = b.case_no\", mustBe: 2",
        ],
        "landed",
    );
}

/// The line of the contract on which the first added check stands, and what is said of it.
fn stopped(message: &str) -> String {
    let text = std::fs::read_to_string(testdata().join("contracts/test_case.odcs.yaml")).unwrap();
    let line = text
        .lines()
        .position(|line| line.starts_with("slaProperties"))
        .unwrap()
        + 1;
    format!(
        "`plain.csv`: the contract cannot be checked, nothing landed\n\
         test_case.odcs.yaml:{line}: the check `a` cannot be run: {message}\n  help: mend its query; \
         it sees the delivery's own rows as `{{object}}`, with the columns of the raw table, and gives one number"
    )
}

#[test]
fn a_query_that_fails_on_rows_is_a_problem_of_the_contract_and_shows_no_value() {
    for (query, message) in [
        (
            "select sum(cast(case_no as int)) from {object}",
            "a value could not be converted to the asked type; use `TRY_CAST`, which gives null instead",
        ),
        (
            "select sum(100 / (row_no - 2)) from {object}",
            "division by zero; use `NULLIF(divisor, 0)`, which gives null instead",
        ),
        (
            "select row_no from {object}",
            "it gives 8 rows over this delivery; a check gives one number in one row",
        ),
        (
            "select row_no from {object} where row_no > 99",
            "it gives 0 rows over this delivery; a check gives one number in one row",
        ),
        (
            "select max(amount) from {object} where row_no > 99",
            "it gives null over this delivery, which is no number; use `coalesce`",
        ),
    ] {
        check(
            &[&format!("id: a, query: '{query}', mustBe: 0")],
            &stopped(message),
        );
    }
    check(
        &["id: a, query: 'select 0.5 from {object} limit 1', mustBe: 0, unit: rows"],
        &stopped(
            "its unit says that it counts rows, and its number is not a whole number from 0 up",
        ),
    );
}

/// What the engine says of a query before any delivery is there; `expected` is its beginning, since
/// the planner goes on with every column.
#[track_caller]
fn check_plan(query: &str, expected: &str) {
    let contract = contract(&[&format!("id: a, query: \"{query}\", mustBe: 0")]);
    let problems = runtime().block_on(async {
        let warehouse = Warehouse::new().await;
        warehouse.answers.0.sql_check_problems(&contract).await
    });
    let said: Vec<&str> = problems
        .iter()
        .map(|problem| {
            assert_eq!(problem.file, "test_case.odcs.yaml");
            assert_eq!(problem.line, Some(contract.sql_checks()[0].line));
            let before = "the check `a` cannot be run: ";
            problem.message.strip_prefix(before).unwrap()
        })
        .collect();
    let said = said.join("; ");
    let same = if expected.is_empty() {
        said.is_empty()
    } else {
        said.starts_with(expected)
    };
    assert!(same, "{query}\n   said: {said}\n wanted: {expected}");
}

#[test]
fn a_good_query_is_planned_without_rows() {
    check_plan("select count(*) from {object}", "");
    check_plan("select sum(amount) / count(*) from {object}", "");
}

#[test]
fn a_query_that_cannot_be_planned_is_told_before_a_delivery_comes() {
    check_plan(
        "select count(*) from {object} where kinds = 'A'",
        "no field named kinds. Did you mean `kind`? Valid fields are delivery_id, row_no, case_no,",
    );
    check_plan(
        "selekt count(*) from {object}",
        "the SQL text could not be read",
    );
    check_plan(
        "select count(*), sum(amount) from {object}",
        "it gives 2 columns; a check gives one number",
    );
    check_plan(
        "select max(case_no) from {object}",
        "it gives a value of type Utf8; a check gives one number",
    );
    check_plan(
        "select count(*) from {object} where row_no = ?",
        "it has a parameter, and nobody gives it a value",
    );
    check_plan(
        "explain select count(*) from {object}",
        "it is not a query that gives rows; use `SELECT`",
    );
    check_plan(
        "delete from {object}",
        "`DELETE` is not allowed here: use SELECT, EXPLAIN, SHOW or DESCRIBE; tables change only by landing deliveries and by `tietopohja calc`; your own are those of the schema `workspace`",
    );
}

#[test]
fn a_check_reads_no_other_table() {
    for table in [
        "raw.test_case",
        "test_case",
        "reference.county",
        "meta.delivery",
        "information_schema.tables",
        "delivery.other",
    ] {
        let name = if table.contains('.') {
            table.to_owned()
        } else {
            format!("published.{table}")
        };
        check_plan(
            &format!("select count(*) from {{object}} where row_no in (select 1 from {table})"),
            &format!("table `{name}` not found"),
        );
    }
}

/// A year of cases of few people, so that groups and joins have something to do.
fn many_rows() -> String {
    let mut csv = String::from(
        "numero;henkilotunnus;kotikunta;laji;alkupvm;loppupvm;euro;tuottaja_ytunnus;kiireellinen;selite\n",
    );
    let people = ["020237-909S", "030344-918A", "040451-927V", "050558-936D"];
    for n in 0..20_000 {
        let (person, from) = (people[n % 4], 1 + n * 7 % 25);
        let (to, euros, cents) = (from + n % 3, n % 900, n % 97);
        csv.push_str(&format!(
            "T{n:06};{person};109;A;{from:02}.03.2024;{to:02}.03.2024;{euros},{cents:02};0101263-6;E;\n"
        ));
    }
    csv
}

#[test]
fn the_answer_does_not_depend_on_the_number_of_partitions_or_files() {
    let checks = [
        "id: a, query: 'select count(*) from {object} a join {object} b on a.client_pid = b.client_pid and a.started_on = b.started_on and a.row_no < b.row_no', mustBe: 0, unit: rows, severity: warning",
        "id: b, query: 'select count(*) from (select client_pid from {object} group by client_pid having sum(amount) > 4.0)', mustBe: 0, unit: percent, severity: warning",
    ];
    let contract = contract(&checks);
    let mut answers = Vec::new();
    for (partitions, encoders) in [(1, 1), (2, 3), (7, 2)] {
        let told = runtime().block_on(async {
            let warehouse = Warehouse::with(|options| options.target_partitions(partitions)).await;
            let file = warehouse.folder.path().join("many.csv");
            std::fs::write(&file, many_rows()).unwrap();
            let clock = clock();
            let intake = Intake {
                lake: &warehouse.lake,
                keys: &warehouse.keys,
                clock: clock.as_ref(),
                checks: Some(&warehouse.answers),
            };
            let limits = LandLimits {
                encoders,
                block_bytes: 32 << 10,
                ..LandLimits::default()
            };
            told(&Box::pin(land(intake, march(&contract, file), &limits, &NoProgress)).await)
        });
        answers.push(told);
    }
    // Each of the 25 days has 200 cases of each of four people: 100 times 200 × 199 / 2 pairs.
    assert_eq!(
        answers[0],
        "landed; warn the query counts 1990000 rows; the contract requires 0; \
         warn the query counts 4 rows of 20000 (0.0 %); the contract requires 0 %"
    );
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0], answers[2]);
}

#[test]
fn a_check_that_takes_too_long_says_so_and_nothing_lands() {
    let contract = contract(&[
        "id: a, query: 'select count(*) from {object} a cross join {object} b cross join {object} c where a.row_no * b.row_no * c.row_no = -1', mustBe: 0",
    ]);
    runtime().block_on(async {
        let warehouse = Warehouse::with(|options| {
            let mut options = options;
            options.statement_timeout = Some(std::time::Duration::from_millis(300));
            options
        })
        .await;
        let file = warehouse.folder.path().join("many.csv");
        std::fs::write(&file, many_rows()).unwrap();
        let error = warehouse.land(march(&contract, file)).await.unwrap_err();
        assert!(matches!(error, LandError::Checks { .. }), "{error}");
        assert!(error.to_string().contains("nothing landed"), "{error}");
        assert_eq!(warehouse.rows().await, 0);
        let raw = warehouse.folder.path().join("lake/raw");
        assert_eq!(Warehouse::data_files(&raw), 0);
    });
}

#[test]
fn the_ledger_keeps_what_the_receipt_says() {
    let contract = contract(&[&format!(
        "id: open_cases, {OPEN}, mustBe: 0, unit: rows, severity: warning, description: Is one not closed?"
    )]);
    runtime().block_on(async {
        let warehouse = Warehouse::new().await;
        let receipt = warehouse.land(march(&contract, good_file())).await.unwrap();
        let shown = "  warn      the query counts 2 rows; the contract requires 0 (open_cases)\n            help: Is one not closed?\n";
        assert!(receipt.to_string().contains(shown), "{receipt}");
        let delivery = Delivery {
            contract: "test_case".to_owned(),
            county: 7,
            county_code: "07".to_owned(),
            period: 202_403,
        };
        let ledger = warehouse.lake.ledger_rows(&delivery).await.unwrap();
        let findings: serde_json::Value = serde_json::from_str(&ledger[0].findings).unwrap();
        assert_eq!(findings["findings"][0]["rule"], "open_cases");
        assert_eq!(findings["findings"][0]["action"], "warn");
    });
}

#[test]
fn a_delivery_without_accepted_rows_is_judged_too() {
    let contract = contract(&[
        "id: a, query: \"select case when count(*) filter (where kind = 'A') = 0 then 1 else 0 end from {object}\", mustBe: 0, unit: rows",
        "id: b, query: 'select count(*) from {object}', mustBe: 1, unit: percent",
    ]);
    runtime().block_on(async {
        let warehouse = Warehouse::new().await;
        let header = std::fs::read_to_string(good_file()).unwrap();
        let file = warehouse.folder.path().join("empty.csv");
        std::fs::write(&file, header.lines().next().unwrap()).unwrap();
        let told = told(&warehouse.land(march(&contract, file)).await);
        assert_eq!(
            told,
            "refused, nothing landed; reject 0 rows were received; the contract requires more than 0; \
             reject the query counts 1 row; the contract requires 0"
        );
    });
}

#[test]
fn a_dry_run_leaves_no_row_on_the_disk() {
    let contract = contract(&[&format!("id: a, {OPEN}, mustBe: 2, unit: rows")]);
    runtime().block_on(async {
        let warehouse = Warehouse::new().await;
        warehouse.land(march(&contract, good_file())).await.unwrap();
        let before = Warehouse::data_files(warehouse.folder.path());
        let other = LandRequest {
            dry_run: true,
            ..march(&contract, testdata().join("good/bom_crlf.csv"))
        };
        let receipt = warehouse.land(other).await.unwrap();
        assert_eq!(receipt.delivery_id, "test_case.07.202403.r2");
        assert_eq!(Warehouse::data_files(warehouse.folder.path()), before);
    });
}

#[test]
fn a_contract_with_checks_does_not_land_where_nobody_runs_them() {
    let contract = contract(&[&format!("id: a, {OPEN}, mustBe: 2, unit: rows")]);
    runtime().block_on(async {
        let warehouse = Warehouse::new().await;
        let clock = clock();
        let intake = Intake {
            lake: &warehouse.lake,
            keys: &warehouse.keys,
            clock: clock.as_ref(),
            checks: None,
        };
        let request = march(&contract, good_file());
        let error = Box::pin(land(intake, request, &LandLimits::default(), &NoProgress)).await;
        assert!(matches!(error, Err(LandError::Internal { .. })));
        assert_eq!(warehouse.rows().await, 0);
    });
}
