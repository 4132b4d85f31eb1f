//! A warehouse in a scratch folder, and the binary run against it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// A warehouse that goes away with the test.
pub(crate) struct Scratch {
    folder: tempfile::TempDir,
}

impl Scratch {
    pub(crate) fn new() -> Scratch {
        let scratch = Scratch {
            folder: tempfile::tempdir().expect("a scratch folder"),
        };
        let made = scratch
            .command(&["init"])
            .arg(scratch.path())
            .output()
            .expect("the binary runs");
        assert!(made.status.success(), "{}", text(&made));
        scratch
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tietopohja"));
        command.arg("-C").arg(self.path()).args(arguments);
        command
    }

    /// Runs a command that must succeed, and gives its standard output.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().expect("the binary runs");
        assert!(output.status.success(), "{arguments:?}: {}", text(&output));
        String::from_utf8(output.stdout).expect("text")
    }

    /// The rows of a query.
    pub(crate) fn rows(&self, query: &str) -> Vec<Value> {
        match serde_json::from_str(&self.run(&["sql", "-o", "json", query])).expect("JSON") {
            Value::Array(rows) => rows,
            other => panic!("not a list: {other}"),
        }
    }

    /// The only figure of a query.
    pub(crate) fn figure(&self, query: &str) -> i64 {
        let rows = self.rows(query);
        let row = rows.first().and_then(Value::as_object).expect("one row");
        row.values()
            .next()
            .and_then(Value::as_i64)
            .unwrap_or_default()
    }

    /// Writes a source file into the warehouse folder.
    pub(crate) fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, content).expect("a file is written");
        path
    }
}

pub(crate) fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}
