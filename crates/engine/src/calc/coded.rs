//! Expressions over a coded column, evaluated once for each value and not for each row.
//!
//! A column that comes as codes of a dictionary has few values; a condition or a breakdown that reads
//! nothing else can have only as many results. Here it is told which expressions of a scan are such,
//! and their columns are made from the codes. Expressions over several columns, and over columns that
//! are not coded, are left to the query of the scan. What may not live here: what a column is for.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, DictionaryArray, Int32Array, RecordBatch,
    new_null_array,
};
use arrow::buffer::BooleanBuffer;
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
    pub(crate) fn of(state: &SessionState, sql: &str, columns: &Schema) -> Option<Self> {
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
            schema: Arc::new(schema),
            known: None,
        })
    }

    /// The expression's column as conditions: null is not met.
    pub(crate) fn conditions(&mut self, coded: &DictionaryArray<Int32Type>) -> Result<ArrayRef> {
        let results = self.results(coded)?;
        let Some(results) = results.as_boolean_opt() else {
            return Err(EngineError::internal("a condition of a scan is not one"));
        };
        let met: Vec<bool> = results.iter().map(|met| met == Some(true)).collect();
        let (keys, of_null) = (coded.keys(), met.len().saturating_sub(1));
        let rows = BooleanBuffer::collect_bool(keys.len(), |row| {
            let place = match keys.is_null(row) {
                true => of_null,
                false => keys.value(row) as usize,
            };
            met.get(place).copied().unwrap_or(false)
        });
        Ok(Arc::new(BooleanArray::new(rows, None)))
    }

    /// The expression's column as codes of its texts.
    pub(crate) fn texts(&mut self, coded: &DictionaryArray<Int32Type>) -> Result<ArrayRef> {
        let results = to_type(&self.results(coded)?, &DataType::Utf8View)?;
        let of_null = i32::try_from(results.len().saturating_sub(1)).unwrap_or(i32::MAX);
        let keys = match coded.keys().nulls() {
            None => coded.keys().clone(),
            Some(_) => coded
                .keys()
                .iter()
                .map(|code| Some(code.unwrap_or(of_null)))
                .collect::<Int32Array>(),
        };
        let texts = DictionaryArray::try_new(keys, results)
            .map_err(|error| EngineError::internal_because("codes of a scan", error))?;
        Ok(Arc::new(texts))
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
        self.known = Some((Arc::clone(values), Arc::clone(&results)));
        Ok(results)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::StringArray;
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
            let mut coded = Coded::of(&state, sql, &columns()).unwrap();
            assert_eq!(coded.column, "mode");
            for _ in 0..2 {
                let found = coded.conditions(&modes()).unwrap();
                let found: Vec<bool> = found.as_boolean().iter().flatten().collect();
                assert_eq!(found, met, "{sql}");
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
            let mut coded = Coded::of(&state, sql, &columns()).unwrap();
            let found = coded.texts(&modes()).unwrap();
            let found = to_type(&found, &DataType::Utf8).unwrap();
            let found: Vec<Option<&str>> = found.as_string::<i32>().iter().collect();
            assert_eq!(found, texts, "{sql}");
        }
    }

    #[test]
    fn other_values_are_looked_at_anew() {
        let mut coded = Coded::of(&state(), "mode = 'own'", &columns()).unwrap();
        assert_eq!(
            coded
                .conditions(&modes())
                .unwrap()
                .as_boolean()
                .true_count(),
            2
        );
        let values = StringArray::from(vec!["own", "private"]);
        let others = DictionaryArray::new(Int32Array::from(vec![0, 0, 1]), Arc::new(values));
        assert_eq!(
            coded.conditions(&others).unwrap().as_boolean().true_count(),
            2
        );
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
            assert!(Coded::of(&state, sql, &columns()).is_none(), "{sql}");
        }
    }
}
