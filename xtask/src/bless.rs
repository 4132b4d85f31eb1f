//! `cargo xtask bless`: writes the expected results of golden tests anew.
//!
//! A golden test compares with a file under `testdata/` and, when the variable
//! `BLESS` is set, writes the file instead. Blessing records bugs as happily
//! as features: read the diff before it is committed.

use std::collections::BTreeSet;

use crate::process;
use crate::tally::Tally;
use crate::tree::{Tree, root};

/// The variable that golden tests look for.
const VARIABLE: &str = "BLESS";

/// Runs the tests of every crate that has golden files; options go to `cargo test`.
pub(crate) fn run(options: &[String]) -> Result<Tally, String> {
    let root = root()?;
    let mut tests = process::cargo(&root);
    tests.args(["test", "--locked", "--no-fail-fast"]);
    tests.env(VARIABLE, "1");
    if options.is_empty() {
        let packages = packages_with_goldens(&Tree::read(&root)?);
        if packages.is_empty() {
            return Err(format!("no crate has tests that read `{VARIABLE}`"));
        }
        for package in packages {
            tests.args(["--package", &package]);
        }
    } else {
        tests.args(options);
    }
    let tally = process::rust_tests("bless", &mut tests)?;
    eprintln!("\nnow read what changed: git diff testdata");
    Ok(tally)
}

/// Packages whose sources ask for the variable, itself or through `testkit`.
fn packages_with_goldens(tree: &Tree) -> BTreeSet<String> {
    let mut packages = BTreeSet::new();
    for file in tree.rust_files() {
        let Some(rest) = file.path.strip_prefix("crates/") else {
            continue;
        };
        let Some((krate, _)) = rest.split_once('/') else {
            continue;
        };
        let text = file.text().unwrap_or_default();
        let asks = text.contains(&format!("\"{VARIABLE}\"")) || text.contains("testkit::golden");
        if asks && krate != "testkit" {
            packages.insert(format!("tietopohja-{krate}"));
        }
    }
    packages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crates_that_read_the_variable_are_found() {
        let tree = Tree::of(&[
            (
                "crates/contract/tests/bad.rs",
                "std::env::var_os(\"BLESS\")",
            ),
            (
                "crates/cli/tests/help.rs",
                "use tietopohja_testkit::golden;",
            ),
            (
                "crates/testkit/src/golden.rs",
                "std::env::var_os(\"BLESS\")",
            ),
            ("crates/domain/src/lib.rs", "//! names"),
        ]);
        let found: Vec<String> = packages_with_goldens(&tree).into_iter().collect();
        assert_eq!(found, ["tietopohja-cli", "tietopohja-contract"]);
    }
}
