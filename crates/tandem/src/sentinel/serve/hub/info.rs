//! `INFO`: the sections that are about the process. The section about the sentinel is the machine's, and comes last.
//!
//! Fields and their order are those of Redis 7.0, as far as a sentinel written in another way has them; monitoring tools look
//! fields up by name, so what does not exist here is left out rather than invented.

use std::fmt::Write as _;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tandem_core::sentinel::Question;

use super::{Flow, Hub, Reply, Shape};

/// Counted since the start.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stats {
    pub(super) connections: u64,
    pub(super) rejected: u64,
    pub(super) commands: u64,
    pub(super) errors: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) overdue: u64,
}

/// Which sections are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sections {
    server: bool,
    clients: bool,
    cpu: bool,
    stats: bool,
    sentinel: bool,
}

impl Sections {
    const ALL: Self = Self {
        server: true,
        clients: true,
        cpu: true,
        stats: true,
        sentinel: true,
    };

    /// The arguments of INFO; names that no sentinel has ask for nothing.
    fn parse(names: &[Vec<u8>]) -> Self {
        if names.is_empty() {
            return Self::ALL;
        }
        let mut wanted = Self::default();
        for name in names {
            match name.to_ascii_lowercase().as_slice() {
                b"all" | b"everything" | b"default" => return Self::ALL,
                b"server" => wanted.server = true,
                b"clients" => wanted.clients = true,
                b"cpu" => wanted.cpu = true,
                b"stats" => wanted.stats = true,
                b"sentinel" => wanted.sentinel = true,
                _ => {}
            }
        }
        wanted
    }
}

impl Hub {
    pub(super) fn info(&self, names: &[Vec<u8>], now: Instant) -> Reply {
        let wanted = Sections::parse(names);
        let mut sections = Vec::new();
        if wanted.server {
            sections.push(self.server_section(now));
        }
        if wanted.clients {
            sections.push(self.clients_section());
        }
        if wanted.cpu {
            sections.push(cpu_section());
        }
        if wanted.stats {
            sections.push(self.stats_section());
        }
        let text = sections.join("\r\n");
        if wanted.sentinel {
            return Reply::Flow(Flow::Ask {
                question: Question::InfoSection,
                shape: Shape::Info(text),
            });
        }
        Reply::bulk(text)
    }

    fn server_section(&self, now: Instant) -> String {
        let identity = &self.identity;
        let uptime = now.saturating_duration_since(self.started).as_secs();
        // The wall clock, for people to read; nothing is decided by it.
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        let kernel = rustix::system::uname();
        let mut text = String::from("# Server\r\n");
        for (name, value) in [
            ("redis_version", identity.redis_version.clone()),
            ("tandem_version", env!("CARGO_PKG_VERSION").to_owned()),
            ("redis_mode", "sentinel".to_owned()),
            (
                "os",
                format!(
                    "{} {} {}",
                    kernel.sysname().to_string_lossy(),
                    kernel.release().to_string_lossy(),
                    kernel.machine().to_string_lossy()
                ),
            ),
            ("arch_bits", usize::BITS.to_string()),
            ("multiplexing_api", "epoll".to_owned()),
            ("process_id", std::process::id().to_string()),
            ("run_id", identity.run_id.clone()),
            ("tcp_port", identity.port.to_string()),
            ("server_time_usec", wall.as_micros().to_string()),
            ("uptime_in_seconds", uptime.to_string()),
            ("uptime_in_days", (uptime / 86_400).to_string()),
            ("executable", identity.executable.clone()),
            ("config_file", identity.config_file.clone()),
        ] {
            line(&mut text, name, value);
        }
        text
    }

    fn clients_section(&self) -> String {
        let largest = |of: fn(&super::Client) -> usize| self.clients.values().map(of).max();
        let mut text = String::from("# Clients\r\n");
        for (name, value) in [
            ("connected_clients", self.clients.len()),
            ("maxclients", self.identity.max_clients),
            (
                "client_recent_max_input_buffer",
                largest(|client| client.query).unwrap_or(0),
            ),
            (
                "client_recent_max_output_buffer",
                largest(|client| client.outbox.waiting()).unwrap_or(0),
            ),
            ("blocked_clients", 0),
            (
                "tracking_clients",
                self.clients
                    .values()
                    .filter(|client| client.tracking.is_some())
                    .count(),
            ),
            ("pubsub_clients", self.subscriber_count()),
        ] {
            line(&mut text, name, value);
        }
        text
    }

    fn stats_section(&self) -> String {
        let (channels, patterns) = self.subscribed();
        let stats = &self.stats;
        let mut text = String::from("# Stats\r\n");
        for (name, value) in [
            ("total_connections_received", stats.connections),
            ("total_commands_processed", stats.commands),
            ("total_net_input_bytes", stats.bytes_in),
            ("total_net_output_bytes", stats.bytes_out),
            ("rejected_connections", stats.rejected),
            ("pubsub_channels", channels as u64),
            ("pubsub_patterns", patterns as u64),
            ("total_error_replies", stats.errors),
            ("client_output_buffer_limit_disconnections", stats.overdue),
        ] {
            line(&mut text, name, value);
        }
        text
    }
}

fn line(text: &mut String, name: &str, value: impl std::fmt::Display) {
    // Writing to a string cannot fail.
    let _ = write!(text, "{name}:{value}\r\n");
}

/// `USER_HZ`: the unit of times in `/proc`, 100 a second on every architecture that Linux runs Redis on.
const TICKS: u64 = 100;

fn cpu_section() -> String {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let mut text = String::from("# CPU\r\n");
    for (name, ticks) in cpu_ticks(&stat) {
        let (seconds, hundredths) = (ticks / TICKS, ticks % TICKS);
        line(&mut text, name, format!("{seconds}.{hundredths:02}0000"));
    }
    text
}

/// The times in `/proc/<pid>/stat`: behind the name, which may hold anything, parentheses included.
fn cpu_ticks(stat: &str) -> Vec<(&'static str, u64)> {
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    [
        ("used_cpu_sys", 12),
        ("used_cpu_user", 11),
        ("used_cpu_sys_children", 14),
        ("used_cpu_user_children", 13),
    ]
    .into_iter()
    .filter_map(|(name, at)| Some((name, fields.get(at)?.parse().ok()?)))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_times_are_found_behind_any_name() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 123 45 6 7 20 0 1";
        assert_eq!(
            cpu_ticks(stat),
            [
                ("used_cpu_sys", 45),
                ("used_cpu_user", 123),
                ("used_cpu_sys_children", 7),
                ("used_cpu_user_children", 6)
            ]
        );
        assert_eq!(cpu_ticks("7 (x) S 1"), []);
    }

    #[test]
    fn sections_by_name() {
        let words = |text: &str| -> Vec<Vec<u8>> {
            text.split_whitespace()
                .map(|word| word.as_bytes().to_vec())
                .collect()
        };
        for all in [
            "",
            "all",
            "default",
            "EVERYTHING",
            "cpu all",
            "nonsense all",
        ] {
            assert_eq!(Sections::parse(&words(all)), Sections::ALL, "{all}");
        }
        assert_eq!(
            Sections::parse(&words("replication keyspace")),
            Sections::default()
        );
        let some = Sections::parse(&words("Server keyspace SENTINEL"));
        assert!(some.server && some.sentinel && !some.cpu && !some.stats && !some.clients);
    }
}
