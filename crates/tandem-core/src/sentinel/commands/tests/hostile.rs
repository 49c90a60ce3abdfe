//! Words that nobody means well with.

use tandem_resp::Protocol;

use super::*;
use crate::sentinel::settings::Compat;

const VERBS: &[&str] = &[
    "masters",
    "master",
    "replicas",
    "sentinels",
    "get-master-addr-by-name",
    "is-master-down-by-addr",
    "reset",
    "failover",
    "pending-scripts",
    "monitor",
    "remove",
    "set",
    "config",
    "ckquorum",
    "flushconfig",
    "info-cache",
    "myid",
    "simulate-failure",
    "debug",
    "help",
    "tandem",
    "",
];

/// Every command with every choice of up to three words (four where no fewer are taken) among empty, huge, binary and extreme ones: an answer that is
/// not much longer than the words, or a change whose numbers are in range.
#[test]
fn every_word_is_answered_within_bounds() {
    let huge = vec![b'*'; 70_000];
    let nasty: [&[u8]; 10] = [
        b"",
        b"m",
        b"set",
        b"get",
        b"quorum",
        b"down-after-milliseconds",
        b"9223372036854775807",
        b"-1",
        b"\xff\x00\r\n+OK",
        &huge,
    ];
    let mut world = World::new();
    let mut asked = 0_u32;
    for compat in [Compat::V7_0, Compat::V7_2] {
        world.globals.compat = compat;
        for verb in VERBS {
            let takes_four = ["monitor", "is-master-down-by-addr"].contains(verb);
            for count in 0..=if takes_four { 4_u32 } else { 3 } {
                for choice in 0..nasty.len().pow(count) {
                    let word = |at: u32| nasty[choice / nasty.len().pow(at) % nasty.len()];
                    let words: Vec<_> = std::iter::once(verb.as_bytes())
                        .chain((0..count).map(word))
                        .map(<[u8]>::to_vec)
                        .collect();
                    check(&world, &words);
                    asked += 1;
                }
            }
        }
    }
    assert_eq!(asked, 2 * (20 * 1_111 + 2 * 11_111));
}

fn check(world: &World, words: &[Vec<u8>]) {
    match take(&world.view(), words) {
        Outcome::Reply(reply) => {
            let mut wire = Vec::new();
            reply.encode(Protocol::Resp2, &mut wire);
            assert!(wire.len() < 8 * 1024, "{} bytes", wire.len());
            if reply.as_error().is_some() {
                let ends = wire.windows(2).filter(|pair| pair == b"\r\n").count();
                assert_eq!(ends, 1, "one line: {}", wire.escape_ascii());
            }
        }
        Outcome::Change(Change::Set { changes, .. }) => {
            let mut settings = world.groups[&GroupId(0)].settings.clone();
            for change in changes {
                change.change.apply(&mut settings);
            }
            assert!((Duration::from_millis(1)..=TIME_MAX).contains(&settings.down_after));
            assert!(settings.quorum > 0);
        }
        Outcome::Change(_) => {}
    }
}
