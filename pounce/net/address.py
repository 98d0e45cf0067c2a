"""Addresses of sockets, as applications and log lines show them."""

type Address = tuple[str, int | None]
"""(host, port), or (path, None) for a Unix socket."""
