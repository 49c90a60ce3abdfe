//! What the daemons of a pair use while nothing happens: processor time and memory, of the one beside the primary and of the
//! other.

use std::time::{Duration, Instant};

use anyhow::Context;

use super::Outcome;
use crate::arrangement::{Arrangement, Side};
use crate::process::Process;
use crate::usage;

/// What starts and settles is over by then.
const CALM: Duration = Duration::from_secs(5);
/// Long enough for everything that happens once a second or once in ten.
const LOOK: Duration = Duration::from_secs(60);
const MIB: f64 = 1_048_576.0;

/// Measures, and fills the outcome in.
///
/// # Errors
/// When nobody is primary, or a daemon ends meanwhile.
pub(super) fn idle(arrangement: &mut dyn Arrangement, outcome: &mut Outcome) -> anyhow::Result<()> {
    let primary = arrangement.primary()?.map_err(anyhow::Error::msg)?;
    let mut daemons = Vec::new();
    for side in Side::BOTH {
        let running = arrangement.pair_mut().daemons_mut(side);
        let pid = running.first().map(Process::pid).context("a daemon")?;
        daemons.push((side, pid));
    }
    std::thread::sleep(CALM);
    let mut before = Vec::new();
    for (_, pid) in &daemons {
        before.push((usage::processor(*pid)?, Instant::now()));
    }
    std::thread::sleep(LOOK);
    let mut words = Vec::new();
    for ((side, pid), (used, since)) in daemons.into_iter().zip(before) {
        let used = usage::processor(pid)?.saturating_sub(used);
        let percent = 100.0 * used.as_secs_f64() / since.elapsed().as_secs_f64();
        let mib = usage::peak_bytes(pid)? as f64 / MIB;
        outcome.processor_percent = outcome.processor_percent.max(percent);
        outcome.memory_mib = outcome.memory_mib.max(mib);
        let part = if side == primary {
            "primary"
        } else {
            "replica"
        };
        words.push(format!("{part}'s {percent:.2} % of a core, {mib:.1} MiB"));
    }
    outcome.settled = arrangement.primary()? == Ok(primary);
    outcome.note = words.join("; ");
    Ok(())
}
