//! Asking the segment who has the group's addresses (rule 11): one round, on a task of its own.
//!
//! What the answers mean is the keeper's to say. Nothing here waits in the way of anything: a round that fails or comes late
//! is told when it ends.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use tandem_core::rules::duplicate::Answers;
use tandem_vrrp::arp::Mac;

use crate::linux::addr::{Addresses, link_local_ipv6};
use crate::linux::neighbour::{Question, ask};

/// How long answers are listened for. A host answers within milliseconds; a sleepy one within this.
pub(crate) const LISTEN: Duration = Duration::from_secs(1);

/// Asks for the VIPs and for the peer's own addresses, by which its answers are known. The error is in words.
pub(crate) async fn look(
    interface: &str,
    vips: &[IpAddr],
    peers: &[IpAddr],
) -> Result<Answers, String> {
    let on = |error: std::io::Error| format!("{interface}: {error}");
    let mut addresses = Addresses::open().map_err(on)?;
    let links = addresses.links().map_err(on)?;
    let entries = addresses.addresses().map_err(on)?;
    let link = links
        .iter()
        .find(|link| link.name == interface)
        .ok_or_else(|| format!("{interface}: there is no such interface"))?;
    let found = ask(
        link,
        &questions(vips, peers, link_local_ipv6(&entries, link.index)),
        LISTEN,
    )
    .await
    .map_err(on)?;
    // Whichever interface of this host is in the segment, its answers are ours.
    let own = links.iter().filter_map(|link| link.mac).collect();
    Ok(sorted(found, own, vips, peers))
}

/// The peer is asked as an ordinary neighbour: a host that boots must not lose its own address to the question.
fn questions(vips: &[IpAddr], peers: &[IpAddr], own: Option<Ipv6Addr>) -> Vec<Question> {
    let of_vip = vips.iter().map(|vip| Question {
        address: *vip,
        source: None,
    });
    let of_peer = peers
        .iter()
        .filter(|peer| peer.is_ipv4() || own.is_some())
        .map(|peer| Question {
            address: *peer,
            source: own,
        });
    of_vip.chain(of_peer).collect()
}

fn sorted(
    mut found: BTreeMap<IpAddr, BTreeSet<Mac>>,
    own: BTreeSet<Mac>,
    vips: &[IpAddr],
    peers: &[IpAddr],
) -> Answers {
    let peer = peers
        .iter()
        .filter_map(|peer| found.get(peer))
        .flatten()
        .copied()
        .collect();
    found.retain(|address, _| vips.contains(address));
    Answers {
        own,
        peer,
        vips: found,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_asked_as_a_neighbour_or_not_at_all() {
        let ip = |text: &str| -> IpAddr { text.parse().unwrap() };
        let (vip, peer4, peer6) = (ip("2001:db8::100"), ip("10.0.0.1"), ip("2001:db8::1"));
        let own = Some("fe80::2".parse().unwrap());
        let sources = |own| -> Vec<(IpAddr, Option<Ipv6Addr>)> {
            questions(&[vip], &[peer4, peer6], own)
                .into_iter()
                .map(|question| (question.address, question.source))
                .collect()
        };
        assert_eq!(sources(own), [(vip, None), (peer4, own), (peer6, own)]);
        assert_eq!(sources(None), [(vip, None), (peer4, None)]);
    }

    #[test]
    fn answers_are_told_apart_by_what_was_asked() {
        let ip = |last: u8| IpAddr::from([10, 0, 0, last]);
        let mac = |last: u8| [2, 0, 0, 0, 0, last];
        let found = [
            (ip(100), [mac(1), mac(7)].into()),
            (ip(1), [mac(1)].into()),
            (ip(9), [mac(9)].into()),
        ];
        let answers = sorted(found.into(), [mac(2)].into(), &[ip(100)], &[ip(1), ip(3)]);
        let expected = Answers {
            own: [mac(2)].into(),
            peer: [mac(1)].into(),
            vips: [(ip(100), [mac(1), mac(7)].into())].into(),
        };
        assert_eq!(answers, expected);
    }
}
