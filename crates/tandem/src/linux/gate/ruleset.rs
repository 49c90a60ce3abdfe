//! The nftables messages of the gate (`linux/netfilter/nf_tables.h`): one table, six sets, one chain, six rules.
//!
//! Numbers in attributes are big-endian. A key made of several fields gives each a multiple of four bytes, and the
//! registers that the rule loads them into follow each other in the same way.

use std::net::{IpAddr, SocketAddr};

use super::super::netlink::{self, Message};

const SUBSYSTEM: u16 = 10 << 8;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = SUBSYSTEM;
const DELETE_TABLE: u16 = SUBSYSTEM | 2;
const NEW_CHAIN: u16 = SUBSYSTEM | 3;
const NEW_RULE: u16 = SUBSYSTEM | 6;
const NEW_SET: u16 = SUBSYSTEM | 9;
const NEW_ELEMENT: u16 = SUBSYSTEM | 12;
const DELETE_ELEMENT: u16 = SUBSYSTEM | 14;

/// `NFPROTO_INET`: IPv4 and IPv6 in one table.
const FAMILY_INET: u8 = 1;
/// Ahead of the filter chains at 0.
const PRIORITY: i32 = -10;
const CHAIN: &str = "input";
/// `NF_INET_LOCAL_IN`.
const HOOK_INPUT: u32 = 1;
/// `NFT_REG32_00`, the first four-byte register; the others follow.
const FIRST_REGISTER: u32 = 8;
/// `NFT_REG_VERDICT`.
const VERDICT_REGISTER: u32 = 0;
/// `NF_ACCEPT`.
const ACCEPT: u32 = 1;

/// Type numbers that `nft` shows keys with; the kernel does not read them.
mod datatype {
    pub(super) const IPV4: u32 = 7;
    pub(super) const IPV6: u32 = 8;
    pub(super) const SERVICE: u32 = 13;
    pub(super) const BITS: u32 = 6;
}

/// One of the sets that the rules look up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Set {
    name: &'static str,
    purpose: Purpose,
    ipv4: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// {destination, port}: reset.
    Close,
    /// {source, destination, port}: accept.
    Exempt,
}

/// In the order of their rules, which is the order of the module's description.
const SETS: [Set; 6] = [
    Set {
        name: "front4",
        purpose: Purpose::Close,
        ipv4: true,
    },
    Set {
        name: "front6",
        purpose: Purpose::Close,
        ipv4: false,
    },
    Set {
        name: "exempt4",
        purpose: Purpose::Exempt,
        ipv4: true,
    },
    Set {
        name: "exempt6",
        purpose: Purpose::Exempt,
        ipv4: false,
    },
    Set {
        name: "server4",
        purpose: Purpose::Close,
        ipv4: true,
    },
    Set {
        name: "server6",
        purpose: Purpose::Close,
        ipv4: false,
    },
];

impl Set {
    pub(super) fn front(address: SocketAddr) -> Self {
        SETS[usize::from(address.is_ipv6())]
    }

    pub(super) fn exempt(address: SocketAddr) -> Self {
        SETS[2 + usize::from(address.is_ipv6())]
    }

    pub(super) fn server(address: SocketAddr) -> Self {
        SETS[4 + usize::from(address.is_ipv6())]
    }

    fn address_len(self) -> u32 {
        if self.ipv4 { 4 } else { 16 }
    }

    /// Addresses in the key: only exemptions name the source.
    fn address_count(self) -> u32 {
        match self.purpose {
            Purpose::Close => 1,
            Purpose::Exempt => 2,
        }
    }

    fn key_len(self) -> u32 {
        self.address_count() * self.address_len() + 4
    }

    fn key_type(self) -> u32 {
        let address = if self.ipv4 {
            datatype::IPV4
        } else {
            datatype::IPV6
        };
        let addresses =
            (0..self.address_count()).fold(0, |types, _| types << datatype::BITS | address);
        addresses << datatype::BITS | datatype::SERVICE
    }
}

/// Address and port as a key.
pub(super) fn endpoint_key(endpoint: SocketAddr) -> Vec<u8> {
    let mut key = address_key(endpoint.ip());
    key.extend_from_slice(&endpoint.port().to_be_bytes());
    key.extend_from_slice(&[0; 2]);
    key
}

/// An address as a part of a key.
pub(super) fn address_key(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// A message of the inet family: `struct nfgenmsg` is family, version 0, resource id 0.
fn message(kind: u16, flags: u16) -> Message {
    Message::new(kind, flags).raw(&[FAMILY_INET, 0, 0, 0])
}

/// Frames messages as one transaction.
pub(super) fn batch(messages: Vec<Message>) -> Vec<Message> {
    // Here the resource id names the subsystem, in network order.
    let frame = |kind| Message::new(kind, 0).raw(&[0, 0, 0, 10]);
    let mut framed = vec![frame(BATCH_BEGIN)];
    framed.extend(messages);
    framed.push(frame(BATCH_END));
    framed
}

/// Makes the table anew, empty: created if need be, deleted with all it has, created.
pub(super) fn replace_table(table: &str) -> Vec<Message> {
    let create = || message(NEW_TABLE, netlink::ACK | netlink::CREATE).string(1, table);
    let mut messages = vec![create(), remove_table(table), create()];
    messages.extend((1..).zip(SETS).map(|(id, set)| new_set(table, set, id)));
    messages.push(new_chain(table));
    messages.extend(SETS.map(|set| new_rule(table, set)));
    messages
}

/// Deletes the table with all it has.
pub(super) fn remove_table(table: &str) -> Message {
    message(DELETE_TABLE, netlink::ACK).string(1, table)
}

fn new_set(table: &str, set: Set, id: u32) -> Message {
    // NFTA_SET_TABLE, NAME, FLAGS, KEY_TYPE, KEY_LEN, ID.
    let flags = 0_u32;
    message(NEW_SET, netlink::ACK | netlink::CREATE)
        .string(1, table)
        .string(2, set.name)
        .attribute(3, &flags.to_be_bytes())
        .attribute(4, &set.key_type().to_be_bytes())
        .attribute(5, &set.key_len().to_be_bytes())
        .attribute(10, &id.to_be_bytes())
}

fn new_chain(table: &str) -> Message {
    // NFTA_CHAIN_TABLE, NAME, HOOK {NUM, PRIORITY}, POLICY, TYPE.
    message(NEW_CHAIN, netlink::ACK | netlink::CREATE)
        .string(1, table)
        .string(3, CHAIN)
        .nest(4, |hook| {
            hook.attribute(1, &HOOK_INPUT.to_be_bytes())
                .attribute(2, &PRIORITY.to_be_bytes())
        })
        .attribute(5, &ACCEPT.to_be_bytes())
        .string(7, "filter")
}

/// If TCP over the set's family, and the addresses and the port are in the set: reset or accept.
fn new_rule(table: &str, set: Set) -> Message {
    // Offsets of the addresses in the IP header; a source, where there is one, comes first in the key.
    let (source_at, destination_at) = if set.ipv4 { (12, 16) } else { (8, 24) };
    let (network_protocol, address_registers) = if set.ipv4 {
        (libc::NFPROTO_IPV4, 1)
    } else {
        (libc::NFPROTO_IPV6, 4)
    };
    let destination_register = FIRST_REGISTER + (set.address_count() - 1) * address_registers;
    let port_register = destination_register + address_registers;
    // NFTA_RULE_TABLE, CHAIN, EXPRESSIONS.
    message(NEW_RULE, netlink::ACK | netlink::CREATE | netlink::APPEND)
        .string(1, table)
        .string(2, CHAIN)
        .nest(4, |list| {
            let mut list = meta_equals(list, 15, network_protocol as u8);
            list = meta_equals(list, 16, libc::IPPROTO_TCP as u8);
            if set.purpose == Purpose::Exempt {
                list = payload(
                    list,
                    NETWORK_HEADER,
                    source_at,
                    set.address_len(),
                    FIRST_REGISTER,
                );
            }
            list = payload(
                list,
                NETWORK_HEADER,
                destination_at,
                set.address_len(),
                destination_register,
            );
            list = payload(list, TRANSPORT_HEADER, 2, 2, port_register);
            // NFTA_LOOKUP_SET, SREG.
            list = expression(list, "lookup", |data| {
                data.string(1, set.name)
                    .attribute(2, &FIRST_REGISTER.to_be_bytes())
            });
            match set.purpose {
                // NFTA_REJECT_TYPE: NFT_REJECT_TCP_RST. The second attribute is only for ICMP codes.
                Purpose::Close => expression(list, "reject", |data| {
                    data.attribute(1, &1u32.to_be_bytes()).attribute(2, &[0])
                }),
                // NFTA_IMMEDIATE_DREG, DATA {NFTA_DATA_VERDICT {NFTA_VERDICT_CODE}}.
                Purpose::Exempt => expression(list, "immediate", |data| {
                    data.attribute(1, &VERDICT_REGISTER.to_be_bytes())
                        .nest(2, |value| {
                            value.nest(2, |verdict| verdict.attribute(1, &ACCEPT.to_be_bytes()))
                        })
                }),
            }
        })
}

/// One list element (type 1): NFTA_EXPR_NAME, NFTA_EXPR_DATA.
fn expression(list: Message, name: &str, fill: impl FnOnce(Message) -> Message) -> Message {
    list.nest(1, |element| element.string(1, name).nest(2, fill))
}

/// `meta KEY == VALUE`; keys are `NFT_META_NFPROTO` 15 and `NFT_META_L4PROTO` 16.
fn meta_equals(list: Message, key: u32, value: u8) -> Message {
    // NFTA_META_DREG, KEY.
    let list = expression(list, "meta", |data| {
        data.attribute(1, &FIRST_REGISTER.to_be_bytes())
            .attribute(2, &key.to_be_bytes())
    });
    // NFTA_CMP_SREG, OP (equal), DATA {NFTA_DATA_VALUE}.
    expression(list, "cmp", |data| {
        data.attribute(1, &FIRST_REGISTER.to_be_bytes())
            .attribute(2, &0u32.to_be_bytes())
            .nest(3, |operand| operand.attribute(1, &[value]))
    })
}

/// `NFT_PAYLOAD_NETWORK_HEADER`.
const NETWORK_HEADER: u32 = 1;
/// `NFT_PAYLOAD_TRANSPORT_HEADER`.
const TRANSPORT_HEADER: u32 = 2;

fn payload(list: Message, base: u32, offset: u32, length: u32, register: u32) -> Message {
    // NFTA_PAYLOAD_DREG, BASE, OFFSET, LEN.
    expression(list, "payload", |data| {
        data.attribute(1, &register.to_be_bytes())
            .attribute(2, &base.to_be_bytes())
            .attribute(3, &offset.to_be_bytes())
            .attribute(4, &length.to_be_bytes())
    })
}

/// Adds an element; one that is there already stays as it is.
pub(super) fn add_element(table: &str, set: Set, key: &[u8]) -> Message {
    element(NEW_ELEMENT, netlink::ACK | netlink::CREATE, table, set, key)
}

/// Removes an element; `ENOENT` if it is not there.
pub(super) fn remove_element(table: &str, set: Set, key: &[u8]) -> Message {
    element(DELETE_ELEMENT, netlink::ACK, table, set, key)
}

fn element(kind: u16, flags: u16, table: &str, set: Set, key: &[u8]) -> Message {
    debug_assert_eq!(key.len(), set.key_len() as usize, "a key of another set");
    // NFTA_SET_ELEM_LIST_TABLE, SET, ELEMENTS {NFTA_LIST_ELEM {KEY {NFTA_DATA_VALUE}}}.
    message(kind, flags)
        .string(1, table)
        .string(2, set.name)
        .nest(3, |list| {
            list.nest(1, |element| element.nest(1, |data| data.attribute(1, key)))
        })
}
