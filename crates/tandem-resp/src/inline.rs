//! Splitting an inline command into arguments, with the quoting of redis-cli and redis.conf (`sdssplitargs`).
//!
//! Double quotes know `\n \r \t \b \a \xHH` and take any other escaped byte as itself; single quotes know only
//! `\'`. A closing quote must be followed by white space or the end.

/// The line's quotes are not balanced, or something follows a closing quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuoteError;

impl std::fmt::Display for QuoteError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("unbalanced quotes")
    }
}

impl std::error::Error for QuoteError {}

/// Splits a line into arguments.
///
/// # Errors
/// [`QuoteError`] if a quote stays open or is closed in the middle of a word.
pub fn split_inline(line: &[u8]) -> Result<Vec<Vec<u8>>, QuoteError> {
    let mut args = Vec::new();
    let mut rest = line;
    loop {
        let blank = rest.iter().take_while(|byte| is_blank(**byte)).count();
        rest = &rest[blank..];
        if rest.is_empty() {
            return Ok(args);
        }
        let (arg, after) = word(rest)?;
        args.push(arg);
        rest = after;
    }
}

/// C's `isspace`, and NUL, which ends a C string and so a word.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c | 0)
}

fn word(text: &[u8]) -> Result<(Vec<u8>, &[u8]), QuoteError> {
    let mut arg = Vec::new();
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        match byte {
            b'"' => {
                rest = closed(double_quoted(after, &mut arg)?)?;
                break;
            }
            b'\'' => {
                rest = closed(single_quoted(after, &mut arg)?)?;
                break;
            }
            blank if is_blank(blank) => break,
            plain => {
                arg.push(plain);
                rest = after;
            }
        }
    }
    Ok((arg, rest))
}

/// What follows a closing quote must be white space or nothing.
fn closed(rest: &[u8]) -> Result<&[u8], QuoteError> {
    match rest.first() {
        Some(&byte) if !is_blank(byte) => Err(QuoteError),
        Some(_) | None => Ok(rest),
    }
}

fn double_quoted<'a>(mut rest: &'a [u8], arg: &mut Vec<u8>) -> Result<&'a [u8], QuoteError> {
    loop {
        let (&byte, after) = rest.split_first().ok_or(QuoteError)?;
        match (byte, after) {
            (b'"', _) => return Ok(after),
            (b'\\', [b'x', high, low, tail @ ..])
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                arg.push(hex(*high) << 4 | hex(*low));
                rest = tail;
            }
            (b'\\', [escaped, tail @ ..]) => {
                arg.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => *other,
                });
                rest = tail;
            }
            (plain, _) => {
                arg.push(plain);
                rest = after;
            }
        }
    }
}

fn single_quoted<'a>(mut rest: &'a [u8], arg: &mut Vec<u8>) -> Result<&'a [u8], QuoteError> {
    loop {
        match rest {
            [] => return Err(QuoteError),
            [b'\\', b'\'', tail @ ..] => {
                arg.push(b'\'');
                rest = tail;
            }
            [b'\'', tail @ ..] => return Ok(tail),
            [plain, tail @ ..] => {
                arg.push(*plain);
                rest = tail;
            }
        }
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'A' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_as_redis_cli_does() {
        type Row<'a> = (&'a [u8], Option<&'a [&'a [u8]]>);
        let table: &[Row<'_>] = &[
            (b"", Some(&[])),
            (b"  \t ", Some(&[])),
            (b"ping", Some(&[b"ping"])),
            (b" set  a b ", Some(&[b"set", b"a", b"b"])),
            (b"set a \"b c\"", Some(&[b"set", b"a", b"b c"])),
            (b"\"\\x41\\x0a\\n\\q\\\"\"", Some(&[b"A\n\nq\""])),
            (b"\"\\x4\"", Some(&[b"x4"])),
            (b"'it\\'s' '\\n'", Some(&[b"it's", b"\\n"])),
            (b"a\"b\"", Some(&[b"ab"])),
            (b"\"\" ''", Some(&[b"", b""])),
            (b"\"open", None),
            (b"'open", None),
            (b"\"open\\", None),
            (b"\"a\"b", None),
            (b"'a'b", None),
        ];
        for (line, expected) in table {
            let expected = expected.map(|args| args.iter().map(|arg| arg.to_vec()).collect());
            assert_eq!(split_inline(line).ok(), expected, "{}", line.escape_ascii());
        }
    }
}
