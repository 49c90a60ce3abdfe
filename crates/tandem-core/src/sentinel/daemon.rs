//! What a sentinel asks the tandem daemon on a server's host, and what is answered.
//!
//! `SENTINEL TANDEM LIFE|ARCHIVE ip port` on the daemon's port, where nobody authenticates. A question is a hint and never
//! an order: the daemon finds out by itself whether its server is dead, or diverged from the primary of the fleet that it
//! follows, and does nothing for which it has no reason of its own. A Redis Sentinel, or nobody, listening at that port is
//! no daemon.
//!
//! What is answered is believed as far as it can do no harm: a death only while our own connection to the server has ended,
//! and of a resync nothing but its beginning depends on it.
//!
//! The answer is an array of a word and a text for people.

use tandem_resp::Value;

use crate::sentinel::ids::Endpoint;
use crate::sentinel::io::Word;

/// What is asked of a daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// Whether the server's process is gone. Nothing but a proof of that is an answer.
    Life,
    /// To keep what only that server holds: it is to be resynced.
    Tail,
}

impl About {
    fn word(self) -> &'static str {
        match self {
            Self::Life => "LIFE",
            Self::Tail => "ARCHIVE",
        }
    }
}

/// What a daemon answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A word for the machine.
    Word(Word),
    /// It is at work, or does not know yet: ask again. The text says what it waits for.
    Wait(String),
}

/// The command that asks about the server at this address.
#[must_use]
pub fn question(about: About, server: &Endpoint) -> Vec<Vec<u8>> {
    let port = server.port.to_string();
    let words = ["SENTINEL", "TANDEM", about.word(), &server.host, &port];
    words.map(|word| word.as_bytes().to_vec()).to_vec()
}

/// Reads a question from the words after SENTINEL; nothing for any other command.
#[must_use]
pub fn asked(words: &[Vec<u8>]) -> Option<(About, Endpoint)> {
    let [tandem, verb, host, port] = words else {
        return None;
    };
    if !tandem.eq_ignore_ascii_case(b"TANDEM") {
        return None;
    }
    let known = [About::Life, About::Tail];
    let about = known
        .into_iter()
        .find(|about| verb.eq_ignore_ascii_case(about.word().as_bytes()))?;
    let host = std::str::from_utf8(host).ok()?;
    let port = std::str::from_utf8(port).ok()?.parse().ok()?;
    Some((about, Endpoint::new(host, port)))
}

impl Answer {
    /// As it is sent.
    #[must_use]
    pub fn value(&self) -> Value {
        let (word, text) = match self {
            Self::Word(Word::Dead) => ("dead", ""),
            Self::Word(Word::Owned) => ("owned", ""),
            Self::Word(Word::Archived(text)) => ("archived", text.as_str()),
            Self::Word(Word::Unarchived(text)) => ("unarchived", text.as_str()),
            Self::Wait(text) => ("wait", text.as_str()),
        };
        let bulk = |text: &str| Value::Bulk(text.as_bytes().to_vec());
        Value::Array(vec![bulk(word), bulk(text)])
    }

    /// As it was received. Nothing for what no daemon says: then there is none.
    #[must_use]
    pub fn read(value: &Value) -> Option<Self> {
        let [word, text] = value.as_array()? else {
            return None;
        };
        let text = String::from_utf8_lossy(text.as_bytes()?).into_owned();
        Some(match word.as_bytes()? {
            b"dead" => Self::Word(Word::Dead),
            b"owned" => Self::Word(Word::Owned),
            b"archived" => Self::Word(Word::Archived(text)),
            b"unarchived" => Self::Word(Word::Unarchived(text)),
            b"wait" => Self::Wait(text),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_and_answers_read_back() {
        let server = Endpoint::new("10.0.1.1", 6379);
        for about in [About::Life, About::Tail] {
            let words = question(about, &server);
            assert_eq!(asked(&words[1..]), Some((about, server.clone())));
        }
        let answers = [
            Answer::Word(Word::Dead),
            Answer::Word(Word::Owned),
            Answer::Word(Word::Archived("97 bytes".to_owned())),
            Answer::Word(Word::Unarchived("disk full".to_owned())),
            Answer::Wait("reading".to_owned()),
        ];
        for answer in answers {
            assert_eq!(Answer::read(&answer.value()), Some(answer));
        }
    }

    #[test]
    fn other_words_are_no_question_and_other_answers_no_daemons() {
        let words = |line: &str| -> Vec<Vec<u8>> {
            line.split(' ')
                .map(|word| word.as_bytes().to_vec())
                .collect()
        };
        for line in [
            "TANDEM",
            "TANDEM ARCHIVE 10.0.1.1",
            "TANDEM ARCHIVE 10.0.1.1 x",
            "MASTERS a b c",
        ] {
            assert_eq!(asked(&words(line)), None, "{line}");
        }
        for value in [
            Value::Error(b"ERR unknown".to_vec()),
            Value::Null,
            Value::Array(vec![Value::Bulk(b"archived".to_vec())]),
            Value::Array(vec![Value::Bulk(b"hm".to_vec()), Value::Bulk(Vec::new())]),
        ] {
            assert_eq!(Answer::read(&value), None);
        }
    }
}
