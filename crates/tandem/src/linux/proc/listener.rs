//! Which process listens on a TCP port: the socket's inode from socket diagnosis, then its owner from `/proc/*/fd`.
//!
//! A server says its own pid in INFO (`process_id`), but from inside its own pid namespace; [`owns_listener`] checks the
//! claim before anybody watches that pid. Reading other users' descriptors needs `CAP_SYS_PTRACE` (root has it).

use std::fs;
use std::io;
use std::path::Path;

use super::super::sockdiag::{Local, SocketDiag, States};
use super::Process;

/// Descriptors looked at per process, and processes looked at: far above real hosts, below any harm.
const DESCRIPTORS_MAX: usize = 1 << 20;
const PROCESSES_MAX: usize = 1 << 17;

/// The process that listens at `local` in this network namespace. During a fork parent and child share the socket:
/// the one that started first is meant. The search runs on the runtime's blocking threads; it takes some milliseconds
/// on a host with many processes.
///
/// # Errors
/// What socket diagnosis says. Processes that cannot be looked into are skipped.
pub(crate) async fn listener_owner(
    diag: &mut SocketDiag,
    local: Local,
) -> io::Result<Option<Process>> {
    let inodes = listening_inodes(diag, local)?;
    if inodes.is_empty() {
        return Ok(None);
    }
    tokio::task::spawn_blocking(move || find_owner(&inodes)).await?
}

/// Whether `process` has a socket open that listens at `local`.
///
/// # Errors
/// What socket diagnosis says; `PermissionDenied` if the process' descriptors may not be read.
pub(crate) async fn owns_listener(
    diag: &mut SocketDiag,
    process: Process,
    local: Local,
) -> io::Result<bool> {
    let inodes = listening_inodes(diag, local)?;
    tokio::task::spawn_blocking(move || holds_one_of(process.pid(), &inodes)).await?
}

fn listening_inodes(diag: &mut SocketDiag, local: Local) -> io::Result<Vec<String>> {
    let sockets = diag.list(local, States::LISTENING)?;
    Ok(sockets
        .iter()
        .filter(|socket| socket.inode != 0)
        .map(|socket| format!("socket:[{}]", socket.inode))
        .collect())
}

fn find_owner(inodes: &[String]) -> io::Result<Option<Process>> {
    let mut oldest: Option<Process> = None;
    let pids = fs::read_dir("/proc")?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    for pid in pids.take(PROCESSES_MAX) {
        if holds_one_of(pid, inodes).unwrap_or(false)
            && let Some(found) = Process::with_pid(pid)?
            && oldest.is_none_or(|oldest| {
                (found.start_time(), pid) < (oldest.start_time(), oldest.pid())
            })
        {
            oldest = Some(found);
        }
    }
    Ok(oldest)
}

fn holds_one_of(pid: i32, inodes: &[String]) -> io::Result<bool> {
    let descriptors = match fs::read_dir(format!("/proc/{pid}/fd")) {
        Ok(descriptors) => descriptors,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    Ok(descriptors
        .flatten()
        .take(DESCRIPTORS_MAX)
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .any(|target| inodes.iter().any(|inode| Path::new(inode) == target)))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::super::super::testing::in_namespace;
    use super::*;

    #[test]
    fn the_owner_of_a_listener_is_found_and_a_stranger_is_not() {
        in_namespace(
            "the_owner_of_a_listener_is_found_and_a_stranger_is_not",
            async || {
                let listener = TcpListener::bind("0.0.0.0:0").expect("a listener");
                let local = Local {
                    address: None,
                    port: listener.local_addr().expect("bound").port(),
                };
                let mut diag = SocketDiag::open().expect("netlink");
                let own = i32::try_from(std::process::id()).expect("a pid");
                let owner = listener_owner(&mut diag, local)
                    .await
                    .expect("searched")
                    .expect("found");
                assert_eq!(owner.pid(), own);
                assert!(
                    owns_listener(&mut diag, owner, local)
                        .await
                        .expect("looked")
                );
                let init = Process::with_pid(1)
                    .expect("readable")
                    .expect("always there");
                assert!(!owns_listener(&mut diag, init, local).await.expect("looked"));
                drop(listener);
                assert_eq!(
                    listener_owner(&mut diag, local).await.expect("searched"),
                    None
                );
            },
        );
    }
}
