//! Datagrams of strangers: decoded as IPv4 and as bare messages, and judged by a router.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use tandem_vrrp::packet::{Datagram, Message, Receiver};
use tandem_vrrp::settings::Settings;
use tandem_vrrp::{Family, Vrid};

fuzz_target!(|data: &[u8]| {
    let one = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    let group = IpAddr::V4(Ipv4Addr::new(224, 0, 0, 18));
    let _ = Message::decode(data, one, group);
    if let (Ok(datagram), Some(vrid)) = (Datagram::from_ipv4(data), Vrid::new(51)) {
        let settings = Settings::new(vrid, Family::Ipv4, vec![one]);
        let _ = Receiver::new().receive(&settings, None, &datagram, Duration::from_secs(1));
    }
});
