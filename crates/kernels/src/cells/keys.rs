//! Small numbers for what rows are grouped by: values of a column, combinations of columns, and which
//! filters a row passes.
//!
//! Numbers are given in the order of arrival and mean nothing outside one scan; parts of a scan merge
//! by translating them. What may not live here: what is counted (`groups.rs`). To add a kind of key
//! column: a variant of [`Codes`] with its arms.

use std::hash::BuildHasher;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Int32Array, Int64Array,
    StringArray, StringViewArray,
};
use arrow::buffer::{BooleanBuffer, OffsetBuffer};
use arrow::datatypes::{Date32Type, Int32Type, Int64Type};
use datafusion_common::{DataFusionError, Result, exec_err};
use hashbrown::{DefaultHashBuilder, HashTable};

use super::coded::{Coded, InputColumn, OfValues};
use super::{CellColumn, WIDTH, at, highest};
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
    Number(u64),
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
            CellColumn::Number(list) => Codes::Number(list),
            CellColumn::Filter | CellColumn::Whole => Codes::Plain,
        }
    }

    /// The codes of a column, written over `out`.
    pub(super) fn codes(&mut self, column: &InputColumn, mut out: Vec<u32>) -> Result<Vec<u32>> {
        out.clear();
        match self {
            Codes::Plain | Codes::Mask(_) => {}
            Codes::Text(codes) => {
                if let Some(coded) = Coded::of(column) {
                    let of_null = match coded.has_nulls() {
                        true => codes.code(None),
                        false => 0,
                    };
                    coded.look_up(codes.table(&coded)?, of_null, &mut out);
                } else if let Some(numbers) = column.values().as_primitive_opt::<Int64Type>() {
                    codes.codes_of_numbers(numbers, &mut out);
                } else {
                    let texts = column.values().as_string_view_opt();
                    codes.codes(texts.ok_or_else(wrong_type)?, &mut out);
                }
            }
            Codes::Day(codes) => match Coded::of(column) {
                Some(coded) => {
                    let of_null = match coded.has_nulls() {
                        true => codes.code(None),
                        false => 0,
                    };
                    coded.look_up(codes.table(&coded)?, of_null, &mut out);
                }
                None => {
                    let days = column.values().as_primitive_opt::<Date32Type>();
                    codes.codes(days.ok_or_else(wrong_type)?, &mut out);
                }
            },
            Codes::Member(codes) => {
                let members = column.plain().and_then(|members| members.as_binary_opt());
                codes.codes(members.ok_or_else(wrong_type)?, &mut out)?;
            }
            Codes::Number(_) => {
                let coded = Coded::of(column);
                let numbers = column.values().as_primitive_opt::<Int32Type>();
                number_codes(numbers.ok_or_else(wrong_type)?, &mut out)?;
                if let Some(coded) = coded {
                    let of_values = std::mem::take(&mut out);
                    coded.look_up(&of_values, NOBODY, &mut out);
                }
            }
        }
        Ok(out)
    }

    /// Where a column of keys comes as codes, and each row has one, the codes of its values are found and
    /// true is said: then no row needs a code of its own ([`Codes::last`]).
    pub(super) fn meet(&mut self, column: &InputColumn) -> Result<bool> {
        let Some(coded) = Coded::of(column).filter(|coded| !coded.has_nulls()) else {
            return Ok(false);
        };
        match self {
            Codes::Text(codes) => codes.table(&coded)?,
            Codes::Day(codes) => codes.table(&coded)?,
            _ => return Ok(false),
        };
        Ok(true)
    }

    /// The codes of the values that were met last.
    pub(super) fn last(&self) -> &[u32] {
        match self {
            Codes::Text(codes) => codes.of_values.last(),
            Codes::Day(codes) => codes.of_values.last(),
            _ => &[],
        }
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
            // They are the same numbers everywhere.
            (Codes::Number(own), Codes::Number(other)) if own == other => Ok(Vec::new()),
            (Codes::Mask(own), Codes::Mask(other)) => {
                Ok(other.values.iter().map(|mask| own.code(*mask)).collect())
            }
            _ => exec_err!("parts of different scans cannot be merged"),
        }
    }

    pub(super) fn values(&self, codes: &[u32]) -> ArrayRef {
        match self {
            Codes::Text(texts) => texts.of(codes),
            Codes::Day(days) => Arc::new(
                codes
                    .iter()
                    .map(|code| at(&days.values, *code))
                    .collect::<Date32Array>(),
            ),
            Codes::Member(_) | Codes::Number(_) | Codes::Mask(_) | Codes::Plain => {
                Arc::new(StringArray::new_null(codes.len()))
            }
        }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Codes::Plain | Codes::Number(_) => 0,
            Codes::Mask(codes) => codes.values.capacity() * 16 + codes.table.capacity() * 5,
            Codes::Text(codes) => codes.bytes + codes.table.capacity() * 5,
            Codes::Day(codes) => codes.dense.capacity() * 4 + codes.values.capacity() * 16,
            Codes::Member(codes) => codes.heap_bytes(),
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
    of_values: OfValues,
    hasher: DefaultHashBuilder,
    bytes: usize,
}

/// Views seen lately; the same view in one batch is the same text.
const RECENT: usize = 256;
/// Whole numbers below this are looked up in an array.
const DENSE_NUMBERS: usize = 1 << 12;
/// A combination of classes that has no code yet.
const UNSEEN: u32 = u32::MAX;

/// Bytes that are copied of a text, whatever its length: a longer one is copied as such.
const SHORT: usize = 32;

impl TextCodes {
    /// The text of each code.
    fn of(&self, codes: &[u32]) -> ArrayRef {
        let one_by_one = || {
            let text = |code: &u32| self.values.get(*code as usize)?.as_deref();
            Arc::new(codes.iter().map(text).collect::<StringArray>())
        };
        let lengths = self
            .values
            .iter()
            .map(|text| text.as_ref().map_or(0, |text| text.len()));
        let lengths: Vec<usize> = lengths.collect();
        let all = codes.iter().map(|code| at(&lengths, *code));
        let bytes: usize = all.clone().sum();
        let are_short = self.null.is_none()
            && lengths.len() <= codes.len()
            && lengths.iter().all(|length| *length <= SHORT);
        if !are_short || i32::try_from(bytes).is_err() {
            return one_by_one();
        }
        // A copy of as many bytes for each is one instruction; the next text begins where this one ends.
        let padded = self.values.iter().flatten().map(|text| {
            let mut padded = [0u8; SHORT];
            padded
                .iter_mut()
                .zip(text.bytes())
                .for_each(|(to, byte)| *to = byte);
            padded
        });
        let padded: Vec<[u8; SHORT]> = padded.collect();
        let mut texts = vec![0; bytes + SHORT];
        let mut end = 0;
        for code in codes {
            if let Some(to) = texts.get_mut(end..).and_then(|left| left.first_chunk_mut()) {
                *to = at(&padded, *code);
            }
            end += at(&lengths, *code);
        }
        texts.truncate(bytes);
        let offsets = OffsetBuffer::from_lengths(all);
        let texts = StringArray::try_new(offsets, texts.into(), None);
        texts.map_or_else(|_| one_by_one(), Arc::new)
    }

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

    /// The codes of the values of a column that comes as codes of a dictionary: each value is looked up
    /// once for all batches that have the dictionary in common.
    fn table(&mut self, coded: &Coded<'_>) -> Result<&[u32]> {
        let mut of_values = std::mem::take(&mut self.of_values);
        let code = |values: &ArrayRef, place: Option<usize>| {
            let text = place.map(|place| text_of(values, place)).transpose()?;
            Ok(self.code(text.flatten()))
        };
        of_values.table(coded, code)?;
        self.of_values = of_values;
        Ok(self.of_values.last())
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

/// A value of a dictionary.
fn text_of(values: &ArrayRef, place: usize) -> Result<Option<&str>> {
    if values.is_null(place) {
        return Ok(None);
    }
    if let Some(texts) = values.as_string_opt::<i32>() {
        return Ok(Some(texts.value(place)));
    }
    let texts = values.as_string_view_opt().ok_or_else(wrong_type)?;
    Ok(Some(texts.value(place)))
}

#[derive(Debug, Default)]
pub(super) struct DayCodes {
    /// A day stands for this one.
    stands_for: Option<fn(i32) -> i32>,
    values: Vec<Option<i32>>,
    /// By day from 1970-01-01: the code plus one, or zero.
    dense: Vec<u32>,
    sparse: std::collections::HashMap<Option<i32>, u32>,
    of_values: OfValues,
}

impl DayCodes {
    /// The day that a code stands for.
    pub(super) fn value(&self, code: u32) -> Option<i32> {
        at(&self.values, code)
    }

    fn codes(&mut self, days: &Date32Array, out: &mut Vec<u32>) {
        let nulls = days.nulls();
        out.reserve(days.len());
        // Nearly always every day has its code already.
        let mut is_complete = nulls.is_none();
        if is_complete {
            out.extend(days.values().iter().map(|day| {
                let code = usize::try_from(*day).ok();
                let code = code.and_then(|place| self.dense.get(place)).copied();
                let code = code.unwrap_or(0);
                is_complete &= code != 0;
                code.wrapping_sub(1)
            }));
        }
        if !is_complete {
            out.clear();
            for (row, day) in days.values().iter().enumerate() {
                let is_null = nulls.is_some_and(|nulls| nulls.is_null(row));
                out.push(self.code((!is_null).then_some(*day)));
            }
        }
    }

    /// The codes of the values of days that come as codes of a dictionary.
    fn table(&mut self, coded: &Coded<'_>) -> Result<&[u32]> {
        let mut of_values = std::mem::take(&mut self.of_values);
        let code = |days: &ArrayRef, place: Option<usize>| {
            let days = days.as_primitive_opt::<Date32Type>();
            let days = days.ok_or_else(wrong_type)?;
            Ok(self.code(place.map(|place| days.value(place))))
        };
        of_values.table(coded, code)?;
        self.of_values = of_values;
        Ok(self.of_values.last())
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

/// Codes of members: a table of open addressing, at most three quarters full. Members and codes lie in
/// two arrays at the same slot, so that both are fetched at once.
///
/// Members are digests, spread evenly already, so their first bits are their slot: rows in the order of
/// their members then go through the table from its beginning to its end, and what they need is near.
/// Where members turn out not to be spread, their slot is mixed from all their bits.
#[derive(Debug, Default)]
pub(super) struct MemberCodes {
    pub(super) values: Vec<u128>,
    members: Vec<u128>,
    /// By slot: the code, or [`NOBODY`] where it is free.
    codes: Vec<u32>,
    shift: u32,
    mixed: bool,
}

/// So many slots are looked at before members are taken not to be spread.
const MOST_STEPS: usize = 256;
/// Slots that a table of members begins with.
const FIRST_SLOTS: usize = 1 << 10;

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
        if (self.values.len() + 1) * 4 > self.codes.len() * 3 {
            self.rebuild((self.codes.len() * 2).max(FIRST_SLOTS));
        }
        let next = self.values.len() as u32;
        let code = self.found_or_put(member, next).unwrap_or_else(|| {
            self.mix();
            self.found_or_put(member, next).unwrap_or(NOBODY)
        });
        if code == next {
            self.values.push(member);
        }
        code
    }

    /// The code of a member, or this one, which it has from now on; `None` when it is too far from
    /// its slot.
    fn found_or_put(&mut self, member: u128, next: u32) -> Option<u32> {
        let bits = match self.mixed {
            true => member_hash(member),
            false => (member >> 64) as u64,
        };
        let mut slot = (bits >> self.shift) as usize;
        let mut steps = 0;
        loop {
            let (Some(known), Some(code)) = (self.members.get_mut(slot), self.codes.get_mut(slot))
            else {
                slot = 0;
                continue;
            };
            if *code == NOBODY {
                (*known, *code) = (member, next);
                return Some(next);
            }
            if *known == member {
                return Some(*code);
            }
            slot += 1;
            steps += 1;
            if steps > MOST_STEPS && !self.mixed {
                return None;
            }
        }
    }

    #[cold]
    fn mix(&mut self) {
        self.mixed = true;
        self.rebuild(self.codes.len().max(FIRST_SLOTS));
    }

    #[cold]
    fn rebuild(&mut self, slots: usize) {
        self.members = vec![0; slots];
        self.codes = vec![NOBODY; slots];
        self.shift = u64::BITS - slots.trailing_zeros();
        let values = std::mem::take(&mut self.values);
        let mut numbered = (0u32..).zip(&values);
        let fits = numbered.all(|(code, member)| self.found_or_put(*member, code).is_some());
        self.values = values;
        if !fits {
            self.mix();
        }
    }

    fn heap_bytes(&self) -> usize {
        (self.values.capacity() + self.members.capacity()) * 16 + self.codes.capacity() * 4
    }
}

/// Members that come as numbers of a list: the number is the code.
fn number_codes(numbers: &Int32Array, out: &mut Vec<u32>) -> Result<()> {
    // Below zero is above half of the numbers without a sign; what a null hides may be anything.
    let highest = match numbers.nulls().filter(|nulls| nulls.null_count() > 0) {
        None => {
            out.extend(numbers.values().iter().map(|number| *number as u32));
            highest(out)
        }
        Some(nulls) => {
            let mut highest = 0;
            out.extend(numbers.values().iter().zip(nulls).map(|(number, valid)| {
                let number = if valid { *number as u32 } else { return NOBODY };
                highest = highest.max(number);
                number
            }));
            Some(highest)
        }
    };
    if highest > Some(i32::MAX as u32) {
        return exec_err!("a member of a set has a number below zero");
    }
    Ok(())
}

/// All bits of a member, mixed.
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

/// Where the codes of rows by their filters are.
pub(super) enum Passed<'a> {
    /// All rows have this one.
    Same(u32),
    /// Codes of a dictionary tell them, by the code of each of its values.
    Coded(Coded<'a>, Vec<u32>),
    /// Each row's was written over `out`.
    ByRow,
}

/// What some of the filters say of rows: each row has a class, and each class a mask.
struct Classes<'a> {
    /// Class by code of the rows' dictionary, or by row where there is none.
    classes: Vec<u32>,
    coded: Option<Coded<'a>>,
    masks: Vec<u128>,
}

/// So many filters are told apart by which of them a row passes.
const FEW_FILTERS: usize = 8;
/// So many combinations of classes are kept in a table.
const MOST_CLASSES: usize = 1 << 12;

impl MaskCodes {
    /// The codes of rows by the filters that they pass. A filter that is null is not passed.
    ///
    /// Filters over the same codes of a dictionary are told once for each of its values.
    pub(super) fn codes<'a>(
        &mut self,
        filters: &[&'a InputColumn],
        rows: usize,
        out: &mut Vec<u32>,
    ) -> Result<Passed<'a>> {
        out.clear();
        let mut parts: Vec<Classes<'_>> = Vec::new();
        let mut plain: Vec<(usize, &BooleanArray)> = Vec::new();
        let mut coded: Vec<Vec<(usize, Coded<'_>)>> = Vec::new();
        for (bit, filter) in filters.iter().enumerate() {
            if let Some(filter) = filter.plain() {
                plain.push((bit, filter.as_boolean_opt().ok_or_else(wrong_type)?));
                continue;
            }
            let filter = Coded::of(filter).ok_or_else(wrong_type)?;
            let mut of_same = coded.iter_mut();
            let of_same_keys = of_same.find(|of| {
                let first = of.first();
                first.is_some_and(|(_, first)| first.has_codes_of(&filter))
            });
            match of_same_keys {
                Some(of) => of.push((bit, filter)),
                None => coded.push(vec![(bit, filter)]),
            }
        }
        for of in &coded {
            match Classes::of_coded(of)? {
                Some(classes) => parts.push(classes),
                None => return self.plain_codes(filters, rows, out),
            }
        }
        if !plain.is_empty() {
            parts.push(Classes::of_plain(&plain, rows));
        }
        let combinations = parts.iter().try_fold(1usize, |all, part| {
            let all = all.checked_mul(part.masks.len().max(1))?;
            (all <= MOST_CLASSES).then_some(all)
        });
        let Some(combinations) = combinations else {
            let [part] = parts.as_slice() else {
                return self.plain_codes(filters, rows, out);
            };
            // One kind of filters alone, of many combinations: each class has its code.
            let codes: Vec<u32> = part.masks.iter().map(|mask| self.code(*mask)).collect();
            out.resize(rows, 0);
            part.add_to(out, 1);
            out.iter_mut().for_each(|class| *class = at(&codes, *class));
            return Ok(Passed::ByRow);
        };
        let mut masks = vec![0u128];
        if combinations == 1 {
            let all = parts.iter().flat_map(|part| &part.masks);
            let mask = all.fold(0, |all, mask| all | mask);
            return Ok(Passed::Same(self.code(mask)));
        }
        // Where all others say the same of every row, one alone tells rows apart.
        let mut telling = parts.iter().filter(|part| part.masks.len() > 1);
        if let (Some(part), None) = (telling.next(), telling.next())
            && let Some(coded) = part.coded
        {
            let others = parts.iter().filter(|part| part.masks.len() == 1);
            let others = others.flat_map(|part| &part.masks);
            let others = others.fold(0, |all, mask| all | mask);
            let codes = part.masks.iter().map(|mask| self.code(mask | others));
            let codes: Vec<u32> = codes.collect();
            let of_values = part.classes.iter().map(|class| at(&codes, *class));
            return Ok(Passed::Coded(coded, of_values.collect()));
        }
        out.resize(rows, 0);
        let mut stride = 1;
        for part in &parts {
            if part.masks.len() > 1 {
                part.add_to(out, stride as u32);
            }
            stride *= part.masks.len().max(1);
            let wider = part.masks.iter().flat_map(|mask| {
                let finer = masks.iter();
                finer.map(move |finer| finer | mask)
            });
            masks = wider.collect();
        }
        let mut codes = vec![UNSEEN; combinations];
        for class in out {
            if let Some(code) = codes.get_mut(*class as usize) {
                if *code == UNSEEN {
                    *code = self.code(at(&masks, *class));
                }
                *class = *code;
            }
        }
        Ok(Passed::ByRow)
    }

    /// The same of filters without codes.
    fn plain_codes<'a>(
        &mut self,
        filters: &[&InputColumn],
        rows: usize,
        out: &mut Vec<u32>,
    ) -> Result<Passed<'a>> {
        let plain = plainly(filters)?;
        let passed = self.codes(&plain.iter().collect::<Vec<_>>(), rows, out)?;
        Ok(match passed {
            Passed::Same(code) => Passed::Same(code),
            Passed::ByRow | Passed::Coded(..) => Passed::ByRow,
        })
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

impl<'a> Classes<'a> {
    /// Of filters over the same keys; `None` where some rows have no key.
    fn of_coded(filters: &[(usize, Coded<'a>)]) -> Result<Option<Self>> {
        let Some((_, first)) = filters.first() else {
            return Ok(None);
        };
        if first.has_nulls() {
            return Ok(None);
        }
        let mut of_values = vec![0u128; first.values().len()];
        for (bit, filter) in filters {
            let values = filter.values().as_boolean_opt().ok_or_else(wrong_type)?;
            for (mask, passes) in of_values.iter_mut().zip(values) {
                *mask |= u128::from(passes == Some(true)) << bit;
            }
        }
        let mut masks = MaskCodes::default();
        let classes = of_values.iter().map(|mask| masks.code(*mask)).collect();
        Ok(Some(Self {
            classes,
            coded: Some(*first),
            masks: masks.values,
        }))
    }

    fn of_plain(filters: &[(usize, &BooleanArray)], rows: usize) -> Self {
        if filters.len() <= FEW_FILTERS {
            return Self::of_few(filters, rows);
        }
        let mut masks = MaskCodes::default();
        let mut classes = Vec::with_capacity(rows);
        let mut last = None;
        for first in (0..rows).step_by(64) {
            let mut halves = [[0u64; 64]; 2];
            for (bit, filter) in filters {
                let half = halves.get_mut(bit / 64);
                if let Some(bits) = half.and_then(|half| half.get_mut(bit % 64)) {
                    *bits = passed(filter, first);
                }
            }
            let [low, high] = &mut halves;
            transpose(low);
            if filters.last().is_some_and(|(bit, _)| *bit >= 64) {
                transpose(high);
            }
            for (low, high) in low.iter().zip(&*high).take(rows - first) {
                let mask = (u128::from(*high) << 64) | u128::from(*low);
                let class = match last {
                    Some((known, class)) if known == mask => class,
                    _ => masks.code(mask),
                };
                last = Some((mask, class));
                classes.push(class);
            }
        }
        Self {
            classes,
            coded: None,
            masks: masks.values,
        }
    }

    /// Of a few filters: the class of a row is which of them it passes.
    fn of_few(filters: &[(usize, &BooleanArray)], rows: usize) -> Self {
        let mut classes = vec![0u32; rows];
        let mut masks = vec![0u128];
        for (bit, filter) in filters {
            let met = met(filter);
            let own = 1u128 << bit;
            // Nearly always all rows pass, as where something is not null.
            match met.count_set_bits() {
                0 => continue,
                all if all == rows => {
                    masks.iter_mut().for_each(|mask| *mask |= own);
                    continue;
                }
                _ => {}
            }
            let stride = masks.len() as u32;
            let words = met.bit_chunks();
            for (classes, word) in classes.chunks_mut(64).zip(words.iter_padded()) {
                for (place, class) in classes.iter_mut().enumerate() {
                    *class += (word >> place) as u32 % 2 * stride;
                }
            }
            let passing: Vec<u128> = masks.iter().map(|mask| mask | own).collect();
            masks.extend(passing);
        }
        Self {
            classes,
            coded: None,
            masks,
        }
    }

    /// Adds the class of each row, so many times.
    fn add_to(&self, out: &mut [u32], stride: u32) {
        match &self.coded {
            None => {
                let rows = out.iter_mut().zip(&self.classes);
                rows.for_each(|(out, class)| *out += class * stride);
            }
            Some(coded) => {
                let classes = self.classes.iter().map(|class| class * stride);
                coded.add_to(out, 0, &classes.collect::<Vec<u32>>());
            }
        }
    }
}

/// Where a condition is true and not null.
fn met(condition: &BooleanArray) -> BooleanBuffer {
    match condition.nulls() {
        None => condition.values().clone(),
        Some(valid) => condition.values() & valid.inner(),
    }
}

/// Filters without codes.
fn plainly(filters: &[&InputColumn]) -> Result<Vec<InputColumn>> {
    let filters = filters.iter().map(|filter| {
        let passed = passing(filter).ok_or_else(wrong_type)?;
        let passed: ArrayRef = Arc::new(BooleanArray::new(passed, None));
        Ok(passed.into())
    });
    filters.collect()
}

/// The rows that pass a filter ([`CellColumn::Filter`]), coded or not; null does not pass. `None` when
/// the column is no filter.
pub fn passing(filter: &InputColumn) -> Option<BooleanBuffer> {
    if let Some(filter) = filter.plain() {
        return Some(met(filter.as_boolean_opt()?));
    }
    let coded = Coded::of(filter)?;
    let values: Vec<bool> = met(coded.values().as_boolean_opt()?).iter().collect();
    Some(coded.bits(&values))
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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::testing::numbers;

    #[test]
    fn members_have_one_code_each_however_they_are_spread() {
        type Spread = fn(u64) -> u128;
        let spreads: [(Spread, bool); 4] = [
            (
                |n| u128::from(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)) << 64,
                false,
            ),
            (u128::from, true),
            (|n| u128::from(n) << 64, true),
            (|n| u128::MAX - u128::from(n), true),
        ];
        for (spread, mixed) in spreads {
            let mut codes = MemberCodes::default();
            let mut known = HashMap::new();
            for n in numbers(60_000, 20_000) {
                let next = known.len() as u32;
                let member = spread(n);
                assert_eq!(codes.code(member), *known.entry(member).or_insert(next));
            }
            assert_eq!(codes.values.len(), known.len());
            assert_eq!(codes.mixed, mixed);
            assert!(
                known
                    .iter()
                    .all(|(member, code)| codes.values[*code as usize] == *member)
            );
            assert!(codes.heap_bytes() > known.len() * 36);
        }
    }

    #[test]
    fn each_code_has_its_text() {
        let long = "a text that is longer than what is copied at once";
        let full = "finance_ledger.09.202501.r1.0123";
        let cases: [&[Option<&str>]; 5] = [
            &[Some("09"), Some(""), Some("ä"), Some(full)],
            &[Some("09"), Some(long)],
            &[Some("09"), None, Some("1")],
            &[Some("")],
            &[],
        ];
        assert_eq!(full.len(), SHORT);
        for texts in cases {
            let mut known = TextCodes::default();
            let own: Vec<u32> = texts.iter().map(|text| known.code(*text)).collect();
            // None, fewer than there are texts, and more.
            for count in [0, 1, 7, 50] {
                let codes = own.iter().copied().cycle().take(count);
                let codes: Vec<u32> = codes.collect();
                let wanted: StringArray = texts.iter().copied().cycle().take(count).collect();
                let found = known.of(&codes);
                assert_eq!(found.as_string::<i32>(), &wanted, "{texts:?}");
            }
        }
    }
}
