//! Configuration files: a reader that panics would take the daemon with it on a reload.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use tandem_config::keepalived::{Env, MapFiles, read};

fuzz_target!(|data: &[u8]| {
    let path = "/etc/keepalived/keepalived.conf";
    let files = MapFiles::new().with(path, data);
    let _ = read(Path::new(path), &files, &Env::default());
});
