//! The commands against a machine's state made by hand.

mod changes;
mod directory;
mod hostile;
mod report;

use std::collections::VecDeque;

use super::*;
use crate::sentinel::io::ConnId;
use crate::sentinel::model::{Conn, Expect, Owner, Peer, Primary, Replica};
use crate::testing::origin;

/// Two sentinels' ids.
pub(super) const OURS: &str = "0123456789abcdef0123456789abcdef01234567";
pub(super) const THEIRS: &str = "89abcdef0123456789abcdef0123456789abcdef";

/// What a machine keeps, and a view of it.
pub(super) struct World {
    pub(super) now: Instant,
    pub(super) id: SentinelId,
    pub(super) globals: Globals,
    pub(super) periods: Periods,
    pub(super) names: BTreeMap<GroupName, GroupId>,
    pub(super) groups: BTreeMap<GroupId, Group>,
    pub(super) links: BTreeMap<LinkId, Link>,
    pub(super) resolved: BTreeMap<String, IpAddr>,
    pub(super) scripts: Queue,
    pub(super) tilt: Option<Instant>,
    pub(super) reasons: fn(&Group) -> status::Reasons,
}

impl World {
    /// One group `m`: a primary, a replica and a peer, all alive and answered 100 ms ago.
    pub(super) fn new() -> Self {
        let mut world = Self {
            now: origin() + Duration::from_secs(1000),
            id: id(OURS),
            globals: Globals::default(),
            periods: Periods::default(),
            names: BTreeMap::new(),
            groups: BTreeMap::new(),
            links: BTreeMap::new(),
            resolved: BTreeMap::new(),
            scripts: Queue::default(),
            tilt: None,
            reasons: |_| status::Reasons::default(),
        };
        let group = world.add("m", 7001);
        world.add_replica(group, 7002);
        world.add_peer(group, THEIRS, 26380);
        world
    }

    pub(super) fn ago(&self, millis: u64) -> Instant {
        self.now - Duration::from_millis(millis)
    }

    /// A group whose primary listens on this port.
    pub(super) fn add(&mut self, name: &str, port: u16) -> GroupId {
        let group = GroupId(self.groups.len() as u64);
        let at = Endpoint::new("127.0.0.1", port);
        let link = self.link(Owner::Primary(group), &at);
        let name = GroupName(name.to_owned());
        let settings = GroupSettings::new(name.clone(), 2, &self.periods);
        let mut primary = Primary::new(at, link, self.ago(5000));
        primary.observed.info_at = Some(self.ago(300));
        primary.observed.run_id = "a".repeat(40);
        self.names.insert(name, group);
        self.groups
            .insert(group, Group::new(group, settings, primary));
        group
    }

    pub(super) fn add_replica(&mut self, group: GroupId, port: u16) {
        let at = Endpoint::new("127.0.0.1", port);
        let link = self.link(Owner::Replica(group, at.clone()), &at);
        let mut replica = Replica::new(at.clone(), link, self.ago(4000));
        replica.observed.info_at = Some(self.ago(200));
        replica.observed.run_id = "b".repeat(40);
        replica.follows = Some(Endpoint::new("127.0.0.1", 7001));
        replica.link_up = true;
        replica.offset = 42;
        self.group_mut(group).replicas.insert(at, replica);
    }

    pub(super) fn add_peer(&mut self, group: GroupId, peer: &str, port: u16) {
        let at = Endpoint::new("127.0.0.1", port);
        let owner = Owner::Peer(id(peer), [group].into());
        let link = self.link(owner, &at);
        let mut peer = Peer::new(id(peer), at, link, self.ago(3000));
        peer.last_hello = Some(self.ago(700));
        self.group_mut(group).peers.insert(peer.id.clone(), peer);
    }

    /// A link whose connections stand and that was heard of 100 ms ago.
    fn link(&mut self, owner: Owner, to: &Endpoint) -> LinkId {
        let number = self.links.len() as u64;
        let server = !matches!(owner, Owner::Peer(..));
        let conn = |id| Conn {
            id: ConnId(id),
            since: self.ago(3000),
            up: true,
            expects: VecDeque::new(),
        };
        let mut link = Link::new(owner, to.clone(), self.ago(100));
        link.ping_pending = None;
        link.command = Some(conn(number * 2));
        link.pubsub = server.then(|| conn(number * 2 + 1));
        self.links.insert(LinkId(number), link);
        LinkId(number)
    }

    pub(super) fn group_mut(&mut self, group: GroupId) -> &mut Group {
        self.groups.get_mut(&group).unwrap()
    }

    /// The group `m`.
    pub(super) fn m(&mut self) -> &mut Group {
        self.group_mut(GroupId(0))
    }

    pub(super) fn link_of_primary(&mut self) -> &mut Link {
        let link = self.m().primary.link;
        self.links.get_mut(&link).unwrap()
    }

    pub(super) fn view(&self) -> View<'_> {
        View {
            now: self.now,
            id: &self.id,
            epoch: ElectionEpoch(9),
            globals: &self.globals,
            log_level: LogLevel::Notice,
            periods: &self.periods,
            groups: Directory {
                names: &self.names,
                groups: &self.groups,
            },
            links: &self.links,
            resolved: &self.resolved,
            tilt: self.tilt,
            simulate: Simulate::default(),
            scripts: &self.scripts,
            executable: &|path| path == "/bin/notify",
            reasons: &self.reasons,
        }
    }

    pub(super) fn ask(&self, line: &str) -> Outcome {
        take(&self.view(), &words(line))
    }

    /// The reply; nothing is left to the machine.
    pub(super) fn reply(&self, line: &str) -> Value {
        match self.ask(line) {
            Outcome::Reply(value) => value,
            Outcome::Change(change) => panic!("{line} is left to the machine: {change:?}"),
        }
    }

    pub(super) fn error(&self, line: &str) -> String {
        text(
            self.reply(line)
                .as_error()
                .unwrap_or_else(|| panic!("{line} is no error")),
        )
    }

    pub(super) fn change(&self, line: &str) -> Change {
        match self.ask(line) {
            Outcome::Change(change) => change,
            Outcome::Reply(value) => panic!("{line} is answered: {value:?}"),
        }
    }
}

pub(super) fn id(text: &str) -> SentinelId {
    SentinelId::parse(text).unwrap()
}

/// Words by blanks; `''` is the empty word.
pub(super) fn words(line: &str) -> Vec<Vec<u8>> {
    let word = |word: &str| word.trim_matches('\'').as_bytes().to_vec();
    line.split(' ').map(word).collect()
}

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// `key=value` of each pair, in order.
pub(super) fn pairs(map: &Value) -> Vec<String> {
    let Value::Map(pairs) = map else {
        panic!("{map:?} is no map");
    };
    pairs
        .iter()
        .map(|(key, value)| format!("{}={}", key.as_str().unwrap(), value.as_str().unwrap()))
        .collect()
}

/// A command whose reply is outstanding.
pub(super) fn outstanding(link: &mut Link) {
    if let Some(conn) = &mut link.command {
        conn.expects.push_back(Expect::Pong);
    }
}
