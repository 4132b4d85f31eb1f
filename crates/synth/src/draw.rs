//! Random draws from named streams.
//!
//! Every stream is derived by hashing the seed with what it is for (county,
//! source, month, person), so that a file's bytes depend neither on the order
//! in which files are written nor on the number of threads. No global
//! generator may be used in this crate. To add a distribution: a method here
//! that consumes the stream in a fixed order.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use crate::days::{Day, weekday};

/// Hashes a seed with the parts of a stream's name.
pub(crate) fn mix(seed: u64, parts: &[u64]) -> u64 {
    parts.iter().fold(scramble(seed), |state, part| {
        scramble(state ^ scramble(part.wrapping_add(0xA076_1D64_78BD_642F)))
    })
}

/// The finaliser of SplitMix64 after its increment.
fn scramble(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A number in 0..1 that belongs to a thing (such as a person's frailty) and never changes.
pub(crate) fn latent(seed: u64, parts: &[u64]) -> f64 {
    to_unit(mix(seed, parts))
}

fn to_unit(bits: u64) -> f64 {
    (bits >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

/// One stream of random numbers.
#[derive(Debug, Clone)]
pub(crate) struct Draw(Xoshiro256PlusPlus);

impl Draw {
    /// The stream named by `parts`.
    pub(crate) fn stream(seed: u64, parts: &[u64]) -> Draw {
        Draw(Xoshiro256PlusPlus::seed_from_u64(mix(seed, parts)))
    }

    /// Uniform in 0..1.
    pub(crate) fn unit(&mut self) -> f64 {
        to_unit(self.0.next_u64())
    }

    /// Uniform in 0..`n`; 0 when `n` is 0.
    pub(crate) fn below(&mut self, n: u32) -> u32 {
        ((u64::from(self.0.next_u32()) * u64::from(n)) >> 32) as u32
    }

    /// Uniform in `from..=to`; `from` when the range is empty.
    pub(crate) fn between(&mut self, from: i32, to: i32) -> i32 {
        from + self.below((to - from + 1).max(0) as u32) as i32
    }

    /// True with probability `p`.
    pub(crate) fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    /// One of the values, by weight; the last one when weights are all zero.
    pub(crate) fn pick<T: Copy>(&mut self, choices: &[(T, u32)]) -> T {
        let total: u32 = choices.iter().map(|(_, weight)| weight).sum();
        let mut ticket = self.below(total);
        for (value, weight) in choices {
            if ticket < *weight {
                return *value;
            }
            ticket -= weight;
        }
        choices[choices.len() - 1].0
    }

    /// Exponential with the given mean.
    pub(crate) fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.unit()).ln()
    }

    /// Poisson; the mean should be small (below about 30).
    pub(crate) fn poisson(&mut self, mean: f64) -> u32 {
        if mean <= 0.0 {
            return 0;
        }
        let floor = (-mean).exp();
        let mut product = self.unit();
        let mut count = 0;
        while product > floor && count < 1_000 {
            product *= self.unit();
            count += 1;
        }
        count
    }

    /// 1, 2, 3 …: each further step with probability `more`.
    pub(crate) fn geometric(&mut self, more: f64, max: u32) -> u32 {
        let mut count = 1;
        while count < max && self.chance(more) {
            count += 1;
        }
        count
    }

    /// Rounds a mean up or down so that it is kept on average.
    pub(crate) fn round(&mut self, mean: f64) -> u32 {
        let floor = mean.floor();
        floor as u32 + u32::from(self.chance(mean - floor))
    }

    /// A value around 1: the mean of three uniforms stretched to `1 ± spread`.
    pub(crate) fn around_one(&mut self, spread: f64) -> f64 {
        1.0 + spread * ((self.unit() + self.unit() + self.unit()) * (2.0 / 3.0) - 1.0)
    }

    /// A day of `from..=to`.
    pub(crate) fn day(&mut self, from: Day, to: Day) -> Day {
        self.between(from, to)
    }

    /// A day of `from..=to`, seldom a Saturday or Sunday.
    pub(crate) fn office_day(&mut self, from: Day, to: Day) -> Day {
        let mut on = self.day(from, to);
        for _ in 0..2 {
            if weekday(on) < 5 {
                break;
            }
            on = self.day(from, to);
        }
        on
    }

    /// Puts the items in random order.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u32 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_its_name_and_nothing_else() {
        let numbers = |seed, parts: &[u64]| {
            let mut draw = Draw::stream(seed, parts);
            (0..4).map(|_| draw.below(1_000_000)).collect::<Vec<_>>()
        };
        assert_eq!(numbers(1, &[2, 3]), numbers(1, &[2, 3]));
        for other in [
            numbers(2, &[2, 3]),
            numbers(1, &[3, 2]),
            numbers(1, &[2]),
            numbers(1, &[2, 3, 0]),
        ] {
            assert_ne!(numbers(1, &[2, 3]), other);
        }
    }

    #[test]
    fn draws_have_the_means_they_promise() {
        let mut draw = Draw::stream(7, &[1]);
        let n = 200_000;
        let mean = |total: f64| total / f64::from(n);
        let poisson = mean((0..n).map(|_| f64::from(draw.poisson(2.3))).sum());
        assert!((poisson - 2.3).abs() < 0.03, "{poisson}");
        let exponential = mean((0..n).map(|_| draw.exponential(12.0)).sum());
        assert!((exponential - 12.0).abs() < 0.15, "{exponential}");
        let rounded = mean((0..n).map(|_| f64::from(draw.round(1.25))).sum());
        assert!((rounded - 1.25).abs() < 0.01, "{rounded}");
        let uniform = mean((0..n).map(|_| f64::from(draw.below(10))).sum());
        assert!((uniform - 4.5).abs() < 0.04, "{uniform}");
        let around = mean((0..n).map(|_| draw.around_one(0.2)).sum());
        assert!((around - 1.0).abs() < 0.001, "{around}");
    }

    #[test]
    fn weights_are_followed_and_ranges_kept() {
        let mut draw = Draw::stream(7, &[2]);
        let picked = (0..100_000)
            .filter(|_| draw.pick(&[('a', 3), ('b', 1), ('c', 0)]) == 'a')
            .count();
        assert!((74_000..76_000).contains(&picked), "{picked}");
        assert!(
            (0..10_000)
                .map(|_| draw.between(-2, 2))
                .all(|n| (-2..=2).contains(&n))
        );
        assert!(
            (0..10_000)
                .map(|_| draw.geometric(0.9, 5))
                .all(|n| (1..=5).contains(&n))
        );
        let mut items: Vec<u32> = (0..100).collect();
        draw.shuffle(&mut items);
        assert_ne!(items, (0..100).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    }
}
