//! Looking up a code costs nothing where its word is not asked for, and little where it is.
//!
//! A conformed relation joins `reference.code` once for each coded column, and most queries ask for
//! one or two of them. Such a join gives at most one row: it finds one list's version of a code on a
//! day, and the periods of a code in a list do not overlap (checked where lists are read). So a lookup
//! of which no column is used is left out, and one of which only the word is used becomes a function
//! of code and day, which no hash table of rows has to be built and probed for. Joins of any other
//! shape stay as they are.

use std::any::Any;
use std::collections::HashSet;
use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, ExprSchema, JoinType, Result};
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, Filter, Join, LogicalPlan, Operator, Projection};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use crate::codes::CodeTable;

/// Leaves out lookups whose words nobody reads, and takes the others for what they are.
#[derive(Debug)]
pub(crate) struct Lookups;

impl OptimizerRule for Lookups {
    fn name(&self) -> &str {
        "lookups"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        _config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Projection(projection) = &plan else {
            return Ok(Transformed::no(plan));
        };
        let mut used: HashSet<Column> = HashSet::new();
        for expr in &projection.expr {
            used.extend(expr.column_refs().into_iter().cloned());
        }
        match simplified(&projection.input, used)? {
            None => Ok(Transformed::no(plan)),
            Some(input) => Ok(Transformed::yes(LogicalPlan::Projection(
                Projection::try_new(projection.expr.clone(), Arc::new(input))?,
            ))),
        }
    }
}

/// The plan with lookups left out or made functions; `None` when there are none.
fn simplified(plan: &LogicalPlan, mut used: HashSet<Column>) -> Result<Option<LogicalPlan>> {
    match plan {
        LogicalPlan::Join(join) => {
            let Some(lookup) = Lookup::of(join) else {
                return Ok(None);
            };
            let left = join.left.as_ref();
            let right = join.right.schema();
            let of_right = used.iter().filter(|column| right.has_column(column));
            let of_right: Vec<Column> = of_right.cloned().collect();
            if of_right.is_empty() {
                let deeper = simplified(left, used)?;
                return Ok(Some(deeper.unwrap_or_else(|| left.clone())));
            }
            used.extend(lookup.code.column_refs().into_iter().cloned());
            used.extend(lookup.day.column_refs().into_iter().cloned());
            let [word] = of_right.as_slice() else {
                return Ok(None);
            };
            if word.name != WORD {
                return Ok(None);
            }
            let result = right.field_from_column(word)?.data_type().clone();
            let function = lookup
                .table
                .word(&lookup.list, lookup.code, lookup.day, result)
                .alias_qualified(word.relation.clone(), &word.name);
            let mut columns: Vec<Expr> = left
                .schema()
                .columns()
                .into_iter()
                .filter(|column| used.contains(column))
                .map(Expr::Column)
                .collect();
            columns.push(function);
            let left = simplified(left, used)?.unwrap_or_else(|| left.clone());
            Ok(Some(LogicalPlan::Projection(Projection::try_new(
                columns,
                Arc::new(left),
            )?)))
        }
        LogicalPlan::Filter(filter) => {
            used.extend(filter.predicate.column_refs().into_iter().cloned());
            let Some(input) = simplified(&filter.input, used)? else {
                return Ok(None);
            };
            Ok(Some(LogicalPlan::Filter(Filter::try_new(
                filter.predicate.clone(),
                Arc::new(input),
            )?)))
        }
        _ => Ok(None),
    }
}

/// The column of a code's word.
const WORD: &str = "maps_to";

/// A left join with `reference.code` by list, code and day.
struct Lookup {
    table: Arc<CodeTable>,
    list: String,
    code: Expr,
    day: Expr,
}

impl Lookup {
    fn of(join: &Join) -> Option<Lookup> {
        if join.join_type != JoinType::Left {
            return None;
        }
        let [(by, code)] = join.on.as_slice() else {
            return None;
        };
        let mut conditions: Vec<Expr> = Vec::new();
        let table = codes_of(&join.right, &mut conditions)?;
        if let Some(filter) = &join.filter {
            conditions.extend(split_conjunction(filter).into_iter().cloned());
        }
        let right = join.right.schema();
        let column = |expr: &Expr, name: &str| match uncast(expr) {
            Expr::Column(column) => column.name == name && right.has_column(column),
            _ => false,
        };
        if !column(code, "code") {
            return None;
        }
        let (mut list, mut from, mut to) = (None, None, None);
        for condition in &conditions {
            // Each condition must be one of the three: another one could keep a match away.
            let found = if let Some(text) = list_of(condition) {
                list.replace(text).is_none()
            } else if let Some((day, Operator::LtEq)) = bound(condition, &column, "valid_from") {
                from.replace(day).is_none()
            } else if let Some((day, Operator::Gt)) = bound(condition, &column, "valid_to") {
                to.replace(day).is_none()
            } else {
                false
            };
            if !found {
                return None;
            }
        }
        let day = from.filter(|from| Some(from) == to.as_ref())?;
        let of_left = |expr: &Expr| {
            let mut columns = expr.column_refs().into_iter();
            columns.all(|column| join.left.schema().has_column(column))
        };
        (of_left(by) && of_left(&day)).then_some(Lookup {
            table,
            list: list?,
            code: uncast(by).clone(),
            day,
        })
    }
}

fn uncast(expr: &Expr) -> &Expr {
    match expr {
        Expr::Cast(cast) => uncast(&cast.expr),
        other => other,
    }
}

/// The list of `list = 'name'`.
fn list_of(condition: &Expr) -> Option<String> {
    let Expr::BinaryExpr(BinaryExpr {
        left,
        op: Operator::Eq,
        right,
    }) = condition
    else {
        return None;
    };
    let (column, literal) = match (uncast(left), right.as_ref()) {
        (Expr::Column(column), Expr::Literal(literal, _)) => (column, literal),
        (other, _) => match (other, uncast(right)) {
            (Expr::Literal(literal, _), Expr::Column(column)) => (column, literal),
            _ => return None,
        },
    };
    // Below the join the scan's own columns are named, so the table is not compared.
    (column.name == "list").then(|| literal.try_as_str().flatten().map(str::to_owned))?
}

/// The code lists that the plan gives rows of; collects the conditions it keeps them by.
fn codes_of(plan: &LogicalPlan, conditions: &mut Vec<Expr>) -> Option<Arc<CodeTable>> {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => codes_of(&alias.input, conditions),
        LogicalPlan::Projection(projection) => {
            let plain = |expr: &Expr| matches!(expr, Expr::Column(_));
            if projection.expr.iter().all(plain) {
                codes_of(&projection.input, conditions)
            } else {
                None
            }
        }
        LogicalPlan::Filter(filter) => {
            conditions.extend(split_conjunction(&filter.predicate).into_iter().cloned());
            codes_of(&filter.input, conditions)
        }
        LogicalPlan::TableScan(scan) if scan.fetch.is_none() => {
            let provider = source_as_provider(&scan.source).ok()?;
            let table = Arc::downcast::<CodeTable>(provider as Arc<dyn Any + Send + Sync>).ok()?;
            conditions.extend(scan.filters.iter().cloned());
            Some(table)
        }
        _ => None,
    }
}

/// `column IS NULL OR column op day`, as the day and the operator with the column on the left.
fn bound(
    condition: &Expr,
    column: &dyn Fn(&Expr, &str) -> bool,
    name: &str,
) -> Option<(Expr, Operator)> {
    let Expr::BinaryExpr(BinaryExpr {
        left: null,
        op: Operator::Or,
        right: compared,
    }) = condition
    else {
        return None;
    };
    let (null, compared) = match (null.as_ref(), compared.as_ref()) {
        (Expr::IsNull(of), other) | (other, Expr::IsNull(of)) => (of, other),
        _ => return None,
    };
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = compared else {
        return None;
    };
    if !column(null, name) {
        return None;
    }
    if column(left, name) {
        return Some((right.as_ref().clone(), *op));
    }
    if column(right, name) {
        return Some((left.as_ref().clone(), op.swap()?));
    }
    None
}
