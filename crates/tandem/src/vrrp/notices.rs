//! Telling others: notify scripts and FIFO lines, in keepalived's words.

use tandem_config::keepalived::{Notify, Script};
use tandem_vrrp::machine::State;
use tracing::{error, info};

use super::daemon::Daemon;
use super::fifo;
use super::scripts::Job;
use super::scripts::notify::{Batch, Lane};

/// A change to tell scripts and FIFO readers.
#[derive(Debug)]
pub(super) enum Notice {
    State(usize, State),
    LowerMaster(usize),
    Priority(usize),
    Group(usize, State),
}

/// Whose script.
#[derive(Debug, Clone, Copy)]
struct Subject<'a> {
    kind: &'static str,
    name: &'a str,
    priority: u8,
}

impl Daemon {
    pub(super) fn group_notice(&mut self, index: usize, notices: &mut Vec<Notice>) {
        let unit = &mut self.units[index];
        let state = unit.group.state();
        // While members stop one after another the group has no state to tell.
        let members = 0..unit.group.len();
        let stopping = members
            .filter_map(|member| unit.group.member(member))
            .any(|machine| machine.state() == State::Stopped);
        let Some(named) = &mut unit.named else { return };
        let told = match state {
            State::Stopped => named.told.replace(state),
            State::Backup | State::Master | State::Fault if !stopping => named.told.replace(state),
            State::Backup
            | State::Master
            | State::Fault
            | State::Init
            | State::Claiming
            | State::Releasing => return,
        };
        if told != Some(state) {
            notices.push(Notice::Group(index, state));
        }
    }

    pub(super) fn notify(&mut self, notice: &Notice) {
        match *notice {
            Notice::State(index, _) if self.routers[index].leaving => {}
            Notice::State(index, state) => self.tell_state(index, word(state), state),
            Notice::LowerMaster(index) => {
                let router = &self.routers[index];
                let jobs = self.jobs(router.plan.notify.master_rx_lower_pri.as_ref(), None, None);
                let subject = Subject {
                    kind: "INSTANCE",
                    name: &router.plan.name,
                    priority: self.priority(index),
                };
                let line = fifo::line(
                    subject.kind,
                    subject.name,
                    "MASTER_RX_LOWER_PRI",
                    subject.priority,
                );
                let batch = Batch {
                    occasion: "MASTER_RX_LOWER_PRI",
                    supersedes: false,
                    jobs,
                };
                push(&router.lane, &router.plan.name, batch);
                self.write_fifos(&line);
            }
            Notice::Priority(index) => {
                let Some(machine) = self.machine(index) else {
                    return;
                };
                let word = match machine.state() {
                    State::Master => "MASTER_PRIORITY",
                    State::Backup | State::Claiming => "BACKUP_PRIORITY",
                    State::Init | State::Releasing | State::Fault | State::Stopped => return,
                };
                if self.routers[index].plan.notify_priority_changes {
                    let name = &self.routers[index].plan.name;
                    let line = fifo::line("INSTANCE", name, word, machine.effective_priority());
                    self.write_fifos(&line);
                }
            }
            Notice::Group(index, state) => {
                let Some(named) = &self.units[index].named else {
                    return;
                };
                info!("VRRP_Group({}) is {state} now", named.name);
                let subject = Subject {
                    kind: "GROUP",
                    name: &named.name,
                    priority: 0,
                };
                let specific = specific(&named.notify, state);
                let batch = Batch {
                    occasion: word(state),
                    supersedes: true,
                    jobs: self.jobs(
                        specific,
                        named.notify.any.as_ref(),
                        Some((subject, word(state))),
                    ),
                };
                push(&named.lane, &named.name, batch);
                let line = fifo::line(subject.kind, subject.name, word(state), 0);
                self.write_fifos(&line);
            }
        }
    }

    /// Tells a state, under the word that scripts are to read.
    pub(super) fn tell_state(&mut self, index: usize, word: &'static str, state: State) {
        let router = &self.routers[index];
        let subject = Subject {
            kind: "INSTANCE",
            name: &router.plan.name,
            priority: self.priority(index),
        };
        let notify = &router.plan.notify;
        let specific = match word {
            "DELETED" => notify.deleted.as_ref(),
            _ => specific(notify, state),
        };
        let batch = Batch {
            occasion: word,
            supersedes: true,
            jobs: self.jobs(specific, notify.any.as_ref(), Some((subject, word))),
        };
        push(&router.lane, &router.plan.name, batch);
        let line = fifo::line(subject.kind, subject.name, word, subject.priority);
        self.write_fifos(&line);
    }

    fn priority(&self, index: usize) -> u8 {
        self.machine(index)
            .map_or(0, |machine| machine.effective_priority())
    }

    /// The specific script, then the generic one with its four more arguments.
    fn jobs(
        &self,
        specific: Option<&Script>,
        generic: Option<&Script>,
        subject: Option<(Subject<'_>, &str)>,
    ) -> Vec<Job> {
        let user = self.default_user.as_ref();
        let specific = specific.map(|script| Job::new(script, &[], user));
        let generic = generic.zip(subject).map(
            |(
                script,
                (
                    Subject {
                        kind,
                        name,
                        priority,
                    },
                    word,
                ),
            )| { Job::new(script, &[kind, name, word, &priority.to_string()], user) },
        );
        specific
            .into_iter()
            .chain(generic)
            .filter_map(|job| {
                job.inspect_err(|problem| error!("a script cannot run: {problem}"))
                    .ok()
            })
            .collect()
    }
}

fn push(lane: &Lane, owner: &str, batch: Batch) {
    let occasion = batch.occasion;
    if !lane.push(batch) {
        error!("({owner}) the {occasion} scripts do not run: too many wait");
    }
}

fn specific(notify: &Notify, state: State) -> Option<&Script> {
    match state {
        State::Master => notify.master.as_ref(),
        State::Backup => notify.backup.as_ref(),
        State::Fault => notify.fault.as_ref(),
        State::Stopped => notify.stop.as_ref(),
        State::Init | State::Claiming | State::Releasing => None,
    }
}

/// The state as scripts and FIFO readers know it.
fn word(state: State) -> &'static str {
    match state {
        State::Master => "MASTER",
        State::Backup => "BACKUP",
        State::Fault => "FAULT",
        State::Stopped => "STOP",
        State::Init | State::Claiming | State::Releasing => "INIT",
    }
}
