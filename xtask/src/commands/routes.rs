//! How the proxy treats each command: rules over what servers announce, and the exceptions to them.
//!
//! The rules are asked in the order in which [`route`] has them. An exception is a line of [`EXCEPTIONS`] with its reason:
//! there is no other place where a command is known by name, but for the kinds of state and of own answers that follow
//! from a name alone ([`STATES`]).

use super::data::{Begin, Entry, Find};

/// Commands that the rules would get wrong: name, `Route` as Rust writes it, and why.
const EXCEPTIONS: [(&str, &str, &str); 50] = [
    ("acl|cat", "AnyShard", "the same list on every server"),
    (
        "acl|genpass",
        "AnyShard",
        "asks for chance, not for a server",
    ),
    (
        "acl|whoami",
        "Local(Local::WhoAmI)",
        "who the client is to the proxy, not who the proxy is to a server",
    ),
    (
        "asking",
        "Local(Local::ClusterDisabled)",
        "clients see one server that is no cluster",
    ),
    (
        "clusterscan",
        "Local(Local::ClusterDisabled)",
        "clients see one server that is no cluster",
    ),
    (
        "commandlog|get",
        "AllNodes(Merge::Concatenate)",
        "as SLOWLOG GET, under Valkey's name",
    ),
    (
        "commandlog|len",
        "AllNodes(Merge::Sum)",
        "as SLOWLOG LEN, under Valkey's name",
    ),
    (
        "commandlog|reset",
        "AllNodes(Merge::AllSucceeded)",
        "as SLOWLOG RESET, under Valkey's name",
    ),
    (
        "config|get",
        "Local(Local::ConfigGet)",
        "clients ask it on connecting; the servers' own settings stay with them",
    ),
    (
        "echo",
        "Local(Local::Echo)",
        "asks about the connection, not about data",
    ),
    (
        "failover",
        "Refused(Refusal::Role)",
        "the role of a server is tandem's to change",
    ),
    (
        "function|dump",
        "AnyShard",
        "functions are loaded everywhere",
    ),
    (
        "function|list",
        "AnyShard",
        "functions are loaded everywhere",
    ),
    (
        "function|stats",
        "OnlyShard",
        "no merge of what runs on several servers is one server's answer",
    ),
    ("info", "AllShards(Merge::Info)", "its `special` merge"),
    ("lastsave", "OnlyShard", "a time of one server"),
    ("latency|doctor", "OnlyShard", "prose about one server"),
    ("latency|graph", "OnlyShard", "a picture of one server"),
    (
        "latency|histogram",
        "OnlyShard",
        "times of one server; the proxy has its own",
    ),
    ("latency|history", "OnlyShard", "times of one server"),
    ("latency|latest", "OnlyShard", "times of one server"),
    (
        "latency|reset",
        "AllNodes(Merge::Sum)",
        "administrative, but it destroys measurements only",
    ),
    ("lolwut", "AnyShard", "no data"),
    ("memory|doctor", "OnlyShard", "prose about one server"),
    ("memory|malloc-stats", "OnlyShard", "prose about one server"),
    ("memory|stats", "OnlyShard", "numbers of one server"),
    (
        "migrate",
        "Refused(Refusal::MovesKeys)",
        "takes keys from where the proxy looks for them",
    ),
    (
        "msetex",
        "Keys",
        "NX and XX promise all or nothing, which two servers cannot keep",
    ),
    (
        "msetnx",
        "Keys",
        "promises all or nothing, which two servers cannot keep",
    ),
    ("module|list", "OnlyShard", "the modules of one server"),
    (
        "monitor",
        "Monitor",
        "client libraries have it; who may is the server's to say",
    ),
    (
        "ping",
        "Local(Local::Ping)",
        "asks whether the other end of the connection lives: that is the proxy",
    ),
    (
        "psync",
        "Refused(Refusal::Replication)",
        "turns a shared connection into a stream",
    ),
    (
        "randomkey",
        "AllShards(Merge::Pick)",
        "one of the keys that the shards name",
    ),
    (
        "readonly",
        "Local(Local::ClusterDisabled)",
        "clients see one server that is no cluster",
    ),
    (
        "readwrite",
        "Local(Local::ClusterDisabled)",
        "clients see one server that is no cluster",
    ),
    (
        "replconf",
        "Refused(Refusal::Replication)",
        "belongs to a replication link",
    ),
    (
        "replicaof",
        "Refused(Refusal::Role)",
        "the role of a server is tandem's to change",
    ),
    (
        "restore-asking",
        "Refused(Refusal::MovesKeys)",
        "belongs to the migration of a cluster",
    ),
    (
        "role",
        "Local(Local::Role)",
        "the proxy is a primary without replicas to its clients",
    ),
    (
        "script|debug",
        "Refused(Refusal::Administration)",
        "stops a server for everybody",
    ),
    ("script|show", "AnyShard", "scripts are loaded everywhere"),
    (
        "shutdown",
        "Refused(Refusal::Role)",
        "ends a server that tandem would start again or replace",
    ),
    (
        "slaveof",
        "Refused(Refusal::Role)",
        "the role of a server is tandem's to change",
    ),
    (
        "slowlog|get",
        "AllNodes(Merge::Concatenate)",
        "administrative, but it only looks",
    ),
    (
        "slowlog|len",
        "AllNodes(Merge::Sum)",
        "administrative, but it only looks",
    ),
    (
        "slowlog|reset",
        "AllNodes(Merge::AllSucceeded)",
        "administrative, but it destroys measurements only",
    ),
    (
        "swapdb",
        "Refused(Refusal::MovesKeys)",
        "not at one moment on several servers, and under other clients' connections",
    ),
    (
        "sync",
        "Refused(Refusal::Replication)",
        "turns a shared connection into a stream",
    ),
    ("time", "AnyShard", "no data"),
];

/// Commands about the client's own connection or transaction, and subscriptions: what each is follows from its name.
const STATES: [(&str, &str); 18] = [
    ("auth", "Connection(Connection::Auth)"),
    ("discard", "Transaction(Transaction::Discard)"),
    ("exec", "Transaction(Transaction::Exec)"),
    ("hello", "Connection(Connection::Hello)"),
    ("multi", "Transaction(Transaction::Multi)"),
    (
        "psubscribe",
        "PubSub(PubSub::Subscribe(Channels::Patterns))",
    ),
    ("publish", "PubSub(PubSub::Publish(Channels::Plain))"),
    (
        "punsubscribe",
        "PubSub(PubSub::Unsubscribe(Channels::Patterns))",
    ),
    ("quit", "Connection(Connection::Quit)"),
    ("reset", "Connection(Connection::Reset)"),
    ("select", "Connection(Connection::Select)"),
    ("spublish", "PubSub(PubSub::Publish(Channels::Sharded))"),
    ("ssubscribe", "PubSub(PubSub::Subscribe(Channels::Sharded))"),
    ("subscribe", "PubSub(PubSub::Subscribe(Channels::Plain))"),
    (
        "sunsubscribe",
        "PubSub(PubSub::Unsubscribe(Channels::Sharded))",
    ),
    (
        "unsubscribe",
        "PubSub(PubSub::Unsubscribe(Channels::Plain))",
    ),
    ("unwatch", "Transaction(Transaction::Unwatch)"),
    ("watch", "Transaction(Transaction::Watch)"),
];

/// The variant of `Route` for a command, as Rust writes it.
pub(super) fn route(entry: &Entry) -> Result<String, String> {
    let name = entry.name.as_str();
    let container = name.split('|').next().unwrap_or(name);
    if let Some((_, route, _)) = EXCEPTIONS.iter().find(|(known, _, _)| *known == name) {
        return Ok((*route).to_owned());
    }
    if let Some((_, route)) = STATES.iter().find(|(known, _)| *known == name) {
        return Ok((*route).to_owned());
    }
    if container == "command" {
        return Ok("Local(Local::Command)".to_owned());
    }
    if container == "cluster" && name != container {
        return Ok("Local(Local::ClusterDisabled)".to_owned());
    }
    if !entry.subs.is_empty() {
        return Ok("Container".to_owned());
    }
    if name.ends_with("|help") {
        return Ok("AnyShard".to_owned());
    }
    if container == "client" {
        return Ok("Connection(Connection::Client)".to_owned());
    }
    if container == "pubsub" {
        return Ok("PubSub(PubSub::Inspect)".to_owned());
    }
    if entry.flag("admin") {
        return Ok("Refused(Refusal::Administration)".to_owned());
    }
    if entry.category("scripting") && entry.flag("movablekeys") {
        return Ok("Script".to_owned());
    }
    if entry.flag("blocking") {
        return blocking(entry);
    }
    match entry.tip("request_policy") {
        Some("multi_shard") => return split(entry),
        Some("all_shards") => return Ok(format!("AllShards(Merge::{})", merge(entry)?)),
        Some("all_nodes") => return Ok(format!("AllNodes(Merge::{})", merge(entry)?)),
        Some("special") if name == "scan" => return Ok("Scan".to_owned()),
        Some(other) => return Err(format!("{name}: no rule for request_policy {other}")),
        None => {}
    }
    match &entry.specs[..] {
        [] => Err(format!("{name}: no key, no tip: it needs an exception")),
        [only] => match (&only.begin, &only.find) {
            (Begin::Index(at), Find::Range { last: 0, .. }) => Ok(format!("OneKey {{ at: {at} }}")),
            _ => Ok("Keys".to_owned()),
        },
        _ => Ok("Keys".to_owned()),
    }
}

/// Where a blocking command has its timeout: the first argument before a number of keys, the last one after keys,
/// an option of the stream commands.
fn blocking(entry: &Entry) -> Result<String, String> {
    let timeout = match &entry.specs[..] {
        // WAIT and WAITAOF.
        [] => return Ok("Wait".to_owned()),
        [spec, ..] => match (&spec.begin, &spec.find) {
            (Begin::Index(2), Find::KeyNum { .. }) => "First",
            (Begin::Index(1), Find::Range { .. }) => "Last",
            (Begin::Keyword { .. }, _) => "Option",
            _ => return Err(format!("{}: where is its timeout?", entry.name)),
        },
    };
    Ok(format!("Blocking(Timeout::{timeout})"))
}

fn split(entry: &Entry) -> Result<String, String> {
    let [spec] = &entry.specs[..] else {
        return Err(format!("{}: split over several specifications", entry.name));
    };
    match (&spec.begin, &spec.find) {
        (
            Begin::Index(first),
            Find::Range {
                last: -1,
                step,
                limit: 0,
            },
        ) => {
            let merge = if entry.tip("response_policy").is_none() {
                "InOrder"
            } else {
                merge(entry)?
            };
            Ok(format!(
                "Split {{ first: {first}, step: {step}, merge: Merge::{merge} }}"
            ))
        }
        _ => Err(format!("{}: no rule to split it", entry.name)),
    }
}

/// The merge of a reply policy. Without one, replies to commands without keys are joined.
fn merge(entry: &Entry) -> Result<&'static str, String> {
    Ok(match entry.tip("response_policy") {
        None => "Concatenate",
        Some("one_succeeded") => "OneSucceeded",
        Some("all_succeeded") => "AllSucceeded",
        Some("agg_logical_and") => "And",
        Some("agg_logical_or") => "Or",
        Some("agg_min") => "Min",
        Some("agg_max") => "Max",
        Some("agg_sum") => "Sum",
        Some(other) => return Err(format!("{}: no merge for {other}", entry.name)),
    })
}

/// The hand-written extractor of a command whose specifications are not the whole truth.
pub(super) fn extractor(entry: &Entry) -> Result<&'static str, String> {
    let whole = entry.specs.iter().all(|spec| {
        spec.begin != Begin::Unknown
            && spec.find != Find::Unknown
            && !spec.flags.contains("incomplete")
    });
    let keywords = entry
        .specs
        .iter()
        .filter(|spec| matches!(spec.begin, Begin::Keyword { .. }))
        .count();
    Ok(match entry.name.as_str() {
        "sort" | "sort_ro" => "Sort",
        "migrate" => "Migrate",
        // Of STORE and STOREDIST the later one counts, which two specifications cannot say.
        "georadius" | "georadiusbymember" => "Georadius",
        name if !whole || keywords > 1 => {
            return Err(format!("{name}: its keys need an extractor"));
        }
        _ => "Specs",
    })
}

/// Names in the tables above that no server has: a line there that means nothing.
pub(super) fn unknown_exceptions(known: impl Fn(&str) -> bool) -> Vec<&'static str> {
    let named = EXCEPTIONS.iter().map(|(name, _, _)| *name);
    named
        .chain(STATES.iter().map(|(name, _)| *name))
        .filter(|name| !known(name))
        .collect()
}
