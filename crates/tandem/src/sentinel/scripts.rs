//! Runs the scripts that the machine asks for: no shell, nothing of ours open in them, a process group of their own.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process_group};
use tandem_core::sentinel::Input;
use tandem_core::sentinel::io::{ScriptEnd, ScriptId};
use tokio::process::Command;
use tokio::sync::mpsc;

use crate::daemonize;
use crate::service;

/// The scripts that run now. The machine bounds their number and their time.
pub(super) struct Scripts {
    running: BTreeMap<ScriptId, Option<Pid>>,
    inputs: mpsc::Sender<Input>,
    dir: PathBuf,
}

impl Scripts {
    /// None runs yet; scripts begin in `dir`, as Redis' do.
    pub(super) fn new(inputs: mpsc::Sender<Input>, dir: PathBuf) -> Self {
        Self {
            running: BTreeMap::new(),
            inputs,
            dir,
        }
    }

    /// Starts one. [`Input::ScriptStarted`] and in the end [`Input::ScriptEnded`] follow.
    pub(super) fn run(&mut self, script: ScriptId, argv: &[String]) {
        let spawned = argv
            .split_first()
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))
            .and_then(|(program, arguments)| {
                Command::new(program)
                    .args(arguments)
                    .current_dir(&self.dir)
                    .stdin(Stdio::null())
                    // What is said to us alone: a script that starts a daemon must not speak in our name.
                    .env_remove(service::NOTIFY_SOCKET)
                    .env_remove(daemonize::MARK)
                    .process_group(0)
                    .spawn()
            });
        let inputs = self.inputs.clone();
        match spawned {
            Ok(mut child) => {
                let pid = child.id();
                let group = pid
                    .and_then(|pid| i32::try_from(pid).ok())
                    .and_then(Pid::from_raw);
                self.running.insert(script, group);
                tokio::task::spawn_local(async move {
                    if let Some(pid) = pid {
                        let _ = inputs.send(Input::ScriptStarted { script, pid }).await;
                    }
                    let end = match child.wait().await {
                        Ok(status) => match (status.code(), status.signal()) {
                            (Some(code), _) => ScriptEnd::Exited(code),
                            (None, signal) => ScriptEnd::Signalled(signal.unwrap_or(0)),
                        },
                        Err(_) => ScriptEnd::NotStarted,
                    };
                    let _ = inputs.send(Input::ScriptEnded { script, end }).await;
                });
            }
            Err(_) => {
                tokio::task::spawn_local(async move {
                    let end = ScriptEnd::NotStarted;
                    let _ = inputs.send(Input::ScriptEnded { script, end }).await;
                });
            }
        }
    }

    /// Ends one that runs for too long, with whatever it started.
    pub(super) fn kill(&self, script: ScriptId) {
        if let Some(Some(group)) = self.running.get(&script) {
            // A group that has just gone needs no signal.
            let _ = kill_process_group(*group, Signal::KILL);
        }
    }

    /// Forgets one that ended, so that its process id, which may be somebody else's by now, is not used again.
    pub(super) fn ended(&mut self, script: ScriptId) {
        self.running.remove(&script);
    }
}
