//! The SQL checks of a contract: planned when the contract is looked at, run over the rows of a
//! delivery before they become visible.
//!
//! A check sees one table, the delivery's own accepted rows. Whether a delivery passes therefore
//! depends on the delivery alone, not on what else the warehouse holds at that moment, and the same
//! file is judged the same tomorrow. What a number means is the contract's business; a query that
//! cannot be planned or fails on a row is a problem of the contract, with file and line.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::TryStreamExt;
use tietopohja_contract::{Contract, SqlCheck};
use tietopohja_domain::Problem;
use tietopohja_lake::StagedTable;
use tokio::time::timeout_at;

use crate::catalog::{ListedCatalog, ListedSchema, OneCatalog};
use crate::depth::refuse_deep;
use crate::engine::Engine;
use crate::error::{EngineError, Result};
use crate::model::RECURSION_LIMIT;
use crate::plain::{Deadline, plain_type};
use crate::session::only_reads;
use crate::statement::{self, StatementKind};

/// The schema and table that stand for the delivery. No schema of the warehouse has this name, so a
/// query that names another table is told that there is none.
const SCHEMA: &str = "delivery";
const TABLE: &str = "object";

impl Engine {
    /// What is wrong with the queries of a contract's SQL checks, so far as that can be seen
    /// without rows: each is planned against the contract's own columns.
    pub async fn sql_check_problems(&self, contract: &Contract) -> Vec<Problem> {
        if contract.sql_checks().is_empty() {
            return Vec::new();
        }
        let rows = StagedTable::without_rows(&contract.arrow_schema());
        let state = self.state_over(&rows);
        let mut problems = Vec::new();
        for check in contract.sql_checks() {
            if let Err(error) = Box::pin(plan(&state, contract, check)).await {
                problems.push(problem(contract, check, &error.to_string()));
            }
        }
        problems
    }

    /// The number that each SQL check of the contract gives over the rows, in the contract's order.
    ///
    /// # Errors
    /// [`EngineError::Definitions`] with every check that cannot be planned or fails on a row;
    /// [`EngineError::Resource`] and [`EngineError::Timeout`] when one needs more than it may use;
    /// [`EngineError::Lake`] when the rows cannot be read.
    pub async fn sql_check_numbers(
        &self,
        contract: &Contract,
        rows: &StagedTable,
    ) -> Result<Vec<f64>> {
        let state = self.state_over(rows);
        let (mut numbers, mut problems) = (Vec::new(), Vec::new());
        for check in contract.sql_checks() {
            match Box::pin(self.number(&state, contract, check)).await {
                Ok(number) => numbers.push(number),
                Err(EngineError::UserSql { message }) => {
                    problems.push(problem(contract, check, &message));
                }
                Err(other) => return Err(other),
            }
        }
        if problems.is_empty() {
            Ok(numbers)
        } else {
            Err(EngineError::Definitions { problems })
        }
    }

    async fn number(
        &self,
        state: &SessionState,
        contract: &Contract,
        check: &SqlCheck,
    ) -> Result<f64> {
        let answered = async {
            let plan = plan(state, contract, check).await?;
            let stream = execute_stream(plan, state.task_ctx())?;
            Ok::<Vec<RecordBatch>, EngineError>(stream.try_collect().await?)
        };
        let batches = match self.options.statement_timeout.map(Deadline::after) {
            None => answered.await?,
            Some(deadline) => match timeout_at(deadline.at(), answered).await {
                Ok(batches) => batches?,
                Err(_) => return Err(deadline.error()),
            },
        };
        only_number(&batches)
    }

    /// Functions, rules and limits as everywhere, and nothing to read but these rows.
    fn state_over(&self, rows: &StagedTable) -> SessionState {
        let only = ListedSchema {
            schema: SCHEMA.to_owned(),
            tables: BTreeMap::from([(TABLE.to_owned(), rows.provider())]),
        };
        let catalog = Arc::new(ListedCatalog {
            schemas: vec![only],
        });
        let mut state = SessionStateBuilder::new_from_existing(self.warehouse.template.clone())
            .with_catalog_list(Arc::new(OneCatalog::new(catalog)))
            .build();
        state.mark_start_execution();
        state
    }
}

/// A problem in the words of the contract: its author wrote `{object}`, not the table's name.
fn problem(contract: &Contract, check: &SqlCheck, message: &str) -> Problem {
    let table = format!("{SCHEMA}.{TABLE}");
    let message = message
        .replace(&format!("{table}."), "")
        .replace(&table, "{object}");
    contract.sql_problem(check, &message)
}

/// The finished plan of a check that gives one number.
async fn plan(
    state: &SessionState,
    contract: &Contract,
    check: &SqlCheck,
) -> Result<Arc<dyn ExecutionPlan>> {
    let sql = contract.sql_text(check, &format!("{SCHEMA}.{TABLE}"));
    refuse_deep(&sql)?;
    let parsed = statement::parse(&sql, RECURSION_LIMIT)?;
    if parsed.kind != StatementKind::Rows {
        return Err(refused("it is not a query that gives rows; use `SELECT`"));
    }
    let plan = Box::pin(state.statement_to_plan(parsed.tree)).await?;
    only_reads(&plan)?;
    if !plan.get_parameter_names()?.is_empty() {
        return Err(refused("it has a parameter, and nobody gives it a value"));
    }
    let physical = Box::pin(state.create_physical_plan(&plan)).await?;
    let schema = physical.schema();
    let [column] = schema.fields().as_ref() else {
        return Err(refused(&format!(
            "it gives {} columns; a check gives one number",
            schema.fields().len()
        )));
    };
    if !column.data_type().is_numeric() {
        return Err(refused(&format!(
            "it gives a value of type {}; a check gives one number",
            plain_type(column.data_type())
        )));
    }
    Ok(physical)
}

/// The number in a result of one row and one column.
fn only_number(batches: &[RecordBatch]) -> Result<f64> {
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    let first = batches.iter().find(|batch| batch.num_rows() > 0);
    let Some(batch) = first.filter(|_| rows == 1) else {
        return Err(refused(&format!(
            "it gives {rows} rows over this delivery; a check gives one number in one row"
        )));
    };
    let number = cast(batch.column(0), &DataType::Float64).map_err(EngineError::from_arrow)?;
    let number = number.as_primitive::<Float64Type>();
    if number.is_null(0) {
        return Err(refused(
            "it gives null over this delivery, which is no number; use `coalesce`",
        ));
    }
    Ok(number.value(0))
}

fn refused(message: &str) -> EngineError {
    EngineError::UserSql {
        message: message.to_owned(),
    }
}
