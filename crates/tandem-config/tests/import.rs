//! `tandem import` on the three arrangements that it is for: the original files in, a usable `tandem.toml` out.

#![allow(clippy::unwrap_used, reason = "a panic in a test is its report")]

use std::path::Path;

use tandem_config::import::{ImportFacts, Imported, import};
use tandem_config::keepalived::{self, Env, Loaded, MapFiles, PeerView};
use tandem_config::settings::{self, Preempt, Settings};

/// Reads one host's file of an arrangement, with its scripts where the file expects them.
fn load(arrangement: &str, conf: &str) -> (Loaded, MapFiles) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(arrangement);
    let mut files = MapFiles::new();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let place = if name.ends_with(".sh") {
            format!("/etc/keepalived/scripts/{name}")
        } else {
            format!("/etc/keepalived/{name}")
        };
        files = files.with(place, std::fs::read(&path).unwrap());
    }
    let loaded = keepalived::read(
        &Path::new("/etc/keepalived").join(conf),
        &files,
        &Env {
            has_script_user: true,
            ..Env::default()
        },
    );
    (loaded, files)
}

fn imported(arrangement: &str, facts: &ImportFacts) -> (Loaded, Imported) {
    let (loaded, files) = load(arrangement, "keepalived.conf");
    assert!(
        !loaded.report.has_errors(),
        "{}",
        loaded.report.render(false)
    );
    let imported = import(&loaded, &files, facts);
    (loaded, imported)
}

fn usable(imported: &Imported) -> Settings {
    let (settings, report) = settings::read("tandem.toml", &imported.toml);
    settings.unwrap_or_else(|| panic!("{}\n{}", imported.toml, report.render(false)))
}

fn host(address: &str, peer: Option<&str>) -> ImportFacts {
    ImportFacts {
        host_address: Some(address.parse().unwrap()),
        peer_address: peer.map(|peer| peer.parse().unwrap()),
        ..ImportFacts::default()
    }
}

#[test]
fn two_containers_becomes_toml_without_scripts_and_without_the_password() {
    let (loaded, imported) = imported("two-containers", &host("172.18.0.4", None));
    // keepalived itself has nothing to complain about; the traps are in the arrangement.
    assert_eq!(loaded.exit.code(), 0);
    let settings = usable(&imported);
    let group = &settings.groups[0];
    assert_eq!(group.name, "VI_1");
    assert_eq!(group.server.to_string(), "172.18.0.4:6379");
    assert_eq!(
        settings.peers[0].address.to_string(),
        "172.18.0.5",
        "from notify_backup's arguments"
    );
    assert_eq!(
        group.vip.as_ref().unwrap().addresses[0].to_string(),
        "172.18.0.10/32"
    );
    assert_eq!(
        (
            group.vrrp().unwrap().router_id,
            group.vrrp().unwrap().priority
        ),
        (51, 100)
    );
    assert_eq!(group.preempt, Preempt::AfterSync);
    assert_eq!(group.hooks, settings::Hooks::default());
    assert!(group.vrrp().unwrap().track_script.is_empty());
    assert_eq!(
        group.password_file.as_deref(),
        Some(Path::new("/etc/tandem/redis.password"))
    );
    assert!(
        !imported.toml.contains("123456") && !imported.toml.contains("1111"),
        "{}",
        imported.toml
    );
    for line in [
        "vrrp_script redis_check",
        "notify_master",
        "notify_backup",
        "notify_fault",
        "notify_stop",
        "authentication",
    ] {
        assert!(imported.toml.contains(line), "{line}: {}", imported.toml);
    }
    let lines = imported
        .toml
        .lines()
        .filter(|line| line.contains(" = ") && !line.starts_with('#'))
        .count();
    assert!(lines <= 14, "{lines} settings:\n{}", imported.toml);
}

/// The write-up's own observations about nopreempt are found in the file.
#[test]
fn two_containers_with_nopreempt_says_what_its_author_found_out() {
    let (_, files) = load("two-containers", "keepalived.conf");
    for (name, said) in [
        ("keepalived.conf", "nopreempt-void"),
        ("keepalived-b.conf", "weight-nopreempt"),
    ] {
        let path = Path::new("/etc/keepalived").join(name);
        let text = String::from_utf8(keepalived::Files::read(&files, &path).unwrap()).unwrap();
        let changed = text.replace("advert_int 1", "advert_int 1\n    nopreempt");
        let loaded = keepalived::read(&path, &files.clone().with(&path, changed), &Env::default());
        assert!(
            loaded
                .report
                .diagnostics
                .iter()
                .any(|found| found.code == said),
            "{name}"
        );
    }
}

#[test]
fn auto_failover_waits_for_data_rather_than_for_ten_seconds() {
    let (_, imported) = imported(
        "auto-failover",
        &host("192.168.100.201", Some("192.168.100.202")),
    );
    let settings = usable(&imported);
    assert_eq!(settings.host.id, "redis-a");
    let group = &settings.groups[0];
    assert_eq!(group.vip.as_ref().unwrap().interface, "eth2");
    assert_eq!(
        (
            group.vrrp().unwrap().router_id,
            group.vrrp().unwrap().priority
        ),
        (123, 138)
    );
    assert_eq!(group.password_file, None);
    assert_eq!(group.hooks, settings::Hooks::default());
    assert!(
        imported
            .toml
            .contains("waits for the data rather than for a time"),
        "{}",
        imported.toml
    );
}

/// Its priority rule holds, so a failed check moves the address, and nothing is said.
#[test]
fn the_two_files_of_auto_failover_fit_together() {
    for arrangement in ["auto-failover", "two-containers", "hot-standby"] {
        let (a, _) = load(arrangement, "keepalived.conf");
        let (b, _) = load(arrangement, "keepalived-b.conf");
        for (here, there) in [(&a, &b), (&b, &a)] {
            let mut report = here.report.clone();
            report.diagnostics.clear();
            keepalived::compare(
                &here.config,
                PeerView {
                    config: &there.config,
                },
                &mut report,
            );
            assert!(
                report.diagnostics.is_empty(),
                "{arrangement}: {}",
                report.render(false)
            );
        }
    }
}

#[test]
fn hot_standby_asks_for_what_the_file_does_not_say() {
    let (_, imported) = imported("hot-standby", &ImportFacts::default());
    assert_eq!(
        imported
            .todo
            .iter()
            .filter(|todo| todo.contains("address of"))
            .count(),
        2
    );
    let (settings, report) = settings::read("tandem.toml", &imported.toml);
    assert!(settings.is_none(), "a file with holes must not pass");
    let entries = report.entries();
    assert!(
        entries.iter().all(|entry| entry.code == "missing-key"),
        "{}",
        report.render(false)
    );

    let (_, whole) = self::imported("hot-standby", &host("192.168.1.218", Some("192.168.1.219")));
    assert_eq!(usable(&whole).groups[0].vrrp().unwrap().router_id, 20);
}

#[test]
fn scripts_that_do_more_are_kept_as_hooks() {
    let conf = "vrrp_script disk {\n script \"/etc/k/disk.sh /srv\"\n interval 5\n fall 2\n weight -7\n}\nvrrp_instance R {\n interface eth0\n virtual_router_id 9\n unicast_src_ip 10.0.0.1\n unicast_peer {\n 10.0.0.2\n }\n advert_int 0.1\n version 3\n nopreempt\n virtual_ipaddress {\n 10.0.0.9/24\n }\n track_script {\n disk\n }\n notify_master \"/etc/k/up.sh eth0\"\n notify_fault \"/etc/k/pw.sh hunter2\"\n}\n";
    let files = MapFiles::new()
        .with("/etc/k/disk.sh", "#!/bin/sh\ndf $1 | /usr/local/bin/full\n")
        .with(
            "/etc/k/up.sh",
            "#!/bin/sh\nredis-cli slaveof no one\naws ec2 assign-private-ip-addresses\n",
        )
        .with("/etc/k/pw.sh", "redis-cli -a $1 ping; curl http://pager\n")
        .with("/k.conf", conf);
    let loaded = keepalived::read(
        Path::new("/k.conf"),
        &files,
        &Env {
            has_script_user: true,
            ..Env::default()
        },
    );
    let imported = import(&loaded, &files, &ImportFacts::default());
    let settings = usable(&imported);
    let group = &settings.groups[0];
    assert_eq!(group.hooks.on_promote[0].command, ["/etc/k/up.sh", "eth0"]);
    assert_eq!(
        group.hooks.on_fault[0].command,
        ["/etc/k/pw.sh"],
        "its argument was a password"
    );
    assert!(!imported.toml.contains("hunter2"), "{}", imported.toml);
    let check = &group.vrrp().unwrap().track_script[0];
    assert_eq!(check.script, ["/etc/k/disk.sh", "/srv"]);
    assert_eq!(
        (check.fall, check.weight, check.interval.as_secs()),
        (2, -7, 5)
    );
    assert!(group.vrrp().unwrap().unicast);
    assert_eq!(group.vrrp().unwrap().advert_interval.as_millis(), 100);
    assert_eq!(group.preempt, Preempt::Never);
    assert_eq!(settings.host.socket_addr().ip().to_string(), "10.0.0.1");
    assert_eq!(settings.peers[0].address.to_string(), "10.0.0.2");
}
