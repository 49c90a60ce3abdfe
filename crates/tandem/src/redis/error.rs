//! What can go wrong between us and a server, told so that the caller knows two things without reading text: whose
//! fault it is, and whether the command may have run.

use std::io;

use tandem_core::answer::AnswerClass;
use tandem_resp::FrameError;

/// A failure of a connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LinkError {
    /// Nobody listens at the port. The server's process is gone, or it is not ready yet.
    #[error("connection refused")]
    Refused,
    /// No route, or the network says that the host is not there.
    #[error("host or network unreachable")]
    Unreachable,
    /// The deadline passed. `sent`: the command was handed to the kernel before and may still run.
    #[error("timed out{}", if *.sent { " waiting for the answer" } else { " before sending" })]
    TimedOut {
        /// Whether the command may run.
        sent: bool,
    },
    /// The connection is closed: the server's process ended, or it threw us out (CLIENT KILL, `timeout`, buffer limits).
    /// No proof of death either way.
    #[error("connection closed{}", if *.sent { " before the answer" } else { "" })]
    Closed {
        /// Whether the command may have run.
        sent: bool,
    },
    /// The server works and refuses our credentials.
    #[error("not authenticated: {0:?}")]
    Auth(AnswerClass),
    /// The other side does not speak RESP, or answered what was not asked.
    #[error("protocol: {0}")]
    Protocol(ProtocolError),
    /// This host cannot: no such source address, no descriptors, no memory.
    #[error("this host: {0}")]
    Local(io::ErrorKind),
}

/// How the other side left the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProtocolError {
    /// Bytes that are no RESP.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// An answer to no question.
    #[error("an answer that nobody asked for")]
    Unasked,
    /// An answer of the wrong kind.
    #[error("an answer of an unexpected kind")]
    Kind,
}

impl LinkError {
    /// Whether the command certainly did not run, so that sending it again cannot run it twice.
    pub(crate) fn is_retry_safe(&self) -> bool {
        match self {
            Self::Refused | Self::Unreachable | Self::Auth(_) | Self::Local(_) => true,
            Self::TimedOut { sent } | Self::Closed { sent } => !sent,
            Self::Protocol(_) => false,
        }
    }

    /// The same failure as seen by a command that had not been sent.
    pub(crate) fn unsent(self) -> Self {
        match self {
            Self::TimedOut { .. } => Self::TimedOut { sent: false },
            Self::Closed { .. } => Self::Closed { sent: false },
            other @ (Self::Refused
            | Self::Unreachable
            | Self::Auth(_)
            | Self::Protocol(_)
            | Self::Local(_)) => other,
        }
    }

    /// Sorts an error of connect, read or write. What is neither the network's nor the other side's doing is ours.
    pub(crate) fn from_io(error: &io::Error, sent: bool) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown => Self::Unreachable,
            io::ErrorKind::TimedOut => Self::TimedOut { sent },
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::NotConnected
            | io::ErrorKind::UnexpectedEof => Self::Closed { sent },
            other => Self::Local(other),
        }
    }
}

impl From<FrameError> for LinkError {
    fn from(error: FrameError) -> Self {
        Self::Protocol(ProtocolError::Frame(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_not_sent_may_be_sent_again() {
        let table = [
            (LinkError::Refused, true),
            (LinkError::TimedOut { sent: false }, true),
            (LinkError::TimedOut { sent: true }, false),
            (LinkError::Closed { sent: true }, false),
            (LinkError::Protocol(ProtocolError::Unasked), false),
        ];
        for (error, safe) in table {
            assert_eq!(error.is_retry_safe(), safe, "{error}");
        }
    }
}
