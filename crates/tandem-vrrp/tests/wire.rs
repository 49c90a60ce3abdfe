//! Sender and receiver against each other, and every reason to drop an advert.

mod common;

use std::net::IpAddr;
use std::time::Duration;

use common::{ip, ms, settings};
use tandem_vrrp::packet::{
    AntiReplay, CounterKind, Datagram, DecodeError, Dialect, HmacKey, HmacKeys, HmacMode,
    HmacSettings, PassKey, Received, Receiver, Sender,
};
use tandem_vrrp::settings::{AddressCheck, Auth, Settings, Transport, UnicastPeer};
use tandem_vrrp::{Family, Priority, Version, Vrid};

const NOW: Duration = Duration::from_secs(1_700_000_000);

fn v2(auth: Auth) -> Settings {
    Settings {
        version: Version::V2,
        advert_interval: ms(1000),
        auth,
        ..settings(150)
    }
}

fn unicast(base: Settings, peer: UnicastPeer, check_source: bool) -> Settings {
    Settings {
        transport: Transport::Unicast {
            peers: vec![peer],
            check_source,
            ttl: 255,
        },
        ..base
    }
}

fn hmac(mode: HmacMode) -> Option<HmacSettings> {
    let key = HmacKey::new(&[7; 32]).expect("32 bytes");
    let keys = HmacKeys::new([(1, key)], 1).expect("key 1 is there");
    Some(HmacSettings {
        keys,
        mode,
        anti_replay: AntiReplay::Time(Duration::from_secs(5)),
    })
}

/// One IPv4 datagram from 10.99.0.1.
fn sent(settings: &Settings) -> Vec<u8> {
    let mut sent = Sender::new().advert(settings, ip("10.99.0.1"), 150, NOW);
    assert_eq!(sent.len(), 1);
    sent.remove(0).bytes
}

fn judged(settings: &Settings, bytes: &[u8]) -> Result<Received, DecodeError> {
    let datagram = Datagram::from_ipv4(bytes)?;
    Receiver::new().receive(settings, Some(ip("10.99.0.2")), &datagram, NOW)
}

#[test]
fn what_is_sent_is_received_in_every_form() {
    let key = PassKey::new(b"secret12").expect("not empty");
    let peer = UnicastPeer::on_link(ip("10.99.0.1"));
    for (name, s) in [
        ("v2", v2(Auth::None)),
        ("v2 PASS", v2(Auth::Pass(key))),
        ("v2 AH", v2(Auth::Ah(key))),
        ("v3", settings(150)),
        (
            "v3 C",
            Settings {
                checksum: Dialect::C,
                ..settings(150)
            },
        ),
        (
            "v3 HMAC",
            Settings {
                hmac: hmac(HmacMode::Enforce),
                ..settings(150)
            },
        ),
        (
            "v2 HMAC",
            Settings {
                hmac: hmac(HmacMode::Permissive),
                ..v2(Auth::None)
            },
        ),
    ] {
        let received = judged(&s, &sent(&s)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(
            (received.source, received.priority),
            (ip("10.99.0.1"), 150),
            "{name}"
        );
        assert_eq!(received.interval, s.advert_interval, "{name}");
        assert!(received.same_addresses, "{name}");
        assert_eq!(received.authenticated, s.hmac.is_some(), "{name}");
        // Unicast to 10.99.0.1 as sent by its peer; turned round for the receiver.
        let to_us = unicast(s.clone(), UnicastPeer::on_link(ip("10.99.0.2")), true);
        let ours = unicast(s, peer, true);
        assert!(judged(&ours, &sent(&to_us)).is_ok(), "{name} unicast");
    }
}

#[test]
fn ipv6_in_both_modes() {
    let addresses = vec![ip("fe80::100"), ip("2001:db8::100")];
    let s = Settings::new(Vrid::new(51).expect("not zero"), Family::Ipv6, addresses);
    let sent = Sender::new().advert(&s, ip("fe80::1"), 100, NOW);
    assert_eq!((sent[0].destination, sent[0].ttl), (ip("ff02::12"), 255));
    let (IpAddr::V6(source), IpAddr::V6(group)) = (ip("fe80::1"), sent[0].destination) else {
        panic!("IPv6 was asked for");
    };
    let judge = |hop_limit| {
        let datagram = Datagram::from_ipv6(source, group, hop_limit, &sent[0].bytes);
        Receiver::new().receive(&s, Some(ip("fe80::2")), &datagram, NOW)
    };
    assert_eq!(judge(255).map(|received| received.priority), Ok(100));
    assert_eq!(
        judge(64),
        Err(DecodeError::Ttl {
            got: 64,
            min: 255,
            max: 255
        })
    );
}

#[test]
fn each_peer_gets_its_own_checksum_and_one_identification() {
    let peers = ["10.99.0.2", "10.99.0.3"]
        .map(|peer| UnicastPeer::on_link(ip(peer)))
        .to_vec();
    let mut s = settings(150);
    s.transport = Transport::Unicast {
        peers,
        check_source: true,
        ttl: 255,
    };
    let mut sender = Sender::new();
    let first = sender.advert(&s, ip("10.99.0.1"), 150, NOW);
    let second = sender.advert(&s, ip("10.99.0.1"), 150, NOW);
    assert_ne!(
        first[0].bytes[26..28],
        first[1].bytes[26..28],
        "VRRP checksums"
    );
    let id = |bytes: &[u8]| u16::from_be_bytes([bytes[4], bytes[5]]);
    assert_eq!(
        (
            id(&first[0].bytes),
            id(&first[1].bytes),
            id(&second[0].bytes)
        ),
        (1, 1, 2)
    );
    assert_eq!(
        first[0].bytes[26..28],
        [0x18, 0xb5],
        "the golden vector to 10.99.0.2"
    );
}

#[test]
fn all_dialects_are_heard_and_named() {
    let ours = unicast(settings(100), UnicastPeer::on_link(ip("10.99.0.1")), true);
    for dialect in [Dialect::A, Dialect::B, Dialect::C] {
        let theirs = Settings {
            checksum: dialect,
            ..settings(150)
        };
        let theirs = unicast(theirs, UnicastPeer::on_link(ip("10.99.0.2")), true);
        assert_eq!(
            judged(&ours, &sent(&theirs)).map(|received| received.dialect),
            Ok(dialect)
        );
    }
}

#[test]
fn every_reason_to_drop() {
    let key = |word: &[u8]| PassKey::new(word).expect("not empty");
    let ours = settings(100);
    let good = sent(&ours);
    let with = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        bytes
    };
    let interval = Settings {
        advert_interval: ms(2000),
        ..v2(Auth::None)
    };
    let addresses = Settings {
        addresses: vec![ip("10.99.0.7")],
        ..ours.clone()
    };
    let cases = [
        (&ours, good[..19].to_vec(), CounterKind::PacketLength),
        (
            &ours,
            good[..good.len() - 1].to_vec(),
            CounterKind::PacketLength,
        ),
        (
            &ours,
            [&good[..], &[0; 20]].concat(),
            CounterKind::PacketLength,
        ),
        (&ours, with(8, 254), CounterKind::Ttl),
        (&ours, with(9, 51), CounterKind::AuthTypeMismatch),
        (&ours, with(16, 10), CounterKind::Misdirected),
        (&ours, with(15, 2), CounterKind::Misdirected),
        (&ours, with(20, 0x51), CounterKind::Version),
        (&ours, with(20, 0x33), CounterKind::InvalidType),
        (&ours, with(22, 151), CounterKind::Checksum),
        (&ours, sent(&v2(Auth::None)), CounterKind::Version),
        (
            &ours,
            sent(&Settings {
                vrid: Vrid::new(9).expect("not zero"),
                ..ours.clone()
            }),
            CounterKind::Vrid,
        ),
        (&v2(Auth::None), sent(&interval), CounterKind::Interval),
        (
            &v2(Auth::None),
            sent(&v2(Auth::Pass(key(b"a")))),
            CounterKind::AuthTypeMismatch,
        ),
        (
            &v2(Auth::Pass(key(b"a"))),
            sent(&v2(Auth::None)),
            CounterKind::AuthTypeMismatch,
        ),
        (
            &v2(Auth::Pass(key(b"a"))),
            sent(&v2(Auth::Pass(key(b"b")))),
            CounterKind::AuthFailure,
        ),
        (
            &v2(Auth::Ah(key(b"a"))),
            sent(&v2(Auth::Ah(key(b"b")))),
            CounterKind::AuthFailure,
        ),
        (
            &v2(Auth::Ah(key(b"a"))),
            sent(&v2(Auth::None)),
            CounterKind::AuthTypeMismatch,
        ),
        (
            &Settings {
                address_check: AddressCheck::Drop,
                ..ours.clone()
            },
            sent(&addresses),
            CounterKind::AddressList,
        ),
        (
            &Settings {
                hmac: hmac(HmacMode::Enforce),
                ..ours.clone()
            },
            good.clone(),
            CounterKind::HmacMissing,
        ),
        (
            &ours,
            sent(&Settings {
                hmac: hmac(HmacMode::Enforce),
                ..ours.clone()
            }),
            CounterKind::HmacMissing,
        ),
        (
            &Settings {
                owner_ignore_adverts: true,
                priority: Priority::OWNER,
                ..ours.clone()
            },
            good.clone(),
            CounterKind::Misdirected,
        ),
    ];
    for (number, (settings, bytes, counter)) in cases.into_iter().enumerate() {
        let error = judged(settings, &bytes).expect_err(&format!("case {number}"));
        assert_eq!(error.counter(), counter, "case {number}: {error}");
    }
    assert!(judged(&ours, &good).is_ok());
}

#[test]
fn padding_of_short_frames_is_no_error() {
    let s = settings(100);
    let mut padded = sent(&s);
    padded.resize(46, 0);
    assert!(judged(&s, &padded).is_ok());
    padded.resize(50, 0);
    assert!(judged(&s, &padded).is_ok(), "a VLAN tag was removed");
    padded.resize(51, 0);
    assert_eq!(
        judged(&s, &padded).map_err(|error| error.counter()),
        Err(CounterKind::PacketLength)
    );
}

#[test]
fn a_differing_list_is_reported_and_an_owner_may() {
    let theirs = Settings {
        addresses: vec![ip("10.99.0.7")],
        ..settings(100)
    };
    assert_eq!(
        judged(&settings(100), &sent(&theirs)).map(|received| received.same_addresses),
        Ok(false)
    );
    let strict = Settings {
        address_check: AddressCheck::Drop,
        ..settings(100)
    };
    let owner = Sender::new()
        .advert(&theirs, ip("10.99.0.1"), 255, NOW)
        .remove(0);
    assert!(judged(&strict, &owner.bytes).is_ok());
}

#[test]
fn unicast_source_and_distance() {
    let theirs = unicast(settings(150), UnicastPeer::on_link(ip("10.99.0.2")), true);
    let bytes = sent(&theirs);
    let stranger = UnicastPeer::on_link(ip("10.99.0.9"));
    let refused = judged(&unicast(settings(100), stranger, true), &bytes);
    assert_eq!(refused, Err(DecodeError::Source(ip("10.99.0.1"))));
    assert!(
        judged(&unicast(settings(100), stranger, false), &bytes).is_ok(),
        "as keepalived without the check"
    );
    let mut routed = bytes;
    routed[8] = 60;
    let on_link = unicast(settings(100), UnicastPeer::on_link(ip("10.99.0.1")), true);
    assert_eq!(
        judged(&on_link, &routed),
        Err(DecodeError::Ttl {
            got: 60,
            min: 255,
            max: 255
        })
    );
    let far = unicast(settings(100), UnicastPeer::routed(ip("10.99.0.1")), true);
    assert!(judged(&far, &routed).is_ok());
}

#[test]
fn replays_are_dropped_until_the_sender_was_silent() {
    let key = PassKey::new(b"k").expect("not empty");
    for s in [
        v2(Auth::Ah(key)),
        Settings {
            hmac: hmac(HmacMode::Enforce),
            ..settings(100)
        },
    ] {
        let mut sender = Sender::new();
        let mut receiver = Receiver::new();
        let mut judge = |bytes: &[u8], at: Duration| {
            let datagram = Datagram::from_ipv4(bytes).expect("our own header");
            receiver
                .receive(&s, None, &datagram, at)
                .map_err(|error| error.counter())
        };
        let first = sender.advert(&s, ip("10.99.0.1"), 150, NOW).remove(0).bytes;
        let second = sender.advert(&s, ip("10.99.0.1"), 150, NOW).remove(0).bytes;
        assert!(judge(&first, NOW).is_ok());
        assert!(judge(&second, NOW).is_ok());
        assert!(matches!(
            judge(&first, NOW),
            Err(CounterKind::AuthFailure | CounterKind::HmacReplay)
        ));
        // A restarted keepalived begins its AH sequence at 1.
        let begun = if s.hmac.is_none() {
            Duration::ZERO
        } else {
            NOW + ms(4500)
        };
        let restarted = Sender::new()
            .advert(&s, ip("10.99.0.1"), 150, begun)
            .remove(0)
            .bytes;
        assert!(
            judge(&restarted, NOW + ms(4500)).is_ok(),
            "a restarted sender is heard again"
        );
    }
}

#[test]
fn an_ah_sequence_goes_on_from_everything_that_was_sent_and_heard() {
    let key = PassKey::new(b"k").expect("not empty");
    let s = v2(Auth::Ah(key));
    let advert = |sender: &mut Sender, at: Duration| {
        sender.advert(&s, ip("10.99.0.1"), 150, at).remove(0).bytes
    };
    let sequence = |bytes: &[u8]| {
        bytes[28..32]
            .iter()
            .fold(0, |sum, byte| sum << 8 | u32::from(*byte))
    };

    let mut ours = Sender::new();
    let (first, second) = (advert(&mut ours, NOW), advert(&mut ours, NOW));
    assert_eq!(sequence(&first), 1_700_000_001, "begins with the time");
    assert_eq!(sequence(&second), sequence(&first) + 1);
    let again = advert(&mut Sender::new(), NOW + ms(2000));
    assert!(sequence(&again) > sequence(&second), "after a restart");

    // keepalived begins with 1, and when it has heard us goes on from there; so do we from what it sends.
    let mut theirs = Sender::new();
    assert_eq!(sequence(&advert(&mut theirs, Duration::ZERO)), 1);
    theirs.continue_after(sequence(&second) + 1000);
    let mut receiver = Receiver::new();
    let heard = advert(&mut theirs, NOW);
    let datagram = Datagram::from_ipv4(&heard).expect("our own header");
    assert!(receiver.receive(&s, None, &datagram, NOW).is_ok());
    ours.continue_after(receiver.highest_ah_sequence());
    assert_eq!(sequence(&advert(&mut ours, NOW)), sequence(&heard) + 1);
}

#[test]
fn a_rollout_of_hmac_drops_nothing() {
    let with = |mode| Settings {
        hmac: hmac(mode),
        ..settings(100)
    };
    let steps = [
        HmacMode::ReceiveOnly,
        HmacMode::Permissive,
        HmacMode::Enforce,
    ];
    for (earlier, later) in steps.into_iter().zip(steps.into_iter().skip(1)) {
        assert!(
            judged(&with(earlier), &sent(&with(later))).is_ok(),
            "{earlier:?} hears {later:?}"
        );
    }
    assert!(
        judged(
            &with(HmacMode::Permissive),
            &sent(&with(HmacMode::ReceiveOnly))
        )
        .is_ok()
    );
    assert!(judged(&with(HmacMode::Enforce), &sent(&with(HmacMode::Permissive))).is_ok());
    assert!(
        judged(&with(HmacMode::ReceiveOnly), &sent(&settings(100))).is_ok(),
        "a peer not yet upgraded"
    );
}
