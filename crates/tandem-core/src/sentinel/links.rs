//! Links: which connections there should be, and what is said first on each.
//!
//! As in Redis a server has a command connection and a hearing one of its own in each group, a sentinel one command
//! connection for all groups. A connection is made anew at once when it is lost, because a refusal is news (see
//! evidence.rs), and then ever more slowly, down to once per ping period, which is Redis' pace from the beginning.
//! What is said first is sent before the connection stands: AUTH, CLIENT SETNAME, PING, then INFO
//! from a server and the question for its program from a sentinel; SUBSCRIBE on the hearing one.

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::sentinel::due::Key;
use crate::sentinel::hello::CHANNEL;
use crate::sentinel::ids::{Endpoint, SentinelId};
use crate::sentinel::io::{ConnId, ConnKind, Level, Loss, Output};
use crate::sentinel::machine::Sentinel;
use crate::sentinel::model::{Conn, Expect, Group, GroupId, Link, LinkId, Owner};

/// First wait between attempts; doubles up to the ping period. A second refusal this long after the first is proof
/// that nobody listens, and not a listener that was just being replaced.
const RETRY_FIRST: Duration = Duration::from_millis(50);
/// Commands without a reply for each user of a link, above which nothing periodic is sent (Redis).
const PENDING_MAX: usize = 100;

impl Sentinel {
    /// A new link, whose connections are made at once.
    pub(super) fn add_link(&mut self, owner: Owner, to: Endpoint) -> LinkId {
        let id = LinkId(self.number());
        self.links.insert(id, Link::new(owner, to, self.now));
        self.due.set(Key::Link(id), self.now);
        id
    }

    /// Ends a link and its connections.
    pub(super) fn drop_link(&mut self, id: LinkId) {
        self.close(id, ConnKind::Command);
        self.close(id, ConnKind::PubSub);
        self.links.remove(&id);
        self.due.forget(Key::Link(id));
    }

    /// The link to a sentinel, used by one group more.
    pub(super) fn join_peer_link(
        &mut self,
        peer: &SentinelId,
        at: &Endpoint,
        group: GroupId,
    ) -> LinkId {
        if let Some(id) = self.peer_links.get(peer)
            && let Some(link) = self.links.get_mut(id)
            && let Owner::Peer(_, groups) = &mut link.owner
        {
            groups.insert(group);
            link.users = u32::try_from(groups.len()).unwrap_or(u32::MAX);
            return *id;
        }
        let owner = Owner::Peer(peer.clone(), BTreeSet::from([group]));
        let id = self.add_link(owner, at.clone());
        self.peer_links.insert(peer.clone(), id);
        id
    }

    /// The link to a sentinel, used by one group less; the last one ends it.
    pub(super) fn leave_peer_link(&mut self, peer: &SentinelId, group: GroupId) {
        let Some(&id) = self.peer_links.get(peer) else {
            return;
        };
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        if let Owner::Peer(_, groups) = &mut link.owner {
            groups.remove(&group);
            link.users = u32::try_from(groups.len()).unwrap_or(u32::MAX);
            if groups.is_empty() {
                self.peer_links.remove(peer);
                self.drop_link(id);
            }
        }
    }

    /// Closes the connections of a link; it is made anew at once. For new credentials or a new address.
    pub(super) fn renew_link(&mut self, id: LinkId) {
        self.close(id, ConnKind::Command);
        self.close(id, ConnKind::PubSub);
        if let Some(link) = self.links.get_mut(&id) {
            link.failures = 0;
            link.retry_at = self.now;
        }
        self.due.set(Key::Link(id), self.now);
    }

    /// Closes one connection of a link, if there is one.
    pub(super) fn close(&mut self, id: LinkId, kind: ConnKind) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        let conn = match kind {
            ConnKind::Command => link.command.take(),
            ConnKind::PubSub => link.pubsub.take(),
        };
        if let Some(conn) = conn {
            self.conns.remove(&conn.id);
            self.out.push(Output::Close { conn: conn.id });
            self.unanswered(conn.expects);
        }
    }

    /// Makes the connections that a link lacks, if it is time.
    ///
    /// # Returns
    /// When it will be, if it is not.
    pub(super) fn reconnect(&mut self, id: LinkId) -> Option<Instant> {
        let link = self.links.get_mut(&id)?;
        // Port 0 marks an address that is not to be contacted.
        if link.to.port == 0 {
            return None;
        }
        let (command, hearing) = (
            link.command.is_none(),
            link.is_server() && link.pubsub.is_none(),
        );
        if !command && !hearing {
            return None;
        }
        if self.now < link.retry_at {
            return Some(link.retry_at);
        }
        link.last_attempt = Some(self.now);
        if command {
            self.connect(id, ConnKind::Command);
        }
        if hearing {
            self.connect(id, ConnKind::PubSub);
        }
        None
    }

    fn connect(&mut self, id: LinkId, kind: ConnKind) {
        let conn = ConnId(self.number());
        let now = self.now;
        let tls = self.globals.tls_replication;
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        let new = Conn {
            id: conn,
            since: now,
            up: false,
            expects: VecDeque::new(),
        };
        match kind {
            ConnKind::Command => link.command = Some(new),
            ConnKind::PubSub => {
                link.pubsub = Some(new);
                link.pubsub_activity = now;
            }
        }
        let to = link.to.clone();
        self.conns.insert(conn, (id, kind));
        self.out.push(Output::Connect {
            conn,
            to,
            kind,
            tls,
        });
        self.introduce(id, conn, kind);
    }

    /// What is said first.
    fn introduce(&mut self, id: LinkId, conn: ConnId, kind: ConnKind) {
        let auth = self.credentials(id);
        let name = match kind {
            ConnKind::Command => format!("sentinel-{}-cmd", self.id.short()),
            ConnKind::PubSub => format!("sentinel-{}-pubsub", self.id.short()),
        };
        let words = |command: &[&str]| -> Vec<Vec<u8>> {
            command
                .iter()
                .map(|word| word.as_bytes().to_vec())
                .collect()
        };
        if kind == ConnKind::PubSub {
            // What is heard tells whether these were taken: their replies are the shell's.
            let mut first = Vec::new();
            if let Some(auth) = auth {
                first.push(self.renamed(id, auth));
            }
            first.push(self.renamed(id, words(&["CLIENT", "SETNAME", &name])));
            first.push(self.renamed(id, words(&["SUBSCRIBE", CHANNEL])));
            for argv in first {
                self.out.push(Output::Send { conn, argv });
            }
            return;
        }
        if let Some(auth) = auth {
            self.send(id, auth, Expect::Auth);
        }
        self.send(id, words(&["CLIENT", "SETNAME", &name]), Expect::Nothing);
        self.ping(id);
        if self.links.get(&id).is_some_and(Link::is_server) {
            self.ask_info(id);
        } else {
            self.send(id, words(&["SENTINEL", "TANDEM"]), Expect::Kind);
        }
    }

    /// AUTH with what is configured for this side of the link.
    fn credentials(&self, id: LinkId) -> Option<Vec<Vec<u8>>> {
        let link = self.links.get(&id)?;
        let (user, pass) = match &link.owner {
            Owner::Primary(group) | Owner::Replica(group, _) => {
                let settings = &self.groups.get(group)?.settings;
                (settings.auth_user.as_ref(), settings.auth_pass.as_ref())
            }
            Owner::Peer(..) => match &self.globals.sentinel_pass {
                Some(pass) => (self.globals.sentinel_user.as_ref(), Some(pass)),
                // The fleet is taken to share one password, as in Redis.
                None => (None, self.globals.requirepass.as_ref()),
            },
        };
        let pass = pass?;
        let words = [Some("AUTH"), user.map(String::as_str), Some(pass)];
        Some(
            words
                .into_iter()
                .flatten()
                .map(|word| word.as_bytes().to_vec())
                .collect(),
        )
    }

    /// The command under the name that this group's servers have for it.
    fn renamed(&self, id: LinkId, mut argv: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        let group = self.links.get(&id).and_then(|link| match &link.owner {
            Owner::Primary(group) | Owner::Replica(group, _) => Some(*group),
            Owner::Peer(_, groups) => groups.first().copied(),
        });
        let table = group
            .and_then(|group| self.groups.get(&group))
            .map(|group| &group.settings.rename_commands);
        if let Some(table) = table
            && !table.is_empty()
            && let Some(first) = argv.first_mut()
            && let Some(name) = std::str::from_utf8(first)
                .ok()
                .and_then(|name| table.get(&name.to_ascii_uppercase()))
        {
            *first = name.as_bytes().to_vec();
        }
        argv
    }

    /// Sends a command on a link's command connection and notes what its reply will mean. Nothing without one.
    pub(super) fn send(&mut self, id: LinkId, argv: Vec<Vec<u8>>, expect: Expect) -> bool {
        let argv = self.renamed(id, argv);
        let Some(conn) = self
            .links
            .get_mut(&id)
            .and_then(|link| link.command.as_mut())
        else {
            return false;
        };
        conn.expects.push_back(expect);
        self.out.push(Output::Send {
            conn: conn.id,
            argv,
        });
        true
    }

    /// Whether something periodic may be sent: a connection stands or is being made, and not too much is unanswered.
    pub(super) fn may_send(&self, id: LinkId) -> bool {
        self.links.get(&id).is_some_and(|link| {
            link.command.is_some()
                && link.pending_commands() < PENDING_MAX * (link.users.max(1) as usize)
        })
    }

    /// A connection stands.
    pub(super) fn connected(&mut self, conn: ConnId, local: IpAddr, remote: IpAddr) {
        let Some(&(id, kind)) = self.conns.get(&conn) else {
            return;
        };
        let now = self.now;
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        let slot = match kind {
            ConnKind::Command => link.command.as_mut(),
            ConnKind::PubSub => link.pubsub.as_mut(),
        };
        if let Some(slot) = slot {
            slot.up = true;
        }
        link.refused = 0;
        link.refused_since = None;
        link.reached = true;
        match kind {
            ConnKind::Command => link.local = Some(local),
            ConnKind::PubSub => link.pubsub_activity = now,
        }
        // A name is one; an address needs no entry.
        if link.to.host.parse::<IpAddr>().is_err() {
            let host = link.to.host.clone();
            self.resolved.insert(host, remote);
        }
        self.back_from_the_dead(id);
        self.due.set(Key::Link(id), now);
        self.mark_users(id);
    }

    /// A connection ended or could not be made.
    pub(super) fn lost(&mut self, conn: ConnId, loss: Loss) {
        let Some((id, kind)) = self.conns.remove(&conn) else {
            return;
        };
        let now = self.now;
        let pace = self.periods.ping;
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        let gone = match kind {
            ConnKind::Command => link.command.take(),
            ConnKind::PubSub => link.pubsub.take(),
        };
        let Some(gone) = gone else {
            return;
        };
        // Of two connections that fail together one sets the pace.
        let counted = kind == ConnKind::Command || link.is_up();
        // The first attempt after a good connection is made at once; a server that accepts and hangs up is not good.
        if gone.up && now.saturating_duration_since(gone.since) >= pace.min(Duration::from_secs(1))
        {
            link.failures = 0;
            link.retry_at = now;
        } else if counted {
            let wait = RETRY_FIRST * 2_u32.saturating_pow(link.failures.min(16));
            link.failures += 1;
            link.retry_at = link.retry_at.max(now + wait.min(pace));
        }
        link.last_loss = Some(loss);
        if loss == Loss::Refused && kind == ConnKind::Command {
            link.refused += 1;
            link.refused_since.get_or_insert(now);
        } else if kind == ConnKind::Command {
            link.refused = 0;
            link.refused_since = None;
        }
        self.unanswered(gone.expects);
        self.refusal_seen(id);
        if gone.up && loss == Loss::Closed && kind == ConnKind::Command {
            self.ask_for_life(id);
        }
        self.due.set(Key::Link(id), now);
        self.mark_users(id);
    }

    /// A reply on a command connection.
    pub(super) fn replied(&mut self, conn: ConnId, value: tandem_resp::Value) {
        let Some(&(id, ConnKind::Command)) = self.conns.get(&conn) else {
            return;
        };
        let expect = self
            .links
            .get_mut(&id)
            .and_then(|link| link.command.as_mut())
            .filter(|command| command.id == conn)
            .and_then(|command| command.expects.pop_front());
        match expect {
            Some(expect) => self.answered(id, expect, &value),
            // Nothing was asked: what talks there is no server.
            None => {
                self.close(id, ConnKind::Command);
                self.due.set(Key::Link(id), self.now);
            }
        }
    }

    /// Connections that look alive and are not: closed, and made anew.
    ///
    /// # Returns
    /// When to look again.
    pub(super) fn drop_idle(&mut self, id: LinkId, down_after: Duration) -> Option<Instant> {
        let now = self.now;
        let young = self.periods.min_link_reconnect;
        let quiet = self.periods.publish * 3;
        let link = self.links.get(&id)?;
        let mut next = None;
        let mut close = Vec::new();
        if let (Some(conn), Some(pending)) = (&link.command, link.ping_pending) {
            let idle = down_after / 2;
            let at = (conn.since + young)
                .max(pending + idle)
                .max(link.last_pong + idle);
            if at < now {
                close.push(ConnKind::Command);
            } else {
                next = Some(at + Duration::from_millis(1));
            }
        }
        if let Some(conn) = &link.pubsub {
            let at = (conn.since + young).max(link.pubsub_activity + quiet);
            if at < now {
                close.push(ConnKind::PubSub);
            } else {
                next = crate::sentinel::due::earlier(next, Some(at + Duration::from_millis(1)));
            }
        }
        for kind in close {
            self.close(id, kind);
        }
        next
    }

    /// Has every group that uses a link decide again.
    pub(super) fn mark_users(&mut self, id: LinkId) {
        match self.links.get(&id).map(|link| &link.owner) {
            Some(Owner::Primary(group) | Owner::Replica(group, _)) => {
                self.marked.insert(*group);
            }
            Some(Owner::Peer(_, groups)) => self.marked.extend(groups),
            None => {}
        }
    }

    /// A link of a group, by the address of the server.
    pub(super) fn server_link(&self, group: GroupId, at: &Endpoint) -> Option<LinkId> {
        let group = self.groups.get(&group)?;
        if group.primary.at == *at {
            return Some(group.primary.link);
        }
        group.replicas.get(at).map(|replica| replica.link)
    }

    /// A password was refused or is missing: worth a line, because all that is seen otherwise is silence.
    pub(super) fn auth_answered(&mut self, id: LinkId, value: &tandem_resp::Value) {
        if let (Some(error), Some(link)) = (value.as_error(), self.links.get(&id)) {
            let text = format!(
                "{} refuses our password: {}",
                link.to,
                String::from_utf8_lossy(error)
            );
            self.log(Level::Warning, text);
        }
    }
}

/// The links of all servers of a group, the primary's first.
pub(super) fn server_links(group: &Group) -> Vec<LinkId> {
    let replicas = group.replicas.values().map(|replica| replica.link);
    std::iter::once(group.primary.link)
        .chain(replicas)
        .collect()
}
