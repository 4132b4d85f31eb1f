//! The conformance matrix: every client tries every feature, and the page that
//! tells it must say what they saw. A new client is a script of
//! `testdata/clients/matrix` and a line of [`CLIENTS`].

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::tally::Tally;

use super::packages::Packages;
use super::{SCRIPTS, capture, checks};

const PAGE: &str = "docs/reference/flight-sql-clients.md";

/// What a script runs in.
enum Runtime {
    Python,
    PythonSqlAlchemy1,
    Node,
}

/// The scripts, in the order of the matrix's columns.
const CLIENTS: &[(&str, Runtime)] = &[
    ("adbc_dbapi.py", Runtime::Python),
    ("adbc_low_level.py", Runtime::Python),
    ("pyarrow_flight.py", Runtime::Python),
    ("polars_adbc.py", Runtime::Python),
    ("pandas_adbc.py", Runtime::Python),
    ("sqlalchemy_adbc_client.py", Runtime::Python),
    ("flightsql_dbapi.py", Runtime::PythonSqlAlchemy1),
    ("node_clients.mjs", Runtime::Node),
];

/// Runs the clients against the server at this address, then compares the page
/// with what they saw; with the variable `BLESS` set it is written instead.
pub(super) fn run(
    root: &Path,
    packages: &Packages,
    address: &str,
    scratch: &Path,
) -> Result<Tally, String> {
    let scripts = root.join(SCRIPTS).join("matrix");
    let results = scratch.join("matrix.jsonl");
    let mut tally = Tally::default();
    for (script, runtime) in CLIENTS {
        let mut client = match runtime {
            Runtime::Python => packages.python(),
            Runtime::PythonSqlAlchemy1 => packages.python_sqlalchemy_1()?,
            Runtime::Node => packages.node(),
        };
        client.arg(scripts.join(script));
        client.env("TIETOPOHJA_URI", address);
        client.env("MATRIX_RESULTS", &results);
        tally.add(checks(&mut client)?);
    }
    if tally.failed > 0 {
        eprintln!("FAILED  {PAGE} was not looked at, because clients failed");
        tally.add(Tally::one(false));
        return Ok(tally);
    }
    let mut page = packages.python();
    page.arg(scripts.join("page.py")).arg(&results);
    tally.add(Tally::one(page_is_right(root, &mut page)?));
    Ok(tally)
}

/// Whether the page says what the clients saw; with `BLESS` it does afterwards.
fn page_is_right(root: &Path, print: &mut Command) -> Result<bool, String> {
    let seen = capture(print)?;
    let path = root.join(PAGE);
    let told = fs::read_to_string(&path).unwrap_or_default();
    if told == seen {
        eprintln!("ok      {PAGE} says what the clients saw");
        return Ok(true);
    }
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, seen).map_err(|error| format!("cannot write `{PAGE}`: {error}"))?;
        eprintln!("wrote {PAGE}; read the diff");
        return Ok(true);
    }
    eprintln!("FAILED  {PAGE} does not say what the clients saw:");
    for line in differences(&told, &seen) {
        eprintln!("  {line}");
    }
    eprintln!("read the lines above, then write it with `BLESS=1 cargo xtask test --only clients`");
    Ok(false)
}

/// The lines of one text that the other lacks, both ways.
fn differences(told: &str, seen: &str) -> Vec<String> {
    let missing = |from: &str, other: &str, sign: &str| -> Vec<String> {
        let lacks = |line: &&str| !other.lines().any(|there| there == *line);
        let marked = from.lines().filter(lacks);
        marked.map(|line| format!("{sign} {line}")).collect()
    };
    let mut lines = missing(told, seen, "-");
    lines.extend(missing(seen, told, "+"));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_line_is_told_as_it_was_and_as_it_is() {
        let differ = differences("a\n| Poll | yes |\n", "a\n| Poll | not yet |\nb\n");
        assert_eq!(differ, ["- | Poll | yes |", "+ | Poll | not yet |", "+ b"]);
        assert!(differences("a\nb\n", "a\nb\n").is_empty());
    }
}
