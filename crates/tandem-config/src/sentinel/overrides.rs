//! Options on the command line: `redis-sentinel FILE --port 26380 --sentinel monitor ...`.

use super::words;

/// Options of the command line as the lines that Redis makes of them and appends to the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    text: Vec<u8>,
}

impl Overrides {
    /// The arguments after the file's name.
    ///
    /// As Redis 7.0: an argument that begins with `--` starts a line, the others are its values; the one after a bare
    /// option is a value whatever it looks like, except after `--sentinel`, which may stand alone, and `--save`, which then means the
    /// empty value. An option and its values may also be one argument (`"--port 26380"`).
    pub fn parse<I>(arguments: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<[u8]>,
    {
        let mut text: Vec<u8> = Vec::new();
        let mut arguments = arguments.into_iter().peekable();
        let mut value_must_follow = false;
        while let Some(argument) = arguments.next() {
            let argument = argument.as_ref();
            let option = argument.strip_prefix(b"--").filter(|_| !value_must_follow);
            let Some(option) = option else {
                text.extend(words::quoted(argument));
                text.push(b' ');
                value_must_follow = false;
                continue;
            };
            if !text.is_empty() {
                text.push(b'\n');
            }
            text.extend(option);
            text.push(b' ');
            let is_bare = words::split(option, 0).words.len() <= 1;
            let next_is_option = arguments
                .peek()
                .is_none_or(|next| next.as_ref().starts_with(b"--"));
            let may_stand_alone = option.eq_ignore_ascii_case(b"sentinel");
            let may_be_empty = option.eq_ignore_ascii_case(b"save");
            value_must_follow = is_bare && !(next_is_option && (may_stand_alone || may_be_empty));
            if next_is_option && may_be_empty {
                text.extend(b"\"\"");
            }
        }
        Self { text }
    }

    /// The lines, without a line end after the last.
    pub fn text(&self) -> &[u8] {
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(arguments: &[&str]) -> String {
        let text = Overrides::parse(arguments).text().to_vec();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn arguments_become_lines() {
        for (arguments, lines) in [
            (&[][..], ""),
            (&["--port", "5000"], "port \"5000\" "),
            (
                &["--port", "5000", "--loglevel", "debug"],
                "port \"5000\" \nloglevel \"debug\" ",
            ),
            (&["--sentinel", "myid", "x y"], "sentinel \"myid\" \"x y\" "),
            (&["--sentinel"], "sentinel "),
            (&["--sentinel", "--port", "1"], "sentinel \nport \"1\" "),
            (&["--port 5000", "--dir", "/"], "port 5000 \ndir \"/\" "),
            (&["--requirepass", "--secret"], "requirepass \"--secret\" "),
            (&["--save", "--port", "1"], "save \"\"\nport \"1\" "),
        ] {
            assert_eq!(text(arguments), lines, "{arguments:?}");
        }
    }
}
