//! `/proc/PID/stat`: which process a pid names, and whether it is on its way out.

use std::fs;
use std::io;

/// `PF_EXITING` in the kernel's `linux/sched.h`: set at the start of `do_exit`, never cleared.
const EXITING: u32 = 0x4;
/// SIGKILL in a pending set: bit 9 - 1.
const KILL_PENDING: u64 = 1 << 8;

/// A process: the pid and the start time that tells it from a later owner of the same pid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process {
    pid: i32,
    start_time: u64,
}

/// What `/proc` says about a [`Process`] now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// It runs, sleeps or is stopped.
    Alive,
    /// SIGKILL is on its way: it will end the system call that it is in, and never run its program again.
    Killed,
    /// It will never run its program again, but some of it, open sockets perhaps, is still there.
    Exiting,
    /// There is no such process.
    Gone,
    /// The pid belongs to another process now: ours is gone.
    Reused,
}

impl Life {
    /// Whether the process can never answer again.
    pub(crate) fn is_over(self) -> bool {
        match self {
            Self::Alive => false,
            Self::Killed | Self::Exiting | Self::Gone | Self::Reused => true,
        }
    }

    /// Whether it has made its last system call.
    pub(crate) fn is_still(self) -> bool {
        match self {
            Self::Alive | Self::Killed => false,
            Self::Exiting | Self::Gone | Self::Reused => true,
        }
    }
}

impl Process {
    /// The process that has `pid` now; `None` if there is none.
    ///
    /// # Errors
    /// What reading `/proc` says, other than that the process does not exist.
    pub(crate) fn with_pid(pid: i32) -> io::Result<Option<Self>> {
        Ok(read(pid)?.map(|stat| Self {
            pid,
            start_time: stat.start_time,
        }))
    }

    /// The process id.
    pub(crate) fn pid(self) -> i32 {
        self.pid
    }

    /// Looks now. One read of a file in memory, about 20 us; it waits for nothing, not even for a frozen process.
    ///
    /// # Errors
    /// What reading `/proc` says; then nothing is known, in particular not that the process is gone.
    pub(crate) fn check_now(self) -> io::Result<Life> {
        Ok(match read(self.pid)? {
            None => Life::Gone,
            Some(stat) if stat.start_time != self.start_time => Life::Reused,
            Some(stat) => stat.life,
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    life: Life,
    start_time: u64,
}

fn read(pid: i32) -> io::Result<Option<Stat>> {
    match fs::read(format!("/proc/{pid}/stat")) {
        Ok(bytes) => parse(&bytes)
            .map(Some)
            .ok_or_else(|| io::ErrorKind::InvalidData.into()),
        // ESRCH: it went between opening and reading.
        Err(error)
            if error.kind() == io::ErrorKind::NotFound
                || error.raw_os_error() == Some(libc::ESRCH) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Fields as numbered in proc(5). The command name may hold blanks and parentheses, so counting starts behind the last
/// parenthesis, with field 3.
fn parse(bytes: &[u8]) -> Option<Stat> {
    let behind_name = bytes.iter().rposition(|byte| *byte == b')')? + 1;
    let text = std::str::from_utf8(bytes.get(behind_name..)?).ok()?;
    let field = |number: usize| text.split_ascii_whitespace().nth(number - 3);
    let flags: u32 = field(9)?.parse().ok()?;
    // Z and X are exit states, entered after the flag was set; they are named to be independent of its number.
    // The kernel queues a fatal signal as SIGKILL to every thread before it wakes them. Nothing takes that back, so it
    // is proof before the main thread got a processor to begin exiting on.
    let pending: u64 = field(31)?.parse().ok()?;
    let life = if flags & EXITING != 0 || matches!(field(3)?, "Z" | "X") {
        Life::Exiting
    } else if pending & KILL_PENDING != 0 {
        Life::Killed
    } else {
        Life::Alive
    };
    Some(Stat {
        life,
        start_time: field(22)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn line(name: &str, state: &str, flags: u32) -> String {
        with_pending(name, state, flags, 0)
    }

    fn with_pending(name: &str, state: &str, flags: u32, pending: u64) -> String {
        format!(
            "77 ({name}) {state} 1 77 77 0 -1 {flags} 1 2 3 4 5 6 7 8 20 0 4 0 998877 1000 1 2 3 4 5 6 7 {pending} 0"
        )
    }

    #[test]
    fn stat_lines() {
        let cases = [
            (
                line("redis-server", "S", 4_194_304),
                Some((Life::Alive, 998_877)),
            ),
            (
                line("redis-server", "R", 4_194_304 | 4),
                Some((Life::Exiting, 998_877)),
            ),
            (line("a) Z 1 (b", "S", 0), Some((Life::Alive, 998_877))),
            (
                with_pending("redis", "D", 0, 0x100),
                Some((Life::Killed, 998_877)),
            ),
            (
                with_pending("redis", "S", 0, 0x200),
                Some((Life::Alive, 998_877)),
            ),
            (line("redis", "Z", 0), Some((Life::Exiting, 998_877))),
            ("77 (cut) S 1 77".to_owned(), None),
            (String::new(), None),
        ];
        for (text, expected) in cases {
            let expected = expected.map(|(life, start_time)| Stat { life, start_time });
            assert_eq!(parse(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn a_process_is_followed_from_alive_to_gone() {
        let mut child = Command::new("sleep")
            .arg("60")
            .stdin(Stdio::null())
            .spawn()
            .expect("sleep starts");
        let pid = i32::try_from(child.id()).expect("a pid");
        let process = Process::with_pid(pid).expect("readable").expect("it runs");
        assert_eq!(process.check_now().expect("readable"), Life::Alive);
        assert_eq!(
            Process {
                start_time: process.start_time + 1,
                ..process
            }
            .check_now()
            .expect("readable"),
            Life::Reused
        );
        child.kill().expect("killed");
        // Until it is reaped the dead child stays visible.
        while !process.check_now().expect("readable").is_still() {
            std::thread::yield_now();
        }
        assert_eq!(process.check_now().expect("readable"), Life::Exiting);
        child.wait().expect("reaped");
        assert!(matches!(
            process.check_now().expect("readable"),
            Life::Gone | Life::Reused
        ));
    }
}
