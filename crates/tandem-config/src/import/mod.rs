//! `tandem import`: from a keepalived configuration to a `tandem.toml`.
//!
//! An instance becomes a group with its VIP and elector. Scripts that only do what tandem does itself (ask the server, change
//! its role, wait, log) are left out; those that do more stay as hooks or checks. Every line that is not carried over is
//! named in a comment with the reason. What a keepalived file does not say (addresses of the hosts) is asked for by a
//! comment that begins with `Fill in:`, and the file does not pass `tandem check` until it is filled in. No password is ever written.

mod shell;

use std::net::IpAddr;
use std::time::Duration;

use crate::keepalived::{
    Auth, Files, Instance, Loaded, Preemption, Script, ScriptDef, ScriptTest, Tracked,
};
use crate::settings::toml_text;
use crate::value::format_duration;

use shell::Purpose;

/// What the caller knows beyond the file. Everything may be left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImportFacts {
    /// Name of this host; else the file's router_id, else `a`.
    pub host_id: Option<String>,
    /// Address of this host; else `unicast_src_ip`.
    pub host_address: Option<IpAddr>,
    /// Name of the other host; else `b`.
    pub peer_id: Option<String>,
    /// Address of the other host; else `unicast_peer`, else the primary that notify_backup names.
    pub peer_address: Option<IpAddr>,
}

/// The result of an import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The text of a `tandem.toml`.
    pub toml: String,
    /// What a person has to do before it can be used, one sentence each.
    pub todo: Vec<String>,
}

/// Turns what was read from a `keepalived.conf` into a `tandem.toml`. Scripts are looked at through `files`.
pub fn import(loaded: &Loaded, files: &dyn Files, facts: &ImportFacts) -> Imported {
    let mut import = Import {
        loaded,
        files,
        body: String::new(),
        dropped: Vec::new(),
        todo: Vec::new(),
        password: false,
        primary: None,
        port: None,
    };
    let mut merged: Vec<&str> = Vec::new();
    for instance in &loaded.config.instances {
        if merged.contains(&instance.name.as_str()) {
            continue;
        }
        // The members of a sync group move together: one group with the addresses of all.
        let partners: Vec<&Instance> = loaded
            .config
            .sync_groups
            .iter()
            .filter(|group| group.members.iter().any(|(name, _)| *name == instance.name))
            .flat_map(|group| &group.members)
            .filter(|(name, _)| *name != instance.name)
            .filter_map(|(name, _)| {
                loaded
                    .config
                    .instances
                    .iter()
                    .find(|other| other.name == *name)
            })
            .collect();
        merged.extend(partners.iter().map(|partner| partner.name.as_str()));
        import.group(instance, &partners, facts);
    }
    if loaded.config.instances.is_empty() {
        import
            .todo
            .push("the file has no vrrp_instance, so there is no group".to_owned());
    }
    import.finish(facts)
}

struct Import<'a> {
    loaded: &'a Loaded,
    files: &'a dyn Files,
    /// The groups.
    body: String,
    /// Lines that are not carried over: place and reason.
    dropped: Vec<String>,
    todo: Vec<String>,
    password: bool,
    primary: Option<IpAddr>,
    port: Option<u16>,
}

impl Import<'_> {
    fn drop(&mut self, at: crate::diagnostic::Span, what: &str, why: &str) {
        let sources = &self.loaded.report.sources;
        let line = sources.position(at).line;
        self.dropped
            .push(format!("{}:{line} {what}: {why}", sources.name(at.file)));
    }

    fn group(&mut self, instance: &Instance, partners: &[&Instance], facts: &ImportFacts) {
        let hooks = self.hooks(instance);
        let checks = self.checks(instance);
        let mut text = format!("\n[[group]]\nname = {}\n", toml_text(&word(&instance.name)));
        let port = self.port.unwrap_or(6379);
        match facts.host_address.or(instance.source) {
            Some(address) => text.push_str(&format!(
                "servers = [{}]\n",
                toml_text(&std::net::SocketAddr::new(address, port).to_string())
            )),
            None => text.push_str(&format!(
                "# Fill in: this host's server, at the address of [host]\n# servers = [\"10.0.0.1:{port}\"]\n"
            )),
        }
        if self.password {
            text.push_str("password_file = \"/etc/tandem/redis.password\"\n");
        }
        match instance.preemption {
            Preemption::Never => text.push_str("# preempt = \"never\" as before: nopreempt\n"),
            Preemption::After(_) => text.push_str(
                "preempt = \"after-sync\"   # as before, the preferred host takes over again, but only with equal data\n",
            ),
        }
        text.push_str(&hooks);
        self.vip(instance, partners, &mut text);
        self.vrrp(instance, &mut text);
        text.push_str(&checks);
        self.body.push_str(&text);
    }

    fn vip(&mut self, instance: &Instance, partners: &[&Instance], text: &mut String) {
        let all = std::iter::once(instance).chain(partners.iter().copied());
        let mut addresses = Vec::new();
        let mut interface: Option<&str> = None;
        for line in all.flat_map(|one| one.addresses.iter().chain(&one.excluded)) {
            if *interface.get_or_insert(&line.interface) == line.interface {
                addresses.push(toml_text(&line.address.to_string()));
            } else {
                self.drop(
                    line.at,
                    "address",
                    "all addresses of a group stand on one interface",
                );
            }
            if line.label.is_some() || line.scope.is_some() || !line.flags.is_empty() {
                self.drop(
                    line.at,
                    "options of the address",
                    "tandem sets what a VIP needs itself",
                );
            }
        }
        let Some(interface) = interface else { return };
        let interface = toml_text(interface);
        let given = match addresses.as_slice() {
            [one] => format!("address = {one}"),
            several => format!("addresses = [{}]", several.join(", ")),
        };
        text.push_str(&format!(
            "\n[group.vip]\n{given}\ninterface = {interface}\n"
        ));
    }

    fn vrrp(&mut self, instance: &Instance, text: &mut String) {
        text.push_str(&format!(
            "\n[group.vrrp]\nrouter_id = {}\npriority = {}\n",
            instance.router_id,
            instance.priority.min(254)
        ));
        let carried = instance
            .addresses
            .first()
            .or_else(|| instance.excluded.first());
        if carried.is_none_or(|line| line.interface != instance.interface) {
            text.push_str(&format!("interface = {}\n", toml_text(&instance.interface)));
        }
        if instance.advert_interval < Duration::from_secs(1) {
            text.push_str(&format!(
                "advert_interval = {}\n",
                toml_text(&format_duration(instance.advert_interval))
            ));
        } else {
            self.drop(
                instance.at,
                &format!("advert_int {}", format_duration(instance.advert_interval)),
                "the default of 300ms (version 3) notices a lost host sooner; set advert_interval to keep it",
            );
        }
        if !instance.unicast_peers.is_empty() {
            text.push_str("unicast = true\n");
        }
        let (watched, weighted): (Vec<_>, Vec<_>) = instance
            .track_interfaces
            .iter()
            .partition(|tracked| tracked.weight == 0);
        if !watched.is_empty() {
            let names: Vec<String> = watched
                .iter()
                .map(|tracked| toml_text(&tracked.name))
                .collect();
            text.push_str(&format!("track_interface = [{}]\n", names.join(", ")));
        }
        for tracked in weighted {
            self.drop(
                tracked.at,
                "track_interface with weight",
                "an interface that is down is a fault; add it to track_interface if that is meant",
            );
        }
        if instance.auth != Auth::None {
            self.drop(
                instance.at,
                "authentication",
                "adverts are authenticated by secret_file, not by a password in the clear",
            );
        }
        for tracked in instance.track_files.iter().chain(&instance.track_processes) {
            self.drop(
                tracked.at,
                &tracked.name,
                "files and processes are not tracked under run; use a track_script",
            );
        }
    }

    /// Looks at a script and remembers what it tells about the pair.
    fn look(&mut self, script: &Script) -> Purpose {
        let purpose = shell::purpose(script, self.files);
        self.password |= purpose.password;
        self.primary = self.primary.or(purpose.primary);
        self.port = self.port.or(purpose.port);
        purpose
    }

    fn hooks(&mut self, instance: &Instance) -> String {
        let mut text = String::new();
        for (keyword, script) in instance.notify.scripts() {
            let purpose = self.look(script);
            let Some(own) = &purpose.own else {
                self.drop(script.at, keyword, reason(&purpose));
                continue;
            };
            let priority = instance.priority.to_string();
            let targets: &[(&str, &[&str])] = match keyword {
                "notify_master" => &[("on_promote", &[])],
                "notify_backup" => &[("on_demote", &[])],
                "notify_fault" => &[("on_fault", &[])],
                // The generic script is told what happened by four more arguments.
                "notify" => &[
                    (
                        "on_promote",
                        &["INSTANCE", &instance.name, "MASTER", &priority],
                    ),
                    (
                        "on_demote",
                        &["INSTANCE", &instance.name, "BACKUP", &priority],
                    ),
                    (
                        "on_fault",
                        &["INSTANCE", &instance.name, "FAULT", &priority],
                    ),
                ],
                _ => {
                    self.drop(script.at, keyword, "there is no hook for this occasion");
                    self.todo.push(format!(
                        "look whether anything is missed without {keyword}: {own}"
                    ));
                    continue;
                }
            };
            for (hook, more) in targets {
                if text.contains(&format!("{hook} =")) {
                    self.drop(
                        script.at,
                        keyword,
                        "the occasion has a script already; join the two",
                    );
                    self.todo
                        .push(format!("join the scripts of {hook} into a list"));
                    continue;
                }
                let secret = if purpose.password { SECRET } else { "" };
                text.push_str(&format!(
                    "# kept because it does more than change the role: {}\n{secret}{hook} = {}\n",
                    comment(own),
                    command(script, more, &purpose)
                ));
            }
        }
        text
    }

    fn checks(&mut self, instance: &Instance) -> String {
        let mut text = String::new();
        for tracked in &instance.track_scripts {
            let definition = self
                .loaded
                .config
                .scripts
                .iter()
                .find(|script| script.name == tracked.name);
            if let Some(definition) = definition {
                text.push_str(&self.check(tracked, definition));
            }
        }
        text
    }

    fn check(&mut self, tracked: &Tracked, definition: &ScriptDef) -> String {
        let script = match &definition.test {
            Some(ScriptTest::Run(script)) => script,
            Some(ScriptTest::Readable(path, _)) => {
                let test = ["/usr/bin/test", "-r", &path.to_string_lossy()].map(toml_text);
                return self.track(tracked, definition, &format!("[{}]", test.join(", ")));
            }
            None => return String::new(),
        };
        let purpose = self.look(script);
        if purpose.own.is_none() {
            self.drop(
                definition.at,
                &format!("vrrp_script {}", definition.name),
                "tandem asks the server itself, over a connection that stays open",
            );
            return String::new();
        }
        let command = command(script, &[], &purpose);
        self.track(tracked, definition, &command)
    }

    fn track(&mut self, tracked: &Tracked, definition: &ScriptDef, command: &str) -> String {
        let mut weight = tracked.weight.unwrap_or(definition.weight);
        if tracked.reverse {
            weight = -weight;
        }
        format!(
            "\n[[group.vrrp.track_script]]\nscript = {command}\ninterval = {}\ntimeout = {}\nrise = {}\nfall = {}\nweight = {weight}\n",
            toml_text(&format_duration(definition.interval)),
            toml_text(&format_duration(definition.timeout)),
            definition.rise.min(1000),
            definition.fall.min(1000),
        )
    }

    fn finish(mut self, facts: &ImportFacts) -> Imported {
        let config = &self.loaded.config;
        let first = config.instances.first();
        let host_address = facts
            .host_address
            .or_else(|| first.and_then(|instance| instance.source));
        let peer_address = facts
            .peer_address
            .or_else(|| {
                first.and_then(|instance| instance.unicast_peers.first().map(|peer| peer.address))
            })
            .or(self.primary);
        let host_id = facts
            .host_id
            .clone()
            .or_else(|| config.global.router_id.as_deref().map(word))
            .unwrap_or_else(|| "a".to_owned());
        let peer_id = facts.peer_id.clone().unwrap_or_else(|| "b".to_owned());
        let mut toml = String::from(
            "# Made by `tandem import` from a keepalived.conf. `tandem check` says what is left to do.\n",
        );
        let mut host = |header: &str,
                        id: &str,
                        address: Option<IpAddr>,
                        what: &str,
                        todo: &mut Vec<String>| {
            toml.push_str(&format!("\n{header}\nid = {}\n", toml_text(id)));
            match address {
                Some(address) => {
                    toml.push_str(&format!("address = {}\n", toml_text(&address.to_string())));
                }
                None => {
                    toml.push_str(&format!(
                        "# Fill in: the address of {what}\n# address = \"10.0.0.1\"\n"
                    ));
                    todo.push(format!("fill in the address of {what}"));
                }
            }
            if header == "[host]" {
                toml.push_str("secret_file = \"/etc/tandem/secret\"\n");
            }
        };
        host(
            "[host]",
            &host_id,
            host_address,
            "this host",
            &mut self.todo,
        );
        host(
            "[[peer]]",
            &peer_id,
            peer_address,
            "the other host",
            &mut self.todo,
        );
        toml.push_str(&self.body);
        if facts.peer_id.is_none() {
            self.todo
                .push("make the id under [[peer]] the id of the other host's own file".to_owned());
        }
        self.todo.push(
            "make /etc/tandem/secret, the same on both hosts, readable by root only".to_owned(),
        );
        if self.password {
            self.todo.push("move the servers' password out of the scripts' arguments, where every user of the host can read it, into /etc/tandem/redis.password".to_owned());
        }
        for dropped in config.unsupported.iter().chain(&config.ignored) {
            let sources = &self.loaded.report.sources;
            let line = sources.position(dropped.at).line;
            self.dropped.push(format!(
                "{}:{line} {}: {}",
                sources.name(dropped.at.file),
                dropped.keyword,
                dropped.note
            ));
        }
        if !self.dropped.is_empty() {
            toml.push_str("\n# Not carried over:\n");
            for line in &self.dropped {
                toml.push_str(&format!("# - {}\n", comment(line)));
            }
        }
        toml.push_str("\n# To do:\n");
        for line in &self.todo {
            toml.push_str(&format!("# - {}\n", comment(line)));
        }
        Imported {
            toml,
            todo: self.todo,
        }
    }
}

/// Said where a script wants a password: its argument is left out rather than copied.
const SECRET: &str = "# Fill in: it took arguments that are or may be a password; let it read /etc/tandem/redis.password instead\n";

/// Why a script is not needed.
fn reason(purpose: &Purpose) -> &'static str {
    match (purpose.changes_role, purpose.sleeps) {
        (true, Some(_)) => {
            "tandem changes the role itself, and waits for the data rather than for a time"
        }
        (true, None) => "tandem changes the role itself, in order and confirmed",
        (false, _) => "it only logs; `tandem history` has every change with its reason",
    }
}

/// A script's command as TOML. Where a password is among the arguments none of them is copied.
fn command(script: &Script, more: &[&str], purpose: &Purpose) -> String {
    let kept = if purpose.password {
        1
    } else {
        script.argv.len()
    };
    let words: Vec<String> = script
        .argv
        .iter()
        .take(kept)
        .map(String::as_str)
        .chain(more.iter().copied())
        .map(toml_text)
        .collect();
    format!("[{}]", words.join(", "))
}

/// Text that is safe behind a `#`: one line.
fn comment(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// A name that `tandem.toml` takes: other characters become `-`.
fn word(text: &str) -> String {
    let word: String = text
        .chars()
        .take(64)
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') {
                c
            } else {
                '-'
            }
        })
        .collect();
    if word.is_empty() {
        "group".to_owned()
    } else {
        word
    }
}
