//! What TLS is spoken with: certificates as somebody else has read them, which may be replaced while connections go on.
//!
//! Files and the checking of names are the business of who makes the configurations; how bytes pass is `server`'s.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};

/// A configuration that new connections look up, and that may be replaced.
///
/// Two are equal if they are the same place: what is in it does not make a pool another one.
pub struct Live<T>(Arc<Mutex<Arc<T>>>);

/// For a listening side.
pub type Acceptor = Live<ServerConfig>;

/// For connections to servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connector {
    /// What is spoken, and how the other side's certificate is checked.
    pub config: Live<ClientConfig>,
    /// The name to look for in it, if the configuration looks for one.
    pub name: ServerName<'static>,
}

impl<T> Live<T> {
    /// Begins with this one.
    #[must_use]
    pub fn new(config: Arc<T>) -> Self {
        Self(Arc::new(Mutex::new(config)))
    }

    /// Connections that begin now use this one; those that are there go on with what they have.
    pub fn replace(&self, config: Arc<T>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = config;
    }

    /// What a new connection uses.
    #[must_use]
    pub fn get(&self) -> Arc<T> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<T> Clone for Live<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> PartialEq for Live<T> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<T> Eq for Live<T> {}

impl<T> fmt::Debug for Live<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Live")
    }
}
