//! Which way each command goes, and the answers that the proxy gives by itself.
//!
//! To its clients the proxy is one standalone server with one database. What such a server would say of itself it
//! says here; what any of the servers behind can say as well is asked of one of them.

use std::sync::Arc;

use super::client::Watch;
use super::identity::{Assumed, Credentials, Identity, same};
use super::intake::Taken;
use super::slots::NONE;
use super::{Core, PoolState, text};
use crate::command::{self, Command, Connection, KeyList, Local, Refusal, Route};
use crate::frame::Request;
use crate::settings::Users;

impl Core {
    /// Puts a request on its way; its number of arguments is right, and its client may ask.
    pub(super) fn routed(
        &mut self,
        index: u32,
        command: &'static Command,
        request: &Request<'_>,
    ) -> Taken {
        if self.has_long_key(index, command, request) {
            self.desk.say(index, text::KEY_TOO_LONG);
            return Taken::Yes;
        }
        match command.route {
            Route::OneKey { at } => {
                let key = request.argument(usize::from(at)).unwrap_or_default();
                self.by_key(index, key, request.bytes())
            }
            Route::Split { first, step, merge } => self.split(
                index,
                command,
                (usize::from(first), usize::from(step)),
                merge,
                request,
            ),
            Route::Keys => self.together(index, command, request),
            Route::Script => self.script(index, command, request),
            Route::Wait if command.name == "wait" => {
                self.wait_for_replicas(index, command, request)
            }
            Route::Wait => self.wait_for_files(index, command, request),
            Route::Blocking(_) => self.blocking(index, command, request),
            Route::AnyShard => self.anywhere(index, request),
            Route::OnlyShard => {
                let pool = self.desk.clients[index as usize].pool;
                if self.pools[pool as usize].setup.settings.servers.len() == 1 {
                    return self.forward(index, 0, request.bytes());
                }
                self.refused(index, command, Refusal::OneServer);
                Taken::Yes
            }
            Route::Scan => self.scan(index, request),
            Route::AllNodes(_) if command.name.starts_with("slowlog|") => {
                self.slowlog(index, command, request)
            }
            Route::AllShards(merge) | Route::AllNodes(merge) => {
                self.note_scripts(command, request);
                self.everywhere(index, merge, request)
            }
            Route::PubSub(which) => self.pubsub(index, which, request),
            Route::Monitor => self.monitor(index, command, request),
            Route::Transaction(which) => self.transaction(index, which, command, request),
            Route::Connection(which) => self.connection(index, which, command, request),
            Route::Local(which) => self.local(index, which, request),
            Route::Container => self.wrong_number(index, command),
            Route::Refused(why) => {
                self.refused(index, command, why);
                Taken::Yes
            }
        }
    }

    /// Whether a key of this is longer than may be. One that is told while it arrives is refused by then.
    #[inline]
    pub(super) fn has_long_key(
        &self,
        index: u32,
        command: &'static Command,
        request: &Request<'_>,
    ) -> bool {
        let longest = self.bounds_of(index).key;
        request.bytes().len() > longest && any_key_over(longest, command, request)
    }

    pub(super) fn refused(&mut self, index: u32, command: &Command, why: Refusal) {
        let error = text::about("", command.name.as_bytes(), &[" ", why.text()].concat());
        self.desk.say(index, &error);
    }

    pub(super) fn unsupported(&mut self, index: u32, command: &Command, why: &str) {
        let error = text::about(
            "",
            command.name.as_bytes(),
            &[" is not let through the proxy: it ", why].concat(),
        );
        self.desk.say(index, &error);
    }

    fn local(&mut self, index: u32, which: Local, request: &Request<'_>) -> Taken {
        match which {
            Local::Ping => match request.argument(1) {
                None => self.desk.say(index, b"+PONG\r\n"),
                Some(argument) => self.say_bulk(index, argument),
            },
            Local::Echo => self.say_bulk(index, request.argument(1).unwrap_or_default()),
            // Any server knows its commands and settings better than a table made long before it.
            Local::Command | Local::ConfigGet => return self.anywhere(index, request),
            Local::Role => self.desk.say(index, b"*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n"),
            Local::WhoAmI => {
                let name = self.user_name(index).to_vec();
                self.say_bulk(index, &name);
            }
            Local::ClusterDisabled => {
                self.desk.say(
                    index,
                    b"-ERR This instance has cluster support disabled\r\n",
                );
            }
        }
        Taken::Yes
    }

    fn connection(
        &mut self,
        index: u32,
        which: Connection,
        command: &'static Command,
        request: &Request<'_>,
    ) -> Taken {
        match which {
            Connection::Auth => return self.auth(index, request),
            Connection::Hello => return self.hello(index, request),
            Connection::Select => {
                return self.select(index, request.argument(1).unwrap_or_default());
            }
            Connection::Client => return self.client_command(index, command, request),
            Connection::Reset => {
                if let Some(cold) = &mut self.desk.clients[index as usize].cold
                    && cold.multi.take().is_some()
                {
                    // A transaction is dropped even if what comes before it still has to be awaited.
                    self.desk.clients[index as usize].set_special();
                }
                if !self.desk.quiet(index) {
                    return Taken::Wait;
                }
                let client = &mut self.desk.clients[index as usize];
                let clean = client
                    .cold
                    .as_ref()
                    .is_none_or(|cold| cold.watch == Watch::No);
                client.cold = None;
                if !clean && client.pinned != NONE {
                    // It watches, and must not be given to another like this.
                    self.lanes[client.pinned as usize].retired = true;
                }
                self.unpin(index);
                self.become_nobody(index);
                self.greet(index);
                self.desk.say(index, b"+RESET\r\n");
            }
            Connection::Quit => {
                self.desk.say(index, b"+OK\r\n");
                self.desk.dismiss(index);
            }
        }
        Taken::Yes
    }

    /// `AUTH [user] password`.
    fn auth(&mut self, index: u32, request: &Request<'_>) -> Taken {
        let (name, password) = match (request.argument(1), request.argument(2)) {
            (Some(user), Some(password)) => (Some(user), password),
            (Some(password), None) => (None, password),
            (None, _) => {
                self.desk.say(index, text::SYNTAX);
                return Taken::Yes;
            }
        };
        let resp3 = self.desk.clients[index as usize].resp3;
        match self.log_in(index, name, password, resp3) {
            Assumed::Yes => self.desk.say(index, b"+OK\r\n"),
            Assumed::Wait => return Taken::Wait,
            Assumed::Refused(error) => self.desk.say(index, &error),
        }
        Taken::Yes
    }

    /// Lets a client in as somebody, in this version of RESP, or says why not.
    fn log_in(&mut self, index: u32, name: Option<&[u8]>, password: &[u8], resp3: bool) -> Assumed {
        let client = &self.desk.clients[index as usize];
        let PoolState {
            setup, twemproxy, ..
        } = &self.pools[client.pool as usize];
        let is_default = name.is_none_or(|name| name == b"default");
        let mut account = None;
        let user = match (&setup.settings.access.users, &setup.settings.password) {
            (Users::Own(accounts), _) => {
                account = accounts
                    .iter()
                    .position(|account| account.is(name) && account.takes(password));
                if account.is_none() {
                    return Assumed::Refused(text::BAD_PASSWORD.to_vec());
                }
                None
            }
            (_, Some(expected)) if is_default && same(password, expected.as_bytes()) => None,
            (Users::Password, Some(_)) => {
                return Assumed::Refused(text::bad_password(*twemproxy).to_vec());
            }
            (Users::Password, None) => {
                return Assumed::Refused(text::no_password(*twemproxy).to_vec());
            }
            (Users::Server, Some(_)) if is_default => {
                return Assumed::Refused(text::bad_password(*twemproxy).to_vec());
            }
            (Users::Server, _) => Some(Arc::new(Credentials {
                name: name.map(<[u8]>::to_vec),
                password: password.to_vec(),
            })),
        };
        let database = self.banks[client.bank as usize].identity.database;
        let assumed = self.assume(
            index,
            Identity {
                resp3,
                database,
                user,
            },
        );
        if matches!(assumed, Assumed::Yes) {
            self.desk.clients[index as usize].stranger = false;
            self.become_account(index, account);
        }
        assumed
    }

    /// `SELECT n`: another bank of lanes, as soon as a server has said that it has that database. In a pool of
    /// `nutcracker.yml` clients see one database, number 0, whichever the pool uses.
    fn select(&mut self, index: u32, database: &[u8]) -> Taken {
        let client = &self.desk.clients[index as usize];
        let wanted = std::str::from_utf8(database)
            .ok()
            .and_then(|text| text.parse::<i64>().ok());
        let reply = match wanted {
            None => text::NOT_INTEGER,
            Some(0) if self.pools[client.pool as usize].twemproxy => &b"+OK\r\n"[..],
            Some(_) if self.pools[client.pool as usize].twemproxy => text::OTHER_DATABASE,
            Some(wanted) => match u32::try_from(wanted) {
                Err(_) => text::NO_SUCH_DATABASE,
                Ok(database) => {
                    let mut identity = self.banks[client.bank as usize].identity.clone();
                    identity.database = database;
                    match self.assume(index, identity) {
                        Assumed::Yes => b"+OK\r\n",
                        Assumed::Wait => return Taken::Wait,
                        Assumed::Refused(error) => {
                            self.desk.say(index, &error);
                            return Taken::Yes;
                        }
                    }
                }
            },
        };
        self.desk.say(index, reply);
        Taken::Yes
    }

    /// `HELLO [2|3 [AUTH user password] [SETNAME name]]`.
    fn hello(&mut self, index: u32, request: &Request<'_>) -> Taken {
        let mut arguments = request.arguments().skip(1).map(|argument| argument.value);
        let resp3 = match arguments.next() {
            None => self.desk.clients[index as usize].resp3,
            Some(b"2") => false,
            Some(b"3") => true,
            Some(_) => {
                self.desk.say(index, text::NOPROTO);
                return Taken::Yes;
            }
        };
        let mut login = None;
        let mut name = None;
        while let Some(option) = arguments.next() {
            if option.eq_ignore_ascii_case(b"AUTH") {
                let (Some(user), Some(password)) = (arguments.next(), arguments.next()) else {
                    self.desk.say(index, text::SYNTAX);
                    return Taken::Yes;
                };
                login = Some((user, password));
            } else if option.eq_ignore_ascii_case(b"SETNAME") {
                name = arguments.next();
            } else {
                self.desk.say(index, text::SYNTAX);
                return Taken::Yes;
            }
        }
        let client = &self.desk.clients[index as usize];
        let assumed = match login {
            Some((user, password)) => self.log_in(index, Some(user), password, resp3),
            None if client.stranger => Assumed::Refused(text::HELLO_NOAUTH.to_vec()),
            None => {
                let mut identity = self.banks[client.bank as usize].identity.clone();
                identity.resp3 = resp3;
                self.assume(index, identity)
            }
        };
        match assumed {
            Assumed::Yes => {}
            Assumed::Wait => return Taken::Wait,
            Assumed::Refused(error) => {
                self.desk.say(index, &error);
                return Taken::Yes;
            }
        }
        if let Some(name) = name {
            self.desk.cold(index).name = name.to_vec();
        }
        self.say_hello(index)
    }

    pub(super) fn say_bulk(&mut self, index: u32, value: &[u8]) {
        let mut reply = self.desk.spare.take();
        tandem_resp::write_bulk(value, &mut reply);
        self.desk.say(index, &reply);
        self.desk.spare.give(reply);
    }
}

#[cold]
fn any_key_over(longest: usize, command: &'static Command, request: &Request<'_>) -> bool {
    let mut found = KeyList::default();
    // Arguments that do not say where keys are: any server will say why.
    let _ = command::keys(command, request, &mut found);
    let mut keys = found.keys().iter();
    keys.any(|key| command::Args::arg(request, key.at as usize).len() > longest)
}
