//! What daemons tell the proxies of other hosts about a group, and what those report back.
//!
//! Both go over the port where clients look for the primary. A change is told at once to all who subscribe to [`CHANNEL`];
//! the newest word can also be asked for, because what is told while nobody listens is missed. A proxy reports
//! when all that it had sent to a closing primary is answered. Nobody authenticates there: a false report makes writes be
//! paused a few milliseconds too early, which costs what no report at all costs.

use std::time::{Duration, Instant};

use tandem_resp::Value;

use crate::ids::HostId;
use crate::topology::{Rank, Topology};

/// Where changes are told.
pub const CHANNEL: &str = "+tandem-topology";

/// What may be done with a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Its primary may be asked.
    Serving,
    /// Its primary is about to stop being it.
    Closing,
    /// It has none.
    Nobody,
}

impl Phase {
    const ALL: [Self; 3] = [Self::Serving, Self::Closing, Self::Nobody];

    fn word(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Closing => "closing",
            Self::Nobody => "nobody",
        }
    }
}

/// The part of a snapshot that the answers of a Sentinel have no place for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// The group.
    pub group: String,
    /// When it was said.
    pub rank: Rank,
    /// What may be done.
    pub phase: Phase,
}

impl Word {
    /// What a snapshot says.
    #[must_use]
    pub fn of(group: &str, topology: &Topology) -> Self {
        Self {
            group: group.to_owned(),
            rank: topology.rank.clone(),
            phase: match &topology.primary {
                Some(_) if topology.closing => Phase::Closing,
                Some(_) => Phase::Serving,
                None => Phase::Nobody,
            },
        }
    }

    /// As it is told: the group, its epoch with the host that it belongs to, the turn, and the phase in a word.
    #[must_use]
    pub fn line(&self) -> String {
        let Rank { epoch, host, turn } = &self.rank;
        let phase = self.phase.word();
        format!("{} {epoch}@{host} {turn} {phase}", self.group)
    }

    /// As it was heard. What a later version adds at the end is passed over.
    #[must_use]
    pub fn read(line: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(line).ok()?.split(' ');
        let group = words.next()?.to_owned();
        let rank = rank(words.next()?, words.next()?)?;
        let word = words.next()?;
        let phase = Phase::ALL.into_iter().find(|it| it.word() == word)?;
        Some(Self { group, rank, phase })
    }
}

/// An epoch, `7@a`, and a turn of it.
fn rank(epoch: &str, turn: &str) -> Option<Rank> {
    let (counter, host) = epoch.split_once('@')?;
    Some(Rank {
        epoch: counter.parse().ok()?,
        host: HostId::new(host),
        turn: turn.parse().ok()?,
    })
}

/// What a proxy sends to a daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// What holds for this group?
    Topology(String),
    /// Nothing sent to its primary is unanswered, after the word of this rank that it closes.
    Quiet(String, Rank),
}

impl Request {
    /// The command.
    #[must_use]
    pub fn argv(&self) -> Vec<Vec<u8>> {
        let mut words = vec!["SENTINEL".to_owned(), "TANDEM".to_owned()];
        match self {
            Self::Topology(group) => words.extend(["TOPOLOGY".to_owned(), group.clone()]),
            Self::Quiet(group, Rank { epoch, host, turn }) => words.extend([
                "QUIET".to_owned(),
                group.clone(),
                format!("{epoch}@{host}"),
                turn.to_string(),
            ]),
        }
        words.into_iter().map(String::into_bytes).collect()
    }

    /// Reads the words after SENTINEL; nothing for any other command.
    #[must_use]
    pub fn read(words: &[Vec<u8>]) -> Option<Self> {
        let text = |word: &[u8]| std::str::from_utf8(word).ok().map(str::to_owned);
        let [tandem, verb, group, rest @ ..] = words else {
            return None;
        };
        if !tandem.eq_ignore_ascii_case(b"TANDEM") {
            return None;
        }
        match rest {
            [] if verb.eq_ignore_ascii_case(b"TOPOLOGY") => Some(Self::Topology(text(group)?)),
            [epoch, turn] if verb.eq_ignore_ascii_case(b"QUIET") => {
                let rank = rank(&text(epoch)?, &text(turn)?)?;
                Some(Self::Quiet(text(group)?, rank))
            }
            _ => None,
        }
    }
}

/// The answer to [`Request::Topology`]; null for a group that the daemon does not know.
#[must_use]
pub fn answer(word: Option<&Word>) -> Value {
    word.map_or(Value::Null, |word| Value::Bulk(word.line().into_bytes()))
}

/// What nobody has said for this long does not win over what is said now.
pub const STALE_AFTER: Duration = Duration::from_secs(10);

/// The newest words on one group, those of epochs that are still to come included.
///
/// An epoch is heard of before the server that is its primary has said that it is one. Until then the word on the epoch
/// before it counts, and the newer one is kept. Whoever is asked repeats what holds; so a word that is not repeated while others
/// of its epoch are has nobody behind it, and ages.
#[derive(Clone, Debug, Default)]
pub struct Words {
    kept: Vec<(Word, Instant)>,
}

/// Epochs of which a word is kept.
const EPOCHS_MAX: usize = 8;

impl Words {
    /// Takes a word. Within an epoch the latest turn counts, and of two in the same turn the first.
    pub fn take(&mut self, word: Word, now: Instant) {
        let era = |it: &Word| (it.rank.epoch, it.rank.host.clone());
        let known = self.kept.iter_mut();
        match known.into_iter().find(|(it, _)| era(it) == era(&word)) {
            Some((known, said)) if *known == word => *said = now,
            Some((known, said)) => {
                let stale = now.saturating_duration_since(*said) >= STALE_AFTER;
                if known.rank < word.rank || (stale && known.rank != word.rank) {
                    (*known, *said) = (word, now);
                }
            }
            None => {
                self.kept.push((word, now));
                self.kept
                    .sort_by(|(one, _), (other, _)| one.rank.cmp(&other.rank));
                if self.kept.len() > EPOCHS_MAX {
                    self.kept.remove(0);
                }
            }
        }
    }

    /// The newest word on an epoch.
    #[must_use]
    pub fn on(&self, epoch: u64, host: &HostId) -> Option<&Word> {
        let same = |(it, _): &&(Word, Instant)| (it.rank.epoch, &it.rank.host) == (epoch, host);
        self.kept.iter().find(same).map(|(word, _)| word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(epoch: u64, turn: u64, phase: Phase) -> Word {
        Word {
            group: "orders".to_owned(),
            rank: Rank {
                epoch,
                host: HostId::new("a"),
                turn,
            },
            phase,
        }
    }

    #[test]
    fn words_and_requests_are_read_as_they_were_written() {
        let said = word(7, 3, Phase::Closing);
        assert_eq!(said.line(), "orders 7@a 3 closing");
        for phase in Phase::ALL {
            let said = word(7, 3, phase);
            assert_eq!(Word::read(said.line().as_bytes()), Some(said));
        }
        for bad in [
            "",
            "orders",
            "orders 7 3 closing",
            "orders x@a 3 closing",
            "orders 7@a 3 sleeping",
        ] {
            assert_eq!(Word::read(bad.as_bytes()), None, "{bad}");
        }
        let more = b"orders 7@a 3 closing and=more";
        assert_eq!(Word::read(more), Some(said.clone()));
        for request in [
            Request::Topology("orders".to_owned()),
            Request::Quiet("orders".to_owned(), said.rank),
        ] {
            assert_eq!(Request::read(&request.argv()[1..]), Some(request));
        }
        let other = ["TANDEM", "LIFE", "10.0.0.1", "6379"];
        assert_eq!(Request::read(&other.map(|it| it.as_bytes().to_vec())), None);
    }

    /// Whatever is lost, repeated or late: the word on an epoch is the one of its latest turn that was heard.
    #[test]
    fn an_older_word_never_wins() {
        let (now, a) = (crate::testing::origin(), HostId::new("a"));
        let mut state = 1u64;
        let mut draw = |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % below
        };
        for _ in 0..2000 {
            let heard: Vec<(u64, u64)> = (0..draw(30)).map(|_| (draw(4), draw(6))).collect();
            let mut words = Words::default();
            for (epoch, turn) in &heard {
                // The owner of an epoch says one thing in one turn.
                let said = word(*epoch, *turn, Phase::ALL[(*turn % 3) as usize]);
                words.take(said, now);
            }
            for epoch in 0..4 {
                let latest = heard.iter().filter(|it| it.0 == epoch).map(|it| it.1).max();
                assert_eq!(
                    words.on(epoch, &a).map(|it| it.rank.turn),
                    latest,
                    "{heard:?}"
                );
                if let Some(said) = words.on(epoch, &a) {
                    assert_eq!(said.phase, Phase::ALL[(said.rank.turn % 3) as usize]);
                }
            }
        }
    }

    #[test]
    fn a_word_that_nobody_repeats_gives_way_in_time_and_hosts_do_not_mix() {
        let start = crate::testing::origin();
        let (closing, serving) = (word(7, 9, Phase::Closing), word(7, 3, Phase::Serving));
        let mut words = Words::default();
        words.take(closing.clone(), start);
        let mut of_b = word(7, 20, Phase::Nobody);
        of_b.rank.host = HostId::new("b");
        words.take(of_b.clone(), start);
        let half = start + STALE_AFTER / 2;
        words.take(closing.clone(), half);
        words.take(serving.clone(), start + STALE_AFTER);
        assert_eq!(words.on(7, &HostId::new("a")), Some(&closing));
        words.take(serving.clone(), half + STALE_AFTER);
        assert_eq!(words.on(7, &HostId::new("a")), Some(&serving));
        assert_eq!(words.on(7, &HostId::new("b")), Some(&of_b));
    }
}
