//! Dates: `31.3.2024`, `31.03.2024` or `2024-03-31`, as agreed. A date must
//! exist and lie in the agreed range.

use crate::block::Dialect;
use crate::checks::{Fault, Reader};
use crate::{days, rules};

/// Accepted days, with the rule that a later day breaks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Days {
    pub(crate) first: i32,
    pub(crate) last: i32,
    /// The last day is today, so a later one is in the future.
    pub(crate) last_is_today: bool,
}

#[derive(Debug)]
pub(crate) struct DateReader {
    dialect: Dialect,
    range: Days,
    pub(crate) days: Vec<i32>,
}

impl DateReader {
    pub(crate) fn new(dialect: Dialect, range: Days, rows: usize) -> Self {
        DateReader {
            dialect,
            range,
            days: Vec::with_capacity(rows),
        }
    }
}

impl Reader for DateReader {
    #[inline]
    fn read(&mut self, _row: usize, cell: &[u8]) -> Result<(), Fault> {
        let day = parse(cell, self.dialect)?;
        self.range.check(day)?;
        self.days.push(day);
        Ok(())
    }

    fn skip(&mut self) {
        self.days.push(0);
    }
}

impl Days {
    #[inline]
    pub(crate) fn check(self, day: i32) -> Result<(), Fault> {
        if day > self.last {
            return Err(if self.last_is_today {
                Fault {
                    rule: rules::DATE_FUTURE,
                    message: "the date is in the future",
                }
            } else {
                OUT_OF_RANGE
            });
        }
        if day < self.first {
            Err(OUT_OF_RANGE)
        } else {
            Ok(())
        }
    }
}

const OUT_OF_RANGE: Fault = Fault {
    rule: rules::DATE_RANGE,
    message: "the date is outside the range of the contract",
};
const IMPOSSIBLE: Fault = Fault {
    rule: rules::DATE_IMPOSSIBLE,
    message: "the date does not exist in the calendar",
};

fn form(dialect: Dialect) -> Fault {
    let message = match (dialect.finnish, dialect.iso) {
        (true, false) => "not a date of the agreed form d.m.yyyy",
        (false, true) => "not a date of the agreed form yyyy-mm-dd",
        _ => "not a date of an agreed form, d.m.yyyy or yyyy-mm-dd",
    };
    Fault {
        rule: rules::DATE_FORM,
        message,
    }
}

/// Days since 1970-01-01.
#[inline]
pub(crate) fn parse(cell: &[u8], dialect: Dialect) -> Result<i32, Fault> {
    let (year, month, day) = match *cell {
        [d1, d2, b'.', m1, m2, b'.', y1, y2, y3, y4] if dialect.finnish => {
            (four(y1, y2, y3, y4), two(m1, m2), two(d1, d2))
        }
        [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] if dialect.iso => {
            (four(y1, y2, y3, y4), two(m1, m2), two(d1, d2))
        }
        [d1, d2, b'.', m1, b'.', y1, y2, y3, y4] if dialect.finnish => {
            (four(y1, y2, y3, y4), two(b'0', m1), two(d1, d2))
        }
        [d1, b'.', m1, m2, b'.', y1, y2, y3, y4] if dialect.finnish => {
            (four(y1, y2, y3, y4), two(m1, m2), two(b'0', d1))
        }
        [d1, b'.', m1, b'.', y1, y2, y3, y4] if dialect.finnish => {
            (four(y1, y2, y3, y4), two(b'0', m1), two(b'0', d1))
        }
        _ => return Err(form(dialect)),
    };
    let (Some(year), Some(month), Some(day)) = (year, month, day) else {
        return Err(form(dialect));
    };
    match days::from_civil(year as i32, month, day) {
        Some(days) => Ok(days),
        None => Err(no_such_day(year, month, day)),
    }
}

/// A day of a far year is outside the range; any other day does not exist.
#[cold]
fn no_such_day(year: u32, month: u32, day: u32) -> Fault {
    // Leap years repeat every 400 years, so the year's twin tells whether the day exists.
    let twin = 1800 + (year + 400 - 1800 % 400) % 400;
    match days::from_civil(twin as i32, month, day) {
        Some(_) => OUT_OF_RANGE,
        None => IMPOSSIBLE,
    }
}

#[inline]
fn digit(byte: u8) -> Option<u32> {
    let value = byte.wrapping_sub(b'0');
    (value < 10).then_some(u32::from(value))
}

#[inline]
pub(crate) fn two(a: u8, b: u8) -> Option<u32> {
    Some(digit(a)? * 10 + digit(b)?)
}

#[inline]
pub(crate) fn four(a: u8, b: u8, c: u8, d: u8) -> Option<u32> {
    Some(two(a, b)? * 100 + two(c, d)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::DecimalMark;
    use crate::checks::testing::read_one;

    const FINNISH: Dialect = Dialect {
        decimal: DecimalMark::Comma,
        iso: false,
        finnish: true,
    };
    const BOTH: Dialect = Dialect {
        decimal: DecimalMark::Comma,
        iso: true,
        finnish: true,
    };

    fn check(cell: &str, dialect: Dialect, expected: Result<(i32, u32, u32), &str>) {
        // 2000-01-01 to 2024-06-30.
        let range = Days {
            first: 10_957,
            last: 19_904,
            last_is_today: true,
        };
        let mut reader = DateReader::new(dialect, range, 1);
        let found = read_one(&mut reader, cell.as_bytes()).map(|_| reader.days.first().copied());
        let expected = expected
            .map(|(y, m, d)| days::from_civil(y, m, d))
            .map_err(str::to_owned);
        assert_eq!(found, expected, "{cell}");
    }

    #[test]
    fn dates_are_read_in_the_agreed_forms() {
        check("31.03.2024", FINNISH, Ok((2024, 3, 31)));
        check("1.3.2024", FINNISH, Ok((2024, 3, 1)));
        check("1.12.2023", FINNISH, Ok((2023, 12, 1)));
        check("11.2.2023", FINNISH, Ok((2023, 2, 11)));
        check(" 29.2.2024 ", FINNISH, Ok((2024, 2, 29)));
        check("2024-03-31", BOTH, Ok((2024, 3, 31)));
        check("2024-03-31", Dialect::TYPED, Ok((2024, 3, 31)));
    }

    #[test]
    fn other_forms_are_refused_and_never_guessed() {
        for cell in [
            "2024-03-31",
            "31/03/2024",
            "31.3.24",
            "310324",
            "3.2024",
            "31.03.2024x",
            "x1.03.2024",
            "31.o3.2024",
            "+1.03.2024",
        ] {
            check(cell, FINNISH, Err("date_form"));
        }
        check("31.03.2024", Dialect::TYPED, Err("date_form"));
    }

    #[test]
    fn dates_that_do_not_exist_are_refused() {
        for cell in [
            "31.4.2024",
            "29.2.2023",
            "0.1.2024",
            "1.0.2024",
            "32.1.2024",
            "1.13.2024",
            "31.11.9999",
        ] {
            check(cell, FINNISH, Err("date_impossible"));
        }
    }

    #[test]
    fn future_and_distant_dates_are_refused() {
        check("30.6.2024", FINNISH, Ok((2024, 6, 30)));
        check("1.7.2024", FINNISH, Err("date_future"));
        check("31.12.1999", FINNISH, Err("date_range"));
        check("1.1.0024", FINNISH, Err("date_range"));
        check("31.12.9999", FINNISH, Err("date_range"));
    }

    #[test]
    fn a_control_character_is_named_before_the_form() {
        check("1.1.2024\0", FINNISH, Err("control_character"));
    }
}
