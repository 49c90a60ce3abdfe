//! Journals from a damaged disk: refused by name, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tandem_core::ids::HostId;
use tandem_core::journal::Journal;

fuzz_target!(|data: &[u8]| {
    let _ = Journal::decode(data, &HostId::new("a"), "orders");
});
