//! Waiting times as counts per day: `day_histogram(days)`, `day_histogram_merge(state)`,
//! `histogram_count(state)`, `histogram_quantile(state, q)`, `histogram_count_over(state, limit)`.
//!
//! Days are small whole numbers, so a count per day keeps everything a waiting-time indicator
//! needs: quantiles are exact at every roll-up, and merging is addition. The state is pairs of day
//! (i32) and count (u64), little endian, by day. Nulls are left out; no rows give an empty state,
//! whose quantile is null. The quantile is the inverse of the distribution function averaged at
//! discontinuities (type 2 of Hyndman and Fan 1996): with n values in order and h = n·q, the mean
//! of the values at h and h + 1 when h is whole, else the value at ⌈h⌉.

use std::collections::BTreeMap;

use datafusion_common::{Result, exec_err};
use datafusion_expr::{AggregateUDF, ScalarUDF};

use crate::aggregate::{CellAggregate, Takes};
use crate::cell::{Cell, Finish, InputType, Value};
use crate::scalar::{Body, PlainFunction};

/// Days counted in a plain array; rarer ones go to a map.
const DENSE_DAYS: usize = 1_024;
const PAIR: usize = 12;

/// Counts per day being built.
#[derive(Debug, Default, Clone)]
pub struct DayHistogram {
    dense: Vec<u64>,
    sparse: BTreeMap<i32, u64>,
}

impl DayHistogram {
    fn count(&mut self, day: i32, times: u64) {
        match usize::try_from(day) {
            Ok(index) if index < DENSE_DAYS => {
                if index >= self.dense.len() {
                    self.dense.resize((index + 1).next_multiple_of(32), 0);
                }
                if let Some(count) = self.dense.get_mut(index) {
                    *count += times;
                }
            }
            _ => *self.sparse.entry(day).or_default() += times,
        }
    }
}

/// Pairs of day and count of an encoded histogram, by day.
fn decode(state: &[u8]) -> Result<impl Iterator<Item = (i32, u64)> + Clone + '_> {
    let (pairs, rest) = state.as_chunks::<PAIR>();
    if !rest.is_empty() {
        return exec_err!("a day histogram has a broken state");
    }
    Ok(pairs.iter().map(|[a, b, c, d, count @ ..]| {
        (
            i32::from_le_bytes([*a, *b, *c, *d]),
            u64::from_le_bytes(*count),
        )
    }))
}

impl Cell for DayHistogram {
    fn add(&mut self, value: Value<'_>) -> Result<()> {
        match value {
            Value::Whole(day) => match i32::try_from(day) {
                Ok(day) => {
                    self.count(day, 1);
                    Ok(())
                }
                Err(_) => exec_err!("a number of days is out of range"),
            },
            _ => exec_err!("day_histogram takes whole days"),
        }
    }

    fn merge(&mut self, state: &[u8]) -> Result<()> {
        decode(state)?.for_each(|(day, times)| self.count(day, times));
        Ok(())
    }

    fn encode(&mut self, out: &mut Vec<u8>) {
        let mut put = |day: i32, count: u64| {
            out.extend_from_slice(&day.to_le_bytes());
            out.extend_from_slice(&count.to_le_bytes());
        };
        self.sparse
            .range(..0)
            .for_each(|(day, count)| put(*day, *count));
        self.dense
            .iter()
            .enumerate()
            .filter(|(_, count)| **count > 0)
            .for_each(|(day, count)| put(day as i32, *count));
        self.sparse
            .range(0..)
            .for_each(|(day, count)| put(*day, *count));
    }

    fn heap_bytes(&self) -> usize {
        self.dense.capacity() * 8 + self.sparse.len() * 40
    }
}

impl Finish for DayHistogram {
    const RESULT: InputType = InputType::Bytes;
}

pub(crate) fn aggregates() -> Vec<AggregateUDF> {
    vec![
        CellAggregate::<DayHistogram>::function("day_histogram", Takes::Values(InputType::Whole)),
        CellAggregate::<DayHistogram>::function("day_histogram_merge", Takes::States),
    ]
}

pub(crate) fn scalars() -> Vec<ScalarUDF> {
    vec![
        PlainFunction::function("histogram_count", &[InputType::Bytes], Body::Whole(total)),
        PlainFunction::function(
            "histogram_count_over",
            &[InputType::Bytes, InputType::Whole],
            Body::Whole(count_over),
        ),
        PlainFunction::function(
            "histogram_quantile",
            &[InputType::Bytes, InputType::Real],
            Body::Real(quantile),
        ),
    ]
}

fn total(values: &[Value<'_>]) -> Result<Option<i64>> {
    match values {
        [Value::Bytes(state)] => Ok(Some(decode(state)?.map(|(_, count)| count as i64).sum())),
        _ => exec_err!("histogram_count takes the state of a day_histogram"),
    }
}

fn count_over(values: &[Value<'_>]) -> Result<Option<i64>> {
    match values {
        [Value::Bytes(state), Value::Whole(limit)] => Ok(Some(
            decode(state)?
                .filter(|(day, _)| i64::from(*day) > *limit)
                .map(|(_, count)| count as i64)
                .sum(),
        )),
        _ => exec_err!(
            "histogram_count_over takes the state of a day_histogram and a number of days"
        ),
    }
}

fn quantile(values: &[Value<'_>]) -> Result<Option<f64>> {
    let [Value::Bytes(state), Value::Real(q)] = values else {
        return exec_err!(
            "histogram_quantile takes the state of a day_histogram and a number from 0 to 1"
        );
    };
    if !(0.0..=1.0).contains(q) {
        return exec_err!("a quantile is asked for with a number from 0 to 1");
    }
    let pairs = decode(state)?;
    let n: u64 = pairs.clone().map(|(_, count)| count).sum();
    if n == 0 {
        return Ok(None);
    }
    let h = q * n as f64;
    // 0.9 · n is not exact in binary: a hair's breadth from a whole number is that number.
    let nearest = h.round();
    let (first, second) = if (h - nearest).abs() <= 1e-9 * n as f64 {
        (nearest.max(1.0) as u64, (nearest as u64 + 1).min(n))
    } else {
        (h.ceil() as u64, h.ceil() as u64)
    };
    let at = |rank: u64| {
        let mut passed = 0;
        pairs.clone().find(|(_, count)| {
            passed += count;
            passed >= rank
        })
    };
    Ok(at(first)
        .zip(at(second))
        .map(|((a, _), (b, _))| (f64::from(a) + f64::from(b)) / 2.0))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing::{check_laws, numbers};

    fn histogram(days: &[i64]) -> Vec<u8> {
        let values: Vec<Value<'_>> = days.iter().map(|day| Value::Whole(*day)).collect();
        check_laws::<DayHistogram>(&values)
    }

    /// The definition itself, over the sorted values.
    fn naive_quantile(days: &[i64], q: f64) -> f64 {
        let mut sorted = days.to_vec();
        sorted.sort_unstable();
        let h = q * sorted.len() as f64;
        let value = |rank: f64| sorted[(rank as usize).clamp(1, sorted.len()) - 1] as f64;
        if h.fract().abs() < 1e-9 {
            (value(h) + value(h + 1.0)) / 2.0
        } else {
            value(h.ceil())
        }
    }

    #[test]
    fn quantiles_equal_the_definition_on_sorted_values() {
        for n in [1usize, 2, 3, 9, 10, 11, 100, 999] {
            let days: Vec<i64> = numbers(n, 60).map(|n| n as i64 - 5).collect();
            let state = histogram(&days);
            for q in [0.0, 0.25, 0.5, 0.75, 0.9, 1.0] {
                let found = quantile(&[Value::Bytes(&state), Value::Real(q)])
                    .unwrap()
                    .unwrap();
                assert_eq!(found, naive_quantile(&days, q), "n {n} q {q}");
            }
        }
    }

    #[test]
    fn counts_over_a_limit_are_strict() {
        let state = histogram(&[0, 14, 14, 15, 2_000, -3]);
        assert_eq!(total(&[Value::Bytes(&state)]).unwrap(), Some(6));
        assert_eq!(
            count_over(&[Value::Bytes(&state), Value::Whole(14)]).unwrap(),
            Some(2)
        );
    }

    #[test]
    fn no_rows_have_no_quantile() {
        assert_eq!(
            quantile(&[Value::Bytes(&[]), Value::Real(0.5)]).unwrap(),
            None
        );
        assert_eq!(total(&[Value::Bytes(&[])]).unwrap(), Some(0));
    }

    #[test]
    fn nonsense_is_an_error_and_not_a_number() {
        assert!(quantile(&[Value::Bytes(&[]), Value::Real(1.5)]).is_err());
        assert!(total(&[Value::Bytes(&[1, 2])]).is_err());
        assert!(DayHistogram::default().add(Value::Whole(i64::MAX)).is_err());
    }
}
