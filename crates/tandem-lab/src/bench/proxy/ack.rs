//! What `ack = 1` costs in throughput, beside a proxy without it before the same primary with the same replica attached.

use std::process;
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use super::bed::Bed;
use super::load::benchmark;
use super::{Command, Outcome};
use crate::fleet::{self, Member};
use crate::ns::Host;
use crate::poll;
use crate::process::Process;
use crate::resp::{Connection, Reply};
use crate::server::{Server, Settings};

/// The primary's port, and the replica's.
const SERVERS: [u16; 2] = [7003, 7004];
/// Of the proxy without acknowledgements, and of the one with.
const PROXIES: [u16; 2] = [7010, 7011];
/// As the other rows at this depth.
const PIPELINE: u16 = 16;
const REQUESTS: usize = 700_000;
/// For everything to stand.
const BOUND: Duration = Duration::from_secs(30);

/// A primary with its replica, a sentinel that names them, and both proxies in one daemon.
pub(super) struct Stand {
    _servers: Vec<Server>,
    _sentinel: Member,
    daemon: Process,
}

impl Stand {
    fn build(bed: &Bed) -> anyhow::Result<Self> {
        let host = bed.host();
        let address = host.address();
        let servers: Vec<Server> = SERVERS
            .iter()
            .map(|&port| {
                let extra = vec!["repl-diskless-sync-delay 0".to_owned()];
                let settings = Settings {
                    port,
                    extra,
                    ..Settings::default()
                };
                Server::start(host, &settings)
            })
            .collect::<anyhow::Result<_>>()?;
        servers[1].replicate(Some((address, SERVERS[0]).into()))?;
        servers[1].wait_until_synced(BOUND)?;
        let text = format!(
            "port {}\nsentinel monitor bench {address} {} 1\nsentinel down-after-milliseconds bench 60000\n",
            fleet::PORT,
            SERVERS[0]
        );
        let mut sentinel = Member::new(host.clone(), fleet::Program::Tandem, text)?;
        sentinel.start()?;
        let state = host.dir().join("ack-state");
        std::fs::create_dir_all(&state)?;
        let mut text = format!(
            "[host]\nid = \"p\"\naddress = \"{address}\"\nport = 26390\nstate_dir = \"{}\"\n",
            state.display()
        );
        for (ack, port) in PROXIES.into_iter().enumerate() {
            text.push_str(&format!(
                "\n[[proxy]]\nlisten = \"127.0.0.1:{port}\"\ngroups = [\"bench\"]\nthreads = 1\nack = {ack}\n\n[[proxy.group]]\nname = \"bench\"\n\
                 daemons = [\"{address}:{}\"]\n",
                fleet::PORT
            ));
        }
        let file = host.dir().join("ack.toml");
        std::fs::write(&file, text)?;
        let mut command = process::Command::new(crate::tandem_binary()?);
        command.arg("run").arg("-c").arg(file);
        let mut daemon = host.spawn("ack", &mut command)?;
        for port in PROXIES {
            await_writes(host, port, &mut daemon)?;
        }
        Ok(Self {
            _servers: servers,
            _sentinel: sentinel,
            daemon,
        })
    }
}

/// Waits until a write through a proxy is acknowledged, and says what was answered before that.
fn await_writes(host: &Host, port: u16, daemon: &mut Process) -> anyhow::Result<Option<String>> {
    let at = ([127, 0, 0, 1], port).into();
    let mut refused = None;
    let pause = Duration::from_millis(50);
    poll::until("a write through a proxy", BOUND, pause, || {
        if daemon.ended()?.is_some() {
            bail!("{}", daemon.obituary());
        }
        let said = Connection::open(host, at, BOUND)
            .and_then(|mut connection| connection.call(&["SET", "a", "1"]));
        let otherwise = match said {
            Ok(reply) if reply.text().as_deref() == Some("OK") => return Ok(Ok(())),
            Ok(reply) => format!("{reply:?}"),
            Err(error) => error.to_string(),
        };
        refused.get_or_insert_with(|| otherwise.clone());
        Ok(Err(otherwise))
    })?;
    Ok(refused)
}

/// One round: both, in turn, and in the other order each second round.
pub(super) fn measure(bed: &mut Bed, round: u32, outcome: &mut Outcome) -> anyhow::Result<()> {
    if bed.acks.is_none() {
        bed.acks = Some(Stand::build(bed).context("a pair for acknowledgements")?);
    }
    let host = bed.host().clone();
    let mut notes = Vec::new();
    let mut order = [0, 1];
    order.rotate_left(round as usize % 2);
    let mut rates = [0.0; 2];
    for which in order {
        // What the one before has left the replica behind by is not this one's.
        let mut primary = Connection::open(bed.host(), ([127, 0, 0, 1], SERVERS[0]).into(), BOUND)?;
        primary.demand(&["SET", "a", "1"])?;
        let caught_up = primary.demand(&["WAIT", "1", "20000"])?;
        ensure!(
            caught_up == Reply::Integer(1),
            "the replica is more than 20 s behind: {caught_up:?}"
        );
        if let Some(stand) = &mut bed.acks
            && let Some(said) = await_writes(&host, PROXIES[which], &mut stand.daemon)?
        {
            notes.push(format!(
                "at rest ack = {which} answered a write with {said}"
            ));
        }
        let command = ["-t", Command::Set.name()];
        rates[which] = benchmark(bed.host(), PROXIES[which], PIPELINE, REQUESTS, &command)?;
    }
    let [without, with] = rates;
    outcome.rate = with;
    outcome.ack_cost = 1.0 - with / without;
    notes.push(format!("{without:.0} requests/s without acknowledgements"));
    outcome.note = notes.join(", ");
    Ok(())
}
