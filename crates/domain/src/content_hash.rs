//! The SHA-256 of a delivery's bytes: what makes "the same file again" recognisable.

use std::fmt;

/// A SHA-256 digest; shown as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContentHash([u8; 32]);

impl ContentHash {
    /// Wraps a finished digest.
    pub fn new(digest: [u8; 32]) -> Self {
        Self(digest)
    }

    /// The digest's bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads 64 hexadecimal digits; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if bytes.len() != 64 {
            return None;
        }
        let mut digest = [0u8; 32];
        for (place, pair) in digest.iter_mut().zip(bytes.chunks_exact(2)) {
            let [high, low] = pair else { return None };
            *place = (hex_value(*high)? << 4) | hex_value(*low)?;
        }
        Some(Self(digest))
    }

    /// The first 12 hexadecimal digits, for file names and short displays.
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(12);
        text
    }
}

fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_hash_reads_back() {
        let hash = ContentHash::new(std::array::from_fn(|i| i as u8 * 7));
        assert_eq!(ContentHash::parse(&hash.to_string()), Some(hash));
        assert_eq!(hash.short().len(), 12);
    }

    #[test]
    fn anything_but_64_hexadecimal_digits_is_refused() {
        for text in ["", "12", &"g".repeat(64), &"0".repeat(63)] {
            assert_eq!(ContentHash::parse(text), None);
        }
    }
}
