//! Reading a log: what a table of ours is, at its newest version.
//!
//! The format layer reads any Delta table, and takes milliseconds of one core for each: it plans and
//! evaluates expressions over every commit. A warehouse has some sixty tables, most of a single file.
//! Logs that say nothing but what ours say are read here: the last checkpoint, where there is one, and
//! the commits behind it ("Action Reconciliation" of the Delta protocol). Of anything else [`read`] gives
//! `None`, and the format layer reads the table, or tells what is wrong with it: later protocols,
//! features, properties and actions that are not named here, checkpoints in parts, deleted rows, paths
//! with escapes, and what is damaged.
//!
//! What may not live here: what a version is used for (`state.rs`). To read another action: a variant of
//! [`Line`] and its arm in [`Reading::take`].

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{Array, AsArray, MapArray, RecordBatch, StringArray, StructArray};
use arrow::datatypes::{Int32Type, Int64Type};
use bytes::Bytes;
use deltalake_core::kernel::{Add, StructType};
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::state::TableState;
use crate::{Lake, LakeError, TableName};

/// Commits that are fetched at a time. Some are asked for that are not there yet.
const AT_A_TIME: usize = 4;

/// Properties of a table that mean nothing to who reads it or adds files to it.
const HARMLESS: [&str; 3] = [
    "delta.checkpointInterval",
    "delta.enableExpiredLogCleanup",
    "delta.logRetentionDuration",
];

/// What a checkpoint holds that is read here, or that must not be there.
const OF_CHECKPOINT: [&str; 10] = [
    "add.path",
    "add.partitionValues",
    "add.size",
    "add.modificationTime",
    "add.stats",
    "add.deletionVector.storageType",
    "metaData",
    "protocol",
    "txn",
    "domainMetadata.domain",
];

/// A line of a commit.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Line {
    Protocol(Protocol),
    MetaData(Box<Metadata>),
    Add(Box<Add>),
    Remove(Removed),
    Txn(Transaction),
    CommitInfo(IgnoredAny),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Protocol {
    min_reader_version: i32,
    min_writer_version: i32,
}

/// What a log says of a table as a whole.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    id: String,
    schema_string: String,
    #[serde(default)]
    partition_columns: Vec<String>,
    #[serde(default)]
    configuration: HashMap<String, Option<String>>,
}

#[derive(Debug, Deserialize)]
struct Removed {
    path: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Transaction {
    app_id: String,
    version: i64,
}

/// The pointer to the last checkpoint.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LastCheckpoint {
    version: i64,
    parts: Option<IgnoredAny>,
    v2_checkpoint: Option<IgnoredAny>,
}

/// A log as far as it has been read.
#[derive(Debug, Default)]
struct Reading {
    version: i64,
    metadata: Option<Metadata>,
    is_plain: bool,
    files: BTreeMap<String, Add>,
    transactions: HashMap<Arc<str>, i64>,
}

/// A table at its newest version; `None` when there is none, or the format layer must read it.
///
/// # Errors
/// When storage fails.
pub(crate) async fn read(lake: &Lake, name: &TableName) -> Result<Option<TableState>, LakeError> {
    let mut reading = Reading {
        version: -1,
        ..Reading::default()
    };
    let folder = format!("{}/{}/_delta_log", name.schema(), name.table());
    if let Some(text) = object(lake, &format!("{folder}/_last_checkpoint")).await? {
        let last: Option<LastCheckpoint> = serde_json::from_slice(&text).ok();
        let last = last.filter(|last| last.parts.is_none() && last.v2_checkpoint.is_none());
        let Some(LastCheckpoint { version, .. }) = last else {
            return Ok(None);
        };
        let place = format!("{folder}/{version:020}.checkpoint.parquet");
        let Some(rows) = object(lake, &place).await? else {
            return Ok(None);
        };
        // Who cuts a log takes away its oldest commits first. As long as this one is there, so are those
        // behind it; else the pointer may be older than the last checkpoint, and none would seem to follow.
        match lake.store.head(&lake.commit_path(name, version)?).await {
            Ok(_) => {}
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(LakeError::storage("read a log")(error)),
        }
        reading.version = version;
        if reading.take_checkpoint(rows).is_none() {
            return Ok(None);
        }
    }
    let next = reading.version + 1;
    let mut commits = futures::stream::iter(next..)
        .map(|version| lake.commit_text(name, version))
        .buffered(AT_A_TIME);
    while let Some(Some(commit)) = commits.try_next().await? {
        if reading.take_commit(&commit).is_none() {
            return Ok(None);
        }
        reading.version += 1;
    }
    Ok(reading.state(name))
}

/// The bytes of an object of the lake, when it is there.
async fn object(lake: &Lake, place: &str) -> Result<Option<Bytes>, LakeError> {
    let failed = || LakeError::storage("read a log");
    match lake.store.get(&lake.object_path(place)?).await {
        Ok(found) => Ok(Some(found.bytes().await.map_err(failed())?)),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(failed()(error)),
    }
}

impl Reading {
    /// Takes in a commit; `None` when it says something that is not read here.
    fn take_commit(&mut self, text: &[u8]) -> Option<()> {
        let lines = serde_json::Deserializer::from_slice(text).into_iter::<Line>();
        let lines: Vec<Line> = lines.collect::<Result<_, _>>().ok()?;
        // A file may be taken out and put back by one commit; then it stays.
        for line in &lines {
            if let Line::Remove(removed) = line {
                self.files.remove(plain(&removed.path)?);
            }
        }
        lines.into_iter().try_for_each(|line| self.take(line))
    }

    fn take(&mut self, line: Line) -> Option<()> {
        match line {
            Line::Protocol(protocol) => {
                self.is_plain = protocol.min_reader_version == 1
                    && (1..=2).contains(&protocol.min_writer_version);
                self.is_plain.then_some(())?;
            }
            Line::MetaData(metadata) => self.metadata = Some(*metadata),
            Line::Add(add) => {
                let is_whole = add.deletion_vector.is_none();
                is_whole.then_some(())?;
                self.files.insert(plain(&add.path)?.to_owned(), *add);
            }
            Line::Txn(Transaction { app_id, version }) => {
                self.transactions.insert(app_id.into(), version);
            }
            Line::Remove(_) | Line::CommitInfo(_) => {}
        }
        Some(())
    }

    /// Takes in the rows of a checkpoint.
    fn take_checkpoint(&mut self, file: Bytes) -> Option<()> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).ok()?;
        let schema = builder.parquet_schema();
        // Files that are listed in files of their own.
        let others = schema.columns().iter();
        let mut others = others.filter(|column| column.path().string().starts_with("sidecar."));
        let sidecars = others.next().map(|column| column.path().string());
        let wanted = OF_CHECKPOINT.into_iter().chain(sidecars.as_deref());
        let mask = ProjectionMask::columns(schema, wanted);
        for batch in builder.with_projection(mask).build().ok()? {
            let batch = batch.ok()?;
            for unknown in ["domainMetadata", "sidecar"] {
                let column = batch.column_by_name(unknown);
                let is_empty = column.is_none_or(|column| column.null_count() == column.len());
                is_empty.then_some(())?;
            }
            self.take_rows(&batch)?;
        }
        Some(())
    }

    fn take_rows(&mut self, batch: &RecordBatch) -> Option<()> {
        if let Some(found) = group(batch, "protocol") {
            let reader = found.column_by_name("minReaderVersion")?;
            let writer = found.column_by_name("minWriterVersion")?;
            let reader = reader.as_primitive_opt::<Int32Type>()?;
            let writer = writer.as_primitive_opt::<Int32Type>()?;
            for row in rows(found) {
                self.take(Line::Protocol(Protocol {
                    min_reader_version: reader.value(row),
                    min_writer_version: writer.value(row),
                }))?;
            }
        }
        if let Some(found) = group(batch, "metaData") {
            let columns = found.column_by_name("partitionColumns")?;
            let columns = columns.as_list_opt::<i32>()?;
            let configuration = found.column_by_name("configuration")?.as_map_opt()?;
            let (id, schema) = (texts(found, "id")?, texts(found, "schemaString")?);
            for row in rows(found) {
                let columns = columns.value(row);
                let columns = columns.as_string_opt::<i32>()?.iter().flatten();
                self.take(Line::MetaData(Box::new(Metadata {
                    id: id.value(row).to_owned(),
                    schema_string: schema.value(row).to_owned(),
                    partition_columns: columns.map(str::to_owned).collect(),
                    configuration: entries(configuration, row)?,
                })))?;
            }
        }
        if let Some(found) = group(batch, "txn") {
            let version = found.column_by_name("version")?;
            let version = version.as_primitive_opt::<Int64Type>()?;
            let application = texts(found, "appId")?;
            for row in rows(found) {
                self.take(Line::Txn(Transaction {
                    app_id: application.value(row).to_owned(),
                    version: version.value(row),
                }))?;
            }
        }
        if let Some(found) = group(batch, "add") {
            let long = |name| found.column_by_name(name)?.as_primitive_opt::<Int64Type>();
            let (size, modified) = (long("size")?, long("modificationTime")?);
            let values = found.column_by_name("partitionValues")?.as_map_opt()?;
            let deleted = found.column_by_name("deletionVector");
            let (path, stats) = (texts(found, "path")?, texts(found, "stats")?);
            for row in rows(found) {
                let is_whole = deleted.is_none_or(|deleted| deleted.is_null(row));
                is_whole.then_some(())?;
                self.take(Line::Add(Box::new(Add {
                    path: path.value(row).to_owned(),
                    partition_values: entries(values, row)?,
                    size: size.value(row),
                    modification_time: modified.value(row),
                    data_change: false,
                    stats: stats.is_valid(row).then(|| stats.value(row).to_owned()),
                    tags: None,
                    deletion_vector: None,
                    base_row_id: None,
                    default_row_commit_version: None,
                    clustering_provider: None,
                })))?;
            }
        }
        Some(())
    }

    /// The table, when all is known of it.
    fn state(self, name: &TableName) -> Option<TableState> {
        let metadata = self.metadata.filter(|_| self.is_plain)?;
        let mut properties = metadata.configuration.keys();
        let is_known = properties.all(|property| HARMLESS.contains(&property.as_str()))
            // Columns that are checked, computed or called otherwise say so under this name.
            && !metadata.schema_string.contains("\"delta.");
        is_known.then_some(())?;
        let columns: StructType = serde_json::from_str(&metadata.schema_string).ok()?;
        TableState::of_log(
            name,
            self.version,
            (metadata.id, Arc::new(columns)),
            metadata.partition_columns.into(),
            self.files.values(),
            self.transactions,
        )
    }
}

/// A path that is written as it is.
fn plain(path: &str) -> Option<&str> {
    (!path.contains(['%', ':'])).then_some(path)
}

fn group<'a>(batch: &'a RecordBatch, name: &str) -> Option<&'a StructArray> {
    batch.column_by_name(name)?.as_struct_opt()
}

/// The rows that have this kind of action.
fn rows(group: &StructArray) -> impl Iterator<Item = usize> + '_ {
    (0..group.len()).filter(|row| group.is_valid(*row))
}

fn texts<'a>(group: &'a StructArray, name: &str) -> Option<&'a StringArray> {
    group.column_by_name(name)?.as_string_opt::<i32>()
}

fn entries(map: &MapArray, row: usize) -> Option<HashMap<String, Option<String>>> {
    let entries = map.value(row);
    let [keys, values] = entries.columns() else {
        return None;
    };
    let (keys, values) = (keys.as_string_opt::<i32>()?, values.as_string_opt::<i32>()?);
    let pairs = keys.iter().zip(values.iter());
    pairs
        .map(|(key, value)| Some((key?.to_owned(), value.map(str::to_owned))))
        .collect()
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int32Array, Int64Array};
    use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
    use tietopohja_domain::{Clock, Timestamp};

    use super::*;
    use crate::{CommitInfo, Slice, SliceRows};

    struct Noon;

    impl Clock for Noon {
        fn now(&self) -> Timestamp {
            Timestamp::from_second(1_767_225_600).unwrap()
        }
    }

    fn columns(with_moment: bool) -> Arc<Schema> {
        let mut fields = vec![
            Field::new("county", DataType::Int32, true),
            Field::new("visits", DataType::Int64, true),
        ];
        if with_moment {
            let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
            fields.push(Field::new("landed_at", utc, true));
        }
        Arc::new(Schema::new(fields))
    }

    fn rows(county: i32, visits: Vec<i64>) -> SliceRows {
        let counties = Int32Array::from(vec![county; visits.len()]);
        let columns: Vec<Arc<dyn Array>> =
            vec![Arc::new(counties), Arc::new(Int64Array::from(visits))];
        let batch = RecordBatch::try_new(super::tests::columns(false), columns).unwrap();
        SliceRows {
            slice: Slice::new(&[("county", county)]),
            batches: vec![batch],
        }
    }

    fn lake(folder: &std::path::Path) -> Lake {
        Lake::open(folder, Arc::new(Noon)).unwrap()
    }

    fn table() -> TableName {
        TableName::new("raw", "visit").unwrap()
    }

    /// What is read here, and that the format layer reads the same.
    async fn read_both(folder: &std::path::Path) -> TableState {
        let (lake, name) = (lake(folder), table());
        let own = read(&lake, &name).await.unwrap().expect("a log of ours");
        let theirs = lake.read_by_library(&name).await.unwrap();
        assert_eq!(own.version(), theirs.version());
        assert_eq!(own.table_id(), theirs.table_id());
        assert_eq!(own.arrow_schema(), theirs.arrow_schema());
        assert_eq!(own.columns(), theirs.columns());
        assert_eq!(own.partition_columns(), theirs.partition_columns());
        let told = |state: &TableState| {
            let files = state.files();
            let told = files.map(|file| {
                let path = file.path().to_owned();
                (path, file.bytes(), file.rows(), file.values().to_vec())
            });
            told.collect::<Vec<_>>()
        };
        assert_eq!(told(&own), told(&theirs));
        for application in ["a", "b", "c"] {
            let own = lake.transaction_version(&name, &own, application).await;
            let theirs = lake.transaction_version(&name, &theirs, application).await;
            assert_eq!(own.unwrap(), theirs.unwrap(), "{application}");
        }
        own
    }

    #[tokio::test]
    async fn a_log_of_ours_says_here_what_it_says_to_the_format_layer() {
        let folder = tempfile::tempdir().unwrap();
        let (path, name) = (folder.path(), table());
        assert!(read(&lake(path), &name).await.unwrap().is_none());
        let writer = lake(path);
        let made = writer.ensure_table(&name, columns(false), &["county"]);
        made.await.unwrap();
        assert_eq!(read_both(path).await.files().count(), 0);
        for turn in 0..45 {
            let application = ["a", "b"][turn as usize % 2];
            let slices = match turn % 3 {
                0 => vec![rows(turn % 5, vec![1, 2, i64::from(turn)])],
                1 => vec![rows(turn % 5, vec![3]), rows(7 + turn % 2, vec![4, 5])],
                _ => vec![rows(turn % 5, Vec::new())],
            };
            let info = CommitInfo {
                transaction: (turn % 4 != 3).then(|| (application.to_owned(), i64::from(turn))),
                ..CommitInfo::default()
            };
            writer.replace_slices(&name, slices, info).await.unwrap();
            if turn % 7 == 0 {
                writer.maintain(&name).await.unwrap();
            }
            if turn == 30 {
                let more = writer.ensure_table(&name, columns(true), &["county"]);
                more.await.unwrap();
            }
            if turn % 5 == 0 || turn > 40 {
                let found = read_both(path).await;
                assert_eq!(
                    found.arrow_schema().fields().len(),
                    if turn < 30 { 2 } else { 3 }
                );
            }
        }
        let log = path.join("raw/visit/_delta_log");
        let pointer = std::fs::read(log.join("_last_checkpoint")).unwrap();
        let pointer: LastCheckpoint = serde_json::from_slice(&pointer).unwrap();
        assert!(read_both(path).await.files().count() > 2);
        // A log that was cut may have a later checkpoint than the pointer says.
        let commit = log.join(format!("{:020}.json", pointer.version));
        let text = std::fs::read(&commit).unwrap();
        std::fs::remove_file(&commit).unwrap();
        assert!(read(&lake(path), &name).await.unwrap().is_none());
        std::fs::write(&commit, text).unwrap();
        // Who read the log here goes on committing, and so does who opens it anew.
        for visits in [vec![8], vec![9, 9]] {
            let writer = lake(path);
            let slices = vec![rows(3, visits.clone())];
            let info = CommitInfo::default();
            writer.replace_slices(&name, slices, info).await.unwrap();
            let found = read_both(path).await;
            let places = [Slice::new(&[("county", 3)])];
            let files: Vec<_> = found.files_of(&places).collect();
            assert_eq!(files.len(), 1);
            assert_eq!(files[0].rows(), Some(visits.len()));
        }
    }

    #[tokio::test]
    async fn what_is_not_known_here_is_left_to_the_format_layer() {
        let folder = tempfile::tempdir().unwrap();
        let (path, name) = (folder.path(), table());
        let writer = lake(path);
        let made = writer.ensure_table(&name, columns(false), &["county"]);
        made.await.unwrap();
        let slices = vec![rows(1, vec![1])];
        let info = CommitInfo::default();
        writer.replace_slices(&name, slices, info).await.unwrap();
        let log = path.join("raw/visit/_delta_log");
        let commit = |version: i64| log.join(format!("{version:020}.json"));
        let first = std::fs::read_to_string(commit(0)).unwrap();
        let second = std::fs::read_to_string(commit(1)).unwrap();
        read_both(path).await;
        for (version, from, to) in [
            (0, "\"minReaderVersion\":1", "\"minReaderVersion\":3"),
            (0, "\"minWriterVersion\":2", "\"minWriterVersion\":4"),
            (
                0,
                "\"delta.enableExpiredLogCleanup\":\"false\"",
                "\"delta.appendOnly\":\"true\"",
            ),
            (
                0,
                "\\\"metadata\\\":{}",
                "\\\"metadata\\\":{\\\"delta.invariants\\\":\\\"x\\\"}",
            ),
            (0, "\\\"long\\\"", "\\\"interval\\\""),
            (1, "part-", "part%25"),
            (1, "{\"add\"", "{\"put\""),
            (1, "\"size\"", "\"sise\""),
            (1, "\"dataChange\":true", "\"dataChange\":"),
            (
                1,
                "\"dataChange\":true",
                "\"deletionVector\":{\"storageType\":\"u\",\"pathOrInlineDv\":\"x\",\"sizeInBytes\":1,\"cardinality\":1},\"dataChange\":true",
            ),
            (
                1,
                "{\"add\"",
                "{\"domainMetadata\":{\"domain\":\"d\",\"configuration\":\"\",\"removed\":false}}\n{\"add\"",
            ),
        ] {
            let (whole, place) = match version {
                0 => (&first, commit(0)),
                _ => (&second, commit(1)),
            };
            // The metadata stands in the description of the commit too.
            let lines = whole
                .lines()
                .map(|line| match line.starts_with("{\"commitInfo\"") {
                    true => line.to_owned(),
                    false => line.replace(from, to),
                });
            let changed = lines.collect::<Vec<_>>().join("\n");
            assert!(changed.contains(to), "{from}");
            std::fs::write(&place, &changed).unwrap();
            assert!(read(&lake(path), &name).await.unwrap().is_none(), "{to}");
            std::fs::write(&place, whole).unwrap();
        }
        read_both(path).await;
        for (pointer, is_read) in [
            ("{\"version\":1,\"parts\":2}", false),
            ("{\"version\":1}", false),
            ("{}", false),
            ("", false),
        ] {
            std::fs::write(log.join("_last_checkpoint"), pointer).unwrap();
            let found = read(&lake(path), &name).await.unwrap();
            assert_eq!(found.is_some(), is_read, "{pointer}");
            // The format layer finds its way without the pointer.
            let newest = lake(path).version(&name).await.unwrap();
            assert_eq!(newest, Some(1), "{pointer}");
        }
        let damaged = log.join(format!("{:020}.checkpoint.parquet", 1));
        std::fs::write(log.join("_last_checkpoint"), "{\"version\":1}").unwrap();
        std::fs::write(damaged, "PAR1").unwrap();
        assert!(read(&lake(path), &name).await.unwrap().is_none());
    }
}
