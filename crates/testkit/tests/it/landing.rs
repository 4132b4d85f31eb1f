//! A landing whose storage fails at any write, before or after the effect, leaves old or new; and
//! the next try lands exactly once.

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use object_store::local::LocalFileSystem;
use tietopohja_domain::{ContentHash, FixedClock, Timestamp};
use tietopohja_lake::{
    Delivery, Lake, LakeError, LandOutcome, Landing, LedgerRow, PartOptions, TableName,
};
use tietopohja_testkit::{Fault, FaultyStore};
use url::Url;

fn contract() -> Schema {
    Schema::new(vec![Field::new("name", DataType::Utf8, true)])
}

fn delivery() -> Delivery {
    Delivery {
        contract: "sample".to_owned(),
        county: 9,
        county_code: "09".to_owned(),
        period: 202401,
    }
}

fn content(number: u8) -> ContentHash {
    ContentHash::new([number; 32])
}

fn ledger_row(ticket: &tietopohja_lake::Ticket, number: u8, rows: i64) -> LedgerRow {
    LedgerRow {
        delivery_id: ticket.delivery_id(),
        contract: "sample".to_owned(),
        contract_version: "1.0.0".to_owned(),
        county_code: "09".to_owned(),
        county: 9,
        period: 202401,
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

/// Lands `rows` rows of content `number`; tells how it ended.
async fn land(lake: &Arc<Lake>, number: u8, rows: i64) -> Result<&'static str, LakeError> {
    let ticket = match lake
        .begin_landing(&delivery(), &contract(), content(number), None)
        .await?
    {
        Landing::AlreadyLanded(_) => return Ok("already"),
        Landing::Older { .. } => return Ok("older"),
        Landing::Go(ticket) => ticket,
    };
    let writer = lake.landing_writer(&ticket, 2, PartOptions::default())?;
    let batch = RecordBatch::try_new(
        Arc::clone(ticket.file_schema()),
        vec![
            Arc::new(StringArray::from(vec![ticket.delivery_id(); rows as usize])),
            Arc::new(Int64Array::from_iter_values(2..2 + rows)),
            Arc::new(StringArray::from(vec!["x"; rows as usize])),
        ],
    )
    .expect("a batch");
    let writer = tokio::task::spawn_blocking(move || writer.write(batch).map(|()| writer))
        .await
        .expect("a thread")?;
    let staged = writer.finish().await?;
    match lake
        .finish_landing(
            &ticket,
            &staged,
            Vec::new(),
            ledger_row(&ticket, number, rows),
        )
        .await?
    {
        LandOutcome::Landed(_) => Ok("landed"),
        LandOutcome::AlreadyLanded(_) => Ok("already"),
        LandOutcome::Overtaken { .. } => Ok("overtaken"),
    }
}

async fn rows(lake: &Lake) -> i64 {
    let mut count = 0;
    let slice = tietopohja_lake::Slice::new(&[("county", 9), ("period", 202401)]);
    lake.read(
        &TableName::new("raw", "sample").expect("a name"),
        &slice,
        None,
        Some(&["row_no"]),
        &mut |batch| count += batch.num_rows() as i64,
    )
    .await
    .expect("rows");
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn storage_that_fails_at_any_write_leaves_old_or_new() {
    let clock = Arc::new(FixedClock(Timestamp::UNIX_EPOCH));
    let mut failed = 0;
    for fault in [Fault::Before, Fault::After] {
        for fails_at in 0..20 {
            let folder = tempfile::tempdir().expect("a folder");
            let url = Url::from_directory_path(folder.path().canonicalize().expect("a path"))
                .expect("an address");
            let sound = || {
                Arc::new(Lake::with_store(
                    Arc::new(LocalFileSystem::new()),
                    url.clone(),
                    clock.clone(),
                ))
            };
            assert_eq!(
                land(&sound(), 1, 3).await.expect("the first lands"),
                "landed"
            );

            let store = Arc::new(FaultyStore::new(
                Arc::new(LocalFileSystem::new()),
                fails_at,
                fault,
            ));
            let broken = Arc::new(Lake::with_store(store.clone(), url.clone(), clock.clone()));
            let outcome = land(&broken, 2, 2).await;
            failed += usize::from(outcome.is_err());

            // A new process, with storage that works.
            let seen = rows(&sound()).await;
            assert!(seen == 3 || seen == 2, "{fault:?} {fails_at}: {seen} rows");
            let again = land(&sound(), 2, 2).await.expect("a retry");
            assert_eq!(
                again,
                if seen == 2 { "already" } else { "landed" },
                "{fault:?} {fails_at} {outcome:?}"
            );
            assert_eq!(rows(&sound()).await, 2, "{fault:?} {fails_at}");
            let ledger = sound().ledger_rows(&delivery()).await.expect("a ledger");
            assert_eq!(
                ledger
                    .iter()
                    .map(|row| (row.revision, row.accepted))
                    .collect::<Vec<_>>(),
                [(1, 3), (2, 2)],
                "{fault:?} {fails_at}"
            );
            if outcome.is_ok() && store.writes() < fails_at {
                break;
            }
        }
    }
    assert!(failed >= 4, "only {failed} faults were met");
}
