//! The loop around the machine: whatever happens becomes an input, every output is carried out.
//!
//! One thread. Inputs are taken in batches; what a batch makes the machine send leaves in one write per connection.
//! The loop measures how late it wakes: a process that stood still must not hold its own silence against the servers.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tandem_config::sentinel::AclUser;
use tandem_core::sentinel::commands;
use tandem_core::sentinel::io::{Level, SaveVersion};
use tandem_core::sentinel::saved::SavedState;
use tandem_core::sentinel::{Input, Output, Question, RequestId, Sentinel};
use tandem_resp::Value;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant as Wake;

use super::boot;
use super::daemon::Daemons;
use super::file::File;
use super::links::{Links, Options};
use super::log::RedisLog;
use super::names;
use super::scripts::Scripts;
use super::serve::{Ask, Server};

/// Inputs that wait for the loop; connections stop reading when it is full.
const INPUTS_MAX: usize = 4096;
/// Inputs handled in one turn before what they caused is sent.
const BATCH_MAX: usize = 256;
/// A wake-up this late is a stall worth telling the machine.
const LATE: Duration = Duration::from_millis(25);
/// The longest sleep: a bound for a machine that wants nothing.
const SLEEP_MAX: Duration = Duration::from_secs(60);
/// How long a connection attempt may take at least, whatever the ping period is.
const CONNECT_MIN: Duration = Duration::from_millis(200);

/// Everything the loop needs from the start-up.
pub(super) struct Parts {
    pub(super) machine: Sentinel,
    /// What the machine wanted at once.
    pub(super) first: Vec<Output>,
    pub(super) server: Server,
    pub(super) asks: mpsc::Receiver<Ask>,
    pub(super) links: Options,
    pub(super) daemons: Daemons,
    pub(super) file: File,
    pub(super) dir: PathBuf,
    pub(super) log: RedisLog,
}

/// Why the loop ended.
pub(super) enum End {
    /// TERM, INT or SHUTDOWN.
    Asked,
    /// `SENTINEL SIMULATE-FAILURE`.
    Simulated(i32),
}

struct Shell {
    machine: Sentinel,
    server: Server,
    links: Links,
    daemons: Daemons,
    scripts: Scripts,
    file: File,
    log: RedisLog,
    inputs: mpsc::Sender<Input>,
    waiting: BTreeMap<RequestId, oneshot::Sender<Value>>,
    next_request: u64,
    end: Option<i32>,
}

/// Runs until TERM or INT.
///
/// # Errors
/// When signals cannot be listened to.
pub(super) async fn run(parts: Parts) -> std::io::Result<End> {
    let (inputs, happened) = mpsc::channel(INPUTS_MAX);
    let shell = Shell {
        machine: parts.machine,
        server: parts.server,
        links: Links::new(inputs.clone(), parts.links),
        daemons: parts.daemons,
        scripts: Scripts::new(inputs.clone(), parts.dir),
        file: parts.file,
        log: parts.log,
        inputs,
        waiting: BTreeMap::new(),
        next_request: 0,
        end: None,
    };
    let ends = Ends {
        terminate: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
        shutdown: shell.server.shutdown(),
    };
    Ok(shell.live(parts.first, happened, parts.asks, ends).await)
}

/// What asks the process to end.
struct Ends {
    terminate: Signal,
    interrupt: Signal,
    shutdown: Rc<Notify>,
}

impl Shell {
    async fn live(
        mut self,
        first: Vec<Output>,
        mut happened: mpsc::Receiver<Input>,
        mut asks: mpsc::Receiver<Ask>,
        mut ends: Ends,
    ) -> End {
        self.carry_out(first);
        self.links.flush();
        let end = loop {
            let deadline = self.next_wake();
            tokio::select! {
                biased;
                _ = ends.terminate.recv() => {
                    self.log.line(Level::Warning, "Received SIGTERM scheduling shutdown...");
                    break End::Asked;
                }
                _ = ends.interrupt.recv() => {
                    self.log.line(Level::Warning, "Received SIGINT scheduling shutdown...");
                    break End::Asked;
                }
                () = ends.shutdown.notified() => break End::Asked,
                Some(input) = happened.recv() => {
                    self.note_lateness(deadline);
                    self.feed(input);
                    for _ in 1..BATCH_MAX {
                        let Ok(input) = happened.try_recv() else { break };
                        self.feed(input);
                    }
                }
                Some(ask) = asks.recv() => {
                    self.note_lateness(deadline);
                    self.ask(ask);
                }
                () = tokio::time::sleep_until(Wake::from_std(deadline)) => {
                    self.note_lateness(deadline);
                    self.feed(Input::Tick);
                }
            }
            self.links.flush();
            if let Some(code) = self.end {
                // As a crash would leave it: nothing is written any more.
                return End::Simulated(code);
            }
        };
        // Nobody takes results now; a writer that waits for us to do so would keep us.
        drop(happened);
        self.finish().await;
        end
    }

    /// The end in order: clients are told by the close of their connections, and the file holds what we know.
    async fn finish(self) {
        self.log.line(Level::Warning, "User requested shutdown...");
        self.server.close();
        // The connections' tasks see it when they run next.
        tokio::task::yield_now().await;
        let state = self.machine.state();
        if let Err(error) = self.file.finish(state, users_of(&self.server)) {
            self.log.line(
                Level::Warning,
                &format!("the last state is not in the file: {error}"),
            );
        }
    }

    fn next_wake(&self) -> Instant {
        let now = Instant::now();
        let bound = now + SLEEP_MAX;
        // Never in the past, or lateness would be counted twice.
        self.machine
            .next_wake()
            .map_or(bound, |at| at.clamp(now, bound))
    }

    fn note_lateness(&mut self, deadline: Instant) {
        let late = Instant::now().saturating_duration_since(deadline);
        if late >= LATE {
            self.feed(Input::Late(late));
        }
    }

    fn ask(&mut self, ask: Ask) {
        let request = RequestId(self.next_request);
        self.next_request += 1;
        // A client that left meanwhile needs no answer; clients are bounded, and so is this.
        self.waiting.retain(|_, answer| !answer.is_closed());
        self.waiting.insert(request, ask.answer);
        self.feed(Input::Asked {
            request,
            question: with_programs(ask.question),
        });
    }

    fn feed(&mut self, input: Input) {
        match &input {
            Input::Lost { conn, .. } => self.links.ended(*conn),
            Input::ScriptEnded { script, .. } => self.scripts.ended(*script),
            Input::Tick
            | Input::Connected { .. }
            | Input::Reply { .. }
            | Input::Heard { .. }
            | Input::Asked { .. }
            | Input::Saved { .. }
            | Input::ScriptStarted { .. }
            | Input::Resolved { .. }
            | Input::Witness { .. }
            | Input::Late(_) => {}
        }
        let outputs = self.machine.handle(input, Instant::now());
        self.carry_out(outputs);
    }

    fn carry_out(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Connect {
                    conn,
                    to,
                    kind,
                    tls,
                } => {
                    let bound = self.machine.periods().ping.max(CONNECT_MIN);
                    self.links.connect(conn, to, kind, tls, bound);
                }
                Output::Close { conn } => self.links.close(conn),
                Output::Send { conn, argv } => self.links.send(conn, &argv),
                Output::Answer { request, value } => {
                    if let Some(answer) = self.waiting.remove(&request) {
                        // The client may have left.
                        let _ = answer.send(value);
                    }
                }
                Output::Tell(event) => {
                    self.log
                        .line(event.level, &format!("{} {}", event.name, event.payload));
                    if event.level > Level::Debug {
                        self.server.publish(&event);
                    }
                }
                Output::SetLogLevel(least) => self.log.set_least(least),
                Output::Log { level, text } => self.log.line(level, &text),
                Output::NextFailover { group, at } => self.tell_next_failover(&group.0, at),
                Output::Save { version, state } => self.save(version, *state),
                Output::RunScript { script, argv } => self.scripts.run(script, &argv),
                Output::KillScript { script } => self.scripts.kill(script),
                Output::Resolve { host } => names::resolve(host, self.inputs.clone()),
                Output::AskDaemon { server, about } => {
                    self.daemons.ask(server, about, self.inputs.clone());
                }
                Output::Exit { code } => self.end = Some(code),
            }
        }
    }

    fn save(&mut self, version: SaveVersion, state: SavedState) {
        let users = users_of(&self.server);
        let inputs = self.inputs.clone();
        self.file.save(state, users, move |result| {
            // The loop that asked is gone when this fails, and then nobody waits.
            let _ = inputs.blocking_send(Input::Saved { version, result });
        });
    }

    /// Redis prints the time as ctime(3) does.
    fn tell_next_failover(&self, _group: &str, at: Instant) {
        let wait = at.saturating_duration_since(Instant::now());
        let text = Timestamp::now()
            .checked_add(wait)
            .map(|time| {
                time.to_zoned(jiff::tz::TimeZone::system())
                    .strftime("%a %b %e %H:%M:%S %Y")
                    .to_string()
            })
            .unwrap_or_default();
        self.log.line(
            Level::Warning,
            &format!("Next failover delay: I will not start a failover before {text}"),
        );
    }
}

/// The users as the file holds them.
fn users_of(server: &Server) -> Vec<AclUser> {
    let lines = server.users();
    lines
        .iter()
        .filter_map(|line| boot::user_of(line))
        .collect()
}

/// The machine opens no files: whether a script that a question names can be run is looked up for it.
fn with_programs(question: Question) -> Question {
    let Question::Sentinel(args) = question else {
        return question;
    };
    let named = commands::scripts_named(&args);
    if named.is_empty() {
        return Question::Sentinel(args);
    }
    let executable = |path: &String| {
        std::fs::metadata(path)
            .is_ok_and(|facts| facts.is_file() && facts.permissions().mode() & 0o111 != 0)
    };
    let programs = named.into_iter().filter(executable).collect();
    Question::SentinelWithPrograms { args, programs }
}
