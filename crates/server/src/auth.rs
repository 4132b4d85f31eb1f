//! Who is calling. Every request passes [`Authenticator::identify`] before anything else happens.
//!
//! Today there is one way in: on a loopback address everyone is the same anonymous principal, with
//! the role that the operator gave. Signing in is still answered as every client expects, with a
//! bearer that names a session. A server for named users adds a variant to [`Admission`]; the
//! doors do not change. Credentials are never logged, and never kept.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use prost::Message;
use tietopohja_policy::{Principal, Role};

use crate::seal::{Purpose, Sealer};

/// Whom the server lets in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Everyone is this principal. Only for an address that no other machine can reach.
    Anyone(Principal),
}

/// What a request says about its sender.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Credentials<'a> {
    /// Nothing.
    None,
    /// `Basic`: a user name and a password, still encoded.
    Basic(&'a str),
    /// `Bearer`: a token, ours or another's.
    Bearer(&'a str),
}

/// The sender of a request, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    /// In whose name everything runs.
    pub(crate) principal: Principal,
    /// The session of the bearer; none without one.
    pub(crate) session: Option<SessionId>,
}

/// Names a session within one server.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SessionId(Bytes);

impl SessionId {
    /// The session with this identifier.
    #[cfg(test)]
    pub(crate) fn of(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// The name in tables and logs. It does not open the session.
    pub(crate) fn name(&self) -> String {
        to_hex(self.0.get(..8).unwrap_or_default())
    }
}

/// Why a request is turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AuthError {
    /// A bearer that looks like ours and is not.
    #[error("the bearer was not issued by this server or belongs to an earlier run; sign in again")]
    UnknownBearer,
}

/// A principal inside a token. Redeeming the token needs the same principal.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Holder {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    role: String,
}

impl Holder {
    /// The principal as a token states it.
    pub(crate) fn of(principal: &Principal) -> Self {
        Self {
            name: principal.name().to_owned(),
            role: principal.role().to_string(),
        }
    }

    /// Whether the token was made for this principal, with the role it has now.
    pub(crate) fn is(&self, principal: &Principal) -> bool {
        *self == Self::of(principal)
    }

    fn principal(&self) -> Option<Principal> {
        let role: Role = self.role.parse().ok()?;
        Principal::new(self.name.clone(), role).ok()
    }
}

/// What a bearer carries.
#[derive(Clone, PartialEq, Message)]
struct BearerPayload {
    #[prost(message, optional, tag = "1")]
    holder: Option<Holder>,
    #[prost(bytes = "bytes", tag = "2")]
    session_id: Bytes,
    /// Seconds since 1970 of the signing in.
    #[prost(int64, tag = "3")]
    issued: i64,
}

/// Marks the bearers of this server among other people's tokens.
const BEARER_MARK: &str = "tietopohja1-";

/// Lets requests in, or not.
#[derive(Debug)]
pub(crate) struct Authenticator {
    admission: Admission,
    sealer: Sealer,
    ids: Ids,
}

impl Authenticator {
    /// An authenticator with the given policy of admission.
    pub(crate) fn new(admission: Admission, sealer: Sealer, ids: Ids) -> Self {
        Self {
            admission,
            sealer,
            ids,
        }
    }

    /// Signs a caller in: a new session, and the bearer that names it.
    ///
    /// # Errors
    /// The credentials are not good.
    pub(crate) fn sign_in(
        &self,
        credentials: Credentials<'_>,
        now: i64,
    ) -> Result<(Caller, String), AuthError> {
        let known = match credentials {
            // A driver may present its old bearer when it signs in again.
            Credentials::Bearer(token) => self.read_bearer(token)?.map(|caller| caller.principal),
            Credentials::None | Credentials::Basic(_) => None,
        };
        let principal = match (known, &self.admission) {
            (Some(principal), _) => principal,
            (None, Admission::Anyone(principal)) => principal.clone(),
        };
        let session_id = self.ids.next();
        let payload = BearerPayload {
            holder: Some(Holder::of(&principal)),
            session_id: session_id.clone(),
            issued: now,
        };
        let token = self.sealer.seal(Purpose::Bearer, &payload.encode_to_vec());
        let bearer = format!("{BEARER_MARK}{}", to_hex(&token));
        Ok((
            Caller {
                principal,
                session: Some(SessionId(session_id)),
            },
            bearer,
        ))
    }

    /// The caller of a request.
    ///
    /// # Errors
    /// A bearer that only this server could have issued, and did not.
    pub(crate) fn identify(&self, credentials: Credentials<'_>) -> Result<Caller, AuthError> {
        let known = match credentials {
            Credentials::Bearer(token) => self.read_bearer(token)?,
            Credentials::None | Credentials::Basic(_) => None,
        };
        Ok(match (known, &self.admission) {
            (Some(caller), _) => caller,
            (None, Admission::Anyone(principal)) => Caller {
                principal: principal.clone(),
                session: None,
            },
        })
    }

    /// The caller that one of our bearers names; none for a token of someone else's making.
    fn read_bearer(&self, token: &str) -> Result<Option<Caller>, AuthError> {
        let Some(token) = token.strip_prefix(BEARER_MARK) else {
            return Ok(None);
        };
        let caller = from_hex(token).and_then(|token| {
            let payload = self.sealer.open(Purpose::Bearer, &token).ok()?;
            let payload = BearerPayload::decode(payload).ok()?;
            let principal = payload.holder?.principal()?;
            Some(Caller {
                principal,
                session: Some(SessionId(payload.session_id)),
            })
        });
        let caller = caller.ok_or(AuthError::UnknownBearer)?;
        // A bearer outlives a change of settings only if it still says the truth.
        match &self.admission {
            Admission::Anyone(principal) if *principal == caller.principal => Ok(Some(caller)),
            Admission::Anyone(_) => Err(AuthError::UnknownBearer),
        }
    }
}

/// Makes identifiers that no other run of the server makes.
#[derive(Debug)]
pub(crate) struct Ids {
    key: [u8; 32],
    next: AtomicU64,
}

impl Ids {
    /// Identifiers of a run that began at the given moment.
    pub(crate) fn new(key: &[u8; 32], purpose: &str, started_nanoseconds: i128) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(key);
        hasher.update(purpose.as_bytes());
        hasher.update(&started_nanoseconds.to_le_bytes());
        Self {
            key: *hasher.finalize().as_bytes(),
            next: AtomicU64::new(0),
        }
    }

    /// The next identifier: 16 bytes.
    pub(crate) fn next(&self) -> Bytes {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let hash = blake3::keyed_hash(&self.key, &number.to_le_bytes());
        Bytes::copy_from_slice(hash.as_bytes().first_chunk::<16>().unwrap_or(&[0; 16]))
    }
}

/// Lower-case hexadecimal text.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f',
    ];
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| DIGITS.get(usize::from(digit)))
        .collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |letter: &u8| char::from(*letter).to_digit(16);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs
        .iter()
        .map(|[high, low]| u8::try_from(digit(high)? * 16 + digit(low)?).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader() -> Principal {
        Principal::new("anonymous", Role::Reader).unwrap()
    }

    fn authenticator(key: u8, principal: Principal) -> Authenticator {
        let ids = Ids::new(&[key; 32], "session", 0);
        Authenticator::new(Admission::Anyone(principal), Sealer::new([key; 32]), ids)
    }

    #[test]
    fn anyone_on_loopback_is_the_anonymous_principal() {
        let door = authenticator(1, reader());
        for credentials in [
            Credentials::None,
            Credentials::Basic("bm8="),
            Credentials::Bearer("someone-else's"),
        ] {
            let caller = door.identify(credentials).unwrap();
            assert_eq!(
                caller,
                Caller {
                    principal: reader(),
                    session: None
                }
            );
            let (caller, bearer) = door.sign_in(credentials, 5).unwrap();
            assert_eq!(door.identify(Credentials::Bearer(&bearer)), Ok(caller));
        }
    }

    #[test]
    fn each_signing_in_is_a_session_of_its_own() {
        let door = authenticator(1, reader());
        let (first, bearer) = door.sign_in(Credentials::None, 5).unwrap();
        let (second, _) = door.sign_in(Credentials::None, 5).unwrap();
        let (again, _) = door.sign_in(Credentials::Bearer(&bearer), 5).unwrap();
        assert_ne!(first.session, second.session);
        assert_ne!(first.session, again.session);
    }

    #[test]
    fn a_bearer_of_another_key_or_principal_is_turned_away() {
        let door = authenticator(1, reader());
        let (_, bearer) = door.sign_in(Credentials::None, 5).unwrap();
        let analyst = Principal::new("anonymous", Role::Analyst).unwrap();
        for other in [authenticator(2, reader()), authenticator(1, analyst)] {
            let refused = Err(AuthError::UnknownBearer);
            assert_eq!(other.identify(Credentials::Bearer(&bearer)), refused);
            let signed_in = other.sign_in(Credentials::Bearer(&bearer), 5);
            assert_eq!(signed_in.map(|(caller, _)| caller), refused);
        }
    }

    #[test]
    fn a_damaged_bearer_is_turned_away_and_never_panics() {
        let door = authenticator(1, reader());
        let (_, bearer) = door.sign_in(Credentials::None, 5).unwrap();
        for length in BEARER_MARK.len()..bearer.len() {
            let cut = &bearer[..length];
            assert_eq!(
                door.identify(Credentials::Bearer(cut)),
                Err(AuthError::UnknownBearer)
            );
        }
        let odd = format!("{BEARER_MARK}zzää");
        assert_eq!(
            door.identify(Credentials::Bearer(&odd)),
            Err(AuthError::UnknownBearer)
        );
    }

    #[test]
    fn identifiers_differ_within_and_between_runs() {
        let run = |key: u8, purpose: &str, started: i128| {
            let ids = Ids::new(&[key; 32], purpose, started);
            [ids.next(), ids.next()]
        };
        let all = [
            run(1, "a", 0),
            run(1, "a", 1),
            run(1, "b", 0),
            run(2, "a", 0),
        ]
        .concat();
        let distinct: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
        assert!(all.iter().all(|id| id.len() == 16));
    }

    #[test]
    fn hexadecimal_reads_back() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(from_hex(&to_hex(&bytes)), Some(bytes));
        assert_eq!(from_hex("0"), None);
        assert_eq!(from_hex("0g"), None);
        assert_eq!(from_hex(""), Some(Vec::new()));
    }
}
