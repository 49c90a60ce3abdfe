//! RESP from strangers: requests, replies and the replication stream.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tandem_resp::stream::StreamParser;
use tandem_resp::{Limits, ReplyDecoder, RequestParser};

fuzz_target!(|data: &[u8]| {
    let _ = RequestParser::new(Limits::stranger()).parse(data);
    let mut replies = ReplyDecoder::new(Limits::control());
    replies.feed(data);
    while let Ok(Some(_)) = replies.next_value() {}
    let mut stream = StreamParser::new(0, Limits::default());
    let mut at = 0;
    while let Ok(Some(entry)) = stream.next_entry(&data[at..]) {
        at += entry.len;
    }
});
