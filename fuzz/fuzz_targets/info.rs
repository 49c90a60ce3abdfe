//! INFO of any server or of something that is none: reading never fails, and nothing is made up.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tandem_core::info::ServerInfo;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let info = ServerInfo::parse(&text);
    assert!(info.replicas.len() <= text.lines().count());
    assert!(info.role.is_none() || text.contains("role:"));
});
