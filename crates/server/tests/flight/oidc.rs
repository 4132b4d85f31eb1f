//! Sign-in with tokens of an identity provider, against a little one in this process.

use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{BasicAuth, HandshakeRequest};
use axum::http::StatusCode;
use base64::Engine as _;
use futures::future::join_all;
use futures::stream;
use prost::Message;
use serde_json::{Value, json};
use tietopohja_policy::Role;
use tietopohja_server::identity::{Algorithm, Users};
use tietopohja_server::{ServeOptions, StatementRecord, TlsFiles};
use tonic::{Code, Request, Status};

use crate::provider::{AUTHORITY, Key, Provider, START, STRANGE_AUTHORITY};
use crate::warehouse::{Client, Server, query};

static OLD: LazyLock<Key> = LazyLock::new(|| Key::rsa("old"));
static NEW: LazyLock<Key> = LazyLock::new(|| Key::rsa("new"));
static CURVE: LazyLock<Key> = LazyLock::new(|| Key::p256("curve"));
static STRANGER: LazyLock<Key> = LazyLock::new(|| Key::rsa("old"));

/// Long after everything in these tests.
const FAR: i64 = START + 10_000_000;

struct House {
    provider: Provider,
    server: Server,
}

impl House {
    async fn open() -> House {
        Self::open_with(|_| ()).await
    }

    /// A server that knows its users by a provider with the key `OLD`.
    async fn open_with(change: impl FnOnce(&mut ServeOptions)) -> House {
        Self::with(Provider::start(&[&OLD]).await, change).await
    }

    async fn with(provider: Provider, change: impl FnOnce(&mut ServeOptions)) -> House {
        let oidc = provider.options();
        let server = Server::start_with(|options| {
            options.oidc = Some(oidc);
            change(options);
        })
        .await;
        House { provider, server }
    }

    async fn with_header(&self, header: &str) -> Result<Vec<String>, Status> {
        let mut client = self.server.client().await;
        client.set_header("authorization", header);
        Ok(query(&mut client, "SELECT 1 AS one").await?.text())
    }

    /// What a call with a token is answered.
    async fn answer(&self, token: &str) -> Code {
        match self.with_header(&format!("Bearer {token}")).await {
            Ok(text) => {
                assert_eq!(text, ["one", "1"]);
                Code::Ok
            }
            Err(error) => error.code(),
        }
    }

    /// Signs in with a header: a client with its bearer, and the bearer.
    async fn signed_in(&self, header: &str) -> Result<(Client, String), Status> {
        let mut request = Request::new(stream::iter([HandshakeRequest::default()]));
        let header = header.parse().unwrap();
        request.metadata_mut().insert("authorization", header);
        self.hello(request).await
    }

    async fn hello(
        &self,
        request: Request<impl stream::Stream<Item = HandshakeRequest> + Send + 'static>,
    ) -> Result<(Client, String), Status> {
        let channel = self.server.channel().await;
        let answer = FlightServiceClient::new(channel.clone())
            .handshake(request)
            .await?;
        let header = answer.metadata().get("authorization").unwrap();
        let bearer = header.to_str().unwrap().strip_prefix("Bearer ").unwrap();
        assert!(bearer.starts_with("tietopohja1-"), "a bearer of our own");
        let mut client = Client::new(channel);
        client.set_token(bearer.to_owned());
        Ok((client, bearer.to_owned()))
    }
}

fn basic(name: &str, password: &str) -> String {
    let pair = format!("{name}:{password}");
    let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
    format!("Basic {encoded}")
}

#[tokio::test]
async fn a_token_gets_in_on_every_way_that_clients_have() {
    let provider = Provider::start(&[&OLD, &CURVE]).await;
    let house = House::with(provider, |options| {
        let oidc = options.oidc.as_mut().unwrap();
        oidc.algorithms.push(Algorithm::Ps256);
    })
    .await;
    let pss = json!({"alg": "PS256", "kid": "old"});
    let tokens = [
        house.provider.token(&OLD, &json!({})),
        house.provider.token(&CURVE, &json!({})),
        OLD.sign(&pss, &house.provider.claims(&json!({}))),
    ];
    for token in tokens {
        let headers = [
            format!("Bearer {token}"),
            format!("bearer {token}"),
            basic("anyone", &token),
            basic("", &token),
        ];
        for header in headers {
            let text = house.with_header(&header).await.unwrap();
            assert_eq!(text, ["one", "1"], "{header}");
            let (mut client, _) = house.signed_in(&header).await.unwrap();
            query(&mut client, "SELECT 1 AS one").await.unwrap();
        }
        let payload = BasicAuth {
            username: "anyone".to_owned(),
            password: token,
        };
        let hello = HandshakeRequest {
            protocol_version: 0,
            payload: payload.encode_to_vec().into(),
        };
        let request = Request::new(stream::iter([hello]));
        let (mut client, _) = house.hello(request).await.unwrap();
        query(&mut client, "SELECT 1 AS one").await.unwrap();
    }
    assert_eq!(house.provider.asked(), 1, "keys are asked for once");
}

#[tokio::test]
async fn a_bad_token_is_refused_with_what_to_do_and_without_what_it_says() {
    let house = House::open().await;
    let provider = &house.provider;
    let claims = |changes: Value| provider.token(&OLD, &changes);
    let header = |header: Value| OLD.sign(&header, &provider.claims(&json!({})));
    let good = claims(json!({}));
    let tampered = {
        let parts: Vec<&str> = good.split('.').collect();
        let admin = claims(json!({"roles": ["tp-admin"]}));
        let other: Vec<&str> = admin.split('.').collect();
        format!("{}.{}.{}", parts[0], other[1], parts[2])
    };
    let secret = "salaisuus";
    let not_ours = "has not signed this token";
    let cases = [
        ("expired", claims(json!({"exp": START})), "has expired"),
        (
            "not yet",
            claims(json!({"nbf": START + 1})),
            "not valid yet",
        ),
        (
            "of tomorrow",
            claims(json!({"iat": START + 1})),
            "not valid yet",
        ),
        (
            "audience",
            claims(json!({"aud": secret})),
            "another service",
        ),
        (
            "no audience",
            claims(json!({"aud": null})),
            "another service",
        ),
        ("issuer", claims(json!({"iss": secret})), "another issuer"),
        ("no end", claims(json!({"exp": null})), "until when"),
        (
            "ID token",
            claims(json!({"typ": "ID"})),
            "not an access token",
        ),
        (
            "alg none",
            header(json!({"alg": "none", "kid": "old"})),
            not_ours,
        ),
        (
            "public key as secret",
            header(json!({"alg": "HS256", "kid": "old"})),
            not_ours,
        ),
        (
            "PS256 is not allowed",
            header(json!({"alg": "PS256", "kid": "old"})),
            not_ours,
        ),
        (
            "RSA as ES256",
            header(json!({"alg": "ES256", "kid": "old"})),
            not_ours,
        ),
        (
            "unknown key",
            header(json!({"alg": "RS256", "kid": secret})),
            not_ours,
        ),
        (
            "critical",
            header(json!({"alg": "RS256", "kid": "old", "crit": ["x"]})),
            not_ours,
        ),
        ("stranger", provider.token(&STRANGER, &json!({})), not_ours),
        ("tampered", tampered, not_ours),
        ("cut", good[..good.len() - 4].to_owned(), not_ours),
        (
            "no signature",
            format!("{}.", good.rsplit_once('.').unwrap().0),
            not_ours,
        ),
        (
            "nobody",
            claims(json!({"sub": null, "preferred_username": 3})),
            "names nobody",
        ),
        ("no role", claims(json!({"roles": [secret]})), "no role"),
        ("no roles", claims(json!({"roles": null})), "no role"),
    ];
    for (case, token, expected) in cases {
        let denied = ["names nobody", "no role"].contains(&expected);
        let code = if denied {
            Code::PermissionDenied
        } else {
            Code::Unauthenticated
        };
        let bearer = format!("Bearer {token}");
        let direct = house.with_header(&bearer).await.unwrap_err();
        let signing_in = house.signed_in(&basic("aino", &token)).await.err().unwrap();
        for error in [direct, signing_in] {
            let text = error.message();
            assert_eq!(error.code(), code, "{case}: {error}");
            assert!(text.contains(expected), "{case}: {text}");
            assert!(text.contains("(error id "), "{case}: {text}");
            for hidden in [secret, "eyJ", "aino", "24828"] {
                assert!(!text.contains(hidden), "{case}: {text}");
            }
        }
    }
    assert_eq!(house.answer(&good).await, Code::Ok);
}

#[tokio::test]
async fn large_tokens_are_taken_as_far_as_requests_carry_them() {
    let house = House::open().await;
    let groups = |count: usize| {
        let groups: Vec<String> = (0..count)
            .map(|number| format!("group-{number:05}"))
            .collect();
        house.provider.token(&OLD, &json!({ "groups": groups }))
    };
    let token = groups(4000);
    assert!(token.len() > 64 * 1024, "{}", token.len());
    assert_eq!(house.answer(&token).await, Code::Ok);
    // Only the message of a handshake has room for more.
    let payload = BasicAuth {
        username: "anyone".to_owned(),
        password: groups(10_000),
    };
    let hello = HandshakeRequest {
        protocol_version: 0,
        payload: payload.encode_to_vec().into(),
    };
    let error = house.hello(Request::new(stream::iter([hello]))).await;
    let error = error.err().unwrap();
    assert_eq!(error.code(), Code::Unauthenticated, "{error}");
}

#[tokio::test]
async fn a_new_key_is_found_and_a_dropped_one_is_no_longer_good() {
    let house = House::open().await;
    let [old, new] = [&*OLD, &*NEW].map(|key| house.provider.token(key, &json!({})));
    assert_eq!(house.answer(&old).await, Code::Ok);
    house
        .provider
        .change(|said| said.keys = vec![NEW.published()]);
    assert_eq!(house.answer(&old).await, Code::Ok, "nobody has asked since");
    let early = house.answer(&new).await;
    assert_eq!(
        early,
        Code::Unauthenticated,
        "keys were asked for a moment ago"
    );
    assert_eq!(house.provider.asked(), 1);
    house.server.clock.forward(30);
    assert_eq!(house.answer(&new).await, Code::Ok);
    assert_eq!(house.answer(&old).await, Code::Unauthenticated);
    assert_eq!(house.provider.asked(), 2);
}

#[tokio::test]
async fn made_up_keys_make_nobody_ask_often() {
    let house = House::open().await;
    let claims = house.provider.claims(&json!({}));
    let header = |number: usize| json!({"alg": "RS256", "kid": format!("made up {number}")});
    let token = |number| STRANGER.sign(&header(number), &claims);
    for asked in [1, 2, 3] {
        let tokens: Vec<String> = (0..16).map(token).collect();
        let answers = join_all(tokens.iter().map(|token| house.answer(token))).await;
        assert_eq!(answers, [Code::Unauthenticated; 16]);
        assert_eq!(house.provider.asked(), asked);
        house.server.clock.forward(30);
    }
}

#[tokio::test]
async fn keys_are_renewed_while_the_old_ones_serve() {
    let provider = Provider::start(&[&OLD]).await;
    provider.change(|said| said.max_age = Some(600));
    let house = House::with(provider, |_| ()).await;
    let [old, new] = [&*OLD, &*NEW].map(|key| house.provider.token(key, &json!({})));
    assert_eq!(house.answer(&old).await, Code::Ok);
    house.server.clock.forward(599);
    assert_eq!(house.answer(&old).await, Code::Ok);
    assert_eq!(house.provider.asked(), 1, "keys are still fresh");
    let both = vec![OLD.published(), NEW.published()];
    house.provider.change(|said| said.keys = both);
    house.server.clock.forward(1);
    assert_eq!(house.answer(&old).await, Code::Ok);
    // Waits for the look that the call before began.
    assert_eq!(house.answer(&new).await, Code::Ok);
    assert_eq!(house.provider.asked(), 2);
}

#[tokio::test]
async fn without_keys_nobody_is_called_wrong() {
    let provider = Provider::start(&[&OLD]).await;
    provider.change(|said| said.status = Some(StatusCode::SERVICE_UNAVAILABLE));
    let house = House::with(provider, |_| ()).await;
    let token = house.provider.token(&OLD, &json!({}));
    let error = house.with_header(&format!("Bearer {token}")).await;
    let error = error.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    assert!(error.message().contains("cannot be reached"), "{error}");
    assert_eq!(house.answer("eyJ.eyJ.x").await, Code::Unauthenticated);
    house.provider.change(|said| said.status = None);
    assert_eq!(house.answer(&token).await, Code::Unavailable, "not at once");
    house.server.clock.forward(5);
    assert_eq!(house.answer(&token).await, Code::Ok);
}

#[tokio::test]
async fn keys_serve_for_a_day_when_no_newer_can_be_had() {
    let provider = Provider::start(&[&OLD]).await;
    provider.change(|said| said.max_age = Some(600));
    let house = House::with(provider, |_| ()).await;
    let far = json!({"exp": FAR});
    let [old, new] = [&*OLD, &*NEW].map(|key| house.provider.token(key, &far));
    assert_eq!(house.answer(&old).await, Code::Ok);
    let down = Some(StatusCode::BAD_GATEWAY);
    house.provider.change(|said| said.status = down);
    for forward in [599, 1, 3600, 86_400 - 3601] {
        house.server.clock.forward(forward);
        assert_eq!(house.answer(&old).await, Code::Ok);
    }
    let answer = house.answer(&new).await;
    assert_eq!(
        answer,
        Code::Unavailable,
        "whether the key is good is not known"
    );
    house.server.clock.forward(1);
    assert_eq!(house.answer(&old).await, Code::Unavailable);
    house.provider.change(|said| said.status = None);
    house.server.clock.forward(30);
    assert_eq!(house.answer(&old).await, Code::Ok);
}

#[tokio::test]
async fn a_provider_that_is_not_what_it_should_be_gives_no_keys() {
    let cases: [(&str, fn(&Provider)); 7] = [
        ("another issuer", |provider| {
            let issuer = format!("{}/", provider.issuer());
            provider.change(|said| said.issuer = Some(issuer));
        }),
        ("keys that anyone can change", |provider| {
            provider.change(|said| said.keys_at = Some("http://id.example.fi/keys".to_owned()));
        }),
        ("keys in a file", |provider| {
            provider.change(|said| said.keys_at = Some("file:///etc/passwd".to_owned()));
        }),
        ("a redirection", |provider| {
            provider.change(|said| said.status = Some(StatusCode::FOUND));
        }),
        ("no keys", |provider| {
            provider.change(|said| said.keys.clear())
        }),
        ("no document", |provider| {
            provider.change(|said| said.document = Some("<html>".to_owned()));
        }),
        ("a document without end", |provider| {
            let keys = json!({ "keys": [OLD.published()] }).to_string();
            let padded = format!("{keys}{}", " ".repeat(2 * 1024 * 1024));
            provider.change(|said| said.document = Some(padded));
        }),
    ];
    for (case, change) in cases {
        let provider = Provider::start(&[&OLD]).await;
        change(&provider);
        let house = House::with(provider, |_| ()).await;
        let token = house.provider.token(&OLD, &json!({}));
        assert_eq!(house.answer(&token).await, Code::Unavailable, "{case}");
    }
}

#[tokio::test]
async fn a_session_ends_with_the_token_and_is_not_renewed_beyond() {
    let lifetime = |options: &mut ServeOptions| options.bearer_lifetime = Duration::from_secs(100);
    let house = House::open_with(lifetime).await;
    let token = |seconds: i64| house.provider.token(&OLD, &json!({"exp": START + seconds}));
    let bearer = |token: &str| format!("Bearer {token}");
    let (mut short, first) = house.signed_in(&bearer(&token(50))).await.unwrap();
    let (mut long, other) = house.signed_in(&bearer(&token(1000))).await.unwrap();
    house.server.clock.forward(49);
    let (mut renewed, second) = house.signed_in(&bearer(&first)).await.unwrap();
    for client in [&mut short, &mut renewed, &mut long] {
        query(client, "SELECT 1 AS one").await.unwrap();
    }
    house.server.clock.forward(1);
    for client in [&mut short, &mut renewed] {
        let error = query(client, "SELECT 1 AS one").await.unwrap_err();
        assert_eq!(error.code(), Code::Unauthenticated, "{error}");
        assert!(error.message().contains("sign in again"), "{error}");
    }
    for ended in [first, second] {
        let error = house.signed_in(&bearer(&ended)).await.err().unwrap();
        assert_eq!(error.code(), Code::Unauthenticated, "{error}");
    }
    house.server.clock.forward(49);
    let (mut later, _) = house.signed_in(&bearer(&other)).await.unwrap();
    house.server.clock.forward(1);
    let error = query(&mut long, "SELECT 1 AS one").await.unwrap_err();
    assert_eq!(error.code(), Code::Unauthenticated, "{error}");
    query(&mut later, "SELECT 1 AS one").await.unwrap();
}

#[tokio::test]
async fn the_role_of_the_provider_decides_what_is_seen() {
    let house = House::open().await;
    let cases = [
        (json!(["x", "tp-admin"]), true),
        (json!("tp-analyst"), true),
        (json!(["tp-reader", "tp-analyst"]), true),
        (json!(["tp-reader"]), false),
    ];
    for (roles, sees) in cases {
        let token = house.provider.token(&OLD, &json!({"roles": roles}));
        let header = format!("Bearer {token}");
        let (session, _) = house.signed_in(&header).await.unwrap();
        let mut direct = house.server.client().await;
        direct.set_header("authorization", header);
        for mut client in [session, direct] {
            query(&mut client, "SELECT n FROM reference.number LIMIT 1")
                .await
                .unwrap();
            let secret = query(&mut client, "SELECT n FROM conformed.secret LIMIT 1").await;
            assert_eq!(secret.is_ok(), sees, "{roles}");
            let listed = query(&mut client, "SHOW TABLES").await.unwrap().text();
            let listed = listed.iter().any(|line| line.contains("secret"));
            assert_eq!(listed, sees, "{roles}");
        }
    }
}

const PASSWORD: &str = "kolme sanaa peräkkäin";

#[tokio::test]
async fn users_of_the_list_and_of_the_provider_are_never_taken_for_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("users.toml");
    let token = Users::change(&file, |users| {
        users.add("aino", Role::Admin, PASSWORD, &[1; 16])?;
        users.issue_token("aino", &[7; 40], 0, None, "")
    })
    .unwrap();
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = Arc::clone(&seen);
    let house = House::open_with(move |options| {
        options.users = Some(file);
        options.audit = Some(Arc::new(move |record: &StatementRecord| {
            let who = format!("{} ({})", record.principal, record.role);
            kept.lock().unwrap().push(who);
        }));
    })
    .await;
    let provided = house.provider.token(&OLD, &json!({}));
    let headers = [
        (basic("aino", PASSWORD), "aino (admin)"),
        (format!("Bearer {token}"), "aino (admin)"),
        (basic("anyone", &token), "aino (admin)"),
        (format!("Bearer {provided}"), "oidc:aino (reader)"),
        (basic("aino", &provided), "oidc:aino (reader)"),
    ];
    for (header, expected) in headers {
        let (session, _) = house.signed_in(&header).await.unwrap();
        let mut direct = house.server.client().await;
        direct.set_header("authorization", header);
        for mut client in [session, direct] {
            // What cannot be planned is recorded before it is answered.
            query(&mut client, "SELECT 1 FROM nowhere")
                .await
                .unwrap_err();
            let seen = std::mem::take(&mut *seen.lock().unwrap());
            assert_eq!(seen, [expected]);
        }
    }
    // A ticket of one does nothing for the other.
    let mut aino = house.server.client().await;
    aino.set_header("authorization", basic("aino", PASSWORD));
    let info = aino
        .execute("SELECT 1 AS one".to_owned(), None)
        .await
        .unwrap();
    let mut other = house.server.client().await;
    other.set_header("authorization", format!("Bearer {provided}"));
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    assert!(other.do_get(ticket).await.is_err());
}

#[tokio::test]
async fn bad_tokens_lock_nobody_out() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("users.toml");
    Users::change(&file, |users| {
        users.add("aino", Role::Reader, PASSWORD, &[1; 16])
    })
    .unwrap();
    let house = House::open_with(|options| options.users = Some(file)).await;
    let bad = house.provider.token(&STRANGER, &json!({}));
    for _ in 0..40 {
        let error = house.with_header(&basic("aino", &bad)).await.unwrap_err();
        assert_eq!(error.code(), Code::Unauthenticated, "{error}");
    }
    let good = house.provider.token(&OLD, &json!({}));
    for header in [basic("aino", PASSWORD), format!("Bearer {good}")] {
        house.with_header(&header).await.unwrap();
    }
}

#[tokio::test]
async fn without_a_list_only_tokens_of_the_provider_get_in() {
    let house = House::open().await;
    let cases = [
        (String::new(), "access token"),
        (basic("aino", PASSWORD), "access token"),
        (basic("", ""), "access token"),
        ("Bearer tietopohja_0123_abc".to_owned(), "unknown"),
        ("Bearer tietopohja1-00".to_owned(), "sign in again"),
        ("Bearer x".to_owned(), "unknown"),
    ];
    for (header, expected) in cases {
        let error = house.with_header(&header).await.unwrap_err();
        assert_eq!(error.code(), Code::Unauthenticated, "{header}: {error}");
        assert!(error.message().contains(expected), "{header}: {error}");
    }
    let hello = Request::new(stream::iter([HandshakeRequest::default()]));
    let error = house.hello(hello).await.err().unwrap();
    assert_eq!(error.code(), Code::Unauthenticated, "{error}");
    assert!(error.message().contains("access token"), "{error}");
}

#[tokio::test]
async fn keys_of_a_file_need_no_provider_and_are_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    let write = |key: &Key| {
        let keys = json!({ "keys": [key.published()] });
        std::fs::write(&file, keys.to_string()).unwrap();
    };
    write(&OLD);
    let house = House::open_with(|options| {
        options.oidc.as_mut().unwrap().jwks_file = Some(file.clone());
    })
    .await;
    let [old, new] = [&*OLD, &*NEW].map(|key| house.provider.token(key, &json!({})));
    assert_eq!(house.answer(&old).await, Code::Ok);
    write(&NEW);
    assert_eq!(house.answer(&new).await, Code::Unauthenticated);
    house.server.clock.forward(30);
    assert_eq!(house.answer(&new).await, Code::Ok);
    assert_eq!(house.answer(&old).await, Code::Unauthenticated);
    assert_eq!(house.provider.asked(), 0);
}

#[tokio::test]
async fn a_provider_of_a_private_authority_is_trusted_by_that_authority_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("authority.pem");
    std::fs::write(&file, AUTHORITY).unwrap();
    let provider = Provider::start_with_tls(&[&OLD]).await;
    let house = House::with(provider, |options| {
        options.oidc.as_mut().unwrap().ca_file = Some(file);
    })
    .await;
    let token = house.provider.token(&OLD, &json!({}));
    assert_eq!(house.answer(&token).await, Code::Ok);

    // An authority that did not sign what the provider shows.
    let other = folder.path().join("other.pem");
    std::fs::write(&other, STRANGE_AUTHORITY).unwrap();
    let provider = Provider::start_with_tls(&[&OLD]).await;
    let house = House::with(provider, |options| {
        options.oidc.as_mut().unwrap().ca_file = Some(other);
    })
    .await;
    let token = house.provider.token(&OLD, &json!({}));
    assert_eq!(house.answer(&token).await, Code::Unavailable);
}

#[tokio::test]
async fn a_provider_and_tls_let_the_door_listen_on_every_address() {
    let files = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/tls");
    // Were it refused, this would fail.
    House::open_with(|options| {
        options.flight.set_ip([0, 0, 0, 0].into());
        options.tls = Some(TlsFiles {
            certificate: files.join("server.pem"),
            key: files.join("server.key"),
            client_ca: None,
        });
    })
    .await;
}
