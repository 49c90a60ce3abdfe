//! `sentinel.conf` against real programs: files that redis-sentinel 7.0.15 refuses, with its words; files that it and others
//! wrote; and files that we write, with what it makes of them. How they were made is in `data/sentinel/README.md`.

use std::path::{Path, PathBuf};

use tandem_config::keepalived::MapFiles;
use tandem_config::sentinel::{
    AclUser, Document, GroupConf, KnownReplica, KnownSentinel, Loaded, Overrides, RenamedCommand,
    Secret, SentinelConf, read,
};

const CONF: &str = "/tmp/x/sentinel.conf";

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/sentinel")
        .join(name)
}

/// The `.conf` files of a folder.
fn cases(name: &str, at_least: usize) -> Vec<(PathBuf, Vec<u8>)> {
    let mut cases: Vec<_> = std::fs::read_dir(folder(name))
        .expect("the folder is there")
        .map(|entry| entry.expect("the folder can be listed").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "conf")
        })
        .map(|path| {
            (
                path.clone(),
                std::fs::read(&path).expect("the file can be read"),
            )
        })
        .collect();
    cases.sort();
    assert!(cases.len() >= at_least, "{name} has {} files", cases.len());
    cases
}

fn load(text: &[u8]) -> Loaded {
    let files = MapFiles::new()
        .with(CONF, text)
        .with("/tmp/x/notify.sh", "");
    read(Path::new(CONF), &files, &Overrides::default())
}

#[test]
fn what_redis_refuses_is_refused_in_its_words() {
    for (path, text) in cases("refused", 40) {
        let expected = std::fs::read_to_string(path.with_extension("txt")).unwrap();
        let fatal = load(&text).fatal.map(|fatal| fatal.redis_text("7.0.15"));
        assert_eq!(fatal, Some(expected), "{}", path.display());
    }
}

#[test]
fn what_redis_accepts_is_accepted() {
    for (path, text) in cases("accepted", 20) {
        let loaded = load(&text);
        assert_eq!(loaded.fatal, None, "{}", path.display());
    }
}

/// The text beside each file is Redis' refusal: the list of what is forgiven here and not there.
#[test]
fn what_is_forgiven_is_said_and_written_so_that_redis_accepts_it() {
    for (path, text) in cases("tolerated", 10) {
        let refusal = std::fs::read_to_string(path.with_extension("txt")).unwrap();
        assert!(
            refusal.contains("FATAL CONFIG FILE ERROR"),
            "{}",
            path.display()
        );
        let loaded = load(&text);
        assert_eq!(loaded.fatal, None, "{}", path.display());
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        // Good in Valkey and in Redis 7.2: nothing to say.
        let is_of_others = ["primary-spelling.conf", "loglevel-nothing.conf"].contains(&&*file);
        let is_silent = loaded.report.diagnostics.is_empty();
        assert_eq!(is_silent, is_of_others, "{}", loaded.report.render(false));
        let written = loaded.document.render(&loaded.conf).unwrap();
        let again = load(&written);
        assert_eq!(again.conf.canonical(), loaded.conf.canonical());
        // These two keep a line that Redis 7.0 does not know.
        if !["future-directive.conf", "loglevel-nothing.conf"].contains(&&*file) {
            given_to_redis(&file, &written);
        }
    }
}

/// A file that a real program wrote stays byte for byte as it is, except for what is listed here.
#[test]
fn files_of_real_programs_are_understood_and_left_alone() {
    for (path, text) in cases("rewritten", 9) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let loaded = load(&text);
        assert_eq!(loaded.fatal, None, "{name}");
        let mut text = String::from_utf8(text).unwrap();
        let mut codes: Vec<&str> = Vec::new();
        for (there, here, code) in [
            // Written without quotes by Redis up to 7.0, which then does not start.
            (
                "auth-pass archive two words",
                "auth-pass archive \"two words\"",
                "unquoted-value",
            ),
            // Valkey's spelling, which Redis does not know; Valkey reads both.
            (
                "primary-reboot-down-after-period",
                "master-reboot-down-after-period",
                "",
            ),
            // The spelling up to Redis 4.
            ("known-slave", "known-replica", ""),
            // Has no meaning for a sentinel; stays where it is.
            ("maxmemory 0", "maxmemory 0", "no-effect"),
        ] {
            if text.contains(there) {
                text = text.replace(there, here);
                codes.extend((!code.is_empty()).then_some(code));
            }
        }
        let mut found: Vec<_> = loaded
            .report
            .diagnostics
            .iter()
            .map(|one| one.code)
            .collect();
        found.sort_unstable();
        codes.sort_unstable();
        assert_eq!(found, codes, "{name}: {}", loaded.report.render(false));
        let written = loaded.document.render(&loaded.conf).unwrap();
        assert_eq!(String::from_utf8(written).unwrap(), text, "{name}");
    }
}

/// What redis-sentinel 7.0.15 appended to its file after a failover, as values.
#[test]
fn a_failed_over_group_is_read_as_it_was_saved() {
    let text = std::fs::read(folder("rewritten").join("redis-7.0.15-failover.conf")).unwrap();
    let conf = load(&text).conf;
    let shop = conf.group("shop").unwrap();
    assert_eq!(
        (shop.host.as_str(), shop.port, shop.quorum),
        ("127.0.0.1", 6381, 2)
    );
    assert_eq!(
        (shop.config_epoch, shop.leader_epoch, conf.current_epoch),
        (1, 1, 1)
    );
    let ports = |replicas: &[KnownReplica]| -> Vec<u16> {
        replicas.iter().map(|replica| replica.port).collect()
    };
    assert_eq!(ports(&shop.known_replicas), [6380, 6379]);
    assert_eq!(shop.known_sentinels.len(), 2);
    let archive = conf.group("archive").unwrap();
    assert_eq!(archive.down_after_ms, 5000);
    assert_eq!(archive.known_sentinels, []);
}

/// Everything that needs quotes, and everything that a model can hold.
fn awkward() -> SentinelConf {
    let mut conf = SentinelConf {
        myid: Some("f2afe9e65de46a48c60e2bf61bbfa2a1b600dd50".into()),
        current_epoch: 12,
        announce_ip: Some("192.0.2.7".into()),
        announce_port: Some(26379),
        resolve_hostnames: true,
        announce_hostnames: true,
        sentinel_user: Some("peer user".into()),
        sentinel_pass: Some(Secret::new("it's \"quoted\" # and \\ more")),
        deny_scripts_reconfig: false,
        ..SentinelConf::default()
    };
    conf.server.dir = Some("/tmp/x".into());
    conf.server.bind = vec!["127.0.0.1".into(), "-::1".into()];
    conf.server.requirepass = Some(Secret::new(b"bytes \xff\x01\n".to_vec()));
    conf.users = vec![AclUser {
        name: "ops".into(),
        rules: ["on", &format!("#{}", "0f".repeat(32)), "~*", "&*", "+@all"]
            .map(str::to_owned)
            .to_vec(),
    }];
    let mut group = GroupConf::new("shop", "127.0.0.1", 6379, 2);
    group.auth_user = Some("w\u{e4}chter".into());
    group.auth_pass = Some(Secret::new(" blanks  and\ttabs "));
    group.master_reboot_down_after_ms = 3000;
    group.down_after_ms = 1000;
    group.parallel_syncs = 2;
    group.failover_timeout_ms = 60_000;
    group.config_epoch = 11;
    group.leader_epoch = 12;
    group.known_replicas = (6380..6383)
        .map(|port| KnownReplica {
            host: "127.0.0.1".into(),
            port,
        })
        .collect();
    group.known_sentinels = vec![KnownSentinel {
        host: "127.0.0.1".into(),
        port: 26380,
        runid: "0b1c6cf25d60ba70bf95df15bd69b5ac42820c71".into(),
    }];
    group.rename_commands = vec![RenamedCommand {
        from: "config".into(),
        to: "geheim \"x\"".into(),
    }];
    conf.groups = vec![group, GroupConf::new("archive", "127.0.0.9", 6399, 1)];
    conf
}

/// The files of the folder `written` were given to redis-sentinel 7.0.15, which started with each of them and, for
/// `awkward.conf`, answered or wrote back each value as it is here. With TANDEM_BLESS they are written anew, and have to be given to it again.
fn given_to_redis(name: &str, written: &[u8]) {
    let path = folder("written").join(name);
    if std::env::var_os("TANDEM_BLESS").is_some() {
        std::fs::write(&path, written).expect("the file can be written");
    }
    let expected = std::fs::read(&path).expect("the file is there");
    assert_eq!(
        String::from_utf8_lossy(written),
        String::from_utf8_lossy(&expected),
        "{name}"
    );
}

#[test]
fn values_that_need_quotes_are_written_as_redis_was_given_them() {
    let by_hand = "# by hand\nport 26379\n\n# the shop\nsentinel monitor shop 127.0.0.1 6379 2\n";
    let document = Document::from_text(CONF, by_hand);
    given_to_redis("awkward.conf", &document.render(&awkward()).unwrap());
}
