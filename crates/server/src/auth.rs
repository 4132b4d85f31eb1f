//! Who is calling. Every request passes [`Authenticator::identify`] before anything else happens.
//!
//! There are two ways in, the variants of [`Admission`]. On a loopback address everyone may be the
//! same anonymous principal, with the role that the operator gave; or there are named users, whom
//! `identity` knows: of a list, of an identity provider, or of both. Signing in is answered as every
//! client expects, with a bearer that names a session. Another way to prove who one is adds an arm to
//! `Authenticator::admit`; the doors do not change. Credentials are never logged, and never kept.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use prost::Message;
use tietopohja_policy::{PROVIDER_MARK, Principal, Role};

use crate::identity::{ErrorId, Fault, Gate, Provider, Visitor, looks_like_token};
use crate::seal::{Purpose, Sealer};

/// Whom the server lets in.
#[derive(Debug)]
pub(crate) enum Admission {
    /// Everyone is this principal. Only for an address that no other machine can reach.
    Anyone(Principal),
    /// Named users, who prove who they are.
    Users {
        /// Knows those of the list, if there is one.
        gate: Option<Box<Gate>>,
        /// Knows those whom an identity provider vouches for, if there is one.
        provider: Option<Box<Provider>>,
        /// How long a bearer is good, in seconds.
        bearer_seconds: i64,
    },
}

/// What a request says about its sender.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Credentials<'a> {
    /// Nothing.
    None,
    /// `Basic`: a user name and a password, still encoded.
    Basic(&'a str),
    /// A user name and a password, as the handshake's own message carries them.
    Password(&'a str, &'a str),
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
    pub(crate) fn of(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// The identifier.
    pub(crate) fn bytes(&self) -> Bytes {
        self.0.clone()
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
    /// A bearer past its time, or of a user who has changed since.
    #[error("the bearer has expired or was revoked; sign in again")]
    OldBearer,
    /// Nothing that says who is calling.
    #[error("this server has users: sign in with a user name and a password or an API token")]
    Missing,
    /// The same, where only an identity provider knows the users.
    #[error(
        "this server knows its users by an identity provider: sign in with an access token of it, as \
         a bearer or as the password of any user name"
    )]
    MissingToken,
    /// Which of the two is wrong is not told.
    #[error("the user name or the password is wrong")]
    Wrong,
    /// An API token, or a token of someone else's making, that lets nobody in.
    #[error("the token is unknown, has expired or was revoked; ask for a new one")]
    BadToken,
    /// A token of the identity provider that does not let its owner in.
    #[error("{fault} (error id {id})")]
    Token {
        /// What is wrong.
        fault: Fault,
        /// In the log.
        id: ErrorId,
    },
    /// A token of the identity provider that cannot be judged now.
    #[error(
        "the identity provider cannot be reached to check the token; try again in a moment, and tell \
         the operator of this server if it lasts (error id {id})"
    )]
    ProviderAway {
        /// In the log.
        id: ErrorId,
    },
    /// Someone is guessing.
    #[error("too many attempts; wait {seconds} seconds")]
    TooMany {
        /// Until the next one is looked at.
        seconds: i64,
    },
    /// More sign-ins at once than are checked.
    #[error("too many others are signing in; try again in a moment")]
    Busy,
}

/// Who a request turned out to come from.
struct Known {
    visitor: Visitor,
    session: Option<SessionId>,
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
        match self.name.strip_prefix(PROVIDER_MARK) {
            Some(name) => Principal::of_provider(name, role).ok(),
            None => Principal::new(self.name.clone(), role).ok(),
        }
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
    /// Of the user, when signing in.
    #[prost(uint64, tag = "4")]
    version: u64,
    /// The id of the API token that was shown at signing in, if it was one.
    #[prost(string, optional, tag = "5")]
    token: Option<String>,
    /// Seconds since 1970 of the end of the identity provider's token, if it was one.
    #[prost(int64, optional, tag = "6")]
    until: Option<i64>,
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

    /// Whether callers must say who they are.
    pub(crate) fn has_users(&self) -> bool {
        matches!(self.admission, Admission::Users { .. })
    }

    /// What is told to those who do not say who they are.
    pub(crate) fn missing(&self) -> AuthError {
        match &self.admission {
            Admission::Users { gate: None, .. } => AuthError::MissingToken,
            Admission::Users { gate: Some(_), .. } | Admission::Anyone(_) => AuthError::Missing,
        }
    }

    /// Asks the identity provider, if there is one, for what will be needed.
    pub(crate) fn warm(&self, now: i64) {
        if let Admission::Users { provider, .. } = &self.admission
            && let Some(provider) = provider
        {
            provider.warm(now);
        }
    }

    /// Signs a caller in: a new session, and the bearer that names it.
    ///
    /// # Errors
    /// The credentials are not good.
    pub(crate) async fn sign_in(
        &self,
        credentials: Credentials<'_>,
        peer: Option<IpAddr>,
        now: i64,
    ) -> Result<(Caller, String), AuthError> {
        // A driver may present its old bearer when it signs in again.
        let Visitor {
            principal,
            version,
            token,
            until,
        } = self.admit(credentials, peer, now).await?.visitor;
        let session_id = self.ids.next();
        let payload = BearerPayload {
            holder: Some(Holder::of(&principal)),
            session_id: session_id.clone(),
            issued: now,
            version,
            token,
            until,
        };
        let sealed = self.sealer.seal(Purpose::Bearer, &payload.encode_to_vec());
        let bearer = format!("{BEARER_MARK}{}", to_hex(&sealed));
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
    /// A bearer that only this server could have issued, and did not; with users, anything that
    /// does not prove who is calling.
    pub(crate) async fn identify(
        &self,
        credentials: Credentials<'_>,
        peer: Option<IpAddr>,
        now: i64,
    ) -> Result<Caller, AuthError> {
        let known = self.admit(credentials, peer, now).await?;
        Ok(Caller {
            principal: known.visitor.principal,
            session: known.session,
        })
    }

    async fn admit(
        &self,
        credentials: Credentials<'_>,
        peer: Option<IpAddr>,
        now: i64,
    ) -> Result<Known, AuthError> {
        if let Credentials::Bearer(token) = credentials
            && let Some(known) = self.read_bearer(token, now)?
        {
            return Ok(known);
        }
        let visitor = match (&self.admission, credentials) {
            (Admission::Anyone(principal), _) => Visitor {
                principal: principal.clone(),
                version: 0,
                token: None,
                until: None,
            },
            (Admission::Users { .. }, Credentials::None) => return Err(self.missing()),
            (Admission::Users { gate, provider, .. }, Credentials::Bearer(token)) => {
                match (provider, gate) {
                    (Some(provider), _) if looks_like_token(token) => {
                        Box::pin(provider.visitor(token, now)).await?
                    }
                    (_, Some(gate)) => gate.token(token, now)?,
                    (_, None) => return Err(AuthError::BadToken),
                }
            }
            (Admission::Users { .. }, Credentials::Password(name, password)) => {
                self.password(name, password, peer, now).await?
            }
            (Admission::Users { .. }, Credentials::Basic(encoded)) => {
                let decoded = BASE64.decode(encoded).map_err(|_| AuthError::Wrong)?;
                let decoded = String::from_utf8(decoded).map_err(|_| AuthError::Wrong)?;
                let (name, password) = decoded.split_once(':').ok_or(AuthError::Wrong)?;
                self.password(name, password, peer, now).await?
            }
        };
        Ok(Known {
            visitor,
            session: None,
        })
    }

    /// The user of a name and a password. A token of the identity provider does as the password of any
    /// name; a bad one counts as a failure of nobody's.
    async fn password(
        &self,
        name: &str,
        password: &str,
        peer: Option<IpAddr>,
        now: i64,
    ) -> Result<Visitor, AuthError> {
        let Admission::Users { gate, provider, .. } = &self.admission else {
            return Err(AuthError::Wrong);
        };
        match (provider, gate) {
            (Some(provider), _) if looks_like_token(password) => {
                Box::pin(provider.visitor(password, now)).await
            }
            (_, Some(gate)) => gate.password(name, password, peer, now).await,
            (_, None) => Err(AuthError::MissingToken),
        }
    }

    /// The caller that one of our bearers names; none for a token of someone else's making.
    fn read_bearer(&self, token: &str, now: i64) -> Result<Option<Known>, AuthError> {
        let Some(token) = token.strip_prefix(BEARER_MARK) else {
            return Ok(None);
        };
        let read = from_hex(token).and_then(|token| {
            let payload = self.sealer.open(Purpose::Bearer, &token).ok()?;
            let payload = BearerPayload::decode(payload).ok()?;
            let known = Known {
                visitor: Visitor {
                    principal: payload.holder?.principal()?,
                    version: payload.version,
                    token: payload.token,
                    until: payload.until,
                },
                session: Some(SessionId(payload.session_id)),
            };
            Some((known, payload.issued))
        });
        let (known, issued) = read.ok_or(AuthError::UnknownBearer)?;
        // A bearer outlives a change of settings or users only if it still says the truth.
        match &self.admission {
            Admission::Anyone(principal) if *principal == known.visitor.principal => {}
            Admission::Anyone(_) => return Err(AuthError::UnknownBearer),
            Admission::Users {
                gate,
                provider,
                bearer_seconds,
            } => {
                let visitor = &known.visitor;
                let still = match visitor.until {
                    // A bearer never outlives the token that it was got with, renewed or not.
                    Some(_) => provider.as_ref().is_some_and(|one| one.still(visitor, now)),
                    None => gate.as_ref().is_some_and(|gate| gate.still(visitor, now)),
                };
                if now >= issued.saturating_add(*bearer_seconds) || !still {
                    return Err(AuthError::OldBearer);
                }
            }
        }
        Ok(Some(known))
    }
}

/// Drivers differ in whether they pad.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

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

/// The bytes that hexadecimal text says.
pub(crate) fn from_hex(text: &str) -> Option<Vec<u8>> {
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

    #[tokio::test]
    async fn anyone_on_loopback_is_the_anonymous_principal() {
        let door = authenticator(1, reader());
        for credentials in [
            Credentials::None,
            Credentials::Basic("bm8="),
            Credentials::Bearer("someone-else's"),
        ] {
            let caller = door.identify(credentials, None, 5).await.unwrap();
            assert_eq!(
                caller,
                Caller {
                    principal: reader(),
                    session: None
                }
            );
            let (caller, bearer) = door.sign_in(credentials, None, 5).await.unwrap();
            assert_eq!(
                door.identify(Credentials::Bearer(&bearer), None, 5).await,
                Ok(caller)
            );
        }
    }

    #[tokio::test]
    async fn each_signing_in_is_a_session_of_its_own() {
        let door = authenticator(1, reader());
        let (first, bearer) = door.sign_in(Credentials::None, None, 5).await.unwrap();
        let (second, _) = door.sign_in(Credentials::None, None, 5).await.unwrap();
        let (again, _) = door
            .sign_in(Credentials::Bearer(&bearer), None, 5)
            .await
            .unwrap();
        assert_ne!(first.session, second.session);
        assert_ne!(first.session, again.session);
    }

    #[tokio::test]
    async fn a_bearer_of_another_key_or_principal_is_turned_away() {
        let door = authenticator(1, reader());
        let (_, bearer) = door.sign_in(Credentials::None, None, 5).await.unwrap();
        let analyst = Principal::new("anonymous", Role::Analyst).unwrap();
        for other in [authenticator(2, reader()), authenticator(1, analyst)] {
            let refused = Err(AuthError::UnknownBearer);
            assert_eq!(
                other.identify(Credentials::Bearer(&bearer), None, 5).await,
                refused
            );
            let signed_in = other.sign_in(Credentials::Bearer(&bearer), None, 5).await;
            assert_eq!(signed_in.map(|(caller, _)| caller), refused);
        }
    }

    #[tokio::test]
    async fn a_damaged_bearer_is_turned_away_and_never_panics() {
        let door = authenticator(1, reader());
        let (_, bearer) = door.sign_in(Credentials::None, None, 5).await.unwrap();
        for length in BEARER_MARK.len()..bearer.len() {
            let cut = &bearer[..length];
            assert_eq!(
                door.identify(Credentials::Bearer(cut), None, 5).await,
                Err(AuthError::UnknownBearer)
            );
        }
        let odd = format!("{BEARER_MARK}zzää");
        assert_eq!(
            door.identify(Credentials::Bearer(&odd), None, 5).await,
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
