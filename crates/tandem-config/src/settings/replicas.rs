//! `ack`, `when_alone`, `reads` and `read` of a `[[proxy]]`: what its groups' replicas are for besides taking over.

use tandem_proxy::settings::{Ack, ReadFrom, Replicas};
use toml::de::DeValue;

use super::kinds::word;
use super::read::number;
use super::section::{Read, Section, Wrong};
use super::{Shard, ShardAt};
use crate::diagnostic::{Diagnostic, Report, Span};

/// Replicas that a write may have to be on.
const ACK_MAX: i64 = 8;

/// The word after `when_alone`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Alone {
    Refuse,
    Continue,
}

/// The word after `reads`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reads {
    Immediate,
    Acked,
}

impl Read for Alone {
    const KIND: &'static str = "\"refuse\" or \"continue\"";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        word(
            value,
            &[("refuse", Self::Refuse), ("continue", Self::Continue)],
        )
    }
}

impl Read for Reads {
    const KIND: &'static str = "\"immediate\" or \"acked\"";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        word(
            value,
            &[("immediate", Self::Immediate), ("acked", Self::Acked)],
        )
    }
}

impl Read for ReadFrom {
    const KIND: &'static str = "\"primary\" or \"replica\"";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        word(
            value,
            &[("primary", Self::Primary), ("replica", Self::Replica)],
        )
    }
}

/// Where to report what only several keys show.
pub(super) struct Places {
    ack: Span,
    read: Span,
    alone: Span,
    header: Span,
}

/// Reads the four keys.
pub(super) fn read(section: &Section<'_, '_>, report: &mut Report) -> Option<(Replicas, Places)> {
    let ack = number(
        section,
        report,
        "ack",
        0..=ACK_MAX,
        "; 0 passes replies on at once",
    );
    let alone = section.get::<Alone>(report, "when_alone");
    let reads = section.get::<Reads>(report, "reads");
    let read = section.get::<ReadFrom>(report, "read");
    let ack = u32::try_from(ack?).ok()?;
    if ack == 0 && alone == Some(Alone::Continue) {
        report.push(
            Diagnostic::error("no-ack", "when_alone = \"continue\" without `ack`")
                .at(section.place("when_alone"), "no write waits for a replica")
                .help("add ack = 1, or leave this key out"),
        );
    }
    if ack == 0 && reads == Some(Reads::Acked) {
        report.push(
            Diagnostic::error("no-ack", "reads = \"acked\" without `ack`")
                .at(section.place("reads"), "nothing is acknowledged")
                .help("add ack = 1, so that a write is acknowledged only when a replica has it"),
        );
    }
    let replicas = Replicas {
        ack: (ack > 0).then_some(Ack {
            replicas: ack,
            reads: reads? == Reads::Acked,
            alone: alone? == Alone::Continue,
        }),
        read: read?,
    };
    let places = Places {
        ack: section.place("ack"),
        read: section.place("read"),
        alone: section.place("when_alone"),
        header: section.header,
    };
    Some((replicas, places))
}

/// Replicas have to be known of, and what is said of them must fit together.
pub(super) fn check(replicas: Replicas, shards: &[Shard], places: &Places, report: &mut Report) {
    let fixed = shards
        .iter()
        .find(|shard| matches!(shard.at, ShardAt::Server { .. } | ShardAt::Socket { .. }));
    if let Some(shard) = fixed {
        let text = format!("nobody says which replicas the shard `{}` has", shard.name);
        let help = "name its `daemons` in place of its `server`, or leave this key out";
        if replicas.ack.is_some() {
            report.push(
                Diagnostic::error("no-replicas", text.clone())
                    .at(places.ack, "no replica could acknowledge anything")
                    .help(help),
            );
        }
        if replicas.read == ReadFrom::Replica {
            report.push(
                Diagnostic::error("no-replicas", text)
                    .at(places.read, "there is no replica to read from")
                    .help(help),
            );
        }
    }
    let elsewhere = shards
        .iter()
        .find(|shard| matches!(shard.at, ShardAt::Daemons { .. }));
    if let Some(shard) = elsewhere
        && replicas.ack.is_some_and(|ack| ack.alone)
    {
        let text = format!(
            "when_alone = \"continue\" and the shard `{}` is on other hosts",
            shard.name
        );
        report.push(
            Diagnostic::error("alone", text)
                .at(places.alone, "only the proxies on a primary's own host are told that it may go on alone, and until when")
                .help("have a proxy on each host of the group, or leave this key out: writes are refused with NOREPLICAS until a replica is back"),
        );
    }
    if replicas.read == ReadFrom::Replica && replicas.ack.is_some_and(|ack| ack.reads) {
        report.push(
            Diagnostic::error(
                "two-kinds-of-read",
                "reads = \"acked\" and read = \"replica\" exclude each other",
            )
            .at(places.read, "a replica may be behind")
            .at(
                places.header,
                "and this proxy's reads may see only what enough replicas have",
            )
            .help("keep reads = \"acked\" with read = \"primary\""),
        );
    }
}
