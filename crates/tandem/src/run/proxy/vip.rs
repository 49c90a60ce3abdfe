//! `[proxy.vip]`: the shell around a [`ProxyVip`].
//!
//! It asks the proxy's threads for signs of life, carries adverts, and puts the addresses on and takes them off as it is told.
//! The addresses have a lifetime in the kernel that only this loop renews: a daemon that is killed or frozen leaves none.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tandem_config::settings::{self as config, Settings};
use tandem_core::proxy_vip::{BEAT_EVERY, Input, Output, ProxyVip};
use tandem_core::session::Secret;
use tandem_proxy::server::Pulse;
use tandem_vrrp::machine::{FaultReason, Input as Router, Machine};
use tokio::sync::{mpsc, watch::Receiver};

use super::super::front::{Front, Place};
use super::super::group::{EVENTS_MAX, Event, monitor};
use super::super::vrrp_io::{self, Judged, VrrpIo, interface_faults};
use crate::linux::addr::{Addresses, Change};
use crate::linux::clock::{SuspendWatch, boot_time};

/// A loop this late says that silence may have been its own.
const LATE: Duration = Duration::from_millis(25);
/// What the kernel refused is tried again after this.
const AGAIN: Duration = Duration::from_millis(200);

/// The VIP of one proxy.
pub(super) struct Vip {
    proxy: String,
    machine: ProxyVip,
    front: Front,
    adverts: VrrpIo,
    interfaces: Vec<String>,
    /// Of the threads that there are: a proxy that lost one is started afresh.
    pulse: Receiver<Pulse>,
    /// How often each thread had answered when it was asked last.
    answered: Vec<u64>,
    beat_at: Instant,
    /// The addresses belong here.
    wanted: bool,
    retry_at: Option<Instant>,
    left: bool,
    events: mpsc::Receiver<Event>,
}

impl Vip {
    /// Opens what is needed. Addresses that an earlier daemon left are not this one's to hold and go.
    pub(super) fn open(
        settings: &Settings,
        proxy: &config::Proxy,
        vip: &config::ProxyVip,
        secret: Option<&Secret>,
        pulse: Receiver<Pulse>,
    ) -> Result<Self> {
        let router = vrrp_io::Router::of_proxy(vip).machine_settings(&settings.peers, secret)?;
        let interface = &vip.vrrp.interface;
        let own = vrrp_io::own_address(
            &mut Addresses::open().context("netlink")?,
            interface,
            settings.host.address,
            router.family,
        )?;
        let own = vrrp_io::require_own(own, interface)?;
        let place = Place {
            group: &proxy.name,
            server: proxy.listen,
            vip: Some(&vip.front),
            gated: false,
        };
        let mut front = Front::open(&place, Vec::new(), &router.announcements)?;
        if front.has_leftovers() {
            front
                .drop_addresses()
                .context("addresses of an earlier daemon")?;
        }
        let now = Instant::now();
        let machine = Machine::new(router.clone(), Some(own)).context("proxy.vrrp")?;
        let (events_out, events) = mpsc::channel(EVENTS_MAX);
        let adverts = VrrpIo::open(router, interface, own, events_out.clone())?;
        tokio::spawn(monitor(events_out));
        let mut interfaces = vec![interface.clone(), vip.front.interface.clone()];
        interfaces.extend(vip.vrrp.track_interface.iter().cloned());
        let threads = pulse.borrow().threads();
        Ok(Self {
            proxy: proxy.name.clone(),
            machine: ProxyVip::new(machine, threads, now),
            front,
            adverts,
            interfaces,
            answered: vec![0; threads],
            pulse,
            beat_at: now,
            wanted: false,
            retry_at: None,
            left: false,
            events,
        })
    }

    /// Runs until `stop` and the handover after it.
    pub(super) async fn run(mut self, mut stop: Receiver<bool>) -> Result<()> {
        let mut suspend = SuspendWatch::start();
        let mut stopping = false;
        self.look_at_links();
        while !self.left {
            let deadline = self.deadline();
            let event = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop), if !stopping => None,
                event = self.events.recv() => event,
                () = tokio::time::sleep_until(deadline.into()) => None,
            };
            let now = Instant::now();
            let slept = suspend.look(now, boot_time()).unwrap_or_default();
            let late = now.saturating_duration_since(deadline).max(slept);
            if late >= LATE {
                self.feed(Input::Late(late), now);
            }
            if *stop.borrow() && !stopping {
                stopping = true;
                self.feed(Input::Stop, now);
            }
            if let Some(event) = event {
                self.event(event, now);
            }
            // Also between two of many packets, or whoever floods this router would silence it.
            if now >= deadline {
                self.tick(now);
            }
        }
        self.front.leave(false);
        Ok(())
    }

    /// Never in the past, or a late loop would spin.
    fn deadline(&self) -> Instant {
        let machine = self.machine.next_deadline();
        let all = [machine, self.front.next_deadline(), self.retry_at];
        let next = all.into_iter().flatten().fold(self.beat_at, Instant::min);
        next.max(Instant::now())
    }

    fn tick(&mut self, now: Instant) {
        if now >= self.beat_at {
            self.beat_at = now + BEAT_EVERY;
            let asked = self.pulse.borrow().ask();
            for (thread, answered) in asked.into_iter().enumerate() {
                let Some(before) = self.answered.get_mut(thread) else {
                    continue;
                };
                if std::mem::replace(before, answered) != answered {
                    self.feed(Input::Beat(thread), now);
                }
            }
        }
        self.feed(Input::Tick, now);
        self.front.tick(now);
        if self.retry_at.is_some_and(|at| now >= at) {
            self.settle(now);
        }
    }

    fn event(&mut self, event: Event, now: Instant) {
        match event {
            Event::Packet(packet) => {
                let input = match self.adverts.judge(&packet) {
                    Some(Judged::Advert(advert)) => Router::Advert(advert),
                    Some(Judged::Rejected { source, error }) => Router::Rejected { source, error },
                    None => return,
                };
                self.feed(Input::Router(input), now);
            }
            Event::Net(change) => {
                if self.front.net_change(&change, now) {
                    self.feed(Input::Router(Router::Announce), now);
                }
                match change {
                    Change::Link(_) | Change::LinkGone(_) | Change::Overrun => self.look_at_links(),
                    Change::Address(_) | Change::AddressGone(_) => {}
                }
            }
            // Of groups alone.
            Event::Input(_) | Event::Check { .. } | Event::Control(..) | Event::Reload(..) => {}
        }
    }

    /// Interfaces that are down are faults.
    fn look_at_links(&mut self) {
        let now = Instant::now();
        for (source, usable) in interface_faults(self.interfaces.clone()) {
            let input = if usable {
                Router::FaultCleared(source)
            } else {
                Router::Fault {
                    source,
                    reason: FaultReason::Failed,
                }
            };
            self.feed(Input::Router(input), now);
        }
    }

    fn feed(&mut self, input: Input, now: Instant) {
        for output in self.machine.handle(input, now) {
            match output {
                Output::Advert(advert) => self.adverts.send(advert.priority),
                Output::TakeAddress => {
                    self.wanted = true;
                    self.settle(now);
                }
                Output::GiveAddress => {
                    self.wanted = false;
                    // With a reset, while there is an address to send it from.
                    if let Err(error) = self.front.close(false, false) {
                        tracing::warn!("proxy {}: resetting clients: {error:#}", self.proxy);
                    }
                    self.settle(now);
                }
                Output::Announce(round) => self.front.announce(round, now),
                Output::Tell { name, text, alarm } => {
                    if alarm {
                        tracing::warn!("proxy {}: {name}: {text}", self.proxy);
                    } else {
                        tracing::info!("proxy {}: {name}: {text}", self.proxy);
                    }
                }
                Output::Log(event) => tracing::debug!("proxy {}: VRRP {event:?}", self.proxy),
                Output::Left => self.left = true,
            }
        }
    }

    /// Makes the kernel have the addresses, or not.
    fn settle(&mut self, now: Instant) {
        let (name, settled) = if self.wanted {
            ("+vip", self.front.add(now))
        } else {
            ("-vip", self.front.drop_addresses())
        };
        self.retry_at = settled.is_err().then(|| now + AGAIN);
        match settled {
            Ok(()) => tracing::info!("proxy {}: {name}", self.proxy),
            Err(error) => tracing::error!("proxy {}: {name}: {error}, tried again", self.proxy),
        }
    }
}
