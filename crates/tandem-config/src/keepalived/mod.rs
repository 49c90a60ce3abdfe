//! `keepalived.conf`, as keepalived itself understands it.
//!
//! [`read`] gives the effective configuration ([`Config`]): every default spelled out, references resolved, and everything
//! that tandem does not do listed with its place and what to do instead. The layers, from the bytes up:
//! `expand` (definitions, `~SEQ`, `@id`, includes) gives logical lines; `words` splits them as keepalived does; `tree`
//! turns braces into blocks; `read` turns blocks into the model; `resolve` joins names and defaults once the whole file is
//! known; `lint` names the traps.
//!
//! Followed: keepalived 2.2 to 2.4, its parser's quirks included, because the same file must mean the same. Not followed, on
//! purpose: an unknown block is skipped whole (keepalived lets its closing brace end the parent); names may be used before
//! they are defined (keepalived drops the reference and runs unchecked); a check script that cannot run is an error
//! (keepalived drops the check).

mod expand;
mod files;
mod keywords;
mod lint;
mod model;
mod read;
mod resolve;
mod script;
mod tree;
mod words;

use std::collections::BTreeMap;
use std::path::Path;

use crate::diagnostic::{Diagnostic, Report};

pub use files::{FileFacts, Files, MapFiles};
pub use lint::{PeerView, compare};
pub use model::{
    Auth, AuthHmac, CheckSource, Checksum, Config, ConfigAddress, Dropped, FifoDef, GarpSettings,
    GlobalDefs, HmacKey, HmacMode, InitialState, Instance, Notify, Preemption, Script, ScriptDef,
    ScriptTest, SyncGroup, TrackFile, TrackProcess, Tracked, TrackedInterface, UnicastPeer,
};

/// What the host contributes to the meaning of a file.
#[derive(Debug, Clone, Default)]
pub struct Env {
    /// What `@id` lines are compared with: the option `-i`, else the host's name up to its first dot.
    pub config_id: String,
    /// `${_INSTANCE}`: the option that names the daemon's instance; empty without one.
    pub instance: String,
    /// `${_ENV NAME}`.
    pub variables: BTreeMap<String, String>,
    /// Where `${_RANDOM a b}` draws from.
    pub seed: u64,
    /// Does the user `keepalived_script` exist? Scripts run as it by default, else as root.
    pub has_script_user: bool,
}

/// How `keepalived -t` would have ended for the same file. One difference: a file that tandem refuses is never
/// [`ExitClass::Ok`], although keepalived passes, for one, over a notify script that does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ExitClass {
    /// Nothing to say.
    Ok,
    /// Parts of the file were not understood; keepalived would start without them.
    ConfigErrors,
    /// A script would run in a way that is not safe. Masks [`ExitClass::ConfigErrors`], as in keepalived.
    ScriptSecurity,
    /// keepalived would not start.
    Fatal,
}

impl ExitClass {
    /// The exit code of `keepalived -t`.
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Fatal => 4,
            Self::ConfigErrors => 5,
            Self::ScriptSecurity => 6,
        }
    }
}

/// The result of reading a file.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The effective configuration, as far as it could be read. To be run only if the report has no errors.
    pub config: Config,
    /// Everything there is to say. Errors are what tandem refuses to start with; warnings are what it starts with.
    pub report: Report,
    /// How `keepalived -t` classifies the file.
    pub exit: ExitClass,
}

/// What reading collects besides the model.
#[derive(Debug)]
struct Findings {
    report: Report,
    exit: ExitClass,
}

impl Findings {
    fn new() -> Self {
        Self {
            report: Report::default(),
            exit: ExitClass::Ok,
        }
    }

    /// keepalived would not start.
    fn fatal(&mut self, found: Diagnostic) {
        self.exit = self.exit.max(ExitClass::Fatal);
        self.report.push(found);
    }

    /// keepalived reports it too, and goes on.
    fn config_error(&mut self, found: Diagnostic) {
        self.exit = self.exit.max(ExitClass::ConfigErrors);
        self.report.push(found);
    }

    /// A script that is not safe to run.
    fn security(&mut self, found: Diagnostic) {
        self.exit = self.exit.max(ExitClass::ScriptSecurity);
        self.report.push(found);
    }

    /// keepalived has nothing to say about it; tandem has.
    fn advice(&mut self, found: Diagnostic) {
        self.report.push(found);
    }
}

/// Reads a configuration file with all that it includes.
pub fn read(path: &Path, files: &dyn Files, env: &Env) -> Loaded {
    let mut findings = Findings::new();
    let lines = expand::lines(path, files, env, &mut findings);
    let nodes = tree::build(lines, &mut findings);
    let mut config = read::config(&nodes, &mut findings);
    resolve::resolve(&mut config, &mut findings);
    script::check(&config, files, env, &mut findings);
    lint::lint(&config, &mut findings);
    let Findings {
        mut report,
        mut exit,
    } = findings;
    if report.has_errors() {
        exit = exit.max(ExitClass::ConfigErrors);
    }
    report.sort();
    Loaded {
        config,
        report,
        exit,
    }
}
