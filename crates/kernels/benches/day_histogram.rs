//! Waiting times by region, class and month of three years: twenty million rows, so that figures can be
//! held against those of a loop over coded columns: 0.18 s for median, 90th percentile and the share
//! over 14 days of each cell, on a machine of two cores. Then quantiles, merges and curves of those who
//! still wait, over the states alone.
//!
//! `plain_sum` reads the same columns and adds them up, which no kernel can beat; `hand_written` counts
//! days into one array for these cells, without checks of codes, days or counts, and reads the figures
//! off it. `scan` is the shared scan of indicators over the same rows as Arrow columns, and
//! `aggregate` the function of SQL over them, with cells numbered already.

#![expect(clippy::unwrap_used, reason = "a bench may stop at the first surprise")]

mod support;

use std::hint::black_box;
use std::sync::Arc;
use std::thread;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, Date32Array, DictionaryArray, Int32Array, Int64Array,
    StringArray,
};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Int32Type, Schema};
use criterion::Criterion;
use datafusion_common::ScalarValue;
use datafusion_common::config::ConfigOptions;
use datafusion_expr::function::AccumulatorArgs;
use datafusion_expr::{ColumnarValue, EmitTo, GroupsAccumulator, ScalarFunctionArgs};
use tietopohja_kernels::{
    CellColumn, CellSpec, Cells, DayHistogram, GroupSpec, InputColumn, SurvivalCurve,
    aggregate_functions, scalar_functions,
};

use support::{Figures, Numbers, rows, run};

const MEASURED: usize = 20_000_000;
const BATCH: usize = 8_192;
const REGIONS: u32 = 24;
const CLASSES: u32 = 20;
const MONTHS: u32 = 36;
const CELLS: usize = (REGIONS * CLASSES * MONTHS) as usize;
/// No wait is so long.
const DAYS: usize = 512;
const LIMIT: usize = 14;
/// 1 January 2023 as days since 1970.
const START: i32 = 19_358;
const LENGTHS: [i32; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

struct Columns {
    region: Vec<u8>,
    class: Vec<u8>,
    month: Vec<u8>,
    wait: Vec<i32>,
}

fn columns(rows: usize, by_month: bool) -> Columns {
    let mut numbers = Numbers::new();
    let mut c = Columns {
        region: Vec::with_capacity(rows),
        class: Vec::with_capacity(rows),
        month: Vec::with_capacity(rows),
        wait: Vec::with_capacity(rows),
    };
    for row in 0..rows {
        let rest = numbers.next();
        let class = rest % 20 * ((rest >> 8) % 20) / 20;
        let month = if by_month {
            row * MONTHS as usize / rows
        } else {
            (rest >> 16) as usize % MONTHS as usize
        };
        c.region.push(((rest >> 24) % u64::from(REGIONS)) as u8);
        c.class.push(class as u8);
        c.month.push(month as u8);
        // Most waits are short, and those of some classes longer.
        let waits = numbers.next();
        let wait = waits % DAYS as u64 * ((waits >> 16) % 512) / 512 * ((waits >> 32) % 512) / 512;
        c.wait.push((wait * (class + 1) / 20) as i32);
    }
    c
}

fn plain_sum(c: &Columns) -> i64 {
    let codes = |codes: &[u8]| codes.iter().map(|code| i64::from(*code)).sum::<i64>();
    codes(&c.region)
        + codes(&c.class)
        + codes(&c.month)
        + c.wait.iter().map(|wait| i64::from(*wait)).sum::<i64>()
}

/// The cell of each row.
fn cells_of(c: &Columns, from: usize, to: usize) -> impl Iterator<Item = usize> {
    let codes = c.region[from..to].iter().zip(&c.class[from..to]);
    codes
        .zip(&c.month[from..to])
        .map(|((region, class), month)| {
            let group = u32::from(*region) * CLASSES + u32::from(*class);
            (group * MONTHS + u32::from(*month)) as usize
        })
}

fn hand_written(c: &Columns, from: usize, to: usize) -> Vec<u32> {
    let mut counts = vec![0u32; CELLS * DAYS];
    for (cell, wait) in cells_of(c, from, to).zip(&c.wait[from..to]) {
        counts[cell * DAYS + *wait as usize] += 1;
    }
    counts
}

fn hand_written_two_cores(c: &Columns) -> Vec<u32> {
    let rows = c.wait.len();
    thread::scope(|scope| {
        let first = scope.spawn(|| hand_written(c, 0, rows / 2));
        let mut counts = hand_written(c, rows / 2, rows);
        let more = first.join().unwrap();
        counts.iter_mut().zip(&more).for_each(|(a, b)| *a += b);
        counts
    })
}

/// Median, 90th percentile and share over the limit.
type Answer = Option<[f64; 3]>;

/// The answer of each cell, in one pass over its days. A quantile is the mean of two values where the
/// distribution has a step there.
fn hand_written_answers(counts: &[u32]) -> Vec<Answer> {
    counts
        .chunks_exact(DAYS)
        .map(|days| {
            let n: u64 = days.iter().map(|count| u64::from(*count)).sum();
            if n == 0 {
                return None;
            }
            let quantile = |tenths: u64| {
                let (first, second) = if (n * tenths).is_multiple_of(10) {
                    (n * tenths / 10, n * tenths / 10 + 1)
                } else {
                    ((n * tenths).div_ceil(10), (n * tenths).div_ceil(10))
                };
                let mut passed = 0;
                let mut lower = None;
                for (day, count) in days.iter().enumerate() {
                    passed += u64::from(*count);
                    if passed >= first && lower.is_none() {
                        lower = Some(day);
                    }
                    if passed >= second {
                        return f64::midpoint(lower.unwrap_or(day) as f64, day as f64);
                    }
                }
                DAYS as f64
            };
            let over: u64 = days[LIMIT + 1..].iter().map(|n| u64::from(*n)).sum();
            Some([quantile(5), quantile(9), over as f64 / n as f64])
        })
        .collect()
}

fn count(c: &Columns, from: usize, to: usize) -> Vec<DayHistogram> {
    let mut histograms = vec![DayHistogram::default(); CELLS];
    for (cell, wait) in cells_of(c, from, to).zip(&c.wait[from..to]) {
        histograms[cell].add_times(*wait, 1).unwrap();
    }
    histograms
}

fn count_two_cores(c: &Columns) -> Vec<DayHistogram> {
    let rows = c.wait.len();
    thread::scope(|scope| {
        let first = scope.spawn(|| count(c, 0, rows / 2));
        let mut histograms = count(c, rows / 2, rows);
        for (own, more) in histograms.iter_mut().zip(&first.join().unwrap()) {
            own.merge_state(&more.state()).unwrap();
        }
        histograms
    })
}

fn states(histograms: &[DayHistogram]) -> BinaryArray {
    BinaryArray::from_iter_values(histograms.iter().map(DayHistogram::state))
}

/// A function of SQL that gives a number, over columns of states.
fn asked(name: &str, states: &[&BinaryArray], argument: Option<ScalarValue>) -> ArrayRef {
    let functions = scalar_functions();
    let function = functions.iter().find(|own| own.name() == name).unwrap();
    let rows = states[0].len();
    let states = states
        .iter()
        .map(|states| ColumnarValue::Array(Arc::new((*states).clone())));
    let args: Vec<ColumnarValue> = states.chain(argument.map(ColumnarValue::Scalar)).collect();
    let types: Vec<DataType> = args.iter().map(ColumnarValue::data_type).collect();
    let field = |own: &DataType| Arc::new(Field::new("value", own.clone(), true)) as FieldRef;
    let found = function.invoke_with_args(ScalarFunctionArgs {
        arg_fields: types.iter().map(field).collect(),
        return_field: field(&function.return_type(&types).unwrap()),
        args,
        number_rows: rows,
        config_options: Arc::new(ConfigOptions::default()),
    });
    found.unwrap().to_array(rows).unwrap()
}

fn quantiles(name: &str, states: &BinaryArray, q: f64) -> ArrayRef {
    asked(name, &[states], Some(ScalarValue::Float64(Some(q))))
}

fn share_over(states: &BinaryArray) -> ArrayRef {
    let limit = ScalarValue::Int64(Some(LIMIT as i64));
    asked("histogram_share_over", &[states], Some(limit))
}

fn answers(states: &BinaryArray) -> Vec<Answer> {
    let median = quantiles("histogram_quantile", states, 0.5);
    let most = quantiles("histogram_quantile", states, 0.9);
    let share = share_over(states);
    let [median, most, share] =
        [&median, &most, &share].map(|own| own.as_primitive::<Float64Type>());
    (0..states.len())
        .map(|row| {
            median
                .is_valid(row)
                .then(|| [median.value(row), most.value(row), share.value(row)])
        })
        .collect()
}

/// The same rows as Arrow columns: region, class, day and wait, batch by batch.
fn batches(c: &Columns) -> Vec<Vec<ArrayRef>> {
    let texts = |count: u32| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(
            (0..count).map(|code| format!("{code:03}")),
        ))
    };
    let (regions, classes) = (texts(REGIONS), texts(CLASSES));
    let coded = |codes: &[u8], texts: &ArrayRef| -> ArrayRef {
        let keys = Int32Array::from_iter_values(codes.iter().map(|code| i32::from(*code)));
        Arc::new(DictionaryArray::<Int32Type>::new(keys, Arc::clone(texts)))
    };
    let months: Vec<i32> = (0..MONTHS as usize)
        .scan(START, |day, month| {
            let first = *day;
            // February 2024.
            *day += LENGTHS[month % 12] + i32::from(month == 13);
            Some(first)
        })
        .collect();
    let rows = c.wait.len();
    (0..rows)
        .step_by(BATCH)
        .map(|from| {
            let own = from..(from + BATCH).min(rows);
            let days = c.month[own.clone()].iter().zip(own.clone());
            let days = days.map(|(month, row)| months[usize::from(*month)] + (row % 28) as i32);
            let waits = c.wait[own.clone()].iter().map(|wait| i64::from(*wait));
            vec![
                coded(&c.region[own.clone()], &regions),
                coded(&c.class[own.clone()], &classes),
                Arc::new(Date32Array::from_iter_values(days)) as ArrayRef,
                Arc::new(Int64Array::from_iter_values(waits)) as ArrayRef,
            ]
        })
        .collect()
}

fn scan(batches: &[Vec<ArrayRef>]) -> Cells {
    let mut cells = Cells::new(CellSpec {
        columns: vec![
            CellColumn::Text,
            CellColumn::Text,
            CellColumn::Month,
            CellColumn::Whole,
        ],
        keys: vec![vec![0, 1, 2]],
        groups: vec![GroupSpec {
            key: 0,
            histograms: vec![3],
            ..GroupSpec::default()
        }],
    })
    .unwrap();
    for batch in batches {
        cells.update(&InputColumn::of_arrays(batch)).unwrap();
    }
    cells
}

fn scanned(cells: Cells) -> BinaryArray {
    let rows = cells.finish().unwrap().rows(0).unwrap();
    rows.histograms[0].clone()
}

fn scan_two_cores(batches: &[Vec<ArrayRef>]) -> Cells {
    let (first, second) = batches.split_at(batches.len() / 2);
    thread::scope(|scope| {
        let first = scope.spawn(|| scan(first));
        let second = scan(second);
        let mut cells = first.join().unwrap();
        cells.merge(second).unwrap();
        cells
    })
}

fn accumulator(name: &str) -> Box<dyn GroupsAccumulator> {
    let functions = aggregate_functions();
    let function = functions.iter().find(|own| own.name() == name).unwrap();
    let fields = [Arc::new(Field::new("value", DataType::Int64, true)) as FieldRef];
    let schema = Schema::new(fields.to_vec());
    let created = function.create_groups_accumulator(AccumulatorArgs {
        return_field: Arc::new(Field::new("result", DataType::Binary, false)),
        schema: &schema,
        ignore_nulls: false,
        order_bys: &[],
        is_reversed: false,
        name,
        is_distinct: false,
        exprs: &[],
        expr_fields: &fields,
    });
    created.unwrap()
}

fn aggregate(batches: &[Vec<ArrayRef>], cells: &[usize]) -> BinaryArray {
    let mut histograms = accumulator("day_histogram");
    for (batch, cells) in batches.iter().zip(cells.chunks(BATCH)) {
        histograms
            .update_batch(&batch[3..], cells, None, CELLS)
            .unwrap();
    }
    let found = histograms.evaluate(EmitTo::All).unwrap();
    found.as_binary::<i32>().clone()
}

fn sorted(states: &BinaryArray) -> Vec<&[u8]> {
    let mut states: Vec<&[u8]> = states.iter().flatten().collect();
    states.retain(|state| !state.is_empty());
    states.sort_unstable();
    states
}

fn count_rows(criterion: &mut Criterion, rows: usize, by_month: bool) {
    let c = columns(rows, by_month);
    let batches = batches(&c);
    let cells: Vec<usize> = cells_of(&c, 0, rows).collect();
    let expected = hand_written_answers(&hand_written(&c, 0, rows));
    let counted = states(&count(&c, 0, rows));
    assert_eq!(answers(&counted), expected);
    assert_eq!(states(&count_two_cores(&c)), counted);
    assert_eq!(aggregate(&batches, &cells), counted);
    // A scan gives its cells in an order of its own, and only those that have rows.
    assert_eq!(sorted(&scanned(scan(&batches))), sorted(&counted));
    assert_eq!(sorted(&scanned(scan_two_cores(&batches))), sorted(&counted));
    let order = if by_month { "by_month" } else { "any_order" };
    let mut figures = Figures::new(criterion, &format!("day_histogram/{order}"), rows);
    figures.measure("plain_sum", || plain_sum(black_box(&c)));
    figures.measure("hand_written", || {
        hand_written_answers(&hand_written(black_box(&c), 0, rows))
    });
    figures.measure("hand_written_two_cores", || {
        hand_written_answers(&hand_written_two_cores(black_box(&c)))
    });
    figures.measure("histograms", || count(black_box(&c), 0, rows));
    figures.measure("histograms_and_answers", || {
        answers(&states(&count(black_box(&c), 0, rows)))
    });
    figures.measure("histograms_and_answers_two_cores", || {
        answers(&states(&count_two_cores(black_box(&c))))
    });
    figures.measure("one_histogram", || {
        let mut histogram = DayHistogram::default();
        histogram.add_days(black_box(&c.wait)).unwrap();
        histogram
    });
    figures.measure("scan_and_answers", || {
        answers(&scanned(scan(black_box(&batches))))
    });
    figures.measure("scan_and_answers_two_cores", || {
        answers(&scanned(scan_two_cores(black_box(&batches))))
    });
    figures.measure("aggregate_and_answers", || {
        answers(&aggregate(black_box(&batches), &cells))
    });
}

/// The wait that half of the people do not exceed, from counts of those who got in and those who still
/// wait; none where too many wait.
fn hand_written_curve(ended: &[u32], going_on: &[u32]) -> Option<f64> {
    let sum = |counts: &[u32]| counts.iter().map(|count| u64::from(*count)).sum::<u64>();
    let mut at_risk = sum(ended) + sum(going_on);
    let mut survival = 1.0;
    let mut half = None;
    for (day, (ended, lost)) in ended.iter().zip(going_on).enumerate() {
        if *ended > 0 {
            if let Some(half) = half {
                return Some(f64::midpoint(half, day as f64));
            }
            survival *= 1.0 - f64::from(*ended) / at_risk as f64;
            if survival < 0.5 - 1e-9 {
                return Some(day as f64);
            }
            if survival <= 0.5 + 1e-9 {
                half = Some(day as f64);
            }
        }
        at_risk -= u64::from(*ended) + u64::from(*lost);
    }
    half
}

fn numbers_of(found: &ArrayRef) -> Vec<Option<f64>> {
    found.as_primitive::<Float64Type>().iter().collect()
}

fn over_states(criterion: &mut Criterion, rows: usize) {
    let c = columns(rows, true);
    // One of eight still waits.
    let (mut ended, mut going_on) = (vec![0u32; CELLS * DAYS], vec![0u32; CELLS * DAYS]);
    for (row, (cell, wait)) in cells_of(&c, 0, rows).zip(&c.wait).enumerate() {
        let counts = if row.is_multiple_of(8) {
            &mut going_on
        } else {
            &mut ended
        };
        counts[cell * DAYS + *wait as usize] += 1;
    }
    let of = |counts: &[u32]| {
        let histograms = counts.chunks_exact(DAYS).map(|days| {
            let mut histogram = DayHistogram::default();
            for (day, times) in (0..).zip(days) {
                histogram.add_times(day, u64::from(*times)).unwrap();
            }
            histogram
        });
        states(&histograms.collect::<Vec<_>>())
    };
    let (events, censored) = (of(&ended), of(&going_on));
    let median = || asked("kaplan_meier_median", &[&events, &censored], None);
    let curves = |ended: &[u32], going_on: &[u32]| -> Vec<Option<f64>> {
        let cells = ended.chunks_exact(DAYS).zip(going_on.chunks_exact(DAYS));
        cells.map(|(a, b)| hand_written_curve(a, b)).collect()
    };
    assert_eq!(numbers_of(&median()), curves(&ended, &going_on));
    // Cells into those of their region, over classes and months.
    let of_region: Vec<usize> = (0..CELLS)
        .map(|cell| cell / (CLASSES * MONTHS) as usize)
        .collect();
    let merge = || {
        let mut regions = vec![DayHistogram::default(); REGIONS as usize];
        for (state, region) in events.iter().zip(&of_region) {
            regions[*region]
                .merge_state(state.unwrap_or_default())
                .unwrap();
        }
        states(&regions)
    };
    let merge_aggregate = || {
        let mut regions = accumulator("day_histogram_merge");
        let column: ArrayRef = Arc::new(events.clone());
        regions
            .update_batch(&[column], &of_region, None, REGIONS as usize)
            .unwrap();
        let found = regions.evaluate(EmitTo::All).unwrap();
        found.as_binary::<i32>().clone()
    };
    assert_eq!(merge(), merge_aggregate());

    let bytes = |states: &BinaryArray| states.value_data().len();
    let title = "day_histogram/states (rows are days of cells)";
    let mut figures = Figures::new(criterion, title, bytes(&events) / 12);
    figures.measure("plain_sum", || {
        let (words, _) = black_box(&events).value_data().as_chunks::<4>();
        words
            .iter()
            .map(|word| u64::from(u32::from_le_bytes(*word)))
            .sum::<u64>()
    });
    figures.measure("hand_written", || hand_written_answers(black_box(&ended)));
    for name in [
        "histogram_quantile",
        "histogram_quantile_nearest",
        "histogram_quantile_linear",
    ] {
        figures.measure(name, || quantiles(name, black_box(&events), 0.5));
    }
    figures.measure("histogram_share_over", || share_over(black_box(&events)));
    figures.measure("answers", || answers(black_box(&events)));
    figures.measure("merge_by_region", merge);
    figures.measure("merge_by_region_aggregate", merge_aggregate);

    drop(figures);
    let days = (bytes(&events) + bytes(&censored)) / 12;
    let title = "kaplan_meier (rows are days of cells, of both states)";
    let mut figures = Figures::new(criterion, title, days);
    figures.measure("plain_sum", || {
        [&events, &censored]
            .map(|states| {
                let (words, _) = black_box(states).value_data().as_chunks::<4>();
                let words = words.iter();
                words
                    .map(|word| u64::from(u32::from_le_bytes(*word)))
                    .sum::<u64>()
            })
            .into_iter()
            .sum::<u64>()
    });
    figures.measure("hand_written_median", || {
        curves(black_box(&ended), black_box(&going_on))
    });
    figures.measure("curves", || {
        let states = events.iter().flatten().zip(censored.iter().flatten());
        let curves = states.map(|(events, censored)| SurvivalCurve::of(events, censored).unwrap());
        curves.map(|curve| curve.steps().len()).sum::<usize>()
    });
    figures.measure("kaplan_meier_median", median);
    figures.measure("kaplan_meier_survival", || {
        let day = Some(ScalarValue::Int64(Some(90)));
        asked("kaplan_meier_survival", &[&events, &censored], day)
    });
}

fn main() {
    run(bench);
}

fn bench(criterion: &mut Criterion) {
    let rows = rows(MEASURED);
    count_rows(criterion, rows, false);
    count_rows(criterion, rows, true);
    over_states(criterion, rows);
}
