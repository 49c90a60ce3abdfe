//! The real peers under the lab's faults. What they do is known; here it shows that the lab sees it.

use std::time::{Duration, Instant};

use tandem_lab::arrangement::{
    Arrangement, CLIENT, Fault, Keepalived, Sentinel, Side, Tuning, VIP, Watch,
};
use tandem_lab::client::{Client, Settings as ClientSettings};
use tandem_lab::server::Settings;
use tandem_lab::{can_run, can_run_as_root, poll};

const BOUND: Duration = Duration::from_secs(30);
const STEADY: Duration = Duration::from_millis(300);

fn client_of(arrangement: &dyn Arrangement) -> Client {
    let host = arrangement.pair().lab().host(CLIENT);
    let client = Client::start(host, ClientSettings::new(arrangement.target())).expect("a thread");
    client
        .wait_until_steady(Instant::now(), STEADY, BOUND)
        .expect("a primary that takes writes");
    client
}

#[test]
fn keepalived_moves_the_address_and_the_client_sees_the_gap() {
    if !can_run_as_root("keepalived_moves_the_address_and_the_client_sees_the_gap") {
        return;
    }
    let mut pair = Keepalived::new(Tuning::Tuned, Settings::default()).unwrap();
    assert_eq!(pair.start(0).unwrap(), Side::A);
    let client = client_of(&pair);

    let injection = pair.inject(Fault::PowerOff).unwrap();
    client
        .wait_until_steady(injection.at, STEADY, BOUND)
        .unwrap();
    let gap = client.record().longest_gap(injection.at, Instant::now());
    // Three adverts of 100 ms may be missed before anybody can know; the last one came at most one of them earlier.
    assert!(gap > Duration::from_millis(200), "{gap:?}");
    assert_eq!(pair.primary().unwrap(), Ok(Side::B));

    assert_eq!(pair.settle(BOUND).unwrap(), Side::B);
    let record = client.stop().unwrap();
    assert!(record.error_count() > 0);
}

#[test]
fn filtered_adverts_make_two_masters_while_tcp_passes() {
    if !can_run_as_root("filtered_adverts_make_two_masters_while_tcp_passes") {
        return;
    }
    let mut pair = Keepalived::new(Tuning::Tuned, Settings::default()).unwrap();
    assert_eq!(pair.start(0).unwrap(), Side::A);
    let watch = Watch::start(pair.pair()).unwrap();
    pair.inject(Fault::FilterVrrp).unwrap();
    let (a, b) = (pair.pair().host(Side::A), pair.pair().host(Side::B));
    poll::until(
        "the address on both hosts",
        BOUND,
        Duration::from_millis(20),
        || {
            let on_both = a.has_address(VIP)? && b.has_address(VIP)?;
            Ok(if on_both {
                Ok(())
            } else {
                Err("it is on one".to_owned())
            })
        },
    )
    .unwrap();
    a.connect(pair.pair().server_address(Side::B), Duration::from_secs(1))
        .expect("TCP is not filtered");
    b.connect(pair.pair().server_address(Side::A), Duration::from_secs(1))
        .expect("TCP is not filtered");
    poll::until(
        "two primaries behind it",
        BOUND,
        Duration::from_millis(20),
        || {
            let overlap = watch.overlap();
            Ok(if overlap.both.is_zero() {
                Err(format!("{overlap:?}"))
            } else {
                Ok(())
            })
        },
    )
    .unwrap();
}

#[test]
fn sentinel_fails_over_and_loses_nothing_that_it_had_sent() {
    if !can_run("sentinel_fails_over_and_loses_nothing_that_it_had_sent") {
        return;
    }
    let mut pair = Sentinel::new(Duration::from_millis(200), Settings::default()).unwrap();
    assert_eq!(pair.start(0).unwrap(), Side::A);
    let client = client_of(&pair);

    let injection = pair.inject(Fault::KillServer).unwrap();
    client
        .wait_until_steady(injection.at, STEADY, BOUND)
        .unwrap();
    let record = client.stop().unwrap();
    assert_eq!(pair.primary().unwrap(), Ok(Side::B));
    assert!(record.longest_gap(injection.at, Instant::now()) > Duration::from_millis(200));
    let mut survivor = pair.pair().server(Side::B).connect().unwrap();
    // A killed process' last bytes are still sent by its kernel, so nothing acknowledged may be missing.
    assert_eq!(record.missing(&mut survivor).unwrap(), Vec::<u64>::new());
    assert_eq!(pair.settle(BOUND).unwrap(), Side::B);
}
