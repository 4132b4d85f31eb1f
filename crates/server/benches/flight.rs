//! The Flight SQL door under load: how fast rows stream, how quickly small questions are answered, and
//! what is left after many clients came and died.
//!
//! ```text
//! cargo bench -p tietopohja-server --bench flight              streams, latencies, prepared statements
//! cargo bench -p tietopohja-server --bench flight -- --soak 300  clients that die, for so many seconds
//! ```
//!
//! The server is a process of its own, so that its memory and handles can be told from the client's.
//! The yardstick of streams is a bare arrow-flight server that sends the same batches from memory: no
//! SQL, no Parquet, no identity. A second one reads the same Parquet files before it sends: what is left
//! between it and the warehouse is the warehouse. Without `--bench` everything runs once over little, to see that it
//! runs.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench may stop at the first surprise, and prints its figures"
)]

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arrow::array::{
    Array, ArrayRef, AsArray, Date32Array, Float64Array, Int32Array, Int64Array, RecordBatch,
    StringArray,
};
use arrow::datatypes::Int64Type;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::sql::CommandGetTables;
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo,
    HandshakeRequest, HandshakeResponse, PollInfo, PutResult, SchemaResult, Ticket,
};
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tietopohja_domain::{Clock, Timestamp};
use tietopohja_engine::{Engine, EngineOptions};
use tietopohja_lake::{CommitInfo, Lake, TableName};
use tietopohja_server::{ServeOptions, serve};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status, Streaming};

/// As in the shipped program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROWS: usize = 10_000_000;
const BATCH: usize = 8_192;
const TABLES: usize = 500;
const SMALL: &str = "SELECT area, year, value FROM published.small WHERE indicator = 'i07' AND year = 2024 ORDER BY area";
const SMALL_ROWS: usize = 22;

type Client = FlightSqlServiceClient<Channel>;

struct Now;

impl Clock for Now {
    #[expect(clippy::disallowed_methods, reason = "a bench is a program of its own")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

fn measuring() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

fn argument(name: &str) -> Option<String> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.nth(1)
}

/// Six columns as results of a warehouse have them.
fn wide(rows: usize) -> Vec<RecordBatch> {
    let texts: Vec<String> = (0..310).map(|area| format!("area {area:03}")).collect();
    let batch = |first: usize| {
        let rows = first..(first + BATCH).min(rows);
        let number = |of: fn(usize) -> i64| -> ArrayRef {
            Arc::new(Int64Array::from_iter_values(rows.clone().map(of)))
        };
        let text = rows.clone().map(|row| texts[row % 310].as_str());
        let columns: [(&str, ArrayRef); 6] = [
            ("id", number(|row| row as i64)),
            ("area", Arc::new(StringArray::from_iter_values(text))),
            (
                "day",
                Arc::new(Date32Array::from_iter_values(
                    rows.clone().map(|row| 19_000 + (row % 1_096) as i32),
                )),
            ),
            ("cents", number(|row| (row * 7_919 % 1_000_003) as i64)),
            (
                "share",
                Arc::new(Float64Array::from_iter_values(
                    rows.clone().map(|row| row as f64 / 3.0),
                )),
            ),
            (
                "visits",
                Arc::new(Int32Array::from_iter_values(
                    rows.clone().map(|row| (row % 97) as i32),
                )),
            ),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true)))
            .unwrap()
    };
    (0..rows).step_by(BATCH).map(batch).collect()
}

/// Values of 40 indicators by 22 areas and 10 years.
fn small() -> RecordBatch {
    let (mut indicator, mut area, mut year, mut value) = (vec![], vec![], vec![], vec![]);
    for row in 0..40 * 22 * 10 {
        indicator.push(format!("i{:02}", row % 40));
        area.push(format!("{:02}", row / 40 % 22));
        year.push(2016 + (row / 880) as i64);
        value.push(row as f64 / 7.0);
    }
    let columns: [(&str, ArrayRef, bool); 4] = [
        ("indicator", Arc::new(StringArray::from(indicator)), true),
        ("area", Arc::new(StringArray::from(area)), true),
        ("year", Arc::new(Int64Array::from(year)), true),
        ("value", Arc::new(Float64Array::from(value)), true),
    ];
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

async fn fill(root: &Path, rows: usize) {
    let folder = root.join("sql/reference");
    std::fs::create_dir_all(&folder).unwrap();
    for table in 0..TABLES {
        let text = format!("-- grain: one row\n-- key: a\nSELECT {table} AS a, 'x' AS b\n");
        std::fs::write(folder.join(format!("t{table:03}.sql")), text).unwrap();
    }
    let lake = Lake::open(&root.join("lake"), Arc::new(Now)).unwrap();
    for (name, batches) in [("wide", wide(rows)), ("small", vec![small()])] {
        let name = TableName::new("published", name).unwrap();
        lake.ensure_table(&name, batches[0].schema(), &[])
            .await
            .unwrap();
        lake.append(&name, batches, CommitInfo::default())
            .await
            .unwrap();
    }
}

/// The server of a warehouse, until its parent closes the pipe.
async fn serve_here(root: &Path) {
    let lake = Arc::new(Lake::open(&root.join("lake"), Arc::new(Now)).unwrap());
    let options = EngineOptions::new(root, lake, Arc::new(Now));
    let engine = Engine::open(options).await.unwrap();
    let free = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut options = ServeOptions::new(free, [7; 32], Arc::new(Now));
    if argument("--serve-computing").is_some() {
        options.result_cache_bytes = 0;
    }
    serve(
        engine,
        options,
        |doors| println!("{}", doors.flight),
        std::future::pending::<()>(),
    )
    .await
    .unwrap();
}

/// Sends the same rows to whoever asks.
enum Bare {
    Batches(Vec<RecordBatch>),
    Files(Vec<PathBuf>),
}

/// The rows of Parquet files, read by two threads.
fn rows_of_files(files: &[PathBuf]) -> impl stream::Stream<Item = RecordBatch> + use<> {
    const THREADS: usize = 2;
    let (sender, receiver) = tokio::sync::mpsc::channel(2 * THREADS);
    for thread in 0..THREADS {
        let (files, sender) = (files.to_vec(), sender.clone());
        tokio::task::spawn_blocking(move || {
            for file in files {
                let builder =
                    ParquetRecordBatchReaderBuilder::try_new(File::open(file).unwrap()).unwrap();
                let groups = (0..builder.metadata().num_row_groups()).skip(thread);
                let reader = builder
                    .with_row_groups(groups.step_by(THREADS).collect())
                    .with_batch_size(BATCH)
                    .build();
                for batch in reader.unwrap() {
                    if sender.blocking_send(batch.unwrap()).is_err() {
                        return;
                    }
                }
            }
        });
    }
    stream::unfold(receiver, |mut receiver| async move {
        Some((receiver.recv().await?, receiver))
    })
}

/// The Parquet files of a folder and the folders in it.
fn files_in(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.extension() {
            _ if path.is_dir() => files.extend(files_in(&path)),
            Some(kind) if kind == "parquet" => files.push(path),
            _ => {}
        }
    }
    files.sort();
    files
}

type Sent<T> = BoxStream<'static, Result<T, Status>>;

#[tonic::async_trait]
impl FlightService for Bare {
    type HandshakeStream = Sent<HandshakeResponse>;
    type ListFlightsStream = Sent<FlightInfo>;
    type DoGetStream = Sent<FlightData>;
    type DoPutStream = Sent<PutResult>;
    type DoActionStream = Sent<arrow_flight::Result>;
    type ListActionsStream = Sent<ActionType>;
    type DoExchangeStream = Sent<FlightData>;

    async fn do_get(&self, _: Request<Ticket>) -> Result<Response<Sent<FlightData>>, Status> {
        let batches = match self {
            Bare::Batches(batches) => stream::iter(batches.clone()).boxed(),
            Bare::Files(files) => rows_of_files(files).boxed(),
        };
        let messages = FlightDataEncoderBuilder::new().build(batches.map(Ok));
        Ok(Response::new(messages.map_err(Status::from).boxed()))
    }

    async fn handshake(
        &self,
        _: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Sent<HandshakeResponse>>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list_flights(
        &self,
        _: Request<Criteria>,
    ) -> Result<Response<Sent<FlightInfo>>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_flight_info(
        &self,
        _: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn poll_flight_info(
        &self,
        _: Request<FlightDescriptor>,
    ) -> Result<Response<PollInfo>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_schema(
        &self,
        _: Request<FlightDescriptor>,
    ) -> Result<Response<SchemaResult>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn do_put(
        &self,
        _: Request<Streaming<FlightData>>,
    ) -> Result<Response<Sent<PutResult>>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn do_action(
        &self,
        _: Request<Action>,
    ) -> Result<Response<Sent<arrow_flight::Result>>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list_actions(&self, _: Request<Empty>) -> Result<Response<Sent<ActionType>>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn do_exchange(
        &self,
        _: Request<Streaming<FlightData>>,
    ) -> Result<Response<Sent<FlightData>>, Status> {
        Err(Status::unimplemented(""))
    }
}

async fn bare_here(bare: Bare) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    Server::builder()
        .add_service(FlightServiceServer::new(bare))
        .serve_with_incoming(incoming)
        .await
        .unwrap();
}

/// A server in a process of its own.
struct Other {
    process: Child,
    address: String,
}

impl Other {
    fn start(arguments: &[&str]) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let output = process.stdout.take().unwrap();
        BufReader::new(output).read_line(&mut line).unwrap();
        Self {
            process,
            address: line.trim().to_owned(),
        }
    }

    async fn channel(&self) -> Channel {
        let endpoint = Channel::from_shared(format!("http://{}", self.address));
        endpoint.unwrap().connect().await.unwrap()
    }

    async fn client(&self) -> Client {
        let mut client = FlightSqlServiceClient::new(self.channel().await);
        client.handshake("anyone", "").await.unwrap();
        client
    }

    /// A figure of the process in MiB, by its name in the kernel's own page.
    fn mib(&self, name: &str) -> f64 {
        let page = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()));
        let page = page.unwrap_or_default();
        let line = page.lines().find(|line| line.starts_with(name));
        let kib = line.and_then(|line| line.split_whitespace().nth(1));
        kib.and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
    }

    fn forget_peak(&self) {
        let _ = std::fs::write(format!("/proc/{}/clear_refs", self.process.id()), "5");
    }

    fn handles(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.process.id())).map_or(0, Iterator::count)
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Rows and bytes of a stream.
async fn drain<E: std::fmt::Debug>(
    mut batches: impl stream::Stream<Item = Result<RecordBatch, E>> + Unpin,
) -> (usize, usize) {
    let (mut rows, mut bytes) = (0, 0);
    while let Some(batch) = batches.next().await {
        let batch = batch.unwrap();
        rows += batch.num_rows();
        // Columns of a message share its buffer: only their own part of it counts.
        let own = batch.columns().iter().map(|column| column.to_data());
        bytes += own
            .map(|data| data.get_slice_memory_size().unwrap())
            .sum::<usize>();
    }
    (rows, bytes)
}

async fn rows_of(client: &mut Client, info: FlightInfo) -> Vec<RecordBatch> {
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    let stream = client.do_get(ticket).await.unwrap();
    stream.try_collect().await.unwrap()
}

async fn ask(client: &mut Client, sql: &str) -> usize {
    let info = client.execute(sql.to_owned(), None).await.unwrap();
    let batches = rows_of(client, info).await;
    batches.iter().map(RecordBatch::num_rows).sum()
}

/// Seconds until all rows of a bare server have come.
async fn seconds_of_bare(server: &Other, rows: usize) -> f64 {
    let mut client = FlightServiceClient::new(server.channel().await);
    let started = Instant::now();
    let messages = client.do_get(Ticket::default()).await.unwrap().into_inner();
    let messages = messages.map_err(|status| status.into());
    let batches = arrow_flight::decode::FlightRecordBatchStream::new_from_flight_data(messages);
    assert_eq!(drain(batches).await.0, rows);
    started.elapsed().as_secs_f64()
}

async fn streams(server: &Other, root: &str, rows: usize) {
    let bare = Other::start(&["--bare", &rows.to_string()]);
    let files = Other::start(&["--bare-files", root]);
    let runs = if measuring() { 5 } else { 1 };
    let (mut best, mut yardstick, mut of_files) = (f64::MAX, f64::MAX, f64::MAX);
    let mut bytes = 0;
    let idle = server.mib("VmRSS");
    server.forget_peak();
    for _ in 0..runs {
        yardstick = yardstick.min(seconds_of_bare(&bare, rows).await);
        of_files = of_files.min(seconds_of_bare(&files, rows).await);

        let mut client = server.client().await;
        let started = Instant::now();
        let info = client
            .execute("SELECT * FROM published.wide".to_owned(), None)
            .await
            .unwrap();
        let ticket = info.endpoint[0].ticket.clone().unwrap();
        let (seen, size) = drain(client.do_get(ticket).await.unwrap()).await;
        assert_eq!(seen, rows);
        bytes = size;
        best = best.min(started.elapsed().as_secs_f64());
    }
    let mb = bytes as f64 / 1e6;
    println!("\nstream: {rows} rows x 6 columns, {mb:.0} MB");
    for (what, seconds) in [
        ("bare arrow-flight", yardstick),
        ("bare, of the files", of_files),
        ("published.wide", best),
    ] {
        println!("  {what:<20} {seconds:8.3} s {:8.0} MB/s", mb / seconds);
    }
    println!(
        "  ratio                {:8.2}, of the files {:.2}",
        yardstick / best,
        of_files / best
    );
    println!(
        "  server memory        {idle:8.0} MiB idle, {:.0} MiB more at its peak",
        server.mib("VmHWM") - idle
    );
}

fn percentile(sorted: &[Duration], share: f64) -> f64 {
    let place = ((sorted.len() - 1) as f64 * share).round() as usize;
    sorted[place].as_secs_f64() * 1e3
}

#[derive(Debug, Clone, Copy)]
enum Question {
    One,
    Small,
    Tables,
}

async fn answer(client: &mut Client, question: Question) {
    match question {
        Question::One => assert_eq!(ask(client, "SELECT 1").await, 1),
        Question::Small => assert_eq!(ask(client, SMALL).await, SMALL_ROWS),
        Question::Tables => {
            let command = CommandGetTables {
                catalog: None,
                db_schema_filter_pattern: None,
                table_name_filter_pattern: None,
                table_types: vec![],
                include_schema: false,
            };
            let info = client.get_tables(command).await.unwrap();
            let tables: usize = rows_of(client, info)
                .await
                .iter()
                .map(RecordBatch::num_rows)
                .sum();
            assert!(tables >= TABLES);
        }
    }
}

async fn latencies(server: &Other, how: &str) {
    let asked = if measuring() { 2_000 } else { 32 };
    println!("\nlatency, ms: {asked} questions, each a Flight info and a stream, {how}");
    println!(
        "  {:<22} {:>8} {:>9} {:>9} {:>9} {:>10}",
        "", "clients", "p50", "p99", "max", "per s"
    );
    for question in [Question::One, Question::Small, Question::Tables] {
        for clients in [1, 32] {
            let started = Instant::now();
            let mut running = Vec::new();
            for _ in 0..clients {
                let mut client = server.client().await;
                running.push(tokio::spawn(async move {
                    answer(&mut client, question).await;
                    let mut taken = Vec::new();
                    for _ in 0..asked / clients {
                        let started = Instant::now();
                        answer(&mut client, question).await;
                        taken.push(started.elapsed());
                    }
                    taken
                }));
            }
            let mut taken = Vec::new();
            for client in running {
                taken.extend(client.await.unwrap());
            }
            taken.sort();
            println!(
                "  {:<22} {clients:>8} {:>9.2} {:>9.2} {:>9.2} {:>10.0}",
                format!("{question:?}"),
                percentile(&taken, 0.5),
                percentile(&taken, 0.99),
                percentile(&taken, 1.0),
                taken.len() as f64 / started.elapsed().as_secs_f64()
            );
        }
    }
}

async fn prepared(server: &Other) {
    let runs = if measuring() { 1_000 } else { 5 };
    let mut client = server.client().await;
    let started = Instant::now();
    for _ in 0..runs {
        assert_eq!(ask(&mut client, SMALL).await, SMALL_ROWS);
    }
    let unprepared = started.elapsed().as_secs_f64() * 1e3 / f64::from(runs);
    let mut statement = client.prepare(SMALL.to_owned(), None).await.unwrap();
    let started = Instant::now();
    for _ in 0..runs {
        let info = statement.execute().await.unwrap();
        let batches = rows_of(&mut client, info).await;
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        assert_eq!(rows, SMALL_ROWS);
    }
    let prepared = started.elapsed().as_secs_f64() * 1e3 / f64::from(runs);
    println!(
        "\n{runs} times the same statement, ms each: {unprepared:.2} unprepared, {prepared:.2} prepared"
    );
}

/// Clients that come, ask, and die at random; every answer that they wait for is checked.
async fn soak(server: &Other, seconds: u64, clients: usize) {
    let until = Instant::now() + Duration::from_secs(seconds);
    let (answered, died, refused) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let counts = Arc::new((answered, died, refused));
    println!("\nsoak: {clients} clients for {seconds} s");
    let mut running = Vec::new();
    for number in 0..clients {
        let counts = Arc::clone(&counts);
        let address = server.address.clone();
        running.push(tokio::spawn(async move {
            let mut draw = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(number as u64 + 1);
            while Instant::now() < until {
                draw ^= draw << 13;
                draw ^= draw >> 7;
                draw ^= draw << 17;
                let channel = Channel::from_shared(format!("http://{address}"));
                let Ok(channel) = channel.unwrap().connect().await else {
                    counts.2.fetch_add(1, Ordering::Relaxed);
                    continue;
                };
                let mut client = FlightSqlServiceClient::new(channel);
                let last = 1 + (draw >> 8) % 100_000;
                let sql = format!("SELECT sum(id) AS s FROM published.wide WHERE id < {last}");
                let Ok(info) = client.execute(sql, None).await else {
                    counts.2.fetch_add(1, Ordering::Relaxed);
                    continue;
                };
                let ticket = info.endpoint[0].ticket.clone().unwrap();
                let Ok(mut batches) = client.do_get(ticket).await else {
                    counts.2.fetch_add(1, Ordering::Relaxed);
                    continue;
                };
                if draw % 3 == 0 {
                    counts.1.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                let mut sum = None;
                loop {
                    match batches.next().await {
                        Some(Ok(batch)) if batch.num_rows() > 0 => {
                            sum = Some(batch.column(0).as_primitive::<Int64Type>().value(0));
                        }
                        Some(Ok(_)) => {}
                        Some(Err(_)) => {
                            counts.2.fetch_add(1, Ordering::Relaxed);
                            break;
                        }
                        None => {
                            let last = last as i64;
                            assert_eq!(sum, Some(last * (last - 1) / 2), "a wrong answer");
                            counts.0.fetch_add(1, Ordering::Relaxed);
                            break;
                        }
                    }
                }
            }
        }));
    }
    let started = Instant::now();
    while Instant::now() < until {
        tokio::time::sleep(Duration::from_secs((seconds / 5).max(1))).await;
        println!(
            "  after {:>4.0} s: {:>6.0} MiB, {:>4} handles, {} answered, {} died, {} refused",
            started.elapsed().as_secs_f64(),
            server.mib("VmRSS"),
            server.handles(),
            counts.0.load(Ordering::Relaxed),
            counts.1.load(Ordering::Relaxed),
            counts.2.load(Ordering::Relaxed),
        );
    }
    for client in running {
        client.await.expect("no client saw a wrong answer");
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    println!(
        "  when all are gone: {:.0} MiB, {} handles",
        server.mib("VmRSS"),
        server.handles()
    );
}

fn main() {
    let runtime = Runtime::new().unwrap();
    if let Some(root) = argument("--serve").or_else(|| argument("--serve-computing")) {
        return runtime.block_on(serve_here(Path::new(&root)));
    }
    if let Some(rows) = argument("--bare") {
        return runtime.block_on(bare_here(Bare::Batches(wide(rows.parse().unwrap()))));
    }
    if let Some(root) = argument("--bare-files") {
        let files = files_in(&Path::new(&root).join("lake/published/wide"));
        return runtime.block_on(bare_here(Bare::Files(files)));
    }
    let folder = tempfile::tempdir().unwrap();
    let rows = if measuring() { ROWS } else { 200_000 };
    runtime.block_on(fill(folder.path(), rows));
    let server = Other::start(&["--serve", folder.path().to_str().unwrap()]);
    runtime.block_on(async {
        match argument("--soak") {
            Some(seconds) => soak(&server, seconds.parse().unwrap(), 200).await,
            None => {
                let root = folder.path().to_str().unwrap();
                streams(&server, root, rows).await;
                latencies(&server, "of which results are kept").await;
                let computing = Other::start(&["--serve-computing", root]);
                latencies(&computing, "each computed").await;
                prepared(&computing).await;
                if !measuring() {
                    soak(&server, 1, 10).await;
                }
            }
        }
    });
}
