//! A connection under TLS, between the socket and the core: bytes of the core in and out, records on the wire.
//!
//! ```text
//!   core --pending--> writer --records--> socket        socket --records--> reader --recv_space--> core
//! ```
//! Nothing here waits. What is in between is bounded: [`UNSENT`] bytes of records on their way out, one record on its way
//! in, because what is deciphered is handed over before more is read.
//!
//! To a client, bytes count as sent once the kernel has all their records: only then may the core forget them. To a
//! server they count as soon as they are enciphered: from then on they may reach it, and the core must know.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::{ClientConnection, Connection, ServerConnection};

use crate::tls::{Acceptor, Connector};

/// Bytes that may be enciphered and not sent.
const UNSENT: usize = 64 * 1024;

/// A TCP connection that speaks TLS.
#[derive(Debug)]
pub(super) struct Secure {
    stream: TcpStream,
    connection: Connection,
    /// Enciphered, and not reported as sent.
    in_flight: usize,
    /// The kernel takes nothing more of the records that are there.
    stuck: bool,
    /// The other side has said all, or its connection is gone.
    ended: bool,
}

impl Secure {
    /// The side that was connected to.
    pub(super) fn accept(stream: TcpStream, acceptor: &Acceptor) -> io::Result<Self> {
        let mut connection = ServerConnection::new(acceptor.get()).map_err(io::Error::other)?;
        connection.set_buffer_limit(Some(UNSENT));
        Ok(Self::new(stream, connection.into()))
    }

    /// The side that connects.
    pub(super) fn connect(stream: TcpStream, connector: &Connector) -> io::Result<Self> {
        let config = connector.config.get();
        let connection = ClientConnection::new(Arc::clone(&config), connector.name.clone());
        let mut connection = connection.map_err(io::Error::other)?;
        connection.set_buffer_limit(Some(UNSENT));
        Ok(Self::new(stream, connection.into()))
    }

    fn new(stream: TcpStream, connection: Connection) -> Self {
        Self {
            stream,
            connection,
            in_flight: 0,
            stuck: false,
            ended: false,
        }
    }

    pub(super) fn tcp(&self) -> &TcpStream {
        &self.stream
    }

    pub(super) fn tcp_mut(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Whether it waits until the kernel takes records again.
    pub(super) fn is_stuck(&self) -> bool {
        self.stuck
    }

    /// Whether nothing more will come than what is deciphered already.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether the two sides have not agreed yet.
    pub(super) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Goes on agreeing. None: the other side has to say something first.
    pub(super) fn agree(&mut self) -> Option<io::Result<()>> {
        loop {
            match self.flush() {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                Err(error) => return Some(Err(error)),
            }
            if !self.connection.is_handshaking() {
                return Some(Ok(()));
            }
            match self.take_in() {
                Ok(0) => return Some(Err(ErrorKind::ConnectionReset.into())),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// Fills `space` as far as the other side has said anything. 0: it has said all.
    pub(super) fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        loop {
            match self.connection.reader().read(&mut space[filled..]) {
                Ok(0) => {
                    self.ended = true;
                    return Ok(filled);
                }
                Ok(bytes) => {
                    filled += bytes;
                    if filled == space.len() {
                        return Ok(filled);
                    }
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // Gone without a farewell, as a process that was killed is.
                Err(_) => {
                    self.ended = true;
                    return Ok(filled);
                }
            }
            match self.take_in() {
                Ok(_) => {}
                Err(_) if filled > 0 => {
                    // If it was more than the end of what there is to read, the next read says so again.
                    return Ok(filled);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads records, and answers what only concerns TLS. 0: the connection is closed.
    fn take_in(&mut self) -> io::Result<usize> {
        let bytes = self.connection.read_tls(&mut self.stream);
        if let Err(error) = &bytes
            && error.kind() != ErrorKind::WouldBlock
            && error.kind() != ErrorKind::Interrupted
        {
            self.ended = true;
        }
        let bytes = bytes?;
        if let Err(error) = self.connection.process_new_packets() {
            self.ended = true;
            // One alert, as far as the kernel takes it; the connection is over whether it arrives or not.
            let _ = self.flush();
            return Err(io::Error::new(ErrorKind::InvalidData, error));
        }
        match self.flush() {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            Ok(()) | Err(_) => Ok(bytes),
        }
    }

    /// Enciphers and sends. How much of it counts as sent, see above.
    pub(super) fn write(&mut self, [first, second]: [&[u8]; 2]) -> io::Result<usize> {
        if self.in_flight == 0 {
            let both = [IoSlice::new(first), IoSlice::new(second)];
            self.in_flight = self.connection.writer().write_vectored(&both)?;
        }
        match self.flush() {
            Ok(()) => Ok(std::mem::take(&mut self.in_flight)),
            Err(error) if error.kind() == ErrorKind::WouldBlock && self.counts_at_once() => {
                match std::mem::take(&mut self.in_flight) {
                    0 => Err(error),
                    bytes => Ok(bytes),
                }
            }
            Err(error) => Err(error),
        }
    }

    fn counts_at_once(&self) -> bool {
        matches!(self.connection, Connection::Client(_))
    }

    /// Sends records that are there.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.stuck = false;
        while self.connection.wants_write() {
            match self.connection.write_tls(&mut self.stream) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.stuck = error.kind() == ErrorKind::WouldBlock;
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Says that nothing more comes, if the kernel takes it.
    pub(super) fn farewell(&mut self) {
        self.connection.send_close_notify();
        let _ = self.flush();
    }
}
