//! Confidence intervals of counts and proportions.
//!
//! `byar_lower/upper(x, level)`: Byar's approximation to the limits of a Poisson count (Breslow and
//! Day 1987). `poisson_exact_lower/upper(x, level)`: the exact limits (Garwood 1936).
//! `rate_lower/upper(x, level)`: exact below 10 events, Byar from 10, as public health tables do.
//! `wilson_lower/upper(x, n, level)`: Wilson's score interval of a proportion x / n (1927), as a
//! share from 0 to 1. `level` is two-sided, 0.95 for 95 %. A negative count, a level outside 0…1,
//! or x > n gives null: there is no interval. Limits of a rate are these divided by its denominator.

use datafusion_common::{Result, exec_err};
use datafusion_expr::ScalarUDF;
use statrs::function::erf::erfc_inv;

use crate::cell::{InputType, Value};
use crate::scalar::{Body, PlainFunction};

/// The standard normal quantile of 1 − α/2 for a two-sided level 1 − α.
fn z(level: f64) -> Option<f64> {
    (level > 0.0 && level < 1.0).then(|| std::f64::consts::SQRT_2 * erfc_inv(1.0 - level))
}

/// Byar's limits of a count.
pub fn byar(x: i64, level: f64) -> Option<(f64, f64)> {
    let z = z(level)?;
    let limit = |x: f64, sign: f64| {
        let root = 1.0 - 1.0 / (9.0 * x) + sign * z / (3.0 * x.sqrt());
        x * root * root * root
    };
    match x {
        ..0 => None,
        0 => Some((0.0, limit(1.0, 1.0))),
        _ => Some((limit(x as f64, -1.0), limit(x as f64 + 1.0, 1.0))),
    }
}

/// Exact Poisson limits of a count.
pub fn poisson_exact(x: i64, level: f64) -> Option<(f64, f64)> {
    if x < 0 || !(level > 0.0 && level < 1.0) {
        return None;
    }
    let tail = (1.0 - level) / 2.0;
    // P(X ≤ x | mean) falls with the mean; each limit is where it passes a given value.
    let mean_where = |x: i64, probability: f64| {
        let (mut low, mut high) = (0.0, x as f64 * 2.0 + 50.0);
        while low < high {
            let middle = f64::midpoint(low, high);
            if middle <= low || middle >= high {
                break;
            }
            if poisson_at_most(x, middle) > probability {
                low = middle
            } else {
                high = middle
            }
        }
        f64::midpoint(low, high)
    };
    let lower = if x == 0 {
        0.0
    } else {
        mean_where(x - 1, 1.0 - tail)
    };
    Some((lower, mean_where(x, tail)))
}

/// P(X ≤ x) for a Poisson mean, summed from the largest term so that nothing under- or overflows.
fn poisson_at_most(x: i64, mean: f64) -> f64 {
    if mean <= 0.0 {
        return 1.0;
    }
    let start = (mean.floor() as i64).min(x);
    let log_factorial: f64 = (2..=start).map(|k| (k as f64).ln()).sum();
    let largest = (start as f64 * mean.ln() - mean - log_factorial).exp();
    let mut sum = largest;
    let mut term = largest;
    for k in (1..=start).rev() {
        term *= k as f64 / mean;
        sum += term;
        if term < sum * 1e-18 {
            break;
        }
    }
    term = largest;
    for k in start + 1..=x {
        term *= mean / k as f64;
        sum += term;
    }
    sum.min(1.0)
}

/// Limits of a count in a rate: exact below 10 events, Byar from 10.
pub fn rate_limits(x: i64, level: f64) -> Option<(f64, f64)> {
    if x < 10 {
        poisson_exact(x, level)
    } else {
        byar(x, level)
    }
}

/// Wilson's limits of the proportion x / n.
pub fn wilson(x: i64, n: i64, level: f64) -> Option<(f64, f64)> {
    let z = z(level)?;
    if n <= 0 || x < 0 || x > n {
        return None;
    }
    let (x, n) = (x as f64, n as f64);
    let spread = z * (z * z + 4.0 * x * (1.0 - x / n)).sqrt();
    let limit =
        |sign: f64| ((2.0 * x + z * z + sign * spread) / (2.0 * (n + z * z))).clamp(0.0, 1.0);
    Some((limit(-1.0), limit(1.0)))
}

fn count_and_level(
    values: &[Value<'_>],
    limits: fn(i64, f64) -> Option<(f64, f64)>,
) -> Result<Option<(f64, f64)>> {
    match values {
        [Value::Whole(x), Value::Real(level)] => Ok(limits(*x, *level)),
        _ => exec_err!("an interval takes a count and a level"),
    }
}

fn wilson_of(values: &[Value<'_>]) -> Result<Option<(f64, f64)>> {
    match values {
        [Value::Whole(x), Value::Whole(n), Value::Real(level)] => Ok(wilson(*x, *n, *level)),
        _ => exec_err!("an interval of a proportion takes two counts and a level"),
    }
}

pub(crate) fn scalars() -> Vec<ScalarUDF> {
    const COUNT: &[InputType] = &[InputType::Whole, InputType::Real];
    const SHARE: &[InputType] = &[InputType::Whole, InputType::Whole, InputType::Real];
    vec![
        PlainFunction::function(
            "byar_lower",
            COUNT,
            Body::Real(|v| Ok(count_and_level(v, byar)?.map(|l| l.0))),
        ),
        PlainFunction::function(
            "byar_upper",
            COUNT,
            Body::Real(|v| Ok(count_and_level(v, byar)?.map(|l| l.1))),
        ),
        PlainFunction::function(
            "poisson_exact_lower",
            COUNT,
            Body::Real(|v| Ok(count_and_level(v, poisson_exact)?.map(|l| l.0))),
        ),
        PlainFunction::function(
            "poisson_exact_upper",
            COUNT,
            Body::Real(|v| Ok(count_and_level(v, poisson_exact)?.map(|l| l.1))),
        ),
        PlainFunction::function(
            "rate_lower",
            COUNT,
            Body::Real(|v| Ok(count_and_level(v, rate_limits)?.map(|l| l.0))),
        ),
        PlainFunction::function(
            "rate_upper",
            COUNT,
            Body::Real(|v| Ok(count_and_level(v, rate_limits)?.map(|l| l.1))),
        ),
        PlainFunction::function(
            "wilson_lower",
            SHARE,
            Body::Real(|v| Ok(wilson_of(v)?.map(|l| l.0))),
        ),
        PlainFunction::function(
            "wilson_upper",
            SHARE,
            Body::Real(|v| Ok(wilson_of(v)?.map(|l| l.1))),
        ),
    ]
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn check(found: Option<(f64, f64)>, expected: (f64, f64)) {
        let found = found.unwrap();
        for (a, b) in [(found.0, expected.0), (found.1, expected.1)] {
            assert!((a - b).abs() <= 1e-9 * b.abs(), "{a} is not {b}");
        }
    }

    #[test]
    fn limits_equal_published_values() {
        check(byar(65, 0.95), (50.16318771045943, 82.84913854593984));
        check(
            wilson(7, 50, 0.95),
            (0.0695083342701629, 0.26186193710585537),
        );
        let per = 100_000.0 / 12_000.0;
        check(
            poisson_exact(4, 0.95).map(|(l, u)| (l * per, u * per)),
            (9.08221144688604, 85.34657229503078),
        );
    }

    #[test]
    fn rates_change_method_at_ten_events() {
        assert_eq!(rate_limits(9, 0.95), poisson_exact(9, 0.95));
        assert_eq!(rate_limits(10, 0.95), byar(10, 0.95));
        assert_eq!(poisson_exact(0, 0.95).unwrap().0, 0.0);
        check(
            poisson_exact(0, 0.95).map(|(_, u)| (u, u)),
            (3.688879454113936, 3.688879454113936),
        );
    }

    #[test]
    fn byar_and_exact_come_together_for_large_counts() {
        let (a, b) = (
            byar(10_000, 0.95).unwrap(),
            poisson_exact(10_000, 0.95).unwrap(),
        );
        assert!(
            (a.0 - b.0).abs() < 0.05 && (a.1 - b.1).abs() < 0.05,
            "{a:?} {b:?}"
        );
    }

    #[test]
    fn impossible_counts_have_no_interval() {
        assert_eq!(byar(-1, 0.95), None);
        assert_eq!(wilson(5, 4, 0.95), None);
        assert_eq!(wilson(0, 0, 0.95), None);
        assert_eq!(rate_limits(5, 1.0), None);
    }

    #[test]
    fn proportions_of_nothing_and_everything_stay_inside() {
        assert_eq!(wilson(0, 10, 0.95).unwrap().0, 0.0);
        assert_eq!(wilson(10, 10, 0.95).unwrap().1, 1.0);
    }
}
