//! `sum_exact(x)`: the sum of floating-point numbers, exact and the same in any order.
//!
//! Plain addition rounds at each step, so its result depends on the order of rows and on how many
//! partitions there are. Here every number is added into a fixed-point figure wide enough for the
//! whole range of doubles (a long accumulator, Kulisch), and the result is rounded once, to
//! nearest, ties to even. Nulls are left out; the sum of nothing is null, as in SQL. An infinity
//! or NaN gives what addition gives. State 71 limbs of 8 bytes; about ten operations a value.

use datafusion_common::{Result, exec_err};
use datafusion_expr::AggregateUDF;

use crate::aggregate::{CellAggregate, Takes};
use crate::cell::{Cell, Finish, Given, InputType, Value};
use crate::sliding::{Frame, Way};

/// Limbs of 32 bits: 2 046 exponents and 53 bits of significand, and room for carries.
const LIMBS: usize = 69;
/// Each addition changes a limb by less than 2³²; i64 holds 2³¹ of them.
const CARRY_AFTER: u32 = 1 << 30;
/// The numbers that are not finite.
const SPECIAL: [f64; 3] = [f64::INFINITY, f64::NEG_INFINITY, f64::NAN];

/// An exact sum being built.
#[derive(Debug, Clone, Default)]
pub struct ExactSum {
    /// Signed limbs, least first; the unit is 2⁻¹⁰⁷⁴. Empty until the first value.
    limbs: Vec<i64>,
    pending: u32,
    count: u64,
    /// Sum of infinities and NaNs, which obey plain addition.
    special: f64,
}

impl ExactSum {
    /// Takes in one number.
    pub fn push(&mut self, value: f64) {
        self.count += 1;
        if value.is_finite() {
            self.change(value, 1);
        } else {
            self.special = special(self.special, value);
        }
    }

    /// Adds a finite number, or its negative.
    fn change(&mut self, value: f64, sign: i64) {
        if self.limbs.is_empty() {
            self.limbs = vec![0; LIMBS];
        }
        let bits = value.to_bits();
        let exponent = (bits >> 52) & 0x7ff;
        let fraction = bits & ((1 << 52) - 1);
        let (significand, shift) = if exponent == 0 {
            (fraction, 0)
        } else {
            (fraction | 1 << 52, exponent as usize - 1)
        };
        let wide = u128::from(significand) << (shift % 32);
        let sign = if value.is_sign_negative() {
            -sign
        } else {
            sign
        };
        for (place, limb) in self.limbs.iter_mut().skip(shift / 32).take(3).enumerate() {
            *limb += sign * ((wide >> (32 * place)) as u32 as i64);
        }
        self.pending += 1;
        if self.pending >= CARRY_AFTER {
            self.carry();
        }
    }

    /// Brings every limb but the last into 0 … 2³² − 1; the last carries the sign.
    fn carry(&mut self) {
        self.pending = 0;
        let mut over = 0;
        let last = self.limbs.len().saturating_sub(1);
        for (place, limb) in self.limbs.iter_mut().enumerate() {
            *limb += over;
            if place < last {
                over = *limb >> 32;
                *limb &= 0xffff_ffff;
            }
        }
    }

    /// The sum, rounded once; `None` when nothing was added.
    pub fn value(&self) -> Option<f64> {
        if self.count == 0 {
            return None;
        }
        if self.special != 0.0 || self.special.is_nan() {
            return Some(self.special);
        }
        let mut whole = self.clone();
        whole.carry();
        let negative = whole.limbs.last().is_some_and(|limb| *limb < 0);
        if negative {
            whole.limbs.iter_mut().for_each(|limb| *limb = -*limb);
            whole.carry();
        }
        let magnitude = round(&whole.limbs);
        Some(if negative { -magnitude } else { magnitude })
    }
}

/// The sum of infinities and NaNs; there is one NaN, or its bits would depend on the order.
fn special(one: f64, other: f64) -> f64 {
    let sum = one + other;
    if sum.is_nan() { f64::NAN } else { sum }
}

/// Bits `from` to `from + 63` of a non-negative figure in carried limbs.
fn window(limbs: &[i64], from: usize) -> u64 {
    let part = |place: usize| u128::from(limbs.get(place).copied().unwrap_or_default() as u64);
    let first = from / 32;
    let wide = part(first) | part(first + 1) << 32 | part(first + 2) << 64;
    (wide >> (from % 32)) as u64
}

fn round(limbs: &[i64]) -> f64 {
    let Some(top_limb) = limbs.iter().rposition(|limb| *limb != 0) else {
        return 0.0;
    };
    let top = top_limb * 32 + 63
        - limbs
            .get(top_limb)
            .map_or(63, |limb| limb.leading_zeros() as usize);
    if top <= 52 {
        // Subnormal, or the smallest normal: the figure is its own bit pattern.
        return f64::from_bits(window(limbs, 0));
    }
    let low = top - 52;
    let mut significand = window(limbs, low) & ((1 << 53) - 1);
    let half = window(limbs, low - 1) & 1 == 1;
    let below_half = low - 1;
    let sticky = limbs.iter().take(below_half / 32).any(|limb| *limb != 0)
        || window(limbs, below_half / 32 * 32) & ((1 << (below_half % 32)) - 1) != 0;
    let mut exponent = low as u64 + 1;
    if half && (sticky || significand & 1 == 1) {
        significand += 1;
        if significand == 1 << 53 {
            significand >>= 1;
            exponent += 1;
        }
    }
    if exponent >= 0x7ff {
        return f64::INFINITY;
    }
    f64::from_bits(exponent << 52 | (significand & ((1 << 52) - 1)))
}

impl Cell for ExactSum {
    fn add(&mut self, value: Value<'_>) -> Result<()> {
        self.push(number_of(value)?);
        Ok(())
    }

    fn merge(&mut self, state: &[u8]) -> Result<()> {
        let (words, rest) = state.as_chunks::<8>();
        let [count, special, limbs @ ..] = words else {
            return exec_err!("an exact sum has a broken state");
        };
        if !rest.is_empty() || (limbs.len() != LIMBS && !limbs.is_empty()) {
            return exec_err!("an exact sum has a broken state");
        }
        self.count += u64::from_le_bytes(*count);
        self.special = self::special(self.special, f64::from_le_bytes(*special));
        if !limbs.is_empty() {
            if self.limbs.is_empty() {
                self.limbs = vec![0; LIMBS];
            }
            self.carry();
            self.limbs
                .iter_mut()
                .zip(limbs)
                .for_each(|(limb, added)| *limb += i64::from_le_bytes(*added));
            self.carry();
        }
        Ok(())
    }

    fn encode(&mut self, out: &mut Vec<u8>) {
        self.carry();
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&self.special.to_le_bytes());
        self.limbs
            .iter()
            .for_each(|limb| out.extend_from_slice(&limb.to_le_bytes()));
    }

    fn heap_bytes(&self) -> usize {
        self.limbs.capacity() * 8
    }
}

fn number_of(value: Value<'_>) -> Result<f64> {
    match value {
        Value::Real(value) => Ok(value),
        _ => exec_err!("sum_exact takes floating-point numbers"),
    }
}

/// An exact sum over a frame that slides. A special number cannot be subtracted: each kind is counted.
#[derive(Debug, Default)]
pub(crate) struct SumFrame {
    /// The sum and count of the finite numbers.
    finite: ExactSum,
    /// How many numbers of each kind in [`SPECIAL`].
    special: [u64; 3],
}

impl Frame<ExactSum> for SumFrame {
    fn pass(&mut self, given: Given<'_>, way: Way) -> Result<()> {
        let Given::Value(value) = given else {
            return exec_err!("sum_exact takes numbers");
        };
        let value = number_of(value)?;
        let kind = SPECIAL
            .iter()
            .position(|kind| *kind == value || kind.is_nan() && value.is_nan());
        let count = match kind.and_then(|kind| self.special.get_mut(kind)) {
            Some(count) => count,
            None => &mut self.finite.count,
        };
        let changed = match way {
            Way::In => count.checked_add(1),
            Way::Out => count.checked_sub(1),
        };
        match changed {
            Some(changed) => *count = changed,
            None => return exec_err!("a number that goes out of a frame is not in it"),
        }
        if kind.is_none() {
            self.finite
                .change(value, if way == Way::In { 1 } else { -1 });
        }
        Ok(())
    }

    fn cell(&self) -> Result<ExactSum> {
        let mut sum = match self.finite.count {
            // Without a number there are no limbs, not limbs of 0.
            0 => ExactSum::default(),
            _ => self.finite.clone(),
        };
        for (kind, count) in SPECIAL.into_iter().zip(self.special) {
            if count > 0 {
                sum.special = special(sum.special, kind);
                sum.count += count;
            }
        }
        Ok(sum)
    }

    fn heap_bytes(&self) -> usize {
        self.finite.heap_bytes()
    }
}

impl Finish for ExactSum {
    const RESULT: InputType = InputType::Real;
    type Frame = SumFrame;

    fn number(&self) -> Option<f64> {
        self.value()
    }
}

pub(crate) fn aggregates() -> Vec<AggregateUDF> {
    vec![CellAggregate::<ExactSum>::function(
        "sum_exact",
        Takes::Values(InputType::Real),
    )]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_laws, check_slides, laws, numbers};
    use arrow::array::{ArrayRef, Float64Array};
    use proptest::prelude::*;
    use std::sync::Arc;

    fn sum(values: &[f64]) -> Option<f64> {
        let mut sum = ExactSum::default();
        values.iter().for_each(|value| sum.push(*value));
        sum.value()
    }

    #[test]
    fn sums_are_exact_where_plain_addition_is_not() {
        for (values, expected) in [
            (&[1e100, 1.0, -1e100][..], 1.0),
            (&[0.1; 10][..], 1.0),
            (&[1e16, 1.0, 1.0], 1e16 + 2.0),
            (&[-5e-324, -5e-324], -1e-323),
            (&[f64::MAX, f64::MAX, -f64::MAX], f64::MAX),
            (&[f64::MAX, f64::MAX], f64::INFINITY),
            (&[1.0, f64::EPSILON / 2.0], 1.0),
            (&[1.0, f64::EPSILON / 2.0, 5e-324], 1.0 + f64::EPSILON),
            (&[-0.0, 0.0], 0.0),
            (
                &[2.225_073_858_507_201_4e-308, -5e-324],
                2.225_073_858_507_200_9e-308,
            ),
        ] {
            assert_eq!(sum(values), Some(expected), "{values:?}");
        }
    }

    #[test]
    fn every_single_number_is_its_own_sum() {
        for seed in numbers(5_000, u64::MAX) {
            let value = f64::from_bits(seed);
            if value.is_finite() {
                assert_eq!(sum(&[value]), Some(value));
            }
        }
    }

    #[test]
    fn the_sum_of_nothing_is_null_and_infinities_stay() {
        assert_eq!(sum(&[]), None);
        assert_eq!(sum(&[1.0, f64::INFINITY]), Some(f64::INFINITY));
        assert!(sum(&[f64::INFINITY, f64::NEG_INFINITY]).is_some_and(f64::is_nan));
    }

    #[test]
    fn order_and_parts_do_not_matter_to_the_bit() {
        let values: Vec<f64> = numbers(2_000, u64::MAX)
            .map(|seed| f64::from_bits(seed >> 2) * if seed & 1 == 0 { 1.0 } else { -1.0 })
            .filter(|value| value.is_finite())
            .collect();
        let given: Vec<Value<'_>> = values.iter().map(|value| Value::Real(*value)).collect();
        check_laws::<ExactSum>(&given);
    }

    #[test]
    fn there_is_one_nan() {
        let odd = f64::from_bits(f64::NAN.to_bits() | 1 << 63 | 7);
        for values in [
            &[odd][..],
            &[f64::NAN, odd],
            &[f64::INFINITY, f64::NEG_INFINITY],
            &[f64::NEG_INFINITY, 1.0, f64::INFINITY],
            &[odd, f64::INFINITY],
        ] {
            let bits = sum(values).map(f64::to_bits);
            assert_eq!(bits, Some(f64::NAN.to_bits()), "{values:?}");
        }
    }

    fn one_of_a_kind() -> impl Strategy<Value = Option<f64>> {
        prop_oneof![
            6 => any::<f64>().prop_map(Some),
            2 => (-9i32..9).prop_map(|few| Some(f64::from(few) / 10.0)),
            1 => prop::sample::select(vec![
                Some(f64::INFINITY),
                Some(f64::NEG_INFINITY),
                Some(f64::NAN),
                Some(f64::MAX),
                Some(-0.0),
                Some(5e-324),
                None,
            ]),
        ]
    }

    proptest! {
        #![proptest_config(laws())]

        #[test]
        fn sums_slide_to_the_bit(values in prop::collection::vec(one_of_a_kind(), 1..40)) {
            let values: ArrayRef = Arc::new(values.into_iter().collect::<Float64Array>());
            check_slides(&aggregates()[0], &[values]);
        }

        #[test]
        fn what_is_taken_out_was_never_there(
            kept in prop::collection::vec(one_of_a_kind(), 0..20),
            gone in prop::collection::vec(one_of_a_kind(), 0..20),
        ) {
            let mut frame = SumFrame::default();
            let mut alone = ExactSum::default();
            let pass = |frame: &mut SumFrame, value: f64, way| {
                frame.pass(Given::Value(Value::Real(value)), way).unwrap();
            };
            gone.iter().flatten().for_each(|value| pass(&mut frame, *value, Way::In));
            for value in kept.iter().flatten() {
                pass(&mut frame, *value, Way::In);
                alone.push(*value);
            }
            gone.iter().rev().flatten().for_each(|value| pass(&mut frame, *value, Way::Out));
            let (mut left, mut expected) = (Vec::new(), Vec::new());
            frame.cell().unwrap().encode(&mut left);
            alone.encode(&mut expected);
            prop_assert_eq!(left, expected);
        }
    }

    #[test]
    fn a_number_that_is_not_there_cannot_go() {
        for value in [1.0, f64::INFINITY, f64::NAN] {
            let gone = Given::Value(Value::Real(value));
            assert!(SumFrame::default().pass(gone, Way::Out).is_err());
        }
    }
}
