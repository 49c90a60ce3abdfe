//! The operator's commands on a change of role: in order, each with a timeout, the result told.

use tandem_config::settings::{Hook as HookSettings, Hooks as HookTable};
use tandem_core::keeper::{Hook, Severity};
use tokio::sync::mpsc;

use super::child;

/// Occasions waiting; beyond it the oldest state is not worth telling any more.
const QUEUE_MAX: usize = 64;

/// One occasion.
#[derive(Debug)]
struct Occasion {
    hooks: Vec<HookSettings>,
    what: &'static str,
    environment: Vec<(&'static str, String)>,
}

/// A group's hooks, run one at a time on a task of their own: a slow one never delays the daemon.
#[derive(Debug)]
pub(crate) struct Hooks {
    table: HookTable,
    queue: mpsc::Sender<Occasion>,
}

impl Hooks {
    /// Starts the runner.
    pub(crate) fn new(table: HookTable) -> Self {
        let (queue, mut occasions) = mpsc::channel::<Occasion>(QUEUE_MAX);
        tokio::spawn(async move {
            while let Some(occasion) = occasions.recv().await {
                for hook in &occasion.hooks {
                    run(hook, &occasion).await;
                }
            }
        });
        Self { table, queue }
    }

    /// Takes a reloaded table.
    pub(crate) fn replace(&mut self, table: HookTable) {
        self.table = table;
    }

    /// Runs the hooks of an occasion after those that are still under way.
    pub(crate) fn fire(
        &self,
        hook: Hook,
        group: &str,
        epoch: &str,
        text: &str,
        severity: Severity,
    ) {
        let (hooks, what) = match hook {
            Hook::Promoted => (&self.table.on_promote, "on_promote"),
            Hook::Demoted => (&self.table.on_demote, "on_demote"),
            Hook::VipUp => (&self.table.on_vip, "on_vip"),
            Hook::Fault => (&self.table.on_fault, "on_fault"),
        };
        if hooks.is_empty() {
            return;
        }
        let environment = vec![
            ("TANDEM_GROUP", group.to_owned()),
            ("TANDEM_EPOCH", epoch.to_owned()),
            ("TANDEM_EVENT", text.to_owned()),
            ("TANDEM_SEVERITY", format!("{severity:?}").to_lowercase()),
        ];
        let occasion = Occasion {
            hooks: hooks.clone(),
            what,
            environment,
        };
        if self.queue.try_send(occasion).is_err() {
            tracing::error!("{what} is left out: {QUEUE_MAX} occasions wait for earlier hooks");
        }
    }
}

async fn run(hook: &HookSettings, occasion: &Occasion) {
    let what = occasion.what;
    let program = hook.command.first().map_or("", String::as_str);
    match child::run(&hook.command, &occasion.environment, hook.timeout).await {
        Ok(()) => tracing::info!("{what} {program}: done"),
        Err(error) => tracing::error!("{what} {program}: {error}"),
    }
}
