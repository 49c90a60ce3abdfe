//! What the tests of proxies share: two servers behind a proxy on one host, and raw clients.
//!
//! Every test runs through the real nutcracker first: what the lab asserts must hold for it too, or the lab is wrong.
//! What tandem promises beyond that is asserted for tandem alone, and says so.

#![allow(clippy::unwrap_used)] // A panic in a test is its report.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use tandem_lab::fake::{Actor, Answer, Call};
use tandem_lab::ns::{Host, Lab};
use tandem_lab::proxy::tagged::{Report, Settings, Workload};
use tandem_lab::proxy::{Pool, Program, Proxy};
use tandem_lab::resp::{Connection, encode};
use tandem_lab::server::{Persistence, Server, Settings as ServerSettings};
use tandem_lab::{can_run, poll, skip, usage};

/// For anything that should happen within a second or so, on a machine that is busy with other things.
pub(crate) const BOUND: Duration = Duration::from_secs(30);
/// Between two looks.
pub(crate) const EVERY: Duration = Duration::from_millis(10);
/// The proxy's port.
pub(crate) const PORT: u16 = 22121;
/// The servers' ports.
pub(crate) const SERVERS: [u16; 2] = [7001, 7002];
/// nutcracker's default placement, named because tandem's tests say what they rely on.
pub(crate) const PLACEMENT: [&str; 2] = ["hash: fnv1a_64", "distribution: ketama"];

/// Exact answers to each client that a part of a test waits for.
pub(crate) const SOME: u64 = 150;

/// What an allocator may keep after a peak.
const KEPT_MIB: u64 = 16;

/// Nobody met an error or lost a connection.
pub(crate) fn without_failures(report: &Report) {
    assert_eq!(report.failure_count(), 0, "{:?}", report.failures);
}

/// An endpoint that answers each command by a function.
pub(crate) struct Scripted(pub(crate) fn(&[String]) -> Vec<u8>);

impl Actor for Scripted {
    fn answer(&mut self, call: &Call<'_>) -> Vec<Answer> {
        vec![Answer::Reply((self.0)(call.words))]
    }
}

/// Runs a test once for each proxy that can run here.
pub(crate) fn each_proxy(test: &str, run: impl Fn(Program)) {
    if !can_run(test) {
        return;
    }
    for program in Program::SHARDING {
        match program.find() {
            Ok(_) => {
                println!("{test}: {program}");
                run(program);
            }
            Err(reason) => skip(&format!("{test}, {program}"), &format!("{reason:#}")),
        }
    }
}

/// Servers and a proxy on one host.
pub(crate) struct Rig {
    pub(crate) proxy: Proxy,
    pub(crate) servers: Vec<Server>,
    pub(crate) lab: Lab,
    /// Descriptors beyond those of before that a test allows.
    pub(crate) leaks: usize,
}

impl Rig {
    /// Two servers that keep what they acknowledged, and a proxy with further lines in its file.
    pub(crate) fn start(program: Program, lines: &[&str]) -> Self {
        Self::with(program, lines, &[], &SERVERS)
    }

    /// As [`Rig::start`] with real servers on some ports, and endpoints of the test's own on others.
    pub(crate) fn with(program: Program, lines: &[&str], others: &[u16], real: &[u16]) -> Self {
        Self::threaded(program, lines, others, real, 1)
    }

    /// As [`Rig::with`], with so many threads, which only tandem can have more than one of.
    pub(crate) fn threaded(
        program: Program,
        lines: &[&str],
        others: &[u16],
        real: &[u16],
        threads: usize,
    ) -> Self {
        let lab = Lab::builder().host("one", "10.0.0.1/24").build().unwrap();
        let host = lab.host("one");
        let servers = real
            .iter()
            .map(|port| {
                let settings = ServerSettings {
                    port: *port,
                    persistence: Persistence::Aof,
                    ..ServerSettings::default()
                };
                Server::start(host, &settings).unwrap()
            })
            .collect();
        let addresses: Vec<SocketAddr> = real
            .iter()
            .chain(others)
            .map(|port| ([127, 0, 0, 1], *port).into())
            .collect();
        let mut pool = Pool::new(PORT, &addresses);
        for line in PLACEMENT.iter().chain(lines) {
            pool = pool.line(line);
        }
        pool.threads = threads;
        let proxy = Proxy::start(program, host, &pool).unwrap();
        Self {
            proxy,
            servers,
            lab,
            leaks: 0,
        }
    }

    pub(crate) fn host(&self) -> &Arc<Host> {
        self.lab.host("one")
    }

    /// The tagged workload.
    pub(crate) fn workload(&self, settings: &Settings) -> Workload {
        Workload::start(self.host(), self.proxy.address(), settings).unwrap()
    }

    /// A connection through the proxy.
    pub(crate) fn stream(&self) -> TcpStream {
        let stream = self.host().connect(self.proxy.address(), BOUND).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(BOUND)).unwrap();
        stream.set_write_timeout(Some(BOUND)).unwrap();
        stream
    }

    /// A connection through the proxy that reads answers.
    pub(crate) fn client(&self) -> Connection {
        Connection::over(self.stream(), BOUND).unwrap()
    }

    /// Descriptors of the proxy.
    pub(crate) fn descriptors(&self) -> usize {
        usage::descriptors(self.proxy.process().pid()).unwrap()
    }

    /// Resident memory of the proxy.
    pub(crate) fn resident_mib(&self) -> u64 {
        usage::resident_bytes(self.proxy.process().pid()).unwrap() >> 20
    }

    /// Waits until the proxy has as many descriptors as before, or fewer.
    pub(crate) fn descriptors_return(&self, before: usize) {
        poll::until("the proxy's descriptors to return", BOUND, EVERY, || {
            let now = self.descriptors();
            Ok(if now <= before + self.leaks {
                Ok(())
            } else {
                Err(format!("{now} in place of {before}"))
            })
        })
        .unwrap();
    }

    /// Waits until the proxy has lost the clients of before, and counts its descriptors.
    pub(crate) fn descriptors_at_rest(&self) -> usize {
        let mut last = 0;
        poll::until("the proxy's descriptors to rest", BOUND, EVERY * 5, || {
            let now = self.descriptors();
            let rests = now == last;
            last = now;
            Ok(if rests {
                Ok(now)
            } else {
                Err(format!("{now}"))
            })
        })
        .unwrap()
    }

    /// The proxy and all real servers are there.
    pub(crate) fn all_alive(&mut self) {
        self.proxy.ensure_alive().unwrap();
        for server in &mut self.servers {
            assert!(server.is_running());
        }
    }

    /// Something goes wrong beside a workload that has no part in it and must not notice: no failure, and the proxy's
    /// descriptors return; tandem's memory too.
    pub(crate) fn bystanders_do_not_notice(
        &mut self,
        name: &str,
        what: impl FnOnce(&Self, &Workload),
    ) {
        let settings = |suffix: &str| Settings {
            clients: 8,
            name: format!("{name}{suffix}"),
            ..Settings::default()
        };
        let warm = self.workload(&settings("w"));
        warm.wait_for_each(SOME, BOUND).unwrap();
        without_failures(&warm.stop().unwrap());
        let before = self.descriptors_at_rest();
        let memory = self.resident_mib();
        let workload = self.workload(&settings("b"));
        workload.wait_for_each(SOME, BOUND).unwrap();
        what(self, &workload);
        workload.wait_for_each(SOME, BOUND).unwrap();
        without_failures(&workload.stop().unwrap());
        self.all_alive();
        self.descriptors_return(before);
        self.memory_returns(memory);
    }

    /// Waits until tandem's memory is what it was before, but for what an allocator keeps. nutcracker keeps what it had.
    fn memory_returns(&self, before: u64) {
        if self.proxy.program() != Program::Tandem {
            return;
        }
        poll::until("the proxy's memory to return", BOUND, EVERY, || {
            let now = self.resident_mib();
            Ok(if now <= before + KEPT_MIB {
                Ok(())
            } else {
                Err(format!("{now} MiB in place of {before}"))
            })
        })
        .unwrap();
    }

    /// A hash tag whose keys the proxy places on the real server of a place, found by asking the server.
    pub(crate) fn tag_on(&self, place: usize) -> String {
        let mut client = self.client();
        for number in 0..200 {
            let tag = format!("{{{number}}}");
            // Elsewhere there may be nobody.
            if client.call(&["SET", &tag, "1"]).is_err() {
                client = self.client();
            }
            let mut server = self.servers[place].connect().unwrap();
            if server.demand(&["GET", &tag]).unwrap().text().is_some() {
                return tag;
            }
        }
        panic!("200 tags and none on server {place}");
    }
}

/// `count` times the same command, as one stream of bytes.
pub(crate) fn repeated(command: &[&str], count: usize) -> Vec<u8> {
    encode(command).repeat(count)
}

/// Writes as much as the other side takes without reading anything, and says how much that was.
pub(crate) fn stuff(stream: &mut TcpStream, bytes: &[u8]) -> usize {
    stream.set_nonblocking(true).unwrap();
    let mut sent = 0;
    while sent < bytes.len() {
        match stream.write(&bytes[sent..]) {
            Ok(count) => sent += count,
            Err(_) => break,
        }
    }
    stream.set_nonblocking(false).unwrap();
    sent
}
