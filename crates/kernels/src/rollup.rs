//! Stored cells merged into values: sums, distinct persons and histograms of every area, period and
//! member at once.
//!
//! A cell has a *place* (its base area and period) and *members* (one of each breakdown). A value has
//! a row (an area and a period) and a combination of members, some of them in total. Each place counts
//! in several rows, each tuple of members in several combinations, and a cell counts in every pair of
//! the two: value `(row, combination)` is the merge of all cells that count in it. Nothing of that
//! product is kept but what a state needs.
//!
//! - *Sum*: kept in 128 bits; must fit 64 bits in the end, or it is an error. Nulls count for nothing;
//!   a value without cells is 0.
//! - *Distinct*: members that are not numbers are numbered once ([`MemberNumbers`]); a value takes one mark for
//!   each member of each of its cells, and counts the marks that are new. A value of one cell is the
//!   size of its set. No set is united, so nothing is kept for each value but its count.
//! - *Histogram*: counts of days added; a value of one cell is that cell's own; without cells null.
//! - *Time*: c cells, v values that a cell counts in, m members in a set: sums O(c·v), sets and
//!   histograms O(c·v·m).
//! - *Memory*: 16 bytes a value for sums; 8 a value, 4 a cell and value (at most 64 MiB at a time), 4
//!   a member of a set, 4 a number that there may be, about 24 a distinct member that is no number, for
//!   distinct counts.
//! - *Laws*: the order of cells does not matter, and cells may be merged with others of their place
//!   and members before.
//!
//! What may not live here: what an area or a period is. To add a state: a method beside these.

use std::borrow::Borrow;
use std::sync::Arc;

use arrow::array::{Array, ArrayBuilder, BinaryArray, BinaryBuilder, Int64Array};
use arrow::buffer::{Buffer, OffsetBuffer};
use datafusion_common::{Result, exec_err};
use hashbrown::HashTable;

use crate::day_histogram::DayHistogram;
use crate::person_set::{State, different_lists, put_numbers};

/// Bytes of a member of a set.
const WIDTH: usize = 16;
/// Cells by value that are laid out at a time.
const LAID_OUT: usize = 16 << 20;

/// Lists of numbers, one after the other.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Lists {
    ends: Vec<usize>,
    items: Vec<u32>,
}

impl Lists {
    /// Adds a list.
    pub fn push(&mut self, items: impl IntoIterator<Item = u32>) {
        self.items.extend(items);
        self.ends.push(self.items.len());
    }

    /// Lists of these lengths, one after the other in `items`.
    pub(crate) fn of(lengths: impl Iterator<Item = usize>, items: Vec<u32>) -> Self {
        let ends = lengths.scan(0, |end, length| {
            *end += length;
            Some(*end)
        });
        Self {
            ends: ends.collect(),
            items,
        }
    }

    /// The list of a number; empty when there is none.
    pub fn get(&self, list: u32) -> &[u32] {
        let list = list as usize;
        let start = match list {
            0 => 0,
            _ => self.ends.get(list - 1).copied().unwrap_or_default(),
        };
        let end = self.ends.get(list).copied().unwrap_or_default();
        self.items.get(start..end).unwrap_or_default()
    }

    /// How many lists there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no list.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
}

/// Which values each cell counts in.
#[derive(Debug, Clone)]
pub struct CellTargets {
    /// By place, the rows that it counts in.
    places: Lists,
    /// By tuple of members, the combinations that it counts in.
    members: Lists,
    rows: usize,
    combinations: usize,
}

/// The cells of a component: place and tuple of members of each.
#[derive(Debug, Clone, Copy)]
pub struct CellKeys<'a> {
    /// Numbers of places.
    pub places: &'a [u32],
    /// Numbers of tuples.
    pub members: &'a [u32],
}

impl CellTargets {
    /// Rows of the result by place, combinations by tuple of members. No list names a row or
    /// combination twice.
    ///
    /// # Errors
    /// When a list names a row or a combination that there is not, or the values are too many.
    pub fn new(places: Lists, members: Lists, rows: usize, combinations: usize) -> Result<Self> {
        let within = |lists: &Lists, size: usize| lists.items.iter().all(|n| (*n as usize) < size);
        if !within(&places, rows) || !within(&members, combinations) {
            return exec_err!("a roll-up has a list that points outside its result");
        }
        match rows.checked_mul(combinations) {
            Some(values) if u32::try_from(values).is_ok() => Ok(Self {
                places,
                members,
                rows,
                combinations,
            }),
            _ => exec_err!("a roll-up to {rows} rows by {combinations} members is too large"),
        }
    }

    /// The number of values: value `row · combinations + combination`.
    pub fn values(&self) -> usize {
        self.rows * self.combinations
    }

    /// Calls with every cell and value it counts in.
    fn each(&self, cells: CellKeys<'_>, mut with: impl FnMut(usize, usize)) {
        for (cell, (place, members)) in cells.places.iter().zip(cells.members).enumerate() {
            for row in self.places.get(*place) {
                let first = *row as usize * self.combinations;
                for combination in self.members.get(*members) {
                    with(cell, first + *combination as usize);
                }
            }
        }
    }

    /// Calls with every value that has cells, in order, and its cells.
    fn by_value(
        &self,
        cells: CellKeys<'_>,
        counts: impl Fn(usize) -> bool,
        mut with: impl FnMut(usize, &[u32]) -> Result<()>,
    ) -> Result<()> {
        let mut sizes = vec![0u32; self.values()];
        self.each(cells, |cell, value| {
            if let Some(size) = sizes.get_mut(value)
                && counts(cell)
            {
                *size += 1;
            }
        });
        let mut start = 0;
        let mut laid: Vec<u32> = Vec::new();
        let mut next: Vec<usize> = Vec::new();
        while start < sizes.len() {
            // As many values as fit, at least one.
            next.clear();
            let mut total = 0;
            for size in sizes.iter().skip(start) {
                if total > 0 && total + *size as usize > LAID_OUT {
                    break;
                }
                next.push(total);
                total += *size as usize;
            }
            let end = start + next.len();
            laid.clear();
            laid.resize(total, 0);
            self.each(cells, |cell, value| {
                if value < start || value >= end || !counts(cell) {
                    return;
                }
                if let Some(next) = next.get_mut(value - start)
                    && let Some(place) = laid.get_mut(*next)
                {
                    *place = cell as u32;
                    *next += 1;
                }
            });
            let mut first = 0;
            for (value, end) in (start..end).zip(&next) {
                if let Some(cells) = laid.get(first..*end).filter(|cells| !cells.is_empty()) {
                    with(value, cells)?;
                }
                first = *end;
            }
            start = end;
        }
        Ok(())
    }

    /// The sum of amounts in each value.
    ///
    /// # Errors
    /// When a sum does not fit 64 bits, or there are not as many amounts as cells.
    pub fn sums(&self, cells: CellKeys<'_>, amounts: &Int64Array) -> Result<Int64Array> {
        same_length(cells, amounts.len())?;
        let mut sums = vec![0i128; self.values()];
        self.each(cells, |cell, value| {
            if let Some(sum) = sums.get_mut(value)
                && amounts.is_valid(cell)
            {
                *sum += i128::from(amounts.value(cell));
            }
        });
        let sums = sums.into_iter().map(|sum| match i64::try_from(sum) {
            Ok(sum) => Ok(sum),
            Err(_) => exec_err!("a sum does not fit in 64 bits"),
        });
        Ok(Int64Array::from(sums.collect::<Result<Vec<_>>>()?))
    }

    /// The number of distinct members in each value.
    ///
    /// # Errors
    /// When there are not as many sets as cells.
    pub fn distinct(&self, cells: CellKeys<'_>, sets: &MemberNumbers) -> Result<Int64Array> {
        same_length(cells, sets.sets.len())?;
        let mut found = vec![0i64; self.values()];
        let mut marks = vec![0u32; sets.names.bound()];
        let mut mark = 0u32;
        self.by_value(
            cells,
            |cell| !sets.sets.get(cell as u32).is_empty(),
            |value, cells| {
                let count = match cells {
                    [one] => sets.sets.get(*one).len(),
                    several => {
                        mark += 1;
                        let mut new = 0;
                        for cell in several {
                            for member in sets.sets.get(*cell) {
                                if let Some(last) = marks.get_mut(*member as usize) {
                                    new += usize::from(*last != mark);
                                    *last = mark;
                                }
                            }
                        }
                        new
                    }
                };
                if let Some(found) = found.get_mut(value) {
                    *found = i64::try_from(count).unwrap_or(i64::MAX);
                }
                Ok(())
            },
        )?;
        Ok(Int64Array::from(found))
    }

    /// The histogram of each value, null without cells.
    ///
    /// # Errors
    /// When a state is not one, counts do not fit, or there are not as many states as cells.
    pub fn histograms(&self, cells: CellKeys<'_>, states: &BinaryArray) -> Result<BinaryArray> {
        same_length(cells, states.len())?;
        let mut built = BinaryBuilder::with_capacity(self.values(), states.value_data().len());
        self.by_value(
            cells,
            |cell| states.is_valid(cell),
            |value, cells| {
                while built.len() < value {
                    built.append_null();
                }
                match cells {
                    [one] => built.append_value(states.value(*one as usize)),
                    several => {
                        let mut merged = DayHistogram::default();
                        for cell in several {
                            merged.merge_state(states.value(*cell as usize))?;
                        }
                        built.append_value(merged.state());
                    }
                }
                Ok(())
            },
        )?;
        while built.len() < self.values() {
            built.append_null();
        }
        Ok(built.finish())
    }
}

fn same_length(cells: CellKeys<'_>, states: usize) -> Result<()> {
    if cells.places.len() == states && cells.members.len() == states {
        Ok(())
    } else {
        exec_err!("a roll-up does not have a state for each cell")
    }
}

/// Sets whose members are small numbers, the same in all of them.
#[derive(Debug, Default)]
pub struct MemberNumbers {
    sets: Lists,
    names: MemberNames,
}

/// What the numbers of members stand for.
#[derive(Debug, Clone)]
pub(crate) enum MemberNames {
    /// The members themselves, by number.
    Known(Arc<Vec<u128>>),
    /// Members of a list that is kept elsewhere.
    OfList {
        /// The id of the list.
        list: u64,
        /// No number is as large as this.
        bound: usize,
    },
}

impl Default for MemberNames {
    fn default() -> Self {
        MemberNames::Known(Arc::default())
    }
}

impl MemberNames {
    /// No number is as large as this.
    pub(crate) fn bound(&self) -> usize {
        match self {
            MemberNames::Known(members) => members.len(),
            MemberNames::OfList { bound, .. } => *bound,
        }
    }
}

impl MemberNumbers {
    /// Takes sets apart, as `person_set` and [`MemberNumbers::states`] give them; a null is an empty
    /// set. Members that are not numbers get some.
    ///
    /// # Errors
    /// When a state is not a set, sets are of different lists, or members are too many.
    pub fn of(sets: &BinaryArray) -> Result<Self> {
        Self::of_parts([Ok(sets)])
    }

    /// The same of sets that come in parts, those of the first before those of the next.
    ///
    /// # Errors
    /// As [`MemberNumbers::of`], and when a part is an error.
    pub fn of_parts<Sets: Borrow<BinaryArray>>(
        parts: impl IntoIterator<Item = Result<Sets>>,
    ) -> Result<Self> {
        let mut numbered = Lists::default();
        // The numbers of members by their last bytes, which are as good as random.
        let mut table: HashTable<u32> = HashTable::new();
        let mut members: Vec<u128> = Vec::new();
        let mut of_list: Option<u64> = None;
        let mut highest = 0;
        for sets in parts {
            let sets = sets?;
            let sets = sets.borrow();
            numbered.ends.reserve_exact(sets.len());
            numbered.items.reserve_exact(entries_of(sets));
            for set in sets {
                let own = match State::of(set.unwrap_or_default())? {
                    State::Pseudonyms(own) => own,
                    State::Numbers(numbers) => {
                        if *of_list.get_or_insert(numbers.list) != numbers.list {
                            return different_lists();
                        }
                        numbers.each(|number| {
                            highest = number.max(highest);
                            numbered.items.push(number);
                        })?;
                        &[]
                    }
                };
                for member in own {
                    let member = u128::from_be_bytes(*member);
                    let is = |number: &u32| members.get(*number as usize) == Some(&member);
                    let number = match table.find(member as u64, is) {
                        Some(number) => *number,
                        None => {
                            let Ok(number) = u32::try_from(members.len()) else {
                                return exec_err!("a roll-up has too many distinct members");
                            };
                            members.push(member);
                            table.insert_unique(member as u64, number, |number| {
                                members
                                    .get(*number as usize)
                                    .map_or(0, |member| *member as u64)
                            });
                            number
                        }
                    };
                    numbered.items.push(number);
                }
                numbered.ends.push(numbered.items.len());
            }
        }
        let names = match of_list {
            None => MemberNames::Known(Arc::new(members)),
            Some(_) if !members.is_empty() => return different_lists(),
            Some(list) => MemberNames::OfList {
                list,
                bound: highest as usize + 1,
            },
        };
        Ok(Self {
            sets: numbered,
            names,
        })
    }

    /// Sets of numbers, each in the order in which its members are written.
    pub(crate) fn of_numbers(sets: Lists, names: MemberNames) -> Self {
        Self { sets, names }
    }

    /// How many sets there are.
    pub fn len(&self) -> usize {
        self.sets.len()
    }

    /// Members of all sets, each as often as it is in one.
    pub fn entries(&self) -> usize {
        self.sets.items.len()
    }

    /// Whether there are no sets.
    pub fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }

    /// Some of the sets, by number.
    pub fn chosen(&self, sets: impl Iterator<Item = u32>) -> Self {
        let mut chosen = Lists::default();
        sets.for_each(|set| chosen.push(self.sets.get(set).iter().copied()));
        Self::of_numbers(chosen, self.names.clone())
    }

    /// The sets as `person_set` gives them, in this order of their numbers. Members of a list that is
    /// kept elsewhere are written as their numbers.
    ///
    /// # Errors
    /// When they do not fit one column (2 GiB).
    pub fn states(&self, order: impl Iterator<Item = u32> + Clone) -> Result<BinaryArray> {
        let lists = order.map(|set| self.sets.get(set));
        let total: usize = lists.clone().map(<[u32]>::len).sum();
        let mut bytes: Vec<u8> = Vec::new();
        let mut ends: Vec<usize> = vec![0];
        match &self.names {
            MemberNames::Known(members) => {
                bytes.reserve(total * WIDTH);
                for list in lists {
                    for member in list {
                        let member = members.get(*member as usize).copied();
                        bytes.extend_from_slice(&member.unwrap_or_default().to_be_bytes());
                    }
                    ends.push(bytes.len());
                }
            }
            MemberNames::OfList { list: of, .. } => {
                bytes.reserve(total * 2);
                for list in lists {
                    put_numbers(*of, list, &mut bytes);
                    ends.push(bytes.len());
                }
            }
        }
        let ends = ends.into_iter().map(i32::try_from);
        let Ok(ends) = ends.collect::<Result<Vec<i32>, _>>() else {
            return exec_err!("the sets of one component are beyond 2 GiB");
        };
        let offsets = OffsetBuffer::new(ends.into());
        Ok(BinaryArray::new(offsets, Buffer::from_vec(bytes), None))
    }

    /// Bytes that the sets take. Names of members that several share are counted with each, but not
    /// more of them than it has entries.
    pub fn size(&self) -> usize {
        let names = match &self.names {
            MemberNames::Known(members) => members.len().min(self.entries()) * WIDTH,
            MemberNames::OfList { .. } => 0,
        };
        self.sets.ends.capacity() * size_of::<usize>() + self.sets.items.capacity() * 4 + names
    }

    /// Bytes that taking these sets apart may take at most.
    pub fn heap_bytes(sets: &BinaryArray) -> usize {
        let pseudonyms = match sets.iter().flatten().find(|set| !set.is_empty()) {
            Some(set) if set.len().is_multiple_of(WIDTH) => sets.value_data().len() / WIDTH,
            _ => 0,
        };
        entries_of(sets) * 4 + pseudonyms.saturating_mul(28)
    }
}

/// Members of all sets, each as often as it is in one; of what is no set, none.
fn entries_of(sets: &BinaryArray) -> usize {
    let counts = sets.iter().flatten();
    let counts = counts.map(|set| State::of(set).map_or(0, |state| state.count()));
    counts.sum()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::testing::numbers;

    const PLACES: u32 = 12;
    const TUPLES: u32 = 5;
    const ROWS: usize = 9;
    const COMBINATIONS: usize = 4;

    fn some(draws: &mut impl Iterator<Item = u64>, below: usize) -> Vec<u32> {
        let mut list: Vec<u32> = (0..below as u32)
            .filter(|_| draws.next() > Some(5))
            .collect();
        list.reverse();
        list
    }

    fn targets() -> CellTargets {
        let mut draws = numbers(400, 10);
        let (mut places, mut members) = (Lists::default(), Lists::default());
        (0..PLACES).for_each(|_| places.push(some(&mut draws, ROWS)));
        (0..TUPLES).for_each(|_| members.push(some(&mut draws, COMBINATIONS)));
        CellTargets::new(places, members, ROWS, COMBINATIONS).unwrap()
    }

    struct Made {
        places: Vec<u32>,
        members: Vec<u32>,
        amounts: Int64Array,
        sets: BinaryArray,
        states: BinaryArray,
    }

    fn made(cells: usize) -> Made {
        let mut draws = numbers(cells * 40 + 1, 1_000);
        let mut draw = |below: u64| draws.next().unwrap_or(0) % below;
        let mut made = (vec![], vec![], vec![], vec![], vec![]);
        for _ in 0..cells {
            made.0.push(draw(u64::from(PLACES)) as u32);
            made.1.push(draw(u64::from(TUPLES)) as u32);
            made.2.push((draw(5) > 0).then(|| draw(900) as i64 - 400));
            let own: BTreeSet<u8> = (0..draw(6)).map(|_| draw(40) as u8).collect();
            let set = own.iter().flat_map(|person| [*person; WIDTH]).collect();
            made.3.push((draw(7) > 0).then_some(set));
            let mut histogram = DayHistogram::default();
            (0..draw(5)).for_each(|_| histogram.add_times(draw(20) as i32, 2).unwrap());
            made.4.push((draw(7) > 0).then(|| histogram.state()));
        }
        let bytes = |states: &[Option<Vec<u8>>]| {
            BinaryArray::from_iter(states.iter().map(|state| state.as_deref()))
        };
        Made {
            amounts: Int64Array::from(made.2),
            sets: bytes(&made.3),
            states: bytes(&made.4),
            places: made.0,
            members: made.1,
        }
    }

    /// Every value with its cells, by looking at every pair of value and cell.
    fn naive(targets: &CellTargets, made: &Made) -> BTreeMap<usize, Vec<usize>> {
        let mut cells = BTreeMap::new();
        for row in 0..ROWS {
            for combination in 0..COMBINATIONS {
                let own = (0..made.places.len()).filter(|cell| {
                    targets
                        .places
                        .get(made.places[*cell])
                        .contains(&(row as u32))
                        && targets
                            .members
                            .get(made.members[*cell])
                            .contains(&(combination as u32))
                });
                cells.insert(row * COMBINATIONS + combination, own.collect());
            }
        }
        cells
    }

    #[test]
    fn every_value_is_the_merge_of_its_cells() {
        for cells in [0, 1, 7, 300] {
            let (targets, made) = (targets(), made(cells));
            let keys = CellKeys {
                places: &made.places,
                members: &made.members,
            };
            let sums = targets.sums(keys, &made.amounts).unwrap();
            let numbered = MemberNumbers::of(&made.sets).unwrap();
            let distinct = targets.distinct(keys, &numbered).unwrap();
            let histograms = targets.histograms(keys, &made.states).unwrap();
            for (value, own) in naive(&targets, &made) {
                let sum: i64 = own
                    .iter()
                    .filter(|cell| made.amounts.is_valid(**cell))
                    .map(|cell| made.amounts.value(*cell))
                    .sum();
                assert_eq!(sums.value(value), sum, "{cells} cells, value {value}");
                let persons: BTreeSet<&[u8]> = own
                    .iter()
                    .filter(|cell| made.sets.is_valid(**cell))
                    .flat_map(|cell| made.sets.value(*cell).chunks(WIDTH))
                    .collect();
                assert_eq!(distinct.value(value), persons.len() as i64);
                let mut merged = None::<DayHistogram>;
                for cell in own.iter().filter(|cell| made.states.is_valid(**cell)) {
                    let state = made.states.value(*cell);
                    merged.get_or_insert_default().merge_state(state).unwrap();
                }
                let found = histograms.is_valid(value).then(|| histograms.value(value));
                assert_eq!(
                    found.map(<[u8]>::to_vec),
                    merged.map(|merged| merged.state())
                );
            }
        }
    }

    #[test]
    fn the_order_of_cells_does_not_matter() {
        let (targets, made) = (targets(), made(200));
        let order: Vec<usize> = (0..200).rev().collect();
        let turned = |numbers: &[u32]| order.iter().map(|cell| numbers[*cell]).collect::<Vec<_>>();
        let (places, members) = (turned(&made.places), turned(&made.members));
        let own = CellKeys {
            places: &made.places,
            members: &made.members,
        };
        let other = CellKeys {
            places: &places,
            members: &members,
        };
        let indices = arrow::array::UInt32Array::from_iter_values(order.iter().map(|n| *n as u32));
        let take = |array: &dyn Array| arrow::compute::take(array, &indices, None).unwrap();
        let amounts = take(&made.amounts);
        let amounts = amounts.as_any().downcast_ref::<Int64Array>().unwrap();
        assert_eq!(
            targets.sums(own, &made.amounts).unwrap(),
            targets.sums(other, amounts).unwrap()
        );
        let sets = take(&made.sets);
        let sets = sets.as_any().downcast_ref::<BinaryArray>().unwrap();
        assert_eq!(
            targets
                .distinct(own, &MemberNumbers::of(&made.sets).unwrap())
                .unwrap(),
            targets
                .distinct(other, &MemberNumbers::of(sets).unwrap())
                .unwrap()
        );
        let states = take(&made.states);
        let states = states.as_any().downcast_ref::<BinaryArray>().unwrap();
        assert_eq!(
            targets.histograms(own, &made.states).unwrap(),
            targets.histograms(other, states).unwrap()
        );
    }

    #[test]
    fn numbered_sets_are_the_same_sets() {
        let made = made(50);
        let numbered = MemberNumbers::of(&made.sets).unwrap();
        let states = numbered.states((0..50).rev()).unwrap();
        for set in 0..50 {
            let known = made.sets.is_valid(set).then(|| made.sets.value(set));
            assert_eq!(states.value(49 - set), known.unwrap_or_default());
        }
        assert_eq!(numbered.entries() * WIDTH, made.sets.value_data().len());
        let some = numbered.chosen([7, 3, 7].into_iter());
        let same = numbered.states([7, 3, 7].into_iter()).unwrap();
        assert_eq!(some.states(0..3).unwrap(), same);
    }

    #[test]
    fn sets_of_a_list_count_as_those_of_its_members() {
        let (targets, made) = (targets(), made(120));
        let keys = CellKeys {
            places: &made.places,
            members: &made.members,
        };
        let known = MemberNumbers::of(&made.sets).unwrap();
        let mut sorted = Lists::default();
        for set in 0..120 {
            let mut numbers: Vec<u32> = known.sets.get(set).iter().map(|n| n * 3 + 5).collect();
            numbers.sort_unstable();
            sorted.push(numbers);
        }
        let names = MemberNames::OfList {
            list: 9,
            bound: 3 * known.names.bound() + 5,
        };
        let of_list = MemberNumbers::of_numbers(sorted, names);
        let states = of_list.states(0..120).unwrap();
        let back = MemberNumbers::of(&states).unwrap();
        assert_eq!(back.sets, of_list.sets);
        assert_eq!(back.states(0..120).unwrap(), states);
        assert!(MemberNumbers::heap_bytes(&states) == of_list.entries() * 4);
        let counted = targets.distinct(keys, &known).unwrap();
        assert_eq!(targets.distinct(keys, &of_list).unwrap(), counted);
        assert_eq!(targets.distinct(keys, &back).unwrap(), counted);
    }

    #[test]
    fn sets_of_different_lists_are_an_error() {
        let state = |list: u64| {
            let mut state = Vec::new();
            put_numbers(list, &[1, 2], &mut state);
            state
        };
        let pseudonym = vec![3u8; WIDTH];
        for (a, b) in [
            (state(1), state(2)),
            (state(1), pseudonym.clone()),
            (pseudonym, state(1)),
        ] {
            let sets = BinaryArray::from_iter_values([&a[..], &[], &b[..]]);
            assert!(MemberNumbers::of(&sets).is_err());
            let parts = (0..3).map(|set| Ok(sets.slice(set, 1)));
            assert!(MemberNumbers::of_parts(parts).is_err());
        }
    }

    #[test]
    fn sets_in_parts_are_the_sets_at_once() {
        let pseudonyms = made(60).sets;
        let known = MemberNumbers::of(&pseudonyms).unwrap();
        let numbers = (0..60).map(|set| {
            let mut own: Vec<u32> = known.sets.get(set).to_vec();
            own.sort_unstable();
            let mut state = Vec::new();
            put_numbers(9, &own, &mut state);
            state
        });
        let numbers = BinaryArray::from_iter_values(numbers);
        let one_is_filled = (0..60).map(|set| match set {
            30..40 => pseudonyms.value(set),
            _ => &[],
        });
        let one_is_filled = BinaryArray::from_iter_values(one_is_filled);
        for sets in [&pseudonyms, &numbers, &one_is_filled] {
            let whole = MemberNumbers::of(sets).unwrap();
            for ends in [
                &[60][..],
                &[0, 60],
                &[1, 1, 59, 60],
                &[30, 40, 60],
                &[60, 60],
            ] {
                let starts = std::iter::once(0).chain(ends.iter().copied());
                let parts = starts
                    .zip(ends)
                    .map(|(start, end)| Ok(sets.slice(start, end - start)));
                let found = MemberNumbers::of_parts(parts).unwrap();
                assert_eq!(found.sets, whole.sets, "{ends:?}");
                let states = |sets: &MemberNumbers| sets.states(0..60).unwrap();
                assert_eq!(states(&found), states(&whole), "{ends:?}");
                assert_eq!(found.names.bound(), whole.names.bound(), "{ends:?}");
            }
        }
        let none: [Result<BinaryArray>; 0] = [];
        assert!(MemberNumbers::of_parts(none).unwrap().is_empty());
        let broken = exec_err!("a part cannot be read");
        assert!(MemberNumbers::of_parts([Ok(pseudonyms), broken]).is_err());
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let lists = |items: &[u32]| {
            let mut lists = Lists::default();
            lists.push(items.iter().copied());
            lists
        };
        assert!(CellTargets::new(lists(&[3]), lists(&[0]), 3, 1).is_err());
        assert!(CellTargets::new(lists(&[0]), lists(&[1]), 3, 1).is_err());
        assert!(CellTargets::new(lists(&[0]), lists(&[0]), 1 << 20, 1 << 20).is_err());
        let targets = CellTargets::new(lists(&[0]), lists(&[0]), 1, 1).unwrap();
        let keys = CellKeys {
            places: &[0, 0],
            members: &[0, 0],
        };
        let sum = |amounts: Vec<i64>| targets.sums(keys, &Int64Array::from(amounts));
        assert!(sum(vec![i64::MAX, 1]).is_err());
        assert!(sum(vec![1]).is_err());
        assert_eq!(sum(vec![i64::MAX, -1]).unwrap().value(0), i64::MAX - 1);
        let broken = BinaryArray::from_vec(vec![&[1, 2, 3]]);
        assert!(MemberNumbers::of(&broken).is_err());
    }
}
