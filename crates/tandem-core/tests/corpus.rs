//! The fuzzers' corpora, replayed: bytes of strangers and of damaged disks are refused by name and never panic.

#![allow(clippy::unwrap_used)] // A panic in a test is its report.

mod session;

use std::fs;
use std::path::Path;

use tandem_core::ids::{Epoch, HostId, Offset, ReplId, RunId};
use tandem_core::info::{Role, ServerInfo};
use tandem_core::journal::{Journal, JournalError, JournalRole, Mark};
use tandem_core::rules::verdict::Evidence;
use tandem_core::sentinel::hello::{Hello, HelloError};
use tandem_core::server::{ServerRole, ServerView, Shown};
use tandem_core::statement::{
    Fork, PhaseName, ReleaseKind, Released, STATEMENT_FORMAT, Statement, StatementError, Turn,
};
use tandem_resp::{Limits, Protocol, ReplyDecoder};

fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/corpus")
        .join(name);
    let mut files: Vec<_> = fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            (
                path.file_name().unwrap().to_string_lossy().into_owned(),
                fs::read(path).unwrap(),
            )
        })
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", dir.display());
    files
}

/// A journal with every part in use, and the files that are made from it. `TANDEM_BLESS=1` writes them anew after a
/// change of format.
fn journal_files() -> Vec<(&'static str, Vec<u8>)> {
    let host = HostId::new("a");
    let epoch = |counter| Epoch {
        counter,
        host: host.clone(),
    };
    let lineage = |digit: &str| ReplId(digit.repeat(40));
    let mut journal = Journal::fresh(host.clone(), "orders");
    journal.epoch = epoch(7);
    journal.data_epoch = epoch(6);
    journal.role = JournalRole::Released;
    journal.run_id = Some(RunId("e".repeat(40)));
    journal.synced = Some((RunId("e".repeat(40)), lineage("b")));
    journal.primary_lineage = Some(lineage("b"));
    journal.intent = Some(epoch(8));
    journal.add_fork(Fork {
        epoch: epoch(6),
        parent: lineage("a"),
        offset: Offset(123_240),
        lineage: lineage("b"),
        ended: false,
        whole: false,
    });
    journal.released = Some(Released {
        epoch: epoch(6),
        kind: ReleaseKind::FrontClosed,
        lineage: lineage("b"),
        offset: Offset(200_000),
        exact: false,
        recalled: true,
    });
    journal.mark = Some(Mark {
        run_id: RunId("e".repeat(40)),
        lineage: lineage("b"),
        offset: Offset(199_000),
        keys: 12,
        link_up: true,
        peer_offset: Some(Offset(198_000)),
        previous_offset: Offset(190_000),
        boot_id: "0b7f".to_owned(),
        unix_ms: 0,
    });
    let good = journal.encode();
    let half = good[..good.len() / 2].to_vec();
    let mut edited = good.clone();
    let at = edited.iter().rposition(|byte| *byte == b'7').unwrap();
    edited[at] = b'9';
    journal.host = HostId::new("b");
    vec![
        ("good-released", good),
        ("good-fresh", Journal::fresh(host, "orders").encode()),
        ("foreign-host", journal.encode()),
        ("torn-half", half),
        ("torn-edited", edited),
        ("empty", Vec::new()),
        ("other-file", b"maxmemory 1gb\n".to_vec()),
    ]
}

/// The same for statements.
fn statement_files() -> Vec<(&'static str, Vec<u8>)> {
    let host = HostId::new("b");
    let epoch = Epoch {
        counter: 3,
        host: host.clone(),
    };
    let lineage = ReplId("c".repeat(40));
    let view = ServerView {
        pid: 4711,
        run_id: RunId("d".repeat(40)),
        role: ServerRole::Replica {
            of: "10.0.0.1:6379".to_owned(),
            link_up: true,
            syncing: false,
        },
        loading: false,
        replid: lineage,
        replid2: ReplId("0".repeat(40)),
        second_offset: Offset(0),
        offset: Offset(1000),
        keys: 10,
        aof: true,
        expired: 1,
        online_replicas: 0,
        replicas: Vec::new(),
        syncs: 0,
        uptime_s: 100,
        used_memory: 1 << 20,
        link_down_s: None,
        shown: Shown::default(),
    };
    let statement = Statement {
        format: STATEMENT_FORMAT,
        group: "orders".to_owned(),
        host: host.clone(),
        incarnation: u64::MAX,
        version: 42,
        epoch: epoch.clone(),
        phase: PhaseName::Replica,
        reason: Some("eligible.lag: 5 bytes".to_owned()),
        released: None,
        declined: Some(epoch.clone()),
        last_words: Vec::new(),
        server: Some(view),
        healthy: true,
        eligible: false,
        streaming: false,
        turn: Some(Turn {
            of: epoch.clone(),
            number: 4711,
        }),
        alone: false,
        barred: None,
        spent: None,
        beaten_by: None,
        fork: None,
        evidence: Some(Evidence {
            host,
            epoch,
            fork_offset: Offset(900),
            client_bytes: 100,
        }),
        position: None,
        priority: 90,
        vip: false,
        paused: false,
        wants_switchover: Some(1),
        seen: 41,
        seen_incarnation: 7,
        server_address: "10.0.0.2:6379".to_owned(),
    };
    let good = statement.encode();
    let newer =
        String::from_utf8(good.clone())
            .unwrap()
            .replacen("\"format\":1", "\"format\":2", 1);
    let frame = [
        b"*4\r\n$6\r\nTANDEM\r\n$5\r\nSTATE\r\n$9\r\n".as_slice(),
        &good[..9],
        b"\r\n$0\r\n\r\n",
    ]
    .concat();
    vec![
        ("good-replica", good),
        ("format-newer", newer.into_bytes()),
        ("frame-in-resp", frame),
        ("empty", Vec::new()),
        ("not-json", b"PING".to_vec()),
    ]
}

fn bless(name: &str, files: Vec<(&'static str, Vec<u8>)>) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/corpus")
        .join(name);
    for (file, bytes) in files {
        let path = dir.join(file);
        if std::env::var_os("TANDEM_BLESS").is_some() {
            fs::write(&path, bytes).unwrap();
        } else {
            // A change of format without a change of its number would strand every journal in the field.
            assert_eq!(
                fs::read(&path).unwrap(),
                bytes,
                "{} is not what is written now",
                path.display()
            );
        }
    }
}

/// Every file as it is, cut at every length, and with every bit of its first bytes flipped.
fn damaged(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut out: Vec<Vec<u8>> = (0..bytes.len()).map(|at| bytes[..at].to_vec()).collect();
    for at in 0..bytes.len().min(160) {
        for bit in 0..8 {
            let mut flipped = bytes.to_vec();
            flipped[at] ^= 1 << bit;
            out.push(flipped);
        }
    }
    out
}

#[test]
fn journals() {
    bless("journal", journal_files());
    let host = HostId::new("a");
    let mut good = 0;
    for (name, bytes) in corpus("journal") {
        let whole = Journal::decode(&bytes, &host, "orders");
        assert_eq!(whole.is_ok(), name.starts_with("good"), "{name}: {whole:?}");
        if let Ok(journal) = whole {
            good += 1;
            assert_eq!(
                Journal::decode(&journal.encode(), &host, "orders"),
                Ok(journal)
            );
        }
        if name.starts_with("foreign") {
            let error = Journal::decode(&bytes, &host, "orders");
            assert!(
                matches!(error, Err(JournalError::Foreign { .. })),
                "{name}: {error:?}"
            );
        }
        for variant in damaged(&bytes) {
            let result = Journal::decode(&variant, &host, "orders");
            // The last byte is a line feed that may be missing; anything else counts.
            assert!(
                result.is_err() || variant.len() + 1 == bytes.len(),
                "{name}"
            );
        }
    }
    assert!(good > 0);
}

#[test]
fn statements() {
    bless("statement", statement_files());
    let mut good = 0;
    for (name, bytes) in corpus("statement") {
        let whole = Statement::decode(&bytes);
        assert_eq!(whole.is_ok(), name.starts_with("good"), "{name}: {whole:?}");
        if let Ok(statement) = whole {
            good += 1;
            assert_eq!(Statement::decode(&statement.encode()), Ok(statement));
        }
        if name.starts_with("format") {
            let error = Statement::decode(&bytes);
            assert!(
                matches!(error, Err(StatementError::Format(_))),
                "{name}: {error:?}"
            );
        }
        for variant in damaged(&bytes) {
            // Damage inside a string is for the session's authentication to find; here it must not panic.
            let _ = Statement::decode(&variant);
        }
    }
    assert!(good > 0);
}

#[test]
fn hellos() {
    let mut good = 0;
    for (name, bytes) in corpus("hello") {
        let whole = Hello::parse(&bytes);
        let expected = match name.split('-').next().unwrap() {
            "good" => None,
            // Too many words are as wrong as too few.
            "words" | "commas" => Some(HelloError::Words),
            "port" => Some(HelloError::Port),
            "id" => Some(HelloError::Id),
            "epoch" => Some(HelloError::Epoch),
            "empty" => Some(HelloError::Empty),
            "text" => Some(HelloError::Text),
            other => panic!("{other} is no kind of file"),
        };
        assert_eq!(whole.as_ref().err().copied(), expected, "{name}");
        if let Ok(hello) = whole {
            good += 1;
            assert_eq!(hello.format().as_bytes(), bytes, "{name}");
        }
        for variant in damaged(&bytes) {
            // What is still a hello says the same when it is passed on.
            if let Ok(hello) = Hello::parse(&variant) {
                assert_eq!(Hello::parse(hello.format().as_bytes()), Ok(hello), "{name}");
            }
        }
    }
    assert!(good > 0);
}

#[test]
fn infos() {
    let mut roles = 0;
    for (name, bytes) in corpus("info") {
        let info = ServerInfo::parse(&String::from_utf8_lossy(&bytes));
        let role = match name.split('-').next().unwrap() {
            "primary" | "lines" | "no" => Some(Role::Primary),
            "replica" | "numbers" => Some(Role::Replica),
            _ => None,
        };
        assert_eq!(info.role, role, "{name}");
        roles += usize::from(role.is_some());
        match name.as_str() {
            "primary-redis-7.0" => assert_eq!(info.replicas.len(), 2),
            // Half a replica is none; the one that is whole has odd values, which are for others to judge.
            "lines-of-replicas-broken" => {
                let names: Vec<&str> = info.replicas.iter().map(|of| of.ip.as_str()).collect();
                assert_eq!(names, ["::1"]);
            }
            "numbers-out-of-range" => assert_eq!(info.master_repl_offset, None),
            _ => {}
        }
        for variant in damaged(&bytes) {
            let text = String::from_utf8_lossy(&variant);
            assert!(ServerInfo::parse(&text).replicas.len() <= 3, "{name}");
        }
    }
    assert!(roles > 0);
}

/// Every request of every file has one answer, and each answer is one frame in both protocols; cut or damaged, too.
#[test]
fn sentinel_commands() {
    for (name, bytes) in corpus("sentinel_command") {
        let whole = session::answers(&bytes);
        // The number of answers stands before the first dash.
        let expected = name.split('-').next().unwrap().parse::<usize>().unwrap();
        assert_eq!(whole.len(), expected, "{name}");
        for answer in &whole {
            for protocol in [Protocol::Resp2, Protocol::Resp3] {
                let mut wire = Vec::new();
                answer.encode(protocol, &mut wire);
                let mut decoder = ReplyDecoder::new(Limits::control());
                decoder.feed(&wire);
                assert!(matches!(decoder.next_value(), Ok(Some(_))), "{name}");
                assert!(matches!(decoder.next_value(), Ok(None)), "{name}");
            }
        }
        for variant in damaged(&bytes) {
            session::answers(&variant);
        }
    }
}
