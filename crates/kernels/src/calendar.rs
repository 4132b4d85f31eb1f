//! Days since 1970-01-01 as dates of the Gregorian calendar. What may not live here: rules on what a
//! date means, such as ages.

/// Year, month and day of the month.
///
/// Years are counted from 1 March, so that the leap day is the last of its year: the month's number
/// and the day in it follow from the day of such a year by one division each. January and February
/// then belong to the next calendar year.
pub(crate) fn date_of(day: i32) -> (i64, i64, i64) {
    // 0000-03-01 is 719 468 days before 1970-01-01; an era of 400 years has 146 097 days.
    let shifted = i64::from(day) + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5 + 1;
    let is_early = month >= 10;
    let year = 400 * era + year + i64::from(is_early);
    let month = if is_early { month - 9 } else { month + 3 };
    (year, month, of_month)
}

/// The first day of a day's month.
pub(crate) fn first_of_month(day: i32) -> i32 {
    let (_, _, of_month) = date_of(day);
    i32::try_from(i64::from(day) - of_month + 1).unwrap_or(day)
}

/// The first day of a day's year.
pub(crate) fn first_of_year(day: i32) -> i32 {
    let (year, month, of_month) = date_of(day);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let before = match month {
        1 => 0,
        2 => 31,
        // Counted from March, the months before this one have these days together.
        month => 59 + i64::from(leap) + (153 * (month - 3) + 2) / 5,
    };
    i32::try_from(i64::from(day) - before - of_month + 1).unwrap_or(day)
}
