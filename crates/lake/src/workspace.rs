//! The tables of one user: Parquet files beside a log of whole states.
//!
//! A workspace is one folder. Each entry of its log is the complete state: every table with its
//! columns and files. A change is one new entry, stored only if no entry of that number is there, so
//! that creating, replacing and dropping are as atomic as adding rows, and one number names the state
//! of all tables together. States and files that a change leaves behind stay for a while, for those who
//! still read them, and are then taken away by a later change. Who owns a workspace, and what the
//! statements are that change it, is decided elsewhere; a folder is named by its caller. To add a kind
//! of change: a variant of [`TableChange`] and its arm in [`State::after`].

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, PoisonError};

use arrow::array::RecordBatch;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::catalog::TableProvider;
use object_store::path::Path as StorePath;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use serde::{Deserialize, Serialize};

use crate::commit::{ATTEMPTS, FAILURES, unique_name};
use crate::parts::{EncodedPart, PartEncoder, PartOptions};
use crate::scan::{PinnedFile, PinnedTable};
use crate::small::{SmallFile, rows_of};
use crate::{Lake, LakeError, TableName};

/// The folder of all workspaces.
pub const WORKSPACES: &str = "workspace";

/// How long a state and the files of it stay after another took its place.
const KEPT_MILLIS: i64 = 2 * 3_600_000;
/// Most states that stay.
const KEPT_STATES: usize = 256;
/// Files that no state names are taken away when they are older: whoever wrote them has ended.
const ORPHAN_MILLIS: i64 = 24 * 3_600_000;
/// Most tables of one workspace.
const MOST_TABLES: usize = 1_000;
/// A file is closed at this size, so that an upload takes little memory.
const FILE_BYTES: usize = 32 << 20;
/// Files smaller than this are put together when a table has so many of them, and so many rows at most.
const SMALL_BYTES: u64 = 64 << 10;
const MANY_SMALL: usize = 64;
const SMALL_ROWS: u64 = 1 << 20;
/// The one format of states.
const FORMAT: u32 = 1;

/// A workspace at one version. `None` is the version of one in which nothing was ever made.
#[derive(Debug, Clone, Default)]
pub struct Workspace {
    version: Option<i64>,
    state: Arc<State>,
}

/// A table of a workspace.
#[derive(Debug, Clone)]
pub struct WorkspaceTable {
    /// Tells it from every other table that ever had its name.
    pub id: i64,
    /// The version that last changed it.
    pub changed: i64,
    /// Its columns.
    pub columns: SchemaRef,
    /// Its rows.
    pub rows: u64,
    /// Its files.
    pub files: usize,
    /// Bytes of its files.
    pub bytes: u64,
}

/// What one entry of the log holds.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct State {
    format: u32,
    /// Whose it is, for people who look at the folder.
    owner: String,
    /// When it was made, in milliseconds since 1970.
    made: i64,
    /// Known to the one who made it alone.
    mark: String,
    tables: BTreeMap<String, StoredTable>,
    /// Files that tables no longer have, with the time since.
    gone: Vec<Gone>,
    /// Earlier states that can still be read.
    past: Vec<Past>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct StoredTable {
    id: i64,
    changed: i64,
    columns: Vec<StoredColumn>,
    files: Vec<StoredFile>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct StoredColumn {
    name: String,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct StoredFile {
    name: String,
    bytes: u64,
    rows: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Gone {
    name: String,
    bytes: u64,
    at: i64,
}

impl Gone {
    fn at(file: StoredFile, at: i64) -> Gone {
        let StoredFile { name, bytes, .. } = file;
        Gone { name, bytes, at }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Past {
    version: i64,
    until: i64,
}

/// What becomes of a table.
#[derive(Debug, Clone)]
pub enum TableChange {
    /// It is made, of the rows in the files.
    Create {
        /// Its columns, as [`workspace_schema`] gives them.
        columns: SchemaRef,
        /// Whether it may take the place of a table with its name.
        replace: bool,
    },
    /// Rows are added to the table with this id.
    Append {
        /// Which table.
        id: i64,
    },
    /// Its rows are replaced, if it is as it was.
    Rewrite {
        /// Which table.
        id: i64,
        /// The version that last changed it, as the caller saw it.
        changed: i64,
    },
    /// It is taken away.
    Drop {
        /// Which table.
        id: i64,
    },
}

/// One change of a workspace.
#[derive(Debug)]
pub struct WorkspaceCommit {
    /// The workspace.
    pub place: TableName,
    /// Whose it is.
    pub owner: String,
    /// The table.
    pub table: String,
    /// What becomes of it.
    pub change: TableChange,
    /// New rows.
    pub files: WorkspaceFiles,
    /// Most bytes of all tables together.
    pub most_bytes: Option<u64>,
}

/// Stored rows that no state names yet. Dropped, they are taken away.
pub struct WorkspaceFiles {
    store: Arc<dyn ObjectStore>,
    paths: Vec<StorePath>,
    files: Vec<StoredFile>,
}

impl std::fmt::Debug for WorkspaceFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkspaceFiles")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl WorkspaceFiles {
    /// How many rows there are.
    pub fn rows(&self) -> u64 {
        self.files.iter().map(|file| file.rows).sum()
    }

    /// Takes the files away now.
    pub async fn discard(mut self) {
        let paths = std::mem::take(&mut self.paths);
        delete(&self.store, paths).await;
    }

    fn keep(&mut self) {
        self.paths.clear();
    }
}

impl Drop for WorkspaceFiles {
    fn drop(&mut self) {
        if self.paths.is_empty() {
            return;
        }
        let (store, paths) = (Arc::clone(&self.store), std::mem::take(&mut self.paths));
        // Without a runtime they stay until they are old.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { delete(&store, paths).await });
        }
    }
}

async fn delete(store: &Arc<dyn ObjectStore>, paths: Vec<StorePath>) {
    for path in paths {
        match store.delete(&path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => {
                tracing::warn!(%path, %error, "a file of a workspace could not be taken away");
            }
        }
    }
}

/// Encodes rows into files as they come.
pub struct WorkspaceWriter {
    encoder: PartEncoder,
    files: WorkspaceFiles,
    folder: StorePath,
    name: String,
    room: Option<u64>,
}

impl WorkspaceWriter {
    /// Adds rows, whose columns are exactly those that the writer was opened with.
    ///
    /// # Errors
    /// [`LakeError::WorkspaceFull`] when there is no more room; otherwise storage.
    pub async fn write(&mut self, batch: &RecordBatch) -> Result<(), LakeError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let part = self.encoder.write(batch)?;
        self.store(part).await
    }

    /// Stores what is left. The rows are visible once they are committed.
    ///
    /// # Errors
    /// As [`WorkspaceWriter::write`].
    pub async fn finish(mut self) -> Result<WorkspaceFiles, LakeError> {
        let part = self.encoder.finish()?;
        match self.store(part).await {
            Ok(()) => Ok(self.files),
            Err(error) => {
                self.files.discard().await;
                Err(error)
            }
        }
    }

    /// Takes away what was stored.
    pub async fn discard(self) {
        self.files.discard().await;
    }

    async fn store(&mut self, part: Option<EncodedPart>) -> Result<(), LakeError> {
        let Some(EncodedPart { bytes, metadata }) = part else {
            return Ok(());
        };
        let stored = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if let Some(room) = &mut self.room {
            *room = room.checked_sub(stored).ok_or(LakeError::WorkspaceFull)?;
        }
        let number = self.files.files.len();
        let name = format!("part-{}-{number:05}.parquet", self.name);
        let path = self.folder.clone().join(name.as_str());
        self.files.paths.push(path.clone());
        let payload = PutPayload::from_bytes(bytes);
        self.files
            .store
            .put(&path, payload)
            .await
            .map_err(LakeError::storage("store rows of a workspace"))?;
        self.files.files.push(StoredFile {
            name,
            bytes: stored,
            rows: u64::try_from(metadata.file_metadata().num_rows()).unwrap_or_default(),
        });
        Ok(())
    }
}

impl Workspace {
    /// Its version.
    pub fn version(&self) -> Option<i64> {
        self.version
    }

    /// A table.
    pub fn table(&self, name: &str) -> Option<WorkspaceTable> {
        self.state.tables.get(name).map(StoredTable::shown)
    }

    /// Every table with its name, in order.
    pub fn tables(&self) -> impl Iterator<Item = (&str, WorkspaceTable)> {
        let tables = self.state.tables.iter();
        tables.map(|(name, table)| (name.as_str(), table.shown()))
    }

    /// Bytes of all tables together.
    pub fn bytes(&self) -> u64 {
        self.state.bytes()
    }
}

impl StoredTable {
    fn shown(&self) -> WorkspaceTable {
        let fields = self.columns.iter().map(|column| {
            let kind = type_named(&column.kind).unwrap_or(DataType::Utf8);
            Field::new(&column.name, kind, true)
        });
        WorkspaceTable {
            id: self.id,
            changed: self.changed,
            columns: Arc::new(Schema::new(fields.collect::<Vec<_>>())),
            rows: self.files.iter().map(|file| file.rows).sum(),
            files: self.files.len(),
            bytes: self.files.iter().map(|file| file.bytes).sum(),
        }
    }
}

impl State {
    fn bytes(&self) -> u64 {
        let files = self.tables.values().flat_map(|table| &table.files);
        files.map(|file| file.bytes).sum()
    }

    fn has_file(&self, name: &str) -> bool {
        let mut files = self.tables.values().flat_map(|table| &table.files);
        files.any(|file| file.name == name)
    }

    /// The state that a change makes of this one.
    fn after(&self, version: i64, commit: &WorkspaceCommit, now: i64) -> Result<State, LakeError> {
        let gone = || LakeError::WorkspaceTableGone(commit.table.clone());
        let mut next = self.clone();
        next.format = FORMAT;
        next.owner.clone_from(&commit.owner);
        next.made = now;
        let new = commit.files.files.clone();
        let old = next.tables.get_mut(&commit.table);
        let left = match (&commit.change, old) {
            (TableChange::Create { replace: false, .. }, Some(_)) => {
                return Err(LakeError::WorkspaceTableThere(commit.table.clone()));
            }
            (TableChange::Create { columns, .. }, _) => {
                let table = StoredTable {
                    id: version,
                    changed: version,
                    columns: stored_columns(columns)?,
                    files: new,
                };
                let old = next.tables.insert(commit.table.clone(), table);
                old.map(|old| old.files).unwrap_or_default()
            }
            (TableChange::Append { id }, Some(table)) if table.id == *id => {
                table.files.extend(new);
                table.changed = version;
                Vec::new()
            }
            (TableChange::Rewrite { id, changed }, Some(table)) if table.id == *id => {
                if table.changed != *changed {
                    return Err(LakeError::Busy {
                        table: commit.place.clone(),
                    });
                }
                table.changed = version;
                std::mem::replace(&mut table.files, new)
            }
            (TableChange::Drop { id }, Some(table)) if table.id == *id => {
                let old = next.tables.remove(&commit.table);
                old.map(|old| old.files).unwrap_or_default()
            }
            (
                TableChange::Append { .. } | TableChange::Rewrite { .. } | TableChange::Drop { .. },
                _,
            ) => return Err(gone()),
        };
        next.gone
            .extend(left.into_iter().map(|file| Gone::at(file, now)));
        if next.tables.len() > MOST_TABLES {
            return Err(LakeError::WorkspaceTables(MOST_TABLES));
        }
        let bytes = next.bytes();
        // What makes a full workspace smaller is always allowed.
        if commit.most_bytes.is_some_and(|most| bytes > most) && bytes > self.bytes() {
            return Err(LakeError::WorkspaceFull);
        }
        Ok(next)
    }

    /// Takes out what nobody reads any more: files and states. What is kept of the past has no more room
    /// than the tables may have, the oldest of it goes first.
    fn expire(&mut self, now: i64, most_bytes: Option<u64>) -> (Vec<Gone>, Vec<Past>) {
        let mut old = now.saturating_sub(KEPT_MILLIS);
        let mut bytes: u64 = self.gone.iter().map(|file| file.bytes).sum();
        for file in &self.gone {
            if most_bytes.is_none_or(|most| bytes <= most) {
                break;
            }
            bytes = bytes.saturating_sub(file.bytes);
            old = old.max(file.at.saturating_add(1));
        }
        let (files, kept) = std::mem::take(&mut self.gone)
            .into_iter()
            .partition(|file| file.at < old);
        self.gone = kept;
        let surplus = self.past.len().saturating_sub(KEPT_STATES);
        let (states, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut self.past)
            .into_iter()
            .enumerate()
            .partition(|(place, past)| *place < surplus || past.until < old);
        self.past = kept.into_iter().map(|(_, past)| past).collect();
        (files, states.into_iter().map(|(_, past)| past).collect())
    }
}

impl Lake {
    /// A workspace as it is now.
    ///
    /// # Errors
    /// Storage, or a log that is not one.
    pub async fn workspace(&self, place: &TableName) -> Result<Workspace, LakeError> {
        let remembered = self
            .workspaces
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(place)
            .cloned();
        let mut newest = match remembered {
            Some(workspace) => workspace,
            None => self.open_workspace(place).await?,
        };
        loop {
            let version = newest.version.map_or(0, |version| version + 1);
            match self.workspace_entry(place, version).await? {
                Entry::Missing => break,
                Entry::State(state) => {
                    newest = Workspace {
                        version: Some(version),
                        state: Arc::new(*state),
                    };
                }
                // Others made so many changes that this one is past already.
                Entry::Past => newest = self.open_workspace(place).await?,
            }
        }
        self.remember_workspace(place, newest.clone());
        Ok(newest)
    }

    /// A workspace at a version; `None` when that state is not kept any more.
    ///
    /// # Errors
    /// As [`Lake::workspace`].
    pub async fn workspace_at(
        &self,
        place: &TableName,
        version: Option<i64>,
    ) -> Result<Option<Workspace>, LakeError> {
        let Some(version) = version else {
            return Ok(Some(Workspace::default()));
        };
        let newest = self.workspace(place).await?;
        if newest.version == Some(version) {
            return Ok(Some(newest));
        }
        match self.workspace_entry(place, version).await? {
            Entry::State(state) => Ok(Some(Workspace {
                version: Some(version),
                state: Arc::new(*state),
            })),
            Entry::Missing | Entry::Past => Ok(None),
        }
    }

    /// The rows of a table of a workspace.
    ///
    /// # Errors
    /// The files cannot be named.
    pub fn workspace_rows(
        &self,
        place: &TableName,
        workspace: &Workspace,
        table: &str,
    ) -> Result<Option<Arc<dyn TableProvider>>, LakeError> {
        let Some(table) = workspace.state.tables.get(table) else {
            return Ok(None);
        };
        self.rows_of_files(place, &table.shown().columns, &table.files)
            .map(Some)
    }

    /// The rows of files that are not committed, as those of a table with these columns.
    ///
    /// # Errors
    /// As [`Lake::workspace_rows`].
    pub fn uncommitted_rows(
        &self,
        place: &TableName,
        columns: &SchemaRef,
        files: &WorkspaceFiles,
    ) -> Result<Arc<dyn TableProvider>, LakeError> {
        self.rows_of_files(place, columns, &files.files)
    }

    fn rows_of_files(
        &self,
        place: &TableName,
        columns: &SchemaRef,
        files: &[StoredFile],
    ) -> Result<Arc<dyn TableProvider>, LakeError> {
        let folder = self.workspace_folder(place)?;
        let files = files.iter().map(|file| {
            let pinned = PinnedFile {
                path: folder.clone().join(file.name.as_str()),
                bytes: file.bytes,
                rows: usize::try_from(file.rows).ok(),
                range: None,
            };
            (Vec::new(), pinned)
        });
        let table = PinnedTable::of_files(
            Arc::clone(&self.store),
            self.store_url()?,
            columns,
            &[],
            files.collect(),
        );
        match table {
            Some(table) => Ok(Arc::new(table)),
            None => Err(LakeError::Internal(
                "the rows of a workspace cannot be read as a table".to_owned(),
            )),
        }
    }

    /// Writes rows with these columns, as [`workspace_schema`] gives them, into files of at most `room`
    /// bytes together.
    ///
    /// # Errors
    /// The folder cannot be named.
    pub fn workspace_writer(
        &self,
        place: &TableName,
        columns: SchemaRef,
        room: Option<u64>,
    ) -> Result<WorkspaceWriter, LakeError> {
        let options = PartOptions {
            file_bytes: FILE_BYTES,
            // They may be about people.
            text_statistics: false,
            ..PartOptions::default()
        };
        Ok(WorkspaceWriter {
            encoder: PartEncoder::new(columns, options),
            files: self.no_rows(),
            folder: self.workspace_folder(place)?,
            name: unique_name(self.now_millis()),
            room,
        })
    }

    /// No new rows, for a change that has none.
    pub fn no_rows(&self) -> WorkspaceFiles {
        WorkspaceFiles {
            store: Arc::clone(&self.store),
            paths: Vec::new(),
            files: Vec::new(),
        }
    }

    /// Makes a change, and gives the version that it made. Once begun it is brought to its end, also
    /// when nobody waits for it any more.
    ///
    /// # Errors
    /// [`LakeError::WorkspaceTableThere`], [`LakeError::WorkspaceTableGone`], [`LakeError::WorkspaceFull`],
    /// [`LakeError::WorkspaceTables`], and [`LakeError::Busy`] when the rows to be replaced were changed
    /// meanwhile: then nothing is changed and the new files are taken away. Otherwise storage.
    pub async fn change_workspace(
        self: &Arc<Self>,
        commit: WorkspaceCommit,
    ) -> Result<i64, LakeError> {
        let lake = Arc::clone(self);
        let made = tokio::spawn(async move {
            let mut commit = commit;
            let made = lake.commit_workspace(&mut commit).await;
            let WorkspaceCommit { files, .. } = commit;
            // Those that became visible are not among them.
            files.discard().await;
            made
        });
        made.await.unwrap_or_else(|_| {
            Err(LakeError::Internal(
                "a change of a workspace stopped unexpectedly".to_owned(),
            ))
        })
    }

    async fn commit_workspace(&self, commit: &mut WorkspaceCommit) -> Result<i64, LakeError> {
        let _turn = self.turn(&commit.place).await;
        let mark = unique_name(self.now_millis());
        let mut failures = 0;
        let mut merged: Option<Merged> = None;
        for _ in 0..ATTEMPTS {
            let seen = self.workspace(&commit.place).await?;
            let mut files = commit.files.files.iter();
            // An attempt whose answer was lost is known by its mark, or by its files.
            let has_merged = |merged: &&mut Merged| merged.is_in(&seen.state);
            let has_merged = merged.as_mut().filter(has_merged);
            if seen.state.mark == mark
                || has_merged.is_some()
                || files.any(|file| seen.state.has_file(&file.name))
            {
                if let Some(merged) = has_merged {
                    merged.files.keep();
                }
                commit.files.keep();
                return Ok(seen.version.unwrap_or_default());
            }
            let version = seen.version.map_or(0, |version| version + 1);
            let now = self.now_millis();
            let mut next = seen.state.after(version, commit, now)?;
            next.mark.clone_from(&mark);
            if merged.is_none() {
                merged = self.merge_small(commit, &next).await?;
            }
            if let Some(merged) = &merged {
                merged.put_into(&mut next, &commit.table, now);
            }
            if let Some(version) = seen.version {
                next.past.push(Past {
                    version,
                    until: now,
                });
            }
            let (files, states) = next.expire(now, commit.most_bytes);
            let text = serde_json::to_vec(&next)
                .map_err(|error| LakeError::Internal(format!("state of a workspace: {error}")))?;
            let path = self.workspace_log(&commit.place, version)?;
            let only_new = PutOptions::from(PutMode::Create);
            match self.store.put_opts(&path, text.into(), only_new).await {
                Ok(_) => {}
                Err(object_store::Error::AlreadyExists { .. }) => continue,
                Err(error) => {
                    failures += 1;
                    if failures < FAILURES {
                        continue;
                    }
                    // It may have been made: its files must stay.
                    commit.files.keep();
                    return Err(LakeError::storage("change a workspace")(error));
                }
            }
            commit.files.keep();
            if let Some(merged) = &mut merged
                && merged.is_in(&next)
            {
                merged.files.keep();
            }
            let made = Workspace {
                version: Some(version),
                state: Arc::new(next),
            };
            self.remember_workspace(&commit.place, made);
            self.clear_workspace(&commit.place, &files, &states).await?;
            return Ok(version);
        }
        Err(LakeError::Busy {
            table: commit.place.clone(),
        })
    }

    /// Puts the small files of a table that grows together, when they are many. `next` is the state with
    /// the new rows, whose files are small ones too.
    async fn merge_small(
        &self,
        commit: &WorkspaceCommit,
        next: &State,
    ) -> Result<Option<Merged>, LakeError> {
        let (TableChange::Append { .. }, Some(table)) =
            (&commit.change, next.tables.get(&commit.table))
        else {
            return Ok(None);
        };
        let files = table.files.iter().filter(|file| file.bytes < SMALL_BYTES);
        let small: Vec<&StoredFile> = files.collect();
        let rows: u64 = small.iter().map(|file| file.rows).sum();
        if small.len() < MANY_SMALL || rows > SMALL_ROWS {
            return Ok(None);
        }
        let folder = self.workspace_folder(&commit.place)?;
        let columns = table.shown().columns;
        let files = small.iter().map(|file| SmallFile {
            path: folder.clone().join(file.name.as_str()),
            bytes: file.bytes,
            values: Vec::new(),
        });
        let batches = rows_of(
            Arc::clone(&self.store),
            Arc::clone(&columns),
            files.collect(),
        )
        .await
        .map_err(|error| LakeError::Internal(format!("rows of a workspace: {error}")))?;
        let mut writer = self.workspace_writer(&commit.place, columns, None)?;
        for batch in &batches {
            writer.write(batch).await?;
        }
        Ok(Some(Merged {
            of: small.iter().map(|file| file.name.clone()).collect(),
            files: writer.finish().await?,
        }))
    }

    /// Takes away expired files, and leaves of expired states only that they were.
    async fn clear_workspace(
        &self,
        place: &TableName,
        files: &[Gone],
        states: &[Past],
    ) -> Result<(), LakeError> {
        let folder = self.workspace_folder(place)?;
        let paths = files
            .iter()
            .map(|file| folder.clone().join(file.name.as_str()));
        delete(&self.store, paths.collect()).await;
        for past in states {
            let path = self.workspace_log(place, past.version)?;
            if let Err(error) = self.store.put(&path, PutPayload::new()).await {
                tracing::warn!(%path, %error, "a past state of a workspace could not be emptied");
            }
        }
        Ok(())
    }

    /// Finds the newest state by listing the log, and takes away files that nothing names.
    async fn open_workspace(&self, place: &TableName) -> Result<Workspace, LakeError> {
        let folder = self.workspace_folder(place)?;
        let log = folder.clone().join("_log");
        let listed = self
            .store
            .list_with_delimiter(Some(&log))
            .await
            .map_err(LakeError::storage("list a workspace"))?;
        let versions = listed.objects.iter().filter_map(|entry| {
            let name = entry.location.filename()?.strip_suffix(".json")?;
            name.parse::<i64>().ok()
        });
        let Some(version) = versions.max() else {
            return Ok(Workspace::default());
        };
        let Entry::State(state) = self.workspace_entry(place, version).await? else {
            return Err(LakeError::Internal(
                "the newest state of a workspace is missing".to_owned(),
            ));
        };
        let named: HashSet<&str> = state
            .tables
            .values()
            .flat_map(|table| &table.files)
            .map(|file| file.name.as_str())
            .chain(state.gone.iter().map(|file| file.name.as_str()))
            .collect();
        let old = self.now_millis().saturating_sub(ORPHAN_MILLIS);
        let stored = self
            .store
            .list_with_delimiter(Some(&folder))
            .await
            .map_err(LakeError::storage("list a workspace"))?;
        let orphans = stored.objects.into_iter().filter(|file| {
            let name = file.location.filename().unwrap_or_default();
            !named.contains(name) && file.last_modified.timestamp_millis() < old
        });
        delete(&self.store, orphans.map(|file| file.location).collect()).await;
        Ok(Workspace {
            version: Some(version),
            state: Arc::new(*state),
        })
    }

    async fn workspace_entry(&self, place: &TableName, version: i64) -> Result<Entry, LakeError> {
        let path = self.workspace_log(place, version)?;
        let found = match self.store.get(&path).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(Entry::Missing),
            Err(error) => return Err(LakeError::storage("read a workspace")(error)),
        };
        let text = found
            .bytes()
            .await
            .map_err(LakeError::storage("read a workspace"))?;
        if text.is_empty() {
            return Ok(Entry::Past);
        }
        let state: State = serde_json::from_slice(&text).map_err(|error| {
            LakeError::Internal(format!("state {version} of a workspace: {error}"))
        })?;
        if state.format != FORMAT {
            return Err(LakeError::Internal(format!(
                "a workspace has the format {}, which this version does not know",
                state.format
            )));
        }
        Ok(Entry::State(Box::new(state)))
    }

    fn remember_workspace(&self, place: &TableName, workspace: Workspace) {
        let mut known = self
            .workspaces
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let known = known.entry(place.clone()).or_default();
        if known.version <= workspace.version {
            *known = workspace;
        }
    }

    fn workspace_folder(&self, place: &TableName) -> Result<StorePath, LakeError> {
        self.object_path(&format!("{}/{}", place.schema(), place.table()))
    }

    fn workspace_log(&self, place: &TableName, version: i64) -> Result<StorePath, LakeError> {
        let folder = self.workspace_folder(place)?;
        let name = format!("{version:020}.json");
        Ok(folder.join("_log").join(name.as_str()))
    }
}

/// Files that hold the rows of others.
struct Merged {
    of: HashSet<String>,
    files: WorkspaceFiles,
}

impl Merged {
    /// Puts them in the place of the others, if these are all there.
    fn put_into(&self, state: &mut State, table: &str, now: i64) {
        let Some(table) = state.tables.get_mut(table) else {
            return;
        };
        let (old, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut table.files)
            .into_iter()
            .partition(|file| self.of.contains(&file.name));
        table.files = kept;
        if old.len() == self.of.len() {
            table.files.extend(self.files.files.iter().cloned());
            state
                .gone
                .extend(old.into_iter().map(|file| Gone::at(file, now)));
        } else {
            table.files.extend(old);
        }
    }

    fn is_in(&self, state: &State) -> bool {
        let mut files = self.files.files.iter();
        files.any(|file| state.has_file(&file.name))
    }
}

/// One entry of the log.
enum Entry {
    Missing,
    /// It was, and is not kept.
    Past,
    State(Box<State>),
}

/// The columns in which rows with these columns are kept.
///
/// # Errors
/// [`LakeError::WorkspaceColumn`] for a type that is not kept.
pub fn workspace_schema(schema: &Schema) -> Result<SchemaRef, LakeError> {
    let fields = schema.fields().iter().map(|field| {
        let kept = kept_type(field.data_type()).ok_or_else(|| LakeError::WorkspaceColumn {
            column: field.name().clone(),
            reason: format!(
                "has the type {}, which is not kept; cast it to text, or leave it out",
                field.data_type()
            ),
        })?;
        Ok(Field::new(field.name(), kept, true))
    });
    Ok(Arc::new(Schema::new(
        fields.collect::<Result<Vec<_>, _>>()?,
    )))
}

/// Rows in the types in which they are kept, each column found by its name; one that is missing is
/// null.
///
/// # Errors
/// [`LakeError::WorkspaceColumn`] for a value that does not fit.
pub fn workspace_batch(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, LakeError> {
    let exact = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    let columns = schema.fields().iter().map(|field| {
        let Some(column) = batch.column_by_name(field.name()) else {
            return Ok(arrow::array::new_null_array(
                field.data_type(),
                batch.num_rows(),
            ));
        };
        // The message of the cast may hold a value.
        cast_with_options(column, field.data_type(), &exact).map_err(|_| {
            LakeError::WorkspaceColumn {
                column: field.name().clone(),
                reason: format!(
                    "has a value that does not fit the type {}",
                    field.data_type()
                ),
            }
        })
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
        .map_err(|error| LakeError::Internal(format!("rows of a workspace: {error}")))
}

/// The type in which values of a type are kept.
fn kept_type(data_type: &DataType) -> Option<DataType> {
    Some(match data_type {
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64
        | DataType::Utf8
        | DataType::Binary
        | DataType::Date32 => data_type.clone(),
        DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 | DataType::UInt64 => DataType::Int64,
        DataType::Float16 => DataType::Float32,
        DataType::Null | DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            DataType::Binary
        }
        DataType::Date64 => DataType::Date32,
        DataType::Time32(_) | DataType::Time64(TimeUnit::Microsecond) => {
            DataType::Time64(TimeUnit::Microsecond)
        }
        DataType::Time64(_) => DataType::Time64(TimeUnit::Nanosecond),
        DataType::Timestamp(unit, zone) => {
            let unit = match unit {
                TimeUnit::Nanosecond => TimeUnit::Nanosecond,
                _ => TimeUnit::Microsecond,
            };
            DataType::Timestamp(unit, zone.as_ref().map(|_| "UTC".into()))
        }
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale) => DataType::Decimal128(*precision, *scale),
        DataType::Decimal256(precision, scale) if *precision <= 38 => {
            DataType::Decimal128(*precision, *scale)
        }
        DataType::Dictionary(_, values) => kept_type(values)?,
        DataType::RunEndEncoded(_, values) => kept_type(values.data_type())?,
        _ => return None,
    })
}

fn stored_columns(columns: &Schema) -> Result<Vec<StoredColumn>, LakeError> {
    let columns = columns.fields().iter().map(|field| {
        let kind = type_name(field.data_type()).ok_or_else(|| LakeError::WorkspaceColumn {
            column: field.name().clone(),
            reason: format!("has the type {}, which is not kept", field.data_type()),
        })?;
        Ok(StoredColumn {
            name: field.name().clone(),
            kind,
        })
    });
    columns.collect()
}

/// Types by their names in the log.
const TYPES: [(&str, DataType); 12] = [
    ("boolean", DataType::Boolean),
    ("int8", DataType::Int8),
    ("int16", DataType::Int16),
    ("int32", DataType::Int32),
    ("int64", DataType::Int64),
    ("float32", DataType::Float32),
    ("float64", DataType::Float64),
    ("text", DataType::Utf8),
    ("binary", DataType::Binary),
    ("date", DataType::Date32),
    ("time_us", DataType::Time64(TimeUnit::Microsecond)),
    ("time_ns", DataType::Time64(TimeUnit::Nanosecond)),
];

/// Moments by their names in the log: the unit, and whether they have a zone.
const MOMENTS: [(&str, TimeUnit, bool); 4] = [
    ("timestamp_us", TimeUnit::Microsecond, false),
    ("timestamp_ns", TimeUnit::Nanosecond, false),
    ("timestamp_us_utc", TimeUnit::Microsecond, true),
    ("timestamp_ns_utc", TimeUnit::Nanosecond, true),
];

fn type_name(data_type: &DataType) -> Option<String> {
    if let Some((name, _)) = TYPES.iter().find(|(_, known)| known == data_type) {
        return Some((*name).to_owned());
    }
    match data_type {
        DataType::Decimal128(precision, scale) => Some(format!("decimal({precision},{scale})")),
        DataType::Timestamp(unit, zone) => MOMENTS
            .iter()
            .find(|(_, known, zoned)| known == unit && *zoned == zone.is_some())
            .map(|(name, _, _)| (*name).to_owned()),
        _ => None,
    }
}

fn type_named(name: &str) -> Option<DataType> {
    if let Some((_, data_type)) = TYPES.iter().find(|(known, _)| *known == name) {
        return Some(data_type.clone());
    }
    if let Some((_, unit, zoned)) = MOMENTS.iter().find(|(known, _, _)| *known == name) {
        return Some(DataType::Timestamp(*unit, zoned.then(|| "UTC".into())));
    }
    let (precision, scale) = name
        .strip_prefix("decimal(")?
        .strip_suffix(')')?
        .split_once(',')?;
    Some(DataType::Decimal128(
        precision.parse().ok()?,
        scale.parse().ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use arrow::array::{ArrayRef, Int64Array};
    use datafusion::physical_plan::collect;
    use datafusion::prelude::SessionContext;
    use tietopohja_domain::{Clock, Timestamp};

    use super::*;

    #[derive(Debug)]
    struct Ticking(AtomicI64);

    impl Clock for Ticking {
        fn now(&self) -> Timestamp {
            Timestamp::from_millisecond(self.0.load(Ordering::SeqCst)).unwrap()
        }
    }

    struct House {
        lake: Arc<Lake>,
        clock: Arc<Ticking>,
        folder: tempfile::TempDir,
    }

    impl House {
        fn new() -> House {
            let folder = tempfile::tempdir().unwrap();
            let clock = Arc::new(Ticking(AtomicI64::new(1_700_000_000_000)));
            let lake = Lake::open(folder.path(), clock.clone()).unwrap();
            House {
                lake: Arc::new(lake),
                clock,
                folder,
            }
        }

        async fn rows(&self, values: &[i64]) -> WorkspaceFiles {
            let batch = batch(values);
            let mut writer = self
                .lake
                .workspace_writer(&place(), batch.schema(), None)
                .unwrap();
            writer.write(&batch).await.unwrap();
            writer.finish().await.unwrap()
        }

        async fn change(
            &self,
            table: &str,
            change: TableChange,
            values: &[i64],
        ) -> Result<i64, LakeError> {
            let commit = WorkspaceCommit {
                place: place(),
                owner: "aino".to_owned(),
                table: table.to_owned(),
                change,
                files: self.rows(values).await,
                most_bytes: Some(500_000),
            };
            self.lake.change_workspace(commit).await
        }

        async fn create(
            &self,
            table: &str,
            replace: bool,
            values: &[i64],
        ) -> Result<i64, LakeError> {
            let columns = batch(&[]).schema();
            self.change(table, TableChange::Create { columns, replace }, values)
                .await
        }

        async fn read(&self, workspace: &Workspace, table: &str) -> Option<Vec<i64>> {
            let rows = self
                .lake
                .workspace_rows(&place(), workspace, table)
                .unwrap()?;
            #[expect(clippy::disallowed_methods, reason = "no session is near")]
            let context = SessionContext::new();
            let state = context.state();
            let plan = rows.scan(&state, None, &[], None).await.unwrap();
            let batches = collect(plan, context.task_ctx()).await.unwrap();
            let mut values: Vec<i64> = batches
                .iter()
                .flat_map(|batch| {
                    let column = batch.column(0).as_any();
                    let numbers = column.downcast_ref::<Int64Array>().unwrap();
                    numbers.values().to_vec()
                })
                .collect();
            values.sort_unstable();
            Some(values)
        }

        async fn now(&self, table: &str) -> Option<Vec<i64>> {
            let workspace = self.lake.workspace(&place()).await.unwrap();
            self.read(&workspace, table).await
        }

        fn files(&self) -> usize {
            let folder = self.folder.path().join("workspace/w1");
            let files = std::fs::read_dir(folder).unwrap();
            files
                .filter(|file| {
                    let name = file.as_ref().unwrap().file_name();
                    name.to_string_lossy().ends_with(".parquet")
                })
                .count()
        }
    }

    fn place() -> TableName {
        TableName::new(WORKSPACES, "w1").unwrap()
    }

    fn batch(values: &[i64]) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int64Array::from(values.to_vec()));
        RecordBatch::try_from_iter_with_nullable([("n", column, true)]).unwrap()
    }

    #[tokio::test]
    async fn tables_are_made_added_to_rewritten_and_dropped() {
        let house = House::new();
        assert_eq!(house.now("t").await, None);
        let id = house.create("t", false, &[1]).await.unwrap();
        let there = house.create("t", false, &[9]).await.unwrap_err();
        assert!(
            matches!(there, LakeError::WorkspaceTableThere(_)),
            "{there}"
        );
        let changed = house.change("t", TableChange::Append { id }, &[2]).await;
        let changed = changed.unwrap();
        assert_eq!(house.now("t").await, Some(vec![1, 2]));
        let stale = TableChange::Rewrite { id, changed: id };
        let busy = house.change("t", stale, &[7]).await.unwrap_err();
        assert!(matches!(busy, LakeError::Busy { .. }), "{busy}");
        let change = TableChange::Rewrite { id, changed };
        house.change("t", change, &[3]).await.unwrap();
        assert_eq!(house.now("t").await, Some(vec![3]));
        let other = house.create("t", true, &[4]).await.unwrap();
        assert_ne!(other, id);
        let gone = house.change("t", TableChange::Append { id }, &[5]).await;
        assert!(matches!(gone, Err(LakeError::WorkspaceTableGone(_))));
        house
            .change("t", TableChange::Drop { id: other }, &[])
            .await
            .unwrap();
        assert_eq!(house.now("t").await, None);
    }

    #[tokio::test]
    async fn a_refused_change_leaves_no_files() {
        let house = House::new();
        house.create("t", false, &[1]).await.unwrap();
        house.create("t", false, &[2]).await.unwrap_err();
        assert_eq!(house.files(), 1);
        let wide = |n: i64| n.wrapping_mul(-7_046_029_254_386_353_131);
        let rows: Vec<i64> = (0..200_000).map(wide).collect();
        let full = house.create("large", false, &rows).await.unwrap_err();
        assert!(matches!(full, LakeError::WorkspaceFull), "{full}");
        assert_eq!(house.files(), 1);
        let mut writer = house
            .lake
            .workspace_writer(&place(), batch(&[]).schema(), Some(100))
            .unwrap();
        writer.write(&batch(&rows)).await.unwrap();
        let full = writer.finish().await.unwrap_err();
        assert!(matches!(full, LakeError::WorkspaceFull), "{full}");
        assert_eq!(house.files(), 1);
    }

    #[tokio::test]
    async fn a_past_state_is_read_until_it_is_old_and_then_its_files_go() {
        let house = House::new();
        let id = house.create("t", false, &[1]).await.unwrap();
        house
            .change("t", TableChange::Rewrite { id, changed: id }, &[2])
            .await
            .unwrap();
        let past = house.lake.workspace_at(&place(), Some(id)).await.unwrap();
        assert_eq!(house.read(&past.unwrap(), "t").await, Some(vec![1]));
        assert_eq!(house.files(), 2);
        house.clock.0.fetch_add(KEPT_MILLIS + 1, Ordering::SeqCst);
        house.create("u", false, &[3]).await.unwrap();
        assert_eq!(house.files(), 2, "of `t` and of `u`");
        // The state that the last change replaced is kept, the one before is not.
        let past = house.lake.workspace_at(&place(), Some(id)).await.unwrap();
        assert!(past.is_none());
        // Who opens the folder anew finds the same.
        let again = Lake::open(house.folder.path(), house.clock.clone()).unwrap();
        let found = again.workspace(&place()).await.unwrap();
        assert_eq!(found.version(), Some(2));
        assert_eq!(house.read(&found, "t").await, Some(vec![2]));
    }

    #[tokio::test]
    async fn the_past_has_no_more_room_than_the_tables() {
        let house = House::new();
        let wide = |n: i64| n.wrapping_mul(-7_046_029_254_386_353_131);
        let rows: Vec<i64> = (0..20_000).map(wide).collect();
        for _ in 0..8 {
            house.clock.0.fetch_add(1, Ordering::SeqCst);
            house.create("t", true, &rows).await.unwrap();
        }
        // A file has more than 100 000 bytes, of 500 000: one of the table, at most four of the past.
        assert!((3..=5).contains(&house.files()), "{}", house.files());
        let past = house.lake.workspace_at(&place(), Some(0)).await.unwrap();
        assert!(past.is_none());
        let past = house.lake.workspace_at(&place(), Some(6)).await.unwrap();
        assert_eq!(house.read(&past.unwrap(), "t").await.unwrap().len(), 20_000);
    }

    #[tokio::test]
    async fn two_processes_make_changes_one_after_another() {
        let house = House::new();
        let other = Lake::open(house.folder.path(), house.clock.clone()).unwrap();
        let id = house.create("t", false, &[0]).await.unwrap();
        let seen = other.workspace(&place()).await.unwrap();
        assert_eq!(seen.version(), Some(id));
        for n in 1..=(KEPT_STATES as i64 + 10) {
            house
                .change("t", TableChange::Append { id }, &[n])
                .await
                .unwrap();
        }
        let seen = other.workspace(&place()).await.unwrap();
        let table = seen.table("t").unwrap();
        assert_eq!(table.rows, KEPT_STATES as u64 + 11);
        assert!(table.files < MANY_SMALL, "{} files", table.files);
        let all: Vec<i64> = (0..=(KEPT_STATES as i64 + 10)).collect();
        assert_eq!(house.read(&seen, "t").await, Some(all));
    }

    #[tokio::test]
    async fn workspaces_are_no_tables_of_the_warehouse() {
        let house = House::new();
        house.create("t", false, &[1]).await.unwrap();
        assert_eq!(house.lake.tables().await.unwrap(), []);
    }

    #[test]
    fn every_kept_type_has_a_name() {
        for data_type in [
            DataType::Null,
            DataType::UInt64,
            DataType::Float16,
            DataType::LargeUtf8,
            DataType::FixedSizeBinary(3),
            DataType::Date64,
            DataType::Time32(TimeUnit::Second),
            DataType::Time64(TimeUnit::Nanosecond),
            DataType::Timestamp(TimeUnit::Second, None),
            DataType::Timestamp(TimeUnit::Nanosecond, Some("+02:00".into())),
            DataType::Decimal32(5, 2),
            DataType::Decimal128(38, 10),
            DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8View)),
        ] {
            let kept = kept_type(&data_type).unwrap();
            assert_eq!(kept_type(&kept).as_ref(), Some(&kept), "{data_type}");
            let name = type_name(&kept).unwrap();
            assert_eq!(type_named(&name), Some(kept), "{data_type}");
        }
        for data_type in [
            DataType::new_list(DataType::Int8, true),
            DataType::Decimal256(76, 0),
            DataType::Duration(TimeUnit::Second),
        ] {
            assert_eq!(kept_type(&data_type), None, "{data_type}");
        }
    }
}
