//! A landing whose storage fails at any write, before or after the effect, leaves old or new; and
//! the next try lands exactly once. Landings that meet one another all land, and none lands a key
//! of a table that another has.

use std::sync::Arc;

use arrow::array::{Array, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use tietopohja_contract::{CodeLists, Contract};
use tietopohja_domain::{ContentHash, County, DeliveryPeriod, FixedClock, Timestamp};
use tietopohja_ingest::{
    Intake, KeyRing, LandError, LandLimits, LandRequest, NoProgress, Outcome, Receipt,
};
use tietopohja_lake::{
    CommitInfo, Delivery, Lake, LakeError, LandOutcome, Landing, LedgerRow, PartOptions, Slice,
    StagedRows, TableName, Ticket,
};
use tietopohja_testkit::{Fault, FaultyStore, PausingStore};
use url::Url;

fn contract() -> Schema {
    Schema::new(vec![Field::new("name", DataType::Utf8, true)])
}

fn delivery() -> Delivery {
    delivery_of(9, 202401)
}

fn delivery_of(county: i32, period: i32) -> Delivery {
    Delivery {
        contract: "sample".to_owned(),
        county,
        county_code: format!("{county:02}"),
        period,
    }
}

/// A folder that several lakes, as if of several processes, are opened on.
struct Place {
    folder: tempfile::TempDir,
    url: Url,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().expect("a folder");
        let url = Url::from_directory_path(folder.path().canonicalize().expect("a path"))
            .expect("an address");
        Place { folder, url }
    }

    /// A lake as a new process sees it.
    fn lake(&self) -> Arc<Lake> {
        self.lake_on(Arc::new(LocalFileSystem::new()))
    }

    fn lake_on(&self, store: Arc<dyn ObjectStore>) -> Arc<Lake> {
        let clock = Arc::new(FixedClock(Timestamp::UNIX_EPOCH));
        Arc::new(Lake::with_store(store, self.url.clone(), clock))
    }
}

fn raw() -> TableName {
    TableName::new("raw", "sample").expect("a name")
}

fn content(number: u8) -> ContentHash {
    ContentHash::new([number; 32])
}

fn ledger_row(delivery: &Delivery, ticket: &Ticket, number: u8, rows: i64) -> LedgerRow {
    LedgerRow {
        delivery_id: ticket.delivery_id(),
        contract: "sample".to_owned(),
        contract_version: "1.0.0".to_owned(),
        county_code: delivery.county_code.clone(),
        county: delivery.county,
        period: delivery.period,
        covers_from: 19_723,
        covers_to: 19_753,
        revision: ticket.revision(),
        content_hash: content(number).to_string(),
        file_name: "sample.csv".to_owned(),
        file_bytes: 1,
        received: rows,
        accepted: rows,
        quarantined: 0,
        control_sums: "{}".to_owned(),
        key_version: 1,
        status: "accepted".to_owned(),
        table_version: 0,
        landed_at: 0,
        engine_version: "test".to_owned(),
        findings: "[]".to_owned(),
    }
}

/// Leave to land content `number`.
async fn begin(lake: &Lake, delivery: &Delivery, number: u8) -> Result<Ticket, &'static str> {
    match lake
        .begin_landing(delivery, &contract(), content(number), None)
        .await
    {
        Ok(Landing::AlreadyLanded(_)) => Err("already"),
        Ok(Landing::Older { .. }) => Err("older"),
        Ok(Landing::Go(ticket)) => Ok(*ticket),
        Err(error) => panic!("{error}"),
    }
}

/// Stores rows with these names.
async fn stage(lake: &Arc<Lake>, ticket: &Ticket, names: &[&str]) -> Result<StagedRows, LakeError> {
    let writer = lake.landing_writer(ticket, 2, PartOptions::default())?;
    let rows = names.len();
    let batch = RecordBatch::try_new(
        Arc::clone(ticket.file_schema()),
        vec![
            Arc::new(StringArray::from(vec![ticket.delivery_id(); rows])),
            Arc::new(Int64Array::from_iter_values(2..2 + rows as i64)),
            Arc::new(StringArray::from(names.to_vec())),
        ],
    )
    .expect("a batch");
    let writer = tokio::task::spawn_blocking(move || writer.write(batch).map(|()| writer))
        .await
        .expect("a thread")?;
    writer.finish().await
}

async fn finish(
    lake: &Lake,
    delivery: &Delivery,
    ticket: &Ticket,
    staged: &StagedRows,
    number: u8,
) -> Result<&'static str, LakeError> {
    let row = ledger_row(delivery, ticket, number, staged.rows as i64);
    Ok(
        match lake.finish_landing(ticket, staged, Vec::new(), row).await? {
            LandOutcome::Landed(_) => "landed",
            LandOutcome::AlreadyLanded(_) => "already",
            LandOutcome::Overtaken { .. } => "overtaken",
            LandOutcome::OthersLanded => "others",
        },
    )
}

/// Lands `rows` rows of content `number`; tells how it ended.
async fn land_as(
    lake: &Arc<Lake>,
    delivery: &Delivery,
    number: u8,
    rows: i64,
) -> Result<&'static str, LakeError> {
    let landing = lake
        .begin_landing(delivery, &contract(), content(number), None)
        .await?;
    let ticket = match landing {
        Landing::AlreadyLanded(_) => return Ok("already"),
        Landing::Older { .. } => return Ok("older"),
        Landing::Go(ticket) => ticket,
    };
    let staged = stage(lake, &ticket, &vec!["x"; rows as usize]).await?;
    finish(lake, delivery, &ticket, &staged, number).await
}

async fn land(lake: &Arc<Lake>, number: u8, rows: i64) -> Result<&'static str, LakeError> {
    land_as(lake, &delivery(), number, rows).await
}

async fn rows_of(lake: &Lake, slice: &Slice) -> i64 {
    let mut count = 0;
    let mut each = |batch: &RecordBatch| count += batch.num_rows() as i64;
    lake.read(&raw(), slice, None, Some(&["row_no"]), &mut each)
        .await
        .expect("rows");
    count
}

async fn rows(lake: &Lake) -> i64 {
    rows_of(lake, &Slice::new(&[("county", 9), ("period", 202401)])).await
}

/// Three rows are in place; `second` rows are landed over storage that fails at every write in turn.
async fn survives(fault: Fault, second: i64) -> usize {
    let mut failed = 0;
    for fails_at in 0..20 {
        let place = Place::new();
        assert_eq!(
            land(&place.lake(), 1, 3).await.expect("the first lands"),
            "landed"
        );

        let store = Arc::new(FaultyStore::new(
            Arc::new(LocalFileSystem::new()),
            fails_at,
            fault,
        ));
        let outcome = land(&place.lake_on(store.clone()), 2, second).await;
        failed += usize::from(outcome.is_err());

        // A new process, with storage that works.
        let seen = rows(&place.lake()).await;
        assert!(
            seen == 3 || seen == second,
            "{fault:?} {fails_at}: {seen} rows"
        );
        if let Ok(ended) = outcome {
            assert_eq!((ended, seen), ("landed", second), "{fault:?} {fails_at}");
        }
        let again = land(&place.lake(), 2, second).await.expect("a retry");
        assert_eq!(
            again,
            if seen == second { "already" } else { "landed" },
            "{fault:?} {fails_at} {outcome:?}"
        );
        assert_eq!(rows(&place.lake()).await, second, "{fault:?} {fails_at}");
        let ledger = place.lake().ledger_rows(&delivery()).await;
        assert_eq!(
            ledger
                .expect("a ledger")
                .iter()
                .map(|row| (row.revision, row.accepted))
                .collect::<Vec<_>>(),
            [(1, 3), (2, second)],
            "{fault:?} {fails_at}"
        );
        if outcome.is_ok() && store.writes() < fails_at {
            break;
        }
    }
    failed
}

#[tokio::test(flavor = "multi_thread")]
async fn storage_that_fails_at_any_write_leaves_old_or_new() {
    let mut failed = 0;
    for fault in [Fault::Before, Fault::After, Fault::Once] {
        for second in [2, 0] {
            failed += survives(fault, second).await;
        }
    }
    assert!(failed >= 12, "only {failed} faults were met");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_is_not_made_again() {
    let place = Place::new();
    land(&place.lake(), 1, 3).await.expect("the first lands");
    // The writes of a landing: rows, pending receipt, data commit, ledger rows, ledger commit.
    for (fails_at, number) in [(2, 2), (4, 3)] {
        let store = FaultyStore::new(Arc::new(LocalFileSystem::new()), fails_at, Fault::Once);
        let ended = land(&place.lake_on(Arc::new(store)), number, 2).await;
        assert_eq!(ended.expect("it is looked for"), "landed", "{fails_at}");
    }
    let lake = place.lake();
    assert_eq!(lake.version(&raw()).await.expect("a version"), Some(3));
    let ledger = TableName::new("meta", "delivery").expect("a name");
    assert_eq!(lake.version(&ledger).await.expect("a version"), Some(3));
    let known = lake.ledger_rows(&delivery()).await.expect("a ledger");
    let known: Vec<_> = known
        .iter()
        .map(|row| (row.revision, row.table_version))
        .collect();
    assert_eq!(known, [(1, 1), (2, 2), (3, 3)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_whose_files_were_put_together_knows_every_revision() {
    let place = Place::new();
    let other = delivery_of(9, 202402);
    for number in 1..=20 {
        let lake = place.lake();
        assert_eq!(land(&lake, number, 1).await.expect("it lands"), "landed");
        if number == 20 {
            let landed = land_as(&lake, &other, number, 1).await;
            assert_eq!(landed.expect("it lands"), "landed");
        }
    }
    // One that has seen all of it before, and one that begins to look.
    let (before, ledger) = (
        place.lake(),
        TableName::new("meta", "delivery").expect("a name"),
    );
    let known = before.ledger_rows(&delivery()).await.expect("a ledger");
    assert_eq!(place.lake().fold(&ledger).await.expect("it is folded"), 20);
    for lake in [&before, &place.lake()] {
        assert_eq!(
            lake.ledger_rows(&delivery()).await.expect("a ledger"),
            known
        );
        assert_eq!(lake.ledger_rows(&other).await.expect("a ledger").len(), 1);
        assert_eq!(
            land(lake, 20, 1).await.expect("it is looked for"),
            "already"
        );
    }
    assert_eq!(land(&before, 21, 1).await.expect("it lands"), "landed");
    let revisions = before.ledger_rows(&delivery()).await.expect("a ledger");
    assert!(revisions.iter().map(|row| row.revision).eq(1..=21));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_landing_meets_another_that_is_just_writing_its_receipt() {
    let place = Place::new();
    let files = || Arc::new(LocalFileSystem::new()) as Arc<dyn ObjectStore>;
    let writes = Arc::new(PausingStore::new(
        files(),
        "meta/delivery/_delta_log/00000000000000000001.json",
    ));
    let reads = Arc::new(PausingStore::reading(files(), "meta/_pending/"));
    let (first, second) = (place.lake_on(writes.clone()), place.lake_on(reads.clone()));
    // The first has committed its rows and is about to write its receipt; the second has listed the
    // pending receipt of the first and is about to read it.
    let first = tokio::spawn(async move { land(&first, 1, 3).await });
    writes.reached().await;
    let second = tokio::spawn(async move { land(&second, 2, 2).await });
    reads.reached().await;
    writes.release();
    let ended = first.await.expect("it ends").expect("it lands");
    assert_eq!(ended, "landed");
    reads.release();
    let ended = second.await.expect("it ends").expect("it lands");
    assert_eq!(ended, "landed");
    assert_eq!(rows(&place.lake()).await, 2);
    let known = place.lake().ledger_rows(&delivery()).await;
    let known = known.expect("a ledger");
    let revisions: Vec<i64> = known.iter().map(|row| row.revision).collect();
    assert_eq!(revisions, [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_landing_meets_commits_of_other_deliveries_and_lands() {
    let place = Place::new();
    let (here, there) = (place.lake(), place.lake());
    let (one, other) = (delivery_of(9, 202401), delivery_of(9, 202402));
    let ticket = begin(&here, &one, 1).await.expect("leave");
    let staged = stage(&here, &ticket, &["a", "b"]).await.expect("rows");
    // Between the ticket and the commit, another process lands twice and adds a column.
    land_as(&there, &other, 2, 4).await.expect("it lands");
    land_as(&there, &other, 3, 5).await.expect("it lands");
    let wider = Schema::new(vec![
        Field::new("name", DataType::Utf8, true),
        Field::new("age", DataType::Int64, true),
    ]);
    let begun = there
        .begin_landing(&delivery_of(9, 202403), &wider, content(9), None)
        .await;
    assert!(matches!(begun, Ok(Landing::Go(_))), "{begun:?}");
    assert_eq!(
        finish(&here, &one, &ticket, &staged, 1)
            .await
            .expect("it lands"),
        "landed"
    );
    for lake in [&here, &there, &place.lake()] {
        assert_eq!(rows(lake).await, 2);
        assert_eq!(rows_of(lake, &Slice::whole()).await, 7);
        let schema = lake.schema(&raw()).await.expect("a table").expect("it is");
        assert!(schema.field_with_name("age").is_ok());
        assert_eq!(lake.version(&raw()).await.expect("a version"), Some(4));
    }
    let ledger = here.ledger_rows(&one).await.expect("a ledger");
    assert_eq!(ledger.first().map(|row| row.table_version), Some(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_processes_with_one_delivery_the_later_is_told() {
    for (second, expected) in [(1, "already"), (2, "overtaken")] {
        let place = Place::new();
        let (here, there) = (place.lake(), place.lake());
        let ticket = begin(&here, &delivery(), 1).await.expect("leave");
        let staged = stage(&here, &ticket, &["a"]).await.expect("rows");
        land(&there, second, 2).await.expect("it lands");
        let ended = finish(&here, &delivery(), &ticket, &staged, 1).await;
        assert_eq!(ended.expect("it is told"), expected);
        assert_eq!(rows(&place.lake()).await, 2);
    }
    // Without rows, the commit itself tells whose it is.
    for (second, expected) in [(1, "already"), (2, "overtaken")] {
        let place = Place::new();
        let (here, there) = (place.lake(), place.lake());
        let ticket = begin(&here, &delivery(), 1).await.expect("leave");
        let staged = stage(&here, &ticket, &[]).await.expect("rows");
        land(&there, second, 0).await.expect("it lands");
        let ended = finish(&here, &delivery(), &ticket, &staged, 1).await;
        assert_eq!(ended.expect("it is told"), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_landings_of_several_processes_all_land() {
    let place = Place::new();
    // Each process has a lake, and lands several deliveries at a time.
    let lakes = [place.lake(), place.lake(), place.lake()];
    let landings = (0..24).map(|number: i32| {
        let lake = Arc::clone(&lakes[number as usize % lakes.len()]);
        tokio::spawn(async move {
            let delivery = delivery_of(1 + number % 4, 202401 + number / 4);
            land_as(&lake, &delivery, number as u8, 2).await
        })
    });
    for landing in landings.collect::<Vec<_>>() {
        let ended = landing.await.expect("a task").expect("it lands");
        assert_eq!(ended, "landed");
    }
    let fresh = place.lake();
    for lake in lakes.iter().chain([&fresh]) {
        assert_eq!(rows_of(lake, &Slice::whole()).await, 48);
        for number in 0..24 {
            let delivery = delivery_of(1 + number % 4, 202401 + number / 4);
            let ledger = lake.ledger_rows(&delivery).await.expect("a ledger");
            assert_eq!(ledger.len(), 1, "{number}");
        }
    }
}

/// The names in the other deliveries that a ticket has not looked at yet.
async fn look_at_others(lake: &Lake, ticket: &mut Ticket) -> Vec<String> {
    let mut names = Vec::new();
    lake.read_others(ticket, &["name"], &mut |batch| {
        names.extend(
            batch
                .column(0)
                .as_string::<i32>()
                .iter()
                .flatten()
                .map(str::to_owned),
        );
    })
    .await
    .expect("others");
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_landing_checked_against_others_waits_for_a_look_at_the_newest() {
    let place = Place::new();
    let (here, there) = (place.lake(), place.lake());
    let land_there = async |delivery: Delivery, names: &[&str]| {
        let ticket = begin(&there, &delivery, 7).await.expect("leave");
        let staged = stage(&there, &ticket, names).await.expect("rows");
        let ended = finish(&there, &delivery, &ticket, &staged, 7).await;
        assert_eq!(ended.expect("it lands"), "landed");
    };
    land_there(delivery_of(9, 202312), &["a", "b"]).await;

    let mut ticket = begin(&here, &delivery(), 1).await.expect("leave");
    let staged = stage(&here, &ticket, &["x"]).await.expect("rows");
    assert_eq!(look_at_others(&here, &mut ticket).await, ["a", "b"]);
    land_there(delivery_of(9, 202402), &["c"]).await;
    land_there(delivery_of(9, 202403), &["d"]).await;
    for (others, next) in [(vec!["c", "d"], Some("e")), (vec!["e"], None)] {
        let ended = finish(&here, &delivery(), &ticket, &staged, 1).await;
        assert_eq!(ended.expect("it is told"), "others");
        assert_eq!(rows(&place.lake()).await, 0, "nothing was changed");
        assert_eq!(look_at_others(&here, &mut ticket).await, others);
        if let Some(next) = next {
            land_there(delivery_of(9, 202404), &[next]).await;
        }
    }
    // Another organiser numbers its things alike: its landing is no matter.
    land_there(delivery_of(8, 202401), &["x"]).await;
    let ended = finish(&here, &delivery(), &ticket, &staged, 1).await;
    assert_eq!(ended.expect("it lands"), "landed");
    assert_eq!(rows(&place.lake()).await, 1);
}

/// A warehouse with the contract whose key is unique in the whole table.
struct Warehouse {
    place: Place,
    files: tempfile::TempDir,
    keys: KeyRing,
    contract: Arc<Contract>,
}

impl Warehouse {
    fn new(action: &str) -> Warehouse {
        let text = std::fs::read_to_string(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../testdata/contracts/test_notice.odcs.yaml"
        ))
        .expect("a contract")
        .replace(
            "severityAction, value: reject",
            &format!("severityAction, value: {action}"),
        );
        let lists = CodeLists::parse(Vec::new()).expect("no lists");
        let contract = Contract::parse("test_notice.odcs.yaml", &text, &lists).expect("a contract");
        let files = tempfile::tempdir().expect("a folder");
        let keys = KeyRing::create_from(&files.path().join("key"), [42; 32]).expect("a key");
        Warehouse {
            place: Place::new(),
            files,
            keys,
            contract: Arc::new(contract),
        }
    }

    async fn land(
        &self,
        lake: &Arc<Lake>,
        month: u32,
        numbers: &[&str],
    ) -> Result<Receipt, LandError> {
        let mut text = String::from("ilmoitusnumero;saapumispvm\n");
        for number in numbers {
            text.push_str(&format!("{number};05.{month:02}.2024\n"));
        }
        let file = self.files.path().join(format!("{month}.csv"));
        std::fs::write(&file, text).expect("a file");
        let lists = Arc::new(CodeLists::parse(Vec::new()).expect("no lists"));
        let request = LandRequest {
            county: Some(County::parse("07").expect("a county")),
            period: Some(DeliveryPeriod::parse(&format!("2024-{month:02}")).expect("a period")),
            ..LandRequest::new(Arc::clone(&self.contract), lists, file)
        };
        let clock = FixedClock("2024-12-15T09:00:00Z".parse().expect("a moment"));
        let limits = LandLimits::default();
        let intake = Intake {
            lake,
            keys: &self.keys,
            clock: &clock,
            checks: None,
        };
        tietopohja_ingest::land(intake, request, &limits, &NoProgress).await
    }

    async fn numbers(&self) -> Vec<String> {
        let mut numbers = Vec::new();
        let mut each = |batch: &RecordBatch| {
            let column = batch.column_by_name("notice_no").expect("a column");
            numbers.extend(
                column
                    .as_string::<i32>()
                    .iter()
                    .flatten()
                    .map(str::to_owned),
            );
        };
        let name = TableName::new("raw", "test_notice").expect("a name");
        let lake = self.place.lake();
        lake.read(&name, &Slice::whole(), None, None, &mut each)
            .await
            .expect("rows");
        numbers.sort();
        numbers
    }
}

/// One landing is stopped at its commit, after its keys were found to be new; another delivery lands
/// meanwhile.
async fn interleaved(
    warehouse: &Warehouse,
    stopped: &[&str],
    meanwhile: &[&str],
) -> Result<Receipt, LandError> {
    let before = warehouse.land(&warehouse.place.lake(), 1, &["A1"]).await;
    assert_eq!(before.expect("it lands").outcome, Outcome::Landed);
    let store = Arc::new(PausingStore::new(
        Arc::new(LocalFileSystem::new()),
        "raw/test_notice/_delta_log/00000000000000000002.json",
    ));
    let lake = warehouse.place.lake_on(store.clone());
    let (receipt, ()) = tokio::join!(warehouse.land(&lake, 2, stopped), async {
        store.reached().await;
        let other = warehouse.land(&warehouse.place.lake(), 3, meanwhile).await;
        assert_eq!(other.expect("it lands").outcome, Outcome::Landed);
        store.release();
    });
    receipt
}

#[tokio::test(flavor = "multi_thread")]
async fn two_landings_at_the_same_moment_do_not_share_a_key_of_the_table() {
    let warehouse = Warehouse::new("reject");
    let refused = interleaved(&warehouse, &["B1", "B2"], &["C1", "B2"]).await;
    let Err(LandError::Refused(receipt)) = refused else {
        panic!("{refused:?}")
    };
    assert!(
        receipt
            .findings
            .iter()
            .any(|finding| finding.rule == "duplicate_key"),
        "{receipt}"
    );
    assert_eq!(warehouse.numbers().await, ["A1", "B2", "C1"]);
    // Nothing is left of it: a later try, without the key, is a first landing.
    let receipt = warehouse
        .land(&warehouse.place.lake(), 2, &["B1"])
        .await
        .expect("it lands");
    assert_eq!(
        (receipt.outcome, receipt.delivery_id.as_str()),
        (Outcome::Landed, "test_notice.07.202402.r1")
    );

    let warehouse = Warehouse::new("quarantine");
    let receipt = interleaved(&warehouse, &["B1", "B2"], &["C1", "B2"])
        .await
        .expect("it lands");
    assert_eq!(
        (receipt.outcome, receipt.accepted, receipt.quarantined),
        (Outcome::Landed, 1, 1)
    );
    assert_eq!(warehouse.numbers().await, ["A1", "B1", "B2", "C1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_landings_at_the_same_moment_with_keys_of_their_own_both_land() {
    let warehouse = Warehouse::new("reject");
    let receipt = interleaved(&warehouse, &["B1", "B2"], &["C1"])
        .await
        .expect("it lands");
    assert_eq!(
        (
            receipt.outcome,
            receipt.delivery_id.as_str(),
            receipt.table_version
        ),
        (Outcome::Landed, "test_notice.07.202402.r1", Some(3))
    );
    assert_eq!(warehouse.numbers().await, ["A1", "B1", "B2", "C1"]);
}

/// What any query would see of a table.
async fn seen(lake: &Lake, name: &TableName) -> Vec<(String, i64)> {
    let mut rows = Vec::new();
    let mut each =
        |batch: &RecordBatch| {
            let names = batch.column_by_name("name").expect("a column");
            let numbers = batch.column_by_name("number").expect("a column");
            let numbers = numbers.as_primitive::<arrow::datatypes::Int64Type>();
            rows.extend(names.as_string::<i32>().iter().zip(numbers.iter()).map(
                |(name, number)| {
                    (
                        name.unwrap_or_default().to_owned(),
                        number.unwrap_or_default(),
                    )
                },
            ));
        };
    lake.read(name, &Slice::whole(), None, None, &mut each)
        .await
        .expect("rows");
    rows.sort();
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_followed_is_the_table_that_is_read_anew() {
    let place = Place::new();
    let (here, there) = (place.lake(), place.lake());
    let name = TableName::new("result", "thing").expect("a name");
    let schema = Arc::new(Schema::new(vec![
        Field::new("part", DataType::Int32, true),
        Field::new("name", DataType::Utf8, true),
        Field::new("number", DataType::Int64, true),
    ]));
    let batch = |text: &str, numbers: std::ops::Range<i64>| {
        let fields = schema.fields().iter().skip(1).cloned().collect::<Vec<_>>();
        let rows = numbers.clone().count();
        RecordBatch::try_new(
            Arc::new(Schema::new(fields)),
            vec![
                Arc::new(StringArray::from(vec![text; rows])),
                Arc::new(Int64Array::from_iter_values(numbers)),
            ],
        )
        .expect("a batch")
    };
    here.ensure_table(&name, Arc::clone(&schema), &["part"])
        .await
        .expect("a table");
    for step in 0..30i64 {
        let writer = if step % 3 == 0 { &there } else { &here };
        let slices = (0..=step % 2)
            .map(|part| tietopohja_lake::SliceRows {
                slice: Slice::new(&[("part", ((step + part) % 4) as i32)]),
                batches: vec![batch(&format!("step {step}"), part..part + step)],
            })
            .collect();
        writer
            .replace_slices(&name, slices, CommitInfo::default())
            .await
            .expect("it is replaced");
        // The second time and the third, the log is long enough for a checkpoint.
        if step % 10 == 9 {
            there.maintain(&name).await.expect("it is maintained");
        }
        let anew = place.lake();
        let expected = seen(&anew, &name).await;
        for lake in [&here, &there] {
            assert_eq!(seen(lake, &name).await, expected, "step {step}");
            assert_eq!(
                lake.version(&name).await.expect("a version"),
                anew.version(&name).await.expect("a version")
            );
        }
        assert_eq!(
            expected.is_empty(),
            step == 0,
            "step {step} has {} rows",
            expected.len()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_for_one_table_is_copied_for_another_of_the_same_columns() {
    let place = Place::new();
    let lake = place.lake();
    let [from, same, other] =
        ["from", "same", "other"].map(|table| TableName::new("result", table).expect("a name"));
    let number = Field::new("number", DataType::Int64, true);
    let more = Field::new("more", DataType::Int64, true);
    for (name, fields) in [
        (&from, vec![number.clone()]),
        (&same, vec![number.clone()]),
        (&other, vec![number, more]),
    ] {
        let part = Field::new("part", DataType::Int32, true);
        let fields: Vec<Field> = [part].into_iter().chain(fields).collect();
        lake.ensure_table(name, Arc::new(Schema::new(fields)), &["part"])
            .await
            .expect("a table");
    }
    let numbers: Arc<dyn Array> = Arc::new(Int64Array::from(vec![1, 2]));
    let batch = RecordBatch::try_from_iter([("number", numbers)]).expect("a batch");
    let slice = Slice::new(&[("part", 1)]);
    let batches = vec![batch.clone()];
    let rows = tietopohja_lake::SliceRows { slice, batches };
    let stored = lake.store_slice(&from, rows).await.expect("it is stored");
    let refused = lake.copy_slice(&from, &stored, &other).await;
    assert!(refused.expect("an answer").is_none());
    let copied = lake.copy_slice(&from, &stored, &same).await;
    let copied = copied.expect("an answer").expect("a copy");
    // Each table has its own file.
    lake.discard_slice(&from, stored).await;
    lake.commit_slices(&same, vec![copied], CommitInfo::default())
        .await
        .expect("it is committed");
    let mut found = Vec::new();
    let mut each = |batch: &RecordBatch| {
        let numbers = batch.column_by_name("number").expect("a column");
        found.extend(numbers.as_primitive::<Int64Type>().values().iter().copied());
    };
    lake.read(&same, &Slice::whole(), None, None, &mut each)
        .await
        .expect("rows");
    assert_eq!(found, [1, 2]);
    let lost = lake.store_slice(
        &from,
        tietopohja_lake::SliceRows {
            slice: Slice::new(&[("part", 1)]),
            batches: vec![batch],
        },
    );
    let lost = lost.await.expect("it is stored");
    let folder = place.folder.path().join("result/from");
    std::fs::remove_dir_all(folder.join("part=1")).expect("no files");
    let copied = lake.copy_slice(&from, &lost, &same).await;
    assert!(copied.expect("an answer").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_discarded_leave_no_file() {
    let place = Place::new();
    let lake = place.lake();
    let name = TableName::new("result", "thing").expect("a name");
    let fields = [
        Field::new("part", DataType::Int32, true),
        Field::new("number", DataType::Int64, true),
    ];
    let schema = Arc::new(Schema::new(fields.to_vec()));
    lake.ensure_table(&name, schema, &["part"])
        .await
        .expect("a table");
    let numbers: Arc<dyn Array> = Arc::new(Int64Array::from(vec![1, 2]));
    let batch = RecordBatch::try_from_iter([("number", numbers)]).expect("a batch");
    let folder = place.folder.path().join("result/thing/part=1");
    let files = || std::fs::read_dir(&folder).expect("a folder").count();
    let store = || {
        let slice = Slice::new(&[("part", 1)]);
        let batches = vec![batch.clone()];
        lake.store_slice(&name, tietopohja_lake::SliceRows { slice, batches })
    };
    let kept = store().await.expect("it is stored");
    let discarded = store().await.expect("it is stored");
    assert_eq!(files(), 2);
    lake.discard_slice(&name, discarded).await;
    assert_eq!(files(), 1);
    lake.commit_slices(&name, vec![kept], CommitInfo::default())
        .await
        .expect("it is committed");
    let mut rows = 0;
    let mut each = |batch: &RecordBatch| rows += batch.num_rows();
    lake.read(&name, &Slice::whole(), None, None, &mut each)
        .await
        .expect("rows");
    assert_eq!(rows, 2);
}
