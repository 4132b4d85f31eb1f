//! What benches share: numbers that are always the same, and figures that stand beside the roofline.
//!
//! The figures of a group are over the same rows, and the first of them is the roofline: a plain sum
//! over the same columns. Criterion tells the time and rows per second of each, with their spread, and
//! what has changed since it measured last. What a piece of work gives is dropped outside of its time.
//! Without `--bench` among the arguments, as under `cargo test`, everything runs once over few rows,
//! to see that it runs.

use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, Criterion, SamplingMode, Throughput};

/// A fixed sequence of numbers (xorshift).
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 11
    }
}

/// The number of rows to work on: those given when measuring, else few.
pub(crate) fn rows(measured: usize) -> usize {
    if std::env::args().any(|argument| argument == "--bench") {
        measured
    } else {
        measured / 1_000
    }
}

/// Runs the groups of a bench as the arguments of the command say.
pub(crate) fn run(groups: impl FnOnce(&mut Criterion)) {
    let mut criterion = Criterion::default().configure_from_args();
    groups(&mut criterion);
    criterion.final_summary();
}

/// Figures over the same rows.
pub(crate) struct Figures<'a> {
    group: BenchmarkGroup<'a, WallTime>,
    rows: usize,
}

impl<'a> Figures<'a> {
    pub(crate) fn new(criterion: &'a mut Criterion, title: &str, rows: usize) -> Self {
        let mut group = criterion.benchmark_group(title);
        // Most work here takes a tenth of a second or more.
        group
            .sampling_mode(SamplingMode::Flat)
            .sample_size(10)
            .warm_up_time(Duration::from_millis(300))
            .measurement_time(Duration::from_secs(2));
        Self { group, rows }
    }

    /// Measures work over all rows.
    pub(crate) fn measure<T>(&mut self, name: &str, work: impl FnMut() -> T) {
        self.measure_some(name, self.rows, work);
    }

    /// Measures work over some of the rows.
    pub(crate) fn measure_some<T>(&mut self, name: &str, rows: usize, mut work: impl FnMut() -> T) {
        self.group.throughput(Throughput::Elements(rows as u64));
        self.group.bench_function(name, |bencher| {
            bencher.iter_batched(|| (), |()| work(), BatchSize::PerIteration);
        });
    }
}
