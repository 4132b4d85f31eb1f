//! Parameters whose types only their values tell.
//!
//! `SELECT $1 || $2` cannot be planned as it stands: without a type for its parts, the operator has
//! no meaning. Such a statement is planned with guessed types when it is prepared, to say what its
//! result looks like, and planned again with the types of the values when these are bound. Types go
//! in through the planner's own `PREPARE p (types) AS statement`.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::logical_expr::{LogicalPlan, Statement as PlannedStatement};
use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::sqlparser::ast::{
    DataType as SqlType, ExactNumberInfo, Expr, Ident, Statement as Sql, TimezoneInfo, Value,
    visit_expressions,
};

/// Types to try for all parameters at once, in this order.
pub(crate) const GUESSES: [DataType; 3] = [DataType::Utf8, DataType::Int64, DataType::Float64];

/// The names of the placeholders in a statement.
pub(crate) fn names(tree: &Parsed) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    if let Parsed::Statement(sql) = tree {
        let _: ControlFlow<()> = visit_expressions(sql.as_ref(), |expr| {
            if let Expr::Value(value) = expr
                && let Value::Placeholder(name) = &value.value
            {
                names.insert(name.clone());
            }
            ControlFlow::Continue(())
        });
    }
    names
}

/// The statement with a type for each of its parameters `$1`, `$2`, …; `None` when there is nothing
/// to say types about, or a type has no name in SQL.
pub(crate) fn with_types(tree: &Parsed, types: &[DataType]) -> Option<Parsed> {
    let Parsed::Statement(sql) = tree else {
        return None;
    };
    let data_types = types.iter().map(sql_type).collect::<Option<Vec<_>>>()?;
    let prepare = Sql::Prepare {
        name: Ident::new("typed"),
        data_types,
        statement: Box::new(sql.as_ref().clone()),
    };
    Some(Parsed::Statement(Box::new(prepare)))
}

/// The plan of the statement itself, without the `PREPARE` around it.
pub(crate) fn inner(plan: LogicalPlan) -> LogicalPlan {
    match plan {
        LogicalPlan::Statement(PlannedStatement::Prepare(prepare)) => {
            Arc::unwrap_or_clone(prepare.input)
        }
        other => other,
    }
}

fn sql_type(data_type: &DataType) -> Option<SqlType> {
    Some(match data_type {
        DataType::Null | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            SqlType::Varchar(None)
        }
        DataType::Boolean => SqlType::Boolean,
        DataType::Int8 => SqlType::TinyInt(None),
        DataType::Int16 | DataType::UInt8 => SqlType::SmallInt(None),
        DataType::Int32 | DataType::UInt16 => SqlType::Integer(None),
        DataType::Int64 | DataType::UInt32 | DataType::UInt64 => SqlType::BigInt(None),
        DataType::Float16 | DataType::Float32 => SqlType::Real,
        DataType::Float64 => SqlType::Double(ExactNumberInfo::None),
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => SqlType::Decimal(
            ExactNumberInfo::PrecisionAndScale(u64::from(*precision), i64::from(*scale)),
        ),
        DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => SqlType::Bytea,
        DataType::Date32 | DataType::Date64 => SqlType::Date,
        DataType::Time32(_) | DataType::Time64(_) => SqlType::Time(None, TimezoneInfo::None),
        DataType::Timestamp(_, None) => SqlType::Timestamp(None, TimezoneInfo::None),
        DataType::Timestamp(_, Some(_)) => SqlType::Timestamp(None, TimezoneInfo::WithTimeZone),
        DataType::Interval(_) => SqlType::Interval {
            fields: None,
            precision: None,
        },
        DataType::Duration(_)
        | DataType::List(_)
        | DataType::LargeList(_)
        | DataType::ListView(_)
        | DataType::LargeListView(_)
        | DataType::FixedSizeList(_, _)
        | DataType::Struct(_)
        | DataType::Union(_, _)
        | DataType::Map(_, _)
        | DataType::Dictionary(_, _)
        | DataType::RunEndEncoded(_, _) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::parse;

    #[test]
    fn the_placeholders_of_a_statement_are_found() {
        for (sql, wanted) in [
            ("SELECT 1", &[][..]),
            ("SELECT ?, ?", &["$1", "$2"]),
            ("SELECT $2, $1, $2", &["$1", "$2"]),
            ("SELECT 1 WHERE 'a' IN (SELECT $1) LIMIT $2", &["$1", "$2"]),
            ("SELECT $name", &["$name"]),
        ] {
            let found: Vec<_> = names(&parse(sql, 50).unwrap().tree).into_iter().collect();
            assert_eq!(found, wanted, "{sql}");
        }
    }

    #[test]
    fn types_are_named_in_sql() {
        let tree = parse("SELECT $1 || $2", 50).unwrap().tree;
        let typed = with_types(&tree, &[DataType::Utf8, DataType::Decimal128(14, 2)]).unwrap();
        let Parsed::Statement(sql) = typed else {
            unreachable!("a statement stays a statement")
        };
        assert_eq!(
            sql.to_string(),
            "PREPARE typed (VARCHAR, DECIMAL(14,2)) AS SELECT $1 || $2"
        );
        assert!(with_types(&tree, &[DataType::new_list(DataType::Int8, true)]).is_none());
    }
}
