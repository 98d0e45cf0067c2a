"""Addresses to listen at: what `--bind` and its like name.

Must never open a socket or look up a name. Owner: none; nothing here changes.
"""

from typing import NamedTuple


class Bind(NamedTuple):
    """One address to listen at: a host and port, the path of a Unix socket, or an inherited descriptor, by its number
    or by the name that the service manager has given it."""

    source: str
    """The option that asks for it, as the operator would type it."""
    host: str | None = None
    port: int = 0
    path: str | None = None
    fd: int | None = None
    private: bool = False
    """Is it for the operator alone? Then it has one socket, and a Unix socket's file the rights that umask leaves."""
    fd_name: str | None = None
    mode: int | None = None
    """Of a Unix socket's file, where an option decides it."""


def parse_bind(text: str) -> Bind:
    """`HOST:PORT`, `[IPv6]:PORT`, `:PORT`, `unix:PATH`, `fd://N` or `fd://NAME`. Raises ValueError, with a text that
    completes "VALUE is ..."."""
    source = f"--bind {text}"
    if "\0" in text:
        raise ValueError("not possible: there is a NUL in it")
    if text.startswith("unix:"):
        path = text.removeprefix("unix:").removeprefix("//")
        if not path:
            raise ValueError("unix: needs a path")
        return Bind(source, path=path)
    if text.startswith("fd://"):
        name = text[5:]
        if not name or ":" in name:
            raise ValueError("fd:// needs a number, or the name of a socket")
        return Bind(source, fd=int(name)) if name.isdecimal() else Bind(source, fd_name=name)
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535 or (":" in host and not host.startswith("[")):
        raise ValueError("not HOST:PORT, [IPv6]:PORT, unix:PATH, fd://N or fd://NAME")
    return Bind(source, host=host.removeprefix("[").removesuffix("]"), port=int(port))
