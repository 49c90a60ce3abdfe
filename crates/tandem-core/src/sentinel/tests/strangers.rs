//! Hellos of a fleet that is not ours.

use super::stories::{ms, settled};
use super::view::Plan;
use super::world::{World, group_name, server_at};
use crate::sentinel::Sentinel;
use crate::sentinel::ids::{ConfigEpoch, ElectionEpoch, Endpoint, SentinelId};
use crate::sentinel::io::Input;
use crate::sentinel::saved::{SavedGroup, SavedState};
use crate::sentinel::settings::{Globals, GroupSettings, Periods};
use crate::testing::origin;

/// A fleet with a group of the same name: one message of its sentinels would make our servers replicas of its primary.
#[test]
fn a_fleet_with_a_group_of_the_same_name_moves_nothing() {
    let mut world = settled(&Plan::default());
    let stranger = "f".repeat(40);
    let hello = |primary: &str, epoch: u64| {
        format!("10.7.7.9,26379,{stranger},{epoch},orders,{primary},6379,{epoch}")
    };
    for (times, epoch) in (1..=6).zip(9..) {
        let message = hello("10.7.7.7", epoch);
        world.nodes[0].sentinel.take_hello(message.as_bytes());
        world.run_for(ms(2_000));
        assert_eq!(world.address(0), server_at(1), "message {times}");
    }
    assert_eq!(world.count("-hello-refused"), 1, "told once");
    let saved = |world: &World| {
        let state = world.nodes[0].sentinel.state();
        let peers = &state.groups[0].peers;
        peers.iter().any(|peer| peer.id.as_str() == stranger)
    };
    assert!(!saved(&world), "it would be known after a restart");

    // One of our fleet names a server of ours sooner or later, and is believed from then on with what is new to us.
    let ours = server_at(1).host;
    let message = hello(&ours, 0);
    world.nodes[0].sentinel.take_hello(message.as_bytes());
    world.input(0, Input::Tick);
    assert!(saved(&world));
    let message = hello("10.7.7.7", 20);
    world.nodes[0].sentinel.take_hello(message.as_bytes());
    world.input(0, Input::Tick);
    assert_eq!(world.address(0), Endpoint::new("10.7.7.7", 6379));
}

/// A file that is older than all that the fleet names: there is nothing to lose, and the second message counts.
#[test]
fn who_knows_nothing_that_works_believes_the_second_message() {
    let saved = SavedState {
        id: SentinelId::parse(&"a".repeat(40)).unwrap(),
        current_epoch: ElectionEpoch(0),
        globals: Globals::default(),
        groups: vec![SavedGroup {
            settings: GroupSettings::new(group_name(), 2, &Periods::default()),
            primary: Endpoint::new("10.0.0.1", 6379),
            config_epoch: ConfigEpoch(0),
            leader_epoch: ElectionEpoch(0),
            replicas: Vec::new(),
            peers: Vec::new(),
        }],
    };
    let (mut sentinel, _) = Sentinel::new(saved, Periods::default(), 7, origin());
    let named = |sentinel: &Sentinel| {
        let group = sentinel.group(&group_name()).unwrap();
        group.current_address().host.clone()
    };
    let stranger = "f".repeat(40);
    let hello = format!("10.0.0.9,26379,{stranger},9,orders,10.0.0.7,6379,9");
    sentinel.take_hello(hello.as_bytes());
    assert_eq!(named(&sentinel), "10.0.0.1");
    sentinel.take_hello(hello.as_bytes());
    assert_eq!(named(&sentinel), "10.0.0.7");
}
