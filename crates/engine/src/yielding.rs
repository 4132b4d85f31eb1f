//! A query that multiplies rows must stop when it is told to.
//!
//! The engine's own rule lets scans give way to other tasks. A join of two small inputs can give
//! billions of rows for one batch that it scans, and an aggregate above it would take them all
//! without a pause: neither a timeout nor a dropped stream would be noticed. Here every operator
//! that can give more rows than it takes gives way too.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;

/// Puts a yielding operator over every operator that multiplies rows.
#[derive(Debug)]
pub(crate) struct YieldAfterMultiplying;

impl PhysicalOptimizerRule for YieldAfterMultiplying {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let wrapped = plan.transform_up(|node| {
            if multiplies(node.name()) {
                Ok(Transformed::yes(
                    Arc::new(CooperativeExec::new(node)) as Arc<dyn ExecutionPlan>
                ))
            } else {
                Ok(Transformed::no(node))
            }
        })?;
        Ok(wrapped.data)
    }

    fn name(&self) -> &str {
        "YieldAfterMultiplying"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn multiplies(operator: &str) -> bool {
    operator.ends_with("JoinExec") || operator == "UnnestExec"
}
