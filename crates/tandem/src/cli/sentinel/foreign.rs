//! What a redis-sentinel tells by its ordinary commands, in the form of our own report.
//!
//! `SENTINEL MASTERS` (or `MASTER`), `REPLICAS`, `SENTINELS` and `get-master-addr-by-name`: flat arrays of names and values, as
//! `sentinelRedisInstance` is printed by every version since 2.8. `SENTINEL MYID` exists since 6.2; without it the id
//! stays empty. It says neither why there is no failover nor which replica it would promote.

use std::collections::BTreeMap;

use tandem_core::sentinel::commands::status::{
    FailoverReport, GroupReport, InstanceReport, PeerReport, PrimaryReport, ReplicaReport, Report,
};
use tandem_resp::Value;

use super::fetch::Conversation;

/// One instance as it is printed: names and values.
type Fields = BTreeMap<String, String>;

/// Asks for all groups or one. A group that it does not know is no error: the report is empty.
pub(super) async fn report(at: &Conversation, group: Option<&str>) -> Result<Report, String> {
    let head = at
        .calls(&[&["SENTINEL", "MYID"], &["INFO", "server"]])
        .await?;
    let text = |index: usize| head.get(index).and_then(Value::as_str).unwrap_or_default();
    let version = text(1)
        .lines()
        .find_map(|line| line.trim_end().strip_prefix("redis_version:"))
        .unwrap_or("?");
    let primaries = match group {
        None => {
            let value = at.call(&["SENTINEL", "MASTERS"]).await?;
            if let Some(error) = value.as_error() {
                return Err(format!("no Sentinel: {}", String::from_utf8_lossy(error)));
            }
            instances(&value)
        }
        Some(name) => fields(&at.call(&["SENTINEL", "MASTER", name]).await?)
            .into_iter()
            .collect(),
    };
    let mut report = Report {
        id: text(0).to_owned(),
        version: version.to_owned(),
        epoch: 0,
        stalled_ms: None,
        groups: Vec::new(),
    };
    for primary in primaries {
        let name = word(&primary, "name").to_owned();
        let answers = at
            .calls(&[
                &["SENTINEL", "REPLICAS", &name],
                &["SENTINEL", "SENTINELS", &name],
                &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", &name],
            ])
            .await?;
        let [replicas, peers, address] = &answers[..] else {
            return Err("an answer is missing".to_owned());
        };
        let made = group_of(&primary, &instances(replicas), &instances(peers), address);
        report.epoch = report.epoch.max(made.config_epoch);
        report.groups.push(made);
    }
    report.groups.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(report)
}

fn instances(value: &Value) -> Vec<Fields> {
    value
        .as_array()
        .unwrap_or_default()
        .iter()
        .filter_map(fields)
        .collect()
}

fn fields(value: &Value) -> Option<Fields> {
    let pairs = value.as_array()?.chunks_exact(2);
    let pairs =
        pairs.filter_map(|pair| Some((pair[0].as_str()?.to_owned(), pair[1].as_str()?.to_owned())));
    Some(pairs.collect())
}

fn word<'f>(fields: &'f Fields, name: &str) -> &'f str {
    fields.get(name).map_or("", String::as_str)
}

fn number(fields: &Fields, name: &str) -> Option<u64> {
    word(fields, name).parse().ok()
}

fn flag(fields: &Fields, name: &str) -> bool {
    word(fields, "flags").split(',').any(|flag| flag == name)
}

fn endpoint(host: &str, port: &str) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

fn instance(of: &Fields) -> InstanceReport {
    let down = |flag_name, age| flag(of, flag_name).then(|| number(of, age).unwrap_or_default());
    InstanceReport {
        at: endpoint(word(of, "ip"), word(of, "port")),
        connected: !flag(of, "disconnected"),
        silent_ms: number(of, "last-ok-ping-reply"),
        s_down_ms: down("s_down", "s-down-time"),
        o_down_ms: down("o_down", "o-down-time"),
    }
}

/// In the words of our own reports.
fn role(of: &Fields) -> String {
    match word(of, "role-reported") {
        "slave" => "replica",
        "master" => "primary",
        _ => "",
    }
    .to_owned()
}

fn group_of(
    primary: &Fields,
    replicas: &[Fields],
    peers: &[Fields],
    address: &Value,
) -> GroupReport {
    let voters = peers.len() as u64 + 1;
    let pair = address.as_array().unwrap_or_default();
    let current = match pair {
        [host, port] => endpoint(
            host.as_str().unwrap_or_default(),
            port.as_str().unwrap_or_default(),
        ),
        _ => instance(primary).at,
    };
    let failover = flag(primary, "failover_in_progress").then(|| FailoverReport {
        epoch: 0,
        stage: word(primary, "failover-state").to_owned(),
        stage_ms: 0,
        forced: flag(primary, "force_failover"),
        chosen: replicas
            .iter()
            .find(|replica| flag(replica, "promoted"))
            .map(|replica| instance(replica).at),
    });
    GroupReport {
        name: word(primary, "name").to_owned(),
        address: current,
        primary: PrimaryReport {
            instance: instance(primary),
            role: role(primary),
            replid: None,
            offset: None,
            gone_ms: None,
            data_gone: None,
        },
        quorum: number(primary, "quorum")
            .and_then(|quorum| u32::try_from(quorum).ok())
            .unwrap_or_default(),
        majority: voters / 2 + 1,
        voters,
        config_epoch: number(primary, "config-epoch").unwrap_or_default(),
        leader_epoch: 0,
        leader: None,
        replicas: replicas.iter().map(replica).collect(),
        peers: peers.iter().map(peer_of).collect(),
        failover,
        no_failover: None,
        would_promote: None,
    }
}

fn replica(of: &Fields) -> ReplicaReport {
    let follows = endpoint(word(of, "master-host"), word(of, "master-port"));
    ReplicaReport {
        instance: instance(of),
        role: role(of),
        follows: (!word(of, "master-host").is_empty() && word(of, "master-host") != "?")
            .then_some(follows),
        link_up: word(of, "master-link-status") == "ok",
        priority: number(of, "slave-priority")
            .and_then(|priority| u32::try_from(priority).ok())
            .unwrap_or_default(),
        replid: None,
        offset: number(of, "slave-repl-offset").unwrap_or_default(),
        excluded: None,
    }
}

fn peer_of(of: &Fields) -> PeerReport {
    let vote = Some(word(of, "voted-leader")).filter(|leader| !leader.is_empty() && *leader != "?");
    PeerReport {
        id: word(of, "runid").to_owned(),
        instance: instance(of),
        kind: "unknown".to_owned(),
        primary_down: flag(of, "master_down"),
        opinion_ms: None,
        hello_ms: number(of, "last-hello-message"),
        vote: vote.map(str::to_owned),
        vote_epoch: vote.and_then(|_| number(of, "voted-leader-epoch")),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A sentinel that another one knows, heard 700 ms ago.
    pub(in crate::cli::sentinel) fn peer(id: &str, at: &str) -> PeerReport {
        let (ip, port) = at.rsplit_once(':').unwrap();
        peer_of(&map(&[
            ("ip", ip),
            ("port", port),
            ("runid", id),
            ("flags", "sentinel"),
            ("last-ok-ping-reply", "300"),
            ("last-hello-message", "700"),
        ]))
    }

    fn map(pairs: &[(&str, &str)]) -> Fields {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn the_fields_of_a_real_one_become_a_report() {
        let primary = map(&[
            ("name", "m"),
            ("ip", "10.0.0.1"),
            ("port", "6379"),
            ("flags", "s_down,o_down,master,disconnected"),
            ("last-ok-ping-reply", "5400"),
            ("s-down-time", "4400"),
            ("o-down-time", "4300"),
            ("role-reported", "master"),
            ("config-epoch", "7"),
            ("quorum", "2"),
        ]);
        let slave = map(&[
            ("ip", "fd00::2"),
            ("port", "6379"),
            ("flags", "slave"),
            ("master-link-status", "err"),
            ("master-host", "?"),
            ("slave-priority", "90"),
            ("slave-repl-offset", "1234"),
            ("role-reported", "slave"),
        ]);
        let sentinel = map(&[
            ("ip", "10.0.0.3"),
            ("port", "26379"),
            ("runid", "c"),
            ("flags", "sentinel,master_down"),
            ("voted-leader", "c"),
            ("voted-leader-epoch", "8"),
        ]);
        let made = group_of(&primary, &[slave], &[sentinel], &Value::Null);
        assert_eq!(made.address, "10.0.0.1:6379");
        assert_eq!(
            (made.config_epoch, made.quorum, made.voters, made.majority),
            (7, 2, 2, 2)
        );
        assert_eq!(made.primary.instance.s_down_ms, Some(4400));
        assert_eq!(made.primary.instance.o_down_ms, Some(4300));
        assert!(!made.primary.instance.connected);
        assert_eq!(made.replicas[0].instance.at, "[fd00::2]:6379");
        assert_eq!(made.replicas[0].instance.s_down_ms, None);
        assert_eq!(
            (made.replicas[0].priority, made.replicas[0].offset),
            (90, 1234)
        );
        assert!(!made.replicas[0].link_up && made.replicas[0].follows.is_none());
        assert!(made.peers[0].primary_down);
        assert_eq!(made.peers[0].vote_epoch, Some(8));
        assert!(made.failover.is_none());
    }
}
