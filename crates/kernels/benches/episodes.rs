//! Episodes and days of care of a million spells, beside a plain sum over the same columns.

mod drawn;

use std::hint::black_box;

use drawn::{compare, numbers};
use tietopohja_kernels::episodes::{
    CareDays, EpisodeRule, EpisodeSweep, LastDay, SortedSpells, Spells,
};

const SPELLS: usize = 1_000_000;
const PERSONS: u64 = 300_000;
const CODES: u32 = 20;
/// Twelve years, of which the periods are the last three.
const DAYS: u64 = 12 * 365;

fn main() {
    let persons: Vec<u32> = numbers(1, PERSONS).take(SPELLS).map(|n| n as u32).collect();
    let starts: Vec<i32> = numbers(2, DAYS).take(SPELLS).map(|n| n as i32).collect();
    let lengths = numbers(3, 40);
    let ends: Vec<i32> = starts
        .iter()
        .zip(lengths)
        .map(|(s, n)| s + n as i32)
        .collect();
    let codes: Vec<u32> = numbers(4, u64::from(CODES))
        .take(SPELLS)
        .map(|n| n as u32)
        .collect();
    let unsorted = Spells {
        persons: &persons,
        starts: &starts,
        ends: &ends,
        codes: Some(&codes),
    };
    let Ok(sorted) = SortedSpells::of(&unsorted) else {
        return;
    };
    let spells = sorted.spells();
    let rule = EpisodeRule {
        gap: 1,
        last_day: LastDay::DoesNotCount,
    };
    let months: Vec<i32> = (0..=36).map(|month| 9 * 365 + month * 365 / 12).collect();
    let sweep = |groups| {
        let mut sweep = EpisodeSweep::new(rule, groups);
        let _ = black_box(sweep.push(&spells));
        black_box(sweep.finish());
    };
    compare(
        "episodes",
        SPELLS,
        &[
            ("roofline: sum of three columns", &|| {
                let persons: u64 = spells.persons.iter().map(|n| u64::from(*n)).sum();
                let starts: i64 = spells.starts.iter().map(|n| i64::from(*n)).sum();
                let ends: i64 = spells.ends.iter().map(|n| i64::from(*n)).sum();
                black_box((persons, starts, ends));
            }),
            ("episodes by person", &|| sweep(None)),
            ("episodes by person and group", &|| sweep(Some(CODES))),
            ("days by code in 36 months", &|| {
                if let Ok(mut days) = CareDays::new(&months, CODES, rule.last_day) {
                    let _ = black_box(days.add(&spells));
                    black_box(days.total());
                }
            }),
            ("sort", &|| {
                let _ = black_box(SortedSpells::of(&unsorted));
            }),
        ],
    );
}
