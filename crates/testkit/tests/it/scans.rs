//! A plan over a table of the lake can be sent to another process, and gives the same rows there.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::util::pretty::pretty_format_batches;
use datafusion::physical_plan::collect;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_proto::bytes::{physical_plan_from_bytes, physical_plan_to_bytes};
use tietopohja_domain::{FixedClock, Timestamp};
use tietopohja_lake::{CommitInfo, Lake, Slice, SliceRows, TableName};

const ROWS: i64 = 20_000;

/// Pruning by partition and by rows, a dynamic filter of a join, one of a limited sort, and nothing at all.
const QUERIES: [&str; 5] = [
    "SELECT county, count(*) AS n, sum(x) AS x FROM visit WHERE county = 7 AND x % 3 = 1 GROUP BY county",
    "SELECT name, max(x) AS x FROM visit WHERE x BETWEEN 5000 AND 5100 GROUP BY name ORDER BY name",
    "SELECT count(*) AS n FROM visit AS a JOIN visit AS b ON a.x = b.x WHERE b.county = 8 AND b.x < 50",
    "SELECT county, name, x FROM visit ORDER BY x DESC, county LIMIT 7",
    "SELECT x FROM visit WHERE county = 99",
];

fn table() -> TableName {
    TableName::new("raw", "visit").unwrap()
}

fn rows(county: i32) -> SliceRows {
    let x = (0..ROWS).map(|n| n * i64::from(county) % ROWS);
    let names = (0..ROWS).map(|n| ["a", "b", "c"][(n % 3) as usize]);
    let columns: [(&str, ArrayRef, bool); 3] = [
        (
            "county",
            Arc::new(Int32Array::from(vec![county; ROWS as usize])),
            true,
        ),
        ("x", Arc::new(Int64Array::from_iter_values(x)), true),
        ("name", Arc::new(StringArray::from_iter_values(names)), true),
    ];
    SliceRows {
        slice: Slice::new(&[("county", county)]),
        batches: vec![RecordBatch::try_from_iter_with_nullable(columns).unwrap()],
    }
}

fn opened(folder: &Path) -> Lake {
    let clock = FixedClock(Timestamp::from_second(0).unwrap());
    Lake::open(folder, Arc::new(clock)).unwrap()
}

/// A session that knows the table, as a process has it.
#[expect(
    clippy::disallowed_methods,
    reason = "the plan is sent without the engine's session"
)]
async fn process(folder: &Path) -> SessionContext {
    let session = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
    let provider = opened(folder).provider(&table(), None).await.unwrap();
    session.register_table("visit", provider).unwrap();
    session
}

#[tokio::test]
async fn a_plan_gives_the_same_rows_in_another_process() {
    let folder = tempfile::tempdir().unwrap();
    let lake = opened(folder.path());
    let slices = vec![rows(7), rows(8), rows(11)];
    let schema = slices[0].batches[0].schema();
    lake.ensure_table(&table(), schema, &["county"])
        .await
        .unwrap();
    lake.replace_slices(&table(), slices, CommitInfo::default())
        .await
        .unwrap();
    let here = process(folder.path()).await;
    let there = process(folder.path()).await;
    // It learns of the store when it reads the table for the first time.
    let look = there.sql("SELECT count(*) FROM visit").await.unwrap();
    look.collect().await.unwrap();
    for sql in QUERIES {
        let plan = here.sql(sql).await.unwrap();
        let plan = plan.create_physical_plan().await.unwrap();
        let bytes = physical_plan_to_bytes(Arc::clone(&plan)).unwrap();
        let arrived = physical_plan_from_bytes(&bytes, &there.task_ctx()).unwrap();
        let mut answers = Vec::new();
        for (plan, session) in [(plan, &here), (arrived, &there)] {
            let rows = collect(plan, session.task_ctx()).await.unwrap();
            answers.push(pretty_format_batches(&rows).unwrap().to_string());
        }
        assert_eq!(answers[0], answers[1], "{sql}");
        let are_rows = answers[0].lines().count() > 4;
        assert_eq!(are_rows, !sql.contains("99"), "{sql}: {}", answers[0]);
    }
}
