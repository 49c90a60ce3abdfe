//! What a change of a pool would do to its data: the share of keys that another server would be asked for.

use super::Placement;
use crate::settings::{Address, Pool};

/// Keys asked for; the share is right within about a third of a percent.
const SAMPLES: u32 = 100_000;

/// The share of keys, from 0 to 1, that live at another address under `new` than under `old`, all servers alive.
///
/// Addresses are compared and not names: a server that was only renamed keeps its data, but its keys may go elsewhere.
/// The keys asked for are made here, always the same ones, in the shapes that people give them; what shares of real
/// keys have which shape nobody knows here. With `distribution: random` nearly everything counts as moved, as it is.
#[must_use]
pub fn moved_share(old: &Pool, new: &Pool) -> f64 {
    let (from, to) = (all_alive(old), all_alive(new));
    let mut draws = 0_u64;
    let moved = (0..SAMPLES)
        .filter(|&number| {
            let key = sample(number);
            let mut holder = |pool, placement| {
                draws += 1;
                address(pool, placement, &key, scattered(draws))
            };
            holder(old, &from) != holder(new, &to)
        })
        .count();
    moved as f64 / f64::from(SAMPLES)
}

fn all_alive(pool: &Pool) -> Placement {
    Placement::new(pool, &vec![true; pool.servers.len()])
}

fn address<'a>(
    pool: &'a Pool,
    placement: &Placement,
    key: &[u8],
    draw: u64,
) -> Option<&'a Address> {
    let server = placement.server_of(key, || (draw >> 33) as u32)?;
    Some(&pool.servers[server].address)
}

/// A key like those in use: counters behind a word, tags, bare numbers and random identifiers.
fn sample(number: u32) -> Vec<u8> {
    match number % 5 {
        0 => format!("key:{}", number / 5),
        1 => format!("user:{}:profile", 1000 + number / 5),
        2 => format!("{{{}}}:session", number / 5),
        3 => format!("{number}"),
        _ => format!("{:016x}", scattered(u64::from(number))),
    }
    .into_bytes()
}

/// SplitMix64, one step from `seed`.
fn scattered(seed: u64) -> u64 {
    let mut x = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::super::testing::pool;
    use super::*;
    use crate::settings::{Distribution, Hash};

    #[test]
    fn nothing_moves_without_a_change() {
        let three = pool(
            Hash::Fnv1a64,
            Distribution::Ketama,
            &[("a", 1), ("b", 1), ("c", 1)],
        );
        assert_eq!(moved_share(&three, &three), 0.0);
    }

    #[test]
    fn a_fourth_server_moves_a_quarter_by_rendezvous_and_three_by_modula() {
        let names = [("a", 1), ("b", 1), ("c", 1), ("d", 1)];
        for (hash, distribution, low, high) in [
            (Hash::Xxh3, Distribution::Rendezvous, 0.245, 0.255),
            (Hash::Md5, Distribution::Ketama, 0.20, 0.30),
            (Hash::Md5, Distribution::Modula, 0.74, 0.76),
            (Hash::Md5, Distribution::Random, 0.74, 0.76),
        ] {
            let three = pool(hash, distribution, &names[..3]);
            let four = pool(hash, distribution, &names);
            let share = moved_share(&three, &four);
            assert!((low..high).contains(&share), "{distribution:?}: {share}");
        }
    }

    #[test]
    fn a_new_address_under_an_old_name_moves_that_servers_keys() {
        let old = pool(Hash::Xxh3, Distribution::Rendezvous, &[("a", 1), ("b", 1)]);
        let mut new = old.clone();
        new.servers[1].address = Address::Tcp {
            host: "elsewhere".to_owned(),
            port: 6379,
        };
        let share = moved_share(&old, &new);
        assert!((0.49..0.51).contains(&share), "{share}");
    }
}
