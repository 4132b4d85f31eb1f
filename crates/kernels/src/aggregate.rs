//! One adapter that turns a [`Cell`] into an aggregate function of the engine: grouped, plain,
//! merged, spilled and filtered, with its memory reported.

use std::fmt::Debug;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, BooleanArray, Float64Array, Int64Array,
};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion_common::{Result, ScalarValue, exec_err, plan_err, resources_err};
use datafusion_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature, Volatility,
};

use crate::cell::{Cell, Column, Finish, InputType};

/// Whether the argument is a value to take in or a state to merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Takes {
    Values(InputType),
    States,
}

impl Takes {
    fn input(self) -> InputType {
        match self {
            Takes::Values(input) => input,
            Takes::States => InputType::Bytes,
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
        match given {
            [one] if self.takes.input().accepts(one) => Ok(vec![self.takes.input().arrow()]),
            [one] => plan_err!(
                "{} takes a column of type {}, not {one}",
                self.name,
                self.takes.input().arrow()
            ),
            _ => plan_err!("{} takes one argument, not {}", self.name, given.len()),
        }
    }

    fn return_type(&self, _given: &[DataType]) -> Result<DataType> {
        Ok(C::RESULT.arrow())
    }

    // An empty group has a value: no persons, no days, zero.
    fn is_nullable(&self) -> bool {
        false
    }

    fn default_value(&self, _data_type: &DataType) -> Result<ScalarValue> {
        finish(&mut C::default())
    }

    fn accumulator(&self, _args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(One {
            takes: self.takes,
            cell: C::default(),
        }))
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
        _args: AccumulatorArgs,
    ) -> Result<Box<dyn GroupsAccumulator>> {
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

fn take_in<C: Cell>(cell: &mut C, takes: Takes, column: &Column<'_>, row: usize) -> Result<()> {
    match (takes, column.value(row)) {
        (_, None) => Ok(()),
        (Takes::Values(_), Some(value)) => cell.add(value),
        (Takes::States, Some(crate::cell::Value::Bytes(state))) => cell.merge(state),
        (Takes::States, Some(_)) => exec_err!("a state is not bytes"),
    }
}

fn finish<C: Finish>(cell: &mut C) -> Result<ScalarValue> {
    match C::RESULT {
        InputType::Real => Ok(ScalarValue::Float64(cell.number())),
        InputType::Whole => Ok(ScalarValue::Int64(cell.whole())),
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

#[derive(Debug)]
struct One<C> {
    takes: Takes,
    cell: C,
}

impl<C: Finish> Accumulator for One<C> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let array = only(values)?;
        let column = Column::of(array)?;
        (0..array.len()).try_for_each(|row| take_in(&mut self.cell, self.takes, &column, row))
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
        let array = only(states)?;
        let column = Column::of(array)?;
        (0..array.len()).try_for_each(|row| take_in(&mut self.cell, Takes::States, &column, row))
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
        let array = only(arrays)?;
        let column = Column::of(array)?;
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
            take_in(cell, takes, &column, row)?;
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
        let array = only(values)?;
        if self.takes == Takes::States && opt_filter.is_none() && array.null_count() == 0 {
            return Ok(vec![
                Arc::new(array.as_binary::<i32>().clone()) as Arc<BinaryArray>
            ]);
        }
        let column = Column::of(array)?;
        let mut cells = Vec::with_capacity(array.len());
        for row in 0..array.len() {
            let mut cell = C::default();
            if opt_filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row)) {
                take_in(&mut cell, self.takes, &column, row)?;
            }
            cells.push(cell);
        }
        Ok(vec![encoded(&mut cells)?])
    }

    fn size(&self) -> usize {
        self.cells.capacity() * size_of::<C>() + self.heap_bytes
    }
}
