//! Histograms of days by cell: counts lie in one array, a run of days for each cell.
//!
//! A run begins with room for the days below [`FIRST_DAYS`] and is moved where a longer one has room
//! when it must grow. Days outside [`MOST_DAYS`], and counts that run over, are kept in a map. A cell is
//! written out as [`DayHistogram`] writes itself. What may not live here: what a histogram tells.

use std::collections::BTreeMap;

use arrow::array::{Array, Int64Array};
use datafusion_common::{Result, exec_err};

use crate::day_histogram::DayHistogram;

/// Days that a run begins with.
const FIRST_DAYS: usize = 32;
/// Days that a run has at most.
const MOST_DAYS: usize = 1 << 11;

/// Counts of days by cell.
#[derive(Debug, Default)]
pub(super) struct CellDays {
    runs: Vec<Run>,
    counts: Vec<u32>,
    /// By cell and day.
    rare: BTreeMap<(u32, i32), u64>,
}

/// The days of a cell: a place among the counts, and how many.
#[derive(Debug, Default, Clone, Copy)]
struct Run {
    start: u32,
    days: u32,
}

impl CellDays {
    /// Makes room for so many cells.
    pub(super) fn grow(&mut self, cells: usize) {
        if self.runs.len() < cells {
            self.runs.resize(cells.next_power_of_two(), Run::default());
        }
    }

    /// Counts rows, each in its cell: all of them, or those selected. A null day counts for nothing.
    ///
    /// # Errors
    /// When a number of days is out of range.
    pub(super) fn add(
        &mut self,
        cells: &[u32],
        selected: Option<&[u32]>,
        days: &Int64Array,
    ) -> Result<()> {
        match selected {
            None => self.add_rows(cells, 0..cells.len(), days),
            Some(selected) => {
                let selected = selected.iter().map(|row| *row as usize);
                self.add_rows(cells, selected, days)
            }
        }
    }

    fn add_rows(
        &mut self,
        cells: &[u32],
        rows: impl Iterator<Item = usize>,
        days: &Int64Array,
    ) -> Result<()> {
        let (values, valid) = (days.values(), days.nulls());
        for row in rows {
            let (Some(cell), Some(day)) = (cells.get(row), values.get(row)) else {
                continue;
            };
            if valid.is_none_or(|valid| valid.is_valid(row)) && !self.is_counted(*cell, *day) {
                self.add_day(*cell, *day)?;
            }
        }
        Ok(())
    }

    /// Counts a day for which there is room already; false for any other.
    #[inline]
    fn is_counted(&mut self, cell: u32, day: i64) -> bool {
        if let Some(run) = self.runs.get(cell as usize)
            && day >= 0
            && day < i64::from(run.days)
            && let Some(count) = self.counts.get_mut(run.start as usize + day as usize)
            && *count < u32::MAX
        {
            *count += 1;
            return true;
        }
        false
    }

    #[cold]
    fn add_day(&mut self, cell: u32, day: i64) -> Result<()> {
        match i32::try_from(day) {
            Ok(day) => self.add_times(cell, day, 1),
            Err(_) => exec_err!("a number of days is out of range"),
        }
    }

    fn add_times(&mut self, cell: u32, day: i32, times: u64) -> Result<()> {
        if let Ok(place) = usize::try_from(day)
            && place < MOST_DAYS
            && let Ok(few) = u32::try_from(times)
            && self.reach(cell, place)
            && let Some(run) = self.runs.get(cell as usize)
            && let Some(count) = self.counts.get_mut(run.start as usize + place)
            && let Some(sum) = count.checked_add(few)
        {
            *count = sum;
            return Ok(());
        }
        let count = self.rare.entry((cell, day)).or_default();
        match count.checked_add(times) {
            Some(sum) => *count = sum,
            None => return exec_err!("a day histogram counts more than 2^63 - 1"),
        }
        Ok(())
    }

    /// Makes the run of a cell reach a day; false when there is no more room.
    fn reach(&mut self, cell: u32, day: usize) -> bool {
        let Some(run) = self.runs.get_mut(cell as usize) else {
            return false;
        };
        let held = run.days as usize;
        if day < held {
            return true;
        }
        let start = self.counts.len();
        let days = (day + 1).next_power_of_two().max(FIRST_DAYS);
        if u32::try_from(start + days).is_err() {
            return false;
        }
        self.counts.resize(start + days, 0);
        let (before, own) = self.counts.split_at_mut(start);
        let from = run.start as usize;
        if let (Some(before), Some(own)) = (before.get(from..from + held), own.get_mut(..held)) {
            own.copy_from_slice(before);
        }
        *run = Run {
            start: start as u32,
            days: days as u32,
        };
        true
    }

    /// Adds a cell of other histograms to one of these.
    ///
    /// # Errors
    /// When counts add up to more than a histogram may have.
    pub(super) fn absorb(&mut self, cell: u32, other: &CellDays, from: u32) -> Result<()> {
        let mut days = (0i32..)
            .zip(other.run(from))
            .filter(|(_, count)| **count > 0);
        days.try_for_each(|(day, count)| self.add_times(cell, day, u64::from(*count)))?;
        let mut rare = other.rare_of(from);
        rare.try_for_each(|(day, count)| self.add_times(cell, day, count))
    }

    fn run(&self, cell: u32) -> &[u32] {
        let run = self.runs.get(cell as usize).copied().unwrap_or_default();
        let start = run.start as usize;
        self.counts
            .get(start..start + run.days as usize)
            .unwrap_or_default()
    }

    fn rare_of(&self, cell: u32) -> impl Iterator<Item = (i32, u64)> + '_ {
        let rare = self.rare.range((cell, i32::MIN)..=(cell, i32::MAX));
        rare.map(|((_, day), count)| (*day, *count))
    }

    /// The histogram of a cell, written out.
    ///
    /// # Errors
    /// When counts add up to more than a histogram may have.
    pub(super) fn state(&self, cell: u32) -> Result<Vec<u8>> {
        let mut histogram = DayHistogram::default();
        for (day, count) in (0i32..)
            .zip(self.run(cell))
            .filter(|(_, count)| **count > 0)
        {
            histogram.add_times(day, u64::from(*count))?;
        }
        for (day, count) in self.rare_of(cell) {
            histogram.add_times(day, count)?;
        }
        Ok(histogram.state())
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.runs.capacity() * size_of::<Run>()
            + self.counts.capacity() * 4
            + self.rare.len().div_ceil(6) * 240
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::{Cell as _, Value};
    use crate::day_histogram::decode;
    use crate::testing::numbers;

    #[test]
    fn histograms_by_cell_are_those_of_each_cell() {
        let mut draws = numbers(60_000, u64::MAX);
        let mut draw = |bound: u64| draws.next().unwrap_or_default() % bound;
        let mut cells = Vec::new();
        let mut days = Vec::new();
        for _ in 0..15_000 {
            cells.push(draw(7) as u32);
            let day = match draw(20) {
                0 => None,
                1 => Some(draw(5_000) as i64 - 1_000),
                2 => Some(i64::from(i32::MIN) + draw(3) as i64),
                _ => Some(draw(90) as i64),
            };
            days.push(day);
        }
        let days: Int64Array = days.into_iter().collect();
        let even: Vec<u32> = (0..15_000).step_by(2).collect();
        let odd: Vec<u32> = (1..15_000).step_by(2).collect();
        let of = |selected: Option<&[u32]>| {
            let mut own = CellDays::default();
            own.grow(7);
            own.add(&cells, selected, &days).unwrap();
            own
        };
        let whole = of(None);
        let mut merged = of(Some(&even));
        let other = of(Some(&odd));
        (0..7).for_each(|cell| merged.absorb(cell, &other, cell).unwrap());
        for cell in 0..7 {
            let mut naive = DayHistogram::default();
            for (of_row, day) in cells.iter().zip(&days) {
                if let (true, Some(day)) = (*of_row == cell, day) {
                    naive.add(Value::Whole(day)).unwrap();
                }
            }
            assert_eq!(whole.state(cell).unwrap(), naive.state());
            assert_eq!(merged.state(cell).unwrap(), naive.state());
        }
        assert!(whole.heap_bytes() > 0);
        assert!(whole.state(99).unwrap().is_empty());
    }

    #[test]
    fn counts_that_run_over_are_kept() {
        let mut days = CellDays::default();
        days.grow(1);
        days.add_times(0, 3, u64::from(u32::MAX)).unwrap();
        days.add(&[0, 0], None, &Int64Array::from(vec![3, 3]))
            .unwrap();
        days.add_times(0, 3, 1 << 40).unwrap();
        let state = days.state(0).unwrap();
        let counts: Vec<(i32, u64)> = decode(&state).unwrap().collect();
        assert_eq!(counts, [(3, (1 << 40) + u64::from(u32::MAX) + 2)]);
        let most = Int64Array::from(vec![1 << 31]);
        assert!(days.add(&[0], None, &most).is_err());
    }
}
