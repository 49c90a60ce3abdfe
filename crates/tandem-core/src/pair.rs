//! A keeper and its elector as one machine: what the shell and the simulator both drive.
//!
//! The VRRP machine knows no Redis and the keeper knows no packets; here the wishes of the one become
//! inputs of the other, within one call, so that an advert always leaves before the address it
//! speaks for goes up and a promotion always comes before both.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Instant;

use tandem_vrrp::garp::Round;
use tandem_vrrp::machine::{
    AdvertToSend, ClaimId, Event as VrrpLog, FaultReason, FaultSource, Input as VrrpInput, Machine,
    Output as VrrpOutput, State,
};
use tandem_vrrp::packet::{DecodeError, Received};
use tandem_vrrp::settings::Settings as VrrpSettings;

use crate::keeper::{Input, Keeper, Output, VrrpCommand, VrrpEvent};

/// Bound on the exchanges between keeper and VRRP machine within one input.
const EXCHANGES_MAX: usize = 64;

/// Into the pair.
#[derive(Clone, Debug)]
pub enum PairInput {
    /// For the keeper.
    Keeper(Input),
    /// An advert that passed the receiver's checks.
    Advert(Received),
    /// A datagram for this virtual router that did not.
    Rejected {
        /// Who sent it.
        source: IpAddr,
        /// Why it was dropped.
        error: DecodeError,
    },
    /// An interface or check of weight 0 is broken.
    Fault(FaultSource),
    /// It works again.
    FaultCleared(FaultSource),
    /// A check's contribution to the priority.
    Weight {
        /// Names the check.
        source: String,
        /// Added to the priority.
        delta: i32,
    },
    /// The source address of the adverts.
    OwnAddress(Option<IpAddr>),
    /// Announce again: the address was put back in place.
    Announce,
    /// New settings for the VRRP machine: priority and addresses of the same router.
    Reload(Box<VrrpSettings>),
}

/// Out of the pair, in order.
#[derive(Clone, Debug)]
pub enum PairOutput {
    /// From the keeper; never [`Output::Vrrp`], which stays inside.
    Keeper(Output),
    /// Send this advert.
    Advert(AdvertToSend),
    /// Announce the addresses, once they are on.
    Announce(Round),
    /// The VRRP machine changed its state.
    VrrpState(State),
    /// Something for the log.
    VrrpLog(VrrpLog),
}

/// One group on one host: keeper and VRRP machine.
#[derive(Debug)]
pub struct Pair {
    keeper: Keeper,
    vrrp: Option<Machine>,
    started: bool,
    claim: Option<ClaimId>,
}

impl Pair {
    /// `vrrp` is `None` for a group without an elector of its own.
    pub fn new(keeper: Keeper, vrrp: Option<Machine>) -> Self {
        Self {
            keeper,
            vrrp,
            started: false,
            claim: None,
        }
    }

    /// The keeper, to look at.
    pub fn keeper(&self) -> &Keeper {
        &self.keeper
    }

    /// The VRRP machine, to look at.
    pub fn vrrp(&self) -> Option<&Machine> {
        self.vrrp.as_ref()
    }

    /// When to come back with [`Input::Tick`] at the latest.
    pub fn next_deadline(&self, now: Instant) -> Instant {
        let keeper = self.keeper.next_deadline(now);
        match self.vrrp.as_ref().and_then(Machine::next_deadline) {
            Some((at, _)) => keeper.min(at),
            None => keeper,
        }
    }

    /// Takes one input; outputs are to be carried out in order.
    pub fn handle(&mut self, input: PairInput, now: Instant) -> Vec<PairOutput> {
        let mut out = Vec::new();
        let mut todo: VecDeque<Input> = VecDeque::new();
        match input {
            PairInput::Keeper(Input::Tick) => {
                self.vrrp_input(VrrpInput::Timer, now, &mut todo, &mut out);
                todo.push_back(Input::Tick);
            }
            PairInput::Keeper(Input::Frozen(length)) => {
                // The keeper closes and fences before VRRP may speak.
                todo.push_back(Input::Frozen(length));
                self.drain(&mut todo, now, &mut out);
                self.vrrp_input(VrrpInput::PauseDetected(length), now, &mut todo, &mut out);
            }
            PairInput::Keeper(input) => todo.push_back(input),
            PairInput::Advert(advert) => {
                todo.push_back(Input::Vrrp(VrrpEvent::PeerAdvert));
                self.vrrp_input(VrrpInput::Advert(advert), now, &mut todo, &mut out);
            }
            PairInput::Rejected { source, error } => {
                let text = format!(
                    "adverts of this router id arrive from {source} and are dropped: {error}; \
                     another cluster, or a peer with other settings"
                );
                todo.push_back(Input::Vrrp(VrrpEvent::Stranger(text)));
                let rejected = VrrpInput::Rejected { source, error };
                self.vrrp_input(rejected, now, &mut todo, &mut out);
            }
            PairInput::Fault(source) => {
                let fault = VrrpInput::Fault {
                    source,
                    reason: FaultReason::Failed,
                };
                self.vrrp_input(fault, now, &mut todo, &mut out);
            }
            PairInput::FaultCleared(source) => {
                self.vrrp_input(VrrpInput::FaultCleared(source), now, &mut todo, &mut out);
            }
            PairInput::Weight { source, delta } => {
                self.vrrp_input(
                    VrrpInput::Weight { source, delta },
                    now,
                    &mut todo,
                    &mut out,
                );
            }
            PairInput::OwnAddress(own) => {
                self.vrrp_input(VrrpInput::OwnAddress(own), now, &mut todo, &mut out);
            }
            PairInput::Announce => {
                self.vrrp_input(VrrpInput::Announce, now, &mut todo, &mut out);
            }
            PairInput::Reload(settings) => {
                self.vrrp_input(VrrpInput::Reload(settings), now, &mut todo, &mut out);
            }
        }
        self.drain(&mut todo, now, &mut out);
        out
    }

    fn drain(&mut self, todo: &mut VecDeque<Input>, now: Instant, out: &mut Vec<PairOutput>) {
        for _ in 0..EXCHANGES_MAX {
            let Some(input) = todo.pop_front() else {
                return;
            };
            for output in self.keeper.handle(input, now) {
                match output {
                    Output::Vrrp(command) => self.command(command, now, todo, out),
                    Output::Do { .. }
                    | Output::Publish(_)
                    | Output::Mark(_)
                    | Output::Event(_)
                    | Output::AskVip
                    | Output::Reply { .. }
                    | Output::Exit { .. } => out.push(PairOutput::Keeper(output)),
                }
            }
        }
    }

    fn command(
        &mut self,
        command: VrrpCommand,
        now: Instant,
        todo: &mut VecDeque<Input>,
        out: &mut Vec<PairOutput>,
    ) {
        let data = || FaultSource::Service("data".to_owned());
        let input = match command {
            VrrpCommand::Grant => match self.claim.take() {
                Some(claim) => VrrpInput::Granted(claim),
                None => return,
            },
            VrrpCommand::Claim => {
                self.start(now, todo, out);
                VrrpInput::Claim
            }
            VrrpCommand::ResumeMaster => {
                self.vrrp_input(VrrpInput::FaultCleared(data()), now, todo, out);
                if self.started {
                    VrrpInput::Claim
                } else {
                    self.started = true;
                    VrrpInput::Resume
                }
            }
            VrrpCommand::Fault(_) => VrrpInput::Fault {
                source: data(),
                reason: FaultReason::Failed,
            },
            VrrpCommand::ClearFault => {
                self.vrrp_input(VrrpInput::FaultCleared(data()), now, todo, out);
                self.start(now, todo, out);
                return;
            }
            VrrpCommand::Release => VrrpInput::Release,
            VrrpCommand::Stop => VrrpInput::Stop,
        };
        self.vrrp_input(input, now, todo, out);
    }

    /// The VRRP machine begins when the keeper first lets it: before, it is silent in INIT.
    fn start(&mut self, now: Instant, todo: &mut VecDeque<Input>, out: &mut Vec<PairOutput>) {
        if !self.started {
            self.started = true;
            self.vrrp_input(VrrpInput::Start, now, todo, out);
        }
    }

    fn vrrp_input(
        &mut self,
        input: VrrpInput,
        now: Instant,
        todo: &mut VecDeque<Input>,
        out: &mut Vec<PairOutput>,
    ) {
        let Some(machine) = &mut self.vrrp else {
            return;
        };
        let before = machine.state();
        for output in machine.handle(input, now) {
            match output {
                VrrpOutput::WantMaster { claim, .. } => {
                    self.claim = Some(claim);
                    todo.push_back(Input::Vrrp(VrrpEvent::WantMaster));
                }
                VrrpOutput::SendAdvert(advert) => {
                    out.push(PairOutput::Advert(advert));
                    todo.push_back(Input::Vrrp(VrrpEvent::AdvertSent));
                }
                VrrpOutput::Yield { .. } => {
                    let event = if self.claim.take().is_some() {
                        VrrpEvent::WishWithdrawn
                    } else {
                        VrrpEvent::GiveUpAddresses
                    };
                    todo.push_back(Input::Vrrp(event));
                }
                VrrpOutput::Became { state, .. } => match state {
                    State::Master => todo.push_back(Input::Vrrp(VrrpEvent::BecameMaster)),
                    State::Init
                    | State::Backup
                    | State::Claiming
                    | State::Releasing
                    | State::Fault
                    | State::Stopped => {}
                },
                VrrpOutput::Announce(round) => out.push(PairOutput::Announce(round)),
                VrrpOutput::Event(event) => out.push(PairOutput::VrrpLog(event)),
            }
        }
        let after = machine.state();
        if after != before {
            out.push(PairOutput::VrrpState(after));
        }
    }
}
