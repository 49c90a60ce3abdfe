//! What goes out: the pair's outputs are carried out in order, and their results come back as events.

use std::net::IpAddr;
use std::time::Instant;

use tandem_core::keeper::{Input, Outcome, Output, Step, StepError, StepErrorKind, StepId};
use tandem_core::pair::{PairInput, PairOutput};
use tokio::sync::mpsc;

use super::{Event, Group};
use crate::run::control::Answer;
use crate::run::duplicate;
use crate::run::steps::carry_out;

impl Group {
    pub(super) fn carry(&mut self, output: PairOutput, now: Instant) {
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
            Output::Publish(statement) => match &self.sibling {
                Some(sibling) => sibling.say(&statement),
                None => self.peers.say(&statement),
            },
            Output::Mark(record) => self.journal.mark(&record),
            Output::Event(event) => {
                self.events.tell(&event);
                if let Some(hook) = event.hook {
                    let epoch = event.epoch.to_string();
                    self.hooks.fire(
                        hook,
                        &self.settings.name,
                        &epoch,
                        &event.text,
                        event.severity,
                    );
                }
            }
            Output::AskVip => self.ask_vip(),
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

    fn ask_vip(&self) {
        let Some(vip) = &self.settings.vip else {
            return;
        };
        let vips: Vec<IpAddr> = vip.addresses.iter().map(|prefix| prefix.addr).collect();
        let interface = vip.interface.clone();
        let mut peers = self.peer_addresses.clone();
        peers.extend(self.advert_source);
        peers.sort();
        peers.dedup();
        let events = self.events_out.clone();
        tokio::spawn(async move {
            let answers = duplicate::look(&interface, &vips, &peers).await;
            let _ = events.send(Event::Input(Input::VipAnswers(answers))).await;
        });
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
            Step::Quiesce(rank) => {
                // Told at the end of this turn, by the snapshot.
                let (quiet, group) = (self.told.quiet.clone(), self.settings.name.clone());
                let events = self.events_out.clone();
                tokio::spawn(async move {
                    let finished = quiet.finished(&group, &rank);
                    let result = match tokio::time::timeout_at(deadline.into(), finished).await {
                        Ok(()) => Ok(Outcome::Done),
                        Err(_) => Err(StepError {
                            kind: StepErrorKind::TimedOut,
                            text: "a proxy has not finished".to_owned(),
                        }),
                    };
                    report(&events, id, result).await;
                });
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
    pub(super) async fn close_when_said(&mut self, now: Instant) {
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
