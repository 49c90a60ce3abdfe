//! Where recordings are made and played: a primary with one replica, the Sentinel under test, and a real one beside it.
//!
//! Addresses, ports and ids are the same each time, so that they can stand in a recording. The Sentinel under test
//! starts afresh for every script, from the same file; the servers go on.

use std::time::Duration;

use anyhow::Context;

use super::{Mismatch, Player, Script};
use crate::fleet::{Fleet, Place, Plan, Program};

/// The id of the Sentinel under test.
pub const SUBJECT_ID: &str = "5e11000000000000000000000000000000000001";
/// The id of the real one beside it.
pub const PEER_ID: &str = "5e11000000000000000000000000000000000002";
/// Ids that scripts make up begin like this, followed by zeros and one digit.
const INVENTED: [&str; 4] = [
    "5e11000000000000000000000000000000000003",
    "5e11000000000000000000000000000000000004",
    "5e11000000000000000000000000000000000005",
    "5e11000000000000000000000000000000000006",
];

/// The places of the two Sentinels in the fleet.
const SUBJECT: usize = 0;
const PEER: usize = 1;
/// For the Sentinel under test to know the group: hellos come every 2 s.
const KNOWN_BOUND: Duration = Duration::from_secs(30);

/// The stage.
#[derive(Debug)]
pub struct Stage {
    fleet: Fleet,
}

impl Stage {
    /// Builds it for a program.
    ///
    /// # Errors
    /// When the network or the servers do not come up.
    pub fn build(program: Program) -> anyhow::Result<Self> {
        let place = |host: &str, address: &str| Place {
            host: host.to_owned(),
            address: address.to_owned(),
            server: false,
            sentinel: None,
            lines: Vec::new(),
        };
        let sentinel = |host: &str, address: &str, program, id: &str| Place {
            sentinel: Some(program),
            lines: vec![format!("sentinel myid {id}")],
            ..place(host, address)
        };
        let server = |host: &str, address: &str| Place {
            server: true,
            ..place(host, address)
        };
        let plan = Plan {
            places: vec![
                server("primary", "10.0.0.1/24"),
                server("replica", "10.0.0.2/24"),
                sentinel("subject", "10.0.0.10/24", program, SUBJECT_ID),
                sentinel("peer", "10.0.0.11/24", Program::Real, PEER_ID),
            ],
            group: "mymaster".to_owned(),
            quorum: 2,
            down_after: Duration::from_secs(30),
            failover_timeout: Duration::from_secs(180),
            ..Plan::of(0, &[])
        };
        Ok(Self {
            fleet: Fleet::build(plan)?,
        })
    }

    /// The fleet on it: the Sentinel under test is its first member.
    #[must_use]
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// Starts the Sentinel under test afresh, with what the script asks for around it.
    ///
    /// # Errors
    /// When it does not come to know the group.
    pub fn set(&mut self, script: &Script) -> anyhow::Result<()> {
        let members = self.fleet.members_mut();
        if script.peer && !members[PEER].is_at_work() {
            members[PEER].start()?;
        } else if !script.peer {
            members[PEER].kill()?;
        }
        members[SUBJECT].restart_with(&script.conf)?;
        // One that asks for a password cannot be questioned by the lab.
        if script
            .conf
            .iter()
            .any(|line| line.starts_with("requirepass"))
        {
            return Ok(());
        }
        self.fleet.wait_until_known(KNOWN_BOUND)
    }

    /// Records the answers to a script, as the text of its file.
    ///
    /// # Errors
    /// When the stage cannot be set or the Sentinel does not accept.
    pub fn record(&mut self, script: &Script) -> anyhow::Result<String> {
        self.set(script)?;
        let answers = self.play(|player| player.record(script))?;
        Ok(script.with_answers(&answers))
    }

    /// Compares the answers to a script with the recorded ones.
    ///
    /// # Errors
    /// As [`Stage::record`].
    pub fn compare(&mut self, script: &Script) -> anyhow::Result<Vec<Mismatch>> {
        self.set(script)?;
        self.play(|player| player.compare(script))
    }

    fn play<T>(
        &self,
        work: impl FnOnce(&mut Player<'_>) -> std::io::Result<T>,
    ) -> anyhow::Result<T> {
        let subject = &self.fleet.members()[SUBJECT];
        let mut known = vec![SUBJECT_ID, PEER_ID];
        known.extend(INVENTED);
        let mut player = Player::new(self.fleet.client_host(), subject.address(), &known);
        work(&mut player).with_context(|| format!("playing to {}", subject.program()))
    }
}
