//! Landing files into a real lake in a temporary folder.
//!
//! One binary, since each links the whole lake. `corpus` compares every bad file with its golden,
//! `forms` lands one table in every form, `landing` is about exactly-once, `mutation` feeds the
//! fuzz entry points with changed files. Goldens are written with `BLESS=1`; read the difference.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod corpus;
mod forms;
mod landing;
mod mutation;
mod support;
