//! From lines to blocks.
//!
//! Blocks are balanced here, before anyone asks what a keyword means; that is why an unknown block can be skipped whole.

use super::Findings;
use super::words::{Ch, Word, split};
use crate::diagnostic::{Diagnostic, Span};

/// How deep blocks may stand in each other; real files need four.
const DEPTH_MAX: usize = 32;

/// What a logical line is.
#[derive(Debug, Clone)]
pub(super) enum Line {
    /// Words.
    Words(Vec<Ch>),
    /// `{`.
    Open(Span),
    /// `}`.
    Close(Span),
}

/// A keyword with its words and, if it has one, its block.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) keyword: Word,
    /// The words after the keyword.
    pub(super) args: Vec<Word>,
    /// The line after the keyword, for the script lexer.
    pub(super) raw: Vec<Ch>,
    /// The block, if one follows.
    pub(super) block: Option<Vec<Node>>,
}

impl Node {
    /// The first word after the keyword.
    pub(super) fn arg(&self) -> Option<&Word> {
        self.args.first()
    }

    /// The keyword with its words.
    pub(super) fn span(&self) -> Span {
        self.args
            .last()
            .map_or(self.keyword.at, |last| self.keyword.at.to(last.at))
    }

    /// The lines of the block; none without one.
    pub(super) fn lines(&self) -> &[Self] {
        self.block.as_deref().unwrap_or_default()
    }
}

pub(super) fn build(lines: Vec<Line>, findings: &mut Findings) -> Vec<Node> {
    let mut top = Vec::new();
    // The blocks that are open, each with the place of its brace.
    let mut open: Vec<(Node, Span)> = Vec::new();
    let mut last_was_words = false;
    for line in lines {
        let here = match open.last_mut() {
            Some((node, _)) => node.block.get_or_insert_with(Vec::new),
            None => &mut top,
        };
        match line {
            Line::Words(chars) => {
                if let Some(node) = node(chars) {
                    here.push(node);
                    last_was_words = true;
                }
            }
            Line::Open(at) => {
                let before = if last_was_words { here.pop() } else { None };
                last_was_words = false;
                let node = before.unwrap_or_else(|| {
                    findings.config_error(
                        Diagnostic::warning("stray-brace", "`{` without a keyword before it")
                            .at(at, "this block is skipped")
                            .help("write the block's keyword before the brace"),
                    );
                    Node {
                        keyword: Word {
                            text: String::new(),
                            at,
                        },
                        args: Vec::new(),
                        raw: Vec::new(),
                        block: None,
                    }
                });
                if open.len() >= DEPTH_MAX {
                    findings.fatal(
                        Diagnostic::error("too-deep", "blocks are nested too deeply")
                            .at(at, format!("at most {DEPTH_MAX} levels are read")),
                    );
                    break;
                }
                let node = Node {
                    block: Some(Vec::new()),
                    ..node
                };
                open.push((node, at));
            }
            Line::Close(at) => {
                last_was_words = false;
                match open.pop() {
                    Some((node, _)) => match open.last_mut() {
                        Some((parent, _)) => parent.block.get_or_insert_with(Vec::new).push(node),
                        None => top.push(node),
                    },
                    None => findings.config_error(
                        Diagnostic::warning("stray-brace", "`}` without a block to close")
                            .at(at, "nothing is open here"),
                    ),
                }
            }
        }
    }
    while let Some((node, at)) = open.pop() {
        findings.config_error(
            Diagnostic::error("open-block", "a block is not closed")
                .at(at, "opened here, and the file ends without its `}`")
                .at(node.keyword.at, ""),
        );
        match open.last_mut() {
            Some((parent, _)) => parent.block.get_or_insert_with(Vec::new).push(node),
            None => top.push(node),
        }
    }
    top
}

fn node(chars: Vec<Ch>) -> Option<Node> {
    let mut words = split(&chars);
    if words.is_empty() {
        return None;
    }
    let args = words.split_off(1);
    let keyword = words.pop()?;
    let after = chars
        .iter()
        .position(|ch| ch.at.start >= keyword.at.end && ch.at.file == keyword.at.file)
        .unwrap_or(chars.len());
    Some(Node {
        keyword,
        args,
        raw: chars[after..].to_vec(),
        block: None,
    })
}
