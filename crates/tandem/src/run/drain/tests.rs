#![allow(clippy::unwrap_used)] // A panic in a test is its report.

use std::net::TcpStream;

use super::super::streams::Streams;
use super::*;
use crate::redis::tests::server::{Pair, ok, run, soon};

/// What the kernel of the primary's host says of a connection, given that of its other end: both hosts are this one here.
fn words(diag: &mut SocketDiag, ends: Ends) -> LastWords {
    let far = Ends {
        local: ends.remote,
        remote: ends.local,
    };
    let socket = diag.find(far).unwrap().unwrap();
    LastWords {
        port: ends.local.port(),
        bytes: socket.carried.unwrap().given,
    }
}

fn sight(pair: &Pair, upstream: Upstream) -> Sight {
    Sight {
        diag: SocketDiag::open().ok(),
        primary: Some(pair.a.target().address),
        upstream,
    }
}

async fn stream(pair: &Pair) -> Ends {
    ask(&pair.to_b, soon()).await.unwrap().1.unwrap()
}

#[tokio::test]
async fn the_stream_has_arrived_when_it_brought_what_was_named_and_is_read() {
    let pair = Pair::start().await;
    let mut diag = SocketDiag::open().unwrap();
    for index in 0..100 {
        ok(&pair.to_a, &format!("SET key:{index} {index}")).await;
    }
    let stream = stream(&pair).await;
    pair.settle().await;
    let named = words(&mut diag, stream);
    assert!(named.bytes > 1000, "{named:?}");
    let mut sight = sight(&pair, Upstream::Told(stream));
    assert!(sight.has_arrived(&[named]));
    assert!(!sight.has_arrived(&[]), "nothing to compare with");
    let more = LastWords {
        bytes: named.bytes + 1,
        ..named
    };
    assert!(!sight.has_arrived(&[more]), "a byte is under way");
    assert!(!sight.has_arrived(&[named, more]), "either may be it");
    let other = LastWords {
        port: named.port ^ 1,
        ..named
    };
    assert!(!sight.has_arrived(&[other]), "it was not named");
    assert!(sight.has_arrived(&[other, named]), "others do not matter");
    assert!(!sight.has_unread(&pair.a.target().address.to_string()));
    sight.primary = Some(pair.b.target().address);
    assert!(!sight.has_arrived(&[named]), "it reads from somebody else");
}

#[tokio::test]
async fn an_earlier_connection_proves_nothing_however_complete_it_is() {
    let pair = Pair::start().await;
    let mut diag = SocketDiag::open().unwrap();
    // As a stream of before whose end has not come to the primary's host: whole, read, and named.
    let earlier = TcpStream::connect(pair.a.target().address).unwrap();
    let earlier = Ends {
        local: earlier.local_addr().unwrap(),
        remote: earlier.peer_addr().unwrap(),
    };
    let named = words(&mut diag, earlier);
    let mut sight = sight(&pair, Upstream::Told(earlier));
    assert!(sight.has_arrived(&[named]));
    let (_, told) = ask(&pair.to_b, soon()).await.unwrap();
    assert!(!sight.is_confirmed(told), "the server reads from another");
    assert!(!sight.has_arrived(&[named]), "which was not named");
    let (_, told) = ask(&pair.to_b, soon()).await.unwrap();
    assert!(sight.is_confirmed(told));
}

#[tokio::test]
async fn a_reconnect_between_the_look_and_the_answer_is_seen() {
    let pair = Pair::start().await;
    let mut diag = SocketDiag::open().unwrap();
    let before = stream(&pair).await;
    pair.settle().await;
    let named = words(&mut diag, before);
    let mut sight = sight(&pair, Upstream::Told(before));
    assert!(sight.has_arrived(&[named]));
    run(&pair.to_b, "CLIENT KILL TYPE master").await;
    let after = loop {
        let (_, told) = ask(&pair.to_b, soon()).await.unwrap();
        assert!(!sight.is_confirmed(told) || told.is_none());
        if let Some(after) = told {
            break after;
        }
    };
    assert_ne!(before, after);
    assert!(!sight.has_arrived(&[named]));
    assert!(sight.has_arrived(&[words(&mut diag, after)]));
}

#[tokio::test]
async fn where_the_server_does_not_say_all_connections_must_be_accounted_for() {
    let rename = [("rename-command", "CLIENT \"\"")];
    let pair = Pair::with(&rename).await;
    let (_, told) = ask(&pair.to_b, soon()).await.unwrap();
    assert_eq!(told, None);
    pair.settle().await;
    let mut diag = SocketDiag::open().unwrap();
    let primary = pair.a.target().address;
    let ends = |socket: &TcpSocket| Ends {
        local: socket.local,
        remote: socket.remote,
    };
    let sockets = diag.list_to(primary, States::CONNECTED).unwrap();
    // The replica's and this test's own.
    assert!(sockets.len() >= 2, "{sockets:?}");
    let named: Vec<LastWords> = sockets
        .iter()
        .map(|socket| words(&mut diag, ends(socket)))
        .collect();
    let mut sight = sight(&pair, Upstream::Unasked);
    assert!(!sight.has_arrived(&named), "it may say");
    assert!(!sight.is_confirmed(None), "nothing was looked at");
    assert!(sight.has_arrived(&named));
    assert!(sight.is_confirmed(None));
    for without in 0..named.len() {
        let mut fewer = named.clone();
        fewer.remove(without);
        assert!(!sight.has_arrived(&fewer), "{without} may be the stream");
    }
}

/// A child that Redis 6.2 or 7.0 has forked to save keeps the connections that its parent closes meanwhile: for both kernels the old
/// stream is open and complete, with the same cookie and inode.
#[tokio::test]
async fn a_stream_that_only_a_forked_child_keeps_open_proves_nothing() {
    let settings = [
        ("rdb-key-save-delay", "100000"),
        ("repl-ping-replica-period", "3600"),
    ];
    let pair = Pair::with(&settings).await;
    for index in 0..20 {
        ok(&pair.to_a, &format!("SET key:{index} {index}")).await;
    }
    pair.settle().await;
    let (up, down) = (Streams::default(), Streams::default());
    for (streams, link, towards) in [
        (&up, &pair.to_b, Towards::Primary),
        (&down, &pair.to_a, Towards::Replicas),
    ] {
        let (_, answer) = ops::info_and(link, towards.command(), soon())
            .await
            .unwrap();
        streams.learn(towards, &answer);
    }
    run(&pair.to_b, "BGSAVE").await;
    run(&pair.to_b, "CLIENT KILL TYPE master").await;
    let before = up.upstream().unwrap();
    let after = loop {
        match ask(&pair.to_b, soon()).await.unwrap().1 {
            Some(after) if after != before => break after,
            Some(_) | None => tokio::time::sleep(DRAIN_LOOK).await,
        }
    };
    // The primary is killed before INFO has shown it: its host names what it has learnt.
    let mut diag = SocketDiag::open().unwrap();
    let primary = pair.a.target().address;
    let Some(named) = down.downstream(&mut diag, primary.ip()) else {
        println!("this server shuts down what it closes while it has a child");
        return;
    };
    let words: Vec<LastWords> = named
        .iter()
        .map(|socket| LastWords {
            port: socket.remote.port(),
            bytes: socket.carried.unwrap().given,
        })
        .collect();
    let ports: Vec<u16> = words.iter().map(|it| it.port).collect();
    assert_eq!(ports, [before.local.port()]);
    let mut sight = sight(&pair, Upstream::Told(before));
    assert!(sight.has_arrived(&words), "as far as the kernel knows");
    let (_, told) = ask(&pair.to_b, soon()).await.unwrap();
    assert_eq!(told, Some(after));
    assert!(!sight.is_confirmed(told));
    assert!(!sight.has_arrived(&words));
}
