//! Who may connect to `[[proxy]]`, and as whom: real servers with users and TLS behind it, redis-cli before it.

#![allow(clippy::unwrap_used)] // A panic in a test is its report.

#[path = "proxy_common/pki.rs"]
mod pki;

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use pki::certificates;
use tandem_lab::ns::{Host, Lab};
use tandem_lab::process::Process;
use tandem_lab::resp::{Connection, Reply};
use tandem_lab::server::{Server, Settings};
use tandem_lab::{can_run, poll, skip};

const BOUND: Duration = Duration::from_secs(30);
const EVERY: Duration = Duration::from_millis(20);
const SERVER: u16 = 7001;
const SERVER_TLS: u16 = 7101;
/// The proxies' ports: users of the server, users of its own, TLS on both sides.
const PLAIN: u16 = 6390;
const OWN: u16 = 6391;
const TLS: u16 = 6392;

struct Rig {
    server: Server,
    proxy: Process,
    lab: Lab,
}

impl Rig {
    fn host(&self) -> &Arc<Host> {
        self.lab.host("one")
    }

    fn start() -> Self {
        let lab = Lab::builder().host("one", "10.0.0.1/24").build().unwrap();
        let host = Arc::clone(lab.host("one"));
        let dir = host.dir().to_owned();
        certificates(&dir.join("pki"));
        let pki = dir.join("pki").display().to_string();
        let settings = Settings {
            port: SERVER,
            extra: vec![
                "requirepass secret".to_owned(),
                "user app on >apw ~app:* &* +@all -@dangerous".to_owned(),
                format!("tls-port {SERVER_TLS}"),
                format!("tls-cert-file {pki}/tls.crt"),
                format!("tls-key-file {pki}/tls.key"),
                format!("tls-ca-cert-file {pki}/ca.crt"),
            ],
            ..Settings::default()
        };
        let server = Server::start(&host, &settings).unwrap();
        for (name, password) in [("upstream", "secret"), ("reader", "rpw")] {
            std::fs::write(dir.join(name), format!("{password}\n")).unwrap();
        }
        let (address, files) = (host.address(), dir.display());
        let text = format!(
            r#"[host]
id = "p"
address = "{address}"
state_dir = "{files}/proxy-state"

[[proxy]]
listen = "{address}:{PLAIN}"
groups = ["a"]
threads = 2
[[proxy.group]]
name = "a"
server = "{address}:{SERVER}"

[[proxy]]
listen = "{address}:{OWN}"
groups = ["b"]
threads = 1
users = "proxy"
server_user = "default"
password_file = "{files}/upstream"
unix_socket = "{files}/own.sock"
[[proxy.user]]
name = "reader"
password_file = "{files}/reader"
commands = ["+@read", "+@connection", "+acl|whoami"]
keys = ["app:*"]
[[proxy.group]]
name = "b"
server = "{address}:{SERVER}"

[[proxy]]
listen = "{address}:{TLS}"
groups = ["c"]
threads = 1
tls = {{ cert_file = "{pki}/tls.crt", key_file = "{pki}/tls.key", client_ca_file = "{pki}/ca.crt" }}
server_tls = {{ ca_file = "{pki}/ca.crt", cert_file = "{pki}/tls.crt", key_file = "{pki}/tls.key", server_name = "redis.lab" }}
[[proxy.group]]
name = "c"
server = "{address}:{SERVER_TLS}"
"#
        );
        std::fs::create_dir_all(dir.join("proxy-state")).unwrap();
        std::fs::write(dir.join("proxy.toml"), text).unwrap();
        let mut command = Command::new(tandem_lab::tandem_binary().unwrap());
        command.arg("run").arg("-c").arg(dir.join("proxy.toml"));
        let proxy = host.spawn("proxy", &mut command).unwrap();
        Self { server, proxy, lab }
    }

    fn open(&self, port: u16) -> Connection {
        let host = self.host();
        let at = SocketAddr::new(host.address(), port);
        poll::until("the proxy to answer", BOUND, EVERY, || {
            Ok(Connection::open(host, at, Duration::from_secs(10)).map_err(|it| it.to_string()))
        })
        .unwrap()
    }

    /// What redis-cli says over TLS, with certificates of this folder.
    fn cli(&self, pki: &str, args: &[&str]) -> Result<String, String> {
        let host = self.host();
        let file = |name: &str| host.dir().join(pki).join(name).display().to_string();
        let (ca, certificate, key) = (file("ca.crt"), file("tls.crt"), file("tls.key"));
        let (address, port) = (host.address().to_string(), TLS.to_string());
        let mut all = vec!["-h", &address, "-p", &port, "--tls", "--cacert", &ca];
        all.extend(["--cert", &certificate, "--key", &key, "--no-auth-warning"]);
        all.extend(args);
        host.run("redis-cli", &all)
            .map(|said| said.trim().to_owned())
            .map_err(|error| format!("{error:#}"))
    }
}

fn said(connection: &mut Connection, words: &str) -> String {
    let words: Vec<&str> = words.split(' ').collect();
    match connection.call(&words).unwrap() {
        Reply::Error(text) => text,
        reply => reply.text().unwrap_or_else(|| format!("{reply:?}")),
    }
}

#[test]
fn users_and_databases_are_the_servers() {
    if !can_run("users_and_databases_are_the_servers") {
        return;
    }
    let rig = Rig::start();
    let mut client = rig.open(PLAIN);
    for (words, answer) in [
        ("GET app:1", "NOAUTH "),
        ("AUTH app wrong", "WRONGPASS "),
        ("GET app:1", "NOAUTH "),
        ("AUTH app apw", "OK"),
        ("ACL WHOAMI", "app"),
        ("SET app:1 x", "OK"),
        ("SET other x", "NOPERM "),
        ("KEYS *", "NOPERM "),
        ("SELECT 3", "OK"),
        ("SET app:3 y", "OK"),
        ("GET app:1", "Bulk(None)"),
        ("SELECT 99", "ERR DB index is out of range"),
        ("GET app:3", "y"),
        ("MULTI", "OK"),
        ("SELECT 0", "ERR "),
        ("EXEC", "EXECABORT "),
        ("BLPOP app:list 0.01", "Array([])"),
        ("AUTH default secret", "OK"),
        ("DBSIZE", "Integer(1)"),
        ("RESET", "RESET"),
        ("GET app:1", "NOAUTH "),
        ("HELLO 2 AUTH app apw", "Array"),
        ("GET app:1", "x"),
    ] {
        let got = said(&mut client, words);
        assert!(got.starts_with(answer), "{words}: {got}");
    }
    // What the server itself knows of it.
    let mut direct = rig.server.connect().unwrap();
    assert_eq!(said(&mut direct, "AUTH secret"), "OK");
    let clients = said(&mut direct, "CLIENT LIST");
    assert!(clients.contains(" db=3 "), "{clients}");
    assert!(clients.contains("user=app"), "{clients}");

    // The proxy's own user is held to its rights, and is another to the server.
    let mut own = rig.open(OWN);
    for (words, answer) in [
        ("GET app:1", "NOAUTH "),
        ("AUTH app apw", "WRONGPASS "),
        ("AUTH reader rpw", "OK"),
        ("ACL WHOAMI", "reader"),
        ("GET app:1", "x"),
        ("GET other", "NOPERM "),
        ("SET app:1 z", "NOPERM "),
        ("EVAL return{} 0", "NOPERM "),
    ] {
        let got = said(&mut own, words);
        assert!(got.starts_with(answer), "{words}: {got}");
    }
    let socket = rig.host().dir().join("own.sock").display().to_string();
    let args = [
        "-s",
        &socket,
        "--user",
        "reader",
        "--pass",
        "rpw",
        "--no-auth-warning",
    ];
    let over = rig
        .host()
        .run("redis-cli", &[&args[..], &["GET", "app:1"]].concat());
    assert_eq!(over.unwrap().trim(), "x");
}

#[test]
fn tls_is_spoken_on_both_sides_and_certificates_are_read_again() {
    const TEST: &str = "tls_is_spoken_on_both_sides_and_certificates_are_read_again";
    if !can_run(TEST) {
        return;
    }
    let help = Command::new("redis-cli").arg("--help").output();
    if !help.is_ok_and(|help| {
        String::from_utf8_lossy(&help.stderr).contains("--tls")
            || String::from_utf8_lossy(&help.stdout).contains("--tls")
    }) {
        skip(TEST, "this redis-cli speaks no TLS");
        return;
    }
    let rig = Rig::start();
    let user = ["--user", "app", "--pass", "apw"];
    let ask = |pki: &str, words: &[&str]| rig.cli(pki, &[&user[..], words].concat());
    poll::until("an answer over TLS", BOUND, EVERY, || {
        Ok(ask("pki", &["SET", "app:1", "x"]))
    })
    .unwrap();
    assert_eq!(ask("pki", &["GET", "app:1"]).as_deref(), Ok("x"));
    let large = "y".repeat(100_000);
    assert_eq!(
        ask("pki", &["-3", "SET", "app:2", &large]).as_deref(),
        Ok("OK")
    );
    assert_eq!(ask("pki", &["-3", "GET", "app:2"]), Ok(large));
    // The server was spoken to over TLS: its plain port has no client but the test.
    let mut direct = rig.server.connect().unwrap();
    assert_eq!(said(&mut direct, "AUTH secret"), "OK");
    let clients = said(&mut direct, "CLIENT LIST");
    let port = format!(":{SERVER_TLS} ");
    assert!(clients.contains(&port), "{clients}");

    // Another authority, the same file names; what is there is read again at HUP.
    certificates(&rig.host().dir().join("new"));
    assert!(ask("new", &["PING"]).is_err_and(|it| it.contains("verify") || it.contains("TLS")));
    for name in ["tls.crt", "tls.key", "ca.crt"] {
        let of = |folder: &str| rig.host().dir().join(folder).join(name);
        std::fs::copy(of("new"), of("pki")).unwrap();
    }
    rig.host()
        .run("kill", &["-HUP", &rig.proxy.pid().to_string()])
        .unwrap();
    poll::until("the new certificates", BOUND, EVERY, || {
        Ok(ask("new", &["PING"]))
    })
    .unwrap();

    // Other names, in the file.
    let dir = rig.host().dir();
    certificates(&dir.join("moved"));
    let file = dir.join("proxy.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let (old, new) = (dir.join("pki"), dir.join("moved"));
    let moved = |line: &str| match line.starts_with("tls = ") {
        true => line.replace(&old.display().to_string(), &new.display().to_string()),
        false => line.to_owned(),
    };
    let lines: Vec<String> = text.lines().map(moved).collect();
    std::fs::write(&file, lines.join("\n")).unwrap();
    rig.host()
        .run("kill", &["-HUP", &rig.proxy.pid().to_string()])
        .unwrap();
    poll::until("the certificates of other files", BOUND, EVERY, || {
        Ok(ask("moved", &["PING"]))
    })
    .unwrap();
}
