//! `vrrp_instance`.

use std::time::Duration;

use super::super::keywords;
use super::super::model::{
    Auth, AuthHmac, CheckSource, Checksum, GlobalDefs, HmacKey, HmacMode, InitialState, Instance,
    Notify, Preemption,
};
use super::super::tree::Node;
use super::super::words::Word;
use super::{Reader, address, globals, name_of, objects};
use crate::diagnostic::Diagnostic;

/// What the lines say before they are weighed against each other.
struct Raw<'n> {
    instance: Instance,
    interface: Option<String>,
    router_id: Option<u8>,
    version: Option<(u8, &'n Node)>,
    master: bool,
    nopreempt: Option<&'n Node>,
    preempt_delay: Option<(Duration, &'n Node)>,
    advert: Option<&'n Node>,
    auth: Option<&'n Node>,
    address_blocks: Vec<(&'n Node, bool)>,
    old_checksum: Option<Checksum>,
    v3_as_v2: bool,
    multicast_given: bool,
}

pub(super) fn read(node: &Node, global: &GlobalDefs, reader: &mut Reader<'_>) -> Option<Instance> {
    let (name, at) = name_of(node, reader)?;
    let mut raw = Raw {
        instance: Instance {
            name,
            at,
            state: InitialState::Backup,
            interface: String::new(),
            router_id: 0,
            priority: 100,
            priority_at: at,
            advert_interval: Duration::from_secs(1),
            version: global.vrrp_version,
            preemption: Preemption::After(Duration::ZERO),
            auth: Auth::None,
            hmac: None,
            addresses: Vec::new(),
            excluded: Vec::new(),
            no_addresses: false,
            source: None,
            track_source: false,
            multicast: global.mcast_group4,
            unicast_peers: Vec::new(),
            unicast_ttl: None,
            unicast_fault_no_peer: false,
            check_source: check_source(global.check_unicast_src),
            checksum: Checksum::Detect,
            track_scripts: Vec::new(),
            track_interfaces: Vec::new(),
            track_files: Vec::new(),
            track_processes: Vec::new(),
            dont_track_primary: false,
            garp: global.garp.clone(),
            down_timer_adverts: global.down_timer_adverts,
            lower_prio_no_advert: global.lower_prio_no_advert,
            higher_prio_send_advert: global.higher_prio_send_advert,
            skip_check_adv_addr: global.skip_check_adv_addr,
            owner_ignore_adverts: global.owner_ignore_adverts,
            timer_expired_backup: false,
            accept: true,
            notify: Notify::default(),
            notify_priority_changes: global.notify_priority_changes,
            promote_secondaries: false,
        },
        interface: global.default_interface.clone(),
        router_id: None,
        version: None,
        master: false,
        nopreempt: None,
        preempt_delay: None,
        advert: None,
        auth: None,
        address_blocks: Vec::new(),
        old_checksum: None,
        v3_as_v2: global.v3_checksum_as_v2,
        multicast_given: false,
    };
    reader.duplicates(node.lines());
    for line in node.lines() {
        keyword(line, global, &mut raw, reader);
    }
    finish(raw, global, reader)
}

fn check_source(on: bool) -> CheckSource {
    if on {
        CheckSource::On
    } else {
        CheckSource::Off
    }
}

fn text(reader: &mut Reader<'_>, line: &Node) -> Option<String> {
    reader.word(line).map(|word| word.text.clone())
}

fn keyword<'n>(line: &'n Node, global: &GlobalDefs, raw: &mut Raw<'n>, reader: &mut Reader<'_>) {
    let instance = &mut raw.instance;
    match line.keyword.text.as_str() {
        "state" => state(line, &mut raw.master, reader),
        "interface" => raw.interface = text(reader, line).or_else(|| raw.interface.take()),
        "virtual_router_id" => {
            raw.router_id = reader.number(line, 1..=255);
            reader.lost_words(line, 1);
        }
        "priority" => {
            if let Some(priority) = reader.number(line, 1..=255) {
                instance.priority = priority;
                instance.priority_at = line.span();
            }
            reader.lost_words(line, 1);
        }
        "advert_int" => {
            if let Some(interval) = reader.seconds(line, 10_000..=255_000_000) {
                instance.advert_interval = interval;
                raw.advert = Some(line);
            }
            reader.lost_words(line, 1);
        }
        "version" => raw.version = reader.number(line, 2..=3).map(|version| (version, line)),
        "nopreempt" => raw.nopreempt = Some(line),
        "preempt" => raw.nopreempt = None,
        "preempt_delay" => {
            raw.preempt_delay = reader
                .seconds(line, 0..=1_000_000_000)
                .map(|delay| (delay, line));
        }
        "authentication" => raw.auth = Some(line),
        "auth_hmac" => instance.hmac = hmac(line, reader),
        "virtual_ipaddress" => raw.address_blocks.push((line, false)),
        "virtual_ipaddress_excluded" => raw.address_blocks.push((line, true)),
        "no_virtual_ipaddress" => instance.no_addresses = true,
        "unicast_src_ip" | "mcast_src_ip" => instance.source = reader.address(line),
        "mcast_dst_ip" => {
            if let Some(group) = reader.address(line) {
                instance.multicast = group;
                raw.multicast_given = true;
            }
        }
        "unicast_peer" => instance.unicast_peers.extend(address::peers(line, reader)),
        "unicast_ttl" => instance.unicast_ttl = reader.number(line, 0..=255),
        "unicast_fault_no_peer" => instance.unicast_fault_no_peer = true,
        "check_unicast_src" => {
            instance.check_source = check_source(reader.flag(line).unwrap_or(true));
        }
        "old_unicast_checksum" => {
            let never = line.arg().is_some_and(|word| word.text == "never");
            raw.old_checksum = Some(if never {
                Checksum::Standard
            } else {
                Checksum::Old
            });
        }
        "v3_checksum_as_v2" => raw.v3_as_v2 = reader.flag(line).unwrap_or(true),
        "track_src_ip" => instance.track_source = true,
        "track_script" => instance
            .track_scripts
            .extend(objects::tracked(line, reader)),
        "track_file" => instance.track_files.extend(objects::tracked(line, reader)),
        "track_process" => instance
            .track_processes
            .extend(objects::tracked(line, reader)),
        "track_interface" => instance
            .track_interfaces
            .extend(objects::interfaces(line, reader)),
        "dont_track_primary" => instance.dont_track_primary = true,
        "down_timer_adverts" => {
            if let Some(adverts) = reader.number(line, 1..=100) {
                instance.down_timer_adverts = adverts;
            }
        }
        "lower_prio_no_advert" => {
            instance.lower_prio_no_advert = reader.flag(line).unwrap_or(true);
        }
        "higher_prio_send_advert" => {
            instance.higher_prio_send_advert = reader.flag(line).unwrap_or(true);
        }
        "skip_check_adv_addr" => {
            instance.skip_check_adv_addr = reader.flag(line).unwrap_or(true);
        }
        "owner_ignore_adverts" => {
            instance.owner_ignore_adverts = reader.flag(line).unwrap_or(true);
        }
        "timer_expired_backup" => {
            instance.timer_expired_backup = reader.flag(line).unwrap_or(true);
        }
        "accept" => instance.accept = true,
        "notify_priority_changes" => {
            instance.notify_priority_changes = reader.flag(line).unwrap_or(true);
        }
        "promote_secondaries" => instance.promote_secondaries = true,
        name => {
            let done = (!name.starts_with("vrrp_")
                && globals::garp(name, line, &mut instance.garp, reader))
                || objects::notify(line, global, &mut instance.notify, reader);
            if !done {
                reader.unacted(line, "vrrp_instance", keywords::INSTANCE);
            }
        }
    }
}

/// Once MASTER was given, a later BACKUP does not take it back; any other word means BACKUP.
fn state(line: &Node, master: &mut bool, reader: &mut Reader<'_>) {
    let Some(word) = reader.word(line) else {
        return;
    };
    match word.text.as_str() {
        "MASTER" => *master = true,
        "BACKUP" => {}
        _ => reader.findings.config_error(
            Diagnostic::warning("unknown-state", format!("unknown state `{}`", word.text))
                .at(word.at, "taken as BACKUP")
                .help("write state BACKUP or state MASTER, in capitals"),
        ),
    }
    reader.lost_words(line, 1);
}

fn finish(mut raw: Raw<'_>, global: &GlobalDefs, reader: &mut Reader<'_>) -> Option<Instance> {
    let at = raw.instance.at;
    let name = raw.instance.name.clone();
    if raw.router_id.is_none() {
        reader.findings.config_error(
            Diagnostic::error(
                "no-router-id",
                format!("instance `{name}` has no virtual_router_id"),
            )
            .at(at, "keepalived would drop the whole instance")
            .help("add virtual_router_id with a number from 1 to 255, the same on both hosts"),
        );
    }
    if raw.interface.is_none() {
        reader.findings.config_error(
            Diagnostic::error(
                "no-interface",
                format!("instance `{name}` has no interface"),
            )
            .at(at, "keepalived would drop the whole instance"),
        );
    }
    let interface = raw.interface.take().unwrap_or_default();
    if interface == "lo" {
        reader.findings.config_error(
            Diagnostic::error("loopback", "the loopback interface has no other host on it")
                .at(at, "keepalived would drop the whole instance")
                .help("write the interface that leads to the other host; an address may be put on lo with `dev lo`"),
        );
    }
    for (block, excluded) in std::mem::take(&mut raw.address_blocks) {
        let lines = address::addresses(block, &interface, reader);
        if excluded {
            raw.instance.excluded.extend(lines);
        } else {
            raw.instance.addresses.extend(lines);
        }
    }
    raw.instance.interface = interface;
    family(&mut raw, global);
    preemption(&mut raw, reader);
    advert_interval(&mut raw, reader);
    if let Some(node) = raw.auth {
        raw.instance.auth = authentication(node, raw.instance.version, reader);
    }
    raw.instance.checksum = match (raw.v3_as_v2, raw.old_checksum) {
        (true, _) => Checksum::AsV2,
        (false, Some(old)) => old,
        (false, None) => Checksum::Detect,
    };
    raw.instance.router_id = raw.router_id?;
    (!raw.instance.interface.is_empty()).then_some(raw.instance)
}

fn family(raw: &mut Raw<'_>, global: &GlobalDefs) {
    let ipv6 = raw.instance.is_ipv6();
    if let Some((version, _)) = raw.version {
        raw.instance.version = version;
    }
    if ipv6 {
        raw.instance.version = 3;
        if !raw.multicast_given {
            raw.instance.multicast = global.mcast_group6;
        }
    }
}

fn preemption(raw: &mut Raw<'_>, reader: &mut Reader<'_>) {
    let owner_or_master = raw.master || raw.instance.priority == 255;
    if raw.master {
        raw.instance.state = InitialState::Master;
    }
    let delay = raw.preempt_delay.map_or(Duration::ZERO, |(delay, _)| delay);
    raw.instance.preemption = match (raw.nopreempt, owner_or_master) {
        (Some(line), true) => {
            let why = if raw.master {
                "state MASTER"
            } else {
                "priority 255"
            };
            reader.findings.config_error(
                Diagnostic::warning(
                    "nopreempt-void",
                    format!("`nopreempt` has no effect with {why}"),
                )
                .at(
                    line.keyword.at,
                    "switched off by keepalived: this host takes the address back",
                )
                .help("write state BACKUP on both hosts to keep the address where it is"),
            );
            Preemption::After(Duration::ZERO)
        }
        (Some(_), false) => Preemption::Never,
        (None, true) => Preemption::After(Duration::ZERO),
        (None, false) => Preemption::After(delay),
    };
    if let Some((_, line)) = raw.preempt_delay
        && (owner_or_master || raw.nopreempt.is_some())
    {
        reader.findings.config_error(
            Diagnostic::warning("preempt-delay-void", "`preempt_delay` has no effect here").at(
                line.span(),
                "it needs state BACKUP, a priority below 255 and no nopreempt",
            ),
        );
    }
}

/// Version 2 counts whole seconds in one byte, version 3 centiseconds in twelve bits.
fn advert_interval(raw: &mut Raw<'_>, reader: &mut Reader<'_>) {
    let Some(line) = raw.advert else { return };
    let interval = raw.instance.advert_interval;
    if raw.instance.version == 2 {
        if interval.subsec_nanos() != 0 {
            reader.findings.config_error(
                Diagnostic::error(
                    "fractional-interval",
                    "version 2 of VRRP counts whole seconds",
                )
                .at(
                    line.span(),
                    "keepalived 2.2 would send every second, older ones without a pause",
                )
                .help("add `version 3` on both hosts, or write a whole number of seconds"),
            );
        }
    } else if interval > Duration::from_millis(40_950)
        || !interval.as_micros().is_multiple_of(10_000)
    {
        reader.findings.config_error(
            Diagnostic::error(
                "advert-interval",
                "version 3 of VRRP counts hundredths of a second",
            )
            .at(line.span(), "must be a multiple of 0.01, up to 40.95"),
        );
    }
}

fn authentication(node: &Node, version: u8, reader: &mut Reader<'_>) -> Auth {
    let mut kind: Option<&Word> = None;
    let mut pass: Option<&Word> = None;
    for line in node.lines() {
        match line.keyword.text.as_str() {
            "auth_type" => {
                kind = reader.word(line);
                if kind.is_some_and(|kind| !matches!(kind.text.as_str(), "PASS" | "AH")) {
                    reader.invalid(line, "PASS or AH");
                    kind = None;
                }
                reader.lost_words(line, 1);
            }
            "auth_pass" => {
                pass = reader.word(line);
                reader.lost_words(line, 1);
            }
            _ => reader.unacted(line, "authentication", &["auth_type", "auth_pass"]),
        }
    }
    if version == 3 {
        reader.findings.config_error(
            Diagnostic::warning("auth-with-v3", "version 3 of VRRP has no authentication")
                .at(node.keyword.at, "the whole block has no effect")
                .help("remove it; hosts with keepalived 2.4 can use auth_hmac"),
        );
        return Auth::None;
    }
    let Some(kind) = kind else {
        return Auth::None;
    };
    let Some(pass) = pass.filter(|pass| !pass.text.is_empty()) else {
        reader.findings.config_error(
            Diagnostic::warning("password-lost", "there is no password, so adverts are not authenticated")
                .at(node.keyword.at, "auth_type is given, but no auth_pass was read")
                .help("write auth_pass on a line of its own; both hosts must agree, so change them together"),
        );
        return Auth::None;
    };
    let bytes = pass.text.as_bytes();
    if bytes.len() > 8 {
        reader.findings.config_error(
            Diagnostic::warning("long-password", "only the first 8 bytes of auth_pass count")
                .at(
                    pass.at,
                    format!("{} bytes; the rest is cut off", bytes.len()),
                )
                .help("it is sent in the clear anyway: it keeps clusters apart, not attackers out"),
        );
    }
    let mut key = [0; 8];
    for (to, from) in key.iter_mut().zip(bytes) {
        *to = *from;
    }
    if kind.text == "AH" {
        Auth::Ah(key)
    } else {
        Auth::Pass(key)
    }
}

fn hmac(node: &Node, reader: &mut Reader<'_>) -> Option<AuthHmac> {
    let mut hmac = AuthHmac {
        keys: Vec::new(),
        active_key: 0,
        time_window: None,
        mode: HmacMode::Enforce,
    };
    let mut by_time = false;
    let mut window = None;
    for line in node.lines() {
        match line.keyword.text.as_str() {
            "key" => match line.args.as_slice() {
                [id, key, ..] if (32..=64).contains(&key.text.len()) => {
                    match id.text.parse::<u8>() {
                        Ok(id) if id > 0 => hmac.keys.push(HmacKey {
                            id,
                            key: key.text.clone().into_bytes(),
                        }),
                        Ok(_) | Err(_) => reader.invalid(line, "an id from 1 to 255 and a key"),
                    }
                }
                _ => reader.invalid(line, "an id from 1 to 255 and a key of 32 to 64 bytes"),
            },
            "active_key" => hmac.active_key = reader.number(line, 1..=255).unwrap_or(0),
            "anti_replay" => by_time = line.arg().is_some_and(|word| word.text == "time"),
            "time_window" => window = reader.number::<u64>(line, 1..=300).map(Duration::from_secs),
            "mode" => match line.arg().map(|word| word.text.as_str()) {
                Some("receive-only") => hmac.mode = HmacMode::ReceiveOnly,
                Some("permissive") => hmac.mode = HmacMode::Permissive,
                Some("enforce") => hmac.mode = HmacMode::Enforce,
                Some(_) | None => reader.invalid(line, "receive-only, permissive or enforce"),
            },
            _ => reader.unacted(
                line,
                "auth_hmac",
                &["key", "active_key", "anti_replay", "time_window", "mode"],
            ),
        }
    }
    if by_time {
        // keepalived's default is the larger of three adverts and five seconds; five covers every usual interval.
        hmac.time_window = Some(window.unwrap_or(Duration::from_secs(5)));
    }
    if hmac.keys.iter().all(|key| key.id != hmac.active_key) {
        reader.findings.config_error(
            Diagnostic::error("no-active-key", "auth_hmac has no key for `active_key`")
                .at(node.keyword.at, "adverts could not be signed"),
        );
        return None;
    }
    Some(hmac)
}
