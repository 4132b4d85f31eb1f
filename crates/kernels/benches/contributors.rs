//! Who makes up cells of money: contributors, their total and the two largest, by region, class and
//! month of a year. Five million lines of purchases, as many as a ledger has to twenty million care
//! events.
//!
//! `plain_sum` reads the same columns and adds them up, which no kernel can beat; `hand_written` puts the
//! lines by cell and keeps one sum a supplier, without checks and in 64 bits: it gives the figures, but
//! no state that merges.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench may stop at the first surprise, and prints its figures"
)]

mod support;

use std::hint::black_box;
use std::thread;

use criterion::Criterion;
use tietopohja_kernels::{ContributorCells, Contributors, Dominance};

use support::{Figures, Numbers, rows, run};

const MEASURED: usize = 5_000_000;
/// Regions, classes and months.
const CELLS: usize = 24 * 20 * 12;
const SUPPLIERS: usize = 4_000;

struct Columns {
    cell: Vec<u32>,
    supplier: Vec<u32>,
    cents: Vec<i64>,
}

fn columns(rows: usize, sorted: bool) -> Columns {
    let mut numbers = Numbers::new();
    let mut keys: Vec<(u32, u32)> = (0..rows)
        .map(|_| {
            let rest = numbers.next();
            // A few suppliers have most of the lines, and each is known in some of the cells.
            let share = rest % 1_000;
            let supplier = share * share * SUPPLIERS as u64 / 1_000_000;
            let cell = (rest >> 20) % 16 * (CELLS as u64 / 16) + (rest >> 30) % 40;
            let cell = (cell + supplier * 37) % CELLS as u64;
            (cell as u32, supplier as u32)
        })
        .collect();
    if sorted {
        keys.sort_unstable();
    }
    Columns {
        cell: keys.iter().map(|key| key.0).collect(),
        supplier: keys.iter().map(|key| key.1).collect(),
        // One line of sixteen is a credit note.
        cents: (0..rows)
            .map(|_| {
                let rest = numbers.next();
                let cents = (rest >> 8) as i64 % 500_000;
                if rest.is_multiple_of(16) {
                    -cents
                } else {
                    cents
                }
            })
            .collect(),
    }
}

fn plain_sum(c: &Columns) -> i64 {
    let numbers = |numbers: &[u32]| numbers.iter().map(|n| i64::from(*n)).sum::<i64>();
    numbers(&c.cell) + numbers(&c.supplier) + c.cents.iter().sum::<i64>()
}

fn hand_written(c: &Columns) -> Vec<Dominance> {
    let mut places = vec![0usize; CELLS + 1];
    for cell in &c.cell {
        places[*cell as usize + 1] += 1;
    }
    for cell in 0..CELLS {
        places[cell + 1] += places[cell];
    }
    let mut next = places.clone();
    let mut put = vec![(0u32, 0i64); c.cell.len()];
    for ((cell, supplier), cents) in c.cell.iter().zip(&c.supplier).zip(&c.cents) {
        let place = &mut next[*cell as usize];
        put[*place] = (*supplier, *cents);
        *place += 1;
    }
    let mut sums = vec![(usize::MAX, 0i64); SUPPLIERS];
    let mut met: Vec<u32> = Vec::new();
    places
        .windows(2)
        .enumerate()
        .map(|(cell, own)| {
            met.clear();
            for (supplier, cents) in &put[own[0]..own[1]] {
                let (last, sum) = &mut sums[*supplier as usize];
                if *last != cell {
                    (*last, *sum) = (cell, 0);
                    met.push(*supplier);
                }
                *sum += cents;
            }
            let (mut total, mut largest, mut second) = (0u64, 0, 0);
            for supplier in &met {
                let contribution = sums[*supplier as usize].1.unsigned_abs();
                total += contribution;
                second = second.max(contribution.min(largest));
                largest = largest.max(contribution);
            }
            Dominance {
                count: met.len() as u64,
                total: total.into(),
                largest: largest.into(),
                second: second.into(),
            }
        })
        .collect()
}

fn gather(c: &Columns, from: usize, to: usize) -> ContributorCells {
    let mut cells = ContributorCells::new(CELLS);
    cells
        .add_rows(&c.cell[from..to], &c.supplier[from..to], &c.cents[from..to])
        .unwrap();
    cells
}

fn gather_two_cores(c: &Columns) -> ContributorCells {
    let rows = c.cell.len();
    thread::scope(|scope| {
        let first = scope.spawn(|| gather(c, 0, rows / 2));
        let mut cells = gather(c, rows / 2, rows);
        cells.merge(&first.join().unwrap()).unwrap();
        cells
    })
}

/// The state of each cell, as the aggregate of SQL gives it.
fn states(c: &Columns, from: usize, to: usize) -> Vec<Vec<u8>> {
    let mut cells = vec![Contributors::default(); CELLS];
    for row in from..to {
        cells[c.cell[row] as usize].add_amount(c.supplier[row], c.cents[row]);
    }
    cells.iter_mut().map(Contributors::state).collect()
}

fn merged(parts: &[Vec<Vec<u8>>]) -> Vec<Dominance> {
    (0..CELLS)
        .map(|cell| {
            let mut whole = Contributors::default();
            for part in parts {
                whole.merge_state(&part[cell]).unwrap();
            }
            whole.dominance()
        })
        .collect()
}

fn main() {
    run(bench);
}

fn bench(criterion: &mut Criterion) {
    let rows = rows(MEASURED);
    for (name, sorted) in [
        ("contributors/any_order", false),
        ("contributors/by_cell", true),
    ] {
        let c = columns(rows, sorted);
        let expected = hand_written(&c);
        assert_eq!(gather(&c, 0, rows).dominance(), expected);
        assert_eq!(gather_two_cores(&c).dominance(), expected);
        let mut figures = Figures::new(criterion, name, rows);
        figures.measure("plain_sum", || plain_sum(black_box(&c)));
        figures.measure("hand_written", || hand_written(black_box(&c)));
        figures.measure("cells", || gather(black_box(&c), 0, rows).dominance());
        figures.measure("cells_two_cores", || {
            gather_two_cores(black_box(&c)).dominance()
        });
        figures.measure("states", || states(black_box(&c), 0, rows));
        let parts = [states(&c, 0, rows / 2), states(&c, rows / 2, rows)];
        assert_eq!(merged(&parts), expected);
        let bytes: usize = parts.iter().flatten().map(Vec::len).sum();
        let entries = bytes / 20;
        println!("{entries} contributors in the cells of two parts: {bytes} bytes of state");
        figures.measure_some("states_merge", entries, || merged(black_box(&parts)));
    }
}
