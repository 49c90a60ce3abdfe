//! The map that describes one server or sentinel, as MASTER, REPLICAS and SENTINELS show it.
//!
//! Which fields there are, in which order and under which conditions is Redis 7.0's: clients read some of them by
//! position. All values are strings, times are ages in milliseconds.

use std::time::{Duration, Instant};

use tandem_resp::Value;

use crate::sentinel::commands::View;
use crate::sentinel::ids::Endpoint;
use crate::sentinel::model::{
    Down, Group, Link, LinkId, Observed, Peer, Reconf, Replica, ReportedRole, Stage,
};
use crate::sentinel::settings::Compat;

/// A map under construction.
#[derive(Default)]
pub(super) struct Fields(Vec<(Value, Value)>);

impl Fields {
    pub(super) fn text(&mut self, name: &str, value: impl AsRef<[u8]>) -> &mut Self {
        self.0
            .push((bulk(name), Value::Bulk(value.as_ref().to_vec())));
        self
    }

    pub(super) fn number(&mut self, name: &str, value: impl Into<u128>) -> &mut Self {
        self.text(name, value.into().to_string())
    }

    pub(super) fn value(&mut self, name: &str, value: Value) -> &mut Self {
        self.0.push((bulk(name), value));
        self
    }

    pub(super) fn map(self) -> Value {
        Value::Map(self.0)
    }
}

pub(super) fn bulk(text: impl AsRef<[u8]>) -> Value {
    Value::Bulk(text.as_ref().to_vec())
}

/// Milliseconds since then; 0 for never, as Redis shows it.
pub(super) fn age(since: Option<Instant>, now: Instant) -> u128 {
    since.map_or(0, |at| now.saturating_duration_since(at).as_millis())
}

/// A group's primary.
pub(super) fn primary(view: &View<'_>, group: &Group) -> Value {
    let settings = &group.settings;
    let it = &group.primary;
    let failing_over = group.failover.as_ref();
    let mut flags = Flags::new(it.down, "master");
    flags.set(view.disconnected(it.link, true), "disconnected");
    flags.set(failing_over.is_some(), "failover_in_progress");
    flags.set(failing_over.is_some_and(|f| f.forced), "force_failover");
    flags.set(it.script_kill_sent, "script_kill_sent");
    flags.set(
        it.rebooted.is_some() && view.globals.compat >= Compat::V7_2,
        "master_reboot",
    );
    let mut fields = Fields::default();
    common(
        view,
        &mut fields,
        &Common {
            name: &settings.name.0,
            at: &it.at,
            run_id: &it.observed.run_id,
            flags: &flags.0,
            link: it.link,
            stage: failing_over.map(|f| &f.stage),
            down: it.down,
            down_after: settings.down_after,
        },
    );
    observed(view, &mut fields, &it.observed);
    fields
        .number("config-epoch", group.config_epoch.0)
        .number("num-slaves", group.replicas.len() as u64)
        .number("num-other-sentinels", group.peers.len() as u64)
        .number("quorum", settings.quorum)
        .number("failover-timeout", settings.failover_timeout.as_millis())
        .number("parallel-syncs", settings.parallel_syncs);
    if let Some(script) = &settings.notification_script {
        fields.text("notification-script", script);
    }
    if let Some(script) = &settings.client_reconfig_script {
        fields.text("client-reconfig-script", script);
    }
    fields.map()
}

/// One of a group's replicas.
pub(super) fn replica(view: &View<'_>, group: &Group, it: &Replica) -> Value {
    let mut flags = Flags::new(it.down, "slave");
    flags.set(view.disconnected(it.link, true), "disconnected");
    flags.set(it.promoted, "promoted");
    flags.set(matches!(it.reconf, Some(Reconf::Sent(_))), "reconf_sent");
    flags.set(it.reconf == Some(Reconf::InProgress), "reconf_inprog");
    flags.set(it.reconf == Some(Reconf::Done), "reconf_done");
    flags.set(it.script_kill_sent, "script_kill_sent");
    let mut fields = Fields::default();
    common(
        view,
        &mut fields,
        &Common {
            name: &view.announce().endpoint(&it.at).name(),
            at: &it.at,
            run_id: &it.observed.run_id,
            flags: &flags.0,
            link: it.link,
            stage: None,
            down: it.down,
            down_after: group.settings.down_after,
        },
    );
    observed(view, &mut fields, &it.observed);
    if it.never_linked {
        // INFO says -1, which Redis takes for seconds.
        fields.text("master-link-down-time", "-1000");
    } else {
        fields.number("master-link-down-time", it.link_down.as_millis());
    }
    fields.text("master-link-status", if it.link_up { "ok" } else { "err" });
    // As the replica itself says it, hence not resolved.
    match &it.follows {
        Some(Endpoint { host, port }) => fields
            .text("master-host", host)
            .number("master-port", *port),
        None => fields.text("master-host", "?").number("master-port", 0_u16),
    };
    fields
        .number("slave-priority", it.priority)
        .number("slave-repl-offset", it.offset)
        .number("replica-announced", u8::from(it.announced));
    fields.map()
}

/// One of the other sentinels of a group.
pub(super) fn peer(view: &View<'_>, group: &Group, it: &Peer) -> Value {
    let mut flags = Flags::new(it.down, "sentinel");
    flags.set(view.disconnected(it.link, false), "disconnected");
    flags.set(it.primary_down, "master_down");
    let mut fields = Fields::default();
    common(
        view,
        &mut fields,
        &Common {
            name: it.id.as_str(),
            at: &it.at,
            run_id: it.id.as_str(),
            flags: &flags.0,
            link: it.link,
            stage: None,
            down: it.down,
            down_after: group.settings.down_after,
        },
    );
    let (leader, epoch) = it
        .vote
        .as_ref()
        .map_or(("?", 0), |(id, epoch)| (id.as_str(), epoch.0));
    fields
        .number(
            "last-hello-message",
            age(it.last_hello.or(Some(it.last_seen)), view.now),
        )
        .text("voted-leader", leader)
        .number("voted-leader-epoch", epoch);
    fields.map()
}

/// What all three kinds begin with.
struct Common<'a> {
    name: &'a str,
    at: &'a Endpoint,
    run_id: &'a str,
    flags: &'a str,
    link: LinkId,
    stage: Option<&'a Stage>,
    down: Down,
    down_after: Duration,
}

fn common(view: &View<'_>, fields: &mut Fields, it: &Common<'_>) {
    let link = view.links.get(&it.link);
    let since = |when: fn(&Link) -> Option<Instant>| age(link.and_then(when), view.now);
    fields
        .text("name", it.name)
        .text("ip", view.announce().host(it.at).as_bytes())
        .number("port", it.at.port)
        .text("runid", it.run_id)
        .text("flags", it.flags)
        .number(
            "link-pending-commands",
            link.map_or(0, Link::pending_commands) as u64,
        )
        .number("link-refcount", link.map_or(1, |link| link.users));
    if let Some(stage) = it.stage {
        fields.text("failover-state", stage.word());
    }
    fields
        .number("last-ping-sent", since(|link| link.ping_pending))
        .number(
            "last-ok-ping-reply",
            since(|link| Some(link.last_available)),
        )
        .number("last-ping-reply", since(|link| Some(link.last_pong)));
    if it.down.subjective.is_some() {
        fields.number("s-down-time", age(it.down.subjective, view.now));
    }
    if it.down.objective.is_some() {
        fields.number("o-down-time", age(it.down.objective, view.now));
    }
    fields.number("down-after-milliseconds", it.down_after.as_millis());
}

/// What primaries and replicas go on with.
fn observed(view: &View<'_>, fields: &mut Fields, it: &Observed) {
    let role = match it.role {
        ReportedRole::Primary => "master",
        ReportedRole::Replica => "slave",
    };
    fields
        .number("info-refresh", age(it.info_at, view.now))
        .text("role-reported", role)
        .number("role-reported-time", age(Some(it.role_since), view.now));
}

/// The flags in the order of Redis, with commas between.
struct Flags(String);

impl Flags {
    fn new(down: Down, kind: &str) -> Self {
        let mut flags = Self(String::new());
        flags.set(down.subjective.is_some(), "s_down");
        flags.set(down.objective.is_some(), "o_down");
        flags.set(true, kind);
        flags
    }

    fn set(&mut self, applies: bool, flag: &str) {
        if applies {
            if !self.0.is_empty() {
                self.0.push(',');
            }
            self.0.push_str(flag);
        }
    }
}
