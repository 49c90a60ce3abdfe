//! Replays stored datagrams, whole, cut at every length and with every bit flipped: decoding never
//! panics, and what decodes encodes to something that decodes to the same.
//!
//! A file is 4 and an IPv4 datagram, or 6, hop limit, source, destination and an IPv6 payload: the
//! form that the fuzz target takes, so that what it finds can be dropped in.

mod common;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;
use std::time::Duration;

use common::{ip, ms, settings};
use proptest::prelude::*;
use tandem_vrrp::packet::{
    AH_LEN, AhHeader, AntiReplay, AuthField, Datagram, Dialect, HmacKey, HmacKeys, HmacMode,
    HmacSettings, Message, PROTOCOL_AH, PassKey, Receiver, TRAILER_LEN, Trailer,
};
use tandem_vrrp::settings::{Auth, Settings, Transport};
use tandem_vrrp::{Family, Version, Vrid};

fn datagram(data: &[u8]) -> Option<Datagram<'_>> {
    match data.split_first()? {
        (4, bytes) => Datagram::from_ipv4(bytes).ok(),
        (6, bytes) => {
            let (hop_limit, bytes) = bytes.split_first()?;
            let (source, bytes) = bytes.split_first_chunk::<16>()?;
            let (destination, payload) = bytes.split_first_chunk::<16>()?;
            let (source, destination) = (Ipv6Addr::from(*source), Ipv6Addr::from(*destination));
            Some(Datagram::from_ipv6(
                source,
                destination,
                *hop_limit,
                payload,
            ))
        }
        _ => None,
    }
}

/// Routers of every kind, none of which cares for the TTL's or address list's sake.
fn routers() -> Vec<Settings> {
    let key = PassKey::new(b"secret12").expect("not empty");
    let hmac_key = HmacKey::new(&[7; 32]).expect("32 bytes");
    let keys = HmacKeys::new([(1, hmac_key)], 1).expect("key 1 is there");
    let hmac = HmacSettings {
        keys,
        mode: HmacMode::Enforce,
        anti_replay: AntiReplay::Counter,
    };
    let v2 = |auth| Settings {
        version: Version::V2,
        advert_interval: ms(1000),
        auth,
        ..settings(100)
    };
    let six = Settings::new(
        Vrid::new(51).expect("not zero"),
        Family::Ipv6,
        vec![ip("fe80::100")],
    );
    let bases = [
        v2(Auth::None),
        v2(Auth::Pass(key)),
        v2(Auth::Ah(key)),
        settings(100),
        six,
    ];
    let with_hmac = bases.clone().map(|base| Settings {
        hmac: Some(hmac.clone()),
        ..base
    });
    let multicast = bases.into_iter().chain(with_hmac);
    let unicast = |base: Settings| Settings {
        transport: Transport::Unicast {
            peers: Vec::new(),
            check_source: false,
            ttl: 255,
        },
        ..base
    };
    multicast
        .flat_map(|base| [base.clone(), unicast(base)])
        .collect()
}

/// Puts `data` through every decoder; which ones took it.
fn digest(data: &[u8], routers: &[Settings]) -> BTreeSet<&'static str> {
    let mut took = BTreeSet::new();
    let Some(datagram) = datagram(data) else {
        return took;
    };
    let bytes = datagram.message_bytes();
    if datagram.protocol == PROTOCOL_AH && !bytes.is_empty() {
        took.insert("AH header");
    }
    if let Ok(decoded) = Message::decode(bytes, datagram.source, datagram.destination) {
        assert!(decoded.len <= bytes.len());
        let again = decoded
            .message
            .encode(datagram.source, datagram.destination, decoded.dialect);
        assert_eq!(again.len(), decoded.len);
        let second =
            Message::decode(&again, datagram.source, datagram.destination).expect("we encoded it");
        assert_eq!(second.message, decoded.message);
        assert_eq!(second.dialect, decoded.dialect);
        assert_eq!(
            second
                .message
                .encode(datagram.source, datagram.destination, second.dialect),
            again
        );
        took.insert(match (decoded.message.version, datagram.source) {
            (Version::V2, _) => "v2",
            (Version::V3, IpAddr::V4(_)) => "v3 IPv4",
            (Version::V3, IpAddr::V6(_)) => "v3 IPv6",
        });
        if let Ok(trailer) = Trailer::decode(&bytes[decoded.len..]) {
            assert_eq!(trailer.encode(), bytes[decoded.len..]);
            took.insert("trailer");
        }
    }
    let mut receiver = Receiver::new();
    for settings in routers {
        if let Ok(received) = receiver.receive(
            settings,
            None,
            &datagram,
            Duration::from_secs(1_700_000_000),
        ) {
            took.insert(if received.authenticated {
                "authenticated"
            } else {
                "accepted"
            });
        }
    }
    took
}

#[test]
fn the_corpus_decodes_or_fails_in_peace() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the corpus is there")
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "bin"))
        .collect();
    files.sort();
    assert!(files.len() >= 15, "only {} files", files.len());
    let routers = routers();
    let mut took = BTreeSet::new();
    for path in files {
        let data = std::fs::read(&path).expect("a readable file");
        let whole = digest(&data, &routers);
        let good = path
            .file_name()
            .is_some_and(|name| !name.to_string_lossy().starts_with("bad-"));
        let accepted = whole.contains("accepted") || whole.contains("authenticated");
        assert_eq!(accepted, good, "{}", path.display());
        took.extend(whole);
        for len in 0..data.len() {
            digest(&data[..len], &routers);
        }
        let mut flipped = data;
        for bit in 0..flipped.len().min(128) * 8 {
            flipped[bit / 8] ^= 1 << (bit % 8);
            digest(&flipped, &routers);
            flipped[bit / 8] ^= 1 << (bit % 8);
        }
    }
    let all = [
        "AH header",
        "accepted",
        "authenticated",
        "trailer",
        "v2",
        "v3 IPv4",
        "v3 IPv6",
    ];
    assert_eq!(
        took,
        BTreeSet::from(all),
        "every path of the decoders is reached"
    );
}

fn message() -> impl Strategy<Value = Message> {
    let auth = prop_oneof![
        Just(AuthField::None),
        any::<[u8; 8]>().prop_map(AuthField::Pass),
        Just(AuthField::Ah)
    ];
    let addresses = proptest::collection::vec(any::<[u8; 4]>().prop_map(IpAddr::from), 0..=255);
    (
        any::<bool>(),
        1u8..=255,
        any::<u8>(),
        0u16..4096,
        addresses,
        auth,
    )
        .prop_map(|(v2, vrid, priority, units, addresses, auth)| Message {
            version: if v2 { Version::V2 } else { Version::V3 },
            vrid: Vrid::new(vrid).expect("from 1"),
            priority,
            interval_units: if v2 { units & 0xff } else { units },
            addresses,
            auth: if v2 { auth } else { AuthField::None },
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn messages_survive_the_wire(message in message(), a in any::<[u8; 4]>(), b in any::<[u8; 4]>()) {
        let (source, destination) = (IpAddr::from(a), IpAddr::from(b));
        for dialect in [Dialect::A, Dialect::B, Dialect::C] {
            let bytes = message.encode(source, destination, dialect);
            prop_assert_eq!(bytes.len(), message.encoded_len(Family::Ipv4));
            let decoded = Message::decode(&bytes, source, destination).expect("we encoded it");
            prop_assert_eq!(&decoded.message, &message);
        }
    }

    #[test]
    fn headers_survive_the_wire(bytes in any::<[u8; AH_LEN]>(), tail in any::<[u8; TRAILER_LEN]>()) {
        let mut ah = bytes;
        ah[..4].copy_from_slice(&[112, 4, 0, 0]);
        let (header, rest) = AhHeader::decode(&ah).expect("next header and length are right");
        prop_assert!(rest.is_empty());
        prop_assert_eq!(header.encode(), ah);
        let mut trailer = tail;
        trailer[0] = 1;
        trailer[2..4].fill(0);
        prop_assert_eq!(Trailer::decode(&trailer).expect("type and reserved are right").encode(), trailer);
    }

    #[test]
    fn strangers_bytes_never_panic(data in proptest::collection::vec(any::<u8>(), 0..200)) {
        let routers = routers();
        for first in [4, 6] {
            let mut data = data.clone();
            data.insert(0, first);
            digest(&data, &routers);
        }
    }
}
