//! The file of a recording: read, and written again with new answers and everything else as it was.

use std::fmt::Write;

use anyhow::{Context, bail, ensure};

/// What a step sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// A command as an array of bulk strings.
    Words(Vec<String>),
    /// Bytes as they are.
    Bytes(Vec<u8>),
    /// Nothing: it reads what comes by itself.
    Nothing,
}

/// How the answer of a step is looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Look {
    /// The order of parts means nothing.
    pub sort: bool,
    /// Only the names of INFO fields count.
    pub names: bool,
    /// Only the kinds of values count.
    pub hide: bool,
    /// Sentences for people do not count.
    pub prose: bool,
}

/// One exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The line of the file, from 1.
    pub line: usize,
    /// The connection's name.
    pub connection: String,
    /// What is sent.
    pub request: Request,
    /// How many values answer it.
    pub replies: usize,
    /// How the answer is looked at.
    pub look: Look,
    /// The lines that are expected.
    pub expected: Vec<String>,
    /// The request's own line, for reports.
    pub shown: String,
}

/// A recording.
#[derive(Debug, Clone, Default)]
pub struct Script {
    /// Further lines of the Sentinel's file.
    pub conf: Vec<String>,
    /// Whether another Sentinel is in the group.
    pub peer: bool,
    /// The exchanges.
    pub steps: Vec<Step>,
    /// The lines of the file without the expected ones; a step's own is where its answer belongs.
    source: Vec<(String, Option<usize>)>,
}

impl Script {
    /// Reads a recording.
    ///
    /// # Errors
    /// Names the line that cannot be understood.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let mut script = Self::default();
        let mut connection = "main".to_owned();
        let mut replies = None;
        let mut look = Look::default();
        for (index, line) in text.lines().enumerate() {
            let number = index + 1;
            let (mark, rest) = line.split_once(' ').unwrap_or((line, ""));
            let request = match mark {
                "<" => {
                    let step = script.steps.last_mut();
                    let step = step.with_context(|| format!("line {number} answers nothing"))?;
                    step.expected.push(rest.to_owned());
                    continue;
                }
                ">" => Request::Words(words(rest).with_context(|| format!("line {number}"))?),
                ">>" => Request::Bytes(
                    unescape(rest)
                        .with_context(|| format!("line {number}"))?
                        .into_bytes(),
                ),
                "@read" => {
                    replies = Some(rest.parse().with_context(|| format!("line {number}"))?);
                    Request::Nothing
                }
                _ => {
                    match mark {
                        "@conf" => script.conf.push(rest.to_owned()),
                        "@peer" => script.peer = true,
                        "@on" => rest.clone_into(&mut connection),
                        "@replies" => {
                            replies = Some(rest.parse().with_context(|| format!("line {number}"))?);
                        }
                        "@sort" => look.sort = true,
                        "@names" => look.names = true,
                        "@hide" => look.hide = true,
                        "@prose" => look.prose = true,
                        _ => ensure!(
                            line.is_empty() || mark.starts_with('#'),
                            "line {number} begins with `{mark}`"
                        ),
                    }
                    script.source.push((line.to_owned(), None));
                    continue;
                }
            };
            script
                .source
                .push((line.to_owned(), Some(script.steps.len())));
            script.steps.push(Step {
                line: number,
                connection: connection.clone(),
                request,
                replies: replies.take().unwrap_or(1),
                look: std::mem::take(&mut look),
                expected: Vec::new(),
                shown: line.to_owned(),
            });
        }
        Ok(script)
    }

    /// The file with these answers, one list of lines for each step.
    #[must_use]
    pub fn with_answers(&self, answers: &[Vec<String>]) -> String {
        let mut text = String::new();
        for (line, step) in &self.source {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{line}");
            for answer in step
                .and_then(|step| answers.get(step))
                .into_iter()
                .flatten()
            {
                let space = if answer.is_empty() { "" } else { " " };
                let _ = writeln!(text, "<{space}{answer}");
            }
        }
        text
    }
}

/// Splits at spaces; a word in double quotes may hold spaces and escapes, or nothing.
fn words(text: &str) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut end = None;
            let mut escaped = false;
            for (at, c) in quoted.char_indices() {
                match c {
                    '"' if !escaped => {
                        end = Some(at);
                        break;
                    }
                    _ => escaped = c == '\\' && !escaped,
                }
            }
            let end = end.context("a quote without its end")?;
            found.push(unescape(&quoted[..end])?);
            rest = quoted[end + 1..].trim_start();
        } else {
            let end = rest.find(' ').unwrap_or(rest.len());
            found.push(rest[..end].to_owned());
            rest = rest[end..].trim_start();
        }
    }
    Ok(found)
}

fn unescape(text: &str) -> anyhow::Result<String> {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        out.push(match c {
            '\\' => match chars.next() {
                Some('r') => '\r',
                Some('n') => '\n',
                Some('t') => '\t',
                Some('0') => '\0',
                Some(c @ ('"' | '\\')) => c,
                other => bail!("there is no escape {other:?}"),
            },
            c => c,
        });
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# head\n@conf requirepass x\n@peer\n\n> PING\n< +PONG\n@on other\n@replies 2\n@sort\n\
                        > A \"b c\" \"\" \"\\\"\\r\"\n< +1\n< +2\n>> X\\r\\n\n< $0\n<\n@read 3\n< +3\n";

    #[test]
    fn a_script_is_read_with_what_belongs_to_each_step() {
        let script = Script::parse(TEXT).unwrap();
        assert!(script.peer);
        assert_eq!(script.conf, ["requirepass x"]);
        let [ping, other, raw, read] = script.steps.as_slice() else {
            panic!("{:?}", script.steps);
        };
        assert_eq!((ping.connection.as_str(), ping.replies), ("main", 1));
        assert_eq!(ping.expected, ["+PONG"]);
        assert_eq!(
            other.request,
            Request::Words(["A", "b c", "", "\"\r"].map(str::to_owned).into())
        );
        assert_eq!((other.connection.as_str(), other.replies), ("other", 2));
        assert!(other.look.sort && !ping.look.sort && !raw.look.sort);
        assert_eq!(raw.request, Request::Bytes(b"X\r\n".to_vec()));
        assert_eq!(raw.expected, ["$0", ""]);
        assert_eq!((&read.request, read.replies), (&Request::Nothing, 3));
    }

    #[test]
    fn a_script_with_its_own_answers_is_the_same_file() {
        let script = Script::parse(TEXT).unwrap();
        let answers: Vec<_> = script
            .steps
            .iter()
            .map(|step| step.expected.clone())
            .collect();
        assert_eq!(script.with_answers(&answers), TEXT);
    }

    #[test]
    fn what_cannot_be_understood_is_named_by_its_line() {
        for (text, line) in [
            ("< +OK\n", "line 1"),
            ("\n> \"x\n", "line 2"),
            ("\n\n@wait 1\n", "line 3"),
            ("@replies x\n", "line 1"),
        ] {
            let error = format!("{:#}", Script::parse(text).unwrap_err());
            assert!(error.contains(line), "{error}");
        }
    }
}
