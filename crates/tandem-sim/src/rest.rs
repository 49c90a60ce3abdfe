//! The shell's questions to its server: PING and INFO, told at once or, while the keeper rests, a period later.

use std::time::Duration;

use tandem_core::health::{AnswerKind, DeathProof};
use tandem_core::keeper::ServerEvent;
use tandem_core::server::{ServerRole, ServerView};

use crate::chance::{MS, Us};
use crate::world::{Ev, Rest, World};

/// Between two PINGs.
const POLL: Us = 30 * MS;
/// Between two readings of INFO in a rest, but of a replica whose link is not up.
const INFO_EVERY: Us = 500 * MS;

impl World {
    /// PING often, INFO every third time. While nothing happens the connection rests: what it reads reaches the keeper at the next
    /// PING, and that the server answers when the loop wakes up for something else; INFO is read seldom, and at once if a look
    /// at a replica's link found it changed.
    pub(crate) fn poll(&mut self, h: usize, inc: u64, round: u32) {
        if self.inc(h) != inc {
            return;
        }
        self.after(
            POLL,
            Ev::Poll {
                h,
                inc,
                round: round + 1,
            },
        );
        let awake = self.hosts[h]
            .daemon
            .as_ref()
            .is_some_and(|d| d.frozen_since.is_none());
        if !awake || self.hosts[h].server_frozen {
            return;
        }
        let Some(proc) = &self.hosts[h].server.proc else {
            let dead = ServerEvent::Dead(DeathProof::RefusedAndGone);
            self.server_says(h, dead);
            return;
        };
        let run = proc.run;
        let kind = if proc.is_loading(self.now) {
            AnswerKind::Loading
        } else if self.hosts[h].misconf && proc.is_primary() {
            AnswerKind::Misconf
        } else {
            AnswerKind::Fine
        };
        self.what_lay(h, run);
        let rest = self.hosts[h].daemon.as_ref().map(|daemon| &daemon.rest);
        let known = rest.is_some_and(|rest| rest.watches == Some(run));
        let rests = known && kind == AnswerKind::Fine && self.is_at_rest(h);
        let news = self.hosts[h]
            .daemon
            .as_mut()
            .is_some_and(|daemon| std::mem::take(&mut daemon.rest.link_changed));
        if (news || round.is_multiple_of(3))
            && let Some(view) = self.view(h)
        {
            let now = self.now;
            match &mut self.hosts[h].daemon {
                Some(daemon) if rests && !news => daemon.rest.look(run, view, now),
                Some(daemon) => {
                    daemon.rest.watches = Some(run);
                    self.read(h, view);
                }
                None => {}
            }
            return;
        }
        match &mut self.hosts[h].daemon {
            Some(daemon) if rests => daemon.rest.heard = Some(self.now),
            Some(_) | None => self.server_says(h, ServerEvent::Answer(kind)),
        }
    }

    fn is_at_rest(&self, h: usize) -> bool {
        let daemon = self.hosts[h].daemon.as_ref();
        daemon.is_some_and(|daemon| daemon.pair.keeper().is_at_rest(self.instant()))
    }

    /// The reading of the last period, unless it is of another process or time, or the rest ended before.
    fn what_lay(&mut self, h: usize, run: u64) {
        let rests = self.is_at_rest(h);
        let lay = self.hosts[h]
            .daemon
            .as_mut()
            .and_then(|daemon| daemon.rest.lies.take());
        if let Some((of, at, view)) = lay
            && rests
            && of == run
            && self.now - at <= 3 * POLL
        {
            let at = self.base + Duration::from_micros(at);
            self.server_says(h, ServerEvent::Earlier(AnswerKind::Fine, at));
            self.read(h, view);
        }
    }

    fn read(&mut self, h: usize, view: Box<ServerView>) {
        let now = self.now;
        if let Some(daemon) = &mut self.hosts[h].daemon {
            daemon.rest.role = Some(view.role.clone());
            daemon.rest.read_at = now;
        }
        self.server_says(h, ServerEvent::View(view));
    }
}

impl Rest {
    /// Asks for INFO if it is time, and else looks at the link of a replica that has one.
    fn look(&mut self, run: u64, view: Box<ServerView>, now: Us) {
        let is_time = now - self.read_at >= INFO_EVERY;
        match &self.role {
            Some(ServerRole::Primary) if !is_time => self.heard = Some(now),
            Some(
                role @ ServerRole::Replica {
                    link_up: true,
                    syncing: false,
                    ..
                },
            ) if !is_time => {
                self.heard = Some(now);
                self.link_changed = *role != view.role;
            }
            Some(_) | None => self.lies = Some((run, now, view)),
        }
    }
}
