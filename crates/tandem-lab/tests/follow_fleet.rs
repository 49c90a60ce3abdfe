//! `[group.sentinel]`: daemons that follow a fleet of Sentinels with the VIP, and answer discovery for it.

#![allow(clippy::unwrap_used, reason = "a helper fails as its test does")]

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tandem_lab::fleet::{Fleet, Plan, Program, Recorder};
use tandem_lab::ns::Host;
use tandem_lab::process::Process;
use tandem_lab::{can_run, poll, skip, tandem_binary};

const BOUND: Duration = Duration::from_secs(60);
const EVERY: Duration = Duration::from_millis(10);
const VIP: &str = "10.0.0.100";
/// Between two failovers asked for.
const RETRY: Duration = Duration::from_secs(1);
/// The daemons' port: the usual one is the fleet's.
const PORT: u16 = 26380;

/// Hosts with a server each, watched by three Sentinels, and a daemon that follows on the first two.
struct Rig {
    fleet: Fleet,
    daemons: Vec<Process>,
}

impl Rig {
    fn start(test: &str, program: Program) -> Option<Self> {
        if !can_run(test) {
            return None;
        }
        if let Err(reason) = program.available() {
            skip(test, &format!("{reason:#}"));
            return None;
        }
        let mut plan = Plan::of(2, &[program; 3]).hurried();
        if program == Program::Tandem {
            plan.lines.push(format!("# tandem: daemon-port {PORT}"));
        }
        let mut fleet = Fleet::build(plan).unwrap();
        fleet.start(BOUND).unwrap();
        let daemons = (0..2).map(|host| daemon(&fleet, host)).collect();
        let rig = Self { fleet, daemons };
        rig.vip_moves_to(0);
        Some(rig)
    }

    fn holders(&self) -> Vec<usize> {
        let vip: IpAddr = VIP.parse().unwrap();
        let has = |host: &usize| self.fleet.members()[*host].host().has_address(vip).unwrap();
        (0..2).filter(has).collect()
    }

    fn vip_moves_to(&self, host: usize) {
        let moved = poll::until("the VIP to be there and only there", BOUND, EVERY, || {
            let holders = self.holders();
            Ok(if holders == [host] {
                Ok(())
            } else {
                Err(format!("it is on {holders:?}"))
            })
        });
        if let Err(error) = moved {
            for daemon in &self.daemons {
                eprintln!(
                    "{}",
                    std::fs::read_to_string(daemon.log()).unwrap_or_default()
                );
            }
            panic!("{error:#}");
        }
    }

    /// What a daemon tells clients.
    fn told(&self, host: usize) -> String {
        let at = self.fleet.members()[host].host().address().to_string();
        let port = PORT.to_string();
        let ask = [
            "-h",
            &at,
            "-p",
            &port,
            "SENTINEL",
            "get-master-addr-by-name",
            "cache",
        ];
        let said = self.fleet.client_host().run("redis-cli", &ask).unwrap();
        said.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn status(&self, host: usize) -> serde_json::Value {
        let host = self.fleet.members()[host].host();
        let file = host.dir().join("tandem.toml");
        let program = tandem_binary().unwrap();
        let args = ["status", "-c", file.to_str().unwrap(), "--json"];
        let text = host.run(program.to_str().unwrap(), &args).unwrap();
        let status: serde_json::Value = serde_json::from_str(&text).unwrap();
        status["groups"][0].clone()
    }
}

fn daemon(fleet: &Fleet, place: usize) -> Process {
    let host = fleet.members()[place].host();
    let sentinels: Vec<String> = fleet
        .members()
        .iter()
        .map(|member| format!("\"{}\"", member.address()))
        .collect();
    let text = format!(
        r#"[host]
id = "h{place}"
address = "{address}"
port = {PORT}
state_dir = "{dir}/state"
directory = "servers"

[[group]]
name = "cache"
servers = ["{server}"]

[group.vip]
address = "{VIP}/24"
interface = "eth0"

[group.sentinel]
master = "{group}"
sentinels = [{sentinels}]
"#,
        address = host.address(),
        dir = host.dir().display(),
        server = fleet.servers()[place].address(),
        group = fleet.group(),
        sentinels = sentinels.join(", "),
    );
    let file = host.dir().join("tandem.toml");
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(tandem_binary().unwrap());
    command.arg("run").arg("-c").arg(file);
    host.spawn("tandem", &mut command).unwrap()
}

fn shown(address: SocketAddr) -> String {
    format!("{} {}", address.ip(), address.port())
}

/// When the VIP is on a host: only there can a socket be bound to it.
fn when_it_has_the_vip(host: &Arc<Host>) -> JoinHandle<Option<Instant>> {
    let host = Arc::clone(host);
    std::thread::spawn(move || {
        let begun = Instant::now();
        let bound = || host.enter(|| UdpSocket::bind((VIP, 0))).unwrap().is_ok();
        while begun.elapsed() < BOUND {
            if bound() {
                return Some(Instant::now());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        None
    })
}

fn the_vip_follows(test: &str, program: Program) {
    let Some(rig) = Rig::start(test, program) else {
        return;
    };
    let [a, b] = [0, 1].map(|place| rig.fleet.servers()[place].address());
    for host in 0..2 {
        assert_eq!(rig.told(host), shown(a));
    }
    let status = rig.status(0);
    assert_eq!(status["primary"], a.to_string());
    assert_eq!(status["vip_here"], true);
    assert_eq!(status["sentinels"].as_array().unwrap().len(), 3);

    let events = Recorder::start(&rig.fleet).unwrap();
    let vip = when_it_has_the_vip(rig.fleet.members()[1].host());
    rig.fleet.servers()[0].process().kill();
    rig.vip_moves_to(1);
    let vip = vip.join().unwrap().expect("the VIP is there");
    let told = events.events().into_iter();
    let told = told.filter(|event| event.name == "+switch-master");
    let first = told.map(|event| event.at).min().expect("it was told");
    println!(
        "{program}: the VIP moved {:.1} ms after the first +switch-master was heard",
        vip.saturating_duration_since(first).as_secs_f64() * 1000.0
    );
    let told = |host: usize| rig.told(host) == shown(b);
    poll::until("both to tell the new primary", BOUND, EVERY, || {
        Ok(if told(0) && told(1) {
            Ok(())
        } else {
            Err(String::new())
        })
    })
    .unwrap();
    let status = rig.status(1);
    assert_eq!(status["vip_here"], true);
    assert_eq!(status["primary"], b.to_string());
}

#[test]
fn the_vip_follows_a_fleet_of_real_sentinels() {
    the_vip_follows("the_vip_follows_a_fleet_of_real_sentinels", Program::Real);
}

#[test]
fn the_vip_follows_a_fleet_of_tandem() {
    the_vip_follows("the_vip_follows_a_fleet_of_tandem", Program::Tandem);
}

#[test]
fn a_primary_that_returns_gets_no_address_and_a_failover_by_hand_moves_it() {
    let test = "a_primary_that_returns_gets_no_address_and_a_failover_by_hand_moves_it";
    let Some(mut rig) = Rig::start(test, Program::Real) else {
        return;
    };
    rig.fleet.servers()[0].process().kill();
    rig.vip_moves_to(1);
    // It comes back as the primary that it was; the fleet makes it a replica.
    rig.fleet.restart_server(0).unwrap();
    rig.fleet.settle(BOUND).unwrap();
    assert_eq!(rig.holders(), [1]);
    let group = rig.fleet.group().to_owned();
    // A real sentinel refuses while its last INFO of the replica is too old, and gives up on a machine that is busy
    // without trying again.
    let a = rig.fleet.servers()[0].address();
    poll::until("a failover to be taken and to end", BOUND, RETRY, || {
        let member = &rig.fleet.members()[0];
        if member.addr_by_name(&group).is_ok_and(|named| named == a) {
            return Ok(Ok(()));
        }
        let reply = member.demand(&["SENTINEL", "FAILOVER", &group]);
        Ok(Err(format!("{reply:?}")))
    })
    .unwrap();
    rig.vip_moves_to(0);
}

/// The receipts of what was archived on a host.
fn receipts(rig: &Rig, place: usize) -> Vec<serde_json::Value> {
    let host = rig.fleet.members()[place].host();
    let archive = host.dir().join("state/cache/archive");
    let entries = std::fs::read_dir(archive).unwrap();
    let receipt = |entry: std::fs::DirEntry| {
        let text = std::fs::read(entry.path().join("receipt.json")).ok()?;
        Some(serde_json::from_slice(&text).unwrap())
    };
    entries
        .filter_map(|entry| receipt(entry.unwrap()))
        .collect()
}

#[test]
fn what_only_a_cut_off_primary_holds_is_archived_before_it_is_made_a_replica() {
    let test = "what_only_a_cut_off_primary_holds_is_archived_before_it_is_made_a_replica";
    let Some(rig) = Rig::start(test, Program::Tandem) else {
        return;
    };
    let b = rig.fleet.servers()[1].address();
    let mut cut_off = rig.fleet.servers()[0].connect().unwrap();
    cut_off.demand(&["SET", "before", "1"]).unwrap();
    rig.fleet.servers()[1]
        .wait_until_synced(BOUND)
        .expect("the replica has it");
    rig.fleet.cut(&["h1"]).unwrap();
    poll::until("the majority to name another primary", BOUND, EVERY, || {
        let group = rig.fleet.group();
        Ok(match rig.fleet.members()[1].addr_by_name(group) {
            Ok(named) if named == b => Ok(()),
            other => Err(format!("{other:?}")),
        })
    })
    .unwrap();
    cut_off.demand(&["SET", "kept", "2"]).unwrap();
    cut_off.demand(&["INCR", "counted"]).unwrap();
    rig.fleet.heal().unwrap();
    assert_eq!(rig.fleet.settle(BOUND).unwrap(), 1, "{}", rig.fleet.logs());

    let receipts = receipts(&rig, 0);
    let [receipt] = &receipts[..] else {
        panic!("{receipts:#?}\n{}", rig.fleet.logs());
    };
    assert_eq!(receipt["kind"], "tail", "{receipt:#}");
    // Where the histories part is known no later than it is: what both have may be in it as well. The sentinel beside it
    // went on saying hello, which is nobody's data.
    let commands = receipt["commands"].as_u64().unwrap();
    assert!((2..=3).contains(&commands), "{receipt:#}");
    let keys = receipt["keys"].as_array().unwrap();
    for key in ["counted", "kept"] {
        assert!(keys.iter().any(|it| it == key), "{key}: {receipt:#}");
    }
    let told = rig.fleet.members().iter().any(|member| {
        let log = member.process().map(|process| process.log().to_owned());
        let log = std::fs::read_to_string(log.unwrap()).unwrap();
        log.lines()
            .any(|line| line.contains("+diverged") && line.ends_with("archived"))
    });
    assert!(told, "{}", rig.fleet.logs());
    // It is a replica of the new primary now, and takes writes no more.
    assert!(
        cut_off.call(&["SET", "late", "3"]).is_err() || !cut_off.info("role").unwrap().eq("master")
    );
}
