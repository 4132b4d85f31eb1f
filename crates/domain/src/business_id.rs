//! The Finnish business identity code (Y-tunnus).

use std::fmt;

const WEIGHTS: [u32; 7] = [7, 9, 10, 5, 8, 4, 2];

/// Why a text is not a business identity code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BusinessIdError {
    /// Not seven digits, a hyphen and a check digit (nor `FI` and eight digits).
    #[error("does not have the form of a business identity code (1234567-8)")]
    Form,
    /// The check digit does not match, or no check digit exists for these seven digits.
    #[error("has a wrong check digit")]
    Check,
}

/// A business identity code that passed its check digit; shown as `0101263-6`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BusinessId {
    base: u32,
    check: u8,
}

impl BusinessId {
    /// Reads `0101263-6`, the old six-digit form `101263-6`, or the VAT form `FI01012636`.
    pub fn parse(text: &[u8]) -> Result<BusinessId, BusinessIdError> {
        let text = text.trim_ascii();
        let (base, check) = match text {
            [b'F' | b'f', b'I' | b'i', base @ .., check] if base.len() == 7 => (base, check),
            [base @ .., b'-', check] if base.len() == 7 || base.len() == 6 => (base, check),
            _ => return Err(BusinessIdError::Form),
        };
        if !base.iter().chain([check]).all(u8::is_ascii_digit) {
            return Err(BusinessIdError::Form);
        }
        let base = base.iter().fold(0u32, |n, d| n * 10 + u32::from(d - b'0'));
        match Self::compose(base) {
            Some(id) if id.check == check - b'0' => Ok(id),
            _ => Err(BusinessIdError::Check),
        }
    }

    /// The code of seven digits, with its check digit; `None` when no check digit exists for them
    /// (weighted sum leaves 1) or the number has more than seven digits.
    pub fn compose(base: u32) -> Option<BusinessId> {
        if base > 9_999_999 {
            return None;
        }
        let mut rest = base;
        let mut sum = 0;
        for weight in WEIGHTS.iter().rev() {
            sum += weight * (rest % 10);
            rest /= 10;
        }
        match sum % 11 {
            0 => Some(BusinessId { base, check: 0 }),
            1 => None,
            rest => Some(BusinessId {
                base,
                check: (11 - rest) as u8,
            }),
        }
    }
}

impl fmt::Display for BusinessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:07}-{}", self.base, self.check)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn valid_codes_are_read_and_shown_in_one_form() {
        for (text, shown) in [
            ("0101263-6", "0101263-6"),
            ("0201256-6", "0201256-6"),
            ("0103166-9", "0103166-9"),
            ("0000000-0", "0000000-0"),
            ("0000001-9", "0000001-9"),
            ("101263-6", "0101263-6"),
            ("FI01012636", "0101263-6"),
        ] {
            assert_eq!(
                BusinessId::parse(text.as_bytes()).unwrap().to_string(),
                shown
            );
        }
    }

    #[test]
    fn wrong_codes_are_refused_with_the_right_error() {
        for (text, error) in [
            ("0737546-1", BusinessIdError::Check),
            ("0000006-0", BusinessIdError::Check),
            ("", BusinessIdError::Form),
            ("01012636", BusinessIdError::Form),
            ("ABCDEFG-1", BusinessIdError::Form),
            ("12345-6", BusinessIdError::Form),
        ] {
            assert_eq!(
                BusinessId::parse(text.as_bytes()).unwrap_err(),
                error,
                "{text}"
            );
        }
    }
}
