//! Where clients come in: listeners, who is let in, and how long they may take to agree on TLS.

use std::io;
use std::time::Duration;

use mio::Token;

use super::{Entrance, SPECIAL, Socket, Worker, find, place};
use crate::core::How;
use crate::server::socket::{Door, Stream};
use crate::settings::Compat;

/// Clients accepted from one listener in one turn; the rest have to wait for the next.
const ACCEPTS: usize = 64;
/// After an accept failed for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a client may take to agree on TLS.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// What Redis says to one for whom there is no place.
const TOO_MANY_CLIENTS: &[u8] = b"-ERR max number of clients reached\r\n";

impl Worker {
    pub(super) fn add_door(&mut self, pool: usize, mut door: Door) -> io::Result<()> {
        let number = self.doors.len();
        let token = Token(SPECIAL as usize + number);
        door.listener.register(self.poll.registry(), token)?;
        self.doors.push(Some(Entrance { door, pool }));
        // Clients that came before the registration give no edge.
        self.open_doors.push(number);
        Ok(())
    }

    pub(super) fn reopen_doors(&mut self) {
        if self.doors_at.is_some_and(|at| at <= self.now) {
            self.doors_at = None;
            self.open_doors = (0..self.doors.len()).collect();
        }
        for number in std::mem::take(&mut self.open_doors) {
            self.accept(number);
        }
    }

    pub(super) fn accept(&mut self, number: usize) {
        for _ in 0..ACCEPTS {
            let Some(Some(Entrance { door, pool })) = self.doors.get(number) else {
                return;
            };
            let pool = *pool;
            let mut stream = match door.listener.accept() {
                Ok(stream) => stream,
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return,
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => continue,
                    _ => {
                        // Out of descriptors or memory, as a rule: those who are here go on.
                        self.doors_at = Some(self.now + ACCEPT_PAUSE);
                        return;
                    }
                },
            };
            let settings = self.core.settings(pool);
            let Some(crowded) = self.crowd.enter() else {
                if settings.compat == Compat::Strict && settings.access.tls.is_none() {
                    // As Redis; under TLS nothing can be said yet, and twemproxy says nothing.
                    let _ = stream.write([TOO_MANY_CLIENTS, &[]]);
                }
                continue;
            };
            if let Some(acceptor) = &settings.access.tls {
                match stream.guarded(acceptor) {
                    Ok(guarded) => stream = guarded,
                    Err(_) => continue,
                }
            }
            let Some(peer) = self.core.accepted(pool, self.now) else {
                continue;
            };
            if matches!(stream, Stream::Tls(_)) {
                self.handshakes.push_back((peer, self.now + HANDSHAKE));
            }
            if stream
                .register(self.poll.registry(), Token(peer.token() as usize))
                .is_err()
            {
                self.core.closed(peer, How::Failed, self.now);
                continue;
            }
            place(
                &mut self.clients,
                Socket {
                    peer,
                    stream,
                    connecting: false,
                    blocked: false,
                    ended: false,
                    _place: Some(crowded),
                },
            );
        }
        self.open_doors.push(number);
    }

    /// Closes clients that have not agreed on TLS in time.
    pub(super) fn end_handshakes(&mut self) {
        while let Some(&(peer, until)) = self.handshakes.front() {
            let socket = find(&mut self.clients, &mut self.lanes, peer);
            let open = socket.is_some_and(
                |socket| matches!(&socket.stream, Stream::Tls(secure) if secure.is_handshaking()),
            );
            if open && self.now < until {
                return;
            }
            self.handshakes.pop_front();
            if open {
                self.core.closed(peer, How::TimedOut, self.now);
            }
        }
    }
}
