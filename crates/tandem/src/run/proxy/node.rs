//! Asking one node of a Redis Cluster who has which slots.
//!
//! One connection for one question, within [`WITHIN`]: `CLUSTER INFO` for the epoch, and `CLUSTER SHARDS` or, where a node does not know
//! that, `CLUSTER SLOTS`. When to ask whom, and what to make of it, is [`super::cluster`].

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Result;
use tandem_config::settings::{self as config, Settings};
use tandem_proxy::cluster::View;
use tandem_proxy::placement::SLOTS;
use tandem_proxy::settings::Address;
use tandem_proxy::tls::Connector;
use tandem_resp::{Command, Limits, ReplyDecoder, Value};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::access::{self, Certificates};
use super::words::tcp;
use crate::redis::raw::Credentials;

/// Bound on asking one node.
const WITHIN: Duration = Duration::from_millis(500);

/// A description of a cluster with all slots in the smallest pieces, on a thousand nodes.
const LIMITS: Limits = Limits {
    max_bulk: 64 * 1024,
    max_depth: 8,
    max_elements: 512 * 1024,
    max_inline: 64 * 1024,
    max_frame: 32 * 1024 * 1024,
};

/// How nodes are spoken to.
#[derive(Clone)]
pub(super) struct Access {
    /// Whom this proxy is to them.
    pub(super) credentials: Option<Credentials>,
    /// Over TLS.
    pub(super) tls: Option<Connector>,
    /// A VIP on this host must not become the source.
    pub(super) source: IpAddr,
}

impl Access {
    /// How a proxy of this host speaks to the nodes of its cluster.
    ///
    /// # Errors
    /// The password cannot be read.
    pub(super) fn of(
        proxy: &config::Proxy,
        certificates: &Certificates,
        source: IpAddr,
    ) -> Result<Self> {
        let password = proxy.password_file.as_deref().map(access::text);
        Ok(Self {
            credentials: password.transpose()?.map(|password| Credentials {
                user: proxy.access.server_user.clone().map(String::into_bytes),
                password: password.into_bytes(),
            }),
            tls: certificates.connector(),
            source,
        })
    }
}

/// What one node says.
pub(super) struct Said {
    /// Who has what.
    pub(super) view: View,
    /// Of the newest change that the node knows of.
    pub(super) epoch: u64,
}

/// What this node says of its cluster.
pub(super) async fn ask(node: &Address, access: &Access) -> Result<Said, String> {
    let Address::Tcp { host, port } = node else {
        return Err("it is no address of a network".to_owned());
    };
    let exchange = async {
        let stream = connect(host, *port, access.source)
            .await
            .map_err(|error| error.to_string())?;
        match &access.tls {
            None => converse(stream, host, access).await,
            Some(tls) => {
                let connector = TlsConnector::from(tls.config.get());
                let stream = connector.connect(tls.name.clone(), stream).await;
                converse(stream.map_err(|error| error.to_string())?, host, access).await
            }
        }
    };
    timeout(WITHIN, exchange)
        .await
        .unwrap_or_else(|_| Err("no answer in time".to_owned()))
}

async fn connect(host: &str, port: u16, source: IpAddr) -> io::Result<TcpStream> {
    let at: SocketAddr = match host.parse::<IpAddr>() {
        Ok(ip) => SocketAddr::new(ip, port),
        Err(_) => tokio::net::lookup_host((host, port))
            .await?
            .next()
            .ok_or(io::ErrorKind::NotFound)?,
    };
    let socket = if at.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    if source.is_ipv4() == at.is_ipv4() && !at.ip().is_loopback() {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    socket.connect(at).await
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    host: &str,
    access: &Access,
) -> Result<Said, String> {
    let mut link = Link {
        stream,
        decoder: ReplyDecoder::new(LIMITS),
    };
    if let Some(credentials) = &access.credentials {
        let mut auth = Command::new("AUTH");
        if let Some(user) = &credentials.user {
            auth = auth.arg(user);
        }
        // What a server says that asks for no password is no matter; what one says that does not let us in is said again.
        link.call(&auth.arg(&credentials.password)).await?;
    }
    let info = link.call(&Command::from_args(&["CLUSTER", "INFO"])).await?;
    if let Some(error) = info.as_error() {
        return Err(format!("it says: {}", String::from_utf8_lossy(error)));
    }
    let epoch = epoch(info.as_bytes().unwrap_or_default());
    let shards = link
        .call(&Command::from_args(&["CLUSTER", "SHARDS"]))
        .await?;
    let view = match View::of_shards(&shards, host, access.tls.is_some()) {
        Err(error) if error.is_unknown_command() => {
            let slots = link
                .call(&Command::from_args(&["CLUSTER", "SLOTS"]))
                .await?;
            View::of_slots(&slots, host)
        }
        view => view,
    };
    match view {
        Ok(view) => Ok(Said { view, epoch }),
        Err(error) => Err(error.to_string()),
    }
}

/// What `tandem check` sees of a proxy's cluster.
pub(crate) struct Seen {
    /// Shards and nodes.
    pub(crate) text: String,
    /// Slots that nobody has.
    pub(crate) uncovered: usize,
}

/// Asks the nodes that a proxy's settings name, until one answers.
pub(crate) async fn cluster_seen(
    settings: &Settings,
    proxy: &config::Proxy,
) -> Result<Seen, String> {
    let error = |error: anyhow::Error| format!("{error:#}");
    let certificates = Certificates::read(proxy).map_err(error)?;
    let access = Access::of(proxy, &certificates, settings.host.address).map_err(error)?;
    let mut why = String::new();
    for &seed in &proxy.cluster {
        match ask(&tcp(seed), &access).await {
            Ok(said) => {
                let nodes = said.view.shards.iter().flat_map(|shard| shard.nodes());
                return Ok(Seen {
                    text: format!("{} shards, {} nodes", said.view.shards.len(), nodes.count()),
                    uncovered: SLOTS.saturating_sub(said.view.covered()),
                });
            }
            Err(error) => why = format!("{seed}: {error}"),
        }
    }
    Err(why)
}

struct Link<S> {
    stream: S,
    decoder: ReplyDecoder,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Link<S> {
    async fn call(&mut self, command: &Command) -> Result<Value, String> {
        let mut bytes = Vec::new();
        command.encode(&mut bytes);
        let text = |error: io::Error| error.to_string();
        self.stream.write_all(&bytes).await.map_err(text)?;
        loop {
            if let Some(value) = self
                .decoder
                .next_value()
                .map_err(|error| error.to_string())?
            {
                return Ok(value);
            }
            let mut piece = [0; 16 * 1024];
            match self.stream.read(&mut piece).await.map_err(text)? {
                0 => return Err("it ends the connection".to_owned()),
                read => self.decoder.feed(&piece[..read]),
            }
        }
    }
}

/// `cluster_current_epoch` of CLUSTER INFO: grows with every failover and most moves of slots.
fn epoch(info: &[u8]) -> u64 {
    let lines = info.split(|&byte| byte == b'\n');
    let mut values = lines.filter_map(|line| line.strip_prefix(b"cluster_current_epoch:"));
    let text = values.next().map(<[u8]>::trim_ascii);
    text.and_then(|text| std::str::from_utf8(text).ok()?.parse().ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_epoch_is_found_or_0() {
        let info = b"cluster_state:ok\r\ncluster_size:3\r\ncluster_current_epoch:17\r\ncluster_my_epoch:2\r\n";
        assert_eq!(epoch(info), 17);
        assert_eq!(epoch(b"cluster_state:ok\r\n"), 0);
    }
}
