//! From blocks to the model. Each block has its reader; this module has what they share.
//!
//! `global_defs` is read first wherever it stands, because instances take defaults from it.

mod address;
mod globals;
mod instance;
mod objects;

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::Findings;
use super::keywords::{self, Fate};
use super::model::{Config, Dropped, Script};
use super::tree::Node;
use super::words::{Ch, Word, split_script};
use crate::diagnostic::{Diagnostic, Span};
use crate::suggest::nearest;
use crate::value;

/// Reads all blocks of the file.
pub(super) fn config(nodes: &[Node], findings: &mut Findings) -> Config {
    let mut reader = Reader {
        findings,
        unsupported: Vec::new(),
        ignored: Vec::new(),
    };
    let mut config = Config::default();
    for node in nodes {
        if node.keyword.text == "global_defs" {
            globals::read(node, &mut config.global, &mut reader);
        } else if node.keyword.text == "interface_up_down_delays" {
            globals::interface_delays(node, &mut config.global, &mut reader);
        }
    }
    for node in nodes {
        match node.keyword.text.as_str() {
            "global_defs" | "interface_up_down_delays" => {}
            "vrrp_script" => {
                config
                    .scripts
                    .extend(objects::script(node, &config.global, &mut reader));
            }
            "track_file" | "vrrp_track_file" => config
                .track_files
                .extend(objects::track_file(node, &mut reader)),
            "vrrp_track_process" => config
                .track_processes
                .extend(objects::track_process(node, &mut reader)),
            "vrrp_sync_group" => {
                config
                    .sync_groups
                    .extend(objects::sync_group(node, &config.global, &mut reader));
            }
            "vrrp_instance" => {
                config
                    .instances
                    .extend(instance::read(node, &config.global, &mut reader));
            }
            // A brace without a keyword was reported when the blocks were built.
            "" => {}
            _ => reader.unacted(node, "the top of the file", keywords::TOP),
        }
    }
    config.unsupported = reader.unsupported;
    config.ignored = reader.ignored;
    config
}

/// What every block reader needs.
struct Reader<'a> {
    findings: &'a mut Findings,
    unsupported: Vec<Dropped>,
    ignored: Vec<Dropped>,
}

impl Reader<'_> {
    /// A keyword that the block's reader does not act on: listed, refused or unknown, never dropped in silence.
    fn unacted(&mut self, node: &Node, place: &str, known: &[&str]) {
        let keyword = node.keyword.text.as_str();
        let at = node.keyword.at;
        let dropped = |note| Dropped {
            keyword: keyword.to_owned(),
            at,
            note,
        };
        match keywords::fate(keyword) {
            Some(Fate::Unsupported(note)) => {
                self.unsupported.push(dropped(note));
                self.findings.advice(
                    Diagnostic::warning(
                        "unsupported",
                        format!("`{keyword}` is not done by tandem"),
                    )
                    .at(at, "has no effect here")
                    .help(note),
                );
            }
            Some(Fate::Refused(note)) => {
                self.unsupported.push(dropped(note));
                self.findings.advice(
                    Diagnostic::error("unsupported", format!("`{keyword}` is not done by tandem"))
                        .at(at, "cannot be left out safely")
                        .help(note),
                );
            }
            Some(Fate::Ignored(note)) => {
                self.ignored.push(dropped(note));
                self.findings.advice(
                    Diagnostic::note("ignored", format!("`{keyword}` is ignored")).at(at, note),
                );
            }
            None => {
                let found =
                    Diagnostic::warning("unknown-keyword", format!("unknown keyword `{keyword}`"));
                let found = match nearest(keyword, known.iter().copied()) {
                    Some(word) => found.at(at, format!("did you mean `{word}`?")),
                    None => found.at(at, format!("not a keyword of {place}")),
                };
                let found = if node.block.is_some() {
                    found.help("its whole block is skipped; keepalived would let the block's `}` end the block around it")
                } else {
                    found
                };
                self.findings.config_error(found);
            }
        }
    }

    /// A value that is not understood; keepalived keeps the default, and so does this reader.
    fn invalid(&mut self, node: &Node, right: &str) {
        let keyword = &node.keyword.text;
        self.findings.config_error(
            Diagnostic::warning("invalid-value", format!("`{keyword}` has an invalid value")).at(
                node.arg().map_or(node.keyword.at, |word| word.at),
                format!("must be {right}; the default holds"),
            ),
        );
    }

    /// Words after those that the keyword takes. The usual cause is a block on one line, where keepalived loses them.
    fn lost_words(&mut self, node: &Node, taken: usize) {
        let Some(lost) = node.args.get(taken..).filter(|lost| !lost.is_empty()) else {
            return;
        };
        let keyword = &node.keyword.text;
        let at = lost[0].at.to(lost[lost.len() - 1].at);
        let found = if lost
            .iter()
            .any(|word| keywords::is_known_anywhere(&word.text))
        {
            Diagnostic::warning(
                "one-line-block",
                format!("keywords after `{keyword}` on the same line are lost"),
            )
            .at(at, "keepalived reads one keyword per line and ignores this")
            .help("write each keyword of the block on a line of its own")
        } else {
            Diagnostic::warning("lost-words", format!("words after `{keyword}` are ignored"))
                .at(at, "not part of the value")
        };
        self.findings.advice(found);
    }

    /// Scalars that are given twice: the last one holds, which the eye does not see.
    fn duplicates(&mut self, lines: &[Node]) {
        for (index, node) in lines.iter().enumerate() {
            let earlier = lines[..index].iter().rfind(|earlier| {
                earlier.keyword.text == node.keyword.text
                    && earlier.block.is_none()
                    && node.block.is_none()
            });
            if let Some(earlier) = earlier {
                self.findings.advice(
                    Diagnostic::warning(
                        "duplicate",
                        format!("`{}` is given twice", node.keyword.text),
                    )
                    .at(node.span(), "this one holds")
                    .at(earlier.span(), "this one is overridden"),
                );
            }
        }
    }

    /// The keyword's word, or a finding that it has none.
    fn word<'n>(&mut self, node: &'n Node) -> Option<&'n Word> {
        let word = node.arg();
        if word.is_none() {
            self.invalid(node, "given");
        }
        word
    }

    /// A whole number within bounds.
    fn number<T: TryFrom<i64>>(&mut self, node: &Node, bounds: RangeInclusive<i64>) -> Option<T> {
        let number = self
            .word(node)?
            .text
            .parse::<i64>()
            .ok()
            .filter(|number| bounds.contains(number))
            .and_then(|number| T::try_from(number).ok());
        if number.is_none() {
            let (low, high) = bounds.into_inner();
            self.invalid(node, &format!("a whole number from {low} to {high}"));
        }
        number
    }

    /// Seconds with a fraction, within bounds in microseconds.
    fn seconds(&mut self, node: &Node, bounds_us: RangeInclusive<u64>) -> Option<Duration> {
        let text = &self.word(node)?.text;
        let found = seconds(text).filter(|time| {
            u64::try_from(time.as_micros()).is_ok_and(|micros| bounds_us.contains(&micros))
        });
        if found.is_none() {
            let show = |micros: u64| value::format_duration(Duration::from_micros(micros));
            let (low, high) = bounds_us.into_inner();
            self.invalid(
                node,
                &format!("seconds, from {} to {}", show(low), show(high)),
            );
        }
        found
    }

    /// A switch: bare means on.
    fn flag(&mut self, node: &Node) -> Option<bool> {
        let Some(word) = node.arg() else {
            return Some(true);
        };
        match word.text.as_str() {
            "on" | "true" | "yes" => Some(true),
            "off" | "false" | "no" => Some(false),
            _ => {
                self.invalid(node, "on, off, true, false, yes or no");
                None
            }
        }
    }

    /// An address without a prefix.
    fn address(&mut self, node: &Node) -> Option<IpAddr> {
        let address = self.word(node)?.text.parse().ok();
        if address.is_none() {
            self.invalid(node, "an IP address");
        }
        address
    }

    /// A command: the first word of the line, read again by the script lexer, and then user and group.
    fn script(
        &mut self,
        node: &Node,
        defaults: Option<&(String, Option<String>)>,
    ) -> Option<Script> {
        let words = split_script(&node.raw);
        let Some((first, rest)) = words.split_first() else {
            self.invalid(node, "a command");
            return None;
        };
        let argv = command(first);
        if argv.is_empty() {
            self.invalid(node, "a command");
            return None;
        }
        let (user, group) = match rest {
            [] => match defaults {
                Some((user, group)) => (Some(user.clone()), group.clone()),
                None => (None, None),
            },
            [user] => (Some(user.text.clone()), None),
            [user, group, lost @ ..] => {
                if let [from, .., to] | [from @ to] = lost {
                    self.findings.advice(
                        Diagnostic::warning(
                            "lost-words",
                            format!("arguments of `{}` are lost", node.keyword.text),
                        )
                        .at(
                            from.at.to(to.at),
                            "a command with arguments is one word here",
                        )
                        .help("put the command with its arguments into double quotes"),
                    );
                }
                (Some(user.text.clone()), Some(group.text.clone()))
            }
        };
        Some(Script {
            argv,
            user,
            group,
            at: first.at,
        })
    }
}

/// A word as a command line: split once more.
fn command(word: &Word) -> Vec<String> {
    let chars: Vec<Ch> = word.text.chars().map(|c| Ch { c, at: word.at }).collect();
    split_script(&chars)
        .into_iter()
        .map(|word| word.text)
        .collect()
}

/// `"0.5"` as half a second.
fn seconds(text: &str) -> Option<Duration> {
    value::parse_duration(&format!("{text}s")).ok()
}

/// Where a block's name stands, or its keyword if it has none.
fn name_of(node: &Node, reader: &mut Reader<'_>) -> Option<(String, Span)> {
    reader.word(node).map(|word| (word.text.clone(), word.at))
}
