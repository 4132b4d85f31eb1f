//! One commit: rows in, files out, actions agreed with whoever else is writing.
//!
//! Every change of a table goes through here. A commit that fails has an unknown outcome (the
//! answer may have been lost after the change was made), so callers that must not act twice give
//! an application id and version, and look at the table again before they try again.

use arrow::array::RecordBatch;
use deltalake_core::DeltaTable;
use deltalake_core::DeltaTableError;
use deltalake_core::kernel::transaction::{CommitBuilder, CommitProperties, TransactionError};
use deltalake_core::kernel::{Action, Add, EagerSnapshot, LogicalFileView, Transaction};
use deltalake_core::protocol::{DeltaOperation, SaveMode};
use serde_json::Value;

use crate::parts::{EncodedPart, PartEncoder, PartOptions};
use crate::tables::storable;
use crate::{Lake, LakeError, TableName};

/// Attempts against other writers before giving up.
const ATTEMPTS: usize = 8;

/// The part of a table whose partition columns have given values.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slice {
    columns: Vec<(String, i32)>,
}

impl Slice {
    /// A slice by integer partition columns, in the table's partition order.
    pub fn new(columns: &[(&str, i32)]) -> Slice {
        Slice {
            columns: columns
                .iter()
                .map(|(column, value)| ((*column).to_owned(), *value))
                .collect(),
        }
    }

    /// The whole table.
    pub fn whole() -> Slice {
        Slice {
            columns: Vec::new(),
        }
    }

    pub(crate) fn columns(&self) -> &[(String, i32)] {
        &self.columns
    }

    /// The slice as a condition over partition columns; `None` for the whole table.
    fn predicate(&self) -> Option<String> {
        let terms: Vec<_> = self
            .columns
            .iter()
            .map(|(column, value)| format!("{column} = {value}"))
            .collect();
        (!terms.is_empty()).then(|| terms.join(" AND "))
    }

    pub(crate) fn holds(&self, file: &LogicalFileView) -> bool {
        let values = file.partition_values_map();
        self.columns.iter().all(|(column, value)| {
            values.get(column).and_then(|text| text.as_deref()) == Some(value.to_string().as_str())
        })
    }
}

/// The new rows of a slice (without the slice's partition columns, or with them: they are left out).
#[derive(Debug)]
pub struct SliceRows {
    /// Which slice.
    pub slice: Slice,
    /// Its rows; none empties the slice.
    pub batches: Vec<RecordBatch>,
}

/// What a commit says about itself.
#[derive(Debug, Clone, Default)]
pub struct CommitInfo {
    /// Application id and version: an attempt whose answer was lost is not made a second time.
    /// Callers that may run twice look first whether their work is there.
    pub transaction: Option<(String, i64)>,
    /// Properties kept in the table's history (not for good: the log is cut by maintenance).
    pub properties: Vec<(String, Value)>,
}

pub(crate) enum Change {
    Append(Vec<RecordBatch>),
    AppendTo(Slice, Vec<RecordBatch>),
    Replace(Vec<SliceRows>),
}

/// How a single attempt ended.
pub(crate) enum Attempt {
    Done(i64),
    /// Somebody else changed what this commit read, or the answer was lost.
    Unknown(DeltaTableError),
}

impl Lake {
    /// `looked_at` is the version at which the caller saw that its transaction was not there yet.
    pub(crate) async fn commit_rows(
        &self,
        name: &TableName,
        change: Change,
        info: CommitInfo,
        looked_at: Option<i64>,
    ) -> Result<i64, LakeError> {
        let table = self.existing(name).await?;
        let (adds, slices) = match change {
            Change::Append(batches) => (
                self.store_rows(name, &table, &Slice::whole(), batches)
                    .await?,
                Vec::new(),
            ),
            Change::AppendTo(slice, batches) => (
                self.store_rows(name, &table, &slice, batches).await?,
                Vec::new(),
            ),
            Change::Replace(slices) => {
                let mut adds = Vec::new();
                let mut replaced = Vec::new();
                for SliceRows { slice, batches } in slices {
                    adds.extend(self.store_rows(name, &table, &slice, batches).await?);
                    replaced.push(slice);
                }
                (adds, replaced)
            }
        };
        for attempt in 0..ATTEMPTS {
            let table = self.existing(name).await?;
            // A failed attempt may have been made after all, and what the caller looked at may have
            // changed; else asking the log would cost a reading of it for nothing.
            let moved = looked_at.is_some() && looked_at != table.version().map(|now| now as i64);
            if let Some((application, version)) = &info.transaction
                && (attempt > 0 || moved)
                && let Some(present) = transaction_version(name, &table, application).await?
                && present >= *version
            {
                return Ok(table.version().unwrap_or_default() as i64);
            }
            match self.try_commit(name, &table, &adds, &slices, &info).await? {
                Attempt::Done(version) => return Ok(version),
                Attempt::Unknown(error) => {
                    tracing::debug!(table = %name, error = %error, "commit met another writer")
                }
            }
        }
        Err(LakeError::Busy {
            table: name.clone(),
        })
    }

    /// Encodes and stores rows; the files are invisible until a commit names them.
    async fn store_rows(
        &self,
        name: &TableName,
        table: &DeltaTable,
        slice: &Slice,
        batches: Vec<RecordBatch>,
    ) -> Result<Vec<Add>, LakeError> {
        let schema = self.file_schema(name, table)?;
        // An append into a partitioned table is not offered: a slice says where rows belong.
        let mut encoder = PartEncoder::new(schema, PartOptions::default());
        let mut adds = Vec::new();
        let unique = unique_part_name(&batches, self.now_millis());
        let mut number = 0;
        let mut store = async |part: Option<EncodedPart>| -> Result<(), LakeError> {
            if let Some(part) = part {
                adds.push(
                    self.store_part(
                        name,
                        slice,
                        &format!("part-{unique}-{number:03}.parquet"),
                        part,
                    )
                    .await?,
                );
                number += 1;
            }
            Ok(())
        };
        for batch in batches.iter().filter(|batch| batch.num_rows() > 0) {
            store(encoder.write(batch)?).await?;
        }
        store(encoder.finish()?).await?;
        Ok(adds)
    }

    /// The columns of a table's files: its columns without the partition columns.
    pub(crate) fn file_schema(
        &self,
        name: &TableName,
        table: &DeltaTable,
    ) -> Result<arrow::datatypes::SchemaRef, LakeError> {
        let snapshot = Self::snapshot_of(name, table)?;
        let partitions: Vec<String> = snapshot
            .metadata()
            .partition_columns()
            .iter()
            .cloned()
            .collect();
        let whole = storable(&snapshot.arrow_schema());
        let fields: Vec<_> = whole
            .fields()
            .iter()
            .filter(|field| !partitions.contains(field.name()))
            .cloned()
            .collect();
        Ok(std::sync::Arc::new(arrow::datatypes::Schema::new(fields)))
    }

    /// One attempt on one snapshot: new files in, the slices' present files out.
    pub(crate) async fn try_commit(
        &self,
        name: &TableName,
        table: &DeltaTable,
        adds: &[Add],
        slices: &[Slice],
        info: &CommitInfo,
    ) -> Result<Attempt, LakeError> {
        let snapshot = Self::snapshot_of(name, table)?;
        let mut actions: Vec<Action> = adds.iter().cloned().map(Action::Add).collect();
        actions.extend(
            files_of(snapshot, slices).map(|file| Action::Remove(file.remove_action(true))),
        );
        let partition_by: Vec<String> = snapshot
            .metadata()
            .partition_columns()
            .iter()
            .cloned()
            .collect();
        let predicates: Option<Vec<String>> = slices
            .iter()
            .map(Slice::predicate)
            .map(|p| p.map(|p| format!("({p})")))
            .collect();
        let operation = DeltaOperation::Write {
            mode: if slices.is_empty() {
                SaveMode::Append
            } else {
                SaveMode::Overwrite
            },
            partition_by: (!partition_by.is_empty()).then_some(partition_by),
            predicate: predicates
                .filter(|terms| !terms.is_empty())
                .map(|terms| terms.join(" OR ")),
        };
        // Checkpoints and log cleaning belong to maintenance: their failure would come back as a
        // failure of a commit that was made.
        let mut properties = CommitProperties::default()
            .with_create_checkpoint(false)
            .with_cleanup_expired_logs(Some(false))
            .with_metadata(info.properties.iter().cloned());
        if let Some((application, version)) = &info.transaction {
            properties =
                properties.with_application_transaction(Transaction::new(application, *version));
        }
        let commit = CommitBuilder::from(properties).with_actions(actions).build(
            Some(snapshot),
            table.log_store(),
            operation,
        );
        // The commit is made when the prepared commit is; what would follow reads the whole table
        // again and does maintenance that is not wanted here.
        match Box::pin(async move { commit.into_prepared_commit_future().await?.await }).await {
            Ok(made) => Ok(Attempt::Done(made.version as i64)),
            Err(error) => {
                self.forget(name).await;
                match error {
                    DeltaTableError::Transaction {
                        source: TransactionError::UnsupportedTableFeatures(_),
                    }
                    | DeltaTableError::SchemaMismatch { .. } => {
                        Err(LakeError::delta(name, "commit to")(error))
                    }
                    other => Ok(Attempt::Unknown(other)),
                }
            }
        }
    }
}

/// The active files of any of the slices.
pub(crate) fn files_of<'a>(
    snapshot: &'a EagerSnapshot,
    slices: &'a [Slice],
) -> impl Iterator<Item = LogicalFileView> + 'a {
    snapshot
        .log_data()
        .into_iter()
        .filter(move |file| slices.iter().any(|slice| slice.holds(file)))
}

/// The version an application last committed to this table.
pub(crate) async fn transaction_version(
    name: &TableName,
    table: &DeltaTable,
    application: &str,
) -> Result<Option<i64>, LakeError> {
    Lake::snapshot_of(name, table)?
        .transaction_version(table.log_store().as_ref(), application)
        .await
        .map_err(LakeError::delta(name, "read the log of"))
}

/// A file name no other write uses: the moment, the process, and a counter.
fn unique_part_name(batches: &[RecordBatch], now_millis: i64) -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    format!(
        "{now_millis:x}-{:x}-{:x}-{rows:x}",
        std::process::id(),
        COUNTER.fetch_add(1, Ordering::Relaxed)
    )
}
