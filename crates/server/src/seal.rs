//! Bytes that the server hands out and recognises again: tickets, statement handles, bearers.
//!
//! A sealed token carries its whole state, so that it outlives connections and statements and any
//! process with the same key can redeem it. It is authenticated, not secret: its holder may read
//! what it says, but for what is veiled, and cannot change it. Each purpose has a key of its own, so that a token of one
//! kind is never taken for another. To add a kind: a variant of [`Purpose`] with a context string
//! that no other variant has.

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Redeemed by `DoGet` for the rows of one statement.
    Ticket,
    /// Names a prepared statement.
    Statement,
    /// Shows who is calling, and in which session.
    Bearer,
    /// Names a session and its settings, beside credentials.
    Session,
}

impl Purpose {
    fn context(self) -> &'static str {
        match self {
            Purpose::Ticket => "tietopohja flight ticket v1",
            Purpose::Statement => "tietopohja flight prepared statement v1",
            Purpose::Bearer => "tietopohja flight bearer v1",
            Purpose::Session => "tietopohja flight session v1",
        }
    }
}

/// The token was not made with this key for this purpose, or was changed on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the token was not issued by this server, or was changed")]
pub(crate) struct Forged;

/// Makes and opens tokens with keys derived from one master key.
#[derive(Clone)]
pub(crate) struct Sealer {
    master: [u8; 32],
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer(***)")
    }
}

const MAC_BYTES: usize = blake3::OUT_LEN;

impl Sealer {
    /// A sealer over the given key.
    pub(crate) fn new(master: [u8; 32]) -> Self {
        Self { master }
    }

    /// The payload followed by its authentication code.
    pub(crate) fn seal(&self, purpose: Purpose, payload: &[u8]) -> Vec<u8> {
        let mut token = Vec::with_capacity(payload.len() + MAC_BYTES);
        token.extend_from_slice(payload);
        token.extend_from_slice(self.code(purpose, payload).as_bytes());
        token
    }

    /// The payload of a token that this key made for this purpose.
    ///
    /// # Errors
    /// Anything else, without saying what differs.
    pub(crate) fn open<'a>(&self, purpose: Purpose, token: &'a [u8]) -> Result<&'a [u8], Forged> {
        let at = token.len().checked_sub(MAC_BYTES).ok_or(Forged)?;
        let (payload, code) = token.split_at_checked(at).ok_or(Forged)?;
        let code: [u8; MAC_BYTES] = code.try_into().map_err(|_| Forged)?;
        // `blake3::Hash` compares in constant time.
        if self.code(purpose, payload) == blake3::Hash::from_bytes(code) {
            Ok(payload)
        } else {
            Err(Forged)
        }
    }

    /// Bytes that the holder of a token shall not read, or the bytes behind them: the same call does
    /// both. The number must be used once. Alone this protects no bytes from change; the seal does.
    pub(crate) fn veil(&self, number: &[u8], bytes: &[u8]) -> Vec<u8> {
        let key = blake3::derive_key("tietopohja flight veil v1", &self.master);
        let mut stream = vec![0; bytes.len()];
        blake3::Hasher::new_keyed(&key)
            .update(number)
            .finalize_xof()
            .fill(&mut stream);
        for (veil, byte) in stream.iter_mut().zip(bytes) {
            *veil ^= byte;
        }
        stream
    }

    fn code(&self, purpose: Purpose, payload: &[u8]) -> blake3::Hash {
        let key = blake3::derive_key(purpose.context(), &self.master);
        blake3::keyed_hash(&key, payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn veiled_bytes_are_read_with_the_same_key_and_number_only() {
        let (ours, other) = (Sealer::new([1; 32]), Sealer::new([2; 32]));
        let bytes: Vec<u8> = (0..200).collect();
        let veiled = ours.veil(b"one", &bytes);
        assert_eq!(ours.veil(b"one", &veiled), bytes);
        assert_ne!(veiled, bytes);
        assert_ne!(ours.veil(b"two", &veiled), bytes);
        assert_ne!(other.veil(b"one", &veiled), bytes);
        assert_ne!(
            ours.veil(b"two", &bytes),
            veiled,
            "equal bytes look different"
        );
        assert!(ours.veil(b"one", &[]).is_empty());
    }

    const PURPOSES: [Purpose; 3] = [Purpose::Ticket, Purpose::Statement, Purpose::Bearer];

    #[test]
    fn a_token_opens_for_its_own_purpose_and_key_only() {
        let ours = Sealer::new([1; 32]);
        let other = Sealer::new([2; 32]);
        for made in PURPOSES {
            let token = ours.seal(made, b"payload");
            for asked in PURPOSES {
                let opened = ours.open(asked, &token);
                assert_eq!(opened.is_ok(), made == asked, "{made:?} as {asked:?}");
            }
            assert_eq!(other.open(made, &token), Err(Forged));
        }
    }

    #[test]
    fn a_changed_token_does_not_open() {
        let sealer = Sealer::new([7; 32]);
        let token = sealer.seal(Purpose::Ticket, b"SELECT 1");
        for at in 0..token.len() {
            let mut changed = token.clone();
            changed[at] ^= 1;
            assert_eq!(
                sealer.open(Purpose::Ticket, &changed),
                Err(Forged),
                "byte {at}"
            );
        }
        for length in 0..token.len() {
            assert_eq!(sealer.open(Purpose::Ticket, &token[..length]), Err(Forged));
        }
        assert_eq!(sealer.open(Purpose::Ticket, b""), Err(Forged));
    }

    #[test]
    fn an_empty_payload_is_a_payload() {
        let sealer = Sealer::new([7; 32]);
        let token = sealer.seal(Purpose::Bearer, b"");
        assert_eq!(sealer.open(Purpose::Bearer, &token), Ok(&b""[..]));
    }

    #[test]
    fn the_key_is_never_printed() {
        assert_eq!(format!("{:?}", Sealer::new([0xAB; 32])), "Sealer(***)");
    }
}
