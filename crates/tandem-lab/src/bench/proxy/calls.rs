//! System calls per request without pipelining, counted by `strace -c -f` on the running process.
//!
//! A traced process is slow, so its turns gather more requests than they would otherwise: the figure is comparable
//! between proxies, and a lower bound of what each does untraced.

use std::process::Command as Process;
use std::time::Duration;

use anyhow::{Context, ensure};

use super::bed::{Bed, Shards};
use super::{Contestant, Outcome};
use crate::poll;

const REQUESTS: usize = 40_000;
/// For strace to attach, and to end.
const BOUND: Duration = Duration::from_secs(20);

/// Counts the calls of a proxy.
pub(super) fn measure(
    bed: &Bed,
    contestant: Contestant,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let (pid, port) = bed.subject(contestant, Shards::One)?;
    let file = bed.host().dir().join("strace.out");
    let mut command = Process::new("strace");
    command.args(["-c", "-f", "-o"]).arg(&file);
    command.args(["-p", &pid.to_string()]);
    let mut strace = bed.host().spawn("strace", &mut command)?;
    let status = format!("/proc/{pid}/status");
    poll::until("strace to attach", BOUND, Duration::from_millis(5), || {
        ensure!(strace.ended()?.is_none(), "{}", strace.obituary());
        let text = std::fs::read_to_string(&status)?;
        let tracer = text
            .lines()
            .find_map(|line| line.strip_prefix("TracerPid:"));
        Ok(match tracer.map(str::trim) {
            Some(tracer) if tracer == strace.pid().to_string() => Ok(()),
            _ => Err(format!("the tracer is {tracer:?}")),
        })
    })?;
    outcome.rate = super::load::benchmark(bed.host(), port, 1, REQUESTS, &["-t", "get"])?;
    strace.terminate(BOUND)?;
    let calls = count(&std::fs::read_to_string(&file)?)?;
    outcome.calls = calls as f64 / REQUESTS as f64;
    Ok(())
}

/// The sum of the fourth column of strace's table, without its own sum.
fn count(table: &str) -> anyhow::Result<u64> {
    let mut sum = 0;
    for line in table.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_call = fields
            .first()
            .is_some_and(|share| share.parse::<f64>().is_ok())
            && fields.last() != Some(&"total");
        if is_call {
            let calls = fields.get(3).and_then(|calls| calls.parse::<u64>().ok());
            sum += calls.with_context(|| format!("strace: {line}"))?;
        }
    }
    ensure!(sum > 0, "strace counted nothing: {table}");
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_summed_with_and_without_errors() {
        let table = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 59.66    0.181818           1    100001           writev
 40.00    0.121212           1     50000        12 read
  0.34    0.001045           0         5           epoll_wait
------ ----------- ----------- --------- --------- ----------------
100.00    0.304075           2    150006        12 total
";
        assert_eq!(count(table).unwrap(), 150_006);
        assert!(count("").is_err());
    }
}
