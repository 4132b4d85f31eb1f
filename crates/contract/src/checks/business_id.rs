//! Business identity codes (Y-tunnus), kept as `0101263-6`.

use tietopohja_domain::{BusinessId, BusinessIdError};

use crate::checks::text::Texts;
use crate::checks::{Fault, Reader};
use crate::rules;

#[derive(Debug)]
pub(crate) struct BusinessIdReader {
    pub(crate) texts: Texts,
}

impl BusinessIdReader {
    pub(crate) fn new(rows: usize) -> Self {
        BusinessIdReader {
            texts: Texts::new(rows, 9),
        }
    }
}

impl Reader for BusinessIdReader {
    #[inline]
    fn read(&mut self, _row: usize, cell: &[u8]) -> Result<(), Fault> {
        let id = BusinessId::parse(cell).map_err(|error| match error {
            BusinessIdError::Form => Fault {
                rule: rules::BUSINESS_ID,
                message: "not a business identity code (1234567-8)",
            },
            BusinessIdError::Check => Fault {
                rule: rules::BUSINESS_ID,
                message: "the check digit of the business identity code does not match",
            },
        })?;
        // Seven digits, hyphen, digit is already the kept form.
        if cell.len() == 9 && cell.get(7) == Some(&b'-') {
            self.texts.push(cell)
        } else {
            self.texts.push(id.to_string().as_bytes())
        }
    }

    fn skip(&mut self) {
        self.texts.push_empty();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::testing::read_one;

    #[test]
    fn codes_are_kept_in_one_form_and_wrong_ones_refused() {
        for (cell, expected) in [
            ("0101263-6", Ok("0101263-6")),
            ("101263-6", Ok("0101263-6")),
            ("FI01012636", Ok("0101263-6")),
            ("0737546-1", Err("business_id")),
            ("0000006-1", Err("business_id")),
            ("01012636", Err("business_id")),
            ("0101263-6 Oy", Err("business_id")),
        ] {
            let mut reader = BusinessIdReader::new(1);
            let found = read_one(&mut reader, cell.as_bytes())
                .map(|_| String::from_utf8_lossy(reader.texts.get(0)).into_owned());
            assert_eq!(
                found,
                expected.map(str::to_owned).map_err(str::to_owned),
                "{cell}"
            );
        }
    }
}
