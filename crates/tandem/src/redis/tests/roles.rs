//! Changing roles: promote, fence, attach, the remote fence, and the settings that void them.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use tandem_core::answer::AnswerClass;
use tandem_core::ids::ReplId;
use tandem_core::info::{Role, Version};
use tandem_resp::Value;

use super::super::client::Link;
use super::super::error::LinkError;
use super::super::fence::{RemoteFenceError, remote_fence};
use super::super::ops::{self, OpError};
use super::super::raw::Credentials;
use super::server::{Pair, Server, ok, run, soon, stat, until};

async fn write_class(link: &Link) -> AnswerClass {
    match run(link, "SET probe 1").await {
        Value::Error(text) => AnswerClass::of_error(&text),
        _ => AnswerClass::Fine,
    }
}

#[tokio::test]
async fn a_fence_is_read_only_at_once_and_keeps_lineage_data_and_replicas() {
    let pair = Pair::start().await;
    ok(&pair.to_a, "SET k v").await;
    pair.settle().await;
    let before = ops::info(&pair.to_a, soon()).await.unwrap();
    let fenced = ops::fence(&pair.to_a, soon()).await.unwrap();
    assert!(ops::is_fenced(&fenced));
    assert_eq!(fenced.master_replid, before.master_replid);
    assert_eq!(write_class(&pair.to_a).await, AnswerClass::ReadOnly);
    assert_eq!(run(&pair.to_a, "GET k").await, Value::Bulk(b"v".to_vec()));
    let replica = ops::info(&pair.to_b, soon()).await.unwrap();
    // Redis 6.2 throws its replicas out when it becomes one; later servers keep them.
    let kept = before.redis_version >= Version::parse("7.0");
    assert!(replica.master_link_up == Some(true) || !kept);

    // The switchover's second half: the other becomes primary, and the fenced one follows it without a full sync.
    let promoted = ops::promote(&pair.to_b, soon()).await.unwrap();
    assert_eq!(promoted.role, Some(Role::Primary));
    assert_eq!(promoted.master_replid2, before.master_replid);
    ok(&pair.to_b, "SET after promotion").await;
    let full = stat(&pair.to_b, "sync_full").await;
    ops::attach(&pair.to_a, "127.0.0.1", pair.b.port, None, soon())
        .await
        .unwrap();
    until(&pair.to_a, "in step", |info| {
        info.master_link_up == Some(true) && info.master_replid == promoted.master_replid
    })
    .await;
    assert_eq!(stat(&pair.to_b, "sync_full").await, full);
    assert_eq!(stat(&pair.to_b, "sync_partial_ok").await, 1);
}

#[tokio::test]
async fn attach_gives_the_password_first() {
    let credentials = Credentials {
        user: None,
        password: b"s3cret".to_vec(),
    };
    let dir = || tempfile::tempdir().unwrap();
    let settings = [("requirepass", "s3cret")];
    let a = Server::start_in(dir(), &settings, Some(credentials.clone())).await;
    let b = Server::start_in(dir(), &settings, Some(credentials.clone())).await;
    let link = b.link().await;
    ops::attach(&link, "127.0.0.1", a.port, Some(&credentials), soon())
        .await
        .unwrap();
    until(&link, "in step", |info| info.master_link_up == Some(true)).await;
}

#[tokio::test]
async fn a_pause_stops_the_offset_and_ends_on_demand() {
    let server = Server::start(&[]).await;
    let (link, writer) = (server.link().await, server.link().await);
    ops::pause_writes(&link, Duration::from_secs(60), soon())
        .await
        .unwrap();
    let waiting = tokio::spawn(async move { writer.call(&["SET", "k", "v"], soon()).await });
    // The write is held back: reads go on, and it has not run.
    until(&link, "a writer", |info| info.connected_clients >= 2).await;
    assert_eq!(run(&link, "GET k").await, Value::Null);
    assert!(!waiting.is_finished());
    ops::unpause(&link, soon()).await.unwrap();
    assert!(waiting.await.unwrap().unwrap().is_ok());
}

#[tokio::test]
async fn an_offset_that_is_not_reached_says_how_far_it_came() {
    let server = Server::start(&[]).await;
    let link = server.link().await;
    let reached = ops::read_offsets(&link, soon()).await.unwrap().offset;
    let passed = Instant::now() + Duration::from_millis(30);
    let error = ops::wait_equal_offset(&link, reached + 1, passed).await;
    assert_eq!(
        error,
        Err(OpError::NotReached {
            wanted: reached + 1,
            reached
        })
    );
}

#[tokio::test]
async fn a_remote_fence_loses_nothing_and_throws_clients_out() {
    let pair = Pair::start().await;
    let client = pair.a.link().await;
    let writer = tokio::spawn({
        let client = client.clone();
        async move {
            let mut acknowledged = 0_i64;
            while let Ok(Value::Integer(n)) = client.call(&["INCR", "n"], soon()).await {
                acknowledged = n;
            }
            acknowledged
        }
    });
    until(&pair.to_a, "some writes", |info| info.keys == 1).await;
    let lineage = lineage(&pair.to_b).await;
    let offset = remote_fence(&pair.a.target(), &pair.to_b, &lineage, soon())
        .await
        .unwrap();
    assert_eq!(client.closed().await, LinkError::Closed { sent: true });
    let acknowledged = writer.await.unwrap();
    let promoted = ops::promote(&pair.to_b, soon()).await.unwrap();
    assert_eq!(promoted.second_repl_offset, Some(offset + 1));
    let kept = run(&pair.to_b, "GET n").await.as_integer().unwrap();
    assert_eq!(
        kept,
        run(&pair.a.link().await, "GET n")
            .await
            .as_integer()
            .unwrap()
    );
    assert!(
        kept >= acknowledged && acknowledged > 0,
        "{kept} {acknowledged}"
    );
}

#[tokio::test]
async fn a_remote_fence_that_cannot_be_finished_leaves_the_server_as_it_was() {
    let pair = Pair::start().await;
    let stranger = Server::start(&[]).await;
    let to_stranger = stranger.link().await;
    // It is no replica and stands at offset 0: it never reaches the other's.
    ok(&pair.to_a, "SET k v").await;
    let deadline = Instant::now() + Duration::from_millis(400);
    let shared = lineage(&pair.to_a).await;
    let error = remote_fence(&pair.a.target(), &to_stranger, &shared, deadline)
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            RemoteFenceError::Before {
                step: "equal offset",
                ..
            }
        ),
        "{error}"
    );
    ok(&pair.to_a, "SET still writable").await;
    // And a server that is no primary is not ours to fence.
    let error = remote_fence(&pair.b.target(), &pair.to_a, &shared, soon())
        .await
        .unwrap_err();
    assert_eq!(error, RemoteFenceError::Unrelated("it is no primary"));
    // One that restarted without its data: a replica that waited for it would lose its own.
    let own = lineage(&to_stranger).await;
    let error = remote_fence(&pair.a.target(), &to_stranger, &own, soon())
        .await
        .unwrap_err();
    let unrelated = matches!(error, RemoteFenceError::Unrelated(why) if why.contains("restarted"));
    assert!(unrelated, "{error}");
    ok(&pair.to_a, "SET again writable").await;
}

async fn lineage(link: &Link) -> ReplId {
    let info = ops::info(link, soon()).await.unwrap();
    ReplId(info.master_replid.expect("INFO names it"))
}

#[tokio::test]
async fn on_a_thaw_a_queued_write_runs_before_a_queued_fence() {
    let server = Server::start(&[]).await;
    let (writer, keeper) = (server.link().await, server.link().await);
    server.signal(Signal::STOP);
    let passed = || Instant::now() + Duration::from_millis(30);
    let write = writer.call(&["SET", "k", "v"], passed()).await;
    assert_eq!(write, Err(LinkError::TimedOut { sent: true }));
    let fence = ops::fence(&keeper, passed()).await.unwrap_err();
    assert_eq!(fence, OpError::Link(LinkError::TimedOut { sent: true }));
    server.signal(Signal::CONT);
    let info = until(&keeper, "fenced", ops::is_fenced).await;
    assert_eq!(info.keys, 1, "the write ran although the fence was waiting");
}

#[tokio::test]
async fn a_busy_server_cannot_be_fenced_by_commands() {
    let server = Server::start(&[("lua-time-limit", "50")]).await;
    let (script, keeper) = (server.link().await, server.link().await);
    let endless = "redis.call('set','k','v') while true do end";
    let running = tokio::spawn(async move { script.call(&["EVAL", endless, "0"], soon()).await });
    // Until the limit has passed the server is silent, and then it answers.
    let end = soon();
    while run(&keeper, "PING").await.as_error().is_none() {
        assert!(Instant::now() < end && !running.is_finished());
    }
    let busy = ops::fence(&keeper, end).await.unwrap_err();
    assert!(
        matches!(
            busy,
            OpError::Refused {
                class: AnswerClass::Busy,
                ..
            }
        ),
        "{busy}"
    );
    let Value::Error(text) = run(&keeper, "SCRIPT KILL").await else {
        panic!("a script that wrote was killed");
    };
    assert!(text.starts_with(b"UNKILLABLE"));
    assert_eq!(AnswerClass::of_error(&text), AnswerClass::Busy);
    server.signal(Signal::KILL);
    assert_eq!(
        running.await.unwrap(),
        Err(LinkError::Closed { sent: true })
    );
}

#[tokio::test]
async fn a_writable_replica_voids_the_fence() {
    let server = Server::start(&[("replica-read-only", "no")]).await;
    let link = server.link().await;
    let fence = ops::fence(&link, soon()).await.unwrap_err();
    assert!(matches!(fence, OpError::NotConfirmed(_)));
    assert_eq!(write_class(&link).await, AnswerClass::Fine, "this is why");
}
