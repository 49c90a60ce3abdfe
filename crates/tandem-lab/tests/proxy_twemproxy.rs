//! The arrangement `twemproxy`: two proxy hosts behind a VIP, two clusters of a primary and a replica, from its original
//! files: once with the original programs, once with `tandem vrrp` and `tandem proxy` on the same files.

#![expect(
    clippy::unwrap_used,
    reason = "in a test a panic is the report, also in its helpers"
)]

mod scenario;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tandem_lab::ns::{Host, Lab};
use tandem_lab::process::Process;
use tandem_lab::proxy::{Program, Proxy};
use tandem_lab::resp::{Connection, Reply};
use tandem_lab::server::{Persistence, Server, Settings};
use tandem_lab::{can_run_as_root, poll, skip};

use scenario::{BOUND, LOOK, inside, install, moves_to, originals, start_vrrp};

const VIP: &str = "10.75.201.3";
const PROXY_PORT: u16 = 63790;
/// The hosts of the proxies, the preferred one first.
const PROXIES: [&str; 2] = ["p67", "p66"];
/// The hosts of cluster A and of cluster B.
const CLUSTERS: [&str; 2] = ["s26", "s68"];
const PRIMARY_PORT: u16 = 6379;
const REPLICA_PORT: u16 = 63791;

#[test]
fn twemproxy_runs_as_its_write_up_says() {
    as_told(
        "twemproxy_runs_as_its_write_up_says",
        Program::Nutcracker,
        start_keepalived,
    );
}

#[test]
fn twemproxy_runs_the_same_under_tandem() {
    as_told(
        "twemproxy_runs_the_same_under_tandem",
        Program::Tandem,
        start_vrrp,
    );
}

/// keepalived with the host's own `/etc/keepalived`.
fn start_keepalived(host: &Host) -> Process {
    let dir = host.dir().display();
    let shell = format!(
        "exec keepalived --vrrp --dont-fork --log-console --log-detail --pid {dir}/parent.pid --vrrp_pid {dir}/child.pid"
    );
    host.spawn("keepalived", &mut inside(host, &shell)).unwrap()
}

/// A cluster: a primary, and a replica on the same host.
struct Cluster {
    primary: Server,
    replica: Server,
}

impl Cluster {
    fn start(host: &Arc<Host>) -> Self {
        let server = |port, extra: &[&str]| {
            let settings = Settings {
                port,
                persistence: Persistence::Aof,
                extra: extra.iter().map(|line| (*line).to_owned()).collect(),
                ..Settings::default()
            };
            Server::start(host, &settings).unwrap()
        };
        let primary = server(PRIMARY_PORT, &["repl-diskless-sync-delay 0"]);
        let replica = server(REPLICA_PORT, &[]);
        replica.replicate(Some(primary.address())).unwrap();
        replica.wait_until_synced(BOUND).unwrap();
        Self { primary, replica }
    }
}

/// The value of a key on a server itself.
fn held(server: &Server, key: &str) -> Option<String> {
    let mut connection = server.connect().unwrap();
    connection.demand(&["GET", key]).unwrap().text()
}

/// A command at the VIP, on a connection of its own, as clients that reconnect do.
fn ask(client: &Host, command: &[&str]) -> anyhow::Result<Reply> {
    let vip = SocketAddr::new(VIP.parse()?, PROXY_PORT);
    let mut connection = Connection::open(client, vip, Duration::from_secs(2))?;
    Ok(connection.call(command)?)
}

/// Asks at the VIP until the answer is this, and returns the errors that came before it.
fn comes_to_answer(client: &Host, command: &[&str], due: &Reply) -> Vec<String> {
    let mut errors = Vec::new();
    poll::until(&format!("{command:?} to be {due:?}"), BOUND, LOOK, || {
        Ok(match ask(client, command) {
            Ok(reply) if reply == *due => Ok(()),
            Ok(Reply::Error(text)) => {
                errors.push(text.clone());
                Err(text)
            }
            Ok(other) => Err(format!("{other:?}")),
            Err(error) => Err(format!("{error:#}")),
        })
    })
    .unwrap();
    errors
}

fn as_told(test: &str, program: Program, start_daemon: fn(&Host) -> Process) {
    if !can_run_as_root(test) {
        return;
    }
    if let Err(reason) = program.find() {
        skip(test, &format!("{reason:#}"));
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
    let mut clusters = CLUSTERS.map(|name| Cluster::start(lab.host(name)));
    let file = originals("twemproxy").join("nutcracker.yml");
    let proxies = PROXIES
        .map(|name| Proxy::start_from(program, lab.host(name), &file, PROXY_PORT, 1).unwrap());
    for (name, config) in PROXIES
        .into_iter()
        .zip(["keepalived.conf", "keepalived-b.conf"])
    {
        install(lab.host(name), "twemproxy", config);
    }
    // The preferred host's daemon first, since neither takes the address back.
    let _first = start_daemon(lab.host(PROXIES[0]));
    moves_to(&lab, PROXIES, VIP, PROXIES[0]);
    let _second = start_daemon(lab.host(PROXIES[1]));

    let client = lab.host("client");
    each_key_lands_on_its_cluster(client, &clusters);
    let [first_proxy, second_proxy] = proxies;
    the_address_leaves_a_host_whose_proxy_died(&lab, &first_proxy);
    a_dead_primary_is_ejected_and_its_keys_look_empty(client, &mut clusters, &second_proxy);
}

/// one_at_a_time("a") mod 2 is 0, that of "b" is 1.
fn each_key_lands_on_its_cluster(client: &Host, clusters: &[Cluster; 2]) {
    for (key, value, here, there) in [("{a}1", "one", 0, 1), ("{b}1", "two", 1, 0)] {
        let ok = Reply::Simple("OK".to_owned());
        comes_to_answer(client, &["SET", key, value], &ok);
        assert_eq!(held(&clusters[here].primary, key).as_deref(), Some(value));
        assert_eq!(held(&clusters[there].primary, key), None, "{key}");
        poll::until("the replica's copy", BOUND, LOOK, || {
            let copy = held(&clusters[here].replica, key);
            Ok(if copy.as_deref() == Some(value) {
                Ok(())
            } else {
                Err(format!("{copy:?}"))
            })
        })
        .unwrap();
    }
}

fn the_address_leaves_a_host_whose_proxy_died(lab: &Lab, proxy: &Proxy) {
    proxy.process().kill();
    moves_to(lab, PROXIES, VIP, PROXIES[1]);
    let one = Reply::Bulk(Some(b"one".to_vec()));
    comes_to_answer(lab.host("client"), &["GET", "{a}1"], &one);
}

/// What the write-up saw, and what tandem's groups are there to end: the value is safe on the replica all the time.
fn a_dead_primary_is_ejected_and_its_keys_look_empty(
    client: &Host,
    clusters: &mut [Cluster; 2],
    proxy: &Proxy,
) {
    let a = &mut clusters[0];
    a.primary.process().kill();
    let errors = comes_to_answer(client, &["GET", "{a}1"], &Reply::Bulk(None));
    // One, or none where the proxy heard of the death before the request came.
    println!("errors before the keys vanished: {errors:?}");
    assert_eq!(held(&a.replica, "{a}1").as_deref(), Some("one"));
    let two = Reply::Bulk(Some(b"two".to_vec()));
    assert_eq!(ask(client, &["GET", "{b}1"]).unwrap(), two);

    // It is tried again every two seconds, by somebody's request.
    a.primary.restart().unwrap();
    let one = Reply::Bulk(Some(b"one".to_vec()));
    comes_to_answer(client, &["GET", "{a}1"], &one);
    poll::until("the ejection in the statistics", BOUND, LOOK, || {
        let told = proxy.statistics()?;
        let pool = &told["redis"];
        let ejected = pool["server_ejects"].as_u64().unwrap_or(0) > 0
            && pool["10.75.201.26:6379"]["server_ejected_at"]
                .as_u64()
                .unwrap_or(0)
                > 0;
        Ok(if ejected {
            Ok(())
        } else {
            Err(pool.to_string())
        })
    })
    .unwrap();
}
