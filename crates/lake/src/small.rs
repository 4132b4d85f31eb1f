//! Many small files of a table, read at once.
//!
//! Opening a file through the engine costs more than a file of one row holds, and the ledger has one
//! for each delivery. Where a scan needs many files that are small together, they are read whole,
//! several at a time, and handed to the engine as rows in memory.
//!
//! What may not live here: which files a scan needs (`scan.rs`).

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{Field, SchemaRef};
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::{DataFusionError, Result};
use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::LakeError;

/// Fewer files are as quick the usual way.
const MANY_FILES: usize = 16;
/// Files are small when they have no more bytes on average.
const SMALL_BYTES: u64 = 32 << 10;
/// Nor more than this together, for they are held in memory.
const ALL_BYTES: u64 = 16 << 20;
/// Nor more rows than this, for few bytes may stand for many.
const ALL_ROWS: usize = 1 << 18;
/// Rows that make a batch: files of a row each are put together, larger ones stay apart.
const BATCH_ROWS: usize = 8_192;
/// Files that are read one after the other by whoever is free: unpacking them takes longer than
/// reading them.
const FILES_OF_A_TASK: usize = 32;
/// Files of a task that are fetched at a time, and tasks that are begun.
const AT_A_TIME: usize = 4;

/// Whether so many files of so many bytes and rows together are read here; not when the rows are not
/// known.
pub(crate) fn are_small(files: usize, bytes: u64, rows: Option<usize>) -> bool {
    let few_rows = rows.is_some_and(|rows| rows <= ALL_ROWS);
    files >= MANY_FILES && few_rows && bytes <= ALL_BYTES && bytes / files as u64 <= SMALL_BYTES
}

/// A file that is read whole.
pub(crate) struct SmallFile {
    pub(crate) path: Path,
    pub(crate) bytes: u64,
    /// Columns that are not in the file, each with the one value of all its rows.
    pub(crate) values: Vec<(String, ArrayRef)>,
}

/// The rows of files, in their order. `schema` is that of the result: columns of the files, of which
/// one that a file lacks is null, and columns whose values in each file are given.
pub(crate) async fn rows_of(
    store: Arc<dyn ObjectStore>,
    schema: SchemaRef,
    files: Vec<SmallFile>,
) -> Result<Vec<RecordBatch>> {
    let mut tasks = Vec::new();
    let mut files = files.into_iter().peekable();
    while files.peek().is_some() {
        let own: Vec<SmallFile> = files.by_ref().take(FILES_OF_A_TASK).collect();
        let (store, schema) = (Arc::clone(&store), Arc::clone(&schema));
        let rows: BoxFuture<'static, Result<Vec<RecordBatch>>> =
            Box::pin(async move { rows_of_few(&store, &schema, own).await });
        tasks.push(async move {
            let ended = SpawnedTask::spawn(rows).await;
            ended.map_err(|error| DataFusionError::External(Box::new(error)))?
        });
    }
    let batches: Vec<Vec<RecordBatch>> = futures::stream::iter(tasks)
        .buffered(AT_A_TIME)
        .try_collect()
        .await?;
    let batches: Vec<RecordBatch> = batches.into_iter().flatten().collect();
    let mut whole = Vec::new();
    let mut from = 0;
    while let Some(rest) = batches.get(from..).filter(|rest| !rest.is_empty()) {
        let mut rows = 0;
        let fitting = rest.iter().take_while(|batch| {
            rows += batch.num_rows();
            rows <= BATCH_ROWS
        });
        let count = fitting.count().max(1);
        whole.push(concat_batches(&schema, rest.iter().take(count))?);
        from += count;
    }
    Ok(whole)
}

async fn rows_of_few(
    store: &Arc<dyn ObjectStore>,
    schema: &SchemaRef,
    files: Vec<SmallFile>,
) -> Result<Vec<RecordBatch>> {
    let read = files.into_iter().map(|file| async move {
        let rows = match store.get_range(&file.path, 0..file.bytes).await {
            Ok(bytes) => rows_of_file(bytes, schema, &file.values),
            Err(error) => Err(error.into()),
        };
        rows.map_err(|error| {
            DataFusionError::External(Box::new(LakeError::data_file(&file.path, error)))
        })
    });
    let batches: Vec<Vec<RecordBatch>> = futures::stream::iter(read)
        .buffered(AT_A_TIME)
        .try_collect()
        .await?;
    Ok(batches.into_iter().flatten().collect())
}

fn rows_of_file(
    bytes: bytes::Bytes,
    schema: &SchemaRef,
    values: &[(String, ArrayRef)],
) -> Result<Vec<RecordBatch>> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes)?;
    let wanted = schema.fields().iter().map(|field| field.name().as_str());
    let mask = ProjectionMask::columns(builder.parquet_schema(), wanted);
    let reader = builder.with_projection(mask).build()?;
    reader
        .map(|batch| {
            let batch = batch?;
            let columns = schema
                .fields()
                .iter()
                .map(|field| column_of(&batch, field, values))
                .collect::<Result<Vec<_>>>()?;
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
                .map_err(DataFusionError::from)
        })
        .collect()
}

fn column_of(
    batch: &RecordBatch,
    field: &Field,
    values: &[(String, ArrayRef)],
) -> Result<ArrayRef> {
    let rows = batch.num_rows();
    if let Some((_, value)) = values.iter().find(|(name, _)| name == field.name()) {
        let first = arrow::array::UInt32Array::from(vec![0; rows]);
        return Ok(arrow::compute::take(value, &first, None)?);
    }
    match batch.column_by_name(field.name()) {
        Some(column) => Ok(cast(column, field.data_type())?),
        None => Ok(new_null_array(field.data_type(), rows)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_small_together_or_are_read_the_usual_way() {
        for (files, bytes, rows, small) in [
            (16, 16 << 10, Some(16), true),
            (15, 15 << 10, Some(15), false),
            (0, 0, Some(0), false),
            (16, 16 * SMALL_BYTES, Some(16), true),
            (16, 16 * SMALL_BYTES + 16, Some(16), false),
            (4_096, ALL_BYTES, Some(ALL_ROWS), true),
            (4_096, ALL_BYTES + 1, Some(1), false),
            (4_096, ALL_BYTES, Some(ALL_ROWS + 1), false),
            (16, 16 << 10, None, false),
        ] {
            assert_eq!(
                are_small(files, bytes, rows),
                small,
                "{files} {bytes} {rows:?}"
            );
        }
    }
}
