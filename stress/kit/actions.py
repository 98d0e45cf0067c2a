"""What clients send, and how. An action is performed by one client, which accounts for every request in it.

A WebSocket is one request: answered when all messages and the Close have been echoed, retriable when the server has
closed it with 1012 (service restart).
"""

import asyncio
import contextlib
import random
import zlib
from typing import Any

from stress.kit.clients import ANSWER_TIMEOUT, Action, Client, Connection

PATTERN = bytes(range(256)) * 256  # as in apps/busy.py
HANDSHAKE = (  # with the key and the accepted value of RFC 6455, section 1.3
    b"GET / HTTP/1.1\r\nHost: stress\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)
ACCEPTED = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
DEFLATE = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
TEXT, BINARY, CLOSE, PING, PONG = 0x81, 0x82, 0x88, 0x89, 0x8A  # first bytes of frames; each is a whole message
FINAL, COMPRESSED = 0x80, 0x40
NORMAL, RESTART = (1000).to_bytes(2), (1012).to_bytes(2)

type Frame = tuple[int, bytes]


def request(path: str, content: bytes | None = None, *, chunks: int = 0, fields: str = "") -> bytes:
    """A request as bytes: with content a POST, in `chunks` chunks, or with a length where that is 0."""
    head = f"{'GET' if content is None else 'POST'} {path} HTTP/1.1\r\nHost: stress\r\n{fields}"
    if content is None:
        return head.encode() + b"\r\n"
    if not chunks:
        return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content
    size = len(content) // chunks + 1
    parts = [content[at : at + size] for at in range(0, len(content), size)]
    body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    return head.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + body + b"0\r\n\r\n"


async def get(client: Client) -> None:
    await client.ask("get", [(request("/"), b"hello")])


async def fresh(client: Client) -> None:
    """A connection for one request."""
    client.close()
    await client.ask("fresh", [(request("/", fields="Connection: close\r\n"), b"hello")])


async def post(client: Client) -> None:
    content = client.random.randbytes(client.random.choice((0, 1, 1000, 20_000, 300_000)))
    await client.ask("post", [(request("/echo", content, chunks=client.random.choice((0, 0, 1, 7))), content)])


async def stream(client: Client) -> None:
    parts = client.random.randint(0, 200)
    await client.ask("stream", [(request(f"/stream?{parts},0"), b"".join(b"part %d;" % n for n in range(parts)))])


async def ticking(client: Client) -> None:
    """A response that is streamed over half a second."""
    await client.ask("ticking", [(request("/stream?10,0.05"), b"".join(b"part %d;" % n for n in range(10)))])


async def file(client: Client) -> None:
    await client.ask("file", [(request("/file"), bytes(range(256)) * 1024)])


async def helper(client: Client) -> None:
    word = f"{client.random.random()}"
    await client.ask("helper", [(request(f"/helper?{word}"), word.encode())])


async def pipeline(client: Client) -> None:
    numbers = [str(client.random.randrange(10**9)) for _ in range(client.random.randint(2, 24))]
    await client.ask("pipeline", [(request(f"/number?{number}"), number.encode()) for number in numbers])


async def half_close(client: Client) -> None:
    """Closes its sending side at once; the response must arrive nevertheless."""
    await client.ask("half-close", [(request("/sleep?0.01"), b"slept")], half_close=True)


async def slow_reader(client: Client) -> None:
    size = 1_500_000
    connection = await client.connect(window=16384)
    connection.pause = 0.005
    try:
        expected = PATTERN * (size // len(PATTERN)) + PATTERN[: size % len(PATTERN)]
        await client.ask("slow reader", [(request(f"/big?{size}"), expected)], connection)
    finally:
        connection.close()


async def aborter(client: Client) -> None:
    """Disconnects at a random point: before, within or after its request, or within the response."""
    rng, tally = client.random, client.tally
    connection = await client.connect()
    socket = HANDSHAKE + b"\r\n" + frame(rng, BINARY, bytes(100_000))
    whole = rng.choice((request("/big?1000000"), request("/echo", bytes(100_000)), request("/stream?50,0.01"),
                         request("/file"), request("/helper?x"), socket))  # fmt: skip
    data = whole[: rng.choice((0, 1, len(whole) // 2, len(whole)))]
    if data:
        tally.sent += 1
        tally.disconnected += 1
        tally.kinds["aborter"] += 1
    try:
        with contextlib.suppress(OSError):
            async with asyncio.timeout(0.5):
                await connection.send(data)
                if len(data) == len(whole) and rng.random() < 0.5:
                    for _ in range(rng.randint(1, 3)):
                        await connection.more()
                else:
                    await asyncio.sleep(rng.random() * 0.02)
    finally:
        connection.close(reset=rng.random() < 0.6)


def frame(rng: random.Random, first: int, payload: bytes) -> bytes:
    size, key = len(payload), rng.randbytes(4)
    short = size if size < 126 else 126 if size < 65536 else 127
    length = size.to_bytes({126: 2, 127: 8}.get(short, 0)) if short > 125 else b""
    mask = (key * (size // 4 + 1))[:size]
    masked = (int.from_bytes(payload) ^ int.from_bytes(mask)).to_bytes(size)
    return bytes((first, 0x80 | short)) + length + key + masked


def frames(rng: random.Random, message: Frame, compressor: Any) -> bytes:
    """A message, in one frame or in several."""
    first, payload = message
    if compressor is not None and payload:  # an empty message has nothing to compress
        first |= COMPRESSED
        payload = (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
    size = len(payload) // rng.choice((1, 1, 3)) + 1
    parts = [payload[at : at + size] for at in range(0, len(payload), size)] or [b""]
    kinds = [first & ~FINAL, *[0] * (len(parts) - 1)]
    kinds[-1] |= FINAL
    return b"".join(frame(rng, kind, part) for kind, part in zip(kinds, parts, strict=True))


def message(rng: random.Random) -> Frame:
    size = rng.choice((0, 1, 125, 126, 2000, 65_535, 100_000))
    if rng.random() < 0.5:
        return BINARY, rng.randbytes(size)
    return TEXT, "".join(rng.choices("aß€🙂", k=size // 3)).encode()


async def websocket(client: Client) -> None:
    """A WebSocket on the connection on which earlier requests were answered: messages and their echo."""
    rng, tally, connection = client.random, client.tally, await client.kept()
    client.connection = None  # no request comes after it
    sent = [message(rng) for _ in range(rng.randint(1, 5))]
    offer = rng.choice((b"", DEFLATE))
    try:
        with client.counting("websocket", 1, connection) as outstanding:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                await connection.send(HANDSHAKE + offer + b"\r\n")
                answer = await connection.answer()
                if answer.status == 503:
                    tally.refused += 1
                elif answer.status != 101 or answer.fields.get(b"sec-websocket-accept") != ACCEPTED:
                    tally.wrong.append(f"websocket: the handshake is answered with {answer}")
                else:
                    compressed = b"sec-websocket-extensions" in answer.fields
                    *received, end = await _exchange_messages(connection, rng, sent, compressed)
                    if received == sent and end == (CLOSE, NORMAL):
                        tally.answered += 1
                    elif received == sent[: len(received)] and end == (CLOSE, RESTART):
                        tally.retriable += 1
                    else:
                        tally.wrong.append(f"websocket: {len(received)} of {len(sent)} echoed, then {end}")
                outstanding.left = 0
    finally:
        connection.close()


async def _send_parts(connection: Connection, parts: list[bytes], pause: float) -> None:
    for part in parts:
        await connection.push(part)
        await asyncio.sleep(pause)


async def _exchange_messages(
    connection: Connection, rng: random.Random, sent: list[Frame], compressed: bool
) -> list[Frame]:
    """Sends all messages, and Close when all were echoed. Returns what was received, a Close last."""
    compressor = zlib.compressobj(wbits=-12) if compressed else None  # the window that the server asks for
    inflater, received = zlib.decompressobj(wbits=-15), list[Frame]()
    data, pause, closed = [frames(rng, each, compressor) for each in sent], rng.choice((0, 0, 0.1)), False
    # Both directions may carry more than the kernel's buffers hold, so that a task sends.
    sending = asyncio.create_task(_send_parts(connection, data if pause else [b"".join(data)], pause))
    try:
        while True:
            first, payload = await connection.frame()
            if first & COMPRESSED:
                first, payload = first & ~COMPRESSED, inflater.decompress(payload + b"\x00\x00\xff\xff")
            if first == PING:
                if sending.done():  # a message on its way counts as a sign of life too
                    await connection.push(frame(rng, PONG, payload))
                continue
            received.append((first, payload))
            if not closed and (first == CLOSE or len(received) == len(sent)):
                closed = True
                await sending
                await connection.push(frame(rng, CLOSE, payload if first == CLOSE else NORMAL))
            if first == CLOSE or len(received) > len(sent):
                return received
    finally:
        sending.cancel()


MIXED: dict[Action, int] = {get: 30, post: 15, stream: 10, file: 8, pipeline: 10, helper: 5, fresh: 8, half_close: 4,
                          ticking: 2, websocket: 4, slow_reader: 1, aborter: 8}  # fmt: skip
HARMLESS = {action: weight for action, weight in MIXED.items() if action not in (aborter, slow_reader)}
