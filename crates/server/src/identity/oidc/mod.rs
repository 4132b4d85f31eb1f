//! Sign-in with access tokens of an OpenID Connect provider: Entra ID, Keycloak, AD FS.
//!
//! `token` takes a token apart and judges what it says, `keys` checks its signature, `source` gets the
//! provider's keys and keeps them. Here these meet: a [`Provider`] says whom a token lets in, and
//! remembers it while the token and the keys are good. Nobody signs in here with a name that a user of
//! the list could have. What a token says goes to no log and into no error.

mod keys;
mod source;
mod token;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tietopohja_policy::Role;

use super::Visitor;
use crate::auth::{AuthError, Ids, to_hex};
pub use keys::Algorithm;
use keys::{Checked, KeySet};
use source::Source;
pub(crate) use token::{Fault, looks_like_token};
use token::{Owner, Rules, Unchecked};

/// Tokens that are remembered.
const REMEMBERED: usize = 4096;

/// The largest difference of clocks, in seconds.
const MOST_LEEWAY: u64 = 300;

/// A provider, and what its tokens must say.
#[derive(Debug, Clone)]
pub struct OidcOptions {
    /// The provider's address, exactly as it calls itself. Below it the provider describes itself.
    pub issuer: String,
    /// What tokens say of their issuer, where that is something else. Default: the issuer.
    pub token_issuer: Option<String>,
    /// Whom tokens must be for: this server, as the provider calls it.
    pub audience: String,
    /// How tokens may be signed.
    pub algorithms: Vec<Algorithm>,
    /// A file with the provider's keys (JWKS), instead of asking for them. Default: they are asked for.
    pub jwks_file: Option<PathBuf>,
    /// The only certificate authorities that the provider is trusted by, as PEM. Default: those of the
    /// machine.
    pub ca_file: Option<PathBuf>,
    /// The claim that has the user's name.
    pub name_claim: String,
    /// The claim that has the user's roles: its name, or a path with dots.
    pub role_claim: String,
    /// What a value of that claim is here. The most powerful of several counts.
    pub roles: BTreeMap<String, Role>,
    /// How much clocks may differ.
    pub leeway: Duration,
}

/// Why a provider cannot be used at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OidcError {
    /// A setting says something that cannot be.
    #[error("sign-in with a provider: {0}")]
    Setting(String),
    /// A file of the settings cannot be used.
    #[error("sign-in with a provider: cannot use `{}`: {message}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// Connections to the provider cannot be set up.
    #[error(
        "sign-in with a provider: no secure connections can be made; name the authorities to trust \
         in `ca_file`"
    )]
    Client(#[source] reqwest::Error),
}

/// Names an error in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ErrorId([u8; 4]);

impl fmt::Display for ErrorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_hex(&self.0))
    }
}

/// Lets those in whom the provider vouches for.
pub(crate) struct Provider {
    algorithms: Vec<Algorithm>,
    rules: Rules,
    source: Arc<Source>,
    /// Of the settings: with others, what was opened under these is closed.
    version: u64,
    /// The key under which tokens are remembered.
    key: [u8; 32],
    remembered: Mutex<HashMap<[u8; 32], Remembered>>,
    ids: Ids,
}

/// A good token: whom it lets in, and the keys that it was checked with.
struct Remembered {
    owner: Owner,
    keys: blake3::Hash,
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider")
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}

impl Provider {
    /// A provider with these settings. Nothing is asked yet.
    ///
    /// # Errors
    /// The settings let nobody in, or files that they name cannot be used.
    pub(crate) fn open(
        options: &OidcOptions,
        master: &[u8; 32],
        ids: Ids,
        now: i64,
    ) -> Result<Self, OidcError> {
        let OidcOptions {
            issuer,
            token_issuer,
            audience,
            algorithms,
            jwks_file,
            ca_file,
            name_claim,
            role_claim,
            roles,
            leeway,
        } = options;
        let missing = [
            (issuer.is_empty(), "`issuer`, the address of the provider"),
            (
                audience.is_empty(),
                "`audience`, what the provider calls this server",
            ),
            (algorithms.is_empty(), "`algorithms`, such as [\"RS256\"]"),
            (
                name_claim.is_empty(),
                "`name_claim`, such as \"preferred_username\"",
            ),
            (role_claim.is_empty(), "`role_claim`, such as \"roles\""),
            (
                roles.is_empty(),
                "a role in `[serve.oidc.roles]`, such as `tietopohja-reader = \"reader\"`",
            ),
        ];
        if let Some((_, what)) = missing.into_iter().find(|(missing, _)| *missing) {
            return Err(OidcError::Setting(format!("set {what}")));
        }
        if leeway.as_secs() > MOST_LEEWAY {
            return Err(OidcError::Setting(format!(
                "`leeway_seconds` is at most {MOST_LEEWAY}"
            )));
        }
        let source = match jwks_file {
            Some(path) => Source::file(path.clone(), now)?,
            None => Source::provider(issuer, ca_file.as_ref())?,
        };
        let rules = Rules {
            issuer: token_issuer.as_ref().unwrap_or(issuer).clone(),
            audience: audience.clone(),
            name_claim: name_claim.clone(),
            role_claim: role_claim.clone(),
            roles: roles.clone(),
            leeway: i64::try_from(leeway.as_secs()).unwrap_or_default(),
        };
        let print = blake3::hash(format!("{rules:?}").as_bytes());
        let version = print.as_bytes().first_chunk::<8>().copied();
        Ok(Self {
            algorithms: algorithms.clone(),
            rules,
            source: Arc::new(source),
            version: u64::from_le_bytes(version.unwrap_or_default()),
            key: blake3::derive_key("tietopohja remembered provider tokens v1", master),
            remembered: Mutex::default(),
            ids,
        })
    }

    /// Asks for the keys in the background.
    pub(crate) fn warm(&self, now: i64) {
        self.source.warm(now);
    }

    /// Whom a token lets in.
    ///
    /// # Errors
    /// The token is not good, gives no role, or cannot be judged because there are no keys.
    pub(crate) async fn visitor(&self, token: &str, now: i64) -> Result<Visitor, AuthError> {
        let refused = |fault: Fault| {
            let id = self.error_id();
            tracing::info!(error_id = %id, reason = fault.class(), "a token of the identity provider was refused");
            AuthError::Token { fault, id }
        };
        let read = Unchecked::read(token, &self.algorithms).map_err(refused)?;
        let away = |_| self.away();
        let mut keys = self.source.keys(now).await.map_err(away)?;
        let remembering = *blake3::keyed_hash(&self.key, token.as_bytes()).as_bytes();
        if let Some(owner) = self.remembered(&remembering, &keys, now) {
            return Ok(self.let_in(owner));
        }
        let check = |keys: &KeySet| {
            keys.check(
                read.algorithm,
                read.key.as_deref(),
                read.message,
                &read.signature,
            )
        };
        let mut checked = check(&keys);
        if checked == Checked::UnknownKey {
            keys = self.source.newer(now).await.map_err(away)?;
            checked = check(&keys);
        }
        let judged = match checked {
            Checked::Good => read
                .claims()
                .and_then(|claims| self.rules.judge(&claims, now)),
            Checked::UnknownKey => Err(Fault::UnknownKey),
            Checked::Bad => Err(Fault::Signature),
        };
        let owner = judged.map_err(refused)?;
        self.remember(remembering, &owner, keys.print, now);
        Ok(self.let_in(owner))
    }

    /// Whether a bearer still tells the truth of someone whom a token of the provider let in.
    pub(crate) fn still(&self, visitor: &Visitor, now: i64) -> bool {
        visitor.version == self.version && visitor.until.is_some_and(|until| now < until)
    }

    fn let_in(&self, owner: Owner) -> Visitor {
        Visitor {
            principal: owner.principal,
            version: self.version,
            token: None,
            until: Some(owner.until),
        }
    }

    fn away(&self) -> AuthError {
        let id = self.error_id();
        tracing::warn!(error_id = %id, reason = "no keys", "a token of the identity provider could not be checked");
        AuthError::ProviderAway { id }
    }

    fn error_id(&self) -> ErrorId {
        let bytes = self.ids.next();
        ErrorId(bytes.first_chunk().copied().unwrap_or_default())
    }

    fn remembered(&self, token: &[u8; 32], keys: &KeySet, now: i64) -> Option<Owner> {
        let remembered = self.remembered.lock();
        let remembered = remembered.unwrap_or_else(PoisonError::into_inner);
        let kept = remembered.get(token)?;
        (kept.keys == keys.print && now < kept.owner.until).then(|| kept.owner.clone())
    }

    fn remember(&self, token: [u8; 32], owner: &Owner, keys: blake3::Hash, now: i64) {
        let remembered = self.remembered.lock();
        let mut remembered = remembered.unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= REMEMBERED {
            remembered.retain(|_, kept| kept.keys == keys && now < kept.owner.until);
        }
        if remembered.len() >= REMEMBERED {
            remembered.clear();
        }
        let owner = owner.clone();
        remembered.insert(token, Remembered { owner, keys });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> OidcOptions {
        OidcOptions {
            issuer: "http://127.0.0.1:1".to_owned(),
            token_issuer: None,
            audience: "tietopohja".to_owned(),
            algorithms: vec![Algorithm::Rs256],
            jwks_file: None,
            ca_file: None,
            name_claim: "preferred_username".to_owned(),
            role_claim: "roles".to_owned(),
            roles: [("reader".to_owned(), Role::Reader)].into(),
            leeway: Duration::from_secs(60),
        }
    }

    fn open(change: impl FnOnce(&mut OidcOptions)) -> Result<Provider, OidcError> {
        let mut options = options();
        change(&mut options);
        Provider::open(&options, &[1; 32], Ids::new(&[1; 32], "provider", 0), 0)
    }

    #[test]
    fn settings_that_let_nobody_in_are_told() {
        let cases: [(&str, fn(&mut OidcOptions)); 7] = [
            ("`issuer`", |options| options.issuer.clear()),
            ("`audience`", |options| options.audience.clear()),
            ("`algorithms`", |options| options.algorithms.clear()),
            ("`name_claim`", |options| options.name_claim.clear()),
            ("`role_claim`", |options| options.role_claim.clear()),
            ("[serve.oidc.roles]", |options| options.roles.clear()),
            ("at most 300", |options| {
                options.leeway = Duration::from_secs(301)
            }),
        ];
        for (expected, change) in cases {
            let error = open(change).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert!(open(|_| ()).is_ok());
    }

    #[test]
    fn other_settings_end_what_was_opened_under_these() {
        let owner = Owner {
            principal: tietopohja_policy::Principal::of_provider("aino", Role::Reader).unwrap(),
            until: 100,
        };
        let visitor = open(|_| ()).unwrap().let_in(owner);
        let same = open(|_| ()).unwrap();
        assert!(same.still(&visitor, 99));
        assert!(!same.still(&visitor, 100));
        let changes: [fn(&mut OidcOptions); 3] = [
            |options| options.audience.push('2'),
            |options| options.token_issuer = Some("http://other".to_owned()),
            |options| options.roles = [("reader".to_owned(), Role::Analyst)].into(),
        ];
        for change in changes {
            assert!(!open(change).unwrap().still(&visitor, 99));
        }
    }

    #[test]
    fn what_is_remembered_is_bounded_and_ends_with_the_token_or_the_keys() {
        let provider = open(|_| ()).unwrap();
        let owner = Owner {
            principal: tietopohja_policy::Principal::of_provider("aino", Role::Reader).unwrap(),
            until: 100,
        };
        let keys = |y: &str| {
            let text = format!(
                r#"{{"keys": [{{"kty": "EC", "crv": "P-256", "x": "{0}", "y": "{y}{1}"}}]}}"#,
                "A".repeat(43),
                "A".repeat(42),
            );
            KeySet::read(text.as_bytes()).unwrap()
        };
        let (old, new) = (keys("A"), keys("B"));
        provider.remember([7; 32], &owner, old.print, 0);
        assert_eq!(provider.remembered(&[7; 32], &old, 99), Some(owner.clone()));
        assert_eq!(provider.remembered(&[7; 32], &old, 100), None);
        assert_eq!(provider.remembered(&[7; 32], &new, 99), None);
        for number in 0..10_000_u32 {
            let token = *blake3::hash(&number.to_le_bytes()).as_bytes();
            provider.remember(token, &owner, old.print, 0);
        }
        assert!(provider.remembered.lock().unwrap().len() <= REMEMBERED);
    }
}
