//! Asking how far a query is: when it is complete, what is told before, and how it ends.
//!
//! Slow statements here never end, or wait for a statement that a test holds open, so that no case
//! depends on how fast the machine is.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow_flight::sql::{CommandGetTables, CommandPreparedStatementQuery};
use arrow_flight::{FlightDescriptor, FlightInfo, PollInfo};
use futures::future::{BoxFuture, FutureExt};
use futures::{TryStreamExt, stream};
use tietopohja_policy::Role;
use tietopohja_server::{ServeOptions, StatementRecord};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

use crate::answers::reused;
use crate::protocol::{
    Raw, act, act_as, bind, cancel, command, prepare, raw, read, statement, ticket_of,
};
use crate::warehouse::{
    Server, append, changing, clock, engine_and_lake, fetch, query, schema_of, status,
};

/// Gives rows for ever.
const ENDLESS: &str = "SELECT value FROM generate_series(1, 1000000000000)";

/// Computes for ever before its first row.
const WORK: &str =
    "SELECT count(*) AS n FROM generate_series(1, 1000000000000) WHERE value % 7 = 3";

type Records = Arc<Mutex<Vec<StatementRecord>>>;

/// Keeps the records of ended statements.
fn watching(options: &mut ServeOptions) -> Records {
    let records = Records::default();
    let kept = Arc::clone(&records);
    options.audit = Some(Arc::new(move |record: &StatementRecord| {
        kept.lock().unwrap().push(record.clone());
    }));
    records
}

/// A server, and the records of its ended statements.
async fn watched(change: impl FnOnce(&mut ServeOptions)) -> (Server, Records) {
    let mut records = Records::default();
    let server = Server::start_with(|options| {
        records = watching(options);
        change(options);
    })
    .await;
    (server, records)
}

/// How the statements that name this ended so far.
fn ends(records: &Records, name: &str) -> Vec<(&'static str, Option<&'static str>, u64)> {
    let records = records.lock().unwrap();
    let named = records.iter().filter(|record| {
        let statement = record.statement.as_deref();
        statement.is_some_and(|statement| statement.contains(name))
    });
    named
        .map(|record| (record.state.as_str(), record.code, record.rows))
        .collect()
}

async fn until(holds: impl Fn() -> bool) {
    while !holds() {
        tokio::task::yield_now().await;
    }
}

async fn poll(client: &mut Raw, descriptor: FlightDescriptor) -> Result<PollInfo, Status> {
    Ok(client.poll_flight_info(descriptor).await?.into_inner())
}

/// The token of a query that is not complete, whose answer is checked.
fn token(polled: &PollInfo) -> FlightDescriptor {
    let token = polled
        .flight_descriptor
        .clone()
        .expect("it is not complete");
    let info = polled.info.as_ref().unwrap();
    assert!(info.endpoint.is_empty(), "there is nothing to fetch yet");
    assert_eq!(info.flight_descriptor.as_ref(), Some(&token));
    assert!(!info.schema.is_empty() && !info.app_metadata.is_empty());
    let progress = polled.progress.unwrap();
    assert!((0.0..1.0).contains(&progress), "{progress}");
    assert!(polled.expiration_time.is_some());
    token
}

/// Polls until the rows can be fetched.
pub(crate) async fn complete(
    client: &mut Raw,
    first: FlightDescriptor,
) -> Result<FlightInfo, Status> {
    let (mut next, mut told) = (first, 0.0);
    loop {
        let polled = poll(client, next).await?;
        let progress = polled.progress.unwrap();
        assert!(progress >= told, "{progress} after {told}");
        told = progress;
        if polled.flight_descriptor.is_some() {
            next = token(&polled);
            continue;
        }
        assert_eq!(told, 1.0);
        let info = polled.info.unwrap();
        assert_eq!(info.endpoint.len(), 1);
        return Ok(info);
    }
}

#[tokio::test]
async fn a_statement_waits_for_its_turn_runs_while_it_is_polled_and_is_computed_once() {
    let (server, records) = watched(|options| options.gate.running = 1).await;
    let (mut client, mut reader) = (raw(&server).await, server.guest().await);
    let info = reader.execute(ENDLESS.to_owned(), None).await.unwrap();
    let mut running = reader.do_get(ticket_of(&info)).await.unwrap();
    assert!(running.try_next().await.unwrap().is_some());
    let sql = "SELECT count(*) AS n, max(r) AS r FROM reference.number";
    let polled = poll(&mut client, statement(sql)).await.unwrap();
    let next = token(&polled);
    assert_eq!(polled.progress, Some(0.0), "it waits");
    let expires = polled.expiration_time.unwrap();
    assert_eq!((expires.seconds, expires.nanos), (1_700_000_030, 0));
    assert!(ends(&records, "count").is_empty());
    let polling = tokio::spawn(async move { complete(&mut client, next).await });
    drop((running, reader));
    let complete = polling.await.unwrap().unwrap();
    assert_eq!(schema_of(&complete), schema_of(&polled.info.unwrap()));
    let mut reader = server.guest().await;
    let answer = fetch(&mut reader, &complete).await.unwrap();
    assert_eq!(answer.text(), ["n|r", "100000|6"]);
    assert_eq!(ends(&records, "count"), [("done", None, 1)]);
    let again = fetch(&mut reader, &complete).await.unwrap();
    assert_eq!(again.text(), ["n|r", "100000|6"]);
    assert_eq!(ends(&records, "count").len(), 2);
}

#[tokio::test]
async fn progress_grows_as_scans_do_and_a_query_without_rows_can_be_cancelled() {
    let clock = clock();
    let (_folder, engine, lake) = engine_and_lake(clock.clone()).await;
    append(&lake, &changing(), &(0..300_000).collect::<Vec<_>>()).await;
    let mut records = Records::default();
    let change = |options: &mut ServeOptions| records = watching(options);
    let server = Server::on(engine, clock, change).await.unwrap();
    let (mut client, mut other) = (raw(&server).await, raw(&server).await);
    // One of two scans never ends, and counts as much as the other.
    for (scan, old, ended) in [
        ("value FROM generate_series(1, 5)", false, 1),
        ("n FROM reference.changing", true, 2),
    ] {
        let sql = format!(
            "SELECT count(*) AS n FROM (SELECT {scan} UNION ALL \
             SELECT value FROM generate_series(1, 1000000000000)) WHERE 1 < 2"
        );
        let (mut next, mut told) = (statement(&sql), 0.0);
        let last = loop {
            let polled = poll(&mut client, next).await.unwrap();
            let progress = polled.progress.unwrap();
            assert!(progress >= told, "{scan}: {progress} after {told}");
            (next, told) = (token(&polled), progress);
            if told > 0.4 {
                break polled.info.unwrap();
            }
        };
        assert!(told < 0.6, "{scan}: {told}");
        let cancelled = cancel(&mut other, &last, old).await;
        assert_eq!(cancelled, arrow_flight::CancelStatus::Cancelled);
        let error = poll(&mut client, next).await.unwrap_err();
        assert_eq!(error.code(), Code::Cancelled);
        until(|| ends(&records, "UNION ALL").len() == ended).await;
        until(|| server.engine.memory_used() == 0).await;
    }
    let cancelled = ("cancelled", Some("CANCELLED"), 0);
    assert_eq!(ends(&records, "UNION ALL"), [cancelled; 2]);
}

#[tokio::test]
async fn a_query_that_nobody_asks_for_is_dropped_and_its_token_and_ticket_still_work() {
    let (server, records) = watched(|options| {
        options.poll_idle = Duration::ZERO;
        options.gate.running = 1;
    })
    .await;
    let mut client = raw(&server).await;
    let cancelled = ("cancelled", Some("CANCELLED"), 0);
    let polled = poll(&mut client, statement(WORK)).await.unwrap();
    until(|| ends(&records, "series") == [cancelled]).await;
    until(|| server.engine.memory_used() == 0).await;
    // Its place is free.
    let mut reader = server.guest().await;
    let one = query(&mut reader, "SELECT 1 AS one").await.unwrap();
    assert_eq!(one.text(), ["one", "1"]);
    // The token starts it again.
    let again = poll(&mut client, token(&polled)).await.unwrap();
    assert_eq!(schema_of(&again.info.clone().unwrap()).fields().len(), 1);
    token(&again);
    until(|| ends(&records, "series") == [cancelled; 2]).await;
    // Rows that waited for nobody were never sent, and the ticket computes them anew.
    let sql = "SELECT n + 5 AS five FROM reference.number WHERE n = 0 AND random() < 2";
    let info = complete(&mut client, statement(sql)).await.unwrap();
    until(|| !ends(&records, "random").is_empty()).await;
    let dropped = ends(&records, "random");
    assert!(dropped.iter().all(|(state, ..)| *state == "cancelled"));
    let answer = fetch(&mut reader, &info).await.unwrap();
    assert_eq!(answer.text(), ["five", "5"]);
    let ended = ends(&records, "random");
    let done = ended.iter().filter(|(state, ..)| *state == "done");
    assert_eq!(done.count(), 1, "{ended:?}");
}

/// A connection through a relay, which can be cut.
async fn relayed(server: &Server) -> (Raw, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = server.address;
    let relay = tokio::spawn(async move {
        let (mut near, _) = listener.accept().await.unwrap();
        let mut far = TcpStream::connect(server).await.unwrap();
        let _ended = copy_bidirectional(&mut near, &mut far).await;
    });
    let channel = Channel::from_shared(format!("http://{address}")).unwrap();
    (Raw::new(channel.connect().await.unwrap()), relay)
}

type Call = BoxFuture<'static, Result<Response<PollInfo>, Status>>;

/// A poll for which the server waits.
async fn waiting(client: &Raw, token: FlightDescriptor) -> Call {
    let (mut polling, mut other) = (client.clone(), client.clone());
    let mut call = async move { polling.poll_flight_info(token).await }.boxed();
    // Calls of one connection arrive in order, so that the poll is there when a later one is answered.
    tokio::select! {
        biased;
        answer = &mut call => panic!("the poll does not wait: {answer:?}"),
        answer = act(&mut other, "GetSessionOptions", vec![]) => drop(answer.unwrap()),
    }
    call
}

/// Waits for what comes within seconds, and for long enough to be sure that it never will.
async fn soon(holds: impl Fn() -> bool) {
    let waiting = tokio::time::timeout(Duration::from_secs(120), until(holds));
    waiting.await.expect("it never came");
}

#[tokio::test]
async fn a_query_whose_poll_is_broken_off_gives_its_place_back_and_can_be_polled_again() {
    let (server, records) = watched(|options| {
        options.poll_idle = Duration::from_secs(3_600);
        options.gate.running = 1;
        options.anonymous_role = Role::Admin;
    })
    .await;
    let mut reader = server.guest().await;
    let running = "SELECT count(*) AS n FROM meta.query \
                   WHERE ended_at IS NULL AND statement LIKE 'SELECT count(*) AS n FROM generate%'";
    let (mut client, relay) = relayed(&server).await;
    let mut last = poll(&mut client, statement(WORK)).await.unwrap();
    // The client drops the call.
    drop(waiting(&client, token(&last)).await);
    soon(|| ends(&records, "series").len() == 1).await;
    soon(|| server.engine.memory_used() == 0).await;
    let left = query(&mut reader, running).await.unwrap();
    assert_eq!(left.text(), ["n", "0"]);
    // The connection is lost while the client waits.
    last = poll(&mut client, token(&last)).await.unwrap();
    let call = waiting(&client, token(&last)).await;
    relay.abort();
    call.await.unwrap_err();
    soon(|| ends(&records, "series").len() == 2).await;
    let left = query(&mut reader, running).await.unwrap();
    assert_eq!(left.text(), ["n", "0"]);
    let again = poll(&mut raw(&server).await, token(&last)).await.unwrap();
    token(&again);
    let cancelled = ("cancelled", Some("CANCELLED"), 0);
    assert_eq!(ends(&records, "series"), [cancelled; 2]);
}

#[tokio::test]
async fn a_query_goes_on_while_another_poll_waits_for_it() {
    let (server, records) = watched(|options| {
        options.poll_idle = Duration::from_secs(3_600);
        options.gate.running = 1;
    })
    .await;
    let mut reader = server.guest().await;
    let info = reader.execute(ENDLESS.to_owned(), None).await.unwrap();
    let mut running = reader.do_get(ticket_of(&info)).await.unwrap();
    assert!(running.try_next().await.unwrap().is_some());
    let [mut one, other] = [raw(&server).await, raw(&server).await];
    let shared = poll(&mut one, statement("SELECT 1 AS shared"));
    let shared = token(&shared.await.unwrap());
    let own = poll(&mut one, statement("SELECT 1 AS own"));
    let own = token(&own.await.unwrap());
    let stays = waiting(&other, shared.clone()).await;
    drop(waiting(&one, shared).await);
    drop(waiting(&one, own).await);
    let cancelled = [("cancelled", Some("CANCELLED"), 0)];
    soon(|| ends(&records, "own") == cancelled).await;
    assert_eq!(ends(&records, "shared"), []);
    drop(stays);
    soon(|| ends(&records, "shared") == cancelled).await;
    drop((running, reader));
}

#[tokio::test]
async fn an_answer_comes_before_the_deadline_of_its_call() {
    let server = Server::start().await;
    let mut client = raw(&server).await;
    let polled = poll(&mut client, statement(WORK)).await.unwrap();
    let mut hurried = Request::new(token(&polled));
    hurried.set_timeout(Duration::from_secs(4));
    let answer = client.poll_flight_info(hurried).await.unwrap();
    token(&answer.into_inner());
}

#[tokio::test]
async fn a_query_that_fails_ends_its_poll_as_it_ends_its_stream() {
    let (server, records) = watched(|options| {
        options.limits.everyone.rows = Some(10);
    })
    .await;
    let (mut client, mut reader) = (raw(&server).await, server.guest().await);
    for sql in [
        "SELECT 1 / (n - n) FROM reference.number",
        "SELECT n FROM reference.number",
        "SELECT no_such_column FROM reference.number",
        "SELECT n FROM",
    ] {
        let told = query(&mut reader, sql).await.unwrap_err();
        let polled = complete(&mut client, statement(sql)).await.unwrap_err();
        assert_eq!(polled.code(), told.code(), "{sql}: {polled}");
        assert_eq!(polled.message(), told.message(), "{sql}");
    }
    let failed = ends(&records, "number");
    assert!(failed.iter().all(|(state, ..)| *state == "failed"));
    assert_eq!(failed.len(), 6, "{failed:?}");
}

#[tokio::test]
async fn a_token_is_for_its_principal_on_any_server_with_the_key_until_it_expires() {
    let readers = Server::start().await;
    let servers = [Role::Analyst; 3].map(|role| readers.sibling(role));
    let [one, two, three] = futures::future::join_all(servers)
        .await
        .try_into()
        .ok()
        .unwrap();
    let mut client = raw(&one).await;
    let polled = poll(&mut client, statement(WORK)).await.unwrap();
    let error = poll(&mut raw(&readers).await, token(&polled)).await;
    assert_eq!(error.unwrap_err().code(), Code::PermissionDenied);
    let mut changed = token(&polled);
    let mut bytes = changed.cmd.to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    changed.cmd = bytes.into();
    let error = poll(&mut client, changed).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    // Another server starts it too, and what is told later has more time.
    readers.clock.forward(3_599);
    let renewed = poll(&mut raw(&two).await, token(&polled)).await.unwrap();
    readers.clock.forward(2);
    let error = poll(&mut client, token(&polled)).await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    let good = poll(&mut raw(&three).await, token(&renewed)).await;
    token(&good.unwrap());
}

#[tokio::test]
async fn started_queries_count_among_those_that_run() {
    let server = Server::start_with(|options| options.gate.running_each = 1).await;
    let mut client = raw(&server).await;
    let first = poll(&mut client, statement(WORK)).await.unwrap();
    let second = poll(&mut client, statement("SELECT 2 AS two"));
    let second = second.await.unwrap();
    assert_eq!(second.progress, Some(0.0));
    let next = token(&second);
    cancel(&mut client, &first.info.unwrap(), false).await;
    let info = complete(&mut client, next).await.unwrap();
    let answer = fetch(&mut server.guest().await, &info).await.unwrap();
    assert_eq!(answer.text(), ["two", "2"]);
}

#[tokio::test]
async fn a_started_query_ends_with_its_session() {
    let (server, records) = watched(|_| ()).await;
    let mut client = raw(&server).await;
    let answer = client.handshake(stream::empty()).await.unwrap();
    let bearer = answer.metadata().get("authorization").unwrap().clone();
    let mut request = Request::new(statement(WORK));
    request
        .metadata_mut()
        .insert("authorization", bearer.clone());
    let polled = client.poll_flight_info(request).await.unwrap().into_inner();
    token(&polled);
    let close = arrow_flight::Action {
        r#type: "CloseSession".to_owned(),
        ..arrow_flight::Action::default()
    };
    act_as(&mut client, Some(bearer.to_str().unwrap()), close)
        .await
        .unwrap();
    until(|| ends(&records, "series") == [("cancelled", Some("CANCELLED"), 0)]).await;
    until(|| server.engine.memory_used() == 0).await;
}

#[tokio::test]
async fn a_started_query_ends_with_the_server() {
    let (mut server, records) = watched(|options| options.drain = Duration::from_secs(600)).await;
    let mut client = raw(&server).await;
    let polled = poll(&mut client, statement(WORK)).await.unwrap();
    let next = token(&polled);
    let polling = tokio::spawn(async move { poll(&mut client, next).await });
    server.begin_stop();
    let error = polling.await.unwrap().unwrap_err();
    // The call may meet a connection that is closed already.
    let expected = matches!(error.code(), Code::Unavailable | Code::Unknown);
    assert!(expected, "{error:?}");
    server.stopped().await;
    until(|| ends(&records, "series") == [("cancelled", Some("CANCELLED"), 0)]).await;
    until(|| server.engine.memory_used() == 0).await;
}

#[tokio::test]
async fn prepared_statements_are_polled_with_their_values() {
    let server = Server::start().await;
    let mut client = raw(&server).await;
    let prepared = prepare(
        &mut client,
        "SELECT n FROM reference.number WHERE n < ? ORDER BY n",
    );
    let query = CommandPreparedStatementQuery {
        prepared_statement_handle: prepared.await.handle,
    };
    let values: ArrayRef = Arc::new(Int64Array::from(vec![2, 1]));
    let values = RecordBatch::try_from_iter([("p", values)]).unwrap();
    bind(&mut client, &query, values).await;
    let info = complete(&mut client, command(&query)).await.unwrap();
    let answer = fetch(&mut server.guest().await, &info).await.unwrap();
    assert_eq!(answer.text(), ["n", "0", "1", "0"]);
}

#[tokio::test]
async fn what_needs_no_time_is_complete_at_once() {
    let (server, records) =
        watched(|options| options.http = Some(SocketAddr::from(([127, 0, 0, 1], 0)))).await;
    let mut client = raw(&server).await;
    // A change is made once, whether its ticket is redeemed or not.
    let answer = client.handshake(stream::empty()).await.unwrap();
    let bearer = answer.metadata().get("authorization").unwrap().clone();
    let signed = |descriptor| {
        let mut request = Request::new(descriptor);
        let header = bearer.clone();
        request.metadata_mut().insert("authorization", header);
        request
    };
    let change = signed(statement("SET tietopohja.schema = 'reference'"));
    let polled = client.poll_flight_info(change).await.unwrap().into_inner();
    assert_eq!(
        (polled.flight_descriptor, polled.progress),
        (None, Some(1.0))
    );
    let ticket = ticket_of(&polled.info.unwrap());
    assert_eq!(read(&mut client, ticket.clone()).await.unwrap(), 1);
    assert_eq!(records.lock().unwrap().len(), 1);
    let again = FlightDescriptor::new_cmd(ticket.ticket);
    let polled = poll(&mut client, again).await.unwrap();
    assert_eq!(polled.flight_descriptor, None);
    assert_eq!(records.lock().unwrap().len(), 1);
    let found = signed(statement("SELECT max(n) AS n FROM number"));
    assert!(client.poll_flight_info(found).await.is_ok());
    // The catalogue is at hand.
    let tables = command(&CommandGetTables::default());
    let polled = poll(&mut client, tables).await.unwrap();
    assert_eq!(
        (polled.flight_descriptor, polled.progress),
        (None, Some(1.0))
    );
    // An answer that is kept is not computed again.
    for used in [0, 1] {
        let sql = statement("SELECT min(n) AS n FROM reference.number");
        let info = complete(&mut client, sql).await.unwrap();
        assert_eq!(reused(&server).await, used);
        let mut reader = server.guest().await;
        assert_eq!(fetch(&mut reader, &info).await.unwrap().text(), ["n", "0"]);
        assert_eq!(reused(&server).await, used);
    }
}

#[tokio::test]
async fn a_complete_query_whose_reader_leaves_is_over() {
    let (server, records) = watched(|_| ()).await;
    let (mut client, mut reader) = (raw(&server).await, server.guest().await);
    let info = complete(&mut client, statement(ENDLESS)).await.unwrap();
    let mut rows = reader.do_get(ticket_of(&info)).await.unwrap();
    assert!(rows.try_next().await.map_err(status).unwrap().is_some());
    assert!(ends(&records, "series").is_empty());
    drop((rows, reader));
    until(|| ends(&records, "series").len() == 1).await;
    assert_eq!(ends(&records, "series")[0].0, "cancelled");
    act(&mut client, "GetSessionOptions", vec![]).await.unwrap();
}
