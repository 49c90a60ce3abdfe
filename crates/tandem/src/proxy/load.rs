//! Reading the file as this host sees it, and `-t`.

use std::io::IsTerminal as _;
use std::net::ToSocketAddrs as _;
use std::path::Path;

use tandem_config::diagnostic::{Entry, Severity};
use tandem_config::keepalived::Files as _;
use tandem_config::nutcracker::{self, Loaded};
use tandem_proxy::settings::Pool;

use super::{DONE, FAILED, MEMCACHED, MOVES, change};
use crate::files::HostFiles;

/// Why a file is not run.
#[derive(Debug)]
pub(super) enum Refused {
    /// It cannot be read at all.
    Unreadable(String),
    /// nutcracker would refuse it too.
    Invalid(Loaded),
    /// It has pools of the other protocol.
    Memcached(Loaded),
}

impl Refused {
    /// The exit code that says which it is.
    pub(super) fn code(&self) -> u8 {
        match self {
            Self::Unreadable(_) | Self::Invalid(_) => FAILED,
            Self::Memcached(_) => MEMCACHED,
        }
    }

    /// One line for each thing that is wrong, with its place.
    pub(super) fn lines(&self) -> Vec<String> {
        match self {
            Self::Unreadable(why) => vec![why.clone()],
            Self::Invalid(loaded) => lines(loaded, |entry| entry.severity == Severity::Error),
            Self::Memcached(loaded) => {
                lines(loaded, |entry| entry.code == nutcracker::MEMCACHED_POOL)
            }
        }
    }

    /// The same for a terminal, with the lines of the file.
    pub(super) fn rendered(&self) -> String {
        match self {
            Self::Unreadable(why) => format!("{why}\n"),
            Self::Invalid(loaded) | Self::Memcached(loaded) => loaded.report.render(has_colour()),
        }
    }
}

/// The file, whatever is in it.
fn read(path: &Path) -> Result<Loaded, Refused> {
    let name = path.display().to_string();
    let bytes = HostFiles
        .read(path)
        .map_err(|error| Refused::Unreadable(format!("{name}: {error}")))?;
    Ok(nutcracker::read(&name, &bytes, &resolve))
}

/// The pools to run, and warnings, one line each.
///
/// # Errors
/// A file that is not to be run.
pub(super) fn load(path: &Path) -> Result<(Vec<Pool>, Vec<String>), Refused> {
    let loaded = read(path)?;
    if loaded.report.has_errors() {
        return Err(Refused::Invalid(loaded));
    }
    if !loaded.memcached.is_empty() {
        return Err(Refused::Memcached(loaded));
    }
    let warnings = lines(&loaded, |_| true);
    Ok((loaded.pools, warnings))
}

fn lines(loaded: &Loaded, wanted: impl Fn(&Entry) -> bool) -> Vec<String> {
    let entries = loaded.report.entries();
    entries
        .iter()
        .filter(|entry| wanted(entry))
        .map(|entry| {
            let place = entry.places.first().map_or_else(String::new, |place| {
                format!("{}:{}:{}: ", place.file, place.line, place.column)
            });
            let help = entry
                .help
                .first()
                .map_or_else(String::new, |help| format!("; {help}"));
            format!("{place}{}{help}", entry.message)
        })
        .collect()
}

/// What twemproxy asks of a host to listen on while it reads.
fn resolve(host: &str, port: u16) -> Result<(), String> {
    match (host, port).to_socket_addrs() {
        Ok(addresses) if addresses.len() > 0 => Ok(()),
        Ok(_) => Err("the name has no address".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// `-t`: everything there is to say, then nutcracker's verdict in its words, and its exit code.
///
/// With an older file also what moves; the code says whether SIGUSR1 would refuse it.
pub(super) fn test(conf: &Path, diff: Option<&Path>, accept_move: bool) -> u8 {
    let verdict = |loaded: Result<Loaded, Refused>| match loaded {
        Ok(loaded) => {
            eprint!("{}", loaded.report.render(has_colour()));
            (!loaded.report.has_errors()).then_some(loaded)
        }
        Err(refused) => {
            eprint!("{}", refused.rendered());
            None
        }
    };
    let loaded = verdict(read(conf));
    let word = if loaded.is_some() { "ok" } else { "invalid" };
    eprintln!(
        "nutcracker: configuration file '{}' syntax is {word}",
        conf.display()
    );
    let (Some(new), Some(old_path)) = (&loaded, diff) else {
        return if loaded.is_some() { DONE } else { FAILED };
    };
    // Its own findings are old news, unless it cannot be compared with.
    let old = match read(old_path) {
        Ok(old) if !old.report.has_errors() => old,
        old => {
            let _ = verdict(old);
            eprintln!(
                "tandem proxy: nothing can be compared with {}",
                old_path.display()
            );
            return FAILED;
        }
    };
    let moves = change::moves(&old.pools, &new.pools);
    for moved in &moves {
        println!("{moved}");
    }
    if moves.is_empty() {
        println!(
            "no key is looked for elsewhere than by {}",
            old_path.display()
        );
    }
    if moves.is_empty() || accept_move {
        DONE
    } else {
        MOVES
    }
}

fn has_colour() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}
