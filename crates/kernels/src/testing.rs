//! The laws every aggregate obeys, checked on any values; the duties of an aggregate function in
//! groups and in frames that slide, as the engine uses it; numbers from a fixed sequence, and how
//! property tests draw theirs.
#![allow(clippy::unwrap_used)]

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, UInt64Array};
use arrow::compute::{concat, take};
use arrow::datatypes::{Field, FieldRef, Schema};
use datafusion_common::{Result, ScalarValue};
use datafusion_expr::function::AccumulatorArgs;
use datafusion_expr::{Accumulator, AggregateUDF, EmitTo, GroupsAccumulator};
use proptest::prelude::ProptestConfig;
use proptest::test_runner::RngSeed;

use crate::cell::{Cell, Value};

/// Checks that order does not matter and that merged parts equal the whole; returns the state.
pub(crate) fn check_laws<C: Cell>(values: &[Value<'_>]) -> Vec<u8> {
    check_laws_by::<C, _>(values, |cell, value| cell.add(*value))
}

/// The same for an aggregate over several columns.
pub(crate) fn check_laws_of_rows<C: Cell, const N: usize>(
    rows: &[[Option<Value<'_>>; N]],
) -> Vec<u8> {
    check_laws_by::<C, _>(rows, |cell, row| cell.add_row(row))
}

fn check_laws_by<C: Cell, T>(values: &[T], add: impl Fn(&mut C, &T) -> Result<()>) -> Vec<u8> {
    let encode = |mut cell: C| {
        let mut bytes = Vec::new();
        cell.encode(&mut bytes);
        bytes
    };
    let gather = |values: &mut dyn Iterator<Item = &T>| {
        let mut cell = C::default();
        values.for_each(|value| add(&mut cell, value).unwrap());
        encode(cell)
    };
    let whole = gather(&mut values.iter());
    assert_eq!(whole, gather(&mut values.iter().rev()), "order matters");
    for parts in [1, 2, 3, 7] {
        let states: Vec<Vec<u8>> = (0..parts)
            .map(|part| gather(&mut values.iter().skip(part).step_by(parts)))
            .collect();
        let mut merged = C::default();
        // Some go through two merges, as in a tree of partitions.
        let mut pair = C::default();
        for (place, state) in states.iter().rev().enumerate() {
            let target = if place % 2 == 0 {
                &mut merged
            } else {
                &mut pair
            };
            assert!(target.merge(state).is_ok());
        }
        assert!(merged.merge(&encode(pair)).is_ok());
        assert_eq!(
            whole,
            encode(merged),
            "{parts} merged parts are not the whole"
        );
    }
    whole
}

/// A fixed sequence of numbers below `bound` (xorshift).
pub(crate) fn numbers(count: usize, bound: u64) -> impl Iterator<Item = u64> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    (0..count).map(move |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % bound
    })
}

/// How property tests draw their cases: the same cases in every run, and no files written.
pub(crate) fn laws() -> ProptestConfig {
    ProptestConfig {
        cases: 128,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(20_240_229),
        ..ProptestConfig::default()
    }
}

/// Checks an aggregate of one column as the engine uses it; see [`check_accumulators`].
pub(crate) fn check_grouped(
    function: &AggregateUDF,
    values: &ArrayRef,
    groups: &[usize],
    filter: &BooleanArray,
    total: usize,
) -> ArrayRef {
    let schema = Schema::new(vec![Field::new("value", values.data_type().clone(), true)]);
    let fields = [Arc::new(schema.field(0).clone())];
    let result = function.return_type(&[values.data_type().clone()]).unwrap();
    let args = || AccumulatorArgs {
        return_field: Arc::new(Field::new("result", result.clone(), false)),
        schema: &schema,
        ignore_nulls: false,
        order_bys: &[],
        is_reversed: false,
        name: "value",
        is_distinct: false,
        exprs: &[],
        expr_fields: &fields,
    };
    assert!(function.groups_accumulator_supported(args()));
    check_slides(function, std::slice::from_ref(values));
    check_accumulators(
        &|| function.create_groups_accumulator(args()).unwrap(),
        &|| function.accumulator(args()).unwrap(),
        &function.default_value(&result).unwrap(),
        std::slice::from_ref(values),
        groups,
        filter,
        total,
    )
}

/// Checks an aggregate as the engine uses it: in one go, from states of parts, from states of
/// single rows, group by group, with some groups given out early; with a filter, nulls and groups
/// without rows. All must agree; returns the result of each group.
pub(crate) fn check_accumulators(
    make: &dyn Fn() -> Box<dyn GroupsAccumulator>,
    make_one: &dyn Fn() -> Box<dyn Accumulator>,
    empty: &ScalarValue,
    values: &[ArrayRef],
    groups: &[usize],
    filter: &BooleanArray,
    total: usize,
) -> ArrayRef {
    let slices = |values: &[ArrayRef], from: usize, to: usize| -> Vec<ArrayRef> {
        values
            .iter()
            .map(|column| column.slice(from, to - from))
            .collect()
    };
    let update = |from: usize, to: usize| {
        let mut groups_of = make();
        for (from, to) in [(from, (from + to) / 2), ((from + to) / 2, to)] {
            let filter = filter.slice(from, to - from);
            groups_of
                .update_batch(
                    &slices(values, from, to),
                    &groups[from..to],
                    Some(&filter),
                    total,
                )
                .unwrap();
        }
        groups_of
    };
    let rows = groups.len();
    let mut whole = update(0, rows);
    let held = whole.size();
    let expected = whole.evaluate(EmitTo::All).unwrap();
    assert_eq!(expected.len(), total);
    assert!(whole.size() < held, "what was given out is still held");

    let mut merged = make();
    for (from, to) in [(rows / 3, rows), (0, rows / 3)] {
        let states = update(from, to).state(EmitTo::All).unwrap();
        let places: Vec<usize> = (0..total).collect();
        merged.merge_batch(&states, &places, total).unwrap();
    }
    assert_eq!(&merged.evaluate(EmitTo::All).unwrap(), &expected, "parts");

    let mut single = make();
    let states = make().convert_to_state(values, Some(filter)).unwrap();
    single.merge_batch(&states, groups, total).unwrap();
    assert_eq!(&single.evaluate(EmitTo::All).unwrap(), &expected, "rows");

    let mut early = update(0, rows);
    let first = early.evaluate(EmitTo::First(total / 3)).unwrap();
    assert_eq!(&first, &expected.slice(0, total / 3), "first groups");
    let more = early.state(EmitTo::First(1)).unwrap();
    let mut one = make();
    one.merge_batch(&more, &[0], 1).unwrap();
    let next = one.evaluate(EmitTo::All).unwrap();
    assert_eq!(&next, &expected.slice(total / 3, 1), "next group");
    let rest = early.evaluate(EmitTo::All).unwrap();
    let left = total - total / 3 - 1;
    assert_eq!(&rest, &expected.slice(total - left, left), "rest");

    for group in 0..total {
        let kept: BooleanArray = groups
            .iter()
            .enumerate()
            .map(|(row, own)| Some(*own == group && filter.is_valid(row) && filter.value(row)))
            .collect();
        let own: Vec<ArrayRef> = values
            .iter()
            .map(|column| arrow::compute::filter(column, &kept).unwrap())
            .collect();
        let count = own[0].len();
        let mut plain = make_one();
        plain.update_batch(&slices(&own, 0, count / 2)).unwrap();
        // A window asks for the value in between, and goes on.
        plain.evaluate().unwrap();
        plain.update_batch(&slices(&own, count / 2, count)).unwrap();
        let value = plain.evaluate().unwrap();
        assert_eq!(
            value,
            ScalarValue::try_from_array(&expected, group).unwrap()
        );
        let state = plain.state().unwrap();
        let states: Vec<ArrayRef> = state
            .iter()
            .map(|state| state.to_array_of_size(1).unwrap())
            .collect();
        let mut from_state = make_one();
        from_state.merge_batch(&states).unwrap();
        assert_eq!(from_state.evaluate().unwrap(), value, "state of one group");
        if count == 0 {
            assert_eq!(&value, empty);
        }
    }
    expected
}

/// A column of whole numbers.
pub(crate) fn whole_column(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(values.collect::<Int64Array>())
}

/// Checks what the engine relies on, with and without a filter that has nulls: groups give what
/// each group gives alone; states of parts, of single rows, and emitted a few groups at a time,
/// merge to the same bytes; a value can be asked for again, as windows do; and the reported size
/// returns to nothing. Returns the values of the groups without a filter.
pub(crate) fn check_aggregate(
    function: &AggregateUDF,
    columns: &[ArrayRef],
    groups: &[usize],
    filter: &[bool],
) -> ArrayRef {
    check_slides(function, columns);
    let checked = Checked::new(function, columns);
    let total = groups.iter().max().map_or(0, |most| most + 1);
    let filter: BooleanArray = filter
        .iter()
        .enumerate()
        .map(|(row, keep)| (*keep || row % 2 == 0).then_some(*keep))
        .collect();
    checked.check(columns, groups, Some(&filter), total);
    checked.check(columns, groups, None, total)
}

/// Checks an aggregate in frames that slide, driven as the engine drives it: of every frame it gives
/// the value and the state that the aggregate gives of the frame's rows alone, to the bit, or refuses
/// where that refuses; in the end nothing is held. Frames are of several widths, with one that jumps
/// over rows, some without rows, and rows that are left out.
pub(crate) fn check_slides(function: &AggregateUDF, columns: &[ArrayRef]) {
    let checked = Checked::new(function, columns);
    let rows = columns[0].len().min(40);
    let between = |from: usize, to: usize| from.min(rows)..to.min(rows);
    let ahead =
        |width: usize| (0..rows).map(move |row| between((row + 1).saturating_sub(width), row + 1));
    let mut all: Vec<Vec<Range<usize>>> = [1, 2, 5, 17].map(|width| ahead(width).collect()).into();
    // To the last row; apart from the row itself; in leaps, with nothing in between.
    all.push((0..rows).map(|row| between(row, rows)).collect());
    all.push((0..rows).map(|row| between(row + 2, row + 5)).collect());
    all.push(
        (0..rows)
            .step_by(7)
            .map(|row| between(row, row + row % 3))
            .collect(),
    );
    for (kind, mut frames) in all.into_iter().enumerate() {
        frames.push(rows..rows);
        let keeps = |row: usize| kind % 2 == 0 || row % 3 > 0;
        checked.slide(columns, &frames, &keeps);
    }
}

struct Checked<'a> {
    function: &'a AggregateUDF,
    fields: Vec<FieldRef>,
    schema: Schema,
    result: FieldRef,
}

impl<'a> Checked<'a> {
    fn new(function: &'a AggregateUDF, columns: &[ArrayRef]) -> Self {
        let types: Vec<_> = columns.iter().map(|c| c.data_type().clone()).collect();
        let fields: Vec<FieldRef> = types
            .iter()
            .map(|one| Arc::new(Field::new("column", one.clone(), true)))
            .collect();
        let result = function.return_type(&types).unwrap();
        Self {
            function,
            schema: Schema::new(fields.clone()),
            fields,
            result: Arc::new(Field::new("result", result, false)),
        }
    }

    fn arguments(&self) -> AccumulatorArgs<'_> {
        AccumulatorArgs {
            return_field: Arc::clone(&self.result),
            schema: &self.schema,
            ignore_nulls: false,
            order_bys: &[],
            is_reversed: false,
            name: "checked",
            is_distinct: false,
            exprs: &[],
            expr_fields: &self.fields,
        }
    }

    fn slide(&self, columns: &[ArrayRef], frames: &[Range<usize>], keeps: &dyn Fn(usize) -> bool) {
        let of = |rows: Range<usize>| -> Vec<ArrayRef> {
            let rows: UInt64Array = rows
                .filter(|row| keeps(*row))
                .map(|row| row as u64)
                .collect();
            columns
                .iter()
                .map(|c| take(c, &rows, None).unwrap())
                .collect()
        };
        let mut sliding = self
            .function
            .create_sliding_accumulator(self.arguments())
            .unwrap();
        assert!(sliding.supports_retract_batch());
        let nothing = sliding.size();
        let mut held = 0..0;
        for frame in frames {
            if frame.is_empty() {
                sliding.retract_batch(&of(held)).unwrap();
                // The engine takes its default here, and does not ask.
                let empty = self.function.default_value(self.result.data_type());
                assert_eq!(sliding.evaluate().unwrap(), empty.unwrap());
            } else {
                sliding.update_batch(&of(held.end..frame.end)).unwrap();
                sliding.retract_batch(&of(held.start..frame.start)).unwrap();
                let mut alone = self.one();
                match alone.update_batch(&of(frame.clone())) {
                    Ok(()) => {
                        let value = alone.evaluate().unwrap();
                        assert_eq!(sliding.evaluate().unwrap(), value, "{frame:?}");
                        assert_eq!(sliding.evaluate().unwrap(), value, "asked again");
                        assert_eq!(sliding.state().unwrap(), alone.state().unwrap());
                        assert!(sliding.size() >= nothing);
                    }
                    Err(refused) => {
                        let error = sliding.evaluate().unwrap_err();
                        // Which of several values it is about may differ.
                        let (error, refused) = (error.to_string(), refused.to_string());
                        assert_eq!(error.rsplit(": ").next(), refused.rsplit(": ").next());
                    }
                }
            }
            held = frame.clone();
        }
        let mut empty = self.one();
        assert_eq!(sliding.evaluate().unwrap(), empty.evaluate().unwrap());
        assert_eq!(sliding.state().unwrap(), empty.state().unwrap());
    }

    fn one(&self) -> Box<dyn Accumulator> {
        self.function.accumulator(self.arguments()).unwrap()
    }

    fn grouped(&self) -> Box<dyn GroupsAccumulator> {
        assert!(self.function.groups_accumulator_supported(self.arguments()));
        self.function
            .create_groups_accumulator(self.arguments())
            .unwrap()
    }

    fn check(
        &self,
        columns: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> ArrayRef {
        let passes = |row: usize| filter.is_none_or(|f| f.is_valid(row) && f.value(row));
        let of = |rows: &[usize]| -> Vec<ArrayRef> {
            let rows: UInt64Array = rows.iter().map(|row| *row as u64).collect();
            columns
                .iter()
                .map(|c| take(c, &rows, None).unwrap())
                .collect()
        };
        let mut whole = self.grouped();
        let nothing = whole.size();
        whole.update_batch(columns, groups, filter, total).unwrap();
        assert!(groups.is_empty() || whole.size() > nothing);
        let values = whole.evaluate(EmitTo::All).unwrap();
        assert_eq!(whole.size(), nothing, "size after everything was given out");
        assert_eq!(values.len(), total);

        for group in 0..total {
            let rows: Vec<usize> = (0..groups.len())
                .filter(|row| groups[*row] == group && passes(*row))
                .collect();
            let mut alone = self.one();
            alone.update_batch(&of(&rows)).unwrap();
            let value = alone.evaluate().unwrap().to_array().unwrap();
            assert_eq!(&value, &values.slice(group, 1), "group {group}");
            assert_eq!(&value, &alone.evaluate().unwrap().to_array().unwrap());
            let mut merged = self.one();
            let state: Vec<ArrayRef> = alone
                .state()
                .unwrap()
                .iter()
                .map(|state| state.to_array().unwrap())
                .collect();
            merged.merge_batch(&state).unwrap();
            assert_eq!(&value, &merged.evaluate().unwrap().to_array().unwrap());
        }

        whole.update_batch(columns, groups, filter, total).unwrap();
        let states = whole.state(EmitTo::All).unwrap();
        let numbers: Vec<usize> = (0..total).collect();

        // Every second row in a part of its own, merged again.
        let mut parts = self.grouped();
        for part in 0..2 {
            let rows: Vec<usize> = (0..groups.len()).filter(|row| row % 2 == part).collect();
            let places: Vec<usize> = rows.iter().map(|row| groups[*row]).collect();
            let filter: Option<BooleanArray> = filter.map(|f| {
                rows.iter()
                    .map(|row| f.is_valid(*row).then(|| f.value(*row)))
                    .collect()
            });
            let mut half = self.grouped();
            half.update_batch(&of(&rows), &places, filter.as_ref(), total)
                .unwrap();
            let state = half.state(EmitTo::All).unwrap();
            parts.merge_batch(&state, &numbers, total).unwrap();
        }
        assert_eq!(states, parts.state(EmitTo::All).unwrap(), "merged parts");

        // Every row as a state of its own.
        let mut skipped = self.grouped();
        let rows = skipped.convert_to_state(columns, filter).unwrap();
        skipped.merge_batch(&rows, groups, total).unwrap();
        assert_eq!(states, skipped.state(EmitTo::All).unwrap(), "single rows");

        // The first group is given out while rows of later ones still come; then the others.
        let early = |row: &usize| groups[*row] == 0 || row % 2 == 0;
        let (first, late): (Vec<usize>, Vec<usize>) = (0..groups.len())
            .filter(|row| passes(*row))
            .partition(early);
        let mut rolling = self.grouped();
        let places: Vec<usize> = first.iter().map(|row| groups[*row]).collect();
        rolling
            .update_batch(&of(&first), &places, None, total)
            .unwrap();
        let mut emitted = Vec::new();
        for group in 0..total {
            emitted.push(rolling.evaluate(EmitTo::First(1)).unwrap());
            if group == 0 {
                // Those that are left have moved down by one.
                let places: Vec<usize> = late.iter().map(|row| groups[*row] - 1).collect();
                rolling
                    .update_batch(&of(&late), &places, None, total - 1)
                    .unwrap();
            }
        }
        if total > 0 {
            let emitted: Vec<&dyn Array> = emitted.iter().map(AsRef::as_ref).collect();
            assert_eq!(&values, &concat(&emitted).unwrap(), "given out one by one");
            rolling.evaluate(EmitTo::All).unwrap();
            assert_eq!(rolling.size(), nothing);
        }
        values
    }
}
