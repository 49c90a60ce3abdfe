//! What a simulated server does with the commands of a sentinel: roles, transactions, pauses, kills, pub/sub.

use tandem_core::sentinel::ConnKind;
use tandem_resp::Value;

use super::wires::{Argv, Down, Target, Up};
use super::world::{Ev, Fleet};
use crate::chance::{MS, Us};

/// Commands that a loading server takes all the same.
const WHILE_LOADING: &[&str] = &[
    "INFO",
    "MULTI",
    "EXEC",
    "PUBLISH",
    "SUBSCRIBE",
    "CLIENT",
    "CONFIG",
    "AUTH",
];

fn simple(text: &str) -> Value {
    Value::Simple(text.as_bytes().to_vec())
}

fn error(text: &str) -> Value {
    Value::Error(text.as_bytes().to_vec())
}

fn word(argv: &Argv, index: usize) -> String {
    argv.get(index)
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .unwrap_or_default()
}

impl Fleet {
    /// A server reads a command.
    pub(super) fn serve(&mut self, id: u64, argv: Argv) {
        let now = self.now;
        let Some(wire) = self.wires.get_mut(&id) else {
            return;
        };
        let Target::Server(s) = wire.target else {
            return;
        };
        let Some(proc) = &self.servers[s].redis.proc else {
            return;
        };
        let name = word(&argv, 0).to_ascii_uppercase();
        let loading = proc.is_loading(now) && !WHILE_LOADING.contains(&name.as_str());
        let refused = if loading {
            Some(error("LOADING Redis is loading the dataset in memory"))
        } else if self.plan.no_pause
            && name == "CLIENT"
            && word(&argv, 1).eq_ignore_ascii_case("PAUSE")
        {
            Some(error(
                "NOPERM this user has no permissions to run the 'client|pause' command",
            ))
        } else {
            None
        };
        let paused = proc.paused_until > now;
        if let Some((dirty, queue)) = &mut wire.multi
            && name != "EXEC"
        {
            let reply = match refused {
                Some(refused) => {
                    *dirty = true;
                    refused
                }
                None => {
                    queue.push(argv);
                    simple("QUEUED")
                }
            };
            self.push_up(id, Up::Reply(reply));
            return;
        }
        if let Some(refused) = refused {
            self.push_up(id, Up::Reply(refused));
            return;
        }
        match name.as_str() {
            "PUBLISH" if paused => {
                wire.held = true;
                wire.waiting.push_front(Down::Command(argv));
            }
            "MULTI" => {
                wire.multi = Some((false, Vec::new()));
                self.push_up(id, Up::Reply(simple("OK")));
            }
            "EXEC" => {
                let reply = match wire.multi.take() {
                    Some((false, queue)) => {
                        let replies = queue.iter().map(|argv| self.execute(s, id, argv));
                        Value::Array(replies.collect())
                    }
                    Some((true, _)) => {
                        error("EXECABORT Transaction discarded because of previous errors.")
                    }
                    None => error("ERR EXEC without MULTI"),
                };
                self.push_up(id, Up::Reply(reply));
            }
            "SUBSCRIBE" => wire.subscribed = true,
            _ if wire.kind == ConnKind::PubSub => {}
            _ => {
                let reply = self.execute(s, id, &argv);
                self.push_up(id, Up::Reply(reply));
            }
        }
    }

    fn execute(&mut self, s: usize, id: u64, argv: &Argv) -> Value {
        match word(argv, 0).to_ascii_uppercase().as_str() {
            "PING" => simple("PONG"),
            "INFO" => Value::Bulk(self.info(s).into_bytes()),
            "PUBLISH" => self.publish(s, argv),
            "SLAVEOF" => self.slaveof(s, argv),
            "CONFIG" => {
                if !self.plan.rewrites {
                    return error("ERR The server is running without a config file");
                }
                self.servers[s].file_of = self.servers[s].of;
                simple("OK")
            }
            "CLIENT" => self.client(s, id, argv),
            _ => simple("OK"),
        }
    }

    fn publish(&mut self, s: usize, argv: &Argv) -> Value {
        let hearers: Vec<u64> = self
            .wires
            .iter()
            .filter(|(_, wire)| wire.target == Target::Server(s) && wire.subscribed)
            .map(|(id, _)| *id)
            .collect();
        let count = i64::try_from(hearers.len()).unwrap_or(i64::MAX);
        let message = argv.get(2).cloned().unwrap_or_default();
        for hearer in hearers {
            self.push_up(hearer, Up::Message(message.clone()));
        }
        Value::Integer(count)
    }

    fn slaveof(&mut self, s: usize, argv: &Argv) -> Value {
        let (host, port) = (word(argv, 1), word(argv, 2));
        if host.eq_ignore_ascii_case("NO") {
            if let Some(tag) = argv.get(3) {
                self.check_promotion(s, &String::from_utf8_lossy(tag));
            }
            self.say(|| format!("server {s} becomes primary"));
            self.replicaof(s, None);
            return simple("OK");
        }
        let target = port
            .parse()
            .ok()
            .and_then(|port| self.server_at(&host, port));
        match target {
            Some(target) => {
                self.say(|| format!("server {s} follows {target}"));
                self.replicaof(s, Some(target));
                simple("OK")
            }
            None => {
                self.broken("stranger", format!("server {s} is to follow {host}:{port}"));
                error("ERR Invalid master port")
            }
        }
    }

    fn client(&mut self, s: usize, id: u64, argv: &Argv) -> Value {
        let now = self.now;
        match word(argv, 1).to_ascii_uppercase().as_str() {
            "PAUSE" => {
                let time: Us = word(argv, 2).parse::<u64>().unwrap_or(0) * MS;
                if let Some(proc) = &mut self.servers[s].redis.proc {
                    proc.paused_until = proc.paused_until.max(now + time);
                }
                self.say(|| format!("server {s} holds back writes for {} ms", time / MS));
                self.after(time, Ev::Unpaused(s));
                simple("OK")
            }
            "UNPAUSE" => {
                if let Some(proc) = &mut self.servers[s].redis.proc {
                    proc.paused_until = now;
                }
                self.after(0, Ev::Unpaused(s));
                simple("OK")
            }
            "KILL" => {
                let kind = if word(argv, 3).eq_ignore_ascii_case("pubsub") {
                    ConnKind::PubSub
                } else {
                    self.writer_cut(s);
                    ConnKind::Command
                };
                let gone: Vec<u64> = self
                    .wires
                    .iter()
                    .filter(|(other, wire)| {
                        **other != id
                            && wire.target == Target::Server(s)
                            && wire.open
                            && wire.kind == kind
                    })
                    .map(|(other, _)| *other)
                    .collect();
                let count = i64::try_from(gone.len()).unwrap_or(i64::MAX);
                for other in gone {
                    self.hang_up(other);
                }
                Value::Integer(count)
            }
            _ => simple("OK"),
        }
    }
}
