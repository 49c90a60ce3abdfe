//! Recorded exchanges: what a real redis-sentinel 7.0.15 answers, and that any other program answers the same.
//!
//! Where tandem answers otherwise on purpose, `golden/sentinel-differs.tsv` says so and why; what it lists must differ.
//!
//! `TANDEM_GOLDEN=write` records anew from the real one. `TANDEM_GOLDEN_ONLY=votes` plays one recording only.

#![allow(clippy::unwrap_used)] // A panic in a test is its report.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::PathBuf;
use std::process::Command;

use tandem_lab::fleet::Program;
use tandem_lab::golden::{Script, Stage};
use tandem_lab::{can_run, skip};

/// The version that was recorded; another one answers otherwise.
const RECORDED: &str = "7.0.15";

/// The recordings, those without a second Sentinel first: it would be remembered.
fn recordings() -> Vec<(PathBuf, Script)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/sentinel");
    let only = std::env::var("TANDEM_GOLDEN_ONLY").ok();
    let mut found: Vec<(PathBuf, Script)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "txt"))
        .filter(|path| {
            only.as_ref()
                .is_none_or(|only| path.file_stem().is_some_and(|stem| stem == only.as_str()))
        })
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            let script = Script::parse(&text)
                .unwrap_or_else(|error| panic!("{}: {error:#}", path.display()));
            (path, script)
        })
        .collect();
    found.sort_by_key(|(path, script)| (script.peer, path.clone()));
    assert!(!found.is_empty(), "no recordings in {folder}");
    found
}

/// A recording and a request in it, as they stand there.
type Place = (String, String);

/// Requests that tandem answers otherwise, from the table.
fn differing() -> BTreeSet<Place> {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/golden/sentinel-differs.tsv"
    );
    let text = std::fs::read_to_string(file).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| match *line.split('\t').collect::<Vec<_>>() {
            [recording, request, reason] if !reason.is_empty() => {
                (format!("{recording}.txt"), request.to_owned())
            }
            _ => panic!("`{line}` is not a recording, a request and a reason"),
        })
        .collect()
}

/// Plays everything; exactly what is listed may and must differ.
fn compare(program: Program, differing: &BTreeSet<Place>) {
    let mut stage = Stage::build(program).unwrap();
    let (mut played, mut report, mut wrong) = (0, String::new(), 0);
    let mut stale = differing.clone();
    let recordings = recordings();
    stale.retain(|(name, _)| recordings.iter().any(|(path, _)| path.ends_with(name)));
    for (path, script) in recordings {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let mismatches = match stage.compare(&script) {
            Ok(mismatches) => mismatches,
            Err(error) => {
                writeln!(report, "{name}: {error:#}").unwrap();
                wrong += script.steps.len();
                continue;
            }
        };
        played += script.steps.len();
        for mismatch in mismatches {
            let place = (name.clone(), mismatch.request.clone());
            if differing.contains(&place) {
                stale.remove(&place);
                continue;
            }
            wrong += 1;
            writeln!(report, "{name}, {mismatch}").unwrap();
        }
    }
    println!(
        "{program}: {} of {played} answers as recorded, or other on purpose",
        played.saturating_sub(wrong)
    );
    assert!(stale.is_empty(), "these do not differ any more: {stale:?}");
    assert!(report.is_empty(), "{wrong} answers differ:\n{report}");
}

#[test]
fn the_real_sentinel_answers_as_recorded() {
    let test = "the_real_sentinel_answers_as_recorded";
    if !can_run(test) {
        return;
    }
    let version = Command::new("redis-sentinel").arg("--version").output();
    let version = String::from_utf8_lossy(&version.unwrap().stdout).into_owned();
    if !version.contains(&format!("v={RECORDED} ")) {
        println!(
            "skipped: {test}: recorded from {RECORDED}, here is {}",
            version.trim()
        );
        return;
    }
    if std::env::var("TANDEM_GOLDEN").as_deref() == Ok("write") {
        let mut stage = Stage::build(Program::Real).unwrap();
        for (path, script) in recordings() {
            let text = stage
                .record(&script)
                .unwrap_or_else(|error| panic!("{}: {error:#}", path.display()));
            std::fs::write(&path, text).unwrap();
        }
        return;
    }
    compare(Program::Real, &BTreeSet::new());
}

#[test]
fn tandem_answers_as_the_real_sentinel_did() {
    let test = "tandem_answers_as_the_real_sentinel_did";
    if !can_run(test) {
        return;
    }
    if let Err(reason) = Program::Tandem.available() {
        skip(test, &format!("{reason:#}"));
        return;
    }
    compare(Program::Tandem, &differing());
}
