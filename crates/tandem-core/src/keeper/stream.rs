//! Whether the primary's stream reaches the peer's server, which is what a promise of failover rests on.
//!
//! After a sync without a disk Redis calls the replica online and still sends it nothing: the stream
//! waits in the primary's memory for an acknowledgement (`repl_start_cmd_stream_on_ack`), and what clients
//! are told meanwhile dies with that process. The replica acknowledges as soon as it has read the
//! snapshot, but as a rule before the primary has collected its child; that acknowledgement counts for
//! the offset in INFO and not for the stream, which then begins with the next one, a second later.
//! So neither a link that is up, nor `state=online`, nor an offset beside it says that anything flows.
//!
//! An acknowledgement that came after `online` was read does. It shows in one of two ways: the
//! offset has grown since, or nothing is written and the last one is younger than that reading. The
//! second is told by the server's own clock, so that a daemon that is late cannot be misled.

use crate::ids::{Offset, RunId};
use crate::server::{OnlineReplica, ServerRole, ServerView};

/// A replica acknowledges every second; whole seconds are rounded.
const ACK_AGE_S: u64 = 1;
/// One that has not for longer than this is not reached any more, whatever its link says.
const SILENT_S: u64 = 2;

/// The stream from the local server, while it is primary, to the peer's.
#[derive(Debug, Default)]
pub(super) struct Stream {
    watched: Option<Watched>,
}

#[derive(Debug)]
struct Watched {
    name: Name,
    /// What was acknowledged when the replica was first read as online.
    acked: Offset,
    /// The server's uptime then, seconds.
    uptime_s: u64,
    /// An acknowledgement came after that.
    proven: bool,
    /// The last one is young enough.
    fresh: bool,
}

/// One stream: another process, replica or sync means another one.
#[derive(Debug, PartialEq, Eq)]
struct Name {
    run_id: RunId,
    replica: String,
    syncs: u64,
}

impl Stream {
    /// Takes a reading of the local server. `peer` is the address of the other host's.
    pub(super) fn read(&mut self, view: &ServerView, peer: Option<&str>) {
        let replica = match view.role {
            ServerRole::Primary => of_peer(view, peer),
            ServerRole::Replica { .. } => None,
        };
        let Some(replica) = replica else {
            self.watched = None;
            return;
        };
        let name = Name {
            run_id: view.run_id.clone(),
            replica: replica.address.clone(),
            syncs: view.syncs,
        };
        match &mut self.watched {
            Some(watched) if watched.name == name => {
                let grown = replica.acked > watched.acked;
                let seconds = view.uptime_s.saturating_sub(watched.uptime_s);
                // In whole seconds: later than the second in which it was read as online at the latest.
                let younger = replica.lag_s <= ACK_AGE_S && seconds > ACK_AGE_S;
                watched.proven |= grown || younger;
                watched.fresh = replica.lag_s <= SILENT_S;
            }
            Some(_) | None => {
                self.watched = Some(Watched {
                    name,
                    acked: replica.acked,
                    uptime_s: view.uptime_s,
                    proven: false,
                    fresh: replica.lag_s <= SILENT_S,
                });
            }
        }
    }

    /// There is a replica that acknowledges, and the stream may yet turn out to reach it.
    pub(super) fn begins(&self) -> bool {
        self.watched
            .as_ref()
            .is_some_and(|watched| watched.fresh && !watched.proven)
    }

    /// The stream is known to reach the peer's server.
    pub(super) fn flows(&self) -> bool {
        self.watched
            .as_ref()
            .is_some_and(|watched| watched.proven && watched.fresh)
    }
}

/// The peer's server among the replicas. A lone one counts whatever it calls itself: it may announce
/// another address than the one that the daemons use.
fn of_peer<'a>(view: &'a ServerView, peer: Option<&str>) -> Option<&'a OnlineReplica> {
    let named = view
        .replicas
        .iter()
        .find(|r| Some(r.address.as_str()) == peer);
    named.or(match view.replicas.as_slice() {
        [lone] => Some(lone),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{primary_view, replica_view};

    const PEER: &str = "10.0.0.2:6379";

    /// What INFO said, in order: uptime, syncs so far, and the replica's offset and lag if it is online.
    type Reading = (u64, u64, Option<(u64, u64)>);

    fn flows(readings: &[Reading]) -> bool {
        let mut stream = Stream::default();
        for (uptime_s, syncs, online) in readings {
            let mut view = primary_view("p", "L", 5000);
            view.uptime_s = *uptime_s;
            view.syncs = *syncs;
            view.replicas = online
                .iter()
                .map(|(acked, lag_s)| OnlineReplica {
                    address: PEER.to_owned(),
                    acked: Offset(*acked),
                    lag_s: *lag_s,
                })
                .collect();
            stream.read(&view, Some(PEER));
        }
        stream.flows()
    }

    #[test]
    fn what_shows_that_the_stream_flows() {
        let cases: [(&str, &[Reading], bool); 10] = [
            ("no replica", &[(10, 0, None)], false),
            (
                "online, nothing acknowledged",
                &[(10, 1, Some((0, 0)))],
                false,
            ),
            (
                "an acknowledgement from before it was online",
                &[
                    (10, 1, None),
                    (10, 1, Some((900, 0))),
                    (11, 1, Some((900, 1))),
                ],
                false,
            ),
            (
                "the first one after it was online",
                &[(10, 1, Some((0, 0))), (10, 1, Some((900, 0)))],
                true,
            ),
            (
                "bytes of the stream",
                &[(10, 1, Some((900, 0))), (12, 1, Some((1700, 0)))],
                true,
            ),
            (
                "nothing written, one that is younger than online",
                &[(10, 1, Some((900, 0))), (12, 1, Some((900, 1)))],
                true,
            ),
            (
                "nothing written, a replica that has fallen silent",
                &[(10, 1, Some((900, 0))), (14, 1, Some((900, 4)))],
                false,
            ),
            (
                "a replica that has fallen silent since",
                &[
                    (10, 1, Some((0, 0))),
                    (10, 1, Some((900, 0))),
                    (14, 1, Some((900, 3))),
                ],
                false,
            ),
            (
                "another sync in between, unseen",
                &[(10, 1, Some((900, 0))), (12, 2, Some((1700, 0)))],
                false,
            ),
            (
                "gone since",
                &[
                    (10, 1, Some((0, 0))),
                    (10, 1, Some((900, 0))),
                    (11, 1, None),
                ],
                false,
            ),
        ];
        for (what, readings, expected) in cases {
            assert_eq!(flows(readings), expected, "{what}");
        }
    }

    #[test]
    fn the_peers_replica_is_the_one_that_counts() {
        let replica = |address: &str, acked| OnlineReplica {
            address: address.to_owned(),
            acked: Offset(acked),
            lag_s: 0,
        };
        let mut stream = Stream::default();
        let mut view = primary_view("p", "L", 5000);
        for acked in [0, 900] {
            view.replicas = vec![replica("10.0.0.3:6379", acked), replica(PEER, 0)];
            stream.read(&view, Some(PEER));
        }
        assert!(
            !stream.flows(),
            "a third server's acknowledgements are its own"
        );
        for acked in [0, 900] {
            view.replicas = vec![replica("192.0.2.9:6379", acked)];
            stream.read(&view, Some(PEER));
        }
        assert!(
            stream.flows(),
            "a lone replica may announce another address"
        );
        stream.read(&replica_view("p", "L", 5000), Some(PEER));
        assert!(!stream.flows(), "a replica streams to nobody of ours");
    }
}
