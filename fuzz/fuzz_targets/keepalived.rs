//! Configuration files: a reader that panics would take the daemon with it on a reload.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use tandem_config::keepalived::{Env, MapFiles, read};

fuzz_target!(|data: &[u8]| {
    let mut files = MapFiles::default();
    files.insert("/etc/keepalived/keepalived.conf", data.to_vec());
    let _ = read(Path::new("/etc/keepalived/keepalived.conf"), &files, &Env::default());
});
