"""The reader of content in chunks (RFC 9112, section 7.1).

Strategy: as strict as the grammar. If one server takes for the end of a chunk what another takes for a part of its
extension, a second request can be smuggled past the first server. So every line ends with CR LF and nothing else, a
size is hexadecimal digits and nothing else, and extensions are names and values. h11 is more lenient, and is not used
here. Extensions and trailer fields are checked and dropped, because ASGI has no message for them.

Must never wait for the end of a line that has become illegal, nor keep more than one line. Owner: the thread of the
connection.
"""

import re
from typing import Final, Literal

from pounce.protocols.events import ProtocolError

CHUNK_LINE = re.compile(
    rb"""([0-9A-Fa-f]{1,16}+)
    (?: [\t ]*+ ; [\t ]*+ [-!#$%&'*+.^_`|~0-9a-zA-Z]++           # chunk-ext-name
        (?: [\t ]*+ = [\t ]*+                                     # chunk-ext-val: a token or a quoted string
            (?: [-!#$%&'*+.^_`|~0-9a-zA-Z]++ | "(?: [\t !#-\[\]-~\x80-\xff] | \\[\t -~\x80-\xff] )*+" ) )?+
    )*+""",
    re.VERBOSE,
)
TRAILER_LINE = re.compile(rb"[-!#$%&'*+.^_`|~0-9a-zA-Z]++:[\t -~\x80-\xff]*+")

NEVER_A_TRAILER = frozenset((b"content-length", b"host", b"transfer-encoding"))
"""Fields that framing and routing depend on (RFC 9110, section 6.5.1)."""

MAX_CHUNK = 2**63 - 1
"""Bytes. A larger size overflows the integers of other servers on the way."""
MAX_LINE = 4096
"""Bytes of a chunk's line; section 7.1.1 asks for a bound."""
MAX_OVERHEAD = 16384
"""Bytes by which the lines of chunks may exceed what their content allows. As in Go's net/http, 16 bytes for each chunk
and twice its content are allowed, which is enough for signatures in a long upload, but not for a stream of
extensions."""
FREE_OVERHEAD = 16

type Awaits = Literal["size", "after", "trailer"]
SIZE: Final = "size"
AFTER: Final = "after"  # the end of the line on which a chunk's content ends
TRAILER: Final = "trailer"


class ChunkedContent:
    """The content of one request. `read` until `complete`."""

    __slots__ = ("_awaits", "_body_left", "_fields", "_head", "_left", "_overhead", "_searched", "complete")

    def __init__(self, *, body: int | None, head: int, fields: int) -> None:
        """Bounds: bytes of content (None means no bound), bytes of trailer lines, and their number."""
        self._body_left = body
        self._head = head
        self._fields = fields
        self._awaits: Awaits = SIZE
        self._left = 0  # bytes of this chunk still to come
        self._overhead = 0
        self._searched = 0  # bytes of a partial line that have been searched for its end: it may arrive byte by byte
        self.complete = False

    def read(self, buffer: bytes) -> tuple[bytes, bytes]:
        """The content in `buffer`, and the rest of the buffer: a partial line, or, when the content is complete, the
        bytes after it. Raises ProtocolError."""
        parts: list[bytes] = []
        at, searched = 0, self._searched
        while not self.complete:
            if self._left:
                part = buffer[at : at + self._left]
                if not part:
                    break
                parts.append(part)
                at += len(part)
                self._left -= len(part)
                continue
            end = buffer.find(b"\r\n", at + searched)
            if end < 0:
                self._reject_early(buffer[at + searched :], len(buffer) - at)
                searched = max(0, len(buffer) - at - 1)  # CR may have arrived without LF
                break
            line = buffer[at:end]
            at, searched = end + 2, 0
            if self._awaits is SIZE:
                self._begin(line)
            elif self._awaits is TRAILER:
                self._take_trailer(line)
            else:
                self._end(line)
        self._searched = searched
        return parts[0] if len(parts) == 1 else b"".join(parts), buffer[at:]

    def _reject_early(self, part: bytes, size: int) -> None:
        """Rejects a partial line that cannot become a legal one. `part` is new, `size` is the number of all bytes of
        the line so far."""
        if b"\n" in part or b"\r" in part[:-1]:
            raise ProtocolError(400, "a line of the chunks ends without CR LF")
        if self._awaits is AFTER and part not in (b"", b"\r"):
            raise ProtocolError(400, "a chunk is longer than its size says")
        if self._awaits is TRAILER:
            self._check_trailers(size)
        elif size > MAX_LINE:
            raise ProtocolError(400, "the line of a chunk is too long")

    # The three kinds of lines

    def _begin(self, line: bytes) -> None:
        match = CHUNK_LINE.fullmatch(line)
        if match is None or len(line) > MAX_LINE:
            raise ProtocolError(400, "the line of a chunk is malformed")
        size = int(match[1], 16)
        if size > MAX_CHUNK:
            raise ProtocolError(400, "a chunk of impossible size")
        if self._body_left is not None:
            self._body_left -= size
            if self._body_left < 0:
                raise ProtocolError(413, "the content is too large")
        self._overhead = max(0, self._overhead + len(line) - FREE_OVERHEAD - 2 * size)
        if self._overhead > MAX_OVERHEAD:
            raise ProtocolError(400, "the chunks are mostly extensions")
        self._left = size
        self._awaits = AFTER if size else TRAILER

    def _end(self, line: bytes) -> None:
        if line:
            raise ProtocolError(400, "a chunk is longer than its size says")
        self._awaits = SIZE

    def _take_trailer(self, line: bytes) -> None:
        if not line:
            self.complete = True
            return
        self._fields -= 1
        self._head -= len(line) + 2
        self._check_trailers(0)
        if TRAILER_LINE.fullmatch(line) is None or line[: line.index(b":")].lower() in NEVER_A_TRAILER:
            raise ProtocolError(400, "a malformed trailer field, or one that belongs into the head")

    def _check_trailers(self, more: int) -> None:
        if self._fields < 0 or self._head < more:
            raise ProtocolError(431, "the trailer fields are too large")
