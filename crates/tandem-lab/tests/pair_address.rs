//! The address itself: a third machine that has it, and a reload that changes it.

#![allow(clippy::unwrap_used, reason = "a helper fails as its test does")]

mod common;

use std::net::IpAddr;

use common::{BOUND, EVERY, Rig};
use tandem_lab::arrangement::{Arrangement, Fault, Side, THIRD, VIP};
use tandem_lab::{can_run, poll};

/// The alarms of a side, as one text; empty while its daemon does not answer.
fn alarms(rig: &Rig, side: Side) -> String {
    let status = rig.status(side).unwrap_or_default();
    status["groups"][0]["alarms"].to_string()
}

#[test]
fn a_third_machine_with_the_vip_is_an_alarm_and_delays_nothing() {
    if !can_run("a_third_machine_with_the_vip_is_an_alarm_and_delays_nothing") {
        return;
    }
    let mut rig = Rig::started();
    // The primary answers for its VIP, which is no duplicate.
    poll::until("B to have asked", BOUND, EVERY, || {
        let text = rig.tandem(Side::B, "explain", &["--json"])?;
        let rulings: serde_json::Value = serde_json::from_str(&text)?;
        let asked = rulings["orders"].as_array().is_some_and(|rulings| {
            rulings
                .iter()
                .any(|ruling| ruling["rule"] == "vip.duplicate" && ruling["says"] == "yes")
        });
        Ok(if asked { Ok(()) } else { Err(text) })
    })
    .unwrap();
    assert!(!alarms(&rig, Side::B).contains("answers from"));

    let third = rig.pair().lab().host(THIRD).clone();
    let vip = format!("{VIP}/32");
    third
        .run("ip", &["addr", "add", &vip, "dev", "eth0"])
        .unwrap();
    let link = third.run("ip", &["-j", "link", "show", "eth0"]).unwrap();
    let link: serde_json::Value = serde_json::from_str(&link).unwrap();
    let mac = link[0]["address"].as_str().unwrap().to_owned();
    // A daemon that begins to stand by asks at once.
    rig.pair_mut().daemons_mut(Side::B).remove(0).kill();
    rig.start_daemons(Side::B).unwrap();
    let named = |rig: &Rig, side: Side| alarms(rig, side).contains(&mac);
    poll::until("the alarm", BOUND, EVERY, || {
        Ok(if named(&rig, Side::B) {
            Ok(())
        } else {
            Err(alarms(&rig, Side::B))
        })
    })
    .unwrap();
    rig.wait_for_event(Side::B, "vip-duplicate", &mac);
    poll::until("B to be ready", BOUND, EVERY, || rig.content()).unwrap();

    // It stands in no takeover's way.
    rig.inject(Fault::KillServer).unwrap();
    poll::until("B to be primary with the VIP", BOUND, EVERY, || {
        let group = rig.group(Side::B);
        let here = rig.pair().host(Side::B).has_address(VIP)?;
        Ok(if here && group["role"] == "primary" {
            Ok(())
        } else {
            Err(group.to_string())
        })
    })
    .unwrap();

    // Without its cause the alarm goes, on whichever side stands by.
    rig.pair_mut().server_mut(Side::A).restart().unwrap();
    poll::until("the alarm on A", BOUND, EVERY, || {
        Ok(if named(&rig, Side::A) {
            Ok(())
        } else {
            Err(alarms(&rig, Side::A))
        })
    })
    .unwrap();
    third
        .run("ip", &["addr", "del", &vip, "dev", "eth0"])
        .unwrap();
    rig.wait_for_event(Side::A, "vip-duplicate-gone", "");
    assert!(!named(&rig, Side::A));
    assert_eq!(rig.wait_until_well(BOUND).unwrap(), Side::B);
}

/// Replaces a piece of a side's configuration file.
fn edit(rig: &Rig, side: Side, from: &str, to: &str) {
    let path = rig.file(side);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from} is not in\n{text}");
    std::fs::write(&path, text.replace(from, to)).unwrap();
}

/// Waits until an address is on a side's host, or is not.
fn wait_for_address(rig: &Rig, side: Side, address: IpAddr, here: bool) {
    poll::until(
        &format!("{address} on {side:?}: {here}"),
        BOUND,
        EVERY,
        || {
            let found = rig.pair().host(side).has_address(address)?;
            Ok(if found == here {
                Ok(())
            } else {
                Err(format!("{found}"))
            })
        },
    )
    .unwrap();
}

#[test]
fn a_reload_moves_nothing_unless_a_person_accepts_it() {
    if !can_run("a_reload_moves_nothing_unless_a_person_accepts_it") {
        return;
    }
    let mut rig = Rig::started();
    let client = rig.client();
    let (first, second): (String, IpAddr) = (format!("{VIP}/24"), "10.0.0.101".parse().unwrap());
    let one = format!("address   = \"{first}\"");
    let two = format!("addresses = [\"{first}\", \"{second}/24\"]");
    for side in Side::BOTH {
        edit(&rig, side, &one, &two);
        edit(
            &rig,
            side,
            "[group.vip]",
            "boot_wait = \"20s\"\n\n[group.vip]",
        );
        let refused = rig.tandem(side, "reload", &[]).unwrap_err().to_string();
        assert!(refused.contains("exit status: 3"), "{refused}");
        assert!(refused.contains("reload.moves"), "{refused}");
        assert!(refused.contains("VIP 10.0.0.101 comes"), "{refused}");
    }
    assert!(!rig.pair().host(Side::A).has_address(second).unwrap());

    // The standby first or the primary first: only the primary's host gets the address.
    for side in [Side::B, Side::A] {
        let said = rig.tandem(side, "reload", &["--accept"]).unwrap();
        assert!(said.contains("VIP 10.0.0.101 comes"), "{said}");
    }
    wait_for_address(&rig, Side::A, second, true);
    assert!(!rig.pair().host(Side::B).has_address(second).unwrap());
    let said = rig.tandem(Side::A, "reload", &[]).unwrap();
    assert!(said.contains("nothing to take over"), "{said}");

    // Both follow the primary, by settings that the daemons were not started with.
    rig.tandem(Side::A, "switchover", &[]).unwrap();
    wait_for_address(&rig, Side::B, second, true);
    wait_for_address(&rig, Side::B, VIP, true);
    wait_for_address(&rig, Side::A, second, false);
    assert_eq!(rig.wait_until_well(BOUND).unwrap(), Side::B);

    // An address that goes does not disturb the one that stays.
    let errors = client.record().error_count();
    for side in Side::BOTH {
        edit(&rig, side, &two, &one);
        rig.tandem(side, "reload", &["--accept"]).unwrap();
    }
    wait_for_address(&rig, Side::B, second, false);
    assert!(rig.pair().host(Side::B).has_address(VIP).unwrap());
    let record = client.stop().unwrap();
    assert_eq!(record.error_count(), errors, "{:?}", record.errors());
    rig.nothing_missing(&record, Side::B);
}

#[test]
fn what_needs_a_restart_is_named_and_a_broken_file_changes_nothing() {
    if !can_run("what_needs_a_restart_is_named_and_a_broken_file_changes_nothing") {
        return;
    }
    let mut rig = Rig::started();
    edit(
        &rig,
        Side::A,
        "router_id       = 51",
        "router_id       = 52",
    );
    edit(&rig, Side::A, "down_after = \"1s\"", "down_after = \"2s\"");
    let said = rig.tandem(Side::A, "reload", &[]).unwrap();
    assert!(said.contains("down_after, vrrp.router_id"), "{said}");
    assert_eq!(rig.wait_until_well(BOUND).unwrap(), Side::A);

    // HUP takes what is harmless and says the rest in the log.
    edit(
        &rig,
        Side::A,
        "priority        = 250",
        "priority        = 80",
    );
    let pid = rig.pair_mut().daemons_mut(Side::A)[0].pid().to_string();
    rig.pair()
        .host(Side::A)
        .run("kill", &["-HUP", &pid])
        .unwrap();
    let log = rig.pair().host(Side::A).dir().join("tandem.log");
    poll::until("the refusal in the log", BOUND, EVERY, || {
        let text = std::fs::read_to_string(&log)?;
        Ok(if text.contains("priority 250 becomes 80") {
            Ok(())
        } else {
            Err("not there".to_owned())
        })
    })
    .unwrap();
    edit(&rig, Side::A, "[group.vrrp]", "[group.vrp]");
    let broken = rig.tandem(Side::A, "reload", &["--accept"]).unwrap_err();
    assert!(broken.to_string().contains("exit status: 2"), "{broken}");
    edit(&rig, Side::A, "[group.vrp]", "[group.vrrp]");
    assert_eq!(rig.wait_until_well(BOUND).unwrap(), Side::A);
}
