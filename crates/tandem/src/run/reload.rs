//! What a changed file means for a running daemon: what is taken over in silence, what moves something and needs a
//! person's word, and what only a restart brings.
//!
//! A reload is whole or not at all: while something in the file would move, nothing of it counts without `--accept`. What
//! needs a restart moves nothing by being read; it is named each time and left as it was.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use tandem_config::settings::{Elector, Group, Preempt, Settings, Vip, Vrrp};
use tokio::sync::{mpsc, oneshot};

use super::control::{Answer, ReplyLine};
use super::proxy;

/// The rule that refuses.
pub(crate) const RULE: &str = "reload.moves";
/// A group takes its settings over within one turn of its loop.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Reloads waiting for the daemon.
pub(crate) const REQUESTS_MAX: usize = 4;

/// What a changed file comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Per group or proxy that has them, what would move.
    pub(crate) moves: Vec<(String, Vec<String>)>,
    /// What waits for a restart of the daemon.
    pub(crate) restart: Vec<String>,
    /// What is in force once the rest is taken over.
    pub(crate) settings: Settings,
}

/// What answers and refusals call a group.
pub(crate) fn of_group(name: &str) -> String {
    format!("group {name}")
}

/// And a proxy.
pub(crate) fn of_proxy(name: &str) -> String {
    format!("proxy {name}")
}

/// Compares what is in force with what the file says now.
pub(crate) fn plan(old: &Settings, new: &Settings) -> Plan {
    let mut plan = Plan {
        moves: Vec::new(),
        restart: Vec::new(),
        settings: old.clone(),
    };
    if old.host != new.host {
        plan.restart.push("[host]".to_owned());
    }
    if old.peers != new.peers {
        plan.restart.push("[[peer]]".to_owned());
    }
    if old.follows != new.follows {
        plan.restart.push("groups with [group.sentinel]".to_owned());
    }
    for proxy in &mut plan.settings.proxies {
        let Some(wanted) = new.proxies.iter().find(|other| other.name == proxy.name) else {
            plan.restart
                .push(format!("proxy {} (gone from the file)", proxy.name));
            continue;
        };
        let fixed = proxy::fixed(proxy, wanted);
        if !fixed.is_empty() {
            plan.restart
                .push(format!("proxy {}: {}", proxy.name, fixed.join(", ")));
        }
        let taken = proxy::taken_over(proxy, wanted);
        if let Some(moves) = proxy::moves(proxy, &taken) {
            plan.moves.push((of_proxy(&proxy.name), vec![moves]));
        }
        *proxy = taken;
    }
    for proxy in &new.proxies {
        if !old.proxies.iter().any(|other| other.name == proxy.name) {
            plan.restart.push(format!("proxy {} (new)", proxy.name));
        }
    }
    for group in &mut plan.settings.groups {
        let Some(wanted) = new.groups.iter().find(|other| other.name == group.name) else {
            plan.restart
                .push(format!("group {} (gone from the file)", group.name));
            continue;
        };
        let taken = taken_over(group, wanted);
        let fixed = fixed(group, wanted);
        if !fixed.is_empty() {
            plan.restart
                .push(format!("group {}: {}", group.name, fixed.join(", ")));
        } else if taken != *wanted {
            plan.restart.push(format!("group {}", group.name));
        }
        let moves = moves(group, &taken);
        if !moves.is_empty() {
            plan.moves.push((of_group(&group.name), moves));
        }
        *group = taken;
    }
    for group in &new.groups {
        if !old.groups.iter().any(|other| other.name == group.name) {
            plan.restart.push(format!("group {} (new)", group.name));
        }
    }
    plan
}

/// The running group with what can be taken over from the file. Every field is named, so that a new one is decided upon.
fn taken_over(old: &Group, new: &Group) -> Group {
    let Group {
        name,
        server,
        manage,
        username,
        password_file,
        down_after,
        vip,
        elector,
        ..
    } = old.clone();
    let Group {
        preempt,
        resync,
        resync_window,
        max_lag_bytes,
        boot_wait,
        flap_block,
        archive,
        drain_deadline,
        switchover_deadline,
        hooks,
        ..
    } = new.clone();
    Group {
        name,
        server,
        manage,
        username,
        password_file,
        down_after,
        preempt,
        resync,
        resync_window,
        max_lag_bytes,
        boot_wait,
        flap_block,
        archive,
        drain_deadline,
        switchover_deadline,
        hooks,
        vip: match (vip, &new.vip) {
            (Some(old), Some(new)) if same_place(&old, new) => Some(new.clone()),
            (vip, _) => vip,
        },
        elector: match (elector, new.vrrp()) {
            (Elector::Vrrp(vrrp), Some(new)) => Elector::Vrrp(Vrrp {
                priority: new.priority,
                ..vrrp
            }),
            (elector, _) => elector,
        },
    }
}

/// The VIPs stay on their interface, and the adverts in their family.
fn same_place(old: &Vip, new: &Vip) -> bool {
    old.interface == new.interface && adverts_in_ipv6(old) == adverts_in_ipv6(new)
}

/// Adverts go by IPv6 when every VIP is of it.
pub(crate) fn adverts_in_ipv6(vip: &Vip) -> bool {
    vip.addresses.iter().all(|address| address.addr.is_ipv6())
}

/// The keys that differ and cannot change under a running group.
fn fixed(old: &Group, new: &Group) -> Vec<&'static str> {
    let (Some(a), Some(b)) = (old.vrrp(), new.vrrp()) else {
        return fixed_here(old, new);
    };
    let vip = match (&old.vip, &new.vip) {
        (Some(old), Some(new)) => !same_place(old, new),
        (None, None) => false,
        (Some(_), None) | (None, Some(_)) => true,
    };
    let keys = [
        ("vip (interface, family, or whether there is one)", vip),
        ("vrrp.router_id", a.router_id != b.router_id),
        ("vrrp.interface", a.interface != b.interface),
        (
            "vrrp.advert_interval",
            a.advert_interval != b.advert_interval,
        ),
        ("vrrp.version", a.version != b.version),
        ("vrrp.unicast", a.unicast != b.unicast),
        (
            "vrrp.track_interface",
            a.track_interface != b.track_interface,
        ),
        ("vrrp.track_script", a.track_script != b.track_script),
    ];
    let mut fixed = fixed_here(old, new);
    fixed.extend(
        keys.iter()
            .filter(|(_, differs)| *differs)
            .map(|(key, _)| *key),
    );
    fixed
}

/// Those of every group, whoever elects.
fn fixed_here(old: &Group, new: &Group) -> Vec<&'static str> {
    let keys = [
        ("the elector", old.vrrp().is_some() != new.vrrp().is_some()),
        ("servers", !old.servers().eq(new.servers())),
        ("manage", old.manage != new.manage),
        ("username", old.username != new.username),
        ("password_file", old.password_file != new.password_file),
        ("down_after", old.down_after != new.down_after),
    ];
    keys.into_iter()
        .filter_map(|(key, differs)| differs.then_some(key))
        .collect()
}

/// What moves when `new` is taken over, in words.
pub(crate) fn moves(old: &Group, new: &Group) -> Vec<String> {
    let mut out = Vec::new();
    let priority = |group: &Group| group.vrrp().map(|vrrp| vrrp.priority);
    if let (Some(before), Some(after)) = (priority(old), priority(new))
        && before != after
    {
        out.push(format!("priority {before} becomes {after}"));
    }
    if (old.preempt, new.preempt) == (Preempt::Never, Preempt::AfterSync) {
        out.push("preempt after-sync may hand the role over".to_owned());
    }
    let (before, after) = (addresses(old), addresses(new));
    let comes = after.iter().filter(|vip| !before.contains(vip));
    out.extend(comes.map(|vip| format!("VIP {vip} comes")));
    let goes = before.iter().filter(|vip| !after.contains(vip));
    out.extend(goes.map(|vip| format!("VIP {vip} goes, and its clients with it")));
    out
}

/// The VIPs of a group.
pub(crate) fn addresses(group: &Group) -> Vec<IpAddr> {
    let vips = group.vip.iter().flat_map(|vip| &vip.addresses);
    vips.map(|prefix| prefix.addr).collect()
}

/// A reload that was asked for: by HUP, which never accepts, or by a person.
pub(crate) struct Request {
    /// What the file says.
    pub(crate) new: Settings,
    /// A person agrees to what it moves.
    pub(crate) accept: bool,
    /// The answers, each as soon as its group has one.
    pub(crate) answer: oneshot::Sender<Answers>,
}

/// Answers under way, by group.
pub(crate) type Answers = Vec<(String, oneshot::Receiver<Answer>)>;

/// Asks the daemon to read its file again.
#[derive(Debug, Clone)]
pub(crate) struct Reloader {
    path: PathBuf,
    requests: mpsc::Sender<Request>,
}

impl Reloader {
    /// For a daemon with this file.
    pub(crate) fn new(path: PathBuf, requests: mpsc::Sender<Request>) -> Self {
        Self { path, requests }
    }

    /// Reads the file and has it taken over; what became of it, by group.
    pub(crate) async fn reload(&self, accept: bool) -> Vec<(String, ReplyLine)> {
        let path = self.path.clone();
        // A disk may take its time, and the daemon's only thread must not.
        let read = tokio::task::spawn_blocking(move || crate::cli::load(&path)).await;
        let new = match read {
            Ok(Ok(new)) => new,
            Ok(Err(report)) => {
                let text = format!("the old settings stay in force:\n{report}");
                return vec![("[file]".to_owned(), ReplyLine::failed(text))];
            }
            Err(error) => return vec![("[file]".to_owned(), ReplyLine::failed(error.to_string()))],
        };
        let (answer, answered) = oneshot::channel();
        let request = Request {
            new,
            accept,
            answer,
        };
        let asked = self.requests.send(request).await.is_ok();
        let Some(answers) = asked.then_some(answered.await.ok()).flatten() else {
            let text = "the daemon is stopping".to_owned();
            return vec![("[daemon]".to_owned(), ReplyLine::failed(text))];
        };
        let mut out = Vec::new();
        for (group, answer) in answers {
            let line = match tokio::time::timeout(ANSWER_WITHIN, answer).await {
                Ok(Ok(Answer::Reply(line))) => line,
                Ok(
                    Ok(
                        Answer::Status(_)
                        | Answer::Follow(_)
                        | Answer::Explain(_)
                        | Answer::Witness(_),
                    )
                    | Err(_),
                )
                | Err(_) => ReplyLine::failed("the group's loop gave no answer".to_owned()),
            };
            out.push((group, line));
        }
        out
    }
}

impl Plan {
    /// The refusal for a group or proxy, if the plan may not be taken over.
    pub(crate) fn refusal(&self, whose: &str) -> ReplyLine {
        let own = self.moves.iter().find(|(name, _)| name == whose);
        let why = match own {
            Some((_, moves)) => moves.join("; "),
            None => {
                let others: Vec<&str> = self.moves.iter().map(|(name, _)| name.as_str()).collect();
                format!("{} would move", others.join(", "))
            }
        };
        ReplyLine {
            outcome: "refused".to_owned(),
            rule: Some(RULE.to_owned()),
            text: format!("{why}. Nothing was taken over; tandem reload --accept does it"),
        }
    }
}

#[cfg(test)]
mod tests {
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
        assert_eq!(it.restart, ["proxy p (new)"]);
        let it = plan(&silent, &read(FILE));
        assert_eq!(it.restart, ["proxy p (gone from the file)"]);
        assert_eq!(it.settings, silent);
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
}
