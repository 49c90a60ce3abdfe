//! The proxy's own users: let in by the proxy, held to their rights before anything is routed. And clients that idle.

use super::*;
use crate::settings::{Access, Account, Users};
use crate::users::{Allowed, KeyRule, User};

fn account(name: &str, password: Option<&str>, rules: &[&str], prefix: &str) -> Account {
    Account {
        user: User {
            name: name.to_owned(),
            commands: Allowed::from_rules(rules.iter().copied()).unwrap(),
            keys: vec![KeyRule {
                prefix: prefix.as_bytes().to_vec(),
                write: true,
            }],
            channels: vec![prefix.as_bytes().to_vec()],
        },
        password: password.map(str::to_owned),
    }
}

fn world(accounts: Vec<Account>) -> World {
    World::new(Pool {
        password: Some("upstream".to_owned()),
        access: Access {
            users: Users::Own(accounts),
            server_user: Some("tandem-app".to_owned()),
            ..Access::default()
        },
        ..pool(1)
    })
}

#[test]
fn users_of_the_proxys_own_are_one_user_to_the_servers() {
    let mut world = world(vec![
        account("app", Some("a"), &["+@all", "-@dangerous"], "app:"),
        account("root", Some("r"), &["+@all"], ""),
    ]);
    let (app, root) = (world.client(), world.client());
    world.give(app, &request("GET app:1"));
    assert_eq!(world.take(app), "-NOAUTH Authentication required.\r\n");
    for wrong in ["AUTH app r", "AUTH nobody a", "AUTH a", "AUTH upstream"] {
        world.give(app, &request(wrong));
        assert!(world.take(app).starts_with("-WRONGPASS "), "{wrong}");
    }
    world.give(app, &request("AUTH app a"));
    world.give(app, &request("ACL WHOAMI"));
    world.give(root, &request("HELLO 2 AUTH root r"));
    assert_eq!(world.take(app), "+OK\r\n$3\r\napp\r\n");
    let lane = world.up[&0];
    let setup = request("AUTH tandem-app upstream");
    assert_eq!(world.take(lane).into_bytes(), setup);
    world.give(lane, b"+OK\r\n");
    assert_eq!(world.take(lane).into_bytes(), request("INFO server"));
    world.give(lane, b"-NOPERM no\r\n");
    let said = world.take(root);
    assert!(said.starts_with("*14\r\n"), "{said}");
    assert!(said.contains("\r\n7.0.0\r\n"), "{said}");
    world.give(app, &request("GET app:1"));
    world.give(root, &request("GET other"));
    let both = [request("GET app:1"), request("GET other")].concat();
    assert_eq!(world.take(lane).into_bytes(), both);
    world.give(lane, b"$1\r\n1\r\n$1\r\n2\r\n");
    assert_eq!(world.take(app), "$1\r\n1\r\n");
    assert_eq!(world.take(root), "$1\r\n2\r\n");
    world.assert_nothing_is_left();
}

#[test]
fn what_a_user_may_not_do_reaches_no_server() {
    let mut world = world(vec![account(
        "default",
        None,
        &["+@all", "-@dangerous"],
        "app:",
    )]);
    let client = world.client();
    for denied in [
        "GET other",
        "MGET app:1 other",
        "FLUSHALL",
        "EVAL x 1 app:1",
        "SUBSCRIBE other",
        "BLPOP other 0",
        "WATCH other",
    ] {
        world.give(client, &request(denied));
        let said = world.take(client);
        assert!(
            said.starts_with("-NOPERM this user has no permissions"),
            "{denied}: {said}"
        );
    }
    world.give(client, &request("MULTI"));
    world.give(client, &request("SET other 1"));
    world.give(client, &request("EXEC"));
    let said = world.take(client);
    assert!(said.starts_with("+OK\r\n-NOPERM "), "{said}");
    assert!(said.contains("-EXECABORT "), "{said}");
    assert_eq!(world.up.len(), 0, "nothing was asked of anyone");
    world.give(client, &request("SET app:1 x"));
    world.server_says(0, b"+OK\r\n");
    world.server_says(0, b"+OK\r\n");
    assert_eq!(world.take(client), "+OK\r\n");
    world.assert_nothing_is_left();
}

#[test]
fn a_reload_asks_again_who_has_another_password() {
    let users = |password| {
        vec![
            account("app", Some(password), &["+@read"], "app:"),
            account("other", Some("o"), &["+@all"], ""),
        ]
    };
    let mut world = world(users("a"));
    let (app, other) = (world.client(), world.client());
    world.give(app, &request("AUTH app a"));
    world.give(other, &request("AUTH other o"));
    let settings = Arc::new(Pool {
        access: Access {
            users: Users::Own(users("b")),
            ..Access::default()
        },
        ..pool(1)
    });
    let setup = PoolSetup {
        subscribers: Arc::new(Subscribers::new(1)),
        ejector: Arc::new(Ejector::new(settings.clone(), world.now, 0)),
        settings,
        counters: Arc::new(PoolCounters::new(1)),
        connections: 1,
    };
    world.core.reload(vec![(setup, None)], world.now);
    world.take(app);
    world.take(other);
    world.give(app, &request("PING"));
    world.give(other, &request("PING"));
    assert!(world.take(app).starts_with("-NOAUTH "));
    assert_eq!(world.take(other), "+PONG\r\n");
}

#[test]
fn a_client_that_idles_is_let_go_unless_it_waits_for_something() {
    let mut world = World::new(Pool {
        access: Access {
            client_timeout: Some(Duration::from_secs(10)),
            ..Access::default()
        },
        ..pool(1)
    });
    let (idle, asking, waiting) = (world.client(), world.client(), world.client());
    world.give(waiting, &request("GET a"));
    world.later(Duration::from_secs(6));
    world.give(asking, &request("PING"));
    world.later(Duration::from_secs(6));
    assert_eq!(world.closed, [idle]);
    world.later(Duration::from_secs(6));
    assert_eq!(world.closed, [idle, asking]);
    world.server_says(0, b"$-1\r\n");
    assert_eq!(world.take(waiting), "$-1\r\n");
    world.later(Duration::from_secs(6));
    assert_eq!(world.closed, [idle, asking]);
    world.later(Duration::from_secs(6));
    assert_eq!(world.closed, [idle, asking, waiting]);
    assert_eq!(world.core.deadline(), None, "nobody is left to look at");
}

#[test]
fn a_large_request_is_judged_by_all_of_it() {
    let mut user = account("app", None, &["+@all"], "");
    user.user.name = "default".to_owned();
    user.user.keys[0].write = false;
    let mut world = world(vec![user]);
    let client = world.client();
    let words = "GET u8 0 ".repeat(10_000);
    world.give(client, &request(&format!("BITFIELD k {words}SET u8 0 1")));
    let said = world.take(client);
    assert!(said.starts_with("-NOPERM "), "{said}");
    assert!(world.connections.is_empty(), "nothing of it has left");
    world.give(client, &request("PING"));
    assert_eq!(world.take(client), "+PONG\r\n");
}
