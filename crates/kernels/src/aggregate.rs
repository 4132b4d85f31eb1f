//! One adapter that turns a [`Cell`] into an aggregate function of the engine: grouped, plain,
//! merged, spilled, filtered and in windows, with its memory reported. Frames that slide are in
//! `sliding.rs`.

use std::fmt::Debug;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BinaryBuilder, BooleanArray, Float64Array, Int64Array};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion_common::{Result, ScalarValue, exec_err, plan_err, resources_err};
use datafusion_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature, Volatility,
};

use crate::cell::{Cell, Column, Finish, Given, InputType, Value};
use crate::sliding::Slider;

/// Whether the arguments are values to take in or a state to merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Takes {
    /// One column; nulls are left out.
    Values(InputType),
    /// Rows of up to [`MOST_COLUMNS`] columns; the cell decides what a null means.
    Rows(&'static [InputType]),
    States,
}

/// The most arguments of one aggregate: a row is gathered without allocation.
const MOST_COLUMNS: usize = 4;

impl Takes {
    fn inputs(&self) -> &[InputType] {
        match self {
            Takes::Values(input) => std::slice::from_ref(input),
            Takes::Rows(inputs) => inputs,
            Takes::States => &[InputType::Bytes],
        }
    }
}

/// An aggregate function over cells of kind `C`.
pub(crate) struct CellAggregate<C> {
    name: &'static str,
    takes: Takes,
    signature: Signature,
    cell: PhantomData<fn() -> C>,
}

impl<C: Finish> CellAggregate<C> {
    pub(crate) fn function(name: &'static str, takes: Takes) -> AggregateUDF {
        AggregateUDF::from(Self {
            name,
            takes,
            signature: Signature::user_defined(Volatility::Immutable),
            cell: PhantomData,
        })
    }

    /// Repeated rows count: leaving them out is a query of its own, and ignoring the word would
    /// give a wrong number.
    fn refuse_distinct(&self, args: &AccumulatorArgs) -> Result<()> {
        if args.is_distinct {
            return plan_err!(
                "{} does not take DISTINCT: select the distinct rows in a subquery",
                self.name
            );
        }
        Ok(())
    }
}

impl<C> Debug for CellAggregate<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CellAggregate")
            .field("name", &self.name)
            .finish()
    }
}

impl<C> PartialEq for CellAggregate<C> {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl<C> Eq for CellAggregate<C> {}

impl<C> Hash for CellAggregate<C> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl<C: Finish> AggregateUDFImpl for CellAggregate<C> {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let inputs = self.takes.inputs();
        if given.len() != inputs.len() {
            let arguments = match inputs.len() {
                1 => "one argument".to_owned(),
                several => format!("{several} arguments"),
            };
            return plan_err!("{} takes {arguments}, not {}", self.name, given.len());
        }
        inputs
            .iter()
            .zip(given)
            .map(|(input, given)| {
                if input.accepts(given) {
                    Ok(input.arrow())
                } else {
                    plan_err!(
                        "{} takes a column of type {}, not {given}",
                        self.name,
                        input.arrow()
                    )
                }
            })
            .collect()
    }

    fn return_type(&self, _given: &[DataType]) -> Result<DataType> {
        Ok(C::RESULT.arrow())
    }

    // An empty group has a value: no persons, no days, zero. A number may be missing: the sum of nothing.
    fn is_nullable(&self) -> bool {
        matches!(C::RESULT, InputType::Real)
    }

    fn default_value(&self, _data_type: &DataType) -> Result<ScalarValue> {
        finish(&mut C::default())
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        self.refuse_distinct(&args)?;
        Ok(Box::new(One {
            takes: self.takes,
            cell: C::default(),
        }))
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        self.refuse_distinct(&args)?;
        Ok(Box::new(Slider::<C>::new(self.takes)))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(
            format_state_name(args.name, "state"),
            DataType::Binary,
            false,
        ))])
    }

    fn groups_accumulator_supported(&self, _args: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        self.refuse_distinct(&args)?;
        Ok(Box::new(Groups::<C> {
            takes: self.takes,
            cells: Vec::new(),
            heap_bytes: 0,
        }))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

fn take_in<C: Cell>(cell: &mut C, takes: Takes, columns: &[Column<'_>], row: usize) -> Result<()> {
    with_given(takes, columns, row, |given| match given {
        Given::Value(value) => cell.add(value),
        Given::Row(row) => cell.add_row(row),
        Given::State(state) => cell.merge(state),
    })
}

/// Gives what there is of a row, if anything is to be taken.
#[inline]
pub(crate) fn with_given(
    takes: Takes,
    columns: &[Column<'_>],
    row: usize,
    take: impl FnOnce(Given<'_>) -> Result<()>,
) -> Result<()> {
    match (takes, columns) {
        (Takes::Values(_), [column]) => match column.value(row) {
            None => Ok(()),
            Some(value) => take(Given::Value(value)),
        },
        (Takes::States, [column]) => match column.value(row) {
            None => Ok(()),
            Some(Value::Bytes(state)) => take(Given::State(state)),
            Some(_) => exec_err!("a state is not bytes"),
        },
        (Takes::Rows(_), columns) => {
            let mut values = [None; MOST_COLUMNS];
            for (value, column) in values.iter_mut().zip(columns) {
                *value = column.value(row);
            }
            take(Given::Row(values.get(..columns.len()).unwrap_or_default()))
        }
        (Takes::Values(_) | Takes::States, _) => {
            exec_err!("one column was expected, not {}", columns.len())
        }
    }
}

pub(crate) fn finish<C: Finish>(cell: &mut C) -> Result<ScalarValue> {
    match C::RESULT {
        InputType::Real => Ok(ScalarValue::Float64(cell.number())),
        InputType::Whole => Ok(ScalarValue::Int64(cell.whole())),
        InputType::Day => exec_err!("no aggregate gives a day"),
        InputType::Bytes => {
            let mut bytes = Vec::new();
            cell.encode(&mut bytes);
            Ok(ScalarValue::Binary(Some(bytes)))
        }
    }
}

pub(crate) fn only<'a>(arrays: &'a [ArrayRef]) -> Result<&'a ArrayRef> {
    match arrays {
        [one] => Ok(one),
        _ => exec_err!("one column was expected, not {}", arrays.len()),
    }
}

pub(crate) fn columns(arrays: &[ArrayRef]) -> Result<Vec<Column<'_>>> {
    arrays.iter().map(|array| Column::of(array)).collect()
}

pub(crate) fn rows(arrays: &[ArrayRef]) -> usize {
    arrays.first().map_or(0, |array| array.len())
}

#[derive(Debug)]
struct One<C> {
    takes: Takes,
    cell: C,
}

impl<C: Finish> Accumulator for One<C> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let columns = columns(values)?;
        (0..rows(values)).try_for_each(|row| take_in(&mut self.cell, self.takes, &columns, row))
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        finish(&mut self.cell)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.cell.heap_bytes()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let mut bytes = Vec::new();
        self.cell.encode(&mut bytes);
        Ok(vec![ScalarValue::Binary(Some(bytes))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let columns = columns(states)?;
        (0..rows(states)).try_for_each(|row| take_in(&mut self.cell, Takes::States, &columns, row))
    }
}

/// One cell per group; the heap size is kept as a running figure because it is asked for often.
struct Groups<C> {
    takes: Takes,
    cells: Vec<C>,
    heap_bytes: usize,
}

impl<C: Cell> Groups<C> {
    fn visit(
        &mut self,
        takes: Takes,
        arrays: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        let columns = columns(arrays)?;
        if self.cells.len() < total {
            self.cells.resize_with(total, C::default);
        }
        for (row, group) in groups.iter().enumerate() {
            if filter.is_some_and(|filter| !filter.is_valid(row) || !filter.value(row)) {
                continue;
            }
            let Some(cell) = self.cells.get_mut(*group) else {
                return exec_err!("group {group} of {total} does not exist");
            };
            let before = cell.heap_bytes();
            take_in(cell, takes, &columns, row)?;
            self.heap_bytes = self.heap_bytes + cell.heap_bytes() - before;
        }
        Ok(())
    }

    fn emit(&mut self, emit_to: EmitTo) -> Vec<C> {
        let emitted = emit_to.take_needed(&mut self.cells);
        self.heap_bytes = self
            .heap_bytes
            .saturating_sub(emitted.iter().map(Cell::heap_bytes).sum());
        emitted
    }
}

fn encoded<C: Cell>(cells: &mut [C]) -> Result<ArrayRef> {
    let mut builder = BinaryBuilder::with_capacity(cells.len(), 0);
    let mut bytes = Vec::new();
    let mut total = 0usize;
    for cell in cells {
        bytes.clear();
        cell.encode(&mut bytes);
        total += bytes.len();
        // Offsets of a column are 32 bits.
        if total > i32::MAX as usize {
            return resources_err!(
                "the states of one batch of groups take more than 2 GiB: group by less at once"
            );
        }
        builder.append_value(&bytes);
    }
    Ok(Arc::new(builder.finish()))
}

impl<C: Finish> GroupsAccumulator for Groups<C> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.visit(
            self.takes,
            values,
            group_indices,
            opt_filter,
            total_num_groups,
        )
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let mut cells = self.emit(emit_to);
        match C::RESULT {
            InputType::Real => Ok(Arc::new(
                cells.iter().map(Finish::number).collect::<Float64Array>(),
            )),
            InputType::Whole => Ok(Arc::new(
                cells.iter().map(Finish::whole).collect::<Int64Array>(),
            )),
            InputType::Day => exec_err!("no aggregate gives a day"),
            InputType::Bytes => encoded(&mut cells),
        }
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![encoded(&mut self.emit(emit_to))?])
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        self.visit(Takes::States, values, group_indices, None, total_num_groups)
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        opt_filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let columns = columns(values)?;
        if let (Takes::States, [Column::Bytes(states)], None) =
            (self.takes, columns.as_slice(), opt_filter)
            && states.null_count() == 0
        {
            return Ok(vec![Arc::new((*states).clone())]);
        }
        let mut cells = Vec::with_capacity(rows(values));
        for row in 0..rows(values) {
            let mut cell = C::default();
            if opt_filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row)) {
                take_in(&mut cell, self.takes, &columns, row)?;
            }
            cells.push(cell);
        }
        Ok(vec![encoded(&mut cells)?])
    }

    fn size(&self) -> usize {
        self.cells.capacity() * size_of::<C>() + self.heap_bytes
    }
}
