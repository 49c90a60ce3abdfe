//! Properties of the reader and the writer of `sentinel.conf`, and the corpus that the fuzzer starts from.

use std::path::Path;

use proptest::prelude::*;
use tandem_config::keepalived::MapFiles;
use tandem_config::sentinel::{
    AclUser, Compat, Document, GroupConf, KnownReplica, KnownSentinel, LogLevel, Overrides,
    RenamedCommand, Secret, SentinelConf, ServerConf, TlsAuthClients, read,
};

const CONF: &str = "/etc/redis/sentinel.conf";

/// Reads bytes; what can be read must be writable, and what was written must stay as it is when it is written again.
fn check(bytes: &[u8]) -> Result<(), String> {
    let files = MapFiles::new().with(CONF, bytes).with(
        "/etc/redis/inc.conf",
        "port 7\nsentinel monitor inc 10.9.9.9 1 1\n",
    );
    let loaded = read(Path::new(CONF), &files, &Overrides::default());
    let shown = loaded.report.render(false);
    if shown.is_empty() != loaded.report.diagnostics.is_empty() {
        return Err("findings that do not show".into());
    }
    if loaded.fatal.is_some() != loaded.report.has_errors() {
        return Err(format!("{:?} but:\n{shown}", loaded.fatal));
    }
    if loaded.fatal.is_some() {
        return Ok(());
    }
    let text = match loaded.document.render(&loaded.conf) {
        Ok(text) => text,
        Err(error) => return Err(error.to_string()),
    };
    let again = loaded.document.with_text(text.clone()).render(&loaded.conf);
    if again.as_ref() == Ok(&text) {
        Ok(())
    } else {
        let texts = (text, again.unwrap_or_default());
        Err(format!(
            "not settled:\n{}\n---\n{}",
            String::from_utf8_lossy(&texts.0),
            String::from_utf8_lossy(&texts.1)
        ))
    }
}

#[test]
fn the_corpus_is_read_and_written() {
    let mut seen = 0;
    for folder in [
        "corpus/sentinel",
        "data/sentinel/rewritten",
        "data/sentinel/accepted",
        "data/sentinel/refused",
    ] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests")
            .join(folder);
        for entry in std::fs::read_dir(&folder).expect("the folder is there") {
            let path = entry.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            assert_eq!(check(&bytes), Ok(()), "{}", path.display());
            seen += 1;
        }
    }
    assert!(seen >= 20, "the corpus has {seen} files");
}

/// A word that may need quotes.
fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-zA-Z0-9._/:-]{1,12}",
        "[ -~]{1,12}",
        "[ \"'\\\\#\t\r\n\u{0}\u{7f}é]{1,8}",
    ]
}

fn secret() -> impl Strategy<Value = Secret> {
    proptest::collection::vec(any::<u8>(), 1..16).prop_map(Secret::new)
}

fn host() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<std::net::Ipv4Addr>().prop_map(|ip| ip.to_string()),
        any::<std::net::Ipv6Addr>().prop_map(|ip| ip.to_string()),
    ]
}

fn hex_id() -> impl Strategy<Value = String> {
    "[0-9a-f]{40}"
}

fn milliseconds() -> impl Strategy<Value = u64> {
    prop_oneof![Just(30_000), Just(180_000), 1..=u64::from(u32::MAX / 2)]
}

prop_compose! {
    fn group()(
        host in host(),
        port: u16,
        quorum in 1..10u32,
        times in (milliseconds(), milliseconds(), prop_oneof![Just(0), milliseconds()]),
        parallel_syncs in 1..4u32,
        auth in (proptest::option::of(word()), proptest::option::of(secret())),
        scripts in (proptest::option::of(word()), proptest::option::of(word())),
        epochs: (u64, u64),
        replicas in proptest::collection::btree_set((host(), any::<u16>()), 0..4),
        sentinels in proptest::collection::btree_map(hex_id(), (host(), any::<u16>()), 0..4),
        renamed in proptest::collection::btree_map("[a-z]{1,8}", word(), 0..3),
    ) -> GroupConf {
        let mut group = GroupConf::new("", host, port, quorum);
        (group.down_after_ms, group.failover_timeout_ms, group.master_reboot_down_after_ms) = times;
        group.parallel_syncs = parallel_syncs;
        (group.auth_user, group.auth_pass) = auth;
        (group.notification_script, group.client_reconfig_script) = scripts;
        (group.config_epoch, group.leader_epoch) = epochs;
        group.known_replicas = replicas
            .into_iter()
            .map(|(host, port)| KnownReplica { host, port })
            .collect();
        group.known_sentinels = sentinels
            .into_iter()
            .map(|(runid, (host, port))| KnownSentinel { host, port, runid })
            .collect();
        group.rename_commands = renamed
            .into_iter()
            .map(|(from, to)| RenamedCommand { from, to })
            .collect();
        group
    }
}

prop_compose! {
    fn server()(
        ports: (u16, u16),
        bind in proptest::collection::vec("-?[0-9a-f.:]{1,12}", 0..4),
        paths in (proptest::option::of(word()), proptest::option::of(word())),
        requirepass in proptest::option::of(secret()),
        loglevel in proptest::sample::select(vec![
            LogLevel::Debug, LogLevel::Verbose, LogLevel::Notice, LogLevel::Warning, LogLevel::Nothing,
        ]),
        auth_clients in proptest::sample::select(vec![
            TlsAuthClients::No, TlsAuthClients::Yes, TlsAuthClients::Optional,
        ]),
        switches: (bool, bool, bool),
        perm in proptest::option::of(1..0o777u32),
        maxclients in 1..u32::MAX,
    ) -> ServerConf {
        let mut server = ServerConf::default();
        (server.port, server.tls.port) = ports;
        server.bind = bind;
        (server.logfile, server.tls.cert_file) = paths;
        server.requirepass = requirepass;
        server.loglevel = loglevel;
        server.tls.auth_clients = auth_clients;
        (server.protected_mode, server.tls.replication, server.tls.session_caching) = switches;
        server.unixsocketperm = perm;
        server.maxclients = maxclients;
        server
    }
}

prop_compose! {
    fn conf()(
        myid in proptest::option::of(hex_id()),
        current_epoch: u64,
        announced in (proptest::option::of(word()), proptest::option::of(1..=u16::MAX)),
        switches: (bool, bool, bool),
        peer in (proptest::option::of(word()), proptest::option::of(secret())),
        groups in proptest::collection::btree_map(word(), group(), 0..4),
        server in server(),
        users in proptest::collection::btree_map(
            word(),
            proptest::collection::vec("(on|off|nopass|~[ -~]{0,6}|&\\*|\\+@all|-[a-z]{1,5}|#[0-9a-f]{64})", 0..4),
            0..3,
        ),
        is_new: bool,
    ) -> SentinelConf {
        let (announce_ip, announce_port) = announced;
        let (sentinel_user, sentinel_pass) = peer;
        SentinelConf {
            myid,
            current_epoch,
            announce_ip,
            announce_port,
            resolve_hostnames: switches.0,
            announce_hostnames: switches.1,
            deny_scripts_reconfig: switches.2,
            sentinel_user,
            sentinel_pass,
            groups: groups.into_iter().map(|(name, group)| GroupConf { name, ..group }).collect(),
            server,
            users: users.into_iter().map(|(name, rules)| AclUser { name, rules }).collect(),
            compat: if is_new { Compat::V7_2 } else { Compat::V7_0 },
            daemon_port: tandem_config::sentinel::DAEMON_PORT,
        }
    }
}

/// A configuration as it comes back from its own text.
fn read_back(text: &[u8]) -> SentinelConf {
    // Scripts have to be there; the reader asks for every path.
    struct Everything<'a>(&'a [u8]);
    impl tandem_config::keepalived::Files for Everything<'_> {
        fn read(&self, _: &Path) -> std::io::Result<Vec<u8>> {
            Ok(self.0.to_vec())
        }
        fn glob(&self, _: &Path) -> std::io::Result<Vec<std::path::PathBuf>> {
            Ok(Vec::new())
        }
        fn facts(&self, _: &Path) -> std::io::Result<tandem_config::keepalived::FileFacts> {
            Ok(tandem_config::keepalived::FileFacts {
                is_file: true,
                uid: 0,
                gid: 0,
                mode: 0o755,
            })
        }
    }
    read(Path::new(CONF), &Everything(text), &Overrides::default()).conf
}

const START: &str = "# by hand\nport 26380\nsentinel monitor old 10.0.0.1 6379 2\n\nsentinel auth-pass old a b\n# end";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any configuration is written so that it is read as itself, into an empty file and into one that says something else.
    #[test]
    fn what_is_written_is_read_as_itself(conf in conf()) {
        for start in ["", START] {
            let document = Document::from_text(CONF, start);
            let text = document.render(&conf).map_err(|error| TestCaseError::fail(error.to_string()))?;
            prop_assert_eq!(read_back(&text).canonical(), conf.canonical());
            let comments = |text: &[u8]| {
                let text = String::from_utf8_lossy(text).into_owned();
                text.lines().filter(|line| *line == "# by hand" || *line == "# end").count()
            };
            prop_assert_eq!(comments(&text), comments(start.as_bytes()));
            let again = document.with_text(text.clone()).render(&conf);
            prop_assert_eq!(again, Ok(text));
        }
    }

    /// From any configuration to any other and back: the text is the same again, up to the order of the lines.
    #[test]
    fn a_change_and_its_reverse_leave_the_text_as_it_was(one in conf(), other in conf()) {
        let document = Document::from_text(CONF, "");
        let sorted = |text: &[u8]| {
            let mut lines: Vec<Vec<u8>> = text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
            lines.sort();
            lines
        };
        let conf = |result: Result<Vec<u8>, _>| result.map_err(|error: tandem_config::sentinel::RenderError| {
            TestCaseError::fail(error.to_string())
        });
        let first = conf(document.render(&one))?;
        let second = conf(document.clone().with_text(first.clone()).render(&other))?;
        let third = conf(document.with_text(second).render(&one))?;
        // Lines that only say a default may stay where `other` put them.
        let (first, third) = (sorted(&first), sorted(&third));
        for line in &first {
            prop_assert!(third.contains(line), "{} is gone", String::from_utf8_lossy(line));
        }
        prop_assert_eq!(
            read_back(&third.join(&b'\n')).canonical(),
            read_back(&first.join(&b'\n')).canonical()
        );
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Whatever the bytes, reading ends.
    #[test]
    fn arbitrary_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert_eq!(check(&bytes), Ok(()));
    }

    /// Pieces of the grammar in any order.
    #[test]
    fn arbitrary_grammar_is_read(pieces in proptest::collection::vec(proptest::sample::select(vec![
        "sentinel", "\nsentinel ", "\nsentinel monitor m 10.0.0.1 6379 2\n", "monitor", "m", "10.0.0.1", "6379", "2", "\n",
        "known-slave m 10.0.0.2 6379", "known-replica m 10.0.0.2 6379", "known-sentinel", "auth-pass", "auth-user m",
        "sentinel-pass", "\"", "'", "\\", "\\x", "00", "#", "# tandem: compat 7.2\n", "\r", "\t", "\u{b}", "é",
        "config-epoch m 5", "current-epoch", "18446744073709551616", "-1", "myid",
        "0123456789abcdef0123456789abcdef01234567", "rename-command m config x", "resolve-hostnames yes",
        "announce-ip", "announce-port", "parallel-syncs m", "primary-reboot-down-after-period m 1",
        "\nbind ", "\"a b\"", "\nport 1\n", "\nuser ", "on", ">pw", "(+get", "~a)", "\ninclude /etc/redis/inc.conf\n",
        "\ndir /tmp\n", "\nappendonly yes\n", "\nrequirepass ", "\nunixsocketperm 700\n", "\nzork 1\n",
    ]), 0..40)) {
        let text = pieces.join(" ");
        prop_assert_eq!(check(text.as_bytes()), Ok(()));
        let text = pieces.concat();
        prop_assert_eq!(check(text.as_bytes()), Ok(()));
    }
}

#[test]
fn a_large_hostile_file_costs_no_more_than_its_length() {
    // One group with very many replicas, and very many directives that nobody knows.
    let mut text = String::from("sentinel monitor m 10.0.0.1 6379 2\n");
    for index in 0..5_000u32 {
        let ip = std::net::Ipv4Addr::from(0x0a01_0000 + index);
        text.push_str(&format!("sentinel known-replica m {ip} 6379\n"));
    }
    let replicas = text.clone();
    for index in 0..5_000u32 {
        text.push_str(&format!("nonsense{index}\n"));
    }
    assert_eq!(check(replicas.as_bytes()), Ok(()));
    let files = MapFiles::new().with(CONF, text);
    let loaded = read(Path::new(CONF), &files, &Overrides::default());
    assert!(loaded.report.diagnostics.len() < 200);
    assert!(loaded.fatal.is_some());
    let files = MapFiles::new().with(CONF, vec![b'\n'; tandem_config::sentinel::SIZE_MAX + 1]);
    let loaded = read(Path::new(CONF), &files, &Overrides::default());
    assert_eq!(loaded.report.diagnostics[0].code, "too-large");
}
