//! Which connections replication runs over, in the server's own words.
//!
//! INFO names the hosts and not the connections: a replica's line there has the port that it listens on. `CLIENT LIST TYPE` names
//! both ends of each, from Redis 6.2 on, also of the one connection that a replica has made itself.

use std::net::SocketAddr;

use tandem_resp::{Command, Value};

use crate::linux::sockdiag::Ends;

/// Seen from the server that is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Towards {
    /// What it reads from, as a replica.
    Primary,
    /// Those that it feeds.
    Replicas,
}

impl Towards {
    /// The question.
    pub(crate) fn command(self) -> Command {
        let kind = match self {
            Self::Primary => "master",
            Self::Replicas => "replica",
        };
        Command::from_args(&["CLIENT", "LIST", "TYPE", kind])
    }
}

/// The connections named by an answer. `None` if it does not name them: an older server, or one that refuses.
pub(crate) fn named(answer: &Value) -> Option<Vec<Ends>> {
    if answer.as_error().is_some() {
        return None;
    }
    let lines = answer.as_str()?.lines().filter(|line| !line.is_empty());
    lines.map(ends).collect()
}

fn ends(line: &str) -> Option<Ends> {
    let value = |name: &str| {
        let mut words = line.split(' ').filter_map(|word| word.split_once('='));
        words.find(|(field, _)| *field == name)?.1.parse().ok()
    };
    Some(Ends {
        local: plain(value("laddr")?),
        remote: plain(value("addr")?),
    })
}

/// IPv4 on an IPv6 socket is IPv4.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(local: &str, remote: &str) -> Ends {
        Ends {
            local: local.parse().unwrap(),
            remote: remote.parse().unwrap(),
        }
    }

    #[test]
    fn lines_of_client_list() {
        let master = "id=5 addr=10.0.0.1:6379 laddr=10.0.0.2:54620 fd=8 name= age=2 idle=2 flags=M db=0 sub=0 cmd=NULL user=(superuser)";
        let one = ends("10.0.0.2:54620", "10.0.0.1:6379");
        let six = "id=3 addr=[fd00::2]:54620 laddr=[fd00::1]:7301 fd=7 name= flags=S cmd=replconf";
        let mapped =
            "id=3 addr=[::ffff:10.0.0.2]:54620 laddr=[::ffff:10.0.0.1]:6379 fd=7 name= flags=S";
        let cases = [
            (String::new(), Some(vec![])),
            ("\n".to_owned(), Some(vec![])),
            (format!("{master}\n"), Some(vec![one])),
            (
                format!("{master}\r\n{six}\n{mapped}\n"),
                Some(vec![
                    one,
                    ends("[fd00::1]:7301", "[fd00::2]:54620"),
                    ends("10.0.0.1:6379", "10.0.0.2:54620"),
                ]),
            ),
            // Redis 6.0.
            (
                "id=5 addr=10.0.0.1:6379 fd=8 name= flags=M\n".to_owned(),
                None,
            ),
            (
                "id=5 addr=/run/redis.sock:0 laddr=/run/redis.sock:0 fd=8 name= flags=S\n"
                    .to_owned(),
                None,
            ),
            (
                "id=5 addr=1.2.3.4:5 laddr=1.2.3.4:99999 fd=8\n".to_owned(),
                None,
            ),
            // A name cannot hold a space, so it cannot pass for another field.
            (
                "id=5 name=addr=9.9.9.9:9 addr=10.0.0.1:6379 laddr=10.0.0.2:54620\n".to_owned(),
                Some(vec![one]),
            ),
        ];
        for (text, expected) in cases {
            let answer = Value::Bulk(text.clone().into_bytes());
            assert_eq!(named(&answer), expected, "{text}");
        }
        let refused = "NOPERM this user has no permissions to run the 'client|list' command";
        assert_eq!(named(&Value::Error(refused.into())), None);
        assert_eq!(named(&Value::Integer(1)), None);
    }
}
