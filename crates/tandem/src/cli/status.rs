//! `tandem status` and `tandem explain`: what a person looks at first.

use std::time::Duration;

use comfy_table::{ContentArrangement, Table};
use serde_json::{Value, json};

use crate::cli::ask::ask;
use crate::cli::{DONE, Where};
use crate::run::control::Verb;

/// The status of every group: as a table, or as JSON in a form that stays.
pub(crate) fn status(at: &Where, as_json: bool, watch: bool) -> u8 {
    // Read once: a file is not changed under somebody who watches a screen.
    let gaps = super::check::restart_gaps(at);
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
            let groups: Vec<Value> = answers
                .into_iter()
                .map(|(name, mut group)| {
                    group["restart"] = json!(gaps.get(&name));
                    group
                })
                .collect();
            println!("{}", json!({ "format": 1, "groups": groups }));
        } else {
            for (name, status) in &answers {
                print!("{}", table(status, gaps.get(name).map(String::as_str)));
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

/// One group as people see it. `gap` is what a restart by somebody else does to the server of this host, if it is not safe.
fn table(status: &Value, gap: Option<&str>) -> String {
    if status.get("sentinels").is_some() {
        return follow_table(status);
    }
    let epoch = status
        .get("epoch")
        .map(|e| format!("{}@{}", e["counter"], text(e, "host")))
        .unwrap_or_default();
    let mut out = format!(
        "{}   epoch {epoch}   {}\n",
        text(status, "group"),
        text(status, "promise")
    );
    let mut table = Table::new();
    table
        .load_style(comfy_table::presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    table.set_header([
        "HOST", "ADDRESS", "ROLE", "REDIS", "DATA", "BEHIND", "COMMANDS", "LINK", "SEEN",
    ]);
    let empty = Vec::new();
    let rows = status
        .get("hosts")
        .and_then(Value::as_array)
        .unwrap_or(&empty);
    for row in rows {
        table.add_row(cells(row));
    }
    out.push_str(&format!("{}\n", table.trim_fmt()));
    out.push_str(&address_line(status, rows));
    let named = |phase: &str| {
        let row = rows.iter().find(|row| text(row, "phase") == phase);
        row.map_or_else(String::new, |row| format!(" ({})", text(row, "host")))
    };
    for (part, what) in [
        ("primary", "if_primary_dies"),
        ("replica", "if_replica_dies"),
    ] {
        let name = named(part);
        out.push_str(&format!(
            " If the {part}{name} dies now: {}.\n",
            text(status, what)
        ));
    }
    if let (Some(gap), Some(own)) = (gap, rows.first()) {
        out.push_str(&format!(
            " If anybody restarts redis of {}: {gap}; the include that tandem init writes makes it safe.\n",
            text(own, "host")
        ));
    }
    for row in rows {
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

/// One host's row. Of a host that is silent only what does not change is shown: who it is and what it was.
fn cells(row: &Value) -> Vec<String> {
    let nothing = || "-".to_owned();
    let silent = matches!(text(row, "phase"), "silent" | "unknown");
    let server = row
        .get("server")
        .filter(|server| !server.is_null() && !silent);
    let health = text(row, "health");
    let redis = match server {
        Some(server) => {
            let version = text(&server["shown"], "version");
            let up = uptime(number(server, "uptime_s").unwrap_or(0));
            match (health, version) {
                ("up", "-" | "") => up,
                ("up", version) => format!("{version}, {up}"),
                (health, _) => format!("{health}, {up}"),
            }
        }
        None => health.to_owned(),
    };
    let data = server.map_or_else(nothing, |server| {
        format!(
            "{} keys, {}",
            number(server, "keys").unwrap_or(0),
            bytes(number(server, "used_memory").unwrap_or(0))
        )
    });
    let behind = match number(row, "behind") {
        Some(0) => "0 B, in sync".to_owned(),
        Some(behind) => bytes(behind),
        None => nothing(),
    };
    let commands = server
        .and_then(|server| number(&server["shown"], "commands_per_s"))
        .map_or_else(nothing, |commands| format!("{commands}/s"));
    let seen = number(row, "seen_ms").map_or_else(
        || match text(row, "phase") {
            "unknown" => "never".to_owned(),
            _ => "now".to_owned(),
        },
        ago,
    );
    vec![
        text(row, "host").to_owned(),
        text(row, "address").to_owned(),
        text(row, "phase").to_owned(),
        redis,
        data,
        behind,
        commands,
        server.map_or_else(nothing, link),
        seen,
    ]
}

/// A replica's link to its primary.
fn link(server: &Value) -> String {
    let Some(replica) = server["role"].get("Replica") else {
        return "-".to_owned();
    };
    let is = |key: &str| replica.get(key).and_then(Value::as_bool) == Some(true);
    match (text(replica, "of"), is("link_up"), is("syncing")) {
        (tandem_core::server::FENCE_ADDRESS, ..) => "fenced".to_owned(),
        (_, _, true) => "syncing".to_owned(),
        (_, true, false) => "up".to_owned(),
        (_, false, false) => number(server, "link_down_s")
            .map_or_else(|| "down".to_owned(), |seconds| format!("down {seconds} s")),
    }
}

/// Where the addresses are, who is connected there, and since when this host is what it is.
fn address_line(status: &Value, rows: &[Value]) -> String {
    let addresses: Vec<&str> = status
        .get("addresses")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let carries = |row: &&Value| row.get("vip").and_then(Value::as_bool) == Some(true);
    let holders: Vec<&Value> = rows.iter().filter(carries).collect();
    let mut parts = Vec::new();
    if !addresses.is_empty() {
        let hosts: Vec<&str> = holders.iter().map(|row| text(row, "host")).collect();
        let place = match hosts.as_slice() {
            [] => "nowhere that is known".to_owned(),
            hosts => format!("on {}", hosts.join(" and on ")),
        };
        parts.push(format!("address {} {place}", addresses.join(", ")));
    }
    if let [holder] = holders.as_slice()
        && let Some(clients) = number(&holder["server"]["shown"], "clients")
    {
        parts.push(format!("connections {clients}"));
    }
    if let Some([word, age]) = status
        .get("last_change")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        && let (Some(word), Some(age)) = (word.as_str(), age.as_u64())
    {
        parts.push(format!("this host {word} for {}", ago(age)));
    }
    if parts.is_empty() {
        return String::new();
    }
    format!(" {}\n", parts.join("   "))
}

/// A span in the unit that people read.
fn ago(milliseconds: u64) -> String {
    match milliseconds {
        0..2000 => format!("{milliseconds} ms"),
        2000..120_000 => format!("{} s", milliseconds / 1000),
        120_000..7_200_000 => format!("{} min", milliseconds / 60_000),
        7_200_000..172_800_000 => format!("{} h", milliseconds / 3_600_000),
        _ => format!("{} d", milliseconds / 86_400_000),
    }
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
        print!("{}", super::history::turns(at, &group));
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

    fn pair(peer: Value) -> Value {
        json!({
            "group": "orders", "epoch": {"counter": 7, "host": "a"}, "promise": "PROTECTED",
            "if_primary_dies": "b takes over", "if_replica_dies": "nothing changes",
            "addresses": ["10.0.0.100/24"], "last_change": ["primary", 7_200_000],
            "hosts": [{"host": "a", "address": "10.0.0.1:6379", "phase": "primary", "health": "up",
                "server": {"keys": 5, "used_memory": 2048, "uptime_s": 5, "role": "Primary",
                    "shown": {"version": "7.0.15", "clients": 4, "commands_per_s": 99}},
                "vip": true}, peer],
            "alarms": ["look here"],
        })
    }

    #[test]
    fn the_table_names_promise_rows_and_reasons() {
        let text = table(
            &pair(json!({
                "host": "b", "address": "10.0.0.2:6379", "phase": "replica", "health": "up",
                "server": {"keys": 5, "used_memory": 2048, "uptime_s": 5,
                    "role": {"Replica": {"of": "10.0.0.1:6379", "link_up": true, "syncing": false}}},
                "reason": "eligible.lag: 5 behind", "seen_ms": 12, "behind": 0, "vip": false,
            })),
            Some("it comes up writable"),
        );
        for part in [
            "orders   epoch 7@a   PROTECTED",
            "7.0.15, up 5 s",
            "5 keys, 2.0 KiB",
            "in sync",
            "99/s",
            "12 ms",
            "address 10.0.0.100/24 on a   connections 4   this host primary for 2 h",
            "b: eligible.lag: 5 behind",
            "ALARM look here",
            "If anybody restarts redis of a: it comes up writable;",
            "If the primary (a) dies now: b takes over.",
            "If the replica (b) dies now: nothing changes.",
        ] {
            assert!(text.contains(part), "{part:?} is missing in\n{text}");
        }
        let row = text.lines().find(|line| line.starts_with(" b ")).unwrap();
        assert!(row.contains(" up  "), "{text}");
    }

    #[test]
    fn nothing_is_claimed_of_a_host_that_is_silent() {
        let text = table(
            &pair(json!({
                "host": "b", "address": "10.0.0.2:6379", "phase": "silent", "health": "not known now",
                "server": {"keys": 5, "used_memory": 2048, "uptime_s": 5, "role": "Primary"},
                "seen_ms": 6000, "behind": null, "vip": false,
            })),
            None,
        );
        let row = text.lines().find(|line| line.starts_with(" b ")).unwrap();
        assert!(
            row.contains("not known now") && row.ends_with("6 s"),
            "{text}"
        );
        assert!(!row.contains("keys"), "{text}");
    }

    #[test]
    fn links_in_a_word() {
        let replica = |of: &str, link_up: bool, syncing: bool| json!({"role": {"Replica": {"of": of, "link_up": link_up, "syncing": syncing}}, "link_down_s": 4});
        for (server, word) in [
            (replica("10.0.0.1:6379", true, false), "up"),
            (replica("10.0.0.1:6379", false, true), "syncing"),
            (replica("10.0.0.1:6379", false, false), "down 4 s"),
            (replica("127.0.0.1:1", false, false), "fenced"),
            (json!({"role": "Primary"}), "-"),
        ] {
            assert_eq!(link(&server), word);
        }
    }
}
