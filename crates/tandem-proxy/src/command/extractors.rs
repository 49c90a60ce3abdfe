//! The keys of commands whose key specifications are incomplete: what their parsers in Redis 7.0 take as a key.

use super::Command;
use super::args::Args;
use super::flags::WRITE;
use super::keys::{Access, KeyList};

/// `SORT key [BY pattern] [LIMIT offset count] [GET pattern]... [ASC | DESC] [ALPHA] [STORE destination]`.
///
/// A pattern with a `*` reads keys that are named by the elements of the list: anywhere. Without one, BY means not to
/// sort, and GET finds nothing but with `#` the element itself. Of several STORE the last one counts.
pub(super) fn sort<A: Args + ?Sized>(command: &Command, args: &A, found: &mut KeyList) {
    found.push(1, Access::Read);
    let may_store = command.flags.has(WRITE);
    let mut store = None;
    let mut at = 2;
    while at < args.count() {
        let option = args.arg(at);
        let left = args.count() - at - 1;
        if option.eq_ignore_ascii_case(b"limit") && left >= 2 {
            at += 2;
        } else if (option.eq_ignore_ascii_case(b"by") || option.eq_ignore_ascii_case(b"get"))
            && left >= 1
        {
            at += 1;
            if args.arg(at).contains(&b'*') {
                found.push_pattern(at);
            }
        } else if may_store && option.eq_ignore_ascii_case(b"store") && left >= 1 {
            at += 1;
            store = Some(at);
        }
        at += 1;
    }
    if let Some(at) = store {
        found.push(at, Access::Overwrite);
    }
}

/// `MIGRATE host port key|"" db timeout [COPY] [REPLACE] [AUTH password] [AUTH2 user password] [KEYS key...]`.
///
/// Either a key in the middle or some at the end. False, if both.
pub(super) fn migrate<A: Args + ?Sized>(args: &A, found: &mut KeyList) -> bool {
    let mut at = 6;
    while at < args.count() {
        let option = args.arg(at);
        if option.eq_ignore_ascii_case(b"auth") {
            at += 1;
        } else if option.eq_ignore_ascii_case(b"auth2") {
            at += 2;
        } else if option.eq_ignore_ascii_case(b"keys") {
            for key in at + 1..args.count() {
                found.push(key, Access::ReadWrite);
            }
            return args.arg(3).is_empty();
        }
        at += 1;
    }
    found.push(3, Access::ReadWrite);
    true
}

/// `GEORADIUS key longitude latitude radius unit [...] [STORE key | STOREDIST key]`, and the same by a member.
///
/// Both words may come, and the later one says where the result goes.
pub(super) fn georadius<A: Args + ?Sized>(command: &Command, args: &A, found: &mut KeyList) {
    found.push(1, Access::Read);
    let mut store = None;
    // Options begin after what both commands need, which is their arity.
    let mut at = usize::from(command.arity.unsigned_abs());
    while at + 1 < args.count() {
        let option = args.arg(at);
        if option.eq_ignore_ascii_case(b"store") || option.eq_ignore_ascii_case(b"storedist") {
            at += 1;
            store = Some(at);
        }
        at += 1;
    }
    if let Some(at) = store {
        found.push(at, Access::Overwrite);
    }
}
