//! `tls-...` lines of `sentinel.conf`: what cannot be honoured is refused with its line and what to write instead.

use std::path::Path;

use tandem_config::Severity;
use tandem_config::keepalived::MapFiles;
use tandem_config::sentinel::{DAEMON_PORT, Loaded, Overrides, read};

const CONF: &str = "/etc/redis/sentinel.conf";
const KEY: &str = "/etc/redis/tls.key";

fn load(lines: &str, key: &str) -> Loaded {
    let text = format!("sentinel monitor m 10.0.0.1 6379 2\n{lines}\n");
    let files = MapFiles::new().with(CONF, text).with(KEY, key);
    read(Path::new(CONF), &files, &Overrides::parse([""; 0]))
}

fn warnings(loaded: &Loaded) -> Vec<&'static str> {
    let all = loaded.report.diagnostics.iter();
    all.filter(|found| found.severity == Severity::Warning)
        .map(|found| found.code)
        .collect()
}

#[test]
fn what_cannot_be_offered_is_refused_with_its_line() {
    let table = [
        ("tls-protocols TLSv1.1", "only TLS 1.2 and 1.3"),
        ("tls-protocols \"TLSv1.2 TLSv9\"", "`TLSv9` is no version"),
        ("tls-ciphers RC4-MD5", "no cipher of TLS 1.2"),
        (
            "tls-ciphersuites TLS_AES_128_CCM_SHA256",
            "no ciphersuite of TLS 1.3",
        ),
    ];
    for (line, reason) in table {
        for used in ["tls-port 26380", "tls-replication yes"] {
            let loaded = load(&format!("{line}\n{used}"), "");
            let fatal = loaded.fatal.as_ref().expect(line);
            let fatal = fatal.redis_text("7.0.15");
            assert!(fatal.contains(line), "{fatal}");
            let report = loaded.report.render(false);
            assert!(report.contains(reason), "{report}");
            assert!(report.contains("sentinel.conf:2"), "{report}");
            assert!(report.contains("or remove the line"), "{report}");
        }
        // Without TLS nobody reads it.
        assert!(load(line, "").fatal.is_none(), "{line}");
    }
}

#[test]
fn an_encrypted_key_needs_a_passphrase() {
    let lines = format!("tls-port 26380\ntls-key-file {KEY}");
    let with_pass = format!("{lines}\ntls-key-file-pass secret");
    // A needless one is no fault.
    for lines in [&lines, &with_pass] {
        assert!(load(lines, "-----BEGIN PRIVATE KEY-----\n").fatal.is_none());
    }
    for key in [
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\n",
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n",
    ] {
        assert!(load(&with_pass, key).fatal.is_none());
        let loaded = load(&lines, key);
        assert!(loaded.fatal.is_some());
        let report = loaded.report.render(false);
        assert!(report.contains("add `tls-key-file-pass"), "{report}");
        assert!(report.contains("sentinel.conf:3"), "{report}");
    }
}

#[test]
fn what_is_only_partly_honoured_is_said() {
    let loaded = load(
        "tls-port 26380\ntls-protocols \"TLSv1.1 TLSv1.2\"\ntls-dh-params-file /x\ntls-session-cache-timeout 9",
        "",
    );
    assert!(loaded.fatal.is_none());
    assert_eq!(
        warnings(&loaded),
        ["tls-not-offered", "no-effect", "no-effect"]
    );
    let choice = loaded.conf.server.tls.choice().expect("TLS 1.2 is left");
    assert_eq!((choice.ciphers.len(), choice.ciphersuites.len()), (6, 0));
}

#[test]
fn the_daemons_port_is_a_comment() {
    assert_eq!(load("", "").conf.daemon_port, DAEMON_PORT);
    let text = "# tandem: daemon-port 26380";
    let mut loaded = load(text, "");
    assert_eq!(loaded.conf.daemon_port, 26380);
    loaded.conf.current_epoch = 7;
    let written = loaded
        .document
        .render(&loaded.conf)
        .expect("it can be written");
    assert!(String::from_utf8_lossy(&written).contains(text));
    let wrong = load("# tandem: daemon-port 0", "");
    assert_eq!(warnings(&wrong), ["bad-daemon-port"]);
    assert_eq!(wrong.conf.daemon_port, DAEMON_PORT);
}
