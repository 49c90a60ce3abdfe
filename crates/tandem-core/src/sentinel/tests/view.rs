//! What befalls a world, and what is asked of its past and present.

use std::time::Duration;

use super::server::{Life, Server};
use super::world::{Told, World, group_name};
use crate::sentinel::ids::Endpoint;
use crate::sentinel::io::Loss;

/// What a world begins with.
pub(super) struct Plan {
    pub(super) sentinels: usize,
    pub(super) quorum: u32,
    pub(super) replicas: u16,
    /// How many of the sentinels do not know our question.
    pub(super) foreign: usize,
    pub(super) seed: u64,
    pub(super) failover_timeout: Duration,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            sentinels: 3,
            quorum: 2,
            replicas: 2,
            foreign: 0,
            seed: 1,
            failover_timeout: Duration::from_secs(10),
        }
    }
}

impl World {
    /// A sentinel's process ends.
    pub(super) fn stop(&mut self, node: usize) {
        self.nodes[node].up = false;
        self.wires.retain(|(from, _), _| *from != node);
        let at = self.nodes[node].at.clone();
        self.hang_up(&at, None, Loss::Closed);
    }

    pub(super) fn kill(&mut self, at: &Endpoint) {
        self.server(at).life = Life::Killed;
        self.hang_up(at, None, Loss::Closed);
    }

    pub(super) fn freeze(&mut self, at: &Endpoint) {
        self.server(at).life = Life::Frozen;
    }

    pub(super) fn thaw(&mut self, at: &Endpoint) {
        self.server(at).life = Life::Up;
        self.resume(at);
    }

    pub(super) fn server(&mut self, at: &Endpoint) -> &mut Server {
        self.servers.get_mut(at).expect("a server of this world")
    }

    /// No packet goes between two hosts any more.
    pub(super) fn cut(&mut self, one: &str, other: &str) {
        self.cuts.insert((one.to_owned(), other.to_owned()));
        self.cuts.insert((other.to_owned(), one.to_owned()));
    }
}

/// What is asked of a world's past and present.
impl World {
    pub(super) fn is_cut(&self, node: usize, to: &Endpoint) -> bool {
        let from = self.nodes[node].at.host.clone();
        self.cuts.contains(&(from, to.host.clone()))
    }

    /// The names of all events of a node since a moment.
    pub(super) fn names(&self, node: usize, since: Duration) -> Vec<&str> {
        self.told
            .iter()
            .filter(|told| told.node == node && told.at >= since)
            .map(|told| told.name.as_str())
            .collect()
    }

    pub(super) fn first(&self, name: &str, since: Duration) -> Option<&Told> {
        self.told
            .iter()
            .find(|told| told.name == name && told.at >= since)
    }

    pub(super) fn count(&self, name: &str) -> usize {
        self.told.iter().filter(|told| told.name == name).count()
    }

    /// The address that a sentinel gives to clients.
    pub(super) fn address(&self, node: usize) -> Endpoint {
        let sentinel = &self.nodes[node].sentinel;
        let id = sentinel.names[&group_name()];
        sentinel.groups[&id].current_address().clone()
    }

    /// Every running sentinel sends clients there.
    pub(super) fn agreed(&self, at: &Endpoint) -> bool {
        (0..self.nodes.len())
            .filter(|node| self.nodes[*node].up)
            .all(|node| self.address(node) == *at)
    }

    pub(super) fn writable(&self) -> Vec<&Endpoint> {
        self.servers
            .values()
            .filter(|server| server.is_writable(self.now))
            .map(|server| &server.at)
            .collect()
    }

    pub(super) fn group(&self, node: usize) -> &crate::sentinel::model::Group {
        let sentinel = &self.nodes[node].sentinel;
        &sentinel.groups[&sentinel.names[&group_name()]]
    }
}
