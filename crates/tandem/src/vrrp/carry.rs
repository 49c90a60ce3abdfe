//! Carries out what the machines want, in the order in which they say it.
//!
//! The order is keepalived's and part of the contract: advert, addresses, announcements, and only then scripts and FIFO lines,
//! which is why notices wait until everything else of a change is done.

use std::collections::VecDeque;
use std::time::Instant;

use tandem_vrrp::Family;
use tandem_vrrp::garp::{Round, RoundKind};
use tandem_vrrp::machine::{ClaimReason, Event, Input, Machine, Output, Reason, State};
use tandem_vrrp::packet::Dialect;
use tracing::{debug, error, info, warn};

use super::announce::Announced;
use super::daemon::Daemon;
use super::notices::Notice;
use super::status;

impl Daemon {
    /// Gives one input to a router and carries out all that follows from it.
    pub(super) fn feed(&mut self, router: usize, input: Input) {
        let now = Instant::now();
        let mut queue = VecDeque::from([(router, input)]);
        let mut notices = Vec::new();
        while let Some((router, input)) = queue.pop_front() {
            let (unit, member) = (self.routers[router].unit, self.routers[router].member);
            let master = |daemon: &Self| daemon.machine(router).and_then(Machine::master);
            let followed = master(self);
            let outputs = self.units[unit].group.handle(member, input, now);
            self.dirty |= master(self) != followed;
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
