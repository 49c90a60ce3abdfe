//! What another file would do to the keys: the question behind `-t --diff` and SIGUSR1.
//!
//! A change of placement moves nothing by itself. It makes the proxy look for keys where they are not, silently, and two
//! proxies in front of the same servers never change at the same moment; so somebody has to have wanted it.

use std::fmt;

use tandem_proxy::placement::moved_share;
use tandem_proxy::settings::{Distribution, Pool};

/// A pool whose keys would be looked for elsewhere.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Move {
    pool: String,
    why: Why,
}

#[derive(Debug, Clone, PartialEq)]
enum Why {
    /// This share of them, above 0 and up to 1, would be asked of other servers.
    Placed(f64),
    /// All of them, in another database of the same servers.
    Database { old: u32, new: u32 },
    /// The pool is gone.
    Gone,
}

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pool {}: ", self.pool)?;
        match self.why {
            Why::Placed(share) => write!(
                f,
                "{:.1} % of the keys would be looked for on another server",
                (share * 100.0).max(0.1)
            ),
            Why::Database { old, new } => write!(
                f,
                "all keys would be looked for in database {new} instead of {old}"
            ),
            Why::Gone => f.write_str("it is no longer in the file, and its clients would lose it"),
        }
    }
}

/// Every pool of `old` whose keys `new` would look for elsewhere. A pool that is new has no keys yet.
pub(super) fn moves(old: &[Pool], new: &[Pool]) -> Vec<Move> {
    old.iter()
        .filter_map(|old| {
            let why = match new.iter().find(|new| new.name == old.name) {
                Some(new) => moved(old, new)?,
                None => Why::Gone,
            };
            Some(Move {
                pool: old.name.clone(),
                why,
            })
        })
        .collect()
}

fn moved(old: &Pool, new: &Pool) -> Option<Why> {
    if old.database != new.database {
        return Some(Why::Database {
            old: old.database,
            new: new.database,
        });
    }
    // By chance every server has every key, or none has: there is nothing that a change could make unfindable.
    let chance = [old, new].map(|pool| pool.distribution == Distribution::Random);
    if chance == [true, true] {
        return None;
    }
    Some(moved_share(old, new))
        .filter(|share| *share > 0.0)
        .map(Why::Placed)
}

#[cfg(test)]
mod tests {
    use tandem_config::nutcracker::read;

    use super::*;

    fn pools(text: &str) -> Vec<Pool> {
        let loaded = read("n.yml", text.as_bytes(), &|_, _| Ok(()));
        assert!(
            !loaded.report.has_errors(),
            "{}",
            loaded.report.render(false)
        );
        loaded.pools
    }

    fn pool(name: &str, more: &str, servers: &str) -> String {
        format!("{name}:\n  listen: 127.0.0.1:1{name}\n  redis: true\n{more}  servers:\n{servers}")
            .replace("1a", "11")
            .replace("1b", "12")
    }

    #[test]
    fn what_moves_is_said_and_what_does_not_is_not() {
        let (one, two) = ("   - h:1:1\n", "   - h:1:1\n   - h:2:1\n");
        for (old, new, said) in [
            (pool("a", "", two), pool("a", "  timeout: 400\n", two), ""),
            (pool("a", "", one), pool("a", "  hash: md5\n", one), ""),
            (
                pool("a", "", one),
                pool("a", "", "   - h:2:1\n"),
                "100.0 % of the keys",
            ),
            (
                pool("a", "", two),
                pool("a", "  redis_db: 2\n", two),
                "in database 2 instead of 0",
            ),
            (
                pool("a", "  distribution: random\n", two),
                pool("a", "  distribution: random\n", one),
                "",
            ),
            (
                pool("a", "", one),
                pool("b", "", one),
                "no longer in the file",
            ),
        ] {
            let moves = moves(&pools(&old), &pools(&new));
            let text: String = moves.iter().map(ToString::to_string).collect();
            assert_eq!(text.is_empty(), said.is_empty(), "{new}: {text}");
            assert!(text.contains(said), "{new}: {text}");
        }
    }

    #[test]
    fn a_third_server_takes_its_share() {
        let two = pools(&pool("a", "", "   - h:1:1\n   - h:2:1\n"));
        let three = pools(&pool("a", "", "   - h:1:1\n   - h:2:1\n   - h:3:1\n"));
        let [
            Move {
                why: Why::Placed(share),
                ..
            },
        ] = &moves(&two, &three)[..]
        else {
            panic!("one pool moves")
        };
        assert!((0.2..0.5).contains(share), "{share}");
    }
}
