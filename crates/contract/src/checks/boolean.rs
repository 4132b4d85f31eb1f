//! Yes or no: K and E, 1 and 0, or the words of typed files.

use crate::checks::{Fault, Reader};
use crate::rules;

#[derive(Debug)]
pub(crate) struct BooleanReader {
    pub(crate) values: Vec<bool>,
}

impl BooleanReader {
    pub(crate) fn new(rows: usize) -> Self {
        BooleanReader {
            values: Vec::with_capacity(rows),
        }
    }
}

impl Reader for BooleanReader {
    #[inline]
    fn read(&mut self, _row: usize, cell: &[u8]) -> Result<(), Fault> {
        let value = match cell {
            [b'K' | b'k' | b'1'] => true,
            [b'E' | b'e' | b'0'] => false,
            _ if cell.eq_ignore_ascii_case(b"true") => true,
            _ if cell.eq_ignore_ascii_case(b"false") => false,
            _ => {
                return Err(Fault {
                    rule: rules::BOOLEAN_FORM,
                    message: "not K or E, 1 or 0",
                });
            }
        };
        self.values.push(value);
        Ok(())
    }

    fn skip(&mut self) {
        self.values.push(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::testing::read_one;

    #[test]
    fn yes_and_no_are_read_and_others_refused() {
        for (cell, expected) in [
            ("K", Ok(true)),
            ("e", Ok(false)),
            ("1", Ok(true)),
            ("0", Ok(false)),
            ("TRUE", Ok(true)),
            ("2", Err("boolean_form")),
            ("X", Err("boolean_form")),
            ("kyllä", Err("boolean_form")),
        ] {
            let mut reader = BooleanReader::new(1);
            let found = read_one(&mut reader, cell.as_bytes())
                .map(|_| reader.values.first().copied() == Some(true));
            assert_eq!(found, expected.map_err(str::to_owned), "{cell}");
        }
    }
}
