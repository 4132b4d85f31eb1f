//! TLS: who proves what to whom, and what may be reached from where.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tietopohja_policy::Role;
use tietopohja_server::identity::Users;
use tietopohja_server::{ServeError, ServeOptions, TlsError, TlsFiles};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::Code;

use crate::health::get_over;
use crate::warehouse::{Server, clock, connected, engine, query, status};

const PASSWORD: &str = "kolme sanaa peräkkäin";

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../testdata/tls")
        .join(name)
}

fn files(certificate: &str, key: &str, client_ca: Option<&str>) -> TlsFiles {
    TlsFiles {
        certificate: file(certificate),
        key: file(key),
        client_ca: client_ca.map(file),
    }
}

/// A TLS connection whose client trusts an authority and may show a certificate of its own.
async fn dial(
    address: SocketAddr,
    protocol: &str,
    trusted: &str,
    own: Option<&str>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(file(trusted)).unwrap())
        .unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match own {
        None => config.with_no_client_auth(),
        Some(name) => {
            let chain = CertificateDer::from_pem_file(file(&format!("{name}.pem"))).unwrap();
            let key = PrivateKeyDer::from_pem_file(file(&format!("{name}.key"))).unwrap();
            config.with_client_auth_cert(vec![chain], key).unwrap()
        }
    };
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

#[tokio::test]
async fn rows_come_over_tls_and_a_client_that_trusts_another_authority_does_not_connect() {
    let server = Server::start_with(|options| {
        options.tls = Some(files("server.pem", "server.key", None));
    })
    .await;
    let trusting = dial(server.address, "h2", "authority.pem", None).await;
    let mut client = connected(trusting.unwrap()).await;
    client.handshake("anyone", "anything").await.unwrap();
    let answer = query(&mut client, "SELECT count(*) AS n FROM reference.number");
    assert_eq!(answer.await.unwrap().text(), ["n", "100000"]);

    let refused = dial(server.address, "h2", "stranger.pem", None).await;
    assert!(refused.is_err());
    let other_protocol = dial(server.address, "postgresql", "authority.pem", None).await;
    assert!(other_protocol.is_err());
    // A client without TLS is not understood.
    let plain = server.channel().await;
    let mut plain = crate::warehouse::Client::new(plain);
    let refused = plain.handshake("anyone", "anything").await.unwrap_err();
    assert_ne!(status(refused).code(), Code::Ok);
}

#[tokio::test]
async fn a_client_without_the_wanted_certificate_says_nothing() {
    let server = Server::start_with(|options| {
        options.tls = Some(files("server.pem", "server.key", Some("authority.pem")));
    })
    .await;
    let known = dial(server.address, "h2", "authority.pem", Some("client")).await;
    let mut client = connected(known.unwrap()).await;
    client.handshake("anyone", "anything").await.unwrap();
    query(&mut client, "SELECT 1").await.unwrap();

    // A server's certificate is not a client's.
    for own in [None, Some("server")] {
        // The client's side of the handshake ends before the server has looked at the certificate.
        let Ok(mut stream) = dial(server.address, "h2", "authority.pem", own).await else {
            continue;
        };
        let mut bytes = Vec::new();
        let read = stream.read_to_end(&mut bytes).await;
        assert!(read.is_err() && bytes.is_empty(), "{own:?}");
    }
}

#[tokio::test]
async fn a_slow_handshake_holds_nobody_up() {
    let server = Server::start_with(|options| {
        options.tls = Some(files("server.pem", "server.key", None));
    })
    .await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(server.address).await.unwrap());
    }
    let stream = dial(server.address, "h2", "authority.pem", None).await;
    let mut client = connected(stream.unwrap()).await;
    client.handshake("anyone", "anything").await.unwrap();
    query(&mut client, "SELECT 1").await.unwrap();
}

#[tokio::test]
async fn files_that_cannot_be_used_stop_the_start_and_are_named() {
    let clock = clock();
    let (folder, engine) = engine(clock.clone()).await;
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "nothing\n").unwrap();
    let missing = folder.path().join("missing.pem");
    let good = files("server.pem", "server.key", None);
    let cases = [
        (
            TlsFiles {
                certificate: missing.clone(),
                ..good.clone()
            },
            "cannot read",
        ),
        (
            TlsFiles {
                certificate: empty.clone(),
                ..good.clone()
            },
            "empty.pem` holds no certificate",
        ),
        (
            TlsFiles {
                key: file("server.pem"),
                ..good.clone()
            },
            "server.pem` holds no private key",
        ),
        (
            TlsFiles {
                client_ca: Some(empty.clone()),
                ..good.clone()
            },
            "empty.pem` holds no certificate",
        ),
        (files("server.pem", "renewed.key", None), "cannot be used"),
    ];
    for (files, wanted) in cases {
        let change = |options: &mut ServeOptions| options.tls = Some(files.clone());
        let refused = Server::on(Arc::clone(&engine), clock.clone(), change).await;
        let Err(ServeError::Tls(error)) = refused else {
            panic!("{files:?} was taken")
        };
        assert!(error.to_string().contains(wanted), "{error}");
        if wanted == "cannot read" {
            assert!(matches!(error, TlsError::Read { .. }), "{error:?}");
        }
    }
}

#[tokio::test]
async fn an_address_that_others_can_reach_needs_tls_and_users() {
    let clock = clock();
    let (folder, engine) = engine(clock.clone()).await;
    let list = folder.path().join("users.toml");
    let add = |users: &mut Users| users.add("anni", Role::Analyst, PASSWORD, &[1; 16]);
    let with_token = |users: &mut Users| {
        add(users)?;
        users.issue_token("anni", &[7; 40], 0, None, "")
    };
    let token = Users::change(&list, with_token).unwrap();
    let everywhere = SocketAddr::from(([0, 0, 0, 0], 0));
    let tls = Some(files("server.pem", "server.key", None));
    for (tls, users, missing) in [
        (None, None, "no TLS"),
        (None, Some(list.clone()), "no TLS"),
        (tls.clone(), None, "no users"),
    ] {
        for of_flight in [true, false] {
            let (tls, users) = (tls.clone(), users.clone());
            let change = |options: &mut ServeOptions| {
                options.tls = tls;
                options.users = users;
                match of_flight {
                    true => options.flight = everywhere,
                    false => options.http = Some(everywhere),
                }
            };
            let refused = Server::on(Arc::clone(&engine), clock.clone(), change).await;
            let Err(error) = refused else {
                panic!("served without {missing}")
            };
            assert!(error.to_string().contains(missing), "{error}");
        }
    }
    let change = |options: &mut ServeOptions| {
        options.tls = tls;
        options.users = Some(list.clone());
        options.flight = everywhere;
        options.http = Some(everywhere);
    };
    let server = Server::on(engine, clock, change).await.unwrap();
    let here = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let flight = here(server.address.port());
    let stream = dial(flight, "h2", "authority.pem", None).await.unwrap();
    let mut client = connected(stream).await;
    let error = query(&mut client, "SELECT 1").await.unwrap_err();
    assert_eq!(error.code(), Code::Unauthenticated);
    client.set_token(token.clone());
    query(&mut client, "SELECT 1").await.unwrap();

    let http = here(server.http.unwrap().port());
    for (path, header, wanted) in [
        ("/healthz", String::new(), "200"),
        ("/readyz", String::new(), "200"),
        ("/metrics", String::new(), "401"),
        (
            "/metrics",
            "Authorization: Bearer guess\r\n".to_owned(),
            "401",
        ),
        (
            "/metrics",
            format!("Authorization: Bearer {token}\r\n"),
            "200",
        ),
    ] {
        let stream = dial(http, "http/1.1", "authority.pem", None).await;
        let answer = get_over(stream.unwrap(), path, &header).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {wanted}")),
            "{path}: {answer}"
        );
    }
}
