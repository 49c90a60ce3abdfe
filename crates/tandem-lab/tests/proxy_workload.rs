//! The tagged workload through a proxy over two servers: without faults every answer is exact, and with faults no answer
//! reaches anybody else.

#![expect(
    clippy::unwrap_used,
    reason = "in a test a panic is the report, also in its helpers"
)]

mod proxy_common;

use tandem_lab::poll;
use tandem_lab::proxy::Program;
use tandem_lab::proxy::tagged::{Report, Settings, Workload};
use tandem_lab::server::Server;

use proxy_common::{BOUND, EVERY, Rig, SERVERS, SOME, each_proxy, without_failures};

#[test]
fn every_answer_is_exact_and_in_order() {
    each_proxy("every_answer_is_exact_and_in_order", |program| {
        let rig = Rig::start(program, &[]);
        for (name, clients, depth) in [("one", 30, 1), ("few", 30, 16), ("many", 10, 200)] {
            let workload = rig.workload(&Settings {
                clients,
                depth,
                name: name.to_owned(),
                ..Settings::default()
            });
            workload.wait_for_each(SOME, BOUND).unwrap();
            without_failures(&workload.stop().unwrap());
        }
        for server in &rig.servers {
            let keys = server.connect().unwrap().demand(&["DBSIZE"]).unwrap();
            assert_ne!(
                keys,
                tandem_lab::resp::Reply::Integer(0),
                "both have a share"
            );
        }
    });
}

#[test]
fn two_threads_share_the_servers_and_mix_nothing_up() {
    let test = "two_threads_share_the_servers_and_mix_nothing_up";
    each_proxy(test, |program| {
        if program != Program::Tandem {
            return;
        }
        let mut rig = Rig::threaded(program, &["server_connections: 2"], &[], &SERVERS, 2);
        rig.bystanders_do_not_notice("stays", |rig, _| {
            let workload = rig.workload(&Settings {
                leaves_percent: 20,
                name: "leaves".to_owned(),
                ..Settings::default()
            });
            workload.wait_for_each(SOME, BOUND).unwrap();
            without_failures(&workload.stop().unwrap());
        });
    });
}

#[test]
fn clients_that_leave_and_rest_take_no_answer_astray() {
    each_proxy(
        "clients_that_leave_and_rest_take_no_answer_astray",
        |program| {
            let mut rig = Rig::start(program, &[]);
            rig.bystanders_do_not_notice("stays", |rig, _| {
                let workload = rig.workload(&Settings {
                    leaves_percent: 20,
                    rests_percent: 20,
                    name: "leaves".to_owned(),
                    ..Settings::default()
                });
                workload.wait_for_each(SOME, BOUND).unwrap();
                without_failures(&workload.stop().unwrap());
            });
        },
    );
}

/// The workload under something that hurts it: failures are allowed, wrong answers and silence are not, and when it is
/// over everybody is served again.
fn hurt(rig: &mut Rig, what: impl FnOnce(&mut Rig, &Workload)) -> Report {
    let warm = rig.workload(&Settings::default());
    warm.wait_for_each(SOME, BOUND).unwrap();
    without_failures(&warm.stop().unwrap());
    let before = rig.descriptors_at_rest();
    let workload = rig.workload(&Settings {
        name: "hurt".to_owned(),
        ..Settings::default()
    });
    workload.wait_for_each(SOME, BOUND).unwrap();
    what(rig, &workload);
    workload.wait_for_each(SOME, BOUND).unwrap();
    let failed = workload.report().failure_count();
    workload.wait_for_each(SOME, BOUND).unwrap();
    assert_eq!(workload.report().failure_count(), failed, "it is over");
    let report = workload.stop().unwrap();
    println!("failures: {:?}", report.failures);
    assert!(
        !report.failures.contains_key("connection: timed out"),
        "a request was never answered: {:?}",
        report.failures
    );
    rig.all_alive();
    rig.descriptors_return(before);
    report
}

#[test]
fn a_server_that_dies_and_returns_takes_no_answer_astray() {
    let test = "a_server_that_dies_and_returns_takes_no_answer_astray";
    each_proxy(test, |program| {
        let mut rig = Rig::start(program, &["timeout: 2000"]);
        let report = hurt(&mut rig, |rig, workload| {
            rig.servers[0].process().kill();
            poll::until("a failure", BOUND, EVERY, || {
                let failures = workload.report().failures;
                Ok(if failures.is_empty() {
                    Err("none yet".to_owned())
                } else {
                    Ok(())
                })
            })
            .unwrap();
            rig.servers[0].restart().unwrap();
        });
        assert!(report.failure_count() > 0);
    });
}

#[test]
fn connections_to_servers_that_are_killed_take_no_answer_astray() {
    let test = "connections_to_servers_that_are_killed_take_no_answer_astray";
    each_proxy(test, |program| {
        let mut rig = Rig::start(program, &["timeout: 2000"]);
        hurt(&mut rig, |rig, workload| {
            for round in 0..20 {
                kill_clients(&rig.servers[round % 2]);
                workload.wait_for_each(5, BOUND).unwrap();
            }
        });
    });
}

/// Ends all ordinary connections of a server but the one that orders it.
fn kill_clients(server: &Server) {
    let order = ["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"];
    server.connect().unwrap().demand(&order).unwrap();
}
