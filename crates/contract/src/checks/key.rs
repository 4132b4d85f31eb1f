//! The key of a row as one number, xxh3-128 of its values. Two rows with the
//! same key values give the same number in every file and on every machine,
//! however the source wrote the values.

use xxhash_rust::xxh3::xxh3_128;

/// Builds keys one after another without allocating.
#[derive(Debug, Default)]
pub(crate) struct KeyHasher {
    bytes: Vec<u8>,
}

impl KeyHasher {
    /// Adds a text; its length goes along, so that `a|bc` and `ab|c` differ.
    #[inline]
    pub(crate) fn text(&mut self, text: &[u8]) {
        self.bytes.extend_from_slice(text);
        self.bytes
            .extend_from_slice(&(text.len() as u32).to_le_bytes());
    }

    /// Adds a whole number or a date.
    #[inline]
    pub(crate) fn integer(&mut self, value: i64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// Adds a decimal in units of its last decimal.
    #[inline]
    pub(crate) fn decimal(&mut self, value: i128) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// The key of the values added since the last call.
    #[inline]
    pub(crate) fn finish(&mut self) -> u128 {
        let key = xxh3_128(&self.bytes);
        self.bytes.clear();
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(parts: &[&str]) -> u128 {
        let mut hasher = KeyHasher::default();
        for part in parts {
            hasher.text(part.as_bytes());
        }
        hasher.finish()
    }

    #[test]
    fn keys_differ_when_any_part_differs() {
        assert_eq!(key(&["a", "b"]), key(&["a", "b"]));
        assert_ne!(key(&["a", "bc"]), key(&["ab", "c"]));
        assert_ne!(key(&["a"]), key(&["a", ""]));
    }

    #[test]
    fn a_key_stays_the_same_for_good() {
        // Written once into ledgers and compared ever after.
        assert_eq!(
            key(&["S000001"]),
            210_470_781_092_611_011_498_269_892_440_507_760_659
        );
    }
}
