//! The numbers as text: twemproxy's JSON object, and Prometheus' lines.

use std::fmt::Write as _;

use serde_json::Value;
use tandem_proxy::statistics::PoolStatistics;

use super::catalogue::{Field, Kind, POOL, SERVER};

/// Which program the object claims to come from: collectors look for these words.
pub(super) const SERVICE: &str = "nutcracker";
/// The version whose ways are kept.
pub(super) const VERSION: &str = "0.5.0";

/// What the object says besides the pools.
#[derive(Debug, Clone)]
pub(super) struct Moment {
    /// This host's name.
    pub(super) source: String,
    pub(super) uptime_s: u64,
    /// Of the Unix epoch.
    pub(super) timestamp_s: i64,
}

/// twemproxy's object: one line, its keys in twemproxy's order, pools and servers in the order of placement.
pub(super) fn object(moment: &Moment, pools: &[PoolStatistics]) -> String {
    let (total, current) = connections(pools);
    let mut text = format!(
        "{{\"service\":{}, \"source\":{}, \"version\":{}, \"uptime\":{}, \"timestamp\":{}, \"total_connections\":{total}, \"curr_connections\":{current}",
        quoted(SERVICE),
        quoted(&moment.source),
        quoted(VERSION),
        moment.uptime_s,
        moment.timestamp_s,
    );
    for pool in pools {
        open(&mut text, &pool.name, &POOL, pool);
        for server in &pool.servers {
            open(&mut text, &server.name, &SERVER, server);
            text.push('}');
        }
        text.push('}');
    }
    text.push_str("}\n");
    text
}

/// Of all kinds, as twemproxy counts them: one for each listening address too.
fn connections(pools: &[PoolStatistics]) -> (u64, u64) {
    let (mut total, mut current) = (0, 0);
    for pool in pools {
        let servers = pool.servers.iter();
        let now: u64 = servers
            .clone()
            .map(|server| server.server_connections)
            .sum();
        let ended: u64 = servers
            .map(|server| server.server_eof + server.server_err + server.server_timedout)
            .sum();
        current += 1 + pool.client_connections + now;
        total += 1 + pool.client_accepted + now + ended;
    }
    (total, current)
}

/// A member whose value is an object, with its numbers, not closed.
fn open<T>(text: &mut String, name: &str, fields: &[Field<T>], of: &T) {
    // twemproxy puts a blank after a comma, but not between two objects.
    let comma = if text.ends_with('}') { "," } else { ", " };
    text.push_str(&format!("{comma}{}: {{", quoted(name)));
    for (index, field) in fields.iter().enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        text.push_str(&format!("{comma}\"{}\":{}", field.name, (field.value)(of)));
    }
}

/// Unlike twemproxy, which writes a quote in a name as it is.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// The same numbers in Prometheus' text format, version 0.0.4.
pub(super) fn metrics(moment: &Moment, pools: &[PoolStatistics]) -> String {
    let mut text = String::new();
    head(
        &mut text,
        "tandem_proxy_uptime_seconds",
        Kind::Gauge,
        "how long this process has run",
    );
    // Writing to a string cannot fail, here and below.
    let _ = writeln!(text, "tandem_proxy_uptime_seconds {}", moment.uptime_s);
    for field in &POOL {
        head(&mut text, field.metric, field.kind, field.meaning);
        for pool in pools {
            let value = sample(field, pool);
            let _ = writeln!(
                text,
                "{}{{pool=\"{}\"}} {value}",
                field.metric,
                label(&pool.name)
            );
        }
    }
    for field in &SERVER {
        head(&mut text, field.metric, field.kind, field.meaning);
        for pool in pools {
            for server in &pool.servers {
                let (pool, name) = (label(&pool.name), label(&server.name));
                let value = sample(field, server);
                let _ = writeln!(
                    text,
                    "{}{{pool=\"{pool}\",server=\"{name}\"}} {value}",
                    field.metric
                );
            }
        }
    }
    text
}

pub(super) fn head(text: &mut String, metric: &str, kind: Kind, meaning: &str) {
    let kind = match kind {
        Kind::Counter => "counter",
        Kind::Gauge | Kind::Microseconds => "gauge",
    };
    let _ = writeln!(text, "# HELP {metric} {meaning}\n# TYPE {metric} {kind}");
}

fn sample<T>(field: &Field<T>, of: &T) -> String {
    let value = (field.value)(of);
    match field.kind {
        Kind::Counter | Kind::Gauge => value.to_string(),
        Kind::Microseconds => format!("{}.{:06}", value / 1_000_000, value % 1_000_000),
    }
}

/// A label's value may hold anything once these three are escaped.
pub(super) fn label(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use tandem_proxy::statistics::ServerStatistics;

    use super::*;

    fn pools() -> Vec<PoolStatistics> {
        let server = |name: &str| ServerStatistics {
            name: name.to_owned(),
            server_connections: 1,
            server_eof: 2,
            server_ejected_at: 1_700_000_000_000_001,
            requests: 7,
            ..ServerStatistics::default()
        };
        vec![PoolStatistics {
            name: "a\"b".to_owned(),
            client_connections: 3,
            client_accepted: 5,
            servers: vec![server("s1"), server("s2")],
            ..PoolStatistics::default()
        }]
    }

    fn moment() -> Moment {
        Moment {
            source: "host".to_owned(),
            uptime_s: 12,
            timestamp_s: 1_700_000_000,
        }
    }

    #[test]
    fn the_object_counts_connections_of_all_kinds() {
        let text = object(&moment(), &pools());
        let value: Value = serde_json::from_str(&text).unwrap();
        // One listening; three of five clients; one each to two servers, and two each that ended.
        assert_eq!(value["curr_connections"], 1 + 3 + 2);
        assert_eq!(value["total_connections"], 1 + 5 + 2 + 4);
        assert_eq!(value["a\"b"]["s2"]["requests"], 7);
        assert_eq!(value["a\"b"]["client_connections"], 3);
    }

    #[test]
    fn prometheus_gets_every_number_once_with_its_labels() {
        let text = metrics(&moment(), &pools());
        assert!(text.contains("# TYPE tandem_proxy_requests_total counter\ntandem_proxy_requests_total{pool=\"a\\\"b\",server=\"s1\"} 7\n"), "{text}");
        assert!(text.contains("tandem_proxy_server_ejected_timestamp_seconds{pool=\"a\\\"b\",server=\"s2\"} 1700000000.000001\n"));
        let samples = text.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(samples, 1 + POOL.len() + 2 * SERVER.len());
        let heads = text
            .lines()
            .filter(|line| line.starts_with("# TYPE"))
            .count();
        assert_eq!(heads, 1 + POOL.len() + SERVER.len());
    }
}
