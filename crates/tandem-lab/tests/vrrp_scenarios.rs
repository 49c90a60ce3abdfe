//! The arrangements that people run with keepalived, their own files and scripts unchanged, under `tandem vrrp`.
//!
//! The files name absolute paths, so each daemon runs in a mount namespace of its own, where `/etc/keepalived`,
//! `/var/log` and `/usr/local/bin` are the host's.

#![expect(
    clippy::unwrap_used,
    reason = "in a test a panic is the report, also in its helpers"
)]

use std::net::IpAddr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tandem_lab::ns::{Host, Lab};
use tandem_lab::process::Process;
use tandem_lab::resp::Connection;
use tandem_lab::server::{Server, Settings};
use tandem_lab::{can_run_as_root, poll, tandem_binary};

/// The slowest step: three adverts of 3 s, a check every 2 s and a script that sleeps for 10 s.
const BOUND: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(100);

/// Where the originals are kept.
fn originals(scenario: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tandem-config/tests/data")
        .join(scenario)
}

/// Lays the scenario's files out on a host's disk.
fn install(host: &Host, scenario: &str, config: &str) {
    let etc = host.dir().join("etc-keepalived");
    let scripts = etc.join("scripts");
    std::fs::create_dir_all(&scripts).unwrap();
    std::fs::create_dir_all(host.dir().join("log")).unwrap();
    let bin = host.dir().join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    symlink("/usr/bin/redis-cli", bin.join("redis-cli")).unwrap();
    std::fs::copy(
        originals(scenario).join(config),
        etc.join("keepalived.conf"),
    )
    .unwrap();
    for entry in std::fs::read_dir(originals(scenario)).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "sh") {
            let copy = scripts.join(path.file_name().unwrap());
            std::fs::copy(&path, &copy).unwrap();
            std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
    }
}

/// Starts the daemon with the host's own `/etc/keepalived`, as the service would.
fn start(host: &Host) -> Process {
    let dir = host.dir().display();
    let program = tandem_binary().unwrap();
    let mounts = format!(
        "mount --bind {dir}/etc-keepalived /etc/keepalived && mount --bind {dir}/log /var/log && mount --bind {dir}/bin /usr/local/bin && exec {} vrrp --dont-fork --log-detail --state-file {dir}/state.json",
        program.display()
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &mounts]);
    host.spawn("tandem", &mut command).unwrap()
}

/// Whether an address is on any interface of the host; one of the scenarios has its own name for it.
fn has(host: &Host, address: &str) -> bool {
    let text = host.run("ip", &["-o", "addr"]).unwrap();
    text.split_whitespace()
        .any(|word| word.split('/').next() == Some(address))
}

/// Waits until exactly one host has the address.
fn moves_to(lab: &Lab, hosts: [&str; 2], vip: &str, expected: &str) {
    poll::until(&format!("{vip} on {expected}"), BOUND, LOOK, || {
        let holders: Vec<_> = hosts
            .iter()
            .filter(|host| has(lab.host(host), vip))
            .collect();
        Ok(match holders[..] {
            [one] if *one == expected => Ok(()),
            _ => Err(format!("it is on {holders:?}")),
        })
    })
    .unwrap_or_else(|error| {
        let logs = hosts.map(|host| {
            let log = lab.host(host).dir().join("tandem.log");
            std::fs::read_to_string(log).unwrap_or_default()
        });
        panic!("{error:?}\n{}", logs.join("\n---\n"))
    });
}

/// Waits until a server, asked from its own host, has the role.
fn becomes(server: &Server, password: Option<&str>, role: &str) {
    poll::until(
        &format!("{} to be {role}", server.address()),
        BOUND,
        LOOK,
        || {
            let mut connection = server.connect_within(Duration::from_secs(2))?;
            if let Some(password) = password {
                connection.demand(&["AUTH", password])?;
            }
            let found = connection.info("role")?;
            Ok(if found == role {
                Ok(())
            } else {
                Err(format!("it is {found}"))
            })
        },
    )
    .unwrap();
}

/// Writes and reads through the address, as a client does.
fn serves(client: &Host, vip: &str, password: Option<&str>, key: &str) {
    let vip: IpAddr = vip.parse().unwrap();
    poll::until("a write through the address", BOUND, LOOK, || {
        let attempt = || -> anyhow::Result<()> {
            let mut connection =
                Connection::open(client, (vip, 6379).into(), Duration::from_secs(2))?;
            if let Some(password) = password {
                connection.demand(&["AUTH", password])?;
            }
            connection.demand(&["SET", key, "1"])?;
            Ok(())
        };
        Ok(attempt().map_err(|error| error.to_string()))
    })
    .unwrap();
}

fn server(host: &std::sync::Arc<Host>, extra: &[&str]) -> Server {
    let settings = Settings {
        extra: extra.iter().map(|line| (*line).to_owned()).collect(),
        ..Settings::default()
    };
    Server::start(host, &settings).unwrap()
}

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
    let second = server(
        lab.host("c5"),
        &[&secret[..], &["replicaof 172.18.0.4 6379"]].concat(),
    );

    let _daemons = hosts.map(|host| start(lab.host(host)));
    moves_to(&lab, hosts, vip, "c4");
    becomes(&first, password, "master");
    becomes(&second, password, "slave");
    serves(lab.host("client"), vip, password, "before");

    // Three failed checks lower the priority by 20, below the other host's.
    first.process().kill();
    moves_to(&lab, hosts, vip, "c5");
    becomes(&second, password, "master");
    serves(lab.host("client"), vip, password, "after");

    // The write-up's observation: the preferred host takes the address back, needed or not.
    let mut first = first;
    first.restart().unwrap();
    moves_to(&lab, hosts, vip, "c4");
    becomes(&first, password, "master");
    becomes(&second, password, "slave");

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
        // Their interface is eth2.
        for step in [
            &["link", "set", "eth0", "down"][..],
            &["link", "set", "eth0", "name", "eth2"],
            &["link", "set", "eth2", "up"],
        ] {
            lab.host(host).run("ip", step).unwrap();
        }
    }
    // Their order: the primary's server, the replica's, SLAVEOF, the primary's daemon, the replica's.
    let primary = server(lab.host("redis-b"), &[]);
    let replica = server(lab.host("redis-a"), &[]);
    replica.replicate(Some(primary.address())).unwrap();
    replica.wait_until_synced(BOUND).unwrap();
    let _first = start(lab.host("redis-b"));
    moves_to(&lab, hosts, vip, "redis-b");
    let _second = start(lab.host("redis-a"));
    serves(lab.host("client"), vip, None, "before");
    becomes(&replica, None, "slave");

    primary.process().kill();
    moves_to(&lab, hosts, vip, "redis-a");
    becomes(&replica, None, "master");
    serves(lab.host("client"), vip, None, "after");
    let mut asked = replica.connect().unwrap();
    assert_eq!(
        asked.demand(&["GET", "before"]).unwrap().text().as_deref(),
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
