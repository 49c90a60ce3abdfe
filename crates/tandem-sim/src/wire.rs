//! Bytes between the hosts: adverts as datagrams with their HMAC trailer, statements in real sessions.
//!
//! Codecs and codes cost more than everything else in a run, so that only one run in [`ONE_IN`] is wired
//! like this; in the others adverts and statements pass as values. While faults go on, bytes are
//! changed, doubled, repeated from earlier and cut off. What is then taken for the other host's word
//! and was not, or is taken twice, breaks the rule `wire`.
//!
//! The chance here is a stream of its own, so that a seed has the same plan with and without.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use tandem_core::pair::PairInput;
use tandem_core::session::Secret;
use tandem_vrrp::packet::{
    AntiReplay, Datagram, DecodeError, HmacKey, HmacKeys, HmacMode, HmacSettings, Receiver, Sender,
};
use tandem_vrrp::settings::Settings as VrrpSettings;

use crate::chance::Chance;
use crate::talk::Talk;
use crate::world::{Ev, HOSTS, World, other};

/// One seed in so many runs on bytes.
const ONE_IN: u64 = 8;
/// Old frames that are kept to be repeated.
const OLD_MAX: usize = 16;
/// The wall clock at the beginning of a run, seconds since 1970.
const EPOCH_S: u64 = 1_700_000_000;
/// Bytes of the IPv4 header, which the kernel checks by itself.
const IP_HEADER: u64 = 20;

/// What only a run on bytes has.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) chance: Chance,
    pub(crate) secret: Secret,
    pub(crate) talks: [Talk; 2],
    /// Of a hundred frames so many meet with something, while faults go on.
    pub(crate) trouble: u64,
    radios: [Radio; 2],
}

/// One host's end of protocol 112.
#[derive(Debug, Default)]
struct Radio {
    settings: Option<VrrpSettings>,
    sender: Sender,
    receiver: Receiver,
    /// Adverts sent, across restarts of the daemon.
    sent: u64,
    /// The newest one of the other host that this daemon took.
    taken: u64,
    old: VecDeque<(u64, Vec<u8>)>,
}

/// What happens to bytes on their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mangling {
    /// A bit is turned.
    Changed,
    /// They come twice.
    Doubled,
    /// Something from earlier comes instead, or before them.
    Repeated,
    /// The end is missing, and so is everything after it.
    CutOff,
}

impl Wire {
    /// For this seed, if it is one of those.
    pub(crate) fn of_seed(seed: u64) -> Option<Self> {
        if !seed.is_multiple_of(ONE_IN) {
            return None;
        }
        let mut chance = Chance::new(!seed);
        let trouble = [0, 1, 4, 15][usize::try_from(chance.within(0, 4)).unwrap_or(0)];
        Some(Self {
            chance,
            secret: Secret::new(b"the hosts' shared secret, 32 bytes".to_vec()),
            talks: [Talk::default(), Talk::default()],
            trouble,
            radios: [Radio::default(), Radio::default()],
        })
    }

    /// What happens to the next bytes, if anything does.
    pub(crate) fn mangling(&mut self) -> Option<Mangling> {
        if !self.chance.percent(self.trouble) {
            return None;
        }
        Some(match self.chance.within(0, 4) {
            0 => Mangling::Changed,
            1 => Mangling::Doubled,
            2 => Mangling::Repeated,
            _ => Mangling::CutOff,
        })
    }

    /// Turns one bit at or after `from`.
    pub(crate) fn flip(&mut self, bytes: &mut [u8], from: u64) {
        let at = self.chance.within(from, bytes.len() as u64);
        let bit = self.chance.within(0, 8);
        if let Some(byte) = usize::try_from(at).ok().and_then(|at| bytes.get_mut(at)) {
            *byte ^= 1 << bit;
        }
    }

    /// The settings of the adverts, and new sockets: a daemon has started.
    pub(crate) fn daemon_started(&mut self, h: usize, mut settings: VrrpSettings) {
        let key = HmacKey::new(&self.secret.derive("vrrp main 51")).expect("a derived key fits");
        settings.hmac = Some(HmacSettings {
            keys: HmacKeys::new([(1, key)], 1).expect("key 1 is there"),
            mode: HmacMode::Enforce,
            anti_replay: AntiReplay::Counter,
        });
        let radio = &mut self.radios[h];
        radio.settings = Some(settings);
        radio.sender = Sender::new();
        radio.receiver = Receiver::new();
        radio.taken = 0;
    }
}

/// The address that a host's adverts come from.
pub(crate) fn own_address(h: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, if h == 0 { 1 } else { 2 }))
}

/// An advert on its way, as bytes.
#[derive(Clone, Debug)]
pub(crate) struct Flying {
    /// Its number among its sender's.
    number: u64,
    /// Nothing was changed.
    whole: bool,
    bytes: Vec<u8>,
}

impl World {
    fn unix_time(&self) -> Duration {
        Duration::from_secs(EPOCH_S) + Duration::from_micros(self.now)
    }

    /// The datagrams that reach the segment when this host sends an advert; `None` in a run on values.
    pub(crate) fn advert_bytes(&mut self, h: usize, priority: u8) -> Option<Vec<Flying>> {
        let unix_time = self.unix_time();
        let faults = self.healed_at.is_none();
        let wire = self.wire.as_mut()?;
        let radio = &mut wire.radios[h];
        let settings = radio.settings.as_ref()?;
        let sent = radio
            .sender
            .advert(settings, own_address(h), priority, unix_time);
        let bytes = sent.into_iter().next()?.bytes;
        radio.sent += 1;
        let flying = Flying {
            number: radio.sent,
            whole: true,
            bytes,
        };
        radio.old.push_back((flying.number, flying.bytes.clone()));
        if radio.old.len() > OLD_MAX {
            radio.old.pop_front();
        }
        let mut out = vec![flying.clone()];
        match wire.mangling().filter(|_| faults) {
            None => {}
            Some(Mangling::Doubled) => out.push(flying),
            Some(Mangling::Changed) => {
                wire.flip(&mut out[0].bytes, IP_HEADER);
                out[0].whole = false;
            }
            Some(Mangling::CutOff) => {
                let keep = wire.chance.within(0, flying.bytes.len() as u64);
                out[0].bytes.truncate(usize::try_from(keep).unwrap_or(0));
                out[0].whole = false;
            }
            Some(Mangling::Repeated) => {
                let radio = &wire.radios[h];
                let at = wire.chance.within(0, radio.old.len() as u64);
                if let Some((number, bytes)) = radio.old.get(usize::try_from(at).unwrap_or(0)) {
                    out.push(Flying {
                        number: *number,
                        whole: true,
                        bytes: bytes.clone(),
                    });
                }
            }
        }
        Some(out)
    }

    /// A datagram arrives and is judged as the product judges it.
    pub(crate) fn datagram_arrives(&mut self, to: usize, flying: &Flying) {
        if !self.hosts[to].powered || self.hosts[to].daemon.is_none() {
            return;
        }
        let unix_time = self.unix_time();
        let Some(wire) = self.wire.as_mut() else {
            return;
        };
        let radio = &mut wire.radios[to];
        let (Some(settings), Ok(datagram)) = (&radio.settings, Datagram::from_ipv4(&flying.bytes))
        else {
            return;
        };
        let own = Some(own_address(to));
        let judged = radio.receiver.receive(settings, own, &datagram, unix_time);
        match judged {
            Ok(received) => {
                let news = flying.number > radio.taken;
                radio.taken = flying.number;
                if !flying.whole || !news {
                    let what = if flying.whole { "twice" } else { "changed" };
                    let text = format!("{} takes an advert that came {what}", HOSTS[to]);
                    self.broken("wire", text);
                }
                self.talk_redials(to);
                self.advert_arrives(to, received);
            }
            Err(DecodeError::Vrid(_)) => {}
            Err(error) => {
                let source = own_address(other(to));
                self.feed(to, PairInput::Rejected { source, error });
            }
        }
    }

    /// Sends an advert as bytes. False in a run on values.
    pub(crate) fn send_datagrams(&mut self, h: usize, priority: u8) -> bool {
        let Some(datagrams) = self.advert_bytes(h, priority) else {
            return false;
        };
        let twice = self.chance.percent(self.weather.twice);
        for flying in datagrams {
            for _ in 0..if twice { 2 } else { 1 } {
                if let Some(lat) = self.wire_latency()
                    && !self.cuts.vrrp[h]
                {
                    let flying = Box::new(flying.clone());
                    self.after(
                        lat,
                        Ev::Datagram {
                            to: other(h),
                            flying,
                        },
                    );
                }
            }
        }
        true
    }
}
