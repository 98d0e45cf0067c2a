"""The opening handshake of a server (RFC 6455, section 4.2): checks the request, and writes the response that accepts.

Must never read HTTP: the request has been read already. Owner: the worker's thread.
"""

import base64
import binascii
import hashlib
from collections.abc import Iterable

from pounce.protocols.events import ApplicationError, Request
from pounce.protocols.fields import FIELD_NAME, Field

VERSION = b"13"
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
PROTOCOL = b"sec-websocket-protocol"
SERVER_FIELDS = frozenset((b"connection", b"upgrade", b"sec-websocket-accept", b"sec-websocket-extensions", PROTOCOL,
                           b"content-length", b"transfer-encoding"))  # fmt: skip
"""Fields of the response that the application may not set."""

type Offer = tuple[str, list[tuple[str, str | None]]]
"""An extension that the client offers, and its parameters."""


class HandshakeError(Exception):
    """The handshake cannot be accepted: the status, the reason, and fields of the response that says so."""

    def __init__(self, status: int, reason: str, *fields: Field) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.fields = fields


class Handshake:
    """A client's handshake. Raises HandshakeError if it is not legal."""

    __slots__ = ("key", "offers", "subprotocols")

    def __init__(self, request: Request) -> None:
        if request.method != "GET":
            raise HandshakeError(400, "a WebSocket handshake is a GET request")
        if b"upgrade" not in _tokens(request, b"connection"):
            raise HandshakeError(400, "the Connection field does not say Upgrade")
        if _values(request, b"sec-websocket-version") != [VERSION]:
            raise HandshakeError(
                426, "WebSocket is spoken here in version 13", (b"sec-websocket-version", VERSION),
                (b"upgrade", b"websocket"), (b"connection", b"Upgrade"),
            )  # fmt: skip
        keys = _values(request, b"sec-websocket-key")
        if len(keys) != 1 or not _is_key(keys[0]):
            raise HandshakeError(400, "the Sec-WebSocket-Key field is not one key of 16 bytes")
        self.key = keys[0]
        self.subprotocols: list[str] = []
        for value in _values(request, PROTOCOL):
            for name in filter(None, map(bytes.strip, value.split(b","))):
                if not FIELD_NAME.fullmatch(name):
                    raise HandshakeError(400, "the Sec-WebSocket-Protocol field is not a list of names")
                self.subprotocols.append(name.decode("ascii"))
        self.offers = list(_offers(b",".join(_values(request, b"sec-websocket-extensions")).decode("latin-1")))

    def answer(self, fields: Iterable[Field], lines: bytes, defaults: bytes, extension: str | None) -> bytes:
        """The head of a 101. `fields` are the application's, `lines` the same as bytes, `defaults` the lines of the
        server's own fields."""
        names = {name.lower() for name, _ in fields}
        kept = [line for line in defaults.splitlines(keepends=True) if line[: line.find(b":")] not in names]
        parts = [
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: ",
            base64.b64encode(hashlib.sha1(self.key + GUID, usedforsecurity=False).digest()),
            b"\r\n",
            b"sec-websocket-extensions: %b\r\n" % extension.encode() if extension else b"",
            *kept,
            lines,
            b"\r\n",
        ]
        return b"".join(parts)

    def check_subprotocol(self, subprotocol: object, fields: Iterable[Field]) -> list[Field]:
        """The field for the subprotocol that the application has chosen, perhaps by a field of its own. Raises
        ApplicationError if the client has not offered it."""
        if subprotocol is None:
            subprotocol = next((value.decode("latin-1") for name, value in fields if name.lower() == PROTOCOL), None)
        if subprotocol is None:
            return []
        if subprotocol not in self.subprotocols:
            raise ApplicationError(f"the client has not offered the subprotocol {subprotocol!r}")
        return [(PROTOCOL, str(subprotocol).encode("ascii"))]


def _values(request: Request, name: bytes) -> list[bytes]:
    return [value for key, value in request.fields if key == name]


def _tokens(request: Request, name: bytes) -> list[bytes]:
    return [token.strip() for token in b",".join(_values(request, name)).lower().split(b",")]


def _is_key(value: bytes) -> bool:
    try:
        return len(binascii.a2b_base64(value, strict_mode=True)) == 16
    except binascii.Error:
        return False


def _offers(text: str) -> Iterable[Offer]:
    """Section 9.1. A quoted value must be a token when it is unquoted, so it contains no comma."""
    for each in filter(None, (part.strip(" \t") for part in text.split(","))):
        name, *parameters = [part.strip(" \t") for part in each.split(";")]
        yield _token(name), [_parameter(parameter) for parameter in parameters]


def _parameter(text: str) -> tuple[str, str | None]:
    name, equals, value = (part.strip(" \t") for part in text.partition("="))
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = value[1:-1]
    return _token(name), _token(value) if equals else None


def _token(text: str) -> str:
    if not FIELD_NAME.fullmatch(text.encode("latin-1")):
        raise HandshakeError(400, "the Sec-WebSocket-Extensions field is not a list of extensions")
    return text
