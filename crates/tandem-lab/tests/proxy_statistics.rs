//! The same requests leave the same statistics in nutcracker and in `tandem proxy`, field by field: collectors of the one
//! read the other.

#![allow(clippy::unwrap_used)] // A panic in a test is its report.

mod proxy_common;

use std::collections::BTreeMap;

use serde_json::Value;
use tandem_lab::proxy::Program;
use tandem_lab::{can_run, poll, skip};

use proxy_common::{BOUND, EVERY, Rig};

/// Fields that differ by their nature: who it is, and when; and the one that nutcracker declares and never counts.
const OWN: [&str; 6] = [
    "service",
    "source",
    "version",
    "uptime",
    "timestamp",
    "lab.fragments",
];
/// How many single-key requests of each kind are made.
const EACH: usize = 20;

#[test]
fn the_same_requests_leave_the_same_statistics() {
    let test = "the_same_requests_leave_the_same_statistics";
    if !can_run(test) {
        return;
    }
    let mut all = Vec::new();
    for program in Program::SHARDING {
        if let Err(reason) = program.find() {
            skip(test, &format!("{reason:#}"));
            return;
        }
        all.push(statistics(program));
    }
    assert_eq!(all[0], all[1], "nutcracker's on the left");
}

/// Keys of both servers: the placement of keys that differ only at their end is nearly the same.
fn key(number: usize) -> String {
    format!("{number}:key")
}

/// The statistics after some requests, flat: `lab.127.0.0.1:7001.requests` for example.
fn statistics(program: Program) -> BTreeMap<String, Value> {
    let rig = Rig::start(program, &[]);
    let mut client = rig.client();
    for number in 0..EACH {
        let key = key(number);
        client.demand(&["SET", &key, "value"]).unwrap();
        client.demand(&["GET", &key]).unwrap();
        client
            .demand(&["INCR", &format!("{number}:count")])
            .unwrap();
    }
    let keys: Vec<String> = (0..EACH).map(key).collect();
    for name in ["MGET", "DEL"] {
        let command: Vec<&str> = std::iter::once(name)
            .chain(keys.iter().map(String::as_str))
            .collect();
        client.demand(&command).unwrap();
    }
    client.demand(&["PING"]).unwrap();
    // Three single-key requests of each kind, and what the two split ones were split into.
    let due = 3 * EACH as u64 + 4;
    poll::until("all requests in the statistics", BOUND, EVERY, || {
        let flat = flat(&rig.proxy.statistics()?);
        let counted: u64 = flat
            .iter()
            .filter(|(name, _)| name.ends_with(".responses"))
            .filter_map(|(_, value)| value.as_u64())
            .sum();
        Ok(if counted == due {
            Ok(flat)
        } else {
            Err(format!("{counted} of {due}: {flat:?}"))
        })
    })
    .unwrap()
}

fn flat(told: &Value) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    let mut open = vec![(String::new(), told)];
    while let Some((name, value)) = open.pop() {
        match value {
            Value::Object(fields) => open.extend(fields.iter().map(|(field, value)| {
                let dot = if name.is_empty() { "" } else { "." };
                (format!("{name}{dot}{field}"), value)
            })),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_) => {
                if !OWN.contains(&name.as_str()) {
                    found.insert(name, value.clone());
                }
            }
        }
    }
    found
}
