//! Does somebody else have the group's address? (Rule 11.)
//!
//! A VIP goes on without the kernel's duplicate address detection, because a takeover must not wait
//! for it. In its place the standby asks the segment who answers for the address, as RFC 5227
//! section 2.1.1 does for IPv4 and RFC 4862 section 5.4 for IPv6. The peer's answer is as it should
//! be; anybody else's is told to people and changes nothing: whether a takeover is safe does not
//! depend on it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use tandem_vrrp::arp::Mac;

/// What one round of questions brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// Hardware addresses of this host.
    pub own: BTreeSet<Mac>,
    /// Those that answered for an address of the peer's own.
    pub peer: BTreeSet<Mac>,
    /// Each VIP with those that answered for it.
    pub vips: BTreeMap<IpAddr, BTreeSet<Mac>>,
}

/// The answers for a VIP that are neither this host's nor the peer's, each with its address.
///
/// `known` are hardware addresses that the peer answered from before. Where none is known, because
/// the peer's own addresses are not in this segment, a peer that says that it carries the VIP is
/// taken for the one that answers, as long as it is one.
pub fn strangers(
    answers: &Answers,
    known: &BTreeSet<Mac>,
    peer_carries: bool,
) -> Vec<(IpAddr, Mac)> {
    let recognised =
        |mac: &Mac| answers.own.contains(mac) || answers.peer.contains(mac) || known.contains(mac);
    let faceless = known.is_empty() && answers.peer.is_empty();
    let mut out = Vec::new();
    for (vip, macs) in &answers.vips {
        let others: Vec<Mac> = macs
            .iter()
            .filter(|mac| !recognised(mac))
            .copied()
            .collect();
        if faceless && peer_carries && others.len() == 1 {
            continue;
        }
        out.extend(others.into_iter().map(|mac| (*vip, mac)));
    }
    out
}

/// A hardware address as people write it.
pub fn mac_text(mac: &Mac) -> String {
    let parts: Vec<String> = mac.iter().map(|byte| format!("{byte:02x}")).collect();
    parts.join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: u8 = 1;
    const PEER: u8 = 2;
    const STRANGER: u8 = 7;

    /// By the last byte of their hardware addresses.
    type Hosts = &'static [u8];

    fn macs(last: &[u8]) -> BTreeSet<Mac> {
        last.iter().map(|last| [2, 0, 0, 0, 0, *last]).collect()
    }

    #[test]
    fn only_a_third_host_is_a_duplicate() {
        let vip: IpAddr = "10.0.0.100".parse().unwrap();
        // Answered for the peer, for the VIP, known before, the peer carries the VIP; strangers.
        let cases: [(Hosts, Hosts, Hosts, bool, Hosts); 12] = [
            (&[PEER], &[], &[], true, &[]),
            (&[PEER], &[PEER], &[], true, &[]),
            (&[PEER], &[OWN], &[], true, &[]),
            (&[PEER], &[STRANGER], &[], true, &[STRANGER]),
            (&[PEER], &[PEER, STRANGER], &[], true, &[STRANGER]),
            (&[PEER], &[8, STRANGER], &[], true, &[STRANGER, 8]),
            // The peer's host is off; what it answered from is remembered.
            (&[], &[PEER], &[PEER], false, &[]),
            (&[], &[STRANGER], &[PEER], false, &[STRANGER]),
            // A new network card answers for the peer's own address too.
            (&[9], &[9], &[PEER], true, &[]),
            // The peer's addresses are elsewhere: one answer is its, two are one too many.
            (&[], &[PEER], &[], true, &[]),
            (&[], &[PEER, STRANGER], &[], true, &[PEER, STRANGER]),
            (&[], &[STRANGER], &[], false, &[STRANGER]),
        ];
        for (n, (peer, answered, known, carries, expected)) in cases.into_iter().enumerate() {
            let answers = Answers {
                own: macs(&[OWN]),
                peer: macs(peer),
                vips: [(vip, macs(answered))].into(),
            };
            let found: BTreeSet<Mac> = strangers(&answers, &macs(known), carries)
                .into_iter()
                .map(|(_, mac)| mac)
                .collect();
            assert_eq!(found, macs(expected), "case {n}");
        }
    }

    #[test]
    fn each_address_is_judged_by_itself() {
        let vips: [IpAddr; 2] = ["10.0.0.100", "2001:db8::100"].map(|ip| ip.parse().unwrap());
        let answers = Answers {
            own: macs(&[OWN]),
            peer: macs(&[PEER]),
            vips: [(vips[0], macs(&[PEER])), (vips[1], macs(&[STRANGER]))].into(),
        };
        let found = strangers(&answers, &BTreeSet::new(), true);
        assert_eq!(found, [(vips[1], [2, 0, 0, 0, 0, STRANGER])]);
        assert_eq!(mac_text(&found[0].1), "02:00:00:00:00:07");
    }
}
