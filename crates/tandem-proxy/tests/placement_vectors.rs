//! Placement against recorded truth: where nutcracker 0.5.0 put keys, and where new pools' keys were put when their
//! default was frozen (by a model in Python on another implementation of XXH3).

use tandem_proxy::placement::hash::{function, number_of};
use tandem_proxy::placement::{Placement, sort_servers, tagged};
use tandem_proxy::settings::{Access, Address, Compat, Distribution, Hash, Pool, Server};

const TWEMPROXY: &str = include_str!("data/twemproxy-vectors.tsv");
const RENDEZVOUS: &str = include_str!("data/rendezvous-vectors.tsv");

/// The pools of the tables: servers in the order of their file, and the hash tag.
fn servers_of(pool: &str) -> (Vec<(String, u32)>, Option<[u8; 2]>) {
    let of = |names: &[(&str, u32)]| {
        names
            .iter()
            .map(|&(name, weight)| (name.to_owned(), weight))
            .collect()
    };
    let three: Vec<(String, u32)> = of(&[("alpha", 1), ("beta", 1), ("gamma-longer", 1)]);
    let shards = |count: u32| (1..=count).map(|i| (format!("shard{i}"), 1)).collect();
    match pool {
        "p3" | "r3" => (three, None),
        "pt" | "rt" => (three, Some(*b"{}")),
        "pd" => (three, Some(*b"$$")),
        "p4w" | "r4w" => (
            of(&[("node-a", 1), ("node-b", 2), ("node-c", 3), ("node-d", 5)]),
            None,
        ),
        "pu" => (
            of(&[
                ("127.0.0.1:22101", 1),
                ("127.0.0.1:22102", 1),
                ("127.0.0.1:22103", 1),
            ]),
            None,
        ),
        "po" => (of(&[("zz", 1), ("b", 1), ("aaaa", 1)]), None),
        "rbig" => (of(&[("s1", 1), ("s2", 1_000_000), ("s3", u32::MAX)]), None),
        "p25" => (shards(25), None),
        "r64" => (shards(64), None),
        other => panic!("no pool {other}"),
    }
}

fn pool(name: &str, hash: Hash, distribution: Distribution) -> Pool {
    let address = |port| Address::Tcp {
        host: "127.0.0.1".to_owned(),
        port,
    };
    let (servers, hash_tag) = servers_of(name);
    let mut servers: Vec<Server> = servers
        .into_iter()
        .zip(22101..)
        .map(|((name, weight), port)| Server {
            name,
            address: address(port),
            weight,
        })
        .collect();
    sort_servers(&mut servers);
    Pool {
        hash,
        distribution,
        hash_tag,
        keepalive: false,
        compat: Compat::Twemproxy,
        access: Access::by_password(),
        ..Pool::new(name.to_owned(), address(22121), servers)
    }
}

fn hash(name: &str) -> Hash {
    match name {
        "one_at_a_time" => Hash::OneAtATime,
        "md5" => Hash::Md5,
        "crc16" => Hash::Crc16,
        "crc32" => Hash::Crc32,
        "crc32a" => Hash::Crc32a,
        "fnv1_64" => Hash::Fnv1_64,
        "fnv1a_64" => Hash::Fnv1a64,
        "fnv1_32" => Hash::Fnv1_32,
        "fnv1a_32" => Hash::Fnv1a32,
        "hsieh" => Hash::Hsieh,
        "murmur" => Hash::Murmur,
        "jenkins" => Hash::Jenkins,
        other => panic!("no hash {other}"),
    }
}

/// `%XX` for a byte outside the printable ones, and for `%` itself.
fn decoded(text: &str) -> Vec<u8> {
    let mut parts = text.split('%');
    let mut bytes = parts
        .next()
        .expect("split gives one part at least")
        .as_bytes()
        .to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).expect("two digits after %"));
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    bytes
}

fn holder<'a>(pool: &'a Pool, placement: &Placement, key: &[u8]) -> &'a str {
    let server = placement
        .server_of(key, || panic!("only `random` draws"))
        .expect("all servers live");
    &pool.servers[server].name
}

#[test]
fn every_row_of_twemproxys_table_comes_out() {
    let mut rows = 0;
    // Neighbouring rows have one pool: its ring is built once.
    let mut last: Option<(String, Pool, Placement)> = None;
    for row in TWEMPROXY.lines().skip(1) {
        let fields: Vec<&str> = row.split('\t').collect();
        let [hash_name, distribution, pool_name, key, number, server] = fields[..] else {
            panic!("{row}");
        };
        let key = decoded(key);
        rows += 1;
        if distribution == "-" {
            assert_eq!(function(hash(hash_name), &key).to_string(), number, "{row}");
            continue;
        }
        let named = format!("{hash_name} {distribution} {pool_name}");
        if last.as_ref().is_none_or(|(name, ..)| *name != named) {
            let distribution = match distribution {
                "ketama" => Distribution::Ketama,
                "modula" => Distribution::Modula,
                other => panic!("no distribution {other}"),
            };
            let pool = pool(pool_name, hash(hash_name), distribution);
            let placement = Placement::new(&pool, &vec![true; pool.servers.len()]);
            last = Some((named, pool, placement));
        }
        let (_, pool, placement) = last.as_ref().unwrap();
        let hashed = pool.hash_tag.map_or(&key[..], |tag| tagged(&key, tag));
        assert_eq!(number_of(pool.hash, hashed).to_string(), number, "{row}");
        assert_eq!(holder(pool, placement, &key), server, "{row}");
    }
    assert_eq!(rows, 5260);
}

#[test]
fn every_row_of_the_frozen_default_comes_out() {
    let mut rows = 0;
    for row in RENDEZVOUS.lines().skip(1) {
        let fields: Vec<&str> = row.split('\t').collect();
        let [pool_name, key, number, server] = fields[..] else {
            panic!("{row}");
        };
        let key = decoded(key);
        let pool = pool(pool_name, Hash::Xxh3, Distribution::Rendezvous);
        let placement = Placement::new(&pool, &vec![true; pool.servers.len()]);
        let hashed = pool.hash_tag.map_or(&key[..], |tag| tagged(&key, tag));
        assert_eq!(number_of(pool.hash, hashed).to_string(), number, "{row}");
        assert_eq!(holder(&pool, &placement, &key), server, "{row}");
        rows += 1;
    }
    assert_eq!(rows, 495);
}
