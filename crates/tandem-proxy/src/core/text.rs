//! What the proxy says by itself: errors first.
//!
//! Where twemproxy has a text that scripts may match, a pool of `nutcracker.yml` gets that text (the
//! `-ERR Connection refused` family is the same for all pools); everything else says what is wrong and what would be
//! right.

use super::peer::How;

/// Not authenticated; twemproxy's text has no full stop, Redis' has one.
pub(super) const NOAUTH_TWEMPROXY: &[u8] = b"-NOAUTH Authentication required\r\n";
/// As Redis says it.
pub(super) const NOAUTH: &[u8] = b"-NOAUTH Authentication required.\r\n";
/// A wrong password, in twemproxy's words.
pub(super) const BAD_PASSWORD_TWEMPROXY: &[u8] = b"-ERR invalid password\r\n";
/// A wrong password, in Redis' words.
pub(super) const BAD_PASSWORD: &[u8] =
    b"-WRONGPASS invalid username-password pair or user is disabled.\r\n";
/// AUTH where nothing is asked, in twemproxy's words.
pub(super) const NO_PASSWORD_TWEMPROXY: &[u8] =
    b"-ERR Client sent AUTH, but no password is set\r\n";
/// AUTH where nothing is asked, in Redis' words.
pub(super) const NO_PASSWORD: &[u8] =
    b"-ERR AUTH <password> called without any password configured for the default \
user. Are you sure your configuration is correct?\r\n";
/// HELLO with a version that does not exist.
pub(super) const NOPROTO: &[u8] = b"-NOPROTO unsupported protocol version\r\n";
/// HELLO from one who has not given the password.
pub(super) const HELLO_NOAUTH: &[u8] = b"-NOAUTH HELLO must be called with the client already authenticated, otherwise \
the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol \
version at the same time\r\n";
/// CLIENT SETNAME with a space.
pub(super) const BAD_NAME: &[u8] =
    b"-ERR Client names cannot contain spaces, newlines or special characters.\r\n";
/// Arguments that make no sense.
pub(super) const SYNTAX: &[u8] = b"-ERR syntax error\r\n";
/// No number where one should be.
pub(super) const NOT_INTEGER: &[u8] = b"-ERR value is not an integer or out of range\r\n";
/// A time that is none, as Redis says it.
pub(super) const TIMEOUT_NOT_INTEGER: &[u8] = b"-ERR timeout is not an integer or out of range\r\n";
/// A time before now, as Redis says it.
pub(super) const TIMEOUT_NEGATIVE: &[u8] = b"-ERR timeout is negative\r\n";
/// SELECT of another database than the pool's.
pub(super) const OTHER_DATABASE: &[u8] =
    b"-ERR SELECT: this proxy serves one database, number 0 to its clients; use \
a pool of its own for another\r\n";
/// Keys on different shards in a command that is not split.
pub(super) const CROSS_SHARD: &[u8] =
    b"-CROSSSLOT Keys in request are on different shards of this proxy and this \
command cannot be split; give them a common hash tag, or ask for each key by itself\r\n";
/// SORT that reads keys on any shard.
pub(super) const CROSS_PATTERN: &[u8] =
    b"-CROSSSLOT BY and GET of SORT read keys that may be on any shard of this proxy; \
give their patterns the hash tag of the sorted key, or sort without them\r\n";
/// More clients block, watch or subscribe than there may be connections for.
pub(super) const TOO_MANY_PINNED: &[u8] =
    b"-ERR too many clients of this proxy block, watch or subscribe at once; try \
again later\r\n";
/// A client's own connection goes somewhere else.
pub(super) const PINNED_ELSEWHERE: &[u8] =
    b"-CROSSSLOT this connection already watches keys of, or is subscribed on, \
another shard of this proxy; use a connection of its own for each\r\n";
/// Another user, database or protocol for one who watches, blocks or is subscribed.
pub(super) const PINNED_IDENTITY: &[u8] =
    b"-ERR this connection watches keys or is subscribed through the proxy; end that \
before you change its user, database or protocol\r\n";
/// More users and databases at once than there may be connections for.
pub(super) const TOO_MANY_IDENTITIES: &[u8] =
    b"-ERR too many different users and databases are in use through this proxy at once; \
try again later\r\n";
/// SELECT of a database beyond what any server can have.
pub(super) const NO_SUCH_DATABASE: &[u8] = b"-ERR DB index is out of range\r\n";
/// EXEC after one of the commands was refused.
pub(super) const EXECABORT: &[u8] =
    b"-EXECABORT Transaction discarded because of previous errors.\r\n";
/// A transaction over its bounds.
pub(super) const MULTI_TOO_LARGE: &[u8] =
    b"-ERR this transaction is too large for the proxy: 16 MiB and 65536 commands \
are the most\r\n";
/// A key over its bound.
pub(super) const KEY_TOO_LONG: &[u8] =
    b"-ERR this key is longer than the proxy lets through (max_key); it was not executed\r\n";
/// A request that cannot be passed on while it arrives, and is too large to be kept until it is whole.
pub(super) const TOO_LARGE: &[u8] =
    b"-ERR this request is too large for the proxy: 16 MiB are the most for a command with several keys, without a key, \
or inside MULTI; it was not executed\r\n";
/// One with one key that has to be whole first all the same.
pub(super) const TOO_LARGE_WHOLE: &[u8] =
    b"-ERR this request is too large for the proxy: 256 MiB are the most where it has to be whole before it is sent; \
it was not executed\r\n";
/// Too much of that at once.
pub(super) const OVER_BUDGET: &[u8] =
    b"-ERR the proxy has too many unfinished large requests; this was not executed, try again later\r\n";
/// A large reply that came before its turn when too many did.
pub(super) const REPLY_OVER_BUDGET: &[u8] =
    b"-ERR the proxy has too many large replies that wait for others; this reply was dropped\r\n";
/// A large request whose connection was lost half way.
pub(super) const NOT_SENT: &[u8] =
    b"-TANDEM-NOTSENT the connection to the server was lost before this large request was sent as a whole; it was not \
executed\r\n";
/// What is allowed with subscriptions, after the name of a command.
pub(super) const ONLY_SUBSCRIBED: &str =
    ": only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context";
/// A SCAN that began with other servers.
pub(super) const STALE_CURSOR: &[u8] =
    b"-ERR invalid cursor: the servers behind this proxy have changed since the scan \
began; begin again at 0\r\n";
/// SCAN over more servers than a cursor can name.
pub(super) const TOO_MANY_TO_SCAN: &[u8] =
    b"-ERR SCAN over more than 1024 servers is not possible through this proxy; \
scan each server itself\r\n";
/// A server whose own cursor does not fit into one that names the server, too.
pub(super) const CURSOR_TOO_LARGE: &[u8] =
    b"-ERR the cursor of one server is too large to go on with through this \
proxy; scan the servers themselves\r\n";
/// A write whose connection was lost after it was sent. The first word is one that no client library takes for an
/// invitation to try again.
pub(super) const UNKNOWN: &[u8] =
    b"-TANDEM-UNKNOWN the connection to the primary was lost after this was sent; it may \
or may not have been executed\r\n";
/// A write that too few replicas acknowledged in time. The same first word.
pub(super) const UNACKED: &[u8] =
    b"-TANDEM-UNKNOWN too few replicas have acknowledged this in time; it may or may not \
outlive a failover\r\n";
/// A write while replicas do not acknowledge, in the word of a server with min-replicas-to-write.
pub(super) const NOREPLICAS: &[u8] =
    b"-NOREPLICAS too few replicas acknowledge writes now; this was not executed\r\n";
/// Held for as long as anyone may be.
pub(super) const NO_PRIMARY: &[u8] =
    b"-TANDEM-NOPRIMARY there is no primary for these keys now; this was not executed\r\n";
/// The whole connection cannot go on.
pub(super) const CROSS_PROTOCOL: &[u8] = b"-ERR this looks like HTTP, not like Redis\r\n";

/// A wrong password, in the pool's words.
pub(super) fn bad_password(twemproxy: bool) -> &'static [u8] {
    if twemproxy {
        BAD_PASSWORD_TWEMPROXY
    } else {
        BAD_PASSWORD
    }
}

/// AUTH where nothing is asked, in the pool's words.
pub(super) fn no_password(twemproxy: bool) -> &'static [u8] {
    if twemproxy {
        NO_PASSWORD_TWEMPROXY
    } else {
        NO_PASSWORD
    }
}

/// A server that cannot be asked.
pub(super) fn unreachable(how: How) -> &'static [u8] {
    match how {
        How::Eof => b"-ERR unknown\r\n",
        How::Refused => b"-ERR Connection refused\r\n",
        How::Reset => b"-ERR Connection reset by peer\r\n",
        How::TimedOut => b"-ERR Connection timed out\r\n",
        How::Unreachable => b"-ERR No route to host\r\n",
        How::NoName => b"-ERR Host is down\r\n",
        How::Protocol | How::Failed => b"-ERR Invalid argument\r\n",
    }
}

/// `-ERR`, a prefix, a name as the client wrote it (cut and made harmless), a suffix.
pub(super) fn about(prefix: &str, name: &[u8], suffix: &str) -> Vec<u8> {
    const LONGEST: usize = 64;
    let mut text = Vec::with_capacity(prefix.len() + suffix.len() + LONGEST + 8);
    text.extend_from_slice(b"-ERR ");
    text.extend_from_slice(prefix.as_bytes());
    text.push(b'\'');
    text.extend(name.iter().take(LONGEST).map(|&byte| {
        if (0x20..0x7f).contains(&byte) {
            byte
        } else {
            b'?'
        }
    }));
    text.push(b'\'');
    text.extend_from_slice(suffix.as_bytes());
    text.extend_from_slice(b"\r\n");
    text
}
