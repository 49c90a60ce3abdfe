//! What the fuzz targets do with bytes; the corpus is replayed through the same functions by an ordinary test.

#![allow(dead_code, reason = "each target uses one of them")]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use tandem_proxy::core::{Core, How, Order, Peer, PoolSetup, Side};
use tandem_proxy::ejection::Ejector;
use tandem_proxy::frame::{Fed, Limits, ReplyError, RequestError, Scan, Scanner};
use tandem_proxy::settings::{Address, Distribution, Hash, Pool, Server};
use tandem_proxy::statistics::PoolCounters;
use tandem_proxy::subscribers::Subscribers;

/// A request is found alike whole and in pieces, and its tail ends where it ends.
pub(crate) fn request(data: &[u8]) {
    let Some((&size, bytes)) = data.split_first() else {
        return;
    };
    if bytes.first() != Some(&b'*') {
        return;
    }
    let mut scan = Scan::default();
    let whole = scan.advance(bytes, &Limits::CLIENT);
    let mut pieces = Scan::default();
    let mut found: Result<Option<usize>, RequestError> = Ok(None);
    for end in (1..=bytes.len())
        .step_by(usize::from(size).max(1))
        .chain([bytes.len()])
    {
        found = pieces.advance(&bytes[..end], &Limits::CLIENT);
        if found != Ok(None) {
            break;
        }
    }
    assert_eq!(whole, found);
    let Ok(Some(len)) = whole else { return };
    let request = scan.request(&bytes[..len]);
    let arguments = request.arguments().count();
    assert!(arguments == request.count() || len == 5 && bytes.starts_with(b"*-1"));
    let mut begun = Scan::default();
    let half = len / 2;
    if half > 0
        && begun.advance(&bytes[..half], &Limits::CLIENT) == Ok(None)
        && let Some((mut tail, at)) = begun.tail()
    {
        let rest = tail.advance(&bytes[at..], &Limits::CLIENT);
        assert_eq!(rest.map(|rest| at + rest), Ok(len));
        assert!(tail.is_over());
    }
}

/// Replies end at the same places whole and in pieces.
pub(crate) fn reply(data: &[u8]) {
    let Some((&size, bytes)) = data.split_first() else {
        return;
    };
    let whole = ends([bytes].into_iter());
    let pieces = ends(bytes.chunks(usize::from(size).max(1)));
    assert_eq!(whole, pieces);
}

fn ends<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<usize>, Option<ReplyError>) {
    let mut scanner = Scanner::new();
    let (mut found, mut before) = (Vec::new(), 0);
    for piece in pieces {
        let mut at = 0;
        while at < piece.len() {
            match scanner.feed(&piece[at..]) {
                Ok(Fed::End(len)) => {
                    at += len;
                    found.push(before + at);
                }
                Ok(Fed::More) => break,
                Err(error) => return (found, Some(error)),
            }
        }
        before += piece.len();
    }
    (found, None)
}

fn address(port: u16) -> Address {
    Address::Tcp {
        host: "127.0.0.1".to_owned(),
        port,
    }
}

fn pool() -> Pool {
    let server = |port| Server {
        name: format!("s{port}"),
        address: address(port),
        weight: 1,
    };
    Pool {
        hash: Hash::Murmur,
        distribution: Distribution::Ketama,
        keepalive: false,
        ..Pool::new("fuzz".to_owned(), address(1), vec![server(2), server(3)])
    }
}

/// Whatever a client says, in pieces, to a proxy whose servers answer every request with `+OK`: it stays whole, another
/// client is served beside it, and what is kept has a bound.
pub(crate) fn client(data: &[u8]) {
    let Some((&size, bytes)) = data.split_first() else {
        return;
    };
    let now = Instant::now();
    let settings = Arc::new(pool());
    let setup = PoolSetup {
        ejector: Arc::new(Ejector::new(settings.clone(), now, 0)),
        counters: Arc::new(PoolCounters::of(&settings, None)),
        subscribers: Arc::new(Subscribers::new(settings.servers.len())),
        connections: 1,
        settings,
    };
    let mut core = Core::new(vec![setup], 1, 0, 1, now);
    let mut got = HashMap::new();
    let (Some(one), Some(other)) = (core.accepted(0, now), core.accepted(0, now)) else {
        panic!("clients are welcome");
    };
    for piece in bytes.chunks(usize::from(size).max(1)) {
        if !give(&mut core, one, piece, now) {
            break;
        }
        turn(&mut core, &mut got, now);
    }
    give(&mut core, other, b"PING\r\n", now);
    turn(&mut core, &mut got, now);
    assert_eq!(got.get(&other).map(Vec::as_slice), Some(&b"+PONG\r\n"[..]));
    core.closed(one, How::Reset, now);
    turn(&mut core, &mut got, now);
    assert_eq!(core.clients(), 1);
}

fn give(core: &mut Core, peer: Peer, bytes: &[u8], now: Instant) -> bool {
    let space = core.recv_space(peer);
    if space.len() < bytes.len() {
        return false;
    }
    space[..bytes.len()].copy_from_slice(bytes);
    core.received(peer, bytes.len(), now);
    true
}

/// Sends, answers and obeys until nothing is left to do.
fn turn(core: &mut Core, got: &mut HashMap<Peer, Vec<u8>>, now: Instant) {
    loop {
        while let Some(peer) = core.next_dirty() {
            let bytes = core.pending(peer).concat();
            if bytes.is_empty() {
                continue;
            }
            core.sent(peer, bytes.len());
            let all = got.entry(peer).or_default();
            all.extend_from_slice(&bytes);
            if peer.side() == Side::Lane {
                let mut replies = Vec::new();
                while let Some(len) = Scan::default()
                    .advance(all, &Limits::CLIENT)
                    .ok()
                    .flatten()
                    .filter(|_| !all.is_empty())
                {
                    all.drain(..len);
                    replies.extend_from_slice(b"+OK\r\n");
                }
                for some in replies.chunks(4096) {
                    give(core, peer, some, now);
                }
            }
        }
        match core.next_order() {
            Some(Order::Connect(peer)) => core.connected(peer, now),
            Some(Order::Close(peer)) => drop(got.remove(&peer)),
            Some(
                Order::Resume(_)
                | Order::ReadHistory(_)
                | Order::Quiesced(..)
                | Order::Remap(_)
                | Order::Confirm,
            ) => {}
            None => return,
        }
    }
}
