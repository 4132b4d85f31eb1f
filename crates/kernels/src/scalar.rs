//! One adapter that turns a plain function over values into a scalar function of the engine.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Builder, Int64Builder};
use arrow::datatypes::DataType;
use datafusion_common::{Result, plan_err};
use datafusion_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::cell::{Column, InputType, Value};

/// What a function computes from one row of arguments that are not null. `None` is null.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Body {
    /// A whole number.
    Whole(fn(&[Value<'_>]) -> Result<Option<i64>>),
    /// A real number.
    Real(fn(&[Value<'_>]) -> Result<Option<f64>>),
}

/// A scalar function: null when any argument is null.
#[derive(Debug)]
pub(crate) struct PlainFunction {
    name: &'static str,
    inputs: &'static [InputType],
    body: Body,
    signature: Signature,
}

impl PlainFunction {
    pub(crate) fn function(
        name: &'static str,
        inputs: &'static [InputType],
        body: Body,
    ) -> ScalarUDF {
        ScalarUDF::from(Self {
            name,
            inputs,
            body,
            signature: Signature::user_defined(Volatility::Immutable),
        })
    }
}

impl PartialEq for PlainFunction {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for PlainFunction {}

impl Hash for PlainFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for PlainFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        if given.len() != self.inputs.len() {
            return plan_err!(
                "{} takes {} arguments, not {}",
                self.name,
                self.inputs.len(),
                given.len()
            );
        }
        self.inputs
            .iter()
            .zip(given)
            .map(|(input, given)| {
                if input.accepts(given) {
                    Ok(input.arrow())
                } else {
                    plan_err!("{} takes {}, not {given}", self.name, input.arrow())
                }
            })
            .collect()
    }

    fn return_type(&self, _given: &[DataType]) -> Result<DataType> {
        Ok(match self.body {
            Body::Whole(_) => DataType::Int64,
            Body::Real(_) => DataType::Float64,
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays: Vec<ArrayRef> = args
            .args
            .iter()
            .map(|arg| arg.to_array(args.number_rows))
            .collect::<Result<_>>()?;
        let columns: Vec<Column<'_>> = arrays
            .iter()
            .map(|array| Column::of(array))
            .collect::<Result<_>>()?;
        match self.body {
            Body::Whole(body) => {
                let mut out = Int64Builder::with_capacity(args.number_rows);
                for row in 0..args.number_rows {
                    let value = collect(&columns, row)
                        .map(|values| body(&values))
                        .transpose()?
                        .flatten();
                    out.append_option(value);
                }
                Ok(ColumnarValue::Array(Arc::new(out.finish())))
            }
            Body::Real(body) => {
                let mut out = Float64Builder::with_capacity(args.number_rows);
                for row in 0..args.number_rows {
                    let value = collect(&columns, row)
                        .map(|values| body(&values))
                        .transpose()?
                        .flatten();
                    out.append_option(value);
                }
                Ok(ColumnarValue::Array(Arc::new(out.finish())))
            }
        }
    }
}

fn collect<'a>(columns: &[Column<'a>], row: usize) -> Option<Vec<Value<'a>>> {
    columns.iter().map(|column| column.value(row)).collect()
}
