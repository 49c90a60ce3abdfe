//! The words with which redis-sentinel refuses a file, so that what watches for them keeps working.

use std::fmt;

/// Why the file is refused, as redis-sentinel would have put it: the first reason that it would have met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fatal {
    /// A line is to blame.
    Line {
        /// Counted from 1, in the file that holds the line. Options of the command line continue the main file's count,
        /// after one empty line, because Redis appends them to it.
        number: usize,
        /// The line without blanks around it; bytes that are no UTF-8 are replaced.
        text: String,
        /// The reason.
        reason: String,
    },
    /// The file as a whole is to blame.
    File {
        /// The reason.
        reason: String,
    },
    /// The file, or one that it includes, cannot be opened. Redis logs this instead of printing it.
    Open {
        /// The file.
        path: String,
        /// The system's words.
        reason: String,
    },
}

impl Fatal {
    /// What redis-sentinel of this version prints on standard error before it exits with 1. For [`Fatal::Open`] it is the
    /// message of the log line.
    pub fn redis_text(&self, version: &str) -> String {
        let banner = format!("\n*** FATAL CONFIG FILE ERROR (Redis {version}) ***\n");
        match self {
            Self::Line {
                number,
                text,
                reason,
            } => format!(
                "{banner}Reading the configuration file, at line {number}\n>>> '{text}'\n{reason}\n"
            ),
            Self::File { reason } => format!("{banner}{reason}\n"),
            Self::Open { .. } => format!("{self}\n"),
        }
    }
}

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line {
                number,
                text,
                reason,
            } => write!(f, "line {number}: '{text}': {reason}"),
            Self::File { reason } => f.write_str(reason),
            Self::Open { path, reason } => {
                write!(f, "Fatal error, can't open config file '{path}': {reason}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_what_redis_prints() {
        let line = Fatal::Line {
            number: 3,
            text: "sentinel monitor m 10.0.0.1 6379 0".into(),
            reason: "Quorum must be 1 or greater.".into(),
        };
        assert_eq!(
            line.redis_text("7.0.15"),
            "\n*** FATAL CONFIG FILE ERROR (Redis 7.0.15) ***\n\
             Reading the configuration file, at line 3\n\
             >>> 'sentinel monitor m 10.0.0.1 6379 0'\n\
             Quorum must be 1 or greater.\n"
        );
        let open = Fatal::Open {
            path: "/etc/x.conf".into(),
            reason: "No such file or directory".into(),
        };
        assert_eq!(
            open.redis_text("7.0.15"),
            "Fatal error, can't open config file '/etc/x.conf': No such file or directory\n"
        );
    }
}
