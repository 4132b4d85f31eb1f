//! Small files are put together, and nobody sees other rows for it.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use tietopohja_domain::{FixedClock, Timestamp};
use tietopohja_lake::{CommitInfo, Lake, Slice, TableName};

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("word", DataType::Utf8, true),
        Field::new("number", DataType::Int64, true),
    ]))
}

fn lake(folder: &Path) -> Arc<Lake> {
    let clock = FixedClock(Timestamp::UNIX_EPOCH);
    Arc::new(Lake::open(folder, Arc::new(clock)).unwrap())
}

fn thing() -> TableName {
    TableName::new("meta", "thing").unwrap()
}

/// Appends a row with this number, and a word unless it is zero.
async fn append(lake: &Lake, number: i64) -> i64 {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec![(number != 0).then_some("word")])),
        Arc::new(Int64Array::from(vec![number])),
    ];
    let rows = vec![RecordBatch::try_new(schema(), columns).unwrap()];
    let name = thing();
    let made = lake.append(&name, rows, CommitInfo::default());
    made.await.unwrap()
}

/// The numbers of a table at a version, and how many of the rows have a word.
async fn rows(lake: &Lake, version: i64) -> (Vec<i64>, usize) {
    let (mut numbers, mut words) = (Vec::new(), 0);
    let mut each = |batch: &RecordBatch| {
        let column = batch.column_by_name("number").unwrap();
        numbers.extend(column.as_primitive::<Int64Type>().values());
        let column = batch.column_by_name("word").unwrap();
        words += column.len() - column.null_count();
    };
    let (name, slice, columns) = (thing(), Slice::whole(), ["word", "number"]);
    let read = lake.read_at(&name, version, &slice, &columns, &mut each);
    read.await.unwrap();
    numbers.sort_unstable();
    (numbers, words)
}

async fn files(lake: &Lake) -> usize {
    let slices = lake.slices(&thing(), None).await.unwrap().unwrap().slices;
    slices
        .values()
        .map(|files| files.identities().count())
        .sum()
}

#[tokio::test]
async fn many_small_files_become_one() {
    let folder = tempfile::tempdir().unwrap();
    let here = lake(folder.path());
    let name = thing();
    assert_eq!(here.fold(&name).await.unwrap(), 0, "no table");
    here.ensure_table(&name, schema(), &[]).await.unwrap();
    for number in 0..17 {
        assert_eq!(here.fold(&name).await.unwrap(), 0, "{number} files are few");
        append(&here, number).await;
    }
    assert_eq!(here.fold(&name).await.unwrap(), 17);
    // The same rows at both versions, for who follows and for who begins to look.
    for lake in [&here, &lake(folder.path())] {
        assert_eq!(lake.version(&name).await.unwrap(), Some(18));
        for version in [17, 18] {
            let expected = ((0..17).collect(), 16);
            assert_eq!(rows(lake, version).await, expected, "version {version}");
        }
        assert_eq!(files(lake).await, 1);
        assert_eq!(lake.fold(&name).await.unwrap(), 0, "nothing is left to do");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_appends_while_others_fold_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let lakes = [
        lake(folder.path()),
        lake(folder.path()),
        lake(folder.path()),
    ];
    let name = thing();
    lakes[0].ensure_table(&name, schema(), &[]).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for (writer, lake) in (0..).zip(&lakes) {
        let (lake, name) = (Arc::clone(lake), name.clone());
        tasks.spawn(async move {
            let mut folded = 0;
            for number in 0..60 {
                append(&lake, writer * 60 + number).await;
                folded += lake.fold(&name).await.unwrap();
            }
            folded
        });
    }
    let folded: usize = tasks.join_all().await.into_iter().sum();
    let anew = lake(folder.path());
    let newest = anew.version(&name).await.unwrap().unwrap();
    assert_eq!(rows(&anew, newest).await, ((0..180).collect(), 179));
    assert!(
        folded > 0 && files(&anew).await < 40,
        "{folded} files were folded"
    );
}
