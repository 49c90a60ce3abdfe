//! `nutcracker.yml` and the command line: the real nutcracker and `tandem proxy` give the same verdicts and exit codes.
//!
//! The files are the corpus of `tandem-config`, whose table of verdicts is what the real one answered.
//! `TANDEM_GOLDEN=write` asks it anew.

#![allow(clippy::unwrap_used)] // A panic in a test is its report.

use std::ffi::OsStr;
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tandem_lab::{skip, tandem_binary};

const CORPUS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../tandem-config/tests/data/nutcracker"
);
/// The version whose verdicts were recorded.
const RECORDED: &str = "This is nutcracker-0.5.0";

/// Is the real one here, and the one that was recorded?
fn has_nutcracker(test: &str) -> bool {
    match Command::new("nutcracker").arg("-V").output() {
        Ok(said) if String::from_utf8_lossy(&said.stderr).starts_with(RECORDED) => true,
        Ok(_) => {
            skip(test, "nutcracker is another version than 0.5.0");
            false
        }
        Err(error) => {
            skip(test, &format!("nutcracker: {error}"));
            false
        }
    }
}

fn tandem() -> Vec<PathBuf> {
    vec![tandem_binary().unwrap(), PathBuf::from("proxy")]
}

fn run(program: &[PathBuf], args: &[&str]) -> Output {
    let mut command = Command::new(&program[0]);
    command.args(&program[1..]).args(args).env("NO_COLOR", "1");
    command.output().unwrap()
}

fn last_line(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    text.lines().last().unwrap_or_default().to_owned()
}

fn files() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(CORPUS)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.retain(|path| path.extension().is_some_and(|ending| ending == "yml"));
    files.sort_by_key(|path| path.file_stem().map(OsStr::to_owned));
    files
}

#[test]
fn the_verdict_on_every_file_is_nutcrackers() {
    const TEST: &str = "the_verdict_on_every_file_is_nutcrackers";
    if !has_nutcracker(TEST) {
        return;
    }
    let nutcracker = vec![PathBuf::from("nutcracker")];
    let (mut table, mut wrong) = (String::new(), String::new());
    for file in files() {
        let path = file.display().to_string();
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let theirs = run(&nutcracker, &["-t", "-c", &path, "-o", "/dev/null"]);
        let ours = run(&tandem(), &["-t", "-c", &path]);
        let code = theirs.status.code().unwrap();
        writeln!(table, "{name}\t{code}").unwrap();
        if ours.status.code() != Some(code) || last_line(&ours) != last_line(&theirs) {
            let said = String::from_utf8_lossy(&ours.stderr);
            writeln!(
                wrong,
                "{name}: nutcracker ends with {code}, tandem with {}\n{said}",
                ours.status
            )
            .unwrap();
        }
    }
    let recorded = Path::new(CORPUS).join("verdicts.tsv");
    if std::env::var("TANDEM_GOLDEN").is_ok_and(|what| what == "write") {
        fs::write(&recorded, &table).unwrap();
    }
    assert!(wrong.is_empty(), "{wrong}");
    let recorded = fs::read_to_string(recorded).unwrap();
    let other = table
        .lines()
        .zip(recorded.lines())
        .find(|(new, old)| new != old);
    assert!(
        table == recorded,
        "the table is not what nutcracker says: first {other:?}"
    );
}

/// Arguments that end before anything is started, with the letter of nutcracker's first line where it has one.
const CALLS: [&[&str]; 27] = [
    &["-v", "x", "-V"],
    &["-v"],
    &["-v", "-1"],
    &["-v", "99", "-V"],
    &["-s", "0"],
    &["-s", "70000"],
    &["-s", "x"],
    &["--stats-port=x"],
    &["-i", "x"],
    &["-i", "-5"],
    &["-i", "0", "-V"],
    &["-m", "100"],
    &["-m", "99999999"],
    &["-m", "x"],
    &["-m", "0"],
    &["-m", "512", "-V"],
    &["-z"],
    &["--foo"],
    &["-a"],
    &["-o"],
    &["-c"],
    &["--conf"],
    &["--verb=3", "-V"],
    &["a-word", "-V"],
    &["-h"],
    &["-D"],
    &["-t", "-c", "/nowhere/at/all"],
];

#[test]
fn arguments_end_with_nutcrackers_code() {
    const TEST: &str = "arguments_end_with_nutcrackers_code";
    if !has_nutcracker(TEST) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let alias = folder.path().join("nutcracker");
    symlink(tandem_binary().unwrap(), &alias).unwrap();
    for call in CALLS {
        let theirs = run(&[PathBuf::from("nutcracker")], call);
        for ours in [tandem(), vec![alias.clone()]] {
            let said = run(&ours, call);
            assert_eq!(
                said.status.code(),
                theirs.status.code(),
                "{ours:?} {call:?}: {}",
                last_line(&said)
            );
            assert!(
                said.stdout.is_empty(),
                "{call:?}: nutcracker says nothing on standard output"
            );
        }
    }
}

/// The lines that scripts may look at: the version, and what is wrong with a number.
#[test]
fn words_that_scripts_look_at_are_nutcrackers() {
    const TEST: &str = "words_that_scripts_look_at_are_nutcrackers";
    if !has_nutcracker(TEST) {
        return;
    }
    let first_line = |output: Output| {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        text.lines().next().unwrap_or_default().to_owned()
    };
    for call in [
        &["-v", "x"][..],
        &["-s", "0"],
        &["-s", "x"],
        &["-i", "x"],
        &["-m", "100"],
        &["-m", "x"],
        &["-t", "-c", "/nowhere/at/all"],
        &["-V"],
    ] {
        let theirs = first_line(run(&[PathBuf::from("nutcracker")], call));
        let ours = run(&tandem(), call);
        let text = String::from_utf8_lossy(&ours.stderr).into_owned();
        assert!(
            text.lines().any(|line| line.starts_with(&theirs)),
            "{call:?}: {theirs:?} is not in {text}"
        );
    }
    let names = |output: Output| -> Vec<String> {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let lines = text.lines().skip(2).filter(|line| !line.is_empty());
        lines
            .map(|line| line.split('"').next().unwrap_or_default().to_owned())
            .collect()
    };
    assert_eq!(
        names(run(&tandem(), &["-D"])),
        names(run(&[PathBuf::from("nutcracker")], &["-D"]))
    );
}

/// What `-t --diff` says of keys that would be looked for elsewhere, and its code, which is SIGUSR1's verdict.
#[test]
fn a_difference_between_two_files_is_a_share_of_the_keys() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, more: &str| {
        let path = folder.path().join(name);
        let text = format!(
            "a:\n  listen: 127.0.0.1:22121\n  redis: true\n  hash: murmur\n  servers:\n   - 127.0.0.1:1:1\n   - 127.0.0.1:2:1\n{more}"
        );
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (two, three) = (
        write("two.yml", ""),
        write("three.yml", "   - 127.0.0.1:3:1\n"),
    );
    let other_timeout = write("timeout.yml", "  timeout: 400\n");
    let bad = write("bad.yml", "  timeout: x\n");
    for (new, old, more, code, said) in [
        (&three, &two, "", 3, "% of the keys"),
        (&three, &two, "--accept-move", 0, "% of the keys"),
        (&other_timeout, &two, "", 0, "no key"),
        (&bad, &two, "", 1, ""),
        (&two, &bad, "", 1, ""),
    ] {
        let mut args = vec!["-t", "-c", new, "--diff", old];
        args.extend(Some(more).filter(|more| !more.is_empty()));
        let output = run(&tandem(), &args);
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
        assert!(
            text.contains(said) && text.is_empty() == said.is_empty(),
            "{args:?}: {text}"
        );
    }
}
