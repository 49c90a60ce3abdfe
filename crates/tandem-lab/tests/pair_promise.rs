//! What status promises about the death of the primary holds at the moment at which it is said, and what the keeper
//! does about a primary that is started again outside of its control.

#![allow(clippy::unwrap_used, reason = "a helper fails as its test does")]

mod common;

use std::time::Duration;

use common::{BOUND, EVERY, Rig, plain};
use tandem_lab::arrangement::{Arrangement, Fault, Side};
use tandem_lab::{can_run, poll};

/// Deaths in a row; each follows a full sync without a disk, after which Redis holds the stream back for up to a second
/// or two while every reading of INFO looks well.
const DEATHS: usize = 6;

#[test]
fn what_is_written_under_the_promise_survives_the_primary() {
    if !can_run("what_is_written_under_the_promise_survives_the_primary") {
        return;
    }
    // The servers keep nothing on disk, so that each one that returns needs a full sync.
    let mut rig = Rig::started();
    let client = rig.client();
    for _ in 0..DEATHS {
        // Not the lab's own test of being well, which waits for the bytes: the promise alone.
        poll::until("both to promise", BOUND, Duration::from_millis(2), || {
            rig.content()
        })
        .unwrap();
        let injection = rig.inject(Fault::KillServer).unwrap();
        rig.moved(&client, injection, "kill -9 at the promise");
        rig.nothing_missing(&client.record(), injection.primary.other());
        rig.pair_mut()
            .server_mut(injection.primary)
            .restart()
            .unwrap();
    }
    client.stop().unwrap();
}

#[test]
fn an_orphaned_replica_is_detached_before_its_primary_returns_empty() {
    if !can_run("an_orphaned_replica_is_detached_before_its_primary_returns_empty") {
        return;
    }
    let mut rig = Rig::start_of(plain().group_line("boot_wait = \"2s\""));
    let client = rig.client();
    // Paused and without the daemon that could say what happened: B's keeper has the broken link to go by.
    rig.tandem(Side::B, "pause", &[]).unwrap();
    rig.pair_mut().daemons_mut(Side::A)[0].kill();
    rig.inject(Fault::KillServer).unwrap();
    poll::until("B to follow nobody", BOUND, EVERY, || {
        let followed = rig.info(Side::B, "master_host");
        Ok(if followed == "127.0.0.1" {
            Ok(())
        } else {
            Err(followed)
        })
    })
    .unwrap();
    let record = client.stop().unwrap();
    // A supervisor starts it again, on nothing: at the old address there is an empty primary now.
    rig.pair_mut().server_mut(Side::A).restart().unwrap();
    assert_eq!(rig.info(Side::A, "role"), "master");
    // Redis tries its primary again every second.
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(rig.info(Side::B, "master_host"), "127.0.0.1");
    rig.nothing_missing(&record, Side::B);
    rig.tandem(Side::B, "resume", &[]).unwrap();
    rig.start_daemons(Side::A).unwrap();
    assert_eq!(rig.wait_until_well(BOUND).unwrap(), Side::B);
    for side in Side::BOTH {
        rig.nothing_missing(&record, side);
    }
}
