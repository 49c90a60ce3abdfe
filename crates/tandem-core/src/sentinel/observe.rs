//! What INFO tells: who is where, who follows whom, and what follows from it at once.
//!
//! Fields, events and their order are Redis' (`sentinel.c`). The difference is that what an INFO makes due (a promotion
//! confirmed, a replica done, a repair) is done here and now and not at the next tick.

use std::time::Duration;

use crate::info::{Role, ServerInfo};
use crate::sentinel::events::Kind;
use crate::sentinel::ids::Endpoint;
use crate::sentinel::io::Level;
use crate::sentinel::machine::{Sentinel, role_word};
use crate::sentinel::model::{GroupId, Lineage, LinkId, Observed, Owner, ReportedRole};

/// Replicas of one group. A primary that lists more is not believed.
pub(super) const REPLICAS_MAX: usize = 1_000;

/// What is new about a server.
struct News {
    rebooted: bool,
    role_changed: bool,
    before: Option<Lineage>,
    keys_before: u64,
}

impl Sentinel {
    /// A server's INFO.
    pub(super) fn observe(&mut self, id: LinkId, text: &str) {
        let Some(link) = self.links.get(&id) else {
            return;
        };
        let owner = link.owner.clone();
        let info = ServerInfo::parse(text);
        match owner {
            Owner::Primary(group) => self.observe_primary(group, &info, text),
            Owner::Replica(group, at) => self.observe_replica(group, &at, &info, text),
            Owner::Peer(..) => {}
        }
    }

    fn observe_primary(&mut self, id: GroupId, info: &ServerInfo, text: &str) {
        let now = self.now;
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        let at = group.primary.at.clone();
        let news = take(&mut group.primary.observed, info, text, now);
        let role = group.primary.observed.role;
        group.primary.follows = upstream(info);
        if news.rebooted {
            group.primary.before_reboot = news.before;
            group.primary.keys_before = news.keys_before;
            if !group.settings.reboot_down_after.is_zero() {
                group.primary.rebooted = Some(now);
            }
            self.tell_primary(id, Kind::PlusReboot);
        }
        if role == ReportedRole::Primary {
            self.take_replicas(id, info);
        }
        if news.role_changed {
            self.tell_role(id, &at, role, role == ReportedRole::Primary);
        }
        if role == ReportedRole::Primary {
            self.check_data_after_restart(id);
        }
        let link = self.groups.get(&id).map(|group| group.primary.link);
        if let Some(link) = link {
            self.check_link_down(link);
        }
        self.drained(id);
        self.repair_replicas(id);
        self.mark(id);
    }

    /// The replicas that a primary lists.
    fn take_replicas(&mut self, id: GroupId, info: &ServerInfo) {
        let now = self.now;
        for entry in &info.replicas {
            let at = Endpoint::new(entry.ip.clone(), entry.port);
            let Some(group) = self.groups.get_mut(&id) else {
                return;
            };
            if let Some(replica) = group.replicas.get_mut(&at) {
                replica.last_seen = now;
                continue;
            }
            if at.port == 0 || at.host.is_empty() {
                continue;
            }
            if group.replicas.len() >= REPLICAS_MAX {
                let text = format!(
                    "{} has more than {REPLICAS_MAX} replicas",
                    group.settings.name
                );
                self.log(Level::Warning, text);
                return;
            }
            if self.add_replica(id, at.clone()) {
                self.tell_replica(id, &at, Kind::PlusSlave);
                self.save_soon();
            }
        }
    }

    fn observe_replica(&mut self, id: GroupId, at: &Endpoint, info: &ServerInfo, text: &str) {
        let now = self.now;
        let Some(replica) = self
            .groups
            .get_mut(&id)
            .and_then(|group| group.replicas.get_mut(at))
        else {
            return;
        };
        let news = take(&mut replica.observed, info, text, now);
        let role = replica.observed.role;
        replica.last_seen = now;
        if role == ReportedRole::Replica {
            let follows = upstream(info);
            if replica.follows != follows {
                replica.follows = follows;
                replica.follows_since = now;
            }
            replica.link_up = info.master_link_up == Some(true);
            replica.link_down = match info.master_link_down_since_seconds {
                Some(seconds) => Duration::from_secs(seconds),
                None => Duration::ZERO,
            };
            replica.never_linked =
                !replica.link_up && info.master_link_down_since_seconds.is_none();
            if let Some(priority) = info.slave_priority {
                replica.priority = priority;
            }
            replica.offset = info.slave_repl_offset.unwrap_or(0);
            replica.announced = info.replica_announced.unwrap_or(true);
        }
        replica.syncing = info.master_sync_in_progress || info.loading || info.async_loading;
        if news.rebooted {
            self.tell_replica(id, at, Kind::PlusReboot);
        }
        if news.role_changed {
            self.tell_role(id, at, role, role == ReportedRole::Replica);
        }
        match role {
            ReportedRole::Primary => self.became_primary(id, at),
            ReportedRole::Replica => {
                self.reconf_seen(id, at);
                self.hear_replicas(id);
            }
        }
        self.drained(id);
        self.repair(id, at);
        self.mark(id);
    }

    fn tell_role(&mut self, id: GroupId, at: &Endpoint, role: ReportedRole, agrees: bool) {
        let kind = if agrees {
            Kind::PlusRoleChange
        } else {
            Kind::MinusRoleChange
        };
        let detail = format!("new reported role is {}", role_word(role));
        self.tell_server_with(id, at, kind, detail);
    }
}

/// Enters what every server tells.
fn take(observed: &mut Observed, info: &ServerInfo, text: &str, now: std::time::Instant) -> News {
    let run_id = info
        .run_id
        .as_deref()
        .filter(|run_id| run_id.len() == 40)
        .unwrap_or_default();
    let rebooted = !run_id.is_empty() && !observed.run_id.is_empty() && observed.run_id != run_id;
    if !run_id.is_empty() {
        run_id.clone_into(&mut observed.run_id);
    }
    let role = match info.role {
        Some(Role::Primary) => Some(ReportedRole::Primary),
        Some(Role::Replica) => Some(ReportedRole::Replica),
        None => None,
    };
    let role_changed = role.is_some_and(|role| role != observed.role);
    if let (true, Some(role)) = (role_changed, role) {
        observed.role = role;
        observed.role_since = now;
    }
    let before = observed.lineage.take();
    let keys_before = std::mem::replace(&mut observed.keys, info.keys);
    observed.lineage = lineage(info);
    observed.loading = info.loading || info.async_loading;
    observed.receiving = info.master_sync_in_progress;
    observed.info = Some(text.to_owned());
    observed.info_at = Some(now);
    News {
        rebooted,
        role_changed,
        before,
        keys_before,
    }
}

/// Whom a replica follows; primaries name nobody.
fn upstream(info: &ServerInfo) -> Option<Endpoint> {
    match (&info.master_host, info.master_port) {
        (Some(host), Some(port)) => Some(Endpoint::new(host.clone(), port)),
        (Some(_), None) | (None, Some(_)) | (None, None) => None,
    }
}

/// Where a server stands; `None` before Redis 4, which does not tell.
fn lineage(info: &ServerInfo) -> Option<Lineage> {
    let offset = match info.role {
        Some(Role::Replica) => info.slave_repl_offset.or(info.master_repl_offset),
        Some(Role::Primary) | None => info.master_repl_offset,
    };
    Some(Lineage {
        replid: info.master_replid.clone()?,
        replid2: info.master_replid2.clone().unwrap_or_default(),
        second_offset: info.second_repl_offset,
        offset: offset.unwrap_or(0),
    })
}
