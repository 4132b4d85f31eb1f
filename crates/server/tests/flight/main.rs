//! The Flight SQL door as a client meets it: a real server on a free loopback port, a real engine
//! on a small warehouse, and arrow-flight's own client.
//!
//! A test is a table of cases and one helper that runs a case. To add a case, add a line; to add a
//! topic, add a file beside this one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed test is the point"
)]

mod answers;
mod cases;
mod endpoints;
mod health;
mod hostile;
mod identity;
mod lifecycle;
mod limits;
mod metadata;
mod oidc;
mod polling;
mod prepared;
mod protocol;
mod provider;
mod queries;
mod recorded;
mod settings;
mod tls;
mod warehouse;
mod workspace;
