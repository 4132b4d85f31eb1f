//! Places where a test can make the process die, to prove that a crash leaves old or new.
//!
//! A fail point does nothing unless the command line armed it, and it is compiled out of shipped
//! builds. Names: `land.staged`, `land.pending`, `land.rejects`, `land.data`, `land.ledger`.

#[cfg(debug_assertions)]
static ARMED: std::sync::OnceLock<String> = std::sync::OnceLock::new();

/// Arms one fail point for the rest of the process. In shipped builds this does nothing.
pub fn arm(name: &str) {
    #[cfg(debug_assertions)]
    ARMED.get_or_init(|| name.to_owned());
    #[cfg(not(debug_assertions))]
    let _ = name;
}

/// Ends the process at once, as `kill -9` would, when this point is armed.
pub(crate) fn reach(name: &str) {
    #[cfg(debug_assertions)]
    if ARMED.get().is_some_and(|armed| armed == name) {
        std::process::abort();
    }
    #[cfg(not(debug_assertions))]
    let _ = name;
}
