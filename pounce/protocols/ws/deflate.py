"""permessage-deflate (RFC 7692): wsproto's extension, with a bound on what a message may inflate to.

wsproto inflates whatever it gets as far as it goes: 16 KiB of a compression bomb are 16 MiB in memory. It also loses
its place when a control frame comes between two fragments of a compressed message. Both are put right here, and the
fast lane of `wire` uses the same two directions of the same object, so the contexts stay one.

Memory: a window of 12 bits and memory level 5 make a compressor of 32 KiB instead of 256, as `websockets` does.
"""

import zlib
from collections.abc import Iterable

from wsproto.extensions import PerMessageDeflate
from wsproto.frame_protocol import CloseReason, FrameDecoder, FrameProtocol, Opcode, RsvBits

WINDOW = 12  # bits; for our own messages, and for the client's where it lets us choose
LEAST_WINDOW = 9  # zlib cannot do 8 without a header
MEMORY_LEVEL = 5
TAIL = b"\x00\x00\xff\xff"
"""The end of a flushed block, which is not sent (section 7.2.1)."""

type Offer = tuple[str, list[tuple[str, str | None]]]
"""An extension that the client offers, and its parameters."""


class TooLarge(Exception):
    """A message inflates to more than it may."""


class Deflate(PerMessageDeflate):
    """The extension of one connection, both directions."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._enabled = True
        self._limit = limit
        self._inflated = 0  # bytes of this message so far

    def answer(self) -> str:
        """What the handshake says (section 7.1)."""
        words = ["permessage-deflate", f"server_max_window_bits={self.server_max_window_bits}"]
        if self.client_max_window_bits != 15:
            words.append(f"client_max_window_bits={self.client_max_window_bits}")
        if self.server_no_context_takeover:
            words.append("server_no_context_takeover")
        if self.client_no_context_takeover:
            words.append("client_no_context_takeover")
        return "; ".join(words)

    # The client's messages

    def inflate(self, data: bytes) -> bytes:
        """A whole message. Raises zlib.error and TooLarge."""
        return self._more(data) + self._last()

    def _more(self, data: bytes) -> bytes:
        if self._decompressor is None:
            self._decompressor = zlib.decompressobj(-self.client_max_window_bits)
        if self._decompressor.eof:  # section 7.2.3.5: a final block; what fills up its byte is of no meaning
            return b""
        room = self._limit - self._inflated + 1  # one byte more shows that there is too much
        result = self._decompressor.decompress(data, room)
        self._inflated += len(result)
        if self._inflated > self._limit:
            raise TooLarge
        return result

    def _last(self) -> bytes:
        result = self._more(TAIL)
        assert self._decompressor is not None
        if self.client_no_context_takeover or self._decompressor.eof:
            self._decompressor = None
        self._inflated = 0
        return result

    def frame_inbound_header(
        self, proto: FrameDecoder | FrameProtocol, opcode: Opcode, rsv: RsvBits, payload_length: int
    ) -> CloseReason | RsvBits:
        if opcode.iscontrol():  # nothing of the message around it
            self._inbound_is_compressible = False
            return CloseReason.PROTOCOL_ERROR if rsv.rsv1 else RsvBits(True, False, False)
        return super().frame_inbound_header(proto, opcode, rsv, payload_length)

    def frame_inbound_payload_data(self, proto: FrameDecoder | FrameProtocol, data: bytes) -> bytes | CloseReason:
        if not self._inbound_compressed or not self._inbound_is_compressible:
            return data
        return self._guarded(data)

    def frame_inbound_complete(self, proto: FrameDecoder | FrameProtocol, fin: bool) -> bytes | CloseReason | None:
        if not fin or not self._inbound_is_compressible:  # not the end of a message
            return None
        compressed, self._inbound_compressed = self._inbound_compressed, None
        return self._guarded(None) if compressed else None

    def _guarded(self, data: bytes | None) -> bytes | CloseReason:
        try:
            return self._last() if data is None else self._more(data)
        except zlib.error:
            return CloseReason.INVALID_FRAME_PAYLOAD_DATA
        except TooLarge:
            return CloseReason.MESSAGE_TOO_BIG

    # Ours

    def deflate(self, data: bytes) -> bytes:
        """A whole message (section 7.2.1)."""
        if self._compressor is None:
            self._compressor = zlib.compressobj(wbits=-self.server_max_window_bits, memLevel=MEMORY_LEVEL)
        result = self._compressor.compress(data) + self._compressor.flush(zlib.Z_SYNC_FLUSH)
        if self.server_no_context_takeover:
            self._compressor = None
        return result[:-4]


def negotiate(offers: Iterable[Offer], limit: int) -> Deflate | None:
    """The first offer that can be taken (section 5). One with anything unknown or impossible in it cannot."""
    for name, parameters in offers:
        if name == PerMessageDeflate.name:
            deflate = Deflate(limit)
            if _take(deflate, parameters):
                return deflate
    return None


def _take(deflate: Deflate, parameters: list[tuple[str, str | None]]) -> bool:
    given = dict(parameters)
    if len(given) < len(parameters):
        return False
    deflate.server_max_window_bits = WINDOW
    for name, value in given.items():
        if name == "server_no_context_takeover" and value is None:
            deflate.server_no_context_takeover = True
        elif name == "client_no_context_takeover" and value is None:
            deflate.client_no_context_takeover = True
        elif name == "server_max_window_bits" and value in _BITS and _BITS[value] >= LEAST_WINDOW:
            deflate.server_max_window_bits = min(_BITS[value], WINDOW)
        elif name == "client_max_window_bits" and (value is None or value in _BITS):
            bits = WINDOW if value is None else min(_BITS[value], WINDOW)
            if bits >= LEAST_WINDOW:  # else it is not told to, and what needs less inflates with more as well
                deflate.client_max_window_bits = bits
        else:
            return False
    return True


_BITS = {str(bits): bits for bits in range(8, 16)}
