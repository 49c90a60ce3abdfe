//! The real file system behind [`tandem_config::keepalived::Files`].
//!
//! The reader of `keepalived.conf` opens nothing itself; this is what it sees on a host. Patterns are those of `include`:
//! `*`, `?` and `[...]` in any component, hidden names only where the pattern begins with a dot, as in glob(7).

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use tandem_config::keepalived::{FileFacts, Files};

/// The largest configuration file that is read: far above any real one, and a bound on a mistaken `include /dev/zero`.
const FILE_LEN_MAX: u64 = 16 << 20;
/// The most names that one pattern may stand for.
const MATCHES_MAX: usize = 10_000;

/// The file system of this host.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct HostFiles;

impl Files for HostFiles {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = fs::File::open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a regular file",
            ));
        }
        let mut content = Vec::new();
        file.take(FILE_LEN_MAX + 1).read_to_end(&mut content)?;
        if content.len() as u64 > FILE_LEN_MAX {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "larger than 16 MiB",
            ));
        }
        Ok(content)
    }

    fn glob(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        let mut found = vec![PathBuf::new()];
        for component in pattern.components() {
            let next = match component {
                Component::Normal(name) if is_pattern(&name.to_string_lossy()) => {
                    let pattern = name.to_string_lossy();
                    found
                        .iter()
                        .flat_map(|folder| matching(folder, &pattern))
                        .take(MATCHES_MAX)
                        .collect()
                }
                Component::Normal(_)
                | Component::RootDir
                | Component::CurDir
                | Component::ParentDir
                | Component::Prefix(_) => found.iter().map(|path| path.join(component)).collect(),
            };
            found = next;
        }
        found.retain(|path| path.exists());
        found.sort();
        Ok(found)
    }

    fn facts(&self, path: &Path) -> io::Result<FileFacts> {
        let metadata = fs::metadata(path)?;
        Ok(FileFacts {
            is_file: metadata.is_file(),
            uid: metadata.uid(),
            gid: metadata.gid(),
            mode: metadata.mode() & 0o7777,
        })
    }
}

fn is_pattern(name: &str) -> bool {
    name.contains(['*', '?', '['])
}

/// The entries of `folder` that match; none if it cannot be listed, as glob(3) does without an error callback.
fn matching(folder: &Path, pattern: &str) -> Vec<PathBuf> {
    let listed = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let pattern: Vec<char> = pattern.chars().collect();
    let Ok(entries) = fs::read_dir(listed) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let text: Vec<char> = name.to_str()?.chars().collect();
            let hidden = text.first() == Some(&'.') && pattern.first() != Some(&'.');
            (!hidden && matches(&pattern, &text)).then(|| folder.join(&name))
        })
        .collect()
}

/// One component against one pattern, going back to the last star on a mismatch.
fn matches(pattern: &[char], text: &[char]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&'*') {
            star = Some((p + 1, t));
            p += 1;
        } else if let Some(next) = one(pattern, p, text[t]) {
            p = next;
            t += 1;
        } else if let Some((after, taken)) = star {
            star = Some((after, taken + 1));
            (p, t) = (after, taken + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// Matches one character; the position in the pattern after it.
fn one(pattern: &[char], at: usize, c: char) -> Option<usize> {
    match pattern.get(at)? {
        '?' => Some(at + 1),
        '[' => match class(&pattern[at + 1..], c) {
            Some((true, length)) => Some(at + 1 + length),
            Some((false, _)) => None,
            // Without its closing bracket it means itself.
            None => (c == '[').then_some(at + 1),
        },
        literal => (*literal == c).then_some(at + 1),
    }
}

/// Whether `c` is in the class whose text follows the bracket, and that text's length with the closing bracket.
fn class(text: &[char], c: char) -> Option<(bool, usize)> {
    let negated = matches!(text.first(), Some('!' | '^'));
    let start = usize::from(negated);
    // A closing bracket that stands first is a member.
    let end = (start + 1..text.len()).find(|at| text[*at] == ']')?;
    let members = &text[start..end];
    let mut at = 0;
    let mut found = false;
    while at < members.len() {
        if members.get(at + 1) == Some(&'-') && at + 2 < members.len() {
            found |= (members[at]..=members[at + 2]).contains(&c);
            at += 3;
        } else {
            found |= members[at] == c;
            at += 1;
        }
    }
    Some((found != negated, end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_one_component() {
        for (pattern, text, hit) in [
            ("*.conf", "a.conf", true),
            ("*.conf", "a.conf.bak", false),
            ("?.conf", "a.conf", true),
            ("?.conf", "ab.conf", false),
            ("[ab]*", "b1", true),
            ("[!ab]*", "b1", false),
            ("[a-c]1", "b1", true),
            ("[]x]", "]", true),
            ("[a", "[a", true),
            ("*a*b", "xaxbxb", true),
            ("*", "", true),
        ] {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            assert_eq!(
                matches(&chars(pattern), &chars(text)),
                hit,
                "{pattern} {text}"
            );
        }
    }

    #[test]
    fn real_files_are_found_in_order_without_hidden_ones() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.conf", "a.conf", ".c.conf", "d.txt"] {
            fs::write(dir.path().join(name), name).unwrap();
        }
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join("sub/e.conf"), "e").unwrap();
        let glob = |pattern: &str| {
            let found = HostFiles.glob(&dir.path().join(pattern)).unwrap();
            found
                .iter()
                .map(|path| path.strip_prefix(dir.path()).unwrap().display().to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(glob("*.conf"), ["a.conf", "b.conf"]);
        assert_eq!(glob("s?b/*.conf"), ["sub/e.conf"]);
        assert_eq!(glob("a.conf"), ["a.conf"]);
        assert!(glob("none*").is_empty());
        assert_eq!(
            HostFiles.read(&dir.path().join("a.conf")).unwrap(),
            b"a.conf"
        );
        assert!(HostFiles.read(dir.path()).is_err());
        assert!(HostFiles.facts(&dir.path().join("a.conf")).unwrap().is_file);
    }
}
