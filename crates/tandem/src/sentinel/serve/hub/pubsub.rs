//! Subscribing, and the messages of subscriptions.

use std::time::Instant;

use tandem_resp::Value;

use super::client::Closing;
use super::{ChannelUse, Hub, Reply, error};
use crate::sentinel::serve::subscriptions::{ClientId, EACH_MAX, Kind};

/// What a RESP2 client with subscriptions may still say.
pub(super) fn is_allowed_while_subscribed(name: &str) -> bool {
    matches!(
        name,
        "ping" | "subscribe" | "unsubscribe" | "psubscribe" | "punsubscribe" | "quit" | "reset"
    )
}

/// Which arguments of a command the ACL asks about. Giving a subscription up needs no permission.
pub(super) fn channels_of(name: &str) -> ChannelUse {
    match name {
        "subscribe" => ChannelUse::Names(1),
        "psubscribe" => ChannelUse::Patterns(1),
        "publish" => ChannelUse::One(1),
        _ => ChannelUse::None,
    }
}

fn bulk(text: &[u8]) -> Value {
    Value::Bulk(text.to_vec())
}

impl Hub {
    fn subscription_count(&self, id: ClientId) -> Value {
        Value::Integer(i64::try_from(self.subscriptions.count(id)).unwrap_or(i64::MAX))
    }

    pub(super) fn subscribe(&mut self, id: ClientId, kind: Kind, names: &[Vec<u8>]) -> Reply {
        let word: &[u8] = match kind {
            Kind::Channel => b"subscribe",
            Kind::Pattern => b"psubscribe",
        };
        let mut replies = Vec::new();
        for name in names {
            if !self.subscriptions.add(id, kind, name) {
                replies.push(error(
                    format!("too many subscriptions, at most {EACH_MAX}").as_bytes(),
                ));
                break;
            }
            replies.push(Value::Push(vec![
                bulk(word),
                bulk(name),
                self.subscription_count(id),
            ]));
        }
        Reply::Values(replies)
    }

    pub(super) fn unsubscribe(&mut self, id: ClientId, kind: Kind, names: &[Vec<u8>]) -> Reply {
        let word: &[u8] = match kind {
            Kind::Channel => b"unsubscribe",
            Kind::Pattern => b"punsubscribe",
        };
        let all = if names.is_empty() {
            self.subscriptions.names(id, kind)
        } else {
            names.to_vec()
        };
        if all.is_empty() {
            return Reply::Values(vec![Value::Push(vec![
                bulk(word),
                Value::Null,
                self.subscription_count(id),
            ])]);
        }
        let mut replies = Vec::new();
        for name in all {
            self.subscriptions.remove(id, kind, &name);
            replies.push(Value::Push(vec![
                bulk(word),
                bulk(&name),
                self.subscription_count(id),
            ]));
        }
        Reply::Values(replies)
    }

    /// Sends a message to whoever listens to the channel. A client that has left too much unread is disconnected.
    pub(crate) fn publish(&mut self, channel: &[u8], message: &[u8], now: Instant) -> usize {
        let mut told = 0;
        for delivery in self.subscriptions.deliveries(channel) {
            let Some(client) = self.clients.get_mut(&delivery.client) else {
                continue;
            };
            if client.closing != Closing::No {
                continue;
            }
            let message = match delivery.pattern {
                None => vec![bulk(b"message"), bulk(channel), bulk(message)],
                Some(pattern) => vec![
                    bulk(b"pmessage"),
                    bulk(pattern),
                    bulk(channel),
                    bulk(message),
                ],
            };
            Value::Push(message).encode(client.protocol, client.outbox.buffer());
            if client.outbox.is_overdue(now) {
                tracing::warn!(
                    "{} does not read its subscription, {} bytes wait: connection closed",
                    client.origin.remote,
                    client.outbox.waiting()
                );
                self.stats.overdue += 1;
                client.close(Closing::Now);
            } else {
                told += 1;
                client.wake.notify_one();
            }
        }
        told
    }
}
