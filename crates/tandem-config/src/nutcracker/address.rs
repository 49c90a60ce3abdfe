//! Addresses as twemproxy splits them: from the end, so that a host may hold colons and a path blanks.

use std::path::PathBuf;

use tandem_proxy::settings::{Address, Server};

use super::number::{mode, number};

/// libmemcached left this port out of the names that its ring is made of, in every kind of pool.
const PORT_WITHOUT_NAME: u16 = 11211;
/// glibc's getaddrinfo(3) takes a star for no name at all, and gives the loopback address for that.
const STAR: &str = "::1";
/// `sun_path` without its end.
pub(super) const UNIX_PATH_MAX: usize = 107;

/// What is wrong with an address, in words for its author.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrong {
    /// No colon where one has to be.
    ListenForm,
    ServerForm,
    Port,
    Mode,
    /// A Unix socket's path that fits into no socket address.
    PathLength,
    Weight,
    ZeroWeight,
}

impl Wrong {
    /// The sentence, and what would be right.
    pub(super) fn text(self) -> (&'static str, &'static str) {
        match self {
            Self::ListenForm => (
                "this is no address to listen on",
                "write `host:port`, or `/path/of/socket` and an octal mode after a blank",
            ),
            Self::ServerForm => (
                "this is no server",
                "write `host:port:weight`, or `/path/of/socket:weight` with a path without colons; a name may follow after a blank",
            ),
            Self::Port => (
                "this port is not a number from 1 to 65535",
                "write the port in digits: `10.0.0.1:6379`",
            ),
            Self::Mode => (
                "these permissions are no octal number up to 0777",
                "write the mode in octal digits: `/path/of/socket 0660`",
            ),
            Self::PathLength => (
                "this path is longer than a socket's address, which holds 107 bytes",
                "move the socket to a shorter path",
            ),
            Self::Weight => (
                "this weight is not a number",
                "write a weight of at least 1 in digits, then at most one name without blanks: `10.0.0.1:6379:1 alpha`",
            ),
            Self::ZeroWeight => (
                "a server's weight cannot be 0",
                "take the line out if the server shall hold no keys; otherwise at least 1",
            ),
        }
    }
}

/// An address, and what in it is not what is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Read<T> {
    pub(super) value: T,
    /// What twemproxy takes otherwise than it is written, in words.
    pub(super) taken_as: Vec<String>,
}

/// The value of `listen`: `host:port`, or `/path` and perhaps a mode.
///
/// # Errors
/// What twemproxy refuses; whether the host has an address is left to the caller.
pub(super) fn listen(text: &str) -> Result<Read<Address>, Wrong> {
    let mut taken_as = Vec::new();
    if text.starts_with('/') {
        let (path, bits) = match text.rsplit_once(' ') {
            Some((path, bits)) => {
                let (value, odd) = mode(bits).ok_or(Wrong::Mode)?;
                if odd {
                    taken_as.push(format!("the mode `{bits}` counts as {value:o}"));
                }
                (path, value)
            }
            None => (text, 0),
        };
        if path.len() > UNIX_PATH_MAX {
            return Err(Wrong::PathLength);
        }
        let value = Address::Unix {
            path: PathBuf::from(path),
            // twemproxy changes the permissions only to something.
            mode: (bits != 0).then_some(bits),
        };
        return Ok(Read { value, taken_as });
    }
    let (host, digits) = text.rsplit_once(':').ok_or(Wrong::ListenForm)?;
    let port = port(digits, &mut taken_as)?;
    let host = if host == "*" {
        taken_as.push(format!(
            "the host `*` counts as {STAR}, which only this host can reach"
        ));
        STAR
    } else {
        host
    };
    let value = Address::Tcp {
        host: host.to_owned(),
        port,
    };
    Ok(Read { value, taken_as })
}

/// One line of `servers`: `host:port:weight` or `/path:weight`, and perhaps a name.
///
/// The name is what the ring is made of: `host:port` without one, `host` alone at port 11211, and a path with the colon
/// after it.
///
/// # Errors
/// What twemproxy refuses. Hosts are not looked up: twemproxy does that when it connects.
pub(super) fn server(text: &str) -> Result<Read<Server>, Wrong> {
    let mut taken_as = Vec::new();
    let (address, name) = match text.rsplit_once(' ') {
        Some((address, name)) => (address, Some(name)),
        None => (text, None),
    };
    let (place, digits) = address.rsplit_once(':').ok_or(Wrong::ServerForm)?;
    let unix = text.starts_with('/');
    let (host, port_digits) = match place.rsplit_once(':') {
        Some((host, digits)) if !unix => (host, digits),
        None if unix => (place, ""),
        Some(_) | None => return Err(Wrong::ServerForm),
    };
    let weight = match number(digits).ok_or(Wrong::Weight)? {
        (0, _) => return Err(Wrong::ZeroWeight),
        (weight, wrapped) => {
            if wrapped {
                taken_as.push(format!("the weight `{digits}` counts as {weight}"));
            }
            weight
        }
    };
    let (address, own_name) = if unix {
        let path = PathBuf::from(host);
        (Address::Unix { path, mode: None }, format!("{host}:"))
    } else {
        let port = port(port_digits, &mut taken_as)?;
        let own_name = if port == PORT_WITHOUT_NAME {
            host
        } else {
            place
        };
        let host = host.to_owned();
        (Address::Tcp { host, port }, own_name.to_owned())
    };
    let value = Server {
        name: name.map_or(own_name, str::to_owned),
        address,
        weight,
    };
    Ok(Read { value, taken_as })
}

fn port(digits: &str, taken_as: &mut Vec<String>) -> Result<u16, Wrong> {
    let (value, wrapped) = number(digits).ok_or(Wrong::Port)?;
    match u16::try_from(value) {
        Ok(port) if port > 0 => {
            if wrapped {
                taken_as.push(format!("the port `{digits}` counts as {port}"));
            }
            Ok(port)
        }
        Ok(_) | Err(_) => Err(Wrong::Port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_the_ring_of_twemproxy_is_made_of() {
        for (line, name, weight) in [
            ("10.0.0.1:6379:1", "10.0.0.1:6379", 1),
            ("10.0.0.1:6379:3 alpha", "alpha", 3),
            ("10.0.0.1:6379:1 ", "", 1),
            ("10.0.0.1:11211:2", "10.0.0.1", 2),
            ("10.0.0.1:011211:2", "10.0.0.1", 2),
            ("::1:6379:1", "::1:6379", 1),
            (":6379:1", ":6379", 1),
            ("10.0.0.1:06379:1", "10.0.0.1:06379", 1),
            ("/run/r.sock:1", "/run/r.sock:", 1),
            ("/run/r.sock:1 r", "r", 1),
            ("/run/a b:1 r", "r", 1),
        ] {
            let read = server(line).unwrap();
            assert_eq!(
                (read.value.name.as_str(), read.value.weight),
                (name, weight),
                "{line}"
            );
            assert!(read.taken_as.is_empty(), "{line}");
        }
    }

    #[test]
    fn servers_that_twemproxy_refuses() {
        for (line, wrong) in [
            ("10.0.0.1:6379", Wrong::ServerForm),
            ("localhost", Wrong::ServerForm),
            ("10.0.0.1 :6379:1", Wrong::ServerForm),
            (" :1:1", Wrong::ServerForm),
            ("/run/r.sock", Wrong::ServerForm),
            ("/run/a:b:1", Wrong::ServerForm),
            ("/run/a b:1", Wrong::ServerForm),
            ("10.0.0.1:6379:0", Wrong::ZeroWeight),
            ("10.0.0.1:6379:4294967296", Wrong::ZeroWeight),
            ("10.0.0.1:6379:-1", Wrong::Weight),
            ("10.0.0.1:6379:1 two names", Wrong::Weight),
            ("::", Wrong::Weight),
            ("10.0.0.1:0:1", Wrong::Port),
            ("10.0.0.1:65536:1", Wrong::Port),
            ("10.0.0.1::1", Wrong::Port),
        ] {
            assert_eq!(server(line), Err(wrong), "{line}");
        }
    }

    #[test]
    fn addresses_to_listen_on() {
        let tcp = |host: &str, port| {
            Ok(Address::Tcp {
                host: host.to_owned(),
                port,
            })
        };
        let unix = |path: &str, mode| {
            Ok(Address::Unix {
                path: PathBuf::from(path),
                mode,
            })
        };
        let long = format!("/{}", "x".repeat(UNIX_PATH_MAX));
        for (text, is) in [
            ("0.0.0.0:22121", tcp("0.0.0.0", 22121)),
            ("::1:22121", tcp("::1", 22121)),
            ("*:1", tcp("::1", 1)),
            ("h:65535", tcp("h", 65535)),
            ("h:65536", Err(Wrong::Port)),
            ("h:0", Err(Wrong::Port)),
            ("h:", Err(Wrong::Port)),
            ("h", Err(Wrong::ListenForm)),
            ("/run/p.sock", unix("/run/p.sock", None)),
            ("/run/p.sock 0660", unix("/run/p.sock", Some(0o660))),
            ("/run/my p.sock 7", unix("/run/my p.sock", Some(7))),
            ("/run/p.sock x", unix("/run/p.sock", None)),
            ("/run/p.sock 1777", Err(Wrong::Mode)),
            (&long, Err(Wrong::PathLength)),
            (&long[1..], Err(Wrong::ListenForm)),
        ] {
            assert_eq!(listen(text).map(|read| read.value), is, "{text}");
        }
        assert_eq!(
            listen("h:4294989417").unwrap().taken_as,
            ["the port `4294989417` counts as 22121"]
        );
    }
}
