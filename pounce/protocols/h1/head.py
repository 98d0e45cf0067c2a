"""The slow lane: reads the head of a request that the fast lane does not (RFC 9112, sections 2 to 6).

Strategy: h11 is the reference for what is legal. What it accepts must also meet the rules that RFC 9112 leaves to the
layer above a parser, and must have only one reading. Where the RFC lets a server be lenient (a lone LF, a continued
line, equal lengths, a control character in a value), this one is strict, because two servers that read one message in
two ways are how a request is smuggled. The checks of this module come first, because h11's patterns take quadratic time
for a value that ends with an illegal byte.

Must never put bytes of the client in a reason: reasons are sent back and logged. Owner: the thread of the connection;
nothing here is kept.
"""

import re

from pounce.protocols.events import ProtocolError, Request, UpgradeRequest, WebSocketRequest
from pounce.protocols.fields import FIELD_NAME, Field, is_host
from pounce.protocols.forwarding import NAMES as FORWARDING

REQUEST_LINE = re.compile(
    rb"([-!#$%&'*+.^_`|~0-9a-zA-Z]++) ([!-~]++) HTTP/([0-9]\.[0-9]|[2-9]|[1-9][0-9]++(?:\.[0-9]++)?)"
)
"""The version is looser than the grammar, so that HTTP/2 and HTTP/11.1 are answered 505 rather than 400."""

ABSOLUTE = re.compile(rb"[Hh][Tt][Tt][Pp][Ss]?://([^/?#]*)([^#]*)")

FIELD_BYTES = bytes(byte for byte in range(256) if byte == 0x09 or (byte >= 0x20 and byte != 0x7F))
"""The bytes of a field line: HTAB, SP, VCHAR and obs-text (RFC 9110, section 5.5)."""

MAX_LENGTH = 2**63 - 1
"""Bytes of content. A larger Content-Length overflows the integers of other servers on the way."""
MAX_METHOD = 64
VERSION = len(b" HTTP/1.1")


class Limits:
    """Bounds on what a client may send, from the options `limit_request_...`. Each worker has its own copy."""

    __slots__ = ("body", "fields", "head", "target")

    def __init__(self, *, head: int = 65536, fields: int = 100, target: int = 8192, body: int | None = None) -> None:
        self.head = head
        """Bytes of the request line and all fields together."""
        self.fields = fields
        """Number of field lines."""
        self.target = target
        """Bytes of the request target."""
        self.body = body
        """Bytes of content; None means no bound."""


def reject_early(part: bytes, limits: Limits, searched: int) -> None:
    """Rejects a partial head that cannot become a legal one, before its end arrives. Raises ProtocolError.

    `part` is the beginning of a head whose line has been checked. The bytes before `searched` have been checked here.
    """
    if len(part) > limits.head + 3:  # even if the end came now, it would be beyond the bound
        raise ProtocolError(431, "the request head is too large")
    if part.find(b"\n\n", searched) >= 0 or part.find(b"\n\r\n", searched) >= 0:
        raise ProtocolError(400, "a line ends without CR LF")


def check_line(head: bytes, limits: Limits, searched: int = 0) -> bool:
    """Checks a request line (section 3), or the part of it that has arrived. Is it complete? Its end is not before
    `searched`. Raises ProtocolError."""
    if not FIELD_NAME.match(head[:1]):  # a TLS handshake begins with 0x16
        raise ProtocolError(400, "this is not HTTP; a TLS client on a cleartext port?")
    end = head.find(b"\r\n", searched)
    line = head[:end] if end >= 0 else head[: limits.target + MAX_METHOD + VERSION + 3].removesuffix(b"\r")
    method = line.find(b" ")
    if method > MAX_METHOD or (method < 0 and len(line) > MAX_METHOD):
        raise ProtocolError(501, "no method is so long")
    if len(line) - (method + 1) - VERSION > limits.target:
        raise ProtocolError(414, "the request target is too long")
    if end < 0:
        if b"\n" in line:
            raise ProtocolError(400, "a line ends without CR LF")
        return False
    match = REQUEST_LINE.fullmatch(line)
    if match is None:
        raise ProtocolError(400, "a malformed request line")
    if not match[3].startswith(b"1.") or len(match[3]) != 3:
        raise ProtocolError(505, "only HTTP/1.1 and HTTP/1.0 are spoken here")
    return True


def read_head(head: bytes, limits: Limits) -> Request:
    """The request whose head this is, with the empty line at its end. Raises ProtocolError."""
    check_line(head, limits)
    lines = head[:-4].split(b"\r\n")
    if len(lines) - 1 > limits.fields:
        raise ProtocolError(431, "too many request fields")
    if head.translate(None, FIELD_BYTES) != b"\r\n" * (len(lines) + 1):
        # Section 2.2 allows a server to take a lone LF for the end of a line. This one does not, because a proxy in
        # front that does not either would see other fields.
        raise ProtocolError(400, "a line ends without CR LF, or has a control character in it")
    fields: list[Field] = []
    for line in lines[1:]:
        if line[0] in b" \t":
            raise ProtocolError(400, "a field line that continues another")  # section 5.2
        name, _, value = line.partition(b":")
        fields.append((name.lower(), value.strip(b" \t")))
    method, target, version = lines[0].split(b" ")
    request = check_head(method, target, version.removeprefix(b"HTTP/"), fields)
    _check_with_h11(head)
    if limits.body is not None and (request.content_length or 0) > limits.body:
        raise ProtocolError(413, "the content is too large")
    return request


def _check_with_h11(head: bytes) -> None:
    import h11  # 0.8 MiB, which a worker behind a proxy may never need

    conn = h11.Connection(h11.SERVER, max_incomplete_event_size=len(head))
    conn.receive_data(head)
    try:
        conn.next_event()
    except h11.RemoteProtocolError as error:
        raise ProtocolError(error.error_status_hint, str(error).partition(":")[0]) from None


def check_head(method: bytes, target: bytes, version: bytes, fields: list[Field]) -> Request:
    """The request, after the checks that go beyond syntax. Raises ProtocolError.

    `fields` are all fields of the head, with lower-case names and stripped values.
    """
    modern = version != b"1.0"
    table: dict[bytes, list[bytes]] = {}
    for name, value in fields:
        table.setdefault(name, []).append(value)
    options = _members(table.get(b"connection", ()))
    keep_alive = b"close" not in options and (modern or b"keep-alive" in options)
    content_length = _content_length(table, modern=modern)
    hosts = table.get(b"host", ())
    if modern and not hosts:
        raise ProtocolError(400, "no Host field")  # section 3.2
    if len(hosts) > 1 or (hosts and not is_host(hosts[0])):
        raise ProtocolError(400, "a Host field that is not one host")  # section 3.2
    if target[:1] != b"/" or method == b"CONNECT":
        target = _absolute_or_asterisk(method, target, fields)
    if b"#" in target:
        raise ProtocolError(400, "a fragment in the request target")  # RFC 9110 section 7.1: it is not sent
    path, _, query = target.partition(b"?")
    # RFC 9110, section 7.8: the field is ignored in HTTP/1.0, and without the connection option, as it may be meant for
    # a proxy on the way.
    kind = Request
    if modern and b"upgrade" in options and b"upgrade" in table:
        kind = WebSocketRequest if b"websocket" in _members(table[b"upgrade"]) else UpgradeRequest
    return kind(
        method.decode("ascii"),
        path,
        query,
        "1.1" if modern else "1.0",
        fields,
        keep_alive,
        content_length,
        modern and content_length != 0 and b"100-continue" in _members(table.get(b"expect", ())),
        () if FORWARDING.isdisjoint(table) else tuple([field for field in fields if field[0] in FORWARDING]),
    )


def _members(values: list[bytes] | tuple[()]) -> list[bytes]:
    """The members of a list, which may be spread over several field lines (RFC 9110, section 5.6.1)."""
    return [member.strip(b" \t") for value in values for member in value.lower().split(b",")]


def _content_length(table: dict[bytes, list[bytes]], *, modern: bool) -> int | None:
    """The length of the content (section 6.3); None if it is chunked."""
    lengths = table.get(b"content-length", ())
    codings = _members(table.get(b"transfer-encoding", ()))
    if codings:
        if not modern or lengths:
            # Section 6.1: with both, or in HTTP/1.0, a proxy on the way may have seen another end of the message.
            raise ProtocolError(400, "the end of the content is given in two ways" if modern else "chunked HTTP/1.0")
        if codings[-1] != b"chunked" or codings.count(b"chunked") > 1:
            raise ProtocolError(400, "the content is not chunked, or twice")
        if len(codings) > 1:
            raise ProtocolError(501, "no transfer coding but chunked is known here")
        return None
    if not lengths:
        return 0
    if len(lengths) > 1 or not lengths[0].isdigit() or len(lengths[0]) > 19 or int(lengths[0]) > MAX_LENGTH:
        raise ProtocolError(400, "a Content-Length that is not one number")
    return int(lengths[0])


def _absolute_or_asterisk(method: bytes, target: bytes, fields: list[Field]) -> bytes:
    """The path and query of a target that does not begin with a slash (section 3.2)."""
    if method == b"CONNECT":
        raise ProtocolError(501, "this is not a proxy")
    if target == b"*" and method == b"OPTIONS":
        return target
    absolute = ABSOLUTE.fullmatch(target)
    if absolute is None:
        raise ProtocolError(400, "a request target that is neither a path nor a URL")
    authority, rest = absolute.groups()
    if not authority or not is_host(authority):
        raise ProtocolError(400, "an absolute request target without a host")
    # Section 3.2.2: the authority of the target replaces the Host field.
    fields[:] = [(b"host", authority), *(field for field in fields if field[0] != b"host")]
    if not rest and method == b"OPTIONS":
        return b"*"  # section 3.2.4: sent so by the last proxy on the way
    return rest if rest.startswith(b"/") else b"/" + rest
