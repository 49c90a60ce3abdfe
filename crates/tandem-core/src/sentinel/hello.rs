//! Hello messages: how sentinels find each other and learn who is primary.
//!
//! Format and order of processing are Redis' (`sentinel.c`). What Redis takes on trust has a rule here:
//!
//! - Nonsense (not eight words, a port or an epoch that is no number, an id that is not forty hex digits, a host that is
//!   no address while names are off) is dropped without a trace beyond a debug line.
//! - Our own id from somebody else is dropped: either it is our own message, or two sentinels share a file, and
//!   neither may learn anything from the other.
//! - An epoch more than 2^32 above ours is refused and told ([`Kind::MinusHelloRefused`]): no fleet gets there by
//!   elections, and adopting 2^64 - 1 would end elections for good.
//! - A fleet that has a group of the same name does not move ours: stranger.rs.
//! - No more than [`PEERS_MAX`] sentinels per group: beyond that somebody makes them up.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use tandem_resp::Value;
use thiserror::Error;

use crate::sentinel::due::Key;
use crate::sentinel::events::Kind;
use crate::sentinel::ids::{ConfigEpoch, ElectionEpoch, Endpoint, GroupName, SentinelId};
use crate::sentinel::io::{Level, Output, RequestId};
use crate::sentinel::machine::Sentinel;
use crate::sentinel::model::{Expect, Group, GroupId, LinkId, Owner};
use crate::sentinel::periodic::JITTER_PART;
use crate::sentinel::stranger::Word;

/// The channel.
pub const CHANNEL: &str = "__sentinel__:hello";
/// Sentinels of one group, ourselves not counted.
pub const PEERS_MAX: usize = 128;
/// An epoch may be this much newer than ours.
pub const EPOCH_LEAP_MAX: u64 = 1 << 32;

/// What one message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Where the sender listens.
    pub at: Endpoint,
    /// Its id.
    pub id: SentinelId,
    /// The newest election it knows of.
    pub current_epoch: ElectionEpoch,
    /// The group.
    pub group: GroupName,
    /// The primary that clients should use.
    pub primary: Endpoint,
    /// The configuration that says so.
    pub config_epoch: ConfigEpoch,
}

/// Why a text is no hello. The sender's fault, always; the same text is wrong again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HelloError {
    /// Not eight words.
    #[error("not eight words")]
    Words,
    /// Not text.
    #[error("not text")]
    Text,
    /// A port that is none.
    #[error("no port")]
    Port,
    /// An id that is none.
    #[error("no id")]
    Id,
    /// An epoch that is no number.
    #[error("no epoch")]
    Epoch,
    /// An empty host or group.
    #[error("an empty word")]
    Empty,
}

impl Hello {
    /// Reads a message.
    ///
    /// # Errors
    /// [`HelloError`], the first thing that is wrong.
    pub fn parse(message: &[u8]) -> Result<Self, HelloError> {
        let text = std::str::from_utf8(message).map_err(|_| HelloError::Text)?;
        let mut words = text.split(',');
        let mut word = || words.next().ok_or(HelloError::Words);
        let (host, port, id, current, group, primary_host, primary_port, config) = (
            word()?,
            word()?,
            word()?,
            word()?,
            word()?,
            word()?,
            word()?,
            word()?,
        );
        if words.next().is_some() {
            return Err(HelloError::Words);
        }
        if [host, group, primary_host].contains(&"") {
            return Err(HelloError::Empty);
        }
        let port_of = |word: &str| {
            word.parse::<u16>()
                .ok()
                .filter(|port| *port != 0)
                .ok_or(HelloError::Port)
        };
        let number = |word: &str| word.parse::<u64>().map_err(|_| HelloError::Epoch);
        Ok(Self {
            at: Endpoint::new(host, port_of(port)?),
            id: SentinelId::parse(id).ok_or(HelloError::Id)?,
            current_epoch: ElectionEpoch(number(current)?),
            group: GroupName(group.to_owned()),
            primary: Endpoint::new(primary_host, port_of(primary_port)?),
            config_epoch: ConfigEpoch(number(config)?),
        })
    }

    /// The message.
    #[must_use]
    pub fn format(&self) -> String {
        let mut text = String::with_capacity(128);
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "{},{},{},{},{},{},{},{}",
            self.at.host,
            self.at.port,
            self.id,
            self.current_epoch,
            self.group,
            self.primary.host,
            self.primary.port,
            self.config_epoch
        );
        text
    }
}

/// Saying it.
impl Sentinel {
    fn hello_for(&self, group: &Group, local: Option<IpAddr>) -> Option<Hello> {
        let globals = &self.globals;
        let host = match &globals.announce_ip {
            Some(host) => host.clone(),
            None => local?.to_string(),
        };
        let tls = globals.tls_replication && globals.tls_port != 0;
        let port =
            globals
                .announce_port
                .unwrap_or(if tls { globals.tls_port } else { globals.port });
        Some(Hello {
            at: Endpoint::new(host, port),
            id: self.id.clone(),
            current_epoch: self.current_epoch,
            group: group.settings.name.clone(),
            primary: self.announce().endpoint(group.current_address()),
            config_epoch: group.config_epoch,
        })
    }

    /// Publishes our hello on a server.
    pub(super) fn publish_hello(&mut self, id: LinkId) {
        let publish = self.periods.publish;
        let early = self.random.between(Duration::ZERO, publish / JITTER_PART);
        let next = self.now + publish.saturating_sub(early);
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        let (Owner::Primary(group) | Owner::Replica(group, _)) = link.owner else {
            return;
        };
        link.hello_at = next;
        let local = link.local;
        self.send_hello(id, group, local);
    }

    fn send_hello(&mut self, id: LinkId, group: GroupId, local: Option<IpAddr>) {
        let Some(hello) = self
            .groups
            .get(&group)
            .and_then(|group| self.hello_for(group, local))
        else {
            return;
        };
        let words = ["PUBLISH", CHANNEL, &hello.format()].map(|word| word.as_bytes().to_vec());
        self.send(id, words.to_vec(), Expect::Published(group));
    }

    /// Sends our hello of one group to the other sentinels directly, where it is due.
    ///
    /// # Returns
    /// When the next one is due.
    pub(super) fn hello_to_peers(&mut self, id: GroupId) -> Option<std::time::Instant> {
        let now = self.now;
        let publish = self.periods.publish;
        let group = self.groups.get_mut(&id)?;
        let mut due = Vec::new();
        let mut next = None;
        for peer in group.peers.values_mut() {
            let Some(link) = self.links.get(&peer.link).filter(|link| link.is_up()) else {
                continue;
            };
            if peer.hello_at <= now {
                peer.hello_at = now + publish;
                due.push((peer.link, link.local));
            }
            next = crate::sentinel::due::earlier(next, Some(peer.hello_at));
        }
        for (link, local) in due {
            if self.may_send(link) {
                self.send_hello(link, id, local);
            }
        }
        next
    }

    /// Says hello everywhere at once: the configuration has changed.
    pub(super) fn hello_everywhere(&mut self, id: GroupId) {
        let now = self.now;
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        for peer in group.peers.values_mut() {
            peer.hello_at = now;
        }
        for link in crate::sentinel::links::server_links(group) {
            if let Some(link) = self.links.get_mut(&link) {
                link.hello_at = now;
            }
            self.due.set(Key::Link(link), now);
        }
        self.hello_to_peers(id);
    }
}

/// Hearing it.
impl Sentinel {
    /// A message on a hearing connection.
    pub(super) fn heard(&mut self, conn: crate::sentinel::ConnId, channel: &[u8], message: &[u8]) {
        let Some(&(id, _)) = self.conns.get(&conn) else {
            return;
        };
        if let Some(link) = self.links.get_mut(&id) {
            link.pubsub_activity = self.now;
        }
        let own = self.id.as_str().as_bytes();
        if channel == CHANNEL.as_bytes() && !message.windows(own.len()).any(|part| part == own) {
            self.take_hello(message);
        }
    }

    /// PUBLISH from another sentinel.
    pub(super) fn asked_publish(&mut self, request: RequestId, channel: &[u8], message: &[u8]) {
        let value = if channel == CHANNEL.as_bytes() {
            self.take_hello(message);
            Value::Integer(1)
        } else {
            let text = "ERR Only HELLO messages are accepted by Sentinel instances.";
            Value::Error(text.as_bytes().to_vec())
        };
        self.out.push(Output::Answer { request, value });
    }

    /// Believes a message as far as the rules of this module allow.
    pub(super) fn take_hello(&mut self, message: &[u8]) {
        let hello = match Hello::parse(message) {
            Ok(hello) => hello,
            Err(error) => {
                self.log(Level::Debug, format!("A hello is dropped: {error}"));
                return;
            }
        };
        let Some(&id) = self.names.get(&hello.group) else {
            return;
        };
        if hello.id == self.id || !self.takes_host(&hello.at.host) {
            return;
        }
        let newest = hello.current_epoch.0.max(hello.config_epoch.0);
        if newest.saturating_sub(self.current_epoch.0) > EPOCH_LEAP_MAX {
            self.refuse_hello(id, &hello, "its epoch is from the far future");
            return;
        }
        let known = self.meet(id, &hello);
        if hello.current_epoch > self.current_epoch {
            self.history = true;
            self.adopt_epoch(id, hello.current_epoch);
            self.save_soon();
        }
        self.take_configuration(id, &hello, known);
        let now = self.now;
        if let Some(peer) = self
            .groups
            .get_mut(&id)
            .and_then(|group| group.peers.get_mut(&hello.id))
        {
            peer.last_hello = Some(now);
            peer.last_seen = now;
        }
        self.acquaint(id, &hello);
    }

    /// Host names count only where they can be looked up.
    fn takes_host(&self, host: &str) -> bool {
        self.globals.resolve_hostnames || host.parse::<IpAddr>().is_ok()
    }

    pub(super) fn refuse_hello(&mut self, id: GroupId, hello: &Hello, why: &str) {
        let at = match self.groups.get(&id) {
            Some(group) => group.primary.at.clone(),
            None => return,
        };
        let detail = format!("{why}: {}", hello.format());
        self.tell_server_with(id, &at, Kind::MinusHelloRefused, detail);
    }

    /// Enters the sender into the group.
    ///
    /// # Returns
    /// Whether it was known there before, with this address.
    fn meet(&mut self, id: GroupId, hello: &Hello) -> bool {
        let Some(group) = self.groups.get(&id) else {
            return false;
        };
        if let Some(peer) = group.peers.get(&hello.id) {
            if peer.at == hello.at {
                return true;
            }
            self.peer_moved(id, hello);
            return true;
        }
        let same_address: Vec<SentinelId> = group
            .peers
            .values()
            .filter(|peer| peer.at == hello.at)
            .map(|peer| peer.id.clone())
            .collect();
        if group.peers.len() >= PEERS_MAX && same_address.is_empty() {
            self.refuse_hello(id, hello, "too many sentinels");
            return false;
        }
        let acquainted = self.names_ours(group, hello);
        for other in same_address {
            self.tell_peer(id, &other, Kind::PlusSentinelInvalidAddr);
            let groups: Vec<GroupId> = self.groups.keys().copied().collect();
            for group in groups {
                self.remove_peer(group, &other);
            }
        }
        self.add_peer(id, hello.id.clone(), hello.at.clone());
        if let Some(peer) = self
            .groups
            .get_mut(&id)
            .and_then(|group| group.peers.get_mut(&hello.id))
        {
            peer.acquainted = acquainted;
        }
        self.tell_peer(id, &hello.id, Kind::PlusSentinel);
        self.save_soon();
        false
    }

    /// A sentinel has a new address: in this group, and in all others that know it.
    fn peer_moved(&mut self, id: GroupId, hello: &Hello) {
        self.tell_primary_with(
            id,
            Kind::PlusSentinelAddressSwitch,
            format_args!(
                "ip {} port {} for {}",
                hello.at.host, hello.at.port, hello.id
            ),
        );
        let mut others = 0;
        for group in self.groups.values_mut() {
            if let Some(peer) = group.peers.get_mut(&hello.id) {
                peer.at = hello.at.clone();
                if group.id != id {
                    others += 1;
                }
            }
        }
        if let Some(&link) = self.peer_links.get(&hello.id) {
            if let Some(link) = self.links.get_mut(&link) {
                link.to = hello.at.clone();
            }
            self.renew_link(link);
        }
        if others > 0 {
            self.tell_peer_with(
                id,
                &hello.id,
                Kind::PlusSentinelAddressUpdate,
                format_args!("{others} additional matching instances"),
            );
        }
        self.save_soon();
    }

    /// The newest configuration says who is primary.
    fn take_configuration(&mut self, id: GroupId, hello: &Hello, known: bool) {
        let Some(group) = self.groups.get(&id) else {
            return;
        };
        if hello.config_epoch < group.config_epoch {
            return;
        }
        let target = self.member_at(group, &hello.primary);
        let same = self.is_at(&group.primary.at, &hello.primary);
        if hello.config_epoch == group.config_epoch {
            // Only failovers on request without a majority within reach can share a number. Redis stays divided; here the
            // higher address wins everywhere.
            let tie =
                hello.config_epoch > ConfigEpoch(0) && !same && known && group.failover.is_none();
            if !tie
                || target
                    .as_ref()
                    .is_none_or(|target| *target < group.primary.at)
            {
                return;
            }
        }
        if !same && !self.takes_host(&hello.primary.host) {
            return;
        }
        if !same && target.is_none() {
            match self.word_of(group, hello, known) {
                Word::Taken => {}
                Word::Again => return,
                Word::Refused => {
                    self.tell_refused_word(id, hello);
                    return;
                }
            }
        }
        let current = ElectionEpoch(hello.config_epoch.0);
        if current > self.current_epoch {
            self.adopt_epoch(id, current);
        }
        let to = target.unwrap_or_else(|| hello.primary.clone());
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        group.config_epoch = hello.config_epoch;
        group.won_here = false;
        group.fruitless = 0;
        if same {
            // Somebody else's promotion ended before it began, or our own was overtaken.
            self.save_soon();
            return;
        }
        self.tell_peer(id, &hello.id, Kind::PlusConfigUpdateFrom);
        let from = group_address(self.groups.get(&id));
        self.switch_primary(id, &to);
        if let Some(from) = from {
            self.run_reconfiguration(id, "observer", &from, &to);
        }
        self.save();
    }

    /// The replica of a group that is at this address, however it is spelled.
    pub(super) fn member_at(&self, group: &Group, at: &Endpoint) -> Option<Endpoint> {
        if group.replicas.contains_key(at) {
            return Some(at.clone());
        }
        group
            .replicas
            .keys()
            .find(|replica| self.is_at(replica, at))
            .cloned()
    }

    /// Two spellings of one address: a name, and the address behind it.
    pub(super) fn is_at(&self, one: &Endpoint, other: &Endpoint) -> bool {
        if one == other {
            return true;
        }
        let address = |at: &Endpoint| {
            at.host
                .parse::<IpAddr>()
                .ok()
                .or_else(|| self.resolved.get(&at.host).copied())
        };
        one.port == other.port && address(one).is_some() && address(one) == address(other)
    }
}

fn group_address(group: Option<&Group>) -> Option<Endpoint> {
    group.map(|group| group.primary.at.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn a_message_as_redis_writes_it() {
        let text = format!("10.0.0.7,26379,{ID},12,orders,10.0.0.1,6379,11");
        let hello = Hello::parse(text.as_bytes()).unwrap();
        assert_eq!(hello.at, Endpoint::new("10.0.0.7", 26379));
        assert_eq!(hello.id.as_str(), ID);
        assert_eq!(hello.current_epoch, ElectionEpoch(12));
        assert_eq!(hello.group, GroupName("orders".to_owned()));
        assert_eq!(hello.primary, Endpoint::new("10.0.0.1", 6379));
        assert_eq!(hello.config_epoch, ConfigEpoch(11));
        assert_eq!(hello.format(), text);
    }

    #[test]
    fn nonsense_is_named() {
        let table = [
            ("", HelloError::Words),
            ("a,1,x,1,g,b,1", HelloError::Words),
            (&format!("a,1,{ID},1,g,b,1,1,"), HelloError::Words),
            (&format!("a,0,{ID},1,g,b,1,1"), HelloError::Port),
            (&format!("a,65536,{ID},1,g,b,1,1"), HelloError::Port),
            (&format!("a,1,{ID},1,g,b,x,1"), HelloError::Port),
            ("a,1,0123,1,g,b,1,1", HelloError::Id),
            (&format!("a,1,{ID},-1,g,b,1,1"), HelloError::Epoch),
            (
                &format!("a,1,{ID},1,g,b,1,18446744073709551616"),
                HelloError::Epoch,
            ),
            (&format!(",1,{ID},1,g,b,1,1"), HelloError::Empty),
            (&format!("a,1,{ID},1,,b,1,1"), HelloError::Empty),
        ];
        for (text, error) in table {
            assert_eq!(Hello::parse(text.as_bytes()), Err(error), "{text}");
        }
        assert_eq!(Hello::parse(b"\xff,1"), Err(HelloError::Text));
    }
}
