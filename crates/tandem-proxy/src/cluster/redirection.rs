//! What a node says that is not the one to ask: `-MOVED 3999 10.0.0.2:7001` and `-ASK 3999 10.0.0.2:7001`.

/// A word that a request was not executed, and where it should be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Redirection<'r> {
    /// Only this request, after ASKING: the slot itself has not moved.
    pub ask: bool,
    /// The slot of its keys.
    pub slot: u16,
    /// None: the host that was asked.
    pub host: Option<&'r str>,
    /// The port there.
    pub port: u16,
}

impl<'r> Redirection<'r> {
    /// Reads an error with its line end. None: it is another one.
    #[must_use]
    pub fn read(reply: &'r [u8]) -> Option<Self> {
        let (ask, rest) = match reply.strip_prefix(b"-MOVED ") {
            Some(rest) => (false, rest),
            None => (true, reply.strip_prefix(b"-ASK ")?),
        };
        let rest = std::str::from_utf8(rest.strip_suffix(b"\r\n")?).ok()?;
        let (slot, at) = rest.split_once(' ')?;
        let (host, port) = at.rsplit_once(':')?;
        Some(Self {
            ask,
            slot: slot.parse().ok()?,
            // `?`: it should have a name and has none, and the address is a secret.
            host: (!host.is_empty() && host != "?").then_some(host),
            port: port.parse().ok().filter(|&port| port != 0)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_words_and_all_kinds_of_places() {
        let moved = |host, port| {
            Some(Redirection {
                ask: false,
                slot: 3999,
                host,
                port,
            })
        };
        for (reply, read) in [
            (
                &b"-MOVED 3999 10.0.0.2:7001\r\n"[..],
                moved(Some("10.0.0.2"), 7001),
            ),
            (
                b"-MOVED 3999 node-2.example:7001\r\n",
                moved(Some("node-2.example"), 7001),
            ),
            (b"-MOVED 3999 ::1:7001\r\n", moved(Some("::1"), 7001)),
            (b"-MOVED 3999 :7001\r\n", moved(None, 7001)),
            (b"-MOVED 3999 ?:7001\r\n", moved(None, 7001)),
            (b"-MOVED 3999 10.0.0.2:0\r\n", None),
            (b"-MOVED 3999\r\n", None),
            (b"-MOVED 99999 10.0.0.2:7001\r\n", None),
            (b"-MOVEDX 3999 10.0.0.2:7001\r\n", None),
            (b"-ERR MOVED 3999 10.0.0.2:7001\r\n", None),
        ] {
            assert_eq!(
                Redirection::read(reply),
                read,
                "{}",
                String::from_utf8_lossy(reply)
            );
        }
        let ask = Redirection::read(b"-ASK 1 10.0.0.2:7001\r\n");
        assert!(ask.is_some_and(|ask| ask.ask && ask.slot == 1));
    }
}
