//! Tests only: what other crates' tests need to make storage fail or wait on purpose.
//!
//! Nothing shipped depends on this crate. To add a fault, add a variant to [`Fault`].

mod faulty_store;
mod pausing_store;

pub use faulty_store::{Fault, FaultyStore};
pub use pausing_store::PausingStore;
