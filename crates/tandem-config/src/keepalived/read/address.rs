//! Lines of `virtual_ipaddress`, `virtual_ipaddress_excluded` and `unicast_peer`.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::super::model::{ConfigAddress, UnicastPeer};
use super::super::tree::Node;
use super::super::words::Word;
use super::Reader;
use crate::diagnostic::Diagnostic;
use crate::value::IpPrefix;

/// All lines of an address block. `interface` is used where a line names none.
pub(super) fn addresses(
    node: &Node,
    interface: &str,
    reader: &mut Reader<'_>,
) -> Vec<ConfigAddress> {
    node.lines()
        .iter()
        .filter_map(|line| one(line, interface, reader))
        .collect()
}

fn refuse(reader: &mut Reader<'_>, word: &Word, right: &str) {
    reader.findings.config_error(
        Diagnostic::error("address", format!("`{}` is not understood", word.text))
            .at(word.at, format!("must be {right}")),
    );
}

fn one(line: &Node, interface: &str, reader: &mut Reader<'_>) -> Option<ConfigAddress> {
    let mut words = line.args.iter();
    let first = &line.keyword;
    // `dev eth0 10.0.0.1` is what some files have; keepalived takes `dev` for the address.
    let elsewhere = line
        .args
        .iter()
        .find(|word| word.text.parse::<IpPrefix>().is_ok());
    if let (Err(_), Some(address)) = (first.text.parse::<IpPrefix>(), elsewhere) {
        reader.findings.config_error(
            Diagnostic::error("address", "the address must come first on its line")
                .at(address.at, "move it before the options"),
        );
        return None;
    }
    let Ok(address) = first.text.parse::<IpPrefix>() else {
        refuse(reader, first, "an address such as 10.0.0.100/24");
        return None;
    };
    let mut entry = ConfigAddress {
        address,
        at: first.at,
        interface: interface.to_owned(),
        broadcast: None,
        scope: None,
        label: None,
        peer: None,
        flags: Vec::new(),
        preferred_lifetime: None,
    };
    while let Some(word) = words.next() {
        let option = word.text.as_str();
        match option {
            "home" | "-nodad" | "mngtmpaddr" | "noprefixroute" | "autojoin" | "no_track" => {
                entry.flags.push(option.to_owned());
            }
            "brd" | "broadcast" | "dev" | "scope" | "label" | "peer" | "preferred_lft" => {
                let Some(value) = words.next() else {
                    refuse(reader, word, "followed by a value");
                    break;
                };
                if !set(&mut entry, option, &value.text) {
                    refuse(reader, value, "a value of this option");
                }
            }
            "use_vmac" => reader.findings.advice(
                Diagnostic::warning("unsupported", "`use_vmac` is not done by tandem")
                    .at(word.at, "the address stays on the interface itself"),
            ),
            "track_group" => {
                words.next();
                reader.findings.advice(
                    Diagnostic::warning("unsupported", "`track_group` is not done by tandem")
                        .at(word.at, "has no effect here"),
                );
            }
            _ => {
                let found = if option.parse::<IpPrefix>().is_ok() {
                    Diagnostic::error("address", "two addresses stand on one line")
                        .at(word.at, "keepalived would lose this one")
                        .help("write each address on a line of its own")
                } else {
                    Diagnostic::warning("address", format!("`{option}` is not understood"))
                        .at(word.at, "not an option of an address; ignored")
                };
                reader.findings.config_error(found);
            }
        }
    }
    Some(entry)
}

/// Sets an option with a value. False: the value is not understood.
fn set(entry: &mut ConfigAddress, option: &str, value: &str) -> bool {
    match option {
        "dev" => entry.interface = value.to_owned(),
        "scope" => entry.scope = Some(value.to_owned()),
        "label" => entry.label = Some(value.to_owned()),
        "peer" => match value.parse() {
            Ok(peer) => entry.peer = Some(peer),
            Err(_) => return false,
        },
        "preferred_lft" => match value.parse() {
            Ok(seconds) => entry.preferred_lifetime = Some(Duration::from_secs(seconds)),
            Err(_) if value == "forever" => entry.preferred_lifetime = None,
            Err(_) => return false,
        },
        _ => match (value, entry.address.addr) {
            ("-", _) => entry.broadcast = None,
            ("+", IpAddr::V4(addr)) => {
                let host_bits = u32::MAX
                    .checked_shr(u32::from(entry.address.prefix))
                    .unwrap_or(0);
                entry.broadcast = Some(IpAddr::V4(Ipv4Addr::from(u32::from(addr) | host_bits)));
            }
            (text, IpAddr::V4(_)) => match text.parse::<Ipv4Addr>() {
                Ok(broadcast) => entry.broadcast = Some(IpAddr::V4(broadcast)),
                Err(_) => return false,
            },
            (_, IpAddr::V6(_)) => return false,
        },
    }
    true
}

/// All lines of `unicast_peer`: `ADDRESS [min_ttl N] [max_ttl N]`.
pub(super) fn peers(node: &Node, reader: &mut Reader<'_>) -> Vec<UnicastPeer> {
    let mut peers = Vec::new();
    for line in node.lines() {
        let Ok(address) = line.keyword.text.parse() else {
            refuse(reader, &line.keyword, "an address without a prefix");
            continue;
        };
        let mut peer = UnicastPeer {
            address,
            min_ttl: None,
            max_ttl: None,
        };
        let mut words = line.args.iter();
        while let Some(word) = words.next() {
            let slot = match word.text.as_str() {
                "min_ttl" => &mut peer.min_ttl,
                "max_ttl" => &mut peer.max_ttl,
                _ => {
                    refuse(
                        reader,
                        word,
                        "min_ttl or max_ttl; write each peer on a line of its own",
                    );
                    continue;
                }
            };
            match words.next().map(|value| (value, value.text.parse::<u8>())) {
                Some((_, Ok(ttl))) => *slot = Some(ttl),
                Some((value, Err(_))) => refuse(reader, value, "a number from 0 to 255"),
                None => refuse(reader, word, "followed by a number"),
            }
        }
        peers.push(peer);
    }
    peers
}
