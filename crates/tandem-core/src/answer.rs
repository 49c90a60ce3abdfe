//! Answers are classes, not yes or no: what a reply says about the server that gave it.
//!
//! This module reads the first word of an error line, which is Redis' error code, and nothing else. What follows from a
//! class (a grace, an alarm, a failover) is decided elsewhere. Every class here is an answer: the process runs and
//! its event loop turns. Silence and a closed connection are not answers and have no class.
//!
//! The one surprising thing: to be refused is to be alive. NOAUTH, WRONGPASS and NOPERM say that the server works
//! and that we cannot manage it, which is an alarm and never a reason for a failover.

/// What an answer says about the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AnswerClass {
    /// It does what it is asked.
    Fine,
    /// It reads its data from disk (`LOADING`); later it will be fine.
    Loading,
    /// A script or function runs too long (`BUSY`, `UNKILLABLE`): commands, a fence among them, do not run.
    Busy,
    /// It cannot persist and therefore refuses writes (`MISCONF`): a disk is full or broken. Sick after a grace.
    Misconf,
    /// It asks for a password that we did not give (`NOAUTH`).
    NoAuth,
    /// It refuses the password or user that we gave (`WRONGPASS`).
    WrongPass,
    /// It lets us in and refuses the command (`NOPERM`).
    NoPerm,
    /// It is a replica and refuses a write (`READONLY`).
    ReadOnly,
    /// It refuses a write for want of replicas (`NOREPLICAS`).
    NoReplicas,
    /// Any other error; the text is for people.
    OtherError,
}

impl AnswerClass {
    /// The class of an error reply, whose text is given without the leading `-`.
    #[must_use]
    pub fn of_error(line: &[u8]) -> Self {
        let code = line.split(|byte| *byte == b' ').next().unwrap_or_default();
        match code {
            b"LOADING" => Self::Loading,
            b"BUSY" | b"UNKILLABLE" => Self::Busy,
            b"MISCONF" => Self::Misconf,
            b"NOAUTH" => Self::NoAuth,
            b"WRONGPASS" => Self::WrongPass,
            b"NOPERM" => Self::NoPerm,
            b"READONLY" => Self::ReadOnly,
            b"NOREPLICAS" => Self::NoReplicas,
            // AUTH with the password of a server before 6.0, and AUTH to a server that has none.
            b"ERR" if line.starts_with(b"ERR invalid password") => Self::WrongPass,
            b"ERR" if line.starts_with(b"ERR operation not permitted") => Self::NoAuth,
            _ => Self::OtherError,
        }
    }

    /// Whether the server works but will not obey us: an operator must mend the credentials.
    #[must_use]
    pub fn is_unmanageable(self) -> bool {
        match self {
            Self::NoAuth | Self::WrongPass | Self::NoPerm => true,
            Self::Fine
            | Self::Loading
            | Self::Busy
            | Self::Misconf
            | Self::ReadOnly
            | Self::NoReplicas
            | Self::OtherError => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_of_real_error_lines() {
        let table: &[(&str, AnswerClass)] = &[
            (
                "LOADING Redis is loading the dataset in memory",
                AnswerClass::Loading,
            ),
            (
                "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
                AnswerClass::Busy,
            ),
            (
                "UNKILLABLE Sorry the script already executed write commands against the dataset.",
                AnswerClass::Busy,
            ),
            (
                "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
                AnswerClass::Misconf,
            ),
            ("NOAUTH Authentication required.", AnswerClass::NoAuth),
            (
                "WRONGPASS invalid username-password pair or user is disabled.",
                AnswerClass::WrongPass,
            ),
            ("ERR invalid password", AnswerClass::WrongPass),
            (
                "NOPERM this user has no permissions to run the 'replicaof' command",
                AnswerClass::NoPerm,
            ),
            (
                "READONLY You can't write against a read only replica.",
                AnswerClass::ReadOnly,
            ),
            (
                "NOREPLICAS Not enough good replicas to write.",
                AnswerClass::NoReplicas,
            ),
            ("ERR unknown command 'x'", AnswerClass::OtherError),
            (
                "BUSYGROUP Consumer Group name already exists",
                AnswerClass::OtherError,
            ),
            (
                "BUSYKEY Target key name already exists.",
                AnswerClass::OtherError,
            ),
            ("", AnswerClass::OtherError),
        ];
        for (line, class) in table {
            assert_eq!(AnswerClass::of_error(line.as_bytes()), *class, "{line}");
        }
    }

    #[test]
    fn only_refusals_are_unmanageable() {
        assert!(AnswerClass::NoPerm.is_unmanageable());
        assert!(!AnswerClass::Misconf.is_unmanageable());
    }
}
