"""permessage-deflate (RFC 7692): wsproto's extension, with a bound on the size of a decompressed message.

wsproto decompresses without a bound: 16 KiB of a compression bomb take 16 MiB of memory. It also loses its state when a
control frame arrives between two fragments of a compressed message. Both are corrected here. The fast lane of `frames`
uses the same object, so that there is one compression context for each direction.

With a window of 12 bits and memory level 5 a compressor takes 32 KiB instead of 256. `websockets` has the same
defaults.

Must never decompress more than the bound and one byte. Owner: the worker's thread.
"""

import zlib
from collections.abc import Iterable

from wsproto.extensions import PerMessageDeflate
from wsproto.frame_protocol import CloseReason, FrameDecoder, FrameProtocol, Opcode, RsvBits

WINDOW = 12  # bits; of the server's messages, and of the client's if it lets the server choose
MIN_WINDOW = 9  # zlib does not support 8 without a header
MEMORY_LEVEL = 5
TAIL = b"\x00\x00\xff\xff"
"""The end of a flushed block. It is not sent (section 7.2.1)."""

type Offer = tuple[str, list[tuple[str, str | None]]]
"""An extension that the client offers, and its parameters."""


class TooLarge(Exception):
    """A message is larger than the bound when it is decompressed."""


class Deflate(PerMessageDeflate):
    """The extension of one connection, both directions."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._enabled = True
        self._limit = limit
        self._inflated = 0  # bytes of this message so far

    def answer(self) -> str:
        """The value of the response's field (section 7.1)."""
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
        """Decompresses a whole message. Raises zlib.error and TooLarge."""
        return self._more(data) + self._last()

    def _more(self, data: bytes) -> bytes:
        if self._decompressor is None:
            self._decompressor = zlib.decompressobj(-self.client_max_window_bits)
        if self._decompressor.eof:  # section 7.2.3.5: a final block; the bits that pad its last byte are ignored
            return b""
        room = self._limit - self._inflated + 1  # one more byte shows that the message is too large
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
        if opcode.iscontrol():  # not a part of the message around it
            self._inbound_is_compressible = False
            return CloseReason.PROTOCOL_ERROR if rsv.rsv1 else RsvBits(True, False, False)
        return super().frame_inbound_header(proto, opcode, rsv, payload_length)

    def frame_inbound_payload_data(self, proto: FrameDecoder | FrameProtocol, data: bytes) -> bytes | CloseReason:
        if not self._inbound_compressed or not self._inbound_is_compressible:
            return data
        return self._inflate_bounded(data)

    def frame_inbound_complete(self, proto: FrameDecoder | FrameProtocol, fin: bool) -> bytes | CloseReason | None:
        if not fin or not self._inbound_is_compressible:  # not the end of a message
            return None
        compressed, self._inbound_compressed = self._inbound_compressed, None
        return self._inflate_bounded(None) if compressed else None

    def _inflate_bounded(self, data: bytes | None) -> bytes | CloseReason:
        try:
            return self._last() if data is None else self._more(data)
        except zlib.error:
            return CloseReason.INVALID_FRAME_PAYLOAD_DATA
        except TooLarge:
            return CloseReason.MESSAGE_TOO_BIG

    # The server's messages

    def deflate(self, data: bytes) -> bytes:
        """Compresses a whole message (section 7.2.1)."""
        if self._compressor is None:
            self._compressor = zlib.compressobj(wbits=-self.server_max_window_bits, memLevel=MEMORY_LEVEL)
        result = self._compressor.compress(data) + self._compressor.flush(zlib.Z_SYNC_FLUSH)
        if self.server_no_context_takeover:
            self._compressor = None
        return result[:-4]


def negotiate(offers: Iterable[Offer], limit: int) -> Deflate | None:
    """Accepts the first offer that it can (section 5). An offer with an unknown or invalid parameter is declined."""
    for name, parameters in offers:
        if name == PerMessageDeflate.name:
            deflate = Deflate(limit)
            if _accept(deflate, parameters):
                return deflate
    return None


def _accept(deflate: Deflate, parameters: list[tuple[str, str | None]]) -> bool:
    given = dict(parameters)
    if len(given) < len(parameters):
        return False
    deflate.server_max_window_bits = WINDOW
    for name, value in given.items():
        if name == "server_no_context_takeover" and value is None:
            deflate.server_no_context_takeover = True
        elif name == "client_no_context_takeover" and value is None:
            deflate.client_no_context_takeover = True
        elif name == "server_max_window_bits" and value in _BITS and _BITS[value] >= MIN_WINDOW:
            deflate.server_max_window_bits = min(_BITS[value], WINDOW)
        elif name == "client_max_window_bits" and (value is None or value in _BITS):
            bits = WINDOW if value is None else min(_BITS[value], WINDOW)
            if bits >= MIN_WINDOW:  # else the client is not limited: a larger window decompresses its messages as well
                deflate.client_max_window_bits = bits
        else:
            return False
    return True


_BITS = {str(bits): bits for bits in range(8, 16)}
