//! Asks a segment who has an address: ARP for IPv4, neighbour solicitation for IPv6, below the IP layer.
//!
//! The kernel's own neighbour table will not do: it keeps one answer per address, and asking through it needs a route and
//! changes the table. Here every answer counts, for two of them are what is looked for. The sockets live as long as one
//! question; a filter in the kernel lets only frames about the asked addresses through, so a busy segment costs nothing.

mod frame;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use socket2::{Domain, SockFilter, Socket, Type};
use tandem_vrrp::arp::Mac;
use tokio::io::unix::AsyncFd;

use super::addr::Link;
use super::announce::Announcer;
use super::sys;

/// Longer than any frame that is let through has to be.
const FRAME_LEN_MAX: usize = 256;
/// Answers read in one round; somebody who floods gets no further.
const FRAMES_MAX: usize = 256;
/// Hardware addresses that are told for one address.
const MACS_MAX: usize = 16;
/// The question is sent this often, evenly over the time: a frame may get lost.
const SENDINGS: u32 = 2;

/// One address that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Question {
    /// The address.
    pub(crate) address: IpAddr,
    /// For IPv6, who asks; none asks as duplicate address detection does, which only a VIP may be asked for: a host that
    /// is just taking the address would give it up.
    pub(crate) source: Option<Ipv6Addr>,
}

/// Asks out of an interface and listens for `within`. Addresses that nobody has are missing in what comes back.
///
/// # Errors
/// `EPERM` without `CAP_NET_RAW`; `InvalidInput` for an interface on which nobody is asked (`NOARP`); `ENETDOWN`. Asking
/// again is always safe.
pub(crate) async fn ask(
    link: &Link,
    questions: &[Question],
    within: Duration,
) -> io::Result<BTreeMap<IpAddr, BTreeSet<Mac>>> {
    let (Some(mac), true) = (link.mac, link.resolves) else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{} has no neighbours to ask", link.name),
        ));
    };
    let asked: BTreeSet<IpAddr> = questions.iter().map(|question| question.address).collect();
    let arp = Ears::open(link, frame::ARP, &asked)?;
    let discovery = Ears::open(link, frame::IPV6, &asked)?;
    let mouth = Announcer::open(link.index)?;
    let mut found: BTreeMap<IpAddr, BTreeSet<Mac>> = BTreeMap::new();
    let begun = Instant::now();
    let mut sent = 0;
    for _ in 0..FRAMES_MAX {
        while sent < SENDINGS && begun.elapsed() >= within / SENDINGS * sent {
            sent += 1;
            for question in questions {
                mouth.send(&question.frame(mac))?;
            }
        }
        let next = if sent < SENDINGS {
            within / SENDINGS * sent
        } else {
            within
        };
        let heard = tokio::select! {
            heard = arp.hear() => heard?,
            heard = discovery.hear() => heard?,
            () = tokio::time::sleep_until((begun + next).into()) => None,
        };
        if let Some((address, mac)) = heard
            && asked.contains(&address)
        {
            let macs = found.entry(address).or_default();
            if macs.len() < MACS_MAX {
                macs.insert(mac);
            }
        }
        if begun.elapsed() >= within {
            break;
        }
    }
    Ok(found)
}

impl Question {
    fn frame(&self, mac: Mac) -> Vec<u8> {
        match self.address {
            IpAddr::V4(address) => frame::arp_probe(mac, address),
            IpAddr::V6(address) => frame::solicitation(mac, self.source, address),
        }
    }
}

/// A packet socket that hears what is said of the asked addresses; nothing when none is of its family.
struct Ears(Option<AsyncFd<OwnedFd>>);

impl Ears {
    fn open(link: &Link, protocol: u16, asked: &BTreeSet<IpAddr>) -> io::Result<Self> {
        let wanted = asked
            .iter()
            .filter(|address| address.is_ipv4() == (protocol == frame::ARP));
        let tails: Vec<u32> = wanted.map(tail).collect();
        if tails.is_empty() {
            return Ok(Self(None));
        }
        let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking().cloexec(), None)?;
        // Before it is bound, so that nothing else ever queues on it.
        socket.attach_filter(&filter(protocol, &tails))?;
        sys::bind_packet(&socket, link.index.get(), protocol)?;
        Ok(Self(Some(sys::watch_readable(socket.into())?)))
    }

    /// The next claim; `None` for a frame that is none.
    async fn hear(&self) -> io::Result<Option<(IpAddr, Mac)>> {
        let Some(socket) = &self.0 else {
            return std::future::pending().await;
        };
        let mut bytes = [0; FRAME_LEN_MAX];
        loop {
            let mut guard = socket.readable().await?;
            let read = guard.try_io(|socket| {
                rustix::io::read(socket.get_ref(), &mut bytes[..]).map_err(io::Error::from)
            });
            match read {
                Ok(length) => return Ok(frame::claim(&bytes[..length?])),
                Err(_) => continue,
            }
        }
    }
}

/// The last word of an address, by which the kernel chooses; the rest is compared here.
fn tail(address: &IpAddr) -> u32 {
    match address {
        IpAddr::V4(address) => address.to_bits(),
        IpAddr::V6(address) => (address.to_bits() & u128::from(u32::MAX)) as u32,
    }
}

/// A program of the kernel's classic packet filter: frames whose address ends with one of `tails`.
fn filter(protocol: u16, tails: &[u32]) -> Vec<SockFilter> {
    const LOAD_BYTE: u16 = 0x30;
    const LOAD_WORD: u16 = 0x20;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let at = |at: usize| u32::try_from(at).expect("within a frame");
    let drop = || SockFilter::new(RETURN, 0, 0, 0);
    let mut program = Vec::new();
    let word = if protocol == frame::ARP {
        frame::ARP_SENDER_AT
    } else {
        for (place, value) in frame::ADVERTISEMENT {
            program.push(SockFilter::new(LOAD_BYTE, 0, 0, at(place)));
            program.push(SockFilter::new(JUMP_IF_EQUAL, 1, 0, value.into()));
            program.push(drop());
        }
        frame::TARGET_TAIL_AT
    };
    program.push(SockFilter::new(LOAD_WORD, 0, 0, at(word)));
    for tail in tails {
        program.push(SockFilter::new(JUMP_IF_EQUAL, 0, 1, *tail));
        program.push(SockFilter::new(RETURN, 0, 0, at(FRAME_LEN_MAX)));
    }
    program.push(drop());
    program
}

#[cfg(test)]
mod tests {
    use super::super::addr::Addresses;
    use super::super::testing::{in_namespace, run, veth_pair};
    use super::*;

    /// Both ends of the pair are in one namespace; addresses on the far end answer for it, because ARP is answered on
    /// whichever interface asks (`arp_ignore` 0), and neighbour discovery on the one that has the address.
    #[test]
    fn the_kernel_answers_for_its_addresses_and_nobody_for_others() {
        in_namespace("the_kernel_answers_for_its_addresses", async || {
            veth_pair("v0", "v1");
            for address in ["10.0.0.100/24", "2001:db8::100/64"] {
                let add = ["ip", "addr", "add", address, "dev", "v1"];
                if address.contains(':') {
                    run(&[&add[..], &["nodad"]].concat());
                } else {
                    run(&add);
                }
            }
            let mut addresses = Addresses::open().expect("netlink");
            let near = addresses.link("v0").expect("links").expect("v0");
            let far = addresses.link("v1").expect("links").expect("v1");
            let question = |address: &str| Question {
                address: address.parse().expect("an address"),
                source: None,
            };
            let taken = ["10.0.0.100", "2001:db8::100"].map(question);
            let free = ["10.0.0.101", "2001:db8::101"].map(question);
            let all = [&taken[..], &free].concat();
            let found = ask(&near, &all, Duration::from_millis(400))
                .await
                .expect("it may be asked");
            let mac: BTreeSet<Mac> = [far.mac.expect("a hardware address")].into();
            let expected: BTreeMap<_, _> =
                taken.map(|question| (question.address, mac.clone())).into();
            assert_eq!(found, expected);
        });
    }

    #[test]
    fn an_interface_without_arp_has_no_neighbours() {
        in_namespace("an_interface_without_arp_has_no_neighbours", async || {
            veth_pair("v0", "v1");
            run(&["ip", "link", "set", "v0", "arp", "off"]);
            let mut addresses = Addresses::open().expect("netlink");
            let link = addresses.link("v0").expect("links").expect("v0");
            let error = ask(&link, &[], Duration::from_millis(1)).await;
            assert_eq!(
                error.expect_err("nobody to ask").kind(),
                io::ErrorKind::InvalidInput
            );
        });
    }
}
