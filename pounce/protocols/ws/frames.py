"""Frames and messages (RFC 6455, sections 5 to 7), without I/O.

Strategy: two lanes, as for HTTP/1. The fast lane reads the well-formed majority: messages of one frame, pings and
pongs. The head of each frame decides its lane. Every other frame (a fragment, Close, a compressed frame that has not
arrived as a whole, an illegal one) is read by wsproto, the reference for what is legal: this frame and no more.
`tests/protocols/test_ws_frames.py` drives both with the same bytes.

Must never buffer more than it has to: a frame that arrives in pieces is unmasked piece by piece, its text is checked as
it arrives, and a message that becomes too large is rejected at the head of the frame that makes it so. After a
`FrameError` only a Close may be sent.

Owner: the worker's thread.
"""

import codecs
import zlib
from typing import Any

from wsproto.frame_protocol import FrameProtocol, Opcode, ParseFailed

from pounce.protocols.ws.deflate import Deflate, TooLarge
from pounce.protocols.ws.masks import Unmask

TEXT, BINARY, CLOSE, PING, PONG = 0x81, 0x82, 0x88, 0x89, 0x8A  # with FIN
COMPRESSED = 0x40  # RSV1, RFC 7692 section 6
MASKED = 0x80
MAX_PIECES = 256
"""Pieces of a message that are kept apart before they are joined."""
COMPRESS_FROM = 64
"""Bytes. A shorter message is not compressed, as RFC 7692, section 6, allows: it would hardly become shorter."""
NO_STATUS, ABNORMAL = 1005, 1006  # section 7.4.1: these two and 1015 are never sent in a frame
INVALID, TOO_LARGE = 1007, 1009

_decoder = codecs.getincrementaldecoder("utf-8")


class FrameError(Exception):
    """The client has sent an illegal frame. Close with `code` and `reason`."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Ping:
    __slots__ = ("payload",)

    def __init__(self, payload: bytes) -> None:
        self.payload = payload


class Pong(Ping):
    __slots__ = ()


class Close:
    """The client's Close. The code is 1005 if it has none."""

    __slots__ = ("code", "reason")

    def __init__(self, code: int, reason: str) -> None:
        self.code = code
        self.reason = reason


type Event = str | bytes | Ping | Close
"""A whole message, or a control frame."""


_MORE = Pong(b"")
"""Stands for an event that needs more bytes."""


class FrameCodec:
    """The frames of one connection. `feed` it the bytes that are received, take events with `next` until it is None."""

    __slots__ = (
        "_at",
        "_buffer",
        "_compressed",
        "_decode",
        "_deflate",
        "_frame_left",
        "_in_message",
        "_key",
        "_limit",
        "_merged",
        "_parts",
        "_proto",
        "_size",
        "_unmask",
    )  # fmt: skip

    def __init__(self, limit: int, deflate: Deflate | None, unmask: Unmask) -> None:
        """`limit`: bytes of a message after decompression."""
        self._limit = limit
        self._deflate = deflate
        self._unmask = unmask
        self._buffer = b""
        self._at = 0  # index in the buffer of the next frame, or of the rest of a partial one
        self._frame_left = 0  # bytes of the partial frame that are still to come
        self._key = b""  # the key of the partial frame, rotated to fit the next byte; empty if wsproto reads it
        self._decode: codecs.IncrementalDecoder | None = None  # of the partial frame, if it is text
        self._in_message = False  # is a message that wsproto reads unfinished?
        self._compressed = False  # is that message compressed?
        self._size = 0  # bytes of that message, by the heads of its frames
        self._parts: list[Any] | None = None  # of an unfinished message: str or bytes
        self._merged = 0  # parts that have been joined, at the beginning of the list
        self._proto: FrameProtocol | None = None  # made when first needed: most connections need it for Close only

    # The client's frames

    def feed(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer[self._at :] + data
            self._at = 0
        self._buffer = data

    @property
    def pending(self) -> int:
        """Bytes that have been fed and not yet read."""
        return len(self._buffer) - self._at

    def next(self) -> Event | None:
        """The next event; None if it needs more bytes. Raises FrameError."""
        while self._buffer:
            event = self._continue_frame() if self._frame_left else self._begin()
            if event is _MORE:
                return None
            if self._at == len(self._buffer):
                self._buffer = b""
                self._at = 0
            if event is not None:
                return event
        return None

    def _begin(self) -> Event | None:
        """Reads the head of a frame (section 5.2) and chooses its lane. None if there is no event yet."""
        buffer, at = self._buffer, self._at
        size = len(buffer)
        if size - at < 2:
            return _MORE
        first, second = buffer[at], buffer[at + 1]
        length = second & 0x7F
        start = at + 6
        legal = second >= MASKED
        if length == 126:
            start += 2
            length = int.from_bytes(buffer[at + 2 : at + 4])
            legal = legal and length > 125
        elif length == 127:
            start += 8
            length = int.from_bytes(buffer[at + 2 : at + 10])
            legal = legal and 65535 < length < 1 << 63
        if size < start - 4:
            return _MORE
        end = start + length
        if legal and not self._in_message and TEXT <= first <= BINARY:
            if length > self._limit:
                raise _too_large()
            if size < start:
                return _MORE
            key = buffer[start - 4 : start]
            if end <= size:
                self._at = end
                payload = self._unmask(buffer, start, end, key)
                return bytes(payload) if first == BINARY else _text(payload)
            self._at, self._frame_left, self._key = start, length, key
            self._decode = _decoder() if first == TEXT else None
            return None
        if legal and end <= size:
            if PING <= first <= PONG and length < 126:
                self._at = end
                payload = self._unmask(buffer, start, end, buffer[start - 4 : start])
                return (Ping if first == PING else Pong)(bytes(payload))
            if self._deflate is not None and not self._in_message and first & ~COMPRESSED in (TEXT, BINARY):
                self._at = end
                payload = self._unmask(buffer, start, end, buffer[start - 4 : start])
                payload = self._inflate(self._deflate, bytes(payload))
                return payload if first == BINARY | COMPRESSED else _text(payload)
        self._key = b""
        if legal:
            self._count(first, length)
        self._frame_left = end - at  # an illegal frame without a key is shorter
        return None

    def _inflate(self, deflate: Deflate, payload: bytes) -> bytes:
        try:
            return deflate.inflate(payload)
        except zlib.error as error:
            raise FrameError(INVALID, str(error)) from None
        except TooLarge:
            raise _too_large() from None

    def _continue_frame(self) -> Event | None:
        """Reads the next bytes of a partial frame."""
        at = self._at
        end = self._at = min(at + self._frame_left, len(self._buffer))
        self._frame_left -= end - at
        if not self._key:
            return self._parse_with_wsproto(self._buffer[at:end])
        part = self._unmask(self._buffer, at, end, self._key)
        turn = (end - at) & 3
        self._key = self._key[turn:] + self._key[:turn]
        if self._decode is None:
            return self._collect(bytes(part), finished=not self._frame_left)
        try:
            text = self._decode.decode(part, not self._frame_left)
        except UnicodeDecodeError as error:
            raise _not_text(error) from None
        return self._collect(text, finished=not self._frame_left)

    def _collect(self, part: str | bytes, *, finished: bool) -> str | bytes | None:
        """Adds a part of a message. Returns the message when it is finished."""
        parts = self._parts
        if finished:
            self._parts, self._merged = None, 0
            if not parts:
                return part
            parts.append(part)
            return part[:0].join(parts)
        if parts is None:
            parts = self._parts = []
        if part:
            parts.append(part)
        if len(parts) - self._merged >= MAX_PIECES:  # an object for each byte would take fifty times its memory
            parts[self._merged :] = [part[:0].join(parts[self._merged :])]
            self._merged += 1
        return None

    # wsproto's lane

    def _count(self, first: int, length: int) -> None:
        """Checks the size of a message before its frame arrives. wsproto rejects frames that are illegal here."""
        opcode = first & 0x0F
        if opcode >= Opcode.CLOSE:
            return
        if opcode != Opcode.CONTINUATION:
            self._size = 0
            self._compressed = self._deflate is not None and bool(first & COMPRESSED)
        elif not self._in_message:
            return
        if not self._compressed:  # `Deflate` counts the bytes of a compressed message
            self._size += length
            if self._size > self._limit:
                raise _too_large()

    def _parse_with_wsproto(self, piece: bytes) -> Event | None:
        proto = self._proto
        if proto is None:
            proto = self._proto = FrameProtocol(False, [self._deflate] if self._deflate is not None else [])
        event: Event | None = None
        proto.receive_bytes(piece)
        try:
            for frame in proto.received_frames():  # at most one, as it was given no more
                payload: Any = frame.payload
                if frame.opcode is Opcode.CLOSE:
                    event = Close(int(payload[0]), payload[1])
                elif frame.opcode is Opcode.PING:
                    event = Ping(payload)
                elif frame.opcode is Opcode.PONG:
                    event = Pong(payload)
                else:
                    self._in_message = not frame.message_finished
                    event = self._collect(payload, finished=frame.message_finished)
        except ParseFailed as error:
            raise _too_large() if error.code == TOO_LARGE else FrameError(int(error.code), str(error)) from None
        return event

    # The server's frames

    def message(self, data: str | bytes) -> tuple[bytes, bytes]:
        """The head and the payload of the frame for a whole message."""
        if isinstance(data, str):
            first, payload = TEXT, data.encode()
        else:
            first, payload = BINARY, data
        if self._deflate is not None and len(payload) >= COMPRESS_FROM:
            first |= COMPRESSED
            payload = self._deflate.deflate(payload)
        size = len(payload)
        if size < 126:
            return bytes((first, size)), payload
        if size < 65536:
            return bytes((first, 126, size >> 8, size & 0xFF)), payload
        return bytes((first, 127)) + size.to_bytes(8), payload


def ping(payload: bytes) -> bytes:
    return bytes((PING, len(payload))) + payload


def pong(payload: bytes) -> bytes:
    return bytes((PONG, len(payload))) + payload


def close(code: int, reason: str = "") -> bytes:
    """A Close frame (section 5.5.1); an empty one for 1005. A reason that is too long is truncated."""
    if code == NO_STATUS:
        return bytes((CLOSE, 0))
    # Truncated between two characters: a part of one is dropped.
    text = reason.encode(errors="replace")[:123].decode(errors="ignore").encode()
    return bytes((CLOSE, 2 + len(text))) + code.to_bytes(2) + text


def may_be_sent(code: int) -> bool:
    """May an application close with this code (section 7.4)?"""
    return code in (1000, 1001, 1002, 1003, NO_STATUS) or 1007 <= code <= 1014 or 3000 <= code <= 4999


def _text(payload: bytes | memoryview) -> str:
    try:
        return str(payload, "utf-8")
    except UnicodeDecodeError as error:
        raise _not_text(error) from None


def _not_text(error: UnicodeDecodeError) -> FrameError:
    return FrameError(INVALID, f"the text is not UTF-8: {error.reason}")


def _too_large() -> FrameError:
    return FrameError(TOO_LARGE, "the message is too large")
