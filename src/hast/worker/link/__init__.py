"""The connection to the peer: dialling, the handshake, requests out and replies in."""
