//! Why a landing stopped: the file, the row when one is known, what is wrong, and the next step.
//!
//! Variants sort by what the reader does next: mend the file, ask the sender, change the request,
//! retry. No message holds a value of a row. To add a fault of files: a variant of [`SourceFault`],
//! its message, its help, and a file under `testdata/bad` with its golden.

use std::fmt;

use tietopohja_domain::{County, DeliveryPeriod, Problem, render_problems};

use crate::keyring::KeyError;
use crate::receipt::Receipt;

/// A landing that did not land.
#[derive(Debug, thiserror::Error)]
pub enum LandError {
    /// The file cannot be read as the contract agrees.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The contract refuses the delivery. The receipt counts its rows and lists the findings.
    #[error("{0}")]
    Refused(Box<Receipt>),
    /// The request leaves something open or contradicts the file.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// A newer revision of the same delivery is already in the lake.
    #[error(
        "`{file}`: revision {wanted} of {delivery} is older than revision {current}, which is in the lake\n  help: \
         send the correction without a revision number, or with one above {current}"
    )]
    OlderRevision {
        /// The file that was to land.
        file: String,
        /// Dataset, organiser and period.
        delivery: String,
        /// The revision asked for.
        wanted: i64,
        /// The revision in the lake.
        current: i64,
    },
    /// The contract's SQL checks cannot be run as they are written, so nobody can say whether the
    /// delivery keeps it.
    #[error(
        "`{file}`: the contract cannot be checked, nothing landed\n{problems}",
        problems = render_problems(problems)
    )]
    Contract {
        /// The file that was to land.
        file: String,
        /// What is wrong in the contract, each with file and line.
        problems: Vec<Problem>,
    },
    /// The contract's SQL checks got no answer for want of memory, time or storage.
    #[error(
        "`{file}`: the SQL checks of the contract got no answer, nothing landed\n  help: \
         run the same command again, with more memory (`memory_mib`) if that was short"
    )]
    Checks {
        /// The file that was to land.
        file: String,
        /// What the engine said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The pseudonym key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The lake could not be read or written. Nothing of the delivery is visible.
    #[error(
        "`{file}`: the lake did not take the delivery\n  help: run the same command again; a delivery lands once"
    )]
    Lake {
        /// The file that was to land.
        file: String,
        /// What the lake said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The caller stopped waiting.
    #[error(
        "`{file}`: landing was cancelled; nothing of the delivery is visible\n  help: run the same command again"
    )]
    Cancelled {
        /// The file that was to land.
        file: String,
    },
    /// A fault of this program.
    #[error(
        "`{file}`: {message}\n  help: this is a fault of tietopohja; report it with the receipt, never with the file"
    )]
    Internal {
        /// The file that was to land.
        file: String,
        /// What went wrong, without values of rows.
        message: String,
    },
}

impl LandError {
    /// Whether the person who sent the request, the file or the contract can mend it, as opposed to
    /// the installation being at fault.
    pub fn is_expected(&self) -> bool {
        match self {
            LandError::Source(_)
            | LandError::Refused(_)
            | LandError::Request(_)
            | LandError::Contract { .. }
            | LandError::OlderRevision { .. } => true,
            LandError::Checks { .. }
            | LandError::Key(_)
            | LandError::Lake { .. }
            | LandError::Cancelled { .. }
            | LandError::Internal { .. } => false,
        }
    }
}

/// The request leaves something open or contradicts the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Neither an argument nor the file's name tells the organiser.
    #[error(
        "`{file}`: the organiser of the delivery is not known\n  help: name it with `--county 07`, or name the file `{contract}_07_202401.csv`"
    )]
    CountyUnknown {
        /// The file.
        file: String,
        /// The contract.
        contract: String,
    },
    /// Neither an argument nor the file's name tells the period.
    #[error(
        "`{file}`: the period of the delivery is not known\n  help: name it with `--period {example}`, or name the file `{contract}_07_{number}.csv`"
    )]
    PeriodUnknown {
        /// The file.
        file: String,
        /// The contract.
        contract: String,
        /// A period of the right kind.
        example: DeliveryPeriod,
        /// The same as it stands in file names.
        number: i32,
    },
    /// The file's name says another organiser than the argument.
    #[error(
        "`{file}`: the name says organiser {named}, the request says {asked}\n  help: land the file of organiser {asked}, or ask for `--county {named}`"
    )]
    CountyContradicts {
        /// The file.
        file: String,
        /// In the file's name.
        named: County,
        /// In the request.
        asked: County,
    },
    /// The file's name says another period than the argument.
    #[error(
        "`{file}`: the name says period {named}, the request says {asked}\n  help: land the file of {asked}, or ask for `--period {named}`"
    )]
    PeriodContradicts {
        /// The file.
        file: String,
        /// In the file's name.
        named: DeliveryPeriod,
        /// In the request.
        asked: DeliveryPeriod,
    },
    /// A month where the contract takes years, or the reverse.
    #[error(
        "`{file}`: `{contract}` is delivered {agreed}, and {asked} is not one\n  help: ask for `--period {example}`"
    )]
    PeriodKind {
        /// The file.
        file: String,
        /// The contract.
        contract: String,
        /// `by the month` or `by the calendar year`.
        agreed: &'static str,
        /// The period asked for.
        asked: DeliveryPeriod,
        /// A period of the right kind.
        example: DeliveryPeriod,
    },
    /// An organiser for a national file, or FI for a county's file.
    #[error("`{file}`: `{contract}` comes from {agreed}, not from {asked}\n  help: {help}")]
    CountyKind {
        /// The file.
        file: String,
        /// The contract.
        contract: String,
        /// Who delivers it.
        agreed: &'static str,
        /// The organiser asked for.
        asked: County,
        /// What to do.
        help: &'static str,
    },
    /// The control totals cannot be read.
    #[error(
        "`{file}`: {message}\n  help: write {{\"rows\": 1200, \"sums\": {{\"amount\": \"-1234.50\"}}}}, or remove the file if no totals are agreed"
    )]
    ControlTotals {
        /// The manifest.
        file: String,
        /// What is wrong.
        message: String,
    },
    /// The list of files names the same delivery twice.
    #[error(
        "`{file}`: `{first}` is the same delivery, {delivery}\n  help: land one of them, and the correction after it"
    )]
    SameDeliveryTwice {
        /// The later file.
        file: String,
        /// The earlier file.
        first: String,
        /// Dataset, organiser and period.
        delivery: String,
    },
}

/// A file that cannot be read, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceError {
    /// The file's name, without its folder.
    pub file: String,
    /// The row where the fault is, the header being row 1; `None` when it is not known.
    pub row: Option<i64>,
    /// What is wrong.
    pub fault: SourceFault,
}

impl std::error::Error for SourceError {}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: ", self.file)?;
        if let Some(row) = self.row {
            write!(f, "row {row}: ")?;
        }
        write!(f, "{}\n  help: {}", self.fault, self.fault.help())
    }
}

/// A fault at a row, before the file's name is known to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FaultAt {
    pub(crate) row: Option<i64>,
    pub(crate) fault: SourceFault,
}

impl FaultAt {
    pub(crate) fn row(row: i64, fault: SourceFault) -> Self {
        Self {
            row: Some(row),
            fault,
        }
    }

    pub(crate) fn named(self, file: &str) -> SourceError {
        SourceError {
            file: file.to_owned(),
            row: self.row,
            fault: self.fault,
        }
    }
}

impl From<SourceFault> for FaultAt {
    fn from(fault: SourceFault) -> Self {
        Self { row: None, fault }
    }
}

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceFault {
    /// No such file.
    NotFound,
    /// The operating system refuses or fails to read it; the text is its own word.
    Unreadable(String),
    /// No bytes, or nothing but white space.
    Empty,
    /// The bytes are none of the forms that are read.
    UnknownForm,
    /// UTF-16 text.
    Utf16,
    /// The binary workbook of old Excel versions.
    OldWorkbook,
    /// A zip archive that is not a workbook.
    OtherArchive,
    /// A packed workbook or Parquet file.
    PackedContainer(&'static str),
    /// A packed file ends too early.
    PackedTruncated(&'static str),
    /// A packed file does not unpack.
    PackedDamaged(&'static str),
    /// A small file unpacks to far more than an extract does.
    UnpackRatio {
        /// Unpacked bytes per packed byte allowed.
        limit: u64,
    },
    /// A file unpacks to more than the limit.
    UnpackTotal {
        /// The limit in bytes.
        limit: u64,
    },
    /// More columns than the limit.
    TooManyColumns {
        /// Columns found, at least.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// A cell longer than the limit.
    FieldTooLong {
        /// The limit in bytes.
        limit: usize,
    },
    /// A record longer than the limit.
    RecordTooLong {
        /// The limit in bytes.
        limit: usize,
    },
    /// A quote opens and the file ends before it closes.
    UnclosedQuote,
    /// A quote opens and is closed by the quote of a later row.
    StrayQuote,
    /// A quote opens and stays open for longer than a cell may be.
    LongQuote {
        /// The limit in bytes.
        limit: usize,
    },
    /// A NUL byte.
    NulByte,
    /// A byte order mark that is not at the start of the file.
    ByteOrderMarkInside,
    /// Bytes that are not UTF-8 in a file that is.
    InvalidUtf8 {
        /// Place of the first wrong byte, from the start of the unpacked text.
        byte: u64,
    },
    /// Text that changes its encoding on the way.
    MixedEncodings {
        /// Encoding up to here.
        before: &'static str,
        /// Encoding found here.
        here: &'static str,
    },
    /// An encoding that the contract does not agree.
    EncodingNotAgreed {
        /// The encoding found.
        found: &'static str,
        /// The encodings agreed.
        agreed: String,
    },
    /// A separator that the contract does not agree.
    SeparatorNotAgreed {
        /// The separator found.
        found: &'static str,
        /// The separators agreed.
        agreed: String,
    },
    /// Lines end in a bare carriage return.
    OldLineEnds,
    /// The first row is data, not column names.
    HeaderIsData,
    /// No name on the first row is a column of the contract.
    HeaderUnknown,
    /// A workbook larger than the limit.
    WorkbookTooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// A workbook that cannot be read.
    WorkbookDamaged,
    /// A workbook without a sheet.
    NoSheet,
    /// A line that is not a JSON object of plain values; the text says why.
    Json(&'static str),
    /// A Parquet file that cannot be read.
    ParquetDamaged,
    /// A Parquet file packed with a method that is not read.
    ParquetPacking,
    /// A Parquet column that holds lists, structures or the like.
    ParquetColumn(String),
    /// A row group that unpacks to more than the limit.
    RowGroupTooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// The file changed while it was read.
    Changed,
}

impl fmt::Display for SourceFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use SourceFault as F;
        match self {
            F::NotFound => f.write_str("there is no such file"),
            F::Unreadable(why) => write!(f, "the file cannot be read: {why}"),
            F::Empty => f.write_str("the file is empty"),
            F::UnknownForm => f.write_str("the file is not text, a workbook or Parquet"),
            F::Utf16 => f.write_str("the text is UTF-16"),
            F::OldWorkbook => f.write_str("the file is a workbook of the old binary form (.xls)"),
            F::OtherArchive => f.write_str("the file is a zip archive, not a workbook"),
            F::PackedContainer(form) => write!(f, "the packed file holds {form}"),
            F::PackedTruncated(packing) => write!(
                f,
                "the {packing} file ends before its data does: a part of it is missing"
            ),
            F::PackedDamaged(packing) => {
                write!(f, "the {packing} file is damaged and does not unpack")
            }
            F::UnpackRatio { limit } => {
                write!(f, "the file unpacks to more than {limit} times its size")
            }
            F::UnpackTotal { limit } => {
                write!(f, "the file unpacks to more than {}", Bytes(*limit))
            }
            F::TooManyColumns { found, limit } => write!(
                f,
                "the header has {found} columns or more, and the limit is {limit}"
            ),
            F::FieldTooLong { limit } => {
                write!(f, "a cell is longer than {}", Bytes(*limit as u64))
            }
            F::RecordTooLong { limit } => {
                write!(f, "a record is longer than {}", Bytes(*limit as u64))
            }
            F::UnclosedQuote => {
                f.write_str("a quote opens on this row and is not closed by the end of the file")
            }
            F::StrayQuote => {
                f.write_str("a quote opens on this row and closes inside the text of a later row")
            }
            F::LongQuote { limit } => {
                write!(
                    f,
                    "a quote opens on this row and is not closed within {}",
                    Bytes(*limit as u64)
                )
            }
            F::NulByte => f.write_str("the row holds a NUL byte"),
            F::ByteOrderMarkInside => f.write_str("a byte order mark stands inside the text"),
            F::InvalidUtf8 { byte } => {
                write!(f, "the text is UTF-8 up to byte {byte}, which is not")
            }
            F::MixedEncodings { before, here } => {
                write!(f, "the text changes its encoding from {before} to {here}")
            }
            F::EncodingNotAgreed { found, agreed } => {
                write!(f, "the text is {found}, and the contract agrees {agreed}")
            }
            F::SeparatorNotAgreed { found, agreed } => {
                write!(
                    f,
                    "the columns are separated by {found}, and the contract agrees {agreed}"
                )
            }
            F::OldLineEnds => f.write_str("the lines end in a bare carriage return"),
            F::HeaderIsData => {
                f.write_str("the header holds an identity code: the row of column names is missing")
            }
            F::HeaderUnknown => f.write_str("no column of the contract is named on the header row"),
            F::WorkbookTooLarge { limit } => {
                write!(f, "the workbook is larger than {}", Bytes(*limit))
            }
            F::WorkbookDamaged => f.write_str("the workbook is damaged"),
            F::NoSheet => f.write_str("the workbook has no sheet"),
            F::Json(why) => f.write_str(why),
            F::ParquetDamaged => f.write_str("the Parquet file is damaged"),
            F::ParquetPacking => {
                f.write_str("the Parquet file is packed by a method that is not read")
            }
            F::ParquetColumn(name) => write!(f, "the column `{name}` is not of a plain type"),
            F::RowGroupTooLarge { limit } => {
                write!(f, "a row group unpacks to more than {}", Bytes(*limit))
            }
            F::Changed => f.write_str("the file changed while it was read"),
        }
    }
}

impl SourceFault {
    /// The next step.
    pub fn help(&self) -> &'static str {
        use SourceFault as F;
        match self {
            F::NotFound => "check the path and the current folder",
            F::Unreadable(_) => "check the permissions of the file and of its folder, and the disk",
            F::Empty => {
                "ask the sender for the file again; an empty delivery has a header and no rows"
            }
            F::UnknownForm => {
                "send CSV, NDJSON, XLSX or Parquet, plain or packed with gzip or zstd"
            }
            F::Utf16 => "save the file as UTF-8",
            F::OldWorkbook => "save the workbook as .xlsx or as CSV UTF-8",
            F::OtherArchive => "unpack the archive and land the file in it",
            F::PackedContainer(_) => "unpack it first: this form is packed inside already",
            F::PackedTruncated(_) => {
                "copy or ask for the file again and compare its size with the sender's"
            }
            F::PackedDamaged(_) => {
                "copy or ask for the file again; the transfer may have changed it"
            }
            F::UnpackRatio { .. } | F::UnpackTotal { .. } => {
                "look at the file before trusting it; if it is right, land it unpacked"
            }
            F::TooManyColumns { .. } => "check the separator and that this is the right file",
            F::FieldTooLong { .. } | F::RecordTooLong { .. } => {
                "check the row for a missing line end or separator"
            }
            F::UnclosedQuote | F::StrayQuote | F::LongQuote { .. } => {
                "close the quote, or double a quote that belongs to the text"
            }
            F::NulByte => "ask the sender for the file again: the row was damaged or is not text",
            F::ByteOrderMarkInside => {
                "files were joined; remove the mark, and the second header if there is one"
            }
            F::InvalidUtf8 { .. } | F::MixedEncodings { .. } => {
                "ask the sender to write the whole file in one encoding"
            }
            F::EncodingNotAgreed { .. } => {
                "ask the sender for the agreed encoding, or agree another in the contract"
            }
            F::SeparatorNotAgreed { .. } => {
                "ask the sender for the agreed separator, or agree another in the contract"
            }
            F::OldLineEnds => "save the file with line feeds, or carriage return and line feed",
            F::HeaderIsData => "put the agreed column names on the first row",
            F::HeaderUnknown => {
                "check that this is the right file for the contract, and that its first row names the columns"
            }
            F::WorkbookTooLarge { .. } => "send a table of this size as CSV or Parquet",
            F::WorkbookDamaged => "open the workbook, save it again, or send CSV",
            F::NoSheet => "put the table on the first sheet",
            F::Json(_) => "write one flat JSON object on each line",
            F::ParquetDamaged => "copy or ask for the file again; the transfer may have changed it",
            F::ParquetPacking => "write it with zstd, snappy or no packing",
            F::ParquetColumn(_) => "write text, numbers, dates or booleans",
            F::RowGroupTooLarge { .. } => "write the file with smaller row groups",
            F::Changed => "wait until the sender has finished writing, then run the command again",
        }
    }
}

/// A byte count in the unit a person would use; limits are round numbers.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
        match units
            .into_iter()
            .find(|(shift, _)| self.0 >= 1 << shift && self.0.trailing_zeros() >= *shift)
        {
            Some((shift, unit)) => write!(f, "{} {unit}", self.0 >> shift),
            None => write!(f, "{} bytes", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_file_row_what_and_the_next_step() {
        let error = FaultAt::row(17, SourceFault::UnclosedQuote).named("a.csv");
        assert_eq!(
            error.to_string(),
            "`a.csv`: row 17: a quote opens on this row and is not closed by the end of the file\n  help: \
             close the quote, or double a quote that belongs to the text"
        );
    }

    #[test]
    fn byte_limits_are_shown_in_their_own_unit() {
        for (bytes, shown) in [
            (64 << 30, "64 GiB"),
            (1 << 20, "1 MiB"),
            (1536, "1536 bytes"),
            (2048, "2 KiB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), shown);
        }
    }
}
