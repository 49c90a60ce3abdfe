//! Names to addresses, off the loop: `getaddrinfo` may take seconds and would stop every client of the thread.
//!
//! One thread serves the whole process and asks one name at a time; a lane that connects is one question, so the
//! queue is never longer than there are lanes.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use super::mailbox::{Letter, Mailbox};
use crate::core::Peer;

/// Where questions go.
#[derive(Debug, Clone)]
pub(super) struct Resolver {
    questions: Sender<Question>,
}

#[derive(Debug)]
struct Question {
    peer: Peer,
    host: String,
    port: u16,
    back: Arc<Mailbox>,
}

impl Resolver {
    /// Starts the thread. It ends when the last handle is dropped.
    pub(super) fn start() -> std::io::Result<Self> {
        let (questions, asked) = channel::<Question>();
        std::thread::Builder::new()
            .name("proxy-names".to_owned())
            .spawn(move || {
                while let Ok(question) = asked.recv() {
                    let address = first_address(&question.host, question.port);
                    question.back.put(Letter::Resolved {
                        peer: question.peer,
                        address,
                    });
                }
            })?;
        Ok(Self { questions })
    }

    /// Asks for a lane; the answer comes to its worker's mailbox.
    pub(super) fn ask(&self, peer: Peer, host: &str, port: u16, back: &Arc<Mailbox>) {
        let question = Question {
            peer,
            host: host.to_owned(),
            port,
            back: back.clone(),
        };
        if self.questions.send(question).is_err() {
            // The thread is gone: as if the name were unknown.
            back.put(Letter::Resolved {
                peer,
                address: None,
            });
        }
    }
}

/// The address that a name has now, asked again for every connection because names move.
pub(super) fn first_address(host: &str, port: u16) -> Option<SocketAddr> {
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    (host, port).to_socket_addrs().ok()?.next()
}
