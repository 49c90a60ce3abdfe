//! What one node says of its cluster: `CLUSTER SHARDS` (Redis 7.0 and later), or `CLUSTER SLOTS` before.

use tandem_resp::Value;

use crate::placement::SLOTS;
use crate::settings::Address;

/// One node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name in the cluster, for ever.
    pub id: String,
    /// Where clients find it.
    pub at: Address,
}

/// A primary, its replicas, its slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// Its slots are written here.
    pub primary: Node,
    /// They have what it has.
    pub replicas: Vec<Node>,
    /// First and last of each range; none: it has no slots yet, or no longer.
    pub slots: Vec<(u16, u16)>,
}

/// The cluster as one node sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// In the node's order.
    pub shards: Vec<Shard>,
}

/// Why an answer is no view.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// The node says so.
    #[error("it says: {0}")]
    Said(String),
    /// It says something else than what was asked.
    #[error("its answer is no description of a cluster")]
    Kind,
}

impl Unreadable {
    /// Whether the node does not know the command: it is older.
    #[must_use]
    pub fn is_unknown_command(&self) -> bool {
        let Self::Said(text) = self else { return false };
        let text = text.to_ascii_lowercase();
        text.contains("unknown subcommand") || text.contains("unknown command")
    }
}

/// What is said of a node.
struct Told<'v> {
    node: Node,
    role: &'v str,
    health: &'v str,
}

impl View {
    /// Reads an answer to `CLUSTER SHARDS`, of a node that was asked at `host`, with or without TLS.
    ///
    /// # Errors
    /// The node refuses, or the answer is none.
    pub fn of_shards(reply: &Value, host: &str, tls: bool) -> Result<Self, Unreadable> {
        let mut view = Self::default();
        for shard in array(reply)? {
            let fields = shard.as_array().ok_or(Unreadable::Kind)?;
            let slots = field(fields, "slots").and_then(Value::as_array);
            let nodes = field(fields, "nodes").and_then(Value::as_array);
            let nodes = nodes.ok_or(Unreadable::Kind)?;
            let slots = ranges(slots.unwrap_or_default())?;
            let told = nodes.iter().filter_map(|node| told(node, host, tls));
            view.add(slots, told.collect());
        }
        Ok(view)
    }

    /// Reads an answer to `CLUSTER SLOTS`, of a node that was asked at `host`. Shards without slots are not in it.
    ///
    /// # Errors
    /// The node refuses, or the answer is none.
    pub fn of_slots(reply: &Value, host: &str) -> Result<Self, Unreadable> {
        let mut view = Self::default();
        for range in array(reply)? {
            let Some([first, last, primary, replicas @ ..]) = range.as_array() else {
                return Err(Unreadable::Kind);
            };
            let slots = ranges(&[first.clone(), last.clone()])?;
            let Some(primary) = place(primary, host) else {
                continue;
            };
            match view.shards.iter_mut().find(|it| it.primary == primary) {
                Some(shard) => shard.slots.extend(slots),
                None => view.shards.push(Shard {
                    primary,
                    replicas: replicas.iter().filter_map(|it| place(it, host)).collect(),
                    slots,
                }),
            }
        }
        Ok(view)
    }

    fn add(&mut self, slots: Vec<(u16, u16)>, mut told: Vec<Told<'_>>) {
        let is_primary = |it: &Told<'_>| it.role == "master" || it.role == "primary";
        // After a failover the old primary may be listed beside the new one, as failed, until it is back.
        let fit = |it: &Told<'_>| is_primary(it) && !it.health.starts_with("fail");
        let primary = told.iter().position(fit);
        let failed = || {
            told.iter()
                .position(is_primary)
                .filter(|_| !slots.is_empty())
        };
        let Some(primary) = primary.or_else(failed) else {
            // Nobody there has anything, or ever will before it is told again.
            return;
        };
        let primary = told.swap_remove(primary).node;
        let replica = |it: Told<'_>| (!is_primary(&it)).then_some(it.node);
        self.shards.push(Shard {
            primary,
            replicas: told.into_iter().filter_map(replica).collect(),
            slots,
        });
    }

    /// Adds a node that another one has named, and that this view does not know.
    pub fn add_stranger(&mut self, at: &Address) {
        let known = |shard: &Shard| shard.nodes().any(|node| node.at == *at);
        if !self.shards.iter().any(known) {
            self.shards.push(Shard {
                primary: Node {
                    id: String::new(),
                    at: at.clone(),
                },
                replicas: Vec::new(),
                slots: Vec::new(),
            });
        }
    }

    /// How many slots somebody has.
    #[must_use]
    pub fn covered(&self) -> usize {
        let ranges = self.shards.iter().flat_map(|shard| &shard.slots);
        ranges
            .map(|&(first, last)| usize::from(last).saturating_sub(usize::from(first)) + 1)
            .sum()
    }
}

impl Shard {
    /// All of its nodes.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        std::iter::once(&self.primary).chain(&self.replicas)
    }
}

fn array(reply: &Value) -> Result<&[Value], Unreadable> {
    if let Some(error) = reply.as_error() {
        let text = String::from_utf8_lossy(error).into_owned();
        return Err(Unreadable::Said(text));
    }
    reply.as_array().ok_or(Unreadable::Kind)
}

/// The value behind a name in a flat list.
fn field<'v>(fields: &'v [Value], name: &str) -> Option<&'v Value> {
    fields
        .chunks_exact(2)
        .find(|pair| pair[0].as_str() == Some(name))
        .map(|pair| &pair[1])
}

/// Slots: firsts and lasts in turn.
fn ranges(ends: &[Value]) -> Result<Vec<(u16, u16)>, Unreadable> {
    let slot = |value: &Value| {
        let slot = u16::try_from(value.as_integer()?).ok()?;
        (usize::from(slot) < SLOTS).then_some(slot)
    };
    let mut ranges = Vec::new();
    for pair in ends.chunks(2) {
        let [first, last] = pair else {
            return Err(Unreadable::Kind);
        };
        match (slot(first), slot(last)) {
            (Some(first), Some(last)) if first <= last => ranges.push((first, last)),
            _ => return Err(Unreadable::Kind),
        }
    }
    Ok(ranges)
}

/// A host as a node gives it. None: that where it was asked.
fn host_of(value: Option<&Value>) -> Option<&str> {
    value
        .and_then(Value::as_str)
        .filter(|host| !host.is_empty() && *host != "?")
}

fn told<'v>(node: &'v Value, host: &str, tls: bool) -> Option<Told<'v>> {
    let fields = node.as_array()?;
    let text = |name| field(fields, name).and_then(Value::as_str);
    let port = |name| {
        let port = field(fields, name).and_then(Value::as_integer)?;
        u16::try_from(port).ok().filter(|&port| port != 0)
    };
    let endpoint = host_of(field(fields, "endpoint"));
    // A node that should have a name and has none says `?`, and still says its address; one that keeps it says nothing.
    let unnamed = text("endpoint") == Some("?");
    let ip = host_of(field(fields, "ip")).filter(|_| unnamed);
    let port = if tls {
        port("tls-port")?
    } else {
        port("port")?
    };
    Some(Told {
        node: Node {
            id: text("id")?.to_owned(),
            at: Address::Tcp {
                host: endpoint.or(ip).unwrap_or(host).to_owned(),
                port,
            },
        },
        role: text("role")?,
        health: text("health").unwrap_or("online"),
    })
}

/// A node of `CLUSTER SLOTS`: host, port, id, and in newer servers more names of it.
fn place(node: &Value, host: &str) -> Option<Node> {
    let [given, port, rest @ ..] = node.as_array()? else {
        return None;
    };
    let more = rest.get(1).and_then(Value::as_array).unwrap_or_default();
    let named = host_of(Some(given)).or_else(|| host_of(field(more, "ip")));
    Some(Node {
        id: rest
            .first()
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned(),
        at: Address::Tcp {
            host: named.unwrap_or(host).to_owned(),
            port: u16::try_from(port.as_integer()?)
                .ok()
                .filter(|&port| port != 0)?,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_resp::{Limits, ReplyDecoder};

    fn value(bytes: &[u8]) -> Value {
        let mut decoder = ReplyDecoder::new(Limits::default());
        decoder.feed(bytes);
        decoder.next_value().unwrap().unwrap()
    }

    fn at(port: u16) -> Address {
        Address::Tcp {
            host: "127.0.0.1".to_owned(),
            port,
        }
    }

    /// After slot 12182 had moved to the first shard, 5061 to a node without slots, and the first shard had failed over.
    const SHARDS: &[u8] = include_bytes!("../../tests/golden/cluster/shards-7.0.15.resp");
    const SLOTS: &[u8] = include_bytes!("../../tests/golden/cluster/slots-7.0.15.resp");

    #[test]
    fn both_commands_of_a_real_server_say_the_same() {
        let shards = View::of_shards(&value(SHARDS), "elsewhere", false).unwrap();
        let slots = View::of_slots(&value(SLOTS), "elsewhere").unwrap();
        let sorted = |view: View| {
            let mut shards = view.shards;
            shards.sort_by_key(|shard| shard.slots.clone());
            shards
        };
        let [shards, slots] = [shards, slots].map(sorted);
        assert_eq!(shards, slots);
        let ports: Vec<_> = shards.iter().map(|it| it.primary.at.clone()).collect();
        assert_eq!(ports, [at(17004), at(17003), at(17002)]);
        assert_eq!(shards[0].slots, [(0, 5060), (5062, 8191), (12182, 12182)]);
        assert_eq!(shards[0].replicas[0].at, at(17001));
    }

    fn shard(slots: &str, nodes: &[&str]) -> Value {
        let bulk = |text: &str| Value::Bulk(text.as_bytes().to_vec());
        let number = |text: &str| Value::Integer(text.parse().unwrap());
        let node = |text: &&str| {
            let fields = text.split(' ').flat_map(|pair| {
                let (name, given) = pair.split_once('=').unwrap();
                let given = match name {
                    "port" | "tls-port" => number(given),
                    _ if given == "null" => Value::Null,
                    _ => bulk(given),
                };
                [bulk(name), given]
            });
            Value::Array(fields.collect())
        };
        Value::Array(vec![Value::Array(vec![
            bulk("slots"),
            Value::Array(slots.split_terminator(' ').map(number).collect()),
            bulk("nodes"),
            Value::Array(nodes.iter().map(node).collect()),
        ])])
    }

    #[test]
    fn a_place_is_the_preferred_one_or_that_where_the_node_was_asked() {
        for (node, tls, host, port) in [
            (
                "id=a port=7000 ip=10.0.0.1 endpoint=10.0.0.1 role=master",
                false,
                "10.0.0.1",
                7000,
            ),
            (
                "id=a port=7000 ip=10.0.0.1 endpoint=n1.example role=master",
                false,
                "n1.example",
                7000,
            ),
            (
                "id=a port=7000 ip=10.0.0.1 endpoint=? role=master",
                false,
                "10.0.0.1",
                7000,
            ),
            (
                "id=a port=7000 ip=10.0.0.1 endpoint=null role=master",
                false,
                "asked",
                7000,
            ),
            (
                "id=a port=7000 tls-port=7443 ip=10.0.0.1 endpoint=10.0.0.1 role=master",
                true,
                "10.0.0.1",
                7443,
            ),
        ] {
            let view = View::of_shards(&shard("0 5", &[node]), "asked", tls).unwrap();
            let host = host.to_owned();
            assert_eq!(
                view.shards[0].primary.at,
                Address::Tcp { host, port },
                "{node}"
            );
            assert_eq!(view.covered(), 6);
        }
        let plain = "id=a port=7000 ip=10.0.0.1 endpoint=10.0.0.1 role=master";
        let view = View::of_shards(&shard("0 5", &[plain]), "asked", true).unwrap();
        assert!(view.shards.is_empty(), "it cannot be spoken to over TLS");
    }

    #[test]
    fn a_failed_primary_is_one_only_while_nobody_has_its_slots() {
        let failed = "id=a port=7000 endpoint=10.0.0.1 role=master health=fail";
        let next = "id=b port=7001 endpoint=10.0.0.1 role=master health=online";
        let view =
            |slots, nodes: &[&str]| View::of_shards(&shard(slots, nodes), "x", false).unwrap();
        assert_eq!(view("0 5", &[failed, next]).shards[0].primary.id, "b");
        assert_eq!(view("0 5", &[failed]).shards[0].primary.id, "a");
        assert_eq!(view("", &[failed]).shards.len(), 0);
        assert_eq!(view("", &[next]).shards[0].slots, []);
    }

    #[test]
    fn what_is_no_view_is_an_error() {
        let said = View::of_shards(&Value::Error(b"ERR Unknown subcommand or wrong number of arguments for 'SHARDS'. Try CLUSTER HELP.".to_vec()), "x", false);
        assert!(said.unwrap_err().is_unknown_command());
        let off = Value::Error(b"ERR This instance has cluster support disabled".to_vec());
        assert!(!View::of_slots(&off, "x").unwrap_err().is_unknown_command());
        assert_eq!(
            View::of_slots(&Value::Integer(1), "x"),
            Err(Unreadable::Kind)
        );
        assert!(View::of_shards(&shard("5 0", &[]), "x", false).is_err());
        assert!(View::of_shards(&shard("0 16384", &[]), "x", false).is_err());
        assert!(View::of_shards(&shard("0", &[]), "x", false).is_err());
    }
}
