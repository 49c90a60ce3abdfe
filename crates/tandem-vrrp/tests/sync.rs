//! Stories of two routers in a sync group.

mod common;

use std::time::Instant;

use common::{advert, ip, ms, origin, settings, words};
use tandem_vrrp::machine::{ClaimId, FaultReason, FaultSource, Input, Machine, State};
use tandem_vrrp::sync::Group;

struct Pair {
    group: Group,
    now: Instant,
}

impl Pair {
    fn new(track_weights: bool) -> Self {
        let machine =
            || Machine::new(settings(100), Some(ip("10.99.0.2"))).expect("valid settings");
        let mut pair = Self {
            group: Group::new(vec![machine(), machine()], track_weights),
            now: origin(),
        };
        assert_eq!(pair.give(0, Input::Start), ["0 became BACKUP"]);
        assert_eq!(pair.give(1, Input::Start), ["1 became BACKUP"]);
        pair
    }

    fn master() -> Self {
        let mut pair = Self::new(false);
        pair.now += ms(400);
        pair.give(0, Input::Timer);
        pair.give(1, Input::Timer);
        pair.give(0, Input::Granted(ClaimId(1)));
        pair.give(1, Input::Granted(ClaimId(1)));
        assert_eq!(pair.group.state(), State::Master);
        pair
    }

    fn give(&mut self, member: usize, input: Input) -> Vec<String> {
        let outputs = self.group.handle(member, input, self.now);
        outputs
            .iter()
            .map(|(member, output)| format!("{member} {}", words(output)))
            .collect()
    }
}

#[test]
fn nobody_wishes_before_all_do_and_nobody_speaks_before_all_may() {
    let mut pair = Pair::new(false);
    pair.now += ms(300);
    pair.give(1, Input::Advert(advert("10.99.0.1", 150)));
    pair.now += ms(100);
    assert_eq!(pair.give(0, Input::Timer), Vec::<String>::new());
    assert_eq!(pair.group.state(), State::Backup);
    pair.now += ms(300);
    assert_eq!(
        pair.give(1, Input::Timer),
        ["0 want Silence", "1 want Silence"]
    );
    assert_eq!(
        pair.give(0, Input::Granted(ClaimId(1))),
        Vec::<String>::new()
    );
    let entry = ["advert 100 Entry", "became MASTER", "announce Entry 5"];
    let both: Vec<_> = [0, 1]
        .iter()
        .flat_map(|n| entry.map(|words| format!("{n} {words}")))
        .collect();
    assert_eq!(pair.give(1, Input::Granted(ClaimId(1))), both);
}

#[test]
fn a_wish_that_was_held_back_is_given_up_without_a_word() {
    let mut pair = Pair::new(false);
    pair.now += ms(400);
    pair.give(0, Input::Timer);
    assert_eq!(
        pair.give(0, Input::Advert(advert("10.99.0.1", 150))),
        Vec::<String>::new()
    );
    assert_eq!(
        pair.give(1, Input::Timer),
        Vec::<String>::new(),
        "alone again"
    );
}

#[test]
fn one_denial_denies_all() {
    let mut pair = Pair::new(false);
    pair.now += ms(400);
    pair.give(0, Input::Timer);
    pair.give(1, Input::Timer);
    pair.give(0, Input::Granted(ClaimId(1)));
    assert_eq!(
        pair.give(1, Input::Denied(ClaimId(1))),
        Vec::<String>::new()
    );
    for member in 0..2 {
        assert_eq!(
            pair.group.member(member).map(Machine::state),
            Some(State::Backup)
        );
    }
}

#[test]
fn a_fault_in_one_is_a_fault_in_all_until_every_member_is_well() {
    let mut pair = Pair::master();
    let source = |name: &str| FaultSource::Interface(name.into());
    let fault = |name: &str| Input::Fault {
        source: source(name),
        reason: FaultReason::Failed,
    };
    let gone = ["advert 0 Leaving", "yield FAULT Fault", "became FAULT"];
    let both: Vec<_> = [0, 1]
        .iter()
        .flat_map(|n| gone.map(|words| format!("{n} {words}")))
        .collect();
    assert_eq!(pair.give(0, fault("eth0")), both);
    pair.give(1, fault("eth1"));
    pair.give(0, Input::FaultCleared(source("eth0")));
    assert_eq!(pair.group.state(), State::Fault);
    assert_eq!(
        pair.give(1, Input::FaultCleared(source("eth1"))),
        ["1 became BACKUP", "0 became BACKUP"]
    );
}

#[test]
fn a_member_pushed_back_takes_the_other_along_without_priority_zero() {
    let mut pair = Pair::master();
    let outputs = pair.give(1, Input::Advert(advert("10.99.0.1", 150)));
    assert_eq!(
        outputs,
        [
            "1 yield BACKUP HigherMaster",
            "1 became BACKUP",
            "0 yield BACKUP Withdrawn",
            "0 became BACKUP"
        ]
    );
}

#[test]
fn a_lower_master_makes_all_announce_and_a_release_releases_all() {
    let mut pair = Pair::master();
    let outputs = pair.give(0, Input::Advert(advert("10.99.0.1", 50)));
    assert_eq!(
        outputs.last().map(String::as_str),
        Some("1 announce Requested 5")
    );
    assert_eq!(
        pair.give(0, Input::Release),
        ["0 advert 0 Leaving", "1 advert 0 Leaving"]
    );
}

#[test]
fn weights_count_only_if_the_group_says_so() {
    for (track_weights, priority) in [(false, 100), (true, 70)] {
        let mut pair = Pair::new(track_weights);
        pair.give(
            0,
            Input::Weight {
                source: "check".into(),
                delta: -30,
            },
        );
        assert_eq!(
            pair.group.member(0).map(Machine::effective_priority),
            Some(priority)
        );
    }
}
