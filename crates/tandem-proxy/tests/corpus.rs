//! The corpora that the fuzz targets start from, replayed.

#![allow(clippy::unwrap_used, reason = "a panic in a test is its report")]

mod replay;

fn replayed(folder: &str, run: fn(&[u8])) {
    let folder = format!("{}/tests/corpus/{folder}", env!("CARGO_MANIFEST_DIR"));
    let mut seen = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        // And every start of it, as a connection may end anywhere.
        for end in 0..=bytes.len() {
            run(&bytes[..end]);
        }
        seen += 1;
    }
    assert!(seen >= 5, "{folder} has {seen} files");
}

#[test]
fn requests() {
    replayed("request", replay::request);
}

#[test]
fn replies() {
    replayed("reply", replay::reply);
}

#[test]
fn clients() {
    replayed("client", replay::client);
}
