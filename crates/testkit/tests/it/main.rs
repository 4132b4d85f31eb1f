//! Several crates at work together, without the command line: storage that fails on purpose, and
//! landings whose SQL checks a real engine answers.
//!
//! One test binary. To add a subject: a file here, and a line below.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests stop at the first surprise"
)]

mod coded;
mod folding;
mod groups;
mod landing;
mod scans;
mod sql_checks;
