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
//!   size of its set. No set is united, so nothing is kept for each value but its count. Sets of numbers
//!   stay as they are stored, and are counted range by range: the members of all sets that lie in a range
//!   are taken out, and what each range gives is added.
//! - *Histogram*: counts of days added; a value of one cell is that cell's own; without cells null.
//! - *Time*: c cells, v values that a cell counts in, m members in a set: sums O(c·v), sets and
//!   histograms O(c·v·m).
//! - *Memory*: 16 bytes a value for sums. For distinct counts 8 a value and 4 a cell and value (at most 64
//!   MiB at a time); of sets of numbers their stored form, 32 a cell, and for about four million members at
//!   a time 4 a member and 4 a number that there may be, where 8 a value and 32 a cell are for each core; of
//!   others 4 a member of a set, and about 28 a distinct member.
//! - *Laws*: the order of cells does not matter, and cells may be merged with others of their place
//!   and members before.
//!
//! What may not live here: what an area or a period is. To add a state: a method beside these, or a file
//! of its own, as that of days of persons (`rollup/care_days.rs`).

mod care_days;

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;
use std::thread::ScopedJoinHandle;

use arrow::array::{Array, ArrayBuilder, BinaryArray, BinaryBuilder, Int64Array};
use arrow::buffer::{Buffer, OffsetBuffer};
use datafusion_common::{Result, exec_err};
use hashbrown::HashTable;

use crate::day_histogram::DayHistogram;
use crate::person_set::{Gaps, Numbers, State, different_lists, put_numbers, put_set};

pub use self::care_days::CareDayCounts;

/// Bytes of a member of a set.
const WIDTH: usize = 16;
/// Cells by value that are laid out at a time.
const LAID_OUT: usize = 16 << 20;
/// Members of sets that are taken out of their stored form at a time.
const TAKEN_OUT: usize = 4 << 20;
/// Numbers that are marked at a time, as long as each set has more than a few of them: their marks stay near.
const MARKED: u64 = 1 << 18;
const FEW_MEMBERS: usize = 8;
/// Another lane begins with so many members.
const LANE_MEMBERS: usize = 1 << 18;

/// Lists of numbers, one after the other.
#[derive(Debug, Default, Clone, PartialEq, Eq, Hash)]
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

/// Which values each cell counts in. Equal hashes mean equal counts of equal cells.
#[derive(Debug, Clone, Hash)]
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
        laid_out: usize,
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
                if total > 0 && total + *size as usize > laid_out {
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

    /// The number of distinct members in each value, counted on up to so many cores where there is enough
    /// to count.
    ///
    /// # Errors
    /// When there are not as many sets as cells.
    pub fn distinct(
        &self,
        cells: CellKeys<'_>,
        sets: &MemberNumbers,
        lanes: usize,
    ) -> Result<Int64Array> {
        same_length(cells, sets.len())?;
        let found = match &sets.0 {
            Sets::Named { sets, members } => {
                let mut found = vec![0i64; self.values()];
                self.count(cells, sets, members.len(), LAID_OUT, &mut found)?;
                found
            }
            Sets::Numbers(sets) => {
                let lanes = lanes.min(sets.entries / LANE_MEMBERS).max(1);
                self.count_numbers(cells, sets, sets.count_of_ranges(lanes), lanes)?
            }
        };
        Ok(Int64Array::from(found))
    }

    /// The same of sets of numbers, in so many ranges of these: each lane takes some that lie together.
    fn count_numbers(
        &self,
        cells: CellKeys<'_>,
        sets: &StoredSets,
        ranges: usize,
        lanes: usize,
    ) -> Result<Vec<i64>> {
        let of_lane = ranges.div_ceil(lanes.max(1)).max(1);
        let all = sets.ranges(ranges);
        let count = |first: usize| -> Result<Vec<i64>> {
            let mut found = vec![0i64; self.values()];
            let mut ranges = all.clone().only(first..first + of_lane);
            let width = usize::try_from(ranges.width).unwrap_or(usize::MAX);
            while let Some(own) = ranges.next() {
                self.count(cells, own, width, LAID_OUT / lanes, &mut found)?;
            }
            Ok(found)
        };
        let others = (of_lane..ranges).step_by(of_lane);
        in_lanes(others, count, |all, own| *all = all.saturating_add(own))
    }

    /// Adds the number of distinct members, which are below `bound`, to each value.
    fn count(
        &self,
        cells: CellKeys<'_>,
        sets: &Lists,
        bound: usize,
        laid_out: usize,
        found: &mut [i64],
    ) -> Result<()> {
        let mut marks = vec![0u32; bound];
        let mut mark = 0u32;
        self.by_value(
            cells,
            laid_out,
            |cell| !sets.get(cell as u32).is_empty(),
            |value, cells| {
                let count = match cells {
                    [one] => sets.get(*one).len(),
                    several => {
                        mark += 1;
                        let mut new = 0;
                        for cell in several {
                            for member in sets.get(*cell) {
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
                    *found = found.saturating_add(i64::try_from(count).unwrap_or(i64::MAX));
                }
                Ok(())
            },
        )
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
            LAID_OUT,
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

/// What lane 0 counts, and `others`, each on a core of its own; what they have found is added by value.
fn in_lanes<T: Send>(
    others: impl Iterator<Item = usize>,
    count: impl Fn(usize) -> Result<Vec<T>> + Sync,
    add: impl Fn(&mut T, T),
) -> Result<Vec<T>> {
    let count = &count;
    std::thread::scope(|scope| {
        let others = others.map(|lane| {
            let thread = std::thread::Builder::new();
            (lane, thread.spawn_scoped(scope, move || count(lane)))
        });
        let others: Vec<_> = others.collect();
        let mut found = count(0)?;
        for (lane, other) in others {
            let other = match other.map(ScopedJoinHandle::join) {
                Ok(Ok(own)) => own?,
                Ok(Err(_)) => return exec_err!("a part of a count died"),
                // There was no thread to be had.
                Err(_) => count(lane)?,
            };
            for (all, own) in found.iter_mut().zip(other) {
                add(all, own);
            }
        }
        Ok(found)
    })
}

fn same_length(cells: CellKeys<'_>, states: usize) -> Result<()> {
    if cells.places.len() == states && cells.members.len() == states {
        Ok(())
    } else {
        exec_err!("a roll-up does not have a state for each cell")
    }
}

/// Sets whose members are small numbers, the same in all of them. Its hash is one of all sets.
#[derive(Debug, Default, Hash)]
pub struct MemberNumbers(Sets);

#[derive(Debug, Hash)]
enum Sets {
    /// Members have numbers only here.
    Named {
        sets: Lists,
        /// By number.
        members: Arc<Vec<u128>>,
    },
    /// Members are numbers of a list that is kept elsewhere.
    Numbers(StoredSets),
}

/// Sets of numbers as they are stored, one after the other.
#[derive(Debug)]
struct StoredSets {
    ends: Vec<usize>,
    states: Buffer,
    /// Members of all sets.
    entries: usize,
    /// No number is as large as this.
    bound: u64,
}

impl Hash for StoredSets {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        // What the others are, these tell.
        self.ends.hash(hasher);
        self.states.as_slice().hash(hasher);
    }
}

impl Default for Sets {
    fn default() -> Self {
        Sets::Named {
            sets: Lists::default(),
            members: Arc::default(),
        }
    }
}

/// Sets of numbers of one list, being put together.
#[derive(Debug)]
pub(crate) struct NumberSets {
    list: u64,
    ends: Vec<usize>,
    states: Vec<u8>,
    entries: usize,
    bound: u64,
}

impl NumberSets {
    pub(crate) fn of_list(list: u64) -> Self {
        Self {
            list,
            ends: Vec::new(),
            states: Vec::new(),
            entries: 0,
            bound: 0,
        }
    }

    /// Adds a set of numbers in order, each once.
    pub(crate) fn push(&mut self, numbers: &[u32]) {
        put_numbers(self.list, numbers, &mut self.states);
        self.pushed(numbers.len(), numbers.last().copied());
    }

    /// Adds a set of so many numbers up to `last`, by the gaps between them.
    pub(crate) fn push_gaps(&mut self, count: u32, gaps: [&[u8]; 2], last: Option<u32>) {
        put_set(self.list, count as usize, &mut self.states, |out| {
            gaps.iter().for_each(|gaps| out.extend_from_slice(gaps));
        });
        self.pushed(count as usize, last);
    }

    fn pushed(&mut self, count: usize, last: Option<u32>) {
        self.ends.push(self.states.len());
        self.entries += count;
        let bound = last.map_or(0, |last| u64::from(last) + 1);
        self.bound = self.bound.max(bound);
    }

    /// Room for so many bytes more, and some to spare where there are many.
    pub(crate) fn reserve(&mut self, bytes: usize) {
        if self.states.capacity() - self.states.len() < bytes {
            self.states.reserve_exact(bytes.max(self.states.len() / 4));
        }
    }
}

impl From<NumberSets> for MemberNumbers {
    fn from(mut sets: NumberSets) -> Self {
        sets.ends.shrink_to_fit();
        sets.states.shrink_to_fit();
        Self(Sets::Numbers(StoredSets {
            ends: sets.ends,
            states: Buffer::from_vec(sets.states),
            entries: sets.entries,
            bound: sets.bound,
        }))
    }
}

impl StoredSets {
    fn get(&self, set: usize) -> &[u8] {
        let end = self.ends.get(set).copied().unwrap_or_default();
        self.states.get(self.start(set)..end).unwrap_or_default()
    }

    fn start(&self, set: usize) -> usize {
        let before = set.checked_sub(1).and_then(|before| self.ends.get(before));
        before.copied().unwrap_or_default()
    }

    /// In how many ranges the numbers are taken by so many lanes: as few members in each as may be taken
    /// out, and as few numbers as make marking quick.
    fn count_of_ranges(&self, lanes: usize) -> usize {
        let numbers = self.bound.saturating_sub(self.lowest());
        let marked = usize::try_from(numbers.div_ceil(MARKED)).unwrap_or(usize::MAX);
        let sets = self.ends.len().max(1);
        let worth = self.entries / sets.saturating_mul(FEW_MEMBERS);
        let least = self.entries.div_ceil((TAKEN_OUT / lanes).max(1));
        least.max(marked.min(worth)).max(1).next_multiple_of(lanes)
    }

    fn cursors(&self) -> impl Iterator<Item = Cursor<'_>> {
        (0..self.ends.len()).map(|set| match State::of(self.get(set)) {
            Ok(State::Numbers(numbers)) => Cursor::of(&numbers),
            _ => Cursor::default(),
        })
    }

    /// The least number; zero where there is none.
    fn lowest(&self) -> u64 {
        let lowest = self.cursors().filter_map(|cursor| cursor.peek()).min();
        lowest.map_or(0, u64::from)
    }

    /// The sets in so many ranges of their numbers, or fewer.
    fn ranges(&self, ranges: usize) -> Ranges<'_> {
        let start = self.lowest();
        let width = self.bound.saturating_sub(start);
        Ranges {
            sets: self.cursors().collect(),
            start,
            bound: self.bound,
            width: width.div_ceil(ranges.max(1) as u64).max(1),
            taken: Lists::default(),
        }
    }
}

/// How far a set has been read.
#[derive(Debug, Clone, Copy)]
struct Cursor<'a> {
    gaps: Gaps<'a>,
    left: u32,
}

impl Default for Cursor<'_> {
    fn default() -> Self {
        Self {
            gaps: Gaps::new(&[]),
            left: 0,
        }
    }
}

impl<'a> Cursor<'a> {
    fn of(numbers: &Numbers<'a>) -> Self {
        Self {
            gaps: numbers.gaps(),
            left: u32::try_from(numbers.count).unwrap_or(u32::MAX),
        }
    }

    fn peek(&self) -> Option<u32> {
        let mut gaps = self.gaps;
        gaps.next().filter(|_| self.left > 0)
    }

    /// The next number, if it is below `end`.
    fn next_below(&mut self, end: u64) -> Option<u32> {
        let mut gaps = self.gaps;
        let number = gaps
            .next()
            .filter(|number| self.left > 0 && u64::from(*number) < end)?;
        (self.gaps, self.left) = (gaps, self.left - 1);
        Some(number)
    }
}

/// Sets of numbers, range by range.
#[derive(Clone)]
struct Ranges<'a> {
    sets: Vec<Cursor<'a>>,
    /// Where the next range begins.
    start: u64,
    bound: u64,
    width: u64,
    taken: Lists,
}

impl Ranges<'_> {
    /// Of these ranges some only.
    fn only(mut self, which: Range<usize>) -> Self {
        let place = |range: usize| {
            self.start
                .saturating_add(self.width.saturating_mul(range as u64))
        };
        let (start, end) = (place(which.start), place(which.end));
        for set in &mut self.sets {
            while set.next_below(start).is_some() {}
        }
        self.start = start;
        self.bound = self.bound.min(end);
        self
    }

    /// What the sets have in the next range, each number less the first of the range.
    fn next(&mut self) -> Option<&Lists> {
        if self.start >= self.bound {
            return None;
        }
        let end = self.bound.min(self.start + self.width);
        self.taken.ends.clear();
        self.taken.items.clear();
        for set in &mut self.sets {
            while let Some(number) = set.next_below(end) {
                self.taken
                    .items
                    .push((u64::from(number) - self.start) as u32);
            }
            self.taken.ends.push(self.taken.items.len());
        }
        self.start = end;
        Some(&self.taken)
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
    pub fn of_parts<Part: Borrow<BinaryArray>>(
        parts: impl IntoIterator<Item = Result<Part>>,
    ) -> Result<Self> {
        let mut named = Lists::default();
        // The numbers of members by their last bytes, which are as good as random.
        let mut table: HashTable<u32> = HashTable::new();
        let mut members: Vec<u128> = Vec::new();
        // Only one of the two has members.
        let mut stored: Option<NumberSets> = None;
        let mut before = 0;
        for sets in parts {
            let sets = sets?;
            let sets = sets.borrow();
            if let Some(stored) = &mut stored {
                stored.reserve(sets.iter().flatten().map(<[u8]>::len).sum());
            }
            for bytes in sets {
                let bytes = bytes.unwrap_or_default();
                let own = match State::of(bytes)? {
                    State::Pseudonyms(own) => own,
                    State::Numbers(numbers) => {
                        let stored = stored.get_or_insert_with(|| NumberSets {
                            ends: vec![0; before],
                            ..NumberSets::of_list(numbers.list)
                        });
                        if stored.list != numbers.list || !members.is_empty() {
                            return different_lists();
                        }
                        stored.states.extend_from_slice(bytes);
                        let mut last = None;
                        numbers.try_each(|number| {
                            last = Some(number);
                            Ok(())
                        })?;
                        stored.pushed(numbers.count, last);
                        continue;
                    }
                };
                if let Some(stored) = &mut stored {
                    if !own.is_empty() {
                        return different_lists();
                    }
                    stored.pushed(0, None);
                    continue;
                }
                before += 1;
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
                    named.items.push(number);
                }
                named.ends.push(named.items.len());
            }
        }
        Ok(match stored {
            Some(stored) => Self::from(stored),
            None => Self::named(named, Arc::new(members)),
        })
    }

    /// Sets of members that have numbers only here, each in the order in which its members are written.
    pub(crate) fn named(sets: Lists, members: Arc<Vec<u128>>) -> Self {
        Self(Sets::Named { sets, members })
    }

    /// How many sets there are.
    pub fn len(&self) -> usize {
        match &self.0 {
            Sets::Named { sets, .. } => sets.len(),
            Sets::Numbers(sets) => sets.ends.len(),
        }
    }

    /// Members of all sets, each as often as it is in one.
    pub fn entries(&self) -> usize {
        match &self.0 {
            Sets::Named { sets, .. } => sets.items.len(),
            Sets::Numbers(sets) => sets.entries,
        }
    }

    /// Whether there are no sets.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Some of the sets, by number.
    pub fn chosen(&self, chosen: impl Iterator<Item = u32>) -> Self {
        Self(match &self.0 {
            Sets::Named { sets, members } => {
                let mut own = Lists::default();
                chosen.for_each(|set| own.push(sets.get(set).iter().copied()));
                Sets::Named {
                    sets: own,
                    members: Arc::clone(members),
                }
            }
            Sets::Numbers(sets) => {
                let (mut ends, mut states, mut entries) = (Vec::new(), Vec::new(), 0);
                for set in chosen {
                    let own = sets.get(set as usize);
                    entries += State::of(own).map_or(0, |own| own.count());
                    states.extend_from_slice(own);
                    ends.push(states.len());
                }
                Sets::Numbers(StoredSets {
                    ends,
                    states: Buffer::from_vec(states),
                    entries,
                    bound: sets.bound,
                })
            }
        })
    }

    /// The sets as `person_set` gives them, in this order of their numbers. Members of a list that is
    /// kept elsewhere are written as their numbers.
    ///
    /// # Errors
    /// When they do not fit one column (2 GiB).
    pub fn states(&self, order: impl Iterator<Item = u32> + Clone) -> Result<BinaryArray> {
        let mut bytes: Vec<u8> = Vec::new();
        let mut ends: Vec<usize> = vec![0];
        match &self.0 {
            Sets::Named { sets, members } => {
                let lists = order.map(|set| sets.get(set));
                let total: usize = lists.clone().map(<[u32]>::len).sum();
                bytes.reserve_exact(total * WIDTH);
                for list in lists {
                    for member in list {
                        let member = members.get(*member as usize).copied();
                        bytes.extend_from_slice(&member.unwrap_or_default().to_be_bytes());
                    }
                    ends.push(bytes.len());
                }
            }
            Sets::Numbers(sets) => {
                let states = order.map(|set| sets.get(set as usize));
                bytes.reserve_exact(states.clone().map(<[u8]>::len).sum());
                for state in states {
                    bytes.extend_from_slice(state);
                    ends.push(bytes.len());
                }
            }
        }
        states_of(ends, Buffer::from_vec(bytes))
    }

    /// The sets from one number to another, as [`MemberNumbers::states`] gives them. Members of a list
    /// that is kept elsewhere are not copied.
    ///
    /// # Errors
    /// As [`MemberNumbers::states`].
    pub fn states_in(&self, range: Range<u32>) -> Result<BinaryArray> {
        let Sets::Numbers(sets) = &self.0 else {
            return self.states(range);
        };
        let (first, end) = (range.start as usize, range.end as usize);
        let own = sets.ends.get(first..end).unwrap_or_default();
        let start = sets.start(first);
        let length = own.last().map_or(0, |end| end - start);
        let ends = own.iter().map(|end| end - start);
        let ends = std::iter::once(0).chain(ends).collect();
        states_of(ends, sets.states.slice_with_length(start, length))
    }

    /// Bytes that the sets take. Names of members that several share are counted with each, but not
    /// more of them than it has entries.
    pub fn size(&self) -> usize {
        match &self.0 {
            Sets::Named { sets, members } => {
                let names = members.len().min(self.entries()) * WIDTH;
                sets.ends.capacity() * size_of::<usize>() + sets.items.capacity() * 4 + names
            }
            Sets::Numbers(sets) => {
                sets.ends.capacity() * size_of::<usize>() + sets.states.capacity()
            }
        }
    }

    /// Bytes that taking these sets apart may take at most.
    pub fn heap_bytes(sets: &BinaryArray) -> usize {
        let own = sets.iter().flatten();
        let bytes = own.map(|set| match State::of(set) {
            // A number, the member, and its place in a table.
            Ok(State::Pseudonyms(own)) => own.len() * (4 + 28),
            _ => set.len(),
        });
        bytes.sum::<usize>() + sets.len() * size_of::<usize>()
    }
}

/// States one after the other; `ends` begins with a zero.
fn states_of(ends: Vec<usize>, states: Buffer) -> Result<BinaryArray> {
    let ends = ends.into_iter().map(i32::try_from);
    let Ok(ends) = ends.collect::<Result<Vec<i32>, _>>() else {
        return exec_err!("the sets of one component are beyond 2 GiB");
    };
    let offsets = OffsetBuffer::new(ends.into());
    Ok(BinaryArray::new(offsets, states, None))
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
            let distinct = targets.distinct(keys, &numbered, 2).unwrap();
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
                .distinct(own, &MemberNumbers::of(&made.sets).unwrap(), 1)
                .unwrap(),
            targets
                .distinct(other, &MemberNumbers::of(sets).unwrap(), 1)
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

    /// The sets of pseudonyms as sets of numbers, which `spread` gives.
    fn of_list(pseudonyms: &BinaryArray, spread: impl Fn(u32) -> u32) -> MemberNumbers {
        let known = MemberNumbers::of(pseudonyms).unwrap();
        let Sets::Named { sets, .. } = &known.0 else {
            panic!("pseudonyms are taken for numbers");
        };
        let mut numbers = NumberSets::of_list(9);
        for set in 0..sets.len() {
            let mut own: Vec<u32> = sets.get(set as u32).iter().map(|n| spread(*n)).collect();
            own.sort_unstable();
            numbers.push(&own);
        }
        numbers.into()
    }

    #[test]
    fn sets_of_a_list_count_as_those_of_its_members() {
        let (targets, made) = (targets(), made(120));
        let keys = CellKeys {
            places: &made.places,
            members: &made.members,
        };
        let known = MemberNumbers::of(&made.sets).unwrap();
        let counted = targets.distinct(keys, &known, 1).unwrap();
        for spread in [
            |n| n * 3 + 5,
            |n| u32::MAX - n * 7,
            |n| if n % 2 == 0 { n } else { u32::MAX - n },
        ] {
            let of_list = of_list(&made.sets, spread);
            let states = of_list.states(0..120).unwrap();
            let back = MemberNumbers::of(&states).unwrap();
            assert_eq!(back.states(0..120).unwrap(), states);
            assert_eq!(back.entries(), known.entries());
            assert!(back.size() <= MemberNumbers::heap_bytes(&states));
            assert_eq!(targets.distinct(keys, &of_list, 1).unwrap(), counted);
            let Sets::Numbers(stored) = &of_list.0 else {
                panic!("numbers are taken for pseudonyms");
            };
            for (ranges, lanes) in [(1, 2), (2, 2), (3, 2), (5, 3), (40, 7), (4, 1), (1_000, 3)] {
                let found = targets.count_numbers(keys, stored, ranges, lanes);
                assert_eq!(
                    Int64Array::from(found.unwrap()),
                    counted,
                    "{ranges} {lanes}"
                );
            }
            assert_eq!(targets.distinct(keys, &back, 2).unwrap(), counted);
        }
    }

    #[test]
    fn ranges_have_every_member_once() {
        let sets = of_list(&made(120).sets, |n| n * 1_000 + 300);
        let Sets::Numbers(stored) = &sets.0 else {
            panic!("numbers are taken for pseudonyms");
        };
        let mut whole = stored.ranges(1);
        let (start, whole) = (whole.start as u32, whole.next().unwrap().clone());
        assert_eq!(whole.items.len(), sets.entries());
        for wanted in [0, 1, 7, 40, 1_000] {
            let mut ranges = stored.ranges(wanted);
            let mut found: Vec<Vec<u32>> = vec![Vec::new(); 120];
            let mut count = 0;
            loop {
                let first = ranges.start as u32;
                let width = ranges.width;
                let Some(own) = ranges.next() else {
                    break;
                };
                count += 1;
                assert_eq!(own.len(), 120);
                assert!(own.items.iter().all(|number| u64::from(*number) < width));
                for (set, found) in (0u32..).zip(&mut found) {
                    found.extend(own.get(set).iter().map(|number| number + first));
                }
            }
            assert!((1..=wanted.max(1)).contains(&count), "{count} ranges");
            for (set, found) in (0u32..).zip(&found) {
                let expected = whole.get(set).iter().map(|number| number + start);
                assert!(found.iter().copied().eq(expected), "{wanted}");
            }
        }
        // Entries, numbers, sets, lanes; ranges by what may be taken out, by what is marked quickly, by how
        // little a set has in one, and for each lane one.
        for (entries, numbers, sets, lanes, ranges) in [
            (TAKEN_OUT * 10, 1_000, 1_000, 1, 10),
            (TAKEN_OUT * 10, 1_000, 1_000, 2, 20),
            (TAKEN_OUT, MARKED * 6, 1_000, 1, 6),
            (TAKEN_OUT, MARKED * 6, 1_000, 4, 8),
            (1_000 * FEW_MEMBERS * 3, MARKED * 6, 1_000, 1, 3),
            (1_000, MARKED * 6, 1_000, 1, 1),
            (1_000, 1_000, 1, 3, 3),
        ] {
            let stored = StoredSets {
                ends: vec![0; sets],
                states: Buffer::from_vec(Vec::<u8>::new()),
                entries,
                bound: numbers,
            };
            assert_eq!(stored.count_of_ranges(lanes), ranges, "{entries} {lanes}");
        }
        let none = NumberSets::of_list(9);
        assert!(matches!(
            &MemberNumbers::from(none).0,
            Sets::Numbers(none) if none.ranges(5).next().is_none() && none.count_of_ranges(2) == 2
        ));
    }

    #[test]
    fn stretches_of_sets_are_the_sets() {
        let pseudonyms = made(60).sets;
        let known = MemberNumbers::of(&pseudonyms).unwrap();
        for sets in [known, of_list(&pseudonyms, |n| n)] {
            for range in [0..60, 0..0, 7..31, 59..60, 60..60] {
                assert_eq!(
                    sets.states_in(range.clone()).unwrap(),
                    sets.states(range).unwrap()
                );
            }
            let chosen = sets.chosen([3, 59, 0, 3].into_iter());
            let same = sets.states([3, 59, 0, 3].into_iter()).unwrap();
            assert_eq!(chosen.states(0..4).unwrap(), same);
            assert_eq!(chosen.states_in(0..4).unwrap(), same);
        }
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
        let numbers = of_list(&pseudonyms, |n| n).states(0..60).unwrap();
        let one_is_filled = (0..60).map(|set| match set {
            30..40 => pseudonyms.value(set),
            _ => &[],
        });
        let one_is_filled = BinaryArray::from_iter_values(one_is_filled);
        let first_are_empty = (0..60).map(|set| match set {
            0..10 => &[],
            _ => numbers.value(set),
        });
        let first_are_empty = BinaryArray::from_iter_values(first_are_empty);
        for sets in [&pseudonyms, &numbers, &one_is_filled, &first_are_empty] {
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
                assert_eq!(found.entries(), whole.entries(), "{ends:?}");
                let states = |sets: &MemberNumbers| sets.states(0..60).unwrap();
                assert_eq!(states(&found), states(&whole), "{ends:?}");
                let bound = |sets: &MemberNumbers| match &sets.0 {
                    Sets::Named { members, .. } => members.len() as u64,
                    Sets::Numbers(sets) => sets.bound,
                };
                assert_eq!(bound(&found), bound(&whole), "{ends:?}");
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
