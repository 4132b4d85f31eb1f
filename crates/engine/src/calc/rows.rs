//! Rows of components and values: constants added, types made exact, order fixed, small counts
//! hidden.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int32Array, RecordBatch, StringArray,
    TimestampMicrosecondArray, UInt32Array, new_null_array,
};
use arrow::compute::{concat_batches, nullif, take};
use arrow::datatypes::{Float64Type, Int64Type, SchemaRef};
use tietopohja_disclosure::{Cell, Profile};
use tietopohja_domain::Timestamp;
use tietopohja_indicators::Indicator;
use tietopohja_kernels::MemberNumbers;

use super::order::Order;
use crate::error::{EngineError, Result};
use crate::plain::{conform, plain_schema, to_type};
use crate::tables::{INDICATOR_NO, component_schema, value_schema};

/// Rows of an indicator's component, as `component.cell` holds them, in a fixed order. `sets` are the
/// sets of persons of the rows, where they are not among the columns.
pub(crate) fn component_rows(
    indicator: &Indicator,
    component: &str,
    breakdowns: &[String],
    batches: &[RecordBatch],
    sets: Option<&MemberNumbers>,
) -> Result<RecordBatch> {
    let schema = component_schema(breakdowns);
    let source = whole(batches)?;
    let rows = source.as_ref().map_or(0, RecordBatch::num_rows);
    let what = || format!("component `{component}` of `{}`", indicator.id());
    let columns = schema
        .fields()
        .iter()
        .map(|field| match field.name().as_str() {
            INDICATOR_NO => {
                Ok(Arc::new(Int32Array::from(vec![indicator.number(); rows])) as ArrayRef)
            }
            "indicator" => Ok(repeated(indicator.id(), rows)),
            "component" => Ok(repeated(component, rows)),
            name => match &source {
                None => Ok(new_null_array(field.data_type(), 0)),
                Some(source) => to_type(column(source, name, what)?, field.data_type()),
            },
        })
        .collect::<Result<Vec<_>>>()?;
    let batch = batch(&schema, columns)?;
    let mut order = vec!["area_base", "area", "period_start"];
    order.extend(breakdowns.iter().map(String::as_str));
    order.extend(["age", "delivery_id"]);
    let order = Order::of(&batch, &order)?.rows;
    let rows = in_order(
        &batch,
        order.as_ref(),
        &[INDICATOR_NO, "indicator", "component"],
    )?;
    let Some(sets) = sets else {
        return Ok(rows);
    };
    let states = match &order {
        Some(order) => sets.states(order.values().iter().copied()),
        None => sets.states_in(0..u32::try_from(rows.num_rows()).unwrap_or(u32::MAX)),
    };
    let states = Arc::new(states?) as ArrayRef;
    let columns = schema.fields().iter().zip(rows.columns());
    let columns = columns.map(|(field, column)| match field.name().as_str() {
        "persons" => Arc::clone(&states),
        _ => Arc::clone(column),
    });
    self::batch(&schema, columns.collect())
}

/// What every value row of a run carries.
#[derive(Debug, Clone)]
pub(crate) struct Stamp {
    pub(crate) run_id: String,
    pub(crate) at: Timestamp,
}

/// The stamp of a run that begins now.
pub(crate) fn stamp_of(at: Timestamp) -> Stamp {
    Stamp {
        run_id: format!("run-{}", at.as_microsecond()),
        at,
    }
}

/// The values of an indicator before and after protection.
pub(crate) struct Values {
    /// With every value; `conf_status` says which the published table hides.
    pub(crate) restricted: RecordBatch,
    /// Without them.
    pub(crate) published: RecordBatch,
    /// How many are hidden.
    pub(crate) suppressed: u64,
}

impl Values {
    /// Whether both have the same rows. They are compared, and not the number of hidden values: whatever
    /// protection does, only what is the same may be stored as both.
    pub(crate) fn are_the_same(&self) -> bool {
        let columns = self.restricted.columns().iter();
        let mut columns = columns.zip(self.published.columns());
        self.restricted.schema() == self.published.schema()
            && columns.all(|(ours, theirs)| Arc::ptr_eq(ours, theirs) || ours == theirs)
    }
}

/// The columns that tell values of an indicator apart.
pub(crate) fn value_key(breakdowns: &[String]) -> Vec<&str> {
    let mut key = vec![
        "output",
        "area_level",
        "area",
        "period_grain",
        "period_start",
    ];
    key.extend(breakdowns.iter().map(String::as_str));
    key
}

/// Value rows from the rows of the value query.
///
/// # Errors
/// [`EngineError::Internal`] when the query gives other columns than agreed, a row twice, an output
/// that is not declared, or a number that is not one.
pub(crate) fn value_rows(
    indicator: &Indicator,
    breakdowns: &[String],
    profile: &Profile,
    stamp: &Stamp,
    batches: &[RecordBatch],
) -> Result<Values> {
    let schema = value_schema(breakdowns);
    let what = || format!("the value query of `{}`", indicator.id());
    let Some(source) = whole(batches)? else {
        let empty = RecordBatch::new_empty(schema);
        return Ok(Values {
            restricted: empty.clone(),
            published: empty,
            suppressed: 0,
        });
    };
    let key = value_key(breakdowns);
    let Order { rows, repeats } = Order::of(&source, &key)?;
    if repeats {
        return Err(EngineError::internal(format!(
            "{} gives a row twice",
            what()
        )));
    }
    let source = in_order(&source, rows.as_ref(), &[])?;
    let rows = source.num_rows();
    let hidden = hidden_cells(&source, profile, what)?;
    let outputs = to_type(
        column(&source, "output", what)?,
        &arrow::datatypes::DataType::Utf8,
    )?;
    let unit = units(indicator, &outputs)?;
    let moment =
        TimestampMicrosecondArray::from(vec![stamp.at.as_microsecond(); rows]).with_timezone("UTC");
    let conf_status: StringArray = hidden
        .iter()
        .map(|hidden| Some(if hidden == Some(true) { "C" } else { "F" }))
        .collect();
    let columns = schema
        .fields()
        .iter()
        .map(|field| match field.name().as_str() {
            INDICATOR_NO => {
                Ok(Arc::new(Int32Array::from(vec![indicator.number(); rows])) as ArrayRef)
            }
            "indicator" => Ok(repeated(indicator.id(), rows)),
            "version" => Ok(repeated(indicator.version(), rows)),
            "unit" => Ok(Arc::clone(&unit)),
            "conf_status" => Ok(Arc::new(conf_status.clone()) as ArrayRef),
            "quality" => Ok(new_null_array(field.data_type(), rows)),
            "run_id" => Ok(repeated(&stamp.run_id, rows)),
            "published_at" => Ok(Arc::new(moment.clone()) as ArrayRef),
            name => {
                let values = to_type(column(&source, name, what)?, field.data_type())?;
                numbers(&values, name, what)?;
                Ok(values)
            }
        })
        .collect::<Result<Vec<_>>>()?;
    let restricted = batch(&schema, columns)?;
    // A published population may stand beside a hidden value; a count of clients or matters may not.
    let hides_denominator = profile.hides_denominator() || !indicator.denominator_is_public();
    let published = protected(&restricted, &hidden, hides_denominator)?;
    let suppressed = hidden.iter().filter(|hidden| *hidden == Some(true)).count();
    Ok(Values {
        restricted,
        published,
        suppressed: u64::try_from(suppressed).unwrap_or(u64::MAX),
    })
}

/// Which rows protection hides.
fn hidden_cells(
    source: &RecordBatch,
    profile: &Profile,
    what: impl Fn() -> String + Copy,
) -> Result<BooleanArray> {
    let contributors = to_type(
        column(source, "contributors", what)?,
        &arrow::datatypes::DataType::Int64,
    )?;
    let denominators = to_type(
        column(source, "denominator", what)?,
        &arrow::datatypes::DataType::Float64,
    )?;
    let values = to_type(
        column(source, "value", what)?,
        &arrow::datatypes::DataType::Float64,
    )?;
    let (contributors, denominators) = (
        contributors.as_primitive::<Int64Type>(),
        denominators.as_primitive::<Float64Type>(),
    );
    Ok((0..source.num_rows())
        .map(|row| {
            let cell = Cell {
                contributors: contributors.is_valid(row).then(|| contributors.value(row)),
                denominator: denominators.is_valid(row).then(|| denominators.value(row)),
                has_value: values.is_valid(row),
            };
            Some(profile.decide(&cell).is_suppressed())
        })
        .collect())
}

/// The rows without the hidden numbers: value, interval and count follow the cell.
fn protected(
    rows: &RecordBatch,
    hidden: &BooleanArray,
    hides_denominator: bool,
) -> Result<RecordBatch> {
    let schema = rows.schema();
    let columns = schema
        .fields()
        .iter()
        .zip(rows.columns())
        .map(|(field, column)| {
            let follows = match field.name().as_str() {
                "value" | "lower" | "upper" | "numerator" => true,
                "denominator" => hides_denominator,
                _ => false,
            };
            if !follows {
                return Ok(Arc::clone(column));
            }
            nullif(column, hidden)
                .map_err(|error| EngineError::internal_because("hiding values", error))
        })
        .collect::<Result<Vec<_>>>()?;
    batch(&schema, columns)
}

fn units(indicator: &Indicator, outputs: &ArrayRef) -> Result<ArrayRef> {
    let units = outputs
        .as_string::<i32>()
        .iter()
        .map(|name| {
            let output = indicator
                .outputs()
                .iter()
                .find(|output| Some(output.name()) == name);
            output.map(|output| Some(output.unit())).ok_or_else(|| {
                EngineError::internal(format!(
                    "the value query of `{}` gives an output it does not declare",
                    indicator.id()
                ))
            })
        })
        .collect::<Result<StringArray>>()?;
    Ok(Arc::new(units))
}

/// A division by zero must have become a missing value in the query.
fn numbers(values: &ArrayRef, name: &str, what: impl Fn() -> String) -> Result<()> {
    let Some(values) = values.as_primitive_opt::<Float64Type>() else {
        return Ok(());
    };
    let values: &Float64Array = values;
    if values.iter().flatten().any(|value| !value.is_finite()) {
        return Err(EngineError::internal(format!(
            "{} gives a `{name}` that is not a number",
            what()
        )));
    }
    Ok(())
}

fn whole(batches: &[RecordBatch]) -> Result<Option<RecordBatch>> {
    let Some(first) = batches.first() else {
        return Ok(None);
    };
    let schema = plain_schema(&first.schema());
    let plain = batches
        .iter()
        .map(|batch| conform(batch, &schema))
        .collect::<Result<Vec<_>>>()?;
    let whole = concat_batches(&schema, &plain).map_err(|error| {
        EngineError::internal_because("rows of one query do not fit together", error)
    })?;
    Ok(Some(whole))
}

fn column<'a>(
    batch: &'a RecordBatch,
    name: &str,
    what: impl Fn() -> String,
) -> Result<&'a ArrayRef> {
    batch.column_by_name(name).ok_or_else(|| {
        EngineError::internal(format!("{} does not give the column `{name}`", what()))
    })
}

fn repeated(text: &str, rows: usize) -> ArrayRef {
    Arc::new(StringArray::new_repeated(text, rows))
}

fn batch(schema: &SchemaRef, columns: Vec<ArrayRef>) -> Result<RecordBatch> {
    RecordBatch::try_new(Arc::clone(schema), columns)
        .map_err(|error| EngineError::internal_because("rows do not fit their table", error))
}

/// The rows in this order; as they are without one. Columns of these names have the same value in every
/// row.
fn in_order(
    batch: &RecordBatch,
    order: Option<&UInt32Array>,
    same: &[&str],
) -> Result<RecordBatch> {
    let Some(order) = order else {
        return Ok(batch.clone());
    };
    let failed = |error| EngineError::internal_because("ordering rows", error);
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns());
    let columns = columns.map(|(field, column)| {
        let is_same = same.contains(&field.name().as_str());
        match is_same || column.null_count() == column.len() {
            true => Ok(Arc::clone(column)),
            false => take(column, order, None).map_err(failed),
        }
    });
    RecordBatch::try_new(Arc::clone(&schema), columns.collect::<Result<_>>()?).map_err(failed)
}
