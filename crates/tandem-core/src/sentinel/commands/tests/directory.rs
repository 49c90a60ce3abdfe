//! Replies that only read. The expected ones are written down from a real redis-sentinel 7.0.15 in the same state.

use tandem_resp::Protocol;

use super::*;
use crate::sentinel::model::{Down, Failover, Reconf, ReportedRole, Stage};
use crate::sentinel::settings::Compat;

fn failover(stage: Stage, world: &World) -> Failover {
    Failover {
        epoch: ElectionEpoch(9),
        stage,
        stage_since: world.ago(50),
        forced: true,
        chosen: Some(Endpoint::new("127.0.0.1", 7002)),
        old: None,
        handover: None,
        act_at: None,
        asked_at: world.ago(60),
        again_at: None,
        by_word: false,
    }
}

/// The one member of an array.
fn only(value: &Value) -> Value {
    let Some([value]) = value.as_array() else {
        panic!("{value:?} is not one");
    };
    value.clone()
}

#[test]
fn a_healthy_primary_has_twenty_fields() {
    let world = World::new();
    assert_eq!(
        pairs(&world.reply("master m")),
        [
            "name=m",
            "ip=127.0.0.1",
            "port=7001",
            &format!("runid={}", "a".repeat(40)),
            "flags=master",
            "link-pending-commands=0",
            "link-refcount=1",
            "last-ping-sent=0",
            "last-ok-ping-reply=100",
            "last-ping-reply=100",
            "down-after-milliseconds=30000",
            "info-refresh=300",
            "role-reported=master",
            "role-reported-time=5000",
            "config-epoch=0",
            "num-slaves=1",
            "num-other-sentinels=1",
            "quorum=2",
            "failover-timeout=180000",
            "parallel-syncs=1",
        ]
    );
    assert_eq!(
        world.reply("masters"),
        Value::Array(vec![world.reply("master m")])
    );
}

#[test]
fn a_failing_primary_shows_what_becomes_of_it() {
    let mut world = World::new();
    world.m().failover = Some(failover(Stage::Electing, &world));
    let (subjective, objective) = (Some(world.ago(400)), Some(world.ago(300)));
    let pending = Some(world.ago(1400));
    let group = world.m();
    group.primary.down = Down {
        subjective,
        objective,
    };
    group.primary.script_kill_sent = true;
    group.primary.rebooted = subjective;
    group.primary.observed.role = ReportedRole::Replica;
    group.settings.notification_script = Some("/bin/notify".to_owned());
    group.settings.client_reconfig_script = Some("/bin/reconf".to_owned());
    let link = world.link_of_primary();
    link.pubsub = None;
    link.ping_pending = pending;
    outstanding(link);
    let shown = pairs(&world.reply("master m"));
    assert_eq!(
        shown[4..],
        [
            "flags=s_down,o_down,master,disconnected,failover_in_progress,force_failover,script_kill_sent",
            "link-pending-commands=1",
            "link-refcount=1",
            "failover-state=wait_start",
            "last-ping-sent=1400",
            "last-ok-ping-reply=100",
            "last-ping-reply=100",
            "s-down-time=400",
            "o-down-time=300",
            "down-after-milliseconds=30000",
            "info-refresh=300",
            "role-reported=slave",
            "role-reported-time=5000",
            "config-epoch=0",
            "num-slaves=1",
            "num-other-sentinels=1",
            "quorum=2",
            "failover-timeout=180000",
            "parallel-syncs=1",
            "notification-script=/bin/notify",
            "client-reconfig-script=/bin/reconf",
        ]
    );
    world.globals.compat = Compat::V7_2;
    assert!(pairs(&world.reply("master m"))[4].ends_with("script_kill_sent,master_reboot"));
}

#[test]
fn a_replica_has_twenty_one_fields() {
    let mut world = World::new();
    let shown = only(&world.reply("replicas m"));
    assert_eq!(
        pairs(&shown),
        [
            "name=127.0.0.1:7002",
            "ip=127.0.0.1",
            "port=7002",
            &format!("runid={}", "b".repeat(40)),
            "flags=slave",
            "link-pending-commands=0",
            "link-refcount=1",
            "last-ping-sent=0",
            "last-ok-ping-reply=100",
            "last-ping-reply=100",
            "down-after-milliseconds=30000",
            "info-refresh=200",
            "role-reported=slave",
            "role-reported-time=4000",
            "master-link-down-time=0",
            "master-link-status=ok",
            "master-host=127.0.0.1",
            "master-port=7001",
            "slave-priority=100",
            "slave-repl-offset=42",
            "replica-announced=1",
        ]
    );
    assert_eq!(world.reply("slaves m"), Value::Array(vec![shown]));

    let replica = world.m().replicas.values_mut().next().unwrap();
    replica.follows = None;
    replica.link_up = false;
    replica.link_down = Duration::from_secs(7);
    replica.promoted = true;
    replica.reconf = Some(Reconf::InProgress);
    replica.observed.info_at = None;
    let shown = pairs(&only(&world.reply("replicas m")));
    assert_eq!(shown[4], "flags=slave,promoted,reconf_inprog");
    assert_eq!(shown[11], "info-refresh=0");
    assert_eq!(
        shown[14..18],
        [
            "master-link-down-time=7000",
            "master-link-status=err",
            "master-host=?",
            "master-port=0"
        ]
    );
    // Never linked: INFO says -1 s, and Redis makes milliseconds of it.
    world.m().replicas.values_mut().next().unwrap().never_linked = true;
    let shown = pairs(&only(&world.reply("replicas m")));
    assert_eq!(shown[14], "master-link-down-time=-1000");
}

#[test]
fn a_replica_that_is_not_announced_is_counted_but_not_shown() {
    let mut world = World::new();
    world.m().replicas.values_mut().next().unwrap().announced = false;
    assert_eq!(world.reply("replicas m"), Value::Array(Vec::new()));
    assert!(pairs(&world.reply("master m")).contains(&"num-slaves=1".to_owned()));
}

#[test]
fn another_sentinel_has_fourteen_fields() {
    let mut world = World::new();
    let shown = only(&world.reply("sentinels m"));
    assert_eq!(
        pairs(&shown),
        [
            &format!("name={THEIRS}"),
            "ip=127.0.0.1",
            "port=26380",
            &format!("runid={THEIRS}"),
            "flags=sentinel",
            "link-pending-commands=0",
            "link-refcount=1",
            "last-ping-sent=0",
            "last-ok-ping-reply=100",
            "last-ping-reply=100",
            "down-after-milliseconds=30000",
            "last-hello-message=700",
            "voted-leader=?",
            "voted-leader-epoch=0",
        ]
    );
    let peer = world.m().peers.values_mut().next().unwrap();
    peer.primary_down = true;
    peer.vote = Some((id(OURS), ElectionEpoch(9)));
    let shown = only(&world.reply("sentinels m"));
    let shown = pairs(&shown);
    assert_eq!(shown[4], "flags=sentinel,master_down");
    assert_eq!(
        shown[12..],
        [
            format!("voted-leader={OURS}"),
            "voted-leader-epoch=9".to_owned()
        ]
    );
}

#[test]
fn clients_are_sent_to_the_promoted_replica_as_soon_as_it_is_confirmed() {
    let mut world = World::new();
    let at = |port: &str| Value::Array(vec![instance::bulk("127.0.0.1"), instance::bulk(port)]);
    let ask = "get-master-addr-by-name m";
    assert_eq!(world.reply(ask), at("7001"));
    for (stage, port) in [
        (Stage::Confirming, "7001"),
        (Stage::Reconfiguring, "7002"),
        (Stage::Updating, "7002"),
    ] {
        world.m().failover = Some(failover(stage, &world));
        assert_eq!(world.reply(ask), at(port));
    }
    // MASTER shows the configured one to the end.
    assert!(pairs(&world.reply("master m")).contains(&"port=7001".to_owned()));
}

#[test]
fn an_unknown_group_has_no_address_and_is_an_error_elsewhere() {
    let world = World::new();
    assert_eq!(world.reply("get-master-addr-by-name M"), Value::Null);
    assert!(answers_null_array(&words("GET-MASTER-ADDR-BY-NAME M")));
    assert!(!answers_null_array(&words("info-cache M")));
    for line in [
        "master x",
        "replicas x",
        "sentinels x",
        "ckquorum x",
        "failover x",
        "remove x",
        "set x quorum 2",
        "tandem explain x",
    ] {
        assert_eq!(
            world.error(line),
            "ERR No such master with that name",
            "{line}"
        );
    }
}

#[test]
fn names_are_shown_as_addresses_unless_they_are_announced() {
    let mut world = World::new();
    world.m().primary.at.host = "db.example".to_owned();
    let ip = |world: &World| pairs(&world.reply("master m"))[1].clone();
    assert_eq!(ip(&world), "ip=db.example", "not resolved yet");
    world
        .resolved
        .insert("db.example".to_owned(), "10.0.0.7".parse().unwrap());
    assert_eq!(ip(&world), "ip=10.0.0.7");
    world.globals.announce_hostnames = true;
    assert_eq!(ip(&world), "ip=db.example");
}

#[test]
fn the_quorum_counts_the_living_and_the_majority_all() {
    let mut world = World::new();
    let group = GroupId(0);
    world.add_peer(group, &"c".repeat(40), 26381);
    let good = "OK 3 usable Sentinels. Quorum and failover authorization can be reached";
    assert_eq!(world.reply("ckquorum m"), Value::Simple(good.into()));
    let since = Some(world.ago(10));
    let peers = |world: &mut World, down: usize| {
        for (at, peer) in world.m().peers.values_mut().enumerate() {
            peer.down.subjective = since.filter(|_| at < down);
        }
    };
    let no_quorum = "Not enough available Sentinels to reach the specified quorum for this master";
    let no_majority =
        "Not enough available Sentinels to reach the majority and authorize a failover";
    peers(&mut world, 1);
    assert!(world.reply("ckquorum m").as_error().is_none());
    world.m().settings.quorum = 3;
    assert_eq!(
        world.error("ckquorum m"),
        format!("NOQUORUM 2 usable Sentinels. {no_quorum}")
    );
    world.m().settings.quorum = 1;
    peers(&mut world, 2);
    assert_eq!(
        world.error("ckquorum m"),
        format!("NOQUORUM 1 usable Sentinels. {no_majority}")
    );
    world.m().settings.quorum = 2;
    assert_eq!(
        world.error("ckquorum m"),
        format!("NOQUORUM 1 usable Sentinels. {no_quorum}. {no_majority}")
    );
}

#[test]
fn cached_info_of_each_known_group_once() {
    let mut world = World::new();
    world.add("n", 7101);
    world.m().primary.observed.info = Some("# Server\r\n".to_owned());
    let one = |age, text: Option<&str>| {
        Value::Array(vec![
            Value::Integer(age),
            text.map_or(Value::Null, instance::bulk),
        ])
    };
    let m = Value::Array(vec![one(300, Some("# Server\r\n")), one(200, None)]);
    let n = Value::Array(vec![one(300, None)]);
    assert_eq!(
        world.reply("info-cache n m x m"),
        Value::Array(vec![instance::bulk("m"), m, instance::bulk("n"), n])
    );
}

#[test]
fn scripts_that_wait_and_run() {
    let mut world = World::new();
    world
        .scripts
        .push(vec!["/bin/a".to_owned(), "+sdown".to_owned()]);
    let (began, periods) = (world.ago(250), world.periods.clone());
    world.scripts.due(began, &periods);
    world.scripts.started(crate::sentinel::io::ScriptId(1), 77);
    world.scripts.push(vec!["/bin/b".to_owned()]);
    let Value::Array(jobs) = world.reply("pending-scripts") else {
        panic!("no array");
    };
    let show = |job: &Value| {
        let mut wire = Vec::new();
        job.encode(Protocol::Resp2, &mut wire);
        text(&wire).replace("\r\n", " ")
    };
    assert_eq!(
        show(&jobs[0]),
        "*10 $4 argv *2 $6 /bin/a $6 +sdown $5 flags $7 running $3 pid $2 77 $8 run-time $3 250 $9 retry-num $1 1 "
    );
    assert_eq!(
        show(&jobs[1]),
        "*10 $4 argv *1 $6 /bin/b $5 flags $9 scheduled $3 pid $1 0 $9 run-delay $1 0 $9 retry-num $1 0 "
    );
}

#[test]
fn role_and_info() {
    let mut world = World::new();
    world.add("n", 7101);
    let names = vec![instance::bulk("m"), instance::bulk("n")];
    assert_eq!(
        role(&world.view()),
        Value::Array(vec![instance::bulk("sentinel"), Value::Array(names)])
    );
    world.m().primary.down.subjective = Some(world.now);
    let section = |world: &World| text(info_section(&world.view()).as_bytes().unwrap());
    assert_eq!(
        section(&world),
        "# Sentinel\r\n\
         sentinel_masters:2\r\n\
         sentinel_tilt:0\r\n\
         sentinel_tilt_since_seconds:-1\r\n\
         sentinel_running_scripts:0\r\n\
         sentinel_scripts_queue_length:0\r\n\
         sentinel_simulate_failure_flags:0\r\n\
         master0:name=m,status=sdown,address=127.0.0.1:7001,slaves=1,sentinels=2\r\n\
         master1:name=n,status=ok,address=127.0.0.1:7101,slaves=0,sentinels=1\r\n"
    );
    world.tilt = Some(world.ago(2500));
    world.m().primary.down.objective = Some(world.now);
    let tilted = section(&world);
    assert!(tilted.contains("sentinel_tilt:1\r\nsentinel_tilt_since_seconds:2\r\n"));
    assert!(tilted.contains("status=odown"));
}

#[test]
fn opinions_as_peers_read_them() {
    let three = |down, leader: &str, epoch| {
        Value::Array(vec![
            Value::Integer(down),
            instance::bulk(leader),
            Value::Integer(epoch),
        ])
    };
    assert_eq!(opinion(false, None, ElectionEpoch(0)), three(0, "*", 0));
    assert_eq!(
        opinion(true, Some(&id(OURS)), ElectionEpoch(7)),
        three(1, OURS, 7)
    );
    // Nothing that a peer would read as negative.
    assert_eq!(
        opinion(true, None, ElectionEpoch(u64::MAX)),
        three(1, "*", i64::MAX)
    );
}

#[test]
fn who_we_are() {
    let world = World::new();
    assert_eq!(world.reply("myid"), instance::bulk(OURS));
    let Value::Array(words) = world.reply("tandem") else {
        panic!("no array");
    };
    assert_eq!(words[0], instance::bulk("tandem"));
    assert_eq!(words.len(), 2);
    let Value::Array(lines) = world.reply("help") else {
        panic!("no array");
    };
    assert!(
        lines[0]
            .as_str()
            .unwrap()
            .starts_with("SENTINEL <subcommand> ")
    );
}
