//! Groups in which nobody is primary.

use std::time::Duration;

use super::server::Server;
use super::stories::{ms, promotions, settled};
use super::view::Plan;
use super::world::server_at;
use crate::sentinel::Endpoint;
use crate::sentinel::model::ReportedRole;

const WHOLE: Duration = Duration::from_secs(120);

#[test]
fn servers_that_follow_each_other_get_a_primary_again() {
    let mut world = settled(&Plan::default());
    for index in [2, 3] {
        // By the ordinary rules nobody may be promoted.
        world.server(&server_at(index)).priority = 0;
    }
    world.server(&server_at(1)).follows = Some(server_at(2));
    assert!(
        world.run_till(WHOLE, |world| world.writable() == [&server_at(1)]),
        "{:#?}",
        world.logs
    );
    assert_eq!(promotions(&world), 1);
}

#[test]
fn the_most_data_wins_and_only_among_themselves() {
    let mut world = settled(&Plan::default());
    let outside = Endpoint::new("10.9.9.9", 6379);
    // Whom the primary and the second replica follow, the keys of primary and replicas, and who is to be primary.
    let table = [
        (server_at(2), server_at(1), [10, 10, 10], Some(server_at(1))),
        (server_at(2), server_at(1), [10, 11, 30], Some(server_at(3))),
        (outside.clone(), server_at(1), [10, 11, 30], None),
        (server_at(2), outside, [10, 11, 30], None),
    ];
    for (first, third, keys, chosen) in table {
        let id = world.group(0).id;
        let sentinel = &mut world.nodes[0].sentinel;
        let group = sentinel.groups.get_mut(&id).unwrap();
        group.primary.observed.role = ReportedRole::Replica;
        group.primary.follows = Some(first.clone());
        group.primary.observed.keys = keys[0];
        for (index, keys) in [(2, keys[1]), (3, keys[2])] {
            group
                .replicas
                .get_mut(&server_at(index))
                .unwrap()
                .observed
                .keys = keys;
        }
        group.replicas.get_mut(&server_at(3)).unwrap().follows = Some(third.clone());
        let group = &sentinel.groups[&id];
        assert_eq!(sentinel.stranded(group), chosen, "{first} {third} {keys:?}");
    }
}

#[test]
fn a_group_that_follows_somebody_outside_is_left_alone() {
    let outside = Endpoint::new("10.9.9.9", 6379);
    let fence = Endpoint::new("127.0.0.1", 1);
    for (of, lives) in [(outside.clone(), true), (outside, false), (fence, false)] {
        let mut world = settled(&Plan {
            replicas: 0,
            ..Plan::default()
        });
        if lives {
            world
                .servers
                .insert(of.clone(), Server::primary(of.clone(), 9));
        }
        world.server(&server_at(1)).follows = Some(of.clone());
        world.run_for(WHOLE);
        assert_eq!(promotions(&world), 0, "{of}: {:#?}", world.logs);
        assert_eq!(world.servers[&server_at(1)].follows.as_ref(), Some(&of));
        let named = |line: &String| line.contains("is no server of this group");
        assert!(world.logs.iter().any(named), "{of}: {:#?}", world.logs);
        // A person ends it, and the group is as it was.
        world.server(&server_at(1)).follows = None;
        world.run_for(ms(15_000));
        assert!(world.group(0).primary.down.subjective.is_none());
    }
}
