//! Commits to several tables count together: when the last of them is made, and not before.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Int32Array, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use tietopohja_domain::{FixedClock, Timestamp};
use tietopohja_lake::{CommitInfo, Lake, Slice, SliceRows, TableName};

fn table(name: &str) -> TableName {
    TableName::new("result", name).unwrap()
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("no", DataType::Int32, true),
        Field::new("n", DataType::Int64, true),
    ]))
}

/// One row of a slice.
fn rows(no: i32, n: i64) -> SliceRows {
    let columns: Vec<arrow::array::ArrayRef> = vec![
        Arc::new(Int32Array::from(vec![no])),
        Arc::new(Int64Array::from(vec![n])),
    ];
    SliceRows {
        slice: Slice::new(&[("no", no)]),
        batches: vec![RecordBatch::try_new(schema(), columns).unwrap()],
    }
}

/// The lake as a process sees it whose clock stands at a second.
fn at(folder: &Path, second: i64) -> Lake {
    let clock = FixedClock(Timestamp::from_second(second).unwrap());
    Lake::open(folder, Arc::new(clock)).unwrap()
}

/// The tables `a`, `b` and `last`, made at second 0 and with one row of slice 1 each.
async fn made(folder: &Path) -> Lake {
    let lake = at(folder, 0);
    for name in ["a", "b", "last"] {
        let name = table(name);
        lake.ensure_table(&name, schema(), &["no"]).await.unwrap();
        let written = lake.replace_slices(&name, vec![rows(1, 0)], CommitInfo::default());
        assert_eq!(written.await.unwrap(), 1);
    }
    lake
}

async fn settled(lake: &Lake) -> Vec<Option<i64>> {
    let mut found = Vec::new();
    for name in ["a", "b", "last"] {
        found.push(lake.settled(&table(name)).await.unwrap());
    }
    found
}

#[tokio::test]
async fn commits_of_a_group_are_seen_when_the_last_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let lake = made(folder.path()).await;
    // Another process that has seen all of it, and one that begins to look at each step.
    let other = at(folder.path(), 0);
    let group = lake.group(&table("last")).await.unwrap();
    for (name, seen) in [("a", 1), ("b", 1), ("last", 2)] {
        let name = table(name);
        let written = lake.replace_slices(&name, vec![rows(1, 1)], group.info());
        assert_eq!(written.await.unwrap(), 2);
        let expected = vec![Some(seen); 3];
        for lake in [&lake, &other, &at(folder.path(), 0)] {
            assert_eq!(settled(lake).await, expected, "after {name}");
        }
    }
    assert_eq!(lake.settled(&table("c")).await.unwrap(), None);
}

#[tokio::test]
async fn what_a_dead_writer_left_is_never_seen_and_can_be_told() {
    let folder = tempfile::tempdir().unwrap();
    let lake = made(folder.path()).await;
    let a = table("a");
    let dead = lake.group(&table("last")).await.unwrap();
    for no in [1, 2] {
        let written = lake.replace_slices(&a, vec![rows(no, 7)], dead.info());
        written.await.unwrap();
    }
    assert_eq!(settled(&lake).await, [Some(1); 3]);
    let left = |lake: Lake| async move { lake.unsettled_slices(&table("a"), "no").await.unwrap() };
    assert_eq!(left(at(folder.path(), 0)).await, BTreeSet::from([1, 2]));
    assert_eq!(
        lake.unsettled_slices(&table("b"), "no").await.unwrap(),
        BTreeSet::new()
    );
    // Others commit to the last table meanwhile; that finishes their groups and not this one.
    let next = lake.group(&table("last")).await.unwrap();
    for name in ["b", "last"] {
        let name = table(name);
        let written = lake.replace_slices(&name, vec![rows(1, 2)], next.info());
        written.await.unwrap();
    }
    assert_eq!(settled(&lake).await, [Some(1), Some(2), Some(2)]);
    // Who makes the slices anew is seen with nothing of the dead one's.
    let group = lake.group(&table("last")).await.unwrap();
    let anew = vec![rows(1, 3), rows(2, 3)];
    lake.replace_slices(&a, anew, group.info()).await.unwrap();
    assert_eq!(settled(&lake).await[0], Some(1));
    lake.append(&table("last"), Vec::new(), group.info())
        .await
        .unwrap();
    assert_eq!(settled(&lake).await, [Some(4), Some(2), Some(3)]);
    assert_eq!(left(at(folder.path(), 0)).await, BTreeSet::new());
}

#[tokio::test]
async fn two_groups_at_once_are_each_seen_when_they_end() {
    let folder = tempfile::tempdir().unwrap();
    let lake = made(folder.path()).await;
    let (one, two) = (
        lake.group(&table("last")).await.unwrap(),
        lake.group(&table("last")).await.unwrap(),
    );
    for (name, group) in [("a", &one), ("a", &two), ("b", &one)] {
        let name = table(name);
        let written = lake.replace_slices(&name, vec![rows(1, 1)], group.info());
        written.await.unwrap();
    }
    assert_eq!(settled(&lake).await, [Some(1); 3]);
    lake.append(&table("last"), Vec::new(), one.info())
        .await
        .unwrap();
    assert_eq!(settled(&lake).await, [Some(2); 3]);
    lake.append(&table("last"), Vec::new(), two.info())
        .await
        .unwrap();
    assert_eq!(settled(&lake).await, [Some(3), Some(2), Some(3)]);
}

#[tokio::test]
async fn a_moment_shows_what_was_finished_then() {
    let folder = tempfile::tempdir().unwrap();
    made(folder.path()).await;
    let begun = at(folder.path(), 10);
    let group = begun.group(&table("last")).await.unwrap();
    let a = table("a");
    let written = begun.replace_slices(&a, vec![rows(1, 1)], group.info());
    written.await.unwrap();
    at(folder.path(), 30)
        .append(&table("last"), Vec::new(), group.info())
        .await
        .unwrap();
    let lake = at(folder.path(), 99);
    for (second, a, last) in [
        (-1, None, None),
        (0, Some(1), Some(1)),
        (10, Some(1), Some(1)),
        (29, Some(1), Some(1)),
        (30, Some(2), Some(2)),
        (99, Some(2), Some(2)),
    ] {
        for (name, expected) in [("a", a), ("last", last)] {
            let seen = lake.settled_at(&table(name), second * 1_000).await;
            assert_eq!(seen.unwrap(), expected, "{name} at {second}");
        }
    }
}
