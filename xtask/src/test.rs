//! `cargo xtask test`: every test a newcomer can run, in one go.
//!
//! First all Rust tests of the workspace and the benches over few rows, then [`crate::clients`]: the real
//! binary, its server and real clients that know nothing of this project.

use crate::tally::Tally;
use crate::tree::root;
use crate::{clients, process};

/// Runs the tests and returns how many passed and failed.
pub(crate) fn run(options: &[String]) -> Result<Tally, String> {
    let (rust, python) = match options {
        [] => (true, true),
        [only, part] if only == "--only" && part == "rust" => (true, false),
        [only, part] if only == "--only" && part == "clients" => (false, true),
        _ => {
            return Err(format!(
                "`test` takes `--only rust` or `--only clients`, not `{}`",
                options.join(" ")
            ));
        }
    };
    let root = root()?;
    let mut tally = Tally::default();

    // One build of tests and programs together: asked for apart, cargo would
    // choose other features for the dependencies and compile them twice.
    let mut build = process::cargo(&root);
    build.args(["build", "--workspace", "--lib", "--bins", "--tests"]);
    build.arg("--locked");
    if !process::succeeds("build", &mut build)? {
        eprintln!("the project does not compile; no test was run");
        return Ok(Tally::one(false));
    }

    if rust {
        let mut tests = process::cargo(&root);
        tests.args(["test", "--workspace", "--locked", "--no-fail-fast"]);
        tally.add(process::rust_tests("Rust tests", &mut tests)?);
        // Benches go over few rows once, and check their own answers.
        let mut benches = process::cargo(&root);
        benches.args(["test", "--workspace", "--locked", "--bench", "*"]);
        let is_right = process::succeeds("benches over few rows", &mut benches)?;
        tally.add(Tally::one(is_right));
    }
    if python {
        // What stops the clients must not hide what the Rust tests have shown.
        let counts = clients::run(&root).unwrap_or_else(|message| {
            eprintln!("error: {message}");
            Tally::one(false)
        });
        tally.add(counts);
    }
    Ok(tally)
}
