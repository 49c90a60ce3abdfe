//! The steps of the keeper carried out against the simulated world, as `keeper::io::Step` words them.

use tandem_core::ids::ReplId;
use tandem_core::keeper::io::{ProbeResult, Step, StepError, StepErrorKind};
use tandem_core::keeper::{Input, Outcome, ServerEvent};
use tandem_core::pair::PairInput;

use crate::chance::{MS, SEC, Us};
use crate::reading::hex;
use crate::redis::{Kind, Link, Target, WRITE_BYTES};
use crate::shell::error;
use crate::world::{Admin, Cmd, Ev, Mishap, Run, World, other};

/// A step of which nothing is heard is given up after this.
pub(crate) const GIVEN_UP_AFTER: Us = 2 * SEC;
/// A stream of which nothing more arrives for this long has been read.
const DRAINED_AFTER: Us = 3 * MS;

/// How a step stands.
enum Turn {
    Ended(Result<Outcome, StepError>),
    /// Looked at again in a millisecond.
    Again,
    /// Nothing comes back: it fails at its deadline.
    Hangs,
}

impl World {
    pub(crate) fn step_runs(&mut self, mut run: Run) {
        let h = run.h;
        if self.inc(h) != run.inc {
            return;
        }
        if let Some(daemon) = &mut self.hosts[h].daemon
            && daemon.frozen_since.is_some()
        {
            daemon.held.push(run);
            return;
        }
        let turn = if self.now > run.deadline {
            self.given_up(&run);
            Turn::Ended(Err(error(StepErrorKind::TimedOut, "deadline passed")))
        } else {
            match run.mishap {
                Mishap::Refused => Turn::Ended(Err(error(StepErrorKind::Refused, "refused"))),
                Mishap::LostBefore => Turn::Ended(Err(error(StepErrorKind::Broken, "broken"))),
                Mishap::LateBefore => Turn::Hangs,
                Mishap::None | Mishap::LostAfter | Mishap::LateAfter => self.turn(&mut run),
            }
        };
        let turn = match (turn, run.mishap) {
            (Turn::Ended(Ok(_)), Mishap::LostAfter) => {
                Turn::Ended(Err(error(StepErrorKind::Broken, "answer lost")))
            }
            (Turn::Ended(Ok(_)), Mishap::LateAfter) => Turn::Hangs,
            (turn, _) => turn,
        };
        match turn {
            Turn::Ended(result) => {
                let wait = self.local();
                self.report(&run, wait, result);
            }
            Turn::Again => self.after(MS, Ev::Step(Box::new(run))),
            Turn::Hangs => {
                // A shell gives up when nothing moves, however long the whole may take.
                let wait = run.deadline.saturating_sub(self.now).min(GIVEN_UP_AFTER);
                self.report(
                    &run,
                    wait,
                    Err(error(StepErrorKind::TimedOut, "no answer in time")),
                );
            }
        }
    }

    /// Proxies are not simulated, only what the keeper hears of them: they finish at once, late, or not at all.
    fn quiesce_turn(rank: &tandem_core::topology::Rank) -> Turn {
        match rank.turn % 3 {
            0 => Turn::Hangs,
            _ => Turn::Ended(Ok(Outcome::Done)),
        }
    }

    /// What a step that was given up leaves behind is cleaned as far as that is possible.
    fn given_up(&mut self, run: &Run) {
        if matches!(run.step, Step::RemoteFence { .. }) && run.begun && self.redis_path() {
            let p = other(run.h);
            if !self.hosts[p].server_frozen {
                self.execute_admin(p, Admin::Unpause);
            }
        }
    }

    fn report(&mut self, run: &Run, wait: Us, result: Result<Outcome, StepError>) {
        let (h, inc, id) = (run.h, run.inc, run.id);
        let effect = result.is_ok();
        self.after(wait, Ev::StepDone { h, inc, id, result });
        let shows = matches!(run.step, Step::Attach { .. } | Step::Unpause);
        if shows
            && effect
            && !self.hosts[h].server_frozen
            && let Some(view) = self.view(h)
        {
            self.feed(h, PairInput::Keeper(Input::Server(ServerEvent::View(view))));
        }
    }

    fn turn(&mut self, run: &mut Run) -> Turn {
        let h = run.h;
        let done = Turn::Ended(Ok(Outcome::Done));
        match run.step.clone() {
            // Written by the disk, in order.
            Step::Journal(_) => done,
            Step::StartServer => {
                if self.hosts[h].server.proc.is_none() {
                    let boot = self.hosts[h].boot;
                    let wait = self.chance.within(5 * MS, 60 * MS);
                    self.after(
                        wait,
                        Ev::ServerStart {
                            h,
                            boot,
                            fenced: true,
                        },
                    );
                }
                done
            }
            Step::KillServer => {
                self.kill_server(h, false);
                done
            }
            Step::Promote => self.command(h, Admin::Promote),
            Step::Fence => self.command(h, Admin::Fence),
            Step::Attach { .. } => self.command(h, Admin::Attach),
            Step::Quiesce(rank) => Self::quiesce_turn(&rank),
            Step::PauseWrites(length) => {
                let length = Us::try_from(length.as_micros()).unwrap_or(0);
                self.command(h, Admin::Pause(length))
            }
            Step::Unpause => self.command(h, Admin::Unpause),
            Step::WaitPeerOffset { offset, .. } => {
                let peer = &self.hosts[other(h)];
                let there = self.redis_path() && !peer.server_frozen;
                match &peer.server.proc {
                    Some(proc) if there && proc.offset >= offset.0 => done,
                    Some(_) | None => Turn::Again,
                }
            }
            Step::Drain {
                offset,
                exact,
                last_words,
            } => {
                let told = !last_words.is_empty();
                self.drain_turn(h, offset.map(|o| o.0), exact, told)
            }
            Step::CloseFront { direct, .. } => {
                self.hosts[h].gate = true;
                self.hosts[h].gate_direct |= direct;
                self.drop_clients(h);
                done
            }
            Step::OpenFront => {
                self.hosts[h].gate = false;
                self.hosts[h].gate_direct = false;
                done
            }
            Step::AddVip => {
                self.vip_added(h);
                done
            }
            Step::DropVip => {
                self.vip_dropped(h);
                done
            }
            Step::Probe => self.probe_turn(h),
            Step::RemoteFence { lineage } => self.remote_fence_turn(h, run, &lineage),
            Step::MeasureTail { from } => self.measure_turn(h, from.0),
            Step::ArchiveTail { from, .. } => self.archive_tail_turn(h, from.0),
            Step::ArchiveRdb { .. } => self.archive_rdb_turn(h),
        }
    }

    /// One command to the local server, and the view after it.
    fn command(&mut self, h: usize, admin: Admin) -> Turn {
        if self.hosts[h].server.proc.is_none() {
            return Turn::Ended(Err(error(StepErrorKind::Refused, "connection refused")));
        }
        if self.hosts[h].server_frozen {
            self.hosts[h].queued.push_back(Cmd::Admin(admin));
            return Turn::Hangs;
        }
        let loading = self.hosts[h]
            .server
            .proc
            .as_ref()
            .is_some_and(|p| p.is_loading(self.now));
        if loading {
            return Turn::Ended(Err(error(StepErrorKind::Refused, "LOADING")));
        }
        self.execute_admin(h, admin);
        self.viewed(h)
    }

    fn viewed(&self, h: usize) -> Turn {
        match self.view(h) {
            Some(_) if self.hosts[h].server_frozen => Turn::Hangs,
            Some(view) => Turn::Ended(Ok(Outcome::View(view))),
            None => Turn::Ended(Err(error(StepErrorKind::Refused, "connection refused"))),
        }
    }

    /// The server runs a command of the keeper.
    pub(crate) fn execute_admin(&mut self, h: usize, admin: Admin) {
        let now = self.now;
        if matches!(admin, Admin::Promote | Admin::Fence | Admin::Attach) {
            self.hosts[h].orphaned = None;
            self.hosts[h].neglected = false;
        }
        let Some(proc) = &mut self.hosts[h].server.proc else {
            return;
        };
        match admin {
            Admin::Pause(length) => {
                proc.paused_until = now + length;
                self.after(length, Ev::Unpaused { h });
            }
            Admin::Unpause => {
                proc.paused_until = now;
                self.after(0, Ev::Unpaused { h });
            }
            Admin::Promote => {
                let run = proc.run;
                self.check_promoted(h);
                // Its replicas must reconnect to learn the new lineage.
                if self.hosts[h].server.replicaof(None, now, &mut self.chance) {
                    self.end_streams(h, run);
                }
            }
            Admin::Fence => {
                self.hosts[h]
                    .server
                    .replicaof(Some(Target::Fence), now, &mut self.chance);
                self.drop_clients(h);
                self.after(0, Ev::Unpaused { h });
                self.after(0, Ev::Link { h });
            }
            Admin::Attach => {
                self.hosts[h]
                    .server
                    .replicaof(Some(Target::Peer), now, &mut self.chance);
                self.after(0, Ev::Unpaused { h });
                self.after(0, Ev::Link { h });
            }
        }
    }

    fn drain_turn(&mut self, h: usize, offset: Option<u64>, exact: bool, told: bool) -> Turn {
        if self.hosts[h].server_frozen {
            return Turn::Again;
        }
        let Some(proc) = &self.hosts[h].server.proc else {
            return Turn::Ended(Err(error(StepErrorKind::Refused, "connection refused")));
        };
        // As the shell does it: what is known is the least, and the kernel may hold more of a stream that has not ended.
        let reached = offset.is_some_and(|o| proc.offset >= o);
        let drained = match &proc.link {
            Link::Up(conn) if told => conn.queue.is_empty(),
            Link::Up(conn) => conn
                .queue
                .front()
                .is_none_or(|(at, _)| *at > self.now + DRAINED_AFTER),
            Link::None | Link::Down(_) | Link::Full { .. } => true,
        };
        let ended = !proc.link_up();
        if (exact && reached) || (!exact && (ended || (reached || told) && drained)) {
            self.viewed(h)
        } else {
            Turn::Again
        }
    }

    fn probe_turn(&mut self, h: usize) -> Turn {
        let peer = &self.hosts[other(h)];
        if !self.redis_path() {
            return Turn::Hangs;
        }
        let found = match &peer.server.proc {
            None => ProbeResult::Refused,
            Some(_) if peer.server_frozen => return Turn::Hangs,
            Some(proc) => ProbeResult::Answers {
                writable: proc.is_primary(),
            },
        };
        Turn::Ended(Ok(Outcome::Probed(found)))
    }

    fn remote_fence_turn(&mut self, h: usize, run: &mut Run, lineage: &ReplId) -> Turn {
        let p = other(h);
        if !self.redis_path() || self.hosts[p].server_frozen {
            return if run.begun { Turn::Again } else { Turn::Hangs };
        }
        let now = self.now;
        let Some(theirs) = self.hosts[p].server.proc.as_ref() else {
            return Turn::Ended(Err(error(StepErrorKind::Broken, "connection refused")));
        };
        if theirs.is_loading(now) {
            return Turn::Ended(Err(error(StepErrorKind::Refused, "LOADING")));
        }
        if !run.begun {
            if ReplId(hex(theirs.replid)) != *lineage {
                return Turn::Ended(Err(error(StepErrorKind::Refused, "another lineage")));
            }
            run.begun = true;
            let length = run.deadline.saturating_sub(now);
            self.execute_admin(p, Admin::Pause(length));
            return Turn::Again;
        }
        let ours = self.hosts[h].server.proc.as_ref();
        let equal = ours.is_some_and(|o| o.replid == theirs.replid && o.offset >= theirs.offset);
        if !equal {
            return Turn::Again;
        }
        let offset = theirs.offset;
        self.execute_admin(p, Admin::Fence);
        Turn::Ended(Ok(Outcome::RemoteFenced(tandem_core::ids::Offset(offset))))
    }

    /// The stream after `from` as PSYNC would give it; `None` when the backlog no longer has it.
    fn tail(&self, h: usize, from: u64) -> Option<Vec<u32>> {
        let proc = self.hosts[h].server.proc.as_ref()?;
        if proc.offset <= from {
            return Some(Vec::new());
        }
        let backlog = proc.backlog.as_ref()?;
        if backlog.start > from + 1 {
            return None;
        }
        let after = backlog.entries.iter().filter(|e| e.end > from);
        Some(
            after
                .filter_map(|e| match e.kind {
                    Kind::Write(id) => Some(id),
                    Kind::Ping | Kind::Select => None,
                })
                .collect(),
        )
    }

    fn answers(&self, h: usize) -> Result<(), Turn> {
        let Some(proc) = &self.hosts[h].server.proc else {
            return Err(Turn::Ended(Err(error(
                StepErrorKind::Refused,
                "connection refused",
            ))));
        };
        if self.hosts[h].server_frozen {
            return Err(Turn::Hangs);
        }
        if proc.is_loading(self.now) {
            return Err(Turn::Ended(Err(error(StepErrorKind::Refused, "LOADING"))));
        }
        Ok(())
    }

    fn measure_turn(&mut self, h: usize, from: u64) -> Turn {
        if let Err(turn) = self.answers(h) {
            return turn;
        }
        Turn::Ended(match self.tail(h, from) {
            Some(ids) => Ok(Outcome::Measured(ids.len() as u64 * WRITE_BYTES)),
            None => Err(error(StepErrorKind::TailGone, "not in the backlog")),
        })
    }

    fn archive_tail_turn(&mut self, h: usize, from: u64) -> Turn {
        if let Err(turn) = self.answers(h) {
            return turn;
        }
        let fenced = self.hosts[h]
            .server
            .proc
            .as_ref()
            .is_some_and(|p| p.of == Some(Target::Fence));
        let primary = self.hosts[h]
            .server
            .proc
            .as_ref()
            .is_some_and(|p| p.is_primary());
        if !fenced && !primary {
            return Turn::Ended(Err(error(StepErrorKind::Refused, "NOMASTERLINK")));
        }
        let Some(ids) = self.tail(h, from) else {
            return Turn::Ended(Err(error(StepErrorKind::TailGone, "not in the backlog")));
        };
        if self.hosts[h].disk_full {
            return Turn::Ended(Err(error(
                StepErrorKind::NoSpace,
                "no space for the archive",
            )));
        }
        if fenced {
            // To answer PSYNC it must be a primary for a moment, behind the front and paused.
            let now = self.now;
            self.hosts[h].server.replicaof(None, now, &mut self.chance);
        }
        for id in &ids {
            self.hosts[h].archive.insert(*id);
        }
        self.say(Some(h), || {
            format!("archives {} commands after {from}", ids.len())
        });
        self.execute_admin(h, Admin::Fence);
        self.archived(h, ids.len() as u64)
    }

    fn archived(&self, h: usize, commands: u64) -> Turn {
        let Some(view) = self.view(h) else {
            return Turn::Ended(Err(error(StepErrorKind::Refused, "connection refused")));
        };
        Turn::Ended(Ok(Outcome::Archived {
            receipt: (commands > 0).then(|| "receipt".to_owned()),
            commands,
            view,
        }))
    }

    fn archive_rdb_turn(&mut self, h: usize) -> Turn {
        if let Err(turn) = self.answers(h) {
            return turn;
        }
        if self.hosts[h].disk_full {
            return Turn::Ended(Err(error(
                StepErrorKind::NoSpace,
                "no space for the archive",
            )));
        }
        self.execute_admin(h, Admin::Fence);
        let host = &mut self.hosts[h];
        if let Some(proc) = &host.server.proc {
            host.archive.extend(&proc.data);
        }
        self.say(Some(h), || "archives everything".to_owned());
        let keys = self.hosts[h]
            .server
            .proc
            .as_ref()
            .map_or(0, |p| p.data.len());
        self.archived(h, keys)
    }
}
