//! The bytes of a `nutcracker.yml` as a tree of words with their places.
//!
//! twemproxy reads with libyaml and then forbids most of YAML: one document, no markers, no flow style, no anchors, aliases,
//! tags or directives. Here each forbidden thing is reported where it stands and reading goes on, so that one run shows all;
//! only what is no YAML at all ends it.
//!
//! libyaml knows YAML 1.1 and the parser used here 1.2. What differs in files that people write is levelled here: the
//! encodings and characters that may occur ([`decode`]), the characters that end a line, and where a tab may stand.

use std::borrow::Cow;

use saphyr_parser::{Event, Marker, Parser};

use crate::diagnostic::{Bounded, Diagnostic, FileId, Span};

/// Deeper nesting is an error anyway; reading ends there, so that a hostile file costs no memory.
const DEPTH_MAX: usize = 8;

/// A scalar and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    pub(super) at: Span,
}

/// A part of the document.
#[derive(Debug, Clone)]
pub(super) enum Node {
    Scalar(Word),
    Mapping {
        at: Span,
        entries: Vec<(Self, Self)>,
    },
    Sequence {
        at: Span,
        items: Vec<Self>,
    },
    /// An alias; reported already.
    Alias(Span),
}

impl Node {
    pub(super) fn at(&self) -> Span {
        match self {
            Self::Scalar(word) => word.at,
            Self::Mapping { at, .. } | Self::Sequence { at, .. } | Self::Alias(at) => *at,
        }
    }
}

/// The text, if libyaml would read these bytes: UTF-8, or UTF-16 with its mark, without control characters.
///
/// The text of a refused file is given to `report` too, as far as it is one.
pub(super) fn decode(name: &str, bytes: &[u8], report: &mut Bounded) -> (FileId, Option<String>) {
    let text = match bytes {
        [0xFF, 0xFE, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xFE, 0xFF, rest @ ..] => utf16(rest, u16::from_be_bytes),
        [0xEF, 0xBB, 0xBF, rest @ ..] => utf8(rest),
        all => utf8(all),
    };
    let (text, bad) = match text {
        Ok(text) => {
            let bad = text.char_indices().find(|(_, c)| !may_occur(*c));
            let bad = bad.map(|(at, c)| {
                (
                    at,
                    format!("the character U+{:04X} may not occur", u32::from(c)),
                )
            });
            (text, bad)
        }
        Err((text, at)) => (text, Some((at, "this is not UTF-8".to_owned()))),
    };
    let file = report.add_source(name, text.clone());
    match bad {
        None => (file, Some(text)),
        Some((at, message)) => {
            report.push(
                Diagnostic::error("not-text", message)
                    .at(Span::new(file, at, at + 1), "")
                    .help("save the file as UTF-8, without control characters"),
            );
            (file, None)
        }
    }
}

type Decoded = Result<String, (String, usize)>;

fn utf8(bytes: &[u8]) -> Decoded {
    std::str::from_utf8(bytes)
        .map(str::to_owned)
        .map_err(|error| {
            (
                String::from_utf8_lossy(bytes).into_owned(),
                error.valid_up_to(),
            )
        })
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Decoded {
    let (pairs, odd) = bytes.as_chunks();
    let units: Vec<u16> = pairs.iter().map(|pair| unit(*pair)).collect();
    match String::from_utf16(&units) {
        Ok(text) if odd.is_empty() => Ok(text),
        Ok(text) => {
            let end = text.len();
            Err((text, end))
        }
        Err(_) => Err((String::from_utf16_lossy(&units), 0)),
    }
}

/// What libyaml's reader lets through.
fn may_occur(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{A0}'..='\u{FFFD}' | '\u{10000}'..)
        && c != '\u{FEFF}'
}

/// The one document of the file; nothing where there is none that could be looked at further.
pub(super) fn parse(file: FileId, text: &str, report: &mut Bounded) -> Option<Node> {
    let mut reader = Reader {
        text,
        file,
        offsets: (!text.is_ascii()).then(|| text.char_indices().map(|(at, _)| at).collect()),
        scalars: Vec::new(),
        found: report,
    };
    let tree = reader.read()?;
    reader.lines();
    Some(tree)
}

struct Reader<'r> {
    text: &'r str,
    file: FileId,
    /// Byte of each character, where the two differ.
    offsets: Option<Vec<usize>>,
    /// Where scalars are.
    scalars: Vec<Span>,
    found: &'r mut Bounded,
}

/// A collection that is not closed yet.
enum Open {
    Mapping {
        at: Span,
        key: Option<Node>,
        entries: Vec<(Node, Node)>,
    },
    Sequence {
        at: Span,
        items: Vec<Node>,
    },
}

impl Reader<'_> {
    fn read(&mut self) -> Option<Node> {
        let text = levelled(self.text);
        let mut parser = Parser::new_from_str(&text);
        let mut open: Vec<Open> = Vec::new();
        let mut root = None;
        while let Some(event) = parser.next_event() {
            let (event, span) = match event {
                Ok(event) => event,
                Err(error) => {
                    let at = self.place(*error.marker());
                    let message = format!("this is not YAML: {}", error.info());
                    const RIGHT: &str = "look here and above for a quote that is not closed, uneven blanks before a word, a tab, or a value with `: ` in it, which wants quotes";
                    self.refuse("yaml", message, Span::new(self.file, at, at + 1), RIGHT);
                    return None;
                }
            };
            let at = self.span(span);
            if root.is_some() && matches!(event, Event::DocumentStart(_)) {
                const RIGHT: &str = "one file holds one document; put all pools into it";
                self.refuse("documents", "a second document begins here", at, RIGHT);
                return None;
            }
            self.forbid(&event, at);
            if let Some(node) = self.build(event, at, &mut open) {
                match open.last_mut() {
                    Some(collection) => add(collection, node),
                    None => root = Some(node),
                }
            }
            if open.len() > DEPTH_MAX {
                const RIGHT: &str =
                    "a file has pools, and a pool has directives; nothing is deeper";
                self.refuse("too-deep", "nested too deeply", at, RIGHT);
                return None;
            }
        }
        if root.is_none() {
            const RIGHT: &str = "a pool is `name:` with `listen:` and `servers:` below it";
            let at = Span::new(self.file, 0, 0);
            self.refuse("no-pools", "there is nothing in this file", at, RIGHT);
        }
        root
    }

    /// Takes an event into the tree; the node that it completes.
    fn build(&mut self, event: Event<'_>, at: Span, open: &mut Vec<Open>) -> Option<Node> {
        match event {
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => None,
            Event::Alias(_) => Some(Node::Alias(at)),
            Event::Scalar(text, ..) => {
                self.scalars.push(at);
                let text = text.into_owned();
                Some(Node::Scalar(Word { text, at }))
            }
            Event::SequenceStart(..) => {
                let items = Vec::new();
                open.push(Open::Sequence { at, items });
                None
            }
            Event::MappingStart(..) => {
                let (key, entries) = (None, Vec::new());
                open.push(Open::Mapping { at, key, entries });
                None
            }
            Event::SequenceEnd | Event::MappingEnd => open.pop().map(close),
        }
    }

    /// Reports what is YAML and forbidden all the same.
    fn forbid(&mut self, event: &Event<'_>, at: Span) {
        let text = self.text;
        let begins = |with: &str| text[at.start..].starts_with(with);
        let (anchor, tagged) = match event {
            Event::DocumentStart(true) => {
                const RIGHT: &str = "take the line with `---` out, and `%` lines before it";
                let message = "twemproxy allows no document marker and no directive";
                self.refuse("document-marker", message, at, RIGHT);
                return;
            }
            Event::Alias(_) => {
                const RIGHT: &str = "write the value out";
                self.refuse("alias", "twemproxy allows no aliases", at, RIGHT);
                return;
            }
            Event::SequenceStart(anchor, tag) => {
                if begins("[") {
                    const RIGHT: &str = "a list is written with one `- ` line for each item";
                    let message = "twemproxy allows no flow style, which `[` begins";
                    self.refuse("flow-style", message, at, RIGHT);
                }
                (*anchor, tag.is_some())
            }
            Event::MappingStart(anchor, tag) => {
                if begins("{") {
                    const RIGHT: &str = "write `name: value` on lines of their own; quote a value that begins with a brace: \"{}\"";
                    let message = "twemproxy allows no flow style, which `{` begins";
                    self.refuse("flow-style", message, at, RIGHT);
                }
                (*anchor, tag.is_some())
            }
            Event::Scalar(_, _, anchor, tag) => (*anchor, tag.is_some()),
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(false)
            | Event::DocumentEnd
            | Event::SequenceEnd
            | Event::MappingEnd => return,
        };
        if anchor != 0 {
            const RIGHT: &str = "take out the `&name` before this value";
            self.refuse("anchor", "twemproxy allows no anchors", at, RIGHT);
        }
        if tagged {
            const RIGHT: &str = "take out the `!tag` before this value";
            self.refuse("tag", "twemproxy allows no tags", at, RIGHT);
        }
    }

    /// What no event tells: libyaml takes no tab before the first word of a line or between a `-` and what follows, and
    /// an end marker may also stand at the beginning.
    fn lines(&mut self) {
        let mut start = 0;
        for line in self.text.split_inclusive(['\n', '\r']) {
            let lead = line.len() - line.trim_start_matches([' ', '\t', '-', '?']).len();
            if let Some(tab) = line[..lead].find('\t')
                && !self.in_scalar(start + tab)
            {
                let at = Span::new(self.file, start + tab, start + tab + 1);
                let message = "a tab stands where YAML takes only blanks";
                self.refuse("tab", message, at, "indent with blanks");
            }
            if line.split_whitespace().next() == Some("...")
                && line.starts_with('.')
                && !self.in_scalar(start)
            {
                const RIGHT: &str = "take the line with `...` out";
                let at = Span::new(self.file, start, start + 3);
                let message = "twemproxy allows no end marker";
                self.refuse("document-marker", message, at, RIGHT);
            }
            start += line.len();
        }
    }

    /// Scalars come in the order of the text.
    fn in_scalar(&self, at: usize) -> bool {
        let before = self.scalars.partition_point(|scalar| scalar.start <= at);
        let scalar = before
            .checked_sub(1)
            .and_then(|index| self.scalars.get(index));
        scalar.is_some_and(|scalar| at < scalar.end)
    }

    fn refuse(&mut self, code: &'static str, message: impl Into<String>, at: Span, right: &str) {
        self.found
            .push(Diagnostic::error(code, message).at(at, "").help(right));
    }

    /// Without the blanks and breaks that the parser counts to the end of some events.
    fn span(&self, span: saphyr_parser::Span) -> Span {
        let start = self.place(span.start);
        let end = self.place(span.end).max(start);
        let kept = self.text[start..end].trim_end().len();
        Span::new(self.file, start, start + kept)
    }

    fn place(&self, marker: Marker) -> usize {
        let index = marker.index();
        let at = match &self.offsets {
            Some(offsets) => offsets.get(index).copied().unwrap_or(self.text.len()),
            None => index,
        };
        at.min(self.text.len())
    }
}

/// The text as the parser here reads it in libyaml's way. One character for one, so that places stay what they are.
///
/// YAML 1.1 ends lines at three more characters, and libyaml takes a tab between `name:` and its value.
fn levelled(text: &str) -> Cow<'_, str> {
    const BREAKS: [char; 3] = ['\u{85}', '\u{2028}', '\u{2029}'];
    if !text.contains(BREAKS) && !text.contains(":\t") {
        return Cow::Borrowed(text);
    }
    let text = text.replace(BREAKS, "\n");
    Cow::Owned(text.split_inclusive('\n').map(tab_after_name).collect())
}

/// A line, with a blank for the tab after `name:`.
fn tab_after_name(line: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let name = line.trim_start_matches(' ').trim_start_matches(plain);
    match name.strip_prefix(":\t") {
        Some(value) => {
            let (before, _) = line.split_at(line.len() - name.len());
            format!("{before}: {value}")
        }
        None => line.to_owned(),
    }
}

fn add(collection: &mut Open, node: Node) {
    match collection {
        Open::Sequence { items, .. } => items.push(node),
        Open::Mapping { key, entries, .. } => match key.take() {
            None => *key = Some(node),
            Some(first) => entries.push((first, node)),
        },
    }
}

fn close(collection: Open) -> Node {
    match collection {
        // The parser gives every key a value, an empty one if there is none.
        Open::Mapping { at, entries, .. } => Node::Mapping { at, entries },
        Open::Sequence { at, items } => Node::Sequence { at, items },
    }
}
