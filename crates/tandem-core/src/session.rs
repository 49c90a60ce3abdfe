//! Authentication between the daemons (rule 4): who speaks, and that every frame is theirs.
//!
//! Both sides prove that they know the shared secret by a challenge, and both contribute a nonce, so
//! an old conversation cannot be played back. From then on each frame carries a counter and an
//! HMAC-SHA256 over direction, counter and payload. The secret itself never crosses the wire, and
//! the counter must be exactly the next one: a dropped, repeated or reordered frame ends the
//! connection, which is redone in milliseconds.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::ids::HostId;

type HmacSha256 = Hmac<Sha256>;

/// Bytes of a nonce; the shell takes them from the system's random source.
pub const NONCE_BYTES: usize = 32;
/// Bytes of a message authentication code.
pub const MAC_BYTES: usize = 32;

/// Why the peer is not believed. The connection is closed each time; a retry by the peer is safe.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SessionError {
    /// The proof does not match: another secret, or a stranger.
    #[error("the other side does not know the shared secret")]
    WrongSecret,
    /// A frame's code does not match its content.
    #[error("frame {0} was changed on its way or is not the peer's")]
    BadMac(u64),
    /// The peer claims an id that is not the configured one.
    #[error("the other side calls itself {found}, the configuration expects {expected}")]
    WrongHost {
        /// What it said.
        found: HostId,
        /// What is configured.
        expected: HostId,
    },
}

/// The shared secret, held so that it is never printed.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    /// A secret from the bytes of its file.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// A key for another purpose, bound to its name: the adverts' HMAC key is derived by this.
    pub fn derive(&self, purpose: &str) -> [u8; 32] {
        mac(&self.0, &[b"tandem derive", purpose.as_bytes()])
    }
}

/// What both sides know after they exchanged ids and nonces.
#[derive(Debug)]
pub struct Handshake {
    key: [u8; 32],
}

impl Handshake {
    /// `dialer` is the side that opened the connection.
    pub fn new(
        secret: &Secret,
        dialer: (&HostId, &[u8; NONCE_BYTES]),
        listener: (&HostId, &[u8; NONCE_BYTES]),
    ) -> Self {
        let key = mac(
            &secret.0,
            &[
                b"tandem session",
                dialer.0.0.as_bytes(),
                dialer.1,
                listener.0.0.as_bytes(),
                listener.1,
            ],
        );
        Self { key }
    }

    /// The proof that `side` sends: `b"dialer"` or `b"listener"`.
    pub fn proof(&self, side: &[u8]) -> [u8; MAC_BYTES] {
        mac(&self.key, &[b"proof", side])
    }

    /// Checks the proof of the other side in constant time.
    pub fn check(&self, side: &[u8], proof: &[u8]) -> Result<(), SessionError> {
        verify(&self.key, &[b"proof", side], proof).map_err(|()| SessionError::WrongSecret)
    }

    /// The two directions of the finished session: (dialer to listener, listener to dialer).
    pub fn directions(&self) -> (Direction, Direction) {
        let direction = |name: &[u8]| Direction {
            key: mac(&self.key, &[b"key", name]),
            next: 1,
        };
        (direction(b"dialer"), direction(b"listener"))
    }
}

/// One direction of a session: seals on one side, opens on the other.
#[derive(Debug)]
pub struct Direction {
    key: [u8; 32],
    next: u64,
}

impl Direction {
    /// The code for the next frame.
    pub fn seal(&mut self, payload: &[u8]) -> [u8; MAC_BYTES] {
        let code = mac(&self.key, &[&self.next.to_be_bytes(), payload]);
        self.next += 1;
        code
    }

    /// Checks the next frame.
    pub fn open(&mut self, payload: &[u8], code: &[u8]) -> Result<(), SessionError> {
        verify(&self.key, &[&self.next.to_be_bytes(), payload], code)
            .map_err(|()| SessionError::BadMac(self.next))?;
        self.next += 1;
        Ok(())
    }
}

/// HMAC over length-prefixed parts, so that no two lists of parts have the same input.
fn keyed(key: &[u8], parts: &[&[u8]]) -> HmacSha256 {
    let mut hmac =
        <HmacSha256 as KeyInit>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        hmac.update(&(part.len() as u64).to_be_bytes());
        hmac.update(part);
    }
    hmac
}

fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    keyed(key, parts).finalize().into_bytes().into()
}

fn verify(key: &[u8], parts: &[&[u8]], code: &[u8]) -> Result<(), ()> {
    keyed(key, parts).verify_slice(code).map_err(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shake(secret: &str, nonce: u8) -> Handshake {
        Handshake::new(
            &Secret::new(secret.into()),
            (&HostId::new("a"), &[nonce; NONCE_BYTES]),
            (&HostId::new("b"), &[9; NONCE_BYTES]),
        )
    }

    #[test]
    fn both_sides_agree_and_a_stranger_does_not() {
        let (a, b) = (shake("s", 1), shake("s", 1));
        assert_eq!(b.check(b"dialer", &a.proof(b"dialer")), Ok(()));
        assert!(
            b.check(b"dialer", &a.proof(b"listener")).is_err(),
            "a proof is not reflected"
        );
        assert!(
            b.check(b"dialer", &shake("other", 1).proof(b"dialer"))
                .is_err()
        );
        assert!(
            b.check(b"dialer", &shake("s", 2).proof(b"dialer")).is_err(),
            "an old nonce"
        );
        assert!(b.check(b"dialer", b"").is_err());
    }

    #[test]
    fn frames_are_taken_once_in_order_and_in_their_direction() {
        let (mut send, _) = shake("s", 1).directions();
        let (mut receive, mut backwards) = shake("s", 1).directions();
        let (one, two) = (send.seal(b"one"), send.seal(b"two"));
        assert!(receive.open(b"two", &two).is_err(), "not before its turn");
        assert!(
            backwards.open(b"one", &one).is_err(),
            "not in the other direction"
        );
        assert!(receive.open(b"One", &one).is_err(), "not changed");
        assert_eq!(receive.open(b"one", &one), Ok(()));
        assert!(receive.open(b"one", &one).is_err(), "not twice");
        assert_eq!(receive.open(b"two", &two), Ok(()));
    }
}
