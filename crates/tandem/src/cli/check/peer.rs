//! The other host's daemon: is it there, is it the one that is meant, and does it hold the same secret?
//!
//! The first half of the daemons' own handshake is enough: the listener proves that it knows the secret before it is told
//! anything. Nothing is said to it, so no decision of its changes.

use std::time::{Duration, Instant};

use tandem_config::settings::{Peer, Settings};
use tandem_core::ids::HostId;
use tandem_core::session::{Handshake, NONCE_BYTES, Secret};
use tandem_resp::{Command, Value};

use super::Finding;
use crate::redis::error::LinkError;
use crate::redis::raw::{RawConnection, Target};

const ANSWER_WITHIN: Duration = Duration::from_secs(2);
const ITEM: &str = "peer's daemon";

/// Says HELLO and checks the answer.
pub(super) async fn daemon(settings: &Settings, secret: Option<&Secret>) -> Finding {
    let Some(peer) = settings.peers.first() else {
        return Finding::note(ITEM, "no [[peer]] in the file", "");
    };
    let Some(secret) = secret else {
        return Finding::note(ITEM, "not asked: there is no secret to ask with", "");
    };
    let address = peer.socket_addr();
    let target = Target {
        address,
        source: Some(settings.host.address),
        credentials: None,
    };
    let by = Instant::now() + ANSWER_WITHIN;
    let mut connection = match RawConnection::open(&target, by).await {
        Ok(connection) => connection,
        Err(error) => return absent(peer, &error),
    };
    let mut nonce = [0; NONCE_BYTES];
    if let Err(error) = rustix::rand::getrandom(&mut nonce, rustix::rand::GetRandomFlags::empty()) {
        return Finding::fails(ITEM, format!("no random numbers: {error}"), "");
    }
    let hello = Command::from_args(&["TANDEM", "HELLO"])
        .arg(settings.host.id.as_bytes())
        .arg(nonce);
    match connection.ask(&hello, by).await {
        Ok(answer) => judge(settings, peer, secret, &nonce, &answer),
        Err(error) => absent(peer, &error),
    }
}

fn absent(peer: &Peer, error: &LinkError) -> Finding {
    let address = peer.socket_addr();
    let advice = match error {
        LinkError::Refused => format!("start tandem run on {}; either order is fine", peer.id),
        LinkError::Unreachable
        | LinkError::TimedOut { .. }
        | LinkError::Closed { .. }
        | LinkError::Auth(_)
        | LinkError::Protocol(_)
        | LinkError::Local(_) => {
            format!(
                "is {} up, and port {} open between the hosts?",
                peer.id, peer.port
            )
        }
    };
    Finding::warning(ITEM, format!("{} at {address}: {error}", peer.id), advice)
}

fn judge(
    settings: &Settings,
    peer: &Peer,
    secret: &Secret,
    nonce: &[u8; NONCE_BYTES],
    answer: &Value,
) -> Finding {
    let address = peer.socket_addr();
    if let Some(text) = answer.as_error() {
        let text = String::from_utf8_lossy(text);
        return if text.contains("TANDEM") || text.contains("unknown command") {
            Finding::fails(
                ITEM,
                format!("{address} is no tandem: {text}"),
                "another program has the port there, redis-sentinel perhaps",
            )
        } else {
            Finding::fails(
                ITEM,
                format!("{address} refuses: {text}"),
                format!("its file needs [[peer]] with id = \"{}\"", settings.host.id),
            )
        };
    }
    let parts = answer.as_array().unwrap_or_default();
    let part = |at: usize| parts.get(at).and_then(Value::as_bytes);
    let (Some(id), Some(theirs), Some(proof)) = (part(0), part(1), part(2)) else {
        return Finding::fails(ITEM, format!("{address} answers in another language"), "");
    };
    let id = String::from_utf8_lossy(id);
    if id != peer.id {
        return Finding::fails(
            ITEM,
            format!("{address} is host {id}, the file says {}", peer.id),
            "peer.id is the id in that host's own file",
        );
    }
    let Ok(theirs) = <&[u8; NONCE_BYTES]>::try_from(theirs) else {
        return Finding::fails(ITEM, format!("{address} answers in another language"), "");
    };
    let (own_id, peer_id) = (HostId::new(&settings.host.id), HostId::new(&peer.id));
    let shake = Handshake::new(secret, (&own_id, nonce), (&peer_id, theirs));
    match shake.check(b"listener", proof) {
        Ok(()) => Finding::fine(
            ITEM,
            format!("{} at {address} answers, with the same secret", peer.id),
        ),
        Err(_) => Finding::fails(
            ITEM,
            format!("{} at {address} has another secret", peer.id),
            "copy secret_file from one host to the other and restart the daemon there",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn settings() -> Settings {
        let text = "[host]\nid = \"a\"\naddress = \"10.0.0.1\"\nsecret_file = \"/s\"\n[[peer]]\nid = \"b\"\n\
                    address = \"10.0.0.2\"\n[[group]]\nname = \"g\"\nservers = [\"10.0.0.1:6379\"]\n\
                    [group.vip]\naddress = \"10.0.0.9/24\"\ninterface = \"eth0\"\n[group.vrrp]\nrouter_id = 1\npriority = 100\n";
        tandem_config::settings::read("t", text).0.unwrap()
    }

    fn answer(id: &str, secret: &str) -> Value {
        let (a, b) = (HostId::new("a"), HostId::new("b"));
        let secret = Secret::new(secret.as_bytes().to_vec());
        let shake = Handshake::new(&secret, (&a, &[1; NONCE_BYTES]), (&b, &[2; NONCE_BYTES]));
        Value::Array(vec![
            Value::Bulk(id.as_bytes().to_vec()),
            Value::Bulk(vec![2; NONCE_BYTES]),
            Value::Bulk(shake.proof(b"listener").to_vec()),
        ])
    }

    #[test]
    fn who_answers_and_with_which_secret() {
        let settings = settings();
        let secret = Secret::new(b"0123456789abcdef".to_vec());
        let error = |text: &str| Value::Error(text.as_bytes().to_vec());
        let table = [
            (
                answer("b", "0123456789abcdef"),
                Verdict::Fine,
                "same secret",
            ),
            (
                answer("b", "another secret!!"),
                Verdict::Fails,
                "another secret",
            ),
            (answer("c", "0123456789abcdef"), Verdict::Fails, "is host c"),
            (
                error("ERR a is no peer of this host"),
                Verdict::Fails,
                "refuses",
            ),
            (
                error("ERR unknown command 'TANDEM'"),
                Verdict::Fails,
                "is no tandem",
            ),
            (
                Value::Simple(b"OK".to_vec()),
                Verdict::Fails,
                "another language",
            ),
        ];
        for (answer, verdict, words) in table {
            let found = judge(
                &settings,
                &settings.peers[0],
                &secret,
                &[1; NONCE_BYTES],
                &answer,
            );
            assert_eq!(found.verdict, verdict, "{}", found.result);
            assert!(found.result.contains(words), "{}", found.result);
        }
    }
}
