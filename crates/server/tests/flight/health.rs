//! Whether the server is alive and takes work, asked in both ways.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::warehouse::{Server, query};

/// What the HTTP door answers.
pub(crate) async fn get(address: SocketAddr, path: &str) -> String {
    let stream = TcpStream::connect(address).await.unwrap();
    get_over(stream, path, "").await
}

/// The same over a connection that is there, with more headers.
pub(crate) async fn get_over(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    path: &str,
    headers: &str,
) -> String {
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: here\r\n{headers}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn with_http() -> Server {
    Server::start_with(|options| {
        options.http = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
        options.drain = Duration::from_secs(60);
    })
    .await
}

#[tokio::test]
async fn health_and_metrics_are_told_over_http() {
    let server = with_http().await;
    let http = server.http.unwrap();
    query(&mut server.guest().await, "SELECT 1").await.unwrap();
    for (path, status, text) in [
        ("/healthz", "200", "ok"),
        ("/readyz", "200", "ready"),
        ("/metrics", "200", "tietopohja_rows_sent_total 1\n"),
        ("/nothing", "404", ""),
    ] {
        let answer = get(http, path).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{path}: {answer}"
        );
        assert!(answer.contains(text), "{path}: {answer}");
    }
}

#[tokio::test]
async fn a_server_that_is_closing_is_alive_and_not_ready() {
    let mut server = with_http().await;
    let http = server.http.unwrap();
    let mut client = server.guest().await;
    let info = client
        .execute(
            "SELECT value FROM generate_series(1, 1000000000000)".to_owned(),
            None,
        )
        .await
        .unwrap();
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    let running = client.do_get(ticket).await.unwrap();
    server.begin_stop();
    while get(http, "/readyz").await.starts_with("HTTP/1.1 200") {
        tokio::task::yield_now().await;
    }
    assert!(get(http, "/healthz").await.starts_with("HTTP/1.1 200"));
    drop(running);
    drop(client);
    server.stopped().await;
}

#[tokio::test]
async fn health_is_told_over_grpc_without_signing_in() {
    let server = Server::start().await;
    let mut client = HealthClient::new(server.channel().await);
    for service in ["", "arrow.flight.protocol.FlightService"] {
        let service = service.to_owned();
        let answer = client.check(HealthCheckRequest { service }).await.unwrap();
        assert_eq!(answer.into_inner().status, 1, "SERVING");
    }
    let service = "no.such.Service".to_owned();
    client
        .check(HealthCheckRequest { service })
        .await
        .unwrap_err();
}
