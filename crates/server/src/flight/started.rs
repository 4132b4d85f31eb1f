//! Queries that were started by asking how far they are, and whose rows nobody has fetched yet.
//!
//! `PollFlightInfo` starts a query and asks again until its first rows are there. What is kept here is
//! the running query under its id, how far it has come, and who asks for it now; its rows wait in the
//! short queue of its stream and hold it back when that is full. `DoGet` takes the stream over. A
//! query that nobody asks for is dropped after a while, and so is the oldest when too many have rows
//! that wait: nothing is lost but time, because tokens and tickets carry the whole statement. Which
//! query is started, for whom, and what the caller is told, is decided in `door.rs`.
//!
//! How long the while is depends on how the last call ended. One that was answered is coming back,
//! and has the whole patience for it. One that was broken off, by its client or with its connection,
//! mostly means that nobody wants the rows any more: many clients cancel a query by nothing but that.
//! But it may also have been a proxy that lost a connection, or a deadline, and then the client asks
//! again at once. So the query stays for [`GRACE`], in which a second try finds it as it is; a later
//! one starts it anew, and fails in neither case. Where the very first call was broken off nobody
//! has a token, and a second try begins with a query of its own: that one is dropped without grace,
//! or both would run. So that a deadline alone breaks nothing off, an answer comes before it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tonic::Status;
use tonic::metadata::MetadataMap;

use super::running::{Fate, Stop};
use super::stream::{Outgoing, Stage};
use crate::auth::SessionId;

/// How long the first answer waits for rows: most statements have them by then.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// How long a later answer waits for news.
const WAIT: Duration = Duration::from_secs(5);

/// How often the progress is looked at meanwhile, and by how much it must grow to be news.
const LOOK: Duration = Duration::from_millis(100);
const NEWS: f64 = 0.01;

/// How long a query stays whose last call was broken off.
const GRACE: Duration = Duration::from_secs(1);

/// The most that is told of a query whose first row is not there: what follows the scans is not
/// counted.
const ALMOST: f64 = 0.99;

/// Queries with rows that wait, besides those that run.
const MOST_READY: usize = 16;

/// How far a query has come, from 0 to 1.
pub(crate) type Progress = Box<dyn Fn() -> f64 + Send + Sync>;

/// A query when it is started.
pub(crate) struct Start {
    pub(crate) outgoing: Outgoing,
    pub(crate) progress: Progress,
    /// The session that asked for it.
    pub(crate) session: Option<SessionId>,
    pub(crate) schema: SchemaRef,
    /// What is said of the whole result.
    pub(crate) app_metadata: Bytes,
}

/// All started queries of one server.
#[derive(Debug)]
pub(crate) struct Started {
    all: Arc<Mutex<All>>,
    patience: Duration,
}

#[derive(Debug)]
struct All {
    next: u64,
    queries: HashMap<Bytes, Arc<Query>>,
    most_ready: usize,
}

/// A started query.
struct Query {
    /// Their order.
    number: u64,
    /// None when its rows were taken over.
    outgoing: Mutex<Option<Outgoing>>,
    progress: Progress,
    /// What was told last; none before the first answer.
    told: Mutex<Option<f64>>,
    stage: watch::Receiver<Stage>,
    fate: Fate,
    session: Option<SessionId>,
    schema: SchemaRef,
    app_metadata: Bytes,
    interest: watch::Sender<Interest>,
    watchman: AbortHandle,
}

/// Who wants a query.
#[derive(Debug, Default, Clone, Copy)]
struct Interest {
    /// How many calls ask for it now.
    asking: usize,
    /// How many were answered, and have not come back yet.
    answered: usize,
    /// Whether anybody was answered ever, and has a token.
    known: bool,
    /// Whether its rows were taken over; what is left costs nothing.
    taken: bool,
}

/// What is told of a query.
#[derive(Debug)]
pub(crate) enum Standing {
    /// It has no row yet, and has come so far.
    Working(f64),
    /// Its first rows are there, or it has ended without any.
    Ready,
    /// It has failed, or was stopped.
    Failed(Status),
    /// It has ended, and nobody knows why.
    Lost,
}

/// Asks for a query; it is not dropped meanwhile. Dropped without an answer, the call was broken off.
#[derive(Debug)]
pub(crate) struct Asker {
    query: Arc<Query>,
    answered: bool,
}

impl fmt::Debug for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Query")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

impl Started {
    /// No queries. One that nobody asks for is dropped after `patience`; `running` may run at a time.
    pub(crate) fn new(patience: Duration, running: usize) -> Self {
        Self {
            all: Arc::new(Mutex::new(All {
                next: 0,
                queries: HashMap::new(),
                most_ready: MOST_READY.saturating_add(running),
            })),
            patience,
        }
    }

    /// How long a query stays that nobody asks for.
    pub(crate) fn patience(&self) -> Duration {
        self.patience
    }

    /// Enters a query that was started, and asks for it. When the same was started meanwhile, that one
    /// stays.
    pub(crate) fn enter(&self, id: Bytes, start: Start) -> Asker {
        let Start {
            outgoing,
            progress,
            session,
            schema,
            app_metadata,
        } = start;
        let (interest, interested) = watch::channel(Interest::default());
        let (stage, fate) = (outgoing.stage(), outgoing.fate());
        let mut all = lock(&self.all);
        if let Some(query) = all.queries.get(&id) {
            let asker = Asker::of(query);
            drop(all);
            return asker;
        }
        let watchman = tokio::spawn(keep_watch(
            Arc::downgrade(&self.all),
            id.clone(),
            interested,
            stage.clone(),
            self.patience,
        ));
        let query = Arc::new(Query {
            number: all.next,
            outgoing: Mutex::new(Some(outgoing)),
            progress,
            told: Mutex::new(None),
            stage,
            fate,
            session,
            schema,
            app_metadata,
            interest,
            watchman: watchman.abort_handle(),
        });
        all.next += 1;
        let asker = Asker::of(&query);
        all.queries.insert(id, query);
        asker
    }

    /// Asks for a query that is there.
    pub(crate) fn ask(&self, id: &Bytes) -> Option<Asker> {
        let all = lock(&self.all);
        all.queries.get(id).map(Asker::of)
    }

    /// The rows of a query, for the first who fetches them.
    pub(crate) fn take(&self, id: &Bytes) -> Option<Outgoing> {
        let all = lock(&self.all);
        let query = all.queries.get(id)?;
        let outgoing = lock(&query.outgoing).take()?;
        query.interest.send_modify(|interest| interest.taken = true);
        Some(outgoing)
    }

    /// Drops a query.
    pub(crate) fn remove(&self, id: &Bytes) {
        // It ends after the lock is free: its record may be written to a file.
        let _ended = lock(&self.all).queries.remove(id);
    }

    /// Stops the queries of a session whose rows nobody has fetched.
    pub(crate) fn close(&self, session: &SessionId) {
        let of_session = |query: &Query| query.session.as_ref() == Some(session);
        self.stop(of_session, Stop::Cancelled);
    }

    /// Stops all queries whose rows nobody has fetched, because nobody can fetch them any more.
    pub(crate) fn drain(&self) {
        self.stop(|_| true, Stop::Drained);
    }

    fn stop(&self, which: impl Fn(&Query) -> bool, why: Stop) {
        let stopped: Vec<_> = {
            let mut all = lock(&self.all);
            let stopped = all.queries.extract_if(|_, query| which(query));
            stopped.collect()
        };
        for (_, query) in stopped {
            if let Some(outgoing) = lock(&query.outgoing).take() {
                outgoing.stop(why);
            }
        }
    }

    /// How many there are.
    #[cfg(test)]
    fn count(&self) -> usize {
        lock(&self.all).queries.len()
    }

    #[cfg(test)]
    fn is_there(&self, id: &Bytes) -> bool {
        lock(&self.all).queries.contains_key(id)
    }
}

impl All {
    /// Takes a query away that nobody asks for.
    fn drop_idle(&mut self, id: &Bytes) -> Option<Arc<Query>> {
        let idle = self.queries.get(id)?.is_idle();
        idle.then(|| self.queries.remove(id)).flatten()
    }

    /// Takes away what is too much of queries that have rows: those that were taken over first, and the
    /// oldest first.
    fn drop_ready(&mut self) -> Vec<Arc<Query>> {
        let ready = self.queries.iter().filter(|(_, query)| query.has_rows());
        let mut ready: Vec<_> = ready
            .map(|(id, query)| {
                let waits = lock(&query.outgoing).is_some();
                ((waits, query.number), id.clone(), query.is_idle())
            })
            .collect();
        ready.sort();
        let too_many = ready.len().saturating_sub(self.most_ready);
        let idle = ready.into_iter().filter(|(_, _, idle)| *idle);
        idle.take(too_many)
            .filter_map(|(_, id, _)| self.queries.remove(&id))
            .collect()
    }
}

impl Interest {
    /// How long nobody may ask for the query before it is dropped.
    fn patience(self, longest: Duration) -> Duration {
        if self.taken || self.answered > 0 {
            longest
        } else if self.known {
            GRACE.min(longest)
        } else {
            Duration::ZERO
        }
    }
}

/// How long a call may wait for news: half of what its deadline leaves, so that the answer is there
/// in time.
pub(crate) fn longest_wait(metadata: &MetadataMap) -> Duration {
    let deadline = metadata.get("grpc-timeout");
    let deadline = deadline.and_then(|value| value.to_str().ok());
    deadline
        .and_then(time_span)
        .map_or(Duration::MAX, |deadline| deadline / 2)
}

/// A span of time as the protocol writes it: up to eight digits and a unit.
fn time_span(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let digits = (1..=8).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit());
    let number: u64 = number.parse().ok().filter(|_| digits)?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3_600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

/// Drops a query when nobody asked for it for so long, and others when it has rows and too many have.
/// Ends with the query.
async fn keep_watch(
    all: Weak<Mutex<All>>,
    id: Bytes,
    mut interest: watch::Receiver<Interest>,
    mut stage: watch::Receiver<Stage>,
    longest: Duration,
) {
    let mut silent = true;
    loop {
        let Some(idle) = nobody_asks(&mut interest).await else {
            return;
        };
        tokio::select! {
            biased;
            asked = interest.changed() => {
                if asked.is_err() {
                    return;
                }
            }
            () = first_rows(&mut stage), if silent => {
                silent = false;
                let Some(all) = all.upgrade() else { return };
                let _ended = lock(&all).drop_ready();
            }
            () = tokio::time::sleep(idle.patience(longest)) => {
                let Some(all) = all.upgrade() else { return };
                let dropped = lock(&all).drop_idle(&id);
                if dropped.is_some() {
                    tracing::info!("a started query was dropped: nobody asked for it");
                    return;
                }
            }
        }
    }
}

/// None when the query is gone.
async fn nobody_asks(interest: &mut watch::Receiver<Interest>) -> Option<Interest> {
    let idle = interest.wait_for(|interest| interest.asking == 0).await;
    idle.ok().map(|interest| *interest)
}

/// Waits until the first rows are there, or none will come.
async fn first_rows(stage: &mut watch::Receiver<Stage>) {
    let more = |stage: &Stage| !matches!(stage, Stage::Working);
    // A sender that is gone says as much.
    let _stage = stage.wait_for(more).await;
}

impl Query {
    fn is_idle(&self) -> bool {
        self.interest.borrow().asking == 0
    }

    fn has_rows(&self) -> bool {
        !matches!(*self.stage.borrow(), Stage::Working)
    }

    /// How far it has come; not less than was told before.
    fn come(&self) -> f64 {
        let told = lock(&self.told).unwrap_or(0.0);
        (self.progress)().min(ALMOST).max(told)
    }

    fn standing(&self) -> Standing {
        let ended = self.stage.has_changed().is_err();
        match &*self.stage.borrow() {
            Stage::Flowing | Stage::Whole => Standing::Ready,
            Stage::Failed(status) => Standing::Failed(status.clone()),
            Stage::Working if ended => match self.fate.stopped() {
                Some(stop) => Standing::Failed(stop.status()),
                // Whoever took it over went away.
                None if lock(&self.outgoing).is_none() => {
                    Standing::Failed(Stop::Cancelled.status())
                }
                None => Standing::Lost,
            },
            Stage::Working => {
                let come = self.come();
                *lock(&self.told) = Some(come);
                Standing::Working(come)
            }
        }
    }
}

impl Drop for Query {
    fn drop(&mut self) {
        self.watchman.abort();
    }
}

impl Asker {
    fn of(query: &Arc<Query>) -> Self {
        query.interest.send_modify(|interest| {
            interest.asking += 1;
            // Whoever comes was answered before, unless it is the first.
            interest.answered = interest.answered.saturating_sub(1);
        });
        Self {
            query: Arc::clone(query),
            answered: false,
        }
    }

    /// The caller is answered, and comes back.
    pub(crate) fn answered(mut self) {
        self.answered = true;
    }

    /// The columns of the rows.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.query.schema
    }

    /// What is said of the whole result.
    pub(crate) fn app_metadata(&self) -> &Bytes {
        &self.query.app_metadata
    }

    /// Waits for news, or for as long as an answer and its caller may wait.
    pub(crate) async fn news(&self, caller: Duration) -> Standing {
        let told = *lock(&self.query.told);
        let mut stage = self.query.stage.clone();
        let grown = async {
            let Some(told) = told else {
                return std::future::pending().await;
            };
            while self.query.come() < told + NEWS {
                tokio::time::sleep(LOOK).await;
            }
        };
        let longest = told.map_or(FIRST_WAIT, |_| WAIT).min(caller);
        tokio::select! {
            () = first_rows(&mut stage) => {}
            () = grown => {}
            () = tokio::time::sleep(longest) => {}
        }
        self.query.standing()
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        let answered = self.answered;
        self.query.interest.send_modify(|interest| {
            interest.asking = interest.asking.saturating_sub(1);
            interest.answered += usize::from(answered);
            interest.known |= answered;
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No holder of these locks can panic half way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use arrow::array::RecordBatch;
    use arrow::datatypes::Schema;
    use futures::StreamExt;
    use futures::stream::{self, BoxStream};
    use tonic::Code;

    use super::super::running::Running;
    use super::super::stream::tests::{numbers, outgoing};
    use super::*;

    type Rows = BoxStream<'static, Result<RecordBatch, Status>>;

    const LONG: Duration = Duration::from_secs(3_600);

    fn start(rows: Rows, all: &Running, progress: Progress, session: &'static str) -> Start {
        Start {
            outgoing: outgoing(rows, all),
            progress,
            session: Some(SessionId::of(Bytes::from_static(session.as_bytes()))),
            schema: Arc::new(Schema::empty()),
            app_metadata: Bytes::new(),
        }
    }

    fn plain(rows: Rows, all: &Running) -> Start {
        start(rows, all, Box::new(|| 0.0), "session")
    }

    fn id(number: usize) -> Bytes {
        Bytes::from(number.to_string())
    }

    fn endless() -> Rows {
        stream::pending().boxed()
    }

    fn some_rows() -> Rows {
        stream::iter([Ok(numbers(0..3))]).boxed()
    }

    async fn until(holds: impl Fn() -> bool) {
        while !holds() {
            tokio::task::yield_now().await;
        }
    }

    fn code(standing: &Standing) -> Option<Code> {
        match standing {
            Standing::Failed(status) => Some(status.code()),
            _ => None,
        }
    }

    #[tokio::test]
    async fn a_query_that_nobody_asks_for_is_dropped_and_one_that_is_asked_for_stays() {
        let (all, started) = (Running::default(), Started::new(Duration::ZERO, 1));
        let first = started.enter(id(1), plain(endless(), &all));
        let second = started.enter(id(2), plain(endless(), &all));
        drop(first);
        until(|| started.count() == 1).await;
        until(|| all.count() == 1).await;
        assert!(started.ask(&id(1)).is_none());
        let again = started.ask(&id(2)).unwrap();
        drop(second);
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!((started.count(), all.count()), (1, 1));
        drop(again);
        until(|| started.count() == 0 && all.count() == 0).await;
    }

    /// What becomes of a call.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum End {
        Answered,
        BrokenOff,
        Waits,
    }

    #[tokio::test]
    async fn a_query_whose_call_is_broken_off_is_dropped_soon_unless_somebody_else_wants_it() {
        use End::{Answered, BrokenOff, Waits};
        // Calls that come one after another, each when the one before has ended or waits.
        let cases: [(&[End], bool); 10] = [
            (&[BrokenOff], false),
            (&[Answered], true),
            (&[Answered, BrokenOff], false),
            (&[Answered, Answered], true),
            // The call was tried again.
            (&[Answered, BrokenOff, Answered], true),
            (&[Answered, BrokenOff, Waits], true),
            (&[Answered, Answered, BrokenOff], false),
            // Another waits for the same.
            (&[Waits, BrokenOff], true),
            (&[Answered, Waits, BrokenOff], true),
            (&[Answered, Waits, BrokenOff, BrokenOff], true),
        ];
        let (all, started) = (Running::default(), Started::new(LONG, 1));
        let mut waiting = Vec::new();
        for (case, (calls, _)) in cases.iter().enumerate() {
            for (number, end) in calls.iter().enumerate() {
                let asker = match number {
                    0 => started.enter(id(case), plain(endless(), &all)),
                    _ => started.ask(&id(case)).unwrap(),
                };
                match end {
                    Answered => asker.answered(),
                    BrokenOff => drop(asker),
                    Waits => waiting.push(asker),
                }
            }
        }
        // This one goes when its grace is over, which began later than that of the others.
        let last = id(cases.len());
        started
            .enter(last.clone(), plain(endless(), &all))
            .answered();
        drop(started.ask(&last).unwrap());
        until(|| !started.is_there(&last)).await;
        for (case, (calls, stays)) in cases.iter().enumerate() {
            assert_eq!(started.is_there(&id(case)), *stays, "{calls:?}");
        }
        assert_eq!(all.count(), started.count());
    }

    #[tokio::test]
    async fn a_query_that_is_fetched_stays_when_a_call_is_broken_off() {
        let (all, started) = (Running::default(), Started::new(LONG, 1));
        for number in [1, 2] {
            let asker = started.enter(id(number), plain(endless(), &all));
            asker.answered();
        }
        let taken = started.take(&id(1)).unwrap();
        for number in [1, 2] {
            drop(started.ask(&id(number)).unwrap());
        }
        until(|| !started.is_there(&id(2))).await;
        assert!(started.is_there(&id(1)));
        assert_eq!(all.count(), 1);
        drop(taken);
    }

    #[test]
    fn an_answer_waits_for_half_of_its_deadline() {
        let cases = [
            (Some("4S"), Duration::from_secs(2)),
            (Some("1H"), Duration::from_secs(1_800)),
            (Some("3M"), Duration::from_secs(90)),
            (Some("000000500m"), Duration::MAX),
            (Some("00500m"), Duration::from_millis(250)),
            (Some("7u"), Duration::from_nanos(3_500)),
            (Some("99999999n"), Duration::from_nanos(49_999_999)),
            (Some("0S"), Duration::ZERO),
            (Some("S"), Duration::MAX),
            (Some("4"), Duration::MAX),
            (Some("4s"), Duration::MAX),
            (Some("+4S"), Duration::MAX),
            (Some(""), Duration::MAX),
            (None, Duration::MAX),
        ];
        for (header, expected) in cases {
            let mut metadata = MetadataMap::new();
            if let Some(header) = header {
                metadata.insert("grpc-timeout", header.parse().unwrap());
            }
            assert_eq!(longest_wait(&metadata), expected, "{header:?}");
        }
    }

    #[tokio::test]
    async fn a_query_that_was_started_twice_runs_once_and_its_rows_are_taken_once() {
        let (all, started) = (Running::default(), Started::new(LONG, 1));
        let first = started.enter(id(1), plain(some_rows(), &all));
        let second = started.enter(id(1), plain(some_rows(), &all));
        assert!(Arc::ptr_eq(&first.query, &second.query));
        assert_eq!(all.count(), 1);
        assert!(matches!(first.news(LONG).await, Standing::Ready));
        let taken = started.take(&id(1)).unwrap();
        assert!(started.take(&id(1)).is_none());
        let messages = taken.stream().collect::<Vec<_>>().await;
        assert_eq!(messages.len(), 2, "a schema and a batch");
        assert!(matches!(second.news(LONG).await, Standing::Ready));
        assert!(started.take(&id(2)).is_none());
    }

    #[tokio::test]
    async fn what_is_told_never_goes_down_and_is_not_all_before_the_first_row() {
        let (all, started) = (Running::default(), Started::new(LONG, 1));
        let come = Arc::new(Mutex::new(0.0));
        let own = Arc::clone(&come);
        let progress = Box::new(move || *lock(&own));
        let (sender, rows) = tokio::sync::oneshot::channel();
        let rows = stream::once(async { rows.await.unwrap() }).boxed();
        let asker = started.enter(id(1), start(rows, &all, progress, "session"));
        let told = |standing| match standing {
            Standing::Working(come) => Some(come),
            _ => None,
        };
        assert_eq!(told(asker.news(LONG).await), Some(0.0), "the first answer");
        for (so_far, expected) in [(0.25, 0.25), (0.5, 0.5), (1.0, ALMOST)] {
            *lock(&come) = so_far;
            assert_eq!(told(asker.news(LONG).await), Some(expected));
            *lock(&come) = so_far / 2.0;
            assert_eq!(told(asker.query.standing()), Some(expected));
        }
        sender.send(Ok(numbers(0..3))).unwrap();
        assert!(matches!(asker.news(LONG).await, Standing::Ready));
    }

    #[tokio::test]
    async fn the_end_of_a_query_is_told_as_it_was() {
        let failing = || stream::iter([Err(Status::resource_exhausted("no memory"))]).boxed();
        let panicking = || {
            let panics = |step: i32| {
                assert_eq!(step, 1, "the query fails");
                Ok(numbers(0..3))
            };
            stream::iter([0]).map(panics).boxed()
        };
        let cases: [(&str, Rows, Option<Code>); 4] = [
            ("some rows", some_rows(), None),
            ("no rows", stream::empty().boxed(), None),
            ("a failure", failing(), Some(Code::ResourceExhausted)),
            ("a panic", panicking(), None),
        ];
        for (name, rows, expected) in cases {
            let (all, started) = (Running::default(), Started::new(LONG, 1));
            let asker = started.enter(id(1), plain(rows, &all));
            let standing = loop {
                match asker.news(LONG).await {
                    Standing::Working(_) => {}
                    standing => break standing,
                }
            };
            assert_eq!(code(&standing), expected, "{name}");
            let lost = matches!(standing, Standing::Lost);
            assert_eq!(lost, name == "a panic", "{name}: {standing:?}");
        }
    }

    #[tokio::test]
    async fn a_query_is_stopped_with_its_session_and_with_the_server_and_when_its_reader_leaves() {
        let (all, started) = (Running::default(), Started::new(LONG, 1));
        let enter = |number, session| {
            let start = start(endless(), &all, Box::new(|| 0.0), session);
            started.enter(id(number), start)
        };
        let (one, other, taken) = (enter(1, "one"), enter(2, "other"), enter(3, "other"));
        started.close(&SessionId::of(Bytes::from_static(b"one")));
        assert_eq!(code(&one.news(LONG).await), Some(Code::Cancelled));
        assert_eq!(all.count(), 2);
        drop(started.take(&id(3)).unwrap());
        assert_eq!(code(&taken.news(LONG).await), Some(Code::Cancelled));
        started.drain();
        assert_eq!(code(&other.news(LONG).await), Some(Code::Unavailable));
        assert_eq!((started.count(), all.count()), (0, 0));
    }

    #[tokio::test]
    async fn of_too_many_with_rows_those_go_that_were_taken_and_then_the_oldest() {
        let (all, started) = (Running::default(), Started::new(LONG, 1));
        started.enter(id(1_000), plain(endless(), &all)).answered();
        let most = MOST_READY + 1;
        for number in 0..most {
            let asker = started.enter(id(number), plain(some_rows(), &all));
            assert!(matches!(asker.news(LONG).await, Standing::Ready));
            asker.answered();
        }
        assert_eq!(started.count(), most + 1);
        let taken = started.take(&id(5)).unwrap();
        for (number, gone) in [(most, 5), (most + 1, 0), (most + 2, 1)] {
            let asker = started.enter(id(number), plain(some_rows(), &all));
            assert!(matches!(asker.news(LONG).await, Standing::Ready));
            asker.answered();
            until(|| started.count() == most + 1).await;
            assert!(started.ask(&id(gone)).is_none(), "{gone}");
        }
        assert!(started.ask(&id(1_000)).is_some(), "it works still");
        drop(taken);
    }
}
