//! The statistics of one grouping, in arrays addressed by cell.
//!
//! What may not live here: how rows get their cells (`keys.rs`). To add a statistic: its state in
//! [`Group`], with update, absorb, merge and bytes.

use arrow::array::{Array, AsArray, Int64Array};
use arrow::datatypes::Int64Type;
use datafusion_common::{Result, exec_err};

use super::coded::InputColumn;
use super::days::CellDays;
use super::sets::CellSets;
use super::tally::Tally;
use super::{GroupSpec, at, slot};

/// The statistics of one grouping. Every array is addressed by cell.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) tally: Tally,
    pub(super) histograms: Vec<CellDays>,
    pub(super) sets: Vec<CellSets>,
    pub(super) days: Vec<CellSets<u32>>,
}

/// Where a grouping finds its columns among those of finer cells.
#[derive(Debug, Default)]
pub(super) struct Places {
    pub(super) sums: Vec<usize>,
    pub(super) histograms: Vec<usize>,
    pub(super) sets: Vec<usize>,
    pub(super) days: Vec<usize>,
}

impl Group {
    pub(super) fn of(spec: &GroupSpec) -> Self {
        Self {
            tally: Tally::new(spec.sums.len()),
            histograms: spec
                .histograms
                .iter()
                .map(|_| CellDays::default())
                .collect(),
            sets: spec.sets.iter().map(|_| CellSets::default()).collect(),
            days: spec.days.iter().map(|_| CellSets::default()).collect(),
        }
    }

    /// Adds rows, each to its cell: all of them, or those selected. There must be room for the cells.
    pub(super) fn update(
        &mut self,
        spec: &GroupSpec,
        columns: &[InputColumn],
        codes: &[Vec<u32>],
        cells: &[u32],
        selected: Option<&[u32]>,
    ) -> Result<()> {
        let amounts = spec.sums.iter().map(|column| whole(columns, *column));
        let amounts: Vec<&Int64Array> = amounts.collect::<Result<_>>()?;
        self.tally.add(cells, selected, &amounts);
        for (histograms, column) in self.histograms.iter_mut().zip(&spec.histograms) {
            histograms.add(cells, selected, given(columns, *column)?)?;
        }
        for (set, column) in self.sets.iter_mut().zip(&spec.sets) {
            set.update(slot(codes, *column), cells, selected, |_| Some(()));
        }
        for (set, own) in self.days.iter_mut().zip(&spec.days) {
            let days = whole(columns, own.days)?;
            let nulls = days.nulls().filter(|nulls| nulls.null_count() > 0);
            let days_of = |row: usize| {
                let days = *days.values().get(row)?;
                let is_known = nulls.is_none_or(|nulls| nulls.is_valid(row));
                let days = u32::try_from(days).ok()?;
                (is_known && days > 0).then_some(days)
            };
            set.update(slot(codes, own.member), cells, selected, days_of);
        }
        Ok(())
    }

    /// Makes room for so many cells.
    pub(super) fn grow(&mut self, cells: usize) {
        self.tally.grow(cells);
        for histograms in &mut self.histograms {
            histograms.grow(cells);
        }
    }

    /// Takes in finer cells: those selected, each as part of the cell that `cells` says. Histograms that
    /// are `own`, needed by no other grouping, are taken away. Sets are taken in by
    /// [`Group::absorb_sets`].
    pub(super) fn absorb(
        &mut self,
        finer: &mut Group,
        own: impl Fn(usize) -> bool,
        places: &Places,
        cells: &[u32],
        selected: &[u32],
    ) -> Result<()> {
        let highest = selected
            .iter()
            .filter_map(|fine| cells.get(*fine as usize))
            .max();
        let Some(needed) = highest.map(|cell| *cell as usize + 1) else {
            return Ok(());
        };
        self.grow(needed);
        let pairs = selected.iter().map(|fine| (*fine, at(cells, *fine)));
        self.tally.absorb(&finer.tally, pairs, &places.sums);
        for (histograms, place) in self.histograms.iter_mut().zip(&places.histograms) {
            let Some(finer) = finer.histograms.get_mut(*place) else {
                continue;
            };
            let mut pairs = selected.iter().map(|fine| (*fine, at(cells, *fine)));
            match own(*place) {
                true => histograms.take_over(std::mem::take(finer), pairs)?,
                false => pairs.try_for_each(|(fine, cell)| histograms.absorb(cell, finer, fine))?,
            }
        }
        Ok(())
    }

    /// Takes in the sets of finer cells, which have settled.
    pub(super) fn absorb_sets(
        &mut self,
        finer: &Group,
        places: &Places,
        cell_of: impl Iterator<Item = u32> + Clone,
    ) {
        for (own, place) in self.sets.iter_mut().zip(&places.sets) {
            if let Some(set) = finer.sets.get(*place) {
                own.absorb(set, cell_of.clone());
            }
        }
        for (own, place) in self.days.iter_mut().zip(&places.days) {
            if let Some(set) = finer.days.get(*place) {
                own.absorb(set, cell_of.clone());
            }
        }
    }

    /// Takes in the statistics of another part, whose cells are these `cells`, and leaves it without
    /// histograms and sets.
    pub(super) fn merge(
        &mut self,
        spec: &GroupSpec,
        other: &mut Group,
        cells: &[u32],
        code_maps: &[Vec<u32>],
    ) -> Result<()> {
        self.grow(cells.iter().max().map_or(0, |cell| *cell as usize + 1));
        let sums: Vec<usize> = (0..spec.sums.len()).collect();
        let pairs = (0u32..).zip(cells.iter().copied());
        self.tally.absorb(&other.tally, pairs, &sums);
        for (own, others) in self.histograms.iter_mut().zip(&mut other.histograms) {
            let pairs = (0u32..).zip(cells.iter().copied());
            own.take_over(std::mem::take(others), pairs)?;
        }
        let others = other.sets.iter_mut().map(std::mem::take);
        for ((own, others), column) in self.sets.iter_mut().zip(others).zip(&spec.sets) {
            own.merge(others, cells, slot(code_maps, *column));
        }
        let others = other.days.iter_mut().map(std::mem::take);
        for ((own, others), of) in self.days.iter_mut().zip(others).zip(&spec.days) {
            own.merge(others, cells, slot(code_maps, of.member));
        }
        Ok(())
    }

    /// Works in all members that came late.
    pub(super) fn settle(&mut self) {
        self.sets.iter_mut().for_each(CellSets::settle);
        self.days.iter_mut().for_each(CellSets::settle);
    }

    pub(super) fn has_members(&self) -> bool {
        let has = !self.sets.iter().all(CellSets::is_empty);
        has || !self.days.iter().all(CellSets::is_empty)
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let sets: usize = self.sets.iter().map(CellSets::heap_bytes).sum();
        let histograms: usize = self.histograms.iter().map(CellDays::heap_bytes).sum();
        let days: usize = self.days.iter().map(CellSets::heap_bytes).sum();
        self.tally.heap_bytes() + sets + days + histograms
    }
}

fn given(columns: &[InputColumn], column: usize) -> Result<&InputColumn> {
    match columns.get(column) {
        Some(column) => Ok(column),
        None => exec_err!("a column of a scan is missing"),
    }
}

fn whole(columns: &[InputColumn], column: usize) -> Result<&Int64Array> {
    let amounts = given(columns, column)?.plain();
    match amounts.and_then(|amounts| amounts.as_primitive_opt::<Int64Type>()) {
        Some(whole) => Ok(whole),
        None => exec_err!("an amount of a scan has another type than agreed"),
    }
}
