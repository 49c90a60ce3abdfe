//! `[group.sentinel]`: what is read, and what is refused where.

#![allow(clippy::unwrap_used)] // A panic in a test is its report.

use tandem_config::settings;

const FILE: &str = r#"[host]
id = "a"
address = "10.0.0.1"
port = 26380

[[group]]
name = "orders"
servers = ["10.0.0.1:6379"]

[group.vip]
address = "10.0.0.100/24"
interface = "eth0"

[group.sentinel]
master = "mymaster"
sentinels = ["10.0.0.1:26379", "10.0.0.2:26379"]
"#;

#[test]
fn a_follower_needs_no_peer_and_no_secret() {
    let (settings, report) = settings::read("tandem.toml", FILE);
    let settings = settings.unwrap_or_else(|| panic!("{}", report.render(false)));
    assert!(settings.groups.is_empty());
    let follow = &settings.follows[0];
    assert_eq!(
        (follow.name.as_str(), follow.fleet.master.as_str()),
        ("orders", "mymaster")
    );
    assert_eq!(follow.fleet.sentinels.len(), 2);
    assert!(follow.vip.is_some());
}

/// Each change of the file with the code, line and column of the first finding.
#[test]
fn findings_name_the_place() {
    let table = [
        ("master = \"mymaster\"\n", "", ("missing-key", 14, 8)),
        (
            "\"10.0.0.1:26379\", \"10.0.0.2:26379\"",
            "",
            ("no-sentinel", 16, 13),
        ),
        (
            "10.0.0.2:26379",
            "10.0.0.1:26379",
            ("same-sentinel", 16, 13),
        ),
        ("port = 26380", "port = 26379", ("own-port", 16, 13)),
        ("10.0.0.2:26379", "sentinel-2", ("wrong-value", 16, 32)),
        ("master =", "mastre =", ("missing-key", 14, 8)),
        (
            "master = \"mymaster\"",
            "master = \"mymaster\"\nusername = \"t\"",
            ("no-password", 16, 12),
        ),
        (
            "master = \"mymaster\"",
            "master = \"mymaster\"\npassword = \"t\"",
            ("inline-secret", 16, 1),
        ),
        (
            "[group.vip]",
            "preempt = \"never\"\n\n[group.vip]",
            ("idle-key", 10, 11),
        ),
        (
            "10.0.0.1:6379\"]",
            "0.0.0.0:6379\"]",
            ("unnamed-server", 8, 11),
        ),
        ("10.0.0.100/24", "10.0.0.1/24", ("vip-taken", 11, 11)),
        (
            "[group.sentinel]",
            "[group.vrrp]\nrouter_id = 1\npriority = 1\n[group.sentinel]",
            ("two-electors", 14, 1),
        ),
    ];
    for (from, to, expected) in table {
        assert!(FILE.contains(from), "{from}");
        let (settings, report) = settings::read("tandem.toml", &FILE.replacen(from, to, 1));
        assert!(settings.is_none(), "accepted with {to:?}");
        let found = &report.entries()[0];
        let place = &found.places[0];
        assert_eq!(
            (found.code, place.line, place.column),
            expected,
            "{to:?}\n{}",
            report.render(false)
        );
    }
}
