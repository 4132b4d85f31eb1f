//! Reference data: from files that the warehouse ships to tables of the lake.
//!
//! `reference/tables.toml` names the files and the exact type of each column ([`manifest`]); code
//! lists and statutory limits come from `definitions/`; relations of `sql/reference` marked
//! `-- materialise: yes` are computed once from those and stored. A table is written only when its
//! content has another digest than what `meta.reference` remembers. All problems of all files are
//! found before anything is written.

mod csv;
mod digest;
mod load;
mod manifest;

pub(crate) use load::definition_files;
pub(crate) use manifest::Manifest;

use serde::Serialize;

/// What happened to one reference table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ReferenceOutcome {
    /// Read from a file and written.
    Loaded,
    /// Computed from other reference tables and written.
    Computed,
    /// The lake already holds this content.
    Unchanged,
}

/// One reference table after loading.
#[derive(Debug, Clone, Serialize)]
pub struct ReferenceTable {
    /// Its name in the schema `reference`.
    pub name: String,
    /// What happened to it.
    pub outcome: ReferenceOutcome,
    /// Its rows.
    pub rows: u64,
    /// How long it took.
    pub seconds: f64,
}

/// The receipt of a reference load.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ReferenceReport {
    /// Every reference table, in name order.
    pub tables: Vec<ReferenceTable>,
    /// How long all of it took.
    pub seconds: f64,
}

impl ReferenceReport {
    /// The number of tables that were written.
    pub fn written(&self) -> usize {
        self.tables
            .iter()
            .filter(|table| table.outcome != ReferenceOutcome::Unchanged)
            .count()
    }

    /// The rows of all tables.
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|table| table.rows).sum()
    }
}
