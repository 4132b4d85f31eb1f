//! Input of the benches: numbers from a fixed sequence, so that every run measures the same.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use criterion::{Criterion, Throughput};
use datafusion_expr::GroupsAccumulator;
use datafusion_expr::function::AccumulatorArgs;

/// Numbers below `bound`, the same for the same seed (xorshift).
pub(crate) fn numbers(seed: u64, bound: u64) -> impl Iterator<Item = u64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % bound
    })
}

/// One measured variant: its name and what it does.
pub(crate) type Variant<'a> = (&'a str, &'a dyn Fn());

/// Measures variants over the same number of rows, the roofline among them, so that their rows a
/// second stand side by side.
pub(crate) fn compare(kernel: &str, rows: usize, variants: &[Variant<'_>]) {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group(kernel);
    group
        .sample_size(20)
        .throughput(Throughput::Elements(rows as u64));
    for (name, run) in variants {
        group.bench_function(*name, |bencher| bencher.iter(run));
    }
    group.finish();
    criterion.final_summary();
}

/// The grouped form of an aggregate of the crate, as a query uses it.
#[allow(dead_code, reason = "not every bench has an aggregate function")]
pub(crate) fn grouped(name: &str, columns: &[DataType]) -> Option<Box<dyn GroupsAccumulator>> {
    let function = tietopohja_kernels::aggregate_functions()
        .into_iter()
        .find(|function| function.name() == name)?;
    let fields: Vec<FieldRef> = columns
        .iter()
        .map(|column| Arc::new(Field::new("column", column.clone(), true)))
        .collect();
    let result = function.return_type(columns).ok()?;
    function
        .create_groups_accumulator(AccumulatorArgs {
            return_field: Arc::new(Field::new("result", result, false)),
            schema: &Schema::new(fields.clone()),
            ignore_nulls: false,
            order_bys: &[],
            is_reversed: false,
            name,
            is_distinct: false,
            exprs: &[],
            expr_fields: &fields,
        })
        .ok()
}
