//! The `aclfile`: read and written away from the loop, because a disk may take its time.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use crate::durable;

/// The largest `aclfile` that is read.
const LEN_MAX: u64 = 16 << 20;

/// Runs something that may block on a thread of its own.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(error.to_string()))
}

/// Reads the file whole.
pub(super) fn read(path: &Path) -> Result<String, String> {
    let open = || {
        let mut text = String::new();
        fs::File::open(path)?
            .take(LEN_MAX)
            .read_to_string(&mut text)?;
        Ok(text)
    };
    open().map_err(|error: std::io::Error| format!("{}: {error}", path.display()))
}

/// Replaces the file: either the old text or the new one is there after a crash.
pub(super) fn write(path: &Path, text: &str) -> Result<(), String> {
    durable::replace(path, text.as_bytes()).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_replaced_whole_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.acl");
        write(&path, "user a off\n").unwrap();
        write(&path, "user b off\n").unwrap();
        assert_eq!(read(&path).unwrap(), "user b off\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let missing = folder.path().join("none/users.acl");
        assert!(write(&missing, "x").unwrap_err().contains("none/users.acl"));
        assert!(read(&missing).is_err());
    }
}
