//! SCAN over several servers: one after the other, with a cursor that says where it is.
//!
//! ```text
//!  bit 52       46 45        36 35                                   0
//!     | topology  |  server    |  the server's own cursor            |
//! ```
//! 53 bits, because clients keep cursors in doubles. The topology counter changes when servers do: an old cursor is
//! then an error and never a silent gap.

use super::intake::Taken;
use super::split::Join;
use super::{Core, text};
use crate::frame::Request;

const CURSOR_BITS: u32 = 36;
const SERVER_BITS: u32 = 10;
const TOPOLOGY_BITS: u32 = 7;

/// A client's cursor, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cursor {
    topology: u64,
    server: u64,
    own: u64,
}

impl Cursor {
    fn parse(text: &[u8]) -> Option<Self> {
        let all: u64 = std::str::from_utf8(text).ok()?.parse().ok()?;
        if all >> (CURSOR_BITS + SERVER_BITS + TOPOLOGY_BITS) != 0 {
            return None;
        }
        Some(Self {
            topology: all >> (CURSOR_BITS + SERVER_BITS),
            server: all >> CURSOR_BITS & ((1 << SERVER_BITS) - 1),
            own: all & ((1 << CURSOR_BITS) - 1),
        })
    }

    fn number(self) -> u64 {
        self.topology << (CURSOR_BITS + SERVER_BITS) | self.server << CURSOR_BITS | self.own
    }
}

/// Where a scan is: what a server's reply has to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    topology: u64,
    /// The counter for the next server.
    after: u64,
    server: u64,
    /// The next server; none: this is the last.
    next: Option<u64>,
}

impl Core {
    /// One step of a SCAN: asked of the server that the cursor names.
    pub(super) fn scan(&mut self, index: u32, request: &Request<'_>) -> Taken {
        let client = &self.desk.clients[index as usize];
        let pool = &self.pools[client.pool as usize];
        let servers = pool.setup.settings.servers.len() as u64;
        if servers == 1 {
            return self.forward(index, 0, request.bytes());
        }
        if servers > 1 << SERVER_BITS {
            self.desk.say(index, text::TOO_MANY_TO_SCAN);
            return Taken::Yes;
        }
        // A cursor means something to one server only: the next primary keeps the same keys in another order. Never 0, so
        // that only a first cursor is 0.
        let topology = |server: u64| {
            let epoch = match pool.groups.get(server as usize) {
                Some(Some(known)) => known.group.rank.epoch,
                Some(None) | None => 0,
            };
            (u64::from(client.pool) + pool.version + epoch) % ((1 << TOPOLOGY_BITS) - 1) + 1
        };
        let Some(cursor) = request.argument(1).and_then(Cursor::parse) else {
            self.desk.say(index, b"-ERR invalid cursor\r\n");
            return Taken::Yes;
        };
        let mut cursor = cursor;
        let begins = cursor.number() == 0;
        let stale = |cursor: Cursor| cursor.topology != topology(cursor.server);
        if !begins && (cursor.server >= servers || stale(cursor)) {
            self.desk.say(index, text::STALE_CURSOR);
            return Taken::Yes;
        }
        if begins {
            cursor.server = self.server_after(client.pool, None).unwrap_or_default();
        }
        let next = self.server_after(client.pool, Some(cursor.server));
        let own = cursor.own.to_string();
        let words: Vec<&[u8]> = request
            .arguments()
            .enumerate()
            .map(|(at, argument)| {
                if at == 1 {
                    own.as_bytes()
                } else {
                    argument.value
                }
            })
            .collect();
        let mut part = self.desk.spare.take();
        tandem_resp::encode_command(&words, &mut part);
        let step = Step {
            topology: topology(cursor.server),
            after: next.map_or(0, topology),
            server: cursor.server,
            next,
        };
        let taken = self.send_part(index, cursor.server as u32, Join::Scan(step), &part);
        self.desk.spare.give(part);
        taken
    }
}

impl Step {
    /// The client's reply for that of the server. None: it is no reply to SCAN, or its cursor is too large.
    pub(super) fn merge(self, reply: &[u8], merged: &mut Vec<u8>) -> Option<()> {
        let rest = reply.strip_prefix(b"*2\r\n$")?;
        let head = rest.iter().position(|&byte| byte == b'\n')? + 1;
        let len = rest[head..].iter().position(|&byte| byte == b'\r')?;
        let own: u64 = std::str::from_utf8(&rest[head..head + len])
            .ok()?
            .parse()
            .ok()?;
        if own >> CURSOR_BITS != 0 {
            return None;
        }
        let Self {
            topology,
            after,
            server,
            ..
        } = self;
        let next = match (own, self.next) {
            (0, None) => 0,
            (0, Some(server)) => Cursor {
                topology: after,
                server,
                own: 0,
            }
            .number(),
            (own, _) => Cursor {
                topology,
                server,
                own,
            }
            .number(),
        };
        merged.extend_from_slice(b"*2\r\n");
        tandem_resp::write_bulk(next.to_string().as_bytes(), merged);
        merged.extend_from_slice(rest.get(head + len + 2..)?);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_fit_a_double_and_come_apart_as_they_were_put_together() {
        let largest = Cursor {
            topology: 127,
            server: 1023,
            own: (1 << CURSOR_BITS) - 1,
        };
        assert_eq!(largest.number(), (1 << 53) - 1);
        for cursor in [
            largest,
            Cursor {
                topology: 1,
                server: 0,
                own: 0,
            },
            Cursor {
                topology: 3,
                server: 2,
                own: 77,
            },
        ] {
            assert_eq!(
                Cursor::parse(cursor.number().to_string().as_bytes()),
                Some(cursor)
            );
        }
        assert_eq!(Cursor::parse(b"9007199254740992"), None);
    }

    #[test]
    fn a_servers_cursor_leads_to_the_next_step() {
        for (server, own, next) in [
            (
                0,
                "17",
                Cursor {
                    topology: 1,
                    server: 0,
                    own: 17,
                }
                .number(),
            ),
            (
                0,
                "0",
                Cursor {
                    topology: 1,
                    server: 1,
                    own: 0,
                }
                .number(),
            ),
            (1, "0", 0),
        ] {
            let step = Step {
                topology: 1,
                after: 1,
                server,
                next: (server == 0).then_some(1),
            };
            let reply = format!("*2\r\n${}\r\n{own}\r\n*1\r\n$1\r\na\r\n", own.len());
            let mut merged = Vec::new();
            step.merge(reply.as_bytes(), &mut merged).unwrap();
            let next = next.to_string();
            let expected = format!("*2\r\n${}\r\n{next}\r\n*1\r\n$1\r\na\r\n", next.len());
            assert_eq!(merged, expected.into_bytes());
        }
        let step = Step {
            topology: 1,
            after: 1,
            server: 0,
            next: Some(1),
        };
        let too_large = b"*2\r\n$12\r\n999999999999\r\n*0\r\n";
        assert_eq!(step.merge(too_large, &mut Vec::new()), None);
    }
}
