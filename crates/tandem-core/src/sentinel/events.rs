//! Every event a sentinel tells, by name, and how the server it is about is written.
//!
//! The names, their levels and the prefix (`<type> <name> <ip> <port>[ @ <group> <ip> <port>]`, Redis' `%@`) are those of
//! Redis 7.0 `sentinel.c`, because clients subscribe to the names and take the words apart by position. The few events
//! of our own stand at the end of the list under names that match none of the patterns that known clients use. When an
//! event is told, and with which details, is up to the caller.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use crate::sentinel::ids::Endpoint;
use crate::sentinel::io::{Event, Level};
use crate::sentinel::model::{Group, Peer, Replica};

/// Longest text of an event in bytes; what is beyond is cut off, as Redis cuts at its log line's length.
pub const PAYLOAD_MAX: usize = 1023;

/// One table gives the names, the levels, and the list of all, so that none can be forgotten in one of them.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal $level:ident,)*) => {
        /// A kind of event.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Kind {
            $($(#[$doc])* $kind,)*
        }

        impl Kind {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$kind,)*];

            /// The event's name, which is its channel.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }

            /// Who is told.
            #[must_use]
            pub const fn level(self) -> Level {
                match self {
                    $(Self::$kind => Level::$level,)*
                }
            }
        }
    };
}

kinds! {
    /// A group is watched from now on (also at the start, for each). Primary; `quorum <n>`.
    PlusMonitor = "+monitor" Warning,
    /// A group is no longer watched. Primary.
    MinusMonitor = "-monitor" Warning,
    /// A setting changed. Primary; option and value.
    PlusSet = "+set" Warning,
    /// A group was reset. Primary.
    PlusResetMaster = "+reset-master" Warning,
    /// A replica was found. Replica.
    PlusSlave = "+slave" Notice,
    /// A sentinel was found. Sentinel.
    PlusSentinel = "+sentinel" Notice,
    /// A sentinel moved. Primary; `ip <ip> port <port> for <id>`.
    PlusSentinelAddressSwitch = "+sentinel-address-switch" Notice,
    /// Another sentinel took over this one's address; the old entry goes. Sentinel.
    PlusSentinelInvalidAddr = "+sentinel-invalid-addr" Notice,
    /// Its new address was copied to other groups. Sentinel; `<n> additional matching instances`.
    PlusSentinelAddressUpdate = "+sentinel-address-update" Notice,
    /// A server has a new run id. Server.
    PlusReboot = "+reboot" Notice,
    /// A server reports the role we have for it again. Server; `new reported role is <role>`.
    PlusRoleChange = "+role-change" Verbose,
    /// A server reports another role than the one we have for it. Server; `new reported role is <role>`.
    MinusRoleChange = "-role-change" Verbose,
    /// Down by our own finding. Any.
    PlusSdown = "+sdown" Warning,
    /// Not down any more. Any.
    MinusSdown = "-sdown" Warning,
    /// Down by the quorum's finding. Primary; `#quorum <n>/<quorum>`.
    PlusOdown = "+odown" Warning,
    /// Not down any more by the quorum's finding. Primary.
    MinusOdown = "-odown" Warning,
    /// A newer election is known. The number alone.
    PlusNewEpoch = "+new-epoch" Warning,
    /// We gave a vote. `<id> <epoch>` alone.
    PlusVoteForLeader = "+vote-for-leader" Warning,
    /// We stand for election. Primary.
    PlusTryFailover = "+try-failover" Warning,
    /// We won. Primary.
    PlusElectedLeader = "+elected-leader" Warning,
    /// Primary.
    PlusFailoverStateSelectSlave = "+failover-state-select-slave" Warning,
    /// Primary.
    PlusFailoverStateReconfSlaves = "+failover-state-reconf-slaves" Warning,
    /// Primary.
    PlusFailoverEnd = "+failover-end" Warning,
    /// The failover's time is over while replicas are not done. Primary.
    PlusFailoverEndForTimeout = "+failover-end-for-timeout" Warning,
    /// Primary.
    MinusFailoverAbortNotElected = "-failover-abort-not-elected" Warning,
    /// Primary.
    MinusFailoverAbortNoGoodSlave = "-failover-abort-no-good-slave" Warning,
    /// Primary.
    MinusFailoverAbortSlaveTimeout = "-failover-abort-slave-timeout" Warning,
    /// The replica to promote. Replica.
    PlusSelectedSlave = "+selected-slave" Warning,
    /// It is a primary now. Replica.
    PlusPromotedSlave = "+promoted-slave" Warning,
    /// Replica.
    PlusFailoverStateSendSlaveofNoone = "+failover-state-send-slaveof-noone" Notice,
    /// Replica.
    PlusFailoverStateWaitPromotion = "+failover-state-wait-promotion" Notice,
    /// Told whom to follow. Replica.
    PlusSlaveReconfSent = "+slave-reconf-sent" Notice,
    /// Says that it follows it. Replica.
    PlusSlaveReconfInprog = "+slave-reconf-inprog" Notice,
    /// Its link is up. Replica.
    PlusSlaveReconfDone = "+slave-reconf-done" Notice,
    /// Told at the end, whether it hears or not. Replica.
    PlusSlaveReconfSentBe = "+slave-reconf-sent-be" Notice,
    /// Told, and nothing came of it in time. Replica.
    MinusSlaveReconfSentTimeout = "-slave-reconf-sent-timeout" Notice,
    /// A server that should be a replica is made one. Replica.
    PlusConvertToSlave = "+convert-to-slave" Notice,
    /// A replica of the wrong primary is put right. Replica.
    PlusFixSlaveConfig = "+fix-slave-config" Notice,
    /// A newer configuration came by hello. The sentinel it came from.
    PlusConfigUpdateFrom = "+config-update-from" Warning,
    /// Clients go elsewhere now. `<group> <old-ip> <old-port> <new-ip> <new-port>` alone.
    PlusSwitchMaster = "+switch-master" Warning,
    /// This process stood still. `#tilt mode entered` alone.
    PlusTilt = "+tilt" Warning,
    /// It runs again and knows how things stand. `#tilt mode exited` alone.
    MinusTilt = "-tilt" Warning,
    /// A script failed for good. `<path> <signal> <exit code>` alone.
    MinusScriptError = "-script-error" Warning,
    /// A script ran too long and was killed. `<path> <pid>` alone.
    MinusScriptTimeout = "-script-timeout" Warning,
    /// A script was started. Its pid alone; log only.
    PlusScriptChild = "+script-child" Debug,
    /// A script ended. `<pid> <exit code> <signal>` alone; log only.
    MinusScriptChild = "-script-child" Debug,
    /// A command connection could not be made. Any, with the reason; log only.
    MinusCmdLinkReconnection = "-cmd-link-reconnection" Debug,
    /// A hearing connection could not be made. Server, with the reason; log only.
    MinusPubsubLinkReconnection = "-pubsub-link-reconnection" Debug,

    // Ours. No client knows these; people and notification scripts do.
    /// More than silence says that a server is dead. Server; what says so.
    PlusEvidence = "+evidence" Notice,
    /// A primary came back without its data. Primary; the offsets before and after.
    PlusDataGone = "+data-gone" Warning,
    /// A resync discards bytes that only this server had. Server; `<bytes> archived|discarded|owned`.
    PlusDiverged = "+diverged" Warning,
    /// Writes could not be paused for a planned failover; the plain one follows. Primary; the server's answer.
    MinusPauseRefused = "-pause-refused" Warning,
    /// A planned failover was given up with nothing changed: the replica was not equal in time. Primary.
    MinusFailoverAbortSlaveBehind = "-failover-abort-slave-behind" Warning,
    /// A server refused a step of a change of roles. Server; the command and the answer.
    MinusStepRefused = "-step-refused" Warning,
    /// A replica that is long gone was forgotten. Replica.
    MinusSlaveForgotten = "-slave-forgotten" Notice,
    /// A sentinel that is long gone was forgotten. Sentinel.
    MinusSentinelForgotten = "-sentinel-forgotten" Notice,
    /// A hello was not believed. Primary; why.
    MinusHelloRefused = "-hello-refused" Warning,
    /// The state could not be written, so nothing that rests on it is said. The reason alone.
    MinusSaveFailed = "-save-failed" Warning,
}

impl Kind {
    /// Whether the group's notification script is run: for warnings about a group, not for those about this process.
    #[must_use]
    pub const fn notifies(self) -> bool {
        let about_us = matches!(
            self,
            Self::PlusTilt
                | Self::MinusTilt
                | Self::MinusScriptError
                | Self::MinusScriptTimeout
                | Self::MinusSaveFailed
        );
        matches!(self.level(), Level::Warning) && !about_us
    }

    /// The event with this text and no prefix.
    #[must_use]
    pub fn plain(self, text: impl fmt::Display) -> Event {
        let mut payload = text.to_string();
        if payload.len() > PAYLOAD_MAX {
            payload.truncate(payload.floor_char_boundary(PAYLOAD_MAX));
        }
        Event {
            level: self.level(),
            name: self.name(),
            payload,
        }
    }

    /// The event about this server or sentinel.
    #[must_use]
    pub fn about(self, subject: &Subject<'_>) -> Event {
        self.plain(subject)
    }

    /// The event about this server or sentinel, with something more to say.
    #[must_use]
    pub fn about_with(self, subject: &Subject<'_>, detail: impl fmt::Display) -> Event {
        self.plain(format_args!("{subject} {detail}"))
    }
}

/// How addresses are shown to others: as names only with `announce-hostnames`.
#[derive(Clone, Copy, Debug)]
pub struct Announce<'a> {
    /// `announce-hostnames`.
    pub hostnames: bool,
    /// What is known of the addresses behind names.
    pub resolved: &'a BTreeMap<String, IpAddr>,
}

impl Announce<'_> {
    /// The host of an endpoint as others are shown it. A name whose address is not known stays a name: Redis shows
    /// nothing at all then, which no client can use either.
    #[must_use]
    pub fn host<'e>(&self, at: &'e Endpoint) -> Cow<'e, str> {
        if self.hostnames {
            return Cow::Borrowed(&at.host);
        }
        self.resolved.get(&at.host).map_or_else(
            || Cow::Borrowed(at.host.as_str()),
            |address| Cow::Owned(address.to_string()),
        )
    }

    /// The endpoint as others are shown it.
    #[must_use]
    pub fn endpoint(&self, at: &Endpoint) -> Endpoint {
        Endpoint::new(self.host(at), at.port)
    }
}

/// Whom an event is about: Redis' `%@`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject<'a> {
    /// `master`, `slave` or `sentinel`.
    role: &'static str,
    name: Cow<'a, str>,
    host: Cow<'a, str>,
    port: u16,
    /// The group's name and its primary's host and port, for all but the primary itself.
    group: Option<(&'a str, Cow<'a, str>, u16)>,
}

impl<'a> Subject<'a> {
    /// A group's primary.
    #[must_use]
    pub fn primary(group: &'a Group, announce: Announce<'_>) -> Self {
        let at = &group.primary.at;
        Self {
            role: "master",
            name: Cow::Borrowed(&group.settings.name.0),
            host: announce.host(at),
            port: at.port,
            group: None,
        }
    }

    /// One of a group's replicas.
    #[must_use]
    pub fn replica(group: &'a Group, replica: &'a Replica, announce: Announce<'_>) -> Self {
        Self {
            role: "slave",
            name: Cow::Owned(announce.endpoint(&replica.at).name()),
            host: announce.host(&replica.at),
            port: replica.at.port,
            group: Some(of(group, announce)),
        }
    }

    /// One of the other sentinels of a group.
    #[must_use]
    pub fn peer(group: &'a Group, peer: &'a Peer, announce: Announce<'_>) -> Self {
        Self {
            role: "sentinel",
            name: Cow::Borrowed(peer.id.as_str()),
            host: announce.host(&peer.at),
            port: peer.at.port,
            group: Some(of(group, announce)),
        }
    }
}

fn of<'a>(group: &'a Group, announce: Announce<'_>) -> (&'a str, Cow<'a, str>, u16) {
    let at = &group.primary.at;
    (&group.settings.name.0, announce.host(at), at.port)
}

impl fmt::Display for Subject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {}", self.role, self.name, self.host, self.port)?;
        match &self.group {
            Some((name, host, port)) => write!(f, " @ {name} {host} {port}"),
            None => Ok(()),
        }
    }
}

/// The text of [`Kind::PlusSwitchMaster`].
#[must_use]
pub fn switch_text(
    group: &Group,
    from: &Endpoint,
    to: &Endpoint,
    announce: Announce<'_>,
) -> String {
    format!(
        "{} {} {} {} {}",
        group.settings.name,
        announce.host(from),
        from.port,
        announce.host(to),
        to.port
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::sentinel::ids::{GroupName, SentinelId};
    use crate::sentinel::model::{GroupId, LinkId, Primary};
    use crate::sentinel::settings::{GroupSettings, Periods};
    use crate::testing::origin;

    const ID: &str = "0123456789abcdef0123456789abcdef01234567";

    fn group() -> Group {
        let settings = GroupSettings::new(GroupName("orders".to_owned()), 2, &Periods::default());
        let at = Endpoint::new("10.0.0.1", 6379);
        Group::new(GroupId(0), settings, Primary::new(at, LinkId(0), origin()))
    }

    #[test]
    fn names_are_unlike_each_other_and_signed() {
        let names: BTreeSet<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(names.len(), Kind::ALL.len());
        for name in names {
            assert!(name.starts_with(['+', '-']), "{name}");
        }
    }

    /// node-redis subscribes to these patterns, and takes the words apart whatever the event is.
    #[test]
    fn no_event_of_ours_is_caught_by_a_client_s_pattern() {
        let first = Kind::ALL
            .iter()
            .position(|kind| *kind == Kind::PlusEvidence)
            .unwrap();
        for kind in &Kind::ALL[first..] {
            for pattern in [
                "*switch-master",
                "[-+]sdown",
                "[-+]odown",
                "+slave",
                "+sentinel",
                "+slave-reconf-done",
            ] {
                let caught = crate::sentinel::commands::glob::matches(
                    pattern.as_bytes(),
                    kind.name().as_bytes(),
                    false,
                );
                assert!(!caught, "{} by {pattern}", kind.name());
            }
        }
    }

    /// Recorded from redis-sentinel 7.0.15, with the names changed.
    #[test]
    fn whom_an_event_is_about() {
        let resolved = BTreeMap::new();
        let announce = Announce {
            hostnames: false,
            resolved: &resolved,
        };
        let group = group();
        let replica = Replica::new(Endpoint::new("10.0.0.2", 6380), LinkId(1), origin());
        let id = SentinelId::parse(ID).unwrap();
        let peer = Peer::new(id, Endpoint::new("10.0.0.3", 26379), LinkId(2), origin());
        let primary = Subject::primary(&group, announce);
        assert_eq!(
            Kind::PlusOdown.about_with(&primary, "#quorum 2/2"),
            Event {
                level: Level::Warning,
                name: "+odown",
                payload: "master orders 10.0.0.1 6379 #quorum 2/2".to_owned(),
            }
        );
        assert_eq!(
            Kind::PlusSlave
                .about(&Subject::replica(&group, &replica, announce))
                .payload,
            "slave 10.0.0.2:6380 10.0.0.2 6380 @ orders 10.0.0.1 6379"
        );
        assert_eq!(
            Kind::PlusSentinel
                .about(&Subject::peer(&group, &peer, announce))
                .payload,
            format!("sentinel {ID} 10.0.0.3 26379 @ orders 10.0.0.1 6379")
        );
        let (from, to) = (&group.primary.at, &replica.at);
        assert_eq!(
            switch_text(&group, from, to, announce),
            "orders 10.0.0.1 6379 10.0.0.2 6380"
        );
    }

    #[test]
    fn hosts_are_shown_as_they_are_announced() {
        let resolved = [("db".to_owned(), "10.0.0.9".parse().unwrap())].into();
        let at = Endpoint::new("db", 1);
        let six = Endpoint::new("::1", 1);
        for (hostnames, resolved, expected) in [
            (false, &resolved, "10.0.0.9"),
            (true, &resolved, "db"),
            (false, &BTreeMap::new(), "db"),
        ] {
            let announce = Announce {
                hostnames,
                resolved,
            };
            assert_eq!(announce.host(&at), expected);
            assert_eq!(announce.endpoint(&six).name(), "[::1]:1");
        }
    }

    #[test]
    fn warnings_run_scripts_unless_they_are_about_ourselves() {
        for (kind, expected) in [
            (Kind::PlusSdown, true),
            (Kind::PlusNewEpoch, true),
            (Kind::PlusSwitchMaster, true),
            (Kind::PlusSlave, false),
            (Kind::PlusTilt, false),
            (Kind::MinusScriptError, false),
        ] {
            assert_eq!(kind.notifies(), expected, "{}", kind.name());
        }
    }

    #[test]
    fn a_text_is_cut_at_its_bound_and_not_within_a_letter() {
        let event = Kind::PlusSet.plain(format!("{}äö", "x".repeat(PAYLOAD_MAX - 1)));
        assert_eq!(event.payload.len(), PAYLOAD_MAX - 1);
        assert_eq!(Kind::PlusSet.plain("short").payload, "short");
    }
}
