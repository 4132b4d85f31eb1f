//! Person-time and head-count of spells by group and period: difference arrays, and
//! `person_days(first, last, weight, boundaries)`.
//!
//! A spell is a first day, a last day (inclusive; none while it is open) and a weight, such as
//! working time in basis points. Periods follow each other and are given by their boundaries:
//! period k is the days from bₖ up to, and not including, bₖ₊₁. Wanted are, for each group and
//! period, Σ days · weight, and how many spells, and what weight, cover the period's last day.
//!
//! A spell is not spread over its periods. It leaves two marks: in the period i of its first day
//! s, weight +w and days −w·(s − bᵢ), the days of the period before it; in the period j of the day
//! x after its last, weight −w and days +w·(x − bⱼ). With Cₖ the sum of the weight marks up to
//! period k, which is the weight on its last day, and Rₖ its days marks,
//! Σ days · weight in period k = Cₖ · (bₖ₊₁ − bₖ) + Rₖ (difference array or imos method: inclusive
//! prefix sums undo differences). Days before the window are cut off; a day after its end leaves
//! no mark.
//!
//! Time: O(1) a spell, O(groups · periods) at the end. Memory: 8 bytes · (1 + 3 · periods) a group
//! within the bound that the caller gives; beyond it only groups that occur are kept, found by
//! hashing, with the same results. Sums never wrap: they are exact to 128 bits. Spells that end
//! before they begin, that have no first day, or that lie outside the window add nothing and are
//! counted in the tally. A group that is not below the number of groups, or columns of unequal
//! length, are refused before anything is added. No spells give no groups; a group that has spells
//! has every period, with zeros. Merging adds element by element: order and number of parts do not
//! matter. Spells of one person that overlap count twice: merge them first where that is wrong.
//!
//! In SQL the group is that of `GROUP BY`, days are dates, and the boundaries a constant list of
//! them: `generate_series(DATE '2024-01-01', DATE '2025-01-01', INTERVAL '1 month')` makes twelve months.
//! The result is a list with a structure for each period (`period_start`, `person_days`,
//! `heads_at_end`, `weight_at_end`), for `unnest`. A null last day is an open spell; a spell with a
//! null first day or weight is left out; no spells in the window give null. A spell that ends
//! before it begins is an error, because a query has no tally to report it in. The state is
//! nothing for a group without spells, else a version, the number of periods, the number of
//! spells, and the marks of each period, as numbers of variable length.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryBuilder, BooleanArray, Date32Array, Int64Array, ListArray,
    RecordBatch, StructArray,
};
use arrow::buffer::{BooleanBuffer, NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Date32Type, Field, FieldRef, Fields, Int64Type, Schema};
use datafusion_common::{Result, ScalarValue, exec_err, plan_err, resources_err};
use datafusion_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, ColumnarValue, EmitTo, GroupsAccumulator,
    Signature, Volatility,
};

use crate::aggregate::only;
use crate::cell::InputType;
use crate::codes::{Codes, check_codes, check_length, with_codes};
use crate::dense_cube::check_parents;
use crate::refusal::refused;
use crate::sliding::refuse_to_slide;
use crate::sum_table::SumTable;
use crate::varint;

/// Marks of one period: spells, weight and days.
const MARKS: usize = 3;

/// Periods that follow each other without gaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Periods {
    boundaries: Vec<i32>,
    /// For each stretch of 2^shift days from the first boundary on, the period it begins in. No
    /// period is shorter than a stretch, so a stretch meets two periods at most.
    stretches: Vec<u32>,
    shift: u32,
}

impl Periods {
    /// Periods between boundary days: n + 1 ascending boundaries make n periods.
    pub fn new(boundaries: &[i32]) -> Result<Self> {
        /// Beyond this many stretches a search is as good.
        const STRETCHES: i64 = 1 << 20;
        let lengths = boundaries.windows(2).map(|pair| match pair {
            [from, to] => i64::from(*to) - i64::from(*from),
            _ => 0,
        });
        let Some(shortest) = lengths.min() else {
            return plan_err!("periods have two boundary days at least");
        };
        if shortest <= 0 {
            return plan_err!("the boundary days of periods must ascend");
        }
        let mut periods = Self {
            boundaries: boundaries.to_vec(),
            stretches: Vec::new(),
            shift: shortest.ilog2(),
        };
        let (start, end) = periods.window();
        if (end - start) >> periods.shift < STRETCHES {
            periods.stretches = (start..end)
                .step_by(1 << periods.shift)
                .map(|day| periods.search(day) as u32)
                .collect();
        }
        Ok(periods)
    }

    /// The number of periods.
    pub fn len(&self) -> usize {
        self.boundaries.len() - 1
    }

    /// Never true: there is one period at least.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The first day, and the day after the last.
    fn window(&self) -> (i64, i64) {
        let day = |boundary: Option<&i32>| boundary.copied().map_or(0, i64::from);
        (day(self.boundaries.first()), day(self.boundaries.last()))
    }

    fn search(&self, day: i64) -> usize {
        self.boundaries
            .partition_point(|boundary| i64::from(*boundary) <= day)
            .saturating_sub(1)
    }

    /// The period of a day inside the window, and how many days of it come before.
    #[inline]
    fn place(&self, start: i64, day: i64) -> (usize, i64) {
        let begins = |period: usize| self.boundaries.get(period).copied().map_or(0, i64::from);
        let period = match self.stretches.get(((day - start) >> self.shift) as usize) {
            Some(period) => {
                let period = *period as usize;
                period + usize::from(begins(period + 1) <= day)
            }
            None => self.search(day),
        };
        (period, day - begins(period))
    }

    fn lengths(&self) -> impl Iterator<Item = i64> + '_ {
        self.boundaries
            .iter()
            .zip(self.boundaries.iter().skip(1))
            .map(|(from, to)| i64::from(*to) - i64::from(*from))
    }
}

/// Spells to add, one per row.
#[derive(Debug, Clone, Copy)]
pub struct Spells<'a> {
    /// The group of each.
    pub groups: Codes<'a>,
    /// The first day.
    pub first: &'a [i32],
    /// Which first days are known; all when there is none.
    pub first_nulls: Option<&'a NullBuffer>,
    /// The last day, inclusive.
    pub last: &'a [i32],
    /// Which spells have ended; a null is an open spell. All have ended when there is none.
    pub last_nulls: Option<&'a NullBuffer>,
    /// The weight; 1 when there is none.
    pub weights: Option<&'a [i64]>,
    /// The spells that count; all when there is none.
    pub selection: Option<&'a BooleanBuffer>,
}

/// What became of the spells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpellTally {
    /// Spells with days inside the window.
    pub counted: u64,
    /// Spells wholly before or after it.
    pub outside: u64,
    /// Spells that end before they begin.
    pub reversed: u64,
    /// Spells without a first day.
    pub undated: u64,
}

/// What a group has in a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeriodTime {
    /// The group.
    pub group: u32,
    /// The period, from 0.
    pub period: u32,
    /// Σ days · weight.
    pub person_days: i128,
    /// Spells that cover the last day of the period.
    pub heads_at_end: u64,
    /// The weight of those spells.
    pub weight_at_end: i128,
}

/// Person-time being summed.
#[derive(Debug, Clone)]
pub struct PersonTime {
    periods: Periods,
    groups: u32,
    memory_bytes: usize,
    table: SumTable,
    tally: SpellTally,
}

impl PersonTime {
    /// No spells yet; an array of all groups is used when it takes no more than `memory_bytes`.
    pub fn new(periods: Periods, groups: u32, memory_bytes: usize) -> Self {
        let width = 1 + MARKS * periods.len();
        Self {
            table: SumTable::new(u64::from(groups), width, memory_bytes),
            periods,
            groups,
            memory_bytes,
            tally: SpellTally::default(),
        }
    }

    /// Adds spells. After an error none of them has been added, unless the error is that there
    /// are too many groups.
    pub fn add(&mut self, spells: &Spells<'_>) -> Result<()> {
        let rows = spells.groups.len();
        check_length("the first days", spells.first.len(), rows)?;
        check_length("the last days", spells.last.len(), rows)?;
        if let Some(weights) = spells.weights {
            check_length("the weights", weights.len(), rows)?;
        }
        for nulls in [spells.first_nulls, spells.last_nulls]
            .into_iter()
            .flatten()
        {
            check_length("the nulls of a day", nulls.len(), rows)?;
        }
        if let Some(selection) = spells.selection {
            check_length("the selection", selection.len(), rows)?;
        }
        check_codes("the group", spells.groups, self.groups, spells.selection)?;
        with_codes!(spells.groups, groups => match spells.weights {
            Some(weights) => self.add_each(spells, groups, |row| weights[row]),
            None => self.add_each(spells, groups, |_| 1),
        })
    }

    fn add_each<T: Copy + Into<u32>>(
        &mut self,
        spells: &Spells<'_>,
        groups: &[T],
        weight: impl Fn(usize) -> i64,
    ) -> Result<()> {
        let (start, end) = self.periods.window();
        let first_nulls = spells.first_nulls.filter(|nulls| nulls.null_count() > 0);
        let last_nulls = spells.last_nulls.filter(|nulls| nulls.null_count() > 0);
        let days = spells.first.iter().zip(spells.last);
        for (row, (group, (first, last))) in groups.iter().zip(days).enumerate() {
            if spells
                .selection
                .is_some_and(|selection| !selection.value(row))
            {
                continue;
            }
            if first_nulls.is_some_and(|nulls| nulls.is_null(row)) {
                self.tally.undated += 1;
                continue;
            }
            let first = i64::from(*first);
            let after = if last_nulls.is_some_and(|nulls| nulls.is_null(row)) {
                i64::MAX
            } else {
                i64::from(*last) + 1
            };
            if after <= first {
                self.tally.reversed += 1;
                continue;
            }
            if after <= start || first >= end {
                self.tally.outside += 1;
                continue;
            }
            self.tally.counted += 1;
            let weight = weight(row);
            let slot = self.table.slot(u64::from((*group).into()))?;
            let (period, before) = self.periods.place(start, first.max(start));
            self.table.bump(slot, 0, 1);
            self.mark(slot, period, 1, weight, before);
            if after < end {
                let (period, before) = self.periods.place(start, after);
                self.mark(slot, period, -1, weight, before);
            }
        }
        Ok(())
    }

    /// Leaves the marks of a beginning (`sign` 1) or an end (−1), `before` days into a period.
    #[inline]
    fn mark(&mut self, slot: u32, period: usize, sign: i64, weight: i64, before: i64) {
        let place = 1 + MARKS * period;
        self.table.bump(slot, place, sign);
        // The least number has no opposite among 64 bits, and a product may need more than those.
        match (weight.checked_mul(sign), weight.checked_mul(-sign * before)) {
            (Some(weight), Some(days)) => {
                self.table.bump(slot, place + 1, weight);
                self.table.bump(slot, place + 2, days);
            }
            _ => {
                let weight = i128::from(weight) * i128::from(sign);
                self.table.add(slot, place + 1, weight);
                self.table
                    .add(slot, place + 2, -weight * i128::from(before));
            }
        }
    }

    /// What became of the spells.
    pub fn tally(&self) -> SpellTally {
        self.tally
    }

    /// True when groups are found by their place and not by hashing.
    pub fn is_dense(&self) -> bool {
        self.table.is_dense()
    }

    /// Every period of every group that has spells in the window, by group and period.
    pub fn rows(&self) -> Result<Vec<PeriodTime>> {
        self.rows_of(&self.table.rows())
    }

    fn rows_of(&self, groups: &[(u64, u32)]) -> Result<Vec<PeriodTime>> {
        let mut rows = Vec::with_capacity(groups.len() * self.periods.len());
        for (group, slot) in groups.iter().copied() {
            let (mut heads, mut weight) = (0i128, 0i128);
            for (period, length) in self.periods.lengths().enumerate() {
                let place = 1 + MARKS * period;
                heads += self.table.value(slot, place);
                weight += self.table.value(slot, place + 1);
                let days = weight
                    .checked_mul(i128::from(length))
                    .and_then(|days| days.checked_add(self.table.value(slot, place + 2)));
                let Some(person_days) = days else {
                    return resources_err!("a sum of days and weights is beyond 128 bits");
                };
                rows.push(PeriodTime {
                    group: group as u32,
                    period: period as u32,
                    person_days,
                    heads_at_end: heads as u64,
                    weight_at_end: weight,
                });
            }
        }
        Ok(rows)
    }

    /// Adds what was summed from other spells over the same periods and groups.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        if self.periods != other.periods || self.groups != other.groups {
            return exec_err!("only person-time of the same periods and groups can be merged");
        }
        self.absorb(other, |group| group)
    }

    /// The same with groups replaced by their parents: `parents` has the parent of every group,
    /// below `groups`. Group 0, the unknown, stays the unknown.
    pub fn roll_up(&self, parents: &[u32], groups: u32) -> Result<Self> {
        check_parents(parents, self.groups, groups)?;
        let mut rolled = Self::new(self.periods.clone(), groups, self.memory_bytes);
        rolled.absorb(self, |group| {
            u64::from(parents.get(group as usize).copied().unwrap_or_default())
        })?;
        Ok(rolled)
    }

    fn absorb(&mut self, other: &Self, to: impl Fn(u64) -> u64) -> Result<()> {
        let SpellTally {
            counted,
            outside,
            reversed,
            undated,
        } = other.tally;
        self.table.absorb(&other.table, to)?;
        self.tally.counted += counted;
        self.tally.outside += outside;
        self.tally.reversed += reversed;
        self.tally.undated += undated;
        Ok(())
    }

    /// Bytes held on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.table.heap_bytes()
            + self.periods.boundaries.capacity() * size_of::<i32>()
            + self.periods.stretches.capacity() * size_of::<u32>()
    }
}

/// The version of the state of a group.
const VERSION: u8 = 1;

/// What the SQL aggregate needs of a sum whose groups are added as they come.
impl PersonTime {
    fn growing(periods: Periods) -> Self {
        let width = 1 + MARKS * periods.len();
        Self {
            table: SumTable::new(0, width, usize::MAX),
            periods,
            groups: 0,
            memory_bytes: usize::MAX,
            tally: SpellTally::default(),
        }
    }

    fn grow(&mut self, groups: usize) -> Result<()> {
        match u32::try_from(groups) {
            Ok(groups) if groups > self.groups => {
                self.groups = groups;
                self.table.grow(groups as usize);
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(_) => resources_err!("there are too many groups: group by less at once"),
        }
    }

    fn remove_first(&mut self, groups: usize) {
        self.groups = self.groups.saturating_sub(groups as u32);
        self.table.remove_first(groups);
    }

    fn encode(&self, group: u32, out: &mut Vec<u8>) {
        let spells = self.table.value(group, 0);
        if spells == 0 {
            return;
        }
        out.push(VERSION);
        varint::put(out, self.periods.len() as u128);
        for place in 0..1 + MARKS * self.periods.len() {
            varint::put_signed(out, self.table.value(group, place));
        }
    }

    fn merge_state(&mut self, group: u32, state: &[u8]) -> Result<()> {
        let Some((version, mut rest)) = state.split_first() else {
            return Ok(());
        };
        if *version != VERSION {
            return exec_err!("person-time has a state of an unknown version");
        }
        if varint::take(&mut rest) != Some(self.periods.len() as u128) {
            return exec_err!("only person-time of the same periods can be merged");
        }
        for place in 0..1 + MARKS * self.periods.len() {
            match varint::take_signed(&mut rest) {
                Some(mark) => self.table.add(group, place, mark),
                None => return exec_err!("person-time has a broken state"),
            }
        }
        if rest.is_empty() {
            Ok(())
        } else {
            exec_err!("person-time has a broken state")
        }
    }

    /// The lists of the first groups.
    fn lists(&self, groups: usize) -> Result<ListArray> {
        let mut found = self.table.rows();
        found.truncate(found.partition_point(|(group, _)| *group < groups as u64));
        let rows = self.rows_of(&found)?;
        // Offsets of a list are 32 bits.
        if rows.len() > i32::MAX as usize {
            return resources_err!("there are too many groups and periods: group by less at once");
        }
        let starts: Date32Array = rows
            .iter()
            .map(|row| self.periods.boundaries.get(row.period as usize).copied())
            .collect();
        let whole = |value: fn(&PeriodTime) -> Option<i64>| -> Result<ArrayRef> {
            let values: Option<Vec<i64>> = rows.iter().map(value).collect();
            match values {
                Some(values) => Ok(Arc::new(Int64Array::from(values))),
                None => exec_err!("the person-time of a group is beyond 64 bits"),
            }
        };
        let columns: Vec<ArrayRef> = vec![
            Arc::new(starts),
            whole(|row| i64::try_from(row.person_days).ok())?,
            whole(|row| i64::try_from(row.heads_at_end).ok())?,
            whole(|row| i64::try_from(row.weight_at_end).ok())?,
        ];
        let periods = StructArray::try_new(period_fields(), columns, None)?;
        let mut has_spells = vec![false; groups];
        for (group, _) in found {
            if let Some(has) = has_spells.get_mut(group as usize) {
                *has = true;
            }
        }
        let lengths = has_spells
            .iter()
            .map(|has| if *has { self.periods.len() } else { 0 });
        Ok(ListArray::try_new(
            period_item(),
            OffsetBuffer::from_lengths(lengths),
            Arc::new(periods),
            Some(NullBuffer::from(has_spells.clone())),
        )?)
    }

    /// Adds rows of the engine: days, weights and the boundaries again.
    fn add_columns(
        &mut self,
        values: &[ArrayRef],
        groups: &[u32],
        filter: Option<&BooleanArray>,
    ) -> Result<()> {
        let [first, last, weights, ..] = values else {
            return exec_err!("person_days was given {} columns", values.len());
        };
        let (Some(first), Some(last), Some(weights)) = (
            first.as_primitive_opt::<Date32Type>(),
            last.as_primitive_opt::<Date32Type>(),
            weights.as_primitive_opt::<Int64Type>(),
        ) else {
            return exec_err!("person_days takes two dates and a whole number");
        };
        let known = NullBuffer::union(first.nulls(), weights.nulls());
        let kept = filter.map(|filter| match filter.nulls() {
            Some(nulls) => filter.values() & nulls.inner(),
            None => filter.values().clone(),
        });
        let selection = match (known, kept) {
            (Some(known), Some(kept)) => Some(known.inner() & &kept),
            (Some(known), None) => Some(known.into_inner()),
            (None, kept) => kept,
        };
        self.add(&Spells {
            groups: Codes::U32(groups),
            first: first.values(),
            first_nulls: None,
            last: last.values(),
            last_nulls: last.nulls(),
            weights: Some(weights.values()),
            selection: selection.as_ref(),
        })?;
        if self.tally.reversed > 0 {
            return refused(
                "person_days: a spell ends before it begins; leave such spells out with FILTER \
                 (WHERE the last day is null or not before the first)",
            );
        }
        Ok(())
    }
}

/// The structure of one period in the result.
fn period_fields() -> Fields {
    Fields::from(vec![
        Field::new("period_start", DataType::Date32, true),
        Field::new("person_days", DataType::Int64, false),
        Field::new("heads_at_end", DataType::Int64, false),
        Field::new("weight_at_end", DataType::Int64, false),
    ])
}

fn period_item() -> FieldRef {
    Arc::new(Field::new_list_field(
        DataType::Struct(period_fields()),
        true,
    ))
}

pub(crate) fn aggregates() -> Vec<AggregateUDF> {
    vec![AggregateUDF::from(PersonDays {
        signature: Signature::user_defined(Volatility::Immutable),
    })]
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct PersonDays {
    signature: Signature,
}

impl PersonDays {
    /// The periods of a call, from the constant that is its last argument.
    fn periods(args: &AccumulatorArgs<'_>) -> Result<Periods> {
        if args.is_distinct {
            return plan_err!("person_days cannot be DISTINCT: every spell counts");
        }
        Periods::new(&boundary_days("person_days", args)?)
    }
}

/// The boundary days of a call of `function`, from the constant that is its last argument.
pub(crate) fn boundary_days(function: &str, args: &AccumulatorArgs<'_>) -> Result<Vec<i32>> {
    let nothing = RecordBatch::new_empty(Arc::new(Schema::empty()));
    let constant = args
        .exprs
        .last()
        .and_then(|boundaries| boundaries.evaluate(&nothing).ok());
    let Some(ColumnarValue::Scalar(ScalarValue::List(list))) = constant else {
        return plan_err!(
            "the boundaries of {function} must be a constant list of dates, such as \
             generate_series(DATE '2024-01-01', DATE '2025-01-01', INTERVAL '1 month')"
        );
    };
    listed_days(function, &list)
}

/// The boundary days in the constant of a call.
pub(crate) fn listed_days(function: &str, list: &ListArray) -> Result<Vec<i32>> {
    match list.values().as_primitive_opt::<Date32Type>() {
        Some(days) if days.null_count() == 0 => Ok(days.values().to_vec()),
        _ => plan_err!("the boundaries of {function} must be dates without nulls"),
    }
}

/// Whether an argument is a list of dates.
pub(crate) fn lists_days(given: &DataType) -> bool {
    match given {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            *item.data_type() == DataType::Date32
        }
        _ => false,
    }
}

impl AggregateUDFImpl for PersonDays {
    fn name(&self) -> &str {
        "person_days"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let [first, last, weight, boundaries] = given else {
            return plan_err!(
                "person_days takes a first day, a last day, a weight and the boundary days of \
                 periods, not {} arguments",
                given.len()
            );
        };
        let is_day = |given: &DataType| matches!(given, DataType::Date32 | DataType::Null);
        if !is_day(first) || !is_day(last) {
            return plan_err!("person_days takes dates, not {first} and {last}");
        }
        if !InputType::Whole.accepts(weight) {
            return plan_err!("person_days takes a whole number as weight, not {weight}");
        }
        if !lists_days(boundaries) {
            return plan_err!("person_days takes a list of dates as boundaries, not {boundaries}");
        }
        Ok(vec![
            DataType::Date32,
            DataType::Date32,
            DataType::Int64,
            DataType::new_list(DataType::Date32, true),
        ])
    }

    fn return_type(&self, _given: &[DataType]) -> Result<DataType> {
        Ok(DataType::List(period_item()))
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(DaysOfOne::new(Self::periods(&args)?)?))
    }

    fn create_sliding_accumulator(
        &self,
        _args: AccumulatorArgs<'_>,
    ) -> Result<Box<dyn Accumulator>> {
        refuse_to_slide("person_days")
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(
            format_state_name(args.name, "state"),
            DataType::Binary,
            false,
        ))])
    }

    fn groups_accumulator_supported(&self, _args: AccumulatorArgs<'_>) -> bool {
        true
    }

    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs<'_>,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(DaysOfGroups {
            time: PersonTime::growing(Self::periods(&args)?),
            groups: Vec::new(),
        }))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

/// All rows in one group.
#[derive(Debug)]
struct DaysOfOne {
    time: PersonTime,
    groups: Vec<u32>,
}

impl DaysOfOne {
    fn new(periods: Periods) -> Result<Self> {
        let mut time = PersonTime::growing(periods);
        time.grow(1)?;
        Ok(Self {
            time,
            groups: Vec::new(),
        })
    }
}

impl Accumulator for DaysOfOne {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let rows = values.first().map_or(0, |column| column.len());
        self.groups.resize(rows, 0);
        self.time.add_columns(values, &self.groups, None)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::List(Arc::new(self.time.lists(1)?)))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.time.heap_bytes() + self.groups.capacity() * size_of::<u32>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let mut bytes = Vec::new();
        self.time.encode(0, &mut bytes);
        Ok(vec![ScalarValue::Binary(Some(bytes))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for state in only(states)?.as_binary::<i32>().iter().flatten() {
            self.time.merge_state(0, state)?;
        }
        Ok(())
    }
}

/// The column of states being written.
#[derive(Default)]
struct States {
    builder: BinaryBuilder,
    bytes: Vec<u8>,
    total: usize,
}

impl States {
    /// Writes the states of the first groups and removes them.
    fn give_out(&mut self, time: &mut PersonTime, groups: usize) -> Result<()> {
        for group in 0..groups {
            self.bytes.clear();
            time.encode(group as u32, &mut self.bytes);
            self.total += self.bytes.len();
            // Offsets of a column are 32 bits.
            if self.total > i32::MAX as usize {
                return resources_err!(
                    "the states of one batch of groups take more than 2 GiB: group by less at once"
                );
            }
            self.builder.append_value(&self.bytes);
        }
        time.remove_first(groups);
        Ok(())
    }

    fn finish(mut self) -> ArrayRef {
        Arc::new(self.builder.finish())
    }
}

struct DaysOfGroups {
    time: PersonTime,
    groups: Vec<u32>,
}

impl DaysOfGroups {
    /// How many groups are to be given out.
    fn wanted(&self, emit_to: EmitTo) -> usize {
        match emit_to {
            EmitTo::All => self.time.groups as usize,
            EmitTo::First(groups) => groups,
        }
    }
}

impl GroupsAccumulator for DaysOfGroups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.time.grow(total_num_groups)?;
        self.groups.clear();
        self.groups
            .extend(group_indices.iter().map(|group| *group as u32));
        self.time.add_columns(values, &self.groups, opt_filter)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let groups = self.wanted(emit_to);
        let lists = self.time.lists(groups)?;
        self.time.remove_first(groups);
        Ok(Arc::new(lists))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let mut states = States::default();
        let groups = self.wanted(emit_to);
        states.give_out(&mut self.time, groups)?;
        Ok(vec![states.finish()])
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        self.time.grow(total_num_groups)?;
        let states = only(values)?.as_binary::<i32>();
        for (state, group) in states.iter().zip(group_indices) {
            if let Some(state) = state {
                self.time.merge_state(*group as u32, state)?;
            }
        }
        Ok(())
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        opt_filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        /// Rows at a time: each is a group with all its periods.
        const BLOCK: usize = 256;
        let rows = values.first().map_or(0, |column| column.len());
        let mut time = PersonTime::growing(self.time.periods.clone());
        let groups: Vec<u32> = (0..BLOCK as u32).collect();
        let mut states = States::default();
        for from in (0..rows).step_by(BLOCK) {
            let count = BLOCK.min(rows - from);
            let values: Vec<ArrayRef> = values
                .iter()
                .map(|column| column.slice(from, count))
                .collect();
            let filter = opt_filter.map(|filter| filter.slice(from, count));
            time.grow(count)?;
            time.add_columns(
                &values,
                groups.get(..count).unwrap_or_default(),
                filter.as_ref(),
            )?;
            states.give_out(&mut time, count)?;
        }
        Ok(vec![states.finish()])
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.time.heap_bytes() + self.groups.capacity() * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::testing::{check_accumulators, laws, numbers};

    #[derive(Debug, Clone, Copy)]
    struct Spell {
        group: u8,
        first: Option<i32>,
        last: Option<i32>,
        weight: i64,
        selected: bool,
    }

    const GROUPS: u32 = 5;

    fn summed(boundaries: &[i32], spells: &[Spell], memory_bytes: usize) -> PersonTime {
        let periods = Periods::new(boundaries).unwrap();
        let mut time = PersonTime::new(periods, GROUPS, memory_bytes);
        let groups: Vec<u8> = spells.iter().map(|spell| spell.group).collect();
        let first: Vec<i32> = spells
            .iter()
            .map(|spell| spell.first.unwrap_or(5))
            .collect();
        let last: Vec<i32> = spells
            .iter()
            .map(|spell| spell.last.unwrap_or(-5))
            .collect();
        let weights: Vec<i64> = spells.iter().map(|spell| spell.weight).collect();
        let first_nulls: NullBuffer = spells.iter().map(|spell| spell.first.is_some()).collect();
        let last_nulls: NullBuffer = spells.iter().map(|spell| spell.last.is_some()).collect();
        let selection: BooleanBuffer = spells.iter().map(|spell| spell.selected).collect();
        time.add(&Spells {
            groups: Codes::U8(&groups),
            first: &first,
            first_nulls: Some(&first_nulls),
            last: &last,
            last_nulls: Some(&last_nulls),
            weights: Some(&weights),
            selection: Some(&selection),
        })
        .unwrap();
        time
    }

    /// The definition itself: every day of every spell looked at.
    fn naive(boundaries: &[i32], spells: &[Spell]) -> (Vec<PeriodTime>, SpellTally) {
        let mut found: BTreeMap<u8, Vec<PeriodTime>> = BTreeMap::new();
        let mut tally = SpellTally::default();
        let window = boundaries[0]..boundaries[boundaries.len() - 1];
        for spell in spells.iter().filter(|spell| spell.selected) {
            let Some(first) = spell.first else {
                tally.undated += 1;
                continue;
            };
            if spell.last.is_some_and(|last| last < first) {
                tally.reversed += 1;
                continue;
            }
            let covers = |day: i32| day >= first && spell.last.is_none_or(|last| day <= last);
            if !window.clone().any(covers) {
                tally.outside += 1;
                continue;
            }
            tally.counted += 1;
            let periods = found.entry(spell.group).or_insert_with(|| {
                (0..boundaries.len() - 1)
                    .map(|period| PeriodTime {
                        group: u32::from(spell.group),
                        period: period as u32,
                        person_days: 0,
                        heads_at_end: 0,
                        weight_at_end: 0,
                    })
                    .collect()
            });
            for (period, days) in periods.iter_mut().zip(boundaries.windows(2)) {
                let covered = (days[0]..days[1]).filter(|day| covers(*day)).count();
                period.person_days += covered as i128 * i128::from(spell.weight);
                if covers(days[1] - 1) {
                    period.heads_at_end += 1;
                    period.weight_at_end += i128::from(spell.weight);
                }
            }
        }
        (found.into_values().flatten().collect(), tally)
    }

    fn spell() -> impl Strategy<Value = Spell> {
        let day = || proptest::option::weighted(0.9, -60i32..160);
        let weight = prop_oneof![
            6 => 0i64..=10_000,
            1 => prop_oneof![Just(i64::MAX), Just(i64::MIN), any::<i64>()],
        ];
        (0u8..5, day(), day(), weight, proptest::bool::weighted(0.9)).prop_map(
            |(group, first, last, weight, selected)| Spell {
                group,
                first,
                last,
                weight,
                selected,
            },
        )
    }

    fn boundaries() -> impl Strategy<Value = Vec<i32>> {
        (
            -20i32..20,
            proptest::collection::vec(prop_oneof![1i32..40, 28i32..32], 1..8),
        )
            .prop_map(|(start, lengths)| {
                let mut boundaries = vec![start];
                boundaries.extend(lengths.iter().scan(start, |day, length| {
                    *day += length;
                    Some(*day)
                }));
                boundaries
            })
    }

    proptest! {
        #![proptest_config(laws())]

        #[test]
        fn dense_and_hashed_groups_in_any_parts_equal_counting_every_day(
            boundaries in boundaries(),
            spells in proptest::collection::vec(spell(), 0..60),
            parts in 1usize..5,
        ) {
            let expected = naive(&boundaries, &spells);
            for memory_bytes in [usize::MAX, 0] {
                let whole = summed(&boundaries, &spells, memory_bytes);
                prop_assert_eq!(whole.is_dense(), memory_bytes > 0);
                prop_assert_eq!(&(whole.rows().unwrap(), whole.tally()), &expected);

                let mut merged = summed(&boundaries, &[], memory_bytes);
                for part in (0..parts).rev() {
                    let mut own: Vec<Spell> =
                        spells.iter().skip(part).step_by(parts).copied().collect();
                    own.reverse();
                    merged.merge(&summed(&boundaries, &own, part % 2)).unwrap();
                }
                prop_assert_eq!(&(merged.rows().unwrap(), merged.tally()), &expected);
            }
        }

        #[test]
        fn rolling_up_the_merged_equals_merging_the_rolled_up(
            boundaries in boundaries(),
            left in proptest::collection::vec(spell(), 0..30),
            right in proptest::collection::vec(spell(), 0..30),
            parents in proptest::collection::vec(0u32..3, GROUPS as usize),
        ) {
            let mut parents = parents;
            parents[0] = 0;
            let rolled = |spells: &[Spell]| {
                summed(&boundaries, spells, usize::MAX).roll_up(&parents, 3).unwrap()
            };
            let mut merged = rolled(&left);
            merged.merge(&rolled(&right)).unwrap();

            let mut all: Vec<Spell> = left.iter().chain(&right).copied().collect();
            prop_assert_eq!(merged.rows().unwrap(), rolled(&all).rows().unwrap());
            for spell in &mut all {
                spell.group = parents[usize::from(spell.group)] as u8;
            }
            prop_assert_eq!(merged.rows().unwrap(), naive(&boundaries, &all).0);
        }
    }

    /// One spell of weight 1 over the months of 2024, as days since its first.
    #[track_caller]
    fn check(first: i32, last: Option<i32>, expected: &[(usize, i128, u64)]) {
        let boundaries: Vec<i32> =
            [0, 31, 60, 91, 121, 152, 182, 213, 244, 274, 305, 335, 366].into();
        let spell = Spell {
            group: 1,
            first: Some(first),
            last,
            weight: 1,
            selected: true,
        };
        let found: Vec<(usize, i128, u64)> = summed(&boundaries, &[spell], usize::MAX)
            .rows()
            .unwrap()
            .iter()
            .filter(|row| row.person_days != 0)
            .map(|row| (row.period as usize, row.person_days, row.heads_at_end))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_spell_gives_its_days_to_each_month_it_touches() {
        check(10, Some(10), &[(0, 1, 0)]);
        check(30, Some(30), &[(0, 1, 1)]);
        check(30, Some(31), &[(0, 1, 1), (1, 1, 0)]);
        check(31, Some(59), &[(1, 29, 1)]);
        check(
            20,
            Some(100),
            &[(0, 11, 1), (1, 29, 1), (2, 31, 1), (3, 10, 0)],
        );
        check(-500, Some(0), &[(0, 1, 0)]);
        check(365, Some(9_999), &[(11, 1, 1)]);
        check(365, None, &[(11, 1, 1)]);
        check(334, None, &[(10, 1, 1), (11, 31, 1)]);
        check(366, None, &[]);
        check(i32::MIN, Some(-1), &[]);
        check(i32::MIN, Some(i32::MIN), &[]);
        check(i32::MAX, Some(i32::MAX), &[]);
        check(5, Some(4), &[]);
    }

    #[test]
    fn a_reversed_spell_is_reported_and_adds_nothing() {
        let spells = [Spell {
            group: 2,
            first: Some(8),
            last: Some(7),
            weight: 1,
            selected: true,
        }];
        let time = summed(&[0, 10], &spells, usize::MAX);
        assert_eq!(time.rows().unwrap(), []);
        assert_eq!(
            time.tally(),
            SpellTally {
                reversed: 1,
                ..SpellTally::default()
            }
        );
    }

    #[test]
    fn no_spells_give_no_groups() {
        let time = summed(&[0, 10], &[], usize::MAX);
        assert_eq!(time.rows().unwrap(), []);
        assert_eq!(time.tally(), SpellTally::default());
    }

    #[test]
    fn a_window_of_all_days_is_searched() {
        let periods = Periods::new(&[i32::MIN, 0, 1, i32::MAX]).unwrap();
        assert!(periods.stretches.is_empty());
        for (day, period) in [(i32::MIN, 0), (-1, 0), (0, 1), (1, 2), (i32::MAX - 1, 2)] {
            assert_eq!(periods.place(i64::from(i32::MIN), i64::from(day)).0, period);
        }
    }

    #[test]
    fn periods_that_cannot_be_are_refused() {
        assert!(Periods::new(&[]).is_err());
        assert!(Periods::new(&[1]).is_err());
        assert!(Periods::new(&[1, 1]).is_err());
        assert!(Periods::new(&[1, 3, 2]).is_err());
    }

    #[test]
    fn a_group_outside_is_refused_before_anything_is_added() {
        let mut time = PersonTime::new(Periods::new(&[0, 10]).unwrap(), 2, 1_024);
        let mut spells = Spells {
            groups: Codes::U32(&[1, 2]),
            first: &[1, 1],
            first_nulls: None,
            last: &[3, 3],
            last_nulls: None,
            weights: None,
            selection: None,
        };
        assert!(time.add(&spells).is_err());
        assert_eq!(time.rows().unwrap(), []);
        spells.first = &[1];
        assert!(time.add(&spells).is_err());
        spells.groups = Codes::U32(&[1]);
        spells.last = &[3];
        time.add(&spells).unwrap();
        assert_eq!(time.rows().unwrap()[0].person_days, 3);
        let other = PersonTime::new(Periods::new(&[0, 11]).unwrap(), 2, 1_024);
        assert!(time.merge(&other).is_err());
    }

    /// The columns that SQL gives for spells, the constant one left out.
    fn sql_columns(spells: &[Spell]) -> Vec<ArrayRef> {
        let first: Date32Array = spells.iter().map(|spell| spell.first).collect();
        let last: Date32Array = spells.iter().map(|spell| spell.last).collect();
        let weights: Int64Array = spells
            .iter()
            .map(|spell| (spell.weight != 0).then_some(spell.weight))
            .collect();
        vec![Arc::new(first), Arc::new(last), Arc::new(weights)]
    }

    #[test]
    fn grouped_filtered_spilled_and_emitted_in_parts_the_result_is_the_same() {
        let boundaries = [0, 31, 60, 91];
        let mut drawn = numbers(8_000, 1 << 40);
        let mut draw = |bound: u64| drawn.next().unwrap() % bound;
        let spells: Vec<Spell> = (0..1_000)
            .map(|_| {
                let first = draw(120) as i32 - 20;
                let length = draw(60) as i32;
                Spell {
                    group: draw(5) as u8,
                    first: (draw(9) != 0).then_some(first),
                    last: (draw(5) != 0).then_some(first + length),
                    // In SQL a null weight; 0 stands for it here.
                    weight: draw(4) as i64 * 2_500,
                    selected: draw(6) != 0,
                }
            })
            .collect();
        // Group 5 and 6 have no spells, and group 0 none that counts.
        let total = 7;
        let groups: Vec<usize> = spells
            .iter()
            .map(|spell| usize::from(spell.group))
            .collect();
        let filter: BooleanArray = spells
            .iter()
            .map(|spell| match (spell.selected, spell.group) {
                (true, group) => Some(group != 0),
                (false, group) => (group % 2 == 0).then_some(false),
            })
            .collect();
        let periods = Periods::new(&boundaries).unwrap();
        let found = check_accumulators(
            &|| {
                Box::new(DaysOfGroups {
                    time: PersonTime::growing(periods.clone()),
                    groups: Vec::new(),
                })
            },
            &|| Box::new(DaysOfOne::new(periods.clone()).unwrap()),
            &ScalarValue::new_null_list(DataType::Struct(period_fields()), true, 1),
            &sql_columns(&spells),
            &groups,
            &filter,
            total,
        );

        let counted: Vec<Spell> = spells
            .iter()
            .filter(|spell| spell.weight != 0 && spell.group != 0)
            .copied()
            .collect();
        let (expected, _) = naive(&boundaries, &counted);
        let lists = found.as_list::<i32>();
        let mut rows = expected.iter();
        for group in 0..total {
            if lists.is_null(group) {
                assert!(!expected.iter().any(|row| row.group as usize == group));
                continue;
            }
            let list = lists.value(group);
            let columns = list.as_struct().columns();
            let whole = |column: usize, row: usize| {
                i128::from(columns[column].as_primitive::<Int64Type>().value(row))
            };
            for (period, start) in boundaries.iter().take(3).enumerate() {
                let row = rows.next().unwrap();
                assert_eq!(
                    columns[0].as_primitive::<Date32Type>().value(period),
                    *start
                );
                assert_eq!(row.group as usize, group);
                assert_eq!(whole(1, period), row.person_days);
                assert_eq!(whole(2, period), i128::from(row.heads_at_end));
                assert_eq!(whole(3, period), row.weight_at_end);
            }
        }
        assert!(rows.next().is_none());
        assert_eq!(lists.null_count(), 3);
    }

    #[test]
    fn in_sql_a_reversed_spell_and_a_sum_beyond_64_bits_are_errors() {
        let spell = |first, last, weight| Spell {
            group: 0,
            first: Some(first),
            last: Some(last),
            weight,
            selected: true,
        };
        let one = |spells: &[Spell]| {
            let mut one = DaysOfOne::new(Periods::new(&[0, 10]).unwrap()).unwrap();
            one.update_batch(&sql_columns(spells))
                .and_then(|()| one.evaluate())
        };
        let error = one(&[spell(5, 4, 1)]).unwrap_err().strip_backtrace();
        assert!(error.contains("ends before it begins"), "{error}");
        let error = one(&[spell(0, 9, i64::MAX)]).unwrap_err().strip_backtrace();
        assert!(error.contains("beyond 64 bits"), "{error}");
        assert!(one(&[spell(0, 9, i64::MAX), spell(0, 9, 1 - i64::MAX)]).is_ok());
    }

    #[test]
    fn states_are_canonical_and_others_are_refused() {
        let spells = |last: i32| {
            let spell = Spell {
                group: 0,
                first: Some(3),
                last: Some(last),
                weight: -7,
                selected: true,
            };
            let mut one = DaysOfOne::new(Periods::new(&[0, 10, 20]).unwrap()).unwrap();
            one.update_batch(&sql_columns(&[spell, spell])).unwrap();
            one
        };
        let mut one = spells(14);
        let mut bytes = Vec::new();
        one.time.encode(0, &mut bytes);
        // Version, 2 periods, 2 spells; then spells, weight and days of either period, folded.
        assert_eq!(bytes, [1, 2, 4, 4, 27, 84, 3, 28, 139, 1]);
        for broken in [
            &bytes[..9],
            &[bytes.as_slice(), &[0]].concat(),
            &[2],
            &[1, 3],
        ] {
            assert!(one.time.merge_state(0, broken).is_err());
        }
        let mut empty = spells(14);
        empty.time.remove_first(1);
        empty.time.grow(1).unwrap();
        empty.time.merge_state(0, &[]).unwrap();
        assert!(empty.evaluate().unwrap().is_null());
        empty.time.merge_state(0, &bytes).unwrap();
        assert_eq!(empty.evaluate().unwrap(), spells(14).evaluate().unwrap());
    }
}
