//! What the lab expects of the tandem binary: its command line, and the fields of its status. A shell script stands in
//! for the binary, so that the instrument is known to work apart from the product.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use tandem_lab::arrangement::{Arrangement, Fault, Side, TandemPair, VIP};
use tandem_lab::can_run;
use tandem_lab::server::Settings;

/// Keeps the address on host `a` for as long as it runs there, and becomes ready when its file says so.
const STAND_IN: &str = r#"#!/bin/sh
set -eu
verb="$1"; file="$3"
case "$file" in */a/*) here=true ;; *) here=false ;; esac
case "$verb" in
run)
    grep -q 'down_after = "300ms"' "$file"
    test "$(stat -c %a "$(dirname "$file")/secret")" = 600
    if $here; then ip addr replace 10.0.0.100/24 dev eth0; fi
    exec sleep 1000 ;;
status)
    test "$4" = --json
    if $here; then role=primary; else role=replica; fi
    echo "{\"groups\":[{\"name\":\"orders\",\"role\":\"$role\",\"ready\":true,\"epoch\":1,\"vip_here\":$here}]}" ;;
*)
    echo "refused" >&2
    exit 3 ;;
esac
"#;

#[test]
fn a_pair_is_started_questioned_broken_and_settled_by_the_command_line() {
    if !can_run("a_pair_is_started_questioned_broken_and_settled_by_the_command_line") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("tandem");
    std::fs::write(&program, STAND_IN).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();

    let mut pair = TandemPair::new(program, Settings::default())
        .unwrap()
        .group_line("resync = \"automatic\"");
    assert_eq!(pair.start(0).unwrap(), Side::A);
    assert_eq!(
        pair.status(Side::B).unwrap()["groups"][0]["role"],
        "replica"
    );
    let config = std::fs::read_to_string(pair.file(Side::A)).unwrap();
    assert!(config.contains("resync = \"automatic\""), "{config}");

    let refused = pair.inject(Fault::Switchover).unwrap_err();
    assert!(format!("{refused:#}").contains("refused"), "{refused:#}");

    // The stand-in is as good a daemon to kill as any: it must be started again, and only on the host that lost it.
    pair.inject(Fault::KillDaemon).unwrap();
    pair.pair()
        .host(Side::A)
        .run("ip", &["addr", "del", "10.0.0.100/24", "dev", "eth0"])
        .unwrap();
    assert!(pair.primary().unwrap().is_err());
    assert_eq!(pair.settle(Duration::from_secs(30)).unwrap(), Side::A);
    assert!(pair.pair().host(Side::A).has_address(VIP).unwrap());
}
