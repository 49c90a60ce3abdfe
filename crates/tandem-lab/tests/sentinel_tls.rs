//! Sentinels and servers that speak TLS to each other: ours, and the real one beside them.

#![allow(clippy::unwrap_used)] // A panic in a test is its report.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tandem_lab::fleet::{Member, Program};
use tandem_lab::ns::{Host, Lab};
use tandem_lab::server::{Server, Settings};
use tandem_lab::{can_run, poll, skip};

const BOUND: Duration = Duration::from_secs(60);
const EVERY: Duration = Duration::from_millis(20);
const GROUP: &str = "orders";
/// Where servers speak TLS; the lab itself asks them at the plain port beside it.
const TLS_PORT: u16 = 6380;

/// A key, and the same encrypted by OpenSSL with [`PASSPHRASE`].
const KEY: &str = include_str!("../../tandem/src/tls/testkeys/plain.pem");
const ENCRYPTED_KEY: &str = include_str!("../../tandem/src/tls/testkeys/pkcs8-aes256.pem");
const PASSPHRASE: &str = "open sesame";

/// A CA and one certificate for everybody, as PEM files of a folder.
fn certificates(folder: &Path) {
    let write = |name: &str, text: String| std::fs::write(folder.join(name), text).unwrap();
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    ca.distinguished_name.push(rcgen::DnType::CommonName, "lab");
    write("ca.crt", ca.self_signed(&ca_key).unwrap().pem());
    let issuer = rcgen::Issuer::new(ca, ca_key);
    let key = rcgen::KeyPair::from_pem(KEY).unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["somewhere".to_owned()])
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    write("tls.crt", certificate.pem());
    write("tls.key", ENCRYPTED_KEY.to_owned());
}

fn files(folder: &Path) -> Vec<String> {
    [
        ("cert-file", "tls.crt"),
        ("key-file", "tls.key"),
        ("ca-cert-file", "ca.crt"),
    ]
    .map(|(directive, name)| format!("tls-{directive} {}", folder.join(name).display()))
    .into_iter()
    .chain([format!("tls-key-file-pass \"{PASSPHRASE}\"")])
    .collect()
}

fn server(host: &Arc<Host>, folder: &Path) -> Server {
    let mut extra = vec![
        "repl-diskless-sync-delay 0".to_owned(),
        format!("tls-port {TLS_PORT}"),
        "tls-replication yes".to_owned(),
    ];
    extra.extend(files(folder));
    let settings = Settings {
        extra,
        ..Settings::default()
    };
    Server::start(host, &settings).unwrap()
}

/// A Sentinel that speaks TLS to everybody, and plainly to the lab.
fn member(host: &Arc<Host>, program: Program, folder: &Path, lines: &[&str]) -> Member {
    let mut text = format!(
        "port 26379\ntls-port 26380\ntls-replication yes\nbind 0.0.0.0\nprotected-mode no\ndir {}\n\
         sentinel monitor {GROUP} 10.0.0.1 {TLS_PORT} 2\nsentinel down-after-milliseconds {GROUP} 1000\n\
         sentinel failover-timeout {GROUP} 10000\n",
        host.dir().display()
    );
    for line in files(folder)
        .iter()
        .map(String::as_str)
        .chain(lines.iter().copied())
    {
        text.push_str(line);
        text.push('\n');
    }
    let mut member = Member::new(Arc::clone(host), program, text).unwrap();
    member.start().unwrap();
    member
}

fn wait_for(what: &str, mut question: impl FnMut() -> Result<(), String>) {
    poll::until(what, BOUND, EVERY, || Ok(question())).unwrap();
}

#[test]
fn a_fleet_over_tls_fails_over() {
    let test = "a_fleet_over_tls_fails_over";
    if !can_run(test) {
        return;
    }
    for program in Program::ALL {
        if let Err(reason) = program.available() {
            skip(test, &format!("{reason:#}"));
            return;
        }
    }
    let lab = Lab::builder()
        .host("h1", "10.0.0.1/24")
        .host("h2", "10.0.0.2/24")
        .host("h3", "10.0.0.3/24")
        .build()
        .unwrap();
    let folder = lab.dir();
    certificates(folder);
    let hosts = ["h1", "h2", "h3"].map(|name| lab.host(name));
    let servers = [0, 1].map(|place: usize| server(hosts[place], folder));
    let primary = SocketAddr::new(servers[0].address().ip(), TLS_PORT);
    let replica = SocketAddr::new(servers[1].address().ip(), TLS_PORT);
    servers[1].replicate(Some(primary)).unwrap();
    servers[1].wait_until_synced(BOUND).unwrap();

    // The real one offers whatever its library does; ours two versions, and one of them only.
    let members = [
        member(hosts[0], Program::Tandem, folder, &[]),
        member(
            hosts[1],
            Program::Tandem,
            folder,
            &[
                "tls-protocols TLSv1.3",
                "tls-ciphersuites TLS_AES_256_GCM_SHA384",
            ],
        ),
        member(hosts[2], Program::Real, folder, &[]),
    ];
    for member in &members {
        wait_for("all to know one another", || {
            let belief = member.belief(GROUP).map_err(|error| format!("{error:#}"))?;
            match (belief.replicas, belief.others) {
                (1, 2) if belief.flags == "master" => Ok(()),
                _ => Err(format!("{belief:?}")),
            }
        });
    }
    servers[0].process().kill();
    for member in &members {
        wait_for("all to name the new primary", || {
            match member.addr_by_name(GROUP) {
                Ok(named) if named == replica => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
    }
    assert!(servers[1].is_primary().unwrap());
}
