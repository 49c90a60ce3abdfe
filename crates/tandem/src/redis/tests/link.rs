//! The connection: order of answers, deadlines, death, and being refused.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use tandem_core::answer::AnswerClass;
use tandem_resp::{Command, Value};

use super::super::client::Link;
use super::super::error::LinkError;
use super::super::ops;
use super::super::raw::{Credentials, Target};
use super::server::{Server, ok, run, soon};

fn text(value: &str) -> Value {
    Value::Bulk(value.as_bytes().to_vec())
}

#[tokio::test]
async fn answers_come_in_the_order_of_the_commands() {
    let server = Server::start(&[]).await;
    let link = server.link().await;
    let commands: Vec<Command> = (0..300).map(|n| Command::new("ECHO").number(n)).collect();
    let answers = link.pipeline(&commands, soon()).await.unwrap();
    let expected: Vec<Value> = (0..300).map(|n| text(&n.to_string())).collect();
    assert_eq!(answers, expected);
    assert_eq!(link.pipeline(&[], soon()).await, Ok(Vec::new()));
}

#[tokio::test]
async fn calls_of_several_tasks_do_not_mix() {
    let server = Server::start(&[]).await;
    let link = server.link().await;
    let tasks: Vec<_> = (0..200)
        .map(|n| {
            let link = link.clone();
            tokio::spawn(async move { (n, link.call(&["ECHO", &n.to_string()], soon()).await) })
        })
        .collect();
    for task in tasks {
        let (n, value) = task.await.unwrap();
        assert_eq!(value, Ok(text(&n.to_string())));
    }
}

#[tokio::test]
async fn a_large_value_passes() {
    let server = Server::start(&[]).await;
    let link = server.link().await;
    let large = vec![b'x'; 900 * 1024];
    let stored = link
        .call(&[&b"SET"[..], b"k", &large], soon())
        .await
        .unwrap();
    assert!(stored.is_ok());
    assert_eq!(
        link.call(&["GET", "k"], soon()).await,
        Ok(Value::Bulk(large))
    );
}

#[tokio::test]
async fn an_answer_that_comes_too_late_is_not_taken_for_another() {
    let server = Server::start(&[]).await;
    let (link, other) = (server.link().await, server.link().await);
    let passed = Instant::now() + Duration::from_millis(20);
    let late = link.call(&["BLPOP", "list", "0"], passed).await;
    assert_eq!(late, Err(LinkError::TimedOut { sent: true }));
    run(&other, "RPUSH list late").await;
    assert_eq!(run(&link, "ECHO mine").await, text("mine"));
}

#[tokio::test]
async fn a_frozen_server_is_silent_and_its_answers_survive_the_thaw() {
    let server = Server::start(&[]).await;
    let link = server.link().await;
    server.signal(Signal::STOP);
    let passed = Instant::now() + Duration::from_millis(50);
    let silent = link.call(&["PING"], passed).await.unwrap_err();
    assert_eq!(silent, LinkError::TimedOut { sent: true });
    assert!(!silent.is_retry_safe());
    // The kernel accepts for it, so a fresh connection tells no more than the old one.
    assert!(Link::connect(&server.target(), soon()).await.is_ok());
    server.signal(Signal::CONT);
    assert_eq!(run(&link, "ECHO awake").await, text("awake"));
}

#[tokio::test]
async fn death_is_seen_at_once_and_told_apart_from_being_thrown_out() {
    let server = Server::start(&[]).await;
    let (link, other) = (server.link().await, server.link().await);
    assert_eq!(ops::kill_clients(&other, soon()).await, Ok(1));
    assert_eq!(link.closed().await, LinkError::Closed { sent: true });
    assert_eq!(
        link.call(&["PING"], soon()).await,
        Err(LinkError::Closed { sent: false })
    );
    assert!(link.is_closed() && !other.is_closed());
    // Alive: it can be asked again.
    let fresh = server.link().await;
    server.signal(Signal::KILL);
    assert_eq!(fresh.closed().await, LinkError::Closed { sent: true });
    // The kernel closes a dying process's connections one after another, the listening one last: for a moment a
    // fresh connection still succeeds.
    let end = soon();
    let refused = loop {
        match Link::connect(&server.target(), end).await {
            Err(error) => break error,
            Ok(short) => {
                short.closed().await;
            }
        }
    };
    assert_eq!(refused, LinkError::Refused);
    assert!(refused.is_retry_safe());
}

#[tokio::test]
async fn a_foreign_source_address_is_our_own_fault() {
    let mut target = Target::new(([127, 0, 0, 1], 1).into());
    target.source = Some([192, 0, 2, 1].into());
    let error = Link::connect(&target, soon()).await.unwrap_err();
    assert_eq!(
        error,
        LinkError::Local(std::io::ErrorKind::AddrNotAvailable)
    );
}

#[tokio::test]
async fn someone_who_does_not_speak_resp_is_named() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = Target::new(listener.local_addr().unwrap());
    let link = Link::connect(&target, soon()).await.unwrap();
    let (mut stranger, _) = listener.accept().await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stranger, b"HTTP/1.1 400\r\n")
        .await
        .unwrap();
    let error = link.closed().await;
    assert!(matches!(error, LinkError::Protocol(_)), "{error}");
    assert_eq!(link.call(&["PING"], soon()).await, Err(error));
}

#[tokio::test]
async fn refusals_are_answers_of_their_class() {
    let password = |word: &str| {
        Some(Credentials {
            user: None,
            password: word.as_bytes().to_vec(),
        })
    };
    let dir = tempfile::tempdir().unwrap();
    let settings = [
        ("requirepass", "right"),
        ("user", "low on >low +ping +info ~*"),
    ];
    let server = Server::start_in(dir, &settings, password("right")).await;
    let mut target = server.target();
    ok(&server.link().await, "SET k v").await;

    target.credentials = None;
    let stranger = Link::connect(&target, soon()).await.unwrap();
    let refused = ops::info(&stranger, soon()).await.unwrap_err();
    assert!(matches!(
        refused,
        ops::OpError::Refused {
            class: AnswerClass::NoAuth,
            ..
        }
    ));

    target.credentials = password("wrong");
    let wrong = Link::connect(&target, soon()).await.unwrap_err();
    assert_eq!(wrong, LinkError::Auth(AnswerClass::WrongPass));

    target.credentials = Some(Credentials {
        user: Some(b"low".to_vec()),
        password: b"low".to_vec(),
    });
    let low = Link::connect(&target, soon()).await.unwrap();
    let refused = ops::fence(&low, soon()).await.unwrap_err();
    assert!(matches!(
        refused,
        ops::OpError::Refused {
            class: AnswerClass::NoPerm,
            ..
        }
    ));
    assert!(refused.is_retry_safe());
}
