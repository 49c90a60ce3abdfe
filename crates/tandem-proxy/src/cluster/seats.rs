//! Which place each shard of a cluster has among the servers of a pool.
//!
//! A shard keeps its seat while any of its nodes is known there, whoever of them is its primary. Shards with slots choose
//! first, so that what failed and lost its slots does not keep the seat from those who have them now.

use super::view::{Node, Shard, View};
use crate::placement::Slots;
use crate::settings::{Address, Distribution, Hash, Pool, Server};
use crate::topology::{Forks, Group, Lease, Phase, Rank, Topology};

/// Shards that a cluster may have behind one pool.
pub const SHARDS: usize = 128;

/// The place of slots that no shard has.
pub const NOWHERE: u16 = 0;

/// The cluster as the threads of a pool go by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Map {
    /// Of each seat.
    pub topology: Topology,
    /// The seat of each slot.
    pub slots: Slots,
    /// Grows whenever a slot is elsewhere than before.
    pub version: u64,
}

/// The seats of one cluster.
#[derive(Debug)]
pub struct Seats {
    /// From seat 1 on.
    seats: Vec<Option<Seat>>,
    map: Map,
    /// Of the last change of any seat.
    epoch: u64,
    /// Shards that found no seat the last time.
    left_out: usize,
}

#[derive(Debug)]
struct Seat {
    nodes: Vec<Node>,
    primary: Address,
    epoch: u64,
}

/// Whether a seat may be that of a shard.
type Wish = fn(&Seat, &Shard) -> bool;

impl Default for Seats {
    fn default() -> Self {
        Self::new()
    }
}

impl Seats {
    /// Nobody sits anywhere.
    #[must_use]
    pub fn new() -> Self {
        let mut seats = Vec::new();
        seats.resize_with(SHARDS, || None);
        Self {
            map: map(&seats, Slots::all_at(NOWHERE), 0),
            seats,
            epoch: 0,
            left_out: 0,
        }
    }

    /// What the threads should know now.
    #[must_use]
    pub fn map(&self) -> &Map {
        &self.map
    }

    /// Shards of the last view for which there was no seat.
    #[must_use]
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// Takes a newer view. Whether anything is other than before.
    pub fn take(&mut self, view: &View) -> bool {
        let chosen = self.choose(view);
        self.left_out = chosen.iter().filter(|seat| seat.is_none()).count();
        let mut slots = Slots::all_at(NOWHERE);
        let mut changed = false;
        for at in 0..self.seats.len() {
            let shard = chosen.iter().position(|&seat| seat == Some(at));
            let shard = shard.map(|shard| &view.shards[shard]);
            let before = self.seats[at].as_ref().map(|seat| &seat.primary);
            let moved = before != shard.map(|shard| &shard.primary.at);
            if moved {
                self.epoch += 1;
                changed = true;
            }
            self.seats[at] = shard.map(|shard| Seat {
                nodes: shard.nodes().cloned().collect(),
                primary: shard.primary.at.clone(),
                epoch: match &self.seats[at] {
                    Some(seat) if !moved => seat.epoch,
                    Some(_) | None => self.epoch,
                },
            });
            for &range in shard.map_or(&[][..], |shard| &shard.slots) {
                slots.put(range, (at + 1) as u16);
            }
        }
        let version = self.map.version + u64::from(slots != self.map.slots);
        changed |= version != self.map.version;
        if changed {
            let mut next = map(&self.seats, slots, version);
            // A seat that is nobody's any more says so later than all that was said of it.
            for (group, before) in next
                .topology
                .groups
                .iter_mut()
                .zip(&self.map.topology.groups)
            {
                if group.phase == Phase::None {
                    group.rank.epoch = if before.phase == Phase::None {
                        before.rank.epoch
                    } else {
                        self.epoch
                    };
                }
            }
            self.map = next;
        }
        changed
    }

    /// Of each shard of a view, its place in `seats`.
    fn choose(&self, view: &View) -> Vec<Option<usize>> {
        let mut chosen = vec![None; view.shards.len()];
        let mut taken = vec![false; self.seats.len()];
        for with_slots in [true, false] {
            let theirs = |shard: &&Shard| shard.slots.is_empty() != with_slots;
            let wishes: [Wish; 2] = [
                |seat, shard| {
                    seat.nodes
                        .first()
                        .is_some_and(|first| same(first, &shard.primary))
                },
                |seat, shard| {
                    shard
                        .nodes()
                        .any(|node| seat.nodes.iter().any(|it| same(it, node)))
                },
            ];
            for wish in wishes {
                for (at, shard) in view.shards.iter().enumerate() {
                    if !theirs(&shard) || chosen[at].is_some() {
                        continue;
                    }
                    let fits = |(place, seat): (usize, &Option<Seat>)| {
                        let seat = seat.as_ref()?;
                        (!taken[place] && wish(seat, shard)).then_some(place)
                    };
                    let seat = self.seats.iter().enumerate().find_map(fits);
                    if let Some(seat) = seat {
                        taken[seat] = true;
                        chosen[at] = Some(seat);
                    }
                }
            }
        }
        for with_slots in [true, false] {
            for (at, shard) in view.shards.iter().enumerate() {
                if chosen[at].is_some() || shard.slots.is_empty() == with_slots {
                    continue;
                }
                // One that is nobody's is better than one that was somebody's until now: less is left behind there.
                let free = |wanted: bool| {
                    (0..taken.len()).find(|&at| !taken[at] && self.seats[at].is_none() == wanted)
                };
                if let Some(seat) = free(true).or_else(|| free(false)) {
                    taken[seat] = true;
                    chosen[at] = Some(seat);
                }
            }
        }
        chosen
    }
}

/// Whether both are one node: by name, or by place where a name is not known.
fn same(left: &Node, right: &Node) -> bool {
    if left.id.is_empty() || right.id.is_empty() {
        left.at == right.at
    } else {
        left.id == right.id
    }
}

fn map(seats: &[Option<Seat>], slots: Slots, version: u64) -> Map {
    let group = |seat: Option<&Seat>| Group {
        rank: Rank::of(seat.map_or(0, |seat| seat.epoch)),
        phase: match seat {
            Some(seat) => Phase::Serving {
                primary: seat.primary.clone(),
            },
            None => Phase::None,
        },
        lease: Lease::Members,
        alone: None,
        replicas: Vec::new(),
        forks: Forks::Untold,
    };
    let nowhere = std::iter::once(group(None));
    let groups = nowhere.chain(seats.iter().map(|seat| group(seat.as_ref())));
    Map {
        topology: Topology {
            groups: groups.collect(),
        },
        slots,
        version,
    }
}

/// A pool whose servers are the seats of a cluster; everything that is not about servers is as by default.
#[must_use]
pub fn pool(name: String, listen: Address) -> Pool {
    let seat = |number: usize| Server {
        name: format!("shard-{number}"),
        // Replaced by the first map.
        address: Address::Tcp {
            host: String::new(),
            port: 0,
        },
        weight: 1,
    };
    Pool {
        hash: Hash::Crc16,
        distribution: Distribution::Slots,
        hash_tag: Some(*b"{}"),
        ..Pool::new(name, listen, (0..=SHARDS).map(seat).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: &str, port: u16) -> Node {
        Node {
            id: id.to_owned(),
            at: at(port),
        }
    }

    fn at(port: u16) -> Address {
        Address::Tcp {
            host: "10.0.0.1".to_owned(),
            port,
        }
    }

    fn shard(nodes: &[(&str, u16)], slots: &[(u16, u16)]) -> Shard {
        let mut nodes = nodes.iter().map(|&(id, port)| node(id, port));
        Shard {
            primary: nodes.next().unwrap(),
            replicas: nodes.collect(),
            slots: slots.to_vec(),
        }
    }

    fn take(seats: &mut Seats, shards: Vec<Shard>) -> bool {
        seats.take(&View { shards })
    }

    fn primary(seats: &Seats, seat: usize) -> Option<Address> {
        match &seats.map().topology.groups[seat].phase {
            Phase::Serving { primary } => Some(primary.clone()),
            Phase::Closing | Phase::None => None,
        }
    }

    fn two() -> Vec<Shard> {
        vec![
            shard(&[("a", 1), ("c", 3)], &[(0, 8191)]),
            shard(&[("b", 2), ("d", 4)], &[(8192, 16383)]),
        ]
    }

    #[test]
    fn a_failover_keeps_the_seat_and_changes_its_primary_alone() {
        let mut seats = Seats::new();
        assert!(take(&mut seats, two()));
        assert!(!take(&mut seats, two()), "nothing new");
        let before = seats.map().clone();
        // The old primary is still listed, without slots; later it is a replica.
        let failed_over = || shard(&[("c", 3)], &[(0, 8191)]);
        let b = two().remove(1);
        assert!(take(
            &mut seats,
            vec![shard(&[("a", 1)], &[]), b.clone(), failed_over()]
        ));
        assert_eq!(primary(&seats, 1), Some(at(3)));
        assert_eq!(
            primary(&seats, 3),
            Some(at(1)),
            "it may be given slots again"
        );
        assert!(take(
            &mut seats,
            vec![b, shard(&[("c", 3), ("a", 1)], &[(0, 8191)])]
        ));
        let after = seats.map();
        assert_eq!(after.slots, before.slots);
        assert_eq!(after.version, before.version);
        assert_eq!(after.topology.groups[2], before.topology.groups[2]);
        assert!(after.topology.groups[1].rank > before.topology.groups[1].rank);
        assert_eq!(primary(&seats, 3), None);
    }

    #[test]
    fn a_slot_that_moves_changes_the_table_and_no_group() {
        let mut seats = Seats::new();
        take(&mut seats, two());
        let before = seats.map().clone();
        let moved = vec![
            shard(&[("b", 2), ("d", 4)], &[(0, 0), (8192, 16383)]),
            shard(&[("a", 1), ("c", 3)], &[(1, 8191)]),
        ];
        assert!(take(&mut seats, moved));
        assert_eq!(seats.map().topology, before.topology);
        assert_eq!(seats.map().version, before.version + 1);
        assert_eq!(seats.map().slots.place_of(0), Some(2));
        assert_eq!(seats.map().slots.place_of(1), Some(1));
    }

    #[test]
    fn shards_come_and_go_beside_the_others() {
        let mut seats = Seats::new();
        take(&mut seats, two());
        let mut three = two();
        three.insert(0, shard(&[("n", 9)], &[]));
        take(&mut seats, three);
        assert_eq!(primary(&seats, 3), Some(at(9)));
        let ranks = |seats: &Seats| seats.map().topology.groups[3].rank.clone();
        let before = ranks(&seats);
        take(&mut seats, two());
        assert_eq!(primary(&seats, 3), None);
        assert!(ranks(&seats) > before, "what is nobody's is newer");
        let gone = ranks(&seats);
        take(&mut seats, vec![two().remove(0)]);
        assert_eq!(seats.map().slots.place_of(9000), Some(NOWHERE));
        assert_eq!(ranks(&seats), gone);
        let mut again = two();
        again.push(shard(&[("m", 8)], &[]));
        take(&mut seats, again);
        assert!(ranks(&seats) >= gone);
    }

    #[test]
    fn who_has_no_name_is_known_by_its_place() {
        let mut seats = Seats::new();
        let mut view = View { shards: two() };
        view.add_stranger(&at(9));
        view.add_stranger(&at(4));
        assert_eq!(view.shards.len(), 3, "a replica is no stranger");
        seats.take(&view);
        assert_eq!(primary(&seats, 3), Some(at(9)));
        let mut named = two();
        named.push(shard(&[("n", 9)], &[(5, 6)]));
        take(&mut seats, named);
        assert_eq!(seats.map().slots.place_of(5), Some(3));
    }

    #[test]
    fn more_shards_than_seats_are_said() {
        let mut seats = Seats::new();
        let shards = (0..=SHARDS as u16).map(|number| {
            let id = number.to_string();
            shard(&[(&id, number + 1)], &[(number, number)])
        });
        take(&mut seats, shards.collect());
        assert_eq!(seats.left_out(), 1);
        assert_eq!(seats.map().slots.place_of(SHARDS as u16), Some(NOWHERE));
    }
}
