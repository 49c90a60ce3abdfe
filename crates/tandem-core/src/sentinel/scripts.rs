//! Which script is run when: the queue of notification and reconfiguration scripts.
//!
//! The order, the bounds and the repetitions are those of Redis Sentinel: oldest first, 16 at a time, 256 waiting, ten
//! attempts with a delay that doubles, killed when it takes too long. A script that ends with 1 or by a signal is run again,
//! with any other code but 0 it has failed for good. Starting, killing and reaping processes is the shell's; what the
//! scripts are told is the caller's.
//!
//! One difference: Redis starts a script that could not be started again at every tick, without end; here such an attempt
//! counts like any other.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::sentinel::events::Kind;
use crate::sentinel::io::{Output, ScriptEnd, ScriptId};
use crate::sentinel::settings::Periods;

/// Scripts that run at the same time.
pub const RUNNING_MAX: usize = 16;
/// Scripts in the queue, those that run included. One more pushes out the oldest that does not run.
pub const QUEUE_MAX: usize = 256;
/// Runs of one script before it is given up.
pub const ATTEMPTS_MAX: u32 = 10;

/// How Redis reports a script that could not be started, where a signal's number would stand.
const NOT_STARTED: i32 = 99;

/// A script in the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// This attempt's number; 0 before the first.
    id: ScriptId,
    argv: Vec<String>,
    attempts: u32,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Waits, without a time for the first run.
    Scheduled { not_before: Option<Instant> },
    /// Handed to the shell.
    Running {
        since: Instant,
        /// Known once the shell has said so.
        pid: Option<u32>,
        /// It was told to end.
        killed: bool,
    },
}

impl Job {
    /// Program and arguments.
    #[must_use]
    pub fn argv(&self) -> &[String] {
        &self.argv
    }

    /// Runs begun so far.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Its process, 0 while there is none (as Redis shows it).
    #[must_use]
    pub fn pid(&self) -> u32 {
        match self.state {
            State::Running { pid, .. } => pid.unwrap_or(0),
            State::Scheduled { .. } => 0,
        }
    }

    /// For how long it has been running; `None` while it waits.
    #[must_use]
    pub fn running_for(&self, now: Instant) -> Option<Duration> {
        match self.state {
            State::Running { since, .. } => Some(now.saturating_duration_since(since)),
            State::Scheduled { .. } => None,
        }
    }

    /// How long it still waits at least; zero while it runs or may run at once.
    #[must_use]
    pub fn delay(&self, now: Instant) -> Duration {
        match self.state {
            State::Scheduled {
                not_before: Some(at),
            } => at.saturating_duration_since(now),
            State::Scheduled { not_before: None } | State::Running { .. } => Duration::ZERO,
        }
    }

    fn due(&self, now: Instant) -> bool {
        match self.state {
            State::Scheduled { not_before } => not_before.is_none_or(|at| at <= now),
            State::Running { .. } => false,
        }
    }

    fn runs(&self) -> bool {
        matches!(self.state, State::Running { .. })
    }

    /// When it has run for too long; `None` if it does not run or was told to end already.
    fn overdue_at(&self, periods: &Periods) -> Option<Instant> {
        match self.state {
            State::Running {
                since,
                killed: false,
                ..
            } => since.checked_add(periods.script_max_runtime),
            State::Running { killed: true, .. } | State::Scheduled { .. } => None,
        }
    }
}

/// The queue, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    jobs: VecDeque<Job>,
    /// The number of the newest run.
    newest: u64,
}

impl Queue {
    /// All scripts, those that run included, oldest first.
    pub fn jobs(&self) -> impl ExactSizeIterator<Item = &Job> {
        self.jobs.iter()
    }

    /// How many run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.jobs.iter().filter(|job| job.runs()).count()
    }

    /// Puts a script at the end. When the queue is full, its oldest script that does not run is dropped and returned.
    pub fn push(&mut self, argv: Vec<String>) -> Option<Job> {
        self.jobs.push_back(Job {
            id: ScriptId(0),
            argv,
            attempts: 0,
            state: State::Scheduled { not_before: None },
        });
        if self.jobs.len() <= QUEUE_MAX {
            return None;
        }
        let oldest = self.jobs.iter().position(|job| !job.runs())?;
        self.jobs.remove(oldest)
    }

    /// Starts what is due, as far as there is room, and kills what runs for too long.
    pub fn due(&mut self, now: Instant, periods: &Periods) -> Vec<Output> {
        let mut outputs = Vec::new();
        let mut room = RUNNING_MAX.saturating_sub(self.running());
        for job in &mut self.jobs {
            if room > 0 && job.due(now) {
                room -= 1;
                self.newest += 1;
                job.id = ScriptId(self.newest);
                job.attempts += 1;
                job.state = State::Running {
                    since: now,
                    pid: None,
                    killed: false,
                };
                outputs.push(Output::RunScript {
                    script: job.id,
                    argv: job.argv.clone(),
                });
            } else if job.overdue_at(periods).is_some_and(|at| at <= now) {
                outputs.extend(job.kill());
            }
        }
        outputs
    }

    /// A script has its process now. Nothing happens for a number that does not run.
    pub fn started(&mut self, script: ScriptId, process: u32) -> Vec<Output> {
        let Some(job) = self.find(script) else {
            return Vec::new();
        };
        if let State::Running { pid, .. } = &mut job.state {
            *pid = Some(process);
        }
        vec![Output::Tell(Kind::PlusScriptChild.plain(process))]
    }

    /// A script ended or could not be started: it goes, or waits for its next attempt. Nothing happens for a number
    /// that does not run. What waits for its place is started by the next [`Self::due`].
    pub fn ended(
        &mut self,
        script: ScriptId,
        end: ScriptEnd,
        now: Instant,
        periods: &Periods,
    ) -> Vec<Output> {
        let Some(at) = self
            .jobs
            .iter()
            .position(|job| job.runs() && job.id == script)
        else {
            return Vec::new();
        };
        let job = &mut self.jobs[at];
        let (signal, code) = match end {
            ScriptEnd::Exited(code) => (0, code),
            ScriptEnd::Signalled(signal) => (signal, 0),
            ScriptEnd::NotStarted => (NOT_STARTED, 0),
        };
        let failed = Output::Tell(
            Kind::MinusScriptError.plain(format_args!("{} {signal} {code}", job.program())),
        );
        let mut outputs = Vec::new();
        if end == ScriptEnd::NotStarted {
            outputs.push(failed.clone());
        } else {
            let text = format!("{} {code} {signal}", job.pid());
            outputs.push(Output::Tell(Kind::MinusScriptChild.plain(text)));
        }
        let again = signal != 0 || code == 1;
        if again && job.attempts < ATTEMPTS_MAX {
            job.state = State::Scheduled {
                not_before: now.checked_add(retry_delay(job.attempts, periods)),
            };
            return outputs;
        }
        // What could not be started has been reported already.
        if (signal, code) != (0, 0) && end != ScriptEnd::NotStarted {
            outputs.push(failed);
        }
        self.jobs.remove(at);
        outputs
    }

    /// When [`Self::due`] has something to do next, if nothing else happens until then.
    #[must_use]
    pub fn next_wake(&self, now: Instant, periods: &Periods) -> Option<Instant> {
        let full = self.running() >= RUNNING_MAX;
        self.jobs
            .iter()
            .filter_map(|job| match job.state {
                // A place becomes free by the end of another, which is heard of.
                State::Scheduled { .. } if full => None,
                State::Scheduled { not_before } => Some(not_before.unwrap_or(now)),
                State::Running { .. } => job.overdue_at(periods),
            })
            .min()
    }

    fn find(&mut self, script: ScriptId) -> Option<&mut Job> {
        self.jobs
            .iter_mut()
            .find(|job| job.runs() && job.id == script)
    }
}

impl Job {
    fn program(&self) -> &str {
        self.argv.first().map_or("", String::as_str)
    }

    fn kill(&mut self) -> [Output; 2] {
        if let State::Running { killed, .. } = &mut self.state {
            *killed = true;
        }
        let text = format!("{} {}", self.program(), self.pid());
        [
            Output::Tell(Kind::MinusScriptTimeout.plain(text)),
            Output::KillScript { script: self.id },
        ]
    }
}

/// The wait after the given number of attempts: the first delay, doubled with each after the first.
fn retry_delay(attempts: u32, periods: &Periods) -> Duration {
    let doubled = 1_u32 << attempts.saturating_sub(1).min(ATTEMPTS_MAX);
    periods.script_retry_delay.saturating_mul(doubled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::origin;

    fn argv(number: usize) -> Vec<String> {
        vec!["/bin/notify".to_owned(), number.to_string()]
    }

    /// The numbers and last arguments of what is to be started.
    fn runs(outputs: &[Output]) -> Vec<(ScriptId, String)> {
        outputs
            .iter()
            .filter_map(|output| match output {
                Output::RunScript { script, argv } => Some((*script, argv.last()?.clone())),
                _ => None,
            })
            .collect()
    }

    fn told(outputs: &[Output]) -> Vec<String> {
        outputs
            .iter()
            .filter_map(|output| match output {
                Output::Tell(event) => Some(format!("{} {}", event.name, event.payload)),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn one_runs_and_goes() {
        let (now, periods) = (origin(), Periods::default());
        let mut queue = Queue::default();
        assert_eq!(queue.push(argv(1)), None);
        assert_eq!(queue.next_wake(now, &periods), Some(now));
        let first = ScriptId(1);
        assert_eq!(runs(&queue.due(now, &periods)), [(first, "1".to_owned())]);
        assert!(queue.due(now, &periods).is_empty(), "once");
        assert_eq!(told(&queue.started(first, 77)), ["+script-child 77"]);
        let job = queue.jobs().next().unwrap();
        assert_eq!((job.pid(), job.attempts()), (77, 1));
        let later = now + Duration::from_secs(2);
        assert_eq!(job.running_for(later), Some(Duration::from_secs(2)));
        assert_eq!(
            told(&queue.ended(first, ScriptEnd::Exited(0), later, &periods)),
            ["-script-child 77 0 0"]
        );
        assert_eq!(queue.jobs().len(), 0);
        assert_eq!(queue.next_wake(later, &periods), None);
        assert!(
            queue
                .ended(first, ScriptEnd::Exited(1), later, &periods)
                .is_empty()
        );
    }

    #[test]
    fn sixteen_at_a_time_oldest_first() {
        let (now, periods) = (origin(), Periods::default());
        let mut queue = Queue::default();
        for number in 0..18 {
            queue.push(argv(number));
        }
        let started = runs(&queue.due(now, &periods));
        assert_eq!(started.len(), RUNNING_MAX);
        assert_eq!(started.first().unwrap().1, "0");
        assert_eq!(queue.running(), RUNNING_MAX);
        // Nothing to wake for but the first overdue one: a place becomes free by an end, which is heard of.
        assert_eq!(
            queue.next_wake(now, &periods),
            Some(now + periods.script_max_runtime)
        );
        queue.ended(started[3].0, ScriptEnd::Exited(0), now, &periods);
        assert_eq!(runs(&queue.due(now, &periods))[0].1, "16");
    }

    #[test]
    fn the_oldest_that_waits_makes_room() {
        let (now, periods) = (origin(), Periods::default());
        let mut queue = Queue::default();
        for number in 0..RUNNING_MAX {
            queue.push(argv(number));
        }
        queue.due(now, &periods);
        for number in RUNNING_MAX..QUEUE_MAX {
            assert_eq!(queue.push(argv(number)), None);
        }
        let dropped = queue.push(argv(QUEUE_MAX)).unwrap();
        assert_eq!(dropped.argv(), argv(RUNNING_MAX));
        assert_eq!(queue.jobs().len(), QUEUE_MAX);
        assert_eq!(queue.running(), RUNNING_MAX);
    }

    /// Exit code 1 ten times: 30 s, 60 s, ... 7680 s between the attempts, then it is given up.
    #[test]
    fn a_failing_script_is_tried_ten_times() {
        let (mut now, periods) = (origin(), Periods::default());
        let mut queue = Queue::default();
        queue.push(argv(1));
        for attempt in 1..ATTEMPTS_MAX {
            let started = runs(&queue.due(now, &periods));
            let again = queue.ended(started[0].0, ScriptEnd::Exited(1), now, &periods);
            assert_eq!(told(&again), ["-script-child 0 1 0"]);
            let delay = Duration::from_secs(30 << (attempt - 1));
            assert_eq!(queue.jobs().next().unwrap().delay(now), delay);
            assert_eq!(queue.next_wake(now, &periods), Some(now + delay));
            let just_before = now + delay - Duration::from_millis(1);
            assert!(queue.due(just_before, &periods).is_empty());
            now += delay;
        }
        let started = runs(&queue.due(now, &periods));
        let last = queue.ended(started[0].0, ScriptEnd::Exited(1), now, &periods);
        assert_eq!(
            told(&last),
            ["-script-child 0 1 0", "-script-error /bin/notify 0 1"]
        );
        assert_eq!(queue.jobs().len(), 0);
    }

    #[test]
    fn how_each_end_is_taken() {
        // End, whether it is tried again, and what is told.
        let table: [(ScriptEnd, bool, &[&str]); 5] = [
            (ScriptEnd::Exited(0), false, &["-script-child 0 0 0"]),
            (ScriptEnd::Exited(1), true, &["-script-child 0 1 0"]),
            (
                ScriptEnd::Exited(2),
                false,
                &["-script-child 0 2 0", "-script-error /bin/notify 0 2"],
            ),
            (ScriptEnd::Signalled(9), true, &["-script-child 0 0 9"]),
            (
                ScriptEnd::NotStarted,
                true,
                &["-script-error /bin/notify 99 0"],
            ),
        ];
        let (now, periods) = (origin(), Periods::default());
        for (end, again, expected) in table {
            let mut queue = Queue::default();
            queue.push(argv(1));
            let started = runs(&queue.due(now, &periods));
            let outputs = queue.ended(started[0].0, end, now, &periods);
            assert_eq!(told(&outputs), expected, "{end:?}");
            assert_eq!(queue.jobs().len(), usize::from(again), "{end:?}");
        }
    }

    #[test]
    fn what_runs_too_long_is_killed_once_and_tried_again() {
        let (now, periods) = (origin(), Periods::default());
        let mut queue = Queue::default();
        queue.push(argv(1));
        let script = runs(&queue.due(now, &periods))[0].0;
        queue.started(script, 42);
        let late = now + periods.script_max_runtime;
        assert_eq!(queue.next_wake(now, &periods), Some(late));
        let outputs = queue.due(late, &periods);
        assert_eq!(told(&outputs), ["-script-timeout /bin/notify 42"]);
        assert!(outputs.iter().any(
            |output| matches!(output, Output::KillScript { script: killed } if *killed == script)
        ));
        assert!(queue.due(late, &periods).is_empty(), "once");
        assert_eq!(queue.next_wake(late, &periods), None);
        queue.ended(script, ScriptEnd::Signalled(9), late, &periods);
        assert_eq!(
            queue.jobs().next().unwrap().delay(late),
            periods.script_retry_delay
        );
    }
}
