//! Opening, creating and listing tables.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::{DataType, Schema, SchemaRef, TimeUnit};
use datafusion::catalog::TableProvider;
use deltalake_core::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake_core::kernel::{StructField, StructType};
use deltalake_core::operations::create::CreateBuilder;
use deltalake_core::protocol::SaveMode;
use deltalake_core::{DeltaTable, DeltaTableBuilder};
use object_store::path::Path as StorePath;
use object_store::{ObjectStore, ObjectStoreExt};
use tietopohja_domain::Clock;
use tokio::task::JoinSet;
use url::Url;

use crate::commit::CommitInfo;
use crate::group::Settled;
use crate::ledger::LedgerFiles;
use crate::local::LocalStore;
use crate::log;
use crate::scan::PinnedTable;
use crate::state::TableState;
use crate::workspace::{WORKSPACES, Workspace};
use crate::{LakeError, TableName};

/// A log this long is folded into a checkpoint when a table is maintained: whoever opens the table reads
/// each commit behind the last checkpoint.
const CHECKPOINT_EVERY: usize = 20;

/// A checkpoint lists all files of the table, so a table of many waits for a commit more for each so
/// many of them.
const FILES_OF_A_COMMIT: usize = 64;

/// Commits of others that are read one after another; when there are more, reading the table anew
/// from its checkpoint is quicker.
const FOLLOWED_COMMITS: usize = 100;

/// One folder (or bucket prefix) of Delta tables, `<schema>/<table>/`.
///
/// A lake can be opened by any number of processes at once: every change is one commit that either
/// is seen whole or not at all.
pub struct Lake {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) url: Url,
    pub(crate) clock: Arc<dyn Clock>,
    open: Mutex<HashMap<TableName, Arc<TableState>>>,
    turns: Mutex<HashMap<TableName, Turn>>,
    pub(crate) ledger_files: LedgerFiles,
    pub(crate) settled: Settled,
    pub(crate) workspaces: Mutex<HashMap<TableName, Workspace>>,
}

/// Whose turn it is to commit to a table, within this process.
type Turn = Arc<tokio::sync::Mutex<()>>;

impl std::fmt::Debug for Lake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lake")
            .field("url", &self.url.as_str())
            .finish()
    }
}

/// Tables that are being opened ([`Lake::open_ahead`]); it ends when this is dropped.
#[derive(Debug)]
pub struct Opening(JoinSet<()>);

impl Opening {
    /// Waits until all of them are open.
    pub async fn wait(mut self) {
        while self.0.join_next().await.is_some() {}
    }
}

impl Lake {
    /// Opens a folder as a lake, making it when it is not there.
    pub fn open(root: &Path, clock: Arc<dyn Clock>) -> Result<Lake, LakeError> {
        let place = |reason: String| LakeError::Place {
            place: root.display().to_string(),
            reason,
        };
        std::fs::create_dir_all(root).map_err(|error| place(error.to_string()))?;
        let absolute = root
            .canonicalize()
            .map_err(|error| place(error.to_string()))?;
        let url = Url::from_directory_path(&absolute)
            .map_err(|()| place("the path cannot be written as an address".to_owned()))?;
        Ok(Self::with_store(
            Arc::new(LocalStore::default()),
            url,
            clock,
        ))
    }

    /// Opens a lake on any object store. `store` is rooted at `/`; `url` ends with `/`.
    pub fn with_store(store: Arc<dyn ObjectStore>, url: Url, clock: Arc<dyn Clock>) -> Lake {
        Lake {
            store,
            url,
            clock,
            open: Mutex::default(),
            turns: Mutex::default(),
            ledger_files: LedgerFiles::default(),
            settled: Settled::default(),
            workspaces: Mutex::default(),
        }
    }

    /// The address of the lake's folder.
    pub fn url(&self) -> &Url {
        &self.url
    }

    pub(crate) fn now_millis(&self) -> i64 {
        self.clock.now().as_millisecond()
    }

    pub(crate) fn table_url(&self, name: &TableName) -> Result<Url, LakeError> {
        self.url
            .join(&format!("{}/{}/", name.schema(), name.table()))
            .map_err(|error| LakeError::Internal(format!("address of `{name}`: {error}")))
    }

    /// Path of an object of this lake, from the root of the store.
    pub(crate) fn object_path(&self, relative: &str) -> Result<StorePath, LakeError> {
        let url = self
            .url
            .join(relative)
            .map_err(|error| LakeError::Internal(format!("address of `{relative}`: {error}")))?;
        StorePath::from_url_path(url.path())
            .map_err(|error| LakeError::Internal(format!("path of `{relative}`: {error}")))
    }

    fn unopened(&self, name: &TableName) -> Result<DeltaTable, LakeError> {
        let url = self.table_url(name)?;
        DeltaTableBuilder::from_url(url.clone())
            .map_err(LakeError::delta(name, "open"))?
            .with_storage_backend(Arc::clone(&self.store), url)
            .build()
            .map_err(LakeError::delta(name, "open"))
    }

    /// The table at its newest version, or `None` when it does not exist.
    pub(crate) async fn newest(
        &self,
        name: &TableName,
    ) -> Result<Option<Arc<TableState>>, LakeError> {
        match self.remembered(name) {
            Some(state) => self.follow(name, state).await,
            None => self.read_anew(name).await,
        }
    }

    pub(crate) async fn existing(&self, name: &TableName) -> Result<Arc<TableState>, LakeError> {
        self.newest(name).await?.ok_or_else(|| LakeError::NotFound {
            table: name.clone(),
            version: None,
        })
    }

    /// The table as this process last saw it, without looking whether others changed it since. Only
    /// for a commit, which fails when they did.
    pub(crate) async fn last_seen(&self, name: &TableName) -> Result<Arc<TableState>, LakeError> {
        match self.remembered(name) {
            Some(state) => Ok(state),
            None => self.existing(name).await,
        }
    }

    fn remembered(&self, name: &TableName) -> Option<Arc<TableState>> {
        self.open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned()
    }

    /// Forgets a table that is no more.
    pub(crate) fn forget(&self, name: &TableName) {
        self.open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(name);
    }

    /// Remembers a state, unless a newer one is.
    pub(crate) fn remember(&self, name: &TableName, state: TableState) -> Arc<TableState> {
        let state = Arc::new(state);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let known = open
            .entry(name.clone())
            .or_insert_with(|| Arc::clone(&state));
        if known.version() <= state.version() {
            *known = Arc::clone(&state);
        }
        state
    }

    /// Applies the commits that follow a state. Versions are consecutive, so a look at the place of
    /// the next one tells whether there is one.
    async fn follow(
        &self,
        name: &TableName,
        mut state: Arc<TableState>,
    ) -> Result<Option<Arc<TableState>>, LakeError> {
        for _ in 0..FOLLOWED_COMMITS {
            let Some(commit) = self.commit_text(name, state.version() + 1).await? else {
                return Ok(Some(state));
            };
            let Some(next) = state.after_text(&commit) else {
                break;
            };
            state = self.remember(name, next);
        }
        self.read_anew(name).await
    }

    /// The table as its log tells, read from its last checkpoint on; `None` when there is none.
    async fn read_anew(&self, name: &TableName) -> Result<Option<Arc<TableState>>, LakeError> {
        if let Some(state) = log::read(self, name).await? {
            return Ok(Some(self.remember(name, state)));
        }
        let exists = self.unopened(name)?.verify_deltatable_existence().await;
        if !exists.map_err(LakeError::delta(name, "open"))? {
            return Ok(None);
        }
        let state = self.read_by_library(name).await?;
        Ok(Some(self.remember(name, state)))
    }

    /// The same as the format layer tells. The table must be there.
    pub(crate) async fn read_by_library(&self, name: &TableName) -> Result<TableState, LakeError> {
        let table = self.updated(name, self.unopened(name)?).await?;
        TableState::read(name, table)
    }

    async fn updated(
        &self,
        name: &TableName,
        mut table: DeltaTable,
    ) -> Result<DeltaTable, LakeError> {
        let updated = table.update_state().await;
        updated.map_err(LakeError::delta(name, "read the log of"))?;
        Ok(table)
    }

    /// The format layer's own view of a table at its newest version.
    async fn format_view(
        &self,
        name: &TableName,
        state: &Arc<TableState>,
    ) -> Result<DeltaTable, LakeError> {
        match state.table() {
            Some(table) if state.read_at() == state.version() => Ok(table.clone()),
            Some(table) => self.updated(name, table.clone()).await,
            None => self.updated(name, self.unopened(name)?).await,
        }
    }

    /// The format layer's own view of a table at a version.
    async fn at(&self, name: &TableName, version: i64) -> Result<DeltaTable, LakeError> {
        let missing = || LakeError::NotFound {
            table: name.clone(),
            version: Some(version),
        };
        let mut table = self.unopened(name)?;
        table
            .load_version(version.try_into().map_err(|_| missing())?)
            .await
            .map_err(|_| missing())?;
        Ok(table)
    }

    /// Where the log has its commit of a version.
    pub(crate) fn commit_path(
        &self,
        name: &TableName,
        version: i64,
    ) -> Result<StorePath, LakeError> {
        self.object_path(&format!(
            "{}/{}/_delta_log/{version:020}.json",
            name.schema(),
            name.table()
        ))
    }

    /// The text of one commit; `None` when there is none of that version.
    pub(crate) async fn commit_text(
        &self,
        name: &TableName,
        version: i64,
    ) -> Result<Option<bytes::Bytes>, LakeError> {
        match self.store.get(&self.commit_path(name, version)?).await {
            Ok(found) => Ok(Some(
                found
                    .bytes()
                    .await
                    .map_err(LakeError::storage("read a commit"))?,
            )),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(LakeError::storage("read a commit")(error)),
        }
    }

    /// Waits for the turn to commit to a table. Landings of one process then follow one another
    /// instead of meeting as conflicts; other processes are met by the commit itself.
    pub(crate) async fn turn(&self, name: &TableName) -> tokio::sync::OwnedMutexGuard<()> {
        let turn = Arc::clone(
            self.turns
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .entry(name.clone())
                .or_default(),
        );
        turn.lock_owned().await
    }

    /// True when the table exists.
    pub async fn exists(&self, name: &TableName) -> Result<bool, LakeError> {
        Ok(self.newest(name).await?.is_some())
    }

    /// The newest version of a table, or `None` when it does not exist.
    pub async fn version(&self, name: &TableName) -> Result<Option<i64>, LakeError> {
        Ok(self.newest(name).await?.map(|state| state.version()))
    }

    /// Opens tables that will be needed, at once: reading a log is the work of one core, and there are
    /// many. What cannot be opened is told when it is needed.
    pub fn open_ahead(self: &Arc<Self>, names: impl IntoIterator<Item = TableName>) -> Opening {
        let mut opening = JoinSet::new();
        for name in names {
            let lake = Arc::clone(self);
            opening.spawn(async move { drop(lake.newest(&name).await) });
        }
        Opening(opening)
    }

    /// The newest version of a table at a moment, in milliseconds since 1970, by the times that its
    /// commits tell; `None` when the table did not exist then.
    ///
    /// # Errors
    /// [`LakeError::NotFound`] when a commit of that time is no longer in the log.
    pub async fn version_at(
        &self,
        name: &TableName,
        millis: i64,
    ) -> Result<Option<i64>, LakeError> {
        let Some(newest) = self.version(name).await? else {
            return Ok(None);
        };
        // Versions below `older` are not newer than the moment, those from `newer` on are.
        let (mut older, mut newer) = (0, newest + 1);
        while older < newer {
            let middle = older + (newer - older) / 2;
            let commit = self.commit_text(name, middle).await?;
            let made = commit.as_deref().and_then(made_at);
            let made = made.ok_or_else(|| LakeError::NotFound {
                table: name.clone(),
                version: Some(middle),
            })?;
            if made <= millis {
                older = middle + 1;
            } else {
                newer = middle;
            }
        }
        Ok((older > 0).then(|| older - 1))
    }

    /// The id that a table got when it was made; `None` when it does not exist. One that is made in its
    /// place has another.
    pub async fn table_id(&self, name: &TableName) -> Result<Option<String>, LakeError> {
        match self.newest(name).await? {
            None => Ok(None),
            Some(state) => Ok(Some(state.table_id().to_owned())),
        }
    }

    /// The columns of a table at its newest version, partition columns included.
    pub async fn schema(&self, name: &TableName) -> Result<Option<SchemaRef>, LakeError> {
        match self.newest(name).await? {
            None => Ok(None),
            Some(state) => Ok(Some(Arc::clone(state.arrow_schema()))),
        }
    }

    /// Every table of the lake, in name order. Those of workspaces are not among them.
    pub async fn tables(&self) -> Result<Vec<TableName>, LakeError> {
        let root = self.object_path("")?;
        let mut names = Vec::new();
        let schemas = self
            .store
            .list_with_delimiter(Some(&root))
            .await
            .map_err(LakeError::storage("list the lake"))?;
        for schema in schemas.common_prefixes {
            let Some(schema_name) = schema.filename().map(str::to_owned) else {
                continue;
            };
            if schema_name == WORKSPACES {
                continue;
            }
            let tables = self
                .store
                .list_with_delimiter(Some(&schema))
                .await
                .map_err(LakeError::storage("list a schema"))?;
            for table in tables.common_prefixes {
                let name = table
                    .filename()
                    .and_then(|table_name| TableName::new(&schema_name, table_name).ok());
                if let Some(name) = name
                    && self.exists(&name).await?
                {
                    names.push(name);
                }
            }
        }
        names.sort();
        Ok(names)
    }

    /// Makes the table when it is not there; adds the columns it lacks (as nullable). Two
    /// processes may do this at once.
    ///
    /// Partition columns are integers or dates: other types meet encoding faults in readers.
    pub async fn ensure_table(
        &self,
        name: &TableName,
        schema: SchemaRef,
        partition_columns: &[&str],
    ) -> Result<(), LakeError> {
        let wanted: StructType = storable(&schema)
            .as_ref()
            .try_into_kernel()
            .map_err(|error| LakeError::Schema {
                table: name.clone(),
                detail: format!("a column type cannot be stored: {error}"),
            })?;
        let Some(state) = self.newest(name).await? else {
            let created = CreateBuilder::new()
                .with_log_store(self.unopened(name)?.log_store())
                .with_table_name(name.to_string())
                .with_columns(wanted.fields().cloned())
                .with_partition_columns(partition_columns.iter().copied())
                // Releases must stay readable: the log is only cut by maintenance, on purpose.
                .with_configuration([
                    ("delta.enableExpiredLogCleanup", Some("false")),
                    ("delta.logRetentionDuration", Some("interval 3650 days")),
                ])
                .with_save_mode(SaveMode::ErrorIfExists)
                .await;
            return match created {
                Ok(table) => {
                    self.remember(name, TableState::read(name, table)?);
                    Ok(())
                }
                // Somebody else made it meanwhile: then it must fit.
                Err(error) => match self.newest(name).await? {
                    Some(_) => Box::pin(self.ensure_table(name, schema, partition_columns)).await,
                    None => Err(LakeError::delta(name, "create")(error)),
                },
            };
        };
        let present = state.columns();
        let mut missing: Vec<StructField> = Vec::new();
        for field in wanted.fields() {
            match present.field(field.name()) {
                Some(found) if found.data_type() == field.data_type() => {}
                Some(found) => {
                    return Err(LakeError::Schema {
                        table: name.clone(),
                        detail: format!(
                            "column `{}` is {} and cannot become {}",
                            field.name(),
                            found.data_type(),
                            field.data_type()
                        ),
                    });
                }
                None => missing.push(StructField::nullable(
                    field.name(),
                    field.data_type().clone(),
                )),
            }
        }
        if !missing.is_empty() {
            let changed = self
                .format_view(name, &state)
                .await?
                .add_columns()
                .with_fields(missing)
                .await
                .map_err(LakeError::delta(name, "add columns to"))?;
            self.remember(name, TableState::read(name, changed)?);
        }
        Ok(())
    }

    /// The table at a version; the newest when `None`.
    pub(crate) async fn state_at(
        &self,
        name: &TableName,
        version: Option<i64>,
    ) -> Result<Arc<TableState>, LakeError> {
        let newest = self.existing(name).await?;
        match version {
            None => Ok(newest),
            Some(version) if newest.version() == version => Ok(newest),
            Some(version) => Ok(Arc::new(TableState::read(
                name,
                self.at(name, version).await?,
            )?)),
        }
    }

    /// Our own scan of a table; `None` when only the format layer can read it.
    pub(crate) fn pinned(
        &self,
        name: &TableName,
        state: &TableState,
    ) -> Result<Option<PinnedTable>, LakeError> {
        let place = |file: &str| {
            self.object_path(&format!("{}/{}/{file}", name.schema(), name.table()))
                .ok()
        };
        Ok(PinnedTable::new(
            Arc::clone(&self.store),
            self.store_url()?,
            state.arrow_schema(),
            state,
            place,
        ))
    }

    /// The table as something that can be queried, pinned at a version (the newest when `None`).
    pub async fn provider(
        &self,
        name: &TableName,
        version: Option<i64>,
    ) -> Result<Arc<dyn TableProvider>, LakeError> {
        let state = self.state_at(name, version).await?;
        if let Some(pinned) = self.pinned(name, &state)? {
            return Ok(Arc::new(pinned));
        }
        let scan = self
            .at(name, state.version())
            .await?
            .table_provider()
            .build()
            .await
            .map_err(|error| LakeError::Internal(format!("scan of `{name}`: {error}")))?;
        Ok(Arc::new(scan))
    }

    /// Adds rows to a table. The table must exist.
    pub async fn append(
        &self,
        name: &TableName,
        batches: Vec<arrow::array::RecordBatch>,
        info: CommitInfo,
    ) -> Result<i64, LakeError> {
        self.commit_rows(name, crate::commit::Change::Append(batches), info, None)
            .await
    }

    /// Replaces whole slices of a table in one commit: the rows of each slice take the place of
    /// what was there, and a slice without rows becomes empty.
    pub async fn replace_slices(
        &self,
        name: &TableName,
        slices: Vec<crate::SliceRows>,
        info: CommitInfo,
    ) -> Result<i64, LakeError> {
        self.commit_rows(name, crate::commit::Change::Replace(slices), info, None)
            .await
    }

    /// Replaces all rows of a table in one commit.
    pub async fn overwrite(
        &self,
        name: &TableName,
        batches: Vec<arrow::array::RecordBatch>,
        info: CommitInfo,
    ) -> Result<i64, LakeError> {
        let whole = crate::SliceRows {
            slice: crate::Slice::whole(),
            batches,
        };
        self.commit_rows(
            name,
            crate::commit::Change::Replace(vec![whole]),
            info,
            None,
        )
        .await
    }

    /// The last value of a user property of the newest commit that has it (see [`CommitInfo`]).
    pub async fn last_commit_property(
        &self,
        name: &TableName,
        key: &str,
    ) -> Result<Option<String>, LakeError> {
        use futures::TryStreamExt;
        let Some(state) = self.newest(name).await? else {
            return Ok(None);
        };
        let history: Vec<_> = self
            .format_view(name, &state)
            .await?
            .history(Some(20))
            .try_collect()
            .await
            .map_err(LakeError::delta(name, "read the history of"))?;
        Ok(history.iter().find_map(|commit| {
            commit
                .info
                .get(key)
                .and_then(|value| value.as_str().map(str::to_owned))
        }))
    }

    /// Folds a long log into a checkpoint so that opening the table stays quick.
    pub async fn maintain(&self, name: &TableName) -> Result<(), LakeError> {
        let Some(state) = self.newest(name).await? else {
            return Ok(());
        };
        let log = self.object_path(&format!(
            "{}/{}/_delta_log/_last_checkpoint",
            name.schema(),
            name.table()
        ))?;
        let folded = match self.store.get(&log).await {
            Ok(found) => {
                let bytes = found
                    .bytes()
                    .await
                    .map_err(LakeError::storage("read a checkpoint pointer"))?;
                serde_json::from_slice::<serde_json::Value>(&bytes)
                    .ok()
                    .and_then(|value| value.get("version")?.as_i64())
                    .unwrap_or_default()
            }
            Err(object_store::Error::NotFound { .. }) => 0,
            Err(error) => return Err(LakeError::storage("read a checkpoint pointer")(error)),
        };
        let due = CHECKPOINT_EVERY + state.files().count() / FILES_OF_A_COMMIT;
        if state.version().saturating_sub(folded) >= due as i64 {
            let table = self.format_view(name, &state).await?;
            deltalake_core::checkpoints::create_checkpoint(&table, None)
                .await
                .map_err(LakeError::delta(name, "checkpoint"))?;
        }
        Ok(())
    }
}

/// When a commit was made, in milliseconds since 1970, as it says itself.
pub(crate) fn made_at(commit: &[u8]) -> Option<i64> {
    let mut lines = commit.split(|byte| *byte == b'\n');
    lines.find_map(|line| {
        let action: serde_json::Value = serde_json::from_slice(line).ok()?;
        action.get("commitInfo")?.get("timestamp")?.as_i64()
    })
}

/// The schema as it is stored: views and dictionaries become plain, timestamps microseconds UTC.
pub(crate) fn storable(schema: &Schema) -> SchemaRef {
    let fields: Vec<_> = schema
        .fields()
        .iter()
        .map(|field| {
            let plain = match field.data_type() {
                DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
                DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
                DataType::Dictionary(_, value) => match value.as_ref() {
                    DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
                    other => other.clone(),
                },
                DataType::Timestamp(_, Some(_)) => {
                    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
                }
                DataType::UInt8 | DataType::UInt16 => DataType::Int32,
                DataType::UInt32 | DataType::UInt64 => DataType::Int64,
                DataType::Null => DataType::Utf8,
                other => other.clone(),
            };
            arrow::datatypes::Field::new(field.name(), plain, true)
        })
        .collect();
    Arc::new(Schema::new(fields))
}
