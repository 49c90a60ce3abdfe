//! The loop of one group: inputs in, the pair's outputs carried out in order, results back in.
//!
//! It owns the pair and everything that concerns this host's kernel; what takes time (Redis, disk) runs in
//! tasks that report back. The loop itself never waits for anything but its inputs and its clock, and measures
//! how late it is: a loop that stood still may have been replaced by its peer meanwhile, so that is the first
//! thing the pair is told when it goes on.

mod carry;
mod hear;
mod reload;
mod settings;
mod sibling;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tandem_config::settings as config;
use tandem_core::health::AnswerKind;
use tandem_core::journal::Journal;
use tandem_core::keeper::settings as core;
use tandem_core::keeper::{Input, Keeper, Phase, ServerEvent, StepId};
use tandem_core::pair::{Pair, PairInput};
use tandem_core::session::Secret;
use tandem_vrrp::machine::Machine;
use tandem_vrrp::settings::Settings as VrrpSettings;
use tokio::sync::{mpsc, oneshot};

pub(crate) use self::hear::monitor;
use self::settings::{core_settings, gate_name, minute_of_day, peer_server, seat_host};
pub(crate) use self::settings::{credentials, password};
pub(crate) use self::sibling::Sibling;
use super::archive::Archive;
use super::control::{Answer, Request};
use super::directory::Told;
use super::events::Events;
use super::front::{Front, Place};
use super::hooks::Hooks;
use super::journal_file::JournalFile;
use super::peer::Peers;
use super::server::{self, Server};
use super::steps::Workshop;
use super::vrrp_io::{self, Packet, VrrpIo};
use crate::linux::addr::{Addresses, Change};
use crate::linux::alarm::Alarm;
use crate::linux::clock::SuspendWatch;
use crate::redis::raw::Target;

/// Events waiting for the loop. More than a moment's worth means that it stood still.
pub(crate) const EVENTS_MAX: usize = 1024;
/// A loop this late tells the detector that silence may have been its own.
const LATE: Duration = Duration::from_millis(25);
/// The clock on the wall is looked at this often for the resync window.
const WINDOW_LOOK: Duration = Duration::from_secs(5);

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
    /// These settings are in force from now on.
    Reload(Box<config::Group>, oneshot::Sender<Answer>),
}

/// Where a group's loop says what others should know.
#[derive(Clone, Debug)]
pub(crate) struct Outside {
    /// To the other daemon.
    pub(crate) peers: Peers,
    /// To the other keeper of this daemon, where both servers are here: in place of the other daemon.
    pub(crate) sibling: Option<Sibling>,
    /// To clients that ask for the primary.
    pub(crate) told: Told,
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
    sibling: Option<Sibling>,
    told: Told,
    journal: JournalFile,
    workshop: Workshop,
    events: Events,
    hooks: Hooks,
    replies: Vec<(u64, oneshot::Sender<Answer>)>,
    next_reply: u64,
    peer_quiet_since: Instant,
    /// Where the other hosts are, as the file says, and where the last accepted advert came from.
    peer_addresses: Vec<IpAddr>,
    advert_source: Option<IpAddr>,
    leaving: Option<bool>,
    /// Of two keepers in one daemon: when it goes at the latest, once it was told to stop.
    stop_by: Option<Instant>,
    closing: Vec<(StepId, bool, bool)>,
    vip_interface: Option<String>,
    core: core::Settings,
    window_at: Instant,
}

impl Group {
    /// Opens everything a group needs. Nothing is decided or changed yet.
    pub(crate) async fn open(
        settings: &config::Settings,
        group: &config::Group,
        secret: Option<&Secret>,
        outside: Outside,
        events_out: mpsc::Sender<Event>,
        events_in: mpsc::Receiver<Event>,
    ) -> Result<Self> {
        let dir = super::group_dir(settings, &group.name);
        let host = seat_host(settings, group);
        let journal_dir = super::journal_dir(settings, group);
        let (journal, record) = JournalFile::open(&journal_dir, &host, &group.name)?;
        let router = match group.vrrp() {
            Some(vrrp) => Some(Router::open(settings, group, vrrp, secret)?),
            None => None,
        };
        let machine = router.as_ref().map(|router| router.machine.clone());
        let core = core_settings(settings, group, machine.as_ref())?;
        let pair = Pair::new(keeper(core.clone(), record), machine);
        let mut friends: Vec<IpAddr> = settings.peers.iter().map(|p| p.address).collect();
        friends.push(settings.host.address);
        friends.extend(group.servers().map(|server| server.ip()));
        friends.push(IpAddr::from([127, 0, 0, 1]));
        friends.sort();
        friends.dedup();
        let gate = gate_name(group);
        let place = Place {
            group: &gate,
            server: group.server,
            vip: group.vip.as_ref(),
            gated: true,
        };
        let announcements = router
            .as_ref()
            .map(|router| router.settings.announcements)
            .unwrap_or_default();
        let front = Front::open(&place, friends, &announcements)?;
        let vrrp = router
            .map(|router| {
                VrrpIo::open(
                    router.settings,
                    &router.interface,
                    router.own,
                    events_out.clone(),
                )
            })
            .transpose()?;
        let credentials = credentials(group)?;
        let target = Target {
            address: group.server,
            source: None,
            credentials: credentials.clone(),
        };
        let server = Server::new(target);
        if let Some(peer) = peer_server(settings, group) {
            server.set_successor(peer.ip());
        }
        tokio::spawn(server::watch(
            server.clone(),
            group.down_after,
            events_out.clone(),
        ));
        tokio::spawn(monitor(events_out.clone()));
        for check in group.vrrp().iter().flat_map(|vrrp| &vrrp.track_script) {
            tokio::spawn(super::checks::run(check.clone(), events_out.clone()));
        }
        let workshop = Workshop {
            server,
            credentials,
            archive: Archive::new(&dir, &group.name, &host.0, group.archive),
            manage: group.manage.clone(),
            peer_server: peer_server(settings, group),
            source: settings.host.address,
        };
        Ok(Self {
            name: group.seat_name(),
            pair,
            events_in,
            events_out,
            front,
            vrrp,
            peers: outside.peers,
            sibling: outside.sibling,
            told: outside.told,
            journal,
            workshop,
            events: Events::of_seat(group, &dir),
            hooks: Hooks::new(group.hooks.clone()),
            replies: Vec::new(),
            next_reply: 1,
            peer_quiet_since: Instant::now(),
            peer_addresses: settings.peers.iter().map(|peer| peer.address).collect(),
            advert_source: None,
            leaving: None,
            stop_by: None,
            closing: Vec::new(),
            vip_interface: group.vip.as_ref().map(|vip| vip.interface.clone()),
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
        let mut looks = self.told.looks.questions();
        let mut alarm = Alarm::new();
        loop {
            let event = tokio::select! {
                biased;
                event = self.events_in.recv() => Some(event),
                // The sender is ours.
                Ok(()) = looks.changed() => None,
                () = alarm.at(deadline) => None,
            };
            let look = *looks.borrow_and_update();
            let now = Instant::now();
            self.tell_lateness(&mut suspend, deadline, now);
            // Before anything is made of how much time has passed.
            if let Some(at) = self.workshop.server.heard() {
                let heard = ServerEvent::Earlier(AnswerKind::Fine, at);
                self.feed(PairInput::Keeper(Input::Server(heard)), now);
            }
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
            self.tell_topology(now);
            self.told.looks.answer(&self.settings.name, look);
            self.leave_beside_sibling(now);
            if let Some(serving) = self.leaving {
                // What a keeper beside another one left closed stays closed until the next daemon has looked.
                if serving || self.sibling.is_none() {
                    self.front.leave(serving);
                }
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
            self.workshop
                .server
                .set_rest(self.pair.keeper().is_at_rest(now));
        }
    }

    fn tell_topology(&self, now: Instant) {
        let own = self.pair.keeper().topology(now);
        let topology = match &self.sibling {
            Some(sibling) => sibling.together(self.settings.server, own),
            None => own,
        };
        let address = self
            .told
            .address(self.settings.vip.as_ref(), self.settings.server);
        self.told.say(&self.settings.name, address, topology);
    }

    /// Two keepers of one daemon leave together, so none hands its role to the other: both servers go on as they are, and the
    /// next daemon finds in the journals what this one knew. One that is in the middle of something finishes it first, for a
    /// while; what it cannot finish ends as by a crash, the gate included.
    fn leave_beside_sibling(&mut self, now: Instant) {
        let Some(stop_by) = self.stop_by else {
            return;
        };
        match self.pair.keeper().phase() {
            Phase::Primary { .. } | Phase::Replica { .. } => self.leaving = Some(true),
            Phase::Booting { .. }
            | Phase::Waiting { .. }
            | Phase::TakingOver(_)
            | Phase::HandingOver(_)
            | Phase::Released { .. }
            | Phase::Split(_)
            | Phase::Rejoining(_) => {
                if now >= stop_by {
                    self.leaving = Some(false);
                }
            }
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
            self.feed(PairInput::Keeper(Input::ResyncWindow), now);
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
        let frozen = self
            .pair
            .vrrp()
            .map_or(sibling::ABSENT_AFTER, Machine::master_down);
        if late >= frozen {
            self.feed(PairInput::Keeper(Input::Frozen(late)), now);
        }
    }

    fn feed(&mut self, input: PairInput, now: Instant) {
        for output in self.pair.handle(input, now) {
            self.carry(output, now);
        }
    }
}

/// What a group's file makes of VRRP.
struct Router {
    settings: VrrpSettings,
    machine: Machine,
    interface: String,
    own: IpAddr,
}

impl Router {
    fn open(
        settings: &config::Settings,
        group: &config::Group,
        vrrp: &config::Vrrp,
        secret: Option<&Secret>,
    ) -> Result<Self> {
        let router = vrrp_io::Router::of_group(group, vrrp);
        let machine_settings = router.machine_settings(&settings.peers, secret)?;
        let mut addresses = Addresses::open().context("netlink")?;
        let own = vrrp_io::own_address(
            &mut addresses,
            &vrrp.interface,
            settings.host.address,
            machine_settings.family,
        )?;
        let machine = Machine::new(machine_settings.clone(), own).context("group.vrrp")?;
        Ok(Self {
            settings: machine_settings,
            machine,
            own: vrrp_io::require_own(own, &vrrp.interface)?,
            interface: vrrp.interface.clone(),
        })
    }
}

fn keeper(settings: core::Settings, journal: Journal) -> Keeper {
    Keeper::new(settings, journal, Instant::now())
}
