//! Readers for tandem.toml and keepalived.conf, with diagnostics; opens no files itself.
