//! One error type, sorted by what the reader does next: fix the request, ask for access, give more
//! room, retry, or call the people who run the warehouse.
//!
//! The planner's and the runtime's own messages pass through here, and only here, on their way out.
//! A message that the planner makes about the text of a query is cleaned and kept; a message that
//! execution makes may hold values of rows (a cast says what it could not cast), so it is replaced
//! by a general sentence. To add a kind: a variant, its place in [`EngineError::from_datafusion`],
//! and a line in the tests below. Details for the log are in [`std::error::Error::source`]; they can
//! hold row values and must not be shown or logged above `debug`.

use std::fmt;

use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use tietopohja_domain::{Problem, render_problems};
use tietopohja_kernels::Refusal;
use tietopohja_lake::LakeError;

/// Why the engine did not answer.
#[derive(Debug)]
pub enum EngineError {
    /// The query cannot be answered as it is written. Next: change the query.
    UserSql {
        /// What is wrong, without row values.
        message: String,
    },
    /// Files that analysts write have problems. Next: change the named lines.
    Definitions {
        /// Every problem found, each with its file and line.
        problems: Vec<Problem>,
    },
    /// The named indicator, value or table does not exist, or not for this principal. Next: look at
    /// the list that the message names.
    NotFound {
        /// What was not found, and where to look.
        message: String,
    },
    /// The principal may not do this. Next: ask for access.
    Denied {
        /// What is not allowed, to whom.
        message: String,
    },
    /// The query needs more memory or disk than it may use. Next: ask for less, or raise the limit.
    Resource {
        /// Which limit, and what to do.
        message: String,
    },
    /// The statement ran longer than it may. Next: ask for less, or raise the limit.
    Timeout {
        /// The limit.
        seconds: u64,
    },
    /// The tables at rest could not be read or written. Next: retry, then look at the storage.
    Lake {
        /// What was being done.
        message: String,
        /// The storage's own error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Our mistake. Next: report it.
    Internal {
        /// What was being done, without row values.
        message: String,
        /// The cause, for the log.
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}

/// The short result type of this crate.
pub type Result<T, E = EngineError> = std::result::Result<T, E>;

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EngineError::UserSql { message }
            | EngineError::NotFound { message }
            | EngineError::Denied { message }
            | EngineError::Resource { message }
            | EngineError::Lake { message, source: _ }
            | EngineError::Internal { message, source: _ } => f.write_str(message),
            EngineError::Definitions { problems } => f.write_str(&render_problems(problems)),
            EngineError::Timeout { seconds } => write!(
                f,
                "the statement was stopped after {seconds} s, the longest that one may run; \
                 narrow it, or raise the statement timeout"
            ),
        }
    }
}

impl std::error::Error for EngineError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            EngineError::Lake { source, .. } => Some(source.as_ref()),
            EngineError::Internal {
                source: Some(source),
                ..
            } => Some(source.as_ref()),
            _ => None,
        }
    }
}

impl From<DataFusionError> for EngineError {
    fn from(error: DataFusionError) -> Self {
        EngineError::from_datafusion(error)
    }
}

impl From<EngineError> for DataFusionError {
    fn from(error: EngineError) -> Self {
        DataFusionError::External(Box::new(error))
    }
}

impl EngineError {
    /// An error of ours, with nothing below it.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        EngineError::Internal {
            message: message.into(),
            source: None,
        }
    }

    /// An error of ours with its cause.
    pub(crate) fn internal_because(
        message: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        EngineError::Internal {
            message: message.into(),
            source: Some(source.into()),
        }
    }

    /// A failure of the tables at rest.
    pub(crate) fn lake(
        message: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        let source = source.into();
        data_file(source.as_ref()).unwrap_or_else(|| EngineError::Lake {
            message: message.into(),
            source,
        })
    }

    /// Sorts an error of the query engine. An [`EngineError`] that travelled inside a stream comes
    /// back as itself.
    pub fn from_datafusion(error: DataFusionError) -> Self {
        match error {
            DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => {
                Self::from_datafusion(*inner)
            }
            DataFusionError::Collection(errors) => match errors.into_iter().next() {
                Some(first) => Self::from_datafusion(first),
                None => Self::internal("the query failed without saying why"),
            },
            DataFusionError::Shared(shared) => Self::from_shared(&shared),
            DataFusionError::External(source) => Self::from_external(source),
            DataFusionError::ArrowError(error, _) => Self::from_arrow(*error),
            DataFusionError::ResourcesExhausted(detail) => Self::exhausted(&detail),
            DataFusionError::Plan(message) => Self::user(clean(&message)),
            DataFusionError::SchemaError(error, _) => Self::user(clean(&error.to_string())),
            DataFusionError::SQL(error, _) => Self::user(format!(
                "the SQL text could not be read: {}",
                clean(&error.to_string())
            )),
            DataFusionError::NotImplemented(message) => {
                Self::user(format!("this SQL is not supported: {}", clean(&message)))
            }
            DataFusionError::Execution(_) => Self::user(ROW_FAILED),
            DataFusionError::ParquetError(error) => Self::lake(CANNOT_READ, error),
            DataFusionError::ObjectStore(error) => Self::lake(CANNOT_READ, error),
            DataFusionError::IoError(error) if is_spill_limit(&error) => {
                Self::exhausted(&error.to_string())
            }
            DataFusionError::IoError(error) => {
                Self::lake("reading or writing a file failed", error)
            }
            error @ (DataFusionError::Internal(_)
            | DataFusionError::Configuration(_)
            | DataFusionError::ExecutionJoin(_)
            | DataFusionError::Substrait(_)
            | DataFusionError::Ffi(_)) => Self::internal_because(UNEXPECTED, error),
        }
    }

    fn user(message: impl Into<String>) -> Self {
        EngineError::UserSql {
            message: message.into(),
        }
    }

    /// The detail names operators and sizes, which the log may have.
    fn exhausted(detail: &str) -> Self {
        tracing::debug!(detail, "a query ran out of memory or spill space");
        EngineError::Resource {
            message: "the query needs more memory or spill space than it may use; ask for fewer \
                      rows or columns, or raise the memory limit"
                .to_owned(),
        }
    }

    fn from_external(source: Box<dyn std::error::Error + Send + Sync>) -> Self {
        let source = match source.downcast::<EngineError>() {
            Ok(ours) => return *ours,
            Err(other) => other,
        };
        let source = match source.downcast::<DataFusionError>() {
            Ok(inner) => return Self::from_datafusion(*inner),
            Err(other) => other,
        };
        if let Some(refusal) = source.downcast_ref::<Refusal>() {
            return Self::user(refusal.text());
        }
        match source.downcast::<ArrowError>() {
            Ok(inner) => Self::from_arrow(*inner),
            Err(other) => Self::lake(CANNOT_READ, other),
        }
    }

    pub(crate) fn from_arrow(error: ArrowError) -> Self {
        match error {
            ArrowError::ExternalError(source) => Self::from_external(source),
            ArrowError::MemoryError(detail) => Self::exhausted(&detail),
            ArrowError::IoError(_, error) if is_spill_limit(&error) => {
                Self::exhausted(&error.to_string())
            }
            ArrowError::CastError(_) | ArrowError::ParseError(_) => Self::user(
                "a value could not be converted to the asked type; use `TRY_CAST`, which gives null \
                 instead",
            ),
            ArrowError::DivideByZero => {
                Self::user("division by zero; use `NULLIF(divisor, 0)`, which gives null instead")
            }
            ArrowError::ArithmeticOverflow(_) => {
                Self::user("a calculation went outside the range of its type; cast to a wider type")
            }
            ArrowError::ComputeError(_) | ArrowError::InvalidArgumentError(_) => {
                Self::user(ROW_FAILED)
            }
            ArrowError::ParquetError(_) | ArrowError::IoError(_, _) => {
                Self::lake(CANNOT_READ, error)
            }
            other => Self::internal_because(UNEXPECTED, other),
        }
    }

    /// A shared error cannot be taken apart: its kind is read, its values are left behind.
    fn from_shared(error: &DataFusionError) -> Self {
        if let Some(told) = data_file(error) {
            return told;
        }
        match error.find_root() {
            DataFusionError::ResourcesExhausted(detail) => Self::exhausted(detail),
            DataFusionError::Plan(message) => Self::user(clean(message)),
            DataFusionError::Execution(_) => Self::user(ROW_FAILED),
            DataFusionError::ArrowError(error, _) => match error.as_ref() {
                ArrowError::CastError(_) => Self::from_arrow(ArrowError::CastError(String::new())),
                ArrowError::ParseError(_) => {
                    Self::from_arrow(ArrowError::ParseError(String::new()))
                }
                ArrowError::DivideByZero => Self::from_arrow(ArrowError::DivideByZero),
                ArrowError::ArithmeticOverflow(_) => {
                    Self::from_arrow(ArrowError::ArithmeticOverflow(String::new()))
                }
                ArrowError::MemoryError(detail) => Self::exhausted(detail),
                ArrowError::IoError(_, error) if is_spill_limit(error) => {
                    Self::exhausted(&error.to_string())
                }
                _ => Self::user(ROW_FAILED),
            },
            DataFusionError::External(source) => {
                if let Some(ours) = source.downcast_ref::<EngineError>() {
                    ours.retold()
                } else if let Some(refusal) = source.downcast_ref::<Refusal>() {
                    Self::user(refusal.text())
                } else {
                    Self::lake(CANNOT_READ, source.to_string())
                }
            }
            other @ (DataFusionError::ParquetError(_)
            | DataFusionError::ObjectStore(_)
            | DataFusionError::IoError(_)) => Self::lake(CANNOT_READ, other.to_string()),
            other => Self::internal_because(UNEXPECTED, other.to_string()),
        }
    }

    /// The same message and kind, for an error that cannot be moved.
    fn retold(&self) -> Self {
        match self {
            EngineError::UserSql { message } => EngineError::UserSql {
                message: message.clone(),
            },
            EngineError::Definitions { problems } => EngineError::Definitions {
                problems: problems.clone(),
            },
            EngineError::NotFound { message } => EngineError::NotFound {
                message: message.clone(),
            },
            EngineError::Denied { message } => EngineError::Denied {
                message: message.clone(),
            },
            EngineError::Resource { message } => EngineError::Resource {
                message: message.clone(),
            },
            EngineError::Timeout { seconds } => EngineError::Timeout { seconds: *seconds },
            EngineError::Lake { message, source } => {
                Self::lake(message.clone(), source.to_string())
            }
            EngineError::Internal { message, source } => EngineError::Internal {
                message: message.clone(),
                source: source.as_ref().map(|source| source.to_string().into()),
            },
        }
    }
}

/// What is said of a data file that cannot be read, where that is behind an error: once, with its cause.
fn data_file(error: &(dyn std::error::Error + 'static)) -> Option<EngineError> {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    causes.find_map(|error| match error.downcast_ref::<LakeError>() {
        Some(file @ LakeError::DataFile { source, .. }) => Some(EngineError::Lake {
            message: file.to_string(),
            source: source.to_string().into(),
        }),
        _ => None,
    })
}

const ROW_FAILED: &str = "the query failed on a row: a function was given a value it cannot take; \
                          check the arguments, or use `TRY_CAST` and `NULLIF`";
const CANNOT_READ: &str = "the tables at rest could not be read";
const UNEXPECTED: &str = "the query engine failed unexpectedly";

/// A planner message for people: one line, lower case first letter, no engine prefixes, no catalog
/// name, user text in backticks, no final period.
fn clean(message: &str) -> String {
    let mut text = message.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    if let Some(end) = text.find("backtrace:") {
        text.truncate(end);
    }
    // A call that fits no signature is told twice: as a list of inner failures, then plainly.
    if let Some(plain) = text.find("No function matches") {
        text.drain(..plain);
    }
    loop {
        let stripped = PREFIXES.iter().find_map(|prefix| text.strip_prefix(prefix));
        match stripped {
            Some(rest) => text = rest.trim_start().to_owned(),
            None => break,
        }
    }
    let text = text
        .replace(concat!("tietopohja", "."), "")
        .replace(['\'', '"'], "`")
        .replace("Utf8View", "Utf8")
        .replace("BinaryView", "Binary");
    let text = text.trim().trim_end_matches(['.', ')']).trim();
    let text = balance(text);
    let mut letters = text.chars();
    match letters.next() {
        // An abbreviation such as `SELECT` or `DDL` keeps its capitals.
        Some(first) if letters.clone().next().is_some_and(char::is_lowercase) => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => text,
    }
}

/// Closing brackets that the trimming took from inside the sentence come back.
fn balance(text: &str) -> String {
    let open = text.matches('(').count();
    let closed = text.matches(')').count();
    format!("{text}{}", ")".repeat(open.saturating_sub(closed)))
}

const PREFIXES: [&str; 9] = [
    "Error during planning:",
    "Schema error:",
    "SQL error:",
    "Invalid or Unsupported Configuration:",
    "This feature is not implemented:",
    "sql parser error:",
    "ParserError(",
    "Optimizer rule 'type_coercion' failed",
    "type_coercion caused by",
];

/// The limit of spill space is met by a write that fails, and told only by the name of its setting.
fn is_spill_limit(error: &std::io::Error) -> bool {
    error
        .to_string()
        .contains("runtime.max_temp_directory_size")
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use datafusion::execution::disk_manager::DiskManagerBuilder;

    use super::*;

    const SECRET: &str = "010190-9010";

    fn every_kind_that_may_hold_a_row_value() -> Vec<DataFusionError> {
        let arrow = |error: ArrowError| DataFusionError::ArrowError(Box::new(error), None);
        let text = || format!("Cannot cast string '{SECRET}' to value of Int32 type");
        vec![
            arrow(ArrowError::CastError(text())),
            arrow(ArrowError::ParseError(text())),
            arrow(ArrowError::ComputeError(text())),
            arrow(ArrowError::InvalidArgumentError(text())),
            arrow(ArrowError::ArithmeticOverflow(text())),
            arrow(ArrowError::ExternalError(Box::new(
                DataFusionError::Execution(text()),
            ))),
            DataFusionError::Execution(text()),
            DataFusionError::Execution(text()).context("while running"),
            DataFusionError::Shared(Arc::new(arrow(ArrowError::CastError(text())))),
            DataFusionError::Shared(Arc::new(DataFusionError::Execution(text()))),
            DataFusionError::Internal(text()),
            DataFusionError::Collection(vec![DataFusionError::Execution(text())]),
            DataFusionError::ResourcesExhausted(text()),
        ]
    }

    #[test]
    fn a_data_file_is_named_once_however_its_error_comes() {
        let file = || LakeError::DataFile {
            file: "raw/visit/part-1.parquet".to_owned(),
            may_pass: false,
            source: "no footer".into(),
        };
        let parquet = || {
            let file = parquet::errors::ParquetError::External(Box::new(file()));
            DataFusionError::ParquetError(Box::new(file))
        };
        let shared = |error| DataFusionError::Shared(std::sync::Arc::new(error));
        for error in [
            EngineError::lake("rows could not be read", file()),
            DataFusionError::External(Box::new(file())).into(),
            parquet().into(),
            shared(parquet()).into(),
            shared(DataFusionError::External(Box::new(file()))).into(),
        ] {
            let first: &dyn std::error::Error = &error;
            let all = std::iter::successors(Some(first), |error| error.source());
            let told: Vec<String> = all.map(ToString::to_string).collect();
            assert_eq!(told, [file().to_string(), "no footer".to_owned()]);
        }
    }

    #[test]
    fn no_message_of_execution_repeats_a_value() {
        for error in every_kind_that_may_hold_a_row_value() {
            let told = EngineError::from(error).to_string();
            assert!(!told.contains(SECRET), "{told}");
            assert!(!told.is_empty());
        }
    }

    #[test]
    fn planner_messages_become_plain_sentences() {
        let cases = [
            (
                "Error during planning: table 'tietopohja.raw.x' not found",
                "table `raw.x` not found",
            ),
            (
                "Error during planning: Invalid function 'foo'.",
                "invalid function `foo`",
            ),
            ("SELECT needs FROM", "SELECT needs FROM"),
            (
                "Internal error: f failed (DataType: Utf8View).. Please help us. No function matches the given name and argument types 'sum(Utf8View)'. You might need to add explicit type casts",
                "no function matches the given name and argument types `sum(Utf8)`. You might need to add explicit type casts",
            ),
            ("Expected (one, two)", "expected (one, two)"),
        ];
        for (given, wanted) in cases {
            match EngineError::from(DataFusionError::Plan(given.to_owned())) {
                EngineError::UserSql { message } => assert_eq!(message, wanted),
                other => assert_eq!(format!("{other:?}"), wanted),
            }
        }
    }

    #[test]
    fn an_error_of_ours_survives_a_trip_through_a_stream() {
        let ours = || DataFusionError::from(EngineError::Timeout { seconds: 3 });
        for error in [
            ours(),
            ours().context("outer"),
            DataFusionError::Shared(Arc::new(ours())),
            DataFusionError::ArrowError(
                Box::new(ArrowError::ExternalError(Box::new(ours()))),
                None,
            ),
        ] {
            assert!(matches!(
                EngineError::from(error),
                EngineError::Timeout { seconds: 3 }
            ));
        }
    }

    #[test]
    fn kinds_are_sorted_by_the_next_step() {
        let exhausted = EngineError::from(DataFusionError::ResourcesExhausted("x".to_owned()));
        assert!(matches!(exhausted, EngineError::Resource { .. }));
        let missing = EngineError::from(DataFusionError::Plan("x".to_owned()));
        assert!(matches!(missing, EngineError::UserSql { .. }));
        let broken = EngineError::from(DataFusionError::Internal("x".to_owned()));
        assert!(matches!(broken, EngineError::Internal { .. }));
        let disk = EngineError::from(DataFusionError::IoError(std::io::Error::other("x")));
        assert!(matches!(disk, EngineError::Lake { .. }));
    }

    #[test]
    fn the_limit_of_spill_space_is_told_from_a_broken_disk() {
        let disk = DiskManagerBuilder::default().with_max_temp_directory_size(1);
        let file = Arc::new(disk.build().unwrap()).create_tmp_file("test");
        let mut writer = file.unwrap().open_writer().unwrap();
        let full = || writer.write_all(b"more than one byte").unwrap_err();
        let told = std::iter::repeat_with(full).take(3).collect::<Vec<_>>();
        let arrow = |error| DataFusionError::from(ArrowError::IoError(String::new(), error));
        for (number, error) in told.into_iter().enumerate() {
            let error = match number {
                0 => DataFusionError::IoError(error),
                1 => arrow(error),
                _ => DataFusionError::Shared(Arc::new(arrow(error))),
            };
            let sorted = EngineError::from(error);
            assert!(matches!(sorted, EngineError::Resource { .. }), "{sorted:?}");
        }
    }
}
