//! A keeper for the stories of this module's tests: host b of the group g, which has a VIP and a peer.

use std::time::{Duration, Instant};

use crate::ids::HostId;
use crate::journal::Journal;
use crate::keeper::Keeper;
use crate::keeper::settings::{Manage, Preempt, Resync, Settings};

/// Its settings.
pub(super) fn settings() -> Settings {
    Settings {
        host: HostId::new("b"),
        peer: Some(HostId::new("a")),
        one_host: false,
        group: "g".to_owned(),
        server_address: "10.0.0.2:6379".to_owned(),
        peer_server_address: None,
        manage: Manage::Adopt,
        preempt: Preempt::Never,
        resync: Resync::Automatic,
        alone: false,
        down_after: Duration::from_secs(1),
        sick_grace: Duration::from_secs(5),
        master_down: Duration::from_secs(1),
        advert_interval: Duration::from_millis(300),
        max_lag: 0,
        boot_wait: Duration::from_secs(30),
        flap_block: Duration::from_secs(10),
        drain_deadline: Duration::from_secs(1),
        switchover_deadline: Duration::from_secs(2),
        priority: 100,
        vip_lifetime: Some(Duration::from_secs(3)),
        boot_id: String::new(),
        incarnation: 1,
        turns_from: 0,
    }
}

/// One that has just started, with a fresh journal.
pub(super) fn keeper(now: Instant) -> Keeper {
    let journal = Journal::fresh(HostId::new("b"), "g");
    Keeper::new(settings(), journal, now)
}
