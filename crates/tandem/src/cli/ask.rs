//! Talking to the daemon on this host, over its control socket.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use tandem_config::settings::Group;

use crate::cli::{DONE, FAILED, REFUSED, USAGE, Where, load};
use crate::run::control::{Line, ReplyLine, Verb};
use crate::run::control_path;

/// A daemon that is alive answers at once, or within a switchover's deadlines.
const PATIENCE: Duration = Duration::from_secs(40);

/// The answers of the groups, by name.
pub(crate) type Answers = BTreeMap<String, serde_json::Value>;

/// Why there is no answer.
pub(crate) enum NoAnswer {
    /// The configuration cannot be read; the report is rendered.
    Configuration(String),
    /// There is no daemon, or it does not answer.
    Daemon(String),
}

impl NoAnswer {
    /// Prints it and gives the exit code.
    pub(crate) fn report(self) -> u8 {
        match self {
            Self::Configuration(report) => {
                eprint!("{report}");
                USAGE
            }
            Self::Daemon(text) => {
                eprintln!("tandem: {text}");
                FAILED
            }
        }
    }
}

/// Asks the daemon that runs with this configuration.
pub(crate) fn ask(at: &Where, verb: Verb) -> Result<Answers, NoAnswer> {
    let settings = load(&at.config).map_err(NoAnswer::Configuration)?;
    if let Some(group) = &at.group
        && !settings.names().any(|name| name == group)
        && !settings
            .groups
            .iter()
            .flat_map(Group::seats)
            .any(|seat| seat.seat_name() == *group)
    {
        let names: Vec<&str> = settings.names().collect();
        let text = format!(
            "there is no group {group}; the file has: {}\n",
            names.join(", ")
        );
        return Err(NoAnswer::Configuration(format!("tandem: {text}")));
    }
    let path = control_path(&settings.host.state_dir);
    let line = Line {
        group: at.group.clone(),
        verb,
    };
    exchange(&path, &line).map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::PermissionDenied => "run this as root or as the daemon's user",
            io::ErrorKind::WouldBlock => "it took the question and is stuck; see its log",
            _ => "is tandem run active on this host?",
        };
        NoAnswer::Daemon(format!(
            "no daemon answers at {}: {error}; {hint}",
            path.display()
        ))
    })
}

fn exchange(path: &Path, line: &Line) -> io::Result<Answers> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(Duration::from_secs(1)))?;
    let mut text = serde_json::to_string(line)?;
    text.push('\n');
    stream.write_all(text.as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    Ok(serde_json::from_str(&answer)?)
}

/// A command with an outcome: printed, and told by the exit code.
pub(crate) fn command(at: &Where, verb: Verb) -> u8 {
    let answers = match ask(at, verb) {
        Ok(answers) => answers,
        Err(error) => return error.report(),
    };
    let mut code = DONE;
    for (group, value) in answers {
        let Ok(line) = serde_json::from_value::<ReplyLine>(value) else {
            eprintln!("{group}: the daemon's answer is not understood; is it of another version?");
            code = code.max(FAILED);
            continue;
        };
        match (line.outcome.as_str(), line.rule) {
            ("done", _) => println!("{group}: {}", line.text),
            ("refused", rule) => {
                let rule = rule.unwrap_or_default();
                eprintln!("{group}: refused by rule {rule}: {}", line.text);
                code = code.max(REFUSED);
            }
            _ => {
                eprintln!("{group}: failed: {}", line.text);
                code = code.max(FAILED);
            }
        }
    }
    code
}
