//! Rules in one fleet: votes, hellos, settings, scripts, what is forgotten, and what is said first.

use std::time::Duration;

use tandem_resp::Value;

use super::stories::{SETTLE, agreed_on_another, assert_whole, ms, promotions, settled};
use super::view::Plan;
use super::world::{World, group_name, server_at};
use crate::sentinel::Sentinel;
use crate::sentinel::forget::{PEER_AGE, REPLICA_AGE};
use crate::sentinel::hello::Hello;
use crate::sentinel::ids::{ConfigEpoch, ElectionEpoch, Endpoint, GroupName, SentinelId};
use crate::sentinel::io::{Input, Output};
use crate::sentinel::model::{Lineage, LinkId, ReportedRole};
use crate::sentinel::random::Random;
use crate::sentinel::saved::{SavedGroup, SavedState};
use crate::sentinel::select::Unfit;
use crate::sentinel::settings::{Globals, GroupSettings, Periods};

#[test]
fn no_vote_leaves_that_is_not_on_disk() {
    let mut world = settled(&Plan::default());
    world.nodes[1].disk_broken = true;
    let id = "f".repeat(40);
    let request = world.ask(1, &format!("is-master-down-by-addr 10.0.1.1 6379 7 {id}"));
    assert!(!world.answers.contains_key(&request), "held back");
    world.run_for(ms(10));
    let answer = world.answers[&request].as_array().unwrap();
    assert_eq!(answer[1], Value::Bulk(b"*".to_vec()));
    assert!(world.count("-save-failed") > 0);
    // In memory it stays given: nobody else gets it.
    world.nodes[1].disk_broken = false;
    let other = "e".repeat(40);
    let request = world.ask(
        1,
        &format!("is-master-down-by-addr 10.0.1.1 6379 7 {other}"),
    );
    world.run_for(ms(2_000));
    let answer = world.answers[&request].as_array().unwrap();
    assert_eq!(answer[1], Value::Bulk(id.into_bytes()));
    assert_eq!(answer[2], Value::Integer(7));
}

#[test]
fn one_vote_per_election_and_none_from_the_far_future() {
    let mut world = settled(&Plan::default());
    let (one, other) = ("f".repeat(40), "e".repeat(40));
    let ask = |world: &mut World, epoch: u64, id: &str| {
        let words = format!("is-master-down-by-addr 10.0.1.1 6379 {epoch} {id}");
        let request = world.ask(0, &words);
        world.run_for(ms(10));
        let answer = world.answers[&request].as_array().unwrap().to_vec();
        (
            answer[1].as_str().unwrap().to_owned(),
            answer[2].as_integer().unwrap(),
        )
    };
    assert_eq!(ask(&mut world, 5, "*"), ("*".to_owned(), 0));
    assert_eq!(ask(&mut world, 5, &one), (one.clone(), 5));
    assert_eq!(ask(&mut world, 5, &other), (one.clone(), 5));
    assert_eq!(ask(&mut world, 4, &other), (one.clone(), 5));
    assert_eq!(ask(&mut world, 1 << 62, &other), (one, 5));
    assert_eq!(ask(&mut world, 6, &other), (other, 6));
}

#[test]
fn strange_hellos_change_nothing() {
    let mut world = settled(&Plan::default());
    let own = world.nodes[0].sentinel.id.clone();
    let stranger = "f".repeat(40);
    let far = 1_u64 << 63;
    let hellos = [
        format!("10.0.0.9,26379,{own},9,orders,10.0.1.2,6379,9"),
        format!("10.0.0.9,26379,{stranger},{far},orders,10.0.1.2,6379,1"),
        format!("10.0.0.9,26379,{stranger},1,orders,10.0.1.2,6379,{far}"),
        format!("10.0.0.9,26379,{stranger},1,invoices,10.0.1.2,6379,9"),
        format!("sentinel.example,26379,{stranger},1,orders,10.0.1.2,6379,9"),
        "nonsense".to_owned(),
    ];
    for hello in hellos {
        world.nodes[0].sentinel.take_hello(hello.as_bytes());
        world.input(0, Input::Tick);
        assert_eq!(world.address(0), server_at(1), "{hello}");
        assert_eq!(world.group(0).peers.len(), 2, "{hello}");
    }
    assert_eq!(world.count("-hello-refused"), 2);
}

#[test]
fn a_sentinel_that_moved_is_the_same_one() {
    let mut world = settled(&Plan::default());
    let peer = world.nodes[1].sentinel.id.clone();
    let hello = format!("10.0.0.77,26380,{peer},0,orders,10.0.1.1,6379,0");
    world.nodes[0].sentinel.take_hello(hello.as_bytes());
    world.input(0, Input::Tick);
    assert_eq!(
        world.group(0).peers[&peer].at,
        Endpoint::new("10.0.0.77", 26380)
    );
    assert_eq!(world.count("+sentinel-address-switch"), 1);
    // Another one at the same address takes the place of the one that was there.
    let other = "f".repeat(40);
    let hello = format!("10.0.0.77,26380,{other},0,orders,10.0.1.1,6379,0");
    world.nodes[0].sentinel.take_hello(hello.as_bytes());
    world.input(0, Input::Tick);
    assert!(!world.group(0).peers.contains_key(&peer));
    assert_eq!(world.count("+sentinel-invalid-addr"), 1);
}

/// Everything that can stand in a hello comes out of it as it went in, and no bytes make the parser do anything but refuse.
#[test]
fn any_hello_reads_back_and_any_bytes_are_refused_quietly() {
    let mut random = Random::new(11);
    for _ in 0..2_000 {
        let mut number = |below: u64| random.next() % below;
        let hello = Hello {
            at: Endpoint::new(
                format!("10.{}.0.1", number(256)),
                u16::try_from(1 + number(65_535)).unwrap(),
            ),
            id: SentinelId::parse(&format!("{:040x}", number(u64::MAX))).unwrap(),
            current_epoch: ElectionEpoch(number(u64::MAX)),
            group: GroupName(format!("g-{}", number(1_000))),
            primary: Endpoint::new("fe80::1", u16::try_from(1 + number(65_535)).unwrap()),
            config_epoch: ConfigEpoch(number(u64::MAX)),
        };
        let text = hello.format();
        assert_eq!(Hello::parse(text.as_bytes()), Ok(hello));
        let mut bytes = text.into_bytes();
        let at = usize::try_from(number(bytes.len() as u64)).unwrap();
        bytes[at] = u8::try_from(number(256)).unwrap();
        if let Ok(other) = Hello::parse(&bytes) {
            assert_eq!(Hello::parse(other.format().as_bytes()), Ok(other));
        }
    }
}

fn boot(settings: GroupSettings, globals: Globals) -> Vec<Output> {
    let state = SavedState {
        id: SentinelId::parse(&"c0ffee11".repeat(5)).unwrap(),
        current_epoch: ElectionEpoch(0),
        globals,
        groups: vec![SavedGroup {
            settings,
            primary: server_at(1),
            config_epoch: ConfigEpoch(0),
            leader_epoch: ElectionEpoch(0),
            replicas: Vec::new(),
            peers: Vec::new(),
        }],
    };
    Sentinel::new(state, Periods::default(), 1, crate::testing::origin()).1
}

#[test]
fn what_is_said_first_on_each_connection() {
    let mut settings = GroupSettings::new(group_name(), 2, &Periods::default());
    settings.auth_user = Some("watch".to_owned());
    settings.auth_pass = Some("a b".to_owned());
    settings
        .rename_commands
        .insert("PING".to_owned(), "GNIP".to_owned());
    let said: Vec<String> = boot(settings, Globals::default())
        .into_iter()
        .filter_map(|output| match output {
            Output::Send { argv, .. } => Some(
                argv.iter()
                    .map(|word| String::from_utf8_lossy(word).into_owned())
                    .collect::<Vec<_>>()
                    .join("|"),
            ),
            _ => None,
        })
        .collect();
    assert_eq!(
        said,
        [
            "AUTH|watch|a b",
            "CLIENT|SETNAME|sentinel-c0ffee11-cmd",
            "GNIP",
            "INFO",
            "AUTH|watch|a b",
            "CLIENT|SETNAME|sentinel-c0ffee11-pubsub",
            "SUBSCRIBE|__sentinel__:hello",
        ]
    );
}

#[test]
fn an_address_with_port_0_is_left_alone() {
    let mut state = SavedState {
        id: SentinelId::parse(&"a".repeat(40)).unwrap(),
        current_epoch: ElectionEpoch(0),
        globals: Globals::default(),
        groups: Vec::new(),
    };
    state.groups.push(SavedGroup {
        settings: GroupSettings::new(group_name(), 1, &Periods::default()),
        primary: Endpoint::new("10.0.0.1", 0),
        config_epoch: ConfigEpoch(0),
        leader_epoch: ElectionEpoch(0),
        replicas: Vec::new(),
        peers: Vec::new(),
    });
    let (_, outputs) = Sentinel::new(state, Periods::default(), 1, crate::testing::origin());
    let connects = |output: &Output| matches!(output, Output::Connect { .. });
    assert!(!outputs.iter().any(connects), "{outputs:?}");
}

#[test]
fn a_change_is_answered_when_it_is_on_disk() {
    let mut world = settled(&Plan::default());
    let request = world.ask(0, "set orders quorum 1 auth-pass secret");
    assert!(!world.answers.contains_key(&request), "not yet");
    world.run_for(ms(10));
    assert!(world.answers[&request].is_ok());
    assert_eq!(world.group(0).settings.quorum, 1);
    let said: Vec<&str> = world
        .told
        .iter()
        .filter(|told| told.name == "+set")
        .map(|told| told.payload.as_str())
        .collect();
    assert_eq!(
        said,
        [
            "master orders 10.0.1.1 6379 quorum 1",
            "master orders 10.0.1.1 6379 auth-pass ******",
        ]
    );
    world.nodes[0].disk_broken = true;
    let request = world.ask(0, "flushconfig");
    world.run_for(ms(10));
    let error = world.answers[&request].as_error().unwrap();
    assert!(
        error.starts_with(b"ERR Failed to save config file"),
        "{error:?}"
    );
    world.nodes[0].disk_broken = false;

    let request = world.ask(0, "monitor invoices 10.0.1.9 6379 2");
    world.run_for(ms(2_000));
    assert!(world.answers[&request].is_ok());
    assert!(
        world.nodes[0]
            .sentinel
            .names
            .contains_key(&GroupName("invoices".to_owned()))
    );
    let request = world.ask(0, "remove invoices");
    world.run_for(ms(10));
    assert!(world.answers[&request].is_ok());
    assert_eq!(world.count("-monitor"), 1);
    let request = world.ask(0, "reset *");
    assert_eq!(world.answers[&request], Value::Integer(1));
    assert!(world.group(0).peers.is_empty());
    world.run_for(SETTLE);
    assert_whole(&world);
    assert_eq!(world.group(0).peers.len(), 2);
}

#[test]
fn scripts_are_told_who_takes_over() {
    let mut world = World::new(&Plan::default());
    for node in &mut world.nodes {
        for group in node.sentinel.groups.values_mut() {
            group.settings.client_reconfig_script = Some("/bin/reconf".to_owned());
            group.settings.notification_script = Some("/bin/notify".to_owned());
        }
    }
    world.run_for(SETTLE);
    world.kill(&server_at(1));
    world.run_for(SETTLE);
    let new = world.address(0);
    let told = |role: &str| {
        let expected = format!(
            "/bin/reconf orders {role} start 10.0.1.1 6379 {} 6379",
            new.host
        );
        world
            .scripts
            .iter()
            .filter(|(_, argv)| argv.join(" ") == expected)
            .count()
    };
    assert_eq!(
        (told("leader"), told("observer")),
        (1, 2),
        "{:?}",
        world.scripts
    );
    let notified =
        |(_, argv): &&(usize, Vec<String>)| argv[..2] == ["/bin/notify", "+switch-master"];
    assert_eq!(world.scripts.iter().filter(notified).count(), 3);
}

#[test]
fn what_speaks_against_a_replica() {
    let world = settled(&Plan::default());
    let group = world.group(0).clone();
    let at = server_at(2);
    let sentinel = &world.nodes[0].sentinel;
    let now = world.now;
    let judge = |change: &dyn Fn(&mut crate::sentinel::model::Group)| {
        let mut group = group.clone();
        change(&mut group);
        let replica = group.replicas[&at].clone();
        sentinel.eligible(&group, &replica)
    };
    assert_eq!(judge(&|_| {}), Ok(()));
    type Change<'a> = &'a dyn Fn(&mut crate::sentinel::model::Replica);
    let other = |lineage: &mut Option<Lineage>| {
        let lineage = lineage.as_mut().unwrap();
        lineage.replid = "b".repeat(40);
        lineage.replid2 = String::new();
    };
    let table: [(Change<'_>, Unfit); 10] = [
        (&|it| it.down.subjective = Some(now), Unfit::Down),
        (&|it| it.link = LinkId(0), Unfit::Disconnected),
        (&|it| it.priority = 0, Unfit::PriorityZero),
        (&|it| it.observed.info_at = None, Unfit::Stale),
        (
            &|it| it.link_down = Duration::from_secs(11),
            Unfit::Detached,
        ),
        (&|it| it.syncing = true, Unfit::Syncing),
        (&|it| it.refused = Some(now), Unfit::Refused),
        (&|it| other(&mut it.observed.lineage), Unfit::OtherLineage),
        (&|it| it.observed.lineage = None, Unfit::OtherLineage),
        (&|it| it.observed.keys = 0, Unfit::Empty),
    ];
    for (change, unfit) in table {
        let judged = judge(&|group| change(group.replicas.get_mut(&at).unwrap()));
        assert_eq!(judged, Err(unfit));
    }
    // Nothing was ever seen of the primary: then the majority's history counts.
    let unseen = judge(&|group| {
        group.primary.observed.lineage = None;
        for replica in group.replicas.values_mut() {
            other(&mut replica.observed.lineage);
        }
    });
    assert_eq!(unseen, Ok(()));
    let alone = judge(&|group| {
        group.primary.observed.lineage = None;
        other(&mut group.replicas.get_mut(&at).unwrap().observed.lineage);
    });
    assert_eq!(alone, Err(Unfit::OtherLineage));
}

#[test]
fn what_is_gone_for_good_is_forgotten_by_the_majority_alone() {
    let mut world = settled(&Plan::default());
    world.stop(2);
    world.kill(&server_at(3));
    world.run_for(SETTLE);
    let dead = world.nodes[2].sentinel.id.clone();
    let later = |world: &mut World, time: Duration| {
        // Nothing is heard of the dead for that long; the living are heard all the time.
        let from = world
            .now
            .checked_sub(time)
            .expect("the clock began long ago");
        for node in 0..2 {
            let sentinel = &mut world.nodes[node].sentinel;
            for group in sentinel.groups.values_mut() {
                if let Some(peer) = group.peers.get_mut(&dead) {
                    peer.last_seen = from;
                }
                if let Some(replica) = group.replicas.get_mut(&server_at(3)) {
                    replica.last_seen = from;
                }
            }
        }
        world.run_for(SETTLE);
    };
    later(&mut world, PEER_AGE);
    for node in 0..2 {
        assert!(!world.group(node).peers.contains_key(&dead), "node {node}");
        assert!(
            world.group(node).replicas.contains_key(&server_at(3)),
            "node {node}"
        );
    }
    assert_eq!(world.count("-sentinel-forgotten"), 2);
    later(&mut world, REPLICA_AGE);
    assert!(!world.group(0).replicas.contains_key(&server_at(3)));
    assert_eq!(world.count("-slave-forgotten"), 2);
    // One alone is no majority of two, however long the other is silent.
    world.stop(1);
    world.run_for(SETTLE);
    let other = world.nodes[1].sentinel.id.clone();
    let from = world
        .now
        .checked_sub(PEER_AGE)
        .expect("the clock began long ago");
    let id = world.group(0).id;
    let group = world.nodes[0].sentinel.groups.get_mut(&id).unwrap();
    group.peers.get_mut(&other).unwrap().last_seen = from;
    world.run_for(SETTLE);
    assert!(world.group(0).peers.contains_key(&other));
}

#[test]
fn a_planned_change_that_is_overtaken_lets_writes_go_on() {
    let mut world = settled(&Plan::default());
    world.server(&server_at(2)).lazy = true;
    world.server(&server_at(3)).lazy = true;
    world.server(&server_at(1)).offset += 500;
    world.ask(0, "failover orders");
    world.run_for(ms(50));
    assert!(world.writable().is_empty(), "paused");
    // Somebody else has won a newer configuration.
    let peer = world.nodes[1].sentinel.id.clone();
    let hello = format!("10.0.0.1,26379,{peer},9,orders,10.0.1.2,6379,9");
    world.nodes[0].sentinel.take_hello(hello.as_bytes());
    world.input(0, Input::Tick);
    world.run_for(ms(5));
    assert_eq!(world.address(0), server_at(2));
    assert_eq!(
        world.servers[&server_at(1)].told.last().unwrap(),
        "CLIENT UNPAUSE"
    );
    assert_eq!(promotions(&world), 0);
}

#[test]
fn a_replica_that_refuses_is_passed_over() {
    let mut world = settled(&Plan::default());
    world.server(&server_at(2)).priority = 1;
    world.server(&server_at(2)).denies = vec!["SLAVEOF"];
    world.run_for(SETTLE);
    world.kill(&server_at(1));
    assert!(
        world.run_till(ms(3_000), agreed_on_another),
        "{:#?}",
        world.told
    );
    assert!(world.agreed(&server_at(3)));
    let refused = world
        .first("-step-refused", Duration::ZERO)
        .expect("it is told");
    assert!(refused.payload.contains("NOPERM"), "{}", refused.payload);
    assert_eq!(world.group(0).primary.observed.role, ReportedRole::Primary);
}
