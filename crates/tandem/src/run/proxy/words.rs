//! From words on groups, as their keepers and daemons give them, to what a proxy's threads go by.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use tandem_config::settings::{self as config, ShardAt};
use tandem_core::sentinel::Endpoint;
use tandem_core::topology::{Forks as Left, Member, Topology as Word};
use tandem_proxy::server::Running;
use tandem_proxy::settings::{Address, Server};
use tandem_proxy::topology::{
    Fork, Forks, GoingAlone, Group, Lease, Phase, Rank, Replica, Topology,
};

use super::super::directory::{Told, Words};
use crate::linux::clock::boot_time;

/// The newest word on a group.
pub(super) fn newest<'w>(here: &'w Words, there: &'w Words) -> impl Fn(&str) -> Option<Word> + 'w {
    |name| Told::topology_of(here, name).or_else(|| Told::topology_of(there, name))
}

/// Gives the threads a word on every shard.
pub(super) fn tell(
    running: &Running,
    proxy: &str,
    shards: &[config::Shard],
    word: &dyn Fn(&str) -> Option<Word>,
) {
    if shards.is_empty() {
        // It stands before a cluster, which is told by maps.
        return;
    }
    let topology = topology(shards, word);
    running.follow(proxy, Arc::new(topology));
}

/// A word on every shard, as threads get it.
pub(super) fn topology(shards: &[config::Shard], word: &dyn Fn(&str) -> Option<Word>) -> Topology {
    let groups = shards.iter().map(|shard| match &shard.at {
        ShardAt::Server { server } => Group {
            rank: Rank::default(),
            phase: Phase::Serving {
                primary: tcp(*server),
            },
            lease: Lease::Fixed,
            alone: None,
            replicas: Vec::new(),
            forks: Forks::Untold,
        },
        ShardAt::Socket { socket } => Group {
            rank: Rank::default(),
            phase: Phase::Serving {
                primary: unix(socket),
            },
            lease: Lease::Fixed,
            alone: None,
            replicas: Vec::new(),
            forks: Forks::Untold,
        },
        ShardAt::Here | ShardAt::Daemons { .. } => group(word(&shard.name).as_ref()),
    });
    Topology {
        groups: groups.collect(),
    }
}

pub(super) fn tcp(at: SocketAddr) -> Address {
    Address::Tcp {
        host: at.ip().to_string(),
        port: at.port(),
    }
}

fn unix(path: &Path) -> Address {
    Address::Unix {
        path: path.to_owned(),
        mode: None,
    }
}

/// A shard as placement knows it: by its name alone, whoever is its primary.
pub(super) fn server(shard: &config::Shard) -> Server {
    let address = match &shard.at {
        ShardAt::Server { server } => tcp(*server),
        ShardAt::Socket { socket } => unix(socket),
        // Replaced by the first snapshot, before any client is served.
        ShardAt::Here | ShardAt::Daemons { .. } => Address::Tcp {
            host: shard.name.clone(),
            port: 0,
        },
    };
    Server {
        name: shard.name.clone(),
        address,
        weight: 1,
    }
}

fn group(word: Option<&Word>) -> Group {
    let at = |at: &Endpoint| Address::Tcp {
        host: at.host.clone(),
        port: at.port,
    };
    Group {
        rank: word.map_or_else(Rank::default, |word| Rank {
            epoch: word.rank.epoch,
            host: word.rank.host.0.as_str().into(),
            turn: word.rank.turn,
        }),
        lease: Lease::Open,
        phase: match word.and_then(|word| word.primary.as_ref()) {
            Some(_) if word.is_some_and(|word| word.closing) => Phase::Closing,
            Some(primary) => Phase::Serving {
                primary: at(primary),
            },
            None => Phase::None,
        },
        alone: word.and_then(|word| word.alone.as_ref()).and_then(|word| {
            // The clock that goes on while the host sleeps, and read first: it runs out there no later than where it was given.
            let boot = boot_time();
            let left = word.until.checked_duration_since(Instant::now())?;
            Some(GoingAlone {
                until: boot + left,
                history: word.history.0.clone(),
            })
        }),
        replicas: word.map_or_else(Vec::new, replicas),
        forks: match word.map(|word| &word.forks) {
            Some(Left::At {
                parent,
                offset,
                whole,
            }) => Forks::At(Fork {
                parent: parent.0.clone(),
                offset: offset.0,
                whole: *whole,
            }),
            Some(Left::None) => Forks::None,
            Some(Left::Untold) | None => Forks::Untold,
        },
    }
}

/// The servers of a group without its primary, in the order of their addresses: words of two daemons then say the same.
fn replicas(word: &Word) -> Vec<Replica> {
    let is_primary = |member: &&Member| Some(&member.at) == word.primary.as_ref();
    let mut members: Vec<&Member> = word.servers.iter().filter(|it| !is_primary(it)).collect();
    members.sort_by(|left, right| left.at.cmp(&right.at));
    let replica = |member: &Member| Replica {
        address: Address::Tcp {
            host: member.at.host.clone(),
            port: member.at.port,
        },
        promotable: member.promotable,
        // Whom it follows is not compared: the primary may be told by the group's VIP. Its history is, by samples.
        link_up: member.link_up,
    };
    members.into_iter().map(replica).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn core_rank(epoch: u64) -> tandem_core::topology::Rank {
        tandem_core::topology::Rank {
            epoch,
            ..Default::default()
        }
    }

    #[test]
    fn a_word_without_a_primary_holds_requests() {
        let mut word = Word {
            rank: core_rank(7),
            ..Word::default()
        };
        let held = Group {
            rank: Rank::of(7),
            phase: Phase::None,
            lease: Lease::Open,
            alone: None,
            replicas: Vec::new(),
            forks: Forks::Untold,
        };
        assert_eq!(group(Some(&word)), held);
        assert_eq!(group(None).phase, Phase::None);
        word.primary = Some(Endpoint::new("10.0.0.2", 6379));
        let primary = tcp(([10, 0, 0, 2], 6379).into());
        assert_eq!(group(Some(&word)).phase, Phase::Serving { primary });
        word.closing = true;
        assert_eq!(group(Some(&word)).phase, Phase::Closing);
        assert_eq!(group(Some(&word)).alone, None);
        let left = Duration::from_secs(60);
        let alone = |until: Instant| tandem_core::topology::GoingAlone {
            until,
            history: tandem_core::ids::ReplId("a".repeat(40)),
        };
        word.alone = Some(alone(Instant::now() + left));
        let told = group(Some(&word)).alone.unwrap();
        assert!(told.until <= boot_time() + left && told.until > boot_time());
        assert_eq!(told.history, "a".repeat(40));
        word.alone = Instant::now().checked_sub(left).map(alone);
        assert_eq!(group(Some(&word)).alone, None, "it is over");
    }

    #[test]
    fn whoever_is_not_the_primary_is_a_replica_in_the_order_of_addresses() {
        let at = |last: u8| Endpoint::new(format!("10.0.0.{last}"), 6379);
        let member = |last: u8, link_up: bool| Member {
            link_up,
            ..Member::unknown(at(last))
        };
        let word = Word {
            rank: core_rank(7),
            primary: Some(at(2)),
            servers: vec![member(3, true), Member::unknown(at(2)), member(1, false)],
            daemons: Vec::new(),
            ..Word::default()
        };
        let seen: Vec<(Address, bool)> = group(Some(&word))
            .replicas
            .into_iter()
            .map(|replica| (replica.address, replica.link_up))
            .collect();
        let tcp = |last: u8| tcp(([10, 0, 0, last], 6379).into());
        assert_eq!(seen, [(tcp(1), false), (tcp(3), true)]);
    }
}
