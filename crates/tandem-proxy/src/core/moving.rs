//! Subscribers whose primary moves: listening at the next one without a message missed or heard twice.
//!
//! The old connection is read to its end first (a demoted server closes it, after everything that was published there),
//! then the client is subscribed at the new primary to all that it was subscribed to, which it does not notice; and only
//! then is anything else asked there, PUBLISH included. Whoever cannot be moved in time is told by the end of its connection,
//! as by a server; so is one that loses its connection while its primary stays, because nothing was held meanwhile, and one
//! whose last words about its subscriptions are unanswered.
//!
//! This holds for messages published through the same proxy, whatever thread they are published on.

use std::collections::BTreeSet;
use std::time::Duration;

use super::follow::{HOLD, RETRY_MS};
use super::lane::State;
use super::peer::How;
use super::slots::NONE;
use super::{Core, text};
use crate::command::Channels;
use crate::frame::Request;
use crate::placement::slot_of;

/// Subscribers listen at a new primary within this, or are let go: the others wait for them.
const MOVE_WITHIN: Duration = Duration::from_millis(300);
/// A primary whose subscribers lost their connection is said to be gone within this, or it was not the primary's end.
const NEWS_WITHIN: Duration = Duration::from_secs(1);

/// A subscriber that the nodes of a cluster send on so often finds no node that has its slot.
const SENT_ON_MAX: u8 = 64;

/// What a client listens to: a kind, see [`KINDS`], and a name.
pub(super) type Names = BTreeSet<(usize, Vec<u8>)>;

/// How the three kinds are subscribed to and confirmed.
pub(super) const KINDS: [(&[u8], &[u8], &[u8]); 3] = [
    (
        b"SUBSCRIBE",
        b"$9\r\nsubscribe\r\n",
        b"$11\r\nunsubscribe\r\n",
    ),
    (
        b"PSUBSCRIBE",
        b"$10\r\npsubscribe\r\n",
        b"$12\r\npunsubscribe\r\n",
    ),
    (
        b"SSUBSCRIBE",
        b"$10\r\nssubscribe\r\n",
        b"$12\r\nsunsubscribe\r\n",
    ),
];

pub(super) fn kind(channels: Channels) -> usize {
    match channels {
        Channels::Plain => 0,
        Channels::Patterns => 1,
        Channels::Sharded => 2,
    }
}

/// A client's subscriptions.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    /// As it wants them.
    asked: Names,
    /// As the server has confirmed them.
    confirmed: Names,
    /// Sharded channels that it has said it leaves, and that the server has not confirmed; in a cluster a node ends others by
    /// itself.
    leaving: Vec<Vec<u8>>,
    /// How often it was sent on without having listened.
    sent_on: u8,
    /// What it has still to say to what it was asked.
    pub(super) owed: super::pubsub::Owed,
}

impl Subscriptions {
    /// It has said this, and the server will hear it.
    pub(super) fn ask(&mut self, channels: Channels, on: bool, request: &Request<'_>) {
        let kind = kind(channels);
        if !on && channels == Channels::Sharded {
            if request.count() == 1 {
                let sharded = self.asked.iter().filter(|(other, _)| *other == kind);
                self.leaving.extend(sharded.map(|(_, name)| name.clone()));
            }
            let named = request.arguments().skip(1).map(|it| it.value.to_vec());
            self.leaving.extend(named);
        }
        let named = request.count() - 1;
        self.owed.push(match named {
            0 => self
                .asked
                .iter()
                .filter(|(other, _)| *other == kind)
                .count(),
            named => named,
        });
        if !on && request.count() == 1 {
            self.asked.retain(|(other, _)| *other != kind);
        }
        for channel in request.arguments().skip(1) {
            let name = (kind, channel.value.to_vec());
            if on {
                self.asked.insert(name);
            } else {
                self.asked.remove(&name);
            }
        }
    }

    /// The server has said this.
    pub(super) fn confirm(&mut self, said: &Confirmation<'_>) {
        let Some(name) = said.name else { return };
        let name = (said.kind, name.to_vec());
        if !said.on
            && said.kind == kind(Channels::Sharded)
            && let Some(at) = self.leaving.iter().position(|it| *it == name.1)
        {
            self.leaving.swap_remove(at);
        }
        if said.on {
            self.sent_on = 0;
            self.confirmed.insert(name);
        } else {
            self.confirmed.remove(&name);
        }
    }

    /// Whether this ends a sharded subscription that the client has not ended.
    pub(super) fn are_ended_by(&self, said: &Confirmation<'_>) -> bool {
        let sharded = kind(Channels::Sharded);
        said.kind == sharded
            && !said.on
            && said.name.is_some_and(|name| {
                let name = (sharded, name.to_vec());
                self.asked.contains(&name) && !self.leaving.contains(&name.1)
            })
    }

    /// Its server has refused something. Once it has no more to say, what was not confirmed is what it refused.
    pub(super) fn refused(&mut self) {
        if self.owed.is_nothing() {
            self.asked.clone_from(&self.confirmed);
        }
    }

    /// It is sent on once more. False: too often without having listened.
    pub(super) fn may_go_on(&mut self) -> bool {
        self.sent_on = self.sent_on.saturating_add(1);
        self.sent_on <= SENT_ON_MAX
    }

    /// The slots of the sharded channels that it wants, each once.
    pub(super) fn sharded_slots(&self) -> Vec<u16> {
        let sharded = kind(Channels::Sharded);
        let names = self.asked.iter().filter(|(other, _)| *other == sharded);
        let slots: BTreeSet<u16> = names.map(|(_, name)| slot_of(name)).collect();
        slots.into_iter().collect()
    }

    /// What it has asked for and was not confirmed, as commands.
    pub(super) fn unconfirmed(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for name in self.asked.difference(&self.confirmed) {
            let (command, ..) = KINDS[name.0];
            tandem_resp::encode_command(&[command, &name.1], &mut bytes);
        }
        bytes
    }

    /// Forgets sharded channels that were not confirmed. Whether there were any.
    pub(super) fn drop_unconfirmed(&mut self) -> bool {
        let before = self.asked.len();
        let (sharded, confirmed) = (kind(Channels::Sharded), &self.confirmed);
        self.asked
            .retain(|name| name.0 != sharded || confirmed.contains(name));
        self.asked.len() < before
    }

    /// The commands that bring a new connection to where the last one was, and how many confirmations they give.
    fn renewal(&self) -> (Vec<u8>, usize) {
        (subscribe_to(&self.confirmed), self.confirmed.len())
    }

    /// Whether it wants this.
    pub(super) fn are_asked(&self, name: &(usize, Vec<u8>)) -> bool {
        self.asked.contains(name)
    }

    /// Whether it was told that it has this.
    pub(super) fn are_told(&self, name: &(usize, Vec<u8>)) -> bool {
        self.confirmed.contains(name)
    }

    /// What of a kind it wants.
    pub(super) fn asked_of(
        &self,
        channels: Channels,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> impl Iterator<Item = &(usize, Vec<u8>)> {
        let kind = kind(channels);
        let asked = self.asked.iter();
        asked.filter(move |(other, name)| *other == kind && wanted(name))
    }

    /// Whether it has nothing, wants nothing, and waits for no answer.
    pub(super) fn are_none(&self) -> bool {
        self.asked.is_empty() && self.confirmed.is_empty() && self.owed.is_nothing()
    }
}

/// The commands that subscribe to all of this.
pub(super) fn subscribe_to(names: &Names) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (kind, (command, ..)) in KINDS.iter().enumerate() {
        let names = names.iter().filter(|(other, _)| *other == kind);
        let mut words = vec![*command];
        words.extend(names.map(|(_, name)| name.as_slice()));
        if words.len() > 1 {
            tandem_resp::encode_command(&words, &mut bytes);
        }
    }
    bytes
}

/// What a server says about one subscription.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Confirmation<'f> {
    /// Of [`KINDS`].
    pub(super) kind: usize,
    /// It begins, or it ends.
    pub(super) on: bool,
    pub(super) name: Option<&'f [u8]>,
}

/// Reads a frame of a connection for messages; nothing for a message.
pub(super) fn confirmation(frame: &[u8]) -> Option<Confirmation<'_>> {
    let rest = frame
        .strip_prefix(b"*3\r\n")
        .or_else(|| frame.strip_prefix(b">3\r\n"))?;
    let (kind, on, rest) = KINDS.iter().enumerate().find_map(|(kind, (_, on, off))| {
        let begins = rest.strip_prefix(*on).map(|rest| (kind, true, rest));
        begins.or_else(|| rest.strip_prefix(*off).map(|rest| (kind, false, rest)))
    })?;
    let name = rest.strip_prefix(b"$").and_then(|rest| {
        let end = rest.iter().position(|&byte| byte == b'\r')?;
        let length: usize = std::str::from_utf8(&rest[..end]).ok()?.parse().ok()?;
        rest.get(end + 2..end + 2 + length)
    });
    Some(Confirmation { kind, on, name })
}

impl Core {
    /// A client's connection brings messages from now on.
    pub(super) fn begins_to_listen(&mut self, index: u32, lane: u32) {
        self.lane_listens(lane);
        let cold = self.desk.cold(index);
        cold.subscribed = true;
        cold.subscriptions = Some(Box::default());
        self.desk.clients[index as usize].set_special();
    }

    /// This connection is one for messages.
    pub(super) fn lane_listens(&mut self, lane: u32) {
        let place = &mut self.lanes[lane as usize];
        place.messages = true;
        place.extra_ms = u64::MAX;
        place.held = None;
        place.listens = true;
        self.pools[place.pool as usize]
            .setup
            .subscribers
            .count(place.server, true);
    }

    /// A connection for messages is nobody's any more.
    pub(super) fn listens_no_more(&mut self, lane: u32) {
        self.drop_ears(lane);
        let place = &mut self.lanes[lane as usize];
        let subscribers = &self.pools[place.pool as usize].setup.subscribers;
        if std::mem::take(&mut place.listens) {
            subscribers.count(place.server, false);
        }
        if place.away.take().is_some() {
            subscribers.count_away(place.server, false);
        }
    }

    /// Whether requests to a server wait for its subscribers, of any thread, to listen there.
    pub(super) fn waits_for_subscribers(&self, pool: u32, server: u32) -> bool {
        let state = &self.pools[pool as usize];
        state.setup.subscribers.are_away(server)
            && state.groups[server as usize]
                .as_ref()
                .is_some_and(|known| self.now_ms < known.moved_ms + MOVE_WITHIN.as_millis() as u64)
    }

    /// A connection for messages has ended. True: its client will be subscribed at the next primary.
    pub(super) fn messages_stopped(&mut self, lane: u32, how: How) -> bool {
        let place = &self.lanes[lane as usize];
        let (pool, server) = (place.pool, place.server);
        if !self.is_group(pool, server) {
            return false;
        }
        let client = place.owner.and_then(|owner| self.desk.find(owner));
        let subscriptions = client.and_then(|client| {
            let cold = self.desk.clients[client as usize].cold.as_ref()?;
            cold.subscriptions.as_ref()
        });
        let Some(subscriptions) = subscriptions else {
            return false;
        };
        if place.ear.is_none()
            && place.state == State::Ready
            && subscriptions.asked != subscriptions.confirmed
        {
            return false;
        }
        self.close_lane(lane, how);
        let now_ms = self.now_ms;
        let place = &mut self.lanes[lane as usize];
        if let Some(ear) = &mut place.ear {
            ear.hears_nothing(now_ms);
        }
        let place = &mut self.lanes[lane as usize];
        place.renewing = 0;
        place.retry_at_ms = self.now_ms + RETRY_MS;
        let era = self.era(pool, server);
        self.goes_away(lane, era);
        true
    }

    /// Which of a group's primaries is the last one that was told.
    fn era(&self, pool: u32, server: u32) -> Option<u32> {
        let witnesses = &self.pools[pool as usize].witnesses;
        witnesses.get(server as usize).map(|witness| witness.era)
    }

    /// A connection for messages is wanted, and there is none.
    pub(super) fn goes_away(&mut self, lane: u32, era: Option<u32>) {
        let place = &mut self.lanes[lane as usize];
        if place.away.is_none() {
            place.away = Some(Away {
                since_ms: self.now_ms,
                era,
            });
            self.pools[place.pool as usize]
                .setup
                .subscribers
                .count_away(place.server, true);
        }
        self.arm(self.now_ms + RETRY_MS);
    }

    /// The primary that a connection for messages was to is another one by now.
    pub(super) fn overtaken(&mut self, lane: u32) {
        if let Some(away) = &mut self.lanes[lane as usize].away {
            away.era = None;
        }
    }

    /// Somebody wants to listen where nothing can be asked now.
    pub(super) fn listens_later(&mut self, lane: u32) {
        let place = &self.lanes[lane as usize];
        if place.state == State::Closed && self.is_group(place.pool, place.server) {
            self.goes_away(lane, None);
        }
    }

    /// Goes on with a connection for messages that waits for a primary, or gives it up.
    pub(super) fn messages_due(&mut self, lane: u32) {
        if self.ear_is_late(lane) {
            self.disconnect(lane);
            self.pinned_down(lane);
            return;
        }
        let place = &self.lanes[lane as usize];
        let Some(away) = place.away else { return };
        let (pool, server) = (place.pool, place.server);
        let Some(Some(known)) = self.pools[pool as usize].groups.get(server as usize) else {
            return;
        };
        let (since_ms, moved_ms) = (away.since_ms, known.moved_ms);
        let open = self.address(pool, server).is_some();
        let news = away.era.is_none() || away.era != self.era(pool, server);
        let over =
            |since_ms: u64, bound: Duration| self.now_ms > since_ms + bound.as_millis() as u64;
        let lost = match (open, news) {
            // What was published there meanwhile was not held.
            (true, false) => over(since_ms, NEWS_WITHIN),
            (true, true) => over(moved_ms.max(since_ms), MOVE_WITHIN),
            (false, _) => over(since_ms, HOLD),
        };
        if lost {
            self.disconnect(lane);
            self.pinned_down(lane);
            return;
        }
        let due = self.now_ms >= self.lanes[lane as usize].retry_at_ms;
        if open && news && due && self.lanes[lane as usize].state == State::Closed {
            self.connect(lane);
        }
        self.arm(self.now_ms + RETRY_MS);
    }

    /// A connection for messages is up again: first it is brought to where the last one was.
    pub(super) fn renew(&mut self, lane: u32) {
        let place = &self.lanes[lane as usize];
        if place.away.is_none() {
            return;
        }
        let client = place.owner.and_then(|owner| self.desk.find(owner));
        let Some(subscriptions) = client.and_then(|client| {
            let cold = self.desk.clients[client as usize].cold.as_ref()?;
            cold.subscriptions.as_ref()
        }) else {
            return;
        };
        let (bytes, confirmations) = match &place.ear {
            Some(ear) => ear.renewal(),
            None => subscriptions.renewal(),
        };
        let place = &mut self.lanes[lane as usize];
        let (mut waiting, _) = place.ring.take_all();
        if place.ear.is_some() {
            // It asks for all that its client wants.
            waiting.clear();
        }
        for bytes in [bytes, waiting] {
            if !bytes.is_empty() {
                place.ring.push(&bytes);
            }
        }
        place.renewing = confirmations;
        if confirmations == 0 {
            self.renewed(lane);
        }
        self.touch_lane(lane);
    }

    /// A moved subscriber listens again.
    pub(super) fn renewed(&mut self, lane: u32) {
        let place = &self.lanes[lane as usize];
        let owner = place.owner.filter(|_| place.ear.is_none());
        if let Some(client) = owner.and_then(|owner| self.desk.find(owner))
            && let Some(cold) = self.desk.cold_mut(client)
            && let Some(subscriptions) = &mut cold.subscriptions
        {
            subscriptions.sent_on = 0;
        }
        let place = &mut self.lanes[lane as usize];
        let (pool, server) = (place.pool, place.server);
        if place.away.take().is_some() {
            self.pools[pool as usize]
                .setup
                .subscribers
                .count_away(server, false);
        }
        if !self.waits_for_subscribers(pool, server) {
            self.obey(pool, server, false);
        }
    }

    /// Lets a subscriber go that cannot be moved.
    pub(super) fn subscriber_lost(&mut self, index: u32, lane: u32) {
        let error = text::unreachable(self.lanes[lane as usize].ended);
        self.desk.say(index, error);
        self.desk.dismiss(index);
        debug_assert_eq!(
            self.lanes[lane as usize].first, NONE,
            "messages answer nobody"
        );
    }
}

/// A connection for messages that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Away {
    /// When, in milliseconds of the core.
    since_ms: u64,
    /// Which of its group's primaries it was to. None: there is another one by now.
    era: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confirmations_are_told_from_messages() {
        let on = |kind, on, name| Some(Confirmation { kind, on, name });
        let table: [(&[u8], Option<Confirmation<'_>>); 6] = [
            (
                b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n",
                on(0, true, Some(&b"a"[..])),
            ),
            (
                b">3\r\n$10\r\npsubscribe\r\n$2\r\na*\r\n:1\r\n",
                on(1, true, Some(&b"a*"[..])),
            ),
            (
                b"*3\r\n$12\r\nsunsubscribe\r\n$1\r\ns\r\n:0\r\n",
                on(2, false, Some(&b"s"[..])),
            ),
            (
                b"*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n",
                on(0, false, None),
            ),
            (
                b">3\r\n$11\r\nunsubscribe\r\n_\r\n:0\r\n",
                on(0, false, None),
            ),
            (b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n", None),
        ];
        for (frame, said) in table {
            assert_eq!(
                confirmation(frame),
                said,
                "{}",
                String::from_utf8_lossy(frame)
            );
        }
    }
}
