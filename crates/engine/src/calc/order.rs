//! The order of rows by their key.
//!
//! Keys of cells and values are words and days of which there are few. So the values of each column get
//! their ranks, the ranks of a row are the digits of one number, and numbers are sorted: rows are
//! compared once by a number and not word by word. Where a key has columns of other types, or more
//! combinations than 64 bits can count, rows are compared as bytes.
//!
//! What may not live here: what a key is (`rows.rs`).

use std::hash::Hash;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Date32Type, Int32Type};
use arrow::row::{RowConverter, SortField};
use hashbrown::HashMap;

use crate::error::{EngineError, Result};

/// The order of rows.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Order {
    /// The rows in order; `None` when they are.
    pub(super) rows: Option<UInt32Array>,
    /// Whether two of them agree in the whole key.
    pub(super) repeats: bool,
}

impl Order {
    /// Of rows by these columns, those that there are: ascending, nulls last, rows of the same key as they
    /// are.
    pub(super) fn of(batch: &RecordBatch, by: &[&str]) -> Result<Self> {
        let columns: Vec<&ArrayRef> = by
            .iter()
            .filter_map(|name| batch.column_by_name(name))
            // A column without values orders nothing.
            .filter(|column| column.null_count() < column.len())
            .collect();
        if columns.is_empty() || batch.num_rows() < 2 {
            return Ok(Self {
                rows: None,
                repeats: batch.num_rows() > 1,
            });
        }
        match numbers(&columns, batch.num_rows()) {
            Some(numbers) => Ok(Self::by(&numbers)),
            None => Self::by_bytes(&columns),
        }
    }

    fn by_bytes(columns: &[&ArrayRef]) -> Result<Self> {
        let failed = |error| EngineError::internal_because("ordering rows", error);
        let last = SortOptions {
            descending: false,
            nulls_first: false,
        };
        let fields = columns
            .iter()
            .map(|column| SortField::new_with_options(column.data_type().clone(), last));
        let converter = RowConverter::new(fields.collect()).map_err(failed)?;
        let columns: Vec<ArrayRef> = columns.iter().copied().cloned().collect();
        let rows = converter.convert_columns(&columns).map_err(failed)?;
        Ok(Self::by(&rows.iter().collect::<Vec<_>>()))
    }

    fn by<T: Ord + Copy>(keys: &[T]) -> Self {
        if keys.is_sorted() {
            return Self {
                rows: None,
                repeats: repeat(keys.iter().copied()),
            };
        }
        let mut order: Vec<(T, u32)> = keys.iter().copied().zip(0..).collect();
        order.sort_unstable();
        Self {
            repeats: repeat(order.iter().map(|(key, _)| *key)),
            rows: Some(order.into_iter().map(|(_, row)| Some(row)).collect()),
        }
    }
}

/// Are two neighbours the same?
fn repeat<T: PartialEq + Copy>(mut keys: impl Iterator<Item = T>) -> bool {
    let mut before = None;
    keys.any(|key| before.replace(key) == Some(key))
}

/// A number for each row, in the order of the rows; `None` where there are none of 64 bits.
fn numbers(columns: &[&ArrayRef], rows: usize) -> Option<Vec<u64>> {
    let mut numbers = vec![0u64; rows];
    let mut all = 1u64;
    for column in columns {
        let (ranks, count) = match column.data_type() {
            DataType::Utf8 => ranks(column.as_string::<i32>().iter()),
            DataType::Date32 => ranks(column.as_primitive::<Date32Type>().iter()),
            DataType::Int32 => ranks(column.as_primitive::<Int32Type>().iter()),
            _ => return None,
        };
        all = all.checked_mul(count)?;
        for (number, rank) in numbers.iter_mut().zip(ranks) {
            *number = *number * count + u64::from(rank);
        }
    }
    Some(numbers)
}

/// The rank of each value among all, a null being the last; and how many ranks there are.
fn ranks<T: Ord + Hash + Copy>(values: impl Iterator<Item = Option<T>>) -> (Vec<u32>, u64) {
    let mut known: HashMap<Option<T>, u32> = HashMap::new();
    let mut last: Option<(Option<T>, u32)> = None;
    let mut codes = Vec::with_capacity(values.size_hint().0);
    for value in values {
        let code = match last {
            Some((before, code)) if before == value => code,
            _ => {
                let next = known.len() as u32;
                *known.entry(value).or_insert(next)
            }
        };
        last = Some((value, code));
        codes.push(code);
    }
    let mut in_order: Vec<(Option<T>, u32)> = known.into_iter().collect();
    in_order.sort_unstable_by_key(|(value, _)| (value.is_none(), *value));
    let mut ranks = vec![0; in_order.len()];
    for (rank, (_, code)) in (0u32..).zip(&in_order) {
        if let Some(place) = ranks.get_mut(*code as usize) {
            *place = rank;
        }
    }
    let of_codes = codes.iter().map(|code| ranks.get(*code as usize).copied());
    let of_rows = of_codes.map(Option::unwrap_or_default).collect();
    (of_rows, in_order.len() as u64)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Date32Array, Float64Array, Int32Array, Int64Array, StringArray};

    use super::*;

    type Row = (Option<&'static str>, Option<i32>, Option<i32>);

    fn batch(rows: &[Row]) -> RecordBatch {
        let columns: Vec<(&str, ArrayRef, bool)> = vec![
            (
                "word",
                Arc::new(rows.iter().map(|row| row.0).collect::<StringArray>()),
                true,
            ),
            (
                "day",
                Arc::new(rows.iter().map(|row| row.1).collect::<Date32Array>()),
                true,
            ),
            (
                "age",
                Arc::new(rows.iter().map(|row| row.2).collect::<Int32Array>()),
                true,
            ),
            ("nothing", Arc::new(StringArray::new_null(rows.len())), true),
            (
                "real",
                Arc::new(Float64Array::from(vec![0.5; rows.len()])),
                true,
            ),
            (
                "n",
                Arc::new(Int64Array::from_iter_values(0..rows.len() as i64)),
                true,
            ),
        ];
        RecordBatch::try_from_iter_with_nullable(columns).unwrap()
    }

    fn order(rows: &[Row], by: &[&str]) -> (Option<Vec<u32>>, bool) {
        let order = Order::of(&batch(rows), by).unwrap();
        (order.rows.map(|rows| rows.values().to_vec()), order.repeats)
    }

    const KEY: [&str; 4] = ["word", "nothing", "day", "age"];

    #[test]
    fn rows_are_in_the_order_of_their_keys_and_nulls_are_last() {
        let rows: [Row; 7] = [
            (None, Some(1), Some(1)),
            (Some("b"), Some(-3), None),
            (Some("b"), Some(-3), Some(7)),
            (Some("a, and more"), None, Some(0)),
            (Some("a"), Some(9), Some(-1)),
            (Some(""), Some(9), Some(-1)),
            (None, None, None),
        ];
        let wanted = Some(vec![5, 4, 3, 2, 1, 0, 6]);
        assert_eq!(order(&rows, &KEY), (wanted, false));
        let mut reordered: Vec<Row> = [5, 4, 3, 2, 1, 0, 6].iter().map(|row| rows[*row]).collect();
        assert_eq!(order(&reordered, &KEY), (None, false));
        reordered.push((None, None, None));
        assert_eq!(order(&reordered, &KEY), (None, true));
        // Rows of the same key stay as they are.
        reordered.swap(0, 6);
        assert_eq!(
            order(&reordered, &KEY),
            (Some(vec![6, 1, 2, 3, 4, 5, 0, 7]), true)
        );
    }

    #[test]
    fn the_order_is_that_of_bytes() {
        let words = ["a", "aa", "b", "ä", "Z", "", "aaaaaaaaa", "aaaaaaaab"];
        let draw = |row: usize, by: usize| (row * by + row / 7) % 11;
        let rows: Vec<Row> = (0..500)
            .map(|row| {
                (
                    words.get(draw(row, 5)).copied(),
                    (draw(row, 3) > 0).then(|| draw(row, 2) as i32 - 5),
                    (draw(row, 2) > 1).then(|| draw(row, 9) as i32 - 5),
                )
            })
            .collect();
        for key in [
            &KEY[..],
            &["age"],
            &["word"],
            &["day", "word"],
            &["no such column"],
        ] {
            let batch = batch(&rows);
            let columns: Vec<&ArrayRef> = key
                .iter()
                .filter_map(|name| batch.column_by_name(name))
                .collect();
            let by_numbers = Order::of(&batch, key).unwrap();
            if !columns.is_empty() {
                assert_eq!(by_numbers, Order::by_bytes(&columns).unwrap(), "{key:?}");
            }
            // A type that has no ranks.
            let with_real = [key, &["real"]].concat();
            let by_bytes = Order::of(&batch, &with_real).unwrap();
            assert_eq!(by_numbers.repeats, by_bytes.repeats);
            assert_eq!(by_numbers.rows, by_bytes.rows, "{key:?}");
        }
    }

    #[test]
    fn more_combinations_than_64_bits_can_count_are_compared_as_bytes() {
        let words: Vec<String> = (0..3_000)
            .map(|n| format!("{:04}", (n * 7) % 3_000))
            .collect();
        let word: ArrayRef = Arc::new(words.iter().map(Some).collect::<StringArray>());
        let names = ["a", "b", "c", "d", "e", "f"];
        let columns = names.iter().map(|name| (*name, Arc::clone(&word), true));
        let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
        let columns: Vec<&ArrayRef> = batch.columns().iter().collect();
        assert!(numbers(&columns, batch.num_rows()).is_none());
        let order = Order::of(&batch, &names).unwrap();
        assert_eq!(order, Order::of(&batch, &["a"]).unwrap());
        assert!(order.rows.is_some() && !order.repeats);
    }

    #[test]
    fn without_a_key_more_rows_than_one_are_the_same() {
        let row: Row = (Some("a"), None, None);
        assert_eq!(order(&[], &KEY), (None, false));
        assert_eq!(order(&[row], &KEY), (None, false));
        assert_eq!(order(&[row, row], &["nothing"]), (None, true));
    }
}
