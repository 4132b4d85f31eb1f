//! The laws every aggregate obeys, checked on any values; numbers from a fixed sequence, and how
//! property tests draw theirs.

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
