//! Connections on which the proxy asks servers something for itself, beside the requests of its clients.
//!
//! Who asks what is [`acks`](super::acks)'s, [`waits`](super::waits)'s and [`reading`](super::reading)'s; here is how such a connection comes and
//! goes, and what of the answers is understood.

use super::acks::Acks;
use super::lane::{Lane, State};
use super::slots::NONE;
use super::waits::Waits;
use super::{Core, How};
use crate::frame::{Fed, Scanner};
use crate::settings::Address;
use tandem_resp::{Limits, ReplyDecoder, Value};

/// What a connection of the proxy's own is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aside {
    /// Batches that ask a primary whether its replicas have what was written.
    Ack,
    /// Batches that ask for those who wait whether replicas have what they wrote.
    Wait,
    /// Samples of how far a primary or a replica is.
    Sample,
}

/// A history of writes: `master_replid`. All zeros: not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lineage([u8; 40]);

impl Lineage {
    /// Of a server that was not asked.
    pub(super) const UNKNOWN: Self = Self([0; 40]);

    /// Whether it is the one of this name.
    pub(super) fn is(&self, name: &str) -> bool {
        self.0 == name.as_bytes()
    }

    fn parse(text: &[u8]) -> Option<Self> {
        text.try_into().ok().map(Self)
    }
}

/// What a server says of its part in replication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    /// It is a primary.
    pub(super) primary: bool,
    /// Of a replica: the link to its primary is up.
    pub(super) link_up: bool,
    pub(super) lineage: Lineage,
    /// How much of `lineage` it has.
    pub(super) offset: u64,
    /// The history that it shared before it was promoted.
    pub(super) before: Lineage,
    /// How much of `before` it has.
    pub(super) before_offset: u64,
}

/// INFO replication, which every supported server answers.
pub(super) const ASK_STANDING: &[u8] = b"*2\r\n$4\r\nINFO\r\n$11\r\nreplication\r\n";

impl Standing {
    /// Reads the reply to [`ASK_STANDING`]. None: it is none.
    pub(super) fn read(reply: &[u8]) -> Option<Self> {
        let mut standing = Self {
            primary: false,
            link_up: false,
            lineage: Lineage::UNKNOWN,
            offset: 0,
            before: Lineage::UNKNOWN,
            before_offset: 0,
        };
        let mut applied = None;
        let mut known = false;
        for line in reply.split(|&byte| byte == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let Some(colon) = memchr::memchr(b':', line) else {
                continue;
            };
            let (name, value) = (&line[..colon], &line[colon + 1..]);
            match name {
                b"role" => {
                    standing.primary = value == b"master";
                    known = true;
                }
                b"master_link_status" => standing.link_up = value == b"up",
                b"slave_repl_offset" => applied = number(value),
                b"master_replid" => standing.lineage = Lineage::parse(value)?,
                b"master_replid2" => standing.before = Lineage::parse(value)?,
                b"master_repl_offset" => standing.offset = number(value)?,
                // The offset at which the new history begins; -1 where there was none before.
                b"second_repl_offset" => {
                    standing.before_offset = number(value).map_or(0, |next| next.saturating_sub(1));
                }
                _ => {}
            }
        }
        if !standing.primary {
            // What it has received may still wait to be applied.
            standing.offset = applied?;
        }
        known.then_some(standing)
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The replicas that a primary's ROLE names, with the offset that each has acknowledged. None: it is no primary.
pub(super) fn replicas_of(reply: &[u8]) -> Option<Vec<(Address, u64)>> {
    let mut decoder = ReplyDecoder::new(Limits::default());
    decoder.feed(reply);
    let role = decoder.next_value().ok()??;
    let [what, _, replicas, ..] = role.as_array()? else {
        return None;
    };
    if what.as_bytes() != Some(b"master") {
        return None;
    }
    let replica = |value: &Value| match value.as_array()? {
        [host, port, offset] => {
            let address = Address::Tcp {
                host: host.as_str()?.to_owned(),
                port: port.as_str()?.parse().ok()?,
            };
            Some((address, offset.as_str()?.parse().ok()?))
        }
        _ => None,
    };
    Some(replicas.as_array()?.iter().filter_map(replica).collect())
}

/// The value of an integer reply.
pub(super) fn integer(reply: &[u8]) -> Option<i64> {
    let digits = reply.strip_prefix(b":")?.strip_suffix(b"\r\n")?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

impl Core {
    /// A connection of the proxy's own to a server: to its primary, or to this replica of it.
    pub(super) fn aside_lane(
        &mut self,
        (pool, server): (u32, u32),
        aside: Aside,
        at: Option<Address>,
    ) -> u32 {
        let state = &self.pools[pool as usize];
        let counters = state.setup.counters.servers[server as usize].clone();
        // As the user, and in the version, that the pool's settings say.
        let bank = state.bank;
        self.place_lane(Lane {
            aside: Some(aside),
            at,
            // What comes is no reply to a client, and what is sent is not kept.
            messages: true,
            particular: true,
            ..Lane::new(pool, server, bank, counters)
        })
    }

    /// Sends something on a connection of the proxy's own. False: it is not up; it will be, if that is possible.
    pub(super) fn ask_aside(&mut self, index: u32, bytes: &[u8]) -> bool {
        let lane = &self.lanes[index as usize];
        match lane.state {
            State::Ready => {
                self.lanes[index as usize].ring.push(bytes);
                self.touch_lane(index);
                true
            }
            State::Closed => {
                let due = self.now_ms >= lane.retry_at_ms;
                if due && self.address_of_lane(index).is_some() {
                    self.connect(index);
                }
                false
            }
            State::Connecting { .. } | State::SettingUp { .. } => false,
        }
    }

    /// Something was handed to the kernel on a connection whose pool looks at replicas.
    #[cold]
    pub(super) fn particular_sent(&mut self, index: u32) {
        let lane = &self.lanes[index as usize];
        match lane.aside {
            Some(Aside::Ack) => self.batch_sent(lane.pool, lane.server),
            Some(Aside::Wait) => self.wait_sent(lane.pool, lane.server),
            Some(Aside::Sample) | None => {}
        }
    }

    /// Something came on a connection whose pool looks at replicas.
    #[cold]
    pub(super) fn particular_replied(&mut self, index: u32) {
        let lane = &mut self.lanes[index as usize];
        let (pool, server) = (lane.pool, lane.server);
        let Some(aside) = lane.aside else {
            if !lane.withheld.is_empty() {
                self.take_withheld(index);
            }
            return;
        };
        let heard = std::mem::take(&mut lane.heard);
        let mut at = 0;
        while at < heard.len() {
            let Ok(Fed::End(len)) = Scanner::new().feed(&heard[at..]) else {
                // Only whole replies are put there.
                break;
            };
            let reply = &heard[at..at + len];
            at += len;
            match aside {
                Aside::Ack => self.batch_heard(pool, server, reply),
                Aside::Wait => self.wait_heard(pool, server, reply),
                Aside::Sample => self.sampled(index, reply),
            }
        }
    }

    /// A connection of the proxy's own is up.
    pub(super) fn aside_ready(&mut self, index: u32) {
        let lane = &self.lanes[index as usize];
        match lane.aside {
            Some(Aside::Ack) => self.batch_if_due(lane.pool, lane.server),
            Some(Aside::Wait) => self.wait_if_due(lane.pool, lane.server),
            Some(Aside::Sample) | None => {}
        }
    }

    /// Whether nobody waits for what is under way on a connection, if it is one of the proxy's own.
    pub(super) fn aside_rests(&self, index: u32) -> bool {
        let lane = &self.lanes[index as usize];
        let (state, server) = (&self.pools[lane.pool as usize], lane.server as usize);
        match lane.aside {
            Some(Aside::Ack) => state.acks.get(server).is_none_or(Acks::is_quiet),
            Some(Aside::Wait) => state.waits.get(server).is_none_or(Waits::is_quiet),
            Some(Aside::Sample) | None => true,
        }
    }

    /// A connection of the proxy's own has ended, or must.
    pub(super) fn aside_down(&mut self, index: u32, how: How) {
        self.close_lane(index, how);
        self.rest_aside(index);
    }

    /// Nothing of what a connection of the proxy's own was about counts any more.
    pub(super) fn rest_aside(&mut self, index: u32) {
        let lane = &mut self.lanes[index as usize];
        let unsent = lane.ring.len();
        lane.ring.free(unsent);
        lane.heard.clear();
        debug_assert_eq!(lane.first, NONE, "nobody waits there");
        let (pool, server) = (lane.pool, lane.server);
        match lane.aside {
            Some(Aside::Ack) => self.batch_lost(pool, server),
            Some(Aside::Wait) => self.wait_lost(pool, server),
            Some(Aside::Sample) => self.sample_lost(index),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRIMARY: &[u8] = b"$300\r\n# Replication\r\nrole:master\r\nconnected_slaves:1\r\n\
slave0:ip=10.0.0.2,port=6379,state=online,offset=70,lag=0\r\nmaster_failover_state:no-failover\r\n\
master_replid:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\nmaster_replid2:0000000000000000000000000000000000000000\r\n\
master_repl_offset:70\r\nsecond_repl_offset:-1\r\nrepl_backlog_active:1\r\n\r\n";
    const REPLICA: &[u8] = b"$300\r\n# Replication\r\nrole:slave\r\nmaster_host:10.0.0.1\r\nmaster_link_status:up\r\n\
slave_read_repl_offset:90\r\nslave_repl_offset:60\r\nmaster_replid:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n\
master_replid2:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\r\nmaster_repl_offset:90\r\nsecond_repl_offset:51\r\n\r\n";

    #[test]
    fn a_standing_says_how_much_of_which_history_a_server_has() {
        let (a, b) = (Lineage([b'a'; 40]), Lineage([b'b'; 40]));
        let primary = Standing::read(PRIMARY).unwrap();
        assert_eq!(
            (primary.primary, primary.lineage, primary.offset),
            (true, a, 70)
        );
        assert_eq!(
            (primary.before, primary.before_offset),
            (Lineage([b'0'; 40]), 0)
        );
        let replica = Standing::read(REPLICA).unwrap();
        assert_eq!(
            (replica.primary, replica.link_up, replica.offset),
            (false, true, 60),
            "applied, not received"
        );
        assert_eq!((replica.before, replica.before_offset), (b, 50));
        assert_eq!(Standing::read(b"-NOPERM no\r\n"), None);
    }

    #[test]
    fn a_role_names_replicas_and_what_they_have() {
        let role = b"*3\r\n$6\r\nmaster\r\n:90\r\n*1\r\n*3\r\n$8\r\n10.0.0.2\r\n$4\r\n6379\r\n$2\r\n80\r\n";
        let at = Address::Tcp {
            host: "10.0.0.2".to_owned(),
            port: 6379,
        };
        assert_eq!(replicas_of(role), Some(vec![(at, 80)]));
        let slave = b"*5\r\n$5\r\nslave\r\n$8\r\n10.0.0.1\r\n:6379\r\n$9\r\nconnected\r\n:90\r\n";
        assert_eq!(replicas_of(slave), None);
        assert_eq!(replicas_of(b"-LOADING x\r\n"), None);
    }
}
