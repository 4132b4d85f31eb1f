//! What a token must look like and say. Pure: text and a moment in, an answer out.
//!
//! Reading comes before the signature is checked and trusts nothing; judging comes after. A fault of
//! reading or of the signature has one answer for the outside, so that nobody learns from answers how
//! a made-up token fails; what a signed token lacks is told. No text of a token ever leaves this file
//! but the name of its owner. To add a check, add a [`Fault`] and a line in the table of the tests.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};
use tietopohja_policy::{Principal, Role};

use super::keys::{Algorithm, decode};

/// The largest token. Request headers have no room for more.
const MOST_BYTES: usize = 128 * 1024;

/// Why a token lets nobody in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// It is not a signed token, or has a header that is not understood.
    #[error("{NOT_OURS}")]
    Malformed,
    /// It is larger than any request.
    #[error("{NOT_OURS}")]
    TooLarge,
    /// It is signed in a way that the settings do not allow.
    #[error("{NOT_OURS}")]
    Algorithm,
    /// No key of the provider has the name that it gives.
    #[error("{NOT_OURS}")]
    UnknownKey,
    /// The key of the provider did not sign it.
    #[error("{NOT_OURS}")]
    Signature,
    /// Someone else issued it.
    #[error("the token is of another issuer; get one from the identity provider of this server")]
    Issuer,
    /// It was issued for another service.
    #[error("the token was issued for another service; ask the identity provider for one of this")]
    Audience,
    /// Its time is over.
    #[error("the token has expired; get a new one from the identity provider")]
    Expired,
    /// Its time has not begun.
    #[error(
        "the token is not valid yet; if it is new, the clock of this server or of the identity \
         provider is wrong"
    )]
    NotYet,
    /// It does not say when it ends.
    #[error("the token does not say until when it is valid; get another kind of token")]
    NoEnd,
    /// It is for another use.
    #[error(
        "this is not an access token that everyone may bear; send the access token of the identity \
         provider"
    )]
    Kind,
    /// It does not say whose it is.
    #[error("the token names nobody; ask the operator of this server which claim has the name")]
    Name,
    /// Its owner has no role here.
    #[error(
        "the identity provider knows you, and gives you no role in this server; ask for one of \
         those that the settings name"
    )]
    Role,
}

const NOT_OURS: &str = "the identity provider of this server has not signed this token; get a new \
                        access token from it";

impl Fault {
    /// The fault in the log.
    pub(super) fn class(self) -> &'static str {
        match self {
            Fault::Malformed => "malformed",
            Fault::TooLarge => "too large",
            Fault::Algorithm => "algorithm",
            Fault::UnknownKey => "unknown key",
            Fault::Signature => "signature",
            Fault::Issuer => "issuer",
            Fault::Audience => "audience",
            Fault::Expired => "expired",
            Fault::NotYet => "not yet valid",
            Fault::NoEnd => "no end",
            Fault::Kind => "kind of token",
            Fault::Name => "no name",
            Fault::Role => "no role",
        }
    }

    /// Whether the token is good and its owner may not come in.
    pub(crate) fn is_of_owner(self) -> bool {
        matches!(self, Fault::Name | Fault::Role)
    }
}

/// A token as it came, taken apart. Nothing of it is known to be true.
#[derive(Debug)]
pub(super) struct Unchecked<'a> {
    pub(super) algorithm: Algorithm,
    /// Names the key of the signature.
    pub(super) key: Option<String>,
    /// What is signed.
    pub(super) message: &'a [u8],
    pub(super) signature: Vec<u8>,
    claims: &'a str,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    crit: Option<Value>,
}

/// Whether a text is shaped like a token of a provider. Passwords and our own tokens are not.
pub(crate) fn looks_like_token(text: &str) -> bool {
    // `{"` in the alphabet of tokens.
    text.starts_with("eyJ") && text.bytes().filter(|byte| *byte == b'.').count() == 2
}

impl<'a> Unchecked<'a> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// It is none, or it is signed in a way that is not allowed.
    pub(super) fn read(token: &'a str, allowed: &[Algorithm]) -> Result<Self, Fault> {
        if token.len() > MOST_BYTES {
            return Err(Fault::TooLarge);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(Fault::Malformed)?;
        let (header, claims) = message.split_once('.').ok_or(Fault::Malformed)?;
        let header = decode(header).ok_or(Fault::Malformed)?;
        let header: Header = serde_json::from_slice(&header).map_err(|_| Fault::Malformed)?;
        let Header {
            alg,
            kid,
            typ,
            crit,
        } = header;
        // What must be understood and is not: all of it (RFC 7515, 4.1.11).
        if crit.is_some() {
            return Err(Fault::Malformed);
        }
        let access = ["jwt", "at+jwt", "application/at+jwt"];
        if typ.is_some_and(|typ| !access.contains(&typ.to_ascii_lowercase().as_str())) {
            return Err(Fault::Malformed);
        }
        let algorithm = Algorithm::named(&alg).filter(|named| allowed.contains(named));
        Ok(Self {
            algorithm: algorithm.ok_or(Fault::Algorithm)?,
            key: kid,
            message: message.as_bytes(),
            signature: decode(signature).ok_or(Fault::Malformed)?,
            claims,
        })
    }

    /// What the token says, when its signature is known to be good.
    pub(super) fn claims(&self) -> Result<Map<String, Value>, Fault> {
        let claims = decode(self.claims).ok_or(Fault::Malformed)?;
        serde_json::from_slice(&claims).map_err(|_| Fault::Malformed)
    }
}

/// What a signed token must say to let its owner in.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) issuer: String,
    pub(super) audience: String,
    pub(super) name_claim: String,
    pub(super) role_claim: String,
    pub(super) roles: BTreeMap<String, Role>,
    /// Seconds by which clocks may differ.
    pub(super) leeway: i64,
}

/// Whom a token lets in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) principal: Principal,
    /// Seconds since 1970.
    pub(super) until: i64,
}

impl Rules {
    /// Whom the claims of a signed token let in.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub(super) fn judge(&self, claims: &Map<String, Value>, now: i64) -> Result<Owner, Fault> {
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        if text("iss") != Some(self.issuer.as_str()) {
            return Err(Fault::Issuer);
        }
        if !texts(claims.get("aud")).any(|one| one == self.audience) {
            return Err(Fault::Audience);
        }
        let until = moment(claims.get("exp"))
            .ok_or(Fault::NoEnd)?
            .saturating_add(self.leeway);
        if now >= until {
            return Err(Fault::Expired);
        }
        for begin in ["nbf", "iat"]
            .into_iter()
            .filter_map(|name| claims.get(name))
        {
            let begins = moment(Some(begin)).ok_or(Fault::NotYet)?;
            if now.saturating_add(self.leeway) < begins {
                return Err(Fault::NotYet);
            }
        }
        // Hashes stand in ID tokens only; `typ` is how Keycloak tells its tokens apart. A token with
        // `cnf` is good together with a proof of its key, which nobody shows here.
        let of_id = ["at_hash", "c_hash", "cnf"]
            .iter()
            .any(|name| claims.contains_key(*name));
        if of_id || text("typ").is_some_and(|typ| !typ.eq_ignore_ascii_case("bearer")) {
            return Err(Fault::Kind);
        }
        let name = self.name(claims).ok_or(Fault::Name)?;
        let roles = texts(claim(claims, &self.role_claim));
        // The most powerful comes first in the order of roles.
        let role = roles.filter_map(|one| self.roles.get(one)).min();
        let principal = Principal::of_provider(&name, *role.ok_or(Fault::Role)?);
        Ok(Owner {
            principal: principal.map_err(|_| Fault::Name)?,
            until,
        })
    }

    /// The name of the owner, by which nobody else is called: of the claim that the settings name,
    /// or the one that every token has, marked as such.
    fn name(&self, claims: &Map<String, Value>) -> Option<String> {
        let named = |claim: Option<&Value>| {
            let name = claim.and_then(Value::as_str)?;
            (!name.is_empty()).then(|| encoded(name))
        };
        named(claim(claims, &self.name_claim))
            .or_else(|| named(claims.get("sub")).map(|subject| format!("sub:{subject}")))
    }
}

/// A claim of a name, or of a path with dots: names of claims may have dots too.
fn claim<'a>(claims: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(path) {
        return Some(value);
    }
    let (first, rest) = path.split_once('.')?;
    let within = claims.get(first)?;
    rest.split('.')
        .try_fold(within, |value, name| value.get(name))
}

/// The texts of a claim: one, or those of a list.
fn texts(claim: Option<&Value>) -> impl Iterator<Item = &str> {
    let all = match claim {
        Some(Value::Array(all)) => all.as_slice(),
        Some(one) => std::slice::from_ref(one),
        None => &[],
    };
    all.iter().filter_map(Value::as_str)
}

/// Seconds since 1970; providers may write fractions.
fn moment(claim: Option<&Value>) -> Option<i64> {
    let claim = claim?;
    // The conversion stops at the ends of time.
    let fraction = || claim.as_f64().map(|seconds| seconds.floor() as i64);
    claim.as_i64().or_else(fraction)
}

/// A name in the letters of a principal; each other byte becomes `%` and two digits, so that
/// different names stay different.
fn encoded(name: &str) -> String {
    let mut text = String::new();
    for letter in name.chars() {
        if letter.is_alphanumeric() || matches!(letter, '.' | '_' | '-' | '@') {
            text.push(letter);
        } else {
            let mut bytes = [0; 4];
            for byte in letter.encode_utf8(&mut bytes).bytes() {
                text.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_700_000_000;
    const ALL: [Algorithm; 3] = [Algorithm::Rs256, Algorithm::Es256, Algorithm::Ps256];

    fn rules() -> Rules {
        let roles = [
            ("tp-admin", Role::Admin),
            ("tp-analyst", Role::Analyst),
            ("tp-reader", Role::Reader),
        ];
        Rules {
            issuer: "https://id.example.fi".to_owned(),
            audience: "tietopohja".to_owned(),
            name_claim: "preferred_username".to_owned(),
            role_claim: "realm_access.roles".to_owned(),
            roles: roles.map(|(name, role)| (name.to_owned(), role)).into(),
            leeway: 60,
        }
    }

    /// The claims of a good token with some changed; null takes one away.
    fn judged(changes: &Value) -> Result<String, Fault> {
        let mut claims = json!({
            "iss": "https://id.example.fi",
            "aud": ["other", "tietopohja"],
            "exp": NOW + 300,
            "iat": NOW,
            "sub": "248289761001",
            "preferred_username": "aino",
            "realm_access": {"roles": ["offline_access", "tp-reader"]},
        });
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let mut claims = claims.as_object().unwrap().clone();
        claims.retain(|_, value| !value.is_null());
        let owner = rules().judge(&claims, NOW)?;
        Ok(format!("{}, {}", owner.principal, owner.until - NOW))
    }

    #[test]
    fn claims_decide_who_comes_in() {
        let aino = Ok("oidc:aino (reader), 360");
        let roles = |roles: Value| json!({"realm_access": {"roles": roles}});
        let cases = [
            (json!({}), aino),
            (json!({"aud": "tietopohja"}), aino),
            (json!({"aud": "tietopohja2"}), Err(Fault::Audience)),
            (json!({"aud": ["other"]}), Err(Fault::Audience)),
            (json!({"aud": null}), Err(Fault::Audience)),
            (json!({"iss": "https://id.example.fi/"}), Err(Fault::Issuer)),
            (
                json!({"iss": ["https://id.example.fi"]}),
                Err(Fault::Issuer),
            ),
            (json!({"iss": null}), Err(Fault::Issuer)),
            (json!({"exp": NOW - 59}), Ok("oidc:aino (reader), 1")),
            (json!({"exp": NOW - 60}), Err(Fault::Expired)),
            (json!({"exp": 0}), Err(Fault::Expired)),
            (json!({"exp": null}), Err(Fault::NoEnd)),
            (json!({"exp": "1800000000"}), Err(Fault::NoEnd)),
            (
                json!({"exp": 1_700_000_000.5}),
                Ok("oidc:aino (reader), 60"),
            ),
            (json!({"nbf": NOW + 60}), aino),
            (json!({"nbf": NOW + 61}), Err(Fault::NotYet)),
            (json!({"nbf": "soon"}), Err(Fault::NotYet)),
            (json!({"iat": NOW + 61}), Err(Fault::NotYet)),
            (json!({"iat": null}), aino),
            (json!({"typ": "Bearer"}), aino),
            (json!({"typ": "ID"}), Err(Fault::Kind)),
            (json!({"typ": "Refresh"}), Err(Fault::Kind)),
            (json!({"at_hash": "x"}), Err(Fault::Kind)),
            (json!({"cnf": {"jkt": "x"}}), Err(Fault::Kind)),
            (
                json!({"preferred_username": "Väinö v#ext#@hva.fi"}),
                Ok("oidc:Väinö%20v%23ext%23@hva.fi (reader), 360"),
            ),
            (
                json!({"preferred_username": null}),
                Ok("oidc:sub:248289761001 (reader), 360"),
            ),
            (
                json!({"preferred_username": "sub:248289761001"}),
                Ok("oidc:sub%3A248289761001 (reader), 360"),
            ),
            (
                json!({"preferred_username": "", "sub": null}),
                Err(Fault::Name),
            ),
            (
                json!({"preferred_username": "a".repeat(129)}),
                Err(Fault::Name),
            ),
            (roles(json!("tp-analyst")), Ok("oidc:aino (analyst), 360")),
            (
                roles(json!(["tp-reader", "tp-admin", 3, "tp-analyst"])),
                Ok("oidc:aino (admin), 360"),
            ),
            (roles(json!(["TP-ADMIN", "admin"])), Err(Fault::Role)),
            (roles(json!([])), Err(Fault::Role)),
            (json!({"realm_access": null}), Err(Fault::Role)),
            (json!({"realm_access": "tp-admin"}), Err(Fault::Role)),
            (
                json!({"realm_access.roles": "tp-admin"}),
                Ok("oidc:aino (admin), 360"),
            ),
        ];
        for (changes, expected) in cases {
            let expected = expected.map(str::to_owned);
            assert_eq!(judged(&changes), expected, "{changes}");
        }
    }

    #[test]
    fn a_header_decides_whether_a_signature_is_looked_at() {
        let both = [Algorithm::Rs256, Algorithm::Es256];
        let cases = [
            (json!({"alg": "RS256", "kid": "one", "typ": "JWT"}), None),
            (json!({"alg": "ES256", "typ": "at+jwt", "x": 1}), None),
            (json!({"alg": "PS256"}), Some(Fault::Algorithm)),
            (json!({"alg": "HS256"}), Some(Fault::Algorithm)),
            (json!({"alg": "none"}), Some(Fault::Algorithm)),
            (json!({"alg": "rs256"}), Some(Fault::Algorithm)),
            (json!({"alg": 3}), Some(Fault::Malformed)),
            (json!({"kid": "one"}), Some(Fault::Malformed)),
            (
                json!({"alg": "RS256", "crit": ["b64"], "b64": false}),
                Some(Fault::Malformed),
            ),
            (
                json!({"alg": "RS256", "typ": "logout+jwt"}),
                Some(Fault::Malformed),
            ),
        ];
        for (header, expected) in cases {
            let token = format!("{}.e30.AAAA", URL_SAFE_NO_PAD.encode(header.to_string()));
            assert!(looks_like_token(&token), "{header}");
            assert_eq!(Unchecked::read(&token, &both).err(), expected, "{header}");
        }
    }

    #[test]
    fn what_is_no_token_is_told_so_and_never_panics() {
        for text in [
            "",
            ".",
            "..",
            "...",
            "eyJ.eyJ.",
            "eyJ",
            "e30.e30.e30",
            "ä.ö.å",
        ] {
            let fault = Unchecked::read(text, &ALL).err();
            assert_eq!(fault, Some(Fault::Malformed), "{text}");
        }
        let padded = "eyJhbGciOiJSUzI1NiJ9.e30=.AAAA";
        let read = Unchecked::read(padded, &ALL).unwrap();
        assert_eq!(read.claims(), Err(Fault::Malformed));
        let huge = format!("eyJhbGciOiJSUzI1NiJ9.{}.AAAA", "A".repeat(MOST_BYTES));
        assert_eq!(Unchecked::read(&huge, &ALL).err(), Some(Fault::TooLarge));
        for text in [
            "aino",
            "tietopohja_0123_abc",
            "tietopohja1-00",
            "eyJ.x",
            "a.b.c",
            "",
        ] {
            assert!(!looks_like_token(text), "{text}");
        }
    }
}
