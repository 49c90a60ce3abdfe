//! May this replica's data become the primary's data? (Rule 5.)
//!
//! Only equality of the replication id proves that a replica ever completed a sync: a replica in
//! the middle of its first one reports a role, an offset and sometimes an idle link, and promoting
//! it gives an empty, writable primary (facts 9 and 10 of the measured Redis facts).

use crate::ids::{Offset, ReplId, RunId};
use crate::rules::Ruling;
use crate::server::ServerView;

/// What is remembered of the last time this server was seen in sync with its primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncProof {
    /// The local process that was in sync; a restarted one has forgotten.
    pub run_id: RunId,
    /// The lineage both had then.
    pub replid: ReplId,
}

/// What is known of the primary whose place is to be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastPrimary {
    /// Its lineage as last stated by its own daemon (or journaled).
    pub replid: ReplId,
    /// Its last known offset.
    pub offset: Offset,
}

/// Rule 5, one ruling for each condition.
///
/// `max_lag` is in bytes and measured against the primary's last known offset, never against
/// another replica. With no knowledge of the primary at all nothing is eligible.
pub fn eligible(
    server: Option<&ServerView>,
    proof: Option<&SyncProof>,
    last: Option<&LastPrimary>,
    max_lag: u64,
) -> Vec<Ruling> {
    let Some(server) = server else {
        return vec![Ruling::no(
            "eligible.server",
            "the local server does not answer",
        )];
    };
    let mut out = Vec::with_capacity(5);
    out.push(if server.loading {
        Ruling::no(
            "eligible.loading",
            "the local server is still loading its data",
        )
    } else {
        Ruling::yes("eligible.loading", "not loading")
    });
    let syncing = matches!(
        server.role,
        crate::server::ServerRole::Replica { syncing: true, .. }
    );
    out.push(if syncing {
        Ruling::no(
            "eligible.syncing",
            "a sync from the primary has not completed",
        )
    } else {
        Ruling::yes("eligible.syncing", "no sync under way")
    });
    let Some(last) = last else {
        out.push(Ruling::no(
            "eligible.lineage",
            "no primary's lineage was ever learnt",
        ));
        return out;
    };
    out.push(if server.replid == last.replid {
        Ruling::yes("eligible.lineage", format!("same lineage {}", last.replid))
    } else {
        Ruling::no(
            "eligible.lineage",
            format!(
                "holds lineage {}, the primary's was {}",
                server.replid, last.replid
            ),
        )
    });
    out.push(match proof {
        Some(p) if p.run_id == server.run_id && p.replid == last.replid => Ruling::yes(
            "eligible.sync-proof",
            "same process since its sync completed",
        ),
        Some(p) if p.run_id != server.run_id => Ruling::no(
            "eligible.sync-proof",
            format!(
                "restarted since its last completed sync (run {} then)",
                p.run_id
            ),
        ),
        Some(_) | None => Ruling::no(
            "eligible.sync-proof",
            "was never seen in sync with this primary",
        ),
    });
    let lag = last.offset.ahead_of(server.offset);
    out.push(if lag <= max_lag {
        Ruling::yes(
            "eligible.lag",
            format!("{lag} bytes behind, {max_lag} allowed"),
        )
    } else {
        Ruling::no(
            "eligible.lag",
            format!("{lag} bytes behind the primary's last known offset, {max_lag} allowed"),
        )
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{Says, obstacle, together};
    use crate::server::ServerRole;
    use crate::testing::replica_view;

    fn proof() -> SyncProof {
        SyncProof {
            run_id: RunId("r1".into()),
            replid: ReplId("L".into()),
        }
    }

    fn last(offset: u64) -> LastPrimary {
        LastPrimary {
            replid: ReplId("L".into()),
            offset: Offset(offset),
        }
    }

    #[test]
    fn each_condition_alone_forbids_and_names_itself() {
        let good = replica_view("r1", "L", 100);
        let mut loading = good.clone();
        loading.loading = true;
        let mut syncing = good.clone();
        syncing.role = ServerRole::Replica {
            of: "10.0.0.1:6379".into(),
            link_up: false,
            syncing: true,
        };
        let restarted = replica_view("r2", "L", 100);
        let foreign = replica_view("r1", "X", 100);
        let cases = [
            (Some(&good), Some(proof()), Some(last(100)), Says::Yes, None),
            (Some(&good), Some(proof()), Some(last(150)), Says::Yes, None),
            (
                Some(&good),
                Some(proof()),
                Some(last(151)),
                Says::No,
                Some("eligible.lag"),
            ),
            (
                Some(&loading),
                Some(proof()),
                Some(last(100)),
                Says::No,
                Some("eligible.loading"),
            ),
            (
                Some(&syncing),
                Some(proof()),
                Some(last(100)),
                Says::No,
                Some("eligible.syncing"),
            ),
            (
                Some(&restarted),
                Some(proof()),
                Some(last(1)),
                Says::No,
                Some("eligible.sync-proof"),
            ),
            (
                Some(&good),
                None,
                Some(last(100)),
                Says::No,
                Some("eligible.sync-proof"),
            ),
            (
                Some(&foreign),
                Some(proof()),
                Some(last(9)),
                Says::No,
                Some("eligible.lineage"),
            ),
            (
                Some(&good),
                Some(proof()),
                None,
                Says::No,
                Some("eligible.lineage"),
            ),
            (
                None,
                Some(proof()),
                Some(last(100)),
                Says::No,
                Some("eligible.server"),
            ),
        ];
        for (n, (server, proof, last, says, rule)) in cases.into_iter().enumerate() {
            let got = eligible(server, proof.as_ref(), last.as_ref(), 50);
            assert_eq!(together(&got), says, "case {n}: {got:?}");
            assert_eq!(obstacle(&got).map(|r| r.rule), rule, "case {n}");
        }
    }
}
