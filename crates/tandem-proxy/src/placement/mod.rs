//! Which server of a pool holds a key.
