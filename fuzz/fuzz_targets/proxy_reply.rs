//! Replies of a server behind the proxy, whole and in pieces.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/tandem-proxy/tests/replay/mod.rs"]
mod replay;

fuzz_target!(|data: &[u8]| replay::reply(data));
