//! Keeping what a diverged local server holds, before the fleet resyncs it.
//!
//! A sentinel of ours asks ([`tandem_core::sentinel::daemon`]), but its word is only the occasion: the server has to say that
//! it is a primary, and the primary that the fleet means, by what we heard ourselves, has to say that its history
//! forked off the server's. Then writes are held back, what lies behind the fork is read into the archive, and the server
//! is fenced (`REPLICAOF 127.0.0.1 1`), so that nothing can be written between this answer and the sentinel's next command.
//! A server whose backlog does not reach back to the fork, or that shares no history, is archived whole.
//!
//! Nothing else in a group that is followed ever tells a server anything.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use tandem_core::follow::Configuration;
use tandem_core::ids::{Epoch, Offset};
use tandem_core::info::{Role, ServerInfo};
use tandem_core::keeper::{StepError, StepErrorKind};
use tandem_core::sentinel::io::Word;
use tandem_core::sentinel::tail::ARCHIVE_WITHIN;

use crate::redis::client::Link;
use crate::redis::ops;
use crate::redis::raw::Target;
use crate::run::archive::{Archive, Kind, Receipt, op_error};

/// Before a sentinel stops waiting.
const WITHIN: Duration = ARCHIVE_WITHIN.saturating_sub(Duration::from_secs(5));
/// One command.
const COMMAND_WITHIN: Duration = Duration::from_secs(1);

/// What the local server holds that the fleet's primary does not.
#[derive(Debug, PartialEq, Eq)]
enum Own {
    Nothing(&'static str),
    /// Everything after this offset.
    After(Offset),
    /// No common history, and this many keys.
    Unrelated(u64),
}

/// Archives what only the local server holds; the word is for whoever asked.
pub(super) async fn keep(
    archive: Archive,
    local: Target,
    fleet: Configuration,
    epoch: Epoch,
) -> Word {
    match try_keep(&archive, &local, &fleet, &epoch).await {
        Ok(word) => Word::Archived(word),
        Err(why) => Word::Unarchived(why),
    }
}

async fn try_keep(
    archive: &Archive,
    local: &Target,
    fleet: &Configuration,
    epoch: &Epoch,
) -> Result<String, String> {
    let deadline = Instant::now() + WITHIN;
    let said = |error: StepError| error.text;
    let primary = primary_of(local, fleet)?;
    let link = connect(local).await?;
    let own = ops::info(&link, Instant::now() + COMMAND_WITHIN)
        .await
        .map_err(|error| error.to_string())?;
    let leader = ops::info(&connect(&primary).await?, Instant::now() + COMMAND_WITHIN)
        .await
        .map_err(|error| error.to_string())?;
    let saved = match held(&own, &leader)? {
        Own::Nothing(why) => return Ok(why.to_owned()),
        Own::After(from) => {
            let tail = archive.save_tail(&link, local, from, epoch, deadline).await;
            match tail {
                Err(error) if error.kind == StepErrorKind::TailGone => {
                    let why = format!(
                        "the backlog does not reach back to the fork: {}",
                        error.text
                    );
                    archive.save_rdb(&link, local, epoch, &why, deadline).await
                }
                other => other,
            }
        }
        Own::Unrelated(keys) => {
            let why = format!("{keys} keys of a history that the fleet's primary does not share");
            archive.save_rdb(&link, local, epoch, &why, deadline).await
        }
    };
    if saved.is_err() {
        // It ends by itself as well, but later.
        let _ = ops::unpause(&link, Instant::now() + COMMAND_WITHIN).await;
    }
    let receipt = saved.map_err(said)?.receipt;
    Ok(receipt.map_or_else(
        || "no commands of clients were among it".to_owned(),
        |receipt| told(&receipt),
    ))
}

fn told(receipt: &Receipt) -> String {
    match receipt.kind {
        Kind::Tail => format!("{} commands as {}", receipt.commands, receipt.name),
        Kind::Rdb => format!("{} keys as {}", receipt.key_count, receipt.name),
    }
}

async fn connect(target: &Target) -> Result<Link, String> {
    Link::connect(target, Instant::now() + COMMAND_WITHIN)
        .await
        .map_err(|error| op_error(error.into()).text)
}

/// The fleet's primary, with the password that the local server takes.
fn primary_of(local: &Target, fleet: &Configuration) -> Result<Target, String> {
    let at = &fleet.primary;
    let Ok(ip) = at.host.parse::<IpAddr>() else {
        return Err(format!("the fleet's primary {at} is named by no address"));
    };
    Ok(Target {
        address: SocketAddr::new(ip, at.port),
        source: None,
        credentials: local.credentials.clone(),
    })
}

/// PSYNC2 (`replication.c`): a promoted replica keeps the history that it left as its second one, and where it left it.
fn held(own: &ServerInfo, leader: &ServerInfo) -> Result<Own, String> {
    if leader.role != Some(Role::Primary) {
        return Err("the fleet's primary does not say that it is one".to_owned());
    }
    if own.role != Some(Role::Primary) {
        return Ok(Own::Nothing("nothing: it is a replica"));
    }
    let end = own.master_repl_offset.unwrap_or(0);
    let forked = own.master_replid.is_some() && own.master_replid == leader.master_replid2;
    match leader.second_repl_offset.filter(|_| forked) {
        // The second offset is the first that is not of the earlier history.
        Some(second) if end >= second => Ok(Own::After(Offset(second.saturating_sub(1)))),
        Some(_) => Ok(Own::Nothing("nothing: it ends before the fork")),
        None if own.keys == 0 => Ok(Own::Nothing("nothing: it is empty")),
        None => Ok(Own::Unrelated(own.keys)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(
        role: &str,
        replid: &str,
        replid2: &str,
        second: i64,
        offset: u64,
        keys: u64,
    ) -> ServerInfo {
        ServerInfo::parse(&format!(
            "role:{role}\r\nmaster_replid:{replid}\r\nmaster_replid2:{replid2}\r\n\
             second_repl_offset:{second}\r\nmaster_repl_offset:{offset}\r\ndb0:keys={keys},expires=0\r\n"
        ))
    }

    #[test]
    fn what_only_the_local_server_holds() {
        let (a, b, zero) = ("a".repeat(40), "b".repeat(40), "0".repeat(40));
        let leader = info("master", &b, &a, 101, 500, 9);
        let own = |replid: &str, offset, keys| info("master", replid, &zero, -1, offset, keys);
        assert_eq!(held(&own(&a, 140, 9), &leader), Ok(Own::After(Offset(100))));
        let cases = [
            own(&a, 100, 9),
            own(&"c".repeat(40), 0, 0),
            info("slave", &a, &zero, -1, 140, 9),
        ];
        for nothing in cases {
            assert!(
                matches!(held(&nothing, &leader), Ok(Own::Nothing(_))),
                "{nothing:?}"
            );
        }
        assert_eq!(
            held(&own(&"c".repeat(40), 0, 7), &leader),
            Ok(Own::Unrelated(7))
        );
        let replica = info("slave", &b, &a, 101, 500, 9);
        assert!(held(&own(&a, 140, 9), &replica).is_err());
    }
}
