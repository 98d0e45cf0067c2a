"""WebSocket (RFC 6455) and its compression (RFC 7692), without I/O. Imported at the first handshake."""
