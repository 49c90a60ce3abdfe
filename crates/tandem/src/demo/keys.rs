//! The demo by hand: a person presses keys and watches what the client sees.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use tandem_lab::arrangement::{Arrangement, CLIENT, Fault, OTHER_SIDE};
use tandem_lab::client::Client;
use tandem_lab::ns::CommandFailed;

use super::act::{client_on, count, survive};

/// For all to be well after `h`.
const SETTLE: Duration = Duration::from_secs(60);
/// The keys, on one line.
const KEYS: &str = "k kill  f freeze  p power off  c cut  s switch over  h heal everything  q quit";

/// A terminal that hands over each key at once, until it is dropped.
struct Raw {
    before: Option<Termios>,
}

impl Raw {
    /// Input that is no terminal, a pipe for example, is read as it comes.
    fn start() -> Result<Self> {
        let Ok(before) = tcgetattr(std::io::stdin()) else {
            return Ok(Self { before: None });
        };
        let mut raw = before.clone();
        raw.local_modes
            .remove(LocalModes::ICANON | LocalModes::ECHO);
        tcsetattr(std::io::stdin(), OptionalActions::Now, &raw).context("the terminal's mode")?;
        Ok(Self {
            before: Some(before),
        })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, before);
        }
    }
}

/// Plays until `q` or the end of input, then heals, and says what became of the writes.
pub(super) fn play(pair: &mut dyn Arrangement) -> Result<()> {
    let raw = Raw::start()?;
    let clients = [
        client_on(pair, CLIENT, "near")?,
        client_on(pair, OTHER_SIDE, "far")?,
    ];
    println!(
        "Two clients write; a cut parts them. The servers keep nothing on disk: what only killed servers had is gone.\n\n{KEYS}"
    );
    let mut key = [0; 1];
    loop {
        print!("> ");
        std::io::stdout().flush()?;
        if std::io::stdin().read(&mut key)? == 0 {
            break;
        }
        let fault = match key[0] {
            b'k' => Fault::KillServer,
            b'f' => Fault::FreezeServer,
            b'p' => Fault::PowerOff,
            b'c' => Fault::CutBothUsed,
            b's' => Fault::Switchover,
            b'h' => {
                heal(pair);
                continue;
            }
            b'q' => break,
            b'\n' | b'\r' => continue,
            _ => {
                println!("{KEYS}");
                continue;
            }
        };
        println!("{fault}");
        match pair.inject(fault) {
            Ok(injection) => {
                survive(pair, &clients[0], injection, fault);
            }
            Err(error) => println!("  {}; h heals", reason(&error)),
        }
    }
    drop(raw);
    println!("heals and counts");
    heal(pair);
    let records = clients
        .into_iter()
        .map(Client::stop)
        .collect::<Result<Vec<_>>>()?;
    let primary = pair.primary()?.ok();
    let (lost, archived) = count(pair, &records, primary)?;
    let acknowledged: usize = records
        .iter()
        .map(|record| record.acknowledged().len())
        .sum();
    println!("{acknowledged} writes acknowledged, {lost} lost, {archived} in the archive");
    Ok(())
}

/// Why something did not happen. A command's own words say it; its line is of no use to whoever pressed a key.
fn reason(error: &anyhow::Error) -> String {
    match error.downcast_ref::<CommandFailed>() {
        Some(failed) => failed.said.clone(),
        None => format!("{error:#}"),
    }
}

fn heal(pair: &mut dyn Arrangement) {
    let begun = Instant::now();
    match pair.settle(SETTLE) {
        Ok(primary) => println!(
            "  well after {:.1} s: host {} is primary",
            begun.elapsed().as_secs_f64(),
            primary.host()
        ),
        Err(error) => println!("  not well: {error:#}"),
    }
}
