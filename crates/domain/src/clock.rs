//! Time as an argument. Only the command line makes a clock that reads the machine's time.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// Where the present moment comes from.
pub trait Clock: Send + Sync {
    /// The present moment.
    fn now(&self) -> Timestamp;
}

/// A clock that stands still: for tests and for recomputing as of a moment.
#[derive(Debug, Clone, Copy)]
pub struct FixedClock(pub Timestamp);

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        self.0
    }
}

/// The calendar day in Finland: what is "today" does not depend on the machine.
pub fn finnish_day(now: Timestamp) -> Date {
    let helsinki =
        TimeZone::get("Europe/Helsinki").unwrap_or_else(|_| TimeZone::fixed(jiff::tz::offset(2)));
    now.to_zoned(helsinki).date()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_finnish_day_begins_before_the_utc_day() {
        for (now, day) in [
            ("2024-01-31T21:59:59Z", Date::constant(2024, 1, 31)),
            ("2024-01-31T22:00:00Z", Date::constant(2024, 2, 1)),
            ("2024-06-30T21:00:00Z", Date::constant(2024, 7, 1)),
        ] {
            assert_eq!(
                now.parse::<Timestamp>().ok().map(finnish_day),
                Some(day),
                "{now}"
            );
        }
    }
}
