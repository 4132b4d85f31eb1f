//! Constants that a query would copy for every row, within bounds.
//!
//! A constant list or text stands in a plan once, but many expressions write it out for each row of
//! a batch, before any memory pool is asked: a list of a million numbers beside a table is 64 GB.
//! Here the optimised plan is looked at, and such a constant is refused before anything runs.
//!
//! What may not live here: values that only running makes; calls are bounded in `sized.rs`. To allow
//! more, raise [`MOST_BYTES`].

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

use crate::error::EngineError;

/// Rows of a batch.
const BATCH: usize = 8192;
/// Most bytes that the copies of one constant may take in a batch.
const MOST_BYTES: usize = 256 << 20;

/// Refuses plans with constants that are too long for the rows they stand beside. Changes nothing.
#[derive(Debug)]
pub(crate) struct BoundedCopies;

impl OptimizerRule for BoundedCopies {
    fn name(&self) -> &str {
        "bounded_copies"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        _config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        let copies = copies(&plan);
        plan.apply_expressions(|expression| {
            expression.apply(|part| {
                if let Expr::Literal(value, _) = part
                    && value.size().saturating_mul(copies) > MOST_BYTES
                {
                    return Err(EngineError::Resource {
                        message: format!(
                            "a constant of {} kB would be copied for every row; take its values \
                             from a table or from `FROM range(...)`, or make it shorter",
                            value.size() / 1000
                        ),
                    }
                    .into());
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })?;
        Ok(Transformed::no(plan))
    }
}

/// For how many rows at once a node evaluates its expressions.
fn copies(plan: &LogicalPlan) -> usize {
    match plan {
        // Each row has constants of its own.
        LogicalPlan::Values(_) => 1,
        LogicalPlan::TableScan(_) => BATCH,
        _ => {
            let rows = plan.inputs().into_iter();
            let rows = rows.map(|input| input.max_rows().map_or(BATCH, |rows| rows.min(BATCH)));
            rows.max().unwrap_or(1).max(1)
        }
    }
}
