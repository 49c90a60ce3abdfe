//! A replay against a real server: what is missing arrives in order, what exists is untouched.

use tandem_resp::{Value, encode_command};

use super::commands::TailFile;
use super::plan::{Plan, plan};
use super::replay::{Outcome, ReplayError, replay};
use crate::redis::client::Link;
use crate::redis::tests::server::{Server, ok, run, soon};

struct Tail {
    _dir: tempfile::TempDir,
    file: std::fs::File,
    plan: Plan,
}

fn tail(lines: &[&str]) -> Tail {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tail.resp");
    let mut bytes = Vec::new();
    for line in lines {
        let args: Vec<&str> = line.split(' ').collect();
        encode_command(&args, &mut bytes);
    }
    std::fs::write(&path, &bytes).unwrap();
    let open = || TailFile::open(&path, None).unwrap();
    let plan = plan(open(), open()).unwrap();
    Tail {
        file: std::fs::File::open(&path).unwrap(),
        plan,
        _dir: dir,
    }
}

async fn list(link: &Link, key: &str) -> Vec<String> {
    let value = link
        .call(&["LRANGE", key, "0", "-1"], soon())
        .await
        .unwrap();
    let items = value.as_array().unwrap().iter();
    items
        .map(|item| item.as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn what_is_missing_arrives_in_order_and_what_exists_stays() {
    let server = Server::start(&[]).await;
    let link = server.link().await;
    ok(&link, "SET present theirs").await;
    let tail = tail(&[
        "SELECT 0",
        "RPUSH l 1",
        "SET present ours",
        "RPUSH l 2",
        "MULTI",
        "SET t1 x",
        "INCR t2",
        "EXEC",
        "MULTI",
        "SET half x",
        "SET present ours",
        "EXEC",
        "SELECT 2",
        "SET two 2",
        "PUBLISH c x",
        "RPUSH two x",
    ]);
    let (dry, error) = replay(&server.target(), &tail.file, &tail.plan, true)
        .await
        .unwrap();
    assert!(error.is_none());
    assert_eq!((dry.sent, dry.present), ((4, 6), (2, 3)));
    assert_eq!(run(&link, "DBSIZE").await, Value::Integer(1));

    let (outcome, error) = replay(&server.target(), &tail.file, &tail.plan, false)
        .await
        .unwrap();
    assert!(error.is_none(), "{error:?}");
    assert_eq!(outcome.sent, (4, 6));
    assert_eq!(outcome.present, (2, 3));
    assert_eq!(outcome.present_named, [(0, b"present".to_vec())]);
    // A string takes no RPUSH: the same error that the client once got.
    assert_eq!(outcome.errors.0, 1);
    assert!(outcome.errors.1.unwrap().starts_with("WRONGTYPE"));
    assert_eq!(tail.plan.left.without_key, 1);

    assert_eq!(list(&link, "l").await, ["1", "2"]);
    assert_eq!(run(&link, "GET present").await.as_str(), Some("theirs"));
    assert_eq!(run(&link, "EXISTS half").await, Value::Integer(0));
    assert_eq!(run(&link, "GET t2").await.as_str(), Some("1"));
    ok(&link, "SELECT 2").await;
    assert_eq!(run(&link, "GET two").await.as_str(), Some("2"));

    // Again: everything exists now, so nothing changes.
    let (again, _) = replay(&server.target(), &tail.file, &tail.plan, false)
        .await
        .unwrap();
    let nothing = Outcome::default();
    assert_eq!(again.sent, nothing.sent);
    assert_eq!(again.present, (6, 9));
    ok(&link, "SELECT 0").await;
    assert_eq!(list(&link, "l").await, ["1", "2"]);
}

#[tokio::test]
async fn a_long_bundle_fits_into_one_transaction() {
    let server = Server::start(&[]).await;
    let link = server.link().await;
    let lines: Vec<String> = std::iter::once("SELECT 0".to_owned())
        .chain((0..20_000).map(|n| format!("RPUSH long {n}")))
        .collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let tail = tail(&lines);
    let (outcome, error) = replay(&server.target(), &tail.file, &tail.plan, false)
        .await
        .unwrap();
    assert!(error.is_none(), "{error:?}");
    assert_eq!(outcome.sent, (1, 20_000));
    assert_eq!(
        run(&link, "LINDEX long 19999").await.as_str(),
        Some("19999")
    );
}

#[tokio::test]
async fn a_replica_is_no_place_to_replay_to() {
    let server = Server::start(&[("replicaof", "127.0.0.1 1")]).await;
    let tail = tail(&["SELECT 0", "SET a 1"]);
    let refused = replay(&server.target(), &tail.file, &tail.plan, false).await;
    assert!(matches!(refused, Err(ReplayError::NotPrimary(role)) if role == "replica"));
}
