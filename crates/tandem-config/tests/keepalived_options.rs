//! The options of an address line and of a FIFO, in keepalived's grammar.

#![allow(clippy::unwrap_used, reason = "a panic in a test is its report")]

use std::path::Path;
use std::time::Duration;

use tandem_config::keepalived::{self, ConfigAddress, Env, ExitClass, Loaded, MapFiles};

fn load(text: &str) -> Loaded {
    let files = MapFiles::new().with("/k.conf", text);
    keepalived::read(Path::new("/k.conf"), &files, &Env::default())
}

/// A file whose only address is this line.
fn with_address(line: &str) -> Loaded {
    load(&format!(
        "vrrp_instance A {{\n interface eth0\n virtual_router_id 51\n virtual_ipaddress {{\n {line}\n }}\n}}\n"
    ))
}

fn address(line: &str) -> ConfigAddress {
    let loaded = with_address(line);
    let shown = loaded.report.render(false);
    assert_eq!(loaded.exit, ExitClass::Ok, "{line}: {shown}");
    loaded.config.instances[0].addresses[0].clone()
}

#[test]
fn broadcast_addresses_are_given_or_derived() {
    for (line, expected) in [
        ("10.0.0.9/24", None),
        ("10.0.0.9/24 brd 10.0.0.127", Some("10.0.0.127")),
        ("10.0.0.9/24 broadcast +", Some("10.0.0.255")),
        ("10.0.0.9/24 brd -", Some("10.0.0.0")),
        ("10.0.0.9/0 brd +", Some("255.255.255.255")),
        ("10.0.0.9 brd +", Some("10.0.0.9")),
    ] {
        let found = address(line).broadcast.map(|found| found.to_string());
        assert_eq!(found.as_deref(), expected, "{line}");
    }
}

#[test]
fn scopes_have_names_and_numbers() {
    for (word, expected) in [
        ("global", 0),
        ("site", 200),
        ("link", 253),
        ("host", 254),
        ("nowhere", 255),
        ("17", 17),
    ] {
        let line = format!("10.0.0.9 scope {word}");
        assert_eq!(address(&line).scope, Some(expected), "{word}");
    }
    assert_eq!(address("10.0.0.9").scope, None);
}

#[test]
fn a_whole_ipv6_address_is_deprecated_unless_the_line_says_otherwise() {
    for (line, expected) in [
        ("10.0.0.9", None),
        ("10.0.0.9 preferred_lft 0", None),
        ("fe80::9", Some(0)),
        ("fe80::9/64", None),
        ("fe80::9 preferred_lft forever", None),
        ("fe80::9/64 preferred_lft 30", Some(30)),
    ] {
        assert_eq!(
            address(line).preferred_lifetime,
            expected.map(Duration::from_secs),
            "{line}"
        );
    }
}

#[test]
fn what_an_option_cannot_be_is_said_where_it_stands() {
    for (line, said) in [
        ("10.0.0.9 brd x", "an IPv4 address, + or -"),
        ("fe80::9 brd +", "IPv6 has no broadcast"),
        ("10.0.0.9 scope everywhere", "or a number up to 255"),
        ("10.0.0.9 scope 256", "or a number up to 255"),
        ("10.0.0.9 label eth0:a-long-label", "at most 15 bytes"),
        ("10.0.0.9 preferred_lft soon", "a number of seconds"),
        ("10.0.0.9 preferred_lft 0", "has no effect"),
        ("10.0.0.9 label", "followed by a value"),
        ("10.0.0.9 label eth1:1", "does not begin with `eth0`"),
        ("fe80::9 label eth0:1", "IPv6 addresses have no label"),
    ] {
        let shown = with_address(line).report.render(false);
        assert!(shown.contains(said), "{line}: {shown}");
        assert!(shown.contains("/k.conf:5:"), "{line}: {shown}");
    }
}

#[test]
fn a_label_is_compared_with_the_interface_that_carries_the_address() {
    let line = address("10.0.0.9 label eth1:1 dev eth1");
    assert_eq!(
        (line.label.as_deref(), line.interface.as_str()),
        (Some("eth1:1"), "eth1")
    );
}

/// As keepalived 2.2.7 with `-t` on the same lines.
#[test]
fn what_keepalived_minds_is_a_configuration_error() {
    for (line, exit) in [
        ("10.0.0.9 label eth0:a-long-label", ExitClass::ConfigErrors),
        ("10.0.0.9 label eth7:1", ExitClass::Ok),
        ("10.0.0.9 scope everywhere", ExitClass::ConfigErrors),
        ("10.0.0.9 scope 17", ExitClass::Ok),
        ("fe80::9 label eth0:1", ExitClass::ConfigErrors),
        ("fe80::9 brd +", ExitClass::ConfigErrors),
        ("10.0.0.9 preferred_lft soon", ExitClass::ConfigErrors),
    ] {
        assert_eq!(with_address(line).exit, exit, "{line}");
    }
}

#[test]
fn an_instance_on_the_loopback_is_refused() {
    let loaded = load(
        "vrrp_instance A {\n interface lo\n virtual_router_id 51\n virtual_ipaddress {\n 10.0.0.9\n }\n}\n",
    );
    assert_eq!(loaded.exit, ExitClass::ConfigErrors);
    assert!(loaded.report.has_errors());
}

#[test]
fn a_fifo_may_name_its_owner() {
    let loaded =
        load("global_defs {\n notify_fifo /run/a\n vrrp_notify_fifo /run/b redis adm\n}\n");
    let global = &loaded.config.global;
    let (one, other) = (
        global.notify_fifo.as_ref().unwrap(),
        global.vrrp_notify_fifo.as_ref().unwrap(),
    );
    assert_eq!(
        (one.path.as_path(), &one.owner),
        (Path::new("/run/a"), &None)
    );
    assert_eq!(
        other.owner,
        Some(("redis".to_owned(), Some("adm".to_owned())))
    );
}

#[test]
fn one_fifo_under_both_names_is_a_trap() {
    let loaded = load("global_defs {\n notify_fifo /run/a\n vrrp_notify_fifo /run/a\n}\n");
    let codes: Vec<_> = loaded
        .report
        .diagnostics
        .iter()
        .map(|found| found.code)
        .collect();
    assert!(codes.contains(&"same-fifo"), "{codes:?}");
}
