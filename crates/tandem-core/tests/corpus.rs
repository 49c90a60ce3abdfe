//! The fuzzers' corpora, replayed: bytes of strangers and of damaged disks are refused by name and never panic.

use std::fs;
use std::path::Path;

use tandem_core::ids::HostId;
use tandem_core::journal::{Journal, JournalError};
use tandem_core::statement::{Statement, StatementError};

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
