//! A real server for a test: on a free port of the loopback, in its own directory, gone when dropped.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command as Process, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tandem_core::info::ServerInfo;
use tandem_resp::Value;
use tempfile::TempDir;

use super::super::client::Link;
use super::super::ops;
use super::super::raw::{Credentials, Target};

/// The same tests run against another server: its path is given by this variable.
const BINARY: &str = "TANDEM_TEST_REDIS_SERVER";

/// A bound that only a broken program reaches.
pub(crate) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

pub(crate) struct Server {
    child: Child,
    dir: TempDir,
    pub(crate) port: u16,
    credentials: Option<Credentials>,
}

impl Server {
    pub(crate) async fn start(settings: &[(&str, &str)]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), settings, None).await
    }

    pub(crate) async fn start_in(
        dir: TempDir,
        settings: &[(&str, &str)],
        credentials: Option<Credentials>,
    ) -> Self {
        // Between choosing the port and listening on it another program may take it: then the process ends, and the
        // next port is tried.
        let mut dir = Some(dir);
        for _ in 0..5 {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let port = listener.local_addr().unwrap().port();
            drop(listener);
            let place = dir.take().unwrap();
            let child = spawn(port, place.path(), settings);
            let mut server = Self {
                child,
                dir: place,
                port,
                credentials: credentials.clone(),
            };
            if server.ready().await {
                return server;
            }
            let fresh = tempfile::tempdir().unwrap();
            dir = Some(std::mem::replace(&mut server.dir, fresh));
        }
        panic!("no free port");
    }

    /// Waits until it answers, and checks that it is this process that does.
    async fn ready(&mut self) -> bool {
        let end = soon();
        while Instant::now() < end {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            if let Ok(link) = Link::connect(&self.target(), end).await
                && let Ok(info) = ops::info(&link, end).await
                && !info.loading
            {
                return info.process_id == Some(self.child.id());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("redis-server did not answer");
    }

    pub(crate) fn target(&self) -> Target {
        let mut target = Target::new(SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)));
        target.credentials.clone_from(&self.credentials);
        target
    }

    pub(crate) async fn link(&self) -> Link {
        Link::connect(&self.target(), soon()).await.unwrap()
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A frozen process dies of SIGKILL as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(port: u16, dir: &Path, settings: &[(&str, &str)]) -> Child {
    let binary = std::env::var(BINARY).unwrap_or_else(|_| "redis-server".to_owned());
    let mut conf = format!(
        "bind 127.0.0.1\nport {port}\nsave \"\"\nrepl-diskless-sync-delay 0\nlogfile log\ndir \"{}\"\n",
        dir.display()
    );
    for (name, value) in settings {
        conf.push_str(&format!("{name} {value}\n"));
    }
    std::fs::write(dir.join("redis.conf"), conf).unwrap();
    Process::new(&binary)
        .arg(dir.join("redis.conf"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{binary}: {error}"))
}

/// Runs a command given as words.
pub(crate) async fn run(link: &Link, words: &str) -> Value {
    let args: Vec<&str> = words.split(' ').collect();
    link.call(&args, soon()).await.unwrap()
}

/// As [`run`], for a command that must be answered OK.
pub(crate) async fn ok(link: &Link, words: &str) {
    let value = run(link, words).await;
    assert!(value.is_ok(), "{words}: {value:?}");
}

/// Polls INFO until it is as wanted.
pub(crate) async fn until(
    link: &Link,
    what: &str,
    wanted: impl Fn(&ServerInfo) -> bool,
) -> ServerInfo {
    let end = soon();
    loop {
        let info = ops::info(link, end).await.unwrap();
        if wanted(&info) {
            return info;
        }
        assert!(Instant::now() < end, "never {what}: {info:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A number of INFO that the product does not read.
pub(crate) async fn stat(link: &Link, name: &str) -> u64 {
    let text = run(link, "INFO stats").await;
    let line = text.as_str().unwrap().lines().find_map(|line| {
        line.strip_prefix(name)?
            .strip_prefix(':')?
            .trim()
            .parse()
            .ok()
    });
    line.unwrap()
}

/// A primary with its replica in step, and a link to each.
pub(crate) struct Pair {
    pub(crate) a: Server,
    pub(crate) b: Server,
    pub(crate) to_a: Link,
    pub(crate) to_b: Link,
}

impl Pair {
    pub(crate) async fn start() -> Self {
        Self::with(&[]).await
    }

    pub(crate) async fn with(settings: &[(&str, &str)]) -> Self {
        let a = Server::start(settings).await;
        let b = Server::start(settings).await;
        let (to_a, to_b) = (a.link().await, b.link().await);
        ops::attach(&to_b, "127.0.0.1", a.port, None, soon())
            .await
            .unwrap();
        until(&to_b, "in step", |info| info.master_link_up == Some(true)).await;
        until(&to_a, "online", |info| {
            info.replicas.iter().any(|replica| replica.is_online())
        })
        .await;
        Self { a, b, to_a, to_b }
    }

    /// Waits until the replica has what the primary wrote.
    pub(crate) async fn settle(&self) -> u64 {
        let written = ops::read_offsets(&self.to_a, soon()).await.unwrap().offset;
        ops::wait_equal_offset(&self.to_b, written, soon())
            .await
            .unwrap();
        written
    }
}
