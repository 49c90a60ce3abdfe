//! Keyspace notifications: every server tells of its own keys only, so they are listened to at all servers of a pool.
//!
//! ```text
//!   client --SUBSCRIBE--> 1. its ears: a connection for messages to each other server   confirmed, nobody is told
//!                         2. its own connection for messages                            confirmed, it is told
//! ```
//! A client has the confirmation only when all servers have given theirs, so nothing that happens after it is missed.
//! From an ear nothing passes but notifications, and of these only what the client was told that it listens to: what was
//! published is heard on its own connection alone, so no message comes twice, also where the nodes of a cluster tell each
//! other what was published. An ear is a subscriber of its server like any other ([`moving`](super::moving)): when a primary moves
//! its ears are moved, break before make, and those at other servers stay. If one cannot be moved the client is let go, or
//! it would believe that it hears everything.

use super::client::Hold;
use super::desk::Desk;
use super::follow::HOLD;
use super::lane::Lane;
use super::moving::{self, Names};
use super::pubsub::Came;
use super::slots::NONE;
use super::{Core, text};
use crate::command::Channels;
use crate::frame::Request;

/// How the names of channels begin on which servers tell of their keys.
const NOTIFICATIONS: [&[u8]; 2] = [b"__keyspace@", b"__keyevent@"];
/// What they have in common: a pattern that may match a name like this is listened to everywhere.
const COMMON: &[u8] = b"__key";
/// Of each of [`moving::KINDS`] that there are ears for, how it ends.
const ENDS: [&[u8]; 2] = [b"UNSUBSCRIBE", b"PUNSUBSCRIBE"];

/// What one ear listens to.
#[derive(Debug, Default)]
pub(super) struct Ear {
    asked: Names,
    /// Of these, what its server has confirmed.
    confirmed: Names,
    /// When it was asked last, in milliseconds of the core.
    asked_ms: u64,
    /// The error that its server gave instead; empty as a rule.
    refused: Vec<u8>,
}

impl Ear {
    /// Its connection has ended.
    pub(super) fn hears_nothing(&mut self, now_ms: u64) {
        self.confirmed.clear();
        self.asked_ms = now_ms;
    }

    /// The commands that make a new connection an ear, and how many confirmations they give.
    pub(super) fn renewal(&self) -> (Vec<u8>, usize) {
        (moving::subscribe_to(&self.asked), self.asked.len())
    }

    fn confirm(&mut self, said: &moving::Confirmation<'_>) {
        let Some(name) = said.name else { return };
        let name = (said.kind, name.to_vec());
        if said.on && self.asked.contains(&name) {
            self.confirmed.insert(name);
        }
    }

    fn refuse(&mut self, error: &[u8]) {
        let confirmed = &self.confirmed;
        self.asked.retain(|name| confirmed.contains(name));
        self.refused = error.to_vec();
    }
}

/// Whether all servers hear something.
pub(super) enum Heard {
    /// They do.
    Yes,
    /// Not yet: its client is held.
    Wait,
    /// They never will, and this is why.
    No(Vec<u8>),
}

/// Whether this is to be listened to at every server.
fn is_everywhere(channels: Channels, name: &[u8]) -> bool {
    match channels {
        Channels::Plain => is_notification(name),
        Channels::Patterns => may_begin_with(name, COMMON),
        Channels::Sharded => false,
    }
}

fn is_notification(channel: &[u8]) -> bool {
    NOTIFICATIONS.iter().any(|it| channel.starts_with(it))
}

/// Whether a pattern may match something that begins with `start`. A class counts as matching, whatever is in it.
fn may_begin_with(pattern: &[u8], start: &[u8]) -> bool {
    let mut rest = pattern;
    for &wanted in start {
        let literal;
        (literal, rest) = match rest {
            [] => return false,
            [b'*', ..] => return true,
            [b'?', rest @ ..] => (None, rest),
            [b'\\', escaped, rest @ ..] => (Some(*escaped), rest),
            [b'[', class @ ..] => (None, behind_class(class)),
            [literal, rest @ ..] => (Some(*literal), rest),
        };
        if literal.is_some_and(|it| it != wanted) {
            return false;
        }
    }
    true
}

/// What follows the class of which this is the inside; nothing behind one without an end.
fn behind_class(class: &[u8]) -> &[u8] {
    let mut at = 0;
    while let Some(&byte) = class.get(at) {
        match byte {
            b'\\' => at += 2,
            b']' => return &class[at + 1..],
            _ => at += 1,
        }
    }
    &[]
}

/// The subscription that a message is for, and the channel that it was published on.
fn message(frame: &[u8]) -> Option<(usize, &[u8], &[u8])> {
    let (&first, rest) = frame.split_first()?;
    if !matches!(first, b'*' | b'>') {
        return None;
    }
    let mut rest = rest.get(memchr::memchr(b'\n', rest)? + 1..)?;
    let mut word = || {
        let end = memchr::memchr(b'\r', rest)?;
        let length = std::str::from_utf8(rest.get(1..end)?).ok()?;
        let length: usize = length.parse().ok().filter(|_| rest[0] == b'$')?;
        let word = rest.get(end + 2..)?.get(..length)?;
        rest = rest.get(end + 2 + length + 2..)?;
        Some(word)
    };
    match word()? {
        b"message" => word().map(|channel| (0, channel, channel)),
        b"pmessage" => Some((1, word()?, word()?)),
        _ => None,
    }
}

/// Something came on an ear.
pub(super) fn heard(desk: &mut Desk, lane: &mut Lane, index: u32, frame: &[u8]) -> Came {
    let Some(ear) = &mut lane.ear else {
        return Came::Message;
    };
    if frame.first() == Some(&b'-') {
        ear.refuse(frame);
    } else if let Some(said) = moving::confirmation(frame) {
        ear.confirm(&said);
        if said.on && lane.renewing > 0 {
            lane.renewing -= 1;
            if lane.renewing == 0 {
                return Came::LastRenewed;
            }
        }
    } else if let Some((kind, name, channel)) = message(frame)
        && is_notification(channel)
    {
        let mut own = desk.spare.take();
        own.extend_from_slice(name);
        let name = (kind, own);
        let told = desk
            .cold_mut(index)
            .and_then(|cold| cold.subscriptions.as_ref())
            .is_some_and(|subscriptions| subscriptions.are_told(&name));
        desk.spare.give(name.1);
        if told {
            desk.stream(index, frame);
        }
    }
    Came::Message
}

impl Core {
    /// Has all other servers hear what of this is to be heard everywhere; its client's own connection is `home`.
    pub(super) fn heard_elsewhere(
        &mut self,
        index: u32,
        home: u32,
        channels: Channels,
        request: &Request<'_>,
    ) -> Heard {
        let names = request.arguments().skip(1).map(|it| it.value);
        let names: Names = names
            .filter(|name| is_everywhere(channels, name))
            .map(|name| (moving::kind(channels), name.to_vec()))
            .collect();
        if names.is_empty() {
            return Heard::Yes;
        }
        let peer = self.desk.clients[index as usize].peer(index);
        let mut heard = Heard::Yes;
        for server in self.elsewhere(home) {
            let Some(lane) = self.ear_at(home, server) else {
                return Heard::No(text::TOO_MANY_PINNED.to_vec());
            };
            if let Some(ear) = &mut self.lanes[lane as usize].ear
                && !ear.refused.is_empty()
            {
                return Heard::No(std::mem::take(&mut ear.refused));
            }
            if !self.open_for(lane, index, request.bytes().len()) {
                return Heard::Wait;
            }
            if let Err(error) = self.ask_ear(lane, &names) {
                return Heard::No(error.to_vec());
            }
            let place = &mut self.lanes[lane as usize];
            let ear = place.ear.as_ref();
            if ear.is_some_and(|ear| !names.is_subset(&ear.confirmed)) {
                heard = Heard::Wait;
                if !place.waiters.contains(&peer) {
                    place.waiters.push(peer);
                }
            }
        }
        if matches!(heard, Heard::Wait) {
            self.desk.clients[index as usize].hold = Hold::Lane;
        }
        heard
    }

    /// The servers at which a client with this connection of its own needs ears.
    fn elsewhere(&self, home: u32) -> Vec<u32> {
        let place = &self.lanes[home as usize];
        let state = &self.pools[place.pool as usize];
        let others = |server: &u32| *server != place.server;
        match &state.cluster {
            Some(cluster) => cluster.taken().filter(others).collect(),
            None => {
                let servers = 0..state.setup.settings.servers.len() as u32;
                servers.filter(others).collect()
            }
        }
    }

    /// The ear at a server, made if there is none. None: there are too many connections.
    fn ear_at(&mut self, home: u32, server: u32) -> Option<u32> {
        let ears = &self.lanes[home as usize].ears;
        let at = |ear: &&u32| self.lanes[**ear as usize].server == server;
        if let Some(&ear) = ears.iter().find(at) {
            return Some(ear);
        }
        let ear = self.pin_ear(home, server)?;
        let place = &mut self.lanes[ear as usize];
        place.ear = Some(Box::default());
        self.lane_listens(ear);
        self.lanes[home as usize].ears.push(ear);
        Some(ear)
    }

    /// Asks an ear for what of this it was not asked for.
    fn ask_ear(&mut self, lane: u32, names: &Names) -> Result<(), &'static [u8]> {
        let now_ms = self.now_ms;
        let Some(ear) = &mut self.lanes[lane as usize].ear else {
            return Ok(());
        };
        let missing: Names = names.difference(&ear.asked).cloned().collect();
        if missing.is_empty() {
            return Ok(());
        }
        ear.asked_ms = now_ms;
        ear.asked.extend(missing.iter().cloned());
        self.arm(now_ms + HOLD.as_millis() as u64 + 1);
        self.tell_ear(lane, &moving::subscribe_to(&missing))
    }

    fn tell_ear(&mut self, lane: u32, bytes: &[u8]) -> Result<(), &'static [u8]> {
        if let Some(error) = self.shut(lane) {
            return Err(error);
        }
        self.lanes[lane as usize].ring.push(bytes);
        self.listens_later(lane);
        self.touch_lane(lane);
        Ok(())
    }

    /// Whether the ears of a client can be told so much more; if not, it waits for that.
    pub(super) fn ears_take(&mut self, index: u32, home: u32, bytes: usize) -> bool {
        let ears = self.lanes[home as usize].ears.clone();
        ears.into_iter().all(|ear| self.open_for(ear, index, bytes))
    }

    /// A client listens to some of this no more, or was refused it: its ears end what it does not ask for.
    pub(super) fn unheard_elsewhere(
        &mut self,
        home: u32,
        channels: Channels,
        request: &Request<'_>,
    ) {
        let kind = moving::kind(channels);
        let Some(&end) = ENDS.get(kind) else { return };
        for lane in self.lanes[home as usize].ears.clone() {
            let owner = self.lanes[lane as usize].owner;
            let wanted = owner
                .and_then(|owner| self.desk.find(owner))
                .and_then(|client| self.desk.clients[client as usize].cold.as_ref())
                .and_then(|cold| cold.subscriptions.as_ref());
            let (Some(wanted), Some(ear)) = (wanted, &mut self.lanes[lane as usize].ear) else {
                continue;
            };
            let mut over: Names = match request.count() {
                1 => ear
                    .asked
                    .iter()
                    .filter(|it| it.0 == kind)
                    .cloned()
                    .collect(),
                _ => {
                    let names = request.arguments().skip(1);
                    names.map(|it| (kind, it.value.to_vec())).collect()
                }
            };
            over.retain(|name| ear.asked.contains(name) && !wanted.are_asked(name));
            ear.asked.retain(|name| !over.contains(name));
            // What its server confirms of them from now on was asked for again.
            ear.confirmed.retain(|name| !over.contains(name));
            if ear.asked.is_empty() {
                self.drop_ear(home, lane);
            } else if !over.is_empty() {
                let mut words = vec![end];
                words.extend(over.iter().map(|(_, name)| name.as_slice()));
                let mut bytes = Vec::new();
                tandem_resp::encode_command(&words, &mut bytes);
                // One that cannot be told is not connected, and says what it wants when it is.
                let _ = self.tell_ear(lane, &bytes);
            }
        }
    }

    fn drop_ear(&mut self, home: u32, ear: u32) {
        self.lanes[home as usize].ears.retain(|it| *it != ear);
        self.desk.wake.append(&mut self.lanes[ear as usize].waiters);
        self.drop_pinned(ear);
    }

    /// A client's own connection brings messages no more: nor do its ears.
    pub(super) fn drop_ears(&mut self, home: u32) {
        for ear in std::mem::take(&mut self.lanes[home as usize].ears) {
            self.desk.wake.append(&mut self.lanes[ear as usize].waiters);
            self.drop_pinned(ear);
        }
    }

    /// An ear has waited for its server for as long as anyone may, or was refused what its client was told that it has.
    pub(super) fn ear_is_late(&mut self, lane: u32) -> bool {
        let place = &self.lanes[lane as usize];
        let Some(ear) = &place.ear else { return false };
        // One that waits for a primary has a bound of its own.
        if place.away.is_some() {
            return false;
        }
        if !ear.refused.is_empty() {
            return true;
        }
        if ear.asked.len() == ear.confirmed.len() {
            return false;
        }
        let until_ms = ear.asked_ms + HOLD.as_millis() as u64;
        self.arm(until_ms + 1);
        self.now_ms > until_ms
    }

    /// An ear has ended for good: its client is let go, or it would believe that it hears everything.
    pub(super) fn ear_lost(&mut self, ear: u32) {
        let owner = self.lanes[ear as usize].owner;
        let Some(index) = owner.and_then(|owner| self.desk.find(owner)) else {
            // It has left a moment ago, and what it had is given back with it.
            return;
        };
        let home = std::mem::replace(&mut self.desk.clients[index as usize].pinned, NONE);
        self.drop_pinned(home);
        self.subscriber_lost(index, ear);
    }

    /// Servers have come or gone, or a client's own connection is to another one: it has an ear at each of the others.
    pub(super) fn spread_anew(&mut self, home: u32) {
        let owner = self.lanes[home as usize].owner;
        let Some(index) = owner.and_then(|owner| self.desk.find(owner)) else {
            return;
        };
        let cold = self.desk.clients[index as usize].cold.as_ref();
        let Some(subscriptions) = cold.and_then(|cold| cold.subscriptions.as_ref()) else {
            return;
        };
        let names =
            subscriptions.asked_of(Channels::Plain, |name| is_everywhere(Channels::Plain, name));
        let patterns = subscriptions.asked_of(Channels::Patterns, |name| {
            is_everywhere(Channels::Patterns, name)
        });
        let names: Names = names.chain(patterns).cloned().collect();
        let servers = self.elsewhere(home);
        for ear in self.lanes[home as usize].ears.clone() {
            if !servers.contains(&self.lanes[ear as usize].server) {
                self.drop_ear(home, ear);
            }
        }
        if names.is_empty() {
            return;
        }
        for server in servers {
            let asked = match self.ear_at(home, server) {
                Some(ear) => self.ask_ear(ear, &names).map_err(|_| ear),
                None => Err(home),
            };
            if let Err(lost) = asked {
                let home = std::mem::replace(&mut self.desk.clients[index as usize].pinned, NONE);
                self.drop_pinned(home);
                self.subscriber_lost(index, lost);
                return;
            }
        }
    }

    /// The same of all clients of a pool.
    pub(super) fn all_spread_anew(&mut self, pool: u32) {
        for index in 0..self.lanes.len() as u32 {
            let lane = &self.lanes[index as usize];
            if lane.pool == pool && lane.listens && lane.ear.is_none() {
                self.spread_anew(index);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_listened_to_everywhere_if_it_may_match_a_notification() {
        for (pattern, everywhere) in [
            ("__keyspace@0__:*", true),
            ("__key*", true),
            ("__key", true),
            ("*", true),
            ("_*:set", true),
            ("??key*", true),
            ("[_x]_keyevent@?__:del", true),
            (r"\_\_keyevent@0__:del", true),
            ("[", false),
            ("__ke", false),
            ("", false),
            ("news.*", false),
            ("_", false),
            (r"\", false),
            (r"[\]", false),
            ("?news*", false),
        ] {
            let is = is_everywhere(Channels::Patterns, pattern.as_bytes());
            assert_eq!(is, everywhere, "{pattern}");
        }
        for (channel, everywhere) in [
            ("__keyspace@0__:a", true),
            ("__keyevent@15__:expired", true),
            ("__keys", false),
            ("*", false),
            ("a__keyspace@0__:a", false),
        ] {
            let is = is_everywhere(Channels::Plain, channel.as_bytes());
            assert_eq!(is, everywhere, "{channel}");
        }
    }

    #[test]
    fn a_message_says_which_subscription_it_is_for() {
        let table: [(&[u8], _); 6] = [
            (
                b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n",
                Some((0, &b"a"[..], &b"a"[..])),
            ),
            (
                b">4\r\n$8\r\npmessage\r\n$2\r\na*\r\n$2\r\nab\r\n$1\r\nx\r\n",
                Some((1, b"a*", b"ab")),
            ),
            (b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n", None),
            (b"+PONG\r\n", None),
            (b"*3\r\n$7\r\nmessage\r\n$9\r\na\r\n", None),
            (b"", None),
        ];
        for (frame, is) in table {
            assert_eq!(message(frame), is, "{}", String::from_utf8_lossy(frame));
        }
    }
}
