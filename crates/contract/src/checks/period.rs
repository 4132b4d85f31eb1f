//! The row belongs to the delivered period: an event's date lies in it, a
//! spell has at least a day in it.

use tietopohja_domain::DeliveryPeriod;

use crate::contract::PeriodTest;
use crate::days;

/// The days that a rule accepts: from `first` to `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) first: i32,
    pub(crate) last: i32,
}

impl Window {
    pub(crate) fn of(test: PeriodTest, period: DeliveryPeriod) -> Window {
        let period = match (test, period) {
            (PeriodTest::WithinYear { .. }, DeliveryPeriod::Month { year, .. }) => {
                DeliveryPeriod::Year(year)
            }
            (
                PeriodTest::WithinYear { .. }
                | PeriodTest::Within { .. }
                | PeriodTest::Overlaps { .. },
                period,
            ) => period,
        };
        Window {
            first: days::from_date(period.first_day()),
            last: days::from_date(period.last_day()),
        }
    }

    #[inline]
    pub(crate) fn holds(self, day: i32) -> bool {
        self.first <= day && day <= self.last
    }

    /// `to` is `None` for a spell that is still open.
    #[inline]
    pub(crate) fn overlaps(self, from: i32, to: Option<i32>) -> bool {
        from <= self.last && to.is_none_or(|to| to >= self.first)
    }
}

/// The message of `wrong_period`.
pub(crate) fn message(test: PeriodTest, period: DeliveryPeriod) -> String {
    match test {
        PeriodTest::Within { .. } => format!("the date is outside the delivered period {period}"),
        PeriodTest::WithinYear { .. } => {
            format!(
                "the date is outside the year {} of the delivery",
                period.first_day().year()
            )
        }
        PeriodTest::Overlaps { .. } => {
            format!("the spell has no day in the delivered period {period}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(year: i32, month: u32, day: u32) -> i32 {
        days::from_civil(year, month, day).unwrap_or(0)
    }

    const MARCH: DeliveryPeriod = DeliveryPeriod::Month {
        year: 2024,
        month: 3,
    };

    #[test]
    fn an_event_lies_in_the_delivered_month() {
        let window = Window::of(PeriodTest::Within { date: 0 }, MARCH);
        for (date, inside) in [
            (day(2024, 2, 29), false),
            (day(2024, 3, 1), true),
            (day(2024, 3, 31), true),
            (day(2024, 4, 1), false),
        ] {
            assert_eq!(window.holds(date), inside);
        }
    }

    #[test]
    fn a_budget_row_lies_in_the_year_of_the_delivered_month() {
        let window = Window::of(PeriodTest::WithinYear { date: 0 }, MARCH);
        for (date, inside) in [
            (day(2023, 12, 1), false),
            (day(2024, 1, 1), true),
            (day(2024, 12, 1), true),
            (day(2025, 1, 1), false),
        ] {
            assert_eq!(window.holds(date), inside);
        }
    }

    #[test]
    fn a_spell_has_a_day_in_the_delivered_year() {
        let window = Window::of(
            PeriodTest::Overlaps { from: 0, to: 1 },
            DeliveryPeriod::Year(2024),
        );
        for (from, to, inside) in [
            (day(2020, 1, 1), None, true),
            (day(2025, 1, 1), None, false),
            (day(2024, 12, 31), None, true),
            (day(2020, 1, 1), Some(day(2023, 12, 31)), false),
            (day(2020, 1, 1), Some(day(2024, 1, 1)), true),
        ] {
            assert_eq!(window.overlaps(from, to), inside);
        }
    }
}
