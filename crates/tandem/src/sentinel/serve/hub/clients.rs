//! The container `CLIENT`: what a connection says of itself, and the list of all.

use std::time::{Duration, Instant};

use tandem_resp::Value;

use super::client::{Client, ClientType, Replies, Tracking, is_plain};
use super::generic::{BAD_NAME, integer};
use super::{Hub, Pause, Reply};
use crate::sentinel::serve::command;
use crate::sentinel::serve::subscriptions::{ClientId, Kind};

/// The longest pause that a client can ask for: what `Instant` can surely be asked to add.
const PAUSE_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// `CLIENT KILL` with filters: all that are given must fit.
#[derive(Default)]
struct Filter<'a> {
    id: Option<ClientId>,
    kind: Option<ClientType>,
    addr: Option<&'a [u8]>,
    laddr: Option<&'a [u8]>,
    user: Option<&'a [u8]>,
    spare_me: bool,
}

fn is(word: &[u8], name: &str) -> bool {
    word.eq_ignore_ascii_case(name.as_bytes())
}

/// `yes` or `no` by whichever two words.
fn either(word: &[u8], yes: &str, no: &str) -> Option<bool> {
    if is(word, yes) {
        Some(true)
    } else if is(word, no) {
        Some(false)
    } else {
        None
    }
}

fn verbatim(text: &str) -> Reply {
    Reply::Value(Value::Verbatim([b"txt:", text.as_bytes()].concat()))
}

impl Hub {
    /// `sub` is one of the table's subcommands, with as many arguments as it takes.
    pub(super) fn run_client(
        &mut self,
        id: ClientId,
        sub: &str,
        args: &[Vec<u8>],
        now: Instant,
    ) -> Reply {
        match sub {
            "id" => Reply::Value(Value::Integer(i64::try_from(id).unwrap_or(i64::MAX))),
            "info" => verbatim(&(self.describe(id, now) + "\n")),
            "list" => self.list(args, now),
            "kill" => self.kill(id, args),
            "pause" => self.pause(args, now),
            "unpause" => {
                self.paused = None;
                for client in self.clients.values() {
                    client.wake.notify_one();
                }
                Reply::ok()
            }
            "unblock" => match (args.get(1), integer(&args[0])) {
                (_, None) => Reply::error("value is not an integer or out of range"),
                (Some(how), Some(_)) if either(how, "timeout", "error").is_none() => {
                    Reply::error("CLIENT UNBLOCK reason should be TIMEOUT or ERROR")
                }
                // No command of a sentinel blocks.
                (_, Some(_)) => Reply::Value(Value::Integer(0)),
            },
            "getredir" => Reply::Value(Value::Integer(
                match self.clients.get(&id).and_then(|c| c.tracking.as_ref()) {
                    None => -1,
                    Some(tracking) => {
                        i64::try_from(tracking.redirect.unwrap_or(0)).unwrap_or(i64::MAX)
                    }
                },
            )),
            "tracking" => self.track(id, args),
            "help" => Reply::Value(command::help("client")),
            _ => match self.clients.get_mut(&id) {
                Some(client) => own(client, sub, args),
                None => Reply::Nothing,
            },
        }
    }

    fn type_of(&self, id: ClientId) -> ClientType {
        if self.is_subscriber(id) {
            ClientType::PubSub
        } else {
            ClientType::Normal
        }
    }

    fn list(&self, args: &[Vec<u8>], now: Instant) -> Reply {
        let chosen: Vec<ClientId> = match args {
            [] => self.clients.keys().copied().collect(),
            [option, kind] if is(option, "type") => {
                let Some(kind) = ClientType::parse(kind) else {
                    return Reply::error(format!(
                        "Unknown client type '{}'",
                        String::from_utf8_lossy(kind)
                    ));
                };
                let all = self.clients.keys().copied();
                all.filter(|id| self.type_of(*id) == kind).collect()
            }
            [option, ids @ ..] if is(option, "id") && !ids.is_empty() => {
                let mut chosen = Vec::new();
                for id in ids {
                    match integer(id).and_then(|id| ClientId::try_from(id).ok()) {
                        Some(id) if self.clients.contains_key(&id) => chosen.push(id),
                        Some(_) => {}
                        None => return Reply::error("Invalid client ID"),
                    }
                }
                chosen
            }
            _ => return Reply::syntax(),
        };
        let text: String = chosen
            .into_iter()
            .map(|id| self.describe(id, now) + "\n")
            .collect();
        verbatim(&text)
    }

    fn kill(&mut self, id: ClientId, args: &[Vec<u8>]) -> Reply {
        if let [addr] = args {
            let found = self
                .clients
                .values()
                .find(|client| client.origin.remote.as_bytes() == addr.as_slice())
                .map(|client| client.id);
            return match found {
                Some(found) => {
                    self.close(found, id);
                    Reply::ok()
                }
                None => Reply::error("No such client"),
            };
        }
        let filter = match self.filter(args) {
            Ok(filter) => filter,
            Err(refusal) => return refusal,
        };
        let chosen: Vec<ClientId> = self
            .clients
            .values()
            .filter(|client| {
                filter.id.is_none_or(|wanted| client.id == wanted)
                    && filter
                        .kind
                        .is_none_or(|kind| self.type_of(client.id) == kind)
                    && filter
                        .addr
                        .is_none_or(|addr| client.origin.remote.as_bytes() == addr)
                    && filter
                        .laddr
                        .is_none_or(|addr| client.origin.local.as_bytes() == addr)
                    && filter.user.is_none_or(|user| client.user == user)
                    && !(filter.spare_me && client.id == id)
            })
            .map(|client| client.id)
            .collect();
        let count = chosen.len();
        for client in chosen {
            self.close(client, id);
        }
        Reply::Value(Value::Integer(i64::try_from(count).unwrap_or(i64::MAX)))
    }

    fn filter<'a>(&self, args: &'a [Vec<u8>]) -> Result<Filter<'a>, Reply> {
        let mut filter = Filter {
            spare_me: true,
            ..Filter::default()
        };
        for pair in args.chunks(2) {
            let [option, value] = pair else {
                return Err(Reply::syntax());
            };
            if is(option, "id") {
                let number = integer(value).filter(|number| *number > 0);
                let number = number.and_then(|number| ClientId::try_from(number).ok());
                let error = || Reply::error("client-id should be greater than 0");
                filter.id = Some(number.ok_or_else(error)?);
            } else if is(option, "type") {
                let error = || {
                    let name = String::from_utf8_lossy(value);
                    Reply::error(format!("Unknown client type '{name}'"))
                };
                filter.kind = Some(ClientType::parse(value).ok_or_else(error)?);
            } else if is(option, "addr") {
                filter.addr = Some(value);
            } else if is(option, "laddr") {
                filter.laddr = Some(value);
            } else if is(option, "user") {
                if self.users.get(value).is_none() {
                    let name = String::from_utf8_lossy(value);
                    return Err(Reply::error(format!("No such user '{name}'")));
                }
                filter.user = Some(value);
            } else if is(option, "skipme") {
                filter.spare_me = either(value, "yes", "no").ok_or_else(Reply::syntax)?;
            } else {
                return Err(Reply::syntax());
            }
        }
        Ok(filter)
    }

    fn pause(&mut self, args: &[Vec<u8>], now: Instant) -> Reply {
        let pause = match args.get(1) {
            None => Pause::All,
            Some(mode) => match either(mode, "write", "all") {
                Some(true) => Pause::Write,
                Some(false) => Pause::All,
                None => return Reply::error("CLIENT PAUSE mode must be WRITE or ALL"),
            },
        };
        let Some(millis) = integer(&args[0]) else {
            return Reply::error("timeout is not an integer or out of range");
        };
        let Ok(millis) = u64::try_from(millis) else {
            return Reply::error("timeout is negative");
        };
        let until = now + Duration::from_millis(millis).min(PAUSE_MAX);
        // A pause that goes on is never made shorter or weaker by another.
        self.paused = Some(match self.paused {
            Some((old, old_until)) if old_until > now => (old.max(pause), old_until.max(until)),
            Some(_) | None => (pause, until),
        });
        Reply::ok()
    }

    /// `CLIENT TRACKING`: taken and remembered as a server does, although no key will ever be invalidated.
    fn track(&mut self, id: ClientId, args: &[Vec<u8>]) -> Reply {
        let mut wish = Tracking::default();
        let mut rest = &args[1..];
        while let Some((option, after)) = rest.split_first() {
            rest = after;
            if is(option, "redirect") && !after.is_empty() {
                if wish.redirect.is_some() {
                    return Reply::error("A client can only redirect to a single other client");
                }
                let Some(number) = integer(&after[0]) else {
                    return Reply::error("value is not an integer or out of range");
                };
                let target = ClientId::try_from(number).unwrap_or(0);
                if !self.clients.contains_key(&target) {
                    return Reply::error("The client ID you want redirect to does not exist");
                }
                wish.redirect = Some(target);
                rest = &after[1..];
            } else if is(option, "bcast") {
                wish.bcast = true;
            } else if is(option, "optin") {
                wish.optin = true;
            } else if is(option, "optout") {
                wish.optout = true;
            } else if is(option, "noloop") {
                wish.noloop = true;
            } else if is(option, "prefix") && !after.is_empty() {
                wish.prefixes.push(after[0].clone());
                rest = &after[1..];
            } else {
                return Reply::syntax();
            }
        }
        let Some(client) = self.clients.get_mut(&id) else {
            return Reply::Nothing;
        };
        match either(&args[0], "on", "off") {
            None => Reply::syntax(),
            Some(false) => {
                client.tracking = None;
                Reply::ok()
            }
            Some(true) => match conflict(client.tracking.as_ref(), &wish) {
                Some(text) => Reply::error(text),
                None => {
                    client.tracking = Some(wish);
                    Reply::ok()
                }
            },
        }
    }
}

/// Why tracking cannot be as wished.
fn conflict(current: Option<&Tracking>, wish: &Tracking) -> Option<&'static str> {
    if !wish.bcast && !wish.prefixes.is_empty() {
        return Some("PREFIX option requires BCAST mode to be enabled");
    }
    if current.is_some_and(|current| current.bcast != wish.bcast) {
        return Some(
            "You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling it with a \
             different mode.",
        );
    }
    if wish.bcast && (wish.optin || wish.optout) {
        return Some("OPTIN and OPTOUT are not compatible with BCAST");
    }
    if wish.optin && wish.optout {
        return Some("You can't specify both OPTIN mode and OPTOUT mode");
    }
    if current
        .is_some_and(|current| (current.optin && wish.optout) || (current.optout && wish.optin))
    {
        return Some(
            "You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then re-enabling it with a \
             different mode.",
        );
    }
    None
}

/// What concerns the asking connection alone.
fn own(client: &mut Client, sub: &str, args: &[Vec<u8>]) -> Reply {
    match sub {
        "getname" if client.name.is_empty() => Reply::Value(Value::Null),
        "getname" => Reply::bulk(&client.name),
        "setname" => {
            if !is_plain(&args[0]) {
                return Reply::error(BAD_NAME);
            }
            client.name.clone_from(&args[0]);
            Reply::ok()
        }
        "setinfo" => set_info(client, args),
        "reply" => reply_mode(client, &args[0]),
        "no-evict" => match either(&args[0], "on", "off") {
            Some(on) => {
                client.no_evict = on;
                Reply::ok()
            }
            None => Reply::syntax(),
        },
        "no-touch" => match either(&args[0], "on", "off") {
            Some(on) => {
                client.no_touch = on;
                Reply::ok()
            }
            None => Reply::syntax(),
        },
        "caching" => caching(client, &args[0]),
        "trackinginfo" => tracking_info(client.tracking.as_ref()),
        other => Reply::error(format!("CLIENT {other} cannot be carried out here")),
    }
}

fn reply_mode(client: &mut Client, word: &[u8]) -> Reply {
    if is(word, "on") {
        client.replies = Replies::On;
        return Reply::ok();
    }
    if is(word, "off") {
        client.replies = Replies::Off;
        return Reply::Nothing;
    }
    if is(word, "skip") {
        if client.replies != Replies::Off {
            client.replies = Replies::SkipNext;
        }
        return Reply::Nothing;
    }
    Reply::syntax()
}

fn set_info(client: &mut Client, args: &[Vec<u8>]) -> Reply {
    let (name, field) = if is(&args[0], "lib-name") {
        ("lib-name", &mut client.lib_name)
    } else if is(&args[0], "lib-ver") {
        ("lib-ver", &mut client.lib_ver)
    } else {
        let option = String::from_utf8_lossy(&args[0]);
        return Reply::error(format!("Unrecognized option '{option}'"));
    };
    if !is_plain(&args[1]) {
        return Reply::error(format!(
            "{name} cannot contain spaces, newlines or special characters."
        ));
    }
    field.clone_from(&args[1]);
    Reply::ok()
}

fn caching(client: &mut Client, word: &[u8]) -> Reply {
    let Some(tracking) = client.tracking.as_mut().filter(|t| t.optin || t.optout) else {
        return Reply::error(
            "CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled",
        );
    };
    match either(word, "yes", "no") {
        Some(true) if !tracking.optin => {
            Reply::error("CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.")
        }
        Some(false) if !tracking.optout => {
            Reply::error("CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.")
        }
        Some(choice) => {
            tracking.caching = Some(choice);
            Reply::ok()
        }
        None => Reply::syntax(),
    }
}

fn tracking_info(tracking: Option<&Tracking>) -> Reply {
    let bulk = |text: &str| Value::Bulk(text.as_bytes().to_vec());
    let mut flags = Vec::new();
    let mut redirect = -1;
    let mut prefixes = Vec::new();
    match tracking {
        None => flags.push("off"),
        Some(tracking) => {
            flags.push("on");
            for (given, flag) in [
                (tracking.bcast, "bcast"),
                (tracking.optin, "optin"),
                (
                    tracking.optin && tracking.caching == Some(true),
                    "caching-yes",
                ),
                (tracking.optout, "optout"),
                (
                    tracking.optout && tracking.caching == Some(false),
                    "caching-no",
                ),
                (tracking.noloop, "noloop"),
            ] {
                if given {
                    flags.push(flag);
                }
            }
            redirect = i64::try_from(tracking.redirect.unwrap_or(0)).unwrap_or(i64::MAX);
            prefixes.clone_from(&tracking.prefixes);
        }
    }
    Reply::Value(Value::Map(vec![
        (
            bulk("flags"),
            Value::Set(flags.into_iter().map(bulk).collect()),
        ),
        (bulk("redirect"), Value::Integer(redirect)),
        (
            bulk("prefixes"),
            Value::Array(prefixes.into_iter().map(Value::Bulk).collect()),
        ),
    ]))
}

impl Hub {
    /// How many channels and patterns are listened to; for INFO.
    pub(super) fn subscribed(&self) -> (usize, usize) {
        (
            self.subscriptions.total(Kind::Channel),
            self.subscriptions.total(Kind::Pattern),
        )
    }
}
