//! The end of a run: everything is mended, and the fleet has to become one.
//!
//! Whole means: one primary, every sentinel names it and finds it well, configuration epochs are equal, no failover is under
//! way, and every other server follows it with its link up. It has to come about within the plan's bound, which
//! `plan::Plan::bound` adds up from the settings, and to last for a while.

use super::check::ANSWER_WITHIN;
use super::world::{Ev, Fleet, SERVERS, group_name, server_endpoint};
use crate::chance::{MS, SEC, Us};

/// Between two looks.
const LOOK: Us = 250 * MS;
/// For how long the fleet must stay whole.
const LASTS: Us = 3 * SEC;

impl Fleet {
    /// Undoes everything.
    pub(super) fn heal(&mut self) {
        self.say(|| "everything is mended".to_owned());
        self.healed_at = Some(self.now);
        self.net.mend();
        self.unstall();
        for s in 0..SERVERS {
            self.server_thaw(s);
            self.server_start(s, false);
        }
        for n in 0..self.nodes.len() {
            self.nodes[n].disk_full = false;
            self.nodes[n].disk_slow = 0;
            self.node_thaw(n);
            self.node_start(n);
        }
        self.look_at_links();
        self.after(LOOK, Ev::Look);
    }

    /// The server that all agree on, or what is missing.
    fn whole(&self) -> Result<usize, String> {
        let mut agreed = None;
        for (n, node) in self.nodes.iter().enumerate() {
            let group = node
                .machine
                .as_ref()
                .and_then(|machine| machine.group(&group_name()))
                .ok_or_else(|| format!("sentinel {n} does not run"))?;
            let at = group.current_address().clone();
            let view = (at, group.config_epoch);
            if *agreed.get_or_insert_with(|| view.clone()) != view {
                return Err(format!("sentinel {n} names {} in {}", view.0, view.1));
            }
            if group.failover.is_some() {
                return Err(format!("sentinel {n} has a failover under way"));
            }
            if group.primary.down.subjective.is_some() {
                return Err(format!("sentinel {n} finds the primary down"));
            }
        }
        let (at, _) = agreed.ok_or("no sentinel")?;
        let primary = (0..SERVERS)
            .find(|s| server_endpoint(*s) == at)
            .ok_or("no server of the group")?;
        for s in 0..SERVERS {
            let srv = &self.servers[s];
            if s == primary && !srv.is_primary() {
                return Err(format!("server {s} is named and no primary"));
            }
            if s != primary && !srv.follows(primary) && self.is_known(s) {
                return Err(format!("server {s} does not follow {primary}"));
            }
        }
        Ok(primary)
    }

    /// A sentinel sends clients to this server.
    pub(super) fn names(&self, n: usize, s: usize) -> bool {
        self.nodes[n]
            .machine
            .as_ref()
            .and_then(|machine| machine.group(&group_name()))
            .is_some_and(|group| *group.current_address() == server_endpoint(s))
    }

    /// Some sentinel has it as a replica. One that followed another replica when all were RESET is known to none, in
    /// Redis as here: a primary does not list it.
    fn is_known(&self, s: usize) -> bool {
        let at = server_endpoint(s);
        self.nodes.iter().any(|node| {
            node.machine
                .as_ref()
                .and_then(|machine| machine.group(&group_name()))
                .is_some_and(|group| group.replicas.contains_key(&at))
        })
    }

    /// For a trace: what each sentinel believes in the end, and what each server is.
    fn show(&self) {
        for (n, node) in self.nodes.iter().enumerate() {
            let Some(group) = node.machine.as_ref().and_then(|m| m.group(&group_name())) else {
                continue;
            };
            println!(
                "sentinel {n}: primary {} in {}, down {:?}, failover {:?}, retry {:?}",
                group.primary.at,
                group.config_epoch,
                group.primary.down,
                group.failover,
                group.retry_at.map(|at| self.us(at))
            );
            for (at, replica) in &group.replicas {
                println!(
                    "  {at}: {:?}, follows {:?}, link up {}, down {:?}",
                    replica.observed.role,
                    replica.follows,
                    replica.link_up,
                    replica.down.subjective.map(|at| self.us(at))
                );
            }
            for peer in group.peers.values() {
                println!(
                    "  peer {}: {:?}, says down {}, down {}",
                    peer.at,
                    peer.kind,
                    peer.primary_down,
                    peer.down.subjective.is_some()
                );
            }
        }
        for (s, srv) in self.servers.iter().enumerate() {
            let proc = srv.redis.proc.as_ref();
            println!(
                "server {s}: follows {:?}, up {:?}, keys {:?}",
                srv.of,
                proc.map(|p| p.link_up()),
                proc.map(|p| p.data.len())
            );
        }
    }

    /// Whether the fleet is whole yet, or late.
    pub(super) fn look(&mut self) {
        let now = self.now;
        let healed = self.healed_at.unwrap_or(now);
        let old = self
            .asked
            .values()
            .find(|asker| now > asker.since.max(healed) + ANSWER_WITHIN);
        if let Some(asker) = old {
            let text = format!("sentinel {} owes an answer", asker.node);
            self.broken("answers", text);
        }
        match self.whole() {
            Ok(primary) => {
                let since = *self.whole_since.get_or_insert(now);
                if now >= since + LASTS {
                    if !self.writer.stopped {
                        // What is under way ends first.
                        self.writer.stopped = true;
                        self.whole_since = Some(now - LASTS + SEC);
                    } else {
                        let (took, bound) = (since - healed.min(since), self.plan.bound());
                        self.say(|| format!("whole after {took} of {bound} us"));
                        if self.plan.calm {
                            self.check_writes(primary);
                        }
                        self.done = true;
                        return;
                    }
                }
            }
            Err(missing) => {
                self.whole_since = None;
                let bound = self.plan.bound();
                if now > healed + bound {
                    let seconds = bound / SEC;
                    if self.trace {
                        self.show();
                    }
                    self.broken("healing", format!("not whole after {seconds} s: {missing}"));
                }
            }
        }
        self.after(LOOK, Ev::Look);
    }
}
