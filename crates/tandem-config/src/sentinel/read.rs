//! The walk over all lines: the main file, what it includes, then the command line's options.
//!
//! Directives of any Redis process take effect at once, in the order of the lines; `sentinel` statements are queued for
//! [`super::apply`], so that a line is kept as its place and split again when its turn comes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::diagnostic::{Diagnostic, Span};
use crate::keepalived::Files;

use super::apply::GroupIndex;
use super::directive::{self, Meaning};
use super::document::Document;
use super::fatal::Fatal;
use super::findings::{Findings, Line, Origin, Source};
use super::model::{Compat, SentinelConf};
use super::setting::Setting;
use super::snapshot::Snapshot;
use super::statement::{Pass, Statement};
use super::{Loaded, Overrides, SIZE_MAX, users, words};

/// Files that include files deeper than this include themselves in some way.
const DEPTH_MAX: usize = 16;
/// Included files in all, since one pattern can name a folder.
const INCLUDES_MAX: usize = 1_000;
/// A file with more different unknown directives is no `sentinel.conf`.
const UNKNOWN_MAX: usize = 100;

/// A line of a source, by its place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    source: usize,
    start: usize,
    end: usize,
    number: usize,
}

/// What the PEM of an encrypted key says, in its first line (PKCS #8) or its second (older).
const ENCRYPTED: &[u8] = b"ENCRYPTED";

/// What reading keeps in hand.
pub(super) struct Reader<'a> {
    files: &'a dyn Files,
    pub(super) findings: Findings,
    pub(super) conf: SentinelConf,
    pub(super) groups: GroupIndex,
    sources: Vec<Rc<Source>>,
    queue: BTreeMap<Pass, Vec<Place>>,
    bytes: usize,
    includes: usize,
    open: Vec<PathBuf>,
    included: Snapshot,
    told: BTreeSet<String>,
    unknown: usize,
    users: BTreeMap<String, Span>,
    /// Where each `tls-...` directive was said last, and Redis' refusal of that line.
    tls: BTreeMap<&'static str, (Span, Fatal)>,
}

/// See [`super::read`].
pub(super) fn read(path: &Path, files: &dyn Files, overrides: &Overrides) -> Loaded {
    let mut reader = Reader::new(files);
    let mut text = Vec::new();
    let mut lines = 0;
    match files.read(path) {
        Ok(bytes) => {
            text.clone_from(&bytes);
            lines = bytes.iter().filter(|byte| **byte == b'\n').count();
            reader.open.push(path.to_owned());
            reader.source(&path.to_string_lossy(), bytes, Origin::Main, 1);
            reader.open.clear();
        }
        Err(error) => reader.cannot_open(path, &error, None),
    }
    if !overrides.text().is_empty() {
        let first_line = lines + 2;
        let bytes = overrides.text().to_vec();
        reader.source("command line", bytes, Origin::Overrides, first_line);
    }
    reader.apply();
    let included = std::mem::take(&mut reader.included);
    let (conf, report, fatal) = reader.finish();
    Loaded {
        conf,
        document: Document::new(path, text, included),
        report,
        fatal,
    }
}

/// Reads the text of a document again, with the includes as they were.
pub(super) fn read_again(path: &Path, text: &[u8], included: &Snapshot) -> ReadAgain {
    let mut reader = Reader::new(included);
    reader.open.push(path.to_owned());
    reader.source(&path.to_string_lossy(), text.to_vec(), Origin::Main, 1);
    reader.apply();
    let (conf, _, fatal) = reader.finish();
    ReadAgain { conf, fatal }
}

/// What a text that was written says.
pub(super) struct ReadAgain {
    pub(super) conf: SentinelConf,
    pub(super) fatal: Option<Fatal>,
}

impl<'a> Reader<'a> {
    fn new(files: &'a dyn Files) -> Self {
        Self {
            files,
            findings: Findings::default(),
            conf: SentinelConf::default(),
            groups: GroupIndex::default(),
            sources: Vec::new(),
            queue: BTreeMap::new(),
            bytes: 0,
            includes: 0,
            open: Vec::new(),
            included: Snapshot::default(),
            told: BTreeSet::new(),
            unknown: 0,
            users: BTreeMap::new(),
            tls: BTreeMap::new(),
        }
    }

    fn finish(self) -> (SentinelConf, crate::Report, Option<Fatal>) {
        let (report, fatal) = self.findings.finish();
        (self.conf, report, fatal)
    }

    fn cannot_open(&mut self, path: &Path, error: &std::io::Error, at: Option<Span>) {
        let path = path.display().to_string();
        let reason = error.to_string();
        // Redis prints the system's words without its number.
        let reason = match reason.split_once(" (os error ") {
            Some((words, _)) => words.to_owned(),
            None => reason,
        };
        let mut found = Diagnostic::error("cannot-read", format!("cannot read {path}: {reason}"));
        if let Some(at) = at {
            found = found.at(at, "included here");
        }
        self.findings.refuse(Fatal::Open { path, reason }, found);
    }

    /// All lines of one text.
    fn source(&mut self, name: &str, bytes: Vec<u8>, origin: Origin, first_line: usize) {
        self.bytes = self.bytes.saturating_add(bytes.len());
        if self.bytes > SIZE_MAX {
            let reason = format!("the files are larger than {} MiB together", SIZE_MAX >> 20);
            let found = Diagnostic::error("too-large", format!("{name}: {reason}"))
                .help("a sentinel.conf of 1,000 groups takes about 1 MiB");
            self.findings.refuse(Fatal::File { reason }, found);
            return;
        }
        let file = self.findings.found.add_source(name, shown(&bytes));
        if let Some(at) = bytes.iter().position(|byte| *byte == 0) {
            let reason = "the file holds a NUL byte, which no text does".to_owned();
            let found = Diagnostic::error("nul-byte", reason.clone())
                .at(Span::new(file, at, at + 1), "the first one")
                .help("a crash of the host may have left the file filled with zeros; restore it from a copy");
            self.findings.refuse(Fatal::File { reason }, found);
            return;
        }
        let source = Rc::new(Source {
            file,
            bytes,
            origin,
            first_line,
        });
        self.sources.push(Rc::clone(&source));
        let index = self.sources.len() - 1;
        let mut start = 0;
        for (number, raw) in source.bytes.split(|byte| *byte == b'\n').enumerate() {
            let (skipped, text) = words::trim(raw);
            let place = Place {
                source: index,
                start: start + skipped,
                end: start + skipped + text.len(),
                number: source.first_line + number,
            };
            start += raw.len() + 1;
            match text.first() {
                None => {}
                Some(b'#') => self.comment(&source, place),
                Some(_) => self.line(&source, place),
            }
        }
    }

    /// `# tandem: ...` is for us; all other comments are for people.
    fn comment(&mut self, source: &Source, place: Place) {
        let text = &source.bytes[place.start..place.end];
        let Some(said) = tandem_comment(text) else {
            return;
        };
        let span = Span::new(source.file, place.start, place.end);
        let words: Vec<&str> = said.split_ascii_whitespace().collect();
        let found = match words[..] {
            ["compat", version] => match Compat::ALL.iter().find(|one| one.name() == version) {
                Some(compat) => {
                    self.conf.compat = *compat;
                    return;
                }
                None => Diagnostic::warning(
                    "unknown-compat",
                    format!("no version `{version}` to be compatible with"),
                )
                .help("`# tandem: compat 7.0` (the default) or `# tandem: compat 7.2`"),
            },
            ["daemon-port", port] => match port.parse() {
                Ok(port) if port != 0 => {
                    self.conf.daemon_port = port;
                    return;
                }
                Ok(_) | Err(_) => {
                    Diagnostic::warning("bad-daemon-port", format!("`{port}` is no port"))
                        .help("the `port` of `[host]` in the daemons' tandem.toml, 26379 unless it is set there")
                }
            },
            _ => Diagnostic::warning(
                "unknown-comment",
                "a comment for tandem that it does not understand",
            )
            .help("there are `# tandem: compat 7.2` and `# tandem: daemon-port 26380`"),
        };
        self.findings.advise(found.at(span, "has no effect"));
    }

    /// A line that is neither empty nor a comment.
    fn line(&mut self, source: &Rc<Source>, place: Place) {
        let text = &source.bytes[place.start..place.end];
        let split = words::split(text, place.start);
        let line = Line {
            source,
            text,
            start: place.start,
            number: place.number,
            words: split.words,
        };
        if let Some(at) = split.unbalanced
            && !super::apply::takes_rest_of_line(&line.words, true)
        {
            let found = Diagnostic::error("unbalanced-quotes", "the quotes of this line do not balance")
                .at(Span::new(source.file, at, place.end), "a quote opens here and does not close before a blank")
                .help("write a value with quotes in it as \"...\" with each `\"` and `\\` inside preceded by `\\`");
            self.findings
                .refuse(line.fatal("Unbalanced quotes in configuration line"), found);
            return;
        }
        if line.words.is_empty() {
            return;
        }
        let name = line.words[0].keyword();
        match name.as_str() {
            // Alone it only switches redis-server to this mode.
            "sentinel" if line.words.len() == 1 => {}
            "sentinel" => {
                let pass = Statement::find(line.bytes(1)).map_or(Pass::Groups, Statement::pass);
                self.queue.entry(pass).or_default().push(place);
            }
            "include" if line.words.len() == 2 => self.include(&line),
            "user" if line.words.len() >= 2 => self.user(&line),
            "include" | "user" => self.bad_directive(&line, &name),
            _ => match Setting::find(&name) {
                Some(setting) => self.setting(setting, &line),
                None => self.other(&line, name),
            },
        }
    }

    fn bad_directive(&mut self, line: &Line<'_>, name: &str) {
        let found = Diagnostic::error(
            "wrong-arguments",
            format!("`{name}` has the wrong number of arguments"),
        )
        .at(line.span(), "");
        self.findings.refuse(
            line.fatal("Bad directive or wrong number of arguments"),
            found,
        );
    }

    fn setting(&mut self, setting: &Setting, line: &Line<'_>) {
        let mut values: Vec<&[u8]> = (1..line.words.len()).map(|at| line.bytes(at)).collect();
        // A list may also be one argument, which is then split again (Redis 7.0).
        let again;
        if setting.is_list && values.len() == 1 {
            again = words::split(values[0], 0).words;
            values = again.iter().map(|word| word.bytes.as_slice()).collect();
        }
        if !setting.is_list && values.len() != 1 {
            let found = Diagnostic::error(
                "wrong-arguments",
                format!(
                    "`{}` takes one value, here are {}",
                    setting.name,
                    values.len()
                ),
            )
            .at(line.span(), "")
            .help("put a value with blanks into double quotes");
            self.findings
                .refuse(line.fatal("wrong number of arguments"), found);
            return;
        }
        if let Err(reason) = (setting.read)(&mut self.conf.server, &values) {
            let found = Diagnostic::error(
                "bad-value",
                format!("`{}` cannot be this: {reason}", setting.name),
            )
            .at(line.word_span(1), "");
            self.findings.refuse(line.fatal(reason), found);
        } else if setting.name.starts_with("tls-") {
            let fatal = line.fatal("Failed to configure TLS. Check logs for more info.");
            self.tls.insert(setting.name, (line.span(), fatal));
        }
    }

    /// What was said about TLS, when all of it is known; only where TLS is used.
    fn check_tls(&mut self) {
        let tls = self.conf.server.tls.clone();
        if tls.port == 0 && !tls.replication {
            return;
        }
        let said = std::mem::take(&mut self.tls);
        if let Err(refused) = tls.choice()
            && let Some((at, fatal)) = said.get(refused.directive())
        {
            let found = Diagnostic::error("tls-not-offered", refused.to_string())
                .at(*at, "")
                .help(refused.help());
            self.findings.refuse(fatal.clone(), found);
        }
        if let (unspoken @ [_, ..], Some((at, _))) =
            (&tls.unspoken()[..], said.get("tls-protocols"))
        {
            let text = format!("{} is not spoken here", unspoken.join(" and "));
            self.findings.advise(
                Diagnostic::warning("tls-not-offered", text)
                    .at(*at, "who speaks nothing newer is turned away"),
            );
        }
        for (directive, key, passphrase) in [
            ("tls-key-file", &tls.key_file, &tls.key_file_pass),
            (
                "tls-client-key-file",
                &tls.client_key_file,
                &tls.client_key_file_pass,
            ),
        ] {
            let (Some(key), None, Some((at, fatal))) = (key, passphrase, said.get(directive))
            else {
                continue;
            };
            let is_encrypted = self
                .files
                .read(&self.resolve(key))
                .is_ok_and(|text| text.windows(ENCRYPTED.len()).any(|part| part == ENCRYPTED));
            if is_encrypted {
                let found = Diagnostic::error(
                    "encrypted-key",
                    format!("{key} is encrypted, and no passphrase is given"),
                )
                .at(*at, "")
                .help(format!("add `{directive}-pass PASSPHRASE`"));
                self.findings.refuse(fatal.clone(), found);
            }
        }
        for (directive, why) in [
            (
                "tls-dh-params-file",
                "keys are exchanged over elliptic curves only",
            ),
            (
                "tls-session-cache-timeout",
                "sessions are forgotten when there are more than tls-session-cache-size",
            ),
        ] {
            if let Some((at, _)) = said.get(directive) {
                let text = format!("`{directive}` has no effect here: {why}");
                self.findings.advise(
                    Diagnostic::warning("no-effect", text).at(*at, "accepted and preserved"),
                );
            }
        }
    }

    /// A directive without a row in the table of settings: told once by name, and left where it is.
    fn other(&mut self, line: &Line<'_>, name: String) {
        let meaning = directive::meaning(&name);
        if meaning == Meaning::Silent || !self.told.insert(name.clone()) {
            return;
        }
        let at = line.word_span(0);
        match meaning {
            Meaning::Silent => {}
            Meaning::None => self.findings.advise(
                Diagnostic::warning(
                    "no-effect",
                    format!("`{name}` has no effect on a sentinel here"),
                )
                .at(at, "accepted and preserved"),
            ),
            Meaning::Unknown => {
                self.unknown += 1;
                if self.unknown > UNKNOWN_MAX {
                    if self.unknown == UNKNOWN_MAX + 1 {
                        let found =
                            Diagnostic::error("not-a-sentinel-conf", "too many unknown directives")
                                .at(at, "one more")
                                .help("is this the right file?");
                        self.findings.refuse(
                            line.fatal("Bad directive or wrong number of arguments"),
                            found,
                        );
                    }
                    return;
                }
                let found = format!("unknown directive `{name}`");
                if let Some(meant) = directive::nearest(&name) {
                    let found = Diagnostic::error("unknown-directive", found)
                        .at(at, "")
                        .help(format!("did you mean `{meant}`?"));
                    let reason = "Bad directive or wrong number of arguments";
                    self.findings.refuse(line.fatal(reason), found);
                } else {
                    let why = "preserved without effect; Redis 7.0 would not start with it";
                    let found = Diagnostic::warning("unknown-directive", found).at(at, why);
                    self.findings.advise(found);
                }
            }
        }
    }

    fn user(&mut self, line: &Line<'_>) {
        let mut texts = Vec::with_capacity(line.words.len());
        for index in 1..line.words.len() {
            match self.text(line, index) {
                Some(text) => texts.push(text),
                None => return,
            }
        }
        let (name, rules) = texts.split_first().expect("the caller saw a name");
        if let Some(first) = self.users.get(name) {
            let found =
                Diagnostic::error("duplicate-user", format!("user `{name}` is defined twice"))
                    .at(line.word_span(1), "again here")
                    .at(*first, "first here")
                    .help("put all rules of a user on one line");
            let reason = format!(
                "Error in user declaration '{name}': Duplicate user found. A user can only be defined once in config files"
            );
            self.findings.refuse(line.fatal(reason), found);
            return;
        }
        self.users.insert(name.clone(), line.word_span(1));
        match users::parse(name, rules) {
            Ok(user) => self.conf.users.push(user),
            Err(error) => {
                // A rule can be a password; the message names its place only.
                let found =
                    Diagnostic::error("bad-rule", format!("user `{name}`: {}", error.reason))
                        .at(line.word_span(error.index + 2), "");
                // Redis names the word two places before the one that is wrong.
                let named = String::from_utf8_lossy(line.bytes(error.index)).into_owned();
                let reason = format!("Error in user declaration '{named}': {}", error.reason);
                self.findings.refuse(line.fatal(reason), found);
            }
        }
    }

    fn include(&mut self, line: &Line<'_>) {
        let Some(text) = self.text(line, 1) else {
            return;
        };
        let path = self.resolve(&text);
        if !text.contains(['*', '?', '[']) {
            self.include_file(&path, line);
            return;
        }
        match self.files.glob(&path) {
            Ok(paths) => {
                self.included.patterns.insert(path, paths.clone());
                for path in paths {
                    self.include_file(&path, line);
                }
            }
            Err(error) => self.cannot_open(&path, &error, Some(line.word_span(1))),
        }
    }

    fn include_file(&mut self, path: &Path, line: &Line<'_>) {
        self.includes += 1;
        let is_open = self.open.iter().any(|open| open == path);
        let too_many = self.open.len() >= DEPTH_MAX || self.includes > INCLUDES_MAX;
        if is_open || too_many {
            // Said once: what follows from an endless inclusion is the same sentence over and over.
            if self.told.insert("include".to_owned()) {
                let what = if is_open {
                    "a file that includes itself"
                } else {
                    "too many included files"
                };
                let found = Diagnostic::error("include-loop", what).at(line.word_span(1), "");
                self.findings.refuse(line.fatal(what), found);
            }
            return;
        }
        match self.files.read(path) {
            Ok(bytes) => {
                let content = bytes.clone();
                self.included.contents.insert(path.to_owned(), content);
                self.open.push(path.to_owned());
                self.source(&path.to_string_lossy(), bytes, Origin::Included, 1);
                self.open.pop();
            }
            Err(error) => self.cannot_open(path, &error, Some(line.word_span(1))),
        }
    }

    /// A path as Redis would open it: it changes to `dir` as soon as it reads the line.
    fn resolve(&self, path: &str) -> PathBuf {
        match &self.conf.server.dir {
            Some(dir) => Path::new(dir).join(path),
            None => PathBuf::from(path),
        }
    }

    /// Could the file be executed by somebody?
    pub(super) fn is_executable(&self, path: &str) -> bool {
        self.files
            .facts(&self.resolve(path))
            .is_ok_and(|facts| facts.mode & 0o111 != 0)
    }

    /// A word as text.
    pub(super) fn text(&mut self, line: &Line<'_>, index: usize) -> Option<String> {
        match String::from_utf8(line.bytes(index).to_vec()) {
            Ok(text) => Some(text),
            Err(_) => {
                let reason = "this is no UTF-8 text";
                let found = Diagnostic::error("not-utf8", reason).at(line.word_span(index), "");
                self.findings.refuse(line.fatal(reason), found);
                None
            }
        }
    }

    /// The `sentinel` statements in their three passes.
    fn apply(&mut self) {
        let queue = std::mem::take(&mut self.queue);
        for place in queue.into_values().flatten() {
            let source = Rc::clone(&self.sources[place.source]);
            let text = &source.bytes[place.start..place.end];
            let split = words::split(text, place.start);
            let line = Line {
                source: &source,
                text,
                start: place.start,
                number: place.number,
                words: split.words,
            };
            self.statement(line, split.unbalanced);
        }
        self.check_tls();
    }
}

/// What a comment says to tandem, if it is for tandem.
pub(super) fn tandem_comment(comment: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(comment).ok()?;
    let text = text.trim_start_matches('#').trim_start();
    text.strip_prefix("tandem:").map(str::trim)
}

/// The bytes as text of the same length, for showing: what is no UTF-8 becomes `?`, byte for byte.
fn shown(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| '?'));
    }
    text
}
