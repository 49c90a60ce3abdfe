//! `sentinel.conf`, as redis-sentinel reads and writes it, from Redis 2.8 to 8 and Valkey.
//!
//! [`read`] gives the typed configuration ([`SentinelConf`]), everything there is to say about the file, and a [`Document`],
//! which writes a changed configuration back into the text it came from. The layers, from the bytes up: `words` splits and
//! quotes lines as Redis does; `read` walks the lines of the file, its includes and the command line's options;
//! `setting` and `directive` know what any Redis process is told, `statement` what only a sentinel is; `apply` goes
//! through the `sentinel` statements in Redis' three passes; `document` is the way back.
//!
//! Followed: Redis 7.0.15, its first refusal included ([`Fatal`]). Not followed, on purpose, because Redis itself writes
//! such files and then does not start with them: a password in bare words is taken as it stands; a replica or a
//! sentinel listed twice counts once; saved state of a group that is no longer monitored is dropped. A directive that no
//! version of Redis known here has is passed over with a warning unless it looks like a misspelt one.
//!
//! What is tandem's own is in comments, which Redis leaves alone, so the file stays good for the way back:
//! `# tandem: compat 7.2`, `# tandem: daemon-port 26380`.

mod apply;
mod directive;
mod document;
mod fatal;
mod findings;
mod globals;
mod groups;
mod model;
mod numbers;
mod overrides;
mod read;
mod rewrite;
mod setting;
mod snapshot;
mod statement;
mod tls;
mod users;
mod value;
mod words;

use std::path::Path;

use crate::diagnostic::Report;
use crate::keepalived::Files;

pub use document::{Document, RenderError};
pub use fatal::Fatal;
pub use model::{
    AclUser, Compat, DAEMON_PORT, DEFAULT_DOWN_AFTER_MS, DEFAULT_FAILOVER_TIMEOUT_MS,
    DEFAULT_PARALLEL_SYNCS, DEFAULT_PORT, GroupConf, KnownReplica, KnownSentinel, LogLevel,
    RenamedCommand, Secret, SentinelConf, ServerConf, Supervised, TlsAuthClients, TlsConf,
};
pub use overrides::Overrides;
pub use tls::{CIPHERS, CIPHERSUITES, TlsChoice, TlsRefused};

/// A `sentinel.conf` with its includes is not larger. 1,000 groups with two replicas and four sentinels take about 1 MiB.
pub const SIZE_MAX: usize = 16 << 20;

/// The result of reading a file.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration, as far as it could be read. To be run only if `fatal` is empty.
    pub conf: SentinelConf,
    /// The text, to write changes back into.
    pub document: Document,
    /// Everything there is to say. Errors are what tandem refuses to start with; warnings are what it starts with.
    pub report: Report,
    /// What redis-sentinel would have said first. Present exactly if the report has an error.
    pub fatal: Option<Fatal>,
}

/// Reads a configuration file with all that it includes, and the command line's options after it.
///
/// Files are seen through `files` only: the file itself, its includes (relative to a `dir` that stands before them), and
/// whether scripts can be executed, which is decided by their permission bits alone.
pub fn read(path: &Path, files: &dyn Files, overrides: &Overrides) -> Loaded {
    read::read(path, files, overrides)
}
