//! Version 2 with an IP authentication header against the real keepalived: each understands the other, and neither understands
//! a wrong key.

#![allow(clippy::unwrap_used, reason = "a helper fails as its test does")]

mod vrrp_common;

use std::time::Duration;

use tandem_lab::can_run_as_root;
use tandem_lab::ns::{Host, Lab};

use vrrp_common::{Advert, Capture, eventually, has, keepalived, read, state, tandem, write};

const VIP: &str = "10.0.0.100";

fn config(priority: u8, key: &str, unicast: Option<(&str, &str)>) -> String {
    let unicast = unicast.map_or(String::new(), |(own, peer)| {
        format!("unicast_src_ip {own}\n unicast_peer {{\n {peer}\n }}")
    });
    format!(
        "vrrp_instance VI_1 {{\n interface eth0\n version 2\n advert_int 1\n virtual_router_id 51\n priority {priority}\n {unicast}\n authentication {{\n auth_type AH\n auth_pass {key}\n }}\n virtual_ipaddress {{\n {VIP}\n }}\n}}\n"
    )
}

fn lab() -> Lab {
    Lab::builder()
        .host("a", "10.0.0.1/24")
        .host("b", "10.0.0.2/24")
        .build()
        .unwrap()
}

fn failures(host: &Host) -> u64 {
    state(host, "/instances/0/counters/auth_failure")
        .as_u64()
        .unwrap_or_default()
}

/// Both directions in turn: a backup that understood nothing would become master as well.
fn both_directions(test: &str, unicast: bool) {
    if !can_run_as_root(test) {
        return;
    }
    let lab = lab();
    let (a, b) = (lab.host("a"), lab.host("b"));
    let wire = |own, peer| unicast.then_some((own, peer));
    write(a, &config(150, "secret12", wire("10.0.0.1", "10.0.0.2")));
    write(b, &config(100, "secret12", wire("10.0.0.2", "10.0.0.1")));
    let capture = Capture::start(b);
    let mut daemon = tandem(a);
    has(a, VIP, true);
    let _keepalived = keepalived(b);
    let log = b.dir().join("keepalived.log");
    eventually("keepalived to be a backup", || {
        read(&log).contains("Entering BACKUP STATE")
    });
    // Deaf, keepalived would be master after 3.6 s: six adverts later it is not.
    let heard = capture.adverts().len();
    eventually("six adverts", || capture.adverts().len() >= heard + 6);
    assert!(capture.text().contains("AH("), "{}", capture.text());
    assert!(
        !read(&log).contains("Entering MASTER STATE"),
        "{}",
        read(&log)
    );
    has(b, VIP, false);
    // Priority 0 is understood too; then the other way round.
    assert!(daemon.terminate(Duration::from_secs(20)).unwrap().success());
    has(b, VIP, true);
    write(a, &config(50, "secret12", wire("10.0.0.1", "10.0.0.2")));
    let _daemon = tandem(a);
    eventually("tandem to follow keepalived", || {
        state(a, "/instances/0/master") == "10.0.0.2"
    });
    let heard = capture.adverts().len();
    eventually("six adverts of keepalived", || {
        capture.adverts().len() >= heard + 6
    });
    let from_keepalived = |advert: &Advert| advert.source == "10.0.0.2";
    assert!(capture.adverts()[heard..].iter().all(from_keepalived));
    assert_eq!(state(a, "/instances/0/state"), "BACKUP");
    assert_eq!(failures(a), 0);
    has(a, VIP, false);
}

#[test]
fn each_understands_the_other_in_multicast() {
    both_directions("each_understands_the_other_in_multicast", false);
}

#[test]
fn each_understands_the_other_in_unicast() {
    both_directions("each_understands_the_other_in_unicast", true);
}

/// keepalived drops every sequence that is not beyond all it has sent and heard. A daemon that began at 1 again would not be
/// heard for as long as the pair had been up.
#[test]
fn a_daemon_that_was_killed_is_understood_when_it_is_back() {
    if !can_run_as_root("a_daemon_that_was_killed_is_understood_when_it_is_back") {
        return;
    }
    let lab = lab();
    let (a, b) = (lab.host("a"), lab.host("b"));
    write(a, &config(150, "secret12", None));
    write(b, &config(100, "secret12", None));
    let mut daemon = tandem(a);
    has(a, VIP, true);
    let keepalived = keepalived(b);
    eventually("many adverts", || {
        state(a, "/instances/0/counters/advert_sent").as_u64() >= Some(10)
    });
    daemon.kill();
    daemon.wait().unwrap();
    has(b, VIP, true);
    let log = || read(keepalived.log());
    let takeovers = log().matches("Entering MASTER STATE").count();
    let _daemon = tandem(a);
    has(a, VIP, true);
    has(b, VIP, false);
    eventually("a dozen adverts after the return", || {
        state(a, "/instances/0/counters/advert_sent").as_u64() >= Some(12)
    });
    has(b, VIP, false);
    assert!(!log().contains("already processed"), "{}", log());
    assert_eq!(
        log().matches("Entering MASTER STATE").count(),
        takeovers,
        "{}",
        log()
    );
}

#[test]
fn another_key_is_not_believed() {
    if !can_run_as_root("another_key_is_not_believed") {
        return;
    }
    let lab = lab();
    let (a, b) = (lab.host("a"), lab.host("b"));
    write(a, &config(50, "secret12", None));
    write(b, &config(200, "secret13", None));
    let _keepalived = keepalived(b);
    has(b, VIP, true);
    let _daemon = tandem(a);
    has(a, VIP, true);
    eventually("the failures to be counted", || failures(a) > 0);
}
