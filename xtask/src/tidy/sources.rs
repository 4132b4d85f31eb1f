//! Rules on Rust sources that look at words: module documentation, the one
//! session factory, clocks and randomness, purity.

use super::Finding;
use super::rust_source::shipped_code;
use crate::tree::{File, Tree};

/// A way to make a query session, and the one file that may use it.
struct Maker {
    words: &'static [&'static str],
    file: &'static str,
}

/// Every session comes from one template in one place, so that policy, limits
/// and functions are the same in all of them.
const SESSION_MAKERS: &[Maker] = &[
    Maker {
        words: &[
            "SessionContext::new",
            "SessionContext::from",
            "SessionContext::default",
        ],
        file: "crates/engine/src/session.rs",
    },
    Maker {
        words: &[
            "SessionStateBuilder::new()",
            "SessionStateBuilder::default",
            "SessionStateBuilder::new_with_default_features",
        ],
        file: "crates/engine/src/engine.rs",
    },
];

/// Ways to ask for the time or for randomness, which tests could not repeat.
const UNREPEATABLE: &[&str] = &[
    "Timestamp::now",
    "Zoned::now",
    "SystemTime::now",
    "Instant::now",
    "getrandom::",
    "rand::rng",
    "rand::random",
    "thread_rng",
    "ThreadRng",
    "SysRng",
    "OsRng",
    "from_os_rng",
    "RandomState::new",
    "Uuid::new_v4",
];

/// Files that may, each with its reason.
const MAY_BE_UNREPEATABLE: &[(&str, &str)] = &[
    (
        "crates/cli/src/clock.rs",
        "the machine's clock, which the binary passes in",
    ),
    (
        "crates/ingest/src/keyring.rs",
        "draws a new pseudonym key, once per warehouse",
    ),
    (
        "crates/cli/src/commands/serve.rs",
        "draws the key of tickets, which hold as long as the server runs",
    ),
    (
        "crates/cli/src/commands/user.rs",
        "draws the salts of passwords and the secrets of API tokens",
    ),
    ("crates/engine/src/calc/facts.rs", STOPWATCH),
    ("crates/engine/src/calc/run.rs", STOPWATCH),
    ("crates/engine/src/calc/scan.rs", STOPWATCH),
    ("crates/engine/src/check.rs", STOPWATCH),
    ("crates/engine/src/listing.rs", STOPWATCH),
    ("crates/engine/src/plain.rs", STOPWATCH),
    ("crates/engine/src/reference/load.rs", STOPWATCH),
    ("crates/server/src/flight/door.rs", STOPWATCH),
    ("crates/server/src/connections.rs", STOPWATCH),
    ("xtask/", "a developer's tool"),
];

/// The reason of files that tell how long something took or stop what takes too long.
const STOPWATCH: &str = "measures durations, which no result depends on";

/// Crates that compute and decide only.
const PURE: &[&str] = &[
    "domain",
    "kernels",
    "contract",
    "indicators",
    "disclosure",
    "policy",
];

/// Ways out of a pure crate.
const OUTSIDE: &[&str] = &[
    "std::fs",
    "std::net",
    "std::env",
    "std::process",
    "std::os",
    "File::open",
    "File::create",
];

/// Ways to read or change the environment.
const ENVIRONMENT: &[&str] = &["env::var", "env::set_var", "env::remove_var", "env::args"];

/// Where the environment enters: the binary, build scripts and this tool.
const READS_ENVIRONMENT: &[&str] = &["crates/cli/", "xtask/"];

/// Every source begins with `//!`: what lives here, what may not, how to add one.
pub(super) fn module_docs(tree: &Tree) -> Vec<Finding> {
    tree.rust_files()
        .filter(|file| !file.text().unwrap_or_default().starts_with("//!"))
        .map(|file| {
            Finding::new(
                &file.path,
                1,
                "the file does not begin with `//!`",
                "say what lives here, what may not, and how to add one",
            )
        })
        .collect()
}

/// Sessions are made in one place only.
pub(super) fn one_session_factory(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.rust_files().filter(|file| !is_test(file)) {
        for maker in SESSION_MAKERS {
            if file.path == maker.file {
                continue;
            }
            for (line, word) in words(file, maker.words) {
                findings.push(Finding::new(
                    &file.path,
                    line,
                    format!("`{word}` makes a query session outside `{}`", maker.file),
                    "ask the engine for a session: a second way in would pass by policy and memory limits",
                ));
            }
        }
    }
    findings
}

/// Clocks and randomness come in as arguments.
pub(super) fn time_and_randomness(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.rust_files() {
        let may = MAY_BE_UNREPEATABLE.iter().any(|(path, _)| {
            path.strip_suffix('/')
                .map_or(file.path == *path, |folder| file.path.starts_with(folder))
        });
        if may || is_test(file) {
            continue;
        }
        for (line, word) in words(file, UNREPEATABLE) {
            findings.push(Finding::new(
                &file.path,
                line,
                format!("`{word}` cannot be repeated by a test"),
                "take a `Clock` or a seed as an argument; a file that must ask is listed with its reason in xtask/src/tidy/sources.rs",
            ));
        }
    }
    findings
}

/// Settings are arguments: only the binary reads the environment. Tests may.
pub(super) fn environment(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.rust_files() {
        let may = READS_ENVIRONMENT
            .iter()
            .any(|folder| file.path.starts_with(folder));
        if may || is_test(file) || file.path.ends_with("/build.rs") {
            continue;
        }
        for (line, word) in words(file, ENVIRONMENT) {
            findings.push(Finding::new(
                &file.path,
                line,
                format!("`{word}` outside the binary"),
                "take a setting as an argument; `cli` reads the environment once",
            ));
        }
    }
    findings
}

/// Pure crates touch no file, network, process or environment.
pub(super) fn purity(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for krate in PURE {
        let folder = format!("crates/{krate}/src");
        for file in tree.under(&folder).filter(|file| file.has_extension("rs")) {
            for (line, word) in words(file, OUTSIDE) {
                findings.push(Finding::new(
                    &file.path,
                    line,
                    format!("`{word}` in the pure crate `{krate}`"),
                    "take text or bytes as an argument and let the caller read and write",
                ));
            }
        }
    }
    findings
}

/// Integration tests, benches and examples; test modules inside sources are blanked by
/// [`shipped_code`].
fn is_test(file: &File) -> bool {
    let folders = ["crates/testkit/", "/tests/", "/examples/", "benches/"];
    folders.iter().any(|folder| file.path.contains(folder))
}

/// Occurrences of words in shipped code, with their line numbers.
fn words<'w>(file: &File, words: &[&'w str]) -> Vec<(usize, &'w str)> {
    let text = file.text().unwrap_or_default();
    // Lexing is the costly part; most files name none of the words.
    if !words.iter().any(|word| text.contains(word)) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (index, line) in shipped_code(text).lines().enumerate() {
        let hit = words.iter().find(|word| contains_word(line, word));
        if let Some(word) = hit {
            found.push((index + 1, *word));
        }
    }
    found
}

/// Whether a line holds a word that does not continue another to its left.
fn contains_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|before| before.is_alphanumeric() || before == '_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(rule: fn(&Tree) -> Vec<Finding>, path: &str, source: &str, lines: &[usize]) {
        let found: Vec<usize> = rule(&Tree::of(&[(path, source)]))
            .iter()
            .map(|finding| finding.place.1)
            .collect();
        assert_eq!(found, lines, "{path}: {source}");
    }

    #[test]
    fn a_source_begins_with_its_documentation() {
        check(module_docs, "crates/x/src/a.rs", "//! names\n", &[]);
        check(module_docs, "crates/x/src/a.rs", "use a;\n//! late\n", &[1]);
        check(module_docs, "crates/x/src/a.rs", "", &[1]);
    }

    #[test]
    fn a_session_is_made_in_one_file() {
        let source = "//! x\nlet a = SessionContext::new_with_config(c);\n";
        check(one_session_factory, SESSION_MAKERS[0].file, source, &[]);
        check(one_session_factory, "crates/server/src/a.rs", source, &[2]);
        check(one_session_factory, "crates/server/tests/a.rs", source, &[]);
        let source = "//! x\nlet a = DeltaSessionContext::new();\n";
        check(one_session_factory, "crates/lake/src/a.rs", source, &[]);
    }

    #[test]
    fn time_is_an_argument() {
        let source = "//! `Instant::now` in words\nlet a = std::time::Instant::now();\n";
        check(time_and_randomness, "crates/lake/src/a.rs", source, &[2]);
        check(time_and_randomness, "crates/cli/src/clock.rs", source, &[]);
        check(time_and_randomness, "xtask/src/a.rs", source, &[]);
        let source = "//! x\n#[cfg(test)]\nmod tests {\n let a = Instant::now();\n}\n";
        check(time_and_randomness, "crates/lake/src/a.rs", source, &[]);
    }

    #[test]
    fn only_the_binary_reads_the_environment() {
        let source = "//! x\nlet a = std::env::var_os(\"A\");\n";
        check(environment, "crates/lake/src/a.rs", source, &[2]);
        check(environment, "crates/lake/tests/a.rs", source, &[]);
        check(environment, "crates/cli/src/a.rs", source, &[]);
        check(environment, "crates/lake/build.rs", source, &[]);
    }

    #[test]
    fn pure_crates_do_not_read() {
        let source = "//! x\nlet a = std::fs::read(p)?;\n";
        check(purity, "crates/contract/src/a.rs", source, &[2]);
        check(purity, "crates/contract/tests/a.rs", source, &[]);
        check(purity, "crates/ingest/src/a.rs", source, &[]);
    }
}
