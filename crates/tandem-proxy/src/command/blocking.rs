//! Whether a request may block its connection, and for how long: its deadline is that much later, and it must not stand in
//! front of other clients' requests.

use std::time::Duration;

use super::Command;
use super::args::{Args, integer};
use super::route::{Route, Timeout};

/// What a request does to its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocks {
    /// Answered at once, if only because its timeout makes no sense.
    No,
    /// At most so long.
    For(Duration),
    /// Until there is something to answer.
    Forever,
}

/// Whether and how long this request may block.
#[must_use]
pub fn blocks_for<A: Args + ?Sized>(command: &Command, args: &A) -> Blocks {
    let seconds = |at: usize| {
        if at < args.count() {
            from_seconds(args.arg(at))
        } else {
            Blocks::No
        }
    };
    match command.route {
        Route::Blocking(Timeout::First) => seconds(1),
        Route::Blocking(Timeout::Last) => seconds(args.count() - 1),
        Route::Blocking(Timeout::Option) => block_option(args),
        // `WAIT replicas timeout`, `WAITAOF local replicas timeout`, in milliseconds.
        Route::Wait => from_milliseconds(args.arg(args.count() - 1)),
        Route::OneKey { .. }
        | Route::Split { .. }
        | Route::Keys
        | Route::Script
        | Route::AnyShard
        | Route::OnlyShard
        | Route::AllShards(_)
        | Route::AllNodes(_)
        | Route::Scan
        | Route::PubSub(_)
        | Route::Monitor
        | Route::Transaction(_)
        | Route::Connection(_)
        | Route::Local(_)
        | Route::Container
        | Route::Refused(_) => Blocks::No,
    }
}

/// Whole milliseconds after BLOCK, among the options of XREAD and XREADGROUP, which end at STREAMS.
fn block_option<A: Args + ?Sized>(args: &A) -> Blocks {
    let mut at = 1;
    while at + 1 < args.count() {
        let option = args.arg(at);
        if option.eq_ignore_ascii_case(b"block") {
            return from_milliseconds(args.arg(at + 1));
        }
        if option.eq_ignore_ascii_case(b"streams") {
            break;
        }
        at += if option.eq_ignore_ascii_case(b"count") {
            2
        } else if option.eq_ignore_ascii_case(b"group") {
            // Its group and its consumer may be called like an option.
            3
        } else {
            1
        };
    }
    Blocks::No
}

fn from_milliseconds(text: &[u8]) -> Blocks {
    match integer(text).map(u64::try_from) {
        Some(Ok(0)) => Blocks::Forever,
        Some(Ok(milliseconds)) => Blocks::For(Duration::from_millis(milliseconds)),
        // Negative or no number: refused by the server.
        Some(Err(_)) | None => Blocks::No,
    }
}

fn from_seconds(text: &[u8]) -> Blocks {
    let parsed = std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse::<f64>().ok());
    match parsed.map(Duration::try_from_secs_f64) {
        Some(Ok(Duration::ZERO)) => match parsed {
            // Less than a nanosecond is not for ever.
            Some(seconds) if seconds > 0.0 => Blocks::For(Duration::from_millis(1)),
            Some(_) | None => Blocks::Forever,
        },
        Some(Ok(duration)) => Blocks::For(duration),
        Some(Err(_)) | None => Blocks::No,
    }
}

#[cfg(test)]
mod tests {
    use super::super::resolve;
    use super::*;

    #[test]
    fn timeouts_are_where_the_command_has_them() {
        let ms = |number| Blocks::For(Duration::from_millis(number));
        for (request, blocks) in [
            ("BLPOP a b 1.5", ms(1500)),
            ("BLPOP a 0", Blocks::Forever),
            ("BLPOP a 0.0", Blocks::Forever),
            ("BLPOP a -1", Blocks::No),
            ("BLPOP a x", Blocks::No),
            ("BLPOP a inf", Blocks::No),
            ("BLPOP a nan", Blocks::No),
            ("BRPOPLPUSH a b 2", ms(2000)),
            ("BLMOVE a b LEFT RIGHT 3", ms(3000)),
            ("BLMPOP 4 1 a LEFT", ms(4000)),
            ("BZMPOP 0 1 a MIN", Blocks::Forever),
            ("BZPOPMIN a 1e-12", ms(1)),
            ("XREAD STREAMS a 0", Blocks::No),
            ("XREAD COUNT 2 BLOCK 50 STREAMS a 0", ms(50)),
            ("XREAD block 0 streams a $", Blocks::Forever),
            ("XREAD STREAMS block 50", Blocks::No),
            ("XREADGROUP GROUP block 7 BLOCK 8 STREAMS a >", ms(8)),
            ("XREADGROUP GROUP g c COUNT 5 NOACK STREAMS a >", Blocks::No),
            ("XREAD COUNT block BLOCK 9 STREAMS a 0", ms(9)),
            ("WAIT 1 100", ms(100)),
            ("WAIT 1 0", Blocks::Forever),
            ("WAITAOF 1 0 7", ms(7)),
            ("GET a", Blocks::No),
            ("LPOP a 5", Blocks::No),
        ] {
            let args: Vec<&str> = request.split(' ').collect();
            let command = resolve(&args[..]).unwrap();
            assert_eq!(blocks_for(command, &args[..]), blocks, "{request}");
        }
    }
}
