//! `nutcracker.yml`, as twemproxy 0.5.0 reads it.
//!
//! [`read`] gives the pools of `tandem_proxy`, with twemproxy's defaults, names and order of servers, and everything there is
//! to say about the file. A file is valid here exactly if `nutcracker -t` calls it valid: `yaml` knows what form a file may have,
//! `directive` the names and values, `address` and `number` how twemproxy splits and counts, `pools` what has to hold
//! between them. Where twemproxy stops at its first error without a place, all of them are reported with theirs.
//!
//! What is valid and not what its author will have meant is a warning, and nothing is mended in silence: a number that
//! overflows means here what it means there.
//!
//! A pool that speaks memcached's protocol is valid too. This program cannot run it, which [`Loaded::memcached`] says.

mod address;
mod directive;
mod number;
mod pools;
mod yaml;

use tandem_proxy::settings::Pool;

pub use number::number;

use crate::diagnostic::{Diagnostic, Report, Span};
use directive::Draft;
use yaml::{Node, Word};

/// The code of the warning that a pool speaks memcached's protocol.
pub const MEMCACHED_POOL: &str = "memcached-pool";

/// A pool that twemproxy would run and this program does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memcached {
    /// The pool's name.
    pub pool: String,
    /// Its place in the file.
    pub at: Span,
}

/// The result of reading a file.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The pools in twemproxy's order: by name, shorter names first. To be run only if the report has no errors.
    pub pools: Vec<Pool>,
    /// Pools that are left out of `pools`: those without `redis: true`.
    pub memcached: Vec<Memcached>,
    /// Everything there is to say. It has errors exactly if `nutcracker -t` calls the syntax invalid.
    pub report: Report,
}

/// Looks up a host to listen on, as getaddrinfo(3) does; the error is the reason for people.
///
/// twemproxy does this while it reads, and calls a file invalid whose host has no address.
pub type Resolve<'r> = &'r dyn Fn(&str, u16) -> Result<(), String>;

/// Reads a file. `name` is what findings shall call it.
pub fn read(name: &str, bytes: &[u8], resolve: Resolve<'_>) -> Loaded {
    let mut report = Report::default();
    let (file, text) = yaml::decode(name, bytes, &mut report);
    let tree = text.and_then(|text| yaml::parse(file, &text, &mut report));
    let drafts = tree
        .map(|tree| drafts(&tree, &mut report))
        .unwrap_or_default();
    let (pools, memcached) = pools::finish(drafts, resolve, &mut report);
    report.sort();
    Loaded {
        pools,
        memcached,
        report,
    }
}

/// The pools as the file describes them, by the two levels that twemproxy allows.
fn drafts(tree: &Node, report: &mut Report) -> Vec<Draft> {
    const FORM: &str = "a pool is `name:` with its directives below it, each one indented by the same number of blanks";
    let Node::Mapping { entries, .. } = tree else {
        report.push(
            Diagnostic::error("structure", "the file is not a list of named pools")
                .at(first_line(tree.at()), "")
                .help(FORM),
        );
        return Vec::new();
    };
    let mut drafts = Vec::new();
    for (key, value) in entries {
        let Some(name) = scalar(key, "the name of a pool", report) else {
            continue;
        };
        let Node::Mapping { entries, .. } = value else {
            report.push(
                Diagnostic::error(
                    "structure",
                    format!("the pool `{}` has no directives", name.text),
                )
                .at(name.at, "")
                .help(FORM),
            );
            continue;
        };
        drafts.push(draft(name, entries, report));
    }
    drafts
}

fn draft(name: &Word, entries: &[(Node, Node)], report: &mut Report) -> Draft {
    let mut draft = Draft::new(name.clone());
    let mut list: Option<Span> = None;
    for (key, value) in entries {
        let Some(directive) = scalar(key, "the name of a directive", report) else {
            continue;
        };
        match value {
            Node::Scalar(_) | Node::Alias(_) => {
                if let Some(value) =
                    scalar(value, &format!("the value of `{}`", directive.text), report)
                {
                    draft.set(directive, value, report);
                }
            }
            Node::Sequence { items, .. } => {
                if let Some(first) = list.replace(directive.at) {
                    report.push(
                        Diagnostic::error(
                            "structure",
                            format!("the pool `{}` has more than one list", name.text),
                        )
                        .at(directive.at, "the second")
                        .at(first, "the first")
                        .help("a pool has one list, its servers"),
                    );
                }
                for item in items {
                    if let Some(value) =
                        scalar(item, &format!("an item of `{}`", directive.text), report)
                    {
                        draft.set(directive, value, report);
                    }
                }
            }
            Node::Mapping { at, .. } => nested(*at, report),
        }
    }
    draft.list_given = list.is_some();
    if list.is_none() {
        report.push(
            Diagnostic::error(
                "structure",
                format!("the pool `{}` has no list of servers", name.text),
            )
            .at(name.at, "")
            .help("below `servers:` one line for each: `- 10.0.0.1:6379:1`"),
        );
    }
    draft
}

/// A word that is not empty; anything else is reported, an alias already.
fn scalar<'n>(node: &'n Node, what: &str, report: &mut Report) -> Option<&'n Word> {
    match node {
        Node::Scalar(word) if !word.text.is_empty() => Some(word),
        Node::Scalar(word) => {
            report.push(
                Diagnostic::error("empty", format!("{what} is empty"))
                    .at(word.at, "")
                    .help("write one, or take the line out"),
            );
            None
        }
        Node::Alias(_) => None,
        Node::Mapping { at, .. } | Node::Sequence { at, .. } => {
            nested(*at, report);
            None
        }
    }
}

fn nested(at: Span, report: &mut Report) {
    report.push(
        Diagnostic::error("structure", "this is nested too deeply")
            .at(first_line(at), "")
            .help("a pool has directives, and only its servers are a list; quote a value that holds `: `"),
    );
}

/// A place to point at for something that may be the whole file.
fn first_line(at: Span) -> Span {
    Span::new(at.file, at.start, at.start + usize::from(at.end > at.start))
}
