//! How far a landing has come, for whoever shows it.
//!
//! Only the trait and its silent form live here; drawing a bar is the caller's work.

/// Told how many bytes of the source file have been read. Called from the task that awaits the
/// landing, never from its threads, so an implementation may draw directly.
pub trait Progress: Send + Sync {
    /// `done` of `total` bytes of `file` are read; `total` is the file's size on disk.
    fn bytes(&self, file: &str, done: u64, total: u64);

    /// The file is read; the delivery is being committed.
    fn committing(&self, _file: &str) {}
}

/// Shows nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn bytes(&self, _file: &str, _done: u64, _total: u64) {}
}
