//! A connection to a sentinel's port, as far as its commands go: the bytes of a client, cut into requests and put to the
//! machine. The fuzzer `sentinel_command` and the replay of its corpus share it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tandem_core::sentinel::io::Output;
use tandem_core::sentinel::saved::{SavedGroup, SavedPeer, SavedState};
use tandem_core::sentinel::settings::{Globals, GroupSettings, Periods};
use tandem_core::sentinel::{
    ConfigEpoch, ElectionEpoch, Endpoint, GroupName, Input, Question, RequestId, Sentinel,
    SentinelId,
};
use tandem_resp::{Limits, RequestParser, Value};

/// The answers to everything that a client sent, in the order of its requests, up to the first byte that is no request.
///
/// # Panics
/// When a request gets no answer, or two: what a fuzzer looks for.
pub(crate) fn answers(bytes: &[u8]) -> Vec<Value> {
    // A time like any other: there is none to begin from but this.
    #[allow(clippy::disallowed_methods)]
    let now = Instant::now();
    let id = |digit: &str| SentinelId::parse(&digit.repeat(40)).expect("forty digits");
    let group = SavedGroup {
        settings: GroupSettings::new(GroupName("mymaster".to_owned()), 2, &Periods::default()),
        primary: Endpoint::new("10.0.0.1", 6379),
        config_epoch: ConfigEpoch(0),
        leader_epoch: ElectionEpoch(0),
        replicas: vec![Endpoint::new("10.0.0.2", 6379)],
        peers: vec![SavedPeer {
            id: id("b"),
            at: Endpoint::new("10.0.0.11", 26379),
        }],
    };
    let state = SavedState {
        id: id("a"),
        current_epoch: ElectionEpoch(0),
        globals: Globals::default(),
        groups: vec![group],
    };
    let (mut sentinel, first) = Sentinel::new(state, Periods::default(), 1, now);
    let mut answers = BTreeMap::new();
    let mut asked = 0;
    let mut take = |sentinel: &mut Sentinel, outputs: Vec<Output>, at: Instant| {
        let mut left = outputs;
        while let Some(output) = left.pop() {
            match output {
                Output::Answer { request, value } => {
                    assert!(answers.insert(request, value).is_none(), "answered twice");
                }
                Output::Save { version, .. } => {
                    let saved = Input::Saved {
                        version,
                        result: Ok(()),
                    };
                    left.extend(sentinel.handle(saved, at));
                }
                Output::Exit { code } => panic!("ended with {code}"),
                _ => {}
            }
        }
    };
    take(&mut sentinel, first, now);
    let mut parser = RequestParser::new(Limits::stranger());
    let mut rest = bytes;
    while let Ok(Some(request)) = parser.parse(rest) {
        let args: Vec<Vec<u8>> = (0..request.arg_count())
            .filter_map(|index| request.arg(index, rest).map(<[u8]>::to_vec))
            .collect();
        rest = &rest[request.len..];
        let Some(question) = question(args) else {
            continue;
        };
        // Long enough for what is gathered before it is written.
        let at = now + Duration::from_secs(asked);
        let outputs = sentinel.handle(Input::Tick, at);
        take(&mut sentinel, outputs, at);
        let asks = Input::Asked {
            request: RequestId(asked),
            question,
        };
        let outputs = sentinel.handle(asks, at);
        take(&mut sentinel, outputs, at);
        asked += 1;
    }
    let answers: Vec<Value> = answers.into_values().collect();
    assert_eq!(answers.len() as u64, asked, "a request without an answer");
    answers
}

/// What the machine is asked; the rest is the connection's own business.
fn question(mut args: Vec<Vec<u8>>) -> Option<Question> {
    let name = args.first()?.to_ascii_lowercase();
    match (name.as_slice(), args.len()) {
        (b"sentinel", 2..) => {
            args.remove(0);
            Some(Question::Sentinel(args))
        }
        (b"publish", 3) => {
            let message = args.pop()?;
            let channel = args.pop()?;
            Some(Question::Publish { channel, message })
        }
        (b"role", 1) => Some(Question::Role),
        (b"info", _) => Some(Question::InfoSection),
        _ => None,
    }
}
