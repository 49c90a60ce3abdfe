//! What a fleet consists of: hosts, which of them have a server or a Sentinel, and the words of the Sentinels' files.

use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

use super::{CLIENT, OTHER_SIDE, PORT, Program};
use crate::ns::Host;
use crate::server::Settings;

/// A host of the fleet.
#[derive(Debug, Clone)]
pub struct Place {
    /// Its name, at most 12 characters.
    pub host: String,
    /// Its address with prefix, `10.0.0.1/24`.
    pub address: String,
    /// Whether a server runs there. The first such host has the primary.
    pub server: bool,
    /// The Sentinel there.
    pub sentinel: Option<Program>,
    /// Lines of this Sentinel's file alone, `sentinel myid ...` for example.
    pub lines: Vec<String>,
}

/// A fleet.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The hosts.
    pub places: Vec<Place>,
    /// Hosts of clients: name, and address with prefix.
    pub clients: Vec<(String, String)>,
    /// The name of the group, Sentinel's "master name".
    pub group: String,
    /// Sentinel's quorum.
    pub quorum: u32,
    /// `down-after-milliseconds`.
    pub down_after: Duration,
    /// `failover-timeout`.
    pub failover_timeout: Duration,
    /// Lines of every Sentinel's file.
    pub lines: Vec<String>,
    /// `SENTINEL DEBUG` periods in milliseconds, set once the members know one another.
    pub debug: Vec<(String, u64)>,
    /// How the servers are set up.
    pub server: Settings,
}

impl Plan {
    /// So many servers and these Sentinels, together on hosts `h1`, `h2` ... from 10.0.0.1 on; quorum is the majority.
    #[must_use]
    pub fn of(servers: usize, sentinels: &[Program]) -> Self {
        let places = (0..servers.max(sentinels.len()))
            .map(|index| Place {
                host: format!("h{}", index + 1),
                address: format!("10.0.0.{}/24", index + 1),
                server: index < servers,
                sentinel: sentinels.get(index).copied(),
                lines: Vec::new(),
            })
            .collect();
        let clients = [(CLIENT, "10.0.0.50/24"), (OTHER_SIDE, "10.0.0.51/24")];
        Self {
            places,
            clients: clients
                .map(|(host, address)| (host.to_owned(), address.to_owned()))
                .into(),
            group: "orders".to_owned(),
            quorum: u32::try_from(sentinels.len() / 2 + 1).unwrap_or(u32::MAX),
            down_after: Duration::from_secs(1),
            failover_timeout: Duration::from_secs(10),
            lines: Vec::new(),
            debug: Vec::new(),
            server: Settings {
                // Redis waits for further replicas before it begins a full sync; here all are there at once.
                extra: vec!["repl-diskless-sync-delay 0".to_owned()],
                ..Settings::default()
            },
        }
    }

    /// The arrangement `sentinel-four`: four hosts with a server and a Sentinel each, as its write-up has them.
    #[must_use]
    pub fn four(programs: [Program; 4]) -> Self {
        let hosts = [
            ("ccsp-1-1", 12),
            ("ccsp-2-1", 14),
            ("ccsp-1-3", 16),
            ("ccsp-2-3", 17),
        ];
        let places = hosts
            .into_iter()
            .zip(programs)
            .map(|((host, last), program)| Place {
                host: host.to_owned(),
                address: format!("192.168.16.{last}/24"),
                server: true,
                sentinel: Some(program),
                lines: Vec::new(),
            })
            .collect();
        Self {
            places,
            clients: vec![(CLIENT.to_owned(), "192.168.16.50/24".to_owned())],
            group: "ccsp".to_owned(),
            quorum: 2,
            ..Self::of(0, &[])
        }
    }

    /// Makes the slow repairs quick, without touching detection or election: a converging fleet shows the same steps
    /// in a fifth of the time.
    #[must_use]
    pub fn hurried(mut self) -> Self {
        self.debug = [("info-period", 1000), ("publish-period", 400)]
            .map(|(period, value)| (period.to_owned(), value))
            .into();
        self
    }

    /// The file that a Sentinel starts from for the first time.
    pub(super) fn sentinel_conf(&self, place: &Place, primary: SocketAddr, host: &Host) -> String {
        let group = &self.group;
        let mut text = format!(
            "port {PORT}\nbind 0.0.0.0\nprotected-mode no\ndir {dir}\nsentinel monitor {group} {ip} {port} {quorum}\n\
             sentinel down-after-milliseconds {group} {down_after}\nsentinel failover-timeout {group} {timeout}\n",
            dir = host.dir().display(),
            ip = primary.ip(),
            port = primary.port(),
            quorum = self.quorum,
            down_after = self.down_after.as_millis(),
            timeout = self.failover_timeout.as_millis(),
        );
        for line in self.lines.iter().chain(&place.lines) {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{line}");
        }
        text
    }
}
