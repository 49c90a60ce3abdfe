//! Readers for the configuration files that tandem accepts, with diagnostics that an operator can act on.
//!
//! - [`settings`] reads `tandem.toml` into typed values for the daemon, and owns the one table of all keys.
//! - [`keepalived`] reads `keepalived.conf` as keepalived itself understands it, into its effective configuration.
//! - [`import`] turns that configuration into a `tandem.toml`.
//! - [`sentinel`] reads `sentinel.conf` as redis-sentinel does, and writes it back as redis-sentinel would.
//! - [`nutcracker`] reads `nutcracker.yml` as twemproxy does, into the pools of `tandem_proxy`.
//! - [`diagnostic`] is how every reader reports: severity, code, message, places in files, help; collected, so that one run
//!   shows everything that is wrong with a file, and rendered as text or serialised for machines.
//!
//! Nothing here opens a file, asks a clock or looks at the host. Text comes in as arguments, includes and scripts through
//! [`keepalived::Files`], so the same code answers for files on disk, a test's strings and a fuzzer's bytes.

pub mod diagnostic;
pub mod import;
pub mod keepalived;
pub mod nutcracker;
pub mod sentinel;
pub mod settings;
pub mod value;

mod suggest;

pub use diagnostic::{Diagnostic, Report, Severity};
