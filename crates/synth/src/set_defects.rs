//! Defects of a delivery as a whole: rows that each keep every rule, and together
//! break a SQL check of the contract.
//!
//! Every dataset lists its own, one for each SQL check of its contract. A defect
//! waits for the first row that suits and gives exactly one finding: a second
//! row beside it, or the row itself with other cells. To add one: a line in the
//! dataset, and where needed a variant of [`Suits`] or [`Cell`] with its arm.

use crate::extract::{Dataset, RowBuffer};

/// One kind of defect of a set of rows.
#[derive(Debug)]
pub(crate) struct SetDefect {
    /// What is done, in words that stay the same over datasets.
    pub(crate) kind: &'static str,
    /// The check that must find it.
    pub(crate) rule: &'static str,
    /// What the row must be like, by the English name of a column.
    pub(crate) suits: &'static [(&'static str, Suits)],
    /// Whether the row stands as it is and a changed copy comes after it.
    pub(crate) copies: bool,
    /// What is changed.
    pub(crate) changes: &'static [(&'static str, Cell)],
    /// It is planted in every so many files of the dataset, so that clean files are tested too.
    pub(crate) every: usize,
}

/// A condition on a cell.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Suits {
    /// An end that is not known yet.
    Open,
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// Another text.
    Not(&'static str),
}

/// What a cell becomes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Cell {
    /// Empty.
    Blank,
    /// This text.
    Text(&'static str),
    /// This text before what it was: another key.
    Prefixed(&'static str),
    /// The cell of another column.
    SameAs(&'static str),
}

impl SetDefect {
    /// The changed cells, or `None` when the row does not suit.
    pub(crate) fn alter(
        &self,
        dataset: &Dataset,
        row: &RowBuffer,
    ) -> Option<Vec<(usize, Vec<u8>)>> {
        for (name, condition) in self.suits {
            let cell = row.cell(dataset.column(name)?);
            let fits = match condition {
                Suits::Open => matches!(cell, b"" | b"31.12.9999"),
                Suits::OneOf(texts) => texts.iter().any(|text| text.as_bytes() == cell),
                Suits::Not(text) => text.as_bytes() != cell,
            };
            if !fits {
                return None;
            }
        }
        self.changes
            .iter()
            .map(|(name, change)| {
                let column = dataset.column(name)?;
                let changed = match change {
                    Cell::Blank => Vec::new(),
                    Cell::Text(text) => text.as_bytes().to_vec(),
                    Cell::Prefixed(text) => [text.as_bytes(), row.cell(column)].concat(),
                    Cell::SameAs(other) => row.cell(dataset.column(other)?).to_vec(),
                };
                Some((column, changed))
            })
            .collect()
    }
}
