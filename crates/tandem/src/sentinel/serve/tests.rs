//! The port as a client meets it: real connections, and a machine of cardboard behind it.

use std::future::Future;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use tandem_config::sentinel::TlsChoice;
use tandem_core::sentinel::Question;
use tandem_core::sentinel::io::{Event, Level};
use tandem_resp::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::timeout;
use tokio_rustls::rustls::pki_types::ServerName;

use super::{Ask, Server, Settings};
use crate::tls::{AuthClients, Authorities, ClientFiles, Offer, Pair, ServerFiles, connector};

/// Far beyond what anything here takes; only a hang comes to it.
const BOUND: Duration = Duration::from_secs(30);

fn settings() -> Settings {
    Settings {
        bind: vec!["127.0.0.1".to_owned()],
        port: Some(0),
        ..Settings::default()
    }
}

/// Answers every question but `SENTINEL ckquorum`, whose answer never comes.
async fn cardboard(mut asked: mpsc::Receiver<Ask>) {
    let mut unanswered = Vec::new();
    while let Some(Ask { question, answer }) = asked.recv().await {
        let value = match question {
            Question::Role => Value::Array(vec![Value::Bulk(b"sentinel".to_vec())]),
            Question::InfoSection => Value::Bulk(b"# Sentinel\r\n".to_vec()),
            Question::Publish { .. } => Value::Integer(1),
            Question::Sentinel(words) if words[0] == b"ckquorum" => {
                unanswered.push(answer);
                continue;
            }
            Question::Sentinel(words) | Question::SentinelWithPrograms { args: words, .. } => {
                Value::Array(words.into_iter().map(Value::Bulk).collect())
            }
        };
        let _ = answer.send(value);
    }
}

/// Runs a server with these settings and a client of it.
fn serve<F: Future<Output = ()>>(settings: Settings, client: impl FnOnce(Server, u16) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, async {
        let (server, asked) = Server::new(settings).unwrap();
        let port = server.listen().unwrap().first().map_or(0, |a| a.port());
        spawn_local(cardboard(asked));
        timeout(BOUND, client(server, port)).await.unwrap();
    });
}

async fn connect(port: u16) -> TcpStream {
    TcpStream::connect(("127.0.0.1", port)).await.unwrap()
}

async fn expect(stream: &mut (impl tokio::io::AsyncRead + Unpin), text: &str) {
    let mut got = vec![0; text.len()];
    stream.read_exact(&mut got).await.unwrap();
    assert_eq!(String::from_utf8(got).unwrap(), text);
}

async fn expect_end(stream: &mut (impl tokio::io::AsyncRead + Unpin), text: &str) {
    let mut got = Vec::new();
    // A reset ends a connection as well; what was read before it counts.
    let _ = stream.read_to_end(&mut got).await;
    assert_eq!(String::from_utf8(got).unwrap(), text);
}

#[test]
fn replies_come_in_the_order_of_the_requests() {
    serve(settings(), |_server, port| async move {
        let mut stream = connect(port).await;
        let requests =
            b"PING a\r\nSENTINEL masters\r\n*2\r\n$4\r\nPING\r\n$1\r\nb\r\nROLE\r\n\r\nPING\r\n";
        let replies =
            "$1\r\na\r\n*1\r\n$7\r\nmasters\r\n$1\r\nb\r\n*1\r\n$8\r\nsentinel\r\n+PONG\r\n";
        stream.write_all(requests).await.unwrap();
        expect(&mut stream, replies).await;
        // However they are cut.
        for byte in requests {
            stream.write_all(&[*byte]).await.unwrap();
            stream.flush().await.unwrap();
        }
        expect(&mut stream, replies).await;
        // Half closed: everything is still answered.
        stream
            .write_all(b"SENTINEL masters\r\nPING\r\n")
            .await
            .unwrap();
        stream.shutdown().await.unwrap();
        expect_end(&mut stream, "*1\r\n$7\r\nmasters\r\n+PONG\r\n").await;
    });
}

#[test]
fn an_answer_that_does_not_come_holds_up_one_client_only() {
    serve(settings(), |server, port| async move {
        let mut waiting = connect(port).await;
        waiting
            .write_all(b"PING\r\nSENTINEL ckquorum m\r\nPING\r\n")
            .await
            .unwrap();
        expect(&mut waiting, "+PONG\r\n").await;
        let mut other = connect(port).await;
        other
            .write_all(b"SENTINEL masters\r\nCLIENT KILL ID 1\r\n")
            .await
            .unwrap();
        expect(&mut other, "*1\r\n$7\r\nmasters\r\n:1\r\n").await;
        expect_end(&mut waiting, "").await;
        assert_eq!(server.shared.hub.borrow().client_count(), 1);
    });
}

#[test]
fn events_reach_subscribers_whatever_others_send() {
    serve(settings(), |server, port| async move {
        let mut listener = connect(port).await;
        listener.write_all(b"PSUBSCRIBE *\r\n").await.unwrap();
        expect(
            &mut listener,
            "*3\r\n$10\r\npsubscribe\r\n$1\r\n*\r\n:1\r\n",
        )
        .await;
        for (bytes, farewell) in [
            (
                &b"*1\r\n:1\r\n"[..],
                "-ERR Protocol error: expected '$', got ':'\r\n",
            ),
            (
                b"*x\r\n",
                "-ERR Protocol error: invalid multibulk length\r\n",
            ),
            (
                b"*1\r\n$x\r\n",
                "-ERR Protocol error: invalid bulk length\r\n",
            ),
            (
                b"*1\r\n$-1\r\n",
                "-ERR Protocol error: invalid bulk length\r\n",
            ),
            (
                b"*1\r\n$2000000000000\r\n",
                "-ERR Protocol error: invalid bulk length\r\n",
            ),
            (
                b"PING \"a\r\n",
                "-ERR Protocol error: unbalanced quotes in request\r\n",
            ),
            (
                b"PING\r\n*1\r\n$x\r\n",
                "+PONG\r\n-ERR Protocol error: invalid bulk length\r\n",
            ),
        ] {
            let mut stranger = connect(port).await;
            stranger.write_all(bytes).await.unwrap();
            expect_end(&mut stranger, farewell).await;
        }
        for (level, name) in [(Level::Debug, "+script-child"), (Level::Warning, "+sdown")] {
            server.publish(&Event {
                level,
                name,
                payload: "m".to_owned(),
            });
        }
        expect(
            &mut listener,
            "*4\r\n$8\r\npmessage\r\n$1\r\n*\r\n$6\r\n+sdown\r\n$1\r\nm\r\n",
        )
        .await;
    });
}

#[test]
fn endless_lines_end() {
    serve(settings(), |_server, port| async move {
        for (bytes, farewell) in [
            (
                vec![b'a'; 70_000],
                "-ERR Protocol error: too big inline request\r\n",
            ),
            (
                [&b"*"[..], &[b'1'; 70_000]].concat(),
                "-ERR Protocol error: too big mbulk count string\r\n",
            ),
            (
                [&b"*1\r\n$"[..], &[b'1'; 70_000]].concat(),
                "-ERR Protocol error: too big bulk count string\r\n",
            ),
        ] {
            let mut stream = connect(port).await;
            let (mut reader, mut writer) = stream.split();
            // The other side may close before the last byte.
            let _ = writer.write_all(&bytes).await;
            let mut got = Vec::new();
            let _ = reader.read_to_end(&mut got).await;
            let got = String::from_utf8(got).unwrap();
            assert!(got == farewell || got.is_empty(), "{got}");
        }
    });
}

#[test]
fn one_who_does_not_read_is_held_up_and_nobody_else() {
    serve(settings(), |server, port| async move {
        let mut greedy = connect(port).await;
        let request = format!("PING {}\r\n", "x".repeat(10_000));
        // Until nothing more is taken: the replies fill the client's side, then requests fill ours.
        let mut stalled = 0;
        while stalled < 20 {
            match timeout(Duration::from_millis(20), greedy.write(request.as_bytes())).await {
                Ok(written) => {
                    assert!(written.unwrap() > 0);
                    stalled = 0;
                }
                Err(_) => stalled += 1,
            }
        }
        let waiting = {
            let mut hub = server.shared.hub.borrow_mut();
            hub.client_mut(1).unwrap().outbox().waiting()
        };
        assert!(waiting < 2 * super::outbox::FULL_BYTES, "{waiting}");
        let mut other = connect(port).await;
        other.write_all(b"PING\r\n").await.unwrap();
        expect(&mut other, "+PONG\r\n").await;
    });
}

#[test]
fn more_clients_than_allowed_are_told_so() {
    let few = Settings {
        max_clients: 1,
        ..settings()
    };
    serve(few, |_server, port| async move {
        let mut first = connect(port).await;
        first.write_all(b"PING\r\n").await.unwrap();
        expect(&mut first, "+PONG\r\n").await;
        expect_end(
            &mut connect(port).await,
            "-ERR max number of clients reached\r\n",
        )
        .await;
        // The place is free again when the first has gone.
        drop(first);
        loop {
            let mut next = connect(port).await;
            if next.write_all(b"PING\r\n").await.is_err() {
                continue;
            }
            let mut got = [0; 1];
            if next.read(&mut got).await.is_ok_and(|read| read == 1) && got == *b"+" {
                break;
            }
        }
    });
}

#[test]
fn idle_clients_leave_unless_they_listen() {
    let impatient = Settings {
        idle_after: Duration::from_millis(50),
        ..settings()
    };
    serve(impatient, |server, port| async move {
        let mut listener = connect(port).await;
        listener.write_all(b"SUBSCRIBE e\r\n").await.unwrap();
        expect(&mut listener, "*3\r\n$9\r\nsubscribe\r\n$1\r\ne\r\n:1\r\n").await;
        expect_end(&mut connect(port).await, "").await;
        server.publish(&Event {
            level: Level::Notice,
            name: "e",
            payload: String::new(),
        });
        expect(
            &mut listener,
            "*3\r\n$7\r\nmessage\r\n$1\r\ne\r\n$0\r\n\r\n",
        )
        .await;
    });
}

#[test]
fn a_unix_socket_serves_with_its_mode_and_goes_with_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sentinel.sock");
    let local = Settings {
        port: None,
        unix_socket: Some(path.clone()),
        unix_socket_mode: Some(0o700),
        ..settings()
    };
    serve(local, |server, _| async move {
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        let mut stream = UnixStream::connect(&path).await.unwrap();
        stream.write_all(b"PING\r\n").await.unwrap();
        expect(&mut stream, "+PONG\r\n").await;
        server.close();
        expect_end(&mut stream, "").await;
        assert!(!path.exists());
    });
}

#[test]
fn users_and_passwords_of_the_settings() {
    let secret = Settings {
        users: vec!["user bob on >pw +ping".to_owned()],
        requirepass: Some("secret".to_owned()),
        ..settings()
    };
    serve(secret, |server, port| async move {
        let mut stream = connect(port).await;
        stream
            .write_all(b"PING\r\nAUTH bob pw\r\nPING\r\nROLE\r\nAUTH secret\r\nROLE\r\n")
            .await
            .unwrap();
        expect(
            &mut stream,
            "-NOAUTH Authentication required.\r\n+OK\r\n+PONG\r\n-NOPERM this user has no permissions to run the 'role' \
             command\r\n+OK\r\n*1\r\n$8\r\nsentinel\r\n",
        )
        .await;
        let users = server.users();
        assert_eq!(users.len(), 2);
        assert!(
            users[0].starts_with("user bob on #")
                && users[0].ends_with(" resetchannels -@all +ping")
        );
    });
    let twice = Settings {
        users: vec!["user bob on".to_owned()],
        acl_file: Some("/nonexistent".into()),
        ..settings()
    };
    assert!(matches!(
        Server::new(twice),
        Err(super::StartError::UsersTwice)
    ));
}

/// A CA, and a certificate of it that names neither side's address.
fn certificates(folder: &std::path::Path) -> (Pair, Authorities) {
    let write = |name: &str, text: String| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_certificate = ca.self_signed(&ca_key).unwrap();
    let issuer = rcgen::Issuer::new(ca, ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["elsewhere".to_owned()])
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    let pair = Pair {
        certificate: write("server.crt", certificate.pem()),
        key: write("server.key", key.serialize_pem()),
        passphrase: None,
    };
    let authorities = Authorities {
        file: Some(write("ca.crt", ca_certificate.pem())),
        folder: None,
    };
    (pair, authorities)
}

#[test]
fn tls_serves_those_whom_the_ca_signed() {
    for (auth_clients, without) in [
        (AuthClients::Yes, false),
        (AuthClients::Optional, true),
        (AuthClients::No, true),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (pair, authorities) = certificates(folder.path());
        let tls = Settings {
            port: None,
            tls_port: Some(0),
            tls: Some(ServerFiles {
                pair: pair.clone(),
                authorities: authorities.clone(),
                auth_clients,
                offer: Offer::default(),
            }),
            ..settings()
        };
        serve(tls, |_server, port| async move {
            for (pair, expected) in [(Some(pair), true), (None, without)] {
                let files = ClientFiles {
                    pair,
                    authorities: authorities.clone(),
                    offer: Offer::default(),
                };
                let name = ServerName::from(std::net::IpAddr::from([127, 0, 0, 1]));
                let served = async {
                    let stream = connector(&files)
                        .unwrap()
                        .connect(name, connect(port).await)
                        .await?;
                    let (mut reader, mut writer) = tokio::io::split(stream);
                    writer.write_all(b"PING\r\nSENTINEL masters\r\n").await?;
                    writer.flush().await?;
                    let mut got = [0; 7];
                    reader.read_exact(&mut got).await?;
                    assert_eq!(&got, b"+PONG\r\n");
                    Ok::<_, std::io::Error>(())
                };
                assert_eq!(served.await.is_ok(), expected, "{auth_clients:?}");
            }
        });
    }
}

#[test]
fn tls_that_cannot_be_is_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let (pair, authorities) = certificates(folder.path());
    let with = |tls| Settings {
        tls_port: Some(0),
        tls,
        ..settings()
    };
    let refusal = |tls| Server::new(with(tls)).err().map(|error| error.to_string());
    assert!(refusal(None).unwrap().contains("no certificate"));
    let files = |pair: Pair, authorities| ServerFiles {
        pair,
        authorities,
        auth_clients: AuthClients::Yes,
        offer: Offer::default(),
    };
    let swapped = Pair {
        certificate: pair.key.clone(),
        key: pair.certificate.clone(),
        passphrase: None,
    };
    let text = refusal(Some(files(swapped, authorities))).unwrap();
    assert!(text.contains("server.key: holds no certificate"), "{text}");
    let text = refusal(Some(files(pair, Authorities::default()))).unwrap();
    assert!(text.contains("no certificate authority"), "{text}");
}

#[test]
fn tls_speaks_what_the_file_names_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let (pair, authorities) = certificates(folder.path());
    let offer = |ciphers: &[&'static str], ciphersuites: &[&'static str]| Offer {
        choice: TlsChoice {
            ciphers: ciphers.to_vec(),
            ciphersuites: ciphersuites.to_vec(),
        },
        ..Offer::default()
    };
    let only = "ECDHE-ECDSA-CHACHA20-POLY1305";
    let tls = Settings {
        port: None,
        tls_port: Some(0),
        tls: Some(ServerFiles {
            pair,
            authorities: authorities.clone(),
            auth_clients: AuthClients::No,
            offer: offer(&[only], &[]),
        }),
        ..settings()
    };
    serve(tls, |_server, port| async move {
        for (offer, expected) in [
            (Offer::default(), true),
            (offer(&[only], &[]), true),
            (offer(&["ECDHE-ECDSA-AES128-GCM-SHA256"], &[]), false),
            (offer(&[], &["TLS_AES_128_GCM_SHA256"]), false),
        ] {
            let files = ClientFiles {
                pair: None,
                authorities: authorities.clone(),
                offer: offer.clone(),
            };
            let name = ServerName::from(std::net::IpAddr::from([127, 0, 0, 1]));
            let stream = connector(&files)
                .unwrap()
                .connect(name, connect(port).await)
                .await;
            assert_eq!(stream.is_ok(), expected, "{offer:?}");
        }
    });
}
