//! Starting routers and scripts, changing them while running (SIGHUP), and ending them (SIGTERM).
//!
//! A reload keeps what is the same: a MASTER stays MASTER and advertises at once, a check script whose definition is unchanged
//! goes on with its results. A file with errors changes nothing.

use std::collections::BTreeMap;

use tandem_vrrp::machine::{Input, Machine, State};
use tandem_vrrp::packet;
use tandem_vrrp::sync::Group;
use tandem_vrrp::track::Counter;
use tracing::{error, info, warn};

use super::daemon::{Checking, Daemon, NamedGroup, Router, Signals, Unit};
use super::load;
use super::plan::{Plan, RouterPlan, UnitPlan};
use super::scripts::check::Check;
use super::scripts::notify::Lane;
use super::watch;

impl Daemon {
    /// Check scripts, tracked files, FIFOs and their readers.
    pub(super) fn start_scripts(&mut self) {
        for file in &self.plan.files {
            watch::initialise(file);
        }
        let mut old = std::mem::take(&mut self.checks);
        for def in self.plan.scripts.clone() {
            if let Some(known) = old
                .remove(&def.name)
                .filter(|known| same_check(&known.def, &def))
            {
                self.checks.insert(def.name.clone(), known);
                continue;
            }
            let counter = if def.init_fail {
                Counter::failed(def.rise, def.fall)
            } else {
                Counter::new(def.rise, def.fall)
            };
            match Check::start(&def, self.default_user.as_ref(), self.report.clone()) {
                Ok(check) => {
                    let checking = Checking {
                        def: def.clone(),
                        _check: check,
                        counter,
                        last: None,
                    };
                    self.checks.insert(def.name, checking);
                }
                Err(problem) => error!("Script `{}` cannot run: {problem}", def.name),
            }
        }
        self.open_fifos();
    }

    /// Adds the routers of one unit. `known` gives the machine of one that was there before.
    pub(super) fn add_unit(
        &mut self,
        unit: &UnitPlan,
        mut known: impl FnMut(&RouterPlan) -> Option<Kept>,
    ) {
        let index = self.units.len();
        let (mut machines, mut members) = (Vec::new(), Vec::new());
        for plan in unit
            .members
            .iter()
            .map(|member| self.plan.routers[*member].clone())
        {
            let own = self.host.own_address(&plan);
            let kept = known(&plan);
            let machine = match &kept {
                Some(kept) => Ok(kept.machine.clone()),
                None => Machine::new(plan.settings.clone(), own),
            };
            let machine = match machine {
                Ok(machine) => machine,
                // The plan has checked the same settings.
                Err(problem) => {
                    error!("({}) {problem}", plan.name);
                    continue;
                }
            };
            let (receiver, sender, lane) = match kept {
                Some(kept) => (kept.receiver, kept.sender, kept.lane),
                None => (packet::Receiver::new(), packet::Sender::new(), None),
            };
            let lane = lane.unwrap_or_else(|| self.lane(&plan.name));
            members.push(self.routers.len());
            self.routers.push(Router {
                unit: index,
                member: machines.len(),
                receiver,
                sender,
                own: machine.own_address(),
                wire: None,
                lane,
                rounds: Vec::new(),
                send_error: None,
                restored: 0,
                leaving: false,
                plan,
            });
            machines.push(machine);
        }
        // A router alone has nobody whose state it shares: its weights always count.
        let track_weights = true;
        let named = unit.group.clone().map(|(name, notify)| NamedGroup {
            lane: self.lane(&name),
            name,
            notify,
            told: None,
        });
        self.units.push(Unit {
            group: Group::new(machines, track_weights),
            members,
            named,
        });
    }

    fn lane(&self, owner: &str) -> Lane {
        Lane::start(
            owner.to_owned(),
            self.args.script_timeout(),
            self.report.clone(),
        )
    }

    /// SIGHUP: the file again.
    pub(super) fn reload(&mut self) {
        info!("Reloading {}", self.args.file.display());
        let loaded = load::load(&self.args);
        eprint!("{}", loaded.report.render(false));
        if loaded.report.has_errors() {
            error!("the new file has errors; the old configuration stays in force");
            return;
        }
        let plan = match Plan::new(&loaded.config) {
            Ok(plan) => plan,
            Err(problem) => {
                error!("{problem}; the old configuration stays in force");
                return;
            }
        };
        // A file that is just being written is empty for a moment. Whoever wants an end stops the daemon.
        if plan.routers.is_empty() && !self.plan.routers.is_empty() {
            error!("the new file has no instance left; the old configuration stays in force");
            return;
        }
        let missing = plan
            .interfaces()
            .find(|(interface, _)| self.host.link(interface).is_none());
        if let (Some((interface, instance)), false) = (missing, plan.dynamic_interfaces) {
            error!(
                "instance {instance}: there is no interface {interface}; the old configuration stays in force"
            );
            return;
        }
        self.plan = plan;
        self.find_default_user();
        self.start_scripts();
        if self.started {
            self.exchange_routers();
        }
        self.dirty = true;
    }

    /// Ends the routers that are gone, keeps those that are the same, starts those that are new.
    fn exchange_routers(&mut self) {
        let wanted = self.plan.routers.clone();
        let stays = |router: &Router| wanted.iter().any(|plan| plan.key == router.plan.key);
        let leaving: Vec<usize> = (0..self.routers.len())
            .filter(|index| !stays(&self.routers[*index]))
            .collect();
        for index in leaving {
            self.delete(index);
        }
        self.settle_claims();
        let mut kept = self.take_routers();
        let told: BTreeMap<String, State> = self
            .units
            .drain(..)
            .filter_map(|unit| unit.named)
            .filter_map(|named| Some((named.name, named.told?)))
            .collect();
        let holders = std::mem::take(&mut self.vips);
        let mut fresh = Vec::new();
        for unit in self.plan.units.clone() {
            let first = self.routers.len();
            self.add_unit(&unit, |plan| {
                let at = kept.iter().position(|kept| kept.plan.key == plan.key)?;
                Some(kept.remove(at))
            });
            fresh.extend(first..self.routers.len());
            if let Some(named) = self.units.last_mut().and_then(|unit| unit.named.as_mut()) {
                named.told = told.get(&named.name).copied();
            }
        }
        // Addresses that nobody wants any more go; the others have a new holder.
        for (vip, held) in holders {
            self.pass_on(vip, held);
        }
        self.observe_everything();
        self.reassess();
        for index in fresh {
            self.apply_tracking(index);
            let settings = self.routers[index].plan.settings.clone();
            match self.machine(index).map(Machine::state) {
                Some(State::Init) => self.feed(index, Input::Start),
                Some(_) | None => {
                    self.feed(index, Input::Reload(Box::new(settings)));
                }
            }
        }
        self.restore_after_reload();
    }

    /// A wish that waits for other members must not get lost with its group: it is made again after a Master_Down.
    fn settle_claims(&mut self) {
        for index in 0..self.routers.len() {
            if self.machine(index).map(Machine::state) == Some(State::Claiming) {
                self.feed(index, Input::Withdraw);
            }
        }
    }

    fn take_routers(&mut self) -> Vec<Kept> {
        let machines: Vec<Option<Machine>> = (0..self.routers.len())
            .map(|index| self.machine(index).cloned())
            .collect();
        self.routers
            .drain(..)
            .zip(machines)
            .filter_map(|(router, machine)| {
                let machine = machine?;
                (machine.state() != State::Stopped).then(|| Kept {
                    machine,
                    receiver: router.receiver,
                    sender: router.sender,
                    lane: Some(router.lane),
                    plan: router.plan,
                })
            })
            .collect()
    }

    /// An instance that is no longer in the file: priority 0, addresses gone, and a last word: DELETED if
    /// `notify_deleted` is given, else FAULT, as in keepalived.
    fn delete(&mut self, index: usize) {
        info!(
            "({}) is no longer in the file",
            self.routers[index].plan.name
        );
        self.routers[index].leaving = true;
        self.feed(index, Input::Stop);
        let deleted = self.routers[index].plan.notify.deleted.is_some();
        let (word, state) = if deleted {
            ("DELETED", State::Stopped)
        } else {
            ("FAULT", State::Fault)
        };
        self.tell_state(index, word, state);
    }

    /// New addresses of a MASTER, advertised or not.
    fn restore_after_reload(&mut self) {
        for index in 0..self.routers.len() {
            if self.machine(index).map(Machine::state) == Some(State::Master)
                && self.install_missing(index)
            {
                self.feed(index, Input::Announce);
            }
        }
    }

    /// SIGTERM: priority 0, addresses away, notify_stop, and then the wait for those scripts; a second signal cuts it short.
    pub(super) async fn stop(mut self, signals: &mut Signals) {
        info!("Stopping");
        for index in 0..self.routers.len() {
            self.feed(index, Input::Stop);
        }
        self.checks.clear();
        self.write_state_if_changed();
        let mut ends = self.close_fifos();
        let lanes = self.routers.drain(..).map(|router| router.lane);
        let group_lanes = self
            .units
            .drain(..)
            .filter_map(|unit| Some(unit.named?.lane));
        ends.extend(lanes.chain(group_lanes).map(Lane::finish));
        let all = async {
            for end in ends {
                // A lane does not panic; if one did, there is nothing left to wait for.
                let _ = end.await;
            }
        };
        tokio::select! {
            () = all => {}
            _ = signals.next() => warn!("not waiting for the scripts any longer"),
        }
        self.remove_pid_files();
    }
}

/// What a router takes along through a reload.
pub(super) struct Kept {
    machine: Machine,
    receiver: packet::Receiver,
    sender: packet::Sender,
    lane: Option<Lane>,
    plan: RouterPlan,
}

/// Whether the results of one go on for the other: keepalived compares command and user; rise and fall count as well.
fn same_check(
    one: &tandem_config::keepalived::ScriptDef,
    other: &tandem_config::keepalived::ScriptDef,
) -> bool {
    use tandem_config::keepalived::ScriptTest;
    let same_test = match (&one.test, &other.test) {
        (Some(ScriptTest::Run(a)), Some(ScriptTest::Run(b))) => {
            (&a.argv, &a.user, &a.group) == (&b.argv, &b.user, &b.group)
        }
        (Some(ScriptTest::Readable(a, _)), Some(ScriptTest::Readable(b, _))) => a == b,
        (Some(ScriptTest::Run(_) | ScriptTest::Readable(..)) | None, _) => false,
    };
    same_test
        && (one.interval, one.timeout, one.rise, one.fall, one.init_fail)
            == (
                other.interval,
                other.timeout,
                other.rise,
                other.fall,
                other.init_fail,
            )
}
