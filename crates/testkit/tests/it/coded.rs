//! Coded slices over storage that fails: old or new, never a slice without its mark; and files that
//! no version names go away, in time.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Float64Array, Int32Array,
    Int64Array, RecordBatch, StringArray, new_null_array,
};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use tietopohja_domain::{FixedClock, Timestamp};
use tietopohja_lake::{CodedSlices, CommitInfo, Lake, LakeError, Slice, Spare, TableName};
use tietopohja_testkit::{Fault, FaultyStore};
use url::Url;

const HOUR: i64 = 3_600;

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().expect("a folder");
        Place { folder }
    }

    /// A lake of a new process, so many seconds after the first.
    fn lake(&self, store: Arc<dyn ObjectStore>, seconds: i64) -> Arc<Lake> {
        let folder = self.folder.path().canonicalize().expect("a path");
        let url = Url::from_directory_path(folder).expect("an address");
        let now = Timestamp::from_second(1_748_736_000 + seconds).expect("a moment");
        Arc::new(Lake::with_store(store, url, Arc::new(FixedClock(now))))
    }

    fn sound(&self, seconds: i64) -> Arc<Lake> {
        self.lake(Arc::new(LocalFileSystem::new()), seconds)
    }

    fn files(&self) -> usize {
        fn count(folder: &std::path::Path) -> usize {
            std::fs::read_dir(folder)
                .expect("a folder")
                .map(|entry| entry.expect("an entry").path())
                .map(|path| match path.is_dir() {
                    true => count(&path),
                    false => usize::from(path.extension().is_some_and(|end| end == "parquet")),
                })
                .sum()
        }
        count(self.folder.path())
    }
}

fn name() -> TableName {
    TableName::new("fact", "thing").expect("a name")
}

fn schema() -> Arc<Schema> {
    Arc::new(Schema::new(vec![
        Field::new("word", DataType::Utf8, true),
        Field::new("number", DataType::Int64, true),
        Field::new("county", DataType::Int32, true),
        Field::new("period", DataType::Int32, true),
    ]))
}

fn rows(count: i64) -> RecordBatch {
    let words: StringArray = (0..count).map(|n| (n % 3 > 0).then_some("word")).collect();
    let numbers = Int64Array::from_iter_values(0..count);
    RecordBatch::try_from_iter([
        ("number", Arc::new(numbers) as arrow::array::ArrayRef),
        ("word", Arc::new(words)),
    ])
    .expect("a batch")
}

fn slice(county: i32) -> Slice {
    Slice::new(&[("county", county), ("period", 202_401)])
}

/// Writes slices of `(county, rows)` under a mark and drops others, in one commit.
async fn write(
    lake: &Arc<Lake>,
    mark: &str,
    slices: &[(i32, i64)],
    dropped: &[i32],
) -> Result<i64, LakeError> {
    lake.ensure_table(&name(), schema(), &["county", "period"])
        .await?;
    let mut stored = CodedSlices::default();
    for (county, count) in slices {
        let mut writer = lake.coded_writer(&name(), 100).await?;
        writer.begin(slice(*county), mark).await?;
        for from in (0..*count).step_by(7) {
            let length = (count - from).min(7) as usize;
            writer
                .write(rows(*count).slice(from as usize, length))
                .await?;
        }
        stored.extend(writer.finish().await?);
    }
    for county in dropped {
        stored.drop_slice(slice(*county));
    }
    lake.replace_coded(&name(), stored, CommitInfo::default())
        .await
}

/// County, rows and whether the mark is `mark`, of each slice, as a new process sees it.
async fn seen(lake: &Arc<Lake>, mark: &str) -> Vec<(i32, i64, bool)> {
    let slices = lake.slices(&name(), None).await.expect("slices");
    let mut found = Vec::new();
    for (key, files) in slices.expect("a table").slices {
        let mut numbers = Vec::new();
        let mut each = |batch: &RecordBatch| {
            let column = batch.column_by_name("number").expect("a column");
            numbers.extend(column.as_primitive::<Int64Type>().values().iter().copied());
        };
        lake.read(&name(), &slice(key[0]), None, None, &mut each)
            .await
            .expect("rows");
        let count = numbers.len() as i64;
        assert_eq!(numbers, (0..count).collect::<Vec<_>>(), "order is kept");
        assert_eq!(files.rows, Some(count as u64));
        found.push((key[0], count, files.has_mark(mark)));
    }
    found
}

#[tokio::test]
async fn slices_and_their_marks_are_old_or_new_whatever_write_fails() {
    let mut failed = 0;
    for fault in [Fault::Before, Fault::After, Fault::Once] {
        for fails_at in 0..10 {
            let place = Place::new();
            write(&place.sound(0), "old", &[(7, 300), (8, 2)], &[])
                .await
                .expect("the first is written");
            let store = Arc::new(FaultyStore::new(
                Arc::new(LocalFileSystem::new()),
                fails_at,
                fault,
            ));
            let ended = write(
                &place.lake(store.clone(), 0),
                "new",
                &[(7, 5), (9, 0)],
                &[8],
            )
            .await;
            failed += usize::from(ended.is_err());
            let now = seen(&place.sound(0), "new").await;
            let new = [(7, 5, true), (9, 0, true)];
            let old = [(7, 300, false), (8, 2, false)];
            assert!(now == new || now == old, "{fault:?} {fails_at}: {now:?}");
            assert!(ended.is_err() || now == new, "{fault:?} {fails_at}");
            if ended.is_ok() && store.writes() < fails_at {
                break;
            }
        }
    }
    assert!(failed > 5, "only {failed} faults were met");
}

#[tokio::test]
async fn files_that_no_version_names_go_away_when_nobody_can_be_about_to_commit_them() {
    let place = Place::new();
    let here = place.sound(0);
    write(&here, "old", &[(7, 300), (8, 2)], &[])
        .await
        .expect("the first is written");
    write(&here, "new", &[(7, 5)], &[8])
        .await
        .expect("it is replaced");
    // Stored and never committed.
    let mut writer = here.coded_writer(&name(), 100).await.expect("a writer");
    writer.begin(slice(9), "new").await.expect("a slice");
    writer.write(rows(3)).await.expect("rows");
    writer.finish().await.expect("it is stored");
    for (seconds, swept, left) in [(0, 0, 4), (HOUR, 0, 4), (HOUR + 1, 3, 1), (2 * HOUR, 0, 1)] {
        let lake = place.sound(seconds);
        let found = lake.sweep_coded(&name()).await.expect("it is swept");
        assert_eq!((found, place.files()), (swept, left), "after {seconds} s");
        assert_eq!(seen(&lake, "new").await, [(7, 5, true)]);
    }
}

#[tokio::test]
async fn a_version_tells_the_slices_it_had() {
    let place = Place::new();
    let lake = place.sound(0);
    let first = write(&lake, "a", &[(7, 3)], &[]).await.expect("a version");
    let second = write(&lake, "b", &[(8, 4)], &[7]).await.expect("a version");
    for (version, county, mark) in [(first, 7, "a"), (second, 8, "b")] {
        let found = lake.slices(&name(), Some(version)).await.expect("slices");
        let found = found.expect("a table");
        let marks: BTreeMap<i32, bool> = found
            .slices
            .iter()
            .map(|(key, files)| (key[0], files.has_mark(mark)))
            .collect();
        assert_eq!((found.version, marks), (version, [(county, true)].into()));
    }
    let nothing = TableName::new("fact", "nothing").expect("a name");
    assert!(
        lake.slices(&nothing, None)
            .await
            .expect("an answer")
            .is_none()
    );
}

#[tokio::test]
async fn rows_that_are_right_behind_a_version_only_come_behind_it_or_not_at_all() {
    let place = Place::new();
    let (one, other) = (place.sound(0), place.sound(0));
    let list = TableName::new("fact", "list").expect("a name");
    one.ensure_table(&list, schema(), &[])
        .await
        .expect("a table");
    let count = async |lake: &Lake| {
        let mut found = 0;
        let (whole, mut each) = (Slice::whole(), |batch: &RecordBatch| {
            found += batch.num_rows()
        });
        let read = lake.read(&list, &whole, None, None, &mut each);
        read.await.expect("it is read");
        found
    };
    let seen = one.version(&list).await.expect("a version");
    let seen = seen.expect("a table");
    assert_eq!(other.version(&list).await.expect("a version"), Some(seen));
    let next = one.append_after(&list, vec![rows(3)], seen).await;
    assert_eq!(next.expect("it is written"), Some(seen + 1));
    // Whoever read the version before is too late, also when it saw no commit since.
    for lake in [&other, &one] {
        let late = lake.append_after(&list, vec![rows(5)], seen).await;
        assert_eq!(late.expect("an answer"), None);
        assert_eq!(count(lake).await, 3);
    }
    let next = other.append_after(&list, vec![rows(5)], seen + 1).await;
    assert_eq!(next.expect("it is written"), Some(seen + 2));
    assert_eq!(count(&one).await, 8);
}

#[tokio::test]
async fn a_table_that_is_made_anew_has_another_id() {
    let place = Place::new();
    let lake = place.sound(0);
    assert_eq!(lake.table_id(&name()).await.expect("an answer"), None);
    let made = async |lake: &Lake| {
        lake.ensure_table(&name(), schema(), &["county"])
            .await
            .expect("a table");
        lake.table_id(&name()).await.expect("an answer")
    };
    let first = made(&lake).await;
    assert!(first.is_some());
    assert_eq!(made(&place.sound(0)).await, first);
    let is_it = |table: &str| table == "thing";
    lake.drop_tables("fact", &is_it).await.expect("it is gone");
    let second = made(&lake).await;
    assert!(second.is_some() && second != first);
}

/// Rows with a column of every kind that a relation may have.
fn wide_rows(count: i64) -> RecordBatch {
    let some = |n: i64, every: i64| (n % every > 0).then_some(n);
    let all = || 0..count;
    let words = all().map(|n| some(n, 5).map(|n| ["own", "bought", "other"][n as usize % 3]));
    let names = all().map(|n| Some(format!("name {n}")));
    let amounts = all().map(|n| some(n, 11).map(|n| n * 7_919 % 50_021));
    let small = all().map(|n| some(n, 7).map(|n| (n % 40) as i32));
    let days = all().map(|n| Some(19_000 + (n / 100) as i32));
    let flags = all().map(|n| some(n, 13).map(|n| n % 2 == 0));
    let shares = all().map(|n| Some(n as f64 / 8.0));
    let persons = all().map(|n| (u128::from(n as u64 * 31 % 701) << 64).to_be_bytes());
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("word", Arc::new(words.collect::<StringArray>())),
        ("name", Arc::new(names.collect::<StringArray>())),
        ("number", Arc::new(Int64Array::from_iter_values(all()))),
        ("amount", Arc::new(amounts.collect::<Int64Array>())),
        ("small", Arc::new(small.collect::<Int32Array>())),
        ("day", Arc::new(days.collect::<Date32Array>())),
        ("flag", Arc::new(flags.collect::<BooleanArray>())),
        ("share", Arc::new(shares.collect::<Float64Array>())),
        (
            "person_pid",
            Arc::new(BinaryArray::from_iter_values(persons)),
        ),
        (
            "person_pid#1f",
            Arc::new(Int32Array::from_iter_values(
                all().map(|n| (n * 31 % 701) as i32),
            )),
        ),
        ("nothing", new_null_array(&DataType::Int64, count as usize)),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, of)| (name, of, true)))
        .expect("a batch")
}

#[tokio::test]
async fn files_read_by_codes_have_the_rows_of_the_table() {
    let place = Place::new();
    // Parts of a file are read from it, or come as a stream.
    let file: Arc<dyn ObjectStore> = Arc::new(LocalFileSystem::new());
    for store in [file, Arc::new(InMemory::new())] {
        rows_by_codes_are_those_of_the_table(&place.lake(store, 0)).await;
    }
}

async fn rows_by_codes_are_those_of_the_table(lake: &Arc<Lake>) {
    let wide = TableName::new("fact", "wide").expect("a name");
    let columns = wide_rows(1).schema();
    let partitions = ["county", "period"].map(|name| Field::new(name, DataType::Int32, true));
    let fields = columns.fields().iter().map(|field| field.as_ref().clone());
    let whole = Arc::new(Schema::new(fields.chain(partitions).collect::<Vec<_>>()));
    lake.ensure_table(&wide, whole, &["county", "period"])
        .await
        .expect("a table");
    let mut writer = lake.coded_writer(&wide, 2_000).await.expect("a writer");
    let counts = [(7, 5_000), (8, 3), (9, 0)];
    for (county, count) in counts {
        writer.begin(slice(county), "m").await.expect("a slice");
        let rows = wide_rows(count);
        for from in (0..count as usize).step_by(1_500) {
            let length = 1_500.min(count as usize - from);
            writer.write(rows.slice(from, length)).await.expect("rows");
        }
    }
    let slices = writer.finish().await.expect("slices");
    let version = lake
        .replace_coded(&wide, slices, CommitInfo::default())
        .await
        .expect("a commit");
    let files = lake
        .coded_files(&wide, version)
        .await
        .expect("files")
        .expect("of ours");
    let places: Vec<usize> = (0..columns.fields().len()).collect();
    let mut few = 0;
    let mut spare = Spare::default();
    for (county, count) in counts {
        let expected = wide_rows(count);
        let chosen = files.chosen(|values| values[0] == Some(county));
        // All columns at once, in another order, and each alone.
        let each = places.iter().map(|place| vec![*place]);
        let ways = [places.clone(), places.iter().rev().copied().collect()];
        for asked in each.chain(ways) {
            let mut rows = 0;
            for (file, bytes) in &chosen {
                assert!(*bytes > 0);
                let file = files.open(*file, &asked).await.expect("a file");
                let file = Arc::new(file);
                for group in 0..file.groups() {
                    let fetched = file.fetch(group, spare.raw()).await.expect("a row group");
                    let (length, found) = fetched.read(&mut spare).expect("its rows");
                    assert_eq!(found.len(), asked.len());
                    for (place, column) in asked.iter().zip(&found) {
                        few += usize::from(column.codes.is_some());
                        let name = files.schema().field(*place).name();
                        let wanted = expected.column_by_name(name).expect("a column");
                        let column = match &column.codes {
                            None => Arc::clone(&column.values),
                            Some(codes) => take(&column.values, codes, None).expect("values"),
                        };
                        let column = cast(&column, wanted.data_type()).expect("values");
                        assert_eq!(
                            column.as_ref(),
                            wanted.slice(rows, length).as_ref(),
                            "{name} of {county}"
                        );
                    }
                    rows += length;
                    for column in found {
                        spare.take_back(column);
                    }
                }
                assert!(file.fetch(file.groups(), Vec::new()).await.is_err());
            }
            assert_eq!(rows as i64, count);
        }
    }
    assert!(few > 20, "{few} columns were codes");
    assert!(files.open(99, &[0]).await.is_err());
    assert!(files.chosen(|_| false).is_empty());
}
