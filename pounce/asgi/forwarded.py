"""What trusted proxies say of a request, and what changes in its scope: client, scheme, Host field, root path.

It is worked out once for each request that has such a field, before its application or the queue, so that scope, log
and limits name one client. The connection keeps the address of its socket. One family of fields counts, X-Forwarded or
Forwarded: where both did, a client could write into the one that its proxy does not know.

Must never change a `Request`, because one may stand for many. Owner: the worker's thread.
"""

from collections.abc import Callable, Sequence

from pounce.app.types import Scope
from pounce.config.config import Config
from pounce.connections.interface import Peer
from pounce.protocols.events import Request
from pounce.protocols.fields import Field
from pounce.protocols.forwarding import UNDERSCORE_TWINS, Forwarded, read_x_forwarded
from pounce.protocols.trusted import TrustedPeers

type Fields = tuple[Field, ...]
type Read = Callable[[Fields], Forwarded]


class Seen:
    """How the application sees one request that has come through a proxy."""

    __slots__ = ("fields", "peer", "prefix", "root_path")

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.fields: list[Field] | None = None
        """None: as they were received."""
        self.prefix: bytes | None = None
        """The root path, still percent-encoded. None: the service's."""
        self.root_path: str | None = None
        """The same as text."""

    def amend(self, scope: Scope, request: Request) -> None:
        """`scope`: that of a request without a proxy, but for its peer."""
        if self.fields is not None:
            scope["headers"] = self.fields
        if self.prefix is not None:
            root = self.root_path or ""
            scope["root_path"], scope["path"], scope["raw_path"] = root, root + request.text, self.prefix + request.path


class Forwarding:
    """What one worker takes from the fields of proxies. Requests of one client have the same fields, so what they say
    is in a cache, which is cleared when it is full."""

    MAX_KNOWN = 1024
    MAX_FIELDS = 8
    MAX_SIZE = 256  # bytes of their values

    def __init__(self, config: Config) -> None:
        self._trusted = TrustedPeers.parse(config.forwarded_allow_ips)
        self._read = _reader(config, self._trusted)
        self._known: dict[Fields, Forwarded] = {}

    def seen(self, peer: Peer, request: Request) -> Seen | None:
        """None where the application sees the request as it was received. `peer` is at the other end of the
        connection."""
        fields = request.forwarding
        seen = None
        if peer.trusted is None:
            peer.trusted = self._read is not None and self._trusted.trusts(peer.sender)
        if peer.trusted:
            client, scheme, host, prefix, root_path = (
                self._known[fields] if fields in self._known else self._learn(fields)
            )
            seen = Seen(peer.for_request(peer.client if client is None else client, scheme or peer.scheme))
            seen.prefix, seen.root_path = prefix, root_path
            if host is not None:
                seen.fields = _with_host(request.fields, host)
        for name, _ in fields:
            if b"_" in name:
                seen = seen or Seen(peer)
                seen.fields = [field for field in seen.fields or request.fields if field[0] not in UNDERSCORE_TWINS]
                break
        return seen

    def _learn(self, fields: Fields) -> Forwarded:
        assert self._read is not None
        forwarded = self._read(fields)
        if len(fields) <= self.MAX_FIELDS and sum(len(value) for _, value in fields) <= self.MAX_SIZE:
            if len(self._known) >= self.MAX_KNOWN:
                self._known.clear()
            self._known[fields] = forwarded
        return forwarded


def _with_host(fields: Sequence[Field], host: bytes) -> list[Field]:
    changed = list(fields)
    for index, (name, _) in enumerate(changed):
        if name == b"host":  # there is one at most
            changed[index] = (b"host", host)
            return changed
    return [(b"host", host), *changed]


def _reader(config: Config, trusted: TrustedPeers) -> Read | None:
    """What reads the fields of a request whose peer is trusted; None if nothing is taken from any."""
    if config.forwarded_header == "x-forwarded":
        host, prefix = config.forwarded_host, config.forwarded_prefix
        return lambda fields: read_x_forwarded(fields, trusted, host=host, prefix=prefix)
    if config.forwarded_header == "forwarded":
        from pounce.protocols.forwarded_field import read_forwarded  # most servers never need it

        return lambda fields: read_forwarded(fields, trusted, host=config.forwarded_host)
    return None
