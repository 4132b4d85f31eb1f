//! Age-standardised rates with limits: events by municipality, year, sex and age band gathered from
//! twenty million rows, as many as the dense cube is measured with; then rates from counts that are
//! gathered, as a rate by region is answered from the cube by municipality.
//!
//! `plain_sum` reads the same columns and adds them up, which no kernel can beat; `hand_written` is the
//! loop for these counts, or the formula over them, without checks of codes, overflow or strata.

#![expect(clippy::unwrap_used, reason = "a bench may stop at the first surprise")]

mod support;

use std::hint::black_box;
use std::thread;

use criterion::Criterion;
use tietopohja_kernels::{LEAST_EVENTS, StandardisedRate, StratumCounts, byar};

use support::{Figures, Numbers, rows, run};

const MEASURED: usize = 20_000_000;
const MUNICIPALITIES: usize = 310;
const REGIONS: usize = 24;
/// Five years by three sexes.
const OF_EACH: usize = 5 * 3;
const AREAS: usize = MUNICIPALITIES * OF_EACH;
const STRATA: usize = 19;
/// European standard population 2013.
const WEIGHTS: [i64; STRATA] = [
    5_000, 5_500, 5_500, 5_500, 6_000, 6_000, 6_500, 7_000, 7_000, 7_000, 7_000, 6_500, 6_000,
    5_500, 5_000, 4_000, 2_500, 1_500, 1_000,
];
const PER: f64 = 100_000.0;
const LEVEL: f64 = 0.95;

struct Columns {
    area: Vec<u32>,
    stratum: Vec<u32>,
    events: Vec<i64>,
}

fn columns(rows: usize, sorted: bool) -> Columns {
    let mut numbers = Numbers::new();
    let mut keys: Vec<(u32, u32)> = (0..rows)
        .map(|_| {
            // A few municipalities have most of the people.
            let rest = numbers.next();
            let share = rest % 1_000;
            let municipality = share * share * MUNICIPALITIES as u64 / 1_000_000;
            let area = municipality * OF_EACH as u64 + (rest >> 16) % OF_EACH as u64;
            (area as u32, ((rest >> 32) % STRATA as u64) as u32)
        })
        .collect();
    if sorted {
        keys.sort_unstable();
    }
    Columns {
        area: keys.iter().map(|key| key.0).collect(),
        stratum: keys.iter().map(|key| key.1).collect(),
        events: (0..rows).map(|_| (numbers.next() % 3) as i64).collect(),
    }
}

fn plain_sum(c: &Columns) -> i64 {
    let numbers = |numbers: &[u32]| numbers.iter().map(|n| i64::from(*n)).sum::<i64>();
    numbers(&c.area) + numbers(&c.stratum) + c.events.iter().sum::<i64>()
}

fn hand_written(c: &Columns) -> Vec<i64> {
    let mut cells = vec![0i64; AREAS * STRATA];
    for ((area, stratum), events) in c.area.iter().zip(&c.stratum).zip(&c.events) {
        cells[*area as usize * STRATA + *stratum as usize] += events;
    }
    cells
}

fn gather(c: &Columns, from: usize, to: usize) -> StratumCounts {
    let mut counts = StratumCounts::new(AREAS, STRATA).unwrap();
    counts
        .add_events(&c.area[from..to], &c.stratum[from..to], &c.events[from..to])
        .unwrap();
    counts
}

fn gather_two_cores(c: &Columns) -> StratumCounts {
    let rows = c.area.len();
    thread::scope(|scope| {
        let first = scope.spawn(|| gather(c, 0, rows / 2));
        let mut counts = gather(c, rows / 2, rows);
        counts.merge(&first.join().unwrap()).unwrap();
        counts
    })
}

/// Residents of each area and stratum.
fn residents() -> Vec<i64> {
    let mut numbers = Numbers::new();
    (0..AREAS * STRATA)
        .map(|_| 20 + (numbers.next() % 5_000) as i64)
        .collect()
}

fn with_residents(mut counts: StratumCounts, residents: &[i64]) -> StratumCounts {
    for (cell, residents) in residents.iter().enumerate() {
        let (area, stratum) = ((cell / STRATA) as u32, (cell % STRATA) as u32);
        counts.set_population(area, stratum, *residents).unwrap();
    }
    counts
}

/// Rate and limits; none where events are too few.
fn hand_written_rates(events: &[i64], residents: &[i64]) -> Vec<Option<[f64; 3]>> {
    let weights: f64 = WEIGHTS.iter().map(|weight| *weight as f64).sum();
    events
        .chunks_exact(STRATA)
        .zip(residents.chunks_exact(STRATA))
        .map(|(events, residents)| {
            let (mut rate, mut variance, mut total) = (0.0, 0.0, 0i64);
            for ((events, residents), weight) in events.iter().zip(residents).zip(WEIGHTS) {
                let share = weight as f64 / *residents as f64;
                rate += share * *events as f64;
                variance += share * share * *events as f64;
                total += events;
            }
            if total < LEAST_EVENTS {
                return None;
            }
            let (lower, upper) = byar(total, LEVEL)?;
            let observed = total as f64;
            let spread = (variance / observed).sqrt();
            let limit = |limit: f64| (rate + spread * (limit - observed)) / weights * PER;
            Some([rate / weights * PER, limit(lower), limit(upper)])
        })
        .collect()
}

/// Cells of municipalities added to those of their regions, by year and sex.
fn by_region(cells: &[i64], regions: &[u32]) -> Vec<i64> {
    let mut sums = vec![0i64; REGIONS * OF_EACH * STRATA];
    for (cells, region) in cells.chunks_exact(STRATA).zip(regions) {
        let own = &mut sums[*region as usize * STRATA..][..STRATA];
        own.iter_mut()
            .zip(cells)
            .for_each(|(sum, cell)| *sum += cell);
    }
    sums
}

fn rates(counts: &StratumCounts) -> Vec<StandardisedRate> {
    counts.rates(&WEIGHTS, PER, LEVEL).unwrap()
}

#[track_caller]
fn agree(found: &[StandardisedRate], expected: &[Option<[f64; 3]>]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        let found = match found {
            StandardisedRate::Rate {
                value,
                lower,
                upper,
                events: _,
            } => Some([*value, *lower, *upper]),
            StandardisedRate::TooFew { .. } => None,
        };
        assert_eq!(found.is_some(), expected.is_some());
        for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
            assert!((found - expected).abs() <= 1e-9 * expected.abs());
        }
    }
}

fn main() {
    run(bench);
}

fn bench(criterion: &mut Criterion) {
    let rows = rows(MEASURED);
    let residents = residents();
    for (name, sorted) in [
        ("standardised_rate/any_order", false),
        ("standardised_rate/by_area", true),
    ] {
        let c = columns(rows, sorted);
        assert_eq!(gather_two_cores(&c), gather(&c, 0, rows));
        let counts = with_residents(gather(&c, 0, rows), &residents);
        agree(
            &rates(&counts),
            &hand_written_rates(&hand_written(&c), &residents),
        );
        let mut figures = Figures::new(criterion, name, rows);
        figures.measure("plain_sum", || plain_sum(black_box(&c)));
        figures.measure("hand_written", || hand_written(black_box(&c)));
        figures.measure("counts", || gather(black_box(&c), 0, rows));
        figures.measure("counts_two_cores", || gather_two_cores(black_box(&c)));
    }
    let c = columns(rows, true);
    let events = hand_written(&c);
    let counts = with_residents(gather(&c, 0, rows), &residents);
    let regions: Vec<u32> = (0..AREAS)
        .map(|area| ((area / OF_EACH % REGIONS) * OF_EACH + area % OF_EACH) as u32)
        .collect();
    let roll_up = |counts: &StratumCounts| counts.roll_up(&regions, REGIONS * OF_EACH).unwrap();
    let roll_up_by_hand = |events: &[i64], residents: &[i64]| {
        hand_written_rates(
            &by_region(events, &regions),
            &by_region(residents, &regions),
        )
    };
    agree(
        &rates(&roll_up(&counts)),
        &roll_up_by_hand(&events, &residents),
    );
    let mut figures = Figures::new(
        criterion,
        "standardised_rate/rates (rows are areas by strata)",
        AREAS * STRATA,
    );
    figures.measure("plain_sum", || {
        let (events, residents) = (black_box(&events), black_box(&residents));
        events.iter().sum::<i64>() + residents.iter().sum::<i64>()
    });
    figures.measure("hand_written", || {
        hand_written_rates(black_box(&events), black_box(&residents))
    });
    figures.measure("rates", || rates(black_box(&counts)));
    figures.measure("hand_written_by_region", || {
        roll_up_by_hand(black_box(&events), black_box(&residents))
    });
    figures.measure("roll_up_and_rates", || rates(&roll_up(black_box(&counts))));
}
