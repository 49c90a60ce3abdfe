//! Replies that only read: the directory, the quorum, cached INFO, scripts, ROLE and INFO's section.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use tandem_resp::Value;

use crate::sentinel::commands::error::CommandError;
use crate::sentinel::commands::instance::{self, Fields, age, bulk};
use crate::sentinel::commands::{Change, Simulate, View, ok};
use crate::sentinel::ids::{ElectionEpoch, GroupName, SentinelId};
use crate::sentinel::model::{Group, Observed};

/// `MASTERS`.
pub(super) fn primaries(view: &View<'_>) -> Value {
    let groups = view.groups.all();
    Value::Array(groups.map(|group| instance::primary(view, group)).collect())
}

/// `REPLICAS`. Those that are not announced are left out, though they are counted elsewhere.
pub(super) fn replicas(view: &View<'_>, group: &Group) -> Value {
    let shown = group.replicas.values().filter(|it| it.announced);
    Value::Array(shown.map(|it| instance::replica(view, group, it)).collect())
}

/// `SENTINELS`.
pub(super) fn sentinels(view: &View<'_>, group: &Group) -> Value {
    let peers = group.peers.values();
    Value::Array(peers.map(|it| instance::peer(view, group, it)).collect())
}

/// `GET-MASTER-ADDR-BY-NAME`. An unknown name is absence, not an error; see [`answers_null_array`].
pub(super) fn address_of(view: &View<'_>, name: &GroupName) -> Value {
    let Some(group) = view.groups.group(name) else {
        return Value::Null;
    };
    let at = group.current_address();
    Value::Array(vec![
        bulk(view.announce().host(at).as_bytes()),
        bulk(at.port.to_string()),
    ])
}

/// Whether [`Value::Null`] in reply to this SENTINEL command stands where an array was asked for. RESP2 has two nulls
/// (`*-1` and `$-1`), and some clients take only the one that they expect; [`Value`] and RESP3 have one.
#[must_use]
pub fn answers_null_array(words: &[Vec<u8>]) -> bool {
    let is = |name: &[u8]| {
        words
            .first()
            .is_some_and(|word| word.eq_ignore_ascii_case(name))
    };
    is(b"get-master-addr-by-name") || is(b"get-primary-addr-by-name")
}

/// `CKQUORUM`: whether the sentinels that are alive reach the quorum, and the majority of all that are known.
pub(super) fn check_quorum(group: &Group) -> Result<Value, CommandError> {
    let alive = group
        .peers
        .values()
        .filter(|peer| peer.down.subjective.is_none());
    let usable = alive.count() + 1;
    let quorum = usable < usize::try_from(group.settings.quorum).unwrap_or(usize::MAX);
    let majority = usable < group.voters() / 2 + 1;
    if quorum || majority {
        return Err(CommandError::NoQuorum {
            usable,
            quorum,
            majority,
        });
    }
    let text =
        format!("OK {usable} usable Sentinels. Quorum and failover authorization can be reached");
    Ok(Value::Simple(text.into_bytes()))
}

/// `INFO-CACHE`: the newest INFO of each server of these groups. Unknown names are passed over, and each group is shown once.
pub(super) fn info_cache(view: &View<'_>, names: &[GroupName]) -> Value {
    let asked: BTreeSet<&GroupName> = names.iter().collect();
    let mut reply = Vec::new();
    for name in asked {
        let Some(group) = view.groups.group(name) else {
            continue;
        };
        let of = |observed: &Observed| {
            Value::Array(vec![
                integer(age(observed.info_at, view.now)),
                observed.info.as_ref().map_or(Value::Null, bulk),
            ])
        };
        let mut servers = vec![of(&group.primary.observed)];
        servers.extend(group.replicas.values().map(|it| of(&it.observed)));
        reply.push(bulk(&name.0));
        reply.push(Value::Array(servers));
    }
    Value::Array(reply)
}

/// `PENDING-SCRIPTS`.
pub(super) fn pending_scripts(view: &View<'_>) -> Value {
    let show = |job: &crate::sentinel::scripts::Job| {
        let mut fields = Fields::default();
        let argv = job.argv().iter().map(bulk).collect();
        fields.value("argv", Value::Array(argv));
        match job.running_for(view.now) {
            Some(time) => fields
                .text("flags", "running")
                .number("pid", job.pid())
                .number("run-time", time.as_millis()),
            None => fields
                .text("flags", "scheduled")
                .number("pid", job.pid())
                .number("run-delay", job.delay(view.now).as_millis()),
        };
        fields.number("retry-num", job.attempts());
        fields.map()
    };
    Value::Array(view.scripts.jobs().map(show).collect())
}

/// `SIMULATE-FAILURE`: words that are known count even before one that is not, and HELP ends the list.
pub(super) fn simulate(words: &[Vec<u8>]) -> Change {
    const AFTER_ELECTION: &str = "crash-after-election";
    const AFTER_PROMOTION: &str = "crash-after-promotion";
    let mut simulate = Simulate::default();
    for word in words {
        let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
        if is(AFTER_ELECTION) {
            simulate.after_election = true;
        } else if is(AFTER_PROMOTION) {
            simulate.after_promotion = true;
        } else if is("help") {
            let names = vec![bulk(AFTER_ELECTION), bulk(AFTER_PROMOTION)];
            return Change::Simulate(simulate, Value::Array(names));
        } else {
            return Change::Simulate(simulate, CommandError::UnknownFailure.reply());
        }
    }
    Change::Simulate(simulate, ok())
}

/// `TANDEM`: our name and version. A sentinel that is none of ours answers with an error.
pub(super) fn tandem() -> Value {
    Value::Array(vec![bulk("tandem"), bulk(env!("CARGO_PKG_VERSION"))])
}

/// The reply to a peer's question: our opinion, and the vote that stands with its election. Without a vote, or when it
/// is not known any more for whom it was, the leader is `*`.
#[must_use]
pub fn opinion(down: bool, leader: Option<&SentinelId>, epoch: ElectionEpoch) -> Value {
    Value::Array(vec![
        Value::Integer(i64::from(down)),
        bulk(leader.map_or("*", SentinelId::as_str)),
        integer(epoch.0.into()),
    ])
}

/// ROLE: `sentinel` and the names of all groups.
#[must_use]
pub fn role(view: &View<'_>) -> Value {
    let groups = view.groups.all();
    let names = groups.map(|group| bulk(&group.settings.name.0)).collect();
    Value::Array(vec![bulk("sentinel"), Value::Array(names)])
}

/// INFO's section `Sentinel`, with its header and a line end after each line.
#[must_use]
pub fn info_section(view: &View<'_>) -> Value {
    let tilt_seconds = view.tilt.map_or(-1, |since| {
        let time = view.now.saturating_duration_since(since);
        i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
    });
    let mut text = format!(
        "# Sentinel\r\n\
         sentinel_masters:{}\r\n\
         sentinel_tilt:{}\r\n\
         sentinel_tilt_since_seconds:{tilt_seconds}\r\n\
         sentinel_running_scripts:{}\r\n\
         sentinel_scripts_queue_length:{}\r\n\
         sentinel_simulate_failure_flags:{}\r\n",
        view.groups.count(),
        u8::from(view.tilt.is_some()),
        view.scripts.running(),
        view.scripts.jobs().len(),
        view.simulate.flags(),
    );
    for (number, group) in view.groups.all().enumerate() {
        let down = group.primary.down;
        let status = if down.objective.is_some() {
            "odown"
        } else if down.subjective.is_some() {
            "sdown"
        } else {
            "ok"
        };
        let at = &group.primary.at;
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "master{number}:name={},status={status},address={}:{},slaves={},sentinels={}\r\n",
            group.settings.name,
            view.announce().host(at),
            at.port,
            group.replicas.len(),
            group.voters(),
        );
    }
    Value::Bulk(text.into_bytes())
}

/// What is beyond an integer of the protocol counts as its greatest.
fn integer(number: u128) -> Value {
    Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}
