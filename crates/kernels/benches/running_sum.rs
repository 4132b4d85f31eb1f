//! Sums to date of a grid of 3.6 million cells, beside a plain sum over the same cells.

mod drawn;

use std::hint::black_box;

use drawn::{compare, numbers};
use tietopohja_kernels::{PeriodSums, Restarts, running_sum};

const GROUPS: usize = 100_000;
const PERIODS: usize = 36;
const ROWS: usize = GROUPS * PERIODS;

fn main() {
    let cells: Vec<i64> = numbers(1, 1 << 40).take(ROWS).map(|n| n as i64).collect();
    let groups: Vec<u32> = numbers(2, GROUPS as u64)
        .take(ROWS)
        .map(|n| n as u32)
        .collect();
    let periods: Vec<u32> = numbers(3, PERIODS as u64)
        .take(ROWS)
        .map(|n| n as u32)
        .collect();
    let years: Vec<i32> = (0..PERIODS as i32)
        .map(|period| 2022 + period / 12)
        .collect();
    let restarts = Restarts::yearly(&years);
    compare(
        "running_sum",
        ROWS,
        &[
            ("roofline: sum of the cells", &|| {
                black_box(cells.iter().sum::<i64>());
            }),
            ("sums to date of a grid", &|| {
                let _ = black_box(running_sum(&cells, &restarts));
            }),
            ("roofline: sum of three columns", &|| {
                let groups: u64 = groups.iter().map(|n| u64::from(*n)).sum();
                let periods: u64 = periods.iter().map(|n| u64::from(*n)).sum();
                black_box((groups, periods, cells.iter().sum::<i64>()));
            }),
            ("grid of rows in any order", &|| {
                if let Ok(mut sums) = PeriodSums::new(GROUPS, PERIODS) {
                    let _ = black_box(sums.add_rows(&groups, &periods, &cells));
                    black_box(sums);
                }
            }),
        ],
    );
}
