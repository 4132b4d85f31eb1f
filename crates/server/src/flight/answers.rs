//! Plans and results that are kept for the next one who asks the same.
//!
//! A dashboard asks the same few statements again and again, of tables that change once a night. A plan
//! is used again as long as no table that it reads has changed; a result belongs to the versions of
//! its tables, so it is never old and needs no end. Both are kept for one principal, with everything
//! that an answer depends on in the [`Question`]: what one may see is never shown to another. Only
//! statements that give the same when they run again are kept, which the engine decides; only
//! results that are small, and only whole ones. What was used longest ago makes room.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow::array::RecordBatch;
use bytes::Bytes;
use tietopohja_policy::Principal;

use super::wire::Profile;

/// Plans that are kept.
const MOST_PLANS: usize = 256;

/// Results that are kept.
const MOST_RESULTS: usize = 256;

/// The part of all kept bytes that one result may have.
const SHARE: usize = 16;

/// What an answer depends on besides the state of the tables.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Question {
    pub(crate) principal: Principal,
    pub(crate) sql: String,
    pub(crate) parameters: Option<Bytes>,
    /// The schema of names without one.
    pub(crate) schema: Option<String>,
    /// How long it may run.
    pub(crate) timeout: Option<Duration>,
    pub(crate) profile: Profile,
}

/// What is kept. `P` is a plan, and `T` what is told of a result besides its rows: not its plan, which
/// takes more than most results.
#[derive(Debug)]
pub(crate) struct Answers<P, T> {
    kept: Mutex<Kept<P, T>>,
    most_bytes: usize,
    reused: AtomicU64,
}

#[derive(Debug)]
struct Kept<P, T> {
    plans: Recent<Question, Arc<P>>,
    results: Recent<(Question, Bytes), Arc<Answer<T>>>,
    bytes: usize,
}

/// A whole result.
#[derive(Debug)]
pub(crate) struct Answer<T> {
    pub(crate) told: Arc<T>,
    pub(crate) batches: Vec<RecordBatch>,
    bytes: usize,
}

/// Things by their last use.
#[derive(Debug)]
struct Recent<K, V> {
    things: HashMap<K, (u64, V)>,
    uses: u64,
}

impl<K: Eq + Hash + Clone, V: Clone> Recent<K, V> {
    fn new() -> Self {
        Self {
            things: HashMap::new(),
            uses: 0,
        }
    }

    fn get(&mut self, key: &K) -> Option<V> {
        self.uses += 1;
        let (used, value) = self.things.get_mut(key)?;
        *used = self.uses;
        Some(value.clone())
    }

    /// What stood there before.
    fn put(&mut self, key: K, value: V) -> Option<V> {
        self.uses += 1;
        let before = self.things.insert(key, (self.uses, value));
        before.map(|(_, value)| value)
    }

    fn remove_oldest(&mut self) -> Option<V> {
        let oldest = self.things.iter().min_by_key(|(_, (used, _))| *used);
        let oldest = oldest.map(|(key, _)| key.clone())?;
        self.things.remove(&oldest).map(|(_, value)| value)
    }
}

impl<P, T> Answers<P, T> {
    /// Room for results of so many bytes. Without any, plans are not kept either.
    pub(crate) fn of_bytes(most_bytes: usize) -> Self {
        Self {
            kept: Mutex::new(Kept {
                plans: Recent::new(),
                results: Recent::new(),
                bytes: 0,
            }),
            most_bytes,
            reused: AtomicU64::new(0),
        }
    }

    /// How many results were used again.
    pub(crate) fn reused(&self) -> u64 {
        self.reused.load(Ordering::Relaxed)
    }

    /// The plan of a question. Whether its tables are as they were is for the asker to find out.
    pub(crate) fn plan(&self, question: &Question) -> Option<Arc<P>> {
        self.kept().plans.get(question)
    }

    /// Keeps a plan.
    pub(crate) fn keep_plan(&self, question: Question, plan: Arc<P>) {
        if self.most_bytes == 0 {
            return;
        }
        let mut kept = self.kept();
        kept.plans.put(question, plan);
        if kept.plans.things.len() > MOST_PLANS {
            kept.plans.remove_oldest();
        }
    }

    /// The result of a question at these versions of its tables.
    pub(crate) fn result(&self, question: &Question, versions: &Bytes) -> Option<Arc<Answer<T>>> {
        if self.most_bytes == 0 {
            return None;
        }
        let key = (question.clone(), versions.clone());
        let found = self.kept().results.get(&key)?;
        self.reused.fetch_add(1, Ordering::Relaxed);
        Some(found)
    }

    /// Takes down a result while it is computed.
    pub(crate) fn record(
        self: &Arc<Self>,
        question: Question,
        versions: Bytes,
        told: Arc<T>,
    ) -> Recording<P, T> {
        Recording {
            answers: Arc::clone(self),
            key: (question, versions),
            told,
            batches: Some(Vec::new()),
            bytes: 0,
        }
    }

    fn keep(&self, key: (Question, Bytes), answer: Answer<T>) {
        let bytes = answer.bytes;
        let mut kept = self.kept();
        let before = kept.results.put(key, Arc::new(answer));
        kept.bytes += bytes;
        kept.bytes -= before.map_or(0, |answer| answer.bytes);
        while (kept.bytes > self.most_bytes || kept.results.things.len() > MOST_RESULTS)
            && let Some(oldest) = kept.results.remove_oldest()
        {
            kept.bytes -= oldest.bytes;
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept<P, T>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A result that is being computed. One that is dropped before its end is not kept.
#[derive(Debug)]
pub(crate) struct Recording<P, T> {
    answers: Arc<Answers<P, T>>,
    key: (Question, Bytes),
    told: Arc<T>,
    /// None when it has become too large.
    batches: Option<Vec<RecordBatch>>,
    bytes: usize,
}

impl<P, T> Recording<P, T> {
    /// Takes a batch down.
    pub(crate) fn add(&mut self, batch: &RecordBatch) {
        let Some(batches) = &mut self.batches else {
            return;
        };
        // What a batch holds in memory, also where it is a small slice of much.
        self.bytes += batch.get_array_memory_size() + size_of::<RecordBatch>();
        if self.bytes > self.answers.most_bytes / SHARE {
            self.batches = None;
        } else {
            batches.push(batch.clone());
        }
    }

    /// The last batch has come, and none failed.
    pub(crate) fn whole(self) {
        if let Some(batches) = self.batches {
            let bytes = self.bytes + self.key.0.sql.len() + size_of::<Question>();
            let answer = Answer {
                told: self.told,
                batches,
                bytes,
            };
            self.answers.keep(self.key, answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array};
    use tietopohja_policy::Role;

    use super::*;

    fn question(name: &str, sql: &str) -> Question {
        Question {
            principal: Principal::new(name, Role::Analyst).unwrap(),
            sql: sql.to_owned(),
            parameters: None,
            schema: None,
            timeout: None,
            profile: Profile::default(),
        }
    }

    fn rows(count: usize) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![1; count]));
        RecordBatch::try_from_iter([("n", column)]).unwrap()
    }

    fn tell(
        answers: &Arc<Answers<usize, ()>>,
        question: &Question,
        versions: &Bytes,
        count: usize,
    ) {
        let mut recording = answers.record(question.clone(), versions.clone(), Arc::new(()));
        recording.add(&rows(count));
        recording.whole();
    }

    #[test]
    fn a_result_is_for_its_question_at_its_versions_only() {
        let answers = Arc::new(Answers::of_bytes(1 << 20));
        let asked = question("anni", "SELECT 1");
        let versions = Bytes::from_static(b"v1");
        tell(&answers, &asked, &versions, 3);
        let found = answers.result(&asked, &versions).unwrap();
        assert_eq!(found.batches[0].num_rows(), 3);
        assert_eq!(answers.reused(), 1);
        assert!(answers.result(&asked, &Bytes::from_static(b"v2")).is_none());
        let other_schema = Question {
            schema: Some("reference".to_owned()),
            ..asked.clone()
        };
        let bound = Question {
            parameters: Some(Bytes::from_static(b"1")),
            ..asked.clone()
        };
        let reader = Question {
            principal: Principal::new("anni", Role::Reader).unwrap(),
            ..asked.clone()
        };
        for other in [
            question("aino", "SELECT 1"),
            question("anni", "SELECT 2"),
            other_schema,
            bound,
            reader,
        ] {
            assert!(answers.result(&other, &versions).is_none(), "{other:?}");
            assert!(answers.plan(&other).is_none());
        }
    }

    #[test]
    fn only_whole_and_small_results_are_kept_and_the_oldest_make_room() {
        let answers = Arc::new(Answers::of_bytes(1 << 16));
        let versions = Bytes::new();
        let asked = |number: usize| question("anni", &format!("SELECT {number}"));
        drop({
            let mut recording = answers.record(asked(0), versions.clone(), Arc::new(()));
            recording.add(&rows(1));
            recording
        });
        assert!(
            answers.result(&asked(0), &versions).is_none(),
            "it was not whole"
        );
        tell(&answers, &asked(0), &versions, 10_000);
        assert!(
            answers.result(&asked(0), &versions).is_none(),
            "it is large"
        );
        for number in 0..200 {
            tell(&answers, &asked(number), &versions, 100);
            assert!(
                answers.result(&asked(0), &versions).is_some(),
                "it is in use"
            );
            assert!(answers.kept().bytes <= 1 << 16);
        }
        assert!(
            answers.result(&asked(1), &versions).is_none(),
            "it made room"
        );
        // The same again takes no more room.
        let before = answers.kept().bytes;
        tell(&answers, &asked(199), &versions, 100);
        assert_eq!(answers.kept().bytes, before);
    }

    #[test]
    fn plans_and_results_are_bounded_and_nothing_is_kept_without_room() {
        let answers = Answers::<usize, ()>::of_bytes(1 << 20);
        for number in 0..MOST_PLANS + 5 {
            answers.keep_plan(question("anni", &number.to_string()), Arc::new(number));
        }
        assert_eq!(answers.kept().plans.things.len(), MOST_PLANS);
        assert!(answers.plan(&question("anni", "0")).is_none());
        let many = Arc::new(Answers::of_bytes(1 << 30));
        for number in 0..MOST_RESULTS + 5 {
            tell(
                &many,
                &question("anni", &number.to_string()),
                &Bytes::new(),
                1,
            );
        }
        assert_eq!(many.kept().results.things.len(), MOST_RESULTS);
        let none = Arc::new(Answers::of_bytes(0));
        none.keep_plan(question("anni", "1"), Arc::new(1));
        tell(&none, &question("anni", "1"), &Bytes::new(), 1);
        assert!(none.plan(&question("anni", "1")).is_none());
        assert!(none.result(&question("anni", "1"), &Bytes::new()).is_none());
    }
}
