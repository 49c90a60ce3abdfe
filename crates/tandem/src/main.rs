//! Keeps Redis and Valkey behind one address that stays up.

mod files;
#[allow(dead_code, unused_imports)]
mod linux;
#[allow(dead_code)]
mod redis;
mod vrrp;

use clap::Parser;

#[derive(Parser)]
#[command(name = "tandem", version)]
enum Command {
    /// In place of keepalived.
    Vrrp(vrrp::VrrpArgs),
}

fn main() -> std::process::ExitCode {
    match Command::parse() {
        Command::Vrrp(args) => vrrp::main(args),
    }
}
