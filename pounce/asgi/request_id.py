"""The identifier of a request: from a trusted proxy, or made here.

It is in the response, in `scope["extensions"]["request_id"]` as `{"id": ...}`, in the field of the request that the
application sees, and in the context, where every line of the log finds it (`pounce.log_records`). What a client sends
that is not trusted is replaced: it could be that of another request.

Owner: the worker's thread; each worker has its own.
"""

import os
import re

from pounce.app.types import Scope
from pounce.config.config import Config
from pounce.connections.interface import Peer
from pounce.observe.access_texts import ByFields
from pounce.protocols.events import Request
from pounce.protocols.fields import Field
from pounce.protocols.trusted import TrustedPeers

_SANE = re.compile(rb"[A-Za-z0-9._:;=/+@~-]{1,128}")
"""What is taken from a proxy. There is nothing in it that could end a field, a string or a line."""
SIZE = 16  # bytes of a new identifier
BATCH = 256  # identifiers for which random bytes are fetched in one system call


class RequestIds:
    def __init__(self, config: Config) -> None:
        assert config.request_id is not None
        self.field = config.request_id.encode("ascii")
        # --no-proxy-headers: nothing that a proxy writes is taken.
        self._trusted = TrustedPeers.parse(config.forwarded_allow_ips if config.proxy_headers else ())
        self._given = ByFields(self._find)
        self._random = b""
        self._used = 0

    def of(self, peer: Peer, request: Request) -> str:
        """The identifier of a request from this peer."""
        given, _ = self._given.of(request.fields)
        if len(given) == 1 and _SANE.fullmatch(given[0]) and self._trusted.trusts(peer.sender):
            return given[0].decode("ascii")
        return self._new()

    def _find(self, fields: list[Field]) -> tuple[list[bytes], bool]:
        """The values of the field; is there one, or one that is called like it but with underscores? A gateway to WSGI
        or CGI makes one variable of both."""
        like = [(name, value) for name, value in fields if name.replace(b"_", b"-") == self.field]
        return [value for name, value in like if name == self.field], bool(like)

    def amend(self, scope: Scope, request: Request, identity: str) -> None:
        """Lets the application see the identifier, and no other in its place."""
        field = self.field
        if self._given.of(request.fields)[1]:
            scope["headers"] = [each for each in scope["headers"] if each[0].replace(b"_", b"-") != field]
        scope["headers"].append((field, identity.encode("ascii")))
        scope["extensions"]["request_id"] = {"id": identity}

    def _new(self) -> str:
        begin = self._used
        if begin >= len(self._random):
            self._random = os.urandom(SIZE * BATCH)
            begin = 0
        self._used = begin + SIZE
        return self._random[begin : begin + SIZE].hex()
