//! Memory of one query, out of the memory of all queries.
//!
//! All queries of an engine share one pool. A query that runs for a client also has a limit of its own,
//! so that one of them cannot take what the others need: it spills, or is refused, when it meets
//! its own limit or that of the pool. Every byte is given back when the query ends, whichever way it
//! ends. Which queries run, and how many, is not decided here.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::common::resources_datafusion_err;
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::{
    MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation,
};
use datafusion::execution::runtime_env::RuntimeEnv;

/// Memory of one query. Clones are the same memory.
#[derive(Debug, Clone)]
pub struct QueryMemory {
    pool: Arc<OfOneQuery>,
    runtime: Arc<RuntimeEnv>,
}

impl QueryMemory {
    /// At most `limit` bytes of what `runtime` has for all queries.
    pub(crate) fn of(runtime: &RuntimeEnv, limit: usize) -> Self {
        let pool = Arc::new(OfOneQuery {
            all: Arc::clone(&runtime.memory_pool),
            limit,
            used: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
        });
        let runtime = RuntimeEnv {
            memory_pool: Arc::clone(&pool) as Arc<dyn MemoryPool>,
            ..runtime.clone()
        };
        Self {
            pool,
            runtime: Arc::new(runtime),
        }
    }

    pub(crate) fn runtime(&self) -> &Arc<RuntimeEnv> {
        &self.runtime
    }

    /// Bytes that the query may use.
    pub fn limit(&self) -> usize {
        self.pool.limit
    }

    /// Bytes that it uses now.
    pub fn used(&self) -> usize {
        self.pool.used.load(Ordering::Relaxed)
    }

    /// Most bytes that it has used at a time.
    pub fn peak(&self) -> usize {
        self.pool.peak.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
struct OfOneQuery {
    all: Arc<dyn MemoryPool>,
    limit: usize,
    used: AtomicUsize,
    peak: AtomicUsize,
}

impl OfOneQuery {
    fn add(&self, bytes: usize) {
        let used = self.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.peak.fetch_max(used, Ordering::Relaxed);
    }

    fn take_away(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl fmt::Display for OfOneQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.name(), self.limit)
    }
}

impl MemoryPool for OfOneQuery {
    fn name(&self) -> &str {
        "one_query"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.all.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.all.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.add(additional);
        self.all.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.take_away(shrink);
        self.all.shrink(reservation, shrink);
    }

    fn try_grow(
        &self,
        reservation: &MemoryReservation,
        additional: usize,
    ) -> Result<(), DataFusionError> {
        let fits = |used: usize| {
            let after = used.checked_add(additional)?;
            (after <= self.limit).then_some(after)
        };
        let before = self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits)
            .map_err(|used| {
                resources_datafusion_err!(
                    "a query may use {} bytes, and has {used} of them",
                    self.limit
                )
            })?;
        match self.all.try_grow(reservation, additional) {
            Ok(()) => {
                self.peak.fetch_max(before + additional, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => {
                self.take_away(additional);
                Err(error)
            }
        }
    }

    fn reserved(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.limit)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::execution::memory_pool::GreedyMemoryPool;
    use datafusion::execution::runtime_env::RuntimeEnvBuilder;

    use super::*;

    fn everyone(bytes: usize) -> Arc<RuntimeEnv> {
        let pool = Arc::new(GreedyMemoryPool::new(bytes));
        Arc::new(
            RuntimeEnvBuilder::new()
                .with_memory_pool(pool)
                .build()
                .unwrap(),
        )
    }

    fn reservation(memory: &QueryMemory) -> MemoryReservation {
        MemoryConsumer::new("test").register(&memory.runtime().memory_pool)
    }

    #[test]
    fn a_query_is_held_to_its_own_limit() {
        let all = everyone(1_000);
        let memory = QueryMemory::of(&all, 400);
        let held = reservation(&memory);
        held.try_grow(300).unwrap();
        let refused = held.try_grow(101).unwrap_err().to_string();
        assert!(refused.contains("may use 400 bytes"), "{refused}");
        held.try_grow(100).unwrap();
        assert_eq!((memory.used(), all.memory_pool.reserved()), (400, 400));
    }

    #[test]
    fn queries_together_are_held_to_the_limit_of_all() {
        let all = everyone(1_000);
        let memories = [QueryMemory::of(&all, 600), QueryMemory::of(&all, 600)];
        let held = memories.each_ref().map(reservation);
        held[0].try_grow(600).unwrap();
        assert!(held[1].try_grow(401).is_err());
        assert_eq!(memories[1].used(), 0, "what was refused is not counted");
        held[1].try_grow(400).unwrap();
        held[0].shrink(200);
        held[1].try_grow(200).unwrap();
        assert_eq!(all.memory_pool.reserved(), 1_000);
    }

    #[test]
    fn an_ended_query_gives_everything_back_and_its_peak_stays_known() {
        let all = everyone(1_000);
        let memory = QueryMemory::of(&all, 500);
        let held = reservation(&memory);
        held.try_grow(450).unwrap();
        held.shrink(50);
        drop(held);
        assert_eq!((memory.used(), all.memory_pool.reserved()), (0, 0));
        assert_eq!(memory.peak(), 450);
    }
}
