//! How a proxy is: as JSON in a form that stays, as a table, and its times for Prometheus.

use std::fmt::Write as _;

use serde_json::{Value, json};
use tandem_proxy::latency::Latency;
use tandem_proxy::server::PoolStatus;

use super::catalogue::Kind;
use super::stats::{head, label};
use crate::cli::table::table;

/// Commands that the table shows, those that were asked most.
const COMMANDS_SHOWN: usize = 12;
/// Powers of two of microseconds at which Prometheus' buckets end: 64 microseconds to 16 s.
const POWERS: [u32; 10] = [6, 8, 10, 12, 14, 16, 18, 20, 22, 24];

/// The pools as JSON.
pub(crate) fn value(pools: &[PoolStatus]) -> Value {
    pools.iter().map(pool).collect()
}

fn pool(pool: &PoolStatus) -> Value {
    let told = &pool.statistics;
    let shards = pool
        .shards
        .iter()
        .zip(&told.servers)
        .map(|(shard, server)| {
            let errors = server.server_err + server.server_timedout + server.server_eof;
            let mut value = json!({
                "name": server.name,
                "primary": shard.primary,
                "phase": shard.phase,
                "epoch": shard.epoch,
                "connections": server.server_connections,
                "lost_connections": errors,
                "requests": server.requests,
                "answers": server.responses,
                "in_flight": server.out_queue,
                "held": server.in_queue,
            });
            times(&mut value, &shard.latency);
            value
        });
    let commands = pool.commands.iter().map(|(name, latency)| {
        let mut value = json!({ "name": name });
        times(&mut value, latency);
        value
    });
    json!({
        "name": told.name,
        "listen": pool.listen,
        "clients": told.client_connections,
        "accepted": told.client_accepted,
        "client_errors": told.client_err,
        "requests": told.servers.iter().map(|server| server.requests).sum::<u64>(),
        "errors": told.forward_error,
        "held": told.servers.iter().map(|server| server.in_queue).sum::<u64>(),
        "unknown": pool.unknown,
        "slow": pool.slow,
        "shards": shards.collect::<Vec<_>>(),
        "commands": commands.collect::<Vec<_>>(),
    })
}

fn times(value: &mut Value, latency: &Latency) {
    let count = latency.count();
    value["measured"] = count.into();
    value["mean_us"] = latency.sum_us().checked_div(count).into();
    for (name, share) in [("p50_us", 500), ("p99_us", 990), ("p999_us", 999)] {
        value[name] = latency.per_mille(share).into();
    }
}

/// One pool as people see it.
pub(crate) fn shown(pool: &Value) -> String {
    let mut out = format!(
        "{}   at {}   {} clients   {} requests   {} errors   {} held   {} unknown",
        text(pool, "name"),
        text(pool, "listen"),
        text(pool, "clients"),
        text(pool, "requests"),
        text(pool, "errors"),
        text(pool, "held"),
        text(pool, "unknown"),
    );
    if !pool["slow"].is_null() {
        let _ = write!(out, "   {} in the slow log", text(pool, "slow"));
    }
    out.push('\n');
    let shards = pool["shards"].as_array().into_iter().flatten();
    out.push_str(&table(
        &[
            "SHARD",
            "PRIMARY",
            "PHASE",
            "EPOCH",
            "REQUESTS",
            "IN FLIGHT",
            "HELD",
            "LOST",
            "P50",
            "P99",
        ],
        shards.map(|shard| {
            let keys = [
                "name",
                "primary",
                "phase",
                "epoch",
                "requests",
                "in_flight",
                "held",
                "lost_connections",
            ];
            let mut row: Vec<String> = keys.iter().map(|key| text(shard, key)).collect();
            row.extend(["p50_us", "p99_us"].map(|key| time(&shard[key])));
            row
        }),
    ));
    let mut commands: Vec<&Value> = pool["commands"].as_array().into_iter().flatten().collect();
    commands.sort_by_key(|command| std::cmp::Reverse(command["measured"].as_u64()));
    if commands.is_empty() {
        return out;
    }
    out.push('\n');
    out.push_str(&table(
        &["COMMAND", "ANSWERS", "MEAN", "P50", "P99", "P99.9"],
        commands.iter().take(COMMANDS_SHOWN).map(|command| {
            let mut row = vec![text(command, "name"), text(command, "measured")];
            row.extend(["mean_us", "p50_us", "p99_us", "p999_us"].map(|key| time(&command[key])));
            row
        }),
    ));
    if commands.len() > COMMANDS_SHOWN {
        let _ = writeln!(out, "and {} more: --json", commands.len() - COMMANDS_SHOWN);
    }
    out
}

fn text(value: &Value, key: &str) -> String {
    match &value[key] {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Microseconds in the unit that people read.
fn time(us: &Value) -> String {
    match us.as_u64() {
        None => "-".to_owned(),
        Some(us @ 0..1000) => format!("{us} us"),
        Some(us @ 1000..1_000_000) => format!("{:.1} ms", us as f64 / 1e3),
        Some(us) => format!("{:.1} s", us as f64 / 1e6),
    }
}

/// What only [`PoolStatus`] knows, in Prometheus' text format.
pub(super) fn metrics(pools: &[PoolStatus]) -> String {
    let mut out = String::new();
    let unknown = "tandem_proxy_unknown_total";
    head(
        &mut out,
        unknown,
        Kind::Counter,
        "requests whose outcome nobody knows",
    );
    for pool in pools {
        let _ = writeln!(
            out,
            "{unknown}{{pool=\"{}\"}} {}",
            label(&pool.statistics.name),
            pool.unknown
        );
    }
    let name = "tandem_proxy_shard_serving";
    head(
        &mut out,
        name,
        Kind::Gauge,
        "1 while a shard has a primary that may be asked",
    );
    for pool in pools {
        for (shard, server) in pool.shards.iter().zip(&pool.statistics.servers) {
            let labels = format!(
                "pool=\"{}\",server=\"{}\"",
                label(&pool.statistics.name),
                label(&server.name)
            );
            let _ = writeln!(
                out,
                "{name}{{{labels}}} {}",
                u8::from(shard.phase == "serving")
            );
        }
    }
    let name = "tandem_proxy_command_duration_seconds";
    histogram_head(&mut out, name, "how long answers took, by command");
    for pool in pools {
        for (command, latency) in &pool.commands {
            let labels = format!(
                "pool=\"{}\",command=\"{}\"",
                label(&pool.statistics.name),
                label(command)
            );
            histogram(&mut out, name, &labels, latency);
        }
    }
    let name = "tandem_proxy_server_duration_seconds";
    histogram_head(&mut out, name, "how long answers took, by server");
    for pool in pools {
        for (shard, server) in pool.shards.iter().zip(&pool.statistics.servers) {
            let labels = format!(
                "pool=\"{}\",server=\"{}\"",
                label(&pool.statistics.name),
                label(&server.name)
            );
            histogram(&mut out, name, &labels, &shard.latency);
        }
    }
    out
}

fn histogram_head(out: &mut String, name: &str, meaning: &str) {
    let _ = writeln!(out, "# HELP {name} {meaning}\n# TYPE {name} histogram");
}

fn histogram(out: &mut String, name: &str, labels: &str, latency: &Latency) {
    for power in POWERS {
        let below = latency.below_power(power);
        let end = f64::from(1u32 << power) / 1e6;
        let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{end}\"}} {below}");
    }
    let count = latency.count();
    let _ = writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {count}");
    let sum = latency.sum_us();
    let _ = writeln!(
        out,
        "{name}_sum{{{labels}}} {}.{:06}",
        sum / 1_000_000,
        sum % 1_000_000
    );
    let _ = writeln!(out, "{name}_count{{{labels}}} {count}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_proxy::latency::Histogram;
    use tandem_proxy::server::ShardStatus;
    use tandem_proxy::statistics::{PoolStatistics, ServerStatistics};

    fn example() -> PoolStatus {
        let mut latency = Latency::default();
        let times = Histogram::default();
        for us in [100, 200, 5000] {
            times.record(us, 1);
        }
        latency.add(&times);
        let server = ServerStatistics {
            name: "orders-a".to_owned(),
            requests: 7,
            in_queue: 2,
            ..ServerStatistics::default()
        };
        PoolStatus {
            statistics: PoolStatistics {
                name: "orders".to_owned(),
                client_connections: 3,
                servers: vec![server],
                ..PoolStatistics::default()
            },
            listen: "0.0.0.0:6379".to_owned(),
            shards: vec![ShardStatus {
                primary: None,
                phase: "none",
                epoch: Some(4),
                latency: latency.clone(),
            }],
            unknown: 1,
            slow: Some(5),
            commands: vec![("get", latency)],
        }
    }

    #[test]
    fn a_person_sees_where_requests_wait() {
        let text = shown(&value(&[example()])[0]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            "orders   at 0.0.0.0:6379   3 clients   7 requests   0 errors   2 held   1 unknown   5 in the slow log"
        );
        for part in ["orders-a", "none", "208 us", "5.1 ms", "get", "1.8 ms"] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
    }

    #[test]
    fn prometheus_gets_cumulative_buckets() {
        let text = metrics(&[example()]);
        for line in [
            "tandem_proxy_unknown_total{pool=\"orders\"} 1",
            "tandem_proxy_shard_serving{pool=\"orders\",server=\"orders-a\"} 0",
            "tandem_proxy_command_duration_seconds_bucket{pool=\"orders\",command=\"get\",le=\"0.000064\"} 0",
            "tandem_proxy_command_duration_seconds_bucket{pool=\"orders\",command=\"get\",le=\"0.000256\"} 2",
            "tandem_proxy_command_duration_seconds_bucket{pool=\"orders\",command=\"get\",le=\"+Inf\"} 3",
            "tandem_proxy_server_duration_seconds_sum{pool=\"orders\",server=\"orders-a\"} 0.005300",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line} is missing in\n{text}"
            );
        }
    }
}
