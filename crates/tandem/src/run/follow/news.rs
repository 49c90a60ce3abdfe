//! What the loop of a group that is followed hears: connections, requests, the local server, the network.

use std::time::Instant;

use tandem_core::follow::{Input, Role};
use tandem_core::health::AnswerKind;
use tandem_core::keeper::{self, Reply, ServerEvent, Severity};
use tandem_core::sentinel::daemon::{self, About};
use tandem_core::sentinel::io::{Loss, Word};
use tandem_core::sentinel::{self, Endpoint};
use tandem_vrrp::garp::RoundKind;

use super::super::control::{Answer, Request};
use super::super::group::Event;
use super::{Followed, Kept, keep};
use crate::linux::addr::Change;
use crate::redis::raw::Target;

impl Followed {
    pub(super) fn link_news(&mut self, news: sentinel::Input) {
        if let sentinel::Input::Lost { conn, .. } = &news {
            self.links.ended(*conn);
        }
        if let Some(input) = heard(news) {
            self.feed(input);
        }
    }

    pub(super) fn event(&mut self, event: Event) {
        let now = Instant::now();
        match event {
            Event::Input(keeper::Input::Server(news)) => self.server_news(&news),
            Event::Input(keeper::Input::Stop) => {
                self.feed(Input::Stop);
                self.leaving = true;
            }
            Event::Net(change) => self.net(&change, now),
            Event::Control(request, answer) => {
                let reply = match request {
                    Request::Status => Answer::Follow(Box::new(self.follower.status(now))),
                    Request::Explain => Answer::Explain(self.follower.explain(now)),
                    Request::Command(_) => Answer::of(&Reply::Refused {
                        rule: "follow.fleet".to_owned(),
                        why: format!(
                            "a Sentinel fleet looks after this group: SENTINEL FAILOVER {} at one of its sentinels",
                            self.settings.fleet.master
                        ),
                    }),
                    Request::Witness(About::Life) => Answer::Witness(if self.dead {
                        daemon::Answer::Word(Word::Dead)
                    } else {
                        daemon::Answer::Wait("nothing proves that it ended".to_owned())
                    }),
                    Request::Witness(About::Tail) => Answer::Witness(self.keep()),
                };
                // Whoever asked may have gone.
                let _ = answer.send(reply);
            }
            // For groups that are led.
            Event::Input(_) | Event::Packet(_) | Event::Check { .. } | Event::Reload(..) => {}
        }
    }

    /// What a sentinel is told that is about to have the local server resynced.
    fn keep(&mut self) -> daemon::Answer {
        let wait = |why: &str| daemon::Answer::Wait(why.to_owned());
        match &self.kept {
            Kept::Nothing => {}
            Kept::Busy => return wait("what only this server holds is being archived"),
            Kept::Done(word) => return daemon::Answer::Word(word.clone()),
        }
        let Some(fleet) = self.follower.current().cloned() else {
            return wait("whom the fleet means is not known yet");
        };
        let local = self.settings.server;
        if fleet.primary == Endpoint::new(local.ip().to_string(), local.port()) {
            return wait("by what we heard the fleet means this very server");
        }
        self.kept = Kept::Busy;
        let target = Target {
            address: local,
            source: None,
            credentials: self.credentials.clone(),
        };
        let epoch = self.epoch();
        let (archive, done) = (self.archive.clone(), self.kept_out.clone());
        tokio::spawn(async move {
            let word = keep::keep(archive, target, fleet, epoch).await;
            // The loop may have ended.
            let _ = done.send(word).await;
        });
        wait("what only this server holds is being archived")
    }

    pub(super) fn kept(&mut self, word: Word) {
        match &word {
            Word::Archived(text) => self.tell("archived", text.clone(), Severity::Info),
            Word::Unarchived(why) => self.tell("archive-failed", why.clone(), Severity::Alarm),
            Word::Dead | Word::Owned => {}
        }
        self.kept = Kept::Done(word);
    }

    fn server_news(&mut self, news: &ServerEvent) {
        if matches!(news, ServerEvent::LastWords(_)) {
            // The death itself follows.
            return;
        }
        self.dead = matches!(news, ServerEvent::Dead(_));
        self.local = match news {
            ServerEvent::View(view) if view.is_writable() => Some(Role::Primary),
            ServerEvent::View(_) => Some(Role::Other),
            // Alive, and nothing says that its role changed; before the first reading that says nothing at all.
            ServerEvent::Answer(kind) | ServerEvent::Earlier(kind, _)
                if matches!(
                    kind,
                    AnswerKind::Fine | AnswerKind::Busy | AnswerKind::Misconf
                ) =>
            {
                if self.local.is_none() {
                    return;
                }
                self.local
            }
            ServerEvent::Answer(_) | ServerEvent::Earlier(..) => Some(Role::Other),
            ServerEvent::LastWords(_) | ServerEvent::Dead(_) => None,
        };
        if self.local == Some(Role::Primary) && matches!(self.kept, Kept::Done(_)) {
            // Whatever it writes from here on is another divergence.
            self.kept = Kept::Nothing;
        }
        self.feed(Input::Local(self.local));
    }

    pub(super) fn net(&mut self, change: &Change, now: Instant) {
        if self
            .front
            .as_mut()
            .is_some_and(|front| front.net_change(change, now))
        {
            self.announce(RoundKind::Requested, now);
        }
    }
}

fn words(loss: Loss) -> &'static str {
    match loss {
        Loss::Refused => "connection refused",
        Loss::Closed => "connection closed",
        Loss::TimedOut => "no answer in time",
        Loss::Unreachable => "not reachable",
        Loss::Garbled => "it does not speak the protocol",
    }
}

/// What happened on a connection, for a [`Follower`].
pub(in crate::run) fn heard(news: sentinel::Input) -> Option<Input> {
    use sentinel::Input as News;
    match news {
        News::Connected { conn, .. } => Some(Input::Connected(conn)),
        News::Lost { conn, loss } => Some(Input::Lost(conn, words(loss).to_owned())),
        News::Reply { conn, value } => Some(Input::Reply(conn, value)),
        News::Heard {
            conn,
            channel,
            message,
        } => Some(Input::Heard {
            conn,
            channel,
            message,
        }),
        // Connections say nothing else.
        News::Tick
        | News::Asked { .. }
        | News::Saved { .. }
        | News::ScriptStarted { .. }
        | News::ScriptEnded { .. }
        | News::Resolved { .. }
        | News::Witness { .. }
        | News::Late(_) => None,
    }
}
