//! Keeps Redis and Valkey behind one address that stays up.
//!
//! The binary is the shell around cores that do no IO: [`run`] for the daemon of a pair, [`vrrp`] in place of
//! keepalived, [`sentinel`] in place of redis-sentinel, [`proxy`] in place of nutcracker, [`cli`] for people, [`linux`] and [`redis`] for the outside world. Where to begin reading:
//! `tandem_core::keeper`.

mod cli;
mod daemonize;
mod demo;
mod durable;
mod files;
mod lines;
mod linux;
mod proxy;
mod redis;
mod run;
mod sentinel;
mod service;
mod tls;
mod vrrp;

fn main() -> std::process::ExitCode {
    cli::main()
}
