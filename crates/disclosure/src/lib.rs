//! Which cells of finished tables must be hidden, and why.
//!
//! Profiles come in as text, a cell comes in as counts, a decision comes out: no I/O, no Arrow, no
//! clock. What follows a hidden cell (value, interval, count) is said here too, so that every door
//! hides the same. To add a rule, add a key to the profile format, a variant to [`Reason`], and a
//! case to the tests; a threshold is a setting of the profile and never of a request.

mod decide;
mod profile;

pub use decide::{Cell, Decision, Reason};
pub use profile::{Profile, Profiles};
