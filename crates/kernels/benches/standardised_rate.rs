//! Events by area and stratum of four million rows, beside a plain sum over the same columns.

mod drawn;

use std::hint::black_box;

use drawn::{compare, numbers};
use tietopohja_kernels::StratumCounts;

const ROWS: usize = 4_000_000;
const AREAS: usize = 309;
const STRATA: usize = 38;

fn main() {
    let areas: Vec<u32> = numbers(1, AREAS as u64)
        .take(ROWS)
        .map(|n| n as u32)
        .collect();
    let strata: Vec<u32> = numbers(2, STRATA as u64)
        .take(ROWS)
        .map(|n| n as u32)
        .collect();
    let events: Vec<i64> = numbers(3, 5).take(ROWS).map(|n| n as i64).collect();
    let weights: Vec<i64> = (0..STRATA as i64).map(|n| 1_000 + n).collect();
    let Ok(mut counts) = StratumCounts::new(AREAS, STRATA) else {
        return;
    };
    for area in 0..AREAS as u32 {
        for stratum in 0..STRATA as u32 {
            let _ = counts.set_population(area, stratum, 5_000);
        }
    }
    let empty = counts.clone();
    let _ = counts.add_events(&areas, &strata, &events);
    compare(
        "standardised_rate",
        ROWS,
        &[
            ("roofline: sum of three columns", &|| {
                let areas: u64 = areas.iter().map(|n| u64::from(*n)).sum();
                let strata: u64 = strata.iter().map(|n| u64::from(*n)).sum();
                black_box((areas, strata, events.iter().sum::<i64>()));
            }),
            ("events by area and stratum", &|| {
                let mut counts = empty.clone();
                let _ = black_box(counts.add_events(&areas, &strata, &events));
                black_box(counts);
            }),
        ],
    );
    compare(
        "rates of areas",
        AREAS,
        &[("309 rates with limits", &|| {
            let _ = black_box(counts.rates(&weights, 1e5, 0.95));
        })],
    );
}
