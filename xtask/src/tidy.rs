//! `cargo xtask tidy`: house rules that no compiler knows, each a small function.
//!
//! A rule reads the [`Tree`] and returns findings; a finding says where, what
//! and what to do about it. To add a rule: write a function in the module it
//! fits, with tests of a good and a bad case, and list it in [`RULES`].

mod definitions;
mod dependencies;
mod features;
mod identity;
mod links;
mod manifests;
mod rust_source;
mod sources;
mod sql;
mod text;

use std::fmt;

use crate::tally::Tally;
use crate::tree::{Tree, root};

/// One broken rule at one place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Path from the root; line 0 means the whole file.
    place: (String, usize),
    message: String,
    help: String,
}

impl Finding {
    fn new(path: &str, line: usize, message: impl Into<String>, help: impl Into<String>) -> Self {
        Finding {
            place: (path.to_owned(), line),
            message: message.into(),
            help: help.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, line) = &self.place;
        match line {
            0 => write!(f, "{path}: {}", self.message)?,
            line => write!(f, "{path}:{line}: {}", self.message)?,
        }
        write!(f, "\n  help: {}", self.help)
    }
}

/// A rule: its name and the function that finds where it is broken.
type Rule = (&'static str, fn(&Tree) -> Vec<Finding>);

/// All rules, in the order they are reported.
const RULES: &[Rule] = &[
    (
        "crates use only crates below them",
        dependencies::between_crates,
    ),
    ("heavy libraries stay in their room", dependencies::rooms),
    ("every crate is set up alike", manifests::set_up),
    ("the lock file is committed", manifests::lock_file),
    ("the code map names every crate", manifests::code_map),
    ("modules say what they are", sources::module_docs),
    (
        "one place makes query sessions",
        sources::one_session_factory,
    ),
    (
        "time and randomness are arguments",
        sources::time_and_randomness,
    ),
    (
        "only the binary reads the environment",
        sources::environment,
    ),
    ("pure crates do no input or output", sources::purity),
    ("relations state their grain and key", sql::headers),
    ("relations keep to their layer", sql::layers),
    ("every indicator has a check query", definitions::checks),
    ("definitions are named after their file", definitions::names),
    ("files name no machine", text::no_machine_paths),
    ("files name no package registry", text::no_registry_hosts),
    ("no identity code of a person", identity::no_real_codes),
    ("links lead somewhere", links::resolve),
];

/// Checks every rule; each counts as one check.
pub(crate) fn run(options: &[String]) -> Result<Tally, String> {
    if !options.is_empty() {
        return Err("`tidy` takes no options".to_owned());
    }
    let root = root()?;
    eprintln!("\n==> tidy");
    let tree = Tree::read(&root)?;
    let mut tally = Tally::default();
    for (name, rule) in RULES {
        tally.add(report(name, &rule(&tree)));
    }
    tally.add(report(features::NAME, &features::unified(&root)));
    Ok(tally)
}

fn report(name: &str, findings: &[Finding]) -> Tally {
    if findings.is_empty() {
        eprintln!("ok      {name}");
        return Tally::one(true);
    }
    eprintln!("BROKEN  {name}");
    for finding in findings {
        eprintln!("{finding}\n");
    }
    Tally::one(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_prints_place_message_and_help() {
        let finding = Finding::new("a/b.rs", 3, "what is wrong", "what to do");
        assert_eq!(
            finding.to_string(),
            "a/b.rs:3: what is wrong\n  help: what to do"
        );
        let finding = Finding::new("Cargo.lock", 0, "it is missing", "commit it");
        assert_eq!(
            finding.to_string(),
            "Cargo.lock: it is missing\n  help: commit it"
        );
    }
}
