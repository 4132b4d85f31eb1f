//! Opening and closing the door.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use tietopohja_server::{ServeError, ServeOptions};
use tonic::Code;

use crate::warehouse::{Server, clock, engine, fetch, query, status};

#[tokio::test]
async fn an_address_that_others_can_reach_is_refused() {
    let clock = clock();
    let (_folder, engine) = engine(clock.clone()).await;
    for address in ["0.0.0.0:0", "192.0.2.1:50051", "[::]:0"] {
        let address: SocketAddr = address.parse().unwrap();
        let change = |options: &mut ServeOptions| options.flight = address;
        let refused = Server::on(Arc::clone(&engine), clock.clone(), change).await;
        let Err(error) = refused else {
            panic!("{address} was accepted")
        };
        assert!(
            matches!(error, ServeError::NotLoopback { missing: "TLS", .. }),
            "{error}"
        );
        assert!(error.to_string().contains("127.0.0.1"), "{error}");
    }
}

#[tokio::test]
async fn an_address_in_use_is_told() {
    let server = Server::start().await;
    let change = |options: &mut ServeOptions| options.flight = server.address;
    let refused = Server::on(
        Arc::clone(&server.engine),
        Arc::clone(&server.clock),
        change,
    )
    .await;
    let Err(error) = refused else {
        panic!("two servers on one port")
    };
    assert!(matches!(error, ServeError::Bind { .. }), "{error}");
}

#[tokio::test]
async fn a_server_stops_when_asked_and_frees_its_address() {
    let mut server = Server::start().await;
    let mut client = server.guest().await;
    query(&mut client, "SELECT 1").await.unwrap();
    let started = Instant::now();
    server.stopped().await;
    assert!(
        started.elapsed() < Duration::from_secs(3),
        "{:?}",
        started.elapsed()
    );
    let error = query(&mut client, "SELECT 1").await.unwrap_err();
    assert!(
        matches!(error.code(), Code::Unavailable | Code::Unknown),
        "{error:?}"
    );
    assert!(
        tokio::net::TcpStream::connect(server.address)
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_query_that_can_finish_does_and_one_that_cannot_is_stopped() {
    let mut server = Server::start_with(|options| options.drain = Duration::from_secs(2)).await;
    let (mut quick, mut slow) = (server.guest().await, server.guest().await);
    let open = async |client: &mut crate::warehouse::Client, sql: &str| {
        let info = client.execute(sql.to_owned(), None).await.unwrap();
        let ticket = info.endpoint[0].ticket.clone().unwrap();
        let mut stream = client.do_get(ticket).await.unwrap();
        assert!(stream.try_next().await.unwrap().is_some());
        stream
    };
    let numbers = "SELECT n, repeat('x', 100) AS t FROM reference.number";
    let finishing = open(&mut quick, numbers).await;
    let mut endless = open(
        &mut slow,
        "SELECT value FROM generate_series(1, 1000000000000)",
    )
    .await;
    server.begin_stop();
    let rest: Vec<_> = finishing.try_collect().await.unwrap();
    assert!(rest.iter().map(|batch| batch.num_rows()).sum::<usize>() > 10_000);
    let end = loop {
        match endless.try_next().await {
            Ok(Some(_)) => {}
            end => break end,
        }
    };
    assert_eq!(status(end.unwrap_err()).code(), Code::Unavailable);
    server.stopped().await;
}

#[tokio::test]
async fn a_ticket_survives_a_restart_with_the_same_key() {
    let mut server = Server::start().await;
    let mut client = server.guest().await;
    let info = client
        .execute("SELECT 8 AS eight".to_owned(), None)
        .await
        .unwrap();
    server.stopped().await;
    let (engine, clock) = (Arc::clone(&server.engine), Arc::clone(&server.clock));
    let again = Server::on(Arc::clone(&engine), Arc::clone(&clock), |_| ())
        .await
        .unwrap();
    assert_eq!(
        fetch(&mut again.guest().await, &info).await.unwrap().text(),
        ["eight", "8"]
    );
    let other = Server::on(engine, clock, |options| options.ticket_key = [1; 32])
        .await
        .unwrap();
    let error = fetch(&mut other.guest().await, &info).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
}
