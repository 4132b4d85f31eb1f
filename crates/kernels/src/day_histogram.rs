//! Waiting times as counts per day: `day_histogram(days)`, `day_histogram_weighted(days, weight)`,
//! `day_histogram_merge(state)`, and over the state `histogram_count(state)`,
//! `histogram_count_over(state, limit)`, `histogram_share_over(state, limit)`,
//! `histogram_mean(state)`, `histogram_quantile(state, q)`, `histogram_quantile_nearest(state, q)`,
//! `histogram_quantile_linear(state, q)`.
//!
//! Days are small whole numbers, so a count per day keeps everything a waiting-time indicator
//! needs: quantiles are exact at every roll-up, and merging is addition. The state is pairs of day
//! (i32) and count (u64), little endian, by day, without days that have no count, so equal content
//! has equal bytes. Nulls are left out; no rows give an empty state, of which the count is 0 and
//! everything else null. Counts add up to at most 2⁶³ − 1; more is an error.
//!
//! A weight is a whole number of times that the row counts (a fraction is given as a multiple of
//! its smallest unit): every function over the state then equals the same function over that many
//! repeated rows. A row of weight 0 or null is left out and a negative weight is an error.
//!
//! Three definitions of a quantile, by their number in Hyndman and Fan 1996, of n values in order:
//! * `histogram_quantile`, type 2: the inverse of the distribution function, averaged at its steps.
//!   With h = n·q, the mean of the values at h and h + 1 when h is whole, else the value at ⌈h⌉;
//! * `histogram_quantile_nearest`, type 1 (nearest rank, SQL's `percentile_disc`): the value at ⌈h⌉,
//!   always one that occurs;
//! * `histogram_quantile_linear`, type 7 (SQL's `percentile_cont`): with h = (n − 1)·q, on the line
//!   between the values at ⌊h⌋ + 1 and ⌊h⌋ + 2. The engine's own `percentile_cont` cuts the place on
//!   that line to six decimals; this one does not.
//!
//! Time: one addition a row, one pass over the days for a quantile. Memory: 8 bytes for each day up
//! to the longest below 1 024, and about 27 for each rarer day, per group.

use std::collections::BTreeMap;

use datafusion_common::{Result, exec_err};
use datafusion_expr::{AggregateUDF, ScalarUDF};

use crate::aggregate::{CellAggregate, Takes};
use crate::cell::{Cell, Finish, Given, InputType, Value};
use crate::refusal::refused;
use crate::scalar::{Body, PlainFunction};
use crate::sliding::{Frame, Tally, Way};

/// Days counted in a plain array; rarer ones go to a map.
const DENSE_DAYS: usize = 1_024;
/// Bytes of a day and its count.
pub(crate) const PAIR: usize = 12;
/// The most that the counts of one histogram add up to: results are signed.
const MOST: u64 = i64::MAX as u64;
/// 0.9 · n is not exact in binary: this share of n from a whole number is that number.
pub(crate) const HAIR: f64 = 1e-9;

/// Counts per day being built.
#[derive(Debug, Default, Clone)]
pub struct DayHistogram {
    dense: Vec<u64>,
    sparse: BTreeMap<i32, u64>,
    total: u64,
}

/// How a quantile falls between two values; see the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuantileRule {
    /// Type 2: the mean of both where the distribution function has a step.
    AveragedStep,
    /// Type 1: the lower one, always a value that occurs.
    NearestRank,
    /// Type 7: on the line between them.
    Linear,
}

impl DayHistogram {
    /// Counts a day that many times.
    pub fn add_times(&mut self, day: i32, times: u64) -> Result<()> {
        // The total bounds every single count, so no count can overflow.
        self.total = match self.total.checked_add(times) {
            Some(total) if total <= MOST => total,
            _ => return exec_err!("a day histogram counts more than 2^63 - 1"),
        };
        if times == 0 {
            return Ok(());
        }
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
        Ok(())
    }

    /// Counts each of the days once.
    pub fn add_days(&mut self, days: &[i32]) -> Result<()> {
        days.iter().try_for_each(|day| self.add_times(*day, 1))
    }

    /// Adds the counts of an encoded histogram.
    pub fn merge_state(&mut self, state: &[u8]) -> Result<()> {
        decode(state)?.try_for_each(|(day, times)| self.add_times(day, times))
    }

    /// The histogram as bytes, for the functions over it: equal content has equal bytes.
    pub fn state(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.put_state(&mut bytes);
        bytes
    }

    /// The quantile for a `q` from 0 to 1; `None` when nothing was counted.
    pub fn quantile(&self, q: f64, rule: QuantileRule) -> Result<Option<f64>> {
        quantile_of(&self.state(), q, rule)
    }

    pub(crate) fn put_state(&self, out: &mut Vec<u8>) {
        let mut put = |day: i32, count: u64| out.extend_from_slice(&pair_of(day, count));
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
}

/// How often a day was counted, as it is written out.
pub(crate) fn pair_of(day: i32, count: u64) -> [u8; PAIR] {
    let [a, b, c, d] = day.to_le_bytes();
    let [e, f, g, h, i, j, k, l] = count.to_le_bytes();
    [a, b, c, d, e, f, g, h, i, j, k, l]
}

/// Pairs of day and count of an encoded histogram, by day; an error when the bytes are not one.
pub(crate) fn decode(state: &[u8]) -> Result<impl Iterator<Item = (i32, u64)> + Clone + '_> {
    let (pairs, rest) = state.as_chunks::<PAIR>();
    let counts = pairs.iter().map(|[a, b, c, d, count @ ..]| {
        (
            i32::from_le_bytes([*a, *b, *c, *d]),
            u64::from_le_bytes(*count),
        )
    });
    let mut total = Some(0u64);
    let mut last = None;
    for (day, count) in counts.clone() {
        total = total.and_then(|total| total.checked_add(count));
        if count == 0 || last.is_some_and(|last| day <= last) {
            total = None;
        }
        last = Some(day);
    }
    match total {
        Some(total) if rest.is_empty() && total <= MOST => Ok(counts),
        _ => exec_err!("a day histogram has a broken state"),
    }
}

impl Cell for DayHistogram {
    fn add(&mut self, value: Value<'_>) -> Result<()> {
        self.add_times(day_of(value)?, 1)
    }

    fn add_row(&mut self, row: &[Option<Value<'_>>]) -> Result<()> {
        match weighted_day_of(row)? {
            Some((day, times)) => self.add_times(day, times),
            None => Ok(()),
        }
    }

    fn merge(&mut self, state: &[u8]) -> Result<()> {
        self.merge_state(state)
    }

    fn encode(&mut self, out: &mut Vec<u8>) {
        self.put_state(out);
    }

    fn heap_bytes(&self) -> usize {
        // Nodes of the map hold eleven pairs and are at least about half full.
        self.dense.capacity() * 8 + self.sparse.len().div_ceil(6) * 160
    }
}

fn day_of(value: Value<'_>) -> Result<i32> {
    match value {
        Value::Whole(day) => whole_day(day),
        _ => exec_err!("day_histogram takes whole days"),
    }
}

/// The day of a row and how often it counts; `None` for a row that is left out.
fn weighted_day_of(row: &[Option<Value<'_>>]) -> Result<Option<(i32, u64)>> {
    match row {
        [None, _] | [_, None] => Ok(None),
        [Some(Value::Whole(day)), Some(Value::Whole(weight))] => match u64::try_from(*weight) {
            Ok(times) => Ok(Some((whole_day(*day)?, times))),
            Err(_) => refused(
                "day_histogram_weighted: a weight is negative, but a row cannot count less than \
                 zero times",
            ),
        },
        _ => exec_err!("day_histogram_weighted takes whole days and a whole weight"),
    }
}

fn whole_day(day: i64) -> Result<i32> {
    match i32::try_from(day) {
        Ok(day) => Ok(day),
        Err(_) => refused("a number of days is out of range"),
    }
}

impl Finish for DayHistogram {
    const RESULT: InputType = InputType::Bytes;
    type Frame = DayFrame;
}

/// Counts per day of a frame that slides, wide enough for more than one histogram may count.
#[derive(Debug, Default)]
pub(crate) struct DayFrame {
    days: Tally<i32, i128>,
}

impl DayFrame {
    fn pass_times(&mut self, day: i32, times: u64, way: Way) -> Result<()> {
        if times == 0 {
            return Ok(());
        }
        self.days.pass(day, i128::from(times), way)
    }
}

impl Frame<DayHistogram> for DayFrame {
    fn pass(&mut self, given: Given<'_>, way: Way) -> Result<()> {
        match given {
            Given::Value(value) => self.pass_times(day_of(value)?, 1, way),
            Given::Row(row) => match weighted_day_of(row)? {
                Some((day, times)) => self.pass_times(day, times, way),
                None => Ok(()),
            },
            Given::State(state) => {
                decode(state)?.try_for_each(|(day, times)| self.pass_times(day, times, way))
            }
        }
    }

    fn cell(&self) -> Result<DayHistogram> {
        let mut histogram = DayHistogram::default();
        for (day, _, times) in self.days.iter() {
            histogram.add_times(day, u64::try_from(times).unwrap_or(u64::MAX))?;
        }
        Ok(histogram)
    }

    fn heap_bytes(&self) -> usize {
        self.days.heap_bytes()
    }
}

pub(crate) fn aggregates() -> Vec<AggregateUDF> {
    const WEIGHTED: &[InputType] = &[InputType::Whole, InputType::Whole];
    vec![
        CellAggregate::<DayHistogram>::function("day_histogram", Takes::Values(InputType::Whole)),
        CellAggregate::<DayHistogram>::function("day_histogram_weighted", Takes::Rows(WEIGHTED)),
        CellAggregate::<DayHistogram>::function("day_histogram_merge", Takes::States),
    ]
}

pub(crate) fn scalars() -> Vec<ScalarUDF> {
    const STATE: &[InputType] = &[InputType::Bytes];
    const LIMIT: &[InputType] = &[InputType::Bytes, InputType::Whole];
    const QUANTILE: &[InputType] = &[InputType::Bytes, InputType::Real];
    vec![
        PlainFunction::function("histogram_count", STATE, Body::Whole(total)),
        PlainFunction::function("histogram_mean", STATE, Body::Real(mean)),
        PlainFunction::function("histogram_count_over", LIMIT, Body::Whole(count_over)),
        PlainFunction::function("histogram_share_over", LIMIT, Body::Real(share_over)),
        PlainFunction::function(
            "histogram_quantile",
            QUANTILE,
            Body::Real(|values| quantile(values, QuantileRule::AveragedStep)),
        ),
        PlainFunction::function(
            "histogram_quantile_nearest",
            QUANTILE,
            Body::Real(|values| quantile(values, QuantileRule::NearestRank)),
        ),
        PlainFunction::function(
            "histogram_quantile_linear",
            QUANTILE,
            Body::Real(|values| quantile(values, QuantileRule::Linear)),
        ),
    ]
}

fn total(values: &[Value<'_>]) -> Result<Option<i64>> {
    match values {
        [Value::Bytes(state)] => Ok(Some(decode(state)?.map(|(_, count)| count as i64).sum())),
        _ => exec_err!("the count of a histogram takes the state of a day_histogram"),
    }
}

fn mean(values: &[Value<'_>]) -> Result<Option<f64>> {
    let Some(n) = total(values)?.filter(|n| *n > 0) else {
        return Ok(None);
    };
    let [Value::Bytes(state)] = values else {
        return exec_err!("histogram_mean takes the state of a day_histogram");
    };
    let days: i128 = decode(state)?
        .map(|(day, count)| i128::from(day) * i128::from(count))
        .sum();
    Ok(Some(days as f64 / n as f64))
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
            "a limit on a histogram takes the state of a day_histogram and a number of days"
        ),
    }
}

fn share_over(values: &[Value<'_>]) -> Result<Option<f64>> {
    let over = count_over(values)?;
    let all = total(values.get(..1).unwrap_or_default())?.filter(|n| *n > 0);
    Ok(over.zip(all).map(|(over, all)| over as f64 / all as f64))
}

fn quantile(values: &[Value<'_>], rule: QuantileRule) -> Result<Option<f64>> {
    match values {
        [Value::Bytes(state), Value::Real(q)] => quantile_of(state, *q, rule),
        _ => exec_err!("a quantile takes the state of a day_histogram and a number from 0 to 1"),
    }
}

/// Refuses what is no share of the values, NaN included.
pub(crate) fn check_share(q: f64) -> Result<()> {
    if (0.0..=1.0).contains(&q) {
        Ok(())
    } else {
        exec_err!("a quantile is asked for with a number from 0 to 1")
    }
}

fn quantile_of(state: &[u8], q: f64, rule: QuantileRule) -> Result<Option<f64>> {
    check_share(q)?;
    let pairs = decode(state)?;
    let n: u64 = pairs.clone().map(|(_, count)| count).sum();
    if n == 0 {
        return Ok(None);
    }
    let h = match rule {
        QuantileRule::Linear => q * (n - 1) as f64,
        QuantileRule::AveragedStep | QuantileRule::NearestRank => q * n as f64,
    };
    let whole = (h - h.round()).abs() <= HAIR * n as f64;
    // Ranks of the two values, and the place between them.
    let (first, second, place) = match rule {
        QuantileRule::Linear if whole => (h.round() as u64 + 1, h.round() as u64 + 1, 0.0),
        QuantileRule::Linear => (h.floor() as u64 + 1, h.floor() as u64 + 2, h.fract()),
        QuantileRule::AveragedStep if whole => (h.round() as u64, h.round() as u64 + 1, 0.5),
        QuantileRule::NearestRank if whole => (h.round() as u64, h.round() as u64, 0.0),
        QuantileRule::AveragedStep | QuantileRule::NearestRank => {
            (h.ceil() as u64, h.ceil() as u64, 0.0)
        }
    };
    let at = |rank: u64| {
        let rank = rank.clamp(1, n);
        let mut passed = 0;
        pairs.clone().find(|(_, count)| {
            passed += count;
            passed >= rank
        })
    };
    Ok(at(first).zip(at(second)).map(|((a, _), (b, _))| {
        let (a, b) = (f64::from(a), f64::from(b));
        a + (b - a) * place
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_aggregate, check_laws, check_laws_of_rows, laws, whole_column};
    use proptest::prelude::*;

    fn histogram(days: &[i64]) -> Vec<u8> {
        let values: Vec<Value<'_>> = days.iter().map(|day| Value::Whole(*day)).collect();
        check_laws::<DayHistogram>(&values)
    }

    fn weighted(rows: &[(i64, i64)]) -> Vec<u8> {
        let rows: Vec<[Option<Value<'_>>; 2]> = rows
            .iter()
            .map(|(day, weight)| [Some(Value::Whole(*day)), Some(Value::Whole(*weight))])
            .collect();
        check_laws_of_rows::<DayHistogram, 2>(&rows)
    }

    fn asked(state: &[u8], q: f64, rule: QuantileRule) -> f64 {
        quantile(&[Value::Bytes(state), Value::Real(q)], rule)
            .unwrap()
            .unwrap()
    }

    /// The definitions themselves over the sorted values, with q as thousandths so that h is exact.
    fn naive_quantile(days: &[i64], thousandths: usize, rule: QuantileRule) -> f64 {
        let mut sorted = days.to_vec();
        sorted.sort_unstable();
        let n = sorted.len();
        let value = |rank: usize| sorted[rank.clamp(1, n) - 1] as f64;
        let h = n * thousandths;
        match rule {
            QuantileRule::AveragedStep if h.is_multiple_of(1_000) => {
                f64::midpoint(value(h / 1_000), value(h / 1_000 + 1))
            }
            QuantileRule::AveragedStep | QuantileRule::NearestRank => value(h.div_ceil(1_000)),
            QuantileRule::Linear => {
                let h = (n - 1) * thousandths;
                let (low, high) = (value(h / 1_000 + 1), value(h / 1_000 + 2));
                low + (high - low) * (h % 1_000) as f64 / 1_000.0
            }
        }
    }

    const RULES: [QuantileRule; 3] = [
        QuantileRule::AveragedStep,
        QuantileRule::NearestRank,
        QuantileRule::Linear,
    ];

    #[test]
    fn the_three_quantiles_differ_as_their_definitions_say() {
        let state = histogram(&[1, 2, 3, 10]);
        for (q, averaged, nearest, linear) in [
            (0.0, 1.0, 1.0, 1.0),
            (0.25, 1.5, 1.0, 1.75),
            (0.5, 2.5, 2.0, 2.5),
            (0.6, 3.0, 3.0, 2.8),
            (0.9, 10.0, 10.0, 7.9),
            (1.0, 10.0, 10.0, 10.0),
        ] {
            for (rule, expected) in RULES.into_iter().zip([averaged, nearest, linear]) {
                let found = asked(&state, q, rule);
                assert!((found - expected).abs() < 1e-12, "{q} {rule:?}: {found}");
            }
        }
    }

    proptest! {
        #![proptest_config(laws())]

        #[test]
        fn quantiles_equal_the_definition_on_sorted_values(
            days in prop::collection::vec(-400i64..1_500, 1..200),
            thousandths in 0usize..=1_000,
        ) {
            let state = histogram(&days);
            for rule in RULES {
                let found = asked(&state, thousandths as f64 / 1_000.0, rule);
                let expected = naive_quantile(&days, thousandths, rule);
                prop_assert!((found - expected).abs() < 1e-6, "{rule:?} {found} {expected}");
            }
        }

        #[test]
        fn a_weight_is_a_number_of_repeated_rows(
            rows in prop::collection::vec((-30i64..1_200, 0i64..9), 0..60),
            limit in -40i64..1_300,
        ) {
            let repeated: Vec<i64> = rows
                .iter()
                .flat_map(|(day, weight)| std::iter::repeat_n(*day, *weight as usize))
                .collect();
            let state = weighted(&rows);
            prop_assert_eq!(&state, &histogram(&repeated));
            let n = repeated.len();
            let over = repeated.iter().filter(|day| **day > limit).count();
            let share = share_over(&[Value::Bytes(&state), Value::Whole(limit)]).unwrap();
            prop_assert_eq!(share, (n > 0).then(|| over as f64 / n as f64));
            let sum: i64 = repeated.iter().sum();
            let average = mean(&[Value::Bytes(&state)]).unwrap();
            prop_assert_eq!(average, (n > 0).then(|| sum as f64 / n as f64));
        }

        #[test]
        fn the_aggregates_behave_in_groups(
            rows in prop::collection::vec(
                (0usize..5, prop::option::of(-9i64..1_100), prop::option::of(0i64..4), any::<bool>()),
                0..80,
            ),
        ) {
            let groups: Vec<usize> = rows.iter().map(|row| row.0).collect();
            let filter: Vec<bool> = rows.iter().map(|row| row.3).collect();
            let days = whole_column(rows.iter().map(|row| row.1));
            let weights = whole_column(rows.iter().map(|row| row.2));
            let [plain, with_weight, merge] = aggregates().try_into().unwrap();
            let states = check_aggregate(&plain, &[days.clone()], &groups, &filter);
            check_aggregate(&with_weight, &[days, weights], &groups, &filter);
            let places: Vec<usize> = (0..states.len()).map(|at| at % 2).collect();
            let keep: Vec<bool> = places.iter().map(|place| *place == 0).collect();
            check_aggregate(&merge, &[states], &places, &keep);
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
    fn no_rows_have_a_count_of_zero_and_nothing_else() {
        for rule in RULES {
            assert_eq!(
                quantile(&[Value::Bytes(&[]), Value::Real(0.5)], rule).unwrap(),
                None
            );
        }
        assert_eq!(total(&[Value::Bytes(&[])]).unwrap(), Some(0));
        assert_eq!(mean(&[Value::Bytes(&[])]).unwrap(), None);
        assert_eq!(
            share_over(&[Value::Bytes(&[]), Value::Whole(3)]).unwrap(),
            None
        );
    }

    #[test]
    fn nonsense_is_an_error_and_not_a_number() {
        for q in [1.5, -0.1, f64::NAN] {
            assert!(quantile_of(&[], q, QuantileRule::Linear).is_err());
        }
        assert!(DayHistogram::default().add(Value::Whole(i64::MAX)).is_err());
        let negative = [Some(Value::Whole(1)), Some(Value::Whole(-1))];
        assert!(DayHistogram::default().add_row(&negative).is_err());
    }

    #[test]
    fn bytes_that_no_histogram_has_are_refused() {
        let pair = |day: i32, count: u64| {
            let mut bytes = day.to_le_bytes().to_vec();
            bytes.extend(count.to_le_bytes());
            bytes
        };
        for broken in [
            vec![1, 2],
            pair(3, 0),
            [pair(3, 1), pair(3, 1)].concat(),
            [pair(4, 1), pair(3, 1)].concat(),
            [pair(3, MOST), pair(4, 1)].concat(),
            [pair(3, u64::MAX), pair(4, 1)].concat(),
        ] {
            assert!(total(&[Value::Bytes(&broken)]).is_err(), "{broken:?}");
            assert!(
                DayHistogram::default().merge(&broken).is_err(),
                "{broken:?}"
            );
        }
    }

    #[test]
    fn too_many_rows_are_an_error_in_any_order() {
        for counts in [[MOST, 1], [1, MOST]] {
            let mut histogram = DayHistogram::default();
            let added = counts.map(|times| histogram.add_times(1, times).is_ok());
            assert_eq!(added, [true, false]);
        }
    }
}
