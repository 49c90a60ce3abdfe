//! Statements about groups: which group there is, what is set for it, and what its sentinels saved about it.

use crate::diagnostic::Diagnostic;

use super::apply::{Monitored, filled, secret};
use super::findings::{Line, Origin};
use super::model::{GroupConf, KnownReplica, KnownSentinel, RenamedCommand};
use super::read::Reader;
use super::statement::InGroup;

impl Reader<'_> {
    /// Defines a group.
    pub(super) fn monitor(&mut self, line: &Line<'_>) {
        let Some(name) = self.text(line, 2) else {
            return;
        };
        let quorum = self.quorum(line);
        let port = self.port(line, 4, "Invalid port number.");
        let host = self.address(line, 3);
        let (Some(quorum), Some(port), Some(host)) = (quorum, port, host) else {
            self.groups.refused.insert(name);
            return;
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        if name.is_empty() || !name.bytes().all(plain) {
            let found = Diagnostic::warning(
                "group-name",
                format!(
                    "the name `{}` will trouble clients and other sentinels",
                    name.escape_debug()
                ),
            )
            .at(line.word_span(2), "")
            .help("use letters, digits and any of `.-_`");
            self.findings.advise(found);
        }
        if port == 0 {
            let found = Diagnostic::warning("port-zero", "port 0 is never connected to")
                .at(line.word_span(4), "");
            self.findings.advise(found);
        }
        let new = GroupConf::new(&name, host, port, quorum);
        if let Some(known) = self.groups.by_name.get(&name).copied() {
            self.monitored_twice(line, known, &new);
            return;
        }
        if line.source.origin == Origin::Included {
            let found = Diagnostic::warning("monitor-in-include", "groups belong into the main file")
                .at(line.span(), "in an included file")
                .help("the saved state goes to the main file, and redis-sentinel does not start when a group is in both");
            self.findings.advise(found);
        }
        let known = Monitored {
            index: self.conf.groups.len(),
            origin: line.source.origin,
            at: line.span(),
        };
        self.groups.by_name.insert(name, known);
        self.conf.groups.push(new);
    }

    /// Redis refuses every second `monitor` of a name. Here one that says the same is harmless; and the main file, to which the
    /// state is saved, wins over an included file and the command line, which keep the address of the first day.
    fn monitored_twice(&mut self, line: &Line<'_>, known: Monitored, new: &GroupConf) {
        let group = &mut self.conf.groups[known.index];
        let is_same = (&group.host, group.port, group.quorum) == (&new.host, new.port, new.quorum);
        let is_main = (
            known.origin == Origin::Main,
            line.source.origin == Origin::Main,
        );
        let message = format!("`{}` is monitored twice", new.name);
        let found = match is_main {
            _ if is_same => Diagnostic::warning("repeated", message)
                .at(line.span(), "again here")
                .at(known.at, "first here"),
            (true, false) => Diagnostic::warning("repeated", message)
                .at(line.span(), "this one does not count")
                .at(known.at, "the main file's does"),
            (false, true) => {
                group.host.clone_from(&new.host);
                group.port = new.port;
                group.quorum = new.quorum;
                Diagnostic::warning("repeated", message)
                    .at(line.span(), "the main file's counts")
                    .at(known.at, "this one does not")
            }
            (true, true) | (false, false) => {
                let found = Diagnostic::error("duplicate-group", message)
                    .at(line.span(), "with another address or quorum here")
                    .at(known.at, "first here")
                    .help("remove the one that is out of date");
                self.findings
                    .refuse(line.fatal("Duplicate master name."), found);
                return;
            }
        };
        self.findings.advise(found);
    }

    /// A statement about the group of this index.
    pub(super) fn group_statement(&mut self, key: InGroup, group: usize, line: &Line<'_>) {
        match key {
            InGroup::DownAfter => {
                if let Some(value) = self.milliseconds(line, 3, 1) {
                    self.conf.groups[group].down_after_ms = value;
                }
            }
            InGroup::FailoverTimeout => {
                if let Some(value) = self.milliseconds(line, 3, 1) {
                    self.conf.groups[group].failover_timeout_ms = value;
                }
            }
            InGroup::MasterRebootDownAfter => {
                if let Some(value) = self.milliseconds(line, 3, 0) {
                    self.conf.groups[group].master_reboot_down_after_ms = value;
                }
            }
            InGroup::ParallelSyncs => {
                self.conf.groups[group].parallel_syncs = self.parallel_syncs(line);
            }
            InGroup::NotificationScript => {
                let name = "Notification script";
                if let Some(path) = self.script(line, name) {
                    self.conf.groups[group].notification_script = Some(path);
                }
            }
            InGroup::ClientReconfigScript => {
                let name = "Client reconfiguration script";
                if let Some(path) = self.script(line, name) {
                    self.conf.groups[group].client_reconfig_script = Some(path);
                }
            }
            InGroup::AuthPass => self.conf.groups[group].auth_pass = secret(line.bytes(3)),
            InGroup::AuthUser => {
                if let Some(user) = self.text(line, 3) {
                    self.conf.groups[group].auth_user = filled(user);
                }
            }
            InGroup::ConfigEpoch => {
                let epoch = self.epoch(line, 3);
                let known = &mut self.conf.groups[group].config_epoch;
                *known = epoch.max(*known);
                self.conf.current_epoch = epoch.max(self.conf.current_epoch);
            }
            InGroup::LeaderEpoch => {
                let epoch = self.epoch(line, 3);
                let known = &mut self.conf.groups[group].leader_epoch;
                *known = epoch.max(*known);
            }
            InGroup::KnownReplica => self.known_replica(group, line),
            InGroup::KnownSentinel => self.known_sentinel(group, line),
            InGroup::RenameCommand => self.rename_command(group, line),
        }
    }

    fn known_replica(&mut self, group: usize, line: &Line<'_>) {
        let port = self.port(line, 4, "Invalid port number.");
        let host = self.address(line, 3);
        let (Some(port), Some(host)) = (port, host) else {
            return;
        };
        if !self.groups.replicas.insert((group, host.clone(), port)) {
            let found =
                Diagnostic::warning("repeated", "this replica is listed twice; it counts once")
                    .at(line.span(), "redis-sentinel would not start with this line");
            self.findings.advise(found);
            return;
        }
        let replicas = &mut self.conf.groups[group].known_replicas;
        replicas.push(KnownReplica { host, port });
    }

    fn known_sentinel(&mut self, group: usize, line: &Line<'_>) {
        // Redis 2.8 first wrote sentinels without their run id. They are found again within seconds.
        if line.words.len() == 5 {
            return;
        }
        let port = self.port(line, 4, "Invalid port number.");
        let host = self.address(line, 3);
        let runid = self.text(line, 5);
        let (Some(port), Some(host), Some(runid)) = (port, host, runid) else {
            return;
        };
        if self.conf.myid.as_ref() == Some(&runid) {
            let found = Diagnostic::warning("own-run-id", "this sentinel lists itself among the others")
                .at(line.word_span(5), "ignored, and dropped at the next change")
                .help("was the file copied from another host? then remove its `sentinel myid` line before the start");
            self.findings.advise(found);
            return;
        }
        let new = KnownSentinel { host, port, runid };
        let sentinels = &mut self.conf.groups[group].known_sentinels;
        let key = (group, new.runid.clone());
        if let Some(index) = self.groups.sentinels.get(&key) {
            sentinels[*index] = new;
            let found = Diagnostic::warning(
                "repeated",
                "this sentinel is listed twice; the last one counts",
            )
            .at(line.span(), "redis-sentinel would not start with this line");
            self.findings.advise(found);
            return;
        }
        self.groups.sentinels.insert(key, sentinels.len());
        sentinels.push(new);
    }

    fn rename_command(&mut self, group: usize, line: &Line<'_>) {
        let (Some(from), Some(to)) = (self.text(line, 3), self.text(line, 4)) else {
            return;
        };
        let key = (group, from.to_ascii_lowercase());
        match self.groups.renamed.get(&key) {
            Some(before) if *before == to => {
                let found = Diagnostic::warning("repeated", format!("`{from}` is renamed twice"))
                    .at(line.span(), "redis-sentinel would not start with this line");
                self.findings.advise(found);
            }
            Some(before) => {
                let found = Diagnostic::error(
                    "duplicate-rename",
                    format!("`{from}` is renamed to `{before}` already"),
                )
                .at(line.span(), "")
                .help("keep the one that the servers have");
                let reason = "Same command renamed multiple times with rename-command.";
                self.findings.refuse(line.fatal(reason), found);
            }
            None => {
                self.groups.renamed.insert(key, to.clone());
                let renamed = &mut self.conf.groups[group].rename_commands;
                renamed.push(RenamedCommand { from, to });
            }
        }
    }
}
