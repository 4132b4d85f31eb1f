//! Numbers as sources write them: digits, a sign before or after, thousands
//! apart by spaces, and the agreed decimal sign. The other decimal sign is a
//! fault, because `1.234` would mean two things.

use crate::block::DecimalMark;
use crate::checks::Fault;
use crate::rules;

/// A number as its digits and the count of decimals among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Number {
    pub(crate) digits: i128,
    pub(crate) decimals: u8,
}

/// Why a text is not a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NumberFault {
    Form,
    Separator,
    Overflow,
}

impl DecimalMark {
    fn byte(self) -> u8 {
        match self {
            DecimalMark::Comma => b',',
            DecimalMark::Point => b'.',
        }
    }

    fn other(self) -> u8 {
        match self {
            DecimalMark::Comma => b'.',
            DecimalMark::Point => b',',
        }
    }
}

#[inline]
pub(crate) fn parse(cell: &[u8], mark: DecimalMark) -> Result<Number, NumberFault> {
    let (negative, body) = match cell {
        [b'-', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    // Up to 18 digits and no grouping: nearly every number of a source.
    if body.len() <= 19 {
        let mark = mark.byte();
        let mut value: i64 = 0;
        let mut mark_at = usize::MAX;
        let mut plain = true;
        for (at, &byte) in body.iter().enumerate() {
            let digit = byte.wrapping_sub(b'0');
            if digit < 10 {
                value = value.wrapping_mul(10).wrapping_add(i64::from(digit));
            } else if byte == mark && mark_at == usize::MAX {
                mark_at = at;
            } else {
                plain = false;
                break;
            }
        }
        let (whole, decimals) = if mark_at == usize::MAX {
            (body.len(), 0)
        } else {
            (mark_at, body.len() - mark_at - 1)
        };
        if plain && whole > 0 && whole + decimals <= 18 && (decimals > 0 || mark_at == usize::MAX) {
            let value = if negative { -value } else { value };
            return Ok(Number {
                digits: i128::from(value),
                decimals: decimals as u8,
            });
        }
    }
    parse_slowly(cell, mark)
}

#[cold]
fn parse_slowly(cell: &[u8], mark: DecimalMark) -> Result<Number, NumberFault> {
    let (sign_before, body) = match cell {
        [b'-', rest @ ..] => (Some(true), rest),
        [b'+', rest @ ..] => (Some(false), rest),
        // The minus sign of typesetting, in UTF-8.
        [0xE2, 0x88, 0x92, rest @ ..] => (Some(true), rest),
        rest => (None, rest),
    };
    let (sign_after, body) = match body {
        [rest @ .., b'-'] => (Some(true), rest),
        [rest @ .., 0xE2, 0x88, 0x92] => (Some(true), rest),
        rest => (None, rest),
    };
    if sign_before.is_some() && sign_after.is_some() {
        return Err(NumberFault::Form);
    }
    let body = super::trim(body);
    let negative = sign_before.or(sign_after).unwrap_or(false);
    let numeric =
        |byte: &u8| byte.is_ascii_digit() || matches!(byte, b',' | b'.' | b' ' | 0xC2 | 0xA0);
    if body.contains(&mark.other())
        && body.iter().any(u8::is_ascii_digit)
        && body.iter().all(numeric)
    {
        return Err(NumberFault::Separator);
    }
    let (whole, decimals) = match body.iter().position(|byte| *byte == mark.byte()) {
        Some(at) => {
            let (whole, rest) = body.split_at(at);
            (
                whole,
                rest.get(1..)
                    .filter(|decimals| !decimals.is_empty())
                    .ok_or(NumberFault::Form)?,
            )
        }
        None => (body, &[][..]),
    };
    let mut value: i128 = 0;
    let mut digit = |byte: u8| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return Err(NumberFault::Form);
        }
        value = value
            .checked_mul(10)
            .and_then(|v| v.checked_add(i128::from(digit)))
            .ok_or(NumberFault::Overflow)?;
        Ok(())
    };
    for (index, group) in groups(whole).enumerate() {
        // `12 34` is a slip, not a number: only the first group may be short.
        let whole_group = if index == 0 {
            !group.is_empty()
        } else {
            group.len() == 3
        };
        if !whole_group {
            return Err(NumberFault::Form);
        }
        for byte in group {
            digit(*byte)?;
        }
    }
    for byte in decimals {
        digit(*byte)?;
    }
    let decimals = u8::try_from(decimals.len()).map_err(|_| NumberFault::Overflow)?;
    Ok(Number {
        digits: if negative { -value } else { value },
        decimals,
    })
}

/// Digits between spaces: ASCII, no-break and narrow no-break.
fn groups(mut text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut done = false;
    std::iter::from_fn(move || {
        if done {
            return None;
        }
        let mut at = 0;
        loop {
            let (head, tail) = text.split_at_checked(at)?;
            let rest = match tail {
                [] => {
                    done = true;
                    return Some(head);
                }
                [b' ', rest @ ..] | [0xC2, 0xA0, rest @ ..] | [0xE2, 0x80, 0xAF, rest @ ..] => rest,
                _ => {
                    at += 1;
                    continue;
                }
            };
            text = rest;
            return Some(head);
        }
    })
}

impl NumberFault {
    pub(crate) fn explain(self, mark: DecimalMark, form: Fault) -> Fault {
        match (self, mark) {
            (NumberFault::Form, _) => form,
            (NumberFault::Separator, DecimalMark::Comma) => Fault {
                rule: rules::DECIMAL_SEPARATOR,
                message: "a decimal point where a decimal comma is agreed",
            },
            (NumberFault::Separator, DecimalMark::Point) => Fault {
                rule: rules::DECIMAL_SEPARATOR,
                message: "a decimal comma where a decimal point is agreed",
            },
            (NumberFault::Overflow, _) => OVERFLOW,
        }
    }
}

pub(crate) const OVERFLOW: Fault = Fault {
    rule: rules::NUMBER_OVERFLOW,
    message: "the number is larger than the type holds",
};
pub(crate) const OUT_OF_RANGE: Fault = Fault {
    rule: rules::NUMBER_RANGE,
    message: "the number is outside the limits of the contract",
};

#[cfg(test)]
mod tests {
    use super::*;

    fn check(cell: &str, mark: DecimalMark, expected: Result<(i128, u8), NumberFault>) {
        let found = parse(cell.as_bytes(), mark);
        assert_eq!(
            found,
            expected.map(|(digits, decimals)| Number { digits, decimals }),
            "{cell}"
        );
    }

    #[test]
    fn numbers_are_read_as_sources_write_them() {
        for (cell, digits, decimals) in [
            ("0", 0, 0),
            ("12", 12, 0),
            ("-12,50", -1250, 2),
            ("12,50-", -1250, 2),
            ("+7,1", 71, 1),
            ("1 234,50", 123_450, 2),
            ("1\u{a0}234\u{a0}567", 1_234_567, 0),
            ("12\u{202f}345,6", 123_456, 1),
            ("\u{2212}5", -5, 0),
            ("- 5", -5, 0),
            ("123456789012345678", 123_456_789_012_345_678, 0),
            ("1234567890123456789", 1_234_567_890_123_456_789, 0),
            ("00012,30", 1230, 2),
        ] {
            check(cell, DecimalMark::Comma, Ok((digits, decimals)));
        }
        check("1234.5", DecimalMark::Point, Ok((12_345, 1)));
    }

    #[test]
    fn other_texts_are_not_numbers() {
        for cell in [
            "-", "+", ",5", "5,", "1,2,3", "12 34", " ", "1  234", "1e5", "0x10", "12a", "--1",
            "-1-", "ä", "½", "1 234 ", "NaN", ".", "..", "5,1 2",
        ] {
            check(
                cell.trim_matches(' '),
                DecimalMark::Comma,
                if cell == "1 234 " {
                    Ok((1234, 0))
                } else {
                    Err(NumberFault::Form)
                },
            );
        }
    }

    #[test]
    fn the_other_decimal_sign_is_a_fault_of_its_own() {
        for cell in ["1.5", "1.234", "1.234,50", "1 234.50", "-1.5", "1.5-", "1."] {
            check(cell, DecimalMark::Comma, Err(NumberFault::Separator));
        }
        check("1,5", DecimalMark::Point, Err(NumberFault::Separator));
        check("1.5x", DecimalMark::Comma, Err(NumberFault::Form));
    }

    #[test]
    fn a_number_beyond_128_bits_overflows() {
        check(
            &"9".repeat(38),
            DecimalMark::Comma,
            Ok((99_999_999_999_999_999_999_999_999_999_999_999_999, 0)),
        );
        check(
            &"9".repeat(40),
            DecimalMark::Comma,
            Err(NumberFault::Overflow),
        );
        check(
            &format!("0,{}", "0".repeat(300)),
            DecimalMark::Comma,
            Err(NumberFault::Overflow),
        );
    }
}
