//! Who gets in, and what each role sees.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::time::Duration;

use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{BasicAuth, HandshakeRequest};
use bytes::Bytes;
use futures::{StreamExt, stream};
use prost::Message;
use tietopohja_policy::Role;
use tietopohja_server::identity::{Users, UsersError};
use tonic::body::Body;
use tonic::codegen::{Body as _, Service as _, http};
use tonic::{Code, Request, Status};

use crate::warehouse::{Client, Server, query};

const PASSWORD: &str = "kolme sanaa peräkkäin";
const USERS: [(&str, Role); 3] = [
    ("aino", Role::Admin),
    ("anni", Role::Analyst),
    ("raija", Role::Reader),
];

struct House {
    server: Server,
    file: PathBuf,
    _folder: tempfile::TempDir,
}

impl House {
    async fn open() -> House {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("users.toml");
        for (name, role) in USERS {
            change(&file, |users| users.add(name, role, PASSWORD, &[1; 16]));
        }
        let users = file.clone();
        let server = Server::start_with(|options| {
            options.users = Some(users);
            options.bearer_lifetime = Duration::from_secs(100);
        })
        .await;
        House {
            server,
            file,
            _folder: folder,
        }
    }

    async fn signed_in(&self, name: &str, password: &str) -> Result<Client, Status> {
        let channel = self.server.channel().await;
        let mut request = Request::new(stream::iter([HandshakeRequest::default()]));
        let header = basic(name, password).parse().unwrap();
        request.metadata_mut().insert("authorization", header);
        let mut raw = FlightServiceClient::new(channel.clone());
        let answer = raw.handshake(request).await?;
        let header = answer.metadata().get("authorization").unwrap();
        let bearer = header.to_str().unwrap().strip_prefix("Bearer ").unwrap();
        let mut client = Client::new(channel);
        client.set_token(bearer.to_owned());
        Ok(client)
    }

    async fn with_header(&self, header: &str) -> Result<Vec<String>, Status> {
        let mut client = self.server.client().await;
        client.set_header("authorization", header);
        Ok(query(&mut client, "SELECT 1 AS one").await?.text())
    }

    fn token(&self, name: &str, expires: Option<i64>) -> String {
        let made = change(&self.file, |users| {
            users.issue_token(name, &[7; 40], 0, expires, "")
        });
        self.server.clock.forward(1);
        made
    }
}

fn change<T>(file: &Path, change: impl FnOnce(&mut Users) -> Result<T, UsersError>) -> T {
    Users::change(file, change).unwrap()
}

fn basic(name: &str, password: &str) -> String {
    use base64::Engine as _;
    let pair = format!("{name}:{password}");
    let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
    format!("Basic {encoded}")
}

#[tokio::test]
async fn each_way_to_say_who_one_is_gets_in_or_does_not() {
    let house = House::open().await;
    let token = house.token("anni", None);
    let cases = [
        (basic("aino", PASSWORD), true),
        (basic("anyone", &token), true),
        (format!("Bearer {token}"), true),
        (format!("bearer {token}"), true),
        (basic("aino", "wrong"), false),
        (basic("nobody", PASSWORD), false),
        (basic("", ""), false),
        ("Basic %%%".to_owned(), false),
        (format!("Bearer {token}0"), false),
        ("Bearer eyJhbGciOiJub25lIn0.e30.".to_owned(), false),
        ("Bearer tietopohja1-00".to_owned(), false),
        ("Negotiate abc".to_owned(), false),
        (String::new(), false),
    ];
    for (header, good) in cases {
        match house.with_header(&header).await {
            Ok(text) => assert!(good && text == ["one", "1"], "{header}: {text:?}"),
            Err(error) => {
                assert!(
                    !good && error.code() == Code::Unauthenticated,
                    "{header}: {error}"
                );
                assert!(!error.message().contains(PASSWORD), "{error}");
            }
        }
    }
    let error = query(&mut house.server.client().await, "SELECT 1")
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::Unauthenticated);
    assert!(error.message().contains("sign in"), "{error}");
}

/// The status of a call whose message is announced as 48 MiB and never comes.
async fn status_before_the_message(house: &House, call: &str, header: Option<&str>) -> String {
    let head = Bytes::from([&[0][..], &(48u32 << 20).to_be_bytes()].concat());
    let body = stream::iter([Ok::<_, Infallible>(head)]).chain(stream::pending());
    let body = Body::new(axum::body::Body::from_stream(body));
    let mut request = http::Request::post(format!("/arrow.flight.protocol.FlightService/{call}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    if let Some(header) = header {
        request = request.header("authorization", header);
    }
    let mut channel = house.server.channel().await;
    std::future::poll_fn(|context| channel.poll_ready(context))
        .await
        .unwrap();
    let answer = channel.call(request.body(body).unwrap()).await.unwrap();
    let (head, mut body) = answer.into_parts();
    let status = |headers: &http::HeaderMap| {
        let status = headers.get("grpc-status")?.to_str().unwrap();
        Some(status.to_owned())
    };
    if let Some(status) = status(&head.headers) {
        return status;
    }
    while let Some(frame) =
        std::future::poll_fn(|context| std::pin::Pin::new(&mut body).poll_frame(context)).await
    {
        if let Some(trailers) = frame.unwrap().trailers_ref() {
            return status(trailers).unwrap();
        }
    }
    panic!("no status")
}

#[tokio::test]
async fn a_stranger_is_turned_away_before_the_message_is_read() {
    let house = House::open().await;
    let wrong = basic("aino", "wrong");
    for call in [
        "GetFlightInfo",
        "DoAction",
        "DoGet",
        "DoPut",
        "PollFlightInfo",
    ] {
        for header in [None, Some("Bearer tietopohja1-00"), Some(wrong.as_str())] {
            let status = status_before_the_message(&house, call, header);
            let status = tokio::time::timeout(Duration::from_secs(60), status).await;
            assert_eq!(status.unwrap(), "16", "{call} {header:?}");
            house.server.clock.forward(1_000);
        }
    }
    // Who signs in has little to say; the length alone is too much.
    let status = status_before_the_message(&house, "Handshake", None);
    let status = tokio::time::timeout(Duration::from_secs(60), status).await;
    assert_ne!(status.unwrap(), "0");
    assert!(house.signed_in("aino", PASSWORD).await.is_ok());
}

#[tokio::test]
async fn the_message_of_a_handshake_may_carry_the_password() {
    let house = House::open().await;
    let mut client = FlightServiceClient::new(house.server.channel().await);
    for (name, password, good) in [
        ("anni", PASSWORD, true),
        ("anni", "wrong", false),
        ("", "", false),
    ] {
        let payload = BasicAuth {
            username: name.to_owned(),
            password: password.to_owned(),
        };
        let hello = HandshakeRequest {
            protocol_version: 0,
            payload: payload.encode_to_vec().into(),
        };
        let answer = client.handshake(Request::new(stream::iter([hello]))).await;
        match answer {
            Ok(response) => {
                assert!(good, "{name} {password}");
                let header = response
                    .metadata()
                    .get("authorization")
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned();
                let first = response.into_inner().next().await.unwrap().unwrap();
                let bearer = String::from_utf8(first.payload.to_vec()).unwrap();
                assert_eq!(header, format!("Bearer {bearer}"));
                assert_eq!(house.with_header(&header).await.unwrap(), ["one", "1"]);
            }
            Err(error) => assert!(!good && error.code() == Code::Unauthenticated, "{error}"),
        }
    }
}

#[tokio::test]
async fn a_bearer_lives_until_its_time_ends_or_its_user_changes() {
    let house = House::open().await;
    let sign_in = async |name: &str| house.signed_in(name, PASSWORD).await.unwrap();
    let (mut aino, mut anni, mut raija) = (
        sign_in("aino").await,
        sign_in("anni").await,
        sign_in("raija").await,
    );
    change(&house.file, |users| users.revoke("anni"));
    change(&house.file, |users| {
        users.set_password("raija", "toinen pitkä sana", &[2; 16])
    });
    house.server.clock.forward(1);
    for client in [&mut anni, &mut raija] {
        let error = query(client, "SELECT 1").await.unwrap_err();
        assert_eq!(error.code(), Code::Unauthenticated, "{error}");
    }
    house.server.clock.forward(98);
    query(&mut aino, "SELECT 1").await.unwrap();
    house.server.clock.forward(1);
    let error = query(&mut aino, "SELECT 1").await.unwrap_err();
    assert_eq!(error.code(), Code::Unauthenticated, "{error}");
    assert!(house.signed_in("raija", PASSWORD).await.is_err());
    assert!(house.signed_in("raija", "toinen pitkä sana").await.is_ok());
}

#[tokio::test]
async fn guessing_is_told_to_wait() {
    let house = House::open().await;
    for name in ["anni", "nobody"] {
        for _ in 0..6 {
            let error = house.signed_in(name, "wrong").await.err().unwrap();
            assert_eq!(error.code(), Code::Unauthenticated, "{error}");
        }
        let error = house.signed_in(name, PASSWORD).await.err().unwrap();
        assert_eq!(error.code(), Code::ResourceExhausted, "{error}");
        assert_eq!(
            error.message(),
            "too many attempts; wait 2 seconds",
            "{name}"
        );
    }
    house.server.clock.forward(2);
    assert!(house.signed_in("anni", PASSWORD).await.is_ok());
}

#[tokio::test]
async fn each_role_sees_its_schemas_through_every_door() {
    let house = House::open().await;
    let mut grid = Vec::new();
    for (name, role) in USERS {
        let mut client = house.signed_in(name, PASSWORD).await.unwrap();
        let listed = query(
            &mut client,
            "SELECT DISTINCT table_schema FROM information_schema.tables ORDER BY 1",
        );
        let listed = listed.await.unwrap().text();
        for schema in ["reference", "conformed"] {
            let table = if schema == "reference" {
                "number"
            } else {
                "secret"
            };
            let rows = query(
                &mut client,
                &format!("SELECT n FROM {schema}.{table} LIMIT 1"),
            )
            .await;
            let plan = query(
                &mut client,
                &format!("EXPLAIN SELECT n FROM {schema}.{table}"),
            )
            .await;
            if let Err(error) = &rows {
                assert!(!error.message().contains("generate_series"), "{error}");
            }
            grid.push(format!(
                "{role} {schema}: listed {}, read {}, explained {}",
                listed.iter().any(|one| one == schema),
                rows.is_ok(),
                plan.is_ok(),
            ));
        }
    }
    let line = |role: &str, schema: &str, sees: bool| {
        format!("{role} {schema}: listed {sees}, read {sees}, explained {sees}")
    };
    let expected = [
        line("admin", "reference", true),
        line("admin", "conformed", true),
        line("analyst", "reference", true),
        line("analyst", "conformed", true),
        line("reader", "reference", true),
        line("reader", "conformed", false),
    ];
    assert_eq!(grid, expected, "\n{}", grid.join("\n"));
}

#[tokio::test]
async fn a_session_that_a_token_opened_ends_with_the_token() {
    let house = House::open().await;
    let token = house.token("anni", None);
    let mut client = house.signed_in("anyone", &token).await.unwrap();
    query(&mut client, "SELECT 1 AS one").await.unwrap();
    // The mark, the id, the secret.
    let id = token.split('_').nth(1).unwrap();
    change(&house.file, |users| users.revoke(id));
    house.server.clock.forward(1);
    let error = query(&mut client, "SELECT 1 AS one").await.unwrap_err();
    assert_eq!(error.code(), Code::Unauthenticated, "{error}");
}
