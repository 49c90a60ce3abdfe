//! What comes in: events become the pair's inputs.

use std::time::{Duration, Instant};

use tandem_core::keeper::{Input, PeerEvent, Reply};
use tandem_core::pair::PairInput;
use tandem_core::sentinel::daemon;
use tandem_core::sentinel::io::Word;
use tandem_vrrp::machine::FaultSource;
use tokio::sync::{mpsc, oneshot};

use super::{Event, Group};
use crate::linux::addr::{Change, Monitor};
use crate::run::control::{Answer, Request};
use crate::run::vrrp_io::interface_faults;

/// How long a keeper beside another one may take to finish what it has begun.
const STOP_WITHIN: Duration = Duration::from_secs(2);
/// Operators waiting for the outcome of a switchover.
const REPLIES_MAX: usize = 32;

impl Group {
    pub(super) fn event(&mut self, event: Event, now: Instant) {
        match event {
            Event::Input(Input::Stop) if self.sibling.is_some() => {
                self.stop_by.get_or_insert(now + STOP_WITHIN);
            }
            Event::Input(input) => {
                if let Input::Peer(PeerEvent::Heard(statement)) = &input {
                    self.peer_quiet_since = now;
                    if let Ok(address) = statement.server_address.parse() {
                        self.workshop.peer_server = Some(address);
                        self.workshop.server.set_successor(address.ip());
                    }
                }
                self.feed(PairInput::Keeper(input), now);
            }
            Event::Packet(packet) => {
                let judged = self.vrrp.as_mut().and_then(|vrrp| vrrp.judge(&packet));
                if let Some(input) = judged.map(PairInput::from) {
                    if let PairInput::Advert(advert) = &input {
                        self.advert_source = Some(advert.source);
                    }
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
            Event::Reload(new, answer) => {
                let reply = self.reload(*new, now);
                let _ = answer.send(Answer::of(&reply));
            }
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
    pub(super) fn look_at_links(&mut self) {
        let now = Instant::now();
        let Some(vrrp) = self.settings.vrrp() else {
            return;
        };
        let mut names = vec![vrrp.interface.clone()];
        names.extend(self.vip_interface.clone());
        names.extend(vrrp.track_interface.iter().cloned());
        for (source, usable) in interface_faults(names) {
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
            Request::Status => {
                let mut status = self.pair.keeper().status(now);
                let vip = self.settings.vip.iter().flat_map(|vip| &vip.addresses);
                status.addresses = vip.map(ToString::to_string).collect();
                Answer::Status(Box::new(status))
            }
            Request::Explain => Answer::Explain(self.pair.keeper().explain(now)),
            // Whatever happens to this server is the keeper's to decide.
            Request::Witness(_) => Answer::Witness(daemon::Answer::Word(Word::Owned)),
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

/// Passes the kernel's news on. A broken monitor is opened anew and counts as an overrun.
pub(crate) async fn monitor(events: mpsc::Sender<Event>) {
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
