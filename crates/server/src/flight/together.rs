//! One permit for all parts of a statement.
//!
//! A client that gets several tickets for one statement may open all of them and read one: the others wait,
//! running, until it comes to them. If each needed a permit of its own, the one that is read could wait
//! for the ones that wait for it. So parts of a statement run together under the permit that the first
//! of them asked for. A part that runs already has no second place in it: who redeems a ticket twice at
//! once asks for another permit, like anybody. What may not live here: who may run, which is the
//! gate's business.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};

use crate::gate::{Gate, Permit, Turned};

type Entering = Shared<BoxFuture<'static, Result<Arc<Permit>, Turned>>>;

/// Statements of which parts run or wait to.
#[derive(Clone, Default)]
pub(crate) struct Together {
    known: Arc<Mutex<HashMap<Bytes, Company>>>,
}

struct Company {
    entering: Entering,
    parts: HashSet<u32>,
}

/// Leave to run. The permit is given back with the last part.
pub(crate) struct Leave {
    _permit: Arc<Permit>,
    _place: Option<Place>,
}

/// The place of a part among those of its statement.
struct Place {
    together: Together,
    statement: Bytes,
    part: u32,
}

impl Together {
    /// Waits until a part of a statement may run.
    ///
    /// # Errors
    /// As [`Gate::enter`].
    pub(crate) async fn enter(
        &self,
        gate: &Gate,
        principal: &str,
        statement: &Bytes,
        part: u32,
    ) -> Result<Leave, Turned> {
        let Some((entering, place)) = self.join(gate, principal, statement, part) else {
            let permit = gate.enter(principal).await?;
            return Ok(Leave::alone(permit));
        };
        Ok(Leave {
            _permit: entering.await?,
            _place: Some(place),
        })
    }

    /// `None` for a part that runs already.
    fn join(
        &self,
        gate: &Gate,
        principal: &str,
        statement: &Bytes,
        part: u32,
    ) -> Option<(Entering, Place)> {
        let mut known = self.lock();
        let company = known.entry(statement.clone()).or_insert_with(|| {
            let (gate, principal) = (gate.clone(), principal.to_owned());
            let entering = async move { gate.enter(&principal).await.map(Arc::new) };
            Company {
                entering: entering.boxed().shared(),
                parts: HashSet::new(),
            }
        });
        company.parts.insert(part).then(|| {
            let place = Place {
                together: self.clone(),
                statement: statement.clone(),
                part,
            };
            (company.entering.clone(), place)
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Bytes, Company>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Leave {
    /// That of a statement that has no parts.
    pub(crate) fn alone(permit: Permit) -> Self {
        Self {
            _permit: Arc::new(permit),
            _place: None,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut known = self.together.lock();
        let Some(company) = known.get_mut(&self.statement) else {
            return;
        };
        company.parts.remove(&self.part);
        let gone = match company.parts.is_empty() {
            true => known.remove(&self.statement),
            false => None,
        };
        // A permit lets others in when it is dropped, which is not done under a lock.
        drop(known);
        drop(gone);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::gate::GateOptions;

    fn gate() -> Gate {
        Gate::new(GateOptions {
            running: 1,
            running_each: 1,
            waiting: 8,
            patience: Duration::from_secs(3_600),
        })
    }

    static ONE: Bytes = Bytes::from_static(b"one");
    static TWO: Bytes = Bytes::from_static(b"two");

    #[tokio::test]
    async fn parts_of_a_statement_run_under_one_permit() {
        let (gate, together) = (gate(), Together::default());
        let enter = |statement, part| together.enter(&gate, "aino", statement, part);
        let first = enter(&ONE, 0).await.unwrap();
        let second = enter(&ONE, 1).await.unwrap();
        assert_eq!(gate.counts(), (1, 0));
        let mut other = Box::pin(enter(&TWO, 0));
        assert!(futures::poll!(&mut other).is_pending());
        drop(first);
        assert!(futures::poll!(&mut other).is_pending());
        drop(second);
        let other = other.await.unwrap();
        assert_eq!(gate.counts(), (1, 0));
        drop(other);
        assert_eq!(gate.counts(), (0, 0));
        assert!(together.lock().is_empty());
    }

    #[tokio::test]
    async fn parts_that_wait_go_in_together_whichever_is_asked_for_first() {
        let (gate, together) = (gate(), Together::default());
        let before = gate.enter("eino").await.unwrap();
        let mut last = Box::pin(together.enter(&gate, "aino", &ONE, 1));
        let mut first = Box::pin(together.enter(&gate, "aino", &ONE, 0));
        assert!(futures::poll!(&mut last).is_pending());
        assert!(futures::poll!(&mut first).is_pending());
        assert_eq!(gate.counts(), (1, 1));
        drop(before);
        let both = (first.await.unwrap(), last.await.unwrap());
        assert_eq!(gate.counts(), (1, 0));
        drop(both);
        assert_eq!(gate.counts(), (0, 0));
    }

    #[tokio::test]
    async fn a_part_that_runs_twice_needs_a_permit_of_its_own() {
        let (gate, together) = (gate(), Together::default());
        let once = together.enter(&gate, "aino", &ONE, 0).await.unwrap();
        let mut twice = Box::pin(together.enter(&gate, "aino", &ONE, 0));
        assert!(futures::poll!(&mut twice).is_pending());
        assert_eq!(gate.counts(), (1, 1));
        drop(once);
        drop(twice.await.unwrap());
        assert_eq!(gate.counts(), (0, 0));
    }

    #[tokio::test]
    async fn who_stops_waiting_leaves_no_place_behind() {
        let (gate, together) = (gate(), Together::default());
        let before = gate.enter("eino").await.unwrap();
        let mut gone = Box::pin(together.enter(&gate, "aino", &ONE, 0));
        assert!(futures::poll!(&mut gone).is_pending());
        drop(gone);
        assert!(together.lock().is_empty());
        drop(before);
        drop(together.enter(&gate, "aino", &ONE, 0).await.unwrap());
        assert_eq!(gate.counts(), (0, 0));
    }
}
