//! Primaries that move: what is held, what is sent again, and what nobody can know.

use super::*;
use crate::core::follow::HOLD;
use crate::topology::{Forks, Group, Lease, Phase, Topology};

/// Nothing waits for longer.
pub(super) const HOLD_BOUND: Duration = Duration::from_millis(HOLD.as_millis() as u64 + 2);

const READONLY: &[u8] = b"-READONLY You can't write against a read only replica.\r\n";
const UNKNOWN: &str = "-TANDEM-UNKNOWN ";

/// Two places where a primary of the one group may be; `World::up` knows them as 0 and 7.
pub(super) fn serving(epoch: u64, place: u16) -> Topology {
    let primary = Address::Tcp {
        host: "127.0.0.1".to_owned(),
        port: 1000 + place,
    };
    phase(epoch, Phase::Serving { primary })
}

pub(super) fn phase(epoch: u64, phase: Phase) -> Topology {
    Topology {
        groups: vec![Group {
            rank: Rank::of(epoch),
            phase,
            lease: Lease::Open,
            alone: None,
            replicas: Vec::new(),
            forks: Forks::Untold,
        }],
    }
}

/// The same word at a later turn of its epoch.
pub(super) fn turned(turn: u64, mut topology: Topology) -> Topology {
    topology.groups[0].rank.turn = turn;
    topology
}

impl World {
    pub(super) fn hears(&mut self, topology: &Topology) {
        self.core.snapshot(0, topology, self.now);
        self.turn();
    }

    /// The connection to a place ends.
    pub(super) fn loses(&mut self, place: usize) {
        let lane = self.up[&place];
        self.core.closed(lane, How::Reset, self.now);
        self.turn();
    }
}

pub(super) fn world() -> World {
    let mut world = World::new(pool(1));
    world.hears(&serving(1, 0));
    world
}

#[test]
fn a_switchover_loses_nothing_and_no_request_is_sent_twice() {
    let mut world = world();
    let (one, two) = (world.client(), world.client());
    world.give(one, &request("SET a 1"));
    assert_eq!(world.at_server(0).into_bytes(), request("SET a 1"));
    world.hears(&phase(2, Phase::Closing));
    world.give(two, &request("SET b 2"));
    world.give(one, &request("GET a"));
    assert_eq!(world.at_server(0), "", "nothing more goes there");
    assert_eq!(world.quiet, [], "something is unanswered");
    world.server_says(0, b"+OK\r\n");
    assert_eq!(world.quiet, [(0, Rank::of(2))]);
    let old = world.up[&0];
    world.later(Duration::from_millis(100));
    world.hears(&serving(3, 7));
    assert!(world.closed.contains(&old));
    assert_eq!(
        world.at_server(7).into_bytes(),
        [request("SET b 2"), request("GET a")].concat()
    );
    world.server_says(7, b"+OK\r\n$1\r\n1\r\n");
    assert_eq!(
        (world.take(one), world.take(two)),
        ("+OK\r\n$1\r\n1\r\n".into(), "+OK\r\n".into())
    );
    world.assert_nothing_is_left();
}

#[test]
fn a_request_that_is_half_out_when_it_closes_is_finished() {
    let mut world = world();
    let client = world.client();
    world.give(client, &request("GET first"));
    let lane = world.up[&0];
    world.stuck.push(lane);
    world.give(client, &request("SET a 1"));
    world.give(client, &request("SET b 1"));
    world.core.sent(lane, 5);
    world.hears(&phase(2, Phase::Closing));
    world.stuck.clear();
    let rest = world.core.pending(lane).concat();
    assert_eq!(rest, request("SET a 1")[5..]);
    world.core.sent(lane, rest.len());
    assert_eq!(world.core.pending(lane).concat(), b"");
    world.server_says(0, b"+first\r\n+OK\r\n");
    assert_eq!(world.quiet, [(0, Rank::of(2))]);
}

#[test]
fn when_the_primary_dies_reads_are_repeated_writes_told_and_the_rest_held() {
    let mut world = world();
    let (reader, writer, later) = (world.client(), world.client(), world.client());
    world.give(reader, &request("GET a"));
    world.give(writer, &request("INCR n"));
    world.give(writer, &request("GET n"));
    world.hears(&phase(2, Phase::None));
    world.loses(0);
    assert!(world.take(writer).starts_with(UNKNOWN));
    assert_eq!(world.take(reader), "");
    world.give(later, &request("INCR n"));
    assert!(world.up.is_empty(), "there is nobody to ask");
    world.later(Duration::from_millis(500));
    world.hears(&serving(3, 7));
    let again = [request("GET a"), request("GET n"), request("INCR n")].concat();
    assert_eq!(
        world.at_server(7).into_bytes(),
        again,
        "each once, in the order in which they were asked"
    );
    world.server_says(7, b"+a\r\n+n\r\n:1\r\n");
    assert_eq!(
        (world.take(reader), world.take(writer)),
        ("+a\r\n".into(), "+n\r\n".into())
    );
    assert_eq!(world.take(later), ":1\r\n");
    world.assert_nothing_is_left();
}

#[test]
fn a_connection_that_breaks_is_made_again_before_anybody_says_anything() {
    let mut world = world();
    let client = world.client();
    world.give(client, &request("GET a"));
    world.loses(0);
    world.later(Duration::from_millis(30));
    assert_eq!(world.at_server(0).into_bytes(), request("GET a"));
    world.server_says(0, b"+a\r\n");
    assert_eq!(world.take(client), "+a\r\n");
}

#[test]
fn nobody_is_held_for_ever() {
    let mut world = world();
    world.hears(&phase(2, Phase::None));
    let client = world.client();
    world.give(client, &request("SET a 1"));
    world.later(HOLD / 2);
    world.give(client, &request("SET a 2"));
    assert_eq!(world.take(client), "");
    world.later(HOLD / 2 + Duration::from_millis(1));
    assert!(world.take(client).starts_with("-TANDEM-NOPRIMARY "));
    world.hears(&serving(3, 7));
    assert_eq!(world.at_server(7).into_bytes(), request("SET a 2"));
    world.server_says(7, b"+OK\r\n");
    assert_eq!(world.take(client), "+OK\r\n");
    world.assert_nothing_is_left();
}

#[test]
fn what_was_asked_by_someone_who_left_is_not_sent() {
    let mut world = world();
    world.hears(&phase(2, Phase::None));
    let (gone, here) = (world.client(), world.client());
    world.give(gone, &request("SET a 1"));
    world.give(
        gone,
        &[request("MULTI"), request("SET a 2"), request("EXEC")].concat(),
    );
    world.give(here, &request("GET a"));
    world.core.closed(gone, How::Reset, world.now);
    world.turn();
    world.hears(&serving(3, 7));
    assert_eq!(world.at_server(7).into_bytes(), request("GET a"));
    world.server_says(7, b"$-1\r\n");
    assert_eq!(world.take(here), "$-1\r\n");
    world.assert_nothing_is_left();
}

#[test]
fn one_that_gave_up_while_it_was_held_is_not_asked_for_on_the_connection_that_stayed_either() {
    for how in [How::Reset, How::Eof] {
        let mut world = world();
        let (gone, other) = (world.client(), world.client());
        world.give(other, &request("GET first"));
        world.hears(&phase(2, Phase::Closing));
        world.give(gone, &request("SET a 1"));
        world.give(
            gone,
            &[request("MULTI"), request("SET a 2"), request("EXEC")].concat(),
        );
        world.give(other, &request("SET a 3"));
        world.core.closed(gone, how, world.now);
        world.turn();
        world.take(world.up[&0]);
        // The switchover was given up: same primary, same connection, one answer still due.
        world.hears(&serving(3, 0));
        assert_eq!(
            world.at_server(0).into_bytes(),
            request("SET a 3"),
            "{how:?}"
        );
        world.server_says(0, b"+first\r\n+OK\r\n");
        assert_eq!(world.take(other), "+first\r\n+OK\r\n");
        assert!(world.closed.contains(&gone), "{how:?}");
        world.assert_nothing_is_left();
    }
}

#[test]
fn the_parts_of_a_split_request_of_one_who_gave_up_are_not_sent() {
    for how in [How::Reset, How::Eof] {
        let mut world = World::new(pool(2));
        let keys = [world.key_on(0), world.key_on(1)];
        let at = |epoch, phase: Phase| {
            let known = |server: u16| Phase::Serving {
                primary: Address::Tcp {
                    host: "127.0.0.1".to_owned(),
                    port: 1000 + server,
                },
            };
            let phases = [phase, known(1)];
            let groups = phases.map(|phase| Group {
                replicas: Vec::new(),
                rank: Rank::of(epoch),
                lease: Lease::Open,
                alone: None,
                phase,
                forks: Forks::Untold,
            });
            Topology {
                groups: groups.to_vec(),
            }
        };
        world.hears(&at(1, Phase::None));
        let client = world.client();
        world.give(client, &request(&format!("DEL {} {}", keys[0], keys[1])));
        assert_ne!(world.at_server(1), "");
        world.core.closed(client, how, world.now);
        world.turn();
        let primary = Address::Tcp {
            host: "127.0.0.1".to_owned(),
            port: 1007,
        };
        world.hears(&at(2, Phase::Serving { primary }));
        assert_eq!(world.at_server(7), "", "{how:?}");
        world.server_says(1, b":1\r\n");
        world.assert_nothing_is_left();
    }
}

#[test]
fn one_that_only_says_no_more_is_answered_while_nothing_is_held() {
    let mut world = world();
    let client = world.client();
    world.give(client, &request("SET a 1"));
    world.core.closed(client, How::Eof, world.now);
    world.turn();
    world.server_says(0, b"+OK\r\n");
    assert_eq!(world.take(client), "+OK\r\n");
}

#[test]
fn a_transaction_is_sent_again_whole_or_not_at_all() {
    let mut world = world();
    let (sent, held) = (world.client(), world.client());
    let block = [request("MULTI"), request("INCR n"), request("EXEC")].concat();
    world.give(sent, &block);
    world.server_says(0, b"+OK\r\n");
    world.hears(&phase(2, Phase::None));
    world.give(held, &block);
    world.take(held);
    world.loses(0);
    assert!(world.take(sent).contains(UNKNOWN));
    world.hears(&serving(3, 7));
    assert_eq!(world.at_server(7).into_bytes(), block);
    world.server_says(7, b"+OK\r\n+QUEUED\r\n*1\r\n:1\r\n");
    assert_eq!(world.take(held), "*1\r\n:1\r\n");
    world.assert_nothing_is_left();
}

#[test]
fn a_write_that_a_demoted_server_refuses_goes_to_the_next_primary_with_what_came_after() {
    let mut world = world();
    let (writer, other) = (world.client(), world.client());
    world.give(writer, &request("GET x"));
    world.give(writer, &request("SET x new"));
    world.give(writer, &request("GET x"));
    world.give(other, &request("GET y"));
    world.server_says(0, &[b"+old\r\n", READONLY, b"+old\r\n+y\r\n"].concat());
    assert_eq!(
        world.take(writer),
        "+old\r\n",
        "not the old value behind the new one"
    );
    assert_eq!(world.take(other), "+y\r\n", "others are not concerned");
    world.take(world.up[&0]);
    world.give(other, &request("GET z"));
    assert_eq!(world.at_server(0), "", "it is asked nothing more");
    world.hears(&serving(2, 7));
    let again = [request("SET x new"), request("GET x"), request("GET z")].concat();
    assert_eq!(world.at_server(7).into_bytes(), again);
    world.server_says(7, b"+OK\r\n+new\r\n+z\r\n");
    assert_eq!(
        (world.take(writer), world.take(other)),
        ("+OK\r\n+new\r\n".into(), "+z\r\n".into())
    );
    world.assert_nothing_is_left();
}

#[test]
fn a_refused_write_is_not_repeated_behind_a_later_one_that_was_executed() {
    let mut world = world();
    let client = world.client();
    world.give(client, &request("SET x 1"));
    world.give(client, &request("SET x 2"));
    world.server_says(0, &[READONLY, b"+OK\r\n"].concat());
    assert_eq!(
        world.take(client).into_bytes(),
        [READONLY, b"+OK\r\n"].concat()
    );
    world.later(Duration::from_millis(50));
    world.assert_nothing_is_left();
}

#[test]
fn a_server_that_is_loading_is_asked_again_until_it_has() {
    let mut world = world();
    let client = world.client();
    world.give(client, &request("GET a"));
    for _ in 0..3 {
        assert_eq!(world.at_server(0).into_bytes(), request("GET a"));
        world.server_says(0, b"-LOADING Redis is loading the dataset in memory\r\n");
        world.later(Duration::from_millis(30));
    }
    world.server_says(0, b"+a\r\n");
    assert_eq!(world.take(client), "+a\r\n");
    world.assert_nothing_is_left();
}

#[test]
fn a_refusal_that_lasts_is_passed_on() {
    let mut world = world();
    let client = world.client();
    world.give(client, &request("SET a 1"));
    world.server_says(0, READONLY);
    world.hears(&phase(2, Phase::None));
    world.later(HOLD + Duration::from_millis(1));
    assert_eq!(world.take(client).into_bytes(), READONLY);
    world.assert_nothing_is_left();
}

#[test]
fn an_error_of_a_script_that_looks_like_a_refusal_is_passed_on() {
    for error in [
        "-READONLY You can't write against a read only replica. script: ab, on @user_script:1.\r\n",
        "-LOADING of the truck is not finished\r\n",
        "-CLUSTERDOWN since noon\r\n",
    ] {
        for words in ["EVAL x 1 a", "EVALSHA x 1 a", "FCALL f 1 a"] {
            let mut world = world();
            let client = world.client();
            world.give(client, &request(words));
            world.server_says(0, error.as_bytes());
            assert_eq!(world.take(client), error, "{words}");
        }
    }
}

#[test]
fn a_script_that_the_server_itself_refused_goes_to_the_next_primary() {
    for refusal in [
        "-READONLY You can't write against a read only replica.\r\n",
        "-READONLY Can not run script with write flag on readonly replica\r\n",
        "-LOADING Redis is loading the dataset in memory\r\n",
        "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.\r\n",
        "-NOREPLICAS Not enough good replicas to write.\r\n",
    ] {
        let mut world = world();
        let client = world.client();
        world.give(client, &request("EVAL x 1 a"));
        world.server_says(0, refusal.as_bytes());
        assert_eq!(world.take(client), "", "{refusal}");
        world.hears(&serving(2, 7));
        assert_eq!(world.at_server(7).into_bytes(), request("EVAL x 1 a"));
    }
}

/// Whoever gives words has put them in order, so one of an older epoch is no late one: those who stood behind the newer one are gone
/// (`tandem_core::follow`), or this host's keeper has seen it come to nothing.
#[test]
fn an_older_epoch_that_counts_again_is_obeyed() {
    let mut world = world();
    world.hears(&serving(5, 7));
    let (reader, writer) = (world.client(), world.client());
    world.give(reader, &request("GET a"));
    let gone = world.up[&7];
    assert_eq!(world.take(gone).into_bytes(), request("GET a"));
    // It does not answer any more, and is not said to be gone.
    world.later(Duration::from_secs(1));
    world.hears(&turned(3, serving(4, 0)));
    assert!(world.closed.contains(&gone));
    assert_eq!(world.at_server(0).into_bytes(), request("GET a"));
    world.server_says(0, b"$1\r\nx\r\n");
    assert_eq!(world.take(reader), "$1\r\nx\r\n");
    // It closes in that epoch, and says so; the next one is newer than either.
    world.hears(&turned(4, phase(4, Phase::Closing)));
    world.give(writer, &request("SET a 1"));
    assert_eq!(world.at_server(0), "");
    let closed = Rank {
        turn: 4,
        ..Rank::of(4)
    };
    assert_eq!(world.quiet, [(0, closed)]);
    world.hears(&serving(6, 7));
    assert_eq!(world.at_server(7).into_bytes(), request("SET a 1"));
    world.server_says(7, b"+OK\r\n");
    assert_eq!(world.take(writer), "+OK\r\n");
    world.assert_nothing_is_left();
}

#[test]
fn a_static_server_is_never_held() {
    let mut world = World::new(pool(1));
    let client = world.client();
    world.give(client, &request("SET a 1"));
    world.server_says(0, READONLY);
    assert_eq!(world.take(client).into_bytes(), READONLY);
}

#[test]
fn a_pool_that_replaces_another_knows_its_primary_before_it_is_asked_for_anything() {
    let mut world = World::new(pool(1));
    world.core.snapshot(0, &serving(1, 3), world.now);
    let client = world.client();
    let settings = Arc::new(Pool {
        timeout: Some(Duration::from_secs(1)),
        ..pool(1)
    });
    let setup = PoolSetup {
        subscribers: Arc::new(Subscribers::new(1)),
        ejector: Arc::new(Ejector::new(settings.clone(), world.now, 0)),
        settings,
        counters: world.counters.clone(),
        connections: 1,
    };
    let word = Word::Groups(Arc::new(serving(1, 3)));
    world.core.reload(vec![(setup, Some(word))], world.now);
    world.turn();
    world.give(client, &request("GET a"));
    assert_eq!(world.at_server(3).into_bytes(), request("GET a"));
    assert_eq!(
        world.core.pools_told("test"),
        [0, 1],
        "who has not moved yet hears it too"
    );
}

/// The pool is replaced by one with other settings, as a reload does it.
fn replaced(world: &mut World, word: &Topology) {
    let word = Word::Groups(Arc::new(word.clone()));
    let longer = |pool: &mut Pool| pool.timeout = Some(Duration::from_secs(1));
    world.replace(longer, Some(word));
}

/// A word that comes after that.
fn both_hear(world: &mut World, word: &Topology) {
    for pool in world.core.pools_told("test") {
        world.core.snapshot(pool, word, world.now);
    }
    world.turn();
}

#[test]
fn what_was_asked_before_a_reload_goes_to_the_next_primary_when_the_last_is_silent() {
    let mut world = world();
    let client = world.client();
    world.give(client, &request("GET a"));
    let old = world.up[&0];
    replaced(&mut world, &serving(1, 0));
    assert!(!world.closed.contains(&old), "it is awaited");
    both_hear(&mut world, &serving(2, 7));
    assert!(world.closed.contains(&old));
    assert_eq!(world.at_server(7).into_bytes(), request("GET a"));
    let again = world.up[&7];
    world.server_says(7, b"+a\r\n");
    assert_eq!(world.take(client), "+a\r\n");
    assert!(world.closed.contains(&again), "the last of the old pool's");
    world.give(client, &request("GET b"));
    assert_eq!(world.at_server(7).into_bytes(), request("GET b"));
    world.server_says(7, b"+b\r\n");
    world.assert_nothing_is_left();
}

#[test]
fn who_listened_before_a_reload_is_moved_before_anything_is_published_at_the_next_primary() {
    let mut world = world();
    let listener = world.client();
    world.give(listener, &request("SUBSCRIBE a"));
    let old = world.up[&0];
    let confirmed = b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n";
    world.give(old, confirmed);
    world.take(listener);
    replaced(&mut world, &serving(1, 0));
    let publisher = world.client_of(1);
    both_hear(&mut world, &serving(2, 7));
    assert!(world.closed.contains(&old), "break before make");
    let new = world.up[&7];
    assert_eq!(world.take(new).into_bytes(), request("SUBSCRIBE a"));
    world.give(publisher, &request("PUBLISH a x"));
    let shared = world.up[&7];
    assert_ne!(shared, new);
    assert_eq!(world.take(shared), "", "nothing is published yet");
    world.give(new, confirmed);
    world.later(Duration::from_millis(2));
    assert_eq!(world.take(shared).into_bytes(), request("PUBLISH a x"));
    assert_eq!(world.take(listener), "", "it does not notice");
}
