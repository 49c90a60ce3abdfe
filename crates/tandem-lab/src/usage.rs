//! What a process uses, as the kernel counts it: processor time, memory, descriptors.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::process::{Resource, getrlimit, setrlimit};

/// Processor time of all threads that live now, in user and in kernel mode, exact to the last switch.
///
/// Field 1 of each thread's `schedstat`, in nanoseconds: `/proc/PID/stat` counts ticks of 10 ms, which is too coarse for
/// a measurement of a second. What ended threads used is not in it.
///
/// # Errors
/// When the process is gone.
pub fn processor(pid: u32) -> anyhow::Result<Duration> {
    let mut sum = Duration::ZERO;
    let mut threads = 0;
    let listed = std::fs::read_dir(file(pid, "task"));
    for thread in listed.with_context(|| format!("process {pid}"))? {
        // One that ends between the listing and the reading is one of those that do not count.
        let Ok(text) = std::fs::read_to_string(thread?.path().join("schedstat")) else {
            continue;
        };
        let first = text.split_whitespace().next().unwrap_or_default();
        sum += Duration::from_nanos(first.parse().context("schedstat")?);
        threads += 1;
    }
    ensure!(threads > 0, "process {pid} is gone");
    Ok(sum)
}

/// Resident memory now, in bytes.
///
/// # Errors
/// When the process is gone.
pub fn resident_bytes(pid: u32) -> anyhow::Result<u64> {
    status_bytes(pid, "VmRSS")
}

/// The most resident memory so far, or since [`forget_peak`], in bytes.
///
/// # Errors
/// When the process is gone.
pub fn peak_bytes(pid: u32) -> anyhow::Result<u64> {
    status_bytes(pid, "VmHWM")
}

/// Lets [`peak_bytes`] begin again from what is resident now.
///
/// # Errors
/// When the process is gone, or the kernel has no `clear_refs`.
pub fn forget_peak(pid: u32) -> anyhow::Result<()> {
    // 5 resets the high-water mark, proc_pid_clear_refs(5).
    std::fs::write(file(pid, "clear_refs"), "5").with_context(|| format!("process {pid}"))
}

/// Descriptors that are open now.
///
/// # Errors
/// When the process is gone.
pub fn descriptors(pid: u32) -> anyhow::Result<usize> {
    let listed = std::fs::read_dir(file(pid, "fd"));
    Ok(listed.with_context(|| format!("process {pid}"))?.count())
}

/// Lets this process and those that it starts open so many descriptors, if the hard limit does, and returns how many.
///
/// # Errors
/// When the kernel refuses.
pub fn allow_descriptors(wanted: u64) -> anyhow::Result<u64> {
    let mut limit = getrlimit(Resource::Nofile);
    let allowed = limit.maximum.map_or(wanted, |most| most.min(wanted));
    // Never less than there is: what runs already may use it.
    let allowed = allowed.max(limit.current.unwrap_or(allowed));
    limit.current = Some(allowed);
    setrlimit(Resource::Nofile, limit)?;
    Ok(allowed)
}

fn status_bytes(pid: u32, field: &str) -> anyhow::Result<u64> {
    let path = file(pid, "status");
    let text = std::fs::read_to_string(path).with_context(|| format!("process {pid}"))?;
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
        .with_context(|| format!("the kernel tells no {field}"))?;
    let kib = value.split_whitespace().next().unwrap_or_default();
    Ok(kib.parse::<u64>().context(field.to_owned())? * 1024)
}

fn file(pid: u32, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_works_uses_time_and_memory() {
        let me = std::process::id();
        let before = processor(me).unwrap();
        let mut sum = 0_u64;
        while processor(me).unwrap() < before + Duration::from_millis(1) {
            sum = std::hint::black_box(sum.wrapping_mul(3) + 1);
        }
        let resident = resident_bytes(me).unwrap();
        assert!(resident > 0 && resident <= peak_bytes(me).unwrap().max(resident));
        // At least the three standard ones.
        assert!(descriptors(me).unwrap() >= 3);
    }

    #[test]
    fn a_process_that_is_gone_uses_nothing_that_could_be_told() {
        // Larger than the kernel's largest process id.
        let gone = 4_194_305;
        assert!(processor(gone).is_err());
        assert!(resident_bytes(gone).is_err());
        assert!(descriptors(gone).is_err());
    }
}
