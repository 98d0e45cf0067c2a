"""Clients that look at every byte and account for every request.

    sent = answered + refused + abandoned + to ask again + cut

answered     the whole right answer came
refused      a whole 503 came: honest, and the client knows that nothing was done
abandoned    the client itself went away before the answer
ask again    the server had said `Connection: close` in an answer before it on the same connection (RFC 9112, 9.6:
             a client must not take what it has pipelined behind it as received), or has ended a WebSocket with 1012
cut          anything else: no answer, half an answer, no answer in time. Each is kept, with what is known about it

A request is sent when its first byte is given to the kernel on an open connection. A connection that the server had
closed while it was idle (which it may, whenever it likes) is seen before sending, and nothing was sent. What they
ask for is in `stress.kit.actions`.
"""

import asyncio
import contextlib
import random
import socket
import struct
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field

from stress.kit.pounce_server import Address

ANSWER = 60.0  # seconds an answer may take on a busy machine before the request counts as cut
LEAST = 10  # requests in a second that whoever asks without pause is answered, on however busy a machine
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
    stood: float = 0.0
    """The longest time, in seconds, for which the clients' own program has stood still."""

    @property
    def balances(self) -> bool:
        accounted = self.answered + self.refused + self.abandoned + self.again + len(self.cuts) + len(self.wrong)
        return self.sent == accounted

    def __str__(self) -> str:
        return (
            f"sent {self.sent} = answered {self.answered} + refused {self.refused} + abandoned {self.abandoned} "
            f"+ to ask again {self.again} + cut {len(self.cuts)} + wrong {len(self.wrong)}; "
            f"{self.connected} connections, {self.not_connected} turned away"
            + (f"; the clients stood still for up to {self.stood:.1f} s" if self.stood > 1 else "")
        )


class Broken(ConnectionError):
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

    def begin(self, data: bytes) -> bytes:
        """Sends what goes at once, and gives the rest. Raises OSError."""
        try:
            return data[self.sock.send(data) :]
        except BlockingIOError:
            return data

    async def push(self, data: bytes, *, half_close: bool = False) -> None:
        """Sends as far as that goes: whoever reads will see."""
        with contextlib.suppress(OSError):
            await self.send(data)
            if half_close:
                self.sock.shutdown(socket.SHUT_WR)

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
            if status >= 200 or status == 101:
                break
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
        if (who := fields.get(b"x-worker")) is not None:
            self.worker = int(who)
        if status == 101:
            return Answer(status, fields, b"")
        if fields.get(b"transfer-encoding") == b"chunked":
            parts = []
            while size := int(await self._line(), 16):
                parts.append(await self._take(size))
                await self._take(2)
            await self._line()
            return Answer(status, fields, b"".join(parts))
        return Answer(status, fields, await self._take(int(fields[b"content-length"])))

    async def frame(self) -> tuple[int, bytes]:
        """The next frame of a WebSocket: first byte and payload."""
        first, size = await self._take(2)
        if size > 125:
            size = int.from_bytes(await self._take(2 if size == 126 else 8))
        return first, await self._take(size)

    def close(self, *, reset: bool = False) -> None:
        if reset:
            with contextlib.suppress(OSError):
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.sock.close()


@dataclass
class Asked:
    left: int
    """Requests that have not come to an end yet."""
    failed: bool = False


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
        while self.connection is None or self.connection.ended:  # also one that took long to be heard of
            self.close()
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
        tally = self.tally
        data = b"".join(data for data, _ in questions)
        sending: asyncio.Task[None] | None = None
        closes = False
        try:
            with self.asking(kind, len(questions), connection) as asked:
                # At once: nothing comes between the look whether it is still open and the first byte, be it that this
                # program stands still. What is sent and what comes back may both be larger than the kernel's buffers.
                rest = connection.begin(data)
                sending = asyncio.create_task(connection.push(rest, half_close=half_close))
                async with asyncio.timeout(ANSWER):
                    for _, expected in questions:
                        answer = await connection.answer()
                        asked.left -= 1
                        closes = answer.closes
                        if answer.status == 503:
                            tally.refused += 1
                        elif answer.status == 200 and answer.content == expected:
                            tally.answered += 1
                        else:
                            got = f"{answer.status}, {len(answer.content)} bytes {answer.content[:40]!r}"
                            tally.wrong.append(f"{kind}: {got}, not {len(expected)}")
                        if closes:
                            tally.again += asked.left
                            asked.left = 0
                            break
                    await sending
        finally:
            if sending is not None:
                sending.cancel()
            if own and (closes or half_close or asked.failed):
                self.close()

    @contextlib.contextmanager
    def asking(self, kind: str, count: int, connection: Connection) -> Iterator[Asked]:
        """Counts so many requests as sent now, and, when the connection fails within, what is left of them as cut."""
        self.tally.sent += count
        self.tally.kinds[kind] += count
        asked, sent = Asked(count), time.monotonic()
        try:
            yield asked
            self.tally.times.append(time.monotonic() - sent)
        except (OSError, ValueError, KeyError) as error:
            asked.failed = True
            why, now = f"{type(error).__name__}: {error}", time.monotonic()
            cut = Cut(kind, why, len(connection.buffer), connection.worker, connection.opened, sent, now)
            self.tally.cuts += [cut] * asked.left


type Deed = Callable[[Client], Awaitable[None]]


class Traffic:
    """So many clients that ask without pause."""

    def __init__(self, address: Address, deeds: dict[Deed, int], count: int, tally: Tally | None = None,
                 seed: int = 0) -> None:  # fmt: skip
        self.tally = tally if tally is not None else Tally()
        self.deeds = deeds
        self.clients = [Client(address, self.tally, seed * 1000 + number) for number in range(count)]
        self._tasks: list[asyncio.Task[None]] = []
        self._watch: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._run(client)) for client in self.clients]
        self._watch = asyncio.create_task(self._standing())

    async def _standing(self) -> None:
        last = time.monotonic()
        while True:
            await asyncio.sleep(0.1)
            now = time.monotonic()
            self.tally.stood, last = max(self.tally.stood, now - last), now

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
        try:
            await asyncio.gather(*self._tasks)
        finally:
            if self._watch is not None:
                self._watch.cancel()

    async def run(self, seconds: float) -> Tally:
        self.start()
        await asyncio.sleep(seconds)
        await self.stop()
        return self.tally
