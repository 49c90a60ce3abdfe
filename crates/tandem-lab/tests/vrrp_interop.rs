//! `tandem vrrp` and the real keepalived share one address. The whole matrix is `interop::matrix()`, for the bench;
//! here every two properties meet once.

use tandem_lab::interop::{Blow, Case, Mode, Rank, Wire, pairwise, run};
use tandem_lab::{can_run_as_root, interop};

/// Runs the cases of one kind of wire, so that a failure names it and the kinds are separate tests.
fn play(test: &str, wire: Wire) {
    if !can_run_as_root(test) {
        return;
    }
    let cases = pairwise();
    let of_wire: Vec<_> = cases.iter().filter(|case| case.wire == wire).collect();
    assert!(!of_wire.is_empty());
    for case in of_wire {
        if let Err(error) = run(*case) {
            panic!("{error:?}");
        }
    }
}

#[test]
fn version_2_without_authentication() {
    play("version_2_without_authentication", Wire::V2);
}

#[test]
fn version_2_with_a_password() {
    play("version_2_with_a_password", Wire::V2Pass);
}

#[test]
fn version_3() {
    play("version_3", Wire::V3);
}

#[test]
fn the_matrix_for_the_bench_contains_the_subset() {
    let all = interop::matrix();
    assert!(pairwise().iter().all(|case| all.contains(case)));
    assert!(all.contains(&Case {
        wire: Wire::V3,
        mode: Mode::Unicast,
        rank: Rank::Equal,
        blow: Blow::Cut
    }));
}
