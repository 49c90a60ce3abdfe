//! A master that is told to reload, again and again, while a real keepalived waits to take over.

#![allow(clippy::unwrap_used, reason = "a helper fails as its test does")]

mod vrrp_common;

use tandem_lab::can_run_as_root;
use tandem_lab::ns::{Host, Lab};

use vrrp_common::{
    Capture, eventually, hang_up, has, keepalived, read, script, state, tandem, wait, write,
};

const VIP: &str = "10.0.0.100";
/// Seconds between adverts: the backup waits for more than three of them, which no reload takes on the slowest machine.
const INTERVAL: f64 = 0.5;
const RELOADS: u8 = 12;

fn config(host: &Host, priority: u8, more_lines: &str, more_addresses: &str, more: &str) -> String {
    let notify = host.dir().join("notify.sh");
    format!(
        "global_defs {{\n script_user root\n}}\nvrrp_instance VI_1 {{\n interface eth0\n version 3\n advert_int {INTERVAL}\n virtual_router_id 51\n priority {priority}\n {more_lines}\n virtual_ipaddress {{\n {VIP}\n }}\n virtual_ipaddress_excluded {{\n 10.0.0.101\n {more_addresses}\n }}\n notify {}\n}}\n{more}",
        notify.display()
    )
}

/// The file before the reload of this number: the same twice, then another one.
fn variant(host: &Host, number: u8) -> String {
    let priority = 150 + number / 2;
    match number / 2 % 4 {
        0 => config(host, priority, "", "", ""),
        1 => config(host, priority, "", "10.0.0.102/24 label eth0:two", ""),
        2 => config(host, priority, "garp_master_refresh 1", "", ""),
        _ => config(
            host,
            priority,
            "",
            "",
            "vrrp_instance VI_2 {\n interface eth0\n virtual_router_id 52\n virtual_ipaddress {\n 10.0.0.110\n }\n}\n",
        ),
    }
}

#[test]
fn reloads_of_the_master_go_unnoticed_by_a_real_keepalived() {
    if !can_run_as_root("reloads_of_the_master_go_unnoticed_by_a_real_keepalived") {
        return;
    }
    let lab = Lab::builder()
        .host("a", "10.0.0.1/24")
        .host("b", "10.0.0.2/24")
        .build()
        .unwrap();
    let (a, b) = (lab.host("a"), lab.host("b"));
    for host in [a, b] {
        let log = host.dir().join("notify.log");
        script(
            host,
            "notify.sh",
            &format!("echo \"$@\" >> {}", log.display()),
        );
    }
    write(a, &variant(a, 0));
    write(b, &config(b, 100, "", "", ""));
    let daemon = tandem(a);
    has(a, VIP, true);
    let _keepalived = keepalived(b);
    let told = |host: &Host| read(&host.dir().join("notify.log"));
    eventually("keepalived to be a backup", || {
        told(b).contains("BACKUP 100")
    });

    let capture = Capture::start(b);
    let log = a.dir().join("tandem.log");
    for number in 1..=RELOADS {
        write(a, &variant(a, number));
        let before = capture.adverts().len();
        hang_up(a, &daemon);
        wait(&format!("reload {number} and adverts after it"), || {
            let reloads = read(&log).matches("Reloading").count();
            let adverts = capture.adverts();
            let as_told = adverts[before..]
                .iter()
                .filter(|advert| advert.vrid == 51 && advert.priority == 150 + number / 2);
            // One leaves at the reload; the timer's own follow.
            match as_told.count() {
                3.. if reloads >= number.into() => Ok(()),
                count => Err(format!(
                    "{reloads} reloads, {count} adverts\n{}",
                    read(&log)
                )),
            }
        });
    }
    let adverts: Vec<_> = capture
        .adverts()
        .into_iter()
        .filter(|advert| advert.vrid == 51)
        .collect();
    assert!(
        adverts.iter().all(|advert| advert.source == "10.0.0.1"),
        "{adverts:?}\n{}",
        read(&log)
    );
    assert!(
        adverts.iter().all(|advert| advert.priority >= 150),
        "none of priority 0: {adverts:?}\n{}",
        read(&log)
    );
    let elapsed = adverts.last().unwrap().at - adverts[0].at;
    let expected = (elapsed / INTERVAL) as usize;
    assert!(
        adverts.len() >= expected / 2,
        "{} adverts in {elapsed:.1} s",
        adverts.len()
    );
    let gap = adverts
        .windows(2)
        .map(|pair| pair[1].at - pair[0].at)
        .fold(0.0, f64::max);
    println!(
        "{} adverts in {elapsed:.1} s, the longest gap {gap:.3} s",
        adverts.len()
    );

    // What decides: the backup never thought that the master was gone.
    assert!(!told(b).contains("MASTER"), "{}", told(b));
    assert_eq!(told(a).lines().last(), Some("INSTANCE VI_1 MASTER 150"));
    assert_eq!(state(a, "/instances/0/counters/become_master"), 1);
    has(a, VIP, true);
    has(b, VIP, false);
}

/// A file that is just being written is empty for a moment.
#[test]
fn a_file_without_an_instance_changes_nothing() {
    if !can_run_as_root("a_file_without_an_instance_changes_nothing") {
        return;
    }
    let lab = Lab::builder().host("a", "10.0.0.1/24").build().unwrap();
    let host = lab.host("a");
    script(host, "notify.sh", "true");
    write(host, &config(host, 150, "", "", ""));
    let daemon = tandem(host);
    has(host, VIP, true);
    write(host, "");
    hang_up(host, &daemon);
    eventually("the refusal in the log", || {
        read(&host.dir().join("tandem.log")).contains("has no instance left")
    });
    write(host, &config(host, 151, "", "", ""));
    hang_up(host, &daemon);
    eventually("the new priority", || {
        state(host, "/instances/0/effective_priority") == 151
    });
    has(host, VIP, true);
    assert_eq!(state(host, "/instances/0/counters/become_master"), 1);
    assert_eq!(state(host, "/instances/0/counters/pri_zero_sent"), 0);
}
