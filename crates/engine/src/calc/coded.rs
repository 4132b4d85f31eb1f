//! Expressions over a coded column, evaluated once for each value and not for each row.
//!
//! A column that comes as codes of a dictionary has few values; a condition or a breakdown that reads
//! nothing else can have only as many results. Here it is told which expressions of a scan are such,
//! and their columns are made from the codes. Expressions over several columns, and over columns that
//! are not coded, are left to the query of the scan. What may not live here: what a column is for.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, DictionaryArray, Int32Array, RecordBatch, new_null_array};
use arrow::compute::concat;
use arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::PhysicalExpr;

use crate::error::{EngineError, Result};
use crate::plain::to_type;

/// An expression over one coded column.
#[derive(Debug, Clone)]
pub(crate) struct Coded {
    /// The column.
    pub(crate) column: String,
    expression: Arc<dyn PhysicalExpr>,
    /// Whether it tells which rows count; else its results are taken as text.
    is_condition: bool,
    schema: SchemaRef,
    /// The values that were looked at last, and their results: those of the values, then that of null.
    known: Option<(ArrayRef, ArrayRef)>,
}

/// Is this column coded?
fn values_of(data_type: &DataType) -> Option<&DataType> {
    match data_type {
        DataType::Dictionary(code, values) if **code == DataType::Int32 => Some(values),
        _ => None,
    }
}

impl Coded {
    /// The expression, where it reads one coded column and nothing else, and is more than the column.
    pub(crate) fn of(
        state: &SessionState,
        sql: &str,
        columns: &Schema,
        is_condition: bool,
    ) -> Option<Self> {
        let plain = columns.fields().iter().map(|field| {
            let values = values_of(field.data_type()).unwrap_or(field.data_type());
            Field::new(field.name(), values.clone(), true)
        });
        let plain = Schema::new(plain.collect::<Vec<_>>());
        let expression = state
            .create_logical_expr(sql, &DFSchema::try_from(plain.clone()).ok()?)
            .ok()?
            .unalias();
        if matches!(expression, Expr::Column(_)) || expression.is_volatile() {
            return None;
        }
        let mut read = expression.column_refs().into_iter();
        let (Some(column), None) = (read.next(), read.next()) else {
            return None;
        };
        let column = column.name.clone();
        values_of(columns.field_with_name(&column).ok()?.data_type())?;
        let schema = Schema::new(vec![plain.field_with_name(&column).ok()?.clone()]);
        let of_column = DFSchema::try_from(schema.clone()).ok()?;
        // Some functions exist only until they are simplified.
        let context = SimplifyContext::builder()
            .with_schema(Arc::new(of_column.clone()))
            .with_config_options(Arc::clone(state.config_options()))
            .build();
        let simplifier = ExprSimplifier::new(context);
        let expression = simplifier.coerce(expression, &of_column).ok()?;
        let expression = simplifier.simplify(expression).ok()?;
        let expression = state.create_physical_expr(expression, &of_column).ok()?;
        Some(Self {
            column,
            expression,
            is_condition,
            schema: Arc::new(schema),
            known: None,
        })
    }

    /// The expression's column as codes of its results: conditions, or texts.
    pub(crate) fn column(&mut self, coded: &DictionaryArray<Int32Type>) -> Result<ArrayRef> {
        let results = self.results(coded)?;
        let Some(_) = coded.keys().nulls() else {
            return Ok(Arc::new(coded.with_values(results)));
        };
        let of_null = i32::try_from(results.len().saturating_sub(1)).unwrap_or(i32::MAX);
        let keys = coded.keys().iter();
        let keys = keys.map(|code| Some(code.unwrap_or(of_null)));
        let column = DictionaryArray::try_new(keys.collect::<Int32Array>(), results)
            .map_err(|error| EngineError::internal_because("codes of a scan", error))?;
        Ok(Arc::new(column))
    }

    /// The results of the values, then that of null.
    fn results(&mut self, coded: &DictionaryArray<Int32Type>) -> Result<ArrayRef> {
        let values = coded.values();
        if let Some((known, results)) = &self.known
            && (Arc::ptr_eq(known, values) || known.to_data().ptr_eq(&values.to_data()))
        {
            return Ok(Arc::clone(results));
        }
        let failed = |error| EngineError::internal_because("values of a scan", error);
        let null = new_null_array(values.data_type(), 1);
        let all = concat(&[values.as_ref(), null.as_ref()]).map_err(failed)?;
        let all = match self.schema.fields().first() {
            Some(field) => to_type(&all, field.data_type())?,
            None => all,
        };
        let rows = all.len();
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), vec![all]).map_err(failed)?;
        let results = self.expression.evaluate(&batch)?.into_array(rows)?;
        let results = match results.data_type() {
            DataType::Boolean if self.is_condition => results,
            _ => to_type(&results, &DataType::Utf8View)?,
        };
        self.known = Some((Arc::clone(values), Arc::clone(&results)));
        Ok(results)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, BooleanArray, StringArray};
    use datafusion::execution::session_state::SessionStateBuilder;

    use super::*;

    fn state() -> SessionState {
        SessionStateBuilder::new().with_default_features().build()
    }

    fn columns() -> Schema {
        let coded = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        Schema::new(vec![
            Field::new("mode", coded.clone(), true),
            Field::new("class", coded, true),
            Field::new("note", DataType::Utf8View, true),
            Field::new("day", DataType::Date32, true),
        ])
    }

    /// own, null by its value, null by its code, private, own.
    fn modes() -> DictionaryArray<Int32Type> {
        let values = StringArray::from(vec![Some("private"), Some("own"), None]);
        let keys = Int32Array::from(vec![Some(1), Some(2), None, Some(0), Some(1)]);
        DictionaryArray::new(keys, Arc::new(values))
    }

    fn conditions(coded: &mut Coded, of: &DictionaryArray<Int32Type>) -> Vec<bool> {
        let found = coded.column(of).unwrap();
        let found = found.as_dictionary::<Int32Type>();
        let met: &BooleanArray = found.values().as_boolean();
        let met: Vec<Option<bool>> = met.iter().collect();
        let keys = found.keys().values();
        keys.iter()
            .map(|key| met[*key as usize] == Some(true))
            .collect()
    }

    #[test]
    fn conditions_over_a_coded_column_are_those_of_its_texts() {
        let state = state();
        for (sql, met) in [
            ("mode = 'own'", [true, false, false, false, true]),
            ("mode <> 'own'", [false, false, false, true, false]),
            (
                "mode IN ('own', 'voucher')",
                [true, false, false, false, true],
            ),
            ("mode IS NULL", [false, true, true, false, false]),
            ("mode IS NOT NULL", [true, false, false, true, true]),
            (
                "coalesce(mode, 'own') = 'own'",
                [true, true, true, false, true],
            ),
            (
                "mode LIKE 'p%' OR mode IS NULL",
                [false, true, true, true, false],
            ),
        ] {
            let mut coded = Coded::of(&state, sql, &columns(), true).unwrap();
            assert_eq!(coded.column, "mode");
            for _ in 0..2 {
                assert_eq!(conditions(&mut coded, &modes()), met, "{sql}");
            }
        }
    }

    #[test]
    fn texts_over_a_coded_column_are_those_of_its_texts() {
        let state = state();
        for (sql, texts) in [
            (
                "upper(mode)",
                [Some("OWN"), None, None, Some("PRIVATE"), Some("OWN")],
            ),
            (
                "CASE mode WHEN 'own' THEN 'public' WHEN 'private' THEN 'other' ELSE 'none' END",
                [
                    Some("public"),
                    Some("none"),
                    Some("none"),
                    Some("other"),
                    Some("public"),
                ],
            ),
            (
                "length(mode)",
                [Some("3"), None, None, Some("7"), Some("3")],
            ),
        ] {
            let mut coded = Coded::of(&state, sql, &columns(), false).unwrap();
            let found = coded.column(&modes()).unwrap();
            let found = to_type(&found, &DataType::Utf8).unwrap();
            let found: Vec<Option<&str>> = found.as_string::<i32>().iter().collect();
            assert_eq!(found, texts, "{sql}");
        }
    }

    #[test]
    fn other_values_are_looked_at_anew() {
        let mut coded = Coded::of(&state(), "mode = 'own'", &columns(), true).unwrap();
        let met = |found: Vec<bool>| found.into_iter().filter(|met| *met).count();
        assert_eq!(met(conditions(&mut coded, &modes())), 2);
        let values = StringArray::from(vec!["own", "private"]);
        let others = DictionaryArray::new(Int32Array::from(vec![0, 0, 1]), Arc::new(values));
        assert_eq!(met(conditions(&mut coded, &others)), 2);
    }

    #[test]
    fn only_expressions_over_one_coded_column_are_taken() {
        let state = state();
        for sql in [
            "mode",
            "note = 'x'",
            "mode = class",
            "mode = 'own' AND day > DATE '2024-01-01'",
            "true",
            "mode = CAST(random() AS VARCHAR)",
            "no_such_column = 1",
            "mode = (",
        ] {
            for is_condition in [true, false] {
                let coded = Coded::of(&state, sql, &columns(), is_condition);
                assert!(coded.is_none(), "{sql}");
            }
        }
    }
}
