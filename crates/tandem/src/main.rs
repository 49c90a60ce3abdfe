//! Keeps Redis and Valkey behind one address that stays up.

fn main() {}
