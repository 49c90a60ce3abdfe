//! What is left to the machine, and what is refused before.

use super::*;
use crate::sentinel::model::{Failover, Stage};
use crate::sentinel::settings::Compat;

/// Options and what they change.
type Effect<T> = (&'static str, fn(&mut T));

/// Carries out SET as the machine does: the settings after it, the texts of its events, and its error.
fn set(world: &World, options: &str) -> (GroupSettings, Vec<String>, Option<String>) {
    let Change::Set {
        group,
        changes,
        error,
    } = world.change(&format!("set m {options}"))
    else {
        panic!("no SET");
    };
    assert_eq!(group.0, "m");
    let mut settings = world.groups[&GroupId(0)].settings.clone();
    for change in &changes {
        change.change.apply(&mut settings);
    }
    let said = changes.into_iter().map(|change| change.said).collect();
    (settings, said, error.map(|error| error.to_string()))
}

/// Commands that redis-sentinel 7.0.15 refused while it watched a group `m`, and what it said.
#[test]
fn refused_in_the_words_of_redis() {
    let world = World::new();
    for line in include_str!("refusals.tsv").lines() {
        let (command, expected) = line.split_once('\t').unwrap();
        let reply = match world.ask(command) {
            Outcome::Reply(reply) | Outcome::Change(Change::Simulate(_, reply)) => reply,
            Outcome::Change(
                Change::Set {
                    error: Some(error), ..
                }
                | Change::Periods {
                    error: Some(error), ..
                },
            ) => error.reply(),
            Outcome::Change(other) => panic!("{command} is not refused: {other:?}"),
        };
        let error = reply.as_error().map(text);
        assert_eq!(error.as_deref(), Some(expected), "{command}");
    }
}

#[test]
fn every_option_of_set_has_its_effect() {
    let mut world = World::new();
    world.m().settings.rename_commands = [("CONFIG".to_owned(), "guess".to_owned())].into();
    let before = world.m().settings.clone();
    let table: &[Effect<GroupSettings>] = &[
        ("down-after-milliseconds 5000", |s| {
            s.down_after = Duration::from_secs(5);
        }),
        ("failover-timeout 60000", |s| {
            s.failover_timeout = Duration::from_secs(60);
        }),
        ("parallel-syncs 3", |s| s.parallel_syncs = 3),
        ("quorum 4", |s| s.quorum = 4),
        ("notification-script /bin/notify", |s| {
            s.notification_script = Some("/bin/notify".to_owned());
        }),
        ("client-reconfig-script /bin/notify", |s| {
            s.client_reconfig_script = Some("/bin/notify".to_owned());
        }),
        ("auth-pass geheim", |s| {
            s.auth_pass = Some("geheim".to_owned());
        }),
        ("auth-user anna", |s| s.auth_user = Some("anna".to_owned())),
        ("rename-command slaveof hidden", |s| {
            s.rename_commands
                .insert("SLAVEOF".to_owned(), "hidden".to_owned());
        }),
        ("rename-command config CONFIG", |s| {
            s.rename_commands.clear();
        }),
        ("master-reboot-down-after-period 0", |s| {
            s.reboot_down_after = Duration::ZERO;
        }),
        ("primary-reboot-down-after-period 1000", |s| {
            s.reboot_down_after = Duration::from_secs(1);
        }),
        ("QUORUM 4 Parallel-Syncs 3", |s| {
            s.quorum = 4;
            s.parallel_syncs = 3;
        }),
    ];
    for (options, effect) in table {
        let mut expected = before.clone();
        effect(&mut expected);
        let (after, _, error) = set(&world, options);
        assert_eq!((after, error), (expected, None), "{options}");
    }
}

#[test]
fn an_empty_word_takes_the_setting_away() {
    let mut world = World::new();
    let settings = &mut world.m().settings;
    settings.auth_pass = Some("geheim".to_owned());
    settings.auth_user = Some("anna".to_owned());
    settings.notification_script = Some("/bin/notify".to_owned());
    let (after, _, error) = set(&world, "auth-pass '' auth-user '' notification-script ''");
    assert_eq!(error, None);
    assert_eq!(
        (after.auth_pass, after.auth_user, after.notification_script),
        (None, None, None)
    );
}

#[test]
fn events_say_what_was_set_but_no_password() {
    let (_, said, _) = set(
        &World::new(),
        "Quorum 4 auth-pass geheim auth-user anna rename-command CONFIG guess",
    );
    assert_eq!(
        said,
        [
            "Quorum 4",
            "auth-pass ******",
            "auth-user anna",
            "rename-command CONFIG guess"
        ]
    );
}

#[test]
fn links_are_made_anew_for_a_new_name_or_password_only() {
    let world = World::new();
    for (options, drops) in [
        ("auth-pass x", true),
        ("auth-user x", true),
        ("quorum 3", false),
        ("rename-command INFO hidden", false),
    ] {
        let Change::Set { changes, .. } = world.change(&format!("set m {options}")) else {
            panic!("no SET");
        };
        assert_eq!(changes[0].change.drops_server_links(), drops, "{options}");
    }
    for (option, drops) in [
        ("sentinel-user x", true),
        ("sentinel-pass x", true),
        ("announce-ip 10.0.0.1", false),
    ] {
        let Change::Config(changes) = world.change(&format!("config set {option}")) else {
            panic!("no CONFIG SET");
        };
        assert_eq!(changes[0].drops_peer_links(), drops, "{option}");
    }
}

/// Every refusal of SET, each after an option that is right and therefore set.
#[test]
fn set_keeps_what_stood_before_an_error() {
    let unknown = "ERR Unknown option or number of arguments for SENTINEL SET";
    let invalid = |value: &str, option: &str| {
        format!("ERR Invalid argument '{value}' for SENTINEL SET '{option}'")
    };
    let table = [
        ("nonsense 1", format!("{unknown} 'nonsense'")),
        ("parallel-syncs", format!("{unknown} 'parallel-syncs'")),
        ("rename-command INFO", format!("{unknown} 'rename-command'")),
        (
            "down-after-milliseconds 0",
            invalid("0", "down-after-milliseconds"),
        ),
        ("failover-timeout -1", invalid("-1", "failover-timeout")),
        ("failover-timeout 1s", invalid("1s", "failover-timeout")),
        ("parallel-syncs 0", invalid("0", "parallel-syncs")),
        ("quorum 0", invalid("0", "quorum")),
        ("quorum 4294967296", invalid("4294967296", "quorum")),
        ("Quorum x", invalid("x", "Quorum")),
        (
            "master-reboot-down-after-period -1",
            invalid("-1", "master-reboot-down-after-period"),
        ),
        ("rename-command '' x", invalid("", "rename-command")),
        ("rename-command INFO ''", invalid("", "rename-command")),
        ("auth-pass a\nsentinel", invalid("a\nsentinel", "auth-pass")),
        (
            "notification-script /bin/none",
            "ERR Notification script seems non existing or non executable".to_owned(),
        ),
        (
            "client-reconfig-script /bin/none",
            "ERR Client reconfiguration script seems non existing or non executable".to_owned(),
        ),
    ];
    let world = World::new();
    for (options, expected) in table {
        let (after, said, error) = set(&world, &format!("quorum 7 {options}"));
        assert_eq!(error, Some(expected), "{options}");
        assert_eq!(after.quorum, 7, "{options}");
        assert_eq!(said, ["quorum 7"], "{options}");
    }
}

#[test]
fn scripts_may_be_denied() {
    let mut world = World::new();
    world.globals.deny_scripts_reconfig = true;
    for option in ["notification-script", "client-reconfig-script"] {
        let (_, _, error) = set(&world, &format!("{option} /bin/notify"));
        assert!(
            error.is_some_and(
                |error| error.starts_with("ERR Reconfiguration of scripts path is denied")
            ),
            "{option}"
        );
    }
}

#[test]
fn the_shell_is_told_which_scripts_to_look_at() {
    let line = "SET m quorum 2 notification-script /a rename-command a b client-reconfig-script /b";
    assert_eq!(scripts_named(&words(line)), ["/a", "/b"]);
    for line in [
        "set m",
        "set m notification-script",
        "masters",
        "set m notification-script ''",
    ] {
        assert!(scripts_named(&words(line)).is_empty(), "{line}");
    }
}

#[test]
fn monitor_takes_the_defaults_of_its_time() {
    let mut world = World::new();
    world.periods.default_down_after = Duration::from_secs(3);
    let Change::Monitor { settings, primary } = world.change("monitor n 10.0.0.1 6379 2") else {
        panic!("no MONITOR");
    };
    assert_eq!(primary, Endpoint::new("10.0.0.1", 6379));
    assert_eq!(settings.quorum, 2);
    assert_eq!(settings.down_after, Duration::from_secs(3));
    assert_eq!(settings.name.0, "n");
}

#[test]
fn monitor_refuses() {
    let mut world = World::new();
    let long = "x".repeat(GROUP_NAME_MAX + 1);
    let long = format!("monitor {long} 10.0.0.1 6379 2");
    let table = [
        ("monitor m 10.0.0.1 6379 2", "ERR Duplicate master name."),
        ("monitor n 10.0.0.1 65536 2", "ERR Invalid port number."),
        ("monitor m 10.0.0.1 -1 2", "ERR Invalid port number."),
        (
            "monitor n host 6379 2",
            "ERR Invalid IP address or hostname specified",
        ),
        (
            "monitor m host 65536 2",
            "ERR Invalid IP address or hostname specified",
        ),
        ("monitor '' 10.0.0.1 6379 2", "ERR Invalid master name."),
        ("monitor a,b 10.0.0.1 6379 2", "ERR Invalid master name."),
        ("monitor a\nb 10.0.0.1 6379 2", "ERR Invalid master name."),
        (&long, "ERR Invalid master name."),
    ];
    for (line, expected) in table {
        assert_eq!(world.error(line), expected, "{line}");
    }
    world.globals.resolve_hostnames = true;
    assert!(matches!(
        world.change("monitor n db-1.example 6379 2"),
        Change::Monitor { .. }
    ));
    assert_eq!(
        world.error("monitor n db;1 6379 2"),
        "ERR Invalid IP address or hostname specified"
    );
}

#[test]
fn reset_names_the_groups_of_the_pattern() {
    let mut world = World::new();
    world.add("m2", 7101);
    world.add("other", 7201);
    let names = |pattern: &str| match world.change(&format!("reset {pattern}")) {
        Change::Reset(names) => names.into_iter().map(|name| name.0).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(names("m*"), ["m", "m2"]);
    assert_eq!(names("*"), ["m", "m2", "other"]);
    assert!(names("M*").is_empty());
}

#[test]
fn a_failover_is_begun_once() {
    let mut world = World::new();
    assert_eq!(
        world.change("failover m"),
        Change::Failover(GroupName("m".to_owned()))
    );
    let now = world.now;
    world.m().failover = Some(Failover {
        epoch: ElectionEpoch(3),
        stage: Stage::Electing,
        stage_since: now,
        forced: false,
        chosen: None,
        old: None,
        handover: None,
        act_at: None,
        asked_at: now,
        again_at: None,
        by_word: false,
    });
    assert_eq!(
        world.error("failover m"),
        "INPROG Failover already in progress"
    );
}

#[test]
fn questions_of_peers_are_the_machine_s() {
    let world = World::new();
    let line = format!("is-master-down-by-addr 127.0.0.1 7001 12 {THEIRS}");
    let expected = DownQuestion {
        at: Endpoint::new("127.0.0.1", 7001),
        epoch: ElectionEpoch(12),
        candidate: Some(id(THEIRS)),
    };
    assert_eq!(world.change(&line), Change::Opinion(expected));
    // Where nobody can be, nobody is down.
    let nowhere = format!("is-master-down-by-addr 127.0.0.1 72537 12 {THEIRS}");
    assert_eq!(
        world.reply(&nowhere),
        opinion(false, None, ElectionEpoch(0))
    );
}

#[test]
fn failures_are_simulated_as_far_as_they_are_known() {
    let world = World::new();
    let both = Simulate {
        after_election: true,
        after_promotion: true,
    };
    let first = Simulate {
        after_promotion: false,
        ..both
    };
    assert_eq!(
        world.change("simulate-failure Crash-After-Election crash-after-promotion"),
        Change::Simulate(both, ok())
    );
    let names = ["crash-after-election", "crash-after-promotion"].map(instance::bulk);
    assert_eq!(
        world.change("simulate-failure crash-after-election help"),
        Change::Simulate(first, Value::Array(names.to_vec()))
    );
    assert_eq!(
        world.change("simulate-failure crash-after-election nonsense"),
        Change::Simulate(first, CommandError::UnknownFailure.reply())
    );
    assert_eq!((first.flags(), both.flags()), (1, 3));
}

#[test]
fn config_of_7_0_takes_one_setting() {
    let mut world = World::new();
    assert_eq!(
        pairs(&world.reply("config get *")),
        [
            "resolve-hostnames=no",
            "announce-hostnames=no",
            "announce-ip=",
            "announce-port=0",
            "sentinel-user=",
            "sentinel-pass="
        ]
    );
    assert_eq!(
        pairs(&world.reply("config get ANNOUNCE-[ip]*")),
        ["announce-ip=", "announce-port=0"]
    );
    assert!(pairs(&world.reply("config get nonsense")).is_empty());
    let table: &[Effect<Globals>] = &[
        ("resolve-hostnames Yes", |g| g.resolve_hostnames = true),
        ("announce-hostnames yes", |g| g.announce_hostnames = true),
        ("announce-ip 10.0.0.1", |g| {
            g.announce_ip = Some("10.0.0.1".to_owned());
        }),
        ("announce-ip ''", |g| g.announce_ip = None),
        ("announce-port 7", |g| g.announce_port = Some(7)),
        ("announce-port 0", |g| g.announce_port = None),
        ("sentinel-user anna", |g| {
            g.sentinel_user = Some("anna".to_owned());
        }),
        ("sentinel-pass geheim", |g| {
            g.sentinel_pass = Some("geheim".to_owned());
        }),
    ];
    for (line, apply) in table {
        let Change::Config(changes) = world.change(&format!("config set {line}")) else {
            panic!("no CONFIG SET");
        };
        let mut expected = world.globals.clone();
        apply(&mut expected);
        for change in changes {
            change.apply(&mut world.globals);
        }
        assert_eq!(world.globals, expected, "{line}");
    }
    for (line, expected) in [
        (
            "nonsense 1",
            "ERR Invalid argument 'nonsense' to SENTINEL CONFIG SET",
        ),
        (
            "loglevel debug",
            "ERR Invalid argument 'loglevel' to SENTINEL CONFIG SET",
        ),
        (
            "resolve-hostnames 1",
            "ERR Invalid value '1' to SENTINEL CONFIG SET 'resolve-hostnames'",
        ),
        (
            "announce-port 65536",
            "ERR Invalid value '65536' to SENTINEL CONFIG SET 'announce-port'",
        ),
    ] {
        assert_eq!(world.error(&format!("config set {line}")), expected);
    }
}

#[test]
fn config_of_7_2_takes_several_or_none() {
    let mut world = World::new();
    world.globals.compat = Compat::V7_2;
    assert_eq!(
        pairs(&world.reply("config get loglevel announce-p* *-port")),
        ["loglevel=notice", "announce-port=0"]
    );
    assert_eq!(
        world.change("config set announce-port 7 LogLevel Warning"),
        Change::Config(vec![
            ConfigChange::AnnouncePort(Some(7)),
            ConfigChange::LogLevel(LogLevel::Warning)
        ])
    );
    for (line, expected) in [
        (
            "announce-port 7 announce-port 8",
            "ERR Duplicate argument 'announce-port' to SENTINEL CONFIG SET",
        ),
        (
            "announce-port 7 announce-ip",
            "ERR Missing argument 'announce-ip' value",
        ),
        (
            "announce-port 7 loglevel loud",
            "ERR Invalid value 'loud' to SENTINEL CONFIG SET 'loglevel'",
        ),
        (
            "announce-port 7 nonsense 8",
            "ERR Invalid argument 'nonsense' to SENTINEL CONFIG SET",
        ),
    ] {
        assert_eq!(world.error(&format!("config set {line}")), expected);
    }
}
