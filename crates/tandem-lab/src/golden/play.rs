//! Plays a recording to a Sentinel: sends, reads, and shows or compares what came back.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::mask::shown;
use super::{Request, Script, Step};
use crate::ns::Host;
use crate::resp::encode;
use crate::wire::Raw;

/// For each answer. Nothing in a recording waits for time to pass, except events of the state machine's next turn.
const PATIENCE: Duration = Duration::from_secs(5);

/// An answer that is not the recorded one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// The line of the request.
    pub line: usize,
    /// The request as it stands in the file.
    pub request: String,
    /// What the recording says.
    pub expected: Vec<String>,
    /// What came.
    pub found: Vec<String>,
}

impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "line {}: {}", self.line, self.request)?;
        // A long answer is told from where it departs.
        let same = self
            .expected
            .iter()
            .zip(&self.found)
            .take_while(|(a, b)| a == b)
            .count();
        if same > 3 {
            writeln!(f, "    ({same} equal lines)")?;
        }
        let from = if same > 3 { same } else { 0 };
        for (mark, lines) in [("expected", &self.expected), ("came", &self.found)] {
            let rest = lines.get(from..).unwrap_or_default();
            for line in rest.iter().take(8) {
                writeln!(f, "    {mark:8} {line}")?;
            }
            if rest.is_empty() {
                writeln!(f, "    {mark:8} (nothing more)")?;
            }
        }
        Ok(())
    }
}

/// The connections of one playing.
#[derive(Debug)]
pub struct Player<'a> {
    from: &'a Host,
    to: SocketAddr,
    known_ids: &'a [&'a str],
    connections: BTreeMap<String, Raw>,
}

impl<'a> Player<'a> {
    /// Begins, without connections yet.
    #[must_use]
    pub fn new(from: &'a Host, to: SocketAddr, known_ids: &'a [&'a str]) -> Self {
        Self {
            from,
            to,
            known_ids,
            connections: BTreeMap::new(),
        }
    }

    /// Plays all steps and returns the lines that answered each.
    ///
    /// # Errors
    /// When the Sentinel does not accept connections.
    pub fn record(&mut self, script: &Script) -> io::Result<Vec<Vec<String>>> {
        script.steps.iter().map(|step| self.step(step)).collect()
    }

    /// Plays all steps and returns those whose answers are not the recorded ones.
    ///
    /// # Errors
    /// As [`Player::record`].
    pub fn compare(&mut self, script: &Script) -> io::Result<Vec<Mismatch>> {
        let answers = self.record(script)?;
        let differs = |(step, found): (&Step, Vec<String>)| {
            (found != step.expected).then(|| Mismatch {
                line: step.line,
                request: step.shown.clone(),
                expected: step.expected.clone(),
                found,
            })
        };
        Ok(script
            .steps
            .iter()
            .zip(answers)
            .filter_map(differs)
            .collect())
    }

    fn step(&mut self, step: &Step) -> io::Result<Vec<String>> {
        let mut raw = match self.connections.remove(&step.connection) {
            Some(raw) => raw,
            None => Raw::over(self.from.connect(self.to, PATIENCE)?)?,
        };
        let sent = match &step.request {
            Request::Words(words) => {
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                raw.send(&encode(&words))
            }
            Request::Bytes(bytes) => raw.send(bytes),
            Request::Nothing => Ok(()),
        };
        let mut found = Vec::new();
        if let Err(error) = sent {
            found.push(ending(&error));
            return Ok(found);
        }
        for _ in 0..step.replies {
            match raw.read(PATIENCE) {
                Ok(value) => found.extend(shown(value, step.look, self.known_ids)),
                Err(error) => {
                    found.push(ending(&error));
                    // Whatever it was, this connection can no longer be trusted to be in step.
                    return Ok(found);
                }
            }
        }
        self.connections.insert(step.connection.clone(), raw);
        Ok(found)
    }
}

fn ending(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut => "(silence)".to_owned(),
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe => "(closed)".to_owned(),
        _ => format!("({error})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mismatch_is_told_from_where_it_begins() {
        let lines = |last: &str| {
            let mut lines: Vec<String> = (0..9).map(|n| n.to_string()).collect();
            lines.push(last.to_owned());
            lines
        };
        let told = Mismatch {
            line: 7,
            request: "> X".to_owned(),
            expected: lines("a"),
            found: lines("b"),
        }
        .to_string();
        assert!(told.contains("line 7: > X"), "{told}");
        assert!(told.contains("(9 equal lines)"), "{told}");
        assert!(
            told.contains("expected a") && told.contains("came     b"),
            "{told}"
        );
    }
}
