//! Flags and ACL categories of commands, named as `COMMAND` names them.

/// What a server says of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flags(pub(super) u32);

impl Flags {
    /// Whether one of the bits, of the constants of this module, is set.
    pub(super) const fn has(self, bits: u32) -> bool {
        self.0 & bits != 0
    }
}

macro_rules! bits {
    ($vis:vis, $($(#[$doc:meta])+ $name:ident = $bit:expr;)*) => {
        $($(#[$doc])+ $vis const $name: u32 = 1 << $bit;)*
    };
}

bits! { pub(super),
    /// May run while the server is busy with a script.
    ALLOW_BUSY = 0;
    /// `ASKING` is implied.
    ASKING = 1;
    /// May block its connection.
    BLOCKING = 2;
    /// Refused when memory is short.
    DENYOOM = 3;
    /// Constant or logarithmic time.
    FAST = 4;
    /// Allowed while the data set is loading.
    LOADING = 5;
    /// Keys are not where first, last and step say.
    MOVABLEKEYS = 6;
    /// Administrative.
    ADMIN = 7;
    /// Not while loading in the background.
    NO_ASYNC_LOADING = 8;
    /// Allowed before authentication.
    NO_AUTH = 9;
    /// May be called without keys although it can take some.
    NO_MANDATORY_KEYS = 10;
    /// Refused inside MULTI.
    NO_MULTI = 11;
    /// Refused inside scripts.
    NOSCRIPT = 12;
    /// About publish and subscribe.
    PUBSUB = 13;
    /// Changes nothing.
    READONLY = 14;
    /// Not in the slow log, which Valkey calls a command log.
    SKIP_COMMANDLOG = 15;
    /// Not shown by MONITOR.
    SKIP_MONITOR = 16;
    /// Allowed on a replica without its primary.
    STALE = 17;
    /// May change data.
    WRITE = 18;
}

/// ACL categories, a bit each.
pub mod category {
    bits! { pub,
        /// Administration.
        ADMIN = 0;
        /// Bitmaps.
        BITMAP = 1;
        /// May block.
        BLOCKING = 2;
        /// The connection itself.
        CONNECTION = 3;
        /// What can do harm.
        DANGEROUS = 4;
        /// Constant or logarithmic time.
        FAST = 5;
        /// Geographic indexes.
        GEO = 6;
        /// Hashes.
        HASH = 7;
        /// HyperLogLogs.
        HYPERLOGLOG = 8;
        /// Keys as such, whatever they hold.
        KEYSPACE = 9;
        /// Lists.
        LIST = 10;
        /// Publish and subscribe.
        PUBSUB = 11;
        /// Reads keys.
        READ = 12;
        /// Scripts and functions.
        SCRIPTING = 13;
        /// Sets.
        SET = 14;
        /// Not fast.
        SLOW = 15;
        /// Sorted sets.
        SORTEDSET = 16;
        /// Streams.
        STREAM = 17;
        /// Strings.
        STRING = 18;
        /// MULTI, EXEC and WATCH.
        TRANSACTION = 19;
        /// Writes keys.
        WRITE = 20;
    }

    /// Name and bit of every category, in the order of their names.
    pub const ALL: [(&str, u32); 21] = [
        ("admin", ADMIN),
        ("bitmap", BITMAP),
        ("blocking", BLOCKING),
        ("connection", CONNECTION),
        ("dangerous", DANGEROUS),
        ("fast", FAST),
        ("geo", GEO),
        ("hash", HASH),
        ("hyperloglog", HYPERLOGLOG),
        ("keyspace", KEYSPACE),
        ("list", LIST),
        ("pubsub", PUBSUB),
        ("read", READ),
        ("scripting", SCRIPTING),
        ("set", SET),
        ("slow", SLOW),
        ("sortedset", SORTEDSET),
        ("stream", STREAM),
        ("string", STRING),
        ("transaction", TRANSACTION),
        ("write", WRITE),
    ];

    /// The bit of a category by its name, any case, without the `@`.
    #[must_use]
    pub fn by_name(name: &str) -> Option<u32> {
        ALL.iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|&(_, bit)| bit)
    }
}
