//! `tandem vrrp` and the real keepalived share one address. The whole matrix is `interop::matrix()`, for the bench;
//! here every two properties meet once.

#![expect(
    clippy::unwrap_used,
    reason = "in a test a panic is the report, also in its helpers"
)]

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use tandem_lab::interop::{Blow, Case, Mode, Rank, Wire, pairwise, run};
use tandem_lab::ns::{Host, Lab};
use tandem_lab::process::Process;
use tandem_lab::{can_run_as_root, interop, poll};

/// Runs the cases of one kind of wire, so that a failure names it and the kinds are separate tests.
fn play(test: &str, wire: Wire) {
    if !can_run_as_root(test) {
        return;
    }
    let cases = pairwise();
    let of_wire: Vec<_> = cases.iter().filter(|case| case.wire == wire).collect();
    assert!(!of_wire.is_empty());
    for case in of_wire {
        if let Err(error) = run(*case) {
            panic!("{error:?}");
        }
    }
}

#[test]
fn version_2_without_authentication() {
    play("version_2_without_authentication", Wire::V2);
}

#[test]
fn version_2_with_a_password() {
    play("version_2_with_a_password", Wire::V2Pass);
}

#[test]
fn version_3() {
    play("version_3", Wire::V3);
}

#[test]
fn the_matrix_for_the_bench_contains_the_subset() {
    let all = interop::matrix();
    assert!(pairwise().iter().all(|case| all.contains(case)));
    assert!(all.contains(&Case {
        wire: Wire::V3,
        mode: Mode::Unicast,
        rank: Rank::Equal,
        blow: Blow::Cut
    }));
}

/// A host with `tandem vrrp` on it and a master without company.
fn alone() -> (Lab, Process) {
    let lab = Lab::builder().host("a", "10.0.0.1/24").build().unwrap();
    write_config(lab.host("a"), 100, &[VIP]);
    let daemon = start(lab.host("a"));
    has(lab.host("a"), VIP, true);
    (lab, daemon)
}

const VIP: &str = "10.0.0.100";

fn write_config(host: &Host, priority: u8, vips: &[&str]) {
    let script = host.dir().join("notify.sh");
    let log = host.dir().join("notify.log");
    let text = format!("#!/bin/sh\necho \"$@\" >> {}\n", log.display());
    // A file cannot be written while it is executed, and at a reload it may be.
    if !script.exists() {
        std::fs::write(&script, text).unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let text = format!(
        "global_defs {{\n script_user root\n}}\nvrrp_instance VI_1 {{\n interface eth0\n version 3\n advert_int 0.1\n virtual_router_id 51\n priority {priority}\n virtual_ipaddress {{\n {}\n }}\n notify {}\n}}\n",
        vips.join("\n "),
        script.display()
    );
    std::fs::write(host.dir().join("keepalived.conf"), text).unwrap();
}

fn start(host: &Host) -> Process {
    interop::start_tandem(host, &host.dir().join("keepalived.conf")).unwrap()
}

fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    poll::until(
        what,
        Duration::from_secs(20),
        Duration::from_millis(20),
        || {
            Ok(if condition() {
                Ok(())
            } else {
                Err("not yet".to_owned())
            })
        },
    )
    .unwrap();
}

fn has(host: &Host, address: &str, expected: bool) {
    let address = address.parse().unwrap();
    eventually(&format!("{address} there: {expected}"), || {
        host.has_address(address).unwrap() == expected
    });
}

fn state(host: &Host, pointer: &str) -> serde_json::Value {
    let text = std::fs::read_to_string(host.dir().join("state.json")).unwrap_or_default();
    serde_json::from_str::<serde_json::Value>(&text)
        .ok()
        .and_then(|state| state.pointer(pointer).cloned())
        .unwrap_or_default()
}

fn told(host: &Host) -> Vec<String> {
    let text = std::fs::read_to_string(host.dir().join("notify.log")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn an_address_that_somebody_removes_is_put_back_in_place() {
    if !can_run_as_root("an_address_that_somebody_removes_is_put_back_in_place") {
        return;
    }
    let (lab, _daemon) = alone();
    let host = lab.host("a");
    host.run("ip", &["addr", "del", "10.0.0.100/32", "dev", "eth0"])
        .unwrap();
    eventually("the address to be counted as put back", || {
        state(host, "/instances/0/addresses_restored") == 1
    });
    has(host, VIP, true);
    assert_eq!(
        told(host),
        ["INSTANCE VI_1 BACKUP 100", "INSTANCE VI_1 MASTER 100"],
        "no change of state"
    );
}

#[test]
fn a_reload_keeps_the_master_and_moves_addresses_and_priority() {
    if !can_run_as_root("a_reload_keeps_the_master_and_moves_addresses_and_priority") {
        return;
    }
    let (lab, daemon) = alone();
    let host = lab.host("a");
    write_config(host, 120, &["10.0.0.101", "10.0.0.102"]);
    host.run("kill", &["-HUP", &daemon.pid().to_string()])
        .unwrap();
    for (address, expected) in [("10.0.0.101", true), ("10.0.0.102", true), (VIP, false)] {
        has(host, address, expected);
    }
    eventually("the new priority", || {
        state(host, "/instances/0/effective_priority") == 120
    });
    // A file with errors changes nothing.
    std::fs::write(host.dir().join("keepalived.conf"), "vrrp_instance VI_1 {\n").unwrap();
    host.run("kill", &["-HUP", &daemon.pid().to_string()])
        .unwrap();
    let log = host.dir().join("tandem.log");
    eventually("the refusal in the log", || {
        std::fs::read_to_string(&log)
            .unwrap()
            .contains("the old configuration stays in force")
    });
    has(host, "10.0.0.101", true);
    assert_eq!(state(host, "/instances/0/counters/become_master"), 1);
    assert_eq!(state(host, "/instances/0/counters/pri_zero_sent"), 0);
}

#[test]
fn an_interface_that_is_made_anew_is_joined_again() {
    if !can_run_as_root("an_interface_that_is_made_anew_is_joined_again") {
        return;
    }
    let lab = Lab::builder()
        .host("a", "10.0.0.1/24")
        .host("b", "10.0.0.2/24")
        .build()
        .unwrap();
    let (a, b) = (lab.host("a"), lab.host("b"));
    // The link is a macvlan on eth0: it can be deleted and made again without touching the lab's own.
    let make = || {
        for host in [a, b] {
            let address = if host.name() == "a" {
                "10.1.0.1/24"
            } else {
                "10.1.0.2/24"
            };
            if host.run("ip", &["link", "show", "v0"]).is_ok() {
                continue;
            }
            for step in [
                &[
                    "link", "add", "v0", "link", "eth0", "type", "macvlan", "mode", "bridge",
                ][..],
                &["addr", "add", address, "dev", "v0"],
                &["link", "set", "v0", "up"],
            ] {
                host.run("ip", step).unwrap();
            }
        }
    };
    make();
    for (host, priority) in [(a, 150), (b, 100)] {
        write_config(host, priority, &["10.1.0.100"]);
        let file = host.dir().join("keepalived.conf");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replace("eth0", "v0")).unwrap();
    }
    let _daemons = [start(a), start(b)];
    let is = |host: &Host, expected: &str| state(host, "/instances/0/state") == expected;
    eventually("a to be master", || is(a, "MASTER") && is(b, "BACKUP"));
    b.run("ip", &["link", "del", "v0"]).unwrap();
    eventually("b in FAULT", || is(b, "FAULT"));
    make();
    // Deaf, b would become master here.
    eventually("b to hear a again", || {
        is(b, "BACKUP") && state(b, "/instances/0/master") == "10.1.0.1"
    });
    a.run("ip", &["link", "del", "v0"]).unwrap();
    eventually("b to take over", || is(b, "MASTER") && is(a, "FAULT"));
    make();
    eventually("a to take back", || is(a, "MASTER") && is(b, "BACKUP"));
}

#[test]
fn a_file_that_cannot_work_is_refused_with_keepaliveds_codes() {
    if !can_run_as_root("a_file_that_cannot_work_is_refused_with_keepaliveds_codes") {
        return;
    }
    let lab = Lab::builder().host("a", "10.0.0.1/24").build().unwrap();
    let host = lab.host("a");
    write_config(host, 100, &[VIP]);
    let file = host.dir().join("keepalived.conf");
    let good = std::fs::read_to_string(&file).unwrap();
    let run = |check: bool| {
        let mut command = Command::new(tandem_lab::tandem_binary().unwrap());
        command.args(["vrrp", "-f"]).arg(&file);
        if check {
            command.arg("-t");
        }
        let output = host.enter(|| command.output()).unwrap().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code().unwrap(), said)
    };
    std::fs::write(&file, good.replace("notify.sh", "missing.sh")).unwrap();
    let (code, said) = run(false);
    assert_eq!(code, 2, "{said}");
    assert!(
        said.contains("keepalived.conf:13:") && said.contains("does not exist"),
        "{said}"
    );
    assert_eq!(run(true).0, 5);
    std::fs::write(&file, good.replace("interface eth0", "interface eth7")).unwrap();
    let (code, said) = run(false);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("there is no interface eth7"), "{said}");
    std::fs::remove_file(&file).unwrap();
    assert_eq!(run(true).0, 4);
}

/// A group of an IPv4 and an IPv6 instance, steered by a file, its states told to a script.
fn write_group(host: &Host, priority: u8) {
    write_config(host, priority, &[VIP]);
    let dir = host.dir().display();
    let instance = |name: &str, addresses: &str| {
        format!(
            "vrrp_instance {name} {{\n interface eth0\n version 3\n advert_int 0.1\n virtual_router_id 51\n priority {priority}\n virtual_ipaddress {{\n {addresses}\n }}\n}}\n"
        )
    };
    let text = format!(
        "global_defs {{\n script_user root\n}}\ntrack_file steer {{\n file {dir}/steer\n weight 1\n init_file 0\n}}\nvrrp_sync_group G {{\n group {{\n V4\n V6\n }}\n sync_group_tracking_weight\n track_file {{\n steer\n }}\n notify {dir}/notify.sh\n}}\n{}{}",
        instance("V4", VIP),
        instance("V6", "fe80::100\n 2001:db8::100"),
    );
    std::fs::write(host.dir().join("keepalived.conf"), text).unwrap();
}

#[test]
fn a_sync_group_of_both_families_moves_as_one_between_the_two() {
    if !can_run_as_root("a_sync_group_of_both_families_moves_as_one_between_the_two") {
        return;
    }
    let lab = Lab::builder()
        .host("a", "10.0.0.1/24")
        .host("b", "10.0.0.2/24")
        .build()
        .unwrap();
    let (a, b) = (lab.host("a"), lab.host("b"));
    write_group(a, 150);
    write_group(b, 100);
    let mut tandem = start(a);
    let _keepalived = interop::start_keepalived(b, &b.dir().join("keepalived.conf")).unwrap();
    let both_on = |host: &Host, other: &Host| {
        for address in [VIP, "2001:db8::100"] {
            has(host, address, true);
            has(other, address, false);
        }
    };
    let steer = |value: &str| std::fs::write(a.dir().join("steer"), value).unwrap();
    both_on(a, b);
    steer("-100");
    both_on(b, a);
    steer("0");
    both_on(a, b);
    assert!(tandem.terminate(Duration::from_secs(20)).unwrap().success());
    both_on(b, a);
    let words = |host: &Host| -> Vec<String> {
        let lines = told(host);
        lines
            .iter()
            .filter_map(|line| line.strip_prefix("GROUP G "))
            .map(str::to_owned)
            .collect()
    };
    // What a start looks like depends on duplicate address detection; from the first mastership on it is certain.
    let from_master = |host: &Host| {
        let words = words(host);
        let first = words.iter().position(|word| word == "MASTER 0");
        words[first.unwrap()..].to_vec()
    };
    // Each change once and in order. A host that stalls for longer than Master_Down yields once more, as it must.
    let told = from_master(a);
    assert!(told.len() >= 4, "{told:?}");
    assert_eq!(told[told.len() - 2..], ["MASTER 0", "STOP 0"], "{told:?}");
    assert!(told.contains(&"BACKUP 0".to_owned()), "{told:?}");
    assert!(told.windows(2).all(|pair| pair[0] != pair[1]), "{told:?}");
    eventually(
        "keepalived's script to be told of its last mastership",
        || words(b).last().map(String::as_str) == Some("MASTER 0"),
    );
}

#[test]
fn a_stranger_with_our_vrid_is_named_and_does_not_silence_us() {
    if !can_run_as_root("a_stranger_with_our_vrid_is_named_and_does_not_silence_us") {
        return;
    }
    let lab = Lab::builder()
        .host("a", "10.0.0.1/24")
        .host("b", "10.0.0.2/24")
        .build()
        .unwrap();
    let (a, b) = (lab.host("a"), lab.host("b"));
    write_config(a, 100, &[VIP]);
    // Another cluster: the same VRID, version 2, a password, its own address.
    write_config(b, 254, &["10.0.0.200"]);
    let file = b.dir().join("keepalived.conf");
    let theirs = std::fs::read_to_string(&file).unwrap().replace(
        "version 3\n advert_int 0.1",
        "version 2\n advert_int 1\n authentication {\n auth_type PASS\n auth_pass other\n }",
    );
    std::fs::write(&file, theirs).unwrap();
    let _tandem = start(a);
    has(a, VIP, true);
    let _keepalived = interop::start_keepalived(b, &file).unwrap();
    let log = a.dir().join("tandem.log");
    eventually("the stranger's address in the log", || {
        std::fs::read_to_string(&log)
            .unwrap()
            .contains("10.0.0.2 speaks VRID 51 and is not understood")
    });
    assert!(b.has_address("10.0.0.200".parse().unwrap()).unwrap());
    has(a, VIP, true);
    assert_eq!(state(a, "/instances/0/counters/release_master"), 0);
}
