//! Writing RESP: commands as a client sends them, replies as a server does.

/// Which protocol a client asked for with HELLO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Maps become flat arrays, null is `$-1`.
    Resp2,
    /// Maps, sets, booleans, doubles and pushes are themselves.
    Resp3,
}

/// A command and its arguments, owned.
#[derive(Clone, PartialEq, Eq)]
pub struct Command {
    args: Vec<Vec<u8>>,
}

impl Command {
    /// A command by its name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            args: vec![name.as_bytes().to_vec()],
        }
    }

    /// From complete arguments, the name first.
    #[must_use]
    pub fn from_args<A: AsRef<[u8]>>(args: &[A]) -> Self {
        Self {
            args: args.iter().map(|arg| arg.as_ref().to_vec()).collect(),
        }
    }

    /// Appends an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<[u8]>) -> Self {
        self.args.push(arg.as_ref().to_vec());
        self
    }

    /// Appends a number in decimal.
    #[must_use]
    pub fn number(self, number: impl Into<i128>) -> Self {
        self.arg(number.into().to_string())
    }

    /// The arguments, the name first.
    #[must_use]
    pub fn args(&self) -> &[Vec<u8>] {
        &self.args
    }

    /// Appends the command's bytes to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        encode_command(&self.args, out);
    }
}

/// Shows the name and the number of arguments only: the others may be passwords or users' data.
impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = self.args.first().map_or(&b""[..], |name| name);
        write!(
            f,
            "Command({}, {} args)",
            name.escape_ascii(),
            self.args.len()
        )
    }
}

/// Appends a command as an array of bulk strings.
pub fn encode_command<A: AsRef<[u8]>>(args: &[A], out: &mut Vec<u8>) {
    write_array_header(args.len(), out);
    for arg in args {
        write_bulk(arg.as_ref(), out);
    }
}

/// Appends a simple string. Line ends inside become spaces: a reply must not be able to forge another.
pub fn write_simple(text: &[u8], out: &mut Vec<u8>) {
    write_line(b'+', text, out);
}

/// Appends an error; the first word is its code. Line ends inside become spaces.
pub fn write_error(text: &[u8], out: &mut Vec<u8>) {
    write_line(b'-', text, out);
}

/// Appends an integer.
pub fn write_integer(number: i64, out: &mut Vec<u8>) {
    write_line(b':', number.to_string().as_bytes(), out);
}

/// Appends a bulk string.
pub fn write_bulk(bytes: &[u8], out: &mut Vec<u8>) {
    write_length(b'$', bytes.len(), out);
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// Appends the null of the protocol: `$-1` or `_`.
pub fn write_null(protocol: Protocol, out: &mut Vec<u8>) {
    out.extend_from_slice(match protocol {
        Protocol::Resp2 => b"$-1\r\n",
        Protocol::Resp3 => b"_\r\n",
    });
}

/// Appends the null that stands where an array was asked for: `*-1` in RESP2, `_` in RESP3.
pub fn write_null_array(protocol: Protocol, out: &mut Vec<u8>) {
    out.extend_from_slice(match protocol {
        Protocol::Resp2 => b"*-1\r\n",
        Protocol::Resp3 => b"_\r\n",
    });
}

/// Appends the header of an array; its values follow.
pub fn write_array_header(values: usize, out: &mut Vec<u8>) {
    write_length(b'*', values, out);
}

/// Appends the header of a map; `pairs` keys, each followed by its value, follow. A flat array in RESP2.
pub fn write_map_header(pairs: usize, protocol: Protocol, out: &mut Vec<u8>) {
    match protocol {
        Protocol::Resp2 => write_length(b'*', pairs * 2, out),
        Protocol::Resp3 => write_length(b'%', pairs, out),
    }
}

/// Appends the header of an out-of-band push; an array in RESP2.
pub fn write_push_header(values: usize, protocol: Protocol, out: &mut Vec<u8>) {
    let mark = match protocol {
        Protocol::Resp2 => b'*',
        Protocol::Resp3 => b'>',
    };
    write_length(mark, values, out);
}

pub(crate) fn write_length(mark: u8, length: usize, out: &mut Vec<u8>) {
    out.push(mark);
    out.extend_from_slice(length.to_string().as_bytes());
    out.extend_from_slice(b"\r\n");
}

pub(crate) fn write_line(mark: u8, text: &[u8], out: &mut Vec<u8>) {
    out.push(mark);
    out.extend(text.iter().map(|&byte| match byte {
        b'\r' | b'\n' => b' ',
        other => other,
    }));
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn wire_forms() {
        let set = Command::new("SET").arg("k").number(-7);
        assert_eq!(
            written(|out| set.encode(out)),
            "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\n-7\r\n"
        );
        assert_eq!(written(|out| write_simple(b"OK", out)), "+OK\r\n");
        assert_eq!(
            written(|out| write_integer(i64::MIN, out)),
            format!(":{}\r\n", i64::MIN)
        );
        assert_eq!(written(|out| write_bulk(b"", out)), "$0\r\n\r\n");
        assert_eq!(written(|out| write_null(Protocol::Resp2, out)), "$-1\r\n");
        assert_eq!(written(|out| write_null(Protocol::Resp3, out)), "_\r\n");
        assert_eq!(
            written(|out| write_null_array(Protocol::Resp2, out)),
            "*-1\r\n"
        );
        assert_eq!(
            written(|out| write_map_header(2, Protocol::Resp2, out)),
            "*4\r\n"
        );
        assert_eq!(
            written(|out| write_map_header(2, Protocol::Resp3, out)),
            "%2\r\n"
        );
        assert_eq!(
            written(|out| write_push_header(3, Protocol::Resp2, out)),
            "*3\r\n"
        );
    }

    #[test]
    fn an_error_text_cannot_forge_a_second_reply() {
        assert_eq!(
            written(|out| write_error(b"ERR x\r\n+OK", out)),
            "-ERR x  +OK\r\n"
        );
    }

    #[test]
    fn debug_hides_arguments() {
        let auth = Command::new("AUTH").arg("secret");
        assert_eq!(format!("{auth:?}"), "Command(AUTH, 2 args)");
    }
}
