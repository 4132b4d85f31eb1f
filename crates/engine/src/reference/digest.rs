//! What makes "the same content again" recognisable: a BLAKE3 digest over named, delimited parts.

/// Raised when the meaning of loaded content changes, so that everything is loaded once more.
const FORMAT: &str = "tietopohja-reference/1";

/// A digest in the making. Every part is preceded by its length, so that no two lists of parts are
/// alike.
pub(crate) struct Digest(blake3::Hasher);

impl Digest {
    pub(crate) fn new() -> Self {
        let mut digest = Self(blake3::Hasher::new());
        digest.part(FORMAT.as_bytes());
        digest
    }

    pub(crate) fn part(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        self.part(text.as_bytes())
    }

    pub(crate) fn finish(&self) -> String {
        self.0.finalize().to_hex().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_together() {
        let of = |parts: &[&str]| {
            let mut digest = Digest::new();
            for part in parts {
                digest.text(part);
            }
            digest.finish()
        };
        assert_eq!(of(&["ab", "c"]), of(&["ab", "c"]));
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
        assert_ne!(of(&["a"]), of(&["a", ""]));
    }
}
