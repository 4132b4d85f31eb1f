//! The dense cube over columns in memory: municipality × year × sex × age band, a count and two
//! sums. `plain_sum` reads the same columns and adds them up, which no kernel can beat;
//! `hand_written` is a loop for this one cube, without checks of codes or overflow.

#![expect(clippy::unwrap_used, reason = "a bench may stop at the first surprise")]

mod support;

use std::hint::black_box;
use std::thread;

use arrow::buffer::BooleanBuffer;
use criterion::Criterion;
use tietopohja_kernels::{Codes, CubeRows, CubeSet, CubeSpec, Measure};

use support::{Figures, Numbers, rows, run};

const MEASURED: usize = 20_000_000;
const SIZES: [u32; 4] = [310, 5, 3, 20];
const CELLS: usize = 310 * 5 * 3 * 20;
const MEMORY: usize = 64 << 20;

struct Columns {
    municipality: Vec<u16>,
    year: Vec<u8>,
    sex: Vec<u8>,
    age: Vec<u8>,
    cents: Vec<i64>,
    minutes: Vec<i64>,
}

fn columns(rows: usize, sorted: bool) -> Columns {
    let mut numbers = Numbers::new();
    let mut keys: Vec<(u16, u8, u8, u8)> = (0..rows)
        .map(|_| {
            // A few municipalities have most of the people.
            let share = numbers.next() % 1_000;
            let municipality = (share * share * 310 / 1_000_000) as u16;
            let rest = numbers.next();
            let part = |at: u64, size: u64| ((rest >> at) % size) as u8;
            (municipality, part(0, 5), part(8, 3), part(16, 20))
        })
        .collect();
    if sorted {
        keys.sort_unstable();
    }
    let measure = |numbers: &mut Numbers| {
        (0..rows)
            .map(|_| (numbers.next() % 100_000) as i64)
            .collect()
    };
    Columns {
        municipality: keys.iter().map(|row| row.0).collect(),
        year: keys.iter().map(|row| row.1).collect(),
        sex: keys.iter().map(|row| row.2).collect(),
        age: keys.iter().map(|row| row.3).collect(),
        cents: measure(&mut numbers),
        minutes: measure(&mut numbers),
    }
}

fn plain_sum(c: &Columns) -> u64 {
    let narrow = |codes: &[u8]| codes.iter().map(|code| u64::from(*code)).sum::<u64>();
    let wide = |values: &[i64]| values.iter().sum::<i64>() as u64;
    c.municipality
        .iter()
        .map(|code| u64::from(*code))
        .sum::<u64>()
        + narrow(&c.year)
        + narrow(&c.sex)
        + narrow(&c.age)
        + wide(&c.cents)
        + wide(&c.minutes)
}

fn hand_written(c: &Columns, from: usize, to: usize) -> Vec<[i64; 3]> {
    let mut cells = vec![[0i64; 3]; CELLS];
    let codes = c.municipality[from..to]
        .iter()
        .zip(&c.year[from..to])
        .zip(c.sex[from..to].iter().zip(&c.age[from..to]));
    let measures = c.cents[from..to].iter().zip(&c.minutes[from..to]);
    for (((municipality, year), (sex, age)), (cents, minutes)) in codes.zip(measures) {
        let at = ((usize::from(*municipality) * 5 + usize::from(*year)) * 3 + usize::from(*sex))
            * 20
            + usize::from(*age);
        let cell = &mut cells[at];
        cell[0] += 1;
        cell[1] += cents;
        cell[2] += minutes;
    }
    cells
}

fn count(
    c: &Columns,
    specs: &[CubeSpec<'_>],
    memory: usize,
    from: usize,
    to: usize,
    selection: Option<&BooleanBuffer>,
) -> CubeSet {
    let mut set = CubeSet::new(&SIZES, 2, specs, memory).unwrap();
    let measure = |values| Measure {
        values,
        nulls: None,
    };
    set.add(&CubeRows {
        rows: to - from,
        dimensions: &[
            Codes::U16(&c.municipality[from..to]),
            Codes::U8(&c.year[from..to]),
            Codes::U8(&c.sex[from..to]),
            Codes::U8(&c.age[from..to]),
        ],
        measures: &[measure(&c.cents[from..to]), measure(&c.minutes[from..to])],
        selection,
    })
    .unwrap();
    set
}

/// Both halves at once, each on a core of its own.
fn halves<T: Send>(rows: usize, work: impl Fn(usize, usize) -> T + Sync) -> (T, T) {
    thread::scope(|scope| {
        let first = scope.spawn(|| work(0, rows / 2));
        let second = work(rows / 2, rows);
        (first.join().unwrap(), second)
    })
}

fn main() {
    run(bench);
}

fn bench(criterion: &mut Criterion) {
    let rows = rows(MEASURED);
    let one: &[CubeSpec<'_>] = &[CubeSpec {
        dimensions: &[0, 1, 2, 3],
        sums: &[0, 1],
    }];
    let three: &[CubeSpec<'_>] = &[
        CubeSpec {
            dimensions: &[0, 1, 2, 3],
            sums: &[0, 1],
        },
        CubeSpec {
            dimensions: &[0, 1],
            sums: &[0, 1],
        },
        CubeSpec {
            dimensions: &[0, 1, 3],
            sums: &[1],
        },
    ];
    for (name, sorted) in [("dense_cube/any_order", false), ("dense_cube/sorted", true)] {
        let c = columns(rows, sorted);
        let half: BooleanBuffer = (0..rows).map(|row| row * 7 % 13 < 6).collect();
        let cube = count(&c, one, MEMORY, 0, rows, None).into_cubes().remove(0);
        let hashed = count(&c, one, 0, 0, rows, None).into_cubes().remove(0);
        assert_eq!(cube.cells(), hashed.cells());
        let expected = hand_written(&c, 0, rows)
            .into_iter()
            .filter(|cell| cell[0] > 0);
        assert!(expected.map(|cell| cell[0] as u64).eq(cube.cells().counts));
        let mut figures = Figures::new(criterion, name, rows);
        figures.measure("plain_sum", || plain_sum(black_box(&c)));
        figures.measure("hand_written", || hand_written(black_box(&c), 0, rows));
        figures.measure("cube", || count(black_box(&c), one, MEMORY, 0, rows, None));
        figures.measure("hand_written_two_cores", || {
            let (mut first, second) = halves(rows, |from, to| hand_written(&c, from, to));
            for (cell, more) in first.iter_mut().zip(&second) {
                (0..3).for_each(|word| cell[word] += more[word]);
            }
            first
        });
        figures.measure("cube_two_cores", || {
            let (mut first, second) =
                halves(rows, |from, to| count(&c, one, MEMORY, from, to, None));
            first.merge(&second).unwrap();
            first
        });
        figures.measure("cube_hashed", || {
            count(black_box(&c), one, 0, 0, rows, None)
        });
        figures.measure("cube_of_half_the_rows", || {
            count(black_box(&c), one, MEMORY, 0, rows, Some(&half))
        });
        figures.measure("three_cubes", || {
            count(black_box(&c), three, MEMORY, 0, rows, None)
        });
    }
}
