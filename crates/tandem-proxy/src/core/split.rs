//! Requests over several shards: cut into one part per shard, answered by one reply put together from theirs.
//!
//! [`Merge`] says how; MGET's is the only one with an order: each key takes the next value of its shard's array.
//!
//! If one part fails the reply is that part's error, with its text; the others have been executed. twemproxy says
//! `-ERR Invalid argument` there, which tells nobody anything.

use super::desk::Desk;
use super::files;
use super::hello::{self, Hello};
use super::info;
use super::scan;
use super::slots::NONE;
use super::text;
use crate::command::Merge;
use crate::frame::{Fed, Scanner};

const APART: &[u8] = b"-ERR servers gave replies that do not fit together\r\n";

/// What becomes of the replies of the parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Join {
    /// They become one.
    All(Merge),
    /// There is one part, a step of a scan.
    Scan(scan::Step),
    /// They name versions, and become the reply to HELLO.
    Hello(Hello),
    /// Those of the first half count files; those of the other half are to the messages before, see [`files`].
    Files,
}

/// One split request.
#[derive(Debug)]
pub(super) struct Split {
    /// The client's slot; [`NONE`] once it has left.
    slot: u32,
    join: Join,
    /// Parts without reply.
    left: u16,
    /// Of each key, which part it went to; for [`Merge::InOrder`].
    order: Vec<u16>,
    parts: Vec<Part>,
    /// The first error among them.
    failed: Option<Vec<u8>>,
}

#[derive(Debug, Default)]
struct Part {
    reply: Vec<u8>,
    at: usize,
}

/// All split requests of a thread.
#[derive(Debug, Default)]
pub(super) struct Splits {
    splits: Vec<Split>,
    free: Vec<u32>,
}

impl Splits {
    /// The client has left; the parts' replies are swallowed.
    pub(super) fn orphan(&mut self, split: u32) {
        self.splits[split as usize].slot = NONE;
    }

    /// The slot of its client, if that is still there.
    pub(super) fn slot(&self, split: u32) -> Option<u32> {
        Some(self.splits[split as usize].slot).filter(|&slot| slot != NONE)
    }

    /// Opens a split of so many parts.
    pub(super) fn open(&mut self, join: Join, parts: u16, order: &[u16]) -> u32 {
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                self.splits.push(Split {
                    slot: NONE,
                    join,
                    left: 0,
                    order: Vec::new(),
                    parts: Vec::new(),
                    failed: None,
                });
                (self.splits.len() - 1) as u32
            }
        };
        let split = &mut self.splits[index as usize];
        split.join = join;
        split.left = parts;
        split.order.extend_from_slice(order);
        split.parts.resize_with(usize::from(parts), Part::default);
        index
    }

    /// Names the client's slot.
    pub(super) fn bind(&mut self, split: u32, slot: u32) {
        self.splits[split as usize].slot = slot;
    }

    /// The client's slot; [`NONE`] once it has left.
    pub(super) fn slot_of(&self, split: u32) -> u32 {
        self.splits[split as usize].slot
    }

    #[cfg(test)]
    pub(super) fn in_use(&self) -> usize {
        self.splits.len() - self.free.len()
    }
}

impl Desk {
    /// The reply of one part of a split.
    pub(super) fn part_answered(&mut self, split: u32, part: u16, reply: &[u8]) {
        let place = &mut self.splits.splits[split as usize];
        place.left -= 1;
        if place.slot != NONE {
            if reply.first() == Some(&b'-') {
                if place.failed.is_none() {
                    place.failed = Some(reply.to_vec());
                }
            } else {
                let mut buffer = self.spare.take();
                buffer.extend_from_slice(reply);
                place.parts[usize::from(part)].reply = buffer;
            }
        }
        if place.left == 0 {
            self.finish(split);
        }
    }

    /// Every part is answered.
    fn finish(&mut self, index: u32) {
        let split = &mut self.splits.splits[index as usize];
        let slot = split.slot;
        let merged = if slot == NONE {
            None
        } else if split.failed.is_some() && !split.may_fail_in_part() {
            split.failed.take()
        } else {
            let mut merged = self.spare.take();
            if let Join::Hello(hello) = split.join
                && let Some(version) = split.version()
            {
                self.versions.retain(|(pool, _)| *pool != hello.pool());
                self.versions.push((hello.pool(), version.to_vec()));
            }
            if !split.merge_into(&mut merged) {
                merged.clear();
                let what = match split.join {
                    Join::Scan(_) => text::CURSOR_TOO_LARGE,
                    Join::All(_) | Join::Hello(_) | Join::Files => APART,
                };
                merged.extend_from_slice(what);
            }
            Some(merged)
        };
        split.slot = NONE;
        split.failed = None;
        split.order.clear();
        for part in split.parts.drain(..) {
            self.spare.give(part.reply);
        }
        self.splits.free.push(index);
        if let Some(merged) = merged {
            self.answer_split(slot, merged);
        }
    }
}

impl Split {
    /// Whether one good reply makes up for errors of the others, and there is one.
    fn may_fail_in_part(&self) -> bool {
        matches!(self.join, Join::Hello(_))
            || self.join == Join::All(Merge::OneSucceeded)
                && self.parts.iter().any(|part| !part.reply.is_empty())
    }

    /// The lowest version that they name.
    fn version(&self) -> Option<&[u8]> {
        hello::lowest(self.parts.iter().map(|part| &part.reply[..]))
    }

    /// Puts the replies together; false if they are not of the kind that was expected.
    fn merge_into(&mut self, merged: &mut Vec<u8>) -> bool {
        let merge = match self.join {
            Join::All(merge) => merge,
            Join::Scan(step) => {
                let reply = self.parts.first().map_or(&[][..], |part| &part.reply);
                return step.merge(reply, merged).is_some();
            }
            Join::Hello(hello) => {
                hello.write(self.version(), merged);
                return true;
            }
            Join::Files => {
                let messages = self.parts.split_off(self.parts.len() / 2);
                if !messages.iter().all(|it| it.reply.starts_with(b":")) {
                    // One that was not told is asked about nothing.
                    merged.extend_from_slice(files::IN_NONE);
                    return true;
                }
                return self.fold(merged, i64::min);
            }
        };
        match merge {
            Merge::AllSucceeded => self.take_first(merged, |_| true),
            Merge::Info => {
                let replies: Vec<&[u8]> = self.parts.iter().map(|part| &part.reply[..]).collect();
                info::merge(&replies, merged).is_some()
            }
            Merge::OneSucceeded => self.take_first(merged, |reply| !reply.is_empty()),
            Merge::Pick => {
                self.take_first(merged, |reply| !is_null(reply))
                    || self.take_first(merged, |_| true)
            }
            Merge::Sum => self.fold(merged, i64::saturating_add),
            Merge::Min => self.fold(merged, i64::min),
            Merge::Max => self.fold(merged, i64::max),
            Merge::And => self.fold(merged, |left, right| left & right),
            Merge::Or => self.fold(merged, |left, right| left | right),
            Merge::InOrder => self.in_order(merged),
            Merge::Concatenate => self.concatenate(merged),
        }
    }

    /// The first reply of which `good` is true.
    fn take_first(&self, merged: &mut Vec<u8>, good: impl Fn(&[u8]) -> bool) -> bool {
        let first = self.parts.iter().find(|part| good(&part.reply));
        merged.extend_from_slice(first.map_or(&[], |part| &part.reply));
        first.is_some()
    }

    /// Integers become one; of arrays (SCRIPT EXISTS), each element with those in its place.
    fn fold(&mut self, merged: &mut Vec<u8>, join: impl Fn(i64, i64) -> i64) -> bool {
        let Some(first) = self.parts.first() else {
            return false;
        };
        let count = if first.reply.first() == Some(&b'*') {
            let Some((count, _)) = array(&first.reply) else {
                return false;
            };
            push_head(merged, count);
            for part in &mut self.parts {
                match array(&part.reply) {
                    Some((same, at)) if same == count => part.at = at,
                    Some(_) | None => return false,
                }
            }
            count
        } else {
            1
        };
        for _ in 0..count {
            let mut joined = None;
            for part in &mut self.parts {
                let rest = &part.reply[part.at..];
                let Ok(Fed::End(len)) = Scanner::new().feed(rest) else {
                    return false;
                };
                let Some(value) = integer(&rest[..len]) else {
                    return false;
                };
                part.at += len;
                joined = Some(joined.map_or(value, |before| join(before, value)));
            }
            merged.push(b':');
            push_decimal(merged, joined.unwrap_or_default());
            merged.extend_from_slice(b"\r\n");
        }
        true
    }

    fn in_order(&mut self, merged: &mut Vec<u8>) -> bool {
        push_head(merged, self.order.len() as i64);
        for part in &mut self.parts {
            let Some((_, at)) = array(&part.reply) else {
                return false;
            };
            part.at = at;
        }
        for &part in &self.order {
            let part = &mut self.parts[usize::from(part)];
            let rest = &part.reply[part.at..];
            let Ok(Fed::End(len)) = Scanner::new().feed(rest) else {
                return false;
            };
            merged.extend_from_slice(&rest[..len]);
            part.at += len;
        }
        true
    }

    fn concatenate(&mut self, merged: &mut Vec<u8>) -> bool {
        let mut count = 0i64;
        for part in &mut self.parts {
            let Some((elements, at)) = array(&part.reply) else {
                return false;
            };
            count = count.saturating_add(elements);
            part.at = at;
        }
        push_head(merged, count);
        for part in &self.parts {
            merged.extend_from_slice(&part.reply[part.at..]);
        }
        true
    }
}

fn is_null(reply: &[u8]) -> bool {
    matches!(reply, b"$-1\r\n" | b"*-1\r\n" | b"_\r\n")
}

fn push_head(merged: &mut Vec<u8>, count: i64) {
    merged.push(b'*');
    push_decimal(merged, count);
    merged.extend_from_slice(b"\r\n");
}

/// The value of an integer reply.
fn integer(reply: &[u8]) -> Option<i64> {
    let digits = reply.strip_prefix(b":")?.strip_suffix(b"\r\n")?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The number of elements of an array reply, and where the first begins.
fn array(reply: &[u8]) -> Option<(i64, usize)> {
    let rest = reply
        .strip_prefix(b"*")
        .or_else(|| reply.strip_prefix(b"~"))?;
    let end = rest.iter().position(|&byte| byte == b'\r')?;
    let count = std::str::from_utf8(&rest[..end]).ok()?.parse().ok()?;
    Some((count, end + 3))
}

/// Appends a number in decimal without allocating.
pub(super) fn push_decimal(bytes: &mut Vec<u8>, value: i64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        bytes.push(b'-');
    }
    bytes.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_those_of_the_standard_library() {
        for value in [0, 7, 10, -1, 1_000_000, i64::MAX, i64::MIN] {
            let mut bytes = Vec::new();
            push_decimal(&mut bytes, value);
            assert_eq!(bytes, value.to_string().into_bytes());
        }
    }
}
