//! Who asks, and by which lanes: a bank of lanes for each (RESP version, database, user) of a pool.
//!
//! Whatever changes what a connection means is part of the key of its lane, so that no request can meet a connection
//! that was set up for somebody else. A bank has as many lanes to each server as the pool's first one; they are
//! connected when a request needs them and closed when they idle.
//!
//! | bank | made | proven by | its lanes idle |
//! |---|---|---|---|
//! | the pool's own, in RESP2 and RESP3 | with the pool | the file that says so | the first stays |
//! | another database, another user | by SELECT, AUTH, HELLO | a server, on its first connection | are closed |
//!
//! A client that wants to be somebody else is held until a server has said yes to the set-up of the first lane. The
//! proof holds while a connection of the bank is open: that is the cache of good credentials, bounded by [`BANKS`]. A
//! set-up that is refused later takes it away.

use std::fmt;
use std::sync::Arc;

use super::bank::Bank;
use super::lane::State;
use super::peer::Peer;
use super::slots::NONE;
use super::{Core, text};

/// Banks that a pool may have on a thread.
const BANKS: usize = 256;
/// Lanes that banks besides the pool's own may have together on a thread, unless that were too few for [`FEWEST`].
const LANES: usize = 4096;
/// Banks that any pool may have.
const FEWEST: usize = 8;
/// After so long without a request a lane is closed, at the latest after twice that.
const IDLE_MS: u64 = 30_000;

/// What a connection to a server is set up for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) resp3: bool,
    pub(super) database: u32,
    /// None: whoever the pool's settings name.
    pub(super) user: Option<Arc<Credentials>>,
}

/// A user of the servers, as a client gave them.
#[derive(Clone, Eq)]
pub(super) struct Credentials {
    /// None: `AUTH password`, which is not quite the same to a server as naming the default user.
    pub(super) name: Option<Vec<u8>>,
    pub(super) password: Vec<u8>,
}

/// A client that wants to be somebody else.
#[derive(Debug)]
pub(super) struct Claim {
    /// As whom.
    pub(super) bank: u32,
    /// What the server says to it; None while it has said nothing.
    verdict: Option<Result<(), Vec<u8>>>,
}

/// A client that waits for a lane's set-up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claimant {
    pub(super) peer: Peer,
    /// In milliseconds of the core.
    pub(super) since: u32,
}

/// What became of a wish to be somebody else.
#[derive(Debug)]
pub(super) enum Assumed {
    /// The client is that one now.
    Yes,
    /// Again when its hold ends.
    Wait,
    /// It stays who it was, and this is why.
    Refused(Vec<u8>),
}

impl PartialEq for Credentials {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && same(&self.password, &other.password)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.as_deref().unwrap_or(b"default");
        write!(out, "Credentials({})", String::from_utf8_lossy(name))
    }
}

impl Identity {
    /// The name that ACL WHOAMI would say.
    pub(super) fn user_name(&self) -> &[u8] {
        let name = self.user.as_ref().and_then(|user| user.name.as_deref());
        name.unwrap_or(b"default")
    }
}

impl Core {
    /// The lane for requests of this client to that server, among those of its bank: always the same, so that their
    /// order holds.
    #[inline(always)]
    pub(super) fn lane_to(&self, bank: u32, server: u32, client: u32) -> u32 {
        let bank = &self.banks[bank as usize];
        let one = if bank.connections == 1 {
            0
        } else {
            client % bank.connections
        };
        bank.first + server * bank.connections + one
    }

    /// The bank of an identity, made if need be. None: there are as many as may be, and each is in use.
    fn bank_for(&mut self, pool: u32, identity: Identity) -> Option<u32> {
        let mut count = 0;
        let mut oldest: Option<u32> = None;
        for (number, bank) in self.banks.iter().enumerate() {
            if bank.pool != pool {
                continue;
            }
            if bank.identity == identity {
                return Some(number as u32);
            }
            count += 1;
            let older = oldest.is_none_or(|other| {
                let other = &self.banks[other as usize];
                (bank.proven, bank.left_ms) < (other.proven, other.left_ms)
            });
            if older && !bank.own && bank.clients == 0 && self.is_at_rest(bank) {
                oldest = Some(number as u32);
            }
        }
        let lanes = self.banks[self.pools[pool as usize].bank as usize].lanes as usize;
        if count < (LANES / lanes.max(1)).clamp(FEWEST, BANKS) {
            return Some(self.open_bank(pool, identity));
        }
        let number = oldest?;
        self.clear_bank(number);
        let bank = &mut self.banks[number as usize];
        bank.identity = identity;
        bank.proven = false;
        Some(number)
    }

    /// Whether nobody waits for anything on a bank's lanes.
    fn is_at_rest(&self, bank: &Bank) -> bool {
        self.lanes[bank.first as usize..(bank.first + bank.lanes) as usize]
            .iter()
            .all(|lane| lane.is_idle() && matches!(lane.state, State::Closed | State::Ready))
    }

    /// Closes all connections of a bank that is at rest, so that it may become another's.
    fn clear_bank(&mut self, number: u32) {
        self.cool(|lane| lane.bank == number);
        self.cool_replicas(number);
        let Bank { first, lanes, .. } = self.banks[number as usize];
        for index in first..first + lanes {
            self.hang_up(index);
            let lane = &mut self.lanes[index as usize];
            lane.failures = 0;
            lane.retry_at_ms = 0;
        }
    }

    /// Whether a client may enter a bank without asking a server: somebody was let in, and is in. What was true a while ago
    /// may be another password by now.
    fn is_certain(&self, bank: u32) -> bool {
        let bank = &self.banks[bank as usize];
        let mut lanes = self.lanes[bank.first as usize..(bank.first + bank.lanes) as usize].iter();
        bank.own || bank.proven && lanes.any(|lane| lane.state == State::Ready)
    }

    /// A lane of a bank whose set-up is still to come: this one, or another where this one is set up already.
    fn untried(&self, bank: u32, lane: u32) -> Option<u32> {
        let Bank { first, lanes, .. } = self.banks[bank as usize];
        std::iter::once(lane)
            .chain(first..first + lanes)
            .find(|&lane| self.lanes[lane as usize].state != State::Ready)
    }

    /// Makes a client ask as `identity` from now on, once a server has let that in.
    pub(super) fn assume(&mut self, index: u32, identity: Identity) -> Assumed {
        if let Some(claim) = self.desk.cold_mut(index).and_then(|cold| cold.claim.take()) {
            return self.conclude(index, claim);
        }
        let client = &self.desk.clients[index as usize];
        let (pool, pinned) = (client.pool, client.pinned);
        if self.banks[client.bank as usize].identity == identity {
            return Assumed::Yes;
        }
        if pinned != NONE {
            return Assumed::Refused(text::PINNED_IDENTITY.to_vec());
        }
        // What it has asked before is on other lanes, and could be overtaken.
        if !self.desk.quiet(index) {
            return Assumed::Wait;
        }
        let Some(bank) = self.bank_for(pool, identity) else {
            return Assumed::Refused(text::TOO_MANY_IDENTITIES.to_vec());
        };
        if self.is_certain(bank) {
            self.enter_bank(index, bank);
            return Assumed::Yes;
        }
        let Some(server) = self.server_for(pool, super::scatter::ANYWHERE) else {
            return Assumed::Refused(text::unreachable(super::How::Refused).to_vec());
        };
        let Some(lane) = self.untried(bank, self.lane_to(bank, server, index)) else {
            // Every server has said yes, and its connection is there.
            self.enter_bank(index, bank);
            return Assumed::Yes;
        };
        if let Some(error) = self.shut(lane) {
            return Assumed::Refused(error.to_vec());
        }
        let client = &mut self.desk.clients[index as usize];
        client.hold = super::client::Hold::Lane;
        let claimant = Claimant {
            peer: client.peer(index),
            since: self.now_ms as u32,
        };
        self.banks[bank as usize].clients += 1;
        self.desk.cold(index).claim = Some(Claim {
            bank,
            verdict: None,
        });
        self.lanes[lane as usize].claimants.push(claimant);
        Assumed::Wait
    }

    /// A client that claimed to be somebody else comes back.
    fn conclude(&mut self, index: u32, claim: Claim) -> Assumed {
        match claim.verdict {
            None => {
                self.desk.clients[index as usize].hold = super::client::Hold::Lane;
                self.desk.cold(index).claim = Some(claim);
                Assumed::Wait
            }
            Some(Ok(())) => {
                self.enter_bank(index, claim.bank);
                self.leave_bank(claim.bank);
                Assumed::Yes
            }
            Some(Err(error)) => {
                self.leave_bank(claim.bank);
                Assumed::Refused(error)
            }
        }
    }

    /// From now on a client, which is owed nothing, uses this bank.
    pub(super) fn enter_bank(&mut self, index: u32, bank: u32) {
        let client = &mut self.desk.clients[index as usize];
        let before = std::mem::replace(&mut client.bank, bank);
        client.resp3 = self.banks[bank as usize].identity.resp3;
        self.banks[bank as usize].clients += 1;
        if before != NONE {
            self.leave_bank(before);
        }
    }

    /// One client less.
    pub(super) fn leave_bank(&mut self, bank: u32) {
        let bank = &mut self.banks[bank as usize];
        bank.clients -= 1;
        bank.left_ms = self.now_ms;
    }

    /// Back to where clients of its pool begin.
    pub(super) fn become_nobody(&mut self, index: u32) {
        let pool = self.desk.clients[index as usize].pool;
        self.enter_bank(index, self.pools[pool as usize].bank);
    }

    /// After a reload: the bank of the new pool for a client of the old one. None: there is no place for it.
    pub(super) fn heir_of_bank(&mut self, bank: u32, heir: u32) -> Option<u32> {
        let (old, own) = (&self.banks[bank as usize], self.pools[heir as usize].bank);
        if old.own {
            return Some(own + u32::from(old.identity.resp3));
        }
        let (identity, proven) = (old.identity.clone(), old.proven);
        let bank = self.bank_for(heir, identity)?;
        self.banks[bank as usize].proven |= proven;
        Some(bank)
    }

    /// A server has let a lane in.
    pub(super) fn lane_let_in(&mut self, index: u32) {
        let lane = &mut self.lanes[index as usize];
        lane.used = true;
        let bank = &mut self.banks[lane.bank as usize];
        bank.proven = true;
        let passing = !bank.own;
        if !lane.claimants.is_empty() {
            self.end_claims(index, || Ok(()));
        }
        if passing {
            self.arm_sweep();
        }
    }

    /// A server does not let a lane in. Whether that is some client's mistake, not the settings'.
    pub(super) fn lane_kept_out(&mut self, index: u32, error: &[u8]) -> bool {
        let bank = &mut self.banks[self.lanes[index as usize].bank as usize];
        bank.proven = bank.own;
        let theirs = !bank.own;
        self.end_claims(index, || Err(error.to_vec()));
        theirs
    }

    /// Those who wait for the set-up of a lane hear how it went.
    pub(super) fn end_claims(&mut self, index: u32, verdict: impl Fn() -> Result<(), Vec<u8>>) {
        for claimant in std::mem::take(&mut self.lanes[index as usize].claimants) {
            self.end_claim(claimant, verdict());
        }
    }

    /// One of them hears it.
    pub(super) fn end_claim(&mut self, claimant: Claimant, verdict: Result<(), Vec<u8>>) {
        let Some(client) = self.desk.find(claimant.peer) else {
            return;
        };
        if let Some(claim) = &mut self.desk.cold(client).claim {
            claim.verdict = Some(verdict);
        }
        self.desk.wake.push(claimant.peer);
    }

    pub(super) fn arm_sweep(&mut self) {
        self.sweep_at_ms = self.sweep_at_ms.min(self.now_ms + IDLE_MS);
        self.arm(self.sweep_at_ms);
    }

    /// Closes lanes that nobody has used for a while, but for those of a pool's first bank.
    pub(super) fn sweep(&mut self) {
        if self.now_ms < self.sweep_at_ms {
            self.arm(self.sweep_at_ms);
            return;
        }
        self.sweep_at_ms = u64::MAX;
        let mut any = self.retire();
        for number in 0..self.banks.len() {
            let Bank {
                pool, first, lanes, ..
            } = self.banks[number];
            if self.pools[pool as usize].bank == number as u32 {
                continue;
            }
            for index in first..first + lanes {
                let lane = &mut self.lanes[index as usize];
                if lane.state == State::Closed {
                    continue;
                }
                let used = std::mem::take(&mut lane.used);
                if !used && lane.state == State::Ready && lane.is_idle() {
                    self.hang_up(index);
                } else {
                    any = true;
                }
            }
        }
        if any {
            self.arm_sweep();
        }
    }
}

/// Compares in a time that does not tell how much was right.
pub(super) fn same(given: &[u8], expected: &[u8]) -> bool {
    let differs = given
        .iter()
        .zip(expected)
        .fold(0, |differs, (left, right)| differs | (left ^ right));
    given.len() == expected.len() && differs == 0
}
