//! One commit: rows in, files out, made on exactly the version that was looked at.
//!
//! Every change of a table goes through here. A commit is one object whose name is the version it
//! makes, stored only if no such object is there. So it is made on the very state it was decided
//! on, or not at all; who was overtaken looks at the newer state and decides again. A commit that
//! fails otherwise has an unknown outcome (the answer may have been lost after the change was made),
//! so callers look at the table again before they try again. To add a check before a commit: in the
//! caller's loop, on the state it hands to `try_commit`.

use arrow::array::RecordBatch;
use deltalake_core::kernel::transaction::{CommitData, PROTOCOL};
use deltalake_core::kernel::{Action, Add, Transaction};
use deltalake_core::protocol::{DeltaOperation, SaveMode};
use object_store::{ObjectStoreExt, PutMode, PutOptions, PutPayload};
use serde_json::Value;

use crate::parts::{EncodedPart, PartEncoder, PartOptions};
use crate::state::TableState;
use crate::tables::storable;
use crate::{Lake, LakeError, TableName};

/// Attempts against other processes before giving up. Each of them fails only because another
/// commit was made.
pub(crate) const ATTEMPTS: usize = 100;

/// Failures of storage before giving up.
pub(crate) const FAILURES: usize = 8;

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

    /// Where a file of the slice lies in its table.
    pub(crate) fn path_of(&self, file_name: &str) -> String {
        let columns = self.columns.iter();
        let folders: String = columns
            .map(|(column, value)| format!("{column}={value}/"))
            .collect();
        folders + file_name
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
}

/// The new rows of a slice (without the slice's partition columns, or with them: they are left out).
#[derive(Debug)]
pub struct SliceRows {
    /// Which slice.
    pub slice: Slice,
    /// Its rows; none empties the slice.
    pub batches: Vec<RecordBatch>,
}

/// New rows of a slice that are stored already and not yet visible: [`Lake::store_slice`].
#[derive(Debug)]
pub struct StoredSlice {
    slice: Slice,
    adds: Vec<Add>,
}

impl StoredSlice {
    /// No rows: a commit of it empties the slice.
    pub fn without_rows(slice: Slice) -> StoredSlice {
        StoredSlice {
            slice,
            adds: Vec::new(),
        }
    }

    /// The identities of its files, as [`SliceFiles::identities`](crate::SliceFiles::identities) will
    /// tell them once they are committed.
    pub fn identities(&self) -> impl Iterator<Item = &str> {
        // New files have no list of deleted rows.
        self.adds.iter().map(|add| add.path.as_str())
    }
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
    /// Another commit has the version.
    Overtaken,
    /// It may be made or not.
    Unknown(object_store::Error),
}

/// How often a commit was tried, and when that is enough.
#[derive(Default)]
pub(crate) struct Tries {
    overtaken: usize,
    failed: usize,
    last: Option<object_store::Error>,
}

impl Tries {
    /// True before the first attempt.
    pub(crate) fn is_first(&self) -> bool {
        self.overtaken + self.failed == 0
    }

    /// Counts an attempt that did not tell a version.
    pub(crate) fn add(&mut self, name: &TableName, attempt: Attempt) -> Option<i64> {
        match attempt {
            Attempt::Done(version) => return Some(version),
            Attempt::Overtaken => {
                tracing::debug!(table = %name, "a commit met another writer");
                self.overtaken += 1;
            }
            Attempt::Unknown(error) => {
                tracing::debug!(table = %name, error = %error, "a commit has no answer");
                self.failed += 1;
                self.last = Some(error);
            }
        }
        None
    }

    /// The error to end with, when there were attempts enough.
    pub(crate) fn are_enough(&mut self, name: &TableName) -> Result<(), LakeError> {
        if self.failed >= FAILURES
            && let Some(error) = self.last.take()
        {
            return Err(LakeError::storage("write a commit")(error));
        }
        if self.overtaken >= ATTEMPTS {
            return Err(LakeError::Busy {
                table: name.clone(),
            });
        }
        Ok(())
    }
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
        let first = self.last_seen(name).await?;
        let looked_at = looked_at.unwrap_or(first.version());
        let (adds, slices) = match change {
            Change::Append(batches) => (
                self.store_rows(name, &first, &Slice::whole(), batches)
                    .await?,
                Vec::new(),
            ),
            Change::AppendTo(slice, batches) => (
                self.store_rows(name, &first, &slice, batches).await?,
                Vec::new(),
            ),
            Change::Replace(slices) => {
                let mut adds = Vec::new();
                let mut replaced = Vec::new();
                for SliceRows { slice, batches } in slices {
                    adds.extend(self.store_rows(name, &first, &slice, batches).await?);
                    replaced.push(slice);
                }
                (adds, replaced)
            }
        };
        self.commit_adds(name, &adds, &slices, &info, looked_at)
            .await
    }

    /// Stores the new rows of a slice; nobody sees them before [`Lake::commit_slices`]. So rows can be
    /// encoded as they come, several slices at a time, and become visible together. The table must be
    /// there.
    ///
    /// # Errors
    /// When there is no such table, the rows are not its rows, or storage fails.
    pub async fn store_slice(
        &self,
        name: &TableName,
        rows: SliceRows,
    ) -> Result<StoredSlice, LakeError> {
        let state = self.last_seen(name).await?;
        let SliceRows { slice, batches } = rows;
        let adds = self.store_rows(name, &state, &slice, batches).await?;
        Ok(StoredSlice { slice, adds })
    }

    /// Stores for another table the rows that were stored for one, in the same slice, without encoding them
    /// again; `None`, and nothing is stored, where files of the two have other columns or cannot be copied.
    /// The table must be there.
    ///
    /// # Errors
    /// When there is no such table.
    pub async fn copy_slice(
        &self,
        from: &TableName,
        stored: &StoredSlice,
        to: &TableName,
    ) -> Result<Option<StoredSlice>, LakeError> {
        let (ours, theirs) = (self.last_seen(from).await?, self.last_seen(to).await?);
        if Self::file_schema(&ours)? != Self::file_schema(&theirs)? {
            return Ok(None);
        }
        let slice = stored.slice.clone();
        let unique = unique_name(self.now_millis());
        let mut adds = Vec::with_capacity(stored.adds.len());
        for (number, add) in stored.adds.iter().enumerate() {
            let path = slice.path_of(&format!("part-{unique}-{number:03}.parquet"));
            let of = |name: &TableName, path: &str| {
                self.object_path(&format!("{}/{}/{path}", name.schema(), name.table()))
            };
            let (source, target) = (of(from, &add.path)?, of(to, &path)?);
            // Not the store's own copy: on a file system that is the same file under two names, and who
            // may read it is said of the file.
            let copied = async {
                let bytes = self.store.get(&source).await?.bytes().await?;
                self.store.put(&target, PutPayload::from_bytes(bytes)).await
            };
            if let Err(error) = copied.await {
                tracing::debug!(table = %to, %error, "a data file was not copied");
                self.take_away(to, &adds).await;
                return Ok(None);
            }
            adds.push(Add {
                path,
                ..add.clone()
            });
        }
        Ok(Some(StoredSlice { slice, adds }))
    }

    /// Deletes stored rows of a slice that will not be committed. Failures only leave orphans.
    pub async fn discard_slice(&self, name: &TableName, stored: StoredSlice) {
        self.take_away(name, &stored.adds).await;
    }

    /// Deletes files of a table that no version names.
    pub(crate) async fn take_away(&self, name: &TableName, adds: &[Add]) {
        for add in adds {
            let path = format!("{}/{}/{}", name.schema(), name.table(), add.path);
            if let Ok(path) = self.object_path(&path)
                && let Err(error) = self.store.delete(&path).await
            {
                tracing::warn!(error = %error, "an unused data file stays behind");
            }
        }
    }

    /// Puts stored rows in the place of what their slices hold, in one commit.
    ///
    /// # Errors
    /// As [`Lake::replace_slices`].
    pub async fn commit_slices(
        &self,
        name: &TableName,
        stored: Vec<StoredSlice>,
        info: CommitInfo,
    ) -> Result<i64, LakeError> {
        let looked_at = self.last_seen(name).await?.version();
        let mut adds = Vec::new();
        let mut slices = Vec::new();
        for stored in stored {
            adds.extend(stored.adds);
            slices.push(stored.slice);
        }
        self.commit_adds(name, &adds, &slices, &info, looked_at)
            .await
    }

    /// Appends rows in the commit that follows this version; `None`, and nothing is appended, when there
    /// is such a commit already. For rows that are right only behind what the caller read.
    ///
    /// # Errors
    /// When storage fails: then the rows may have been appended.
    pub async fn append_after(
        &self,
        name: &TableName,
        batches: Vec<RecordBatch>,
        version: i64,
    ) -> Result<Option<i64>, LakeError> {
        let state = self.state_at(name, Some(version)).await?;
        let adds = self
            .store_rows(name, &state, &Slice::whole(), batches)
            .await?;
        let _turn = self.turn(name).await;
        let info = CommitInfo::default();
        match self.try_commit(name, &state, &adds, &[], &info).await? {
            Attempt::Done(version) => Ok(Some(version)),
            Attempt::Overtaken => Ok(None),
            Attempt::Unknown(error) => Err(LakeError::storage("write a commit")(error)),
        }
    }

    /// Commits files that are stored already, in the place of what the slices hold.
    pub(crate) async fn commit_adds(
        &self,
        name: &TableName,
        adds: &[Add],
        slices: &[Slice],
        info: &CommitInfo,
        looked_at: i64,
    ) -> Result<i64, LakeError> {
        let _turn = self.turn(name).await;
        let mut tries = Tries::default();
        loop {
            let state = if tries.is_first() {
                self.last_seen(name).await?
            } else {
                self.existing(name).await?
            };
            // File names are used once: an attempt whose answer was lost is known by its files.
            if !adds.is_empty() && adds.iter().all(|add| state.has_file(&add.path)) {
                return Ok(state.version());
            }
            if let Some((application, version)) = &info.transaction
                && let Some(present) = self
                    .transaction_since(name, &state, application, looked_at, None)
                    .await?
                && present >= *version
            {
                return Ok(state.version());
            }
            tries.are_enough(name)?;
            let attempt = self.try_commit(name, &state, adds, slices, info).await?;
            if let Some(version) = tries.add(name, attempt) {
                return Ok(version);
            }
        }
    }

    /// The version an application has committed, when it was `then` at the version `looked_at`.
    pub(crate) async fn transaction_since(
        &self,
        name: &TableName,
        state: &TableState,
        application: &str,
        looked_at: i64,
        then: Option<i64>,
    ) -> Result<Option<i64>, LakeError> {
        match state.transaction(application) {
            Some(version) => Ok(Some(version)),
            // Every commit since then was followed, and none was of this application.
            None if state.read_at() <= looked_at => Ok(then),
            None => self.transaction_version(name, state, application).await,
        }
    }

    /// The version an application last committed to this table. Asking the log costs a reading of it.
    pub(crate) async fn transaction_version(
        &self,
        name: &TableName,
        state: &TableState,
        application: &str,
    ) -> Result<Option<i64>, LakeError> {
        if let Some(version) = state.transaction(application) {
            return Ok(Some(version));
        }
        let (Some(snapshot), Some(table)) = (state.snapshot()?, state.table()) else {
            return Ok(None);
        };
        snapshot
            .transaction_version(table.log_store().as_ref(), application)
            .await
            .map_err(LakeError::delta(name, "read the log of"))
    }

    /// Encodes and stores rows; the files are invisible until a commit names them.
    pub(crate) async fn store_rows(
        &self,
        name: &TableName,
        state: &TableState,
        slice: &Slice,
        batches: Vec<RecordBatch>,
    ) -> Result<Vec<Add>, LakeError> {
        let schema = Self::file_schema(state)?;
        // An append into a partitioned table is not offered: a slice says where rows belong.
        let mut encoder = PartEncoder::new(schema, PartOptions::default());
        let mut adds = Vec::new();
        let unique = unique_name(self.now_millis());
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
        state: &TableState,
    ) -> Result<arrow::datatypes::SchemaRef, LakeError> {
        let whole = storable(state.arrow_schema());
        let fields: Vec<_> = whole
            .fields()
            .iter()
            .filter(|field| !state.partition_columns().contains(field.name()))
            .cloned()
            .collect();
        Ok(std::sync::Arc::new(arrow::datatypes::Schema::new(fields)))
    }

    /// One attempt on one state: new files in, the slices' present files out.
    pub(crate) async fn try_commit(
        &self,
        name: &TableName,
        state: &TableState,
        adds: &[Add],
        slices: &[Slice],
        info: &CommitInfo,
    ) -> Result<Attempt, LakeError> {
        let now = self.now_millis();
        let mut actions: Vec<Action> = adds.iter().cloned().map(Action::Add).collect();
        let removed = state.files_of(slices);
        actions.extend(removed.map(|file| Action::Remove(file.removed_at(now))));
        let partition_by = state.partition_columns().to_vec();
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
        self.attempt(name, state, actions, operation, info).await
    }

    /// One attempt on one state, with these files in and out.
    pub(crate) async fn attempt(
        &self,
        name: &TableName,
        state: &TableState,
        actions: Vec<Action>,
        operation: DeltaOperation,
        info: &CommitInfo,
    ) -> Result<Attempt, LakeError> {
        let now = self.now_millis();
        let transactions = info
            .transaction
            .iter()
            .map(|(application, version)| Transaction::new(application, *version))
            .collect();
        let properties = info.properties.iter().cloned().collect();
        let mut data = CommitData::new(actions, operation, properties, transactions);
        // The lake's own clock tells when, so that a state of the past can be asked for by its time.
        for action in &mut data.actions {
            if let Action::CommitInfo(info) = action {
                info.timestamp = Some(now);
            }
        }
        let refused = |error| {
            LakeError::delta(name, "commit to")(deltalake_core::DeltaTableError::from(error))
        };
        // A log that is read here has nothing that could keep files out of it.
        if let Some(snapshot) = state.snapshot()? {
            PROTOCOL
                .can_commit(snapshot, &data.actions, &data.operation)
                .map_err(refused)?;
        }
        let text = data.get_bytes().map_err(refused)?;
        let version = state.version() + 1;
        let only_new = PutOptions::from(PutMode::Create);
        match self
            .store
            .put_opts(
                &self.commit_path(name, version)?,
                PutPayload::from_bytes(text),
                only_new,
            )
            .await
        {
            Ok(_) => {
                if let Some(next) = state.after(&data.actions) {
                    self.remember(name, next);
                }
                Ok(Attempt::Done(version))
            }
            Err(object_store::Error::AlreadyExists { .. }) => Ok(Attempt::Overtaken),
            Err(error) => Ok(Attempt::Unknown(error)),
        }
    }
}

/// A name that nothing else has: the moment, the process, and a counter.
pub(crate) fn unique_name(now_millis: i64) -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    format!(
        "{now_millis:x}-{:x}-{:x}",
        std::process::id(),
        COUNTER.fetch_add(1, Ordering::Relaxed)
    )
}
