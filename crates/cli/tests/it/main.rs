//! The binary as a user runs it: landing that survives being killed, planted defects, and
//! indicators that equal their check queries on any number of partitions.
//!
//! One test binary for the whole command line. A test gets a warehouse of its own from
//! [`warehouse::Scratch`]; to add one, a function in the file of its subject.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests stop at the first surprise"
)]

mod keys;
mod landing;
mod logs;
mod numbers;
mod sql_checks;
mod users;
mod warehouse;
