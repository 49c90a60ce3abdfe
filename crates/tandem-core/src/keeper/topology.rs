//! Which server of the pair is the primary, as this host knows it: for clients that ask for it.
//!
//! Both hosts apply the same rule to the same two statements, so they answer alike as soon as they have heard each other:
//! of the hosts whose server may accept writes by right, the one of the newest epoch. Between a release and the
//! promotion that follows it there is none, and none is told: a client that is told a dead address waits for a
//! time-out there, one that is told nothing asks again.
//!
//! A primary that hands its role over is told as closing from the first moment on, so that proxies stop asking it
//! before its writes are paused; see [`Step::Quiesce`](super::Step::Quiesce).
//!
//! What is told may be of a lower rank than what was told before: a newer epoch was the other host's, which is cut off again, or has
//! forgotten it, or has lost the verdict. No word is late here, so the proxies of this host obey the last one.

use std::time::Instant;

use crate::health::Health;
use crate::ids::Epoch;
use crate::keeper::Keeper;
use crate::server::{ServerRole, ServerView};
use crate::statement::{Fork, PhaseName, Statement, Turn};
use crate::topology::{Forks, Member, Rank, Topology, endpoint};

impl Keeper {
    /// The pair's servers and its primary as of now.
    #[must_use]
    pub fn topology(&self, now: Instant) -> Topology {
        let peer = self.live_peer(now);
        let phase = self.phase.name();
        let address = self.settings.server_address.as_str();
        let own = phase
            .holds_primary()
            .then_some((&self.journal.data_epoch, address, phase));
        let other = peer
            .filter(|peer| peer.phase.holds_primary())
            .map(|peer| (&peer.epoch, peer.server_address.as_str(), peer.phase));
        // Epochs of two promotions differ in any case; see `Epoch`.
        let primary = own
            .into_iter()
            .chain(other)
            .max_by_key(|(epoch, ..)| *epoch);
        let fork = match (&primary, peer) {
            (Some((epoch, address, _)), Some(peer)) if *address == peer.server_address => {
                peer.fork.as_ref().filter(|fork| fork.epoch == **epoch)
            }
            (Some(_), _) => {
                let newest = self.journal.forks.last();
                newest.filter(|fork| fork.epoch == self.journal.data_epoch)
            }
            (None, _) => None,
        };
        let is_own = primary.is_some_and(|(_, at, _)| at == address);
        let mut servers: Vec<Member> = self.own_member(now).into_iter().collect();
        servers.extend(self.peer_member(peer));
        Topology {
            rank: match &primary {
                Some((epoch, ..)) => self.rank_in(epoch),
                None => self.newest_rank(),
            },
            primary: primary.and_then(|(_, address, _)| endpoint(address)),
            closing: primary.is_some_and(|(_, _, phase)| phase == PhaseName::HandingOver),
            servers,
            daemons: peer.map(|peer| peer.host.0.clone()).into_iter().collect(),
            forks: forks(fork),
            alone: self.going_alone(now).filter(|_| is_own),
        }
    }

    /// Counts this host's phases in the newest epoch in which it is, or was, the primary.
    pub(super) fn own_turn(&self) -> Option<Turn> {
        let of = self.journal.data_epoch.clone();
        (of.host == self.settings.host).then_some(Turn {
            of,
            number: self.turn,
        })
    }

    /// The rank that a change of this host's phase will have while it is the primary.
    pub(super) fn next_rank(&self) -> Rank {
        Rank::of(&self.journal.data_epoch, self.turn + 1)
    }

    /// The turns that are known: this host's own, and the other one's as it told them last.
    fn turns(&self) -> impl Iterator<Item = Turn> {
        let heard = self.peer.statement.as_ref();
        let theirs = heard.and_then(|peer| peer.turn.clone());
        self.own_turn().into_iter().chain(theirs)
    }

    fn rank_in(&self, epoch: &Epoch) -> Rank {
        let turn = self.turns().find(|turn| turn.of == *epoch);
        Rank::of(epoch, turn.map_or(0, |turn| turn.number))
    }

    /// That of the newest primary there was.
    fn newest_rank(&self) -> Rank {
        let ranks = self.turns().map(|turn| Rank::of(&turn.of, turn.number));
        ranks.max().unwrap_or_default()
    }

    fn own_member(&self, now: Instant) -> Option<Member> {
        let at = endpoint(&self.settings.server_address)?;
        let healthy = match self.health(now) {
            Health::Fine | Health::Busy | Health::Sick => true,
            Health::Unknown
            | Health::Loading
            | Health::Unmanageable
            | Health::Silent(_)
            | Health::Dead(_) => false,
        };
        let known = Member {
            healthy,
            ..Member::unknown(at)
        };
        Some(described(known, self.server()))
    }

    /// The other host's server: as its daemon says, or, where that is silent, as far as the address is known.
    fn peer_member(&self, live: Option<&Statement>) -> Option<Member> {
        match live {
            Some(peer) => {
                let known = Member {
                    healthy: peer.healthy,
                    ..Member::unknown(endpoint(&peer.server_address)?)
                };
                Some(described(known, peer.server.as_ref()))
            }
            None => {
                let heard = self
                    .peer
                    .statement
                    .as_ref()
                    .map(|peer| &peer.server_address);
                let address = heard.or(self.peer.server_address.as_ref())?;
                Some(Member::unknown(endpoint(address)?))
            }
        }
    }
}

fn forks(fork: Option<&Fork>) -> Forks {
    match fork {
        Some(fork) if fork.ended => Forks::At {
            parent: fork.parent.clone(),
            offset: fork.offset,
            whole: fork.whole,
        },
        Some(_) | None => Forks::None,
    }
}

fn described(known: Member, view: Option<&ServerView>) -> Member {
    let Some(view) = view else {
        return known;
    };
    let (follows, link_up) = match &view.role {
        ServerRole::Primary => (None, false),
        ServerRole::Replica { of, link_up, .. } => (endpoint(of), *link_up),
    };
    Member {
        run_id: view.run_id.0.clone(),
        follows,
        link_up,
        offset: view.offset.0,
        ..known
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{HostId, Offset, ReplId};
    use crate::keeper::testing::keeper;
    use crate::keeper::{Input, PeerEvent};
    use crate::sentinel::Endpoint;

    const STATEMENT: &[u8] = include_bytes!("../../tests/corpus/statement/good-replica");

    fn said(phase: PhaseName, counter: u64) -> Input {
        let statement = Statement {
            group: "g".to_owned(),
            host: HostId::new("a"),
            server_address: "10.0.0.1:6379".to_owned(),
            phase,
            epoch: Epoch {
                counter,
                host: HostId::new("a"),
            },
            ..Statement::decode(STATEMENT).expect("the corpus is good")
        };
        Input::Peer(PeerEvent::Heard(Box::new(statement)))
    }

    #[test]
    fn the_peer_s_word_names_the_primary_while_it_is_heard() {
        let start = crate::testing::origin();
        let mut keeper = keeper(start);
        assert_eq!(keeper.topology(start).primary, None);
        keeper.handle(said(PhaseName::Primary, 7), start);
        let told = keeper.topology(start);
        assert_eq!(told.primary, Some(Endpoint::new("10.0.0.1", 6379)));
        assert_eq!((told.rank.epoch, told.daemons), (7, vec!["a".to_owned()]));
        let addresses: Vec<String> = told.servers.iter().map(|it| it.at.name()).collect();
        assert_eq!(addresses, ["10.0.0.2:6379", "10.0.0.1:6379"]);
        // Silent for as long as VRRP waits: its word counts no more, its address is still known.
        let later = start + keeper.settings.master_down;
        let told = keeper.topology(later);
        assert_eq!(told.primary, None);
        assert!(told.daemons.is_empty());
        assert_eq!(told.servers.len(), 2);
    }

    #[test]
    fn the_fork_of_the_primary_s_own_promotion_is_told_if_the_older_history_is_over() {
        let start = crate::testing::origin();
        for (counter, ended, told) in [(7, true, true), (7, false, false), (6, true, false)] {
            let Input::Peer(PeerEvent::Heard(mut statement)) = said(PhaseName::Primary, 7) else {
                unreachable!()
            };
            let (parent, offset) = (ReplId("p".repeat(40)), Offset(4711));
            statement.fork = Some(Fork {
                epoch: Epoch {
                    counter,
                    host: HostId::new("a"),
                },
                parent: parent.clone(),
                offset,
                lineage: ReplId("l".repeat(40)),
                ended,
                whole: ended,
            });
            let mut keeper = keeper(start);
            keeper.handle(Input::Peer(PeerEvent::Heard(statement)), start);
            let expected = if told {
                Forks::At {
                    parent,
                    offset,
                    whole: true,
                }
            } else {
                Forks::None
            };
            assert_eq!(keeper.topology(start).forks, expected);
        }
    }

    #[test]
    fn one_that_steps_back_is_no_primary() {
        let start = crate::testing::origin();
        for phase in [
            PhaseName::Released,
            PhaseName::Rejoining,
            PhaseName::TakingOver,
        ] {
            let mut keeper = keeper(start);
            keeper.handle(said(phase, 7), start);
            assert_eq!(keeper.topology(start).primary, None, "{phase:?}");
        }
    }
}
