//! The one place where queries are planned and run.
//!
//! Here live the session factory, the catalog that shows each principal only what policy allows,
//! the relations of `sql/`, the limits on memory, time and statements, and the steps that turn
//! components into values and values into the published table. Storage belongs to the lake, meaning
//! to the indicators, hiding to disclosure, who-sees-what to policy: this crate asks them and obeys.
//!
//! Nothing outside this crate makes a session context. A door (the shell, Flight SQL) does three
//! things: [`Engine::session`] for a [`Principal`], [`Session::prepare`], [`Session::execute`].
//! To add a step of the chain, add a file beside [`calc`]; to add a limit, put it in
//! [`EngineOptions`] and enforce it in `session.rs`.

mod catalog;
mod codes;
mod copied;
mod definitions;
mod depth;
mod engine;
mod error;
mod information_schema;
mod keys;
mod listing;
mod live;
mod lookups;
mod memory;
mod model;
mod nested_loops;
mod options;
mod parts;
mod placeholder;
mod plain;
mod progress;
mod release;
mod session;
mod show;
mod sized;
mod sql_check;
mod sql_type;
mod statement;
mod tables;
mod terms;
mod windows;
mod workspace;
mod yielding;

pub mod calc;
pub mod check;
pub mod explain;
pub mod reference;
pub mod status;

pub use calc::{
    AloneReport, CalcProgress, CalcReport, CalcRequest, FactReport, IndicatorOutcome,
    IndicatorResult, NoProgress, PlannedStep, ScanReport, SlicesRead, StaleReason,
};
pub use check::{CheckOutcome, CheckStatus, Mismatch};
pub use engine::Engine;
pub use error::{EngineError, Result};
pub use explain::{ContributionRow, DeliveryRow, ExplainRequest, Explanation, ValueRow};
pub use keys::{ForeignKey, Key, Keys};
pub use live::LiveRows;
pub use memory::QueryMemory;
pub use options::EngineOptions;
pub use progress::QueryProgress;
pub use reference::{ReferenceOutcome, ReferenceReport, ReferenceTable};
pub use release::{Release, Versions};
pub use session::{Prepared, Session, SessionOptions, TableInfo, TableKind};
pub use sql_type::SqlType;
pub use statement::{SessionCommand, outline, session_command};
pub use status::{ContractStatus, FailingCheck, RunStatus, Status};
pub use terms::{ExpectedDelivery, OutlivedDelivery};
pub use workspace::{Ingest, PreparedChange, WhenAbsent, WhenPresent, is_change};

pub use tietopohja_policy::{Principal, Role};

/// The name of the one catalog, as `information_schema` and Flight SQL show it.
pub const CATALOG: &str = "tietopohja";
/// The schema where an unqualified table name is looked up.
pub const DEFAULT_SCHEMA: &str = "published";
