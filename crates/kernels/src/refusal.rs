//! What a function says when it cannot take its arguments.
//!
//! The text of any other error may hold the value of a row, so the engine shows a general one in its
//! place. The text of a [`Refusal`] is one of the source and nothing else, and is shown as it is. To
//! refuse something: [`refused`], with a text that says what is wrong and what to write instead.

use datafusion_common::{DataFusionError, Result};

/// Why arguments are refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    text: &'static str,
    of: Option<String>,
}

impl Refusal {
    /// The text, which holds no value of a row.
    pub fn text(&self) -> &'static str {
        self.text
    }
}

/// Says of what, too: that may be a value, and is for callers that gave it.
impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.of {
            None => f.write_str(self.text),
            Some(of) => write!(f, "{of}: {}", self.text),
        }
    }
}

impl std::error::Error for Refusal {}

/// Refuses the arguments of a function.
pub(crate) fn refused<T>(text: &'static str) -> Result<T> {
    let refusal = Refusal { text, of: None };
    Err(DataFusionError::External(Box::new(refusal)))
}

/// Refuses one of them, which is named to callers of the library and not in SQL.
pub(crate) fn refused_of<T>(of: String, text: &'static str) -> Result<T> {
    let refusal = Refusal { text, of: Some(of) };
    Err(DataFusionError::External(Box::new(refusal)))
}
