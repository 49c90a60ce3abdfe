//! What the tests of `tandem vrrp` share: starting it and keepalived, looking at their states, and a capture of adverts.

#![allow(clippy::unwrap_used)] // A panic in a test is its report.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tandem_lab::ns::Host;
use tandem_lab::process::Process;
use tandem_lab::{interop, poll};

/// For any step, on a machine that is busy with other things.
pub(crate) const BOUND: Duration = Duration::from_secs(30);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// Where a host's configuration is.
pub(crate) fn file(host: &Host) -> PathBuf {
    host.dir().join("keepalived.conf")
}

/// Replaces a host's configuration as a whole: a daemon that is just reading never sees half of it.
pub(crate) fn write(host: &Host, text: &str) {
    let new = host.dir().join("keepalived.conf.new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(&new, file(host)).unwrap();
}

/// A shell script on a host's disk.
pub(crate) fn script(host: &Host, name: &str, body: &str) -> PathBuf {
    let path = host.dir().join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

pub(crate) fn tandem(host: &Host) -> Process {
    interop::start_tandem(host, &file(host)).unwrap()
}

pub(crate) fn keepalived(host: &Host) -> Process {
    interop::start_keepalived(host, &file(host)).unwrap()
}

pub(crate) fn hang_up(host: &Host, daemon: &Process) {
    let pid = daemon.pid().to_string();
    host.run("kill", &["-HUP", &pid]).unwrap();
}

/// Waits until the question is answered with a value; its errors say what is there instead.
pub(crate) fn wait<T>(what: &str, mut question: impl FnMut() -> Result<T, String>) -> T {
    poll::until(what, BOUND, LOOK, || Ok(question())).unwrap()
}

pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    wait(what, || {
        condition()
            .then_some(())
            .ok_or_else(|| "not yet".to_owned())
    });
}

pub(crate) fn has(host: &Host, address: &str, expected: bool) {
    let address = address.parse().unwrap();
    let what = format!("{address} on {}: {expected}", host.name());
    eventually(&what, || host.has_address(address).unwrap() == expected);
}

/// A value in tandem's state file; null while there is none.
pub(crate) fn state(host: &Host, pointer: &str) -> Value {
    let text = read(&host.dir().join("state.json"));
    serde_json::from_str::<Value>(&text)
        .ok()
        .and_then(|state| state.pointer(pointer).cloned())
        .unwrap_or_default()
}

/// A file's content; empty while there is none.
pub(crate) fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Everything that a host hears of VRRP, from the moment it was started.
pub(crate) struct Capture {
    // Held for its end.
    _tcpdump: Process,
    log: PathBuf,
}

/// An advert as tcpdump saw it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Advert {
    /// Seconds since 1970.
    pub(crate) at: f64,
    pub(crate) source: String,
    pub(crate) ttl: u8,
    pub(crate) vrid: u8,
    pub(crate) priority: u8,
}

impl Capture {
    pub(crate) fn start(host: &Host) -> Self {
        let mut command = Command::new("tcpdump");
        command.args([
            "-i",
            "eth0",
            "-n",
            "-tt",
            "-l",
            "-v",
            "-Z",
            "root",
            "ip proto 112 or ip proto 51 or ip6 proto 112",
        ]);
        let tcpdump = host.spawn("tcpdump", &mut command).unwrap();
        let log = tcpdump.log().to_owned();
        eventually("tcpdump to listen", || read(&log).contains("listening on"));
        Self {
            _tcpdump: tcpdump,
            log,
        }
    }

    /// What tcpdump wrote.
    pub(crate) fn text(&self) -> String {
        read(&self.log)
    }

    pub(crate) fn adverts(&self) -> Vec<Advert> {
        // An IPv4 packet is two lines, an IPv6 one a single line; each begins with its time.
        let mut packets: Vec<String> = Vec::new();
        for line in self.text().lines() {
            if line.starts_with(|first: char| first.is_ascii_digit()) {
                packets.push(line.to_owned());
            } else if let Some(packet) = packets.last_mut() {
                packet.push_str(line);
            }
        }
        packets.iter().filter_map(|packet| advert(packet)).collect()
    }
}

fn advert(packet: &str) -> Option<Advert> {
    fn after<'a>(packet: &'a str, word: &str) -> Option<&'a str> {
        let (_, rest) = packet.split_once(word)?;
        rest.split([',', ' ', ')']).next()
    }
    let source = packet.split(" > ").next()?.rsplit([' ', ')']).next()?;
    Some(Advert {
        at: packet.split(' ').next()?.parse().ok()?,
        source: source.to_owned(),
        ttl: after(packet, " ttl ")
            .or_else(|| after(packet, "hlim "))?
            .parse()
            .ok()?,
        vrid: after(packet, "vrid ")?.parse().ok()?,
        priority: after(packet, "prio ")?.parse().ok()?,
    })
}
