//! Any bytes as a source file of the test contract: read, unpacked and cut, or refused.
//!
//! Seeds: `cargo +nightly fuzz run read_source testdata/good testdata/bad`.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tietopohja_contract::{CodeLists, Contract};

static CONTRACT: LazyLock<Contract> = LazyLock::new(|| {
    // Readers of other projects may panic on broken files, which is caught and told as an error. The
    // fuzzer's own hook would end the run there; a panic that is not caught still ends it.
    std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
    let lists = [
        ("test.kind", include_str!("../../testdata/codes/test.kind.csv")),
        ("fi.municipality", include_str!("../../testdata/codes/fi.municipality.csv")),
    ];
    let lists = lists.map(|(name, text)| (name.to_owned(), text.to_owned())).to_vec();
    let lists = CodeLists::parse(lists).expect("the code lists of testdata are right");
    Contract::parse("test_case.odcs.yaml", include_str!("../../testdata/contracts/test_case.odcs.yaml"), &lists)
        .expect("the contract of testdata is right")
});

fuzz_target!(|bytes: &[u8]| {
    tietopohja_ingest::fuzz::read_source(bytes, &CONTRACT);
});
