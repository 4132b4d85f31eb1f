//! The engine over a small lake in a temporary folder: who sees what, limits, reference data, and
//! the chain from rows to published values.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests stop at the first surprise"
)]

mod calculation;
mod described;
mod facts;
mod fixture;
mod kept;
mod kernels;
mod limits;
mod parts;
mod reference;
mod roles;
mod spells;
mod terms;
