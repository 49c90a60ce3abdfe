//! Asking a server for its role: what a Sentinel-aware client does before it believes a sentinel.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use tandem_core::follow::Role;
use tandem_core::sentinel::Endpoint;
use tandem_proxy::tls::Connector;
use tandem_resp::{Command, Limits, ReplyDecoder, Value};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::redis::raw::{Credentials, RawConnection, Target};

/// Bound on the whole question.
const WITHIN: Duration = Duration::from_secs(1);

/// What the server says it is; the error says why that is not known.
pub(in crate::run) async fn ask(
    server: &Endpoint,
    source: IpAddr,
    credentials: Option<Credentials>,
) -> Result<Role, String> {
    let Ok(ip) = server.host.parse::<IpAddr>() else {
        return Err("it is named by something else than an address".to_owned());
    };
    let target = Target {
        address: SocketAddr::new(ip, server.port),
        // A VIP on this host must not become the source.
        source: (source.is_ipv4() == ip.is_ipv4() && !ip.is_loopback()).then_some(source),
        credentials,
    };
    let deadline = Instant::now() + WITHIN;
    let answer = async {
        let mut connection = RawConnection::open(&target, deadline).await?;
        connection.ask(&Command::new("ROLE"), deadline).await
    };
    match answer.await {
        Ok(value) => role(&value),
        Err(error) => Err(format!("it cannot be asked: {error}")),
    }
}

/// The same of a server that speaks TLS.
pub(in crate::run) async fn ask_over_tls(
    server: &Endpoint,
    credentials: Option<Credentials>,
    tls: &Connector,
) -> Result<Role, String> {
    let exchange = async {
        let stream = TcpStream::connect((server.host.as_str(), server.port)).await?;
        let connector = TlsConnector::from(tls.config.get());
        let mut stream = connector.connect(tls.name.clone(), stream).await?;
        let mut bytes = Vec::new();
        let mut answers = 1;
        if let Some(credentials) = &credentials {
            let mut auth = Command::new("AUTH");
            if let Some(user) = &credentials.user {
                auth = auth.arg(user);
            }
            auth.arg(&credentials.password).encode(&mut bytes);
            answers = 2;
        }
        Command::new("ROLE").encode(&mut bytes);
        stream.write_all(&bytes).await?;
        let mut decoder = ReplyDecoder::new(Limits::control());
        // What AUTH says is seen in what ROLE says.
        loop {
            while let Some(value) = decoder.next_value().map_err(io::Error::other)? {
                answers -= 1;
                if answers == 0 {
                    return Ok::<Value, io::Error>(value);
                }
            }
            let mut piece = [0; 4096];
            match stream.read(&mut piece).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => decoder.feed(&piece[..read]),
            }
        }
    };
    match tokio::time::timeout(WITHIN, exchange).await {
        Ok(Ok(value)) => role(&value),
        Ok(Err(error)) => Err(format!("it cannot be asked over TLS: {error}")),
        Err(_) => Err("it cannot be asked over TLS: no answer in time".to_owned()),
    }
}

fn role(value: &Value) -> Result<Role, String> {
    if let Some(error) = value.as_error() {
        return Err(String::from_utf8_lossy(error).into_owned());
    }
    let first = value.as_array().and_then(<[Value]>::first);
    match first.and_then(Value::as_bytes) {
        Some(b"master") => Ok(Role::Primary),
        Some(_) => Ok(Role::Other),
        None => Err("its answer to ROLE is no role".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_servers_answer() {
        let bulk = |text: &str| Value::Bulk(text.as_bytes().to_vec());
        let primary = Value::Array(vec![
            bulk("master"),
            Value::Integer(7),
            Value::Array(Vec::new()),
        ]);
        assert_eq!(role(&primary), Ok(Role::Primary));
        assert_eq!(role(&Value::Array(vec![bulk("slave")])), Ok(Role::Other));
        assert_eq!(role(&Value::Array(vec![bulk("sentinel")])), Ok(Role::Other));
        assert!(role(&Value::Error(b"NOAUTH x".to_vec())).is_err_and(|it| it.contains("NOAUTH")));
        assert!(role(&Value::Array(Vec::new())).is_err());
        assert!(role(&Value::Integer(1)).is_err());
    }
}
