//! A group that an existing Sentinel fleet looks after: the shell around a [`Follower`].
//!
//! The follower decides whom the fleet means and whether the addresses belong here. This loop carries its connections
//! ([`crate::sentinel::links`]), asks servers for their role, watches the local server as for a group that is led
//! ([`super::server`]), and puts the addresses on and takes them off. No server is ever told anything, but for one
//! case: the local one is about to be resynced by the fleet and holds writes of its own ([`keep`]). What the loop hears is
//! in [`news`], what it does with addresses in [`address`].

mod address;
mod keep;
mod news;
pub(super) mod role;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tandem_config::settings::{self as config, Settings};
use tandem_core::follow::{Follower, Input, Output, Role, Settings as FollowSettings};
use tandem_core::ids::Epoch;
use tandem_core::keeper::{Event as Line, Severity};
use tandem_core::sentinel::io::Word;
use tandem_core::sentinel::{self, Endpoint};
use tandem_vrrp::garp::{Announcements, RoundKind};
use tokio::sync::mpsc;

use super::archive::Archive;
use super::directory::Told;
use super::events::Events;
use super::front::{Front, Place};
use super::group::{Event, monitor, password};
use super::hooks::Hooks;
use super::look::Looking;
use super::server::{self, Server};
use crate::redis::raw::{Credentials, Target};
use crate::sentinel::links::{Links, Options};
pub(super) use news::heard;

/// What happens on connections and waits for the loop; connections stop reading when it is full.
pub(super) const LINKS_MAX: usize = 256;
/// Bound on a connection attempt to a sentinel.
pub(super) const CONNECT_WITHIN: Duration = Duration::from_millis(500);

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
}
