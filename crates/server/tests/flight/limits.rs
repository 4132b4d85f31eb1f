//! What a statement may take, what is known of it, and which state of the tables it sees.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::TryStreamExt;
use tietopohja_policy::Role;
use tietopohja_server::{GateOptions, Limits, StatementRecord};
use tonic::Code;

use crate::warehouse::{
    Client, Server, append, changing, clock, engine_and_lake, fetch, query, status,
};

const ENDLESS: &str = "SELECT value FROM generate_series(1, 1000000000000)";

/// Opens the stream of a statement and reads its first rows.
async fn open(client: &mut Client, sql: &str) -> arrow_flight::decode::FlightRecordBatchStream {
    let info = client.execute(sql.to_owned(), None).await.unwrap();
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    let mut stream = client.do_get(ticket).await.unwrap();
    assert!(stream.try_next().await.unwrap().is_some());
    stream
}

#[tokio::test]
async fn statements_wait_for_their_turn_and_too_many_are_refused() {
    let server = Server::start_with(|options| {
        options.gate = GateOptions {
            running: 1,
            waiting: 1,
            patience: Duration::from_secs(600),
            ..GateOptions::default()
        };
    })
    .await;
    let (mut first, mut second, mut third) = (
        server.guest().await,
        server.guest().await,
        server.guest().await,
    );
    let running = open(&mut first, ENDLESS).await;
    let waiting = tokio::spawn(async move {
        loop {
            match query(&mut second, "SELECT 2 AS two").await {
                // The third was in its place and leaves it again.
                Err(status) if status.code() == Code::ResourceExhausted => {}
                answer => break answer,
            }
        }
    });
    // The third is refused once the second waits.
    let refused = loop {
        let answer = tokio::time::timeout(
            Duration::from_millis(50),
            query(&mut third, "SELECT 3 AS three"),
        );
        match answer.await {
            Ok(answer) => break answer.unwrap_err(),
            // The third waited in the place of the second, and left it.
            Err(_elapsed) => {}
        }
    };
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().contains("wait already"), "{refused}");
    drop(running);
    drop(first);
    assert_eq!(waiting.await.unwrap().unwrap().text(), ["two", "2"]);
}

#[tokio::test]
async fn each_role_has_its_limits() {
    let limit = |rows: u64| Limits {
        rows: Some(rows),
        ..Limits::default()
    };
    let change = |role: Role| {
        move |options: &mut tietopohja_server::ServeOptions| {
            options.anonymous_role = role;
            options.limits.everyone = limit(10);
            options.limits.roles.insert(Role::Analyst, limit(1_000));
        }
    };
    let server = Server::start_with(change(Role::Reader)).await;
    let engine = Arc::clone(&server.engine);
    let analysts = Server::on(engine, Arc::clone(&server.clock), change(Role::Analyst));
    let analysts = analysts.await.unwrap();
    let of = |rows: usize| format!("SELECT n FROM reference.number LIMIT {rows}");
    for (server, allowed) in [(&server, 10), (&analysts, 1_000)] {
        let mut client = server.guest().await;
        let answer = query(&mut client, &of(allowed)).await.unwrap();
        assert_eq!(answer.rows(), allowed);
        let refused = query(&mut client, &of(allowed + 1)).await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
        assert!(refused.message().contains("use LIMIT"), "{refused}");
    }
}

#[tokio::test]
async fn a_statement_is_stopped_when_its_time_is_over() {
    let server = Server::start_with(|options| {
        options.limits.everyone.timeout = Some(Duration::from_millis(200));
    })
    .await;
    let mut client = server.guest().await;
    let mut stream = open(&mut client, ENDLESS).await;
    let end = loop {
        match stream.try_next().await {
            Ok(Some(_)) => {}
            end => break end,
        }
    };
    assert_eq!(status(end.unwrap_err()).code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn every_statement_leaves_a_record_without_its_values() {
    let seen: Arc<Mutex<Vec<StatementRecord>>> = Arc::default();
    let kept = Arc::clone(&seen);
    let server = Server::start_with(move |options| {
        options.anonymous_role = Role::Analyst;
        options.audit = Some(Arc::new(move |record: &StatementRecord| {
            kept.lock().unwrap().push(record.clone());
        }));
    })
    .await;
    let mut client = server.guest().await;
    let secret = "SELECT n FROM conformed.secret WHERE n < 3 AND 'Aino' <> 'Eino'";
    query(&mut client, secret).await.unwrap();
    query(&mut client, "SELECT no_such_column FROM reference.number")
        .await
        .unwrap_err();
    drop(open(&mut client, ENDLESS).await);
    let records = loop {
        let records = seen.lock().unwrap().clone();
        if records.len() == 3 {
            break records;
        }
        tokio::task::yield_now().await;
    };
    let shown: Vec<_> = records
        .iter()
        .map(|record| {
            (
                record.statement.as_deref().unwrap(),
                record.state.as_str(),
                record.code,
                record.tables.join(", "),
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            (
                "SELECT n FROM conformed.secret WHERE n < ? AND ? <> ?",
                "done",
                None,
                "conformed.secret".to_owned()
            ),
            (
                "SELECT no_such_column FROM reference.number",
                "failed",
                Some("INVALID_ARGUMENT"),
                String::new()
            ),
            (
                "SELECT value FROM generate_series(?, ?)",
                "cancelled",
                Some("CANCELLED"),
                String::new()
            ),
        ]
    );
    assert_eq!(records[0].rows, 3);
    assert!(records[0].bytes > 0 && records[0].ended_at.is_some());
    assert!(records[0].client.is_some() && records[0].session.is_some());
    assert!(!format!("{records:?}").contains("Aino"));
}

#[tokio::test]
async fn statements_and_sessions_can_be_watched_and_only_ones_own() {
    let server = Server::start_with(|options| options.anonymous_role = Role::Admin).await;
    let mut admin = server.guest().await;
    query(&mut admin, "SELECT 1 AS one").await.unwrap();
    let watch = "SELECT state, statement, principal, rows FROM meta.query ORDER BY number";
    let watched = query(&mut admin, watch).await.unwrap().text();
    assert_eq!(
        watched,
        [
            "state|statement|principal|rows",
            "done|SELECT ? AS one|anonymous|1",
            "running|SELECT state, statement, principal, rows FROM meta.query ORDER BY number|anonymous|0",
        ]
    );
    let sessions = "SELECT principal, role, statements FROM meta.session";
    assert_eq!(
        query(&mut admin, sessions).await.unwrap().text(),
        ["principal|role|statements", "anonymous|admin|3"]
    );
    // A reader does not know these tables, and an analyst sees rows of the same name only.
    let readers = server.sibling(Role::Reader).await;
    let error = query(&mut readers.guest().await, watch).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    assert!(error.message().contains("not found"), "{error}");
}

#[tokio::test]
async fn a_ticket_gives_the_rows_of_its_moment_whenever_it_is_redeemed() {
    let clock = clock();
    let (_folder, engine, lake) = engine_and_lake(clock.clone()).await;
    let name = changing();
    append(&lake, &name, &[1]).await;
    let server = Server::on(Arc::clone(&engine), Arc::clone(&clock), |_| ())
        .await
        .unwrap();
    let mut client = server.guest().await;
    let sql = "SELECT count(*) AS rows FROM reference.changing";
    let info = client.execute(sql.to_owned(), None).await.unwrap();
    append(&lake, &name, &[2, 3]).await;
    for _ in 0..2 {
        assert_eq!(
            fetch(&mut client, &info).await.unwrap().text(),
            ["rows", "1"]
        );
    }
    assert_eq!(query(&mut client, sql).await.unwrap().text(), ["rows", "3"]);
    // Another server with the same key gives the same rows.
    let other = Server::on(engine, clock, |_| ()).await.unwrap();
    let mut client = other.guest().await;
    assert_eq!(
        fetch(&mut client, &info).await.unwrap().text(),
        ["rows", "1"]
    );
}

#[tokio::test]
async fn a_result_says_which_state_of_the_tables_it_shows() {
    let clock = clock();
    let (_folder, engine, lake) = engine_and_lake(clock.clone()).await;
    let name = changing();
    append(&lake, &name, &[1]).await;
    let server = Server::on(engine, clock, |_| ()).await.unwrap();
    let mut client = server.guest().await;
    let mut release = async |sql: &str| -> serde_json::Value {
        let info = client.execute(sql.to_owned(), None).await.unwrap();
        serde_json::from_slice(&info.app_metadata).unwrap()
    };
    let first = release("SELECT n FROM reference.changing").await;
    assert_eq!(
        first["tables"],
        serde_json::json!({ "reference.changing": 1 })
    );
    assert_eq!(release("SELECT n + 1 FROM reference.changing").await, first);
    append(&lake, &name, &[2]).await;
    let second = release("SELECT n FROM reference.changing").await;
    assert_eq!(
        second["tables"],
        serde_json::json!({ "reference.changing": 2 })
    );
    assert_ne!(second["release"], first["release"]);
    let none = release("SELECT 1").await;
    assert_eq!(none["tables"], serde_json::json!({}));
}
