//! The loop of one group: inputs in, the pair's outputs carried out in order, results back in.
//!
//! It owns the pair and everything that concerns this host's kernel; what takes time (Redis, disk) runs in
//! tasks that report back. The loop itself never waits for anything but its inputs and its clock, and measures
//! how late it is: a loop that stood still may have been replaced by its peer meanwhile, so that is the first
//! thing the pair is told when it goes on.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tandem_config::settings as config;
use tandem_config::value::MinuteOfDay;
use tandem_core::ids::HostId;
use tandem_core::journal::Journal;
use tandem_core::keeper::settings as core;
use tandem_core::keeper::{
    Input, Keeper, Outcome, Output, PeerEvent, Reply, Step, StepError, StepErrorKind, StepId,
};
use tandem_core::pair::{Pair, PairInput, PairOutput};
use tandem_core::session::Secret;
use tandem_vrrp::machine::{FaultSource, Machine};
use tokio::sync::{mpsc, oneshot};

use super::archive::Archive;
use super::control::{Answer, Request};
use super::events::Events;
use super::front::Front;
use super::hooks::Hooks;
use super::journal_file::JournalFile;
use super::peer::Peers;
use super::server::{self, Server};
use super::steps::{Workshop, carry_out};
use super::vrrp_io::{self, Packet, VrrpIo};
use crate::linux::addr::{Addresses, Change, Monitor};
use crate::linux::clock::SuspendWatch;
use crate::redis::raw::{Credentials, Target};

/// Events waiting for the loop. More than a moment's worth means that it stood still.
pub(crate) const EVENTS_MAX: usize = 1024;
/// A loop this late tells the detector that silence may have been its own.
const LATE: Duration = Duration::from_millis(25);
/// A server that refuses writes for its disk is sick after this.
const SICK_GRACE: Duration = Duration::from_secs(5);
/// The clock on the wall is looked at this often for the resync window.
const WINDOW_LOOK: Duration = Duration::from_secs(5);
/// Operators waiting for the outcome of a switchover.
const REPLIES_MAX: usize = 32;

/// What the loop waits for.
pub(crate) enum Event {
    /// For the keeper.
    Input(Input),
    /// A VRRP packet.
    Packet(Packet),
    /// The kernel's news about links and addresses.
    Net(Change),
    /// A tracked check changed: its name, whether it is good, its weight.
    Check {
        /// Names it.
        name: String,
        /// Good or bad.
        good: bool,
        /// 0 is a fault.
        weight: i16,
    },
    /// Somebody at the control socket.
    Control(Request, oneshot::Sender<Answer>),
    /// HUP brought these settings.
    Reload(Box<config::Group>),
}

/// One group.
pub(crate) struct Group {
    name: String,
    pair: Pair,
    settings: config::Group,
    events_in: mpsc::Receiver<Event>,
    events_out: mpsc::Sender<Event>,
    front: Front,
    vrrp: Option<VrrpIo>,
    peers: Peers,
    journal: JournalFile,
    workshop: Workshop,
    events: Events,
    hooks: Hooks,
    replies: Vec<(u64, oneshot::Sender<Answer>)>,
    next_reply: u64,
    peer_quiet_since: Instant,
    leaving: Option<bool>,
    closing: Vec<(StepId, bool, bool)>,
    vip_interface: Option<String>,
    vrrp_interface: String,
    core: core::Settings,
    window_at: Instant,
}

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

fn random_u64() -> Result<u64> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(u64::from_le_bytes(bytes))
}

/// What the group's servers are sent to let us in: the user of the file and the password of its file.
pub(crate) fn credentials(group: &config::Group) -> Result<Option<Credentials>> {
    let Some(path) = &group.password_file else {
        return Ok(None);
    };
    let bytes = std::fs::read(path).with_context(|| format!("password_file {}", path.display()))?;
    Ok(Some(Credentials {
        user: group
            .username
            .as_ref()
            .map(|user| user.clone().into_bytes()),
        password: bytes.trim_ascii_end().to_vec(),
    }))
}

/// The keeper's settings with what a group's file says of policies and bounds.
fn core_policies(base: &core::Settings, group: &config::Group) -> core::Settings {
    core::Settings {
        preempt: match group.preempt {
            config::Preempt::Never => core::Preempt::Never,
            config::Preempt::AfterSync => core::Preempt::AfterSync,
        },
        resync: match group.resync {
            config::Resync::Automatic if group.resync_window.is_none() => core::Resync::Automatic,
            config::Resync::Automatic | config::Resync::Ask => core::Resync::Ask,
        },
        max_lag: group.max_lag_bytes,
        boot_wait: group.boot_wait,
        flap_block: group.flap_block,
        drain_deadline: group.drain_deadline,
        switchover_deadline: group.switchover_deadline,
        ..base.clone()
    }
}

/// The minute of the day here and now: the resync window is in local time, as people mean it.
fn minute_of_day() -> MinuteOfDay {
    let now = jiff::Zoned::now();
    let minute = i16::from(now.hour()) * 60 + i16::from(now.minute());
    MinuteOfDay(u16::try_from(minute).unwrap_or(0))
}

fn core_settings(
    settings: &config::Settings,
    group: &config::Group,
    machine: &Machine,
) -> Result<core::Settings> {
    let peer = settings.peers.first();
    let base = core::Settings {
        host: HostId::new(&settings.host.id),
        peer: peer.map(|p| HostId::new(&p.id)),
        group: group.name.clone(),
        server_address: group.server.to_string(),
        // Until its own statement says otherwise: the same port on the other host.
        peer_server_address: peer
            .map(|p| SocketAddr::new(p.address, group.server.port()).to_string()),
        manage: match group.manage {
            config::Manage::Adopt => core::Manage::Adopt,
            config::Manage::Spawn { .. } | config::Manage::Systemd { .. } => core::Manage::Spawn,
        },
        preempt: core::Preempt::Never,
        resync: core::Resync::Automatic,
        down_after: group.down_after,
        sick_grace: SICK_GRACE,
        master_down: machine.master_down(),
        advert_interval: group.vrrp.advert_interval,
        max_lag: group.max_lag_bytes,
        boot_wait: group.boot_wait,
        flap_block: group.flap_block,
        drain_deadline: group.drain_deadline,
        switchover_deadline: group.switchover_deadline,
        priority: group.vrrp.priority,
        has_vip: group.vip.is_some(),
        boot_id: boot_id(),
        incarnation: random_u64()?,
    };
    Ok(core_policies(&base, group))
}

/// What a reload cannot change under a running group, by name.
pub(crate) fn needs_restart(old: &config::Settings, new: &config::Settings) -> Vec<String> {
    let mut out = Vec::new();
    if old.host != new.host {
        out.push("[host]".to_owned());
    }
    if old.peers != new.peers {
        out.push("[[peer]]".to_owned());
    }
    for group in &old.groups {
        match new.groups.iter().find(|other| other.name == group.name) {
            None => out.push(format!("group {} (gone from the file)", group.name)),
            Some(other) => {
                let moved = group.server != other.server
                    || group.manage != other.manage
                    || group.vip != other.vip
                    || group.vrrp != other.vrrp
                    || group.down_after != other.down_after;
                if moved {
                    out.push(format!(
                        "group {} (server, manage, down_after, vip or vrrp)",
                        group.name
                    ));
                }
            }
        }
    }
    for group in &new.groups {
        if !old.groups.iter().any(|other| other.name == group.name) {
            out.push(format!("group {} (new)", group.name));
        }
    }
    out
}

impl Group {
    /// Opens everything a group needs. Nothing is decided or changed yet.
    pub(crate) async fn open(
        settings: &config::Settings,
        group: &config::Group,
        secret: Option<&Secret>,
        peers: Peers,
        events_out: mpsc::Sender<Event>,
        events_in: mpsc::Receiver<Event>,
    ) -> Result<Self> {
        let dir = super::group_dir(settings, &group.name);
        let host = HostId::new(&settings.host.id);
        let (journal, record) = JournalFile::open(&dir, &host, &group.name)?;
        let machine_settings = vrrp_io::machine_settings(group, &settings.peers, secret)?;
        let mut addresses = Addresses::open().context("netlink")?;
        let interface = group.vrrp.interface.clone();
        let own = vrrp_io::own_address(
            &mut addresses,
            &interface,
            settings.host.address,
            machine_settings.family,
        )?;
        let announcements = machine_settings.announcements;
        let machine = Machine::new(machine_settings.clone(), own).context("group.vrrp")?;
        let core = core_settings(settings, group, &machine)?;
        let pair = Pair::new(keeper(core.clone(), record), Some(machine));
        let mut friends: Vec<IpAddr> = settings.peers.iter().map(|p| p.address).collect();
        friends.push(settings.host.address);
        friends.push(group.server.ip());
        friends.push(IpAddr::from([127, 0, 0, 1]));
        friends.sort();
        friends.dedup();
        let front = Front::open(group, friends, &announcements)?;
        let vrrp = VrrpIo::open(
            machine_settings,
            &interface,
            vrrp_io::require_own(own, &interface)?,
            events_out.clone(),
        )?;
        let credentials = credentials(group)?;
        let target = Target {
            address: group.server,
            source: None,
            credentials: credentials.clone(),
        };
        let server = Server::new(target);
        tokio::spawn(server::watch(
            server.clone(),
            group.down_after,
            events_out.clone(),
        ));
        tokio::spawn(monitor(events_out.clone()));
        for check in &group.vrrp.track_script {
            tokio::spawn(super::checks::run(check.clone(), events_out.clone()));
        }
        let workshop = Workshop {
            server,
            credentials,
            archive: Archive::new(&dir, &group.name, &settings.host.id, group.archive),
            manage: group.manage.clone(),
            peer_server: settings
                .peers
                .first()
                .map(|peer| SocketAddr::new(peer.address, group.server.port())),
            source: settings.host.address,
        };
        Ok(Self {
            name: group.name.clone(),
            pair,
            events_in,
            events_out,
            front,
            vrrp: Some(vrrp),
            peers,
            journal,
            workshop,
            events: Events::new(&group.name, &dir),
            hooks: Hooks::new(group.hooks.clone()),
            replies: Vec::new(),
            next_reply: 1,
            peer_quiet_since: Instant::now(),
            leaving: None,
            closing: Vec::new(),
            vip_interface: group.vip.as_ref().map(|vip| vip.interface.clone()),
            vrrp_interface: interface,
            settings: group.clone(),
            core,
            window_at: Instant::now(),
        })
    }

    /// Runs until the keeper says to leave.
    pub(crate) async fn run(mut self) -> Result<()> {
        let mut suspend = SuspendWatch::start();
        self.look_at_links();
        if self.front.has_leftovers() {
            tracing::info!("{}: addresses of an earlier daemon are on", self.name);
        }
        let mut deadline = Instant::now();
        loop {
            let event = tokio::select! {
                biased;
                event = self.events_in.recv() => Some(event),
                () = tokio::time::sleep_until(deadline.into()) => None,
            };
            let now = Instant::now();
            self.tell_lateness(&mut suspend, deadline, now);
            match event {
                Some(Some(event)) => self.event(event, now),
                // All senders are gone with the daemon.
                Some(None) => return Ok(()),
                None => {
                    self.front.tick(now);
                    self.look_at_window(now);
                    self.feed(PairInput::Keeper(Input::Tick), now);
                }
            }
            self.close_when_said(now).await;
            if let Some(serving) = self.leaving {
                self.front.leave(serving);
                return Ok(());
            }
            let now = Instant::now();
            deadline = self.pair.next_deadline(now);
            if let Some(front) = self.front.next_deadline() {
                deadline = deadline.min(front);
            }
            // Never in the past, or a late loop would spin.
            deadline = deadline.max(now);
            let busy = self.pair.keeper().phase().is_transition();
            self.workshop.server.set_busy(busy);
        }
    }

    /// Opens the resync window when its time has come.
    fn look_at_window(&mut self, now: Instant) {
        let Some(window) = self.settings.resync_window else {
            return;
        };
        if now < self.window_at {
            return;
        }
        self.window_at = now + WINDOW_LOOK;
        if window.contains(minute_of_day()) {
            self.pair.keeper_mut().resync_window_opened();
        }
    }

    /// Standing still is told before anything else is looked at.
    fn tell_lateness(&mut self, suspend: &mut SuspendWatch, deadline: Instant, now: Instant) {
        let slept = suspend
            .look(now, crate::linux::clock::boot_time())
            .unwrap_or_default();
        let late = now.saturating_duration_since(deadline).max(slept);
        if late < LATE {
            return;
        }
        self.feed(PairInput::Keeper(Input::Late(late)), now);
        if let Some(vrrp) = self.pair.vrrp()
            && late >= vrrp.master_down()
        {
            self.feed(PairInput::Keeper(Input::Frozen(late)), now);
        }
    }

    fn event(&mut self, event: Event, now: Instant) {
        match event {
            Event::Input(input) => {
                if let Input::Peer(PeerEvent::Heard(statement)) = &input {
                    self.peer_quiet_since = now;
                    if let Ok(address) = statement.server_address.parse() {
                        self.workshop.peer_server = Some(address);
                    }
                }
                self.feed(PairInput::Keeper(input), now);
            }
            Event::Packet(packet) => {
                let judged = self.vrrp.as_mut().and_then(|vrrp| vrrp.judge(&packet));
                if let Some(input) = judged {
                    // Adverts arrive but the link is quiet: the network is back, dial again (rule 19).
                    let quiet = now.saturating_duration_since(self.peer_quiet_since);
                    if quiet > Duration::from_millis(500) {
                        self.peers.redial();
                    }
                    self.feed(input, now);
                }
            }
            Event::Net(change) => self.net(&change, now),
            Event::Check { name, good, weight } => {
                let input = if weight == 0 {
                    let source = FaultSource::Script(name);
                    if good {
                        PairInput::FaultCleared(source)
                    } else {
                        PairInput::Fault(source)
                    }
                } else {
                    let delta = match (weight > 0, good) {
                        (true, true) | (false, false) => i32::from(weight),
                        (true, false) | (false, true) => 0,
                    };
                    PairInput::Weight {
                        source: name,
                        delta,
                    }
                };
                self.feed(input, now);
            }
            Event::Control(request, answer) => self.control(request, answer, now),
            Event::Reload(new) => {
                self.hooks.replace(new.hooks.clone());
                self.workshop.archive.set_limits(new.archive);
                let core = core_policies(&self.core, &new);
                self.pair.keeper_mut().reload(&core);
                self.core = core;
                self.settings.hooks = new.hooks;
                self.settings.resync_window = new.resync_window;
                tracing::info!("{}: hooks, policies and bounds are reloaded", self.name);
            }
        }
    }

    fn feed(&mut self, input: PairInput, now: Instant) {
        for output in self.pair.handle(input, now) {
            self.carry(output, now);
        }
    }

    fn carry(&mut self, output: PairOutput, now: Instant) {
        match output {
            PairOutput::Advert(advert) => {
                if let Some(vrrp) = &mut self.vrrp {
                    vrrp.send(advert.priority);
                }
            }
            PairOutput::Announce(round) => self.front.announce(round, now),
            PairOutput::VrrpState(state) => tracing::debug!("{}: VRRP {state}", self.name),
            PairOutput::VrrpLog(event) => tracing::debug!("{}: VRRP {event:?}", self.name),
            PairOutput::Keeper(output) => self.carry_keeper(output, now),
        }
    }

    fn carry_keeper(&mut self, output: Output, now: Instant) {
        match output {
            Output::Do { id, step, deadline } => self.step(id, step, deadline, now),
            Output::Publish(statement) => self.peers.say(&statement),
            Output::Mark(record) => self.journal.mark(&record),
            Output::Event(event) => {
                self.events.tell(&event);
                if let Some(hook) = event.hook {
                    let epoch = event.epoch.to_string();
                    self.hooks
                        .fire(hook, &self.name, &epoch, &event.text, event.severity);
                }
            }
            Output::Reply { id, reply } => {
                if let Some(at) = self.replies.iter().position(|(other, _)| *other == id) {
                    let (_, sender) = self.replies.swap_remove(at);
                    let _ = sender.send(Answer::of(&reply));
                }
            }
            Output::Exit { serving } => self.leaving = Some(serving),
            // Stays inside the pair.
            Output::Vrrp(_) => {}
        }
    }

    /// What concerns this host's kernel is done here and now; the rest in tasks.
    fn step(&mut self, id: StepId, step: Step, deadline: Instant, now: Instant) {
        let result = match step {
            Step::Journal(record) => {
                let written = self.journal.write(&record);
                let events = self.events_out.clone();
                tokio::spawn(async move {
                    let result = match written.await {
                        Ok(Ok(())) => Ok(Outcome::Done),
                        Ok(Err(error)) => Err(kernel_error(&error)),
                        Err(_) => Err(kernel_error(&std::io::Error::other("the writer is gone"))),
                    };
                    report(&events, id, result).await;
                });
                return;
            }
            Step::CloseFront { direct, listener } => {
                self.closing.push((id, direct, listener));
                return;
            }
            Step::OpenFront => self.front.reopen().map_err(|e| any_error(&e)),
            Step::AddVip => self.front.add(now).map_err(|e| kernel_error(&e)),
            Step::DropVip => self.front.drop_addresses().map_err(|e| kernel_error(&e)),
            step => {
                let workshop = self.workshop.clone();
                let events = self.events_out.clone();
                tokio::spawn(async move {
                    let result = carry_out(workshop, step, deadline).await;
                    report(&events, id, result).await;
                });
                return;
            }
        };
        // Back in as an input of its own, after the outputs that follow this step.
        let done = Input::Done {
            id,
            result: result.map(|()| Outcome::Done),
        };
        if let Err(error) = self.events_out.try_send(Event::Input(done)) {
            tracing::error!("{}: the loop's queue is full: {error}", self.name);
        }
    }

    /// Closing the front walks the kernel's sockets, which takes milliseconds; what was published before it
    /// is on its way to the peer by then.
    async fn close_when_said(&mut self, now: Instant) {
        if self.closing.is_empty() {
            return;
        }
        tokio::task::yield_now().await;
        for (id, direct, listener) in std::mem::take(&mut self.closing) {
            let result = self
                .front
                .close(direct, listener)
                .map(|()| Outcome::Done)
                .map_err(|e| any_error(&e));
            self.feed(PairInput::Keeper(Input::Done { id, result }), now);
        }
    }

    fn net(&mut self, change: &Change, now: Instant) {
        if self.front.net_change(change, now) {
            self.feed(PairInput::Announce, now);
        }
        match change {
            Change::Link(_) | Change::LinkGone(_) | Change::Overrun => self.look_at_links(),
            Change::Address(_) | Change::AddressGone(_) => {}
        }
    }

    /// Interfaces that are down are faults; so are tracked ones.
    fn look_at_links(&mut self) {
        let now = Instant::now();
        let links = match Addresses::open().and_then(|mut addresses| addresses.links()) {
            Ok(links) => links,
            Err(error) => {
                tracing::warn!("listing interfaces: {error}");
                return;
            }
        };
        let mut names: Vec<String> = vec![self.vrrp_interface.clone()];
        names.extend(self.vip_interface.clone());
        names.extend(self.settings.vrrp.track_interface.iter().cloned());
        names.sort();
        names.dedup();
        for name in names {
            let usable = links.iter().any(|link| link.name == name && link.usable());
            let source = FaultSource::Interface(name);
            let input = if usable {
                PairInput::FaultCleared(source)
            } else {
                PairInput::Fault(source)
            };
            self.feed(input, now);
        }
    }

    fn control(&mut self, request: Request, answer: oneshot::Sender<Answer>, now: Instant) {
        let reply = match request {
            Request::Status => Answer::Status(Box::new(self.pair.keeper().status(now))),
            Request::Explain => Answer::Explain(self.pair.keeper().explain(now)),
            Request::Command(command) => {
                if self.replies.len() >= REPLIES_MAX {
                    Answer::of(&Reply::Failed("too many operators wait already".to_owned()))
                } else {
                    let id = self.next_reply;
                    self.next_reply += 1;
                    self.replies.push((id, answer));
                    self.feed(PairInput::Keeper(Input::Operator { id, command }), now);
                    return;
                }
            }
        };
        let _ = answer.send(reply);
    }
}

fn keeper(settings: core::Settings, journal: Journal) -> Keeper {
    Keeper::new(settings, journal, Instant::now())
}

async fn report(events: &mpsc::Sender<Event>, id: StepId, result: Result<Outcome, StepError>) {
    let _ = events.send(Event::Input(Input::Done { id, result })).await;
}

fn kernel_error(error: &std::io::Error) -> StepError {
    StepError {
        kind: StepErrorKind::Refused,
        text: error.to_string(),
    }
}

fn any_error(error: &anyhow::Error) -> StepError {
    StepError {
        kind: StepErrorKind::Refused,
        text: format!("{error:#}"),
    }
}

/// Passes the kernel's news on. A broken monitor is opened anew and counts as an overrun.
async fn monitor(events: mpsc::Sender<Event>) {
    loop {
        let mut monitor = match Monitor::open() {
            Ok(monitor) => monitor,
            Err(error) => {
                tracing::error!("netlink monitor: {error}");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        if events.send(Event::Net(Change::Overrun)).await.is_err() {
            return;
        }
        loop {
            match monitor.next().await {
                Ok(change) => {
                    if events.send(Event::Net(change)).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    tracing::warn!("netlink monitor: {error}");
                    break;
                }
            }
        }
    }
}
