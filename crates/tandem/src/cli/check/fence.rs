//! Rule 18: does a server that somebody else restarts come up as a replica of nobody?
//!
//! A server's configuration is read as Redis reads it: line by line, includes in place, the last `replicaof` wins, and
//! the command line wins over the files. The answer is about the next start, not about the server that runs now.

use std::path::{Path, PathBuf};

use tandem_config::keepalived::Files;
use tandem_core::server::FENCE_ADDRESS;

/// Includes within includes, as deep as anybody would write them.
const DEPTH_MAX: usize = 8;

/// What a restarted server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum AfterRestart {
    /// A replica of nobody, until tandem has decided. Where it says so.
    Fenced(String),
    /// A replica of this address at once.
    Follows(String),
    /// A primary that takes writes at once.
    Writable,
    /// It cannot be found out, and why.
    Unknown(String),
}

/// What the files and the arguments make of it. `arguments` are those of the unit that starts it, if there is one.
pub(super) fn after_restart(
    files: &dyn Files,
    conf: Option<&Path>,
    arguments: &[String],
) -> AfterRestart {
    let mut told = None;
    if let Some(conf) = conf
        && let Err(why) = read(files, conf, 0, &mut told)
    {
        return AfterRestart::Unknown(why);
    }
    let mut words = arguments.iter().map(String::as_str);
    while let Some(word) = words.next() {
        if let Some(name) = word.strip_prefix("--")
            && is_replicaof(name)
            && let (Some(host), Some(port)) = (words.next(), words.next())
        {
            told = Some((
                host.to_owned(),
                port.to_owned(),
                "the command line".to_owned(),
            ));
        }
    }
    match told {
        Some((host, port, place)) if format!("{host}:{port}") == FENCE_ADDRESS => {
            AfterRestart::Fenced(place)
        }
        Some((host, port, _))
            if host.eq_ignore_ascii_case("no") && port.eq_ignore_ascii_case("one") =>
        {
            AfterRestart::Writable
        }
        Some((host, port, _)) => AfterRestart::Follows(format!("{host}:{port}")),
        None if conf.is_none() && arguments.is_empty() => {
            AfterRestart::Unknown("the server runs without a configuration file".to_owned())
        }
        None => AfterRestart::Writable,
    }
}

type Told = Option<(String, String, String)>;

fn read(files: &dyn Files, path: &Path, depth: usize, told: &mut Told) -> Result<(), String> {
    if depth > DEPTH_MAX {
        return Err(format!(
            "{}: includes are nested too deeply",
            path.display()
        ));
    }
    let bytes = files
        .read(path)
        .map_err(|error| format!("{}: {error}", path.display()))?;
    for line in String::from_utf8_lossy(&bytes).lines() {
        let mut words = line
            .split_whitespace()
            .map(|word| word.trim_matches(['"', '\'']));
        let Some(name) = words.next() else { continue };
        if is_replicaof(name) {
            if let (Some(host), Some(port)) = (words.next(), words.next()) {
                *told = Some((host.to_owned(), port.to_owned(), path.display().to_string()));
            }
        } else if name.eq_ignore_ascii_case("include") {
            for word in words {
                let included = PathBuf::from(word);
                let found = files
                    .glob(&included)
                    .map_err(|error| format!("{}: {error}", included.display()))?;
                for file in found {
                    read(files, &file, depth + 1, told)?;
                }
            }
        }
    }
    Ok(())
}

fn is_replicaof(name: &str) -> bool {
    name.eq_ignore_ascii_case("replicaof") || name.eq_ignore_ascii_case("slaveof")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_config::keepalived::MapFiles;

    #[test]
    fn the_last_word_counts() {
        use AfterRestart::{Fenced, Follows, Writable};
        let fence = "# by tandem init\nreplicaof 127.0.0.1 1\n";
        let fenced = || Fenced("/etc/tandem/fence.conf".to_owned());
        let line = || Fenced("the command line".to_owned());
        let arguments = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let none: Vec<String> = Vec::new();
        let table = [
            ("port 6379\n", none.clone(), Writable),
            (
                "port 6379\ninclude /etc/tandem/fence.conf\n",
                none.clone(),
                fenced(),
            ),
            ("include /etc/tandem/*.conf\n", none.clone(), fenced()),
            (
                "include \"/etc/tandem/fence.conf\"\n",
                none.clone(),
                fenced(),
            ),
            (
                "include /etc/tandem/fence.conf\nreplicaof 10.0.0.2 6379\n",
                none.clone(),
                Follows("10.0.0.2:6379".to_owned()),
            ),
            (
                "SlaveOf 127.0.0.1 1\nreplicaof no one\n",
                none.clone(),
                Writable,
            ),
            ("# replicaof 127.0.0.1 1\n", none, Writable),
            (
                "",
                arguments("/usr/bin/redis-server /r.conf --replicaof 127.0.0.1 1"),
                line(),
            ),
        ];
        for (conf, arguments, expected) in table {
            let files = MapFiles::new()
                .with("/r.conf", conf)
                .with("/etc/tandem/fence.conf", fence);
            let found = after_restart(&files, Some(Path::new("/r.conf")), &arguments);
            assert_eq!(found, expected, "{conf}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_not_known() {
        let files = MapFiles::new().with("/loop.conf", "include /loop.conf\n");
        for path in ["/none.conf", "/loop.conf"] {
            let found = after_restart(&files, Some(Path::new(path)), &[]);
            assert!(matches!(found, AfterRestart::Unknown(why) if why.starts_with(path)));
        }
        assert!(matches!(
            after_restart(&files, None, &[]),
            AfterRestart::Unknown(_)
        ));
    }
}
