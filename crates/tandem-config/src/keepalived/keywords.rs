//! The keywords that are recognised without being acted on, each with what an operator should know.

/// A keyword, or with a final `*` every keyword that begins so.
type Entry = (&'static str, &'static str);

const VMAC: &str = "the addresses stay on the interface itself and are announced by gratuitous ARP; nothing to do unless the network filters those";
const LVS: &str = "load balancing is not done; keep a keepalived with only the virtual_server blocks, or put a proxy in front";
const ROUTES: &str =
    "set them up with the host's network configuration, or from a notify_master script";
const FIREWALL: &str = "no firewall rule is made: clients must reach the address; for drop rules use the host's firewall";
const MAIL: &str = "no mail is sent; call a mailer from a notify script";
const BUS: &str = "no such interface; use notify_fifo";
const TUNING: &str = "tuning of keepalived's own processes; not needed";
const STAGE: &str = "keepalived's way of reloading and reporting; not needed";

/// Dropping these changes behaviour.
const UNSUPPORTED: &[Entry] = &[
    ("use_vmac", VMAC),
    ("use_vmac_addr", VMAC),
    ("vmac_*", VMAC),
    ("use_ipvlan", VMAC),
    ("no_accept", FIREWALL),
    ("strict_mode", FIREWALL),
    ("vrrp_strict", FIREWALL),
    ("virtual_routes", ROUTES),
    ("virtual_rules", ROUTES),
    ("static_ipaddress", ROUTES),
    ("static_routes", ROUTES),
    ("static_rules", ROUTES),
    ("track_group", ROUTES),
    (
        "bfd_instance",
        "no BFD is spoken; shorten advert_int with version 3 instead",
    ),
    (
        "vrf",
        "bind the interface to its VRF in the host's network configuration",
    ),
    (
        "garp_group",
        "announcements are paced per interface; use garp_interval",
    ),
    (
        "garp_extra_if",
        "announcements go out on the interface that carries the address",
    ),
    (
        "vrrp_garp_extra_if",
        "announcements go out on the interface that carries the address",
    ),
    ("linkbeat_*", "the kernel's own link state is used"),
    ("native_ipv6", "the family follows from the addresses"),
    (
        "startup_script",
        "not run; call it from the service's own unit, before tandem",
    ),
    (
        "shutdown_script",
        "not run; call it from the service's own unit, after tandem",
    ),
    ("virtual_server", LVS),
    ("virtual_server_group", LVS),
    ("lvs_sync_daemon", LVS),
    ("lvs_sync_daemon_interface", LVS),
];

/// Dropping these leaves a health condition or the placement of addresses out, so the configuration must not run.
const REFUSED: &[Entry] = &[
    (
        "track_bfd",
        "what it watches would go unwatched; remove it, or watch the path with a vrrp_script",
    ),
    (
        "net_namespace",
        "addresses would appear in the wrong namespace; start tandem inside it: ip netns exec NAME tandem vrrp",
    ),
    ("net_namespace_ipvs", "start tandem inside the namespace"),
];

/// Dropping these has no bearing on what tandem does.
const IGNORED: &[Entry] = &[
    ("notification_email", MAIL),
    ("notification_email_from", MAIL),
    ("smtp_*", MAIL),
    ("no_email_faults", MAIL),
    ("email_faults", MAIL),
    ("enable_snmp_*", BUS),
    ("enable_traps", BUS),
    ("snmp_*", BUS),
    ("enable_dbus", BUS),
    ("dbus_*", BUS),
    ("process_name", TUNING),
    ("process_names", TUNING),
    ("vrrp_process_name", TUNING),
    ("checker_*", TUNING),
    ("bfd_*", TUNING),
    ("use_symlink_paths", TUNING),
    ("instance", TUNING),
    ("lvs_*", "part of load balancing, which is not done"),
    ("nftables*", FIREWALL),
    ("vrrp_iptables", FIREWALL),
    ("vrrp_ipsets", FIREWALL),
    ("vrrp_netlink_*", TUNING),
    ("vrrp_rx_bufs_*", TUNING),
    ("vrrp_rlimit_*", TUNING),
    ("kernel_rx_buf_size", TUNING),
    ("disable_local_igmp", TUNING),
    ("child_wait_time", TUNING),
    ("log_unknown_vrids", "foreign VRIDs are always reported"),
    ("reload_*", STAGE),
    ("config_save_dir", STAGE),
    ("tmp_config_directory", STAGE),
    ("random_seed", STAGE),
    ("include_check", STAGE),
    ("umask", STAGE),
    ("json_version", STAGE),
    ("*_dump_file", STAGE),
    ("config_copy_directory", STAGE),
    ("data_use_instance", STAGE),
    ("fifo_write_vrrp_states_on_reload", STAGE),
    ("sync_group_tracking_weight", "see vrrp_sync_group"),
    ("SSL", LVS),
    ("debug", "see tandem's own log level"),
];

/// What becomes of a keyword that no reader acts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Unsupported(&'static str),
    Refused(&'static str),
    Ignored(&'static str),
}

pub(super) fn fate(keyword: &str) -> Option<Fate> {
    let find = |entries: &[Entry]| {
        entries
            .iter()
            .find(|(pattern, _)| covers(pattern, keyword))
            .map(|(_, note)| *note)
    };
    find(REFUSED)
        .map(Fate::Refused)
        .or_else(|| find(UNSUPPORTED).map(Fate::Unsupported))
        .or_else(|| find(IGNORED).map(Fate::Ignored))
}

fn covers(pattern: &str, keyword: &str) -> bool {
    if let Some(tail) = pattern.strip_prefix('*') {
        keyword.ends_with(tail)
    } else if let Some(head) = pattern.strip_suffix('*') {
        keyword.starts_with(head)
    } else {
        pattern == keyword
    }
}

/// Keywords of the top of the file that are acted on.
pub(super) const TOP: &[&str] = &[
    "global_defs",
    "vrrp_script",
    "track_file",
    "vrrp_track_file",
    "vrrp_track_process",
    "vrrp_sync_group",
    "vrrp_instance",
    "interface_up_down_delays",
];

/// Keywords of `global_defs` that are acted on.
pub(super) const GLOBAL: &[&str] = &[
    "router_id",
    "vrrp_version",
    "vrrp_mcast_group4",
    "vrrp_mcast_group6",
    "vrrp_garp_master_delay",
    "vrrp_garp_master_repeat",
    "vrrp_garp_master_refresh",
    "vrrp_garp_master_refresh_repeat",
    "vrrp_garp_lower_prio_delay",
    "vrrp_garp_lower_prio_repeat",
    "vrrp_garp_interval",
    "vrrp_gna_interval",
    "vrrp_min_garp",
    "vrrp_lower_prio_no_advert",
    "vrrp_higher_prio_send_advert",
    "vrrp_check_unicast_src",
    "vrrp_skip_check_adv_addr",
    "vrrp_down_timer_adverts",
    "vrrp_startup_delay",
    "vrrp_notify_priority_changes",
    "notify_fifo",
    "vrrp_notify_fifo",
    "vrrp_notify_fifo_script",
    "notify_fifo_script",
    "script_user",
    "enable_script_security",
    "dynamic_interfaces",
    "default_interface",
    "v3_checksum_as_v2",
    "vrrp_owner_ignore_adverts",
    "vrrp_delay_after_boot",
    "vrrp_rt_priority",
    "vrrp_priority",
    "vrrp_no_swap",
    "vrrp_cpu_affinity",
    "max_auto_priority",
    "interface_up_down_delays",
];

/// Keywords of `vrrp_script` that are acted on.
pub(super) const SCRIPT: &[&str] = &[
    "script",
    "interval",
    "timeout",
    "weight",
    "rise",
    "fall",
    "user",
    "init_fail",
];

/// Keywords of `track_file` that are acted on.
pub(super) const TRACK_FILE: &[&str] = &["file", "weight", "init_file"];

/// Keywords of `vrrp_track_process` that are acted on.
pub(super) const TRACK_PROCESS: &[&str] = &[
    "process",
    "param_match",
    "full_command",
    "quorum",
    "quorum_max",
    "delay",
    "terminate_delay",
    "fork_delay",
    "weight",
];

/// Keywords of `vrrp_sync_group` that are acted on.
pub(super) const SYNC_GROUP: &[&str] = &[
    "group",
    "track_script",
    "track_interface",
    "track_file",
    "track_process",
    "notify_master",
    "notify_backup",
    "notify_fault",
    "notify_stop",
    "notify",
    "notify_priority_changes",
    "sync_group_tracking_weight",
    "global_tracking",
];

/// Keywords of `vrrp_instance` that are acted on.
pub(super) const INSTANCE: &[&str] = &[
    "state",
    "interface",
    "virtual_router_id",
    "priority",
    "advert_int",
    "version",
    "nopreempt",
    "preempt",
    "preempt_delay",
    "authentication",
    "auth_hmac",
    "virtual_ipaddress",
    "virtual_ipaddress_excluded",
    "no_virtual_ipaddress",
    "unicast_src_ip",
    "unicast_peer",
    "unicast_ttl",
    "unicast_fault_no_peer",
    "check_unicast_src",
    "old_unicast_checksum",
    "v3_checksum_as_v2",
    "mcast_src_ip",
    "mcast_dst_ip",
    "track_src_ip",
    "track_script",
    "track_interface",
    "track_file",
    "track_process",
    "dont_track_primary",
    "garp_master_delay",
    "garp_master_repeat",
    "garp_master_refresh",
    "garp_master_refresh_repeat",
    "garp_lower_prio_delay",
    "garp_lower_prio_repeat",
    "garp_interval",
    "gna_interval",
    "down_timer_adverts",
    "lower_prio_no_advert",
    "higher_prio_send_advert",
    "skip_check_adv_addr",
    "owner_ignore_adverts",
    "timer_expired_backup",
    "accept",
    "notify",
    "notify_master",
    "notify_backup",
    "notify_fault",
    "notify_stop",
    "notify_deleted",
    "notify_master_rx_lower_pri",
    "notify_priority_changes",
    "promote_secondaries",
];

/// Every keyword that can begin a line somewhere, for telling a lost keyword from a value.
pub(super) fn is_known_anywhere(word: &str) -> bool {
    [
        TOP,
        GLOBAL,
        SCRIPT,
        TRACK_FILE,
        TRACK_PROCESS,
        SYNC_GROUP,
        INSTANCE,
    ]
    .iter()
    .any(|list| list.contains(&word))
        || ["auth_type", "auth_pass", "key", "active_key", "mode"].contains(&word)
        || fate(word).is_some()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::keepalived::{Env, MapFiles, read};

    /// A keyword that is offered as a suggestion is one that its block's reader acts on.
    #[test]
    fn lists_and_readers_agree() {
        for (block, known) in [
            ("global_defs", GLOBAL),
            ("vrrp_script x", SCRIPT),
            ("track_file x", TRACK_FILE),
            ("vrrp_track_process x", TRACK_PROCESS),
            ("vrrp_sync_group x", SYNC_GROUP),
            ("vrrp_instance x", INSTANCE),
        ] {
            for keyword in known {
                let text = format!("{block} {{\n{keyword}\n}}\n");
                let files = MapFiles::new().with("/k", text);
                let loaded = read(Path::new("/k"), &files, &Env::default());
                let unacted = loaded.report.diagnostics.iter().find(|found| {
                    matches!(found.code, "unknown-keyword" | "unsupported" | "ignored")
                });
                assert_eq!(unacted, None, "{keyword} in {block}");
            }
        }
    }

    #[test]
    fn patterns_cover_beginnings_and_ends() {
        assert!(matches!(fate("smtp_server"), Some(Fate::Ignored(_))));
        assert!(matches!(fate("vrrp_dump_file"), Some(Fate::Ignored(_))));
        assert!(matches!(fate("use_vmac"), Some(Fate::Unsupported(_))));
        assert!(matches!(fate("track_bfd"), Some(Fate::Refused(_))));
        assert_eq!(fate("raise"), None);
    }
}
