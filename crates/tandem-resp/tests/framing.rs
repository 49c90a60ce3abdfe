//! Framing as a whole: tables of good and bad replies and requests, the property that the places where input is
//! split do not matter, round trips, and the corpus of awkward inputs.

use proptest::prelude::*;
use tandem_resp::stream::StreamParser;
use tandem_resp::{
    Command, ErrorKind, FrameError, Limits, Protocol, ReplyDecoder, RequestParser, Value,
};

fn bulk(text: &str) -> Value {
    Value::Bulk(text.as_bytes().to_vec())
}

fn tight() -> Limits {
    Limits {
        max_bulk: 64,
        max_depth: 3,
        max_elements: 16,
        max_inline: 32,
        max_frame: 256,
    }
}

/// Every reply until the input ends or is refused.
fn replies(pieces: &[&[u8]], limits: Limits) -> (Vec<Value>, Option<FrameError>) {
    let mut decoder = ReplyDecoder::new(limits);
    let mut values = Vec::new();
    for piece in pieces {
        decoder.feed(piece);
        loop {
            match decoder.next_value() {
                Ok(Some(value)) => values.push(value),
                Ok(None) => break,
                Err(error) => return (values, Some(error)),
            }
        }
    }
    (values, None)
}

fn requests(pieces: &[&[u8]], limits: Limits) -> (Vec<Vec<Vec<u8>>>, Option<FrameError>) {
    let mut parser = RequestParser::new(limits);
    let mut buffer = Vec::new();
    let mut all = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match parser.parse(&buffer) {
                Ok(Some(request)) => {
                    all.push(request.to_args(&buffer));
                    buffer.drain(..request.len);
                }
                Ok(None) => break,
                Err(error) => return (all, Some(error)),
            }
        }
    }
    (all, None)
}

/// Argument lists with the offsets before and after each command.
type Entries = Vec<(Vec<Vec<u8>>, u64, u64)>;

fn stream_entries(pieces: &[&[u8]], limits: Limits) -> (Entries, Option<FrameError>) {
    let mut parser = StreamParser::new(100, limits);
    let mut buffer = Vec::new();
    let mut all = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match parser.next_entry(&buffer) {
                Ok(Some(entry)) => {
                    let args = (0..entry.argv.len())
                        .filter_map(|index| entry.arg(index, &buffer))
                        .map(<[u8]>::to_vec)
                        .collect();
                    all.push((args, entry.start, entry.end));
                    buffer.drain(..entry.len);
                }
                Ok(None) => break,
                Err(error) => return (all, Some(error)),
            }
        }
    }
    (all, None)
}

#[test]
fn good_replies() {
    let table: &[(&[u8], Value)] = &[
        (b"+OK\r\n", Value::Simple(b"OK".to_vec())),
        (b"+\r\n", Value::Simple(Vec::new())),
        (b"-ERR no\r\n", Value::Error(b"ERR no".to_vec())),
        (b":-7\r\n", Value::Integer(-7)),
        (b":+7\r\n", Value::Integer(7)),
        (b":-9223372036854775808\r\n", Value::Integer(i64::MIN)),
        (b"$0\r\n\r\n", bulk("")),
        (b"$4\r\na\r\nb\r\n", bulk("a\r\nb")),
        (b"$-1\r\n", Value::Null),
        (b"*-1\r\n", Value::Null),
        (b"_\r\n", Value::Null),
        (b"#t\r\n", Value::Boolean(true)),
        (b",1.5\r\n", Value::Double(1.5)),
        (b",-inf\r\n", Value::Double(f64::NEG_INFINITY)),
        (
            b"(-123456789012345678901\r\n",
            Value::BigNumber(b"-123456789012345678901".to_vec()),
        ),
        (b"!6\r\nERR no\r\n", Value::Error(b"ERR no".to_vec())),
        (b"=6\r\ntxt:hi\r\n", Value::Verbatim(b"txt:hi".to_vec())),
        (b"*0\r\n", Value::Array(Vec::new())),
        (
            b"*3\r\n:1\r\n*1\r\n$1\r\na\r\n_\r\n",
            Value::Array(vec![
                Value::Integer(1),
                Value::Array(vec![bulk("a")]),
                Value::Null,
            ]),
        ),
        (b"~1\r\n:1\r\n", Value::Set(vec![Value::Integer(1)])),
        (
            b">1\r\n+x\r\n",
            Value::Push(vec![Value::Simple(b"x".to_vec())]),
        ),
        (
            b"%1\r\n+k\r\n*1\r\n:2\r\n",
            Value::Map(vec![(
                Value::Simple(b"k".to_vec()),
                Value::Array(vec![Value::Integer(2)]),
            )]),
        ),
        // Attributes, also empty, nested and in front of the last member, take no place.
        (b"|1\r\n+ttl\r\n:9\r\n:5\r\n", Value::Integer(5)),
        (b"|0\r\n:5\r\n", Value::Integer(5)),
        (
            b"*2\r\n:1\r\n|1\r\n+a\r\n*1\r\n:0\r\n:2\r\n",
            Value::Array(vec![Value::Integer(1), Value::Integer(2)]),
        ),
    ];
    for (wire, expected) in table {
        let got = replies(&[wire], Limits::default());
        assert_eq!(
            got,
            (vec![expected.clone()], None),
            "{}",
            wire.escape_ascii()
        );
        for cut in 0..wire.len() {
            let partial = replies(&[&wire[..cut]], Limits::default());
            assert_eq!(
                partial,
                (Vec::new(), None),
                "{} at {cut}",
                wire.escape_ascii()
            );
        }
    }
}

#[test]
fn bad_replies_are_refused_at_their_byte() {
    use ErrorKind::*;
    let table: &[(&[u8], ErrorKind, u64)] = &[
        (b"OK\r\n", UnknownType(b'O'), 0),
        (b"+OK\r\n\0", UnknownType(0), 5),
        (b"+OK\n", MissingCarriageReturn, 0),
        (b"$2\r\nabc\r\n", MissingTerminator, 4),
        (b"$x\r\n", BadNumber, 0),
        (b"$+1\r\n", BadNumber, 0),
        (b"$01\r\n", BadNumber, 0),
        (b"$\r\n", BadNumber, 0),
        (b"$-2\r\n", NegativeLength, 0),
        (b"~-1\r\n", NegativeLength, 0),
        (b"=-1\r\n", NegativeLength, 0),
        (b"$?\r\n", Streamed, 0),
        (b"*?\r\n", Streamed, 0),
        (b":\r\n", BadNumber, 0),
        (b":+-1\r\n", BadNumber, 0),
        (b":9223372036854775808\r\n", BadNumber, 0),
        (b",x\r\n", BadNumber, 0),
        (b"(\r\n", BadNumber, 0),
        (b"#x\r\n", BadNumber, 0),
        (b"_x\r\n", BadNumber, 0),
        (b"$65\r\n", BulkTooLong, 0),
        (b"$99999999999999999999\r\n", BadNumber, 0),
        (b"*16\r\n", TooManyElements, 0),
        (b"%8\r\n", TooManyElements, 0),
        (b"*9223372036854775807\r\n", TooManyElements, 0),
        (b"*1\r\n*1\r\n*1\r\n*1\r\n", TooDeep, 12),
        (b"*2\r\n*8\r\n*8\r\n", TooManyElements, 8),
        (b"+0123456789012345678901234567890123\r\n", LineTooLong, 0),
    ];
    for (wire, kind, offset) in table {
        let got = replies(&[wire], tight()).1;
        let expected = FrameError {
            kind: *kind,
            offset: *offset,
        };
        assert_eq!(got, Some(expected), "{}", wire.escape_ascii());
    }
}

#[test]
fn a_frame_is_bounded_as_a_whole() {
    let mut wire = b"*15\r\n".to_vec();
    for _ in 0..15 {
        wire.extend_from_slice(b"$60\r\n");
        wire.extend_from_slice(&[b'x'; 60]);
        wire.extend_from_slice(b"\r\n");
    }
    let error = replies(&[&wire], tight()).1.map(|error| error.kind);
    assert_eq!(error, Some(ErrorKind::FrameTooLong));
}

#[test]
fn requests_as_redis_reads_them() {
    type Args<'a> = &'a [&'a [u8]];
    let table: &[(&[u8], &[Args<'_>])] = &[
        (b"*1\r\n$4\r\nPING\r\n", &[&[b"PING"]]),
        (b"PING\r\n", &[&[b"PING"]]),
        (b"PING\n", &[&[b"PING"]]),
        (b"\r\n\n", &[&[], &[]]),
        (b"*0\r\n*-1\r\n", &[&[], &[]]),
        (b"set a \"b\\x0ac\"\r\n", &[&[b"set", b"a", b"b\nc"]]),
        (b"*2\r\n$0\r\n\r\n$2\r\n\r\n\r\n", &[&[b"", b"\r\n"]]),
    ];
    for (wire, expected) in table {
        let expected: Vec<Vec<Vec<u8>>> = expected
            .iter()
            .map(|args| args.iter().map(|arg| arg.to_vec()).collect())
            .collect();
        assert_eq!(
            requests(&[wire], tight()),
            (expected, None),
            "{}",
            wire.escape_ascii()
        );
    }
}

#[test]
fn bad_requests() {
    use ErrorKind::*;
    let table: &[(&[u8], ErrorKind, u64)] = &[
        (b"*1\r\n:1\r\n", ExpectedBulk(b':'), 4),
        (b"*1\r\n$-1\r\n", NegativeLength, 4),
        (b"*x\r\n", BadNumber, 0),
        (b"*-2\r\n", NegativeLength, 0),
        (b"*17\r\n", TooManyElements, 0),
        (b"*1\r\n$65\r\n", BulkTooLong, 4),
        (b"*1\r\n$1\r\nab\r\n", MissingTerminator, 8),
        (b"*1\n", MissingCarriageReturn, 0),
        (b"set a \"b\r\n", UnbalancedQuotes, 0),
        (b"0123456789012345678901234567890123", LineTooLong, 0),
    ];
    for (wire, kind, offset) in table {
        let got = requests(&[wire], tight()).1;
        let expected = FrameError {
            kind: *kind,
            offset: *offset,
        };
        assert_eq!(got, Some(expected), "{}", wire.escape_ascii());
    }
}

#[test]
fn what_follows_the_last_value_is_handed_back() {
    let mut decoder = ReplyDecoder::new(Limits::default());
    decoder.feed(b"+OK\r\nREDIS0009");
    assert_eq!(
        decoder.next_value(),
        Ok(Some(Value::Simple(b"OK".to_vec())))
    );
    assert_eq!(decoder.into_rest(), b"REDIS0009");
}

/// Inputs that once were, or could be, awkward. Each is run whole and byte by byte through all three parsers: both ways must
/// agree, and neither may panic.
#[test]
fn corpus() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/resp");
    let mut seen = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        agree(
            &bytes,
            &bytes.chunks(1).collect::<Vec<_>>(),
            &path.display().to_string(),
        );
        seen += 1;
    }
    assert!(seen >= 10, "the corpus has {seen} files");
}

fn agree(whole: &[u8], pieces: &[&[u8]], what: &str) {
    for limits in [tight(), Limits::default()] {
        assert_eq!(replies(&[whole], limits), replies(pieces, limits), "{what}");
        assert_eq!(
            requests(&[whole], limits),
            requests(pieces, limits),
            "{what}"
        );
        let stream = stream_entries(&[whole], limits);
        assert_eq!(stream, stream_entries(pieces, limits), "{what}");
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    let text = || prop::collection::vec(any::<u8>(), 0..12);
    let line = || "[ -~]{0,12}".prop_map(String::into_bytes);
    let leaf = prop_oneof![
        line().prop_map(Value::Simple),
        line().prop_map(Value::Error),
        any::<i64>().prop_map(Value::Integer),
        text().prop_map(Value::Bulk),
        Just(Value::Null),
        any::<bool>().prop_map(Value::Boolean),
        (-1e300..1e300).prop_map(Value::Double),
        "-?[1-9][0-9]{0,30}".prop_map(|digits| Value::BigNumber(digits.into_bytes())),
        text().prop_map(|text| Value::Verbatim([b"txt:".to_vec(), text].concat())),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Set),
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Push),
            prop::collection::vec((inner.clone(), inner), 0..3).prop_map(Value::Map),
        ]
    })
}

/// Bytes near RESP: whole values, commands, and pieces of both with garbage between.
fn near_resp() -> impl Strategy<Value = Vec<u8>> {
    let encoded = any_value().prop_map(|value| {
        let mut out = Vec::new();
        value.encode(Protocol::Resp3, &mut out);
        out
    });
    let command =
        prop::collection::vec(prop::collection::vec(any::<u8>(), 0..8), 0..4).prop_map(|args| {
            let mut out = Vec::new();
            Command::from_args(&args).encode(&mut out);
            out
        });
    let token = prop::sample::select(vec![
        &b"\r\n"[..],
        b"\n",
        b"*2\r\n",
        b"$3\r\nabc\r\n",
        b"$-1\r\n",
        b"|1\r\n",
        b"%1\r\n",
        b"+x\r\n",
        b"*1\r\n$6\r\nSELECT\r\n",
        b"$?",
        b"*99999999999\r\n",
        b":1",
        b"set \"a",
    ])
    .prop_map(<[u8]>::to_vec);
    let garbage = prop::collection::vec(any::<u8>(), 0..4);
    prop::collection::vec(
        prop_oneof![4 => encoded, 4 => command, 3 => token, 1 => garbage],
        0..6,
    )
    .prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn where_input_is_split_does_not_matter(
        bytes in near_resp(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        places.extend([0, bytes.len()]);
        places.sort_unstable();
        let pieces: Vec<&[u8]> = places.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
        agree(&bytes, &pieces, "split");
    }

    #[test]
    fn a_value_survives_the_wire(value in any_value()) {
        let mut wire = Vec::new();
        value.encode(Protocol::Resp3, &mut wire);
        prop_assert_eq!(replies(&[&wire], Limits::default()), (vec![value], None));
    }

    #[test]
    fn a_command_survives_the_wire(args in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..6)) {
        let mut wire = Vec::new();
        Command::from_args(&args).encode(&mut wire);
        prop_assert_eq!(requests(&[&wire], Limits::default()), (vec![args.clone()], None));
        let (entries, error) = stream_entries(&[&wire], Limits::default());
        prop_assert_eq!(error, None);
        prop_assert_eq!(entries, vec![(args, 100, 100 + wire.len() as u64)]);
    }
}
