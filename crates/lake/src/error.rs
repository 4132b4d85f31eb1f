//! What can go wrong with tables at rest, sorted by what the caller does next.

use std::error::Error;
use std::io;

use object_store::path::Path;

use crate::TableName;

/// How the store of the library calls this machine's file system in its errors.
pub(crate) const LOCAL: &str = "LocalFileSystem";

/// An error of the lake. Messages name tables and files, never row values.
#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    /// The table does not exist (at that version).
    #[error("table `{table}` does not exist{}", version.map(|v| format!(" at version {v}")).unwrap_or_default())]
    NotFound {
        /// The table asked for.
        table: TableName,
        /// The version asked for.
        version: Option<i64>,
    },
    /// The table's columns and the rows given do not fit together.
    #[error("table `{table}` has other columns: {detail}")]
    Schema {
        /// The table.
        table: TableName,
        /// Which columns differ.
        detail: String,
    },
    /// Two ledgers gave the same revision to different bytes: nothing was overwritten.
    #[error(
        "delivery `{delivery}` revision {revision} is already held by other content; nothing was changed: find out who else lands into this lake before trying again"
    )]
    RevisionTaken {
        /// Delivery key as shown to users.
        delivery: String,
        /// The disputed revision.
        revision: i64,
    },
    /// Another writer kept winning.
    #[error("table `{table}` is being changed by others; nothing was changed: try again")]
    Busy {
        /// The contended table.
        table: TableName,
    },
    /// A name that cannot be a table name.
    #[error("`{0}` is not a table name: use lower-case letters, digits and `_`")]
    TableName(String),
    /// The place cannot be used as a lake.
    #[error("cannot use `{place}` as a lake: {reason}")]
    Place {
        /// Path or address.
        place: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The table format layer failed.
    #[error("table `{table}`: {what}")]
    Delta {
        /// The table.
        table: String,
        /// What was being done.
        what: &'static str,
        /// The cause.
        #[source]
        source: Box<deltalake_core::DeltaTableError>,
    },
    /// Storage failed.
    #[error("storage: {what}")]
    Storage {
        /// What was being done.
        what: &'static str,
        /// The cause.
        #[source]
        source: Box<object_store::Error>,
    },
    /// Encoding or decoding Parquet failed.
    #[error("parquet: {what}")]
    Parquet {
        /// What was being done.
        what: &'static str,
        /// The cause.
        #[source]
        source: Box<parquet::errors::ParquetError>,
    },
    /// A data file cannot be read.
    #[error("the file `{file}` of the lake cannot be read: {}", next_step(file, *may_pass))]
    DataFile {
        /// Its path from the lake's folder on.
        file: String,
        /// Whether storage failed, which says nothing of the file.
        may_pass: bool,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A workspace has a table of the name.
    #[error("the table `{0}` exists already")]
    WorkspaceTableThere(String),
    /// A workspace has no such table, or another one of its name.
    #[error("the table `{0}` is not there any more")]
    WorkspaceTableGone(String),
    /// A workspace has no room.
    #[error("the tables would take more room than they may")]
    WorkspaceFull,
    /// A workspace has too many tables.
    #[error("a workspace has at most {0} tables")]
    WorkspaceTables(usize),
    /// A column cannot be kept in a workspace.
    #[error("the column `{column}` {reason}")]
    WorkspaceColumn {
        /// The column.
        column: String,
        /// Why, without values.
        reason: String,
    },
    /// A broken promise inside the lake; the text says which.
    #[error("the lake is not as it should be: {0}")]
    Internal(String),
}

impl LakeError {
    pub(crate) fn delta(
        table: &TableName,
        what: &'static str,
    ) -> impl FnOnce(deltalake_core::DeltaTableError) -> Self {
        let table = table.to_string();
        move |source| LakeError::Delta {
            table,
            what,
            source: Box::new(source),
        }
    }

    pub(crate) fn storage(what: &'static str) -> impl FnOnce(object_store::Error) -> Self {
        move |source| LakeError::Storage {
            what,
            source: Box::new(source),
        }
    }

    pub(crate) fn parquet(
        what: &'static str,
    ) -> impl FnOnce(parquet::errors::ParquetError) -> Self {
        move |source| LakeError::Parquet {
            what,
            source: Box::new(source),
        }
    }

    /// A data file that cannot be read, by its path in the store.
    pub(crate) fn data_file(
        path: &Path,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        let source = source.into();
        LakeError::DataFile {
            file: from_schema_on(path),
            may_pass: is_of_storage(source.as_ref()),
            source,
        }
    }
}

/// Whether storage failed, and not because there is no such object, or less of it than there should be.
fn is_of_storage(error: &(dyn Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |error| (*error).source());
    let found = causes.find_map(|error| {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            let is_of_file = [io::ErrorKind::NotFound, io::ErrorKind::UnexpectedEof];
            return Some(!is_of_file.contains(&error.kind()));
        }
        let boxed = error.downcast_ref::<Box<object_store::Error>>();
        let error = boxed.map_or_else(|| error.downcast_ref(), |error| Some(error.as_ref()));
        match error? {
            object_store::Error::NotFound { .. } => Some(false),
            // A file of this machine, of which the cause is told behind it, if there is one.
            object_store::Error::Generic { store, source } if *store == LOCAL => {
                Some(is_of_storage(source.as_ref()))
            }
            _ => Some(true),
        }
    });
    found.unwrap_or(false)
}

/// The path of a data file from its table's schema on: there are schema, table, a folder for each partition
/// column and the file's name.
fn from_schema_on(path: &Path) -> String {
    let parts: Vec<_> = path.parts().collect();
    let folders = parts.iter().rev().skip(1);
    let values = folders.take_while(|part| part.as_ref().contains('='));
    let own = 3 + values.count();
    let own = parts.iter().skip(parts.len().saturating_sub(own));
    own.map(AsRef::as_ref).collect::<Vec<&str>>().join("/")
}

/// What may be wrong with a data file that cannot be read, and what to do about it.
fn next_step(file: &str, may_pass: bool) -> String {
    let wrong = "it may be missing, cut off or damaged";
    let mut parts = file.split('/');
    match (may_pass, parts.next(), parts.next()) {
        (true, ..) => "the storage failed; try again, then look at the storage".to_owned(),
        (false, Some("fact"), Some(table)) => format!(
            "{wrong}; stop what runs on the lake and take the folder `fact/{table}` out of it: the next calculation makes it anew from what has landed"
        ),
        _ => format!("{wrong}; bring it back from a copy of the lake"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_file_is_named_from_the_lake_on_with_the_next_step() {
        for (path, name, next) in [
            (
                "home/a/lake/fact/visit_0a/county=5/delivery_year=2025/part-1.parquet",
                "`fact/visit_0a/county=5/delivery_year=2025/part-1.parquet`",
                "take the folder `fact/visit_0a` out",
            ),
            (
                "lake/raw/visit/part-1.parquet",
                "`raw/visit/part-1.parquet`",
                "from a copy",
            ),
            ("part-1.parquet", "`part-1.parquet`", "from a copy"),
        ] {
            let error = LakeError::data_file(&Path::from(path), "no footer").to_string();
            assert!(error.contains(&format!("the file {name} of")), "{error}");
            assert!(error.contains(next), "{error}");
        }
    }

    #[test]
    fn what_may_pass_is_not_taken_for_damage() {
        use datafusion::common::DataFusionError;
        use parquet::errors::ParquetError;

        let of_io = |kind: io::ErrorKind| object_store::Error::Generic {
            store: LOCAL,
            source: Box::new(io::Error::from(kind)),
        };
        let of_network = || object_store::Error::Generic {
            store: "S3",
            source: "timed out".into(),
        };
        let missing = || object_store::Error::NotFound {
            path: "x".to_owned(),
            source: "x".into(),
        };
        let denied = || object_store::Error::PermissionDenied {
            path: "x".to_owned(),
            source: Box::new(io::Error::from(io::ErrorKind::PermissionDenied)),
        };
        let damaged = || ParquetError::General("no footer".to_owned());
        let cases: [(Box<dyn Error + Send + Sync>, bool); 14] = [
            (Box::new(of_network()), true),
            (Box::new(denied()), true),
            (Box::new(missing()), false),
            (Box::new(of_io(io::ErrorKind::UnexpectedEof)), false),
            (Box::new(of_io(io::ErrorKind::Other)), true),
            (Box::new(damaged()), false),
            (Box::new(LakeError::storage("x")(of_network())), true),
            (Box::new(LakeError::storage("x")(missing())), false),
            (Box::new(LakeError::parquet("x")(damaged())), false),
            (Box::new(DataFusionError::from(of_network())), true),
            (Box::new(DataFusionError::from(missing())), false),
            (Box::new(DataFusionError::from(damaged())), false),
            (
                Box::new(ParquetError::External(Box::new(of_network()))),
                true,
            ),
            (Box::new(ParquetError::External(Box::new(missing()))), false),
        ];
        for (cause, may_pass) in cases {
            let shown = cause.to_string();
            let path = Path::from("lake/fact/visit_0a/part-1.parquet");
            let error = LakeError::data_file(&path, cause).to_string();
            assert_eq!(error.contains("try again"), may_pass, "{shown}: {error}");
            assert_eq!(
                error.contains("take the folder"),
                !may_pass,
                "{shown}: {error}"
            );
        }
    }
}
