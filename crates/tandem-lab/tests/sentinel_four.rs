//! The arrangement `sentinel-four`: four hosts with a server and a Sentinel each, and the checks of its write-up.

#![allow(clippy::unwrap_used)] // A panic in a test is its report.

use std::time::Duration;

use tandem_lab::fleet::{Fleet, Plan, Program, Recorder};
use tandem_lab::resp::Reply;
use tandem_lab::{can_run, poll, skip};

const BOUND: Duration = Duration::from_secs(60);
const EVERY: Duration = Duration::from_millis(20);
const PRIMARY: &str = "ccsp-1-1";

fn as_told(test: &str, programs: [Program; 4]) {
    if !can_run(test) {
        return;
    }
    for program in programs {
        if let Err(reason) = program.available() {
            skip(test, &format!("{reason:#}"));
            return;
        }
    }
    let mut fleet = Fleet::build(Plan::four(programs).hurried()).unwrap();
    fleet.start(BOUND).unwrap();
    replication_is_as_described(&fleet);
    a_list_reaches_every_replica_and_replicas_refuse_writes(&fleet);
    let primary = the_cut_off_primary_is_replaced(&fleet);
    fleet.heal().unwrap();
    // There it was started again as a replica by hand; here nobody touches it.
    assert_eq!(fleet.settle(BOUND).unwrap(), primary);
    for server in fleet.servers() {
        assert_eq!(list(&mut server.connect().unwrap()), ["a", "b", "c"]);
    }
}

fn replication_is_as_described(fleet: &Fleet) {
    let mut primary = fleet.servers()[0].connect().unwrap();
    assert_eq!(primary.info("connected_slaves").unwrap(), "3");
    for replica in ["slave0", "slave1", "slave2"] {
        poll::until("a replica to be online", BOUND, EVERY, || {
            let line = primary.info(replica)?;
            Ok(if line.contains("state=online") {
                Ok(())
            } else {
                Err(line)
            })
        })
        .unwrap();
    }
    for server in &fleet.servers()[1..] {
        let mut replica = server.connect().unwrap();
        assert_eq!(replica.info("master_link_status").unwrap(), "up");
        assert_eq!(replica.info("master_host").unwrap(), "192.168.16.12");
        // The first hello moves it.
        poll::until("the offset of a replica to grow", BOUND, EVERY, || {
            let offset: u64 = replica.info("slave_repl_offset")?.parse()?;
            Ok(if offset > 0 {
                Ok(())
            } else {
                Err("it is 0".to_owned())
            })
        })
        .unwrap();
    }
}

fn list(connection: &mut tandem_lab::resp::Connection) -> Vec<String> {
    let Reply::Array(items) = connection.demand(&["LRANGE", "list", "0", "-1"]).unwrap() else {
        panic!("no list");
    };
    items.iter().filter_map(Reply::text).collect()
}

fn a_list_reaches_every_replica_and_replicas_refuse_writes(fleet: &Fleet) {
    let mut primary = fleet.servers()[0].connect().unwrap();
    primary.demand(&["RPUSH", "list", "a", "b", "c"]).unwrap();
    for server in &fleet.servers()[1..] {
        let mut replica = server.connect().unwrap();
        poll::until("the list on a replica", BOUND, EVERY, || {
            let found = list(&mut replica);
            Ok(if found == ["a", "b", "c"] {
                Ok(())
            } else {
                Err(format!("{found:?}"))
            })
        })
        .unwrap();
        let refused = replica.call(&["RPUSH", "list", "d"]).unwrap();
        assert!(
            matches!(&refused, Reply::Error(text) if text.starts_with("READONLY")),
            "{refused:?}"
        );
    }
}

/// Cuts the primary off, reads the story on the other hosts, and returns the new primary's place.
fn the_cut_off_primary_is_replaced(fleet: &Fleet) -> usize {
    let events = Recorder::start(fleet).unwrap();
    fleet.cut(&[PRIMARY]).unwrap();
    for member in 1..4 {
        for (name, words) in [
            ("+new-epoch", ""),
            ("+vote-for-leader", ""),
            ("+switch-master", "ccsp 192.168.16.12 6379 192.168.16."),
            (
                "+sdown",
                "slave 192.168.16.12:6379 192.168.16.12 6379 @ ccsp",
            ),
        ] {
            events.wait_for(member, name, words, BOUND).unwrap();
        }
    }
    let told = |name: &str, words: &str| {
        (1..4)
            .filter(|member| events.find(*member, name, words).is_some())
            .count()
    };
    // The quorum at least: the third may vote and hear of the new primary before its own time is over.
    assert!(told("+sdown", "master ccsp 192.168.16.12 6379") >= 2);
    assert!(
        told("+odown", "#quorum ") >= 1,
        "one at least has counted a quorum"
    );
    assert!(told("+elected-leader", "master ccsp") >= 1);
    assert!(told("+promoted-slave", "slave 192.168.16.") >= 1);
    assert!(
        told("+config-update-from", "sentinel ") >= 1,
        "the others were told"
    );

    let addresses: Vec<_> = (1..4)
        .map(|member| fleet.members()[member].addr_by_name("ccsp").unwrap())
        .collect();
    assert!(
        addresses.windows(2).all(|two| two[0] == two[1]),
        "{addresses:?}"
    );
    let primary = fleet.server_at(addresses[0]).unwrap();
    assert_ne!(primary, 0);
    for member in 1..4 {
        // Each knows the two that are left and the one that is lost as replicas.
        for last in [12, 14, 16, 17] {
            let address = format!("192.168.16.{last}");
            if address == addresses[0].ip().to_string() {
                continue;
            }
            let words = format!("slave {address}:6379 ");
            events.wait_for(member, "+slave", &words, BOUND).unwrap();
        }
    }
    poll::until("the others to follow the new primary", BOUND, EVERY, || {
        let attached = fleet.servers()[primary]
            .connect()?
            .info("connected_slaves")?;
        Ok(if attached == "2" {
            Ok(())
        } else {
            Err(format!("{attached} do"))
        })
    })
    .unwrap();
    primary
}

#[test]
fn sentinel_four_with_the_original_parts() {
    as_told("sentinel_four_with_the_original_parts", [Program::Real; 4]);
}

#[test]
fn sentinel_four_with_tandem() {
    as_told("sentinel_four_with_tandem", [Program::Tandem; 4]);
}

#[test]
fn sentinel_four_half_and_half() {
    use Program::{Real, Tandem};
    as_told("sentinel_four_half_and_half", [Real, Tandem, Real, Tandem]);
}
