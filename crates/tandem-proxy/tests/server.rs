//! The running proxy over real sockets, with servers that only know GET and SET.

#![allow(clippy::unwrap_used, reason = "a panic in a test is its report")]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tandem_proxy::frame::{Limits, Scan};
use tandem_proxy::server::{Options, Running, StartError};
use tandem_proxy::settings::{Address, Distribution, Hash, Pool, Server};

/// Longer than anything here takes on a busy machine; a test that needs it all has failed.
const PATIENCE: Duration = Duration::from_secs(20);

type Store = Arc<Mutex<HashMap<Vec<u8>, Vec<u8>>>>;

/// A server on a port of its own; its threads end with the test.
fn server() -> (u16, Store) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let store = Store::default();
    let shared = store.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let store = shared.clone();
            std::thread::spawn(move || serve(stream, &store));
        }
    });
    (port, store)
}

fn serve(mut stream: TcpStream, store: &Store) {
    let mut unread = Vec::new();
    let mut piece = vec![0; 64 * 1024];
    while let Ok(bytes @ 1..) = stream.read(&mut piece) {
        unread.extend_from_slice(&piece[..bytes]);
        let mut replies = Vec::new();
        let mut at = 0;
        loop {
            let mut scan = Scan::default();
            let rest = &unread[at..];
            if rest.is_empty() {
                break;
            }
            let Some(len) = scan.advance(rest, &Limits::CLIENT).unwrap() else {
                break;
            };
            let request = scan.request(&rest[..len]);
            let key = request.argument(1).unwrap_or_default();
            if request.argument(0) == Some(b"SET") {
                let value = request.argument(2).unwrap_or_default();
                store.lock().unwrap().insert(key.to_vec(), value.to_vec());
                replies.extend_from_slice(b"+OK\r\n");
            } else {
                match store.lock().unwrap().get(key) {
                    Some(value) => tandem_resp::write_bulk(value, &mut replies),
                    None => replies.extend_from_slice(b"$-1\r\n"),
                }
            }
            at += len;
        }
        unread.drain(..at);
        if stream.write_all(&replies).is_err() {
            return;
        }
    }
}

fn tcp(host: &str, port: u16) -> Address {
    Address::Tcp {
        host: host.to_owned(),
        port,
    }
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

fn pool(listen: Address, servers: &[Address]) -> Pool {
    Pool {
        hash: Hash::Murmur,
        distribution: Distribution::Ketama,
        preconnect: true,
        ..Pool::new(
            "test".to_owned(),
            listen,
            servers
                .iter()
                .enumerate()
                .map(|(at, address)| Server {
                    name: format!("s{at}"),
                    address: address.clone(),
                    weight: 1,
                })
                .collect(),
        )
    }
}

struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    fn to(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self {
            stream: BufReader::new(stream),
        }
    }

    fn send(&mut self, words: &[&str]) {
        let mut bytes = Vec::new();
        tandem_resp::encode_command(words, &mut bytes);
        self.stream.get_mut().write_all(&bytes).unwrap();
    }

    /// A reply of one line, or a bulk string's value.
    fn reply(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        let line = line.trim_end().to_owned();
        let Some(len) = line
            .strip_prefix('$')
            .and_then(|len| len.parse::<usize>().ok())
        else {
            return line;
        };
        let mut value = vec![0; len + 2];
        self.stream.read_exact(&mut value).unwrap();
        value.truncate(len);
        String::from_utf8(value).unwrap()
    }

    fn ask(&mut self, words: &[&str]) -> String {
        self.send(words);
        self.reply()
    }
}

fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn many_clients_over_several_threads_and_servers_get_what_is_theirs() {
    let servers = [server().0, server().0].map(|port| tcp("localhost", port));
    let port = free_port();
    let options = Options {
        threads: 3,
        ..Options::default()
    };
    let running = Running::start(vec![pool(tcp("127.0.0.1", port), &servers)], options).unwrap();
    let clients: Vec<_> = (0..8)
        .map(|number| {
            std::thread::spawn(move || {
                let mut client = Client::to(port);
                for round in 0..50 {
                    let (key, value) = (format!("k{number}:{round}"), format!("v{number}:{round}"));
                    client.send(&["SET", &key, &value]);
                    client.send(&["GET", &key]);
                    assert_eq!(client.reply(), "+OK");
                    assert_eq!(client.reply(), value);
                }
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    let sum = &running.statistics()[0];
    assert_eq!(
        sum.servers
            .iter()
            .map(|server| server.requests)
            .sum::<u64>(),
        800
    );
    assert_eq!(
        sum.servers
            .iter()
            .map(|server| server.responses)
            .sum::<u64>(),
        800
    );
    assert_eq!(sum.client_accepted, 8);
    assert!(
        sum.servers.iter().all(|server| server.requests > 0),
        "both have keys"
    );
    eventually("clients are gone", || {
        running.statistics()[0].client_connections == 0
    });
    running.drain(PATIENCE);
    running.join();
    assert!(
        TcpStream::connect(("127.0.0.1", port)).is_err(),
        "nobody listens any more"
    );
}

#[test]
fn a_value_of_many_reads_and_writes_passes_unchanged() {
    let (server, store) = server();
    let port = free_port();
    let running = Running::start(
        vec![pool(tcp("127.0.0.1", port), &[tcp("127.0.0.1", server)])],
        Options::default(),
    )
    .unwrap();
    let value: String = (0..5_000_000)
        .map(|at| char::from(b'a' + (at % 23) as u8))
        .collect();
    let mut client = Client::to(port);
    assert_eq!(client.ask(&["SET", "big", &value]), "+OK");
    assert_eq!(store.lock().unwrap()[&b"big"[..]].len(), value.len());
    assert!(
        client.ask(&["GET", "big"]) == value,
        "another value came back"
    );
    assert_eq!(client.ask(&["GET", "none"]), "$-1");
    running.drain(Duration::ZERO);
    running.join();
}

#[test]
fn one_who_resets_a_thousand_requests_harms_nobody() {
    let (server, _) = server();
    let port = free_port();
    let running = Running::start(
        vec![pool(tcp("127.0.0.1", port), &[tcp("127.0.0.1", server)])],
        Options::default(),
    )
    .unwrap();
    let mut other = Client::to(port);
    assert_eq!(other.ask(&["SET", "a", "mine"]), "+OK");
    for _ in 0..20 {
        let mut rude = Client::to(port);
        for _ in 0..1000 {
            rude.send(&["GET", "a"]);
        }
        // Closing with replies unread resets.
        drop(rude);
        assert_eq!(other.ask(&["GET", "a"]), "mine");
    }
    eventually("the rude are gone", || {
        running.statistics()[0].client_connections == 1
    });
    running.drain(Duration::ZERO);
    running.join();
}

#[test]
fn a_reload_keeps_connections_and_moves_them_to_the_new_servers() {
    let (old, old_store) = server();
    let (new, new_store) = server();
    let port = free_port();
    let listen = tcp("127.0.0.1", port);
    let running = Running::start(
        vec![pool(listen.clone(), &[tcp("127.0.0.1", old)])],
        Options::default(),
    )
    .unwrap();
    let mut client = Client::to(port);
    assert_eq!(client.ask(&["SET", "a", "1"]), "+OK");
    let taken = running.reload(vec![pool(listen, &[tcp("127.0.0.1", new)])]);
    assert!(taken.unwrap().wait(PATIENCE));
    assert_eq!(client.ask(&["SET", "b", "2"]), "+OK");
    assert!(new_store.lock().unwrap().contains_key(&b"b"[..]));
    assert_eq!(Client::to(port).ask(&["GET", "b"]), "2");
    assert!(old_store.lock().unwrap().contains_key(&b"a"[..]));
    running.drain(Duration::ZERO);
    running.join();
}

#[test]
fn unix_sockets_serve_and_are_served() {
    let dir = std::env::temp_dir().join(format!("tandem-proxy-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("listen.sock");
    let (server, _) = server();
    let inner = Address::Unix {
        path,
        mode: Some(0o600),
    };
    let port = free_port();
    let mut second = pool(tcp("127.0.0.1", port), std::slice::from_ref(&inner));
    second.name = "outer".to_owned();
    second.preconnect = false;
    let pools = vec![pool(inner, &[tcp("127.0.0.1", server)]), second];
    let running = Running::start(pools, Options::default()).unwrap();
    let mut client = Client::to(port);
    assert_eq!(client.ask(&["SET", "a", "through both"]), "+OK");
    assert_eq!(client.ask(&["GET", "a"]), "through both");
    running.drain(Duration::ZERO);
    running.join();
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn an_address_in_use_is_an_error_with_any_number_of_threads() {
    let (server, _) = server();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    for threads in [1, 2] {
        let one = pool(tcp("127.0.0.1", port), &[tcp("127.0.0.1", server)]);
        match Running::start(
            vec![one],
            Options {
                threads,
                ..Options::default()
            },
        ) {
            Err(StartError::Listen { listen, .. }) => {
                assert_eq!(listen, format!("127.0.0.1:{port}"));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_server_that_is_not_there_is_an_error_and_not_the_end() {
    let gone = free_port();
    let port = free_port();
    let running = Running::start(
        vec![pool(tcp("127.0.0.1", port), &[tcp("127.0.0.1", gone)])],
        Options::default(),
    )
    .unwrap();
    let mut client = Client::to(port);
    assert_eq!(client.ask(&["GET", "a"]), "-ERR Connection refused");
    assert_eq!(client.ask(&["PING"]), "+PONG");
    running.drain(Duration::ZERO);
    running.join();
}

#[test]
fn one_client_too_many_is_told_so_and_takes_nobodys_place() {
    let port = free_port();
    let options = Options {
        threads: 2,
        client_limit: Some(2),
        ..Options::default()
    };
    let pool = pool(tcp("127.0.0.1", port), &[tcp("127.0.0.1", server().0)]);
    let running = Running::start(vec![pool], options).unwrap();
    let mut clients = [Client::to(port), Client::to(port)];
    for client in &mut clients {
        assert_eq!(client.ask(&["PING"]), "+PONG");
    }
    assert_eq!(
        Client::to(port).reply(),
        "-ERR max number of clients reached"
    );
    drop(clients);
    eventually("a place is free again", || {
        let mut client = Client::to(port);
        client.send(&["PING"]);
        client.reply() == "+PONG"
    });
    drop(running);
}

#[test]
fn clients_find_a_unix_socket_beside_the_port() {
    let dir = std::env::temp_dir().join(format!("tandem-proxy-test-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("proxy.sock");
    let port = free_port();
    let mut settings = pool(tcp("127.0.0.1", port), &[tcp("127.0.0.1", server().0)]);
    settings.access.socket = Some(Address::Unix {
        path: path.clone(),
        mode: Some(0o600),
    });
    let running = Running::start(vec![settings.clone()], Options::default()).unwrap();
    let ask = || {
        let mut stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
        stream.write_all(b"PING\r\n").unwrap();
        let mut reply = [0; 7];
        stream.read_exact(&mut reply).unwrap();
        assert_eq!(&reply, b"+PONG\r\n");
    };
    ask();
    assert_eq!(Client::to(port).ask(&["PING"]), "+PONG");
    // A reload that changes something else leaves both open.
    settings.timeout = Some(PATIENCE);
    assert!(running.reload(vec![settings]).unwrap().wait(PATIENCE));
    ask();
    assert_eq!(Client::to(port).ask(&["PING"]), "+PONG");
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn every_thread_answers_beats_and_none_that_has_ended() {
    let port = free_port();
    let one = pool(tcp("127.0.0.1", port), &[tcp("127.0.0.1", server().0)]);
    let options = Options {
        threads: 3,
        ..Options::default()
    };
    let running = Running::start(vec![one], options).unwrap();
    let pulse = running.pulse();
    assert_eq!(pulse.ask(), [0; 3], "asked now for the first time");
    eventually("three answers of each", || {
        pulse.ask().iter().all(|answers| *answers >= 3)
    });
    running.drain(Duration::ZERO);
    running.join();
    let last = pulse.ask();
    assert_eq!(pulse.ask(), last, "and nothing piles up");
}

#[test]
fn an_address_of_another_host_can_be_listened_at_if_told_so() {
    // TEST-NET-1: nobody's.
    let elsewhere = || pool(tcp("192.0.2.1", free_port()), &[tcp("127.0.0.1", 1)]);
    for threads in [1, 2] {
        let options = |free_bind| Options {
            threads,
            free_bind,
            ..Options::default()
        };
        assert!(Running::start(vec![elsewhere()], options(false)).is_err());
        let running = Running::start(vec![elsewhere()], options(true)).unwrap();
        running.drain(Duration::ZERO);
        running.join();
    }
}
