"""What clients ask for, and how. A deed is done by one client, which accounts for every request in it.

A conversation on a WebSocket is one request: answered when all that was said has been said back, the Close too; to ask
again when the server has ended it with 1012, service restart.
"""

import asyncio
import contextlib
import random
import zlib
from typing import Any

from stress.kit.clients import ANSWER, Client, Connection, Deed

PATTERN = bytes(range(256)) * 256  # as in apps/busy.py
HANDSHAKE = (  # RFC 6455, section 1.3, has its key and what must come back
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
    """A request; with content a POST, in so many chunks, or whole if 0."""
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
    """A stream that takes a while."""
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
    """Says at once that no more will come; the answer must come nevertheless."""
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
    """Goes away somewhere: before, in or after its question, or in the middle of the answer."""
    dice, tally = client.random, client.tally
    connection = await client.connect()
    socket = HANDSHAKE + b"\r\n" + frame(dice, BINARY, bytes(100_000))
    whole = dice.choice((request("/big?1000000"), request("/echo", bytes(100_000)), request("/stream?50,0.01"),
                         request("/file"), request("/helper?x"), socket))  # fmt: skip
    data = whole[: dice.choice((0, 1, len(whole) // 2, len(whole)))]
    if data:
        tally.sent += 1
        tally.abandoned += 1
        tally.kinds["aborter"] += 1
    try:
        with contextlib.suppress(OSError):
            async with asyncio.timeout(0.5):
                await connection.send(data)
                if len(data) == len(whole) and dice.random() < 0.5:
                    for _ in range(dice.randint(1, 3)):
                        await connection.more()
                else:
                    await asyncio.sleep(dice.random() * 0.02)
    finally:
        connection.close(reset=dice.random() < 0.6)


def frame(dice: random.Random, first: int, payload: bytes) -> bytes:
    size, key = len(payload), dice.randbytes(4)
    short = size if size < 126 else 126 if size < 65536 else 127
    length = size.to_bytes({126: 2, 127: 8}.get(short, 0)) if short > 125 else b""
    mask = (key * (size // 4 + 1))[:size]
    masked = (int.from_bytes(payload) ^ int.from_bytes(mask)).to_bytes(size)
    return bytes((first, 0x80 | short)) + length + key + masked


def frames(dice: random.Random, message: Frame, compressor: Any) -> bytes:
    """A message, in one frame or in several."""
    first, payload = message
    if compressor is not None and payload:  # it has nothing to flush for nothing
        first |= COMPRESSED
        payload = (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
    size = len(payload) // dice.choice((1, 1, 3)) + 1
    parts = [payload[at : at + size] for at in range(0, len(payload), size)] or [b""]
    kinds = [first & ~FINAL, *[0] * (len(parts) - 1)]
    kinds[-1] |= FINAL
    return b"".join(frame(dice, kind, part) for kind, part in zip(kinds, parts, strict=True))


def message(dice: random.Random) -> Frame:
    size = dice.choice((0, 1, 125, 126, 2000, 65_535, 100_000))
    if dice.random() < 0.5:
        return BINARY, dice.randbytes(size)
    return TEXT, "".join(dice.choices("aß€🙂", k=size // 3)).encode()


async def converse(client: Client) -> None:
    """A WebSocket, on the connection on which other requests have been answered before."""
    dice, tally, connection = client.random, client.tally, await client.kept()
    client.connection = None  # no request comes after it
    said = [message(dice) for _ in range(dice.randint(1, 5))]
    offer = dice.choice((b"", DEFLATE))
    try:
        with client.asking("websocket", 1, connection) as asked:
            async with asyncio.timeout(ANSWER):
                await connection.send(HANDSHAKE + offer + b"\r\n")
                answer = await connection.answer()
                if answer.status == 503:
                    tally.refused += 1
                elif answer.status != 101 or answer.fields.get(b"sec-websocket-accept") != ACCEPTED:
                    tally.wrong.append(f"websocket: the handshake's answer is {answer}")
                else:
                    *heard, end = await _talk(connection, dice, said, b"sec-websocket-extensions" in answer.fields)
                    if heard == said and end == (CLOSE, NORMAL):
                        tally.answered += 1
                    elif heard == said[: len(heard)] and end == (CLOSE, RESTART):
                        tally.again += 1
                    else:
                        tally.wrong.append(f"websocket: {len(heard)} of {len(said)} said back, then {end}")
                asked.left = 0
    finally:
        connection.close()


async def _say(connection: Connection, parts: list[bytes], pause: float) -> None:
    for part in parts:
        await connection.push(part)
        await asyncio.sleep(pause)


async def _talk(connection: Connection, dice: random.Random, said: list[Frame], compressed: bool) -> list[Frame]:
    """Says it all, and Close when all was said back. What is heard, a Close last."""
    compressor = zlib.compressobj(wbits=-12) if compressed else None  # the window that the server asks for
    inflater, heard = zlib.decompressobj(wbits=-15), list[Frame]()
    data, pause, closed = [frames(dice, each, compressor) for each in said], dice.choice((0, 0, 0.1)), False
    # What is said and what comes back may both be larger than the kernel's buffers.
    sending = asyncio.create_task(_say(connection, data if pause else [b"".join(data)], pause))
    try:
        while True:
            first, payload = await connection.frame()
            if first & COMPRESSED:
                first, payload = first & ~COMPRESSED, inflater.decompress(payload + b"\x00\x00\xff\xff")
            if first == PING:
                if sending.done():  # else it hears from us anyway
                    await connection.push(frame(dice, PONG, payload))
                continue
            heard.append((first, payload))
            if not closed and (first == CLOSE or len(heard) == len(said)):
                closed = True
                await sending
                await connection.push(frame(dice, CLOSE, payload if first == CLOSE else NORMAL))
            if first == CLOSE or len(heard) > len(said):
                return heard
    finally:
        sending.cancel()


MIXED: dict[Deed, int] = {get: 30, post: 15, stream: 10, file: 8, pipeline: 10, helper: 5, fresh: 8, half_close: 4,
                          ticking: 2, converse: 4, slow_reader: 1, aborter: 8}  # fmt: skip
HARMLESS = {deed: weight for deed, weight in MIXED.items() if deed not in (aborter, slow_reader)}
