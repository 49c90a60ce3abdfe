//! Keeps Redis and Valkey behind one address that stays up.

#[allow(dead_code, unused_imports)]
mod linux;
#[allow(dead_code)]
mod redis;

fn main() {}
