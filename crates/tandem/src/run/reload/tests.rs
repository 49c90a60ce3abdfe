use super::*;

const FILE: &str = r#"
[host]
id = "a"
address = "10.0.0.1"
secret_file = "/s"

[[peer]]
id = "b"
address = "10.0.0.2"

[[group]]
name = "g"
servers = ["10.0.0.1:6379"]
down_after = "1s"
boot_wait = "30s"
preempt = "never"

[group.vip]
addresses = ["10.0.0.100/24", "10.0.0.101/24"]
interface = "eth0"

[group.vrrp]
router_id = 51
priority = 100
"#;

fn read(text: &str) -> Settings {
    let (settings, report) = tandem_config::settings::read("t", text);
    settings.unwrap_or_else(|| panic!("{}", report.render(false)))
}

/// The plan after a piece of the file was replaced.
fn changed(from: &str, to: &str) -> Plan {
    assert!(FILE.contains(from), "{from}");
    plan(&read(FILE), &read(&FILE.replace(from, to)))
}

#[test]
fn policies_and_bounds_are_taken_over_in_silence() {
    for (from, to) in [
        ("boot_wait = \"30s\"", "boot_wait = \"60s\""),
        ("preempt = \"never\"", "max_lag = \"2mb\""),
        ("preempt = \"never\"", "resync = \"ask\""),
        (
            "interface = \"eth0\"",
            "interface = \"eth0\"\nlifetime = \"9s\"",
        ),
    ] {
        let plan = changed(from, to);
        assert!(plan.moves.is_empty(), "{to}: {:?}", plan.moves);
        assert!(plan.restart.is_empty(), "{to}: {:?}", plan.restart);
        assert_eq!(plan.settings, read(&FILE.replace(from, to)), "{to}");
    }
}

#[test]
fn a_proxy_changes_in_place_unless_keys_move_or_threads_are_made_by_it() {
    let with = |proxy: &str| read(&format!("{FILE}\n[[proxy]]\nname = \"p\"\n{proxy}"));
    let here = "listen = \"10.0.0.1:6400\"\ngroups = [\"g\"]\n";
    let group = FILE.split("[[group]]").nth(1).unwrap();
    let second = group
        .replace("\"g\"", "\"h\"")
        .replace("6379", "6380")
        .replace("51", "52")
        .replace(".100/", ".110/")
        .replace(".101/", ".111/");
    let old = with(here);

    let silent = with(&format!(
        "{here}timeout = \"1s\"\nack = 1\nmax_key = \"1kb\"\n"
    ));
    let it = plan(&old, &silent);
    assert!(it.moves.is_empty(), "{:?}", it.moves);
    assert!(it.restart.is_empty(), "{:?}", it.restart);
    assert_eq!(it.settings, silent);

    let threads = with(&format!("{here}threads = 3\ntimeout = \"1s\"\n"));
    let it = plan(&old, &threads);
    assert_eq!(it.restart, ["proxy p: threads"]);
    assert_eq!(it.settings.proxies[0].threads, old.proxies[0].threads);
    assert_eq!(it.settings.proxies[0].timeout, threads.proxies[0].timeout);

    // An address that is another host's at times stays with its port.
    let vip = |port: u16, priority: u8| {
        with(&format!(
            "listen = \"0.0.0.0:{port}\"\ngroups = [\"g\"]\n[proxy.vip]\naddress = \"10.0.0.200/24\"\n\
                 interface = \"eth0\"\n[proxy.vrrp]\nrouter_id = 60\npriority = {priority}\n"
        ))
    };
    let it = plan(&vip(6400, 100), &vip(6401, 101));
    assert_eq!(it.restart, ["proxy p: listen (beside a VIP), vip, vrrp"]);
    assert_eq!(it.settings, vip(6400, 100));

    // Certificates may be elsewhere, but whether TLS is spoken is settled.
    let there = |tls: &str| {
        with(&format!(
            "listen = \"10.0.0.1:6400\"\ngroups = [\"r\"]\n{tls}[[proxy.group]]\nname = \"r\"\nserver = \"10.0.0.9:6379\"\n"
        ))
    };
    let tls = |file: &str| {
        there(&format!(
            "tls = {{ cert_file = \"{file}\", key_file = \"/k\" }}\n\
                 server_tls = {{ ca_file = \"{file}\", server_name = \"n\" }}\n"
        ))
    };
    let it = plan(&tls("/c"), &tls("/d"));
    assert!(it.restart.is_empty(), "{:?}", it.restart);
    assert_eq!(it.settings, tls("/d"));
    let it = plan(&tls("/c"), &there(""));
    let named = "proxy p: tls (whether there is one), server_tls (whether there is one, or its server_name)";
    assert_eq!(it.restart, [named]);
    assert_eq!(it.settings, tls("/c"));

    let two = "listen = \"10.0.0.1:6400\"\ngroups = [\"g\", \"h\"]\n";
    let text = format!("{FILE}\n[[group]]{second}\n[[proxy]]\nname = \"p\"\n");
    let (old, new) = (
        read(&format!("{text}{here}")),
        read(&format!("{text}{two}")),
    );
    let it = plan(&old, &new);
    assert_eq!(it.settings, new);
    let (whose, moves) = &it.moves[0];
    assert_eq!(whose, "proxy p");
    assert!(moves[0].contains("% of the keys"), "{moves:?}");
    assert!(it.refusal("group g").text.starts_with("proxy p would move"));

    let it = plan(&read(FILE), &silent);
    assert!(it.moves.is_empty(), "{:?}", it.moves);
    assert!(it.restart.is_empty(), "{:?}", it.restart);
    assert_eq!(it.settings, silent, "it comes");
    let it = plan(&silent, &read(FILE));
    let goes = vec!["goes, and its clients with it".to_owned()];
    assert_eq!(it.moves, [("proxy p".to_owned(), goes)]);
    assert_eq!(it.settings, read(FILE));

    // What a new group serves has to wait for that.
    let it = plan(&read(FILE), &new);
    let waits = ["proxy p (new, as one of its groups is)", "group h (new)"];
    assert_eq!(it.restart, waits);
    let it = plan(&with(here), &new);
    let waits = ["proxy p: groups (one of them is new)", "group h (new)"];
    assert_eq!(it.restart, waits);
    assert_eq!(it.settings, with(here));
}

#[test]
fn a_proxy_before_a_cluster_changes_as_others_do() {
    let with = |proxy: &str| {
        read(&format!(
            "{FILE}\n[[proxy]]\nname = \"p\"\nlisten = \"10.0.0.1:6400\"\n{proxy}"
        ))
    };
    let old = with("cluster = [\"10.0.0.8:7000\"]\n");
    let silent = with(
        "cluster = [\"10.0.0.9:7000\", \"10.0.0.8:7001\"]\ntimeout = \"1s\"\nmax_key = \"1kb\"\npassword_file = \"/p\"\n",
    );
    let it = plan(&old, &silent);
    assert!(it.moves.is_empty(), "{:?}", it.moves);
    assert!(it.restart.is_empty(), "{:?}", it.restart);
    assert_eq!(it.settings, silent);

    let fixed = with("cluster = [\"10.0.0.8:7000\"]\nthreads = 3\nmax_clients = 9\n");
    let it = plan(&old, &fixed);
    assert_eq!(it.restart, ["proxy p: threads, max_clients"]);
    assert_eq!(it.settings, old);

    // What groups have is not what a cluster has.
    let groups = with("groups = [\"g\"]\nack = 1\ntimeout = \"1s\"\n");
    for (from, to) in [(&old, &groups), (&groups, &old)] {
        let it = plan(from, to);
        let why = "proxy p: everything, as a cluster takes the place of groups or groups that of a cluster";
        assert_eq!(it.restart, [why]);
        assert_eq!(it.settings, *from);
    }
}

#[test]
fn what_moves_is_told_by_name_and_refused() {
    for (from, to, words) in [
        (
            "priority = 100",
            "priority = 90",
            vec!["priority 100 becomes 90"],
        ),
        (
            "preempt = \"never\"",
            "preempt = \"after-sync\"",
            vec!["preempt after-sync may hand the role over"],
        ),
        (
            ", \"10.0.0.101/24\"",
            ", \"10.0.0.102/24\"",
            vec![
                "VIP 10.0.0.102 comes",
                "VIP 10.0.0.101 goes, and its clients with it",
            ],
        ),
    ] {
        let plan = changed(from, to);
        let expected: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        assert_eq!(plan.moves, [("group g".to_owned(), expected)]);
        assert!(plan.restart.is_empty(), "{:?}", plan.restart);
        assert_eq!(plan.settings, read(&FILE.replace(from, to)));
        let refusal = plan.refusal("group g");
        assert_eq!(refusal.rule.as_deref(), Some(RULE));
        assert!(refusal.text.starts_with(words[0]), "{}", refusal.text);
        assert!(
            plan.refusal("group other")
                .text
                .starts_with("group g would move")
        );
    }
}

#[test]
fn what_needs_a_restart_is_named_and_stays_as_it_was() {
    for (from, to, named) in [
        ("id = \"a\"", "id = \"c\"", "[host]"),
        (
            "address = \"10.0.0.2\"",
            "address = \"10.0.0.3\"",
            "[[peer]]",
        ),
        ("10.0.0.1:6379", "10.0.0.1:6380", "group g: servers"),
        (
            "down_after = \"1s\"",
            "down_after = \"2s\"",
            "group g: down_after",
        ),
        (
            "down_after = \"1s\"",
            "username = \"tandem\"\npassword_file = \"/p\"",
            "group g: username, password_file",
        ),
        (
            "router_id = 51",
            "router_id = 52",
            "group g: vrrp.router_id",
        ),
        (
            "name = \"g\"",
            "name = \"h\"",
            "group g (gone from the file)",
        ),
        (
            "addresses = [\"10.0.0.100/24\", \"10.0.0.101/24\"]",
            "address = \"2001:db8::100/64\"",
            "group g: vip (interface, family, or whether there is one)",
        ),
    ] {
        let plan = changed(from, to);
        assert!(plan.moves.is_empty(), "{to}: {:?}", plan.moves);
        assert_eq!(plan.restart[0], named);
        assert_eq!(plan.settings, read(FILE), "{to}");
    }
}
