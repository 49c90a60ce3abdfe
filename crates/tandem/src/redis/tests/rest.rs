//! Rest: the connection asks by itself, and says what is not a PONG in time.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use tandem_core::server::ServerView;
use tandem_resp::Value;

use super::super::client::Link;
use super::super::ops;
use super::super::rest::{Heard, LinkLook, News, Noticed, Rest};
use super::server::{Pair, Server, ok, soon};

const EVERY: Duration = Duration::from_millis(5);
const NEVER: Duration = Duration::from_secs(3600);

fn rest(heard: &Heard, info_in: Duration) -> Rest {
    let now = Instant::now();
    Rest {
        every: EVERY,
        ping_at: now,
        info_at: now + info_in,
        heard: heard.clone(),
        link: None,
    }
}

/// Rests until there is other news than that an answer took longer than a period, as it may on a busy machine.
async fn news(link: &Link, rest: impl Fn() -> Rest) -> Option<News> {
    loop {
        let news = link.rest(rest()).await?;
        if !matches!(news.what, Noticed::Missing) {
            return Some(news);
        }
    }
}

/// Waits until a PONG is noted that was asked for after this time.
async fn heard_after(heard: &Heard, at: Instant) {
    while heard.take().is_none_or(|heard| heard < at) {
        assert!(Instant::now() < at + Duration::from_secs(20));
        tokio::time::sleep(EVERY).await;
    }
}

#[tokio::test]
async fn it_hears_its_server_reads_info_and_answers_calls_meanwhile() {
    let server = Server::start(&[]).await;
    let link = server.link().await;
    let heard = Heard::default();
    let begun = Instant::now();
    let resting = tokio::spawn({
        let (link, heard) = (link.clone(), heard.clone());
        async move { news(&link, || rest(&heard, NEVER)).await }
    });
    heard_after(&heard, begun).await;
    for n in 0..20 {
        let answer = link.call(&["ECHO", &n.to_string()], soon()).await;
        assert_eq!(answer, Ok(Value::Bulk(n.to_string().into_bytes())));
    }
    heard_after(&heard, Instant::now()).await;
    assert!(!resting.is_finished(), "nothing was news");
    resting.abort();

    let news = news(&link, || rest(&heard, 3 * EVERY)).await.unwrap();
    let Noticed::Info(Value::Bulk(text), asked) = news.what else {
        panic!("{:?}", news.what);
    };
    assert!(text.starts_with(b"# Server"));
    assert!(asked > begun && news.ping_at > asked);
}

#[tokio::test]
async fn a_frozen_server_is_missed_and_its_late_answers_belong_to_nobody() {
    let server = Server::start(&[]).await;
    let link = server.link().await;
    let heard = Heard::default();
    server.signal(Signal::STOP);
    let news = link.rest(rest(&heard, NEVER)).await.unwrap();
    assert!(matches!(news.what, Noticed::Missing));
    let call = tokio::spawn({
        let link = link.clone();
        async move { link.call(&["ECHO", "thawed"], soon()).await }
    });
    server.signal(Signal::CONT);
    let answer = call.await.unwrap();
    assert_eq!(answer, Ok(Value::Bulk(b"thawed".to_vec())));
    assert_eq!(heard.take(), None, "what came late came after the rest");
}

#[tokio::test]
async fn a_refusal_is_news_and_an_end_ends_it() {
    let server = Server::start(&[]).await;
    let link = server.link().await;
    let heard = Heard::default();
    // PING and nothing else goes wrong from here on.
    ok(&link, "ACL SETUSER default -ping").await;
    let odd = news(&link, || rest(&heard, NEVER)).await.unwrap();
    let Noticed::Odd(Value::Error(text), _) = odd.what else {
        panic!("{:?}", odd.what);
    };
    assert!(text.starts_with(b"NOPERM"));
    ok(&link, "ACL SETUSER default +ping").await;
    let begun = Instant::now();
    let resting = tokio::spawn({
        let (link, heard) = (link.clone(), heard.clone());
        async move { news(&link, || rest(&heard, NEVER)).await }
    });
    heard_after(&heard, begun).await;
    server.signal(Signal::KILL);
    assert!(resting.await.unwrap().is_none());
    assert!(link.is_closed());
}

#[tokio::test]
async fn a_replica_rests_while_its_link_is_up_and_says_when_it_is_not() {
    let pair = Pair::start().await;
    let heard = Heard::default();
    let view = ServerView::from_info(&ops::info(&pair.to_b, soon()).await.unwrap()).unwrap();
    let resting = tokio::spawn({
        let look = LinkLook::new(&view.role, EVERY, Instant::now());
        assert!(look.is_some(), "{:?}", view.role);
        let (link, heard) = (pair.to_b.clone(), heard.clone());
        let with_look = move || Rest {
            link: look.clone(),
            ..rest(&heard, NEVER)
        };
        async move { news(&link, with_look).await }
    });
    for _ in 0..10 {
        // What it has read of the stream changes the answer to ROLE, and is no news.
        ok(&pair.to_a, "SET k v").await;
        heard_after(&heard, Instant::now()).await;
    }
    assert!(!resting.is_finished());
    pair.a.signal(Signal::KILL);
    let news = resting.await.unwrap().unwrap();
    assert!(matches!(news.what, Noticed::Link), "{:?}", news.what);
}
