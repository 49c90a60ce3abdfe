//! `tandem archive`: what was acknowledged here and is not in the group's history any more.
//!
//! Looking works on the files alone, without a daemon. A replay goes to the present primary and only ever adds keys that
//! are missing there; what it left alone it says. Removing an entry is a person's decision, typed.

mod commands;
mod keys;
mod plan;
mod replay;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{BufRead as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Subcommand;
use tandem_config::settings::{Group, Settings};
use tandem_resp::stream::{Class, Grouping};

use self::commands::{TailFile, typed};
use self::replay::Outcome;
use crate::cli::ask::ask;
use crate::cli::status::bytes;
use crate::cli::table::{printable, table};
use crate::cli::{DONE, FAILED, REFUSED, USAGE, Where, block_on, groups_at};
use crate::redis::raw::Target;
use crate::run::archive::{Archive, Kind, Receipt};
use crate::run::{control, credentials, group_dir};

/// An argument longer than this is cut when it is shown.
const SHOWN_BYTES: usize = 200;

/// What is wanted of the archive.
#[derive(Debug, Subcommand)]
pub(crate) enum ArchiveVerb {
    /// The entries, oldest first.
    Ls {
        #[command(flatten)]
        at: Where,
        /// For machines: the receipts.
        #[arg(long)]
        json: bool,
    },
    /// The receipt of an entry, and the commands of a tail as one would type them.
    Show {
        /// The entry's name, as `ls` shows it.
        name: String,
        #[command(flatten)]
        at: Where,
        /// The most commands to show.
        #[arg(long, default_value_t = 100)]
        limit: u64,
    },
    /// Send to the present primary what is missing there; nothing that exists is changed.
    Replay {
        /// The entry's name, as `ls` shows it.
        name: String,
        #[command(flatten)]
        at: Where,
        /// The word for it: only commands whose keys are missing on the primary are sent.
        #[arg(long, required = true)]
        only_missing: bool,
        /// Only say what would be sent.
        #[arg(long)]
        dry_run: bool,
        /// The primary's address; without it, the daemon on this host is asked.
        #[arg(long, value_name = "HOST:PORT")]
        to: Option<SocketAddr>,
        /// The database in which the tail begins, where the receipt does not know it.
        #[arg(long)]
        db: Option<u32>,
    },
    /// Remove an entry for good.
    Discard {
        /// The entry's name, as `ls` shows it.
        name: String,
        #[command(flatten)]
        at: Where,
        /// Without asking for the name again.
        #[arg(long)]
        yes: bool,
    },
}

/// Does it.
pub(crate) fn archive(verb: ArchiveVerb) -> u8 {
    let done = match verb {
        ArchiveVerb::Ls { at, json } => ls(&at, json),
        ArchiveVerb::Show { name, at, limit } => show(&at, &name, limit),
        ArchiveVerb::Replay {
            name,
            at,
            only_missing: _,
            dry_run,
            to,
            db,
        } => replay(&at, &name, dry_run, to, db),
        ArchiveVerb::Discard { name, at, yes } => discard(&at, &name, yes),
    };
    done.unwrap_or_else(|(code, text)| {
        eprint!("{text}");
        code
    })
}

/// Exit code and what is said.
type Failure = (u8, String);

fn failed(text: impl std::fmt::Display) -> Failure {
    (FAILED, format!("tandem: {text}\n"))
}

/// An entry and where it is.
struct Found {
    receipt: Receipt,
    dir: PathBuf,
    group: Group,
}

fn entries(at: &Where) -> Result<(Settings, Vec<Found>), Failure> {
    let (settings, groups) = groups_at(at).map_err(|report| (USAGE, report))?;
    let mut found = Vec::new();
    for group in groups {
        let dir = group_dir(&settings, &group.name);
        let archive = Archive::new(&dir, &group.name, &settings.host.id, group.archive);
        match archive.list() {
            Ok(receipts) => found.extend(receipts.into_iter().map(|receipt| Found {
                dir: archive.entry_dir(&receipt.name),
                receipt,
                group: group.clone(),
            })),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(crate::cli::at_path(&dir.join("archive"), &error))),
        }
    }
    Ok((settings, found))
}

fn entry(at: &Where, name: &str) -> Result<Found, Failure> {
    let (_, found) = entries(at)?;
    let names: Vec<String> = found
        .iter()
        .map(|found| found.receipt.name.clone())
        .collect();
    found
        .into_iter()
        .find(|found| found.receipt.name == name)
        .ok_or_else(|| {
            failed(if names.is_empty() {
                format!(
                    "there is no entry {}: the archive on this host is empty",
                    printable(name)
                )
            } else {
                format!(
                    "there is no entry {}; there are: {}",
                    printable(name),
                    names.join(", ")
                )
            })
        })
}

fn ls(at: &Where, as_json: bool) -> Result<u8, Failure> {
    let (_, found) = entries(at)?;
    if as_json {
        let receipts: Vec<&Receipt> = found.iter().map(|found| &found.receipt).collect();
        println!("{}", serde_json::json!(receipts));
        return Ok(DONE);
    }
    if found.is_empty() {
        println!("the archive on this host is empty");
        return Ok(DONE);
    }
    let rows = found.iter().map(|Found { receipt, .. }| {
        let content = match receipt.kind {
            Kind::Tail => format!("{} commands, {}", receipt.commands, bytes(receipt.bytes)),
            Kind::Rdb => format!("{} keys, {}", receipt.key_count, bytes(receipt.bytes)),
        };
        vec![
            receipt.name.clone(),
            receipt.group.clone(),
            receipt.host.clone(),
            receipt.epoch.to_string(),
            content,
            receipt.why.clone(),
        ]
    });
    print!(
        "{}",
        table(&["NAME", "GROUP", "HOST", "EPOCH", "CONTENT", "WHY"], rows)
    );
    Ok(DONE)
}

fn show(at: &Where, name: &str, limit: u64) -> Result<u8, Failure> {
    let found = entry(at, name)?;
    let receipt = &found.receipt;
    let mut out = std::io::stdout().lock();
    let rows = [
        ("made", receipt.time.clone()),
        ("why", receipt.why.clone()),
        ("group", receipt.group.clone()),
        ("data of host", receipt.host.clone()),
        ("epoch", receipt.epoch.to_string()),
        ("lineage", receipt.lineage.clone()),
        (
            "offsets",
            format!("after {} up to {}", receipt.from, receipt.to),
        ),
        ("folder", found.dir.display().to_string()),
    ];
    for (what, value) in rows {
        let _ = writeln!(out, "{what:14}{}", printable(&value));
    }
    match receipt.kind {
        Kind::Rdb => {
            let _ = writeln!(
                out,
                "\nA snapshot of {} keys, {}. Look into it with a server of its own, which no client reaches:\n  \
                 redis-server --port 7777 --bind 127.0.0.1 --appendonly no --dir {} --dbfilename dump.rdb",
                receipt.key_count,
                bytes(receipt.bytes),
                found.dir.display()
            );
            return Ok(DONE);
        }
        Kind::Tail => {
            let _ = writeln!(
                out,
                "\n{} commands, {}:",
                receipt.commands,
                bytes(receipt.bytes)
            );
        }
    }
    let mut tail =
        TailFile::open(&found.dir.join("tail.resp"), receipt.first_db).map_err(failed)?;
    let mut db = None;
    let (mut shown, mut hidden) = (0_u64, 0_u64);
    while let Some(command) = tail.next().map_err(failed)? {
        if command.entry.class == Class::Bookkeeping {
            continue;
        }
        if shown >= limit {
            hidden += 1;
            continue;
        }
        if shown == 0 || command.entry.db != db {
            db = command.entry.db;
            let word = db.map_or_else(|| "not known".to_owned(), |db| db.to_string());
            let _ = writeln!(out, "# database {word}");
        }
        let indent = match command.entry.grouping {
            Grouping::Inside => "    ",
            Grouping::Alone | Grouping::Opens | Grouping::Closes => "  ",
        };
        shown += 1;
        // A closed pipe, such as that of `head`, ends the showing.
        if writeln!(out, "{indent}{}", typed(&command.args(), SHOWN_BYTES)).is_err() {
            return Ok(DONE);
        }
    }
    if hidden > 0 {
        let _ = writeln!(out, "{hidden} more; --limit shows more of them");
    }
    Ok(DONE)
}

fn replay(
    at: &Where,
    name: &str,
    dry_run: bool,
    to: Option<SocketAddr>,
    db: Option<u32>,
) -> Result<u8, Failure> {
    let found = entry(at, name)?;
    if found.receipt.kind == Kind::Rdb {
        return Err((
            REFUSED,
            format!(
                "tandem: {name} is a snapshot: it says what the keys were, not which of them changed. \
                 tandem archive show {name} says how to look into it\n"
            ),
        ));
    }
    let address = match to {
        Some(address) => address,
        None => primary(at, &found.group.name)?,
    };
    let path = found.dir.join("tail.resp");
    let first_db = db.or(found.receipt.first_db);
    let open = || TailFile::open(&path, first_db).map_err(failed);
    let plan = plan::plan(open()?, open()?).map_err(failed)?;
    let mut target = Target::new(address);
    target.credentials = credentials(&found.group).map_err(|error| failed(format!("{error:#}")))?;
    let file = File::open(&path).map_err(failed)?;
    let (outcome, broken) = block_on(replay::replay(&target, &file, &plan, dry_run))
        .map_err(failed)?
        .map_err(|error| failed(format!("{address}: {error}")))?;
    print!("{}", report(&outcome, &plan.left, address, dry_run));
    if let Some(error) = broken {
        return Err(failed(format!(
            "{address}: {error}; what the table says was done, the rest was not tried. Running it again is safe"
        )));
    }
    Ok(if outcome.errors.0 > 0 { FAILED } else { DONE })
}

/// The primary's address, as the daemon on this host knows it.
fn primary(at: &Where, group: &str) -> Result<SocketAddr, Failure> {
    let answers = match ask(at, control::Verb::Status) {
        Ok(answers) => answers,
        Err(error) => {
            let code = error.report();
            return Err((
                code,
                "tandem: --to HOST:PORT names the primary without a daemon\n".to_owned(),
            ));
        }
    };
    let hosts = answers
        .get(group)
        .and_then(|status| status.get("hosts")?.as_array());
    let row = hosts
        .into_iter()
        .flatten()
        .find(|row| row["phase"] == "primary");
    row.and_then(|row| row["address"].as_str()?.parse().ok()).ok_or_else(|| {
        failed(format!("{group} has no primary now, as far as the daemon on this host knows; see tandem status"))
    })
}

fn report(outcome: &Outcome, left: &plan::Left, to: SocketAddr, dry_run: bool) -> String {
    let pair = |(keys, commands): (u64, u64), why: &str| {
        (keys + commands > 0).then(|| vec![keys.to_string(), commands.to_string(), why.to_owned()])
    };
    let lone = |commands: u64, why: &str| {
        (commands > 0).then(|| vec!["-".to_owned(), commands.to_string(), why.to_owned()])
    };
    let sent = if dry_run { "would be sent" } else { "sent" };
    let rows = [
        Some(vec![
            outcome.sent.0.to_string(),
            outcome.sent.1.to_string(),
            format!("{sent} to {to}"),
        ]),
        pair(outcome.present, "left alone: a key exists there"),
        pair(
            outcome.appeared,
            "left alone: a key appeared there meanwhile",
        ),
        pair(
            outcome.unknown,
            "left alone: with a command whose keys tandem does not know",
        ),
        pair(
            outcome.too_large,
            "left alone: too large for one transaction",
        ),
        lone(
            left.without_key,
            "not sent: without a key (PUBLISH, scripts)",
        ),
        lone(
            left.wiped,
            "not sent: FLUSHALL or FLUSHDB, and what it undid",
        ),
        lone(
            left.unknown_db,
            "not sent: in a database that is not known; --db names it",
        ),
        lone(
            left.unfinished,
            "not sent: a transaction that was never finished",
        ),
    ];
    let mut out = table(
        &["KEYS", "COMMANDS", "WHAT BECAME OF THEM"],
        rows.into_iter().flatten(),
    );
    if !outcome.present_named.is_empty() {
        let named: Vec<String> = outcome
            .present_named
            .iter()
            .map(|(db, key)| format!("{db}:{}", typed(&[key], SHOWN_BYTES)))
            .collect();
        out.push_str(&format!("already there: {}\n", named.join(" ")));
    }
    if let (errors @ 1.., Some(first)) = &outcome.errors {
        out.push_str(&format!(
            "the server answered {errors} of them with an error, first: {first}\n"
        ));
    }
    out
}

fn discard(at: &Where, name: &str, yes: bool) -> Result<u8, Failure> {
    let found = entry(at, name)?;
    if !yes {
        eprint!(
            "{} holds acknowledged writes that may be nowhere else. Type its name to remove it: ",
            found.receipt.name
        );
        let mut typed = String::new();
        std::io::stdin()
            .lock()
            .read_line(&mut typed)
            .map_err(failed)?;
        if typed.trim() != found.receipt.name {
            return Err(failed("that is another name; nothing was removed"));
        }
    }
    // The receipt goes first: what is left of an interrupted removal is no entry any more.
    std::fs::remove_file(found.dir.join("receipt.json"))
        .and_then(|()| std::fs::remove_dir_all(&found.dir))
        .map_err(|error| failed(crate::cli::at_path(&found.dir, &error)))?;
    println!("{} is gone", found.receipt.name);
    Ok(DONE)
}
