use super::*;
use crate::testing::origin;

const VIP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 100));

fn daemon(host: &str, last: u8) -> Daemon {
    Daemon {
        host: host.to_owned(),
        at: SocketAddr::from(([10, 0, 0, last], 26379)),
    }
}

fn directory(address: Option<IpAddr>) -> Directory {
    let shown = Shown {
        name: "orders".to_owned(),
        address,
        server: SocketAddr::from(([10, 0, 0, 1], 6379)),
        down_after: Duration::from_secs(1),
    };
    Directory::new(&daemon("a", 1), vec![daemon("b", 2)], vec![shown], origin())
}

fn server(last: u8) -> Endpoint {
    Endpoint::new(format!("10.0.0.{last}"), 6379)
}

/// The pair with its primary on host 1, on host 2, or on neither.
fn topology(primary: Option<u8>, epoch: u64) -> Topology {
    let member = |last: u8| Member {
        at: server(last),
        run_id: format!("{last}").repeat(40),
        healthy: primary.is_some(),
        follows: primary.filter(|it| *it != last).map(server),
        link_up: primary.is_some_and(|it| it != last),
        offset: 1000,
        promotable: true,
    };
    Topology {
        alone: None,
        rank: Rank {
            epoch,
            ..Rank::default()
        },
        primary: primary.map(server),
        closing: false,
        servers: vec![member(1), member(2)],
        daemons: vec!["b".to_owned()],
        forks: Forks::Untold,
    }
}

fn ask(directory: &Directory, line: &str) -> Value {
    let words = line.split(' ').map(|word| word.as_bytes().to_vec());
    directory.answer(&Question::Sentinel(words.collect()), origin())
}

fn text(value: &Value) -> String {
    String::from_utf8_lossy(value.as_bytes().unwrap_or(b"?")).into_owned()
}

fn field(map: &Value, name: &str) -> String {
    let Value::Map(pairs) = map else {
        panic!("no map: {map:?}")
    };
    let found = pairs
        .iter()
        .find(|(key, _)| key.as_bytes() == Some(name.as_bytes()));
    found.map_or_else(|| format!("no {name}"), |(_, value)| text(value))
}

fn address(directory: &Directory) -> Option<String> {
    match ask(directory, "get-master-addr-by-name orders") {
        Value::Null => None,
        Value::Array(parts) => Some(parts.iter().map(text).collect::<Vec<_>>().join(" ")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_primary_is_named_while_there_is_one() {
    let mut directory = directory(None);
    assert_eq!(address(&directory), None, "nothing known yet");
    assert_eq!(
        ask(&directory, "get-master-addr-by-name nobody"),
        Value::Null
    );
    assert_eq!(
        directory.update("orders", topology(Some(1), 1), origin()),
        None
    );
    assert_eq!(address(&directory).as_deref(), Some("10.0.0.1 6379"));

    // Lost: a null, and the group is shown as down at its last address.
    assert_eq!(
        directory.update("orders", topology(None, 1), origin()),
        None
    );
    assert_eq!(address(&directory), None);
    let shown = ask(&directory, "master orders");
    assert_eq!(field(&shown, "flags"), "s_down,o_down,master,disconnected");
    assert_eq!(field(&shown, "ip"), "10.0.0.1");

    let event = directory.update("orders", topology(Some(2), 2), origin());
    let event = event.expect("another primary");
    assert_eq!(event.name, "+switch-master");
    assert_eq!(event.payload, "orders 10.0.0.1 6379 10.0.0.2 6379");
    assert_eq!(address(&directory).as_deref(), Some("10.0.0.2 6379"));
    assert_eq!(
        field(&ask(&directory, "master orders"), "config-epoch"),
        "2"
    );
}

#[test]
fn the_same_primary_again_is_no_switch() {
    let mut directory = directory(None);
    for primary in [Some(1), None, Some(1)] {
        let event = directory.update("orders", topology(primary, 1), origin());
        assert_eq!(event, None, "{primary:?}");
    }
    assert_eq!(
        directory.update("nobody", topology(Some(1), 1), origin()),
        None
    );
}

#[test]
fn with_an_address_of_its_own_the_group_keeps_it_and_still_tells_the_switch() {
    let mut directory = directory(Some(VIP));
    directory.update("orders", topology(Some(1), 1), origin());
    assert_eq!(address(&directory).as_deref(), Some("10.0.0.100 6379"));
    let event = directory.update("orders", topology(Some(2), 2), origin());
    assert_eq!(
        event.expect("another primary").payload,
        "orders 10.0.0.100 6379 10.0.0.100 6379"
    );
    // Replicas have their own addresses: nothing else leads to them.
    let Value::Array(replicas) = ask(&directory, "replicas orders") else {
        panic!("an array")
    };
    assert_eq!(replicas.len(), 1);
    assert_eq!(field(&replicas[0], "name"), "10.0.0.1:6379");
    assert_eq!(field(&replicas[0], "master-host"), "10.0.0.2");
    assert_eq!(field(&replicas[0], "flags"), "slave");
}

#[test]
fn both_daemons_name_each_other() {
    let mut here = directory(None);
    here.update("orders", topology(Some(1), 1), origin());
    let there = sentinel_id(&daemon("b", 2));
    assert_ne!(text(&ask(&here, "myid")), there.as_str());
    let Value::Array(sentinels) = ask(&here, "sentinels orders") else {
        panic!("an array")
    };
    assert_eq!(field(&sentinels[0], "runid"), there.as_str());
    assert_eq!(field(&sentinels[0], "ip"), "10.0.0.2");
    assert_eq!(
        text(&ask(&here, "ckquorum orders")),
        "OK 2 usable Sentinels. Quorum and failover authorization can be reached"
    );
    // Without the other daemon nobody could take over.
    let alone = Topology {
        daemons: Vec::new(),
        ..topology(Some(1), 1)
    };
    here.update("orders", alone, origin());
    let refused = ask(&here, "ckquorum orders");
    assert!(
        refused
            .as_error()
            .is_some_and(|it| it.starts_with(b"NOQUORUM")),
        "{refused:?}"
    );
}

#[test]
fn what_would_change_something_is_refused() {
    let mut directory = directory(None);
    directory.update("orders", topology(Some(1), 1), origin());
    let id = "0123456789abcdef0123456789abcdef01234567";
    for line in [
        "failover orders".to_owned(),
        "reset *".to_owned(),
        "remove orders".to_owned(),
        "set orders quorum 2".to_owned(),
        "monitor x 10.0.0.9 6379 1".to_owned(),
        "config set announce-port 1".to_owned(),
        "simulate-failure crash-after-election".to_owned(),
        format!("is-master-down-by-addr 10.0.0.1 6379 9 {id}"),
    ] {
        assert_eq!(ask(&directory, &line).as_error(), Some(REFUSED), "{line}");
    }
    let publish = Question::Publish {
        channel: b"__sentinel__:hello".to_vec(),
        message: b"x".to_vec(),
    };
    let answer = directory.answer(&publish, origin());
    assert_eq!(answer.as_error(), Some(REFUSED));
    assert_eq!(address(&directory).as_deref(), Some("10.0.0.1 6379"));
}
