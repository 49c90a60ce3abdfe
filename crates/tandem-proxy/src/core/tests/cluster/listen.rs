//! Subscribers whose channel's slot moves, and who listen to every primary.

use super::*;

#[test]
fn a_sharded_channel_is_followed_to_where_its_slot_goes() {
    let mut cluster = Cluster::new();
    let client = cluster.world.client();
    cluster.ask(client, "SSUBSCRIBE {bar}news");
    cluster.says(1, &moved(5061, 2));
    assert_eq!(cluster.world.take(client), "");
    assert_eq!(cluster.at(2), "SSUBSCRIBE {bar}news");
    cluster.says(2, &word("ssubscribe", "{bar}news", 1));
    assert_eq!(
        cluster.world.take(client).into_bytes(),
        word("ssubscribe", "{bar}news", 1)
    );
    cluster.ask(client, "SSUBSCRIBE {bar}more");
    cluster.says(2, &word("ssubscribe", "{bar}more", 2));
    cluster.world.take(client);
    cluster.at(2);
    // The slot goes back: the node ends both, and knows no better for a moment.
    cluster.says(2, &word("sunsubscribe", "{bar}news", 1));
    assert_eq!(
        cluster.world.take(client),
        "",
        "the client has not asked for it"
    );
    cluster.world.later(Duration::from_millis(20));
    assert_eq!(cluster.at(2), "SSUBSCRIBE {bar}more {bar}news");
    cluster.says(2, &moved(5061, 1));
    assert_eq!(cluster.at(1), "SSUBSCRIBE {bar}more {bar}news");
    let both = [
        word("ssubscribe", "{bar}more", 1),
        word("ssubscribe", "{bar}news", 2),
        word("smessage", "{bar}news", 7),
    ];
    cluster.says(1, &both.concat());
    assert_eq!(
        cluster.world.take(client).into_bytes(),
        word("smessage", "{bar}news", 7)
    );
    // What it ends itself it hears of.
    cluster.ask(client, "SUNSUBSCRIBE {bar}news");
    cluster.says(1, &word("sunsubscribe", "{bar}news", 1));
    assert_eq!(
        cluster.world.take(client).into_bytes(),
        word("sunsubscribe", "{bar}news", 1)
    );
}

#[test]
fn sharded_channels_that_part_end_the_connection_or_the_wish() {
    let mut cluster = Cluster::new();
    let client = cluster.world.client();
    cluster.ask(client, "SSUBSCRIBE {bar}a {foo}b");
    assert!(cluster.world.take(client).starts_with("-CROSSSLOT "));
    cluster.ask(client, "SSUBSCRIBE {bar}a");
    cluster.says(1, &word("ssubscribe", "{bar}a", 1));
    cluster.world.take(client);
    cluster.ask(client, "SSUBSCRIBE {user}b");
    cluster.says(1, &moved(5474, 2));
    assert!(cluster.world.take(client).starts_with("-CROSSSLOT "));
    cluster.ask(client, "SSUBSCRIBE {x}b");
    assert!(cluster.world.take(client).starts_with("-CROSSSLOT "));
    cluster.ask(client, "SUBSCRIBE plain");
    cluster.says(1, &word("subscribe", "plain", 2));
    assert_eq!(
        cluster.world.take(client).into_bytes(),
        word("subscribe", "plain", 2)
    );
    cluster.ask(client, "SSUBSCRIBE {user}b");
    cluster.says(1, &word("ssubscribe", "{user}b", 3));
    cluster.world.take(client);
    cluster.says(1, &word("sunsubscribe", "{user}b", 2));
    assert!(cluster.world.take(client).starts_with("-ERR "));
    assert!(cluster.world.closed.contains(&client));
}

#[test]
fn keyspace_notifications_are_heard_from_every_primary_also_from_one_that_joins() {
    let mut cluster = Cluster::new();
    let client = cluster.world.client();
    let name = "__keyevent@0__:set";
    let listens = format!("SUBSCRIBE {name}");
    cluster.ask(client, &listens);
    let (ear, own) = match cluster.world.up.contains_key(&1) {
        true => (1, 2),
        false => (2, 1),
    };
    assert_eq!(cluster.at(ear), listens);
    cluster.says(ear, &word("subscribe", name, 1));
    assert_eq!(cluster.at(own), listens);
    cluster.says(own, &word("subscribe", name, 1));
    cluster.world.take(client);
    let mut shards = halves();
    shards.push(shard(&[3, 13], &[]));
    cluster.is(shards);
    let joined = cluster.world.up.contains_key(&3);
    let mut shards = halves();
    shards[0] = shard(&[1, 11], &[(0, 8190)]);
    shards.push(shard(&[3, 13], &[(8191, 8191)]));
    cluster.is(shards);
    if !joined {
        assert_eq!(cluster.at(3), listens, "with its first slot");
    }
    cluster.says(3, &word("subscribe", name, 1));
    let event = word("message", name, 7);
    for place in [1, 2, 3] {
        cluster.says(place, &event);
        assert_eq!(cluster.world.take(client).into_bytes(), event);
    }
    // One primary is replaced by its replica: the others stay.
    let mut shards = halves();
    shards[0] = shard(&[11, 1], &[(0, 8191)]);
    cluster.is(shards);
    cluster.world.later(Duration::from_millis(300));
    assert_eq!(cluster.at(11), listens);
    assert!(!cluster.world.up.contains_key(&3), "one that left is left");
    assert!(cluster.world.up.contains_key(&2));
}
