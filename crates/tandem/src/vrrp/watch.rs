//! Tracked files and processes, looked at from time to time.
//!
//! Files are read every 100 ms rather than watched: the answer is the same, and it also holds for files that are replaced,
//! mounted over or on a network. Processes are counted in `/proc` once a second; the kernel's process events, which
//! keepalived uses, do not reach other network namespaces.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use tandem_config::keepalived::{TrackFile, TrackProcess};
use tracing::warn;

/// Longest content of a tracked file that is looked at; a number needs less.
const FILE_LEN_MAX: u64 = 64;
/// `/proc/PID/comm` holds no more than this of a name.
const COMM_LEN: usize = 15;

/// The number in a tracked file. A missing file and text that is no number count as 0, as in keepalived.
pub(super) fn value(path: &Path) -> i64 {
    let mut text = String::new();
    let read =
        fs::File::open(path).and_then(|file| file.take(FILE_LEN_MAX).read_to_string(&mut text));
    if read.is_err() {
        return 0;
    }
    text.split_whitespace()
        .next()
        .and_then(|word| word.parse().ok())
        .unwrap_or(0)
}

/// Writes the file's first number (`init_file`), if it is missing or to be overwritten.
pub(super) fn initialise(file: &TrackFile) {
    let Some((value, overwrite)) = file.init else {
        return;
    };
    let text = format!("{value}\n");
    let written = if overwrite {
        fs::write(&file.path, text)
    } else {
        match fs::File::create_new(&file.path) {
            Ok(mut created) => io::Write::write_all(&mut created, text.as_bytes()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        }
    };
    if let Err(error) = written {
        warn!("track_file {}: {}: {error}", file.name, file.path.display());
    }
}

/// How many processes match each definition, from one pass over `/proc`.
pub(super) fn count(definitions: &[TrackProcess]) -> Vec<u32> {
    let mut counts = vec![0u32; definitions.len()];
    let whole = definitions.iter().any(needs_command_line);
    let Ok(entries) = fs::read_dir("/proc") else {
        return counts;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if !name.as_encoded_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        // A process that ends in between is simply not counted.
        let Ok(comm) = fs::read_to_string(entry.path().join("comm")) else {
            continue;
        };
        let arguments = if whole {
            arguments(&entry.path())
        } else {
            Vec::new()
        };
        for (definition, count) in definitions.iter().zip(&mut counts) {
            if matches(definition, comm.trim_end_matches('\n'), &arguments) {
                *count += 1;
            }
        }
    }
    counts
}

fn needs_command_line(definition: &TrackProcess) -> bool {
    definition.full_command || definition.process.len() > 1 || definition.param_match.is_some()
}

fn arguments(folder: &Path) -> Vec<String> {
    let bytes = fs::read(folder.join("cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let trimmed = text.trim_end_matches('\0');
    if trimmed.is_empty() {
        return Vec::new();
    }
    trimmed.split('\0').map(str::to_owned).collect()
}

/// Whether a process is one of those meant. `param_match initial` compares the first parameters; `partial` also lets the last
/// one be longer.
fn matches(definition: &TrackProcess, comm: &str, arguments: &[String]) -> bool {
    let Some((program, parameters)) = definition.process.split_first() else {
        return false;
    };
    if !needs_command_line(definition) {
        let cut = program
            .char_indices()
            .take_while(|(at, c)| at + c.len_utf8() <= COMM_LEN)
            .map(|(_, c)| c);
        return comm == cut.collect::<String>();
    }
    let Some((theirs, given)) = arguments.split_first() else {
        return false;
    };
    if theirs != program {
        return false;
    }
    match definition.param_match.as_deref() {
        Some("initial") => given.starts_with(parameters),
        Some("partial") => match parameters.split_last() {
            None => true,
            Some((last, first)) => {
                given.starts_with(first)
                    && given
                        .get(first.len())
                        .is_some_and(|argument| argument.starts_with(last.as_str()))
            }
        },
        Some(_) | None => given == parameters,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tandem_config::diagnostic::{Sources, Span};

    use super::*;

    fn definition(process: &[&str], param_match: Option<&str>) -> TrackProcess {
        let at = Span::new(Sources::default().add("k.conf", ""), 0, 0);
        TrackProcess {
            name: "p".into(),
            at,
            process: process.iter().map(|word| (*word).to_owned()).collect(),
            param_match: param_match.map(str::to_owned),
            full_command: false,
            quorum: 1,
            quorum_max: None,
            fork_delay: Duration::ZERO,
            terminate_delay: Duration::ZERO,
            weight: 0,
            reverse: false,
        }
    }

    #[test]
    fn processes_match_by_name_or_by_parameters() {
        let given: Vec<String> = ["redis-server", "*:6379", "--port"]
            .map(str::to_owned)
            .to_vec();
        for (process, param_match, hit) in [
            (&["redis-server"][..], None, true),
            (&["redis"], None, false),
            (&["redis-server", "*:6379", "--port"], None, true),
            (&["redis-server", "*:6379"], None, false),
            (&["redis-server", "*:6379"], Some("initial"), true),
            (&["redis-server", "*:63"], Some("initial"), false),
            (&["redis-server", "*:63"], Some("partial"), true),
            (&["redis-server", "x"], Some("partial"), false),
        ] {
            assert_eq!(
                matches(&definition(process, param_match), "redis-server", &given),
                hit,
                "{process:?} {param_match:?}"
            );
        }
        let long = definition(&["a-name-longer-than-fifteen"], None);
        assert!(matches(&long, "a-name-longer-t", &[]));
    }

    #[test]
    fn this_process_is_counted() {
        let comm = fs::read_to_string("/proc/self/comm").unwrap();
        let counted = count(&[
            definition(&[comm.trim_end()], None),
            definition(&["no-such-process"], None),
        ]);
        assert!(counted[0] >= 1);
        assert_eq!(counted[1], 0);
    }

    #[test]
    fn numbers_in_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        assert_eq!(value(&path), 0, "missing");
        for (text, expected) in [("5\n", 5), (" -20 ", -20), ("x", 0), ("", 0), ("7 x", 7)] {
            fs::write(&path, text).unwrap();
            assert_eq!(value(&path), expected, "{text:?}");
        }
    }
}
