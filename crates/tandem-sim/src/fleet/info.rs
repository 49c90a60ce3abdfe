//! What a simulated server answers to INFO: the lines that a sentinel reads.

use std::fmt::Write as _;

use super::world::{Fleet, server_endpoint};
use crate::chance::{SEC, Us};
use crate::redis::Link;

impl Fleet {
    pub(super) fn info(&self, s: usize) -> String {
        let now = self.now;
        let srv = &self.servers[s];
        let mut text = String::with_capacity(700);
        let Some(proc) = &srv.redis.proc else {
            return text;
        };
        let full = matches!(proc.link, Link::Full { .. });
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "# Server\r\nredis_version:7.0.15\r\nrun_id:{:040x}\r\nloading:{}\r\n# Replication\r\n",
            proc.run,
            u8::from(proc.is_loading(now))
        );
        match srv.of {
            None => {
                text.push_str("role:master\r\n");
                for (index, r) in self.replicas_of(s).into_iter().enumerate() {
                    let at = server_endpoint(r);
                    let replica = self.servers[r].redis.proc.as_ref();
                    let online = replica.is_some_and(|p| p.link_up());
                    let state = if online { "online" } else { "wait_bgsave" };
                    let offset = if online {
                        replica.map_or(0, |p| p.offset)
                    } else {
                        0
                    };
                    let _ = write!(
                        text,
                        "slave{index}:ip={},port={},state={state},offset={offset},lag=0\r\n",
                        at.host, at.port
                    );
                }
            }
            Some(of) => {
                let at = server_endpoint(of);
                let up = proc.link_up();
                let _ = write!(
                    text,
                    "role:slave\r\nmaster_host:{}\r\nmaster_port:{}\r\nmaster_link_status:{}\r\n\
                     master_sync_in_progress:{}\r\nslave_repl_offset:{}\r\n",
                    at.host,
                    at.port,
                    if up { "up" } else { "down" },
                    u8::from(full),
                    proc.offset
                );
                if !up {
                    match srv.down_since.filter(|_| srv.linked) {
                        Some(since) => {
                            let seconds: Us = now.saturating_sub(since) / SEC;
                            let _ = write!(text, "master_link_down_since_seconds:{seconds}\r\n");
                        }
                        None => text.push_str("master_link_down_since_seconds:-1\r\n"),
                    }
                }
                let _ = write!(
                    text,
                    "slave_priority:{}\r\nslave_read_only:1\r\nreplica_announced:1\r\n",
                    srv.priority
                );
            }
        }
        let second = if proc.second == 0 {
            "-1".to_owned()
        } else {
            proc.second.to_string()
        };
        let _ = write!(
            text,
            "master_replid:{:040x}\r\nmaster_replid2:{:040x}\r\nmaster_repl_offset:{}\r\n\
             second_repl_offset:{second}\r\n# Keyspace\r\n",
            proc.replid, proc.replid2, proc.offset
        );
        let keys = proc.data.len();
        if keys > 0 {
            let _ = write!(text, "db0:keys={keys},expires=0,avg_ttl=0\r\n");
        }
        text
    }
}
