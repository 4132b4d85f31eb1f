//! Errors at the edge: what the user reads, and the exit code.

use std::fmt;

use tietopohja_engine::EngineError;

/// Why a command did not do what was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Bad data, a failed check, something not found: the user's next step is in the text. Exit 1.
    Expected(String),
    /// The result was already printed; only the exit code says that it is not good. Exit 1.
    Reported,
    /// Wrong settings or arguments. Exit 2.
    Usage(String),
    /// Ours. Exit 2.
    Internal(String),
    /// Ctrl-C. Exit 130.
    Interrupted,
}

impl Failure {
    pub(crate) fn expected(text: impl Into<String>) -> Self {
        Failure::Expected(text.into())
    }

    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Failure::Usage(text.into())
    }

    pub(crate) fn internal(text: impl Into<String>) -> Self {
        Failure::Internal(text.into())
    }

    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Failure::Expected(_) | Failure::Reported => 1,
            Failure::Usage(_) | Failure::Internal(_) => 2,
            Failure::Interrupted => 130,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Expected(text) | Failure::Usage(text) => write!(f, "error: {text}"),
            Failure::Internal(text) => write!(
                f,
                "internal error: {text}\nthis is a fault of the program: please report it with this text"
            ),
            Failure::Interrupted => write!(f, "interrupted: nothing was left half done"),
            Failure::Reported => Ok(()),
        }
    }
}

/// An error and its causes, each once, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let said = next.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = next.source();
    }
    text
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Internal { .. } => Failure::internal(chain(&error)),
            _ => Failure::expected(chain(&error)),
        }
    }
}

impl From<tietopohja_lake::LakeError> for Failure {
    fn from(error: tietopohja_lake::LakeError) -> Self {
        match error {
            tietopohja_lake::LakeError::Internal(_) => Failure::internal(chain(&error)),
            _ => Failure::expected(chain(&error)),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        // A reader that went away (`| head`) is no failure of ours, but there is nobody to tell.
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            Failure::Reported
        } else {
            Failure::expected(error.to_string())
        }
    }
}
