//! Lists TCP sockets and destroys them, through `NETLINK_SOCK_DIAG` (`linux/inet_diag.h`, `CONFIG_INET_DIAG_DESTROY`).
//!
//! Destroying an established connection sends its peer a reset at once, whatever the owning process does; destroying
//! a listening socket makes the next connect be refused. That is how clients learn that a frozen or dying server is
//! gone while its kernel side still looks alive. Which sockets deserve it is decided elsewhere.
//!
//! Requests are answered inside the call. A listing walks the kernel's hash tables: its cost grows with the size of
//! the tables and the number of sockets of the namespace, not only with the sockets found. Listing connections takes
//! 0.6 to 2 ms on a machine of 24 GB without any, listing listeners 0.05 ms, destroying one socket 0.02 ms.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::netlink::{self, Message, Requests, Subsystem, u16_at, u32_at};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
/// `struct inet_diag_sockid`: ports, addresses, interface and cookie.
const SOCKET_ID_LEN: usize = 48;
/// Where `struct inet_diag_msg` keeps its socket id, and what follows it.
const ID_AT: usize = 4;
const RECEIVE_QUEUE_AT: usize = ID_AT + SOCKET_ID_LEN + 4;
const SEND_QUEUE_AT: usize = RECEIVE_QUEUE_AT + 4;
const INODE_AT: usize = SEND_QUEUE_AT + 8;
const ATTRIBUTES_AT: usize = INODE_AT + 4;
/// `INET_DIAG_INFO`: a `struct tcp_info` follows, and where it keeps what it counts (`linux/tcp.h`; since Linux 4.19).
const INFO: u16 = 2;
const BYTES_RECEIVED_AT: usize = 128;
const BYTES_UNSENT_AT: usize = 144;
const BYTES_SENT_AT: usize = 200;
const BYTES_SENT_AGAIN_AT: usize = 208;

/// State of a TCP socket, with the kernel's numbers (`net/tcp_states.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum State {
    Established = 1,
    SynSent,
    SynReceived,
    FinWait1,
    FinWait2,
    TimeWait,
    Close,
    CloseWait,
    LastAck,
    Listen,
    Closing,
    NewSynReceived,
}

impl State {
    fn from_kernel(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Established,
            2 => Self::SynSent,
            3 => Self::SynReceived,
            4 => Self::FinWait1,
            5 => Self::FinWait2,
            6 => Self::TimeWait,
            7 => Self::Close,
            8 => Self::CloseWait,
            9 => Self::LastAck,
            10 => Self::Listen,
            11 => Self::Closing,
            12 => Self::NewSynReceived,
            _ => return None,
        })
    }
}

/// A set of [`State`]s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct States(u32);

impl States {
    /// Listening sockets.
    pub(crate) const LISTENING: Self = Self(1 << State::Listen as u32);
    /// Everything that has, or may soon have, a peer that waits for an answer. Not TIME_WAIT: nobody waits there.
    pub(crate) const CONNECTED: Self = Self(
        1 << State::Established as u32
            | 1 << State::SynReceived as u32
            | 1 << State::NewSynReceived as u32
            | 1 << State::FinWait1 as u32
            | 1 << State::FinWait2 as u32
            | 1 << State::CloseWait as u32
            | 1 << State::LastAck as u32
            | 1 << State::Closing as u32,
    );
}

/// The local end whose sockets are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Local {
    /// `None`: any local address. A listener on the wildcard address belongs to no particular address and is found
    /// only with `None`.
    pub(crate) address: Option<IpAddr>,
    /// Local port, not zero.
    pub(crate) port: u16,
}

/// One TCP socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TcpSocket {
    /// Local end. IPv4 on an IPv6 socket is shown as IPv4.
    pub(crate) local: SocketAddr,
    /// Remote end; unspecified and zero for a listener.
    pub(crate) remote: SocketAddr,
    /// Its state.
    pub(crate) state: State,
    /// Bytes received and not read by the process; for a listener, connections waiting to be accepted.
    pub(crate) receive_queue: u32,
    /// Bytes sent and not acknowledged by the peer; for a listener, the length limit of its queue.
    pub(crate) send_queue: u32,
    /// Inode of the socket's descriptor, zero if no process has it open (not yet accepted, or closed).
    pub(crate) inode: u32,
    /// What it has carried, if that was asked for and the kernel counts it.
    pub(crate) carried: Option<Carried>,
    family: u8,
    id: [u8; SOCKET_ID_LEN],
}

/// What a connection has carried since it was made, in bytes. Both ends count alike, so one kernel can tell the other how much
/// is to arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Carried {
    /// Given to it by the process, whether it has left this host yet or not.
    pub(crate) given: u64,
    /// Arrived here without a gap, whether the process has read it yet or not.
    pub(crate) received: u64,
}

/// What a round of destroying did.
#[derive(Debug, Default)]
pub(crate) struct Destroyed {
    /// Sockets that are gone, those included that went by themselves meanwhile.
    pub(crate) gone: usize,
    /// Sockets that were kept because of their remote address.
    pub(crate) kept: usize,
    /// The first refusal, if any: `EPERM` without `CAP_NET_ADMIN`, `EOPNOTSUPP` without `CONFIG_INET_DIAG_DESTROY`.
    pub(crate) refused: Option<io::Error>,
}

/// Asks the kernel about the TCP sockets of the opening thread's network namespace.
#[derive(Debug)]
pub(crate) struct SocketDiag {
    requests: Requests,
}

impl SocketDiag {
    /// Opens the request socket. Listing needs no privilege, destroying needs `CAP_NET_ADMIN`.
    pub(crate) fn open() -> io::Result<Self> {
        Ok(Self {
            requests: Requests::open(Subsystem::SockDiag)?,
        })
    }

    /// The sockets at `local` that are in one of `states`, of both families.
    pub(crate) fn list(&mut self, local: Local, states: States) -> io::Result<Vec<TcpSocket>> {
        let mut found = Vec::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            let id = id_with_local_port(local.port);
            let request = request(family as u8, states, &id, 0);
            found.append(&mut self.dump(&request, |socket| at(socket, local))?);
        }
        Ok(found)
    }

    /// The connections of a local port to a host, whoever owned them, and what they have carried.
    pub(crate) fn list_between(&mut self, port: u16, remote: IpAddr) -> io::Result<Vec<TcpSocket>> {
        let id = id_with_local_port(port);
        let request = request(family_of(remote), States::CONNECTED, &id, INFO);
        self.dump(&request, |it| {
            it.local.port() == port && it.remote.ip() == remote
        })
    }

    /// The sockets connected to `remote` that are in one of `states`, and what they have carried: a server's replication link,
    /// for instance.
    pub(crate) fn list_to(
        &mut self,
        remote: SocketAddr,
        states: States,
    ) -> io::Result<Vec<TcpSocket>> {
        let mut id = [0; SOCKET_ID_LEN];
        // The kernel compares the remote port in a dump as it does the local one.
        id[2..4].copy_from_slice(&remote.port().to_be_bytes());
        let request = request(family_of(remote.ip()), states, &id, INFO);
        self.dump(&request, |socket| socket.remote == remote)
    }

    fn dump(
        &mut self,
        request: &[u8],
        is_meant: impl Fn(&TcpSocket) -> bool,
    ) -> io::Result<Vec<TcpSocket>> {
        let request = Message::new(SOCK_DIAG_BY_FAMILY, netlink::DUMP).raw(request);
        let mut sockets = Vec::new();
        self.requests.dump(
            &request,
            &mut sockets,
            Vec::clear,
            |sockets, _kind, body| {
                sockets.extend(read_socket(body).filter(|socket| is_meant(socket)));
            },
        )?;
        Ok(sockets)
    }

    /// Destroys one socket. `false`: it was gone already.
    pub(crate) fn destroy(&mut self, socket: &TcpSocket) -> io::Result<bool> {
        let states = States(1 << socket.state as u32);
        let message = Message::new(SOCK_DESTROY, netlink::ACK).raw(&request(
            socket.family,
            states,
            &socket.id,
            0,
        ));
        match self.requests.acknowledged(message) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Destroys the client connections at `local`, except those whose remote address is in `keep` (the peer's daemon,
    /// replication). Their peers get a reset at once.
    ///
    /// # Errors
    /// Only if the sockets cannot be listed; a refusal to destroy is in the result, after all were tried.
    pub(crate) fn destroy_clients(
        &mut self,
        local: Local,
        keep: &[IpAddr],
    ) -> io::Result<Destroyed> {
        self.destroy_listed(local, States::CONNECTED, keep)
    }

    /// Destroys the listening sockets at `local`, so that connects are refused. The owning process, should it live
    /// after all, keeps a descriptor that is no longer listening: only for a server that is proven dead.
    ///
    /// # Errors
    /// As for [`Self::destroy_clients`].
    pub(crate) fn destroy_listeners(&mut self, local: Local) -> io::Result<Destroyed> {
        self.destroy_listed(local, States::LISTENING, &[])
    }

    fn destroy_listed(
        &mut self,
        local: Local,
        states: States,
        keep: &[IpAddr],
    ) -> io::Result<Destroyed> {
        let mut outcome = Destroyed::default();
        for socket in self.list(local, states)? {
            if keep.contains(&socket.remote.ip()) {
                outcome.kept += 1;
                continue;
            }
            match self.destroy(&socket) {
                Ok(_) => outcome.gone += 1,
                Err(error) => outcome.refused = outcome.refused.or(Some(error)),
            }
        }
        Ok(outcome)
    }
}

fn family_of(address: IpAddr) -> u8 {
    let family = if address.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    };
    family as u8
}

/// `struct inet_diag_req_v2`: family, protocol, extensions, padding, states, socket id. 56 bytes. An extension is asked for by
/// its number, none by 0.
fn request(family: u8, states: States, id: &[u8; SOCKET_ID_LEN], extension: u16) -> Vec<u8> {
    let extensions = match extension {
        0 => 0,
        number => 1 << (number - 1),
    };
    let mut bytes = vec![family, libc::IPPROTO_TCP as u8, extensions, 0];
    bytes.extend_from_slice(&states.0.to_ne_bytes());
    bytes.extend_from_slice(id);
    bytes
}

/// A dump lets the kernel compare the local port; addresses in the id are ignored there.
fn id_with_local_port(port: u16) -> [u8; SOCKET_ID_LEN] {
    let mut id = [0; SOCKET_ID_LEN];
    id[..2].copy_from_slice(&port.to_be_bytes());
    id
}

fn at(socket: &TcpSocket, local: Local) -> bool {
    socket.local.port() == local.port
        && local
            .address
            .is_none_or(|address| address == socket.local.ip())
}

/// Reads a `struct inet_diag_msg`.
fn read_socket(body: &[u8]) -> Option<TcpSocket> {
    let (family, state) = (*body.first()?, State::from_kernel(*body.get(1)?)?);
    let id: [u8; SOCKET_ID_LEN] = body.get(ID_AT..)?.first_chunk().copied()?;
    Some(TcpSocket {
        local: SocketAddr::new(
            address(family, &id[4..20])?,
            u16_at(&id, 0).map(u16::from_be)?,
        ),
        remote: SocketAddr::new(
            address(family, &id[20..36])?,
            u16_at(&id, 2).map(u16::from_be)?,
        ),
        state,
        receive_queue: u32_at(body, RECEIVE_QUEUE_AT)?,
        send_queue: u32_at(body, SEND_QUEUE_AT)?,
        inode: u32_at(body, INODE_AT)?,
        carried: attribute(body, INFO).and_then(carried),
        family,
        id,
    })
}

/// The attribute of this kind behind the message.
fn attribute(body: &[u8], kind: u16) -> Option<&[u8]> {
    let mut rest = body.get(ATTRIBUTES_AT..)?;
    loop {
        let length = usize::from(u16_at(rest, 0)?);
        let value = rest.get(4..length)?;
        if u16_at(rest, 2)? == kind {
            return Some(value);
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
}

fn carried(info: &[u8]) -> Option<Carried> {
    let sent = u64_at(info, BYTES_SENT_AT)?;
    let again = u64_at(info, BYTES_SENT_AGAIN_AT)?;
    let unsent = u64::from(u32_at(info, BYTES_UNSENT_AT)?);
    Some(Carried {
        given: sent.checked_sub(again)? + unsent,
        received: u64_at(info, BYTES_RECEIVED_AT)?,
    })
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

fn address(family: u8, bytes: &[u8]) -> Option<IpAddr> {
    match i32::from(family) {
        libc::AF_INET => bytes
            .first_chunk::<4>()
            .map(|octets| Ipv4Addr::from(*octets).into()),
        libc::AF_INET6 => bytes
            .first_chunk::<16>()
            .map(|octets| IpAddr::from(Ipv6Addr::from(*octets)).to_canonical()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::super::testing::{in_namespace, run};
    use super::*;

    fn connect(listener: &TcpListener) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("accepted");
        let (server, _) = listener.accept().expect("a client");
        (client, server)
    }

    fn local(listener: &TcpListener) -> Local {
        let address = listener.local_addr().expect("bound");
        Local {
            address: Some(address.ip()),
            port: address.port(),
        }
    }

    #[test]
    fn sockets_are_listed_with_their_queues() {
        in_namespace("sockets_are_listed_with_their_queues", async || {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
            let (mut client, _server) = connect(&listener);
            client.write_all(b"12345").expect("written");
            let mut diag = SocketDiag::open().expect("netlink");
            let listening = diag
                .list(local(&listener), States::LISTENING)
                .expect("a listing");
            assert_eq!(listening.len(), 1);
            assert_eq!(
                (listening[0].state, listening[0].receive_queue),
                (State::Listen, 0)
            );
            assert_ne!(listening[0].inode, 0);
            let connected = diag
                .list(local(&listener), States::CONNECTED)
                .expect("a listing");
            assert_eq!(connected.len(), 1, "{connected:?}");
            assert_eq!(connected[0].remote, client.local_addr().expect("connected"));
            assert_eq!(
                (connected[0].state, connected[0].receive_queue),
                (State::Established, 5)
            );
            let elsewhere = Local {
                address: Some([127, 0, 0, 9].into()),
                ..local(&listener)
            };
            assert_eq!(
                diag.list(elsewhere, States::CONNECTED).expect("a listing"),
                []
            );
        });
    }

    #[test]
    fn both_ends_count_alike_what_a_connection_carries() {
        in_namespace(
            "both_ends_count_alike_what_a_connection_carries",
            async || {
                for bind in ["127.0.0.1:0", "[::1]:0"] {
                    let listener = TcpListener::bind(bind).expect("a listener");
                    let (mut client, mut server) = connect(&listener);
                    let mut diag = SocketDiag::open().expect("netlink");
                    server.write_all(&[0; 5]).expect("written");
                    client.read_exact(&mut [0; 5]).expect("read");
                    // More than the other side takes: some of it has not left yet.
                    server.set_nonblocking(true).expect("set");
                    let mut given = 5;
                    while let Ok(length) = server.write(&[0; 65536]) {
                        given += length as u64;
                    }
                    let address = listener.local_addr().expect("bound");
                    let near = diag
                        .list_between(address.port(), address.ip())
                        .expect("a listing");
                    assert_eq!(near.len(), 1, "{near:?}");
                    assert_eq!(near[0].remote, client.local_addr().expect("connected"));
                    assert_eq!(near[0].carried.expect("counted").given, given);

                    assert_eq!(
                        diag.list_between(address.port(), [127, 0, 0, 9].into())
                            .expect("a listing"),
                        []
                    );
                    // An orphan's bytes are still on their way, and counted.
                    drop(server);
                    let near = diag
                        .list_between(address.port(), address.ip())
                        .expect("a listing");
                    // The end itself counts as one until it has left, and at the other side from when it has come.
                    let end = near[0].carried.expect("counted").given - given;
                    assert!(end <= 1, "{near:?}");

                    client.read_to_end(&mut Vec::new()).expect("the end");
                    let far = diag.list_to(address, States::CONNECTED).expect("a listing");
                    assert_eq!(far.len(), 1, "{far:?}");
                    let carried = far[0].carried.expect("counted");
                    assert_eq!(carried.given, 0);
                    let end = carried.received - given;
                    assert!(
                        end <= 1,
                        "the end may count as a byte: {carried:?}, {given}"
                    );
                }
            },
        );
    }

    #[test]
    fn a_destroyed_client_gets_a_reset_and_a_kept_one_does_not() {
        in_namespace(
            "a_destroyed_client_gets_a_reset_and_a_kept_one_does_not",
            async || {
                run(&["ip", "addr", "add", "10.9.0.1/32", "dev", "lo"]);
                // An IPv6 wildcard listener: its IPv4 clients live on IPv6 sockets.
                for bind in ["127.0.0.1:0", "[::1]:0", "[::]:0"] {
                    let listener = TcpListener::bind(bind).expect("a listener");
                    let port = listener.local_addr().expect("bound").port();
                    let target = if bind.starts_with("[::1]") {
                        "::1"
                    } else {
                        "127.0.0.1"
                    };
                    let mut client = TcpStream::connect((target, port)).expect("connected");
                    let _accepted = listener.accept().expect("a client");
                    let never_accepted = TcpStream::connect((target, port)).expect("connected");
                    let mut diag = SocketDiag::open().expect("netlink");
                    let clients = Local {
                        address: Some(target.parse().expect("an address")),
                        port,
                    };

                    let outcome = diag
                        .destroy_clients(clients, &[target.parse().expect("an address")])
                        .expect("listed");
                    assert_eq!((outcome.gone, outcome.kept), (0, 2), "{bind}");
                    client.set_nonblocking(true).expect("set");
                    assert_eq!(
                        client.read(&mut [0]).expect_err("no bytes").kind(),
                        ErrorKind::WouldBlock,
                        "kept"
                    );

                    let outcome = diag.destroy_clients(clients, &[]).expect("listed");
                    assert_eq!(outcome.gone, 2, "{bind}: {:?}", outcome.refused);
                    for mut reset in [client, never_accepted] {
                        reset.set_nonblocking(true).expect("set");
                        assert_eq!(
                            reset.read(&mut [0]).expect_err("reset").kind(),
                            ErrorKind::ConnectionReset,
                            "{bind}"
                        );
                    }
                }
            },
        );
    }

    #[test]
    fn a_destroyed_listener_refuses() {
        in_namespace("a_destroyed_listener_refuses", async || {
            for bind in ["127.0.0.1:0", "0.0.0.0:0", "[::]:0"] {
                let listener = TcpListener::bind(bind).expect("a listener");
                let port = listener.local_addr().expect("bound").port();
                let mut waiting = TcpStream::connect(("127.0.0.1", port)).expect("queued");
                let mut diag = SocketDiag::open().expect("netlink");
                let outcome = diag
                    .destroy_listeners(Local {
                        address: None,
                        port,
                    })
                    .expect("listed");
                assert_eq!(outcome.gone, 1, "{bind}: {:?}", outcome.refused);
                let refused = TcpStream::connect(("127.0.0.1", port)).expect_err("nobody listens");
                assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{bind}");
                assert_eq!(
                    waiting.read(&mut [0]).expect_err("reset").kind(),
                    ErrorKind::ConnectionReset,
                    "{bind}"
                );
            }
        });
    }
}
