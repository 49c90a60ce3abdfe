//! Resident memory for each idle connection: ten thousand clients that have written and read, all at the same time.
//!
//! The peak is the point: what a proxy then needs for a moment, some keep for ever.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::ensure;

use super::bed::{ANSWER_BOUND, Bed, Shards, VALUE_BYTES};
use super::{Contestant, Outcome};
use crate::poll;
use crate::proxy::{HAPROXY_CONNECTIONS, Program};
use crate::resp::{Connection, Reply, encode};
use crate::usage;

const CONNECTIONS: usize = 10_000;
/// Memory that has not changed for this long is what is kept.
const REST: Duration = Duration::from_millis(700);
const REST_BOUND: Duration = Duration::from_secs(20);

/// Measures a proxy that was started for this alone.
pub(super) fn measure(
    bed: &Bed,
    contestant: Contestant,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let proxy = bed.start_proxy(contestant, Shards::One)?;
    let pid = proxy.process().pid();
    let (to, many) = match proxy.program() {
        // Its limit, and its servers': it opens one connection to them for each of its clients.
        Program::Haproxy => (proxy.address(), HAPROXY_CONNECTIONS - 500),
        Program::Nutcracker | Program::Tandem => (proxy.address(), CONNECTIONS),
    };
    use_together(&mut connect(bed, to, 1)?)?;
    let before = rested(pid)?;
    let mut connections = connect(bed, to, many)?;
    use_together(&mut connections)?;
    let after = rested(pid)?;
    ensure!(
        usage::descriptors(pid)? >= many,
        "the proxy has fewer descriptors than clients"
    );
    outcome.connection_bytes = after.saturating_sub(before) as f64 / many as f64;
    outcome.note = format!("{many} connections, {before} bytes before, {after} after");
    Ok(())
}

fn connect(bed: &Bed, to: SocketAddr, many: usize) -> anyhow::Result<Vec<Connection>> {
    bed.host().enter(|| {
        (0..many)
            .map(|_| {
                let stream = TcpStream::connect_timeout(&to, ANSWER_BOUND)?;
                Ok(Connection::over(stream, ANSWER_BOUND)?)
            })
            .collect()
    })?
}

/// A SET and a GET on each of them, all at once.
fn use_together(connections: &mut [Connection]) -> anyhow::Result<()> {
    let value = "v".repeat(VALUE_BYTES);
    let mut both = encode(&["SET", "key:idle", &value]);
    both.extend(encode(&["GET", "key:idle"]));
    for connection in &mut *connections {
        connection.send(&both)?;
    }
    for connection in connections {
        let answers = [connection.read()?, connection.read()?];
        let due = [
            Reply::Simple("OK".to_owned()),
            Reply::Bulk(Some(value.clone().into_bytes())),
        ];
        ensure!(answers == due, "a connection was answered with {answers:?}");
    }
    Ok(())
}

/// Resident memory once it no longer changes.
fn rested(pid: u32) -> anyhow::Result<u64> {
    let mut last = None;
    poll::until("the proxy's memory to rest", REST_BOUND, REST, || {
        let now = usage::resident_bytes(pid)?;
        let rests = last.replace(now) == Some(now);
        Ok(if rests {
            Ok(now)
        } else {
            Err(format!("{now}"))
        })
    })
}
