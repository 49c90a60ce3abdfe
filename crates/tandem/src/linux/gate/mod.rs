//! The kernel gate: refuses TCP with a reset at VIP:port or at a server's own port, whatever the server does.
//!
//! Each group has one nftables table, `tandem_<group>`, whose few rules look addresses up in sets. Closing and opening
//! changes set elements only, in one netlink transaction: when the call returns, the change is in force, also for
//! established connections (every packet from a client is answered with a reset). The chain hooks `input` in the
//! `inet` family at priority -10, ahead of filter chains that accept what conntrack calls established.
//! Whether to close or open is the keeper's decision.
//!
//! The rules, in order:
//! 1. to a closed front (address, port): reset;
//! 2. from an exempt source to (address, port): accept; the peer's daemon and replication belong here;
//! 3. to a closed server (address, port): reset.
//!
//! Traffic over loopback passes the same hook: the daemon's own connections to its server need an exemption of the address
//! they come from. Frames of packet sockets do not pass it.
//!
//! nftables is spoken to directly rather than through `nft`: a change takes some tens of microseconds instead of
//! the milliseconds of starting a process, and `nft` need not be installed. `nft list table inet tandem_<group>`
//! shows everything.

mod ruleset;

use std::io;
use std::net::{IpAddr, SocketAddr};

use super::netlink::{Requests, Subsystem};
use ruleset::Set;

/// Tables of ours start with this.
const TABLE_PREFIX: &str = "tandem_";

/// Something that can be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Closure {
    /// Everybody is refused at this address and port: a VIP.
    Front(SocketAddr),
    /// Everybody but the exempt is refused at this address and port: a server's own.
    Server(SocketAddr),
}

/// A source that may reach a closed server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Exemption {
    /// Where the connection comes from.
    pub(crate) source: IpAddr,
    /// Which server it may reach; must be of the source's address family.
    pub(crate) server: SocketAddr,
}

/// The gate of one group. Dropping it leaves the table in force; see [`Gate::remove`].
#[derive(Debug)]
pub(crate) struct Gate {
    requests: Requests,
    table: String,
}

impl Gate {
    /// Installs the group's table with these closures and exemptions in force from the first moment. A table that an
    /// earlier process left is replaced in the same transaction, so what stays closed is never open in between.
    ///
    /// # Errors
    /// `InvalidInput` for a group name that does not fit into a table name or an exemption of mixed families; `EPERM`
    /// without `CAP_NET_ADMIN`; `EOPNOTSUPP` or `ENOENT` if the kernel lacks nftables or its reject expression.
    /// Nothing was changed then.
    pub(crate) fn install(
        group: &str,
        closed: &[Closure],
        exempt: &[Exemption],
    ) -> io::Result<Self> {
        let table = table_name(group)?;
        let mut messages = ruleset::replace_table(&table);
        for closure in closed {
            messages.push(ruleset::add_element(
                &table,
                set_of(*closure),
                &key_of(*closure),
            ));
        }
        for exemption in exempt {
            let (set, key) = exemption_element(*exemption)?;
            messages.push(ruleset::add_element(&table, set, &key));
        }
        let mut gate = Self {
            requests: Requests::open(Subsystem::Netfilter)?,
            table,
        };
        gate.requests.batch(ruleset::batch(messages))?;
        Ok(gate)
    }

    /// Closes. In force when this returns; closing what is closed succeeds.
    ///
    /// # Errors
    /// `ENOENT` if someone removed the table (`nft flush ruleset`): install it anew. Trying again is always safe.
    pub(crate) fn close(&mut self, closure: Closure) -> io::Result<()> {
        self.change([ruleset::add_element(
            &self.table,
            set_of(closure),
            &key_of(closure),
        )])
    }

    /// Opens. `false`: it was not closed, or the table is gone.
    ///
    /// # Errors
    /// As for [`Self::close`], but for `ENOENT`.
    pub(crate) fn open(&mut self, closure: Closure) -> io::Result<bool> {
        let removal = ruleset::remove_element(&self.table, set_of(closure), &key_of(closure));
        existed(self.change([removal]))
    }

    /// Removes the table: at a clean exit, when nothing is to stay closed.
    ///
    /// # Errors
    /// As for [`Self::close`]; a table that is gone already is success.
    pub(crate) fn remove(mut self) -> io::Result<()> {
        existed(
            self.requests
                .batch(ruleset::batch(vec![ruleset::remove_table(&self.table)])),
        )
        .map(drop)
    }

    fn change(
        &mut self,
        messages: impl IntoIterator<Item = super::netlink::Message>,
    ) -> io::Result<()> {
        self.requests
            .batch(ruleset::batch(messages.into_iter().collect()))
    }
}

/// The table of a group. nftables takes names of up to 255 bytes; characters beyond these would need quoting in `nft`.
fn table_name(group: &str) -> io::Result<String> {
    let fits = !group.is_empty()
        && group.len() <= 64
        && group.bytes().all(|byte| {
            byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-' || byte == b'.'
        });
    if !fits {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(format!("{TABLE_PREFIX}{}", group.replace(['-', '.'], "_")))
}

fn set_of(closure: Closure) -> Set {
    match closure {
        Closure::Front(address) => Set::front(address),
        Closure::Server(address) => Set::server(address),
    }
}

fn key_of(closure: Closure) -> Vec<u8> {
    match closure {
        Closure::Front(address) | Closure::Server(address) => ruleset::endpoint_key(address),
    }
}

fn exemption_element(exemption: Exemption) -> io::Result<(Set, Vec<u8>)> {
    if exemption.source.is_ipv4() != exemption.server.is_ipv4() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let key = [
        ruleset::address_key(exemption.source),
        ruleset::endpoint_key(exemption.server),
    ]
    .concat();
    Ok((Set::exempt(exemption.server), key))
}

fn existed(outcome: io::Result<()>) -> io::Result<bool> {
    match outcome {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
