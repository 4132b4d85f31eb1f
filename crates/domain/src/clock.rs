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

/// The time of clocks in Finland, with its two changes a year.
fn finland() -> TimeZone {
    TimeZone::get("Europe/Helsinki").unwrap_or_else(|_| TimeZone::fixed(jiff::tz::offset(2)))
}

/// The calendar day in Finland: what is "today" does not depend on the machine.
pub fn finnish_day(now: Timestamp) -> Date {
    now.to_zoned(finland()).date()
}

/// The last millisecond of a calendar day in Finland; `None` for a day at the end of all days.
pub fn end_of_finnish_day(day: Date) -> Option<Timestamp> {
    let next = day.tomorrow().ok()?.to_zoned(finland()).ok()?.timestamp();
    next.checked_sub(jiff::SignedDuration::from_millis(1)).ok()
}

/// Finds how far clocks in Finland are ahead of UTC. It remembers one stretch of time between two
/// changes, so that moments near each other are found at once.
#[derive(Debug)]
pub struct FinnishOffset {
    finland: TimeZone,
    /// From, up to but not with, seconds ahead.
    known: (i64, i64, i64),
}

impl Default for FinnishOffset {
    fn default() -> Self {
        Self {
            finland: finland(),
            known: (0, 0, 0),
        }
    }
}

impl FinnishOffset {
    /// Seconds that clocks in Finland are ahead of UTC at a moment, in seconds since 1970; `None` for
    /// a moment outside of the years that a calendar has.
    pub fn at(&mut self, second: i64) -> Option<i64> {
        let (from, to, ahead) = self.known;
        if (from..to).contains(&second) {
            return Some(ahead);
        }
        let moment = Timestamp::from_second(second).ok()?;
        let ahead = i64::from(self.finland.to_offset(moment).seconds());
        // A change counts from its own moment on.
        let just_after = moment.checked_add(jiff::SignedDuration::from_nanos(1));
        let before = self.finland.preceding(just_after.unwrap_or(moment)).next();
        let after = self.finland.following(moment).next();
        self.known = (
            before.map_or(i64::MIN, |change| change.timestamp().as_second()),
            after.map_or(i64::MAX, |change| change.timestamp().as_second()),
            ahead,
        );
        Some(ahead)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test is the point")]
mod tests {
    use super::*;

    #[test]
    fn a_finnish_day_ends_before_the_next() {
        for (day, end) in [
            (Date::constant(2024, 1, 31), "2024-01-31T21:59:59.999Z"),
            (Date::constant(2024, 3, 31), "2024-03-31T20:59:59.999Z"),
            (Date::constant(2024, 10, 27), "2024-10-27T21:59:59.999Z"),
        ] {
            assert_eq!(end_of_finnish_day(day), end.parse().ok(), "{day}");
        }
        assert_eq!(end_of_finnish_day(Date::MAX), None);
    }

    #[test]
    fn finnish_clocks_change_twice_a_year() {
        let cases = [
            ("2024-03-31T00:59:59Z", 2),
            ("2024-03-31T01:00:00Z", 3),
            ("2024-03-31T01:00:01Z", 3),
            ("2024-10-27T00:59:59Z", 3),
            ("2024-10-27T01:00:00Z", 2),
            ("2024-10-27T01:00:01Z", 2),
            ("2024-12-24T12:00:00Z", 2),
            ("2024-07-01T12:00:00Z", 3),
        ];
        let moment = |text: &str| text.parse::<Timestamp>().unwrap().as_second();
        // In any order, with what was remembered and without.
        let mut remembering = FinnishOffset::default();
        for (text, hours) in cases.iter().chain(cases.iter().rev()) {
            assert_eq!(remembering.at(moment(text)), Some(hours * 3600), "{text}");
            let fresh = FinnishOffset::default().at(moment(text));
            assert_eq!(fresh, Some(hours * 3600), "{text}");
        }
        assert_eq!(FinnishOffset::default().at(i64::MAX), None);
    }

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
