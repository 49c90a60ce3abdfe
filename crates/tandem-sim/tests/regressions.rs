//! Seeds that found a fault once. The number is only good for the plan and the course that it gave then;
//! what it found is told beside it, so that a reader knows what to look for when it fails again.

use tandem_sim::Place;

/// Seed and what it found in the keeper.
const FIXED: &[(u64, &str)] = &[
    (
        11,
        "both stated a release of the newest known epoch and waited for each other for ever",
    ),
    (
        22,
        "a mark was taken for all that a restarted AOF server holds; its rest was discarded",
    ),
    (
        28,
        "a daemon stopped within a hand-over left its gate closed, nobody opened it again",
    ),
    (
        30,
        "a release named an epoch that its host was never primary of",
    ),
    (
        38,
        "the same alarm, with its hook, was told again with every tick",
    ),
    (
        40,
        "addresses that a leaving daemon had left stayed beside those of the new primary",
    ),
    (
        42,
        "a record written after an aborted attempt took the journal's epoch back",
    ),
    (
        60,
        "a host whose primary stepped back while it synced waited for ever",
    ),
    (
        185,
        "a reading of the dead process was used to adopt its empty successor",
    ),
    (
        336,
        "an orphaned replica reconnected to an older successor by itself and was wiped",
    ),
    (
        342,
        "an old snapshot was compared as if it were the journal's last mark",
    ),
    (
        506,
        "a replica that left while syncing forgot whose newer data it held",
    ),
    (
        600,
        "two hosts with the same number, one released: neither moved",
    ),
    (
        777,
        "a server resynced since its restart was judged by a mark from before",
    ),
    (
        828,
        "a thawed daemon compared its server's reading from before the freeze",
    ),
    (
        1720,
        "a promise that had waited in the sockets of a frozen daemon was acted upon",
    ),
    (
        2953,
        "the loser of a verdict whose winner died waited for ever",
    ),
    (
        3204,
        "the lineage that a primary renames at its first replica was not recognised",
    ),
    (
        2047,
        "a release was durable but not remembered, and was stated after the next start",
    ),
    (
        3806,
        "a thawed server was compared by its reading from before its freeze",
    ),
    (
        7921,
        "a host that was stepping back put addresses on whose state was unknown",
    ),
    (
        9860,
        "a promotion that hung took the journal back behind a newer epoch heard meanwhile",
    ),
    (
        16346,
        "a promise was acted upon after its sender fell silent and took its role back",
    ),
    (
        4916,
        "a question whether an older primary may be followed was asked anew with every tick",
    ),
    (
        5123,
        "a host that came back empty went on alone though the other had had data",
    ),
    (
        5906,
        "an address whose addition timed out but took effect was never taken off",
    ),
    (
        5688,
        "a winner that lost the link before the loser's evidence came never drew the verdict",
    ),
    (
        87,
        "a replica was detached by an old reading while bytes waited in its socket",
    ),
    (
        1_215,
        "a primary that came back empty was fenced from afar, and waiting for equal offsets wiped the replica",
    ),
    (
        7_459,
        "an AOF server that lost its last second was taken for the primary that it had just become",
    ),
    (
        103_168,
        "a host took over on a release that it had declined, while its sender took its role back",
    ),
    (
        126_294,
        "the command that detaches an orphan went astray, and was repeated only when the orphan had been wiped",
    ),
    (
        143_606,
        "a takeover waited for a slow disk with its server attached, which the old primary wiped on its return",
    ),
    (
        2_681,
        "both hosts had counted to the same epoch, and proxies obeyed the one that had stepped back by its later turn",
    ),
    (
        4_401,
        "a promotion behind a cut was lost with its host before it was recorded, and the primary went on in an older epoch",
    ),
    (
        4_500,
        "a primary was told as closing in the other host's epoch, in which nothing was promoted",
    ),
    (9_858, "as above, after a promotion that could not fence"),
    (
        6_254,
        "turns of one host's epoch were told as the other's, which had the same number",
    ),
    (6_420, "as above"),
    (
        19_519,
        "a replica's mark skipped a lineage of under a second, and after the power was back its AOF counted for more than it held",
    ),
    (
        13_943,
        "a verdict's epoch was told before it was durable, and forgotten in a crash",
    ),
    (
        1_975,
        "a primary that had stepped back counted turns of its successor's epoch, and proxies passed the successor's word over",
    ),
];

/// The same with both servers on one host, and where primaries may acknowledge alone.
const FIXED_ELSEWHERE: &[(Place, u64, &str)] = &[
    (
        Place::OneHost,
        5_061,
        "a primary that came back empty was left as it was while nothing was decided, and wiped its replica as that thawed",
    ),
    (
        Place::Alone,
        19_803,
        "a server whose front could not be closed got the addresses while it was killed for that",
    ),
];

#[test]
fn seeds_of_fixed_faults_hold() {
    for (seed, found) in FIXED {
        let violation = tandem_sim::run_seed(Place::TwoHosts, *seed, false);
        assert!(violation.is_none(), "seed {seed} ({found}): {violation:?}");
    }
    for (place, seed, found) in FIXED_ELSEWHERE {
        let violation = tandem_sim::run_seed(*place, *seed, false);
        assert!(
            violation.is_none(),
            "seed {seed}, {place:?} ({found}): {violation:?}"
        );
    }
}
