//! Calculation: components, then values, then protection, then one commit to each table.
//!
//! An indicator is computed when what it is made of has changed: the text of its queries, the
//! relations they read, the versions of the tables below, the deliveries of its contracts, its
//! disclosure profile ([`fingerprint`]). One indicator that fails does not stop the others. All
//! indicators of a run see every table at one version.
//!
//! Components are merged to values by the kernels, and only the formula is a query ([`rollup`]).
//! What components of several indicators can be taken from one pass over a relation is ([`scan`]), in
//! parts where it does not fit in memory ([`parts`]); those over spells meet the delivered months there
//! ([`spells`]). What was found waits in memory or on disk until its indicator is computed ([`found`]).
//! Relations that are kept in coded form for that are brought up to date before ([`facts`]), persons in
//! them have numbers ([`persons`]), passes read their files without a query ([`direct`]), and cells of
//! what has not changed of them since are kept ([`kept`]).
//!
//! [`CalcRequest`] in, [`CalcReport`] out; the rows are built in [`rows`].

mod direct;
mod facts;
mod fingerprint;
mod formula;
mod found;
mod kept;
mod marks;
mod order;
mod parts;
mod persons;
mod rollup;
mod rows;
mod run;
mod scan;
mod spells;

pub(crate) use facts::FactFiles;
pub use facts::FactReport;
pub use kept::SlicesRead;
pub use scan::{AloneReport, ScanReport};
use serde::Serialize;
use tietopohja_domain::Problem;

/// What other steps share with a run.
pub(crate) mod run_parts {
    pub(crate) use super::rows::stamp_of;
    pub(crate) use super::run::{chosen, find};
}

/// What to compute.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CalcRequest {
    /// Indicators by id; none means all.
    pub ids: Vec<String>,
    /// Compute also what has not changed, and keep no cells.
    pub full: bool,
    /// Compute each component by a query of its own instead of sharing scans, from the views instead
    /// of what is stored of them, and values by their query: slower, with the same numbers. For
    /// comparing.
    pub one_by_one: bool,
    /// Who or what asked, for `meta.run`: `manual`, `demo`, `schedule`.
    pub trigger: String,
}

/// How one indicator ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "outcome")]
pub enum IndicatorOutcome {
    /// Computed and published.
    Computed,
    /// Nothing it is made of has changed.
    Unchanged,
    /// Not computed; what was published before is still there.
    Failed {
        /// Why, without row values.
        message: String,
    },
}

/// One indicator of a run.
#[derive(Debug, Clone, Serialize)]
pub struct IndicatorResult {
    /// Its id.
    pub id: String,
    /// The version of its definition.
    pub version: String,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: IndicatorOutcome,
    /// Rows of components.
    pub component_rows: u64,
    /// Of those, rows that are kept from an earlier calculation.
    pub kept_rows: u64,
    /// Rows of values.
    pub value_rows: u64,
    /// Values that protection hides.
    pub suppressed: u64,
    /// How long it took.
    pub seconds: f64,
}

/// The receipt of a calculation.
#[derive(Debug, Clone, Serialize)]
pub struct CalcReport {
    /// The run in `meta.run`; `None` when nothing had to be computed.
    pub run_id: Option<String>,
    /// Every indicator asked for, in order of id.
    pub indicators: Vec<IndicatorResult>,
    /// The stored relations that were read.
    pub facts: Vec<FactReport>,
    /// The passes over relations that components shared.
    pub scans: Vec<ScanReport>,
    /// How long all of it took.
    pub seconds: f64,
    /// The part of it that went to writing.
    pub commit_seconds: f64,
}

impl CalcReport {
    /// The number of indicators that were computed.
    pub fn computed(&self) -> usize {
        self.count(|outcome| matches!(outcome, IndicatorOutcome::Computed))
    }

    /// The number of indicators that failed: above zero is a failure of the command.
    pub fn failed(&self) -> usize {
        self.count(|outcome| matches!(outcome, IndicatorOutcome::Failed { .. }))
    }

    fn count(&self, is: impl Fn(&IndicatorOutcome) -> bool) -> usize {
        self.indicators
            .iter()
            .filter(|result| is(&result.outcome))
            .count()
    }
}

/// Who watches a calculation.
pub trait CalcProgress: Send + Sync {
    /// An indicator begins; `number` of `total`.
    fn started(&self, id: &str, number: usize, total: usize);
    /// A stored relation is brought up to date.
    fn storing(&self, _relation: &str) {}
    /// A pass over a relation begins, which several indicators share.
    fn scanning(&self, table: &str);
    /// It ended.
    fn finished(&self, result: &IndicatorResult);
}

/// Nobody watches.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgress;

impl CalcProgress for NoProgress {
    fn started(&self, _id: &str, _number: usize, _total: usize) {}
    fn scanning(&self, _table: &str) {}
    fn finished(&self, _result: &IndicatorResult) {}
}

/// What [`crate::Engine::plan_calc`] says of one indicator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedStep {
    /// Its id.
    pub id: String,
    /// Why it must be computed.
    pub reason: StaleReason,
}

/// Why an indicator must be computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StaleReason {
    /// It never was.
    NeverComputed,
    /// Its definition or its data has changed.
    Changed,
}

/// A problem with a definition's file.
pub(crate) fn of_definition(file: &str, message: impl Into<String>) -> Problem {
    Problem::new(file, message)
}
