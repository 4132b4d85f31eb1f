//! Contributors of cells of four million rows, beside a plain sum over the same columns.

mod drawn;

use std::hint::black_box;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use arrow::datatypes::DataType;
use datafusion_expr::EmitTo;
use drawn::{compare, grouped, numbers};
use tietopohja_kernels::ContributorCells;

const ROWS: usize = 4_000_000;
const CELLS: u64 = 10_000;
const BATCH: usize = 8_192;

fn main() {
    let cells: Vec<u32> = numbers(1, CELLS).take(ROWS).map(|n| n as u32).collect();
    // A few contributors have most rows: the square of an even number leans to the small ones.
    let contributors: Vec<u32> = numbers(2, 300)
        .take(ROWS)
        .map(|n| (n * n / 300) as u32)
        .collect();
    let amounts: Vec<i64> = numbers(3, 1 << 20)
        .take(ROWS)
        .map(|n| n as i64 - 1_000)
        .collect();
    let whole = |numbers: &[u32]| -> ArrayRef {
        Arc::new(
            numbers
                .iter()
                .map(|n| Some(i64::from(*n)))
                .collect::<Int64Array>(),
        )
    };
    let batches: Vec<([ArrayRef; 2], Vec<usize>)> = cells
        .chunks(BATCH)
        .zip(contributors.chunks(BATCH))
        .zip(amounts.chunks(BATCH))
        .map(|((cells, contributors), amounts)| {
            let amounts: ArrayRef = Arc::new(Int64Array::from(amounts.to_vec()));
            let groups = cells.iter().map(|cell| *cell as usize).collect();
            ([whole(contributors), amounts], groups)
        })
        .collect();
    compare(
        "contributors",
        ROWS,
        &[
            ("roofline: sum of three columns", &|| {
                let cells: u64 = cells.iter().map(|n| u64::from(*n)).sum();
                let contributors: u64 = contributors.iter().map(|n| u64::from(*n)).sum();
                black_box((cells, contributors, amounts.iter().sum::<i64>()));
            }),
            ("10 000 cells of up to 300", &|| {
                let mut gathered = ContributorCells::new(CELLS as usize);
                let _ = black_box(gathered.add_rows(&cells, &contributors, &amounts));
                black_box(gathered.dominance());
            }),
            ("SQL aggregate in 10 000 groups", &|| {
                let types = [DataType::Int64, DataType::Int64];
                let Some(mut aggregate) = grouped("contributors", &types) else {
                    return;
                };
                for (columns, groups) in &batches {
                    let _ =
                        black_box(aggregate.update_batch(columns, groups, None, CELLS as usize));
                }
                let _ = black_box(aggregate.evaluate(EmitTo::All));
            }),
        ],
    );
}
