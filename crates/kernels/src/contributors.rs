//! Who makes up a cell of money: `contributors(contributor, amount)`, `contributors_merge(state)`,
//! and over the state `contributors_count(state)`, `contributors_total(state)`,
//! `contributors_largest(state)`, `contributors_second(state)`, `contributors_top(state, n)`; in Rust
//! also [`ContributorCells`], the same for many cells at once.
//!
//! A cell is dangerous where one or two contributors make up most of it (Hundepool and others,
//! Statistical Disclosure Control, 2012, chapter 4). With contributions x₁ ≥ x₂ ≥ … of total X the
//! p % rule hides a cell where X − x₁ − x₂ < p / 100 · x₁, and (n, k) dominance where the n largest
//! make up more than k % of X. This kernel gives the figures; which rule holds is decided elsewhere.
//!
//! A contributor is a number (u32) of a supplier, unit or person, and an amount is a whole number of
//! the smallest unit. Amounts of one contributor are summed first, so a credit note lowers the
//! contribution of who gave it; the **contribution is the absolute value of that sum**, and the total
//! is the sum of contributions and not of amounts: a cell of +100 and −99 is two large contributions
//! and not one of 1. A contributor whose amounts cancel out counts, with a contribution of 0.
//!
//! A row with a null in either column is left out. No rows give an empty state, with the figures 0:
//! where there is no largest or second contributor its figure is 0 and not null, so that a rule
//! written as a comparison hides the cell instead of passing over a null. A contribution or total
//! beyond 2⁶³ − 1 is an error of the function that asks for it.
//!
//! State: contributor (u32) and sum (i128), little endian, by contributor, 20 bytes each, which is
//! exact in any order; merging adds by contributor. Time: a binary search a row, and a sort of new
//! contributors whenever they outnumber the known ones: n log n in all. Memory: 20 bytes a
//! contributor and cell, up to four times that while gathering. A state tells who delivers what: it
//! stays with the components, and only figures leave.

use datafusion_common::{Result, exec_err};
use datafusion_expr::{AggregateUDF, ScalarUDF};

use crate::aggregate::{CellAggregate, Takes};
use crate::cell::{Cell, Finish, Given, InputType, Value};
use crate::scalar::{Body, PlainFunction};
use crate::sliding::{Frame, Tally, Way};

const WIDTH: usize = 20;
/// New arrivals are folded in when they outnumber this and the known contributors.
const FOLD_AT: usize = 16;

/// The contributors of one cell being gathered.
#[derive(Debug, Clone, Default)]
pub struct Contributors {
    /// Known contributors, by number, and the sum of each.
    known: Vec<u32>,
    sums: Vec<i128>,
    /// Contributors that were not known when they came, in order of arrival.
    arrived: Vec<(u32, i128)>,
}

/// The figures of a cell that rules on dominance need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dominance {
    /// Contributors, those with a sum of 0 included.
    pub count: u64,
    /// Sum of the contributions.
    pub total: u128,
    /// The largest contribution; 0 where there is none.
    pub largest: u128,
    /// The second largest; 0 where there is none.
    pub second: u128,
}

impl Contributors {
    /// Adds an amount of a contributor.
    pub fn add_amount(&mut self, contributor: u32, amount: i64) {
        self.add_sum(contributor, i128::from(amount));
    }

    // 2⁶⁴ rows cannot leave i128; a sum that does can only come from foreign bytes, stays at the
    // border, and is refused as out of range by whatever asks for it.
    fn add_sum(&mut self, contributor: u32, amount: i128) {
        if let Some((last, sum)) = self.arrived.last_mut()
            && *last == contributor
        {
            *sum = sum.saturating_add(amount);
            return;
        }
        if let Ok(place) = self.known.binary_search(&contributor)
            && let Some(sum) = self.sums.get_mut(place)
        {
            *sum = sum.saturating_add(amount);
            return;
        }
        self.arrived.push((contributor, amount));
        if self.arrived.len() >= FOLD_AT.max(self.known.len()) {
            self.fold();
        }
    }

    /// Adds an encoded state.
    pub fn merge_state(&mut self, state: &[u8]) -> Result<()> {
        let entries = decode(state)?;
        if self.known.is_empty() && self.arrived.is_empty() {
            self.known.reserve_exact(entries.len());
            self.sums.reserve_exact(entries.len());
            entries.for_each(|(contributor, sum)| {
                self.known.push(contributor);
                self.sums.push(sum);
            });
            return Ok(());
        }
        entries.for_each(|(contributor, sum)| self.add_sum(contributor, sum));
        Ok(())
    }

    /// The state as bytes: equal contributors with equal sums have equal bytes.
    pub fn state(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.encode(&mut bytes);
        bytes
    }

    /// The figures of the cell.
    pub fn dominance(&mut self) -> Dominance {
        self.fold();
        dominance_of(self.sums.iter().copied())
    }

    /// Puts the arrivals among the known.
    fn fold(&mut self) {
        if self.arrived.is_empty() {
            return;
        }
        self.arrived
            .sort_unstable_by_key(|(contributor, _)| *contributor);
        let most = self.known.len() + self.arrived.len();
        let mut known: Vec<u32> = Vec::with_capacity(most);
        let mut sums: Vec<i128> = Vec::with_capacity(most);
        let mut old = self.known.iter().copied().zip(self.sums.iter().copied());
        let mut new = self.arrived.drain(..);
        let (mut from_old, mut from_new) = (old.next(), new.next());
        loop {
            let take_old = match (from_old, from_new) {
                (None, None) => break,
                (Some((a, _)), Some((b, _))) => a <= b,
                (a, _) => a.is_some(),
            };
            let next = if take_old {
                std::mem::replace(&mut from_old, old.next())
            } else {
                std::mem::replace(&mut from_new, new.next())
            };
            let Some((contributor, amount)) = next else {
                break;
            };
            match sums.last_mut() {
                Some(sum) if known.last() == Some(&contributor) => {
                    *sum = sum.saturating_add(amount);
                }
                _ => {
                    known.push(contributor);
                    sums.push(amount);
                }
            }
        }
        drop(new);
        self.known = known;
        self.sums = sums;
    }
}

fn dominance_of(sums: impl Iterator<Item = i128>) -> Dominance {
    let mut figures = Dominance::default();
    for sum in sums {
        let contribution = sum.unsigned_abs();
        figures.count += 1;
        figures.total = figures.total.saturating_add(contribution);
        if contribution > figures.largest {
            figures.second = figures.largest;
            figures.largest = contribution;
        } else if contribution > figures.second {
            figures.second = contribution;
        }
    }
    figures
}

/// Contributors and sums of an encoded state, by contributor; an error when the bytes are not one.
fn decode(state: &[u8]) -> Result<impl ExactSizeIterator<Item = (u32, i128)> + Clone + '_> {
    let (entries, rest) = state.as_chunks::<WIDTH>();
    let entries = entries.iter().map(|[a, b, c, d, sum @ ..]| {
        (
            u32::from_le_bytes([*a, *b, *c, *d]),
            i128::from_le_bytes(*sum),
        )
    });
    if rest.is_empty() && entries.clone().is_sorted_by(|a, b| a.0 < b.0) {
        Ok(entries)
    } else {
        exec_err!("a list of contributors has a broken state")
    }
}

/// The contributors of cells numbered from 0.
#[derive(Debug, Clone)]
pub struct ContributorCells {
    cells: Vec<Contributors>,
}

impl ContributorCells {
    /// So many empty cells.
    pub fn new(cells: usize) -> Self {
        Self {
            cells: vec![Contributors::default(); cells],
        }
    }

    /// Adds rows: cell, contributor, amount. After an error the cells are not to be used.
    pub fn add_rows(&mut self, cells: &[u32], contributors: &[u32], amounts: &[i64]) -> Result<()> {
        if cells.len() != contributors.len() || cells.len() != amounts.len() {
            return exec_err!("columns of contributions differ in length");
        }
        let total = self.cells.len();
        for ((cell, contributor), amount) in cells.iter().zip(contributors).zip(amounts) {
            match self.cells.get_mut(*cell as usize) {
                Some(cell) => cell.add_amount(*contributor, *amount),
                None => return exec_err!("cell {cell} of {total} does not exist"),
            }
        }
        Ok(())
    }

    /// Adds another part of the rows of the same cells.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        if self.cells.len() != other.cells.len() {
            return exec_err!("parts of different numbers of cells cannot be merged");
        }
        for (cell, other) in self.cells.iter_mut().zip(&other.cells) {
            let known = other.known.iter().copied().zip(other.sums.iter().copied());
            known
                .chain(other.arrived.iter().copied())
                .for_each(|(contributor, sum)| cell.add_sum(contributor, sum));
        }
        Ok(())
    }

    /// The figures of each cell.
    pub fn dominance(&mut self) -> Vec<Dominance> {
        self.cells.iter_mut().map(Contributors::dominance).collect()
    }
}

impl Cell for Contributors {
    fn add(&mut self, _value: Value<'_>) -> Result<()> {
        exec_err!("contributors takes two columns")
    }

    fn add_row(&mut self, row: &[Option<Value<'_>>]) -> Result<()> {
        if let Some((contributor, amount)) = amount_of(row)? {
            self.add_amount(contributor, amount);
        }
        Ok(())
    }

    fn merge(&mut self, state: &[u8]) -> Result<()> {
        self.merge_state(state)
    }

    fn encode(&mut self, out: &mut Vec<u8>) {
        self.fold();
        for (contributor, sum) in self.known.iter().zip(&self.sums) {
            out.extend_from_slice(&contributor.to_le_bytes());
            out.extend_from_slice(&sum.to_le_bytes());
        }
    }

    fn heap_bytes(&self) -> usize {
        self.known.capacity() * 4 + self.sums.capacity() * 16 + self.arrived.capacity() * 32
    }
}

/// The contributor of a row and the amount; `None` for a row that is left out.
fn amount_of(row: &[Option<Value<'_>>]) -> Result<Option<(u32, i64)>> {
    match row {
        [None, _] | [_, None] => Ok(None),
        [Some(Value::Whole(contributor)), Some(Value::Whole(amount))] => {
            match u32::try_from(*contributor) {
                Ok(contributor) => Ok(Some((contributor, *amount))),
                Err(_) => exec_err!("a contributor has a number from 0 to 2^32 - 1"),
            }
        }
        _ => exec_err!("contributors takes a number and a whole amount"),
    }
}

impl Finish for Contributors {
    const RESULT: InputType = InputType::Bytes;
    type Frame = ContributorFrame;
}

/// The contributors of a frame that slides, those with a sum of 0 included while a row of theirs is left.
#[derive(Debug, Default)]
pub(crate) struct ContributorFrame {
    sums: Tally<u32, i128>,
}

impl Frame<Contributors> for ContributorFrame {
    fn pass(&mut self, given: Given<'_>, way: Way) -> Result<()> {
        match given {
            Given::Value(_) => exec_err!("contributors takes two columns"),
            Given::Row(row) => match amount_of(row)? {
                Some((contributor, amount)) => self.sums.pass(contributor, i128::from(amount), way),
                None => Ok(()),
            },
            Given::State(state) => decode(state)?
                .try_for_each(|(contributor, sum)| self.sums.pass(contributor, sum, way)),
        }
    }

    fn cell(&self) -> Result<Contributors> {
        let entries = self.sums.iter();
        let (known, sums) = entries.map(|(number, _, sum)| (number, sum)).unzip();
        Ok(Contributors {
            known,
            sums,
            arrived: Vec::new(),
        })
    }

    fn heap_bytes(&self) -> usize {
        self.sums.heap_bytes()
    }
}

pub(crate) fn aggregates() -> Vec<AggregateUDF> {
    const ROW: &[InputType] = &[InputType::Whole, InputType::Whole];
    vec![
        CellAggregate::<Contributors>::function("contributors", Takes::Rows(ROW)),
        CellAggregate::<Contributors>::function("contributors_merge", Takes::States),
    ]
}

pub(crate) fn scalars() -> Vec<ScalarUDF> {
    const STATE: &[InputType] = &[InputType::Bytes];
    vec![
        PlainFunction::function(
            "contributors_count",
            STATE,
            Body::Whole(|values| figure(values, |figures| figures.count.into())),
        ),
        PlainFunction::function(
            "contributors_total",
            STATE,
            Body::Whole(|values| figure(values, |figures| figures.total)),
        ),
        PlainFunction::function(
            "contributors_largest",
            STATE,
            Body::Whole(|values| figure(values, |figures| figures.largest)),
        ),
        PlainFunction::function(
            "contributors_second",
            STATE,
            Body::Whole(|values| figure(values, |figures| figures.second)),
        ),
        PlainFunction::function(
            "contributors_top",
            &[InputType::Bytes, InputType::Whole],
            Body::Whole(top),
        ),
    ]
}

fn figure(values: &[Value<'_>], of: fn(Dominance) -> u128) -> Result<Option<i64>> {
    match values {
        [Value::Bytes(state)] => {
            let sums = decode(state)?.map(|(_, sum)| sum);
            whole(of(dominance_of(sums)))
        }
        _ => exec_err!("a figure of contributors takes the state of contributors"),
    }
}

/// The sum of the n largest contributions.
fn top(values: &[Value<'_>]) -> Result<Option<i64>> {
    let [Value::Bytes(state), Value::Whole(n)] = values else {
        return exec_err!("contributors_top takes the state of contributors and a number");
    };
    let Ok(n) = usize::try_from(*n) else {
        return exec_err!("contributors_top takes a number of contributors from 0");
    };
    let mut contributions: Vec<u128> = decode(state)?.map(|(_, sum)| sum.unsigned_abs()).collect();
    contributions.sort_unstable_by(|a, b| b.cmp(a));
    let largest = contributions.iter().take(n);
    whole(largest.fold(0, |sum, one| sum.saturating_add(*one)))
}

fn whole(figure: u128) -> Result<Option<i64>> {
    match i64::try_from(figure) {
        Ok(figure) => Ok(Some(figure)),
        Err(_) => exec_err!("the contributions to a cell are more than 2^63 - 1"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_aggregate, check_laws_of_rows, laws, whole_column};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn gathered(rows: &[(u32, i64)]) -> Vec<u8> {
        let rows: Vec<[Option<Value<'_>>; 2]> = rows
            .iter()
            .map(|(contributor, amount)| {
                [
                    Some(Value::Whole(i64::from(*contributor))),
                    Some(Value::Whole(*amount)),
                ]
            })
            .collect();
        check_laws_of_rows::<Contributors, 2>(&rows)
    }

    /// Count and contributions by size, from a plain map.
    fn naive(rows: &[(u32, i64)]) -> Vec<u128> {
        let mut sums: BTreeMap<u32, i128> = BTreeMap::new();
        for (contributor, amount) in rows {
            *sums.entry(*contributor).or_default() += i128::from(*amount);
        }
        let mut contributions: Vec<u128> = sums.values().map(|sum| sum.unsigned_abs()).collect();
        contributions.sort_unstable_by(|a, b| b.cmp(a));
        contributions
    }

    #[track_caller]
    fn check(rows: &[(u32, i64)], expected: [i64; 4]) {
        let state = gathered(rows);
        let of = |figure| {
            super::figure(&[Value::Bytes(&state)], figure)
                .unwrap()
                .unwrap()
        };
        assert_eq!(
            [
                of(|figures| figures.count.into()),
                of(|figures| figures.total),
                of(|figures| figures.largest),
                of(|figures| figures.second),
            ],
            expected
        );
    }

    #[test]
    fn figures_are_of_contributors_and_not_of_rows() {
        check(&[], [0, 0, 0, 0]);
        check(&[(7, 500)], [1, 500, 500, 0]);
        check(&[(7, 500), (9, 20), (7, 100), (4, 30)], [3, 650, 600, 30]);
        check(&[(1, 5), (2, 5), (3, 5)], [3, 15, 5, 5]);
    }

    #[test]
    fn a_credit_note_lowers_its_contributor_and_a_net_credit_counts_by_its_size() {
        check(&[(1, 100), (2, -99)], [2, 199, 100, 99]);
        check(&[(1, 100), (1, -99)], [1, 1, 1, 0]);
        check(&[(1, 100), (1, -100), (2, 3)], [2, 3, 3, 0]);
        check(&[(1, i64::MIN + 1)], [1, i64::MAX, i64::MAX, 0]);
    }

    #[test]
    fn figures_beyond_whole_numbers_are_an_error_and_not_a_number() {
        for rows in [
            vec![(1, i64::MAX), (1, 1)],
            vec![(1, i64::MAX), (2, 1)],
            vec![(1, i64::MIN)],
        ] {
            let state = gathered(&rows);
            assert!(figure(&[Value::Bytes(&state)], |figures| figures.total).is_err());
            assert!(top(&[Value::Bytes(&state), Value::Whole(2)]).is_err());
        }
        // They may come back into range, in any order.
        check(
            &[(1, i64::MAX), (1, 1), (1, -2)],
            [1, i64::MAX - 1, i64::MAX - 1, 0],
        );
    }

    #[test]
    fn nonsense_is_refused() {
        for contributor in [-1, i64::from(u32::MAX) + 1] {
            let row = [Some(Value::Whole(contributor)), Some(Value::Whole(1))];
            assert!(Contributors::default().add_row(&row).is_err());
        }
        let entry = |contributor: u32| {
            let mut bytes = contributor.to_le_bytes().to_vec();
            bytes.extend([0; 16]);
            bytes
        };
        for broken in [
            vec![0; 19],
            [entry(4), entry(4)].concat(),
            [entry(5), entry(4)].concat(),
        ] {
            assert!(Contributors::default().merge(&broken).is_err());
            assert!(figure(&[Value::Bytes(&broken)], |figures| figures.total).is_err());
        }
        assert!(top(&[Value::Bytes(&[]), Value::Whole(-1)]).is_err());
        let mut cells = ContributorCells::new(2);
        assert!(cells.add_rows(&[2], &[0], &[1]).is_err());
        assert!(cells.add_rows(&[0, 1], &[0], &[1]).is_err());
        assert!(cells.merge(&ContributorCells::new(3)).is_err());
    }

    proptest! {
        #![proptest_config(laws())]

        #[test]
        fn figures_equal_those_of_a_plain_map(
            rows in prop::collection::vec((0u32..60, -900i64..900), 0..400),
            n in 0usize..70,
        ) {
            let expected = naive(&rows);
            let total: u128 = expected.iter().sum();
            let at = |place: usize| expected.get(place).copied().unwrap_or_default() as i64;
            check(&rows, [expected.len() as i64, total as i64, at(0), at(1)]);
            let state = gathered(&rows);
            let largest: u128 = expected.iter().take(n).sum();
            prop_assert_eq!(
                top(&[Value::Bytes(&state), Value::Whole(n as i64)]).unwrap(),
                Some(largest as i64)
            );
        }

        #[test]
        fn cells_at_once_equal_cells_alone_in_any_number_of_parts(
            rows in prop::collection::vec((0u32..4, 0u32..50, -900i64..900), 0..400),
            parts in 1usize..5,
        ) {
            let mut merged = ContributorCells::new(4);
            for part in (0..parts).rev() {
                let rows: Vec<_> = rows.iter().skip(part).step_by(parts).collect();
                let mut own = ContributorCells::new(4);
                own.add_rows(
                    &rows.iter().map(|row| row.0).collect::<Vec<_>>(),
                    &rows.iter().map(|row| row.1).collect::<Vec<_>>(),
                    &rows.iter().map(|row| row.2).collect::<Vec<_>>(),
                )
                .unwrap();
                merged.merge(&own).unwrap();
            }
            for (cell, figures) in (0..).zip(merged.dominance()) {
                let own: Vec<_> = rows
                    .iter()
                    .filter(|row| row.0 == cell)
                    .map(|row| (row.1, row.2))
                    .collect();
                let expected = naive(&own);
                let at = |place: usize| expected.get(place).copied().unwrap_or_default();
                prop_assert_eq!(figures, Dominance {
                    count: expected.len() as u64,
                    total: expected.iter().sum(),
                    largest: at(0),
                    second: at(1),
                });
            }
        }

        #[test]
        fn the_aggregates_behave_in_groups(
            rows in prop::collection::vec(
                (0usize..4, prop::option::of(0i64..40), prop::option::of(-90i64..90), any::<bool>()),
                0..150,
            ),
        ) {
            let groups: Vec<usize> = rows.iter().map(|row| row.0).collect();
            let filter: Vec<bool> = rows.iter().map(|row| row.3).collect();
            let contributors = whole_column(rows.iter().map(|row| row.1));
            let amounts = whole_column(rows.iter().map(|row| row.2));
            let [gather, merge] = aggregates().try_into().unwrap();
            let states = check_aggregate(&gather, &[contributors, amounts], &groups, &filter);
            let places: Vec<usize> = (0..states.len()).map(|at| at % 2).collect();
            let keep: Vec<bool> = places.iter().map(|place| *place == 0).collect();
            check_aggregate(&merge, &[states], &places, &keep);
        }
    }
}
