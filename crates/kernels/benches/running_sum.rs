//! Sums to date by cost centre and month. Five million ledger lines, as many as there are to twenty
//! million care events: budget, actual and forecast of three years, to date within each year; then the
//! sums to date of a grid that is gathered already.
//!
//! `plain_sum` reads the same columns and adds them up, which no kernel can beat; `hand_written` is the
//! loop for this one grid, in 64 bits and without checks of numbers or overflow.

#![expect(clippy::unwrap_used, reason = "a bench may stop at the first surprise")]

mod support;

use std::hint::black_box;
use std::thread;

use criterion::Criterion;
use tietopohja_kernels::{PeriodSums, Restarts, running_sum};

use support::{Figures, Numbers, rows, run};

const MEASURED: usize = 5_000_000;
/// Cells of the grid that is gathered already.
const GRID: usize = 20_000_000;
/// Cost centres of all organisers, by budget, actual and forecast.
const GROUPS: usize = 22 * 150 * 3;
const PERIODS: usize = 36;

struct Columns {
    group: Vec<u32>,
    period: Vec<u32>,
    cents: Vec<i64>,
}

fn columns(rows: usize, by_month: bool) -> Columns {
    let mut numbers = Numbers::new();
    let mut c = Columns {
        group: Vec::with_capacity(rows),
        period: Vec::with_capacity(rows),
        cents: Vec::with_capacity(rows),
    };
    for row in 0..rows {
        let rest = numbers.next();
        // A few cost centres have most of the lines.
        let share = rest % 10_000;
        c.group
            .push((share * share * GROUPS as u64 / 100_000_000) as u32);
        c.period.push(if by_month {
            (row * PERIODS / rows) as u32
        } else {
            ((rest >> 20) % PERIODS as u64) as u32
        });
        // One line of ten takes back.
        let cents = (numbers.next() % 1_000_000) as i64;
        c.cents.push(if (rest >> 40).is_multiple_of(10) {
            -cents
        } else {
            cents
        });
    }
    c
}

fn plain_sum(c: &Columns) -> i64 {
    let numbers = |numbers: &[u32]| numbers.iter().map(|n| i64::from(*n)).sum::<i64>();
    numbers(&c.group) + numbers(&c.period) + c.cents.iter().sum::<i64>()
}

fn hand_written(c: &Columns) -> Vec<i64> {
    let mut cells = vec![0i64; GROUPS * PERIODS];
    for ((group, period), cents) in c.group.iter().zip(&c.period).zip(&c.cents) {
        cells[*group as usize * PERIODS + *period as usize] += cents;
    }
    to_date(&mut cells);
    cells
}

fn to_date(cells: &mut [i64]) {
    for year in cells.chunks_exact_mut(12) {
        let mut sum = 0;
        for cell in year {
            sum += *cell;
            *cell = sum;
        }
    }
}

fn gather(c: &Columns, from: usize, to: usize) -> PeriodSums {
    let mut sums = PeriodSums::new(GROUPS, PERIODS).unwrap();
    sums.add_rows(&c.group[from..to], &c.period[from..to], &c.cents[from..to])
        .unwrap();
    sums
}

fn gather_two_cores(c: &Columns) -> PeriodSums {
    let rows = c.group.len();
    thread::scope(|scope| {
        let first = scope.spawn(|| gather(c, 0, rows / 2));
        let mut sums = gather(c, rows / 2, rows);
        sums.merge(&first.join().unwrap()).unwrap();
        sums
    })
}

fn main() {
    run(bench);
}

fn bench(criterion: &mut Criterion) {
    let years: Vec<i32> = (0..PERIODS as i32)
        .map(|period| 2023 + period / 12)
        .collect();
    let restarts = Restarts::yearly(&years);
    for (name, by_month) in [
        ("running_sum/any_order", false),
        ("running_sum/by_month", true),
    ] {
        let rows = rows(MEASURED);
        let c = columns(rows, by_month);
        let expected = hand_written(&c);
        let found = gather(&c, 0, rows).to_date(&restarts).unwrap();
        assert_eq!(found, expected);
        let found = gather_two_cores(&c).to_date(&restarts).unwrap();
        assert_eq!(found, expected);
        let mut figures = Figures::new(criterion, name, rows);
        figures.measure("plain_sum", || plain_sum(black_box(&c)));
        figures.measure("hand_written", || hand_written(black_box(&c)));
        figures.measure("gather", || gather(black_box(&c), 0, rows));
        figures.measure("gather_and_sum", || {
            gather(black_box(&c), 0, rows).to_date(&restarts).unwrap()
        });
        figures.measure("gather_and_sum_two_cores", || {
            gather_two_cores(black_box(&c)).to_date(&restarts).unwrap()
        });
    }
    let groups = rows(GRID) / PERIODS;
    let mut numbers = Numbers::new();
    let cells: Vec<i64> = (0..groups * PERIODS)
        .map(|_| (numbers.next() % 1_000_000) as i64 - 100_000)
        .collect();
    let by_hand = |cells: &[i64]| {
        let mut sums = cells.to_vec();
        to_date(&mut sums);
        sums
    };
    assert_eq!(running_sum(&cells, &restarts).unwrap(), by_hand(&cells));
    let mut figures = Figures::new(
        criterion,
        "running_sum/grid (rows are its cells)",
        cells.len(),
    );
    figures.measure("plain_sum", || black_box(&cells).iter().sum::<i64>());
    figures.measure("hand_written", || by_hand(black_box(&cells)));
    figures.measure("running_sum", || {
        running_sum(black_box(&cells), &restarts).unwrap()
    });
}
