//! What runs and what ran: one record for each statement, one for each session.
//!
//! A statement is entered when it is asked for and ends exactly once, whichever way it ends: dropped
//! without an end, it was cancelled. Records hold who, when, how long and how much, and the statement
//! without its values; never a row, never a secret. The running and the recent can be read as the
//! tables `meta.query` and `meta.session` (`live.rs`); every ended statement goes to the audit, which
//! is whatever the program that serves makes of it. Why something is stopped is not decided here.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tietopohja_domain::{Clock, Timestamp};
use tietopohja_engine::{Principal, QueryMemory};
use tonic::Code;

use crate::trace::TraceParent;

/// Ended statements that are remembered.
const RECENT: usize = 1_000;

/// Letters of a statement that a record keeps; its hash is of the whole.
const LONGEST_OUTLINE: usize = 4_000;

/// Sessions that are remembered.
const SESSIONS: usize = 4_096;

/// What a statement is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatementState {
    /// Waits for others to end.
    Waiting,
    /// Computes and sends rows.
    Running,
    /// Its last row was sent.
    Done,
    /// Its client stopped it, or went away.
    Cancelled,
    /// It ended with an error.
    Failed,
}

impl StatementState {
    /// The word in tables and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            StatementState::Waiting => "waiting",
            StatementState::Running => "running",
            StatementState::Done => "done",
            StatementState::Cancelled => "cancelled",
            StatementState::Failed => "failed",
        }
    }
}

/// One statement, as it is or was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatementRecord {
    /// Names the run; a ticket that is redeemed twice gives two.
    pub number: u64,
    /// In whose name it runs.
    pub principal: String,
    /// With which role.
    pub role: String,
    /// The session, when the client has one.
    pub session: Option<String>,
    /// What the client says that it is.
    pub client: Option<String>,
    /// Where it stands in the trace of its caller.
    pub trace: Option<TraceParent>,
    /// When it was asked for.
    pub asked_at: Timestamp,
    /// When it began to run.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// What it does.
    pub state: StatementState,
    /// The statement with `?` in place of every value; none when it could not be read.
    pub statement: Option<String>,
    /// BLAKE3 of the text as it was sent.
    pub statement_hash: String,
    /// The tables that it names, as `schema.table`.
    pub tables: Vec<String>,
    /// The state of the tables that it saw.
    pub release: Option<String>,
    /// Rows sent.
    pub rows: u64,
    /// Bytes of these rows on the wire.
    pub bytes: u64,
    /// Most bytes of working memory at a time.
    pub memory_peak_bytes: u64,
    /// The status code of the end, when it is an error.
    pub code: Option<&'static str>,
}

/// What is known of a statement when it is asked for.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) principal: Principal,
    pub(crate) session: Option<String>,
    pub(crate) client: Option<String>,
    pub(crate) trace: Option<TraceParent>,
    pub(crate) sql: String,
}

/// One session, as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SessionRecord {
    pub(crate) session: String,
    pub(crate) principal: String,
    pub(crate) role: String,
    pub(crate) client: Option<String>,
    pub(crate) first_used_at: Timestamp,
    pub(crate) last_used_at: Timestamp,
    pub(crate) statements: u64,
}

/// Takes the record of every statement that has ended.
pub type Audit = Arc<dyn Fn(&StatementRecord) + Send + Sync>;

/// Limits of the classes of times, in seconds.
pub(crate) const SECONDS: [f64; 10] = [0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0, 300.0, 600.0];

/// Counts since the server started.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Totals {
    pub(crate) done: u64,
    pub(crate) cancelled: u64,
    pub(crate) failed: u64,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    /// Seconds from being asked for to the end, of all together.
    pub(crate) seconds: f64,
    /// Statements by the first of [`SECONDS`] that they did not exceed; longer ones are in none.
    pub(crate) by_seconds: [u64; SECONDS.len()],
}

/// All statements and sessions of one server.
pub(crate) struct Journal {
    clock: Arc<dyn Clock>,
    audit: Option<Audit>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    next: u64,
    running: BTreeMap<u64, Arc<Entry>>,
    recent: VecDeque<StatementRecord>,
    sessions: HashMap<String, SessionRecord>,
    totals: Totals,
}

struct Entry {
    record: Mutex<StatementRecord>,
    rows: AtomicU64,
    bytes: AtomicU64,
    memory: Mutex<Option<QueryMemory>>,
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").finish_non_exhaustive()
    }
}

impl Entry {
    fn record(&self) -> StatementRecord {
        let mut record = held(&self.record).clone();
        record.rows = self.rows.load(Ordering::Relaxed);
        record.bytes = self.bytes.load(Ordering::Relaxed);
        if let Some(memory) = held(&self.memory).as_ref() {
            record.memory_peak_bytes = u64::try_from(memory.peak()).unwrap_or(u64::MAX);
        }
        record
    }
}

impl Journal {
    /// A journal in which nothing is written yet.
    pub(crate) fn new(clock: Arc<dyn Clock>, audit: Option<Audit>) -> Self {
        Self {
            clock,
            audit,
            inner: Mutex::default(),
        }
    }

    /// Enters a statement that was asked for.
    pub(crate) fn enter(self: &Arc<Self>, asked: Asked) -> Statement {
        let now = self.clock.now();
        let record = StatementRecord {
            number: 0,
            principal: asked.principal.name().to_owned(),
            role: asked.principal.role().to_string(),
            session: asked.session,
            client: asked.client,
            trace: asked.trace,
            asked_at: now,
            started_at: None,
            ended_at: None,
            state: StatementState::Waiting,
            statement: tietopohja_engine::outline(&asked.sql)
                .map(|outline| outline.chars().take(LONGEST_OUTLINE).collect()),
            statement_hash: blake3::hash(asked.sql.as_bytes()).to_hex().to_string(),
            tables: Vec::new(),
            release: None,
            rows: 0,
            bytes: 0,
            memory_peak_bytes: 0,
            code: None,
        };
        let mut inner = held(&self.inner);
        inner.next += 1;
        let number = inner.next;
        if let Some(session) = &record.session {
            inner.use_session(session, &record, now);
        }
        let entry = Arc::new(Entry {
            record: Mutex::new(StatementRecord { number, ..record }),
            rows: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            memory: Mutex::default(),
        });
        inner.running.insert(number, Arc::clone(&entry));
        Statement {
            journal: Arc::clone(self),
            number,
            entry,
            ended: false,
        }
    }

    /// The running statements and then the recent, newest last.
    pub(crate) fn statements(&self) -> Vec<StatementRecord> {
        let inner = held(&self.inner);
        let recent = inner.recent.iter().cloned();
        recent
            .chain(inner.running.values().map(|entry| entry.record()))
            .collect()
    }

    /// The sessions that have asked for something, in order of their last statement.
    pub(crate) fn sessions(&self) -> Vec<SessionRecord> {
        let inner = held(&self.inner);
        let mut sessions: Vec<_> = inner.sessions.values().cloned().collect();
        sessions.sort_by(|a, b| (a.last_used_at, &a.session).cmp(&(b.last_used_at, &b.session)));
        sessions
    }

    /// How many sessions have asked for something.
    pub(crate) fn session_count(&self) -> usize {
        held(&self.inner).sessions.len()
    }

    /// Forgets a session that has ended.
    pub(crate) fn end_session(&self, session: &str) {
        held(&self.inner).sessions.remove(session);
    }

    /// Counts since the start.
    pub(crate) fn totals(&self) -> Totals {
        held(&self.inner).totals
    }

    fn end(&self, number: u64, entry: &Entry, state: StatementState, code: Option<Code>) {
        {
            let mut record = held(&entry.record);
            record.state = state;
            record.ended_at = Some(self.clock.now());
            record.code = code.map(word);
        }
        let record = entry.record();
        if let Some(audit) = &self.audit {
            audit(&record);
        }
        tracing::info!(
            principal = record.principal,
            statement = record.statement_hash,
            trace = record.trace.map(|trace| trace.trace_id()),
            state = record.state.as_str(),
            code = record.code,
            rows = record.rows,
            bytes = record.bytes,
            "statement ended"
        );
        let mut inner = held(&self.inner);
        inner.running.remove(&number);
        let totals = &mut inner.totals;
        match state {
            StatementState::Done => totals.done += 1,
            StatementState::Cancelled => totals.cancelled += 1,
            _ => totals.failed += 1,
        }
        totals.rows += record.rows;
        totals.bytes += record.bytes;
        let ended = record.ended_at.unwrap_or(record.asked_at);
        let seconds = ended.duration_since(record.asked_at).as_secs_f64();
        totals.seconds += seconds;
        let class = SECONDS.iter().position(|limit| seconds <= *limit);
        if let Some(count) = class.and_then(|class| totals.by_seconds.get_mut(class)) {
            *count += 1;
        }
        if inner.recent.len() == RECENT {
            inner.recent.pop_front();
        }
        inner.recent.push_back(record);
    }
}

impl Inner {
    fn use_session(&mut self, session: &str, record: &StatementRecord, now: Timestamp) {
        if let Some(known) = self.sessions.get_mut(session) {
            known.last_used_at = now;
            known.statements += 1;
            return;
        }
        if self.sessions.len() == SESSIONS {
            let oldest = self
                .sessions
                .values()
                .min_by_key(|known| known.last_used_at);
            if let Some(oldest) = oldest.map(|known| known.session.clone()) {
                self.sessions.remove(&oldest);
            }
        }
        let known = SessionRecord {
            session: session.to_owned(),
            principal: record.principal.clone(),
            role: record.role.clone(),
            client: record.client.clone(),
            first_used_at: now,
            last_used_at: now,
            statements: 1,
        };
        self.sessions.insert(session.to_owned(), known);
    }
}

/// One statement that has not ended.
pub(crate) struct Statement {
    journal: Arc<Journal>,
    number: u64,
    entry: Arc<Entry>,
    ended: bool,
}

impl fmt::Debug for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Statement")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

impl Statement {
    /// It was planned: what it names and what it sees.
    pub(crate) fn planned(&self, tables: Vec<String>, release: String) {
        let mut record = held(&self.entry.record);
        record.tables = tables;
        record.release = Some(release);
    }

    /// What tells that the statement runs, when it does.
    pub(crate) fn start(&self) -> Start {
        Start {
            clock: Arc::clone(&self.journal.clock),
            entry: Arc::clone(&self.entry),
        }
    }

    /// Rows were sent. Gives all rows and bytes so far.
    pub(crate) fn sent(&self, rows: u64, bytes: u64) -> (u64, u64) {
        (
            self.entry.rows.fetch_add(rows, Ordering::Relaxed) + rows,
            self.entry.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes,
        )
    }

    /// Its last row was sent.
    pub(crate) fn done(mut self) {
        self.end(StatementState::Done, None);
    }

    /// It ended with a status.
    pub(crate) fn failed(mut self, code: Code) {
        let state = match code {
            Code::Cancelled => StatementState::Cancelled,
            _ => StatementState::Failed,
        };
        self.end(state, Some(code));
    }

    fn end(&mut self, state: StatementState, code: Option<Code>) {
        if !std::mem::replace(&mut self.ended, true) {
            self.journal.end(self.number, &self.entry, state, code);
        }
    }
}

impl Drop for Statement {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.end(StatementState::Failed, Some(Code::Internal));
        } else {
            self.end(StatementState::Cancelled, Some(Code::Cancelled));
        }
    }
}

/// Tells that a statement runs.
pub(crate) struct Start {
    clock: Arc<dyn Clock>,
    entry: Arc<Entry>,
}

impl Start {
    /// It runs, within some memory.
    pub(crate) fn started(self, memory: QueryMemory) {
        {
            let mut record = held(&self.entry.record);
            record.state = StatementState::Running;
            record.started_at = Some(self.clock.now());
        }
        *held(&self.entry.memory) = Some(memory);
    }
}

/// The name of a status code, as the protocol writes it.
pub(crate) fn word(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    // No holder of these locks can panic half way through a change.
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tietopohja_domain::FixedClock;
    use tietopohja_engine::Role;

    use super::*;

    fn journal(audit: Option<Audit>) -> Arc<Journal> {
        let clock = FixedClock(Timestamp::from_second(1_700_000_000).unwrap());
        Arc::new(Journal::new(Arc::new(clock), audit))
    }

    fn asked(principal: &str, session: Option<&str>) -> Asked {
        Asked {
            principal: Principal::new(principal, Role::Analyst).unwrap(),
            session: session.map(str::to_owned),
            client: Some("test".to_owned()),
            trace: None,
            sql: "SELECT * FROM conformed.visit WHERE name = 'Aino'".to_owned(),
        }
    }

    #[test]
    fn a_statement_ends_once_however_it_ends() {
        let seen: Arc<Mutex<Vec<StatementRecord>>> = Arc::default();
        let kept = Arc::clone(&seen);
        let journal = journal(Some(Arc::new(move |record: &StatementRecord| {
            held(&kept).push(record.clone());
        })));
        let done = journal.enter(asked("a", None));
        assert_eq!(done.sent(3, 100), (3, 100));
        assert_eq!(done.sent(2, 50), (5, 150));
        done.done();
        journal.enter(asked("a", None)).failed(Code::Internal);
        journal.enter(asked("a", None)).failed(Code::Cancelled);
        drop(journal.enter(asked("a", None)));
        let ends: Vec<_> = held(&seen)
            .iter()
            .map(|record| {
                (
                    record.state.as_str(),
                    record.code,
                    record.rows,
                    record.bytes,
                )
            })
            .collect();
        assert_eq!(
            ends,
            [
                ("done", None, 5, 150),
                ("failed", Some("INTERNAL"), 0, 0),
                ("cancelled", Some("CANCELLED"), 0, 0),
                ("cancelled", Some("CANCELLED"), 0, 0),
            ]
        );
        let mut totals = Totals {
            done: 1,
            cancelled: 2,
            failed: 1,
            rows: 5,
            bytes: 150,
            ..Totals::default()
        };
        totals.by_seconds[0] = 4;
        assert_eq!(journal.totals(), totals);
    }

    #[test]
    fn a_record_holds_no_value_of_the_statement() {
        let journal = journal(None);
        let _running = journal.enter(asked("a", None));
        let records = journal.statements();
        assert_eq!(
            records[0].statement.as_deref(),
            Some("SELECT * FROM conformed.visit WHERE name = ?")
        );
        assert!(!format!("{records:?}").contains("Aino"));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let journal = journal(None);
        for number in 0..RECENT + 10 {
            journal.enter(asked("a", Some(&number.to_string()))).done();
        }
        assert_eq!(journal.statements().len(), RECENT);
        assert_eq!(journal.statements()[0].number, 11);
        for number in 0..SESSIONS + 10 {
            drop(journal.enter(asked("a", Some(&number.to_string()))));
        }
        assert_eq!(journal.sessions().len(), SESSIONS);
    }

    #[test]
    fn a_session_counts_its_statements_until_it_ends() {
        let journal = journal(None);
        for _ in 0..3 {
            journal.enter(asked("a", Some("s"))).done();
        }
        let sessions = journal.sessions();
        assert_eq!((sessions.len(), sessions[0].statements), (1, 3));
        journal.end_session("s");
        assert!(journal.sessions().is_empty());
    }
}
