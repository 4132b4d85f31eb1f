//! Decimal numbers of a fixed precision and scale, kept exactly.

use crate::block::DecimalMark;
use crate::checks::number::{self, OUT_OF_RANGE, OVERFLOW};
use crate::checks::{Fault, Reader};
use crate::contract::NumberRange;
use crate::rules;

#[derive(Debug)]
pub(crate) struct DecimalReader {
    mark: DecimalMark,
    scale: u8,
    /// The least number of `precision + 1` digits.
    beyond: i128,
    range: NumberRange,
    pub(crate) values: Vec<i128>,
}

impl DecimalReader {
    pub(crate) fn new(
        mark: DecimalMark,
        precision: u8,
        scale: u8,
        range: NumberRange,
        rows: usize,
    ) -> Self {
        DecimalReader {
            mark,
            scale,
            beyond: power_of_ten(precision),
            range,
            values: Vec::with_capacity(rows),
        }
    }
}

impl Reader for DecimalReader {
    #[inline]
    fn read(&mut self, _row: usize, cell: &[u8]) -> Result<(), Fault> {
        let number =
            number::parse(cell, self.mark).map_err(|fault| fault.explain(self.mark, FORM))?;
        let value = if number.decimals == self.scale {
            number.digits
        } else if number.decimals < self.scale {
            number
                .digits
                .checked_mul(power_of_ten(self.scale - number.decimals))
                .ok_or(OVERFLOW)?
        } else {
            // Zeros beyond the scale lose nothing: `10,5000` is `10,50`.
            let divisor = power_of_ten(number.decimals - self.scale);
            if number.digits % divisor != 0 {
                return Err(SCALE);
            }
            number.digits / divisor
        };
        if value >= self.beyond || value <= -self.beyond {
            return Err(OVERFLOW);
        }
        if value < self.range.min || value > self.range.max {
            return Err(OUT_OF_RANGE);
        }
        self.values.push(value);
        Ok(())
    }

    fn skip(&mut self) {
        self.values.push(0);
    }

    fn limits(&self, rule: &str) -> Option<String> {
        match rule {
            rules::NUMBER_RANGE => Some(format!(
                "{} to {}",
                shown(self.range.min, self.scale),
                shown(self.range.max, self.scale)
            )),
            rules::DECIMAL_SCALE => Some(format!("at most {}", self.scale)),
            _ => None,
        }
    }
}

/// 10 to the power of `exponent`; the largest of `i128` from 39 on.
pub(crate) fn power_of_ten(exponent: u8) -> i128 {
    10_i128
        .checked_pow(u32::from(exponent))
        .unwrap_or(i128::MAX)
}

/// A value in units of its last decimal, as text with a point.
pub(crate) fn shown(value: i128, scale: u8) -> String {
    let unit = power_of_ten(scale);
    let sign = if value < 0 { "-" } else { "" };
    let (whole, rest) = (
        value.unsigned_abs() / unit.unsigned_abs(),
        value.unsigned_abs() % unit.unsigned_abs(),
    );
    match rest {
        0 => format!("{sign}{whole}"),
        rest => format!("{sign}{whole}.{rest:0width$}", width = usize::from(scale)),
    }
}

const FORM: Fault = Fault {
    rule: rules::DECIMAL_FORM,
    message: "not a number of the agreed form",
};
const SCALE: Fault = Fault {
    rule: rules::DECIMAL_SCALE,
    message: "the number has more decimals than agreed",
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::testing::read_one;

    fn check(cell: &str, expected: Result<i128, &str>) {
        // decimal(8,2), -1000 to 1000000.
        let range = NumberRange {
            min: -100_000,
            max: 100_000_000,
        };
        let mut reader = DecimalReader::new(DecimalMark::Comma, 8, 2, range, 1);
        let found = read_one(&mut reader, cell.as_bytes())
            .map(|_| reader.values.first().copied().unwrap_or(-99));
        assert_eq!(found, expected.map_err(str::to_owned), "{cell}");
    }

    #[test]
    fn decimals_are_read_in_units_of_the_last_decimal() {
        for (cell, value) in [
            ("12,5", 1250),
            ("12", 1200),
            ("12,50", 1250),
            ("12,5000", 1250),
            ("-0,01", -1),
            ("0,01-", -1),
            ("999 999,99", 99_999_999),
        ] {
            check(cell, Ok(value));
        }
    }

    #[test]
    fn what_the_type_cannot_hold_is_refused() {
        check("12,505", Err("decimal_scale"));
        check("1000000", Err("number_overflow"));
        check(
            "99999999999999999999999999999999999999",
            Err("number_overflow"),
        );
        check("-1000,01", Err("number_range"));
        check("12.50", Err("decimal_separator"));
        check("12,5 €", Err("decimal_form"));
        check("..", Err("decimal_form"));
    }

    #[test]
    fn limits_are_shown_with_their_decimals() {
        for (value, scale, text) in [
            (0, 2, "0"),
            (-5, 2, "-0.05"),
            (123_450, 3, "123.450"),
            (10_000, 2, "100"),
        ] {
            assert_eq!(shown(value, scale), text);
        }
    }
}
