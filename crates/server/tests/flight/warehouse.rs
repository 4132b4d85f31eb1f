//! A small warehouse, a server on it, and a client of the server.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::util::pretty::pretty_format_batches;
use arrow_flight::FlightInfo;
use arrow_flight::error::FlightError;
use arrow_flight::sql::client::FlightSqlServiceClient;
use futures::TryStreamExt;
use hyper_util::rt::TokioIo;
use tietopohja_domain::{Clock, Timestamp};
use tietopohja_engine::{Engine, EngineOptions};
use tietopohja_lake::{CommitInfo, Lake, TableName};
use tietopohja_policy::Role;
use tietopohja_server::{ServeError, ServeOptions, serve};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Code, Status};

/// The relations of the warehouse: name and text.
const RELATIONS: [(&str, &str); 7] = [
    (
        "reference/number",
        "-- grain: one row per number from 0 to 99999\n-- key: n\n\
         SELECT value AS n, value % 7 AS r FROM generate_series(0, 99999)\n",
    ),
    (
        "reference/kind",
        "-- grain: one row for each kind of value, and one of nulls\n-- key: id\n\
         -- column text: a name, plain\n\
         SELECT 1 AS id, 'Äänekoski' AS text, arrow_cast('view', 'Utf8View') AS text_view, \
         arrow_cast('coded', 'Dictionary(Int32, Utf8)') AS coded, X'00FF' AS bytes, \
         CAST(12345.67 AS DECIMAL(14, 2)) AS amount, arrow_cast(1.25, 'Decimal32(5, 2)') AS small, \
         DATE '2024-02-29' AS day, TIMESTAMP '2024-03-31 02:59:59.123456' AS moment, \
         arrow_cast(TIMESTAMP '2024-03-31 00:59:59', 'Timestamp(Microsecond, Some(\"+02:00\"))') \
         AS zoned, TRUE AS flag, CAST(1.5 AS DOUBLE) AS ratio, [1, 2] AS list \
         UNION ALL SELECT 2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL\n",
    ),
    (
        "reference/nothing",
        "-- grain: no rows\n-- key: n\nSELECT n, CAST(n AS VARCHAR) AS text FROM reference.number WHERE n < 0\n",
    ),
    (
        "reference/a_b",
        "-- grain: one row\n-- key: right_one\nSELECT 1 AS right_one\n",
    ),
    (
        "reference/axb",
        "-- grain: one row\n-- key: wrong_one\nSELECT 1 AS wrong_one\n",
    ),
    (
        "reference/pair",
        "-- grain: one row per pair of numbers\n-- key: second, first\n\
         -- references: first -> reference.number(n)\n\
         -- references: second -> reference.number(n)\n\
         -- references: second -> conformed.secret(n)\n\
         SELECT n AS first, n + 1 AS second FROM reference.number WHERE n < 5\n",
    ),
    (
        "conformed/secret",
        "-- grain: one row per secret\n-- key: n\n\
         -- references: n -> reference.number(n)\nSELECT n FROM reference.number\n",
    ),
];

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub(crate) struct TestClock(AtomicI64);

impl TestClock {
    pub(crate) fn forward(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::SeqCst)).unwrap()
    }
}

/// A running server.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) http: Option<SocketAddr>,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) engine: Arc<Engine>,
    stop: Option<oneshot::Sender<()>>,
    serving: Option<JoinHandle<Result<(), ServeError>>>,
    _folder: Option<tempfile::TempDir>,
}

pub(crate) const KEY: [u8; 32] = [42; 32];

pub(crate) type Client = FlightSqlServiceClient<Channel>;

fn write(root: &Path) {
    for (name, sql) in RELATIONS {
        let path = root.join("sql").join(format!("{name}.sql"));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, sql).unwrap();
    }
}

/// An engine on a new warehouse.
pub(crate) async fn engine(clock: Arc<TestClock>) -> (tempfile::TempDir, Arc<Engine>) {
    engine_with(clock, |_| ()).await
}

/// An engine on a new warehouse, with other limits.
pub(crate) async fn engine_with(
    clock: Arc<TestClock>,
    change: impl FnOnce(&mut EngineOptions),
) -> (tempfile::TempDir, Arc<Engine>) {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    let lake = Arc::new(Lake::open(&folder.path().join("lake"), clock.clone()).unwrap());
    let mut options = EngineOptions::new(folder.path(), lake, clock).target_partitions(2);
    change(&mut options);
    (folder, Engine::open(options).await.unwrap())
}

/// An engine on a new warehouse, and its lake.
pub(crate) async fn engine_and_lake(
    clock: Arc<TestClock>,
) -> (tempfile::TempDir, Arc<Engine>, Arc<Lake>) {
    let mut lake = None;
    let keep = |options: &mut EngineOptions| lake = Some(Arc::clone(&options.lake));
    let (folder, engine) = engine_with(clock, keep).await;
    (folder, engine, lake.unwrap())
}

/// A batch of one column of whole numbers, `n`.
pub(crate) fn numbers(values: &[i64]) -> RecordBatch {
    let column = Arc::new(Int64Array::from(values.to_vec())) as _;
    RecordBatch::try_from_iter_with_nullable([("n", column, true)]).unwrap()
}

/// Appends rows to a table of [`numbers`], which is made when it is not there.
pub(crate) async fn append(lake: &Lake, name: &TableName, values: &[i64]) {
    let batch = numbers(values);
    lake.ensure_table(name, batch.schema(), &[]).await.unwrap();
    let info = CommitInfo::default();
    lake.append(name, vec![batch], info).await.unwrap();
}

/// `reference.changing`, which tests make.
pub(crate) fn changing() -> TableName {
    TableName::new("reference", "changing").unwrap()
}

pub(crate) fn clock() -> Arc<TestClock> {
    Arc::new(TestClock(AtomicI64::new(1_700_000_000)))
}

impl Server {
    /// A server whose visitors are readers.
    pub(crate) async fn start() -> Server {
        Self::start_with(|_| ()).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut ServeOptions)) -> Server {
        let clock = clock();
        let (folder, engine) = engine(clock.clone()).await;
        let mut server = Self::on(engine, clock, change).await.unwrap();
        server._folder = Some(folder);
        server
    }

    /// A server on an engine that is there.
    pub(crate) async fn on(
        engine: Arc<Engine>,
        clock: Arc<TestClock>,
        change: impl FnOnce(&mut ServeOptions),
    ) -> Result<Server, ServeError> {
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut options = ServeOptions::new(free, KEY, clock.clone());
        options.drain = Duration::from_millis(200);
        change(&mut options);
        let (stop, stopped) = oneshot::channel::<()>();
        let (ready, doors) = oneshot::channel();
        let serving = tokio::spawn(serve(
            Arc::clone(&engine),
            options,
            move |doors| ready.send(doors).unwrap(),
            stopped,
        ));
        match doors.await {
            Ok(doors) => Ok(Server {
                address: doors.flight,
                http: doors.http,
                clock,
                engine,
                stop: Some(stop),
                serving: Some(serving),
                _folder: None,
            }),
            Err(_) => Err(serving.await.unwrap().unwrap_err()),
        }
    }

    pub(crate) fn begin_stop(&mut self) {
        drop(self.stop.take());
    }

    pub(crate) async fn stopped(&mut self) {
        self.begin_stop();
        self.serving.take().unwrap().await.unwrap().unwrap();
    }

    pub(crate) async fn channel(&self) -> Channel {
        let endpoint = format!("http://{}", self.address);
        Channel::from_shared(endpoint)
            .unwrap()
            .connect()
            .await
            .unwrap()
    }

    /// A client on a connection of its own, not signed in.
    pub(crate) async fn client(&self) -> Client {
        FlightSqlServiceClient::new(self.channel().await)
    }

    /// A client that signed in.
    pub(crate) async fn guest(&self) -> Client {
        let mut client = self.client().await;
        client.handshake("anyone", "anything").await.unwrap();
        client
    }

    /// Role of the visitors of another server on the same warehouse.
    pub(crate) async fn sibling(&self, role: Role) -> Server {
        let change = |options: &mut ServeOptions| options.anonymous_role = role;
        Self::on(Arc::clone(&self.engine), Arc::clone(&self.clock), change)
            .await
            .unwrap()
    }
}

/// A client on a connection that was made in another way, such as over TLS.
pub(crate) async fn connected<S>(stream: S) -> Client
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut stream = Some(TokioIo::new(stream));
    let connector = tower::service_fn(move |_| {
        let stream = stream.take();
        async move { stream.ok_or_else(|| std::io::Error::other("the connection is gone")) }
    });
    let endpoint = Channel::from_static("http://localhost");
    Client::new(endpoint.connect_with_connector(connector).await.unwrap())
}

/// A result as a client gets it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) schema: SchemaRef,
    pub(crate) batches: Vec<RecordBatch>,
}

impl Answer {
    pub(crate) fn rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    /// The rows as a table of text, without its frame.
    pub(crate) fn text(&self) -> Vec<String> {
        let shown = pretty_format_batches(&self.batches).unwrap().to_string();
        let lines = shown.lines().filter(|line| !line.starts_with('+'));
        let plain = |line: &str| {
            let cells = line.trim_matches('|').split('|').map(str::trim);
            cells.collect::<Vec<_>>().join("|")
        };
        lines.map(plain).collect()
    }
}

/// Fetches what a Flight info describes.
pub(crate) async fn fetch(client: &mut Client, info: &FlightInfo) -> Result<Answer, Status> {
    assert_eq!(info.endpoint.len(), 1);
    assert!(
        info.endpoint[0].location.is_empty(),
        "the client stays on its connection"
    );
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    let mut stream = client.do_get(ticket).await.map_err(status)?;
    let mut batches = Vec::new();
    while let Some(batch) = stream.try_next().await.map_err(status)? {
        batches.push(batch);
    }
    let schema = Arc::clone(stream.schema().expect("every stream sends its schema"));
    assert_eq!(
        schema_of(info),
        *schema,
        "the stream has the schema of the Flight info"
    );
    Ok(Answer { schema, batches })
}

/// Runs a query.
pub(crate) async fn query(client: &mut Client, sql: &str) -> Result<Answer, Status> {
    let info = client.execute(sql.to_owned(), None).await.map_err(status)?;
    fetch(client, &info).await
}

pub(crate) fn schema_of(info: &FlightInfo) -> Schema {
    info.clone().try_decode_schema().unwrap()
}

/// The status inside a client's error.
pub(crate) fn status(error: FlightError) -> Status {
    match error {
        FlightError::Tonic(status) => *status,
        other => Status::new(Code::Unknown, other.to_string()),
    }
}
