//! Directly standardised rates: `strata(stratum, events, population, weight)`,
//! `strata_merge(state)`, and over the state `standardised_rate(state, per)`,
//! `standardised_rate_lower/upper(state, per, level)`, `strata_events(state)`; in Rust also
//! [`StratumCounts`], the same for many areas at once.
//!
//! With events xᵢ, population nᵢ and standard weight wᵢ of stratum i (an age band, or age by sex) the
//! rate is v = Σ wᵢ xᵢ / nᵢ / Σ wᵢ, its variance Σ xᵢ (wᵢ / nᵢ)² / (Σ wᵢ)², and its limits are Dobson's
//! (Dobson, Kuulasmaa, Eberle and Scherer 1991) v + √(variance / O) · (limit of O − O) with
//! O = Σ xᵢ and Byar's limits of O. Only the weights' proportions matter. Under [`LEAST_EVENTS`]
//! events the rate is missing, a declared outcome ([`StandardisedRate::TooFew`], null in SQL where
//! `strata_events` tells why): a few events spread over the bands say nothing about a rate.
//!
//! The population must be counted once per stratum and not once per row of events, and the shape of
//! both faces sees to it. In SQL, `strata` takes **one row per stratum**: events and population are
//! two sums of their own, joined by stratum, and a stratum that comes twice is an error. In Rust,
//! rows of events carry no population; it is set once per area and stratum, setting it again is an
//! error, [`StratumCounts::merge`] of parts of the same rows refuses a population set in both, and
//! [`StratumCounts::roll_up`] to larger areas is the only way that populations add.
//!
//! Errors name the stratum by its number, in SQL without it: a population that is not positive, a weight that is
//! missing or not positive (leave such a stratum out, with its events), negative events, a stratum
//! without population. A row without a stratum is left out; no rows give an empty state, of which the
//! rate is null and the events are 0.
//!
//! State of `strata`: stratum (u32), events, population and weight (i64), little endian, by stratum,
//! 28 bytes each; merging joins disjoint lists. `StratumCounts`: 16 bytes for each area and stratum,
//! one addition a row, merging is addition. Sums of events are whole numbers; floating point appears
//! in the formula only, by stratum in order, so parts and order do not matter to the bit.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use datafusion_common::{Result, exec_err};
use datafusion_expr::{AggregateUDF, ScalarUDF};

use crate::aggregate::{CellAggregate, Takes};
use crate::cell::{Cell, Finish, Given, InputType, Value};
use crate::intervals::byar;
use crate::refusal::{refused, refused_of};
use crate::scalar::{Body, PlainFunction};
use crate::sliding::{Frame, Tally, Way};

/// Below this number of events the rate is missing.
pub const LEAST_EVENTS: i64 = 10;

/// One stratum: events, residents, and people in the standard population.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stratum {
    /// Its number, for messages.
    pub number: u32,
    /// Events, not negative.
    pub events: i64,
    /// Residents, positive.
    pub population: i64,
    /// Weight in the standard population, positive.
    pub weight: i64,
}

/// What a standardised rate comes to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum StandardisedRate {
    /// The rate with its limits.
    Rate {
        /// The rate.
        value: f64,
        /// Lower limit.
        lower: f64,
        /// Upper limit.
        upper: f64,
        /// Events in all strata.
        events: i64,
    },
    /// Too few events for a rate.
    TooFew {
        /// Events in all strata.
        events: i64,
    },
}

/// The rate of some strata `per` so many residents, with limits of a two-sided `level`.
pub fn standardised_rate(
    strata: impl IntoIterator<Item = Stratum>,
    per: f64,
    level: f64,
) -> Result<StandardisedRate> {
    if !(per > 0.0 && per.is_finite()) {
        return refused("a rate is per a positive number of residents");
    }
    let (mut rate, mut variance, mut weights) = (0.0, 0.0, 0.0);
    let mut events = 0i64;
    for stratum in strata {
        check_stratum(&stratum)?;
        events = match events.checked_add(stratum.events) {
            Some(sum) => sum,
            None => return exec_err!("the events of all strata are more than 2^63 - 1"),
        };
        let (x, n) = (stratum.events as f64, stratum.population as f64);
        let weight = stratum.weight as f64;
        weights += weight;
        rate += weight * x / n;
        variance += x * (weight / n) * (weight / n);
    }
    if events < LEAST_EVENTS {
        return Ok(StandardisedRate::TooFew { events });
    }
    let Some((lower, upper)) = byar(events, level) else {
        return refused("a level lies between 0 and 1, such as 0.95");
    };
    let value = rate / weights;
    let observed = events as f64;
    let spread = (variance / (weights * weights) / observed).sqrt();
    Ok(StandardisedRate::Rate {
        value: value * per,
        lower: (value + spread * (lower - observed)) * per,
        upper: (value + spread * (upper - observed)) * per,
        events,
    })
}

/// How messages name it.
fn named(number: impl std::fmt::Display) -> String {
    format!("stratum {number}")
}

fn check_stratum(stratum: &Stratum) -> Result<()> {
    let Stratum {
        number,
        events,
        population,
        weight,
    } = *stratum;
    if population <= 0 {
        return refused_of(
            named(number),
            "a stratum has no residents: join it with another band",
        );
    }
    if weight <= 0 {
        return refused_of(
            named(number),
            "a stratum has no weight: leave it out together with its events",
        );
    }
    if events < 0 {
        return refused_of(named(number), "a stratum has fewer than zero events");
    }
    Ok(())
}

/// Events and population by area and stratum, both numbered from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StratumCounts {
    strata: usize,
    /// Area by area.
    events: Vec<i64>,
    /// Area by area; none where it is not set.
    population: Vec<Option<i64>>,
}

impl StratumCounts {
    /// No events and no population in `areas` by `strata`.
    pub fn new(areas: usize, strata: usize) -> Result<Self> {
        let Some(cells) = areas.checked_mul(strata).filter(|_| strata > 0) else {
            return exec_err!("{areas} areas with {strata} strata are no table");
        };
        Ok(Self {
            strata,
            events: vec![0; cells],
            population: vec![None; cells],
        })
    }

    /// The number of areas.
    pub fn areas(&self) -> usize {
        self.events.len() / self.strata
    }

    /// Adds rows of events: area, stratum and number, which may be negative where a row corrects
    /// another. After an error the counts are not to be used.
    pub fn add_events(&mut self, areas: &[u32], strata: &[u32], events: &[i64]) -> Result<()> {
        if areas.len() != strata.len() || areas.len() != events.len() {
            return exec_err!("columns of events differ in length");
        }
        for ((area, stratum), events) in areas.iter().zip(strata).zip(events) {
            let cell = self.cell(*area, *stratum)?;
            let Some(sum) = self.events.get_mut(cell) else {
                return exec_err!("area {area} does not exist");
            };
            *sum = added(*sum, *events)?;
        }
        Ok(())
    }

    /// Sets the residents of a stratum of an area, once.
    pub fn set_population(&mut self, area: u32, stratum: u32, residents: i64) -> Result<()> {
        let cell = self.cell(area, stratum)?;
        match self.population.get_mut(cell) {
            Some(set @ None) => {
                *set = Some(residents);
                Ok(())
            }
            Some(Some(_)) => exec_err!(
                "the population of area {area}, stratum {stratum} is set twice: it counts once \
                 per stratum, not once per row of events"
            ),
            None => exec_err!("area {area} does not exist"),
        }
    }

    /// Adds another part of the rows of the same areas. The population of a stratum may be set in
    /// one of the parts only.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        if (self.strata, self.events.len()) != (other.strata, other.events.len()) {
            return exec_err!("parts of different numbers of areas or strata cannot be merged");
        }
        for (sum, events) in self.events.iter_mut().zip(&other.events) {
            *sum = added(*sum, *events)?;
        }
        let both = self.population.iter_mut().zip(&other.population);
        for (cell, (set, given)) in both.enumerate() {
            match (&set, given) {
                (Some(_), Some(_)) => {
                    return exec_err!(
                        "the population of area {}, stratum {} is set in two parts: it counts once",
                        cell / self.strata,
                        cell % self.strata
                    );
                }
                (None, given) => *set = *given,
                (Some(_), None) => {}
            }
        }
        Ok(())
    }

    /// The counts of larger areas: `into` holds the larger area of each area. A stratum has a
    /// population where all its areas have one.
    pub fn roll_up(&self, into: &[u32], areas: usize) -> Result<Self> {
        if into.len() != self.areas() {
            return exec_err!(
                "{} areas are rolled up by {} numbers",
                self.areas(),
                into.len()
            );
        }
        let mut larger = Self::new(areas, self.strata)?;
        let mut met = vec![false; areas];
        let parts = self
            .events
            .chunks_exact(self.strata)
            .zip(self.population.chunks_exact(self.strata));
        for (area, (events, population)) in into.iter().zip(parts) {
            let Some(first) = met.get_mut(*area as usize) else {
                return exec_err!("area {area} does not exist");
            };
            let first = !std::mem::replace(first, true);
            let from = *area as usize * self.strata;
            let sums = larger.events.iter_mut().zip(&mut larger.population);
            for ((sum, total), (events, residents)) in
                sums.skip(from).zip(events.iter().zip(population))
            {
                *sum = added(*sum, *events)?;
                *total = match (first, *total, *residents) {
                    (true, _, residents) => residents,
                    (false, Some(total), Some(residents)) => Some(added(total, residents)?),
                    (false, _, _) => None,
                };
            }
        }
        Ok(larger)
    }

    /// The rate of each area with the weight of each stratum.
    pub fn rates(&self, weights: &[i64], per: f64, level: f64) -> Result<Vec<StandardisedRate>> {
        if weights.len() != self.strata {
            return exec_err!("{} strata have {} weights", self.strata, weights.len());
        }
        let populations = self.population.chunks_exact(self.strata);
        self.events
            .chunks_exact(self.strata)
            .zip(populations)
            .map(|(events, population)| {
                let mut strata = Vec::with_capacity(self.strata);
                for (number, ((events, population), weight)) in
                    events.iter().zip(population).zip(weights).enumerate()
                {
                    let Some(population) = *population else {
                        return refused_of(named(number), "a stratum has no population");
                    };
                    strata.push(Stratum {
                        number: number as u32,
                        events: *events,
                        population,
                        weight: *weight,
                    });
                }
                standardised_rate(strata, per, level)
            })
            .collect()
    }

    fn cell(&self, area: u32, stratum: u32) -> Result<usize> {
        let (area, stratum) = (area as usize, stratum as usize);
        if stratum >= self.strata {
            return exec_err!("stratum {stratum} of {} does not exist", self.strata);
        }
        match area.checked_mul(self.strata) {
            Some(first) if first < self.events.len() => Ok(first + stratum),
            _ => exec_err!("area {area} of {} does not exist", self.areas()),
        }
    }
}

fn added(a: i64, b: i64) -> Result<i64> {
    match a.checked_add(b) {
        Some(sum) => Ok(sum),
        None => exec_err!("a count of events or residents is out of range"),
    }
}

const WIDTH: usize = 28;

/// Strata being gathered for SQL: each comes once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Strata {
    by_number: BTreeMap<u32, (i64, i64, i64)>,
}

impl Strata {
    fn put(&mut self, stratum: Stratum) -> Result<()> {
        check_stratum(&stratum)?;
        let Stratum {
            number,
            events,
            population,
            weight,
        } = stratum;
        match self.by_number.entry(number) {
            Entry::Vacant(place) => {
                place.insert((events, population, weight));
                Ok(())
            }
            Entry::Occupied(_) => refused_of(
                named(number),
                "a stratum comes twice in a group: sum events and population by stratum first, \
                 each on its own, so that the population counts once",
            ),
        }
    }
}

fn decode(state: &[u8]) -> Result<impl Iterator<Item = Stratum> + '_> {
    let (entries, rest) = state.as_chunks::<WIDTH>();
    if !rest.is_empty() {
        return exec_err!("strata have a broken state");
    }
    Ok(entries.iter().map(|entry| {
        let word = |at: usize| {
            entry
                .get(at..)
                .and_then(|bytes| bytes.first_chunk())
                .map_or(0, |bytes| i64::from_le_bytes(*bytes))
        };
        let [a, b, c, d, ..] = *entry;
        Stratum {
            number: u32::from_le_bytes([a, b, c, d]),
            events: word(4),
            population: word(12),
            weight: word(20),
        }
    }))
}

impl Cell for Strata {
    fn add(&mut self, _value: Value<'_>) -> Result<()> {
        exec_err!("strata takes four columns")
    }

    fn add_row(&mut self, row: &[Option<Value<'_>>]) -> Result<()> {
        match stratum_of(row)? {
            Some(stratum) => self.put(stratum),
            None => Ok(()),
        }
    }

    fn merge(&mut self, state: &[u8]) -> Result<()> {
        decode(state)?.try_for_each(|stratum| self.put(stratum))
    }

    fn encode(&mut self, out: &mut Vec<u8>) {
        for (number, (events, population, weight)) in &self.by_number {
            out.extend_from_slice(&number.to_le_bytes());
            for count in [events, population, weight] {
                out.extend_from_slice(&count.to_le_bytes());
            }
        }
    }

    fn heap_bytes(&self) -> usize {
        // Nodes hold eleven entries and are at least about half full.
        self.by_number.len().div_ceil(6) * 352
    }
}

/// The stratum of a row; `None` for a row that is left out.
fn stratum_of(row: &[Option<Value<'_>>]) -> Result<Option<Stratum>> {
    let [stratum, counts @ ..] = row else {
        return exec_err!("strata takes four columns");
    };
    // Nothing is known of the row, as where an outer join found nothing.
    let Some(stratum) = stratum else {
        return Ok(None);
    };
    let Value::Whole(number) = stratum else {
        return exec_err!("strata takes whole numbers");
    };
    let Ok(number) = u32::try_from(*number) else {
        return refused("a stratum has a number from 0 to 2^32 - 1");
    };
    match counts {
        [
            Some(Value::Whole(events)),
            Some(Value::Whole(population)),
            Some(Value::Whole(weight)),
        ] => Ok(Some(Stratum {
            number,
            events: *events,
            population: *population,
            weight: *weight,
        })),
        [None, _, _] => refused_of(
            named(number),
            "a stratum has a null for its events: write coalesce(events, 0) where nothing happened",
        ),
        [_, None, _] => refused_of(named(number), "a stratum has no population"),
        _ => refused_of(
            named(number),
            "a stratum has no weight: leave it out together with its events",
        ),
    }
}

impl Finish for Strata {
    const RESULT: InputType = InputType::Bytes;
    type Frame = StratumFrame;
}

/// The strata of a frame that slides: stratum, events, population and weight. One that comes twice is
/// refused when a result is asked for, since the one that goes out may not have gone yet.
#[derive(Debug, Default)]
pub(crate) struct StratumFrame {
    strata: Tally<(u32, i64, i64, i64), ()>,
}

impl StratumFrame {
    fn pass_stratum(&mut self, stratum: Stratum, way: Way) -> Result<()> {
        check_stratum(&stratum)?;
        let Stratum {
            number,
            events,
            population,
            weight,
        } = stratum;
        self.strata
            .pass((number, events, population, weight), (), way)
    }
}

impl Frame<Strata> for StratumFrame {
    fn pass(&mut self, given: Given<'_>, way: Way) -> Result<()> {
        match given {
            Given::Value(_) => exec_err!("strata takes four columns"),
            Given::Row(row) => match stratum_of(row)? {
                Some(stratum) => self.pass_stratum(stratum, way),
                None => Ok(()),
            },
            Given::State(state) => {
                decode(state)?.try_for_each(|stratum| self.pass_stratum(stratum, way))
            }
        }
    }

    fn cell(&self) -> Result<Strata> {
        let mut strata = Strata::default();
        for ((number, events, population, weight), times, ()) in self.strata.iter() {
            let stratum = Stratum {
                number,
                events,
                population,
                weight,
            };
            // The second is refused.
            (0..times.min(2)).try_for_each(|_| strata.put(stratum))?;
        }
        Ok(strata)
    }

    fn heap_bytes(&self) -> usize {
        self.strata.heap_bytes()
    }
}

pub(crate) fn aggregates() -> Vec<AggregateUDF> {
    const ROW: &[InputType] = &[InputType::Whole; 4];
    vec![
        CellAggregate::<Strata>::function("strata", Takes::Rows(ROW)),
        CellAggregate::<Strata>::function("strata_merge", Takes::States),
    ]
}

pub(crate) fn scalars() -> Vec<ScalarUDF> {
    const RATE: &[InputType] = &[InputType::Bytes, InputType::Real];
    const LIMIT: &[InputType] = &[InputType::Bytes, InputType::Real, InputType::Real];
    vec![
        PlainFunction::function(
            "strata_events",
            &[InputType::Bytes],
            Body::Whole(|values| match values {
                [Value::Bytes(state)] => {
                    // One resident and a level that exists: only the events are asked for.
                    Ok(Some(match standardised_rate(decode(state)?, 1.0, 0.5)? {
                        StandardisedRate::Rate { events, .. }
                        | StandardisedRate::TooFew { events } => events,
                    }))
                }
                _ => exec_err!("strata_events takes the state of strata"),
            }),
        ),
        PlainFunction::function(
            "standardised_rate",
            RATE,
            Body::Real(|values| Ok(rate_of(values)?.map(|(value, _, _)| value))),
        ),
        PlainFunction::function(
            "standardised_rate_lower",
            LIMIT,
            Body::Real(|values| Ok(rate_of(values)?.map(|(_, lower, _)| lower))),
        ),
        PlainFunction::function(
            "standardised_rate_upper",
            LIMIT,
            Body::Real(|values| Ok(rate_of(values)?.map(|(_, _, upper)| upper))),
        ),
    ]
}

fn rate_of(values: &[Value<'_>]) -> Result<Option<(f64, f64, f64)>> {
    let (state, per, level) = match values {
        [Value::Bytes(state), Value::Real(per)] => (state, *per, 0.95),
        [Value::Bytes(state), Value::Real(per), Value::Real(level)] => (state, *per, *level),
        _ => {
            return exec_err!(
                "a standardised rate takes the state of strata, a number of residents, and for \
                 its limits a level"
            );
        }
    };
    Ok(match standardised_rate(decode(state)?, per, level)? {
        StandardisedRate::Rate {
            value,
            lower,
            upper,
            events: _,
        } => Some((value, lower, upper)),
        StandardisedRate::TooFew { .. } => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_aggregate, check_laws_of_rows, laws, whole_column};
    use proptest::prelude::*;

    /// European standard population 2013, 19 bands.
    const ESP2013: [i64; 19] = [
        5_000, 5_500, 5_500, 5_500, 6_000, 6_000, 6_500, 7_000, 7_000, 7_000, 7_000, 6_500, 6_000,
        5_500, 5_000, 4_000, 2_500, 1_500, 1_000,
    ];
    const RESIDENTS: [i64; 19] = [
        636, 558, 609, 543, 384, 594, 669, 843, 660, 576, 606, 522, 426, 273, 300, 288, 153, 123,
        207,
    ];
    const BIG: [i64; 19] = [
        127, 25, 18, 21, 12, 27, 48, 27, 29, 32, 32, 34, 45, 65, 38, 68, 74, 82, 91,
    ];
    const SMALL: [i64; 19] = [12, 4, 3, 2, 3, 4, 8, 2, 2, 3, 4, 5, 6, 8, 5, 6, 5, 5, 4];

    fn strata(events: &[i64], population: &[i64], weights: &[i64]) -> Vec<Stratum> {
        (0..)
            .zip(events.iter().zip(population).zip(weights))
            .map(|(number, ((events, population), weight))| Stratum {
                number,
                events: *events,
                population: *population,
                weight: *weight,
            })
            .collect()
    }

    #[track_caller]
    fn check(
        events: &[i64],
        population: &[i64],
        weights: &[i64],
        per: f64,
        expected: (f64, f64, f64),
    ) {
        let found = standardised_rate(strata(events, population, weights), per, 0.95).unwrap();
        let StandardisedRate::Rate {
            value,
            lower,
            upper,
            ..
        } = found
        else {
            panic!("{found:?}");
        };
        let near = |a: f64, b: f64| assert!((a - b).abs() <= 1e-9 * b, "{a} is not {b}");
        near(value, expected.0);
        near(lower, expected.1);
        near(upper, expected.2);
    }

    #[test]
    fn rates_equal_published_values() {
        check(
            &BIG,
            &RESIDENTS,
            &ESP2013,
            10_000.0,
            (1043.0247991469425, 971.770906798568, 1117.894091547925),
        );
        check(
            &SMALL,
            &RESIDENTS,
            &ESP2013,
            10_000.0,
            (110.3212025300104, 87.7455767536709, 136.70882227251795),
        );
        check(
            &[10, 40, 90],
            &[50_000, 40_000, 10_000],
            &[50_000, 35_000, 15_000],
            100_000.0,
            (180.0, 150.70393130352446, 213.21723477133077),
        );
    }

    #[test]
    fn under_ten_events_the_rate_is_missing_and_says_so() {
        let rate = |events| standardised_rate(strata(&[events, 0], &[100; 2], &[1; 2]), 1e5, 0.95);
        assert_eq!(rate(9).unwrap(), StandardisedRate::TooFew { events: 9 });
        assert!(matches!(
            rate(10).unwrap(),
            StandardisedRate::Rate { events: 10, .. }
        ));
        assert_eq!(
            standardised_rate([], 1e5, 0.95).unwrap(),
            StandardisedRate::TooFew { events: 0 }
        );
    }

    #[test]
    fn a_stratum_that_cannot_be_used_is_named() {
        for (stratum, message) in [
            ((20, 0, 5), "stratum 1: a stratum has no residents"),
            ((20, -4, 5), "stratum 1: a stratum has no residents"),
            ((20, 7, 0), "stratum 1: a stratum has no weight"),
            (
                (-1, 7, 5),
                "stratum 1: a stratum has fewer than zero events",
            ),
        ] {
            let (events, population, weight) = stratum;
            let both = strata(&[30, events], &[9, population], &[3, weight]);
            let error = standardised_rate(both, 1e5, 0.95).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
        let good = strata(&[30], &[9], &[3]);
        assert!(standardised_rate(good.clone(), 0.0, 0.95).is_err());
        assert!(standardised_rate(good, 1e5, 1.0).is_err());
    }

    #[test]
    fn rows_of_events_never_count_the_population_again() {
        let mut whole = StratumCounts::new(2, 19).unwrap();
        let mut parts = [whole.clone(), whole.clone(), whole.clone()];
        for (stratum, (events, residents)) in (0..).zip(BIG.iter().zip(RESIDENTS)) {
            for area in 0..2 {
                whole.set_population(area, stratum, residents).unwrap();
                parts[1].set_population(area, stratum, residents).unwrap();
            }
            for row in 0..*events {
                let area = [row as u32 % 2];
                whole.add_events(&area, &[stratum], &[1]).unwrap();
                parts[row as usize % 3]
                    .add_events(&area, &[stratum], &[1])
                    .unwrap();
            }
        }
        let [mut merged, second, third] = parts;
        merged.merge(&third).unwrap();
        merged.merge(&second).unwrap();
        assert_eq!(merged, whole);
        assert!(merged.merge(&second).is_err(), "a population set in both");
        assert!(whole.set_population(0, 3, 1).is_err(), "set again");

        // Half the events and all residents in each of two areas.
        let country = whole.roll_up(&[0, 0], 1).unwrap();
        let doubled: Vec<i64> = RESIDENTS.iter().map(|residents| residents * 2).collect();
        assert_eq!(
            country.rates(&ESP2013, 1e4, 0.95).unwrap(),
            [standardised_rate(strata(&BIG, &doubled, &ESP2013), 1e4, 0.95).unwrap()]
        );
    }

    #[test]
    fn a_population_that_is_missing_somewhere_is_missing_in_the_larger_area() {
        let mut counts = StratumCounts::new(2, 2).unwrap();
        counts.add_events(&[0, 1], &[0, 1], &[20, 20]).unwrap();
        for (area, stratum) in [(0, 0), (0, 1), (1, 0)] {
            counts.set_population(area, stratum, 50).unwrap();
        }
        for counts in [counts.clone(), counts.roll_up(&[0, 0], 1).unwrap()] {
            let error = counts.rates(&[1, 1], 1e3, 0.95).unwrap_err().to_string();
            assert!(
                error.contains("stratum 1: a stratum has no population"),
                "{error}"
            );
        }
    }

    #[test]
    fn places_outside_the_table_are_refused() {
        let mut counts = StratumCounts::new(2, 3).unwrap();
        assert!(counts.add_events(&[2], &[0], &[1]).is_err());
        assert!(counts.add_events(&[0], &[3], &[1]).is_err());
        assert!(counts.add_events(&[0], &[0, 1], &[1]).is_err());
        assert!(counts.set_population(5, 0, 1).is_err());
        assert!(counts.roll_up(&[0, 9], 1).is_err());
        assert!(counts.rates(&[1; 2], 1.0, 0.95).is_err());
        assert!(StratumCounts::new(usize::MAX, 3).is_err());
        assert!(StratumCounts::new(3, 0).is_err());
    }

    fn row(stratum: i64, counts: [Option<i64>; 3]) -> [Option<Value<'static>>; 4] {
        let [events, population, weight] = counts.map(|count| count.map(Value::Whole));
        [Some(Value::Whole(stratum)), events, population, weight]
    }

    #[test]
    fn in_sql_a_stratum_comes_once_and_is_whole() {
        let rows: Vec<_> = strata(&BIG, &RESIDENTS, &ESP2013)
            .iter()
            .map(|s| {
                row(
                    s.number.into(),
                    [s.events, s.population, s.weight].map(Some),
                )
            })
            .collect();
        let state = check_laws_of_rows::<Strata, 4>(&rows);
        let values = [
            Value::Bytes(&state),
            Value::Real(10_000.0),
            Value::Real(0.95),
        ];
        let (value, ..) = rate_of(&values).unwrap().unwrap();
        assert!((value - 1043.0247991469425).abs() < 1e-6);

        for (bad, message) in [
            (row(3, [Some(1); 3]), "stratum 3: a stratum comes twice"),
            (row(77, [None, Some(1), Some(1)]), "coalesce(events, 0)"),
            (
                row(77, [Some(1), None, Some(1)]),
                "stratum 77: a stratum has no population",
            ),
            (
                row(77, [Some(1), Some(1), None]),
                "stratum 77: a stratum has no weight",
            ),
            (
                row(77, [Some(1), Some(0), Some(1)]),
                "stratum 77: a stratum has no residents",
            ),
            (row(-1, [Some(1); 3]), "a stratum has a number"),
        ] {
            let mut cell = Strata::default();
            cell.merge(&state).unwrap();
            let error = cell.add_row(&bad).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
        let mut twice = Strata::default();
        twice.merge(&state).unwrap();
        assert!(twice.merge(&state).is_err(), "the same part twice");
        assert!(twice.merge(&[0; 27]).is_err());
    }

    #[test]
    fn no_rows_are_no_rate() {
        let values = [Value::Bytes(&[]), Value::Real(1e5)];
        assert_eq!(rate_of(&values).unwrap(), None);
        assert_eq!(Strata::default().heap_bytes(), 0);
    }

    proptest! {
        #![proptest_config(laws())]

        #[test]
        fn the_rate_is_the_formula_and_scaling_the_weights_changes_nothing(
            strata in prop::collection::vec((0i64..400, 1i64..50_000, 1i64..9_000), 1..25),
            factor in 1i64..1_000,
        ) {
            let given = |factor: i64| {
                (0..).zip(&strata).map(move |(number, (events, population, weight))| Stratum {
                    number,
                    events: *events,
                    population: *population,
                    weight: *weight * factor,
                })
            };
            let found = standardised_rate(given(1), 1e5, 0.95).unwrap();
            let total: i64 = strata.iter().map(|stratum| stratum.0).sum();
            match found {
                StandardisedRate::TooFew { events } => {
                    prop_assert_eq!(events, total);
                    prop_assert!(total < LEAST_EVENTS);
                }
                StandardisedRate::Rate { value, lower, upper, events } => {
                    prop_assert_eq!(events, total);
                    let weights: f64 = strata.iter().map(|s| s.2 as f64).sum();
                    let expected: f64 = strata
                        .iter()
                        .map(|s| (s.2 as f64 / weights) * (s.0 as f64 / s.1 as f64))
                        .sum::<f64>() * 1e5;
                    prop_assert!((value - expected).abs() <= 1e-9 * expected);
                    prop_assert!(lower < value && value < upper);
                    let scaled = standardised_rate(given(factor), 1e5, 0.95).unwrap();
                    let StandardisedRate::Rate { value: again, .. } = scaled else {
                        return Err(TestCaseError::fail("a rate without a value"));
                    };
                    prop_assert!((value - again).abs() <= 1e-9 * value);
                }
            }
        }

        #[test]
        fn parts_and_order_of_events_do_not_matter(
            rows in prop::collection::vec((0u32..4, 0u32..3, -5i64..90), 0..200),
            parts in 1usize..5,
        ) {
            let empty = StratumCounts::new(4, 3).unwrap();
            let mut whole = empty.clone();
            let mut split = vec![empty.clone(); parts];
            for (at, (area, stratum, events)) in rows.iter().enumerate() {
                whole.add_events(&[*area], &[*stratum], &[*events]).unwrap();
                split[at % parts].add_events(&[*area], &[*stratum], &[*events]).unwrap();
            }
            let mut merged = empty;
            for part in split.iter().rev() {
                merged.merge(part).unwrap();
            }
            prop_assert_eq!(merged, whole);
        }

        #[test]
        fn the_aggregates_behave_in_groups(
            areas in prop::collection::vec((any::<bool>(), any::<bool>()), 0..40),
        ) {
            // Strata are numbered through, so that none comes twice in a group.
            let groups: Vec<usize> = (0..areas.len()).map(|at| at % 3).collect();
            let filter: Vec<bool> = areas.iter().map(|area| area.1).collect();
            let numbers = areas.iter().enumerate();
            let stratum = whole_column(numbers.map(|(at, area)| area.0.then_some(at as i64)));
            let count = whole_column((0..areas.len()).map(|at| Some(at as i64 + 1)));
            let [gather, merge] = aggregates().try_into().unwrap();
            let columns = [stratum, count.clone(), count.clone(), count];
            let states = check_aggregate(&gather, &columns, &groups, &filter);
            let places: Vec<usize> = (0..states.len()).map(|at| at % 2).collect();
            let keep: Vec<bool> = places.iter().map(|place| *place == 0).collect();
            check_aggregate(&merge, &[states], &places, &keep);
        }
    }
}
