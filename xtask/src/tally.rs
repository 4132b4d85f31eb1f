//! Counting what passed and what failed, over tests of every kind.

use std::fmt;

/// How many checks passed and failed. Printed as the closing line of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl Tally {
    /// One check with a known outcome.
    pub(crate) fn one(passed: bool) -> Tally {
        Tally {
            passed: u64::from(passed),
            failed: u64::from(!passed),
        }
    }

    /// Adds the counts of another run.
    pub(crate) fn add(&mut self, other: Tally) {
        self.passed += other.passed;
        self.failed += other.failed;
    }

    /// Reads a closing line as this type prints it, with or without a title.
    pub(crate) fn from_closing_line(line: &str) -> Option<Tally> {
        let counts = line.rsplit(": ").next()?;
        let (passed, failed) = counts.trim().split_once(", ")?;
        Some(Tally {
            passed: passed.strip_suffix(" passed")?.parse().ok()?,
            failed: failed.strip_suffix(" failed")?.parse().ok()?,
        })
    }

    /// Reads the closing line of one Rust test binary; `None` for any other line.
    pub(crate) fn from_test_result(line: &str) -> Option<Tally> {
        let counts = line.trim().strip_prefix("test result: ")?;
        let (_, counts) = counts.split_once(". ")?;
        let mut tally = Tally::default();
        for part in counts.split(';') {
            let Some((number, what)) = part.trim().split_once(' ') else {
                continue;
            };
            match what {
                "passed" => tally.passed = number.parse().ok()?,
                "failed" => tally.failed = number.parse().ok()?,
                _ => {}
            }
        }
        Some(tally)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_line_of_a_test_binary_is_counted() {
        let line = "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.02s";
        assert_eq!(
            Tally::from_test_result(line),
            Some(Tally {
                passed: 12,
                failed: 3
            })
        );
    }

    #[test]
    fn closing_line_of_a_script_is_counted() {
        let expected = Some(Tally {
            passed: 7,
            failed: 1,
        });
        assert_eq!(Tally::from_closing_line("7 passed, 1 failed"), expected);
        let titled = "Delta tables: 7 passed, 1 failed";
        assert_eq!(Tally::from_closing_line(titled), expected);
        assert_eq!(Tally::from_closing_line("ok     7 passed, later"), None);
    }

    #[test]
    fn other_lines_are_not_counted() {
        assert_eq!(Tally::from_test_result("test a::b ... ok"), None);
        assert_eq!(Tally::from_test_result("running 3 tests"), None);
        assert_eq!(Tally::from_test_result("test result: "), None);
    }

    #[test]
    fn counts_add_up_and_print_as_one_line() {
        let mut tally = Tally::one(true);
        tally.add(Tally {
            passed: 4,
            failed: 2,
        });
        tally.add(Tally::one(false));
        assert_eq!(tally.to_string(), "5 passed, 3 failed");
    }
}
