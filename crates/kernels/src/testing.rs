//! The laws every aggregate obeys, checked on any values and as the engine uses it; numbers from a
//! fixed sequence, and how property tests draw theirs.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::datatypes::{Field, Schema};
use datafusion_common::ScalarValue;
use datafusion_expr::function::AccumulatorArgs;
use datafusion_expr::{Accumulator, AggregateUDF, EmitTo, GroupsAccumulator};
use proptest::prelude::ProptestConfig;
use proptest::test_runner::RngSeed;

use crate::cell::{Cell, Value};

/// Checks that order does not matter and that merged parts equal the whole; returns the state.
pub(crate) fn check_laws<C: Cell>(values: &[Value<'_>]) -> Vec<u8> {
    let encode = |mut cell: C| {
        let mut bytes = Vec::new();
        cell.encode(&mut bytes);
        bytes
    };
    let gather = |values: &mut dyn Iterator<Item = &Value<'_>>| {
        let mut cell = C::default();
        values.for_each(|value| assert!(cell.add(*value).is_ok()));
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
