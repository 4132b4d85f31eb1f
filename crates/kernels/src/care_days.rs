//! Days of care of persons by group and period, in SQL: `care_days(person, first, last, boundaries)`.
//!
//! A spell of a person covers the days from its first to its last, both included. A day of a person
//! counts once in a group, however many spells of the group cover it; in another group it counts
//! again. Periods follow each other and are given by a constant list of boundary days, as in
//! `person_days`; the arithmetic is that of `episodes.rs`.
//!
//! A person is a pseudonym of 16 bytes; one of another width is an error. A null last day is an open
//! spell, which covers every day to the end of the window. Rows with a null person are left out, as
//! `count(DISTINCT person)` does, and so are rows with a null first day. A spell that ends before it
//! begins is an error. The result is a list with a structure for each period (`period_start`,
//! `care_days`), zeros included, for `unnest`; it is null for a group without spells in the window.
//!
//! Days outside the window are cut off when a row comes in, and what is left is kept: nothing can be
//! summed before all spells of a person are there. A group's spells stand in the bytes that are its
//! state: nothing for a group without spells, else a version and 24 bytes a spell (the person, the
//! first day, the day after the last). Merging puts bytes after bytes, so that order and number of
//! parts do not matter. At the end the spells of a group are dealt into buckets by person, about four
//! to a bucket, and each bucket is sorted by person and day: pseudonyms are digests and spread
//! evenly, so that this takes linear time; others only take longer (n log n). Memory: 24 bytes a
//! spell, twice that for the group being counted.
//!
//! The optimiser takes the boundaries out of the arguments ([`AggregateUDFImpl::simplify`]), because
//! the engine would write the list out again for every row. A state is personal data.

use std::borrow::Borrow;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Date32Array, Int64Array, LargeBinaryArray, ListArray,
    StructArray,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Date32Type, Field, FieldRef, Fields};
use datafusion_common::{Result, ScalarValue, exec_err, plan_err, resources_err};
use datafusion_expr::expr::AggregateFunction;
use datafusion_expr::function::{
    AccumulatorArgs, AggregateFunctionSimplification, StateFieldsArgs,
};
use datafusion_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, Expr, GroupsAccumulator, Signature,
    Volatility,
};

use crate::aggregate::only;
use crate::cells::member_hash;
use crate::episodes::{Boundaries, LastDay, OPEN, mark, sums};
use crate::person_time::{boundary_days, listed_days, lists_days};
use crate::refusal::refused;
use crate::sliding::refuse_to_slide;

const NAME: &str = "care_days";
/// Bytes of a pseudonym.
const WIDTH: usize = 16;
/// Bytes of a spell in a state.
const SPELL: usize = WIDTH + 2 * size_of::<i32>();
/// The version of the state of a group.
const VERSION: u8 = 1;
/// Spells in a bucket, on average.
const IN_BUCKET: usize = 4;

/// A spell inside the window: a person, the first day and the day after the last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Spell {
    /// In two halves, so that a spell takes no more room than its bytes.
    person: [u64; 2],
    from: i32,
    free_from: i32,
}

impl Spell {
    fn write(person: [u8; WIDTH], from: i32, free_from: i32) -> [u8; SPELL] {
        let mut bytes = [0; SPELL];
        let days = [from.to_le_bytes(), free_from.to_le_bytes()];
        let written = person.iter().chain(days.as_flattened());
        for (byte, written) in bytes.iter_mut().zip(written) {
            *byte = *written;
        }
        bytes
    }

    #[inline]
    fn read(bytes: &[u8; SPELL]) -> Self {
        let (person, days) = bytes.split_at(WIDTH);
        let half = |place: usize| match person.as_chunks().0.get(place) {
            Some(half) => u64::from_le_bytes(*half),
            None => 0,
        };
        let day = |place: usize| match days.as_chunks().0.get(place) {
            Some(day) => i32::from_le_bytes(*day),
            None => 0,
        };
        Self {
            person: [half(0), half(1)],
            from: day(0),
            free_from: day(1),
        }
    }

    /// Its bucket of 2^bits.
    #[inline]
    fn bucket(&self, bits: u32) -> usize {
        let [low, high] = self.person;
        let hash = member_hash(u128::from(high) << 64 | u128::from(low));
        (hash >> 1 >> (63 - bits)) as usize
    }
}

/// The spells of a group, written as in its state.
#[derive(Debug, Default)]
struct Written(Vec<u8>);

impl Written {
    #[inline]
    fn push(&mut self, spell: &[u8; SPELL]) {
        if self.0.is_empty() {
            self.0.push(VERSION);
        }
        self.0.extend_from_slice(spell);
    }

    fn merge(&mut self, state: &[u8]) -> Result<()> {
        let Some((version, spells)) = state.split_first() else {
            return Ok(());
        };
        if *version != VERSION {
            return exec_err!("{NAME} has a state of an unknown version");
        }
        if spells.is_empty() || !spells.len().is_multiple_of(SPELL) {
            return exec_err!("{NAME} has a broken state");
        }
        let added = if self.0.is_empty() { state } else { spells };
        self.0.extend_from_slice(added);
        Ok(())
    }

    fn spells(&self) -> &[[u8; SPELL]] {
        let spells = self.0.split_first().map_or(&[][..], |(_, spells)| spells);
        spells.as_chunks().0
    }

    fn heap_bytes(&self) -> usize {
        self.0.capacity()
    }

    /// Days by period, each day of a person once; `None` without spells.
    fn days(&self, boundaries: &Boundaries, room: &mut Room) -> Result<Option<Vec<i64>>> {
        let spells = self.spells();
        if spells.is_empty() {
            return Ok(None);
        }
        room.deal(spells);
        let Room {
            spells,
            ends,
            partial,
            change,
        } = room;
        for marks in [&mut *partial, &mut *change] {
            marks.clear();
            marks.resize(boundaries.periods(), 0);
        }
        let mut start = 0;
        for end in ends.iter().copied() {
            let bucket = spells.get_mut(start..end).unwrap_or_default();
            start = end;
            if bucket.len() > 1 {
                bucket.sort_unstable();
            }
            let mut counted = ([0; 2], i32::MIN);
            for spell in bucket {
                // What was cut off when the rows came in has nothing outside.
                if boundaries.within(spell.from, spell.free_from)
                    != Some((spell.from, spell.free_from))
                {
                    return exec_err!("{NAME} has a state of other periods");
                }
                let from = match counted {
                    (person, counted_to) if person == spell.person => spell.from.max(counted_to),
                    _ => spell.from,
                };
                if let Some(clipped) = boundaries.clip(from, spell.free_from) {
                    mark(partial, change, 0, &clipped);
                    counted = (spell.person, spell.free_from);
                }
            }
        }
        Ok(Some(sums(boundaries, partial.iter(), change.iter())))
    }
}

/// What counting the days of a group needs, kept from group to group.
#[derive(Default)]
struct Room {
    /// Spells bucket by bucket.
    spells: Vec<Spell>,
    /// Where each bucket ends.
    ends: Vec<usize>,
    partial: Vec<i64>,
    change: Vec<i64>,
}

impl Room {
    /// Puts spells into buckets; those of one person are in one bucket.
    fn deal(&mut self, spells: &[[u8; SPELL]]) {
        let bits = (spells.len() / IN_BUCKET).max(1).ilog2();
        self.ends.clear();
        self.ends.resize(1 << bits, 0);
        for spell in spells {
            if let Some(count) = self.ends.get_mut(Spell::read(spell).bucket(bits)) {
                *count += 1;
            }
        }
        // First where each bucket begins, and in the end where it ends.
        let mut before = 0;
        for place in &mut self.ends {
            before += std::mem::replace(place, before);
        }
        self.spells.clear();
        self.spells.resize(spells.len(), Spell::default());
        for spell in spells {
            let spell = Spell::read(spell);
            let Some(place) = self.ends.get_mut(spell.bucket(bits)) else {
                continue;
            };
            if let Some(free) = self.spells.get_mut(*place) {
                *free = spell;
            }
            *place += 1;
        }
    }
}

/// The lists of groups.
fn lists<G: Borrow<Written>>(
    boundaries: &Boundaries,
    groups: impl ExactSizeIterator<Item = G>,
) -> Result<ListArray> {
    let periods = boundaries.periods();
    let mut room = Room::default();
    let mut days = Vec::new();
    let mut has_spells = Vec::with_capacity(groups.len());
    for group in groups {
        let own = group.borrow().days(boundaries, &mut room)?;
        has_spells.push(own.is_some());
        days.extend(own.unwrap_or_default());
        // Offsets of a list are 32 bits.
        if days.len() > i32::MAX as usize {
            return resources_err!("there are too many groups and periods: group by less at once");
        }
    }
    let starts = boundaries.days().iter().take(periods);
    let starts = starts.cycle().take(days.len()).copied();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Date32Array::from_iter_values(starts)),
        Arc::new(Int64Array::from(days)),
    ];
    let lengths = has_spells.iter().map(|has| if *has { periods } else { 0 });
    Ok(ListArray::try_new(
        period_item(),
        OffsetBuffer::from_lengths(lengths),
        Arc::new(StructArray::try_new(period_fields(), columns, None)?),
        Some(NullBuffer::from(has_spells.as_slice())),
    )?)
}

/// The structure of one period in the result.
fn period_fields() -> Fields {
    Fields::from(vec![
        Field::new("period_start", DataType::Date32, false),
        Field::new(NAME, DataType::Int64, false),
    ])
}

fn period_item() -> FieldRef {
    Arc::new(Field::new_list_field(
        DataType::Struct(period_fields()),
        true,
    ))
}

/// Gives the spells of rows of the engine, each with its row and cut to the window.
fn each_spell(
    boundaries: &Boundaries,
    values: &[ArrayRef],
    filter: Option<&BooleanArray>,
    take: impl FnMut(usize, &[u8; SPELL]) -> Result<()>,
) -> Result<()> {
    let [persons, first, last, ..] = values else {
        return exec_err!("{NAME} was given {} columns", values.len());
    };
    let (Some(first), Some(last)) = (
        first.as_primitive_opt::<Date32Type>(),
        last.as_primitive_opt::<Date32Type>(),
    ) else {
        return exec_err!("{NAME} takes two dates");
    };
    let known = NullBuffer::union(persons.nulls(), first.nulls());
    let rows = Rows {
        boundaries,
        first,
        last,
        known: known.as_ref(),
        filter,
    };
    if let Some(persons) = persons.as_binary_opt::<i32>() {
        rows.each(|row| persons.value(row), take)
    } else if let Some(persons) = persons.as_binary_view_opt() {
        rows.each(|row| persons.value(row), take)
    } else if let Some(persons) = persons.as_fixed_size_binary_opt() {
        rows.each(|row| persons.value(row), take)
    } else {
        exec_err!("{NAME} takes pseudonyms, not {}", persons.data_type())
    }
}

/// The columns of rows beside the persons.
struct Rows<'a> {
    boundaries: &'a Boundaries,
    first: &'a Date32Array,
    last: &'a Date32Array,
    /// Rows that have a person and a first day; all when there is none.
    known: Option<&'a NullBuffer>,
    filter: Option<&'a BooleanArray>,
}

impl Rows<'_> {
    fn each<'p>(
        &self,
        person: impl Fn(usize) -> &'p [u8],
        mut take: impl FnMut(usize, &[u8; SPELL]) -> Result<()>,
    ) -> Result<()> {
        let ends = self.last.nulls().filter(|nulls| nulls.null_count() > 0);
        let days = self.first.values().iter().zip(self.last.values());
        for (row, (first, last)) in days.enumerate() {
            if self.known.is_some_and(|known| known.is_null(row))
                || self
                    .filter
                    .is_some_and(|filter| filter.is_null(row) || !filter.value(row))
            {
                continue;
            }
            let last = match ends {
                Some(ends) if ends.is_null(row) => OPEN,
                _ => *last,
            };
            let Some(free_from) = LastDay::Counts.free_from(*first, last) else {
                return refused(
                    "care_days: a spell ends before it begins; leave such spells out with FILTER \
                     (WHERE the last day is null or not before the first)",
                );
            };
            let Ok(person) = <[u8; WIDTH]>::try_from(person(row)) else {
                return refused("care_days: a pseudonym has not 16 bytes");
            };
            if let Some((from, free_from)) = self.boundaries.within(*first, free_from) {
                take(row, &Spell::write(person, from, free_from))?;
            }
        }
        Ok(())
    }
}

pub(crate) fn aggregates() -> Vec<AggregateUDF> {
    vec![AggregateUDF::from(DaysOfCare {
        signature: Signature::user_defined(Volatility::Immutable),
        boundaries: None,
    })]
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct DaysOfCare {
    signature: Signature,
    /// The boundary days, where the optimiser has taken them out of the arguments.
    boundaries: Option<Vec<i32>>,
}

impl DaysOfCare {
    fn boundaries(&self, args: &AccumulatorArgs<'_>) -> Result<Boundaries> {
        if args.is_distinct {
            return plan_err!("{NAME} cannot be DISTINCT: a day of a person counts once anyway");
        }
        match &self.boundaries {
            Some(days) => Boundaries::new(days),
            None => Boundaries::new(&boundary_days(NAME, args)?),
        }
    }
}

/// The same call with the boundaries in the function and not among its arguments.
fn bound(mut call: AggregateFunction) -> Result<Expr> {
    if let [
        person,
        first,
        last,
        Expr::Literal(ScalarValue::List(list), _),
    ] = call.params.args.as_slice()
        && list.len() == 1
        && list.is_valid(0)
    {
        let function = DaysOfCare {
            signature: Signature::user_defined(Volatility::Immutable),
            boundaries: Some(listed_days(NAME, list)?),
        };
        call.params.args = vec![person.clone(), first.clone(), last.clone()];
        call.func = Arc::new(AggregateUDF::from(function));
    }
    Ok(Expr::AggregateFunction(call))
}

impl AggregateUDFImpl for DaysOfCare {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let (person, first, last) = match (given, &self.boundaries) {
            ([person, first, last], Some(_)) => (person, first, last),
            ([person, first, last, boundaries], None) => {
                if !lists_days(boundaries) {
                    return plan_err!(
                        "{NAME} takes a list of dates as boundaries, not {boundaries}"
                    );
                }
                (person, first, last)
            }
            _ => {
                return plan_err!(
                    "{NAME} takes a person, a first day, a last day and the boundary days of \
                     periods, not {} arguments",
                    given.len()
                );
            }
        };
        let person = match person {
            DataType::Binary | DataType::BinaryView => person.clone(),
            DataType::FixedSizeBinary(width) if *width == WIDTH as i32 => person.clone(),
            DataType::LargeBinary | DataType::Null => DataType::Binary,
            _ => return plan_err!("{NAME} takes pseudonyms of {WIDTH} bytes, not {person}"),
        };
        let is_day = |given: &DataType| matches!(given, DataType::Date32 | DataType::Null);
        if !is_day(first) || !is_day(last) {
            return plan_err!("{NAME} takes dates, not {first} and {last}");
        }
        let mut types = vec![person, DataType::Date32, DataType::Date32];
        if self.boundaries.is_none() {
            types.push(DataType::new_list(DataType::Date32, true));
        }
        Ok(types)
    }

    fn return_type(&self, _given: &[DataType]) -> Result<DataType> {
        Ok(DataType::List(period_item()))
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(DaysOfOne {
            boundaries: self.boundaries(&args)?,
            spells: Written::default(),
        }))
    }

    fn create_sliding_accumulator(
        &self,
        _args: AccumulatorArgs<'_>,
    ) -> Result<Box<dyn Accumulator>> {
        refuse_to_slide(NAME)
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        // A column of states has all spells: its offsets need more than 32 bits.
        Ok(vec![Arc::new(Field::new(
            format_state_name(args.name, "state"),
            DataType::LargeBinary,
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
        Ok(Box::new(DaysOfGroups::new(self.boundaries(&args)?)))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn simplify(&self) -> Option<AggregateFunctionSimplification> {
        match self.boundaries {
            Some(_) => None,
            None => Some(Box::new(|call, _| bound(call))),
        }
    }
}

fn states(column: &[ArrayRef]) -> Result<&LargeBinaryArray> {
    match only(column)?.as_binary_opt::<i64>() {
        Some(states) => Ok(states),
        None => exec_err!("{NAME} has states of another type"),
    }
}

/// All rows in one group.
#[derive(Debug)]
struct DaysOfOne {
    boundaries: Boundaries,
    spells: Written,
}

impl Accumulator for DaysOfOne {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        each_spell(&self.boundaries, values, None, |_, spell| {
            self.spells.push(spell);
            Ok(())
        })
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let list = lists(&self.boundaries, std::iter::once(&self.spells))?;
        Ok(ScalarValue::List(Arc::new(list)))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.spells.heap_bytes() + self.boundaries.heap_bytes()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let state = std::mem::take(&mut self.spells.0);
        Ok(vec![ScalarValue::LargeBinary(Some(state))])
    }

    fn merge_batch(&mut self, column: &[ArrayRef]) -> Result<()> {
        states(column)?
            .iter()
            .flatten()
            .try_for_each(|state| self.spells.merge(state))
    }
}

/// Groups by their numbers.
struct DaysOfGroups {
    boundaries: Boundaries,
    groups: Vec<Written>,
    /// Bytes of the spells of all groups: asked for after every batch.
    heap_bytes: usize,
}

impl DaysOfGroups {
    fn new(boundaries: Boundaries) -> Self {
        Self {
            boundaries,
            groups: Vec::new(),
            heap_bytes: 0,
        }
    }

    fn grow(&mut self, groups: usize) {
        if self.groups.len() < groups {
            self.groups.resize_with(groups, Written::default);
        }
    }

    fn give_out(&mut self, emit_to: EmitTo) -> Vec<Written> {
        let given = emit_to.take_needed(&mut self.groups);
        let bytes = given.iter().map(Written::heap_bytes).sum();
        self.heap_bytes = self.heap_bytes.saturating_sub(bytes);
        given
    }
}

/// Does something to a group, and keeps count of the bytes.
#[inline]
fn with_group(
    groups: &mut [Written],
    heap_bytes: &mut usize,
    group: Option<&usize>,
    change: impl FnOnce(&mut Written) -> Result<()>,
) -> Result<()> {
    let Some(group) = group.and_then(|group| groups.get_mut(*group)) else {
        return exec_err!("{NAME} was given a row of no group");
    };
    let before = group.heap_bytes();
    change(group)?;
    *heap_bytes += group.heap_bytes() - before;
    Ok(())
}

impl GroupsAccumulator for DaysOfGroups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.grow(total_num_groups);
        let Self {
            boundaries,
            groups,
            heap_bytes,
        } = self;
        each_spell(boundaries, values, opt_filter, |row, spell| {
            with_group(groups, heap_bytes, group_indices.get(row), |group| {
                group.push(spell);
                Ok(())
            })
        })
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let groups = self.give_out(emit_to);
        Ok(Arc::new(lists(&self.boundaries, groups.into_iter())?))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let groups = self.give_out(emit_to);
        let lengths = groups.iter().map(|group| group.0.len());
        let offsets = OffsetBuffer::from_lengths(lengths.clone());
        let mut bytes = Vec::with_capacity(lengths.sum());
        // Each group is let go as soon as it is written.
        for group in groups {
            bytes.extend_from_slice(&group.0);
        }
        let states = LargeBinaryArray::try_new(offsets, Buffer::from_vec(bytes), None)?;
        Ok(vec![Arc::new(states)])
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        self.grow(total_num_groups);
        for (row, state) in states(values)?.iter().enumerate() {
            if let Some(state) = state {
                with_group(
                    &mut self.groups,
                    &mut self.heap_bytes,
                    group_indices.get(row),
                    |group| group.merge(state),
                )?;
            }
        }
        Ok(())
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        opt_filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let rows = values.first().map_or(0, |column| column.len());
        let mut lengths = vec![0; rows];
        let mut bytes = Vec::with_capacity(rows * (1 + SPELL));
        each_spell(&self.boundaries, values, opt_filter, |row, spell| {
            bytes.push(VERSION);
            bytes.extend_from_slice(spell);
            if let Some(length) = lengths.get_mut(row) {
                *length = 1 + SPELL;
            }
            Ok(())
        })?;
        let offsets = OffsetBuffer::from_lengths(lengths);
        let states = LargeBinaryArray::try_new(offsets, Buffer::from_vec(bytes), None)?;
        Ok(vec![Arc::new(states)])
    }

    fn size(&self) -> usize {
        size_of_val(self)
            + self.groups.capacity() * size_of::<Written>()
            + self.heap_bytes
            + self.boundaries.heap_bytes()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use arrow::array::{BinaryArray, BinaryViewArray, FixedSizeBinaryArray};
    use arrow::datatypes::Int64Type;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{check_accumulators, laws, numbers};

    #[derive(Debug, Clone, Copy)]
    struct Row {
        group: usize,
        person: Option<u64>,
        first: Option<i32>,
        last: Option<i32>,
        /// What the filter says.
        kept: Option<bool>,
    }

    const GROUPS: usize = 5;

    /// A pseudonym; those of a folding number that is always the same share a bucket.
    fn pseudonym(person: u64, crowded: bool) -> [u8; WIDTH] {
        let low = person.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let high = if crowded { low } else { person };
        (u128::from(high) << 64 | u128::from(low)).to_le_bytes()
    }

    fn columns(rows: &[Row], crowded: bool) -> Vec<ArrayRef> {
        let persons = rows
            .iter()
            .map(|row| row.person.map(|person| pseudonym(person, crowded)));
        let first: Date32Array = rows.iter().map(|row| row.first).collect();
        let last: Date32Array = rows.iter().map(|row| row.last).collect();
        vec![
            Arc::new(persons.collect::<BinaryArray>()),
            Arc::new(first),
            Arc::new(last),
        ]
    }

    fn groups_of(rows: &[Row]) -> Vec<usize> {
        rows.iter().map(|row| row.group).collect()
    }

    fn filter_of(rows: &[Row]) -> BooleanArray {
        rows.iter().map(|row| row.kept).collect()
    }

    fn grouped(boundaries: &[i32]) -> DaysOfGroups {
        DaysOfGroups::new(Boundaries::new(boundaries).unwrap())
    }

    /// The definition itself: the set of persons and days.
    fn naive(boundaries: &[i32], rows: &[Row]) -> BTreeMap<usize, Vec<i64>> {
        let mut met: BTreeMap<usize, BTreeSet<(u64, i32)>> = BTreeMap::new();
        let window = boundaries[0]..boundaries[boundaries.len() - 1];
        for row in rows.iter().filter(|row| row.kept == Some(true)) {
            if let (Some(person), Some(first)) = (row.person, row.first) {
                let days = window
                    .clone()
                    .filter(|day| *day >= first && row.last.is_none_or(|last| *day <= last));
                for day in days {
                    met.entry(row.group).or_default().insert((person, day));
                }
            }
        }
        let periods = |days: &BTreeSet<(u64, i32)>| {
            let of = |two: &[i32]| {
                let (from, to) = (two[0], two[1]);
                days.iter()
                    .filter(|day| (from..to).contains(&day.1))
                    .count() as i64
            };
            boundaries.windows(2).map(of).collect()
        };
        met.iter()
            .map(|(group, days)| (*group, periods(days)))
            .collect()
    }

    /// A result as the naive one gives it, with the starts of periods checked.
    fn told(boundaries: &[i32], result: &ArrayRef) -> BTreeMap<usize, Vec<i64>> {
        let lists = result.as_list::<i32>();
        let mut told = BTreeMap::new();
        for group in (0..lists.len()).filter(|group| lists.is_valid(*group)) {
            let list = lists.value(group);
            let [starts, days] = list.as_struct().columns() else {
                panic!("two columns");
            };
            let starts = starts.as_primitive::<Date32Type>().values();
            assert_eq!(&starts[..], &boundaries[..boundaries.len() - 1]);
            told.insert(group, days.as_primitive::<Int64Type>().values().to_vec());
        }
        told
    }

    fn row() -> impl Strategy<Value = Row> {
        let length = prop_oneof![6 => (0i32..50).prop_map(Some), 1 => Just(None)];
        (
            0..GROUPS,
            proptest::option::weighted(0.9, 0u64..6),
            proptest::option::weighted(0.95, -60i32..160),
            length,
            prop_oneof![8 => Just(Some(true)), 1 => Just(Some(false)), 1 => Just(None)],
        )
            .prop_map(|(group, person, first, length, kept)| Row {
                group,
                person,
                first,
                last: length.map(|length| first.unwrap_or(3) + length),
                kept,
            })
    }

    proptest! {
        #![proptest_config(laws())]

        #[test]
        fn in_any_parts_and_order_the_days_are_those_of_the_set(
            cuts in proptest::collection::btree_set(-40i32..140, 2..9),
            rows in proptest::collection::vec(row(), 0..150),
            crowded: bool,
            spread: bool,
        ) {
            let boundaries: Vec<i32> = cuts.into_iter().collect();
            let mut rows = rows;
            if !spread {
                rows.iter_mut().for_each(|row| row.group = 2);
            }
            let expected = naive(&boundaries, &rows);
            for parts in [1, 2, 7] {
                let mut merged = grouped(&boundaries);
                for part in (0..parts).rev() {
                    let mut own: Vec<Row> =
                        rows.iter().skip(part).step_by(parts).copied().collect();
                    if part % 2 == 0 {
                        own.reverse();
                    }
                    let (columns, filter) = (columns(&own, crowded), filter_of(&own));
                    if parts == 1 {
                        merged
                            .update_batch(&columns, &groups_of(&own), Some(&filter), GROUPS)
                            .unwrap();
                        continue;
                    }
                    let mut one = grouped(&boundaries);
                    one.update_batch(&columns, &groups_of(&own), Some(&filter), GROUPS).unwrap();
                    let state = one.state(EmitTo::All).unwrap();
                    let places: Vec<usize> = (0..GROUPS).collect();
                    merged.merge_batch(&state, &places, GROUPS).unwrap();
                }
                let found = merged.evaluate(EmitTo::All).unwrap();
                prop_assert_eq!(&told(&boundaries, &found), &expected);
            }
        }
    }

    #[test]
    fn grouped_filtered_spilled_and_emitted_in_parts_the_result_is_the_same() {
        let boundaries = [0, 31, 60, 91];
        let mut drawn = numbers(20_000, 1 << 40);
        let mut draw = |bound: u64| drawn.next().unwrap() % bound;
        let rows: Vec<Row> = (0..1_200)
            .map(|_| {
                let first = draw(120) as i32 - 20;
                let length = draw(60) as i32;
                Row {
                    // Groups 5 and 6 have no rows, and group 0 none that counts.
                    group: draw(5) as usize,
                    person: (draw(12) != 0).then_some(draw(40)),
                    first: (draw(9) != 0).then_some(first),
                    last: (draw(5) != 0).then_some(first + length),
                    kept: (draw(8) != 0).then_some(draw(6) != 0),
                }
            })
            .map(|row| Row {
                kept: row.kept.map(|kept| kept && row.group != 0),
                ..row
            })
            .collect();
        let binary = columns(&rows, false);
        let bytes = binary[0].as_binary::<i32>();
        let view: BinaryViewArray = bytes.iter().collect();
        let fixed =
            FixedSizeBinaryArray::try_from_sparse_iter_with_size(bytes.iter(), WIDTH as i32);
        let persons: [ArrayRef; 3] = [
            Arc::clone(&binary[0]),
            Arc::new(view),
            Arc::new(fixed.unwrap()),
        ];
        for persons in persons {
            let mut values = binary.clone();
            values[0] = persons;
            let found = check_accumulators(
                &|| Box::new(grouped(&boundaries)),
                &|| {
                    Box::new(DaysOfOne {
                        boundaries: Boundaries::new(&boundaries).unwrap(),
                        spells: Written::default(),
                    })
                },
                &ScalarValue::new_null_list(DataType::Struct(period_fields()), true, 1),
                &values,
                &groups_of(&rows),
                &filter_of(&rows),
                7,
            );
            assert_eq!(told(&boundaries, &found), naive(&boundaries, &rows));
            assert_eq!(found.null_count(), 3);
        }
    }

    /// Spells of person and days in one group, over the months of 2024 from day 0 on.
    #[track_caller]
    fn check(spells: &[(u64, i32, Option<i32>)], expected: Option<[i64; 4]>) {
        let boundaries = [0, 31, 60, 91, 121];
        let rows: Vec<Row> = spells
            .iter()
            .map(|(person, first, last)| Row {
                group: 0,
                person: Some(*person),
                first: Some(*first),
                last: *last,
                kept: None,
            })
            .collect();
        let mut days = grouped(&boundaries);
        days.update_batch(&columns(&rows, false), &vec![0; rows.len()], None, 1)
            .unwrap();
        let found = told(&boundaries, &days.evaluate(EmitTo::All).unwrap());
        assert_eq!(found.get(&0).cloned(), expected.map(Vec::from));
    }

    #[test]
    fn a_day_of_a_person_counts_once_in_each_period() {
        check(&[(1, 10, Some(10))], Some([1, 0, 0, 0]));
        check(&[(1, 10, Some(10)), (1, 10, Some(10))], Some([1, 0, 0, 0]));
        check(&[(1, 10, Some(10)), (2, 10, Some(10))], Some([2, 0, 0, 0]));
        check(&[(1, 20, Some(100))], Some([11, 29, 31, 10]));
        check(
            &[(1, 20, Some(100)), (1, 5, Some(21)), (1, 30, Some(40))],
            Some([26, 29, 31, 10]),
        );
        check(&[(1, 50, None), (1, 10, Some(12))], Some([3, 10, 31, 30]));
        check(
            &[(1, -90, None), (1, -5, Some(500))],
            Some([31, 29, 31, 30]),
        );
    }

    #[test]
    fn days_outside_the_window_are_cut_off() {
        check(&[], None);
        check(&[(1, -9, Some(-1)), (1, 121, None)], None);
        check(&[(1, -9, Some(0)), (1, 120, Some(999))], Some([1, 0, 0, 1]));
        check(&[(1, i32::MIN, Some(i32::MIN))], None);
        check(&[(1, i32::MAX, Some(i32::MAX))], None);
        check(&[(1, i32::MIN, Some(i32::MAX))], Some([31, 29, 31, 30]));
    }

    fn one(rows: &[Row]) -> Result<ScalarValue> {
        let mut one = DaysOfOne {
            boundaries: Boundaries::new(&[0, 10]).unwrap(),
            spells: Written::default(),
        };
        one.update_batch(&columns(rows, false))?;
        one.evaluate()
    }

    #[test]
    fn a_reversed_spell_and_a_short_pseudonym_are_errors() {
        let reversed = Row {
            group: 0,
            person: Some(1),
            first: Some(500),
            last: Some(499),
            kept: None,
        };
        let error = one(&[reversed]).unwrap_err().strip_backtrace();
        assert!(
            error.contains("care_days: a spell ends before it begins"),
            "{error}"
        );
        // Rows that are left out are not looked at.
        for left_out in [
            Row {
                person: None,
                ..reversed
            },
            Row {
                first: None,
                ..reversed
            },
        ] {
            assert!(one(&[left_out]).unwrap().is_null());
        }
        let mut short = columns(
            &[Row {
                last: None,
                ..reversed
            }],
            false,
        );
        short[0] = Arc::new(BinaryArray::from_vec(vec![b"123"]));
        let error = grouped(&[0, 10]).update_batch(&short, &[0], None, 1);
        let error = error.unwrap_err().strip_backtrace();
        assert!(error.contains("a pseudonym has not 16 bytes"), "{error}");
    }

    #[test]
    fn states_of_other_kinds_are_refused() {
        let mut spells = Written::default();
        spells.push(&Spell::write(pseudonym(7, false), 3, 5));
        assert_eq!(spells.0.len(), 25);
        let state = spells.0.clone();
        for broken in [
            &state[..24],
            &state[..1],
            &[2],
            &[state.as_slice(), &[0]].concat(),
        ] {
            assert!(spells.merge(broken).is_err());
        }
        spells.merge(&[]).unwrap();
        spells.merge(&state).unwrap();
        let days = |boundaries: &[i32]| {
            spells.days(&Boundaries::new(boundaries).unwrap(), &mut Room::default())
        };
        assert_eq!(days(&[0, 4, 9]).unwrap(), Some(vec![1, 1]));
        // The spell has days outside these.
        assert!(days(&[0, 4]).is_err());
        spells = Written::default();
        spells.push(&Spell::write(pseudonym(7, false), 5, 5));
        let empty = spells.days(&Boundaries::new(&[0, 9]).unwrap(), &mut Room::default());
        assert!(empty.is_err());
    }

    #[test]
    fn a_row_of_no_group_is_refused() {
        let rows = [Row {
            group: 0,
            person: Some(1),
            first: Some(1),
            last: None,
            kept: None,
        }];
        let mut days = grouped(&[0, 10]);
        assert!(
            days.update_batch(&columns(&rows, false), &[1], None, 1)
                .is_err()
        );
    }
}
