//! Where the keys of the provider come from, and how long they are good: over the network, or from a
//! file for servers that reach nothing.
//!
//! Keys are fetched when they are first needed, and again when their time is over: then while the old
//! ones go on to serve. A token with a key that is not known asks for new ones, but not often. One
//! fetch runs at a time, and runs to its end even if nobody waits for it any more. Moments are
//! arguments: nothing here has a clock or wakes up by itself.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::header::{ACCEPT, CACHE_CONTROL, HeaderMap};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Url};
use serde::Deserialize;

use super::OidcError;
use super::keys::{KeySet, KeysError};

/// How long one answer may take, and how large it may be.
const ANSWER_TIME: Duration = Duration::from_secs(5);
const MOST_BYTES: usize = 1024 * 1024;

/// How long keys are good without another word, and the bounds of what the provider says, in seconds.
const AGE: i64 = 3600;
const AGE_LEAST: i64 = 300;
const AGE_MOST: i64 = 24 * 3600;

/// How long keys serve after that while no newer can be had, in seconds.
const STALE: i64 = 24 * 3600;

/// Seconds between two fetches: for a key that is not known or because of age, and after a failure
/// with no keys at all.
const PAUSE: i64 = 30;
const PAUSE_WITHOUT: i64 = 5;

/// There are no keys that may be used, and none can be had now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Away;

/// Gets and keeps the keys.
#[derive(Debug)]
pub(super) struct Source {
    place: Place,
    state: Mutex<State>,
    fetching: tokio::sync::Mutex<()>,
}

/// Where keys are.
#[derive(Debug)]
enum Place {
    File(PathBuf),
    Provider {
        client: Client,
        issuer: String,
        discovery: Url,
    },
}

#[derive(Debug, Default)]
struct State {
    keys: Option<Arc<KeySet>>,
    /// Seconds since 1970, as all moments here.
    fresh_until: i64,
    tried: Option<i64>,
    /// Whether the last try failed.
    failed: bool,
}

/// Why keys could not be had: for the log.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("the provider does not answer")]
    Request(#[from] reqwest::Error),
    #[error("`{url}` answers with status {status}; redirects are not followed")]
    Status { url: Url, status: u16 },
    #[error("the answer of `{url}` is larger than {MOST_BYTES} bytes")]
    TooLarge { url: Url },
    #[error("`{url}` does not describe a provider with `issuer` and `jwks_uri`")]
    NotDiscovery { url: Url },
    #[error("the provider calls itself `{said}`; set `issuer` to exactly that if it is right")]
    OtherIssuer { said: String },
    #[error("the provider says that its keys are at `{said}`, which is no https address")]
    Insecure { said: String },
    #[error("the file of keys cannot be read")]
    File(#[from] std::io::Error),
    #[error("the file of keys is larger than {MOST_BYTES} bytes")]
    FileTooLarge,
    #[error(transparent)]
    Keys(#[from] KeysError),
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

impl Source {
    /// Keys of a file, which is read now and again when it is older than keys should be.
    ///
    /// # Errors
    /// There are no keys in it.
    pub(super) fn file(path: PathBuf, now: i64) -> Result<Self, OidcError> {
        let unusable = |message: String| OidcError::File {
            path: path.clone(),
            message,
        };
        let bytes = std::fs::read(&path).map_err(|error| unusable(error.to_string()))?;
        let keys = KeySet::read(&bytes).map_err(|error| unusable(error.to_string()))?;
        let state = State {
            keys: Some(Arc::new(keys)),
            fresh_until: now.saturating_add(AGE_LEAST),
            tried: Some(now),
            failed: false,
        };
        Ok(Self::new(Place::File(path), state))
    }

    /// Keys of a provider. Nothing is asked yet.
    ///
    /// # Errors
    /// The address of the provider or the certificate authorities cannot be used.
    pub(super) fn provider(issuer: &str, ca_file: Option<&PathBuf>) -> Result<Self, OidcError> {
        let refused = || {
            OidcError::Setting(format!(
                "the issuer `{issuer}` is not an address such as `https://id.example.fi/realm`; \
                 plain http is for loopback addresses only"
            ))
        };
        let written = Url::parse(issuer).map_err(|_| refused())?;
        let plain = written.query().is_none()
            && written.fragment().is_none()
            && written.username().is_empty()
            && written.password().is_none();
        if !plain || !permitted(&written, true) {
            return Err(refused());
        }
        let discovery = format!(
            "{}/.well-known/openid-configuration",
            issuer.trim_end_matches('/')
        );
        let discovery = Url::parse(&discovery).map_err(|_| refused())?;
        let encrypted = discovery.scheme() == "https";
        let mut client = Client::builder()
            .redirect(Policy::none())
            .https_only(encrypted)
            .timeout(ANSWER_TIME)
            .connect_timeout(ANSWER_TIME)
            .pool_max_idle_per_host(0)
            // Settings are arguments: the environment of the process decides nothing here.
            .no_proxy();
        if let Some(path) = ca_file {
            let unusable = |message: String| OidcError::File {
                path: path.clone(),
                message,
            };
            let pem = std::fs::read(path).map_err(|error| unusable(error.to_string()))?;
            let authorities = Certificate::from_pem_bundle(&pem)
                .ok()
                .filter(|all| !all.is_empty())
                .ok_or_else(|| unusable("it holds no certificate in PEM".to_owned()))?;
            client = client.tls_certs_only(authorities);
        } else if !encrypted {
            client = client.tls_certs_only([]);
        }
        let place = Place::Provider {
            client: client.build().map_err(OidcError::Client)?,
            issuer: issuer.to_owned(),
            discovery,
        };
        Ok(Self::new(place, State::default()))
    }

    fn new(place: Place, state: State) -> Self {
        Self {
            place,
            state: Mutex::new(state),
            fetching: tokio::sync::Mutex::default(),
        }
    }

    /// Fetches keys before anyone needs them, so that the log tells early what is wrong.
    pub(super) fn warm(self: &Arc<Self>, now: i64) {
        if self.lock().keys.is_none() {
            self.begin(now, PAUSE_WITHOUT);
        }
    }

    /// The keys to check tokens with.
    ///
    /// # Errors
    /// There are none, or those there are have not been renewed for too long.
    pub(super) async fn keys(self: &Arc<Self>, now: i64) -> Result<Arc<KeySet>, Away> {
        let kept = {
            let state = self.lock();
            let usable = now < state.fresh_until.saturating_add(STALE);
            let keys = state.keys.clone().filter(|_| usable);
            keys.map(|keys| (keys, now < state.fresh_until))
        };
        match kept {
            Some((keys, fresh)) => {
                if !fresh {
                    self.begin(now, PAUSE);
                }
                Ok(keys)
            }
            None => {
                self.renewed(now, PAUSE_WITHOUT).await;
                let state = self.lock();
                let usable = now < state.fresh_until.saturating_add(STALE);
                state.keys.clone().filter(|_| usable).ok_or(Away)
            }
        }
    }

    /// The keys after a look for newer ones, unless there was one a moment ago.
    ///
    /// # Errors
    /// The last look failed: whether there are newer ones is not known.
    pub(super) async fn newer(self: &Arc<Self>, now: i64) -> Result<Arc<KeySet>, Away> {
        self.renewed(now, PAUSE).await;
        let state = self.lock();
        let keys = state.keys.clone().filter(|_| !state.failed);
        keys.ok_or(Away)
    }

    /// Begins a fetch that nobody waits for, unless one was begun of late.
    fn begin(self: &Arc<Self>, now: i64, pause: i64) {
        if self.lock().may_try(now, pause) {
            let this = Arc::clone(self);
            tokio::spawn(async move { this.fetch_in_turn(now, pause).await });
        }
    }

    /// Waits for a fetch, unless one was begun of late. It ends even if the waiting is given up.
    async fn renewed(self: &Arc<Self>, now: i64, pause: i64) {
        let this = Arc::clone(self);
        let fetching = tokio::spawn(async move { this.fetch_in_turn(now, pause).await });
        if fetching.await.is_err() {
            tracing::error!("the fetch of the identity provider's keys broke off");
        }
    }

    async fn fetch_in_turn(&self, now: i64, pause: i64) {
        let _turn = self.fetching.lock().await;
        {
            let mut state = self.lock();
            // Another may have fetched while this one waited.
            if !state.may_try(now, pause) {
                return;
            }
            state.tried = Some(now);
        }
        let fetched = match &self.place {
            Place::File(path) => from_file(path).await,
            Place::Provider {
                client,
                issuer,
                discovery,
            } => from_provider(client, issuer, discovery).await,
        };
        let mut state = self.lock();
        state.failed = fetched.is_err();
        match fetched {
            Ok((keys, age)) => {
                state.fresh_until = now.saturating_add(age);
                let same = state
                    .keys
                    .as_ref()
                    .is_some_and(|old| old.print == keys.print);
                if !same {
                    tracing::info!("the keys of the identity provider are new");
                    state.keys = Some(Arc::new(keys));
                }
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(chain);
                tracing::warn!(%error, cause, "the keys of the identity provider cannot be fetched");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn may_try(&self, now: i64, pause: i64) -> bool {
        // A clock that was set back holds nothing up.
        self.tried
            .is_none_or(|tried| !(0..pause).contains(&now.saturating_sub(tried)))
    }
}

/// Whether keys may be had from an address: nobody on the way can change them.
fn permitted(url: &Url, loopback: bool) -> bool {
    let host = url.host_str().unwrap_or_default();
    let here = || {
        let address = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    };
    match url.scheme() {
        "https" => !host.is_empty(),
        "http" => loopback && here(),
        _ => false,
    }
}

async fn from_file(path: &PathBuf) -> Result<(KeySet, i64), FetchError> {
    let length = tokio::fs::metadata(path).await?.len();
    if usize::try_from(length).is_ok_and(|length| length > MOST_BYTES) {
        return Err(FetchError::FileTooLarge);
    }
    Ok((KeySet::read(&tokio::fs::read(path).await?)?, AGE_LEAST))
}

async fn from_provider(
    client: &Client,
    issuer: &str,
    discovery: &Url,
) -> Result<(KeySet, i64), FetchError> {
    let (_, body) = get(client, discovery.clone()).await?;
    let said: Discovery = serde_json::from_slice(&body).map_err(|_| FetchError::NotDiscovery {
        url: discovery.clone(),
    })?;
    if said.issuer != issuer {
        return Err(FetchError::OtherIssuer { said: said.issuer });
    }
    let address = Url::parse(&said.jwks_uri)
        .ok()
        .filter(|url| permitted(url, discovery.scheme() == "http"));
    let Some(address) = address else {
        return Err(FetchError::Insecure {
            said: said.jwks_uri,
        });
    };
    let (headers, body) = get(client, address).await?;
    Ok((KeySet::read(&body)?, age(&headers)))
}

async fn get(client: &Client, url: Url) -> Result<(HeaderMap, Vec<u8>), FetchError> {
    let request = client.get(url.clone()).header(ACCEPT, "application/json");
    let mut response = request.send().await?;
    let status = response.status().as_u16();
    if status != 200 {
        return Err(FetchError::Status { url, status });
    }
    let headers = response.headers().clone();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > MOST_BYTES {
            return Err(FetchError::TooLarge { url });
        }
        body.extend_from_slice(&chunk);
    }
    Ok((headers, body))
}

/// How long an answer says that it is good, within bounds.
fn age(headers: &HeaderMap) -> i64 {
    let said = headers
        .get_all(CACHE_CONTROL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|part| part.trim().split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("max-age"))
        .and_then(|(_, seconds)| seconds.trim().trim_matches('"').parse::<i64>().ok());
    said.unwrap_or(AGE).clamp(AGE_LEAST, AGE_MOST)
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_is_an_address_that_nobody_on_the_way_can_change() {
        let cases = [
            ("https://login.microsoftonline.com/0f1e/v2.0", true),
            ("https://id.example.fi/realms/county/", true),
            ("http://127.0.0.1:8080/realms/county", true),
            ("http://[::1]:8080", true),
            ("http://localhost", true),
            ("http://id.example.fi", false),
            ("http://127.0.0.1.example.fi", false),
            ("https://user@id.example.fi", false),
            ("https://id.example.fi/?tenant=1", false),
            ("https://id.example.fi/#x", false),
            ("ftp://id.example.fi", false),
            ("id.example.fi", false),
            ("", false),
        ];
        // With an authority of its own, a test needs none of the machine.
        let folder = tempfile::tempdir().unwrap();
        let none = folder.path().join("none.pem");
        for (issuer, good) in cases {
            let error = Source::provider(issuer, Some(&none)).unwrap_err();
            let refused = matches!(error, OidcError::Setting(_));
            assert_eq!(refused, !good, "{issuer}: {error}");
        }
    }

    #[test]
    fn the_age_of_keys_is_what_the_provider_says_within_bounds() {
        let cases = [
            ("", AGE),
            ("public, max-age=7200", 7200),
            ("Max-Age = 7200 , public", 7200),
            ("max-age=0, no-store", AGE_LEAST),
            ("max-age=-5", AGE_LEAST),
            ("max-age=99999999", AGE_MOST),
            ("max-age=soon", AGE),
            ("s-maxage=7200", AGE),
        ];
        for (said, expected) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(CACHE_CONTROL, said.parse().unwrap());
            assert_eq!(age(&headers), expected, "{said}");
        }
        assert_eq!(age(&HeaderMap::new()), AGE);
    }

    #[test]
    fn a_file_without_keys_or_authorities_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, "{\"keys\": []}").unwrap();
        let keys = Source::file(path.clone(), 0).unwrap_err();
        let authorities = Source::provider("https://id.example.fi", Some(&path)).unwrap_err();
        for error in [keys, authorities] {
            assert!(matches!(error, OidcError::File { .. }), "{error}");
        }
    }
}
