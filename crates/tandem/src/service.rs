//! A word to the service manager, in the form of sd_notify(3): one datagram to the socket that it names.
//!
//! Without `NOTIFY_SOCKET` nobody waits for it.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The variable that names the socket. Scripts and other children must not inherit it.
pub(crate) const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";

/// Tells systemd, if it waits for that (`Type=notify`), that the start is complete.
///
/// # Errors
/// When the socket does not take it. The start is complete all the same.
pub(crate) fn ready() -> io::Result<()> {
    match std::env::var_os(NOTIFY_SOCKET) {
        Some(socket) => tell(&socket, b"READY=1"),
        None => Ok(()),
    }
}

/// A name that begins with `@` is in the abstract namespace.
fn tell(socket: &OsStr, text: &[u8]) -> io::Result<()> {
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(text, &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_socket_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let name = format!("tandem-service-test-{}", std::process::id());
        let bound = [
            UnixDatagram::bind(&path).unwrap(),
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap(),
        ];
        let named = [path.into_os_string(), format!("@{name}").into()];
        for (socket, name) in bound.iter().zip(named) {
            tell(&name, b"READY=1").unwrap();
            let mut text = [0; 16];
            let len = socket.recv(&mut text).unwrap();
            assert_eq!(&text[..len], b"READY=1");
        }
        assert!(tell(OsStr::new("/nowhere/at/all"), b"READY=1").is_err());
    }
}
