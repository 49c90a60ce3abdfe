#![allow(clippy::unwrap_used)] // A panic in a test is its report.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tandem_core::keeper::{Input, ServerEvent};
use tandem_core::statement::LastWords;
use tokio::sync::mpsc;

use super::super::group::Event;
use super::super::server::{Server, watch};
use super::*;
use crate::redis::client::Link;
use crate::redis::tests::server::{self, Pair, run, soon, until};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const DOWN_AFTER: Duration = Duration::from_millis(300);

async fn learn(streams: &Streams, link: &Link, towards: Towards) {
    let answer = link
        .pipeline(&[towards.command()], soon())
        .await
        .unwrap()
        .remove(0);
    streams.learn(towards, &answer);
}

fn downstream(streams: &Streams) -> Option<Vec<u16>> {
    let mut diag = SocketDiag::open().unwrap();
    let sockets = streams.downstream(&mut diag, HERE)?;
    Some(sockets.iter().map(|it| it.remote.port()).collect())
}

/// Breaks the stream and waits until there is another one.
async fn reconnect(pair: &Pair) {
    let syncs = server::stat(&pair.to_a, "sync_partial_ok").await;
    run(&pair.to_b, "CLIENT KILL TYPE master").await;
    until(&pair.to_a, "another sync", |info| {
        info.sync_partial_ok > syncs && info.replicas.iter().any(|it| it.is_online())
    })
    .await;
    until(&pair.to_b, "in step", |info| {
        info.master_link_up == Some(true)
    })
    .await;
}

#[tokio::test]
async fn both_ends_are_learnt_and_forgotten() {
    let pair = Pair::start().await;
    let streams = Streams::default();
    assert_eq!((streams.upstream(), downstream(&streams)), (None, None));
    learn(&streams, &pair.to_b, Towards::Primary).await;
    let up = streams.upstream().unwrap();
    assert_eq!(up.remote, pair.a.target().address);
    learn(&streams, &pair.to_a, Towards::Replicas).await;
    assert_eq!(downstream(&streams), Some(vec![up.local.port()]));
    let mut diag = SocketDiag::open().unwrap();
    let elsewhere = [127, 0, 0, 9].into();
    assert!(streams.downstream(&mut diag, elsewhere).is_none());
    streams.forget();
    assert_eq!((streams.upstream(), downstream(&streams)), (None, None));
}

#[tokio::test]
async fn a_replica_that_came_anew_makes_what_was_learnt_void() {
    let pair = Pair::start().await;
    let streams = Streams::default();
    learn(&streams, &pair.to_a, Towards::Replicas).await;
    let before = downstream(&streams).unwrap();
    reconnect(&pair).await;
    assert_eq!(downstream(&streams), None, "there is another one");
    learn(&streams, &pair.to_a, Towards::Replicas).await;
    assert_ne!(downstream(&streams).unwrap(), before);
}

/// Waits for something that the watch finds out by itself.
async fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let end = soon();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "never seen");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn watched(target: crate::redis::raw::Target) -> (Arc<Server>, mpsc::Receiver<Event>) {
    let server = Server::new(target);
    server.set_successor(HERE);
    let (events, seen) = mpsc::channel(1024);
    tokio::spawn(watch(server.clone(), DOWN_AFTER, events));
    (server, seen)
}

async fn last_words(seen: &mut mpsc::Receiver<Event>) -> Vec<LastWords> {
    let waiting = async {
        loop {
            let event = seen.recv().await.unwrap();
            if let Event::Input(Input::Server(ServerEvent::LastWords(words))) = event {
                return words;
            }
        }
    };
    tokio::time::timeout_at(soon().into(), waiting)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_dead_primary_names_the_stream_of_now() {
    let pair = Pair::start().await;
    let (a, mut seen) = watched(pair.a.target());
    let (b, _seen) = watched(pair.b.target());
    let first = eventually(|| b.streams.upstream()).await;
    let first = vec![first.local.port()];
    eventually(|| (downstream(&a.streams)? == first).then_some(())).await;
    reconnect(&pair).await;
    // INFO shows it on the primary. On the replica it may not, and nobody relies on that.
    let now = eventually(|| downstream(&a.streams).filter(|now| *now != first)).await;
    // Or it closes its end, and there is no stream any more that could be named.
    pair.b.signal(Signal::STOP);
    pair.a.signal(Signal::KILL);
    let words = last_words(&mut seen).await;
    let ports: Vec<u16> = words.iter().map(|it| it.port).collect();
    assert_eq!(ports, now, "this test's own connections are none of them");
    assert!(words[0].bytes > 0);
    eventually(|| downstream(&a.streams).is_none().then_some(())).await;
}
