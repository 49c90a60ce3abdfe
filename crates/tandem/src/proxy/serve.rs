//! The two ports that tell numbers: twemproxy's, which answers whoever connects, and `/metrics` over HTTP.
//!
//! They are two because twemproxy's sends without having been asked: to wait there for a request that may come would
//! slow every collector that reads at once.
//!
//! What a stranger may cost is bounded: so many conversations at a time, each with so many bytes and so much time.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Conversations at a time; whoever comes later waits in the kernel's queue, and the requests of clients are not touched.
const TALKS_MAX: usize = 32;
/// How long one of them may last.
const TALK_WITHIN: Duration = Duration::from_secs(5);
/// How long we wait for the other side to read to the end before we close.
const LINGER: Duration = Duration::from_secs(1);
/// twemproxy's queue of that port.
const BACKLOG: i32 = 512;
/// A request for metrics with all its header lines.
const REQUEST_MAX: usize = 8 << 10;

/// A port, with a bound on those who are being answered.
#[derive(Debug)]
pub(super) struct Port {
    listener: TcpListener,
    free: std::sync::Arc<Semaphore>,
}

impl Port {
    /// Binds. Needs a runtime.
    ///
    /// # Errors
    /// When the host has no address, or the address is taken.
    pub(super) fn bind(host: &str, port: u16) -> io::Result<Self> {
        let address = first_address((host, port))?;
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM.nonblocking(),
            Some(Protocol::TCP),
        )?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(Self {
            listener: TcpListener::from_std(socket.into())?,
            free: std::sync::Arc::new(Semaphore::new(TALKS_MAX)),
        })
    }

    /// The next one to be answered. Safe to be dropped half way.
    pub(super) async fn next(&self) -> Talk {
        loop {
            let free = std::sync::Arc::clone(&self.free);
            let Ok(permit) = free.acquire_owned().await else {
                // The semaphore is never closed.
                return std::future::pending().await;
            };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    return Talk {
                        stream,
                        _permit: permit,
                    };
                }
                // Out of descriptors, most likely: clients come first.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }
}

/// `HOST:PORT`, split at the last colon; an IPv6 address may stand in brackets.
///
/// # Errors
/// When it is none.
pub(super) fn host_and_port(text: &str) -> io::Result<(&str, u16)> {
    let split = text.rsplit_once(':').and_then(|(host, port)| {
        let host = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        Some((host, port.parse().ok()?))
    });
    split.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not ADDR:PORT"))
}

fn first_address(at: (&str, u16)) -> io::Result<SocketAddr> {
    at.to_socket_addrs()?
        .next()
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address"))
}

/// Somebody to be answered.
#[derive(Debug)]
pub(super) struct Talk {
    stream: TcpStream,
    _permit: OwnedSemaphorePermit,
}

impl Talk {
    /// twemproxy's way: the text at once, then the end.
    pub(super) async fn tell(self, text: String) {
        let mut stream = self.stream;
        // Whoever does not read within the time is left alone.
        let _ = timeout(TALK_WITHIN, say(&mut stream, text.as_bytes())).await;
    }

    /// HTTP: reads a request, and answers `/metrics` with the text.
    pub(super) async fn answer(self, metrics: String) {
        let mut stream = self.stream;
        let _ = timeout(TALK_WITHIN, async {
            let head = request(&mut stream).await?;
            say(&mut stream, response(&head, &metrics).as_bytes()).await
        })
        .await;
    }
}

async fn say(stream: &mut TcpStream, text: &[u8]) -> io::Result<()> {
    stream.write_all(text).await?;
    stream.shutdown().await?;
    // To close with something unread would reset the connection, and the other side might lose what it has not read
    // yet.
    let _ = timeout(
        LINGER,
        tokio::io::copy(&mut stream.take(64 << 10), &mut tokio::io::sink()),
    )
    .await;
    Ok(())
}

/// A request up to the empty line.
async fn request(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut bytes = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let count = stream.read(&mut bytes).await?;
        if count == 0 || head.len() + count > REQUEST_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        head.extend_from_slice(&bytes[..count]);
    }
    Ok(head)
}

fn response(head: &[u8], metrics: &str) -> String {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let mut words = line.split(' ');
    let (method, target) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let path = target.split('?').next().unwrap_or_default();
    let (status, body) = match (method, path) {
        ("GET" | "HEAD", "/metrics") => ("200 OK", metrics),
        ("GET" | "HEAD", _) => ("404 Not Found", "there is only /metrics\n"),
        _ => ("405 Method Not Allowed", "only GET\n"),
    };
    let length = body.len();
    let body = if method == "HEAD" { "" } else { body };
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_knows_one_page() {
        for (request, status, body) in [
            ("GET /metrics HTTP/1.1", "200", "m 1\n"),
            ("GET /metrics?x=1 HTTP/1.0", "200", "m 1\n"),
            ("HEAD /metrics HTTP/1.1", "200", ""),
            ("GET / HTTP/1.1", "404", "there is only /metrics\n"),
            ("POST /metrics HTTP/1.1", "405", "only GET\n"),
            ("", "405", "only GET\n"),
        ] {
            let head = format!("{request}\r\nHost: a\r\n\r\n");
            let text = response(head.as_bytes(), "m 1\n");
            assert!(
                text.starts_with(&format!("HTTP/1.1 {status} ")),
                "{request}: {text}"
            );
            assert_eq!(text.split_once("\r\n\r\n").unwrap().1, body, "{request}");
        }
    }

    #[tokio::test]
    async fn a_request_has_an_end_and_a_bound() {
        let whole: &[u8] = b"GET / HTTP/1.1\r\nA: b\r\n\r\n";
        assert_eq!(request(&mut &*whole).await.unwrap(), whole);
        assert!(request(&mut &whole[..10]).await.is_err());
        let long = vec![b'a'; REQUEST_MAX + 1];
        assert!(request(&mut &*long).await.is_err());
    }

    #[test]
    fn addresses_split_at_the_last_colon() {
        for (text, host, port) in [
            ("127.0.0.1:9", "127.0.0.1", 9),
            ("[::1]:9", "::1", 9),
            ("::1:9", "::1", 9),
        ] {
            assert_eq!(host_and_port(text).unwrap(), (host, port));
        }
        for text in ["9", "a:", "a:70000"] {
            assert!(host_and_port(text).is_err(), "{text}");
        }
    }
}
