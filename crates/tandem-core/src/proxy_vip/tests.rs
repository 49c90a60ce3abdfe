//! Two hosts of one proxy on a virtual clock: adverts pass at once, threads answer or do not.

use std::net::IpAddr;

use tandem_vrrp::packet::{Dialect, Received};
use tandem_vrrp::settings::{Preempt, Settings};
use tandem_vrrp::{Family, Priority, Vrid};

use super::*;
use crate::testing::origin;

const STEP: Duration = Duration::from_millis(10);
const THREADS: usize = 2;

struct Host {
    vip: ProxyVip,
    at: IpAddr,
    /// Threads that do not answer.
    stuck: [bool; THREADS],
    /// The daemon does not run.
    frozen: bool,
    /// What the kernel has.
    address: bool,
    /// What was done, in words.
    log: Vec<&'static str>,
}

struct World {
    hosts: [Host; 2],
    now: Instant,
    start: Instant,
    frozen_since: Instant,
}

fn router(priority: u8) -> Settings {
    let vip = "10.0.0.200".parse().unwrap();
    let mut settings = Settings::new(Vrid::new(52).unwrap(), Family::Ipv4, vec![vip]);
    settings.version = tandem_vrrp::Version::V3;
    settings.advert_interval = Duration::from_millis(300);
    settings.priority = Priority::new(priority).unwrap();
    settings.preempt = Preempt::Never;
    settings.release_hold = Duration::from_millis(500);
    settings
}

impl World {
    /// The first host is the preferred one.
    fn new() -> Self {
        let now = origin();
        let host = |priority, last| {
            let at = IpAddr::from([10, 0, 0, last]);
            let machine = Machine::new(router(priority), Some(at)).unwrap();
            Host {
                vip: ProxyVip::new(machine, THREADS, now),
                at,
                stuck: [false; THREADS],
                frozen: false,
                address: false,
                log: Vec::new(),
            }
        };
        Self {
            hosts: [host(101, 1), host(100, 2)],
            now,
            start: now,
            frozen_since: now,
        }
    }

    fn feed(&mut self, host: usize, input: Input) {
        for output in self.hosts[host].vip.handle(input, self.now) {
            let me = &mut self.hosts[host];
            match output {
                Output::Advert(advert) => {
                    let word = if advert.priority == 0 {
                        "priority 0"
                    } else {
                        "advert"
                    };
                    me.log.push(word);
                    let heard = Received {
                        source: me.at,
                        priority: advert.priority,
                        interval: Duration::from_millis(300),
                        dialect: Dialect::A,
                        same_addresses: true,
                        authenticated: true,
                    };
                    if !self.hosts[1 - host].frozen {
                        self.feed(1 - host, Input::Router(Router::Advert(heard)));
                    }
                }
                Output::TakeAddress => {
                    me.address = true;
                    me.log.push("take");
                }
                Output::GiveAddress => {
                    me.address = false;
                    me.log.push("give");
                }
                Output::Left => me.log.push("left"),
                Output::Announce(_) | Output::Tell { .. } | Output::Log(_) => {}
            }
        }
    }

    fn pass(&mut self, length: Duration) {
        let until = self.now + length;
        while self.now < until {
            self.now += STEP;
            let beat = (self.now - self.start)
                .as_millis()
                .is_multiple_of(BEAT_EVERY.as_millis());
            for host in 0..2 {
                if self.hosts[host].frozen {
                    continue;
                }
                for thread in 0..THREADS {
                    if beat && !self.hosts[host].stuck[thread] {
                        self.feed(host, Input::Beat(thread));
                    }
                }
                self.feed(host, Input::Tick);
            }
        }
    }

    fn freeze(&mut self, host: usize) {
        self.hosts[host].frozen = true;
        self.frozen_since = self.now;
    }

    fn thaw(&mut self, host: usize) {
        self.hosts[host].frozen = false;
        let late = self.now - self.frozen_since;
        self.feed(host, Input::Late(late));
    }

    fn holders(&self) -> [bool; 2] {
        [0, 1].map(|host| self.hosts[host].address)
    }
}

/// Longer than any takeover here: Master_Down, or a second of a stuck thread and the skew.
const SOON: Duration = Duration::from_secs(2);

#[test]
fn the_preferred_host_has_the_address_and_an_advert_comes_before_it() {
    let mut world = World::new();
    world.pass(SOON);
    assert_eq!(world.holders(), [true, false]);
    assert_eq!(world.hosts[0].log[..2], ["advert", "take"]);
}

#[test]
fn nothing_is_taken_before_every_thread_has_answered() {
    let mut world = World::new();
    world.hosts[0].stuck = [false, true];
    world.pass(Duration::from_secs(1));
    assert_eq!(world.hosts[0].vip.state(), State::Fault);
    world.pass(SOON);
    assert_eq!(world.holders(), [false, true]);
    // Late, but all the same: and the other one has the address by then.
    world.hosts[0].stuck = [false, false];
    world.pass(SOON);
    assert_eq!(world.hosts[0].vip.state(), State::Backup);
    assert_eq!(world.holders(), [false, true]);
}

#[test]
fn one_stuck_thread_sends_the_address_away_and_nothing_brings_it_back() {
    let mut world = World::new();
    world.pass(SOON);
    world.hosts[0].log.clear();
    world.hosts[0].stuck[1] = true;
    world.pass(SICK_AFTER + BEAT_EVERY);
    let log = &world.hosts[0].log;
    assert_eq!(log[log.len() - 2..], ["priority 0", "give"]);
    world.pass(SOON);
    assert_eq!(world.holders(), [false, true]);
    world.hosts[0].stuck[1] = false;
    world.pass(SOON);
    assert_eq!(
        world.holders(),
        [false, true],
        "the one that has it keeps it"
    );
}

#[test]
fn where_nobody_is_fit_nobody_has_the_address() {
    let mut world = World::new();
    world.pass(SOON);
    for host in &mut world.hosts {
        host.stuck = [true, true];
    }
    world.pass(SOON);
    assert_eq!(world.holders(), [false, false]);
    world.hosts[1].stuck = [false, false];
    world.pass(SOON);
    assert_eq!(world.holders(), [false, true]);
}

#[test]
fn a_frozen_daemon_gives_up_before_it_speaks() {
    let mut world = World::new();
    world.pass(SOON);
    world.freeze(0);
    world.pass(Duration::from_secs(60));
    // The kernel has taken the address of the frozen one off by its lifetime.
    world.hosts[0].address = false;
    assert_eq!(world.holders(), [false, true]);
    world.hosts[0].log.clear();
    world.thaw(0);
    assert_eq!(world.hosts[0].log, ["give"]);
    assert_eq!(
        world.hosts[0].vip.state(),
        State::Backup,
        "no thread is blamed for it"
    );
    world.pass(SOON);
    assert_eq!(world.holders(), [false, true]);
}

#[test]
fn a_stumble_of_the_loop_is_no_fault_of_a_thread() {
    let mut world = World::new();
    world.pass(SOON);
    world.freeze(0);
    world.now += Duration::from_millis(950);
    world.thaw(0);
    world.feed(0, Input::Tick);
    world.pass(Duration::from_millis(300));
    assert_eq!(world.hosts[0].vip.fit, Fitness::Fit);
}

#[test]
fn a_stop_hands_over_and_holds_the_address_until_the_other_speaks() {
    let mut world = World::new();
    world.pass(SOON);
    world.hosts[0].log.clear();
    world.feed(0, Input::Stop);
    assert_eq!(world.hosts[0].log, ["priority 0"]);
    assert!(world.hosts[0].address);
    world.pass(SOON);
    assert_eq!(world.hosts[0].log, ["priority 0", "give", "left"]);
    assert_eq!(world.holders(), [false, true]);
    // Where nobody takes over, the address goes all the same; and one that never had it leaves at once.
    world.freeze(0);
    world.feed(1, Input::Stop);
    world.pass(SOON);
    assert_eq!(world.hosts[1].log.last(), Some(&"left"));
    let mut world = World::new();
    world.feed(1, Input::Stop);
    assert_eq!(world.hosts[1].log, ["left"]);
}

/// Whatever threads and daemons do: no unfit host has the address, and after they are left alone exactly one has it.
#[test]
fn any_course_of_faults_ends_with_one_holder() {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut draw = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    for course in 0..100 {
        let mut world = World::new();
        for _ in 0..20 {
            let host = draw(2) as usize;
            match draw(4) {
                0 => world.hosts[host].stuck[draw(2) as usize] ^= true,
                1 if !world.hosts[host].frozen && !world.hosts[1 - host].frozen => {
                    world.freeze(host);
                }
                2 if world.hosts[host].frozen => world.thaw(host),
                _ => {}
            }
            world.pass(Duration::from_millis(draw(3000)));
            for host in &world.hosts {
                let fit = host.frozen || host.vip.fit == Fitness::Fit;
                assert!(fit || !host.address, "course {course}: an unfit holder");
            }
        }
        for host in 0..2 {
            world.hosts[host].stuck = [false; THREADS];
            if world.hosts[host].frozen {
                world.thaw(host);
            }
        }
        world.pass(SOON);
        let holders = world.holders().iter().filter(|it| **it).count();
        assert_eq!(holders, 1, "course {course}");
    }
}
