//! The machine: everything one sentinel knows, the door for what comes in, and the order in which things are done.
//!
//! ```text
//!   Input + now -> links, replies, hello ... note what is new, mark groups
//!               -> what is due by the clock (due.rs)
//!               -> each marked group decides until nothing changes (failover.rs)
//!               -> one Save, if anything that lasts changed (save.rs)
//!               -> Vec<Output>
//! ```
//!
//! Redis does this in a tick of 53 to 100 ms for all groups in turn; here only what has news or is due runs, at once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::sentinel::commands::{LogLevel, Simulate};
use crate::sentinel::due::{Due, Key};
use crate::sentinel::events::{Announce, Kind, Subject};
use crate::sentinel::ids::{ElectionEpoch, Endpoint, GroupName, SentinelId};
use crate::sentinel::io::{ConnId, ConnKind, Input, Level, Output, Question, RequestId};
use crate::sentinel::model::{
    Group, GroupId, Link, LinkId, Owner, Peer, Primary, Replica, ReportedRole,
};
use crate::sentinel::questions::{Following, LookedUp};
use crate::sentinel::random::Random;
use crate::sentinel::save::Saver;
use crate::sentinel::saved::{SavedGroup, SavedState};
use crate::sentinel::scripts::Queue;
use crate::sentinel::settings::{Globals, GroupSettings, Periods};
use crate::sentinel::steps::Step;
use crate::sentinel::vote::Held;

/// Rounds of decisions within one input; more would be a loop in the rules, and waits for the next wake.
const ROUNDS_MAX: u32 = 10_000;

/// A sentinel.
#[derive(Debug)]
pub struct Sentinel {
    pub(super) id: SentinelId,
    pub(super) current_epoch: ElectionEpoch,
    pub(super) globals: Globals,
    pub(super) periods: Periods,
    pub(super) groups: BTreeMap<GroupId, Group>,
    pub(super) names: BTreeMap<GroupName, GroupId>,
    pub(super) links: BTreeMap<LinkId, Link>,
    pub(super) peer_links: BTreeMap<SentinelId, LinkId>,
    pub(super) conns: BTreeMap<ConnId, (LinkId, ConnKind)>,
    pub(super) steps: BTreeMap<u64, Step>,
    /// Addresses behind names, as the shell last found them.
    pub(super) resolved: BTreeMap<String, IpAddr>,
    pub(super) due: Due,
    pub(super) marked: BTreeSet<GroupId>,
    pub(super) random: Random,
    pub(super) saver: Saver,
    /// Answers that wait for a vote to be durable.
    pub(super) held: Vec<Held>,
    /// Since when the consequences of a stall are handled.
    pub(super) stalled: Option<Instant>,
    /// `SENTINEL SIMULATE-FAILURE`.
    pub(super) simulate: Simulate,
    pub(super) scripts: Queue,
    /// What `SENTINEL CONFIG GET loglevel` shows.
    pub(super) log_level: LogLevel,
    /// Answers that follow the file.
    pub(super) following: Vec<Following>,
    /// Groups to be watched as soon as the address behind a name is known.
    pub(super) looked_up: Vec<LookedUp>,
    pub(super) out: Vec<Output>,
    pub(super) now: Instant,
    /// When the machine began; periodic commands keep to a grid counted from here.
    pub(super) began: Instant,
    /// It began without any state.
    pub(super) blank: bool,
    /// The fleet has had elections before.
    pub(super) history: bool,
    pub(super) next_number: u64,
}

impl Sentinel {
    /// A sentinel that goes on from what was saved, and the first things it wants done: a connection to everybody.
    ///
    /// `seed` makes a run repeatable; sentinels of a fleet should have different ones.
    #[must_use]
    pub fn new(
        state: SavedState,
        periods: Periods,
        seed: u64,
        now: Instant,
    ) -> (Self, Vec<Output>) {
        let knows = |group: &SavedGroup| {
            group.leader_epoch.0 > 0 || group.config_epoch.0 > 0 || !group.peers.is_empty()
        };
        let blank = state.current_epoch.0 == 0 && !state.groups.iter().any(knows);
        let mut sentinel = Self {
            id: state.id,
            current_epoch: state.current_epoch,
            globals: state.globals,
            periods,
            groups: BTreeMap::new(),
            names: BTreeMap::new(),
            links: BTreeMap::new(),
            peer_links: BTreeMap::new(),
            conns: BTreeMap::new(),
            steps: BTreeMap::new(),
            resolved: BTreeMap::new(),
            due: Due::default(),
            marked: BTreeSet::new(),
            random: Random::new(seed),
            saver: Saver::default(),
            held: Vec::new(),
            stalled: None,
            simulate: Simulate::default(),
            scripts: Queue::default(),
            log_level: LogLevel::default(),
            following: Vec::new(),
            looked_up: Vec::new(),
            out: Vec::new(),
            now,
            began: now,
            blank,
            history: false,
            next_number: 0,
        };
        for saved in state.groups {
            // A configuration was won in an election: its number is known to be used.
            sentinel.current_epoch = sentinel
                .current_epoch
                .max(ElectionEpoch(saved.config_epoch.0))
                .max(saved.leader_epoch);
            let id = sentinel.add_group(saved.settings, saved.primary);
            if let Some(group) = sentinel.groups.get_mut(&id) {
                group.config_epoch = saved.config_epoch;
                group.leader_epoch = saved.leader_epoch;
            }
            for at in saved.replicas {
                sentinel.add_replica(id, at);
            }
            for peer in saved.peers {
                if peer.id != sentinel.id {
                    sentinel.add_peer(id, peer.id, peer.at);
                }
            }
        }
        let outputs = sentinel.finish();
        (sentinel, outputs)
    }

    /// Takes one input and says what is to be done about it. Time must not go back; if it does, it stands still.
    pub fn handle(&mut self, input: Input, now: Instant) -> Vec<Output> {
        self.now = self.now.max(now);
        match input {
            Input::Tick => {}
            Input::Connected {
                conn,
                local,
                remote,
            } => self.connected(conn, local, remote),
            Input::Lost { conn, loss } => self.lost(conn, loss),
            Input::Reply { conn, value } => self.replied(conn, value),
            Input::Heard {
                conn,
                channel,
                message,
            } => self.heard(conn, &channel, &message),
            Input::Asked { request, question } => self.asked(request, question),
            Input::Saved { version, result } => self.saved(version, result),
            Input::ScriptStarted { script, pid } => self.script_started(script, pid),
            Input::ScriptEnded { script, end } => self.script_ended(script, end),
            Input::Resolved { host, result } => self.name_resolved(host, result),
            Input::Witness { server, word } => self.witnessed(&server, &word),
            Input::Late(by) => self.late(by),
        }
        self.finish()
    }

    /// The periods as they are now.
    #[must_use]
    pub fn periods(&self) -> &Periods {
        &self.periods
    }

    /// When [`Input::Tick`] is wanted at the latest, if nothing else comes in before.
    #[must_use]
    pub fn next_wake(&self) -> Option<Instant> {
        self.due.next()
    }

    fn finish(&mut self) -> Vec<Output> {
        while let Some(key) = self.due.pop(self.now) {
            match key {
                Key::Link(id) => self.tick_link(id),
                Key::Group(id) => self.mark(id),
                Key::Save => self.save_again(),
                Key::Stall => self.stall_over(),
                Key::Scripts => self.scripts_due(),
            }
        }
        let mut rounds = 0;
        while let Some(id) = self.marked.pop_first() {
            self.decide(id);
            rounds += 1;
            if rounds > ROUNDS_MAX {
                let later = self.now + Duration::from_millis(1);
                for id in std::mem::take(&mut self.marked) {
                    self.due.by(Key::Group(id), later);
                }
            }
        }
        self.flush_save();
        std::mem::take(&mut self.out)
    }

    /// Has this group decide again before the machine comes to rest.
    pub(super) fn mark(&mut self, id: GroupId) {
        self.marked.insert(id);
    }

    /// A number that was not used before.
    pub(super) fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    fn asked(&mut self, request: RequestId, question: Question) {
        match question {
            Question::Sentinel(args) => self.asked_sentinel(request, &args, &BTreeSet::new()),
            Question::SentinelWithPrograms { args, programs } => {
                self.asked_sentinel(request, &args, &programs);
            }
            Question::Publish { channel, message } => {
                self.asked_publish(request, &channel, &message);
            }
            Question::Role => self.asked_role(request),
            Question::InfoSection => self.asked_info(request),
        }
    }
}

/// Making and removing what is watched.
impl Sentinel {
    /// Begins to watch a group: `+monitor`, and a link to its primary. The name must be new.
    pub(super) fn add_group(&mut self, settings: GroupSettings, primary: Endpoint) -> GroupId {
        let id = GroupId(self.number());
        let link = self.add_link(Owner::Primary(id), primary.clone());
        let quorum = settings.quorum;
        self.names.insert(settings.name.clone(), id);
        let primary = Primary::new(primary, link, self.now);
        self.groups.insert(id, Group::new(id, settings, primary));
        self.tell_primary_with(id, Kind::PlusMonitor, format_args!("quorum {quorum}"));
        id
    }

    /// Ceases to watch a group, without an event.
    pub(super) fn remove_group(&mut self, id: GroupId) {
        let Some(group) = self.groups.remove(&id) else {
            return;
        };
        self.names.remove(&group.settings.name);
        self.marked.remove(&id);
        self.due.forget(Key::Group(id));
        self.steps.retain(|_, step| step.group != id);
        self.drop_link(group.primary.link);
        for replica in group.replicas.values() {
            self.drop_link(replica.link);
        }
        for peer in group.peers.keys() {
            self.leave_peer_link(peer, id);
        }
    }

    /// Adds a replica that is not known yet, without an event. Whether it was added.
    pub(super) fn add_replica(&mut self, id: GroupId, at: Endpoint) -> bool {
        let known = self
            .groups
            .get(&id)
            .is_none_or(|group| group.replicas.contains_key(&at) || group.primary.at == at);
        if known {
            return false;
        }
        let link = self.add_link(Owner::Replica(id, at.clone()), at.clone());
        let replica = Replica::new(at.clone(), link, self.now);
        if let Some(group) = self.groups.get_mut(&id) {
            group.replicas.insert(at, replica);
        }
        true
    }

    /// Forgets a replica, without an event.
    pub(super) fn remove_replica(&mut self, id: GroupId, at: &Endpoint) {
        let removed = self
            .groups
            .get_mut(&id)
            .and_then(|group| group.replicas.remove(at));
        if let Some(replica) = removed {
            self.drop_link(replica.link);
        }
    }

    /// Adds another sentinel, without an event, sharing the link of other groups that know it.
    pub(super) fn add_peer(&mut self, id: GroupId, peer: SentinelId, at: Endpoint) {
        let link = self.join_peer_link(&peer, &at, id);
        let mut new = Peer::new(peer.clone(), at, link, self.now);
        // What program it is was perhaps asked for another group already.
        if let Some(known) = self
            .groups
            .values()
            .find_map(|group| group.peers.get(&peer))
        {
            new.kind = known.kind;
        }
        if let Some(group) = self.groups.get_mut(&id) {
            group.peers.insert(peer, new);
        }
        self.due.by(Key::Group(id), self.now);
    }

    /// Forgets another sentinel in one group, without an event.
    pub(super) fn remove_peer(&mut self, id: GroupId, peer: &SentinelId) {
        let removed = self
            .groups
            .get_mut(&id)
            .is_some_and(|group| group.peers.remove(peer).is_some());
        if removed {
            self.leave_peer_link(peer, id);
        }
    }

    /// Forgets all that was learned of a group, as SENTINEL RESET does: replicas, down states and a failover of ours go,
    /// and unless they are kept also the other sentinels; the links begin anew.
    pub(super) fn reset_group(&mut self, id: GroupId, keep_peers: bool) {
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        let at = group.primary.at.clone();
        let old_link = group.primary.link;
        let replicas = std::mem::take(&mut group.replicas);
        let peers = if keep_peers {
            BTreeMap::new()
        } else {
            std::mem::take(&mut group.peers)
        };
        group.failover = None;
        group.failover_started = None;
        group.retry_at = None;
        group.leader = None;
        group.won_here = false;
        group.stand_at = None;
        group.deposed = None;
        self.steps.retain(|_, step| step.group != id);
        self.drop_link(old_link);
        for replica in replicas.values() {
            self.drop_link(replica.link);
        }
        for peer in peers.keys() {
            self.leave_peer_link(peer, id);
        }
        let link = self.add_link(Owner::Primary(id), at.clone());
        if let Some(group) = self.groups.get_mut(&id) {
            group.primary = Primary::new(at, link, self.now);
        }
        self.mark(id);
    }
}

/// Telling events.
impl Sentinel {
    /// Tells an event that is about no server.
    pub(super) fn tell(&mut self, kind: Kind, text: impl std::fmt::Display) {
        self.out.push(Output::Tell(kind.plain(text)));
    }

    /// Tells an event that comes of a group and does not name it first: its notification script is told as well.
    pub(super) fn tell_of(&mut self, id: GroupId, kind: Kind, text: impl std::fmt::Display) {
        let event = kind.plain(text);
        self.out.push(Output::Tell(event.clone()));
        if kind.notifies() {
            self.run_notification(id, &event);
        }
    }

    /// Writes a line to the log.
    pub(super) fn log(&mut self, level: Level, text: impl Into<String>) {
        self.out.push(Output::Log {
            level,
            text: text.into(),
        });
    }

    /// Tells an event about a group's primary.
    pub(super) fn tell_primary(&mut self, id: GroupId, kind: Kind) {
        self.tell_about(id, kind, |group, announce| {
            Some(Subject::primary(group, announce).to_string())
        });
    }

    /// Tells an event about a group's primary, with something more to say.
    pub(super) fn tell_primary_with(
        &mut self,
        id: GroupId,
        kind: Kind,
        detail: impl std::fmt::Display,
    ) {
        self.tell_about(id, kind, |group, announce| {
            Some(format!("{} {detail}", Subject::primary(group, announce)))
        });
    }

    /// Tells an event about a replica; nothing if it is not known.
    pub(super) fn tell_replica(&mut self, id: GroupId, at: &Endpoint, kind: Kind) {
        self.tell_about(id, kind, |group, announce| {
            let replica = group.replicas.get(at)?;
            Some(Subject::replica(group, replica, announce).to_string())
        });
    }

    /// Tells an event about the server at this address, whether it is the primary or a replica.
    pub(super) fn tell_server_with(
        &mut self,
        id: GroupId,
        at: &Endpoint,
        kind: Kind,
        detail: impl std::fmt::Display,
    ) {
        self.tell_about(id, kind, |group, announce| {
            let subject = match group.replicas.get(at) {
                Some(replica) => Subject::replica(group, replica, announce),
                None => Subject::primary(group, announce),
            };
            Some(format!("{subject} {detail}"))
        });
    }

    /// Tells an event about another sentinel; nothing if it is not known.
    pub(super) fn tell_peer(&mut self, id: GroupId, peer: &SentinelId, kind: Kind) {
        self.tell_about(id, kind, |group, announce| {
            let peer = group.peers.get(peer)?;
            Some(Subject::peer(group, peer, announce).to_string())
        });
    }

    /// Tells an event about another sentinel, with something more to say.
    pub(super) fn tell_peer_with(
        &mut self,
        id: GroupId,
        peer: &SentinelId,
        kind: Kind,
        detail: impl std::fmt::Display,
    ) {
        self.tell_about(id, kind, |group, announce| {
            let peer = group.peers.get(peer)?;
            Some(format!("{} {detail}", Subject::peer(group, peer, announce)))
        });
    }

    fn tell_about(
        &mut self,
        id: GroupId,
        kind: Kind,
        text: impl FnOnce(&Group, Announce<'_>) -> Option<String>,
    ) {
        let announce = Announce {
            hostnames: self.globals.announce_hostnames,
            resolved: &self.resolved,
        };
        let Some(group) = self.groups.get(&id) else {
            return;
        };
        let Some(text) = text(group, announce) else {
            return;
        };
        let event = kind.plain(text);
        self.out.push(Output::Tell(event.clone()));
        if kind.notifies() {
            self.run_notification(id, &event);
        }
    }

    /// How addresses are shown to others.
    pub(super) fn announce(&self) -> Announce<'_> {
        Announce {
            hostnames: self.globals.announce_hostnames,
            resolved: &self.resolved,
        }
    }
}

/// The word of a role in events and in INFO.
pub(super) fn role_word(role: ReportedRole) -> &'static str {
    match role {
        ReportedRole::Primary => "master",
        ReportedRole::Replica => "slave",
    }
}
