//! The other keeper of a group whose servers are both on this host.
//!
//! The two are what the keepers of a pair are to each other, each with a server and a journal of its own and the same rules; only
//! the way between them is shorter. Statements pass in memory and none is lost. Nobody wishes to be primary because the other
//! is silent, as VRRP does between hosts: they stand still together. So the role moves by statement, and by the rules of
//! booting, and in no other way.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tandem_core::keeper::{Input, PeerEvent};
use tandem_core::sentinel::Endpoint;
use tandem_core::statement::Statement;
use tandem_core::topology::{Topology, at_first_hand};
use tokio::sync::mpsc;

use super::Event;

/// Time between two statements when there is nothing new.
pub(super) const PACE: Duration = Duration::from_millis(300);
/// A keeper that is silent for this long is not there: only while the daemon starts or ends.
pub(super) const ABSENT_AFTER: Duration = Duration::from_secs(1);

/// The way to the other keeper, and what both say of their group.
#[derive(Clone, Debug)]
pub(crate) struct Sibling {
    events: mpsc::Sender<Event>,
    words: Arc<Mutex<Vec<(Endpoint, Topology)>>>,
}

impl Sibling {
    /// Of two loops, for each the way to the other.
    pub(crate) fn pair([first, second]: [mpsc::Sender<Event>; 2]) -> [Self; 2] {
        let words = Arc::default();
        let to = |events: mpsc::Sender<Event>| Self {
            events,
            words: Arc::clone(&words),
        };
        [to(second), to(first)]
    }

    /// Says this to the other keeper.
    pub(super) fn say(&self, statement: &Statement) {
        let heard = PeerEvent::Heard(Box::new(statement.clone()));
        // A loop that is behind loses a statement; the next one says everything again.
        let _ = self.events.try_send(Event::Input(Input::Peer(heard)));
    }

    /// What both say of the group, with this keeper's newest word.
    pub(super) fn together(&self, server: SocketAddr, word: Topology) -> Topology {
        let own = Endpoint::new(server.ip().to_string(), server.port());
        let mut words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        match words.iter_mut().find(|(at, _)| *at == own) {
            Some((_, old)) => *old = word,
            None => words.push((own, word)),
        }
        at_first_hand(&words).unwrap_or_default()
    }
}
