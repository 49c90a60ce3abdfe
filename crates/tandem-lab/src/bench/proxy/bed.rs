//! What the measurements stand on: one host with two servers and every proxy that takes part.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use super::Contestant;
use super::ack::Stand;
use crate::ns::{Host, Lab};
use crate::proxy::{Pool, Program, Proxy};
use crate::server::{Server, Settings};
use crate::usage;

/// The servers' ports; proxies without shards stand before the first.
const SERVERS: [u16; 2] = [7001, 7002];
/// The first port of a proxy; each takes ten.
const PORTS: u16 = 20_000;
/// For one answer, a value of 512 MiB included.
pub(super) const ANSWER_BOUND: Duration = Duration::from_secs(60);
/// For the most clients, on both sides of a proxy that needs two descriptors for each.
const DESCRIPTORS: u64 = 20_000;

/// Distinct keys of the load.
pub(super) const KEYS: usize = 100_000;
/// Length of values of the load.
pub(super) const VALUE_BYTES: usize = 64;

/// See the module.
pub(super) struct Bed {
    proxies: Vec<(Contestant, Shards, Proxy)>,
    servers: Vec<Server>,
    /// Half of what the slowest of all can carry, once it is known: see [`super::latency`].
    pub(super) half_load: Option<f64>,
    /// A pair with a proxy that awaits acknowledgements, once it is needed.
    pub(super) acks: Option<Stand>,
    lab: Lab,
}

/// How many servers stand behind a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shards {
    One,
    Two,
}

impl Bed {
    /// Starts everything and fills the servers.
    pub(super) fn build(contestants: &[Contestant]) -> anyhow::Result<Self> {
        usage::allow_descriptors(DESCRIPTORS)?;
        let lab = Lab::builder().host("bench", "10.0.0.1/24").build()?;
        let servers = SERVERS
            .iter()
            .map(|port| {
                let settings = Settings {
                    port: *port,
                    ..Settings::default()
                };
                Server::start(lab.host("bench"), &settings)
            })
            .collect::<anyhow::Result<_>>()?;
        let mut bed = Self {
            proxies: Vec::new(),
            servers,
            half_load: None,
            acks: None,
            lab,
        };
        for &contestant in contestants {
            let Some((program, _)) = contestant.proxy() else {
                continue;
            };
            let proxy = bed.start_proxy(contestant, Shards::One)?;
            bed.proxies.push((contestant, Shards::One, proxy));
            let shards =
                Program::SHARDING.contains(&program) && contestant != Contestant::TandemTwo;
            if shards {
                let proxy = bed.start_proxy(contestant, Shards::Two)?;
                bed.proxies.push((contestant, Shards::Two, proxy));
            }
        }
        bed.fill()?;
        Ok(bed)
    }

    /// Starts a further proxy of a contestant. Those that were started before are still there.
    pub(super) fn start_proxy(
        &self,
        contestant: Contestant,
        shards: Shards,
    ) -> anyhow::Result<Proxy> {
        let (program, threads) = contestant.proxy().context("the server is no proxy")?;
        let servers: Vec<SocketAddr> = SERVERS
            .iter()
            .take(match shards {
                Shards::One => 1,
                Shards::Two => 2,
            })
            .map(|port| ([127, 0, 0, 1], *port).into())
            .collect();
        let port = PORTS + 10 * u16::try_from(self.proxies.len())?;
        let mut pool = Pool::new(port, &servers)
            .line("hash: fnv1a_64")
            .line("distribution: ketama");
        pool.threads = threads;
        Proxy::start(program, self.host(), &pool)
    }

    /// Every key on both servers by itself, and through each sharding proxy where it looks for them.
    fn fill(&self) -> anyhow::Result<()> {
        let targets = SERVERS.iter().copied().chain(
            self.proxies
                .iter()
                .filter(|(_, shards, _)| *shards == Shards::Two)
                .map(|(_, _, proxy)| proxy.address().port()),
        );
        for port in targets {
            // Five times as many as there are keys: one in 150 is missed.
            let requests = 5 * KEYS;
            super::load::benchmark(self.host(), port, 16, requests, &["-t", "set"])?;
        }
        Ok(())
    }

    pub(super) fn host(&self) -> &Arc<Host> {
        self.lab.host("bench")
    }

    /// The process that is measured, and the port at which it is asked.
    pub(super) fn subject(
        &self,
        contestant: Contestant,
        shards: Shards,
    ) -> anyhow::Result<(u32, u16)> {
        if contestant == Contestant::Direct {
            let server = &self.servers[0];
            return Ok((server.process().pid(), server.address().port()));
        }
        let (_, _, proxy) = self
            .proxies
            .iter()
            .find(|(who, how, _)| *who == contestant && *how == shards)
            .with_context(|| format!("{} does not take part", contestant.name()))?;
        Ok((proxy.process().pid(), proxy.address().port()))
    }

    /// Who takes part with one server behind it.
    pub(super) fn contestants(&self) -> Vec<Contestant> {
        let all = self.proxies.iter();
        all.filter(|(_, shards, _)| *shards == Shards::One)
            .map(|(contestant, _, _)| *contestant)
            .collect()
    }

    /// Processor time of all servers together.
    pub(super) fn server_time(&self) -> anyhow::Result<Duration> {
        let times = self.servers.iter();
        times
            .map(|server| usage::processor(server.process().pid()))
            .sum()
    }

    /// The first server, which every proxy without shards stands before.
    pub(super) fn server(&self) -> &Server {
        &self.servers[0]
    }
}
