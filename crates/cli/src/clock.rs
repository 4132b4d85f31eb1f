//! The machine's clock: the one place that reads it.

use tietopohja_domain::{Clock, Timestamp};

/// The machine's time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the command line is where time enters"
    )]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// Seconds since an earlier moment of the same clock.
pub(crate) fn seconds_since(start: Timestamp) -> f64 {
    SystemClock.now().duration_since(start).as_secs_f64()
}
