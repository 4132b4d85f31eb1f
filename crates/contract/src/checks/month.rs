//! Months written yyyymm (`202403`) or yyyy-mm; kept as their first day.

use crate::checks::date::{Days, four, two};
use crate::checks::{Fault, Reader};
use crate::{days, rules};

#[derive(Debug)]
pub(crate) struct MonthReader {
    range: Days,
    pub(crate) days: Vec<i32>,
}

impl MonthReader {
    pub(crate) fn new(range: Days, rows: usize) -> Self {
        MonthReader {
            range,
            days: Vec::with_capacity(rows),
        }
    }
}

impl Reader for MonthReader {
    #[inline]
    fn read(&mut self, _row: usize, cell: &[u8]) -> Result<(), Fault> {
        let (year, month) = match *cell {
            [y1, y2, y3, y4, m1, m2] | [y1, y2, y3, y4, b'-', m1, m2] => {
                (four(y1, y2, y3, y4), two(m1, m2))
            }
            _ => return Err(FORM),
        };
        let (Some(year), Some(month)) = (year, month) else {
            return Err(FORM);
        };
        let day = days::from_civil(year as i32, month, 1).ok_or(FORM)?;
        self.range.check(day)?;
        self.days.push(day);
        Ok(())
    }

    fn skip(&mut self) {
        self.days.push(0);
    }
}

const FORM: Fault = Fault {
    rule: rules::MONTH_FORM,
    message: "not a month of the agreed form yyyymm, such as 202403",
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::testing::read_one;

    fn check(cell: &str, expected: Result<(i32, u32), &str>) {
        let range = Days {
            first: 10_957,
            last: 19_904,
            last_is_today: true,
        };
        let mut reader = MonthReader::new(range, 1);
        let found = read_one(&mut reader, cell.as_bytes()).map(|_| reader.days.first().copied());
        assert_eq!(
            found,
            expected
                .map(|(y, m)| days::from_civil(y, m, 1))
                .map_err(str::to_owned),
            "{cell}"
        );
    }

    #[test]
    fn months_are_read_and_others_refused() {
        check("202403", Ok((2024, 3)));
        check("2024-03", Ok((2024, 3)));
        check("202407", Err("date_future"));
        check("199912", Err("date_range"));
        for cell in [
            "202413", "202400", "2024", "03/2024", "20240301", "2024-3x", "99999",
        ] {
            check(cell, Err("month_form"));
        }
    }
}
