//! A bell at one socket that rings for what was asked for and for nothing else: data, room to write, and always its end.
//!
//! The runtime's own registration of a socket wakes the thread for whatever arrives. A daemon that asks its server 33 times a
//! second whether it lives would wake up twice for each question, though the answer can as well be read when the next question
//! is due. An epoll of its own around the socket, which the runtime watches in turn, leaves out what nobody waits for, and the
//! end of the connection still rings at once.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use tokio::io::unix::AsyncFd;

use super::sys;

/// What a bell rings for besides the end of the connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wants {
    /// Bytes to read.
    pub(crate) data: bool,
    /// Room to write.
    pub(crate) room: bool,
}

impl Wants {
    fn flags(self) -> EventFlags {
        let mut flags = EventFlags::RDHUP;
        flags.set(EventFlags::IN, self.data);
        flags.set(EventFlags::OUT, self.room);
        flags
    }
}

/// Watches one socket.
#[derive(Debug)]
pub(crate) struct Bell {
    epoll: AsyncFd<OwnedFd>,
    wants: Wants,
}

impl Bell {
    /// A bell that rings for the end of this socket's connection only. It is silent once the socket is closed.
    pub(crate) fn at(socket: impl AsFd) -> io::Result<Self> {
        let wants = Wants::default();
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, socket, EventData::new_u64(0), wants.flags())?;
        Ok(Self {
            epoll: sys::watch_readable(epoll)?,
            wants,
        })
    }

    /// Changes what it rings for. What is there already rings.
    pub(crate) fn want(&mut self, socket: impl AsFd, wants: Wants) -> io::Result<()> {
        if self.wants != wants {
            let epoll = self.epoll.get_ref();
            // Not `modify`: it does not wake for a socket that is on the list of the ready ones already, and one that has been
            // read since stays there until somebody looks.
            epoll::delete(epoll, &socket)?;
            epoll::add(epoll, &socket, EventData::new_u64(0), wants.flags())?;
            self.wants = wants;
        }
        Ok(())
    }

    /// Waits until it rings. Whoever hears it reads and writes until the socket has no more: it does not ring twice for
    /// the same. May ring for nothing; who stops waiting has heard nothing.
    pub(crate) async fn rung(&self) -> io::Result<()> {
        self.epoll.readable().await?.clear_ready();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use super::*;

    const DATA: Wants = Wants {
        data: true,
        room: false,
    };

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (far, _) = listener.accept().unwrap();
        near.set_nonblocking(true).unwrap();
        (near, far)
    }

    /// What has arrived has arrived: both ends are on this host, and a look at the socket says so.
    fn arrived(near: &TcpStream) {
        near.set_nonblocking(false).unwrap();
        near.peek(&mut [0]).unwrap();
        near.set_nonblocking(true).unwrap();
    }

    async fn rings(bell: &Bell) -> bool {
        let within = Duration::from_millis(20);
        tokio::time::timeout(within, bell.rung()).await.is_ok()
    }

    #[tokio::test]
    async fn data_rings_only_if_it_is_wanted() {
        let (mut near, mut far) = pair();
        let mut bell = Bell::at(&near).unwrap();
        far.write_all(b"one").unwrap();
        arrived(&near);
        assert!(!rings(&bell).await);
        bell.want(&near, DATA).unwrap();
        assert!(rings(&bell).await, "what was there already");
        near.read_exact(&mut [0; 3]).unwrap();
        far.write_all(b"two").unwrap();
        assert!(rings(&bell).await);
        near.read_exact(&mut [0; 3]).unwrap();
        bell.want(&near, Wants::default()).unwrap();
        far.write_all(b"three").unwrap();
        arrived(&near);
        assert!(!rings(&bell).await);
        bell.want(&near, DATA).unwrap();
        assert!(
            rings(&bell).await,
            "though it was ready before and read since"
        );
    }

    #[tokio::test]
    async fn the_end_always_rings_even_behind_data() {
        let (near, mut far) = pair();
        let bell = Bell::at(&near).unwrap();
        far.write_all(b"last words").unwrap();
        arrived(&near);
        assert!(!rings(&bell).await);
        drop(far);
        bell.rung().await.unwrap();
    }

    #[tokio::test]
    async fn room_rings_when_the_other_side_reads() {
        let (mut near, mut far) = pair();
        let mut bell = Bell::at(&near).unwrap();
        let mut written = 0;
        while let Ok(length) = near.write(&[0; 65536]) {
            written += length;
        }
        let room = Wants {
            data: false,
            room: true,
        };
        bell.want(&near, room).unwrap();
        assert!(!rings(&bell).await);
        far.read_exact(&mut vec![0; written]).unwrap();
        bell.rung().await.unwrap();
        assert!(near.write(b"more").is_ok());
    }
}
