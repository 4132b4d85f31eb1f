//! Many grouped statistics in one pass over the rows.
//!
//! Sixty indicators of one relation differ in their filters, amounts and breakdowns, and share
//! nearly everything else: the scan, the area, the month, the person. [`Cells`] takes each batch
//! once. Every key column becomes small codes once, every combination of key columns becomes a cell
//! number once (those that begin alike share their beginning), every person becomes a number once;
//! then each group adds its rows to arrays addressed by cell.
//!
//! Where there are several groups, rows are first added to *fine cells*: one for every combination of
//! all keys and of the filters that a row passes. Groups are rolled up from fine cells at the end, or
//! when those become many; a scan whose rows fall into nearly as many fine cells as there are rows
//! goes on without them. So the work for a row does not grow with the number of groups.
//!
//! - *Result*: per group and cell the number of rows, sums of whole numbers, histograms of days, sets of
//!   members and sets of their days, each equal to what `count(*)`, `sum`, `day_histogram`, `person_set`
//!   and `care_day_set` give under `GROUP BY`, to the bit. A null key is a group of its own; a null
//!   amount, day or member counts for nothing; a filter that is null keeps the row out; a cell without
//!   rows does not exist.
//! - *Exactness*: sums are kept in 128 bits and must fit 64 bits at the end, or the scan is an error.
//! - *Time*: n rows, k distinct key columns, a amounts, f fine cells, g groups: O(n·(k + a) + f·g),
//!   without fine cells O(n·(k + g)). With fine cells a row costs a look at a small table for each
//!   coded column, one look at the table of cells (`index.rs`), and one place in memory for its number
//!   and all its sums (`tally.rs`). A set sorts its distinct pairs of cell and member once, and each
//!   group looks at every pair once.
//! - *Memory*: proportional to cells and to distinct pairs of cell and member, not to rows: two to three
//!   bytes a pair where members come in order (`sets.rs`); see [`Cells::heap_bytes`].
//! - *Merge*: the other part's codes are translated, then everything is added. Any split of the rows
//!   and any order of merging gives the same result; the order of the rows of a result is not part of
//!   it.
//!
//! What may not live here: where rows come from, and what an indicator is. To add a statistic: a
//! field of [`GroupSpec`], its state in `groups.rs`, and a column of [`GroupRows`].

mod coded;
mod days;
mod fine;
mod groups;
mod index;
mod keys;
mod marked;
mod sets;
mod tally;

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BinaryArray, Int64Array};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{DataType, Date32Type};
use datafusion_common::{Result, exec_err};

pub use self::coded::InputColumn;
use self::fine::{Fine, Left};
use self::groups::Group;
pub(crate) use self::keys::member_hash;
pub use self::keys::passing;
use self::keys::{Codes, PairIndex};
pub use self::marked::{MarkedGroup, MarkedSum};
use self::sets::Members;
use self::tally::Tally;
use crate::rollup::MemberNumbers;

/// Bytes of a member of a set.
const WIDTH: usize = 16;

/// What a column of the input is for, and so its type. Each but [`CellColumn::Member`] may come as codes
/// of values of that type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CellColumn {
    /// A key of text (`Utf8View`, or coded: values `Utf8` or `Utf8View`), or of whole numbers that
    /// stand as their decimal text (`Int64`).
    Text,
    /// The same, where a null is taken for this text.
    TextOr(&'static str),
    /// A key that is a day (`Date32`).
    Day,
    /// A key that is the first day of the month of the given day (`Date32`).
    Month,
    /// A key that is the first day of the year of the given day (`Date32`).
    Year,
    /// Which rows count (`Boolean`).
    Filter,
    /// Whole numbers (`Int64`), to add or to count by.
    Whole,
    /// Members of a set: 16 bytes each (`Binary`).
    Member,
    /// Members of a set by their numbers in the list with this id (`Int32`, from zero).
    Number(u64),
}

impl CellColumn {
    /// The type that [`Cells::update`] takes; one of them where it takes several.
    pub fn data_type(self) -> DataType {
        match self {
            CellColumn::Text | CellColumn::TextOr(_) => DataType::Utf8View,
            CellColumn::Day | CellColumn::Month | CellColumn::Year => DataType::Date32,
            CellColumn::Filter => DataType::Boolean,
            CellColumn::Whole => DataType::Int64,
            CellColumn::Member => DataType::Binary,
            CellColumn::Number(_) => DataType::Int32,
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

/// Statistics of the rows that pass some filters, grouped by one key. Columns are numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupSpec {
    /// The key, by its place in [`CellSpec::keys`].
    pub key: usize,
    /// Columns of filters, which a row must pass all.
    pub filters: Vec<usize>,
    /// Columns to add.
    pub sums: Vec<usize>,
    /// Columns of days to count by.
    pub histograms: Vec<usize>,
    /// Columns of members.
    pub sets: Vec<usize>,
    /// Members with days of the key's month.
    pub days: Vec<DaysOf>,
}

/// Days of members.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DaysOf {
    /// The column of members.
    pub member: usize,
    /// The column of days of the month (`Int64`): a bit for each, its first day lowest. A row without one
    /// has no days.
    pub days: usize,
    /// The place of the month in the key.
    pub month: usize,
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
    /// Sets, with their members as numbers.
    pub sets: Vec<Arc<MemberNumbers>>,
    /// Sets of days, as `care_day_set` gives them.
    pub days: Vec<BinaryArray>,
}

/// Statistics being built.
#[derive(Debug)]
pub struct Cells {
    spec: CellSpec,
    /// One for each column, and one for the filters together.
    codes: Vec<Codes>,
    /// A tree of keys: each node adds one column to its parent.
    nodes: Vec<Node>,
    /// The node of each key.
    key_nodes: Vec<usize>,
    groups: Vec<Group>,
    /// Finer cells, as long as they are worth it.
    fine: Option<Fine>,
    /// For each column, whether it is added up.
    is_added: Vec<bool>,
    /// Codes of each column and cells of each node, of the rows in hand.
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

/// Statistics that are complete: [`Cells::finish`].
#[derive(Debug)]
pub struct FinishedCells {
    cells: Cells,
    /// What the codes of each column of members stand for.
    members: Vec<Members>,
    left: Left,
}

impl Cells {
    /// Empty statistics.
    ///
    /// # Errors
    /// When a number of the specification names nothing, or a column of another use.
    pub fn new(spec: CellSpec) -> Result<Self> {
        check(&spec)?;
        let columns = spec.columns.iter().map(|column| Codes::of(*column));
        let codes: Vec<Codes> = columns.chain([Codes::Mask(Default::default())]).collect();
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
            node_cells: vec![Vec::new(); nodes.len()],
            column_codes: vec![Vec::new(); codes.len()],
            codes,
            nodes,
            key_nodes,
            groups,
            fine: Fine::of(&spec),
            is_added: (0..spec.columns.len())
                .map(|column| {
                    spec.groups.iter().any(|group| {
                        let mut days = group.days.iter();
                        group.sums.contains(&column) || days.any(|own| own.days == column)
                    })
                })
                .collect(),
            selected: Vec::new(),
            spec,
        })
    }

    /// Takes in a batch: its columns in the order and types of the specification.
    ///
    /// # Errors
    /// When the columns are not those of the specification, a member has not 16 bytes or a number
    /// below zero, or a number of days is out of range.
    pub fn update(&mut self, columns: &[InputColumn]) -> Result<()> {
        let rows = columns.first().map_or(0, InputColumn::len);
        if columns.len() != self.spec.columns.len()
            || columns.iter().any(|column| column.len() != rows)
        {
            return exec_err!("a batch does not have the columns of its scan");
        }
        // Only what is added must be there as numbers.
        let columns = self.is_added.iter().zip(columns);
        let columns = columns.map(|(is_added, column)| match is_added {
            true => Ok(coded::numbers(column)?.unwrap_or_else(|| column.clone())),
            false => Ok(column.clone()),
        });
        let columns = &columns.collect::<Result<Vec<InputColumn>>>()?[..];
        let mut met = vec![false; columns.len()];
        if self.fine.is_some() {
            let coders = self.codes.iter_mut().zip(columns);
            for (met, (coder, column)) in met.iter_mut().zip(coders) {
                *met = coder.meet(column)?;
            }
            self.find_codes(columns, &met)?;
            if self.update_fine(columns, rows, &met)? {
                return Ok(());
            }
            // Those that were met have no codes yet, and the others need none anew.
            met.iter_mut().for_each(|met| *met = !*met);
        }
        self.find_codes(columns, &met)?;
        self.number_cells();
        let mut selected = std::mem::take(&mut self.selected);
        for (group, spec) in self.groups.iter_mut().zip(&self.spec.groups) {
            let node = self.key_nodes.get(spec.key).copied().unwrap_or_default();
            let cells = slot(&self.node_cells, node);
            select(&mut selected, rows, columns, &spec.filters)?;
            let of_rows = selected.iter().map(|row| at(cells, *row));
            group.grow(of_rows.max().map_or(0, |highest| highest as usize + 1));
            group.update(spec, columns, &self.column_codes, cells, Some(&selected))?;
        }
        self.selected = selected;
        Ok(())
    }

    /// The codes of the rows in hand, in all columns but some.
    fn find_codes(&mut self, columns: &[InputColumn], but: &[bool]) -> Result<()> {
        for (place, column) in columns.iter().enumerate() {
            if but.get(place) == Some(&true) {
                continue;
            }
            let codes = take_slot(&mut self.column_codes, place);
            let codes = match self.codes.get_mut(place) {
                Some(coder) => coder.codes(column, codes)?,
                None => codes,
            };
            put_slot(&mut self.column_codes, place, codes);
        }
        Ok(())
    }

    /// The cells of every node, from the codes of the columns in hand.
    fn number_cells(&mut self) {
        for place in 0..self.nodes.len() {
            let mut cells = take_slot(&mut self.node_cells, place);
            cells.clear();
            if let Some(node) = self.nodes.get_mut(place) {
                let own = slot(&self.column_codes, node.column);
                match node.parent {
                    None => cells.extend_from_slice(own),
                    Some(parent) => {
                        node.pairs
                            .cells(slot(&self.node_cells, parent), own, &mut cells);
                    }
                }
            }
            put_slot(&mut self.node_cells, place, cells);
        }
    }

    /// The cells of a group's rows, of those in hand.
    fn cells_of(&self, spec: &GroupSpec) -> &[u32] {
        let node = self.key_nodes.get(spec.key).copied().unwrap_or_default();
        slot(&self.node_cells, node)
    }

    /// Takes in the statistics of other rows of the same specification.
    ///
    /// # Errors
    /// When the other part was made for another scan.
    pub fn merge(&mut self, mut other: Cells) -> Result<()> {
        if other.codes.len() != self.codes.len() || other.groups.len() != self.groups.len() {
            return exec_err!("parts of different scans cannot be merged");
        }
        // Both with finer cells, or both without.
        if self.fine.is_none() != other.fine.is_none() {
            self.leave_fine()?;
            other.leave_fine()?;
        }
        let mut code_maps = Vec::with_capacity(self.codes.len());
        for (own, others) in self.codes.iter_mut().zip(&other.codes) {
            code_maps.push(own.absorb(others)?);
        }
        let merged = match (&mut self.fine, &mut other.fine) {
            (Some(own), Some(others)) => own.merge(others, &code_maps)?,
            _ => true,
        };
        if !merged {
            self.leave_fine()?;
            other.leave_fine()?;
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
            let others = other.groups.get_mut(place);
            if let (Some(own), Some(others)) = (self.groups.get_mut(place), others) {
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
        let fine = self.fine.as_ref().map_or(0, Fine::heap_bytes);
        codes + nodes + groups + fine
    }

    /// Completes the statistics: nothing can be added any more.
    ///
    /// # Errors
    /// As [`Cells::update`].
    pub fn finish(mut self) -> Result<FinishedCells> {
        let members = self.codes.iter().map(|codes| match codes {
            Codes::Member(members) => Members::named(members),
            Codes::Number(list) => Members::OfList(*list),
            _ => Members::Nothing,
        });
        let members = members.collect();
        let left = self.finish_fine()?;
        self.groups.iter_mut().for_each(Group::settle);
        Ok(FinishedCells {
            cells: self,
            members,
            left,
        })
    }
}

impl FinishedCells {
    /// The rows of a group, by its place in [`CellSpec::groups`].
    ///
    /// # Errors
    /// When a sum does not fit 64 bits.
    pub fn rows(&self, group: usize) -> Result<GroupRows> {
        let cells = &self.cells;
        let (Some(spec), Some(state)) = (cells.spec.groups.get(group), cells.groups.get(group))
        else {
            return exec_err!("there is no group {group}");
        };
        let tally = &state.tally;
        let present = self.present(tally);
        let counts = present
            .iter()
            .map(|cell| i64::try_from(tally.count(*cell)).unwrap_or(i64::MAX))
            .collect();
        let sums = (0..spec.sums.len()).map(|sum| tally.finish(sum, &present));
        let histograms = state.histograms.iter();
        let mut sets = Vec::with_capacity(spec.sets.len());
        for (place, column) in spec.sets.iter().enumerate() {
            let Some(members) = self.members.get(*column) else {
                return exec_err!("a set has no members");
            };
            sets.push(Arc::new(match (&self.left, state.sets.get(place)) {
                (Left::Sets(finer), _) => finer.sets(cells, group, place, members, &present)?,
                (_, Some(sets)) => members.sets(sets, 0..tally.cells(), &present),
                (_, None) => return exec_err!("a set has no members"),
            }));
        }
        let keys = cells.keys_by(spec, &self.key_codes(spec, &present));
        let mut days = Vec::with_capacity(spec.days.len());
        for (place, own) in spec.days.iter().enumerate() {
            let months = keys.get(own.month);
            let months = months.and_then(|months| months.as_primitive_opt::<Date32Type>());
            let (Some(members), Some(months)) = (self.members.get(own.member), months) else {
                return exec_err!("days of members have no month");
            };
            days.push(match (&self.left, state.days.get(place)) {
                (Left::Sets(finer), _) => {
                    finer.days(cells, group, place, members, &present, months)?
                }
                (_, Some(sets)) => members.days(sets, 0..tally.cells(), &present, months)?,
                (_, None) => return exec_err!("days have no members"),
            });
        }
        Ok(GroupRows {
            sums: sums.collect::<Result<_>>()?,
            histograms: histograms
                .map(|histograms| histograms.states(&present))
                .collect::<Result<_>>()?,
            keys,
            counts,
            sets,
            days,
        })
    }

    /// The cells of a group that have rows.
    fn present(&self, tally: &Tally) -> Cow<'_, [u32]> {
        match &self.left {
            Left::Only(only) => Cow::Borrowed(&only.present),
            Left::Nothing | Left::Sets(_) => {
                let present = (0..tally.cells()).filter(|cell| tally.count(*cell) > 0);
                Cow::Owned(present.collect())
            }
        }
    }

    /// The codes of these cells of a group, by column of its key.
    fn key_codes(&self, spec: &GroupSpec, present: &[u32]) -> Cow<'_, [Vec<u32>]> {
        match &self.left {
            Left::Only(only) => Cow::Borrowed(&only.codes),
            Left::Nothing | Left::Sets(_) => {
                Cow::Owned(self.cells.key_codes(spec, present.to_vec()))
            }
        }
    }
}

impl Cells {
    /// The key columns of cells, from the codes of each.
    fn keys_by(&self, spec: &GroupSpec, codes: &[Vec<u32>]) -> Vec<ArrayRef> {
        let key = self.spec.keys.get(spec.key).map_or(&[][..], Vec::as_slice);
        let columns = key.iter().zip(codes);
        let columns = columns.filter_map(|(column, codes)| Some((self.codes.get(*column)?, codes)));
        columns.map(|(known, codes)| known.values(codes)).collect()
    }

    /// The codes of a group's cells, by column of its key.
    fn key_codes(&self, spec: &GroupSpec, mut cells: Vec<u32>) -> Vec<Vec<u32>> {
        let key = self.spec.keys.get(spec.key).map_or(&[][..], Vec::as_slice);
        let mut keys = Vec::with_capacity(key.len());
        let mut node = self.key_nodes.get(spec.key).copied();
        for _ in key {
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
            keys.push(own);
            node = at.parent;
        }
        keys.reverse();
        keys
    }
}

fn check(spec: &CellSpec) -> Result<()> {
    let is = |column: &usize, wanted: CellColumn| spec.columns.get(*column) == Some(&wanted);
    let is_key = |column: &usize| {
        spec.columns.get(*column).is_some_and(|use_of| {
            matches!(
                use_of,
                CellColumn::Text
                    | CellColumn::TextOr(_)
                    | CellColumn::Day
                    | CellColumn::Month
                    | CellColumn::Year
            )
        })
    };
    let is_set = |column: &usize| {
        matches!(
            spec.columns.get(*column),
            Some(CellColumn::Member | CellColumn::Number(_))
        )
    };
    let keys_fit = spec
        .keys
        .iter()
        .all(|key| !key.is_empty() && key.iter().all(is_key));
    let groups_fit = spec.groups.iter().all(|group| {
        group.key < spec.keys.len()
            && group.filters.iter().all(|c| is(c, CellColumn::Filter))
            && group.sums.iter().all(|c| is(c, CellColumn::Whole))
            && group.histograms.iter().all(|c| is(c, CellColumn::Whole))
            && group.sets.iter().all(is_set)
            && group.days.iter().all(|own| {
                let key = spec.keys.get(group.key);
                let month = key.and_then(|key| key.get(own.month));
                is_set(&own.member)
                    && is(&own.days, CellColumn::Whole)
                    && month.is_some_and(|month| {
                        is(month, CellColumn::Day) || is(month, CellColumn::Month)
                    })
            })
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

/// The greatest code.
fn highest(codes: &[u32]) -> Option<u32> {
    // A fold, unlike a search, is done in wide registers.
    codes.first()?;
    Some(codes.iter().fold(0, |highest, code| highest.max(*code)))
}

fn at<T: Copy + Default>(values: &[T], cell: u32) -> T {
    values.get(cell as usize).copied().unwrap_or_default()
}

/// The numbers of the rows that pass all filters.
fn select(
    selected: &mut Vec<u32>,
    rows: usize,
    columns: &[InputColumn],
    filters: &[usize],
) -> Result<()> {
    selected.clear();
    let mut passed: Option<BooleanBuffer> = None;
    for column in filters {
        let filter = columns.get(*column).and_then(passing);
        let Some(filter) = filter else {
            return exec_err!("a filter of a scan has another type than agreed");
        };
        passed = Some(match passed {
            None => filter,
            Some(passed) => &passed & &filter,
        });
    }
    match passed {
        None => selected.extend(0..rows as u32),
        Some(passed) => selected.extend(passed.set_indices().map(|row| row as u32)),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;

    use arrow::array::{
        Array, BooleanArray, Date32Array, DictionaryArray, Int32Array, StringArray,
        StringViewArray, UInt32Array,
    };
    use arrow::compute::cast;
    use arrow::datatypes::{ArrowDictionaryKeyType, Int32Type, UInt8Type, UInt16Type, UInt32Type};
    use arrow::util::display::array_value_to_string;

    use super::keys::{MaskCodes, Passed};
    use super::*;
    use crate::calendar::{first_of_month, first_of_year};
    use crate::care_day_set::{CareDaySet, DayWriter, Reader, days_between};
    use crate::cell::{Cell as _, Value};
    use crate::day_histogram::DayHistogram;
    use crate::person_set::put_numbers;
    use crate::testing::numbers;

    fn inputs(arrays: &[ArrayRef]) -> Vec<InputColumn> {
        InputColumn::of_arrays(arrays)
    }

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
        urgent: Option<bool>,
        /// The first and the last day of care, in the row's month.
        care: Option<(u32, u32)>,
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
        let mut draws = numbers(count * 16, u64::MAX);
        let mut draw = |bound: u64| draws.next().unwrap_or_default() % bound;
        (0..count)
            .map(|_| Row {
                area: areas[draw(5) as usize],
                day: (draw(9) > 0).then(|| 19_000 + draw(400) as i32 - 200),
                mode: modes[draw(4) as usize],
                kept: [None, Some(true), Some(false), Some(true)][draw(4) as usize],
                amount: (draw(7) > 0).then(|| draw(2_000) as i64 - 1_000),
                wait: (draw(5) > 0).then(|| draw(3_000) as i64 - 100),
                person: (draw(6) > 0).then(|| (u128::from(draw(60)) << 90) | 7),
                urgent: [None, Some(true), Some(true), Some(false)][draw(4) as usize],
                care: (draw(5) > 0)
                    .then(|| draw(23) as u32)
                    .map(|from| (from, from + draw(6) as u32)),
            })
            .map(|row| Row {
                care: row.day.and(row.care),
                ..row
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
        let urgent: BooleanArray = rows.iter().map(|row| row.urgent).collect();
        let bits = |(from, to)| i64::from(days_between(from, to));
        let care = rows.iter().map(|row| row.care.map_or(0x55, bits));
        let known: Vec<bool> = rows.iter().map(|row| row.care.is_some()).collect();
        let care = Int64Array::new(care.collect(), Some(known.into()));
        vec![
            Arc::new(area),
            Arc::new(day),
            Arc::new(mode),
            Arc::new(kept),
            Arc::new(amount),
            Arc::new(wait),
            Arc::new(person),
            Arc::new(urgent),
            Arc::new(care),
        ]
    }

    const CARE: DaysOf = DaysOf {
        member: 6,
        days: 8,
        month: 1,
    };

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
                CellColumn::Filter,
                CellColumn::Whole,
            ],
            keys: vec![vec![0, 1], vec![0, 1, 2], vec![1]],
            groups: vec![
                GroupSpec {
                    key: 0,
                    filters: vec![3],
                    sums: vec![4],
                    histograms: vec![],
                    sets: vec![6],
                    days: vec![CARE],
                },
                GroupSpec {
                    key: 1,
                    filters: vec![],
                    sums: vec![4, 5],
                    histograms: vec![5],
                    sets: vec![6],
                    days: vec![CARE],
                },
                GroupSpec {
                    key: 2,
                    ..GroupSpec::default()
                },
                GroupSpec {
                    key: 2,
                    filters: vec![3, 7],
                    sums: vec![5],
                    histograms: vec![5],
                    sets: vec![6],
                    days: vec![DaysOf { month: 0, ..CARE }],
                },
            ],
        }
    }

    /// Rows, sums, histograms, sets, sets of days.
    type Cell = (
        i64,
        Vec<Option<i64>>,
        Vec<Vec<u8>>,
        Vec<Vec<u8>>,
        Vec<Vec<u8>>,
    );
    type Shown = BTreeMap<Vec<String>, Cell>;

    fn shown(cells: Cells) -> Vec<Shown> {
        let cells = cells.finish().unwrap();
        (0..cells.cells.spec.groups.len())
            .map(|group| {
                let rows = cells.rows(group).unwrap();
                let key = |row: usize| {
                    let text = |column: &ArrayRef| {
                        let value = arrow::util::display::array_value_to_string(column, row);
                        format!("{:?} {}", value.unwrap(), column.is_null(row))
                    };
                    rows.keys.iter().map(text).collect::<Vec<_>>()
                };
                let all = || 0..rows.counts.len() as u32;
                let sets: Vec<BinaryArray> = rows
                    .sets
                    .iter()
                    .map(|sets| sets.states(all()).unwrap())
                    .collect();
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
                            bytes(&sets),
                            bytes(&rows.days),
                        );
                        (key(row), cell)
                    })
                    .collect()
            })
            .collect()
    }

    /// How rows come to their groups.
    #[derive(Debug, Clone, Copy)]
    enum Way {
        /// By way of fine cells.
        Fine,
        /// Group by group.
        Direct,
        /// By way of fine cells that are rolled up again and again.
        Tight,
        /// By way of fine cells that are soon given up.
        Trial,
    }

    const WAYS: [Way; 4] = [Way::Fine, Way::Direct, Way::Tight, Way::Trial];

    fn cells(way: Way) -> Cells {
        cells_of(spec(), way)
    }

    fn cells_of(spec: CellSpec, way: Way) -> Cells {
        let mut cells = Cells::new(spec).unwrap();
        match (way, &mut cells.fine) {
            (Way::Fine, _) => {}
            (Way::Direct, fine) => *fine = None,
            (Way::Tight, Some(fine)) => fine.limits.cells = 40,
            (Way::Trial, Some(fine)) => fine.limits.trial_rows = 100,
            (Way::Tight | Way::Trial, None) => panic!("there are no fine cells"),
        }
        cells
    }

    /// The parts are computed in turn in these ways.
    fn computed_in(ways: &[Way], parts: &[&[Row]], batch: usize) -> Vec<Shown> {
        let mut merged = cells(ways[0]);
        for (part, way) in parts.iter().zip(ways.iter().cycle()) {
            let mut cells = cells(*way);
            for rows in part.chunks(batch) {
                cells.update(&inputs(&columns(rows))).unwrap();
            }
            merged.merge(cells).unwrap();
        }
        shown(merged)
    }

    fn computed(parts: &[&[Row]], batch: usize) -> Vec<Shown> {
        computed_in(&[Way::Fine], parts, batch)
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
        type Keep<'a> = &'a dyn Fn(&Row) -> bool;
        type Amounts<'a> = &'a [fn(&Row) -> Option<i64>];
        let group = |key: &dyn Fn(&Row) -> Vec<String>,
                     keep: Keep<'_>,
                     amounts: Amounts<'_>,
                     waits: bool,
                     set: bool| {
            let mut cells: BTreeMap<Vec<String>, Vec<&Row>> = BTreeMap::new();
            for row in rows.iter().filter(|row| keep(row)) {
                cells.entry(key(row)).or_default().push(row);
            }
            let finish = |rows: Vec<&Row>| {
                let total = |of: &fn(&Row) -> Option<i64>| {
                    rows.iter()
                        .filter_map(|row| of(row))
                        .fold(None, |sum: Option<i64>, v| Some(sum.unwrap_or(0) + v))
                };
                let mut histogram = Vec::new();
                if waits {
                    let mut state = DayHistogram::default();
                    for wait in rows.iter().filter_map(|row| row.wait) {
                        state.add(Value::Whole(wait)).unwrap();
                    }
                    histogram.push(state.state());
                }
                let mut sets = Vec::new();
                if set {
                    let persons: BTreeSet<u128> =
                        rows.iter().filter_map(|row| row.person).collect();
                    sets.push(persons.iter().flat_map(|p| p.to_be_bytes()).collect());
                }
                let mut days = Vec::new();
                if set {
                    let mut state = CareDaySet::default();
                    for row in &rows {
                        let person = row.person.map(u128::to_be_bytes);
                        if let (Some((from, to)), Some(day)) = (row.care, row.day) {
                            let day = |of_month: u32| {
                                let first = i64::from(first_of_month(day));
                                Some(Value::Whole(first + i64::from(of_month)))
                            };
                            let person = person.as_ref().map(|person| Value::Bytes(person));
                            state.add_row(&[person, day(from), day(to)]).unwrap();
                        }
                    }
                    let mut own = Vec::new();
                    state.encode(&mut own);
                    days.push(own);
                }
                let sums = amounts.iter().map(total).collect();
                (rows.len() as i64, sums, histogram, sets, days)
            };
            cells
                .into_iter()
                .map(|(key, rows)| (key, finish(rows)))
                .collect::<Shown>()
        };
        let area_month = |row: &Row| vec![text(row.area), month(row)];
        let with_mode = |row: &Row| vec![text(row.area), month(row), text(row.mode)];
        let kept = |row: &Row| row.kept == Some(true);
        let urgent = |row: &Row| row.kept == Some(true) && row.urgent == Some(true);
        let all = |_: &Row| true;
        vec![
            group(&area_month, &kept, &[|row| row.amount], false, true),
            group(
                &with_mode,
                &all,
                &[|row| row.amount, |row| row.wait],
                true,
                true,
            ),
            group(&|row| vec![month(row)], &all, &[], false, false),
            group(
                &|row| vec![month(row)],
                &urgent,
                &[|row| row.wait],
                true,
                true,
            ),
        ]
    }

    #[test]
    fn one_pass_gives_what_one_query_after_the_other_gives() {
        let rows = rows(5_000);
        let expected = naive(&rows);
        assert!(expected.iter().all(|group| group.len() > 5));
        for way in WAYS {
            for batch in [1, 97, 5_000] {
                let found = computed_in(&[way], &[&rows], batch);
                assert_eq!(found, expected, "{way:?}, batches of {batch}");
            }
        }
    }

    #[test]
    fn a_group_alone_is_the_same_as_among_others() {
        let rows = rows(3_000);
        let whole = computed(&[&rows], 512);
        let all = spec();
        for (of_all, group) in whole.iter().zip(&all.groups) {
            let own_key = all.keys[group.key].clone();
            for (key, keys) in [(group.key, all.keys.clone()), (0, vec![own_key])] {
                for way in WAYS {
                    let group = GroupSpec {
                        key,
                        ..group.clone()
                    };
                    let alone = CellSpec {
                        columns: all.columns.clone(),
                        keys: keys.clone(),
                        groups: vec![group],
                    };
                    let mut merged = cells_of(alone.clone(), way);
                    for part in rows.chunks(800) {
                        let mut cells = cells_of(alone.clone(), way);
                        cells.update(&inputs(&columns(part))).unwrap();
                        merged.merge(cells).unwrap();
                    }
                    assert_eq!(&shown(merged)[0], of_all, "{way:?}");
                }
            }
        }
    }

    #[test]
    fn parts_in_any_order_merge_to_the_whole() {
        let rows = rows(3_000);
        let whole = computed(&[&rows], 512);
        for parts in [2, 3, 7] {
            let size = rows.len().div_ceil(parts);
            let mut split: Vec<&[Row]> = rows.chunks(size).collect();
            for way in WAYS {
                let found = computed_in(&[way], &split, 512);
                assert_eq!(found, whole, "{parts} parts, {way:?}");
            }
            let found = computed_in(&WAYS, &split, 64);
            assert_eq!(found, whole, "{parts} parts, each in another way");
            split.reverse();
            let found = computed(&split, 31);
            assert_eq!(found, whole, "{parts} parts, the last first");
        }
    }

    /// The persons of the test relation by number, in a column that hides more under its nulls.
    fn with_numbers(rows: &[Row]) -> Vec<ArrayRef> {
        let mut columns = columns(rows);
        let number = |row: &Row| row.person.map_or(-1, |person| (person >> 90) as i32);
        let valid: Vec<bool> = rows.iter().map(|row| row.person.is_some()).collect();
        let numbers = Int32Array::new(rows.iter().map(number).collect(), Some(valid.into()));
        columns[6] = Arc::new(numbers);
        columns
    }

    #[test]
    fn members_that_come_as_numbers_are_the_same_members() {
        const LIST: u64 = 5;
        let rows = rows(3_000);
        let mut numbered = spec();
        numbered.columns[6] = CellColumn::Number(LIST);
        let mut expected = naive(&rows);
        for (_, _, _, sets, days) in expected.iter_mut().flat_map(BTreeMap::values_mut) {
            for days in days.iter_mut().filter(|days| !days.is_empty()) {
                let mut entries = Vec::new();
                let own = Reader::of(days).unwrap().unwrap();
                let each = own.try_each(|month, member, days| {
                    entries.push((month, (member >> 90) as u32, days));
                    Ok(())
                });
                each.unwrap();
                let mut state = Vec::new();
                let mut writer = DayWriter::new(&mut state, Some(LIST));
                writer.month(entries[0].0, entries.len());
                let entries = entries.iter();
                entries.for_each(|(_, number, days)| writer.number(*number, *days));
                *days = state;
            }
            for set in sets {
                let (members, _) = set.as_chunks::<WIDTH>();
                let members = members.iter();
                let numbers = members.map(|member| (u128::from_be_bytes(*member) >> 90) as u32);
                let mut state = Vec::new();
                put_numbers(LIST, &numbers.collect::<Vec<_>>(), &mut state);
                *set = state;
            }
        }
        for way in WAYS {
            for parts in [1, 3] {
                let mut merged = cells_of(numbered.clone(), way);
                for part in rows.chunks(rows.len().div_ceil(parts)) {
                    let mut cells = cells_of(numbered.clone(), way);
                    for rows in part.chunks(97) {
                        cells.update(&inputs(&with_numbers(rows))).unwrap();
                    }
                    merged.merge(cells).unwrap();
                }
                assert!(shown(merged) == expected, "{parts} parts, {way:?}");
            }
        }
    }

    /// The column as codes of the values that it has, or for each row of another value.
    fn as_codes(column: &ArrayRef, width: u32, null_has_code: bool) -> ArrayRef {
        let rows = 0..column.len();
        let shown: Vec<String> = rows
            .clone()
            .map(|row| array_value_to_string(column, row).unwrap())
            .collect();
        let first_like = |row: usize| {
            let like = rows.clone().find(|other| {
                shown[*other] == shown[row] && column.is_null(*other) == column.is_null(row)
            });
            like.unwrap_or(row) as u32
        };
        let keys = rows
            .clone()
            .map(|row| (null_has_code || column.is_valid(row)).then(|| first_like(row)));
        let values = Arc::clone(column);
        fn coded<K: ArrowDictionaryKeyType>(keys: UInt32Array, values: ArrayRef) -> ArrayRef {
            let keys = cast(&keys, &K::DATA_TYPE).unwrap();
            Arc::new(DictionaryArray::<K>::new(
                keys.as_primitive().clone(),
                values,
            ))
        }
        match width {
            8 => coded::<UInt8Type>(keys.collect(), values),
            16 => coded::<UInt16Type>(keys.collect(), values),
            32 => coded::<UInt32Type>(keys.collect(), values),
            _ => coded::<Int32Type>(keys.collect(), values),
        }
    }

    #[test]
    fn columns_may_come_as_codes_of_any_width() {
        let rows = rows(1_500);
        let mut numbered = spec();
        numbered.columns[6] = CellColumn::Number(5);
        for way in WAYS {
            let mut plain = cells_of(numbered.clone(), way);
            for rows in rows.chunks(97) {
                plain.update(&inputs(&with_numbers(rows))).unwrap();
            }
            let expected = shown(plain);
            for (width, null_has_code) in [
                (8, true),
                (16, true),
                (32, true),
                (31, true),
                (8, false),
                (32, false),
            ] {
                let mut cells = cells_of(numbered.clone(), way);
                for (batch, rows) in rows.chunks(97).enumerate() {
                    let columns = with_numbers(rows).into_iter().enumerate();
                    let columns = columns.map(|(place, column)| match (batch + place) % 4 {
                        0 => column,
                        _ => as_codes(&column, width, null_has_code),
                    });
                    let columns: Vec<ArrayRef> = columns.collect();
                    // A dictionary may have more rows than a batch.
                    for (from, rows) in [(0, 50.min(rows.len())), (50, rows.len().max(50) - 50)] {
                        let some = columns
                            .iter()
                            .map(|column| column.slice(from.min(column.len()), rows));
                        cells.update(&inputs(&some.collect::<Vec<_>>())).unwrap();
                    }
                }
                assert!(shown(cells) == expected, "{width} bits, {way:?}");
            }
        }
    }

    #[test]
    fn numbers_below_zero_and_of_another_list_are_refused() {
        let of_list = |list: u64| {
            let mut spec = spec();
            spec.columns[6] = CellColumn::Number(list);
            Cells::new(spec).unwrap()
        };
        let mut batch = with_numbers(&rows(3));
        batch[6] = Arc::new(Int32Array::from(vec![1, -1, 0]));
        assert!(of_list(1).update(&inputs(&batch)).is_err());
        assert!(of_list(1).merge(of_list(2)).is_err());
        assert!(of_list(1).merge(of_list(1)).is_ok());
    }

    #[test]
    fn fine_cells_are_given_up_where_rows_share_none() {
        let rows = rows(400);
        for (way, stays) in [(Way::Fine, true), (Way::Trial, false), (Way::Tight, false)] {
            let mut cells = cells(way);
            for rows in rows.chunks(50) {
                cells.update(&inputs(&columns(rows))).unwrap();
            }
            assert_eq!(cells.fine.is_some(), stays, "{way:?}");
        }
    }

    #[test]
    fn text_may_come_coded_or_as_whole_numbers_or_with_a_word_for_null() {
        let texts = [Some("7"), None, Some("unknown"), Some("7"), Some("-5000")];
        let views: ArrayRef = Arc::new(texts.iter().copied().collect::<StringViewArray>());
        let values = StringArray::from(vec![Some("unknown"), Some("7"), None, Some("-5000")]);
        let keys = Int32Array::from(vec![Some(1), Some(2), Some(0), Some(1), Some(3)]);
        let coded: ArrayRef = Arc::new(DictionaryArray::<Int32Type>::new(keys, Arc::new(values)));
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![
            Some(7),
            None,
            Some(4_096),
            Some(7),
            Some(-5_000),
        ]));
        let counted = |column: CellColumn, batches: &[&ArrayRef]| {
            let mut cells = Cells::new(CellSpec {
                columns: vec![column],
                keys: vec![vec![0]],
                groups: vec![GroupSpec::default()],
            })
            .unwrap();
            for batch in batches {
                cells.update(&inputs(&[Arc::clone(batch)])).unwrap();
            }
            let rows = cells.finish().unwrap().rows(0).unwrap();
            let keys = rows.keys[0].as_string::<i32>();
            let counts = rows.counts.values();
            let rows = keys.iter().zip(counts);
            rows.map(|(key, count)| (key.map(str::to_owned), *count))
                .collect::<BTreeMap<_, _>>()
        };
        let expected = |of: &[(Option<&str>, i64)]| {
            let of = of.iter();
            of.map(|(key, count)| (key.map(str::to_owned), *count))
                .collect::<BTreeMap<_, _>>()
        };
        for (column, batches, wanted) in [
            (
                CellColumn::Text,
                vec![&views, &coded],
                vec![
                    (None, 2),
                    (Some("-5000"), 2),
                    (Some("7"), 4),
                    (Some("unknown"), 2),
                ],
            ),
            (
                CellColumn::TextOr("unknown"),
                vec![&coded, &views],
                vec![(Some("-5000"), 2), (Some("7"), 4), (Some("unknown"), 4)],
            ),
            (
                CellColumn::Text,
                vec![&numbers, &views, &numbers],
                vec![
                    (None, 3),
                    (Some("-5000"), 3),
                    (Some("4096"), 2),
                    (Some("7"), 6),
                    (Some("unknown"), 1),
                ],
            ),
        ] {
            assert_eq!(counted(column, &batches), expected(&wanted), "{column:?}");
        }
    }

    #[test]
    fn a_mask_says_which_filters_a_row_passes() {
        for (filters, rows) in [(0, 5), (1, 64), (3, 63), (64, 130), (70, 65), (128, 200)] {
            let mut draws = numbers(filters * rows, 4);
            let arrays: Vec<BooleanArray> = (0..filters)
                .map(|_| {
                    let values = (0..rows).map(|_| match draws.next() {
                        Some(0) => None,
                        draw => Some(draw > Some(1)),
                    });
                    values.collect()
                })
                .collect();
            // Some come coded, over the same keys or over their own.
            let keys: Int32Array = (0..rows as i32).map(|row| Some(row % 5)).collect();
            let with_nulls: Int32Array = keys
                .iter()
                .enumerate()
                .map(|(row, key)| key.filter(|_| row % 7 > 0))
                .collect();
            let mut masks = MaskCodes::default();
            for (coded, keys) in [(0, &keys), (filters, &keys), (9, &keys), (9, &with_nulls)] {
                let given: Vec<ArrayRef> = arrays
                    .iter()
                    .enumerate()
                    .map(|(bit, filter)| match bit < coded {
                        false => Arc::new(filter.clone()) as ArrayRef,
                        true => {
                            let values = Arc::new(filter.slice(0, 5.min(rows)));
                            let keys = match bit % 4 {
                                3 => keys.iter().collect(),
                                _ => keys.clone(),
                            };
                            Arc::new(DictionaryArray::new(keys, values))
                        }
                    })
                    .collect();
                let mut codes = Vec::new();
                let given = inputs(&given);
                let filters: Vec<&InputColumn> = given.iter().collect();
                match masks.codes(&filters, rows, &mut codes).unwrap() {
                    Passed::ByRow => {}
                    Passed::Same(code) => codes = vec![code; rows],
                    Passed::Coded(coded, table) => {
                        assert!(codes.is_empty());
                        coded.look_up(&table, 0, &mut codes);
                    }
                }
                assert_eq!(codes.len(), rows);
                for (bit, filter) in given.iter().enumerate() {
                    let passes = passing(filter).unwrap();
                    for (row, code) in codes.iter().enumerate() {
                        let mask = masks.values[*code as usize];
                        assert_eq!(mask >> bit & 1 == 1, passes.value(row), "{row}, {bit}");
                        if bit >= coded {
                            let own = arrays[bit].is_valid(row) && arrays[bit].value(row);
                            assert_eq!(passes.value(row), own, "{row}, {bit}");
                        }
                    }
                }
            }
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
        cells.update(&inputs(&batch)).unwrap();
        let cells = cells.finish().unwrap();
        assert!(cells.rows(0).unwrap_err().to_string().contains("64 bits"));
    }

    #[test]
    fn columns_of_another_use_are_refused() {
        let mut wrong = spec();
        wrong.groups[0].sums = vec![0];
        assert!(Cells::new(wrong).is_err());
        let mut cells = Cells::new(spec()).unwrap();
        assert!(cells.update(&inputs(&columns(&rows(3))[..3])).is_err());
        let mut mixed = columns(&rows(3));
        mixed.swap(0, 1);
        assert!(cells.update(&inputs(&mixed)).is_err());
    }

    #[test]
    fn the_month_and_the_year_of_a_day_are_those_of_the_calendar() {
        for day in (-200_000..200_000).step_by(7) {
            let date = arrow::temporal_conversions::date32_to_datetime(day).unwrap();
            let of_month: i32 = date.date().to_string()[8..].parse().unwrap_or(0);
            // Years before 1 or after 9999 are written with a sign and more digits.
            if (1..=31).contains(&of_month) && date.date().to_string().len() == 10 {
                assert_eq!(first_of_month(day), day - of_month + 1, "day {day}");
                let of_year = date.date().format("%j").to_string();
                let of_year: i32 = of_year.parse().unwrap_or(0);
                assert_eq!(first_of_year(day), day - of_year + 1, "day {day}");
            }
        }
        assert_eq!(first_of_month(19_782), 19_754); // 2024-02-29
    }
}
