use std::path::Path;

use tandem_config::keepalived::{Env, MapFiles, read};
use tandem_vrrp::settings::{Preempt, Transport};

use super::*;

fn plan(text: &str) -> Plan {
    let files = MapFiles::new()
        .with("/k.conf", text)
        .with_mode("/bin/true", "", 0, 0o755);
    let loaded = read(Path::new("/k.conf"), &files, &Env::default());
    assert!(
        !loaded.report.has_errors(),
        "{}",
        loaded.report.render(false)
    );
    Plan::new(&loaded.config).unwrap()
}

const TWO: &str = "
vrrp_script ok {
    script /bin/true
    weight 5
}
vrrp_script unused {
    script /bin/true
}
vrrp_sync_group G {
    group {
        one
        two
    }
    track_interface {
        eth9 weight 7
    }
}
vrrp_instance one {
    interface eth0
    virtual_router_id 51
    virtual_ipaddress {
        10.0.0.100/24
    }
    virtual_ipaddress_excluded {
        10.0.0.101 dev eth1
    }
    track_script {
        ok
    }
}
vrrp_instance two {
    interface eth1
    virtual_router_id 52
    version 3
    advert_int 0.1
    unicast_peer {
        10.0.0.2
    }
    virtual_ipaddress {
        10.0.0.102
    }
}
vrrp_instance alone {
    interface eth2
    virtual_router_id 53
    nopreempt
    virtual_ipaddress {
        10.0.0.103
    }
}
";

#[test]
fn groups_gather_their_members_and_others_stand_alone() {
    let plan = plan(TWO);
    let units: Vec<_> = plan
        .units
        .iter()
        .map(|unit| {
            let name = unit.group.as_ref().map(|(name, _)| name.as_str());
            (name, unit.members.clone())
        })
        .collect();
    assert_eq!(units, [(Some("G"), vec![0, 1]), (None, vec![2])]);
    assert!(plan.routers[0].settings.in_sync_group);
    assert!(!plan.routers[2].settings.in_sync_group);
    assert_eq!(plan.routers[2].settings.preempt, Preempt::Never);
}

#[test]
fn unused_scripts_do_not_run_and_weights_in_a_group_become_faults() {
    let plan = plan(TWO);
    assert_eq!(plan.scripts.len(), 1);
    let first: Vec<_> = plan.routers[0]
        .tracking
        .iter()
        .map(|tracking| (tracking.watched.clone(), tracking.weight))
        .collect();
    assert_eq!(
        first,
        [
            (Watched::Interface("eth0".into()), 0),
            (Watched::Script("ok".into()), 0),
            (Watched::Interface("eth9".into()), 0),
        ]
    );
}

#[test]
fn excluded_addresses_are_installed_and_not_advertised() {
    let plan = plan(TWO);
    let one = &plan.routers[0];
    assert_eq!(one.settings.addresses.len(), 1);
    let installed: Vec<_> = one
        .addresses
        .iter()
        .map(|line| {
            (
                line.address.to_string(),
                line.prefix_length,
                line.interface.as_str(),
            )
        })
        .collect();
    assert_eq!(
        installed,
        [
            ("10.0.0.100".to_owned(), 24, "eth0"),
            ("10.0.0.101".to_owned(), 32, "eth1")
        ]
    );
}

#[test]
fn options_of_addresses_and_adverts_are_carried_over() {
    let text = TWO
        .replace(
            "10.0.0.100/24",
            "10.0.0.100/24 brd + label eth0:1 scope link",
        )
        .replace("advert_int 0.1", "advert_int 0.1\n    unicast_ttl 64");
    let plan = plan(&text);
    assert_eq!(
        plan.routers[0].addresses[0].options,
        Options {
            label: Some("eth0:1".to_owned()),
            broadcast: Some([10, 0, 0, 255].into()),
            scope: 253,
            ..Options::default()
        }
    );
    assert_eq!(plan.routers[0].addresses[1].options, Options::default());
    let ttl = |router: &RouterPlan| match router.settings.transport {
        Transport::Unicast { ttl, .. } => Some(ttl),
        Transport::Multicast { .. } => None,
    };
    let ttls: Vec<_> = plan.routers.iter().map(ttl).collect();
    assert_eq!(ttls, [None, Some(64), None]);
}

#[test]
fn a_router_is_known_by_its_wire_not_by_its_name() {
    let before = plan(TWO);
    let after = plan(
        &TWO.replace("alone", "renamed")
            .replace("nopreempt", "priority 7"),
    );
    assert_eq!(before.routers[2].key, after.routers[2].key);
    assert_ne!(before.routers[0].key, before.routers[1].key);
    assert!(before.routers[1].key.unicast);
}
