//! Waits when some still wait: `kaplan_meier_median(events, censored)`,
//! `kaplan_meier_quantile(events, censored, q)`, `kaplan_meier_reached(events, censored, q)`,
//! `kaplan_meier_survival(events, censored, day)`,
//! `kaplan_meier_standard_error(events, censored, day)`.
//!
//! The median of those who got in is too short while the slow ones still wait. The product-limit
//! estimate (Kaplan and Meier 1958) counts both: S(t) = Π (1 − dᵢ / nᵢ) over the days i ≤ t, with dᵢ
//! who got in on day i of their wait and nᵢ who had not got in before day i and were followed to it.
//! Who still waits after t days (censored at t) is at risk on day t: on one day, events come first.
//! Both inputs are states of `day_histogram`, so they are added over areas, months and deliveries
//! first, in any order and number of parts, and the curve is computed from the sums.
//!
//! Between two censored days the product is one fraction, (n − d) / n with whole numbers, and it is
//! computed so: without censoring the curve is one minus the distribution function to the last bit.
//! The standard error is Greenwood's (1926): S(t) · √Σ dᵢ / (nᵢ (nᵢ − dᵢ)). Where the curve is zero
//! it does not exist.
//!
//! The quantile q is the first day on which S ≤ 1 − q; where S equals 1 − q, the mean of that day and
//! of the next on which someone got in, so that without censoring it is `histogram_quantile`. It may
//! be **not reached**: too many still wait. In SQL the quantile is then null and
//! `kaplan_meier_reached` is 0; without any observation both are null. The curve after the last day
//! on which anyone was followed is null unless it has come to zero.
//!
//! A null state gives null. A negative wait is an error. Time: one pass over the days of both
//! histograms. Memory: 48 bytes a day with events.

use std::cmp::Ordering;

use datafusion_common::{Result, exec_err};
use datafusion_expr::ScalarUDF;

use crate::cell::{InputType, Value};
use crate::day_histogram::{HAIR, check_share, decode};
use crate::scalar::{Body, PlainFunction};

/// A day on which someone got in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SurvivalStep {
    /// Days waited.
    pub day: i32,
    /// Followed to this day and not in before it.
    pub at_risk: u64,
    /// Got in on this day.
    pub events: u64,
    /// Share that still waits after this day.
    pub survival: f64,
    /// Greenwood's standard error of the share; none where the share is zero.
    pub standard_error: Option<f64>,
}

/// The wait that a share of people does not exceed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum WaitQuantile {
    /// So many days.
    Days(f64),
    /// Too many still wait for the share to have got in.
    NotReached,
    /// Nobody was observed.
    NoObservations,
}

/// The curve of those who still wait.
#[derive(Debug, Clone, PartialEq)]
pub struct SurvivalCurve {
    steps: Vec<SurvivalStep>,
    /// The last day on which anyone was followed.
    followed_to: Option<i32>,
}

impl SurvivalCurve {
    /// The curve from two encoded day histograms: waits that ended, and waits that go on.
    pub fn of(events: &[u8], censored: &[u8]) -> Result<Self> {
        let mut ended = decode(events)?.peekable();
        let mut going_on = decode(censored)?.peekable();
        let mut at_risk = 0u64;
        for (day, count) in decode(events)?.chain(decode(censored)?) {
            if day < 0 {
                return exec_err!("a wait is negative: keep such rows out of the histogram");
            }
            // Each histogram counts less than 2^63.
            at_risk += count;
        }
        let mut curve = Self {
            steps: Vec::new(),
            followed_to: None,
        };
        // The curve and the number at risk when someone was last lost from sight.
        let (mut base, mut base_at_risk) = (1.0, at_risk);
        let mut hazard = 0.0;
        loop {
            let order = match (ended.peek(), going_on.peek()) {
                (None, None) => return Ok(curve),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((event, _)), Some((lost, _))) => event.cmp(lost),
            };
            // On one day events come first: the censored are still at risk.
            if order == Ordering::Greater {
                let Some((day, lost)) = going_on.next() else {
                    return Ok(curve);
                };
                curve.followed_to = Some(day);
                base = share(base, at_risk, base_at_risk);
                at_risk -= lost;
                base_at_risk = at_risk;
                continue;
            }
            let Some((day, events)) = ended.next() else {
                return Ok(curve);
            };
            curve.followed_to = Some(day);
            let left = at_risk - events;
            let survival = share(base, left, base_at_risk);
            hazard += events as f64 / (at_risk as f64 * left as f64);
            curve.steps.push(SurvivalStep {
                day,
                at_risk,
                events,
                survival,
                standard_error: (left > 0).then(|| survival * hazard.sqrt()),
            });
            at_risk = left;
        }
    }

    /// The days on which someone got in, by day.
    pub fn steps(&self) -> &[SurvivalStep] {
        &self.steps
    }

    /// The share that still waits after a day; `None` where nobody was followed so long.
    pub fn survival(&self, day: i32) -> Option<f64> {
        self.at(day)
            .map(|step| step.map_or(1.0, |step| step.survival))
    }

    /// Greenwood's standard error of the share after a day; `None` where the curve is zero or
    /// unknown.
    pub fn standard_error(&self, day: i32) -> Option<f64> {
        self.at(day)?.map_or(Some(0.0), |step| step.standard_error)
    }

    /// The wait that a share `q` of people does not exceed.
    pub fn quantile(&self, q: f64) -> Result<WaitQuantile> {
        check_share(q)?;
        if self.followed_to.is_none() {
            return Ok(WaitQuantile::NoObservations);
        }
        let left = 1.0 - q;
        let Some(place) = self
            .steps
            .iter()
            .position(|step| step.survival <= left + HAIR)
        else {
            return Ok(WaitQuantile::NotReached);
        };
        let mut days = self.steps.iter().skip(place);
        let Some(step) = days.next() else {
            return Ok(WaitQuantile::NotReached);
        };
        let first = f64::from(step.day);
        Ok(WaitQuantile::Days(match days.next() {
            Some(next) if step.survival >= left - HAIR => f64::midpoint(first, f64::from(next.day)),
            _ => first,
        }))
    }

    /// The last step up to a day; the outer `None` where the curve is not known.
    fn at(&self, day: i32) -> Option<Option<&SurvivalStep>> {
        let passed = self.steps.partition_point(|step| step.day <= day);
        let step = passed.checked_sub(1).and_then(|last| self.steps.get(last));
        let known = self.followed_to.is_some_and(|last| day <= last)
            || step.is_some_and(|step| step.survival == 0.0);
        known.then_some(step)
    }
}

/// `base` times a fraction of whole numbers; with nobody left to lose, `base` itself.
fn share(base: f64, left: u64, of: u64) -> f64 {
    if left == of {
        base
    } else {
        base * (left as f64 / of as f64)
    }
}

pub(crate) fn scalars() -> Vec<ScalarUDF> {
    const STATES: &[InputType] = &[InputType::Bytes, InputType::Bytes];
    const SHARE: &[InputType] = &[InputType::Bytes, InputType::Bytes, InputType::Real];
    const DAY: &[InputType] = &[InputType::Bytes, InputType::Bytes, InputType::Whole];
    vec![
        PlainFunction::function(
            "kaplan_meier_median",
            STATES,
            Body::Real(|values| Ok(days(quantile(values, Some(0.5))?))),
        ),
        PlainFunction::function(
            "kaplan_meier_quantile",
            SHARE,
            Body::Real(|values| Ok(days(quantile(values, None)?))),
        ),
        PlainFunction::function(
            "kaplan_meier_reached",
            SHARE,
            Body::Whole(|values| {
                Ok(match quantile(values, None)? {
                    WaitQuantile::Days(_) => Some(1),
                    WaitQuantile::NotReached => Some(0),
                    WaitQuantile::NoObservations => None,
                })
            }),
        ),
        PlainFunction::function(
            "kaplan_meier_survival",
            DAY,
            Body::Real(|values| on_day(values, SurvivalCurve::survival)),
        ),
        PlainFunction::function(
            "kaplan_meier_standard_error",
            DAY,
            Body::Real(|values| on_day(values, SurvivalCurve::standard_error)),
        ),
    ]
}

fn days(quantile: WaitQuantile) -> Option<f64> {
    match quantile {
        WaitQuantile::Days(days) => Some(days),
        WaitQuantile::NotReached | WaitQuantile::NoObservations => None,
    }
}

fn quantile(values: &[Value<'_>], fixed: Option<f64>) -> Result<WaitQuantile> {
    match (values, fixed) {
        ([Value::Bytes(events), Value::Bytes(censored)], Some(q)) => {
            SurvivalCurve::of(events, censored)?.quantile(q)
        }
        ([Value::Bytes(events), Value::Bytes(censored), Value::Real(q)], None) => {
            SurvivalCurve::of(events, censored)?.quantile(*q)
        }
        _ => exec_err!(
            "a quantile of waits takes two states of day_histogram, those that ended and those \
             that go on, and a number from 0 to 1"
        ),
    }
}

fn on_day(values: &[Value<'_>], of: fn(&SurvivalCurve, i32) -> Option<f64>) -> Result<Option<f64>> {
    match values {
        [
            Value::Bytes(events),
            Value::Bytes(censored),
            Value::Whole(day),
        ] => match i32::try_from(*day) {
            Ok(day) if day >= 0 => Ok(of(&SurvivalCurve::of(events, censored)?, day)),
            _ => exec_err!("a day of a wait is a number from 0 to 2^31 - 1"),
        },
        _ => exec_err!(
            "a share of waits takes two states of day_histogram, those that ended and those that \
             go on, and a day"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::laws;
    use crate::{DayHistogram, QuantileRule};
    use proptest::prelude::*;

    fn histogram(days: &[i32]) -> Vec<u8> {
        let mut histogram = DayHistogram::default();
        histogram.add_days(days).unwrap();
        histogram.state()
    }

    fn curve(events: &[i32], censored: &[i32]) -> SurvivalCurve {
        SurvivalCurve::of(&histogram(events), &histogram(censored)).unwrap()
    }

    /// The definition, person by person and day by day, without telescoping.
    fn naive(events: &[i32], censored: &[i32]) -> Vec<(i32, f64, Option<f64>)> {
        let mut days = events.to_vec();
        days.sort_unstable();
        days.dedup();
        let (mut survival, mut sum) = (1.0, 0.0);
        days.into_iter()
            .map(|day| {
                let all = events.iter().chain(censored);
                let at_risk = all.filter(|other| **other >= day).count() as f64;
                let ended = events.iter().filter(|other| **other == day).count() as f64;
                survival *= 1.0 - ended / at_risk;
                sum += ended / (at_risk * (at_risk - ended));
                let known = at_risk > ended;
                (day, survival, known.then(|| survival * f64::sqrt(sum)))
            })
            .collect()
    }

    /// Weeks in remission of 21 patients (Freireich and others 1963), an example of many textbooks;
    /// the products by hand: 18/21, · 16/17, · 14/15, · 11/12, · 10/11, · 6/7, · 5/6.
    #[test]
    fn the_textbook_case_gives_the_textbook_curve() {
        let ended = [6, 6, 6, 7, 10, 13, 16, 22, 23];
        let going_on = [6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35];
        let curve = curve(&ended, &going_on);
        let expected = [
            (6, 21, 3, 0.8571, 0.0764),
            (7, 17, 1, 0.8067, 0.0869),
            (10, 15, 1, 0.7529, 0.0963),
            (13, 12, 1, 0.6902, 0.1068),
            (16, 11, 1, 0.6275, 0.1141),
            (22, 7, 1, 0.5378, 0.1282),
            (23, 6, 1, 0.4482, 0.1346),
        ];
        assert_eq!(curve.steps().len(), expected.len());
        for (step, (day, at_risk, events, survival, error)) in curve.steps().iter().zip(expected) {
            assert_eq!(
                (step.day, step.at_risk, step.events),
                (day, at_risk, events)
            );
            assert!((step.survival - survival).abs() < 5e-5, "{step:?}");
            assert!(
                (step.standard_error.unwrap() - error).abs() < 5e-5,
                "{step:?}"
            );
        }
        assert_eq!(curve.quantile(0.5).unwrap(), WaitQuantile::Days(23.0));
        assert_eq!(curve.quantile(0.25).unwrap(), WaitQuantile::Days(13.0));
        assert_eq!(curve.quantile(0.75).unwrap(), WaitQuantile::NotReached);
        assert_eq!(curve.survival(5), Some(1.0));
        assert_eq!(curve.survival(35), curve.survival(23));
        assert_eq!(curve.survival(36), None, "nobody was followed so long");
        assert_eq!(curve.standard_error(5), Some(0.0));
    }

    #[test]
    fn a_share_met_exactly_takes_the_mean_with_the_next_day() {
        assert_eq!(
            curve(&[2, 8], &[]).quantile(0.5).unwrap(),
            WaitQuantile::Days(5.0)
        );
        assert_eq!(
            curve(&[2], &[8]).quantile(0.5).unwrap(),
            WaitQuantile::Days(2.0),
            "there is no next day"
        );
    }

    #[test]
    fn nobody_is_no_observation_and_all_still_waiting_is_not_reached() {
        assert_eq!(
            curve(&[], &[]).quantile(0.5).unwrap(),
            WaitQuantile::NoObservations
        );
        assert_eq!(curve(&[], &[]).survival(0), None);
        assert_eq!(
            curve(&[], &[3, 9]).quantile(0.5).unwrap(),
            WaitQuantile::NotReached
        );
        assert_eq!(curve(&[], &[3, 9]).survival(9), Some(1.0));
        let reached = |ended: &[i32], going_on: &[i32]| {
            let (ended, going_on) = (histogram(ended), histogram(going_on));
            let values = [
                Value::Bytes(&ended),
                Value::Bytes(&going_on),
                Value::Real(0.5),
            ];
            days(quantile(&values, None).unwrap())
        };
        assert_eq!(reached(&[4], &[]), Some(4.0));
        assert_eq!(reached(&[], &[4]), None);
    }

    #[test]
    fn when_everyone_got_in_the_curve_stays_at_zero() {
        let curve = curve(&[3, 3, 5], &[]);
        assert_eq!(curve.survival(5), Some(0.0));
        assert_eq!(curve.survival(5_000), Some(0.0));
        assert_eq!(curve.standard_error(5), None);
    }

    #[test]
    fn nonsense_is_an_error_and_not_a_number() {
        assert!(SurvivalCurve::of(&histogram(&[-1]), &[]).is_err());
        assert!(SurvivalCurve::of(&[], &[1]).is_err());
        assert!(curve(&[1], &[]).quantile(f64::NAN).is_err());
        let day = [Value::Bytes(&[]), Value::Bytes(&[]), Value::Whole(-1)];
        assert!(on_day(&day, SurvivalCurve::survival).is_err());
    }

    proptest! {
        #![proptest_config(laws())]

        #[test]
        fn the_curve_equals_the_definition(
            ended in prop::collection::vec(0i32..40, 0..60),
            going_on in prop::collection::vec(0i32..60, 0..60),
        ) {
            let found = curve(&ended, &going_on);
            let expected = naive(&ended, &going_on);
            prop_assert_eq!(found.steps().len(), expected.len());
            for (step, (day, survival, error)) in found.steps().iter().zip(expected) {
                prop_assert_eq!(step.day, day);
                prop_assert!((step.survival - survival).abs() < 1e-12);
                prop_assert_eq!(step.standard_error.is_some(), error.is_some());
                let (a, b) = (step.standard_error.unwrap_or(0.0), error.unwrap_or(0.0));
                prop_assert!((a - b).abs() < 1e-12);
            }
        }

        #[test]
        fn without_censoring_it_is_one_minus_the_distribution(
            ended in prop::collection::vec(0i32..50, 1..200),
            thousandths in 0u32..=1_000,
        ) {
            let found = curve(&ended, &[]);
            let n = ended.len() as f64;
            for step in found.steps() {
                let longer = ended.iter().filter(|day| **day > step.day).count() as f64;
                prop_assert_eq!(step.survival, longer / n);
            }
            let mut plain = DayHistogram::default();
            plain.add_days(&ended).unwrap();
            let q = f64::from(thousandths) / 1_000.0;
            let expected = plain.quantile(q, QuantileRule::AveragedStep).unwrap().unwrap();
            prop_assert_eq!(found.quantile(q).unwrap(), WaitQuantile::Days(expected));
        }

        #[test]
        fn the_curve_falls_and_stays_within_zero_and_one(
            ended in prop::collection::vec(0i32..40, 0..60),
            going_on in prop::collection::vec(0i32..60, 0..60),
        ) {
            let found = curve(&ended, &going_on);
            let mut last = 1.0;
            for step in found.steps() {
                prop_assert!((0.0..last).contains(&step.survival), "{step:?}");
                last = step.survival;
            }
        }
    }
}
