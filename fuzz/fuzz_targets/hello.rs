//! What arrives on `__sentinel__:hello`: a message that is read is written as one that says the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tandem_core::sentinel::hello::Hello;

fuzz_target!(|data: &[u8]| {
    if let Ok(hello) = Hello::parse(data) {
        assert_eq!(Hello::parse(hello.format().as_bytes()), Ok(hello));
    }
});
