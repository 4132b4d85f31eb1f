//! What can stop a generation.

use std::path::PathBuf;

/// Why no synthetic extracts were made, or not all of them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SynthError {
    /// The plan asks for something that cannot be made; the text says what and what to ask instead.
    #[error("{0}")]
    Plan(String),
    /// A reference text cannot be read.
    #[error("{file}:{line}: {message}")]
    Reference {
        /// The reference input's name, as the field of [`crate::ReferenceInputs`].
        file: &'static str,
        /// 1-based line.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// There are more people of one sex and birth year in a county than artificial identity codes.
    #[error(
        "the artificial identity codes of county {county} run out for people born in {year}: leave the county out or plan fewer years"
    )]
    IdentityCodes {
        /// The county's code.
        county: String,
        /// Birth year.
        year: i32,
    },
    /// A file could not be written.
    #[error("cannot write `{path}`: check that the folder exists, is writable and has room", path = path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The reason the system gave.
        #[source]
        source: std::io::Error,
    },
    /// The progress callback asked to stop. Files already written stay.
    #[error(
        "stopped before all extracts were written: the folder is incomplete, remove it or run again"
    )]
    Stopped,
}
