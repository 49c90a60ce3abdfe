//! Users by name, from `/etc/passwd`: for programs that are started as somebody else.

use std::fs;
use std::io;

/// A user's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct User {
    /// User id.
    pub(crate) uid: u32,
    /// The user's own group.
    pub(crate) gid: u32,
}

/// Looks a user up. Directories other than the file (LDAP and the like) are not asked: a daemon that
/// decides about failover must not wait for the network to start a server.
pub(crate) fn find(name: &str) -> io::Result<Option<User>> {
    Ok(parse(&fs::read_to_string("/etc/passwd")?, name))
}

fn parse(passwd: &str, name: &str) -> Option<User> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next() != Some(name) {
            return None;
        }
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(User { uid, gid })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_the_right_line() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nredis:x:105:112::/var/lib/redis:/bin/false\n";
        assert_eq!(parse(passwd, "redis"), Some(User { uid: 105, gid: 112 }));
        assert_eq!(parse(passwd, "redi"), None);
        assert_eq!(parse("broken:x:y:z\n", "broken"), None);
    }
}
