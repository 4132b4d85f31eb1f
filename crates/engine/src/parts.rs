//! Statements whose rows can be computed in parts, apart from each other.
//!
//! A statement that passes on the rows of one table, each by itself, gives in any order what it gives over
//! the parts of that table, one after another: projections, filters, and joins that keep the table's
//! rows. Sorting, grouping, limits, windows and unions are not of that kind. A part is a statement like
//! any other, over a part of the table's files; who computes it need not know of the others. What may
//! not live here: who asks for parts, and how many. To let another plan node pass: an arm in
//! [`way`], for the inputs whose rows it takes one by one.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::JoinType;
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::logical_expr::LogicalPlan;
use tietopohja_lake::{table_bytes, table_part};

use crate::error::{EngineError, Result};

/// The least that a part reads, in bytes as they are stored: less is read faster than a part is asked for.
const LEAST_PART: u64 = 4 * 1024 * 1024;

/// Where the table stands whose rows a plan passes on.
struct Way {
    /// Which input to take at each node, the last first.
    turns: Vec<usize>,
    table: Arc<dyn TableProvider>,
    bytes: u64,
}

/// In how many parts a plan can be computed, of so many that are wanted; 1 when only whole.
pub(crate) fn parts(plan: &LogicalPlan, wanted: usize) -> usize {
    let most = way(plan).map_or(1, |way| way.bytes / LEAST_PART);
    wanted.min(usize::try_from(most).unwrap_or(wanted)).max(1)
}

/// A part of a plan; `None` when it has none.
pub(crate) fn part(plan: &LogicalPlan, part: usize, of: usize) -> Result<Option<LogicalPlan>> {
    let Some(mut way) = way(plan) else {
        return Ok(None);
    };
    match table_part(way.table.as_ref(), part, of) {
        None => Ok(None),
        Some(table) => replaced(plan, &mut way.turns, table).map(Some),
    }
}

fn way(plan: &LogicalPlan) -> Option<Way> {
    let through = |input: usize| {
        let mut way = way(plan.inputs().get(input)?)?;
        way.turns.push(input);
        Some(way)
    };
    match plan {
        LogicalPlan::TableScan(scan) if scan.fetch.is_none() => {
            let table = source_as_provider(&scan.source).ok()?;
            let bytes = table_bytes(table.as_ref())?;
            Some(Way {
                turns: Vec::new(),
                table,
                bytes,
            })
        }
        LogicalPlan::Projection(_) | LogicalPlan::Filter(_) | LogicalPlan::SubqueryAlias(_) => {
            through(0)
        }
        LogicalPlan::Join(join) => match join.join_type {
            JoinType::Inner => {
                let sides = [through(0), through(1)].into_iter().flatten();
                sides.max_by_key(|way| way.bytes)
            }
            JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => {
                through(0)
            }
            JoinType::Right | JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => {
                through(1)
            }
            JoinType::Full => None,
        },
        _ => None,
    }
}

/// The plan with another table at the end of the way.
fn replaced(
    plan: &LogicalPlan,
    turns: &mut Vec<usize>,
    table: Arc<dyn TableProvider>,
) -> Result<LogicalPlan> {
    let lost = || EngineError::internal("the way to a table was lost");
    let Some(turn) = turns.pop() else {
        let LogicalPlan::TableScan(scan) = plan else {
            return Err(lost());
        };
        let mut scan = scan.clone();
        scan.source = provider_as_source(table);
        return Ok(LogicalPlan::TableScan(scan));
    };
    let mut inputs: Vec<LogicalPlan> = plan.inputs().into_iter().cloned().collect();
    let input = inputs.get_mut(turn).ok_or_else(lost)?;
    *input = replaced(input, turns, table)?;
    Ok(plan.with_new_exprs(plan.expressions(), inputs)?)
}
