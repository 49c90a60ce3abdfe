//! The load of a thousand quiet groups on one Sentinel: processor time and memory, from outside.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::Outcome;
use crate::fake::{Crowd, Fake};
use crate::fleet::{Member, Program};
use crate::ns::Lab;
use crate::poll;
use crate::resp::Reply;
use crate::server::{Server, Settings};
use crate::usage;

const FIRST_PORT: u16 = 10_000;
/// For all groups to be known. A redis-sentinel rewrites and syncs its whole file for each of the replicas, one after
/// another, which was seen to take two minutes.
const KNOWN_BOUND: Duration = Duration::from_secs(400);
/// Between knowing and measuring: one round of INFO, so that what the start costs is over.
const REST: Duration = Duration::from_secs(12);
/// How long is measured: three rounds of INFO.
const SPAN: Duration = Duration::from_secs(30);
/// Between two questions.
const AGAIN: Duration = Duration::from_millis(200);
/// For an answer once it was measured.
const ANSWER_BOUND: Duration = Duration::from_secs(60);
/// Two connections for each endpoint, and as many for who answers.
const FILES: u64 = 20_000;

/// Runs one Sentinel over so many groups.
///
/// # Errors
/// When it does not come to know them.
pub(super) fn measure(
    program: Program,
    groups: usize,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    usage::allow_descriptors(FILES)?;

    let lab = Lab::builder()
        .host("groups", "10.0.0.1/24")
        .host("sentinel", "10.0.0.10/24")
        .build()?;
    let model = {
        let settings = Settings {
            port: 6379,
            ..Settings::default()
        };
        let server = Server::start(lab.host("groups"), &settings)?;
        let reply = server.connect()?.demand(&["INFO"])?;
        reply.text().context("INFO is a text")?
    };
    let ports = Crowd::ports(groups, FIRST_PORT);
    let crowd = Crowd::new(groups, "10.0.0.1", FIRST_PORT, &model);
    let _fake = Fake::start(lab.host("groups"), &ports, Box::new(crowd))?;

    let host = lab.host("sentinel");
    let mut text = format!(
        "port 26379\nbind 0.0.0.0\nprotected-mode no\ndir {}\n",
        host.dir().display()
    );
    for group in 0..groups {
        let port = ports[group * (Crowd::replicas() + 1)];
        text.push_str(&format!(
            "sentinel monitor group-{group} 10.0.0.1 {port} 2\n"
        ));
    }
    let mut member = Member::new(Arc::clone(host), program, text)?;
    let begun = Instant::now();
    member.start()?;
    let what = format!("{groups} groups with their replicas to be known");
    poll::until(&what, KNOWN_BOUND, AGAIN, || known_all(&member, groups))?;
    outcome.start_ms = begun.elapsed().as_secs_f64() * 1000.0;
    std::thread::sleep(REST);

    let pid = member.process().context("it was started")?.pid();
    let before = (Instant::now(), usage::processor(pid)?);
    std::thread::sleep(SPAN);
    let after = (Instant::now(), usage::processor(pid)?);
    let used = after.1.saturating_sub(before.1).as_secs_f64();
    outcome.cpu_percent = used / (after.0 - before.0).as_secs_f64() * 100.0;
    outcome.memory_mib = usage::resident_bytes(pid)? as f64 / f64::from(1 << 20);
    // A redis-sentinel may be too busy to answer at once here, too.
    poll::until("all groups to be known still", ANSWER_BOUND, AGAIN, || {
        known_all(&member, groups)
    })?;
    outcome.note = format!("{groups} groups, {} endpoints", ports.len());
    Ok(())
}

/// Whether all groups are well and have all their replicas. One that is busy connecting to thousands may leave a question
/// unanswered for a while.
fn known_all(member: &Member, groups: usize) -> anyhow::Result<Result<(), String>> {
    Ok(match known(member) {
        Ok(known) if known == groups => Ok(()),
        Ok(known) => Err(format!("{known} are")),
        Err(error) => Err(format!("{error:#}")),
    })
}

/// How many groups are well and have all their replicas, by INFO.
fn known(member: &Member) -> anyhow::Result<usize> {
    let Reply::Bulk(Some(bytes)) = member.demand(&["INFO", "sentinel"])? else {
        return Ok(0);
    };
    let replicas = format!("slaves={},", Crowd::replicas());
    Ok(String::from_utf8_lossy(&bytes)
        .lines()
        .filter(|line| line.contains(",status=ok,") && line.contains(&replicas))
        .count())
}
