//! Two proxy hosts with one VIP, as twemproxy's write-up arranges them, kept by `tandem run` alone.

#![allow(clippy::unwrap_used)] // A panic in a test is its report.

mod scenario;

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use tandem_lab::ns::{Host, Lab};
use tandem_lab::process::Process;
use tandem_lab::resp::{Connection, Reply};
use tandem_lab::server::{Persistence, Server, Settings};
use tandem_lab::{can_run_as_root, poll, skip};

use scenario::{BOUND, LOOK, moves_to};

const VIP: &str = "10.75.201.3";
const PORT: u16 = 63790;
/// The hosts of the proxies, the preferred one first.
const PROXIES: [&str; 2] = ["p67", "p66"];

/// A daemon without a group and without a peer; `shards` are its `[[proxy.group]]`s, cluster-a and cluster-b.
fn start_proxy(host: &Host, priority: u8, shards: &str) -> Process {
    let (name, address, dir) = (host.name(), host.address(), host.dir().display());
    let secret = host.dir().join("secret");
    std::fs::write(&secret, "sixteen bytes at least\n").unwrap();
    let text = format!(
        "[host]\nid = \"{name}\"\naddress = \"{address}\"\nsecret_file = \"{}\"\nstate_dir = \"{dir}/state\"\n\n\
         [[proxy]]\nlisten = \"{VIP}:{PORT}\"\ngroups = [\"cluster-a\", \"cluster-b\"]\nhash = \"one_at_a_time\"\n\
         distribution = \"modula\"\nthreads = 2\n\n{shards}\n\
         [proxy.vip]\naddress = \"{VIP}/24\"\ninterface = \"eth0\"\n\n\
         [proxy.vrrp]\nrouter_id = 12\npriority = {priority}\n",
        secret.display()
    );
    let file = host.dir().join("proxy.toml");
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(tandem_lab::tandem_binary().unwrap());
    command.arg("run").arg("-c").arg(file);
    host.spawn("proxy", &mut command).unwrap()
}

/// Both, the preferred one first, since neither takes the address back.
fn start_proxies(lab: &Lab, shards: &str) -> [Process; 2] {
    let first = start_proxy(lab.host(PROXIES[0]), 101, shards);
    moves_to(lab, PROXIES, VIP, PROXIES[0]);
    [first, start_proxy(lab.host(PROXIES[1]), 100, shards)]
}

/// A command at the VIP, on a connection of its own, as clients that reconnect do, until it is answered.
fn ask(lab: &Lab, command: &[&str]) -> Reply {
    let client = lab.host("client");
    poll::until(&format!("{command:?} at the VIP"), BOUND, LOOK, || {
        let ask = || {
            let vip = SocketAddr::new(VIP.parse()?, PORT);
            let mut connection = Connection::open(client, vip, Duration::from_secs(1))?;
            anyhow::Ok(connection.demand(command)?)
        };
        Ok(ask().map_err(|error| format!("{error:#}")))
    })
    .unwrap()
}

fn set(lab: &Lab, key: &str, value: &str) {
    assert_eq!(ask(lab, &["SET", key, value]).text().as_deref(), Some("OK"));
}

fn get(lab: &Lab, key: &str) -> Option<String> {
    ask(lab, &["GET", key]).text()
}

/// The value of a key on a server itself.
fn held(server: &Server, key: &str) -> Option<String> {
    let mut connection = server.connect().unwrap();
    connection.demand(&["GET", key]).unwrap().text()
}

/// Holds one thread of a process at its next `epoll_wait`, for as long as the tracer lives.
fn stall(host: &Host, process: &Process, thread: &str) -> anyhow::Result<Process> {
    let tasks = format!("/proc/{}/task", process.pid());
    let named = |task: &std::path::Path| {
        std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == thread)
    };
    let task = std::fs::read_dir(tasks)?
        .filter_map(|task| Some(task.ok()?.path()))
        .find(|task| named(task))
        .ok_or_else(|| anyhow::anyhow!("no thread {thread}"))?;
    let mut command = Command::new("strace");
    command.arg("-p").arg(task.file_name().unwrap_or_default());
    command.args(["-e", "inject=?epoll_wait,epoll_pwait:delay_enter=100000000"]);
    host.spawn("strace", &mut command)
}

/// Waits until every thread answers that did not.
fn fit_again(host: &Host) {
    poll::until("every thread to answer", BOUND, LOOK, || {
        let log = std::fs::read_to_string(host.dir().join("proxy.log")).unwrap_or_default();
        let sick = log.rfind("proxy-sick");
        let fit = log.rfind("proxy-fit");
        Ok(if sick.is_some() && fit > sick {
            Ok(())
        } else {
            Err(log)
        })
    })
    .unwrap();
}

#[test]
fn the_address_leaves_a_host_whose_proxy_does_not_answer() {
    if !can_run_as_root("the_address_leaves_a_host_whose_proxy_does_not_answer") {
        return;
    }
    let lab = Lab::builder()
        .host("p67", "10.75.201.67/24")
        .host("p66", "10.75.201.66/24")
        .host("s26", "10.75.201.26/24")
        .host("client", "10.75.201.50/24")
        .build()
        .unwrap();
    let servers = [6379, 6380].map(|port| {
        let settings = Settings {
            port,
            ..Settings::default()
        };
        Server::start(lab.host("s26"), &settings).unwrap()
    });
    let shards = "[[proxy.group]]\nname = \"cluster-a\"\nserver = \"10.75.201.26:6379\"\n\n\
                  [[proxy.group]]\nname = \"cluster-b\"\nserver = \"10.75.201.26:6380\"\n";
    let [mut first, second] = start_proxies(&lab, shards);
    // one_at_a_time("a") mod 2 is 0, that of "b" is 1.
    set(&lab, "{a}1", "one");
    set(&lab, "{b}1", "two");
    assert_eq!(held(&servers[0], "{a}1").as_deref(), Some("one"));
    assert_eq!(held(&servers[1], "{b}1").as_deref(), Some("two"));

    // One thread of two does not come round: the other one would serve, but new clients land on either.
    let [on_first, on_second] = PROXIES;
    match stall(lab.host(on_first), &first, "proxy-1") {
        Ok(tracer) => {
            moves_to(&lab, PROXIES, VIP, on_second);
            assert_eq!(get(&lab, "{a}1").as_deref(), Some("one"));
            // It comes round again, and waits for its turn.
            tracer.kill();
            fit_again(lab.host(on_first));
            second.freeze();
            moves_to(&lab, PROXIES, VIP, on_first);
            second.thaw();
        }
        Err(reason) => skip("a thread of a proxy that is stuck", &format!("{reason:#}")),
    }

    // Frozen, and its address goes by its lifetime in the kernel.
    first.freeze();
    moves_to(&lab, PROXIES, VIP, on_second);
    assert_eq!(get(&lab, "{a}1").as_deref(), Some("one"));
    // Awake it takes nothing back, and so it is there for the next one.
    first.thaw();
    second.kill();
    moves_to(&lab, PROXIES, VIP, PROXIES[0]);
    assert_eq!(get(&lab, "{b}1").as_deref(), Some("two"));

    // Started again it waits; a stop hands over.
    let waits = || {
        let log = std::fs::read_to_string(lab.host(on_second).dir().join("proxy.log"));
        log.unwrap_or_default().matches("BACKUP").count()
    };
    let before = waits();
    let _second = start_proxy(lab.host(on_second), 100, shards);
    poll::until("the second one to wait", BOUND, LOOK, || {
        Ok(if waits() > before {
            Ok(())
        } else {
            Err("not yet".to_owned())
        })
    })
    .unwrap();
    first.terminate(BOUND).unwrap();
    moves_to(&lab, PROXIES, VIP, PROXIES[1]);
    assert_eq!(get(&lab, "{a}1").as_deref(), Some("one"));
}

/// A cluster as the write-up has it: a primary and a replica on one host, and the daemon that keeps both.
struct Cluster {
    host: Arc<Host>,
    servers: [Server; 2],
    name: &'static str,
    daemon: Process,
}

impl Cluster {
    fn start(host: &Arc<Host>, name: &'static str) -> Self {
        let servers = [6379, 63791].map(|port| {
            let settings = Settings {
                port,
                persistence: Persistence::Aof,
                extra: vec!["repl-diskless-sync-delay 0".to_owned()],
                ..Settings::default()
            };
            Server::start(host, &settings).unwrap()
        });
        servers[1].replicate(Some(servers[0].address())).unwrap();
        servers[1].wait_until_synced(BOUND).unwrap();
        let (address, dir) = (host.address(), host.dir().display());
        let text = format!(
            "[host]\nid = \"{name}\"\naddress = \"{address}\"\nstate_dir = \"{dir}/state\"\n\n[[group]]\n\
             name = \"{name}\"\nservers = [\"{address}:6379\", \"{address}:63791\"]\ndown_after = \"500ms\"\n\
             boot_wait = \"2s\"\n\n[group.local]\n"
        );
        std::fs::write(host.dir().join("tandem.toml"), text).unwrap();
        Self {
            daemon: Self::daemon(host),
            host: host.clone(),
            servers,
            name,
        }
    }

    fn daemon(host: &Host) -> Process {
        let mut command = Command::new(tandem_lab::tandem_binary().unwrap());
        command.args(["run", "-c", "tandem.toml"]);
        host.spawn("tandem", &mut command).unwrap()
    }

    /// A command of the operator.
    fn tandem(&self, words: &[&str]) -> anyhow::Result<String> {
        let program = tandem_lab::tandem_binary().unwrap();
        let file = self.host.dir().join("tandem.toml").display().to_string();
        let mut args = words.to_vec();
        args.extend(["-c", &file]);
        self.host.run(program.to_str().unwrap(), &args)
    }

    /// Waits until this server is the primary and the other one its replica, in sync.
    fn led_by(&self, primary: usize) {
        let what = format!(
            "{} of {} to lead",
            self.servers[primary].address(),
            self.name
        );
        poll::until(&what, BOUND, LOOK, || {
            let look = || {
                let role = |at: usize| self.servers[at].connect()?.info("role");
                let up = self.servers[1 - primary]
                    .connect()?
                    .info("master_link_status")
                    .unwrap_or_default();
                anyhow::Ok((role(primary)?, role(1 - primary)?, up))
            };
            Ok(match look() {
                Ok((one, other, up)) if one == "master" && other == "slave" && up == "up" => Ok(()),
                other => Err(format!("{other:?}")),
            })
        })
        .unwrap();
    }
}

#[test]
fn a_dead_primary_moves_no_address_and_its_keys_are_still_there() {
    if !can_run_as_root("a_dead_primary_moves_no_address_and_its_keys_are_still_there") {
        return;
    }
    let lab = Lab::builder()
        .host("p67", "10.75.201.67/24")
        .host("p66", "10.75.201.66/24")
        .host("s26", "10.75.201.26/24")
        .host("s68", "10.75.201.68/24")
        .host("client", "10.75.201.50/24")
        .build()
        .unwrap();
    let mut a = Cluster::start(lab.host("s26"), "cluster-a");
    let b = Cluster::start(lab.host("s68"), "cluster-b");
    let shards = "[[proxy.group]]\nname = \"cluster-a\"\ndaemons = [\"10.75.201.26:26379\"]\n\n\
                  [[proxy.group]]\nname = \"cluster-b\"\ndaemons = [\"10.75.201.68:26379\"]\n";
    let _proxies = start_proxies(&lab, shards);
    set(&lab, "{a}1", "one");
    set(&lab, "{b}1", "two");
    a.led_by(0);
    b.led_by(0);
    assert_eq!(held(&a.servers[0], "{a}1").as_deref(), Some("one"));
    assert_eq!(held(&b.servers[0], "{b}1").as_deref(), Some("two"));

    // On a connection that is there all along, where nutcracker answers with an error and then with nothing.
    let vip = SocketAddr::new(VIP.parse().unwrap(), PORT);
    let mut client = Connection::open(lab.host("client"), vip, BOUND).unwrap();
    let mut get = |key: &str| client.demand(&["GET", key]).unwrap().text();
    assert_eq!(get("{a}1").as_deref(), Some("one"));
    a.servers[0].process().kill();
    assert_eq!(get("{a}1").as_deref(), Some("one"));
    assert_eq!(get("{b}1").as_deref(), Some("two"));
    moves_to(&lab, PROXIES, VIP, PROXIES[0]);

    // It comes back on its own as a primary with older data, and is attached.
    set(&lab, "{a}2", "later");
    a.servers[0].restart().unwrap();
    a.led_by(1);
    assert_eq!(held(&a.servers[0], "{a}2").as_deref(), Some("later"));

    // Frozen: by the clock, behind the gate. Awake it has lost the role.
    a.servers[1].process().freeze();
    assert_eq!(get("{a}2").as_deref(), Some("later"));
    set(&lab, "{a}3", "while it was away");
    a.servers[1].process().thaw();
    a.led_by(0);
    assert_eq!(
        held(&a.servers[1], "{a}3").as_deref(),
        Some("while it was away")
    );

    // A killed daemon changes nothing, and the next one goes on from there.
    a.daemon.kill();
    a.daemon = Cluster::daemon(&a.host);
    poll::until("the daemon to answer", BOUND, LOOK, || {
        Ok(match a.tandem(&["status"]) {
            Ok(text) if text.contains("primary") => Ok(()),
            other => Err(format!("{other:?}")),
        })
    })
    .unwrap();
    a.led_by(0);
    let done = a.tandem(&["switchover"]).unwrap();
    assert!(done.contains("63791"), "{done}");
    a.led_by(1);
    assert_eq!(get("{a}3").as_deref(), Some("while it was away"));
    let history = a.tandem(&["history"]).unwrap();
    assert!(history.contains("+switch-master"), "{history}");
    moves_to(&lab, PROXIES, VIP, PROXIES[0]);
}
