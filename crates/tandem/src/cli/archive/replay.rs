//! Sending what is missing: bundle by bundle, each checked and carried out in one transaction of the server.
//!
//! WATCH before EXISTS makes "never overwrites" hold against clients that write meanwhile: if one of the keys appears
//! between the check and the EXEC, the server carries out nothing of the bundle. A bundle that is too large
//! for one transaction is left alone rather than cut, because a half of it would be data that no client wrote.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use tandem_resp::{Command, Limits, ReplyDecoder, Value};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout_at;

use super::plan::{Bundle, Key, Plan};
use crate::redis::error::LinkError;
use crate::redis::raw::{RawConnection, Target};

/// Bound on one exchange; the largest transaction takes a server some hundred milliseconds.
const EXCHANGE_WITHIN: Duration = Duration::from_secs(30);
/// Larger bundles are left alone: the server would stand still for their transaction.
const BUNDLE_BYTES_MAX: u64 = 64 << 20;
/// As [`BUNDLE_BYTES_MAX`]; the answers must fit into the reader's bounds as well.
const BUNDLE_COMMANDS_MAX: usize = 100_000;
/// Keys asked for in one exchange.
const KEYS_AT_ONCE: usize = 1000;
/// Keys named in the report.
const NAMED_MAX: usize = 20;

/// What was done, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Keys and commands sent; without sending, those that would be.
    pub(super) sent: (u64, u64),
    /// Keys and commands left alone because a key exists.
    pub(super) present: (u64, u64),
    /// Some of the keys that exist.
    pub(super) present_named: Vec<Key>,
    /// As `present`, but a client created a key while we were at it.
    pub(super) appeared: (u64, u64),
    /// Keys and commands of bundles with a command whose keys are unknown.
    pub(super) unknown: (u64, u64),
    /// Keys and commands of bundles too large for one transaction.
    pub(super) too_large: (u64, u64),
    /// Commands that the server carried out with an error, and the first such error.
    pub(super) errors: (u64, Option<String>),
}

/// Why a replay ended early. What was sent before stays; running it again is safe, as its keys exist now.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReplayError {
    /// The connection.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The tail's file.
    #[error("tail: {0}")]
    Tail(#[from] io::Error),
    /// The server refused.
    #[error("{what}: {text}")]
    Refused {
        /// The command.
        what: &'static str,
        /// The server's words.
        text: String,
    },
    /// The server is not writable.
    #[error("this server is a {0}: a replay goes to the primary")]
    NotPrimary(String),
    /// An answer that makes no sense.
    #[error("{0}: an answer of an unexpected kind")]
    Unexpected(&'static str),
}

/// Checks and sends. With `dry_run` only checks.
pub(super) async fn replay(
    target: &Target,
    tail: &File,
    plan: &Plan,
    dry_run: bool,
) -> Result<(Outcome, Option<ReplayError>), ReplayError> {
    let mut wire = Wire::open(target).await?;
    let role = wire.ask(&[Command::new("ROLE")]).await?;
    let role = role
        .first()
        .and_then(Value::as_array)
        .and_then(|parts| parts.first());
    let role = role
        .and_then(Value::as_str)
        .ok_or(ReplayError::Unexpected("ROLE"))?;
    if role != "master" {
        return Err(ReplayError::NotPrimary(role.replace("slave", "replica")));
    }
    let mut outcome = Outcome::default();
    for bundle in &plan.bundles {
        if let Err(error) = wire.bundle(tail, bundle, dry_run, &mut outcome).await {
            // What was done so far is worth telling.
            return Ok((outcome, Some(error)));
        }
    }
    Ok((outcome, None))
}

/// A connection for transactions of any length within the bounds.
struct Wire {
    stream: TcpStream,
    decoder: ReplyDecoder,
    db: u32,
}

impl Wire {
    async fn open(target: &Target) -> Result<Self, LinkError> {
        let connection = RawConnection::open(target, Instant::now() + EXCHANGE_WITHIN).await?;
        let (stream, _) = connection.into_parts();
        // RESP2 answers to EXEC: one array with an element per command.
        let limits = Limits {
            max_elements: 2 * BUNDLE_COMMANDS_MAX,
            ..Limits::default()
        };
        Ok(Self {
            stream,
            decoder: ReplyDecoder::new(limits),
            db: 0,
        })
    }

    async fn ask(&mut self, commands: &[Command]) -> Result<Vec<Value>, LinkError> {
        let mut bytes = Vec::new();
        for command in commands {
            command.encode(&mut bytes);
        }
        self.exchange(&bytes, commands.len()).await
    }

    async fn exchange(&mut self, bytes: &[u8], answers: usize) -> Result<Vec<Value>, LinkError> {
        let by = Instant::now() + EXCHANGE_WITHIN;
        timeout_at(by.into(), self.stream.write_all(bytes))
            .await
            .map_err(|_| LinkError::TimedOut { sent: true })?
            .map_err(|error| LinkError::from_io(&error, true))?;
        let mut values = Vec::with_capacity(answers);
        let mut chunk = vec![0; 64 * 1024];
        while values.len() < answers {
            if let Some(value) = self.decoder.next_value()? {
                values.push(value);
                continue;
            }
            let read = timeout_at(by.into(), self.stream.read(&mut chunk))
                .await
                .map_err(|_| LinkError::TimedOut { sent: true })?
                .map_err(|error| LinkError::from_io(&error, true))?;
            if read == 0 {
                return Err(LinkError::Closed { sent: true });
            }
            self.decoder.feed(&chunk[..read]);
        }
        Ok(values)
    }

    async fn bundle(
        &mut self,
        tail: &File,
        bundle: &Bundle,
        dry_run: bool,
        outcome: &mut Outcome,
    ) -> Result<(), ReplayError> {
        let size = (bundle.keys.len() as u64, bundle.commands.len() as u64);
        if bundle.unknown {
            add(&mut outcome.unknown, size);
            return Ok(());
        }
        if bundle.bytes() > BUNDLE_BYTES_MAX || bundle.commands.len() > BUNDLE_COMMANDS_MAX {
            add(&mut outcome.too_large, size);
            return Ok(());
        }
        let present = self.present(&bundle.keys, !dry_run).await?;
        if !present.is_empty() {
            if !dry_run {
                self.ask(&[Command::new("UNWATCH")]).await?;
            }
            add(&mut outcome.present, size);
            let room = NAMED_MAX.saturating_sub(outcome.present_named.len());
            outcome.present_named.extend(present.into_iter().take(room));
            return Ok(());
        }
        if dry_run {
            add(&mut outcome.sent, size);
            return Ok(());
        }
        match self.transaction(tail, bundle).await? {
            Some(errors) => {
                add(&mut outcome.sent, size);
                outcome.errors.0 += errors.0;
                if outcome.errors.1.is_none() {
                    outcome.errors.1 = errors.1;
                }
            }
            None => add(&mut outcome.appeared, size),
        }
        Ok(())
    }

    /// Which of the keys exist; with `watch`, any change to one of them from here on voids the next transaction.
    async fn present(&mut self, keys: &[Key], watch: bool) -> Result<Vec<Key>, ReplayError> {
        let mut present = Vec::new();
        for chunk in keys.chunks(KEYS_AT_ONCE) {
            let mut commands = Vec::new();
            let mut places = Vec::new();
            for key in chunk {
                if key.0 != self.db {
                    commands.push(Command::new("SELECT").number(key.0));
                    self.db = key.0;
                }
                if watch {
                    commands.push(Command::new("WATCH").arg(&key.1));
                }
                places.push(commands.len());
                commands.push(Command::new("EXISTS").arg(&key.1));
            }
            let values = self.ask(&commands).await?;
            refuse_errors("WATCH and EXISTS", &values)?;
            for (key, place) in chunk.iter().zip(places) {
                if values.get(place).and_then(Value::as_integer) != Some(0) {
                    present.push(key.clone());
                }
            }
        }
        Ok(present)
    }

    /// Carries the bundle out; `None` if one of its keys appeared. Else the errors of single commands.
    async fn transaction(
        &mut self,
        tail: &File,
        bundle: &Bundle,
    ) -> Result<Option<(u64, Option<String>)>, ReplayError> {
        let mut bytes = Vec::new();
        let mut count = 0;
        Command::new("MULTI").encode(&mut bytes);
        for place in &bundle.commands {
            if place.db != self.db {
                Command::new("SELECT").number(place.db).encode(&mut bytes);
                self.db = place.db;
                count += 1;
            }
            let length = usize::try_from(place.len)
                .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
            let start = bytes.len();
            bytes.resize(start + length, 0);
            tail.read_exact_at(&mut bytes[start..], place.at)?;
            count += 1;
        }
        Command::new("EXEC").encode(&mut bytes);
        let values = self.exchange(&bytes, count + 2).await?;
        let (last, queued) = values.split_last().ok_or(ReplayError::Unexpected("EXEC"))?;
        refuse_errors("the transaction was refused and nothing of it done", queued)?;
        match last {
            Value::Null => Ok(None),
            Value::Array(answers) => {
                let mut errors = answers.iter().filter_map(Value::as_error);
                let first = errors.next().map(words);
                let more = errors.count() as u64;
                Ok(Some((more + u64::from(first.is_some()), first)))
            }
            Value::Error(text) => Err(ReplayError::Refused {
                what: "EXEC",
                text: words(text),
            }),
            Value::Simple(_)
            | Value::Integer(_)
            | Value::Bulk(_)
            | Value::Boolean(_)
            | Value::Double(_)
            | Value::BigNumber(_)
            | Value::Verbatim(_)
            | Value::Set(_)
            | Value::Push(_)
            | Value::Map(_) => Err(ReplayError::Unexpected("EXEC")),
        }
    }
}

fn words(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

fn refuse_errors(what: &'static str, values: &[Value]) -> Result<(), ReplayError> {
    match values.iter().find_map(Value::as_error) {
        Some(text) => Err(ReplayError::Refused {
            what,
            text: words(text),
        }),
        None => Ok(()),
    }
}

fn add(total: &mut (u64, u64), size: (u64, u64)) {
    total.0 += size.0;
    total.1 += size.1;
}
