//! The `sentinel ...` statements: one table of their names, when they apply and what they take.

/// A statement by its meaning, whatever its spelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    /// About the sentinel itself.
    Global(Global),
    /// The statement that defines a group.
    Monitor,
    /// About a group.
    Group(InGroup),
}

/// Statements about the sentinel itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Global {
    MyId,
    DenyScriptsReconfig,
    ResolveHostnames,
    AnnounceHostnames,
    CurrentEpoch,
    AnnounceIp,
    AnnouncePort,
    SentinelUser,
    SentinelPass,
}

/// Statements about a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum InGroup {
    DownAfter,
    FailoverTimeout,
    ParallelSyncs,
    NotificationScript,
    ClientReconfigScript,
    AuthPass,
    AuthUser,
    MasterRebootDownAfter,
    ConfigEpoch,
    LeaderEpoch,
    KnownReplica,
    KnownSentinel,
    RenameCommand,
}

/// When a statement applies. Redis queues all statements until the whole file is read and goes through them three times, so
/// that their order in the file does not matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Pass {
    /// What concerns the sentinel itself.
    Globals,
    /// `monitor`.
    Monitors,
    /// What belongs to a group.
    Groups,
}

/// What there is to know about a statement.
#[derive(Debug)]
pub(super) struct Statement {
    pub(super) key: Key,
    /// As it is written.
    pub(super) name: &'static str,
    /// Other spellings that are read: older ones and Valkey's.
    pub(super) aliases: &'static [&'static str],
    /// Words after the name; if there can be fewer or more, see `words_max`.
    pub(super) words: usize,
    pub(super) words_max: usize,
    /// How it is written.
    pub(super) usage: &'static str,
    /// The last value may hold blanks and quotes, because Redis 7.0 writes it without quotes.
    pub(super) loose: bool,
}

const fn statement(key: Key, name: &'static str, words: usize, usage: &'static str) -> Statement {
    Statement {
        key,
        name,
        aliases: &[],
        words,
        words_max: words,
        usage,
        loose: false,
    }
}

impl Statement {
    const fn also(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    const fn loose(mut self) -> Self {
        self.loose = true;
        self
    }

    const fn up_to(mut self, words_max: usize) -> Self {
        self.words_max = words_max;
        self
    }
}

/// All statements, in the order in which Redis appends new ones to a file.
pub(super) static STATEMENTS: &[Statement] = {
    use Global::*;
    use InGroup::*;
    &[
        statement(
            Key::Global(MyId),
            "myid",
            1,
            "sentinel myid <40 hex digits>",
        ),
        statement(
            Key::Global(DenyScriptsReconfig),
            "deny-scripts-reconfig",
            1,
            "sentinel deny-scripts-reconfig <yes|no>",
        ),
        statement(
            Key::Global(ResolveHostnames),
            "resolve-hostnames",
            1,
            "sentinel resolve-hostnames <yes|no>",
        ),
        statement(
            Key::Global(AnnounceHostnames),
            "announce-hostnames",
            1,
            "sentinel announce-hostnames <yes|no>",
        ),
        statement(
            Key::Monitor,
            "monitor",
            4,
            "sentinel monitor <group> <address> <port> <quorum>",
        ),
        statement(
            Key::Group(DownAfter),
            "down-after-milliseconds",
            2,
            "sentinel down-after-milliseconds <group> <milliseconds>",
        ),
        statement(
            Key::Group(FailoverTimeout),
            "failover-timeout",
            2,
            "sentinel failover-timeout <group> <milliseconds>",
        ),
        statement(
            Key::Group(ParallelSyncs),
            "parallel-syncs",
            2,
            "sentinel parallel-syncs <group> <replicas>",
        ),
        statement(
            Key::Group(NotificationScript),
            "notification-script",
            2,
            "sentinel notification-script <group> <path>",
        )
        .loose(),
        statement(
            Key::Group(ClientReconfigScript),
            "client-reconfig-script",
            2,
            "sentinel client-reconfig-script <group> <path>",
        )
        .loose(),
        statement(
            Key::Group(AuthPass),
            "auth-pass",
            2,
            "sentinel auth-pass <group> <password>",
        )
        .loose(),
        statement(
            Key::Group(AuthUser),
            "auth-user",
            2,
            "sentinel auth-user <group> <user>",
        )
        .loose(),
        statement(
            Key::Group(MasterRebootDownAfter),
            "master-reboot-down-after-period",
            2,
            "sentinel master-reboot-down-after-period <group> <milliseconds>",
        )
        .also(&["primary-reboot-down-after-period"]),
        statement(
            Key::Group(ConfigEpoch),
            "config-epoch",
            2,
            "sentinel config-epoch <group> <epoch>",
        ),
        statement(
            Key::Group(LeaderEpoch),
            "leader-epoch",
            2,
            "sentinel leader-epoch <group> <epoch>",
        ),
        statement(
            Key::Group(KnownReplica),
            "known-replica",
            3,
            "sentinel known-replica <group> <address> <port>",
        )
        .also(&["known-slave"]),
        statement(
            Key::Group(KnownSentinel),
            "known-sentinel",
            3,
            "sentinel known-sentinel <group> <address> <port> <run id>",
        )
        .up_to(4),
        statement(
            Key::Group(RenameCommand),
            "rename-command",
            3,
            "sentinel rename-command <group> <command> <its name there>",
        ),
        statement(
            Key::Global(CurrentEpoch),
            "current-epoch",
            1,
            "sentinel current-epoch <epoch>",
        ),
        statement(
            Key::Global(AnnounceIp),
            "announce-ip",
            1,
            "sentinel announce-ip <address>",
        ),
        statement(
            Key::Global(AnnouncePort),
            "announce-port",
            1,
            "sentinel announce-port <port>",
        ),
        statement(
            Key::Global(SentinelUser),
            "sentinel-user",
            1,
            "sentinel sentinel-user <user>",
        )
        .loose(),
        statement(
            Key::Global(SentinelPass),
            "sentinel-pass",
            1,
            "sentinel sentinel-pass <password>",
        )
        .loose(),
    ]
};

impl Statement {
    /// The statement of this name or alias, in any case.
    pub(super) fn find(name: &[u8]) -> Option<&'static Self> {
        STATEMENTS.iter().find(|statement| {
            statement
                .spellings()
                .any(|spelling| name.eq_ignore_ascii_case(spelling.as_bytes()))
        })
    }

    /// The name and the aliases.
    pub(super) fn spellings(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.name).chain(self.aliases.iter().copied())
    }

    /// Is the first word after the name a group's name?
    pub(super) fn has_group(&self) -> bool {
        match self.key {
            Key::Global(_) => false,
            Key::Monitor | Key::Group(_) => true,
        }
    }

    /// When it applies.
    pub(super) fn pass(&self) -> Pass {
        match self.key {
            Key::Global(_) => Pass::Globals,
            Key::Monitor => Pass::Monitors,
            Key::Group(_) => Pass::Groups,
        }
    }

    /// Can the value be missing? Redis 7.0 writes an empty one as nothing.
    pub(super) fn may_be_empty(&self) -> bool {
        matches!(
            self.key,
            Key::Group(InGroup::AuthPass | InGroup::AuthUser)
                | Key::Global(Global::SentinelUser | Global::SentinelPass)
        )
    }

    /// Written by sentinels, not by people: what it says about a group that is no longer monitored can be dropped.
    pub(super) fn is_state(&self) -> bool {
        matches!(
            self.key,
            Key::Group(
                InGroup::ConfigEpoch
                    | InGroup::LeaderEpoch
                    | InGroup::KnownReplica
                    | InGroup::KnownSentinel
            )
        )
    }
}

impl Key {
    /// What the table says about it.
    pub(super) fn statement(self) -> &'static Statement {
        STATEMENTS
            .iter()
            .find(|statement| statement.key == self)
            .expect("the table has a row for every key")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_are_unique_and_found_in_any_case() {
        let mut seen = std::collections::BTreeSet::new();
        for statement in STATEMENTS {
            assert_eq!(statement.key.statement().name, statement.name);
            for spelling in statement.spellings() {
                assert!(seen.insert(spelling), "{spelling} is there twice");
                let found = Statement::find(spelling.to_ascii_uppercase().as_bytes());
                assert_eq!(found.unwrap().key, statement.key);
            }
        }
        assert!(Statement::find(b"known-master").is_none());
    }
}
