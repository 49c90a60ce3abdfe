//! What each reply means: who is alive, what was told, what failed.

use std::collections::VecDeque;

use tandem_resp::Value;

use crate::sentinel::due::Key;
use crate::sentinel::ids::{ElectionEpoch, SentinelId};
use crate::sentinel::io::Level;
use crate::sentinel::machine::Sentinel;
use crate::sentinel::model::{Expect, GroupId, LinkId, Owner, PeerKind};

impl Sentinel {
    /// A reply to a command of ours.
    pub(super) fn answered(&mut self, id: LinkId, expect: Expect, value: &Value) {
        match expect {
            Expect::Nothing => {}
            Expect::Auth => self.auth_answered(id, value),
            Expect::Pong => self.ponged(id, value),
            Expect::Info => {
                if let Some(text) = value.as_bytes() {
                    self.observe(id, &String::from_utf8_lossy(text));
                }
                // The next one can be planned only now.
                self.due.by(Key::Link(id), self.now);
            }
            Expect::Published(group) => self.hello_answered(id, group, value),
            Expect::Opinion(group) => self.opinion_answered(id, group, value),
            Expect::Kind => self.kind_answered(id, value),
            Expect::StepPart(step) => self.step_part_answered(step, value),
            Expect::Step(step) => self.step_answered(step, value),
        }
    }

    /// A connection ended with these replies outstanding.
    pub(super) fn unanswered(&mut self, expects: VecDeque<Expect>) {
        for expect in expects {
            if let Expect::Step(step) = expect {
                self.step_lost(step);
            }
        }
    }

    fn ponged(&mut self, id: LinkId, value: &Value) {
        let now = self.now;
        let text = match value {
            Value::Simple(text) | Value::Error(text) | Value::Bulk(text) => text.as_slice(),
            Value::Integer(_)
            | Value::Null
            | Value::Boolean(_)
            | Value::Double(_)
            | Value::BigNumber(_)
            | Value::Verbatim(_)
            | Value::Array(_)
            | Value::Set(_)
            | Value::Push(_)
            | Value::Map(_) => b"",
        };
        let pong = text.starts_with(b"PONG");
        let alive = pong || text.starts_with(b"LOADING") || text.starts_with(b"MASTERDOWN");
        let busy = text.starts_with(b"BUSY");
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        link.last_pong = now;
        if alive {
            link.last_available = now;
            link.ping_pending = None;
            link.failures = 0;
        }
        if busy {
            self.kill_script(id);
        }
        if pong
            && let Some(link) = self.links.get(&id)
            && let Owner::Primary(group) = &link.owner
            && let Some(group) = self.groups.get_mut(group)
        {
            group.primary.rebooted = None;
        }
        if alive && self.any_down(id) {
            self.check_link_down(id);
        }
    }

    /// A script that runs for too long answers for the server: end it, once per outage.
    fn kill_script(&mut self, id: LinkId) {
        let Some(link) = self.links.get(&id) else {
            return;
        };
        let sent = match &link.owner {
            Owner::Primary(group) => self.groups.get_mut(group).map(|group| {
                let down = group.primary.down.subjective.is_some();
                (down, &mut group.primary.script_kill_sent)
            }),
            Owner::Replica(group, at) => self
                .groups
                .get_mut(group)
                .and_then(|group| group.replicas.get_mut(at))
                .map(|replica| {
                    let down = replica.down.subjective.is_some();
                    (down, &mut replica.script_kill_sent)
                }),
            Owner::Peer(..) => None,
        };
        if let Some((true, sent)) = sent
            && !std::mem::replace(sent, true)
        {
            let words = ["SCRIPT", "KILL"].map(|word| word.as_bytes().to_vec());
            self.send(id, words.to_vec(), Expect::Nothing);
        }
    }

    fn hello_answered(&mut self, id: LinkId, group: GroupId, value: &Value) {
        if value.as_error().is_none() {
            return;
        }
        // Redis tries again at every tick; once per ping period finds the moment at which it is taken soon enough.
        let again = self.now + self.periods.ping.min(self.periods.publish);
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        match &link.owner {
            Owner::Primary(_) | Owner::Replica(..) => {
                link.hello_at = again;
                self.due.by(Key::Link(id), again);
            }
            Owner::Peer(peer, _) => {
                if let Some(peer) = self
                    .groups
                    .get_mut(&group)
                    .and_then(|group| group.peers.get_mut(peer))
                {
                    peer.hello_at = again;
                }
                self.due.by(Key::Group(group), again);
            }
        }
    }

    /// What another sentinel thinks of the primary, and whom it voted for.
    fn opinion_answered(&mut self, id: LinkId, group: GroupId, value: &Value) {
        let Some(Owner::Peer(peer_id, _)) = self.links.get(&id).map(|link| link.owner.clone())
        else {
            return;
        };
        let Some(
            [
                Value::Integer(down),
                Value::Bulk(leader),
                Value::Integer(epoch),
            ],
        ) = value.as_array()
        else {
            return;
        };
        let now = self.now;
        let Some(peer) = self
            .groups
            .get_mut(&group)
            .and_then(|group| group.peers.get_mut(&peer_id))
        else {
            return;
        };
        peer.opinion_at = Some(now);
        peer.primary_down = *down == 1;
        let leader = std::str::from_utf8(leader).ok().and_then(SentinelId::parse);
        if let (Some(leader), Ok(epoch)) = (leader, u64::try_from(*epoch)) {
            let vote = Some((leader.clone(), ElectionEpoch(epoch)));
            let news = peer.vote.as_ref().map(|(_, epoch)| *epoch) != Some(ElectionEpoch(epoch));
            peer.vote = vote;
            if news {
                let name = peer_id.to_string();
                self.log(Level::Warning, format!("{name} voted for {leader} {epoch}"));
            }
        }
        self.mark(group);
    }

    /// Whether a sentinel is one of ours. One that refuses the question is a foreign one.
    fn kind_answered(&mut self, id: LinkId, value: &Value) {
        let Some(Owner::Peer(peer, groups)) = self.links.get(&id).map(|link| link.owner.clone())
        else {
            return;
        };
        let ours = value
            .as_array()
            .and_then(<[Value]>::first)
            .and_then(Value::as_bytes)
            .is_some_and(|word| word.eq_ignore_ascii_case(b"tandem"));
        let kind = if ours {
            PeerKind::Tandem
        } else if is_passing_refusal(value) {
            return;
        } else {
            PeerKind::Foreign
        };
        for group in groups {
            if let Some(peer) = self
                .groups
                .get_mut(&group)
                .and_then(|group| group.peers.get_mut(&peer))
                && peer.kind != kind
            {
                peer.kind = kind;
                self.mark(group);
            }
        }
    }
}

/// An error that says nothing about the question: what is asked again later may be answered.
fn is_passing_refusal(value: &Value) -> bool {
    value.as_error().is_some_and(|text| {
        ["NOAUTH", "NOPERM", "LOADING", "BUSY"]
            .iter()
            .any(|code| text.starts_with(code.as_bytes()))
    })
}
