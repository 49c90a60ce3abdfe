//! A `[[proxy]]` that changes in the file of a running daemon: its clients stay.

#![expect(
    clippy::unwrap_used,
    reason = "in a test a panic is the report, also in its helpers"
)]

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use tandem_lab::ns::{Host, Lab};
use tandem_lab::process::Process;
use tandem_lab::resp::{Connection, Reply};
use tandem_lab::server::{Persistence, Server, Settings};
use tandem_lab::{can_run_as_root, poll};

const BOUND: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);

/// Two pairs on one host, and a proxy that is said last.
fn write(host: &Host, proxy: &str) {
    let (address, dir) = (host.address(), host.dir().display());
    let group = |name: &str, first: u16| {
        let second = first + 1;
        format!(
            "[[group]]\nname = \"{name}\"\nservers = [\"{address}:{first}\", \"{address}:{second}\"]\nboot_wait = \"2s\"\n\n\
             [group.local]\n\n"
        )
    };
    let text = format!(
        "[host]\nid = \"one\"\naddress = \"{address}\"\nstate_dir = \"{dir}/state\"\n\n{}{}\
         [[proxy]]\nname = \"front\"\n{proxy}",
        group("a", 7001),
        group("b", 7003)
    );
    std::fs::write(host.dir().join("tandem.toml"), text).unwrap();
}

fn start_daemon(host: &Host) -> Process {
    let mut command = Command::new(tandem_lab::tandem_binary().unwrap());
    command.args(["run", "-c", "tandem.toml"]);
    host.spawn("tandem", &mut command).unwrap()
}

fn reload(host: &Host, more: &[&str]) -> anyhow::Result<String> {
    let program = tandem_lab::tandem_binary()?;
    let file = host.dir().join("tandem.toml").display().to_string();
    let words = [&["reload", "-c", &file][..], more].concat();
    host.run(&program.display().to_string(), &words)
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

#[test]
fn a_proxy_changes_under_its_clients() {
    if !can_run_as_root("a_proxy_changes_under_its_clients") {
        return;
    }
    let lab = Lab::builder().host("one", "10.0.0.1/24").build().unwrap();
    let host = lab.host("one");
    let servers = [7001, 7002, 7003, 7004].map(|port| {
        let settings = Settings {
            port,
            persistence: Persistence::Aof,
            extra: vec!["repl-diskless-sync-delay 0".to_owned()],
            ..Settings::default()
        };
        Server::start(host, &settings).unwrap()
    });
    for pair in servers.chunks_exact(2) {
        pair[1].replicate(Some(pair[0].address())).unwrap();
        pair[1].wait_until_synced(BOUND).unwrap();
    }
    write(host, "listen = \"0.0.0.0:6379\"\ngroups = [\"a\"]\n");
    let _daemon = start_daemon(host);
    let mut client = poll::until("the proxy to answer", BOUND, LOOK, || {
        let ask = || {
            let mut client = Connection::open(host, at(6379), BOUND)?;
            client.demand(&["SET", "key", "1"])?;
            anyhow::Ok(client)
        };
        Ok(ask().map_err(|error| format!("{error:#}")))
    })
    .unwrap();

    // A bound, and another port.
    write(
        host,
        "listen = \"0.0.0.0:6380\"\ngroups = [\"a\"]\nmax_key = \"1kb\"\nthreads = 7\n",
    );
    let said = reload(host, &[]).unwrap();
    assert!(said.contains("taken over, its clients stay"), "{said}");
    assert!(said.contains("proxy front: threads"), "{said}");
    assert_eq!(
        client.demand(&["GET", "key"]).unwrap().text().as_deref(),
        Some("1")
    );
    let long = "k".repeat(2000);
    let Reply::Error(refused) = client.call(&["MGET", "key", &long]).unwrap() else {
        panic!("it is let through")
    };
    assert!(refused.contains("max_key"), "{refused}");
    let mut new = Connection::open(host, at(6380), BOUND).unwrap();
    assert_eq!(
        new.demand(&["GET", "key"]).unwrap().text().as_deref(),
        Some("1")
    );
    poll::until("the old port to close", BOUND, LOOK, || {
        let closed = host.connect(at(6379), BOUND).is_err();
        Ok(if closed {
            Ok(())
        } else {
            Err("it is open".to_owned())
        })
    })
    .unwrap();

    // Another group: half of the keys would not be found.
    write(host, "listen = \"0.0.0.0:6380\"\ngroups = [\"a\", \"b\"]\n");
    let refused = reload(host, &[]).unwrap_err().to_string();
    assert!(refused.contains("% of the keys"), "{refused}");
    reload(host, &["--accept"]).unwrap();
    for number in 0..50 {
        let key = format!("new:{number}");
        client.demand(&["SET", &key, "x"]).unwrap();
    }
    let found = servers[2].connect().unwrap().demand(&["DBSIZE"]).unwrap();
    assert!(matches!(found, Reply::Integer(1..)), "{found:?}");

    // A primary that dies afterwards is followed. A replica that was synced without a disk is streamed to only once it has
    // said that it is there, which it does every second.
    poll::until("the replica to have it all", BOUND, LOOK, || {
        let keys = |server: &Server| server.connect()?.demand(&["DBSIZE"]);
        let [primary, replica] = [keys(&servers[0])?, keys(&servers[1])?];
        Ok(match primary == replica {
            true => Ok(()),
            false => Err(format!("{replica:?} of {primary:?}")),
        })
    })
    .unwrap();
    servers[0].process().kill();
    for number in 0..50 {
        let key = format!("new:{number}");
        assert_eq!(
            client.demand(&["GET", &key]).unwrap().text().as_deref(),
            Some("x")
        );
    }
}
