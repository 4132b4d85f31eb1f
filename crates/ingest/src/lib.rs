//! Source file → contract → pseudonyms → lake, exactly once.
//!
//! A file in any of the forms source systems write is read in blocks, checked against its contract
//! by several threads, and landed whole or not at all. Personal identity codes end here: what goes
//! on is keyed pseudonyms, and nothing this crate says holds a value of a row.
//!
//! * `land`: the order of a landing; the only place that talks to the lake
//! * `source` and its files: one form of source each
//! * `pipeline`: threads, order, repeated keys
//! * `row_set`: questions that only a query engine can answer
//! * `keyring`, `control`, `receipt`, `error`, `limits`, `progress`: what callers hold
//!
//! To add a source form see `source`; to add a dataset write a contract, no code. What may not live
//! here: rules about values (they are the contract's) and storage (it is the lake's).

mod control;
mod delivery_name;
mod duplicates;
mod error;
pub mod fuzz;
mod keyring;
mod land;
mod limits;
mod pipeline;
mod progress;
mod receipt;
mod row_set;
mod source;

pub use control::{Amount, ControlTotals};
pub use error::{LandError, RequestError, SourceError, SourceFault};
pub use keyring::{KeyError, KeyRing};
pub use land::{Intake, LandRequest, land, land_many};
pub use limits::LandLimits;
pub use progress::{NoProgress, Progress};
pub use receipt::{ControlSum, Finding, Outcome, Receipt, RejectedRow, RuleCount};
pub use row_set::{NoNumbers, RowSetChecks};
