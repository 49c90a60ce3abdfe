//! The lane and the checks with real scripts, waiting on what the scripts write.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tandem_config::diagnostic::{Sources, Span};
use tandem_config::keepalived::{Script, ScriptDef, ScriptTest};
use tokio::sync::mpsc;

use super::Job;
use super::check::Check;
use super::notify::{Batch, Finished, Lane, Outcome};
use super::reader::Reader;
use crate::vrrp::daemon::Happening;

/// No test may wait longer for anything.
const BOUND: Duration = Duration::from_secs(20);

fn on_runtime(test: impl AsyncFnOnce()) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(async { tokio::time::timeout(BOUND, test()).await })
        .unwrap();
}

fn script(dir: &Path, name: &str, body: &str) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn job(program: &Path, arguments: &[&str]) -> Job {
    let mut argv = vec![program.display().to_string()];
    argv.extend(arguments.iter().map(|word| (*word).to_owned()));
    Job {
        argv,
        account: None,
    }
}

fn state(occasion: &'static str, jobs: Vec<Job>) -> Batch {
    Batch {
        occasion,
        supersedes: true,
        jobs,
    }
}

fn lane(timeout: Duration) -> (Lane, mpsc::Receiver<Happening>) {
    let (report, reports) = mpsc::channel(16);
    (Lane::start("VI_1".to_owned(), timeout, report), reports)
}

async fn finished(reports: &mut mpsc::Receiver<Happening>) -> Finished {
    match reports.recv().await {
        Some(Happening::ScriptEnded(finished)) => finished,
        other => panic!("{other:?}"),
    }
}

async fn appears(path: &Path) {
    while !path.exists() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn alive(pid: &str) -> bool {
    // A zombie that nobody has waited for yet does nothing any more.
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or("").starts_with(" Z"))
}

#[test]
fn scripts_of_one_change_run_in_order_with_their_arguments() {
    on_runtime(async || {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let append = script(
            dir.path(),
            "append",
            &format!("echo \"$@\" >> {}", log.display()),
        );
        let (lane, mut reports) = lane(BOUND);
        assert!(lane.push(state(
            "MASTER",
            vec![
                job(&append, &["first"]),
                job(&append, &["INSTANCE", "VI_1", "MASTER", "100"]),
            ],
        )));
        for _ in 0..2 {
            let done = finished(&mut reports).await;
            assert!(matches!(done.outcome, Outcome::Exited(status) if status.success()));
        }
        let text = fs::read_to_string(&log).unwrap();
        assert_eq!(text, "first\nINSTANCE VI_1 MASTER 100\n");
    });
}

#[test]
fn a_newer_state_ends_the_whole_process_group_before_it_begins() {
    on_runtime(async || {
        let dir = tempfile::tempdir().unwrap();
        let (pid, done) = (dir.path().join("pid"), dir.path().join("done"));
        // The sleeper is a child of the script: only a signal to the group reaches it.
        let slow = script(
            dir.path(),
            "slow",
            &format!(
                "sleep 1000 &\necho $! > {0}.new; mv {0}.new {0}\nwait",
                pid.display()
            ),
        );
        let check = script(
            dir.path(),
            "check",
            &format!(
                "kill -0 $(cat {}) 2>/dev/null && echo alive > {d} || echo gone > {d}",
                pid.display(),
                d = done.display()
            ),
        );
        let (lane, mut reports) = lane(BOUND);
        lane.push(state(
            "MASTER",
            vec![job(&slow, &[]), job(&slow, &["never"])],
        ));
        appears(&pid).await;
        let sleeper = fs::read_to_string(&pid).unwrap();
        lane.push(state("BACKUP", vec![job(&check, &[])]));

        let mut outcomes = Vec::new();
        for _ in 0..3 {
            let one = finished(&mut reports).await;
            outcomes.push((one.occasion, one.outcome));
        }
        // The one that waited and the one that ran, in whichever order they are told, then the new state's.
        assert_eq!(outcomes[0], ("MASTER", Outcome::Superseded));
        assert_eq!(outcomes[1], ("MASTER", Outcome::Superseded));
        assert!(matches!(outcomes[2], ("BACKUP", Outcome::Exited(_))));
        while alive(sleeper.trim()) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
}

#[test]
fn a_script_that_ignores_sigterm_is_killed_when_its_time_is_up() {
    on_runtime(async || {
        let dir = tempfile::tempdir().unwrap();
        let stubborn = script(
            dir.path(),
            "stubborn",
            "trap '' TERM\nwhile :; do sleep 0.05; done",
        );
        let after = dir.path().join("after");
        let touch = script(dir.path(), "touch", &format!("touch {}", after.display()));
        let (lane, mut reports) = lane(Duration::from_millis(100));
        lane.push(state("FAULT", vec![job(&stubborn, &[]), job(&touch, &[])]));
        assert_eq!(finished(&mut reports).await.outcome, Outcome::TimedOut);
        let second = finished(&mut reports).await;
        assert!(matches!(second.outcome, Outcome::Exited(status) if status.success()));
        assert!(after.exists());
    });
}

#[test]
fn what_is_no_state_waits_instead_of_superseding() {
    on_runtime(async || {
        let dir = tempfile::tempdir().unwrap();
        let (begun, go, log) = (
            dir.path().join("begun"),
            dir.path().join("go"),
            dir.path().join("log"),
        );
        let first = script(
            dir.path(),
            "first",
            &format!(
                "touch {}\nwhile [ ! -e {} ]; do sleep 0.01; done\necho first >> {}",
                begun.display(),
                go.display(),
                log.display()
            ),
        );
        let second = script(
            dir.path(),
            "second",
            &format!("echo second >> {}", log.display()),
        );
        let (lane, mut reports) = lane(BOUND);
        lane.push(state("MASTER", vec![job(&first, &[])]));
        appears(&begun).await;
        lane.push(Batch {
            occasion: "MASTER_RX_LOWER_PRI",
            supersedes: false,
            jobs: vec![job(&second, &[])],
        });
        fs::write(&go, "").unwrap();
        for _ in 0..2 {
            assert!(matches!(
                finished(&mut reports).await.outcome,
                Outcome::Exited(_)
            ));
        }
        assert_eq!(fs::read_to_string(&log).unwrap(), "first\nsecond\n");
    });
}

#[test]
fn failures_are_told_and_the_last_scripts_are_waited_for() {
    on_runtime(async || {
        let dir = tempfile::tempdir().unwrap();
        let bad = script(dir.path(), "bad", "exit 7");
        let (lane, mut reports) = lane(BOUND);
        lane.push(state(
            "STOP",
            vec![job(&dir.path().join("missing"), &[]), job(&bad, &[])],
        ));
        lane.finish().await.unwrap();
        assert!(matches!(
            finished(&mut reports).await.outcome,
            Outcome::NotStarted(_)
        ));
        assert_eq!(finished(&mut reports).await.words(), "exit code 7");
    });
}

#[test]
fn the_environment_is_keepaliveds() {
    on_runtime(async || {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let show = script(
            dir.path(),
            "show",
            &format!(
                "fds=$(readlink /proc/$$/fd/0 /proc/$$/fd/1 /proc/$$/fd/2)\nids=$(cut -d' ' -f1,5 /proc/$$/stat)\nprintf '%s\\n' \"$fds\" \"$ids\" > {0}",
                out.display()
            ),
        );
        let (lane, mut reports) = lane(BOUND);
        lane.push(state("BACKUP", vec![job(&show, &[])]));
        finished(&mut reports).await;
        let text = fs::read_to_string(&out).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[..3], ["/dev/null"; 3]);
        let (pid, group) = lines[3].split_once(' ').unwrap();
        assert_eq!(pid, group, "a process group of its own");
    });
}

fn check_def(test: ScriptTest, timeout: Duration) -> ScriptDef {
    let at = Span::new(Sources::default().add("k.conf", ""), 0, 0);
    ScriptDef {
        name: "chk".into(),
        at,
        test: Some(test),
        interval: Duration::from_millis(20),
        timeout,
        weight: 0,
        reverse: false,
        rise: 1,
        fall: 1,
        init_fail: false,
    }
}

#[test]
fn checks_tell_good_bad_and_late() {
    on_runtime(async || {
        let dir = tempfile::tempdir().unwrap();
        let flag = dir.path().join("flag");
        let hang = dir.path().join("hang");
        let body = format!(
            "[ -e {} ] && exec sleep 1000\n[ -e {} ]",
            hang.display(),
            flag.display()
        );
        let program = script(dir.path(), "check", &body);
        let at = Span::new(Sources::default().add("k.conf", ""), 0, 0);
        let run = ScriptTest::Run(Script {
            argv: vec![program.display().to_string()],
            user: None,
            group: None,
            at,
        });
        let (report, mut reports) = mpsc::channel(16);
        let _check =
            Check::start(&check_def(run, Duration::from_millis(500)), None, report).unwrap();
        let mut wait_for = async |good: bool, words: &str| loop {
            match reports.recv().await {
                Some(Happening::Checked(checked))
                    if checked.good == good && checked.words.starts_with(words) =>
                {
                    return;
                }
                Some(Happening::Checked(_)) => {}
                other => panic!("{other:?}"),
            }
        };
        wait_for(false, "exit code 1").await;
        fs::write(&flag, "").unwrap();
        wait_for(true, "exit code 0").await;
        fs::write(&hang, "").unwrap();
        wait_for(false, "timed out").await;
    });
}

#[test]
fn a_readable_file_is_a_good_check() {
    on_runtime(async || {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let at = Span::new(Sources::default().add("k.conf", ""), 0, 0);
        let (report, mut reports) = mpsc::channel(16);
        let test = ScriptTest::Readable(path.clone(), at);
        let _check = Check::start(&check_def(test, BOUND), None, report).unwrap();
        for good in [false, true] {
            if good {
                fs::write(&path, "").unwrap();
            }
            loop {
                match reports.recv().await {
                    Some(Happening::Checked(checked)) if checked.good == good => break,
                    Some(Happening::Checked(_)) => {}
                    other => panic!("{other:?}"),
                }
            }
        }
    });
}

#[test]
fn a_reader_that_ends_is_started_again_and_reads_what_came_meanwhile() {
    on_runtime(async || {
        let dir = tempfile::tempdir().unwrap();
        let (fifo, log) = (dir.path().join("fifo"), dir.path().join("log"));
        let mut written = crate::vrrp::fifo::Fifo::open(&fifo, None).unwrap();
        // It ends after each line.
        let reader = script(
            dir.path(),
            "reader",
            &format!("read line < $1 && echo \"$line\" >> {}", log.display()),
        );
        let (report, mut reports) = mpsc::channel(16);
        let job = job(&reader, &[&fifo.display().to_string()]);
        let reader = Reader::start(job, None, report);
        written.write("one\n");
        finished(&mut reports).await;
        written.write("two\n");
        let second = finished(&mut reports).await;
        assert_eq!((second.owner.as_str(), second.occasion), ("FIFO", "reader"));
        assert_eq!(fs::read_to_string(&log).unwrap(), "one\ntwo\n");
        reader.finish(Duration::ZERO).await.unwrap();
    });
}

#[test]
fn a_reader_has_time_for_the_last_lines_and_is_then_ended() {
    on_runtime(async || {
        let dir = tempfile::tempdir().unwrap();
        let (fifo, log) = (dir.path().join("fifo"), dir.path().join("log"));
        let mut written = crate::vrrp::fifo::Fifo::open(&fifo, None).unwrap();
        let (report, _reports) = mpsc::channel(16);
        let polite = script(
            dir.path(),
            "polite",
            &format!("exec < $1; touch {0}; sleep 0.2; cat >> {0}", log.display()),
        );
        let stubborn = script(
            dir.path(),
            "stubborn",
            &format!(
                "echo $$ > {0}.new; mv {0}.new {0}; sleep 1000",
                dir.path().join("pid").display()
            ),
        );
        let argument = fifo.display().to_string();
        let first = Reader::start(job(&polite, &[&argument]), None, report.clone());
        let second = Reader::start(job(&stubborn, &[]), None, report);
        appears(&log).await;
        appears(&dir.path().join("pid")).await;
        let pid = fs::read_to_string(dir.path().join("pid")).unwrap();
        written.write("last\n");
        written.close();
        first.finish(BOUND).await.unwrap();
        assert_eq!(fs::read_to_string(&log).unwrap(), "last\n");
        second.finish(Duration::ZERO).await.unwrap();
        assert!(!alive(pid.trim()));
    });
}
