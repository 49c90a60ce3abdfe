//! Stories of one router: each transition of keepalived's table, and where we differ on purpose.

mod common;

use common::{Driver, advert, ip, ms, settings};
use std::time::Duration;
use tandem_vrrp::machine::{ClaimId, FaultReason, FaultSource, Input, State};
use tandem_vrrp::packet::{CounterKind, DecodeError, Received};
use tandem_vrrp::settings::Preempt;
use tandem_vrrp::{Priority, Version};

const DOWN_100: Duration = Duration::from_nanos(360_937_500);
const SKEW_100: Duration = Duration::from_nanos(60_937_500);
const NONE: [&str; 0] = [];

fn fault(name: &str) -> Input {
    Input::Fault {
        source: FaultSource::Script(name.into()),
        reason: FaultReason::Failed,
    }
}

fn cleared(name: &str) -> Input {
    Input::FaultCleared(FaultSource::Script(name.into()))
}

#[test]
fn a_backup_claims_after_master_down_and_speaks_only_when_granted() {
    let mut d = Driver::backup(settings(100));
    assert_eq!(d.left(), DOWN_100);
    d.wait(DOWN_100 - ms(1));
    assert_eq!(d.give(Input::Timer), NONE);
    d.wait(ms(1));
    assert_eq!(d.give(Input::Timer), ["want Silence"]);
    assert_eq!(d.machine.state(), State::Claiming);
    d.wait(ms(10_000));
    assert_eq!(
        d.give(Input::Timer),
        NONE,
        "silent however long the answer takes"
    );
    assert_eq!(d.hear("10.99.0.1", 50), NONE, "also to a lower master");
    assert_eq!(
        d.give(Input::Granted(ClaimId(1))),
        ["advert 100 Entry", "became MASTER", "announce Entry 5"]
    );
}

#[test]
fn state_master_below_255_starts_as_backup() {
    let mut s = settings(254);
    s.start_as_master = true;
    assert_eq!(Driver::new(s).give(Input::Start), ["became BACKUP"]);
}

#[test]
fn an_owner_claims_at_once_or_after_an_interval_in_a_sync_group() {
    let mut s = settings(255);
    s.start_as_master = true;
    assert_eq!(Driver::new(s.clone()).give(Input::Start), ["want Owner"]);
    s.in_sync_group = true;
    let mut d = Driver::new(s);
    assert_eq!(d.give(Input::Start), ["became BACKUP"]);
    assert_eq!(d.left(), ms(100) + ms(100) / 256);
    d.skip_to_deadline();
    assert_eq!(d.give(Input::Timer), ["want Owner"]);
}

#[test]
fn denied_means_another_master_down_of_listening() {
    let mut d = Driver::backup(settings(100));
    d.skip_to_deadline();
    d.give(Input::Timer);
    assert_eq!(
        d.give(Input::Denied(ClaimId(1))),
        NONE,
        "it was BACKUP for everybody all along"
    );
    assert_eq!(d.left(), DOWN_100);
    d.skip_to_deadline();
    assert_eq!(d.give(Input::Timer), ["want Silence"]);
    assert_eq!(
        d.give(Input::Granted(ClaimId(1))),
        ["yield CLAIMING StaleGrant"]
    );
    assert_eq!(d.give(Input::Denied(ClaimId(1))), NONE);
    assert_eq!(d.machine.state(), State::Claiming);
}

#[test]
fn a_master_heard_while_claiming_ends_the_claim() {
    let mut d = Driver::backup(settings(100));
    d.skip_to_deadline();
    d.give(Input::Timer);
    assert_eq!(d.hear("10.99.0.1", 100), ["yield BACKUP HigherMaster"]);
    assert_eq!(d.left(), DOWN_100);
    assert_eq!(
        d.give(Input::Granted(ClaimId(1))),
        ["yield BACKUP StaleGrant"]
    );
}

#[test]
fn priority_zero_leaves_the_skew() {
    let mut d = Driver::backup(settings(100));
    d.hear("10.99.0.1", 150);
    d.hear("10.99.0.1", 0);
    assert_eq!(d.left(), SKEW_100);
    d.skip_to_deadline();
    assert_eq!(d.give(Input::Timer), ["want MasterLeft"]);
}

#[test]
fn a_released_peer_leaves_not_even_that_but_only_after_its_priority_zero() {
    let mut d = Driver::backup(settings(100));
    d.hear("10.99.0.1", 150);
    assert_eq!(
        d.give(Input::PeerReleased),
        NONE,
        "its adverts say that it is there"
    );
    d.hear("10.99.0.1", 0);
    assert_eq!(d.give(Input::PeerReleased), ["want PeerReleased"]);
}

#[test]
fn higher_and_equal_restart_the_timer_lower_does_not() {
    for (priority, left) in [(101, DOWN_100), (100, DOWN_100), (99, DOWN_100 - ms(200))] {
        let mut d = Driver::backup(settings(100));
        d.wait(ms(200));
        d.hear("10.99.0.1", priority);
        assert_eq!(d.left(), left, "{priority}");
    }
}

#[test]
fn preempting_takes_over_when_the_running_timer_ends() {
    let mut d = Driver::backup(settings(100));
    assert_eq!(d.hear("10.99.0.1", 50), ["event PreemptPending"]);
    assert_eq!(d.hear("10.99.0.1", 50), NONE, "told once");
    d.skip_to_deadline();
    assert_eq!(d.give(Input::Timer), ["want Preempt"]);
}

#[test]
fn nopreempt_accepts_any_master_also_while_claiming() {
    let mut s = settings(200);
    s.preempt = Preempt::Never;
    let mut d = Driver::backup(s);
    d.wait(ms(100));
    d.hear("10.99.0.1", 1);
    assert_eq!(d.left(), d.machine.master_down());
    d.skip_to_deadline();
    d.give(Input::Timer);
    assert_eq!(d.hear("10.99.0.1", 1), ["yield BACKUP HigherMaster"]);
}

#[test]
fn preempt_delay_counts_from_the_first_lower_advert() {
    let mut s = settings(200);
    s.preempt = Preempt::After(ms(250));
    let mut d = Driver::backup(s);
    for _ in 0..3 {
        d.hear("10.99.0.1", 50);
        assert_eq!(
            d.left(),
            d.machine.master_down(),
            "accepted at 0, 100 and 200 ms"
        );
        d.wait(ms(100));
    }
    let left = d.left();
    d.hear("10.99.0.1", 50);
    assert_eq!(d.left(), left, "not at 300");
    d.hear("10.99.0.1", 200);
    d.hear("10.99.0.1", 50);
    assert_eq!(
        d.left(),
        d.machine.master_down(),
        "an equal one begins the delay anew"
    );
}

#[test]
fn a_change_of_priority_moves_the_running_timer() {
    let mut d = Driver::backup(settings(100));
    d.wait(ms(100));
    let weight = |delta| Input::Weight {
        source: "check".into(),
        delta,
    };
    assert_eq!(d.give(weight(-50)), ["event PriorityChanged"]);
    assert_eq!(d.left(), DOWN_100 - ms(100) + ms(100) * 50 / 256);
    assert_eq!(d.give(weight(100)), ["event PriorityChanged"]);
    assert_eq!(d.left(), DOWN_100 - ms(100) - ms(100) * 100 / 256);
    assert_eq!(d.machine.effective_priority(), 200);
}

#[test]
fn a_master_sends_in_phase_without_drift() {
    let mut d = Driver::master(settings(100));
    let first = d.now;
    for late in [0, 3, 40, 99, 0] {
        d.skip_to_deadline();
        d.wait(ms(late));
        assert_eq!(d.give(Input::Timer), ["advert 100 Interval"]);
        let next = d.machine.next_deadline().unwrap().0 - first;
        assert_eq!(next.as_nanos() % ms(100).as_nanos(), 0, "late by {late}");
    }
    assert_eq!(d.machine.next_deadline().unwrap().0 - first, ms(600));
}

#[test]
fn a_master_answers_priority_zero_and_lower_masters() {
    let mut d = Driver::master(settings(100));
    d.wait(ms(30));
    assert_eq!(d.hear("10.99.0.1", 0), ["advert 100 PeerLeft"]);
    assert_eq!(d.left(), ms(100));
    let lower = [
        "advert 100 LowerMaster",
        "announce LowerPriority 5",
        "event LowerMaster",
    ];
    assert_eq!(d.hear("10.99.0.9", 99), lower);
    assert_eq!(
        d.hear("10.99.0.1", 100),
        lower,
        "equal, and the smaller address"
    );
    let mut s = settings(100);
    s.lower_prio_no_advert = true;
    s.announcements.lower_prio_repeat = 0;
    assert_eq!(
        Driver::master(s).hear("10.99.0.9", 99),
        ["event LowerMaster"]
    );
}

#[test]
fn a_master_gives_way_to_higher_priority_and_equal_with_higher_address() {
    for (source, priority) in [("10.99.0.1", 101), ("10.99.0.3", 100)] {
        let mut d = Driver::master(settings(100));
        assert_eq!(
            d.hear(source, priority),
            ["yield BACKUP HigherMaster", "became BACKUP"]
        );
        assert_eq!(d.left(), DOWN_100);
        assert_eq!(d.machine.counters().priority_zero_sent, 0);
    }
    // Unsigned, in network order: 10.99.0.200 is above 10.99.0.2 as a number, not as text.
    assert_eq!(
        Driver::master(settings(100)).hear("10.99.0.200", 100)[0],
        "yield BACKUP HigherMaster"
    );
    let mut s = settings(100);
    s.higher_prio_send_advert = true;
    assert_eq!(
        Driver::master(s).hear("10.99.0.1", 101)[0],
        "advert 100 HigherMaster"
    );
}

#[test]
fn our_own_address_with_our_priority_is_only_told() {
    let mut d = Driver::master(settings(100));
    assert_eq!(d.hear("10.99.0.2", 100), ["event OwnAddressHeard"]);
    assert_eq!(d.machine.state(), State::Master);
}

#[test]
fn rejected_adverts_restart_nothing() {
    let rejected = || Input::Rejected {
        source: ip("10.99.0.7"),
        error: DecodeError::AuthFailure,
    };
    for mut d in [Driver::master(settings(100)), Driver::backup(settings(100))] {
        d.wait(ms(60));
        let left = d.left();
        assert_eq!(d.give(rejected()), ["event Rejected"]);
        assert_eq!(d.give(rejected()), NONE, "told once per sender and kind");
        assert_eq!(d.left(), left);
        assert_eq!(d.machine.counters().dropped(CounterKind::AuthFailure), 2);
        assert_eq!(d.machine.counters().advert_received, 0);
    }
}

#[test]
fn a_learned_interval_counts_while_its_master_does() {
    let slow = |priority| {
        Input::Advert(Received {
            interval: Duration::from_secs(40),
            ..advert("10.99.0.1", priority)
        })
    };
    let mut d = Driver::backup(settings(100));
    assert_eq!(
        d.give(slow(150)),
        ["event IntervalDiffers", "event IntervalLarge"]
    );
    assert_eq!(
        d.left(),
        Duration::from_secs(40) * 3 + Duration::from_secs(40) * 156 / 256
    );
    d.skip_to_deadline();
    d.give(Input::Timer);
    d.grant();
    assert_eq!(d.machine.master_interval(), ms(100), "ours again as MASTER");
    assert_eq!(d.left(), ms(100));

    let mut s = settings(100);
    s.learned_interval_cap = Some(ms(1000));
    let mut d = Driver::backup(s);
    d.give(slow(150));
    assert_eq!(d.machine.master_interval(), ms(1000));

    let mut s = settings(100);
    s.version = Version::V2;
    s.advert_interval = ms(1000);
    let mut d = Driver::backup(s);
    d.give(slow(150));
    assert_eq!(
        d.left(),
        Duration::from_micros(3_609_375),
        "v2 never learns"
    );
}

#[test]
fn down_timer_adverts_scales_the_wait() {
    let mut s = settings(100);
    s.down_timer_adverts = 10;
    assert_eq!(Driver::backup(s).left(), ms(1000) + SKEW_100);
}

#[test]
fn several_faults_and_one_way_out() {
    let mut d = Driver::master(settings(100));
    assert_eq!(
        d.give(fault("a")),
        ["advert 0 Leaving", "yield FAULT Fault", "became FAULT"]
    );
    assert_eq!(d.give(fault("a")), NONE);
    assert_eq!(d.give(fault("b")), ["event FaultsChanged"]);
    assert_eq!(d.hear("10.99.0.1", 1), NONE);
    assert_eq!(d.machine.next_deadline(), None);
    assert_eq!(d.give(cleared("a")), ["event FaultsChanged"]);
    assert_eq!(d.give(cleared("b")), ["became BACKUP"]);
    assert_eq!(d.left(), DOWN_100);
    assert_eq!(d.machine.counters().priority_zero_sent, 1);
}

#[test]
fn a_fault_while_claiming_sends_nothing() {
    let mut d = Driver::backup(settings(100));
    d.skip_to_deadline();
    d.give(Input::Timer);
    assert_eq!(d.give(fault("a")), ["yield FAULT Fault", "became FAULT"]);
    assert_eq!(
        d.give(Input::Granted(ClaimId(1))),
        ["yield FAULT StaleGrant"]
    );
}

#[test]
fn checks_without_a_first_result_hold_back_in_silence() {
    let mut d = Driver::new(settings(100));
    let source = FaultSource::Script("slow".into());
    d.give(Input::Fault {
        source: source.clone(),
        reason: FaultReason::Pending,
    });
    assert_eq!(d.give(Input::Start), NONE);
    assert_eq!(d.machine.state(), State::Init);
    assert_eq!(d.give(Input::FaultCleared(source)), ["became BACKUP"]);
}

#[test]
fn no_source_address_no_adverts() {
    let mut d = Driver::master(settings(100));
    assert_eq!(
        d.give(Input::OwnAddress(None)),
        ["advert 0 Leaving", "yield FAULT Fault", "became FAULT"]
    );
    assert_eq!(
        d.give(Input::OwnAddress(Some(ip("10.99.0.5")))),
        ["became BACKUP"]
    );
    assert_eq!(d.machine.own_address(), Some(ip("10.99.0.5")));
}

#[test]
fn handing_over_keeps_the_addresses_until_the_successor_speaks_or_50_ms() {
    let mut d = Driver::master(settings(100));
    assert_eq!(d.give(Input::Release), ["advert 0 Leaving"]);
    assert_eq!((d.machine.state(), d.left()), (State::Releasing, ms(50)));
    d.wait(ms(20));
    assert_eq!(d.give(Input::Timer), NONE);
    assert_eq!(
        d.hear("10.99.0.1", 50),
        ["yield BACKUP Released", "became BACKUP"]
    );
    assert_eq!(d.left(), DOWN_100);

    let mut d = Driver::master(settings(100));
    d.give(Input::Release);
    assert_eq!(
        d.give(fault("keeper")),
        NONE,
        "the hand-over is not cut short"
    );
    d.wait(ms(50));
    assert_eq!(
        d.give(Input::Timer),
        ["yield FAULT Released", "became FAULT"]
    );
}

#[test]
fn stopping_says_so_once() {
    let mut d = Driver::master(settings(100));
    assert_eq!(
        d.give(Input::Stop),
        ["advert 0 Leaving", "yield STOP Stopped", "became STOP"]
    );
    assert_eq!(d.give(Input::Stop), NONE);
    let mut d = Driver::master(settings(100));
    d.give(Input::Release);
    assert_eq!(d.give(Input::Stop), ["yield STOP Stopped", "became STOP"]);
    assert_eq!(
        Driver::backup(settings(100)).give(Input::Stop),
        ["became STOP"]
    );
}

#[test]
fn a_frozen_master_yields_before_it_speaks() {
    let frozen = ms(400);
    for input in [
        Input::Timer,
        Input::Advert(advert("10.99.0.1", 50)),
        Input::Advert(advert("10.99.0.1", 0)),
    ] {
        let mut d = Driver::master(settings(100));
        d.wait(frozen);
        let outputs = d.give(input.clone());
        assert_eq!(
            outputs[..3],
            ["event Late", "yield BACKUP Paused", "became BACKUP"],
            "{input:?}"
        );
        assert!(!outputs.iter().any(|output| output.starts_with("advert")));
    }
    let mut d = Driver::master(settings(100));
    let outputs = d.give(Input::PauseDetected(frozen));
    assert_eq!(
        outputs,
        ["event Late", "yield BACKUP Paused", "became BACKUP"],
        "a pause that `now` did not count"
    );
    let mut d = Driver::master(settings(100));
    assert_eq!(d.give(Input::PauseDetected(ms(50))), NONE);
    let mut s = settings(100);
    s.yield_when_late = false;
    let mut d = Driver::master(s);
    d.wait(frozen);
    assert_eq!(
        d.give(Input::Timer),
        ["advert 100 Interval"],
        "keepalived without timer_expired_backup"
    );
}

#[test]
fn a_frozen_backup_listens_for_one_interval_before_it_accuses() {
    let mut d = Driver::backup(settings(100));
    d.skip_to_deadline();
    d.wait(ms(101));
    assert_eq!(d.give(Input::Timer), ["event Late"]);
    assert_eq!(d.left(), ms(100) + SKEW_100);
    d.skip_to_deadline();
    d.wait(ms(5_000));
    assert_eq!(
        d.give(Input::Timer),
        ["want Silence"],
        "one grace, no second"
    );
}

#[test]
fn resuming_begins_with_an_advert_unless_something_is_broken() {
    let entry = ["advert 100 Entry", "became MASTER", "announce Entry 5"];
    let mut d = Driver::new(settings(100));
    assert_eq!(d.give(Input::Resume), entry);
    assert_eq!(d.give(Input::Resume), NONE);
    let mut d = Driver::new(settings(100));
    d.give(fault("a"));
    assert_eq!(d.give(Input::Resume), ["became FAULT"]);
}

#[test]
fn a_reload_misses_no_advert() {
    let mut d = Driver::master(settings(100));
    d.wait(ms(70));
    let mut s = settings(120);
    s.addresses.push(ip("10.99.0.101"));
    s.advert_interval = ms(50);
    let outputs = d.give(Input::Reload(Box::new(s.clone())));
    assert_eq!(
        outputs,
        [
            "event PriorityChanged",
            "advert 120 Reload",
            "announce Requested 5"
        ]
    );
    assert_eq!(d.left(), ms(50));
    s.version = Version::V2;
    s.advert_interval = ms(1000);
    assert_eq!(d.give(Input::Reload(Box::new(s))), ["event ReloadRefused"]);

    let mut d = Driver::backup(settings(100));
    d.wait(ms(100));
    let mut s = settings(100);
    s.down_timer_adverts = 5;
    d.give(Input::Reload(Box::new(s)));
    assert_eq!(d.left(), DOWN_100 - ms(100) + ms(200));
}

#[test]
fn rounds_follow_the_schedule_and_end_with_mastership() {
    let mut s = settings(100);
    s.announcements.delay = ms(150);
    s.announcements.refresh = ms(250);
    let mut d = Driver::master(s);
    let mut log = Vec::new();
    let start = d.now;
    for _ in 0..8 {
        d.skip_to_deadline();
        let at = (d.now - start).as_millis();
        log.extend(
            d.give(Input::Timer)
                .into_iter()
                .map(|words| format!("{at} {words}")),
        );
    }
    log.retain(|line| line.contains("announce"));
    assert_eq!(
        log,
        [
            "150 announce EntryRepeat 5",
            "250 announce Refresh 1",
            "500 announce Refresh 1"
        ]
    );
    d.hear("10.99.0.1", 200);
    assert_eq!(d.left(), d.machine.master_down());
    d.wait(ms(250));
    assert_eq!(d.give(Input::Timer), NONE);
}

#[test]
fn two_owners_end_with_one() {
    let mut s = settings(255);
    s.start_as_master = true;
    let owner = |s: &tandem_vrrp::settings::Settings| {
        let mut d = Driver::new(s.clone());
        d.give(Input::Start);
        d.grant();
        assert_eq!(d.machine.state(), State::Master);
        d
    };
    let mut loser = owner(&s);
    loser.hear("10.99.0.3", 255);
    assert_eq!(
        (loser.machine.state(), loser.machine.effective_priority()),
        (State::Backup, 254)
    );
    loser.hear("10.99.0.3", 0);
    loser.skip_to_deadline();
    loser.give(Input::Timer);
    loser.grant();
    assert_eq!(loser.machine.effective_priority(), 255, "the other is gone");

    // The higher address insists for two adverts and 1.2 intervals, then gives way as well.
    let mut winner = owner(&s);
    for round in 0..4 {
        winner.hear("10.99.0.1", 255);
        assert_eq!(winner.machine.state(), State::Master, "round {round}");
        winner.wait(ms(100));
    }
    winner.hear("10.99.0.1", 255);
    assert_eq!(winner.machine.state(), State::Backup);

    s.priority = Priority::OWNER;
    let mut backup = Driver::new({
        s.start_as_master = false;
        s
    });
    backup.give(Input::Start);
    backup.hear("10.99.0.1", 255);
    assert_eq!(backup.machine.effective_priority(), 254);
    backup.give(Input::Weight {
        source: "ignored".into(),
        delta: -50,
    });
    assert_eq!(backup.machine.effective_priority(), 254);
}

#[test]
fn leaving_fault_in_unicast_announces_the_own_address() {
    use tandem_vrrp::settings::{Transport, UnicastPeer};
    let mut s = settings(100);
    let peers = vec![UnicastPeer::on_link(ip("10.99.0.1"))];
    s.transport = Transport::Unicast {
        peers,
        check_source: true,
        ttl: 255,
    };
    let mut d = Driver::backup(s);
    d.give(fault("a"));
    assert_eq!(
        d.give(cleared("a")),
        ["announce OwnAddress 1", "became BACKUP"]
    );
}
