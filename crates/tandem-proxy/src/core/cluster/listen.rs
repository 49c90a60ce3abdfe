//! Subscribers of a cluster.
//!
//! What is published at any node reaches the subscribers at all of them, so a client that listens to plain channels and patterns
//! may be anywhere, and stays where it is. A sharded channel is where its slot is: a node that gives the slot away says that
//! the subscription is over, and one that does not have it sends the client on. Then its connection is made again where the
//! slot is now, as it is when a primary moves ([`super::super::moving`]). Sharded channels of two slots that part cannot be listened to on
//! one connection any more: then the client is let go.

use super::super::follow::RETRY_MS;
use super::super::lane::Lane;
use super::super::slots::NONE;
use super::super::{Core, text};
use crate::cluster::Redirection;
use crate::command::Channels;
use crate::frame::Request;
use crate::placement::slot_of;

/// Where a subscription of a client is to be.
pub(in super::super) enum Home {
    /// At this seat.
    At(u32),
    /// Nowhere, and this is why.
    Error(&'static [u8]),
}

/// Whether a frame sends a subscriber on.
pub(in super::super) fn sends_on(lane: &Lane, frame: &[u8]) -> bool {
    lane.clustered && frame.first() == Some(&b'-') && Redirection::read(frame).is_some()
}

impl Core {
    /// Where a client of a cluster listens to what it asks for. None: its pool is no cluster.
    pub(in super::super) fn home_in_cluster(
        &self,
        index: u32,
        channels: Channels,
        request: &Request<'_>,
    ) -> Option<Home> {
        let client = &self.desk.clients[index as usize];
        let state = &self.pools[client.pool as usize];
        state.cluster.as_ref()?;
        let seat = |slot| state.placement.place_of_slot(slot).unwrap_or_default();
        Some(match channels {
            Channels::Plain | Channels::Patterns => {
                let listens = client.pinned != NONE && self.lanes[client.pinned as usize].messages;
                if listens {
                    Home::At(self.lanes[client.pinned as usize].server)
                } else {
                    Home::At(seat(slot_of(super::super::scatter::ANYWHERE)))
                }
            }
            Channels::Sharded => {
                let mut slots = request.arguments().skip(1).map(|it| slot_of(it.value));
                let first = slots.next().unwrap_or_default();
                if slots.all(|slot| slot == first) {
                    Home::At(seat(first))
                } else {
                    Home::Error(text::CROSS_SHARD)
                }
            }
        })
    }

    /// A node sends a subscriber on, with this word, or has ended its sharded subscriptions.
    pub(in super::super) fn listens_elsewhere(&mut self, lane: u32, word: &[u8]) {
        let place = &self.lanes[lane as usize];
        let (pool, before) = (place.pool, place.server);
        let Some(client) = place.owner.and_then(|owner| self.desk.find(owner)) else {
            return;
        };
        let Some(subscriptions) = self
            .desk
            .cold_mut(client)
            .and_then(|cold| cold.subscriptions.as_mut())
        else {
            return;
        };
        let slots = subscriptions.sharded_slots();
        let one = subscriptions.may_go_on().then(|| slots.first()).flatten();
        let Some(&slot) = one.filter(|_| slots.len() == 1) else {
            if Redirection::read(word).is_some() && subscriptions.drop_unconfirmed() {
                // What it has stays; what it asked for as well is elsewhere.
                self.desk.stream(client, text::PINNED_ELSEWHERE);
            } else {
                self.disconnect(lane);
                self.pinned_down(lane);
            }
            return;
        };
        let wishes = subscriptions.unconfirmed();
        if let Some(to) = Redirection::read(word) {
            let at = self.named_by(lane, &to);
            let cluster = self.pools[pool as usize].cluster.as_ref();
            if let Some(seat) = cluster.and_then(|it| it.seat_at(&at)) {
                self.slot_moved(pool, slot, seat);
            }
            self.wish(pool, Some(at));
        } else {
            self.wish(pool, None);
        }
        let placement = &self.pools[pool as usize].placement;
        let seat = placement.place_of_slot(slot).unwrap_or(before);
        self.disconnect(lane);
        let setup = &self.pools[pool as usize].setup;
        let place = &mut self.lanes[lane as usize];
        if place.listens {
            setup.subscribers.count(before, false);
            setup.subscribers.count(seat, true);
        }
        if place.away.take().is_some() {
            setup.subscribers.count_away(before, false);
        }
        place.server = seat;
        place.counters = setup.counters.servers[seat as usize].clone();
        place.gauged = [0; 4];
        place.renewing = 0;
        // At once, unless the nodes do not know yet.
        let pause_ms = if seat == before { RETRY_MS } else { 0 };
        place.retry_at_ms = self.now_ms + pause_ms;
        let unsent = place.ring.len();
        place.ring.free(unsent);
        if !wishes.is_empty() {
            place.ring.push(&wishes);
        }
        self.goes_away(lane, None);
        self.spread_anew(lane);
        self.messages_due(lane);
    }
}
