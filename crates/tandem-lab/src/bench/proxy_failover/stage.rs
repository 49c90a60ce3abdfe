//! One run: the pair, the proxy before it, clients, the fault, what they saw, and the repair.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;

use super::{Contestant, Outcome};
use crate::arrangement::{Arrangement, CLIENT, Fault, Side, THIRD, TandemPair};
use crate::bench::stall::Yardstick;
use crate::process::Process;
use crate::proxy::tagged::{Settings as Load, Workload};
use crate::proxy::{Pool, Program, Proxy};
use crate::server::Settings;
use crate::{poll, tandem_binary};

/// Where the proxy listens on the third host.
const PORT: u16 = 6390;
/// The port at which a pair's daemons tell who is primary.
const DAEMON_PORT: u16 = 26379;
/// One request each in flight.
const CLIENTS: usize = 50;
/// For clients to be served steadily, before the fault and after it.
const BOUND: Duration = Duration::from_secs(60);
/// Exact answers to each client that count as steady.
const STEADY: u64 = 100;

/// A pair, and the proxy before it.
pub(super) struct Stage {
    // The proxy is dropped before the network that it is in.
    _proxy: Front,
    pair: TandemPair,
}

/// The two kinds of process that can stand there; each is held for its end only.
#[expect(dead_code, reason = "what is dropped is ended")]
enum Front {
    Followed(Process),
    Pointed(Proxy),
}

impl Stage {
    /// Makes one run on the stage that there is, or on a fresh one.
    pub(super) fn play(
        slot: &mut Option<Self>,
        contestant: Contestant,
        fault: Fault,
        outcome: &mut Outcome,
    ) -> anyhow::Result<()> {
        let stage = match slot {
            Some(stage) => stage,
            None => slot.insert(Self::build(contestant).context("the start")?),
        };
        stage.measure(fault, outcome)
    }

    fn build(contestant: Contestant) -> anyhow::Result<Self> {
        contestant.program().find()?;
        let mut settings = Settings::default();
        settings.extra.push("repl-diskless-sync-delay 0".to_owned());
        let mut pair = TandemPair::new(tandem_binary()?, settings)?;
        pair.start(0)?;
        let front = match contestant {
            Contestant::Tandem => Front::Followed(start_following(&pair)?),
            Contestant::NutcrackerVip => {
                let pool = Pool::new(PORT, &[pair.pair().vip()]).line("timeout: 1000");
                let third = pair.pair().lab().host(THIRD);
                Front::Pointed(Proxy::start(Program::Nutcracker, third, &pool)?)
            }
        };
        Ok(Self {
            _proxy: front,
            pair,
        })
    }

    fn measure(&mut self, fault: Fault, outcome: &mut Outcome) -> anyhow::Result<()> {
        let lab = self.pair.pair().lab();
        let to = SocketAddr::new(lab.host(THIRD).address(), PORT);
        let load = Load {
            clients: CLIENTS,
            depth: 1,
            value_bytes_max: 64,
            seed: u64::from(outcome.run),
            // Data stays from one run to the next.
            name: format!("{fault}-{}-", outcome.run),
            ..Load::default()
        };
        let workload = Workload::start(lab.host(CLIENT), to, &load)?;
        workload.wait_for_each(STEADY, BOUND)?;
        let before = workload.report();

        let yardstick = Yardstick::start()?;
        workload.forget_longest();
        self.pair.inject(fault)?;
        workload.wait_for_each(STEADY, BOUND)?;
        let stall = yardstick.longest();
        drop(yardstick);
        let report = workload.stop()?;

        let milliseconds = |duration: Duration| duration.as_secs_f64() * 1000.0;
        outcome.longest_ms = milliseconds(report.longest);
        outcome.stall_ms = milliseconds(stall);
        outcome.answers = report.exact.iter().sum();
        outcome.take_failures(&before.failures, &report.failures);
        let failed = report.failed.iter().zip(&before.failed);
        outcome.worst_client = failed.map(|(now, then)| now - then).max().unwrap_or(0);
        self.pair.settle(BOUND).context("the repair")?;
        Ok(())
    }
}

/// Starts a tandem on the third host that holds no server, only a proxy that follows the pair by its daemons.
fn start_following(pair: &TandemPair) -> anyhow::Result<Process> {
    let host = pair.pair().lab().host(THIRD);
    let secret = host.dir().join("secret");
    std::fs::copy(pair.secret(Side::A), &secret)?;
    let state = host.dir().join("state");
    std::fs::create_dir_all(&state)?;
    let daemons = Side::BOTH.map(|side| {
        let address = SocketAddr::new(pair.pair().host(side).address(), DAEMON_PORT);
        format!("\"{address}\"")
    });
    let text = format!(
        r#"[host]
id          = "{THIRD}"
address     = "{address}"
secret_file = "{secret}"
state_dir   = "{state}"

[[proxy]]
listen = "0.0.0.0:{PORT}"
groups = ["orders"]

[[proxy.group]]
name    = "orders"
daemons = [{daemons}]
"#,
        address = host.address(),
        secret = secret.display(),
        state = state.display(),
        daemons = daemons.join(", "),
    );
    let file = host.dir().join("tandem.toml");
    std::fs::write(&file, text)?;
    let mut command = Command::new(tandem_binary()?);
    command.arg("run").arg("-c").arg(file);
    let mut process = host.spawn("tandem", &mut command)?;
    let to = SocketAddr::new(host.address(), PORT);
    poll::until(
        "the proxy to listen",
        BOUND,
        Duration::from_millis(20),
        || {
            if process.ended()?.is_some() {
                anyhow::bail!("{}", process.obituary());
            }
            Ok(match host.connect(to, Duration::from_secs(1)) {
                Ok(_) => Ok(()),
                Err(error) => Err(error.to_string()),
            })
        },
    )?;
    Ok(process)
}
