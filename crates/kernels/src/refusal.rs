//! What a function says when it cannot take its arguments.
//!
//! The text of any other error may hold the value of a row, so the engine shows a general one in its
//! place. A [`Refusal`] is a text of the source and nothing else, and is shown as it is. To refuse
//! something: [`refused`], with a text that says what is wrong and what to write instead.

use datafusion_common::{DataFusionError, Result};

/// A text that holds no value of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal(&'static str);

impl Refusal {
    /// The text.
    pub fn text(self) -> &'static str {
        self.0
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Refusal {}

/// Refuses the arguments of a function.
pub(crate) fn refused<T>(text: &'static str) -> Result<T> {
    Err(DataFusionError::External(Box::new(Refusal(text))))
}
