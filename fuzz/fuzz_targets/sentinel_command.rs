//! What a client may send to a sentinel's port: every request gets one answer, and the answer is one frame.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tandem_resp::{Limits, Protocol, ReplyDecoder};

#[path = "../../crates/tandem-core/tests/session/mod.rs"]
mod session;

fuzz_target!(|data: &[u8]| {
    for answer in session::answers(data) {
        for protocol in [Protocol::Resp2, Protocol::Resp3] {
            let mut wire = Vec::new();
            answer.encode(protocol, &mut wire);
            let mut decoder = ReplyDecoder::new(Limits::control());
            decoder.feed(&wire);
            assert!(matches!(decoder.next_value(), Ok(Some(_))), "{}", wire.escape_ascii());
            assert!(matches!(decoder.next_value(), Ok(None)), "{}", wire.escape_ascii());
        }
    }
});
