//! From files to logical lines: comments, conditional lines, definitions, repetition, inclusion, braces.
//!
//! The order is keepalived's: include is recognised on the raw line, before conditions and substitution; then `@id`, comments,
//! `$NAME=`, `~SEQ` and `~LST`, `$NAME`, braces. Everything that can grow is bounded, because a file may include itself
//! and a definition may use itself.

use std::collections::BTreeMap;
use std::path::Path;

use super::tree::Line;
use super::words::{Ch, chars, plain, trim};
use super::{Env, Files, Findings};
use crate::diagnostic::{Diagnostic, Span};

/// keepalived ignores longer lines as a whole.
const LINE_BYTES_MAX: usize = 1024;
/// How deep files may include each other, and definitions use each other.
const DEPTH_MAX: usize = 16;
/// How many logical lines, and turns of repetitions, a configuration may have after expansion: more than 255 instances
/// of a hundred lines, which is all that one segment has VRIDs for.
const LINES_MAX: usize = 50_000;
/// How much text all lines together may have after expansion.
const CHARS_MAX: usize = 2_000_000;
/// How many files may be read, over and over ones included.
const FILES_MAX: usize = 1_000;
/// How much text one line may become by substitution.
const EXPANDED_CHARS_MAX: usize = 16 * 1024;

/// The logical lines of a file and all it includes.
pub(super) fn lines(
    path: &Path,
    files: &dyn Files,
    env: &Env,
    findings: &mut Findings,
) -> Vec<Line> {
    let mut expander = Expander {
        files,
        env,
        findings,
        definitions: BTreeMap::new(),
        draws: 0,
        turns: 0,
        files_read: 0,
        chars: 0,
        out: Vec::new(),
        full: false,
    };
    match files.read(path) {
        Ok(bytes) => expander.file(path, &bytes, 0),
        Err(error) => expander.findings.fatal(Diagnostic::error(
            "unreadable",
            format!("cannot read {}: {error}", path.display()),
        )),
    }
    expander.out
}

struct Expander<'a> {
    files: &'a dyn Files,
    env: &'a Env,
    findings: &'a mut Findings,
    /// The lines of each definition.
    definitions: BTreeMap<String, Vec<String>>,
    draws: u64,
    turns: usize,
    files_read: usize,
    chars: usize,
    out: Vec<Line>,
    full: bool,
}

impl Expander<'_> {
    fn file(&mut self, path: &Path, bytes: &[u8], depth: usize) {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let name = path.display().to_string();
        let file = self.findings.report.sources.add(name, text.clone());
        let mut offset = 0;
        // The definition that a trailing backslash keeps open.
        let mut open: Option<(String, Vec<String>)> = None;
        for whole in text.split_inclusive('\n') {
            let start = offset;
            offset += whole.len();
            let body = whole.trim_end_matches(['\n', '\r']);
            if body.len() > LINE_BYTES_MAX {
                self.findings.config_error(
                    Diagnostic::warning("long-line", "the line is ignored because it is too long")
                        .at(
                            Span::new(file, start, start + body.len()),
                            format!("keepalived reads at most {LINE_BYTES_MAX} bytes"),
                        ),
                );
                continue;
            }
            if let Some((name, mut value)) = open.take() {
                let body = plain(&self.uncomment(&chars(body, file, start)));
                let (part, more) = continued(&body);
                value.push(part.trim().to_owned());
                if more {
                    open = Some((name, value));
                } else {
                    self.definitions.insert(name, value);
                }
                continue;
            }
            let line = chars(body, file, start);
            let line = trim(&line);
            if line.is_empty() || matches!(line[0].c, '#' | '!') {
                continue;
            }
            if self.include(line, path, depth) {
                continue;
            }
            let Some(line) = self.condition(line) else {
                continue;
            };
            let line = self.uncomment(line);
            let line = trim(&line);
            if line.is_empty() {
                continue;
            }
            if let Some((name, value)) = definition(line) {
                let (part, more) = continued(&value);
                // The first line of a multi-line definition may be empty: `$X= \`.
                let part = part.trim();
                let parts = if more && part.is_empty() {
                    Vec::new()
                } else {
                    vec![part.to_owned()]
                };
                if more {
                    open = Some((name, parts));
                } else {
                    self.definitions.insert(name, parts);
                }
                continue;
            }
            let directory = path.parent().unwrap_or_else(|| Path::new("."));
            self.repeat(line, directory, 0);
        }
        if let Some((name, value)) = open {
            self.definitions.insert(name, value);
        }
    }

    /// Handles an include line. keepalived looks for the keyword before conditions and substitution.
    fn include(&mut self, line: &[Ch], from: &Path, depth: usize) -> bool {
        let words = super::words::split(&strip_comment(line, &mut None));
        let [keyword, pattern, ..] = words.as_slice() else {
            return false;
        };
        let (must_read, must_match) = match keyword.text.as_str() {
            "include" => (false, false),
            "includer" => (true, false),
            "includem" | "includew" | "includeb" => (false, true),
            "includea" => (true, true),
            _ => return false,
        };
        let directory = from.parent().unwrap_or_else(|| Path::new("."));
        let target = directory.join(&pattern.text);
        let found = self.files.glob(&target).unwrap_or_default();
        if found.is_empty() {
            let diagnostic = Diagnostic::warning("missing-include", "no file matches this include")
                .at(pattern.at, format!("looked for {}", target.display()));
            if must_match {
                self.findings.config_error(diagnostic);
            } else {
                self.findings
                    .advice(diagnostic.help("keepalived passes over this in silence"));
            }
        }
        for file in found {
            self.include_file(&file, pattern.at, must_read, depth);
        }
        true
    }

    fn include_file(&mut self, file: &Path, at: Span, must_read: bool, depth: usize) {
        self.files_read += 1;
        if self.full || self.files_read > FILES_MAX {
            self.overflow();
            return;
        }
        if depth + 1 >= DEPTH_MAX {
            self.findings.fatal(
                Diagnostic::error("include-depth", "files include each other too deeply").at(
                    at,
                    format!("at most {DEPTH_MAX} levels; does a file include itself?"),
                ),
            );
            return;
        }
        match self.files.read(file) {
            Ok(bytes) => self.file(file, &bytes, depth + 1),
            Err(error) => {
                let found = Diagnostic::warning(
                    "missing-include",
                    format!("cannot read {}: {error}", file.display()),
                )
                .at(at, "included here");
                if must_read {
                    self.findings.config_error(found);
                } else {
                    self.findings.advice(found);
                }
            }
        }
    }

    /// `@id rest` holds if the id is ours, `@^id rest` if it is not. None: the line does not hold.
    fn condition<'l>(&self, line: &'l [Ch]) -> Option<&'l [Ch]> {
        if line[0].c != '@' {
            return Some(line);
        }
        let end = line
            .iter()
            .position(|ch| ch.c.is_whitespace())
            .unwrap_or(line.len());
        let id = plain(&line[1..end]);
        let holds = match id.strip_prefix('^') {
            Some(id) => id != self.env.config_id,
            None => id == self.env.config_id,
        };
        let rest = trim(&line[end..]);
        (holds && !rest.is_empty()).then_some(rest)
    }

    /// Unrolls a leading `~SEQ` or `~LST`, then substitutes.
    fn repeat(&mut self, line: &[Ch], directory: &Path, depth: usize) {
        if self.full {
            return;
        }
        match repetition(line) {
            Some((assignments, rest)) if depth < DEPTH_MAX => {
                for assignment in assignments {
                    self.turns += 1;
                    if self.turns > LINES_MAX {
                        self.overflow();
                        return;
                    }
                    let saved: Vec<_> = assignment
                        .iter()
                        .map(|(name, value)| {
                            let old = self.definitions.insert(name.clone(), vec![value.clone()]);
                            (name.clone(), old)
                        })
                        .collect();
                    self.repeat(trim(rest), directory, depth + 1);
                    for (name, old) in saved {
                        match old {
                            Some(old) => self.definitions.insert(name, old),
                            None => self.definitions.remove(&name),
                        };
                    }
                }
            }
            Some(_) | None => {
                let mut lines = vec![Vec::new()];
                self.substitute(line, directory, 0, &mut lines);
                for line in lines {
                    self.braces(&line);
                }
            }
        }
    }

    /// Replaces `$NAME` and `${NAME}`; a definition of several lines makes several lines.
    fn substitute(&mut self, line: &[Ch], directory: &Path, depth: usize, out: &mut Vec<Vec<Ch>>) {
        let mut rest = line;
        while let [first, tail @ ..] = rest {
            let reference = (first.c == '$').then(|| reference(tail)).flatten();
            let Some((name, taken)) = reference else {
                push(out, *first);
                rest = tail;
                continue;
            };
            let used = &rest[..=taken];
            let at = first.at.to(used[taken].at);
            rest = &rest[taken + 1..];
            let value = self.value(&name, directory);
            let total: usize = out.iter().map(Vec::len).sum();
            match value {
                Some(value) if depth < DEPTH_MAX && total < EXPANDED_CHARS_MAX => {
                    for (index, part) in value.iter().enumerate() {
                        if index > 0 {
                            out.push(Vec::new());
                        }
                        let part: Vec<Ch> = part.chars().map(|c| Ch { c, at }).collect();
                        self.substitute(&part, directory, depth + 1, out);
                    }
                }
                // Undefined names stay as they are, and so does what never ends.
                Some(_) | None => used.iter().for_each(|ch| push(out, *ch)),
            }
        }
    }

    fn value(&mut self, name: &str, directory: &Path) -> Option<Vec<String>> {
        let one = |text: String| Some(vec![text]);
        let mut words = name.split_whitespace();
        match words.next()? {
            "_PWD" => one(directory.display().to_string()),
            "_INSTANCE" => one(self.env.instance.clone()),
            "_HASH" => one("#".to_owned()),
            "_BANG" => one("!".to_owned()),
            "_ENV" => one(self.env.variables.get(words.next()?)?.clone()),
            "_RANDOM" => {
                let low: u64 = words.next().map_or(Some(0), |word| word.parse().ok())?;
                let high: u64 = words.next().map_or(Some(32767), |word| word.parse().ok())?;
                let span = high.checked_sub(low)?.checked_add(1)?;
                self.draws += 1;
                let drawn = mix(self.env.seed.wrapping_add(self.draws));
                one((low + drawn % span).to_string())
            }
            other => self.definitions.get(other).cloned(),
        }
    }

    /// Strips the comment. Before substitution, so that `${_HASH}` and `${_BANG}` never begin one.
    fn uncomment(&mut self, line: &[Ch]) -> Vec<Ch> {
        let mut unterminated = None;
        let line = strip_comment(line, &mut unterminated);
        if let Some(at) = unterminated {
            self.findings.config_error(
                Diagnostic::error("open-quote", "a double quote is not closed")
                    .at(at, "opened here; the line ends without another"),
            );
        }
        line
    }

    /// Cuts the line at its braces.
    fn braces(&mut self, line: &[Ch]) {
        let mut part: Vec<Ch> = Vec::new();
        let mut quoted = false;
        let mut inside_reference = false;
        for (index, ch) in line.iter().enumerate() {
            let before = index.checked_sub(1).map(|before| line[before].c);
            quoted ^= ch.c == '"' && before != Some('\\');
            let opens_reference = ch.c == '{' && before == Some('$');
            match ch.c {
                // An undefined `${NAME}` stays verbatim, braces included.
                '{' if !quoted && opens_reference => {
                    inside_reference = true;
                    part.push(*ch);
                }
                '}' if !quoted && inside_reference => {
                    inside_reference = false;
                    part.push(*ch);
                }
                '{' if !quoted => {
                    self.words(std::mem::take(&mut part));
                    self.emit(Line::Open(ch.at));
                }
                '}' if !quoted => {
                    self.words(std::mem::take(&mut part));
                    self.emit(Line::Close(ch.at));
                }
                _ => part.push(*ch),
            }
        }
        self.words(part);
    }

    fn words(&mut self, part: Vec<Ch>) {
        if !trim(&part).is_empty() {
            self.emit(Line::Words(part));
        }
    }

    fn emit(&mut self, line: Line) {
        if let Line::Words(words) = &line {
            self.chars += words.len();
        }
        if self.out.len() < LINES_MAX && self.chars < CHARS_MAX {
            self.out.push(line);
        } else {
            self.overflow();
        }
    }

    fn overflow(&mut self) {
        if !self.full {
            self.full = true;
            self.findings.fatal(Diagnostic::error(
                "too-long",
                format!(
                    "after expansion the configuration has more than {LINES_MAX} lines, {CHARS_MAX} characters or {FILES_MAX} files"
                ),
            ));
        }
    }
}

fn push(out: &mut [Vec<Ch>], ch: Ch) {
    if let Some(line) = out.last_mut() {
        line.push(ch);
    }
}

/// The finaliser of SplitMix64: one well-mixed value per counter.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A line without its trailing backslash, and whether it had one.
fn continued(line: &str) -> (&str, bool) {
    let line = line.trim_end();
    line.strip_suffix('\\')
        .map_or((line, false), |line| (line, true))
}

/// `$NAME=value`: name and value. No blank stands before `=`.
fn definition(line: &[Ch]) -> Option<(String, String)> {
    let text = plain(line);
    let (name, value) = text.strip_prefix('$')?.split_once('=')?;
    (!name.is_empty() && name.chars().all(is_name)).then(|| (name.to_owned(), value.to_owned()))
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The name used right after a `$`, and how many characters of `tail` it takes.
fn reference(tail: &[Ch]) -> Option<(String, usize)> {
    if tail.first()?.c == '{' {
        let close = tail.iter().position(|ch| ch.c == '}')?;
        let name = plain(&tail[1..close]);
        return (!name.is_empty()).then_some((name, close + 1));
    }
    let end = tail
        .iter()
        .position(|ch| !is_name(ch.c))
        .unwrap_or(tail.len());
    // `$NAME` without braces must be followed by a blank or the end of the line.
    let ends_word = tail.get(end).is_none_or(|ch| ch.c.is_whitespace());
    (end > 0 && ends_word).then(|| (plain(&tail[..end]), end))
}

/// Cuts a comment off: `#` or `!` outside double quotes, unless escaped by a backslash, which is dropped then.
fn strip_comment(line: &[Ch], unterminated: &mut Option<Span>) -> Vec<Ch> {
    let mut out = Vec::with_capacity(line.len());
    let mut quote: Option<Span> = None;
    let mut input = line.iter().copied().peekable();
    while let Some(ch) = input.next() {
        match ch.c {
            '"' => {
                quote = match quote {
                    Some(_) => None,
                    None => Some(ch.at),
                };
                out.push(ch);
            }
            '\\' => {
                let bare = quote.is_none();
                match input.next_if(|next| next.c == '"' || (bare && matches!(next.c, '#' | '!'))) {
                    // An escaped quote is left for the script lexer.
                    Some(next) if next.c == '"' => out.extend([ch, next]),
                    Some(next) => out.push(next),
                    None => out.push(ch),
                }
            }
            '#' | '!' if quote.is_none() => break,
            _ => out.push(ch),
        }
    }
    *unterminated = quote;
    out
}

/// The values that each turn of a repetition assigns.
type Assignments = Vec<Vec<(String, String)>>;

/// A leading `~SEQ(...)`, `~SEQx(...)` or `~LST(...)`: what each turn assigns, and the rest of the line.
fn repetition(line: &[Ch]) -> Option<(Assignments, &[Ch])> {
    let open = line.iter().position(|ch| ch.c == '(')?;
    let close = open + line[open..].iter().position(|ch| ch.c == ')')?;
    let kind = plain(&line[..open]);
    let inside = plain(&line[open + 1..close]);
    let turns = match kind.trim() {
        "~SEQ" => sequence(&inside, false)?,
        "~SEQx" => sequence(&inside, true)?,
        "~LST" => list(&inside)?,
        _ => return None,
    };
    Some((turns, &line[close + 1..]))
}

/// `var, end` or `var, start, end` or `var, start, step, end`.
fn sequence(inside: &str, hexadecimal: bool) -> Option<Assignments> {
    let mut parts = inside.split(',').map(str::trim);
    let name = parts.next()?.to_owned();
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(digits) => i64::from_str_radix(digits, 16).ok(),
        None => text.parse::<i64>().ok(),
    };
    let numbers: Vec<i64> = parts.map(number).collect::<Option<_>>()?;
    let (start, step, end) = match *numbers.as_slice() {
        [end] => (if end > 0 { 1 } else { -1 }, None, end),
        [start, end] => (start, None, end),
        [start, step, end] => (start, Some(step), end),
        _ => return None,
    };
    let step = step.unwrap_or(if end >= start { 1 } else { -1 });
    let turns = end.checked_sub(start)?.checked_div(step)?;
    if !(0..i64::try_from(LINES_MAX).ok()?).contains(&turns) {
        return None;
    }
    Some(
        (0..=turns)
            .map(|turn| {
                let value = start + turn * step;
                let text = if hexadecimal {
                    format!("{value:x}")
                } else {
                    value.to_string()
                };
                vec![(name.clone(), text)]
            })
            .collect(),
    )
}

/// `var, a, b` or `{v, w}, {a, 1}, {b, 2}`.
fn list(inside: &str) -> Option<Assignments> {
    let mut groups = Vec::new();
    let mut rest = inside.trim();
    while !rest.is_empty() {
        let (group, after) = match rest.strip_prefix('{') {
            Some(body) => {
                let (group, after) = body.split_once('}')?;
                let words = group
                    .split(',')
                    .map(|word| word.trim().to_owned())
                    .collect();
                (words, after)
            }
            None => {
                let (word, after) = rest.split_once(',').unwrap_or((rest, ""));
                (vec![word.trim().to_owned()], after)
            }
        };
        groups.push(group);
        rest = after.trim().trim_start_matches(',').trim_start();
    }
    let mut groups: std::vec::IntoIter<Vec<String>> = groups.into_iter();
    let names = groups.next()?;
    groups
        .map(|values| {
            (values.len() == names.len())
                .then(|| names.iter().cloned().zip(values).collect::<Vec<_>>())
        })
        .collect()
}
