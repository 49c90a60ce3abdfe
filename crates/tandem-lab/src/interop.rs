//! tandem's VRRP against the real keepalived: every combination of wire, rank and fault, on real network stacks.
//!
//! Host `a` runs `tandem vrrp`, host `b` keepalived, each from an ordinary `keepalived.conf` that differs in the priority
//! only. [`run`] lets them settle, strikes the holder of the address, and demands at each step that exactly the right hosts
//! have it. [`matrix`] is all of it, [`pairwise`] the fewest cases in which every two properties meet.
//!
//! One thing is keepalived's own and not judged: killed with SIGKILL it leaves its address behind for ever. Its death is
//! therefore that of its host; tandem's is that of the process alone, and the kernel must take the address.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::ns::{Host, Lab};
use crate::poll;
use crate::process::Process;

/// The host that runs tandem.
pub const TANDEM: &str = "a";
/// The host that runs keepalived. Its address is the higher one, which decides between equals.
pub const KEEPALIVED: &str = "b";
/// The address that moves.
const VIP: &str = "10.0.0.100";
/// For any step: a start, a detection at 1 s adverts, an expiry of the address, all on a busy machine.
const BOUND: Duration = Duration::from_secs(30);
/// Time between two looks.
const LOOK: Duration = Duration::from_millis(50);
/// Looks in a row that must agree before a step counts as settled.
const LOOKS: usize = 10;

/// What is on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wire {
    /// Version 2 without authentication, adverts each second.
    V2,
    /// Version 2 with a password.
    V2Pass,
    /// Version 3, adverts each 100 ms.
    V3,
}

/// Where adverts go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// To the group.
    Multicast,
    /// To the other host.
    Unicast,
}

/// tandem's priority beside keepalived's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// tandem is preferred.
    Higher,
    /// Neither.
    Equal,
    /// keepalived is preferred.
    Lower,
}

/// What happens to the holder of the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Blow {
    /// SIGTERM.
    Stop,
    /// SIGKILL.
    Kill,
    /// Nothing; the path between the two is cut.
    Cut,
}

/// One combination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Case {
    /// What is on the wire.
    pub wire: Wire,
    /// Where adverts go.
    pub mode: Mode,
    /// tandem's priority.
    pub rank: Rank,
    /// What happens.
    pub blow: Blow,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            wire,
            mode,
            rank,
            blow,
        } = self;
        write!(f, "{wire:?} {mode:?}, tandem {rank:?}, {blow:?}")
    }
}

/// All 54 combinations.
#[must_use]
pub fn matrix() -> Vec<Case> {
    let mut cases = Vec::new();
    for wire in [Wire::V2, Wire::V2Pass, Wire::V3] {
        for mode in [Mode::Multicast, Mode::Unicast] {
            for rank in [Rank::Higher, Rank::Equal, Rank::Lower] {
                for blow in [Blow::Stop, Blow::Kill, Blow::Cut] {
                    cases.push(Case {
                        wire,
                        mode,
                        rank,
                        blow,
                    });
                }
            }
        }
    }
    cases
}

/// A few of them in which every two properties of different kinds meet at least once.
#[must_use]
pub fn pairwise() -> Vec<Case> {
    let mut missing: BTreeSet<(String, String)> = matrix().iter().flat_map(pairs).collect();
    let mut chosen = Vec::new();
    while !missing.is_empty() {
        let gain = |case: &Case| {
            pairs(case)
                .iter()
                .filter(|pair| missing.contains(*pair))
                .count()
        };
        // The first of the best, so that the choice is the same everywhere.
        let Some(best) = matrix().into_iter().rev().max_by_key(gain) else {
            break;
        };
        for pair in pairs(&best) {
            missing.remove(&pair);
        }
        chosen.push(best);
    }
    chosen
}

fn pairs(case: &Case) -> Vec<(String, String)> {
    let all = [
        format!("{:?}", case.wire),
        format!("{:?}", case.mode),
        format!("{:?}", case.rank),
        format!("{:?}", case.blow),
    ];
    let mut pairs = Vec::new();
    for (index, one) in all.iter().enumerate() {
        pairs.extend(
            all[index + 1..]
                .iter()
                .map(|other| (one.clone(), other.clone())),
        );
    }
    pairs
}

/// Both hosts and what runs on them.
#[derive(Debug)]
struct Meeting {
    lab: Lab,
    case: Case,
    tandem: Option<Process>,
    keepalived: Option<Process>,
}

/// Plays one case from start to heal.
///
/// # Errors
/// The first step at which the wrong hosts have the address, or something of the lab.
pub fn run(case: Case) -> anyhow::Result<()> {
    play(case).with_context(|| case.to_string())
}

fn play(case: Case) -> anyhow::Result<()> {
    let lab = Lab::builder()
        .host(TANDEM, "10.0.0.1/24")
        .host(KEEPALIVED, "10.0.0.2/24")
        .build()?;
    let mut meeting = Meeting {
        lab,
        case,
        tandem: None,
        keepalived: None,
    };
    for host in [TANDEM, KEEPALIVED] {
        meeting.write_files(host)?;
        meeting.start(host)?;
    }
    let holder = match case.rank {
        Rank::Higher => meeting.settle("at the start", &[TANDEM])?,
        Rank::Lower => meeting.settle("at the start", &[KEEPALIVED])?,
        // Whoever came first keeps it.
        Rank::Equal => meeting.settle_on_one("at the start")?,
    };
    let other = if holder == TANDEM { KEEPALIVED } else { TANDEM };
    let preferred = match case.rank {
        Rank::Higher => TANDEM,
        Rank::Lower => KEEPALIVED,
        Rank::Equal => other,
    };
    match case.blow {
        Blow::Stop => {
            meeting.stop(holder)?;
            meeting.settle("after the stop", &[other])?;
            meeting.start(holder)?;
            meeting.settle("after the return", &[preferred])?;
        }
        Blow::Kill => {
            meeting.kill(holder)?;
            meeting.settle("after the kill", &[other])?;
            if holder == KEEPALIVED {
                meeting.lab.power_on(KEEPALIVED)?;
            }
            meeting.start(holder)?;
            meeting.settle("after the return", &[preferred])?;
        }
        Blow::Cut => {
            meeting.lab.cut(TANDEM, KEEPALIVED)?;
            meeting.settle("while cut", &[TANDEM, KEEPALIVED])?;
            meeting.lab.heal()?;
            // Of equals that are both master the higher address stays.
            let stays = match case.rank {
                Rank::Higher => TANDEM,
                Rank::Equal | Rank::Lower => KEEPALIVED,
            };
            meeting.settle("after the heal", &[stays])?;
        }
    }
    meeting.check_scripts()?;
    meeting.check_counters()
}

impl Meeting {
    fn host(&self, name: &str) -> &Arc<Host> {
        self.lab.host(name)
    }

    /// The same file for both, but for the priority and, in unicast, the addresses.
    fn config(&self, name: &str) -> String {
        let Case {
            wire, mode, rank, ..
        } = self.case;
        let (own, peer) = if name == TANDEM {
            ("10.0.0.1", "10.0.0.2")
        } else {
            ("10.0.0.2", "10.0.0.1")
        };
        let priority = match (name == TANDEM, rank) {
            (true, Rank::Higher) => 150,
            (true, Rank::Lower) => 50,
            (true, Rank::Equal) | (false, _) => 100,
        };
        let wire = match wire {
            Wire::V2 => "version 2\n    advert_int 1",
            Wire::V2Pass => {
                "version 2\n    advert_int 1\n    authentication {\n        auth_type PASS\n        auth_pass secret12\n    }"
            }
            Wire::V3 => "version 3\n    advert_int 0.1",
        };
        let mode = match mode {
            Mode::Multicast => String::new(),
            Mode::Unicast => {
                format!("unicast_src_ip {own}\n    unicast_peer {{\n        {peer}\n    }}")
            }
        };
        let notify = self.host(name).dir().join("notify.sh");
        format!(
            "global_defs {{
    router_id {name}
    script_user root
}}
vrrp_instance VI_1 {{
    state BACKUP
    interface eth0
    virtual_router_id 51
    priority {priority}
    {wire}
    {mode}
    virtual_ipaddress {{
        {VIP}/24
    }}
    notify \"{}\"
}}
",
            notify.display()
        )
    }

    fn write_files(&self, name: &str) -> anyhow::Result<()> {
        let dir = self.host(name).dir();
        std::fs::write(dir.join("keepalived.conf"), self.config(name))?;
        let script = dir.join("notify.sh");
        let log = dir.join("notify.log");
        std::fs::write(
            &script,
            format!("#!/bin/sh\necho \"$@\" >> {}\n", log.display()),
        )?;
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
        Ok(())
    }

    fn start(&mut self, name: &str) -> anyhow::Result<()> {
        let host = Arc::clone(self.host(name));
        let file = host.dir().join("keepalived.conf");
        if name == TANDEM {
            self.tandem = Some(start_tandem(&host, &file)?);
        } else {
            self.keepalived = Some(start_keepalived(&host, &file)?);
        }
        Ok(())
    }

    fn process(&mut self, name: &str) -> Option<Process> {
        if name == TANDEM {
            self.tandem.take()
        } else {
            self.keepalived.take()
        }
    }

    fn stop(&mut self, name: &str) -> anyhow::Result<()> {
        let mut process = self.process(name).context("it runs")?;
        let status = process.terminate(BOUND)?;
        ensure!(status.success(), "{name} ended with {status}");
        Ok(())
    }

    fn kill(&mut self, name: &str) -> anyhow::Result<()> {
        let mut process = self.process(name).context("it runs")?;
        if name == KEEPALIVED {
            self.lab.power_off(name)?;
        } else {
            process.kill();
        }
        process.wait().map(drop)
    }

    fn holders(&self) -> anyhow::Result<Vec<&'static str>> {
        let vip: IpAddr = VIP.parse()?;
        let mut holders = Vec::new();
        for name in [TANDEM, KEEPALIVED] {
            if self.host(name).has_address(vip)? {
                holders.push(name);
            }
        }
        Ok(holders)
    }

    /// Waits until exactly these hosts have the address, and go on having it. The first of them.
    fn settle(&mut self, when: &str, expected: &[&'static str]) -> anyhow::Result<&'static str> {
        let mut agreed = 0;
        let what = format!("the address on {expected:?} {when}");
        poll::until(&what, BOUND, LOOK, || {
            let holders = self.holders()?;
            agreed = if holders == expected { agreed + 1 } else { 0 };
            Ok(if agreed >= LOOKS {
                Ok(())
            } else {
                Err(format!("it is on {holders:?}"))
            })
        })
        .map_err(|error| error.context(self.obituaries()))?;
        Ok(expected[0])
    }

    fn settle_on_one(&mut self, when: &str) -> anyhow::Result<&'static str> {
        let holder = poll::until("somebody to have the address", BOUND, LOOK, || {
            let holders = self.holders()?;
            Ok(match holders[..] {
                [one] => Ok(one),
                _ => Err(format!("it is on {holders:?}")),
            })
        })?;
        self.settle(when, &[holder])
    }

    fn obituaries(&mut self) -> String {
        let both = [&mut self.tandem, &mut self.keepalived];
        let lines: Vec<_> = both.into_iter().flatten().map(Process::obituary).collect();
        lines.join("\n")
    }

    /// The last word of each side's generic notify script must be what its host is, in keepalived's own words.
    fn check_scripts(&self) -> anyhow::Result<()> {
        let vip: IpAddr = VIP.parse()?;
        for name in [TANDEM, KEEPALIVED] {
            let host = self.host(name);
            let priority = match (name == TANDEM, self.case.rank) {
                (true, Rank::Higher) => 150,
                (true, Rank::Lower) => 50,
                (true, Rank::Equal) | (false, _) => 100,
            };
            let state = if host.has_address(vip)? {
                "MASTER"
            } else {
                "BACKUP"
            };
            let expected = format!("INSTANCE VI_1 {state} {priority}");
            poll::until(
                &format!("{name}'s script to be told {expected}"),
                BOUND,
                LOOK,
                || {
                    let log = std::fs::read_to_string(host.dir().join("notify.log"))?;
                    let last = log.lines().next_back().unwrap_or_default();
                    Ok(if last == expected {
                        Ok(())
                    } else {
                        Err(format!("its last words: {last}"))
                    })
                },
            )?;
        }
        Ok(())
    }

    /// Whatever happened, tandem understood everything that keepalived said.
    fn check_counters(&self) -> anyhow::Result<()> {
        let text = std::fs::read_to_string(self.host(TANDEM).dir().join("state.json"))?;
        let state: serde_json::Value = serde_json::from_str(&text)?;
        let counters = state
            .pointer("/instances/0/counters")
            .and_then(serde_json::Value::as_object)
            .context("counters in the state file")?;
        for (name, count) in counters {
            let harmless = [
                "advert_rcvd",
                "advert_sent",
                "become_master",
                "release_master",
            ]
            .contains(&name.as_str())
                || name.starts_with("pri_zero");
            ensure!(
                harmless || count == 0,
                "tandem dropped adverts: {name} is {count}"
            );
        }
        Ok(())
    }
}

/// Starts keepalived on a host, with its pid files in the host's directory.
///
/// # Errors
/// When it is not installed or does not start.
pub fn start_keepalived(host: &Host, file: &Path) -> anyhow::Result<Process> {
    let (parent, child) = (host.dir().join("parent.pid"), host.dir().join("child.pid"));
    // One that was left by a killed keepalived would make the next refuse to start.
    for stale in [&parent, &child] {
        if stale.exists() {
            std::fs::remove_file(stale)?;
        }
    }
    let mut command = Command::new("keepalived");
    command
        .args(["--vrrp", "--dont-fork", "--log-console", "--log-detail"])
        .arg("--use-file")
        .arg(file)
        .arg("--pid")
        .arg(parent)
        .arg("--vrrp_pid")
        .arg(child);
    host.spawn("keepalived", &mut command)
}

/// Starts `tandem vrrp` on a host, with its state in `state.json` of the host's directory.
///
/// # Errors
/// When there is no binary or it does not start.
pub fn start_tandem(host: &Host, file: &Path) -> anyhow::Result<Process> {
    let mut command = Command::new(crate::tandem_binary()?);
    command
        .args(["vrrp", "--dont-fork", "--log-detail", "--use-file"])
        .arg(file)
        .arg("--state-file")
        .arg(host.dir().join("state.json"));
    host.spawn("tandem", &mut command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_matrix_is_whole_and_the_subset_meets_every_pair() {
        let all = matrix();
        let distinct: BTreeSet<_> = all.iter().collect();
        assert_eq!((all.len(), distinct.len()), (54, 54));
        let chosen = pairwise();
        assert!(chosen.len() <= 12, "{}", chosen.len());
        let met: BTreeSet<_> = chosen.iter().flat_map(pairs).collect();
        let wanted: BTreeSet<_> = all.iter().flat_map(pairs).collect();
        assert_eq!(met, wanted);
    }
}
