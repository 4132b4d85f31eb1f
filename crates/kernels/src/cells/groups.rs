//! The statistics of one grouping, in arrays addressed by cell.
//!
//! What may not live here: how rows get their cells (`keys.rs`). To add a statistic: its state in
//! [`Group`], with update, absorb, merge and bytes.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BinaryArray, Int64Array};
use arrow::datatypes::Int64Type;
use datafusion_common::{Result, exec_err};

use super::days::CellDays;
use super::keys::{MemberCodes, NOBODY};
use super::tally::Tally;
use super::{GroupSpec, at, highest, mapped, slot};
use crate::rollup::{Lists, MemberNames, MemberNumbers};

/// Pairs of cell and member are folded when this many have come, and when they have multiplied.
const FOLD_AT: usize = 1 << 16;

/// The statistics of one grouping. Every array is addressed by cell.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) tally: Tally,
    pub(super) histograms: Vec<CellDays>,
    pub(super) sets: Vec<SetState>,
}

/// Where a grouping finds its columns among those of finer cells.
#[derive(Debug, Default)]
pub(super) struct Places {
    pub(super) sums: Vec<usize>,
    pub(super) histograms: Vec<usize>,
    pub(super) sets: Vec<usize>,
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
            sets: spec.sets.iter().map(|_| SetState::default()).collect(),
        }
    }

    /// Adds rows, each to its cell: all of them, or those selected.
    pub(super) fn update(
        &mut self,
        spec: &GroupSpec,
        columns: &[ArrayRef],
        codes: &[Vec<u32>],
        cells: &[u32],
        selected: Option<&[u32]>,
    ) -> Result<()> {
        let highest = match selected {
            None => highest(cells),
            Some(selected) => {
                let cells = selected.iter().filter_map(|row| cells.get(*row as usize));
                cells.max().copied()
            }
        };
        let Some(highest) = highest else {
            return Ok(());
        };
        self.grow(highest as usize + 1);
        let amounts = spec.sums.iter().map(|column| whole(columns, *column));
        let amounts: Vec<&Int64Array> = amounts.collect::<Result<_>>()?;
        self.tally.add(cells, selected, &amounts);
        for (histograms, column) in self.histograms.iter_mut().zip(&spec.histograms) {
            histograms.add(cells, selected, whole(columns, *column)?)?;
        }
        for (set, column) in self.sets.iter_mut().zip(&spec.sets) {
            set.update(slot(codes, *column), cells, selected);
        }
        Ok(())
    }

    fn grow(&mut self, cells: usize) {
        self.tally.grow(cells);
        for histograms in &mut self.histograms {
            histograms.grow(cells);
        }
    }

    /// Takes in finer cells: those selected, each as part of the cell that `cells` says. Sets are taken
    /// in by [`Group::absorb_sets`].
    pub(super) fn absorb(
        &mut self,
        finer: &Group,
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
        for (own, place) in self.histograms.iter_mut().zip(&places.histograms) {
            if let Some(finer) = finer.histograms.get(*place) {
                for fine in selected {
                    own.absorb(at(cells, *fine), finer, *fine)?;
                }
            }
        }
        Ok(())
    }

    /// Takes in the sets of finer cells.
    pub(super) fn absorb_sets(
        &mut self,
        finer: &Group,
        places: &Places,
        cells: &[u32],
        is_selected: impl Fn(u32) -> bool,
    ) {
        for (own, place) in self.sets.iter_mut().zip(&places.sets) {
            if let Some(set) = finer.sets.get(*place) {
                for pair in &set.pairs {
                    let fine = (pair >> 32) as u32;
                    if is_selected(fine) {
                        own.put(at(cells, fine), *pair as u32);
                    }
                }
                own.fold_when_due();
            }
        }
    }

    /// Takes in the statistics of another part, whose cells are these `cells`.
    pub(super) fn merge(
        &mut self,
        spec: &GroupSpec,
        other: &Group,
        cells: &[u32],
        code_maps: &[Vec<u32>],
    ) -> Result<()> {
        self.grow(cells.iter().max().map_or(0, |cell| *cell as usize + 1));
        let sums: Vec<usize> = (0..spec.sums.len()).collect();
        let pairs = (0u32..).zip(cells.iter().copied());
        self.tally.absorb(&other.tally, pairs, &sums);
        for (own, others) in self.histograms.iter_mut().zip(&other.histograms) {
            for (from, cell) in (0u32..).zip(cells) {
                own.absorb(*cell, others, from)?;
            }
        }
        for ((own, others), column) in self.sets.iter_mut().zip(&other.sets).zip(&spec.sets) {
            own.merge(others, cells, slot(code_maps, *column));
        }
        Ok(())
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let sets: usize = self.sets.iter().map(SetState::heap_bytes).sum();
        let histograms: usize = self.histograms.iter().map(CellDays::heap_bytes).sum();
        self.tally.heap_bytes() + sets + histograms
    }
}

fn whole(columns: &[ArrayRef], column: usize) -> Result<&Int64Array> {
    let column = columns.get(column);
    match column.and_then(|column| column.as_primitive_opt::<Int64Type>()) {
        Some(whole) => Ok(whole),
        None => exec_err!("an amount of a scan has another type than agreed"),
    }
}

/// The histogram of each present cell, written out.
pub(super) fn encoded(histograms: &CellDays, present: &[u32]) -> Result<BinaryArray> {
    let states = present.iter().map(|cell| histograms.state(*cell));
    let states: Vec<Vec<u8>> = states.collect::<Result<_>>()?;
    Ok(BinaryArray::from_iter_values(states))
}

/// Distinct pairs of cell and member.
#[derive(Debug, Default)]
pub(super) struct SetState {
    /// By cell, the last member that was put into it. Rows of a person lie together, so that most
    /// repetitions end here.
    stamps: Vec<u32>,
    /// Cell in the upper half, member in the lower.
    pub(super) pairs: Vec<u64>,
    fold_at: usize,
}

impl SetState {
    fn update(&mut self, members: &[u32], cells: &[u32], selected: Option<&[u32]>) {
        let mut put = |cell: u32, member: u32| {
            if member != NOBODY {
                self.put(cell, member);
            }
        };
        match selected {
            None => {
                for (cell, member) in cells.iter().zip(members) {
                    put(*cell, *member);
                }
            }
            Some(selected) => {
                for row in selected {
                    let member = members.get(*row as usize).copied().unwrap_or(NOBODY);
                    put(at(cells, *row), member);
                }
            }
        }
        self.fold_when_due();
    }

    fn put(&mut self, cell: u32, member: u32) {
        let place = cell as usize;
        if place >= self.stamps.len() {
            let cells = (place + 1).next_power_of_two();
            self.stamps.resize(cells, NOBODY);
        }
        if let Some(stamp) = self.stamps.get_mut(place)
            && *stamp != member
        {
            *stamp = member;
            self.pairs.push((u64::from(cell) << 32) | u64::from(member));
        }
    }

    /// Repetitions are taken out now and then; less often where there are few.
    fn fold_when_due(&mut self) {
        let before = self.pairs.len();
        if before <= FOLD_AT.max(self.fold_at) {
            return;
        }
        self.fold();
        let few = self.pairs.len() > before / 8 * 7;
        self.fold_at = self.pairs.len() * if few { 8 } else { 2 };
    }

    pub(super) fn fold(&mut self) {
        self.pairs.sort_unstable();
        self.pairs.dedup();
    }

    fn merge(&mut self, other: &SetState, cells: &[u32], members: &[u32]) {
        // Two halves take no more room than they need; many small parts are not copied again and again.
        if other.pairs.len() >= self.pairs.len() / 4 {
            self.pairs.reserve_exact(other.pairs.len());
        }
        for pair in &other.pairs {
            let (cell, member) = ((pair >> 32) as u32, *pair as u32);
            self.put(mapped(cells, cell), mapped(members, member));
        }
        self.fold_when_due();
    }

    /// The pairs as rank and cell, rank after rank: ranks number the members in the order of their
    /// bytes. Those of one rank are in no order, and may be there twice.
    pub(super) fn by_rank(&self, order: &MemberOrder) -> Vec<u64> {
        let rank_of = |pair: &u64| match &order.ranks {
            Some(ranks) => at(ranks, *pair as u32),
            None => *pair as u32,
        };
        // Where the next pair of each rank goes.
        let mut next = vec![0usize; order.names.bound() + 1];
        for pair in &self.pairs {
            if let Some(count) = next.get_mut(rank_of(pair) as usize + 1) {
                *count += 1;
            }
        }
        let mut start = 0;
        for next in &mut next {
            start += *next;
            *next = start;
        }
        let mut pairs = vec![0u64; self.pairs.len()];
        for pair in &self.pairs {
            let rank = rank_of(pair);
            if let Some(next) = next.get_mut(rank as usize)
                && let Some(place) = pairs.get_mut(*next)
            {
                *place = (u64::from(rank) << 32) | (pair >> 32);
                *next += 1;
            }
        }
        pairs
    }

    fn heap_bytes(&self) -> usize {
        self.stamps.capacity() * 4 + self.pairs.capacity() * 8
    }
}

/// Members in the order in which they are written: by their bytes, or by their numbers in a list.
#[derive(Debug, Default)]
pub(super) struct MemberOrder {
    names: MemberNames,
    /// By code; without them the codes are ranks.
    ranks: Option<Vec<u32>>,
}

impl MemberOrder {
    pub(super) fn of(members: &MemberCodes) -> Self {
        // Members are as good as random: their first half nearly always tells their order.
        let values = (0u32..).zip(&members.values);
        let mut codes: Vec<(u64, u32)> = values
            .map(|(code, value)| ((value >> 64) as u64, code))
            .collect();
        codes.sort_unstable_by(|(a, a_code), (b, b_code)| {
            let whole = |code: &u32| at(&members.values, *code);
            a.cmp(b).then_with(|| whole(a_code).cmp(&whole(b_code)))
        });
        let codes: Vec<u32> = codes.into_iter().map(|(_, code)| code).collect();
        let mut ranks = vec![0u32; codes.len()];
        for (rank, code) in (0u32..).zip(&codes) {
            if let Some(place) = ranks.get_mut(*code as usize) {
                *place = rank;
            }
        }
        let by_rank = codes.iter().map(|code| at(&members.values, *code));
        Self {
            names: MemberNames::Known(Arc::new(by_rank.collect())),
            ranks: Some(ranks),
        }
    }

    /// Members that are numbers of a list.
    pub(super) fn of_list(list: u64, bound: usize) -> Self {
        Self {
            names: MemberNames::OfList { list, bound },
            ranks: None,
        }
    }
}

/// The set of each present cell, members in order. `pairs` are rank and finer cell, rank after rank,
/// and `cell_of` gives the cell of a finer one, or [`NOBODY`] where it does not count.
///
/// Two looks at a stamp for each pair, one to count and one to put: a cell's stamp is the member that
/// was put into it last.
pub(super) fn sets_of(
    order: &MemberOrder,
    pairs: &[u64],
    cell_of: &[u32],
    present: &[u32],
) -> MemberNumbers {
    let cells = present.last().map_or(0, |cell| *cell as usize + 1);
    let mut stamps = vec![NOBODY; cells];
    let mut sizes = vec![0u32; cells];
    each_member(pairs, cell_of, &mut stamps, |cell, _| {
        if let Some(size) = sizes.get_mut(cell as usize) {
            *size += 1;
        }
    });
    let lengths = present.iter().map(|cell| at(&sizes, *cell) as usize);
    let lengths: Vec<usize> = lengths.collect();
    // From here on a cell's size is where its next member goes.
    let mut next = 0;
    for cell in present {
        if let Some(size) = sizes.get_mut(*cell as usize) {
            next += std::mem::replace(size, next);
        }
    }
    let mut members = vec![0u32; next as usize];
    stamps.fill(NOBODY);
    each_member(pairs, cell_of, &mut stamps, |cell, rank| {
        if let Some(place) = sizes.get_mut(cell as usize)
            && let Some(member) = members.get_mut(*place as usize)
        {
            *member = rank;
            *place += 1;
        }
    });
    let sets = Lists::of(lengths.into_iter(), members);
    MemberNumbers::of_numbers(sets, order.names.clone())
}

/// Calls with the cell and the rank of every member of a cell, once.
fn each_member(pairs: &[u64], cell_of: &[u32], stamps: &mut [u32], mut with: impl FnMut(u32, u32)) {
    for pair in pairs {
        let rank = (pair >> 32) as u32;
        let cell = cell_of.get(*pair as u32 as usize);
        let cell = cell.copied().unwrap_or(NOBODY);
        if let Some(stamp) = stamps.get_mut(cell as usize)
            && *stamp != rank
        {
            *stamp = rank;
            with(cell, rank);
        }
    }
}
