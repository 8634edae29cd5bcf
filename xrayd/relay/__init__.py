"""Pure core of the relay: bytes and `now` in, decisions out; no socket, clock, file or AWS."""
