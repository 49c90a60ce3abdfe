//! Requests of a client of the proxy, whole and in pieces.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/tandem-proxy/tests/replay/mod.rs"]
mod replay;

fuzz_target!(|data: &[u8]| replay::request(data));
