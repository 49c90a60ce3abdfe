//! Waiting time at half load, against the server itself at the same load.
//!
//! Half of the requests per second that the slowest proxy of all carries without pipelining, found once for each
//! invocation and the same for everybody.

use std::net::SocketAddr;
use std::time::Duration;

use super::bed::{Bed, KEYS, Shards, VALUE_BYTES};
use super::load::{CONNECTIONS, benchmark};
use super::{Contestant, Outcome};
use crate::proxy::pace::{Settings, run};

const SPAN: Duration = Duration::from_secs(4);
/// For finding what a proxy carries.
const REQUESTS: usize = 60_000;

/// Measures a contestant.
pub(super) fn measure(
    bed: &mut Bed,
    contestant: Contestant,
    round: u32,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let rate = match bed.half_load {
        Some(rate) => rate,
        None => {
            let mut slowest = f64::INFINITY;
            for contestant in bed.contestants() {
                let (_, port) = bed.subject(contestant, Shards::One)?;
                let carried = benchmark(bed.host(), port, 1, REQUESTS, &["-t", "get"])?;
                slowest = slowest.min(carried);
            }
            *bed.half_load.insert(slowest / 2.0)
        }
    };
    let (_, port) = bed.subject(contestant, Shards::One)?;
    let settings = Settings {
        to: SocketAddr::from(([127, 0, 0, 1], port)),
        connections: CONNECTIONS,
        rate,
        span: SPAN,
        keys: KEYS,
        value_bytes: VALUE_BYTES,
        seed: u64::from(round),
    };
    let times = run(bed.host(), &settings)?;
    let at = |quantile| times.value_at_quantile(quantile) as f64 / 1000.0;
    outcome.p50_us = at(0.5);
    outcome.p99_us = at(0.99);
    outcome.rate = rate;
    Ok(())
}
