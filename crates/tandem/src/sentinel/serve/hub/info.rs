//! `INFO`: the sections that are about the process. The section about the sentinel is the machine's, and comes last.
//!
//! Fields and their order are those of Redis 7.0. Monitoring tools look fields up by name and stumble over one that is not
//! there, so what has no counterpart in a sentinel written in another way says zero, as it does in a real sentinel, which
//! has no keys either.

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
    pub(super) reads: u64,
    pub(super) writes: u64,
    rates: Rates,
}

/// How often rates are taken anew, at the least.
const RATE_EACH: Duration = Duration::from_secs(1);

/// What went on per second between the two last looks.
#[derive(Clone, Copy, Debug, Default)]
struct Rates {
    looked: Option<Instant>,
    commands: u64,
    bytes_in: u64,
    bytes_out: u64,
    commands_each: f64,
    bytes_in_each: f64,
    bytes_out_each: f64,
}

impl Stats {
    /// Looks how much has been done since the last look, unless that was a moment ago.
    pub(super) fn look(&mut self, now: Instant) {
        let Some(looked) = self.rates.looked else {
            self.rates.looked = Some(now);
            return;
        };
        let passed = now.saturating_duration_since(looked);
        if passed < RATE_EACH {
            return;
        }
        // Counts of a second fit a double exactly.
        #[allow(clippy::cast_precision_loss)]
        let each =
            |count: u64, before: u64| count.saturating_sub(before) as f64 / passed.as_secs_f64();
        let old = self.rates;
        self.rates = Rates {
            looked: Some(now),
            commands: self.commands,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            commands_each: each(self.commands, old.commands),
            bytes_in_each: each(self.bytes_in, old.bytes_in),
            bytes_out_each: each(self.bytes_out, old.bytes_out),
        };
    }
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
        if wanted.stats {
            sections.push(self.stats_section());
        }
        if wanted.cpu {
            sections.push(cpu_section());
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
            ("redis_git_sha1", "00000000".to_owned()),
            ("redis_git_dirty", "0".to_owned()),
            ("redis_build_id", "0000000000000000".to_owned()),
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
            ("monotonic_clock", "POSIX clock_gettime".to_owned()),
            ("multiplexing_api", "epoll".to_owned()),
            ("atomicvar_api", "c11-builtin".to_owned()),
            // What builds with another compiler than GCC say.
            ("gcc_version", "0.0.0".to_owned()),
            ("process_id", std::process::id().to_string()),
            ("process_supervised", "no".to_owned()),
            ("run_id", identity.run_id.clone()),
            ("tcp_port", identity.port.to_string()),
            ("server_time_usec", wall.as_micros().to_string()),
            ("uptime_in_seconds", uptime.to_string()),
            ("uptime_in_days", (uptime / 86_400).to_string()),
            ("hz", HZ.to_owned()),
            ("configured_hz", HZ.to_owned()),
            ("lru_clock", (wall.as_secs() & LRU_CLOCK_MAX).to_string()),
            ("executable", identity.executable.clone()),
            ("config_file", identity.config_file.clone()),
            ("io_threads_active", "0".to_owned()),
        ] {
            line(&mut text, name, value);
        }
        text
    }

    fn clients_section(&self) -> String {
        let largest = |of: fn(&super::Client) -> usize| self.clients.values().map(of).max();
        let mut text = String::from("# Clients\r\n");
        for (name, value) in [
            ("connected_clients", self.client_count()),
            ("cluster_connections", 0),
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
            ("clients_in_timeout_table", 0),
        ] {
            line(&mut text, name, value);
        }
        text
    }

    fn stats_section(&self) -> String {
        let (channels, patterns) = self.subscribed();
        let stats = &self.stats;
        let kilobytes = |bytes: f64| format!("{:.2}", bytes / 1024.0);
        let known = [
            ("total_connections_received", stats.connections.to_string()),
            ("total_commands_processed", stats.commands.to_string()),
            (
                "instantaneous_ops_per_sec",
                format!("{:.0}", stats.rates.commands_each),
            ),
            ("total_net_input_bytes", stats.bytes_in.to_string()),
            ("total_net_output_bytes", stats.bytes_out.to_string()),
            (
                "instantaneous_input_kbps",
                kilobytes(stats.rates.bytes_in_each),
            ),
            (
                "instantaneous_output_kbps",
                kilobytes(stats.rates.bytes_out_each),
            ),
            ("rejected_connections", stats.rejected.to_string()),
            // There it is those that took too much memory, here those that did not read what they had asked for.
            ("evicted_clients", stats.overdue.to_string()),
            ("pubsub_channels", channels.to_string()),
            ("pubsub_patterns", patterns.to_string()),
            ("total_error_replies", stats.errors.to_string()),
            ("total_reads_processed", stats.reads.to_string()),
            ("total_writes_processed", stats.writes.to_string()),
        ];
        let mut text = String::from("# Stats\r\n");
        for (name, nothing) in STATS {
            let value = known.iter().find(|(known, _)| known == name);
            line(
                &mut text,
                name,
                value.map_or(*nothing, |(_, value)| value.as_str()),
            );
        }
        text
    }
}

/// The default `hz`, which says nothing here: the sentinel wakes when something is due.
const HZ: &str = "10";
/// The clock of Redis' eviction counts seconds in 24 bits.
const LRU_CLOCK_MAX: u64 = 0xff_ffff;

/// Fields of the section about statistics, in Redis' order, with what they say where there is no counterpart.
const STATS: &[(&str, &str)] = &[
    ("total_connections_received", "0"),
    ("total_commands_processed", "0"),
    ("instantaneous_ops_per_sec", "0"),
    ("total_net_input_bytes", "0"),
    ("total_net_output_bytes", "0"),
    ("total_net_repl_input_bytes", "0"),
    ("total_net_repl_output_bytes", "0"),
    ("instantaneous_input_kbps", "0.00"),
    ("instantaneous_output_kbps", "0.00"),
    ("instantaneous_input_repl_kbps", "0.00"),
    ("instantaneous_output_repl_kbps", "0.00"),
    ("rejected_connections", "0"),
    ("sync_full", "0"),
    ("sync_partial_ok", "0"),
    ("sync_partial_err", "0"),
    ("expired_keys", "0"),
    ("expired_stale_perc", "0.00"),
    ("expired_time_cap_reached_count", "0"),
    ("expire_cycle_cpu_milliseconds", "0"),
    ("evicted_keys", "0"),
    ("evicted_clients", "0"),
    ("total_eviction_exceeded_time", "0"),
    ("current_eviction_exceeded_time", "0"),
    ("keyspace_hits", "0"),
    ("keyspace_misses", "0"),
    ("pubsub_channels", "0"),
    ("pubsub_patterns", "0"),
    ("pubsubshard_channels", "0"),
    ("latest_fork_usec", "0"),
    ("total_forks", "0"),
    ("migrate_cached_sockets", "0"),
    ("slave_expires_tracked_keys", "0"),
    ("active_defrag_hits", "0"),
    ("active_defrag_misses", "0"),
    ("active_defrag_key_hits", "0"),
    ("active_defrag_key_misses", "0"),
    ("total_active_defrag_time", "0"),
    ("current_active_defrag_time", "0"),
    ("tracking_total_keys", "0"),
    ("tracking_total_items", "0"),
    ("tracking_total_prefixes", "0"),
    ("unexpected_error_replies", "0"),
    ("total_error_replies", "0"),
    ("dump_payload_sanitizations", "0"),
    ("total_reads_processed", "0"),
    ("total_writes_processed", "0"),
    ("io_threaded_reads_processed", "0"),
    ("io_threaded_writes_processed", "0"),
    ("reply_buffer_shrinks", "0"),
    ("reply_buffer_expands", "0"),
];

fn line(text: &mut String, name: &str, value: impl std::fmt::Display) {
    // Writing to a string cannot fail.
    let _ = write!(text, "{name}:{value}\r\n");
}

/// `USER_HZ`: the unit of times in `/proc`, 100 a second on every architecture that Linux runs Redis on.
const TICKS: u64 = 100;

fn cpu_section() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let process = cpu_ticks(&read("/proc/self/stat"), &PROCESS_TIMES);
    // Everything runs on one thread, the one that asks.
    let thread = cpu_ticks(&read("/proc/thread-self/stat"), &THREAD_TIMES);
    let mut text = String::from("# CPU\r\n");
    for (name, ticks) in process.into_iter().chain(thread) {
        let (seconds, hundredths) = (ticks / TICKS, ticks % TICKS);
        line(&mut text, name, format!("{seconds}.{hundredths:02}0000"));
    }
    text
}

/// Fields of `/proc/<pid>/stat`, counted behind the name.
const PROCESS_TIMES: [(&str, usize); 4] = [
    ("used_cpu_sys", 12),
    ("used_cpu_user", 11),
    ("used_cpu_sys_children", 14),
    ("used_cpu_user_children", 13),
];
/// The same for one thread.
const THREAD_TIMES: [(&str, usize); 2] = [
    ("used_cpu_sys_main_thread", 12),
    ("used_cpu_user_main_thread", 11),
];

/// The times in a `stat`: behind the name, which may hold anything, parentheses included.
fn cpu_ticks(stat: &str, times: &[(&'static str, usize)]) -> Vec<(&'static str, u64)> {
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    times
        .iter()
        .filter_map(|(name, at)| Some((*name, fields.get(*at)?.parse().ok()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_times_are_found_behind_any_name() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 123 45 6 7 20 0 1";
        assert_eq!(
            cpu_ticks(stat, &PROCESS_TIMES),
            [
                ("used_cpu_sys", 45),
                ("used_cpu_user", 123),
                ("used_cpu_sys_children", 7),
                ("used_cpu_user_children", 6)
            ]
        );
        assert_eq!(cpu_ticks("7 (x) S 1", &PROCESS_TIMES), []);
    }

    #[test]
    fn a_rate_is_what_was_done_between_two_looks() {
        let start = Instant::now();
        let mut stats = Stats::default();
        stats.look(start);
        stats.commands = 30;
        stats.look(start + RATE_EACH / 2);
        assert_eq!(format!("{:.0}", stats.rates.commands_each), "0");
        stats.look(start + 3 * RATE_EACH);
        assert_eq!(format!("{:.0}", stats.rates.commands_each), "10");
        stats.look(start + 4 * RATE_EACH);
        assert_eq!(format!("{:.0}", stats.rates.commands_each), "0");
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
