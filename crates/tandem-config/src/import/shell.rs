//! What does a notify or check script really do?
//!
//! Not a shell: a reader that recognises the few commands which such scripts consist of (redis-cli asking or changing a role,
//! sleep, log lines, tests of an answer) and calls everything else the operator's own. When in doubt, it is the operator's.

use std::net::IpAddr;
use std::path::Path;

use crate::keepalived::{Files, Script};

/// What a script is good for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Purpose {
    /// A line that does something of its own; none if all is understood.
    pub(super) own: Option<String>,
    /// It changes a server's role.
    pub(super) changes_role: bool,
    /// It asks a server how it is.
    pub(super) asks: bool,
    /// It waits, in whole seconds.
    pub(super) sleeps: Option<u64>,
    /// A password stands in the script or in its arguments.
    pub(super) password: bool,
    /// The address that it makes the local server a replica of.
    pub(super) primary: Option<IpAddr>,
    /// The port that redis-cli is told.
    pub(super) port: Option<u16>,
}

/// Words after which a command follows on the same line.
const BEFORE_COMMAND: &[&str] = &["if", "then", "else", "elif", "!", "do", "time", "exec"];
/// Commands without an effect beyond the script and its log.
const HARMLESS: &[&str] = &[
    "", "fi", "done", "[", "[[", "test", "echo", "printf", "date", "exit", "return", "true",
    "false", ":", "logger", "grep", "cat", "head", "tail", "awk", "cut", "tr", "wc", "hostname",
    "set", "export",
];
/// Commands of redis-cli that only ask.
const ASKING: &[&str] = &[
    "ping", "info", "role", "dbsize", "lastsave", "auth", "select",
];

/// What the command of `script` does, as far as its text can be read.
pub(super) fn purpose(script: &Script, files: &dyn Files) -> Purpose {
    let mut purpose = Purpose::default();
    let program = script.argv.first().map(String::as_str).unwrap_or_default();
    if is_redis_cli(program) {
        redis_cli(&script.argv[1..], &[], &mut purpose);
        return purpose;
    }
    let Ok(bytes) = files.read(Path::new(program)) else {
        purpose.own = Some(format!("{program} (cannot be read)"));
        // What an argument is to a script nobody can read is unknown: it may be a password, and none is
        // written into the new file.
        purpose.password = script.argv.len() > 1;
        return purpose;
    };
    let text = String::from_utf8_lossy(&bytes);
    if bytes.contains(&0) {
        purpose.own = Some(format!("{program} (a program, not a script)"));
        return purpose;
    }
    for line in text.lines() {
        let line = line.trim();
        if line.starts_with('#') {
            continue;
        }
        for command in commands(line) {
            one(&command, &script.argv, line, &mut purpose);
        }
    }
    purpose
}

fn is_redis_cli(program: &str) -> bool {
    let name = program.rsplit('/').next().unwrap_or_default();
    matches!(name, "redis-cli" | "valkey-cli")
}

/// The commands of a line: cut at `;`, `|`, `&` outside quotes, with what stands in `$( )` and backquotes as commands of their own.
fn commands(line: &str) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    let mut outer = String::new();
    let mut rest = line;
    // Substitutions first: they run inside double quotes as well.
    while let Some(at) = rest.find(['`', '$']) {
        let (before, from) = rest.split_at(at);
        outer.push_str(before);
        let inner = from
            .strip_prefix('`')
            .and_then(|body| body.split_once('`'))
            .or_else(|| {
                from.strip_prefix("$(")
                    .and_then(|body| body.split_once(')'))
            });
        match inner {
            Some((inner, after)) => {
                all.extend(pieces(inner));
                outer.push_str("SUBSTITUTED");
                rest = after;
            }
            None => {
                let mut body = from.chars();
                outer.extend(body.next());
                rest = body.as_str();
            }
        }
    }
    outer.push_str(rest);
    all.extend(pieces(&outer));
    all
}

/// Words of the commands of a line without substitutions; redirections are dropped.
fn pieces(line: &str) -> Vec<Vec<String>> {
    let mut all = vec![Vec::new()];
    let mut word = String::new();
    let mut quote: Option<char> = None;
    let end_word = |word: &mut String, all: &mut Vec<Vec<String>>| {
        if !word.is_empty()
            && let Some(words) = all.last_mut()
        {
            words.push(std::mem::take(word));
        }
    };
    let input = line.chars().peekable();
    for c in input {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None, '#') if word.is_empty() => break,
            // `2>&1` is no separator.
            (None, '&') if word.ends_with('>') => word.push(c),
            (None, ';' | '|' | '&' | '\n') => {
                end_word(&mut word, &mut all);
                all.push(Vec::new());
            }
            (None, c) if c.is_whitespace() => {
                // `>> FILE` is one redirection.
                if !word.ends_with(['>', '<']) {
                    end_word(&mut word, &mut all);
                }
            }
            (_, c) => word.push(c),
        }
    }
    end_word(&mut word, &mut all);
    for words in &mut all {
        words.retain(|word| {
            let head = word.trim_start_matches(|c: char| c.is_ascii_digit());
            !head.starts_with('>') && !head.starts_with("<<<")
        });
    }
    all
}

fn one(words: &[String], argv: &[String], line: &str, purpose: &mut Purpose) {
    let mut words = words;
    while let [first, rest @ ..] = words {
        let assigns = first.split_once('=').is_some_and(|(name, _)| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        });
        if assigns {
            purpose.password |= first.starts_with("REDISCLI_AUTH=");
        } else if !BEFORE_COMMAND.contains(&first.as_str()) {
            break;
        }
        words = rest;
    }
    let [command, args @ ..] = words else { return };
    let name = command.rsplit('/').next().unwrap_or_default();
    if is_redis_cli(command) {
        redis_cli(args, argv, purpose);
    } else if name == "sleep" {
        let seconds = args
            .first()
            .map_or(Some(0), |word| resolve(word, argv).parse().ok());
        purpose.sleeps = purpose.sleeps.max(seconds);
    } else if !HARMLESS.contains(&name) {
        purpose.own.get_or_insert_with(|| line.to_owned());
    }
}

/// `$1` as the argument that the configuration gives.
fn resolve(word: &str, argv: &[String]) -> String {
    word.trim_matches(['{', '}'])
        .strip_prefix('$')
        .map(|name| name.trim_matches(['{', '}']))
        .and_then(|digits| digits.parse::<usize>().ok())
        .and_then(|index| argv.get(index))
        .map_or_else(|| word.to_owned(), Clone::clone)
}

fn redis_cli(args: &[String], argv: &[String], purpose: &mut Purpose) {
    let mut words = args.iter().map(|word| resolve(word, argv));
    while let Some(word) = words.next() {
        match word.as_str() {
            "-a" | "--pass" => {
                purpose.password = true;
                words.next();
            }
            "-p" => {
                purpose.port = words
                    .next()
                    .and_then(|port| port.parse().ok())
                    .or(purpose.port);
            }
            "-h" | "-n" | "-t" | "--user" | "-s" => {
                words.next();
            }
            option if option.starts_with('-') => {}
            command => {
                let command = command.to_ascii_lowercase();
                if matches!(command.as_str(), "replicaof" | "slaveof") {
                    purpose.changes_role = true;
                    purpose.primary = words
                        .next()
                        .and_then(|word| word.parse().ok())
                        .or(purpose.primary);
                } else if ASKING.contains(&command.as_str()) {
                    purpose.asks = true;
                } else {
                    purpose
                        .own
                        .get_or_insert_with(|| format!("redis-cli {command}"));
                }
                return;
            }
        }
    }
    // Without a command redis-cli reads its standard input, which is not looked at.
    purpose
        .own
        .get_or_insert_with(|| "redis-cli with commands from elsewhere".to_owned());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::{Sources, Span};
    use crate::keepalived::MapFiles;

    fn of(text: &str, args: &[&str]) -> Purpose {
        let mut sources = Sources::default();
        let at = Span::new(sources.add("x", ""), 0, 0);
        let argv = std::iter::once("/s")
            .chain(args.iter().copied())
            .map(str::to_owned)
            .collect();
        let script = Script {
            argv,
            user: None,
            group: None,
            at,
        };
        purpose(&script, &MapFiles::new().with("/s", text))
    }

    #[test]
    fn scripts_that_only_change_a_role_are_told_from_those_that_do_more() {
        let role = of(
            "#!/bin/sh\nsleep 10\nredis-cli -a $1 REPLICAOF $2 $3 >> $LOG 2>&1\n",
            &["pw", "10.0.0.2", "6379"],
        );
        assert_eq!(role.own, None);
        assert!(role.changes_role && role.password);
        assert_eq!(role.primary, Some(IpAddr::from([10, 0, 0, 2])));
        assert_eq!(role.sleeps, Some(10));

        let check = of(
            "A=`/usr/bin/redis-cli -p 6380 PING`\nif [ \"$A\" = PONG ]; then exit 0; fi\nexit 1",
            &[],
        );
        assert_eq!(check.own, None);
        assert!(check.asks && !check.changes_role && !check.password);
        assert_eq!(check.port, Some(6380));

        for own in [
            "redis-cli ping\naws ec2 assign-private-ip-addresses\n",
            "echo `systemctl stop keepalived`",
            "redis-cli ping && /usr/local/bin/notify-pager",
            "redis-cli config set save ''",
            "redis-cli < commands.txt",
            "echo \"$(curl http://x)\"",
        ] {
            assert!(of(own, &[]).own.is_some(), "{own}");
        }
        assert_eq!(
            of("echo \"a; rm -rf / | b\" >> /var/log/x # ; reboot", &[]).own,
            None
        );
    }
}
