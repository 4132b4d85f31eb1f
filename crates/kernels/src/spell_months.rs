//! Spells met with the months that were delivered: a row for each spell and month that it reaches.
//!
//! A spell has an organiser, a first day f and a last day l, which belongs to it; no last day while it
//! is open. Months are those that the organiser has delivered, with gaps where nothing was.
//!
//! - *Formula*: the month from a to b is reached when f ≤ b and l ≥ a ([`Reach::AnyDay`]) or l ≥ b
//!   ([`Reach::LastDay`]). Of it the spell has min(l, b) − max(f, a) + 1 days, which is what SQL gives:
//!   a spell that ends before it begins reaches the month that both days are in, with days below one.
//!   The age on the month's last day is [`age_years`]; that on 31.12. is the difference of the years.
//! - *Null*: no organiser, no first day, or an organiser that has delivered nothing: no month. No last
//!   day: no end. A null weight makes null days, and no birth date an age that is not met.
//! - *Time*: months of an organiser ascend and do not overlap, so the reached ones follow each other, and
//!   both ends are looked up by the day: O(1) a spell and O(1) a row of the result. The first days of
//!   months come as codes.
//! - *Memory*: a piece of the result at a time, of as many rows as the caller gives.
//!
//! Where all that is asked of spells can be told by where they begin and end, they need not become rows
//! of months (`marks.rs`).
//!
//! What may not live here: which months are delivered, and what is added up over the rows.

mod marks;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, Date32Array, Int64Array,
    PrimitiveArray, StringArray, StringViewArray, UInt32Array,
};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{ArrowNativeType, Date32Type, UInt8Type, UInt32Type};
use datafusion_common::{Result, exec_err, resources_err};

use crate::age::age_years;
use crate::calendar::{date_of, first_of_month};
use crate::care_day_set::days_between;
use crate::cells::InputColumn;
use crate::codes::check_length;

pub use self::marks::SpellMarks;

/// What of a month a spell must have to reach it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Any day.
    AnyDay,
    /// Its last day.
    LastDay,
}

/// The day on which an age is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgeDay {
    /// The last day of the month.
    MonthEnd,
    /// 31.12. of the month's year.
    YearEnd,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Month {
    start: i32,
    end: i32,
    /// The place of its first day among those of all months.
    code: u32,
    /// How many of these before it the organiser has not.
    skipped: u32,
}

impl Month {
    fn length(self) -> i64 {
        i64::from(self.end) - i64::from(self.start) + 1
    }

    /// The days of a spell in it, which it reaches.
    fn days(self, first: i32, last: i32) -> i64 {
        i64::from(last.min(self.end)) - i64::from(first.max(self.start)) + 1
    }
}

/// Days between the first month of an organiser and the last, beyond which months are searched.
const MOST_DAYS: usize = 1 << 16;

/// The months of an organiser, ascending.
#[derive(Debug, Clone, Default)]
struct Months {
    months: Vec<Month>,
    /// By day from the first month's first on, how many months have begun; none where that is too long.
    begun: Vec<u32>,
}

impl Months {
    fn new(months: Vec<Month>) -> Self {
        let (first, last) = (months.first(), months.last());
        let span = first.zip(last).map_or(0, |(first, last)| {
            usize::try_from(i64::from(last.start) - i64::from(first.start)).unwrap_or_default() + 1
        });
        let mut begun = Vec::new();
        if span <= MOST_DAYS {
            begun.reserve_exact(span);
            for (count, month) in (0u32..).zip(&months) {
                let day = i64::from(month.start) - first.map_or(0, |first| i64::from(first.start));
                begun.resize(usize::try_from(day).unwrap_or_default(), count);
            }
            begun.resize(span, months.len() as u32);
        }
        Self { months, begun }
    }

    /// How many months begin on this day or before.
    #[inline]
    fn begun(&self, day: i32) -> usize {
        let Some(first) = self.months.first() else {
            return 0;
        };
        if self.begun.is_empty() {
            return self.months.partition_point(|month| month.start <= day);
        }
        match usize::try_from(i64::from(day) - i64::from(first.start)) {
            Err(_) => 0,
            Ok(place) => self
                .begun
                .get(place)
                .map_or(self.months.len(), |count| *count as usize),
        }
    }

    /// The months that a spell reaches.
    #[inline]
    fn reached(&self, first: i32, last: i32, reach: Reach) -> &[Month] {
        let month_before = |count: usize| count.checked_sub(1).and_then(|at| self.months.get(at));
        let mut from = self.begun(first);
        from -= usize::from(month_before(from).is_some_and(|month| month.end >= first));
        let mut to = self.begun(last);
        if reach == Reach::LastDay {
            to -= usize::from(month_before(to).is_some_and(|month| month.end > last));
        }
        self.months.get(from..to).unwrap_or_default()
    }
}

/// The months that each organiser has delivered.
#[derive(Debug, Clone)]
pub struct DeliveredMonths {
    months: BTreeMap<Box<str>, Months>,
    /// The first days of all months, ascending.
    starts: ArrayRef,
    /// The days of the months that begin on these; none where months that begin on one day have not as
    /// many.
    lengths: Option<Vec<i64>>,
    /// Whether all are whole months of the calendar.
    are_calendar_months: bool,
}

impl Default for DeliveredMonths {
    fn default() -> Self {
        Self {
            months: BTreeMap::new(),
            starts: Arc::new(Date32Array::from_iter_values([])),
            lengths: Some(Vec::new()),
            are_calendar_months: true,
        }
    }
}

impl DeliveredMonths {
    /// Months by organiser, in any order. A row with a null is left out.
    ///
    /// # Errors
    /// When the columns are not of one length, or months of an organiser overlap or end before they
    /// begin.
    pub fn new(organisers: &StringArray, starts: &Date32Array, ends: &Date32Array) -> Result<Self> {
        check_length("the first days of months", starts.len(), organisers.len())?;
        check_length("the last days of months", ends.len(), organisers.len())?;
        let mut months: BTreeMap<Box<str>, Vec<Month>> = BTreeMap::new();
        for ((organiser, start), end) in organisers.iter().zip(starts).zip(ends) {
            if let (Some(organiser), Some(start), Some(end)) = (organiser, start, end) {
                let month = Month {
                    start,
                    end,
                    code: 0,
                    skipped: 0,
                };
                months.entry(organiser.into()).or_default().push(month);
            }
        }
        let starts = months.values().flatten().map(|month| month.start);
        let starts: Vec<i32> = starts.collect::<BTreeSet<i32>>().into_iter().collect();
        let mut lengths: Vec<Option<i64>> = vec![None; starts.len()];
        let mut are_alike = true;
        for months in months.values_mut() {
            for month in &mut *months {
                let before = starts.partition_point(|start| *start < month.start);
                month.code = before as u32;
            }
            months.sort_unstable();
            let mut in_order = months.iter().zip(months.iter().skip(1));
            if in_order.any(|(month, next)| next.start <= month.end)
                || months.iter().any(|month| month.end < month.start)
            {
                return exec_err!("the delivered months of an organiser overlap");
            }
            for (before, month) in (0u32..).zip(months) {
                month.skipped = month.code - before;
                if let Some(length) = lengths.get_mut(month.code as usize) {
                    are_alike &= *length.get_or_insert(month.length()) == month.length();
                }
            }
        }
        let months: BTreeMap<Box<str>, Months> = months
            .into_iter()
            .map(|(organiser, months)| (organiser, Months::new(months)))
            .collect();
        let mut all = months.values().flat_map(|months| &months.months);
        let are_calendar_months = all.all(|month| {
            first_of_month(month.start) == month.start
                && first_of_month(month.end) == month.start
                && first_of_month(month.end.saturating_add(1)) > month.start
        });
        Ok(Self {
            are_calendar_months,
            months,
            starts: Arc::new(Date32Array::from(starts)),
            lengths: lengths
                .into_iter()
                .collect::<Option<_>>()
                .filter(|_| are_alike),
        })
    }

    /// Whether months that begin on the same day end on the same: then marks can become months.
    pub fn have_one_calendar(&self) -> bool {
        self.lengths.is_some()
    }

    /// The first days of all months, ascending, and the days of each month; `None` where two months
    /// begin on the same day and do not end on the same.
    pub(crate) fn calendar(&self) -> Option<(&[i32], &[i64])> {
        let starts = self.starts.as_primitive_opt::<Date32Type>()?;
        Some((starts.values(), self.lengths.as_deref()?))
    }

    /// The months that spells reach, to be taken piece by piece.
    ///
    /// # Errors
    /// When the columns are not of one length.
    pub fn reached<'a>(&'a self, spells: SpellRows<'a>, reach: Reach) -> Result<ReachedMonths<'a>> {
        let rows = spells.organisers.len();
        check_length("the first days", spells.first.len(), rows)?;
        check_length("the last days", spells.last.len(), rows)?;
        if let Some(selection) = spells.selection {
            check_length("the selection", selection.len(), rows)?;
        }
        let open = |last: Option<i32>| last.unwrap_or(i32::MAX);
        Ok(ReachedMonths {
            months: self,
            spells,
            last: spells.last.iter().map(open).collect(),
            reach,
            row: 0,
            rest: &[],
            of_organiser: None,
        })
    }

    /// The first days of months by their codes.
    fn starts_of(&self, codes: impl Iterator<Item = u32>) -> Result<InputColumn> {
        match self.starts.len() {
            0..=256 => self.coded_starts::<UInt8Type>(codes),
            _ => self.coded_starts::<UInt32Type>(codes),
        }
    }

    fn coded_starts<K: ArrowPrimitiveType>(
        &self,
        codes: impl Iterator<Item = u32>,
    ) -> Result<InputColumn> {
        let codes = codes.map(|code| K::Native::usize_as(code as usize));
        let codes = PrimitiveArray::<K>::from_iter_values(codes);
        InputColumn::coded(Arc::new(codes), Arc::clone(&self.starts))
    }

    /// The months that an organiser has delivered.
    fn of_organiser(&self, organiser: &str) -> Option<&Months> {
        self.months.get(organiser)
    }
}

/// Spells to expand, one per row.
#[derive(Debug, Clone, Copy)]
pub struct SpellRows<'a> {
    /// The organiser of each.
    pub organisers: &'a StringViewArray,
    /// The first day.
    pub first: &'a Date32Array,
    /// The last day; null while it is open.
    pub last: &'a Date32Array,
    /// The spells that count; all when there is none.
    pub selection: Option<&'a BooleanBuffer>,
}

/// The months that spells reach, of which pieces are taken.
#[derive(Debug)]
pub struct ReachedMonths<'a> {
    months: &'a DeliveredMonths,
    spells: SpellRows<'a>,
    /// The last day of each spell; of one that is open the last that there is.
    last: Arc<[i32]>,
    reach: Reach,
    /// The spell in hand, and what is left of its months.
    row: usize,
    rest: &'a [Month],
    /// The organiser of the spell before, as the column has it, and its months.
    of_organiser: Option<(u128, Option<&'a Months>)>,
}

impl<'a> ReachedMonths<'a> {
    /// The next rows, `most` of them or what is left; `None` when nothing is left.
    pub fn next_piece(&mut self, most: usize) -> Option<SpellMonths<'a>> {
        let likely = most.min(self.spells.organisers.len());
        let (mut rows, mut months) = (Vec::with_capacity(likely), Vec::with_capacity(likely));
        while months.len() < most {
            if self.rest.is_empty() {
                if self.row >= self.spells.organisers.len() {
                    break;
                }
                let counts = self.spells.selection;
                if counts.is_none_or(|selection| selection.value(self.row)) {
                    self.rest = self.of_spell(self.row);
                }
                self.row += 1;
            }
            let room = (most - months.len()).min(self.rest.len());
            let (taken, rest) = self.rest.split_at(room);
            self.rest = rest;
            months.extend_from_slice(taken);
            rows.resize(months.len(), self.row.saturating_sub(1) as u32);
        }
        (!months.is_empty()).then(|| SpellMonths {
            of: self.months,
            spells: self.spells,
            last: Arc::clone(&self.last),
            rows: UInt32Array::from(rows),
            months,
        })
    }

    /// The months that a spell reaches.
    fn of_spell(&mut self, row: usize) -> &'a [Month] {
        let organisers = self.spells.organisers;
        let days = (self.spells.first.values().get(row), self.last.get(row));
        let (Some(view), (Some(first), Some(last))) = (organisers.views().get(row), days) else {
            return &[];
        };
        if organisers.is_null(row) || self.spells.first.is_null(row) {
            return &[];
        }
        let months = match self.of_organiser {
            // The same bytes, or the same place of one column.
            Some((known, months)) if known == *view => months,
            _ => self.months.of_organiser(organisers.value(row)),
        };
        self.of_organiser = Some((*view, months));
        months.map_or(&[], |months| months.reached(*first, *last, self.reach))
    }
}

/// Rows of spells and months. Columns of the spells are gathered by [`SpellMonths::rows`]; those that
/// depend on the month are made here, from columns that still have a row for each spell.
#[derive(Debug)]
pub struct SpellMonths<'a> {
    of: &'a DeliveredMonths,
    spells: SpellRows<'a>,
    last: Arc<[i32]>,
    rows: UInt32Array,
    months: Vec<Month>,
}

impl SpellMonths<'_> {
    /// The spell of each row, by its number among the spells.
    pub fn rows(&self) -> &UInt32Array {
        &self.rows
    }

    /// The first day of each row's month, as codes of the days of all months that were delivered.
    ///
    /// # Errors
    /// None that are not a mistake of this module.
    pub fn starts(&self) -> Result<InputColumn> {
        self.of
            .starts_of(self.months.iter().map(|month| month.code))
    }

    /// The days that the spell has in the month, times its weight where there are weights.
    ///
    /// # Errors
    /// When there is not a weight for each spell, or a product does not fit 64 bits.
    pub fn days(&self, weights: Option<&Int64Array>) -> Result<Int64Array> {
        let (first, last) = (self.spells.first.values(), &self.last);
        let days = self.each().map(|(row, month)| {
            let first = first.get(row).copied().unwrap_or_default();
            let last = last.get(row).copied().unwrap_or_default();
            month.days(first, last)
        });
        let Some(weights) = weights else {
            return Ok(Int64Array::from_iter_values(days));
        };
        check_length("the weights", weights.len(), self.spells.organisers.len())?;
        let products = weighted(days, &self.rows, weights)?;
        let nulls = weights.nulls().filter(|nulls| nulls.null_count() > 0);
        let rows = self.rows.values().iter().map(|row| *row as usize);
        let nulls = nulls.map(|nulls| rows.map(|row| nulls.is_valid(row)).collect());
        Ok(Int64Array::try_new(products.into(), nulls)?)
    }

    /// The days of the month that the spell has, a bit for each, the first day lowest.
    ///
    /// # Errors
    /// When a month is none of the calendar.
    pub fn days_of_month(&self) -> Result<Int64Array> {
        if !self.of.are_calendar_months {
            return exec_err!("days of persons are kept by months of the calendar");
        }
        let first = self.spells.first.values();
        let days = self.each().map(|(row, month)| {
            let from = first.get(row).copied().unwrap_or_default().max(month.start);
            let to = self
                .last
                .get(row)
                .copied()
                .unwrap_or_default()
                .min(month.end);
            match to >= from {
                true => {
                    let bit = |day: i32| (day - month.start) as u32;
                    i64::from(days_between(bit(from), bit(to)))
                }
                // A spell that ends before it begins.
                false => 0,
            }
        });
        Ok(Int64Array::from_iter_values(days))
    }

    /// Whether the spell covers the last day of the month.
    pub fn cover_last_day(&self) -> BooleanArray {
        self.met(|row, month| self.last.get(row).is_some_and(|last| *last >= month.end))
    }

    /// Whether the age in completed years is not below `from` and not above `to`.
    pub fn aged(
        &self,
        births: &Date32Array,
        day: AgeDay,
        from: Option<u32>,
        to: Option<u32>,
    ) -> BooleanArray {
        let year = |day: i32| date_of(day).0;
        self.met(|row, month| {
            if births.is_null(row) {
                return false;
            }
            let birth = births.value(row);
            let age = match day {
                AgeDay::MonthEnd => i64::from(age_years(birth, month.end)),
                AgeDay::YearEnd => year(month.end) - year(birth),
            };
            from.is_none_or(|from| age >= i64::from(from))
                && to.is_none_or(|to| age <= i64::from(to))
        })
    }

    fn each(&self) -> impl Iterator<Item = (usize, Month)> + '_ {
        let rows = self.rows.values().iter().map(|row| *row as usize);
        rows.zip(self.months.iter().copied())
    }

    fn met(&self, is_met: impl Fn(usize, Month) -> bool) -> BooleanArray {
        let rows = self.rows.values();
        let met = BooleanBuffer::collect_bool(self.months.len(), |place| {
            match (rows.get(place), self.months.get(place)) {
                (Some(row), Some(month)) => is_met(*row as usize, *month),
                _ => false,
            }
        });
        BooleanArray::new(met, None)
    }
}

/// A number of each row times the weight of its spell; nothing where that is null.
fn weighted(
    numbers: impl Iterator<Item = i64>,
    rows: &UInt32Array,
    weights: &Int64Array,
) -> Result<Vec<i64>> {
    let nulls = weights.nulls().filter(|nulls| nulls.null_count() > 0);
    let mut is_beyond = false;
    let products = numbers.zip(rows.values()).map(|(number, row)| {
        let row = *row as usize;
        let weight = match nulls {
            // What a null hides may be anything.
            Some(nulls) if nulls.is_null(row) => 0,
            _ => weights.values().get(row).copied().unwrap_or_default(),
        };
        let (product, is_wrong) = number.overflowing_mul(weight);
        is_beyond |= is_wrong;
        product
    });
    let products: Vec<i64> = products.collect();
    match is_beyond {
        true => resources_err!("days times a weight are beyond 64 bits"),
        false => Ok(products),
    }
}

#[cfg(test)]
mod tests {
    use arrow::compute::take;
    use arrow::temporal_conversions::date32_to_datetime;

    use super::*;
    use crate::testing::numbers;

    fn days_of(column: &InputColumn) -> Date32Array {
        let days = take(column.values(), column.codes().unwrap(), None).unwrap();
        days.as_primitive::<Date32Type>().clone()
    }

    /// The months of 2023 and 2024: first and last day.
    fn calendar() -> Vec<(i32, i32)> {
        let lengths = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let mut start = 19_358;
        (0..24)
            .map(|month| {
                let leap = i32::from(month == 13);
                let end = start + lengths[month % 12] + leap - 1;
                let found = (start, end);
                start = end + 1;
                found
            })
            .collect()
    }

    #[derive(Debug, Clone, Copy)]
    pub(super) struct Spell {
        pub(super) organiser: Option<&'static str>,
        pub(super) first: Option<i32>,
        pub(super) last: Option<i32>,
        pub(super) weight: Option<i64>,
        pub(super) birth: Option<i32>,
        pub(super) counts: bool,
    }

    /// `05` has delivered every month, `07` with gaps, `09` nothing.
    pub(super) fn delivered() -> Vec<(&'static str, i32, i32)> {
        let months = calendar();
        let gaps = months.iter().enumerate().filter(|(at, _)| at % 5 < 3);
        let mut delivered: Vec<_> = gaps.map(|(_, (from, to))| ("07", *from, *to)).collect();
        delivered.extend(months.iter().rev().map(|(from, to)| ("05", *from, *to)));
        delivered
    }

    pub(super) fn months_of(delivered: &[(&str, i32, i32)]) -> Result<DeliveredMonths> {
        let organisers: StringArray = delivered.iter().map(|row| Some(row.0)).collect();
        let starts = Date32Array::from_iter_values(delivered.iter().map(|row| row.1));
        let ends = Date32Array::from_iter_values(delivered.iter().map(|row| row.2));
        DeliveredMonths::new(&organisers, &starts, &ends)
    }

    pub(super) fn spells(count: usize) -> Vec<Spell> {
        let mut draws = numbers(count * 8, u64::MAX);
        let mut draw = |bound: u64| draws.next().unwrap_or_default() % bound;
        (0..count)
            .map(|_| {
                let first = 19_200 + draw(1_000) as i32;
                let length = [0, 3, 40, 400][draw(4) as usize] + draw(30) as i32 - 8;
                Spell {
                    organiser: [Some("05"), Some("07"), Some("07"), Some("09"), None]
                        [draw(5) as usize],
                    first: (draw(10) > 0).then_some(first),
                    last: (draw(4) > 0).then_some(first + length),
                    weight: (draw(6) > 0).then(|| draw(20_000) as i64 - 10_000),
                    birth: (draw(8) > 0).then(|| first - draw(30_000) as i32 + 900),
                    counts: draw(7) > 0,
                }
            })
            .collect()
    }

    /// What a row of the result says: spell, first day of the month, days, weighted days, covers the
    /// last day, ages 18–64 at the month's end, and 65 or more at the year's end.
    type Row = (usize, i32, i64, Option<i64>, bool, bool, bool);

    /// The same day by day, and with dates as text.
    fn naive(spells: &[Spell], reach: Reach) -> Vec<Row> {
        let text = |day: i32| date32_to_datetime(day).unwrap().date().to_string();
        let year = |day: i32| text(day)[..4].parse::<i64>().unwrap();
        let age = |birth: i32, on: &str| {
            let birth = text(birth);
            let is_before = on[5..] < birth[5..];
            on[..4].parse::<i64>().unwrap()
                - birth[..4].parse::<i64>().unwrap()
                - i64::from(is_before)
        };
        let mut rows = Vec::new();
        for (at, spell) in spells.iter().enumerate() {
            let mut months = delivered();
            months.sort_unstable();
            for (organiser, start, end) in months {
                let (Some(own), Some(first)) = (spell.organiser, spell.first) else {
                    continue;
                };
                let last = spell.last.unwrap_or(i32::MAX);
                let wanted = match reach {
                    Reach::AnyDay => start,
                    Reach::LastDay => end,
                };
                if own != organiser || !spell.counts || first > end || last < wanted {
                    continue;
                }
                let days = match first <= last {
                    true => (start..=end)
                        .filter(|day| (first..=last).contains(day))
                        .count() as i64,
                    // In SQL the difference of the days, and one.
                    false => i64::from(last - first + 1),
                };
                let month_end = spell.birth.map(|birth| age(birth, &text(end)));
                let year_end = spell
                    .birth
                    .map(|birth| age(birth, &format!("{}-12-31", year(end))));
                rows.push((
                    at,
                    start,
                    days,
                    spell.weight.map(|weight| weight * days),
                    (start..=last).contains(&end),
                    month_end.is_some_and(|age| (18..=64).contains(&age)),
                    year_end.is_some_and(|age| age >= 65),
                ));
            }
        }
        rows
    }

    /// Spells of `05` by their days, in columns.
    struct OfOne {
        organisers: StringViewArray,
        first: Date32Array,
        last: Date32Array,
    }

    impl OfOne {
        fn of(days: &[(i32, Option<i32>)]) -> Self {
            Self {
                organisers: days.iter().map(|_| Some("05")).collect(),
                first: days.iter().map(|days| Some(days.0)).collect(),
                last: days.iter().map(|days| days.1).collect(),
            }
        }

        fn rows(&self) -> SpellRows<'_> {
            SpellRows {
                organisers: &self.organisers,
                first: &self.first,
                last: &self.last,
                selection: None,
            }
        }
    }

    fn found(spells: &[Spell], reach: Reach, most: usize) -> Vec<Row> {
        let months = months_of(&delivered()).unwrap();
        let organisers: StringViewArray = spells.iter().map(|spell| spell.organiser).collect();
        let first: Date32Array = spells.iter().map(|spell| spell.first).collect();
        let last: Date32Array = spells.iter().map(|spell| spell.last).collect();
        let weights: Int64Array = spells.iter().map(|spell| spell.weight).collect();
        let births: Date32Array = spells.iter().map(|spell| spell.birth).collect();
        let selection: BooleanBuffer = spells.iter().map(|spell| spell.counts).collect();
        let rows = SpellRows {
            organisers: &organisers,
            first: &first,
            last: &last,
            selection: Some(&selection),
        };
        let mut reached = months.reached(rows, reach).unwrap();
        let mut rows = Vec::new();
        while let Some(piece) = reached.next_piece(most) {
            assert!(piece.rows().len() <= most);
            let starts = days_of(&piece.starts().unwrap());
            let days = piece.days(None).unwrap();
            let weighted = piece.days(Some(&weights)).unwrap();
            let covered = piece.cover_last_day();
            let grown = piece.aged(&births, AgeDay::MonthEnd, Some(18), Some(64));
            let old = piece.aged(&births, AgeDay::YearEnd, Some(65), None);
            for at in 0..starts.len() {
                rows.push((
                    piece.rows().value(at) as usize,
                    starts.value(at),
                    days.value(at),
                    weighted.is_valid(at).then(|| weighted.value(at)),
                    covered.value(at),
                    grown.value(at),
                    old.value(at),
                ));
            }
        }
        rows
    }

    #[test]
    fn each_spell_meets_the_delivered_months_that_it_reaches() {
        let spells = spells(2_000);
        for reach in [Reach::AnyDay, Reach::LastDay] {
            let expected = naive(&spells, reach);
            assert!(expected.iter().any(|row| row.2 < 1) || reach == Reach::LastDay);
            assert!(expected.iter().filter(|row| row.5).count() > 100);
            assert!(expected.iter().filter(|row| row.6).count() > 100);
            for most in [1, 7, 4_096, usize::MAX] {
                assert_eq!(
                    found(&spells, reach, most),
                    expected,
                    "{reach:?}, pieces of {most}"
                );
            }
        }
    }

    #[test]
    fn one_spell_in_each_case() {
        let spell = |first: Option<i32>, last: Option<i32>| Spell {
            organiser: Some("05"),
            first,
            last,
            weight: Some(2),
            birth: None,
            counts: true,
        };
        let january = calendar()[12];
        let february = calendar()[13];
        let days = |spell: Spell, reach: Reach| -> Vec<(i32, i64)> {
            let found = found(&[spell], reach, 100);
            found.iter().map(|row| (row.1, row.2)).collect()
        };
        for (first, last, any_day, last_day) in [
            // Within a month; from its first day to its last; the last day alone.
            (january.0 + 4, january.0 + 9, vec![(january.0, 6)], vec![]),
            (
                january.0,
                january.1,
                vec![(january.0, 31)],
                vec![(january.0, 31)],
            ),
            (
                january.1,
                january.1,
                vec![(january.0, 1)],
                vec![(january.0, 1)],
            ),
            // Over the end of a month, and a leap day later.
            (
                january.1,
                february.0,
                vec![(january.0, 1), (february.0, 1)],
                vec![(january.0, 1)],
            ),
            (
                february.0,
                february.1,
                vec![(february.0, 29)],
                vec![(february.0, 29)],
            ),
            // Ended before it began: within a month, and in the month before.
            (january.0 + 9, january.0 + 4, vec![(january.0, -4)], vec![]),
            (february.0, january.1, vec![], vec![]),
            // Before everything and after everything.
            (i32::MIN, calendar()[0].0 - 1, vec![], vec![]),
            (calendar()[23].1 + 1, i32::MAX, vec![], vec![]),
        ] {
            let spell = spell(Some(first), Some(last));
            assert_eq!(days(spell, Reach::AnyDay), any_day, "{first} to {last}");
            assert_eq!(days(spell, Reach::LastDay), last_day, "{first} to {last}");
        }
        let open = days(spell(Some(february.0), None), Reach::LastDay);
        assert_eq!((open.len(), open[0]), (11, (february.0, 29)));
        assert_eq!(days(spell(None, None), Reach::AnyDay), []);
    }

    #[test]
    fn without_bounds_every_known_age_is_met() {
        let months = months_of(&delivered()).unwrap();
        let spells = OfOne::of(&[(19_358, Some(19_358)); 2]);
        let mut reached = months.reached(spells.rows(), Reach::AnyDay).unwrap();
        let piece = reached.next_piece(10).unwrap();
        let births = Date32Array::from(vec![Some(30_000), None]);
        for day in [AgeDay::MonthEnd, AgeDay::YearEnd] {
            let met = piece.aged(&births, day, None, None);
            assert_eq!(met, BooleanArray::from(vec![true, false]));
        }
        assert!(reached.next_piece(10).is_none());
    }

    #[test]
    fn there_may_be_more_months_than_a_byte_can_count() {
        for count in [1, 256, 257, 700] {
            let delivered: Vec<_> = (0..count).map(|at| ("05", at * 2, at * 2 + 1)).collect();
            let months = months_of(&delivered).unwrap();
            let spells = OfOne::of(&[(0, None)]);
            let mut reached = months.reached(spells.rows(), Reach::AnyDay).unwrap();
            let piece = reached.next_piece(usize::MAX).unwrap();
            let starts = days_of(&piece.starts().unwrap());
            let expected: Date32Array = delivered.iter().map(|month| Some(month.1)).collect();
            assert_eq!(starts, expected);
        }
    }

    #[test]
    fn no_months_and_no_spells_give_nothing() {
        let none = DeliveredMonths::default();
        let spells = OfOne::of(&[(19_400, Some(19_400))]);
        let mut rows = spells.rows();
        let mut reached = none.reached(rows, Reach::AnyDay).unwrap();
        assert!(reached.next_piece(10).is_none());
        let nobody = StringViewArray::from(Vec::<&str>::new());
        rows.organisers = &nobody;
        assert!(none.reached(rows, Reach::AnyDay).is_err());
        assert_eq!(found(&[], Reach::AnyDay, 10), []);
    }

    #[test]
    fn months_that_overlap_or_end_before_they_begin_are_refused() {
        for wrong in [
            vec![("05", 10, 20), ("05", 20, 30)],
            vec![("05", 10, 20), ("05", 10, 20)],
            vec![("05", 10, 9)],
        ] {
            assert!(months_of(&wrong).is_err(), "{wrong:?}");
        }
        assert!(months_of(&[("05", 10, 20), ("07", 10, 20), ("05", 21, 30)]).is_ok());
    }

    #[test]
    fn a_product_beyond_64_bits_is_an_error_and_not_a_wrong_number() {
        let months = months_of(&delivered()).unwrap();
        let spells = OfOne::of(&[(19_360, Some(19_361))]);
        let mut reached = months.reached(spells.rows(), Reach::AnyDay).unwrap();
        let piece = reached.next_piece(1);
        let piece = piece.unwrap();
        let weighted = |weight: i64| piece.days(Some(&vec![weight].into()));
        assert_eq!(weighted(-3).unwrap().value(0), -6);
        assert!(weighted(i64::MAX).is_err());
    }
}
