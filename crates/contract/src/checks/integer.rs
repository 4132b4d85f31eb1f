//! Whole numbers of 32 or 64 bits within the limits of the contract.

use crate::block::DecimalMark;
use crate::checks::number::{self, OUT_OF_RANGE, OVERFLOW};
use crate::checks::{Fault, Reader};
use crate::contract::NumberRange;
use crate::rules;

#[derive(Debug)]
pub(crate) struct IntegerReader {
    mark: DecimalMark,
    wide: bool,
    range: NumberRange,
    pub(crate) values: Vec<i64>,
}

impl IntegerReader {
    pub(crate) fn new(mark: DecimalMark, wide: bool, range: NumberRange, rows: usize) -> Self {
        IntegerReader {
            mark,
            wide,
            range,
            values: Vec::with_capacity(rows),
        }
    }
}

impl Reader for IntegerReader {
    #[inline]
    fn read(&mut self, _row: usize, cell: &[u8]) -> Result<(), Fault> {
        let number =
            number::parse(cell, self.mark).map_err(|fault| fault.explain(self.mark, FORM))?;
        if number.decimals > 0 {
            return Err(FORM);
        }
        let value = i64::try_from(number.digits).map_err(|_| OVERFLOW)?;
        if !self.wide && i32::try_from(value).is_err() {
            return Err(OVERFLOW);
        }
        if number.digits < self.range.min || number.digits > self.range.max {
            return Err(OUT_OF_RANGE);
        }
        self.values.push(value);
        Ok(())
    }

    fn skip(&mut self) {
        self.values.push(0);
    }

    fn limits(&self, rule: &str) -> Option<String> {
        (rule == rules::NUMBER_RANGE).then(|| format!("{} to {}", self.range.min, self.range.max))
    }
}

const FORM: Fault = Fault {
    rule: rules::INTEGER_FORM,
    message: "not a whole number",
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::testing::read_one;

    fn check(cell: &str, wide: bool, expected: Result<i64, &str>) {
        let range = NumberRange {
            min: -10,
            max: i128::from(i64::MAX),
        };
        let mut reader = IntegerReader::new(DecimalMark::Comma, wide, range, 1);
        let found = read_one(&mut reader, cell.as_bytes())
            .map(|_| reader.values.first().copied().unwrap_or(-99));
        assert_eq!(found, expected.map_err(str::to_owned), "{cell}");
    }

    #[test]
    fn whole_numbers_are_read_and_others_refused() {
        check("1440", false, Ok(1440));
        check("-10", false, Ok(-10));
        check("-11", false, Err("number_range"));
        check("5,0", false, Err("integer_form"));
        check("5.0", false, Err("decimal_separator"));
        check("viisi", false, Err("integer_form"));
        check("2147483647", false, Ok(2_147_483_647));
        check("2147483648", false, Err("number_overflow"));
        check("2147483648", true, Ok(2_147_483_648));
        check("9223372036854775808", true, Err("number_overflow"));
    }
}
