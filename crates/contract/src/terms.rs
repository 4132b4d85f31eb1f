//! Terms of delivery as dates: when the next delivery is due, and how long one
//! is kept.
//!
//! Terms count from the last day that a delivery covers. "Today" is the
//! caller's: nothing here asks the time.

use tietopohja_domain::{Date, Span};

use crate::contract::{Contract, ServiceLevel};

/// How long the period of one delivery is.
pub(crate) const FREQUENCY: &str = "frequency";
/// How long after its period's end a delivery is due.
pub(crate) const LATENCY: &str = "latency";
/// How long after its period's end a delivery is kept.
pub(crate) const RETENTION: &str = "retention";

/// More than a lifetime in days: a longer term is a slip of the hand.
pub(crate) const LONGEST_TERM: f64 = 100_000.0;

/// The delivery that is expected after another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextDelivery {
    /// First day of its period.
    pub first: Date,
    /// Last day of its period.
    pub last: Date,
    /// The last day on which it comes in time.
    pub due: Date,
}

impl Contract {
    /// The delivery that follows one whose period ends on `covers_to`; `None`
    /// beyond the end of the calendar.
    pub fn next_delivery(&self, covers_to: Date) -> Option<NextDelivery> {
        let day = Span::new().days(1);
        let first = covers_to.checked_add(day).ok()?;
        let last = self.term(FREQUENCY)?.after(first)?.checked_sub(day).ok()?;
        let due = self.term(LATENCY)?.after(last)?;
        Some(NextDelivery { first, last, due })
    }

    /// The last day on which a delivery whose period ends on `covers_to` is
    /// kept; `None` beyond the end of the calendar.
    pub fn kept_until(&self, covers_to: Date) -> Option<Date> {
        self.term(RETENTION)?.after(covers_to)
    }

    fn term(&self, property: &str) -> Option<&ServiceLevel> {
        self.service_levels
            .iter()
            .find(|level| level.property == property)
    }
}

impl ServiceLevel {
    /// The day a term later. A month later than the last day of a month is the
    /// last day of the next one.
    fn after(&self, day: Date) -> Option<Date> {
        let count = self.value as i64;
        let span = match self.unit.as_str() {
            "d" => Span::new().try_days(count),
            "m" => Span::new().try_months(count),
            _ => Span::new().try_years(count),
        };
        let later = day.checked_add(span.ok()?).ok()?;
        let is_month = self.unit != "d" && day == day.last_of_month();
        Some(if is_month {
            later.last_of_month()
        } else {
            later
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use crate::testing::{self, CONTRACT};
    use tietopohja_domain::Date;

    /// `terms` are frequency, latency and retention; `expected` is the next
    /// delivery's first and last day, its due day, and the last day of keeping.
    #[track_caller]
    fn check(terms: [&str; 3], covers_to: &str, expected: &str) {
        let mut yaml = CONTRACT.to_owned();
        for (before, after) in [
            (
                "frequency, value: 1, unit: m",
                format!("frequency, {}", terms[0]),
            ),
            (
                "latency, value: 10, unit: d",
                format!("latency, {}", terms[1]),
            ),
            (
                "retention, value: 24, unit: m",
                format!("retention, {}", terms[2]),
            ),
        ] {
            assert!(yaml.contains(before));
            yaml = yaml.replace(before, &after);
        }
        let contract = testing::parse(&yaml);
        let covers_to: Date = covers_to.parse().unwrap();
        let next = contract.next_delivery(covers_to).unwrap();
        let kept = contract.kept_until(covers_to).unwrap();
        assert_eq!(
            format!(
                "{}..{} due {}, kept to {kept}",
                next.first, next.last, next.due
            ),
            expected
        );
    }

    #[test]
    fn a_month_is_due_some_days_after_its_end() {
        let terms = [
            "value: 1, unit: m",
            "value: 10, unit: d",
            "value: 24, unit: m",
        ];
        check(
            terms,
            "2024-01-31",
            "2024-02-01..2024-02-29 due 2024-03-10, kept to 2026-01-31",
        );
        check(
            terms,
            "2024-02-29",
            "2024-03-01..2024-03-31 due 2024-04-10, kept to 2026-02-28",
        );
        check(
            terms,
            "2024-12-31",
            "2025-01-01..2025-01-31 due 2025-02-10, kept to 2026-12-31",
        );
    }

    #[test]
    fn a_year_is_due_a_month_after_its_end() {
        check(
            [
                "value: 1, unit: y",
                "value: 1, unit: m",
                "value: 10, unit: y",
            ],
            "2023-12-31",
            "2024-01-01..2024-12-31 due 2025-01-31, kept to 2033-12-31",
        );
    }

    #[test]
    fn a_month_after_the_end_of_a_short_month_is_the_end_of_the_next() {
        check(
            [
                "value: 1, unit: m",
                "value: 1, unit: m",
                "value: 1, unit: m",
            ],
            "2024-01-31",
            "2024-02-01..2024-02-29 due 2024-03-31, kept to 2024-02-29",
        );
    }

    #[test]
    fn the_end_of_the_calendar_has_no_next_delivery() {
        let contract = testing::contract();
        let end = Date::MAX;
        assert_eq!(contract.next_delivery(end), None);
        assert_eq!(contract.kept_until(end), None);
    }
}
