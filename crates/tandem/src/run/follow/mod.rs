//! A group that an existing Sentinel fleet looks after: the shell around a [`Follower`].
//!
//! The follower decides whom the fleet means and whether the addresses belong here. This loop carries its connections
//! ([`crate::sentinel::links`]), asks servers for their role, watches the local server as for a group that is led
//! ([`super::server`]), and puts the addresses on and takes them off. No server is ever told anything, but for one
//! case: the local one is about to be resynced by the fleet and holds writes of its own ([`keep`]).

mod keep;
pub(super) mod role;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tandem_config::settings::{self as config, Settings};
use tandem_core::follow::{Follower, Input, Output, Role, Settings as FollowSettings};
use tandem_core::health::AnswerKind;
use tandem_core::ids::Epoch;
use tandem_core::keeper::{self, Event as Line, Hook, Reply, ServerEvent, Severity};
use tandem_core::sentinel::daemon::{self, About};
use tandem_core::sentinel::io::{Loss, Word};
use tandem_core::sentinel::{self, Endpoint};
use tandem_vrrp::garp::{Announcements, Round, RoundKind};
use tokio::sync::mpsc;

use super::archive::Archive;
use super::control::{Answer, Request};
use super::directory::Told;
use super::events::Events;
use super::front::{Front, Place};
use super::group::{Event, monitor, password};
use super::hooks::Hooks;
use super::look::Looking;
use super::server::{self, Server};
use crate::linux::addr::Change;
use crate::redis::raw::{Credentials, Target};
use crate::sentinel::links::{Links, Options};

/// What happens on connections and waits for the loop; connections stop reading when it is full.
pub(super) const LINKS_MAX: usize = 256;
/// Bound on a connection attempt to a sentinel.
pub(super) const CONNECT_WITHIN: Duration = Duration::from_millis(500);
/// Announcements of an address that came here: the second round is for switches that forgot the first.
const SECOND_ROUND: Duration = Duration::from_secs(5);
/// Frames per address and round.
const REPEAT: u32 = 5;

/// What became of data that only the local server holds.
enum Kept {
    /// Nobody asked.
    Nothing,
    /// It is being archived.
    Busy,
    /// The answer for all who ask, until the server is a primary again.
    Done(Word),
}

/// One group that is followed.
pub(crate) struct Followed {
    settings: config::Follow,
    follower: Follower,
    events_in: mpsc::Receiver<Event>,
    links: Links,
    link_news: mpsc::Receiver<sentinel::Input>,
    roles_out: mpsc::Sender<Input>,
    roles_in: mpsc::Receiver<Input>,
    front: Option<Front>,
    /// What the local server said last.
    local: Option<Role>,
    /// Its process is gone, by proof.
    dead: bool,
    archive: Archive,
    kept: Kept,
    kept_out: mpsc::Sender<Word>,
    kept_in: mpsc::Receiver<Word>,
    source: IpAddr,
    credentials: Option<Credentials>,
    second_round: Option<Instant>,
    looking: Looking,
    told: Told,
    events: Events,
    hooks: Hooks,
    leaving: bool,
}

impl Followed {
    /// Opens everything a group needs. Nothing is decided or changed yet. Needs a [`tokio::task::LocalSet`].
    pub(crate) fn open(
        settings: &Settings,
        follow: &config::Follow,
        told: Told,
        events_out: mpsc::Sender<Event>,
        events_in: mpsc::Receiver<Event>,
    ) -> Result<Self> {
        let dir = super::group_dir(settings, &follow.name);
        let credentials = follow.password_file.as_deref().map(password).transpose()?;
        let credentials = credentials.map(|password| Credentials {
            user: follow
                .username
                .as_ref()
                .map(|user| user.clone().into_bytes()),
            password,
        });
        let fleet = &follow.fleet;
        let fleet_password = fleet.password_file.as_deref().map(password).transpose()?;
        let endpoint = |at: std::net::SocketAddr| Endpoint::new(at.ip().to_string(), at.port());
        let follower = Follower::new(
            FollowSettings {
                group: follow.name.clone(),
                master: fleet.master.clone(),
                sentinels: fleet.sentinels.iter().map(|at| endpoint(*at)).collect(),
                username: fleet.username.clone(),
                password: fleet_password,
                server: endpoint(follow.server),
                down_after: follow.down_after,
                daemons: false,
            },
            Instant::now(),
        );
        let front = follow.vip.as_ref().map(|vip| {
            let place = Place {
                group: &follow.name,
                server: follow.server,
                vip: Some(vip),
                gated: true,
            };
            let friends = vec![settings.host.address, follow.server.ip()];
            Front::open(&place, friends, &Announcements::default())
        });
        let target = Target {
            address: follow.server,
            source: None,
            credentials: credentials.clone(),
        };
        let server = Server::new(target);
        tokio::spawn(server::watch(server, follow.down_after, events_out.clone()));
        tokio::spawn(monitor(events_out));
        let (news, link_news) = mpsc::channel(LINKS_MAX);
        let (roles_out, roles_in) = mpsc::channel(LINKS_MAX);
        let (kept_out, kept_in) = mpsc::channel(1);
        Ok(Self {
            follower,
            events_in,
            links: Links::new(news, Options::default()),
            link_news,
            roles_out,
            roles_in,
            front: front.transpose().context("group.vip")?,
            local: None,
            dead: false,
            archive: Archive::new(&dir, &follow.name, &settings.host.id, follow.archive),
            kept: Kept::Nothing,
            kept_out,
            kept_in,
            source: settings.host.address,
            credentials,
            second_round: None,
            looking: Looking::default(),
            told,
            events: Events::new(&follow.name, &dir),
            hooks: Hooks::new(config::Hooks {
                on_vip: follow.on_vip.clone(),
                ..config::Hooks::default()
            }),
            settings: follow.clone(),
            leaving: false,
        })
    }

    /// Runs until the daemon is told to stop.
    pub(crate) async fn run(mut self) -> Result<()> {
        // Whether addresses of an earlier daemon belong here is decided anew: until then they are not ours to hold.
        if let Some(front) = &mut self.front
            && front.has_leftovers()
        {
            front
                .drop_addresses()
                .context("addresses of an earlier daemon")?;
        }
        self.feed(Input::Tick);
        let mut looks = self.told.looks.questions();
        loop {
            let deadline = self.deadline();
            tokio::select! {
                biased;
                // The sender is ours.
                Ok(()) = looks.changed() => self.look(*looks.borrow_and_update()),
                Some(news) = self.link_news.recv() => self.link_news(news),
                Some(answer) = self.roles_in.recv() => self.feed(answer),
                Some(word) = self.kept_in.recv() => self.kept(word),
                event = self.events_in.recv() => match event {
                    Some(event) => self.event(event),
                    // All senders are gone with the daemon.
                    None => return Ok(()),
                },
                () = tokio::time::sleep_until(deadline.into()) => self.tick(),
            }
            self.looked();
            self.links.flush();
            if self.leaving {
                if let Some(front) = self.front.take() {
                    front.leave(false);
                }
                return Ok(());
            }
        }
    }

    /// Somebody wants to know whether what is told still holds.
    fn look(&mut self, at: Duration) {
        self.looking.begin(at, Instant::now());
        self.feed(Input::Doubt);
    }

    fn looked(&mut self) {
        if let Some(at) = self.looking.end(&self.follower, Instant::now()) {
            self.told.looks.answer(&self.settings.name, at);
        }
    }

    fn deadline(&self) -> Instant {
        let now = Instant::now();
        let front = self.front.as_ref().and_then(Front::next_deadline);
        let follower = self.follower.next_wake(now);
        let all = [front, self.second_round].into_iter().flatten();
        all.fold(follower, Instant::min).max(now)
    }

    fn tick(&mut self) {
        let now = Instant::now();
        if let Some(front) = &mut self.front {
            front.tick(now);
        }
        if self.second_round.is_some_and(|at| now >= at) {
            self.second_round = None;
            self.announce(RoundKind::EntryRepeat, now);
        }
        self.feed(Input::Tick);
    }

    fn link_news(&mut self, news: sentinel::Input) {
        if let sentinel::Input::Lost { conn, .. } = &news {
            self.links.ended(*conn);
        }
        if let Some(input) = heard(news) {
            self.feed(input);
        }
    }

    fn event(&mut self, event: Event) {
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

    fn kept(&mut self, word: Word) {
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

    fn net(&mut self, change: &Change, now: Instant) {
        if self
            .front
            .as_mut()
            .is_some_and(|front| front.net_change(change, now))
        {
            self.announce(RoundKind::Requested, now);
        }
    }

    fn feed(&mut self, input: Input) {
        let now = Instant::now();
        for output in self.follower.handle(input, now) {
            self.carry(output, now);
        }
    }

    fn carry(&mut self, output: Output, now: Instant) {
        match output {
            Output::Connect { conn, to, kind } => {
                self.links.connect(conn, to, kind, false, CONNECT_WITHIN);
            }
            Output::Close(conn) => self.links.close(conn),
            Output::Send { conn, argv } => self.links.send(conn, &argv),
            Output::AskRole(server) => {
                let credentials = self.credentials.clone();
                let (roles, source) = (self.roles_out.clone(), self.source);
                tokio::spawn(async move {
                    let answer = role::ask(&server, source, credentials).await;
                    // The loop may have ended.
                    let _ = roles.send(Input::Role { server, answer }).await;
                });
            }
            Output::TakeAddress => self.take_address(now),
            Output::GiveAddress => self.give_address(),
            Output::Publish(topology) => {
                let address = self
                    .told
                    .address(self.settings.vip.as_ref(), self.settings.server);
                self.told.say(&self.settings.name, address, topology);
            }
            Output::Tell { name, text, alarm } => {
                let severity = if alarm {
                    Severity::Alarm
                } else {
                    Severity::Info
                };
                self.tell(name, text, severity);
            }
        }
    }

    fn epoch(&self) -> Epoch {
        Epoch {
            counter: self.follower.current().map_or(0, |it| it.epoch.0),
            ..Epoch::zero()
        }
    }

    fn tell(&self, name: &'static str, text: String, severity: Severity) {
        self.events.tell(&Line {
            name,
            epoch: self.epoch(),
            text,
            severity,
            hook: None,
        });
    }

    fn take_address(&mut self, now: Instant) {
        let Some(front) = &mut self.front else {
            return;
        };
        let taken = front
            .reopen()
            .and_then(|()| front.add(now).context("putting the addresses on"));
        match taken {
            Ok(()) => {
                self.announce(RoundKind::Entry, now);
                self.second_round = Some(now + SECOND_ROUND);
                let text = "the fleet's primary is this host's server".to_owned();
                let epoch = self
                    .follower
                    .current()
                    .map_or(0, |it| it.epoch.0)
                    .to_string();
                self.hooks.fire(
                    Hook::VipUp,
                    &self.settings.name,
                    &epoch,
                    &text,
                    Severity::Info,
                );
                self.tell("+vip", text, Severity::Info);
            }
            Err(error) => self.tell("vip-failed", format!("{error:#}"), Severity::Alarm),
        }
    }

    /// Clients are refused and reset while the address is still here, and then it goes.
    fn give_address(&mut self) {
        self.second_round = None;
        let Some(front) = &mut self.front else {
            return;
        };
        if let Err(error) = front.close(false, false) {
            tracing::warn!("{}: closing the front: {error:#}", self.settings.name);
        }
        if let Err(error) = front.drop_addresses() {
            let text = format!("removing the addresses: {error}");
            self.tell("vip-failed", text, Severity::Alarm);
        } else {
            let text = "the addresses do not belong on this host any more".to_owned();
            self.tell("-vip", text, Severity::Info);
        }
    }

    fn announce(&mut self, kind: RoundKind, now: Instant) {
        if let Some(front) = &mut self.front {
            let repeat = REPEAT;
            front.announce(Round { kind, repeat }, now);
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
pub(super) fn heard(news: sentinel::Input) -> Option<Input> {
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
