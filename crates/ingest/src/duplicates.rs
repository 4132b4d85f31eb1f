//! Keys seen twice: in one delivery, or in the delivery and elsewhere in the table.
//!
//! Keys are 128-bit hashes in row order. A filter of a few bits a key, small enough for the
//! processor's cache, says of nearly every key that it is new; only the others are looked for in
//! lists by the key's first bits. Memory is bounded: past a limit further keys go to unnamed
//! temporary files and are compared at the end. What to do with a duplicate is the contract's
//! decision, taken in `pipeline`.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};

/// Lists are short, so that looking through one costs little.
const LISTS: usize = 1024;
const SPILL_FILES: usize = 256;
/// Key and row, little-endian.
const RECORD: usize = 24;

/// A row whose key stood earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Duplicate {
    /// The row that repeats the key.
    pub(crate) row: i64,
    /// Where the key stood first.
    pub(crate) first: First,
}

/// Where a key stood first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum First {
    /// In this row of the same file.
    Row(i64),
    /// In another delivery of the table.
    Table,
}

/// A key's upper 96 bits and its row in the lower 32: 16 bytes instead of 32. That two of a thousand
/// million keys agree in 96 bits has a chance of one in 10^11.
#[derive(Clone, Copy)]
struct Seen(u128);

impl Seen {
    fn new(key: u128, row: i64) -> Seen {
        Seen((key & !u128::from(u32::MAX)) | u128::from(u32::try_from(row).unwrap_or(u32::MAX)))
    }

    fn is(self, key: u128) -> bool {
        (self.0 ^ key) >> 32 == 0
    }

    fn row(self) -> i64 {
        i64::from(self.0 as u32)
    }
}

/// The keys of a delivery.
pub(crate) struct KeySet {
    filter: Filter,
    lists: Vec<Vec<Seen>>,
    len: usize,
    limit: usize,
    spill: Option<Vec<BufWriter<File>>>,
}

impl KeySet {
    /// A set that keeps at most about `limit` keys in memory.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            filter: Filter::with_room(FIRST_ROOM),
            lists: vec![Vec::new(); LISTS],
            len: 0,
            limit,
            spill: None,
        }
    }

    /// Adds the keys of rows in their order and names the duplicates that are certain already, in
    /// row order. Those among spilled keys come from [`KeySet::finish`].
    pub(crate) fn add(&mut self, keys: &[u128], rows: &[i64]) -> io::Result<Vec<Duplicate>> {
        let mut found = Vec::new();
        let keeps = self.len < self.limit;
        if keeps && self.len + keys.len() > self.filter.room {
            self.grow(self.len + keys.len());
        }
        for (key, row) in keys.iter().zip(rows) {
            let Some(list) = self.lists.get_mut(list_of(*key)) else {
                continue;
            };
            let known = if keeps {
                self.filter.put(*key)
            } else {
                self.filter.may_hold(*key)
            };
            let first = if known {
                list.iter().find(|seen| seen.is(*key))
            } else {
                None
            };
            match first {
                Some(first) => found.push(Duplicate {
                    row: *row,
                    first: First::Row(first.row()),
                }),
                None if keeps => {
                    list.push(Seen::new(*key, *row));
                    self.len += 1;
                }
                None => write_spilled(&mut self.spill, *key, *row)?,
            }
        }
        Ok(found)
    }

    /// Looks keys of the table's other deliveries up. Rows of this delivery that have one of them
    /// are named here, or by [`KeySet::finish`] when their keys are spilled.
    pub(crate) fn probe_table(&mut self, keys: &[u128]) -> io::Result<Vec<Duplicate>> {
        let mut found = Vec::new();
        for key in keys {
            let held = match self.lists.get(list_of(*key)) {
                Some(list) if self.filter.may_hold(*key) => list.iter().find(|seen| seen.is(*key)),
                _ => None,
            };
            match held {
                Some(seen) => found.push(Duplicate {
                    row: seen.row(),
                    first: First::Table,
                }),
                None if self.spill.is_some() => write_spilled(&mut self.spill, *key, TABLE_ROW)?,
                None => {}
            }
        }
        Ok(found)
    }

    /// A filter with room for `keys`, filled from the lists.
    fn grow(&mut self, keys: usize) {
        self.filter = Filter::with_room(keys.saturating_mul(4).min(self.limit.max(keys)));
        for seen in self.lists.iter().flatten() {
            self.filter.put(seen.0);
        }
    }

    /// True when no key was spilled: then [`KeySet::probe_table`] tells all.
    pub(crate) fn is_in_memory(&self) -> bool {
        self.spill.is_none()
    }

    /// Compares what was spilled and names the remaining duplicates, in row order.
    pub(crate) fn finish(self) -> io::Result<Vec<Duplicate>> {
        let Some(files) = self.spill else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        for file in files {
            let mut file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.seek(SeekFrom::Start(0))?;
            let mut keys = read_spilled(file)?;
            keys.sort_unstable();
            for same in keys.chunk_by(|a, b| a.0 == b.0) {
                // A key of the table sorts before every row, since its row number is negative.
                let mut rows = same.iter().map(|(_, row)| *row);
                let first = match rows.next() {
                    Some(TABLE_ROW) => First::Table,
                    Some(row) => First::Row(row),
                    None => continue,
                };
                found.extend(
                    rows.filter(|row| *row != TABLE_ROW)
                        .map(|row| Duplicate { row, first }),
                );
            }
        }
        found.sort_unstable();
        found.dedup_by_key(|duplicate| duplicate.row);
        Ok(found)
    }
}

/// Stands for "a row of another delivery" among spilled keys.
const TABLE_ROW: i64 = -1;

/// The key is a hash already; its top bits choose the list.
fn list_of(key: u128) -> usize {
    (key >> 118) as usize
}

/// Room of the first filter: a quarter of a megabyte.
const FIRST_ROOM: usize = 1 << 17;
/// Keys for each word of the filter: 16 bits a key, so that one key in 400 is taken for known.
const KEYS_A_WORD: usize = 4;

/// A Bloom filter whose three bits of a key lie in one word: one read and one write a key.
struct Filter {
    words: Vec<u64>,
    room: usize,
}

impl Filter {
    fn with_room(keys: usize) -> Filter {
        Filter {
            words: vec![0; keys / KEYS_A_WORD + 1],
            room: keys,
        }
    }

    /// Adds a key; false when it certainly is new.
    #[inline]
    fn put(&mut self, key: u128) -> bool {
        let bits = bits_of(key);
        let place = self.place(key);
        match self.words.get_mut(place) {
            Some(word) => {
                let known = *word & bits == bits;
                *word |= bits;
                known
            }
            None => false,
        }
    }

    /// False when the key certainly was not added.
    #[inline]
    fn may_hold(&self, key: u128) -> bool {
        let bits = bits_of(key);
        self.words
            .get(self.place(key))
            .is_some_and(|word| word & bits == bits)
    }

    /// The key's word, from bits that neither [`bits_of`] nor [`list_of`] uses.
    #[inline]
    fn place(&self, key: u128) -> usize {
        let middle = (key >> 50) as u64;
        ((u128::from(middle) * self.words.len() as u128) >> 64) as usize
    }
}

/// The key's bits in its word. The lower 32 bits of a key are not used, since [`Seen`] lacks them.
#[inline]
fn bits_of(key: u128) -> u64 {
    let part = (key >> 32) as u64;
    1 << (part & 63) | 1 << ((part >> 6) & 63) | 1 << ((part >> 12) & 63)
}

fn write_spilled(spill: &mut Option<Vec<BufWriter<File>>>, key: u128, row: i64) -> io::Result<()> {
    let files = match spill {
        Some(files) => files,
        None => {
            let made = (0..SPILL_FILES)
                .map(|_| tempfile::tempfile().map(|file| BufWriter::with_capacity(16 << 10, file)))
                .collect::<io::Result<Vec<_>>>()?;
            spill.insert(made)
        }
    };
    let mut record = [0u8; RECORD];
    let (front, back) = record.split_at_mut(16);
    front.copy_from_slice(&key.to_le_bytes());
    back.copy_from_slice(&row.to_le_bytes());
    match files.get_mut((key >> 120) as usize) {
        Some(file) => file.write_all(&record),
        None => Ok(()),
    }
}

fn read_spilled(file: File) -> io::Result<Vec<(u128, i64)>> {
    let mut keys = Vec::new();
    let mut reader = BufReader::with_capacity(256 << 10, file);
    let mut record = [0u8; RECORD];
    loop {
        match reader.read_exact(&mut record) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(keys),
            Err(error) => return Err(error),
        }
        let (Some(key), Some(row)) = (record.first_chunk::<16>(), record.last_chunk::<8>()) else {
            continue;
        };
        keys.push((u128::from_le_bytes(*key), i64::from_le_bytes(*row)));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    /// A key whose place is spread like a hash's.
    fn key(n: u64) -> u128 {
        let mix = |x: u64| {
            let x = (x ^ (x >> 31)).wrapping_mul(0x7fb5_d329_728e_a185);
            x ^ (x >> 27)
        };
        (u128::from(mix(n.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1)) << 64) | u128::from(mix(n + 77))
    }

    /// Every duplicate of the keys, whatever the limit and the block length.
    fn all(limit: usize, block: usize, keys: &[u128], table: &[u128]) -> Vec<Duplicate> {
        let mut set = KeySet::new(limit);
        let mut found = Vec::new();
        for (i, part) in keys.chunks(block).enumerate() {
            let rows: Vec<i64> = (0..part.len())
                .map(|j| (i * block + j) as i64 + 2)
                .collect();
            found.extend(set.add(part, &rows).unwrap());
        }
        found.extend(set.probe_table(table).unwrap());
        found.extend(set.finish().unwrap());
        found.sort_unstable();
        found
    }

    fn expected(keys: &[u128]) -> Vec<Duplicate> {
        let mut first: HashMap<u128, i64> = HashMap::new();
        let mut found = Vec::new();
        for (row, key) in (2i64..).zip(keys) {
            match first.get(key) {
                Some(first) => found.push(Duplicate {
                    row,
                    first: First::Row(*first),
                }),
                None => {
                    first.insert(*key, row);
                }
            }
        }
        found
    }

    #[test]
    fn the_same_duplicates_are_found_in_memory_and_spilled() {
        let keys: Vec<u128> = (0..5_000u64).map(|n| key(n * n % 3_989)).collect();
        let want = expected(&keys);
        assert!(want.len() > 500);
        for limit in [usize::MAX, 1_000, 1] {
            for block in [7, 512, 10_000] {
                assert_eq!(
                    all(limit, block, &keys, &[]),
                    want,
                    "limit {limit} block {block}"
                );
            }
        }
    }

    #[test]
    fn distinct_keys_have_no_duplicates() {
        let keys: Vec<u128> = (0..10_000).map(key).collect();
        for limit in [usize::MAX, 100] {
            assert_eq!(all(limit, 100, &keys, &[]), []);
        }
    }

    #[test]
    fn rows_whose_key_is_elsewhere_in_the_table_are_named_once() {
        let keys: Vec<u128> = (0..1_000).map(key).collect();
        let table = [key(5), key(5), key(900), key(5_000)];
        for limit in [usize::MAX, 300] {
            let found = all(limit, 100, &keys, &table);
            let rows: Vec<(i64, First)> = found.iter().map(|d| (d.row, d.first)).collect();
            let distinct: Vec<(i64, First)> = {
                let mut rows = rows.clone();
                rows.dedup();
                rows
            };
            assert_eq!(
                distinct,
                [(7, First::Table), (902, First::Table)],
                "limit {limit}"
            );
        }
    }
}
