//! `tandem sentinel`: the shell around `tandem_core::sentinel`.

pub(crate) mod serve;
