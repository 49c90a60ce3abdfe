//! What a SENTINEL command is refused with, word for word as Redis 7.0 says it: clients compare these texts.

use tandem_resp::Value;
use thiserror::Error;

/// Longest piece of a client's own words that is said back to it, in bytes.
const ECHO_MAX: usize = 512;

/// Why a command was refused. Except for [`Self::SaveFailed`], which is this host's fault and may be repeated once the
/// disk is well, and [`Self::InProgress`], which passes by itself, all of them are the asker's.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CommandError {
    /// No such subcommand.
    #[error("ERR unknown subcommand '{0}'. Try SENTINEL HELP.")]
    UnknownSubcommand(String),
    /// Too few or too many arguments; holds the command as Redis writes it (`sentinel|master`).
    #[error("ERR wrong number of arguments for '{0}' command")]
    Arity(String),
    /// A number was expected.
    #[error("ERR value is not an integer or out of range")]
    NotANumber,
    /// The group is not monitored here.
    #[error("ERR No such master with that name")]
    NoSuchGroup,
    /// A failover of this group is under way.
    #[error("INPROG Failover already in progress")]
    InProgress,
    /// No replica can be promoted.
    #[error("NOGOODSLAVE No suitable replica to promote")]
    NoGoodReplica,
    /// Too few sentinels are alive for the quorum, the majority, or both.
    #[error("NOQUORUM {usable} usable Sentinels. {}", quorum_words(*.quorum, *.majority))]
    NoQuorum {
        /// Sentinels that are alive, this one included.
        usable: usize,
        /// They are fewer than the quorum.
        quorum: bool,
        /// They are fewer than the majority.
        majority: bool,
    },
    /// MONITOR: the quorum is not a number.
    #[error("ERR Invalid quorum")]
    QuorumNotANumber,
    /// MONITOR: the port is not a number.
    #[error("ERR Invalid port")]
    PortNotANumber,
    /// MONITOR: the quorum is less than one.
    #[error("ERR Quorum must be 1 or greater.")]
    QuorumTooSmall,
    /// MONITOR: neither an address nor a name that could be resolved.
    #[error("ERR Invalid IP address or hostname specified")]
    BadHost,
    /// MONITOR: the port is beyond 65535 or negative.
    #[error("ERR Invalid port number.")]
    PortOutOfRange,
    /// MONITOR: the name is taken.
    #[error("ERR Duplicate master name.")]
    DuplicateGroup,
    /// MONITOR: the name could not be written to a file or a hello message and read back. Redis takes such names and then
    /// fails to start, or its peers drop its hellos.
    #[error("ERR Invalid master name.")]
    BadGroupName,
    /// MONITOR: the bound of groups per process is reached.
    #[error("ERR Too many monitored masters.")]
    TooManyGroups,
    /// SET: a value that the option does not take.
    #[error("ERR Invalid argument '{value}' for SENTINEL SET '{option}'")]
    SetValue {
        /// The value.
        value: String,
        /// The option.
        option: String,
    },
    /// SET: no such option, or its values are missing.
    #[error("ERR Unknown option or number of arguments for SENTINEL SET '{0}'")]
    SetOption(String),
    /// SET: scripts may not be set at run time.
    #[error(
        "ERR Reconfiguration of scripts path is denied for security reasons. Check the deny-scripts-reconfig configuration directive in your Sentinel configuration"
    )]
    ScriptsDenied,
    /// SET: the script cannot be run.
    #[error("ERR Notification script seems non existing or non executable")]
    NotificationScript,
    /// SET: the script cannot be run.
    #[error("ERR Client reconfiguration script seems non existing or non executable")]
    ClientReconfigScript,
    /// CONFIG: neither GET nor SET, or with another number of arguments than the version knows.
    #[error("ERR Only SENTINEL CONFIG GET <option> / SET <option> <value> are supported.")]
    ConfigForm,
    /// The same in the words of 7.2, which takes several.
    #[error(
        "ERR Only SENTINEL CONFIG GET <param> [<param> <param> ...] / SET <param> <value> [<param> <value> ...] are supported."
    )]
    ConfigFormSeveral,
    /// CONFIG SET: no such setting.
    #[error("ERR Invalid argument '{0}' to SENTINEL CONFIG SET")]
    ConfigOption(String),
    /// CONFIG SET: a value that the setting does not take.
    #[error("ERR Invalid value '{value}' to SENTINEL CONFIG SET '{option}'")]
    ConfigValue {
        /// The value.
        value: String,
        /// The setting.
        option: String,
    },
    /// CONFIG SET of 7.2: the same setting twice.
    #[error("ERR Duplicate argument '{0}' to SENTINEL CONFIG SET")]
    ConfigTwice(String),
    /// CONFIG SET of 7.2: the last setting has no value.
    #[error("ERR Missing argument '{0}' value")]
    ConfigMissing(String),
    /// DEBUG: a value that is not a positive number.
    #[error("ERR Invalid argument '{value}' for SENTINEL DEBUG '{option}'")]
    DebugValue {
        /// The value.
        value: String,
        /// The period.
        option: String,
    },
    /// DEBUG: no such period, or its value is missing.
    #[error("ERR Unknown option or number of arguments for SENTINEL DEBUG '{0}'")]
    DebugOption(String),
    /// SIMULATE-FAILURE: no such failure.
    #[error("ERR Unknown failure simulation specified")]
    UnknownFailure,
    /// PUBLISH to another channel than the one for hellos.
    #[error("ERR Only HELLO messages are accepted by Sentinel instances.")]
    HelloOnly,
    /// What was changed could not be written; it holds until the process ends.
    #[error("ERR Failed to save config file. Check server logs.")]
    SaveFailed,
}

impl CommandError {
    /// The error as a reply.
    #[must_use]
    pub fn reply(&self) -> Value {
        Value::Error(self.to_string().into_bytes())
    }
}

/// Both shortages, or the one there is.
fn quorum_words(quorum: bool, majority: bool) -> String {
    let mut words = Vec::new();
    if quorum {
        words.push("Not enough available Sentinels to reach the specified quorum for this master");
    }
    if majority {
        words.push("Not enough available Sentinels to reach the majority and authorize a failover");
    }
    words.join(". ")
}

/// A client's own words, as they are said back to it in an error: as text, and not at any length.
pub(super) fn echo(word: &[u8]) -> String {
    String::from_utf8_lossy(&word[..word.len().min(ECHO_MAX)]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_of_sentinels_is_named_whole() {
        let said = |quorum, majority| {
            CommandError::NoQuorum {
                usable: 1,
                quorum,
                majority,
            }
            .to_string()
        };
        let quorum = "Not enough available Sentinels to reach the specified quorum for this master";
        let majority =
            "Not enough available Sentinels to reach the majority and authorize a failover";
        assert_eq!(
            said(true, true),
            format!("NOQUORUM 1 usable Sentinels. {quorum}. {majority}")
        );
        assert_eq!(
            said(true, false),
            format!("NOQUORUM 1 usable Sentinels. {quorum}")
        );
        assert_eq!(
            said(false, true),
            format!("NOQUORUM 1 usable Sentinels. {majority}")
        );
    }

    #[test]
    fn what_is_said_back_is_bounded() {
        assert_eq!(echo(b"abc"), "abc");
        assert_eq!(echo(&[b'x'; 4096]).len(), ECHO_MAX);
        assert_eq!(echo(b"\xff"), "\u{fffd}");
    }
}
