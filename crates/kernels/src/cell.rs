//! What one group's running state must be able to do, and the typed columns it reads.

use arrow::array::{Array, AsArray, BinaryArray, Date32Array, Float64Array, Int64Array};
use arrow::datatypes::{DataType, Date32Type, Float64Type, Int64Type};
use datafusion_common::{Result, exec_err};

use crate::sliding::Frame;

/// The type of an aggregate's single argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum InputType {
    /// Bytes: a pseudonym, or an encoded state.
    Bytes,
    /// Whole numbers.
    Whole,
    /// Days, which a cell is given as whole numbers since 1970-01-01.
    Day,
    /// Floating point.
    Real,
}

impl InputType {
    pub(crate) fn arrow(self) -> DataType {
        match self {
            InputType::Bytes => DataType::Binary,
            InputType::Whole => DataType::Int64,
            InputType::Day => DataType::Date32,
            InputType::Real => DataType::Float64,
        }
    }

    /// True for the types that are cast to this one without changing a value.
    pub(crate) fn accepts(self, given: &DataType) -> bool {
        match self {
            InputType::Bytes => {
                matches!(
                    given,
                    DataType::Binary
                        | DataType::BinaryView
                        | DataType::LargeBinary
                        | DataType::FixedSizeBinary(_)
                        | DataType::Null
                )
            }
            InputType::Whole => {
                given.is_integer() && *given != DataType::UInt64 || *given == DataType::Null
            }
            InputType::Day => matches!(given, DataType::Date32 | DataType::Null),
            InputType::Real => given.is_numeric() || *given == DataType::Null,
        }
    }
}

/// A column of one of the input types.
pub(crate) enum Column<'a> {
    Bytes(&'a BinaryArray),
    Whole(&'a Int64Array),
    Day(&'a Date32Array),
    Real(&'a Float64Array),
}

impl<'a> Column<'a> {
    pub(crate) fn of(array: &'a dyn Array) -> Result<Column<'a>> {
        match array.data_type() {
            DataType::Binary => Ok(Column::Bytes(array.as_binary::<i32>())),
            DataType::Int64 => Ok(Column::Whole(array.as_primitive::<Int64Type>())),
            DataType::Date32 => Ok(Column::Day(array.as_primitive::<Date32Type>())),
            DataType::Float64 => Ok(Column::Real(array.as_primitive::<Float64Type>())),
            other => exec_err!("a column of type {other} cannot be aggregated here"),
        }
    }
}

/// A value of a column that is not null.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value<'a> {
    Bytes(&'a [u8]),
    Whole(i64),
    Real(f64),
}

impl<'a> Column<'a> {
    /// The value of a row; `None` for null.
    pub(crate) fn value(&self, row: usize) -> Option<Value<'a>> {
        match self {
            Column::Bytes(array) => array.is_valid(row).then(|| Value::Bytes(array.value(row))),
            Column::Whole(array) => array.is_valid(row).then(|| Value::Whole(array.value(row))),
            Column::Day(array) => {
                let day = array.is_valid(row).then(|| array.value(row));
                day.map(|day| Value::Whole(i64::from(day)))
            }
            Column::Real(array) => array.is_valid(row).then(|| Value::Real(array.value(row))),
        }
    }
}

/// What an aggregate is given of a row.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Given<'a> {
    /// The value of its column.
    Value(Value<'a>),
    /// The values of its columns.
    Row(&'a [Option<Value<'a>>]),
    /// An encoded state.
    State(&'a [u8]),
}

/// The running state of one group.
pub(crate) trait Cell: Default + Send + Sync + std::fmt::Debug + 'static {
    /// Takes in one value.
    fn add(&mut self, value: Value<'_>) -> Result<()>;

    /// Takes in one row of an aggregate over several columns; `None` is a null, and the cell says
    /// what a null means.
    fn add_row(&mut self, _row: &[Option<Value<'_>>]) -> Result<()> {
        exec_err!("this aggregate takes one column")
    }

    /// Takes in an encoded state of the same kind.
    fn merge(&mut self, state: &[u8]) -> Result<()>;

    /// The state as bytes: equal content has equal bytes.
    fn encode(&mut self, out: &mut Vec<u8>);

    /// Bytes held on the heap.
    fn heap_bytes(&self) -> usize;
}

/// What the aggregate gives out at the end.
pub(crate) trait Finish: Cell {
    /// The result type.
    const RESULT: InputType;

    /// The same cell over a frame that slides.
    type Frame: Frame<Self>;

    /// The result as a number, for those whose result is not the state.
    fn number(&self) -> Option<f64> {
        None
    }

    /// The result as a whole number, for those whose result is one.
    fn whole(&self) -> Option<i64> {
        None
    }
}
