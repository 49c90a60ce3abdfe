//! The arrangements that people run with keepalived, laid out on hosts of the lab from their original files.
//!
//! The files name absolute paths, so each daemon runs in a mount namespace of its own, where `/etc/keepalived`,
//! `/var/log`, `/usr/local/bin` and `/opt` are the host's.

#![allow(clippy::unwrap_used)] // A panic in a test is its report.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::net::IpAddr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use tandem_lab::ns::{Host, Lab};
use tandem_lab::process::Process;
use tandem_lab::resp::Connection;
use tandem_lab::server::{Server, Settings};
use tandem_lab::{poll, tandem_binary};

/// The slowest step: three adverts of 3 s, a check every 2 s and a script that sleeps for 10 s.
pub(crate) const BOUND: Duration = Duration::from_secs(60);
/// Between two looks.
pub(crate) const LOOK: Duration = Duration::from_millis(100);

/// Where the originals are kept.
pub(crate) fn originals(scenario: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tandem-config/tests/data")
        .join(scenario)
}

/// Lays the scenario's files out on a host's disk.
pub(crate) fn install(host: &Host, scenario: &str, config: &str) {
    let etc = host.dir().join("etc-keepalived");
    let scripts = etc.join("scripts");
    let bin = host.dir().join("bin");
    for folder in [
        &scripts,
        &bin,
        &host.dir().join("log"),
        &host.dir().join("opt"),
    ] {
        std::fs::create_dir_all(folder).unwrap();
    }
    symlink("/usr/bin/redis-cli", bin.join("redis-cli")).unwrap();
    std::fs::copy(
        originals(scenario).join(config),
        etc.join("keepalived.conf"),
    )
    .unwrap();
    for entry in std::fs::read_dir(originals(scenario)).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "sh") {
            let text = std::fs::read_to_string(&path).unwrap();
            executable(&scripts.join(path.file_name().unwrap()), &text);
        }
    }
}

/// Writes a program.
pub(crate) fn executable(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// A shell command in the host's own file system.
pub(crate) fn inside(host: &Host, shell: &str) -> Command {
    let dir = host.dir().display();
    let mut script = String::new();
    for (from, to) in [
        ("etc-keepalived", "/etc/keepalived"),
        ("log", "/var/log"),
        ("bin", "/usr/local/bin"),
        ("opt", "/opt"),
        ("passwd", "/etc/passwd"),
    ] {
        if host.dir().join(from).exists() {
            script.push_str(&format!("mount --bind {dir}/{from} {to} && "));
        }
    }
    script.push_str(shell);
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script]);
    command.env(
        "PATH",
        "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin",
    );
    command
}

/// Starts `tandem vrrp` with the host's own `/etc/keepalived`, as the service would.
pub(crate) fn start_vrrp(host: &Host) -> Process {
    let (dir, program) = (host.dir().display(), tandem_binary().unwrap());
    let shell = format!(
        "exec {} vrrp --dont-fork --log-detail --pid {dir}/keepalived.pid --state-file {dir}/state.json",
        program.display()
    );
    host.spawn("tandem", &mut inside(host, &shell)).unwrap()
}

/// Whether an address is on any interface of the host; one of the scenarios has its own name for it.
fn has(host: &Host, address: &str) -> bool {
    let text = host.run("ip", &["-o", "addr"]).unwrap();
    text.split_whitespace()
        .any(|word| word.split('/').next() == Some(address))
}

/// Waits until exactly one host has the address.
pub(crate) fn moves_to(lab: &Lab, hosts: [&str; 2], vip: &str, expected: &str) {
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
    .unwrap_or_else(|error| panic!("{error:?}\n{}", logs(lab, hosts)));
}

/// What both daemons said.
fn logs(lab: &Lab, hosts: [&str; 2]) -> String {
    let logs = hosts.map(|host| {
        let log = lab.host(host).dir().join("tandem.log");
        std::fs::read_to_string(log).unwrap_or_default()
    });
    logs.join("\n---\n")
}

/// A connection to a host's server, from that host.
pub(crate) fn connect(host: &Host, password: Option<&str>) -> anyhow::Result<Connection> {
    let to = ([127, 0, 0, 1], 6379).into();
    let mut connection = Connection::open(host, to, Duration::from_secs(2))?;
    if let Some(password) = password {
        connection.demand(&["AUTH", password])?;
    }
    Ok(connection)
}

/// Waits until a field of INFO on a host is this.
pub(crate) fn reports(host: &Host, password: Option<&str>, field: &str, value: &str) {
    let what = format!("{field} of {} to be {value}", host.name());
    poll::until(&what, BOUND, LOOK, || {
        let found = connect(host, password).and_then(|mut one| one.info(field));
        Ok(match found {
            Ok(found) if found == value => Ok(()),
            Ok(found) => Err(format!("it is {found}")),
            Err(error) => Err(format!("{error:#}")),
        })
    })
    .unwrap();
}

/// Waits until a host's server has the role.
pub(crate) fn becomes(host: &Host, password: Option<&str>, role: &str) {
    reports(host, password, "role", role);
}

/// The value of a key on a host's server.
pub(crate) fn value(host: &Host, password: Option<&str>, key: &str) -> Option<String> {
    let mut connection = connect(host, password).unwrap();
    connection.demand(&["GET", key]).unwrap().text()
}

/// Writes through the address, as a client does.
pub(crate) fn serves(client: &Host, vip: &str, password: Option<&str>, key: &str) {
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

/// A server with further lines in its configuration file.
pub(crate) fn server(host: &Arc<Host>, extra: &[&str]) -> Server {
    let settings = Settings {
        extra: extra.iter().map(|line| (*line).to_owned()).collect(),
        ..Settings::default()
    };
    Server::start(host, &settings).unwrap()
}

/// In `auto-failover` the interface is called eth2.
pub(crate) fn rename_to_eth2(host: &Host) {
    for step in [
        &["link", "set", "eth0", "down"][..],
        &["link", "set", "eth0", "name", "eth2"],
        &["link", "set", "eth2", "up"],
    ] {
        host.run("ip", step).unwrap();
    }
}

/// The prefix of `hot-standby`, `/opt/redis` with bin, conf, logs and data, for the user redis; two prepared files, of which
/// one makes the server a replica of `other`. Its scripts are those of .218; `mirrored` swaps the addresses for the twin.
pub(crate) fn install_prefix(host: &Host, other: &str, mirrored: bool) {
    let prefix = host.dir().join("opt/redis");
    for folder in ["bin", "conf", "logs", "data"] {
        std::fs::create_dir_all(prefix.join(folder)).unwrap();
    }
    for folder in ["logs", "data"] {
        let path = prefix.join(folder);
        host.run("chown", &["redis:redis", path.to_str().unwrap()])
            .unwrap();
    }
    symlink("/usr/bin/redis-server", prefix.join("bin/redis-server")).unwrap();
    let common = "port 6379\nbind 0.0.0.0\nprotected-mode no\ndir /opt/redis/data\nlogfile /opt/redis/logs/redis.log\nsave \"\"\nrepl-diskless-sync-delay 0\n";
    let conf = prefix.join("conf");
    std::fs::write(conf.join("redis-master.conf"), common).unwrap();
    std::fs::write(
        conf.join("redis-slave.conf"),
        format!("{common}slaveof {other} 6379\n"),
    )
    .unwrap();
    for name in ["start.sh", "watch.sh"] {
        let mut text = std::fs::read_to_string(originals("hot-standby").join(name)).unwrap();
        if mirrored {
            text = text
                .replace("192.168.1.218", "THIS")
                .replace("192.168.1.219", "192.168.1.218")
                .replace("THIS", "192.168.1.219");
        }
        executable(&prefix.join("bin").join(name), &text);
    }
    // There the user redis can log in; Debian's cannot.
    let passwd: String = std::fs::read_to_string("/etc/passwd")
        .unwrap()
        .lines()
        .map(|line| match line.strip_prefix("redis:") {
            Some(_) => line.replace("/usr/sbin/nologin", "/bin/sh") + "\n",
            None => format!("{line}\n"),
        })
        .collect();
    std::fs::write(host.dir().join("passwd"), passwd).unwrap();
}
