//! Whatever a client says to the proxy, as far as its core is concerned.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/tandem-proxy/tests/replay/mod.rs"]
mod replay;

fuzz_target!(|data: &[u8]| replay::client(data));
