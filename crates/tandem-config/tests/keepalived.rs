//! `keepalived.conf`: what a file means, and what is said about it.

#![allow(clippy::unwrap_used, reason = "a panic in a test is its report")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use tandem_config::Severity;
use tandem_config::keepalived::{
    self, Auth, Checksum, Config, Env, ExitClass, InitialState, Loaded, MapFiles, PeerView,
    Preemption, ScriptTest,
};

const CONF: &str = "/etc/keepalived/keepalived.conf";

fn env() -> Env {
    Env {
        config_id: "here".into(),
        variables: [("IFACE".to_owned(), "eth7".to_owned())].into(),
        has_script_user: true,
        ..Env::default()
    }
}

fn load_with(text: &str, files: MapFiles) -> Loaded {
    keepalived::read(Path::new(CONF), &files.with(CONF, text), &env())
}

fn load(text: &str) -> Loaded {
    load_with(
        text,
        MapFiles::new()
            .with("/bin/true", "")
            .with("/etc/k/a.sh", "")
            .with("/etc/k/b.sh", ""),
    )
}

fn codes(loaded: &Loaded) -> Vec<&'static str> {
    loaded
        .report
        .diagnostics
        .iter()
        .map(|found| found.code)
        .collect()
}

/// An instance with further lines.
fn instance(more: &str) -> String {
    format!(
        "vrrp_instance A {{\n  interface eth0\n  virtual_router_id 51\n{more}\n  virtual_ipaddress {{\n    10.0.0.100\n  }}\n}}\n"
    )
}

#[test]
fn an_instance_has_keepaliveds_defaults() {
    let loaded = load(&instance(""));
    assert_eq!(codes(&loaded), [""; 0]);
    assert_eq!(loaded.exit, ExitClass::Ok);
    let one = &loaded.config.instances[0];
    assert_eq!(
        (one.name.as_str(), one.router_id, one.priority),
        ("A", 51, 100)
    );
    assert_eq!(one.state, InitialState::Backup);
    assert_eq!(one.advert_interval, Duration::from_secs(1));
    assert_eq!(one.version, 2);
    assert_eq!(one.preemption, Preemption::After(Duration::ZERO));
    assert_eq!(one.auth, Auth::None);
    assert_eq!(one.checksum, Checksum::Detect);
    assert_eq!(one.multicast.to_string(), "224.0.0.18");
    assert_eq!(one.addresses[0].address.to_string(), "10.0.0.100/32");
    assert_eq!(one.addresses[0].interface, "eth0");
    assert_eq!(
        (one.garp.master_repeat, one.garp.master_delay.as_secs()),
        (5, 5)
    );
    assert_eq!(one.down_timer_adverts, 3);
}

#[test]
fn globals_are_defaults_for_instances_wherever_they_stand() {
    let text = format!(
        "{}global_defs {{\n vrrp_version 3\n vrrp_garp_master_repeat 2\n vrrp_down_timer_adverts 4\n default_interface eth3\n}}",
        instance("  advert_int 0.3\n  nopreempt")
    );
    let one = &load(&text).config.instances[0];
    assert_eq!(
        (one.version, one.garp.master_repeat, one.down_timer_adverts),
        (3, 2, 4)
    );
    assert_eq!(one.advert_interval, Duration::from_millis(300));
    assert_eq!(one.preemption, Preemption::Never);
}

#[test]
fn ipv6_is_always_version_3() {
    let loaded = load(
        "vrrp_instance A {\n interface eth0\n virtual_router_id 1\n virtual_ipaddress {\n fe80::100\n 2001:db8::1/64 dev eth1 preferred_lft 0\n }\n}",
    );
    let one = &loaded.config.instances[0];
    assert_eq!(one.version, 3);
    assert_eq!(one.multicast.to_string(), "ff02::12");
    assert_eq!(one.addresses[1].interface, "eth1");
    assert_eq!(one.addresses[1].preferred_lifetime, Some(Duration::ZERO));
}

#[test]
fn the_grammar_of_keepalived() {
    let text = r##"
$IF=eth0
$VIPS= \
  virtual_ipaddress { \
    10.0.0.100/24 brd + label ${IF}:1 \
    10.0.0.101 \
  }
global_defs { # one ! two
  router_id "a ! b"   ! quoted
}
@there vrrp_instance NOT_HERE {
@here vrrp_instance A
{
  interface $IF ! both comment characters
  virtual_router_id "51"
  ${VIPS}
  unicast_peer {
    ~SEQ(N, 2, 4) 10.0.0.${N}
    ~LST({X, Y}, {1, 2}, {3, 4}) 10.0.${X}.${Y}
    ~SEQx(H, 0x0e, 0x10) fe80::${H}
  }
  notify_master "/etc/k/a.sh 'x y' \"${_HASH}\""
  mcast_src_ip 10.0.0.1
}
include extra/*.conf
@^there vrrp_instance B { interface ${_ENV IFACE} }
"##;
    let files = MapFiles::new().with("/etc/k/a.sh", "").with(
        "/etc/keepalived/extra/b.conf",
        "vrrp_instance C {\n interface eth0\n virtual_router_id 52\n no_virtual_ipaddress\n}\n",
    );
    let loaded = load_with(text, files);
    assert_eq!(
        codes(&loaded),
        ["no-router-id"],
        "{}",
        loaded.report.render(false)
    );
    assert_eq!(loaded.config.global.router_id.as_deref(), Some("a ! b"));
    let [a, c] = loaded.config.instances.as_slice() else {
        panic!("{:?}", loaded.config.instances);
    };
    let shown: Vec<String> = a
        .addresses
        .iter()
        .map(|line| line.address.to_string())
        .collect();
    assert_eq!(shown, ["10.0.0.100/24", "10.0.0.101/32"]);
    assert_eq!(a.addresses[0].broadcast.unwrap().to_string(), "10.0.0.255");
    assert_eq!(a.addresses[0].label.as_deref(), Some("eth0:1"));
    let peers: Vec<String> = a
        .unicast_peers
        .iter()
        .map(|peer| peer.address.to_string())
        .collect();
    assert_eq!(
        peers,
        [
            "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.1.2", "10.0.3.4", "fe80::e", "fe80::f",
            "fe80::10"
        ]
    );
    assert_eq!(
        a.notify.master.as_ref().unwrap().argv,
        ["/etc/k/a.sh", "x y", "#"]
    );
    assert_eq!(c.name, "C");
}

/// What is said about one line in an instance, how keepalived classifies it, and whether tandem would start.
#[test]
fn every_trap_is_named() {
    use ExitClass::{ConfigErrors, Ok};
    for (line, code, exit, refused) in [
        ("raise 2", "unknown-keyword", ConfigErrors, false),
        ("state slave", "unknown-state", ConfigErrors, false),
        (
            "state MASTER\n nopreempt",
            "nopreempt-void",
            ConfigErrors,
            false,
        ),
        ("priority 300", "invalid-value", ConfigErrors, false),
        ("priority 10\n priority 20", "duplicate", Ok, false),
        ("advert_int 0.4", "fractional-interval", ConfigErrors, true),
        (
            "version 3\n advert_int 0.001",
            "invalid-value",
            ConfigErrors,
            false,
        ),
        (
            "authentication {\n auth_type PASS\n }",
            "password-lost",
            ConfigErrors,
            false,
        ),
        (
            "authentication {\n auth_type PASS\n auth_pass 123456789\n }",
            "long-password",
            ConfigErrors,
            false,
        ),
        (
            "version 3\n authentication {\n auth_type PASS\n auth_pass x\n }",
            "auth-with-v3",
            ConfigErrors,
            false,
        ),
        ("use_vmac vrrp.51", "unsupported", Ok, false),
        ("track_bfd {\n x\n }", "unsupported", ConfigErrors, true),
        ("smtp_alert", "ignored", Ok, false),
        (
            "foo {\n bar {\n interface eth9\n }\n }",
            "unknown-keyword",
            ConfigErrors,
            false,
        ),
        ("track_script {\n nope\n }", "undefined", ConfigErrors, true),
        (
            "notify_master /nowhere",
            "script-missing",
            ConfigErrors,
            true,
        ),
        (
            "notify_master \"/etc/k/a.sh\" root root x",
            "lost-words",
            Ok,
            false,
        ),
        (
            "virtual_ipaddress {\n 10.0.0.1 10.0.0.2\n }",
            "address",
            ConfigErrors,
            true,
        ),
        (
            "virtual_ipaddress {\n 10.0.0.1/24 lable x\n }",
            "address",
            ConfigErrors,
            false,
        ),
        (
            "preempt_delay 5\n nopreempt",
            "preempt-delay-void",
            ConfigErrors,
            false,
        ),
    ] {
        let loaded = load(&instance(line));
        let shown = loaded.report.render(false);
        assert!(codes(&loaded).contains(&code), "{line}: {shown}");
        assert_eq!(loaded.exit, exit, "{line}: {shown}");
        assert_eq!(loaded.report.has_errors(), refused, "{line}: {shown}");
        assert!(shown.contains(&format!("{CONF}:")), "{shown}");
        // Whatever was wrong with the line, the rest of the instance is there.
        assert_eq!(loaded.config.instances[0].router_id, 51, "{line}");
    }
}

#[test]
fn a_block_on_one_line_loses_the_password_as_in_keepalived() {
    let loaded = load(&instance(
        "  authentication { auth_type PASS auth_pass secret }",
    ));
    assert_eq!(codes(&loaded), ["password-lost", "one-line-block"]);
    assert_eq!(loaded.config.instances[0].auth, Auth::None);

    let whole = load(&instance(
        "  authentication {\n auth_type PASS\n auth_pass secret\n }",
    ));
    assert_eq!(whole.config.instances[0].auth, Auth::Pass(*b"secret\0\0"));
}

#[test]
fn suggestions_for_real_misspellings() {
    for (wrong, right) in [
        ("nopreermpt", "nopreempt"),
        ("virtualrouter_id 51", "virtual_router_id"),
    ] {
        let shown = load(&instance(wrong)).report.render(false);
        assert!(
            shown.contains(&format!("did you mean `{right}`?")),
            "{shown}"
        );
    }
    let script = "vrrp_script c {\n script /bin/true\n raise 2\n}";
    assert!(
        load(script)
            .report
            .render(false)
            .contains("did you mean `rise`?")
    );
}

const CHECK: &str =
    "vrrp_script chk {\n script \"/bin/true -x\"\n interval 2\n weight -20\n fall 3\n}\n";

#[test]
fn references_do_not_depend_on_the_order() {
    let watched = instance(" track_script {\n chk\n }");
    for (text, said) in [
        (format!("{CHECK}{watched}"), vec![]),
        (format!("{watched}{CHECK}"), vec!["defined-below"]),
    ] {
        let loaded = load(&text);
        assert_eq!(codes(&loaded), said);
        let tracked = &loaded.config.instances[0].track_scripts[0];
        assert_eq!((tracked.name.as_str(), tracked.weight), ("chk", Some(-20)));
        let script = &loaded.config.scripts[0];
        assert_eq!(
            (script.timeout.as_secs(), script.rise, script.fall),
            (2, 1, 3)
        );
        let Some(ScriptTest::Run(run)) = &script.test else {
            panic!("{script:?}")
        };
        assert_eq!(run.argv, ["/bin/true", "-x"]);
    }
    let own = load(&format!(
        "{CHECK}{}",
        instance(" track_script {\n chk weight 5 reverse\n }")
    ));
    let tracked = &own.config.instances[0].track_scripts[0];
    assert_eq!((tracked.weight, tracked.reverse), (Some(5), true));
}

#[test]
fn a_weight_cannot_move_the_address_away_from_a_nopreempt_pair() {
    let loaded = load(&format!(
        "{CHECK}{}",
        instance(" nopreempt\n track_script {\n chk\n }")
    ));
    assert_eq!(codes(&loaded), ["weight-nopreempt"]);
    let fault = load(&format!(
        "{}{}",
        CHECK.replace(" weight -20\n", ""),
        instance(" nopreempt\n track_script {\n chk\n }")
    ));
    assert_eq!(
        codes(&fault),
        [""; 0],
        "weight 0 is a fault, which does move it"
    );
}

#[test]
fn two_files_together_show_whether_a_check_can_move_the_address() {
    let host = |priority: u8, weight: i8| -> Config {
        let text = format!(
            "{}{}",
            CHECK.replace("-20", &weight.to_string()),
            instance(&format!(
                " priority {priority}\n track_script {{\n chk\n }}"
            ))
        );
        load(&text).config
    };
    for (mine, theirs, weight, said) in [
        (100, 90, -20, false),
        (100, 90, -5, true),
        (100, 90, 20, false),
        (100, 90, 5, true),
        (90, 100, -5, false),
    ] {
        let (here, there) = (host(mine, weight), host(theirs, weight));
        let mut report = load("").report;
        report.diagnostics.clear();
        keepalived::compare(&here, PeerView { config: &there }, &mut report);
        let found = report
            .diagnostics
            .iter()
            .any(|found| found.code == "weight-too-small");
        assert_eq!(found, said, "{mine} {theirs} {weight}");
    }
    let differs = load(&instance(" advert_int 2")).config;
    let mut report = load("").report;
    report.diagnostics.clear();
    let here = load(&instance(" priority 50")).config;
    keepalived::compare(&here, PeerView { config: &differs }, &mut report);
    assert_eq!(report.diagnostics[0].code, "peer-differs");
}

#[test]
fn scripts_are_tested_as_keepalived_would_run_them() {
    let root = |security: &str, files: MapFiles, user: bool| {
        let text = format!(
            "global_defs {{\n{security}\n}}\n{}",
            instance(" notify_master /etc/k/m.sh")
        );
        let env = Env {
            has_script_user: user,
            ..env()
        };
        keepalived::read(Path::new(CONF), &files.with(CONF, text), &env)
    };
    let good = MapFiles::new().with("/etc/k/m.sh", "");
    for (security, files, user, code, exit, refused) in [
        ("", good.clone(), true, None, ExitClass::Ok, false),
        (
            "",
            good.clone(),
            false,
            Some("script-security"),
            ExitClass::ScriptSecurity,
            false,
        ),
        (
            "enable_script_security",
            good.clone(),
            false,
            Some("script-user"),
            ExitClass::ConfigErrors,
            true,
        ),
        (
            "enable_script_security\nscript_user root",
            good,
            false,
            None,
            ExitClass::Ok,
            false,
        ),
        (
            "enable_script_security\nscript_user root",
            MapFiles::new().with_mode("/etc/k/m.sh", "", 1000, 0o755),
            false,
            Some("script-unsafe"),
            ExitClass::ScriptSecurity,
            true,
        ),
        (
            "script_user redis",
            MapFiles::new().with_mode("/etc/k/m.sh", "", 0, 0o644),
            false,
            Some("script-not-executable"),
            ExitClass::ConfigErrors,
            true,
        ),
    ] {
        let loaded = root(security, files, user);
        let shown = loaded.report.render(false);
        assert_eq!(codes(&loaded), Vec::from_iter(code), "{security}: {shown}");
        assert_eq!(
            (loaded.exit, loaded.report.has_errors()),
            (exit, refused),
            "{security}: {shown}"
        );
    }
}

#[test]
fn what_is_not_done_is_listed_with_its_place() {
    let loaded = load(&format!(
        "global_defs {{\n notification_email {{\n a@b\n }}\n vrrp_strict\n}}\nvirtual_server 10.0.0.1 80 {{\n real_server 10.0.0.2 80 {{\n }}\n}}\n{}",
        instance("")
    ));
    let words = |list: &[keepalived::Dropped]| -> Vec<String> {
        list.iter().map(|dropped| dropped.keyword.clone()).collect()
    };
    assert_eq!(
        words(&loaded.config.unsupported),
        ["vrrp_strict", "virtual_server"]
    );
    assert_eq!(words(&loaded.config.ignored), ["notification_email"]);
    assert_eq!(
        loaded
            .report
            .sources
            .position(loaded.config.unsupported[1].at)
            .line,
        7
    );
    assert_eq!(loaded.report.count(Severity::Error), 0);
    assert_eq!(loaded.config.instances.len(), 1);
}

#[test]
fn exit_codes_are_keepaliveds() {
    let missing = keepalived::read(Path::new("/nowhere"), &MapFiles::new(), &env());
    assert_eq!(missing.exit.code(), 4);
    assert!(missing.report.has_errors());
    for (text, code) in [
        (instance(""), 0),
        (format!("{}}}", instance("")), 5),
        (format!("{}vrrp_instance B {{", instance("")), 5),
        (instance("interface eth0 {"), 5),
    ] {
        assert_eq!(load(&text).exit.code(), code, "{text}");
    }
}

#[test]
fn sync_groups_keep_the_members_that_exist() {
    let loaded = load(&format!(
        "vrrp_sync_group G {{\n group {{ A AA\n }}\n notify /etc/k/b.sh\n}}\n{}",
        instance("")
    ));
    assert_eq!(codes(&loaded), ["undefined"]);
    let group = &loaded.config.sync_groups[0];
    assert_eq!(group.members.len(), 1);
    assert_eq!(group.notify.any.as_ref().unwrap().argv, ["/etc/k/b.sh"]);
}

#[test]
fn expansion_is_bounded() {
    for text in [
        "$A=${B}${B}${B}${B}${B}${B}${B}${B}\n$B=${A}${A}${A}${A}${A}${A}${A}${A}\n${A}\n",
        "~SEQ(a,1,49999) ~SEQ(b,1,49999) ~SEQ(c,1,49999)\n",
        "include keepalived.conf\ninclude keepalived.conf\n",
    ] {
        // Coming back is the assertion; a file that includes itself twice would otherwise be read 2^16 times.
        let loaded = load(text);
        assert!(loaded.config.instances.is_empty());
    }
}

/// The codes in `codes.txt` are what `keepalived -t` of version 2.2.7 exited with, on a host with an interface eth0 and no
/// user keepalived_script.
#[test]
fn exit_codes_agree_with_those_of_the_real_program() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/exit-codes");
    let codes = std::fs::read_to_string(folder.join("codes.txt")).unwrap();
    let mut compared = 0;
    for line in codes.lines() {
        let (name, code) = line.split_once(' ').unwrap();
        let content = std::fs::read(folder.join(name)).unwrap();
        let files = MapFiles::new().with(CONF, content).with("/bin/true", "");
        let loaded = keepalived::read(Path::new(CONF), &files, &Env::default());
        assert_eq!(
            loaded.exit.code().to_string(),
            code,
            "{name}: {}",
            loaded.report.render(false)
        );
        compared += 1;
    }
    assert!(compared > 20, "{compared}");
}

fn corpus() -> Vec<PathBuf> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut files = Vec::new();
    for folder in ["corpus/keepalived", "data/exit-codes"] {
        for entry in std::fs::read_dir(data.join(folder)).unwrap() {
            files.push(entry.unwrap().path());
        }
    }
    files.sort();
    files
}

#[test]
fn the_corpus_is_read_and_every_finding_can_be_drawn() {
    let files = corpus();
    assert!(files.len() > 15, "{files:?}");
    for file in files {
        let content = std::fs::read(&file).unwrap();
        let loaded = keepalived::read(
            Path::new(CONF),
            &MapFiles::new().with(CONF, content),
            &env(),
        );
        let shown = loaded.report.render(true);
        assert_eq!(
            shown.is_empty(),
            loaded.report.diagnostics.is_empty(),
            "{}",
            file.display()
        );
    }
}

proptest::proptest! {
    /// Whatever the bytes, reading ends and can be shown.
    #[test]
    fn arbitrary_bytes_are_read(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
        let files = MapFiles::new().with(CONF, bytes);
        keepalived::read(Path::new(CONF), &files, &env()).report.render(false);
    }

    /// Pieces of the grammar in any order.
    #[test]
    fn arbitrary_grammar_is_read(pieces in proptest::collection::vec(proptest::sample::select(vec![
        "vrrp_instance", "A", "{", "}", "\n", " ", "\"", "'", "\\", "#", "!", "$X=", "$X", "${X}", "~SEQ(X,1,3)",
        "~LST(X,1)", "@here", "@^here", "authentication", "auth_type", "auth_pass", "virtual_ipaddress", "10.0.0.1/24",
        "brd", "+", "dev", "track_script", "weight", "-5", "vrrp_script", "script", "interface", "virtual_router_id",
        "51", "global_defs", "unicast_peer", "min_ttl", "include", "auth_hmac", "key", "\u{e9}",
    ]), 0..60)) {
        let files = MapFiles::new().with(CONF, pieces.join(" "));
        keepalived::read(Path::new(CONF), &files, &env()).report.render(false);
    }
}
