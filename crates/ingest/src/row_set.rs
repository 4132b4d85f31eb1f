//! Questions about a delivery's rows as a set, which only a query engine can answer.
//!
//! This crate does not run queries: it says what it wants to know and when, and the caller brings
//! who answers. An answer is about rows that are stored and that nobody sees yet, so whatever comes
//! of it, the lake is as it was. What the numbers mean is the contract's business.

use futures::future::BoxFuture;
use tietopohja_contract::Contract;
use tietopohja_domain::Problem;
use tietopohja_lake::StagedTable;

/// Runs the SQL checks of contracts over stored rows.
pub trait RowSetChecks: Send + Sync {
    /// The number of each SQL check of the contract, in the contract's order.
    fn numbers<'a>(
        &'a self,
        contract: &'a Contract,
        rows: &'a StagedTable,
    ) -> BoxFuture<'a, Result<Vec<f64>, NoNumbers>>;
}

/// Why there are no numbers.
#[derive(Debug)]
pub enum NoNumbers {
    /// The contract's queries cannot be run: every problem with its file and line.
    Contract(Vec<Problem>),
    /// Memory, time or storage did not allow it.
    Failed(Box<dyn std::error::Error + Send + Sync>),
}
