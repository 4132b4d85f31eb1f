//! Many grouped statistics in one pass over the rows.
//!
//! Sixty indicators of one relation differ in their filters, amounts and breakdowns, and share
//! nearly everything else: the scan, the area, the month, the person. [`Cells`] takes each batch
//! once. Every key column becomes small codes once, every combination of key columns becomes a cell
//! number once (those that begin alike share their beginning), every person becomes a number once;
//! then each group adds its rows to arrays addressed by cell.
//!
//! - *Result*: per group and cell the number of rows, sums of whole numbers, histograms of days and
//!   sets of members, each equal to what `count(*)`, `sum`, `day_histogram` and `person_set` give
//!   under `GROUP BY`, to the bit. A null key is a group of its own; a null amount, day or member
//!   counts for nothing; a filter that is null keeps the row out; a cell without rows does not exist.
//! - *Exactness*: sums are kept in 128 bits and must fit 64 bits at the end, or the scan is an error.
//! - *Time*: n rows, k distinct key columns, g groups: O(n·(k + g)); a set also sorts its distinct
//!   pairs of cell and member.
//! - *Memory*: proportional to cells and to distinct pairs of cell and member, not to rows; see
//!   [`Cells::heap_bytes`].
//! - *Merge*: the other part's codes are translated, then everything is added. Any split of the rows
//!   and any order of merging gives the same result; the order of the rows of a result is not part of
//!   it.
//!
//! What may not live here: where rows come from, and what an indicator is. To add a statistic: a
//! field of [`GroupSpec`], its state in [`Group`], and a column of [`GroupRows`].

use std::hash::BuildHasher;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, BooleanArray, Date32Array, Int64Array,
    StringArray, StringViewArray,
};
use arrow::datatypes::{DataType, Date32Type, Int64Type};
use datafusion_common::{DataFusionError, Result, exec_err};
use hashbrown::{DefaultHashBuilder, HashTable};

use crate::cell::{Cell, Value};
use crate::day_histogram::DayHistogram;

/// Bytes of a member of a set.
const WIDTH: usize = 16;
/// A grid of cell numbers may have this many places before a hash table takes over.
const MOST_PLACES: usize = 1 << 22;
/// Days from 1970-01-01 that are looked up in an array; others are hashed.
const DENSE_DAYS: i32 = 1 << 16;
/// Pairs of cell and member are folded when this many have come, and when they have doubled.
const FOLD_AT: usize = 1 << 16;
/// The code of no member.
const NOBODY: u32 = u32::MAX;

/// What a column of the input is for, and so its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CellColumn {
    /// A key of text (`Utf8View`).
    Text,
    /// A key that is a day (`Date32`).
    Day,
    /// A key that is the first day of the month of the given day (`Date32`).
    Month,
    /// Which rows count (`Boolean`).
    Filter,
    /// Whole numbers (`Int64`), to add or to count by.
    Whole,
    /// Members of a set: 16 bytes each (`Binary`).
    Member,
}

impl CellColumn {
    /// The type that [`Cells::update`] takes.
    pub fn data_type(self) -> DataType {
        match self {
            CellColumn::Text => DataType::Utf8View,
            CellColumn::Day | CellColumn::Month => DataType::Date32,
            CellColumn::Filter => DataType::Boolean,
            CellColumn::Whole => DataType::Int64,
            CellColumn::Member => DataType::Binary,
        }
    }
}

/// The columns of the input, the keys over them, and the groups over the keys.
#[derive(Debug, Clone, Default)]
pub struct CellSpec {
    /// The columns, in the order of the batches.
    pub columns: Vec<CellColumn>,
    /// Key columns by number, one list for each way of grouping. Lists that begin alike share work.
    pub keys: Vec<Vec<usize>>,
    /// What is computed.
    pub groups: Vec<GroupSpec>,
}

/// Statistics of the rows that pass one filter, grouped by one key. Columns are numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupSpec {
    /// The key, by its place in [`CellSpec::keys`].
    pub key: usize,
    /// The filter's column; `None` takes every row.
    pub filter: Option<usize>,
    /// Columns to add.
    pub sums: Vec<usize>,
    /// Columns of days to count by.
    pub histograms: Vec<usize>,
    /// Columns of members.
    pub sets: Vec<usize>,
}

/// The result of one group: a row for each cell with rows. The order is not defined.
#[derive(Debug)]
pub struct GroupRows {
    /// The key's columns: `Utf8` or `Date32`.
    pub keys: Vec<ArrayRef>,
    /// Rows.
    pub counts: Int64Array,
    /// Sums; null where every amount was null.
    pub sums: Vec<Int64Array>,
    /// Histograms, as `day_histogram` gives them.
    pub histograms: Vec<BinaryArray>,
    /// Sets, as `person_set` gives them.
    pub sets: Vec<BinaryArray>,
}

/// Statistics being built.
#[derive(Debug)]
pub struct Cells {
    spec: CellSpec,
    codes: Vec<Codes>,
    /// A tree of keys: each node adds one column to its parent.
    nodes: Vec<Node>,
    /// The node of each key.
    key_nodes: Vec<usize>,
    groups: Vec<Group>,
    /// Codes of each column and cells of each node, of the batch in hand.
    column_codes: Vec<Vec<u32>>,
    node_cells: Vec<Vec<u32>>,
    selected: Vec<u32>,
}

#[derive(Debug)]
struct Node {
    parent: Option<usize>,
    column: usize,
    pairs: PairIndex,
}

#[derive(Debug, Default)]
struct Group {
    counts: Vec<u64>,
    sums: Vec<Sums>,
    histograms: Vec<Vec<DayHistogram>>,
    histogram_bytes: usize,
    sets: Vec<SetState>,
}

#[derive(Debug, Default)]
struct Sums {
    totals: Vec<i128>,
    seen: Vec<bool>,
}

impl Cells {
    /// Empty statistics.
    ///
    /// # Errors
    /// When a number of the specification names nothing, or a column of another use.
    pub fn new(spec: CellSpec) -> Result<Self> {
        check(&spec)?;
        let codes = spec.columns.iter().map(|column| Codes::of(*column));
        let codes = codes.collect();
        let mut nodes: Vec<Node> = Vec::new();
        let mut key_nodes = Vec::new();
        for key in &spec.keys {
            let mut parent = None;
            for column in key {
                let known = nodes
                    .iter()
                    .position(|node| node.parent == parent && node.column == *column);
                parent = Some(known.unwrap_or_else(|| {
                    nodes.push(Node {
                        parent,
                        column: *column,
                        pairs: PairIndex::default(),
                    });
                    nodes.len() - 1
                }));
            }
            key_nodes.push(parent.unwrap_or_default());
        }
        let groups = spec.groups.iter().map(Group::of).collect();
        Ok(Self {
            codes,
            node_cells: vec![Vec::new(); nodes.len()],
            column_codes: vec![Vec::new(); spec.columns.len()],
            nodes,
            key_nodes,
            groups,
            selected: Vec::new(),
            spec,
        })
    }

    /// Takes in a batch: its columns in the order and types of the specification.
    ///
    /// # Errors
    /// When the columns are not those of the specification, a member has not 16 bytes, or a number
    /// of days is out of range.
    pub fn update(&mut self, columns: &[ArrayRef]) -> Result<()> {
        let rows = columns.first().map_or(0, |column| column.len());
        if columns.len() != self.spec.columns.len()
            || columns.iter().any(|column| column.len() != rows)
        {
            return exec_err!("a batch does not have the columns of its scan");
        }
        for (place, column) in columns.iter().enumerate() {
            let codes = take_slot(&mut self.column_codes, place);
            let codes = match self.codes.get_mut(place) {
                Some(coder) => coder.codes(column, codes)?,
                None => codes,
            };
            put_slot(&mut self.column_codes, place, codes);
        }
        for place in 0..self.nodes.len() {
            let mut cells = take_slot(&mut self.node_cells, place);
            cells.clear();
            if let Some(node) = self.nodes.get_mut(place) {
                let own = slot(&self.column_codes, node.column);
                match node.parent {
                    None => cells.extend_from_slice(own),
                    Some(parent) => {
                        node.pairs
                            .cells(slot(&self.node_cells, parent), own, &mut cells)
                    }
                }
            }
            put_slot(&mut self.node_cells, place, cells);
        }
        let mut selected = std::mem::take(&mut self.selected);
        for (group, spec) in self.groups.iter_mut().zip(&self.spec.groups) {
            let node = self.key_nodes.get(spec.key).copied().unwrap_or_default();
            let cells = slot(&self.node_cells, node);
            select(&mut selected, rows, filter_of(columns, spec.filter));
            group.update(spec, columns, &self.column_codes, cells, &selected)?;
        }
        self.selected = selected;
        Ok(())
    }

    /// Takes in the statistics of other rows of the same specification.
    ///
    /// # Errors
    /// When the other part was made for another scan.
    pub fn merge(&mut self, mut other: Cells) -> Result<()> {
        if other.codes.len() != self.codes.len() || other.groups.len() != self.groups.len() {
            return exec_err!("parts of different scans cannot be merged");
        }
        let mut code_maps = Vec::with_capacity(self.codes.len());
        for (own, others) in self.codes.iter_mut().zip(&other.codes) {
            code_maps.push(own.absorb(others)?);
        }
        let mut cell_maps: Vec<Vec<u32>> = Vec::with_capacity(self.nodes.len());
        for (own, others) in self.nodes.iter_mut().zip(&other.nodes) {
            let map = match own.parent {
                None => slot(&code_maps, own.column).to_vec(),
                Some(parent) => {
                    let parents = slot(&cell_maps, parent);
                    let columns = slot(&code_maps, own.column);
                    let pairs = others.pairs.pairs.iter();
                    pairs
                        .map(|(a, b)| own.pairs.cell(mapped(parents, *a), mapped(columns, *b)))
                        .collect()
                }
            };
            cell_maps.push(map);
        }
        for (place, spec) in self.spec.groups.iter().enumerate() {
            let node = self.key_nodes.get(spec.key).copied().unwrap_or_default();
            let cells = slot(&cell_maps, node);
            if let (Some(own), Some(others)) =
                (self.groups.get_mut(place), other.groups.get_mut(place))
            {
                own.merge(spec, others, cells, &code_maps)?;
            }
        }
        Ok(())
    }

    /// Bytes held on the heap, the buffers of the batch in hand left out.
    pub fn heap_bytes(&self) -> usize {
        let codes: usize = self.codes.iter().map(Codes::heap_bytes).sum();
        let nodes: usize = self.nodes.iter().map(|node| node.pairs.heap_bytes()).sum();
        let groups: usize = self.groups.iter().map(Group::heap_bytes).sum();
        codes + nodes + groups
    }

    /// The rows of a group, by its place in [`CellSpec::groups`].
    ///
    /// # Errors
    /// When a sum does not fit 64 bits, or the sets do not fit one column (2 GiB).
    pub fn rows(&mut self, group: usize) -> Result<GroupRows> {
        let (Some(spec), Some(state)) = (self.spec.groups.get(group), self.groups.get_mut(group))
        else {
            return exec_err!("there is no group {group}");
        };
        let present: Vec<u32> = (0u32..)
            .zip(&state.counts)
            .filter(|(_, count)| **count > 0)
            .map(|(cell, _)| cell)
            .collect();
        let key = self.spec.keys.get(spec.key).cloned().unwrap_or_default();
        let mut keys = Vec::with_capacity(key.len());
        let mut cells = present.clone();
        let mut node = self.key_nodes.get(spec.key).copied();
        for column in key.iter().rev() {
            let Some(at) = node.and_then(|place| self.nodes.get(place)) else {
                break;
            };
            let own: Vec<u32> = match at.parent {
                None => cells.clone(),
                Some(_) => {
                    let pairs = cells.iter().map(|cell| at.pairs.pair(*cell));
                    let (parents, own): (Vec<u32>, Vec<u32>) = pairs.unzip();
                    cells = parents;
                    own
                }
            };
            if let Some(codes) = self.codes.get(*column) {
                keys.push(codes.values(&own));
            }
            node = at.parent;
        }
        keys.reverse();
        let counts = present
            .iter()
            .map(|cell| i64::try_from(at(&state.counts, *cell)).unwrap_or(i64::MAX))
            .collect();
        let sums = state.sums.iter().map(|sums| sums.finish(&present));
        let sums = sums.collect::<Result<_>>()?;
        let histograms = state.histograms.iter_mut();
        let histograms = histograms
            .map(|histograms| encoded(histograms, &present))
            .collect();
        let mut sets = Vec::with_capacity(spec.sets.len());
        for (set, column) in state.sets.iter_mut().zip(&spec.sets) {
            match self.codes.get(*column) {
                Some(Codes::Member(members)) => sets.push(set.finish(members, &present)?),
                _ => return exec_err!("a set has no members"),
            }
        }
        Ok(GroupRows {
            keys,
            counts,
            sums,
            histograms,
            sets,
        })
    }
}

fn check(spec: &CellSpec) -> Result<()> {
    let is = |column: &usize, wanted: &[CellColumn]| {
        spec.columns
            .get(*column)
            .is_some_and(|use_of| wanted.contains(use_of))
    };
    let keys = [CellColumn::Text, CellColumn::Day, CellColumn::Month];
    let keys_fit = spec
        .keys
        .iter()
        .all(|key| !key.is_empty() && key.iter().all(|column| is(column, &keys)));
    let groups_fit = spec.groups.iter().all(|group| {
        group.key < spec.keys.len()
            && group.filter.iter().all(|c| is(c, &[CellColumn::Filter]))
            && group.sums.iter().all(|c| is(c, &[CellColumn::Whole]))
            && group.histograms.iter().all(|c| is(c, &[CellColumn::Whole]))
            && group.sets.iter().all(|c| is(c, &[CellColumn::Member]))
    });
    if keys_fit && groups_fit {
        Ok(())
    } else {
        exec_err!("the groups of a scan name columns that it does not have")
    }
}

fn slot<T>(lists: &[Vec<T>], place: usize) -> &[T] {
    lists.get(place).map_or(&[], Vec::as_slice)
}

fn take_slot<T>(lists: &mut [Vec<T>], place: usize) -> Vec<T> {
    lists.get_mut(place).map(std::mem::take).unwrap_or_default()
}

fn put_slot<T>(lists: &mut [Vec<T>], place: usize, list: Vec<T>) {
    if let Some(place) = lists.get_mut(place) {
        *place = list;
    }
}

fn mapped(map: &[u32], code: u32) -> u32 {
    map.get(code as usize).copied().unwrap_or(code)
}

fn at<T: Copy + Default>(values: &[T], cell: u32) -> T {
    values.get(cell as usize).copied().unwrap_or_default()
}

/// The place of a cell, made when it is not there yet.
fn grown<T: Clone + Default>(values: &mut Vec<T>, cells: usize) {
    if values.len() < cells {
        values.resize(cells.next_power_of_two(), T::default());
    }
}

fn filter_of(columns: &[ArrayRef], filter: Option<usize>) -> Option<&BooleanArray> {
    columns.get(filter?)?.as_boolean_opt()
}

/// The numbers of the rows that a filter lets through.
fn select(selected: &mut Vec<u32>, rows: usize, filter: Option<&BooleanArray>) {
    selected.clear();
    let Some(filter) = filter else {
        selected.extend(0..rows as u32);
        return;
    };
    match filter.nulls() {
        None => selected.extend(filter.values().set_indices().map(|row| row as u32)),
        Some(valid) => {
            let passes = filter.values() & valid.inner();
            selected.extend(passes.set_indices().map(|row| row as u32));
        }
    }
}

impl Group {
    fn of(spec: &GroupSpec) -> Self {
        Self {
            counts: Vec::new(),
            sums: spec.sums.iter().map(|_| Sums::default()).collect(),
            histograms: spec.histograms.iter().map(|_| Vec::new()).collect(),
            histogram_bytes: 0,
            sets: spec.sets.iter().map(|_| SetState::default()).collect(),
        }
    }

    fn update(
        &mut self,
        spec: &GroupSpec,
        columns: &[ArrayRef],
        codes: &[Vec<u32>],
        cells: &[u32],
        selected: &[u32],
    ) -> Result<()> {
        let highest = selected
            .iter()
            .filter_map(|row| cells.get(*row as usize))
            .max();
        let Some(needed) = highest.map(|cell| *cell as usize + 1) else {
            return Ok(());
        };
        grown(&mut self.counts, needed);
        for row in selected {
            let cell = at(cells, *row);
            if let Some(count) = self.counts.get_mut(cell as usize) {
                *count += 1;
            }
        }
        for (sums, column) in self.sums.iter_mut().zip(&spec.sums) {
            if let Some(amounts) = whole(columns, *column) {
                sums.update(amounts, cells, selected, needed);
            }
        }
        for (histograms, column) in self.histograms.iter_mut().zip(&spec.histograms) {
            let Some(days) = whole(columns, *column) else {
                continue;
            };
            grown(histograms, needed);
            for row in selected {
                let row = *row as usize;
                if days.is_valid(row)
                    && let Some(histogram) = histograms.get_mut(at(cells, row as u32) as usize)
                {
                    let before = histogram.heap_bytes();
                    histogram.add(Value::Whole(days.value(row)))?;
                    self.histogram_bytes += histogram.heap_bytes().saturating_sub(before);
                }
            }
        }
        for (set, column) in self.sets.iter_mut().zip(&spec.sets) {
            set.update(slot(codes, *column), cells, selected);
        }
        Ok(())
    }

    fn merge(
        &mut self,
        spec: &GroupSpec,
        other: &mut Group,
        cells: &[u32],
        code_maps: &[Vec<u32>],
    ) -> Result<()> {
        let needed = cells.iter().max().map_or(0, |cell| *cell as usize + 1);
        grown(&mut self.counts, needed);
        for (count, cell) in other.counts.iter().zip(cells) {
            if let Some(own) = self.counts.get_mut(*cell as usize) {
                *own += count;
            }
        }
        for (own, others) in self.sums.iter_mut().zip(&other.sums) {
            grown(&mut own.totals, needed);
            grown(&mut own.seen, needed);
            for ((total, seen), cell) in others.totals.iter().zip(&others.seen).zip(cells) {
                own.add(*cell, *total, *seen);
            }
        }
        for (own, others) in self.histograms.iter_mut().zip(&mut other.histograms) {
            grown(own, needed);
            for (histogram, cell) in others.iter_mut().zip(cells) {
                let mut state = Vec::new();
                histogram.encode(&mut state);
                if let Some(own) = own.get_mut(*cell as usize) {
                    own.merge(&state)?;
                }
            }
        }
        self.histogram_bytes += other.histogram_bytes;
        for ((own, others), column) in self.sets.iter_mut().zip(&other.sets).zip(&spec.sets) {
            own.merge(others, cells, slot(code_maps, *column));
        }
        Ok(())
    }

    fn heap_bytes(&self) -> usize {
        let sums: usize = self
            .sums
            .iter()
            .map(|sums| sums.totals.capacity() * 17)
            .sum();
        let sets: usize = self.sets.iter().map(SetState::heap_bytes).sum();
        let histograms: usize = self
            .histograms
            .iter()
            .map(|of| of.capacity() * size_of::<DayHistogram>())
            .sum();
        self.counts.capacity() * 8 + sums + sets + histograms + self.histogram_bytes
    }
}

fn whole(columns: &[ArrayRef], column: usize) -> Option<&Int64Array> {
    columns.get(column)?.as_primitive_opt::<Int64Type>()
}

impl Sums {
    fn update(&mut self, amounts: &Int64Array, cells: &[u32], selected: &[u32], needed: usize) {
        grown(&mut self.totals, needed);
        grown(&mut self.seen, needed);
        for row in selected {
            let row = *row as usize;
            if amounts.is_valid(row) {
                self.add(at(cells, row as u32), i128::from(amounts.value(row)), true);
            }
        }
    }

    fn add(&mut self, cell: u32, amount: i128, seen: bool) {
        let cell = cell as usize;
        if let (Some(total), Some(known)) = (self.totals.get_mut(cell), self.seen.get_mut(cell)) {
            *total += amount;
            *known |= seen;
        }
    }

    fn finish(&self, present: &[u32]) -> Result<Int64Array> {
        let sums = present.iter().map(|cell| {
            if !at(&self.seen, *cell) {
                return Ok(None);
            }
            match i64::try_from(at(&self.totals, *cell)) {
                Ok(sum) => Ok(Some(sum)),
                Err(_) => exec_err!("a sum is beyond 64 bits"),
            }
        });
        sums.collect()
    }
}

fn encoded(histograms: &mut [DayHistogram], present: &[u32]) -> BinaryArray {
    let mut builder = BinaryBuilder::new();
    let mut state = Vec::new();
    for cell in present {
        state.clear();
        if let Some(histogram) = histograms.get_mut(*cell as usize) {
            histogram.encode(&mut state);
        }
        builder.append_value(&state);
    }
    builder.finish()
}

/// Distinct pairs of cell and member.
#[derive(Debug, Default)]
struct SetState {
    /// By member, the last cell it was seen in, plus one. Rows of a person lie near each other, so
    /// that most repetitions end here.
    last: Vec<u32>,
    /// Cell in the upper half, member in the lower.
    pairs: Vec<u64>,
    folded: usize,
}

impl SetState {
    fn update(&mut self, members: &[u32], cells: &[u32], selected: &[u32]) {
        for row in selected {
            let member = members.get(*row as usize).copied().unwrap_or(NOBODY);
            if member != NOBODY {
                self.put(at(cells, *row), member);
            }
        }
        if self.pairs.len() > FOLD_AT.max(2 * self.folded) {
            self.fold();
        }
    }

    fn put(&mut self, cell: u32, member: u32) {
        let place = member as usize;
        if place >= self.last.len() {
            self.last.resize((place + 1).next_power_of_two(), 0);
        }
        if let Some(last) = self.last.get_mut(place)
            && *last != cell.wrapping_add(1)
        {
            *last = cell.wrapping_add(1);
            self.pairs.push(u64::from(cell) << 32 | u64::from(member));
        }
    }

    fn fold(&mut self) {
        self.pairs.sort_unstable();
        self.pairs.dedup();
        self.folded = self.pairs.len();
    }

    fn merge(&mut self, other: &SetState, cells: &[u32], members: &[u32]) {
        for pair in &other.pairs {
            let (cell, member) = ((pair >> 32) as u32, *pair as u32);
            self.put(mapped(cells, cell), mapped(members, member));
        }
    }

    /// The set of each cell, members in order.
    fn finish(&mut self, members: &MemberCodes, present: &[u32]) -> Result<BinaryArray> {
        // Once members are numbered in their own order, sorting pairs sorts the members of a cell.
        let mut by_value: Vec<u32> = (0..members.values.len() as u32).collect();
        by_value.sort_unstable_by_key(|code| at(&members.values, *code));
        let mut ranks = vec![0u32; by_value.len()];
        for (rank, code) in (0u32..).zip(&by_value) {
            if let Some(place) = ranks.get_mut(*code as usize) {
                *place = rank;
            }
        }
        for pair in &mut self.pairs {
            let rank = at(&ranks, *pair as u32);
            *pair = *pair & !u64::from(u32::MAX) | u64::from(rank);
        }
        self.fold();
        let bytes = self.pairs.len() * WIDTH;
        if i32::try_from(bytes).is_err() {
            return exec_err!("the sets of one component are beyond 2 GiB");
        }
        let mut builder = BinaryBuilder::with_capacity(present.len(), bytes);
        let mut state = Vec::new();
        let mut pairs = self.pairs.iter().peekable();
        for cell in present {
            state.clear();
            while let Some(pair) = pairs.next_if(|pair| (**pair >> 32) as u32 <= *cell) {
                let code = at(&by_value, *pair as u32);
                state.extend_from_slice(&at(&members.values, code).to_be_bytes());
            }
            builder.append_value(&state);
        }
        // The pairs now hold ranks: the state is spent.
        self.pairs = Vec::new();
        self.last = Vec::new();
        Ok(builder.finish())
    }

    fn heap_bytes(&self) -> usize {
        self.last.capacity() * 4 + self.pairs.capacity() * 8
    }
}

/// Cell numbers of pairs, in the order of their arrival.
#[derive(Debug, Default)]
struct PairIndex {
    pairs: Vec<(u32, u32)>,
    /// `grid[a * width + b]` is the cell plus one, or zero.
    grid: Vec<u32>,
    width: usize,
    /// Takes the place of the grid when that would be too large.
    hashed: Option<HashTable<u32>>,
    hasher: DefaultHashBuilder,
}

impl PairIndex {
    fn cells(&mut self, first: &[u32], second: &[u32], out: &mut Vec<u32>) {
        let mut last = None;
        for (a, b) in first.iter().zip(second) {
            let cell = match last {
                Some((pair, cell)) if pair == (*a, *b) => cell,
                _ => self.cell(*a, *b),
            };
            last = Some(((*a, *b), cell));
            out.push(cell);
        }
    }

    fn cell(&mut self, a: u32, b: u32) -> u32 {
        if self.hashed.is_none() && !self.fits(a, b) {
            self.enlarge(a, b);
        }
        if let Some(table) = &mut self.hashed {
            let (pairs, hasher) = (&mut self.pairs, &self.hasher);
            let hash = hasher.hash_one((a, b));
            let found = table.find(hash, |cell| pairs.get(*cell as usize) == Some(&(a, b)));
            if let Some(cell) = found {
                return *cell;
            }
            let cell = pairs.len() as u32;
            pairs.push((a, b));
            table.insert_unique(hash, cell, |cell| hasher.hash_one(at(pairs, *cell)));
            return cell;
        }
        let Some(place) = self.grid.get_mut(a as usize * self.width + b as usize) else {
            return 0;
        };
        if *place == 0 {
            self.pairs.push((a, b));
            *place = self.pairs.len() as u32;
        }
        *place - 1
    }

    fn fits(&self, a: u32, b: u32) -> bool {
        (b as usize) < self.width && a as usize * self.width + (b as usize) < self.grid.len()
    }

    /// A grid in which the pair has a place, or a hash table when that is too much.
    fn enlarge(&mut self, a: u32, b: u32) {
        let room = |highest: u32| (highest as usize + 1).next_power_of_two().max(8);
        let highest = |of: fn(&(u32, u32)) -> u32| self.pairs.iter().map(of).max().unwrap_or(0);
        let width = room(b.max(highest(|pair| pair.1)));
        let height = room(a.max(highest(|pair| pair.0)));
        let numbered = (0u32..).zip(&self.pairs);
        if width.saturating_mul(height) > MOST_PLACES {
            let mut table = HashTable::with_capacity(self.pairs.len());
            for (cell, pair) in numbered {
                let hash = self.hasher.hash_one(*pair);
                table.insert_unique(hash, cell, |cell| {
                    self.hasher.hash_one(at(&self.pairs, *cell))
                });
            }
            self.hashed = Some(table);
            self.grid = Vec::new();
            return;
        }
        let mut grid = vec![0; width * height];
        for (cell, (a, b)) in numbered {
            if let Some(place) = grid.get_mut(*a as usize * width + *b as usize) {
                *place = cell + 1;
            }
        }
        self.grid = grid;
        self.width = width;
    }

    fn pair(&self, cell: u32) -> (u32, u32) {
        at(&self.pairs, cell)
    }

    fn heap_bytes(&self) -> usize {
        let hashed = self.hashed.as_ref().map_or(0, |table| table.capacity() * 5);
        self.pairs.capacity() * 8 + self.grid.capacity() * 4 + hashed
    }
}

/// Small numbers for the values of a column, in the order of their arrival.
#[derive(Debug)]
enum Codes {
    Text(TextCodes),
    Day(DayCodes),
    Member(MemberCodes),
    /// Filters and amounts are used as they are.
    Plain,
}

impl Codes {
    fn of(column: CellColumn) -> Self {
        match column {
            CellColumn::Text => Codes::Text(TextCodes::default()),
            CellColumn::Day => Codes::Day(DayCodes::default()),
            CellColumn::Month => Codes::Day(DayCodes {
                of_month: true,
                ..DayCodes::default()
            }),
            CellColumn::Member => Codes::Member(MemberCodes::default()),
            CellColumn::Filter | CellColumn::Whole => Codes::Plain,
        }
    }

    /// The codes of a column, written over `out`.
    fn codes(&mut self, column: &ArrayRef, mut out: Vec<u32>) -> Result<Vec<u32>> {
        out.clear();
        match self {
            Codes::Plain => {}
            Codes::Text(codes) => {
                let texts = column.as_string_view_opt().ok_or_else(wrong_type)?;
                codes.codes(texts, &mut out);
            }
            Codes::Day(codes) => {
                let days = column.as_primitive_opt::<Date32Type>();
                codes.codes(days.ok_or_else(wrong_type)?, &mut out);
            }
            Codes::Member(codes) => {
                let members = column.as_binary_opt::<i32>().ok_or_else(wrong_type)?;
                codes.codes(members, &mut out)?;
            }
        }
        Ok(out)
    }

    /// Takes in the values of another part; gives its codes in terms of these.
    fn absorb(&mut self, other: &Codes) -> Result<Vec<u32>> {
        match (self, other) {
            (Codes::Plain, Codes::Plain) => Ok(Vec::new()),
            (Codes::Text(own), Codes::Text(other)) => {
                let texts = other.values.iter();
                Ok(texts.map(|text| own.code(text.as_deref())).collect())
            }
            (Codes::Day(own), Codes::Day(other)) => {
                let days = other.values.iter();
                Ok(days.map(|day| own.known(*day)).collect())
            }
            (Codes::Member(own), Codes::Member(other)) => Ok(other
                .values
                .iter()
                .map(|member| own.code(*member))
                .collect()),
            _ => exec_err!("parts of different scans cannot be merged"),
        }
    }

    fn values(&self, codes: &[u32]) -> ArrayRef {
        match self {
            Codes::Text(texts) => Arc::new(
                codes
                    .iter()
                    .map(|code| texts.values.get(*code as usize)?.as_deref())
                    .collect::<StringArray>(),
            ),
            Codes::Day(days) => Arc::new(
                codes
                    .iter()
                    .map(|code| at(&days.values, *code))
                    .collect::<Date32Array>(),
            ),
            Codes::Member(_) | Codes::Plain => Arc::new(StringArray::new_null(codes.len())),
        }
    }

    fn heap_bytes(&self) -> usize {
        match self {
            Codes::Plain => 0,
            Codes::Text(codes) => codes.bytes + codes.table.capacity() * 5,
            Codes::Day(codes) => codes.dense.capacity() * 4 + codes.values.capacity() * 16,
            Codes::Member(codes) => codes.values.capacity() * 16 + codes.table.capacity() * 5,
        }
    }
}

fn wrong_type() -> DataFusionError {
    DataFusionError::Execution("a column of a scan has another type than agreed".to_owned())
}

#[derive(Debug, Default)]
struct TextCodes {
    values: Vec<Option<Box<str>>>,
    table: HashTable<u32>,
    null: Option<u32>,
    hasher: DefaultHashBuilder,
    bytes: usize,
}

/// Views seen lately; the same view in one batch is the same text.
const RECENT: usize = 256;

impl TextCodes {
    fn codes(&mut self, texts: &StringViewArray, out: &mut Vec<u32>) {
        let mut recent = [None::<(u128, u32)>; RECENT];
        for (row, view) in texts.views().iter().enumerate() {
            if texts.is_null(row) {
                out.push(self.code(None));
                continue;
            }
            let mixed = (*view as u64 ^ (*view >> 64) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let place = recent.get_mut((mixed >> 56) as usize % RECENT);
            let code = match place {
                Some(Some((known, code))) if known == view => *code,
                Some(place) => {
                    let code = self.code(Some(texts.value(row)));
                    *place = Some((*view, code));
                    code
                }
                None => self.code(Some(texts.value(row))),
            };
            out.push(code);
        }
    }

    fn code(&mut self, text: Option<&str>) -> u32 {
        let next = self.values.len() as u32;
        let Some(text) = text else {
            return *self.null.get_or_insert_with(|| {
                self.values.push(None);
                next
            });
        };
        let (values, hasher) = (&mut self.values, &self.hasher);
        let of = |values: &[Option<Box<str>>], code: u32| {
            let text = values.get(code as usize).and_then(Option::as_deref);
            hasher.hash_one(text.unwrap_or_default())
        };
        let hash = hasher.hash_one(text);
        let same = |code: &u32| values.get(*code as usize).and_then(Option::as_deref) == Some(text);
        if let Some(code) = self.table.find(hash, same) {
            return *code;
        }
        values.push(Some(text.into()));
        self.bytes += text.len() + 24;
        self.table
            .insert_unique(hash, next, |code| of(values, *code));
        next
    }
}

#[derive(Debug, Default)]
struct DayCodes {
    /// A day stands for the first day of its month.
    of_month: bool,
    values: Vec<Option<i32>>,
    /// By day from 1970-01-01: the code plus one, or zero.
    dense: Vec<u32>,
    sparse: std::collections::HashMap<Option<i32>, u32>,
}

impl DayCodes {
    fn codes(&mut self, days: &Date32Array, out: &mut Vec<u32>) {
        for row in 0..days.len() {
            let day = days.is_valid(row).then(|| days.value(row));
            out.push(self.code(day));
        }
    }

    fn code(&mut self, day: Option<i32>) -> u32 {
        let place = day
            .filter(|day| (0..DENSE_DAYS).contains(day))
            .map(|day| day as usize);
        if let Some(place) = place {
            match self.dense.get(place) {
                Some(0) => {}
                Some(code) => return code - 1,
                None => self.dense.resize((place + 1).next_multiple_of(1024), 0),
            }
        }
        let value = if self.of_month {
            day.map(first_of_month)
        } else {
            day
        };
        let code = self.known(value);
        if let Some(place) = place.and_then(|place| self.dense.get_mut(place)) {
            *place = code + 1;
        }
        code
    }

    /// The code of a key value.
    fn known(&mut self, value: Option<i32>) -> u32 {
        let next = self.values.len() as u32;
        *self.sparse.entry(value).or_insert_with(|| {
            self.values.push(value);
            next
        })
    }
}

/// The first day of a day's month, both counted from 1970-01-01 in the Gregorian calendar.
///
/// Years are counted from 1 March, so that the leap day is the last of its year: the month's number
/// and the day in it follow from the day of such a year by one division each.
fn first_of_month(day: i32) -> i32 {
    // 0000-03-01 is 719 468 days before 1970-01-01; an era of 400 years has 146 097 days.
    let shifted = i64::from(day) + 719_468;
    let of_era = shifted.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5;
    i32::try_from(i64::from(day) - of_month).unwrap_or(day)
}

#[derive(Debug, Default)]
struct MemberCodes {
    values: Vec<u128>,
    table: HashTable<u32>,
}

impl MemberCodes {
    fn codes(&mut self, members: &BinaryArray, out: &mut Vec<u32>) -> Result<()> {
        let mut last = None;
        for row in 0..members.len() {
            if members.is_null(row) {
                out.push(NOBODY);
                continue;
            }
            let Ok(bytes) = <[u8; WIDTH]>::try_from(members.value(row)) else {
                return exec_err!("a member of a set has not {WIDTH} bytes");
            };
            let member = u128::from_be_bytes(bytes);
            let code = match last {
                Some((known, code)) if known == member => code,
                _ => self.code(member),
            };
            last = Some((member, code));
            out.push(code);
        }
        Ok(())
    }

    fn code(&mut self, member: u128) -> u32 {
        let values = &mut self.values;
        let hash = member_hash(member);
        let same = |code: &u32| values.get(*code as usize) == Some(&member);
        if let Some(code) = self.table.find(hash, same) {
            return *code;
        }
        let code = values.len() as u32;
        values.push(member);
        self.table
            .insert_unique(hash, code, |code| member_hash(at(values, *code)));
        code
    }
}

/// Members are digests, spread evenly already: folding them is enough.
fn member_hash(member: u128) -> u64 {
    (member as u64 ^ (member >> 64) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::testing::numbers;

    /// One row of the test relation.
    #[derive(Debug, Clone)]
    struct Row {
        area: Option<&'static str>,
        day: Option<i32>,
        mode: Option<&'static str>,
        kept: Option<bool>,
        amount: Option<i64>,
        wait: Option<i64>,
        person: Option<u128>,
    }

    fn rows(count: usize) -> Vec<Row> {
        let areas = [
            None,
            Some("049"),
            Some("091"),
            Some("an area with a long name"),
            Some("an area with a long nose"),
        ];
        let modes = [None, Some("own"), Some("private"), Some("")];
        let mut draws = numbers(count * 7, u64::MAX);
        let mut draw = |bound: u64| draws.next().unwrap_or_default() % bound;
        (0..count)
            .map(|_| Row {
                area: areas[draw(5) as usize],
                day: (draw(9) > 0).then(|| 19_000 + draw(400) as i32 - 200),
                mode: modes[draw(4) as usize],
                kept: [None, Some(true), Some(false), Some(true)][draw(4) as usize],
                amount: (draw(7) > 0).then(|| draw(2_000) as i64 - 1_000),
                wait: (draw(5) > 0).then(|| draw(3_000) as i64 - 100),
                person: (draw(6) > 0).then(|| u128::from(draw(60)) << 90 | 7),
            })
            .collect()
    }

    fn columns(rows: &[Row]) -> Vec<ArrayRef> {
        let area: StringViewArray = rows.iter().map(|row| row.area).collect();
        let day: Date32Array = rows.iter().map(|row| row.day).collect();
        let mode: StringViewArray = rows.iter().map(|row| row.mode).collect();
        let kept: BooleanArray = rows.iter().map(|row| row.kept).collect();
        let amount: Int64Array = rows.iter().map(|row| row.amount).collect();
        let wait: Int64Array = rows.iter().map(|row| row.wait).collect();
        let person: BinaryArray = rows
            .iter()
            .map(|row| row.person.map(|person| person.to_be_bytes()))
            .collect();
        vec![
            Arc::new(area),
            Arc::new(day),
            Arc::new(mode),
            Arc::new(kept),
            Arc::new(amount),
            Arc::new(wait),
            Arc::new(person),
        ]
    }

    fn spec() -> CellSpec {
        CellSpec {
            columns: vec![
                CellColumn::Text,
                CellColumn::Month,
                CellColumn::Text,
                CellColumn::Filter,
                CellColumn::Whole,
                CellColumn::Whole,
                CellColumn::Member,
            ],
            keys: vec![vec![0, 1], vec![0, 1, 2], vec![1]],
            groups: vec![
                GroupSpec {
                    key: 0,
                    filter: Some(3),
                    sums: vec![4],
                    histograms: vec![],
                    sets: vec![6],
                },
                GroupSpec {
                    key: 1,
                    filter: None,
                    sums: vec![4, 5],
                    histograms: vec![5],
                    sets: vec![6],
                },
                GroupSpec {
                    key: 2,
                    ..GroupSpec::default()
                },
            ],
        }
    }

    type Shown = BTreeMap<Vec<String>, (i64, Vec<Option<i64>>, Vec<Vec<u8>>, Vec<Vec<u8>>)>;

    fn shown(cells: &mut Cells) -> Vec<Shown> {
        (0..cells.spec.groups.len())
            .map(|group| {
                let rows = cells.rows(group).unwrap();
                let key = |row: usize| {
                    let text = |column: &ArrayRef| {
                        let value = arrow::util::display::array_value_to_string(column, row);
                        format!("{:?} {}", value.unwrap(), column.is_null(row))
                    };
                    rows.keys.iter().map(text).collect::<Vec<_>>()
                };
                (0..rows.counts.len())
                    .map(|row| {
                        let sums = rows.sums.iter();
                        let sums = sums.map(|sums| sums.is_valid(row).then(|| sums.value(row)));
                        let bytes = |of: &[BinaryArray]| -> Vec<Vec<u8>> {
                            of.iter().map(|states| states.value(row).to_vec()).collect()
                        };
                        let cell = (
                            rows.counts.value(row),
                            sums.collect(),
                            bytes(&rows.histograms),
                            bytes(&rows.sets),
                        );
                        (key(row), cell)
                    })
                    .collect()
            })
            .collect()
    }

    fn computed(parts: &[&[Row]], batch: usize) -> Vec<Shown> {
        let mut merged = Cells::new(spec()).unwrap();
        for part in parts {
            let mut cells = Cells::new(spec()).unwrap();
            for rows in part.chunks(batch) {
                cells.update(&columns(rows)).unwrap();
            }
            merged.merge(cells).unwrap();
        }
        shown(&mut merged)
    }

    /// The same by maps of maps, one group after the other.
    fn naive(rows: &[Row]) -> Vec<Shown> {
        let month = |row: &Row| {
            let day = row.day.map(|day| {
                let date = arrow::temporal_conversions::date32_to_datetime(day).unwrap();
                let text = date.date().to_string();
                format!("{:?} false", format!("{}-01", &text[..7]))
            });
            day.unwrap_or_else(|| "\"\" true".to_owned())
        };
        let text = |value: Option<&str>| format!("{:?} {}", value.unwrap_or(""), value.is_none());
        let group =
            |key: &dyn Fn(&Row) -> Vec<String>, filtered: bool, sums: usize, waits: bool, set| {
                let mut cells: BTreeMap<Vec<String>, Vec<&Row>> = BTreeMap::new();
                for row in rows
                    .iter()
                    .filter(|row| !filtered || row.kept == Some(true))
                {
                    cells.entry(key(row)).or_default().push(row);
                }
                let finish = |rows: Vec<&Row>| {
                    let total = |of: &dyn Fn(&Row) -> Option<i64>| {
                        rows.iter()
                            .filter_map(|row| of(row))
                            .fold(None, |sum: Option<i64>, v| Some(sum.unwrap_or(0) + v))
                    };
                    let all = [total(&|row| row.amount), total(&|row| row.wait)];
                    let mut histogram = Vec::new();
                    if waits {
                        let mut state = DayHistogram::default();
                        for wait in rows.iter().filter_map(|row| row.wait) {
                            state.add(Value::Whole(wait)).unwrap();
                        }
                        let mut bytes = Vec::new();
                        state.encode(&mut bytes);
                        histogram.push(bytes);
                    }
                    let mut sets = Vec::new();
                    if set {
                        let persons: BTreeSet<u128> =
                            rows.iter().filter_map(|row| row.person).collect();
                        sets.push(persons.iter().flat_map(|p| p.to_be_bytes()).collect());
                    }
                    (rows.len() as i64, all[..sums].to_vec(), histogram, sets)
                };
                cells
                    .into_iter()
                    .map(|(key, rows)| (key, finish(rows)))
                    .collect::<Shown>()
            };
        vec![
            group(
                &|row| vec![text(row.area), month(row)],
                true,
                1,
                false,
                true,
            ),
            group(
                &|row| vec![text(row.area), month(row), text(row.mode)],
                false,
                2,
                true,
                true,
            ),
            group(&|row| vec![month(row)], false, 0, false, false),
        ]
    }

    #[test]
    fn one_pass_gives_what_one_query_after_the_other_gives() {
        let rows = rows(5_000);
        let expected = naive(&rows);
        assert!(expected.iter().all(|group| group.len() > 5));
        for batch in [1, 97, 5_000] {
            assert_eq!(computed(&[&rows], batch), expected, "batches of {batch}");
        }
    }

    #[test]
    fn parts_in_any_order_merge_to_the_whole() {
        let rows = rows(3_000);
        let whole = computed(&[&rows], 512);
        for parts in [2, 3, 7] {
            let size = rows.len().div_ceil(parts);
            let mut split: Vec<&[Row]> = rows.chunks(size).collect();
            assert_eq!(computed(&split, 512), whole, "{parts} parts");
            split.reverse();
            assert_eq!(computed(&split, 31), whole, "{parts} parts, the last first");
        }
    }

    #[test]
    fn no_rows_make_no_cells() {
        assert!(computed(&[], 1).iter().all(BTreeMap::is_empty));
        assert!(computed(&[&[]], 1).iter().all(BTreeMap::is_empty));
    }

    #[test]
    fn a_large_key_space_goes_to_a_hash_table_with_the_same_cells() {
        let mut index = PairIndex::default();
        let mut known = BTreeMap::new();
        for n in numbers(20_000, 40_000) {
            let pair = (n as u32, (n * 7 % 30_011) as u32);
            let cell = index.cell(pair.0, pair.1);
            assert_eq!(*known.entry(pair).or_insert(cell), cell);
            assert_eq!(index.pair(cell), pair);
        }
        assert!(index.hashed.is_some());
        assert_eq!(index.pairs.len(), known.len());
    }

    #[test]
    fn a_sum_beyond_64_bits_is_an_error_and_not_a_wrong_number() {
        let spec = CellSpec {
            columns: vec![CellColumn::Day, CellColumn::Whole],
            keys: vec![vec![0]],
            groups: vec![GroupSpec {
                sums: vec![1],
                ..GroupSpec::default()
            }],
        };
        let batch: Vec<ArrayRef> = vec![
            Arc::new(Date32Array::from(vec![1, 1])),
            Arc::new(Int64Array::from(vec![i64::MAX, 1])),
        ];
        let mut cells = Cells::new(spec).unwrap();
        cells.update(&batch).unwrap();
        assert!(cells.rows(0).unwrap_err().to_string().contains("64 bits"));
    }

    #[test]
    fn columns_of_another_use_are_refused() {
        let mut wrong = spec();
        wrong.groups[0].sums = vec![0];
        assert!(Cells::new(wrong).is_err());
        let mut cells = Cells::new(spec()).unwrap();
        assert!(cells.update(&columns(&rows(3))[..3]).is_err());
        let mut mixed = columns(&rows(3));
        mixed.swap(0, 1);
        assert!(cells.update(&mixed).is_err());
    }

    #[test]
    fn the_month_of_a_day_is_that_of_the_calendar() {
        for day in (-200_000..200_000).step_by(7) {
            let date = arrow::temporal_conversions::date32_to_datetime(day).unwrap();
            let of_month: i32 = date.date().to_string()[8..].parse().unwrap_or(0);
            // Years before 1 or after 9999 are written with a sign and more digits.
            if (1..=31).contains(&of_month) && date.date().to_string().len() == 10 {
                assert_eq!(first_of_month(day), day - of_month + 1, "day {day}");
            }
        }
        assert_eq!(first_of_month(19_782), 19_754); // 2024-02-29
    }
}
