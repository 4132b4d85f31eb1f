//! Numbers of rows and sums of cells: the numbers of a cell lie side by side, so that a row touches
//! one place in memory.
//!
//! Sums are kept in 64 bits as long as what was added cannot leave them, which a bound on the amounts
//! tells once for a batch and not for every row; before it could, they are moved to wider ones. So
//! they are exact, as in 128 bits. What may not live here: how rows get their cells.

use std::borrow::Cow;

use arrow::array::{Array, Int64Array};
use datafusion_common::{Result, exec_err};
use multiversion::multiversion;

/// What sums in 64 bits can hold.
const MOST: u64 = i64::MAX as u64;

/// Rows and sums by cell.
#[derive(Debug, Default)]
pub(super) struct Tally {
    sums: usize,
    /// For each cell the number of rows, then the sums.
    numbers: Vec<i64>,
    /// The absolute amounts added to the sums so far come to no more than this, cell by cell.
    bound: u64,
    /// What the sums have beyond `numbers`, as these; empty until something has.
    wide: Vec<i128>,
    /// For each cell and sum, whether there was an amount; empty as long as every row had all.
    seen: Vec<bool>,
}

impl Tally {
    /// No cells, of so many sums.
    pub(super) fn new(sums: usize) -> Self {
        Self {
            sums,
            ..Self::default()
        }
    }

    /// How many numbers a cell has.
    fn width(&self) -> usize {
        1 + self.sums
    }

    /// Makes room for so many cells.
    pub(super) fn grow(&mut self, cells: usize) {
        let width = self.width();
        if self.numbers.len() < cells * width {
            let cells = cells.next_power_of_two();
            self.numbers.resize(cells * width, 0);
            if !self.wide.is_empty() {
                self.wide.resize(cells * width, 0);
            }
            if !self.seen.is_empty() {
                self.seen.resize(cells * self.sums, false);
            }
        }
    }

    /// Cells there is room for.
    pub(super) fn cells(&self) -> u32 {
        (self.numbers.len() / self.width()) as u32
    }

    /// The rows of a cell.
    pub(super) fn count(&self, cell: u32) -> u64 {
        let count = self.numbers.get(cell as usize * self.width());
        count.map_or(0, |count| *count as u64)
    }

    /// The sum of a cell, unless it has no amount.
    fn sum(&self, cell: u32, sum: usize) -> Option<i128> {
        let seen = match self.seen.is_empty() {
            true => self.count(cell) > 0,
            false => self.seen.get(cell as usize * self.sums + sum) == Some(&true),
        };
        let place = cell as usize * self.width() + 1 + sum;
        let wide = self.wide.get(place).copied().unwrap_or_default();
        let number = self.numbers.get(place).filter(|_| seen)?;
        Some(i128::from(*number) + wide)
    }

    /// Adds rows, each to its cell: all of them, or those selected. There must be room for the cells.
    pub(super) fn add(&mut self, cells: &[u32], selected: Option<&[u32]>, amounts: &[&Int64Array]) {
        if !self.seen.is_empty() || amounts.iter().any(|amounts| amounts.null_count() > 0) {
            self.see(cells, selected, amounts);
        }
        let rows = selected.map_or(cells.len(), <[u32]>::len) as u64;
        let amounts: Vec<Cow<'_, [i64]>> = amounts.iter().map(|of| without_nulls(of)).collect();
        let largest = amounts.iter().map(|amounts| largest(amounts)).max();
        let added = largest.unwrap_or_default().checked_mul(rows);
        match added.filter(|added| *added <= MOST) {
            None => return self.add_wide(cells, selected, &amounts),
            Some(added) if added > MOST - self.bound => {
                self.widen();
                self.bound = added;
            }
            Some(added) => self.bound += added,
        }
        match (selected, amounts.as_slice()) {
            (None, []) => self.add_all(cells.iter().map(|cell| (*cell, [1]))),
            (None, [a]) => {
                let rows = cells.iter().zip(&**a);
                self.add_all(rows.map(|(cell, a)| (*cell, [1, *a])));
            }
            (None, [a, b]) => {
                let rows = cells.iter().zip(&**a).zip(&**b);
                self.add_all(rows.map(|((cell, a), b)| (*cell, [1, *a, *b])));
            }
            (None, [a, b, c]) => {
                let rows = cells.iter().zip(&**a).zip(&**b).zip(&**c);
                self.add_all(rows.map(|(((cell, a), b), c)| (*cell, [1, *a, *b, *c])));
            }
            (None, [a, b, c, d]) => {
                let rows = cells.iter().zip(&**a).zip(&**b).zip(&**c).zip(&**d);
                let rows = rows.map(|((((cell, a), b), c), d)| (*cell, [1, *a, *b, *c, *d]));
                self.add_all(rows);
            }
            (None, _) => (0..cells.len()).for_each(|row| self.add_row(cells, row, &amounts)),
            (Some(selected), _) => {
                for row in selected {
                    self.add_row(cells, *row as usize, &amounts);
                }
            }
        }
    }

    /// Adds to all numbers of a cell, row by row.
    fn add_all<const W: usize>(&mut self, rows: impl Iterator<Item = (u32, [i64; W])>) {
        let (of_cells, _) = self.numbers.as_chunks_mut::<W>();
        for (cell, added) in rows {
            if let Some(numbers) = of_cells.get_mut(cell as usize) {
                for (number, added) in numbers.iter_mut().zip(added) {
                    *number = number.wrapping_add(added);
                }
            }
        }
    }

    fn add_row(&mut self, cells: &[u32], row: usize, amounts: &[Cow<'_, [i64]>]) {
        let width = self.width();
        let Some(start) = cells.get(row).map(|cell| *cell as usize * width) else {
            return;
        };
        if let Some([count, sums @ ..]) = self.numbers.get_mut(start..start + width) {
            *count += 1;
            for (sum, amounts) in sums.iter_mut().zip(amounts) {
                *sum = sum.wrapping_add(amounts.get(row).copied().unwrap_or_default());
            }
        }
    }

    /// As [`Tally::add`], where amounts are so large that they do not fit the bound.
    #[cold]
    fn add_wide(&mut self, cells: &[u32], selected: Option<&[u32]>, amounts: &[Cow<'_, [i64]>]) {
        let mut add = |row: usize| {
            let Some(cell) = cells.get(row).copied() else {
                return;
            };
            self.add_count(cell, 1);
            for (sum, amounts) in amounts.iter().enumerate() {
                let amount = amounts.get(row).copied().unwrap_or_default();
                self.add_amount(cell, sum, i128::from(amount));
            }
        };
        match selected {
            None => (0..cells.len()).for_each(add),
            Some(selected) => selected.iter().for_each(|row| add(*row as usize)),
        }
    }

    /// Marks which sums of rows have an amount.
    fn see(&mut self, cells: &[u32], selected: Option<&[u32]>, amounts: &[&Int64Array]) {
        if self.seen.is_empty() {
            let all = 0..self.cells();
            let seen = all.flat_map(|cell| std::iter::repeat_n(self.count(cell) > 0, self.sums));
            self.seen = seen.collect();
        }
        for (sum, amounts) in amounts.iter().enumerate() {
            let valid = amounts.nulls();
            let mut see = |row: usize| {
                if valid.is_none_or(|valid| valid.is_valid(row))
                    && let Some(cell) = cells.get(row)
                    && let Some(seen) = self.seen.get_mut(*cell as usize * self.sums + sum)
                {
                    *seen = true;
                }
            };
            match selected {
                None => (0..cells.len()).for_each(see),
                Some(selected) => selected.iter().for_each(|row| see(*row as usize)),
            }
        }
    }

    /// Moves the sums to wide ones, so that 64 bits are free again.
    fn widen(&mut self) {
        let width = self.width();
        self.wide.resize(self.numbers.len(), 0);
        let of_cells = self
            .numbers
            .chunks_mut(width)
            .zip(self.wide.chunks_mut(width));
        for (numbers, wide) in of_cells {
            let sums = numbers.iter_mut().zip(wide).skip(1);
            sums.for_each(|(sum, wide)| *wide += i128::from(std::mem::take(sum)));
        }
        self.bound = 0;
    }

    fn add_count(&mut self, cell: u32, rows: i64) {
        let place = cell as usize * self.width();
        if let Some(count) = self.numbers.get_mut(place) {
            *count += rows;
        }
    }

    fn add_amount(&mut self, cell: u32, sum: usize, amount: i128) {
        let place = cell as usize * self.width() + 1 + sum;
        let small = i64::try_from(amount).ok();
        let small = small.filter(|small| small.unsigned_abs() <= MOST - self.bound);
        match small {
            Some(small) => {
                self.bound += small.unsigned_abs();
                if let Some(total) = self.numbers.get_mut(place) {
                    *total += small;
                }
            }
            None => {
                self.widen();
                if let Some(wide) = self.wide.get_mut(place) {
                    *wide += amount;
                }
            }
        }
    }

    /// Adds cells of another tally, each to one of these; `sums` says which of its sums are these.
    pub(super) fn absorb(
        &mut self,
        other: &Tally,
        cells: impl Iterator<Item = (u32, u32)>,
        sums: &[usize],
    ) {
        let all_seen = self.seen.is_empty() && other.seen.is_empty();
        if !all_seen {
            self.see(&[], None, &[]);
        }
        for (from, cell) in cells {
            self.add_count(cell, other.count(from) as i64);
            for (own, sum) in sums.iter().enumerate() {
                let Some(amount) = other.sum(from, *sum) else {
                    continue;
                };
                self.add_amount(cell, own, amount);
                if !all_seen && let Some(seen) = self.seen.get_mut(cell as usize * self.sums + own)
                {
                    *seen = true;
                }
            }
        }
    }

    /// A sum of each of these cells; null where there is no amount.
    pub(super) fn finish(&self, sum: usize, present: &[u32]) -> Result<Int64Array> {
        let sums = present.iter().map(|cell| match self.sum(*cell, sum) {
            None => Ok(None),
            Some(total) => match i64::try_from(total) {
                Ok(total) => Ok(Some(total)),
                Err(_) => exec_err!("a sum is beyond 64 bits"),
            },
        });
        sums.collect()
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.numbers.capacity() * 8 + self.wide.capacity() * 16 + self.seen.capacity()
    }
}

/// Amounts, where a null is nothing.
fn without_nulls(amounts: &Int64Array) -> Cow<'_, [i64]> {
    match amounts.nulls().filter(|nulls| nulls.null_count() > 0) {
        None => Cow::Borrowed(amounts.values()),
        Some(nulls) => {
            let amounts = amounts.values().iter().zip(nulls);
            Cow::Owned(
                amounts
                    .map(|(of, valid)| if valid { *of } else { 0 })
                    .collect(),
            )
        }
    }
}

/// No amount is farther from zero.
#[multiversion(targets("x86_64+avx2+bmi1+bmi2+lzcnt"))]
fn largest(amounts: &[i64]) -> u64 {
    // Bits that differ from the sign: a loop in wide registers, which a search is not.
    let bits = amounts.iter().fold(0, |bits, of| bits | (of ^ (of >> 63)));
    bits as u64 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amounts(values: &[Option<i64>]) -> Int64Array {
        values.iter().copied().collect()
    }

    #[test]
    fn rows_and_amounts_are_added_to_their_cells() {
        let a = amounts(&[Some(5), None, Some(-7), Some(1)]);
        let b = amounts(&[Some(i64::MAX), Some(1), Some(3), Some(i64::MIN)]);
        let c = amounts(&[Some(1), Some(2), Some(3), Some(4)]);
        let cells = [2, 0, 2, 0];
        type Sums = Vec<Vec<Option<i128>>>;
        let many = vec![&c; 70];
        let max = i128::from(i64::MAX);
        let cases: Vec<(Vec<&Int64Array>, Option<&[u32]>, [u64; 3], Sums)> = vec![
            (vec![], None, [2, 0, 2], vec![]),
            (
                vec![&a],
                None,
                [2, 0, 2],
                vec![vec![Some(1), None, Some(-2)]],
            ),
            (
                vec![&c],
                None,
                [2, 0, 2],
                vec![vec![Some(6), None, Some(4)]],
            ),
            (
                vec![&b, &c],
                None,
                [2, 0, 2],
                vec![
                    vec![Some(-max), None, Some(max + 3)],
                    vec![Some(6), None, Some(4)],
                ],
            ),
            (
                vec![&a, &b, &c],
                Some(&[1, 2]),
                [1, 0, 1],
                vec![
                    vec![None, None, Some(-7)],
                    vec![Some(1), None, Some(3)],
                    vec![Some(2), None, Some(3)],
                ],
            ),
            (
                vec![&c, &a, &c, &b],
                None,
                [2, 0, 2],
                vec![
                    vec![Some(6), None, Some(4)],
                    vec![Some(1), None, Some(-2)],
                    vec![Some(6), None, Some(4)],
                    vec![Some(-max), None, Some(max + 3)],
                ],
            ),
            (
                many,
                None,
                [2, 0, 2],
                vec![vec![Some(6), None, Some(4)]; 70],
            ),
        ];
        for (amounts, selected, counts, sums) in cases {
            let mut tally = Tally::new(amounts.len());
            tally.grow(3);
            tally.add(&cells, selected, &amounts);
            // Taken over by another, cell by cell.
            let mut other = Tally::new(amounts.len());
            other.grow(3);
            let all: Vec<usize> = (0..amounts.len()).collect();
            other.absorb(&tally, (0..3).map(|cell| (cell, cell)), &all);
            for tally in [tally, other] {
                for cell in 0..3 {
                    assert_eq!(tally.count(cell), counts[cell as usize]);
                    for (sum, wanted) in sums.iter().enumerate() {
                        assert_eq!(tally.sum(cell, sum), wanted[cell as usize], "sum {sum}");
                        let fits = wanted[cell as usize].is_none_or(|sum| sum <= max);
                        assert_eq!(tally.finish(sum, &[cell]).is_ok(), fits);
                    }
                }
                assert!(tally.cells() >= 3 && tally.heap_bytes() > 0);
            }
        }
    }
}
