use super::super::testing::{in_namespace, output, run, veth_pair};
use super::*;

fn index(value: u32) -> NonZeroU32 {
    NonZeroU32::new(value).expect("not zero")
}

fn entry(interface: u32, address: &str, ours: bool) -> Entry {
    let address: IpAddr = address.parse().expect("an address");
    Entry {
        vip: Vip {
            interface_index: index(interface),
            address,
            prefix_length: if address.is_ipv4() { 24 } else { 64 },
        },
        ours,
        valid_seconds: None,
        secondary: false,
        tentative: false,
        duplicate: false,
        global: true,
    }
}

#[test]
fn lifetimes_round_up_to_whole_seconds() {
    for (milliseconds, seconds) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (2999, 3), (3000, 3)] {
        assert_eq!(
            Lifetime::at_least(Duration::from_millis(milliseconds)).seconds(),
            seconds,
            "{milliseconds} ms"
        );
    }
    assert_eq!(Lifetime::at_least(Duration::MAX), Lifetime::FOREVER);
}

#[test]
fn a_vip_is_never_the_source_of_adverts() {
    let mut secondary = entry(2, "10.0.0.9", false);
    secondary.secondary = true;
    let mut tentative = entry(2, "fe80::1", false);
    tentative.tentative = true;
    let entries = [
        entry(1, "127.0.0.1", false),
        entry(2, "10.0.0.100", true),
        secondary,
        entry(2, "10.0.0.1", false),
        entry(2, "2001:db8::1", false),
        tentative,
        entry(2, "fe80::100", true),
        entry(2, "fe80::2", false),
    ];
    assert_eq!(
        primary_ipv4(&entries, index(2)),
        Some("10.0.0.1".parse().expect("an address"))
    );
    assert_eq!(
        link_local_ipv6(&entries, index(2)),
        Some("fe80::2".parse().expect("an address"))
    );
    assert_eq!(primary_ipv4(&entries, index(3)), None);
}

#[test]
fn vips_are_installed_renewed_listed_and_removed() {
    in_namespace(
        "vips_are_installed_renewed_listed_and_removed",
        async || {
            veth_pair("v0", "v1");
            run(&["ip", "addr", "add", "10.9.0.1/24", "dev", "v0"]);
            let mut addresses = Addresses::open().expect("netlink");
            let link = addresses.link("v0").expect("links").expect("v0 exists");
            assert!(
                link.usable() && link.resolves && link.mac.is_some(),
                "{link:?}"
            );
            assert_eq!(addresses.link("nonesuch").expect("links"), None);

            let vips = ["10.9.0.100", "2001:db8::100"].map(|address| {
                let address: IpAddr = address.parse().expect("an address");
                Vip {
                    interface_index: link.index,
                    address,
                    prefix_length: if address.is_ipv4() { 32 } else { 128 },
                }
            });
            for vip in &vips {
                addresses
                    .install(vip, Lifetime::at_least(Duration::from_secs(3)))
                    .expect("add");
                addresses
                    .install(vip, Lifetime::at_least(Duration::from_secs(60)))
                    .expect("renew");
            }
            let ours = addresses.ours().expect("a listing");
            assert_eq!(ours.len(), 2, "{ours:?}");
            for (entry, vip) in ours.iter().zip(&vips) {
                assert_eq!(entry.vip, *vip);
                assert!(!entry.tentative, "usable at once: {entry:?}");
                assert!(
                    entry
                        .valid_seconds
                        .is_some_and(|seconds| (58..=60).contains(&seconds)),
                    "{entry:?}"
                );
            }
            let shown = output(&["ip", "-d", "addr", "show", "dev", "v0"]);
            assert!(
                shown.contains("noprefixroute") && shown.contains("nodad"),
                "{shown}"
            );
            let all = addresses.addresses().expect("a listing");
            assert_eq!(
                primary_ipv4(&all, link.index),
                Some(Ipv4Addr::new(10, 9, 0, 1))
            );

            for vip in &vips {
                assert!(addresses.remove(vip).expect("removal"), "it was there");
                assert!(
                    !addresses.remove(vip).expect("removal of the absent"),
                    "it was gone"
                );
            }
            assert_eq!(addresses.ours().expect("a listing"), []);
        },
    );
}

#[test]
fn options_arrive_in_the_kernel_and_outlive_renewals() {
    in_namespace(
        "options_arrive_in_the_kernel_and_outlive_renewals",
        async || {
            veth_pair("v0", "v1");
            let mut addresses = Addresses::open().expect("netlink");
            let interface_index = addresses.link("v0").expect("links").expect("v0").index;
            let vip = |address: &str, prefix_length| Vip {
                interface_index,
                address: address.parse().expect("an address"),
                prefix_length,
            };
            let labelled = Options {
                label: Some("v0:vip".to_owned()),
                broadcast: Some([10, 9, 0, 255].into()),
                scope: libc::RT_SCOPE_LINK,
                ..Options::default()
            };
            let deprecated = Options {
                preferred: Some(Duration::ZERO),
                ..Options::default()
            };
            let checked = Options {
                detect_duplicates: true,
                // Longer than it lives: cut, for the kernel refuses it.
                preferred: Some(Duration::from_secs(100)),
                ..Options::default()
            };
            let all = [
                (vip("10.9.0.100", 24), labelled),
                (vip("2001:db8::100", 128), deprecated),
                (vip("2001:db8::101", 64), checked),
            ];
            for seconds in [3, 60] {
                let lifetime = Lifetime::at_least(Duration::from_secs(seconds));
                for (vip, options) in &all {
                    addresses
                        .install_with(vip, lifetime, options)
                        .expect("added, then renewed");
                }
            }
            let shown = output(&["ip", "-o", "-d", "addr", "show", "dev", "v0"]);
            let line = |address: &str| {
                let found = shown.lines().find(|line| line.contains(address));
                found.unwrap_or_else(|| panic!("{address} in {shown}"))
            };
            let first = line("10.9.0.100");
            assert!(
                first.contains("brd 10.9.0.255 scope link") && first.contains(" v0:vip"),
                "{first}"
            );
            let second = line("2001:db8::100");
            assert!(
                second.contains("deprecated") && second.contains("preferred_lft 0sec"),
                "{second}"
            );
            let third = line("2001:db8::101");
            assert!(
                !third.contains("nodad") && !third.contains("deprecated"),
                "{third}"
            );
            for (vip, _) in &all {
                assert!(addresses.remove(vip).expect("removal"), "{vip:?}");
            }
            let long = Options {
                label: Some("v0:longer-than-fifteen".to_owned()),
                ..Options::default()
            };
            addresses
                .install_with(&all[0].0, Lifetime::FOREVER, &long)
                .expect_err("the kernel's limit");
        },
    );
}

#[test]
fn an_address_that_is_not_renewed_goes_by_itself() {
    in_namespace(
        "an_address_that_is_not_renewed_goes_by_itself",
        async || {
            veth_pair("v0", "v1");
            let mut addresses = Addresses::open().expect("netlink");
            let interface_index = addresses.link("v0").expect("links").expect("v0").index;
            let mut monitor = Monitor::open().expect("a monitor");
            let vip = Vip {
                interface_index,
                address: [10, 9, 0, 100].into(),
                prefix_length: 32,
            };
            addresses
                .install(&vip, Lifetime::at_least(Duration::from_millis(1)))
                .expect("add");
            let gone = tokio::time::timeout(Duration::from_secs(10), async {
                loop {
                    if let Change::AddressGone(entry) = monitor.next().await.expect("a change")
                        && entry.vip == vip
                    {
                        return entry;
                    }
                }
            });
            assert!(gone.await.expect("the kernel removes it").ours);
        },
    );
}

async fn next_link(monitor: &mut Monitor, wanted: impl Fn(&Link) -> bool) {
    while !matches!(monitor.next().await.expect("a change"), Change::Link(link) if wanted(&link)) {}
}

#[test]
fn the_monitor_sees_links_and_addresses_and_says_when_it_missed_some() {
    in_namespace("the_monitor_sees_links_and_addresses", async || {
        let mut monitor = Monitor::open().expect("a monitor");
        veth_pair("v0", "v1");
        next_link(&mut monitor, |link| link.name == "v0" && link.usable()).await;
        run(&["ip", "link", "set", "v0", "down"]);
        next_link(&mut monitor, |link| link.name == "v0" && !link.up).await;
        run(&["ip", "link", "del", "v0"]);
        while !matches!(monitor.next().await.expect("a change"), Change::LinkGone(_)) {}

        // More events than the receive buffer holds, while nobody reads.
        let mut addresses = Addresses::open().expect("netlink");
        let interface_index = addresses.link("lo").expect("links").expect("lo").index;
        let vip = Vip {
            interface_index,
            address: [10, 9, 0, 100].into(),
            prefix_length: 32,
        };
        for _ in 0..8000 {
            addresses
                .install(&vip, Lifetime::at_least(Duration::from_secs(60)))
                .expect("renew");
        }
        let overrun = tokio::time::timeout(Duration::from_secs(10), async {
            while monitor.next().await.expect("a change") != Change::Overrun {}
        });
        overrun.await.expect("the loss is reported");
        // And the stream goes on after it.
        addresses.remove(&vip).expect("removal");
        while !matches!(
            monitor.next().await.expect("a change"),
            Change::AddressGone(_)
        ) {}
    });
}
