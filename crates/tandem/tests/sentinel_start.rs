//! How `tandem sentinel` starts, ends, and refuses to start: as whoever typed `redis-sentinel` so far expects it.
//!
//! Nothing here needs a server. Sentinels that run listen on a Unix socket, so tests do not fight over ports.

#![allow(clippy::unwrap_used)] // A panic in a test is its report.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

const BINARY: &str = env!("CARGO_BIN_EXE_tandem");
const BOUND: Duration = Duration::from_secs(30);
/// `nobody` on every distribution.
const NOBODY: u32 = 65534;

/// A folder with a `sentinel.conf`.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new(lines: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let place = Self { dir };
        let text = format!(
            "port 0\nunixsocket {}\ndir {}\nsentinel monitor m 127.0.0.1 1 1\n{lines}",
            place.path("socket").display(),
            place.dir.path().display()
        );
        fs::write(place.file(), text).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn file(&self) -> PathBuf {
        self.path("sentinel.conf")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(BINARY);
        command.arg("sentinel").arg(self.file());
        command.env_remove("NOTIFY_SOCKET").stdin(Stdio::null());
        command
    }

    /// What it says when it is asked; nothing before it listens.
    fn ask(&self, line: &str) -> Option<String> {
        let mut stream = UnixStream::connect(self.path("socket")).ok()?;
        stream.set_read_timeout(Some(BOUND)).unwrap();
        stream.write_all(format!("{line}\r\n").as_bytes()).ok()?;
        let mut answer = [0; 256];
        let read = stream.read(&mut answer).ok()?;
        Some(String::from_utf8_lossy(&answer[..read]).into_owned())
    }

    fn wait_until_it_answers(&self) {
        until("an answer", || {
            self.ask("PING").as_deref() == Some("+PONG\r\n")
        });
    }
}

/// A process that does not outlive its test.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Self {
        Self(
            command
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap(),
        )
    }

    fn ends(&mut self) -> ExitStatus {
        let mut status = None;
        until("the end of the process", || {
            status = self.0.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    fn said(&mut self) -> String {
        let mut text = String::new();
        self.0
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        text
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + BOUND;
    while !done() {
        assert!(Instant::now() < end, "no {what} within {BOUND:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs to the end.
fn refused(command: &mut Command) -> (Output, String) {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, text)
}

/// Whether this test runs as root and another user can run the program: rights mean nothing to root.
fn as_nobody(command: &mut Command) -> bool {
    if !rustix::process::geteuid().is_root() {
        return true;
    }
    command.uid(NOBODY).gid(NOBODY);
    let mut probe = Command::new(BINARY);
    let runs = probe.arg("--version").uid(NOBODY).gid(NOBODY).output();
    if !runs.is_ok_and(|output| output.status.success()) {
        println!("skipped: nobody may not run {BINARY}");
        return false;
    }
    true
}

#[test]
fn without_a_file_it_says_what_redis_sentinel_says() {
    let (_, text) = refused(Command::new(BINARY).arg("sentinel"));
    assert!(
        text.starts_with("Sentinel needs config file on disk to save state.  Exiting...\n"),
        "{text}"
    );
}

#[test]
fn a_file_that_is_missing_or_no_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    for path in [dir.path().join("none.conf"), dir.path().to_owned()] {
        let (_, text) = refused(Command::new(BINARY).arg("sentinel").arg(&path));
        let expected = format!("can't open config file '{}'", path.display());
        assert!(text.contains(&expected), "{text}");
    }
}

#[test]
fn a_file_that_may_not_be_read_is_named() {
    let place = Place::new("");
    let mut command = place.command();
    open_to_others(&place, 0o755);
    fs::set_permissions(place.file(), fs::Permissions::from_mode(0o000)).unwrap();
    if !as_nobody(&mut command) {
        return;
    }
    let (_, text) = refused(&mut command);
    assert!(text.contains("can't open config file"), "{text}");
    assert!(text.contains("Permission denied"), "{text}");
}

/// A vote that could not be saved must never be given, so a sentinel without a file that it can write does not run.
#[test]
fn a_folder_that_cannot_be_written_is_refused_and_the_file_left_alone() {
    let place = Place::new("");
    open_to_others(&place, 0o555);
    fs::set_permissions(place.file(), fs::Permissions::from_mode(0o644)).unwrap();
    let before = fs::read(place.file()).unwrap();
    let mut command = place.command();
    if !as_nobody(&mut command) {
        return;
    }
    let (_, text) = refused(&mut command);
    let expected = format!(
        "Sentinel config file {} is not writable",
        place.file().display()
    );
    assert!(text.contains(&expected), "{text}");
    assert_eq!(fs::read(place.file()).unwrap(), before);
    open_to_others(&place, 0o755);
}

fn open_to_others(place: &Place, mode: u32) {
    fs::set_permissions(place.dir.path(), fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_port_that_is_taken_is_named_and_the_other_ones_pid_file_left_alone() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let place = Place::new("");
    let pidfile = place.path("pid");
    fs::write(&pidfile, "1\n").unwrap();
    let mut command = place.command();
    command
        .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
        .arg("--pidfile")
        .arg(&pidfile);
    let (_, text) = refused(&mut command);
    assert!(text.contains(&port.to_string()), "{text}");
    assert!(text.contains("in use"), "{text}");
    assert_eq!(fs::read_to_string(&pidfile).unwrap(), "1\n");
}

#[test]
fn called_redis_sentinel_it_is_one() {
    let place = Place::new("");
    let link = place.path("redis-sentinel");
    symlink(BINARY, &link).unwrap();
    let mut command = Command::new(&link);
    command
        .arg(place.file())
        .args(["--sentinel", "--loglevel", "warning"])
        .env_remove("NOTIFY_SOCKET");
    let mut running = Running::start(&mut command);
    place.wait_until_it_answers();
    let role = place.ask("ROLE").unwrap();
    assert!(role.contains("sentinel"), "{role}");
    // The answer is the end of the connection.
    assert_eq!(place.ask("SHUTDOWN").as_deref(), Some(""));
    assert!(running.ends().success());
}

#[test]
fn shutdown_and_term_end_it_in_order() {
    for by_signal in [false, true] {
        let place = Place::new("");
        let mut running = Running::start(&mut place.command());
        place.wait_until_it_answers();
        if by_signal {
            let pid = rustix::process::Pid::from_child(&running.0);
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        } else {
            assert_eq!(place.ask("SHUTDOWN").as_deref(), Some(""));
        }
        assert_eq!(running.ends().code(), Some(0));
        let said = running.said();
        assert!(
            said.contains("Sentinel is now ready to exit, bye bye..."),
            "{said}"
        );
        let file = fs::read_to_string(place.file()).unwrap();
        assert!(file.contains("\nsentinel myid "), "{file}");
        assert!(place.ask("PING").is_none());
    }
}

/// Ends a process that is nobody's child here.
struct Daemon(rustix::process::Pid);

impl Drop for Daemon {
    fn drop(&mut self) {
        // Gone already when the test went well.
        let _ = rustix::process::kill_process(self.0, rustix::process::Signal::KILL);
    }
}

#[test]
fn daemonized_it_leaves_the_terminal_and_writes_its_pid() {
    let place = Place::new("");
    fs::OpenOptions::new()
        .append(true)
        .open(place.file())
        .unwrap()
        .write_all(
            format!(
                "daemonize yes\npidfile {}\nlogfile {}\n",
                place.path("pid").display(),
                place.path("log").display()
            )
            .as_bytes(),
        )
        .unwrap();
    // `output` returns when nobody holds the pipes any more: the one that goes on does not.
    let started = place.command().output().unwrap();
    assert!(started.status.success(), "{started:?}");
    until("a pid file", || {
        fs::read(place.path("pid")).is_ok_and(|text| text.ends_with(b"\n"))
    });
    let text = fs::read_to_string(place.path("pid")).unwrap();
    let number: i32 = text.trim().parse().unwrap();
    let _daemon = Daemon(rustix::process::Pid::from_raw(number).unwrap());
    place.wait_until_it_answers();
    assert_eq!(session_of(number), number, "a session of its own");
    assert_eq!(place.ask("SHUTDOWN").as_deref(), Some(""));
    until("the end of the daemon", || !place.path("pid").exists());
    until("the last word", || {
        fs::read_to_string(place.path("log")).is_ok_and(|log| log.contains("bye bye"))
    });
}

/// The session of a process, the sixth field of `/proc/PID/stat`.
fn session_of(pid: i32) -> i32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let behind_name = &stat[stat.rfind(')').unwrap() + 2..];
    behind_name.split(' ').nth(3).unwrap().parse().unwrap()
}

#[test]
fn a_service_manager_that_waits_is_told_and_keeps_it_in_the_foreground() {
    let place = Place::new("supervised systemd\ndaemonize yes\n");
    let told = UnixDatagram::bind(place.path("notify")).unwrap();
    told.set_read_timeout(Some(BOUND)).unwrap();
    let mut command = place.command();
    command.env("NOTIFY_SOCKET", place.path("notify"));
    let mut running = Running::start(&mut command);
    let mut text = [0; 64];
    let len = told.recv(&mut text).unwrap();
    assert!(text[..len].starts_with(b"READY=1"), "{:?}", &text[..len]);
    // Said when it listens, not before.
    assert_eq!(place.ask("PING").as_deref(), Some("+PONG\r\n"));
    assert!(
        running.0.try_wait().unwrap().is_none(),
        "it stays in the foreground"
    );
}

/// A script sees its three standard descriptors, whatever the process that started the sentinel left open in it.
#[test]
fn scripts_get_no_descriptor_of_ours() {
    let place = Place::new("sentinel down-after-milliseconds m 20\n");
    let script = place.path("script");
    // No shell script: a shell would have it open itself.
    fs::write(
        &script,
        "#!/usr/bin/env -S sh -c 'env > $0.env; ls -l /proc/self/fd > $0.$$.tmp; mv $0.$$.tmp $0.out'\n",
    )
    .unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    fs::OpenOptions::new()
        .append(true)
        .open(place.file())
        .unwrap()
        .write_all(format!("sentinel notification-script m {}\n", script.display()).as_bytes())
        .unwrap();
    let told = UnixDatagram::bind(place.path("notify")).unwrap();
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            "exec 7</dev/zero 8</dev/full; exec \"$@\"",
            "sh",
            BINARY,
            "sentinel",
        ])
        .arg(place.file())
        .env("NOTIFY_SOCKET", place.path("notify"));
    let _running = Running::start(&mut command);
    let seen = place.path("script.out");
    until("the script's word", || seen.exists());
    drop(told);
    let seen = fs::read_to_string(&seen).unwrap();
    for ours in ["/dev/zero", "/dev/full", "socket:", "anon_inode"] {
        assert!(!seen.contains(ours), "{seen}");
    }
    let descriptors = seen.lines().filter(|line| line.contains(" -> "));
    // Beside 0, 1 and 2 only the folder that ls itself reads.
    assert_eq!(descriptors.count(), 4, "{seen}");
    let env = fs::read_to_string(place.path("script.env")).unwrap();
    assert!(!env.contains("NOTIFY_SOCKET"), "{env}");
}
