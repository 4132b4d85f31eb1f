//! A little identity provider on a loopback address, for tests: it describes itself, publishes keys
//! that are made in the test, and signs whatever a test wants signed. It can be told to fail.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256,
    RsaEncoding,
};
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::serve::Listener;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tietopohja_policy::Role;
use tietopohja_server::identity::{Algorithm, OidcOptions};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::server::TlsStream;

/// When tests begin, as their clock says.
pub(crate) const START: i64 = 1_700_000_000;

/// The authority that vouches for the provider's address, and what the provider shows.
pub(crate) const AUTHORITY: &str = include_str!("../../../../testdata/tls/authority.pem");
pub(crate) const STRANGE_AUTHORITY: &str = include_str!("../../../../testdata/tls/stranger.pem");
const SHOWN: &str = include_str!("../../../../testdata/tls/server.pem");
const SHOWN_KEY: &str = include_str!("../../../../testdata/tls/server.key");

/// A key that signs tokens.
pub(crate) struct Key {
    pub(crate) id: &'static str,
    pair: Pair,
}

enum Pair {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
}

impl Key {
    pub(crate) fn rsa(id: &'static str) -> Self {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let pair = Pair::Rsa(pair);
        Self { id, pair }
    }

    pub(crate) fn p256(id: &'static str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let pair = Pair::P256(pair);
        Self { id, pair }
    }

    /// The key as providers publish it.
    pub(crate) fn published(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match &self.pair {
            Pair::Rsa(pair) => {
                let (n, e) = numbers(pair.public_key().as_ref());
                json!({"kty": "RSA", "use": "sig", "kid": self.id, "n": text(n), "e": text(e)})
            }
            Pair::P256(pair) => {
                let point = pair.public_key().as_ref();
                let (x, y) = (text(&point[1..33]), text(&point[33..]));
                json!({"kty": "EC", "crv": "P-256", "kid": self.id, "x": x, "y": y})
            }
        }
    }

    /// A token as the algorithm of its header says, also when that makes no sense.
    pub(crate) fn sign(&self, header: &Value, claims: &Value) -> String {
        let text = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", text(header), text(claims));
        let bytes = message.as_bytes();
        let signature = match (header["alg"].as_str(), &self.pair) {
            (Some("HS256"), pair) => {
                let public = match pair {
                    Pair::Rsa(pair) => pair.public_key().as_ref(),
                    Pair::P256(pair) => pair.public_key().as_ref(),
                };
                let key = hmac::Key::new(hmac::HMAC_SHA256, public);
                hmac::sign(&key, bytes).as_ref().to_vec()
            }
            (Some("none"), _) => Vec::new(),
            (_, Pair::P256(pair)) => {
                let signature = pair.sign(&SystemRandom::new(), bytes);
                signature.unwrap().as_ref().to_vec()
            }
            (algorithm, Pair::Rsa(pair)) => {
                let way: &'static dyn RsaEncoding = match algorithm {
                    Some("PS256") => &RSA_PSS_SHA256,
                    _ => &RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(way, &SystemRandom::new(), bytes, &mut signature)
                    .unwrap();
                signature
            }
        };
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// The modulus and the exponent of an RSA public key in DER: a sequence of two numbers.
fn numbers(der: &[u8]) -> (&[u8], &[u8]) {
    fn value<'a>(der: &mut &'a [u8], tag: u8) -> &'a [u8] {
        assert_eq!(der[0], tag);
        let (length, skipped) = match der[1] {
            short @ 0..=127 => (usize::from(short), 2),
            long => {
                let digits = usize::from(long & 127);
                let bytes = der[2..2 + digits].iter();
                let length = bytes.fold(0, |sum, byte| sum * 256 + usize::from(*byte));
                (length, 2 + digits)
            }
        };
        let (inside, rest) = der[skipped..].split_at(length);
        *der = rest;
        inside
    }
    let mut der = der;
    let mut inside = value(&mut der, 0x30);
    (value(&mut inside, 2), value(&mut inside, 2))
}

/// What the provider answers.
#[derive(Default)]
pub(crate) struct Said {
    pub(crate) keys: Vec<Value>,
    /// What it calls itself, when that is not its address.
    pub(crate) issuer: Option<String>,
    /// Where it says that its keys are, when they are not there.
    pub(crate) keys_at: Option<String>,
    /// Instead of keys.
    pub(crate) document: Option<String>,
    /// Instead of 200.
    pub(crate) status: Option<StatusCode>,
    pub(crate) max_age: Option<i64>,
}

struct Shared {
    address: String,
    said: Mutex<Said>,
    asked: AtomicUsize,
}

/// A running provider.
pub(crate) struct Provider {
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Provider {
    pub(crate) async fn start(keys: &[&Key]) -> Provider {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        Self::on(listener, address, keys)
    }

    /// A provider behind TLS, of an authority that no machine knows.
    pub(crate) async fn start_with_tls(keys: &[&Key]) -> Provider {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("https://{}", listener.local_addr().unwrap());
        let certificates: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(SHOWN.as_bytes()).collect();
        let key = PrivateKeyDer::from_pem_slice(SHOWN_KEY.as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(certificates.unwrap(), key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Self::on(Encrypted { listener, acceptor }, address, keys)
    }

    fn on<L>(listener: L, address: String, keys: &[&Key]) -> Provider
    where
        L: Listener<Addr = SocketAddr>,
    {
        let said = Said {
            keys: keys.iter().map(|key| key.published()).collect(),
            ..Said::default()
        };
        let shared = Arc::new(Shared {
            address,
            said: Mutex::new(said),
            asked: AtomicUsize::new(0),
        });
        let router = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&shared));
        let serving = tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
        Provider { shared, serving }
    }

    pub(crate) fn issuer(&self) -> String {
        self.shared.address.clone()
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Said)) {
        change(&mut self.shared.said.lock().unwrap());
    }

    /// How often it was asked to describe itself, which every fetch begins with.
    pub(crate) fn asked(&self) -> usize {
        self.shared.asked.load(Ordering::SeqCst)
    }

    /// What a server needs to know of it.
    pub(crate) fn options(&self) -> OidcOptions {
        let roles = [
            ("tp-admin", Role::Admin),
            ("tp-analyst", Role::Analyst),
            ("tp-reader", Role::Reader),
        ];
        OidcOptions {
            issuer: self.issuer(),
            token_issuer: None,
            audience: "tietopohja".to_owned(),
            algorithms: vec![Algorithm::Rs256, Algorithm::Es256],
            jwks_file: None,
            ca_file: None,
            name_claim: "preferred_username".to_owned(),
            role_claim: "roles".to_owned(),
            roles: roles.map(|(name, role)| (name.to_owned(), role)).into(),
            leeway: Duration::ZERO,
        }
    }

    /// The claims of a good token of a reader, good for a thousand seconds, with some changed; null
    /// takes one away.
    pub(crate) fn claims(&self, changes: &Value) -> Value {
        let mut claims = json!({
            "iss": self.issuer(),
            "aud": "tietopohja",
            "exp": START + 1000,
            "iat": START,
            "sub": "248289761001",
            "preferred_username": "aino",
            "roles": ["tp-reader"],
        });
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let all = claims.as_object_mut().unwrap();
        all.retain(|_, value| !value.is_null());
        claims
    }

    /// A token signed as the key's kind is.
    pub(crate) fn token(&self, key: &Key, changes: &Value) -> String {
        let algorithm = match key.pair {
            Pair::Rsa(_) => "RS256",
            Pair::P256(_) => "ES256",
        };
        let header = json!({"alg": algorithm, "kid": key.id, "typ": "JWT"});
        key.sign(&header, &self.claims(changes))
    }
}

async fn answer(State(shared): State<Arc<Shared>>, uri: Uri) -> Response {
    let discovery = uri.path() == "/.well-known/openid-configuration";
    if discovery {
        shared.asked.fetch_add(1, Ordering::SeqCst);
    }
    let said = shared.said.lock().unwrap();
    if let Some(status) = said.status {
        // Where a redirection would lead to, if it were followed.
        let elsewhere = [(header::LOCATION, format!("{}/keys", shared.address))];
        return (status, elsewhere, "").into_response();
    }
    let address = &shared.address;
    let body = match uri.path() {
        _ if discovery => {
            let keys_at = said.keys_at.clone();
            json!({
                "issuer": said.issuer.as_ref().unwrap_or(address),
                "jwks_uri": keys_at.unwrap_or_else(|| format!("{address}/keys")),
            })
            .to_string()
        }
        "/keys" => match &said.document {
            Some(document) => document.clone(),
            None => json!({ "keys": said.keys }).to_string(),
        },
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    let age = format!("max-age={}", said.max_age.unwrap_or(3600));
    ([(header::CACHE_CONTROL, age)], body).into_response()
}

struct Encrypted {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for Encrypted {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, peer) = self.listener.accept().await.unwrap();
            // A client that does not trust the authority breaks off here.
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, peer);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}
