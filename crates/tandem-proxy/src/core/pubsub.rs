//! Messages: who subscribes gets a connection of its own to one server, and what comes there goes to it as it is.
//!
//! All plain channels and patterns live on one server of a pool, so that one connection brings all of a client's
//! messages in order and a pattern sees every channel; PUBLISH goes there too. Sharded channels live where a key of
//! their name would. Keyspace notifications are listened to everywhere ([`ears`](super::ears)).

use std::collections::VecDeque;

use super::cluster::{Home, sends_on};
use super::desk::Desk;
use super::ears::{self, Heard};
use super::intake::Taken;
use super::lane::Lane;
use super::moving;
use super::scatter::ANYWHERE;
use super::slots::NONE;
use super::{Core, text};
use crate::command::{Channels, Command, Connection, Local, PubSub, Route};
use crate::frame::Request;

impl Core {
    /// PUBLISH, SUBSCRIBE and what belongs to them.
    pub(super) fn pubsub(&mut self, index: u32, which: PubSub, request: &Request<'_>) -> Taken {
        match which {
            PubSub::Publish(Channels::Sharded) => {
                let channel = request.argument(1).unwrap_or_default();
                self.by_key(index, channel, request.bytes())
            }
            PubSub::Publish(Channels::Plain | Channels::Patterns) | PubSub::Inspect => {
                self.anywhere(index, request)
            }
            PubSub::Subscribe(channels) => self.subscribe(index, channels, request),
            PubSub::Unsubscribe(channels) => self.unsubscribe(index, channels, request),
        }
    }

    fn subscribe(&mut self, index: u32, channels: Channels, request: &Request<'_>) -> Taken {
        let pool = self.desk.clients[index as usize].pool;
        let home = match channels {
            _ if self.pools[pool as usize].cluster.is_some() => {
                match self.home_in_cluster(index, channels, request) {
                    Some(Home::At(home)) => Some(home),
                    Some(Home::Error(error)) => {
                        self.desk.say(index, error);
                        return Taken::Yes;
                    }
                    None => None,
                }
            }
            Channels::Plain | Channels::Patterns => self.server_for(pool, ANYWHERE),
            Channels::Sharded => {
                let mut home = None;
                for channel in request.arguments().skip(1) {
                    let server = self.server_for(pool, channel.value);
                    if home.is_some() && home != server {
                        self.desk.say(index, text::CROSS_SHARD);
                        return Taken::Yes;
                    }
                    home = server;
                }
                home
            }
        };
        let Some(home) = home else {
            self.nobody(index);
            return Taken::Yes;
        };
        if self.desk.clients[index as usize].pinned == NONE {
            if !self.desk.quiet(index) {
                return Taken::Wait;
            }
            let Some(lane) = self.pin(index, home) else {
                return Taken::Yes;
            };
            self.begins_to_listen(index, lane);
        }
        let lane = self.desk.clients[index as usize].pinned;
        if self.lanes[lane as usize].server != home || !self.lanes[lane as usize].messages {
            self.desk.say(index, text::PINNED_ELSEWHERE);
            return Taken::Yes;
        }
        match self.heard_elsewhere(index, lane, channels, request) {
            Heard::Yes => self.tell_wish(index, lane, (channels, true), request),
            Heard::Wait => Taken::Wait,
            Heard::No(error) => {
                self.desk.say(index, &error);
                self.unheard_elsewhere(lane, channels, request);
                let cold = self.desk.cold_mut(index);
                let subscriptions = cold.and_then(|cold| cold.subscriptions.as_ref());
                if subscriptions.is_some_and(|it| it.are_none()) {
                    self.subscribed_no_more(lane);
                }
                Taken::Yes
            }
        }
    }

    /// Sends a change of subscriptions.
    fn tell_wish(
        &mut self,
        index: u32,
        lane: u32,
        (channels, on): (Channels, bool),
        request: &Request<'_>,
    ) -> Taken {
        if let Some(error) = self.shut(lane) {
            self.desk.say(index, error);
            return Taken::Yes;
        }
        let taken = self.tell(index, lane, request);
        if taken == Taken::Yes
            && let Some(subscriptions) = &mut self.desk.cold(index).subscriptions
        {
            subscriptions.ask(channels, on, request);
        }
        taken
    }

    fn unsubscribe(&mut self, index: u32, channels: Channels, request: &Request<'_>) -> Taken {
        let lane = self.desk.clients[index as usize].pinned;
        if lane == NONE || !self.lanes[lane as usize].messages {
            return self.unsubscribe_nothing(index, request);
        }
        if !self.ears_take(index, lane, request.bytes().len()) {
            return Taken::Wait;
        }
        let taken = self.tell_wish(index, lane, (channels, false), request);
        if taken == Taken::Yes {
            self.unheard_elsewhere(lane, channels, request);
        }
        taken
    }

    /// What a server says to someone without subscriptions.
    fn unsubscribe_nothing(&mut self, index: u32, request: &Request<'_>) -> Taken {
        let resp3 = self.desk.clients[index as usize].resp3;
        let (head, null): (&[u8], &[u8]) = if resp3 {
            (b">3\r\n", b"_\r\n")
        } else {
            (b"*3\r\n", b"$-1\r\n")
        };
        let name = request.argument(0).unwrap_or_default().to_ascii_lowercase();
        let mut reply = self.desk.spare.take();
        let mut confirm = |channel: Option<&[u8]>| {
            reply.extend_from_slice(head);
            tandem_resp::write_bulk(&name, &mut reply);
            match channel {
                Some(channel) => tandem_resp::write_bulk(channel, &mut reply),
                None => reply.extend_from_slice(null),
            }
            tandem_resp::write_integer(0, &mut reply);
        };
        if request.count() == 1 {
            confirm(None);
        }
        for channel in request.arguments().skip(1) {
            confirm(Some(channel.value));
        }
        self.desk.say(index, &reply);
        self.desk.spare.give(reply);
        Taken::Yes
    }

    /// Sends something on a connection for messages; what it answers comes as messages do.
    fn tell(&mut self, index: u32, lane: u32, request: &Request<'_>) -> Taken {
        if !self.open_for(lane, index, request.bytes().len()) {
            return Taken::Wait;
        }
        if let Some(error) = self.shut(lane) {
            self.desk.say(index, error);
            return Taken::Yes;
        }
        self.lanes[lane as usize].ring.push(request.bytes());
        self.listens_later(lane);
        self.touch_lane(lane);
        Taken::Yes
    }

    /// A request of someone with subscriptions who speaks RESP2, where replies and messages cannot be told apart.
    /// None: the ordinary thing.
    pub(super) fn while_subscribed(
        &mut self,
        index: u32,
        command: &'static Command,
        request: &Request<'_>,
    ) -> Option<Taken> {
        match command.route {
            Route::PubSub(PubSub::Subscribe(_) | PubSub::Unsubscribe(_))
            | Route::Connection(Connection::Quit | Connection::Reset) => None,
            Route::Local(Local::Ping) => {
                let lane = self.desk.clients[index as usize].pinned;
                let taken = self.tell(index, lane, request);
                if taken == Taken::Yes
                    && let Some(subscriptions) = &mut self.desk.cold(index).subscriptions
                {
                    subscriptions.owed.push(1);
                }
                Some(taken)
            }
            Route::OneKey { .. }
            | Route::Split { .. }
            | Route::Keys
            | Route::Script
            | Route::Blocking(_)
            | Route::Wait
            | Route::Monitor
            | Route::AnyShard
            | Route::OnlyShard
            | Route::AllShards(_)
            | Route::AllNodes(_)
            | Route::Scan
            | Route::PubSub(PubSub::Publish(_) | PubSub::Inspect)
            | Route::Transaction(_)
            | Route::Connection(_)
            | Route::Local(_)
            | Route::Container
            | Route::Refused(_) => {
                let name = command.name.as_bytes();
                let error = text::about("Can't execute ", name, text::ONLY_SUBSCRIBED);
                self.desk.say(index, &error);
                Some(Taken::Yes)
            }
        }
    }

    /// The last subscription is gone: the client is an ordinary one again.
    pub(super) fn subscribed_no_more(&mut self, lane: u32) {
        let owner = self.lanes[lane as usize].owner;
        let Some(index) = owner.and_then(|owner| self.desk.find(owner)) else {
            return;
        };
        if let Some(cold) = &mut self.desk.clients[index as usize].cold {
            cold.subscribed = false;
            cold.subscriptions = None;
        }
        self.desk.clients[index as usize].set_special();
        self.unpin(index);
    }
}

/// What a frame on a connection for messages was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Came {
    /// Something for its owner.
    Message,
    /// The last word about a subscription: none is left.
    LastUnsubscribed,
    /// The last word about subscriptions that were made again.
    LastRenewed,
    /// What it listens to is elsewhere; why is with its lane.
    SentOn,
}

/// Something came on a connection for messages.
pub(super) fn message(desk: &mut Desk, lane: &mut Lane, frame: &[u8]) -> Came {
    let Some(index) = lane.owner.and_then(|owner| desk.find(owner)) else {
        return Came::Message;
    };
    if lane.ear.is_some() {
        return ears::heard(desk, lane, index, frame);
    }
    if sends_on(lane, frame) {
        lane.sent_on = frame.to_vec();
        return Came::SentOn;
    }
    if desk.clients[index as usize].is_monitoring() {
        desk.stream(index, frame);
        // MONITOR itself was refused: then its client is an ordinary one again.
        return match frame.first() {
            Some(b'-') => Came::LastUnsubscribed,
            _ => Came::Message,
        };
    }
    let mut over = ends_subscriptions(frame);
    if let Some(said) = moving::confirmation(frame) {
        if lane.clustered
            && !said.on
            && let Some(subscriptions) = &mut desk.cold(index).subscriptions
            && subscriptions.are_ended_by(&said)
        {
            lane.sent_on = frame.to_vec();
            return Came::SentOn;
        }
        if said.on && lane.renewing > 0 {
            lane.renewing -= 1;
            return match lane.renewing {
                0 => Came::LastRenewed,
                _ => Came::Message,
            };
        }
        if let Some(subscriptions) = &mut desk.cold(index).subscriptions {
            subscriptions.confirm(&said);
            over = subscriptions.owed.confirmed(over);
        }
    } else if !is_message(frame)
        && let Some(subscriptions) = &mut desk.cold(index).subscriptions
    {
        over = subscriptions.owed.answered();
        if frame.first() == Some(&b'-') {
            subscriptions.refused();
        }
    }
    desk.stream(index, frame);
    match over {
        true => Came::LastUnsubscribed,
        false => Came::Message,
    }
}

/// What a server has still to say to a subscriber: one answer for each channel of each request, in their order. While
/// there is something, a subscription that is the last may be followed by another.
#[derive(Debug, Default)]
pub(super) struct Owed {
    /// Of each request, how many answers are left; at least 1.
    answers: VecDeque<usize>,
    /// The last word was that there is a subscription.
    some_left: bool,
}

impl Owed {
    /// A request that gets so many answers, and one if there is nothing to say.
    pub(super) fn push(&mut self, answers: usize) {
        self.answers.push_back(answers.max(1));
    }

    /// An answer to one channel of a request; `none_left`: no subscription is left after it. Whether all is over.
    fn confirmed(&mut self, none_left: bool) -> bool {
        self.some_left = !none_left;
        match self.answers.front_mut() {
            Some(left) if *left > 1 => *left -= 1,
            Some(_) | None => drop(self.answers.pop_front()),
        }
        self.is_over()
    }

    /// An answer to the whole of a request: to PING, or an error. Whether all is over.
    fn answered(&mut self) -> bool {
        self.answers.pop_front();
        self.is_over()
    }

    /// Whether no answer is missing.
    pub(super) fn is_nothing(&self) -> bool {
        self.answers.is_empty()
    }

    fn is_over(&self) -> bool {
        !self.some_left && self.answers.is_empty()
    }
}

/// Whether a frame is something that was published.
fn is_message(frame: &[u8]) -> bool {
    const KINDS: [&[u8]; 3] = [
        b"$7\r\nmessage\r\n",
        b"$8\r\npmessage\r\n",
        b"$8\r\nsmessage\r\n",
    ];
    let rest = memchr::memchr(b'\n', frame).map(|end| &frame[end + 1..]);
    rest.is_some_and(|rest| KINDS.iter().any(|kind| rest.starts_with(kind)))
}

/// Whether this is the confirmation of an UNSUBSCRIBE with a count of 0.
fn ends_subscriptions(frame: &[u8]) -> bool {
    const KINDS: [&[u8]; 3] = [
        b"$11\r\nunsubscribe\r\n",
        b"$12\r\npunsubscribe\r\n",
        b"$12\r\nsunsubscribe\r\n",
    ];
    let rest = frame
        .strip_prefix(b"*3\r\n")
        .or_else(|| frame.strip_prefix(b">3\r\n"));
    frame.ends_with(b"\r\n:0\r\n")
        && rest.is_some_and(|rest| KINDS.iter().any(|kind| rest.starts_with(kind)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_confirmation_that_says_zero_ends_subscriptions() {
        for (frame, ends) in [
            (&b"*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:0\r\n"[..], true),
            (b">3\r\n$12\r\npunsubscribe\r\n_\r\n:0\r\n", true),
            (b"*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:1\r\n", false),
            (b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:0\r\n", false),
            (b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$4\r\n\r\n:0\r\n", false),
        ] {
            assert_eq!(
                ends_subscriptions(frame),
                ends,
                "{:?}",
                String::from_utf8_lossy(frame)
            );
        }
    }
}
