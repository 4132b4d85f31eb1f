//! Any text as a contract: parsed, or refused with at least one problem.
//!
//! Seeds: `cargo +nightly fuzz run parse_contract definitions/contracts testdata/contracts`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tietopohja_contract::{CodeLists, Contract};

fuzz_target!(|text: &str| {
    let lists = CodeLists::parse(Vec::new()).expect("no lists are right lists");
    if let Err(problems) = Contract::parse("fuzz.odcs.yaml", text, &lists) {
        assert!(!problems.is_empty(), "a refusal says why");
    }
});
