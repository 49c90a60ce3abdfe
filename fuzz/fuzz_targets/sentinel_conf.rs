//! `sentinel.conf`: whatever it holds, reading ends; and what was read without an error can be written and read again.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use tandem_config::keepalived::MapFiles;
use tandem_config::sentinel::{Overrides, read};

fuzz_target!(|data: &[u8]| {
    let path = "/etc/redis/sentinel.conf";
    let files = MapFiles::new().with(path, data);
    let loaded = read(Path::new(path), &files, &Overrides::default());
    let _ = loaded.report.render(false);
    if loaded.fatal.is_some() {
        return;
    }
    let text = loaded.document.render(&loaded.conf).expect("what was read can be written");
    let again = loaded.document.with_text(text.clone()).render(&loaded.conf);
    assert_eq!(again, Ok(text), "what was written needs no change");
});
