//! Everything here against a real server; what the design takes for a fact about Redis is asserted, not assumed.

mod archive;
mod link;
mod rest;
mod roles;
pub(crate) mod server;
