//! Statements about the sentinel itself.

use crate::diagnostic::Diagnostic;

use super::apply::{filled, secret};
use super::findings::Line;
use super::numbers;
use super::read::Reader;
use super::statement::Global;

impl Reader<'_> {
    /// A statement about the sentinel itself.
    pub(super) fn global_statement(&mut self, key: Global, line: &Line<'_>) {
        match key {
            Global::MyId => self.my_id(line),
            Global::DenyScriptsReconfig => {
                // Redis says "options" here and "option" for the others.
                let reason = "Please specify yes or no for the deny-scripts-reconfig options.";
                if let Some(value) = self.yes_no(line, reason) {
                    self.conf.deny_scripts_reconfig = value;
                }
            }
            Global::ResolveHostnames => {
                let reason = "Please specify yes or no for the resolve-hostnames option.";
                if let Some(value) = self.yes_no(line, reason) {
                    self.conf.resolve_hostnames = value;
                }
            }
            Global::AnnounceHostnames => {
                let reason = "Please specify yes or no for the announce-hostnames option.";
                if let Some(value) = self.yes_no(line, reason) {
                    self.conf.announce_hostnames = value;
                }
            }
            Global::CurrentEpoch => {
                let epoch = self.epoch(line, 2);
                self.conf.current_epoch = epoch.max(self.conf.current_epoch);
            }
            Global::AnnounceIp => {
                if let Some(ip) = self.text(line, 2).and_then(filled) {
                    self.conf.announce_ip = Some(ip);
                }
            }
            Global::AnnouncePort => {
                self.conf.announce_port = self.announce_port(line);
            }
            Global::SentinelUser => {
                if let Some(user) = self.text(line, 2) {
                    self.conf.sentinel_user = filled(user);
                }
            }
            Global::SentinelPass => self.conf.sentinel_pass = secret(line.bytes(2)),
        }
    }

    fn my_id(&mut self, line: &Line<'_>) {
        let Some(id) = self.text(line, 2) else {
            return;
        };
        if id.len() != 40 {
            let found = Diagnostic::error(
                "bad-myid",
                format!("an id has 40 characters, this has {}", id.len()),
            )
            .at(line.word_span(2), "")
            .help("remove the line; a new id is made at the start");
            let reason = "Malformed Sentinel id in myid option.";
            self.findings.refuse(line.fatal(reason), found);
            return;
        }
        if !numbers::is_hex(&id) {
            let found =
                Diagnostic::warning("odd-myid", "an id is 40 lower-case hexadecimal digits")
                    .at(line.word_span(2), "other sentinels may not accept it");
            self.findings.advise(found);
        }
        self.conf.myid = Some(id);
    }
}
