//! Listening: the addresses of the configuration, TLS and Unix sockets, and the door at which clients are counted.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::conn::{self, Context, Stream};
use super::hub::Origin;
use super::{Shared, StartError};

/// A TLS handshake that takes longer is given up.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// After an error of accepting (descriptors have run out, as a rule) the next attempt waits this long.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// A client that is turned away gets so long to take the reason.
const FAREWELL: Duration = Duration::from_secs(1);

const FULL: &[u8] = b"-ERR max number of clients reached\r\n";
const PROTECTED: &[u8] = b"-DENIED this sentinel is in protected mode: no password is set for the default user, and only \
    clients on its own host are served. Set a password, or protected-mode no.\r\n";

/// Opens everything that the settings name.
pub(super) fn open(shared: &Rc<Shared>) -> Result<Vec<SocketAddr>, StartError> {
    let settings = &shared.settings;
    let mut opened = Vec::new();
    let doors = [
        (settings.port, None),
        (settings.tls_port, shared.tls.clone()),
    ];
    for (port, tls) in doors {
        let Some(port) = port else {
            continue;
        };
        for name in &settings.bind {
            let failed = |error| StartError::Listen {
                address: format!("{name} port {port}"),
                error,
            };
            let (name, optional) = match name.strip_prefix('-') {
                Some(name) => (name, true),
                None => (name.as_str(), false),
            };
            let listener = match bind(name, port, settings.backlog) {
                Ok(listener) => listener,
                Err(error) if optional && is_missing(&error) => continue,
                Err(error) => return Err(failed(error)),
            };
            opened.push(listener.local_addr().map_err(failed)?);
            let task = spawn_local(accept(Rc::clone(shared), listener, tls.clone()));
            shared.listeners.borrow_mut().push(task.abort_handle());
        }
    }
    if let Some(path) = &settings.unix_socket {
        let listener =
            bind_unix(path, settings.unix_socket_mode).map_err(|error| StartError::Listen {
                address: path.display().to_string(),
                error,
            })?;
        shared.sockets.borrow_mut().push(path.clone());
        let name = path.display().to_string();
        let task = spawn_local(accept_unix(Rc::clone(shared), listener, name));
        shared.listeners.borrow_mut().push(task.abort_handle());
    }
    Ok(opened)
}

/// The address or its whole family is not on this host.
fn is_missing(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT | libc::EPROTONOSUPPORT | libc::ENOENT)
    )
}

fn bind(name: &str, port: u16, backlog: u32) -> io::Result<TcpListener> {
    let address = match name {
        "*" => SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
        "::*" => SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
        name => (name, port)
            .to_socket_addrs()?
            .next()
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EADDRNOTAVAIL))?,
    };
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        // IPv4 has its own socket, so that `* ::*` does not collide with itself.
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    TcpListener::from_std(socket.into())
}

fn bind_unix(path: &Path, mode: Option<u32>) -> io::Result<UnixListener> {
    // What an earlier process left; if it is still alive, its clients find us from now on, as with Redis.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    if let Some(mode) = mode {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    }
    Ok(listener)
}

/// A place among `maxclients`, given up with the connection.
struct Place(Rc<Shared>);

impl Place {
    fn take(shared: &Rc<Shared>) -> Option<Self> {
        let open = shared.open.get();
        if open >= shared.settings.max_clients {
            shared.hub.borrow_mut().rejected();
            return None;
        }
        shared.open.set(open + 1);
        Some(Self(Rc::clone(shared)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get().saturating_sub(1));
    }
}

impl Shared {
    fn context(&self) -> Context {
        Context {
            hub: Rc::clone(&self.hub),
            asks: self.asks.clone(),
            idle_after: self.settings.idle_after,
        }
    }

    /// Strangers from other hosts are turned away while anybody may do anything.
    fn turns_away(&self, from: SocketAddr) -> bool {
        self.settings.protected
            && !from.ip().to_canonical().is_loopback()
            && self.hub.borrow().users().default_user().is_open()
    }

    fn tune(&self, stream: &TcpStream) {
        // Tuning only: a kernel without an option still works.
        let _ = stream.set_nodelay(true);
        let keepalive = self.settings.keepalive;
        if !keepalive.is_zero() {
            let options = TcpKeepalive::new()
                .with_time(keepalive)
                .with_interval((keepalive / 3).max(Duration::from_secs(1)))
                .with_retries(3);
            let _ = SockRef::from(stream).set_tcp_keepalive(&options);
        }
    }
}

async fn accept(shared: Rc<Shared>, listener: TcpListener, tls: Option<TlsAcceptor>) {
    loop {
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!("accept: {error}");
                sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        let refusal = if shared.turns_away(from) {
            Some(PROTECTED)
        } else {
            None
        };
        let place = match refusal {
            Some(_) => None,
            None => Place::take(&shared),
        };
        let Some(place) = place else {
            // In plain text on the TLS port too, as Redis does: whoever looks sees why.
            turn_away(stream, refusal.unwrap_or(FULL));
            continue;
        };
        shared.tune(&stream);
        let origin = Origin {
            remote: from.to_string(),
            local: stream
                .local_addr()
                .map_or_else(|_| String::new(), |address| address.to_string()),
            fd: stream.as_raw_fd(),
            unix: false,
        };
        let context = shared.context();
        let tls = tls.clone();
        spawn_local(async move {
            let _place = place;
            let stream: Stream = match tls {
                None => Box::new(stream),
                Some(tls) => match timeout(HANDSHAKE_WITHIN, tls.accept(stream)).await {
                    Ok(Ok(stream)) => Box::new(stream),
                    Ok(Err(error)) => {
                        tracing::info!("TLS handshake with {from}: {error}");
                        return;
                    }
                    Err(_) => return,
                },
            };
            conn::serve(context, stream, origin).await;
        });
    }
}

/// A connection that was accepted elsewhere; `first` is what it has said already.
pub(super) fn adopt(shared: &Rc<Shared>, stream: TcpStream, first: Vec<u8>) {
    let Some(place) = Place::take(shared) else {
        turn_away(stream, FULL);
        return;
    };
    shared.tune(&stream);
    let shown = |address: io::Result<SocketAddr>| {
        address.map_or_else(|_| String::new(), |it| it.to_string())
    };
    let origin = Origin {
        remote: shown(stream.peer_addr()),
        local: shown(stream.local_addr()),
        fd: stream.as_raw_fd(),
        unix: false,
    };
    let context = shared.context();
    spawn_local(async move {
        let _place = place;
        let (reader, writer) = stream.into_split();
        let whole = tokio::io::join(io::Cursor::new(first).chain(reader), writer);
        conn::serve(context, Box::new(whole), origin).await;
    });
}

/// Says why, if that can be done at once, and closes.
fn turn_away(stream: TcpStream, reason: &'static [u8]) {
    if stream.try_write(reason).is_err() {
        return;
    }
    let mut stream = stream;
    spawn_local(async move {
        // An orderly end, so that the reason is not lost to a reset.
        let _ = timeout(FAREWELL, stream.shutdown()).await;
    });
}

async fn accept_unix(shared: Rc<Shared>, listener: UnixListener, path: String) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("accept on {path}: {error}");
                sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        let Some(place) = Place::take(&shared) else {
            let _ = stream.try_write(FULL);
            continue;
        };
        let origin = Origin {
            remote: format!("{path}:0"),
            local: format!("{path}:0"),
            fd: stream.as_raw_fd(),
            unix: true,
        };
        let context = shared.context();
        spawn_local(async move {
            let _place = place;
            conn::serve(context, Box::new(stream), origin).await;
        });
    }
}
