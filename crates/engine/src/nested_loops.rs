//! A join by nested loops that is refused memory reads its left side again, and stays right.
//!
//! Such a join, as one of spells with the days that they cover, holds its left side in memory. When that
//! is refused, the engine's own operator executes the left side a second time and spills it. But an
//! operator that divides rows gives each part once, and panics when it is asked again. And a join that
//! also gives the left rows that found nothing then looks for them in each part of the right side alone:
//! with several parts it gives rows twice, or some that it must not.
//!
//! So every such join has an operator over its left side that gives it anew, from a plan in its first
//! state, and that refuses where rows would be wrong: the query then fails for want of memory.

use std::fmt::Formatter;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{JoinType, internal_err, resources_err};
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::execution_plan::{
    ChildrenPropertiesMode, ReplaceChildrenOptions, replace_children_if_necessary,
    reset_plan_states,
};
use datafusion::physical_plan::joins::NestedLoopJoinExec;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PhysicalExpr,
    PlanProperties,
};

/// Puts [`ReadAgain`] over the left side of every join by nested loops.
#[derive(Debug)]
pub(crate) struct LeftSidesAnew;

impl PhysicalOptimizerRule for LeftSidesAnew {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let wrapped = plan.transform_up(|node| {
            let Some(join) = node.downcast_ref::<NestedLoopJoinExec>() else {
                return Ok(Transformed::no(node));
            };
            let parts = join.right().output_partitioning().partition_count();
            let stays_right = parts == 1
                || matches!(
                    join.join_type(),
                    JoinType::Inner
                        | JoinType::Right
                        | JoinType::RightSemi
                        | JoinType::RightAnti
                        | JoinType::RightMark
                );
            let left: Arc<dyn ExecutionPlan> = Arc::new(ReadAgain {
                input: Arc::clone(join.left()),
                stays_right,
                was_read: AtomicBool::new(false),
            });
            let right = Arc::clone(join.right());
            let anew = replace_children_if_necessary(node, vec![left, right])?;
            Ok(Transformed::yes(anew))
        })?;
        Ok(wrapped.data)
    }

    fn name(&self) -> &str {
        "LeftSidesAnew"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Gives its input, and again when it is asked again.
#[derive(Debug)]
struct ReadAgain {
    input: Arc<dyn ExecutionPlan>,
    /// Whether the join gives the right rows when it reads this side again.
    stays_right: bool,
    was_read: AtomicBool,
}

impl DisplayAs for ReadAgain {
    fn fmt_as(&self, _type: DisplayFormatType, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl ExecutionPlan for ReadAgain {
    fn name(&self) -> &str {
        "ReadAgain"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn apply_expressions(
        &self,
        _apply: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(input) = children.into_iter().next() else {
            return internal_err!("a side of a join has no rows to read");
        };
        Ok(Arc::new(Self {
            input,
            stays_right: self.stays_right,
            was_read: AtomicBool::new(false),
        }))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
        self.replace_children(children, options)
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        if !self.was_read.swap(true, Ordering::Relaxed) {
            return self.input.execute(partition, context);
        }
        if !self.stays_right {
            return resources_err!(
                "a join without an equality has not the memory for its left side; put the smaller relation \
                 first, or join by an equality too"
            );
        }
        reset_plan_states(Arc::clone(&self.input))?.execute(partition, context)
    }
}
