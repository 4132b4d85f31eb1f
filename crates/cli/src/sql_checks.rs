//! Wires the SQL checks of contracts to the engine: landing asks, the engine answers.
//!
//! Nothing is decided here. A warehouse whose contracts have no SQL checks never opens the engine
//! for a landing.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use tietopohja_contract::Contract;
use tietopohja_domain::render_problems;
use tietopohja_engine::{Engine, EngineError};
use tietopohja_ingest::{LandRequest, NoNumbers, RowSetChecks};
use tietopohja_lake::StagedTable;

use crate::failure::Failure;
use crate::warehouse::Warehouse;

/// The engine as landing knows it.
pub(crate) struct SqlChecks(Arc<Engine>);

impl SqlChecks {
    /// Who answers for these requests; `None` when no contract of theirs asks anything. Queries
    /// that cannot be planned are told before a file is opened, all of them at once.
    pub(crate) async fn of(
        warehouse: &Warehouse,
        requests: &[LandRequest],
    ) -> Result<Option<SqlChecks>, Failure> {
        let asking: BTreeMap<&str, &Contract> = requests
            .iter()
            .map(|request| request.contract.as_ref())
            .filter(|contract| !contract.sql_checks().is_empty())
            .map(|contract| (contract.name(), contract))
            .collect();
        if asking.is_empty() {
            return Ok(None);
        }
        let engine = warehouse.engine().await?;
        let mut problems = Vec::new();
        for contract in asking.values() {
            problems.extend(Box::pin(engine.sql_check_problems(contract)).await);
        }
        if problems.is_empty() {
            Ok(Some(SqlChecks(engine)))
        } else {
            Err(Failure::expected(render_problems(&problems)))
        }
    }
}

impl RowSetChecks for SqlChecks {
    fn numbers<'a>(
        &'a self,
        contract: &'a Contract,
        rows: &'a StagedTable,
    ) -> BoxFuture<'a, Result<Vec<f64>, NoNumbers>> {
        Box::pin(async move {
            match self.0.sql_check_numbers(contract, rows).await {
                Ok(numbers) => Ok(numbers),
                Err(EngineError::Definitions { problems }) => Err(NoNumbers::Contract(problems)),
                Err(other) => Err(NoNumbers::Failed(Box::new(other))),
            }
        })
    }
}
