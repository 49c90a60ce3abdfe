//! What the tests of the machine share: settings, adverts, and a driver with virtual time.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::net::IpAddr;
use std::time::{Duration, Instant};

use tandem_vrrp::machine::{Input, Machine, Output, Reason, State};
use tandem_vrrp::packet::{Dialect, Received};
use tandem_vrrp::settings::Settings;
use tandem_vrrp::{Family, Priority, Version, Vrid};

pub(crate) const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Some instant; virtual time counts from it.
#[expect(
    clippy::disallowed_methods,
    reason = "the origin of virtual time; no decision depends on it"
)]
pub(crate) fn origin() -> Instant {
    Instant::now()
}

/// v3, 100 ms, so that Master_Down of priority 100 is 360.9375 ms.
pub(crate) fn settings(priority: u8) -> Settings {
    let mut settings = Settings::new(
        Vrid::new(51).expect("not zero"),
        Family::Ipv4,
        vec![ip("10.99.0.100")],
    );
    settings.version = Version::V3;
    settings.advert_interval = ms(100);
    settings.priority = Priority::new(priority).expect("not zero");
    settings
}

pub(crate) fn advert(source: &str, priority: u8) -> Received {
    Received {
        source: ip(source),
        priority,
        interval: ms(100),
        dialect: Dialect::A,
        same_addresses: true,
        authenticated: false,
    }
}

/// A machine at 10.99.0.2, its clock, and a record in words of what it put out.
pub(crate) struct Driver {
    pub(crate) machine: Machine,
    pub(crate) start: Instant,
    pub(crate) now: Instant,
}

impl Driver {
    pub(crate) fn new(settings: Settings) -> Self {
        let start = origin();
        let machine = Machine::new(settings, Some(ip("10.99.0.2"))).expect("valid settings");
        Self {
            machine,
            start,
            now: start,
        }
    }

    /// Started as BACKUP.
    pub(crate) fn backup(settings: Settings) -> Self {
        let mut driver = Self::new(settings);
        assert_eq!(driver.give(Input::Start), ["became BACKUP"]);
        driver
    }

    /// Started and granted.
    pub(crate) fn master(settings: Settings) -> Self {
        let mut driver = Self::backup(settings);
        driver.skip_to_deadline();
        driver.give(Input::Timer);
        driver.grant();
        assert_eq!(driver.machine.state(), State::Master);
        driver
    }

    pub(crate) fn give(&mut self, input: Input) -> Vec<String> {
        self.machine
            .handle(input, self.now)
            .iter()
            .map(words)
            .collect()
    }

    pub(crate) fn hear(&mut self, source: &str, priority: u8) -> Vec<String> {
        self.give(Input::Advert(advert(source, priority)))
    }

    /// Grants whatever was claimed last.
    pub(crate) fn grant(&mut self) -> Vec<String> {
        let mut outputs = Vec::new();
        for id in 1..=100 {
            if self.machine.state() != State::Claiming {
                break;
            }
            // Stale ids answer with a Yield and change nothing.
            outputs = self.give(Input::Granted(tandem_vrrp::machine::ClaimId(id)));
        }
        outputs
    }

    pub(crate) fn wait(&mut self, time: Duration) {
        self.now += time;
    }

    pub(crate) fn skip_to_deadline(&mut self) {
        self.now = self.machine.next_deadline().expect("a deadline").0;
    }

    /// Time until the next deadline.
    pub(crate) fn left(&self) -> Duration {
        self.machine.next_deadline().expect("a deadline").0 - self.now
    }
}

pub(crate) fn words(output: &Output) -> String {
    match output {
        Output::WantMaster { reason, .. } => format!("want {reason:?}"),
        Output::SendAdvert(advert) => format!("advert {} {:?}", advert.priority, advert.reason),
        Output::Yield { to, reason } => format!("yield {to} {}", short(*reason)),
        Output::Became { state, .. } => format!("became {state}"),
        Output::Announce(round) => format!("announce {:?} {}", round.kind, round.repeat),
        Output::Event(event) => {
            let text = format!("{event:?}");
            format!(
                "event {}",
                text.split([' ', '('])
                    .next()
                    .expect("split gives one part at least")
            )
        }
    }
}

fn short(reason: Reason) -> String {
    let text = format!("{reason:?}");
    text.split([' ', '('])
        .next()
        .expect("split gives one part at least")
        .to_owned()
}
