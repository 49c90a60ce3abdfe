//! Properties of several routers on one segment that loses, cuts, freezes and restarts: nobody
//! speaks who may not, and once the faults stop exactly one is MASTER in bounded time.
//!
//! Time is virtual, in steps of a millisecond. Whether a host may speak is kept apart from the
//! machine, by the caller's own reading of grants and yields.

mod common;

use std::time::{Duration, Instant};

use common::{ms, origin, settings};
use proptest::prelude::*;
use tandem_vrrp::Version;
use tandem_vrrp::machine::timers::master_down_interval;
use tandem_vrrp::machine::{ClaimId, FaultReason, FaultSource, Input, Machine, Output, State};
use tandem_vrrp::packet::{Dialect, Received};
use tandem_vrrp::settings::{Preempt, Settings};

/// Longest flight of an advert.
const FLIGHT_MAX: Duration = ms(5);
/// Longest wait for the answer to a wish.
const ANSWER_MAX: Duration = ms(20);

/// How long troubles last: several Master_Downs, so that cuts make several masters.
const fn trouble_ms(version: Version) -> u64 {
    match version {
        Version::V2 => 12_000,
        Version::V3 => 3_000,
    }
}

#[derive(Debug, Clone)]
enum Trouble {
    /// Nothing from the host arrives, or nothing arrives at it, until told otherwise.
    Cut {
        outgoing: bool,
    },
    Mend,
    /// The host does not run for this long, then finds everything that waited.
    Freeze(u64),
    Break,
    Repair,
    /// A new machine in place of the old, without a farewell.
    Restart,
    /// Stop with a farewell, then a new machine.
    StopStart,
    Release,
    Weight(i32),
    /// The next wish is denied.
    Deny,
}

fn trouble() -> impl Strategy<Value = Trouble> {
    prop_oneof![
        6 => any::<bool>().prop_map(|outgoing| Trouble::Cut { outgoing }),
        1 => Just(Trouble::Mend),
        1 => (1u64..2000).prop_map(Trouble::Freeze),
        1 => Just(Trouble::Break),
        1 => Just(Trouble::Repair),
        1 => Just(Trouble::Restart),
        1 => Just(Trouble::StopStart),
        1 => Just(Trouble::Release),
        1 => (-100i32..100).prop_map(Trouble::Weight),
        1 => Just(Trouble::Deny),
    ]
}

#[derive(Debug, Clone)]
struct Plan {
    hosts: Vec<Settings>,
    troubles: Vec<(u64, usize, Trouble)>,
    loss_percent: u64,
    seed: u64,
}

fn plan(version: Version) -> impl Strategy<Value = Plan> {
    let host = (
        1u8..=254,
        prop_oneof![Just(50u64), Just(100), Just(300)],
        any::<bool>(),
    )
        .prop_map(move |(priority, interval, preempt)| {
            let mut settings = settings(priority);
            settings.version = version;
            settings.advert_interval = match version {
                Version::V2 => ms(1000),
                Version::V3 => ms(interval),
            };
            settings.preempt = if preempt {
                Preempt::Always
            } else {
                Preempt::Never
            };
            settings
        });
    let hosts = proptest::collection::vec(host, 2..=4);
    let troubles =
        proptest::collection::vec((0u64..trouble_ms(version), 0usize..4, trouble()), 0..24);
    (hosts, any::<bool>(), troubles, 0u64..50, any::<u64>()).prop_map(
        |(mut hosts, equal, mut troubles, loss_percent, seed)| {
            // Left to chance, ties are too rare to try the tie-break.
            if equal {
                let priority = hosts[0].priority;
                hosts.iter_mut().for_each(|host| host.priority = priority);
            }
            troubles.sort_by_key(|(at, ..)| *at);
            Plan {
                hosts,
                troubles,
                loss_percent,
                seed,
            }
        },
    )
}

struct Host {
    settings: Settings,
    machine: Machine,
    /// May send adverts: granted, and not told to yield since.
    entitled: bool,
    wish: Option<(ClaimId, Instant)>,
    waiting: Vec<Received>,
    frozen_until: Option<Instant>,
    cut_in: bool,
    cut_out: bool,
    deny: bool,
}

struct Segment {
    hosts: Vec<Host>,
    flying: Vec<(Instant, usize, Received)>,
    now: Instant,
    seed: u64,
    loss_percent: u64,
}

impl Host {
    fn new(index: usize, settings: &Settings) -> Self {
        Self {
            settings: settings.clone(),
            machine: machine(index, settings),
            entitled: false,
            wish: None,
            waiting: Vec::new(),
            frozen_until: None,
            cut_in: false,
            cut_out: false,
            deny: false,
        }
    }
}

fn address(index: usize) -> std::net::IpAddr {
    std::net::IpAddr::from([10, 99, 0, 1 + u8::try_from(index).expect("few hosts")])
}

fn machine(index: usize, settings: &Settings) -> Machine {
    Machine::new(settings.clone(), Some(address(index))).expect("valid settings")
}

impl Segment {
    fn new(plan: &Plan) -> Self {
        let hosts = plan
            .hosts
            .iter()
            .enumerate()
            .map(|(index, settings)| Host::new(index, settings))
            .collect();
        let mut segment = Self {
            hosts,
            flying: Vec::new(),
            now: origin(),
            seed: plan.seed,
            loss_percent: plan.loss_percent,
        };
        for index in 0..plan.hosts.len() {
            segment.give(index, Input::Start);
        }
        segment
    }

    /// SplitMix64.
    fn random(&mut self, below: u64) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }

    fn give(&mut self, index: usize, input: Input) {
        let now = self.now;
        if let Input::Granted(claim) = &input {
            let host = &mut self.hosts[index];
            if host.wish.is_some_and(|(wish, _)| wish == *claim) {
                host.entitled = true;
            }
            host.wish = None;
        }
        let outputs = self.hosts[index].machine.handle(input, now);
        for output in outputs {
            self.carry_out(index, output);
        }
        let host = &self.hosts[index];
        let speaks = matches!(host.machine.state(), State::Master);
        assert_eq!(
            speaks,
            host.entitled,
            "host {index} is {}",
            host.machine.state()
        );
    }

    fn carry_out(&mut self, index: usize, output: Output) {
        match output {
            Output::WantMaster { claim, .. } => {
                let delay = ms(self.random(1 + ANSWER_MAX.as_millis() as u64));
                self.hosts[index].wish = Some((claim, self.now + delay));
            }
            Output::SendAdvert(advert) => {
                assert!(
                    self.hosts[index].entitled,
                    "host {index} sent {advert:?} without leave"
                );
                if advert.priority == 0 {
                    self.hosts[index].entitled = false;
                }
                self.broadcast(index, advert.priority);
            }
            Output::Yield { .. } => {
                self.hosts[index].entitled = false;
                self.hosts[index].wish = None;
            }
            Output::Became { state, .. } => {
                assert_eq!(state == State::Master, self.hosts[index].entitled);
            }
            Output::Announce(_) => assert!(
                self.hosts[index].entitled || self.hosts[index].machine.state() != State::Master,
                "an announcement of addresses that are not here"
            ),
            Output::Event(_) => {}
        }
    }

    fn broadcast(&mut self, from: usize, priority: u8) {
        let advert = Received {
            source: address(from),
            priority,
            interval: self.hosts[from].settings.advert_interval,
            dialect: Dialect::A,
            same_addresses: true,
            authenticated: false,
        };
        for to in (0..self.hosts.len()).filter(|to| *to != from) {
            let lost = self.random(100) < self.loss_percent;
            let cut = self.hosts[from].cut_out || self.hosts[to].cut_in;
            if !lost && !cut {
                let at = self.now + ms(1 + self.random(FLIGHT_MAX.as_millis() as u64));
                self.flying.push((at, to, advert.clone()));
            }
        }
    }

    fn trouble(&mut self, index: usize, trouble: &Trouble) {
        let now = self.now;
        match trouble {
            Trouble::Cut { outgoing: true } => self.hosts[index].cut_out = true,
            Trouble::Cut { outgoing: false } => self.hosts[index].cut_in = true,
            Trouble::Mend => {
                self.hosts[index].cut_out = false;
                self.hosts[index].cut_in = false;
            }
            Trouble::Freeze(length) => self.hosts[index].frozen_until = Some(now + ms(*length)),
            Trouble::Deny => self.hosts[index].deny = true,
            // A frozen host does nothing of what follows.
            _ if self.hosts[index].frozen_until.is_some() => {}
            Trouble::Break => {
                let source = FaultSource::Script("check".into());
                self.give(
                    index,
                    Input::Fault {
                        source,
                        reason: FaultReason::Failed,
                    },
                );
            }
            Trouble::Repair => self.give(
                index,
                Input::FaultCleared(FaultSource::Script("check".into())),
            ),
            Trouble::Restart => self.restart(index),
            Trouble::StopStart => {
                self.give(index, Input::Stop);
                self.restart(index);
            }
            Trouble::Release => self.give(index, Input::Release),
            Trouble::Weight(delta) => self.give(
                index,
                Input::Weight {
                    source: "load".into(),
                    delta: *delta,
                },
            ),
        }
    }

    fn restart(&mut self, index: usize) {
        let host = &mut self.hosts[index];
        host.machine = machine(index, &host.settings);
        host.entitled = false;
        host.wish = None;
        host.waiting.clear();
        self.give(index, Input::Start);
    }

    /// All faults end.
    fn heal(&mut self) {
        self.loss_percent = 0;
        for index in 0..self.hosts.len() {
            self.hosts[index].frozen_until = None;
            self.hosts[index].deny = false;
            self.trouble(index, &Trouble::Mend);
            self.trouble(index, &Trouble::Repair);
        }
    }

    /// One millisecond.
    fn step(&mut self) {
        self.now += ms(1);
        let now = self.now;
        let (arrived, flying) = std::mem::take(&mut self.flying)
            .into_iter()
            .partition(|(at, ..)| *at <= now);
        self.flying = flying;
        let arrived: Vec<(Instant, usize, Received)> = arrived;
        for (_, to, advert) in arrived {
            self.hosts[to].waiting.push(advert);
        }
        for index in 0..self.hosts.len() {
            if self.hosts[index]
                .frozen_until
                .is_some_and(|until| now < until)
            {
                continue;
            }
            self.hosts[index].frozen_until = None;
            for advert in std::mem::take(&mut self.hosts[index].waiting) {
                self.give(index, Input::Advert(advert));
            }
            if let Some((claim, _)) = self.hosts[index].wish.filter(|(_, at)| *at <= now) {
                let answer = if std::mem::take(&mut self.hosts[index].deny) {
                    self.hosts[index].wish = None;
                    Input::Denied(claim)
                } else {
                    Input::Granted(claim)
                };
                self.give(index, answer);
            }
            if self.hosts[index]
                .machine
                .next_deadline()
                .is_some_and(|(at, _)| at <= now)
            {
                self.give(index, Input::Timer);
            }
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.step();
        }
    }

    fn masters(&self) -> Vec<usize> {
        let is_master = |host: &Host| host.machine.state() == State::Master;
        (0..self.hosts.len())
            .filter(|index| is_master(&self.hosts[*index]))
            .collect()
    }
}

/// Troubles, then peace: one MASTER within Master_Down of the largest interval, which any of the
/// hosts may have learned, and two intervals. The segment's own delays come on top: an
/// answer, a hand-over under way when peace came, and flights.
fn one_master_in_the_end(plan: &Plan) -> Result<(), TestCaseError> {
    let mut segment = Segment::new(plan);
    let mut troubles = plan.troubles.iter().peekable();
    for at in 0..trouble_ms(plan.hosts[0].version) {
        while let Some((_, host, trouble)) = troubles.next_if(|(due, ..)| *due <= at) {
            segment.trouble(host % plan.hosts.len(), trouble);
        }
        segment.step();
    }
    segment.heal();
    let interval = plan
        .hosts
        .iter()
        .map(|host| host.advert_interval)
        .max()
        .expect("two hosts");
    let down = master_down_interval(plan.hosts[0].version, interval, 3, 1);
    let hold = plan.hosts[0].release_hold;
    segment.run(down + interval * 2 + hold + ANSWER_MAX + FLIGHT_MAX * 2);
    let masters = segment.masters();
    prop_assert_eq!(masters.len(), 1, "masters {:?}", masters);
    for _ in 0..20 {
        segment.run(interval / 4);
        prop_assert_eq!(segment.masters(), masters.clone(), "it stays the same one");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn v3_ends_with_one_master(plan in plan(Version::V3)) {
        one_master_in_the_end(&plan)?;
    }

    #[test]
    fn v2_ends_with_one_master(plan in plan(Version::V2)) {
        one_master_in_the_end(&plan)?;
    }
}
