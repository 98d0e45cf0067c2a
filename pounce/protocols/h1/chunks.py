"""Reads content that comes in chunks (RFC 9112, section 7.1).

Strategy: as strict as the grammar. What one server on the way takes for the end of a chunk and another for a part of
its extension is how a second request is smuggled past the first of them, so every line ends with CR LF and nothing
else, a size is hexadecimal digits and nothing else, and extensions are names and values. h11 lets much of that
through and is not asked here. Extensions and trailer fields are checked and thrown away: ASGI has no place for
them.
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
"""Somebody's reading of the message depends on them (RFC 9110, section 6.5.1)."""

LARGEST = 2**63
"""Sizes from here on overflow somebody's integer."""
LONGEST_LINE = 4096
"""Bytes of a chunk's line; section 7.1.1 asks for a bound."""
MOST_EXCESS = 16384
"""Bytes by which the lines of chunks may outgrow their content. 16 bytes for each chunk and twice its content are
free, as in Go's net/http, so that the signatures of a long upload are welcome and a stream of extensions is not."""
FREE = 16

type Awaits = Literal["size", "after", "trailer"]
SIZE: Final = "size"
AFTER: Final = "after"  # the end of the line on which a chunk's content ends
TRAILER: Final = "trailer"


class ChunkedContent:
    """The content of one request. `read` until `complete`."""

    __slots__ = ("_awaits", "_excess", "_fields", "_head", "_left", "_room", "_searched", "complete")

    def __init__(self, *, body: int | None, head: int, fields: int) -> None:
        """Bounds: bytes of content (None is no bound), bytes of trailer lines, and their number."""
        self._room = body
        self._head = head
        self._fields = fields
        self._awaits: Awaits = SIZE
        self._left = 0  # bytes of this chunk still to come
        self._excess = 0
        self._searched = 0  # bytes of a line that has begun in which its end is not: it may come byte by byte
        self.complete = False

    def read(self, buffer: bytes) -> tuple[bytes, bytes]:
        """The content that is in `buffer`, and the rest of it: the beginning of a line, or, when the content is
        complete, what follows it. Raises ProtocolError."""
        parts: list[bytes] = []
        place, searched = 0, self._searched
        while not self.complete:
            if self._left:
                part = buffer[place : place + self._left]
                if not part:
                    break
                parts.append(part)
                place += len(part)
                self._left -= len(part)
                continue
            end = buffer.find(b"\r\n", place + searched)
            if end < 0:
                self._refuse_hopeless(buffer[place + searched :], len(buffer) - place)
                searched = max(0, len(buffer) - place - 1)  # CR may have come, and LF not yet
                break
            line = buffer[place:end]
            place, searched = end + 2, 0
            if self._awaits is SIZE:
                self._begin(line)
            elif self._awaits is TRAILER:
                self._take_trailer(line)
            else:
                self._end(line)
        self._searched = searched
        return parts[0] if len(parts) == 1 else b"".join(parts), buffer[place:]

    def _refuse_hopeless(self, part: bytes, size: int) -> None:
        """Does not wait for the end of a line that cannot be one any more. `part` of it is new, `size` bytes are here
        of the whole."""
        if b"\n" in part or b"\r" in part[:-1]:
            raise ProtocolError(400, "a line of the chunks ends without CR LF")
        if self._awaits is AFTER and part not in (b"", b"\r"):
            raise ProtocolError(400, "a chunk is longer than its size says")
        if self._awaits is TRAILER:
            self._check_trailers(size)
        elif size > LONGEST_LINE:
            raise ProtocolError(400, "the line of a chunk is too long")

    # What a line can be

    def _begin(self, line: bytes) -> None:
        match = CHUNK_LINE.fullmatch(line)
        if match is None or len(line) > LONGEST_LINE:
            raise ProtocolError(400, "the line of a chunk is malformed")
        size = int(match[1], 16)
        if size >= LARGEST:
            raise ProtocolError(400, "a chunk of impossible size")
        if self._room is not None:
            self._room -= size
            if self._room < 0:
                raise ProtocolError(413, "the content is too large")
        self._excess = max(0, self._excess + len(line) - FREE - 2 * size)
        if self._excess > MOST_EXCESS:
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
