//! Stories of whole fleets, told on a clock of their own: a small world of servers and sentinels (world.rs) in which
//! things die, freeze and come back, and what the sentinels say and do about it.

mod requested;
mod rules;
mod server;
mod split;
mod stories;
mod stranded;
mod strangers;
mod view;
mod world;
