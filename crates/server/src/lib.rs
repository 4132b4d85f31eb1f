//! The outside world: the doors through which programs reach the warehouse.
//!
//! Here lives the Arrow Flight SQL door, who is let in, and the one mapping from errors to what a
//! client is told. A door translates and nothing more: it finds out who is calling, makes an engine
//! session for that principal, and turns the answer into its protocol. It plans nothing, opens no
//! table and knows no storage. To add a door, add a folder beside [`flight`]; it takes callers from
//! `auth` and statuses from `status`, so that both doors let the same people in and say the same
//! things.

mod auth;
mod connections;
mod gate;
mod http;
mod journal;
mod linger;
mod live;
mod otlp;
mod seal;
mod status;
mod tls;
mod trace;

pub mod flight;
#[doc(hidden)]
pub mod fuzz;
pub mod identity;

pub use flight::{Limits, Listening, RoleLimits, ServeError, ServeOptions, serve};
pub use gate::GateOptions;
pub use journal::{Audit, StatementRecord, StatementState};
pub use otlp::NoCollector;
pub use tls::{TlsError, TlsFiles};
pub use trace::TraceParent;
