//! `cargo xtask ci`: all that must pass before a change lands.
//!
//! The steps go from seconds to minutes, and all of them run: one report names
//! everything there is to mend.

use crate::tally::Tally;
use crate::tree::root;
use crate::{docs, process, test, tidy};

/// Runs every step and returns how many checks and tests passed and failed.
pub(crate) fn run(options: &[String]) -> Result<Tally, String> {
    if !options.is_empty() {
        return Err("`ci` takes no options".to_owned());
    }
    let root = root()?;
    let mut report = Report::default();

    report.add("tidy", tidy::run(&[]));

    let mut format = process::cargo(&root);
    format.args(["fmt", "--all", "--check"]);
    report.add_step("format", process::succeeds("format", &mut format));

    // Everything below is compiled by the lint driver, so that the bans on panics and on a second
    // session context are proved by the very build that the tests need: a check of its own would
    // compile every dependency a second time.
    match process::lint_driver() {
        Ok(driver) => process::compile_with(driver),
        Err(message) => report.add_step("clippy", Err(message)),
    }

    report.add("test", test::run(&[]));

    // The generated pages come from the binary that the tests have built.
    report.add("docs", docs::run(&["--check".to_owned()]));

    eprintln!();
    for (name, counts) in &report.steps {
        eprintln!("{name:<8} {counts}");
    }
    Ok(report.total())
}

/// The outcome of each step, in order.
#[derive(Default)]
struct Report {
    steps: Vec<(&'static str, Tally)>,
}

impl Report {
    /// Adds a step that counts for itself; one that could not run is one failure.
    fn add(&mut self, name: &'static str, outcome: Result<Tally, String>) {
        let counts = outcome.unwrap_or_else(|message| {
            eprintln!("error: {message}");
            Tally::one(false)
        });
        self.steps.push((name, counts));
    }

    /// Adds a step that either succeeds or fails.
    fn add_step(&mut self, name: &'static str, outcome: Result<bool, String>) {
        self.add(name, outcome.map(Tally::one));
    }

    fn total(&self) -> Tally {
        let mut total = Tally::default();
        for (_, counts) in &self.steps {
            total.add(*counts);
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_cannot_run_is_a_failure_and_the_others_still_count() {
        let mut report = Report::default();
        report.add(
            "test",
            Ok(Tally {
                passed: 3,
                failed: 1,
            }),
        );
        report.add_step("clippy", Err("no such program".to_owned()));
        report.add_step("format", Ok(true));
        assert_eq!(report.total().to_string(), "4 passed, 2 failed");
    }
}
