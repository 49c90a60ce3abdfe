//! The sentinel's port: a RESP server that clients, operators and other sentinels cannot tell from redis-sentinel 7.0.
//!
//! It decides who may ask what, and answers what is about the connection or the process (AUTH, CLIENT, ACL, COMMAND, INFO,
//! subscriptions). What is about the fleet leaves as an [`Ask`] for the machine, and events come in by [`Server::publish`].
//! Read first: [`hub`], which is everything but sockets. One thread serves all; it must run inside a
//! [`tokio::task::LocalSet`].
//!
//! ```text
//! listeners -> connections -> hub -> Ask -> (the machine) -> answer -> hub -> outbox -> connection
//!                              ^
//!               events --------+--> outboxes of subscribers
//! ```

mod acl;
mod command;
mod conn;
mod files;
mod glob;
mod hub;
mod listen;
mod outbox;
mod settings;
mod subscriptions;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Instant;

use tandem_core::sentinel::Question;
use tandem_core::sentinel::io::{Event, Level};
use tandem_resp::Value;
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

use crate::tls;
use acl::Users;
use hub::Hub;
pub(crate) use settings::{Identity, Settings};

/// Questions on their way to the machine. When it is full, clients wait.
const ASKS_MAX: usize = 256;

/// A question, and where its one answer goes. A client that has left meanwhile does not hear it.
#[derive(Debug)]
pub(crate) struct Ask {
    /// What is asked.
    pub(crate) question: Question,
    /// Takes the answer.
    pub(crate) answer: oneshot::Sender<Value>,
}

/// Why the port cannot be opened. The configuration or the host is at fault; trying again helps for an address in use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The users of the configuration or the `aclfile` are wrong.
    #[error("{origin}: {error}")]
    Users {
        /// Which of both.
        origin: String,
        /// What is wrong.
        error: String,
    },
    /// Both are given, and it is not said which one counts.
    #[error(
        "users are defined both in the configuration and in an aclfile; keep them in one of the two"
    )]
    UsersTwice,
    /// The certificates.
    #[error("TLS: {0}")]
    Tls(#[from] tls::TlsError),
    /// `tls-port` without certificates.
    #[error("tls-port is set, but no certificate (tls-cert-file, tls-key-file)")]
    NoCertificate,
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// As configured.
        address: String,
        /// Why.
        error: std::io::Error,
    },
}

/// The port. Clones are handles to the same one.
#[derive(Clone)]
pub(crate) struct Server {
    shared: Rc<Shared>,
}

struct Shared {
    settings: Settings,
    hub: Rc<RefCell<Hub>>,
    asks: mpsc::Sender<Ask>,
    tls: Option<TlsAcceptor>,
    /// Connections that are open, those still shaking hands included.
    open: Cell<usize>,
    listeners: RefCell<Vec<AbortHandle>>,
    /// Unix sockets to be removed at the end.
    sockets: RefCell<Vec<PathBuf>>,
}

impl Server {
    /// A port that listens to nothing yet, and the questions that will come from it.
    ///
    /// # Errors
    /// Users or certificates that cannot be read.
    pub(crate) fn new(settings: Settings) -> Result<(Self, mpsc::Receiver<Ask>), StartError> {
        let users = read_users(&settings)?;
        let tls = match &settings.tls {
            Some(files) if settings.tls_port.is_some() => Some(tls::acceptor(files)?),
            None if settings.tls_port.is_some() => return Err(StartError::NoCertificate),
            Some(_) | None => None,
        };
        let (asks, asked) = mpsc::channel(ASKS_MAX);
        let hub = Hub::new(
            settings.identity.clone(),
            users,
            settings.acl_all_channels,
            settings.acl_file.clone(),
            settings.acl_log_max,
            Instant::now(),
        )
        .with_request_limits(settings.request);
        let shared = Shared {
            settings,
            hub: Rc::new(RefCell::new(hub)),
            asks,
            tls,
            open: Cell::new(0),
            listeners: RefCell::new(Vec::new()),
            sockets: RefCell::new(Vec::new()),
        };
        let shared = Rc::new(shared);
        Ok((Self { shared }, asked))
    }

    /// Opens all configured addresses and begins to serve. Returns the TCP addresses, plain ones first, as the kernel gave
    /// them.
    ///
    /// # Errors
    /// The first address that cannot be had, unless the configuration allows that.
    pub(crate) fn listen(&self) -> Result<Vec<SocketAddr>, StartError> {
        listen::open(&self.shared)
    }

    /// Serves a connection that somebody else accepted and read `first` from, after asking what it is.
    pub(crate) fn adopt(&self, stream: TcpStream, first: Vec<u8>) {
        listen::adopt(&self.shared, stream, first);
    }

    /// Tells subscribers an event; those for the log alone go no further.
    pub(crate) fn publish(&self, event: &Event) {
        match event.level {
            Level::Debug => {}
            Level::Verbose | Level::Notice | Level::Warning => {
                self.shared.hub.borrow_mut().publish(
                    event.name.as_bytes(),
                    event.payload.as_bytes(),
                    Instant::now(),
                );
            }
        }
    }

    /// Tells subscribers of a channel something, and says how many there are.
    pub(crate) fn tell(&self, channel: &str, text: &str) -> usize {
        let mut hub = self.shared.hub.borrow_mut();
        hub.publish(channel.as_bytes(), text.as_bytes(), Instant::now())
    }

    /// The users as lines for the configuration file, each beginning with `user`; none if an `aclfile` keeps them.
    pub(crate) fn users(&self) -> Vec<String> {
        if self.shared.settings.acl_file.is_some() {
            return Vec::new();
        }
        self.shared.hub.borrow().users().lines()
    }

    /// Notified when a client sends SHUTDOWN.
    pub(crate) fn shutdown(&self) -> Rc<Notify> {
        self.shared.hub.borrow().shutdown()
    }

    /// Closes the listeners and every connection.
    pub(crate) fn close(&self) {
        for listener in self.shared.listeners.borrow_mut().drain(..) {
            listener.abort();
        }
        for socket in self.shared.sockets.borrow_mut().drain(..) {
            // Somebody may have removed it before us, which is as well.
            let _ = std::fs::remove_file(socket);
        }
        self.shared.hub.borrow_mut().close_all();
    }
}

/// The users: from the `aclfile` or the configuration's lines, and `requirepass` over them.
fn read_users(settings: &Settings) -> Result<Users, StartError> {
    let read = |origin: String, text: Result<String, String>| {
        text.and_then(|text| {
            Users::from_lines(text.lines(), settings.acl_all_channels)
                .map_err(|error| error.to_string())
        })
        .map_err(|error| StartError::Users { origin, error })
    };
    let mut users = match &settings.acl_file {
        Some(_) if !settings.users.is_empty() => return Err(StartError::UsersTwice),
        Some(path) => read(format!("aclfile {}", path.display()), files::read(path))?,
        None => read("user lines".to_owned(), Ok(settings.users.join("\n")))?,
    };
    if let Some(password) = &settings.requirepass {
        users.require_password(password.as_bytes());
    }
    Ok(users)
}
