//! Whether a proxy's VIP belongs on this host: a VRRP machine whose health is the proxy's.
//!
//! The proxy itself decides nothing. Each of its threads answers beats, which are observations like adverts; here they
//! become a fault of the router or its end, and what the router wishes becomes orders for the shell: put the addresses on,
//! take them off. A new connection may land on any thread, so one that is stuck makes the host unfit, whatever
//! the others do. Where the primaries of the proxy's groups are plays no part.
//!
//! There is no data to lose, so a wish is granted at once and the order of steps is keepalived's: the advert, the address, its
//! announcements; going, priority 0 first. A handover keeps the address until the successor speaks.

use std::time::{Duration, Instant};

use tandem_vrrp::garp::Round;
use tandem_vrrp::machine::{
    AdvertToSend, Event, FaultReason, FaultSource, Input as Router, Machine, Output as Said, State,
};

/// Time between two beats of a thread.
pub const BEAT_EVERY: Duration = Duration::from_millis(100);
/// A thread that owes an answer for this long is stuck. A turn of a thread takes milliseconds; a second of it is an outage.
pub const SICK_AFTER: Duration = Duration::from_secs(1);

/// What the machine is told.
#[derive(Clone, Debug)]
pub enum Input {
    /// Nothing but the time.
    Tick,
    /// This thread answered.
    Beat(usize),
    /// For the router: adverts, faults of interfaces, its own address.
    Router(Router),
    /// The loop that asks and listens stood still for this long; silence may have been its own.
    Late(Duration),
    /// TERM: hand over, then leave.
    Stop,
}

/// What it wants done, in this order.
#[derive(Clone, Debug)]
pub enum Output {
    /// Send this advert.
    Advert(AdvertToSend),
    /// Put the addresses on.
    TakeAddress,
    /// Reset their clients and take them off.
    GiveAddress,
    /// Announce the addresses.
    Announce(Round),
    /// For the log and the operator.
    Tell {
        /// A word for the kind.
        name: &'static str,
        /// In words.
        text: String,
        /// Somebody should look.
        alarm: bool,
    },
    /// Details of the router, for the log.
    Log(Event),
    /// Nothing is left to do after [`Input::Stop`].
    Left,
}

/// One proxy's VIP on this host.
#[derive(Debug)]
pub struct ProxyVip {
    router: Machine,
    /// When each thread answered last; none before its first answer.
    beats: Vec<Option<Instant>>,
    /// Until when first answers are waited for without a word.
    first_by: Instant,
    fit: Fitness,
    /// The addresses were ordered here.
    held: bool,
    stopping: bool,
    left: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fitness {
    /// Not every thread has answered yet.
    Unproven,
    Fit,
    Sick,
}

fn service() -> FaultSource {
    FaultSource::Service("proxy".to_owned())
}

impl ProxyVip {
    /// Of a proxy with so many threads, none of which has answered yet. The address stays elsewhere until all have.
    pub fn new(mut router: Machine, threads: usize, now: Instant) -> Self {
        let pending = Router::Fault {
            source: service(),
            reason: FaultReason::Pending,
        };
        // In INIT and with a first result outstanding: no output but silence.
        router.handle(pending, now);
        router.handle(Router::Start, now);
        Self {
            router,
            beats: vec![None; threads.max(1)],
            first_by: now + SICK_AFTER,
            fit: Fitness::Unproven,
            held: false,
            stopping: false,
            left: false,
        }
    }

    /// The router's state, to look at.
    pub fn state(&self) -> State {
        self.router.state()
    }

    /// When to come back with [`Input::Tick`] at the latest.
    pub fn next_deadline(&self) -> Option<Instant> {
        let router = self.router.next_deadline().map(|(at, _)| at);
        let health = match self.fit {
            Fitness::Sick => None,
            Fitness::Unproven | Fitness::Fit => self.sick_at(),
        };
        router.into_iter().chain(health).min()
    }

    /// Takes one input; outputs are to be carried out in order.
    pub fn handle(&mut self, input: Input, now: Instant) -> Vec<Output> {
        let mut out = Vec::new();
        match input {
            Input::Tick => {
                // Health first: a host must not claim in the turn in which it falls sick.
                self.judge(now, &mut out);
                self.router(Router::Timer, now, &mut out);
            }
            Input::Beat(thread) => {
                if let Some(beat) = self.beats.get_mut(thread) {
                    *beat = Some(now);
                }
                self.judge(now, &mut out);
            }
            Input::Router(input) => self.router(input, now, &mut out),
            Input::Late(late) => self.late(late, now, &mut out),
            Input::Stop => {
                self.stopping = true;
                self.router(Router::Release, now, &mut out);
            }
        }
        if self.stopping && !self.left && self.router.state() != State::Releasing {
            self.left = true;
            self.router(Router::Stop, now, &mut out);
            out.push(Output::Left);
        }
        out
    }

    /// Nobody asked meanwhile, so nobody can have answered: the threads' clocks stood still too. A thread that was found
    /// stuck stays so until it answers.
    fn late(&mut self, late: Duration, now: Instant, out: &mut Vec<Output>) {
        self.first_by += late;
        for beat in self.beats.iter_mut().flatten() {
            *beat = (*beat + late).min(now);
        }
        if late >= self.router.master_down() {
            self.router(Router::PauseDetected(late), now, out);
        }
    }

    /// When the first thread that goes on owing its answer is stuck.
    fn sick_at(&self) -> Option<Instant> {
        let due = |beat: &Option<Instant>| beat.map_or(self.first_by, |at| at + SICK_AFTER);
        self.beats.iter().map(due).min()
    }

    fn judge(&mut self, now: Instant, out: &mut Vec<Output>) {
        let overdue = self.sick_at().is_some_and(|at| now >= at);
        let proven = self.beats.iter().all(Option::is_some);
        let fit = match (overdue, proven) {
            (true, _) => Fitness::Sick,
            (false, true) => Fitness::Fit,
            (false, false) => self.fit,
        };
        if fit == self.fit {
            return;
        }
        self.fit = fit;
        if fit == Fitness::Sick {
            let stuck: Vec<String> = self
                .beats
                .iter()
                .enumerate()
                .filter(|(_, beat)| beat.is_none_or(|at| now >= at + SICK_AFTER))
                .map(|(thread, _)| thread.to_string())
                .collect();
            let text = format!(
                "thread {} does not answer: this host cannot have the address",
                stuck.join(", ")
            );
            tell(out, "proxy-sick", text, true);
            let failed = Router::Fault {
                source: service(),
                reason: FaultReason::Failed,
            };
            self.router(failed, now, out);
        } else {
            tell(out, "proxy-fit", "every thread answers".to_owned(), false);
            self.router(Router::FaultCleared(service()), now, out);
        }
    }

    fn router(&mut self, input: Router, now: Instant, out: &mut Vec<Output>) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            for said in self.router.handle(input, now) {
                match said {
                    // There is nothing to make ready: whoever is not fit is in FAULT and wishes nothing.
                    Said::WantMaster { claim, .. } => inputs.push(Router::Granted(claim)),
                    Said::SendAdvert(advert) => out.push(Output::Advert(advert)),
                    Said::Announce(round) => out.push(Output::Announce(round)),
                    Said::Event(event) => out.push(Output::Log(event)),
                    Said::Became { state, .. } => {
                        if state == State::Master {
                            self.held = true;
                            out.push(Output::TakeAddress);
                        }
                        let name = "proxy-vrrp";
                        tell(out, name, state.to_string(), false);
                    }
                    Said::Yield { .. } => {
                        if std::mem::take(&mut self.held) {
                            out.push(Output::GiveAddress);
                        }
                    }
                }
            }
        }
    }
}

fn tell(out: &mut Vec<Output>, name: &'static str, text: String, alarm: bool) {
    out.push(Output::Tell { name, text, alarm });
}

#[cfg(test)]
mod tests;
