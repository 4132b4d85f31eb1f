//! Small numbers for what rows are grouped by: values of a column, combinations of columns, and which
//! filters a row passes.
//!
//! Numbers are given in the order of arrival and mean nothing outside one scan; parts of a scan merge
//! by translating them. What may not live here: what is counted (`groups.rs`). To add a kind of key
//! column: a variant of [`Codes`] with its arms.

use std::hash::BuildHasher;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, DictionaryArray, Int64Array,
    StringArray, StringViewArray,
};
use arrow::datatypes::{Date32Type, Int32Type, Int64Type};
use datafusion_common::{DataFusionError, Result, exec_err};
use hashbrown::{DefaultHashBuilder, HashTable};

use super::{CellColumn, WIDTH, at};
use crate::calendar::{first_of_month, first_of_year};

/// A grid of cell numbers may have this many places before a hash table takes over.
const MOST_PLACES: usize = 1 << 22;
/// Days from 1970-01-01 that are looked up in an array; others are hashed.
const DENSE_DAYS: i32 = 1 << 16;
/// The code of no member.
pub(super) const NOBODY: u32 = u32::MAX;

/// Cell numbers of pairs, in the order of their arrival.
#[derive(Debug, Default)]
pub(super) struct PairIndex {
    pub(super) pairs: Vec<(u32, u32)>,
    /// `grid[a * width + b]` is the cell plus one, or zero.
    grid: Vec<u32>,
    width: usize,
    /// Takes the place of the grid when that would be too large.
    pub(super) hashed: Option<HashTable<u32>>,
    hasher: DefaultHashBuilder,
}

impl PairIndex {
    pub(super) fn cells(&mut self, first: &[u32], second: &[u32], out: &mut Vec<u32>) {
        let mut last = None;
        for (a, b) in first.iter().zip(second) {
            let cell = match last {
                Some((pair, cell)) if pair == (*a, *b) => cell,
                _ => self.cell(*a, *b),
            };
            last = Some(((*a, *b), cell));
            out.push(cell);
        }
    }

    pub(super) fn cell(&mut self, a: u32, b: u32) -> u32 {
        if self.hashed.is_none() && !self.fits(a, b) {
            self.enlarge(a, b);
        }
        if let Some(table) = &mut self.hashed {
            let (pairs, hasher) = (&mut self.pairs, &self.hasher);
            let hash = hasher.hash_one((a, b));
            let found = table.find(hash, |cell| pairs.get(*cell as usize) == Some(&(a, b)));
            if let Some(cell) = found {
                return *cell;
            }
            let cell = pairs.len() as u32;
            pairs.push((a, b));
            table.insert_unique(hash, cell, |cell| hasher.hash_one(at(pairs, *cell)));
            return cell;
        }
        let Some(place) = self.grid.get_mut(a as usize * self.width + b as usize) else {
            return 0;
        };
        if *place == 0 {
            self.pairs.push((a, b));
            *place = self.pairs.len() as u32;
        }
        *place - 1
    }

    fn fits(&self, a: u32, b: u32) -> bool {
        (b as usize) < self.width && a as usize * self.width + (b as usize) < self.grid.len()
    }

    /// A grid in which the pair has a place, or a hash table when that is too much.
    fn enlarge(&mut self, a: u32, b: u32) {
        let room = |highest: u32| (highest as usize + 1).next_power_of_two().max(8);
        let highest = |of: fn(&(u32, u32)) -> u32| self.pairs.iter().map(of).max().unwrap_or(0);
        let width = room(b.max(highest(|pair| pair.1)));
        let height = room(a.max(highest(|pair| pair.0)));
        let numbered = (0u32..).zip(&self.pairs);
        if width.saturating_mul(height) > MOST_PLACES {
            let mut table = HashTable::with_capacity(self.pairs.len());
            for (cell, pair) in numbered {
                let hash = self.hasher.hash_one(*pair);
                table.insert_unique(hash, cell, |cell| {
                    self.hasher.hash_one(at(&self.pairs, *cell))
                });
            }
            self.hashed = Some(table);
            self.grid = Vec::new();
            return;
        }
        let mut grid = vec![0; width * height];
        for (cell, (a, b)) in numbered {
            if let Some(place) = grid.get_mut(*a as usize * width + *b as usize) {
                *place = cell + 1;
            }
        }
        self.grid = grid;
        self.width = width;
    }

    pub(super) fn pair(&self, cell: u32) -> (u32, u32) {
        at(&self.pairs, cell)
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let hashed = self.hashed.as_ref().map_or(0, |table| table.capacity() * 5);
        self.pairs.capacity() * 8 + self.grid.capacity() * 4 + hashed
    }
}

/// Small numbers for the values of a column, in the order of their arrival.
#[derive(Debug)]
pub(super) enum Codes {
    Text(TextCodes),
    Day(DayCodes),
    Member(MemberCodes),
    /// Which filters a row passes.
    Mask(MaskCodes),
    /// Filters and amounts are used as they are.
    Plain,
}

impl Codes {
    pub(super) fn of(column: CellColumn) -> Self {
        match column {
            CellColumn::Text => Codes::Text(TextCodes::default()),
            CellColumn::TextOr(text) => Codes::Text(TextCodes {
                instead_of_null: Some(text),
                ..TextCodes::default()
            }),
            CellColumn::Day => Codes::Day(DayCodes::default()),
            CellColumn::Month => Codes::Day(DayCodes {
                stands_for: Some(first_of_month),
                ..DayCodes::default()
            }),
            CellColumn::Year => Codes::Day(DayCodes {
                stands_for: Some(first_of_year),
                ..DayCodes::default()
            }),
            CellColumn::Member => Codes::Member(MemberCodes::default()),
            CellColumn::Filter | CellColumn::Whole => Codes::Plain,
        }
    }

    /// The codes of a column, written over `out`.
    pub(super) fn codes(&mut self, column: &ArrayRef, mut out: Vec<u32>) -> Result<Vec<u32>> {
        out.clear();
        match self {
            Codes::Plain | Codes::Mask(_) => {}
            Codes::Text(codes) => {
                if let Some(coded) = column.as_dictionary_opt::<Int32Type>() {
                    codes.codes_of_coded(coded, &mut out)?;
                } else if let Some(numbers) = column.as_primitive_opt::<Int64Type>() {
                    codes.codes_of_numbers(numbers, &mut out);
                } else {
                    codes.codes(
                        column.as_string_view_opt().ok_or_else(wrong_type)?,
                        &mut out,
                    );
                }
            }
            Codes::Day(codes) => {
                let days = column.as_primitive_opt::<Date32Type>();
                codes.codes(days.ok_or_else(wrong_type)?, &mut out);
            }
            Codes::Member(codes) => {
                let members = column.as_binary_opt::<i32>().ok_or_else(wrong_type)?;
                codes.codes(members, &mut out)?;
            }
        }
        Ok(out)
    }

    /// Takes in the values of another part; gives its codes in terms of these.
    pub(super) fn absorb(&mut self, other: &Codes) -> Result<Vec<u32>> {
        match (self, other) {
            (Codes::Plain, Codes::Plain) => Ok(Vec::new()),
            (Codes::Text(own), Codes::Text(other)) => {
                let texts = other.values.iter();
                Ok(texts.map(|text| own.code(text.as_deref())).collect())
            }
            (Codes::Day(own), Codes::Day(other)) => {
                let days = other.values.iter();
                Ok(days.map(|day| own.known(*day)).collect())
            }
            (Codes::Member(own), Codes::Member(other)) => Ok(other
                .values
                .iter()
                .map(|member| own.code(*member))
                .collect()),
            (Codes::Mask(own), Codes::Mask(other)) => {
                Ok(other.values.iter().map(|mask| own.code(*mask)).collect())
            }
            _ => exec_err!("parts of different scans cannot be merged"),
        }
    }

    pub(super) fn values(&self, codes: &[u32]) -> ArrayRef {
        match self {
            Codes::Text(texts) => Arc::new(
                codes
                    .iter()
                    .map(|code| texts.values.get(*code as usize)?.as_deref())
                    .collect::<StringArray>(),
            ),
            Codes::Day(days) => Arc::new(
                codes
                    .iter()
                    .map(|code| at(&days.values, *code))
                    .collect::<Date32Array>(),
            ),
            Codes::Member(_) | Codes::Mask(_) | Codes::Plain => {
                Arc::new(StringArray::new_null(codes.len()))
            }
        }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Codes::Plain => 0,
            Codes::Mask(codes) => codes.values.capacity() * 16 + codes.table.capacity() * 5,
            Codes::Text(codes) => codes.bytes + codes.table.capacity() * 5,
            Codes::Day(codes) => codes.dense.capacity() * 4 + codes.values.capacity() * 16,
            Codes::Member(codes) => codes.values.capacity() * 16 + codes.table.capacity() * 5,
        }
    }
}

fn wrong_type() -> DataFusionError {
    DataFusionError::Execution("a column of a scan has another type than agreed".to_owned())
}

#[derive(Debug, Default)]
pub(super) struct TextCodes {
    values: Vec<Option<Box<str>>>,
    table: HashTable<u32>,
    null: Option<u32>,
    /// What a null is taken for.
    instead_of_null: Option<&'static str>,
    /// By whole number from zero: the code of its decimal text plus one, or zero.
    numbers: Vec<u32>,
    hasher: DefaultHashBuilder,
    bytes: usize,
}

/// Views seen lately; the same view in one batch is the same text.
const RECENT: usize = 256;
/// Whole numbers below this are looked up in an array.
const DENSE_NUMBERS: usize = 1 << 12;
/// A value of a dictionary that has no code yet.
const UNSEEN: u32 = u32::MAX;

impl TextCodes {
    fn codes(&mut self, texts: &StringViewArray, out: &mut Vec<u32>) {
        let mut recent = [None::<(u128, u32)>; RECENT];
        for (row, view) in texts.views().iter().enumerate() {
            if texts.is_null(row) {
                out.push(self.code(None));
                continue;
            }
            let mixed = (*view as u64 ^ (*view >> 64) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let place = recent.get_mut((mixed >> 56) as usize % RECENT);
            let code = match place {
                Some(Some((known, code))) if known == view => *code,
                Some(place) => {
                    let code = self.code(Some(texts.value(row)));
                    *place = Some((*view, code));
                    code
                }
                None => self.code(Some(texts.value(row))),
            };
            out.push(code);
        }
    }

    /// The codes of a column that comes as codes of a dictionary: each value is looked up once.
    fn codes_of_coded(
        &mut self,
        coded: &DictionaryArray<Int32Type>,
        out: &mut Vec<u32>,
    ) -> Result<()> {
        let values = coded.values();
        let text = |place: usize| -> Result<Option<&str>> {
            if values.is_null(place) {
                return Ok(None);
            }
            if let Some(texts) = values.as_string_opt::<i32>() {
                return Ok(Some(texts.value(place)));
            }
            let texts = values.as_string_view_opt().ok_or_else(wrong_type)?;
            Ok(Some(texts.value(place)))
        };
        let mut known = vec![UNSEEN; values.len()];
        let keys = coded.keys();
        let nulls = keys.nulls();
        out.reserve(keys.len());
        for (row, key) in keys.values().iter().enumerate() {
            if nulls.is_some_and(|nulls| nulls.is_null(row)) {
                out.push(self.code(None));
                continue;
            }
            let code = match known.get_mut(*key as usize) {
                Some(code) if *code != UNSEEN => *code,
                Some(code) => {
                    *code = self.code(text(*key as usize)?);
                    *code
                }
                None => return exec_err!("a dictionary lacks a value"),
            };
            out.push(code);
        }
        Ok(())
    }

    /// The codes of whole numbers, which stand as their decimal text.
    fn codes_of_numbers(&mut self, numbers: &Int64Array, out: &mut Vec<u32>) {
        for row in 0..numbers.len() {
            let number = numbers.is_valid(row).then(|| numbers.value(row));
            let place = number
                .and_then(|number| usize::try_from(number).ok())
                .filter(|place| *place < DENSE_NUMBERS);
            if let Some(place) = place {
                match self.numbers.get(place) {
                    Some(0) => {}
                    Some(code) => {
                        out.push(code - 1);
                        continue;
                    }
                    None => self.numbers.resize((place + 1).next_multiple_of(64), 0),
                }
            }
            let code = match number {
                Some(number) => self.code(Some(&number.to_string())),
                None => self.code(None),
            };
            if let Some(place) = place.and_then(|place| self.numbers.get_mut(place)) {
                *place = code + 1;
            }
            out.push(code);
        }
    }

    fn code(&mut self, text: Option<&str>) -> u32 {
        let next = self.values.len() as u32;
        let Some(text) = text.or(self.instead_of_null) else {
            return *self.null.get_or_insert_with(|| {
                self.values.push(None);
                next
            });
        };
        let (values, hasher) = (&mut self.values, &self.hasher);
        let of = |values: &[Option<Box<str>>], code: u32| {
            let text = values.get(code as usize).and_then(Option::as_deref);
            hasher.hash_one(text.unwrap_or_default())
        };
        let hash = hasher.hash_one(text);
        let same = |code: &u32| values.get(*code as usize).and_then(Option::as_deref) == Some(text);
        if let Some(code) = self.table.find(hash, same) {
            return *code;
        }
        values.push(Some(text.into()));
        self.bytes += text.len() + 24;
        self.table
            .insert_unique(hash, next, |code| of(values, *code));
        next
    }
}

#[derive(Debug, Default)]
pub(super) struct DayCodes {
    /// A day stands for this one.
    stands_for: Option<fn(i32) -> i32>,
    values: Vec<Option<i32>>,
    /// By day from 1970-01-01: the code plus one, or zero.
    dense: Vec<u32>,
    sparse: std::collections::HashMap<Option<i32>, u32>,
}

impl DayCodes {
    fn codes(&mut self, days: &Date32Array, out: &mut Vec<u32>) {
        let nulls = days.nulls();
        out.reserve(days.len());
        for (row, day) in days.values().iter().enumerate() {
            let is_null = nulls.is_some_and(|nulls| nulls.is_null(row));
            out.push(self.code((!is_null).then_some(*day)));
        }
    }

    fn code(&mut self, day: Option<i32>) -> u32 {
        let place = day
            .filter(|day| (0..DENSE_DAYS).contains(day))
            .map(|day| day as usize);
        if let Some(place) = place {
            match self.dense.get(place) {
                Some(0) => {}
                Some(code) => return code - 1,
                None => self.dense.resize((place + 1).next_multiple_of(1024), 0),
            }
        }
        let value = match self.stands_for {
            Some(first) => day.map(first),
            None => day,
        };
        let code = self.known(value);
        if let Some(place) = place.and_then(|place| self.dense.get_mut(place)) {
            *place = code + 1;
        }
        code
    }

    /// The code of a key value.
    fn known(&mut self, value: Option<i32>) -> u32 {
        let next = self.values.len() as u32;
        *self.sparse.entry(value).or_insert_with(|| {
            self.values.push(value);
            next
        })
    }
}

#[derive(Debug, Default)]
pub(super) struct MemberCodes {
    pub(super) values: Vec<u128>,
    table: HashTable<u32>,
}

impl MemberCodes {
    fn codes(&mut self, members: &BinaryArray, out: &mut Vec<u32>) -> Result<()> {
        let mut last = None;
        for row in 0..members.len() {
            if members.is_null(row) {
                out.push(NOBODY);
                continue;
            }
            let Ok(bytes) = <[u8; WIDTH]>::try_from(members.value(row)) else {
                return exec_err!("a member of a set has not {WIDTH} bytes");
            };
            let member = u128::from_be_bytes(bytes);
            let code = match last {
                Some((known, code)) if known == member => code,
                _ => self.code(member),
            };
            last = Some((member, code));
            out.push(code);
        }
        Ok(())
    }

    fn code(&mut self, member: u128) -> u32 {
        let values = &mut self.values;
        let hash = member_hash(member);
        let same = |code: &u32| values.get(*code as usize) == Some(&member);
        if let Some(code) = self.table.find(hash, same) {
            return *code;
        }
        let code = values.len() as u32;
        values.push(member);
        self.table
            .insert_unique(hash, code, |code| member_hash(at(values, *code)));
        code
    }
}

/// Members are digests, spread evenly already: folding them is enough.
pub(crate) fn member_hash(member: u128) -> u64 {
    (member as u64 ^ (member >> 64) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Filters that one mask has room for.
pub(super) const MOST_FILTERS: usize = 128;

/// Numbers for the sets of filters that rows pass: bit by bit, in the order of the filters.
#[derive(Debug, Default)]
pub(super) struct MaskCodes {
    pub(super) values: Vec<u128>,
    table: HashTable<u32>,
}

impl MaskCodes {
    /// The codes of rows by the filters that they pass. A filter that is null is not passed.
    pub(super) fn codes(&mut self, filters: &[&BooleanArray], rows: usize, out: &mut Vec<u32>) {
        out.clear();
        let mut last = None;
        for first in (0..rows).step_by(64) {
            let mut halves = [[0u64; 64]; 2];
            for (half, filters) in halves.iter_mut().zip(filters.chunks(64)) {
                for (bits, filter) in half.iter_mut().zip(filters) {
                    *bits = passed(filter, first);
                }
                transpose(half);
            }
            let [low, high] = &halves;
            for (low, high) in low.iter().zip(high).take(rows - first) {
                let mask = (u128::from(*high) << 64) | u128::from(*low);
                let code = match last {
                    Some((known, code)) if known == mask => code,
                    _ => self.code(mask),
                };
                last = Some((mask, code));
                out.push(code);
            }
        }
    }

    fn code(&mut self, mask: u128) -> u32 {
        let values = &mut self.values;
        let same = |code: &u32| values.get(*code as usize) == Some(&mask);
        if let Some(code) = self.table.find(mask_hash(mask), same) {
            return *code;
        }
        let code = values.len() as u32;
        values.push(mask);
        self.table
            .insert_unique(mask_hash(mask), code, |code| mask_hash(at(values, *code)));
        code
    }
}

fn mask_hash(mask: u128) -> u64 {
    let folded = (mask as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        ^ ((mask >> 64) as u64).wrapping_mul(0xc2b2_ae3d_27d4_eb4f);
    folded ^ (folded >> 29)
}

/// Which of up to 64 rows pass a filter, the first in the lowest bit.
fn passed(filter: &BooleanArray, first: usize) -> u64 {
    let length = filter.len().saturating_sub(first).min(64);
    if length == 0 {
        return 0;
    }
    let word = |bits: &arrow::buffer::BooleanBuffer| {
        let bits = bits.slice(first, length);
        bits.bit_chunks().iter_padded().next().unwrap_or(0)
    };
    let valid = filter.nulls().map_or(u64::MAX, |valid| word(valid.inner()));
    word(filter.values()) & valid
}

/// Turns 64 words of 64 bits so that bit b of word a becomes bit a of word b: halves of ever smaller
/// squares change places.
fn transpose(words: &mut [u64; 64]) {
    let mut width = 32;
    let mut mask = u64::from(u32::MAX);
    while width > 0 {
        let mut a = 0;
        while a < 64 {
            let b = a | width;
            if let (Some(upper), Some(lower)) = (words.get(a).copied(), words.get(b).copied()) {
                let swapped = ((upper >> width) ^ lower) & mask;
                if let Some(word) = words.get_mut(b) {
                    *word = lower ^ swapped;
                }
                if let Some(word) = words.get_mut(a) {
                    *word = upper ^ (swapped << width);
                }
            }
            a = (b + 1) & !width;
        }
        width >>= 1;
        mask ^= mask << width;
    }
}
