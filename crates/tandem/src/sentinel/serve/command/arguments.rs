//! What each command takes and since when, as `COMMAND DOCS` tells it: names, types, tokens, flags and versions are what a
//! real redis-sentinel 7.0.15 answers. What changed with a version is told in our own words.

/// The type of an argument, by Redis' names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    String,
    Integer,
    Pattern,
    /// Its token is all of it.
    PureToken,
    /// One of its arguments.
    OneOf,
    /// All of its arguments in turn.
    Block,
}

impl Kind {
    /// As it is told.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Integer => "integer",
            Self::Pattern => "pattern",
            Self::PureToken => "pure-token",
            Self::OneOf => "oneof",
            Self::Block => "block",
        }
    }
}

/// One argument. Empty texts are not told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Argument {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) token: &'static str,
    pub(super) since: &'static str,
    pub(super) deprecated_since: &'static str,
    pub(super) is_optional: bool,
    pub(super) is_multiple: bool,
    pub(super) is_multiple_token: bool,
    pub(super) arguments: &'static [Argument],
}

impl Argument {
    const fn new(name: &'static str, kind: Kind) -> Self {
        Self {
            name,
            kind,
            token: "",
            since: "",
            deprecated_since: "",
            is_optional: false,
            is_multiple: false,
            is_multiple_token: false,
            arguments: &[],
        }
    }

    const fn token(self, token: &'static str) -> Self {
        Self { token, ..self }
    }

    const fn since(self, since: &'static str) -> Self {
        Self { since, ..self }
    }

    const fn deprecated(self, deprecated_since: &'static str) -> Self {
        Self {
            deprecated_since,
            ..self
        }
    }

    const fn optional(self) -> Self {
        Self {
            is_optional: true,
            ..self
        }
    }

    const fn multiple(self) -> Self {
        Self {
            is_multiple: true,
            ..self
        }
    }

    const fn each_with_token(self) -> Self {
        Self {
            is_multiple_token: true,
            ..self
        }
    }

    const fn of(self, arguments: &'static [Argument]) -> Self {
        Self { arguments, ..self }
    }
}

const fn string(name: &'static str) -> Argument {
    Argument::new(name, Kind::String)
}

const fn integer(name: &'static str) -> Argument {
    Argument::new(name, Kind::Integer)
}

const fn pattern(name: &'static str) -> Argument {
    Argument::new(name, Kind::Pattern)
}

const fn pure_token(name: &'static str) -> Argument {
    Argument::new(name, Kind::PureToken)
}

const fn oneof(name: &'static str) -> Argument {
    Argument::new(name, Kind::OneOf)
}

const fn block(name: &'static str) -> Argument {
    Argument::new(name, Kind::Block)
}

/// What a command takes; nothing for one that takes nothing.
pub(super) fn of(name: &str) -> &'static [Argument] {
    let found = ARGUMENTS.binary_search_by_key(&name, |(known, _)| known);
    found.map_or(&[], |at| ARGUMENTS[at].1)
}

/// What changed with which version.
pub(super) fn history(name: &str) -> &'static [(&'static str, &'static str)] {
    let found = HISTORY.binary_search_by_key(&name, |(known, _)| known);
    found.map_or(&[], |at| HISTORY[at].1)
}

/// Commands that another one replaced: the version, and that one.
pub(super) fn replaced(name: &str) -> Option<(&'static str, &'static str)> {
    (name == "sentinel|slaves").then_some(("5.0.0", "`SENTINEL REPLICAS`"))
}

/// In the order of their names.
#[rustfmt::skip] // A table reads by its lines.
const ARGUMENTS: &[(&str, &[Argument])] = &[
    ("acl|cat", &[
        string("categoryname").optional(),
    ]),
    ("acl|deluser", &[
        string("username").multiple(),
    ]),
    ("acl|dryrun", &[
        string("username"),
        string("command"),
        string("arg").optional().multiple(),
    ]),
    ("acl|genpass", &[
        integer("bits").optional(),
    ]),
    ("acl|getuser", &[
        string("username"),
    ]),
    ("acl|log", &[
        oneof("operation").optional().of(&[
            integer("count"),
            pure_token("reset").token("RESET"),
        ]),
    ]),
    ("acl|setuser", &[
        string("username"),
        string("rule").optional().multiple(),
    ]),
    ("auth", &[
        string("username").since("6.0.0").optional(),
        string("password"),
    ]),
    ("client|caching", &[
        oneof("mode").of(&[
            pure_token("yes").token("YES"),
            pure_token("no").token("NO"),
        ]),
    ]),
    ("client|kill", &[
        oneof("filter").of(&[
            string("ip:port").deprecated("2.8.12"),
            oneof("new-format").multiple().of(&[
                integer("client-id").token("ID").since("2.8.12").optional(),
                oneof("normal_master_slave_pubsub").token("TYPE").since("2.8.12").optional().of(&[
                    pure_token("normal").token("NORMAL"),
                    pure_token("master").token("MASTER").since("3.2.0"),
                    pure_token("slave").token("SLAVE"),
                    pure_token("replica").token("REPLICA").since("5.0.0"),
                    pure_token("pubsub").token("PUBSUB"),
                ]),
                string("username").token("USER").optional(),
                string("ip:port").token("ADDR").optional(),
                string("ip:port").token("LADDR").since("6.2.0").optional(),
                string("yes/no").token("SKIPME").optional(),
            ]),
        ]),
    ]),
    ("client|list", &[
        oneof("normal_master_replica_pubsub").token("TYPE").since("5.0.0").optional().of(&[
            pure_token("normal").token("NORMAL"),
            pure_token("master").token("MASTER"),
            pure_token("replica").token("REPLICA"),
            pure_token("pubsub").token("PUBSUB"),
        ]),
        block("id").token("ID").since("6.2.0").optional().of(&[
            integer("client-id").multiple(),
        ]),
    ]),
    ("client|no-evict", &[
        oneof("enabled").of(&[
            pure_token("on").token("ON"),
            pure_token("off").token("OFF"),
        ]),
    ]),
    ("client|pause", &[
        integer("timeout"),
        oneof("mode").since("6.2.0").optional().of(&[
            pure_token("write").token("WRITE"),
            pure_token("all").token("ALL"),
        ]),
    ]),
    ("client|reply", &[
        oneof("on_off_skip").of(&[
            pure_token("on").token("ON"),
            pure_token("off").token("OFF"),
            pure_token("skip").token("SKIP"),
        ]),
    ]),
    ("client|setname", &[
        string("connection-name"),
    ]),
    ("client|tracking", &[
        oneof("status").of(&[
            pure_token("on").token("ON"),
            pure_token("off").token("OFF"),
        ]),
        integer("client-id").token("REDIRECT").optional(),
        string("prefix").token("PREFIX").optional().multiple().each_with_token(),
        pure_token("bcast").token("BCAST").optional(),
        pure_token("optin").token("OPTIN").optional(),
        pure_token("optout").token("OPTOUT").optional(),
        pure_token("noloop").token("NOLOOP").optional(),
    ]),
    ("client|unblock", &[
        integer("client-id"),
        oneof("timeout_error").optional().of(&[
            pure_token("timeout").token("TIMEOUT"),
            pure_token("error").token("ERROR"),
        ]),
    ]),
    ("command|docs", &[
        string("command-name").optional().multiple(),
    ]),
    ("command|info", &[
        string("command-name").optional().multiple(),
    ]),
    ("command|list", &[
        oneof("filterby").token("FILTERBY").optional().of(&[
            string("module-name").token("MODULE"),
            string("category").token("ACLCAT"),
            pattern("pattern").token("PATTERN"),
        ]),
    ]),
    ("hello", &[
        block("arguments").optional().of(&[
            integer("protover"),
            block("username_password").token("AUTH").optional().of(&[
                string("username"),
                string("password"),
            ]),
            string("clientname").token("SETNAME").optional(),
        ]),
    ]),
    ("info", &[
        string("section").optional().multiple(),
    ]),
    ("ping", &[
        string("message").optional(),
    ]),
    ("psubscribe", &[
        block("pattern").multiple().of(&[
            pattern("pattern"),
        ]),
    ]),
    ("publish", &[
        string("channel"),
        string("message"),
    ]),
    ("punsubscribe", &[
        pattern("pattern").optional().multiple(),
    ]),
    ("sentinel|ckquorum", &[
        string("master-name"),
    ]),
    ("sentinel|config", &[
        oneof("set_or_get").of(&[
            block("set_param_value").token("SET").multiple().of(&[
                string("parameter"),
                string("value"),
            ]),
            string("parameter").token("GET").multiple(),
        ]),
    ]),
    ("sentinel|debug", &[
        block("parameter_value").multiple().of(&[
            string("parameter"),
            string("value"),
        ]),
    ]),
    ("sentinel|failover", &[
        string("master-name"),
    ]),
    ("sentinel|get-master-addr-by-name", &[
        string("master-name"),
    ]),
    ("sentinel|info-cache", &[
        string("nodename").multiple(),
    ]),
    ("sentinel|is-master-down-by-addr", &[
        string("ip"),
        integer("port"),
        integer("current-epoch"),
        string("runid"),
    ]),
    ("sentinel|master", &[
        string("master-name"),
    ]),
    ("sentinel|monitor", &[
        string("name"),
        string("ip"),
        integer("port"),
        integer("quorum"),
    ]),
    ("sentinel|remove", &[
        string("master-name"),
    ]),
    ("sentinel|replicas", &[
        string("master-name"),
    ]),
    ("sentinel|reset", &[
        pattern("pattern"),
    ]),
    ("sentinel|sentinels", &[
        string("master-name"),
    ]),
    ("sentinel|set", &[
        string("master-name"),
        block("option_value").multiple().of(&[
            string("option"),
            string("value"),
        ]),
    ]),
    ("sentinel|simulate-failure", &[
        oneof("mode").optional().multiple().of(&[
            pure_token("crash-after-election"),
            pure_token("crash-after-promotion"),
            pure_token("help"),
        ]),
    ]),
    ("sentinel|slaves", &[
        string("master-name"),
    ]),
    ("shutdown", &[
        oneof("nosave_save").optional().of(&[
            pure_token("nosave").token("NOSAVE"),
            pure_token("save").token("SAVE"),
        ]),
        pure_token("now").token("NOW").since("7.0.0").optional(),
        pure_token("force").token("FORCE").since("7.0.0").optional(),
        pure_token("abort").token("ABORT").since("7.0.0").optional(),
    ]),
    ("subscribe", &[
        string("channel").multiple(),
    ]),
    ("unsubscribe", &[
        string("channel").optional().multiple(),
    ]),
];

/// In the order of their names.
#[rustfmt::skip] // A table reads by its lines.
const HISTORY: &[(&str, &[(&str, &str)])] = &[
    ("acl|getuser", &[
        ("6.2.0", "Shows patterns of channels."),
        ("7.0.0", "Shows selectors, and keys and channels as the rules that would set them."),
    ]),
    ("acl|setuser", &[
        ("6.2.0", "Takes patterns of channels."),
        ("7.0.0", "Takes selectors, and permissions to read or write by key."),
    ]),
    ("auth", &[("6.0.0", "Takes the name of a user before the password.")]),
    ("client|kill", &[
        ("2.8.12", "Takes filters besides an address."),
        ("2.8.12", "Takes the filter `ID`."),
        ("3.2.0", "Takes `TYPE master`."),
        ("5.0.0", "Takes `TYPE replica`, which is the same as `slave`."),
        ("6.2.0", "Takes the filter `LADDR`."),
    ]),
    ("client|list", &[
        ("2.8.12", "Shows the client's `id`."),
        ("5.0.0", "Takes the filter `TYPE`."),
        ("6.0.0", "Shows the `user`."),
        ("6.2.0", "Shows `argv-mem`, `tot-mem`, `laddr` and `redir`, and takes the filter `ID`."),
        ("7.0.0", "Shows `resp`, `multi-mem`, `rbs` and `rbp`."),
        ("7.0.3", "Shows `ssub`."),
    ]),
    ("client|pause", &[("6.2.0", "Takes a mode, and with `WRITE` holds back writes only.")]),
    ("command|info", &[("7.0.0", "Tells about all commands when none is named.")]),
    ("hello", &[("6.2.0", "Tells about the connection when no version is named.")]),
    ("info", &[("7.0.0", "Takes several sections.")]),
    ("shutdown", &[("7.0.0", "Takes `NOW`, `FORCE` and `ABORT`.")]),
];

#[cfg(test)]
mod tests {
    use super::super::CommandId;
    use super::*;

    #[test]
    fn the_tables_are_in_order_and_about_commands() {
        assert!(ARGUMENTS.is_sorted_by_key(|(name, _)| name));
        assert!(HISTORY.is_sorted_by_key(|(name, _)| name));
        let names = ARGUMENTS.iter().map(|(name, _)| name);
        for name in names.chain(HISTORY.iter().map(|(name, _)| name)) {
            assert!(CommandId::by_name(name.as_bytes()).is_some(), "{name}");
        }
        assert_eq!(of("sentinel|failover").len(), 1);
        assert!(of("sentinel|masters").is_empty());
    }
}
