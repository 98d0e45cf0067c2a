"""Clients that look at every byte and account for every request.

    sent = answered + refused + abandoned + to ask again + cut

answered     the whole right answer came
refused      a whole 503 came: honest, and the client knows that nothing was done
abandoned    the client itself went away before the answer
ask again    the server had said `Connection: close` in an answer before it on the same connection (RFC 9112, 9.6:
             a client must not take what it has pipelined behind it as received)
cut          anything else: no answer, half an answer, no answer in time. Each is kept, with what is known about it

A request is sent when its first byte is given to the kernel on an open connection. A connection that the server had
closed while it was idle (which it may, whenever it likes) is seen before sending, and nothing was sent.
"""

import asyncio
import contextlib
import random
import socket
import struct
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from stress.scene import Address

ANSWER = 60.0  # seconds an answer may take on a busy machine before the request counts as cut
PATTERN = bytes(range(256)) * 256  # as in apps/busy.py
RESET = struct.pack("ii", 1, 0)  # struct linger: a reset instead of an orderly end


@dataclass
class Cut:
    """A request that got no answer."""

    kind: str
    why: str
    got: int  # bytes of an answer
    worker: int | None  # the process that has answered on this connection before
    opened: float
    sent: float
    seen: float

    def __str__(self) -> str:
        who = f"process {self.worker}" if self.worker else "nobody yet"
        return f"{self.kind} after {self.seen - self.sent:.2f} s and {self.got} bytes: {self.why} (served by {who})"


@dataclass
class Tally:
    sent: int = 0
    answered: int = 0
    refused: int = 0
    abandoned: int = 0
    again: int = 0
    connected: int = 0
    not_connected: int = 0
    """Attempts to connect that were turned away: nobody has accepted anything."""
    cuts: list[Cut] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    times: list[float] = field(default_factory=list)

    @property
    def balances(self) -> bool:
        accounted = self.answered + self.refused + self.abandoned + self.again + len(self.cuts) + len(self.wrong)
        return self.sent == accounted

    def __str__(self) -> str:
        return (
            f"sent {self.sent} = answered {self.answered} + refused {self.refused} + abandoned {self.abandoned} "
            f"+ to ask again {self.again} + cut {len(self.cuts)} + wrong {len(self.wrong)}; "
            f"{self.connected} connections, {self.not_connected} turned away"
        )


class Broken(Exception):
    """The connection has ended before the answer has."""


@dataclass
class Answer:
    status: int
    fields: dict[bytes, bytes]
    content: bytes

    @property
    def closes(self) -> bool:
        return self.fields.get(b"connection", b"").lower() == b"close"


class Connection:
    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.loop = asyncio.get_running_loop()
        self.buffer = bytearray()
        self.worker: int | None = None
        self.opened = time.monotonic()
        self.pause = 0.0  # seconds before each read
        self.read_size = 65536

    @classmethod
    async def open(cls, address: Address, *, source: str | None = None, window: int | None = None) -> "Connection":
        sock, began = socket.socket(), time.monotonic()
        try:
            sock.setblocking(False)
            if window is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if source is not None:
                sock.setsockopt(socket.IPPROTO_IP, getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24), 1)
                sock.bind((source, 0))
            await asyncio.get_running_loop().sock_connect(sock, address)
        except BaseException:
            sock.close()
            raise
        connection = cls(sock)
        connection.opened = began  # a server may have accepted it before we hear that it is open
        return connection

    @property
    def ended(self) -> bool:
        """Has the server closed it?"""
        try:
            return not self.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True

    async def send(self, data: bytes) -> None:
        await self.loop.sock_sendall(self.sock, data)

    async def more(self) -> None:
        if self.pause:
            await asyncio.sleep(self.pause)
        data = await self.loop.sock_recv(self.sock, self.read_size)
        if not data:
            raise Broken("ended by the server")
        self.buffer += data

    async def _take(self, size: int) -> bytes:
        while len(self.buffer) < size:
            await self.more()
        taken = bytes(self.buffer[:size])
        del self.buffer[:size]
        return taken

    async def _line(self, end: bytes = b"\r\n") -> bytes:
        while (at := self.buffer.find(end)) < 0:
            await self.more()
        return (await self._take(at + len(end)))[: -len(end)]

    async def answer(self) -> Answer:
        """The next answer. Raises Broken or OSError when it does not come whole."""
        while True:
            first, *lines = (await self._line(b"\r\n\r\n")).split(b"\r\n")
            status = int(first.split(b" ")[1])
            if status >= 200:
                break
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
        if (who := fields.get(b"x-worker")) is not None:
            self.worker = int(who)
        if fields.get(b"transfer-encoding") == b"chunked":
            parts = []
            while size := int(await self._line(), 16):
                parts.append(await self._take(size))
                await self._take(2)
            await self._line()
            return Answer(status, fields, b"".join(parts))
        return Answer(status, fields, await self._take(int(fields[b"content-length"])))

    def close(self, *, reset: bool = False) -> None:
        if reset:
            with contextlib.suppress(OSError):
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.sock.close()


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


class Client:
    """Asks one thing after the other, on a kept connection as long as it lasts."""

    def __init__(self, address: Address, tally: Tally, seed: int, source: str | None = None) -> None:
        self.address = address
        self.tally = tally
        self.random = random.Random(seed)
        self.source = source
        self.connection: Connection | None = None
        self.enough = False

    async def connect(self, **options: int | None) -> Connection:
        """A connection, however often it takes. A full queue or no server is no request's loss."""
        while True:
            try:
                connection = await Connection.open(self.address, source=self.source, **options)
            except OSError:
                self.tally.not_connected += 1
                if self.enough:
                    raise
                await asyncio.sleep(0.05)
                continue
            self.tally.connected += 1
            return connection

    async def kept(self) -> Connection:
        if self.connection is not None and self.connection.ended:
            self.close()
        if self.connection is None:
            self.connection = await self.connect()
        return self.connection

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    async def ask(self, kind: str, questions: Sequence[tuple[bytes, bytes]], connection: Connection | None = None,
                  *, half_close: bool = False) -> None:  # fmt: skip
        """Sends the questions together, and wants their answers in their order."""
        own = connection is None
        connection = connection or await self.kept()
        tally, left = self.tally, len(questions)
        tally.sent += left
        tally.kinds[kind] += left
        sent = time.monotonic()
        # What is sent and what comes back may both be larger than the kernel's buffers.
        sending = asyncio.create_task(  # noqa: RUF006  held until the end
            self._send(connection, b"".join(data for data, _ in questions), half_close)
        )
        closes = False
        try:
            async with asyncio.timeout(ANSWER):
                for _, expected in questions:
                    answer = await connection.answer()
                    left -= 1
                    closes = answer.closes
                    if answer.status == 503:
                        tally.refused += 1
                    elif answer.status == 200 and answer.content == expected:
                        tally.answered += 1
                    else:
                        got = f"{answer.status}, {len(answer.content)} bytes {answer.content[:40]!r}"
                        tally.wrong.append(f"{kind}: {got}, not {len(expected)}")
                    if closes:
                        tally.again += left
                        left = 0
                        break
                tally.times.append(time.monotonic() - sent)
                await sending
        except (OSError, Broken, TimeoutError, ValueError, KeyError) as error:
            why, now = f"{type(error).__name__}: {error}", time.monotonic()
            got = len(connection.buffer)
            tally.cuts += [
                Cut(kind, why, got, connection.worker, connection.opened, sent, now) for _ in range(left)
            ]  # fmt: skip
            closes = True
        finally:
            sending.cancel()
            if own and (closes or half_close):
                self.close()

    async def _send(self, connection: Connection, data: bytes, half_close: bool) -> None:
        with contextlib.suppress(OSError):  # whoever reads will see
            await connection.send(data)
            if half_close:
                connection.sock.shutdown(socket.SHUT_WR)


# What clients do

Deed = Callable[[Client], Awaitable[None]]


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
    whole = dice.choice((request("/big?1000000"), request("/echo", bytes(100_000)), request("/stream?50,0.01"),
                         request("/file"), request("/helper?x")))  # fmt: skip
    data = whole[: dice.choice((0, 1, len(whole) // 2, len(whole)))]
    if data:
        tally.sent += 1
        tally.abandoned += 1
        tally.kinds["aborter"] += 1
    try:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(0.5):
                await connection.send(data)
                if len(data) == len(whole) and dice.random() < 0.5:
                    for _ in range(dice.randint(1, 3)):
                        await connection.more()
                else:
                    await asyncio.sleep(dice.random() * 0.02)
    except Broken:
        pass
    finally:
        connection.close(reset=dice.random() < 0.6)


MIXED: dict[Deed, int] = {get: 30, post: 15, stream: 10, file: 8, pipeline: 10, helper: 5, fresh: 8, half_close: 4,
                          ticking: 2, slow_reader: 1, aborter: 8}  # fmt: skip
HARMLESS = {deed: weight for deed, weight in MIXED.items() if deed not in (aborter, slow_reader)}


class Traffic:
    """So many clients that ask without pause."""

    def __init__(self, address: Address, deeds: dict[Deed, int], count: int, tally: Tally | None = None,
                 seed: int = 0) -> None:  # fmt: skip
        self.tally = tally if tally is not None else Tally()
        self.deeds = deeds
        self.clients = [Client(address, self.tally, seed * 1000 + number) for number in range(count)]
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._run(client)) for client in self.clients]

    async def _run(self, client: Client) -> None:
        deeds, weights = list(self.deeds), list(self.deeds.values())
        try:
            while not client.enough:
                (deed,) = client.random.choices(deeds, weights)
                with contextlib.suppress(OSError):  # could not connect any more
                    await deed(client)
                await asyncio.sleep(0)
        finally:
            client.close()

    async def stop(self) -> None:
        """Lets every client come to the end of what it does. Raises what has ended one too early."""
        for client in self.clients:
            client.enough = True
        await asyncio.gather(*self._tasks)

    async def run(self, seconds: float) -> Tally:
        self.start()
        await asyncio.sleep(seconds)
        await self.stop()
        return self.tally
