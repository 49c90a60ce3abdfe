//! Which server of a pool holds a key.
//!
//! For pools that come from twemproxy the answer is twemproxy 0.5.0's, bit for bit: the hash of the key or of its tag
//! ([`hash`], [`tagged`]), the order of the servers ([`sort_servers`]), then ketama's ring or modula's list over the servers that
//! take part. New pools have XXH3 with rendezvous (docs/decisions/010-placement-of-new-pools.md). `random` has the same
//! distribution as there and not the same choices, whose seed was the time of its start.
//!
//! Who is alive is the caller's knowledge. A [`Placement`] is a value for one set of live servers: another set, another
//! placement. It allocates nothing when asked.

mod compare;
pub mod hash;
mod ketama;
mod modula;
mod order;
mod rendezvous;
mod slots;
mod tag;

pub use self::compare::moved_share;
pub use self::order::{compare_names, sort_servers};
pub use self::slots::{SLOTS, Slots, slot_of};
pub use self::tag::tagged;

use std::collections::BTreeSet;

use crate::settings::{Distribution, Hash, Pool};

/// Where the keys of one pool are while a certain set of its servers takes part.
#[derive(Debug, Clone)]
pub struct Placement {
    hash: Hash,
    tag: Option<[u8; 2]>,
    choice: Choice,
}

#[derive(Debug, Clone)]
enum Choice {
    /// Nobody lives.
    Nobody,
    /// A pool of one server: nothing is hashed.
    Only,
    Ketama(ketama::Ring),
    Modula(modula::List),
    Random(Box<[u32]>),
    Rendezvous(rendezvous::Draw),
    Slots(Slots),
}

impl Placement {
    /// The placement of `pool` over the servers for which `live` is true.
    ///
    /// `pool.servers` must be in the order of [`sort_servers`]. Servers that `live` is too short for do not take part.
    #[must_use]
    pub fn new(pool: &Pool, live: &[bool]) -> Self {
        let taking_part: Vec<(u32, &str, u32)> = (0..)
            .zip(&pool.servers)
            .zip(live)
            .filter(|(_, live)| **live)
            .map(|((index, server), _)| (index, server.name.as_str(), server.weight))
            .collect();
        let choice = if taking_part.is_empty() {
            Choice::Nobody
        } else if pool.servers.len() == 1 {
            Choice::Only
        } else {
            match pool.distribution {
                Distribution::Ketama => Choice::Ketama(ketama::Ring::new(&taking_part)),
                Distribution::Modula => Choice::Modula(modula::List::new(
                    taking_part
                        .iter()
                        .map(|&(index, _, weight)| (index, weight)),
                )),
                Distribution::Random => {
                    Choice::Random(taking_part.iter().map(|&(index, _, _)| index).collect())
                }
                Distribution::Rendezvous => {
                    Choice::Rendezvous(rendezvous::Draw::new(taking_part.iter().copied()))
                }
                // Before anything is known of a cluster all slots are at its first seat, which is nobody's.
                Distribution::Slots => Choice::Slots(Slots::all_at(0)),
            }
        };
        Self {
            hash: pool.hash,
            tag: pool.hash_tag,
            choice,
        }
    }

    /// By the slots of a cluster.
    #[must_use]
    pub fn by_slots(slots: Slots) -> Self {
        Self {
            hash: Hash::Crc16,
            tag: Some(*b"{}"),
            choice: Choice::Slots(slots),
        }
    }

    /// Puts one slot of a cluster elsewhere.
    pub(crate) fn put_slot(&mut self, slot: u16, place: u16) {
        if let Choice::Slots(slots) = &mut self.choice {
            slots.put((slot, slot), place);
        }
    }

    /// Of a cluster: where slots were, in `before`, that are elsewhere here.
    pub(crate) fn left_by(&self, before: &Self) -> BTreeSet<u32> {
        let slots = 0..SLOTS as u16;
        let left = slots.filter_map(|slot| {
            let place = before.place_of_slot(slot)?;
            (self.place_of_slot(slot) != Some(place)).then_some(place)
        });
        left.collect()
    }

    /// Where a slot of a cluster is.
    pub(crate) fn place_of_slot(&self, slot: u16) -> Option<u32> {
        match &self.choice {
            Choice::Slots(slots) => slots.place_of(slot).map(u32::from),
            _ => None,
        }
    }

    /// The index in the pool's servers of the one that holds `key`. None when no server takes part.
    ///
    /// `draw` is asked by `random` only, once for each key.
    #[must_use]
    #[inline]
    pub fn server_of(&self, key: &[u8], draw: impl FnOnce() -> u32) -> Option<usize> {
        let owner = match &self.choice {
            Choice::Nobody => None,
            Choice::Only => Some(0),
            Choice::Ketama(ring) => ring.owner((self.number_of(key) & 0xffff_ffff) as u32),
            Choice::Modula(list) => list.owner(self.number_of(key)),
            Choice::Random(live) => live.get(draw() as usize % live.len()).copied(),
            Choice::Rendezvous(draw) => draw.owner(self.number_of(key)),
            Choice::Slots(slots) => Some(slots.owner(key)),
        };
        owner.map(|index| index as usize)
    }

    #[inline]
    fn number_of(&self, key: &[u8]) -> u64 {
        let hashed = self.tag.map_or(key, |tag| tagged(key, tag));
        hash::number_of(self.hash, hashed)
    }
}

/// Why a pool's hash and distribution place badly together, for those pairs that do.
///
/// Such a pool is served as it is, because its data lies so; a new one should not begin with it.
#[must_use]
pub fn worth_a_warning(pool: &Pool) -> Option<&'static str> {
    if pool.servers.len() < 2 {
        return None;
    }
    match (pool.hash, pool.distribution) {
        (Hash::Fnv1a64, Distribution::Modula) => Some(
            "fnv1a_64 with modula spreads keys badly: twemproxy's multiplier of this hash is 435 = 3 x 5 x 29, so of three \
             equal servers one gets 97 % of key:0 to key:2999; a pool without data should take another hash",
        ),
        (Hash::Crc32, Distribution::Ketama) => Some(
            "crc32 with ketama puts nearly every key on one server: this hash has 15 bits, and all of them lie before the \
             ring's first points; a pool without data should take crc32a",
        ),
        _ => None,
    }
}

#[cfg(test)]
mod testing {
    use crate::settings::{Access, Address, Compat, Distribution, Hash, Pool, Server};

    /// A pool of these names and weights, in the order of placement, each at an address of its own.
    pub(super) fn pool(hash: Hash, distribution: Distribution, servers: &[(&str, u32)]) -> Pool {
        let mut servers: Vec<Server> = servers
            .iter()
            .map(|&(name, weight)| Server {
                name: name.to_owned(),
                address: Address::Tcp {
                    host: name.to_owned(),
                    port: 6379,
                },
                weight,
            })
            .collect();
        super::sort_servers(&mut servers);
        Pool {
            hash,
            distribution,
            keepalive: false,
            compat: Compat::Twemproxy,
            access: Access::by_password(),
            ..Pool::new(
                "test".to_owned(),
                Address::Tcp {
                    host: "127.0.0.1".to_owned(),
                    port: 22121,
                },
                servers,
            )
        }
    }
}
