//! The container `ACL`: users looked at and changed, and what that does to those who are connected.

use std::time::Instant;

use tandem_resp::Value;

use super::{Denied, Flow, Hub, Reply};
use crate::sentinel::serve::acl::{DEFAULT, LoadError, Users};
use crate::sentinel::serve::command::{self, CATEGORIES, CommandId, Lookup};
use crate::sentinel::serve::hub::generic::integer;
use crate::sentinel::serve::subscriptions::{ClientId, Kind};

const NO_FILE: &str = "This Redis instance is not configured to use an ACL file. You may want to specify users via the ACL \
                       SETUSER command and then issue a CONFIG REWRITE (assuming you have a Redis configuration file set) \
                       in order to store users in the Redis configuration.";

/// What a refused client is told, behind `NOPERM`.
pub(super) fn refusal(denied: Denied, command: CommandId) -> String {
    match denied {
        Denied::Command => format!(
            "this user has no permissions to run the '{}' command",
            command.entry().name
        ),
        Denied::Channel(_) => {
            "this user has no permissions to access one of the channels used as arguments"
                .to_owned()
        }
    }
}

fn bulks<'a>(texts: impl Iterator<Item = &'a [u8]>) -> Value {
    Value::Array(texts.map(|text| Value::Bulk(text.to_vec())).collect())
}

impl Hub {
    /// `sub` is one of the table's subcommands, with as many arguments as it takes.
    pub(super) fn run_acl(
        &mut self,
        id: ClientId,
        sub: &str,
        args: &[Vec<u8>],
        now: Instant,
    ) -> Reply {
        match sub {
            "whoami" => match self.clients.get(&id) {
                Some(client) => Reply::bulk(&client.user),
                None => Reply::Nothing,
            },
            "users" => Reply::Value(bulks(self.users.names())),
            "list" => {
                let lines = self.users.lines();
                Reply::Value(bulks(lines.iter().map(String::as_bytes)))
            }
            "getuser" => Reply::Value(
                self.users
                    .get(&args[0])
                    .map_or(Value::Null, super::super::acl::User::to_value),
            ),
            "setuser" => match self.users.set(&args[0], &args[1..]) {
                Ok(()) => {
                    self.drop_lost_subscribers(&args[0], id);
                    Reply::ok()
                }
                Err(text) => Reply::error(text),
            },
            "deluser" => self.delete_users(id, args),
            "cat" => cat(args),
            "genpass" => generate(args),
            "log" => self.log(args, now),
            "dryrun" => self.dry_run(&args[0], &args[1..]),
            "load" => match &self.acl_file {
                Some(path) => Reply::Flow(Flow::ReadUsers(path.clone())),
                None => Reply::error(NO_FILE),
            },
            "save" => match &self.acl_file {
                Some(path) => {
                    let text = self.users.lines().join("\n") + "\n";
                    Reply::Flow(Flow::WriteUsers(path.clone(), text))
                }
                None => Reply::error(NO_FILE),
            },
            _ => Reply::Value(command::help("acl")),
        }
    }

    fn delete_users(&mut self, id: ClientId, names: &[Vec<u8>]) -> Reply {
        let mut count = 0;
        for name in names {
            if name == DEFAULT {
                return Reply::error("The 'default' user cannot be removed");
            }
            if self.users.remove(name) {
                count += 1;
                self.close_clients_of(name, id);
            }
        }
        Reply::Value(Value::Integer(count))
    }

    fn close_clients_of(&mut self, name: &[u8], asked_by: ClientId) {
        let theirs: Vec<ClientId> = self
            .clients
            .values()
            .filter(|client| client.user == name)
            .map(|client| client.id)
            .collect();
        for client in theirs {
            if let Some(client) = self.clients.get_mut(&client) {
                // Whatever it still gets to say, it is nobody now.
                client.user = DEFAULT.to_vec();
                client.authenticated = false;
            }
            self.close(client, asked_by);
        }
    }

    /// Disconnects those who listen to what their user may no longer hear.
    fn drop_lost_subscribers(&mut self, name: &[u8], asked_by: ClientId) {
        let Some(user) = self.users.get(name) else {
            return;
        };
        let may = |id: ClientId, kind: Kind| {
            self.subscriptions
                .names(id, kind)
                .iter()
                .all(|channel| user.allows_channel(channel, kind == Kind::Pattern))
        };
        let lost: Vec<ClientId> = self
            .clients
            .values()
            .filter(|client| client.user == name)
            .map(|client| client.id)
            .filter(|id| !may(*id, Kind::Channel) || !may(*id, Kind::Pattern))
            .collect();
        for client in lost {
            self.close(client, asked_by);
        }
    }

    fn log(&mut self, args: &[Vec<u8>], now: Instant) -> Reply {
        let mut count = 10;
        if let Some(word) = args.first() {
            if word.eq_ignore_ascii_case(b"reset") {
                self.acl_log.clear();
                return Reply::ok();
            }
            match integer(word) {
                Some(number) => count = usize::try_from(number).unwrap_or(0),
                None => return Reply::error("value is not an integer or out of range"),
            }
        }
        Reply::Value(self.acl_log.to_value(count, now))
    }

    fn dry_run(&self, name: &[u8], argv: &[Vec<u8>]) -> Reply {
        let Some(user) = self.users.get(name) else {
            return Reply::error(format!(
                "User '{}' not found",
                String::from_utf8_lossy(name)
            ));
        };
        let command = match command::lookup(argv) {
            Lookup::Known(command) => command,
            Lookup::UnknownCommand | Lookup::UnknownSubcommand => {
                let word = argv.first().map_or(&b""[..], Vec::as_slice);
                return Reply::error(format!(
                    "Command '{}' not found",
                    String::from_utf8_lossy(word)
                ));
            }
        };
        if !command.entry().takes(argv.len()) {
            return Reply::error(command::wrong_arity(command.entry()));
        }
        match user.check(
            command,
            argv,
            super::pubsub::channels_of(command.entry().name),
        ) {
            Ok(()) => Reply::ok(),
            Err(Denied::Command) => Reply::bulk(format!(
                "This user has no permissions to run the '{}' command",
                command.entry().name
            )),
            Err(Denied::Channel(at)) => Reply::bulk(format!(
                "This user has no permissions to access the '{}' channel",
                String::from_utf8_lossy(argv.get(at).map_or(&b""[..], |channel| channel))
            )),
        }
    }

    /// The text of the `aclfile`, or why it could not be read. All users are replaced or none; clients whose user is gone or
    /// has changed are disconnected.
    pub(crate) fn load_users(&mut self, id: ClientId, text: Result<String, String>) {
        let loaded = text.and_then(|text| {
            Users::from_lines(text.lines(), self.all_channels).map_err(|e: LoadError| e.to_string())
        });
        match loaded {
            Ok(users) => {
                let old = std::mem::replace(&mut self.users, users);
                let changed: Vec<Vec<u8>> = old
                    .names()
                    .filter(|name| *name != DEFAULT && old.get(name) != self.users.get(name))
                    .map(<[u8]>::to_vec)
                    .collect();
                for name in changed {
                    self.close_clients_of(&name, id);
                }
                self.say(id, &Value::Simple(b"OK".to_vec()));
            }
            Err(error) => {
                let text = format!(
                    "ERR {error} WARNING: ACL errors detected, no change to the previously active ACL rules was performed"
                );
                self.say(id, &Value::Error(text.into_bytes()));
            }
        }
        self.finish(id);
    }

    /// Whether the users are in the `aclfile` now.
    pub(crate) fn users_saved(&mut self, id: ClientId, result: Result<(), String>) {
        let value = match result {
            Ok(()) => Value::Simple(b"OK".to_vec()),
            Err(error) => {
                tracing::warn!("the ACL file cannot be written: {error}");
                super::error(
                    b"There was an error trying to save the ACLs. Please check the server logs for more information",
                )
            }
        };
        self.say(id, &value);
        self.finish(id);
    }
}

fn cat(args: &[Vec<u8>]) -> Reply {
    match args.first() {
        None => Reply::Value(bulks(CATEGORIES.iter().map(|name| name.as_bytes()))),
        Some(name) => match command::category(name) {
            Some(index) => Reply::Value(bulks(
                CommandId::all()
                    .map(CommandId::entry)
                    .filter(|entry| entry.is_listed() && entry.in_category(index))
                    .map(|entry| entry.name.as_bytes()),
            )),
            None => Reply::error(format!(
                "Unknown category '{}'",
                String::from_utf8_lossy(name)
            )),
        },
    }
}

/// `ACL GENPASS [bits]`: so many random bits, rounded up to whole hexadecimal digits.
fn generate(args: &[Vec<u8>]) -> Reply {
    let bits = match args.first() {
        None => 256,
        Some(word) => match integer(word) {
            Some(bits @ 1..=4096) => usize::try_from(bits).unwrap_or(256),
            None => return Reply::error("value is not an integer or out of range"),
            Some(_) => {
                return Reply::error(
                    "ACL GENPASS argument must be the number of bits for the output password, a positive number up to 4096",
                );
            }
        },
    };
    let digits = bits.div_ceil(4);
    let mut random = vec![0; digits.div_ceil(2)];
    if let Err(error) = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
    {
        return Reply::error(format!("no random numbers: {error}"));
    }
    let mut text: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    text.truncate(digits);
    Reply::bulk(text)
}
