//! Acknowledgements by replicas: what is passed on when, what is refused, and what nobody can know.

use super::*;
use crate::core::follow::HOLD;
use crate::settings::Ack;
use crate::topology::{Group, Lease, Phase, Replica, Topology};

const UNKNOWN: &str = "-TANDEM-UNKNOWN ";
const NOREPLICAS: &str = "-NOREPLICAS ";
const INFO: &str = "*2\r\n$4\r\nINFO\r\n$11\r\nreplication\r\n";
pub(super) const NO_HISTORY: char = '0';

fn at(place: u16) -> Address {
    Address::Tcp {
        host: "127.0.0.1".to_owned(),
        port: 1000 + place,
    }
}

/// The primary at one place, a replica at another.
pub(super) fn pair(epoch: u64, primary: u16, replica: u16, promotable: bool) -> Topology {
    Topology {
        groups: vec![Group {
            forks: crate::topology::Forks::Untold,
            rank: Rank::of(epoch),
            lease: Lease::Open,
            alone: None,
            phase: Phase::Serving {
                primary: at(primary),
            },
            replicas: vec![Replica {
                address: at(replica),
                promotable,
                link_up: true,
            }],
        }],
    }
}

/// INFO replication of a primary: its history by a letter, how much of it, and the history before.
pub(super) fn standing(history: char, offset: u64, before: char, begins: i64) -> String {
    let id = |letter: char| letter.to_string().repeat(40);
    let text = format!(
        "role:master\r\nmaster_replid:{}\r\nmaster_replid2:{}\r\nmaster_repl_offset:{offset}\r\nsecond_repl_offset:{begins}\r\n",
        id(history),
        id(before)
    );
    format!("${}\r\n{text}\r\n", text.len())
}

/// ROLE of a primary whose replica at a place has so much.
pub(super) fn role(place: u16, offset: u64) -> String {
    let offset = offset.to_string();
    let port = (1000 + place).to_string();
    format!(
        "*3\r\n$6\r\nmaster\r\n:99\r\n*1\r\n*3\r\n$9\r\n127.0.0.1\r\n$4\r\n{port}\r\n${}\r\n{offset}\r\n",
        offset.len()
    )
}

pub(super) struct Acked {
    pub(super) world: World,
    /// The connection for requests, and the one for batches.
    data: Peer,
    batches: Peer,
}

impl Acked {
    /// A primary at place 0 of history `a`, one write of a client answered, and the batch about it on its way.
    pub(super) fn with_a_write(ack: Ack) -> (Self, Peer) {
        let mut settings = pool(1);
        settings.replicas.ack = Some(ack);
        let mut world = World::new(settings);
        world.core.snapshot(0, &pair(1, 0, 7, true), world.now);
        let client = world.client();
        world.give(client, &request("SET a 1"));
        let data = world.connections[0].1;
        assert_eq!(world.take(data), INFO, "the history first");
        world.give(data, standing('a', 10, NO_HISTORY, -1).as_bytes());
        assert_eq!(world.take(data).into_bytes(), request("SET a 1"));
        world.give(data, b"+OK\r\n");
        assert_eq!(world.take(client), "", "no replica has it");
        let batches = world.connections[1].1;
        let mut acked = Self {
            world,
            data,
            batches,
        };
        assert!(acked.batch_is_sent());
        (acked, client)
    }

    fn batch_is_sent(&mut self) -> bool {
        self.batch_is_sent_for(1000)
    }

    /// A batch whose server waits for so many milliseconds.
    fn batch_is_sent_for(&mut self, patience: u32) -> bool {
        let sent = self.world.take(self.batches);
        if sent.is_empty() {
            return false;
        }
        let publish = "*3\r\n$7\r\nPUBLISH\r\n$10\r\ntandem:ack\r\n";
        assert!(sent.starts_with(publish), "{sent:?}");
        let wait = request(&format!("WAIT 1 {patience}"));
        let rest = [INFO.as_bytes(), &wait, &request("ROLE")].concat();
        assert!(sent.into_bytes().ends_with(&rest));
        true
    }

    pub(super) fn batch_says(&mut self, standing: &str, waited: u32, role: &str) {
        let all = format!(":0\r\n{standing}:{waited}\r\n{role}");
        self.world.give(self.batches, all.as_bytes());
    }

    /// The batch under way hears of no replica, nor does the one that asks once more.
    fn replicas_say_nothing(&mut self, role: &str) {
        self.batch_says(&standing('a', 20, NO_HISTORY, -1), 0, role);
        assert!(self.batch_is_sent_for(200), "once more");
        self.batch_says(&standing('a', 21, NO_HISTORY, -1), 0, role);
    }
}

pub(super) const ONE: Ack = Ack {
    replicas: 1,
    reads: false,
    alone: false,
};

#[test]
fn a_write_is_answered_when_a_replica_has_it_and_what_the_same_client_asked_behind_it_then_too() {
    let (mut it, writer) = Acked::with_a_write(ONE);
    let reader = it.world.client();
    it.world.give(writer, &request("GET a"));
    it.world.give(reader, &request("GET a"));
    it.world.give(it.data, b"$1\r\n1\r\n$1\r\n1\r\n");
    assert_eq!(it.world.take(reader), "$1\r\n1\r\n", "reads do not wait");
    assert_eq!(it.world.take(writer), "");
    it.batch_says(&standing('a', 20, NO_HISTORY, -1), 1, &role(7, 20));
    assert_eq!(it.world.take(writer), "+OK\r\n$1\r\n1\r\n");
    assert!(!it.batch_is_sent(), "nobody waits");
    it.world.assert_nothing_is_left();
}

#[test]
fn a_batch_is_about_what_was_read_before_it_left() {
    let (mut it, first) = Acked::with_a_write(ONE);
    let second = it.world.client();
    it.world.give(second, &request("SET b 1"));
    it.world.give(it.data, b"+OK\r\n");
    assert!(!it.batch_is_sent(), "one at a time");
    it.batch_says(&standing('a', 20, NO_HISTORY, -1), 1, &role(7, 20));
    assert_eq!(it.world.take(first), "+OK\r\n");
    assert_eq!(it.world.take(second), "", "it came after the batch");
    assert!(it.batch_is_sent());
    it.batch_says(&standing('a', 30, NO_HISTORY, -1), 1, &role(7, 30));
    assert_eq!(it.world.take(second), "+OK\r\n");
    it.world.assert_nothing_is_left();
}

#[test]
fn without_an_acknowledgement_nobody_knows_and_writes_are_refused_until_one_comes() {
    let (mut it, client) = Acked::with_a_write(ONE);
    it.replicas_say_nothing(&role(7, 10));
    assert!(it.world.take(client).starts_with(UNKNOWN));
    for write in ["SET a 2", "EVAL x 1 a", "BLPOP a 0", "PUBLISH c m"] {
        it.world.give(client, &request(write));
        let said = it.world.take(client);
        assert!(said.starts_with(NOREPLICAS), "{write}: {said}");
    }
    assert_eq!(it.world.take(it.data), "", "nothing of it was sent");
    it.world.give(client, &request("GET a"));
    it.world.give(it.data, b"$1\r\n1\r\n");
    assert_eq!(it.world.take(client), "$1\r\n1\r\n", "reads go on");
    assert!(!it.batch_is_sent(), "at a pace");
    it.world.later(Duration::from_millis(101));
    assert!(it.batch_is_sent());
    it.batch_says(&standing('a', 40, NO_HISTORY, -1), 1, &role(7, 40));
    it.world.take(it.data);
    it.world.give(client, &request("SET a 3"));
    assert_eq!(it.world.take(it.data).into_bytes(), request("SET a 3"));
}

#[test]
fn a_replica_that_answers_when_asked_once_more_was_never_gone() {
    let (mut it, client) = Acked::with_a_write(ONE);
    // A second went by in which nobody was able to answer.
    it.batch_says(&standing('a', 20, NO_HISTORY, -1), 0, &role(7, 10));
    assert_eq!(it.world.take(client), "", "nothing is lost yet");
    assert!(it.batch_is_sent_for(200));
    let other = it.world.client();
    it.world.give(other, &request("SET b 1"));
    assert_eq!(it.world.take(it.data).into_bytes(), request("SET b 1"));
    it.batch_says(&standing('a', 30, NO_HISTORY, -1), 1, &role(7, 30));
    assert_eq!(it.world.take(client), "+OK\r\n");
    it.world.give(it.data, b"+OK\r\n");
    assert!(it.batch_is_sent(), "with all its patience");
    it.batch_says(&standing('a', 40, NO_HISTORY, -1), 1, &role(7, 40));
    assert_eq!(it.world.take(other), "+OK\r\n");
    it.world.assert_nothing_is_left();
}

#[test]
fn while_none_is_there_the_server_waits_for_one_all_the_time() {
    let (mut it, client) = Acked::with_a_write(ONE);
    it.replicas_say_nothing(&role(7, 10));
    it.world.take(client);
    assert!(!it.batch_is_sent(), "it took no time");
    it.world.later(Duration::from_millis(101));
    for _ in 0..3 {
        assert!(it.batch_is_sent());
        it.world.later(Duration::from_millis(1000));
        it.batch_says(&standing('a', 30, NO_HISTORY, -1), 0, &role(7, 10));
    }
    assert!(
        it.batch_is_sent(),
        "without a pause in which one could be back unnoticed"
    );
    it.batch_says(&standing('a', 40, NO_HISTORY, -1), 1, &role(7, 40));
    it.world.give(client, &request("SET a 2"));
    assert_eq!(it.world.take(it.data).into_bytes(), request("SET a 2"));
}

#[test]
fn inside_a_transaction_the_refusal_ends_it() {
    let (mut it, client) = Acked::with_a_write(ONE);
    let early = it.world.client();
    it.world
        .give(early, &[request("MULTI"), request("SET b 1")].concat());
    it.replicas_say_nothing(&role(7, 10));
    it.world.take(client);
    it.world.give(
        client,
        &[request("MULTI"), request("SET a 2"), request("EXEC")].concat(),
    );
    let said = it.world.take(client);
    assert!(said.starts_with("+OK\r\n-NOREPLICAS "), "{said}");
    assert!(said.contains("\r\n-EXECABORT "), "{said}");
    it.world.take(early);
    it.world.give(early, &request("EXEC"));
    assert!(it.world.take(early).starts_with(NOREPLICAS));
    it.world.give(early, &request("EXEC"));
    assert!(it.world.take(early).starts_with("-ERR EXEC without"));
    assert_eq!(it.world.take(it.data), "");
}

#[test]
fn transactions_and_what_blocks_wait_as_well() {
    let (mut it, client) = Acked::with_a_write(ONE);
    it.batch_says(&standing('a', 20, NO_HISTORY, -1), 1, &role(7, 20));
    it.world.take(client);
    let block = [request("MULTI"), request("INCR n"), request("EXEC")].concat();
    it.world.give(client, &block);
    it.world.take(client);
    it.world.give(it.data, b"+OK\r\n+QUEUED\r\n*1\r\n:1\r\n");
    assert_eq!(it.world.take(client), "");
    assert!(it.batch_is_sent());
    it.batch_says(&standing('a', 30, NO_HISTORY, -1), 1, &role(7, 30));
    assert_eq!(it.world.take(client), "*1\r\n:1\r\n");
    it.world.give(client, &request("BLPOP l 0"));
    let own = it.world.connections[2].1;
    it.world
        .give(own, standing('a', 30, NO_HISTORY, -1).as_bytes());
    it.world.later(Duration::from_secs(20));
    it.world.give(own, b"*2\r\n$1\r\nl\r\n$1\r\nx\r\n");
    assert_eq!(it.world.take(client), "");
    assert!(it.batch_is_sent());
    it.batch_says(&standing('a', 40, NO_HISTORY, -1), 1, &role(7, 40));
    assert_eq!(it.world.take(client), "*2\r\n$1\r\nl\r\n$1\r\nx\r\n");
    it.world.assert_nothing_is_left();
}

#[test]
fn only_replicas_that_could_be_promoted_count() {
    let (mut it, client) = Acked::with_a_write(ONE);
    let never = pair(1, 0, 7, false);
    it.world.core.snapshot(0, &never, it.world.now);
    it.batch_says(&standing('a', 20, NO_HISTORY, -1), 1, &role(7, 20));
    assert_eq!(it.world.take(client), "", "asked again within its time");
    it.world.later(Duration::from_millis(1001));
    assert!(it.batch_is_sent());
    it.batch_says(&standing('a', 30, NO_HISTORY, -1), 1, &role(7, 30));
    assert!(it.world.take(client).starts_with(UNKNOWN));
    // Someone else's replica is nobody's.
    let (mut it, client) = Acked::with_a_write(ONE);
    it.replicas_say_nothing(&role(3, 20));
    assert!(it.world.take(client).starts_with(UNKNOWN));
}

/// What waits at a failover, by what the new primary says of its history.
fn after_failover(before: char, begins: i64) -> String {
    let (mut it, client) = Acked::with_a_write(ONE);
    // The batch is half answered: the write is at 20 or before.
    let half = format!(":0\r\n{}", standing('a', 20, NO_HISTORY, -1));
    it.world.give(it.batches, half.as_bytes());
    it.world.core.closed(it.batches, How::Reset, it.world.now);
    it.world.core.closed(it.data, How::Reset, it.world.now);
    it.world.turn();
    assert_eq!(it.world.take(client), "", "the new primary will tell");
    let next = pair(2, 7, 0, true);
    it.world.core.snapshot(0, &next, it.world.now);
    it.world.later(Duration::from_millis(30));
    let (place, batches) = *it.world.connections.last().unwrap();
    assert_eq!(place, 7);
    it.batches = batches;
    assert!(it.batch_is_sent());
    let half = format!(":0\r\n{}", standing('b', 25, before, begins));
    it.world.give(it.batches, half.as_bytes());
    it.world.take(client)
}

#[test]
fn a_new_primary_that_has_it_releases_it() {
    assert_eq!(after_failover('a', 21), "+OK\r\n");
    assert!(
        after_failover('a', 20).starts_with(UNKNOWN),
        "one byte short"
    );
    assert!(after_failover('c', 99).starts_with(UNKNOWN), "of others");
}

#[test]
fn a_server_that_was_restarted_vouches_for_nothing() {
    let (mut it, client) = Acked::with_a_write(ONE);
    // Same address, another history, and a replica that has all of that.
    it.batch_says(&standing('b', 20, NO_HISTORY, -1), 1, &role(7, 20));
    assert!(it.world.take(client).starts_with(UNKNOWN));
    assert!(
        it.world.closed.contains(&it.data),
        "set up in the other one"
    );
    // What comes next is set up anew and goes on.
    it.world.give(client, &request("SET a 2"));
    it.world.later(Duration::from_millis(30));
    let (_, data) = *it.world.connections.last().unwrap();
    it.world
        .give(data, standing('b', 30, NO_HISTORY, -1).as_bytes());
    it.world.give(data, b"+OK\r\n");
    assert!(it.batch_is_sent());
    it.batch_says(&standing('b', 40, NO_HISTORY, -1), 1, &role(7, 40));
    assert_eq!(it.world.take(client), "+OK\r\n");
    it.world.assert_nothing_is_left();
}

#[test]
fn one_that_was_demoted_meanwhile_acknowledges_nothing() {
    let (mut it, client) = Acked::with_a_write(ONE);
    let standing = standing('a', 20, NO_HISTORY, -1);
    let unblocked = "-UNBLOCKED force unblock from blocking operation\r\n";
    let all = format!(":0\r\n{standing}{unblocked}{}", role(7, 30));
    it.world.give(it.batches, all.as_bytes());
    assert_eq!(
        it.world.take(client),
        "",
        "whoever is primary now will tell"
    );
    it.world.later(HOLD + Duration::from_millis(1));
    assert!(
        it.world.take(client).starts_with(UNKNOWN),
        "but not for ever"
    );
}

#[test]
fn a_server_that_answers_nothing_keeps_nobody_for_ever() {
    let (mut it, client) = Acked::with_a_write(ONE);
    it.world.later(HOLD + Duration::from_millis(1));
    assert!(it.world.take(client).starts_with(UNKNOWN));
    assert!(it.world.closed.contains(&it.batches));
    it.world.give(client, &request("SET a 2"));
    assert!(it.world.take(client).starts_with(NOREPLICAS));
}

/// No replica is needed until then, for what was answered in a history by a letter.
fn alone(seconds: u64, history: char) -> crate::topology::GoingAlone {
    crate::topology::GoingAlone {
        until: Duration::from_secs(seconds),
        history: history.to_string().repeat(40),
    }
}

/// The primary's server was started again, perhaps without what waits here; its promise is for what comes now.
#[test]
fn what_another_history_has_answered_is_not_passed_on_by_a_promise_for_this_one() {
    let mut word = pair(1, 0, 7, true);
    word.groups[0].alone = Some(alone(100, 'b'));
    let (mut it, client) = Acked::with_a_write(Ack { alone: true, ..ONE });
    it.world.core.look(Duration::from_secs(1));
    let other = it.world.client();
    it.world.give(other, &request("SET a 2"));
    assert_eq!(it.world.take(it.data).into_bytes(), request("SET a 2"));
    it.world.later(Duration::from_secs(1));
    it.replicas_say_nothing(&role(7, 5));
    assert!(it.world.take(client).starts_with(UNKNOWN));
    it.world.give(it.data, b"+OK\r\n");
    it.world.hears(&word);
    assert_eq!(it.world.take(other), "");
    word.groups[0].alone = Some(alone(100, 'a'));
    it.world.hears(&word);
    assert_eq!(it.world.take(other), "+OK\r\n");
}

/// The other side has promised that its server is not promoted: until then by the clock of this host's sleep.
#[test]
fn a_primary_may_go_on_alone_for_as_long_as_it_is_told() {
    let told = |seconds: Option<u64>| {
        let mut word = pair(1, 0, 7, true);
        word.groups[0].alone = seconds.map(|seconds| alone(seconds, 'a'));
        word
    };
    let fails = |it: &mut Acked| {
        it.batch_says(&standing('a', 20, NO_HISTORY, -1), 0, &role(7, 5));
    };
    let (mut it, client) = Acked::with_a_write(Ack { alone: true, ..ONE });
    let at = |it: &mut Acked, seconds: u64| it.world.core.look(Duration::from_secs(seconds));
    it.world.later(Duration::from_secs(1));
    fails(&mut it);
    // It is asked once more.
    fails(&mut it);
    assert!(
        it.world.take(client).starts_with(UNKNOWN),
        "nothing is promised"
    );
    it.world.give(client, &request("SET a 2"));
    assert!(it.world.take(client).starts_with(NOREPLICAS));

    it.world.hears(&told(Some(100)));
    at(&mut it, 99);
    it.world.give(client, &request("SET a 3"));
    assert_eq!(it.world.take(it.data).into_bytes(), request("SET a 3"));
    it.world.give(it.data, b"+OK\r\n");
    assert_eq!(it.world.take(client), "+OK\r\n", "no replica is waited for");

    // What was sent in time and is read too late waits for a replica; the next one is not sent.
    it.world.give(client, &request("SET a 4"));
    assert_eq!(it.world.take(it.data).into_bytes(), request("SET a 4"));
    at(&mut it, 101);
    it.world.give(it.data, b"+OK\r\n");
    assert_eq!(it.world.take(client), "");
    let other = it.world.client();
    it.world.give(other, &request("SET a 5"));
    assert!(it.world.take(other).starts_with(NOREPLICAS));
    // Told again, it goes on with what waits.
    it.world.hears(&told(Some(200)));
    assert_eq!(it.world.take(client), "+OK\r\n");
    // And not when that is taken back.
    it.world.hears(&told(None));
    it.world.give(other, &request("SET a 6"));
    assert!(it.world.take(other).starts_with(NOREPLICAS));
}

#[test]
fn who_has_not_asked_to_go_on_alone_refuses_whatever_is_told() {
    let mut word = pair(1, 0, 7, true);
    word.groups[0].alone = Some(alone(100, 'a'));
    let (mut it, client) = Acked::with_a_write(ONE);
    it.world.hears(&word);
    it.world.later(Duration::from_secs(1));
    it.batch_says(&standing('a', 20, NO_HISTORY, -1), 0, &role(7, 5));
    it.batch_says(&standing('a', 20, NO_HISTORY, -1), 0, &role(7, 5));
    assert!(it.world.take(client).starts_with(UNKNOWN));
    it.world.give(client, &request("SET a 2"));
    assert!(it.world.take(client).starts_with(NOREPLICAS));
}

#[test]
fn reads_wait_too_where_that_is_wanted() {
    let (mut it, writer) = Acked::with_a_write(Ack {
        replicas: 1,
        reads: true,
        alone: false,
    });
    let reader = it.world.client();
    it.world.give(reader, &request("GET a"));
    it.world.give(it.data, b"$1\r\n1\r\n");
    it.batch_says(&standing('a', 20, NO_HISTORY, -1), 1, &role(7, 20));
    assert_eq!(it.world.take(writer), "+OK\r\n");
    assert_eq!(it.world.take(reader), "", "it may have seen more than that");
    assert!(it.batch_is_sent());
    it.batch_says(&standing('a', 20, NO_HISTORY, -1), 1, &role(7, 20));
    assert_eq!(it.world.take(reader), "$1\r\n1\r\n");
}

#[test]
fn one_who_left_is_not_missed() {
    let (mut it, client) = Acked::with_a_write(ONE);
    it.world.core.closed(client, How::Reset, it.world.now);
    it.world.turn();
    it.batch_says(&standing('a', 20, NO_HISTORY, -1), 1, &role(7, 20));
    it.world.assert_nothing_is_left();
}

#[test]
fn parts_on_several_shards_wait_each_for_its_own() {
    let mut settings = pool(2);
    settings.replicas.ack = Some(ONE);
    let mut world = World::new(settings);
    let mut groups = pair(1, 0, 7, true).groups;
    groups.extend(pair(1, 1, 8, true).groups);
    world.core.snapshot(0, &Topology { groups }, world.now);
    let client = world.client();
    let (left, right) = (world.key_on(0), world.key_on(1));
    world.give(client, &request(&format!("MSET {left} 1 {right} 2")));
    let data: Vec<(usize, Peer)> = world.connections.clone();
    for (_, lane) in data {
        world.give(lane, standing('a', 10, NO_HISTORY, -1).as_bytes());
        world.give(lane, b"+OK\r\n");
    }
    let batches: Vec<(usize, Peer)> = world.connections[2..].to_vec();
    assert_eq!(batches.len(), 2);
    for (place, lane) in batches {
        assert_eq!(world.take(client), "");
        let all = format!(
            ":0\r\n{}:1\r\n{}",
            standing('a', 20, NO_HISTORY, -1),
            role(place as u16 + 7, 20)
        );
        world.give(lane, all.as_bytes());
    }
    assert_eq!(world.take(client), "+OK\r\n");
    world.assert_nothing_is_left();
}

#[test]
fn a_large_write_waits_for_replicas_as_others_do() {
    let (mut acked, client) = Acked::with_a_write(ONE);
    acked.batch_says(&standing('a', 20, NO_HISTORY, -1), 1, &role(7, 20));
    assert_eq!(acked.world.take(client), "+OK\r\n");
    let large = request(&format!("SET a {}", "v".repeat(1_000_000)));
    assert!(acked.world.give(client, &large[..500_000]));
    assert_eq!(acked.world.take(acked.data), "", "it is whole first");
    assert!(acked.world.give(client, &large[500_000..]));
    assert_eq!(acked.world.take(acked.data).into_bytes(), large);
    acked.world.give(acked.data, b"+OK\r\n");
    assert_eq!(acked.world.take(client), "", "no replica has it");
    assert!(acked.batch_is_sent());
    acked.batch_says(&standing('a', 30, NO_HISTORY, -1), 1, &role(7, 30));
    assert_eq!(acked.world.take(client), "+OK\r\n");
}
