//! `tandem status` and `tandem explain`: what a person looks at first.

use std::time::Duration;

use comfy_table::{ContentArrangement, Table};
use serde_json::{Value, json};

use crate::cli::ask::ask;
use crate::cli::{DONE, Where};
use crate::run::control::Verb;

/// The status of every group: as a table, or as JSON in a form that stays.
pub(crate) fn status(at: &Where, as_json: bool, watch: bool) -> u8 {
    loop {
        let answers = match ask(at, Verb::Status) {
            Ok(answers) => answers,
            Err(error) => return error.report(),
        };
        if watch {
            // Home and clear: a screen that repaints, in any terminal.
            print!("\x1b[H\x1b[2J");
        }
        if as_json {
            let groups: Vec<Value> = answers.into_values().collect();
            println!("{}", json!({ "format": 1, "groups": groups }));
        } else {
            for status in answers.values() {
                print!("{}", table(status));
            }
            if answers.is_empty() {
                println!(
                    "the daemon runs; there is no group on this host; tandem proxy status shows its proxies"
                );
            }
        }
        if !watch {
            return DONE;
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or("-")
}

fn number(value: &Value, key: &str) -> Option<u64> {
    value.get(key).and_then(Value::as_u64)
}

/// A group that is followed: who is, and what each sentinel of the fleet believes.
fn follow_table(status: &Value) -> String {
    let mut out = format!(
        "{}   follows {} of a Sentinel fleet   primary {}   configuration epoch {}{}\n",
        text(status, "group"),
        text(status, "master"),
        text(status, "primary"),
        number(status, "epoch").map_or_else(|| "-".to_owned(), |epoch| epoch.to_string()),
        if status.get("vip_here").and_then(Value::as_bool) == Some(true) {
            "   on this host"
        } else {
            ""
        }
    );
    let mut table = Table::new();
    table
        .load_style(comfy_table::presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["SENTINEL", "NAMES", "EPOCH", "SEEN", "VERDICT"]);
    let empty = Vec::new();
    let rows = status.get("sentinels").and_then(Value::as_array);
    for row in rows.unwrap_or(&empty) {
        let shown = |key: &str, unit: &str| {
            number(row, key).map_or_else(|| "-".to_owned(), |number| format!("{number}{unit}"))
        };
        table.add_row([
            text(row, "address").to_owned(),
            text(row, "primary").to_owned(),
            shown("epoch", ""),
            shown("seen_ms", " ms"),
            text(row, "verdict").to_owned(),
        ]);
    }
    out.push_str(&format!("{}\n", table.trim_fmt()));
    for alarm in status
        .get("alarms")
        .and_then(Value::as_array)
        .unwrap_or(&empty)
    {
        out.push_str(&format!(" ALARM: {}\n", alarm.as_str().unwrap_or_default()));
    }
    out
}

/// One group as people see it.
fn table(status: &Value) -> String {
    if status.get("sentinels").is_some() {
        return follow_table(status);
    }
    let mut out = String::new();
    let epoch = status
        .get("epoch")
        .map(|e| format!("{}@{}", e["counter"], text(e, "host")))
        .unwrap_or_default();
    out.push_str(&format!(
        "{}   epoch {epoch}   {}\n",
        text(status, "group"),
        text(status, "promise")
    ));
    let mut table = Table::new();
    table
        .load_style(comfy_table::presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    table.set_header([
        "HOST", "ADDRESS", "ROLE", "REDIS", "DATA", "BEHIND", "VIP", "SEEN",
    ]);
    let empty = Vec::new();
    for row in status
        .get("hosts")
        .and_then(Value::as_array)
        .unwrap_or(&empty)
    {
        let server = row.get("server").filter(|s| !s.is_null());
        let redis = match server {
            Some(server) => format!(
                "{}, {}",
                text(row, "health"),
                uptime(number(server, "uptime_s").unwrap_or(0))
            ),
            None => text(row, "health").to_owned(),
        };
        let data = server.map_or_else(
            || "-".to_owned(),
            |server| {
                format!(
                    "{} keys, {}",
                    number(server, "keys").unwrap_or(0),
                    bytes(number(server, "used_memory").unwrap_or(0))
                )
            },
        );
        let behind = match number(row, "behind") {
            Some(0) => "0 B, in sync".to_owned(),
            Some(behind) => bytes(behind),
            None => "-".to_owned(),
        };
        let vip = if row.get("vip").and_then(Value::as_bool) == Some(true) {
            "here"
        } else {
            ""
        };
        let seen = number(row, "seen_ms").map_or_else(
            || {
                if text(row, "phase") == "unknown" {
                    "never".to_owned()
                } else {
                    "now".to_owned()
                }
            },
            |ms| format!("{ms} ms"),
        );
        table.add_row([
            text(row, "host").to_owned(),
            text(row, "address").to_owned(),
            text(row, "phase").to_owned(),
            redis,
            data,
            behind,
            vip.to_owned(),
            seen,
        ]);
    }
    out.push_str(&format!("{}\n", table.trim_fmt()));
    out.push_str(&format!(
        " If the primary dies now: {}.\n",
        text(status, "if_primary_dies")
    ));
    out.push_str(&format!(
        " If the replica dies now: {}.\n",
        text(status, "if_replica_dies")
    ));
    for row in status
        .get("hosts")
        .and_then(Value::as_array)
        .unwrap_or(&empty)
    {
        if let Some(reason) = row.get("reason").and_then(Value::as_str) {
            out.push_str(&format!(" {}: {reason}\n", text(row, "host")));
        }
    }
    for alarm in status
        .get("alarms")
        .and_then(Value::as_array)
        .unwrap_or(&empty)
    {
        out.push_str(&format!(" ALARM {}\n", alarm.as_str().unwrap_or_default()));
    }
    out
}

fn uptime(seconds: u64) -> String {
    match seconds {
        0..120 => format!("up {seconds} s"),
        120..7200 => format!("up {} min", seconds / 60),
        7200..172_800 => format!("up {} h", seconds / 3600),
        _ => format!("up {} d", seconds / 86_400),
    }
}

/// Bytes in the unit that people read.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{bytes} B")
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// The rules as they stand.
pub(crate) fn explain(at: &Where, as_json: bool) -> u8 {
    let answers = match ask(at, Verb::Explain) {
        Ok(answers) => answers,
        Err(error) => return error.report(),
    };
    if as_json {
        println!("{}", json!(answers));
        return DONE;
    }
    for (group, rulings) in answers {
        println!("{group}");
        let mut table = Table::new();
        table
            .load_style(comfy_table::presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(["RULE", "SAYS", "AGE", "EVIDENCE"]);
        for ruling in rulings.as_array().into_iter().flatten() {
            let age = number(ruling, "age_ms").map_or_else(String::new, |ms| format!("{ms} ms"));
            table.add_row([
                text(ruling, "rule"),
                text(ruling, "says"),
                &age,
                text(ruling, "evidence"),
            ]);
        }
        println!("{}", table.trim_fmt());
    }
    DONE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_that_people_read() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1 << 30, "1.0 GiB"),
        ];
        for (number, text) in cases {
            assert_eq!(bytes(number), text);
        }
        assert_eq!(uptime(119), "up 119 s");
        assert_eq!(uptime(3600), "up 60 min");
        assert_eq!(uptime(86_400 * 3), "up 3 d");
    }

    #[test]
    fn the_table_names_promise_rows_and_reasons() {
        let status = json!({
            "group": "orders", "epoch": {"counter": 7, "host": "a"}, "promise": "PROTECTED",
            "if_primary_dies": "b takes over", "if_replica_dies": "nothing changes",
            "hosts": [{"host": "a", "address": "10.0.0.1:6379", "phase": "primary", "health": "up",
                "server": {"keys": 5, "used_memory": 2048, "uptime_s": 5}, "vip": true},
                {"host": "b", "address": "10.0.0.2:6379", "phase": "replica", "health": "up",
                "server": null, "reason": "eligible.lag: 5 behind", "seen_ms": 12, "behind": 0}],
            "alarms": ["look here"],
        });
        let text = table(&status);
        for part in [
            "orders   epoch 7@a   PROTECTED",
            "5 keys, 2.0 KiB",
            "in sync",
            "12 ms",
            "b: eligible.lag: 5 behind",
            "ALARM look here",
            "If the primary dies now: b takes over.",
        ] {
            assert!(text.contains(part), "{part:?} is missing in\n{text}");
        }
    }
}
