//! Cells of marks become cells of months.
//!
//! Where rows are marks of spells ([`SpellMarks`](crate::SpellMarks)), a cell has what its marks change in
//! its month. With all cells of one key but for the month in order, the numbers of each month are running
//! sums: O(m) a key for m months, after sorting. What may not live here: what a mark is.

use std::sync::Arc;

use arrow::array::{Date32Array, Int64Array};
use datafusion_common::{Result, exec_err};

use super::keys::{Codes, PairIndex};
use super::{FinishedCells, GroupRows, at, slot};
use crate::spell_months::DeliveredMonths;

/// How the months of a group whose rows are marks are made. Numbers are places among the group's sums.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MarkedGroup {
    /// Which column of the key is the first day of the month.
    pub month: usize,
    /// Changes of the number of spells: a month without spells does not exist.
    pub count: usize,
    /// The sums of months.
    pub sums: Vec<MarkedSum>,
}

/// A sum over the spells of a month.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MarkedSum {
    /// Its changes.
    pub change: usize,
    /// Changes of the number of spells with an amount, where one may have none: the sum of a month in
    /// which none has one is null.
    pub known: Option<usize>,
    /// Where days are added: what the month has besides its days times the sum.
    pub part: Option<usize>,
}

/// Months in the making.
#[derive(Default)]
struct Made {
    /// A cell with the same key, but for the month.
    like: Vec<u32>,
    months: Vec<i32>,
    counts: Vec<i64>,
    sums: Vec<Vec<Option<i64>>>,
}

impl FinishedCells {
    /// The rows of a group whose rows are marks: its cells, month by month, without sets and histograms.
    ///
    /// # Errors
    /// When the group has not these sums, a month is none of those delivered or has not the same days
    /// for every organiser, or a sum does not fit 64 bits.
    pub fn rows_of_marks(
        &self,
        group: usize,
        marked: &MarkedGroup,
        delivered: &DeliveredMonths,
    ) -> Result<GroupRows> {
        let cells = &self.cells;
        let (Some(spec), Some(state)) = (cells.spec.groups.get(group), cells.groups.get(group))
        else {
            return exec_err!("there is no group {group}");
        };
        let Some((starts, lengths)) = delivered.calendar() else {
            return exec_err!("months that begin on the same day do not end on the same");
        };
        let columns = cells.spec.keys.get(spec.key);
        let columns = columns.map_or(&[][..], Vec::as_slice);
        let column_of_month = columns.get(marked.month);
        let Some(Codes::Day(days)) = column_of_month.and_then(|column| cells.codes.get(*column))
        else {
            return exec_err!("a key of marks has no month");
        };
        let present = self.present(&state.tally);
        let changes = (0..spec.sums.len()).map(|sum| state.tally.finish(sum, &present));
        let changes = changes.collect::<Result<Vec<Int64Array>>>()?;
        let mut codes = self.key_codes(spec, &present).into_owned();
        // The places of months are in order, which their codes are not.
        let codes_of_months = codes.get_mut(marked.month);
        for code in codes_of_months.into_iter().flatten() {
            let start = days.value(*code);
            match start.and_then(|start| starts.binary_search(&start).ok()) {
                Some(place) => *code = place as u32,
                None => return exec_err!("a month of marks was not delivered"),
            }
        }
        let others = codes.iter().enumerate();
        let others = others.filter(|(place, _)| *place != marked.month);
        let mut keys = vec![0; present.len()];
        for (_, codes) in others {
            let mut pairs = PairIndex::default();
            let mut of_both = Vec::with_capacity(present.len());
            pairs.cells(&keys, codes, &mut of_both);
            keys = of_both;
        }
        // Key by key, month by month.
        let cells_in_order = keys.iter().zip(slot(&codes, marked.month)).zip(0..);
        let mut order: Vec<(u64, u32)> = cells_in_order
            .map(|((key, month), cell)| (u64::from(*key) << 32 | u64::from(*month), cell))
            .collect();
        order.sort_unstable();
        let mut made = Made {
            sums: vec![Vec::new(); marked.sums.len()],
            ..Made::default()
        };
        for of_key in order.chunk_by(|a, b| a.0 >> 32 == b.0 >> 32) {
            made.add(marked, &changes, of_key, starts, lengths)?;
        }
        for codes in &mut codes {
            *codes = made.like.iter().map(|cell| at(codes, *cell)).collect();
        }
        let mut keys = cells.keys_by(spec, &codes);
        if let Some(months) = keys.get_mut(marked.month) {
            *months = Arc::new(Date32Array::from(made.months));
        }
        Ok(GroupRows {
            keys,
            counts: Int64Array::from(made.counts),
            sums: made.sums.into_iter().map(Int64Array::from).collect(),
            histograms: Vec::new(),
            sets: Vec::new(),
            days: Vec::new(),
        })
    }
}

impl Made {
    /// Adds the months of one key: its cells, in the order of their months, which are the lower half of the
    /// number beside each.
    fn add(
        &mut self,
        marked: &MarkedGroup,
        changes: &[Int64Array],
        cells: &[(u64, u32)],
        starts: &[i32],
        lengths: &[i64],
    ) -> Result<()> {
        let marks = cells
            .iter()
            .map(|(key, cell)| (*key as u32 as usize, *cell));
        let mut marks = marks.peekable();
        let Some((first, like)) = marks.peek().copied() else {
            return Ok(());
        };
        let change = |cell: u32, of: usize| {
            let change = changes
                .get(of)
                .and_then(|of| of.values().get(cell as usize));
            i128::from(change.copied().unwrap_or_default())
        };
        let mut running = vec![0i128; changes.len()];
        for (month, (start, length)) in starts.iter().zip(lengths).enumerate().skip(first) {
            let mark = marks.next_if(|(at, _)| *at == month).map(|(_, cell)| cell);
            if let Some(cell) = mark {
                for (of, running) in running.iter_mut().enumerate() {
                    *running += change(cell, of);
                }
            }
            let so_far = |of: usize| running.get(of).copied().unwrap_or_default();
            let count = so_far(marked.count);
            if count < 1 {
                match marks.peek() {
                    None => break,
                    Some(_) => continue,
                }
            }
            self.like.push(like);
            self.months.push(*start);
            self.counts.push(fitting(count)?);
            for (made, sum) in self.sums.iter_mut().zip(&marked.sums) {
                let is_known = sum.known.is_none_or(|known| so_far(known) > 0);
                let total = match sum.part {
                    None => Some(so_far(sum.change)),
                    Some(part) => {
                        let part = mark.map_or(0, |cell| change(cell, part));
                        let whole = so_far(sum.change).checked_mul(i128::from(*length));
                        whole.and_then(|whole| whole.checked_add(part))
                    }
                };
                let Some(total) = total else {
                    return exec_err!("a sum is beyond 64 bits");
                };
                made.push(match is_known {
                    true => Some(fitting(total)?),
                    false => None,
                });
            }
        }
        Ok(())
    }
}

fn fitting(total: i128) -> Result<i64> {
    match i64::try_from(total) {
        Ok(total) => Ok(total),
        Err(_) => exec_err!("a sum is beyond 64 bits"),
    }
}
