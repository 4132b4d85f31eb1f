//! The engine over a small lake in a temporary folder: who sees what, limits, reference data, and
//! the chain from rows to published values.

mod calculation;
mod fixture;
mod kernels;
mod limits;
mod reference;
mod roles;
mod terms;
