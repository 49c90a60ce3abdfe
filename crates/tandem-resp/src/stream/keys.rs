//! Which key a replicated command touches first.
//!
//! A heuristic for receipts ("these keys differ"), not for routing: replicas receive commands in their effective form
//! (EVAL as its effects, SPOP as SREM), so few shapes occur. A command not in the table is taken to have its first key as
//! its first argument, which holds for most of Redis and its modules.

/// Commands of the stream that touch no key.
const KEYLESS: &[&str] = &[
    "PING", "SELECT", "REPLCONF", "MULTI", "EXEC", "PUBLISH", "SPUBLISH", "FLUSHALL", "FLUSHDB",
    "SWAPDB", "SCRIPT", "FUNCTION", "ACL", "CONFIG",
];

/// Commands whose first argument is a subcommand: the key is the second.
const KEY_SECOND: &[&str] = &["XGROUP", "BITOP", "OBJECT", "MEMORY"];

/// Commands with a count of keys as second argument: the first key is the third.
const KEY_THIRD: &[&str] = &["EVAL", "EVALSHA", "FCALL"];

/// Commands of the table are shorter than this.
const LONGEST_NAME: usize = 16;

/// The index of the first key among a command's arguments (the name is index 0), or `None` if it touches none.
#[must_use]
pub fn first_key(name: &[u8], arg_count: usize) -> Option<usize> {
    let listed = |names: &[&str]| {
        name.len() <= LONGEST_NAME
            && names
                .iter()
                .any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
    };
    let index = if listed(KEYLESS) {
        return None;
    } else if listed(KEY_SECOND) {
        2
    } else if listed(KEY_THIRD) {
        3
    } else {
        1
    };
    (index < arg_count).then_some(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let table: &[(&str, usize, Option<usize>)] = &[
            ("SET", 3, Some(1)),
            ("set", 3, Some(1)),
            ("DEL", 1, None),
            ("FLUSHALL", 2, None),
            ("flushdb", 1, None),
            ("PUBLISH", 3, None),
            ("XGROUP", 5, Some(2)),
            ("BITOP", 4, Some(2)),
            ("EVAL", 5, Some(3)),
            ("EVAL", 3, None),
            ("MY.MODULE.COMMAND.WITH.A.LONG.NAME", 2, Some(1)),
        ];
        for &(name, count, expected) in table {
            assert_eq!(
                first_key(name.as_bytes(), count),
                expected,
                "{name} {count}"
            );
        }
    }
}
