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

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tandem_config::settings as config;
use tandem_core::ids::HostId;
use tandem_core::journal::Journal;
use tandem_core::keeper::settings as core;
use tandem_core::keeper::{Input, Keeper, StepId};
use tandem_core::pair::{Pair, PairInput};
use tandem_core::session::Secret;
use tandem_vrrp::machine::Machine;
use tokio::sync::{mpsc, oneshot};

pub(crate) use self::hear::monitor;
use self::settings::{core_settings, minute_of_day};
pub(crate) use self::settings::{credentials, password};
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
    closing: Vec<(StepId, bool, bool)>,
    vip_interface: Option<String>,
    vrrp_interface: String,
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
        let host = HostId::new(&settings.host.id);
        let (journal, record) = JournalFile::open(&dir, &host, &group.name)?;
        let machine_settings =
            vrrp_io::Router::of_group(group).machine_settings(&settings.peers, secret)?;
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
        let place = Place {
            group: &group.name,
            server: group.server,
            vip: group.vip.as_ref(),
            gated: true,
        };
        let front = Front::open(&place, friends, &announcements)?;
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
            peers: outside.peers,
            told: outside.told,
            journal,
            workshop,
            events: Events::new(&group.name, &dir),
            hooks: Hooks::new(group.hooks.clone()),
            replies: Vec::new(),
            next_reply: 1,
            peer_quiet_since: Instant::now(),
            peer_addresses: settings.peers.iter().map(|peer| peer.address).collect(),
            advert_source: None,
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
            let topology = self.pair.keeper().topology(now);
            let address = self
                .told
                .address(self.settings.vip.as_ref(), self.settings.server);
            self.told.say(&self.name, address, topology);
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
        if let Some(vrrp) = self.pair.vrrp()
            && late >= vrrp.master_down()
        {
            self.feed(PairInput::Keeper(Input::Frozen(late)), now);
        }
    }

    fn feed(&mut self, input: PairInput, now: Instant) {
        for output in self.pair.handle(input, now) {
            self.carry(output, now);
        }
    }
}

fn keeper(settings: core::Settings, journal: Journal) -> Keeper {
    Keeper::new(settings, journal, Instant::now())
}
