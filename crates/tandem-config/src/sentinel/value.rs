//! The values of `sentinel` statements: each parser reports what is wrong at the word itself.

use std::net::IpAddr;

use crate::diagnostic::Diagnostic;

use super::findings::Line;
use super::numbers::{self, Leading};
use super::read::Reader;

/// The largest number that Redis keeps for a time in milliseconds, a quorum or a count: a C int.
const INT_MAX: i64 = i32::MAX as i64;

impl Reader<'_> {
    /// A whole number; what follows its digits is ignored, as Redis does, but said.
    fn number(&mut self, line: &Line<'_>, index: usize) -> i64 {
        let read = numbers::signed(line.bytes(index));
        self.tail(line, index, read);
        read.value
    }

    fn tail<T: std::fmt::Display>(&mut self, line: &Line<'_>, index: usize, read: Leading<T>) {
        if !read.is_whole {
            let found = Diagnostic::warning("not-a-number", "this is not a whole number")
                .at(line.word_span(index), format!("read as {}", read.value));
            self.findings.advise(found);
        }
    }

    /// An epoch.
    pub(super) fn epoch(&mut self, line: &Line<'_>, index: usize) -> u64 {
        let read = numbers::unsigned(line.bytes(index));
        self.tail(line, index, read);
        read.value
    }

    /// A time of at least `low` milliseconds, `low` being 0 or 1.
    pub(super) fn milliseconds(&mut self, line: &Line<'_>, index: usize, low: i64) -> Option<u64> {
        let value = self.number(line, index);
        if (low..=INT_MAX).contains(&value) {
            return u64::try_from(value).ok();
        }
        let found = Diagnostic::error("bad-time", "no number of milliseconds")
            .at(line.word_span(index), "")
            .help(format!("from {low} to {INT_MAX}"));
        let reason = match low {
            0 => "negative time parameter.",
            _ => "negative or zero time parameter.",
        };
        self.findings.refuse(line.fatal(reason), found);
        None
    }

    /// `monitor`'s last word.
    pub(super) fn quorum(&mut self, line: &Line<'_>) -> Option<u32> {
        let value = self.number(line, 5);
        if (1..=INT_MAX).contains(&value) {
            return u32::try_from(value).ok();
        }
        let found = Diagnostic::error("bad-quorum", "a quorum is at least 1")
            .at(line.word_span(5), "")
            .help("the number of sentinels that have to agree that the primary is down, for instance 2 of 3");
        let reason = "Quorum must be 1 or greater.";
        self.findings.refuse(line.fatal(reason), found);
        None
    }

    /// How many replicas are repointed at a time. Redis takes any number from the file, and with 0 never repoints one before
    /// the failover times out.
    pub(super) fn parallel_syncs(&mut self, line: &Line<'_>) -> u32 {
        let value = self.number(line, 3);
        if value < 1 {
            let found = Diagnostic::warning("bad-count", "no replica would be repointed")
                .at(line.word_span(3), "taken as 1");
            self.findings.advise(found);
        }
        u32::try_from(value.clamp(1, INT_MAX)).unwrap_or(1)
    }

    /// A port, 0 included.
    pub(super) fn port(&mut self, line: &Line<'_>, index: usize, reason: &str) -> Option<u16> {
        let value = self.number(line, index);
        if let Ok(port) = u16::try_from(value) {
            return Some(port);
        }
        let found = Diagnostic::error("bad-port", "no port")
            .at(line.word_span(index), "")
            .help("from 0 to 65535");
        self.findings.refuse(line.fatal(reason), found);
        None
    }

    /// A port to announce, if there is one. Redis announces any number, with which no other sentinel can do anything.
    pub(super) fn announce_port(&mut self, line: &Line<'_>) -> Option<u16> {
        let value = self.number(line, 2);
        let port = u16::try_from(value).ok();
        if port.is_none() {
            let found = Diagnostic::warning("bad-port", "no port to announce")
                .at(line.word_span(2), "ignored: the real port is announced")
                .help("from 1 to 65535");
            self.findings.advise(found);
        }
        port.filter(|port| *port != 0)
    }

    /// An address, or a name if names are resolved.
    pub(super) fn address(&mut self, line: &Line<'_>, index: usize) -> Option<String> {
        let text = self.text(line, index)?;
        let is_ip = text
            .split('%')
            .next()
            .is_some_and(|address| address.parse::<IpAddr>().is_ok());
        if let Some(ip) = numbers::short_ipv4(&text) {
            return Some(ip.to_string());
        }
        if is_ip || (self.conf.resolve_hostnames && !text.is_empty()) {
            return Some(text);
        }
        let mut found = Diagnostic::error("bad-address", format!("`{text}` is no IP address"))
            .at(line.word_span(index), "");
        found = if text.is_empty() {
            found.help("write an address such as 10.0.0.1")
        } else {
            found.help("write its address, or allow names with `sentinel resolve-hostnames yes`")
        };
        let reason = "Can't resolve instance hostname.";
        self.findings.refuse(line.fatal(reason), found);
        None
    }

    /// The path of a script that can be executed.
    pub(super) fn script(&mut self, line: &Line<'_>, name: &str) -> Option<String> {
        let path = self.text(line, 3)?;
        if self.is_executable(&path) {
            return Some(path);
        }
        let found = Diagnostic::error("bad-script", format!("{name}: `{path}` cannot be executed"))
            .at(line.word_span(3), "")
            .help("it must exist and have permission to be executed; it is run without a shell, so no arguments here");
        let reason = format!("{name} seems non existing or non executable.");
        self.findings.refuse(line.fatal(reason), found);
        None
    }

    /// Yes or no.
    pub(super) fn yes_no(&mut self, line: &Line<'_>, reason: &str) -> Option<bool> {
        let word = &line.words[2];
        if word.is("yes") {
            return Some(true);
        }
        if word.is("no") {
            return Some(false);
        }
        let found =
            Diagnostic::error("bad-value", "neither `yes` nor `no`").at(line.word_span(2), "");
        self.findings.refuse(line.fatal(reason), found);
        None
    }
}
