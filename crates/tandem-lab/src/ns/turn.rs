//! How many labs run on this machine at a time.
//!
//! Labs do not disturb each other's networks, but they share processors. Tests mostly wait, so a few of them may run side
//! by side: as many as `TANDEM_LAB_AT_ONCE` says, one by default. What measures runs alone ([`measure_alone`]): two of those
//! on a small machine would measure each other. The kernel gives a place back when its holder dies.

use std::fs::File;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::Context;

use super::capable;
use crate::poll;

/// Places on a machine; nobody waits for a place beyond them.
const PLACES: usize = 8;
/// How long a lab waits for those before it.
pub const TURN_BOUND: Duration = Duration::from_secs(1200);
const EVERY: Duration = Duration::from_millis(50);

static ALONE: OnceLock<()> = OnceLock::new();

/// From now on this process' labs have the machine to themselves, whatever the environment says.
pub fn measure_alone() {
    let _ = ALONE.set(());
}

/// The places that a lab has.
#[derive(Debug)]
pub(super) struct Turn {
    _places: Vec<File>,
}

impl Turn {
    /// Waits for a free place, or for all of them.
    pub(super) fn take() -> anyhow::Result<Self> {
        let alone = ALONE.get().is_some();
        let reach = if alone { PLACES } else { at_once() };
        let mut places = Vec::new();
        let mut told = false;
        poll::until("the labs before this one to end", TURN_BOUND, EVERY, || {
            // Always in the same order, so that two who want all of them do not wait for each other.
            for number in places.len()..reach {
                let file = open(number)?;
                match file.try_lock() {
                    Ok(()) => places.push(file),
                    Err(_) if alone => break,
                    Err(_) => continue,
                }
                if !alone {
                    return Ok(Ok(()));
                }
            }
            if alone && places.len() == PLACES {
                return Ok(Ok(()));
            }
            if !told {
                eprintln!("waiting for another lab on this machine to end");
                told = true;
            }
            Ok(Err(format!("{} is locked", path(places.len()).display())))
        })?;
        Ok(Self { _places: places })
    }
}

fn at_once() -> usize {
    std::env::var("TANDEM_LAB_AT_ONCE")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1)
        .clamp(1, PLACES)
}

fn path(number: usize) -> PathBuf {
    std::env::temp_dir().join(format!("tandem-lab-{}-{number}.lock", capable::outer_uid()))
}

fn open(number: usize) -> anyhow::Result<File> {
    let path = path(number);
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("opening {}", path.display()))
}
