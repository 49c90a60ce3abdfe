//! What is tracked, and what it does to the routers that follow it.
//!
//! Every result, whether it comes from a script, a link, a file or `/proc`, becomes a [`Standing`]; when one changes, each
//! router that follows it is told a fault or a weight. The arithmetic is `tandem_vrrp::track`.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tandem_vrrp::machine::{FaultReason, FaultSource, Input};
use tandem_vrrp::track::{Effect, Verdict, effect, file_effect, process_up};
use tracing::{info, warn};

use super::daemon::Daemon;
use super::host::Debounce;
use super::plan::Watched;
use super::scripts::check::Checked;
use super::watch;

/// What is known of something tracked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// No result yet.
    Pending,
    Up,
    Down,
    /// A file's number.
    Value(i64),
}

impl Standing {
    pub(super) fn of(good: bool) -> Self {
        if good { Self::Up } else { Self::Down }
    }
}

impl Daemon {
    pub(super) fn checked(&mut self, checked: Checked) {
        let Some(checking) = self.checks.get_mut(&checked.name) else {
            return;
        };
        let before = checking.last.as_ref().map(|last| last.good);
        if before != Some(checked.good) {
            let (name, words) = (&checked.name, &checked.words);
            if checked.good {
                info!("Script `{name}` succeeds now: {words}");
            } else {
                warn!("Script `{name}` fails now: {words}");
            }
        }
        let turned = checking.counter.record(checked.good);
        let name = checked.name.clone();
        checking.last = Some(checked);
        let standing = match checking.counter.verdict() {
            Verdict::Pending => Standing::Pending,
            Verdict::Up => Standing::Up,
            Verdict::Down => Standing::Down,
        };
        if turned.is_some() {
            info!("Script `{name}` counts as {standing:?}");
        }
        self.set_standing(Watched::Script(name), standing);
    }

    pub(super) fn observe_everything(&mut self) {
        self.observe_links();
        self.observe_files();
        self.observe_processes();
        let scripts: Vec<_> = self
            .checks
            .iter()
            .map(|(name, checking)| (name.clone(), checking.counter.verdict()))
            .collect();
        for (name, verdict) in scripts {
            let standing = match verdict {
                Verdict::Pending => Standing::Pending,
                Verdict::Up => Standing::Up,
                Verdict::Down => Standing::Down,
            };
            self.set_standing(Watched::Script(name), standing);
        }
    }

    pub(super) fn observe_links(&mut self) {
        let now = Instant::now();
        let names: BTreeSet<String> = self
            .plan
            .routers
            .iter()
            .flat_map(|router| &router.tracking)
            .filter_map(|tracking| match &tracking.watched {
                Watched::Interface(name) => Some(name.clone()),
                Watched::Script(_) | Watched::File(_) | Watched::Process(_) => None,
            })
            .collect();
        for name in names {
            let usable = self.host.usable(&name);
            let (up, down) = self
                .plan
                .interface_delays
                .iter()
                .find(|(known, ..)| *known == name)
                .map_or((Duration::ZERO, Duration::ZERO), |(_, up, down)| {
                    (*up, *down)
                });
            let debounce = self
                .links
                .entry(name.clone())
                .or_insert_with(|| Debounce::new(usable));
            let counts = debounce.observe(usable, up, down, now);
            self.set_standing(Watched::Interface(name), Standing::of(counts));
        }
    }

    pub(super) fn observe_files(&mut self) {
        let values: Vec<_> = self
            .plan
            .files
            .iter()
            .map(|file| (file.name.clone(), watch::value(&file.path)))
            .collect();
        for (name, value) in values {
            self.set_standing(Watched::File(name), Standing::Value(value));
        }
    }

    pub(super) fn observe_processes(&mut self) {
        if self.plan.processes.is_empty() {
            return;
        }
        let now = Instant::now();
        let counts = watch::count(&self.plan.processes);
        for (definition, running) in self.plan.processes.clone().into_iter().zip(counts) {
            let good = process_up(running, definition.quorum, definition.quorum_max);
            let debounce = self
                .processes
                .entry(definition.name.clone())
                .or_insert_with(|| Debounce::new(good));
            let counts =
                debounce.observe(good, definition.fork_delay, definition.terminate_delay, now);
            self.set_standing(Watched::Process(definition.name), Standing::of(counts));
        }
    }

    /// Notes what is known of something tracked, and tells the routers that follow it.
    fn set_standing(&mut self, watched: Watched, standing: Standing) {
        if self.standings.insert(watched.clone(), standing) == Some(standing) || !self.started {
            return;
        }
        for router in 0..self.routers.len() {
            self.apply_tracking_of(router, &watched);
        }
    }

    /// Tells a router about everything that it tracks.
    pub(super) fn apply_tracking(&mut self, router: usize) {
        let tracking = self.routers[router].plan.tracking.clone();
        for one in tracking {
            self.apply_tracking_of(router, &one.watched);
        }
        let missing = FaultSource::Service("unicast peer".to_owned());
        if self.routers[router].plan.no_peer_fault {
            let reason = FaultReason::Failed;
            self.feed(
                router,
                Input::Fault {
                    source: missing,
                    reason,
                },
            );
        } else {
            self.feed(router, Input::FaultCleared(missing));
        }
    }

    fn apply_tracking_of(&mut self, router: usize, watched: &Watched) {
        let Some(tracking) = self.routers[router]
            .plan
            .tracking
            .iter()
            .find(|tracking| tracking.watched == *watched)
            .cloned()
        else {
            return;
        };
        let standing = self
            .standings
            .get(watched)
            .copied()
            .unwrap_or(Standing::Pending);
        let (source, weight_name) = source_of(watched);
        let (fault, delta) = judge(standing, tracking.weight, tracking.reverse);
        let weight = Input::Weight {
            source: weight_name,
            delta,
        };
        match fault {
            Some(reason) => {
                self.feed(router, Input::Fault { source, reason });
                self.feed(router, weight);
            }
            None => {
                self.feed(router, weight);
                self.feed(router, Input::FaultCleared(source));
            }
        }
    }
}

/// What a standing does to a router that follows it with `weight`: a fault or none, and its part of the priority.
fn judge(standing: Standing, weight: i32, reverse: bool) -> (Option<FaultReason>, i32) {
    let outcome = match standing {
        Standing::Pending if weight == 0 => return (Some(FaultReason::Pending), 0),
        Standing::Pending => Effect::Weight(0),
        Standing::Up => effect(weight, reverse, true),
        Standing::Down => effect(weight, reverse, false),
        Standing::Value(value) => file_effect(value, if reverse { -weight } else { weight }),
    };
    match outcome {
        Effect::Fault => (Some(FaultReason::Failed), 0),
        Effect::Weight(delta) => (None, delta),
    }
}

/// The fault's name and the weight's.
fn source_of(watched: &Watched) -> (FaultSource, String) {
    match watched {
        Watched::Script(name) => (FaultSource::Script(name.clone()), format!("script {name}")),
        Watched::Interface(name) => (
            FaultSource::Interface(name.clone()),
            format!("interface {name}"),
        ),
        Watched::File(name) => (FaultSource::File(name.clone()), format!("file {name}")),
        Watched::Process(name) => (
            FaultSource::Process(name.clone()),
            format!("process {name}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standings_become_faults_and_weights() {
        let failed = Some(FaultReason::Failed);
        for (standing, weight, reverse, expected) in [
            (Standing::Pending, 0, false, (Some(FaultReason::Pending), 0)),
            (Standing::Pending, -20, false, (None, 0)),
            (Standing::Up, 0, false, (None, 0)),
            (Standing::Down, 0, false, (failed, 0)),
            (Standing::Down, -20, false, (None, -20)),
            (Standing::Up, 10, false, (None, 10)),
            (Standing::Up, 10, true, (None, 0)),
            (Standing::Value(3), 0, false, (failed, 0)),
            (Standing::Value(3), 5, true, (None, -15)),
            (Standing::Value(-254), 1, false, (failed, 0)),
        ] {
            assert_eq!(
                judge(standing, weight, reverse),
                expected,
                "{standing:?} {weight} {reverse}"
            );
        }
    }
}
