//! The owned form of a reply.

use crate::encode::{self, Protocol};
use crate::{Kind, Node};

/// A reply, owned. Attributes are dropped: no command that needs them is used here.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A status line such as `OK`.
    Simple(Vec<u8>),
    /// An error; the code is its first word.
    Error(Vec<u8>),
    /// An integer.
    Integer(i64),
    /// A string.
    Bulk(Vec<u8>),
    /// Absence, in any of its three forms.
    Null,
    /// A boolean.
    Boolean(bool),
    /// A floating-point number.
    Double(f64),
    /// An integer of any size, in decimal.
    BigNumber(Vec<u8>),
    /// Text with its three-letter format (`txt`, `mkd`) and colon.
    Verbatim(Vec<u8>),
    /// An array.
    Array(Vec<Value>),
    /// A set, in the order of the wire.
    Set(Vec<Value>),
    /// An out-of-band message.
    Push(Vec<Value>),
    /// A map, in the order of the wire.
    Map(Vec<(Value, Value)>),
}

impl Value {
    /// Copies a frame out of its buffer. `nodes` are those of a completed frame that starts at `buf[0]`; anything
    /// else gives an unspecified value, without a panic.
    #[must_use]
    pub fn from_nodes(nodes: &[Node], buf: &[u8]) -> Self {
        let mut at = 0;
        build(nodes, buf, &mut at)
    }

    /// The text of a simple, bulk or verbatim string.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Simple(text) | Self::Bulk(text) => Some(text),
            Self::Verbatim(text) => Some(text.get(4..).unwrap_or(text)),
            Self::Error(_)
            | Self::Integer(_)
            | Self::Null
            | Self::Boolean(_)
            | Self::Double(_)
            | Self::BigNumber(_)
            | Self::Array(_)
            | Self::Set(_)
            | Self::Push(_)
            | Self::Map(_) => None,
        }
    }

    /// The text, if it is UTF-8.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        self.as_bytes()
            .and_then(|text| std::str::from_utf8(text).ok())
    }

    /// The number of an integer, or of a string that is one.
    #[must_use]
    pub fn as_integer(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            other => other.as_str()?.parse().ok(),
        }
    }

    /// The members of an array, set or push.
    #[must_use]
    pub fn as_array(&self) -> Option<&[Value]> {
        match self {
            Self::Array(values) | Self::Set(values) | Self::Push(values) => Some(values),
            Self::Simple(_)
            | Self::Error(_)
            | Self::Integer(_)
            | Self::Bulk(_)
            | Self::Null
            | Self::Boolean(_)
            | Self::Double(_)
            | Self::BigNumber(_)
            | Self::Verbatim(_)
            | Self::Map(_) => None,
        }
    }

    /// The text of an error.
    #[must_use]
    pub fn as_error(&self) -> Option<&[u8]> {
        match self {
            Self::Error(text) => Some(text),
            Self::Simple(_)
            | Self::Integer(_)
            | Self::Bulk(_)
            | Self::Null
            | Self::Boolean(_)
            | Self::Double(_)
            | Self::BigNumber(_)
            | Self::Verbatim(_)
            | Self::Array(_)
            | Self::Set(_)
            | Self::Push(_)
            | Self::Map(_) => None,
        }
    }

    /// Whether this is the simple string `OK`.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        matches!(self, Self::Simple(text) if text == b"OK")
    }

    /// Appends the value as a server would send it. What RESP2 does not know takes the form that Redis gives it there: a map
    /// or set is an array, a boolean an integer, a double or big number a string.
    pub fn encode(&self, protocol: Protocol, out: &mut Vec<u8>) {
        let resp3 = protocol == Protocol::Resp3;
        match self {
            Self::Simple(text) => encode::write_simple(text, out),
            Self::Error(text) => encode::write_error(text, out),
            Self::Integer(number) => encode::write_integer(*number, out),
            Self::Bulk(text) => encode::write_bulk(text, out),
            Self::Null => encode::write_null(protocol, out),
            Self::Boolean(truth) if resp3 => {
                encode::write_line(b'#', if *truth { b"t" } else { b"f" }, out);
            }
            Self::Boolean(truth) => encode::write_integer(i64::from(*truth), out),
            Self::Double(number) if resp3 => {
                encode::write_line(b',', number.to_string().as_bytes(), out);
            }
            Self::Double(number) => encode::write_bulk(number.to_string().as_bytes(), out),
            Self::BigNumber(digits) if resp3 => encode::write_line(b'(', digits, out),
            Self::BigNumber(digits) => encode::write_bulk(digits, out),
            Self::Verbatim(text) if resp3 => {
                encode::write_length(b'=', text.len(), out);
                out.extend_from_slice(text);
                out.extend_from_slice(b"\r\n");
            }
            Self::Verbatim(text) => encode::write_bulk(text.get(4..).unwrap_or(text), out),
            Self::Array(values) => encode_all(b'*', values, protocol, out),
            Self::Set(values) => encode_all(if resp3 { b'~' } else { b'*' }, values, protocol, out),
            Self::Push(values) => {
                encode_all(if resp3 { b'>' } else { b'*' }, values, protocol, out);
            }
            Self::Map(pairs) => {
                encode::write_map_header(pairs.len(), protocol, out);
                for (key, value) in pairs {
                    key.encode(protocol, out);
                    value.encode(protocol, out);
                }
            }
        }
    }
}

fn encode_all(mark: u8, values: &[Value], protocol: Protocol, out: &mut Vec<u8>) {
    encode::write_length(mark, values.len(), out);
    for value in values {
        value.encode(protocol, out);
    }
}

/// Recursion is bounded by `max_depth`, which the parser has kept.
fn build(nodes: &[Node], buf: &[u8], at: &mut usize) -> Value {
    while let Some(node) = nodes.get(*at)
        && node.kind == Kind::Attribute
    {
        *at += node.nodes;
    }
    let Some(node) = nodes.get(*at) else {
        return Value::Null;
    };
    let end = *at + node.nodes;
    *at += 1;
    let bytes = || buf.get(node.range.clone()).unwrap_or_default().to_vec();
    let text =
        || std::str::from_utf8(buf.get(node.range.clone()).unwrap_or_default()).unwrap_or("");
    match node.kind {
        Kind::Simple => Value::Simple(bytes()),
        Kind::Error => Value::Error(bytes()),
        Kind::Integer => Value::Integer(text().parse().unwrap_or(0)),
        Kind::Bulk => Value::Bulk(bytes()),
        Kind::Null => Value::Null,
        Kind::Boolean => Value::Boolean(text() == "t"),
        Kind::Double => Value::Double(text().parse().unwrap_or(f64::NAN)),
        Kind::BigNumber => Value::BigNumber(bytes()),
        Kind::Verbatim => Value::Verbatim(bytes()),
        Kind::Array => Value::Array(members(nodes, buf, at, end)),
        Kind::Set => Value::Set(members(nodes, buf, at, end)),
        Kind::Push => Value::Push(members(nodes, buf, at, end)),
        Kind::Map => {
            let mut pairs = Vec::new();
            while *at < end {
                pairs.push((build(nodes, buf, at), build(nodes, buf, at)));
            }
            Value::Map(pairs)
        }
        // Skipped above.
        Kind::Attribute => Value::Null,
    }
}

fn members(nodes: &[Node], buf: &[u8], at: &mut usize, end: usize) -> Vec<Value> {
    let mut values = Vec::new();
    while *at < end {
        values.push(build(nodes, buf, at));
    }
    values
}
