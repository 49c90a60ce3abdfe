//! What must hold at every moment.
//!
//! - `two-leaders`: no two sentinels win the election of one epoch, failovers on request included; whoever wins has voted for itself and for nobody else.
//! - `two-votes`: a sentinel tells no two votes of one epoch, whatever was restarted between them.
//! - `two-promotions`: no two servers accept SLAVEOF NO ONE for one epoch. Promotions on an operator's word without a majority
//!   within reach are not counted.
//! - `backwards`: the epochs of a sentinel never go back within a process, nor behind its file at a start.
//! - `poor`: a replica that has been empty or half synced for a while is not promoted while another with the data is there.
//! - `answers`: one answer to each question; `bounds`: queues stay short; `stranger`: nothing outside the group is contacted
//!   or followed.
//! - `lost`: without a fault, failovers on request lose no acknowledged write.

use std::collections::BTreeMap;

use tandem_core::sentinel::io::Event;
use tandem_core::sentinel::{ConfigEpoch, ElectionEpoch};
use tandem_resp::Value;

use super::wires::{Argv, Target};
use super::world::{Ev, Fleet, SERVERS, group_name, server_endpoint};
use crate::chance::{MS, SEC, Us};

/// The watch looks this often.
const WATCH: Us = 100 * MS;
/// A replica that turned poor later than this may have done so after it was looked at.
const POOR_FOR: Us = 1500 * MS;
/// A replica that is good and reachable for this long should have been found to be so.
const GOOD_FOR: Us = 6 * SEC;
/// Events of one sentinel in one second; a whole failover takes about twenty.
const EVENTS_MAX: u32 = 150;
/// An answer that waits for the disk or an address waits no longer than this, once all is mended.
pub(super) const ANSWER_WITHIN: Us = 5 * SEC;

/// What is remembered for the checks.
#[derive(Debug)]
pub(super) struct Checks {
    /// Who won which election.
    leaders: BTreeMap<u64, usize>,
    /// Votes told, by voter and epoch.
    votes: BTreeMap<(String, u64), String>,
    /// Which server was promoted in which epoch.
    pub(super) promoted: BTreeMap<u64, usize>,
    /// Events of each sentinel in the present second.
    told: Vec<(Us, u32)>,
    /// Newest epochs of each sentinel: election, configuration, vote.
    seen: Vec<(ElectionEpoch, ConfigEpoch, ElectionEpoch)>,
    /// Since when each sentinel could see each server as a good replica.
    good_since: Vec<[Option<Us>; SERVERS]>,
}

impl Checks {
    pub(super) fn new(sentinels: usize) -> Self {
        Self {
            leaders: BTreeMap::new(),
            votes: BTreeMap::new(),
            promoted: BTreeMap::new(),
            told: vec![(0, 0); sentinels],
            seen: vec![Default::default(); sentinels],
            good_since: vec![[None; SERVERS]; sentinels],
        }
    }
}

impl Fleet {
    fn epochs(&self, n: usize) -> Option<(ElectionEpoch, ConfigEpoch, ElectionEpoch)> {
        let machine = self.nodes[n].machine.as_ref()?;
        let group = machine.group(&group_name())?;
        Some((machine.epoch(), group.config_epoch, group.leader_epoch))
    }

    /// A process has read its file.
    pub(super) fn check_start(&mut self, n: usize) {
        let file = self.nodes[n].file.as_ref();
        let saved = file.and_then(|file| {
            let group = file.groups.first()?;
            Some((file.current_epoch, group.config_epoch, group.leader_epoch))
        });
        self.checks.seen[n] = saved.unwrap_or_default();
        self.check_node(n);
    }

    /// After each input.
    pub(super) fn check_node(&mut self, n: usize) {
        let Some(now) = self.epochs(n) else {
            return;
        };
        let seen = self.checks.seen[n];
        if now.0 < seen.0 || now.1 < seen.1 || now.2 < seen.2 {
            self.broken("backwards", format!("sentinel {n}: {seen:?}, then {now:?}"));
        }
        self.checks.seen[n] = now;
    }

    pub(super) fn check_event(&mut self, n: usize, event: &Event) {
        let second = self.now / SEC;
        let told = &mut self.checks.told[n];
        *told = (second, if told.0 == second { told.1 + 1 } else { 1 });
        if told.1 > EVENTS_MAX {
            let text = format!("sentinel {n} tells {} and does not end", event.name);
            self.broken("bounds", text);
        }
        if event.name != "+elected-leader" {
            return;
        }
        let Some((epoch, backed)) = self.candidacy(n) else {
            return;
        };
        self.nodes[n].backed = backed;
        if !backed {
            return;
        }
        let leader = *self.checks.leaders.entry(epoch).or_insert(n);
        if leader != n {
            let text = format!("sentinels {leader} and {n} both lead in epoch {epoch}");
            self.broken("two-leaders", text);
        }
        let own = self.nodes[n].id.to_string();
        self.note_vote(&own, epoch, &own);
    }

    /// The election of a sentinel's failover, and whether a majority voted for it. Where none can be reached, SENTINEL
    /// FAILOVER goes on without, as in Redis.
    fn candidacy(&self, n: usize) -> Option<(u64, bool)> {
        let group = self.nodes[n].machine.as_ref()?.group(&group_name())?;
        let failover = group.failover.as_ref()?;
        let own = &self.nodes[n].id;
        let vote = Some((own.clone(), failover.epoch));
        let given = group
            .peers
            .values()
            .filter(|peer| peer.vote == vote)
            .count();
        let kept =
            usize::from(group.leader.as_ref() == Some(own) && group.leader_epoch == failover.epoch);
        let backed = !failover.forced || given + kept > group.voters() / 2;
        Some((failover.epoch.0, backed))
    }

    fn note_vote(&mut self, voter: &str, epoch: u64, leader: &str) {
        let key = (voter.to_owned(), epoch);
        let first = self
            .checks
            .votes
            .entry(key)
            .or_insert_with(|| leader.to_owned())
            .clone();
        if first != leader {
            let text = format!("{voter} voted for {first} and for {leader} in epoch {epoch}");
            self.broken("two-votes", text);
        }
    }

    /// An answer to IS-MASTER-DOWN-BY-ADDR leaves.
    pub(super) fn check_opinion(&mut self, n: usize, value: &Value) {
        let Some(
            [
                Value::Integer(_),
                Value::Bulk(leader),
                Value::Integer(epoch),
            ],
        ) = value.as_array()
        else {
            return;
        };
        if leader.as_slice() == b"*" {
            return;
        }
        let voter = self.nodes[n].id.to_string();
        let leader = String::from_utf8_lossy(leader).into_owned();
        let epoch = u64::try_from(*epoch).unwrap_or(0);
        self.note_vote(&voter, epoch, &leader);
    }

    /// Marks the order to become primary with the epoch that it is given for. Giving the role back to the old primary is no
    /// promotion and gets no mark.
    pub(super) fn tagged(&self, n: usize, wire: u64, mut argv: Argv) -> Argv {
        let is = |index: usize, text: &str| {
            argv.get(index)
                .is_some_and(|word: &Vec<u8>| word.eq_ignore_ascii_case(text.as_bytes()))
        };
        if !is(0, "SLAVEOF") || !is(1, "NO") {
            return argv;
        }
        let Some(Target::Server(s)) = self.wires.get(&wire).map(|wire| wire.target) else {
            return argv;
        };
        let group = self.nodes[n]
            .machine
            .as_ref()
            .and_then(|machine| machine.group(&group_name()));
        if let Some(failover) = group.and_then(|group| group.failover.as_ref())
            && failover.chosen.as_ref() == Some(&server_endpoint(s))
        {
            let backed = u8::from(self.nodes[n].backed);
            argv.push(format!("{n} {} {backed}", failover.epoch).into_bytes());
        }
        argv
    }

    /// A server accepts to be promoted.
    pub(super) fn check_promotion(&mut self, s: usize, tag: &str) {
        let mut parts = tag.split(' ').map(|part| part.parse::<u64>().unwrap_or(0));
        let node = usize::try_from(parts.next().unwrap_or(0)).unwrap_or(0);
        let epoch = parts.next().unwrap_or(0);
        self.say(|| format!("server {s} is promoted by sentinel {node} in epoch {epoch}"));
        let backed = parts.next() == Some(1);
        let first = if backed {
            *self.checks.promoted.entry(epoch).or_insert(s)
        } else {
            s
        };
        if first != s {
            let text = format!("servers {first} and {s} were promoted in epoch {epoch}");
            self.broken("two-promotions", text);
        }
        let now = self.now;
        let poor = self.servers[s]
            .poor_since
            .is_some_and(|since| since + POOR_FOR <= now);
        if !poor || !self.servers[s].is_poor(now) {
            return;
        }
        let known = |q: usize| {
            let machine = self.nodes[node].machine.as_ref();
            machine
                .and_then(|machine| machine.group(&group_name()))
                .is_some_and(|group| group.replicas.contains_key(&server_endpoint(q)))
        };
        let better = (0..SERVERS).find(|q| {
            *q != s
                && known(*q)
                && self.checks.good_since[node][*q].is_some_and(|since| since + GOOD_FOR <= now)
        });
        if let Some(better) = better {
            let text = format!("server {s} holds nothing and was promoted, server {better} does");
            self.broken("poor", text);
        }
    }

    /// Looks who is good and who is poor.
    pub(super) fn watch(&mut self) {
        let now = self.now;
        for s in 0..SERVERS {
            let poor = self.servers[s].is_poor(now);
            let srv = &mut self.servers[s];
            if poor {
                srv.poor_since.get_or_insert(now);
            } else {
                srv.poor_since = None;
            }
            let fit = !poor && !srv.frozen && srv.of.is_some() && srv.priority > 0;
            for n in 0..self.nodes.len() {
                let good = fit && self.nodes[n].is_awake() && self.net.both(n, s);
                let since = &mut self.checks.good_since[n][s];
                if good {
                    since.get_or_insert(now);
                } else {
                    *since = None;
                }
            }
        }
        self.after(WATCH, Ev::Watch);
    }

    /// The end of a calm run: everything that was acknowledged is on the primary.
    pub(super) fn check_writes(&mut self, primary: usize) {
        let Some(proc) = &self.servers[primary].redis.proc else {
            return;
        };
        let acked = self.writer.acked.iter();
        let lost = acked.filter(|id| !proc.data.contains(**id)).count();
        if lost > 0 {
            let all = self.writer.acked.len();
            self.broken("lost", format!("{lost} of {all} acknowledged writes"));
        }
    }
}
