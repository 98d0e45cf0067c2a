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
from pounce.protocols.events import Request, percent_decoded
from pounce.protocols.fields import Field
from pounce.protocols.forwarding import UNDERSCORE_TWINS, Forwarded, read_x_forwarded
from pounce.protocols.trusted import TrustedPeers

type Read = Callable[[Sequence[Field]], Forwarded]


class Seen:
    """How the application sees one request that has come through a proxy."""

    __slots__ = ("fields", "peer", "prefix")

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.fields: list[Field] | None = None
        """None: as they were received."""
        self.prefix: bytes | None = None
        """The root path, still percent-encoded. None: the service's."""

    @property
    def root_path(self) -> str | None:
        return None if self.prefix is None else percent_decoded(self.prefix)

    def amend(self, scope: Scope, request: Request) -> None:
        """`scope`: that of a request without a proxy, but for its peer."""
        if self.fields is not None:
            scope["headers"] = self.fields
        if self.prefix is not None:
            root = percent_decoded(self.prefix)
            scope |= {"root_path": root, "path": root + request.text, "raw_path": self.prefix + request.path}


class Forwarding:
    """What one worker takes from the fields of proxies."""

    def __init__(self, config: Config) -> None:
        self.trusted = TrustedPeers.parse(config.forwarded_allow_ips)
        self._read = _reader(config, self.trusted)

    def seen(self, peer: Peer, request: Request) -> Seen | None:
        """None where the application sees the request as it was received. `peer` is at the other end of the
        connection."""
        forwarded = None
        if self._read is not None and self.trusted.trusts(peer.sender):
            forwarded = self._read(request.forwarding)
        twins = any(b"_" in name for name, _ in request.forwarding)
        if forwarded is None:
            if not twins:
                return None
            seen = Seen(peer)
        else:
            client, scheme, host, prefix = forwarded
            seen = Seen(peer.for_request(peer.client if client is None else client, scheme or peer.scheme))
            seen.prefix = prefix
            if host is not None:
                seen.fields = [(b"host", host), *(field for field in request.fields if field[0] != b"host")]
        if twins:
            fields = seen.fields or request.fields
            seen.fields = [field for field in fields if field[0] not in UNDERSCORE_TWINS]
        return seen


def _reader(config: Config, trusted: TrustedPeers) -> Read | None:
    """What reads the fields of a request whose peer is trusted; None if nothing is taken from any."""
    if config.forwarded_header == "x-forwarded":
        host, prefix = config.forwarded_host, config.forwarded_prefix
        return lambda fields: read_x_forwarded(fields, trusted, host=host, prefix=prefix)
    if config.forwarded_header == "forwarded":
        from pounce.protocols.forwarded_field import read_forwarded  # most servers never need it

        return lambda fields: read_forwarded(fields, trusted, host=config.forwarded_host)
    return None
