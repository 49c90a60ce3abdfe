//! VRRP v2 and v3: packets and the state machine; no sockets, no clock.
