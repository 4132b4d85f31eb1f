//! Columns of rows, which may come as codes of a dictionary, in any width.
//!
//! What is asked of a row can be asked of its value once, and looked up for each row. Loops over all rows
//! are compiled twice from one text, for any processor and for those with AVX2 and BMI2, and chosen when
//! they are called. What may not live here: what is asked.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, UInt32Array};
use arrow::buffer::{BooleanBuffer, NullBuffer, ScalarBuffer};
use arrow::compute::{TakeOptions, take};
use arrow::datatypes::{DataType, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type};
use datafusion_common::{DataFusionError, Result, exec_err};
use multiversion::multiversion;

use super::highest;

/// Codes by row.
#[derive(Debug, Clone, Copy)]
enum Keys<'a> {
    U8(&'a [u8]),
    U16(&'a [u16]),
    U32(&'a [u32]),
    /// From zero.
    I32(&'a [i32]),
}

/// The same for keys of each width.
macro_rules! by_width {
    ($of:expr, $keys:ident => $done:expr) => {
        match $of {
            Keys::U8($keys) => $done,
            Keys::U16($keys) => $done,
            Keys::U32($keys) => $done,
            Keys::I32($keys) => $done,
        }
    };
}

/// A code of a row: the place of its value.
trait Key: Copy {
    fn place(self) -> usize;
}

macro_rules! key {
    ($key:ty) => {
        impl Key for $key {
            fn place(self) -> usize {
                self as usize
            }
        }
    };
}

key!(u8);
key!(u16);
key!(u32);
key!(i32);

/// What a table has for a key.
#[inline(always)]
fn entry<K: Key, T: Copy>(table: &[T], key: K, otherwise: T) -> T {
    table.get(key.place()).copied().unwrap_or(otherwise)
}

/// A table of all keys of one byte that there can be, which needs no look at its length.
#[inline(always)]
fn padded<T: Copy>(table: &[T], otherwise: T) -> [T; 1 << 8] {
    let mut all = [otherwise; 1 << 8];
    all.iter_mut().zip(table).for_each(|(to, of)| *to = *of);
    all
}

/// Puts what a table has for the keys behind `out`.
#[multiversion(targets("x86_64+avx2+bmi1+bmi2+lzcnt"))]
fn put_entries<K: Key, T: Copy>(keys: &[K], table: &[T], otherwise: T, out: &mut Vec<T>) {
    out.extend(keys.iter().map(|key| entry(table, *key, otherwise)));
}

/// As [`put_entries`], of keys of one byte.
#[multiversion(targets("x86_64+avx2+bmi1+bmi2+lzcnt"))]
fn put_entries_of_bytes<T: Copy>(keys: &[u8], table: &[T], otherwise: T, out: &mut Vec<T>) {
    let table = padded(table, otherwise);
    out.extend(keys.iter().map(|key| entry(&table, *key, otherwise)));
}

/// Adds what a table has for the keys to the places.
#[multiversion(targets("x86_64+avx2+bmi1+bmi2+lzcnt"))]
fn add_entries<K: Key, P: Place>(keys: &[K], table: &[P], places: &mut [P]) {
    for (place, key) in places.iter_mut().zip(keys) {
        *place = place.plus(entry(table, *key, P::default()));
    }
}

/// As [`add_entries`], of keys of one byte.
#[multiversion(targets("x86_64+avx2+bmi1+bmi2+lzcnt"))]
fn add_entries_of_bytes<P: Place>(keys: &[u8], table: &[P], places: &mut [P]) {
    let table = padded(table, P::default());
    for (place, key) in places.iter_mut().zip(keys) {
        *place = place.plus(entry(&table, *key, P::default()));
    }
}

/// A column of rows in hand: their values, or their codes and the values that these stand for.
///
/// A value may be null, and a code may be missing: such a row has no value either.
#[derive(Debug, Clone)]
pub struct InputColumn {
    codes: Option<ArrayRef>,
    values: ArrayRef,
}

impl InputColumn {
    /// Codes (`UInt8`, `UInt16`, `UInt32` or `Int32`, from zero) of values.
    ///
    /// # Errors
    /// When the codes are of another type, or one has no value.
    pub fn coded(codes: ArrayRef, values: ArrayRef) -> Result<Self> {
        let column = Self {
            codes: Some(codes),
            values,
        };
        let coded = Coded::of(&column).ok_or_else(|| {
            DataFusionError::Execution("codes of a scan are of another type than agreed".to_owned())
        })?;
        if !coded.has_values() {
            return exec_err!("a code of a scan has no value");
        }
        Ok(column)
    }

    /// Each of the arrays as a column.
    pub fn of_arrays(arrays: &[ArrayRef]) -> Vec<Self> {
        arrays.iter().cloned().map(Self::from).collect()
    }

    /// How many rows it has.
    pub fn len(&self) -> usize {
        self.codes.as_ref().unwrap_or(&self.values).len()
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The codes of the rows, where they have some.
    pub fn codes(&self) -> Option<&ArrayRef> {
        self.codes.as_ref()
    }

    /// The values of the codes, or of the rows where there are none.
    pub fn values(&self) -> &ArrayRef {
        &self.values
    }

    /// The values of the rows, where they have no codes.
    pub(super) fn plain(&self) -> Option<&ArrayRef> {
        match self.codes {
            None => Some(&self.values),
            Some(_) => None,
        }
    }

    /// Codes and values.
    pub fn into_parts(self) -> (Option<ArrayRef>, ArrayRef) {
        (self.codes, self.values)
    }

    /// So many rows, from one on.
    #[must_use]
    pub fn slice(&self, from: usize, rows: usize) -> Self {
        match &self.codes {
            None => self.values.slice(from, rows).into(),
            Some(codes) => Self {
                codes: Some(codes.slice(from, rows)),
                values: Arc::clone(&self.values),
            },
        }
    }

    /// The rows of these numbers.
    ///
    /// # Errors
    /// When there is no such row.
    pub fn take(&self, rows: &UInt32Array) -> Result<Self> {
        let of_rows = self.codes.as_ref().unwrap_or(&self.values);
        let options = TakeOptions { check_bounds: true };
        let taken = take(of_rows, rows, Some(options))?;
        Ok(match self.codes {
            None => Self::from(taken),
            Some(_) => Self {
                codes: Some(taken),
                values: Arc::clone(&self.values),
            },
        })
    }

    /// The same rows with other values, one for each.
    ///
    /// # Errors
    /// When there are fewer than before.
    pub fn with_values(&self, values: ArrayRef) -> Result<Self> {
        if values.len() < self.values.len() {
            return exec_err!("a value of a scan became none");
        }
        Ok(Self {
            codes: self.codes.clone(),
            values,
        })
    }
}

impl From<ArrayRef> for InputColumn {
    /// A dictionary becomes its codes and values.
    fn from(array: ArrayRef) -> Self {
        macro_rules! split {
            ($($key:ty),+) => {
                $(if let Some(coded) = array.as_dictionary_opt::<$key>() {
                    return Self {
                        codes: Some(Arc::new(coded.keys().clone())),
                        values: Arc::clone(coded.values()),
                    };
                })+
            };
        }
        split!(UInt8Type, UInt16Type, UInt32Type, Int32Type);
        Self {
            codes: None,
            values: array,
        }
    }
}

/// A column of codes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Coded<'a> {
    keys: Keys<'a>,
    nulls: Option<&'a NullBuffer>,
    values: &'a ArrayRef,
}

impl<'a> Coded<'a> {
    /// The column, if it comes as codes.
    pub(super) fn of(column: &'a InputColumn) -> Option<Self> {
        macro_rules! keys {
            ($key:ty, $keys:path) => {{
                let codes = column.codes()?.as_primitive_opt::<$key>()?;
                ($keys(codes.values()), codes.nulls())
            }};
        }
        let (keys, nulls) = match column.codes()?.data_type() {
            DataType::UInt8 => keys!(UInt8Type, Keys::U8),
            DataType::UInt16 => keys!(UInt16Type, Keys::U16),
            DataType::UInt32 => keys!(UInt32Type, Keys::U32),
            DataType::Int32 => keys!(Int32Type, Keys::I32),
            _ => return None,
        };
        Some(Self {
            keys,
            nulls: nulls.filter(|nulls| nulls.null_count() > 0),
            values: column.values(),
        })
    }

    /// Whether each code has a value.
    fn has_values(&self) -> bool {
        match (self.keys, self.nulls) {
            // A fold, unlike a search, is done in wide registers.
            (Keys::U8(keys), None) => self.has_value(keys.iter().copied().max()),
            (Keys::U16(keys), None) => self.has_value(keys.iter().copied().max()),
            (Keys::U32(keys), None) => self.has_value(keys.iter().copied().max()),
            // Below zero is above half of the numbers without a sign.
            (Keys::I32(keys), None) => self.has_value(keys.iter().map(|key| *key as u32).max()),
            (_, Some(nulls)) => nulls.valid_indices().all(|row| self.place(row).is_some()),
        }
    }

    fn has_value<K: Key>(&self, highest: Option<K>) -> bool {
        highest.is_none_or(|key| key.place() < self.values.len())
    }

    pub(super) fn values(&self) -> &'a ArrayRef {
        self.values
    }

    /// Whether some rows have no code.
    pub(super) fn has_nulls(&self) -> bool {
        self.nulls.is_some()
    }

    /// The place of a row's value; `None` of one without a code.
    pub(super) fn place(&self, row: usize) -> Option<usize> {
        let is_valid = self.nulls.is_none_or(|nulls| nulls.is_valid(row));
        let place = by_width!(self.keys, keys => keys.get(row).map(|key| key.place()));
        place.filter(|place| is_valid && *place < self.values.len())
    }

    /// Whether rows have the codes of these rows, for as many values.
    pub(super) fn has_codes_of(&self, other: &Coded<'_>) -> bool {
        let same = match (self.keys, other.keys) {
            (Keys::U8(a), Keys::U8(b)) => std::ptr::eq(a, b),
            (Keys::U16(a), Keys::U16(b)) => std::ptr::eq(a, b),
            (Keys::U32(a), Keys::U32(b)) => std::ptr::eq(a, b),
            (Keys::I32(a), Keys::I32(b)) => std::ptr::eq(a, b),
            _ => false,
        };
        same && self.values.len() == other.values.len() && !self.has_nulls() && !other.has_nulls()
    }

    /// What a table of bits, which has one for each value, has for each row; rows without a code have
    /// none.
    pub(super) fn bits(&self, table: &[bool]) -> BooleanBuffer {
        let rows = by_width!(self.keys, keys => BooleanBuffer::collect_bool(keys.len(), |row| {
            keys.get(row).is_some_and(|key| entry(table, *key, false))
        }));
        match self.nulls {
            None => rows,
            Some(nulls) => &rows & nulls.inner(),
        }
    }

    /// What a table, which has an entry for each value, has for each row; rows without a code have
    /// `of_null`.
    pub(super) fn look_up<T: Copy>(&self, table: &[T], of_null: T, out: &mut Vec<T>) {
        let first = out.len();
        match self.keys {
            Keys::U8(keys) => put_entries_of_bytes(keys, table, of_null, out),
            keys => by_width!(keys, keys => put_entries(keys, table, of_null, out)),
        }
        if let Some(nulls) = self.nulls {
            let rows = out.iter_mut().skip(first).zip(nulls);
            rows.for_each(|(row, valid)| {
                if !valid {
                    *row = of_null;
                }
            });
        }
    }
}

/// What was found for the values of the dictionary that was met last.
#[derive(Debug, Default)]
pub(super) struct OfValues {
    known: Option<(ArrayRef, Vec<u32>)>,
}

impl OfValues {
    /// The code of each value: what `of` says of it, asked once for each dictionary.
    ///
    /// # Errors
    /// Those of `of`.
    pub(super) fn table(
        &mut self,
        coded: &Coded<'_>,
        mut of: impl FnMut(&ArrayRef, Option<usize>) -> Result<u32>,
    ) -> Result<&[u32]> {
        let values = coded.values();
        let is_known = self.known.as_ref();
        if !is_known.is_some_and(|(met, _)| is_same(met, values)) {
            let places = 0..values.len();
            let places = places.map(|place| values.is_valid(place).then_some(place));
            let codes = places.map(|place| of(values, place));
            self.known = Some((Arc::clone(values), codes.collect::<Result<_>>()?));
        }
        Ok(self.last())
    }

    /// The codes of the values that were met last.
    pub(super) fn last(&self) -> &[u32] {
        self.known.as_ref().map_or(&[], |(_, codes)| codes)
    }
}

/// What the rows in hand have in a column: codes, or codes of values that have codes.
#[derive(Debug, Clone, Copy)]
pub(super) enum InHand<'a> {
    /// The same of all.
    Same(u32),
    Rows(&'a [u32]),
    /// With the code of each value; every row has a value.
    Coded(Coded<'a>, &'a [u32]),
}

impl InHand<'_> {
    /// The greatest code that a row may have.
    pub(super) fn highest(&self) -> Option<u32> {
        match self {
            InHand::Same(code) => Some(*code),
            InHand::Rows(codes) | InHand::Coded(_, codes) => highest(codes),
        }
    }

    /// The code that all rows have, where there is no other.
    fn only(&self) -> Option<u32> {
        match self {
            InHand::Same(code) | InHand::Coded(_, [code]) => Some(*code),
            InHand::Coded(..) | InHand::Rows(_) => None,
        }
    }

    /// What each code is worth in a place, of which it is the digit that stands for so many.
    pub(super) fn digits<P: Place>(&self, stride: P) -> Digits<'_, P> {
        let worth = |code: &u32| P::of(*code).times(stride);
        match (self.only(), self) {
            (Some(code), _) => Digits::Same(worth(&code)),
            (None, InHand::Same(code)) => Digits::Same(worth(code)),
            (None, InHand::Rows(codes)) => Digits::Rows(codes, stride),
            (None, InHand::Coded(coded, codes)) => {
                Digits::Coded(*coded, codes.iter().map(worth).collect())
            }
        }
    }

    pub(super) fn code(&self, row: usize) -> u32 {
        match self {
            InHand::Same(code) => *code,
            InHand::Rows(codes) => codes.get(row).copied().unwrap_or_default(),
            InHand::Coded(coded, table) => by_width!(coded.keys, keys => {
                keys.get(row).map_or(0, |key| entry(table, *key, 0))
            }),
        }
    }
}

/// A number that counts places.
pub(super) trait Place: Copy + Default {
    fn of(code: u32) -> Self;
    /// Of a number that has room.
    fn wide(number: u64) -> Self;
    fn times(self, stride: Self) -> Self;
    fn plus(self, more: Self) -> Self;
}

macro_rules! place {
    ($place:ty) => {
        impl Place for $place {
            #[inline(always)]
            fn of(code: u32) -> Self {
                Self::from(code)
            }
            fn wide(number: u64) -> Self {
                number as Self
            }
            #[inline(always)]
            fn times(self, stride: Self) -> Self {
                self.wrapping_mul(stride)
            }
            #[inline(always)]
            fn plus(self, more: Self) -> Self {
                self.wrapping_add(more)
            }
        }
    };
}

place!(u32);
place!(u64);

/// What the rows in hand add to their places, by their codes in a column.
#[derive(Debug)]
pub(super) enum Digits<'a, P> {
    /// The same for all.
    Same(P),
    /// The code of each row, so many times.
    Rows(&'a [u32], P),
    /// What a table has for each row.
    Coded(Coded<'a>, Vec<P>),
}

impl<P: Place> Digits<'_, P> {
    /// What is the same for all rows.
    pub(super) fn same(&self) -> Option<P> {
        match self {
            Digits::Same(more) => Some(*more),
            Digits::Rows(..) | Digits::Coded(..) => None,
        }
    }

    /// Puts the places of so many rows from `first` on behind `places`, as if only this and what is the
    /// same for all told them.
    pub(super) fn put_to(&self, places: &mut Vec<P>, first: usize, rows: usize, same: P) {
        match self {
            Digits::Same(more) => places.resize(places.len() + rows, same.plus(*more)),
            Digits::Rows(codes, stride) => {
                let codes = codes.iter().skip(first).take(rows);
                places.extend(codes.map(|code| same.plus(P::of(*code).times(*stride))));
            }
            Digits::Coded(coded, table) => {
                let table = table.iter().map(|more| same.plus(*more));
                coded.put_to(places, first, rows, &table.collect::<Vec<P>>());
            }
        }
    }

    /// Adds to the places of the rows from `first` on what is not the same for all.
    pub(super) fn add_to(&self, places: &mut [P], first: usize) {
        match self {
            Digits::Same(_) => {}
            Digits::Rows(codes, stride) => {
                let codes = codes.get(first..).unwrap_or_default();
                for (place, code) in places.iter_mut().zip(codes) {
                    *place = place.plus(P::of(*code).times(*stride));
                }
            }
            Digits::Coded(coded, table) => coded.add_to(places, first, table),
        }
    }
}

impl Coded<'_> {
    /// Puts what the table has for the values of so many rows from `first` on behind `places`.
    fn put_to<P: Place>(&self, places: &mut Vec<P>, first: usize, rows: usize, table: &[P]) {
        let of_rows = first..first + rows;
        let none = P::default();
        match self.keys {
            Keys::U8(keys) => {
                let keys = keys.get(of_rows).unwrap_or_default();
                put_entries_of_bytes(keys, table, none, places);
            }
            keys => by_width!(keys, keys => {
                put_entries(keys.get(of_rows).unwrap_or_default(), table, none, places);
            }),
        }
    }

    /// Adds to the place of each row, from `first` on, what the table has for its value.
    pub(super) fn add_to<P: Place>(&self, places: &mut [P], first: usize, table: &[P]) {
        match self.keys {
            Keys::U8(keys) => {
                add_entries_of_bytes(keys.get(first..).unwrap_or_default(), table, places);
            }
            keys => by_width!(keys, keys => {
                add_entries(keys.get(first..).unwrap_or_default(), table, places);
            }),
        }
    }
}

/// Whether two arrays are the same buffers.
fn is_same(a: &ArrayRef, b: &ArrayRef) -> bool {
    Arc::ptr_eq(a, b) || a.to_data().ptr_eq(&b.to_data())
}

/// Whole numbers as such, where they come as codes; `None` where they do not.
///
/// # Errors
/// When the values are no whole numbers.
pub(super) fn numbers(column: &InputColumn) -> Result<Option<InputColumn>> {
    let Some(coded) = Coded::of(column) else {
        return Ok(None);
    };
    let values = coded.values().as_primitive_opt::<Int64Type>();
    let values = values.ok_or_else(|| {
        DataFusionError::Execution("an amount of a scan has another type than agreed".to_owned())
    })?;
    let mut numbers = Vec::with_capacity(column.len());
    coded.look_up(values.values(), 0, &mut numbers);
    let nulls = match values.nulls() {
        None if !coded.has_nulls() => None,
        nulls => {
            let table = nulls.map_or_else(
                || vec![true; values.len()],
                |nulls| nulls.iter().collect::<Vec<bool>>(),
            );
            Some(NullBuffer::new(coded.bits(&table)))
        }
    };
    let numbers: ArrayRef = Arc::new(Int64Array::new(ScalarBuffer::from(numbers), nulls));
    Ok(Some(numbers.into()))
}

#[cfg(test)]
mod tests {
    use arrow::array::{DictionaryArray, Int16Array, Int32Array, UInt8Array, UInt16Array};

    use super::*;

    fn whole(values: Vec<i64>) -> ArrayRef {
        Arc::new(Int64Array::from(values))
    }

    #[test]
    fn each_code_must_have_a_value() {
        let cases: [(ArrayRef, bool); 9] = [
            (Arc::new(UInt8Array::from(Vec::<u8>::new())), true),
            (Arc::new(UInt8Array::from(vec![1, 0])), true),
            (Arc::new(UInt8Array::from(vec![0, 2, 1])), false),
            (Arc::new(UInt16Array::from(vec![0, 500])), false),
            (Arc::new(UInt32Array::from(vec![u32::MAX])), false),
            (Arc::new(Int32Array::from(vec![0, -1])), false),
            (Arc::new(Int32Array::from(vec![Some(1), None])), true),
            (Arc::new(Int32Array::from(vec![Some(2), None])), false),
            (Arc::new(Int16Array::from(vec![0])), false),
        ];
        for (codes, is_well) in cases {
            let found = InputColumn::coded(Arc::clone(&codes), whole(vec![7, 8]));
            assert_eq!(found.is_ok(), is_well, "{codes:?}");
        }
    }

    #[test]
    fn rows_are_taken_with_their_codes() {
        let codes = Int32Array::from(vec![Some(1), None, Some(0), Some(1)]);
        let dictionary = DictionaryArray::new(codes, whole(vec![7, 8]));
        let coded = InputColumn::from(Arc::new(dictionary) as ArrayRef);
        let plain = InputColumn::from(whole(vec![8, 0, 7, 8]));
        for column in [coded, plain] {
            assert_eq!((column.len(), column.is_empty()), (4, false));
            let rows = UInt32Array::from(vec![3, 2]);
            let taken = column.take(&rows).unwrap();
            let numbers = numbers(&taken).unwrap().unwrap_or(taken);
            assert_eq!(numbers.values(), &whole(vec![8, 7]));
            assert!(column.take(&UInt32Array::from(vec![4])).is_err());
            assert_eq!(column.slice(2, 2).len(), 2);
        }
        let coded = InputColumn::coded(Arc::new(UInt8Array::from(vec![1])), whole(vec![7, 8]));
        let coded = coded.unwrap();
        assert!(coded.with_values(whole(vec![5])).is_err());
        let other = coded.with_values(whole(vec![5, 6])).unwrap();
        let numbers = numbers(&other).unwrap().unwrap();
        assert_eq!(numbers.values(), &whole(vec![6]));
    }
}
