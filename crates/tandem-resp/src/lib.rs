//! RESP2 and RESP3 framing, command encoding and limits; no IO.
