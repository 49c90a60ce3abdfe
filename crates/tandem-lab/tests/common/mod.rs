//! What the tests of a tandem pair share: a pair that is well, clients on it, and its own words about what happened.
//!
//! When a test fails, the last lines of both daemons' logs are printed with it.

#![allow(clippy::unwrap_used)] // A panic in a test is its report.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::collections::BTreeSet;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use serde_json::Value;
use tandem_lab::arrangement::{
    Arrangement, CLIENT, Injection, OTHER_SIDE, Side, TandemPair, VIP, Watch,
};
use tandem_lab::client::{Client, Record, Settings as ClientSettings};
use tandem_lab::poll;
use tandem_lab::resp::{Reply, commands};
use tandem_lab::server::Settings;

/// For anything that should happen within a second or so, on a machine that is busy with other things.
pub(crate) const BOUND: Duration = Duration::from_secs(30);
/// Between two looks.
pub(crate) const EVERY: Duration = Duration::from_millis(20);
/// Writes that go well for this long are steady.
pub(crate) const STEADY: Duration = Duration::from_millis(300);
/// Lines of each daemon's log that are printed with a failure.
const LOG_LINES: usize = 80;

/// A tandem pair that tells its story when the test fails.
pub(crate) struct Rig(TandemPair);

impl Deref for Rig {
    type Target = TandemPair;

    fn deref(&self) -> &TandemPair {
        &self.0
    }
}

impl DerefMut for Rig {
    fn deref_mut(&mut self) -> &mut TandemPair {
        &mut self.0
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for side in Side::BOTH {
            let path = self.0.pair().host(side).dir().join("tandem.log");
            let log = std::fs::read_to_string(path).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("--- daemon of host {} ---", side.host());
            for line in &lines[lines.len().saturating_sub(LOG_LINES)..] {
                eprintln!("{line}");
            }
        }
    }
}

/// A pair that is not started yet, with default servers.
pub(crate) fn plain() -> TandemPair {
    with(Settings::default())
}

/// A pair that is not started yet.
pub(crate) fn with(mut settings: Settings) -> TandemPair {
    // Redis waits for further replicas before it begins a full sync; here none will come.
    settings.extra.push("repl-diskless-sync-delay 0".to_owned());
    // The defaults for virtual machines: on a shared one a daemon may stand still for half a second, which the bench's
    // sharper settings take for a freeze, and rightly.
    TandemPair::new(tandem_lab::tandem_binary().unwrap(), settings)
        .unwrap()
        .advert_interval("300ms")
        .down_after("1s")
}

impl Rig {
    /// A pair under observation, not started.
    pub(crate) fn of(pair: TandemPair) -> Self {
        Self(pair)
    }

    /// A pair with default servers, started; A is primary.
    pub(crate) fn started() -> Self {
        Self::start_of(plain())
    }

    /// As [`Rig::started`], of a pair that was set up otherwise.
    pub(crate) fn start_of(pair: TandemPair) -> Self {
        let mut rig = Self::of(pair);
        assert_eq!(rig.start(0).unwrap(), Side::A);
        rig
    }

    /// A client at the VIP whose writes flow.
    pub(crate) fn client(&self) -> Client {
        self.client_on(CLIENT, "w", Duration::from_millis(1))
    }

    /// A client on one of the lab's hosts, with keys and a pace of its own.
    pub(crate) fn client_on(&self, host: &str, key: &str, interval: Duration) -> Client {
        let settings = ClientSettings {
            key: key.to_owned(),
            interval,
            ..ClientSettings::new(self.target())
        };
        let client = Client::start(self.pair().lab().host(host), settings).unwrap();
        poll::until("the client's first write", BOUND, EVERY, || {
            let record = client.record();
            Ok(if record.acknowledged().is_empty() {
                Err(format!("{:?}", record.errors()))
            } else {
                Ok(())
            })
        })
        .unwrap();
        client
    }

    /// Waits until writes flow again on the other side, and prints the gap, which is a figure and not a promise.
    pub(crate) fn moved(&mut self, client: &Client, injection: Injection, what: &str) {
        client
            .wait_until_steady(injection.at, STEADY, BOUND)
            .unwrap();
        let gap = client.record().longest_gap(injection.at, Instant::now());
        println!("{what}: gap {:.1} ms", gap.as_secs_f64() * 1000.0);
        assert_eq!(self.primary().unwrap(), Ok(injection.primary.other()));
    }

    /// Everything acknowledged is on the server of a side.
    pub(crate) fn nothing_missing(&self, record: &Record, side: Side) {
        let mut server = self.pair().server(side).connect().unwrap();
        let missing = record.missing(&mut server).unwrap();
        let acknowledged = record.acknowledged().len();
        assert!(
            missing.is_empty(),
            "{} of {acknowledged} acknowledged writes are missing on {side:?}: {:?} ...",
            missing.len(),
            &missing[..missing.len().min(10)]
        );
    }

    /// The group's status on a side.
    pub(crate) fn group(&self, side: Side) -> Value {
        self.status(side).unwrap()["groups"][0].clone()
    }

    /// The epoch that a side states.
    pub(crate) fn epoch(&self, side: Side) -> u64 {
        self.group(side)["epoch"]["counter"].as_u64().unwrap()
    }

    /// What a side's own row says about it: why it waits, for example.
    pub(crate) fn reason(&self, side: Side) -> String {
        let group = match self.status(side) {
            Ok(status) => status["groups"][0].clone(),
            Err(error) => return format!("{error:#}"),
        };
        group["hosts"][0]["reason"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// Waits until a side's reason contains a rule's name.
    pub(crate) fn wait_for_reason(&self, side: Side, rule: &str) {
        poll::until(&format!("{side:?} to wait by {rule}"), BOUND, EVERY, || {
            let reason = self.reason(side);
            Ok(if reason.contains(rule) {
                Ok(())
            } else {
                Err(reason)
            })
        })
        .unwrap();
    }

    /// The texts of a side's events of one name, oldest first.
    pub(crate) fn events(&self, side: Side, name: &str) -> Vec<String> {
        let path = self.state_dir(side).join("orders/history.jsonl");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|event| event["name"] == name)
            .filter_map(|event| event["text"].as_str().map(str::to_owned))
            .collect()
    }

    /// Waits for an event of a side whose text contains some words.
    pub(crate) fn wait_for_event(&self, side: Side, name: &str, words: &str) {
        poll::until(
            &format!("{name} with `{words}` on {side:?}"),
            BOUND,
            EVERY,
            || {
                let events = self.events(side, name);
                let told = events.iter().any(|text| text.contains(words));
                Ok(if told {
                    Ok(())
                } else {
                    Err(format!("{events:?}"))
                })
            },
        )
        .unwrap();
    }

    /// The archive of a side: the receipt of each entry, and its folder.
    pub(crate) fn archive(&self, side: Side) -> Vec<(Value, std::path::PathBuf)> {
        let dir = self.state_dir(side).join("orders/archive");
        let mut entries: Vec<_> = std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.join("receipt.json").is_file())
            .collect();
        entries.sort();
        entries
            .into_iter()
            .map(|path| {
                let receipt = std::fs::read(path.join("receipt.json")).unwrap();
                (serde_json::from_slice(&receipt).unwrap(), path)
            })
            .collect()
    }

    /// The keys that the archived command tails of a side set. An entry that is a snapshot is a failure.
    pub(crate) fn archived_sets(&self, side: Side) -> BTreeSet<String> {
        let mut keys = BTreeSet::new();
        for (receipt, dir) in self.archive(side) {
            assert_eq!(receipt["kind"], "tail", "{receipt}");
            let tail = commands(&std::fs::read(dir.join("tail.resp")).unwrap()).unwrap();
            assert_eq!(
                receipt["commands"].as_u64().unwrap(),
                tail.iter().filter(|words| is_data(words)).count() as u64,
                "{receipt}"
            );
            keys.extend(
                tail.iter()
                    .filter(|words| words[0].eq_ignore_ascii_case("SET"))
                    .map(|words| words[1].clone()),
            );
        }
        keys
    }

    /// The journal of a side, as its file has it.
    pub(crate) fn journal(&self, side: Side) -> Value {
        let path = self.state_dir(side).join("orders/journal");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        // The first line is the checksum.
        let body = text.split_once('\n').map_or("", |(_, body)| body);
        serde_json::from_str(body).unwrap_or_default()
    }

    /// A field of a server's INFO, asked over its loopback.
    pub(crate) fn info(&self, side: Side, field: &str) -> String {
        self.pair()
            .server(side)
            .connect()
            .unwrap()
            .info(field)
            .unwrap()
    }

    /// As [`Rig::info`], as a number.
    pub(crate) fn count(&self, side: Side, field: &str) -> u64 {
        self.info(side, field).parse().unwrap()
    }

    /// One command to a side's server.
    pub(crate) fn redis(&self, side: Side, command: &[&str]) -> Reply {
        let mut server = self.pair().server(side).connect().unwrap();
        server.demand(command).unwrap()
    }

    /// The value of a key on a side.
    pub(crate) fn get(&self, side: Side, key: &str) -> Option<String> {
        self.redis(side, &["GET", key]).text()
    }

    /// Waits until the VIP is not on a side's host.
    pub(crate) fn wait_until_without_vip(&self, side: Side) {
        poll::until(&format!("the VIP to leave {side:?}"), BOUND, EVERY, || {
            let here = self.pair().host(side).has_address(VIP)?;
            Ok(if here {
                Err("it is there".to_owned())
            } else {
                Ok(())
            })
        })
        .unwrap();
    }
}

/// Commands that are not of the replication stream itself.
fn is_data(words: &[String]) -> bool {
    !["PING", "SELECT", "REPLCONF", "MULTI", "EXEC"]
        .iter()
        .any(|name| words[0].eq_ignore_ascii_case(name))
}

/// Ends a watch: the VIP with a primary behind it was never on both hosts.
pub(crate) fn never_two_writable(watch: Watch) {
    let overlap = watch.stop().unwrap();
    assert!(overlap.both.is_zero(), "{overlap:?}");
}

/// The host of the client on the far side of a cut.
pub(crate) const FAR: &str = OTHER_SIDE;
