//! The 22 organisers of health and social services, and the code that stands for national files.
//!
//! Names and validity of areas are reference data, not code: here is only the closed set of
//! organiser numbers that deliveries are keyed by.

use std::fmt;

/// An organiser (wellbeing services county or the City of Helsinki), or the whole country for
/// files that one national source sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct County(u8);

/// The text is not the code of an organiser.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an organiser: use 01 to 21, 90 (Helsinki), or FI for a national file")]
pub struct UnknownCounty(pub String);

impl County {
    /// The whole country: the sender of national files. Number 0, code `FI`.
    pub const NATIONAL: County = County(0);

    /// The 22 organisers in code order.
    pub fn all() -> impl Iterator<Item = County> {
        (1..=21).chain([90]).map(County)
    }

    /// Reads `07`, `7`, `HVA07`, `90` or `FI`.
    pub fn parse(text: &str) -> Result<County, UnknownCounty> {
        let trimmed = text.trim();
        if trimmed.eq_ignore_ascii_case("FI") {
            return Ok(Self::NATIONAL);
        }
        let digits = trimmed
            .strip_prefix("HVA")
            .or_else(|| trimmed.strip_prefix("hva"))
            .unwrap_or(trimmed);
        let plain = digits.len() <= 2 && digits.bytes().all(|b| b.is_ascii_digit());
        match digits.parse::<u8>() {
            Ok(number) if plain => Self::from_number(i32::from(number)),
            _ => None,
        }
        .filter(|county| *county != Self::NATIONAL)
        .ok_or_else(|| UnknownCounty(trimmed.to_owned()))
    }

    /// The organiser of a partition number (0 is the whole country).
    pub fn from_number(number: i32) -> Option<County> {
        match number {
            0..=21 | 90 => u8::try_from(number).ok().map(County),
            _ => None,
        }
    }

    /// The partition number: 1 to 21, 90, or 0 for the whole country.
    pub fn number(self) -> i32 {
        i32::from(self.0)
    }

    /// The two-character code: `01` to `21`, `90`, or `FI`.
    pub fn code(self) -> String {
        if self == Self::NATIONAL {
            "FI".to_owned()
        } else {
            format!("{:02}", self.0)
        }
    }
}

impl fmt::Display for County {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.code())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn there_are_22_organisers() {
        assert_eq!(County::all().count(), 22);
    }

    #[test]
    fn codes_are_read_in_the_forms_sources_use() {
        for (text, code) in [
            ("07", "07"),
            ("7", "07"),
            ("HVA07", "07"),
            ("90", "90"),
            ("FI", "FI"),
            (" 1 ", "01"),
        ] {
            assert_eq!(County::parse(text).unwrap().code(), code, "{text}");
        }
    }

    #[test]
    fn other_codes_are_refused() {
        for text in ["", "0", "00", "22", "91", "007", "x", "HVA", "-1", "+7"] {
            assert!(County::parse(text).is_err(), "{text}");
        }
    }
}
