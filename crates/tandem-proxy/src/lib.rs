//! The proxy's data plane: where keys live, what a command touches, whose reply is whose, and the loop that carries bytes.
//!
//! | module | decides | leaves to others |
//! |---|---|---|
//! | [`settings`] | what a pool is, with its defaults | reading files (`tandem-config`) |
//! | [`placement`] | which server holds a key, bit for bit as twemproxy | who is alive |
//! | [`cluster`] | which shard of a Redis Cluster has a slot, and where its primary is | asking its nodes |
//! | [`command`] | where a command's keys are, and whether it may be split, repeated or refused | sending it |
//! | [`tls`] | which certificates new connections use | reading them |
//! | [`users`] | what a user of the proxy's own may do | passwords, and the servers' users |
//! | [`frame`] | where requests and replies end | what they mean |
//! | [`core`] | whose reply is whose, in which order, within which bounds | sockets and time |
//! | [`ejection`] | which servers take part, once for the process | who failed |
//! | [`topology`] | how a proxy is told who is primary | who says it |
//! | [`tail`] | which keys the end of a history touches | reading it |
//! | [`server`] | when to read and write | everything else |
//! | [`statistics`] | what is counted, by twemproxy's names | how it is shown |
//! | [`latency`], [`slowlog`] | how long answers took | how it is shown |
//!
//! A proxy never decides who is primary: it obeys the newest topology snapshot that it is given.

pub mod cluster;
pub mod command;
pub mod core;
pub mod ejection;
pub mod frame;
pub mod latency;
pub mod placement;
pub mod server;
pub mod settings;
pub mod slowlog;
pub mod statistics;
pub mod subscribers;
pub mod tail;
pub mod tls;
pub mod topology;
pub mod users;
