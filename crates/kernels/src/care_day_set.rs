//! Exact sets of days of persons: `care_day_set(person, first, last)`, `care_day_set_union(state)`,
//! `care_day_set_count(state)`, `care_day_set_persons(state)`.
//!
//! A row is a person and the days from the first to the last, both included; a day of a person is in the
//! set once, however many rows have it. Equal sets of one form have equal bytes, a union is a merge, and
//! the number of days at any roll-up, over areas, services and periods, is exact without reading the
//! rows again. `care_days` counts the same where no set must be kept.
//!
//! A person is a 16-byte pseudonym, or its number in a list of pseudonyms ([`Cells`](crate::Cells) makes
//! such sets). Rows with a null person or a null first day have no days, and so have rows that end before
//! they begin; a null last day is an error, because a set has no open end: cut it off with `least`. The
//! set of no days is empty (zero bytes). Time n log n, memory 32 bytes a person and month. A state is
//! personal data: it stays in the restricted component table, and only counts leave it.
//!
//! - *State*: a byte that names the form (1 pseudonyms, 2 numbers), of numbers the id of the list (8 bytes,
//!   lowest first), then month after month, ascending: the month (of the first its number, 0 for January of
//!   the year 0, with its sign; of the others how many months lie between), how many persons have days in
//!   it, and for each, ascending, the person (16 bytes, or how many numbers lie between it and the one
//!   before) and the days. Days are one number: of days in a row 1 + 2 · (32 · first + length − 1), with
//!   the first of a month as 0; of others twice the bits of the days. Numbers as in `varint`. A person
//!   takes two to four bytes a month.
//! - Numbers of different lists, or numbers and pseudonyms, cannot be united: that is an error.

use std::collections::BTreeMap;

use datafusion_common::{Result, exec_err};
use datafusion_expr::{AggregateUDF, ScalarUDF};

use crate::aggregate::{CellAggregate, Takes};
use crate::calendar::date_of;
use crate::cell::{Cell, Finish, Given, InputType, Value};
use crate::person_set::different_lists;
use crate::refusal::refused;
use crate::scalar::{Body, PlainFunction};
use crate::sliding::{Frame, Tally, Way};
use crate::varint;

/// Bytes of a pseudonym.
const WIDTH: usize = 16;
/// The first byte of a set of pseudonyms, and of one of numbers.
const NAMED: u8 = 1;
const NUMBERED: u8 = 2;
/// Unsorted arrivals are folded in when they outnumber this and the sorted part.
const FOLD_AT: usize = 64;
/// A month has no more days.
const MOST_DAYS: u32 = 31;

/// The number of a day's month.
pub(crate) fn month_number(day: i32) -> i32 {
    let (year, month, _) = date_of(day);
    i32::try_from(year * 12 + month - 1).unwrap_or_default()
}

/// The days from one day of a month to another, a bit for each, the first of the month lowest.
pub(crate) fn days_between(from: u32, to: u32) -> u32 {
    (u32::MAX >> (31 - to.saturating_sub(from).min(31))) << from.min(31)
}

/// Days as one number: what it is stands above.
#[inline]
pub(crate) fn code_of(days: u32) -> u32 {
    let first = days.trailing_zeros();
    let length = (days >> first.min(31)).trailing_ones();
    match days.count_ones() == length {
        true => ((first << 5 | (length - 1)) << 1) | 1,
        false => days << 1,
    }
}

/// The days of a code, if it is one; there is at least one.
fn days_of(code: u32) -> Option<u32> {
    let days = code >> 1;
    if code & 1 == 0 {
        return (days != 0 && code_of(days) == code).then_some(days);
    }
    let (first, length) = (days >> 5, (days & 31) + 1);
    (first + length <= MOST_DAYS).then(|| days_between(first, first + length - 1))
}

/// Writes days of a month; there is at least one.
#[inline]
pub(crate) fn put_days(out: &mut Vec<u8>, days: u32) {
    varint::put_small(out, code_of(days));
}

/// Takes them off the front again.
#[inline]
pub(crate) fn take_days(bytes: &mut &[u8]) -> Option<u32> {
    varint::take_small(bytes).and_then(days_of)
}

/// Writes a set: months in order, and members of each in order.
#[derive(Debug)]
pub(crate) struct DayWriter<'a> {
    out: &'a mut Vec<u8>,
    /// The month that is being written.
    month: Option<i32>,
    /// One more than the number before.
    next: u32,
}

impl<'a> DayWriter<'a> {
    /// Of numbers of a list, or of pseudonyms. There must be days.
    pub(crate) fn new(out: &'a mut Vec<u8>, list: Option<u64>) -> Self {
        match list {
            None => out.push(NAMED),
            Some(list) => {
                out.push(NUMBERED);
                out.extend_from_slice(&list.to_le_bytes());
            }
        }
        Self {
            out,
            month: None,
            next: 0,
        }
    }

    /// Begins a month, of which so many members follow.
    pub(crate) fn month(&mut self, month: i32, members: usize) {
        match self.month {
            None => varint::put_signed(self.out, i128::from(month)),
            Some(before) => {
                let between = i64::from(month) - i64::from(before) - 1;
                varint::put(self.out, u128::try_from(between).unwrap_or_default());
            }
        }
        varint::put(self.out, members as u128);
        (self.month, self.next) = (Some(month), 0);
    }

    pub(crate) fn number(&mut self, number: u32, days: u32) {
        varint::put_small(self.out, number.saturating_sub(self.next));
        put_days(self.out, days);
        self.next = number.saturating_add(1);
    }

    pub(crate) fn pseudonym(&mut self, pseudonym: u128, days: u32) {
        self.out.extend_from_slice(&pseudonym.to_be_bytes());
        put_days(self.out, days);
    }

    /// All numbers of the month as they are written, but the days of the last.
    pub(crate) fn written(&mut self, numbers: [&[u8]; 2], last: u32) {
        for numbers in numbers {
            self.out.extend_from_slice(numbers);
        }
        put_days(self.out, last);
    }
}

/// The days of one month in a set of numbers: each number and its days, in order.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NumberedDays<'a> {
    rest: &'a [u8],
    left: usize,
    /// The next number is this at least; there is none when it would be beyond 32 bits.
    next: Option<u32>,
}

impl Iterator for NumberedDays<'_> {
    type Item = (u32, u32);

    #[inline]
    fn next(&mut self) -> Option<(u32, u32)> {
        self.left = self.left.checked_sub(1)?;
        let gap = varint::take_small(&mut self.rest)?;
        let number = self.next?.checked_add(gap)?;
        let days = take_days(&mut self.rest)?;
        self.next = number.checked_add(1);
        Some((number, days))
    }
}

/// A set that is read.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    /// The list that members are numbers of; without one they are pseudonyms.
    pub(crate) list: Option<u64>,
    rest: &'a [u8],
    month: Option<i32>,
}

impl<'a> Reader<'a> {
    /// `None` for the empty set.
    pub(crate) fn of(state: &'a [u8]) -> Result<Option<Self>> {
        let (list, rest) = match state.split_first() {
            None => return Ok(None),
            Some((&NAMED, rest)) => (None, rest),
            Some((&NUMBERED, rest)) => match rest.split_first_chunk::<8>() {
                Some((list, rest)) => (Some(u64::from_le_bytes(*list)), rest),
                None => return broken(),
            },
            Some(_) => return broken(),
        };
        if rest.is_empty() {
            return broken();
        }
        Ok(Some(Self {
            list,
            rest,
            month: None,
        }))
    }

    /// The next month, and how many members it has: they must be read before the next.
    fn next_month(&mut self) -> Result<Option<(i32, usize)>> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let month = match self.month {
            None => varint::take_signed(&mut self.rest),
            Some(before) => {
                let between = varint::take(&mut self.rest);
                between.and_then(|between| {
                    i128::try_from(between)
                        .ok()?
                        .checked_add(i128::from(before) + 1)
                })
            }
        };
        let month = month.and_then(|month| i32::try_from(month).ok());
        let count = varint::take(&mut self.rest).and_then(|count| usize::try_from(count).ok());
        match (month, count) {
            // Each takes two bytes at least.
            (Some(month), Some(count)) if 0 < count && count <= self.rest.len() => {
                self.month = Some(month);
                Ok(Some((month, count)))
            }
            _ => broken(),
        }
    }

    /// Calls with every month of a set of numbers, its members and its days, and how many days they are
    /// together: all that is given has been looked at.
    ///
    /// # Errors
    /// When it is no set of numbers.
    pub(crate) fn try_each_month(
        mut self,
        mut with: impl FnMut(i32, NumberedDays<'a>, MonthSize) -> Result<()>,
    ) -> Result<()> {
        while let Some((month, count)) = self.next_month()? {
            let days = NumberedDays {
                rest: self.rest,
                left: count,
                next: Some(0),
            };
            let mut size = MonthSize::default();
            let mut reading = days;
            for (number, days) in reading.by_ref() {
                if size.members == 0 {
                    size.first = number;
                }
                size.members += 1;
                size.last = number;
                size.days += i64::from(days.count_ones());
            }
            if size.members != count {
                return broken();
            }
            self.rest = reading.rest;
            with(month, days, size)?;
        }
        Ok(())
    }

    /// Calls with every month, member and days of it.
    ///
    /// # Errors
    /// When it is no set: what there is until there has been given then.
    pub(crate) fn try_each(
        mut self,
        mut with: impl FnMut(i32, u128, u32) -> Result<()>,
    ) -> Result<()> {
        if self.list.is_some() {
            return self.try_each_month(|month, days, _| {
                days.into_iter()
                    .try_for_each(|(number, days)| with(month, u128::from(number), days))
            });
        }
        while let Some((month, count)) = self.next_month()? {
            for _ in 0..count {
                let Some((member, rest)) = self.rest.split_first_chunk::<WIDTH>() else {
                    return broken();
                };
                self.rest = rest;
                let Some(days) = take_days(&mut self.rest) else {
                    return broken();
                };
                with(month, u128::from_be_bytes(*member), days)?;
            }
        }
        Ok(())
    }
}

/// What there is of one month in a set of numbers.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct MonthSize {
    pub(crate) members: usize,
    /// The least number and the greatest.
    pub(crate) first: u32,
    pub(crate) last: u32,
    pub(crate) days: i64,
}

fn broken<T>() -> Result<T> {
    exec_err!("a set of days of persons has a broken state")
}

/// Days of a person in a month.
type Entry = (i32, u128, u32);

/// A set of days being built.
#[derive(Debug, Default, Clone)]
pub(crate) struct CareDaySet {
    /// The list that members are numbers of; without one they are pseudonyms.
    list: Option<u64>,
    /// In order and each month of a person once up to `sorted`; later entries are in order of arrival.
    entries: Vec<Entry>,
    sorted: usize,
}

impl CareDaySet {
    fn insert(&mut self, month: i32, member: u128, days: u32) {
        self.entries.push((month, member, days));
        if self.entries.len() - self.sorted > FOLD_AT.max(self.sorted) {
            self.fold();
        }
    }

    /// Members are numbers of this list, or pseudonyms, from the first on.
    fn is_of(&mut self, list: Option<u64>) -> Result<()> {
        if self.entries.is_empty() {
            self.list = list;
        }
        if self.list == list {
            Ok(())
        } else {
            different_lists()
        }
    }

    fn fold(&mut self) {
        if self.sorted < self.entries.len() {
            self.entries.sort_unstable();
            self.entries.dedup_by(|next, kept| {
                let is_same = (next.0, next.1) == (kept.0, kept.1);
                if is_same {
                    kept.2 |= next.2;
                }
                is_same
            });
            self.sorted = self.entries.len();
        }
    }
}

/// The person and the days of a row, month by month.
fn each_month(
    row: &[Option<Value<'_>>],
    mut with: impl FnMut(i32, u128, u32) -> Result<()>,
) -> Result<()> {
    let [person, first, last] = row else {
        return exec_err!("care_day_set takes a person and two dates");
    };
    let (Some(Value::Bytes(person)), Some(Value::Whole(first))) = (person, first) else {
        return Ok(());
    };
    let Ok(person) = <[u8; WIDTH]>::try_from(*person) else {
        return refused("care_day_set: a pseudonym has not 16 bytes");
    };
    let Some(Value::Whole(last)) = last else {
        return refused(
            "care_day_set: a spell has no last day; end it where the period does: least(last, DATE '…')",
        );
    };
    let person = u128::from_be_bytes(person);
    let (mut from, last) = (*first, *last);
    while from <= last {
        let Ok(day) = i32::try_from(from) else {
            return exec_err!("care_day_set was given a day that is none");
        };
        let (_, _, of_month) = date_of(day);
        let next = next_month(day);
        let to = last.min(next - 1);
        let bit = |day: i64| u32::try_from(of_month - 1 + day - from).unwrap_or_default();
        with(month_number(day), person, days_between(bit(from), bit(to)))?;
        from = next;
    }
    Ok(())
}

/// The first day of the month after that of a day.
fn next_month(day: i32) -> i64 {
    let (_, _, of_month) = date_of(day);
    let first = i64::from(day) - of_month + 1;
    // No month has fewer days than 28, so that the 28th and four days are in the next.
    let within = first + 31;
    let within = i32::try_from(within).unwrap_or(i32::MAX);
    let (_, _, of_next) = date_of(within);
    i64::from(within) - of_next + 1
}

impl Cell for CareDaySet {
    fn add(&mut self, _value: Value<'_>) -> Result<()> {
        exec_err!("care_day_set takes a person and two dates")
    }

    fn add_row(&mut self, row: &[Option<Value<'_>>]) -> Result<()> {
        each_month(row, |month, person, days| {
            self.is_of(None)?;
            self.insert(month, person, days);
            Ok(())
        })
    }

    fn merge(&mut self, state: &[u8]) -> Result<()> {
        let Some(reader) = Reader::of(state)? else {
            return Ok(());
        };
        self.is_of(reader.list)?;
        let was_empty = self.entries.is_empty();
        reader.try_each(|month, member, days| {
            match was_empty {
                true => self.entries.push((month, member, days)),
                false => self.insert(month, member, days),
            }
            Ok(())
        })?;
        if was_empty {
            // An encoded set is in order; bytes from elsewhere may not be.
            let key = |entry: &Entry| (entry.0, entry.1);
            let is_in_order = self.entries.is_sorted_by(|a, b| key(a) < key(b));
            self.sorted = if is_in_order { self.entries.len() } else { 0 };
        }
        Ok(())
    }

    fn encode(&mut self, out: &mut Vec<u8>) {
        self.fold();
        if self.entries.is_empty() {
            return;
        }
        let mut writer = DayWriter::new(out, self.list);
        for of_month in self.entries.chunk_by(|a, b| a.0 == b.0) {
            let month = of_month.first().map_or(0, |(month, ..)| *month);
            writer.month(month, of_month.len());
            for (_, member, days) in of_month {
                match self.list {
                    None => writer.pseudonym(*member, *days),
                    Some(_) => writer.number(*member as u32, *days),
                }
            }
        }
    }

    fn heap_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
    }
}

impl Finish for CareDaySet {
    const RESULT: InputType = InputType::Bytes;
    type Frame = DayFrame;
}

/// The rows that have each day of a month of a person.
type DayTally = Tally<(i32, u128, u32), ()>;

/// How many rows or sets of a frame that slides have each day of each person.
#[derive(Debug, Default)]
pub(crate) struct DayFrame {
    /// By the list that persons are numbers of, without those that have none.
    lists: BTreeMap<Option<u64>, DayTally>,
}

impl DayFrame {
    fn pass_days(
        &mut self,
        list: Option<u64>,
        (month, member, days): Entry,
        way: Way,
    ) -> Result<()> {
        let known = self.lists.entry(list).or_default();
        for day in (0..MOST_DAYS).filter(|day| days >> day & 1 == 1) {
            known.pass((month, member, day), (), way)?;
        }
        if known.len() == 0 {
            self.lists.remove(&list);
        }
        Ok(())
    }
}

impl Frame<CareDaySet> for DayFrame {
    fn pass(&mut self, given: Given<'_>, way: Way) -> Result<()> {
        match given {
            Given::Value(_) => exec_err!("care_day_set takes a person and two dates"),
            Given::Row(row) => each_month(row, |month, person, days| {
                self.pass_days(None, (month, person, days), way)
            }),
            Given::State(state) => match Reader::of(state)? {
                None => Ok(()),
                Some(reader) => {
                    let list = reader.list;
                    reader.try_each(|month, member, days| {
                        self.pass_days(list, (month, member, days), way)
                    })
                }
            },
        }
    }

    fn cell(&self) -> Result<CareDaySet> {
        let mut lists = self.lists.iter();
        match (lists.next(), lists.next()) {
            (None, _) => Ok(CareDaySet::default()),
            (Some((list, days)), None) => {
                let mut set = CareDaySet {
                    list: *list,
                    ..CareDaySet::default()
                };
                let days = days.keys();
                days.for_each(|(month, member, day)| set.insert(month, member, 1 << day));
                Ok(set)
            }
            _ => different_lists(),
        }
    }

    fn heap_bytes(&self) -> usize {
        let days: usize = self.lists.values().map(Tally::heap_bytes).sum();
        days + self.lists.len() * size_of::<(Option<u64>, DayTally)>()
    }
}

pub(crate) fn aggregates() -> Vec<AggregateUDF> {
    const ROW: &[InputType] = &[InputType::Bytes, InputType::Day, InputType::Day];
    vec![
        CellAggregate::<CareDaySet>::function("care_day_set", Takes::Rows(ROW)),
        CellAggregate::<CareDaySet>::function("care_day_set_union", Takes::States),
    ]
}

pub(crate) fn scalars() -> Vec<ScalarUDF> {
    const STATE: &[InputType] = &[InputType::Bytes];
    vec![
        PlainFunction::function("care_day_set_count", STATE, Body::Whole(count)),
        PlainFunction::function("care_day_set_persons", STATE, Body::Whole(persons)),
    ]
}

fn persons(values: &[Value<'_>]) -> Result<Option<i64>> {
    let [Value::Bytes(state)] = values else {
        return exec_err!("care_day_set_persons takes the state of a care_day_set");
    };
    let mut persons = Vec::new();
    if let Some(reader) = Reader::of(state)? {
        reader.try_each(|_, person, _| {
            persons.push(person);
            Ok(())
        })?;
    }
    persons.sort_unstable();
    persons.dedup();
    Ok(i64::try_from(persons.len()).ok())
}

fn count(values: &[Value<'_>]) -> Result<Option<i64>> {
    let [Value::Bytes(state)] = values else {
        return exec_err!("care_day_set_count takes the state of a care_day_set");
    };
    let mut count = 0i64;
    if let Some(reader) = Reader::of(state)? {
        reader.try_each(|_, _, days| {
            count += i64::from(days.count_ones());
            Ok(())
        })?;
    }
    Ok(Some(count))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use arrow::array::{ArrayRef, BinaryArray, Date32Array};
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{check_laws_of_rows, check_slides, laws, numbers};

    /// Person, first and last day.
    type Row = (Option<u8>, Option<i32>, i32);

    fn rows(count: usize) -> Vec<Row> {
        let mut draws = numbers(count * 4, u64::MAX);
        let mut draw = |bound: u64| draws.next().unwrap_or_default() % bound;
        (0..count)
            .map(|_| {
                let first = 19_700 + draw(120) as i32 - 60;
                let person = (draw(9) > 0).then(|| draw(12) as u8);
                let is_known = draw(9) > 0;
                (
                    person,
                    is_known.then_some(first),
                    first + draw(50) as i32 - 3,
                )
            })
            .collect()
    }

    fn naive(rows: &[Row]) -> BTreeSet<(u8, i32)> {
        let rows = rows
            .iter()
            .filter_map(|(person, first, last)| Some(((*person)?, (*first)?, *last)));
        rows.flat_map(|(person, first, last)| (first..=last).map(move |day| (person, day)))
            .collect()
    }

    fn set_of(rows: &[Row]) -> CareDaySet {
        let mut set = CareDaySet::default();
        for (person, first, last) in rows {
            let person = person.map(|person| [person; WIDTH]);
            let row = [
                person.as_ref().map(|person| Value::Bytes(person)),
                first.map(|first| Value::Whole(i64::from(first))),
                Some(Value::Whole(i64::from(*last))),
            ];
            set.add_row(&row).unwrap();
        }
        set
    }

    fn state_of(mut set: CareDaySet) -> Vec<u8> {
        let mut state = Vec::new();
        set.encode(&mut state);
        state
    }

    /// The same set with the first byte of each pseudonym as number of a list.
    fn numbered(set: CareDaySet, list: u64) -> Vec<u8> {
        let entries = set.entries.iter();
        let entries = entries.map(|(month, member, days)| (*month, member >> 120, *days));
        state_of(CareDaySet {
            list: Some(list),
            entries: entries.collect(),
            sorted: 0,
        })
    }

    fn counted(state: &[u8]) -> i64 {
        count(&[Value::Bytes(state)]).unwrap().unwrap()
    }

    #[test]
    fn a_day_of_a_person_is_there_once() {
        for size in [0, 1, 2, 30, 900] {
            let rows = rows(size);
            let days = naive(&rows);
            let state = state_of(set_of(&rows));
            assert_eq!(counted(&state), days.len() as i64);
            assert_eq!(state.is_empty(), days.is_empty());
            let of_numbers = numbered(set_of(&rows), 7);
            assert_eq!(counted(&of_numbers), days.len() as i64);
            let who: BTreeSet<u8> = days.iter().map(|(person, _)| *person).collect();
            for state in [&state, &of_numbers] {
                let found = persons(&[Value::Bytes(state)]).unwrap();
                assert_eq!(found, Some(who.len() as i64));
            }
            // Days are those of the calendar.
            let mut found = BTreeSet::new();
            if let Some(reader) = Reader::of(&of_numbers).unwrap() {
                let first = |month: i32| {
                    (19_500..20_000)
                        .find(|day| month_number(*day) == month)
                        .unwrap()
                };
                let each = reader.try_each(|month, person, days| {
                    let days = (0..31).filter(|day| days >> day & 1 == 1);
                    found.extend(days.map(|day| (person as u8, first(month) + day)));
                    Ok(())
                });
                each.unwrap();
            }
            assert_eq!(found, days);
        }
    }

    #[test]
    fn days_are_written_and_read_back() {
        for from in 0..MOST_DAYS {
            for to in from..MOST_DAYS {
                let days = days_between(from, to);
                assert_eq!(days.count_ones(), to - from + 1);
                assert_eq!(
                    (days.trailing_zeros(), days.leading_zeros()),
                    (from, 31 - to)
                );
                assert_eq!(days_of(code_of(days)), Some(days));
                assert!(code_of(days) < 1 << 11);
            }
        }
        for days in [0b101, 0x5555_5555, 0x4000_0001, 0x7fff_fffd] {
            assert_eq!(days_of(code_of(days)), Some(days));
        }
        // No day, days that go beyond a month, and a run that is written as something else.
        for code in [
            0,
            (31 << 5 | 1) << 1 | 1,
            (30 << 5 | 1) << 1 | 1,
            31 << 1 | 1,
            0b110 << 1,
        ] {
            assert_eq!(days_of(code), None, "{code:#b}");
        }
    }

    #[test]
    fn months_are_those_of_the_calendar() {
        for (day, month, next) in [
            (0, 1970 * 12, 31),
            (30, 1970 * 12, 31),
            (-1, 1969 * 12 + 11, 0),
            // 1.2.2024 and 29.2.2024.
            (19_754, 2024 * 12 + 1, 19_783),
            (19_782, 2024 * 12 + 1, 19_783),
            (19_783, 2024 * 12 + 2, 19_814),
        ] {
            assert_eq!((month_number(day), next_month(day)), (month, next), "{day}");
        }
    }

    proptest! {
        #![proptest_config(laws())]

        #[test]
        fn sets_obey_the_laws(seed in 0usize..400) {
            let rows = rows(seed % 90);
            let persons: Vec<Option<[u8; WIDTH]>> =
                rows.iter().map(|(person, ..)| person.map(|person| [person; WIDTH])).collect();
            let values: Vec<[Option<Value<'_>>; 3]> = rows
                .iter()
                .zip(&persons)
                .map(|((_, first, last), person)| [
                    person.as_ref().map(|person| Value::Bytes(person)),
                    first.map(|first| Value::Whole(i64::from(first))),
                    Some(Value::Whole(i64::from(*last))),
                ])
                .collect();
            let state = check_laws_of_rows::<CareDaySet, 3>(&values);
            prop_assert_eq!(counted(&state), naive(&rows).len() as i64);
        }

        #[test]
        fn sets_slide_as_sets(count in 1usize..40) {
            let [set, union] = &aggregates()[..] else {
                panic!("there are two aggregates");
            };
            let rows = rows(count);
            let persons: BinaryArray =
                rows.iter().map(|(person, ..)| person.map(|person| [person; WIDTH])).collect();
            let first: Date32Array = rows.iter().map(|(_, first, _)| *first).collect();
            let last: Date32Array = rows.iter().map(|(.., last)| Some(*last)).collect();
            check_slides(set, &[Arc::new(persons) as ArrayRef, Arc::new(first), Arc::new(last)]);
            // A change of lists is refused where one frame has both, and only there.
            let states = rows.chunks(2).enumerate().map(|(place, rows)| match place % 5 {
                0 => None,
                1 => Some(state_of(set_of(rows))),
                _ => Some(numbered(set_of(rows), place as u64 / 9)),
            });
            let states: Vec<Option<Vec<u8>>> = states.collect();
            let states: BinaryArray = states.iter().map(|state| state.as_deref()).collect();
            check_slides(union, &[Arc::new(states) as ArrayRef]);
        }
    }

    #[test]
    fn numbers_and_pseudonyms_do_not_unite() {
        let rows: &[Row] = &[(Some(3), Some(19_700), 19_790)];
        let named = state_of(set_of(rows));
        let (one, other) = (numbered(set_of(rows), 1), numbered(set_of(rows), 2));
        for (first, second) in [(&named, &one), (&one, &named), (&one, &other)] {
            let mut set = CareDaySet::default();
            set.merge(first).unwrap();
            assert!(set.merge(second).is_err());
            assert!(set.merge(&[]).is_ok());
            set.merge(first).unwrap();
            assert_eq!(&state_of(set), first);
        }
    }

    #[test]
    fn other_bytes_are_refused() {
        let rows = rows(40);
        for good in [state_of(set_of(&rows)), numbered(set_of(&rows), 1)] {
            for length in 1..good.len() {
                let cut = &good[..length];
                let read = CareDaySet::default().merge(cut);
                // A set may end where a month does.
                assert!(read.is_err() || counted(cut) < counted(&good), "{length}");
            }
            for bad in [&[0][..], &[3, 1], &[good.as_slice(), &[0]].concat()] {
                assert!(CareDaySet::default().merge(bad).is_err());
                assert!(count(&[Value::Bytes(bad)]).is_err());
            }
        }
        let row = |person: &'static [u8], last: Option<i64>| {
            let row = [
                Some(Value::Bytes(person)),
                Some(Value::Whole(3)),
                last.map(Value::Whole),
            ];
            CareDaySet::default().add_row(&row)
        };
        let message = |result: Result<()>| result.unwrap_err().to_string();
        assert!(message(row(b"short", Some(4))).contains("16 bytes"));
        assert!(message(row(&[1; WIDTH], None)).contains("least"));
        assert!(row(&[1; WIDTH], Some(2)).is_ok());
    }
}
