//! The arrangements that people run with keepalived, their own files and scripts unchanged, under `tandem vrrp`.

#![expect(
    clippy::unwrap_used,
    reason = "in a test a panic is the report, also in its helpers"
)]

mod scenario;

use tandem_lab::ns::{Host, Lab};
use tandem_lab::process::Process;
use tandem_lab::{can_run_as_root, poll};

use scenario::{
    BOUND, LOOK, becomes, connect, executable, inside, install, install_prefix, moves_to,
    rename_to_eth2, reports, server, serves, start_vrrp, value,
};

#[test]
fn two_containers_runs_as_it_is() {
    if !can_run_as_root("two_containers_runs_as_it_is") {
        return;
    }
    let lab = Lab::builder()
        .host("c4", "172.18.0.4/16")
        .host("c5", "172.18.0.5/16")
        .host("client", "172.18.0.50/16")
        .build()
        .unwrap();
    let (vip, password, hosts) = ("172.18.0.10", Some("123456"), ["c4", "c5"]);
    install(lab.host("c4"), "two-containers", "keepalived.conf");
    install(lab.host("c5"), "two-containers", "keepalived-b.conf");
    let secret = ["requirepass 123456", "masterauth 123456"];
    let first = server(lab.host("c4"), &secret);
    let _second = server(
        lab.host("c5"),
        &[&secret[..], &["replicaof 172.18.0.4 6379"]].concat(),
    );

    let _daemons = hosts.map(|host| start_vrrp(lab.host(host)));
    moves_to(&lab, hosts, vip, "c4");
    becomes(lab.host("c4"), password, "master");
    becomes(lab.host("c5"), password, "slave");
    serves(lab.host("client"), vip, password, "before");

    // Three failed checks lower the priority by 20, below the other host's.
    first.process().kill();
    moves_to(&lab, hosts, vip, "c5");
    becomes(lab.host("c5"), password, "master");
    serves(lab.host("client"), vip, password, "after");

    // The write-up's observation: the preferred host takes the address back, needed or not.
    let mut first = first;
    first.restart().unwrap();
    moves_to(&lab, hosts, vip, "c4");
    becomes(lab.host("c4"), password, "master");
    becomes(lab.host("c5"), password, "slave");

    let log = lab.host("c4").dir().join("log/keepalived-redis-state.log");
    let told = std::fs::read_to_string(log).unwrap();
    assert!(
        told.contains("[master]") && told.contains("[backup]"),
        "{told}"
    );
    assert!(!told.contains("[fault]"), "a weight is no fault: {told}");
}

#[test]
fn auto_failover_runs_as_it_is() {
    if !can_run_as_root("auto_failover_runs_as_it_is") {
        return;
    }
    let lab = Lab::builder()
        .host("redis-a", "192.168.100.201/24")
        .host("redis-b", "192.168.100.202/24")
        .host("client", "192.168.100.50/24")
        .build()
        .unwrap();
    let (vip, hosts) = ("192.168.100.123", ["redis-a", "redis-b"]);
    for (host, config) in [
        ("redis-a", "keepalived.conf"),
        ("redis-b", "keepalived-b.conf"),
    ] {
        install(lab.host(host), "auto-failover", config);
        rename_to_eth2(lab.host(host));
    }
    // Their order: the primary's server, the replica's, SLAVEOF, the primary's daemon, the replica's.
    let primary = server(lab.host("redis-b"), &[]);
    let replica = server(lab.host("redis-a"), &[]);
    replica.replicate(Some(primary.address())).unwrap();
    replica.wait_until_synced(BOUND).unwrap();
    let _first = start_vrrp(lab.host("redis-b"));
    moves_to(&lab, hosts, vip, "redis-b");
    let _second = start_vrrp(lab.host("redis-a"));
    serves(lab.host("client"), vip, None, "before");
    becomes(lab.host("redis-a"), None, "slave");

    primary.process().kill();
    moves_to(&lab, hosts, vip, "redis-a");
    becomes(lab.host("redis-a"), None, "master");
    serves(lab.host("client"), vip, None, "after");
    assert_eq!(
        value(lab.host("redis-a"), None, "before").as_deref(),
        Some("1")
    );

    let log = lab.host("redis-a").dir().join("log/keepalived-redis.log");
    poll::until("the script's last line", BOUND, LOOK, || {
        let told = std::fs::read_to_string(&log)?;
        Ok(if told.trim_end().ends_with("master: done") {
            Ok(())
        } else {
            Err(told)
        })
    })
    .unwrap();
}

/// A script of `hot-standby`, run on its host as at boot.
fn run_script(host: &Host, name: &str) -> Process {
    let shell = format!("exec sh /opt/redis/bin/{name}.sh");
    host.spawn(name, &mut inside(host, &shell)).unwrap()
}

#[test]
fn hot_standby_runs_as_it_is() {
    if !can_run_as_root("hot_standby_runs_as_it_is") {
        return;
    }
    let lab = Lab::builder()
        .host("r218", "192.168.1.218/24")
        .host("r219", "192.168.1.219/24")
        .host("client", "192.168.1.50/24")
        .build()
        .unwrap();
    let (vip, hosts) = ("192.168.1.220", ["r218", "r219"]);
    let (first, second, client) = (lab.host("r218"), lab.host("r219"), lab.host("client"));
    install(first, "hot-standby", "keepalived.conf");
    install(second, "hot-standby", "keepalived-b.conf");
    install_prefix(first, "192.168.1.219", false);
    install_prefix(second, "192.168.1.218", true);
    // No service manager runs here; theirs is asked for one thing only.
    for host in [first, second] {
        let pid_file = host.dir().join("keepalived.pid");
        executable(
            &host.dir().join("bin/systemctl"),
            &format!(
                "#!/bin/sh\n[ \"$*\" = \"stop keepalived\" ] && kill -TERM $(cat {})\n",
                pid_file.display()
            ),
        );
    }
    // The start script asks the other host: the first finds nobody and is the primary, the second finds it.
    let _first_server = run_script(first, "start");
    becomes(first, None, "master");
    let _second_server = run_script(second, "start");
    reports(second, None, "master_link_status", "up");
    let mut first_daemon = start_vrrp(first);
    let _second_daemon = start_vrrp(second);
    let _watches = [run_script(first, "watch"), run_script(second, "watch")];
    moves_to(&lab, hosts, vip, "r218");
    serves(client, vip, None, "before");

    // Two failed checks stop the daemon, which gives the address away; the role follows it.
    let pid = connect(first, None).unwrap().info("process_id").unwrap();
    first.kill(pid.parse().unwrap()).unwrap();
    moves_to(&lab, hosts, vip, "r219");
    let status = poll::until("the daemon's end", BOUND, LOOK, || {
        Ok(first_daemon.ended()?.ok_or_else(|| "it runs".to_owned()))
    })
    .unwrap();
    assert!(status.success(), "{status}");
    becomes(second, None, "master");
    assert_eq!(value(second, None, "before").as_deref(), Some("1"));
    serves(client, vip, None, "after");

    // The returning primary first replicates from the one that stood in. When it has everything its daemon is started, takes
    // the address back, and the roles follow.
    let _first_server = run_script(first, "start");
    reports(first, None, "master_link_status", "up");
    let _first_daemon = start_vrrp(first);
    moves_to(&lab, hosts, vip, "r218");
    becomes(first, None, "master");
    becomes(second, None, "slave");
    assert_eq!(value(first, None, "after").as_deref(), Some("1"));
    serves(client, vip, None, "again");
}
