//! One file per command: its arguments, and `run`.
//!
//! A command reads arguments, asks the crates below to do the work and prints. Work that another
//! program could want belongs in those crates. To add one: a file here and a line in `main`.

pub(crate) mod calc;
pub(crate) mod demo;
pub(crate) mod explain;
pub(crate) mod indicator;
pub(crate) mod init;
pub(crate) mod land;
pub(crate) mod reference;
pub(crate) mod serve;
pub(crate) mod sql;
pub(crate) mod status;
pub(crate) mod synth;
pub(crate) mod user;
