//! A proxy before a real Redis Cluster: slots move, nodes join and die, settings change, and clients keep their address and
//! their connection.

#![allow(clippy::unwrap_used)] // A panic in a test is its report.

#[path = "proxy_common/pki.rs"]
mod pki;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tandem_lab::ns::{Host, Lab};
use tandem_lab::process::Process;
use tandem_lab::proxy::tagged::{Report, Settings as Load, Workload};
use tandem_lab::resp::{Connection, Reply, encode};
use tandem_lab::server::{Flavour, Server, Settings};
use tandem_lab::{can_run, poll, skip};

const BOUND: Duration = Duration::from_secs(60);
const EVERY: Duration = Duration::from_millis(20);
const PORT: u16 = 6390;
/// First node's port.
const NODES: u16 = 7001;
const SLOTS: u16 = 16384;
/// From a node's port to its port for TLS.
const TLS: u16 = 100;

/// Nodes, of which some are a cluster already, and a proxy.
struct Rig {
    lab: Lab,
    nodes: Vec<Server>,
    /// The first so many have slots from the beginning.
    primaries: usize,
    /// The nodes speak TLS to each other and to the proxy.
    tls: bool,
    proxy: Option<Process>,
}

/// A failover on request that has not happened by then does not happen.
const GIVEN_UP: Duration = Duration::from_secs(6);

fn number(reply: &Reply) -> i64 {
    match reply {
        Reply::Integer(number) => *number,
        other => panic!("{other:?} is no number"),
    }
}

fn texts(reply: Reply) -> Vec<String> {
    match reply {
        Reply::Array(values) => values.iter().filter_map(Reply::text).collect(),
        other => panic!("{other:?} is no list"),
    }
}

impl Rig {
    /// So many primaries share the slots; then one replica for each of the first, and nodes that belong to nobody.
    fn start(primaries: usize, replicas: usize, spare: usize) -> Self {
        Self::of((primaries, replicas, spare), Flavour::Redis70, false)
    }

    fn of(
        (primaries, replicas, spare): (usize, usize, usize),
        flavour: Flavour,
        tls: bool,
    ) -> Self {
        let lab = Lab::builder().host("one", "10.0.0.1/24").build().unwrap();
        let host = lab.host("one");
        let pki = host.dir().join("pki");
        pki::certificates(&pki);
        let pki = pki.display();
        let node = |number: usize| {
            let port = NODES + number as u16;
            let mut extra = [
                "cluster-enabled yes",
                "cluster-node-timeout 1000",
                "cluster-replica-validity-factor 0",
                "repl-diskless-sync-delay 0",
                "notify-keyspace-events KEA",
            ]
            .map(str::to_owned)
            .to_vec();
            if tls {
                extra.extend([
                    format!("tls-port {}", port + TLS),
                    "tls-cluster yes".to_owned(),
                    "tls-replication yes".to_owned(),
                    "tls-auth-clients no".to_owned(),
                    format!("tls-cert-file {pki}/tls.crt"),
                    format!("tls-key-file {pki}/tls.key"),
                    format!("tls-ca-cert-file {pki}/ca.crt"),
                ]);
            }
            let settings = Settings {
                flavour,
                port,
                extra,
                ..Settings::default()
            };
            Server::start(host, &settings).unwrap()
        };
        let nodes: Vec<Server> = (0..primaries + replicas + spare).map(node).collect();
        let rig = Self {
            lab,
            nodes,
            primaries,
            tls,
            proxy: None,
        };
        let share = SLOTS / primaries as u16;
        for at in 0..primaries {
            let first = share * at as u16;
            let last = if at + 1 == primaries {
                SLOTS - 1
            } else {
                first + share - 1
            };
            rig.ask(at, &["CLUSTER", "SET-CONFIG-EPOCH", &(at + 1).to_string()]);
            // Redis 6.2 knows no ranges.
            let slots: Vec<String> = (first..=last).map(|slot| slot.to_string()).collect();
            let slots = slots.iter().map(String::as_str);
            let words: Vec<&str> = ["CLUSTER", "ADDSLOTS"].into_iter().chain(slots).collect();
            rig.ask(at, &words);
        }
        rig.join(primaries + replicas);
        for at in 0..replicas {
            let primary = rig.id(at);
            let replica = primaries + at;
            rig.until("a replica to know its primary", || {
                let mut node = rig.nodes[replica].connect()?;
                Ok(match node.call(&["CLUSTER", "REPLICATE", &primary])? {
                    Reply::Error(text) => Err(text),
                    _ => Ok(()),
                })
            });
            rig.until("a replica to follow", || {
                let mut node = rig.nodes[replica].connect()?;
                let link = node.info("master_link_status")?;
                Ok(if link == "up" { Ok(()) } else { Err(link) })
            });
        }
        rig
    }

    fn host(&self) -> &Arc<Host> {
        self.lab.host("one")
    }

    fn until<T>(&self, what: &str, look: impl FnMut() -> anyhow::Result<Result<T, String>>) -> T {
        poll::until(what, BOUND, EVERY, look).unwrap()
    }

    /// Where a node is asked by other nodes and by the proxy.
    fn port(&self, node: usize) -> u16 {
        NODES + node as u16 + if self.tls { TLS } else { 0 }
    }

    fn ask(&self, node: usize, command: &[&str]) -> Reply {
        self.nodes[node].connect().unwrap().demand(command).unwrap()
    }

    fn id(&self, node: usize) -> String {
        self.ask(node, &["CLUSTER", "MYID"]).text().unwrap()
    }

    /// The first so many nodes know each other, and all slots.
    fn join(&self, nodes: usize) {
        for at in 1..nodes {
            let port = self.port(at).to_string();
            self.ask(0, &["CLUSTER", "MEET", "10.0.0.1", &port]);
        }
        for at in 0..nodes {
            self.until("the nodes to know each other", || {
                let info = self.ask(at, &["CLUSTER", "INFO"]).text().unwrap();
                let known = format!("cluster_known_nodes:{nodes}\r\n");
                let good = info.contains("cluster_state:ok") && info.contains(&known);
                Ok(if good { Ok(()) } else { Err(info) })
            });
        }
    }

    /// Writes the proxy's file, which names some nodes.
    fn configure(&self, seeds: &[usize], more: &str) -> PathBuf {
        let host = self.host();
        let (address, state) = (host.address(), host.dir().join("state"));
        let seeds = seeds.iter();
        let seeds: Vec<_> = seeds
            .map(|&node| format!("\"{address}:{}\"", self.port(node)))
            .collect();
        let text = format!(
            "[host]\nid = \"p\"\naddress = \"{address}\"\nstate_dir = \"{}\"\n\n[[proxy]]\nname = \"front\"\nlisten = \"{address}:{PORT}\"\n\
             cluster = [{}]\nthreads = 2\n{more}{}",
            state.display(),
            seeds.join(", "),
            if self.tls {
                let authority = host.dir().join("pki/ca.crt");
                format!("server_tls = {{ ca_file = \"{}\" }}\n", authority.display())
            } else {
                String::new()
            }
        );
        std::fs::create_dir_all(&state).unwrap();
        let file = host.dir().join("proxy.toml");
        std::fs::write(&file, text).unwrap();
        file
    }

    /// Has the proxy read its file again; what it says to that.
    fn reload(&self, seeds: &[usize], more: &str, words: &[&str]) -> anyhow::Result<String> {
        let file = self.configure(seeds, more).display().to_string();
        let program = tandem_lab::tandem_binary()?.display().to_string();
        let words = [&["reload", "-c", &file][..], words].concat();
        self.host().run(&program, &words)
    }

    /// Starts the proxy, which is told of one node.
    fn front(&mut self) -> SocketAddr {
        let file = self.configure(&[0], "");
        let mut command = Command::new(tandem_lab::tandem_binary().unwrap());
        command.arg("run").arg("-c").arg(file);
        self.proxy = Some(self.host().spawn("proxy", &mut command).unwrap());
        let to = SocketAddr::new(self.host().address(), PORT);
        self.until("the proxy to answer", || {
            let open = || Connection::open(self.host(), to, BOUND)?.call(&["GET", "nothing"]);
            Ok(match open() {
                Ok(Reply::Bulk(None)) => Ok(()),
                other => Err(format!("{other:?}")),
            })
        });
        to
    }

    fn client(&self) -> Connection {
        let to = SocketAddr::new(self.host().address(), PORT);
        Connection::open(self.host(), to, BOUND).unwrap()
    }

    fn load(&self, name: &str, depth: usize) -> Workload {
        let to = SocketAddr::new(self.host().address(), PORT);
        let load = Load {
            clients: 12,
            depth,
            name: name.to_owned(),
            ..Load::default()
        };
        Workload::start(self.host(), to, &load).unwrap()
    }

    /// The slots of a node that have keys.
    fn slots_in_use(&self, node: usize) -> BTreeSet<u16> {
        let mut connection = self.nodes[node].connect().unwrap();
        let keys = texts(connection.demand(&["KEYS", "*"]).unwrap());
        let slot = |key: String| {
            let slot = connection.demand(&["CLUSTER", "KEYSLOT", &key]).unwrap();
            number(&slot) as u16
        };
        keys.into_iter().map(slot).collect()
    }

    /// Moves a slot with its keys as an operator's tool does: key by key, while others ask for them.
    fn migrate(&self, slot: u16, from: usize, to: usize) {
        let (source, target) = (self.id(from), self.id(to));
        let slot = slot.to_string();
        let port = self.port(to).to_string();
        self.ask(to, &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source]);
        self.ask(from, &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &target]);
        let mut node = self.nodes[from].connect().unwrap();
        loop {
            let keys = node.demand(&["CLUSTER", "GETKEYSINSLOT", &slot, "1"]);
            let Some(key) = texts(keys.unwrap()).pop() else {
                break;
            };
            node.demand(&["MIGRATE", "10.0.0.1", &port, &key, "0", "5000"])
                .unwrap();
        }
        // The new home first; then everybody, or a claim that is on its way may win over the newest.
        let others = (0..self.primaries).filter(|node| ![from, to].contains(node));
        for node in [to, from].into_iter().chain(others) {
            self.ask(node, &["CLUSTER", "SETSLOT", &slot, "NODE", &target]);
        }
    }
}

fn without_failures(report: &Report) {
    assert_eq!(report.failure_count(), 0, "{:?}", report.failures);
}

#[test]
fn slots_that_move_under_load_are_noticed_by_no_client() {
    if !can_run("slots_that_move_under_load_are_noticed_by_no_client") {
        return;
    }
    let mut rig = Rig::start(3, 0, 1);
    rig.front();
    let (pipelined, single) = (rig.load("many", 16), rig.load("one", 1));
    pipelined.wait_for_each(100, BOUND).unwrap();
    single.wait_for_each(20, BOUND).unwrap();

    // Somebody blocks where a slot will leave.
    let mut blocked = rig.client();
    blocked.send(&encode(&["BLPOP", "queue", "0"])).unwrap();
    let mut before = rig.client();
    before.demand(&["GET", "nothing"]).unwrap();

    // The proxy becomes another meanwhile, though not that of a node that is no part of the cluster.
    let refused = rig.reload(&[0, 3], "max_key = \"1kb\"\n", &[]).unwrap_err();
    let refused = format!("{refused:#}");
    assert!(refused.contains("another cluster"), "{refused}");
    let first = "max_key = \"1kb\"\ntimeout = \"30s\"\nmax_clients = 5000\n";
    let said = rig.reload(&[1, 2], first, &[]).unwrap();
    assert!(said.contains("taken over, its clients stay"), "{said}");
    assert!(said.contains("proxy front: max_clients"), "{said}");
    let long = "k".repeat(2000);
    for client in [&mut before, &mut rig.client()] {
        match client.call(&["GET", &long]).unwrap() {
            Reply::Error(error) => assert!(error.contains("max_key"), "{error}"),
            other => panic!("{other:?}: it is let through"),
        }
    }
    // Another one comes, and goes when a person says so.
    let second = format!(
        "{first}\n[[proxy]]\nname = \"second\"\nlisten = \"10.0.0.1:{}\"\ncluster = [\"10.0.0.1:{}\"]\n",
        PORT + 1,
        rig.port(0)
    );
    let said = rig.reload(&[1, 2], &second, &[]).unwrap();
    assert!(said.contains("listens"), "{said}");
    let to = SocketAddr::new(rig.host().address(), PORT + 1);
    let mut guest = Connection::open(rig.host(), to, BOUND).unwrap();
    guest.demand(&["SET", "guest", "1"]).unwrap();
    let refused = rig.reload(&[1, 2], first, &[]).unwrap_err();
    let refused = format!("{refused:#}");
    assert!(refused.contains("and its clients with it"), "{refused}");
    guest.demand(&["GET", "guest"]).unwrap();
    rig.reload(&[1, 2], first, &["--accept"]).unwrap();
    assert!(guest.read().is_err(), "it has gone");
    rig.until("the port to close", || {
        Ok(match rig.host().connect(to, BOUND) {
            Ok(_) => Err("it is open".to_owned()),
            Err(_) => Ok(()),
        })
    });

    let queue = number(&rig.ask(0, &["CLUSTER", "KEYSLOT", "queue"])) as u16;
    let home = usize::from(queue / (SLOTS / 3)).min(2);

    let moved = rig.slots_in_use(0);
    println!("{} slots with keys move", moved.len());
    assert!(moved.len() > 20);
    for &slot in &moved {
        rig.migrate(slot, 0, 1);
    }
    pipelined.wait_for_each(100, BOUND).unwrap();
    // A node joins and takes some.
    rig.join(4);
    for slot in rig.slots_in_use(1).into_iter().take(60) {
        rig.migrate(slot, 1, 3);
    }
    if !moved.contains(&queue) {
        rig.migrate(queue, home, (home + 1) % 3);
    }
    pipelined.wait_for_each(100, BOUND).unwrap();
    single.wait_for_each(20, BOUND).unwrap();
    let reports = [pipelined.stop().unwrap(), single.stop().unwrap()];
    for report in &reports {
        without_failures(report);
        println!("the longest answer took {:?}", report.longest);
    }

    let mut client = rig.client();
    client.demand(&["LPUSH", "queue", "work"]).unwrap();
    assert_eq!(texts(blocked.read().unwrap()), ["queue", "work"]);
    let keys = number(&client.demand(&["DBSIZE"]).unwrap());
    let each = (0..4).map(|node| number(&rig.ask(node, &["DBSIZE"])));
    assert_eq!(keys, each.sum::<i64>(), "all shards, the new one too");
}

#[test]
fn a_primary_of_a_cluster_that_dies_or_steps_down_costs_no_client_its_connection() {
    let test = "a_primary_of_a_cluster_that_dies_or_steps_down_costs_no_client_its_connection";
    if !can_run(test) {
        return;
    }
    let mut rig = Rig::start(3, 2, 0);
    rig.front();
    let load = rig.load("down", 8);
    load.wait_for_each(100, BOUND).unwrap();

    // Planned: nobody notices.
    let mut asked: Option<Instant> = None;
    rig.until("the replica to be primary", || {
        let role = rig.nodes[3].connect()?.info("role")?;
        // Redis gives one up after 5 s, without a word, where a busy machine is too slow for it.
        if role != "master" && asked.is_none_or(|at| at.elapsed() > GIVEN_UP) {
            rig.ask(3, &["CLUSTER", "FAILOVER"]);
            asked = Some(Instant::now());
        }
        Ok(if role == "master" { Ok(()) } else { Err(role) })
    });
    load.wait_for_each(100, BOUND).unwrap();
    without_failures(&load.report());

    // Killed: what was under way is not known, everybody goes on. What it had answered its replica has, which a cluster does not
    // promise: a primary may be killed between its clients and its replica.
    rig.ask(1, &["CLIENT", "PAUSE", "20000", "WRITE"]);
    rig.until("the replica to have all that was answered", || {
        let primary = rig.nodes[1].connect()?.info("master_repl_offset")?;
        let replica = rig.nodes[4].connect()?.info("slave_repl_offset")?;
        Ok(if primary == replica {
            Ok(())
        } else {
            Err(format!("{replica} of {primary}"))
        })
    });
    rig.nodes[1].process().kill();
    rig.until("the replica to be primary", || {
        let role = rig.nodes[4].connect()?.info("role")?;
        Ok(if role == "master" { Ok(()) } else { Err(role) })
    });
    load.wait_for_each(100, BOUND).unwrap();
    let report = load.stop().unwrap();
    println!("failures: {:?}", report.failures);
    println!("the longest answer took {:?}", report.longest);
    for failure in report.failures.keys() {
        let told = failure.contains(": TANDEM-UNKNOWN ") || failure.contains(": TANDEM-NOPRIMARY ");
        assert!(told, "{failure}");
    }
}

/// Nodes that know CLUSTER SLOTS only, and nodes behind TLS.
#[test]
fn older_nodes_and_nodes_behind_tls_are_served_alike() {
    let test = "older_nodes_and_nodes_behind_tls_are_served_alike";
    if !can_run(test) {
        return;
    }
    for (flavour, tls) in [(Flavour::Redis62, false), (Flavour::Redis70, true)] {
        let what = format!("{}, TLS: {tls}", flavour.name());
        if let Err(reason) = flavour.find() {
            skip(&format!("{test}, {what}"), &reason.to_string());
            continue;
        }
        let mut rig = Rig::of((2, 0, 0), flavour, tls);
        rig.front();
        let mut client = rig.client();
        let mut listener = rig.client();
        for (command, name) in [("SUBSCRIBE", "__keyevent@0__:set"), ("PSUBSCRIBE", "*")] {
            let said = texts(listener.demand(&[command, name]).unwrap());
            assert_eq!(said[1], name, "{what}");
        }
        let keys: Vec<String> = (0..20).map(|at| format!("key{at}")).collect();
        for key in &keys {
            client.demand(&["SET", key, key]).unwrap();
        }
        for node in 0..2 {
            let held = number(&rig.ask(node, &["DBSIZE"]));
            assert!(held > 0, "{what}: each node has some of the keys");
        }
        // Each node tells each other what is published, and yet a message comes once.
        client.demand(&["PUBLISH", "news", "hi"]).unwrap();
        let mut heard = Vec::new();
        while heard.len() < 3 * keys.len() + 1 {
            heard.push(texts(listener.read().unwrap()).join(" "));
        }
        let count = |text: &str| heard.iter().filter(|it| *it == text).count();
        for key in &keys {
            for event in [
                format!("message __keyevent@0__:set {key}"),
                format!("pmessage * __keyevent@0__:set {key}"),
                format!("pmessage * __keyspace@0__:{key} set"),
            ] {
                assert_eq!(count(&event), 1, "{what}: {event}");
            }
        }
        assert_eq!(count("pmessage * news hi"), 1, "{what}");
        // But what looks like a node's word on a key of its own comes from both, whoever has published it.
        let forged = ["PUBLISH", "__keyevent@0__:set", "forged"];
        client.demand(&forged).unwrap();
        let twice = [
            "message __keyevent@0__:set forged",
            "pmessage * __keyevent@0__:set forged",
        ];
        let mut heard: Vec<String> = (0..4)
            .map(|_| texts(listener.read().unwrap()).join(" "))
            .collect();
        heard.sort();
        assert_eq!(heard, [twice[0], twice[0], twice[1], twice[1]], "{what}");

        for slot in rig.slots_in_use(0).into_iter().take(3) {
            rig.migrate(slot, 0, 1);
        }
        let words: Vec<&str> = ["MGET"]
            .into_iter()
            .chain(keys.iter().map(String::as_str))
            .collect();
        let all = texts(client.demand(&words).unwrap());
        assert_eq!(all, keys, "{what}");
        for key in &keys {
            let value = client.demand(&["GETDEL", key]).unwrap();
            assert_eq!(value.text().as_ref(), Some(key), "{what}");
        }
        assert_eq!(number(&client.demand(&["DBSIZE"]).unwrap()), 0, "{what}");
    }
}
