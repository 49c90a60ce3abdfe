//! The ways in which a proxy can treat a command.
//!
//! Which command goes which way is in the generated table; its rules and exceptions, with a reason for each, are in
//! `xtask/src/commands/routes.rs`.

/// How the proxy treats a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// One key, at this argument (the name is argument 0). Goes to its shard as it came.
    OneKey {
        /// The argument.
        at: u8,
    },
    /// Each key could be a command of its own: cut by shard, replies merged.
    Split {
        /// Argument of the first key.
        first: u8,
        /// From key to key: 2 where a value follows each.
        step: u8,
        /// How.
        merge: Merge,
    },
    /// All its keys have to be on one shard; [`keys`](super::keys()) finds them. With several shards and keys on more than
    /// one of them it is refused with CROSSSLOT.
    Keys,
    /// A script or function. As [`Route::Keys`]; without keys any shard will do.
    Script,
    /// As [`Route::Keys`], and it may block: goes over a connection of its own. Whether and how long one call blocks
    /// says [`blocks_for`](super::blocks_for).
    Blocking(Timeout),
    /// WAIT and WAITAOF: concern the writes of this client, on every shard it wrote to.
    Wait,
    /// Any one shard knows the answer.
    AnyShard,
    /// About one server as such: sent when the pool has only one, else refused with [`Refusal::OneServer`].
    OnlyShard,
    /// Sent to the primary of every shard.
    AllShards(Merge),
    /// Sent to every server there is, replicas too.
    AllNodes(Merge),
    /// SCAN: shard after shard, with a cursor that says where it is.
    Scan,
    /// Publish and subscribe.
    PubSub(PubSub),
    /// MONITOR: what one server executes, over a connection of its own.
    Monitor,
    /// MULTI, EXEC and what belongs to them.
    Transaction(Transaction),
    /// Reads or changes the state of the client's connection.
    Connection(Connection),
    /// Answered by the proxy.
    Local(Local),
    /// Nothing by itself: [`Command::sub`](super::Command::sub) has the command. Alone, it lacks an argument.
    Container,
    /// Answered with an error that names the way to do it.
    Refused(Refusal),
}

/// How several replies become one. Any error among them is the reply, unless said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merge {
    /// Arrays whose elements belong to the keys: back in the order of the keys.
    InOrder,
    /// One array of all elements, in any order.
    Concatenate,
    /// The sum of integers.
    Sum,
    /// The smallest integer.
    Min,
    /// The largest integer.
    Max,
    /// Integers, or arrays element by element: 1 where all have 1.
    And,
    /// Integers, or arrays element by element: 1 where one has 1.
    Or,
    /// Any of the replies.
    AllSucceeded,
    /// The first reply that is no error; an error if all are.
    OneSucceeded,
    /// One of those that are not null, else null.
    Pick,
    /// INFO: fields of several servers in one text.
    Info,
}

/// Where a blocking command says how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timeout {
    /// The argument after the name, in seconds with a fraction; 0 is for ever.
    First,
    /// The last argument, likewise.
    Last,
    /// The option BLOCK of the stream commands, in whole milliseconds; without it nothing blocks.
    Option,
}

/// Publish and subscribe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PubSub {
    /// All arguments are channels or patterns.
    Subscribe(Channels),
    /// Likewise; none means all.
    Unsubscribe(Channels),
    /// The channel is argument 1.
    Publish(Channels),
    /// PUBSUB: who listens to what.
    Inspect,
}

/// What a subscription names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channels {
    /// Channels by name.
    Plain,
    /// Patterns over plain channels.
    Patterns,
    /// Channels that live on the shard of their name.
    Sharded,
}

/// Transactions within a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transaction {
    /// Begins one.
    Multi,
    /// Runs it.
    Exec,
    /// Forgets it.
    Discard,
    /// All arguments are keys.
    Watch,
    /// Forgets what is watched.
    Unwatch,
}

/// State of the client's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connection {
    /// User and password.
    Auth,
    /// Protocol version, and user, password and name.
    Hello,
    /// The database.
    Select,
    /// A sub-command of CLIENT, which [`Command::name`](super::Command::name) tells.
    Client,
    /// Back to a new connection's state.
    Reset,
    /// The end.
    Quit,
}

/// What the proxy answers by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Local {
    /// PONG, or the argument.
    Ping,
    /// The argument.
    Echo,
    /// COMMAND and its sub-commands: as one standalone server.
    Command,
    /// CONFIG GET.
    ConfigGet,
    /// ROLE.
    Role,
    /// ACL WHOAMI.
    WhoAmI,
    /// CLUSTER and what belongs to clusters: the error of a server that is none.
    ClusterDisabled,
}

/// Why a command is not let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// For those who run the server.
    Administration,
    /// Would change who is primary, or end a server.
    Role,
    /// Belongs to a replication link.
    Replication,
    /// Would take keys from where the proxy looks for them.
    MovesKeys,
    /// Asks about one server, and the pool has several.
    OneServer,
    /// Waits for a message to reach replicas, which in a cluster it does in another way.
    Cluster,
}

impl Refusal {
    /// The rest of the error after `ERR <command> `: why, and what to do instead.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Administration => {
                "is not let through the proxy: it administers one server; run it on the server itself"
            }
            Self::Role => {
                "is not let through the proxy: the roles of servers are managed; use 'tandem switchover' or the server itself"
            }
            Self::Replication => {
                "is not let through the proxy: a replica has to connect to its primary itself"
            }
            Self::MovesKeys => {
                "is not let through the proxy: it would move keys to where the proxy does not look for them; use DUMP and RESTORE, or run it on the server itself"
            }
            Self::OneServer => {
                "asks about one server and this address has several behind it; run it on the server itself"
            }
            Self::Cluster => {
                "is not possible over a Redis Cluster: it waits behind a message, and there replicas do not get messages from their primary; ask the node that has the key"
            }
        }
    }
}
