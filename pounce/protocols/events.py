"""The events that every protocol gives, in the terms of RFC 9110.

Must never name a version of HTTP, but for the text of one. Owner: the thread of the connection, until a `Request` is in
a cache; from then on it is not changed.
"""

import re
from typing import Any

from pounce.protocols.fields import Field


class ProtocolError(Exception):
    """The client has sent bytes that must be rejected, with `status`. The text is the reason, for the client and the
    log. The connection can then only be closed, because it is not known where the next message begins."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class ApplicationError(RuntimeError):
    """The application has sent a message that HTTP or ASGI does not allow. Raised by `send`, so that the traceback
    shows the line of the application."""


_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")


def percent_decoded(path: bytes) -> str:
    """The text of a path (RFC 3986, section 2.1). Bytes that are not UTF-8 become U+FFFD, a `%` that begins no escape
    stays. As urllib.parse.unquote, whose import would load `ipaddress`."""
    return _ESCAPE.sub(lambda escape: bytes((int(escape[1], 16),)), path).decode(errors="replace")


class Request:
    """The head of a request (RFC 9110, section 6.2). Never changed: one object may stand for many equal requests."""

    __slots__ = ("content_length", "expects_continue", "fields", "forwarding", "keep_alive", "log_texts", "method",
                 "path", "query", "special", "text", "version")  # fmt: skip

    def __init__(
        self,
        method: str,
        path: bytes,
        query: bytes,
        version: str,
        fields: list[Field],
        keep_alive: bool,
        content_length: int | None,
        expects_continue: bool,
        forwarding: tuple[Field, ...] = (),
    ) -> None:
        self.method = method
        self.path = path
        """The path of the target, still percent-encoded."""
        self.text = percent_decoded(path) if b"%" in path else path.decode("ascii")
        """The path as text, percent-decoded as UTF-8."""
        self.query = query
        """The part of the target after the first `?`."""
        self.version = version
        """"1.0" or "1.1"."""
        self.special = method == "HEAD" or version != "1.1"
        """Does the framing of the response depend on the request?"""
        self.fields = fields
        """In the order in which they were received, names in lower case."""
        self.keep_alive = keep_alive
        """May the connection carry another request after this one (RFC 9112, section 9.3)?"""
        self.content_length = content_length
        """Length of the content in bytes, 0 when there is none; None when it is chunked."""
        self.expects_continue = expects_continue
        """Does the client wait for a 100 (Continue) before it sends the content (RFC 9110, section 10.1.1)?"""
        self.forwarding = forwarding
        """Those of the fields in which a proxy may say who its client is, and what looks like them (`forwarding`)."""
        self.log_texts: Any = None
        """What the access log has made of it, for the next equal request."""

    asks_for_upgrade = False
    """Does its Connection field announce an Upgrade field, and is there one (RFC 9110, section 7.8)?"""
    asks_for_websocket = False
    """Does that name WebSocket (RFC 6455, section 4.1)?"""


class UpgradeRequest(Request):
    """The head of a request that asks for another protocol."""

    __slots__ = ()
    asks_for_upgrade = True


class WebSocketRequest(UpgradeRequest):
    """The head of a request that asks for a WebSocket, well-formed or not."""

    __slots__ = ()
    asks_for_websocket = True
