//! The host's network: interfaces, kernel settings that make VIPs misbehave, and who has the VIP now.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use tandem_config::settings::{Settings, Vip, Vrrp};
use tandem_config::value::IpPrefix;
use tandem_core::rules::duplicate::{Answers, mac_text, strangers};
use tandem_vrrp::arp::Mac;

use super::Finding;
use crate::linux::addr::{Addresses, Entry, Link};
use crate::run::duplicate;

/// How long an address may take to answer ARP.
const ARP_WITHIN: Duration = Duration::from_millis(1500);

/// Links and addresses of this host.
#[derive(Debug, Default)]
pub(crate) struct Links {
    links: Vec<Link>,
    entries: Vec<Entry>,
}

impl Links {
    /// Reads them; empty if the kernel does not say.
    pub(crate) fn read() -> Self {
        let read = || -> io::Result<Self> {
            let mut addresses = Addresses::open()?;
            Ok(Self {
                links: addresses.links()?,
                entries: addresses.addresses()?,
            })
        };
        read().unwrap_or_default()
    }

    /// The interface that carries an address.
    pub(crate) fn carrying(&self, address: IpAddr) -> Option<&Link> {
        let entry = self
            .entries
            .iter()
            .find(|entry| entry.vip.address == address)?;
        self.links
            .iter()
            .find(|link| link.index == entry.vip.interface_index)
    }

    fn interfaces_in(&self, network: IpPrefix) -> usize {
        let mut indices: Vec<_> = self
            .entries
            .iter()
            .filter(|entry| contains(network, entry.vip.address))
            .map(|entry| entry.vip.interface_index)
            .collect();
        indices.sort_unstable();
        indices.dedup();
        indices.len()
    }
}

fn contains(network: IpPrefix, address: IpAddr) -> bool {
    let prefix = u32::from(network.prefix);
    match (network.addr, address) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            let shift = 32 - prefix;
            u64::from(a.to_bits()) >> shift == u64::from(b.to_bits()) >> shift
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            let shift = 128 - prefix;
            shift >= 128 || a.to_bits() >> shift == b.to_bits() >> shift
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

/// Who else may have a VIP by right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holders {
    /// The peer of a pair.
    Peer,
    /// Any host that runs the same proxy: the file does not name them.
    AnyHost,
}

/// Everything about a virtual router and its VIP.
pub(super) async fn router(
    settings: &Settings,
    vrrp: &Vrrp,
    vip: Option<&Vip>,
    holders: Holders,
) -> Vec<Finding> {
    let mut findings = interfaces(vrrp, vip);
    findings.extend(sysctls(vrrp, vip, &Links::read(), |name| {
        std::fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/")))
            .ok()
            .map(|text| text.trim().to_owned())
    }));
    findings.extend(vips(settings, vip, holders).await);
    findings
}

/// The interfaces of adverts and VIP.
fn interfaces(vrrp: &Vrrp, vip: Option<&Vip>) -> Vec<Finding> {
    let links = Links::read();
    let mut names = vec![vrrp.interface.as_str()];
    names.extend(vip.map(|vip| vip.interface.as_str()));
    names.extend(vrrp.track_interface.iter().map(String::as_str));
    names.dedup();
    let judge = |name: &str| match links.links.iter().find(|link| link.name == name) {
        None => {
            let there: Vec<&str> = links.links.iter().map(|link| link.name.as_str()).collect();
            Finding::fails(
                "interface",
                format!("{name} does not exist"),
                format!("there are: {}", there.join(", ")),
            )
        }
        Some(link) if !link.up => Finding::fails(
            "interface",
            format!("{name} is down"),
            format!("ip link set {name} up"),
        ),
        Some(link) if !link.running => Finding::fails(
            "interface",
            format!("{name} has no carrier"),
            "look at the cable or the bridge",
        ),
        Some(_) => Finding::fine("interface", format!("{name} is up")),
    };
    names.into_iter().map(judge).collect()
}

/// Kernel settings that make VIPs misbehave. Checked and never changed. Our addresses go on as /32 and
/// /128, so `promote_secondaries` is nobody's concern here.
fn sysctls(
    vrrp: &Vrrp,
    vip: Option<&Vip>,
    links: &Links,
    read: impl Fn(&str) -> Option<String>,
) -> Vec<Finding> {
    let number = |name: &str| {
        read(name)
            .and_then(|text| text.parse::<i64>().ok())
            .unwrap_or(0)
    };
    let mut findings = Vec::new();
    let mut warn = |name: String, value: i64, why: &str, wanted: i64| {
        let result = format!("{name} = {value}: {why}");
        findings.push(Finding::warning(
            "sysctl",
            result,
            format!("sysctl -w {name}={wanted}"),
        ));
    };
    let adverts = &vrrp.interface;
    let of = |interface: &str, name: &str| {
        (
            format!("net.ipv4.conf.{interface}.{name}"),
            format!("net.ipv4.conf.all.{name}"),
        )
    };
    if vrrp.unicast {
        // The stricter of the two counts; 2 is the loose mode.
        let (own, all) = of(adverts, "rp_filter");
        if number(&own).max(number(&all)) == 1 {
            warn(
                own,
                1,
                "drops unicast adverts that come in by another way than answers go out",
                2,
            );
        }
    } else if read("net.ipv4.igmp_link_local_mcast_reports").as_deref() == Some("0") {
        warn(
            "net.ipv4.igmp_link_local_mcast_reports".to_owned(),
            0,
            "a snooping switch may keep the adverts' group from this port",
            1,
        );
    }
    if let Some(vip) = vip {
        let (own, all) = of(&vip.interface, "proxy_arp");
        for name in [own, all, of(&vip.interface, "proxy_arp_pvlan").0] {
            if number(&name) != 0 {
                warn(
                    name,
                    1,
                    "this host would answer for the VIP while it is elsewhere",
                    0,
                );
            }
        }
        let shared = vip
            .addresses
            .iter()
            .any(|address| links.interfaces_in(*address) > 1);
        if shared {
            for (name, wanted) in [("arp_ignore", 1), ("arp_announce", 2)] {
                let (own, all) = of(&vip.interface, name);
                let value = number(&own).max(number(&all));
                if value < wanted {
                    warn(
                        own,
                        value,
                        "several interfaces are in the VIP's network, the wrong one may answer",
                        wanted,
                    );
                }
            }
        }
    }
    if findings.is_empty() {
        findings.push(Finding::fine("sysctl", "nothing in the way"));
    }
    findings
}

/// Whether somebody else has the VIP. For IPv4 a datagram to it makes the kernel ask by ARP, which needs no privilege; for
/// IPv6, where a route to it may be missing, the question is sent as it is.
async fn vips(settings: &Settings, vip: Option<&Vip>, holders: Holders) -> Vec<Finding> {
    let links = Links::read();
    let peers: Vec<IpAddr> = settings.peers.iter().map(|peer| peer.address).collect();
    let mut findings = Vec::new();
    for (interface, address) in vip.into_iter().flat_map(|vip| {
        let interface = vip.interface.as_str();
        vip.addresses
            .iter()
            .map(move |address| (interface, address))
    }) {
        let here = links
            .entries
            .iter()
            .find(|entry| entry.vip.address == address.addr);
        let finding = match (here, address.addr) {
            (Some(entry), _) if entry.ours => {
                Finding::fine("VIP", format!("{} is here, put on by tandem", address.addr))
            }
            (Some(_), _) => Finding::fails(
                "VIP",
                format!(
                    "{} is an address of this host that tandem did not put on",
                    address.addr
                ),
                "remove it from the host's own network settings; stop keepalived if it runs",
            ),
            (None, IpAddr::V6(vip)) => {
                match duplicate::look(interface, &[vip.into()], &peers).await {
                    Ok(answers) => judge_vip(address.addr, &answers, holders),
                    Err(error) => Finding::note(
                        "VIP",
                        format!("{vip}: not probed: {error}"),
                        "run this as root, or as the daemon's user with CAP_NET_RAW",
                    ),
                }
            }
            (None, IpAddr::V4(vip)) => {
                let answers = by_arp_table(vip.into(), &peers).await;
                judge_vip(vip.into(), &answers, holders)
            }
        };
        findings.push(finding);
    }
    findings
}

fn judge_vip(vip: IpAddr, answers: &Answers, holders: Holders) -> Finding {
    let Some(macs) = answers.vips.get(&vip).filter(|macs| !macs.is_empty()) else {
        return Finding::fine("VIP", format!("{vip} is nobody's now"));
    };
    let list = |macs: Vec<&Mac>| {
        let texts: Vec<String> = macs.into_iter().map(mac_text).collect();
        texts.join(" and ")
    };
    if holders == Holders::AnyHost {
        return Finding::note(
            "VIP",
            format!("{vip} answers from {}", list(macs.iter().collect())),
            "as it should, if that is another host of this proxy; stop keepalived there otherwise",
        );
    }
    let others = strangers(answers, &BTreeSet::new(), false);
    if others.is_empty() {
        return Finding::note(
            "VIP",
            format!(
                "{vip} answers from the peer ({})",
                list(macs.iter().collect())
            ),
            "as it should, if tandem run put it on there; stop keepalived there otherwise",
        );
    }
    let others = others.iter().map(|(_, mac)| mac).collect();
    Finding::fails(
        "VIP",
        format!("{vip} answers from {}, which is not the peer", list(others)),
        "another host has this address: choose a free one, or stop what put it there",
    )
}

/// Who answers for the VIP and for the peer, one each, by the kernel's table.
async fn by_arp_table(vip: IpAddr, peers: &[IpAddr]) -> Answers {
    let mut answers = Answers::default();
    if let Some(mac) = neighbour(vip).await {
        answers.vips.entry(vip).or_default().insert(mac);
        for peer in peers.iter().filter(|peer| peer.is_ipv4()) {
            answers.peer.extend(neighbour(*peer).await);
        }
    }
    answers
}

/// The MAC that answers for an address on the link, if one does.
async fn neighbour(address: IpAddr) -> Option<Mac> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // Port 9 is "discard": the datagram is only there to make the kernel look for the address.
    socket.send_to(&[], SocketAddr::new(address, 9)).ok()?;
    let until = Instant::now() + ARP_WITHIN;
    loop {
        let table = std::fs::read_to_string("/proc/net/arp").ok()?;
        if let Some(mac) = in_arp_table(&table, address) {
            return Some(mac);
        }
        if Instant::now() >= until {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Columns: address, type, flags, MAC, mask, device. Flag 2 is an entry that was answered.
fn in_arp_table(table: &str, address: IpAddr) -> Option<Mac> {
    table.lines().find_map(|line| {
        let mut columns = line.split_whitespace();
        let same = columns.next()?.parse::<IpAddr>().ok()? == address;
        let flags = u32::from_str_radix(columns.nth(1)?.strip_prefix("0x")?, 16).ok()?;
        let mac = mac(columns.next()?)?;
        (same && flags & 2 != 0).then_some(mac)
    })
}

fn mac(text: &str) -> Option<Mac> {
    let bytes: Option<Vec<u8>> = text
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16).ok())
        .collect();
    bytes?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn group(unicast: bool) -> tandem_config::settings::Group {
        let text = format!(
            "[host]\nid = \"a\"\naddress = \"10.0.0.1\"\nsecret_file = \"/s\"\n[[peer]]\nid = \"b\"\n\
             address = \"10.0.0.2\"\n[[group]]\nname = \"g\"\nservers = [\"10.0.0.1:6379\"]\n\
             [group.vip]\naddress = \"10.0.0.9/24\"\ninterface = \"eth0\"\n[group.vrrp]\nrouter_id = 1\n\
             priority = 100\nunicast = {unicast}\n"
        );
        tandem_config::settings::read("t", &text)
            .0
            .unwrap()
            .groups
            .remove(0)
    }

    #[test]
    fn sysctls_that_hurt_and_those_that_do_not() {
        let check = |unicast: bool, set: &[(&str, &str)]| -> Vec<String> {
            let read = |name: &str| {
                set.iter()
                    .find(|(known, _)| *known == name)
                    .map(|(_, value)| (*value).to_owned())
            };
            let group = group(unicast);
            let vrrp = group.vrrp().unwrap();
            sysctls(vrrp, group.vip.as_ref(), &Links::default(), read)
                .into_iter()
                .filter(|finding| finding.verdict == Verdict::Warning)
                .map(|finding| finding.advice)
                .collect()
        };
        let none: [&str; 0] = [];
        assert_eq!(check(false, &[]), none);
        assert_eq!(check(false, &[("net.ipv4.conf.all.rp_filter", "1")]), none);
        let strict = ["sysctl -w net.ipv4.conf.eth0.rp_filter=2"];
        assert_eq!(check(true, &[("net.ipv4.conf.all.rp_filter", "1")]), strict);
        let loose = [
            ("net.ipv4.conf.all.rp_filter", "1"),
            ("net.ipv4.conf.eth0.rp_filter", "2"),
        ];
        assert_eq!(check(true, &loose), none);
        let proxy = ["sysctl -w net.ipv4.conf.eth0.proxy_arp=0"];
        assert_eq!(
            check(false, &[("net.ipv4.conf.eth0.proxy_arp", "1")]),
            proxy
        );
        let snooping = ["sysctl -w net.ipv4.igmp_link_local_mcast_reports=1"];
        assert_eq!(
            check(false, &[("net.ipv4.igmp_link_local_mcast_reports", "0")]),
            snooping
        );
    }

    #[test]
    fn whose_the_vip_is() {
        let vip: IpAddr = "10.0.0.9".parse().unwrap();
        let mac = |last: u8| [2, 0, 0, 0, 0, last];
        let judge = |peer: &[u8], at_vip: &[u8]| {
            let answers = Answers {
                own: BTreeSet::new(),
                peer: peer.iter().copied().map(mac).collect(),
                vips: [(vip, at_vip.iter().copied().map(mac).collect())].into(),
            };
            judge_vip(vip, &answers, Holders::Peer)
        };
        let nobody = judge_vip(vip, &Answers::default(), Holders::Peer);
        assert_eq!(nobody.verdict, Verdict::Fine);
        for (peer, at_vip, verdict) in [
            (&[2][..], &[][..], Verdict::Fine),
            (&[2], &[2], Verdict::Note),
            (&[2], &[7], Verdict::Fails),
            (&[2], &[2, 7], Verdict::Fails),
            (&[], &[7], Verdict::Fails),
        ] {
            assert_eq!(judge(peer, at_vip).verdict, verdict, "{peer:?} {at_vip:?}");
        }
        let both = judge(&[2], &[2, 7]).result;
        assert_eq!(
            both,
            "10.0.0.9 answers from 02:00:00:00:00:07, which is not the peer"
        );
    }

    #[test]
    fn the_kernels_table_of_neighbours() {
        let table = "IP address       HW type     Flags       HW address            Mask     Device\n\
                     10.0.0.9         0x1         0x2         02:00:00:00:00:07     *        eth0\n\
                     10.0.0.8         0x1         0x0         00:00:00:00:00:00     *        eth0\n";
        let mac = |address: &str| in_arp_table(table, address.parse().unwrap());
        assert_eq!(mac("10.0.0.9"), Some([2, 0, 0, 0, 0, 7]));
        assert_eq!(mac("10.0.0.8"), None);
        assert_eq!(mac("10.0.0.7"), None);
    }

    #[test]
    fn networks() {
        for (network, address, inside) in [
            ("10.0.0.9/24", "10.0.0.200", true),
            ("10.0.0.9/24", "10.0.1.1", false),
            ("10.0.0.9/0", "192.0.2.1", true),
            ("2001:db8::9/64", "2001:db8::1", true),
            ("2001:db8::9/64", "10.0.0.1", false),
        ] {
            let (addr, prefix) = network.split_once('/').unwrap();
            let network = IpPrefix::new(addr.parse().unwrap(), prefix.parse().unwrap()).unwrap();
            assert_eq!(
                contains(network, address.parse().unwrap()),
                inside,
                "{network} {address}"
            );
        }
    }
}
