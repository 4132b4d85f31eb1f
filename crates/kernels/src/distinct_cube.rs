//! Exact distinct persons by cell, with roll-ups: `distinct_persons(n)`,
//! `distinct_persons_state(n)`, `distinct_persons_union(state)`, `distinct_persons_count(state)`.
//!
//! A person is a dense number of 32 bits. Distinct persons cannot be summed: who used services in
//! two municipalities is one person in the region. Three ways give the same exact numbers, and
//! which is best depends on how the rows lie:
//!
//! * [`DistinctByGroup`], rows bucketed by group (a year and class, a month): one array holds for
//!   each person the place where the group met them first. A row whose stamp is not of this group
//!   counts, at its place and at every level above. Few persons have a second place in the same
//!   group; theirs are kept in a set, level by level. Time O(rows); memory 4 bytes a person, and 8
//!   bytes a row for [`Buckets`] where rows do not lie by group already.
//! * [`DistinctByPerson`], rows in the order of persons: each cell of each level holds the last
//!   person that it counted. Time O(rows · levels); memory 8 bytes a cell and level.
//! * [`DistinctSets`], rows in any order: each cell holds the set of its persons
//!   ([`PersonNumbers`]: up to six in place, then a roaring bitmap; Chambi, Lemire, Kaser and Godin
//!   2016). The only one whose result can be merged and rolled up later, because it remembers
//!   persons. Time O(rows · log), memory 2 to 8 bytes a person and cell where persons lie densely.
//!
//! Counts of parts add up when the parts share no group, or no person; that is checked. Sets merge
//! always: union. Nulls and unselected rows are nobody; no rows give zero, and the empty state has
//! no bytes. A person or place outside its range, or columns of unequal length, are refused before
//! anything is counted. A state is personal data, as that of a `person_set`: only counts leave.
//!
//! A state is a byte for its form and then: form 1, up to 256 persons, the ascending numbers as
//! differences less one, seven bits a byte, lowest first; form 2, more persons, the portable
//! roaring format, each container in its smallest form. Equal sets have equal bytes.

use std::collections::BTreeSet;

use arrow::buffer::BooleanBuffer;
use datafusion_common::{Result, ScalarValue, exec_err, plan_err};
use datafusion_expr::{AggregateUDF, ScalarUDF};
use hashbrown::HashSet;
use roaring::RoaringBitmap;

use crate::aggregate::{CellAggregate, Takes};
use crate::cell::{Cell, Finish, Given, InputType, Value};
use crate::codes::{Codes, check_codes, check_length, with_codes};
use crate::dense_cube::check_parents;
use crate::scalar::{Body, PlainFunction};
use crate::sliding::{Frame, Tally, Way};
use crate::varint;

/// Places, and the levels above them that are counted in the same pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Levels {
    places: u32,
    above: Vec<Level>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Level {
    /// The parent of every place at this level.
    parents: Vec<u32>,
    size: u32,
}

impl Levels {
    /// Places without levels above.
    pub fn new(places: u32) -> Self {
        Self {
            places,
            above: Vec::new(),
        }
    }

    /// The same with one more level: `parents` has the parent of every place, below `size`. Place
    /// 0 is the unknown, and so is its parent.
    pub fn with(mut self, parents: &[u32], size: u32) -> Result<Self> {
        check_parents(parents, self.places, size)?;
        self.above.push(Level {
            parents: parents.to_vec(),
            size,
        });
        Ok(self)
    }

    /// The same with the total over all places, the unknown one included, as one more level.
    pub fn with_total(self) -> Result<Self> {
        let parents = vec![0; self.places as usize];
        self.with(&parents, 1)
    }

    /// The sizes, places first.
    fn sizes(&self) -> impl Iterator<Item = u32> + '_ {
        std::iter::once(self.places).chain(self.above.iter().map(|level| level.size))
    }
}

/// What must not be shared with another part for counts to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Scope {
    Groups(BTreeSet<u32>),
    Persons(Vec<(u32, u32)>),
}

/// Distinct persons by level, group and place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DistinctCounts {
    sizes: Vec<u32>,
    /// For each level, group after group.
    counts: Vec<Vec<u64>>,
    scope: Scope,
}

impl DistinctCounts {
    /// Persons at a level (0: the places themselves), group after group, place after place.
    pub fn level(&self, level: usize) -> &[u64] {
        self.counts.get(level).map_or(&[], Vec::as_slice)
    }

    /// Persons of a group at a place of a level; none where there is no such place.
    pub fn get(&self, level: usize, group: u32, place: u32) -> u64 {
        let size = self.sizes.get(level).copied().unwrap_or_default();
        let at = group as usize * size as usize + place as usize;
        match place < size {
            true => self.level(level).get(at).copied().unwrap_or_default(),
            false => 0,
        }
    }

    /// Adds the counts of other rows. They are refused when both have rows of the same group, or
    /// overlapping ranges of persons, because someone may then be counted twice.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        let alike = self.sizes == other.sizes && self.level(0).len() == other.level(0).len();
        if !alike {
            return exec_err!("only counts of the same groups, places and levels can be merged");
        }
        match (&mut self.scope, &other.scope) {
            (Scope::Groups(ours), Scope::Groups(theirs)) if ours.is_disjoint(theirs) => {
                ours.extend(theirs);
            }
            (Scope::Persons(ours), Scope::Persons(theirs)) if ranges_apart(ours, theirs) => {
                ours.extend(theirs);
                ours.sort_unstable();
            }
            _ => {
                return exec_err!(
                    "two parts have the same groups or persons: merge sets of persons, not counts"
                );
            }
        }
        for (ours, theirs) in self.counts.iter_mut().zip(&other.counts) {
            for (count, more) in ours.iter_mut().zip(theirs) {
                *count += more;
            }
        }
        Ok(())
    }
}

fn ranges_apart(ours: &[(u32, u32)], theirs: &[(u32, u32)]) -> bool {
    ours.iter()
        .all(|a| theirs.iter().all(|b| a.1 < b.0 || b.1 < a.0))
}

/// Counters of every level, group after group, or an error when they are too many.
fn counters<T: Clone + Default>(levels: &Levels, groups: u32) -> Result<Vec<Vec<T>>> {
    levels
        .sizes()
        .map(|size| match (size as usize).checked_mul(groups as usize) {
            Some(cells) if cells <= u32::MAX as usize => Ok(vec![T::default(); cells]),
            _ => plan_err!("{groups} groups of {size} places are too many cells to count"),
        })
        .collect()
}

fn check_persons(persons: &[u32], size: u32, selection: Option<&BooleanBuffer>) -> Result<()> {
    check_codes("the person", Codes::U32(persons), size, selection)
}

fn check_selection(selection: Option<&BooleanBuffer>, rows: usize) -> Result<()> {
    selection.map_or(Ok(()), |selection| {
        check_length("the selection", selection.len(), rows)
    })
}

/// Rows laid together by group: a stable counting sort.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buckets {
    starts: Vec<usize>,
    /// The place above, the person below.
    rows: Vec<u64>,
}

impl Buckets {
    /// Lays the selected rows together by group, keeping their order in each.
    pub fn new(
        groups: Codes<'_>,
        group_count: u32,
        persons: &[u32],
        places: Codes<'_>,
        selection: Option<&BooleanBuffer>,
    ) -> Result<Self> {
        check_length("the persons", persons.len(), groups.len())?;
        check_length("the places", places.len(), groups.len())?;
        check_selection(selection, groups.len())?;
        check_codes("the group", groups, group_count, selection)?;
        Ok(
            with_codes!(groups, groups => with_codes!(places, places => {
                Self::sort(groups, group_count as usize, persons, places, selection)
            })),
        )
    }

    fn sort<G: Copy + Into<u32>, P: Copy + Into<u32>>(
        groups: &[G],
        group_count: usize,
        persons: &[u32],
        places: &[P],
        selection: Option<&BooleanBuffer>,
    ) -> Self {
        let selected = |row: usize| selection.is_none_or(|selection| selection.value(row));
        let mut starts = vec![0usize; group_count + 1];
        for (row, group) in groups.iter().enumerate() {
            let group: u32 = (*group).into();
            if selected(row)
                && let Some(count) = starts.get_mut(group as usize + 1)
            {
                *count += 1;
            }
        }
        let mut total = 0;
        for start in &mut starts {
            total += *start;
            *start = total;
        }
        let mut next = starts.clone();
        let mut rows = vec![0u64; total];
        let columns = persons.iter().zip(places);
        for (row, (group, (person, place))) in groups.iter().zip(columns).enumerate() {
            if !selected(row) {
                continue;
            }
            let group: u32 = (*group).into();
            let place: u32 = (*place).into();
            if let Some(at) = next.get_mut(group as usize) {
                if let Some(slot) = rows.get_mut(*at) {
                    *slot = u64::from(place) << 32 | u64::from(*person);
                }
                *at += 1;
            }
        }
        Self { starts, rows }
    }

    fn group(&self, group: u32) -> &[u64] {
        let at = |place: usize| self.starts.get(place).copied().unwrap_or_default();
        let (from, to) = (at(group as usize), at(group as usize + 1));
        self.rows.get(from..to).unwrap_or_default()
    }

    /// Bytes held on the heap.
    pub fn heap_bytes(&self) -> usize {
        (self.rows.capacity() + self.starts.capacity()) * size_of::<u64>()
    }
}

/// Counts persons of rows that come group by group.
#[derive(Debug, Clone)]
pub struct DistinctByGroup {
    levels: Levels,
    groups: u32,
    /// For each person the place of the group being read where they were met first, from `base`
    /// on; what is below `base` is of an earlier group.
    stamps: Vec<u32>,
    base: u32,
    open: Option<u32>,
    closed: BTreeSet<u32>,
    /// Persons by the first place in the group being read.
    first: Vec<u64>,
    /// Second and later places of persons in that group, and their parents: person and place.
    further: Vec<HashSet<u64>>,
    counts: Vec<Vec<u64>>,
}

impl DistinctByGroup {
    /// No rows yet; persons have numbers below `persons`.
    pub fn new(persons: u32, groups: u32, levels: Levels) -> Result<Self> {
        if levels.places == u32::MAX {
            return plan_err!("{} places are too many cells to count", levels.places);
        }
        Ok(Self {
            stamps: vec![0; persons as usize],
            base: 1,
            open: None,
            closed: BTreeSet::new(),
            first: vec![0; levels.places as usize],
            further: levels.sizes().map(|_| HashSet::new()).collect(),
            counts: counters(&levels, groups)?,
            groups,
            levels,
        })
    }

    /// Counts rows of one group. Those of the same group must follow each other.
    pub fn add(
        &mut self,
        group: u32,
        persons: &[u32],
        places: Codes<'_>,
        selection: Option<&BooleanBuffer>,
    ) -> Result<()> {
        check_length("the places", places.len(), persons.len())?;
        check_selection(selection, persons.len())?;
        check_persons(persons, self.stamps.len() as u32, selection)?;
        check_codes("the place", places, self.levels.places, selection)?;
        self.begin(group)?;
        with_codes!(places, places => {
            let rows = persons
                .iter()
                .zip(places)
                .map(|(person, place)| (*person, (*place).into()));
            match selection {
                None => self.read(rows),
                Some(selection) => self.read(
                    rows.zip(selection.iter())
                        .filter(|(_, selected)| *selected)
                        .map(|(row, _)| row),
                ),
            }
        });
        Ok(())
    }

    /// Counts one group of some buckets; several may have rows of it.
    pub fn add_bucket(&mut self, group: u32, buckets: &Buckets) -> Result<()> {
        let rows = buckets.group(group);
        let (persons, places) = (self.stamps.len() as u64, u64::from(self.levels.places));
        let outside = rows.iter().fold(false, |any, row| {
            any | (row & 0xffff_ffff >= persons) | (row >> 32 >= places)
        });
        if outside {
            return exec_err!("a bucket of group {group} has a person or place out of range");
        }
        self.begin(group)?;
        self.read(rows.iter().map(|row| (*row as u32, (row >> 32) as u32)));
        Ok(())
    }

    fn begin(&mut self, group: u32) -> Result<()> {
        if self.open == Some(group) {
            return Ok(());
        }
        if group >= self.groups {
            return exec_err!(
                "group {group} is not below the number of groups, {}",
                self.groups
            );
        }
        if self.closed.contains(&group) {
            return exec_err!("rows of group {group} do not lie together: bucket them first");
        }
        self.close();
        self.open = Some(group);
        Ok(())
    }

    #[inline]
    fn read(&mut self, rows: impl Iterator<Item = (u32, u32)>) {
        let Self {
            levels,
            stamps,
            base,
            first,
            further,
            ..
        } = self;
        let base = *base;
        for (person, place) in rows {
            let (Some(stamp), Some(count)) = (
                stamps.get_mut(person as usize),
                first.get_mut(place as usize),
            ) else {
                continue;
            };
            if *stamp < base {
                *stamp = base + place;
                *count += 1;
            } else if *stamp != base + place {
                note_further(levels, further, person, *stamp - base, place);
            }
        }
    }

    /// Adds the group being read to the counts, and makes its stamps old.
    fn close(&mut self) {
        let Some(group) = self.open.take() else {
            return;
        };
        self.closed.insert(group);
        for (level, counts) in self.counts.iter_mut().enumerate() {
            let above = level
                .checked_sub(1)
                .and_then(|at| self.levels.above.get(at));
            let size = above.map_or(self.levels.places, |above| above.size);
            let from = group as usize * size as usize;
            let mut count = |place: u32, persons: u64| {
                if let Some(count) = counts.get_mut(from + place as usize) {
                    *count += persons;
                }
            };
            for (place, persons) in self.first.iter().enumerate() {
                let at = match above {
                    Some(above) => above.parents.get(place).copied().unwrap_or_default(),
                    None => place as u32,
                };
                count(at, *persons);
            }
            if let Some(further) = self.further.get_mut(level) {
                further.drain().for_each(|pair| count(pair as u32, 1));
            }
        }
        self.first.fill(0);
        let next = self.base.checked_add(self.levels.places);
        // The next group's stamps must fit too; else all begin anew.
        match next.filter(|next| next.checked_add(self.levels.places).is_some()) {
            Some(next) => self.base = next,
            None => {
                self.stamps.fill(0);
                self.base = 1;
            }
        }
    }

    /// The counts of all rows.
    pub fn finish(mut self) -> DistinctCounts {
        self.close();
        DistinctCounts {
            sizes: self.levels.sizes().collect(),
            counts: self.counts,
            scope: Scope::Groups(self.closed),
        }
    }

    /// Bytes held on the heap.
    pub fn heap_bytes(&self) -> usize {
        let cells: usize = self.counts.iter().map(Vec::capacity).sum();
        let further: usize = self.further.iter().map(HashSet::allocation_size).sum();
        self.stamps.capacity() * size_of::<u32>()
            + (cells + self.first.capacity()) * size_of::<u64>()
            + further
    }
}

/// Notes a further place of a person whom the group met first at another, and each parent that
/// differs from the first place's.
#[cold]
#[inline(never)]
fn note_further(
    levels: &Levels,
    further: &mut [HashSet<u64>],
    person: u32,
    met_first: u32,
    place: u32,
) {
    let pair = |place: u32| u64::from(person) << 32 | u64::from(place);
    let Some((places, above)) = further.split_first_mut() else {
        return;
    };
    if !places.insert(pair(place)) {
        return;
    }
    for (level, noted) in levels.above.iter().zip(above) {
        let parent = |place: u32| {
            level
                .parents
                .get(place as usize)
                .copied()
                .unwrap_or_default()
        };
        if parent(place) != parent(met_first) {
            noted.insert(pair(parent(place)));
        }
    }
}

/// Counts persons of rows that come in ascending order of persons.
#[derive(Debug, Clone)]
pub struct DistinctByPerson {
    levels: Levels,
    groups: u32,
    /// For each level and cell, which person in turn it counted last, and how many it counted.
    cells: Vec<Vec<[u32; 2]>>,
    /// How many persons came so far.
    turn: u32,
    range: Option<(u32, u32)>,
}

impl DistinctByPerson {
    /// No rows yet.
    pub fn new(groups: u32, levels: Levels) -> Result<Self> {
        Ok(Self {
            cells: counters(&levels, groups)?,
            levels,
            groups,
            turn: 0,
            range: None,
        })
    }

    /// Counts rows. Persons must not descend, neither here nor from one call to the next.
    pub fn add(
        &mut self,
        groups: Codes<'_>,
        persons: &[u32],
        places: Codes<'_>,
        selection: Option<&BooleanBuffer>,
    ) -> Result<()> {
        check_length("the groups", groups.len(), persons.len())?;
        check_length("the places", places.len(), persons.len())?;
        check_selection(selection, persons.len())?;
        check_codes("the group", groups, self.groups, selection)?;
        check_codes("the place", places, self.levels.places, selection)?;
        // One number is kept back, so that turns of 32 bits suffice.
        check_persons(persons, u32::MAX, selection)?;
        self.check_order(persons, selection)?;
        with_codes!(groups, groups => with_codes!(places, places => {
            self.read(groups, persons, places, selection);
        }));
        Ok(())
    }

    fn check_order(&self, persons: &[u32], selection: Option<&BooleanBuffer>) -> Result<()> {
        let last = self.range.map_or(0, |(_, last)| last);
        let ascending = match selection {
            None => {
                persons.first().is_none_or(|first| *first >= last)
                    && !persons
                        .windows(2)
                        .fold(false, |any, pair| any | (pair[0] > pair[1]))
            }
            Some(selection) => selection
                .set_indices()
                .map(|row| persons.get(row).copied().unwrap_or_default())
                .is_sorted_by(|a, b| a <= b),
        };
        let first = match selection {
            None => persons.first(),
            Some(selection) => selection
                .set_indices()
                .next()
                .and_then(|row| persons.get(row)),
        };
        if ascending && first.is_none_or(|first| *first >= last) {
            Ok(())
        } else {
            exec_err!("rows do not come in the order of persons: sort or bucket them first")
        }
    }

    fn read<G: Copy + Into<u32>, P: Copy + Into<u32>>(
        &mut self,
        groups: &[G],
        persons: &[u32],
        places: &[P],
        selection: Option<&BooleanBuffer>,
    ) {
        let Self {
            levels,
            cells,
            turn,
            range,
            ..
        } = self;
        let Some((cells, above)) = cells.split_first_mut() else {
            return;
        };
        let columns = persons.iter().zip(groups.iter().zip(places));
        for (row, (person, (group, place))) in columns.enumerate() {
            if selection.is_some_and(|selection| !selection.value(row)) {
                continue;
            }
            match range {
                Some((_, last)) if last == person => {}
                Some((_, last)) => {
                    *last = *person;
                    *turn += 1;
                }
                None => {
                    *range = Some((*person, *person));
                    *turn += 1;
                }
            }
            let group: u32 = (*group).into();
            let place: u32 = (*place).into();
            let at = group as usize * levels.places as usize + place as usize;
            // Whoever is counted here already is counted at every level above.
            if !count_turn(cells, at, *turn) {
                continue;
            }
            for (level, cells) in levels.above.iter().zip(above.iter_mut()) {
                let parent = level
                    .parents
                    .get(place as usize)
                    .copied()
                    .unwrap_or_default();
                let at = group as usize * level.size as usize + parent as usize;
                count_turn(cells, at, *turn);
            }
        }
    }

    /// The counts of all rows.
    pub fn finish(self) -> DistinctCounts {
        DistinctCounts {
            sizes: self.levels.sizes().collect(),
            counts: self
                .cells
                .iter()
                .map(|cells| cells.iter().map(|[_, count]| u64::from(*count)).collect())
                .collect(),
            scope: Scope::Persons(self.range.into_iter().collect()),
        }
    }

    /// Bytes held on the heap.
    pub fn heap_bytes(&self) -> usize {
        let cells: usize = self.cells.iter().map(Vec::capacity).sum();
        cells * size_of::<[u32; 2]>()
    }
}

/// Counts the person whose turn it is in a cell; false when the cell has counted them.
#[inline]
fn count_turn(cells: &mut [[u32; 2]], at: usize, turn: u32) -> bool {
    match cells.get_mut(at) {
        Some([last, count]) if *last != turn => {
            *last = turn;
            *count += 1;
            true
        }
        _ => false,
    }
}

/// Persons held in place.
const FEW: usize = 6;
/// Most persons of a state that is a list.
const LIST: u64 = 256;
const FORM_LIST: u8 = 1;
const FORM_ROARING: u8 = 2;

/// A set of person numbers.
#[derive(Debug, Clone)]
pub struct PersonNumbers {
    held: Held,
}

#[derive(Debug, Clone)]
enum Held {
    /// Ascending up to the length.
    Few(u8, [u32; FEW]),
    Many(Box<Many>),
}

#[derive(Debug, Clone, Default)]
struct Many {
    numbers: RoaringBitmap,
    len: u64,
    /// Heap size, measured anew when the set has grown by a quarter.
    heap_bytes: usize,
    measure_at: u64,
}

impl Default for PersonNumbers {
    fn default() -> Self {
        Self {
            held: Held::Few(0, [0; FEW]),
        }
    }
}

impl PartialEq for PersonNumbers {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl Eq for PersonNumbers {}

impl PersonNumbers {
    /// The number of persons.
    pub fn len(&self) -> u64 {
        match &self.held {
            Held::Few(len, _) => u64::from(*len),
            Held::Many(many) => many.len,
        }
    }

    /// True when nobody is in the set.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The persons in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        let (few, many) = match &self.held {
            Held::Few(len, numbers) => (numbers.get(..usize::from(*len)), None),
            Held::Many(many) => (None, Some(many.numbers.iter())),
        };
        let few = few.unwrap_or_default().iter().copied();
        few.chain(many.into_iter().flatten())
    }

    /// Puts in one person.
    pub fn insert(&mut self, person: u32) {
        match &mut self.held {
            Held::Few(len, numbers) => {
                let held = usize::from(*len);
                let at = numbers.iter().take(held).filter(|n| **n < person).count();
                if at < held && numbers.get(at) == Some(&person) {
                    return;
                }
                match numbers.get_mut(at..=held) {
                    Some(tail) => {
                        tail.rotate_right(1);
                        if let Some(free) = tail.first_mut() {
                            *free = person;
                        }
                        *len += 1;
                    }
                    None => {
                        let mut all: RoaringBitmap = numbers.iter().copied().collect();
                        all.insert(person);
                        self.held = Held::Many(Box::new(Many::new(all)));
                    }
                }
            }
            Held::Many(many) => {
                if many.numbers.insert(person) {
                    many.len += 1;
                    many.grown();
                }
            }
        }
    }

    /// Puts in the persons of another set.
    pub fn union(&mut self, other: &Self) {
        match &other.held {
            Held::Few(len, numbers) => numbers
                .iter()
                .take(usize::from(*len))
                .for_each(|person| self.insert(*person)),
            Held::Many(theirs) => match &mut self.held {
                Held::Many(ours) => {
                    ours.numbers |= &theirs.numbers;
                    ours.len = ours.numbers.len();
                    ours.grown();
                }
                Held::Few(len, numbers) => {
                    let mut all = theirs.numbers.clone();
                    all.extend(numbers.iter().take(usize::from(*len)));
                    self.held = Held::Many(Box::new(Many::new(all)));
                }
            },
        }
    }

    /// Writes the state: equal sets have equal bytes.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        match &self.held {
            Held::Many(many) if many.len > LIST => {
                out.push(FORM_ROARING);
                let written = many.canonical().serialize_into(&mut *out);
                debug_assert!(written.is_ok(), "writing to memory does not fail");
            }
            _ if self.is_empty() => {}
            _ => {
                out.push(FORM_LIST);
                let mut next = 0;
                for person in self.iter().map(u128::from) {
                    varint::put(out, person - next);
                    next = person + 1;
                }
            }
        }
    }

    /// The set of a state; an error when the bytes are not one.
    pub fn decode(state: &[u8]) -> Result<Self> {
        match state.split_first() {
            None => Ok(Self::default()),
            Some((&FORM_LIST, list)) => Self::decode_list(list),
            Some((&FORM_ROARING, mut rest)) => match RoaringBitmap::deserialize_from(&mut rest) {
                Ok(numbers) if rest.is_empty() => Ok(Self {
                    held: Held::Many(Box::new(Many::new(numbers))),
                }),
                _ => broken(),
            },
            Some(_) => exec_err!(
                "a set of person numbers has a state of an unknown form: it was made by a newer \
                 version, or is not such a state"
            ),
        }
    }

    fn decode_list(mut list: &[u8]) -> Result<Self> {
        let mut set = Self::default();
        let mut next = 0u128;
        while !list.is_empty() {
            let person = varint::take(&mut list).and_then(|more| next.checked_add(more));
            match person.map(u32::try_from) {
                Some(Ok(person)) => {
                    set.insert(person);
                    next = u128::from(person) + 1;
                }
                _ => return broken(),
            }
        }
        Ok(set)
    }

    /// Bytes held on the heap; of a large set as last measured, at most a quarter ago.
    pub fn heap_bytes(&self) -> usize {
        match &self.held {
            Held::Few(..) => 0,
            Held::Many(many) => many.heap_bytes,
        }
    }
}

fn broken<T>() -> Result<T> {
    exec_err!("a set of person numbers has a broken state")
}

impl FromIterator<u32> for PersonNumbers {
    fn from_iter<I: IntoIterator<Item = u32>>(persons: I) -> Self {
        let mut set = Self::default();
        persons.into_iter().for_each(|person| set.insert(person));
        set
    }
}

impl Many {
    fn new(numbers: RoaringBitmap) -> Self {
        let mut many = Self {
            len: numbers.len(),
            numbers,
            heap_bytes: 0,
            measure_at: 0,
        };
        many.grown();
        many
    }

    /// Measures the heap when the set has grown by a quarter; the walk over containers is then
    /// paid for by the numbers that came.
    #[inline]
    fn grown(&mut self) {
        if self.len >= self.measure_at {
            self.measure();
        }
    }

    #[cold]
    fn measure(&mut self) {
        /// A container's own fields in a vector that may be half empty, and its allocation.
        const CONTAINER: usize = 2 * 40 + 16;
        let found = self.numbers.statistics();
        // Arrays are reported as if their numbers took four bytes; they take two.
        let bytes = found.n_bytes_array_containers / 2
            + found.n_bytes_bitset_containers
            + found.n_bytes_run_containers;
        self.heap_bytes =
            size_of::<Self>() + bytes as usize + CONTAINER * found.n_containers as usize;
        self.measure_at = self.len + self.len / 4 + 1;
    }

    /// The same set, with each container in the smallest form that its numbers have.
    fn canonical(&self) -> RoaringBitmap {
        let mut numbers = self.numbers.clone();
        // Runs of a state from elsewhere may be longer than the form they would be written in.
        numbers.remove_run_compression();
        numbers.optimize();
        numbers
    }
}

/// The version of the state of a whole cube of sets.
const SETS_VERSION: u8 = 1;

/// A set of persons for each cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DistinctSets {
    cells: Vec<PersonNumbers>,
}

impl DistinctSets {
    /// Empty sets for cells numbered below `cells`.
    pub fn new(cells: u32) -> Self {
        Self {
            cells: vec![PersonNumbers::default(); cells as usize],
        }
    }

    /// Puts the persons of rows into the sets of their cells.
    pub fn add(
        &mut self,
        cells: Codes<'_>,
        persons: &[u32],
        selection: Option<&BooleanBuffer>,
    ) -> Result<()> {
        check_length("the cells", cells.len(), persons.len())?;
        check_selection(selection, persons.len())?;
        check_codes("the cell", cells, self.cells.len() as u32, selection)?;
        with_codes!(cells, cells => {
            for (row, (cell, person)) in cells.iter().zip(persons).enumerate() {
                let cell: u32 = (*cell).into();
                if selection.is_none_or(|selection| selection.value(row))
                    && let Some(set) = self.cells.get_mut(cell as usize)
                {
                    set.insert(*person);
                }
            }
        });
        Ok(())
    }

    /// The set of a cell.
    pub fn get(&self, cell: u32) -> Option<&PersonNumbers> {
        self.cells.get(cell as usize)
    }

    /// Distinct persons of each cell.
    pub fn counts(&self) -> Vec<u64> {
        self.cells.iter().map(PersonNumbers::len).collect()
    }

    /// Unites with the sets of other rows.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        if self.cells.len() != other.cells.len() {
            return exec_err!("only sets of the same cells can be merged");
        }
        for (ours, theirs) in self.cells.iter_mut().zip(&other.cells) {
            ours.union(theirs);
        }
        Ok(())
    }

    /// Unites the sets of cells with the same parent: `parents` has the parent of every cell,
    /// below `size`.
    pub fn roll_up(&self, parents: &[u32], size: u32) -> Result<Self> {
        check_parents(parents, self.cells.len() as u32, size)?;
        let mut rolled = Self::new(size);
        for (set, parent) in self.cells.iter().zip(parents) {
            if let Some(united) = rolled.cells.get_mut(*parent as usize) {
                united.union(set);
            }
        }
        Ok(rolled)
    }

    /// The state as bytes: a version, the number of cells, and for each cell that has persons how
    /// many cells were passed over, the length of its state, and the state.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![SETS_VERSION];
        varint::put(&mut out, self.cells.len() as u128);
        let mut state = Vec::new();
        let mut passed = 0;
        for set in &self.cells {
            if set.is_empty() {
                passed += 1;
                continue;
            }
            state.clear();
            set.encode_into(&mut state);
            varint::put(&mut out, passed);
            varint::put(&mut out, state.len() as u128);
            out.extend_from_slice(&state);
            passed = 0;
        }
        out
    }

    /// Unites with the sets of a state. After an error some of them may have been united.
    pub fn merge_bytes(&mut self, state: &[u8]) -> Result<()> {
        let mut rest = match state.split_first() {
            Some((&SETS_VERSION, rest)) => rest,
            Some(_) => return exec_err!("sets of persons have a state of an unknown version"),
            None => return broken(),
        };
        if varint::take(&mut rest) != Some(self.cells.len() as u128) {
            return exec_err!("only sets of the same cells can be merged");
        }
        let mut cell = 0u128;
        while !rest.is_empty() {
            let passed = varint::take(&mut rest);
            let length = varint::take(&mut rest).and_then(|length| usize::try_from(length).ok());
            let at = passed.and_then(|passed| cell.checked_add(passed));
            let (Some(at), Some(length)) = (at, length) else {
                return broken();
            };
            let (Some(set), Some((own, after))) = (
                usize::try_from(at)
                    .ok()
                    .and_then(|at| self.cells.get_mut(at)),
                rest.split_at_checked(length),
            ) else {
                return broken();
            };
            set.union(&PersonNumbers::decode(own)?);
            rest = after;
            cell = at + 1;
        }
        Ok(())
    }

    /// Bytes held on the heap.
    pub fn heap_bytes(&self) -> usize {
        let sets: usize = self.cells.iter().map(PersonNumbers::heap_bytes).sum();
        sets + self.cells.capacity() * size_of::<PersonNumbers>()
    }
}

impl Cell for PersonNumbers {
    fn add(&mut self, value: Value<'_>) -> Result<()> {
        self.insert(person_of(value)?);
        Ok(())
    }

    fn merge(&mut self, state: &[u8]) -> Result<()> {
        let other = Self::decode(state)?;
        if self.is_empty() {
            *self = other;
        } else {
            self.union(&other);
        }
        Ok(())
    }

    fn encode(&mut self, out: &mut Vec<u8>) {
        self.encode_into(out);
    }

    fn heap_bytes(&self) -> usize {
        Self::heap_bytes(self)
    }
}

fn person_of(value: Value<'_>) -> Result<u32> {
    match value {
        Value::Whole(person) => match u32::try_from(person) {
            Ok(person) => Ok(person),
            Err(_) => exec_err!("a person number is not between 0 and {}", u32::MAX),
        },
        _ => exec_err!("distinct_persons takes person numbers"),
    }
}

impl Finish for PersonNumbers {
    const RESULT: InputType = InputType::Bytes;
    type Frame = NumberFrame;
}

/// How many rows or sets of a frame that slides have each person.
#[derive(Debug, Default)]
pub(crate) struct NumberFrame {
    persons: Tally<u32, ()>,
}

impl Frame<PersonNumbers> for NumberFrame {
    fn pass(&mut self, given: Given<'_>, way: Way) -> Result<()> {
        match given {
            Given::Value(value) => self.persons.pass(person_of(value)?, (), way),
            Given::Row(_) => exec_err!("distinct_persons takes one column"),
            Given::State(state) => PersonNumbers::decode(state)?
                .iter()
                .try_for_each(|person| self.persons.pass(person, (), way)),
        }
    }

    fn cell(&self) -> Result<PersonNumbers> {
        Ok(self.persons.keys().collect())
    }

    fn heap_bytes(&self) -> usize {
        self.persons.heap_bytes()
    }
}

/// A set of which only the number of persons is wanted in the end.
#[derive(Debug, Default)]
struct PersonCount(PersonNumbers);

impl Cell for PersonCount {
    fn add(&mut self, value: Value<'_>) -> Result<()> {
        self.0.add(value)
    }

    fn merge(&mut self, state: &[u8]) -> Result<()> {
        Cell::merge(&mut self.0, state)
    }

    fn encode(&mut self, out: &mut Vec<u8>) {
        self.0.encode(out)
    }

    fn heap_bytes(&self) -> usize {
        self.0.heap_bytes()
    }
}

impl Finish for PersonCount {
    const RESULT: InputType = InputType::Whole;
    type Frame = NumberFrame;

    fn whole(&self) -> Option<i64> {
        i64::try_from(self.0.len()).ok()
    }
}

impl Frame<PersonCount> for NumberFrame {
    fn pass(&mut self, given: Given<'_>, way: Way) -> Result<()> {
        Frame::<PersonNumbers>::pass(self, given, way)
    }

    fn cell(&self) -> Result<PersonCount> {
        Frame::<PersonNumbers>::cell(self).map(PersonCount)
    }

    // The number is known without the set.
    fn result(&self) -> Result<ScalarValue> {
        Ok(ScalarValue::Int64(i64::try_from(self.persons.len()).ok()))
    }

    fn heap_bytes(&self) -> usize {
        Frame::<PersonNumbers>::heap_bytes(self)
    }
}

pub(crate) fn aggregates() -> Vec<AggregateUDF> {
    vec![
        CellAggregate::<PersonCount>::function("distinct_persons", Takes::Values(InputType::Whole)),
        CellAggregate::<PersonNumbers>::function(
            "distinct_persons_state",
            Takes::Values(InputType::Whole),
        ),
        CellAggregate::<PersonNumbers>::function("distinct_persons_union", Takes::States),
    ]
}

pub(crate) fn scalars() -> Vec<ScalarUDF> {
    vec![PlainFunction::function(
        "distinct_persons_count",
        &[InputType::Bytes],
        Body::Whole(count),
    )]
}

fn count(values: &[Value<'_>]) -> Result<Option<i64>> {
    match values {
        [Value::Bytes(state)] => Ok(i64::try_from(PersonNumbers::decode(state)?.len()).ok()),
        _ => exec_err!("distinct_persons_count takes the state of a distinct_persons_state"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array};
    use arrow::datatypes::Int64Type;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{check_grouped, check_laws, laws, numbers};

    const GROUPS: u32 = 4;
    const PLACES: u32 = 6;
    const REGIONS: [u32; PLACES as usize] = [0, 1, 1, 2, 2, 0];
    const REGION_COUNT: u32 = 3;
    const PERSONS: u32 = 40;

    #[derive(Debug, Clone, Copy)]
    struct Row {
        group: u8,
        person: u32,
        place: u16,
        selected: bool,
    }

    fn levels() -> Levels {
        Levels::new(PLACES)
            .with(&REGIONS, REGION_COUNT)
            .unwrap()
            .with_total()
            .unwrap()
    }

    struct Columns {
        groups: Vec<u8>,
        persons: Vec<u32>,
        places: Vec<u16>,
        selection: Option<BooleanBuffer>,
    }

    fn columns(rows: &[Row]) -> Columns {
        Columns {
            groups: rows.iter().map(|row| row.group).collect(),
            persons: rows.iter().map(|row| row.person).collect(),
            places: rows.iter().map(|row| row.place).collect(),
            selection: rows
                .iter()
                .any(|row| !row.selected)
                .then(|| rows.iter().map(|row| row.selected).collect()),
        }
    }

    /// The definition itself: distinct pairs of cell and person, at each level.
    fn naive(rows: &[Row]) -> Vec<Vec<u64>> {
        let parent = |level: usize, place: u16| match level {
            0 => usize::from(place),
            1 => REGIONS[usize::from(place)] as usize,
            _ => 0,
        };
        [PLACES, REGION_COUNT, 1]
            .iter()
            .enumerate()
            .map(|(level, size)| {
                let mut cells: BTreeMap<usize, BTreeSet<u32>> = BTreeMap::new();
                for row in rows.iter().filter(|row| row.selected) {
                    let cell = usize::from(row.group) * *size as usize + parent(level, row.place);
                    cells.entry(cell).or_default().insert(row.person);
                }
                (0..(GROUPS * size) as usize)
                    .map(|cell| cells.get(&cell).map_or(0, |set| set.len() as u64))
                    .collect()
            })
            .collect()
    }

    fn by_group(parts: &[&[Row]], groups: impl Iterator<Item = u32>) -> DistinctCounts {
        let buckets: Vec<Buckets> = parts
            .iter()
            .map(|rows| {
                let c = columns(rows);
                let (groups, places) = (Codes::U8(&c.groups), Codes::U16(&c.places));
                Buckets::new(groups, GROUPS, &c.persons, places, c.selection.as_ref()).unwrap()
            })
            .collect();
        let mut counter = DistinctByGroup::new(PERSONS, GROUPS, levels()).unwrap();
        for group in groups {
            for own in &buckets {
                counter.add_bucket(group, own).unwrap();
            }
        }
        counter.finish()
    }

    fn by_group_in_order(rows: &[Row]) -> DistinctCounts {
        let mut rows = rows.to_vec();
        rows.sort_by_key(|row| row.group);
        let mut counter = DistinctByGroup::new(PERSONS, GROUPS, levels()).unwrap();
        for own in rows.chunk_by(|a, b| a.group == b.group) {
            let group = u32::from(own[0].group);
            for part in own.chunks(3) {
                let c = columns(part);
                counter
                    .add(
                        group,
                        &c.persons,
                        Codes::U16(&c.places),
                        c.selection.as_ref(),
                    )
                    .unwrap();
            }
        }
        counter.finish()
    }

    fn by_person(rows: &[Row]) -> DistinctCounts {
        let mut rows = rows.to_vec();
        rows.sort_by_key(|row| row.person);
        let mut counter = DistinctByPerson::new(GROUPS, levels()).unwrap();
        for part in rows.chunks(7) {
            let c = columns(part);
            let (groups, places) = (Codes::U8(&c.groups), Codes::U16(&c.places));
            counter
                .add(groups, &c.persons, places, c.selection.as_ref())
                .unwrap();
        }
        counter.finish()
    }

    fn sets(rows: &[Row]) -> DistinctSets {
        let mut sets = DistinctSets::new(GROUPS * PLACES);
        let c = columns(rows);
        let cells: Vec<u32> = rows
            .iter()
            .map(|row| u32::from(row.group) * PLACES + u32::from(row.place))
            .collect();
        sets.add(Codes::U32(&cells), &c.persons, c.selection.as_ref())
            .unwrap();
        sets
    }

    /// The region of every cell of groups and places.
    fn region_cells() -> Vec<u32> {
        (0..GROUPS * PLACES)
            .map(|cell| cell / PLACES * REGION_COUNT + REGIONS[(cell % PLACES) as usize])
            .collect()
    }

    fn rows() -> impl Strategy<Value = Vec<Row>> {
        let row = (
            0..GROUPS as u8,
            0..PERSONS,
            0..PLACES as u16,
            proptest::bool::weighted(0.9),
        )
            .prop_map(|(group, person, place, selected)| Row {
                group,
                person,
                place,
                selected,
            });
        proptest::collection::vec(row, 0..200)
    }

    /// Scattered numbers and whole stretches of them.
    fn persons() -> impl Strategy<Value = Vec<u32>> {
        let scattered =
            proptest::collection::vec(prop_oneof![0u32..20, 0u32..100_000, any::<u32>()], 0..300);
        let stretch = (0u32..200_000, 0u32..9_000, 1u32..4)
            .prop_map(|(from, count, step)| (from..from + count * step).step_by(step as usize));
        (scattered, proptest::collection::vec(stretch, 0..2)).prop_map(
            |(mut persons, stretches)| {
                persons.extend(stretches.into_iter().flatten());
                persons
            },
        )
    }

    fn encode(set: &PersonNumbers) -> Vec<u8> {
        let mut bytes = Vec::new();
        set.encode_into(&mut bytes);
        bytes
    }

    proptest! {
        #![proptest_config(laws())]

        #[test]
        fn every_way_of_counting_equals_the_definition(rows in rows(), cut in 0usize..200) {
            let expected = naive(&rows);
            let (left, right) = rows.split_at(cut.min(rows.len()));
            prop_assert_eq!(&by_group(&[left, right], 0..GROUPS).counts, &expected);
            prop_assert_eq!(&by_group(&[&rows], (0..GROUPS).rev()).counts, &expected);
            prop_assert_eq!(&by_group_in_order(&rows).counts, &expected);
            prop_assert_eq!(&by_person(&rows).counts, &expected);
            let sets = sets(&rows);
            prop_assert_eq!(&sets.counts(), &expected[0]);
            let regions = sets.roll_up(&region_cells(), GROUPS * REGION_COUNT).unwrap();
            prop_assert_eq!(&regions.counts(), &expected[1]);
        }

        #[test]
        fn counts_of_parts_without_common_groups_or_persons_add_up(rows in rows()) {
            let expected = naive(&rows);
            let mut counts = by_group(&[&rows], [3, 0].into_iter());
            counts.merge(&by_group(&[&rows], [2, 1].into_iter())).unwrap();
            prop_assert_eq!(&counts.counts, &expected);
            prop_assert!(counts.merge(&by_group(&[&rows], [2].into_iter())).is_err());

            let (low, high): (Vec<Row>, Vec<Row>) = rows.iter().partition(|row| row.person < 20);
            let mut counts = by_person(&high);
            counts.merge(&by_person(&low)).unwrap();
            prop_assert_eq!(&counts.counts, &expected);
        }

        #[test]
        fn merged_sets_are_the_whole_and_roll_up_alike(rows in rows(), parts in 1usize..5) {
            let whole = sets(&rows);
            let part = |at: usize| -> Vec<Row> {
                rows.iter().skip(at).step_by(parts).copied().collect()
            };
            let mut merged = DistinctSets::new(GROUPS * PLACES);
            let mut from_bytes = merged.clone();
            let mut rolled = DistinctSets::new(GROUPS * REGION_COUNT);
            for at in (0..parts).rev() {
                let own = sets(&part(at));
                merged.merge(&own).unwrap();
                from_bytes.merge_bytes(&own.encode()).unwrap();
                rolled
                    .merge(&own.roll_up(&region_cells(), GROUPS * REGION_COUNT).unwrap())
                    .unwrap();
            }
            prop_assert_eq!(&merged, &whole);
            prop_assert_eq!(&from_bytes, &whole);
            prop_assert_eq!(from_bytes.encode(), whole.encode());
            let expected = whole.roll_up(&region_cells(), GROUPS * REGION_COUNT).unwrap();
            prop_assert_eq!(rolled.encode(), expected.encode());
        }

        #[test]
        fn equal_sets_have_equal_bytes_however_they_came_to_be(persons in persons(), cut in 0usize..400) {
            let expected: BTreeSet<u32> = persons.iter().copied().collect();
            let set: PersonNumbers = persons.iter().copied().collect();
            prop_assert!(set.iter().eq(expected.iter().copied()));
            prop_assert_eq!(set.len(), expected.len() as u64);
            let bytes = encode(&set);

            let (left, right) = persons.split_at(cut.min(persons.len()));
            let mut united: PersonNumbers = right.iter().rev().copied().collect();
            united.union(&left.iter().copied().collect());
            prop_assert_eq!(&encode(&united), &bytes);

            // From runs, which never arise here, but may come in a state.
            let mut runs: RoaringBitmap = expected.iter().copied().collect();
            runs.optimize();
            let mut foreign = vec![FORM_ROARING];
            runs.serialize_into(&mut foreign).unwrap();
            let foreign = PersonNumbers::decode(&foreign).unwrap();
            prop_assert_eq!(&encode(&foreign), &bytes);
            let mut grown = foreign;
            grown.union(&left.iter().copied().collect());
            prop_assert_eq!(&encode(&grown), &bytes);

            prop_assert_eq!(PersonNumbers::decode(&bytes).unwrap(), set);
        }

        #[test]
        fn any_bytes_are_a_state_or_an_error(form in 0u8..4, mut bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            bytes.insert(0, form);
            if let Ok(set) = PersonNumbers::decode(&bytes) {
                prop_assert_eq!(PersonNumbers::decode(&encode(&set)).unwrap(), set);
            }
            let mut sets = DistinctSets::new(9);
            let _refused_or_not = sets.merge_bytes(&bytes);
            bytes.insert(1, 9);
            let _refused_or_not = sets.merge_bytes(&bytes);
        }

        #[test]
        fn a_state_cut_short_is_refused(persons in persons(), cut in 0usize..10_000) {
            let bytes = encode(&persons.iter().copied().collect());
            if bytes.len() > 1 && bytes[0] == FORM_ROARING {
                prop_assert!(PersonNumbers::decode(&bytes[..1 + cut % (bytes.len() - 1)]).is_err());
            }
        }
    }

    #[test]
    fn a_set_grows_through_all_its_forms() {
        let mut set = PersonNumbers::default();
        assert!(encode(&set).is_empty());
        for count in 1..=600u64 {
            set.insert((count as u32 * 7_919) % 4_001);
            set.insert(7_919);
            let bytes = encode(&set);
            assert_eq!(bytes[0], if set.len() <= LIST { 1 } else { 2 });
            assert_eq!(PersonNumbers::decode(&bytes).unwrap(), set);
            assert_eq!(matches!(set.held, Held::Few(..)), set.len() <= FEW as u64);
        }
    }

    #[test]
    fn the_bytes_of_a_state_are_these() {
        let bytes = |persons: &[u32]| encode(&persons.iter().copied().collect());
        assert!(bytes(&[]).is_empty());
        assert_eq!(bytes(&[300, 0, 5]), [1, 0, 4, 0xa6, 0x02]);
        assert_eq!(bytes(&[u32::MAX]), [1, 0xff, 0xff, 0xff, 0xff, 0x0f]);
        // One run of 1 000: cookie of run containers, key and length, first and length of the run.
        let all: Vec<u32> = (0..1_000).collect();
        assert_eq!(
            bytes(&all),
            [
                2, 0x3b, 0x30, 0, 0, 1, 0, 0, 0xe7, 0x03, 1, 0, 0, 0, 0xe7, 0x03
            ]
        );
    }

    #[test]
    fn stamps_begin_anew_before_they_run_out() {
        let mut counter = DistinctByGroup::new(3, GROUPS, Levels::new(PLACES)).unwrap();
        counter.base = u32::MAX - 2 * PLACES;
        for group in 0..GROUPS {
            for _ in 0..2 {
                counter
                    .add(group, &[0, 1, 1, 0], Codes::U8(&[5, 5, 2, 5]), None)
                    .unwrap();
            }
        }
        assert!(counter.base < 3 * PLACES);
        let counts = counter.finish();
        for group in 0..GROUPS {
            assert_eq!(counts.get(0, group, 5), 2);
            assert_eq!(counts.get(0, group, 2), 1);
        }
        assert_eq!(counts.get(0, 0, PLACES), 0);
        assert_eq!(counts.get(1, 0, 0), 0);
    }

    #[test]
    fn rows_that_lie_otherwise_than_promised_are_refused() {
        let mut counter = DistinctByGroup::new(9, GROUPS, levels()).unwrap();
        let place = Codes::U8(&[1]);
        counter.add(0, &[1], place, None).unwrap();
        counter.add(1, &[1], place, None).unwrap();
        let error = counter.add(0, &[1], place, None).unwrap_err();
        assert!(error.strip_backtrace().contains("bucket them first"));
        assert!(counter.add(GROUPS, &[1], place, None).is_err());
        assert!(counter.add(1, &[9], place, None).is_err());
        assert!(counter.add(1, &[1], Codes::U8(&[6]), None).is_err());
        assert!(counter.add(1, &[1, 2], place, None).is_err());

        let mut counter = DistinctByPerson::new(GROUPS, levels()).unwrap();
        let (group, places) = (Codes::U8(&[0, 0]), Codes::U8(&[1, 1]));
        counter.add(group, &[3, 4], places, None).unwrap();
        let error = counter.add(group, &[3, 5], places, None).unwrap_err();
        assert!(error.strip_backtrace().contains("order of persons"));
        assert!(counter.add(group, &[5, 4], places, None).is_err());
        let one = BooleanBuffer::from(vec![false, true]);
        assert!(counter.add(group, &[9, 3], places, Some(&one)).is_err());
        counter.add(group, &[9, 4], places, Some(&one)).unwrap();
        assert!(counter.add(group, &[u32::MAX; 2], places, None).is_err());
        let counts = counter.finish();
        assert_eq!(counts.get(0, 0, 1), 2);

        let other = DistinctByPerson::new(GROUPS, Levels::new(PLACES)).unwrap();
        assert!(counts.clone().merge(&other.finish()).is_err());
        assert!(counts.clone().merge(&counts).is_err());
        assert!(Levels::new(3).with(&[1, 0, 0], 2).is_err());
        assert!(DistinctByPerson::new(u32::MAX, Levels::new(u32::MAX)).is_err());
        assert!(DistinctSets::new(2).merge(&DistinctSets::new(3)).is_err());
        assert!(
            DistinctSets::new(2)
                .merge_bytes(&DistinctSets::new(3).encode())
                .is_err()
        );
        assert!(DistinctSets::new(2).merge_bytes(&[7]).is_err());
    }

    #[test]
    fn no_rows_are_nobody() {
        assert!(
            by_group(&[&[]], 0..GROUPS)
                .counts
                .iter()
                .flatten()
                .all(|n| *n == 0)
        );
        assert!(by_person(&[]).counts.iter().flatten().all(|n| *n == 0));
        assert_eq!(count(&[Value::Bytes(&[])]).unwrap(), Some(0));
    }

    #[test]
    fn the_size_of_a_set_follows_its_content() {
        let scattered: PersonNumbers = numbers(20_000, 5_600_000).map(|n| n as u32).collect();
        let per_person = scattered.heap_bytes() as f64 / scattered.len() as f64;
        assert!((2.0..8.0).contains(&per_person), "{per_person}");
        let few: PersonNumbers = (0..6).collect();
        assert_eq!(few.heap_bytes(), 0);
        assert_eq!(size_of::<PersonNumbers>(), 32);
    }

    #[test]
    fn cells_obey_the_laws_of_aggregates() {
        let persons: Vec<Value<'_>> = numbers(3_000, 2_000)
            .map(|n| Value::Whole(n as i64))
            .collect();
        for count in [0, 1, 5, 300, 3_000] {
            let state = check_laws::<PersonNumbers>(&persons[..count]);
            assert_eq!(check_laws::<PersonCount>(&persons[..count]), state);
        }
        assert!(Cell::add(&mut PersonNumbers::default(), Value::Whole(-1)).is_err());
        assert!(Cell::add(&mut PersonNumbers::default(), Value::Whole(1 << 32)).is_err());
        assert!(Cell::add(&mut PersonNumbers::default(), Value::Real(1.0)).is_err());
        assert!(Cell::merge(&mut PersonNumbers::default(), &[9]).is_err());
        assert!(count(&[Value::Whole(1)]).is_err());
    }

    #[test]
    fn grouped_filtered_spilled_and_emitted_in_parts_the_result_is_the_same() {
        let values: Vec<Option<i64>> = numbers(2_000, 700)
            .map(|n| (n % 7 != 0).then_some(n as i64))
            .collect();
        let groups: Vec<usize> = numbers(2_000, 13).map(|n| n as usize).collect();
        let keep: Vec<Option<bool>> = numbers(2_000, 5)
            .map(|n| (n != 0).then_some(n != 1))
            .collect();
        // Groups 13 and 14 have no rows.
        let total = 15;
        let mut expected = vec![BTreeSet::new(); total];
        for ((value, group), keep) in values.iter().zip(&groups).zip(&keep) {
            if let (Some(value), Some(true)) = (value, keep) {
                expected[*group].insert(*value);
            }
        }
        let values: ArrayRef = Arc::new(Int64Array::from(values));
        let filter = BooleanArray::from(keep);
        let [persons, state, union] = aggregates().try_into().unwrap();
        let found = check_grouped(&persons, &values, &groups, &filter, total);
        let found: Vec<i64> = found.as_primitive::<Int64Type>().values().to_vec();
        let counts: Vec<i64> = expected.iter().map(|set| set.len() as i64).collect();
        assert_eq!(found, counts);

        let states = check_grouped(&state, &values, &groups, &filter, total);
        for (row, set) in expected.iter().enumerate() {
            let state = states.as_binary::<i32>().value(row);
            let members = PersonNumbers::decode(state).unwrap();
            assert!(members.iter().map(i64::from).eq(set.iter().copied()));
        }
        let pairs: Vec<usize> = (0..total).map(|row| row / 2).collect();
        let all = BooleanArray::from(vec![true; total]);
        let united = check_grouped(&union, &states, &pairs, &all, total.div_ceil(2));
        for (row, pair) in expected.chunks(2).enumerate() {
            let set: BTreeSet<i64> = pair.iter().flatten().copied().collect();
            let state = united.as_binary::<i32>().value(row);
            assert_eq!(
                count(&[Value::Bytes(state)]).unwrap(),
                Some(set.len() as i64)
            );
        }
        assert_eq!(united.null_count(), 0);
    }
}
