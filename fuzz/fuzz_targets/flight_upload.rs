//! Any bytes as an upload of bound parameters: read and carried whole, or refused as the client's mistake.
//!
//! `cargo +nightly fuzz run flight_upload`; it finds the form of Arrow messages by itself.
#![no_main]

use std::sync::Once;

use libfuzzer_sys::fuzz_target;

static HOOK: Once = Once::new();

fuzz_target!(|bytes: &[u8]| {
    // The decoder may panic on broken messages, which is caught and told as an error. The fuzzer's own
    // hook would end the run there; a panic that is not caught still ends it.
    HOOK.call_once(|| std::panic::set_hook(Box::new(|panic| eprintln!("{panic}"))));
    let _refused = tietopohja_server::fuzz::upload(bytes);
});
