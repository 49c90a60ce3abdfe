//! A thousand quiet groups: every endpoint answers as a healthy server that nobody uses would.
//!
//! Real servers would need gigabytes and a core of their own. What a Sentinel has to do for each is the same here: read
//! an INFO of real length every 10 s, a PONG every second, its own hellos back over its subscription, and over those of
//! the replicas once more, since a primary passes published messages on to its replicas.

use super::{Actor, Answer, Call, bulk, message};

/// Groups with so many replicas each.
const REPLICAS: usize = 2;

/// The actor of many groups. The endpoints of group `g` are `3 g` (its primary) and the two after it.
#[derive(Debug)]
pub struct Crowd {
    infos: Vec<Vec<u8>>,
}

impl Crowd {
    /// Plays `groups` groups on ports from `first_port` on, with the INFO text of a real server as the model.
    #[must_use]
    pub fn new(groups: usize, address: &str, first_port: u16, model: &str) -> Self {
        let size = REPLICAS + 1;
        let port = |endpoint: usize| usize::from(first_port) + endpoint;
        let replication = |endpoint: usize| {
            let primary = endpoint - endpoint % size;
            if endpoint == primary {
                let replicas: String = (0..REPLICAS)
                    .map(|replica| {
                        format!(
                            "slave{replica}:ip={address},port={},state=online,offset=1000,lag=0\r\n",
                            port(primary + 1 + replica)
                        )
                    })
                    .collect();
                return format!(
                    "role:master\r\nconnected_slaves:{REPLICAS}\r\n{replicas}master_repl_offset:1000\r\n"
                );
            }
            format!(
                "role:slave\r\nmaster_host:{address}\r\nmaster_port:{}\r\nmaster_link_status:up\r\n\
                 slave_repl_offset:1000\r\nslave_priority:100\r\nslave_read_only:1\r\nreplica_announced:1\r\n\
                 connected_slaves:0\r\nmaster_repl_offset:1000\r\n",
                port(primary)
            )
        };
        let infos = (0..groups * size)
            .map(|endpoint| bulk(&info(model, endpoint, &replication(endpoint))))
            .collect();
        Self { infos }
    }

    /// The ports that it plays on.
    #[must_use]
    pub fn ports(groups: usize, first_port: u16) -> Vec<u16> {
        (first_port..).take(groups * (REPLICAS + 1)).collect()
    }

    /// How many replicas each group has.
    #[must_use]
    pub fn replicas() -> usize {
        REPLICAS
    }
}

/// The model with this endpoint's run id and replication section.
fn info(model: &str, endpoint: usize, replication: &str) -> String {
    let mut text = String::with_capacity(model.len());
    let mut inside = false;
    for line in model.split("\r\n") {
        if line.starts_with("# ") {
            inside = line == "# Replication";
            if inside {
                text.push_str(&format!("{line}\r\n{replication}"));
            }
        }
        if inside {
            continue;
        }
        if line.starts_with("run_id:") {
            text.push_str(&format!("run_id:{endpoint:040x}\r\n"));
        } else {
            text.push_str(line);
            text.push_str("\r\n");
        }
    }
    text
}

impl Actor for Crowd {
    fn answer(&mut self, call: &Call<'_>) -> Vec<Answer> {
        let Some(name) = call.words.first() else {
            return Vec::new();
        };
        let reply = |bytes: &[u8]| vec![Answer::Reply(bytes.to_vec())];
        match name.to_ascii_uppercase().as_str() {
            "PING" => reply(b"+PONG\r\n"),
            "INFO" => reply(&self.infos[call.endpoint]),
            "PUBLISH" if call.words.len() == 3 => {
                let heard = message(&["message", &call.words[1], &call.words[2]]);
                let mut answers = reply(b":1\r\n");
                let group = if call.endpoint.is_multiple_of(REPLICAS + 1) {
                    call.endpoint..=call.endpoint + REPLICAS
                } else {
                    call.endpoint..=call.endpoint
                };
                answers.extend(group.map(|endpoint| Answer::Publish(endpoint, heard.clone())));
                answers
            }
            "SUBSCRIBE" if call.words.len() == 2 => {
                let mut said = message(&["subscribe", &call.words[1]]);
                // The third part of a confirmation is a number.
                said[1] = b'3';
                said.extend_from_slice(b":1\r\n");
                vec![Answer::Subscribed(said)]
            }
            _ => reply(b"+OK\r\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_endpoint_tells_its_own_part_of_the_model() {
        let model = "# Server\r\nrun_id:x\r\n\r\n# Replication\r\nrole:master\r\nconnected_slaves:0\r\n\r\n# CPU\r\n\
                     used:1\r\n";
        let mut crowd = Crowd::new(2, "10.0.0.1", 7000, model);
        let words = ["INFO".to_owned()];
        let mut told = |endpoint| {
            let answers = crowd.answer(&Call {
                endpoint,
                connection: 0,
                words: &words,
            });
            let [Answer::Reply(bytes)] = answers.as_slice() else {
                panic!("{answers:?}");
            };
            String::from_utf8(bytes.clone()).unwrap()
        };
        let primary = told(3);
        for line in [
            "slave0:ip=10.0.0.1,port=7004,",
            "slave1:ip=10.0.0.1,port=7005,",
            "run_id:0000000000000000000000000000000000000003\r\n",
            "used:1\r\n",
        ] {
            assert!(primary.contains(line), "{primary}");
        }
        assert!(!primary.contains("connected_slaves:0"), "{primary}");
        assert!(told(5).contains("master_port:7003\r\n"));
        assert_eq!(Crowd::ports(2, 7000), [7000, 7001, 7002, 7003, 7004, 7005]);
    }

    #[test]
    fn what_a_primary_is_told_its_replicas_subscribers_hear() {
        let mut crowd = Crowd::new(2, "10.0.0.1", 7000, "");
        let words = ["PUBLISH", "c", "x"].map(str::to_owned);
        let mut reached = |endpoint| {
            let call = Call {
                endpoint,
                connection: 0,
                words: &words,
            };
            crowd
                .answer(&call)
                .into_iter()
                .filter_map(|answer| match answer {
                    Answer::Publish(endpoint, _) => Some(endpoint),
                    Answer::Reply(_) | Answer::Subscribed(_) => None,
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(reached(3), [3, 4, 5]);
        assert_eq!(reached(4), [4]);
    }
}
