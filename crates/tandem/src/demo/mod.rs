//! `tandem demo`: two hosts in network namespaces, real servers, a VIP and a writing client, broken one way after
//! another and told in plain words.
//!
//! The hosts, the faults and the client are the lab's ([`tandem_lab`]); the daemons are this very executable, started
//! as on any host. It needs root, or a kernel that lets users make user namespaces. Nothing outside its namespaces is
//! touched, and everything it started ends with it.

mod act;
mod keys;
mod table;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use tandem_lab::arrangement::{Arrangement, Fault, Keepalived, TandemPair, Tuning};
use tandem_lab::ns::ensure_capable;
use tandem_lab::server::Settings;

use act::{Row, act};

/// The faults of the demo, in its order, each with what is told before it.
const STORY: [(Fault, &str); 5] = [
    (Fault::KillServer, "kill -9 of the primary's redis-server"),
    (
        Fault::FreezeServer,
        "SIGSTOP of the primary's redis-server: it is there, and answers nobody",
    ),
    (Fault::PowerOff, "the primary's host loses its power"),
    (
        Fault::Switchover,
        "a planned switchover, as before maintenance",
    ),
    (
        Fault::CutBothUsed,
        "the network is cut in two, and clients write on both sides",
    ),
];

/// What may be shown beside tandem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Beside {
    /// keepalived with the check, master and backup scripts of the usual tutorials. Needs real root.
    Keepalived,
}

/// The demo's arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// You press the keys: kill, freeze, power off, cut, heal, switch over.
    #[arg(short, long, conflicts_with = "beside")]
    interactive: bool,
    /// Run the same faults on this too, and print both columns.
    #[arg(long)]
    beside: Option<Beside>,
}

/// Runs the demo.
///
/// # Errors
/// When the lab cannot run here, with the reason, or when something did not happen within its bound.
pub(crate) fn run(args: &DemoArgs) -> Result<()> {
    // Before any thread and any output: without root this runs the program again in a user namespace.
    ensure_capable().map_err(|reason| anyhow::anyhow!("the demo cannot run here: {reason}"))?;
    let own: PathBuf = std::env::current_exe().context("own executable")?;
    println!(
        "Builds two hosts, a (10.0.0.1) and b (10.0.0.2), each with a redis-server and a tandem daemon,"
    );
    println!(
        "the address 10.0.0.100 that follows the primary, and a client that writes every millisecond.\n"
    );
    let mut pair = TandemPair::new(own, Settings::default())?;
    let begun = Instant::now();
    let primary = pair.start(0)?;
    println!(
        "Ready after {:.1} s: host {} is primary, the other one its replica.",
        begun.elapsed().as_secs_f64(),
        primary.host()
    );
    if args.interactive {
        return keys::play(&mut pair);
    }
    let mut rows = Vec::new();
    for (fault, words) in STORY {
        println!("\n{words}");
        rows.push(act(&mut pair, fault, true)?);
    }
    drop(pair);
    let beside = match args.beside {
        None => None,
        Some(Beside::Keepalived) => {
            println!(
                "\nNow the same on keepalived with the scripts of the usual tutorials, afresh for each fault."
            );
            Some(("keepalived", keepalived()?))
        }
    };
    println!(
        "\n{}",
        table::render(
            &rows,
            beside.as_ref().map(|(name, rows)| (*name, rows.as_slice()))
        )
    );
    anyhow::ensure!(
        rows.iter().all(|row| row.lost == 0 && row.by_itself),
        "something was lost or did not come back by itself: see the table"
    );
    Ok(())
}

/// The same faults on keepalived. One pair for each, because only the first failover is promised there.
fn keepalived() -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (fault, words) in STORY {
        let mut pair = Keepalived::new(Tuning::Tutorial, Settings::default())?;
        if !pair.supports(fault) {
            println!("\n{words}: there is no such thing.");
            continue;
        }
        println!("\n{words}");
        pair.start(0)?;
        rows.push(act(&mut pair, fault, false)?);
    }
    Ok(rows)
}
