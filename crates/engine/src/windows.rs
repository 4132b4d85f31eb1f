//! Aggregates that cannot work in a window are refused when the query is planned.
//!
//! The engine asks an aggregate for what a window needs of it, such as taking rows out of a frame
//! again, only when the first rows are there; by then half a query may be done, and over no rows
//! nothing is said. Here it is asked when the plan is made.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};

/// Refuses plans with aggregates that refuse their window. Changes nothing.
#[derive(Debug)]
pub(crate) struct PossibleWindows;

impl PhysicalOptimizerRule for PossibleWindows {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        plan.apply(|node| {
            let bounded = node.downcast_ref::<BoundedWindowAggExec>();
            let whole = node.downcast_ref::<WindowAggExec>();
            let windows = bounded
                .map(BoundedWindowAggExec::window_expr)
                .or_else(|| whole.map(WindowAggExec::window_expr));
            for window in windows.unwrap_or_default() {
                window.create_window_fn()?;
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(plan)
    }

    fn name(&self) -> &str {
        "PossibleWindows"
    }

    fn schema_check(&self) -> bool {
        true
    }
}
