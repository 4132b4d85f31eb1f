//! Fine cells: one for every combination of all keys and of the filters that a row passes.
//!
//! Each row is added once, whatever the number of groups; a group takes the fine cells whose rows pass
//! its filters, as if each were one row that stands for many. What may not live here: the statistics
//! themselves (`groups.rs`).

use arrow::array::{ArrayRef, AsArray};
use datafusion_common::{Result, exec_err};

use crate::rollup::MemberNumbers;

use super::groups::{Group, MemberOrder, Places, sets_of, state_of};
use super::keys::{Codes, MOST_FILTERS, NOBODY, PairIndex};
use super::{CellSpec, Cells, GroupSpec, at, mapped, put_slot, slot, take_slot};

/// Fewer groups than this are as quickly served one by one.
const LEAST_GROUPS: usize = 3;

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
    /// Each adds a column to the one before it.
    pairs: Vec<PairIndex>,
    /// All amounts of all groups.
    spec: GroupSpec,
    group: Group,
    /// Where each group finds its amounts, and the filters that it asks for.
    places: Vec<Places>,
    wanted: Vec<u128>,
    rows: u64,
    pub(super) limits: Limits,
    cells: Vec<u32>,
    finer: Vec<u32>,
    selected: Vec<u32>,
}

/// Finished fine cells, for the sets that are still in them.
#[derive(Debug)]
pub(super) struct RolledUp {
    masks: Vec<u128>,
    places: Vec<Places>,
    wanted: Vec<u128>,
    /// Rank and fine cell, rank after rank, of each set of the fine cells.
    pairs: Vec<Vec<u64>>,
}

fn found_or_added(list: &mut Vec<usize>, item: usize) -> usize {
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
            });
        }
        if spec.groups.len() < LEAST_GROUPS || columns.is_empty() || filters.len() > MOST_FILTERS {
            return None;
        }
        // The filters together have the number after the last column's.
        let pairs = columns.iter().map(|_| PairIndex::default()).collect();
        columns.push(spec.columns.len());
        Some(Self {
            columns,
            filters,
            pairs,
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
            finer: Vec::new(),
            selected: Vec::new(),
        })
    }

    fn update(
        &mut self,
        columns: &[ArrayRef],
        rows: usize,
        codes: &mut [Codes],
        column_codes: &mut [Vec<u32>],
    ) -> Result<()> {
        let filters = self.filters.iter();
        let filters = filters.map(|column| columns.get(*column)?.as_boolean_opt());
        let Some(filters) = filters.collect::<Option<Vec<_>>>() else {
            return exec_err!("a filter of a scan has another type than agreed");
        };
        if let (Some(Codes::Mask(masks)), Some(own)) = (codes.last_mut(), column_codes.last_mut()) {
            masks.codes(&filters, rows, own);
        }
        let mut columns_of_key = self.columns.iter();
        self.cells.clear();
        if let Some(first) = columns_of_key.next() {
            self.cells.extend_from_slice(slot(column_codes, *first));
        }
        for (column, pairs) in columns_of_key.zip(&mut self.pairs) {
            self.finer.clear();
            pairs.cells(&self.cells, slot(column_codes, *column), &mut self.finer);
            std::mem::swap(&mut self.cells, &mut self.finer);
        }
        self.selected.clear();
        self.selected.extend(0..rows as u32);
        self.rows += rows as u64;
        self.group.update(
            &self.spec,
            columns,
            column_codes,
            &self.cells,
            &self.selected,
        )
    }

    fn count(&self) -> usize {
        self.pairs.last().map_or(0, |pairs| pairs.pairs.len())
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
        self.pairs
            .iter_mut()
            .for_each(|pairs| *pairs = PairIndex::default());
        self.group = Group::of(&self.spec);
        self.rows = 0;
        self
    }

    pub(super) fn merge(&mut self, other: &mut Fine, code_maps: &[Vec<u32>]) -> Result<()> {
        let mut columns = self.columns.iter();
        let first = columns.next().map(|column| slot(code_maps, *column));
        let mut cells = first.unwrap_or_default().to_vec();
        for (column, (own, others)) in columns.zip(self.pairs.iter_mut().zip(&other.pairs)) {
            let codes = slot(code_maps, *column);
            let pairs = others.pairs.iter();
            cells = pairs
                .map(|(cell, code)| own.cell(mapped(&cells, *cell), mapped(codes, *code)))
                .collect();
        }
        self.rows += other.rows;
        self.group
            .merge(&self.spec, &mut other.group, &cells, code_maps)
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let pairs: usize = self.pairs.iter().map(PairIndex::heap_bytes).sum();
        pairs + self.group.heap_bytes()
    }
}

impl RolledUp {
    /// The sets of a group's cells; `place` is that of the set in the group.
    pub(super) fn sets(
        &self,
        cells: &Cells,
        group: usize,
        place: usize,
        order: &MemberOrder,
        present: &[u32],
    ) -> Result<MemberNumbers> {
        let of_group = self.places.get(group).and_then(|own| own.sets.get(place));
        let (Some(pairs), Some(wanted), Some(spec)) = (
            of_group.and_then(|place| self.pairs.get(*place)),
            self.wanted.get(group),
            cells.spec.groups.get(group),
        ) else {
            return exec_err!("a set has no members");
        };
        let own = cells.cells_of(spec).iter().zip(&self.masks);
        let own: Vec<u32> = own
            .map(|(cell, mask)| match mask & wanted == *wanted {
                true => *cell,
                false => NOBODY,
            })
            .collect();
        Ok(sets_of(order, pairs, &own, present))
    }
}

impl Cells {
    /// Adds rows, whose columns have their codes already, to the fine cells.
    pub(super) fn update_fine(&mut self, columns: &[ArrayRef], rows: usize) -> Result<()> {
        let Some(fine) = &mut self.fine else {
            return Ok(());
        };
        fine.update(columns, rows, &mut self.codes, &mut self.column_codes)?;
        if !fine.is_due() {
            return Ok(());
        }
        let useless = fine.is_useless();
        if let Some(fine) = self.roll_up()?
            && !useless
        {
            self.fine = Some(fine.emptied());
        }
        Ok(())
    }

    /// Goes on without fine cells.
    pub(super) fn leave_fine(&mut self) -> Result<()> {
        self.roll_up().map(|_| ())
    }

    /// Adds the fine cells, if there are any, to all groups, and gives them away.
    fn roll_up(&mut self) -> Result<Option<Fine>> {
        let Some(fine) = self.fine.take() else {
            return Ok(None);
        };
        let masks = self.unpack(&fine);
        self.absorb(&fine, &masks)?;
        for (place, spec) in self.spec.groups.iter().enumerate() {
            let node = self.key_nodes.get(spec.key).copied().unwrap_or_default();
            let cells = slot(&self.node_cells, node);
            if let (Some(group), Some(places), Some(wanted)) = (
                self.groups.get_mut(place),
                fine.places.get(place),
                fine.wanted.get(place),
            ) {
                group.absorb_sets(&fine.group, places, cells, |fine| {
                    at(&masks, fine) & wanted == *wanted
                });
            }
        }
        Ok(Some(fine))
    }

    /// Completes the groups. Sets stay in the fine cells, unless some have left them already.
    pub(super) fn finish_fine(&mut self, orders: &[MemberOrder]) -> Result<Option<RolledUp>> {
        let mut sets = self.groups.iter().flat_map(|group| &group.sets);
        if sets.any(|set| !set.pairs.is_empty()) {
            self.leave_fine()?;
            return Ok(None);
        }
        let Some(fine) = self.fine.take() else {
            return Ok(None);
        };
        let masks = self.unpack(&fine);
        self.absorb(&fine, &masks)?;
        let sets = fine.spec.sets.iter().zip(&fine.group.sets);
        let pairs = sets.map(|(column, set)| {
            let order = orders.get(*column);
            order.map_or_else(Vec::new, |order| set.by_rank(order))
        });
        Ok(Some(RolledUp {
            masks,
            pairs: pairs.collect(),
            places: fine.places,
            wanted: fine.wanted,
        }))
    }

    /// Takes fine cells as the rows in hand: their codes, and their cell at every node. Gives the
    /// filters that each passes.
    fn unpack(&mut self, fine: &Fine) -> Vec<u128> {
        let mut cells: Vec<u32> = (0..fine.count() as u32).collect();
        let of_pairs = fine.columns.iter().skip(1).zip(&fine.pairs);
        for (column, pairs) in of_pairs.rev() {
            let split = cells.iter().map(|cell| pairs.pair(*cell));
            let (coarser, own): (Vec<u32>, Vec<u32>) = split.unzip();
            put_slot(&mut self.column_codes, *column, own);
            cells = coarser;
        }
        if let Some(first) = fine.columns.first() {
            put_slot(&mut self.column_codes, *first, cells);
        }
        self.number_cells();
        let masks = take_slot(&mut self.column_codes, self.spec.columns.len());
        match self.codes.last() {
            Some(Codes::Mask(known)) => masks.iter().map(|code| at(&known.values, *code)).collect(),
            _ => Vec::new(),
        }
    }

    /// Adds everything but the sets of unpacked fine cells to the groups.
    fn absorb(&mut self, fine: &Fine, masks: &[u128]) -> Result<()> {
        let states: Vec<Vec<Vec<u8>>> = fine
            .group
            .histograms
            .iter()
            .map(|own| {
                let cells = 0..masks.len() as u32;
                cells.map(|cell| state_of(own, cell)).collect()
            })
            .collect();
        let mut selected = std::mem::take(&mut self.selected);
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
                group.absorb(&fine.group, &states, places, cells, &selected)?;
            }
        }
        self.selected = selected;
        Ok(())
    }
}
