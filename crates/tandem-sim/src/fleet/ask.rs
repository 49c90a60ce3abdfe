//! Questions to sentinels: of other sentinels on their wires, of operators, and of the writing client.

use tandem_core::sentinel::{Question, RequestId};
use tandem_resp::Value;

use super::wires::{Argv, Up};
use super::world::{Ev, Fleet};
use crate::chance::Us;

/// Who waits for an answer.
#[derive(Clone, Debug)]
pub(super) struct Asker {
    pub(super) node: usize,
    pub(super) since: Us,
    who: Who,
}

#[derive(Clone, Debug)]
enum Who {
    /// Another sentinel, at this place in its pipeline; what was asked, for the votes.
    Wire {
        id: u64,
        slot: u64,
        opinion: bool,
    },
    Operator,
    Client,
}

fn simple(text: &str) -> Value {
    Value::Simple(text.as_bytes().to_vec())
}

impl Fleet {
    /// A command of another sentinel arrived.
    pub(super) fn asked_on_wire(&mut self, n: usize, id: u64, argv: Argv) {
        if self.nodes[n].machine.is_none() || self.keep(n, id, &argv) {
            return;
        }
        self.serial += 1;
        let slot = self.serial;
        let mut foreign = self.nodes[n].foreign;
        if let Some(wire) = self.wires.get_mut(&id) {
            foreign |= self.nodes[wire.node].foreign;
            wire.slots.push_back((slot, None));
        }
        let is = |index: usize, text: &str| {
            argv.get(index)
                .is_some_and(|word| word.eq_ignore_ascii_case(text.as_bytes()))
        };
        let question = if is(0, "PING") {
            self.fill(id, slot, simple("PONG"));
            return;
        } else if is(0, "SENTINEL") && is(1, "TANDEM") && foreign {
            let text = "ERR Unknown sentinel subcommand 'TANDEM'";
            self.fill(id, slot, Value::Error(text.as_bytes().to_vec()));
            return;
        } else if is(0, "SENTINEL") {
            Question::Sentinel(argv[1..].to_vec())
        } else if is(0, "PUBLISH") && argv.len() == 3 {
            Question::Publish {
                channel: argv[1].clone(),
                message: argv[2].clone(),
            }
        } else {
            self.fill(id, slot, simple("OK"));
            return;
        };
        let opinion = is(1, "IS-MASTER-DOWN-BY-ADDR");
        self.ask(n, question, Who::Wire { id, slot, opinion });
    }

    /// An operator's command.
    pub(super) fn operate(&mut self, n: usize, words: &str) {
        if !self.nodes[n].is_awake() {
            return;
        }
        self.say(|| format!("sentinel {n} is told: {words}"));
        let question = sentinel_question(words);
        self.ask(n, question, Who::Operator);
    }

    /// The client asks where to write.
    pub(super) fn ask_address(&mut self, n: usize) {
        let question = sentinel_question("get-master-addr-by-name orders");
        self.ask(n, question, Who::Client);
    }

    fn ask(&mut self, node: usize, question: Question, who: Who) {
        self.serial += 1;
        let request = RequestId(self.serial);
        let since = self.now;
        self.asked.insert(request, Asker { node, since, who });
        self.handle(
            node,
            tandem_core::sentinel::Input::Asked { request, question },
        );
    }

    /// A sentinel answers: each question once.
    pub(super) fn answered(&mut self, n: usize, request: RequestId, value: Value) {
        let Some(asker) = self.asked.remove(&request) else {
            self.broken("answers", format!("sentinel {n} answers {request:?} again"));
            return;
        };
        match asker.who {
            Who::Wire { id, slot, opinion } => {
                if opinion {
                    self.check_opinion(n, &value);
                }
                self.fill(id, slot, value);
            }
            Who::Operator => self.say(|| format!("sentinel {n} answers {value:?}")),
            Who::Client => {
                let to = value.as_array().and_then(|parts| {
                    let host = std::str::from_utf8(parts.first()?.as_bytes()?).ok()?;
                    self.server_at(host, 6379)
                });
                if let Some(to) = to {
                    let wait = self.latency();
                    self.after(wait, Ev::Directed { to });
                }
            }
        }
    }

    /// Answers leave in the order of the questions.
    fn fill(&mut self, id: u64, slot: u64, value: Value) {
        let mut ready = Vec::new();
        if let Some(wire) = self.wires.get_mut(&id) {
            if let Some(entry) = wire.slots.iter_mut().find(|(number, _)| *number == slot) {
                entry.1 = Some(value);
            }
            while wire.slots.front().is_some_and(|(_, value)| value.is_some()) {
                ready.extend(wire.slots.pop_front().and_then(|(_, value)| value));
            }
        }
        for value in ready {
            self.push_up(id, Up::Reply(value));
        }
    }

    /// The process is gone, and its questions with it.
    pub(super) fn forget_questions(&mut self, n: usize) {
        self.asked.retain(|_, asker| asker.node != n);
    }
}

fn sentinel_question(words: &str) -> Question {
    let words = words.split(' ').map(|word| word.as_bytes().to_vec());
    Question::Sentinel(words.collect())
}
