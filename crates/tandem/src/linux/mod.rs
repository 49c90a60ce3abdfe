//! The Linux side of the shell: addresses, announcements, VRRP sockets, the kernel gate, socket diagnosis,
//! process watching and clocks.
//!
//! Everything here carries out what the keeper decided and reports what the kernel said. Nothing here decides.
//! Each adapter either answers within the system call it makes (netlink, which the kernel works off inside
//! `sendmsg`) or is an async function on tokio's reactor; none waits on the runtime's thread. Sockets stay in the
//! network namespace of the thread that opened them.
//!
//! | module | carries out |
//! |---|---|
//! | [`alarm`] | waiting for a point in time, with one wake-up |
//! | [`bell`] | waking for what is wanted of a socket, and for its end |
//! | [`addr`] | VIPs with a finite lifetime, links, the watch for changes |
//! | [`announce`] | gratuitous ARP and unsolicited neighbour advertisements |
//! | [`neighbour`] | asking a segment who has an address |
//! | [`raw`] | VRRP adverts in and out, as keepalived's sockets do |
//! | [`gate`] | refusing TCP at VIP:port or at a server's own port with a reset |
//! | [`sockdiag`] | listing TCP sockets and destroying them |
//! | [`proc`] | proof that a server process is dead or dying |
//! | [`clock`] | suspend and lateness of the loop |

pub(crate) mod addr;
pub(crate) mod alarm;
pub(crate) mod announce;
pub(crate) mod bell;
pub(crate) mod clock;
pub(crate) mod gate;
pub(crate) mod neighbour;
mod netlink;
pub(crate) mod proc;
pub(crate) mod raw;
pub(crate) mod sockdiag;
pub(crate) mod sys;
#[cfg(test)]
mod testing;
pub(crate) mod users;
