"""A blocking WebSocket client that shows each frame, and the servers whose WebSockets are compared."""

import socket
import zlib
from collections.abc import Callable

from stress.kit import environments
from stress.kit.environments import Environment
from stress.kit.errors import Unmeasured
from stress.kit.servers import Server, Setup

KEY = b"\x37\xfa\x21\x3d"  # one masking key for all frames, so that a frame is made once and sent often
REQUEST = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)
DEFLATE = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"


def _uvicorn(*more: str) -> Callable[[Environment, Setup], list[str]]:
    def command(environment: Environment, setup: Setup) -> list[str]:
        return [str(environment.python), "-m", "uvicorn", setup.app, f"--port={setup.port}", "--no-access-log",
                "--log-level=warning", *more]  # fmt: skip

    return command


def _pounce(environment: Environment, setup: Setup) -> list[str]:
    return [str(environment.python), "-m", "pounce", setup.app, f"--port={setup.port}", "--no-access-log",
            "--log-level=warning"]  # fmt: skip


SERVERS = {server.name: server for server in (
    Server("pounce", "this checkout", ("pounce-asgi",), _pounce),
    Server("uvicorn-websockets", "", ("uvicorn", "websockets"), _uvicorn("--ws=websockets-sansio")),
    Server("uvicorn-wsproto", "", ("uvicorn", "wsproto"), _uvicorn("--ws=wsproto")),
)}  # fmt: skip


def find_environment(renew: bool = False) -> Environment:
    """Where the servers are installed, with uvloop and C extensions where these have wheels."""
    return environments.sockets(renew)


def frame(first: int, payload: bytes) -> bytes:
    """A masked frame with this first byte. With the compression bit the payload is compressed first."""
    if first & 0x40:
        compressor = zlib.compressobj(wbits=-12)
        payload = (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
    size = len(payload)
    if size < 126:
        head = bytes((first, 0x80 | size))
    elif size < 65536:
        head = bytes((first, 0xFE)) + size.to_bytes(2)
    else:
        head = bytes((first, 0xFF)) + size.to_bytes(8)
    return head + KEY + bytes(byte ^ KEY[index % 4] for index, byte in enumerate(payload))


class Client:
    """A WebSocket that is open."""

    def __init__(self, port: int, more: bytes = b"", window: int | None = None) -> None:
        """`more`: further fields of the handshake. `window`: bytes that the kernel receives before the client reads."""
        self.sock = socket.socket()
        if window is not None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        self.sock.settimeout(20)
        self.sock.connect(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.sendall(REQUEST + more + b"\r\n")
        self.rest = b""
        while b"\r\n\r\n" not in self.rest:
            self._more()
        head, _, self.rest = self.rest.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101 "):
            raise Unmeasured(f"answers {head[:60]!r}")
        self.inflater = zlib.decompressobj(wbits=-15)

    def _more(self) -> None:
        data = self.sock.recv(1 << 20)
        if not data:
            raise Unmeasured("closes a WebSocket")
        self.rest += data

    def read(self) -> tuple[int, bytes]:
        """First byte and payload of the next frame. Raises OSError and, at the end of the stream, Unmeasured."""
        while len(self.rest) < 10 and len(self.rest) < 2 + self.rest[1] if len(self.rest) > 1 else True:
            self._more()
        size, start = self.rest[1], 2
        if size == 126:
            size, start = int.from_bytes(self.rest[2:4]), 4
        elif size == 127:
            size, start = int.from_bytes(self.rest[2:10]), 10
        while len(self.rest) < start + size:
            self._more()
        first, payload = self.rest[0], self.rest[start : start + size]
        self.rest = self.rest[start + size :]
        return first, payload

    def inflated(self, first: int, payload: bytes) -> bytes:
        return self.inflater.decompress(payload + b"\x00\x00\xff\xff") if first & 0x40 else payload
