//! `tandem history`: what happened, one line per event. Reads the daemon's files, so it works without a daemon.

use std::io;
use std::path::Path;

use crate::cli::table::table;
use crate::cli::{DONE, FAILED, USAGE, Where, groups_at};
use crate::run::events::{Line, path};
use crate::run::group_dir;

/// Prints the newest events of each group, oldest of them first.
pub(crate) fn history(at: &Where, count: usize, as_json: bool) -> u8 {
    let (settings, groups) = match groups_at(at) {
        Ok(found) => found,
        Err(report) => {
            eprint!("{report}");
            return USAGE;
        }
    };
    let mut all = Vec::new();
    for group in groups {
        match read(&path(&group_dir(&settings, &group.name))) {
            Ok(lines) => all.extend(lines.into_iter().map(|line| (group.name.clone(), line))),
            Err(error) => {
                eprintln!("tandem: history of {}: {error}", group.name);
                return FAILED;
            }
        }
    }
    // Times are RFC 3339 in UTC and of one width up to the fraction: they sort as text.
    all.sort_by(|a, b| a.1.time.cmp(&b.1.time));
    let skip = all.len().saturating_sub(count);
    if as_json {
        for (group, line) in all.iter().skip(skip) {
            println!("{}", serde_json::json!({ "group": group, "event": line }));
        }
        return DONE;
    }
    if all.is_empty() {
        println!("nothing has happened yet: no daemon has run with this configuration");
        return DONE;
    }
    let rows = all.into_iter().skip(skip).map(|(group, line)| {
        let mark = if line.severity == "alarm" { "!" } else { "" };
        vec![
            seconds(&line.time),
            group,
            line.epoch,
            format!("{}{mark}", line.name),
            line.text,
        ]
    });
    print!(
        "{}",
        table(&["TIME", "GROUP", "EPOCH", "EVENT", "WHAT"], rows)
    );
    DONE
}

/// What `explain` shows below the rules as they stand now: the newest events that say how it came to this.
const TURNS: [&str; 12] = [
    "+try-failover",
    "-failover-abort",
    "-failover-abort-not-eligible",
    "+switch-master",
    "+switchover",
    "-primary",
    "+sdown",
    "+server-dead",
    "+verdict",
    "declined",
    "waiting",
    "frozen",
];
/// How many of them.
const TURNS_SHOWN: usize = 5;

/// The newest events that made or prevented a change of roles; nothing where the file cannot be read.
pub(crate) fn turns(at: &Where, group: &str) -> String {
    let lines = super::quietly(&at.config)
        .and_then(|settings| read(&path(&group_dir(&settings, group))).ok())
        .unwrap_or_default();
    let turns: Vec<&Line> = lines
        .iter()
        .filter(|line| TURNS.contains(&line.name.as_str()))
        .collect();
    if turns.is_empty() {
        return String::new();
    }
    let newest = &turns[turns.len().saturating_sub(TURNS_SHOWN)..];
    let rows = newest.iter().map(|line| {
        vec![
            seconds(&line.time),
            line.epoch.clone(),
            line.name.clone(),
            line.text.clone(),
        ]
    });
    format!(
        "\nHow it came to this (tandem history has all of it):\n{}",
        table(&["TIME", "EPOCH", "EVENT", "WHAT"], rows)
    )
}

/// The older file first, then the newer one. A line that cannot be read, such as the last one after a crash, is left out.
fn read(path: &Path) -> io::Result<Vec<Line>> {
    let mut lines = Vec::new();
    for path in [path.with_extension("old"), path.to_owned()] {
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(crate::cli::at_path(&path, &error)),
        };
        lines.extend(
            text.lines()
                .filter_map(|line| serde_json::from_str(line).ok()),
        );
    }
    Ok(lines)
}

/// Milliseconds are enough for people: `2026-05-01T10:00:00.123Z`.
fn seconds(time: &str) -> String {
    match time.split_once('.') {
        Some((whole, fraction)) => {
            let digits: String = fraction
                .chars()
                .take_while(char::is_ascii_digit)
                .take(3)
                .collect();
            format!("{whole}.{digits}Z")
        }
        None => time.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_files_are_read_and_a_torn_line_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let newer = dir.path().join("history.jsonl");
        let line = |time: &str| {
            format!(
                r#"{{"time":"{time}","epoch":"1@a","name":"+promoted","severity":"info","text":"x"}}"#
            )
        };
        std::fs::write(
            dir.path().join("history.old"),
            line("2026-01-01T00:00:00Z") + "\n",
        )
        .unwrap();
        std::fs::write(
            &newer,
            line("2026-01-02T00:00:00Z") + "\n{\"time\":\"2026-01-03",
        )
        .unwrap();
        let times: Vec<String> = read(&newer)
            .unwrap()
            .into_iter()
            .map(|line| line.time)
            .collect();
        assert_eq!(times, ["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"]);
    }

    #[test]
    fn no_file_is_no_history() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(&dir.path().join("history.jsonl")).unwrap().is_empty());
    }

    #[test]
    fn times_are_cut_to_milliseconds() {
        for (time, shown) in [
            ("2026-05-01T10:00:00.123456789Z", "2026-05-01T10:00:00.123Z"),
            ("2026-05-01T10:00:00.1Z", "2026-05-01T10:00:00.1Z"),
            ("2026-05-01T10:00:00Z", "2026-05-01T10:00:00Z"),
        ] {
            assert_eq!(seconds(time), shown);
        }
    }
}
