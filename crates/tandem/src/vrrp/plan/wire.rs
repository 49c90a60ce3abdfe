//! What of a `vrrp_instance` the VRRP machine itself goes by: its settings.

use std::time::Duration;

use tandem_config::keepalived::{
    Auth as FileAuth, CheckSource, Checksum, HmacMode as FileHmacMode, InitialState, Instance,
    Preemption,
};
use tandem_vrrp::garp::Announcements;
use tandem_vrrp::packet::{
    AntiReplay, Dialect, HmacKey, HmacKeys, HmacMode, HmacSettings, PassKey,
};
use tandem_vrrp::settings::{AddressCheck, Auth, Preempt, Settings, Transport, UnicastPeer};
use tandem_vrrp::{Family, Priority, Version, Vrid};

/// The MTU that the capacity of an advert is reckoned with; a smaller one would fragment adverts of many addresses.
const MTU: usize = 1500;

pub(super) fn settings(instance: &Instance) -> Result<Settings, String> {
    let vrid = Vrid::new(instance.router_id).ok_or("virtual_router_id 0 does not exist")?;
    let family = if instance.is_ipv6() {
        Family::Ipv6
    } else {
        Family::Ipv4
    };
    let addresses = instance.addresses.iter().map(|line| line.address.addr);
    let mut settings = Settings::new(vrid, family, addresses.collect());
    settings.version = if instance.version == 3 {
        Version::V3
    } else {
        Version::V2
    };
    settings.priority = Priority::new(instance.priority).ok_or("priority 0 means to leave")?;
    settings.start_as_master = instance.state == InitialState::Master;
    settings.advert_interval = instance.advert_interval;
    settings.down_timer_adverts = instance.down_timer_adverts;
    settings.preempt = match instance.preemption {
        Preemption::Never => Preempt::Never,
        Preemption::After(Duration::ZERO) => Preempt::Always,
        Preemption::After(delay) => Preempt::After(delay),
    };
    settings.transport = transport(instance);
    settings.auth = match instance.auth {
        FileAuth::None => Auth::None,
        FileAuth::Pass(key) => Auth::Pass(pass(&key)?),
        FileAuth::Ah(key) => Auth::Ah(pass(&key)?),
    };
    settings.hmac = hmac(instance)?;
    settings.checksum = match instance.checksum {
        Checksum::Detect | Checksum::Standard => Dialect::A,
        Checksum::Old => Dialect::B,
        Checksum::AsV2 => Dialect::C,
    };
    settings.lower_prio_no_advert = instance.lower_prio_no_advert;
    settings.higher_prio_send_advert = instance.higher_prio_send_advert;
    settings.address_check = AddressCheck::Report;
    settings.owner_ignore_adverts = instance.owner_ignore_adverts;
    let garp = &instance.garp;
    settings.announcements = Announcements {
        repeat: garp.master_repeat,
        delay: garp.master_delay,
        refresh: garp.master_refresh,
        refresh_repeat: garp.master_refresh_repeat,
        lower_prio_repeat: garp.lower_prio_repeat.unwrap_or(garp.master_repeat),
        lower_prio_delay: garp.lower_prio_delay.unwrap_or(garp.master_delay),
        arp_interval: garp.arp_interval,
        na_interval: garp.na_interval,
    };
    // What does not fit an advert is installed all the same and not listed.
    let capacity = settings.capacity(MTU);
    settings.addresses.truncate(capacity);
    Ok(settings)
}

fn transport(instance: &Instance) -> Transport {
    if instance.unicast_peers.is_empty() {
        return Transport::Multicast {
            group: instance.multicast,
        };
    }
    let peers = instance.unicast_peers.iter().map(|peer| UnicastPeer {
        address: peer.address,
        // keepalived checks nothing unless the peer's line says so.
        min_ttl: peer.min_ttl.unwrap_or(0),
        max_ttl: peer.max_ttl.unwrap_or(255),
    });
    Transport::Unicast {
        peers: peers.collect(),
        check_source: instance.check_source == CheckSource::On,
        // keepalived leaves IPv6 to the kernel's default of 64, which a receiver that wants 255 drops.
        ttl: instance.unicast_ttl.unwrap_or(255),
    }
}

fn pass(key: &[u8; 8]) -> Result<PassKey, String> {
    PassKey::new(key).ok_or_else(|| "the password is empty".to_owned())
}

fn hmac(instance: &Instance) -> Result<Option<HmacSettings>, String> {
    let Some(hmac) = &instance.hmac else {
        return Ok(None);
    };
    let mut keys = Vec::new();
    for key in &hmac.keys {
        let value = HmacKey::new(&key.key).map_err(|error| error.to_string())?;
        keys.push((key.id, value));
    }
    Ok(Some(HmacSettings {
        keys: HmacKeys::new(keys, hmac.active_key).map_err(|error| error.to_string())?,
        mode: match hmac.mode {
            FileHmacMode::ReceiveOnly => HmacMode::ReceiveOnly,
            FileHmacMode::Permissive => HmacMode::Permissive,
            FileHmacMode::Enforce => HmacMode::Enforce,
        },
        anti_replay: match hmac.time_window {
            Some(window) => AntiReplay::Time(window),
            None => AntiReplay::Counter,
        },
    }))
}
