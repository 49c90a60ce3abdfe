//! The keeper and its rules: who may be primary, and what is done to make it so; no IO.

pub mod answer;
pub mod info;
