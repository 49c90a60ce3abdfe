//! How soon each channel tells that a real redis-server was killed with SIGKILL.
//!
//! `cargo test -p tandem killed_server -- --nocapture` shows the figures. `TANDEM_MEASURE_MIB` fills the server first
//! (4096 for the case that matters), `TANDEM_MEASURE_ROUNDS` repeats. The test itself asserts no times.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use super::super::sockdiag::{Local, SocketDiag};
use super::super::testing::{eventually, in_namespace_within};
use super::{Process, Watch};

const PORT: u16 = 6399;
const VALUE_LEN: usize = 2000;
/// Filling gigabytes takes its time.
const LIMIT: Duration = Duration::from_secs(3600);

struct Server {
    child: Child,
    connection: TcpStream,
}

impl Drop for Server {
    fn drop(&mut self) {
        // Dead already unless a test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    async fn start(mebibytes: usize) -> Self {
        let child = Command::new("redis-server")
            .args([
                "--port",
                &PORT.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--dir",
                "/tmp",
            ])
            .args(["--enable-debug-command", "yes"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server starts");
        let mut connection = None;
        eventually("redis-server listens", || {
            connection = TcpStream::connect(("127.0.0.1", PORT)).ok();
            connection.is_some()
        })
        .await;
        let mut connection = connection.expect("connected");
        let keys = mebibytes * (1 << 20) / (VALUE_LEN + 100);
        write!(connection, "DEBUG POPULATE {keys} key {VALUE_LEN}\r\n").expect("sent");
        let mut reply = String::new();
        BufReader::new(&connection)
            .read_line(&mut reply)
            .expect("answered");
        assert_eq!(reply, "+OK\r\n");
        Self { child, connection }
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn kill(&self) -> Instant {
        let now = Instant::now();
        kill_process(self.pid(), Signal::KILL).expect("killed");
        now
    }
}

/// First time each channel speaks, in the order: thread pidfd, second thread pidfd, PF_EXITING, process pidfd, FIN.
fn race(server: &Server, process: Process) -> [Duration; 5] {
    let whole = pidfd_open(server.pid(), PidfdFlags::NONBLOCK).expect("a pidfd");
    let flags = PidfdFlags::from_bits_retain(libc::O_EXCL.cast_unsigned());
    let threads: Vec<_> = std::fs::read_dir(format!("/proc/{}/task", process.pid()))
        .expect("threads")
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|thread| *thread != process.pid())
        .map(|thread| {
            pidfd_open(Pid::from_raw(thread).expect("a tid"), flags).expect("a thread pidfd")
        })
        .collect();
    let killed = server.kill();
    let mut seen = [Duration::ZERO; 5];
    let mut note = |channel: usize| {
        if seen[channel].is_zero() {
            seen[channel] = killed.elapsed();
        }
        seen.iter().all(|time| !time.is_zero())
    };
    loop {
        let mut descriptors: Vec<_> = threads
            .iter()
            .map(|fd| PollFd::new(fd, PollFlags::IN))
            .collect();
        descriptors.push(PollFd::new(&whole, PollFlags::IN));
        descriptors.push(PollFd::from_borrowed_fd(
            server.connection.as_fd(),
            PollFlags::IN,
        ));
        poll(
            &mut descriptors,
            Some(&Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            }),
        )
        .expect("polled");
        let mut done = false;
        let ready: Vec<bool> = descriptors
            .iter()
            .map(|fd| !fd.revents().is_empty())
            .collect();
        let ended = ready[..threads.len()]
            .iter()
            .filter(|ready| **ready)
            .count();
        for (channel, spoke) in [
            (0, ended >= 1),
            (1, ended >= 2),
            (3, ready[threads.len()]),
            (4, ready[threads.len() + 1]),
        ] {
            if spoke {
                done = note(channel);
            }
        }
        if process.check_now().expect("readable").is_over() {
            done |= note(2);
        }
        if done {
            return seen;
        }
        std::thread::sleep(Duration::from_micros(50));
    }
}

/// Development machines without the server still run the other tests; CI has it.
fn server_is_missing() -> bool {
    let missing = Command::new("redis-server")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_err();
    if missing {
        println!("skipped: a_killed_server_is_noticed_through_every_channel: no redis-server");
        assert_ne!(
            std::env::var("CI").as_deref(),
            Ok("true"),
            "redis-server must be there under CI"
        );
    }
    missing
}

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name)
        .ok()
        .and_then(|value| value.parse().ok())
        .unwrap_or(default)
}

#[test]
fn a_killed_server_is_noticed_through_every_channel() {
    if server_is_missing() {
        return;
    }
    in_namespace_within(
        LIMIT,
        "a_killed_server_is_noticed_through_every_channel",
        async || {
            let mebibytes = setting("TANDEM_MEASURE_MIB", 0);
            for _ in 0..setting("TANDEM_MEASURE_ROUNDS", 1) {
                let mut server = Server::start(mebibytes).await;
                let pid = server.pid().as_raw_nonzero().get();
                let process = Process::with_pid(pid).expect("readable").expect("it runs");
                let [thread, second_thread, flag, whole, fin] = race(&server, process);
                println!(
                    "{mebibytes} MiB: thread pidfd {thread:?}, second {second_thread:?}, PF_EXITING {flag:?}, \
                 process pidfd {whole:?}, FIN {fin:?}"
                );
                server.child.wait().expect("reaped");

                let mut server = Server::start(mebibytes).await;
                let pid = server.pid().as_raw_nonzero().get();
                let process = Process::with_pid(pid).expect("readable").expect("it runs");
                let mut diag = SocketDiag::open().expect("netlink");
                let mut watch = Watch::new(process).expect("a watch");
                let threads = watch.thread_count();
                let killed = server.kill();
                let proof = watch.exited().await.expect("a proof");
                let noticed = killed.elapsed();
                println!(
                    "{mebibytes} MiB: Watch::exited {noticed:?}, {proof:?}, {threads} threads"
                );
                // Whatever the kernel still does with its memory, from here on clients must not be left waiting.
                let local = Local {
                    address: None,
                    port: PORT,
                };
                diag.destroy_listeners(local).expect("listed");
                diag.destroy_clients(local, &[]).expect("listed");
                let refused = TcpStream::connect(("127.0.0.1", PORT)).expect_err("nobody listens");
                assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
                // A reset, or an end if the process got that far by itself.
                let told = server.connection.read(&mut [0]);
                assert!(matches!(told, Ok(0) | Err(_)), "{told:?}");
                println!(
                    "{mebibytes} MiB: clients refused and told after {:?}",
                    killed.elapsed()
                );
                server.child.wait().expect("reaped");
                assert!(process.check_now().expect("readable").is_over());
            }
        },
    );
}
