//! Adverts as bytes: encode, decode, authenticate, and judge on receipt.
//!
//! Layers, from the wire up: `checksum` and `ipv4` know numbers and headers; `message` is one
//! VRRP message without context; `auth`, `ah` and `hmac` are the three ways to authenticate one;
//! [`Receiver`] applies a router's settings to a datagram in keepalived's order, and [`Sender`]
//! makes the datagrams of one advert, one per destination. Nothing here knows the state machine.

mod ah;
mod auth;
mod checksum;
mod error;
mod hmac;
mod ipv4;
mod message;
mod receive;
mod send;

pub use ah::{AH_LEN, AhHeader};
pub use auth::PassKey;
pub use checksum::{Dialect, internet_checksum};
pub use error::{CounterKind, DecodeError};
pub use hmac::{
    AntiReplay, HmacKey, HmacKeyError, HmacKeys, HmacMode, HmacSettings, ReplayTable, Stamp,
    TRAILER_LEN, Trailer,
};
pub use ipv4::{Ipv4Header, PROTOCOL_AH, PROTOCOL_VRRP, TOS_CS6};
pub use message::{AuthField, Decoded, Message, peek_vrid};
pub use receive::{Datagram, Received, Receiver};
pub use send::{Sender, Transmission};
