//! The daemons' conversation as two machines without IO: who dials and who listens, byte by byte.
//!
//! Each daemon dials the other and says its statements on the connection it opened; what it hears comes
//! in on the one it accepted. So each direction stands for itself, and a link that works one way only
//! is seen as that. The machines own framing (RESP), handshake and counters; connecting, deadlines and
//! what to do after an error are the shell's. Others speak on the same port: [`opening`] tells who it is. After any error the connection is to be closed: nothing
//! that follows on it can be believed.
//!
//! ```text
//! dialer                                   listener
//!   TANDEM HELLO <id> <nonce>        ->
//!                                    <-    *3 <id> <nonce> <proof>
//!   TANDEM AUTH <proof>              ->
//!                                    <-    +OK
//!   TANDEM STATE <statement> <code>  ->    (no answer; again and again)
//! ```

use tandem_resp::{Command, FrameError, Limits, Protocol, ReplyDecoder, RequestParser, Value};

use crate::ids::HostId;
use crate::session::{Direction, Handshake, NONCE_BYTES, Secret, SessionError};
use crate::statement::{STATEMENT_MAX_BYTES, Statement, StatementError};

/// Why a conversation ended. A new connection may always be tried: its handshake starts from nothing.
#[derive(Debug, thiserror::Error)]
pub enum ConversationError {
    /// The other side is not who it has to be, or a frame is not its own.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// An authentic frame holds no statement: another version, or a bug.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// The bytes are not RESP.
    #[error(transparent)]
    Framing(#[from] FrameError),
    /// The other side answered with an error; its words.
    #[error("refused: {0}")]
    Refused(String),
    /// The other side said something that does not belong here.
    #[error("{0}")]
    OutOfTurn(&'static str),
    /// A host that is not among the configured peers.
    #[error("{0} is no peer of this host")]
    NoPeer(HostId),
    /// A person's QUIT.
    #[error("quit")]
    Quit,
}

/// The side that opened the connection and speaks on it.
#[derive(Debug)]
pub struct Dialer {
    secret: Secret,
    own: HostId,
    peer: HostId,
    nonce: [u8; NONCE_BYTES],
    decoder: ReplyDecoder,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Hello,
    Auth(Box<Handshake>),
    Up(Box<Direction>),
}

impl Dialer {
    /// Begins a conversation: the machine, and the bytes to send first. `nonce` is used once.
    pub fn new(
        secret: Secret,
        own: HostId,
        peer: HostId,
        nonce: [u8; NONCE_BYTES],
    ) -> (Self, Vec<u8>) {
        let hello = encoded(
            Command::from_args(&[b"TANDEM".as_slice(), b"HELLO"])
                .arg(own.0.as_bytes())
                .arg(nonce),
        );
        let dialer = Self {
            secret,
            own,
            peer,
            nonce,
            decoder: ReplyDecoder::new(Limits::stranger()),
            stage: Stage::Hello,
        };
        (dialer, hello)
    }

    /// Both sides have proved who they are: statements may be sent.
    pub fn is_up(&self) -> bool {
        matches!(self.stage, Stage::Up(_))
    }

    /// Takes bytes of the other side; returns what to send in turn.
    ///
    /// # Errors
    /// Whatever ends the conversation; once it is up that is anything the listener says.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<Vec<u8>, ConversationError> {
        self.decoder.feed(bytes);
        let mut out = Vec::new();
        while let Some(value) = self.decoder.next_value()? {
            if let Some(error) = value.as_error() {
                let words = String::from_utf8_lossy(error).into_owned();
                return Err(ConversationError::Refused(words));
            }
            match &self.stage {
                Stage::Hello => out.extend(self.greeted(&value)?),
                Stage::Auth(shake) => {
                    if value.as_bytes() != Some(b"OK") {
                        return Err(ConversationError::OutOfTurn("AUTH was not answered by OK"));
                    }
                    let (direction, _) = shake.directions();
                    self.stage = Stage::Up(Box::new(direction));
                }
                Stage::Up(_) => {
                    return Err(ConversationError::OutOfTurn(
                        "a listener has nothing to say",
                    ));
                }
            }
        }
        Ok(out)
    }

    fn greeted(&mut self, answer: &Value) -> Result<Vec<u8>, ConversationError> {
        let malformed = || ConversationError::OutOfTurn("HELLO's answer is malformed");
        let parts = answer.as_array().ok_or_else(malformed)?;
        let part = |at: usize| {
            parts
                .get(at)
                .and_then(Value::as_bytes)
                .ok_or_else(malformed)
        };
        let found = HostId::new(String::from_utf8_lossy(part(0)?));
        if found != self.peer {
            let expected = self.peer.clone();
            return Err(SessionError::WrongHost { found, expected }.into());
        }
        let theirs: [u8; NONCE_BYTES] = part(1)?.try_into().map_err(|_| malformed())?;
        let shake = Handshake::new(
            &self.secret,
            (&self.own, &self.nonce),
            (&self.peer, &theirs),
        );
        shake.check(b"listener", part(2)?)?;
        let proof = shake.proof(b"dialer");
        self.stage = Stage::Auth(Box::new(shake));
        Ok(encoded(
            Command::from_args(&[b"TANDEM".as_slice(), b"AUTH"]).arg(proof),
        ))
    }

    /// The bytes that say an encoded statement; `None` before the conversation is up. They are to be
    /// sent in the order in which they were asked for, each once.
    pub fn say(&mut self, statement: &[u8]) -> Option<Vec<u8>> {
        let Stage::Up(direction) = &mut self.stage else {
            return None;
        };
        let code = direction.seal(statement);
        Some(encoded(
            Command::from_args(&[b"TANDEM".as_slice(), b"STATE"])
                .arg(statement)
                .arg(code),
        ))
    }
}

/// What a connection to the daemon's port is, by the first bytes said on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// A command `TANDEM ...`: for [`Listener`].
    Peer,
    /// Anything else: a client that looks for a primary, a person, a stranger.
    Client,
    /// Too little to say.
    Undecided,
}

/// Tells peers from everybody else: a peer's first word is TANDEM, in either form of a request.
#[must_use]
pub fn opening(bytes: &[u8]) -> Opening {
    /// More digits than any count of arguments has.
    const DIGITS_MAX: usize = 4;
    const WORD: &[u8] = b"TANDEM";
    let Some((b'*', rest)) = bytes.split_first() else {
        return begins(bytes, WORD);
    };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits > DIGITS_MAX || (digits == 0 && !rest.is_empty()) {
        return Opening::Client;
    }
    let rest = &rest[digits..];
    let frame: &[u8] = b"\r\n$6\r\n";
    match begins(rest, frame) {
        Opening::Peer => begins(&rest[frame.len()..], WORD),
        other @ (Opening::Client | Opening::Undecided) => other,
    }
}

/// Whether the bytes begin with these, in any case; they may still be on their way.
fn begins(bytes: &[u8], with: &[u8]) -> Opening {
    let there = bytes.len().min(with.len());
    if !bytes[..there].eq_ignore_ascii_case(&with[..there]) {
        Opening::Client
    } else if there == with.len() {
        Opening::Peer
    } else {
        Opening::Undecided
    }
}

fn encoded(command: Command) -> Vec<u8> {
    let mut bytes = Vec::new();
    command.encode(&mut bytes);
    bytes
}

/// What a listener makes of the bytes it is given.
#[derive(Debug, Default)]
pub struct Turn {
    /// To be sent, also when the conversation ends.
    pub answer: Vec<u8>,
    /// Statements of the peer, in order.
    pub heard: Vec<Statement>,
    /// The connection is to be closed after the answer.
    pub ended: Option<ConversationError>,
}

/// The side that accepted the connection: the peer is at the other end, or anybody with redis-cli.
#[derive(Debug)]
pub struct Listener {
    own: HostId,
    known: Vec<HostId>,
    secret: Option<Secret>,
    nonce: [u8; NONCE_BYTES],
    parser: RequestParser,
    buffer: Vec<u8>,
    standing: Standing,
}

/// How far the other side has come.
#[derive(Debug)]
enum Standing {
    Stranger,
    Greeted(Box<Handshake>),
    Peer(Box<Direction>),
}

impl Listener {
    /// For a connection that was just accepted. Without a secret nobody is a peer.
    pub fn new(
        own: HostId,
        known: Vec<HostId>,
        secret: Option<Secret>,
        nonce: [u8; NONCE_BYTES],
    ) -> Self {
        Self {
            own,
            known,
            secret,
            nonce,
            parser: RequestParser::new(Limits::stranger()),
            buffer: Vec::new(),
            standing: Standing::Stranger,
        }
    }

    /// The other side has proved that it is the peer.
    pub fn is_peer(&self) -> bool {
        matches!(self.standing, Standing::Peer(_))
    }

    /// Takes bytes of the other side. What is held of an unfinished request is bounded by the parser's
    /// limits for strangers.
    pub fn receive(&mut self, bytes: &[u8]) -> Turn {
        self.buffer.extend_from_slice(bytes);
        let mut turn = Turn::default();
        while turn.ended.is_none() {
            let request = match self.parser.parse(&self.buffer) {
                Ok(Some(request)) => request,
                Ok(None) => break,
                Err(error) => {
                    turn.ended = Some(error.into());
                    break;
                }
            };
            let args = request.to_args(&self.buffer);
            self.buffer.drain(..request.len);
            if args.is_empty() {
                continue;
            }
            if let Err(error) = self.request(&args, &mut turn) {
                turn.ended = Some(error);
            }
        }
        if let Some(error) = &turn.ended
            && !matches!(error, ConversationError::Quit)
        {
            turn.answer.extend(format!("-ERR {error}\r\n").bytes());
        }
        turn
    }

    fn request(&mut self, args: &[Vec<u8>], turn: &mut Turn) -> Result<(), ConversationError> {
        let is = |at: usize, word: &str| {
            args.get(at)
                .is_some_and(|arg| arg.eq_ignore_ascii_case(word.as_bytes()))
        };
        if is(0, "PING") {
            turn.answer.extend(b"+PONG\r\n");
            return Ok(());
        }
        if is(0, "QUIT") {
            turn.answer.extend(b"+OK\r\n");
            return Err(ConversationError::Quit);
        }
        if !is(0, "TANDEM") {
            turn.answer.extend(
                b"-ERR this is tandem's port for its peers; try tandem status on the host\r\n",
            );
            return Ok(());
        }
        match args {
            [_, _, id, nonce] if is(1, "HELLO") => self.hello(id, nonce, turn),
            [_, _, proof] if is(1, "AUTH") => {
                let Standing::Greeted(shake) = &self.standing else {
                    return Err(ConversationError::OutOfTurn("AUTH before HELLO"));
                };
                shake.check(b"dialer", proof)?;
                let (direction, _) = shake.directions();
                turn.answer.extend(b"+OK\r\n");
                self.standing = Standing::Peer(Box::new(direction));
                Ok(())
            }
            [_, _, statement, code] if is(1, "STATE") => {
                let Standing::Peer(direction) = &mut self.standing else {
                    return Err(ConversationError::OutOfTurn("not authenticated"));
                };
                direction.open(statement, code)?;
                turn.heard.push(Statement::decode(statement)?);
                Ok(())
            }
            _ => Err(ConversationError::OutOfTurn(
                "unknown or malformed TANDEM command",
            )),
        }
    }

    fn hello(&mut self, id: &[u8], nonce: &[u8], turn: &mut Turn) -> Result<(), ConversationError> {
        let Some(secret) = &self.secret else {
            return Err(ConversationError::OutOfTurn("this host has no peers"));
        };
        let Standing::Stranger = self.standing else {
            // The nonce is good for one handshake.
            return Err(ConversationError::OutOfTurn("HELLO twice"));
        };
        let found = HostId::new(String::from_utf8_lossy(id));
        if !self.known.contains(&found) {
            return Err(ConversationError::NoPeer(found));
        }
        let theirs: [u8; NONCE_BYTES] = nonce
            .try_into()
            .map_err(|_| ConversationError::OutOfTurn("a nonce of the wrong length"))?;
        let shake = Handshake::new(secret, (&found, &theirs), (&self.own, &self.nonce));
        Value::Array(vec![
            Value::Bulk(self.own.0.clone().into_bytes()),
            Value::Bulk(self.nonce.to_vec()),
            Value::Bulk(shake.proof(b"listener").to_vec()),
        ])
        .encode(Protocol::Resp2, &mut turn.answer);
        self.standing = Standing::Greeted(Box::new(shake));
        Ok(())
    }
}

// A statement is not longer than what a stranger may send before it is known who sent it.
const _: () = assert!(STATEMENT_MAX_BYTES <= 16 * 1024);

#[cfg(test)]
mod tests {
    use super::*;

    const STATEMENT: &[u8] = include_bytes!("../tests/corpus/statement/good-replica");

    fn dialer(secret: &str, own: &str, peer: &str) -> (Dialer, Vec<u8>) {
        let secret = Secret::new(secret.into());
        Dialer::new(
            secret,
            HostId::new(own),
            HostId::new(peer),
            [1; NONCE_BYTES],
        )
    }

    fn listener(secret: &str, nonce: u8) -> Listener {
        let secret = Some(Secret::new(secret.into()));
        let known = vec![HostId::new("b")];
        Listener::new(HostId::new("a"), known, secret, [nonce; NONCE_BYTES])
    }

    /// A finished handshake, and what the dialer sent for it.
    fn up() -> (Dialer, Listener, Vec<u8>) {
        let (mut dialer, hello) = dialer("s", "b", "a");
        let mut listener = listener("s", 2);
        let greeting = listener.receive(&hello);
        let auth = dialer.receive(&greeting.answer).expect("the same secret");
        let ok = listener.receive(&auth);
        assert!(dialer.receive(&ok.answer).expect("an OK").is_empty());
        assert!(dialer.is_up() && listener.is_peer());
        (dialer, listener, [hello, auth].concat())
    }

    fn ended(turn: &Turn) -> String {
        turn.ended
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default()
    }

    #[test]
    fn statements_arrive_in_order_however_the_bytes_are_cut() {
        let (mut dialer, mut listener, _) = up();
        let mut bytes = dialer.say(STATEMENT).expect("up");
        bytes.extend(dialer.say(STATEMENT).expect("up"));
        let mut heard = Vec::new();
        for piece in bytes.chunks(7) {
            let turn = listener.receive(piece);
            assert_eq!(ended(&turn), "");
            assert!(turn.answer.is_empty(), "statements are not answered");
            heard.extend(turn.heard);
        }
        let one = Statement::decode(STATEMENT).expect("the corpus is good");
        assert_eq!(heard, [one.clone(), one]);
    }

    #[test]
    fn a_frame_twice_one_left_out_and_one_changed_end_the_conversation() {
        let frames = |dialer: &mut Dialer| [dialer.say(STATEMENT), dialer.say(STATEMENT)];
        let (mut dialer, mut listener, _) = up();
        let [first, _] = frames(&mut dialer).map(|f| f.expect("up"));
        assert_eq!(ended(&listener.receive(&first)), "");
        let turn = listener.receive(&first);
        assert_eq!(
            ended(&turn),
            "frame 2 was changed on its way or is not the peer's"
        );
        assert!(turn.answer.starts_with(b"-ERR frame 2"));

        let (mut dialer, mut listener, _) = up();
        let [_, second] = frames(&mut dialer).map(|f| f.expect("up"));
        assert!(ended(&listener.receive(&second)).starts_with("frame 1"));

        let (mut dialer, mut listener, _) = up();
        let [mut first, _] = frames(&mut dialer).map(|f| f.expect("up"));
        let at = first.len() / 2;
        first[at] ^= 1;
        let turn = listener.receive(&first);
        assert!(ended(&turn).starts_with("frame 1"));
        assert!(turn.heard.is_empty());
    }

    #[test]
    fn an_old_conversation_played_back_is_refused() {
        let (mut dialer, _, mut recorded) = up();
        recorded.extend(dialer.say(STATEMENT).expect("up"));
        let turn = listener("s", 3).receive(&recorded);
        assert_eq!(
            ended(&turn),
            "the other side does not know the shared secret"
        );
        assert!(turn.heard.is_empty());
    }

    #[test]
    fn the_first_word_tells_peers_from_clients() {
        let (_, hello) = dialer("s", "b", "a");
        let peers: [&[u8]; 3] = [&hello, b"TANDEM HELLO b x\r\n", b"*1\r\n$6\r\ntandem\r\n"];
        for bytes in peers {
            let decided =
                (1..=bytes.len()).find(|len| opening(&bytes[..*len]) != Opening::Undecided);
            let decided = decided.expect("decided at some byte");
            assert_eq!(opening(&bytes[..decided]), Opening::Peer);
            assert_eq!(opening(bytes), Opening::Peer);
        }
        let clients: [&[u8]; 8] = [
            b"PING\r\n",
            b"*1\r\n$4\r\nPING\r\n",
            b"*2\r\n$6\r\nCLIENT\r\n",
            b"\r\n",
            b"*x",
            b"*99999",
            b"\xff\x00",
            b"TANDOM",
        ];
        for bytes in clients {
            assert_eq!(opening(bytes), Opening::Client, "{bytes:?}");
        }
        for bytes in [b"".as_slice(), b"T", b"*", b"*3\r\n$6", b"*3\r\n$6\r\nTAN"] {
            assert_eq!(opening(bytes), Opening::Undecided, "{bytes:?}");
        }
    }

    #[test]
    fn strangers_are_told_and_shown_out() {
        let cases: [(&[u8], &str); 6] = [
            (b"TANDEM STATE x y\r\n", "not authenticated"),
            (b"TANDEM AUTH x\r\n", "AUTH before HELLO"),
            (b"TANDEM HELLO c x\r\n", "c is no peer of this host"),
            (b"TANDEM HELLO b x\r\n", "a nonce of the wrong length"),
            (b"TANDEM\r\n", "unknown or malformed TANDEM command"),
            (b"QUIT\r\n", "quit"),
        ];
        for (bytes, words) in cases {
            assert_eq!(ended(&listener("s", 2).receive(bytes)), words);
        }
        let turn = listener("s", 2).receive(b"PING\r\nGET x\r\n");
        assert!(turn.ended.is_none());
        assert!(
            turn.answer
                .starts_with(b"+PONG\r\n-ERR this is tandem's port")
        );
    }

    #[test]
    fn the_dialer_believes_only_the_peer_it_dialled() {
        let (mut other_secret, hello) = dialer("t", "b", "a");
        let greeting = listener("s", 2).receive(&hello).answer;
        let error = other_secret.receive(&greeting).expect_err("another secret");
        assert!(matches!(
            error,
            ConversationError::Session(SessionError::WrongSecret)
        ));
        let (mut elsewhere, hello) = dialer("s", "b", "c");
        let greeting = listener("s", 2).receive(&hello).answer;
        let error = elsewhere.receive(&greeting).expect_err("another host");
        assert!(matches!(
            error,
            ConversationError::Session(SessionError::WrongHost { .. })
        ));
        let (mut dialer, mut listener, _) = up();
        let answer = listener.receive(b"TANDEM STATE x y\r\n").answer;
        assert!(matches!(
            dialer.receive(&answer).expect_err("refused"),
            ConversationError::Refused(_)
        ));
    }
}
