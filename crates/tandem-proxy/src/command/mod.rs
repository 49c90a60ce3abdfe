//! What the proxy must know of a command before it forwards it.
