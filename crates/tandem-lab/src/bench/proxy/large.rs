//! A value of 512 MiB, the largest there can be, through a proxy and back.

use std::io::{Read, Write};
use std::time::Instant;

use anyhow::ensure;

use super::bed::{ANSWER_BOUND, Bed, Shards};
use super::{Contestant, Outcome};
use crate::usage;

/// `proto-max-bulk-len` of redis-server.
const VALUE_BYTES: usize = 512 << 20;
/// It is sent and read in pieces of this size, and each piece is another one, so that a lost or doubled piece shows.
const PIECE_BYTES: usize = 1 << 20;
const KEY: &str = "key:large";

/// Sends it, reads it, compares it.
pub(super) fn measure(
    bed: &Bed,
    contestant: Contestant,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let proxy = bed.start_proxy(contestant, Shards::One)?;
    let pid = proxy.process().pid();
    let mut stream = bed.host().connect(proxy.address(), ANSWER_BOUND)?;
    stream.set_read_timeout(Some(ANSWER_BOUND))?;
    stream.set_write_timeout(Some(ANSWER_BOUND))?;
    usage::forget_peak(pid)?;
    let before = usage::resident_bytes(pid)?;
    let begun = Instant::now();

    let head = format!(
        "*3\r\n$3\r\nSET\r\n${}\r\n{KEY}\r\n${VALUE_BYTES}\r\n",
        KEY.len()
    );
    stream.write_all(head.as_bytes())?;
    for number in 0..VALUE_BYTES / PIECE_BYTES {
        stream.write_all(&piece(number))?;
    }
    stream.write_all(b"\r\n")?;
    expect(&mut stream, b"+OK\r\n")?;

    let head = format!("*2\r\n$3\r\nGET\r\n${}\r\n{KEY}\r\n", KEY.len());
    stream.write_all(head.as_bytes())?;
    expect(&mut stream, format!("${VALUE_BYTES}\r\n").as_bytes())?;
    for number in 0..VALUE_BYTES / PIECE_BYTES {
        expect(&mut stream, &piece(number))?;
    }
    expect(&mut stream, b"\r\n")?;

    outcome.note = format!("{:.1} s", begun.elapsed().as_secs_f64());
    let peak = usage::peak_bytes(pid)?.saturating_sub(before);
    outcome.peak_mib = peak as f64 / f64::from(1 << 20);
    bed.server().connect()?.demand(&["DEL", KEY])?;
    Ok(())
}

fn piece(number: usize) -> Vec<u8> {
    vec![(number % 251) as u8; PIECE_BYTES]
}

fn expect(stream: &mut impl Read, bytes: &[u8]) -> anyhow::Result<()> {
    let mut read = vec![0; bytes.len()];
    stream.read_exact(&mut read)?;
    // Values are too long to be shown.
    let differs = read.iter().zip(bytes).position(|(one, other)| one != other);
    ensure!(
        differs.is_none(),
        "byte {differs:?} of {} is another",
        bytes.len()
    );
    Ok(())
}
