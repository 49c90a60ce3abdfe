//! Taking the divergent tail out of a server before it is thrown away: the commands after a fork point, from the
//! backlog, by the means that replicas use.
//!
//! A server answers `PSYNC <replid> <fork + 1>` with its history from there on, while it is a primary. Once it is a
//! replica without a link it answers NOMASTERLINK, but a connection opened before goes on. So [`TailReader::open`] comes
//! before the fence, and [`TailReader::save`] may come after it. That holds from Redis 7.0 on and for Valkey: Redis 6.2 closes
//! its replicas' connections when it becomes a replica, so there the tail is saved behind the pause, before the fence.
//!
//! Two costs to know. A server that no longer has the offset does not say so but starts a full resync, which forks:
//! [`is_in_backlog`] asks first. And a connection that sent PSYNC counts as a good replica for
//! `min-replicas-to-write` during the first seconds, so it is opened only behind a closed front or a pause.

use std::time::Instant;

use tandem_core::answer::AnswerClass;
use tandem_core::info::ServerInfo;
use tandem_resp::stream::{KeySample, LoneDeletions, StreamParser, Summary};
use tandem_resp::{FrameError, Limits};
use tokio::net::TcpStream;

use super::error::LinkError;
use super::raw::{PsyncAnswer, READ_BYTES, RawConnection, Target, read_some};
use super::sink::{FileSink, SinkError};

/// Why there is no tail.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TailError {
    /// The connection failed, or the deadline passed.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The server is a replica without a link: it serves no history. Promote it behind a closed front first.
    #[error("the server is a replica without a primary and serves no history")]
    NoMasterLink,
    /// The offset is no longer in the backlog, or of another lineage: only an RDB holds the difference.
    #[error("the tail is gone: the server offers a full resync of {replid} at {offset}")]
    FullResyncOffered {
        /// The server's lineage.
        replid: String,
        /// Its offset.
        offset: u64,
    },
    /// The server refused for another reason.
    #[error("PSYNC: {text}")]
    Refused {
        /// What kind of refusal.
        class: AnswerClass,
        /// The server's words.
        text: String,
    },
    /// The tail is longer than allowed.
    #[error("the tail is longer than {limit} bytes")]
    TooLarge {
        /// The bound, in bytes.
        limit: u64,
    },
    /// The file could not be written; a full disk is [`SinkError::DiskFull`].
    #[error(transparent)]
    Disk(#[from] SinkError),
    /// The stream is no sequence of commands: the fork point is none.
    #[error("replication stream: {0}")]
    Stream(FrameError),
}

/// What was saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tail {
    /// The fork: the last offset before the tail.
    pub(crate) from: u64,
    /// The offset after the last command saved.
    pub(crate) to: u64,
    /// Data commands.
    pub(crate) commands: u64,
    /// Bytes of data commands: the side's weight in the verdict.
    pub(crate) client_bytes: u64,
    /// Of these, deletions that may have been expiry or eviction.
    pub(crate) lone_deletions: LoneDeletions,
    /// Data commands before the first SELECT: they ran in the database that was selected before the fork.
    pub(crate) commands_in_unknown_db: u64,
    /// First keys of the data commands, a bounded sample.
    pub(crate) keys: KeySample,
}

/// Bounds on a tail.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TailLimits {
    /// Longest tail in bytes.
    pub(crate) max_bytes: u64,
    /// Most keys named in the receipt.
    pub(crate) sample_keys: usize,
}

/// Whether a server can continue after offset `from` of `replid`, by what its INFO says. It may know better by then.
pub(crate) fn is_in_backlog(info: &ServerInfo, replid: &str, from: u64) -> bool {
    let own = info.master_replid.as_deref() == Some(replid);
    // `second_repl_offset` is the first offset that is no longer of the earlier lineage.
    let earlier = info.master_replid2.as_deref() == Some(replid)
        && info.second_repl_offset.is_some_and(|second| from < second);
    let first = info.backlog_first_byte_offset;
    let next = from + 1;
    info.backlog_active
        && (own || earlier)
        && next >= first
        && next <= first + info.backlog_histlen_bytes
}

/// A connection on which the server sends its history from a fork point on.
#[derive(Debug)]
pub(crate) struct TailReader {
    stream: TcpStream,
    buffer: Vec<u8>,
    parser: StreamParser,
}

impl TailReader {
    /// Asks for the history of `replid` after offset `from`. While the reader lives, the connection stays open, also
    /// over a fence.
    pub(crate) async fn open(
        target: &Target,
        replid: &str,
        from: u64,
        deadline: Instant,
    ) -> Result<Self, TailError> {
        let connection = RawConnection::open(target, deadline).await?;
        // Offsets are counted in an i64 by the server; one beyond it is in nobody's backlog.
        let next = i64::try_from(from.saturating_add(1)).unwrap_or(i64::MAX);
        let (answer, stream, buffer) = connection.ask_psync(replid, next, deadline).await?;
        match answer {
            PsyncAnswer::Continue => Ok(Self {
                stream,
                buffer,
                parser: StreamParser::new(from, Limits::default()),
            }),
            PsyncAnswer::FullResync { replid, offset } => {
                Err(TailError::FullResyncOffered { replid, offset })
            }
            PsyncAnswer::Refused(text) => Err(refusal(text)),
        }
    }

    /// Reads until the server's offset `to` and writes the commands, byte for byte, into `sink`. Keep-alives are left
    /// out, so the file is `to - from` bytes long and may be replayed as it is.
    ///
    /// The reader stays usable: a later call goes on where this one ended.
    pub(crate) async fn save(
        &mut self,
        to: u64,
        mut sink: FileSink,
        limits: TailLimits,
        deadline: Instant,
    ) -> Result<Tail, TailError> {
        let too_large = TailError::TooLarge {
            limit: limits.max_bytes,
        };
        let from = self.parser.offset();
        if to.saturating_sub(from) > limits.max_bytes {
            return Err(too_large);
        }
        let mut summary = Summary::new(limits.sample_keys);
        loop {
            self.drain(to, &mut sink, &mut summary).await?;
            if self.parser.offset() >= to {
                break;
            }
            let unparsed = self.parser.offset() - from + self.buffer.len() as u64;
            // The last command may end a little behind `to`; a command in progress is counted by its bytes so far.
            if unparsed > limits.max_bytes.saturating_add(READ_BYTES as u64) {
                return Err(too_large);
            }
            let mut chunk = [0; READ_BYTES];
            let read = read_some(&mut self.stream, &mut chunk, deadline).await?;
            self.buffer.extend_from_slice(&chunk[..read]);
        }
        sink.finish().await?;
        Ok(Tail {
            from,
            to: self.parser.offset(),
            commands: summary.commands,
            client_bytes: summary.client_bytes,
            lone_deletions: summary.lone_deletions,
            commands_in_unknown_db: summary.commands_in_unknown_db,
            keys: summary.keys,
        })
    }

    /// Takes the complete commands out of the buffer, up to the offset `to`.
    async fn drain(
        &mut self,
        to: u64,
        sink: &mut FileSink,
        summary: &mut Summary,
    ) -> Result<(), TailError> {
        let mut taken = 0;
        while self.parser.offset() < to {
            let rest = &self.buffer[taken..];
            let Some(entry) = self.parser.next_entry(rest).map_err(TailError::Stream)? else {
                break;
            };
            summary.add(&entry, rest);
            let bytes = usize::try_from(entry.end - entry.start).unwrap_or(entry.len);
            sink.write(&rest[entry.len - bytes..entry.len]).await?;
            taken += entry.len;
        }
        self.buffer.drain(..taken);
        Ok(())
    }
}

pub(super) fn refusal(text: String) -> TailError {
    if text.starts_with("NOMASTERLINK") {
        return TailError::NoMasterLink;
    }
    TailError::Refused {
        class: AnswerClass::of_error(text.as_bytes()),
        text,
    }
}
