//! Calendar dates as days since 1970-01-01, the unit of Arrow's `Date32`.
//!
//! Only arithmetic on a table lives here; how a date is written is the
//! business of `checks::date`.

use tietopohja_domain::Date;

/// First year a delivered date may have; the last is 2199. A date outside is a
/// mistyped year in every source known.
const FIRST_YEAR: i32 = 1800;
const YEAR_COUNT: usize = 400;

const fn is_leap(year: i32) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// Days from 1970-01-01 to the first of January of each year.
static YEAR_START: [i32; YEAR_COUNT] = {
    let mut table = [0; YEAR_COUNT];
    // 1800-01-01 is 62 091 days before 1970-01-01.
    let mut day = -62_091;
    let mut i = 0;
    while i < YEAR_COUNT {
        table[i] = day;
        day += if is_leap(FIRST_YEAR + i as i32) {
            366
        } else {
            365
        };
        i += 1;
    }
    table
};

const MONTH_START: [i32; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
const MONTH_DAYS: [u32; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// Days since 1970-01-01, or `None` when the date does not exist or its year
/// is outside 1800-2199.
#[inline]
pub(crate) fn from_civil(year: i32, month: u32, day: u32) -> Option<i32> {
    let start = *YEAR_START.get(usize::try_from(year.checked_sub(FIRST_YEAR)?).ok()?)?;
    let index = usize::try_from(month).ok()?.wrapping_sub(1);
    let leap = is_leap(year);
    let last = *MONTH_DAYS.get(index)? + u32::from(leap && month == 2);
    if day == 0 || day > last {
        return None;
    }
    let before = *MONTH_START.get(index)? + i32::from(leap && month > 2);
    Some(start + before + day as i32 - 1)
}

/// Days since 1970-01-01; dates outside 1800-2199 stay at the far ends.
pub(crate) fn from_date(date: Date) -> i32 {
    let year = i32::from(date.year());
    let month = u32::try_from(date.month()).unwrap_or(1);
    let day = u32::try_from(date.day()).unwrap_or(1);
    match from_civil(year, month, day) {
        Some(days) => days,
        None if year < FIRST_YEAR => i32::MIN,
        None => i32::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_days_are_counted_from_1970() {
        for ((year, month, day), expected) in [
            ((1970, 1, 1), 0),
            ((1969, 12, 31), -1),
            ((2000, 2, 29), 11_016),
            ((2024, 12, 31), 20_088),
            ((1800, 1, 1), -62_091),
        ] {
            assert_eq!(
                from_civil(year, month, day),
                Some(expected),
                "{year}-{month}-{day}"
            );
        }
    }

    #[test]
    fn days_that_do_not_exist_are_refused() {
        for (year, month, day) in [
            (2023, 2, 29),
            (1900, 2, 29),
            (2024, 4, 31),
            (2024, 0, 1),
            (2024, 13, 1),
            (2024, 1, 0),
            (1799, 1, 1),
            (2200, 1, 1),
            (i32::MIN, 1, 1),
        ] {
            assert_eq!(from_civil(year, month, day), None, "{year}-{month}-{day}");
        }
    }

    #[test]
    fn every_day_of_the_table_follows_the_one_before() {
        let mut expected = -62_091;
        for year in 1800..2200 {
            for month in 1..=12 {
                for day in 1..=31 {
                    if let Some(days) = from_civil(year, month, day) {
                        assert_eq!(days, expected);
                        expected += 1;
                    }
                }
            }
        }
        assert_eq!(expected - from_civil(1800, 1, 1).unwrap_or(0), 146_097);
    }
}
