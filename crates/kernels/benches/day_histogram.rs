//! Day histograms of four million waits, beside a plain sum over the same column.

mod drawn;

use std::hint::black_box;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use arrow::datatypes::DataType;
use datafusion_expr::EmitTo;
use drawn::{compare, grouped, numbers};
use tietopohja_kernels::{DayHistogram, QuantileRule, SurvivalCurve};

const WAITS: usize = 4_000_000;
const BATCH: usize = 8_192;
const GROUPS: u64 = 3_000;

fn main() {
    let days: Vec<i32> = numbers(1, 200).take(WAITS).map(|n| n as i32).collect();
    let batches: Vec<(ArrayRef, Vec<usize>)> = days
        .chunks(BATCH)
        .map(|days| {
            let column: ArrayRef = Arc::new(
                days.iter()
                    .map(|n| Some(i64::from(*n)))
                    .collect::<Int64Array>(),
            );
            let groups = numbers(days.len() as u64, GROUPS);
            (
                column,
                groups.take(days.len()).map(|n| n as usize).collect(),
            )
        })
        .collect();
    compare(
        "day_histogram",
        WAITS,
        &[
            ("roofline: sum of one column", &|| {
                black_box(days.iter().map(|n| i64::from(*n)).sum::<i64>());
            }),
            ("one histogram", &|| {
                let mut histogram = DayHistogram::default();
                let _ = black_box(histogram.add_days(&days));
                black_box(histogram.state());
            }),
            ("SQL aggregate in 3 000 groups", &|| {
                let Some(mut aggregate) = grouped("day_histogram", &[DataType::Int64]) else {
                    return;
                };
                for (column, groups) in &batches {
                    let columns = std::slice::from_ref(column);
                    let _ =
                        black_box(aggregate.update_batch(columns, groups, None, GROUPS as usize));
                }
                let _ = black_box(aggregate.evaluate(EmitTo::All));
            }),
        ],
    );

    let mut events = DayHistogram::default();
    let mut censored = DayHistogram::default();
    let (ended, going_on) = days.split_at(WAITS / 2);
    if events.add_days(ended).is_err() || censored.add_days(going_on).is_err() {
        return;
    }
    let (events_state, censored_state) = (events.state(), censored.state());
    compare(
        "of one histogram",
        1,
        &[
            ("median", &|| {
                let _ = black_box(events.quantile(0.5, QuantileRule::Linear));
            }),
            ("Kaplan-Meier median", &|| {
                if let Ok(curve) = SurvivalCurve::of(&events_state, &censored_state) {
                    let _ = black_box(curve.quantile(0.5));
                }
            }),
        ],
    );
}
