//! Fine cells: one for every combination of all keys and of the filters that a row passes.
//!
//! Each row is added once, whatever the number of groups; a group takes the fine cells whose rows pass
//! its filters, as if each were one row that stands for many. What may not live here: the statistics
//! themselves (`groups.rs`).

use arrow::array::{BinaryArray, Date32Array};
use datafusion_common::{Result, exec_err};

use crate::rollup::MemberNumbers;

use super::coded::{Coded, InHand, InputColumn};
use super::groups::{Group, Places};
use super::index::CellIndex;
use super::keys::{Codes, MOST_FILTERS, NOBODY, Passed};
use super::sets::{CellSets, Members};
use super::{CellSpec, Cells, DaysOf, GroupSpec, at, mapped, put_slot, slot, take_slot};

/// When fine cells are rolled up before the end, and when they are given up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Most fine cells.
    pub(super) cells: usize,
    /// Most bytes of them.
    pub(super) bytes: usize,
    /// After so many rows it is seen whether rows share cells at all.
    pub(super) trial_rows: u64,
}

/// A fine cell must stand for this many rows, or it saves nothing.
const LEAST_SHARING: u64 = 4;

/// Fine cells being built.
#[derive(Debug)]
pub(super) struct Fine {
    /// The key columns, and the filters together as the last.
    columns: Vec<usize>,
    filters: Vec<usize>,
    index: CellIndex,
    /// All amounts of all groups.
    spec: GroupSpec,
    group: Group,
    /// Where each group finds its amounts, and the filters that it asks for.
    places: Vec<Places>,
    wanted: Vec<u128>,
    rows: u64,
    pub(super) limits: Limits,
    cells: Vec<u32>,
}

/// What is left of fine cells when the groups are complete.
#[derive(Debug)]
pub(super) enum Left {
    Nothing,
    /// The sets.
    Sets(RolledUp),
    /// The only group has taken over the fine cells.
    Only(OnlyGroup),
}

/// The cells of a group that is the only one: fine cells whose rows pass all of its filters.
#[derive(Debug)]
pub(super) struct OnlyGroup {
    pub(super) present: Vec<u32>,
    /// Codes of those present, by column of the key.
    pub(super) codes: Vec<Vec<u32>>,
}

/// Finished fine cells, for the sets that are still in them.
#[derive(Debug)]
pub(super) struct RolledUp {
    masks: Vec<u128>,
    places: Vec<Places>,
    wanted: Vec<u128>,
    /// The sets of the fine cells.
    sets: Vec<CellSets>,
    days: Vec<CellSets<u32>>,
}

fn found_or_added<T: PartialEq>(list: &mut Vec<T>, item: T) -> usize {
    match list.iter().position(|known| *known == item) {
        Some(place) => place,
        None => {
            list.push(item);
            list.len() - 1
        }
    }
}

impl Fine {
    /// Fine cells for a specification, where they can help.
    pub(super) fn of(spec: &CellSpec) -> Option<Self> {
        let mut columns = Vec::new();
        for column in spec.keys.iter().flatten() {
            found_or_added(&mut columns, *column);
        }
        let mut filters = Vec::new();
        let mut all = GroupSpec::default();
        let mut places = Vec::new();
        let mut wanted = Vec::new();
        for group in &spec.groups {
            let bits = group.filters.iter();
            let bits = bits.map(|column| found_or_added(&mut filters, *column));
            let mask = bits.fold(0u128, |mask, bit| {
                mask | 1u128.checked_shl(bit as u32).unwrap_or(0)
            });
            wanted.push(mask);
            let in_all = |own: &[usize], all: &mut Vec<usize>| -> Vec<usize> {
                own.iter()
                    .map(|column| found_or_added(all, *column))
                    .collect()
            };
            places.push(Places {
                sums: in_all(&group.sums, &mut all.sums),
                histograms: in_all(&group.histograms, &mut all.histograms),
                sets: in_all(&group.sets, &mut all.sets),
                days: group
                    .days
                    .iter()
                    // Months are those of each group's key.
                    .map(|own| found_or_added(&mut all.days, DaysOf { month: 0, ..*own }))
                    .collect(),
            });
        }
        if columns.is_empty() || filters.len() > MOST_FILTERS {
            return None;
        }
        // The filters together have the number after the last column's.
        columns.push(spec.columns.len());
        Some(Self {
            index: CellIndex::new(columns.len()),
            columns,
            filters,
            group: Group::of(&all),
            spec: all,
            places,
            wanted,
            rows: 0,
            limits: Limits {
                cells: 1 << 20,
                bytes: 128 << 20,
                trial_rows: 1 << 18,
            },
            cells: Vec::new(),
        })
    }

    /// Adds rows; false, and none is added, when there are more combinations than can be counted. Of the
    /// columns that are `met`, the codes of their values are known and not those of their rows.
    fn update(
        &mut self,
        columns: &[InputColumn],
        rows: usize,
        codes: &mut [Codes],
        met: &[bool],
        column_codes: &mut [Vec<u32>],
    ) -> Result<bool> {
        let filters = self.filters.iter().map(|column| columns.get(*column));
        let Some(filters) = filters.collect::<Option<Vec<_>>>() else {
            return exec_err!("a filter of a scan is missing");
        };
        let passed = match (codes.last_mut(), column_codes.last_mut()) {
            (Some(Codes::Mask(masks)), Some(own)) => masks.codes(&filters, rows, own)?,
            _ => Passed::ByRow,
        };
        let of_columns = self.columns.iter().map(|column| {
            if *column == columns.len() {
                return match &passed {
                    Passed::Same(code) => InHand::Same(*code),
                    Passed::Coded(coded, of_values) => InHand::Coded(*coded, of_values),
                    Passed::ByRow => InHand::Rows(slot(column_codes, *column)),
                };
            }
            let coded = columns
                .get(*column)
                .filter(|_| met.get(*column) == Some(&true));
            match (coded.and_then(Coded::of), codes.get(*column)) {
                (Some(coded), Some(codes)) => InHand::Coded(coded, codes.last()),
                _ => InHand::Rows(slot(column_codes, *column)),
            }
        });
        let of_columns: Vec<InHand<'_>> = of_columns.collect();
        if !self.index.cells(&of_columns, rows, &mut self.cells) {
            return Ok(false);
        }
        self.rows += rows as u64;
        self.group.grow(self.index.len());
        self.group
            .update(&self.spec, columns, column_codes, &self.cells, None)?;
        Ok(true)
    }

    fn count(&self) -> usize {
        self.index.len()
    }

    /// Whether fine cells stand for so few rows each that they save nothing.
    fn is_useless(&self) -> bool {
        self.count() as u64 * LEAST_SHARING > self.rows
    }

    fn is_due(&self) -> bool {
        self.count() > self.limits.cells
            || (self.rows >= self.limits.trial_rows && self.is_useless())
            || self.heap_bytes() > self.limits.bytes
    }

    /// Without cells again, for the rows to come.
    fn emptied(mut self) -> Self {
        self.index = CellIndex::new(self.columns.len());
        self.group = Group::of(&self.spec);
        self.rows = 0;
        self
    }

    /// Takes in the cells of another part; false, and none is taken, when there are more combinations
    /// than can be counted.
    pub(super) fn merge(&mut self, other: &mut Fine, code_maps: &[Vec<u32>]) -> Result<bool> {
        let columns = self.columns.iter().enumerate();
        let columns: Vec<Vec<u32>> = columns
            .map(|(place, column)| {
                let map = slot(code_maps, *column);
                let codes = other.index.codes(place).iter();
                codes.map(|code| mapped(map, *code)).collect()
            })
            .collect();
        let columns: Vec<InHand<'_>> = columns.iter().map(|codes| InHand::Rows(codes)).collect();
        if !self
            .index
            .cells(&columns, other.index.len(), &mut self.cells)
        {
            return Ok(false);
        }
        self.rows += other.rows;
        self.group
            .merge(&self.spec, &mut other.group, &self.cells, code_maps)?;
        Ok(true)
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.index.heap_bytes() + self.group.heap_bytes()
    }
}

impl RolledUp {
    /// The sets of a group's cells; `place` is that of the set in the group.
    pub(super) fn sets(
        &self,
        cells: &Cells,
        group: usize,
        place: usize,
        members: &Members,
        present: &[u32],
    ) -> Result<MemberNumbers> {
        let of_group = self.places.get(group).and_then(|own| own.sets.get(place));
        let (sets, own) = self.of_group(cells, group, of_group, &self.sets)?;
        Ok(members.sets(sets, own, present))
    }

    /// The sets of days of a group's cells, whose months begin on these days.
    pub(super) fn days(
        &self,
        cells: &Cells,
        group: usize,
        place: usize,
        members: &Members,
        present: &[u32],
        months: &Date32Array,
    ) -> Result<BinaryArray> {
        let of_group = self.places.get(group).and_then(|own| own.days.get(place));
        let (days, own) = self.of_group(cells, group, of_group, &self.days)?;
        members.days(days, own, present, months)
    }

    /// What a group takes of the fine cells, and the cell of the group that each of them is a part of.
    fn of_group<'a, S>(
        &'a self,
        cells: &'a Cells,
        group: usize,
        place: Option<&usize>,
        all: &'a [S],
    ) -> Result<(&'a S, impl Iterator<Item = u32> + Clone + 'a)> {
        let (Some(own), Some(wanted), Some(spec)) = (
            place.and_then(|place| all.get(*place)),
            self.wanted.get(group),
            cells.spec.groups.get(group),
        ) else {
            return exec_err!("a set has no members");
        };
        Ok((own, counting(cells.cells_of(spec), &self.masks, *wanted)))
    }
}

/// The cell of each fine one, or [`NOBODY`] where its rows do not pass the filters that are wanted.
fn counting(cells: &[u32], masks: &[u128], wanted: u128) -> impl Iterator<Item = u32> + Clone {
    let cells = cells.iter().zip(masks);
    cells.map(move |(cell, mask)| match mask & wanted == wanted {
        true => *cell,
        false => NOBODY,
    })
}

impl Cells {
    /// Adds rows, whose columns have their codes or are met already, to the fine cells; false when there
    /// are none any more.
    pub(super) fn update_fine(
        &mut self,
        columns: &[InputColumn],
        rows: usize,
        met: &[bool],
    ) -> Result<bool> {
        let Some(fine) = &mut self.fine else {
            return Ok(false);
        };
        if !fine.update(columns, rows, &mut self.codes, met, &mut self.column_codes)? {
            // The codes of the rows in hand are still needed, and rolling up writes over them.
            let codes = self.column_codes.clone();
            self.leave_fine()?;
            self.column_codes = codes;
            return Ok(false);
        }
        if fine.is_due() {
            let useless = fine.is_useless();
            if let Some(fine) = self.roll_up()?
                && !useless
            {
                self.fine = Some(fine.emptied());
            }
        }
        Ok(true)
    }

    /// Goes on without fine cells.
    pub(super) fn leave_fine(&mut self) -> Result<()> {
        self.roll_up().map(|_| ())
    }

    /// Adds the fine cells, if there are any, to all groups, and gives them away.
    fn roll_up(&mut self) -> Result<Option<Fine>> {
        let Some(mut fine) = self.fine.take() else {
            return Ok(None);
        };
        fine.group.settle();
        let masks = self.unpack(&fine);
        self.absorb(&mut fine, &masks)?;
        for (place, spec) in self.spec.groups.iter().enumerate() {
            let node = self.key_nodes.get(spec.key).copied().unwrap_or_default();
            let cells = slot(&self.node_cells, node);
            if let (Some(group), Some(places), Some(wanted)) = (
                self.groups.get_mut(place),
                fine.places.get(place),
                fine.wanted.get(place),
            ) {
                group.absorb_sets(&fine.group, places, counting(cells, &masks, *wanted));
            }
        }
        Ok(Some(fine))
    }

    /// Completes the groups. Sets stay in the fine cells, unless some have left them already.
    pub(super) fn finish_fine(&mut self) -> Result<Left> {
        let mut groups = self.groups.iter();
        if groups.any(Group::has_members) {
            self.leave_fine()?;
            return Ok(Left::Nothing);
        }
        let Some(mut fine) = self.fine.take() else {
            return Ok(Left::Nothing);
        };
        if let Some(only) = self.only_group(&mut fine) {
            return Ok(Left::Only(only));
        }
        fine.group.settle();
        let masks = self.unpack(&fine);
        self.absorb(&mut fine, &masks)?;
        Ok(Left::Sets(RolledUp {
            masks,
            sets: fine.group.sets,
            days: fine.group.days,
            places: fine.places,
            wanted: fine.wanted,
        }))
    }

    /// Where there is one group, and no cells of it yet, fine cells are its cells: all keys and all filters
    /// are its own.
    fn only_group(&mut self, fine: &mut Fine) -> Option<OnlyGroup> {
        let ([group], [spec]) = (self.groups.as_mut_slice(), self.spec.groups.as_slice()) else {
            return None;
        };
        let (all, wanted) = (&fine.spec, *fine.wanted.first()?);
        let is_same = (&spec.sums, &spec.histograms, &spec.sets)
            == (&all.sums, &all.histograms, &all.sets)
            && spec.days.len() == all.days.len();
        let key = self.spec.keys.get(spec.key)?;
        let (_, columns) = fine.columns.split_last()?;
        let is_finer = columns.iter().any(|column| !key.contains(column));
        if !is_same || is_finer || group.tally.cells() > 0 {
            return None;
        }
        let Some(Codes::Mask(known)) = self.codes.last() else {
            return None;
        };
        let masks = fine.index.codes(columns.len());
        let masks = masks.iter().map(|code| at(&known.values, *code));
        let passing = (0u32..).zip(masks);
        let passing = passing.filter(|(_, mask)| mask & wanted == wanted);
        let present: Vec<u32> = passing.map(|(cell, _)| cell).collect();
        let codes = key.iter().map(|column| {
            let place = columns.iter().position(|own| own == column)?;
            let codes = fine.index.codes(place);
            Some(present.iter().map(|cell| at(codes, *cell)).collect())
        });
        let codes: Vec<Vec<u32>> = codes.collect::<Option<_>>()?;
        *group = std::mem::take(&mut fine.group);
        Some(OnlyGroup { present, codes })
    }

    /// Takes fine cells as the rows in hand: their codes, and their cell at every node. Gives the
    /// filters that each passes.
    fn unpack(&mut self, fine: &Fine) -> Vec<u128> {
        for (place, column) in fine.columns.iter().enumerate() {
            let own = fine.index.codes(place).to_vec();
            put_slot(&mut self.column_codes, *column, own);
        }
        self.number_cells();
        let masks = take_slot(&mut self.column_codes, self.spec.columns.len());
        match self.codes.last() {
            Some(Codes::Mask(known)) => masks.iter().map(|code| at(&known.values, *code)).collect(),
            _ => Vec::new(),
        }
    }

    /// Adds everything but the sets of unpacked fine cells to the groups.
    fn absorb(&mut self, fine: &mut Fine, masks: &[u128]) -> Result<()> {
        let mut selected = std::mem::take(&mut self.selected);
        let mut asked = vec![0usize; fine.spec.histograms.len()];
        for place in fine.places.iter().flat_map(|places| &places.histograms) {
            if let Some(asked) = asked.get_mut(*place) {
                *asked += 1;
            }
        }
        let is_own = |place: usize| asked.get(place) == Some(&1);
        for (place, spec) in self.spec.groups.iter().enumerate() {
            let node = self.key_nodes.get(spec.key).copied().unwrap_or_default();
            let cells = slot(&self.node_cells, node);
            if let (Some(group), Some(places), Some(wanted)) = (
                self.groups.get_mut(place),
                fine.places.get(place),
                fine.wanted.get(place),
            ) {
                let passing = (0u32..).zip(masks);
                let passing = passing.filter(|(_, mask)| *mask & wanted == *wanted);
                selected.clear();
                selected.extend(passing.map(|(fine, _)| fine));
                group.absorb(&mut fine.group, is_own, places, cells, &selected)?;
            }
        }
        self.selected = selected;
        Ok(())
    }
}
