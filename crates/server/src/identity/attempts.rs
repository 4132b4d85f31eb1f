//! Slows down whoever guesses passwords.
//!
//! Failures are counted for each account and for each address. After a few, each further one doubles
//! the wait. An account that does not exist is counted like one that does. Memory is bounded: the
//! entries that matter least go first.

use std::collections::HashMap;
use std::net::IpAddr;

/// What failures are counted for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Counted {
    /// A user name, as its hash: people type passwords into the field for names.
    Account([u8; 32]),
    /// Where the request came from.
    Address(IpAddr),
}

impl Counted {
    /// The account of a name.
    pub(crate) fn account(name: &str) -> Self {
        Counted::Account(*blake3::hash(name.as_bytes()).as_bytes())
    }

    /// Failures that cost nothing yet. Many users may share an address.
    fn free(&self) -> u32 {
        match self {
            Counted::Account(_) => 5,
            Counted::Address(_) => 20,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    /// Seconds since 1970 of the last one.
    last: i64,
    /// Until when nothing is tried.
    until: i64,
}

/// The longest wait, and how long after the last failure all is forgiven, in seconds.
const LONGEST: i64 = 900;

/// The most entries.
const MOST: usize = 10_000;

/// The failures of late.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    failures: HashMap<Counted, Failures>,
}

impl Attempts {
    /// Seconds to wait before the next attempt; none when it may happen now.
    pub(crate) fn wait(&self, counted: &[Counted], now: i64) -> Option<i64> {
        let waits = counted.iter().filter_map(|one| {
            let wait = self.failures.get(one)?.until.saturating_sub(now);
            // A clock that was set back does not lock anyone out for longer.
            (wait > 0).then_some(wait.min(LONGEST))
        });
        waits.max()
    }

    /// Counts a failure.
    pub(crate) fn failed(&mut self, counted: &[Counted], now: i64) {
        for one in counted {
            self.make_room(now);
            let entry = self.failures.entry(one.clone()).or_insert(Failures {
                count: 0,
                last: now,
                until: now,
            });
            if forgiven(entry, now) {
                entry.count = 0;
            }
            entry.count = entry.count.saturating_add(1);
            entry.last = now;
            let over = entry.count.saturating_sub(one.free());
            let wait = if over == 0 {
                0
            } else {
                1_i64
                    .checked_shl(over.min(20))
                    .unwrap_or(LONGEST)
                    .min(LONGEST)
            };
            entry.until = now.saturating_add(wait);
        }
    }

    /// Forgets the failures of an account that proved itself. Its address stays counted, or one
    /// good account would let its owner guess at others for ever.
    pub(crate) fn succeeded(&mut self, account: &Counted) {
        self.failures.remove(account);
    }

    fn make_room(&mut self, now: i64) {
        if self.failures.len() < MOST {
            return;
        }
        self.failures.retain(|_, entry| !forgiven(entry, now));
        if self.failures.len() < MOST {
            return;
        }
        // Half goes at once, so that this is rare; those with the longest waits stay.
        let mut untils: Vec<i64> = self.failures.values().map(|entry| entry.until).collect();
        untils.sort_unstable();
        let middle = untils.get(untils.len() / 2).copied().unwrap_or(now);
        self.failures.retain(|_, entry| entry.until > middle);
    }
}

fn forgiven(entry: &Failures, now: i64) -> bool {
    now.saturating_sub(entry.last) > LONGEST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_beyond_the_free_ones_doubles_the_wait() {
        let mut attempts = Attempts::default();
        let aino = [Counted::account("aino")];
        let waits: Vec<_> = (0..18)
            .map(|_| {
                attempts.failed(&aino, 100);
                attempts.wait(&aino, 100).unwrap_or(0)
            })
            .collect();
        let expected = [
            0, 0, 0, 0, 0, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900, 900,
        ];
        assert_eq!(waits, expected);
        assert_eq!(attempts.wait(&aino, 1000), None);
        assert_eq!(attempts.wait(&[Counted::account("eino")], 100), None);
    }

    #[test]
    fn success_or_time_clears_an_account() {
        let aino = [Counted::account("aino")];
        for clear in [true, false] {
            let mut attempts = Attempts::default();
            (0..6).for_each(|_| attempts.failed(&aino, 100));
            assert_eq!(attempts.wait(&aino, 101), Some(1));
            let later = if clear {
                attempts.succeeded(&aino[0]);
                101
            } else {
                100 + LONGEST + 1
            };
            assert_eq!(attempts.wait(&aino, later), None);
            attempts.failed(&aino, later);
            assert_eq!(attempts.wait(&aino, later), None);
        }
    }

    #[test]
    fn memory_is_bounded_and_the_longest_waits_stay() {
        let mut attempts = Attempts::default();
        let aino = [Counted::account("aino")];
        (0..12).for_each(|_| attempts.failed(&aino, 0));
        for number in 0..30_000 {
            attempts.failed(&[Counted::account(&format!("{number}"))], 0);
        }
        assert!(attempts.failures.len() <= MOST);
        assert_eq!(attempts.wait(&aino, 0), Some(128));
    }
}
