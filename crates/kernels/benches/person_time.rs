//! Person-time of spells by municipality and month of five years. `plain_sum` reads the same
//! columns and adds them up, which no kernel can beat; `spread_over_months` visits every month of
//! every spell, as a join of spells and months does at best.

#![expect(clippy::unwrap_used, reason = "a bench may stop at the first surprise")]

mod support;

use std::hint::black_box;
use std::thread;

use arrow::buffer::NullBuffer;
use criterion::Criterion;
use tietopohja_kernels::{Codes, Periods, PersonTime, Spells};

use support::{Figures, Numbers, rows, run};

const MEASURED: usize = 10_000_000;
const GROUPS: u32 = 310;
const MEMORY: usize = 64 << 20;
/// 1 January 2020 as days since 1970.
const START: i32 = 18_262;

struct Columns {
    group: Vec<u16>,
    first: Vec<i32>,
    last: Vec<i32>,
    ended: NullBuffer,
    weight: Vec<i64>,
}

fn columns(rows: usize) -> Columns {
    let mut numbers = Numbers::new();
    let mut c = Columns {
        group: Vec::with_capacity(rows),
        first: Vec::with_capacity(rows),
        last: Vec::with_capacity(rows),
        ended: (0..rows).map(|row| !row.is_multiple_of(11)).collect(),
        weight: Vec::with_capacity(rows),
    };
    for _ in 0..rows {
        let rest = numbers.next();
        let share = rest % 1_000;
        c.group.push((share * share * 310 / 1_000_000) as u16);
        let first = START - 400 + (rest >> 16) as i32 % 2_300;
        // From a day to years.
        let length = (1u64 << ((rest >> 40) % 11)) as i32 + (numbers.next() % 300) as i32;
        c.first.push(first);
        c.last.push(first + length - 1);
        c.weight.push(2_500 * (1 + (numbers.next() % 4) as i64));
    }
    c
}

fn months() -> Vec<i32> {
    let mut boundaries = vec![START];
    for year in 2020..2025 {
        for length in [
            31,
            if year % 4 == 0 { 29 } else { 28 },
            31,
            30,
            31,
            30,
            31,
            31,
            30,
            31,
            30,
            31,
        ] {
            boundaries.push(boundaries[boundaries.len() - 1] + length);
        }
    }
    boundaries
}

fn plain_sum(c: &Columns) -> i64 {
    let days = |days: &[i32]| days.iter().map(|day| i64::from(*day)).sum::<i64>();
    c.group.iter().map(|group| i64::from(*group)).sum::<i64>()
        + days(&c.first)
        + days(&c.last)
        + c.weight.iter().sum::<i64>()
}

fn spread_over_months(c: &Columns, boundaries: &[i32]) -> Vec<[i64; 3]> {
    let periods = boundaries.len() - 1;
    let mut cells = vec![[0i64; 3]; GROUPS as usize * periods];
    for row in 0..c.group.len() {
        let first = c.first[row];
        let last = if c.ended.is_valid(row) {
            c.last[row]
        } else {
            i32::MAX
        };
        let from = boundaries
            .partition_point(|b| *b <= first)
            .saturating_sub(1);
        for period in from..periods {
            let (begins, ends) = (boundaries[period], boundaries[period + 1] - 1);
            if begins > last {
                break;
            }
            let days = i64::from(last.min(ends)) - i64::from(first.max(begins)) + 1;
            if days > 0 {
                let cell = &mut cells[usize::from(c.group[row]) * periods + period];
                cell[0] += days * c.weight[row];
                if last >= ends {
                    cell[1] += 1;
                    cell[2] += c.weight[row];
                }
            }
        }
    }
    cells
}

fn sum(c: &Columns, boundaries: &[i32], memory: usize, from: usize, to: usize) -> PersonTime {
    let mut time = PersonTime::new(Periods::new(boundaries).unwrap(), GROUPS, memory);
    let ended = c.ended.slice(from, to - from);
    time.add(&Spells {
        groups: Codes::U16(&c.group[from..to]),
        first: &c.first[from..to],
        first_nulls: None,
        last: &c.last[from..to],
        last_nulls: Some(&ended),
        weights: Some(&c.weight[from..to]),
        selection: None,
    })
    .unwrap();
    time
}

fn main() {
    run(bench);
}

fn bench(criterion: &mut Criterion) {
    let rows = rows(MEASURED);
    let c = columns(rows);
    let boundaries = months();
    let found = sum(&c, &boundaries, MEMORY, 0, rows).rows().unwrap();
    let spread = spread_over_months(&c, &boundaries);
    for row in &found {
        let cell = spread[row.group as usize * (boundaries.len() - 1) + row.period as usize];
        let found = (
            row.person_days as i64,
            row.heads_at_end as i64,
            row.weight_at_end as i64,
        );
        assert_eq!(found, (cell[0], cell[1], cell[2]));
    }
    let mut figures = Figures::new(criterion, "person_time", rows);
    figures.measure("plain_sum", || plain_sum(black_box(&c)));
    figures.measure("spread_over_months", || {
        spread_over_months(black_box(&c), &boundaries)
    });
    figures.measure("difference_arrays", || {
        sum(black_box(&c), &boundaries, MEMORY, 0, rows)
            .rows()
            .unwrap()
    });
    figures.measure("difference_arrays_hashed", || {
        sum(black_box(&c), &boundaries, 0, 0, rows).rows().unwrap()
    });
    figures.measure("difference_arrays_two_cores", || {
        thread::scope(|scope| {
            let first = scope.spawn(|| sum(&c, &boundaries, MEMORY, 0, rows / 2));
            let mut time = sum(&c, &boundaries, MEMORY, rows / 2, rows);
            time.merge(&first.join().unwrap()).unwrap();
            time.rows().unwrap()
        })
    });
}
