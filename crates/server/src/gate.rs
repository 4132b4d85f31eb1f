//! Who may run now, and who waits.
//!
//! So many statements run at a time; the others wait in order of arrival, and principals take turns: one
//! that has many statements waiting does not keep the next principal from running. A principal also
//! has a limit of its own. When too many wait, the next is refused at once. What a statement does
//! once it runs is not decided here, and neither is its memory.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

/// How many statements may run and wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GateOptions {
    /// Statements that run at a time. Default: 8.
    pub running: usize,
    /// Statements of one principal that run at a time. Default: 4.
    pub running_each: usize,
    /// Statements that wait, of all principals. Default: 256.
    pub waiting: usize,
    /// Longest time that a statement waits. Default: one minute.
    pub patience: Duration,
}

impl Default for GateOptions {
    fn default() -> Self {
        Self {
            running: 8,
            running_each: 4,
            waiting: 256,
            patience: Duration::from_secs(60),
        }
    }
}

/// Why a statement does not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Turned {
    /// Too many wait already.
    #[error("{waiting} statements wait already, which is as many as may; try again later")]
    Full {
        /// How many wait.
        waiting: usize,
    },
    /// It waited for too long.
    #[error("the statement waited {seconds} s for others to end; try again later")]
    Waited {
        /// How long.
        seconds: u64,
    },
}

/// Lets statements run.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    options: GateOptions,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    running: usize,
    running_of: HashMap<String, usize>,
    waiting: usize,
    /// Principals with statements that wait, in the order of their turns.
    turns: VecDeque<(String, VecDeque<oneshot::Sender<Permit>>)>,
}

/// Leave to run. Dropped, it passes to the next.
#[derive(Debug)]
pub(crate) struct Permit {
    /// None when it was given back already.
    gate: Option<Gate>,
    principal: String,
}

impl Gate {
    /// A gate through which nobody has gone.
    pub(crate) fn new(options: GateOptions) -> Self {
        let options = GateOptions {
            running: options.running.max(1),
            running_each: options.running_each.max(1),
            ..options
        };
        Self {
            options,
            inner: Arc::default(),
        }
    }

    /// Waits until a statement of a principal may run. Whoever stops waiting loses the place.
    ///
    /// # Errors
    /// Too many wait, or this one did for too long.
    pub(crate) async fn enter(&self, principal: &str) -> Result<Permit, Turned> {
        let receiver = match self.ask(principal)? {
            Ok(permit) => return Ok(permit),
            Err(receiver) => receiver,
        };
        let waited = Turned::Waited {
            seconds: self.options.patience.as_secs(),
        };
        match tokio::time::timeout(self.options.patience, receiver).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => {
                self.forget_the_gone();
                Err(waited)
            }
        }
    }

    /// How many run, and how many wait.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let inner = self.lock();
        (inner.running, inner.waiting)
    }

    fn ask(&self, principal: &str) -> Result<Result<Permit, oneshot::Receiver<Permit>>, Turned> {
        let mut inner = self.lock();
        inner.forget_the_gone();
        if inner.has_room(&self.options, principal) && !inner.waits(principal) {
            inner.start(principal);
            return Ok(Ok(self.permit(principal)));
        }
        if inner.waiting >= self.options.waiting {
            let waiting = inner.waiting;
            return Err(Turned::Full { waiting });
        }
        let (sender, receiver) = oneshot::channel();
        inner.waiting += 1;
        match inner.turns.iter_mut().find(|(name, _)| name == principal) {
            Some((_, own)) => own.push_back(sender),
            None => inner
                .turns
                .push_back((principal.to_owned(), VecDeque::from([sender]))),
        }
        Ok(Err(receiver))
    }

    fn permit(&self, principal: &str) -> Permit {
        Permit {
            gate: Some(self.clone()),
            principal: principal.to_owned(),
        }
    }

    fn forget_the_gone(&self) {
        self.lock().forget_the_gone();
    }

    /// Starts those whose turn it is, as many as there is room for.
    fn let_in(&self) {
        loop {
            let (sender, permit) = {
                let mut inner = self.lock();
                let Some((principal, sender)) = inner.next(&self.options) else {
                    return;
                };
                inner.start(&principal);
                (sender, self.permit(&principal))
            };
            // Whoever is gone gives the permit back; it is dropped outside of the lock.
            if let Err(unwanted) = sender.send(permit) {
                unwanted.give_back();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn has_room(&self, options: &GateOptions, principal: &str) -> bool {
        let own = self.running_of.get(principal).copied().unwrap_or(0);
        self.running < options.running && own < options.running_each
    }

    fn waits(&self, principal: &str) -> bool {
        self.turns.iter().any(|(name, _)| name == principal)
    }

    fn start(&mut self, principal: &str) {
        self.running += 1;
        *self.running_of.entry(principal.to_owned()).or_default() += 1;
    }

    fn end(&mut self, principal: &str) {
        self.running = self.running.saturating_sub(1);
        if let Some(own) = self.running_of.get_mut(principal) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                self.running_of.remove(principal);
            }
        }
    }

    /// The next to run: the first principal in turn that may run more. It goes to the end of the
    /// turns.
    fn next(&mut self, options: &GateOptions) -> Option<(String, oneshot::Sender<Permit>)> {
        let place = (0..self.turns.len()).find(|place| {
            let turn = self.turns.get(*place);
            turn.is_some_and(|(principal, _)| self.has_room(options, principal))
        })?;
        let (principal, mut own) = self.turns.remove(place)?;
        let sender = own.pop_front();
        if !own.is_empty() {
            self.turns.push_back((principal.clone(), own));
        }
        self.waiting = self.waiting.saturating_sub(1);
        Some((principal, sender?))
    }

    /// Takes away those that no longer wait.
    fn forget_the_gone(&mut self) {
        for (_, own) in &mut self.turns {
            own.retain(|sender| !sender.is_closed());
        }
        self.turns.retain(|(_, own)| !own.is_empty());
        self.waiting = self.turns.iter().map(|(_, own)| own.len()).sum();
    }
}

impl Permit {
    /// Ends without letting the next in: the caller does.
    fn give_back(mut self) {
        if let Some(gate) = self.gate.take() {
            gate.lock().end(&self.principal);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(gate) = self.gate.take() {
            gate.lock().end(&self.principal);
            gate.let_in();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn gate(running: usize, running_each: usize, waiting: usize) -> Gate {
        Gate::new(GateOptions {
            running,
            running_each,
            waiting,
            patience: Duration::from_secs(3600),
        })
    }

    type Entering<'a> = Pin<Box<dyn Future<Output = Result<Permit, Turned>> + 'a>>;

    fn entering<'a>(gate: &'a Gate, principal: &'a str) -> Entering<'a> {
        Box::pin(gate.enter(principal))
    }

    fn poll(entering: &mut Entering<'_>) -> Option<Result<Permit, Turned>> {
        match entering
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
        {
            Poll::Ready(entered) => Some(entered),
            Poll::Pending => None,
        }
    }

    fn now(gate: &Gate, principal: &str) -> Result<Permit, Turned> {
        poll(&mut entering(gate, principal)).unwrap()
    }

    #[tokio::test]
    async fn so_many_run_and_the_next_waits_for_one_to_end() {
        let gate = gate(2, 2, 10);
        let first = now(&gate, "a").unwrap();
        let _second = now(&gate, "b").unwrap();
        let mut third = entering(&gate, "c");
        assert!(poll(&mut third).is_none());
        assert_eq!(gate.counts(), (2, 1));
        drop(first);
        assert!(poll(&mut third).unwrap().is_ok());
        assert_eq!(
            gate.counts(),
            (1, 0),
            "the permit was dropped with the answer"
        );
    }

    #[tokio::test]
    async fn principals_take_turns_and_each_in_order_of_arrival() {
        let gate = gate(1, 1, 10);
        let mut held = now(&gate, "x").unwrap();
        let mut waiting: Vec<(&str, Entering<'_>)> = ["a1", "a2", "a3", "b1", "c1", "b2"]
            .into_iter()
            .map(|name| (name, entering(&gate, &name[..1])))
            .collect();
        for (_, entering) in &mut waiting {
            assert!(poll(entering).is_none());
        }
        let mut order = Vec::new();
        while !waiting.is_empty() {
            drop(held);
            let (place, permit) = waiting
                .iter_mut()
                .enumerate()
                .find_map(|(place, (_, entering))| Some((place, poll(entering)?)))
                .unwrap();
            held = permit.unwrap();
            order.push(waiting.remove(place).0);
        }
        assert_eq!(order, ["a1", "b1", "c1", "a2", "b2", "a3"]);
    }

    #[tokio::test]
    async fn one_principal_leaves_room_for_others() {
        let gate = gate(3, 2, 10);
        let _own = [now(&gate, "a").unwrap(), now(&gate, "a").unwrap()];
        let mut more = entering(&gate, "a");
        assert!(poll(&mut more).is_none());
        let other = now(&gate, "b").unwrap();
        drop(other);
        assert!(poll(&mut more).is_none(), "the room of others is not taken");
    }

    #[tokio::test]
    async fn when_too_many_wait_the_next_is_refused() {
        let gate = gate(1, 1, 1);
        let _held = now(&gate, "a").unwrap();
        let mut waiting = entering(&gate, "b");
        assert!(poll(&mut waiting).is_none());
        assert_eq!(now(&gate, "c").unwrap_err(), Turned::Full { waiting: 1 });
        drop(waiting);
        assert!(
            poll(&mut entering(&gate, "c")).is_none(),
            "a place that was left is free"
        );
    }

    #[tokio::test]
    async fn whoever_stops_waiting_is_passed_over() {
        let gate = gate(1, 1, 10);
        let held = now(&gate, "a").unwrap();
        let mut gone = entering(&gate, "b");
        let mut stays = entering(&gate, "c");
        assert!(poll(&mut gone).is_none() && poll(&mut stays).is_none());
        drop(gone);
        drop(held);
        assert!(poll(&mut stays).unwrap().is_ok());
        assert_eq!(gate.counts(), (0, 0));
    }

    #[tokio::test]
    async fn waiting_has_an_end() {
        let gate = Gate::new(GateOptions {
            running: 1,
            patience: Duration::ZERO,
            ..GateOptions::default()
        });
        let held = gate.enter("a").await.unwrap();
        assert_eq!(
            gate.enter("b").await.unwrap_err(),
            Turned::Waited { seconds: 0 }
        );
        assert_eq!(gate.counts(), (1, 0));
        drop(held);
        assert_eq!(gate.counts(), (0, 0));
    }
}
