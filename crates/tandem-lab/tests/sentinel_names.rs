//! Host names in place of addresses: `resolve-hostnames` and `announce-hostnames`, with the names of an `/etc/hosts`.

#![allow(clippy::unwrap_used)] // A panic in a test is its report.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use tandem_lab::fleet::{PORT, Program, fields};
use tandem_lab::ns::{Host, Lab, is_real_root};
use tandem_lab::process::Process;
use tandem_lab::resp::{Connection, Reply};
use tandem_lab::server::{Server, Settings};
use tandem_lab::{can_run, poll, skip};

const BOUND: Duration = Duration::from_secs(60);
const EVERY: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(2);
const GROUP: &str = "orders";
const NAME: &str = "redis-a.lab";

/// A Sentinel in a mount namespace of its own, in which `/etc/hosts` is the lab's.
struct Named {
    host: Arc<Host>,
    _process: Process,
}

impl Named {
    fn start(host: &Arc<Host>, program: Program, hosts: &Path) -> Self {
        let text = format!(
            "port {PORT}\nbind 0.0.0.0\nprotected-mode no\ndir {}\nsentinel resolve-hostnames yes\n\
             sentinel announce-hostnames yes\nsentinel monitor {GROUP} {NAME} 6379 2\n\
             sentinel down-after-milliseconds {GROUP} 1000\nsentinel failover-timeout {GROUP} 5000\n",
            host.dir().display()
        );
        let file = host.dir().join("sentinel.conf");
        std::fs::write(&file, text).unwrap();
        let inner = program.command(&file).unwrap();
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-c"])
            .arg("mount --bind \"$1\" /etc/hosts && shift && exec \"$@\"")
            .arg("sh")
            .arg(hosts)
            .arg(inner.get_program())
            .args(inner.get_args());
        Self {
            host: Arc::clone(host),
            _process: host.spawn("sentinel", &mut command).unwrap(),
        }
    }

    fn ask(&self, command: &[&str]) -> Result<Reply, String> {
        let at = SocketAddr::from(([127, 0, 0, 1], PORT));
        let mut connection =
            Connection::open(&self.host, at, PATIENCE).map_err(|error| error.to_string())?;
        connection
            .demand(command)
            .map_err(|error| format!("{error:#}"))
    }

    /// The host that clients are told.
    fn tells(&self) -> Result<String, String> {
        match self.ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", GROUP])? {
            Reply::Array(parts) => parts
                .first()
                .and_then(Reply::text)
                .ok_or_else(|| "no host".to_owned()),
            other => Err(format!("{other:?}")),
        }
    }

    fn wait_until_it_tells(&self, expected: &str) {
        poll::until(&format!("{expected} to be told"), BOUND, EVERY, || {
            Ok(match self.tells() {
                Ok(host) if host == expected => Ok(()),
                other => Err(format!("{other:?}")),
            })
        })
        .unwrap();
    }
}

#[test]
fn a_group_that_is_named_is_watched_and_fails_over() {
    let test = "a_group_that_is_named_is_watched_and_fails_over";
    if !can_run(test) {
        return;
    }
    if !is_real_root() {
        skip(test, "an /etc/hosts of its own needs real root");
        return;
    }
    for program in Program::ALL {
        if let Err(reason) = program.available() {
            skip(test, &format!("{reason:#}"));
            return;
        }
    }
    let lab = Lab::builder()
        .host("h1", "10.0.0.1/24")
        .host("h2", "10.0.0.2/24")
        .build()
        .unwrap();
    let hosts = lab.dir().join("hosts");
    std::fs::write(&hosts, format!("127.0.0.1 localhost\n10.0.0.1 {NAME}\n")).unwrap();
    let settings = Settings {
        extra: vec!["repl-diskless-sync-delay 0".to_owned()],
        ..Settings::default()
    };
    let mut servers = ["h1", "h2"].map(|name| Server::start(lab.host(name), &settings).unwrap());
    servers[1].replicate(Some(servers[0].address())).unwrap();
    servers[1].wait_until_synced(BOUND).unwrap();

    let sentinels = [
        Named::start(lab.host("h1"), Program::Tandem, &hosts),
        Named::start(lab.host("h2"), Program::Real, &hosts),
    ];
    for sentinel in &sentinels {
        sentinel.wait_until_it_tells(NAME);
        // The other one's hello names the primary by its name as well, and that is the same server.
        poll::until("both to know each other", BOUND, EVERY, || {
            let known = sentinel
                .ask(&["SENTINEL", "MASTER", GROUP])
                .map(|reply| fields(&reply));
            Ok(match known {
                Ok(known)
                    if known["num-other-sentinels"] == "1"
                        && known["num-slaves"] == "1"
                        && known["flags"] == "master" =>
                {
                    Ok(())
                }
                other => Err(format!("{other:?}")),
            })
        })
        .unwrap();
    }

    servers[0].process().kill();
    for sentinel in &sentinels {
        // The promoted one has no name: INFO knew it by its address.
        sentinel.wait_until_it_tells("10.0.0.2");
    }
    assert!(servers[1].is_primary().unwrap());
    servers[0].restart().unwrap();
    poll::until(
        "the old primary to follow the new one",
        BOUND,
        EVERY,
        || {
            Ok(match servers[0].connect()?.info("master_host") {
                Ok(host) if host == "10.0.0.2" => Ok(()),
                other => Err(format!("{other:?}")),
            })
        },
    )
    .unwrap();
}
