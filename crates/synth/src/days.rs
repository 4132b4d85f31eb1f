//! Days and months as plain numbers, and the Finnish working-day calendar.
//!
//! A [`Day`] counts from 1.1.1900, so that a person's dates fit in 16 bits and
//! spans are subtractions. Only what the generators need is here; the calendar
//! that indicators use is reference data of the warehouse. To add a holiday:
//! one line in [`is_working_day`].

use jiff::civil::Date;

/// Days since 1.1.1900 (day 0).
pub(crate) type Day = i32;

/// The day that stands for "still going on".
pub(crate) const OPEN: Day = 65_535;

/// Days from 1.3.0000 to 1.1.1900 in the proleptic Gregorian calendar.
const SHIFT: i32 = 693_901;

/// The day of a calendar date.
pub(crate) fn day(year: i32, month: i32, day_of_month: i32) -> Day {
    let (y, m) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    365 * y + y / 4 - y / 100 + y / 400 + (m * 306 + 5) / 10 + day_of_month - 1 - SHIFT
}

/// Year, month and day of the month.
pub(crate) fn civil(day: Day) -> (i32, i32, i32) {
    let n = day + SHIFT;
    let era = n.div_euclid(146_097);
    let doe = n.rem_euclid(146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (
        yoe + era * 400 + i32::from(month <= 2),
        month,
        doy - (153 * mp + 2) / 5 + 1,
    )
}

/// The day of a date of the calendar crate.
pub(crate) fn from_date(date: Date) -> Day {
    day(
        i32::from(date.year()),
        i32::from(date.month()),
        i32::from(date.day()),
    )
}

/// Completed years of age on a day.
pub(crate) fn age_on(birth: Day, on: Day) -> i32 {
    let (by, bm, bd) = civil(birth);
    let (y, m, d) = civil(on);
    y - by - i32::from((m, d) < (bm, bd))
}

/// One calendar month.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Month {
    pub(crate) year: i32,
    /// 1 to 12.
    pub(crate) month: i32,
    pub(crate) first: Day,
    /// Inclusive.
    pub(crate) last: Day,
}

impl Month {
    pub(crate) fn new(year: i32, month: i32) -> Month {
        let (next_year, next_month) = if month == 12 {
            (year + 1, 1)
        } else {
            (year, month + 1)
        };
        Month {
            year,
            month,
            first: day(year, month, 1),
            last: day(next_year, next_month, 1) - 1,
        }
    }

    /// `yyyymm`.
    pub(crate) fn number(self) -> i32 {
        self.year * 100 + self.month
    }

    /// Number of days.
    pub(crate) fn days(self) -> i32 {
        self.last - self.first + 1
    }

    /// Months since January of year 0.
    pub(crate) fn index(self) -> i32 {
        self.year * 12 + self.month - 1
    }
}

/// The twelve months of a year.
pub(crate) fn months_of(year: i32) -> impl Iterator<Item = Month> {
    (1..=12).map(move |month| Month::new(year, month))
}

/// Monday is 0, Sunday 6.
pub(crate) fn weekday(day: Day) -> i32 {
    // 1.1.1900 was a Monday.
    day.rem_euclid(7)
}

/// Easter Sunday (the anonymous Gregorian rule).
fn easter(year: i32) -> Day {
    let a = year % 19;
    let (b, c) = (year / 100, year % 100);
    let d = (19 * a + b - b / 4 - (b - (b + 8) / 25 + 1) / 3 + 15) % 30;
    let e = (32 + 2 * (b % 4) + 2 * (c / 4) - d - c % 4) % 7;
    let f = d + e - 7 * ((a + 11 * d + 22 * e) / 451) + 114;
    day(year, f / 31, f % 31 + 1)
}

/// True for Monday to Friday that is neither a public holiday, Midsummer Eve nor Christmas Eve.
pub(crate) fn is_working_day(on: Day) -> bool {
    if weekday(on) >= 5 {
        return false;
    }
    let (year, month, day_of_month) = civil(on);
    let from_easter = on - easter(year);
    let fixed = matches!(
        (month, day_of_month),
        (1, 1) | (1, 6) | (5, 1) | (12, 6) | (12, 24) | (12, 25) | (12, 26)
    );
    // Good Friday, Easter Monday, Ascension Day.
    let movable = matches!(from_easter, -2 | 1 | 39);
    // Midsummer Eve is the Friday of 19 to 25 June.
    let midsummer_eve = month == 6 && weekday(on) == 4 && (19..=25).contains(&day_of_month);
    !(fixed || movable || midsummer_eve)
}

/// The `count`-th working day after `from`; `from` itself is not counted.
pub(crate) fn add_working_days(from: Day, count: i32) -> Day {
    let mut on = from;
    let mut left = count;
    while left > 0 {
        on += 1;
        left -= i32::from(is_working_day(on));
    }
    on
}

/// The same day of the month `months` later, or the last day of that month.
pub(crate) fn add_months(from: Day, months: i32) -> Day {
    let (year, month, day_of_month) = civil(from);
    let index = year * 12 + month - 1 + months;
    let target = Month::new(index.div_euclid(12), index.rem_euclid(12) + 1);
    target.first + (day_of_month - 1).min(target.days() - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_count_from_the_start_of_1900_and_read_back() {
        assert_eq!(day(1900, 1, 1), 0);
        assert_eq!(day(1900, 3, 1), 59);
        assert_eq!(day(2000, 1, 1), 36_524);
        for n in 0..80_000 {
            let (y, m, d) = civil(n);
            assert_eq!(day(y, m, d), n);
        }
        assert_eq!(civil(day(2024, 2, 29)), (2024, 2, 29));
        assert!(day(2079, 1, 1) < OPEN);
    }

    #[test]
    fn ages_are_completed_years() {
        for (birth, on, age) in [
            ((2000, 2, 29), (2018, 2, 28), 17),
            ((2000, 2, 29), (2018, 3, 1), 18),
            ((1950, 5, 5), (2025, 5, 5), 75),
        ] {
            let day = |(y, m, d)| day(y, m, d);
            assert_eq!(age_on(day(birth), day(on)), age);
        }
    }

    #[test]
    fn weekends_and_finnish_holidays_are_not_working_days() {
        for (date, working) in [
            ((2024, 3, 28), true),
            ((2024, 3, 29), false),
            ((2024, 4, 1), false),
            ((2024, 5, 9), false),
            ((2024, 6, 21), false),
            ((2024, 6, 24), true),
            ((2024, 12, 6), false),
            ((2024, 12, 24), false),
            ((2025, 1, 6), false),
            ((2025, 4, 18), false),
            ((2025, 4, 22), true),
            ((2024, 9, 7), false),
        ] {
            let (y, m, d) = date;
            assert_eq!(is_working_day(day(y, m, d)), working, "{date:?}");
        }
    }

    #[test]
    fn the_seventh_working_day_after_a_tuesday_is_the_thursday_of_next_week() {
        assert_eq!(add_working_days(day(2024, 9, 3), 7), day(2024, 9, 12));
    }

    #[test]
    fn months_are_added_to_the_end_of_short_months() {
        assert_eq!(add_months(day(2023, 11, 30), 3), day(2024, 2, 29));
        assert_eq!(add_months(day(2024, 1, 15), -2), day(2023, 11, 15));
    }

    #[test]
    fn a_month_knows_its_length_and_number() {
        let february = Month::new(2024, 2);
        assert_eq!((february.days(), february.number()), (29, 202402));
        assert_eq!(Month::new(2024, 12).days(), 31);
    }
}
