//! Commands about the connection and the process: PING, AUTH, HELLO, INFO, COMMAND and their like.

use std::time::Instant;

use tandem_core::sentinel::Question;
use tandem_resp::{Protocol, Value};

use super::client::{Closing, Replies, is_plain};
use super::{Flow, Hub, Reply, Shape};
use crate::sentinel::serve::acl::{DEFAULT, Reason};
use crate::sentinel::serve::command;
use crate::sentinel::serve::subscriptions::{ClientId, Kind};

/// Names and library versions of clients with spaces in them are refused, because `CLIENT LIST` could not be split.
pub(super) const BAD_NAME: &str =
    "Client names cannot contain spaces, newlines or special characters.";

/// A decimal number as Redis reads one: no plus sign, no leading zero, no space.
pub(super) fn integer(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    if digits.is_empty() || (digits[0] == b'0' && text.len() > 1) {
        return None;
    }
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

impl Hub {
    pub(super) fn run_generic(
        &mut self,
        id: ClientId,
        name: &'static str,
        argv: &[Vec<u8>],
        now: Instant,
    ) -> Reply {
        match name {
            "ping" => self.ping(id, argv),
            "echo" => Reply::bulk(&argv[1]),
            "select" => match integer(&argv[1]) {
                Some(0) => Reply::ok(),
                Some(_) => Reply::error("DB index is out of range"),
                None => Reply::error("value is not an integer or out of range"),
            },
            "auth" => self.auth(id, argv, now),
            "hello" => self.hello(id, argv, now),
            "quit" => {
                self.close(id, id);
                Reply::ok()
            }
            "reset" => self.reset(id),
            "role" => ask(Question::Role, Shape::Plain),
            "info" => self.info(&argv[1..], now),
            "command" => Reply::Value(command::info(&[], self.identity.compat)),
            "subscribe" => self.subscribe(id, Kind::Channel, &argv[1..]),
            "psubscribe" => self.subscribe(id, Kind::Pattern, &argv[1..]),
            "unsubscribe" => self.unsubscribe(id, Kind::Channel, &argv[1..]),
            "punsubscribe" => self.unsubscribe(id, Kind::Pattern, &argv[1..]),
            "publish" => ask(
                Question::Publish {
                    channel: argv[1].clone(),
                    message: argv[2].clone(),
                },
                Shape::Plain,
            ),
            "shutdown" => self.shut_down(&argv[1..]),
            other => Reply::error(format!("the command '{other}' cannot be carried out here")),
        }
    }

    pub(super) fn run_command(&self, sub: &str, args: &[Vec<u8>]) -> Reply {
        let compat = self.identity.compat;
        match sub {
            "count" => Reply::Value(command::count(compat)),
            "docs" => Reply::Value(command::docs(args, compat)),
            "getkeys" | "getkeysandflags" => Reply::Value(command::keys(args)),
            "info" => Reply::Value(command::info(args, compat)),
            "list" => Reply::Value(command::list(args, compat)),
            _ => Reply::Value(command::help("command")),
        }
    }

    pub(super) fn protocol(&self, id: ClientId) -> Protocol {
        self.clients
            .get(&id)
            .map_or(Protocol::Resp2, |client| client.protocol)
    }

    fn ping(&self, id: ClientId, argv: &[Vec<u8>]) -> Reply {
        if argv.len() > 2 {
            return Reply::error("wrong number of arguments for 'ping' command");
        }
        let text = argv.get(1);
        if self.is_subscriber(id) && self.protocol(id) == Protocol::Resp2 {
            return Reply::Value(Value::Array(vec![
                Value::Bulk(b"pong".to_vec()),
                Value::Bulk(text.cloned().unwrap_or_default()),
            ]));
        }
        match text {
            Some(text) => Reply::bulk(text),
            None => Reply::Value(Value::Simple(b"PONG".to_vec())),
        }
    }

    fn auth(&mut self, id: ClientId, argv: &[Vec<u8>], now: Instant) -> Reply {
        match &argv[1..] {
            [password] => {
                if self.users.default_user().has_no_password() {
                    return Reply::error(
                        "AUTH <password> called without any password configured for the default user. Are you sure your \
                         configuration is correct?",
                    );
                }
                self.log_in(id, argv, (DEFAULT, password), now)
            }
            [name, password] => self.log_in(id, argv, (name, password), now),
            _ => Reply::syntax(),
        }
    }

    /// A refusal goes into the log under the command's name as it was typed.
    fn log_in(
        &mut self,
        id: ClientId,
        argv: &[Vec<u8>],
        (name, password): (&[u8], &[u8]),
        now: Instant,
    ) -> Reply {
        if self.users.authenticate(name, password) {
            if let Some(client) = self.clients.get_mut(&id) {
                client.user = name.to_vec();
                client.authenticated = true;
            }
            return Reply::ok();
        }
        let info = self.describe(id, now);
        let asked = argv.first().map_or(&b""[..], Vec::as_slice);
        self.acl_log.add(Reason::Auth, asked, name, info, now);
        Reply::error("-WRONGPASS invalid username-password pair or user is disabled.")
    }

    fn hello(&mut self, id: ClientId, argv: &[Vec<u8>], now: Instant) -> Reply {
        let mut protocol = None;
        if let Some(version) = argv.get(1) {
            protocol = match integer(version) {
                Some(2) => Some(Protocol::Resp2),
                Some(3) => Some(Protocol::Resp3),
                Some(_) => return Reply::error("-NOPROTO unsupported protocol version"),
                None => {
                    return Reply::error("Protocol version is not an integer or out of range");
                }
            };
        }
        let mut login = None;
        let mut name = None;
        let mut rest = argv.get(2..).unwrap_or_default();
        while let Some((option, after)) = rest.split_first() {
            rest = match after {
                [user, password, after @ ..] if option.eq_ignore_ascii_case(b"AUTH") => {
                    login = Some((user, password));
                    after
                }
                [given, after @ ..] if option.eq_ignore_ascii_case(b"SETNAME") => {
                    if !is_plain(given) {
                        return Reply::error(BAD_NAME);
                    }
                    name = Some(given);
                    after
                }
                _ => {
                    return Reply::error(format!(
                        "Syntax error in HELLO option '{}'",
                        String::from_utf8_lossy(option)
                    ));
                }
            };
        }
        if let Some((user, password)) = login
            && let refused @ Reply::Value(Value::Error(_)) =
                self.log_in(id, argv, (user, password), now)
        {
            return refused;
        }
        if self.must_authenticate(id) {
            return Reply::error(
                "-NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> \
                 <pass> option can be used to authenticate the client and select the RESP protocol version at the \
                 same time",
            );
        }
        let Some(client) = self.clients.get_mut(&id) else {
            return Reply::Nothing;
        };
        if let Some(name) = name {
            client.name.clone_from(name);
        }
        if let Some(protocol) = protocol {
            client.protocol = protocol;
        }
        let number = match client.protocol {
            Protocol::Resp2 => 2,
            Protocol::Resp3 => 3,
        };
        let bulk = |text: &str| Value::Bulk(text.as_bytes().to_vec());
        Reply::Value(Value::Map(vec![
            (bulk("server"), bulk("redis")),
            (bulk("version"), bulk(&self.identity.redis_version)),
            (bulk("proto"), Value::Integer(number)),
            (
                bulk("id"),
                Value::Integer(i64::try_from(id).unwrap_or(i64::MAX)),
            ),
            (bulk("mode"), bulk("sentinel")),
            (bulk("modules"), Value::Array(Vec::new())),
        ]))
    }

    fn reset(&mut self, id: ClientId) -> Reply {
        self.subscriptions.forget(id);
        let authenticated = self.users.default_user().is_open();
        if let Some(client) = self.clients.get_mut(&id) {
            client.tracking = None;
            client.protocol = Protocol::Resp2;
            client.user = DEFAULT.to_vec();
            client.authenticated = authenticated;
            client.name.clear();
            client.replies = Replies::On;
        }
        Reply::Value(Value::Simple(b"RESET".to_vec()))
    }

    /// There is nothing to save and nobody to wait for, so the words only have to be right.
    fn shut_down(&mut self, args: &[Vec<u8>]) -> Reply {
        let (mut save, mut no_save, mut abort) = (false, false, false);
        for arg in args {
            let is = |word: &str| arg.eq_ignore_ascii_case(word.as_bytes());
            if is("save") {
                save = true;
            } else if is("nosave") {
                no_save = true;
            } else if is("abort") {
                abort = true;
            } else if !is("now") && !is("force") {
                return Reply::syntax();
            }
        }
        if (save && no_save) || (abort && args.len() > 1) {
            return Reply::syntax();
        }
        if abort {
            return Reply::error("No shutdown in progress.");
        }
        self.shutdown.notify_one();
        Reply::Nothing
    }

    /// Closes everybody, as at the end of the process.
    pub(crate) fn close_all(&mut self) {
        for client in self.clients.values_mut() {
            client.close(Closing::Now);
        }
    }
}

fn ask(question: Question, shape: Shape) -> Reply {
    Reply::Flow(Flow::Ask { question, shape })
}
