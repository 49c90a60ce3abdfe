//! `global_defs`.

use std::path::PathBuf;
use std::time::Duration;

use super::super::keywords;
use super::super::model::{FifoDef, GlobalDefs};
use super::super::tree::Node;
use super::Reader;

/// The longest timer that keepalived stores: 32 bits of microseconds.
const TIMER_MAX_US: u64 = 4_294_967_295;

pub(super) fn read(node: &Node, global: &mut GlobalDefs, reader: &mut Reader<'_>) {
    let lines = node.lines();
    reader.duplicates(lines);
    // Scripts may name no user; the default may stand below them.
    if let Some(line) = lines
        .iter()
        .rfind(|line| line.keyword.text == "script_user")
        && let Some(user) = reader.word(line)
    {
        let group = line.args.get(1).map(|word| word.text.clone());
        global.script_user = Some((user.text.clone(), group));
    }
    for line in lines {
        keyword(line, global, reader);
    }
}

/// Sets a field where a value was understood; what was not understood has been reported and leaves the default.
fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

fn keyword(line: &Node, global: &mut GlobalDefs, reader: &mut Reader<'_>) {
    let user = global.script_user.clone();
    match line.keyword.text.as_str() {
        "router_id" => global.router_id = reader.word(line).map(|word| word.text.clone()),
        "vrrp_version" => set(&mut global.vrrp_version, reader.number(line, 2..=3)),
        "vrrp_mcast_group4" => set(&mut global.mcast_group4, reader.address(line)),
        "vrrp_mcast_group6" => set(&mut global.mcast_group6, reader.address(line)),
        "vrrp_min_garp" => {
            if reader.flag(line) == Some(true) {
                global.garp.master_repeat = 1;
                global.garp.master_delay = Duration::ZERO;
                global.garp.master_refresh = Duration::ZERO;
            }
        }
        "vrrp_down_timer_adverts" => {
            set(&mut global.down_timer_adverts, reader.number(line, 1..=100));
        }
        "vrrp_lower_prio_no_advert" => set(&mut global.lower_prio_no_advert, reader.flag(line)),
        "vrrp_higher_prio_send_advert" => {
            set(&mut global.higher_prio_send_advert, reader.flag(line));
        }
        "vrrp_check_unicast_src" => set(&mut global.check_unicast_src, reader.flag(line)),
        "vrrp_skip_check_adv_addr" => set(&mut global.skip_check_adv_addr, reader.flag(line)),
        "vrrp_owner_ignore_adverts" => set(&mut global.owner_ignore_adverts, reader.flag(line)),
        "v3_checksum_as_v2" => set(&mut global.v3_checksum_as_v2, reader.flag(line)),
        "vrrp_startup_delay" => set(
            &mut global.startup_delay,
            reader.seconds(line, 0..=TIMER_MAX_US),
        ),
        "vrrp_delay_after_boot" => set(
            &mut global.delay_after_boot,
            reader.seconds(line, 0..=TIMER_MAX_US),
        ),
        "vrrp_notify_priority_changes" => {
            set(&mut global.notify_priority_changes, reader.flag(line));
        }
        "notify_fifo" => global.notify_fifo = fifo(line, reader),
        "vrrp_notify_fifo" => global.vrrp_notify_fifo = fifo(line, reader),
        "notify_fifo_script" => global.notify_fifo_script = reader.script(line, user.as_ref()),
        "vrrp_notify_fifo_script" => {
            global.vrrp_notify_fifo_script = reader.script(line, user.as_ref());
        }
        // Read before everything else.
        "script_user" => {}
        "enable_script_security" => set(&mut global.enable_script_security, reader.flag(line)),
        "dynamic_interfaces" => global.dynamic_interfaces = true,
        "default_interface" => {
            global.default_interface = reader.word(line).map(|word| word.text.clone());
        }
        "vrrp_rt_priority" => global.rt_priority = reader.number(line, 1..=99),
        "vrrp_priority" => global.nice = reader.number(line, -20..=19),
        "vrrp_no_swap" => global.no_swap = true,
        "vrrp_cpu_affinity" => {
            global.cpu_affinity = line
                .args
                .iter()
                .filter_map(|word| word.text.parse().ok())
                .collect();
        }
        "max_auto_priority" => global.max_auto_priority = reader.number(line, -1..=99),
        "interface_up_down_delays" => interface_delays(line, global, reader),
        name => {
            if !garp(name, line, &mut global.garp, reader) {
                reader.unacted(line, "global_defs", keywords::GLOBAL);
            }
        }
    }
}

/// `PATH [USER [GROUP]]`.
fn fifo(line: &Node, reader: &mut Reader<'_>) -> Option<FifoDef> {
    let word = reader.word(line)?;
    let owner = line.args.get(1).map(|user| {
        let group = line.args.get(2).map(|group| group.text.clone());
        (user.text.clone(), group)
    });
    reader.lost_words(line, 3);
    Some(FifoDef {
        path: PathBuf::from(&word.text),
        owner,
        at: word.at,
    })
}

/// The announcement keywords, which `global_defs` has with the prefix `vrrp_` and an instance without. False: another keyword.
pub(super) fn garp(
    name: &str,
    line: &Node,
    garp: &mut super::super::model::GarpSettings,
    reader: &mut Reader<'_>,
) -> bool {
    let whole_seconds_us = 0..=u64::from(u16::MAX) * 1_000_000;
    match name.strip_prefix("vrrp_").unwrap_or(name) {
        "garp_master_delay" => set(
            &mut garp.master_delay,
            reader.seconds(line, whole_seconds_us),
        ),
        "garp_master_repeat" => set(
            &mut garp.master_repeat,
            reader.number(line, 1..=0xffff_ffff),
        ),
        "garp_master_refresh" => set(
            &mut garp.master_refresh,
            reader.seconds(line, whole_seconds_us),
        ),
        "garp_master_refresh_repeat" => set(
            &mut garp.master_refresh_repeat,
            reader.number(line, 1..=0xffff_ffff),
        ),
        "garp_lower_prio_delay" => {
            garp.lower_prio_delay = reader.seconds(line, whole_seconds_us);
        }
        "garp_lower_prio_repeat" => {
            garp.lower_prio_repeat = reader.number(line, 0..=0xffff_ffff);
        }
        // A literal 0 is what many files have; keepalived refuses the word and keeps the default, which is 0.
        "garp_interval" => set(
            &mut garp.arp_interval,
            reader.seconds(line, 1..=TIMER_MAX_US),
        ),
        "gna_interval" => set(
            &mut garp.na_interval,
            reader.seconds(line, 1..=TIMER_MAX_US),
        ),
        _ => return false,
    }
    true
}

/// `interface_up_down_delays { IF UP [DOWN] }`.
pub(super) fn interface_delays(node: &Node, global: &mut GlobalDefs, reader: &mut Reader<'_>) {
    for line in node.lines() {
        let times: Option<Vec<Duration>> = line
            .args
            .iter()
            .map(|word| super::seconds(&word.text))
            .collect();
        match times.as_deref() {
            Some([up]) => global
                .interface_delays
                .push((line.keyword.text.clone(), *up, *up)),
            Some([down, up]) => {
                global
                    .interface_delays
                    .push((line.keyword.text.clone(), *up, *down));
            }
            Some([] | [_, _, _, ..]) | None => {
                reader.invalid(line, "an interface with one or two times in seconds");
            }
        }
    }
}
