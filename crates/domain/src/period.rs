//! The period a delivery is about: a month, or a whole calendar year.

use std::fmt;

use jiff::civil::Date;

/// A delivery's period. As a partition number a month is `yyyymm`, a year `yyyy00`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DeliveryPeriod {
    /// One calendar month.
    Month {
        /// Calendar year.
        year: i16,
        /// 1 to 12.
        month: i8,
    },
    /// One calendar year.
    Year(i16),
}

/// The text or number is not a period.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a period: write a month as 2024-03 or a year as 2024")]
pub struct PeriodError(pub String);

impl DeliveryPeriod {
    /// Reads `2024-03`, `202403`, `2024` or `202400`. Years 1990 to 2099.
    pub fn parse(text: &str) -> Result<DeliveryPeriod, PeriodError> {
        let wrong = || PeriodError(text.to_owned());
        let trimmed = text.trim();
        let (year, month) = match (trimmed.len(), trimmed.split_once('-')) {
            (7, Some((year, month))) => (year, month),
            (6, None) if trimmed.is_ascii() => trimmed.split_at(4),
            (4, None) => (trimmed, "00"),
            _ => return Err(wrong()),
        };
        let digits = |text: &str, length: usize| {
            (text.len() == length && text.bytes().all(|b| b.is_ascii_digit()))
                .then(|| text.parse::<i32>().ok())
                .flatten()
        };
        let number =
            digits(year, 4).ok_or_else(wrong)? * 100 + digits(month, 2).ok_or_else(wrong)?;
        Self::from_number(number).ok_or_else(wrong)
    }

    /// The period of a partition number, or `None` when it is not one.
    pub fn from_number(number: i32) -> Option<DeliveryPeriod> {
        let year = i16::try_from(number / 100)
            .ok()
            .filter(|year| (1990..=2099).contains(year))?;
        match number % 100 {
            0 => Some(DeliveryPeriod::Year(year)),
            month @ 1..=12 => Some(DeliveryPeriod::Month {
                year,
                month: month as i8,
            }),
            _ => None,
        }
    }

    /// The partition number: `yyyymm`, or `yyyy00` for a year.
    pub fn number(self) -> i32 {
        match self {
            DeliveryPeriod::Month { year, month } => i32::from(year) * 100 + i32::from(month),
            DeliveryPeriod::Year(year) => i32::from(year) * 100,
        }
    }

    /// The first day of the period.
    pub fn first_day(self) -> Date {
        match self {
            DeliveryPeriod::Month { year, month } => Date::constant(year, month, 1),
            DeliveryPeriod::Year(year) => Date::constant(year, 1, 1),
        }
    }

    /// The last day of the period, inclusive.
    pub fn last_day(self) -> Date {
        match self {
            DeliveryPeriod::Month { .. } => self.first_day().last_of_month(),
            DeliveryPeriod::Year(year) => Date::constant(year, 12, 31),
        }
    }
}

impl fmt::Display for DeliveryPeriod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeliveryPeriod::Month { year, month } => write!(f, "{year:04}-{month:02}"),
            DeliveryPeriod::Year(year) => write!(f, "{year:04}"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn periods_are_read_in_their_written_forms() {
        for (text, number, shown) in [
            ("2024-03", 202403, "2024-03"),
            ("202412", 202412, "2024-12"),
            ("2024", 202400, "2024"),
            ("202400", 202400, "2024"),
        ] {
            let period = DeliveryPeriod::parse(text).unwrap();
            assert_eq!(
                (period.number(), period.to_string().as_str()),
                (number, shown)
            );
            assert_eq!(DeliveryPeriod::from_number(number), Some(period));
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "", "2024-13", "2024-3", "24", "202413", "1850", "20x4", "2024-0a", "ääää", "+024",
            "2024-+1",
        ] {
            assert!(DeliveryPeriod::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_period_knows_its_days() {
        let february = DeliveryPeriod::parse("2024-02").unwrap();
        assert_eq!(february.last_day(), Date::constant(2024, 2, 29));
        assert_eq!(
            DeliveryPeriod::Year(2023).last_day(),
            Date::constant(2023, 12, 31)
        );
    }
}
