//! Carries out what the machines want, in the order in which they say it.
//!
//! The order is keepalived's and part of the contract: advert, addresses, announcements, and only then scripts and FIFO lines,
//! which is why notices wait until everything else of a change is done.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Instant;

use tandem_config::keepalived::{Notify, Script};
use tandem_vrrp::garp::{Round, RoundKind};
use tandem_vrrp::machine::{
    AdvertToSend, ClaimReason, Event, Input, Machine, Output, Reason, State,
};
use tandem_vrrp::packet::Dialect;
use tandem_vrrp::settings::Auth;
use tandem_vrrp::{Family, Version};
use tracing::{debug, error, info, warn};

use super::announce::Announced;
use super::daemon::{Daemon, Router};
use super::fifo;
use super::scripts::Job;
use super::scripts::notify::{Batch, Lane};
use super::status;
use super::wires::WireId;
use crate::linux::addr::{Change, Entry, Vip};
use crate::linux::raw::{Carrier, Endpoint, Mode};

/// Length of the IPv4 header that the packet builder writes and the socket writes again.
const IPV4_HEADER_LEN: usize = 20;

/// A change to tell scripts and FIFO readers.
#[derive(Debug)]
enum Notice {
    State(usize, State),
    LowerMaster(usize),
    Priority(usize),
    Group(usize, State),
}

/// Whose script.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) kind: &'static str,
    pub(super) name: &'a str,
    pub(super) priority: u8,
}

impl Daemon {
    /// Gives one input to a router and carries out all that follows from it.
    pub(super) fn feed(&mut self, router: usize, input: Input) {
        let now = Instant::now();
        let mut queue = VecDeque::from([(router, input)]);
        let mut notices = Vec::new();
        while let Some((router, input)) = queue.pop_front() {
            let (unit, member) = (self.routers[router].unit, self.routers[router].member);
            let outputs = self.units[unit].group.handle(member, input, now);
            for (member, output) in outputs {
                self.dirty = true;
                let router = self.units[unit].members[member];
                self.carry_out(router, output, &mut queue, &mut notices);
            }
            self.group_notice(unit, &mut notices);
        }
        for notice in notices {
            self.notify(&notice);
        }
    }

    fn carry_out(
        &mut self,
        index: usize,
        output: Output,
        queue: &mut VecDeque<(usize, Input)>,
        notices: &mut Vec<Notice>,
    ) {
        let name = self.routers[index].plan.name.clone();
        match output {
            Output::WantMaster { claim, reason } => {
                debug!("({name}) wants to be MASTER: {reason:?}");
                queue.push_back((index, Input::Granted(claim)));
            }
            Output::SendAdvert(advert) => self.send_advert(index, advert),
            Output::Yield { to, reason } => {
                debug!(
                    "({name}) gives its addresses up for {to}: {}",
                    words(reason)
                );
                self.drop_addresses(index);
            }
            Output::Became { state, reason } => {
                let faults = self.machine(index).map(status::faults).unwrap_or_default();
                info!("({name}) Entering {state} STATE: {}{faults}", words(reason));
                if state == State::Master {
                    self.install_addresses(index);
                }
                notices.push(Notice::State(index, state));
            }
            Output::Announce(round) => self.announce(index, round),
            Output::Event(event) => self.event(index, &name, event, queue, notices),
        }
    }

    fn event(
        &mut self,
        index: usize,
        name: &str,
        event: Event,
        queue: &mut VecDeque<(usize, Input)>,
        notices: &mut Vec<Notice>,
    ) {
        match event {
            Event::Rejected { source, error } => {
                let vrid = self.routers[index].plan.key.vrid;
                warn!(
                    "({name}) {source} speaks VRID {vrid} and is not understood: {error}; another cluster, or a peer with other settings"
                );
            }
            Event::IntervalDiffers {
                source,
                theirs,
                ours,
            } => {
                warn!("({name}) {source} advertises every {theirs:?}, not every {ours:?}; adopted");
            }
            Event::IntervalLarge { source, used, .. } => {
                warn!(
                    "({name}) {source} is so slow that a failover will take more than {:?}",
                    used * 3
                );
            }
            Event::AddressesDiffer { source } => {
                warn!(
                    "({name}) {source} lists other addresses than ours: another cluster with this VRID, or a file that differs"
                );
            }
            Event::DialectDiffers { source, theirs } => {
                warn!("({name}) {source} computes checksums another way ({theirs:?}); accepted");
                self.adopt_old_checksum(index, theirs, queue);
            }
            Event::OwnAddressHeard { source } => {
                warn!("({name}) another host speaks from our own address {source}");
            }
            Event::LowerMaster { source, priority } => {
                info!(
                    "({name}) Received advert from {source} with lower priority {priority}, ours is higher"
                );
                notices.push(Notice::LowerMaster(index));
            }
            Event::PreemptPending { source, priority } => {
                info!(
                    "({name}) {source} is master with lower priority {priority}; taking over soon"
                );
            }
            Event::OwnerConflict { source } => {
                error!("({name}) {source} also has priority 255: two owners");
            }
            Event::PriorityChanged { from, to } => {
                info!("({name}) Changing effective priority from {from} to {to}");
                notices.push(Notice::Priority(index));
            }
            Event::FaultsChanged { remaining } => {
                info!("({name}) in FAULT, {remaining} things wrong");
            }
            Event::Late(late) => warn!("({name}) this process was late by {late:?}"),
            Event::ReloadRefused => {
                error!("({name}) the new settings cannot work; the old ones stay");
            }
            Event::TooManySenders => {
                warn!("({name}) too many hosts speak this VRID to tell of each");
            }
        }
    }

    /// `old_unicast_checksum` by detection, as keepalived does: a peer of version 1.3.6 or older is answered in its way.
    fn adopt_old_checksum(
        &self,
        index: usize,
        theirs: Dialect,
        queue: &mut VecDeque<(usize, Input)>,
    ) {
        if theirs != Dialect::B || !self.routers[index].plan.detect_old_checksum {
            return;
        }
        if let Some(machine) = self.machine(index) {
            let mut settings = machine.settings().clone();
            settings.checksum = Dialect::B;
            queue.push_back((index, Input::Reload(Box::new(settings))));
        }
    }

    // Adverts.

    /// The sockets for a router with this source address, if they can be opened.
    pub(super) fn open_wire(&mut self, index: usize, own: IpAddr) -> Option<WireId> {
        let plan = &self.routers[index].plan;
        let link = self.host.link(&plan.key.interface)?;
        let settings = &plan.settings;
        let carrier = match (&settings.auth, settings.version) {
            (Auth::Ah(_), Version::V2) => Carrier::AuthenticationHeader,
            (Auth::None | Auth::Pass(_) | Auth::Ah(_), _) => Carrier::Vrrp,
        };
        let mode = match settings.destinations().first() {
            Some(group) if !settings.is_unicast() => Mode::Multicast(*group),
            Some(_) | None => Mode::Unicast,
        };
        let endpoint = Endpoint {
            interface: link.name.clone(),
            interface_index: link.index,
            source: own,
            mode,
            carrier,
        };
        self.wires
            .ensure(&endpoint)
            .inspect_err(|error| {
                if self.routers[index].wire.is_some() || !self.started {
                    warn!("({}) VRRP sockets: {error}", self.routers[index].plan.name);
                }
            })
            .ok()
    }

    fn send_advert(&mut self, index: usize, advert: AdvertToSend) {
        let Router {
            unit, member, wire, ..
        } = self.routers[index];
        let Some(machine) = self.units[unit].group.member(member) else {
            return;
        };
        let (Some(own), Some(socket)) = (
            machine.own_address(),
            wire.and_then(|wire| self.wires.sender(wire)),
        ) else {
            return;
        };
        let router = &mut self.routers[index];
        let transmissions = router.sender.advert(
            machine.settings(),
            own,
            advert.priority,
            status::unix_time(),
        );
        let mut problem = None;
        for transmission in &transmissions {
            let sent = match transmission.bytes.split_at_checked(IPV4_HEADER_LEN) {
                // The socket writes the header itself, with the same values.
                Some((header, message)) if own.is_ipv4() => {
                    let identification = u16::from_be_bytes([header[4], header[5]]);
                    socket.send(message, transmission.destination, identification)
                }
                Some(_) | None => socket.send(&transmission.bytes, transmission.destination, 0),
            };
            if let Err(error) = sent {
                problem = Some((transmission.destination, error));
            }
        }
        let kind = problem.as_ref().map(|(_, error)| error.kind());
        if let Some((destination, error)) = problem.filter(|_| router.send_error != kind) {
            warn!(
                "({}) an advert to {destination} did not leave: {error}",
                router.plan.name
            );
        }
        router.send_error = kind;
    }

    // Addresses.

    /// What a router brings along, on the links as they are now.
    fn wanted(&self, index: usize) -> Vec<Vip> {
        let addresses = &self.routers[index].plan.addresses;
        addresses
            .iter()
            .filter_map(|line| {
                Some(Vip {
                    interface_index: self.host.link(&line.interface)?.index,
                    address: line.address,
                    prefix_length: line.prefix_length,
                })
            })
            .collect()
    }

    fn install_addresses(&mut self, index: usize) {
        for vip in self.wanted(index) {
            self.install(index, vip);
        }
    }

    /// Whether this router is MASTER and wants this address.
    pub(super) fn holds(&self, index: usize, vip: &Vip) -> bool {
        self.machine(index).map(Machine::state) == Some(State::Master)
            && self.wanted(index).contains(vip)
    }

    /// Installs what a reload added; whether there was anything.
    pub(super) fn install_missing(&mut self, index: usize) -> bool {
        let missing: Vec<Vip> = self
            .wanted(index)
            .into_iter()
            .filter(|vip| !self.vips.contains_key(vip))
            .collect();
        for vip in &missing {
            self.install(index, *vip);
        }
        !missing.is_empty()
    }

    fn install(&mut self, index: usize, vip: Vip) {
        // Held from here on: one that could not be installed is tried again.
        self.vips.insert(vip, index);
        match self.netlink.install(&vip, self.lifetime()) {
            Ok(()) => self.host.apply(&Change::Address(as_installed(vip))),
            Err(error) => error!(
                "({}) installing {}: {error}",
                self.routers[index].plan.name, vip.address
            ),
        }
    }

    pub(super) fn remove(&mut self, vip: Vip) {
        self.vips.remove(&vip);
        match self.netlink.remove(&vip) {
            Ok(_) => self.host.apply(&Change::AddressGone(as_installed(vip))),
            Err(error) => error!("removing {}: {error}", vip.address),
        }
    }

    pub(super) fn drop_addresses(&mut self, index: usize) {
        for round in self.routers[index].rounds.drain(..) {
            round.abort();
        }
        let held: Vec<Vip> = self
            .vips
            .iter()
            .filter(|(_, holder)| **holder == index)
            .map(|(vip, _)| *vip)
            .collect();
        for vip in held {
            self.remove(vip);
        }
    }

    /// Lets the kernel's clock on every held address begin anew.
    pub(super) fn renew_addresses(&mut self) {
        let lifetime = self.lifetime();
        for (vip, index) in &self.vips {
            if let Err(error) = self.netlink.install(vip, lifetime) {
                error!(
                    "({}) renewing {}: {error}",
                    self.routers[*index].plan.name, vip.address
                );
            }
        }
    }

    /// Puts addresses back that somebody else removed, without a change of state. keepalived gives mastership up and takes
    /// it again, with both scripts.
    pub(super) fn restore_addresses(&mut self) {
        for index in 0..self.routers.len() {
            let master = self.machine(index).map(Machine::state) == Some(State::Master);
            if !master {
                continue;
            }
            let missing: Vec<Vip> = self
                .wanted(index)
                .into_iter()
                .filter(|vip| !self.host.entries().iter().any(|entry| entry.vip == *vip))
                .collect();
            if missing.is_empty() {
                continue;
            }
            // The events seen so far may be older than our own last installation: ask the kernel.
            let present = self.netlink.addresses().unwrap_or_default();
            let mut gone = Vec::new();
            for vip in missing {
                match present.iter().find(|entry| entry.vip == vip) {
                    Some(entry) => self.host.apply(&Change::Address(*entry)),
                    None => gone.push(vip),
                }
            }
            if gone.is_empty() {
                continue;
            }
            for vip in &gone {
                self.install(index, *vip);
            }
            let router = &mut self.routers[index];
            router.restored += 1;
            // The first, then each tenth: somebody may do this all day.
            if router.restored % 10 == 1 {
                let name = &router.plan.name;
                let times = router.restored;
                warn!(
                    "({name}) somebody removed {} of its addresses; put back, {times} times so far",
                    gone.len()
                );
            }
            self.dirty = true;
            self.feed(index, Input::Announce);
        }
    }

    // Announcements.

    fn announce(&mut self, index: usize, round: Round) {
        let router = &self.routers[index];
        let announced: Vec<Announced> = if round.kind == RoundKind::OwnAddress {
            let link = self.host.link(&router.plan.key.interface);
            router
                .own
                .zip(link.cloned())
                .map(|(address, link)| Announced { address, link })
                .into_iter()
                .collect()
        } else {
            self.wanted(index)
                .into_iter()
                .filter_map(|vip| {
                    let link = self.host.link_at(vip.interface_index)?.clone();
                    Some(Announced {
                        address: vip.address,
                        link,
                    })
                })
                .collect()
        };
        let settings = router.plan.settings.announcements;
        let mut rounds = Vec::new();
        for (family, gap) in [
            (Family::Ipv4, settings.arp_interval),
            (Family::Ipv6, settings.na_interval),
        ] {
            let of_family: Vec<_> = announced
                .iter()
                .filter(|one| Family::of(&one.address) == family)
                .cloned()
                .collect();
            rounds.extend(self.announcers.send(&of_family, round, gap));
        }
        let router = &mut self.routers[index];
        router.rounds.retain(|round| !round.is_finished());
        router.rounds.extend(rounds);
    }

    // Scripts and FIFO lines.

    fn group_notice(&mut self, index: usize, notices: &mut Vec<Notice>) {
        let unit = &mut self.units[index];
        let state = unit.group.state();
        let Some(named) = &mut unit.named else { return };
        let told = match state {
            State::Backup | State::Master | State::Fault => named.told.replace(state),
            // Groups are not told of a stop; the others are no states to tell.
            State::Init | State::Claiming | State::Releasing | State::Stopped => return,
        };
        if told != Some(state) {
            notices.push(Notice::Group(index, state));
        }
    }

    fn notify(&mut self, notice: &Notice) {
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

    fn write_fifos(&mut self, line: &str) {
        for fifo in &mut self.fifos {
            fifo.write(line);
        }
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

/// Why a state was entered, in words.
fn words(reason: Reason) -> String {
    match reason {
        Reason::Started => "started".to_owned(),
        Reason::Resumed => "resumed".to_owned(),
        Reason::Granted(claim) => match claim {
            ClaimReason::Owner => "owner of the addresses",
            ClaimReason::Silence => "no master was heard",
            ClaimReason::MasterLeft => "the master left",
            ClaimReason::PeerReleased => "the master left and its service is gone",
            ClaimReason::Preempt => "the master had lower priority",
            ClaimReason::Asked => "asked to",
        }
        .to_owned(),
        Reason::Denied => "denied".to_owned(),
        Reason::HigherMaster { source, priority } => {
            format!("{source} is master with priority {priority}")
        }
        Reason::Fault => "something tracked failed".to_owned(),
        Reason::Recovered => "nothing is wrong any more".to_owned(),
        Reason::Paused => {
            "this process was stopped for so long that another may have taken over".to_owned()
        }
        Reason::Released => "handed over".to_owned(),
        Reason::Withdrawn => "another member of the sync group".to_owned(),
        Reason::Stopped => "stopped".to_owned(),
        Reason::StaleGrant => "the wish was given up".to_owned(),
    }
}

/// What the kernel will report of an address just installed.
fn as_installed(vip: Vip) -> Entry {
    Entry {
        vip,
        ours: true,
        valid_seconds: None,
        secondary: false,
        tentative: false,
        duplicate: false,
        global: true,
    }
}
