//! Histograms of days by cell: counts lie in blocks that are never moved, a run of days for each cell.
//!
//! A row is two looks at memory and no decision: whether it has a day is as good as random, so one that
//! has none is counted, too, at the beginning of the first block, which is no cell's.
//!
//! A run begins with room for the days below [`FIRST_DAYS`] and is moved to twice the room when it must
//! grow; the room that it leaves is for other cells. Days outside [`MOST_DAYS`], and counts that run
//! over, are kept in a map. Other histograms are taken in with their blocks: nothing is copied where a
//! cell has no counts yet. A cell is written out as [`DayHistogram`] writes itself. What may not live
//! here: what a histogram tells.

use std::collections::BTreeMap;
use std::hint::select_unpredictable;

use arrow::array::{AsArray, BinaryArray};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::Int64Type;
use datafusion_common::{Result, exec_err};

use super::coded::{Coded, InputColumn};
use crate::day_histogram::{DayHistogram, PAIR, pair_of};

/// Days that a run begins with.
const FIRST_DAYS: u32 = 32;
/// Days that a run has at most.
const MOST_DAYS: u32 = 1 << 11;
/// Counts of a block.
const BLOCK: usize = 1 << 15;
/// Of the first block, so many count rows without a day, one after the other.
const NOWHERE: u32 = FIRST_DAYS;
/// Rows that are counted before those that had no room are.
const ROWS: usize = 2048;
/// A row without a day.
const NO_DAY: u32 = u32::MAX;
/// A row whose day has no place in a run.
const FAR_DAY: u32 = u32::MAX - 1;

/// Counts of days by cell.
#[derive(Debug, Default)]
pub(super) struct CellDays {
    runs: Vec<Run>,
    blocks: Vec<Box<[u32; BLOCK]>>,
    /// What is free of the block that is being filled.
    next: u32,
    end: u32,
    /// Runs that were left, all zero, by how many days they have.
    left: BTreeMap<u32, Vec<u32>>,
    /// By cell and day.
    rare: BTreeMap<(u32, i32), u64>,
    /// No count of a run is higher.
    bound: u64,
    /// The days of the rows in hand, and those of some rows that have one.
    days: Vec<u32>,
    rows: Vec<u32>,
    /// Where some rows are counted.
    places: Vec<u32>,
}

/// The days of a cell: a place among the counts of all blocks, and how many.
#[derive(Debug, Default, Clone, Copy)]
struct Run {
    start: u32,
    days: u32,
}

/// The counts of a run.
fn counts_of(blocks: &mut [Box<[u32; BLOCK]>], run: Run) -> Option<&mut [u32]> {
    let block = blocks.get_mut(run.start as usize / BLOCK)?;
    let first = run.start as usize % BLOCK;
    block.get_mut(first..first + run.days as usize)
}

/// The place of a day in a run.
fn place_of(day: i64) -> u32 {
    u32::try_from(day).map_or(FAR_DAY, |day| day.min(FAR_DAY))
}

/// Those of the rows that have a day, written over `out`. No branch for each row: whether it has one is
/// as good as random.
fn with_day(rows: impl ExactSizeIterator<Item = u32>, days: &[u32], out: &mut Vec<u32>) {
    out.clear();
    out.resize(rows.len(), 0);
    let mut count = 0;
    for row in rows {
        if let (Some(to), Some(day)) = (out.get_mut(count), days.get(row as usize)) {
            *to = row;
            count += usize::from(*day != NO_DAY);
        }
    }
    out.truncate(count);
}

/// Writes out the counts of days from zero on that were met. No branch for each day: of the late ones
/// some were met and some were not.
fn put_met(counts: &[u32], out: &mut Vec<u8>) {
    let mut end = out.len();
    out.resize(end + met(counts) * PAIR, 0);
    for (day, count) in (0i32..).zip(counts) {
        if let Some(to) = out.get_mut(end..).and_then(|left| left.first_chunk_mut()) {
            *to = pair_of(day, u64::from(*count));
        }
        end += usize::from(*count > 0) * PAIR;
    }
}

/// How many days were met.
fn met(counts: &[u32]) -> usize {
    counts.iter().filter(|count| **count > 0).count()
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
    /// When days are not whole numbers, plain or as codes, or one is out of range.
    pub(super) fn add(
        &mut self,
        cells: &[u32],
        selected: Option<&[u32]>,
        column: &InputColumn,
    ) -> Result<()> {
        let coded = Coded::of(column);
        let Some(values) = column.values().as_primitive_opt::<Int64Type>() else {
            return exec_err!("days of a scan have another type than agreed");
        };
        let places = values.iter().map(|day| day.map_or(NO_DAY, place_of));
        let mut days = std::mem::take(&mut self.days);
        let mut rows = std::mem::take(&mut self.rows);
        days.clear();
        match &coded {
            None => days.extend(places),
            Some(coded) => coded.look_up(&places.collect::<Vec<u32>>(), NO_DAY, &mut days),
        }
        let day_of = |row: usize| match &coded {
            None => Some(values.value(row)),
            Some(coded) => coded.place(row).map(|place| values.value(place)),
        };
        let counted = match selected {
            None => self.add_all(cells, &days, &mut rows, day_of),
            Some(selected) => {
                with_day(selected.iter().copied(), &days, &mut rows);
                let rows = rows.iter().filter_map(|row| {
                    let row = *row as usize;
                    Some((row, (*cells.get(row)?, *days.get(row)?)))
                });
                self.add_rows(rows, day_of)
            }
        };
        (self.days, self.rows) = (days, rows);
        counted
    }

    /// Counts all rows; `day_of` tells days that are far. `lost` is written over.
    fn add_all(
        &mut self,
        cells: &[u32],
        days: &[u32],
        lost: &mut Vec<u32>,
        day_of: impl Fn(usize) -> Option<i64>,
    ) -> Result<()> {
        let bound = self.bound + cells.len() as u64;
        if bound > u64::from(u32::MAX) {
            let rows = cells.iter().copied().zip(days.iter().copied());
            let with_day = rows.enumerate().filter(|(_, (_, day))| *day != NO_DAY);
            return self.add_rows(with_day, day_of);
        }
        self.bound = bound;
        let parts = cells.chunks(ROWS).zip(days.chunks(ROWS));
        for ((cells, days), first) in parts.zip((0..).step_by(ROWS)) {
            let count = self.count_near(cells, days, lost);
            let lost = lost.iter().take(count).map(|row| *row as usize);
            let lost =
                lost.filter_map(|row| Some((first + row, (*cells.get(row)?, *days.get(row)?))));
            self.add_rows(lost, &day_of)?;
        }
        Ok(())
    }

    /// Counts rows for whose days there is room; how many there are for whose there is none, and these
    /// in `lost`. No count may be as high as it can be.
    fn count_near(&mut self, cells: &[u32], days: &[u32], lost: &mut Vec<u32>) -> usize {
        let runs = self.runs.as_slice();
        self.places.resize(ROWS, 0);
        lost.resize(ROWS, 0);
        let mut count = 0;
        let rows = cells.iter().zip(days).zip(0u32..);
        for (place, ((cell, day), row)) in self.places.iter_mut().zip(rows) {
            let run = runs.get(*cell as usize).copied().unwrap_or_default();
            let is_near = *day < run.days;
            if let Some(lost) = lost.get_mut(count) {
                *lost = row;
            }
            count += usize::from(!is_near & (*day != NO_DAY));
            let near = run.start.wrapping_add(*day);
            *place = select_unpredictable(is_near, near, row % NOWHERE);
        }
        let blocks = self.blocks.as_mut_slice();
        for place in self.places.iter().take(cells.len()) {
            if let Some(block) = blocks.get_mut(*place as usize / BLOCK)
                && let Some(count) = block.get_mut(*place as usize % BLOCK)
            {
                *count = count.wrapping_add(1);
            }
        }
        count
    }

    /// Counts rows, each with its cell and the place of its day; `day_of` tells days that are far.
    fn add_rows(
        &mut self,
        rows: impl Iterator<Item = (usize, (u32, u32))>,
        day_of: impl Fn(usize) -> Option<i64>,
    ) -> Result<()> {
        for (row, (cell, day)) in rows {
            if !self.is_counted(cell, day)
                && let Some(day) = day_of(row)
            {
                self.add_day(cell, day)?;
            }
        }
        Ok(())
    }

    /// Counts a day for which there is room already; false for any other.
    #[inline]
    fn is_counted(&mut self, cell: u32, day: u32) -> bool {
        if let Some(run) = self.runs.get(cell as usize)
            && day < run.days
            && let Some(block) = self.blocks.get_mut(run.start as usize / BLOCK)
            && let Some(count) = block.get_mut(run.start as usize % BLOCK + day as usize)
            && *count < u32::MAX
        {
            *count += 1;
            self.bound = self.bound.max(u64::from(*count));
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
        let place = place_of(i64::from(day));
        if let Ok(few) = u32::try_from(times)
            && self.reach(cell, place)
            && let Some(run) = self.runs.get(cell as usize).copied()
            && let Some(counts) = counts_of(&mut self.blocks, run)
            && let Some(count) = counts.get_mut(place as usize)
            && let Some(sum) = count.checked_add(few)
        {
            *count = sum;
            self.bound = self.bound.max(u64::from(sum));
            return Ok(());
        }
        let count = self.rare.entry((cell, day)).or_default();
        match count.checked_add(times) {
            Some(sum) => *count = sum,
            None => return exec_err!("a day histogram counts more than 2^63 - 1"),
        }
        Ok(())
    }

    /// Makes the run of a cell reach a day; false when it has no place, or there is no more room.
    fn reach(&mut self, cell: u32, day: u32) -> bool {
        let Some(held) = self.runs.get(cell as usize).copied() else {
            return false;
        };
        if day < held.days {
            return true;
        }
        if day >= MOST_DAYS {
            return false;
        }
        let days = (day + 1).next_power_of_two().max(FIRST_DAYS);
        let Some(start) = self.room(days) else {
            return false;
        };
        let before = counts_of(&mut self.blocks, held).map(|counts| {
            let before = counts.to_vec();
            counts.fill(0);
            before
        });
        let run = Run { start, days };
        let before = before.unwrap_or_default();
        if let Some(counts) = counts_of(&mut self.blocks, run) {
            let own = counts.iter_mut().zip(&before);
            own.for_each(|(own, before)| *own = *before);
        }
        if held.days > 0 {
            self.left.entry(held.days).or_default().push(held.start);
        }
        if let Some(of_cell) = self.runs.get_mut(cell as usize) {
            *of_cell = run;
        }
        true
    }

    /// Where so many counts have room, all zero; `None` when there is no more.
    fn room(&mut self, days: u32) -> Option<u32> {
        if let Some(start) = self.left.get_mut(&days).and_then(Vec::pop) {
            return Some(start);
        }
        if self.end - self.next < days {
            let start = u32::try_from(self.blocks.len() * BLOCK).ok()?;
            self.end = start.checked_add(BLOCK as u32)?;
            self.next = if start == 0 { NOWHERE } else { start };
            let block = vec![0; BLOCK].into_boxed_slice();
            self.blocks.push(block.try_into().ok()?);
        }
        let start = self.next;
        self.next += days;
        Some(start)
    }

    /// Adds a cell of other histograms to one of these.
    ///
    /// # Errors
    /// When counts add up to more than a histogram may have.
    pub(super) fn absorb(&mut self, cell: u32, other: &CellDays, from: u32) -> Result<()> {
        self.add_counts(cell, other.run(from))?;
        let mut rare = other.rare_of(from);
        rare.try_for_each(|(day, count)| self.add_times(cell, day, count))
    }

    /// Adds the counts of days from zero on to a cell.
    fn add_counts(&mut self, cell: u32, counts: &[u32]) -> Result<()> {
        let Some(last) = counts.iter().rposition(|count| *count > 0) else {
            return Ok(());
        };
        let counts = counts.get(..=last).unwrap_or_default();
        let most = counts.iter().copied().max().unwrap_or_default();
        if self.bound + u64::from(most) <= u64::from(u32::MAX)
            && self.reach(cell, last as u32)
            && let Some(run) = self.runs.get(cell as usize).copied()
            && let Some(own) = counts_of(&mut self.blocks, run)
        {
            // Loops in wide registers: none of the sums is too large.
            let both = own.iter_mut().zip(counts);
            both.for_each(|(own, count)| *own = own.wrapping_add(*count));
            let highest = own.iter().copied().max().unwrap_or_default();
            self.bound = self.bound.max(u64::from(highest));
            return Ok(());
        }
        self.add_each(cell, counts)
    }

    /// As [`CellDays::add_counts`], count by count, where sums may be too large.
    #[cold]
    fn add_each(&mut self, cell: u32, counts: &[u32]) -> Result<()> {
        let Some(last) = counts.len().checked_sub(1) else {
            return Ok(());
        };
        let mut over = Vec::new();
        let mut highest = 0;
        let mut add = |own: &mut [u32]| {
            for ((day, own), count) in (0i32..).zip(own).zip(counts) {
                match own.checked_add(*count) {
                    Some(sum) => {
                        *own = sum;
                        highest = highest.max(sum);
                    }
                    None => over.push((day, u64::from(*count))),
                }
            }
        };
        if self.reach(cell, last as u32)
            && let Some(run) = self.runs.get(cell as usize).copied()
            && let Some(own) = counts_of(&mut self.blocks, run)
        {
            add(own);
        } else {
            let all = (0i32..).zip(counts).filter(|(_, count)| **count > 0);
            over.extend(all.map(|(day, count)| (day, u64::from(*count))));
        }
        self.bound = self.bound.max(u64::from(highest));
        let mut over = over.into_iter();
        over.try_for_each(|(day, count)| self.add_times(cell, day, count))
    }

    /// Takes in other histograms: each of the cells `from` as part of the cell `to`.
    ///
    /// # Errors
    /// When counts add up to more than a histogram may have.
    pub(super) fn take_over(
        &mut self,
        mut other: CellDays,
        cells: impl Iterator<Item = (u32, u32)>,
    ) -> Result<()> {
        let start_of = |block: usize| u32::try_from(block * BLOCK).ok();
        let first = start_of(self.blocks.len());
        let (Some(first), Some(_)) = (first, start_of(self.blocks.len() + other.blocks.len()))
        else {
            let mut cells = cells;
            return cells.try_for_each(|(from, to)| self.absorb(to, &other, from));
        };
        self.blocks.append(&mut other.blocks);
        self.bound = self.bound.max(other.bound);
        let mut added = Vec::new();
        for (from, to) in cells {
            let mut run = other.runs.get(from as usize).copied().unwrap_or_default();
            run.start += first;
            match self.runs.get_mut(to as usize) {
                _ if run.days == 0 => {}
                Some(own) => {
                    // The longer run is the cell's, which need not grow then.
                    let shorter = match own.days < run.days {
                        true => std::mem::replace(own, run),
                        false => run,
                    };
                    if let Some(counts) = counts_of(&mut self.blocks, shorter) {
                        added.clear();
                        added.extend_from_slice(counts);
                        self.add_counts(to, &added)?;
                    }
                }
                None => {}
            }
            let mut rare = other.rare_of(from);
            rare.try_for_each(|(day, count)| self.add_times(to, day, count))?;
        }
        Ok(())
    }

    fn run(&self, cell: u32) -> &[u32] {
        let run = self.runs.get(cell as usize).copied().unwrap_or_default();
        let first = run.start as usize % BLOCK;
        let block = self.blocks.get(run.start as usize / BLOCK);
        block
            .and_then(|block| block.get(first..first + run.days as usize))
            .unwrap_or_default()
    }

    fn rare_of(&self, cell: u32) -> impl Iterator<Item = (i32, u64)> + '_ {
        let rare = self.rare.range((cell, i32::MIN)..=(cell, i32::MAX));
        rare.map(|((_, day), count)| (*day, *count))
    }

    /// The days of a cell's run that were met, each with its count.
    fn met(&self, cell: u32) -> impl Iterator<Item = (i32, u64)> + '_ {
        let days = (0i32..).zip(self.run(cell));
        let days = days.filter(|(_, count)| **count > 0);
        days.map(|(day, count)| (day, u64::from(*count)))
    }

    /// The histogram of each of these cells, written out.
    ///
    /// # Errors
    /// When counts add up to more than a histogram may have, or all are more than an array holds.
    pub(super) fn states(&self, cells: &[u32]) -> Result<BinaryArray> {
        let pairs: usize = cells.iter().map(|cell| met(self.run(*cell))).sum();
        let mut bytes = Vec::with_capacity(pairs * PAIR);
        let mut ends = Vec::with_capacity(cells.len() + 1);
        ends.push(0i32);
        for cell in cells {
            self.put_state(*cell, &mut bytes)?;
            match i32::try_from(bytes.len()) {
                Ok(end) => ends.push(end),
                Err(_) => return exec_err!("the histograms of a scan have more than 2 GiB"),
            }
        }
        let ends = OffsetBuffer::new(ScalarBuffer::from(ends));
        Ok(BinaryArray::try_new(ends, bytes.into(), None)?)
    }

    fn put_state(&self, cell: u32, out: &mut Vec<u8>) -> Result<()> {
        if self.rare_of(cell).next().is_none() {
            put_met(self.run(cell), out);
            return Ok(());
        }
        let mut histogram = DayHistogram::default();
        for (day, count) in self.met(cell).chain(self.rare_of(cell)) {
            histogram.add_times(day, count)?;
        }
        histogram.put_state(out);
        Ok(())
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let left: usize = self.left.values().map(Vec::capacity).sum();
        self.runs.capacity() * size_of::<Run>()
            + (self.blocks.len() * BLOCK + left) * 4
            + self.rare.len().div_ceil(6) * 240
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, PrimitiveArray};
    use arrow::datatypes::UInt16Type;

    use super::*;
    use crate::cell::{Cell as _, Value};
    use crate::day_histogram::decode;
    use crate::testing::numbers;

    fn plain(days: impl Into<Int64Array>) -> InputColumn {
        InputColumn::from(Arc::new(days.into()) as ArrayRef)
    }

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
        // Every value once, and one that no row has; rows without a day have no code, or that of null.
        let mut values: Vec<Option<i64>> = days.iter().chain([Some(1 << 40)]).collect();
        values.sort_unstable();
        values.dedup();
        let code = |day: Option<i64>| values.binary_search(&day).unwrap() as u16;
        let dictionary: ArrayRef = Arc::new(values.iter().copied().collect::<Int64Array>());
        let all: PrimitiveArray<UInt16Type> = days.iter().map(|day| Some(code(day))).collect();
        let some = days.iter().map(|day| day.map(|_| code(day)));
        let some: PrimitiveArray<UInt16Type> = some.collect();
        let coded = |keys| InputColumn::coded(Arc::new(keys), Arc::clone(&dictionary)).unwrap();
        let forms = [plain(days.clone()), coded(all), coded(some)];
        let of = |selected: Option<&[u32]>, column: &InputColumn| {
            let mut own = CellDays::default();
            own.grow(7);
            own.add(&cells, selected, column).unwrap();
            own
        };
        let naive = |of_cell: &dyn Fn(u32) -> bool| {
            let mut naive = DayHistogram::default();
            for (cell, day) in cells.iter().zip(&days) {
                if let (true, Some(day)) = (of_cell(*cell), day) {
                    naive.add(Value::Whole(day)).unwrap();
                }
            }
            naive.state()
        };
        let states = |histograms: &CellDays, cells: &[u32]| -> Vec<Vec<u8>> {
            let states = histograms.states(cells).unwrap();
            states.iter().flatten().map(<[u8]>::to_vec).collect()
        };
        let each: Vec<Vec<u8>> = (0..7).map(|cell| naive(&|of| of == cell)).collect();
        let together: Vec<Vec<u8>> = (0..3).map(|cell| naive(&|of| of % 3 == cell)).collect();
        for column in &forms {
            let whole = of(None, column);
            assert_eq!(states(&whole, &[0, 1, 2, 3, 4, 5, 6]), each);
            assert_eq!(
                states(&whole, &[5, 99, 5]),
                [&each[5], &vec![], &each[5]].map(Clone::clone)
            );
            assert!(whole.heap_bytes() > 0);
            let other = of(Some(&odd), column);
            let mut copied = of(Some(&even), column);
            (0..7).for_each(|cell| copied.absorb(cell, &other, cell).unwrap());
            assert_eq!(states(&copied, &[0, 1, 2, 3, 4, 5, 6]), each);
            let mut taken = of(Some(&even), column);
            taken.take_over(other, (0..7).zip(0..)).unwrap();
            assert_eq!(states(&taken, &[0, 1, 2, 3, 4, 5, 6]), each);
            let mut rolled_up = CellDays::default();
            rolled_up.grow(3);
            rolled_up
                .take_over(taken, (0..7).map(|cell| (cell, cell % 3)))
                .unwrap();
            assert_eq!(states(&rolled_up, &[0, 1, 2]), together);
            // What was taken grows as any other.
            rolled_up
                .add(&[2, 2], None, &plain(vec![2_000, 90]))
                .unwrap();
            let mut more = DayHistogram::default();
            more.merge_state(&together[2]).unwrap();
            more.add_days(&[90, 2_000]).unwrap();
            assert_eq!(states(&rolled_up, &[2]), [more.state()]);
        }
    }

    #[test]
    fn the_room_that_a_cell_leaves_is_for_others() {
        let mut days = CellDays::default();
        days.grow(3);
        let mut add = |cell: u32, of: Vec<i64>| {
            let cells = vec![cell; of.len()];
            days.add(&cells, None, &plain(of)).unwrap();
        };
        add(0, vec![3, 3, 40]);
        add(1, vec![5]);
        add(0, vec![500]);
        add(2, vec![33]);
        let starts = days.runs.iter().map(|run| run.start);
        let start = |room: u32| NOWHERE + room;
        let expected = [start(96), start(0), start(32), 0];
        assert_eq!(starts.collect::<Vec<_>>(), expected);
        let states = days.states(&[0, 1, 2]).unwrap();
        let counts = |cell: usize| decode(states.value(cell)).unwrap().collect::<Vec<_>>();
        assert_eq!(counts(0), [(3, 2), (40, 1), (500, 1)]);
        assert_eq!(counts(1), [(5, 1)]);
        assert_eq!(counts(2), [(33, 1)]);
    }

    #[test]
    fn counts_that_run_over_are_kept() {
        let mut days = CellDays::default();
        days.grow(1);
        days.add_times(0, 3, u64::from(u32::MAX)).unwrap();
        let threes = plain(vec![3, 3]);
        days.add(&[0, 0], None, &threes).unwrap();
        days.add_times(0, 3, 1 << 40).unwrap();
        let mut other = CellDays::default();
        other.grow(1);
        other.add(&[0, 0], None, &threes).unwrap();
        days.take_over(other, [(0, 0)].into_iter()).unwrap();
        let mut longer = CellDays::default();
        longer.grow(1);
        longer.add(&[0, 0], None, &plain(vec![3, 400])).unwrap();
        days.take_over(longer, [(0, 0)].into_iter()).unwrap();
        let states = days.states(&[0]).unwrap();
        let counts: Vec<(i32, u64)> = decode(states.value(0)).unwrap().collect();
        let threes_in_all = (1 << 40) + u64::from(u32::MAX) + 5;
        assert_eq!(counts, [(3, threes_in_all), (400, 1)]);
        assert!(days.add(&[0], None, &plain(vec![1 << 31])).is_err());
        let text: ArrayRef = Arc::new(arrow::array::StringArray::from(vec!["3"]));
        assert!(days.add(&[0], None, &text.into()).is_err());
    }
}
