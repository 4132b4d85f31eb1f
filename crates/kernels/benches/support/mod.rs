//! What benches share: numbers that are always the same, and a clock that prints a figure beside
//! the roofline.
//!
//! Each figure is the best of several runs, because the others tell what else the machine did. The
//! first of a table is the roofline: a plain sum over the same columns. Without `--bench` among the
//! arguments, as under `cargo test`, everything runs once over few rows, to see that it runs.

use std::hint::black_box;
use std::time::{Duration, Instant};

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

/// Whether to measure, or only to see that it runs.
pub(crate) fn measuring() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

/// The number of rows to work on: those given when measuring, else few.
pub(crate) fn rows(measured: usize) -> usize {
    if measuring() {
        measured
    } else {
        measured / 1_000
    }
}

/// A table of figures over the same rows.
pub(crate) struct Figures {
    rows: usize,
    roofline: Option<f64>,
}

impl Figures {
    pub(crate) fn new(title: &str, rows: usize) -> Self {
        println!("\n{title}: {rows} rows");
        println!(
            "{:<34} {:>10} {:>10} {:>9} {:>11}",
            "", "seconds", "M rows/s", "ns/row", "× plain sum"
        );
        Self {
            rows,
            roofline: None,
        }
    }

    /// Measures work over all rows. The first is the roofline.
    pub(crate) fn measure<T>(&mut self, name: &str, work: impl FnMut() -> T) {
        self.measure_some(name, self.rows, work);
    }

    /// Measures work over some of the rows.
    pub(crate) fn measure_some<T>(&mut self, name: &str, rows: usize, mut work: impl FnMut() -> T) {
        let runs = if measuring() { 5 } else { 1 };
        let mut best = Duration::MAX;
        for _ in 0..runs {
            let started = Instant::now();
            let result = black_box(work());
            best = best.min(started.elapsed());
            drop(result);
        }
        let seconds = best.as_secs_f64();
        let each = seconds / rows.max(1) as f64;
        let roofline = *self.roofline.get_or_insert(each);
        println!(
            "{name:<34} {seconds:>10.4} {:>10.1} {:>9.2} {:>11.1}",
            1e-6 / each,
            each * 1e9,
            each / roofline
        );
    }
}
