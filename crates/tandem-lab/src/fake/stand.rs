//! A group that is played: a primary, a replica and another Sentinel, each an endpoint that notes what it is sent.
//!
//! The primary can fall silent, the replica can be promoted, and the other Sentinel agrees to everything: it holds the
//! primary to be down when it is, and votes for whoever asks. So a Sentinel under test can be led through a whole
//! failover, alone, and what it sends to whom is the same each time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Actor, Answer, Call, bulk, message};

/// The endpoints' places in the list of ports.
const PRIMARY: usize = 0;
const REPLICA: usize = 1;
const PEER: usize = 2;
const NAMES: [&str; 3] = ["primary", "replica", "sentinel"];
const RUN_IDS: [&str; 2] = [
    "000000000000000000000000000000000000000a",
    "000000000000000000000000000000000000000b",
];
/// The history that both servers have.
const HISTORY: &str = "00000000000000000000000000000000000000aa";
const CHANNEL: &str = "__sentinel__:hello";

/// One command that was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// `primary`, `replica` or `sentinel`.
    pub by: &'static str,
    /// Over which connection, numbered over all endpoints.
    pub connection: u64,
    /// The command and its arguments.
    pub words: Vec<String>,
}

/// What is true in the played group, and what was heard in it.
#[derive(Debug, Default)]
pub struct World {
    /// Whether the primary answers nothing.
    pub primary_is_silent: bool,
    /// Whether the other Sentinel is to be introduced.
    pub has_peer: bool,
    /// Which of primary and replica say that they are replicas.
    follows: [Option<(String, String)>; 2],
    heard: Vec<Heard>,
}

impl World {
    /// Everything heard so far.
    #[must_use]
    pub fn heard(&self) -> &[Heard] {
        &self.heard
    }
}

/// The actor of the played group.
#[derive(Debug)]
pub struct Stand {
    world: Arc<Mutex<World>>,
    address: String,
    ports: [u16; 3],
    group: String,
    peer_id: String,
    /// What a transaction that is being queued will do.
    queued: Vec<Vec<String>>,
}

impl Stand {
    /// Plays a group of this name at an address, on ports of primary, replica and the other Sentinel.
    #[must_use]
    pub fn new(address: &str, ports: [u16; 3], group: &str, peer_id: &str) -> Self {
        let mut world = World::default();
        world.follows[REPLICA] = Some((address.to_owned(), ports[PRIMARY].to_string()));
        Self {
            world: Arc::new(Mutex::new(world)),
            address: address.to_owned(),
            ports,
            group: group.to_owned(),
            peer_id: peer_id.to_owned(),
            queued: Vec::new(),
        }
    }

    /// What is true in it, to be changed and looked at while it is played.
    #[must_use]
    pub fn world(&self) -> Arc<Mutex<World>> {
        Arc::clone(&self.world)
    }

    fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hello(&self) -> String {
        format!(
            "{ip},{port},{id},0,{group},{ip},{primary},0",
            ip = self.address,
            port = self.ports[PEER],
            id = self.peer_id,
            group = self.group,
            primary = self.ports[PRIMARY],
        )
    }

    fn info(&self, endpoint: usize, world: &World) -> String {
        let run_id = RUN_IDS[endpoint];
        let head = format!(
            "# Server\r\nredis_version:7.0.15\r\nrun_id:{run_id}\r\n# Replication\r\n\
             master_replid:{HISTORY}\r\nmaster_repl_offset:100\r\nsecond_repl_offset:-1\r\n"
        );
        if let Some((host, port)) = &world.follows[endpoint] {
            return format!(
                "{head}role:slave\r\nmaster_host:{host}\r\nmaster_port:{port}\r\nmaster_link_status:up\r\n\
                 slave_repl_offset:100\r\nslave_priority:100\r\nreplica_announced:1\r\nconnected_slaves:0\r\n"
            );
        }
        let other = 1 - endpoint;
        let replicas = match &world.follows[other] {
            Some((_, port)) if *port == self.ports[endpoint].to_string() => format!(
                "connected_slaves:1\r\nslave0:ip={},port={},state=online,offset=100,lag=0\r\n",
                self.address, self.ports[other]
            ),
            Some(_) | None => "connected_slaves:0\r\n".to_owned(),
        };
        format!("{head}role:master\r\n{replicas}")
    }

    fn server(&mut self, endpoint: usize, words: &[String]) -> Vec<Answer> {
        let upper: Vec<String> = words.iter().map(|word| word.to_uppercase()).collect();
        let reply = |text: &str| vec![Answer::Reply(text.as_bytes().to_vec())];
        match upper[0].as_str() {
            "PING" => reply("+PONG\r\n"),
            "INFO" => vec![Answer::Reply(bulk(&self.info(endpoint, &self.lock())))],
            "PUBLISH" => {
                let heard = message(&["message", &words[1], &words[2]]);
                vec![
                    Answer::Reply(b":1\r\n".to_vec()),
                    Answer::Publish(endpoint, heard),
                ]
            }
            "SUBSCRIBE" => {
                let mut said = message(&["subscribe", CHANNEL]);
                // The third part of a confirmation is a number.
                said[1] = b'3';
                said.extend_from_slice(b":1\r\n");
                if self.lock().has_peer {
                    said.extend(message(&["message", CHANNEL, &self.hello()]));
                }
                vec![Answer::Subscribed(said)]
            }
            "MULTI" => {
                self.queued.clear();
                reply("+OK\r\n")
            }
            "EXEC" => {
                let queued = std::mem::take(&mut self.queued);
                for command in &queued {
                    self.follow(endpoint, command);
                }
                reply(&format!(
                    "*{}\r\n{}",
                    queued.len(),
                    "+OK\r\n".repeat(queued.len())
                ))
            }
            "SLAVEOF" | "REPLICAOF" | "CONFIG" => {
                self.queued.push(words.to_vec());
                reply("+QUEUED\r\n")
            }
            "CLIENT" if upper.get(1).is_some_and(|word| word == "KILL") => {
                self.queued.push(words.to_vec());
                reply("+QUEUED\r\n")
            }
            _ => reply("+OK\r\n"),
        }
    }

    fn follow(&self, endpoint: usize, command: &[String]) {
        let [name, host, port] = command else {
            return;
        };
        if !name.eq_ignore_ascii_case("SLAVEOF") && !name.eq_ignore_ascii_case("REPLICAOF") {
            return;
        }
        let nobody = host.eq_ignore_ascii_case("NO");
        self.lock().follows[endpoint] = (!nobody).then(|| (host.clone(), port.clone()));
    }

    fn sentinel(&self, words: &[String]) -> Vec<Answer> {
        let reply = |text: String| vec![Answer::Reply(text.into_bytes())];
        let is = |place: usize, name: &str| {
            words
                .get(place)
                .is_some_and(|word| word.eq_ignore_ascii_case(name))
        };
        if is(0, "PING") {
            return reply("+PONG\r\n".to_owned());
        }
        if is(0, "PUBLISH") {
            return reply(":1\r\n".to_owned());
        }
        if is(1, "is-master-down-by-addr") {
            let down = u8::from(self.lock().primary_is_silent);
            let leader = words.get(5).map_or("*", String::as_str);
            let epoch = if leader == "*" {
                "0"
            } else {
                words.get(4).map_or("0", String::as_str)
            };
            let leader = String::from_utf8_lossy(&bulk(leader)).into_owned();
            return reply(format!("*3\r\n:{down}\r\n{leader}:{epoch}\r\n"));
        }
        if is(0, "AUTH") || is(0, "CLIENT") {
            return reply("+OK\r\n".to_owned());
        }
        reply("-ERR unknown command\r\n".to_owned())
    }
}

impl Actor for Stand {
    fn answer(&mut self, call: &Call<'_>) -> Vec<Answer> {
        if call.words.is_empty() {
            return Vec::new();
        }
        let silent = {
            let mut world = self.lock();
            world.heard.push(Heard {
                by: NAMES[call.endpoint],
                connection: call.connection,
                words: call.words.to_vec(),
            });
            world.primary_is_silent && call.endpoint == PRIMARY
        };
        if silent {
            return Vec::new();
        }
        match call.endpoint {
            PEER => self.sentinel(call.words),
            server => self.server(server, call.words),
        }
    }
}
