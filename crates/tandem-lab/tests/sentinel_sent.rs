//! What a Sentinel sends, to whom, and which events it publishes, when it is led through a failover alone: every other
//! party is played by the lab, so that the order is the same each time.
//!
//! The real one must do exactly what was recorded. Another program may say more to a server, and publish an event
//! earlier; it must say everything that was recorded in the same order to each party, and publish every event. Where
//! tandem hands a healthy primary over, the old one is made a replica before the new one is promoted, so what tells of
//! the repair ten seconds later has no counterpart ([`ONLY_LATER`]). It switches at the promotion, so the end of the
//! failover is told of the new primary ([`END`]).
//! `TANDEM_GOLDEN=write` records anew from the real one.

#![allow(clippy::unwrap_used)] // A panic in a test is its report.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tandem_lab::fake::{Fake, Heard, Stand, World};
use tandem_lab::fleet::{Member, Program, Recorder, story};
use tandem_lab::golden::{PEER_ID, SUBJECT_ID};
use tandem_lab::ns::Lab;
use tandem_lab::{can_run, poll, skip};

const BOUND: Duration = Duration::from_secs(60);
const EVERY: Duration = Duration::from_millis(10);
const GROUP: &str = "mymaster";
const PORTS: [u16; 3] = [6379, 6380, 26379];

/// How the failover comes about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// The primary falls silent.
    Silence,
    /// `SENTINEL FAILOVER`.
    Order,
}

impl Cause {
    fn file(self) -> PathBuf {
        let name = match self {
            Self::Silence => "silence.txt",
            Self::Order => "order.txt",
        };
        PathBuf::from(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/golden/sentinel-sent"
        ))
        .join(name)
    }
}

/// Leads a Sentinel through a failover and returns what it sent to each party, then what it published.
fn lead(program: Program, cause: Cause) -> (Vec<String>, Vec<String>) {
    let lab = Lab::builder()
        .host("group", "10.0.0.1/24")
        .host("subject", "10.0.0.10/24")
        .build()
        .unwrap();
    let stand = Stand::new("10.0.0.1", PORTS, GROUP, PEER_ID);
    let world = stand.world();
    world.lock().unwrap().has_peer = true;
    let _fake = Fake::start(lab.host("group"), &PORTS, Box::new(stand)).unwrap();
    let host = lab.host("subject");
    let text = format!(
        "port 26379\nbind 0.0.0.0\nprotected-mode no\ndir {dir}\nsentinel myid {SUBJECT_ID}\n\
         sentinel monitor {GROUP} 10.0.0.1 6379 2\nsentinel down-after-milliseconds {GROUP} 1000\n\
         sentinel failover-timeout {GROUP} 10000\nsentinel auth-user {GROUP} watcher\n\
         sentinel auth-pass {GROUP} secret\nsentinel sentinel-pass among-us\n",
        dir = host.dir().display()
    );
    let mut member = Member::new(Arc::clone(host), program, text).unwrap();
    member.start().unwrap();
    // The old primary's conversion waits for these, and so does the age of INFO that makes a replica eligible.
    let periods = [
        "SENTINEL",
        "DEBUG",
        "info-period",
        "500",
        "publish-period",
        "300",
    ];
    member.demand(&periods).unwrap();
    let recorder = Recorder::of([host].into_iter()).unwrap();
    poll::until("the played group to be known", BOUND, EVERY, || {
        let belief = member.belief(GROUP)?;
        Ok(
            if (belief.replicas, belief.others) == (1, 1) && all_greeted(&world, "0") {
                Ok(())
            } else {
                Err(format!("{belief:?}"))
            },
        )
    })
    .unwrap();
    recorder.clear();
    match cause {
        Cause::Silence => world.lock().unwrap().primary_is_silent = true,
        Cause::Order => drop(member.demand(&["SENTINEL", "FAILOVER", GROUP]).unwrap()),
    }
    let lasts: &[_] = match (program, cause) {
        // It switches first and points replicas to the new primary afterwards.
        (Program::Tandem, _) => &[("+slave", "10.0.0.1:6379"), ("+failover-end", "")],
        (Program::Real | Program::Valkey, Cause::Silence) => &[("+slave", "10.0.0.1:6379")],
        (Program::Real | Program::Valkey, Cause::Order) => {
            &[("+convert-to-slave", "10.0.0.1:6379")]
        }
    };
    let last = lasts
        .iter()
        .map(|(name, words)| recorder.wait_for(0, name, words, BOUND).unwrap().at)
        .max()
        .unwrap();
    poll::until("the new epoch to be told to all", BOUND, EVERY, || {
        Ok(if all_greeted(&world, "1") {
            Ok(())
        } else {
            Err("somebody was not told".to_owned())
        })
    })
    .unwrap();
    let mut events = recorder.of_member(0);
    events.retain(|event| event.at <= last);
    (sent(world.lock().unwrap().heard()), story(&events))
}

/// Whether all three parties had a hello of this configuration epoch.
fn all_greeted(world: &Mutex<World>, epoch: &str) -> bool {
    let world = world.lock().unwrap();
    ["primary", "replica", "sentinel"].iter().all(|party| {
        world.heard().iter().any(|heard| {
            heard.by == *party && hello(&heard.words).is_some_and(|(_, config)| config == epoch)
        })
    })
}

/// The current and the configuration epoch of a hello.
fn hello(words: &[String]) -> Option<(&str, &str)> {
    let [name, _, payload] = words else {
        return None;
    };
    let parts: Vec<&str> = payload.split(',').collect();
    (name.eq_ignore_ascii_case("PUBLISH") && parts.len() == 8).then(|| (parts[3], parts[7]))
}

/// What each party was sent over connections of each kind: every different command once, in the order of the first time.
fn sent(heard: &[Heard]) -> Vec<String> {
    let subscribes = |connection| {
        heard.iter().any(|heard| {
            heard.connection == connection && heard.words[0].eq_ignore_ascii_case("SUBSCRIBE")
        })
    };
    let mut lines = Vec::new();
    for party in ["primary", "replica", "sentinel"] {
        for (kind, subscription) in [("commands", false), ("subscription", true)] {
            let of_kind = heard
                .iter()
                .filter(|heard| heard.by == party && subscribes(heard.connection) == subscription);
            for one in of_kind {
                // A hello of the time between election and promotion is sent or not, as the period falls.
                if hello(&one.words).is_some_and(|(current, config)| current != config) {
                    continue;
                }
                let line = format!("{party} {kind}: {}", one.words.join(" "));
                if !lines.contains(&line) {
                    lines.push(line);
                }
            }
        }
    }
    lines
}

fn recorded(cause: Cause) -> (Vec<String>, Vec<String>) {
    let text = std::fs::read_to_string(cause.file()).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let (events, sent): (Vec<String>, Vec<String>) = lines
        .map(str::to_owned)
        .partition(|line| line.starts_with("event: "));
    let events = events
        .iter()
        .map(|line| line["event: ".len()..].to_owned())
        .collect();
    (sent, events)
}

fn real(test: &str, cause: Cause) {
    if !can_run(test) {
        return;
    }
    let (sent, events) = lead(Program::Real, cause);
    if std::env::var("TANDEM_GOLDEN").as_deref() == Ok("write") {
        let mut text = String::from(
            "# What redis-sentinel 7.0.15 sent to each party, every command once, and which events it published.\n",
        );
        for line in sent
            .iter()
            .cloned()
            .chain(events.iter().map(|e| format!("event: {e}")))
        {
            text.push_str(&line);
            text.push('\n');
        }
        std::fs::write(cause.file(), text).unwrap();
        return;
    }
    assert_eq!((sent, events), recorded(cause));
}

/// Events about the old primary that the real one leaves writable and repairs later.
const ONLY_LATER: [&str; 2] = [
    "-role-change slave 10.0.0.1:6379",
    "+convert-to-slave slave 10.0.0.1:6379",
];

/// The end of a failover as it was recorded, and as ours tells it.
const END: [&str; 2] = [
    "+failover-end master mymaster 10.0.0.1 6379",
    "+failover-end master mymaster 10.0.0.1 6380",
];

fn tandem(test: &str, cause: Cause) {
    if !can_run(test) {
        return;
    }
    if let Err(reason) = Program::Tandem.available() {
        skip(test, &format!("{reason:#}"));
        return;
    }
    let (sent, events) = lead(Program::Tandem, cause);
    let (must_send, mut must_say) = recorded(cause);
    for event in must_say.iter_mut().filter(|event| *event == END[0]) {
        END[1].clone_into(event);
    }
    if cause == Cause::Order {
        must_say.retain(|event| !ONLY_LATER.iter().any(|later| event.starts_with(later)));
    }
    for line in &must_send {
        assert!(sent.contains(line), "`{line}` was not sent, but: {sent:#?}");
    }
    for party in [
        "primary c",
        "primary s",
        "replica c",
        "replica s",
        "sentinel c",
    ] {
        let of = |lines: &[String]| -> Vec<String> {
            let mut lines: Vec<String> = lines
                .iter()
                .filter(|line| line.starts_with(party) && must_send.contains(line))
                .cloned()
                .collect();
            if cause == Cause::Order && party.starts_with("primary") {
                // It is made a replica before the new epoch begins to be told.
                lines.sort_by_key(|line| line.contains(",mymaster,10.0.0.1,6380,"));
            }
            lines
        };
        assert_eq!(
            of(&sent),
            of(&must_send),
            "the order in which {party} was told"
        );
    }
    for event in &must_say {
        assert!(
            events.contains(event),
            "`{event}` was not said, but: {events:#?}"
        );
    }
}

#[test]
fn the_real_one_does_as_recorded_when_the_primary_is_silent() {
    real(
        "the_real_one_does_as_recorded_when_the_primary_is_silent",
        Cause::Silence,
    );
}

#[test]
fn the_real_one_does_as_recorded_when_it_is_ordered_to() {
    real(
        "the_real_one_does_as_recorded_when_it_is_ordered_to",
        Cause::Order,
    );
}

#[test]
fn tandem_sends_and_says_the_same_when_the_primary_is_silent() {
    tandem(
        "tandem_sends_and_says_the_same_when_the_primary_is_silent",
        Cause::Silence,
    );
}

#[test]
fn tandem_sends_and_says_the_same_when_it_is_ordered_to() {
    tandem(
        "tandem_sends_and_says_the_same_when_it_is_ordered_to",
        Cause::Order,
    );
}
