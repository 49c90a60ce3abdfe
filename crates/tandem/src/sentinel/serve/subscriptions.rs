//! Who listens to what: channels and patterns, both ways round.
//!
//! Follows Redis' pub/sub: a client gets a message once for its channel and once more for each of its patterns that
//! matches. What a client has subscribed to is in the order in which it did, as Redis has its patterns; its channels there
//! have no order.

use std::collections::{BTreeMap, BTreeSet};

use super::glob;

/// A connection's number, as `CLIENT ID` tells it.
pub(crate) type ClientId = u64;

/// Most subscriptions of one client, channels and patterns together. Redis has no bound; no client of a sentinel comes near.
pub(crate) const EACH_MAX: usize = 10_000;

/// Channels or patterns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `SUBSCRIBE`.
    Channel,
    /// `PSUBSCRIBE`.
    Pattern,
}

/// One copy of a message, for one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Delivery<'a> {
    /// To whom.
    pub(crate) client: ClientId,
    /// The pattern that matched; `None` for the channel itself.
    pub(crate) pattern: Option<&'a [u8]>,
}

/// One direction: names to clients, and clients to names.
#[derive(Clone, Debug, Default)]
struct Table {
    clients: BTreeMap<Vec<u8>, BTreeSet<ClientId>>,
    /// With numbers that grow as names are added.
    names: BTreeMap<ClientId, BTreeMap<Vec<u8>, u64>>,
    added: u64,
}

impl Table {
    fn add(&mut self, client: ClientId, name: &[u8]) {
        self.clients
            .entry(name.to_vec())
            .or_default()
            .insert(client);
        self.added += 1;
        let names = self.names.entry(client).or_default();
        names.entry(name.to_vec()).or_insert(self.added);
    }

    fn remove(&mut self, client: ClientId, name: &[u8]) {
        if let Some(clients) = self.clients.get_mut(name) {
            clients.remove(&client);
            if clients.is_empty() {
                self.clients.remove(name);
            }
        }
        if let Some(names) = self.names.get_mut(&client) {
            names.remove(name);
            if names.is_empty() {
                self.names.remove(&client);
            }
        }
    }

    fn has(&self, client: ClientId, name: &[u8]) -> bool {
        self.names
            .get(&client)
            .is_some_and(|names| names.contains_key(name))
    }

    fn of(&self, client: ClientId) -> Vec<Vec<u8>> {
        let names = self.names.get(&client).into_iter().flatten();
        let mut names: Vec<_> = names.collect();
        names.sort_by_key(|(_, number)| **number);
        names.into_iter().map(|(name, _)| name.clone()).collect()
    }

    fn count(&self, client: ClientId) -> usize {
        self.names.get(&client).map_or(0, BTreeMap::len)
    }
}

/// All subscriptions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Subscriptions {
    channels: Table,
    patterns: Table,
}

impl Subscriptions {
    fn table(&self, kind: Kind) -> &Table {
        match kind {
            Kind::Channel => &self.channels,
            Kind::Pattern => &self.patterns,
        }
    }

    fn table_mut(&mut self, kind: Kind) -> &mut Table {
        match kind {
            Kind::Channel => &mut self.channels,
            Kind::Pattern => &mut self.patterns,
        }
    }

    /// Adds one; `false` if the client has too many already.
    pub(crate) fn add(&mut self, client: ClientId, kind: Kind, name: &[u8]) -> bool {
        let known = self.table(kind).has(client, name);
        if !known && self.count(client) >= EACH_MAX {
            return false;
        }
        self.table_mut(kind).add(client, name);
        true
    }

    /// Removes one, known or not.
    pub(crate) fn remove(&mut self, client: ClientId, kind: Kind, name: &[u8]) {
        self.table_mut(kind).remove(client, name);
    }

    /// Forgets a client.
    pub(crate) fn forget(&mut self, client: ClientId) {
        for kind in [Kind::Channel, Kind::Pattern] {
            for name in self.names(client, kind) {
                self.remove(client, kind, &name);
            }
        }
    }

    /// What a client has subscribed to, in the order in which it did.
    pub(crate) fn names(&self, client: ClientId, kind: Kind) -> Vec<Vec<u8>> {
        self.table(kind).of(client)
    }

    /// How many channels or patterns a client has.
    pub(crate) fn count_of(&self, client: ClientId, kind: Kind) -> usize {
        self.table(kind).count(client)
    }

    /// How many subscriptions a client has in all.
    pub(crate) fn count(&self, client: ClientId) -> usize {
        self.channels.count(client) + self.patterns.count(client)
    }

    /// How many different channels or patterns anybody listens to.
    pub(crate) fn total(&self, kind: Kind) -> usize {
        self.table(kind).clients.len()
    }

    /// Who gets a message on this channel: the channel's own subscribers first, then those of each pattern.
    pub(crate) fn deliveries(&self, channel: &[u8]) -> Vec<Delivery<'_>> {
        let own = self.channels.clients.get(channel).into_iter().flatten();
        let own = own.map(|client| Delivery {
            client: *client,
            pattern: None,
        });
        let by_pattern = self
            .patterns
            .clients
            .iter()
            .filter(|(pattern, _)| glob::matches(pattern, channel))
            .flat_map(|(pattern, clients)| {
                clients.iter().map(|client| Delivery {
                    client: *client,
                    pattern: Some(pattern.as_slice()),
                })
            });
        own.chain(by_pattern).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_comes_once_for_the_channel_and_once_for_each_pattern() {
        let mut all = Subscriptions::default();
        assert!(all.add(7, Kind::Channel, b"+sdown"));
        assert!(all.add(7, Kind::Pattern, b"*"));
        assert!(all.add(7, Kind::Pattern, b"[-+]sdown"));
        assert!(all.add(3, Kind::Channel, b"-sdown"));
        let got: Vec<_> = all
            .deliveries(b"+sdown")
            .into_iter()
            .map(|d| (d.client, d.pattern.map(<[u8]>::to_vec)))
            .collect();
        assert_eq!(
            got,
            [
                (7, None),
                (7, Some(b"*".to_vec())),
                (7, Some(b"[-+]sdown".to_vec()))
            ]
        );
        all.forget(7);
        assert_eq!(all.deliveries(b"+sdown"), []);
        assert_eq!(all.total(Kind::Pattern), 0);
        assert_eq!(all.deliveries(b"-sdown").len(), 1);
    }

    #[test]
    fn names_are_in_the_order_of_subscribing() {
        let mut all = Subscriptions::default();
        for name in ["b*", "c*", "a*", "b*"] {
            assert!(all.add(1, Kind::Pattern, name.as_bytes()));
        }
        all.remove(1, Kind::Pattern, b"c*");
        assert_eq!(
            all.names(1, Kind::Pattern),
            [b"b*".to_vec(), b"a*".to_vec()]
        );
    }

    #[test]
    fn the_same_twice_counts_once_and_the_number_is_bounded() {
        let mut all = Subscriptions::default();
        for index in 0..EACH_MAX {
            assert!(all.add(1, Kind::Channel, index.to_string().as_bytes()));
        }
        assert_eq!(all.count(1), EACH_MAX);
        assert!(all.add(1, Kind::Channel, b"7"));
        assert!(!all.add(1, Kind::Pattern, b"one more"));
        assert_eq!(all.count(1), EACH_MAX);
    }
}
