//! The loops of a daemon's groups, and how each is spoken to.
//!
//! A group has one loop on a host, or two where both its servers are there (`[group.local]`): each keeps one server, as the
//! loops of two hosts would. Those two are asked together by the group's name, or each by `GROUP/SERVER`.

use std::net::SocketAddr;

use tandem_config::settings::{Elector, Group};
use tokio::sync::mpsc;

use super::control::Verb;
use super::group::Event;

/// One loop.
#[derive(Clone, Debug)]
pub(crate) struct Seat {
    /// Its group.
    pub(crate) group: String,
    /// What its answers are called.
    pub(crate) name: String,
    /// Its server.
    pub(crate) server: SocketAddr,
    /// Where its events go.
    pub(crate) events: mpsc::Sender<Event>,
    /// There is another one of its group.
    pub(crate) shared: bool,
    /// It is the first one of its group.
    pub(crate) first: bool,
}

/// Whether a loop is asked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// It is.
    Yes,
    /// Another one is, or nobody.
    No,
    /// It has to be said which of the two is meant.
    Which,
}

impl Seat {
    /// The loop of a group that is led from here.
    pub(crate) fn of(group: &Group, events: mpsc::Sender<Event>) -> Self {
        Self {
            group: group.name.clone(),
            name: group.seat_name(),
            server: group.server,
            events,
            shared: group.other().is_some(),
            first: match group.elector {
                Elector::Vrrp(_) => true,
                Elector::Local { preferred, .. } => preferred,
            },
        }
    }

    /// The only loop of its group.
    pub(crate) fn alone(group: &str, server: SocketAddr, events: mpsc::Sender<Event>) -> Self {
        Self {
            group: group.to_owned(),
            name: group.to_owned(),
            server,
            events,
            shared: false,
            first: true,
        }
    }

    /// Whether this loop is meant by a name, or by none. Two loops of one group must not both hand the role over: the second
    /// one would hand it back.
    pub(crate) fn asked(&self, name: Option<&str>, verb: &Verb) -> Asked {
        match name {
            Some(name) if name == self.name => return Asked::Yes,
            Some(name) if name != self.group => return Asked::No,
            Some(_) | None => {}
        }
        match verb {
            Verb::Switchover { .. } if !self.first => Asked::No,
            Verb::FailoverAcceptLoss if self.shared => Asked::Which,
            Verb::Status
            | Verb::Explain
            | Verb::Switchover { .. }
            | Verb::FailoverAcceptLoss
            | Verb::Pause
            | Verb::Resume
            | Verb::Resync
            | Verb::Proxies
            | Verb::Reload { .. } => Asked::Yes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_loops_of_one_group_do_not_both_hand_over() {
        let text = "[host]\nid = \"a\"\naddress = \"10.0.0.1\"\n[[group]]\nname = \"g\"\n\
                    servers = [\"10.0.0.1:6379\", \"10.0.0.1:63791\"]\n[group.local]\n";
        let settings = tandem_config::settings::read("t", text).0.unwrap();
        let seats: Vec<Seat> = settings.groups[0]
            .seats()
            .iter()
            .map(|group| Seat::of(group, mpsc::channel(1).0))
            .collect();
        let asked = |name, verb| [0, 1].map(|at: usize| seats[at].asked(name, verb));
        let over = Verb::Switchover { to: None };
        assert_eq!(seats[1].name, "g/10.0.0.1:63791");
        assert_eq!(asked(None, &Verb::Status), [Asked::Yes, Asked::Yes]);
        assert_eq!(asked(Some("g"), &over), [Asked::Yes, Asked::No]);
        assert_eq!(
            asked(Some("g/10.0.0.1:63791"), &over),
            [Asked::No, Asked::Yes]
        );
        let loss = Verb::FailoverAcceptLoss;
        assert_eq!(asked(None, &loss), [Asked::Which, Asked::Which]);
        assert_eq!(
            asked(Some("g/10.0.0.1:6379"), &loss),
            [Asked::Yes, Asked::No]
        );
        assert_eq!(asked(Some("h"), &Verb::Status), [Asked::No, Asked::No]);
    }
}
