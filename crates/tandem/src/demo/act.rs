//! One fault from its beginning to the repair: what the client saw, and what became of what it wrote.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::Result;
use tandem_lab::arrangement::{Arrangement, CLIENT, Fault, Injection, OTHER_SIDE, Side};
use tandem_lab::client::{Client, Record, Settings};

/// Writes flow for this long before the fault, and again before it counts as survived.
const STEADY: Duration = Duration::from_millis(600);
/// For writes to flow again; a set-up that takes longer needs a person.
const OUTAGE: Duration = Duration::from_secs(30);
/// How long the network is cut.
const CUT: Duration = Duration::from_secs(8);
/// For tandem to be well again after the repair.
const SETTLE: Duration = Duration::from_secs(60);
/// The same for what is shown beside it: whether it comes back is known long before.
const SETTLE_BESIDE: Duration = Duration::from_secs(20);

/// What one fault showed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    /// The fault.
    pub(super) fault: Fault,
    /// The longest time without an acknowledged write; `None` when writes did not flow again.
    pub(super) gap: Option<Duration>,
    /// Errors that the client met.
    pub(super) errors: u64,
    /// Writes acknowledged to all clients.
    pub(super) acknowledged: usize,
    /// Acknowledged, and in the end neither on the primary nor in an archive.
    pub(super) lost: usize,
    /// Acknowledged, not on the primary, kept in an archive.
    pub(super) archived: usize,
    /// After the repair of what was broken all was well again without a hand.
    pub(super) by_itself: bool,
}

/// Starts the client of a fault; its keys are the fault's own.
pub(super) fn client_on(pair: &dyn Arrangement, host: &str, key: &str) -> Result<Client> {
    let settings = Settings {
        key: key.to_owned(),
        ..Settings::new(pair.target())
    };
    Client::start(pair.pair().lab().host(host), settings)
}

/// Breaks it, watches, repairs it, counts.
pub(super) fn act(pair: &mut dyn Arrangement, fault: Fault, tandem: bool) -> Result<Row> {
    let mut clients = vec![client_on(pair, CLIENT, &format!("{fault}-near"))?];
    if fault == Fault::CutBothUsed {
        clients.push(client_on(pair, OTHER_SIDE, &format!("{fault}-far"))?);
    }
    for client in &clients {
        client.wait_until_steady(Instant::now(), STEADY, OUTAGE)?;
    }
    let injection = pair.inject(fault)?;
    let gap = survive(pair, &clients[0], injection, fault);
    if fault.is_cut() {
        // The length of the fault itself.
        std::thread::sleep(CUT.saturating_sub(injection.at.elapsed()));
        println!("  the cable is plugged in again");
    }
    let settled = pair.settle(if tandem { SETTLE } else { SETTLE_BESIDE });
    match &settled {
        Ok(primary) => println!(
            "  repaired: host {} is primary, {} its replica and in sync, without a hand",
            primary.host(),
            primary.other().host()
        ),
        Err(error) => println!("  not well again by itself: {error:#}"),
    }
    let records = clients
        .into_iter()
        .map(Client::stop)
        .collect::<Result<Vec<_>>>()?;
    let primary = settled.as_ref().ok().copied().or(pair.primary()?.ok());
    let (lost, archived) = count(pair, &records, primary)?;
    let acknowledged = records
        .iter()
        .map(|record| record.acknowledged().len())
        .sum();
    println!(
        "  of {acknowledged} acknowledged writes {lost} are lost, {archived} are in the archive"
    );
    Ok(Row {
        fault,
        gap,
        errors: records.iter().map(Record::error_count).sum(),
        acknowledged,
        lost,
        archived,
        by_itself: settled.is_ok(),
    })
}

/// Waits until writes flow again and says where.
pub(super) fn survive(
    pair: &mut dyn Arrangement,
    client: &Client,
    injection: Injection,
    fault: Fault,
) -> Option<Duration> {
    if let Err(error) = client.wait_until_steady(injection.at, STEADY, OUTAGE) {
        println!("  clients are out: {error:#}");
        return None;
    }
    let gap = client.record().longest_gap(injection.at, Instant::now());
    let now = match pair.primary() {
        Ok(Ok(side)) if side == injection.primary => format!("host {} goes on", side.host()),
        Ok(Ok(side)) => format!("host {} is primary now", side.host()),
        Ok(Err(_)) | Err(_) if fault.is_cut() => "each side has a primary of its own".to_owned(),
        Ok(Err(reason)) => reason,
        Err(error) => format!("{error:#}"),
    };
    println!(
        "  {now}; the client waited {:.1} ms",
        gap.as_secs_f64() * 1000.0
    );
    Some(gap)
}

/// Acknowledged writes that are lost, and that are archived.
pub(super) fn count(
    pair: &dyn Arrangement,
    records: &[Record],
    primary: Option<Side>,
) -> Result<(usize, usize)> {
    let Some(primary) = primary else {
        return Ok((
            records
                .iter()
                .map(|record| record.acknowledged().len())
                .sum(),
            0,
        ));
    };
    let mut server = pair.pair().server(primary).connect()?;
    let mut missing = BTreeSet::new();
    for record in records {
        let numbers = record.missing(&mut server)?;
        missing.extend(numbers.into_iter().map(|number| record.key(number)));
    }
    let archived = pair.archived(&missing)?;
    Ok((missing.difference(&archived).count(), archived.len()))
}
