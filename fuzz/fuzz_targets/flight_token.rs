//! Any bytes as a Flight SQL command, ticket or handle: what was not handed out never opens.
//!
//! Seeds are made at the start: `cargo +nightly fuzz run flight_token`.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

static TOKENS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(tietopohja_server::fuzz::tokens);

fuzz_target!(|bytes: &[u8]| {
    tietopohja_server::fuzz::token(bytes);
});

// Now and then the fuzzer starts again from what was handed out, which it could not guess.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let token = &TOKENS[seed as usize % TOKENS.len()];
    if seed % 16 == 0 && token.len() <= max_size {
        data[..token.len()].copy_from_slice(token);
        return fuzzer_mutate(data, token.len(), max_size);
    }
    fuzzer_mutate(data, size, max_size)
});
