//! The same arrangements after `tandem import`, under `tandem run`: no script is left, and the primary's death moves role and
//! address; what it missed it gets back as a replica before it takes anything back.

#![allow(clippy::unwrap_used, reason = "a helper fails as its test does")]

mod scenario;

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use serde_json::Value;
use tandem_lab::ns::{Host, Lab};
use tandem_lab::process::Process;
use tandem_lab::{can_run_as_root, poll, tandem_binary};

use scenario::{
    BOUND, LOOK, becomes, connect, inside, install, install_prefix, moves_to, rename_to_eth2,
    reports, server, serves, value,
};

/// One arrangement: its hosts, the preferred one first, each with its name in the files and its keepalived.conf.
struct Arrangement {
    scenario: &'static str,
    hosts: [&'static str; 2],
    configs: [&'static str; 2],
    group: &'static str,
    vip: &'static str,
    password: Option<&'static str>,
    /// Added to the group by hand, as the page about migrating says.
    lines: &'static str,
}

/// An arrangement at work under `tandem run`.
struct Imported<'a> {
    lab: &'a Lab,
    what: Arrangement,
    _daemons: Vec<Process>,
}

impl Arrangement {
    /// `tandem import` on a host, and what it asks a person to do.
    fn import(&self, host: &Host, peer: &Host, config: &str) {
        install(host, self.scenario, config);
        let (dir, program) = (host.dir(), tandem_binary().unwrap());
        let shell = format!(
            "exec {} import /etc/keepalived/keepalived.conf --id {} --address {} --peer {}={} --output {}/imported.toml",
            program.display(),
            host.name(),
            host.address(),
            peer.name(),
            peer.address(),
            dir.display()
        );
        let mut command = inside(host, &shell);
        let output = host.enter(|| command.output()).unwrap().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        let imported = std::fs::read_to_string(dir.join("imported.toml")).unwrap();
        assert!(!imported.contains("Fill in:"), "{imported}");
        // The file names /etc/tandem and /var/lib/tandem, which two hosts of one machine would share.
        let etc = format!("{}/", dir.display());
        let text = imported
            .replace("/etc/tandem/", &etc)
            .replacen(
                "secret_file",
                &format!("state_dir = \"{}/state\"\nsecret_file", dir.display()),
                1,
            )
            .replacen("\n[group.vip]", &format!("{}\n[group.vip]", self.lines), 1);
        std::fs::write(dir.join("tandem.toml"), text).unwrap();
        let secret = [("secret", "of the lab and of nothing else, long enough\n")];
        let password = self.password.map(|password| ("redis.password", password));
        for (name, text) in secret.into_iter().chain(password) {
            let path = dir.join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
    }

    /// Imports on both hosts and starts both daemons; `servers` start before them.
    fn start(self, lab: &Lab) -> Imported<'_> {
        let [a, b] = self.hosts.map(|name| lab.host(name));
        self.import(a, b, self.configs[0]);
        self.import(b, a, self.configs[1]);
        let daemons = [a, b].map(|host| {
            let shell = format!(
                "exec {} run -c {}/tandem.toml",
                tandem_binary().unwrap().display(),
                host.dir().display()
            );
            host.spawn("tandem", &mut inside(host, &shell))
                .unwrap()
                .alone()
        });
        Imported {
            lab,
            what: self,
            _daemons: daemons.into(),
        }
    }
}

impl Imported<'_> {
    fn preferred(&self) -> &Arc<Host> {
        self.lab.host(self.what.hosts[0])
    }

    fn other(&self) -> &Arc<Host> {
        self.lab.host(self.what.hosts[1])
    }

    /// Waits until both daemons call the pair well, with the primary and the address on this host.
    fn well_on(&self, primary: &str) {
        let replica = if primary == self.what.hosts[0] {
            self.what.hosts[1]
        } else {
            self.what.hosts[0]
        };
        moves_to(self.lab, self.what.hosts, self.what.vip, primary);
        for (host, role) in [(primary, "primary"), (replica, "replica")] {
            let host = self.lab.host(host);
            poll::until(
                &format!("{} to be {role} and ready", host.name()),
                BOUND,
                LOOK,
                || {
                    let file = host.dir().join("tandem.toml");
                    let program = tandem_binary()?;
                    let told = host.run(
                        program.to_str().unwrap(),
                        &["status", "-c", file.to_str().unwrap(), "--json"],
                    );
                    let group = match told {
                        Ok(text) => serde_json::from_str::<Value>(&text)?["groups"][0].clone(),
                        Err(error) => return Ok(Err(format!("{error:#}"))),
                    };
                    Ok(if group["role"] == role && group["ready"] == true {
                        Ok(())
                    } else {
                        Err(group.to_string())
                    })
                },
            )
            .unwrap_or_else(|error| panic!("{error:?}\n{}", self.logs()));
        }
    }

    fn logs(&self) -> String {
        let logs = self.what.hosts.map(|host| {
            let log = self.lab.host(host).dir().join("tandem.log");
            let text = std::fs::read_to_string(log).unwrap_or_default();
            let lines: Vec<_> = text.lines().collect();
            lines[lines.len().saturating_sub(60)..].join("\n")
        });
        logs.join("\n---\n")
    }

    /// How many events of a name a host's history has.
    fn events(&self, host: &Host, name: &str) -> usize {
        let path = host
            .dir()
            .join("state")
            .join(self.what.group)
            .join("history.jsonl");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.matches(&format!("\"{name}\"")).count()
    }

    /// Kills the primary on the preferred host; `again` starts a server there if nobody else does.
    fn survives_the_primarys_death(&self, again: impl FnOnce()) {
        let (vip, password) = (self.what.vip, self.what.password);
        let (preferred, other) = (self.preferred(), self.other());
        let client = self.lab.host("client");
        self.well_on(preferred.name());
        serves(client, vip, password, "before");
        let promoted = self.events(other, "+switch-master");
        let attached = self.events(preferred, "+slave");
        let pid = connect(preferred, password)
            .unwrap()
            .info("process_id")
            .unwrap();
        preferred.kill(pid.parse().unwrap()).unwrap();
        poll::until("the other host to be promoted", BOUND, LOOK, || {
            Ok(if self.events(other, "+switch-master") > promoted {
                Ok(())
            } else {
                Err(self.logs())
            })
        })
        .unwrap();
        serves(client, vip, password, "after");
        again();
        // The files have no nopreempt, so the import says `preempt = "after-sync"`: the old primary returns as a replica, and
        // takes the role back once it has the same data.
        self.well_on(preferred.name());
        assert!(
            self.events(preferred, "+slave") > attached,
            "{}",
            self.logs()
        );
        becomes(preferred, password, "master");
        reports(other, password, "master_link_status", "up");
        for key in ["before", "after"] {
            for host in [preferred, other] {
                let found = value(host, password, key);
                assert_eq!(found.as_deref(), Some("1"), "{key} on {}", host.name());
            }
        }
        serves(client, vip, password, "again");
    }
}

#[test]
fn two_containers_imported() {
    if !can_run_as_root("two_containers_imported") {
        return;
    }
    let lab = Lab::builder()
        .host("c4", "172.18.0.4/16")
        .host("c5", "172.18.0.5/16")
        .host("client", "172.18.0.50/16")
        .build()
        .unwrap();
    let secret = [
        "requirepass 123456",
        "masterauth 123456",
        "repl-diskless-sync-delay 0",
    ];
    let mut first = server(lab.host("c4"), &secret);
    let _second = server(
        lab.host("c5"),
        &[&secret[..], &["replicaof 172.18.0.4 6379"]].concat(),
    );
    let pair = Arrangement {
        scenario: "two-containers",
        hosts: ["c4", "c5"],
        configs: ["keepalived.conf", "keepalived-b.conf"],
        group: "VI_1",
        vip: "172.18.0.10",
        password: Some("123456"),
        lines: "",
    }
    .start(&lab);
    pair.survives_the_primarys_death(|| first.restart().unwrap());
}

#[test]
fn auto_failover_imported() {
    if !can_run_as_root("auto_failover_imported") {
        return;
    }
    let lab = Lab::builder()
        .host("redis-a", "192.168.100.201/24")
        .host("redis-b", "192.168.100.202/24")
        .host("client", "192.168.100.50/24")
        .build()
        .unwrap();
    for host in ["redis-a", "redis-b"] {
        rename_to_eth2(lab.host(host));
    }
    let quick = "repl-diskless-sync-delay 0";
    let mut primary = server(lab.host("redis-b"), &[quick]);
    let _replica = server(
        lab.host("redis-a"),
        &[quick, "replicaof 192.168.100.202 6379"],
    );
    let pair = Arrangement {
        scenario: "auto-failover",
        // Its second host has the higher priority.
        hosts: ["redis-b", "redis-a"],
        configs: ["keepalived-b.conf", "keepalived.conf"],
        group: "VI_1",
        vip: "192.168.100.123",
        password: None,
        lines: "",
    }
    .start(&lab);
    pair.survives_the_primarys_death(|| primary.restart().unwrap());
}

#[test]
fn hot_standby_imported() {
    if !can_run_as_root("hot_standby_imported") {
        return;
    }
    let lab = Lab::builder()
        .host("r218", "192.168.1.218/24")
        .host("r219", "192.168.1.219/24")
        .host("client", "192.168.1.50/24")
        .build()
        .unwrap();
    for (host, other) in [("r218", "192.168.1.219"), ("r219", "192.168.1.218")] {
        install_prefix(lab.host(host), other, false);
    }
    let pair = Arrangement {
        scenario: "hot-standby",
        hosts: ["r218", "r219"],
        configs: ["keepalived.conf", "keepalived-b.conf"],
        group: "VI_REDIS",
        vip: "192.168.1.220",
        password: None,
        lines: "manage = \"spawn\"\nredis_conf = \"/opt/redis/conf/redis-master.conf\"\nredis_server = \"/opt/redis/bin/redis-server\"\nrun_as = \"redis\"\n",
    }
    .start(&lab);
    // Nobody starts a server by hand, neither at first nor after its death.
    pair.survives_the_primarys_death(|| {});
}
