//! The queries that run now, so that they can be stopped: by their client, or by a shutdown.
//!
//! A query is entered when its stream starts and leaves when the stream is dropped, whichever way it
//! ends. A ticket that is cancelled before anyone redeemed it is remembered for a while and then
//! refused.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::task::AbortHandle;
use tonic::Status;

/// How many cancelled tickets are remembered.
const REMEMBERED: usize = 4096;

/// Why a query was stopped from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Its client asked for it.
    Cancelled,
    /// The server is going away.
    Drained,
}

impl Stop {
    /// What the client is told.
    pub(crate) fn status(self) -> Status {
        match self {
            Stop::Cancelled => Status::cancelled("the query was cancelled"),
            Stop::Drained => Status::unavailable("the server is shutting down; try again"),
        }
    }
}

/// All running queries of one server.
#[derive(Debug, Default, Clone)]
pub(crate) struct Running {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    entries: HashMap<u64, Entry>,
    cancelled: VecDeque<Bytes>,
}

#[derive(Debug)]
struct Entry {
    query: Bytes,
    task: AbortHandle,
    fate: Fate,
}

impl Entry {
    fn stop(&self, why: Stop) {
        self.fate.seal(why);
        self.task.abort();
    }
}

/// Why a query was stopped, if it was; for whoever asks, also after its end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fate {
    reason: Arc<AtomicU8>,
}

impl Fate {
    fn seal(&self, why: Stop) {
        let code = match why {
            Stop::Cancelled => 1,
            Stop::Drained => 2,
        };
        self.reason.store(code, Ordering::Relaxed);
    }

    /// Why the query was stopped; none when nobody stopped it.
    pub(crate) fn stopped(&self) -> Option<Stop> {
        match self.reason.load(Ordering::Relaxed) {
            1 => Some(Stop::Cancelled),
            2 => Some(Stop::Drained),
            _ => None,
        }
    }
}

impl Running {
    /// Enters the task that runs a query. The entry ends, and the task with it, when the guard is
    /// dropped.
    pub(crate) fn enter(&self, query: Bytes, task: AbortHandle) -> Guard {
        let fate = Fate::default();
        let mut inner = self.lock();
        let number = inner.next;
        inner.next += 1;
        let entry = Entry {
            query,
            task: task.clone(),
            fate: fate.clone(),
        };
        inner.entries.insert(number, entry);
        Guard {
            running: self.clone(),
            number,
            task,
            fate,
        }
    }

    /// Stops every run of the query, and refuses its later ones. Says whether one was running.
    pub(crate) fn cancel(&self, query: &Bytes) -> bool {
        let mut inner = self.lock();
        if !inner.cancelled.contains(query) {
            if inner.cancelled.len() == REMEMBERED {
                inner.cancelled.pop_front();
            }
            inner.cancelled.push_back(query.clone());
        }
        let running = inner.entries.values().filter(|entry| entry.query == *query);
        running.map(|entry| entry.stop(Stop::Cancelled)).count() > 0
    }

    /// Was the query cancelled before?
    pub(crate) fn is_cancelled(&self, query: &Bytes) -> bool {
        self.lock().cancelled.contains(query)
    }

    /// Stops everything, because the server is going away.
    pub(crate) fn drain(&self) {
        for entry in self.lock().entries.values() {
            entry.stop(Stop::Drained);
        }
    }

    /// How many queries run now.
    pub(crate) fn count(&self) -> usize {
        self.lock().entries.len()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // No code that holds the lock can panic half way through a change.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One running query.
#[derive(Debug)]
pub(crate) struct Guard {
    running: Running,
    number: u64,
    task: AbortHandle,
    fate: Fate,
}

impl Guard {
    /// Why the query was stopped; none when nobody stopped it.
    pub(crate) fn stopped(&self) -> Option<Stop> {
        self.fate.stopped()
    }

    /// The same, for one who does not hold the query.
    pub(crate) fn fate(&self) -> Fate {
        self.fate.clone()
    }

    /// Stops the query.
    pub(crate) fn stop(&self, why: Stop) {
        self.fate.seal(why);
        self.task.abort();
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.task.abort();
        self.running.lock().entries.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forever() -> tokio::task::JoinHandle<()> {
        tokio::spawn(std::future::pending())
    }

    #[tokio::test]
    async fn a_cancelled_query_stops_and_says_why() {
        let running = Running::default();
        let (mine, other) = (forever(), forever());
        let guard = running.enter(Bytes::from_static(b"mine"), mine.abort_handle());
        let bystander = running.enter(Bytes::from_static(b"other"), other.abort_handle());
        assert!(running.cancel(&Bytes::from_static(b"mine")));
        assert!(mine.await.unwrap_err().is_cancelled());
        assert_eq!(guard.stopped(), Some(Stop::Cancelled));
        assert_eq!(bystander.stopped(), None);
        assert!(!other.is_finished());
    }

    #[tokio::test]
    async fn a_dropped_stream_stops_its_query() {
        let running = Running::default();
        let task = forever();
        let guard = running.enter(Bytes::from_static(b"q"), task.abort_handle());
        assert_eq!(running.count(), 1);
        drop(guard);
        assert_eq!(running.count(), 0);
        assert!(task.await.unwrap_err().is_cancelled());
    }

    #[tokio::test]
    async fn a_query_cancelled_before_it_began_is_refused() {
        let running = Running::default();
        let query = Bytes::from_static(b"q");
        assert!(!running.is_cancelled(&query));
        assert!(!running.cancel(&query));
        assert!(running.is_cancelled(&query));
    }

    #[tokio::test]
    async fn a_drain_stops_everything() {
        let running = Running::default();
        let tasks = [forever(), forever()];
        let guards: Vec<_> = tasks
            .iter()
            .map(|task| running.enter(Bytes::from_static(b"q"), task.abort_handle()))
            .collect();
        running.drain();
        for task in tasks {
            assert!(task.await.unwrap_err().is_cancelled());
        }
        assert!(
            guards
                .iter()
                .all(|guard| guard.stopped() == Some(Stop::Drained))
        );
    }

    #[tokio::test]
    async fn memory_of_cancelled_queries_is_bounded() {
        let running = Running::default();
        for number in 0..=REMEMBERED {
            running.cancel(&Bytes::from(number.to_string()));
        }
        assert!(!running.is_cancelled(&Bytes::from_static(b"0")));
        assert!(running.is_cancelled(&Bytes::from(REMEMBERED.to_string())));
        assert_eq!(running.lock().cancelled.len(), REMEMBERED);
    }
}
