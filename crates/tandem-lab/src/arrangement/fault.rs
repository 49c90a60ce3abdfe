//! The faults of the comparison, by name.

use std::fmt;
use std::str::FromStr;

/// Something that goes wrong, or is ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// SIGKILL to the primary's server process.
    KillServer,
    /// SIGSTOP to the primary's server process.
    FreezeServer,
    /// The primary's host loses power.
    PowerOff,
    /// A planned move of the primary.
    Switchover,
    /// SIGKILL to the daemons of the primary's host.
    KillDaemon,
    /// SIGSTOP to the daemons of the primary's host.
    FreezeDaemon,
    /// SIGKILL to the daemons of the primary's host, which are started again at once, as a service manager does.
    RestartDaemon,
    /// Protocol 112 is filtered between the hosts, everything else passes.
    FilterVrrp,
    /// The network is parted, and clients write on both sides.
    CutBothUsed,
    /// The network is parted, and clients write on the standby's side only.
    CutStandbyUsed,
    /// The standby is cut off, and nobody uses it.
    CutStandbyIdle,
}

impl Fault {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 11] = [
        Self::KillServer,
        Self::FreezeServer,
        Self::PowerOff,
        Self::Switchover,
        Self::KillDaemon,
        Self::FreezeDaemon,
        Self::RestartDaemon,
        Self::FilterVrrp,
        Self::CutBothUsed,
        Self::CutStandbyUsed,
        Self::CutStandbyIdle,
    ];

    /// The name on the command line and in results.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::KillServer => "kill",
            Self::FreezeServer => "freeze",
            Self::PowerOff => "power-off",
            Self::Switchover => "switchover",
            Self::KillDaemon => "daemon-kill",
            Self::FreezeDaemon => "daemon-freeze",
            Self::RestartDaemon => "daemon-restart",
            Self::FilterVrrp => "vrrp-filtered",
            Self::CutBothUsed => "cut-both-used",
            Self::CutStandbyUsed => "cut-standby-used",
            Self::CutStandbyIdle => "cut-standby-idle",
        }
    }

    /// Whether it parts the network, so that its losses show only after the heal.
    #[must_use]
    pub fn is_cut(self) -> bool {
        matches!(
            self,
            Self::CutBothUsed | Self::CutStandbyUsed | Self::CutStandbyIdle
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        crate::named::parse("fault", &Self::ALL, Self::name, name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for fault in Fault::ALL {
            assert_eq!(fault.name().parse(), Ok(fault));
        }
        assert!("flood".parse::<Fault>().unwrap_err().contains("power-off"));
    }
}
