//! Requests and the replies that a real redis-sentinel 7.0.15 gave to them, word for word.

use std::rc::Rc;
use std::time::{Duration, Instant};

use tandem_core::sentinel::Question;
use tandem_resp::{Protocol, Value};
use tokio::sync::Notify;

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

/// Each line is a request and its whole reply; all on one connection of the default user, in this order.
const EXCHANGES: &[(&str, &str)] = &[
    ("ping", "+PONG\r\n"),
    ("PING a", "$1\r\na\r\n"),
    (
        "ping a b",
        "-ERR wrong number of arguments for 'ping' command\r\n",
    ),
    (
        "foo",
        "-ERR unknown command 'foo', with args beginning with: \r\n",
    ),
    (
        "foo a b",
        "-ERR unknown command 'foo', with args beginning with: 'a' 'b' \r\n",
    ),
    (
        "sentinel",
        "-ERR wrong number of arguments for 'sentinel' command\r\n",
    ),
    (
        "sentinel foo",
        "-ERR unknown subcommand 'foo'. Try SENTINEL HELP.\r\n",
    ),
    (
        "sentinel master",
        "-ERR wrong number of arguments for 'sentinel|master' command\r\n",
    ),
    (
        "sentinel|masters",
        "-ERR unknown command 'sentinel|masters', with args beginning with: \r\n",
    ),
    (
        "client",
        "-ERR wrong number of arguments for 'client' command\r\n",
    ),
    (
        "client foo x",
        "-ERR unknown subcommand 'foo'. Try CLIENT HELP.\r\n",
    ),
    ("client id", ":1\r\n"),
    ("client list type foo", "-ERR Unknown client type 'foo'\r\n"),
    ("client list id x", "-ERR Invalid client ID\r\n"),
    ("client list id 5000", "$0\r\n\r\n"),
    ("client list foo", "-ERR syntax error\r\n"),
    ("client kill 1:2", "-ERR No such client\r\n"),
    (
        "client kill id 0",
        "-ERR client-id should be greater than 0\r\n",
    ),
    (
        "client kill id x",
        "-ERR client-id should be greater than 0\r\n",
    ),
    ("client kill type foo", "-ERR Unknown client type 'foo'\r\n"),
    ("client kill user foo", "-ERR No such user 'foo'\r\n"),
    ("client kill skipme maybe", "-ERR syntax error\r\n"),
    ("client kill foo bar", "-ERR syntax error\r\n"),
    ("client kill id 99999", ":0\r\n"),
    ("client getname", "$-1\r\n"),
    (
        "client setname a\u{1}",
        "-ERR Client names cannot contain spaces, newlines or special characters.\r\n",
    ),
    ("client setname a", "+OK\r\n"),
    ("client getname", "$1\r\na\r\n"),
    ("client no-evict foo", "-ERR syntax error\r\n"),
    ("client no-evict on", "+OK\r\n"),
    (
        "client pause x",
        "-ERR timeout is not an integer or out of range\r\n",
    ),
    ("client pause -1", "-ERR timeout is negative\r\n"),
    (
        "client pause 1 foo",
        "-ERR CLIENT PAUSE mode must be WRITE or ALL\r\n",
    ),
    (
        "client pause 1 all x",
        "-ERR unknown subcommand or wrong number of arguments for 'pause'. Try CLIENT HELP.\r\n",
    ),
    ("client unpause", "+OK\r\n"),
    (
        "client unblock x",
        "-ERR value is not an integer or out of range\r\n",
    ),
    (
        "client unblock 1 foo",
        "-ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR\r\n",
    ),
    ("client unblock 1", ":0\r\n"),
    ("client reply foo", "-ERR syntax error\r\n"),
    ("client getredir", ":-1\r\n"),
    (
        "client trackinginfo",
        "*6\r\n$5\r\nflags\r\n*1\r\n$3\r\noff\r\n$8\r\nredirect\r\n:-1\r\n$8\r\nprefixes\r\n*0\r\n",
    ),
    (
        "client caching yes",
        "-ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled\r\n",
    ),
    ("client tracking foo", "-ERR syntax error\r\n"),
    (
        "client tracking on prefix a",
        "-ERR PREFIX option requires BCAST mode to be enabled\r\n",
    ),
    (
        "client tracking on bcast optin",
        "-ERR OPTIN and OPTOUT are not compatible with BCAST\r\n",
    ),
    (
        "client tracking on optin optout",
        "-ERR You can't specify both OPTIN mode and OPTOUT mode\r\n",
    ),
    (
        "client tracking on redirect 9999",
        "-ERR The client ID you want redirect to does not exist\r\n",
    ),
    (
        "client tracking on redirect x",
        "-ERR value is not an integer or out of range\r\n",
    ),
    ("client tracking on optin", "+OK\r\n"),
    (
        "client tracking on bcast",
        "-ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling it with a \
         different mode.\r\n",
    ),
    (
        "client tracking on optout",
        "-ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then re-enabling it with a \
         different mode.\r\n",
    ),
    (
        "client caching no",
        "-ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.\r\n",
    ),
    ("client caching yes", "+OK\r\n"),
    (
        "client trackinginfo",
        "*6\r\n$5\r\nflags\r\n*3\r\n$2\r\non\r\n$5\r\noptin\r\n$11\r\ncaching-yes\r\n$8\r\nredirect\r\n:0\r\n\
         $8\r\nprefixes\r\n*0\r\n",
    ),
    ("client getredir", ":0\r\n"),
    ("client tracking off", "+OK\r\n"),
    ("command count", ":15\r\n"),
    (
        "command getkeys ping",
        "-ERR wrong number of arguments for 'command|getkeys' command\r\n",
    ),
    (
        "command getkeys sentinel foo",
        "-ERR Invalid command specified\r\n",
    ),
    ("command list filterby foo x", "-ERR syntax error\r\n"),
    ("command list filterby aclcat foo", "*0\r\n"),
    (
        "command list filterby pattern *PUB*",
        "*1\r\n$7\r\npublish\r\n",
    ),
    ("command docs foo", "*0\r\n"),
    (
        "command info foo ping",
        "*2\r\n$-1\r\n*10\r\n$4\r\nping\r\n:-1\r\n*1\r\n+fast\r\n:0\r\n:0\r\n:0\r\n*2\r\n+@fast\r\n+@connection\r\n*2\r\n\
         $25\r\nrequest_policy:all_shards\r\n$29\r\nresponse_policy:all_succeeded\r\n*0\r\n*0\r\n",
    ),
    (
        "command info client|id",
        "*1\r\n*10\r\n$9\r\nclient|id\r\n:2\r\n*3\r\n+noscript\r\n+loading\r\n+stale\r\n:0\r\n:0\r\n:0\r\n*2\r\n+@slow\r\n\
         +@connection\r\n*0\r\n*0\r\n*0\r\n",
    ),
    ("hello 4", "-NOPROTO unsupported protocol version\r\n"),
    (
        "hello x",
        "-ERR Protocol version is not an integer or out of range\r\n",
    ),
    ("hello 2 foo", "-ERR Syntax error in HELLO option 'foo'\r\n"),
    (
        "hello 2 setname",
        "-ERR Syntax error in HELLO option 'setname'\r\n",
    ),
    (
        "hello 2",
        "*12\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n$5\r\nproto\r\n:2\r\n$2\r\nid\r\n:1\r\n\
         $4\r\nmode\r\n$8\r\nsentinel\r\n$7\r\nmodules\r\n*0\r\n",
    ),
    (
        "auth x",
        "-ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration \
         is correct?\r\n",
    ),
    ("auth a b c", "-ERR syntax error\r\n"),
    ("auth default x", "+OK\r\n"),
    (
        "auth foo bar",
        "-WRONGPASS invalid username-password pair or user is disabled.\r\n",
    ),
    ("acl whoami", "$7\r\ndefault\r\n"),
    ("acl users", "*1\r\n$7\r\ndefault\r\n"),
    (
        "acl list",
        "*1\r\n$34\r\nuser default on nopass ~* &* +@all\r\n",
    ),
    ("acl getuser foo", "$-1\r\n"),
    (
        "acl deluser default",
        "-ERR The 'default' user cannot be removed\r\n",
    ),
    ("acl deluser foo", ":0\r\n"),
    ("acl cat foo", "-ERR Unknown category 'foo'\r\n"),
    (
        "acl cat a b",
        "-ERR unknown subcommand or wrong number of arguments for 'cat'. Try ACL HELP.\r\n",
    ),
    (
        "acl genpass x",
        "-ERR value is not an integer or out of range\r\n",
    ),
    (
        "acl genpass 4097",
        "-ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to 4096\r\n",
    ),
    (
        "acl log x",
        "-ERR value is not an integer or out of range\r\n",
    ),
    ("acl log reset", "+OK\r\n"),
    ("acl log", "*0\r\n"),
    ("acl dryrun foo ping", "-ERR User 'foo' not found\r\n"),
    ("acl dryrun default foo", "-ERR Command 'foo' not found\r\n"),
    (
        "acl dryrun default sentinel master",
        "-ERR wrong number of arguments for 'sentinel|master' command\r\n",
    ),
    ("acl dryrun default ping", "+OK\r\n"),
    ("acl setuser bob", "+OK\r\n"),
    (
        "acl list",
        "*2\r\n$32\r\nuser bob off resetchannels -@all\r\n$34\r\nuser default on nopass ~* &* +@all\r\n",
    ),
    (
        "acl setuser bob on nopass +ping +client|id +subscribe +psubscribe +publish +acl &ok*",
        "+OK\r\n",
    ),
    (
        "acl dryrun bob publish x y",
        "$54\r\nThis user has no permissions to access the 'x' channel\r\n",
    ),
    (
        "acl dryrun bob role",
        "$54\r\nThis user has no permissions to run the 'role' command\r\n",
    ),
    (
        "acl dryrun bob sentinel foo",
        "-ERR Command 'sentinel' not found\r\n",
    ),
    // From here on as bob.
    ("auth bob x", "+OK\r\n"),
    (
        "role",
        "-NOPERM this user has no permissions to run the 'role' command\r\n",
    ),
    (
        "sentinel masters",
        "-NOPERM this user has no permissions to run the 'sentinel|masters' command\r\n",
    ),
    (
        "subscribe x",
        "-NOPERM this user has no permissions to access one of the channels used as arguments\r\n",
    ),
    (
        "psubscribe ok?",
        "-NOPERM this user has no permissions to access one of the channels used as arguments\r\n",
    ),
    (
        "psubscribe ok*",
        "*3\r\n$10\r\npsubscribe\r\n$3\r\nok*\r\n:1\r\n",
    ),
    (
        "subscribe okay",
        "*3\r\n$9\r\nsubscribe\r\n$4\r\nokay\r\n:2\r\n",
    ),
    (
        "publish ok y",
        "-ERR Can't execute 'publish': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this \
         context\r\n",
    ),
    ("ping", "*2\r\n$4\r\npong\r\n$0\r\n\r\n"),
    (
        "client id",
        "-ERR Can't execute 'client|id': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this \
         context\r\n",
    ),
    (
        "unsubscribe",
        "-NOPERM this user has no permissions to run the 'unsubscribe' command\r\n",
    ),
];

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
            "-NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> \
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
