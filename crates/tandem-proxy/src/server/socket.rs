//! Sockets: TCP and Unix behind one type, and what their errors mean.

use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use mio::event::Source;
use mio::{Interest, Registry, Token};

use super::secure::Secure;
use crate::core::How;
use crate::settings::Address;
use crate::tls::{Acceptor, Connector};

/// A connection, to a client or a server.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(mio::net::TcpStream),
    Unix(mio::net::UnixStream),
    Tls(Box<Secure>),
}

impl Stream {
    /// As the side that connects, over TLS from now on; not over a Unix socket.
    pub(super) fn secured(self, connector: &Connector) -> io::Result<Self> {
        match self {
            Self::Tcp(stream) => Ok(Self::Tls(Box::new(Secure::connect(stream, connector)?))),
            Self::Unix(_) | Self::Tls(_) => Ok(self),
        }
    }

    /// As the side that was connected to, over TLS from now on; not over a Unix socket.
    pub(super) fn guarded(self, acceptor: &Acceptor) -> io::Result<Self> {
        match self {
            Self::Tcp(stream) => Ok(Self::Tls(Box::new(Secure::accept(stream, acceptor)?))),
            Self::Unix(_) | Self::Tls(_) => Ok(self),
        }
    }

    /// Begins to connect; done when the socket is writable and [`Stream::outcome`] says so.
    pub(super) fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = mio::net::TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self::Tcp(stream))
    }

    /// As [`Stream::connect`], to a Unix socket.
    pub(super) fn connect_unix(path: &Path) -> io::Result<Self> {
        Ok(Self::Unix(mio::net::UnixStream::connect(path)?))
    }

    /// What became of a connection attempt. None: not decided yet.
    pub(super) fn outcome(&mut self) -> Option<io::Result<()>> {
        let error = match self {
            Self::Tcp(stream) => stream.take_error(),
            Self::Unix(stream) => stream.take_error(),
            Self::Tls(secure) => secure.tcp().take_error(),
        };
        match error {
            Ok(Some(error)) | Err(error) => return Some(Err(error)),
            Ok(None) => {}
        }
        let peer = match self {
            Self::Tcp(stream) => stream.peer_addr().map(drop),
            Self::Unix(stream) => stream.peer_addr().map(drop),
            Self::Tls(secure) => secure.tcp().peer_addr().map(drop),
        };
        match peer {
            Ok(()) => match self {
                Self::Tcp(_) | Self::Unix(_) => Some(Ok(())),
                Self::Tls(secure) => secure.agree(),
            },
            Err(error) if error.kind() == io::ErrorKind::NotConnected => None,
            Err(error) => Some(Err(error)),
        }
    }

    pub(super) fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(space),
            Self::Unix(stream) => stream.read(space),
            Self::Tls(secure) => secure.read(space),
        }
    }

    pub(super) fn write(&mut self, [first, second]: [&[u8]; 2]) -> io::Result<usize> {
        if second.is_empty() {
            return match self {
                Self::Tcp(stream) => stream.write(first),
                Self::Unix(stream) => stream.write(first),
                Self::Tls(secure) => secure.write([first, second]),
            };
        }
        let both = [IoSlice::new(first), IoSlice::new(second)];
        match self {
            Self::Tcp(stream) => stream.write_vectored(&both),
            Self::Unix(stream) => stream.write_vectored(&both),
            Self::Tls(secure) => secure.write([first, second]),
        }
    }

    /// Both directions at once and for good: edge-triggered readiness needs no further calls.
    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let both = Interest::READABLE | Interest::WRITABLE;
        match self {
            Self::Tcp(stream) => stream.register(registry, token, both),
            Self::Unix(stream) => stream.register(registry, token, both),
            Self::Tls(secure) => secure.tcp_mut().register(registry, token, both),
        }
    }
}

/// A listener, and the address that it was made for.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) address: Address,
    pub(super) listener: Listener,
}

/// A socket that clients connect to.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp {
        listener: mio::net::TcpListener,
        keepalive: bool,
    },
    Unix(mio::net::UnixListener),
}

impl Listener {
    /// The next client, ready to be registered.
    pub(super) fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp {
                listener,
                keepalive,
            } => {
                let (stream, _) = listener.accept()?;
                // A client that is gone already fails here and will be noticed at the first read.
                let _ = stream.set_nodelay(true);
                if *keepalive {
                    let _ = socket2::SockRef::from(&stream).set_keepalive(true);
                }
                Ok(Stream::Tcp(stream))
            }
            Self::Unix(listener) => Ok(Stream::Unix(listener.accept()?.0)),
        }
    }

    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match self {
            Self::Tcp { listener, .. } => listener.register(registry, token, Interest::READABLE),
            Self::Unix(listener) => listener.register(registry, token, Interest::READABLE),
        }
    }
}

/// A listening TCP socket. With `shared` several threads have one each at the same address, and the kernel deals
/// connections out. With `free` the address need not be on this host yet.
pub(super) fn listen_tcp(
    address: SocketAddr,
    backlog: u32,
    shared: bool,
    free: bool,
) -> io::Result<std::net::TcpListener> {
    let socket = |shared: bool| -> io::Result<socket2::Socket> {
        let domain = socket2::Domain::for_address(address);
        let socket =
            socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        if shared {
            socket.set_reuse_port(true)?;
        }
        if free && address.is_ipv4() {
            socket.set_freebind_v4(true)?;
        } else if free {
            socket.set_freebind_v6(true)?;
        }
        socket.bind(&address.into())?;
        Ok(socket)
    };
    let socket = socket(shared)?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Whether an address is free of other processes: with `SO_REUSEPORT` the kernel would let two proxies of one user
/// share it in silence. Not atomic with what follows, but an operator's second start is caught.
pub(super) fn probe_tcp(address: SocketAddr, free: bool) -> io::Result<()> {
    if address.port() == 0 {
        return Ok(());
    }
    listen_tcp(address, 1, false, free).map(drop)
}

/// A listening Unix socket; a socket file left behind is removed first, as twemproxy does, any other file is not.
pub(super) fn listen_unix(
    path: &Path,
    mode: Option<u32>,
) -> io::Result<std::os::unix::net::UnixListener> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.file_type().is_socket() => std::fs::remove_file(path)?,
        Ok(_) => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "something that is no socket is there",
            ));
        }
        Err(_) => {}
    }
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    if let Some(mode) = mode {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    }
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// What an error means to those who wait.
pub(super) fn how(error: &io::Error) -> How {
    match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => How::Refused,
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::ConnectionAborted => How::Reset,
        io::ErrorKind::InvalidData => How::Protocol,
        io::ErrorKind::TimedOut => How::TimedOut,
        io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::NetworkDown => How::Unreachable,
        _ => How::Failed,
    }
}
