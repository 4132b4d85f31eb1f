//! What a table's log says at one version: its files, and who has committed.
//!
//! A log is read from its last checkpoint on, here where it is as ours are (`log.rs`) and by the table
//! format layer otherwise, and each reading costs as much as the table has files. So a table is read
//! once; from then on the commits that follow are applied one by one, our own without reading them.
//! Columns and protocol are taken from the reading alone: a commit that changes them makes the table be
//! read anew. What may not live here: storage, and what to commit. To keep more of the log: a field, and
//! its line in [`TableState::after`].

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use deltalake_core::DeltaTable;
use deltalake_core::kernel::engine::arrow_conversion::TryIntoArrow;
use deltalake_core::kernel::{Action, Add, EagerSnapshot, LogicalFileView, Remove, StructType};
use serde::Deserialize;

use crate::{LakeError, Slice, TableName};

/// A table at a version. Cheap to follow commit by commit, and never changed in place: who holds
/// one sees the same files for as long as it is held.
#[derive(Clone)]
pub(crate) struct TableState {
    name: TableName,
    /// The table as the format layer read it, unless the log was read here.
    read: Option<DeltaTable>,
    read_at: i64,
    version: i64,
    columns: Columns,
    partition_columns: Arc<[String]>,
    files: BTreeMap<Arc<str>, Arc<TableFile>>,
    /// The newest version of each application that committed after `read_at`; where the log was read
    /// here, of each that ever did.
    transactions: HashMap<Arc<str>, i64>,
}

/// What holds of a table until it is read anew.
#[derive(Clone)]
struct Columns {
    id: Arc<str>,
    columns: Arc<StructType>,
    arrow: SchemaRef,
    /// False where a later protocol may give actions a meaning that is not known here.
    may_follow: bool,
}

impl std::fmt::Debug for TableState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TableState")
            .field("table", &self.name.to_string())
            .field("version", &self.version)
            .field("files", &self.files.len())
            .finish_non_exhaustive()
    }
}

/// A file of a table.
#[derive(Debug)]
pub(crate) struct TableFile {
    /// The action that would take it out again.
    remove: Remove,
    rows: Option<usize>,
    /// The integer values of the table's partition columns; anything else is `None`.
    values: Vec<Option<i32>>,
}

impl TableFile {
    /// The file's place in the table's folder.
    pub(crate) fn path(&self) -> &str {
        &self.remove.path
    }

    /// Its name without folders.
    pub(crate) fn file_name(&self) -> &str {
        self.path().rsplit('/').next().unwrap_or_default()
    }

    pub(crate) fn bytes(&self) -> Option<u64> {
        self.remove.size.and_then(|size| size.try_into().ok())
    }

    /// Its rows, where the log tells.
    pub(crate) fn rows(&self) -> Option<usize> {
        self.rows
    }

    /// Values of the partition columns, in the table's order.
    pub(crate) fn values(&self) -> &[Option<i32>] {
        &self.values
    }

    /// What tells its rows from those of any other file, ever: the place, which is used once, and
    /// the list of deleted rows, if there is one.
    pub(crate) fn identity(&self) -> String {
        match &self.remove.deletion_vector {
            None => self.path().to_owned(),
            Some(list) => format!(
                "{}#{}@{}",
                self.path(),
                list.path_or_inline_dv,
                list.offset.unwrap_or_default()
            ),
        }
    }

    /// True when some of its rows are deleted by a list beside the file.
    pub(crate) fn has_deleted_rows(&self) -> bool {
        self.remove.deletion_vector.is_some()
    }

    /// The action that takes the file out of the table.
    pub(crate) fn removed_at(&self, millis: i64) -> Remove {
        Remove {
            deletion_timestamp: Some(millis),
            ..self.remove.clone()
        }
    }

    fn new(remove: Remove, rows: Option<usize>, partition_columns: &[String]) -> TableFile {
        let texts = remove.partition_values.as_ref();
        let values = partition_columns
            .iter()
            .map(|column| texts?.get(column)?.as_ref()?.parse().ok())
            .collect();
        TableFile {
            remove,
            rows,
            values,
        }
    }

    fn listed(file: &LogicalFileView, partition_columns: &[String]) -> TableFile {
        TableFile::new(
            file.remove_action(true),
            file.num_records(),
            partition_columns,
        )
    }

    fn added(add: &Add, partition_columns: &[String]) -> TableFile {
        /// The one statistic that is used.
        #[derive(Deserialize)]
        struct Statistics {
            #[serde(rename = "numRecords")]
            rows: Option<usize>,
        }
        let rows = add
            .stats
            .as_ref()
            .and_then(|stats| serde_json::from_str::<Statistics>(stats).ok()?.rows);
        let remove = Remove {
            path: add.path.clone(),
            data_change: true,
            deletion_timestamp: None,
            extended_file_metadata: Some(true),
            partition_values: Some(add.partition_values.clone()),
            size: Some(add.size),
            tags: None,
            deletion_vector: add.deletion_vector.clone(),
            base_row_id: None,
            default_row_commit_version: None,
        };
        TableFile::new(remove, rows, partition_columns)
    }
}

/// A slice by the places of its columns among the table's partition columns.
struct Places(Vec<(usize, i32)>);

impl Places {
    fn hold(&self, file: &TableFile) -> bool {
        self.0
            .iter()
            .all(|(place, value)| file.values.get(*place).copied().flatten() == Some(*value))
    }
}

impl TableState {
    /// Takes over what the format layer read.
    pub(crate) fn read(name: &TableName, read: DeltaTable) -> Result<TableState, LakeError> {
        let snapshot = read
            .snapshot()
            .map_err(LakeError::delta(name, "read the log of"))?
            .snapshot();
        let version = snapshot.version() as i64;
        let protocol = snapshot.protocol();
        let columns = Columns {
            id: snapshot.metadata().id().into(),
            columns: snapshot.schema(),
            arrow: snapshot.arrow_schema(),
            may_follow: protocol.min_reader_version() <= 1 && protocol.min_writer_version() <= 6,
        };
        let partition_columns: Arc<[String]> =
            snapshot.metadata().partition_columns().to_vec().into();
        let files = snapshot
            .log_data()
            .into_iter()
            .map(|file| Arc::new(TableFile::listed(&file, &partition_columns)))
            .map(|file| (Arc::from(file.path()), file))
            .collect();
        Ok(TableState {
            name: name.clone(),
            read: Some(read),
            read_at: version,
            version,
            columns,
            partition_columns,
            files,
            transactions: HashMap::new(),
        })
    }

    /// What a log says that was read here; `None` when a type of its columns is not known.
    pub(crate) fn of_log<'a>(
        name: &TableName,
        version: i64,
        (id, columns): (String, Arc<StructType>),
        partition_columns: Arc<[String]>,
        files: impl Iterator<Item = &'a Add>,
        transactions: HashMap<Arc<str>, i64>,
    ) -> Option<TableState> {
        let arrow: Schema = columns.as_ref().try_into_arrow().ok()?;
        let files = files
            .map(|add| Arc::new(TableFile::added(add, &partition_columns)))
            .map(|file| (Arc::from(file.path()), file))
            .collect();
        Some(TableState {
            name: name.clone(),
            read: None,
            read_at: version,
            version,
            columns: Columns {
                id: id.into(),
                columns,
                arrow: Arc::new(arrow),
                may_follow: true,
            },
            partition_columns,
            files,
            transactions,
        })
    }

    /// The table as the format layer read it, at this version or an earlier one; `None` when the log was
    /// read here.
    pub(crate) fn table(&self) -> Option<&DeltaTable> {
        self.read.as_ref()
    }

    /// The reading of the format layer behind this state, if it is one. Its columns and protocol hold;
    /// its files may be older.
    pub(crate) fn snapshot(&self) -> Result<Option<&EagerSnapshot>, LakeError> {
        let Some(read) = &self.read else {
            return Ok(None);
        };
        let snapshot = read.snapshot();
        let snapshot = snapshot.map_err(LakeError::delta(&self.name, "read the log of"))?;
        Ok(Some(snapshot.snapshot()))
    }

    /// The id that the table got when it was made.
    pub(crate) fn table_id(&self) -> &str {
        &self.columns.id
    }

    /// The columns, partition columns included.
    pub(crate) fn columns(&self) -> &StructType {
        &self.columns.columns
    }

    /// The same as Arrow knows them.
    pub(crate) fn arrow_schema(&self) -> &SchemaRef {
        &self.columns.arrow
    }

    /// The version up to which the log was read.
    pub(crate) fn read_at(&self) -> i64 {
        self.read_at
    }

    pub(crate) fn version(&self) -> i64 {
        self.version
    }

    pub(crate) fn partition_columns(&self) -> &[String] {
        &self.partition_columns
    }

    pub(crate) fn files(&self) -> impl Iterator<Item = &Arc<TableFile>> {
        self.files.values()
    }

    /// The files of any of the slices.
    pub(crate) fn files_of<'a>(
        &'a self,
        slices: &[Slice],
    ) -> impl Iterator<Item = &'a Arc<TableFile>> + use<'a> {
        let places: Vec<Places> = slices
            .iter()
            .filter_map(|slice| self.places(slice))
            .collect();
        self.files
            .values()
            .filter(move |file| places.iter().any(|places| places.hold(file)))
    }

    /// The files of a slice that are not in another.
    pub(crate) fn files_between<'a>(
        &'a self,
        within: &Slice,
        except: Option<&Slice>,
    ) -> impl Iterator<Item = &'a Arc<TableFile>> + use<'a> {
        let except = except.and_then(|slice| self.places(slice));
        self.files_of(std::slice::from_ref(within))
            .filter(move |file| !except.as_ref().is_some_and(|places| places.hold(file)))
    }

    pub(crate) fn has_file(&self, path: &str) -> bool {
        self.files.contains_key(path)
    }

    /// What an application committed after `read_at`; where the log was read here, ever.
    pub(crate) fn transaction(&self, application: &str) -> Option<i64> {
        self.transactions.get(application).copied()
    }

    /// `None` for a slice by a column that the table is not partitioned by: no file is in it.
    fn places(&self, slice: &Slice) -> Option<Places> {
        slice
            .columns()
            .iter()
            .map(|(column, value)| {
                let place = self
                    .partition_columns
                    .iter()
                    .position(|name| name == column)?;
                Some((place, *value))
            })
            .collect::<Option<_>>()
            .map(Places)
    }

    /// The state after the commit that follows, from the commit's text; `None` when that changes
    /// more than files, or says what is not known here: then the table must be read anew.
    pub(crate) fn after_text(&self, commit: &[u8]) -> Option<TableState> {
        self.after(&actions_of(commit)?)
    }

    /// The state after the commit that follows, from its actions.
    pub(crate) fn after(&self, actions: &[Action]) -> Option<TableState> {
        if !self.columns.may_follow {
            return None;
        }
        let mut next = self.clone();
        next.version += 1;
        // A file may be taken out and put back by one commit; then it stays.
        for action in actions {
            if let Action::Remove(remove) = action {
                next.files.remove(remove.path.as_str());
            }
        }
        for action in actions {
            match action {
                Action::Add(add) if add.deletion_vector.is_some() => return None,
                Action::Add(add) => {
                    let file = TableFile::added(add, &self.partition_columns);
                    next.files.insert(Arc::from(file.path()), Arc::new(file));
                }
                Action::Txn(transaction) => {
                    next.transactions
                        .insert(Arc::from(transaction.app_id.as_str()), transaction.version);
                }
                Action::Remove(_) | Action::CommitInfo(_) | Action::Cdc(_) => {}
                Action::Metadata(_) | Action::Protocol(_) | Action::DomainMetadata(_) => {
                    return None;
                }
            }
        }
        Some(next)
    }
}

/// The actions of a commit's text; `None` when one of them is unknown.
pub(crate) fn actions_of(commit: &[u8]) -> Option<Vec<Action>> {
    serde_json::Deserializer::from_slice(commit)
        .into_iter::<Action>()
        .collect::<Result<_, _>>()
        .ok()
}
