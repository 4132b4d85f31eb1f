//! Formulas of values, planned once for all indicators that have the same.
//!
//! A formula is a query over the relation `measured` ([`rollup`](super::rollup)). Many indicators differ
//! only in what they measure, so that their formulas are one text over columns of the same names and
//! types; planning it takes some milliseconds of a core, and running it far less. So the plan for the
//! first is kept, without its rows, and those of the next take their place. Which plan is good depends
//! on how many rows there are, so those with twice as many have a plan of their own.
//!
//! What may not live here: what a formula says (`indicators`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::datasource::MemTable;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::TryStreamExt;
use tokio::sync::OnceCell;

use crate::catalog::Resolver;
use crate::engine::Engine;
use crate::error::{EngineError, Result};
use crate::model::{RECURSION_LIMIT, RelationName};
use crate::statement;

/// Rows of a batch that a formula takes.
const BATCH_ROWS: usize = 8_192;

/// The formulas of a run, by their text, the columns that they are over, and the binary digits of the
/// number of rows.
#[derive(Debug, Default)]
pub(super) struct Formulas {
    known: Mutex<HashMap<(String, SchemaRef, u32), Arc<OnceCell<Formula>>>>,
}

/// A formula that is planned.
#[derive(Debug, Clone)]
struct Formula {
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
}

impl Engine {
    /// What a formula gives for these rows.
    pub(super) async fn values_of(
        &self,
        resolver: &Arc<Resolver>,
        formulas: &Formulas,
        sql: &str,
        measured: RecordBatch,
    ) -> Result<Vec<RecordBatch>> {
        let digits = usize::BITS - measured.num_rows().leading_zeros();
        let key = (sql.to_owned(), measured.schema(), digits);
        let formula = {
            let mut known = formulas
                .known
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            Arc::clone(known.entry(key).or_default())
        };
        let rows = Rows::of(measured);
        let planned = formula.get_or_try_init(|| self.planned(resolver, sql, &rows));
        let Formula { plan, context } = planned.await?.clone();
        let plan = rows.under(plan)?;
        Ok(execute_stream(plan, context)?.try_collect().await?)
    }

    /// A formula for so many rows of these columns, over none of them.
    async fn planned(&self, resolver: &Arc<Resolver>, sql: &str, rows: &Rows) -> Result<Formula> {
        let measured = MemTable::try_new(Arc::clone(&rows.schema), vec![rows.batches.clone()])?;
        let resolver = resolver.fork();
        resolver.put_instead(
            RelationName::new("component", "measured"),
            Arc::new(measured),
        );
        let sql = format!("WITH measured AS (SELECT * FROM component.measured)\n{sql}");
        let parsed = statement::parse(&sql, RECURSION_LIMIT)?;
        let mut state = resolver.inner_state();
        state.mark_start_execution();
        let plan = state.statement_to_plan(parsed.tree).await?;
        let plan = state.create_physical_plan(&plan).await?;
        let none = Rows {
            schema: Arc::clone(&rows.schema),
            batches: Vec::new(),
        };
        Ok(Formula {
            plan: none.under(plan)?,
            context: state.task_ctx(),
        })
    }
}

/// The rows that a formula is over.
struct Rows {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
}

impl Rows {
    fn of(rows: RecordBatch) -> Self {
        let starts = (0..rows.num_rows()).step_by(BATCH_ROWS);
        let batches =
            starts.map(|start| rows.slice(start, BATCH_ROWS.min(rows.num_rows() - start)));
        Self {
            schema: rows.schema(),
            batches: batches.collect(),
        }
    }

    /// A plan over these rows in the place of others; parts of it that keep something are made anew.
    fn under(&self, plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        let mut is_over = false;
        let plan = plan.transform_up(|node| {
            let source = node.downcast_ref::<DataSourceExec>();
            let memory =
                source.and_then(|of| of.data_source().downcast_ref::<MemorySourceConfig>());
            let Some(memory) = memory.filter(|memory| memory.original_schema() == self.schema)
            else {
                return Ok(Transformed::no(node));
            };
            is_over = true;
            let source = MemorySourceConfig::try_new_exec(
                std::slice::from_ref(&self.batches),
                Arc::clone(&self.schema),
                memory.projection().clone(),
            )?;
            Ok(Transformed::yes(source as Arc<dyn ExecutionPlan>))
        });
        let plan = plan.data()?;
        match is_over {
            true => Ok(reset_plan_states(plan)?),
            false => Err(EngineError::internal(
                "a formula is not over what was measured",
            )),
        }
    }
}
