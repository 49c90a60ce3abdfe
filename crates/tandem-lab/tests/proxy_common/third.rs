//! A proxy on a host that holds no server: it follows the pair by its daemons.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use tandem_lab::arrangement::{Arrangement, CLIENT, Side, THIRD};
use tandem_lab::process::Process;
use tandem_lab::resp::{Connection, Reply};
use tandem_lab::{poll, tandem_binary};

use crate::common::{BOUND, EVERY, Rig};

const PORT: u16 = 6390;
/// First word of the one answer that says that nobody knows.
pub(crate) const UNKNOWN: &str = "TANDEM-UNKNOWN ";

/// A daemon on the third host with a proxy for the pair, of so many threads; `more` are lines of that.
pub(crate) fn proxy(rig: &Rig, threads: usize, more: &str) -> (Process, SocketAddr) {
    let host = rig.pair().lab().host(THIRD);
    let daemon = |side| format!("\"{}:26379\"", rig.pair().host(side).address());
    let [a, b] = Side::BOTH.map(daemon);
    let (address, state) = (host.address(), host.dir().join("proxy-state"));
    let text = format!(
        "[host]\nid = \"p\"\naddress = \"{address}\"\nstate_dir = \"{}\"\n\n[[proxy]]\nlisten = \"{address}:{PORT}\"\n\
         groups = [\"orders\"]\nthreads = {threads}\n{more}\n\n[[proxy.group]]\nname = \"orders\"\ndaemons = [{a}, {b}]\n",
        state.display()
    );
    std::fs::create_dir_all(&state).unwrap();
    let file = host.dir().join("proxy.toml");
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(tandem_binary().unwrap());
    command.arg("run").arg("-c").arg(file);
    let process = host.spawn("proxy", &mut command).unwrap();
    (process, SocketAddr::new(address, PORT))
}

/// A connection through it on which a request was answered, and not by an error.
pub(crate) fn connect(rig: &Rig, to: SocketAddr, request: &[&str]) -> Connection {
    let host = rig.pair().lab().host(CLIENT);
    poll::until("the proxy to answer", BOUND, EVERY, || {
        let open = || {
            let mut connection = Connection::open(host, to, Duration::from_secs(10))?;
            let reply = connection.call(request)?;
            Ok::<_, std::io::Error>((connection, reply))
        };
        Ok(match open() {
            Ok((_, Reply::Error(text))) => Err(text),
            Ok((connection, _)) => Ok(connection),
            Err(error) => Err(error.to_string()),
        })
    })
    .unwrap()
}
