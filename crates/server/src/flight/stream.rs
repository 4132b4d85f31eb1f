//! Batches become a stream of Flight messages.
//!
//! The schema message always comes first, also for no rows. Messages are split by the size of their
//! own rows. A query runs in a task of its own with a short queue between it and the network, so
//! that computing and sending overlap and a slow reader holds the query back instead of filling
//! memory. A query may be started before anybody reads: then it stops when the queue is full. The
//! stream ends cleanly only when the query did: a failure, a cancel or a panic of the task ends it
//! with an error.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use arrow_flight::{FlightData, IpcMessage, SchemaAsIpc};
use bytes::Bytes;
use futures::stream::{self, BoxStream, Stream, StreamExt};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tonic::Status;

use super::Limits;
use super::running::{Fate, Guard, Running, Stop};
use super::wire::{Wire, split};
use crate::journal::Statement;
use crate::status::Teller;

/// What `DoGet` answers with.
pub(crate) type FlightStream = BoxStream<'static, Result<FlightData, Status>>;

/// Bytes of rows that one message aims at. Clients accept 4 MB or more.
pub(crate) const MESSAGE_BYTES: usize = 2 * 1024 * 1024;

/// Messages that wait for the network before the query is held back.
const QUEUE: usize = 2;

/// How often a query that has no rows yet shows that it is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// The schema as the protocol wraps it: continuation marker, length, message.
pub(crate) fn schema_bytes(schema: &Schema) -> Result<Bytes, ArrowError> {
    let IpcMessage(bytes) = SchemaAsIpc::new(schema, &IpcWriteOptions::default()).try_into()?;
    Ok(bytes)
}

/// Batches that are ready, as a stream: for metadata.
pub(crate) fn ready(
    schema: &SchemaRef,
    batches: Vec<RecordBatch>,
) -> Result<FlightStream, ArrowError> {
    let mut encoder = Encoder::new(schema, IpcWriteOptions::default());
    let mut messages = vec![encoder.schema()];
    for batch in batches {
        for piece in split(batch, MESSAGE_BYTES) {
            messages.extend(encoder.batch(&piece)?);
        }
    }
    Ok(stream::iter(messages.into_iter().map(Ok)).boxed())
}

/// What is told and kept of a query while its rows are sent.
pub(crate) struct Watched {
    /// Its record.
    pub(crate) statement: Statement,
    /// Most rows and bytes.
    pub(crate) limits: Limits,
    /// What the first message says about the whole result.
    pub(crate) app_metadata: Bytes,
}

/// What has come of a query.
#[derive(Debug, Clone)]
pub(crate) enum Stage {
    /// No row yet.
    Working,
    /// Rows.
    Flowing,
    /// All rows.
    Whole,
    /// An end before the last row.
    Failed(Status),
}

/// A query that runs, and the messages that it has ready. Dropping it stops the query.
pub(crate) struct Outgoing {
    receiver: mpsc::Receiver<Message>,
    /// Its record is ended by whoever takes the last message.
    task: JoinHandle<Option<Statement>>,
    guard: Guard,
    teller: Arc<Teller>,
    stage: watch::Receiver<Stage>,
    /// A message without rows.
    empty: Option<FlightData>,
    keep_alive: Duration,
    /// Whether the schema was taken.
    begun: bool,
}

/// The rows of a query, as they come.
pub(crate) fn running<S>(
    wire: Wire,
    rows: S,
    query: Bytes,
    watched: Watched,
    all: &Running,
    teller: Arc<Teller>,
) -> Outgoing
where
    S: Stream<Item = Result<RecordBatch, Status>> + Send + 'static,
{
    start(wire, rows.boxed(), query, watched, all, teller, KEEP_ALIVE)
}

fn start(
    wire: Wire,
    rows: BoxStream<'static, Result<RecordBatch, Status>>,
    query: Bytes,
    watched: Watched,
    all: &Running,
    teller: Arc<Teller>,
    keep_alive: Duration,
) -> Outgoing {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let (tell, stage) = watch::channel(Stage::Working);
    let empty = empty(&wire);
    let producing = Box::pin(produce(
        wire,
        rows,
        watched,
        sender,
        tell,
        Arc::clone(&teller),
    ));
    let task = tokio::spawn(producing);
    let guard = all.enter(query, task.abort_handle());
    Outgoing {
        receiver,
        task,
        guard,
        teller,
        stage,
        empty,
        keep_alive,
        begun: false,
    }
}

type Message = Result<FlightData, Status>;

/// Sends all rows; what became of the query goes into its record.
async fn produce(
    wire: Wire,
    rows: BoxStream<'static, Result<RecordBatch, Status>>,
    watched: Watched,
    sender: mpsc::Sender<Message>,
    stage: watch::Sender<Stage>,
    teller: Arc<Teller>,
) -> Option<Statement> {
    match send_all(&wire, rows, &watched, &sender, &stage, &teller).await {
        Ok(true) => {
            stage.send_replace(Stage::Whole);
            Some(watched.statement)
        }
        // The client is gone: a statement that is dropped was cancelled.
        Ok(false) => None,
        Err(status) => {
            watched.statement.failed(status.code());
            stage.send_replace(Stage::Failed(status.clone()));
            let _receiver_gone = sender.send(Err(status)).await;
            None
        }
    }
}

/// A message without rows, which shows that a query is alive.
fn empty(wire: &Wire) -> Option<FlightData> {
    let mut encoder = Encoder::of(wire).ok()?;
    let rows = RecordBatch::new_empty(Arc::clone(wire.schema()));
    encoder.batch(&rows).ok()?.pop()
}

/// False when the client went away.
async fn send_all(
    wire: &Wire,
    mut rows: BoxStream<'static, Result<RecordBatch, Status>>,
    watched: &Watched,
    sender: &mpsc::Sender<Message>,
    stage: &watch::Sender<Stage>,
    teller: &Teller,
) -> Result<bool, Status> {
    let mut encoder = Encoder::of(wire).map_err(|error| refuse(&error, teller))?;
    let mut first = encoder.schema();
    first.app_metadata = watched.app_metadata.clone();
    if sender.send(Ok(first)).await.is_err() {
        return Ok(false);
    }
    while let Some(batch) = rows.next().await.transpose()? {
        if batch.num_rows() == 0 {
            // It tells nothing, and would take the place of rows in a queue that nobody reads yet.
            continue;
        }
        let batch_rows = u64::try_from(batch.num_rows()).unwrap_or(u64::MAX);
        let messages = wire.cast(&batch).and_then(|batch| encoder.pieces(batch));
        let messages = messages.map_err(|error| refuse(&error, teller))?;
        let bytes = messages.iter().map(|message| {
            u64::try_from(message.data_header.len() + message.data_body.len()).unwrap_or(u64::MAX)
        });
        let sent = watched.statement.sent(batch_rows, bytes.sum());
        watched.limits.allow(sent)?;
        stage.send_if_modified(|stage| {
            let first = matches!(stage, Stage::Working);
            *stage = Stage::Flowing;
            first
        });
        for message in messages {
            if sender.send(Ok(message)).await.is_err() {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

impl Limits {
    /// Whether a result may have so many rows and bytes.
    fn allow(&self, (rows, bytes): (u64, u64)) -> Result<(), Status> {
        let over = |what: &str, limit: u64| {
            Status::resource_exhausted(format!(
                "the result has more than {limit} {what}, the most that one statement may fetch \
                 here; narrow it, sum it up, or use LIMIT"
            ))
        };
        match (self.rows, self.bytes) {
            (Some(limit), _) if rows > limit => Err(over("rows", limit)),
            (_, Some(limit)) if bytes > limit => Err(over("bytes", limit)),
            _ => Ok(()),
        }
    }
}

/// A result value that has no place in the wire types is the query's business; the rest is ours.
/// The text of the error may hold the value, and is not passed on.
fn refuse(error: &ArrowError, teller: &Teller) -> Status {
    match error {
        ArrowError::CastError(_) | ArrowError::ArithmeticOverflow(_) => Status::out_of_range(
            "a value of the result does not fit the types of the wire; cast the column to text",
        ),
        _ => teller.internal("the result could not be written to the wire"),
    }
}

impl Outgoing {
    /// What has come of the query; the sender is gone when it was stopped.
    pub(crate) fn stage(&self) -> watch::Receiver<Stage> {
        self.stage.clone()
    }

    /// Why it was stopped, if it was, for one who does not hold it.
    pub(crate) fn fate(&self) -> Fate {
        self.guard.fate()
    }

    /// Stops the query.
    pub(crate) fn stop(&self, why: Stop) {
        self.guard.stop(why);
    }

    /// The messages, for the network. Dropping the stream stops the query.
    pub(crate) fn stream(self) -> FlightStream {
        stream::unfold(Some(self), |open| async move {
            let mut open = open?;
            match open.message().await {
                Some(Ok(message)) => Some((Ok(message), Some(open))),
                Some(Err(status)) => Some((Err(status), None)),
                // The queue is closed: only the end of the task tells whether all rows were sent.
                None => match (open.task.await, open.guard.stopped()) {
                    (Ok(statement), _) => {
                        if let Some(statement) = statement {
                            statement.done();
                        }
                        None
                    }
                    (Err(_), Some(stop)) => Some((Err(stop.status()), None)),
                    (Err(_), None) => Some((
                        Err(open.teller.internal("the query stopped unexpectedly")),
                        None,
                    )),
                },
            }
        })
        .boxed()
    }

    /// The next message. A query that has no rows yet shows again and again that it is alive.
    async fn message(&mut self) -> Option<Message> {
        let silent = self.begun && matches!(*self.stage.borrow(), Stage::Working);
        self.begun = true;
        match &self.empty {
            Some(empty) if silent => {
                match tokio::time::timeout(self.keep_alive, self.receiver.recv()).await {
                    Ok(message) => message,
                    Err(_elapsed) => Some(Ok(empty.clone())),
                }
            }
            _ => self.receiver.recv().await,
        }
    }
}

/// Writes one stream of messages.
struct Encoder {
    schema: SchemaRef,
    options: IpcWriteOptions,
    generator: IpcDataGenerator,
    dictionaries: DictionaryTracker,
    context: IpcWriteContext,
}

impl Encoder {
    fn of(wire: &Wire) -> Result<Self, ArrowError> {
        let options =
            IpcWriteOptions::default().try_with_compression(wire.compression().codec())?;
        Ok(Self::new(wire.schema(), options))
    }

    fn new(schema: &SchemaRef, options: IpcWriteOptions) -> Self {
        Self {
            schema: Arc::clone(schema),
            options,
            generator: IpcDataGenerator::default(),
            dictionaries: DictionaryTracker::new(true),
            context: IpcWriteContext::default(),
        }
    }

    fn schema(&self) -> FlightData {
        SchemaAsIpc::new(&self.schema, &self.options).into()
    }

    fn batch(&mut self, batch: &RecordBatch) -> Result<Vec<FlightData>, ArrowError> {
        let (dictionaries, batch) = self.generator.encode(
            batch,
            &mut self.dictionaries,
            &self.options,
            &mut self.context,
        )?;
        Ok(dictionaries
            .into_iter()
            .chain([batch])
            .map(FlightData::from)
            .collect())
    }

    fn pieces(&mut self, batch: RecordBatch) -> Result<Vec<FlightData>, ArrowError> {
        let mut messages = Vec::new();
        for piece in split(batch, MESSAGE_BYTES) {
            messages.extend(self.batch(&piece)?);
        }
        Ok(messages)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use arrow::array::{ArrayRef, Int64Array, StringArray};
    use arrow::datatypes::{DataType, Field};
    use arrow_flight::decode::FlightRecordBatchStream;
    use futures::TryStreamExt;
    use tonic::Code;

    use tietopohja_domain::{FixedClock, Timestamp};
    use tietopohja_engine::{Principal, Role};

    use super::super::wire::Profile;
    use super::*;
    use crate::auth::Ids;
    use crate::journal::{Asked, Journal};

    fn teller() -> Arc<Teller> {
        Arc::new(Teller::new(Ids::new(&[0; 32], "error", 0)))
    }

    pub(in super::super) fn numbers(rows: std::ops::Range<i64>) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(rows));
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]));
        RecordBatch::try_new(schema, vec![column]).unwrap()
    }

    fn journal() -> Arc<Journal> {
        let clock = FixedClock(Timestamp::from_second(1_700_000_000).unwrap());
        Arc::new(Journal::new(Arc::new(clock), None))
    }

    fn watched(journal: &Arc<Journal>, limits: Limits) -> Watched {
        Watched {
            statement: journal.enter(Asked {
                principal: Principal::new("a", Role::Reader).unwrap(),
                session: None,
                client: None,
                trace: None,
                sql: "SELECT 1".to_owned(),
            }),
            limits,
            app_metadata: Bytes::from_static(b"{}"),
        }
    }

    fn run<S>(rows: S, all: &Running) -> FlightStream
    where
        S: Stream<Item = Result<RecordBatch, Status>> + Send + 'static,
    {
        run_watched(rows, watched(&journal(), Limits::default()), all)
    }

    fn run_watched<S>(rows: S, watched: Watched, all: &Running) -> FlightStream
    where
        S: Stream<Item = Result<RecordBatch, Status>> + Send + 'static,
    {
        start_watched(rows, watched, all).stream()
    }

    #[tokio::test]
    async fn a_result_is_held_to_its_limits() {
        for (limits, told) in [
            (
                Limits {
                    rows: Some(5),
                    ..Limits::default()
                },
                "more than 5 rows",
            ),
            (
                Limits {
                    bytes: Some(300),
                    ..Limits::default()
                },
                "more than 300 bytes",
            ),
        ] {
            let all = Running::default();
            let journal = journal();
            let rows = stream::iter([Ok(numbers(0..3)), Ok(numbers(0..3))]);
            let (batches, end) = read(run_watched(rows, watched(&journal, limits), &all)).await;
            let status = end.unwrap();
            assert_eq!(status.code(), Code::ResourceExhausted);
            assert!(status.message().contains(told), "{status}");
            assert_eq!(batches.len(), 1, "{told}");
            let records = journal.statements();
            assert_eq!(records[0].code, Some("RESOURCE_EXHAUSTED"));
        }
        let all = Running::default();
        let limits = Limits {
            rows: Some(6),
            ..Limits::default()
        };
        let rows = stream::iter([Ok(numbers(0..3)), Ok(numbers(0..3))]);
        let (batches, end) = read(run_watched(rows, watched(&journal(), limits), &all)).await;
        assert!(end.is_none());
        assert_eq!(batches.len(), 2);
    }

    #[tokio::test]
    async fn the_record_tells_how_the_query_ended() {
        let all = Running::default();
        let journal = journal();
        let own = || watched(&journal, Limits::default());
        read(run_watched(stream::iter([Ok(numbers(0..3))]), own(), &all)).await;
        let failing = stream::iter([Err(Status::invalid_argument("no"))]);
        read(run_watched(failing, own(), &all)).await;
        let panicking = stream::iter([0]).map(|step| {
            assert_eq!(step, 1, "the query fails");
            Ok(numbers(0..3))
        });
        read(run_watched(panicking, own(), &all)).await;
        let ends: Vec<_> = journal
            .statements()
            .iter()
            .map(|record| (record.state.as_str(), record.code, record.rows))
            .collect();
        assert_eq!(
            ends,
            [
                ("done", None, 3),
                ("failed", Some("INVALID_ARGUMENT"), 0),
                ("failed", Some("INTERNAL"), 0),
            ]
        );
    }

    /// A query that was started.
    pub(in super::super) fn outgoing<S>(rows: S, all: &Running) -> Outgoing
    where
        S: Stream<Item = Result<RecordBatch, Status>> + Send + 'static,
    {
        let own = watched(&journal(), Limits::default());
        start_watched(rows, own, all)
    }

    fn start_watched<S>(rows: S, watched: Watched, all: &Running) -> Outgoing
    where
        S: Stream<Item = Result<RecordBatch, Status>> + Send + 'static,
    {
        let wire = Wire::of(&numbers(0..0).schema(), Profile::default());
        running(wire, rows, Bytes::from_static(b"q"), watched, all, teller())
    }

    /// What a client reads: the batches up to the end, and the error it ended with.
    async fn read(stream: FlightStream) -> (Vec<RecordBatch>, Option<Status>) {
        let mut stream = FlightRecordBatchStream::new_from_flight_data(stream.err_into());
        let mut batches = Vec::new();
        loop {
            match stream.next().await {
                None => return (batches, None),
                Some(Ok(batch)) => batches.push(batch),
                Some(Err(error)) => return (batches, Some(error.into())),
            }
        }
    }

    #[tokio::test]
    async fn a_stream_without_rows_still_sends_its_schema() {
        let all = Running::default();
        let messages: Vec<FlightData> = run(stream::empty(), &all).try_collect().await.unwrap();
        assert_eq!(messages.len(), 1);
        let schema = Schema::try_from(&messages[0]).unwrap();
        assert_eq!(schema, *numbers(0..0).schema());
        let messages: Vec<FlightData> = ready(&numbers(0..0).schema(), vec![])
            .unwrap()
            .try_collect()
            .await
            .unwrap();
        assert_eq!(Schema::try_from(&messages[0]).unwrap(), schema);
    }

    #[tokio::test]
    async fn rows_arrive_whole_and_in_order() {
        let all = Running::default();
        let batches = [numbers(0..500_000), numbers(500_000..500_003)];
        let (read, end) = read(run(stream::iter(batches.clone().map(Ok)), &all)).await;
        assert!(end.is_none());
        assert!(read.len() > 2, "4 MB of rows travel in several messages");
        let schema = batches[0].schema();
        assert_eq!(
            arrow::compute::concat_batches(&schema, &read).unwrap(),
            arrow::compute::concat_batches(&schema, &batches).unwrap()
        );
        assert_eq!(all.count(), 0);
    }

    #[tokio::test]
    async fn a_failed_query_never_ends_cleanly() {
        let all = Running::default();
        let failure = Status::resource_exhausted("no memory");
        let rows = stream::iter([Ok(numbers(0..3)), Err(failure)]);
        let (batches, end) = read(run(rows, &all)).await;
        assert_eq!(batches.len(), 1);
        assert_eq!(end.unwrap().code(), Code::ResourceExhausted);
    }

    #[tokio::test]
    async fn a_panic_in_the_query_is_an_error_of_the_stream() {
        let all = Running::default();
        let rows = stream::iter([0, 1]).map(|step| {
            assert_eq!(step, 0, "the query fails at its second batch");
            Ok(numbers(0..3))
        });
        let (batches, end) = read(run(rows, &all)).await;
        assert_eq!(batches.len(), 1);
        assert_eq!(end.unwrap().code(), Code::Internal);
    }

    #[tokio::test]
    async fn a_batch_of_another_shape_is_an_error_of_the_stream() {
        let all = Running::default();
        let column: ArrayRef = Arc::new(StringArray::from(vec!["a-row-value"]));
        let text = RecordBatch::try_from_iter([("n", column)]).unwrap();
        let (_, end) = read(run(stream::iter([Ok(text)]), &all)).await;
        let status = end.unwrap();
        assert_eq!(status.code(), Code::Internal);
        assert!(!status.message().contains("a-row-value"));
        let column: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        let wide = RecordBatch::try_from_iter([("a", Arc::clone(&column)), ("b", column)]).unwrap();
        let (_, end) = read(run(stream::iter([Ok(wide)]), &all)).await;
        assert_eq!(end.unwrap().code(), Code::Internal);
    }

    #[tokio::test]
    async fn a_cancelled_query_ends_with_cancelled() {
        let all = Running::default();
        let rows = stream::once(async { Ok(numbers(0..3)) }).chain(stream::pending());
        let mut stream = run(rows, &all);
        let mut seen = 0;
        let status = loop {
            match stream.next().await.unwrap() {
                Ok(_) => seen += 1,
                Err(status) => break status,
            }
            if seen == 2 {
                assert!(all.cancel(&Bytes::from_static(b"q")));
            }
        };
        assert_eq!(status.code(), Code::Cancelled);
        assert!(stream.next().await.is_none());
        assert_eq!(all.count(), 0);
    }

    #[tokio::test]
    async fn a_dropped_stream_drops_the_query() {
        struct Flag(Option<tokio::sync::oneshot::Sender<()>>);
        impl Drop for Flag {
            fn drop(&mut self) {
                let _ = self.0.take().map(|sender| sender.send(()));
            }
        }
        let all = Running::default();
        let (sender, dropped) = tokio::sync::oneshot::channel();
        let flag = Flag(Some(sender));
        let rows = stream::pending().inspect(move |_| {
            let _holds = &flag;
        });
        let mut stream = run(rows, &all);
        assert!(stream.next().await.unwrap().is_ok(), "the schema");
        drop(stream);
        dropped.await.unwrap();
        assert_eq!(all.count(), 0);
    }

    #[tokio::test]
    async fn a_slow_reader_holds_the_query_back() {
        let all = Running::default();
        let made = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counter = Arc::clone(&made);
        let rows = stream::repeat_with(move || {
            counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            Ok(numbers(0..10))
        });
        let mut stream = run(rows, &all);
        for _ in 0..3 {
            assert!(stream.next().await.unwrap().is_ok());
        }
        tokio::task::yield_now().await;
        assert!(made.load(std::sync::atomic::Ordering::SeqCst) <= 3 + QUEUE + 1);
    }

    #[tokio::test]
    async fn a_query_that_nobody_reads_stops_when_the_queue_is_full_and_is_read_whole_later() {
        let all = Running::default();
        let journal = journal();
        let made = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counter = Arc::clone(&made);
        let rows = stream::iter(0..110).map(move |number| {
            counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            // The first ten have no rows, and are not waited for.
            Ok(numbers(0..number.min(10) / 10))
        });
        let outgoing = start_watched(rows, watched(&journal, Limits::default()), &all);
        let mut stage = outgoing.stage();
        let flowing = stage.wait_for(|stage| matches!(stage, Stage::Flowing));
        drop(flowing.await.unwrap());
        tokio::task::yield_now().await;
        assert!(made.load(std::sync::atomic::Ordering::SeqCst) <= 10 + QUEUE + 1);
        assert_eq!(journal.statements()[0].ended_at, None);
        let (batches, end) = read(outgoing.stream()).await;
        assert!(end.is_none());
        assert_eq!(batches.len(), 100);
        assert!(matches!(*stage.borrow(), Stage::Whole));
        assert_eq!(journal.statements()[0].state.as_str(), "done");
    }

    #[tokio::test]
    async fn a_result_that_was_whole_and_that_nobody_took_was_cancelled() {
        let all = Running::default();
        let journal = journal();
        let rows = stream::iter([Ok(numbers(0..3))]);
        let outgoing = start_watched(rows, watched(&journal, Limits::default()), &all);
        let mut stage = outgoing.stage();
        let whole = stage.wait_for(|stage| matches!(stage, Stage::Whole));
        drop(whole.await.unwrap());
        assert_eq!(journal.statements()[0].ended_at, None);
        drop(outgoing);
        assert_eq!(all.count(), 0);
        // The record ends with the task, which may be about to end still.
        while journal.statements()[0].ended_at.is_none() {
            tokio::task::yield_now().await;
        }
        assert_eq!(journal.statements()[0].state.as_str(), "cancelled");
    }

    #[tokio::test]
    async fn a_query_that_thinks_long_sends_empty_batches() {
        let all = Running::default();
        let (sender, thought) = tokio::sync::oneshot::channel();
        let rows = stream::once(async {
            thought.await.unwrap();
            Ok(numbers(0..3))
        });
        let wire = Wire::of(&numbers(0..0).schema(), Profile::default());
        let query = Bytes::from_static(b"q");
        let often = Duration::from_millis(1);
        let own = watched(&journal(), Limits::default());
        let started = start(wire, rows.boxed(), query, own, &all, teller(), often);
        let mut stream = started.stream();
        let mut early = Vec::new();
        for _ in 0..3 {
            early.push(stream.next().await.unwrap());
        }
        sender.send(()).unwrap();
        let (batches, end) = read(stream::iter(early).chain(stream).boxed()).await;
        assert!(end.is_none());
        let rows: Vec<_> = batches.iter().map(RecordBatch::num_rows).collect();
        assert_eq!(rows[..2], [0, 0]);
        assert_eq!(rows.last(), Some(&3));
    }
}
