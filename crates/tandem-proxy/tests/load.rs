//! Crowds and bad manners over real sockets: the others do not notice, and everything is given back.

#![allow(clippy::unwrap_used, reason = "a panic in a test is its report")]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit, setrlimit};
use tandem_proxy::frame::{Limits, Scan};
use tandem_proxy::server::{Options, Running};
use tandem_proxy::settings::{Address, Distribution, Hash, Pool, Server};

/// Longer than anything here takes on a busy machine; a test that needs it all has failed.
const PATIENCE: Duration = Duration::from_secs(30);
const GET: &[u8] = b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n";

/// One at a time: they count the descriptors of the process.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// A server that gives this answer to each request; its threads end with the test.
fn server(answer: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let (mut unread, mut piece) = (Vec::new(), [0; 4096]);
                while let Ok(bytes @ 1..) = stream.read(&mut piece) {
                    unread.extend_from_slice(&piece[..bytes]);
                    let mut replies = Vec::new();
                    while !unread.is_empty() {
                        let Ok(Some(len)) = Scan::default().advance(&unread, &Limits::CLIENT)
                        else {
                            break;
                        };
                        unread.drain(..len);
                        replies.extend_from_slice(answer);
                    }
                    if stream.write_all(&replies).is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

fn address(port: u16) -> Address {
    Address::Tcp {
        host: "127.0.0.1".to_owned(),
        port,
    }
}

/// A proxy before one server, and its port.
fn proxy(server: u16, timeout: Option<Duration>) -> (Running, u16) {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let pool = Pool {
        hash: Hash::Murmur,
        distribution: Distribution::Ketama,
        timeout,
        ..Pool::new(
            "test".to_owned(),
            address(port),
            vec![Server {
                name: "s".to_owned(),
                address: address(server),
                weight: 1,
            }],
        )
    };
    (
        Running::start(vec![pool], Options::default()).unwrap(),
        port,
    )
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn expect(stream: &mut TcpStream, bytes: &[u8]) {
    let mut got = vec![0; bytes.len()];
    stream.read_exact(&mut got).unwrap();
    assert_eq!(
        String::from_utf8_lossy(&got),
        String::from_utf8_lossy(bytes)
    );
}

fn line(stream: &mut TcpStream) -> String {
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        line.extend(byte);
    }
    String::from_utf8(line).unwrap()
}

fn ask(stream: &mut TcpStream, reply: &[u8]) {
    stream.write_all(GET).unwrap();
    expect(stream, reply);
}

fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn end(running: Running) {
    running.drain(Duration::ZERO);
    running.join();
}

#[test]
fn a_crowd_that_connects_at_once_is_served_and_gives_everything_back() {
    let _one = alone();
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    let allowed = limit.current.unwrap_or(u64::MAX);
    // Both ends are ours. As many as the system lets us, up to what is asked for.
    let many =
        usize::try_from((allowed / 2).saturating_sub(100)).map_or(10_000, |may| may.min(10_000));
    let (running, port) = proxy(server(b"+OK\r\n"), None);
    let mut before = connect(port);
    ask(&mut before, b"+OK\r\n");
    let own = descriptors();
    let mut crowd: Vec<TcpStream> = (0..many).map(|_| connect(port)).collect();
    for client in &mut crowd {
        client.write_all(GET).unwrap();
    }
    ask(&mut before, b"+OK\r\n");
    for client in &mut crowd {
        expect(client, b"+OK\r\n");
    }
    drop(crowd);
    eventually("the crowd is gone", || {
        running.statistics()[0].client_connections == 1
    });
    eventually("descriptors return", || descriptors() <= own);
    ask(&mut before, b"+OK\r\n");
    end(running);
}

#[test]
fn a_client_that_never_reads_is_not_read_from_and_harms_nobody() {
    let _one = alone();
    let (running, port) = proxy(server(b"+OK\r\n"), None);
    let mut other = connect(port);
    let mut deaf = connect(port);
    deaf.set_nonblocking(true).unwrap();
    let many = GET.repeat(1000);
    let mut sent = 0;
    let mut refused = 0;
    // Until neither the proxy nor the kernels on the way take any more.
    while refused < 100 {
        match deaf.write(&many) {
            Ok(bytes) => {
                sent += bytes;
                refused = 0;
            }
            Err(_) => {
                refused += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        ask(&mut other, b"+OK\r\n");
        assert!(sent < 256 << 20, "there is no bound");
    }
    let told = &running.statistics()[0].servers[0];
    assert!(
        told.in_queue_bytes + told.out_queue_bytes <= 2 << 20,
        "{told:?}"
    );
    drop(deaf);
    eventually("it is gone", || {
        running.statistics()[0].client_connections == 1
    });
    ask(&mut other, b"+OK\r\n");
    end(running);
}

#[test]
fn a_server_that_never_answers_costs_each_request_its_time_and_no_more() {
    let _one = alone();
    let (running, port) = proxy(server(b""), Some(Duration::from_millis(100)));
    let mut client = connect(port);
    let own = descriptors();
    // A third one in a row would be answered without being sent: the server gets a pause then.
    for _ in 0..2 {
        ask(&mut client, b"-ERR Connection timed out\r\n");
        client.write_all(b"PING\r\n").unwrap();
        expect(&mut client, b"+PONG\r\n");
    }
    assert_eq!(running.statistics()[0].servers[0].server_timedout, 2);
    eventually("its connections are closed", || descriptors() <= own + 1);
    end(running);
}

#[test]
fn a_server_that_answers_too_much_is_cut_off_and_nobody_gets_what_is_not_his() {
    let _one = alone();
    let (running, port) = proxy(server(b"+OK\r\n+MORE\r\n"), None);
    let (mut one, mut other) = (connect(port), connect(port));
    ask(&mut one, b"+OK\r\n");
    for _ in 0..5 {
        for client in [&mut one, &mut other] {
            client.write_all(GET).unwrap();
            let said = line(client);
            // Cut off again and again it gets a pause, and who asks then an error.
            assert!(said == "+OK\r\n" || said.starts_with("-ERR "), "{said}");
        }
    }
    eventually("it is cut off", || {
        running.statistics()[0].servers[0].server_err >= 2
    });
    end(running);
}

#[test]
fn who_closes_one_half_still_gets_all_answers() {
    let _one = alone();
    let (running, port) = proxy(server(b"+OK\r\n"), None);
    let mut client = connect(port);
    client.write_all(&GET.repeat(500)).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut all = Vec::new();
    client.read_to_end(&mut all).unwrap();
    assert_eq!(all, b"+OK\r\n".repeat(500));
    eventually("it is gone", || {
        running.statistics()[0].client_connections == 0
    });
    end(running);
}
