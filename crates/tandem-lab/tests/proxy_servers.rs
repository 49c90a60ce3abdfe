//! Servers that behave badly: their own keys fail with an error, those of the other server are served as before.

#![expect(
    clippy::unwrap_used,
    reason = "in a test a panic is the report, also in its helpers"
)]

mod proxy_common;

use tandem_lab::fake::Fake;
use tandem_lab::proxy::Program;
use tandem_lab::resp::{Connection, Reply};

use proxy_common::{BOUND, Rig, SERVERS, Scripted, each_proxy};

/// The port of the server that behaves badly.
const BAD: u16 = 7009;
/// How many keys are asked for: some live on each server.
const PROBES: usize = 40;

/// A good server and a bad one behind a proxy.
fn beside(program: Program, lines: &[&str], bad: fn(&[String]) -> Vec<u8>) -> (Rig, Fake) {
    let lines = [lines, &["hash_tag: \"{}\""]].concat();
    let rig = Rig::with(program, &lines, &[BAD], &SERVERS[..1]);
    let fake = Fake::start(rig.host(), &[BAD], Box::new(Scripted(bad))).unwrap();
    (rig, fake)
}

/// Asks for a number of keys one by one and returns the answers.
fn probe(rig: &Rig) -> Vec<Reply> {
    let mut client = rig.client();
    (0..PROBES)
        .map(|number| {
            let key = format!("probe:{number}");
            client.call(&["GET", &key]).unwrap_or_else(|error| {
                client = rig.client();
                Reply::Error(error.to_string())
            })
        })
        .collect()
}

/// How many answers were errors, which they must be on one server; on the other they are nil, or what is allowed.
fn errors(answers: &[Reply], allowed: &Reply) -> usize {
    let is_error = |answer: &&Reply| matches!(answer, Reply::Error(_));
    for answer in answers.iter().filter(|answer| !is_error(answer)) {
        assert!(
            answer == &Reply::Bulk(None) || answer == allowed,
            "{answer:?}"
        );
    }
    let nils = answers
        .iter()
        .filter(|answer| **answer == Reply::Bulk(None));
    assert!(nils.count() > 0, "some keys live on the good server");
    answers.iter().filter(is_error).count()
}

#[test]
fn a_server_that_never_answers_costs_its_own_requests_the_timeout() {
    let test = "a_server_that_never_answers_costs_its_own_requests_the_timeout";
    each_proxy(test, |program| {
        let (mut rig, _fake) = beside(program, &["timeout: 100"], |_| Vec::new());
        let name = rig.tag_on(0);
        rig.bystanders_do_not_notice(&name, |rig, _| {
            // All at once: each client's own requests wait together.
            let mut clients: Vec<Connection> = (0..PROBES).map(|_| rig.client()).collect();
            for (number, client) in clients.iter_mut().enumerate() {
                let key = format!("probe:{number}");
                client
                    .send(&tandem_lab::resp::encode(&["GET", &key]))
                    .unwrap();
            }
            let answers: Vec<Reply> = clients.iter_mut().map(|one| one.read().unwrap()).collect();
            let failed = errors(&answers, &Reply::Bulk(None));
            assert!(failed > 0, "{answers:?}");
        });
    });
}

#[test]
fn an_answer_that_nobody_asked_for_reaches_nobody() {
    each_proxy(
        "an_answer_that_nobody_asked_for_reaches_nobody",
        |program| {
            let twice = |_: &[String]| b"$5\r\nright\r\n$5\r\nstray\r\n".to_vec();
            let (mut rig, _fake) = beside(program, &["timeout: 1000"], twice);
            let name = rig.tag_on(0);
            rig.bystanders_do_not_notice(&name, |rig, _| {
                let right = Reply::Bulk(Some(b"right".to_vec()));
                let answers = probe(rig);
                errors(&answers, &right);
                assert!(answers.contains(&right), "{answers:?}");
            });
        },
    );
}

#[test]
fn an_answer_without_an_end_is_given_up_in_bounded_memory() {
    each_proxy(
        "an_answer_without_an_end_is_given_up_in_bounded_memory",
        |program| {
            // A status line of 32 MiB, and no end of it.
            let endless = |_: &[String]| [b"+".to_vec(), vec![b'a'; 32 << 20]].concat();
            let (mut rig, _fake) = beside(program, &["timeout: 1000"], endless);
            let name = rig.tag_on(0);
            let before = rig.resident_mib();
            rig.bystanders_do_not_notice(&name, |rig, workload| {
                let mut client = rig.client();
                let mut failed = 0;
                for number in 0..PROBES {
                    let key = format!("probe:{number}");
                    match client.call(&["GET", &key]) {
                        Ok(Reply::Bulk(None)) => {}
                        Ok(Reply::Error(_)) | Err(_) => failed += 1,
                        Ok(other) => panic!("{other:?}"),
                    }
                    if failed > 0 {
                        break;
                    }
                }
                assert!(failed > 0, "none of the keys was on the bad server");
                workload.wait_for_each(proxy_common::SOME, BOUND).unwrap();
                let grown = rig.resident_mib().saturating_sub(before);
                assert!(program != Program::Tandem || grown < 16, "{grown} MiB");
            });
        },
    );
}
