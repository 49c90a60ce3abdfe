//! `[group.local]`: two servers of one host.

#![allow(clippy::unwrap_used, reason = "a panic in a test is its report")]

use tandem_config::Severity;
use tandem_config::settings::{self, Elector};

const LOCAL: &str = r#"
[host]
id = "a"
address = "10.0.0.1"

[[group]]
name = "orders"
servers = ["10.0.0.1:6379", "10.0.0.1:63791"]

[group.local]
"#;

fn errors(text: &str) -> Vec<(&'static str, usize)> {
    let (settings, report) = settings::read("tandem.toml", text);
    assert!(settings.is_none(), "accepted:\n{text}");
    let entries = report.entries();
    let errors = entries.iter();
    errors
        .filter(|entry| entry.severity == Severity::Error)
        .map(|entry| (entry.code, entry.places[0].line))
        .collect()
}

#[test]
fn two_servers_make_two_seats_and_need_no_peer() {
    let (settings, report) = settings::read("tandem.toml", LOCAL);
    let settings = settings.unwrap_or_else(|| panic!("{}", report.render(false)));
    let group = &settings.groups[0];
    assert!(group.vrrp().is_none());
    let seats: Vec<(String, bool)> = group
        .seats()
        .iter()
        .map(|seat| {
            let Elector::Local { preferred, .. } = seat.elector else {
                panic!("{seat:?}");
            };
            assert!(seat.servers().eq([seat.server, seat.other().unwrap()]));
            (seat.seat_name(), preferred)
        })
        .collect();
    let named = |name: &str, preferred| (name.to_owned(), preferred);
    assert_eq!(
        seats,
        [
            named("orders/10.0.0.1:6379", true),
            named("orders/10.0.0.1:63791", false)
        ]
    );
    // Either seat's group is the same one.
    assert_eq!(group.seats()[1].seats()[1], *group);
}

#[test]
fn what_belongs_to_two_hosts_is_refused_where_it_stands() {
    let wrong = |from: &str, to: &str| {
        let text = LOCAL.replace(from, to);
        assert_ne!(text, LOCAL);
        errors(&text)
    };
    assert_eq!(wrong(", \"10.0.0.1:63791\"", ""), [("two-servers", 8)]);
    assert_eq!(wrong("63791", "6379"), [("two-servers", 8)]);
    assert_eq!(
        wrong("10.0.0.1:63791", "127.0.0.1:63791"),
        [("loopback-server", 8)]
    );
    assert_eq!(
        wrong("[group.local]", "[group.local]\nport = 1"),
        [("unknown-key", 11)]
    );
    assert_eq!(
        wrong(
            "[group.local]",
            "[group.local]\n[group.vip]\naddress = \"10.0.0.9\"\ninterface = \"eth0\""
        ),
        [("local-vip", 11)]
    );
    assert_eq!(
        wrong(
            "[group.local]",
            "manage = \"systemd\"\nunit = \"redis.service\"\n[group.local]"
        ),
        [("local-manage", 10)]
    );
    assert_eq!(
        wrong(
            "[group.local]",
            "[group.local]\n[group.vrrp]\nrouter_id = 1\npriority = 1\ninterface = \"eth0\""
        ),
        [("two-electors", 11), ("pair-of-one", 11)]
    );
    assert_eq!(
        wrong(
            "[group.local]",
            "[group.local]\n[group.sentinel]\nmaster = \"m\"\nsentinels = [\"10.0.0.5:26379\"]"
        ),
        [("one-server", 8), ("two-electors", 10)]
    );
    let twice = format!(
        "{LOCAL}[[group]]\nname = \"b\"\nservers = [\"10.0.0.1:63791\", \"10.0.0.1:7000\"]\n[group.local]\n"
    );
    assert_eq!(errors(&twice), [("same-server", 13)]);
}
