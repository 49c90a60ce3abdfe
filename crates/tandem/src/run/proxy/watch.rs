//! Listening to the daemons of a group none of whose servers is on this host.
//!
//! Daemons answer as sentinels do, so a group of another host is followed as a Sentinel fleet is: asked and heard at every
//! address given, the newest epoch decides, and the server that it names is believed when it says itself that it is
//! a primary. Links that are lost change nothing; the last word stays until a newer one comes.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use anyhow::Result;
use tandem_config::settings::{self as config, Settings};
use tandem_core::follow::{Follower, Input, Output, Settings as FollowSettings};
use tandem_core::sentinel::{self, Endpoint};
use tandem_core::topology::Rank;
use tandem_proxy::tls::Connector;
use tokio::sync::{mpsc, watch::Receiver};

use super::super::directory::Told;
use super::super::follow::{CONNECT_WITHIN, LINKS_MAX, heard, role};
use super::super::group::password;
use super::super::look::Looking;
use crate::redis::raw::Credentials;
use crate::sentinel::links::{Links, Options};

/// One group of other hosts.
pub(super) struct Watch {
    group: String,
    follower: Follower,
    links: Links,
    link_news: mpsc::Receiver<sentinel::Input>,
    roles_out: mpsc::Sender<Input>,
    roles_in: mpsc::Receiver<Input>,
    credentials: Option<Credentials>,
    source: IpAddr,
    looking: Looking,
    told: Told,
    /// Servers are asked for their role over TLS.
    tls: Option<Connector>,
}

impl Watch {
    /// Nothing is asked yet. What is heard is said to `told`.
    ///
    /// # Errors
    /// The password of the servers cannot be read.
    pub(super) fn new(
        settings: &Settings,
        proxy: &config::Proxy,
        group: &str,
        daemons: &[SocketAddr],
        told: Told,
    ) -> Result<Self> {
        let endpoint = |at: &SocketAddr| Endpoint::new(at.ip().to_string(), at.port());
        let password = proxy.password_file.as_deref().map(password).transpose()?;
        let follower = Follower::new(
            FollowSettings {
                group: group.to_owned(),
                master: group.to_owned(),
                sentinels: daemons.iter().map(endpoint).collect(),
                username: None,
                password: None,
                // None: no address belongs to this host.
                server: Endpoint::new("", 0),
                down_after: std::time::Duration::from_secs(1),
                daemons: true,
            },
            Instant::now(),
        );
        let (news, link_news) = mpsc::channel(LINKS_MAX);
        let (roles_out, roles_in) = mpsc::channel(LINKS_MAX);
        Ok(Self {
            group: group.to_owned(),
            follower,
            links: Links::new(news, Options::default()),
            link_news,
            roles_out,
            roles_in,
            credentials: password.map(|password| Credentials {
                user: proxy.access.server_user.clone().map(String::into_bytes),
                password,
            }),
            source: settings.host.address,
            looking: Looking::default(),
            told,
            tls: None,
        })
    }

    /// Servers are to be spoken to like this, as the proxy's threads do.
    pub(super) fn over_tls(&mut self, tls: Option<Connector>) {
        self.tls = tls;
    }

    /// Listens until `stop`. Needs a [`tokio::task::LocalSet`].
    pub(super) async fn run(mut self, mut stop: Receiver<bool>) -> Result<()> {
        self.feed(Input::Tick);
        let quiet = self.told.quiet.clone();
        let mut reported = Rank::default();
        let mut looks = self.told.looks.questions();
        loop {
            let now = Instant::now();
            let deadline = self.follower.next_wake(now).max(now);
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return Ok(()),
                Some(news) = self.link_news.recv() => {
                    if let sentinel::Input::Lost { conn, .. } = &news {
                        self.links.ended(*conn);
                    }
                    if let Some(input) = heard(news) {
                        self.feed(input);
                    }
                }
                Some(answer) = self.roles_in.recv() => self.feed(answer),
                rank = quiet.next_here(&self.group, &reported) => {
                    reported = rank.clone();
                    self.feed(Input::Quiet(rank));
                }
                // The sender is ours.
                Ok(()) = looks.changed() => {
                    self.looking.begin(*looks.borrow_and_update(), Instant::now());
                    self.feed(Input::Doubt);
                }
                () = tokio::time::sleep_until(deadline.into()) => self.feed(Input::Tick),
            }
            if let Some(at) = self.looking.end(&self.follower, Instant::now()) {
                self.told.looks.answer(&self.group, at);
            }
            self.links.flush();
        }
    }

    fn feed(&mut self, input: Input) {
        for output in self.follower.handle(input, Instant::now()) {
            self.carry(output);
        }
    }

    fn carry(&mut self, output: Output) {
        match output {
            Output::Connect { conn, to, kind } => {
                self.links.connect(conn, to, kind, false, CONNECT_WITHIN);
            }
            Output::Close(conn) => self.links.close(conn),
            Output::Send { conn, argv } => self.links.send(conn, &argv),
            Output::AskRole(server) => {
                let credentials = self.credentials.clone();
                let (roles, source) = (self.roles_out.clone(), self.source);
                let tls = self.tls.clone();
                tokio::spawn(async move {
                    let answer = match tls {
                        None => role::ask(&server, source, credentials).await,
                        Some(tls) => role::ask_over_tls(&server, credentials, &tls).await,
                    };
                    // The loop may have ended.
                    let _ = roles.send(Input::Role { server, answer }).await;
                });
            }
            Output::Publish(topology) => self.told.say(&self.group, None, topology),
            Output::Tell { name, text, alarm } => {
                if alarm {
                    tracing::warn!("proxy: group {}: {name}: {text}", self.group);
                } else {
                    tracing::info!("proxy: group {}: {name}: {text}", self.group);
                }
            }
            // No address follows a group of other hosts.
            Output::TakeAddress | Output::GiveAddress => {}
        }
    }
}
