//! Writes that were sent and not answered: what is repeated, on which proof, and what is not.

use proptest::prelude::*;

use super::*;
use crate::core::follow::HOLD;
use crate::core::witness::EVERY_MS;
use crate::tail::{Reader, Tail};
use crate::topology::{Fork, Forks, Group, Lease, Phase, Topology};

const L: &str = "1111111111111111111111111111111111111111";
const M: &str = "2222222222222222222222222222222222222222";
const QUESTION: &str = "*2\r\n$4\r\nINFO\r\n$11\r\nreplication\r\n";
const UNKNOWN: &str = "-TANDEM-UNKNOWN ";

fn word(epoch: u64, phase: Phase, forks: Forks) -> Topology {
    Topology {
        groups: vec![Group {
            replicas: Vec::new(),
            rank: Rank::of(epoch),
            lease: Lease::Open,
            alone: None,
            phase,
            forks,
        }],
    }
}

fn at(place: u16) -> Phase {
    let primary = Address::Tcp {
        host: "127.0.0.1".to_owned(),
        port: 1000 + place,
    };
    Phase::Serving { primary }
}

fn fork(parent: &str, offset: u64) -> Forks {
    Forks::At(Fork {
        parent: parent.to_owned(),
        offset,
        whole: false,
    })
}

/// What a server says when it is asked where it is.
fn says_where(role: &str, lineage: &str, offset: u64) -> Vec<u8> {
    let text = format!(
        "# Replication\r\nrole:{role}\r\nmaster_replid:{lineage}\r\nmaster_repl_offset:{offset}\r\n"
    );
    format!("${}\r\n{text}\r\n", text.len()).into_bytes()
}

fn stream(commands: &[&str]) -> Vec<u8> {
    let mut bytes = request("SELECT 0");
    for command in commands {
        bytes.extend_from_slice(&request(command));
    }
    bytes
}

impl World {
    fn told(&mut self, topology: &Topology) {
        self.core.snapshot(0, topology, self.now);
        self.turn();
    }

    fn dies(&mut self, place: usize) {
        let lane = self.up[&place];
        self.refusing.push(place);
        self.core.closed(lane, How::Eof, self.now);
        self.turn();
    }

    /// The shell has read the history that was asked for last.
    fn reads(&mut self, tail: Option<&Tail>) {
        let history = self.histories.pop().expect("nothing was asked for");
        self.core.history_read(history, tail, self.now);
        self.turn();
    }

    /// As the shell does it: these commands are what the next primary has after the offset asked for.
    fn reads_stream(&mut self, bytes: &[u8]) {
        let history = *self.histories.last().expect("nothing was asked for");
        let question = self.core.history_question(history).unwrap().clone();
        assert_eq!(question.to - question.from, bytes.len() as u64);
        let mut reader = Reader::new(&question);
        assert_eq!(reader.take(bytes), Ok(bytes.len()));
        let tail = reader.finish();
        self.reads(Some(&tail));
    }
}

/// A primary at 0, known to be at `offset` of L when nothing was handed over yet that is not answered.
fn witnessed(offset: u64) -> World {
    let mut world = World::new(pool(1));
    world.told(&word(1, at(0), Forks::None));
    let client = world.client();
    world.give(client, &request("GET x"));
    let asked = world.at_server(0);
    assert!(asked.ends_with(QUESTION), "it is asked where it is");
    let answers = [b"+x\r\n".to_vec(), says_where("master", L, offset)].concat();
    world.server_says(0, &answers);
    assert_eq!(world.take(client), "+x\r\n");
    world
}

/// Kills the primary; the next one left L at `offset`.
fn fails_over(world: &mut World, offset: u64) {
    world.told(&word(2, Phase::None, Forks::None));
    world.dies(0);
    world.told(&word(3, at(7), fork(L, offset)));
}

#[test]
fn a_write_whose_key_the_history_does_not_have_is_sent_again_in_its_place() {
    let mut world = witnessed(100);
    let (one, two) = (world.client(), world.client());
    world.give(one, &request("INCR n"));
    world.give(one, &request("GET n"));
    world.give(two, &request("SET a 1"));
    world.told(&word(2, Phase::None, Forks::None));
    world.dies(0);
    assert_eq!((world.take(one), world.take(two)), ("".into(), "".into()));
    let tail = stream(&["SET a 1"]);
    world.told(&word(3, at(7), fork(L, 100 + tail.len() as u64)));
    assert!(world.up.is_empty(), "nobody is asked before it is decided");
    world.reads_stream(&tail);
    assert!(world.take(two).starts_with(UNKNOWN));
    let again = [request("INCR n"), request("GET n")].concat();
    let got = world.at_server(7);
    assert_eq!(
        got.strip_suffix(QUESTION),
        Some(&*String::from_utf8_lossy(&again))
    );
    let answers = [b":1\r\n$1\r\n1\r\n".to_vec(), says_where("master", M, 200)].concat();
    world.server_says(7, &answers);
    assert_eq!(world.take(one), ":1\r\n$1\r\n1\r\n");
    world.assert_nothing_is_left();
}

#[test]
fn without_anything_behind_the_sample_nothing_is_read() {
    let mut world = witnessed(100);
    let client = world.client();
    for words in ["INCR n", "EVAL x 0", "PUBLISH c m", "FLUSHALL"] {
        world.give(client, &request(words));
    }
    fails_over(&mut world, 100);
    assert!(world.histories.is_empty());
    let got = world.at_server(7);
    let again = ["INCR n", "EVAL x 0", "PUBLISH c m", "FLUSHALL"]
        .map(request)
        .concat();
    assert!(got.as_bytes().starts_with(&again));
}

#[test]
fn what_was_handed_over_before_the_answer_was_read_is_not_proven() {
    let mut world = World::new(pool(1));
    world.told(&word(1, at(0), Forks::None));
    let client = world.client();
    world.give(client, &request("INCR n"));
    world.give(client, &request("INCR m"));
    world.server_says(
        0,
        &[b":1\r\n".to_vec(), says_where("master", L, 100)].concat(),
    );
    world.take(client);
    world.give(client, &request("INCR o"));
    world.told(&word(2, Phase::None, Forks::None));
    world.dies(0);
    assert!(
        world.take(client).starts_with(UNKNOWN),
        "INCR m may be in the 100 bytes"
    );
    world.told(&word(3, at(7), fork(L, 90)));
    assert!(
        world
            .at_server(7)
            .as_bytes()
            .starts_with(&request("INCR o"))
    );
}

#[test]
fn it_is_asked_again_after_a_while_and_a_request_goes_by_the_newest_answer_before_it() {
    let mut world = witnessed(100);
    let client = world.client();
    world.give(client, &request("INCR n"));
    assert_eq!(
        world.at_server(0).into_bytes(),
        request("INCR n"),
        "not so soon"
    );
    world.later(Duration::from_millis(EVERY_MS));
    world.give(client, &request("INCR m"));
    assert!(world.at_server(0).ends_with(QUESTION));
    world.server_says(
        0,
        &[b":1\r\n:1\r\n".to_vec(), says_where("master", L, 200)].concat(),
    );
    world.give(client, &request("INCR o"));
    fails_over(&mut world, 250);
    let history = world.histories[0];
    assert_eq!(world.core.history_question(history).unwrap().from, 200);
}

#[test]
fn what_blocks_at_a_kill_begins_again_if_the_history_took_nothing_from_its_key() {
    for (written, again) in [("SET a 1", true), ("LPOP q", false)] {
        let mut world = witnessed(100);
        let lane = world.up[&0];
        let (blocked, busy) = (world.client(), world.client());
        world.give(blocked, &request("BLPOP q 0"));
        let pinned = world.up.insert(0, lane).unwrap();
        assert_ne!(pinned, lane, "it has a connection of its own");
        assert_eq!(world.take(pinned).into_bytes(), request("BLPOP q 0"));
        // For longer than any sample is remembered.
        for offset in 101..=112 {
            world.later(Duration::from_millis(EVERY_MS));
            world.give(busy, &request("GET x"));
            let answers = [b"+x\r\n".to_vec(), says_where("master", L, offset)].concat();
            world.server_says(0, &answers);
        }
        world.take(busy);
        world.told(&word(2, Phase::None, Forks::None));
        world.core.closed(pinned, How::Eof, world.now);
        world.dies(0);
        let tail = stream(&[written]);
        world.told(&word(3, at(7), fork(L, 111 + tail.len() as u64)));
        world.reads_stream(&tail);
        if again {
            assert_eq!(world.at_server(7).into_bytes(), request("BLPOP q 0"));
        } else {
            assert!(world.take(blocked).starts_with(UNKNOWN), "{written}");
        }
    }
}

#[test]
fn another_history_a_lack_of_one_or_of_a_fork_prove_nothing() {
    let cases: [(Forks, Option<Option<&Tail>>); 4] = [
        (fork(M, 100), None),
        (Forks::None, None),
        (Forks::Untold, None),
        (fork(L, 150), Some(None)),
    ];
    for (forks, read) in cases {
        let mut world = witnessed(100);
        let client = world.client();
        world.give(client, &request("INCR n"));
        world.told(&word(2, Phase::None, Forks::None));
        world.dies(0);
        world.told(&word(3, at(7), forks.clone()));
        if let Some(tail) = read {
            world.reads(tail);
        }
        assert!(world.take(client).starts_with(UNKNOWN), "{forks:?}");
        assert_eq!(world.at_server(7), "", "{forks:?}");
        world.assert_nothing_is_left();
    }
}

#[test]
fn a_history_that_is_not_read_in_time_proves_nothing_and_comes_too_late() {
    let mut world = witnessed(100);
    let client = world.client();
    world.give(client, &request("INCR n"));
    fails_over(&mut world, 150);
    world.later(READ_WITHIN + Duration::from_millis(1));
    assert!(world.take(client).starts_with(UNKNOWN));
    world.reads(None);
    assert_eq!(world.take(client), "");
    world.assert_nothing_is_left();
}

#[test]
fn a_second_promotion_while_the_history_is_read_proves_nothing() {
    let mut world = witnessed(100);
    let client = world.client();
    world.give(client, &request("INCR n"));
    fails_over(&mut world, 150);
    let late = world.histories[0];
    world.told(&word(5, at(0), fork(M, 400)));
    assert!(world.take(client).starts_with(UNKNOWN));
    assert_eq!(world.core.history_question(late), None);
    world.assert_nothing_is_left();
}

#[test]
fn scripts_and_messages_need_more_than_absent_keys_and_what_has_no_keys_an_empty_history() {
    for (words, tail, again) in [
        ("SET a 1", vec!["SET b 1"], true),
        ("EVAL x 1 a", vec!["SET b 1"], false),
        ("FCALL f 1 a", vec![], false),
        ("PUBLISH a m", vec!["SET b 1"], false),
        ("FLUSHALL", vec!["SET b 1"], false),
        ("FLUSHALL", vec!["PING"], true),
        ("SET a 1", vec!["FLUSHALL"], false),
        ("RENAME a b", vec!["SET b 1"], false),
        ("SET a 1", vec!["SELECT 1", "SET a 1"], true),
    ] {
        let mut world = witnessed(100);
        let client = world.client();
        world.give(client, &request(words));
        let bytes = stream(&tail);
        fails_over(&mut world, 100 + bytes.len() as u64);
        world.reads_stream(&bytes);
        let got = world.at_server(7);
        assert_eq!(
            got.as_bytes().starts_with(&request(words)),
            again,
            "{words} {tail:?}"
        );
        assert_eq!(
            world.take(client).starts_with(UNKNOWN),
            !again,
            "{words} {tail:?}"
        );
    }
}

#[test]
fn a_transaction_is_one_write_with_the_keys_of_all_its_parts() {
    for (tail, again) in [(vec!["SET c 1"], true), (vec!["SET b 1"], false)] {
        let mut world = witnessed(100);
        let client = world.client();
        let block = ["MULTI", "INCR a", "GET d", "INCR b", "EXEC"]
            .map(request)
            .concat();
        world.give(client, &block);
        world.take(client);
        let bytes = stream(&tail);
        fails_over(&mut world, 100 + bytes.len() as u64);
        world.reads_stream(&bytes);
        let got = world.at_server(7);
        assert_eq!(got.as_bytes().starts_with(&block), again);
        assert_eq!(world.take(client).starts_with(UNKNOWN), !again);
        if !again {
            world.assert_nothing_is_left();
        }
    }
}

#[test]
fn the_same_primary_that_answers_again_ends_the_doubt_and_a_port_that_only_opens_does_not() {
    let mut world = witnessed(100);
    let client = world.client();
    world.give(client, &request("INCR n"));
    let lane = world.up[&0];
    world.core.closed(lane, How::Eof, world.now);
    world.turn();
    // The dying process' port still takes connections.
    world.later(Duration::from_millis(25));
    assert_eq!(world.at_server(0), QUESTION);
    let lane = world.up[&0];
    world.core.closed(lane, How::Reset, world.now);
    world.turn();
    assert_eq!(world.take(client), "");
    // One that was demoted is not the one to ask.
    world.later(Duration::from_millis(25));
    world.server_says(0, &says_where("slave", L, 100));
    assert_eq!(world.take(client), "");
    world.later(Duration::from_millis(25));
    world.server_says(0, &says_where("master", L, 100));
    assert!(world.take(client).starts_with(UNKNOWN));
    world.give(client, &request("GET n"));
    let get = String::from_utf8(request("GET n")).unwrap();
    assert!(world.at_server(0).contains(&get));
}

#[test]
fn behind_a_vip_the_next_primary_is_known_by_its_fork_and_not_taken_for_the_one_before() {
    let mut world = witnessed(100);
    let client = world.client();
    world.give(client, &request("INCR n"));
    let lane = world.up[&0];
    world.core.closed(lane, How::Eof, world.now);
    world.turn();
    // The address leads to the next one before anybody has said so.
    world.later(Duration::from_millis(25));
    let said = String::from_utf8(says_where("master", M, 150)).unwrap();
    let said = said.replace("\r\n\r\n", &format!("\r\nmaster_replid2:{L}\r\n\r\n"));
    let (_, text) = said.split_once("\r\n").unwrap();
    let said = format!("${}\r\n{text}", text.len() - 2);
    world.server_says(0, said.as_bytes());
    assert_eq!(world.take(client), "");
    world.told(&word(2, at(0), fork(L, 100)));
    assert!(
        world
            .at_server(0)
            .as_bytes()
            .starts_with(&request("INCR n"))
    );
}

#[test]
fn what_is_in_doubt_for_too_long_is_unknown_and_never_said_not_to_be_executed() {
    let mut world = witnessed(100);
    let client = world.client();
    world.give(client, &request("INCR n"));
    world.told(&word(2, Phase::None, Forks::None));
    world.dies(0);
    world.later(HOLD + Duration::from_millis(1));
    assert!(world.take(client).starts_with(UNKNOWN));
    world.assert_nothing_is_left();
}

#[test]
fn who_leaves_while_its_write_is_in_doubt_is_forgotten_and_the_others_are_not() {
    let mut world = witnessed(100);
    let (gone, here) = (world.client(), world.client());
    world.give(gone, &request("INCR g"));
    world.give(here, &request("INCR h"));
    world.told(&word(2, Phase::None, Forks::None));
    world.dies(0);
    world.core.closed(gone, How::Reset, world.now);
    world.told(&word(3, at(7), fork(L, 100)));
    assert!(
        world
            .at_server(7)
            .as_bytes()
            .starts_with(&request("INCR h"))
    );
}

#[test]
fn what_a_client_asked_before_something_that_may_be_done_is_not_done_after_it() {
    let mut world = witnessed(100);
    let (one, two) = (world.client(), world.client());
    for (client, words) in [
        (one, "DEL a"),
        (one, "SET b 1"),
        (one, "SET c 1"),
        (two, "SET d 1"),
    ] {
        world.give(client, &request(words));
    }
    // The first one had nothing to delete: it may have been done and left no trace.
    let tail = stream(&["SET b 1"]);
    fails_over(&mut world, 100 + tail.len() as u64);
    world.reads_stream(&tail);
    let got = world.at_server(7).into_bytes();
    assert!(got.starts_with(&[request("SET c 1"), request("SET d 1")].concat()));
    assert_eq!(world.take(one).matches(UNKNOWN).count(), 2);
}

/// One step of the story of a primary that will die.
#[derive(Debug, Clone)]
enum Step {
    /// A client pushes a value of its own on one of three lists.
    Push(usize, usize),
    /// The server executes so many requests.
    Execute(usize),
    /// So many of its answers arrive.
    Deliver(usize),
    /// Somebody else, through nobody we know, does too.
    Foreign(usize),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0usize..3, 0usize..3).prop_map(|(client, list)| Step::Push(client, list)),
        3 => (1usize..4).prop_map(Step::Execute),
        3 => (1usize..4).prop_map(Step::Deliver),
        1 => (0usize..3).prop_map(Step::Foreign),
        2 => (1u64..30).prop_map(Step::Wait),
    ]
}

/// A server that executes what came on a wire.
#[derive(Default)]
struct Model {
    wire: Vec<u8>,
    /// Its history, and where each command of it ends.
    history: Vec<u8>,
    ends: Vec<usize>,
    answers: Vec<Vec<u8>>,
}

impl Model {
    fn execute(&mut self, lineage: &str) -> bool {
        let mut scan = crate::frame::Scan::default();
        let Ok(Some(len)) = scan.advance(&self.wire, &crate::frame::Limits::CLIENT) else {
            return false;
        };
        let bytes: Vec<u8> = self.wire.drain(..len).collect();
        if bytes == QUESTION.as_bytes() {
            self.answers
                .push(says_where("master", lineage, self.history.len() as u64));
        } else {
            self.write(&bytes);
            self.answers.push(b":1\r\n".to_vec());
        }
        true
    }

    fn write(&mut self, bytes: &[u8]) {
        self.history.extend_from_slice(bytes);
        self.ends.push(self.history.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever was executed, answered and replicated when the primary died: no value is there twice afterwards, and each
    /// client has one answer for each of its requests.
    #[test]
    fn nothing_is_applied_twice(
        steps in prop::collection::vec(step(), 1..60),
        cut in any::<prop::sample::Index>(),
        readable in prop::bool::weighted(0.9),
    ) {
        let mut world = World::new(pool(1));
        world.told(&word(1, at(0), Forks::None));
        let clients: Vec<Peer> = (0..3).map(|_| world.client()).collect();
        let mut asked = [0usize; 3];
        let mut values = 0;
        let mut model = Model::default();
        model.write(&request("SELECT 0"));
        let push = |list: usize, value: usize| request(&format!("RPUSH list{list} v{value}v"));
        for step in steps {
            match step {
                Step::Push(client, list) => {
                    values += 1;
                    asked[client] += 1;
                    world.give(clients[client], &push(list, values));
                    model.wire.extend_from_slice(world.at_server(0).as_bytes());
                }
                Step::Execute(count) => {
                    for _ in 0..count {
                        model.execute(L);
                    }
                }
                Step::Deliver(count) => {
                    for _ in 0..count.min(model.answers.len()) {
                        let answer = model.answers.remove(0);
                        world.server_says(0, &answer);
                    }
                }
                Step::Foreign(list) => {
                    values += 1;
                    model.write(&push(list, values));
                }
                Step::Wait(ms) => world.later(Duration::from_millis(ms)),
            }
        }
        // What is not executed by now never is; the replica has it up to some command.
        let shared = model.ends[cut.index(model.ends.len())];
        world.told(&word(2, Phase::None, Forks::None));
        if world.up.contains_key(&0) {
            world.dies(0);
        }
        let mut next = Model {
            history: model.history[..shared].to_vec(),
            ..Model::default()
        };
        world.told(&word(3, at(7), fork(L, shared as u64)));
        if let Some(&history) = world.histories.last() {
            let question = world.core.history_question(history).unwrap().clone();
            let bytes = &model.history[question.from as usize..shared];
            let mut reader = Reader::new(&question);
            prop_assert_eq!(reader.take(bytes), Ok(bytes.len()));
            let tail = reader.finish();
            world.reads(readable.then_some(&tail));
        }
        next.wire.extend_from_slice(world.at_server(7).as_bytes());
        while next.execute(M) {}
        for answer in next.answers {
            world.server_says(7, &answer);
        }
        let text = String::from_utf8(next.history).unwrap();
        for value in 1..=values {
            let count = text.matches(&format!("v{value}v")).count();
            prop_assert!(count <= 1, "value {} is there {} times", value, count);
        }
        for (client, asked) in clients.into_iter().zip(asked) {
            let got = world.take(client);
            prop_assert_eq!(got.matches("\r\n").count(), asked, "{}", got);
        }
    }
}
