//! Proof that a server process is dead, or that it is dying and can never answer again.
//!
//! kill -9 of a server with a large heap does not close its sockets at once: the kernel frees the memory first, and until
//! that is done neither a closed connection nor the process' pidfd says anything. Two things show earlier. A sibling
//! thread (Redis always has background threads) does not own the memory, so its exit is visible at once, through a
//! pidfd opened with `PIDFD_THREAD` (Linux 6.9; older kernels fall back silently to the process pidfd). And from
//! its first step of exiting the main thread carries `PF_EXITING` in `/proc/PID/stat`: that flag is the proof, since a
//! task never loses it again, while a thread may also end without its process. Earlier still, a SIGKILL pending on the
//! main thread, which nothing can take back, counts as the same.
//!
//! Measured on Linux 6.18 with two shared, busy processors and redis 7.0, from kill -9 (median, range):
//! end of an open connection, and process pidfd alike, 1.4 ms (0.9 to 15) when empty, 0.8 s (0.34 to 2.5) with
//! 4 GiB; [`Watch::exited`] 0.08 ms (0.04 to 1.5) when empty, 0.09 ms (0.04 to 7.7) with 4 GiB, the long ones waiting for
//! a processor. `measure` repeats this.
//!
//! A process is named by pid and start time, because pids are used again. Nothing here tells what follows from a
//! death; and it does not say that nobody starts the server anew.

mod stat;
mod watch;

pub(crate) use stat::{Life, Process};
pub(crate) use watch::{DeathProof, Watch};

#[cfg(test)]
mod measure;
