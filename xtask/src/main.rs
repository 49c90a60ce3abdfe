//! Chores of the repository that need logic: `cargo run -p xtask -- tidy`.

fn main() {}
