//! The VRRP sockets: one pair for each interface, source and mode, shared by the routers on it.
//!
//! Each receiving socket has a task that hands its packets to the loop through the one bounded queue; when the loop is
//! behind, packets wait in the kernel, which drops what does not fit.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::debug;

use super::daemon::Happening;
use crate::linux::raw::{Endpoint, Receiver, Sender};

/// Pause after a failed read: the interface is down, and says so again and again.
const READ_AGAIN: Duration = Duration::from_millis(100);

/// Names one pair of sockets; a new pair for the same endpoint has a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct WireId(u64);

/// A packet as it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) wire: WireId,
    /// IPv4: with its header. IPv6: the payload.
    pub(super) bytes: Vec<u8>,
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) ttl: u8,
}

#[derive(Debug)]
struct Wire {
    id: WireId,
    endpoint: Endpoint,
    sender: Sender,
    reader: JoinHandle<()>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// All open pairs.
#[derive(Debug)]
pub(super) struct Wires {
    open: Vec<Wire>,
    next: u64,
    report: mpsc::Sender<Happening>,
}

impl Wires {
    pub(super) fn new(report: mpsc::Sender<Happening>) -> Self {
        Self {
            open: Vec::new(),
            next: 0,
            report,
        }
    }

    /// The pair for this endpoint, opened if there is none.
    ///
    /// # Errors
    /// As [`Receiver::open`]; trying again later is safe.
    pub(super) fn ensure(&mut self, endpoint: &Endpoint) -> io::Result<WireId> {
        if let Some(wire) = self.open.iter().find(|wire| wire.endpoint == *endpoint) {
            return Ok(wire.id);
        }
        let receiver = Receiver::open(endpoint)?;
        let sender = Sender::open(endpoint)?;
        let id = WireId(self.next);
        self.next += 1;
        self.open.push(Wire {
            id,
            endpoint: endpoint.clone(),
            sender,
            reader: tokio::spawn(read(id, receiver, self.report.clone())),
        });
        Ok(id)
    }

    /// Closes the pairs that nobody uses any more.
    pub(super) fn retain(&mut self, mut used: impl FnMut(WireId) -> bool) {
        self.open.retain(|wire| used(wire.id));
    }

    pub(super) fn endpoint(&self, id: WireId) -> Option<&Endpoint> {
        self.get(id).map(|wire| &wire.endpoint)
    }

    pub(super) fn sender(&self, id: WireId) -> Option<&Sender> {
        self.get(id).map(|wire| &wire.sender)
    }

    fn get(&self, id: WireId) -> Option<&Wire> {
        self.open.iter().find(|wire| wire.id == id)
    }
}

async fn read(wire: WireId, mut receiver: Receiver, report: mpsc::Sender<Happening>) {
    loop {
        let packet = match receiver.receive().await {
            Ok(datagram) => Packet {
                wire,
                bytes: [datagram.header, datagram.payload].concat(),
                source: datagram.source,
                destination: datagram.destination,
                ttl: datagram.ttl,
            },
            Err(error) => {
                debug!("reading adverts: {error}");
                tokio::time::sleep(READ_AGAIN).await;
                continue;
            }
        };
        if report.send(Happening::Packet(packet)).await.is_err() {
            return;
        }
    }
}
