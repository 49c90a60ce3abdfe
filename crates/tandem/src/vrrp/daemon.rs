//! The loop: packets, kernel events, results of scripts, timers and signals enter here, one at a time.
//!
//! All state lives in [`Daemon`], on one thread. Whatever woke the loop, machines whose deadline has passed are served
//! first, so that a daemon that was frozen yields before it does anything else.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use tandem_vrrp::machine::{FaultReason, FaultSource, Input, Machine, State};
use tandem_vrrp::sync::Group;
use tandem_vrrp::track::Counter;
use tandem_vrrp::{Vrid, packet};
use thiserror::Error;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep_until};
use tracing::{error, warn};

use super::VrrpArgs;
use super::addresses::Held;
use super::announce::Announcers;
use super::host::{Debounce, Host};
use super::outlets::Outlet;
use super::plan::{Plan, RouterPlan, Watched};
use super::scripts::check::{Check, Checked};
use super::scripts::notify::{Finished, Lane};
use super::scripts::user::{self, Account};
use super::track::Standing;
use super::wires::{Packet, WireId, Wires};
use super::{load, status};
use crate::linux::addr::{Addresses, Change, Monitor, Vip};
use crate::linux::clock::{SuspendWatch, boot_time};

/// Packets and results that may wait for the loop; more wait in the kernel or in their tasks.
const HAPPENINGS_MAX: usize = 256;
/// The loop's own period: tracked files, delayed conditions, the state file.
const TICK: Duration = Duration::from_millis(100);
/// Time between two counts of tracked processes.
const PROCESS_PERIOD: Duration = Duration::from_secs(1);
/// Time between two attempts to open sockets that could not be opened.
const RETRY_PERIOD: Duration = Duration::from_secs(1);
/// Deadlines of one machine served in one turn; a machine that wants more waits for the next.
const TURNS_MAX: usize = 8;

/// Why the daemon ended or did not start.
#[derive(Debug, Error)]
pub(super) enum Error {
    /// The file names an interface that does not exist. The operator's fault.
    #[error(
        "instance {instance}: there is no interface {interface}; say dynamic_interfaces if it comes later"
    )]
    MissingInterface { instance: String, interface: String },
    /// Something that the start needs was refused; safe to try again.
    #[error("{what}: {source}")]
    Start {
        what: &'static str,
        source: io::Error,
    },
    /// The reactor.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What tasks tell the loop.
#[derive(Debug)]
pub(super) enum Happening {
    Packet(Packet),
    Checked(Checked),
    ScriptEnded(Finished),
}

/// One router at work.
#[derive(Debug)]
pub(super) struct Router {
    pub(super) plan: RouterPlan,
    pub(super) unit: usize,
    pub(super) member: usize,
    pub(super) receiver: packet::Receiver,
    pub(super) sender: packet::Sender,
    pub(super) own: Option<IpAddr>,
    pub(super) wire: Option<WireId>,
    pub(super) lane: Lane,
    /// Rounds of announcements that are being sent.
    pub(super) rounds: Vec<JoinHandle<()>>,
    /// The last failure to send, so that each kind is logged once.
    pub(super) send_error: Option<io::ErrorKind>,
    pub(super) restored: u64,
    /// On its way out of the file: its last word is told by the reload.
    pub(super) leaving: bool,
}

/// A sync group, or a router alone.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) group: Group,
    /// Indices into the routers.
    pub(super) members: Vec<usize>,
    pub(super) named: Option<NamedGroup>,
}

/// What a real group has besides its members.
#[derive(Debug)]
pub(super) struct NamedGroup {
    pub(super) name: String,
    pub(super) notify: tandem_config::keepalived::Notify,
    pub(super) lane: Lane,
    pub(super) told: Option<State>,
}

/// A check script at work.
#[derive(Debug)]
pub(super) struct Checking {
    pub(super) def: tandem_config::keepalived::ScriptDef,
    /// Held for its end.
    pub(super) _check: Check,
    pub(super) counter: Counter,
    pub(super) last: Option<Checked>,
}

/// Everything.
#[derive(Debug)]
pub(super) struct Daemon {
    pub(super) args: VrrpArgs,
    pub(super) plan: Plan,
    pub(super) routers: Vec<Router>,
    pub(super) units: Vec<Unit>,
    pub(super) host: Host,
    pub(super) netlink: Addresses,
    /// Installed addresses, each with the router that holds it.
    pub(super) vips: BTreeMap<Vip, Held>,
    pub(super) wires: Wires,
    pub(super) announcers: Announcers,
    pub(super) standings: BTreeMap<Watched, Standing>,
    pub(super) checks: BTreeMap<String, Checking>,
    pub(super) links: BTreeMap<String, Debounce>,
    pub(super) processes: BTreeMap<String, Debounce>,
    pub(super) outlets: Vec<Outlet>,
    pub(super) default_user: Option<Account>,
    pub(super) finished: BTreeMap<String, Finished>,
    pub(super) report: mpsc::Sender<Happening>,
    pub(super) started: bool,
    pub(super) dirty: bool,
    pub(super) strangers: BTreeSet<(IpAddr, Vrid)>,
    renew_at: Instant,
    processes_at: Instant,
    retry_at: Instant,
}

/// What woke the loop.
pub(super) enum Wake {
    Change(io::Result<Change>),
    Happening(Happening),
    Deadline,
    Tick,
    Stop,
    Reload,
    Dump,
}

/// Runs until a signal ends it.
pub(super) async fn run(args: VrrpArgs, plan: Plan) -> Result<(), Error> {
    let start = |what| move |source| Error::Start { what, source };
    let mut monitor = Monitor::open().map_err(start("watching the network"))?;
    let mut netlink = Addresses::open().map_err(start("talking to the network"))?;
    let host = Host::list(&mut netlink).map_err(start("listing the network"))?;
    if !plan.dynamic_interfaces
        && let Some((interface, instance)) = plan
            .interfaces()
            .find(|(interface, _)| host.link(interface).is_none())
    {
        return Err(Error::MissingInterface {
            instance: instance.to_owned(),
            interface: interface.to_owned(),
        });
    }
    let mut signals = Signals::new().map_err(start("signals"))?;
    let (report, mut happenings) = mpsc::channel(HAPPENINGS_MAX);
    let mut daemon = Daemon::new(args, plan, host, netlink, report);
    daemon.write_pid_files();
    daemon.remove_leftovers();
    daemon.relist().map_err(start("listing the network"))?;
    let not_before = Instant::now()
        + daemon
            .plan
            .startup_delay
            .max(daemon.plan.delay_after_boot.saturating_sub(boot_time()));
    daemon.start_scripts();
    status::ready();

    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut suspend = SuspendWatch::start();
    loop {
        if !daemon.started && Instant::now() >= not_before {
            daemon.start();
        }
        daemon.write_state_if_changed();
        let deadline = daemon.next_deadline();
        let wake = tokio::select! {
            biased;
            wake = signals.next() => wake,
            change = monitor.next() => Wake::Change(change),
            Some(happening) = happenings.recv() => Wake::Happening(happening),
            () = until(deadline) => Wake::Deadline,
            _ = ticks.tick() => Wake::Tick,
        };
        if let Some(asleep) = suspend.look(Instant::now(), boot_time()) {
            warn!("this machine slept for {asleep:?}");
            for router in 0..daemon.routers.len() {
                daemon.feed(router, Input::PauseDetected(asleep));
            }
        }
        daemon.run_due();
        match wake {
            Wake::Change(Ok(change)) => daemon.changed(&change),
            Wake::Change(Err(error)) => {
                error!("watching the network: {error}; beginning anew");
                monitor = Monitor::open()?;
                daemon.changed(&Change::Overrun);
            }
            Wake::Happening(happening) => daemon.happened(happening),
            Wake::Deadline => {}
            Wake::Tick => daemon.tick(),
            Wake::Reload => daemon.reload(),
            Wake::Dump => daemon.dump(),
            Wake::Stop => break,
        }
    }
    daemon.stop(&mut signals).await;
    Ok(())
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => sleep_until(at.into()).await,
        None => pending().await,
    }
}

/// The signals that keepalived knows.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    user1: Signal,
    user2: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
        })
    }

    pub(super) async fn next(&mut self) -> Wake {
        tokio::select! {
            _ = self.terminate.recv() => Wake::Stop,
            _ = self.interrupt.recv() => Wake::Stop,
            _ = self.hang_up.recv() => Wake::Reload,
            _ = self.user1.recv() => Wake::Dump,
            _ = self.user2.recv() => Wake::Dump,
        }
    }
}

impl Daemon {
    fn new(
        args: VrrpArgs,
        plan: Plan,
        host: Host,
        netlink: Addresses,
        report: mpsc::Sender<Happening>,
    ) -> Self {
        let now = Instant::now();
        let wires = Wires::new(report.clone());
        let mut daemon = Self {
            args,
            plan,
            routers: Vec::new(),
            units: Vec::new(),
            host,
            netlink,
            vips: BTreeMap::new(),
            wires,
            announcers: Announcers::default(),
            standings: BTreeMap::new(),
            checks: BTreeMap::new(),
            links: BTreeMap::new(),
            processes: BTreeMap::new(),
            outlets: Vec::new(),
            default_user: None,
            finished: BTreeMap::new(),
            report,
            started: false,
            dirty: true,
            strangers: BTreeSet::new(),
            renew_at: now,
            processes_at: now,
            retry_at: now,
        };
        daemon.find_default_user();
        daemon
    }

    /// `script_user`, else the user `keepalived_script`, else ourselves.
    pub(super) fn find_default_user(&mut self) {
        self.default_user = match &self.plan.default_user {
            Some((name, group)) => user::find(name, group.as_deref())
                .inspect_err(|problem| error!("script_user: {problem}; scripts run as we do"))
                .ok(),
            None => user::find(load::SCRIPT_USER, None).ok(),
        };
    }

    fn relist(&mut self) -> io::Result<()> {
        self.host = Host::list(&mut self.netlink)?;
        Ok(())
    }

    /// Brings all routers into being and starts them.
    fn start(&mut self) {
        self.started = true;
        for unit in self.plan.units.clone() {
            self.add_unit(&unit, |_| None);
        }
        self.observe_everything();
        self.reassess();
        for router in 0..self.routers.len() {
            self.apply_tracking(router);
        }
        for router in 0..self.routers.len() {
            self.feed(router, Input::Start);
        }
    }

    /// Serves every machine whose deadline has passed.
    fn run_due(&mut self) {
        let now = Instant::now();
        for unit in 0..self.units.len() {
            for _ in 0..TURNS_MAX {
                match self.units[unit].group.next_deadline() {
                    Some((at, member, _)) if at <= now => {
                        let router = self.units[unit].members[member];
                        self.feed(router, Input::Timer);
                    }
                    Some(_) | None => break,
                }
            }
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.units
            .iter()
            .filter_map(|unit| unit.group.next_deadline().map(|(at, ..)| at))
            .min()
    }

    pub(super) fn machine(&self, router: usize) -> Option<&Machine> {
        let router = &self.routers[router];
        self.units[router.unit].group.member(router.member)
    }

    fn happened(&mut self, happening: Happening) {
        match happening {
            Happening::Packet(packet) => self.heard(&packet),
            Happening::Checked(checked) => self.checked(checked),
            Happening::ScriptEnded(finished) => {
                self.finished.insert(finished.owner.clone(), finished);
                self.dirty = true;
            }
        }
    }

    /// Something about links or addresses changed.
    fn changed(&mut self, change: &Change) {
        match change {
            Change::Overrun => {
                warn!("network events were lost; listing everything anew");
                if let Err(error) = self.relist() {
                    error!("listing the network: {error}");
                }
            }
            Change::LinkGone(index) => {
                self.announcers.forget(*index);
                self.vips.retain(|vip, _| vip.interface_index != *index);
                self.host.apply(change);
            }
            Change::Link(_) | Change::Address(_) | Change::AddressGone(_) => {
                self.host.apply(change);
            }
        }
        if self.started {
            self.observe_links();
            self.reassess();
            self.restore_addresses();
        }
    }

    /// Sockets and own addresses, as the network is now.
    pub(super) fn reassess(&mut self) {
        for index in 0..self.routers.len() {
            let own = self.host.own_address(&self.routers[index].plan);
            let wire = own.and_then(|own| self.open_wire(index, own));
            self.routers[index].wire = wire;
            if self.routers[index].own != own {
                self.routers[index].own = own;
                self.feed(index, Input::OwnAddress(own));
            }
            // Deaf and mute, a router would take silence for its peer's death.
            let deaf = FaultSource::Service("socket".to_owned());
            if own.is_some() && wire.is_none() {
                let reason = FaultReason::Failed;
                self.feed(
                    index,
                    Input::Fault {
                        source: deaf,
                        reason,
                    },
                );
            } else {
                self.feed(index, Input::FaultCleared(deaf));
            }
        }
        let used: BTreeSet<_> = self
            .routers
            .iter()
            .filter_map(|router| router.wire)
            .collect();
        self.wires.retain(|id| used.contains(&id));
    }

    /// Every period: what is looked at rather than waited for.
    fn tick(&mut self) {
        let now = Instant::now();
        if now >= self.renew_at {
            self.renew_at = now + self.renewal_period();
            self.renew_addresses();
        }
        self.flush_fifos();
        if !self.started {
            return;
        }
        self.observe_links();
        self.observe_files();
        if now >= self.processes_at {
            self.processes_at = now + PROCESS_PERIOD;
            self.observe_processes();
        }
        if now >= self.retry_at {
            self.retry_at = now + RETRY_PERIOD;
            self.reassess();
            self.restore_addresses();
            self.follow_fifos();
        }
    }
}
