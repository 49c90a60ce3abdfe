//! Requests and the replies that a real redis-sentinel 7.0.15 gave to them, word for word.

mod exchanges;

use std::rc::Rc;
use std::time::{Duration, Instant};

use tandem_core::sentinel::Question;
use tandem_resp::{Protocol, Value};
use tokio::sync::Notify;

use exchanges::EXCHANGES;

use super::{Closing, Flow, Hub, Origin};
use crate::sentinel::serve::acl::Users;
use crate::sentinel::serve::outbox::{FULL_BYTES, HARD_BYTES, SOFT_BYTES, SOFT_FOR};
use crate::sentinel::serve::settings::Settings;
use crate::sentinel::serve::subscriptions::ClientId;

struct Desk {
    hub: Hub,
    now: Instant,
}

impl Desk {
    fn new() -> Self {
        let now = Instant::now();
        let identity = Settings::default().identity;
        Self {
            hub: Hub::new(identity, Users::new(false), false, None, 128, now),
            now,
        }
    }

    fn client(&mut self) -> ClientId {
        let origin = Origin {
            remote: format!("10.0.0.9:{}", 40_000 + self.hub.client_count()),
            local: "10.0.0.1:26379".to_owned(),
            fd: 8,
            unix: false,
        };
        self.hub.connect(origin, Rc::new(Notify::new()), self.now)
    }

    fn flow(&mut self, id: ClientId, line: &str) -> Flow {
        let argv: Vec<Vec<u8>> = line
            .split(' ')
            .map(|word| word.as_bytes().to_vec())
            .collect();
        self.hub.execute(id, &argv, self.now)
    }

    /// What the client gets to read.
    fn read(&mut self, id: ClientId) -> String {
        let client = self.hub.client_mut(id).unwrap();
        let bytes = client.outbox().take();
        client.outbox().written(bytes.len());
        String::from_utf8(bytes).unwrap()
    }

    fn ask(&mut self, id: ClientId, line: &str) -> String {
        let flow = self.flow(id, line);
        assert!(matches!(flow, Flow::Done), "{line}: {flow:?}");
        self.read(id)
    }
}

fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

#[test]
fn replies_are_those_of_the_real_one() {
    let mut desk = Desk::new();
    let id = desk.client();
    for (request, reply) in EXCHANGES {
        assert_eq!(desk.ask(id, request), *reply, "{request}");
    }
}

#[test]
fn what_the_real_one_does_not_know_and_clients_send() {
    let mut desk = Desk::new();
    let id = desk.client();
    for (request, reply) in [
        ("echo x", "$1\r\nx\r\n"),
        ("select 0", "+OK\r\n"),
        ("select 1", "-ERR DB index is out of range\r\n"),
        ("client setinfo lib-name redis-py", "+OK\r\n"),
        (
            "client setinfo lib-foo x",
            "-ERR Unrecognized option 'lib-foo'\r\n",
        ),
        ("client no-touch on", "+OK\r\n"),
        ("command info echo", "*1\r\n$-1\r\n"),
        ("subscribe a", "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n"),
        ("reset", "+RESET\r\n"),
        ("ping", "+PONG\r\n"),
        ("quit", "+OK\r\n"),
    ] {
        assert_eq!(desk.ask(id, request), reply, "{request}");
    }
    let closing = desk.hub.client_mut(id).unwrap().closing();
    assert_eq!(closing, Closing::AfterReplies);
}

#[test]
fn words_of_strangers_neither_forge_replies_nor_grow() {
    let mut desk = Desk::new();
    let id = desk.client();
    assert_eq!(
        desk.ask(id, "foo\r\nbar a\r\nb"),
        "-ERR unknown command 'foo  bar', with args beginning with: 'a  b' \r\n"
    );
    assert_eq!(
        desk.ask(id, "f\0oo a\0b"),
        "-ERR unknown command 'f', with args beginning with: 'a' \r\n"
    );
    let (x, y) = ("x".repeat(200), "y".repeat(200));
    assert_eq!(
        desk.ask(id, &format!("{x} {y} z")),
        format!(
            "-ERR unknown command '{}', with args beginning with: '{}' \r\n",
            &x[..128],
            &y[..128]
        )
    );
}

#[test]
fn resp3_shapes() {
    let mut desk = Desk::new();
    let id = desk.client();
    assert_eq!(
        desk.ask(id, "hello 3"),
        "%6\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n$5\r\nproto\r\n:3\r\n$2\r\nid\r\n:1\r\n\
         $4\r\nmode\r\n$8\r\nsentinel\r\n$7\r\nmodules\r\n*0\r\n"
    );
    for (request, reply) in [
        ("client getname", "_\r\n"),
        ("acl getuser foo", "_\r\n"),
        (
            "client trackinginfo",
            "%3\r\n$5\r\nflags\r\n~1\r\n$3\r\noff\r\n$8\r\nredirect\r\n:-1\r\n$8\r\nprefixes\r\n*0\r\n",
        ),
        (
            "command info ping",
            "*1\r\n*10\r\n$4\r\nping\r\n:-1\r\n~1\r\n+fast\r\n:0\r\n:0\r\n:0\r\n~2\r\n+@fast\r\n+@connection\r\n~2\r\n\
             $25\r\nrequest_policy:all_shards\r\n$29\r\nresponse_policy:all_succeeded\r\n~0\r\n~0\r\n",
        ),
        (
            "subscribe a b",
            ">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n>3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n",
        ),
        // In RESP3 a subscriber may say anything.
        ("ping", "+PONG\r\n"),
        (
            "unsubscribe",
            ">3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:1\r\n>3\r\n$11\r\nunsubscribe\r\n$1\r\nb\r\n:0\r\n",
        ),
        ("unsubscribe", ">3\r\n$11\r\nunsubscribe\r\n_\r\n:0\r\n"),
    ] {
        assert_eq!(desk.ask(id, request), reply, "{request}");
    }
    let info = desk.ask(id, "client info");
    assert!(info.contains("txt:id=1 addr=10.0.0.9:40000 laddr=10.0.0.1:26379 fd=8 name= age=0 "));
    assert!(
        info.ends_with("cmd=client|info user=default redir=-1 resp=3\n\r\n"),
        "{info}"
    );
}

#[test]
fn questions_for_the_sentinel() {
    let mut desk = Desk::new();
    let id = desk.client();
    let Flow::Ask { question, shape } = desk.flow(id, "SENTINEL get-master-addr-by-name x") else {
        panic!("not asked");
    };
    let words = [b"get-master-addr-by-name".to_vec(), b"x".to_vec()];
    assert_eq!(question, Question::Sentinel(words.to_vec()));
    desk.hub.answer(id, shape.clone(), Value::Null);
    assert_eq!(desk.read(id), "*-1\r\n");
    desk.ask(id, "hello 3");
    desk.hub.answer(id, shape, Value::Null);
    assert_eq!(desk.read(id), "_\r\n");

    let Flow::Ask { question, .. } = desk.flow(id, "role") else {
        panic!("not asked");
    };
    assert_eq!(question, Question::Role);

    let Flow::Ask { question, shape } = desk.flow(id, "info cpu keyspace SENTINEL") else {
        panic!("not asked");
    };
    assert_eq!(question, Question::InfoSection);
    let section = Value::Bulk(b"# Sentinel\r\nsentinel_masters:0\r\n".to_vec());
    desk.hub.answer(id, shape, section);
    let text = desk.read(id);
    assert!(text.contains("\r\n# CPU\r\nused_cpu_sys:"), "{text}");
    assert!(
        text.ends_with("\r\n\r\n# Sentinel\r\nsentinel_masters:0\r\n\r\n"),
        "{text}"
    );

    assert_eq!(desk.ask(id, "info keyspace"), "$0\r\n\r\n");
    let server = desk.ask(id, "info server");
    for line in [
        "redis_version:7.0.15",
        "redis_mode:sentinel",
        "tcp_port:26379",
    ] {
        assert!(
            server.contains(&format!("\r\n{line}\r\n")),
            "{line} in {server}"
        );
    }
}

#[test]
fn a_password_keeps_strangers_out() {
    let mut desk = Desk::new();
    let early = desk.client();
    desk.ask(early, "acl setuser default resetpass >s3cret");
    let late = desk.client();
    // Who was in before stays in.
    assert_eq!(desk.ask(early, "ping"), "+PONG\r\n");
    for (request, reply) in [
        ("ping", "-NOAUTH Authentication required.\r\n"),
        (
            "foo",
            "-ERR unknown command 'foo', with args beginning with: \r\n",
        ),
        (
            "hello 3",
            "-NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> \
             <pass> option can be used to authenticate the client and select the RESP protocol version at the same \
             time\r\n",
        ),
        (
            "hello 3 auth default bad",
            "-WRONGPASS invalid username-password pair or user is disabled.\r\n",
        ),
        ("acl whoami", "-NOAUTH Authentication required.\r\n"),
        ("auth s3cret", "+OK\r\n"),
        ("acl whoami", "$7\r\ndefault\r\n"),
        ("reset", "+RESET\r\n"),
        ("acl whoami", "-NOAUTH Authentication required.\r\n"),
    ] {
        assert_eq!(desk.ask(late, request), reply, "{request}");
    }
    assert!(desk.hub.limits(late).max_bulk < desk.hub.limits(early).max_bulk);
    let list = desk.ask(early, "acl list");
    let hash = "#1ec1c26b50d5d3c58d9583181af8076655fe00756bf7285940ba3670f99fcba0";
    assert_eq!(
        list,
        format!("*1\r\n$93\r\nuser default on {hash} ~* &* +@all\r\n")
    );
    let log = desk.ask(early, "acl log");
    assert!(
        log.starts_with("*1\r\n*14\r\n$5\r\ncount\r\n:1\r\n$6\r\nreason\r\n$4\r\nauth\r\n"),
        "{log}"
    );
}

#[test]
fn subscribers_lose_what_their_user_loses() {
    let mut desk = Desk::new();
    let (admin, listener) = (desk.client(), desk.client());
    desk.ask(admin, "acl setuser u on nopass +@all &a &b");
    desk.ask(listener, "auth u x");
    desk.ask(listener, "subscribe a");
    desk.ask(admin, "acl setuser u &c");
    assert_eq!(
        desk.hub.client_mut(listener).unwrap().closing(),
        Closing::No
    );
    desk.ask(admin, "acl setuser u resetchannels &b");
    assert_eq!(
        desk.hub.client_mut(listener).unwrap().closing(),
        Closing::Now
    );

    let other = desk.client();
    desk.ask(other, "auth u x");
    assert_eq!(desk.ask(other, "acl deluser u"), ":1\r\n");
    assert_eq!(
        desk.hub.client_mut(other).unwrap().closing(),
        Closing::AfterReplies
    );
}

#[test]
fn messages_reach_those_who_listen() {
    let mut desk = Desk::new();
    let (plain, pattern, silent) = (desk.client(), desk.client(), desk.client());
    desk.ask(plain, "subscribe +sdown");
    desk.ask(pattern, "hello 3");
    desk.ask(pattern, "psubscribe [-+]sdown");
    // Even a client without replies gets the messages that it asked for.
    desk.ask(silent, "client reply off");
    assert_eq!(desk.ask(silent, "subscribe +sdown"), "");
    desk.hub
        .publish(b"+sdown", b"master m 10.0.0.1 6379", desk.now);
    let message = format!(
        "*3\r\n$7\r\nmessage\r\n$6\r\n+sdown\r\n{}",
        bulk("master m 10.0.0.1 6379")
    );
    assert_eq!(desk.read(plain), message);
    assert_eq!(desk.read(silent), message);
    assert_eq!(
        desk.read(pattern),
        format!(
            ">4\r\n$8\r\npmessage\r\n$9\r\n[-+]sdown\r\n$6\r\n+sdown\r\n{}",
            bulk("master m 10.0.0.1 6379")
        )
    );
    desk.hub.publish(b"+odown", b"", desk.now);
    assert_eq!(desk.read(plain), "");
}

#[test]
fn a_subscriber_that_does_not_read_is_disconnected() {
    let mut desk = Desk::new();
    let (sleeper, reader) = (desk.client(), desk.client());
    for id in [sleeper, reader] {
        desk.ask(id, "subscribe e");
    }
    let message = vec![b'x'; 1024 * 1024];
    let mut sent = 0;
    while desk.hub.client_mut(sleeper).unwrap().closing() == Closing::No {
        desk.hub.publish(b"e", &message, desk.now);
        desk.read(reader);
        sent += message.len();
        assert!(sent <= HARD_BYTES + message.len(), "never disconnected");
    }
    assert!(sent >= HARD_BYTES);
    assert_eq!(desk.hub.client_mut(reader).unwrap().closing(), Closing::No);

    let slow = desk.client();
    desk.ask(slow, "subscribe e");
    for _ in 0..=SOFT_BYTES / message.len() {
        desk.hub.publish(b"e", &message, desk.now);
    }
    desk.now += SOFT_FOR + Duration::from_secs(1);
    assert_eq!(desk.hub.client_mut(slow).unwrap().closing(), Closing::No);
    desk.hub.publish(b"e", b"", desk.now);
    assert_eq!(desk.hub.client_mut(slow).unwrap().closing(), Closing::Now);
    assert!(desk.hub.client_mut(slow).unwrap().outbox().waiting() > FULL_BYTES);
}

#[test]
fn reply_modes() {
    let mut desk = Desk::new();
    let id = desk.client();
    for (request, reply) in [
        ("client reply skip", ""),
        ("ping", ""),
        ("ping z", "$1\r\nz\r\n"),
        ("client reply off", ""),
        ("ping", ""),
        ("client reply skip", ""),
        ("ping", ""),
        ("client reply on", "+OK\r\n"),
        ("ping", "+PONG\r\n"),
    ] {
        assert_eq!(desk.ask(id, request), reply, "{request}");
    }
}

#[test]
fn a_pause_holds_commands_until_its_end() {
    let mut desk = Desk::new();
    let id = desk.client();
    assert_eq!(desk.ask(id, "client pause 500 write"), "+OK\r\n");
    assert_eq!(desk.ask(id, "ping"), "+PONG\r\n");
    assert_eq!(desk.ask(id, "client pause 100 all"), "+OK\r\n");
    // Stricter by the second, and as long as the first.
    let flow = desk.flow(id, "ping");
    assert!(matches!(flow, Flow::Later(until) if until == desk.now + Duration::from_millis(500)));
    desk.now += Duration::from_millis(500);
    assert_eq!(desk.ask(id, "ping"), "+PONG\r\n");
}

#[test]
fn http_is_shown_the_door() {
    let mut desk = Desk::new();
    for line in ["POST / HTTP/1.1", "Host: example"] {
        let id = desk.client();
        assert_eq!(desk.ask(id, line), "");
        assert_eq!(desk.hub.client_mut(id).unwrap().closing(), Closing::Now);
    }
}

#[test]
fn shutdown_is_told_and_its_words_are_checked() {
    let mut desk = Desk::new();
    let id = desk.client();
    for (request, reply) in [
        ("shutdown foo", "-ERR syntax error\r\n"),
        ("shutdown save nosave", "-ERR syntax error\r\n"),
        ("shutdown abort", "-ERR No shutdown in progress.\r\n"),
        ("shutdown nosave now", ""),
    ] {
        assert_eq!(desk.ask(id, request), reply, "{request}");
    }
}

#[test]
fn users_from_a_file_replace_all_or_none() {
    let mut desk = Desk::new();
    let (admin, bob) = (desk.client(), desk.client());
    desk.ask(admin, "acl setuser bob on nopass +ping");
    desk.ask(bob, "auth bob x");
    desk.hub
        .load_users(admin, Ok("user bob on +foo\n".to_owned()));
    let reply = desk.read(admin);
    assert!(
        reply.starts_with("-ERR line 1: +foo: Unknown command"),
        "{reply}"
    );
    assert_eq!(desk.ask(bob, "ping"), "+PONG\r\n");

    // Unchanged, then changed.
    desk.hub
        .load_users(admin, Ok("# ours\n\nuser bob on nopass +ping\n".to_owned()));
    assert_eq!(desk.read(admin), "+OK\r\n");
    assert_eq!(desk.hub.client_mut(bob).unwrap().closing(), Closing::No);
    desk.hub
        .load_users(admin, Ok("user bob on nopass +role\n".to_owned()));
    assert_eq!(desk.hub.client_mut(bob).unwrap().closing(), Closing::Now);
    assert_eq!(desk.hub.protocol(admin), Protocol::Resp2);
}
