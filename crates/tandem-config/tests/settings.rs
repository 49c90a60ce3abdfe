//! `tandem.toml` as an operator writes it: what is read, and what is said about what is wrong.

#![allow(clippy::unwrap_used, reason = "a panic in a test is its report")]

use std::time::Duration;

use tandem_config::settings::{
    self, InitFacts, KEYS, Manage, Preempt, Presence, Resync, Settings, VrrpVersion,
};
use tandem_config::{Report, Severity};

/// The smallest file of a pair.
const PAIR: &str = r#"
[host]
id = "a"
address = "10.0.0.1"
secret_file = "/etc/tandem/secret"

[[peer]]
id = "b"
address = "10.0.0.2"

[[group]]
name = "orders"
servers = ["10.0.0.1:6379"]

[group.vip]
address = "10.0.0.100/24"
interface = "eth0"

[group.vrrp]
router_id = 51
priority = 100
"#;

const PROXY: &str = r#"
[[proxy]]
listen = "10.0.0.200:6379"
groups = ["orders", "stock"]

[[proxy.group]]
name = "stock"
daemons = ["10.0.1.1:26379", "10.0.1.2:26379"]
"#;

/// A file in which every key of the table is given.
const FULL: &str = include_str!("data/full.toml");

fn good(text: &str) -> Settings {
    let (settings, report) = settings::read("tandem.toml", text);
    settings.unwrap_or_else(|| panic!("{}", report.render(false)))
}

fn bad(text: &str) -> Report {
    let (settings, report) = settings::read("tandem.toml", text);
    assert!(settings.is_none(), "accepted:\n{text}");
    assert!(report.has_errors());
    report
}

/// Code, line and column of each error.
fn errors(text: &str) -> Vec<(&'static str, usize, usize)> {
    bad(text)
        .entries()
        .iter()
        .filter(|entry| entry.severity == Severity::Error)
        .map(|entry| (entry.code, entry.places[0].line, entry.places[0].column))
        .collect()
}

/// The file of a pair with one text replaced; the text must be there.
fn changed(from: &str, to: &str) -> String {
    assert!(PAIR.contains(from), "{from}");
    PAIR.replace(from, to)
}

#[test]
fn the_smallest_pair_gets_the_documented_defaults() {
    let settings = good(PAIR);
    assert_eq!(settings.host.socket_addr().to_string(), "10.0.0.1:26379");
    assert_eq!(settings.host.state_dir.to_str(), Some("/var/lib/tandem"));
    assert_eq!(
        settings.peers[0].socket_addr().to_string(),
        "10.0.0.2:26379"
    );
    let group = &settings.groups[0];
    assert_eq!(group.manage, Manage::Adopt);
    assert_eq!(group.preempt, Preempt::Never);
    assert_eq!(group.resync, Resync::Automatic);
    assert_eq!(group.down_after, Duration::from_secs(1));
    assert_eq!(group.max_lag_bytes, 1 << 20);
    assert_eq!(group.boot_wait, Duration::from_secs(30));
    assert_eq!(group.flap_block, Duration::from_secs(600));
    let vip = group.vip.as_ref().unwrap();
    assert_eq!(vip.addresses[0].to_string(), "10.0.0.100/24");
    assert_eq!(vip.lifetime, Duration::from_secs(3));
    assert_eq!(group.vrrp().unwrap().interface, "eth0", "the VIP's");
    assert_eq!(
        group.vrrp().unwrap().advert_interval,
        Duration::from_millis(300)
    );
    assert_eq!(group.vrrp().unwrap().version, VrrpVersion::V3);
    assert!(!group.vrrp().unwrap().unicast);
}

#[test]
fn a_file_with_every_key_is_read_in_full() {
    let settings = good(FULL);
    let spawn = &settings.groups[0];
    assert_eq!(
        spawn.manage,
        Manage::Spawn {
            redis_conf: "/etc/redis/orders.conf".into(),
            redis_server: "/opt/valkey/bin/valkey-server".into(),
            run_as: Some("redis".into()),
        }
    );
    assert_eq!(spawn.resync_window.unwrap().to_string(), "02:00-05:00");
    assert_eq!(spawn.archive.max_bytes, 5 << 30);
    let vip = spawn.vip.as_ref().unwrap();
    assert_eq!(vip.addresses.len(), 2);
    let command = |hooks: &[settings::Hook]| -> Vec<(String, u64)> {
        hooks
            .iter()
            .map(|hook| (hook.command.join(" "), hook.timeout.as_secs()))
            .collect()
    };
    assert_eq!(command(&spawn.hooks.on_promote), [("/bin/a x".into(), 10)]);
    assert_eq!(command(&spawn.hooks.on_demote), [("/bin/b".into(), 3)]);
    assert_eq!(
        command(&spawn.hooks.on_vip),
        [("/bin/c".into(), 10), ("/bin/d y".into(), 4)]
    );
    let check = &spawn.vrrp().unwrap().track_script[0];
    assert_eq!(check.script, ["/usr/local/bin/check", "now"]);
    assert_eq!(check.timeout, Duration::from_millis(500));
    assert_eq!((check.rise, check.fall, check.weight), (2, 3, -20));
    assert_eq!(
        settings.groups[1].manage,
        Manage::Systemd {
            unit: "redis-server@b.service".into()
        }
    );
    assert_eq!(settings.groups[1].vrrp().unwrap().version, VrrpVersion::V2);
}

/// Every key of the table is given in the full file, and putting a value of no key's kind (a date) in its place is
/// reported at exactly that place: so the reader really reads what the table promises.
#[test]
fn table_and_reader_agree() {
    let lines: Vec<&str> = FULL.lines().collect();
    for key in KEYS {
        if matches!(key.presence, Presence::Later(_)) {
            continue;
        }
        let at = line_of(&lines, key.section(), key.name())
            .unwrap_or_else(|| panic!("{} is not in full.toml", key.path));
        let mut changed = lines.clone();
        let replaced = format!("{} = 2020-01-01", key.name());
        changed[at] = &replaced;
        let (_, report) = settings::read("full.toml", &changed.join("\n"));
        assert!(
            report
                .entries()
                .iter()
                .any(|entry| { entry.code == "wrong-value" && entry.places[0].line == at + 1 }),
            "{} is not read, or not refused as a date:\n{}",
            key.path,
            report.render(false)
        );
    }
}

/// The line, from 0, on which a key stands under a section's header.
fn line_of(lines: &[&str], section: &str, name: &str) -> Option<usize> {
    let mut current = "";
    for (at, line) in lines.iter().enumerate() {
        if line.starts_with('[') {
            current = line.trim_matches(['[', ']']);
        } else if current == section && line.split('=').next().map(str::trim) == Some(name) {
            return Some(at);
        }
    }
    None
}

#[test]
fn keys_of_coming_versions_are_refused_by_name() {
    for key in KEYS {
        let Presence::Later(_) = key.presence else {
            continue;
        };
        let file = format!("{PAIR}{PROXY}");
        let header = format!("[{}]", key.section());
        let at = file.find(&header).expect("the section is in the file") + header.len();
        let at = if file[at..].starts_with(']') {
            at + 1
        } else {
            at
        };
        let text = format!("{}\n{} = {{}}{}", &file[..at], key.name(), &file[at..]);
        let codes: Vec<_> = errors(&text).into_iter().map(|(code, ..)| code).collect();
        assert_eq!(codes, ["not-in-this-version"], "{}", key.path);
    }
}

#[test]
fn one_run_shows_everything_that_is_wrong() {
    let text = r#"[host]
idd = "a"
address = "tandem-a"
secret_file = "secret"
[[peer]]
id = "b"
address = "10.0.0.2"
[[group]]
name = "orders"
servers = ["10.0.0.1:6379", "10.0.0.1:6380"]
down_after = 1
preempt = "aftersync"
password = "hunter2"
[group.vrrp]
router_id = 300
priority = 255
"#;
    assert_eq!(
        errors(text),
        [
            ("missing-key", 1, 2),
            ("unknown-key", 2, 1),
            ("wrong-value", 3, 11),
            ("wrong-value", 4, 15),
            ("one-server", 10, 11),
            ("wrong-value", 11, 14),
            ("wrong-value", 12, 11),
            ("inline-secret", 13, 1),
            ("missing-key", 14, 8),
            ("out-of-range", 15, 13),
            ("out-of-range", 16, 12),
        ]
    );
    let shown = bad(text).render(false);
    for part in [
        "did you mean `id`?",
        "password_file",
        "did you mean \"after-sync\"?",
        "tandem.toml:16:12",
    ] {
        assert!(shown.contains(part), "{part} is not in:\n{shown}");
    }
    assert!(!shown.contains("id = \"a\", and"), "{shown}");
}

#[test]
fn several_keys_together_can_be_wrong() {
    let third = "[[peer]]\nid = \"c\"\naddress = \"10.0.0.3\"\n\n[[group]]";
    for (from, to, code) in [
        ("[[group]]", third, "pair-of-three"),
        (
            "[[peer]]\nid = \"b\"\naddress = \"10.0.0.2\"",
            "",
            "pair-of-one",
        ),
        ("secret_file = \"/etc/tandem/secret\"", "", "no-secret"),
        ("id = \"b\"", "id = \"a\"", "same-id"),
        ("10.0.0.100/24", "10.0.0.2/24", "vip-taken"),
        ("10.0.0.100/24", "10.0.0.1/24", "vip-taken"),
        (
            "interface = \"eth0\"",
            "interface = \"eth0\"\nlifetime = \"1500ms\"",
            "vip-lifetime",
        ),
        (
            "priority = 100",
            "priority = 100\nversion = 2",
            "advert-interval",
        ),
        (
            "priority = 100",
            "priority = 100\nadvert_interval = \"1ms\"",
            "advert-interval",
        ),
        ("10.0.0.100/24\"", "2001:db8::1/64\"", "v2-ipv6"),
        (
            "[group.vrrp]\nrouter_id = 51\npriority = 100",
            "",
            "no-elector",
        ),
        (
            "[\"10.0.0.1:6379\"]",
            "[\"10.0.0.2:6379\"]",
            "foreign-server",
        ),
        (
            "[\"10.0.0.1:6379\"]",
            "[\"127.0.0.1:6379\"]",
            "loopback-server",
        ),
        (
            "[\"10.0.0.1:6379\"]",
            "[\"10.0.0.1:6379\"]\nmanage = \"spawn\"",
            "missing-key",
        ),
        (
            "[\"10.0.0.1:6379\"]",
            "[\"10.0.0.1:6379\"]\nunit = \"r.service\"",
            "idle-key",
        ),
        (
            "[\"10.0.0.1:6379\"]",
            "[\"10.0.0.1:6379\"]\nusername = \"u\"",
            "no-password",
        ),
    ] {
        let mut text = changed(from, to);
        if code == "v2-ipv6" {
            text.push_str("version = 2\nadvert_interval = \"1s\"\n");
        }
        let found = errors(&text);
        assert_eq!(
            found.iter().map(|(code, ..)| *code).collect::<Vec<_>>(),
            [code],
            "{to}"
        );
    }
    let three = bad(&changed("[[group]]", third)).render(false);
    assert!(three.contains("`votes`"), "{three}");
}

#[test]
fn two_groups_on_one_host_share_nothing() {
    let copy = &PAIR[PAIR.find("[[group]]").expect("a group")..];
    let codes: Vec<_> = errors(&format!("{PAIR}{copy}"))
        .into_iter()
        .map(|(code, ..)| code)
        .collect();
    assert_eq!(
        codes,
        ["same-name", "same-server", "same-vip", "same-router-id"]
    );
}

#[test]
fn text_that_is_not_toml_is_reported_where_it_stops_being_toml() {
    let found = errors("[host]\nid = \nport = 26379\nx = = 1\n");
    assert!(
        found.contains(&("toml", 2, 6)) || found.contains(&("toml", 2, 5)),
        "{found:?}"
    );
    assert!(
        found
            .iter()
            .any(|(code, line, _)| (*code, *line) == ("toml", 4)),
        "{found:?}"
    );
}

#[test]
fn the_template_is_a_valid_file_that_says_what_it_was_told() {
    let facts = InitFacts {
        host_id: "a".into(),
        host_address: "10.0.0.1".parse().unwrap(),
        peer_id: "b".into(),
        peer_address: "10.0.0.2".parse().unwrap(),
        group: "redis".into(),
        server: "10.0.0.1:6380".parse().unwrap(),
        password_file: Some("/etc/tandem/redis.password".into()),
        vip: Some("10.0.0.100/24".parse().unwrap()),
        interface: "eth0".into(),
        router_id: 51,
        priority: 110,
    };
    let settings = good(&settings::init_template(&facts));
    let group = &settings.groups[0];
    assert_eq!(group.server, facts.server);
    assert_eq!(group.password_file, facts.password_file);
    assert_eq!(group.vrrp().unwrap().priority, 110);
    assert_eq!(group.vip.as_ref().unwrap().addresses, [facts.vip.unwrap()]);

    let without = InitFacts { vip: None, ..facts };
    let settings = good(&settings::init_template(&without));
    assert_eq!(settings.groups[0].vip, None);
    assert_eq!(settings.groups[0].vrrp().unwrap().interface, "eth0");
}

/// The commented defaults of the template are right: without the mark they change nothing.
#[test]
fn the_template_comments_out_true_defaults() {
    let facts = InitFacts {
        host_id: "a".into(),
        host_address: "10.0.0.1".parse().unwrap(),
        peer_id: "b".into(),
        peer_address: "10.0.0.2".parse().unwrap(),
        group: "redis".into(),
        server: "10.0.0.1:6379".parse().unwrap(),
        password_file: None,
        vip: Some("10.0.0.100/24".parse().unwrap()),
        interface: "eth0".into(),
        router_id: 51,
        priority: 100,
    };
    let template = settings::init_template(&facts);
    let mut uncommented = template.clone();
    for key in KEYS {
        if let Presence::Default(value) = key.presence {
            let line = format!("{} = {value}\n", key.name());
            uncommented = uncommented.replace(&format!("# {line}"), &line);
        }
    }
    assert_ne!(template, uncommented);
    assert_eq!(good(&template), good(&uncommented));
}

#[test]
fn the_reference_names_every_key() {
    let page = settings::reference_markdown();
    for key in KEYS {
        let shown = match key.presence {
            Presence::Later(_) => key.path,
            Presence::Required | Presence::Optional | Presence::Default(_) => key.name(),
        };
        assert!(page.contains(&format!("| `{shown}` |")), "{}", key.path);
    }
}

proptest::proptest! {
    /// Whatever stands in the file, reading it ends and every finding can be drawn.
    #[test]
    fn arbitrary_text_is_reported_not_fatal(text in "\\PC{0,80}(\n\\PC{0,30}){0,6}") {
        let (settings, report) = settings::read("x", &text);
        proptest::prop_assert_eq!(settings.is_none(), report.has_errors());
        report.render(false);
    }
}

#[test]
fn findings_serialise_with_their_places() {
    let report = bad("[host]\nidd = \"a\"\n");
    let json = serde_json::to_value(report.entries()).unwrap();
    let unknown = json
        .as_array()
        .unwrap()
        .iter()
        .find(|entry| entry["code"] == "unknown-key")
        .unwrap();
    assert_eq!(unknown["severity"], "error");
    assert_eq!(unknown["places"][0]["file"], "tandem.toml");
    assert_eq!(unknown["places"][0]["line"], 2);
    assert_eq!(unknown["places"][0]["text"], "did you mean `id`?");
}

#[test]
fn a_host_with_a_proxy_alone_is_complete() {
    let host = "[host]\nid = \"p\"\naddress = \"10.0.0.9\"\n";
    let text = format!("{host}{}", PROXY.replace("\"orders\", ", ""));
    let settings = good(&text);
    assert!(settings.groups.is_empty() && settings.peers.is_empty());
    let proxy = &settings.proxies[0];
    assert_eq!(proxy.name, "proxy-6379");
    assert_eq!(
        (proxy.hash.name(), proxy.distribution.name()),
        ("xxh3", "rendezvous")
    );
    assert_eq!(proxy.hash_tag, Some(*b"{}"));
    assert!(
        matches!(&proxy.shards[0].at, settings::ShardAt::Daemons { daemons } if daemons.len() == 2)
    );
}

#[test]
fn a_proxy_s_shards_have_to_be_somewhere_and_once() {
    let wrong = |from: &str, to: &str| {
        let text = format!("{PAIR}{}", PROXY.replace(from, to));
        let codes: Vec<_> = errors(&text).into_iter().map(|(code, ..)| code).collect();
        codes
    };
    assert_eq!(
        wrong("\"orders\", \"stock\"", "\"orders\", \"stocks\", \"stock\""),
        ["no-such-group"]
    );
    assert_eq!(
        wrong("\"orders\", ", "\"orders\", \"orders\", "),
        ["same-group"]
    );
    assert_eq!(wrong("\"orders\", \"stock\"", "\"orders\""), ["idle-group"]);
    assert_eq!(
        wrong("daemons", "server = \"10.0.0.3:6379\"\ndaemons"),
        ["proxy-group"]
    );
    assert_eq!(
        wrong(
            "listen",
            "hash = \"xxh3\"\ndistribution = \"ketama\"\nlisten"
        ),
        ["placement"]
    );
    assert_eq!(
        wrong("listen", "hash = \"fnv1a_46\"\nlisten"),
        ["wrong-value"]
    );
}

const PROXY_VIP: &str = r#"
[proxy.vip]
address = "10.0.0.200/24"
interface = "eth0"

[proxy.vrrp]
router_id = 52
priority = 101
"#;

#[test]
fn a_proxy_s_vip_needs_no_peer_and_follows_the_write_up() {
    let host = "[host]\nid = \"p\"\naddress = \"10.0.0.9\"\n";
    let proxy = PROXY.replace("\"orders\", ", "");
    let vip = good(&format!("{host}{proxy}{PROXY_VIP}"))
        .proxies
        .remove(0)
        .vip
        .unwrap();
    assert_eq!(vip.front.lifetime, Duration::from_secs(3));
    assert_eq!(vip.vrrp.interface, "eth0", "the VIP's");
    assert_eq!(vip.vrrp.advert_interval, Duration::from_millis(300));
    assert!(!vip.preempt);
}

#[test]
fn a_proxy_s_vip_that_could_not_work_is_refused_where_it_stands() {
    let wrong = |from: &str, to: &str| {
        let whole = format!("{PAIR}{PROXY}{PROXY_VIP}");
        let text = whole.replace(from, to);
        assert_ne!(text, whole);
        let codes: Vec<_> = errors(&text).into_iter().map(|(code, ..)| code).collect();
        codes
    };
    good(&format!("{PAIR}{PROXY}{PROXY_VIP}"));
    // In place of the VIP itself `listen` may be every address, and none other.
    good(&format!("{PAIR}{PROXY}{PROXY_VIP}").replace("10.0.0.200:6379", "0.0.0.0:6390"));
    assert_eq!(wrong("10.0.0.200:6379", "10.0.0.1:6390"), ["unheard-vip"]);
    assert_eq!(wrong("10.0.0.200/24", "2001:db8::200/64"), ["unheard-vip"]);
    assert_eq!(
        wrong("router_id = 52", "router_id = 51"),
        ["same-router-id"]
    );
    assert_eq!(wrong("10.0.0.200", "10.0.0.100"), ["same-vip"]);
    assert_eq!(wrong("10.0.0.200", "10.0.0.2"), ["vip-taken"]);
    assert_eq!(wrong("priority = 101", "priority = 255"), ["out-of-range"]);
    assert_eq!(
        wrong(
            "priority = 101",
            "priority = 101\nadvert_interval = \"5ms\""
        ),
        ["advert-interval"]
    );
    assert_eq!(
        wrong("[proxy.vrrp]\nrouter_id = 52\npriority = 101\n", ""),
        ["no-elector"]
    );
    assert_eq!(
        wrong(
            "[proxy.vip]\naddress = \"10.0.0.200/24\"\ninterface = \"eth0\"\n",
            ""
        ),
        ["no-vip"]
    );
    let host = "[host]\nid = \"p\"\naddress = \"10.0.0.9\"\n";
    let alone = format!(
        "{host}{}{PROXY_VIP}unicast = true\n",
        PROXY.replace("\"orders\", ", "")
    );
    let codes: Vec<_> = errors(&alone).into_iter().map(|(code, ..)| code).collect();
    assert_eq!(codes, ["no-peer"]);
}

#[test]
fn a_cluster_stands_in_place_of_groups_and_says_itself_where_keys_are() {
    let host = "[host]\nid = \"p\"\naddress = \"10.0.0.9\"\n";
    let with = |lines: &str| {
        format!(
            "{host}[[proxy]]\nlisten = \"10.0.0.9:6379\"\ncluster = [\"10.0.0.1:7000\", \"10.0.0.2:7000\"]\n{lines}\n"
        )
    };
    let proxy = &good(&with("password_file = \"/etc/tandem/redis.password\"")).proxies[0];
    assert_eq!(proxy.cluster.len(), 2);
    assert!(proxy.shards.is_empty());
    assert_eq!(proxy.distribution.name(), "slots");
    let wrong = |lines: &str| codes(&with(lines));
    assert_eq!(wrong("hash = \"xxh3\""), ["cluster"]);
    assert_eq!(wrong("hash_tag = \"{}\""), ["cluster"]);
    assert_eq!(wrong("groups = [\"orders\"]"), ["cluster"]);
    assert_eq!(
        wrong("[[proxy.group]]\nname = \"x\"\nserver = \"10.0.0.3:6379\""),
        ["cluster"]
    );
    assert_eq!(wrong("ack = 1"), ["cluster-ack"]);
    assert_eq!(wrong("read = \"replica\""), ["cluster-read"]);
    let seeds =
        |seeds: &str| codes(&with("").replace("[\"10.0.0.1:7000\", \"10.0.0.2:7000\"]", seeds));
    assert_eq!(seeds("[]"), ["seeds"]);
    assert_eq!(seeds("[\"0.0.0.0:7000\"]"), ["seeds"]);
    assert_eq!(seeds("[\"10.0.0.1\"]"), ["wrong-value"]);
    let neither = format!("{host}[[proxy]]\nlisten = \"10.0.0.9:6379\"\n");
    assert_eq!(codes(&neither), ["missing-key"]);
}

fn codes(text: &str) -> Vec<&'static str> {
    errors(text).into_iter().map(|(code, ..)| code).collect()
}

#[test]
fn what_replicas_are_for_is_said_per_proxy_and_refused_where_it_cannot_be_kept() {
    use tandem_proxy::settings::{Ack, ReadFrom, Replicas};
    let with = |lines: &str| {
        format!(
            "{PAIR}{}",
            PROXY.replace("listen", &format!("{lines}\nlisten"))
        )
    };
    let replicas = |lines: &str| good(&with(lines)).proxies[0].replicas;
    assert_eq!(replicas(""), Replicas::default());
    assert_eq!(
        replicas("ack = 1\nwhen_alone = \"refuse\"\nreads = \"acked\""),
        Replicas {
            ack: Some(Ack {
                replicas: 1,
                reads: true,
                alone: false,
            }),
            read: ReadFrom::Primary,
        }
    );
    assert_eq!(replicas("read = \"replica\"").read, ReadFrom::Replica);
    let wrong = |lines: &str| codes(&with(lines));
    assert_eq!(wrong("ack = 9"), ["out-of-range"]);
    assert_eq!(wrong("ack = 1\nwhen_alone = \"continue\""), ["alone"]);
    assert_eq!(wrong("when_alone = \"continue\""), ["no-ack"]);
    let here = format!(
        "{PAIR}[[proxy]]\nlisten = \"10.0.0.9:6379\"\ngroups = [\"orders\"]\nack = 1\nwhen_alone = \"continue\"\n"
    );
    let alone = good(&here).proxies[0].replicas.ack;
    assert!(
        alone.is_some_and(|ack| ack.alone),
        "the group is this host's"
    );
    assert_eq!(wrong("reads = \"acked\""), ["no-ack"]);
    assert_eq!(
        wrong("ack = 1\nreads = \"acked\"\nread = \"replica\""),
        ["two-kinds-of-read"]
    );
    let fixed = |lines: &str| {
        let text = with(lines).replace(
            "daemons = [\"10.0.1.1:26379\", \"10.0.1.2:26379\"]",
            "server = \"10.0.0.3:6379\"",
        );
        assert!(text.contains("server = \"10.0.0.3:6379\""));
        codes(&text)
    };
    assert_eq!(fixed("ack = 1"), ["no-replicas"]);
    assert_eq!(fixed("read = \"replica\""), ["no-replicas"]);
}
