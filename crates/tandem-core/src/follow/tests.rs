//! Stories of a fleet of three sentinels, as its follower on the host of server 2 sees it.

use std::collections::BTreeMap;

use tandem_resp::Value;

use super::*;
use crate::ids::HostId;
use crate::sentinel::ConnKind;
use crate::testing::origin;

const MS: Duration = Duration::from_millis(1);

fn server(last: u8) -> Endpoint {
    Endpoint::new(format!("10.0.0.{last}"), 6379)
}

fn bulk(text: impl ToString) -> Value {
    Value::Bulk(text.to_string().into_bytes())
}

/// What a sentinel of the test's fleet believes.
#[derive(Clone, Debug)]
struct Mind {
    primary: u8,
    epoch: u64,
}

/// The follower, its fleet, and what came out.
struct World {
    follower: Follower,
    now: Instant,
    minds: [Option<Mind>; 3],
    /// Which sentinel each open connection leads to.
    conns: BTreeMap<ConnId, (usize, ConnKind)>,
    /// What servers say when they are asked; those that are missing do not answer.
    roles: BTreeMap<Endpoint, Role>,
    local: Option<Role>,
    /// Addresses taken and given, events by name, in order.
    told: Vec<String>,
    topology: Option<Topology>,
    /// What daemons say.
    word: Option<Word>,
}

impl World {
    fn new(minds: [Option<Mind>; 3]) -> Self {
        let settings = Settings {
            group: "orders".to_owned(),
            master: "mymaster".to_owned(),
            sentinels: (0..3)
                .map(|n| Endpoint::new(format!("10.0.1.{n}"), 26379))
                .collect(),
            username: None,
            password: None,
            server: server(2),
            down_after: Duration::from_secs(1),
            daemons: false,
        };
        let now = origin();
        Self {
            follower: Follower::new(settings, now),
            now,
            minds,
            conns: BTreeMap::new(),
            roles: [(server(1), Role::Primary), (server(2), Role::Other)].into(),
            local: Some(Role::Other),
            told: Vec::new(),
            topology: None,
            word: None,
        }
    }

    fn feed(&mut self, input: Input) {
        let outputs = self.follower.handle(input, self.now);
        for output in outputs {
            self.carry(output);
        }
    }

    fn carry(&mut self, output: Output) {
        match output {
            Output::Connect { conn, to, kind } => {
                let which = usize::from(to.host.as_bytes()[to.host.len() - 1] - b'0');
                if self.minds[which].is_some() {
                    self.conns.insert(conn, (which, kind));
                    self.feed(Input::Connected(conn));
                } else {
                    self.feed(Input::Lost(conn, "refused".to_owned()));
                }
            }
            Output::Close(conn) => {
                self.conns.remove(&conn);
            }
            Output::Send { conn, argv } => {
                if let Some(reply) = self.reply(conn, &argv) {
                    self.feed(Input::Reply(conn, reply));
                }
            }
            Output::AskRole(server) => {
                let answer = self.roles.get(&server).copied();
                let answer = answer.ok_or_else(|| "no answer".to_owned());
                self.feed(Input::Role { server, answer });
            }
            Output::TakeAddress => self.told.push("take".to_owned()),
            Output::GiveAddress => self.told.push("give".to_owned()),
            Output::Publish(topology) => self.topology = Some(topology),
            Output::Tell { name, .. } => self.told.push(name.to_owned()),
        }
    }

    fn reply(&self, conn: ConnId, argv: &[Vec<u8>]) -> Option<Value> {
        let (which, kind) = self.conns.get(&conn)?;
        if *kind == ConnKind::PubSub {
            return None;
        }
        let mind = self.minds[*which].as_ref()?;
        let (primary, replica) = (server(mind.primary), server(3 - mind.primary));
        Some(match argv[1].as_slice() {
            b"get-master-addr-by-name" => {
                Value::Array(vec![bulk(&primary.host), bulk(primary.port)])
            }
            b"master" => Value::Array(vec![bulk("config-epoch"), bulk(mind.epoch)]),
            b"replicas" => Value::Array(vec![Value::Array(vec![
                bulk("ip"),
                bulk(&replica.host),
                bulk("port"),
                bulk(replica.port),
                bulk("flags"),
                bulk("slave"),
            ])]),
            b"TANDEM" => word::answer(self.word.as_ref()),
            other => panic!("not asked by a follower: {other:?}"),
        })
    }

    /// Time goes by in steps of 10 ms; the local server says its role in each.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += 10 * MS;
            self.feed(Input::Local(self.local));
            self.feed(Input::Tick);
        }
    }

    /// A sentinel publishes the switch.
    fn publish(&mut self, which: usize, text: &str) {
        let of = |(conn, (to, kind)): (&ConnId, &(usize, ConnKind))| {
            (*to == which && *kind == ConnKind::PubSub).then_some(*conn)
        };
        let conn = self
            .conns
            .iter()
            .find_map(of)
            .expect("a hearing connection");
        self.feed(Input::Heard {
            conn,
            channel: b"+switch-master".to_vec(),
            message: text.as_bytes().to_vec(),
        });
    }

    fn followed(&self) -> Option<(String, u64)> {
        let it = self.follower.current()?;
        Some((it.primary.host.clone(), it.epoch.0))
    }

    /// Server 2 becomes the primary.
    fn promote(&mut self) {
        self.roles.insert(server(2), Role::Primary);
        self.local = Some(Role::Primary);
        self.feed(Input::Local(self.local));
    }
}

fn mind(primary: u8, epoch: u64) -> Option<Mind> {
    Some(Mind { primary, epoch })
}

fn named(last: u8, epoch: u64) -> Option<(String, u64)> {
    Some((server(last).host, epoch))
}

/// A fleet in which all agree that server 1 is the primary, followed.
fn agreed() -> World {
    let mut world = World::new([mind(1, 5), mind(1, 5), mind(1, 5)]);
    world.feed(Input::Tick);
    assert_eq!(world.followed(), named(1, 5));
    assert_eq!(world.told, ["+follow"]);
    world.told.clear();
    world
}

#[test]
fn the_event_of_one_sentinel_moves_the_address_in_the_same_moment() {
    let mut world = agreed();
    world.run(Duration::from_secs(1));
    let before = world.now;
    world.promote();
    assert!(
        world.told.is_empty(),
        "a local primary alone takes no address"
    );
    world.minds[0] = mind(2, 6);
    world.publish(0, "mymaster 10.0.0.1 6379 10.0.0.2 6379");
    assert_eq!(world.now, before, "no time went by");
    assert_eq!(world.told, ["+switch-master", "take"]);
    assert_eq!(world.followed(), named(2, 6));
    let told = world.topology.as_ref().expect("published");
    assert_eq!(
        (told.rank.epoch, told.primary.clone()),
        (6, Some(server(2)))
    );
    assert_eq!(told.servers.len(), 2);
    // The others learn it later, and nothing moves again; nor when they leave.
    world.minds = [mind(2, 6), mind(2, 6), mind(2, 6)];
    world.run(Duration::from_secs(5));
    assert_eq!(world.told, ["+switch-master", "take"]);
}

#[test]
fn an_event_for_another_group_or_channel_is_no_reason_to_ask() {
    let mut world = agreed();
    world.promote();
    world.minds = [mind(2, 6), mind(2, 6), mind(2, 6)];
    world.publish(0, "mymaster2 10.0.0.1 6379 10.0.0.2 6379");
    assert_eq!(world.followed(), named(1, 5));
}

#[test]
fn what_no_event_told_is_found_by_asking() {
    let mut world = agreed();
    world.promote();
    world.minds[2] = mind(2, 6);
    world.run(2 * talk::POLL);
    assert_eq!(world.followed(), named(2, 6));
}

#[test]
fn a_stale_sentinel_moves_nothing_back() {
    let mut world = agreed();
    world.promote();
    world.minds = [mind(2, 6), mind(2, 6), mind(2, 6)];
    world.run(2 * talk::POLL);
    world.told.clear();
    // One comes back with an old file, and soon it is the only one that is heard.
    world.minds = [None, None, mind(1, 5)];
    let lost: Vec<ConnId> = world.conns.keys().copied().collect();
    for conn in lost {
        world.conns.remove(&conn);
        world.feed(Input::Lost(conn, "closed".to_owned()));
    }
    world.run(Duration::from_secs(5));
    world.publish(2, "mymaster 10.0.0.2 6379 10.0.0.1 6379");
    world.run(Duration::from_secs(30));
    assert_eq!(world.followed(), named(2, 6));
    assert!(
        !world
            .told
            .iter()
            .any(|it| it == "give" || it == "+switch-master"),
        "{:?}",
        world.told
    );
    let status = world.follower.status(world.now);
    assert_eq!(status.sentinels[2].verdict, "stale");
    assert_eq!(status.sentinels[0].verdict, "refused");
}

#[test]
fn a_minority_says_nothing_at_the_start() {
    let mut world = World::new([mind(1, 5), None, None]);
    world.run(Duration::from_secs(30));
    assert_eq!(world.followed(), None);
    let explained = world.follower.explain(world.now);
    assert!(
        explained.iter().any(|it| it.rule == "follow.majority"),
        "{explained:?}"
    );
    // The majority knows better than the one that was cut off.
    world.promote();
    world.minds = [mind(1, 5), mind(2, 6), mind(2, 6)];
    world.run(Duration::from_secs(5));
    assert_eq!(world.followed(), named(2, 6));
    assert_eq!(world.told, ["+follow", "take"]);
}

#[test]
fn a_named_server_is_followed_when_it_says_that_it_is_a_primary() {
    let mut world = agreed();
    world.minds = [mind(2, 6), mind(2, 6), mind(2, 6)];
    world.run(2 * talk::POLL);
    assert_eq!(
        world.followed(),
        named(1, 5),
        "server 2 says that it is a replica"
    );
    let why = world.follower.explain(world.now);
    let why = why
        .iter()
        .find(|it| it.rule == "follow.epoch")
        .expect("explained");
    assert!(
        why.evidence.contains("does not say that it is a primary"),
        "{why:?}"
    );
    world.promote();
    world.run(2 * ASK_AGAIN);
    assert_eq!(world.followed(), named(2, 6));
}

#[test]
fn two_primaries_in_one_epoch_are_an_alarm_and_no_move() {
    let mut world = agreed();
    world.promote();
    world.minds[1] = mind(2, 5);
    world.run(3 * talk::POLL);
    assert_eq!(world.followed(), named(1, 5));
    assert_eq!(world.told, ["follow-contradiction"]);
    assert_eq!(world.follower.status(world.now).alarms.len(), 1);
    world.minds[1] = mind(1, 5);
    world.run(3 * talk::POLL);
    assert!(world.follower.status(world.now).alarms.is_empty());
}

#[test]
fn a_fleet_made_anew_is_followed_after_a_while() {
    let mut world = agreed();
    world.promote();
    world.minds = [mind(2, 0), mind(2, 0), mind(2, 0)];
    world.run(OLDER_FOR / 2);
    assert_eq!(world.followed(), named(1, 5));
    world.run(OLDER_FOR);
    assert_eq!(world.followed(), named(2, 0));
    let told = world.topology.as_ref().expect("published");
    assert_eq!(
        (told.rank.epoch, told.primary.clone()),
        (0, Some(server(2))),
        "the front hears of it, although the number is lower"
    );
}

#[test]
fn the_address_goes_when_the_local_server_is_no_primary_any_more() {
    let mut world = agreed();
    world.promote();
    world.minds = [mind(2, 6), mind(2, 6), mind(2, 6)];
    world.run(2 * talk::POLL);
    world.told.clear();
    for (change, expected) in [
        (Some(Role::Other), "give"),
        (Some(Role::Primary), "take"),
        // Proven dead.
        (None, "give"),
        (Some(Role::Primary), "take"),
    ] {
        world.local = change;
        world.feed(Input::Local(change));
        assert_eq!(
            world.told.last().map(String::as_str),
            Some(expected),
            "{change:?}"
        );
    }
    // Silent: its last word does not count for ever.
    world.now += world.follower.settings.down_after;
    world.feed(Input::Tick);
    assert_eq!(world.told.last().map(String::as_str), Some("give"));
}

#[test]
fn without_any_sentinel_the_last_primary_stays_and_a_person_is_told() {
    let mut world = agreed();
    world.promote();
    world.minds = [mind(2, 6), mind(2, 6), mind(2, 6)];
    world.run(2 * talk::POLL);
    world.told.clear();
    world.minds = [None, None, None];
    let lost: Vec<ConnId> = world.conns.keys().copied().collect();
    for conn in lost {
        world.conns.remove(&conn);
        world.feed(Input::Lost(conn, "closed".to_owned()));
    }
    world.run(Duration::from_secs(30));
    assert_eq!(world.followed(), named(2, 6));
    assert_eq!(world.told, ["follow-deaf"]);
    world.feed(Input::Stop);
    assert_eq!(world.told, ["follow-deaf", "give"]);
}

#[test]
fn nonsense_is_no_belief() {
    let table = [
        (Value::Null, "5", "names no address of a primary"),
        (
            Value::Array(vec![bulk("db.example"), bulk(6379)]),
            "5",
            "names no address of a primary",
        ),
        (
            Value::Array(vec![bulk("10.0.0.2"), bulk(0)]),
            "5",
            "names no address of a primary",
        ),
        (
            Value::Array(vec![bulk("10.0.0.2"), bulk(6379)]),
            "-1",
            "tells no configuration epoch",
        ),
        (Value::Integer(7), "5", "names no address of a primary"),
    ];
    for (address, epoch, trouble) in table {
        let mut world = World::new([None, None, None]);
        let mut out = world.follower.handle(Input::Tick, world.now);
        let Some(Output::Connect { conn, .. }) = out.first().cloned() else {
            panic!("connects first: {out:?}")
        };
        out = world.follower.handle(Input::Connected(conn), world.now);
        assert_eq!(out.len(), 3, "{out:?}");
        let primary = Value::Array(vec![bulk("config-epoch"), bulk(epoch)]);
        for reply in [address.clone(), primary, Value::Array(Vec::new())] {
            world.follower.handle(Input::Reply(conn, reply), world.now);
        }
        let row = &world.follower.status(world.now).sentinels[0];
        assert_eq!(row.verdict, trouble, "{address:?} {epoch}");
        // A reply that nobody asked for ends the conversation.
        let out = world
            .follower
            .handle(Input::Reply(conn, bulk("x")), world.now);
        assert!(out.contains(&Output::Close(conn)), "{out:?}");
    }
}

fn daemons_say(world: &mut World, epoch: u64, turn: u64, phase: Phase) {
    let word = Word {
        group: "mymaster".to_owned(),
        rank: Rank {
            epoch,
            host: HostId::default(),
            turn,
        },
        phase,
    };
    let hearing = |(conn, (_, kind)): (&ConnId, &(usize, ConnKind))| {
        (*kind == ConnKind::PubSub).then_some(*conn)
    };
    let conn = world
        .conns
        .iter()
        .find_map(hearing)
        .expect("a hearing connection");
    world.feed(Input::Heard {
        conn,
        channel: word::CHANNEL.as_bytes().to_vec(),
        message: word.line().into_bytes(),
    });
    world.word = Some(word);
}

#[test]
fn daemons_tell_a_proxy_when_their_primary_closes_and_when_it_goes_on() {
    let mut world = World::new([mind(1, 5), mind(1, 5), mind(1, 5)]);
    world.follower = Follower::new(
        Settings {
            daemons: true,
            ..world.follower.settings.clone()
        },
        world.now,
    );
    world.run(100 * MS);
    let told = |world: &World| {
        let topology = world.topology.clone().expect("something is told");
        (
            topology.rank.turn,
            topology.primary.is_some(),
            topology.closing,
        )
    };
    daemons_say(&mut world, 5, 3, Phase::Closing);
    assert_eq!(told(&world), (3, true, true));
    daemons_say(&mut world, 5, 4, Phase::Serving);
    daemons_say(&mut world, 5, 3, Phase::Closing);
    assert_eq!(
        told(&world),
        (4, true, false),
        "the late word counts no more"
    );
    daemons_say(&mut world, 5, 5, Phase::Nobody);
    assert_eq!(told(&world), (5, false, false));
    // Of an epoch whose primary has not said that it is one: kept, and not obeyed yet.
    daemons_say(&mut world, 6, 9, Phase::Closing);
    assert_eq!(told(&world), (5, false, false));
    // Asked for again, also by one that heard nothing of it.
    world.word = Some(Word {
        group: "mymaster".to_owned(),
        rank: Rank {
            epoch: 5,
            host: HostId::default(),
            turn: 6,
        },
        phase: Phase::Serving,
    });
    world.run(Duration::from_secs(2));
    assert_eq!(told(&world), (6, true, false));
}
