//! The proxy's table of commands, made from what real servers say of themselves.
//!
//! `commands fetch PORT NAME` asks a running server (through redis-cli) for its `COMMAND` and keeps the answer as
//! `crates/tandem-proxy/data/commands-NAME.json`. `commands` turns all kept answers into
//! `crates/tandem-proxy/src/command/table.rs`; a test says when that was forgotten. The answers are merged in the order of
//! [`SERVERS`]: what a later server says of a command wins, and commands that only it has are added.

mod data;
mod emit;
mod routes;

use std::fs;
use std::path::Path;
use std::process::Command;

/// Whose answers are merged, the oldest first: Debian's package, and the wheel of `scripts/install-packages`.
const SERVERS: [&str; 2] = ["redis-7.0.15", "valkey-9.1.2"];
/// What the chore writes.
const TABLE: &str = "crates/tandem-proxy/src/command/table.rs";

/// Runs the chore with the words after `commands`.
pub(crate) fn run(root: &Path, words: &[String]) -> Result<(), String> {
    match words {
        [] => {
            let table = table(root)?;
            write(root, TABLE, &table)
        }
        [fetch, port, name] if fetch == "fetch" => {
            let json = data::tidied(&ask(port)?)?;
            write(root, &kept(name), &json)
        }
        _ => Err("commands, or commands fetch PORT NAME".to_owned()),
    }
}

/// The text that `table.rs` should have.
fn table(root: &Path) -> Result<String, String> {
    let mut merged = Vec::new();
    for server in SERVERS {
        let path = root.join(kept(server));
        let json = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        data::merge(&mut merged, data::parse(&json)?)?;
    }
    emit::table(&merged, &SERVERS)
}

fn kept(name: &str) -> String {
    format!("crates/tandem-proxy/data/commands-{name}.json")
}

fn ask(port: &str) -> Result<String, String> {
    let output = Command::new("redis-cli")
        .args(["-p", port, "--json", "COMMAND"])
        .output()
        .map_err(|e| format!("redis-cli: {e}"))?;
    String::from_utf8(output.stdout).map_err(|e| e.to_string())
}

fn write(root: &Path, name: &str, text: &str) -> Result<(), String> {
    fs::write(root.join(name), text).map_err(|e| format!("{name}: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_what_the_generator_makes_of_the_data() {
        let root = crate::root();
        let kept = fs::read_to_string(root.join(TABLE)).unwrap();
        assert!(
            kept == table(&root).unwrap(),
            "{TABLE} is not what `cargo run -p xtask -- commands` makes"
        );
    }
}
