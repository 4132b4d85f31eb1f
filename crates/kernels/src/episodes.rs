//! Episodes of care and days of care, from spells sorted by person and start: [`EpisodeSweep`],
//! [`CareDays`], and [`SortedSpells`] for input that is not sorted. Their face in SQL stands in
//! `care_days.rs`.
//!
//! A spell covers the days from its start to its end. Whether the last day counts is a rule of the
//! indicator ([`LastDay`]), and in both a spell that ends on the day it began has one day. An end of
//! [`OPEN`] (a null in a column: [`ends_or_open`]) has not come yet.
//!
//! **Episodes.** Spells of one person, and of one group where groups are given, belong to one episode
//! when at most `gap` days that none of them covers lie between: 0 joins what overlaps or touches, such
//! as a transfer on the day of discharge. Days inside a gap belong to no spell and do not count as
//! days of the episode; days that several spells cover count once. An episode with an open spell has
//! not ended and has no length.
//!
//! **Days of care.** Days are clipped to periods given by boundary days b₀ < b₁ < …, of which period p
//! is bₚ ≤ day < bₚ₊₁. A day of a person counts once for each code (class, region) that has a spell on
//! it, and once in the total: codes that overlap add up to more than the total. A spell that covers
//! several periods costs the same as one in a single period, since whole periods in between are
//! marked at their ends and summed at the end (difference arrays).
//!
//! Both sweeps go once over the spells and hold one person at a time. They need persons ascending
//! and starts ascending within a person; other rows of the same start may come in any order. Rows that
//! come too early are an error that names the row, and so is a spell that ends before it starts:
//! never a wrong number. [`SortedSpells`] brings rows into order in linear time (a radix sort of the
//! packed person and start).
//!
//! Persons, starts and codes have no nulls. No spells give no episodes and zero days. Parts are split
//! between persons: episodes of parts are concatenated ([`concatenate`]) and days added
//! ([`CareDays::merge`]), and a person who stands in two parts is an error where the parts' ranges of
//! persons overlap.
//!
//! Time: linear. Memory: 24 bytes an episode; for days 16 bytes for each code and period, and 2 bytes
//! for each day between the first and last boundary.

use std::borrow::Cow;

use arrow::array::{Array, Date32Array};
use datafusion_common::{Result, exec_err};

/// The end of a spell that goes on.
pub const OPEN: i32 = i32::MAX;

/// Whether the day on which a spell ends is one of its days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastDay {
    /// It is: a spell from the 3rd to the 5th has three days.
    Counts,
    /// It is not, as with nights: from the 3rd to the 5th are two days, from the 3rd to the 3rd one.
    DoesNotCount,
}

impl LastDay {
    /// The first day after the spell; `None` when it ends before it starts.
    #[inline]
    pub(crate) fn free_from(self, start: i32, end: i32) -> Option<i32> {
        if end < start {
            return None;
        }
        Some(match self {
            LastDay::Counts => end.saturating_add(1),
            LastDay::DoesNotCount => end.max(start.saturating_add(1)),
        })
    }
}

/// Columns of spells; days are counted from any one day, such as 1970-01-01.
#[derive(Debug, Clone, Copy)]
pub struct Spells<'a> {
    /// Number of the person.
    pub persons: &'a [u32],
    /// First day.
    pub starts: &'a [i32],
    /// Last day, or [`OPEN`].
    pub ends: &'a [i32],
    /// Group, class or region, numbered from 0. Without it all have 0.
    pub codes: Option<&'a [u32]>,
}

impl Spells<'_> {
    fn check_lengths(&self) -> Result<()> {
        let rows = self.persons.len();
        let same = self.starts.len() == rows
            && self.ends.len() == rows
            && self.codes.is_none_or(|codes| codes.len() == rows);
        if same {
            Ok(())
        } else {
            exec_err!("columns of spells differ in length")
        }
    }

    /// Whether the rows are in order of person and start.
    pub fn is_sorted(&self) -> bool {
        self.persons.iter().zip(self.starts).is_sorted()
    }

    /// Rows as person, start, end and code.
    fn rows(&self) -> impl Iterator<Item = (u32, i32, i32, u32)> {
        let codes = self.codes.unwrap_or_default().iter().copied();
        self.persons
            .iter()
            .zip(self.starts)
            .zip(self.ends)
            .zip(codes.chain(std::iter::repeat(0)))
            .map(|(((person, start), end), code)| (*person, *start, *end, code))
    }
}

/// Ends with [`OPEN`] in the place of nulls.
pub fn ends_or_open(ends: &Date32Array) -> Cow<'_, [i32]> {
    if ends.null_count() == 0 {
        Cow::Borrowed(ends.values())
    } else {
        Cow::Owned(ends.iter().map(|end| end.unwrap_or(OPEN)).collect())
    }
}

fn out_of_order<T>(row: u64) -> Result<T> {
    exec_err!(
        "spell {row} comes too early: spells must be in order of person and start; sort them first"
    )
}

fn ends_early<T>(row: u64) -> Result<T> {
    exec_err!("spell {row} ends before it starts")
}

/// What makes spells one episode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpisodeRule {
    /// The most days without any spell inside an episode.
    pub gap: u32,
    /// Whether the last day of a spell counts.
    pub last_day: LastDay,
}

/// Spells of a person, and of a group, that belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Episode {
    /// Number of the person.
    pub person: u32,
    /// Group of its spells, 0 where none are given.
    pub group: u32,
    /// First day.
    pub start: i32,
    /// First day after the last that a spell covers; [`OPEN`] while a spell goes on.
    pub free_from: i32,
    /// Days that a spell covers, so far as they are known.
    covered: u32,
    /// Number of spells.
    pub spells: u32,
}

impl Episode {
    /// Days that at least one spell covers; `None` while the episode goes on.
    pub fn days(&self) -> Option<u32> {
        (self.free_from != OPEN).then_some(self.covered)
    }
}

/// Joins sorted spells to episodes, batch by batch.
#[derive(Debug)]
pub struct EpisodeSweep {
    rule: EpisodeRule,
    /// Episodes, by person and start; those of the last person are not final.
    episodes: Vec<Episode>,
    /// Where the episodes of the last person begin.
    person_from: usize,
    /// For each group the last person seen in it, counted from 1, and the place of the open episode;
    /// `None` where codes are not looked at.
    open: Option<Vec<(u64, usize)>>,
    persons: u64,
    last: Option<(u32, i32)>,
    rows: u64,
}

impl EpisodeSweep {
    /// A sweep that keeps the spells of so many groups apart, by their codes; `None` joins the spells
    /// of a person whatever their codes are.
    pub fn new(rule: EpisodeRule, groups: Option<u32>) -> Self {
        Self {
            rule,
            episodes: Vec::new(),
            person_from: 0,
            open: groups.map(|groups| vec![(0, 0); groups as usize]),
            persons: 0,
            last: None,
            rows: 0,
        }
    }

    /// Takes in the next spells. After an error the sweep is not to be used.
    pub fn push(&mut self, spells: &Spells<'_>) -> Result<()> {
        spells.check_lengths()?;
        match self.open.take() {
            None => self.push_ungrouped(spells),
            Some(mut open) => {
                self.push_grouped(spells, &mut open)?;
                self.open = Some(open);
                Ok(())
            }
        }
    }

    fn push_grouped(&mut self, spells: &Spells<'_>, open: &mut [(u64, usize)]) -> Result<()> {
        for (person, start, end, group) in spells.rows() {
            let row = self.rows;
            self.rows += 1;
            let Some(free_from) = self.rule.last_day.free_from(start, end) else {
                return ends_early(row);
            };
            match self.last {
                Some(last) if last > (person, start) => return out_of_order(row),
                Some((last, _)) if last == person => {}
                _ => self.next_person(),
            }
            self.last = Some((person, start));
            let groups = open.len();
            let Some((seen, place)) = open.get_mut(group as usize) else {
                return exec_err!("spell {row} has group {group} of {groups}");
            };
            if *seen == self.persons
                && let Some(episode) = self.episodes.get_mut(*place)
                && joins(episode, start, self.rule.gap)
            {
                extend(episode, start, free_from);
                continue;
            }
            (*seen, *place) = (self.persons, self.episodes.len());
            self.episodes.push(begin(person, group, start, free_from));
        }
        Ok(())
    }

    /// The same without groups: the open episode is the last one.
    fn push_ungrouped(&mut self, spells: &Spells<'_>) -> Result<()> {
        let EpisodeRule { gap, last_day } = self.rule;
        let mut rows = spells
            .persons
            .iter()
            .zip(spells.starts)
            .zip(spells.ends)
            .map(|((person, start), end)| (*person, *start, *end));
        let mut last = match (self.last, self.episodes.pop()) {
            (Some((_, start)), Some(episode)) => (episode, start),
            _ => {
                let Some((person, start, end)) = rows.next() else {
                    return Ok(());
                };
                let Some(free_from) = last_day.free_from(start, end) else {
                    return ends_early(self.rows);
                };
                self.rows += 1;
                (begin(person, 0, start, free_from), start)
            }
        };
        let mut row = self.rows;
        for (person, start, end) in rows {
            let (episode, last_start) = &mut last;
            let Some(free_from) = last_day.free_from(start, end) else {
                return ends_early(row);
            };
            if person == episode.person {
                if start < *last_start {
                    return out_of_order(row);
                }
                *last_start = start;
                if joins(episode, start, gap) {
                    extend(episode, start, free_from);
                    row += 1;
                    continue;
                }
                self.episodes.push(*episode);
            } else if person > episode.person {
                self.episodes.push(*episode);
                self.person_from = self.episodes.len();
                *last_start = start;
            } else {
                return out_of_order(row);
            }
            *episode = begin(person, 0, start, free_from);
            row += 1;
        }
        self.rows = row;
        self.last = Some((last.0.person, last.1));
        self.episodes.push(last.0);
        Ok(())
    }

    /// Episodes of the persons that are complete, and of those only.
    pub fn take_complete(&mut self) -> Vec<Episode> {
        let open = self.episodes.split_off(self.person_from);
        let complete = std::mem::replace(&mut self.episodes, open);
        // The places of the open episodes moved down.
        for (seen, place) in self.open.iter_mut().flatten() {
            if *seen == self.persons {
                *place = place.saturating_sub(self.person_from);
            }
        }
        self.person_from = 0;
        complete
    }

    /// All episodes that were not taken yet, by person, start and group.
    pub fn finish(mut self) -> Vec<Episode> {
        self.order_person();
        self.episodes
    }

    fn next_person(&mut self) {
        self.order_person();
        self.person_from = self.episodes.len();
        self.persons += 1;
    }

    /// Rows of one start come in any order, so episodes that begin on one day are put by group.
    fn order_person(&mut self) {
        if let Some(own) = self.episodes.get_mut(self.person_from..)
            && own.len() > 1
        {
            own.sort_unstable_by_key(|episode| (episode.start, episode.group));
        }
    }
}

#[inline]
fn begin(person: u32, group: u32, start: i32, free_from: i32) -> Episode {
    Episode {
        person,
        group,
        start,
        free_from,
        covered: free_from.abs_diff(start),
        spells: 1,
    }
}

#[inline]
fn joins(episode: &Episode, start: i32, gap: u32) -> bool {
    episode.free_from.saturating_add_unsigned(gap) >= start
}

#[inline]
fn extend(episode: &mut Episode, start: i32, free_from: i32) {
    episode.spells = episode.spells.saturating_add(1);
    if free_from > episode.free_from {
        episode.covered = episode
            .covered
            .saturating_add(free_from.abs_diff(start.max(episode.free_from)));
        episode.free_from = free_from;
    }
}

/// The episodes of sorted spells in one go; `groups` as in [`EpisodeSweep::new`].
pub fn episodes(
    spells: &Spells<'_>,
    rule: EpisodeRule,
    groups: Option<u32>,
) -> Result<Vec<Episode>> {
    let mut sweep = EpisodeSweep::new(rule, groups);
    sweep.push(spells)?;
    Ok(sweep.finish())
}

/// The episodes of parts that were split between persons, given in any order.
pub fn concatenate(mut parts: Vec<Vec<Episode>>) -> Result<Vec<Episode>> {
    parts.retain(|part| !part.is_empty());
    parts.sort_by_key(|part| part.first().map(|episode| episode.person));
    let mut whole: Vec<Episode> = Vec::with_capacity(parts.iter().map(Vec::len).sum());
    for part in parts {
        let (last, first) = (whole.last(), part.first());
        if let Some((last, first)) = last.zip(first)
            && last.person >= first.person
        {
            return exec_err!(
                "two parts of the spells overlap: parts are split between persons, in order"
            );
        }
        whole.extend(part);
    }
    Ok(whole)
}

/// Days of care by code and period being counted.
#[derive(Debug, Clone)]
pub struct CareDays {
    last_day: LastDay,
    boundaries: Boundaries,
    codes: usize,
    /// For each code and then the total, by period: days of spells that begin or end in it.
    partial: Vec<i64>,
    /// Likewise: how many spells more cover the whole period than cover the one before.
    change: Vec<i64>,
    /// For each code and then the total: the last person seen in it, counted from 1, and the first
    /// day that is not counted yet.
    counted: Vec<(u64, i32)>,
    persons: u64,
    last: Option<(u32, i32)>,
    /// First and last person of each part, by first.
    ranges: Vec<(u32, u32)>,
    rows: u64,
}

impl CareDays {
    /// Nothing counted yet, for codes from 0 to below `codes`.
    pub fn new(boundaries: &[i32], codes: u32, last_day: LastDay) -> Result<Self> {
        let boundaries = Boundaries::new(boundaries)?;
        let codes = codes as usize;
        let Some(cells) = (codes + 1).checked_mul(boundaries.periods()) else {
            return exec_err!(
                "{codes} codes in {} periods are too many",
                boundaries.periods()
            );
        };
        Ok(Self {
            last_day,
            boundaries,
            codes,
            partial: vec![0; cells],
            change: vec![0; cells],
            counted: vec![(0, 0); codes + 1],
            persons: 0,
            last: None,
            ranges: Vec::new(),
            rows: 0,
        })
    }

    /// Counts the next spells. After an error the days are not to be used.
    pub fn add(&mut self, spells: &Spells<'_>) -> Result<()> {
        spells.check_lengths()?;
        for (person, start, end, code) in spells.rows() {
            let row = self.rows;
            self.rows += 1;
            let Some(free_from) = self.last_day.free_from(start, end) else {
                return ends_early(row);
            };
            match self.last {
                Some(last) if last > (person, start) => return out_of_order(row),
                Some((last, _)) if last == person => {}
                _ => self.next_person(person)?,
            }
            self.last = Some((person, start));
            if code as usize >= self.codes {
                return exec_err!("spell {row} has code {code} of {}", self.codes);
            }
            self.count(code as usize, start, free_from);
            self.count(self.codes, start, free_from);
        }
        if let Some(((last, _), range)) = self.last.zip(self.ranges.last_mut()) {
            range.1 = last;
        }
        Ok(())
    }

    /// Adds the days of another part, of other persons.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        let same = self.boundaries == other.boundaries
            && self.codes == other.codes
            && self.last_day == other.last_day;
        if !same {
            return exec_err!("days of different periods, codes or rules cannot be merged");
        }
        self.ranges.extend(&other.ranges);
        self.ranges.sort_unstable();
        if self.ranges.windows(2).any(|two| match two {
            [(_, last), (first, _)] => last >= first,
            _ => false,
        }) {
            return exec_err!(
                "two parts of the spells overlap: parts are split between persons, in order"
            );
        }
        for (sum, days) in self.partial.iter_mut().zip(&other.partial) {
            *sum += days;
        }
        for (sum, days) in self.change.iter_mut().zip(&other.change) {
            *sum += days;
        }
        // What was counted belongs to a person of one part; no part goes on after merging.
        self.counted.fill((0, 0));
        self.last = None;
        Ok(())
    }

    /// Days of a code by period; `None` for a code that does not exist.
    pub fn of_code(&self, code: u32) -> Option<Vec<i64>> {
        ((code as usize) < self.codes).then(|| self.row(code as usize))
    }

    /// Days by period, each day of a person once.
    pub fn total(&self) -> Vec<i64> {
        self.row(self.codes)
    }

    fn next_person(&mut self, person: u32) -> Result<()> {
        self.persons += 1;
        if self.last.is_none() {
            if self.ranges.iter().any(|(_, last)| *last >= person) {
                return exec_err!("spells cannot be added after parts of later persons");
            }
            self.ranges.push((person, person));
        }
        Ok(())
    }

    /// Counts the days of a spell that are not counted yet in a row of the table.
    #[inline]
    fn count(&mut self, row: usize, start: i32, free_from: i32) {
        let Some((seen, counted_to)) = self.counted.get_mut(row) else {
            return;
        };
        let from = if *seen == self.persons {
            start.max(*counted_to)
        } else {
            start
        };
        if *seen == self.persons && free_from <= *counted_to {
            return;
        }
        (*seen, *counted_to) = (self.persons, free_from);
        let Some(clipped) = self.boundaries.clip(from, free_from) else {
            return;
        };
        let cells = row * self.boundaries.periods();
        mark(&mut self.partial, &mut self.change, cells, &clipped);
    }

    fn row(&self, row: usize) -> Vec<i64> {
        let from = row * self.boundaries.periods();
        let partial = self.partial.iter().skip(from);
        sums(&self.boundaries, partial, self.change.iter().skip(from))
    }
}

/// Marks the days of a spell in the row of cells that begins at `cells`.
#[inline]
pub(crate) fn mark(partial: &mut [i64], change: &mut [i64], cells: usize, clipped: &Clipped) {
    let Clipped {
        first,
        in_first,
        last,
        in_last,
    } = *clipped;
    if let Some(days) = partial.get_mut(cells + first) {
        *days += i64::from(in_first);
    }
    if first < last {
        if let Some(days) = partial.get_mut(cells + last) {
            *days += i64::from(in_last);
        }
        if let Some(more) = change.get_mut(cells + first + 1) {
            *more += 1;
        }
        if let Some(fewer) = change.get_mut(cells + last) {
            *fewer -= 1;
        }
    }
}

/// The days of each period, of marks that begin with its first.
pub(crate) fn sums<'a>(
    boundaries: &Boundaries,
    partial: impl Iterator<Item = &'a i64>,
    change: impl Iterator<Item = &'a i64>,
) -> Vec<i64> {
    let mut covering = 0;
    partial
        .zip(change)
        .zip(boundaries.lengths())
        .map(|((partial, change), length)| {
            covering += change;
            partial + covering * i64::from(length)
        })
        .collect()
}

/// Boundary days of periods, and the period of each day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Boundaries {
    days: Vec<i32>,
    first: i32,
    last: i32,
    /// The period of each day from the first; empty when the days are too many for a table.
    period: Vec<u16>,
}

/// The days of a spell inside the periods; `first` and `last` are numbers of periods.
pub(crate) struct Clipped {
    first: usize,
    in_first: u32,
    last: usize,
    in_last: u32,
}

/// Days in the table of periods: 179 years.
const MOST_DAYS: u32 = 1 << 16;

impl Boundaries {
    pub(crate) fn new(days: &[i32]) -> Result<Self> {
        let (Some(first), Some(last)) = (days.first().copied(), days.last().copied()) else {
            return exec_err!("periods need at least two boundary days");
        };
        if days.len() < 2 || !days.is_sorted_by(|a, b| a < b) {
            return exec_err!(
                "boundary days of periods must be at least two, each after the one before"
            );
        }
        let mut period = Vec::new();
        if last.abs_diff(first) <= MOST_DAYS {
            for (number, length) in lengths(days).enumerate() {
                period.extend(std::iter::repeat_n(number as u16, length as usize));
            }
        }
        Ok(Self {
            days: days.to_vec(),
            first,
            last,
            period,
        })
    }

    pub(crate) fn periods(&self) -> usize {
        self.days.len() - 1
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.days.capacity() * size_of::<i32>() + self.period.capacity() * size_of::<u16>()
    }

    /// The first day of each period, and the day after the last.
    pub(crate) fn days(&self) -> &[i32] {
        &self.days
    }

    /// The part of some days that lies within the boundaries, if there is one.
    #[inline]
    pub(crate) fn within(&self, from: i32, free_from: i32) -> Option<(i32, i32)> {
        let (from, free_from) = (from.max(self.first), free_from.min(self.last));
        (from < free_from).then_some((from, free_from))
    }

    fn lengths(&self) -> impl Iterator<Item = u32> {
        lengths(&self.days)
    }

    /// The period of a day that lies within the boundaries.
    #[inline]
    fn period_of(&self, day: i32) -> usize {
        match self.period.get(day.abs_diff(self.first) as usize) {
            Some(period) => *period as usize,
            None => self.days.partition_point(|begin| *begin <= day) - 1,
        }
    }

    #[inline]
    pub(crate) fn clip(&self, from: i32, free_from: i32) -> Option<Clipped> {
        let (from, free_from) = self.within(from, free_from)?;
        let (first, last) = (self.period_of(from), self.period_of(free_from - 1));
        let in_first = match self.days.get(first + 1) {
            Some(next) => free_from.min(*next).abs_diff(from),
            None => 0,
        };
        let in_last = self
            .days
            .get(last)
            .map_or(0, |day| free_from.abs_diff(*day));
        Some(Clipped {
            first,
            in_first,
            last,
            in_last,
        })
    }
}

fn lengths(days: &[i32]) -> impl Iterator<Item = u32> {
    days.windows(2).map(|two| match two {
        [from, to] => to.abs_diff(*from),
        _ => 0,
    })
}

/// Spells in order of person and start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SortedSpells {
    persons: Vec<u32>,
    starts: Vec<i32>,
    ends: Vec<i32>,
    codes: Option<Vec<u32>>,
}

impl SortedSpells {
    /// Copies spells into order. Ask [`Spells::is_sorted`] first where they may be in order already.
    pub fn of(spells: &Spells<'_>) -> Result<Self> {
        spells.check_lengths()?;
        let span = |least: u32, most: u32| u32::BITS - (most - least).leading_zeros();
        let (first_person, person_bits) = match bounds(spells.persons.iter().copied()) {
            Some((least, most)) => (least, span(least, most)),
            None => (0, 0),
        };
        let (first_start, start_bits) = match bounds(spells.starts.iter().map(|day| ordered(*day)))
        {
            Some((least, most)) => (least, span(least, most)),
            None => (0, 0),
        };
        let mut packed: Vec<Packed> = spells
            .rows()
            .map(|(person, start, end, code)| Packed {
                key: u64::from(person - first_person) << start_bits
                    | u64::from(ordered(start) - first_start),
                end,
                code,
            })
            .collect();
        radix_sort(&mut packed, person_bits + start_bits);
        let start_of = |key: u64| {
            let offset = key & ((1 << start_bits) - 1);
            unordered(offset as u32 + first_start)
        };
        Ok(Self {
            persons: packed
                .iter()
                .map(|spell| (spell.key >> start_bits) as u32 + first_person)
                .collect(),
            starts: packed.iter().map(|spell| start_of(spell.key)).collect(),
            ends: packed.iter().map(|spell| spell.end).collect(),
            codes: spells
                .codes
                .map(|_| packed.iter().map(|spell| spell.code).collect()),
        })
    }

    /// The columns.
    pub fn spells(&self) -> Spells<'_> {
        Spells {
            persons: &self.persons,
            starts: &self.starts,
            ends: &self.ends,
            codes: self.codes.as_deref(),
        }
    }
}

/// A spell whose person and start are packed so that keys order as spells do.
#[derive(Debug, Clone, Copy, Default)]
struct Packed {
    key: u64,
    end: i32,
    code: u32,
}

/// A day as an unsigned number of the same order.
fn ordered(day: i32) -> u32 {
    day as u32 ^ 1 << 31
}

fn unordered(day: u32) -> i32 {
    (day ^ 1 << 31) as i32
}

fn bounds(values: impl Iterator<Item = u32>) -> Option<(u32, u32)> {
    values.fold(None, |bounds, value| {
        let (least, most) = bounds.unwrap_or((value, value));
        Some((least.min(value), most.max(value)))
    })
}

/// Bits sorted by in one pass: the counts of a pass stay in the nearest cache.
const DIGIT: u32 = 11;

/// Sorts by the lowest `bits` of the key, least digit first; equal keys keep their order.
fn radix_sort(spells: &mut Vec<Packed>, bits: u32) {
    let mut other = vec![Packed::default(); spells.len()];
    for shift in (0..bits).step_by(DIGIT as usize) {
        let digit = |key: u64| (key >> shift) as usize & ((1 << DIGIT) - 1);
        let mut places = [0usize; 1 << DIGIT];
        for spell in spells.iter() {
            if let Some(count) = places.get_mut(digit(spell.key)) {
                *count += 1;
            }
        }
        let mut before = 0;
        for place in &mut places {
            before += std::mem::replace(place, before);
        }
        for spell in spells.iter() {
            let Some(place) = places.get_mut(digit(spell.key)) else {
                continue;
            };
            if let Some(slot) = other.get_mut(*place) {
                *slot = *spell;
            }
            *place += 1;
        }
        std::mem::swap(spells, &mut other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::laws;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    /// Person, start, end, code.
    type Row = (u32, i32, i32, u32);

    #[derive(Default)]
    struct Columns {
        persons: Vec<u32>,
        starts: Vec<i32>,
        ends: Vec<i32>,
        codes: Vec<u32>,
    }

    impl Columns {
        fn of(rows: &[Row]) -> Self {
            Self {
                persons: rows.iter().map(|row| row.0).collect(),
                starts: rows.iter().map(|row| row.1).collect(),
                ends: rows.iter().map(|row| row.2).collect(),
                codes: rows.iter().map(|row| row.3).collect(),
            }
        }

        fn spells(&self) -> Spells<'_> {
            Spells {
                persons: &self.persons,
                starts: &self.starts,
                ends: &self.ends,
                codes: Some(&self.codes),
            }
        }
    }

    const RULES: [LastDay; 2] = [LastDay::Counts, LastDay::DoesNotCount];
    /// A day after all days of the tests.
    const HORIZON: i32 = 200;

    fn days_of(row: &Row, last_day: LastDay) -> std::ops::Range<i32> {
        let (_, start, end, _) = *row;
        match (end, last_day) {
            (OPEN, _) => start..HORIZON,
            (end, LastDay::Counts) => start..end + 1,
            (end, LastDay::DoesNotCount) if end == start => start..start + 1,
            (end, LastDay::DoesNotCount) => start..end,
        }
    }

    /// Person, group, start, first free day, days (none while open), spells: from sets of days.
    type Plain = (u32, u32, i32, i32, Option<u32>, u32);

    fn naive_episodes(rows: &[Row], rule: EpisodeRule, grouped: bool) -> Vec<Plain> {
        let mut days: BTreeMap<(u32, u32), BTreeSet<i32>> = BTreeMap::new();
        let group = |row: &Row| if grouped { row.3 } else { 0 };
        for row in rows {
            let set = days.entry((row.0, group(row))).or_default();
            set.extend(days_of(row, rule.last_day));
        }
        let mut found = Vec::new();
        for ((person, code), days) in days {
            let days: Vec<i32> = days.into_iter().collect();
            for run in days.chunk_by(|a, b| b - a - 1 <= rule.gap as i32) {
                let (start, last) = (run[0], run[run.len() - 1]);
                let own = |row: &&Row| {
                    row.0 == person && group(row) == code && (start..=last).contains(&row.1)
                };
                let spells = rows.iter().filter(own);
                let open = spells.clone().any(|row| row.2 == OPEN);
                found.push((
                    person,
                    code,
                    start,
                    if open { OPEN } else { last + 1 },
                    (!open).then_some(run.len() as u32),
                    spells.count() as u32,
                ));
            }
        }
        found.sort_by_key(|episode| (episode.0, episode.2, episode.1));
        found
    }

    fn plain(episodes: &[Episode]) -> Vec<Plain> {
        episodes
            .iter()
            .map(|e| (e.person, e.group, e.start, e.free_from, e.days(), e.spells))
            .collect()
    }

    fn naive_days(rows: &[Row], boundaries: &[i32], last_day: LastDay) -> BTreeMap<u32, Vec<i64>> {
        let mut met = BTreeSet::new();
        for row in rows {
            // The total stands beside the codes, as code 9.
            for code in [row.3, 9] {
                met.extend(days_of(row, last_day).map(|day| (code, row.0, day)));
            }
        }
        let mut table: BTreeMap<u32, Vec<i64>> = BTreeMap::new();
        for (code, _, day) in met {
            let periods = table
                .entry(code)
                .or_insert_with(|| vec![0; boundaries.len() - 1]);
            for (period, two) in boundaries.windows(2).enumerate() {
                periods[period] += i64::from((two[0]..two[1]).contains(&day));
            }
        }
        table
    }

    fn rows() -> impl Strategy<Value = Vec<Row>> {
        let end = prop_oneof![9 => (0i32..14).prop_map(Some), 1 => Just(None)];
        let row = (0u32..6, 0i32..90, end, 0u32..3)
            .prop_map(|(p, start, end, code)| (p, start, end.map_or(OPEN, |n| start + n), code));
        prop::collection::vec(row, 0..60)
    }

    fn sorted(mut rows: Vec<Row>) -> Vec<Row> {
        rows.sort_by_key(|row| (row.0, row.1));
        rows
    }

    #[track_caller]
    fn check(last_day: LastDay, gap: u32, spells: &[(i32, i32)], expected: &[(i32, i32, u32)]) {
        let rows: Vec<Row> = spells
            .iter()
            .map(|(start, end)| (4, *start, *end, 0))
            .collect();
        let columns = Columns::of(&rows);
        let found = episodes(&columns.spells(), EpisodeRule { gap, last_day }, None).unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|e| (e.start, e.free_from, e.days().unwrap()))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn spells_that_overlap_or_touch_are_one_episode() {
        use LastDay::{Counts, DoesNotCount};
        check(Counts, 0, &[(3, 5), (4, 4), (5, 8)], &[(3, 9, 6)]);
        // Discharged on the 5th and taken in elsewhere on the same day.
        check(DoesNotCount, 0, &[(3, 5), (5, 8)], &[(3, 8, 5)]);
        check(Counts, 0, &[(3, 5), (6, 8)], &[(3, 9, 6)]);
        check(DoesNotCount, 0, &[(3, 5), (6, 8)], &[(3, 5, 2), (6, 8, 2)]);
        // A day in the gap joins and is no day of care.
        check(DoesNotCount, 1, &[(3, 5), (6, 8)], &[(3, 8, 4)]);
        check(Counts, 1, &[(3, 5), (8, 8)], &[(3, 6, 3), (8, 9, 1)]);
        check(Counts, 2, &[(3, 5), (8, 8)], &[(3, 9, 4)]);
    }

    #[test]
    fn a_spell_of_one_day_has_one_day_in_both_rules() {
        check(LastDay::Counts, 0, &[(7, 7)], &[(7, 8, 1)]);
        check(LastDay::DoesNotCount, 0, &[(7, 7)], &[(7, 8, 1)]);
    }

    #[test]
    fn an_open_spell_keeps_its_episode_open() {
        let columns = Columns::of(&[(1, 3, OPEN, 0), (1, 50, 60, 0), (2, 1, 2, 0)]);
        let rule = EpisodeRule {
            gap: 0,
            last_day: LastDay::Counts,
        };
        let found = episodes(&columns.spells(), rule, None).unwrap();
        assert_eq!(
            plain(&found),
            [(1, 0, 3, OPEN, None, 2), (2, 0, 1, 3, Some(2), 1)]
        );
        let mut days = CareDays::new(&[0, 10, 20], 1, LastDay::Counts).unwrap();
        days.add(&columns.spells()).unwrap();
        assert_eq!(days.total(), [7 + 2, 10]);
    }

    #[test]
    fn nulls_of_a_column_are_open_ends() {
        assert_eq!(
            ends_or_open(&Date32Array::from(vec![Some(4), None])).as_ref(),
            [4, OPEN]
        );
        let whole = Date32Array::from(vec![4, 5]);
        assert!(matches!(ends_or_open(&whole), Cow::Borrowed([4, 5])));
    }

    #[test]
    fn rows_that_cannot_be_counted_are_named() {
        for (rows, message) in [
            (vec![(2, 1, 1, 0), (1, 5, 5, 0)], "spell 1 comes too early"),
            (vec![(2, 5, 5, 0), (2, 4, 9, 0)], "spell 1 comes too early"),
            (vec![(2, 5, 4, 0)], "spell 0 ends before it starts"),
            (vec![(2, 5, 5, 0), (2, 5, 5, 3)], "spell 1 has"),
        ] {
            let columns = Columns::of(&rows);
            let rule = EpisodeRule {
                gap: 0,
                last_day: LastDay::Counts,
            };
            let error = episodes(&columns.spells(), rule, Some(3)).unwrap_err();
            assert!(error.to_string().contains(message), "{error}");
            if !message.ends_with("has") {
                let error = episodes(&columns.spells(), rule, None).unwrap_err();
                assert!(error.to_string().contains(message), "{error}");
            }
            let mut days = CareDays::new(&[0, 9], 3, LastDay::Counts).unwrap();
            let error = days.add(&columns.spells()).unwrap_err();
            assert!(error.to_string().contains(message), "{error}");
        }
        let ragged = Spells {
            persons: &[1],
            starts: &[1, 2],
            ends: &[1],
            codes: None,
        };
        assert!(SortedSpells::of(&ragged).is_err());
        for boundaries in [&[][..], &[3], &[3, 3], &[4, 3]] {
            assert!(CareDays::new(boundaries, 1, LastDay::Counts).is_err());
        }
    }

    #[test]
    fn days_far_outside_any_period_and_periods_of_many_years_are_no_trouble() {
        let rows = [
            (1, i32::MIN, i32::MIN + 1, 0),
            (1, -5, OPEN, 0),
            (2, OPEN, OPEN, 0),
        ];
        let columns = Columns::of(&rows);
        for last_day in RULES {
            let mut days = CareDays::new(&[-1_000_000, 0, 1_000_000], 1, last_day).unwrap();
            days.add(&columns.spells()).unwrap();
            assert_eq!(days.total(), [5, 1_000_000]);
            let mut whole = CareDays::new(&[i32::MIN, 0, OPEN], 1, last_day).unwrap();
            whole.add(&columns.spells()).unwrap();
            let short = if last_day == LastDay::Counts { 2 } else { 1 };
            assert_eq!(whole.total(), [short + 5, i64::from(OPEN)]);
        }
    }

    #[test]
    fn a_part_that_shares_a_person_is_refused() {
        let day = |person| Columns::of(&[(person, 1, 1, 0)]);
        let part = |person| {
            let mut part = CareDays::new(&[0, 9], 1, LastDay::Counts).unwrap();
            part.add(&day(person).spells()).unwrap();
            part
        };
        let mut first = part(3);
        first.merge(&part(5)).unwrap();
        assert!(first.clone().merge(&part(5)).is_err());
        assert!(first.clone().merge(&part(3)).is_err());
        assert!(first.clone().add(&day(4).spells()).is_err());
        first.add(&day(6).spells()).unwrap();
        first.merge(&part(4)).unwrap();
        assert_eq!(first.total(), [4]);
        let other = CareDays::new(&[0, 8], 1, LastDay::Counts).unwrap();
        assert!(first.merge(&other).is_err());

        let rule = EpisodeRule {
            gap: 0,
            last_day: LastDay::Counts,
        };
        let one = |person| episodes(&day(person).spells(), rule, None).unwrap();
        assert!(concatenate(vec![one(3), one(5), one(3)]).is_err());
    }

    proptest! {
        #![proptest_config(laws())]

        #[test]
        fn episodes_equal_runs_of_days(rows in rows(), gap in 0u32..6) {
            let rows = sorted(rows);
            let columns = Columns::of(&rows);
            for last_day in RULES {
                let rule = EpisodeRule { gap, last_day };
                for groups in [None, Some(3)] {
                    let found = episodes(&columns.spells(), rule, groups).unwrap();
                    prop_assert_eq!(
                        plain(&found),
                        naive_episodes(&rows, rule, groups.is_some())
                    );
                }
            }
        }

        #[test]
        fn days_equal_sets_of_days(
            rows in rows(),
            cuts in prop::collection::btree_set(-20i32..150, 2..9),
        ) {
            let rows = sorted(rows);
            let boundaries: Vec<i32> = cuts.into_iter().collect();
            for last_day in RULES {
                let mut days = CareDays::new(&boundaries, 3, last_day).unwrap();
                days.add(&Columns::of(&rows).spells()).unwrap();
                let expected = naive_days(&rows, &boundaries, last_day);
                let none = vec![0; boundaries.len() - 1];
                for code in 0..3 {
                    let of_code = days.of_code(code).unwrap();
                    prop_assert_eq!(&of_code, expected.get(&code).unwrap_or(&none));
                }
                prop_assert_eq!(&days.total(), expected.get(&9).unwrap_or(&none));
                prop_assert_eq!(days.of_code(3), None);
            }
        }

        #[test]
        fn parts_split_between_persons_give_the_whole(
            rows in rows(),
            cuts in prop::collection::btree_set(0u32..6, 0..4),
            gap in 0u32..4,
        ) {
            let rows = sorted(rows);
            let rule = EpisodeRule { gap, last_day: LastDay::DoesNotCount };
            let mut parts = vec![Vec::new(); cuts.len() + 1];
            for row in &rows {
                parts[cuts.iter().filter(|cut| **cut <= row.0).count()].push(*row);
            }
            for groups in [None, Some(3)] {
                let whole = episodes(&Columns::of(&rows).spells(), rule, groups).unwrap();
                let of_parts = parts
                    .iter()
                    .rev()
                    .map(|part| episodes(&Columns::of(part).spells(), rule, groups).unwrap())
                    .collect();
                prop_assert_eq!(concatenate(of_parts).unwrap(), whole);
            }
            let empty = CareDays::new(&[0, 31, 60, 91], 3, rule.last_day).unwrap();
            let mut whole = empty.clone();
            whole.add(&Columns::of(&rows).spells()).unwrap();
            let mut merged = empty.clone();
            for part in parts.iter().rev() {
                let mut own = empty.clone();
                own.add(&Columns::of(part).spells()).unwrap();
                merged.merge(&own).unwrap();
            }
            prop_assert_eq!(merged.total(), whole.total());
            for code in 0..3 {
                prop_assert_eq!(merged.of_code(code), whole.of_code(code));
            }
        }

        #[test]
        fn batches_of_any_size_give_the_whole(
            rows in rows(),
            size in 1usize..9,
            take in any::<bool>(),
        ) {
            let rows = sorted(rows);
            let rule = EpisodeRule { gap: 1, last_day: LastDay::Counts };
            for groups in [None, Some(3)] {
                let whole = episodes(&Columns::of(&rows).spells(), rule, groups).unwrap();
                let mut sweep = EpisodeSweep::new(rule, groups);
                let mut found = Vec::new();
                for batch in rows.chunks(size) {
                    sweep.push(&Columns::of(batch).spells()).unwrap();
                    if take {
                        found.extend(sweep.take_complete());
                    }
                }
                found.extend(sweep.finish());
                prop_assert_eq!(found, whole);
            }
            let mut whole = CareDays::new(&[0, 31, 60, 91], 3, rule.last_day).unwrap();
            let mut batched = whole.clone();
            whole.add(&Columns::of(&rows).spells()).unwrap();
            for batch in rows.chunks(size) {
                batched.add(&Columns::of(batch).spells()).unwrap();
            }
            prop_assert_eq!(batched.total(), whole.total());
        }

        #[test]
        fn rows_in_any_order_are_sorted_or_refused_and_never_counted_wrong(rows in rows()) {
            let columns = Columns::of(&rows);
            let spells = columns.spells();
            let rule = EpisodeRule { gap: 1, last_day: LastDay::Counts };
            prop_assert_eq!(spells.is_sorted(), episodes(&spells, rule, Some(3)).is_ok());
            prop_assert_eq!(spells.is_sorted(), episodes(&spells, rule, None).is_ok());
            let in_order = SortedSpells::of(&spells).unwrap();
            prop_assert!(in_order.spells().is_sorted());
            prop_assert_eq!(
                plain(&episodes(&in_order.spells(), rule, Some(3)).unwrap()),
                naive_episodes(&rows, rule, true)
            );
            // Rows of one person and start in the other order change nothing.
            let mut ties: Vec<Row> = rows.clone();
            ties.reverse();
            let ties = SortedSpells::of(&Columns::of(&ties).spells()).unwrap();
            prop_assert_eq!(
                episodes(&ties.spells(), rule, Some(3)).unwrap(),
                episodes(&in_order.spells(), rule, Some(3)).unwrap()
            );
        }

        #[test]
        fn sorting_is_right_for_any_numbers(
            rows in prop::collection::vec((any::<u32>(), any::<i32>(), any::<i32>(), any::<u32>()), 0..80),
        ) {
            let found = SortedSpells::of(&Columns::of(&rows).spells()).unwrap();
            let expected = sorted(rows);
            let expected = Columns::of(&expected);
            prop_assert_eq!(found.spells().persons, expected.persons);
            prop_assert_eq!(found.spells().starts, expected.starts);
            prop_assert_eq!(found.spells().ends, expected.ends);
            prop_assert_eq!(found.spells().codes, Some(expected.codes.as_slice()));
        }
    }
}
