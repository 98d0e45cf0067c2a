"""WebSocket (RFC 6455) and its compression (RFC 7692), without I/O. Loaded at the first handshake."""
