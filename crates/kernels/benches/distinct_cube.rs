//! Exact distinct clients by municipality × year × service class, with region and country.
//! `plain_sum` reads the same columns and adds them up, which no kernel can beat.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench may stop at the first surprise, and prints its figures"
)]

mod support;

use std::hint::black_box;
use std::thread;

use criterion::Criterion;
use tietopohja_kernels::{
    Buckets, Codes, DistinctByGroup, DistinctByPerson, DistinctCounts, DistinctSets, Levels,
};

use support::{Figures, Numbers, rows, run};

const MEASURED: usize = 20_000_000;
/// Sets are slower; a tenth of the rows tells the same.
const SET_SHARE: usize = 10;
const PERSONS: u32 = 5_600_000;
const PLACES: u32 = 310;
const REGIONS: u32 = 24;
const YEARS: u8 = 5;
const CLASSES: u8 = 20;
const GROUPS: u32 = YEARS as u32 * CLASSES as u32;

struct Columns {
    person: Vec<u32>,
    municipality: Vec<u16>,
    year: Vec<u8>,
    class: Vec<u8>,
}

fn columns(rows: usize, sorted: bool) -> Columns {
    let mut numbers = Numbers::new();
    let mut rows: Vec<(u32, u16, u8, u8)> = (0..rows)
        .map(|_| {
            // Those who come often come much more often.
            let share = numbers.next() % 1_000_000;
            let person = (share * share / 1_000_000 * u64::from(PERSONS) / 1_000_000) as u32
                + (numbers.next() % 5) as u32;
            let rest = numbers.next();
            // One visit of forty is away from home.
            let home = if rest.is_multiple_of(40) {
                rest >> 8
            } else {
                u64::from(person).wrapping_mul(0x9e37_79b9) >> 7
            };
            let class = ((rest >> 16) % 20 * ((rest >> 24) % 20) / 20) as u8;
            (
                person.min(PERSONS - 1),
                (1 + home % u64::from(PLACES - 1)) as u16,
                ((rest >> 40) % u64::from(YEARS)) as u8,
                class,
            )
        })
        .collect();
    if sorted {
        rows.sort_unstable_by_key(|row| row.0);
    }
    Columns {
        person: rows.iter().map(|row| row.0).collect(),
        municipality: rows.iter().map(|row| row.1).collect(),
        year: rows.iter().map(|row| row.2).collect(),
        class: rows.iter().map(|row| row.3).collect(),
    }
}

fn plain_sum(c: &Columns) -> u64 {
    let narrow = |codes: &[u8]| codes.iter().map(|code| u64::from(*code)).sum::<u64>();
    c.person.iter().map(|n| u64::from(*n)).sum::<u64>()
        + c.municipality.iter().map(|n| u64::from(*n)).sum::<u64>()
        + narrow(&c.year)
        + narrow(&c.class)
}

fn levels() -> Levels {
    let regions: Vec<u32> = (0..PLACES)
        .map(|place| {
            if place == 0 {
                0
            } else {
                1 + place % (REGIONS - 1)
            }
        })
        .collect();
    Levels::new(PLACES)
        .with(&regions, REGIONS)
        .and_then(Levels::with_total)
        .unwrap()
}

/// Year and class as one code.
fn groups(c: &Columns, from: usize, to: usize) -> Vec<u8> {
    let pairs = c.year[from..to].iter().zip(&c.class[from..to]);
    pairs.map(|(year, class)| year * CLASSES + class).collect()
}

fn buckets(c: &Columns, from: usize, to: usize) -> Buckets {
    let groups = groups(c, from, to);
    Buckets::new(
        Codes::U8(&groups),
        GROUPS,
        &c.person[from..to],
        Codes::U16(&c.municipality[from..to]),
        None,
    )
    .unwrap()
}

fn stamp(buckets: &[&Buckets], groups: impl Iterator<Item = u32>) -> DistinctCounts {
    let mut counter = DistinctByGroup::new(PERSONS, GROUPS, levels()).unwrap();
    for group in groups {
        for own in buckets {
            counter.add_bucket(group, own).unwrap();
        }
    }
    counter.finish()
}

/// Halves of the rows bucketed, then halves of the groups counted, each on a core of its own.
fn stamp_two_cores(c: &Columns) -> DistinctCounts {
    let rows = c.person.len();
    let (first, second) = thread::scope(|scope| {
        let first = scope.spawn(|| buckets(c, 0, rows / 2));
        let second = buckets(c, rows / 2, rows);
        (first.join().unwrap(), second)
    });
    thread::scope(|scope| {
        let even = scope.spawn(|| stamp(&[&first, &second], (0..GROUPS).step_by(2)));
        let mut counts = stamp(&[&first, &second], (1..GROUPS).step_by(2));
        counts.merge(&even.join().unwrap()).unwrap();
        counts
    })
}

fn by_person(c: &Columns, from: usize, to: usize) -> DistinctCounts {
    let groups = groups(c, from, to);
    let mut counter = DistinctByPerson::new(GROUPS, levels()).unwrap();
    counter
        .add(
            Codes::U8(&groups),
            &c.person[from..to],
            Codes::U16(&c.municipality[from..to]),
            None,
        )
        .unwrap();
    counter.finish()
}

fn by_person_two_cores(c: &Columns) -> DistinctCounts {
    let rows = c.person.len();
    // Both parts have all rows of their persons.
    let middle = c.person[rows / 2];
    let cut = c.person.partition_point(|person| *person < middle);
    thread::scope(|scope| {
        let first = scope.spawn(|| by_person(c, 0, cut));
        let mut counts = by_person(c, cut, rows);
        counts.merge(&first.join().unwrap()).unwrap();
        counts
    })
}

fn sets(c: &Columns, cells: &[u32]) -> DistinctSets {
    let mut sets = DistinctSets::new(GROUPS * PLACES);
    sets.add(Codes::U32(cells), &c.person[..cells.len()], None)
        .unwrap();
    sets
}

fn main() {
    run(bench);
}

fn bench(criterion: &mut Criterion) {
    let rows = rows(MEASURED);
    let set_rows = rows / SET_SHARE;
    for (name, sorted) in [
        ("distinct_cube/any_order", false),
        ("distinct_cube/by_person", true),
    ] {
        let c = columns(rows, sorted);
        let expected = stamp(&[&buckets(&c, 0, rows)], 0..GROUPS);
        let mut figures = Figures::new(criterion, name, rows);
        figures.measure("plain_sum", || plain_sum(black_box(&c)));
        figures.measure("bucket", || buckets(black_box(&c), 0, rows));
        figures.measure("bucket_and_stamp", || {
            stamp(&[&buckets(black_box(&c), 0, rows)], 0..GROUPS)
        });
        figures.measure("bucket_and_stamp_two_cores", || {
            stamp_two_cores(black_box(&c))
        });
        assert_eq!(stamp_two_cores(&c), expected);
        if sorted {
            figures.measure("last_person", || by_person(black_box(&c), 0, rows));
            figures.measure("last_person_two_cores", || {
                by_person_two_cores(black_box(&c))
            });
            for level in 0..3 {
                assert_eq!(by_person_two_cores(&c).level(level), expected.level(level));
            }
        }
        let cells: Vec<u32> = groups(&c, 0, set_rows)
            .iter()
            .zip(&c.municipality)
            .map(|(group, place)| u32::from(*group) * PLACES + u32::from(*place))
            .collect();
        figures.measure_some("sets", set_rows, || sets(black_box(&c), &cells));
        let whole = sets(&c, &cells);
        let state = whole.encode();
        let persons: u64 = whole.counts().iter().sum();
        println!(
            "{persons} persons in cells: {} bytes in memory, {} bytes of state",
            whole.heap_bytes(),
            state.len()
        );
        figures.measure_some("sets_encode", persons as usize, || {
            black_box(&whole).encode()
        });
        figures.measure_some("sets_merge_bytes", persons as usize, || {
            let mut merged = DistinctSets::new(GROUPS * PLACES);
            merged.merge_bytes(black_box(&state)).unwrap();
            merged
        });
        let groups: Vec<u32> = (0..GROUPS * PLACES)
            .map(|cell| if cell == 0 { 0 } else { cell / PLACES })
            .collect();
        figures.measure_some("sets_roll_up", persons as usize, || {
            black_box(&whole).roll_up(&groups, GROUPS).unwrap().counts()
        });
    }
}
