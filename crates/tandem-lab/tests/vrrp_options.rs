//! Options of addresses and adverts: the kernel has what the file says, and the same as under keepalived.

#![allow(clippy::unwrap_used, reason = "a helper fails as its test does")]

mod vrrp_common;

use serde_json::Value;
use tandem_lab::can_run_as_root;
use tandem_lab::ns::{Host, Lab};

use vrrp_common::{Capture, eventually, hang_up, has, keepalived, state, tandem, wait, write};

/// One instance with every option of an address.
fn with_options(vrid: u8, label: &str) -> String {
    format!(
        "vrrp_instance VI_1 {{
    interface eth0
    version 3
    advert_int 0.1
    virtual_router_id {vrid}
    virtual_ipaddress {{
        10.0.0.100/24 brd + label {label}
        10.1.0.101/24 brd - scope link
        10.0.0.102 brd 10.0.0.127 dev eth0 scope site
        10.0.0.103/32 preferred_lft 0
    }}
    virtual_ipaddress_excluded {{
        2001:db8::100
        2001:db8::101 preferred_lft forever
        2001:db8::102/64
        2001:db8::103/64 preferred_lft 0
    }}
}}
"
    )
}

/// What `ip` shows of the addresses that only the daemon can have put there; not their lifetimes, which differ on purpose.
fn shown(host: &Host) -> Vec<String> {
    let text = host
        .run("ip", &["-j", "addr", "show", "dev", "eth0"])
        .unwrap();
    let links: Value = serde_json::from_str(&text).unwrap();
    let infos = links[0]["addr_info"].as_array().unwrap();
    let mut lines: Vec<String> = infos
        .iter()
        .filter(|info| {
            let local = info["local"].as_str().unwrap();
            local.starts_with("10.0.0.10")
                || local.starts_with("10.1.0.10")
                || local.starts_with("2001:db8::10")
        })
        .map(|info| {
            let field = |name: &str| info[name].as_str().unwrap_or("-").to_owned();
            format!(
                "{}/{} brd {} scope {} label {} deprecated {}",
                field("local"),
                info["prefixlen"],
                field("broadcast"),
                field("scope"),
                field("label"),
                info["deprecated"] == true,
            )
        })
        .collect();
    lines.sort();
    lines
}

/// The addresses, once all of them are there.
fn all_shown(host: &Host) -> Vec<String> {
    wait(&format!("all addresses on {}", host.name()), || {
        let lines = shown(host);
        if lines.len() == 8 {
            Ok(lines)
        } else {
            Err(format!("{lines:#?}"))
        }
    })
}

#[test]
fn addresses_are_as_the_file_says_and_as_under_keepalived() {
    if !can_run_as_root("addresses_are_as_the_file_says_and_as_under_keepalived") {
        return;
    }
    let lab = Lab::builder()
        .host("a", "10.0.0.1/24")
        .host("b", "10.0.0.2/24")
        .build()
        .unwrap();
    let (a, b) = (lab.host("a"), lab.host("b"));
    // Two VRIDs: both are master of their own.
    write(a, &with_options(51, "eth0:vip"));
    write(b, &with_options(52, "eth0:vip"));
    let daemon = tandem(a);
    let _keepalived = keepalived(b);
    let ours = all_shown(a);
    assert_eq!(
        ours,
        [
            "10.0.0.100/24 brd 10.0.0.255 scope global label eth0:vip deprecated false",
            "10.0.0.102/32 brd 10.0.0.127 scope site label eth0 deprecated false",
            "10.0.0.103/32 brd - scope global label eth0 deprecated false",
            "10.1.0.101/24 brd 10.1.0.0 scope link label eth0 deprecated false",
            "2001:db8::100/128 brd - scope global label - deprecated true",
            "2001:db8::101/128 brd - scope global label - deprecated false",
            "2001:db8::102/64 brd - scope global label - deprecated false",
            "2001:db8::103/64 brd - scope global label - deprecated true",
        ]
    );
    assert_eq!(ours, all_shown(b), "tandem's and keepalived's");

    // The kernel renews lifetimes only: a reload with another label has to make the address anew, and keeps its state.
    write(a, &with_options(51, "eth0:new"));
    hang_up(a, &daemon);
    eventually("the new label", || {
        shown(a)
            .first()
            .is_some_and(|line| line.contains("label eth0:new "))
    });
    assert_eq!(all_shown(a)[1..], ours[1..]);
    assert_eq!(state(a, "/instances/0/counters/become_master"), 1);
}

#[test]
fn unicast_adverts_leave_with_the_ttl_of_the_file() {
    if !can_run_as_root("unicast_adverts_leave_with_the_ttl_of_the_file") {
        return;
    }
    let lab = Lab::builder()
        .host("a", "10.0.0.1/24")
        .host("b", "10.0.0.2/24")
        .build()
        .unwrap();
    let (a, b) = (lab.host("a"), lab.host("b"));
    for (host, address) in [(a, "2001:db8::1/64"), (b, "2001:db8::2/64")] {
        host.run("ip", &["addr", "add", address, "dev", "eth0", "nodad"])
            .unwrap();
    }
    let instance = |name: &str, vrid: u8, source: &str, peer: &str, ttl: &str, vip: &str| {
        format!(
            "vrrp_instance {name} {{\n interface eth0\n version 3\n advert_int 0.1\n virtual_router_id {vrid}\n unicast_src_ip {source}\n unicast_peer {{\n {peer}\n }}\n {ttl}\n virtual_ipaddress {{\n {vip}\n }}\n}}\n"
        )
    };
    let text = [
        instance(
            "V4",
            51,
            "10.0.0.1",
            "10.0.0.2",
            "unicast_ttl 64",
            "10.0.0.100",
        ),
        instance(
            "V6",
            52,
            "2001:db8::1",
            "2001:db8::2",
            "unicast_ttl 63",
            "2001:db8::100",
        ),
        instance("D4", 53, "10.0.0.1", "10.0.0.2", "", "10.0.0.101"),
        instance("D6", 54, "2001:db8::1", "2001:db8::2", "", "2001:db8::101"),
    ];
    write(a, &text.concat());
    let capture = Capture::start(b);
    let _daemon = tandem(a);
    has(a, "10.0.0.100", true);
    for (vrid, ttl) in [(51, 64), (52, 63), (53, 255), (54, 255)] {
        wait(&format!("adverts of VRID {vrid}"), || {
            let found: Vec<u8> = capture
                .adverts()
                .into_iter()
                .filter(|advert| advert.vrid == vrid)
                .map(|advert| advert.ttl)
                .collect();
            if found.len() < 3 {
                return Err(capture.text());
            }
            assert!(found.iter().all(|one| *one == ttl), "{vrid}: {found:?}");
            Ok(())
        });
    }
}
