//! Lines of `virtual_ipaddress`, `virtual_ipaddress_excluded` and `unicast_peer`.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::super::model::{ConfigAddress, UnicastPeer};
use super::super::tree::Node;
use super::super::words::Word;
use super::Reader;
use crate::diagnostic::{Diagnostic, Span};
use crate::value::IpPrefix;

/// The kernel's `IFNAMSIZ`, less the terminating zero.
const LABEL_LEN_MAX: usize = 15;

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
        preferred_lifetime: (address.addr.is_ipv6() && address.prefix == 128)
            .then_some(Duration::ZERO),
    };
    let mut label_at = None;
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
                if let Err(right) = set(&mut entry, option, &value.text) {
                    refuse(reader, value, right);
                } else if option == "label" {
                    label_at = Some(value.at);
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
    if let Some(at) = label_at {
        label(&entry, at, reader);
    }
    if address.addr.is_ipv4()
        && let Some(word) = line.args.iter().find(|word| word.text == "preferred_lft")
    {
        entry.preferred_lifetime = None;
        reader.findings.advice(
            Diagnostic::warning("preferred-lft", "`preferred_lft` is for IPv6")
                .at(word.at, "has no effect, here and in keepalived"),
        );
    }
    Some(entry)
}

/// A label that does nothing, or not what it is for. keepalived minds the first only.
fn label(entry: &ConfigAddress, at: Span, reader: &mut Reader<'_>) {
    let Some(label) = &entry.label else { return };
    if entry.address.addr.is_ipv6() {
        reader.findings.config_error(
            Diagnostic::warning("label", "IPv6 addresses have no label").at(at, "has no effect"),
        );
    } else if !label.starts_with(&entry.interface) {
        reader.findings.advice(
            Diagnostic::warning(
                "label",
                format!("the label does not begin with `{}`", entry.interface),
            )
            .at(at, "ifconfig will not list the address")
            .help(format!("write it as {}:TEXT", entry.interface)),
        );
    }
}

/// Sets an option with a value.
///
/// # Errors
/// What the value must be.
fn set(entry: &mut ConfigAddress, option: &str, value: &str) -> Result<(), &'static str> {
    match option {
        "dev" => entry.interface = value.to_owned(),
        "scope" => {
            let known = scope(value);
            entry.scope =
                Some(known.ok_or("global, site, link, host, nowhere or a number up to 255")?);
        }
        "label" => {
            if value.len() > LABEL_LEN_MAX {
                return Err("at most 15 bytes");
            }
            entry.label = Some(value.to_owned());
        }
        "peer" => {
            let peer = value.parse().map_err(|_| "an address such as 10.0.0.1/24");
            entry.peer = Some(peer?);
        }
        "preferred_lft" => {
            entry.preferred_lifetime = match value {
                "forever" => None,
                _ => Some(Duration::from_secs(
                    value
                        .parse()
                        .map_err(|_| "a number of seconds, or forever")?,
                )),
            };
        }
        _ => entry.broadcast = Some(broadcast(entry.address, value)?),
    }
    Ok(())
}

/// The names of rt_scopes, and numbers.
fn scope(value: &str) -> Option<u8> {
    match value {
        "global" => Some(0),
        "site" => Some(200),
        "link" => Some(253),
        "host" => Some(254),
        "nowhere" => Some(255),
        number => number.parse().ok(),
    }
}

/// `+` sets the host bits of the address, `-` clears them, as in ip-address(8).
fn broadcast(address: IpPrefix, value: &str) -> Result<Ipv4Addr, &'static str> {
    let IpAddr::V4(own) = address.addr else {
        return Err("absent: IPv6 has no broadcast");
    };
    let host_bits = u32::MAX.checked_shr(u32::from(address.prefix)).unwrap_or(0);
    match value {
        "+" => Ok(Ipv4Addr::from(u32::from(own) | host_bits)),
        "-" => Ok(Ipv4Addr::from(u32::from(own) & !host_bits)),
        text => text.parse().map_err(|_| "an IPv4 address, + or -"),
    }
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
