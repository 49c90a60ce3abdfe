//! `tandem proxy` as a process, beside the real nutcracker: the statistics port, signals, log, pid file, the end.

#![allow(clippy::unwrap_used)] // A panic in a test is its report.

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;
use tandem_lab::ns::{Host, Lab};
use tandem_lab::process::Process;
use tandem_lab::resp::{Connection, Reply};
use tandem_lab::server::{Server, Settings};
use tandem_lab::{can_run, poll, skip, tandem_binary};

/// For anything that should happen within a second or so, on a machine that is busy with other things.
const BOUND: Duration = Duration::from_secs(30);
/// Between two looks.
const EVERY: Duration = Duration::from_millis(10);
/// The first pool's port.
const PORT: u16 = 22121;
/// nutcracker's port of the statistics.
const STATS: u16 = 22222;

/// Two pools over two servers, one of which is not there; their order in the file is not twemproxy's.
const POOLS: &str = "\
longer:
  listen: 127.0.0.1:22121
  hash: murmur
  redis: true
  servers:
   - 127.0.0.1:7001:1 one
   - 127.0.0.1:7002:1
b:
  listen: 127.0.0.1:22122
  redis: true
  servers:
   - 127.0.0.1:7003:1
   - /nowhere/at/all.sock:1
";

struct Rig {
    lab: Lab,
    _servers: Vec<Server>,
}

impl Rig {
    fn start() -> Self {
        let lab = Lab::builder().host("one", "10.0.0.1/24").build().unwrap();
        let servers = [7001, 7002].map(|port| {
            let settings = Settings {
                port,
                ..Settings::default()
            };
            Server::start(lab.host("one"), &settings).unwrap()
        });
        let rig = Self {
            lab,
            _servers: servers.into(),
        };
        rig.write(POOLS);
        rig
    }

    fn host(&self) -> &Arc<Host> {
        self.lab.host("one")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.host().dir().join(name)
    }

    fn write(&self, pools: &str) {
        fs::write(self.path("n.yml"), pools).unwrap();
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("n.log")).unwrap_or_default()
    }

    /// A proxy's command line with this rig's files.
    fn command(&self, program: &[PathBuf], more: &[&str]) -> Command {
        let mut command = Command::new(&program[0]);
        command
            .args(&program[1..])
            .arg("-c")
            .arg(self.path("n.yml"))
            .arg("-o")
            .arg(self.path("n.log"))
            .args(more);
        command
    }

    /// Runs one until it answers.
    fn proxy(&self, program: &[PathBuf], more: &[&str]) -> Process {
        let process = self
            .host()
            .spawn("proxy", &mut self.command(program, more))
            .unwrap();
        self.answers(PORT);
        self.connects(STATS);
        process
    }

    fn answers(&self, port: u16) {
        poll::until("an answer of the proxy", BOUND, EVERY, || {
            let pong = self
                .client(port)
                .and_then(|mut client| client.call(&["PING"]));
            Ok(pong.map(drop).map_err(|error| error.to_string()))
        })
        .unwrap();
    }

    fn connects(&self, port: u16) {
        poll::until("a port", BOUND, EVERY, || {
            let connected = self.host().connect(at(port), BOUND);
            Ok(connected.map(drop).map_err(|error| error.to_string()))
        })
        .unwrap();
    }

    fn client(&self, port: u16) -> std::io::Result<Connection> {
        Connection::open(self.host(), at(port), BOUND)
    }

    /// What whoever connects to a port is told.
    fn told(&self, port: u16) -> String {
        let mut stream = self.host().connect(at(port), BOUND).unwrap();
        stream.set_read_timeout(Some(BOUND)).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    fn logged(&self, words: &str) {
        poll::until(words, BOUND, EVERY, || {
            let log = self.log();
            Ok(if log.contains(words) {
                Ok(())
            } else {
                Err(log)
            })
        })
        .unwrap();
    }
}

fn at(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

fn tandem() -> Vec<PathBuf> {
    vec![tandem_binary().unwrap(), PathBuf::from("proxy")]
}

fn nutcracker() -> Vec<PathBuf> {
    vec![PathBuf::from("nutcracker")]
}

fn tell(process: &Process, signal: Signal) {
    kill_process(pid(process.pid()), signal).unwrap();
}

fn pid(number: u32) -> Pid {
    Pid::from_raw(i32::try_from(number).unwrap()).unwrap()
}

fn ends(process: &mut Process) -> Option<i32> {
    let status = poll::until("the end of the proxy", BOUND, EVERY, || {
        Ok(process.ended()?.ok_or_else(|| "it runs".to_owned()))
    });
    status.unwrap().code()
}

/// The same text with every number as 0: names, order, blanks and brackets remain.
fn shape(text: &str) -> String {
    let value: Value = serde_json::from_str(text).unwrap();
    assert!(value["uptime"].is_u64() && value["timestamp"].is_u64());
    let mut shape = String::new();
    let mut in_number = false;
    let mut in_string = false;
    for c in text.chars() {
        in_string ^= c == '"';
        let digit = c.is_ascii_digit() && !in_string;
        if !digit {
            shape.push(c);
        } else if !in_number {
            shape.push('0');
        }
        in_number = digit;
    }
    shape
}

/// Numbers that the same traffic makes the same, whatever the proxy.
const SAME: [&str; 4] = ["requests", "request_bytes", "responses", "response_bytes"];

#[test]
fn the_statistics_are_those_of_nutcracker_to_the_byte() {
    const TEST: &str = "the_statistics_are_those_of_nutcracker_to_the_byte";
    if !can_run(TEST) {
        return;
    }
    if let Err(error) = Command::new("nutcracker").arg("-V").output() {
        skip(TEST, &format!("nutcracker: {error}"));
        return;
    }
    let mut told = Vec::new();
    for program in [nutcracker(), tandem()] {
        let rig = Rig::start();
        // The real one gathers its numbers in this interval.
        let mut proxy = rig.proxy(&program, &["-i", "20"]);
        let mut client = rig.client(PORT).unwrap();
        for number in 0..20 {
            let key = format!("key:{number}");
            client.demand(&["SET", &key, "value"]).unwrap();
            assert_eq!(
                client.demand(&["GET", &key]).unwrap().text().as_deref(),
                Some("value")
            );
        }
        let text = poll::until("all replies in the statistics", BOUND, EVERY, || {
            let text = rig.told(STATS);
            let value: Value = serde_json::from_str(&text)?;
            let responses = |server: &str| {
                value["longer"][server]["responses"]
                    .as_u64()
                    .unwrap_or_default()
            };
            let all = responses("one") + responses("127.0.0.1:7002");
            Ok(if all == 40 { Ok(text) } else { Err(text) })
        });
        told.push(text.unwrap());
        assert!(matches!(
            rig.client(PORT).unwrap().call(&["PING"]).unwrap(),
            Reply::Simple(_)
        ));
        let _ = proxy.terminate(BOUND).unwrap();
    }
    let [theirs, ours] = &told[..] else {
        panic!("two proxies")
    };
    assert_eq!(shape(ours), shape(theirs));
    let [theirs, ours]: [Value; 2] = [theirs, ours].map(|text| serde_json::from_str(text).unwrap());
    for name in ["service", "source", "version"] {
        assert_eq!(ours[name], theirs[name], "{name}");
    }
    for server in ["one", "127.0.0.1:7002"] {
        for name in SAME {
            assert_eq!(
                ours["longer"][server][name], theirs["longer"][server][name],
                "{server} {name}"
            );
        }
    }
    assert_eq!(
        ours["longer"]["client_connections"],
        theirs["longer"]["client_connections"]
    );
    assert_eq!(ours["curr_connections"], theirs["curr_connections"]);
}

#[test]
fn metrics_have_a_port_of_their_own() {
    if !can_run("metrics_have_a_port_of_their_own") {
        return;
    }
    let rig = Rig::start();
    let mut proxy = rig.proxy(&tandem(), &["--metrics", "127.0.0.1:22223"]);
    rig.client(PORT)
        .unwrap()
        .demand(&["SET", "a", "b"])
        .unwrap();
    let mut stream = rig.host().connect(at(22223), BOUND).unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    let sum: u64 = text
        .lines()
        .filter(|line| line.starts_with("tandem_proxy_requests_total{pool=\"longer\""))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum();
    assert_eq!(sum, 1, "{text}");
    assert!(proxy.terminate(BOUND).unwrap().success());
}

#[test]
fn signals_do_what_they_do_to_nutcracker() {
    if !can_run("signals_do_what_they_do_to_nutcracker") {
        return;
    }
    let rig = Rig::start();
    let mut proxy = rig.proxy(&tandem(), &[]);
    for (signal, words) in [
        (Signal::TTIN, "up log level to 6"),
        (Signal::TTOU, "down log level to 5"),
        (Signal::USR2, "signal 12 (SIGUSR2) received"),
    ] {
        tell(&proxy, signal);
        rig.logged(words);
    }
    fs::rename(rig.path("n.log"), rig.path("n.log.1")).unwrap();
    tell(&proxy, Signal::HUP);
    poll::until("a new log", BOUND, EVERY, || {
        Ok(if rig.path("n.log").exists() {
            Ok(())
        } else {
            Err("none".to_owned())
        })
    })
    .unwrap();
    assert!(
        fs::read_to_string(rig.path("n.log.1"))
            .unwrap()
            .contains("signal 1 (SIGHUP) received, reopening log file")
    );
    tell(&proxy, Signal::USR2);
    rig.logged("signal 12 (SIGUSR2) received");
    tell(&proxy, Signal::INT);
    assert_eq!(ends(&mut proxy), Some(1));
}

#[test]
fn a_changed_file_is_applied_and_no_connection_is_dropped() {
    if !can_run("a_changed_file_is_applied_and_no_connection_is_dropped") {
        return;
    }
    let rig = Rig::start();
    let mut proxy = rig.proxy(&tandem(), &[]);
    let mut client = rig.client(PORT).unwrap();
    client.demand(&["SET", "a", "before"]).unwrap();

    rig.write(&POOLS.replace("22122", "22124").replacen(
        "  redis: true\n",
        "  redis: true\n  timeout: 400\n",
        1,
    ));
    tell(&proxy, Signal::USR1);
    rig.logged("is applied");
    rig.answers(22124);
    assert_eq!(
        client.demand(&["GET", "a"]).unwrap().text().as_deref(),
        Some("before")
    );

    rig.write(&POOLS.replace("7002:1", "7002:9"));
    tell(&proxy, Signal::USR1);
    rig.logged("is refused because it moves keys");
    rig.write("longer:\n  listen: x\n");
    tell(&proxy, Signal::USR1);
    rig.logged("is refused; nothing was changed");
    rig.answers(22124);
    assert_eq!(
        client.demand(&["GET", "a"]).unwrap().text().as_deref(),
        Some("before")
    );
    assert!(proxy.terminate(BOUND).unwrap().success());
}

#[test]
fn a_file_that_moves_keys_is_applied_when_that_is_accepted() {
    if !can_run("a_file_that_moves_keys_is_applied_when_that_is_accepted") {
        return;
    }
    let rig = Rig::start();
    let mut proxy = rig.proxy(&tandem(), &["--accept-move"]);
    let mut client = rig.client(PORT).unwrap();
    // One server only: whatever was on the other is not found any more.
    let one = POOLS.replace("   - 127.0.0.1:7002:1\n", "");
    for number in 0..20 {
        client
            .demand(&["SET", &format!("key:{number}"), "x"])
            .unwrap();
    }
    rig.write(&one);
    tell(&proxy, Signal::USR1);
    rig.logged("is applied");
    poll::until("keys that are not found", BOUND, EVERY, || {
        let found = (0..20)
            .filter(|number| {
                client
                    .call(&["GET", &format!("key:{number}")])
                    .is_ok_and(|reply| reply.text().is_some())
            })
            .count();
        Ok(if found < 20 {
            Ok(())
        } else {
            Err(format!("{found} are found"))
        })
    })
    .unwrap();
    assert!(proxy.terminate(BOUND).unwrap().success());
}

#[test]
fn a_request_under_way_is_answered_before_the_end() {
    if !can_run("a_request_under_way_is_answered_before_the_end") {
        return;
    }
    let rig = Rig::start();
    let mut proxy = rig.proxy(&tandem(), &[]);
    let mut client = rig.client(PORT).unwrap();
    client.demand(&["SET", "a", "b"]).unwrap();
    for server in &rig._servers {
        server.process().freeze();
    }
    client
        .send(&tandem_lab::resp::encode(&["GET", "a"]))
        .unwrap();
    // The request has reached the server's queue.
    poll::until("the request under way", BOUND, EVERY, || {
        let value: Value = serde_json::from_str(&rig.told(STATS))?;
        let waiting = |server: &str| {
            value["longer"][server]["out_queue"]
                .as_u64()
                .unwrap_or_default()
        };
        let sum = waiting("one") + waiting("127.0.0.1:7002");
        Ok(if sum == 1 {
            Ok(())
        } else {
            Err(format!("{sum} are under way"))
        })
    })
    .unwrap();
    tell(&proxy, Signal::TERM);
    rig.logged("letting requests finish");
    for server in &rig._servers {
        server.process().thaw();
    }
    assert_eq!(client.read().unwrap().text().as_deref(), Some("b"));
    assert_eq!(ends(&mut proxy), Some(0));
}

#[test]
fn a_second_term_ends_it_at_once() {
    if !can_run("a_second_term_ends_it_at_once") {
        return;
    }
    let rig = Rig::start();
    let mut proxy = rig.proxy(&tandem(), &[]);
    let mut client = rig.client(PORT).unwrap();
    for server in &rig._servers {
        server.process().freeze();
    }
    client
        .send(&tandem_lab::resp::encode(&["GET", "a"]))
        .unwrap();
    poll::until("the request under way", BOUND, EVERY, || {
        Ok(if rig.told(STATS).contains("\"out_queue\":1") {
            Ok(())
        } else {
            Err("not yet".to_owned())
        })
    })
    .unwrap();
    tell(&proxy, Signal::TERM);
    rig.logged("letting requests finish");
    tell(&proxy, Signal::TERM);
    assert_eq!(ends(&mut proxy), Some(1));
    assert!(rig.log().contains("received again"));
}

#[test]
fn a_daemon_has_a_pid_file_while_it_runs() {
    if !can_run("a_daemon_has_a_pid_file_while_it_runs") {
        return;
    }
    let rig = Rig::start();
    let pid_file = rig.path("n.pid");
    let start = |more: &[&str]| {
        let mut command = rig.command(&tandem(), &["-d", "-p"]);
        command.arg(&pid_file).args(more);
        let mut process = rig.host().spawn("daemon", &mut command).unwrap();
        ends(&mut process)
    };
    assert_eq!(start(&[]), Some(0));
    rig.answers(PORT);
    let number = poll::until("a pid file", BOUND, EVERY, || {
        let text = fs::read_to_string(&pid_file).unwrap_or_default();
        Ok(text
            .parse::<u32>()
            .map_err(|error| format!("{text:?}: {error}")))
    })
    .unwrap();
    assert!(rig.host().pids().contains(&number));
    // As nutcracker, which opens its mask: sockets get the modes that are asked for.
    let status = fs::read_to_string(format!("/proc/{number}/status")).unwrap();
    assert!(
        status
            .lines()
            .any(|line| line.split_whitespace().eq(["Umask:", "0000"])),
        "{status}"
    );

    kill_process(pid(number), Signal::TERM).unwrap();
    gone(number, &pid_file);

    // What is wrong with a file shows while there is a terminal.
    rig.write("longer:\n  listen: x\n");
    assert_eq!(start(&[]), Some(1));
    assert!(!pid_file.exists());
}

fn gone(number: u32, pid_file: &Path) {
    poll::until("the end of the daemon", BOUND, EVERY, || {
        let runs = test_kill_process(pid(number)).is_ok();
        Ok(if runs || pid_file.exists() {
            Err(format!("runs: {runs}"))
        } else {
            Ok(())
        })
    })
    .unwrap();
}

#[test]
fn what_cannot_be_run_is_refused_with_a_code_of_its_own() {
    if !can_run("what_cannot_be_run_is_refused_with_a_code_of_its_own") {
        return;
    }
    let rig = Rig::start();
    let said = |more: &[&str]| {
        let mut command = rig.command(&tandem(), more);
        let output = rig.host().enter(|| command.output()).unwrap().unwrap();
        (
            output.status.code().unwrap(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    rig.write(&POOLS.replacen("  redis: true\n", "", 1));
    let (code, text) = said(&[]);
    assert_eq!(code, 4, "{text}");
    assert!(
        text.contains("the pool `longer` speaks memcached's protocol"),
        "{text}"
    );
    assert_eq!(said(&["-t"]).0, 0, "its syntax is valid");

    rig.write(POOLS);
    let (code, text) = said(&["-s", "7001"]);
    assert_eq!(code, 1, "a port that is taken");
    assert!(text.contains("statistics on 0.0.0.0:7001"), "{text}");

    let mut limited = Command::new("prlimit");
    limited
        .args(["--nofile=30", "--"])
        .args(tandem())
        .arg("-c")
        .arg(rig.path("n.yml"))
        .arg("-o")
        .arg(rig.path("n.log"));
    let output = rig.host().enter(|| limited.output()).unwrap().unwrap();
    assert_eq!(output.status.code(), Some(1));
    rig.logged("30 open files are too few for 6 connections to servers");
}
