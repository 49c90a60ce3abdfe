//! The reader of `nutcracker.yml` against the verdicts of nutcracker 0.5.0.
//!
//! `data/nutcracker/verdicts.tsv` holds what `nutcracker -t` answered for each file beside it; `tandem-lab` asks it again
//! where it is installed, and writes the table with `TANDEM_GOLDEN=write`.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;
use tandem_config::Severity;
use tandem_config::nutcracker::{Loaded, read};
use tandem_proxy::settings::{Address, Compat, Distribution, Ejection, Hash, Pool};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/nutcracker");

/// A resolver that needs no network: addresses as getaddrinfo(3) takes them, and one name.
fn resolve(host: &str, _: u16) -> Result<(), String> {
    let numeric = host.split('.').all(|part| part.parse::<u8>().is_ok());
    let known = numeric || host == "localhost" || host.parse::<std::net::Ipv6Addr>().is_ok();
    if known {
        Ok(())
    } else {
        Err("unknown".to_owned())
    }
}

fn corpus(name: &str) -> Loaded {
    let path = PathBuf::from(FOLDER).join(format!("{name}.yml"));
    read(name, &fs::read(path).unwrap(), &resolve)
}

fn text(text: &str) -> Loaded {
    read("n.yml", text.as_bytes(), &resolve)
}

/// The one pool of a file with these lines in it.
fn pool(lines: &str) -> (Pool, Vec<&'static str>) {
    let loaded = text(&format!(
        "a:\n  listen: 127.0.0.1:22121\n  redis: true\n{lines}  servers:\n   - h:1:1\n   - h:2:1\n"
    ));
    assert!(
        !loaded.report.has_errors(),
        "{}",
        loaded.report.render(false)
    );
    let codes = loaded
        .report
        .diagnostics
        .iter()
        .map(|found| found.code)
        .collect();
    let [pool] = &loaded.pools[..] else {
        panic!("one pool")
    };
    (pool.clone(), codes)
}

#[test]
fn verdicts_are_those_of_nutcracker() {
    let table = fs::read_to_string(format!("{FOLDER}/verdicts.tsv")).unwrap();
    let verdicts: BTreeMap<&str, &str> = table
        .lines()
        .map(|line| line.split_once('\t').unwrap())
        .collect();
    let mut files: Vec<String> = fs::read_dir(FOLDER)
        .unwrap()
        .filter_map(|entry| {
            entry
                .unwrap()
                .file_name()
                .into_string()
                .unwrap()
                .strip_suffix(".yml")
                .map(str::to_owned)
        })
        .collect();
    files.sort();
    assert!(files.len() >= 80, "{}", files.len());
    let mut wrong = Vec::new();
    for file in &files {
        let loaded = corpus(file);
        let code = if loaded.report.has_errors() { "1" } else { "0" };
        if verdicts.get(file.as_str()) != Some(&code) {
            wrong.push(format!(
                "{file}: nutcracker {:?}, here {code}\n{}",
                verdicts.get(file.as_str()),
                loaded.report.render(false)
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(
        verdicts.len(),
        files.len(),
        "the table has files that are not there"
    );
}

#[test]
fn every_error_says_where_and_what_would_be_right() {
    let mut errors = 0;
    for entry in fs::read_dir(FOLDER).unwrap() {
        let path = entry.unwrap().path();
        let Some(name) = path
            .file_name()
            .and_then(|name| name.to_str()?.strip_suffix(".yml"))
        else {
            continue;
        };
        for found in corpus(name).report.diagnostics {
            errors += usize::from(found.severity == Severity::Error);
            assert!(
                !found.labels.is_empty() && !found.help.is_empty(),
                "{name}: {found:?}"
            );
            assert!(!found.message.ends_with('.'), "{name}: {found:?}");
        }
    }
    assert!(errors > 100, "{errors}");
}

#[test]
fn all_errors_are_shown_at_once_with_their_places() {
    let loaded = text(
        "a:\n  listen: 127.0.0.1:0\n  redis: yes\n  timout: 400\n  hash: md5\n  hash: md5\n  servers:\n   - h:1:0\n   - h:2:1\na:\n  redis: true\n  timeout: 1s\n",
    );
    let found: Vec<(&str, usize, usize)> = loaded
        .report
        .entries()
        .iter()
        .filter(|entry| entry.severity == Severity::Error)
        .map(|entry| (entry.code, entry.places[0].line, entry.places[0].column))
        .collect();
    assert_eq!(
        found,
        [
            ("address", 2, 11),
            ("value", 3, 10),
            ("unknown-directive", 4, 3),
            ("duplicate", 6, 9),
            ("address", 8, 6),
            // The second pool: no list, the first one's name, no address.
            ("structure", 10, 1),
            ("duplicate", 10, 1),
            ("missing", 10, 1),
            ("value", 12, 12),
        ],
        "{}",
        loaded.report.render(false)
    );
    let text = loaded.report.render(false);
    assert!(
        text.contains("help: did you mean `timeout`?") && text.contains("help: write `true`"),
        "{text}"
    );
}

#[test]
fn defaults_are_those_of_twemproxy() {
    let (pool, codes) = pool("");
    assert!(codes.is_empty(), "{codes:?}");
    assert_eq!(
        pool.listen,
        Address::Tcp {
            host: "127.0.0.1".to_owned(),
            port: 22121
        }
    );
    assert_eq!(
        (pool.hash, pool.distribution, pool.hash_tag),
        (Hash::Fnv1a64, Distribution::Ketama, None)
    );
    assert_eq!(
        (pool.timeout, pool.backlog, pool.server_connections),
        (None, 512, 1)
    );
    assert_eq!(
        (pool.password, pool.database, pool.ejection),
        (None, 0, None)
    );
    assert_eq!(
        (pool.keepalive, pool.preconnect, pool.compat),
        (false, false, Compat::Twemproxy)
    );
}

#[test]
fn what_a_file_says_is_what_a_pool_gets() {
    let loaded = corpus("scenario");
    let [pool] = &loaded.pools[..] else {
        panic!("{:?}", loaded.pools)
    };
    assert_eq!(
        (pool.hash, pool.distribution, pool.hash_tag),
        (Hash::OneAtATime, Distribution::Modula, Some(*b"{}"))
    );
    assert_eq!(pool.timeout, Some(Duration::from_millis(400)));
    assert_eq!(
        pool.ejection,
        Some(Ejection {
            failure_limit: 1,
            retry_after: Duration::from_secs(2)
        })
    );
    let names: Vec<&str> = pool
        .servers
        .iter()
        .map(|server| server.name.as_str())
        .collect();
    assert_eq!(names, ["10.75.201.26:6379", "10.75.201.68:6379"]);
}

#[test]
fn pools_and_servers_are_in_the_order_of_their_names_by_length() {
    let names = |loaded: &Loaded| -> Vec<String> {
        loaded.pools[0]
            .servers
            .iter()
            .map(|server| server.name.clone())
            .collect()
    };
    assert_eq!(
        names(&corpus("servers-names-by-length")),
        ["b", "zz", "aaaa"]
    );
    let loaded = corpus("several-pools");
    let pools: Vec<&str> = loaded.pools.iter().map(|pool| pool.name.as_str()).collect();
    assert_eq!(pools, ["counters", "sessions"]);
    assert_eq!(names(&loaded), ["one", "two"]);
    let left: Vec<&str> = loaded
        .memcached
        .iter()
        .map(|left| left.pool.as_str())
        .collect();
    assert_eq!(left, ["cache"]);
}

#[test]
fn what_is_valid_and_not_meant_is_a_warning() {
    for (lines, code) in [
        ("  redis_auth: x\n  redis_db: 2\n", "auth-and-db"),
        ("  client_connections: 9\n", "not-used"),
        ("  auto_eject_hosts: true\n", "ejects-data"),
        ("  distribution: modula\n", "places-badly"),
        ("  hash: crc32\n", "places-badly"),
        ("  timeout: 4294967297\n", "taken-otherwise"),
    ] {
        assert_eq!(pool(lines).1, [code], "{lines}");
    }
    for lines in [
        "  redis_auth: x\n",
        "  redis_db: 2\n",
        "  redis_auth: x\n  redis_db: 0\n",
        "  auto_eject_hosts: false\n",
    ] {
        assert!(pool(lines).1.is_empty(), "{lines}");
    }
}

#[test]
fn values_that_twemproxy_takes_otherwise_are_taken_so() {
    assert_eq!(pool("  redis_auth: x\n  redis_db: 2\n").0.database, 0);
    assert_eq!(pool("  redis_db: 2\n").0.database, 2);
    assert_eq!(pool("  timeout: 0\n").0.timeout, None);
    assert_eq!(
        pool("  timeout: 4294967297\n").0.timeout,
        Some(Duration::from_millis(1))
    );
    assert_eq!(pool("  server_failure_limit: 9\n").0.ejection, None);
}

#[test]
fn a_memcached_pool_is_valid_and_not_among_those_to_run() {
    for file in ["memcached-by-default", "memcached-said"] {
        let loaded = corpus(file);
        assert!(
            !loaded.report.has_errors() && loaded.pools.is_empty(),
            "{file}"
        );
        assert_eq!(loaded.memcached.len(), 1, "{file}");
        let codes: Vec<&str> = loaded
            .report
            .diagnostics
            .iter()
            .map(|found| found.code)
            .collect();
        assert_eq!(codes, ["memcached-pool"], "{file}");
    }
}

proptest! {
    /// Whatever the bytes are: an answer, and pools only where there is no error about the whole file.
    #[test]
    fn any_bytes_get_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let loaded = read("n.yml", &bytes, &resolve);
        prop_assert!(loaded.report.has_errors());
        let _ = loaded.report.render(false);
    }

    /// Good files with a few characters replaced: no place lies outside of the file.
    #[test]
    fn places_lie_in_the_file(at in 0_usize..400, what in "[ \\t\\n:#\"'\\-\\[{&*!|>%@é0a]{0,3}", length in 0_usize..4) {
        let good = fs::read_to_string(format!("{FOLDER}/several-pools.yml")).unwrap();
        let mut chars: Vec<char> = good.chars().collect();
        let at = at.min(chars.len());
        let end = (at + length).min(chars.len());
        chars.splice(at..end, what.chars());
        let changed: String = chars.into_iter().collect();
        let loaded = text(&changed);
        for found in &loaded.report.diagnostics {
            for label in &found.labels {
                prop_assert!(label.span.end <= changed.len() + 1, "{:?}", found);
            }
        }
        let _ = loaded.report.render(false);
    }
}
