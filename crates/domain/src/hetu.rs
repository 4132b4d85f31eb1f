//! The Finnish personal identity code (henkilötunnus, HETU): checked, never shown.
//!
//! A `Hetu` exists only inside ingest and synth. Its `Debug` hides the code, its errors never
//! repeat it, and nothing but [`Hetu::canonical`] gives it out, for the keyed pseudonym.

use std::fmt;

use jiff::civil::Date;

/// The control character is this alphabet at (DDMMYYZZZ modulo 31).
const CONTROL: &[u8; 31] = b"0123456789ABCDEFHJKLMNPRSTUVWXY";

/// Sex as the identity code tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Sex {
    /// Even individual number.
    Female,
    /// Odd individual number.
    Male,
}

impl Sex {
    /// `female` or `male`.
    pub fn as_str(self) -> &'static str {
        match self {
            Sex::Female => "female",
            Sex::Male => "male",
        }
    }
}

/// Why a text is not an identity code. Messages never hold the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HetuError {
    /// Not six digits, a sign, three digits and a control character.
    #[error("does not have the form of an identity code")]
    Form,
    /// The century sign is not one of the thirteen in use.
    #[error("has an unknown century sign")]
    Sign,
    /// The first six digits are not a date.
    #[error("holds a birth date that does not exist")]
    Date,
    /// The individual number is 000 or 001.
    #[error("has an individual number that is not in use")]
    Individual,
    /// The control character does not match.
    #[error("has a wrong control character")]
    Control,
}

/// A personal identity code that passed every check.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hetu {
    canonical: [u8; 11],
    birth_date: Date,
    individual: u16,
}

impl Hetu {
    /// Reads a code: surrounding spaces are dropped, letters made upper case, an en dash taken as
    /// the sign `-`, and a single lost leading zero put back.
    pub fn parse(text: &[u8]) -> Result<Hetu, HetuError> {
        let text = text.trim_ascii();
        let mut code = [0u8; 11];
        match text.len() {
            11 => code.copy_from_slice(text),
            // A spreadsheet drops the zero of 010190…; the sign then stands one place early.
            10 => {
                code[0] = b'0';
                code[1..].copy_from_slice(text);
            }
            // The en dash is three bytes in UTF-8.
            13 if text[6..9] == *"–".as_bytes() => {
                code[..6].copy_from_slice(&text[..6]);
                code[6] = b'-';
                code[7..].copy_from_slice(&text[9..]);
            }
            12 if text[5..8] == *"–".as_bytes() => {
                code[0] = b'0';
                code[1..6].copy_from_slice(&text[..5]);
                code[6] = b'-';
                code[7..].copy_from_slice(&text[8..]);
            }
            _ => return Err(HetuError::Form),
        }
        code.make_ascii_uppercase();
        Self::check(code)
    }

    /// Makes a code from its parts, with its control character. The sign must belong to the
    /// date's century; `None` takes the oldest sign of that century (`+`, `-` or `A`).
    pub fn compose(
        birth_date: Date,
        individual: u16,
        sign: Option<char>,
    ) -> Result<Hetu, HetuError> {
        let century = birth_date.year().div_euclid(100);
        let sign = match (sign, century) {
            (Some(sign), _) => u8::try_from(sign).map_err(|_| HetuError::Sign)?,
            (None, 18) => b'+',
            (None, 19) => b'-',
            (None, 20) => b'A',
            (None, _) => return Err(HetuError::Date),
        };
        if individual > 999 {
            return Err(HetuError::Individual);
        }
        let (day, month, year) = (
            birth_date.day() as u8,
            birth_date.month() as u8,
            birth_date.year().rem_euclid(100) as u8,
        );
        let mut code = [
            b'0' + day / 10,
            b'0' + day % 10,
            b'0' + month / 10,
            b'0' + month % 10,
            b'0' + year / 10,
            b'0' + year % 10,
            sign,
            b'0' + (individual / 100) as u8,
            b'0' + (individual / 10 % 10) as u8,
            b'0' + (individual % 10) as u8,
            b'?',
        ];
        code[10] = CONTROL[remainder(&code)];
        let hetu = Self::check(code)?;
        if hetu.birth_date == birth_date {
            Ok(hetu)
        } else {
            Err(HetuError::Sign)
        }
    }

    fn check(code: [u8; 11]) -> Result<Hetu, HetuError> {
        let digit_places = [0, 1, 2, 3, 4, 5, 7, 8, 9];
        if !digit_places.iter().all(|&i| code[i].is_ascii_digit())
            || !code[10].is_ascii_alphanumeric()
        {
            return Err(HetuError::Form);
        }
        let century: i16 = match code[6] {
            b'+' => 1800,
            b'-' | b'U'..=b'Y' => 1900,
            b'A'..=b'F' => 2000,
            _ => return Err(HetuError::Sign),
        };
        let two = |i: usize| i16::from(code[i] - b'0') * 10 + i16::from(code[i + 1] - b'0');
        let birth_date =
            Date::new(century + two(4), two(2) as i8, two(0) as i8).map_err(|_| HetuError::Date)?;
        let individual = code[7..10]
            .iter()
            .fold(0u16, |n, d| n * 10 + u16::from(d - b'0'));
        if individual < 2 {
            return Err(HetuError::Individual);
        }
        if CONTROL[remainder(&code)] != code[10] {
            return Err(HetuError::Control);
        }
        Ok(Hetu {
            canonical: code,
            birth_date,
            individual,
        })
    }

    /// Date of birth.
    pub fn birth_date(&self) -> Date {
        self.birth_date
    }

    /// Sex by the individual number: odd male, even female.
    pub fn sex(&self) -> Sex {
        if self.individual % 2 == 1 {
            Sex::Male
        } else {
            Sex::Female
        }
    }

    /// The eleven upper-case characters that the pseudonym is made of.
    pub fn canonical(&self) -> &[u8; 11] {
        &self.canonical
    }

    /// True for individual numbers 900 to 999, which no person has.
    pub fn is_artificial(&self) -> bool {
        self.individual >= 900
    }
}

/// DDMMYYZZZ modulo 31 of a code whose nine digits were checked.
fn remainder(code: &[u8; 11]) -> usize {
    let number = code[..6]
        .iter()
        .chain(&code[7..10])
        .fold(0u32, |n, d| n * 10 + u32::from(d - b'0'));
    (number % 31) as usize
}

impl fmt::Debug for Hetu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hetu(***)")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn valid_codes_are_read_in_the_forms_sources_write() {
        for text in [
            "020516C903K",
            "010594Y9032",
            "010190-900P",
            "010101A900R",
            " 010190-900p ",
            "10190-900P",
            "010190–900P",
            "10190–900P",
        ] {
            assert!(Hetu::parse(text.as_bytes()).is_ok(), "{text}");
        }
    }

    #[test]
    fn each_fault_has_its_own_error() {
        for (text, error) in [
            ("020516C903L", HetuError::Control),
            ("310290-900P", HetuError::Date),
            ("010190Z900P", HetuError::Sign),
            ("010190-001A", HetuError::Individual),
            ("", HetuError::Form),
            ("010190-900", HetuError::Form),
            ("0101-90900P", HetuError::Form),
            ("ääääääääää", HetuError::Form),
        ] {
            assert_eq!(Hetu::parse(text.as_bytes()).unwrap_err(), error, "{text}");
        }
    }

    #[test]
    fn birth_date_and_sex_come_from_the_code() {
        let hetu = Hetu::parse(b"020516C903K").unwrap();
        assert_eq!(hetu.birth_date(), Date::constant(2016, 5, 2));
        assert_eq!(hetu.sex(), Sex::Male);
        assert!(hetu.is_artificial());
    }

    #[test]
    fn the_code_is_never_shown() {
        assert_eq!(
            format!("{:?}", Hetu::parse(b"020516C903K").unwrap()),
            "Hetu(***)"
        );
    }

    #[test]
    fn composed_codes_read_back_with_every_sign_of_their_century() {
        for (year, signs) in [(1890, "+"), (1955, "-UVWXY"), (2011, "ABCDEF")] {
            for sign in signs.chars() {
                for individual in [900, 955, 999] {
                    let date = Date::constant(year, 2, 28);
                    let hetu = Hetu::compose(date, individual, Some(sign)).unwrap();
                    assert_eq!(Hetu::parse(hetu.canonical()).unwrap(), hetu);
                    assert_eq!(hetu.birth_date(), date);
                }
            }
        }
        assert!(Hetu::compose(Date::constant(1955, 1, 1), 900, Some('A')).is_err());
    }
}
