//! Users and groups by name: `/etc/passwd` and `/etc/group`, then `getent` for those kept elsewhere.

use std::process::{Command, Stdio};

use thiserror::Error;

/// Whom a script runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::vrrp) struct Account {
    pub(in crate::vrrp) uid: u32,
    pub(in crate::vrrp) gid: u32,
}

impl Account {
    /// Whether nothing needs to be changed to be this user.
    pub(super) fn is_us(&self) -> bool {
        self.uid == rustix::process::geteuid().as_raw()
            && self.gid == rustix::process::getegid().as_raw()
    }
}

/// No such user or group. The operator's fault.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(in crate::vrrp) enum UnknownUser {
    #[error("there is no user `{0}`")]
    User(String),
    #[error("there is no group `{0}`")]
    Group(String),
}

/// The numbers of a user, in its own group unless another one is named.
///
/// # Errors
/// A name that neither the files nor `getent` know.
pub(in crate::vrrp) fn find(user: &str, group: Option<&str>) -> Result<Account, UnknownUser> {
    let entry =
        lookup("passwd", "/etc/passwd", user).ok_or_else(|| UnknownUser::User(user.to_owned()))?;
    let field = |index| {
        entry
            .split(':')
            .nth(index)
            .and_then(|text| text.parse().ok())
    };
    let (Some(uid), Some(own_gid)) = (field(2), field(3)) else {
        return Err(UnknownUser::User(user.to_owned()));
    };
    let gid = match group {
        None => own_gid,
        Some(name) => lookup("group", "/etc/group", name)
            .and_then(|entry| entry.split(':').nth(2)?.parse().ok())
            .ok_or_else(|| UnknownUser::Group(name.to_owned()))?,
    };
    Ok(Account { uid, gid })
}

fn lookup(database: &str, file: &str, name: &str) -> Option<String> {
    if name.is_empty() || name.contains([':', '\n']) {
        return None;
    }
    let text = std::fs::read_to_string(file).unwrap_or_default();
    line_of(&text, name).or_else(|| {
        let output = Command::new("getent")
            .args([database, name])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
            .ok()?;
        line_of(&String::from_utf8_lossy(&output.stdout), name)
    })
}

fn line_of(text: &str, name: &str) -> Option<String> {
    text.lines()
        .find(|line| line.split(':').next() == Some(name))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_numbers_and_unknown_ones_are_named() {
        assert_eq!(find("root", None), Ok(Account { uid: 0, gid: 0 }));
        assert_eq!(
            find("no-such-user", None),
            Err(UnknownUser::User("no-such-user".into()))
        );
        assert_eq!(
            find("root", Some("no-such-group")),
            Err(UnknownUser::Group("no-such-group".into()))
        );
        assert!(find("root:x", None).is_err());
    }
}
