//! The commented `tandem.toml` that `tandem init` writes.
//!
//! What is known is written as a setting; every other key stands behind a `#` with its default and its meaning, so that the file
//! is its own manual. The text comes from the table of keys and is checked by reading it back.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::table::{KEYS, Key, Presence, SECTIONS};
use crate::value::IpPrefix;

/// What `tandem init` found out or was told about a pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitFacts {
    /// Name of this host.
    pub host_id: String,
    /// Address of this host.
    pub host_address: IpAddr,
    /// Name of the other host.
    pub peer_id: String,
    /// Address of the other host.
    pub peer_address: IpAddr,
    /// Name of the group.
    pub group: String,
    /// The server on this host.
    pub server: SocketAddr,
    /// The file with its password, if it wants one.
    pub password_file: Option<PathBuf>,
    /// The VIP, if there shall be one.
    pub vip: Option<IpPrefix>,
    /// The interface that carries VIP and adverts.
    pub interface: String,
    /// VRID.
    pub router_id: u8,
    /// Priority of this host.
    pub priority: u8,
}

/// A commented `tandem.toml` for one host of a pair.
pub fn init_template(facts: &InitFacts) -> String {
    let mut file = String::from(
        "# tandem.toml: this host's side of a pair. Keys behind a # show their defaults.\n\
         # `tandem check -c FILE` says whether the host is ready for it.\n",
    );
    for section in SECTIONS {
        // A pair's file: further checks and the other elector are for those who look for them.
        if section.path == "group.vrrp.track_script"
            || section.path == "group.local"
            || section.path == "group.sentinel"
            || section.path.starts_with("proxy")
            || (section.path == "group.vip" && facts.vip.is_none())
        {
            continue;
        }
        file.push_str(&format!("\n# {}\n{}\n", section.doc, section.header()));
        let keys = KEYS.iter().filter(|key| key.section() == section.path);
        for key in keys {
            file.push_str(&line(key, known(facts, key.path)));
        }
    }
    file
}

fn line(key: &Key, value: Option<String>) -> String {
    let (mark, value) = match (value, key.presence) {
        (_, Presence::Later(_)) => return String::new(),
        (Some(value), _) => ("", value),
        (None, Presence::Default(value)) => ("# ", value.to_owned()),
        (None, Presence::Required | Presence::Optional) => ("# ", key.example.to_owned()),
    };
    format!("# {}\n{mark}{} = {value}\n", key.doc, key.name())
}

/// The value that the facts give a key, as TOML.
fn known(facts: &InitFacts, path: &str) -> Option<String> {
    let text = |value: &dyn std::fmt::Display| Some(toml_text(&value.to_string()));
    match path {
        "host.id" => text(&facts.host_id),
        "host.address" => text(&facts.host_address),
        "host.secret_file" => text(&"/etc/tandem/secret"),
        "peer.id" => text(&facts.peer_id),
        "peer.address" => text(&facts.peer_address),
        "group.name" => text(&facts.group),
        "group.servers" => Some(format!("[{}]", toml_text(&facts.server.to_string()))),
        "group.password_file" => facts
            .password_file
            .as_ref()
            .map(|path| toml_text(&path.to_string_lossy())),
        "group.vip.address" => facts.vip.map(|vip| toml_text(&vip.to_string())),
        "group.vip.interface" => text(&facts.interface),
        "group.vrrp.interface" if facts.vip.is_none() => text(&facts.interface),
        "group.vrrp.router_id" => Some(facts.router_id.to_string()),
        "group.vrrp.priority" => Some(facts.priority.to_string()),
        _ => None,
    }
}

/// A TOML basic string.
pub(crate) fn toml_text(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
