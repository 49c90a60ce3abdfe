//! Saving what a resync would discard: the divergent tail, and the whole data set when the tail is gone.

use std::fs::{self, File};

use tandem_core::info::Version;
use tandem_resp::Value;
use tandem_resp::stream::summarize;

use super::super::client::Link;
use super::super::ops;
use super::super::rdb::RdbReader;
use super::super::sink::{FileSink, SinkError};
use super::super::tail::{TailError, TailLimits, TailReader, is_in_backlog};
use super::server::{Pair, Server, ok, run, soon, until};

const LIMITS: TailLimits = TailLimits {
    max_bytes: 1 << 20,
    sample_keys: 10,
};

/// A pair that parted: both are primaries, and `a` went on writing.
struct Parted {
    pair: Pair,
    replid: String,
    fork: u64,
}

impl Parted {
    async fn start() -> Self {
        let pair = Pair::start().await;
        ok(&pair.to_a, "SET common 1").await;
        pair.settle().await;
        let promoted = ops::promote(&pair.to_b, soon()).await.unwrap();
        let parted = Self {
            replid: promoted.master_replid2.unwrap(),
            fork: promoted.second_repl_offset.unwrap() - 1,
            pair,
        };
        ok(&parted.pair.to_a, "SET lost 1").await;
        run(&parted.pair.to_a, "INCR counter").await;
        run(&parted.pair.to_a, "LPUSH list x").await;
        parted
    }

    async fn end(&self) -> u64 {
        ops::read_offsets(&self.pair.to_a, soon())
            .await
            .unwrap()
            .offset
    }

    async fn open(&self) -> Result<TailReader, TailError> {
        TailReader::open(&self.pair.a.target(), &self.replid, self.fork, soon()).await
    }

    fn file(&self) -> (File, std::path::PathBuf) {
        let path = self.pair.a.dir().join("tail");
        (File::create(&path).unwrap(), path)
    }
}

#[tokio::test]
async fn the_tail_holds_exactly_the_divergent_commands() {
    let parted = Parted::start().await;
    let info = ops::info(&parted.pair.to_a, soon()).await.unwrap();
    assert!(is_in_backlog(&info, &parted.replid, parted.fork));
    let (file, path) = parted.file();
    let to = parted.end().await;
    let mut reader = parted.open().await.unwrap();
    let tail = reader
        .save(to, FileSink::new(file, 0), LIMITS, soon())
        .await
        .unwrap();
    assert_eq!((tail.from, tail.to), (parted.fork, to));
    assert_eq!(tail.commands, 3);
    let keys: Vec<_> = tail.keys.iter().map(|(_, key)| key.to_vec()).collect();
    assert_eq!(keys, [&b"counter"[..], b"list", b"lost"]);
    let bytes = fs::read(path).unwrap();
    assert_eq!(bytes.len() as u64, to - parted.fork);
    let summary = summarize(&bytes, 10).unwrap();
    assert_eq!(
        (summary.commands, summary.client_bytes),
        (3, tail.client_bytes)
    );
    // The other side was promoted for nobody: nothing of a client is in its tail.
    let side = &parted.pair.b;
    let offset = ops::read_offsets(&parted.pair.to_b, soon())
        .await
        .unwrap()
        .offset;
    let mut reader = TailReader::open(&side.target(), &parted.replid, parted.fork, soon())
        .await
        .unwrap();
    let other = File::create(side.dir().join("tail")).unwrap();
    let tail = reader
        .save(offset, FileSink::new(other, 0), LIMITS, soon())
        .await
        .unwrap();
    assert_eq!(tail.client_bytes, 0);
}

#[tokio::test]
async fn a_reader_opened_before_the_fence_goes_on_after_it() {
    let parted = Parted::start().await;
    let mut reader = parted.open().await.unwrap();
    ok(&parted.pair.to_a, "SET last 1").await;
    let fenced = ops::fence(&parted.pair.to_a, soon()).await.unwrap();
    // One opened after it is refused.
    assert_eq!(parted.open().await.unwrap_err(), TailError::NoMasterLink);
    let (file, _) = parted.file();
    let to = fenced.slave_repl_offset.unwrap();
    let tail = reader
        .save(to, FileSink::new(file, 0), LIMITS, soon())
        .await
        .unwrap();
    assert_eq!((tail.to, tail.commands), (to, 4));
}

#[tokio::test]
async fn a_fenced_server_gives_its_tail_after_a_promotion_behind_the_pause() {
    let parted = Parted::start().await;
    let fenced = ops::fence(&parted.pair.to_a, soon()).await.unwrap();
    let to = fenced.slave_repl_offset.unwrap();
    let promoted = ops::promote(&parted.pair.to_a, soon()).await.unwrap();
    assert_eq!(
        promoted.master_replid2.as_deref(),
        Some(parted.replid.as_str())
    );
    assert!(is_in_backlog(&promoted, &parted.replid, parted.fork));
    let mut reader = parted.open().await.unwrap();
    ops::fence(&parted.pair.to_a, soon()).await.unwrap();
    let (file, _) = parted.file();
    let tail = reader
        .save(to, FileSink::new(file, 0), LIMITS, soon())
        .await
        .unwrap();
    assert_eq!(tail.commands, 3);
}

#[tokio::test]
async fn a_diverged_server_is_resynced_in_full_and_loses_its_tail() {
    let parted = Parted::start().await;
    ok(&parted.pair.to_b, "SET theirs 1").await;
    let (a, b) = (&parted.pair.to_a, &parted.pair.b);
    ops::attach(a, "127.0.0.1", b.port, None, soon())
        .await
        .unwrap();
    until(a, "resynced", |info| info.master_link_up == Some(true)).await;
    assert_eq!(run(a, "GET lost").await, Value::Null);
    // Now the tail is gone for good, and the server says so.
    let info = ops::info(a, soon()).await.unwrap();
    assert!(!is_in_backlog(&info, &parted.replid, parted.fork + 1));
}

#[tokio::test]
async fn failures_are_told_apart() {
    let parted = Parted::start().await;
    let to = parted.end().await;
    let (file, _) = parted.file();
    let mut reader = parted.open().await.unwrap();
    let small = TailLimits {
        max_bytes: to - parted.fork - 1,
        ..LIMITS
    };
    let too_large = reader.save(to, FileSink::new(file, 0), small, soon()).await;
    assert_eq!(
        too_large,
        Err(TailError::TooLarge {
            limit: small.max_bytes
        })
    );

    let (file, _) = parted.file();
    let full = reader
        .save(to, FileSink::new(file, u64::MAX), LIMITS, soon())
        .await;
    assert_eq!(full, Err(TailError::Disk(SinkError::DiskFull)));

    let unknown = "0123456789012345678901234567890123456789";
    let info = ops::info(&parted.pair.to_a, soon()).await.unwrap();
    assert!(!is_in_backlog(&info, unknown, parted.fork));
    let gone = TailReader::open(&parted.pair.a.target(), unknown, parted.fork, soon()).await;
    let Err(TailError::FullResyncOffered { replid, offset }) = gone else {
        panic!("{gone:?}");
    };
    assert_eq!(Some(replid), info.master_replid);
    assert!(offset >= to);
}

/// Saves the data set of `a` as another server's RDB and starts that.
async fn snapshot_loads(a: &Server, reader: RdbReader) -> Link {
    let dir = tempfile::tempdir().unwrap();
    let file = File::create(dir.path().join("dump.rdb")).unwrap();
    let mut seen = Vec::new();
    let snapshot = reader
        .save(
            FileSink::new(file, 0),
            1 << 30,
            |progress| seen.push(progress),
            soon(),
        )
        .await
        .unwrap();
    assert_eq!(seen.last().unwrap().received, snapshot.bytes);
    assert!(
        seen.iter()
            .all(|progress| progress.total.is_none_or(|total| total == snapshot.bytes))
    );
    let info = ops::info(&a.link().await, soon()).await.unwrap();
    assert_eq!(Some(snapshot.replid), info.master_replid);
    let copy = Server::start_in(dir, &[], None).await;
    let link = copy.link().await;
    assert_eq!(ops::info(&link, soon()).await.unwrap().keys, info.keys);
    assert_eq!(run(&link, "GET k").await, Value::Bulk(b"v".to_vec()));
    link
}

async fn filled(diskless: &str) -> Server {
    let server = Server::start(&[("repl-diskless-sync", diskless)]).await;
    let link = server.link().await;
    ok(&link, "SET k v").await;
    // Larger than one read and one piece.
    let large = vec![b'x'; 700 * 1024];
    for key in ["a", "b"] {
        let stored = link
            .call(&[b"SETRANGE", key.as_bytes(), b"0", &large], soon())
            .await;
        assert!(stored.unwrap().as_integer().is_some());
    }
    server
}

#[tokio::test]
async fn a_snapshot_of_either_framing_can_be_loaded() {
    for diskless in ["yes", "no"] {
        let server = filled(diskless).await;
        let reader = RdbReader::open(&server.target(), soon()).await.unwrap();
        snapshot_loads(&server, reader).await;
    }
}

#[tokio::test]
async fn a_snapshot_asked_for_before_the_fence_comes_after_it() {
    let server = filled("yes").await;
    let reader = RdbReader::open(&server.target(), soon()).await.unwrap();
    let fenced = ops::fence(&server.link().await, soon()).await.unwrap();
    // Redis 6.2 throws its replicas out when it becomes one: there the snapshot is saved before the fence.
    if fenced.redis_version >= Version::parse("7.0") {
        snapshot_loads(&server, reader).await;
    }
    let late = RdbReader::open(&server.target(), soon()).await;
    assert_eq!(late.unwrap_err(), TailError::NoMasterLink);
}

#[tokio::test]
async fn a_snapshot_is_bounded_by_size_and_disk() {
    let server = filled("no").await;
    let file = || File::create(server.dir().join("out")).unwrap();
    let reader = RdbReader::open(&server.target(), soon()).await.unwrap();
    let small = reader
        .save(FileSink::new(file(), 0), 100, |_| {}, soon())
        .await;
    assert_eq!(small, Err(TailError::TooLarge { limit: 100 }));
    let reader = RdbReader::open(&server.target(), soon()).await.unwrap();
    let full = reader
        .save(FileSink::new(file(), u64::MAX), 1 << 30, |_| {}, soon())
        .await;
    assert_eq!(full, Err(TailError::Disk(SinkError::DiskFull)));
}
