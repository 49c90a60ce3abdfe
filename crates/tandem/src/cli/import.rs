//! `tandem import`: a `tandem.toml` from a `keepalived.conf`, and the list of what a person has to do.
//!
//! The meaning is `tandem_config::import`'s; here are the files. What was read is said in full: a line that is not carried
//! over is named, with the reason, in the file that is written.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::net::IpAddr;
use std::path::PathBuf;

use tandem_config::import::{ImportFacts, import};
use tandem_config::keepalived::{self, Env, ExitClass, Files as _};

use crate::cli::init::{Named, host_name, parse_named, write_new};
use crate::cli::{DONE, FAILED, USAGE, at_path};
use crate::files::HostFiles;
use crate::linux::users;

/// The user that keepalived runs scripts as, if it exists.
const SCRIPT_USER: &str = "keepalived_script";

/// What to import, and what the file does not say.
#[derive(Debug, clap::Args)]
pub(crate) struct ImportOptions {
    /// The file to import.
    #[arg(value_name = "KEEPALIVED.CONF")]
    file: PathBuf,
    /// Where to write the result; without it, to the standard output.
    #[arg(short, long)]
    output: Option<PathBuf>,
    /// Replace the output file if it exists.
    #[arg(long)]
    force: bool,
    /// Name of this host.
    #[arg(long)]
    id: Option<String>,
    /// Address of this host.
    #[arg(long)]
    address: Option<IpAddr>,
    /// Name and address of the other host.
    #[arg(long, value_name = "ID=ADDRESS", value_parser = parse_named)]
    peer: Option<Named>,
}

/// Does it.
pub(crate) fn run(options: &ImportOptions) -> u8 {
    if let Err(error) = HostFiles.read(&options.file) {
        eprintln!("tandem: {}", at_path(&options.file, &error));
        return USAGE;
    }
    let env = Env {
        config_id: host_name(),
        instance: String::new(),
        variables: std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect::<BTreeMap<_, _>>(),
        // Only `${_RANDOM}` looks at it; an import that can be repeated is worth more than chance.
        seed: 0,
        has_script_user: users::find(SCRIPT_USER).is_ok_and(|user| user.is_some()),
    };
    let loaded = keepalived::read(&options.file, &HostFiles, &env);
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    eprint!("{}", loaded.report.render(colour));
    match loaded.exit {
        ExitClass::Fatal => return USAGE,
        // Errors about scripts that are elsewhere, or parts not understood: the result names what is missing.
        ExitClass::Ok | ExitClass::ConfigErrors | ExitClass::ScriptSecurity => {}
    }
    let facts = ImportFacts {
        host_id: options.id.clone(),
        host_address: options.address,
        peer_id: options.peer.as_ref().map(|peer| peer.id.clone()),
        peer_address: options.peer.as_ref().map(|peer| peer.address),
    };
    let imported = import(&loaded, &HostFiles, &facts);
    match &options.output {
        None => print!("{}", imported.toml),
        Some(path) => {
            if let Err(error) = write_new(path, imported.toml.as_bytes(), 0o644, options.force) {
                eprintln!("tandem: {error}");
                return FAILED;
            }
            eprintln!("wrote {}", path.display());
        }
    }
    if !imported.todo.is_empty() {
        eprintln!("\nTo do before it can be used:");
        for (number, todo) in imported.todo.iter().enumerate() {
            eprintln!("  {}. {todo}", number + 1);
        }
    }
    DONE
}
