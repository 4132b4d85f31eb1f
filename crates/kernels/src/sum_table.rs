//! Rows of exact sums, each row under a number: the store of the kernels that count into cells.
//!
//! A row is a fixed number of 64-bit words; the first counts what was added, so a row is there when
//! its count is not zero. Within the memory bound that the caller gives, all rows stand in one
//! array and a row's number is its place. Beyond it only rows that exist are kept, found by
//! hashing; results are the same. A sum that does not fit into its word is not lost: adding wraps,
//! and the missing multiple of 2⁶⁴ is kept aside, so that every sum is exact to 128 bits whatever
//! the order of additions. Here are no dimensions and no periods: what a word means is the
//! kernel's affair.

use std::collections::BTreeMap;

use datafusion_common::{Result, resources_err};
use hashbrown::HashMap;

/// What a word could not hold: how many times 2⁶⁴ is to be added to it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Carries {
    by_word: BTreeMap<usize, i64>,
}

impl Carries {
    /// Notes that adding `added` to a word went over the edge.
    #[cold]
    #[inline(never)]
    pub(crate) fn note(&mut self, word: usize, added: i64) {
        self.raise(word, if added < 0 { -1 } else { 1 });
    }

    fn raise(&mut self, word: usize, times: i64) {
        let carried = self.by_word.entry(word).or_default();
        *carried += times;
        if *carried == 0 {
            self.by_word.remove(&word);
        }
    }
}

/// Rows of exact sums.
#[derive(Debug, Clone)]
pub(crate) struct SumTable {
    width: usize,
    words: Vec<i64>,
    /// Where the row of a number stands; `None` when every row has its place.
    slots: Option<HashMap<u64, u32>>,
    carries: Carries,
}

/// Bytes of an array with all rows; `None` when that is beyond what can be counted.
pub(crate) fn dense_bytes(rows: u64, width: usize) -> Option<usize> {
    usize::try_from(rows)
        .ok()?
        .checked_mul(width)?
        .checked_mul(size_of::<i64>())
}

impl SumTable {
    /// A table of rows numbered below `rows`, in one array if that takes no more than
    /// `memory_bytes`. Rows of an array are found by 32 bits.
    pub(crate) fn new(rows: u64, width: usize, memory_bytes: usize) -> Self {
        let dense = dense_bytes(rows, width)
            .filter(|bytes| *bytes <= memory_bytes && rows <= u64::from(u32::MAX));
        match dense {
            Some(bytes) => Self {
                width,
                words: vec![0; bytes / size_of::<i64>()],
                slots: None,
                carries: Carries::default(),
            },
            None => Self {
                width,
                words: Vec::new(),
                slots: Some(HashMap::new()),
                carries: Carries::default(),
            },
        }
    }

    /// True when every row has its place in one array.
    pub(crate) fn is_dense(&self) -> bool {
        self.slots.is_none()
    }

    /// The words of all slots and the carries, for the hot loops.
    pub(crate) fn parts(&mut self) -> (&mut [i64], &mut Carries) {
        (&mut self.words, &mut self.carries)
    }

    /// The slot of a row, made when it is new. The number must be below the table's.
    pub(crate) fn slot(&mut self, row: u64) -> Result<u32> {
        let Some(slots) = &mut self.slots else {
            // A dense table has no more rows than 32 bits can tell apart.
            return Ok(row as u32);
        };
        let next = slots.len();
        match slots.entry(row) {
            hashbrown::hash_map::Entry::Occupied(found) => Ok(*found.get()),
            hashbrown::hash_map::Entry::Vacant(free) => match u32::try_from(next) {
                Ok(slot) => {
                    self.words.resize(self.words.len() + self.width, 0);
                    Ok(*free.insert(slot))
                }
                Err(_) => resources_err!("there are too many cells: use fewer dimensions at once"),
            },
        }
    }

    /// Makes room for rows numbered below `rows`, in a table where every row has its place.
    pub(crate) fn grow(&mut self, rows: usize) {
        if self.is_dense() && self.words.len() < rows * self.width {
            self.words.resize(rows * self.width, 0);
        }
    }

    /// Removes the first rows of a table where every row has its place; the others move up.
    pub(crate) fn remove_first(&mut self, rows: usize) {
        let words = (rows * self.width).min(self.words.len());
        if words == self.words.len() {
            self.words = Vec::new();
        } else {
            self.words.drain(..words);
        }
        self.carries.by_word = std::mem::take(&mut self.carries.by_word)
            .into_iter()
            .filter_map(|(word, carried)| Some((word.checked_sub(words)?, carried)))
            .collect();
    }

    /// Adds 64 bits to a word of a slot.
    #[inline]
    pub(crate) fn bump(&mut self, slot: u32, place: usize, value: i64) {
        let word = slot as usize * self.width + place;
        if let Some(held) = self.words.get_mut(word) {
            let (sum, over) = held.overflowing_add(value);
            *held = sum;
            if over {
                self.carries.note(word, value);
            }
        }
    }

    /// Adds to a word of a slot.
    pub(crate) fn add(&mut self, slot: u32, place: usize, value: i128) {
        let word = slot as usize * self.width + place;
        let low = value as i64;
        let high = ((value - i128::from(low)) >> 64) as i64;
        self.bump(slot, place, low);
        if high != 0 {
            self.carries.raise(word, high);
        }
    }

    /// A word of a slot in full.
    pub(crate) fn value(&self, slot: u32, place: usize) -> i128 {
        let word = slot as usize * self.width + place;
        let low = self.words.get(word).copied().unwrap_or_default();
        let carried = self.carries.by_word.get(&word).copied().unwrap_or_default();
        (i128::from(carried) << 64) + i128::from(low)
    }

    /// The rows that exist with their slots, by number.
    pub(crate) fn rows(&self) -> Vec<(u64, u32)> {
        match &self.slots {
            None => self
                .words
                .chunks_exact(self.width)
                .enumerate()
                .filter(|(_, words)| words.first().is_some_and(|count| *count != 0))
                .map(|(row, _)| (row as u64, row as u32))
                .collect(),
            Some(slots) => {
                let mut rows: Vec<(u64, u32)> = slots
                    .iter()
                    .map(|(row, slot)| (*row, *slot))
                    .filter(|(_, slot)| self.value(*slot, 0) != 0)
                    .collect();
                rows.sort_unstable();
                rows
            }
        }
    }

    /// Adds every row of another table of the same width to the row that `to` names.
    pub(crate) fn absorb(&mut self, other: &Self, to: impl Fn(u64) -> u64) -> Result<()> {
        for (row, theirs) in other.rows() {
            let ours = self.slot(to(row))?;
            for place in 0..self.width {
                self.add(ours, place, other.value(theirs, place));
            }
        }
        Ok(())
    }

    /// Bytes held on the heap.
    pub(crate) fn heap_bytes(&self) -> usize {
        /// A carry with its share of a tree node.
        const CARRY: usize = 32;
        self.words.capacity() * size_of::<i64>()
            + self.slots.as_ref().map_or(0, HashMap::allocation_size)
            + self.carries.by_word.len() * CARRY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adds the values to one word, in both kinds of table.
    fn check(values: &[i128], expected: i128) {
        for memory_bytes in [0, 1_024] {
            let mut table = SumTable::new(4, 2, memory_bytes);
            assert_eq!(table.is_dense(), memory_bytes > 0);
            let slot = table.slot(3).unwrap();
            for value in values {
                table.add(slot, 0, 1);
                table.add(slot, 1, *value);
            }
            assert_eq!(table.value(slot, 1), expected);
            assert_eq!(table.rows(), [(3, slot)]);
            assert_eq!(
                table.carries.by_word.is_empty(),
                i64::try_from(expected).is_ok()
            );
        }
    }

    #[test]
    fn a_sum_beyond_64_bits_is_exact() {
        let max = i128::from(i64::MAX);
        let min = i128::from(i64::MIN);
        check(&[max, 1], max + 1);
        check(&[max, max, max], 3 * max);
        check(&[min, min], 2 * min);
        check(&[min, -1, 1, max], -1);
        check(&[max, 1, min, -5], -5);
        check(&[max * 1_000, min, 7 - max * 999], max + min + 7);
    }

    #[test]
    fn a_table_grows_only_by_rows_that_exist() {
        let mut table = SumTable::new(u64::MAX, 3, 1 << 20);
        assert!(!table.is_dense());
        let slot = table.slot(u64::MAX - 1).unwrap();
        table.add(slot, 0, 1);
        assert_eq!(table.rows(), [(u64::MAX - 1, 0)]);
        assert!(table.heap_bytes() < 1_024);
    }

    #[test]
    fn rows_move_up_when_the_first_are_removed() {
        let mut table = SumTable::new(0, 2, usize::MAX);
        table.grow(3);
        for slot in 0..3 {
            table.add(slot, 0, 1);
            table.add(slot, 1, i128::from(i64::MAX) * i128::from(slot));
        }
        table.remove_first(1);
        assert_eq!(table.rows(), [(0, 0), (1, 1)]);
        assert_eq!(table.value(0, 1), i128::from(i64::MAX));
        assert_eq!(table.value(1, 1), i128::from(i64::MAX) * 2);
        table.remove_first(5);
        assert_eq!(table.rows(), []);
        assert_eq!(table.heap_bytes(), 0);
    }

    #[test]
    fn an_empty_table_has_no_rows() {
        assert_eq!(SumTable::new(10, 2, 1_024).rows(), []);
        assert_eq!(SumTable::new(10, 2, 0).rows(), []);
    }
}
