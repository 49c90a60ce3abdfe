//! Sync groups: several routers that are MASTER together or not at all (keepalived's
//! `vrrp_sync_group`).
//!
//! A wish of one member is held back until every member wishes, and a grant until every wish is
//! granted; so the caller never installs half a group. A fault in one is a fault in all, a member
//! pushed to BACKUP takes the others along, and a lower master heard by one makes all announce.
//! keepalived ignores members' tracking weights unless `sync_group_tracking_weight`; so does this.

use std::collections::VecDeque;
use std::time::Instant;

use crate::garp::RoundKind;
use crate::machine::{
    ClaimId, ClaimReason, DeadlineReason, FaultReason, FaultSource, Input, Machine,
};
use crate::machine::{Output, Reason, State};

/// A wish of a member.
#[derive(Debug, Clone, Copy)]
struct Claim {
    id: ClaimId,
    reason: ClaimReason,
    /// Passed on to the caller.
    asked: bool,
    granted: bool,
}

#[derive(Debug, Clone)]
struct Member {
    machine: Machine,
    claim: Option<Claim>,
}

/// Several machines as one. Members are named by their index.
#[derive(Debug, Clone)]
pub struct Group {
    members: Vec<Member>,
    track_weights: bool,
}

impl Group {
    /// A group of `machines`; their settings should have `in_sync_group` set. Weights reach members
    /// only with `track_weights`.
    pub fn new(machines: Vec<Machine>, track_weights: bool) -> Self {
        let members = machines
            .into_iter()
            .map(|machine| Member {
                machine,
                claim: None,
            })
            .collect();
        Self {
            members,
            track_weights,
        }
    }

    /// The member's machine, for status.
    pub fn member(&self, index: usize) -> Option<&Machine> {
        self.members.get(index).map(|member| &member.machine)
    }

    /// Number of members.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether the group has no member.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The state that a group's notify scripts are told: FAULT if any is, MASTER if all are, STOP if
    /// all are, otherwise BACKUP.
    pub fn state(&self) -> State {
        let all = |state| {
            self.members
                .iter()
                .all(|member| member.machine.state() == state)
        };
        if self
            .members
            .iter()
            .any(|member| member.machine.state() == State::Fault)
        {
            State::Fault
        } else if all(State::Master) {
            State::Master
        } else if all(State::Stopped) {
            State::Stopped
        } else if all(State::Init) {
            State::Init
        } else {
            State::Backup
        }
    }

    /// The earliest deadline of a member.
    pub fn next_deadline(&self) -> Option<(Instant, usize, DeadlineReason)> {
        let deadlines = self
            .members
            .iter()
            .enumerate()
            .filter_map(|(index, member)| {
                member
                    .machine
                    .next_deadline()
                    .map(|(at, reason)| (at, index, reason))
            });
        deadlines.min()
    }

    /// Takes one input for the member `index`; outputs name the member that they are of.
    ///
    /// An index beyond the members is ignored.
    pub fn handle(&mut self, index: usize, input: Input, now: Instant) -> Vec<(usize, Output)> {
        let mut out = Vec::new();
        if index >= self.members.len() {
            return out;
        }
        let mut queue = VecDeque::new();
        self.accept(index, input, &mut queue);
        // Ends: what members are made to do (withdraw, fault, announce) makes others do only what
        // they have not done yet.
        while let Some((index, input)) = queue.pop_front() {
            let outputs = self.members[index].machine.handle(input, now);
            for output in outputs {
                self.pass(index, output, &mut queue, &mut out);
            }
            self.spread_faults(&mut queue);
            if queue.is_empty() {
                self.ask(&mut out);
            }
        }
        out
    }

    /// What an input from outside means for the group.
    fn accept(&mut self, index: usize, input: Input, queue: &mut VecDeque<(usize, Input)>) {
        match input {
            Input::Granted(id) => self.granted(index, id, queue),
            Input::Denied(id)
                if self.members[index]
                    .claim
                    .is_some_and(|claim| claim.id == id) =>
            {
                for (other, member) in self.members.iter_mut().enumerate() {
                    if let Some(claim) = member.claim.take_if(|claim| claim.asked) {
                        queue.push_back((other, Input::Denied(claim.id)));
                    }
                }
            }
            Input::Release => {
                queue.extend((0..self.members.len()).map(|other| (other, Input::Release)));
            }
            Input::Weight { .. } if !self.track_weights => {}
            other => queue.push_back((index, other)),
        }
    }

    /// Holds a grant until all have one.
    fn granted(&mut self, index: usize, id: ClaimId, queue: &mut VecDeque<(usize, Input)>) {
        match &mut self.members[index].claim {
            Some(claim) if claim.id == id => claim.granted = true,
            // Of a wish given up: the machine says what to undo.
            Some(_) | None => {
                queue.push_back((index, Input::Granted(id)));
                return;
            }
        }
        if self
            .members
            .iter()
            .any(|member| member.claim.is_some_and(|claim| !claim.granted))
        {
            return;
        }
        for (other, member) in self.members.iter_mut().enumerate() {
            if let Some(claim) = member.claim.take() {
                queue.push_back((other, Input::Granted(claim.id)));
            }
        }
    }

    /// What a member's output means for the others and the caller.
    fn pass(
        &mut self,
        index: usize,
        output: Output,
        queue: &mut VecDeque<(usize, Input)>,
        out: &mut Vec<(usize, Output)>,
    ) {
        match output {
            Output::WantMaster { claim: id, reason } => {
                self.members[index].claim = Some(Claim {
                    id,
                    reason,
                    asked: false,
                    granted: false,
                });
            }
            Output::Yield { to, reason } => {
                let held = self.members[index]
                    .claim
                    .take()
                    .is_some_and(|claim| !claim.asked);
                // The caller never heard of a wish that was held back.
                if held {
                    return;
                }
                out.push((index, Output::Yield { to, reason }));
                if to == State::Backup && !matches!(reason, Reason::Withdrawn | Reason::StaleGrant)
                {
                    queue.extend(self.others(index).map(|other| (other, Input::Withdraw)));
                }
            }
            Output::Announce(round) => {
                out.push((index, Output::Announce(round)));
                if round.kind == RoundKind::LowerPriority {
                    queue.extend(self.others(index).map(|other| (other, Input::Announce)));
                }
            }
            Output::SendAdvert(_) | Output::Became { .. } | Output::Event(_) => {
                out.push((index, output));
            }
        }
    }

    /// A member has the group's fault exactly while another member has one of its own.
    fn spread_faults(&self, queue: &mut VecDeque<(usize, Input)>) {
        let source = FaultSource::SyncGroup;
        for (index, member) in self.members.iter().enumerate() {
            let wanted = self
                .others(index)
                .any(|other| broken(&self.members[other].machine));
            let has = member.machine.faults().any(|(fault, _)| *fault == source);
            let input = match (wanted, has) {
                (true, false) => Input::Fault {
                    source: source.clone(),
                    reason: FaultReason::Failed,
                },
                (false, true) => Input::FaultCleared(source.clone()),
                (true, true) | (false, false) => continue,
            };
            if !queue.contains(&(index, input.clone())) {
                queue.push_back((index, input));
            }
        }
    }

    /// Passes the wishes on once every member wishes or is MASTER already.
    fn ask(&mut self, out: &mut Vec<(usize, Output)>) {
        let ready =
            |member: &Member| member.claim.is_some() || member.machine.state() == State::Master;
        if !self.members.iter().all(ready) {
            return;
        }
        for (index, member) in self.members.iter_mut().enumerate() {
            if let Some(claim) = member.claim.as_mut().filter(|claim| !claim.asked) {
                claim.asked = true;
                out.push((
                    index,
                    Output::WantMaster {
                        claim: claim.id,
                        reason: claim.reason,
                    },
                ));
            }
        }
    }

    fn others(&self, index: usize) -> impl Iterator<Item = usize> + use<> {
        (0..self.members.len()).filter(move |other| *other != index)
    }
}

/// Whether a machine has a fault that the group did not give it.
fn broken(machine: &Machine) -> bool {
    machine
        .faults()
        .any(|(source, reason)| *source != FaultSource::SyncGroup && reason == FaultReason::Failed)
}
