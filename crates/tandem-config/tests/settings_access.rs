//! Of `[[proxy]]`, who may connect, how, and as whom: what is read, and what is refused where.

#![allow(clippy::unwrap_used)] // A panic in a test is its report.

use tandem_config::settings::{self, ShardAt};

const FILE: &str = r#"[host]
id = "p"
address = "10.0.0.9"

[[proxy]]
listen = "10.0.0.9:6379"
groups = ["a", "b"]
users = "proxy"
server_user = "tandem-proxy"
password_file = "/etc/tandem/redis.password"
unix_socket = "/run/tandem/proxy.sock"
max_clients = 500
client_timeout = "10m"
tls = { cert_file = "/c.crt", key_file = "/c.key", client_ca_file = "/ca.crt" }

[proxy.server_tls]
ca_file = "/servers.crt"
server_name = "redis.example"

[[proxy.user]]
name = "app"
password_file = "/app.password"
commands = ["+@all", "-@dangerous"]
keys = ["app:*"]
read_keys = ["shared:*"]

[[proxy.user]]
name = "default"
commands = ["+ping"]

[[proxy.group]]
name = "a"
server = "10.0.0.1:6379"

[[proxy.group]]
name = "b"
unix_socket = "/run/redis.sock"
"#;

#[test]
fn all_of_it_is_read() {
    let (settings, report) = settings::read("tandem.toml", FILE);
    let settings = settings.unwrap_or_else(|| panic!("{}", report.render(false)));
    let proxy = &settings.proxies[0];
    assert!(
        matches!(&proxy.shards[1].at, ShardAt::Socket { socket } if socket.ends_with("redis.sock"))
    );
    let access = &proxy.access;
    assert_eq!(access.unix_socket_mode, 0o660);
    assert_eq!((access.max_clients, access.users.len()), (Some(500), 2));
    assert_eq!(access.users[0].keys, ["app:"]);
    assert_eq!(access.users[1].password_file, None);
    let tls = access.tls.as_ref().unwrap();
    assert!(tls.client_ca_file.is_some());
    let servers = access.server_tls.as_ref().unwrap();
    assert_eq!(servers.server_name.as_deref(), Some("redis.example"));
    assert_eq!(servers.identity, None);
}

/// Each change of the file with the code, line and column of the first finding.
#[test]
fn findings_name_the_place() {
    let table = [
        ("users = \"proxy\"\n", "", ("users", 8, 15)),
        (
            "users = \"proxy\"\n",
            "users = \"prox\"\n",
            ("wrong-value", 8, 9),
        ),
        ("-@dangerous", "-@dangerus", ("rule", 23, 12)),
        (
            "keys = [\"app:*\"]",
            "keys = [\"app:\"]",
            ("wrong-value", 24, 9),
        ),
        (
            "keys = [\"app:*\"]",
            "keys = [\"a?p:*\"]",
            ("wrong-value", 24, 9),
        ),
        (
            "password_file = \"/app.password\"\n",
            "",
            ("no-password", 20, 1),
        ),
        (
            "password_file = \"/etc/tandem/redis.password\"\n",
            "",
            ("no-password", 9, 15),
        ),
        ("key_file = \"/c.key\", ", "", ("missing-key", 14, 1)),
        (
            "cert_file = \"/c.crt\"",
            "cert = \"/c.crt\"",
            ("missing-key", 14, 1),
        ),
        (
            "server_name",
            "cert_file = \"/x\"\nserver_name",
            ("half-pair", 16, 8),
        ),
        (
            "max_clients = 500",
            "max_clients = 0",
            ("out-of-range", 12, 15),
        ),
        (
            "max_clients = 500",
            "unix_socket_mode = \"0999\"",
            ("wrong-value", 12, 20),
        ),
        (
            "unix_socket = \"/run/redis.sock\"",
            "",
            ("proxy-group", 35, 1),
        ),
    ];
    for (from, to, expected) in table {
        assert!(FILE.contains(from), "{from}");
        let text = FILE.replacen(from, to, 1);
        let (_, report) = settings::read("tandem.toml", &text);
        let first = &report.entries()[0];
        let place = &first.places[0];
        let found = (first.code, place.line, place.column);
        assert_eq!(found, expected, "{from} -> {to}: {}", report.render(false));
    }
}

#[test]
fn a_group_that_is_kept_here_is_spoken_to_plainly_and_by_another_user() {
    let file = FILE
        .replace("id = \"p\"", "id = \"p\"\nsecret_file = \"/s\"")
        .replace(
            "[[proxy.group]]\nname = \"a\"\nserver = \"10.0.0.1:6379\"\n",
            "",
        )
        + r#"
[[peer]]
id = "q"
address = "10.0.0.8"

[[group]]
name = "a"
servers = ["10.0.0.9:6380"]
username = "tandem-proxy"
password_file = "/keeper.password"

[group.vrrp]
router_id = 51
priority = 100
interface = "eth0"
"#;
    let (_, report) = settings::read("tandem.toml", &file);
    let text = report.render(false);
    for code in ["server-tls", "keeper-user"] {
        assert!(text.contains(code), "{text}");
    }
}
