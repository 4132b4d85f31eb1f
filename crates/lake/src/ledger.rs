//! The ledger `meta.delivery`: one row for each accepted revision of each delivery, kept for good.
//!
//! The Delta log of a raw table tells which revision is in it; the ledger tells what that revision
//! was. A row is written after the data, so that what the ledger says is always true.

use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{
    Array, AsArray, Date32Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{
    DataType, Date32Type, Field, Int32Type, Int64Type, Schema, SchemaRef, TimeUnit,
    TimestampMicrosecondType,
};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::{Deserialize, Serialize};

use object_store::ObjectStoreExt;

use crate::commit::{Change, CommitInfo};
use crate::landing::Delivery;
use crate::state::{TableFile, TableState};
use crate::{Lake, LakeError, Slice, TableName};

/// Rows of a batch that is read from a file.
const READ_ROWS: usize = 8_192;

/// One accepted revision of a delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerRow {
    /// `<contract>.<county>.<period>.r<revision>`.
    pub delivery_id: String,
    /// Contract, which is also the raw table's name.
    pub contract: String,
    /// The contract's version.
    pub contract_version: String,
    /// `01` to `21`, `90`, or `FI`.
    pub county_code: String,
    /// The same as a number; 0 for national files.
    pub county: i32,
    /// `yyyymm`, or `yyyy00` for a year.
    pub period: i32,
    /// First day the delivery covers, as days from 1970-01-01.
    pub covers_from: i32,
    /// Last day the delivery covers, inclusive.
    pub covers_to: i32,
    /// 1, 2, … for each delivery.
    pub revision: i64,
    /// SHA-256 of the file as it came.
    pub content_hash: String,
    /// The file's name without its folder.
    pub file_name: String,
    /// Its size.
    pub file_bytes: i64,
    /// Rows in the file.
    pub received: i64,
    /// Rows in the raw table.
    pub accepted: i64,
    /// Rows set aside, with reasons in the reject table.
    pub quarantined: i64,
    /// Sums of the amount columns, as JSON.
    pub control_sums: String,
    /// Version of the pseudonym key.
    pub key_version: i32,
    /// `accepted`.
    pub status: String,
    /// Version of the raw table that holds it.
    pub table_version: i64,
    /// When it landed, in microseconds from 1970-01-01 UTC.
    pub landed_at: i64,
    /// Version of this program.
    pub engine_version: String,
    /// Warnings with rule and count, as JSON.
    pub findings: String,
}

impl LedgerRow {
    pub(crate) fn table() -> Result<TableName, LakeError> {
        TableName::new("meta", "delivery")
    }

    /// The columns of `meta.delivery`, for readers of a lake where nothing has landed yet.
    pub fn schema() -> SchemaRef {
        let text = |name: &str| Field::new(name, DataType::Utf8, true);
        let int = |name: &str| Field::new(name, DataType::Int32, true);
        let long = |name: &str| Field::new(name, DataType::Int64, true);
        let date = |name: &str| Field::new(name, DataType::Date32, true);
        Arc::new(Schema::new(vec![
            text("delivery_id"),
            text("contract"),
            text("contract_version"),
            text("county_code"),
            int("county"),
            int("period"),
            date("covers_from"),
            date("covers_to"),
            long("revision"),
            text("content_hash"),
            text("file_name"),
            long("file_bytes"),
            long("received"),
            long("accepted"),
            long("quarantined"),
            text("control_sums"),
            int("key_version"),
            text("status"),
            long("table_version"),
            Field::new(
                "landed_at",
                DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
                true,
            ),
            text("engine_version"),
            text("findings"),
        ]))
    }

    pub(crate) fn to_batch(&self) -> Result<RecordBatch, LakeError> {
        let text = |value: &str| Arc::new(StringArray::from(vec![value])) as Arc<dyn Array>;
        let int = |value: i32| Arc::new(Int32Array::from(vec![value])) as Arc<dyn Array>;
        let long = |value: i64| Arc::new(Int64Array::from(vec![value])) as Arc<dyn Array>;
        let date = |value: i32| Arc::new(Date32Array::from(vec![value])) as Arc<dyn Array>;
        let LedgerRow {
            delivery_id,
            contract,
            contract_version,
            county_code,
            county,
            period,
            covers_from,
            covers_to,
            revision,
            content_hash,
            file_name,
            file_bytes,
            received,
            accepted,
            quarantined,
            control_sums,
            key_version,
            status,
            table_version,
            landed_at,
            engine_version,
            findings,
        } = self;
        let columns = vec![
            text(delivery_id),
            text(contract),
            text(contract_version),
            text(county_code),
            int(*county),
            int(*period),
            date(*covers_from),
            date(*covers_to),
            long(*revision),
            text(content_hash),
            text(file_name),
            long(*file_bytes),
            long(*received),
            long(*accepted),
            long(*quarantined),
            text(control_sums),
            int(*key_version),
            text(status),
            long(*table_version),
            Arc::new(TimestampMicrosecondArray::from(vec![*landed_at]).with_timezone("UTC")),
            text(engine_version),
            text(findings),
        ];
        RecordBatch::try_new(Self::schema(), columns)
            .map_err(|error| LakeError::Internal(error.to_string()))
    }

    /// Rows of a batch of ledger files; the slice tells county and period.
    fn from_batch(batch: &RecordBatch, delivery: &Delivery) -> Vec<LedgerRow> {
        let text = |name: &str, row: usize| -> String {
            batch
                .column_by_name(name)
                .and_then(|c| c.as_string_opt::<i32>())
                .map(|c| c.value(row).to_owned())
                .unwrap_or_default()
        };
        let long = |name: &str, row: usize| {
            batch
                .column_by_name(name)
                .and_then(|c| c.as_primitive_opt::<Int64Type>())
                .map(|c| c.value(row))
                .unwrap_or_default()
        };
        let date = |name: &str, row: usize| {
            batch
                .column_by_name(name)
                .and_then(|c| c.as_primitive_opt::<Date32Type>())
                .map(|c| c.value(row))
                .unwrap_or_default()
        };
        let int = |name: &str, row: usize| {
            batch
                .column_by_name(name)
                .and_then(|c| c.as_primitive_opt::<Int32Type>())
                .map(|c| c.value(row))
                .unwrap_or_default()
        };
        let moment = |name: &str, row: usize| {
            batch
                .column_by_name(name)
                .and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>())
                .map(|c| c.value(row))
                .unwrap_or_default()
        };
        (0..batch.num_rows())
            .map(|row| LedgerRow {
                delivery_id: text("delivery_id", row),
                contract: text("contract", row),
                contract_version: text("contract_version", row),
                county_code: text("county_code", row),
                county: delivery.county,
                period: delivery.period,
                covers_from: date("covers_from", row),
                covers_to: date("covers_to", row),
                revision: long("revision", row),
                content_hash: text("content_hash", row),
                file_name: text("file_name", row),
                file_bytes: long("file_bytes", row),
                received: long("received", row),
                accepted: long("accepted", row),
                quarantined: long("quarantined", row),
                control_sums: text("control_sums", row),
                key_version: int("key_version", row),
                status: text("status", row),
                table_version: long("table_version", row),
                landed_at: moment("landed_at", row),
                engine_version: text("engine_version", row),
                findings: text("findings", row),
            })
            .collect()
    }
}

/// Rows of the ledger's files that were read before. Files never change, so neither does this; a
/// ledger has a file for each landing, and a landing reads all of its month.
#[derive(Default)]
pub(crate) struct LedgerFiles(Mutex<HashMap<String, Arc<[LedgerRow]>>>);

impl LedgerFiles {
    fn get(&self, path: &str) -> Option<Arc<[LedgerRow]>> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(path)
            .cloned()
    }

    fn keep(&self, path: &str, rows: Vec<LedgerRow>) -> Arc<[LedgerRow]> {
        let rows: Arc<[LedgerRow]> = rows.into();
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(path.to_owned(), Arc::clone(&rows));
        rows
    }
}

impl Lake {
    /// The ledger's rows of one delivery, by revision.
    pub async fn ledger_rows(&self, delivery: &Delivery) -> Result<Vec<LedgerRow>, LakeError> {
        let Some(state) = self.newest(&LedgerRow::table()?).await? else {
            return Ok(Vec::new());
        };
        self.ledger_rows_at(&state, delivery).await
    }

    async fn ledger_rows_at(
        &self,
        state: &TableState,
        delivery: &Delivery,
    ) -> Result<Vec<LedgerRow>, LakeError> {
        let name = LedgerRow::table()?;
        let mut rows = Vec::new();
        for file in state.files_of(&[delivery.slice()]) {
            let held = match self.ledger_files.get(file.path()) {
                Some(held) => held,
                None => {
                    let mut held = Vec::new();
                    self.read_files(&name, &[Arc::clone(file)], None, &mut |batch| {
                        held.extend(LedgerRow::from_batch(batch, delivery));
                    })
                    .await?;
                    self.ledger_files.keep(file.path(), held)
                }
            };
            rows.extend(
                held.iter()
                    .filter(|row| row.contract == delivery.contract)
                    .cloned(),
            );
        }
        rows.sort_by_key(|row| row.revision);
        Ok(rows)
    }

    pub(crate) async fn append_ledger(
        &self,
        delivery: &Delivery,
        row: &LedgerRow,
    ) -> Result<(), LakeError> {
        let name = LedgerRow::table()?;
        // Two processes may complete the same landing; the row is written once.
        let state = self.existing(&name).await?;
        if self
            .ledger_rows_at(&state, delivery)
            .await?
            .iter()
            .any(|known| known.revision == row.revision)
        {
            return Ok(());
        }
        let info = CommitInfo {
            transaction: Some((format!("ledger/{}", delivery.app_id()), row.revision)),
            properties: Vec::new(),
        };
        let change = Change::AppendTo(delivery.slice(), vec![row.to_batch()?]);
        self.commit_rows(&name, change, info, Some(state.version()))
            .await?;
        Ok(())
    }

    /// Reads the files of a slice (leaving out another slice), batch by batch, with the named
    /// columns or all. Partition columns are not among them. A table that does not exist has no rows.
    pub async fn read(
        &self,
        name: &TableName,
        within: &Slice,
        except: Option<&Slice>,
        columns: Option<&[&str]>,
        each: &mut (dyn FnMut(&RecordBatch) + Send),
    ) -> Result<(), LakeError> {
        let Some(state) = self.newest(name).await? else {
            return Ok(());
        };
        let files: Vec<_> = state.files_between(within, except).cloned().collect();
        self.read_files(name, &files, columns, each).await
    }

    /// The same of a slice of a table at a version.
    ///
    /// # Errors
    /// [`LakeError::NotFound`] when there is no such table or version; when a file cannot be read.
    pub async fn read_at(
        &self,
        name: &TableName,
        version: i64,
        within: &Slice,
        columns: &[&str],
        each: &mut (dyn FnMut(&RecordBatch) + Send),
    ) -> Result<(), LakeError> {
        let state = self.state_at(name, Some(version)).await?;
        let files: Vec<_> = state.files_between(within, None).cloned().collect();
        self.read_files(name, &files, Some(columns), each).await
    }

    /// Reads files of a table, batch by batch, with the named columns or all.
    pub(crate) async fn read_files(
        &self,
        name: &TableName,
        files: &[Arc<TableFile>],
        columns: Option<&[&str]>,
        each: &mut (dyn FnMut(&RecordBatch) + Send),
    ) -> Result<(), LakeError> {
        for file in files {
            let path = self.object_path(&format!(
                "{}/{}/{}",
                name.schema(),
                name.table(),
                file.path()
            ))?;
            let failed = |error: Box<dyn Error + Send + Sync>| LakeError::data_file(&path, error);
            let found = self.store.get(&path).await;
            let bytes = found.map_err(|error| failed(error.into()))?.bytes().await;
            let bytes = bytes.map_err(|error| failed(error.into()))?;
            let builder = ParquetRecordBatchReaderBuilder::try_new(bytes);
            let mut builder = builder
                .map_err(|error| failed(error.into()))?
                .with_batch_size(READ_ROWS);
            if let Some(columns) = columns {
                let mask =
                    ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
                builder = builder.with_projection(mask);
            }
            for batch in builder.build().map_err(|error| failed(error.into()))? {
                each(&batch.map_err(|error| failed(error.into()))?);
            }
        }
        Ok(())
    }
}
