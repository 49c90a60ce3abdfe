//! TLS on both sides of the running proxy, over real sockets.

#![allow(clippy::unwrap_used, reason = "a panic in a test is its report")]

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
};
use tandem_proxy::frame::{Limits, Scan};
use tandem_proxy::server::{Options, Running};
use tandem_proxy::settings::{Access, Address, Distribution, Hash, Pool, Server};
use tandem_proxy::tls::{Connector, Live};

/// Longer than anything here takes on a busy machine; a test that needs it all has failed.
const PATIENCE: Duration = Duration::from_secs(20);
/// Of the value that the server gives: larger than any buffer on its way.
const LARGE: usize = 3 << 20;

/// A CA and what it signs.
struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    roots: Arc<RootCertStore>,
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl Authority {
    fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let mut roots = RootCertStore::empty();
        roots
            .add(params.self_signed(&key).unwrap().der().clone())
            .unwrap();
        Self {
            issuer: rcgen::Issuer::new(params, key),
            roots: Arc::new(roots),
        }
    }

    fn identity(&self, name: &str) -> Identity {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        (vec![certificate.der().clone()], key)
    }

    /// For a side that is connected to, and asks for a certificate.
    fn listening(&self, name: &str) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(self.roots.clone(), provider.clone());
        let (chain, key) = self.identity(name);
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(chain, key);
        Arc::new(config.unwrap())
    }

    /// For a side that connects, and shows a certificate.
    fn connecting(&self) -> Arc<ClientConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let (chain, key) = self.identity("client");
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots.clone())
            .with_client_auth_cert(chain, key);
        Arc::new(config.unwrap())
    }
}

/// A server that speaks TLS only; answers GET with a large value and everything else with OK.
fn server(config: Arc<ServerConfig>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let connection = ServerConnection::new(config.clone()).unwrap();
            std::thread::spawn(move || serve(StreamOwned::new(connection, stream)));
        }
    });
    port
}

fn serve(mut stream: StreamOwned<ServerConnection, TcpStream>) {
    let mut unread = Vec::new();
    let mut piece = vec![0; 64 * 1024];
    while let Ok(bytes @ 1..) = stream.read(&mut piece) {
        unread.extend_from_slice(&piece[..bytes]);
        let mut at = 0;
        while at < unread.len() {
            let mut scan = Scan::default();
            let Some(len) = scan.advance(&unread[at..], &Limits::CLIENT).unwrap() else {
                break;
            };
            let request = scan.request(&unread[at..at + len]);
            let mut reply = b"+OK\r\n".to_vec();
            if request.argument(0) == Some(b"GET") {
                reply.clear();
                tandem_resp::write_bulk(&vec![b'x'; LARGE], &mut reply);
            }
            at += len;
            if stream.write_all(&reply).is_err() {
                return;
            }
        }
        unread.drain(..at);
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

fn tcp(port: u16) -> Address {
    Address::Tcp {
        host: "127.0.0.1".to_owned(),
        port,
    }
}

fn pool(listen: u16, server: u16, access: Access) -> Pool {
    Pool {
        hash: Hash::Murmur,
        distribution: Distribution::Ketama,
        access,
        ..Pool::new(
            "test".to_owned(),
            tcp(listen),
            vec![Server {
                name: "s".to_owned(),
                address: tcp(server),
                weight: 1,
            }],
        )
    }
}

fn tcp_to(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

type Client = StreamOwned<ClientConnection, TcpStream>;

fn client(config: &Arc<ClientConfig>, name: &'static str, port: u16) -> Client {
    let name = ServerName::try_from(name).unwrap();
    let connection = ClientConnection::new(config.clone(), name).unwrap();
    StreamOwned::new(connection, tcp_to(port))
}

fn request(words: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    tandem_resp::encode_command(words, &mut bytes);
    bytes
}

fn expect(client: &mut Client, reply: &[u8]) {
    let mut got = vec![0; reply.len()];
    client.read_exact(&mut got).unwrap();
    assert!(
        got == reply,
        "{}",
        String::from_utf8_lossy(&got[..40.min(got.len())])
    );
}

/// Both sides speak TLS, each checks the other's certificate by name or authority.
struct World {
    authority: Authority,
    port: u16,
    pool: Pool,
    running: Running,
}

fn world() -> World {
    let authority = Authority::new();
    let port = free_port();
    let access = Access {
        tls: Some(Live::new(authority.listening("proxy.test"))),
        server_tls: Some(Connector {
            config: Live::new(authority.connecting()),
            name: ServerName::try_from("redis.test").unwrap(),
        }),
        ..Access::default()
    };
    let pool = pool(port, server(authority.listening("redis.test")), access);
    let running = Running::start(vec![pool.clone()], Options::default()).unwrap();
    World {
        authority,
        port,
        pool,
        running,
    }
}

#[test]
fn large_values_and_many_requests_pass_both_ways() {
    let world = world();
    let config = world.authority.connecting();
    let mut clients: Vec<Client> = (0..4)
        .map(|_| client(&config, "proxy.test", world.port))
        .collect();
    for client in &mut clients {
        let large = "y".repeat(LARGE);
        let mut all = request(&["SET", "k", &large]);
        for _ in 0..100 {
            all.extend(request(&["SET", "k", "v"]));
        }
        all.extend(request(&["GET", "k"]));
        client.write_all(&all).unwrap();
    }
    let mut value = Vec::new();
    tandem_resp::write_bulk(&vec![b'x'; LARGE], &mut value);
    for client in &mut clients {
        expect(client, &b"+OK\r\n".repeat(101));
        expect(client, &value);
    }
    let errors = &world.running.statistics()[0].servers[0];
    assert_eq!((errors.server_err, errors.server_eof), (0, 0));
    // One that says goodbye while it is owed something still gets it.
    let client = &mut clients[0];
    client.write_all(&request(&["GET", "k"])).unwrap();
    client.conn.send_close_notify();
    client.flush().unwrap();
    expect(client, &value);
    assert_eq!(client.read(&mut [0; 8]).unwrap(), 0, "and a goodbye");
    world.running.drain(Duration::ZERO);
    world.running.join();
}

#[test]
fn who_speaks_no_tls_gets_one_alert_and_is_closed() {
    let world = world();
    let mut plain = tcp_to(world.port);
    plain.write_all(b"PING\r\nPING\r\n").unwrap();
    let mut said = Vec::new();
    plain.read_to_end(&mut said).unwrap();
    // Record type 21, level 2: one fatal alert and nothing else.
    assert_eq!((said.len(), said[0], said[5]), (7, 21, 2), "{said:?}");

    // Without a certificate nobody is let in either.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(world.authority.roots.clone())
        .with_no_client_auth();
    let mut stranger = client(&Arc::new(config), "proxy.test", world.port);
    let refused = stranger
        .write_all(&request(&["PING"]))
        .and_then(|()| stranger.read_exact(&mut [0; 7]));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidData);
    let mut known = client(&world.authority.connecting(), "proxy.test", world.port);
    known.write_all(&request(&["PING"])).unwrap();
    expect(&mut known, b"+PONG\r\n");
}

#[test]
fn a_server_with_another_name_is_not_asked() {
    let authority = Authority::new();
    let port = free_port();
    let access = Access {
        server_tls: Some(Connector {
            config: Live::new(authority.connecting()),
            name: ServerName::try_from("redis.test").unwrap(),
        }),
        ..Access::default()
    };
    let server = server(authority.listening("somebody.else"));
    let running = Running::start(vec![pool(port, server, access)], Options::default()).unwrap();
    let mut client = tcp_to(port);
    client.write_all(&request(&["SET", "k", "v"])).unwrap();
    let mut said = [0; 4];
    client.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"-ERR");
    drop(running);
}

#[test]
fn new_certificates_count_for_new_connections() {
    let world = world();
    let config = world.authority.connecting();
    let mut old = client(&config, "proxy.test", world.port);
    old.write_all(&request(&["PING"])).unwrap();
    expect(&mut old, b"+PONG\r\n");
    let tls = world.pool.access.tls.as_ref().unwrap();
    tls.replace(world.authority.listening("renamed.test"));
    let mut new = client(&config, "renamed.test", world.port);
    new.write_all(&request(&["PING"])).unwrap();
    expect(&mut new, b"+PONG\r\n");
    old.write_all(&request(&["PING"])).unwrap();
    expect(&mut old, b"+PONG\r\n");
}
