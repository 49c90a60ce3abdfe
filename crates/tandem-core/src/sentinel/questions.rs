//! Questions of clients, operators and other sentinels: what `commands` says has to be done is done here.
//!
//! An answer that says that something lasts follows the file: it waits for the state to be on disk, and is an error if
//! it could not be written. Scripts are queued and started here, too.

use std::collections::BTreeSet;
use std::net::IpAddr;

use tandem_resp::Value;

use crate::sentinel::commands::{
    self, Change, CommandError, ConfigChange, Directory, Outcome, SetChange, View,
};
use crate::sentinel::due::Key;
use crate::sentinel::events::Kind;
use crate::sentinel::ids::{Endpoint, GroupName};
use crate::sentinel::io::{Event, Level, Output, RequestId, SaveVersion, ScriptEnd, ScriptId};
use crate::sentinel::links::server_links;
use crate::sentinel::machine::Sentinel;
use crate::sentinel::model::{Group, GroupId};
use crate::sentinel::settings::GroupSettings;

/// Answers that wait for the disk at the same time; beyond it the oldest is told that the file could not be written.
const FOLLOWING_MAX: usize = 1_024;
/// Groups that wait for a name's address at the same time.
const LOOKED_UP_MAX: usize = 64;

/// An answer that follows the file.
#[derive(Debug)]
pub(super) struct Following {
    request: RequestId,
    version: SaveVersion,
    value: Value,
}

/// A group to be watched when its primary's name has an address.
#[derive(Debug)]
pub(super) struct LookedUp {
    request: RequestId,
    settings: Box<GroupSettings>,
    primary: Endpoint,
}

/// Answering.
impl Sentinel {
    pub(super) fn asked_sentinel(
        &mut self,
        request: RequestId,
        words: &[Vec<u8>],
        programs: &BTreeSet<String>,
    ) {
        let outcome = self.view(programs, |view| commands::take(view, words));
        match outcome {
            Outcome::Reply(value) => self.answer(request, value),
            Outcome::Change(change) => self.carry_out(request, change),
        }
    }

    pub(super) fn asked_role(&mut self, request: RequestId) {
        let value = self.view(&BTreeSet::new(), commands::role);
        self.answer(request, value);
    }

    pub(super) fn asked_info(&mut self, request: RequestId) {
        let value = self.view(&BTreeSet::new(), commands::info_section);
        self.answer(request, value);
    }

    fn view<R>(&self, programs: &BTreeSet<String>, look: impl FnOnce(&View<'_>) -> R) -> R {
        let executable = |path: &str| programs.contains(path);
        let reasons = |group: &Group| self.reasons(group);
        look(&View {
            now: self.now,
            id: &self.id,
            epoch: self.current_epoch,
            globals: &self.globals,
            log_level: self.log_level,
            periods: &self.periods,
            groups: Directory {
                names: &self.names,
                groups: &self.groups,
            },
            links: &self.links,
            resolved: &self.resolved,
            tilt: self.stalled,
            simulate: self.simulate,
            scripts: &self.scripts,
            executable: &executable,
            reasons: &reasons,
        })
    }

    pub(super) fn answer(&mut self, request: RequestId, value: Value) {
        self.out.push(Output::Answer { request, value });
    }

    fn carry_out(&mut self, request: RequestId, change: Change) {
        match change {
            Change::Opinion(question) => {
                let candidate = question.candidate.as_ref();
                self.opinion_asked(request, &question.at, question.epoch, candidate);
            }
            Change::Reset(names) => {
                let count = i64::try_from(names.len()).unwrap_or(i64::MAX);
                for id in names
                    .iter()
                    .filter_map(|name| self.names.get(name).copied())
                    .collect::<Vec<_>>()
                {
                    self.reset_group(id, false);
                    self.tell_primary(id, Kind::PlusResetMaster);
                }
                self.save_soon();
                self.answer(request, Value::Integer(count));
            }
            Change::Failover(name) => {
                let forced = self
                    .names
                    .get(&name)
                    .copied()
                    .map(|id| self.force_failover(id));
                let value = match forced {
                    Some(Ok(())) => commands::ok(),
                    Some(Err(error)) => CommandError::from(error).reply(),
                    None => CommandError::NoSuchGroup.reply(),
                };
                self.answer(request, value);
            }
            Change::Monitor { settings, primary } => self.monitor(request, settings, primary),
            Change::Remove(name) => {
                if let Some(&id) = self.names.get(&name) {
                    self.tell_primary(id, Kind::MinusMonitor);
                    self.remove_group(id);
                }
                self.follow_file(request, commands::ok());
            }
            Change::Set {
                group,
                changes,
                error,
            } => self.set(request, &group, changes, error),
            Change::Config(changes) => self.configure(request, &changes),
            Change::FlushConfig => self.follow_file(request, commands::ok()),
            Change::Simulate(simulate, value) => {
                self.simulate = simulate;
                self.answer(request, value);
            }
            Change::Periods { changes, error } => {
                for change in &changes {
                    change.apply(&mut self.periods);
                }
                self.look_at_everything();
                self.answer(
                    request,
                    error.map_or_else(commands::ok, |error| error.reply()),
                );
            }
        }
    }

    fn monitor(&mut self, request: RequestId, settings: Box<GroupSettings>, primary: Endpoint) {
        let is_name = primary.host.parse::<IpAddr>().is_err();
        if !is_name || self.resolved.contains_key(&primary.host) {
            self.add_group(*settings, primary);
            self.follow_file(request, commands::ok());
            return;
        }
        if self.looked_up.len() >= LOOKED_UP_MAX {
            self.answer(request, CommandError::BadHost.reply());
            return;
        }
        self.out.push(Output::Resolve {
            host: primary.host.clone(),
        });
        self.looked_up.push(LookedUp {
            request,
            settings,
            primary,
        });
    }

    /// The address behind a name, or none.
    pub(super) fn name_resolved(&mut self, host: String, result: Result<IpAddr, String>) {
        let found = result.is_ok();
        if let Ok(address) = result {
            self.resolved.insert(host.clone(), address);
        }
        let (ready, waiting) = std::mem::take(&mut self.looked_up)
            .into_iter()
            .partition(|wait: &LookedUp| wait.primary.host == host);
        self.looked_up = waiting;
        for wait in ready {
            if !found {
                self.answer(wait.request, CommandError::BadHost.reply());
            } else if self.names.contains_key(&wait.settings.name) {
                self.answer(wait.request, CommandError::DuplicateGroup.reply());
            } else {
                self.add_group(*wait.settings, wait.primary);
                self.follow_file(wait.request, commands::ok());
            }
        }
    }

    fn set(
        &mut self,
        request: RequestId,
        name: &GroupName,
        changes: Vec<SetChange>,
        error: Option<CommandError>,
    ) {
        let Some(&id) = self.names.get(name) else {
            self.answer(request, CommandError::NoSuchGroup.reply());
            return;
        };
        let changed = !changes.is_empty();
        let mut renew = false;
        for SetChange { change, said } in changes {
            if let Some(group) = self.groups.get_mut(&id) {
                change.apply(&mut group.settings);
            }
            renew |= change.drops_server_links();
            self.tell_primary_with(id, Kind::PlusSet, said);
        }
        let links = self.groups.get(&id).map(server_links).unwrap_or_default();
        for link in links {
            if renew {
                self.renew_link(link);
            }
            self.due.set(Key::Link(link), self.now);
        }
        self.mark(id);
        match error {
            Some(error) => {
                if changed {
                    self.save();
                }
                self.answer(request, error.reply());
            }
            None => self.follow_file(request, commands::ok()),
        }
    }

    fn configure(&mut self, request: RequestId, changes: &[ConfigChange]) {
        let mut renew = false;
        for change in changes {
            change.apply(&mut self.globals);
            renew |= change.drops_peer_links();
            if let ConfigChange::LogLevel(level) = change {
                self.log_level = *level;
                self.out.push(Output::SetLogLevel(*level));
            }
        }
        if renew {
            let links: Vec<_> = self.peer_links.values().copied().collect();
            for link in links {
                self.renew_link(link);
            }
        }
        self.follow_file(request, commands::ok());
    }

    /// New periods hold from now on, not only after the old ones ran out.
    fn look_at_everything(&mut self) {
        for link in self.links.keys() {
            self.due.set(Key::Link(*link), self.now);
        }
        self.marked.extend(self.groups.keys());
    }

    /// Answers this when the state as it is at the end of this input is on disk.
    fn follow_file(&mut self, request: RequestId, value: Value) {
        if self.following.len() >= FOLLOWING_MAX {
            let oldest = self.following.remove(0);
            self.answer(oldest.request, CommandError::SaveFailed.reply());
        }
        let version = self.save();
        self.following.push(Following {
            request,
            version,
            value,
        });
    }

    /// The state of this version is on disk, or could not be written.
    pub(super) fn release_following(&mut self, version: SaveVersion) {
        let (ready, waiting) = std::mem::take(&mut self.following)
            .into_iter()
            .partition(|wait: &Following| wait.version <= version);
        self.following = waiting;
        for wait in ready {
            let durable = self.saver.holds(wait.version);
            let value = if durable {
                wait.value
            } else {
                CommandError::SaveFailed.reply()
            };
            self.answer(wait.request, value);
        }
    }
}

/// Scripts.
impl Sentinel {
    /// Tells a group's notification script, if it has one.
    pub(super) fn run_notification(&mut self, id: GroupId, event: &Event) {
        let script = self
            .groups
            .get(&id)
            .and_then(|group| group.settings.notification_script.clone());
        if let Some(path) = script {
            self.run_script(vec![path, event.name.to_owned(), event.payload.clone()]);
        }
    }

    /// Tells a group's client-reconfig-script, if it has one. `role` is `leader` or `observer`.
    pub(super) fn run_reconfiguration(
        &mut self,
        id: GroupId,
        role: &str,
        from: &Endpoint,
        to: &Endpoint,
    ) {
        let Some(group) = self.groups.get(&id) else {
            return;
        };
        let Some(path) = group.settings.client_reconfig_script.clone() else {
            return;
        };
        let (from, to) = (self.announce().endpoint(from), self.announce().endpoint(to));
        let name = group.settings.name.0.clone();
        self.run_script(vec![
            path,
            name,
            role.to_owned(),
            "start".to_owned(),
            from.host,
            from.port.to_string(),
            to.host,
            to.port.to_string(),
        ]);
    }

    fn run_script(&mut self, argv: Vec<String>) {
        if let Some(dropped) = self.scripts.push(argv) {
            let text = format!(
                "Too many scripts wait; dropped: {}",
                dropped.argv().join(" ")
            );
            self.log(Level::Warning, text);
        }
        self.due.by(Key::Scripts, self.now);
    }

    /// Starts and ends scripts whose time has come.
    pub(super) fn scripts_due(&mut self) {
        let outputs = self.scripts.due(self.now, &self.periods);
        self.out.extend(outputs);
        if let Some(at) = self.scripts.next_wake(self.now, &self.periods) {
            self.due.set(
                Key::Scripts,
                at.max(self.now + std::time::Duration::from_millis(1)),
            );
        }
    }

    pub(super) fn script_started(&mut self, script: ScriptId, pid: u32) {
        let outputs = self.scripts.started(script, pid);
        self.out.extend(outputs);
    }

    pub(super) fn script_ended(&mut self, script: ScriptId, end: ScriptEnd) {
        let outputs = self.scripts.ended(script, end, self.now, &self.periods);
        self.out.extend(outputs);
        self.due.by(Key::Scripts, self.now);
    }
}
