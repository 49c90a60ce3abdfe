//! Stories about `sentinel.conf`: what a file means, what is forgiven, what is refused, and how it is written back.

use std::path::Path;

use tandem_config::keepalived::MapFiles;
use tandem_config::sentinel::{
    AclUser, Compat, Document, Fatal, GroupConf, KnownReplica, KnownSentinel, Loaded, LogLevel,
    Overrides, RenamedCommand, Secret, SentinelConf, read,
};
use tandem_config::{Report, Severity};

const CONF: &str = "/etc/redis/sentinel.conf";
const MYID: &str = "0123456789abcdef0123456789abcdef01234567";

fn load(text: impl Into<Vec<u8>>) -> Loaded {
    load_with(&MapFiles::new().with(CONF, text), &[])
}

fn load_with(files: &MapFiles, arguments: &[&str]) -> Loaded {
    read(Path::new(CONF), files, &Overrides::parse(arguments))
}

fn good(text: &str) -> SentinelConf {
    let loaded = load(text);
    assert_eq!(codes(&loaded.report, Severity::Error), [""; 0], "{text}");
    loaded.conf
}

fn codes(report: &Report, severity: Severity) -> Vec<&'static str> {
    let all = report.diagnostics.iter();
    all.filter(|found| found.severity == severity)
        .map(|found| found.code)
        .collect()
}

fn render(document: &Document, conf: &SentinelConf) -> String {
    let text = document
        .render(conf)
        .expect("the configuration can be written");
    String::from_utf8(text).expect("the text is UTF-8")
}

/// One group `m` at 10.0.0.1 with more lines.
fn with_group(lines: &str) -> String {
    format!("sentinel monitor m 10.0.0.1 6379 2\n{lines}\n")
}

#[test]
fn every_statement_has_its_place_in_the_model() {
    let script = "/opt/notify.sh";
    let files = MapFiles::new().with(script, "").with(
        CONF,
        format!(
            "# a comment\n\
             # tandem: compat 7.2\n\
             PORT 26380\n\
             bind 10.0.0.5 -::1\n\
             protected-mode no\n\
             dir \"/var/lib/redis\"\n\
             loglevel verbose\n\
             logfile ''\n\
             requirepass \"se cret\"\n\
             user default on #ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad +@all\n\
             tls-port 26381\n\
             tls-auth-clients optional\n\
             Sentinel MONITOR m 10.0.0.1 6379 2\n\
             sentinel down-after-milliseconds m 1000\n\
             sentinel failover-timeout m 60000\n\
             sentinel parallel-syncs m 2\n\
             sentinel notification-script m {script}\n\
             sentinel client-reconfig-script m {script}\n\
             sentinel auth-pass m \"p q\"\n\
             sentinel auth-user m watcher\n\
             sentinel master-reboot-down-after-period m 5000\n\
             sentinel config-epoch m 7\n\
             sentinel leader-epoch m 8\n\
             sentinel known-replica m 10.0.0.2 6379\n\
             sentinel known-slave m 10.0.0.3 6379\n\
             sentinel known-sentinel m 10.0.0.6 26379 {MYID}\n\
             sentinel known-sentinel m 10.0.0.7 26379\n\
             sentinel rename-command m CONFIG geheim\n\
             sentinel current-epoch 9\n\
             sentinel myid ffffffffffffffffffffffffffffffffffffffff\n\
             sentinel announce-ip 192.0.2.1\n\
             sentinel announce-port 5000\n\
             sentinel resolve-hostnames yes\n\
             sentinel announce-hostnames YES\n\
             sentinel deny-scripts-reconfig no\n\
             sentinel sentinel-user peer\n\
             sentinel sentinel-pass peerpass\n"
        ),
    );
    let loaded = load_with(&files, &[]);
    assert!(
        loaded.report.diagnostics.is_empty(),
        "{}",
        loaded.report.render(false)
    );
    assert_eq!(loaded.fatal, None);

    let mut expected = SentinelConf {
        myid: Some("f".repeat(40)),
        current_epoch: 9,
        announce_ip: Some("192.0.2.1".into()),
        announce_port: Some(5000),
        resolve_hostnames: true,
        announce_hostnames: true,
        sentinel_user: Some("peer".into()),
        sentinel_pass: Some(Secret::new("peerpass")),
        deny_scripts_reconfig: false,
        compat: Compat::V7_2,
        ..SentinelConf::default()
    };
    let server = &mut expected.server;
    server.port = 26380;
    server.bind = vec!["10.0.0.5".into(), "-::1".into()];
    server.dir = Some("/var/lib/redis".into());
    server.loglevel = LogLevel::Verbose;
    server.requirepass = Some(Secret::new("se cret"));
    server.tls.port = 26381;
    server.tls.auth_clients = tandem_config::sentinel::TlsAuthClients::Optional;
    let hash = "#ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    expected.users = vec![AclUser {
        name: "default".into(),
        rules: vec!["on".into(), hash.into(), "+@all".into()],
    }];
    let mut group = GroupConf::new("m", "10.0.0.1", 6379, 2);
    group.down_after_ms = 1000;
    group.failover_timeout_ms = 60_000;
    group.parallel_syncs = 2;
    group.notification_script = Some(script.into());
    group.client_reconfig_script = Some(script.into());
    group.auth_pass = Some(Secret::new("p q"));
    group.auth_user = Some("watcher".into());
    group.master_reboot_down_after_ms = 5000;
    group.config_epoch = 7;
    group.leader_epoch = 8;
    group.known_replicas = vec![replica("10.0.0.2"), replica("10.0.0.3")];
    group.known_sentinels = vec![KnownSentinel {
        host: "10.0.0.6".into(),
        port: 26379,
        runid: MYID.into(),
    }];
    group.rename_commands = vec![RenamedCommand {
        from: "CONFIG".into(),
        to: "geheim".into(),
    }];
    expected.groups = vec![group];
    assert_eq!(loaded.conf, expected);
}

fn replica(host: &str) -> KnownReplica {
    KnownReplica {
        host: host.into(),
        port: 6379,
    }
}

#[test]
fn the_order_of_sentinel_lines_does_not_matter() {
    let conf = good(
        "sentinel known-replica m db2 6379\nsentinel down-after-milliseconds m 5\n\
         sentinel monitor m db1 6379 2\nsentinel resolve-hostnames yes\n",
    );
    assert_eq!(conf.groups[0].down_after_ms, 5);
    assert_eq!(conf.groups[0].known_replicas, [replica("db2")]);
}

#[test]
fn a_configuration_epoch_raises_the_current_one() {
    let conf = good(&with_group(
        "sentinel config-epoch m 7\nsentinel current-epoch 3",
    ));
    assert_eq!(conf.current_epoch, 7);
    assert_eq!(
        good(&with_group("sentinel leader-epoch m 7")).current_epoch,
        0
    );
}

#[test]
fn what_redis_writes_and_then_stumbles_over_is_forgiven() {
    struct Case {
        lines: &'static str,
        warning: &'static str,
        holds: fn(&SentinelConf) -> bool,
    }
    fn pass(conf: &SentinelConf) -> &[u8] {
        conf.groups[0].auth_pass.as_ref().unwrap().as_bytes()
    }
    let cases = [
        Case {
            lines: "sentinel auth-pass m two words",
            warning: "unquoted-value",
            holds: |conf| pass(conf) == b"two words",
        },
        Case {
            lines: "sentinel auth-pass m it's \"one\"x",
            warning: "unquoted-value",
            holds: |conf| pass(conf) == b"it's \"one\"x",
        },
        Case {
            lines: "sentinel auth-pass m \"quoted\" and more",
            warning: "unquoted-value",
            holds: |conf| pass(conf) == b"\"quoted\" and more",
        },
        Case {
            lines: "sentinel sentinel-pass a  b",
            warning: "unquoted-value",
            holds: |conf| conf.sentinel_pass.as_ref().unwrap().as_bytes() == b"a  b",
        },
        Case {
            lines: "sentinel auth-pass m ",
            warning: "unquoted-value",
            holds: |conf| conf.groups[0].auth_pass.is_none(),
        },
        Case {
            lines: "sentinel announce-port 99999",
            warning: "bad-port",
            holds: |conf| conf.announce_port.is_none(),
        },
        Case {
            lines: "sentinel known-slave m 10.0.0.2 6379\nsentinel known-replica m 10.0.0.2 6379",
            warning: "repeated",
            holds: |conf| conf.groups[0].known_replicas == [replica("10.0.0.2")],
        },
        Case {
            lines: "sentinel known-sentinel m 10.0.0.6 1 aa\nsentinel known-sentinel m 10.0.0.7 2 aa",
            warning: "repeated",
            holds: |conf| {
                let [known] = &conf.groups[0].known_sentinels[..] else {
                    return false;
                };
                known.host == "10.0.0.7" && known.port == 2
            },
        },
        Case {
            lines: "sentinel known-slave gone 10.0.0.2 6379",
            warning: "state-of-unknown-group",
            holds: |conf| conf.groups.len() == 1 && conf.groups[0].known_replicas.is_empty(),
        },
        Case {
            lines: "sentinel monitor m 10.0.0.1 6379 2",
            warning: "repeated",
            holds: |conf| conf.groups.len() == 1,
        },
        Case {
            lines: "sentinel down-after-milliseconds m 1\nsentinel down-after-milliseconds m 2",
            warning: "repeated",
            holds: |conf| conf.groups[0].down_after_ms == 2,
        },
        Case {
            lines: "sentinel myid 0123456789abcdef0123456789abcdef01234567\n\
                    sentinel known-sentinel m 10.0.0.6 1 0123456789abcdef0123456789abcdef01234567",
            warning: "own-run-id",
            holds: |conf| conf.groups[0].known_sentinels.is_empty(),
        },
        Case {
            lines: "sentinel parallel-syncs m 0",
            warning: "bad-count",
            holds: |conf| conf.groups[0].parallel_syncs == 1,
        },
        Case {
            lines: "sentinel failover-timeout m 500ms",
            warning: "not-a-number",
            holds: |conf| conf.groups[0].failover_timeout_ms == 500,
        },
        Case {
            lines: "quantum-entanglement yes",
            warning: "unknown-directive",
            holds: |_| true,
        },
        Case {
            lines: "appendonly yes\nappendonly no",
            warning: "no-effect",
            holds: |_| true,
        },
        Case {
            lines: "# tandem: compat 8.0",
            warning: "unknown-compat",
            holds: |conf| conf.compat == Compat::V7_0,
        },
    ];
    for case in cases {
        let loaded = load(with_group(case.lines));
        let shown = loaded.report.render(false);
        assert_eq!(
            codes(&loaded.report, Severity::Warning),
            [case.warning],
            "{shown}"
        );
        assert!(loaded.fatal.is_none(), "{shown}");
        assert!(
            (case.holds)(&loaded.conf),
            "{}: {:#?}",
            case.lines,
            loaded.conf
        );
        // And it is written so that redis-sentinel can read it.
        let text = loaded.document.render(&loaded.conf).unwrap();
        let again = load(text);
        let left = ["no-effect", "unknown-directive", "unknown-compat"];
        if !left.contains(&case.warning) {
            assert!(
                again.report.diagnostics.is_empty(),
                "{}",
                again.report.render(false)
            );
        }
    }
}

#[test]
fn everything_wrong_is_said_at_once_and_in_words_that_help() {
    let loaded = load(
        "requirepas x\n\
         port high\n\
         sentinel monitor one 10.0.0.1 6379 0\n\
         sentinel down-after-milliseconds one 5\n\
         sentinel monitor two db2 6379 2\n\
         sentinel monitor three 10.0.0.3 6379 2\n\
         sentinel down-after-miliseconds three 5\n\
         sentinel failover-timeout thre 5\n\
         sentinel known-replica three 10.0.0.4 66666\n",
    );
    let expected = [
        "unknown-directive",
        "bad-value",
        "bad-quorum",
        "bad-address",
        "unknown-statement",
        "unknown-group",
        "bad-port",
    ];
    assert_eq!(codes(&loaded.report, Severity::Error), expected);
    let shown = loaded.report.render(false);
    for part in [
        "sentinel.conf:1:1",
        "did you mean `requirepass`?",
        "sentinel.conf:3:36",
        "resolve-hostnames yes",
        "did you mean `down-after-milliseconds`?",
        "did you mean `three`?",
    ] {
        assert!(shown.contains(part), "{part:?} is not in:\n{shown}");
    }
    // Redis stops at the first directive; the statements' turn comes after all directives.
    let Some(Fatal::Line { number, .. }) = loaded.fatal else {
        panic!("{:?}", loaded.fatal);
    };
    assert_eq!(number, 1);
}

#[test]
fn options_of_the_command_line_come_last() {
    let files = MapFiles::new().with(CONF, with_group("port 26380"));
    let arguments = ["--port", "5000", "--sentinel", "auth-pass", "m", "a b"];
    let loaded = load_with(&files, &arguments);
    assert!(loaded.fatal.is_none(), "{}", loaded.report.render(false));
    assert_eq!(loaded.conf.server.port, 5000);
    let pass = loaded.conf.groups[0].auth_pass.as_ref().unwrap();
    assert_eq!(pass.as_bytes(), b"a b");

    // As in Redis, they are part of what is saved.
    assert_eq!(
        render(&loaded.document, &loaded.conf),
        "sentinel monitor m 10.0.0.1 6379 2\n\
         port 5000\n\
         \n\
         # Generated by CONFIG REWRITE\n\
         sentinel auth-pass m \"a b\"\n\
         sentinel config-epoch m 0\n\
         sentinel leader-epoch m 0\n\
         sentinel current-epoch 0\n"
    );
    let refused = load_with(&files, &["--port", "x"]);
    let text = refused.fatal.unwrap().redis_text("7.0.15");
    assert!(text.contains("at line 4\n>>> 'port \"x\"'\n"), "{text}");
}

/// Redis 7.0 writes paths without quotes, too.
#[test]
fn a_script_may_have_blanks_in_its_path() {
    let files = MapFiles::new().with("/opt/my scripts/notify.sh", "").with(
        CONF,
        with_group("sentinel notification-script m /opt/my scripts/notify.sh"),
    );
    let loaded = load_with(&files, &[]);
    assert_eq!(codes(&loaded.report, Severity::Warning), ["unquoted-value"]);
    let text = render(&loaded.document, &loaded.conf);
    assert!(
        text.contains("script m \"/opt/my scripts/notify.sh\"\n"),
        "{text}"
    );
    let missing = load(with_group("sentinel notification-script m"));
    assert_eq!(codes(&missing.report, Severity::Error), ["wrong-arguments"]);
}

#[test]
fn the_saved_address_of_a_group_wins_over_the_one_of_the_first_day() {
    let saved = "sentinel monitor m 10.0.0.2 6379 2\n";
    let first_day = ["--sentinel", "monitor", "m", "10.0.0.1", "6379", "2"];
    let loaded = load_with(&MapFiles::new().with(CONF, saved), &first_day);
    assert!(loaded.fatal.is_none(), "{}", loaded.report.render(false));
    assert_eq!(loaded.conf.groups[0].host, "10.0.0.2");

    let files = MapFiles::new()
        .with(CONF, format!("include /etc/redis/groups.conf\n{saved}"))
        .with("/etc/redis/groups.conf", with_group(""));
    let loaded = load_with(&files, &[]);
    assert!(loaded.fatal.is_none(), "{}", loaded.report.render(false));
    assert_eq!(loaded.conf.groups[0].host, "10.0.0.2");

    // Twice in one file is a contradiction that only a person can settle.
    let loaded = load(with_group("sentinel monitor m 10.0.0.2 6379 2"));
    assert_eq!(codes(&loaded.report, Severity::Error), ["duplicate-group"]);
}

#[test]
fn included_files_are_read_in_place_and_never_written() {
    let files = MapFiles::new()
        .with(
            CONF,
            "dir /etc/redis\ninclude parts/*.conf\nport 26380\n".to_owned() + &with_group(""),
        )
        .with("/etc/redis/parts/a.conf", "port 1\ntimeout 60\n")
        .with("/etc/redis/parts/b.conf", "loglevel warning\n");
    let loaded = load_with(&files, &[]);
    assert!(
        loaded.report.diagnostics.is_empty(),
        "{}",
        loaded.report.render(false)
    );
    let server = &loaded.conf.server;
    assert_eq!((server.port, server.timeout_s), (26380, 60));
    let text = render(&loaded.document, &loaded.conf);
    assert!(
        !text.contains("timeout") && !text.contains("loglevel"),
        "{text}"
    );

    // What an included file says is overruled at the end of the main file, even by the default.
    let mut conf = loaded.conf.clone();
    conf.server.loglevel = LogLevel::Notice;
    assert!(render(&loaded.document, &conf).contains("\nloglevel notice\n"));
}

#[test]
fn a_file_that_includes_itself_is_refused() {
    let files = MapFiles::new()
        .with(CONF, "include /etc/redis/a.conf\n")
        .with(
            "/etc/redis/a.conf",
            format!("include {CONF}\ninclude {CONF}\n"),
        );
    let loaded = load_with(&files, &[]);
    assert_eq!(codes(&loaded.report, Severity::Error), ["include-loop"]);
    let missing = load("include /nowhere\n");
    let text = missing.fatal.unwrap().redis_text("7.0.15");
    assert!(
        text.starts_with("Fatal error, can't open config file '/nowhere': "),
        "{text}"
    );
}

#[test]
fn a_file_of_zeros_is_refused() {
    let loaded = load(vec![0; 4096]);
    assert_eq!(codes(&loaded.report, Severity::Error), ["nul-byte"]);
}
