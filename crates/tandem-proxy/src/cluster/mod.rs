//! A Redis Cluster as the servers of a pool: what its nodes say of it, and the map that a proxy's threads go by.
//!
//! Each shard of a cluster (a primary with its replicas) has a *seat*: a place among the pool's servers, which has no
//! server of its own and is a group to the threads. A failover within the cluster is then what a failover of any group
//! is, and a slot that moves is a change of the table of slots and of nothing else. Seat 0 is nobody's: slots that no
//! shard has are there, and their requests wait.
//!
//! | module | |
//! |---|---|
//! | `view` | reads `CLUSTER SHARDS` and `CLUSTER SLOTS` |
//! | [`seats`] | gives shards their seats, and keeps them there |
//! | `redirection` | reads `-MOVED` and `-ASK` |
//!
//! No IO: who asks the nodes is the shell.

mod redirection;
pub mod seats;
mod view;

pub use redirection::Redirection;
pub use seats::{Map, SHARDS, Seats, pool};
pub use view::{Node, Shard, Unreadable, View};
